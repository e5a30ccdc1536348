"""What a chat template adds between a prompt and its answer is never learnt, measured or written into a report.

The templates are those that the models ship with, from TRL (Apache-2.0, `trl/chat_templates`).
"""

import copy
import json
import math

import pytest
import torch
from helpers.eval_rows import REPORTS, make_row
from helpers.tiny_models import chat_template, make_qwen3_processor, make_tiny_qwen3_5
from transformers import AddedToken, AutoProcessor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from ct_rate_pairs.eval.looking.likelihood import option_losses, report_tokens, token_log_probs, tokens_of
from ct_rate_pairs.hub.pipeline_inputs import pipeline_inputs
from ct_rate_pairs.hub.reporting.confidence import stating_logits
from ct_rate_pairs.hub.reporting.evidence import slice_evidence
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer import PairCollator, generate_batch
from ct_rate_pairs.trainer.chat_template import THOUGHT_MARKS, set_chat_template_kwargs, without_thought


THINKING = ("qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8")
ROWS = [make_row(seed, report) for seed, report in enumerate(REPORTS)]
TEXTS = [*REPORTS, "Write the report.", "<think>\n\n</think>\n\n"]


def processor_with(template: str):
    processor = make_qwen3_processor(TEXTS, "qwen3_vl")
    processor.chat_template = chat_template(template) if template in THINKING else template
    return processor


def labelled(batch, tokenizer) -> list[str]:
    return [tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]]


def prompt_of(collator, row) -> str:
    return collator.processor.tokenizer.decode(collator.prompts([row])["input_ids"][0])


@pytest.mark.parametrize("template", THINKING)
def test_a_thinking_model_learns_the_report_alone_from_the_prompt_that_it_later_gets(template):
    collator = PairCollator(processor_with(template))
    batch = collator(ROWS)
    assert labelled(batch, collator.processor.tokenizer) == [f"{report}<|im_end|>" for report in REPORTS]
    for row, ids, labels in zip(ROWS, batch["input_ids"], batch["labels"], strict=True):
        (prompt,) = collator.prompts([row])["input_ids"]
        begins = int((labels != -100).nonzero()[0])
        assert torch.equal(ids[:begins], prompt)
    assert prompt_of(collator, ROWS[0]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "Reasoning effort" not in prompt_of(collator, ROWS[0])


# Of a model that always thinks, and one whose template ends the thought in the answer alone (as GLM's does).
ALWAYS = chat_template("qwen3_5_think").replace("enable_thinking", "no_such_option")
BETWEEN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}<think></think>\n{% endif %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think></think>{% endif %}"
)


@pytest.mark.parametrize(("template", "end"), [(ALWAYS, "<think>\n\n</think>\n\n"), (BETWEEN, "<think></think>\n")])
def test_what_a_template_adds_before_an_answer_belongs_to_the_prompt(template, end):
    collator = PairCollator(processor_with(template))
    assert collator.chat_template_kwargs == {}
    assert labelled(collator(ROWS), collator.processor.tokenizer) == [f"{report}<|im_end|>" for report in REPORTS]
    assert prompt_of(collator, ROWS[0]).endswith(f"assistant\n{end}")


@pytest.mark.parametrize(
    "after", ["</response><|im_end|>\n", "\n```\n<|im_end|>\n<|endoftext|>", "<|im_end|>\n</turn>"]
)
def test_what_a_template_adds_after_an_answer_is_not_learnt_but_for_the_end_of_the_turn(after):
    collator = PairCollator(processor_with(BETWEEN.replace("<|im_end|>\n", after)))
    assert labelled(collator(ROWS), collator.processor.tokenizer) == [f"{report}<|im_end|>" for report in REPORTS]


def spaced(before_prompt_ends: str, before_answer: str) -> str:
    """A template with some white space at the end of a prompt, and other white space before an answer."""
    return (
        "{% for message in messages %}<|im_start|>{{ message.role }}"
        f"{{{{ {json.dumps(before_answer)} if message.role == 'assistant' else ' ' }}}}"
        "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
        "<|vision_start|><|video_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>{% endfor %}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant{{{{ {json.dumps(before_prompt_ends)} }}}}{{% endif %}}"
    )


