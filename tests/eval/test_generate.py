import copy

import pytest
import torch
from helpers.eval_rows import REPORTS, make_row
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, pipeline

from ct_rate_pairs.eval.generate import batched, generate_reports, write_reports
from ct_rate_pairs.hub.pipeline_inputs import pipeline_inputs
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import cut_warning, generating_by
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.fixture(scope="module")
def rows():
    prompts = ["Write the report.", "Write the report of this scan, please.", "Report."]
    return [make_row(seed, *texts) for seed, texts in enumerate(zip(REPORTS, prompts, strict=True))]


@pytest.fixture(scope="module")
def model_and_collator(rows):
    """A tiny model that has learnt the three reports by heart, each by its own scan."""
    model, processor = make_tiny_qwen(REPORTS, seed=0)
    collator = PairCollator(processor)
    batch = collator(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(80):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, collator


@pytest.mark.slow
def test_a_report_learnt_by_heart_is_written_word_for_word(model_and_collator, rows):
    model, collator = model_and_collator
    assert generate_reports(model, collator, rows, progress=False) == REPORTS


def test_order_is_kept_and_padding_changes_nothing(model_and_collator, rows):
    model, collator = model_and_collator
    turned = [rows[2], rows[0], rows[1]]
    for batch_size in (1, 2, 3):
        reports = generate_reports(model, collator, iter(turned), batch_size=batch_size, progress=False)
        assert reports == [REPORTS[2], REPORTS[0], REPORTS[1]]


def test_the_reference_cannot_leak_into_the_report(model_and_collator, rows):
    model, collator = model_and_collator
    bare = [{key: row[key] for key in ("volume", "images", "slice_mm", "prompt")} for row in rows]
    assert generate_reports(model, collator, bare, progress=False) == REPORTS


def test_sampling_settings_of_the_checkpoint_are_left_out(model_and_collator, rows, monkeypatch):
    model, collator = model_and_collator
    for name, value in {"do_sample": True, "temperature": 5.0, "repetition_penalty": 5.0}.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert generate_reports(model, collator, rows, progress=False) == REPORTS


def test_a_report_ends_where_the_template_ends_a_turn_even_if_the_generation_config_does_not_say_so(
    model_and_collator, rows, monkeypatch
):
    model, collator = model_and_collator
    monkeypatch.setattr(model.generation_config, "eos_token_id", model.generation_config.pad_token_id)
    written = write_reports(model, collator, rows, progress=False)
    assert [report.text for report in written] == REPORTS and not any(report.cut for report in written)


OF_THE_CHECKPOINT = {
    "return_dict_in_generate": True,
    "stop_strings": ["a"],
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "cache_implementation": "quantized",
    "suppress_tokens": list(range(200)),
    "begin_suppress_tokens": list(range(200)),
    "bad_words_ids": [[token] for token in range(200)],
    "sequence_bias": [[[5], 100.0]],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 5,
    "watermarking_config": {"bias": 9.0},
    "num_return_sequences": 3,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 60,
    "guidance_scale": 2.0,
    "max_time": 0.0,
    "prompt_lookup_num_tokens": 3,
}


@pytest.mark.parametrize("name", OF_THE_CHECKPOINT)
def test_nothing_else_of_the_checkpoint_s_settings_acts(model_and_collator, rows, monkeypatch, name):
    model, collator = model_and_collator
    own = GenerationConfig.from_dict(model.generation_config.to_dict())
    setattr(own, name, OF_THE_CHECKPOINT[name])
    monkeypatch.setattr(model, "generation_config", own)
    assert generate_reports(model, collator, rows[:1], max_new_tokens=60, progress=False) == REPORTS[:1]
    assert model.generation_config is own  # as it was, also after an error
    with pytest.raises(ZeroDivisionError), generating_by(GenerationConfig(), model):
        raise ZeroDivisionError
    assert model.generation_config is own


def test_nothing_of_the_checkpoint_s_settings_acts_below_an_adapter_either(model_and_collator, rows):
    model, collator = copy.deepcopy(model_and_collator[0]), model_and_collator[1]
    for task in (None, "CAUSAL_LM"):  # with a task, PEFT has a generation config of its own
        adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=["q_proj"], task_type=task))
        own = adapted.get_base_model().generation_config
        own.suppress_tokens, own.return_dict_in_generate = list(range(200)), True
        assert generate_reports(adapted, collator, rows[:1], progress=False) == REPORTS[:1]
        assert adapted.get_base_model().generation_config is own


