"""Report samples: what is written, that training does not notice, and that their score chooses the checkpoint."""

import pytest
import torch
from helpers.pair_trainer import ROWS, assert_same, logged, make_dataset, make_trainer, weights_of
from transformers import Qwen2_5_VLForConditionalGeneration

from ct_rate_pairs.trainer.callbacks import WriteReportSamples


SCANS = make_dataset([row | {"labels": [index % 2] * 18} for index, row in enumerate(ROWS)])


def make_dropout_trainer(tmp_path, **changes):
    trainer = make_trainer(tmp_path, beta=0.3, max_negative_loss=100.0, eval_strategy="steps", eval_steps=1, **changes)
    for layer in trainer.model.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.2  # makes the losses depend on the random state
    return trainer


def generate_alone(model, collator, row, max_new_tokens):
    prompt = collator.prompts([row])
    tokens = model.eval().generate(**prompt, max_new_tokens=max_new_tokens, do_sample=False)
    answer = tokens[0, prompt["input_ids"].shape[1] :]
    return collator.processor.tokenizer.decode(answer, skip_special_tokens=True).strip()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.slow
def test_training_does_not_notice_the_samples(tmp_path, checkpointing):
    plain = make_dropout_trainer(tmp_path, gradient_checkpointing=checkpointing)
    plain.train()
    sampled = make_dropout_trainer(tmp_path, gradient_checkpointing=checkpointing)
    sampled.add_callback(WriteReportSamples(sampled, SCANS, max_new_tokens=4, score=lambda reports, labels: {"n": 1}))
    use_cache = sampled.model.config.use_cache
    sampled.train()
    assert len(list((tmp_path / "samples").iterdir())) == 4
    for key in ("loss", "eval_loss", "grad_norm"):
        assert logged(sampled, key) == logged(plain, key)
    assert_same(weights_of(sampled), weights_of(plain), rtol=0, atol=0)
    assert sampled.model.config.use_cache == use_cache


@pytest.mark.slow
def test_samples_hold_volume_reference_and_greedy_report_and_tell_that_it_is_cut(tmp_path, caplog):
    trainer = make_trainer(tmp_path, beta=0.0, max_steps=8, per_device_train_batch_size=8)
    trainer.train()
    trainer.add_callback(WriteReportSamples(trainer, SCANS, num_samples=2, max_new_tokens=6))
    trainer.model.train()
    metrics = trainer.evaluate()
    assert metrics["eval_cut_share"] == 1 == logged(trainer, "eval_cut_share")[-1]
    assert "2 of 2 reports (100.0%) met their limit of 6 tokens" in caplog.text
    expected = [generate_alone(trainer.model, trainer.data_collator, row, max_new_tokens=6) for row in ROWS[:2]]
    assert all(expected)
    samples = [
        f"## {row['volume']}\n\n### Reference\n\n{row['completion'][0]['content']}\n\n"
        f"### Generated (cut at 6 tokens)\n\n{report}\n"
        for row, report in zip(ROWS, expected, strict=False)
    ]
    assert (tmp_path / "samples" / "step-000008.md").read_text() == "\n".join(samples)


def test_a_reference_of_parts_is_written_as_its_text(tmp_path):
    content = [{"type": "text", "text": "A nodule."}, {"type": "text", "text": " No effusion."}]
    completion = [{"role": "assistant", "content": content}]
    trainer = make_trainer(tmp_path)
    of_parts = make_dataset([ROWS[0] | {"labels": [0] * 18, "completion": completion}])
    trainer.add_callback(WriteReportSamples(trainer, of_parts, num_samples=1, max_new_tokens=3))
    trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, {})
    assert "### Reference\n\nA nodule. No effusion.\n" in (tmp_path / "samples" / "step-000000.md").read_text()


def test_generation_keeps_its_cache_under_gradient_checkpointing(tmp_path):
    trainer = make_trainer(tmp_path, gradient_checkpointing=True)
    trainer.model.train()
    trainer.model.config.use_cache = False
    trainer.add_callback(WriteReportSamples(trainer, SCANS, num_samples=1, max_new_tokens=3))
    lengths = []
    layer = trainer.model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, {})
    assert lengths[0] > 1 and lengths[1:] == [1, 1]
    assert trainer.model.training


def test_score_sees_the_reports_and_labels_it_was_promised(tmp_path):
    seen = []

    def score(reports, labels):
        seen.append((reports, labels))
        return {"coverage": 0.25}

    trainer = make_trainer(tmp_path)
    trainer.add_callback(
        WriteReportSamples(trainer, SCANS, num_samples=1, max_new_tokens=2, score=score, num_scored=5)
    )
    metrics = trainer.evaluate()
    ((reports, labels),) = seen
    assert len(reports) == 5 and all(isinstance(report, str) for report in reports)
    assert labels == [[index % 2] * 18 for index in range(5)]
    assert metrics["eval_coverage"] == 0.25
    assert logged(trainer, "eval_coverage") == [0.25]
    assert (tmp_path / "samples" / "step-000000.md").read_text().count("### Generated") == 1


@pytest.mark.slow
def test_best_checkpoint_is_that_of_the_best_score_and_not_loss(tmp_path):
    coverages = iter([0.9, 0.1])
    trainer = make_trainer(
        tmp_path,
        beta=0.0,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_coverage",
        greater_is_better=True,
    )
    score = lambda reports, labels: {"coverage": next(coverages)}  # noqa: E731
    trainer.add_callback(WriteReportSamples(trainer, SCANS, max_new_tokens=2, score=score, num_scored=2))
    trainer.train()
    first_loss, last_loss = logged(trainer, "eval_loss")
    assert last_loss < first_loss
    assert logged(trainer, "eval_coverage") == [0.9, 0.1]
    assert trainer.state.best_metric == 0.9
    for step, is_best in ((2, True), (4, False)):
        saved = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / f"checkpoint-{step}").state_dict()
        same = [torch.equal(saved[name], weight) for name, weight in weights_of(trainer).items()]
        assert all(same) if is_best else not all(same)