@pytest.mark.parametrize(
    ("ends", "before", "scored"),
    [
        ("\n", " \n", ""),  # as of LLaVA-OneVision
        ("\n", " ", ""),
        ("\n", "", ""),
        (" ", "", ""),
        (" ", "\n\n", ""),
        (":\n", ": \n", ""),
        ("", " ", " "),  # as of LLaVA 1.5: a tokenizer joins the blank with the word after it
        ("\n", "\n", ""),
        ("\n", "\n\n", ""),  # the second line end is added to the prompt
    ],
)
def test_an_answer_is_scored_behind_the_white_space_that_generation_sees(ends, before, scored):
    collator = PairCollator(processor_with(spaced(ends, before)))
    batch = collator(ROWS)
    assert labelled(batch, collator.processor.tokenizer) == [f"{scored}{report}<|im_end|>" for report in REPORTS]
    for row, ids, labels in zip(ROWS, batch["input_ids"], batch["labels"], strict=True):
        (prompt,) = collator.prompts([row])["input_ids"]
        begins = int((labels != -100).nonzero()[0])
        assert torch.equal(ids[:begins], prompt)
    (opened,) = collator.prompts(ROWS[:1], ["No nodule."])["input_ids"]
    assert collator.processor.tokenizer.decode(opened) == f"{prompt_of(collator, ROWS[0])}{scored}No nodule."


@pytest.mark.parametrize(
    ("ends", "before"),
    [
        ("\n", " \n<think></think>"),
        ("\n<think>\n", " \n"),
        ("\n", ": \n"),
        ("\n<think>\n", "\n<think> \n</think>\n"),
    ],
)
def test_more_than_other_white_space_before_an_answer_is_refused(ends, before):
    with pytest.raises(ValueError, match="cannot be told from its prompt"):
        PairCollator(processor_with(spaced(ends, before)))(ROWS)


def test_blank_lines_around_a_report_are_no_part_of_it():
    row = ROWS[0] | {"completion": [{"role": "assistant", "content": f"\n\n{REPORTS[0]}\n"}]}
    for template in (*THINKING, chat_template("qwen3_vl")):
        collator = PairCollator(processor_with(template))
        assert labelled(collator([row]), collator.processor.tokenizer) == [f"{REPORTS[0]}<|im_end|>"]


@pytest.mark.parametrize("template", [*THINKING, ALWAYS], ids=[*THINKING, "always"])
def test_trl_s_own_collator_learns_the_same_from_the_processor_and_from_the_column(template, tmp_path):
    processor = processor_with(template)
    rows = [{name: copy.deepcopy(row[name]) for name in ("images", "prompt", "completion")} for row in ROWS]
    known = "enable_thinking" in processor.chat_template
    with_column = [copy.deepcopy(row) | {"chat_template_kwargs": {"enable_thinking": False}} for row in rows]
    by_column = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(with_column)
    PairCollator(processor).processor.save_pretrained(tmp_path)
    saved = AutoProcessor.from_pretrained(tmp_path)
    by_processor = DataCollatorForVisionLanguageModeling(saved, completion_only_loss=True)(rows)
    for batch in (by_column, by_processor) if known else (by_processor,):
        assert [text.rstrip() for text in labelled(batch, processor.tokenizer)] == [f"{r}<|im_end|>" for r in REPORTS]
    assert torch.equal(by_processor["input_ids"], by_column["input_ids"])


@pytest.mark.parametrize("template", ["qwen3_8", ALWAYS, BETWEEN], ids=["3.8", "always", "between"])
def test_the_prompt_of_a_pipeline_is_that_of_the_collator(template):
    processor = processor_with(template)
    told = pipeline_inputs(ROWS[0], processor)
    rendered = processor.apply_chat_template(
        told["text"], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs=told["processor_kwargs"],
    )  # fmt: skip
    assert torch.equal(rendered["input_ids"], PairCollator(processor).prompts([ROWS[0]])["input_ids"])


def test_arguments_are_kept_with_the_processor_and_may_be_changed_back(tmp_path):
    processor = processor_with("qwen3_8")
    own = processor.chat_template
    collator = PairCollator(processor, chat_template_kwargs={"enable_thinking": True, "reasoning_effort": "low"})
    assert "Keep your thinking brief" in prompt_of(collator, ROWS[0])
    processor.save_pretrained(tmp_path)
    loaded = PairCollator(AutoProcessor.from_pretrained(tmp_path))  # does not turn thinking off again
    assert loaded.chat_template_kwargs == {"enable_thinking": True, "reasoning_effort": "low"}
    assert prompt_of(loaded, ROWS[0]) == prompt_of(collator, ROWS[0])
    turn = [{"role": "user", "content": [{"type": "text", "text": "Q"}]}]
    PairCollator(processor, chat_template_kwargs={})
    plain = processor.apply_chat_template(turn, add_generation_prompt=True)
    assert plain == processor.apply_chat_template(turn, chat_template=own, add_generation_prompt=True)
    assert plain.endswith("<think>\n")