@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("token", ["x", -5, 10**9, True, 1.0, [[1]]])
def test_tokens_that_are_none_are_refused_before_a_report_is_written(
    model_and_collator, rows, monkeypatch, name, token
):
    model, collator = model_and_collator
    monkeypatch.setattr(model.generation_config, name, token)
    with pytest.raises(ValueError, match=f"{name} in the generation_config.json of the model is .*none of its"):
        generate_reports(model, collator, rows[:1], max_new_tokens=2, progress=False)


def test_a_text_without_end_tokens_is_cut(model_and_collator, rows, monkeypatch):
    model, collator = model_and_collator
    for none in (None, []):
        monkeypatch.setattr(model.generation_config, "eos_token_id", none)
        assert write_reports(model, collator, rows[:1], max_new_tokens=3, progress=False)[0].cut


@pytest.mark.parametrize("training", [True, False])
def test_generation_runs_in_evaluation_mode_and_restores_the_mode(model_and_collator, rows, training):
    model, collator = model_and_collator
    model.train(training)
    modes = []
    hook = model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    generate_reports(model, collator, rows[:1], max_new_tokens=2, progress=False)
    hook.remove()
    assert modes and not any(modes)
    assert model.training is training


def test_max_new_tokens_bounds_the_report(model_and_collator, rows):
    model, collator = model_and_collator
    (report,) = generate_reports(model, collator, rows[:1], max_new_tokens=3, progress=False)
    assert REPORTS[0].startswith(report) and report != REPORTS[0]


def test_a_report_is_cut_if_it_meets_the_limit_before_its_end_token(model_and_collator, rows, caplog):
    model, collator = model_and_collator
    tokenizer = collator.processor.tokenizer
    lengths = [len(tokenizer(text).input_ids) + 1 for text in REPORTS]  # with the end token
    assert len(set(lengths)) == 3
    for limit in (min(lengths) - 1, *lengths, max(lengths) + 5):
        written = write_reports(model, collator, rows, max_new_tokens=limit, progress=False)
        assert [report.cut for report in written] == [length > limit for length in lengths]
    generate_reports(model, collator, rows, max_new_tokens=sorted(lengths)[1], progress=False)
    assert "1 of 3 reports (33.3%) met their limit of" in caplog.text and "--max_new_tokens" in caplog.text
    caplog.clear()
    generate_reports(model, collator, rows, max_new_tokens=max(lengths), progress=False)
    assert not caplog.text


def test_a_share_of_one_percent_is_not_warned_of():
    assert cut_warning(1, 100) == cut_warning(0, 0) == ""
    assert cut_warning(2, 100, 9, "answers").startswith("2 of 100 answers (2.0%) met their limit of 9 tokens")


def test_a_pipeline_s_text_that_is_cut_is_warned_of(model_and_collator, rows, caplog):
    model, collator = model_and_collator
    pipe = pipeline("image-text-to-text", model=model, processor=collator.processor)
    whole = pipe(**pipeline_inputs(rows[0], collator.processor, 60))[0]["generated_text"]
    assert whole.strip() == REPORTS[0] and "met their limit" not in caplog.text
    inputs = pipeline_inputs(rows[0], collator.processor, 3)
    for times in (1, 2):  # the same inputs may be used again
        pipe(**inputs)
        assert caplog.text.count("1 of 1 reports (100.0%) met their limit of 3 tokens") == times


def test_the_pipeline_is_not_given_uneven_slices_that_it_would_tell_as_even(model_and_collator, rows):
    uneven = rows[0] | {"slice_mm": [depth + 25.0 * (i % 2) for i, depth in enumerate(rows[0]["slice_mm"])]}
    with pytest.raises(ValueError, match="slices of this row are uneven.*generate_reports"):
        pipeline_inputs(uneven, model_and_collator[1].processor)


def test_no_row_is_read_before_its_batch():
    read = []
    rows = (read.append(index) or {"row": index} for index in range(5))
    batches = batched(rows, 2)
    assert [row["row"] for row in next(batches)] == [0, 1] and read == [0, 1]
    assert [len(batch) for batch in batches] == [2, 1]