@pytest.mark.parametrize("template", [ALWAYS, BETWEEN], ids=["always", "between"])
def test_what_is_added_to_prompts_is_added_once_and_taken_back(template):
    processor = processor_with(template)
    prompts = {prompt_of(PairCollator(processor), ROWS[0]) for _ in range(3)}
    assert len(prompts) == 1
    assert PairCollator(processor, chat_template_kwargs={}).chat_template_kwargs == {}
    assert processor.chat_template == template.removesuffix("\n")
    with pytest.raises(ValueError, match="cannot be told from its prompt"):
        PairCollator(processor, chat_template_kwargs={})(ROWS)


def test_a_template_without_the_argument_stays_as_it_is_and_an_unknown_argument_is_refused():
    processor = processor_with(chat_template("qwen3_vl"))
    PairCollator(processor)
    assert processor.chat_template == chat_template("qwen3_vl")
    with pytest.raises(ValueError, match="does not use 'enable_thinking'"):
        PairCollator(processor, chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(ValueError, match="does not use 'enable_thinkin'.*or use enable_thinking"):
        set_chat_template_kwargs(processor_with("qwen3_6"), {"enable_thinkin": False})


def test_the_column_of_a_row_replaces_the_default():
    collator = PairCollator(processor_with("qwen3_5_think"))
    thinking = ROWS[0] | {"chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": None}}
    assert prompt_of(collator, thinking).endswith("<think>\n")
    assert prompt_of(collator, ROWS[0]).endswith("</think>\n\n")


def test_thoughts_cannot_be_learnt_from_reports_that_hold_none():
    collator = PairCollator(processor_with("qwen3_5_think"), chat_template_kwargs={"enable_thinking": True})
    with pytest.raises(ValueError, match=r"cannot be told from its prompt.*turn thinking off"):
        collator(ROWS)


@pytest.mark.parametrize(
    ("written", "begun", "answer"),
    [
        ("A nodule.", False, "A nodule."),
        (" A nodule.\n", False, "A nodule."),
        ("It is round.\n</think>\n\nA nodule.", True, "A nodule."),
        ("<think>It is round.</think>A nodule.", False, "A nodule."),
        ("It is round, and", True, None),
        ("<think>\nIt is round, and", False, None),
        ("<unused94>thought\nIt is round.<unused95>A nodule.", False, "A nodule."),
        ("<unused94>thought\nIt is round, and", False, None),
        ("[THINK]It is round.[/THINK]A nodule.", False, "A nodule."),
        ("It is round.[/THINK]\nA nodule.", True, "A nodule."),
        ("◁think▷It is round.◁/think▷A nodule.", False, "A nodule."),
        ("◁think▷It is round, and", False, None),
        ("<thinking>It is round.</thinking>A nodule.", False, "A nodule."),
        ("<Thought>It is round.</Thought>A nodule.", False, "A nodule."),
        ("<|channel>thought\nIt is round.<channel|>A nodule.", False, "A nodule."),
        ("<|START_THINKING|>It is round.<|END_THINKING|>A nodule.", False, "A nodule."),
        ("Let me see. <think>It is round.</think>A nodule. <think>And", False, None),
        ("<reason>It is round.</reason>A nodule.", False, "A nodule."),
        ("<Rationale>It is round.</Rationale>\n<answer>A nodule.</answer>", False, "A nodule."),
        ("It is <answer>round</answer>.</analysis>A nodule.", True, "A nodule."),
        ("<scratchpad>It is round, and", False, None),
        ("<|channel|>analysis<|message|>Is it?<|end|><|channel|>final<|message|>No.<|return|>", False, "No."),
        ("<|channel|>final<|message|>A nodule.", False, "A nodule."),
        ("<|channel|>analysis<|message|>It is round, and", False, None),
        ("<answer>A nodule.</answer>", False, "A nodule."),
        ("<answer>\nA nodule.", False, "A nodule."),
        ("A nodule.</response>", False, "A nodule."),
        ("It is round: <Final_Answer>A nodule.</Final_Answer> I hope this helps.", False, "A nodule."),
        ("<text>A nodule.</text>", False, "A nodule."),
        ("```text\nA nodule.\n```", False, "A nodule."),
        ("<|begin_of_box|>A nodule.<|end_of_box|>", False, "A nodule."),
        ("A nodule.<|im_end|>\n", False, "A nodule."),
        ("<answer></answer>", False, ""),
        ("<a>A nodule.</a><b>No.</b>", False, "<a>A nodule.</a><b>No.</b>"),
        ("Size < 5 mm [see above]; SUV > 2.", False, "Size < 5 mm [see above]; SUV > 2."),
    ],
)
def test_a_thought_is_no_report(written, begun, answer):
    assert without_thought(written, begun) == answer


@pytest.mark.parametrize(("written", "report"), [("A.</think>\n\nNo nodule.", "No nodule."), ("A. No nodule.", "")])
def test_a_model_that_is_to_think_gives_its_answer_alone(monkeypatch, caplog, written, report):
    model, processor = make_tiny_qwen3_5(TEXTS)
    collator = PairCollator(processor, chat_template_kwargs={"enable_thinking": True})
    tokens = processor.tokenizer(written, return_tensors="pt")["input_ids"]
    monkeypatch.setattr(model, "generate", lambda input_ids, **_: torch.cat([input_ids, tokens], dim=1))
    assert generate_batch(model, collator, ROWS[:1], max_new_tokens=9) == [report]
    assert ("train_0_a_1.nii.gz: the model was still thinking after 9 tokens" in caplog.text) == (not report)


@pytest.mark.parametrize("marks", THOUGHT_MARKS)
@pytest.mark.parametrize("special", [True, False])
def test_marks_that_are_special_tokens_still_end_the_thought(monkeypatch, marks, special):
    model, processor = make_tiny_qwen3_5(TEXTS)
    processor.tokenizer.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    collator = PairCollator(processor, chat_template_kwargs={})
    for written, report in (
        (f"{marks[0]}A nodule.{marks[1]}No nodule.<|im_end|>", "No nodule."),
        (marks[0] + "A", ""),
    ):
        tokens = processor.tokenizer(written, return_tensors="pt")["input_ids"]
        monkeypatch.setattr(
            model, "generate", lambda input_ids, tokens=tokens, **_: torch.cat([input_ids, tokens], dim=1)
        )
        assert generate_batch(model, collator, ROWS[:1], max_new_tokens=9) == [report]


def test_likelihood_evidence_and_confidence_measure_the_report_from_its_first_token():
    model, processor = make_tiny_qwen3_5([*TEXTS, *LABELS])
    model.eval()
    collator = PairCollator(processor)
    row, report = ROWS[0], REPORTS[0]
    tokens, _ = tokens_of(collator, report)
    (scored,) = report_tokens(collator, [row])
    assert scored.tolist() == [*tokens, processor.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    log_probs = token_log_probs(model, collator, [row])
    with torch.no_grad():
        by_cache = option_losses(model, collator.prompts([row]), [torch.tensor(tokens)])
    assert log_probs.shape == (1, len(scored))
    assert by_cache.item() == pytest.approx(-log_probs[0, : len(tokens)].sum().item(), rel=1e-4)
    stated = LABELS.index("Cardiomegaly")
    assert list(slice_evidence(model, collator, row, report)) == [stated]
    begins = processor.tokenizer.decode(tokens[:1])
    openings = {label: [begins] if label == "Cardiomegaly" else [] for label in LABELS}
    logits = stating_logits(model, collator, row, report, openings)
    assert 1 / (1 + math.exp(-logits[stated])) == pytest.approx(log_probs[0, 0].exp().item(), rel=1e-3)


def test_the_command_line_takes_json():
    from ct_rate_pairs.recipes.arguments import ChatArguments

    assert ChatArguments(json.dumps({"enable_thinking": True})).template_kwargs() == {"enable_thinking": True}
    assert ChatArguments().template_kwargs() is None and ChatArguments("{}").template_kwargs() == {}
    for wrong in ("enable_thinking", "[1]", "true"):
        with pytest.raises(ValueError, match="chat_template_kwargs: .*JSON"):
            ChatArguments(wrong).template_kwargs()
