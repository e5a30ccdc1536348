"""The probabilities of the 18 labels are those of the decisions that a findings line is made of."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from helpers.tiny_reader import COMBINATIONS, make_row
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.looking.likelihood import logits_after, on_device, option_losses, read_prompt, tokens_of
from ct_rate_pairs.eval.looking.line_probabilities import (
    chain_logits,
    choice_log_probs,
    line_logits,
    read_findings_lines,
)
from ct_rate_pairs.reports.findings_line import decisions, form_of, open_text, sides_of, write_line
from ct_rate_pairs.reports.labels import LABELS, NAMES
from ct_rate_pairs.reports.places import LATERAL, SIDES
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


NUMBER = 4  # labels of the small lists
TEXTS = [write_line(labels, kind, language) for labels in ([0] * 18, [1] * 18, [0, 1] * 9)
         for kind in ("names", "yes_no") for language in ("en", "zh")]  # fmt: skip
SIDED = [write_line([1] * 18, "sides", language, dict.fromkeys(LATERAL, side))
         for side in SIDES for language in ("en", "zh")]  # fmt: skip
ROWS = [make_row(shown) for shown in COMBINATIONS[:2]]
HEART = [int(label in ("Cardiomegaly", "Lung nodule", "Bronchiectasis")) for label in LABELS]


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def boundaries_of(names: tuple[int, ...], weights: np.ndarray) -> list[dict[int, float]]:
    """What a model with these weights, `[NUMBER + 1, NUMBER + 1]`, holds probable at the boundaries of a list."""
    boundaries = []
    for last in (-1, *names):
        entries = range(last + 1, NUMBER + 1)
        total = np.logaddexp.reduce([weights[last + 1, entry] for entry in entries])
        boundaries.append({entry: weights[last + 1, entry] - total for entry in entries})
    return boundaries


@given(st.lists(st.floats(-8, 8), min_size=25, max_size=25))
def test_the_decisions_of_a_list_multiply_to_its_probability_among_all_lists(weights):
    weights, total = np.reshape(weights, (5, 5)), []
    for vector in product((0, 1), repeat=NUMBER):
        names = tuple(np.flatnonzero(vector).tolist())
        boundaries = boundaries_of(names, weights)
        of_list = sum(q[entry] for q, entry in zip(boundaries, (*names, NUMBER), strict=True))
        logits = chain_logits(boundaries)
        decided = log_sigmoid(np.where(vector, logits, -logits)).sum()
        assert decided == pytest.approx(of_list, abs=1e-6)
        total.append(of_list)
    assert np.logaddexp.reduce(total) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_decision_names_the_lines_that_it_leads_to(language):
    pairs = decisions(HEART, "yes_no", language)
    assert [pair[value] for pair, value in zip(pairs, HEART, strict=True)] == [
        write_line(HEART, "yes_no", language)
    ] * 18
    assert all(sum(a != b for a, b in zip(*(open_text(p[v]).labels for v in (0, 1)), strict=True)) == 1 for p in pairs)
    boundaries, stated = (
        decisions(HEART, "names", language),
        [LABELS.index(n) for n in LABELS if HEART[LABELS.index(n)]],
    )
    assert [min(q) for q in boundaries] == [0, *(index + 1 for index in stated)]
    assert boundaries[-1][18] == write_line(HEART, "names", language)
    assert [open_text(q[index]).line for q, index in zip(boundaries, stated, strict=False)] == [
        q[18] for q in boundaries[1:]
    ]
    for q, after in pairwise(boundaries):
        assert q.keys() > after.keys()
    assert form_of(write_line(HEART, "names", language)) == ("names", language)
    assert form_of(pairs[0][0]) == ("yes_no", language) and form_of("Abnormalities: heart.") is None


def models():
    """Tokenizers that cut words, that have a token per word, and that join letters with punctuation."""
    yield "qwen2_5", lambda: make_tiny_qwen(TEXTS, vocab_size=1024, hidden_size=32, num_layers=1, vision_depth=1)
    yield "bytes", lambda: make_tiny_qwen(TEXTS, vocab_size=280, hidden_size=32, num_layers=1, vision_depth=1)
    yield "qwen3", lambda: make_tiny_qwen3(TEXTS)
    yield "qwen3_5", lambda: make_tiny_qwen3_5(TEXTS)
    yield "gemma3", lambda: make_tiny_gemma3(TEXTS)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in models()])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_decisions_are_those_of_the_whole_lines(make, language):
    """Among two lines that differ in one answer, and among lists, the odds are those of their whole texts."""
    model, processor = make()
    model.eval()
    collator = PairCollator(processor)
    lines = [write_line(HEART, "yes_no", language), write_line([0] * 18, "names", language)]
    logits = line_logits(model, collator, ROWS, lines)
    (alone,) = line_logits(model, collator, ROWS[:1], lines[:1])
    np.testing.assert_allclose(alone, logits[0], atol=1e-4)

    def log_probs_until_they_part(row, texts):
        """Of texts that part at their last token."""
        prompt = on_device(collator.prompts([row]), model)
        with torch.no_grad():
            return -option_losses(model, prompt, [torch.tensor(text) for text in texts]).numpy()

    label = LABELS.index("Lung nodule")
    pair = decisions(HEART, "yes_no", language)[label]
    tokens = [tokens_of(collator, pair[value])[0] for value in (0, 1)]
    common = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
    no, yes = log_probs_until_they_part(ROWS[0], [text[: common + 1] for text in tokens])
    assert logits[0, label] == pytest.approx(yes - no, abs=1e-3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("vocab_size", [1024, 280])  # of the second, answers are letters, and some begin alike
def test_a_finding_with_a_side_has_the_probability_of_all_answers_but_no(language, vocab_size):
    model, processor = make_tiny_qwen(SIDED, vocab_size, hidden_size=32, num_layers=1, vision_depth=1)
    collator, nodule = PairCollator(processor), LABELS.index("Lung nodule")
    lines = [write_line(HEART, "sides", language, {nodule: "left"}), write_line([0] * 18, "sides", language)]
    readings = read_findings_lines(model.eval(), collator, ROWS, lines)
    for row, line, reading in zip(ROWS, lines, readings, strict=True):
        assert reading.sides.keys() == set(LATERAL)
        with torch.no_grad():
            context = read_prompt(model, on_device(collator.prompts([row]), model))
        for label, choice in enumerate(decisions(open_text(line).labels, "sides", language, sides_of(line))):
            assert len(choice) == (5 if label in LATERAL else 2)
            tokens = {answer: tuple(tokens_of(collator, f"{text}\n")[0]) for answer, text in choice.items()}
            begins = {text[:place] for text in tokens.values() for place in range(1, len(text))}
            forks = [
                at for at in begins if len({text[len(at)] for text in tokens.values() if text[: len(at)] == at}) > 1
            ]
            with torch.no_grad():
                after = dict(zip(forks, logits_after(model, context, forks), strict=True))
            q = choice_log_probs(tokens, after)
            assert np.logaddexp.reduce(list(q.values())) == pytest.approx(0, abs=1e-6)
            assert log_sigmoid(-reading.logits[label]) == pytest.approx(q[0], abs=1e-3)
            if label in LATERAL:
                assert q[reading.sides[label]] >= max(q[side] for side in SIDES) - 1e-4


def test_an_unknown_line_has_no_probabilities_and_costs_no_forward_pass():
    model, processor = make_tiny_qwen(TEXTS, hidden_size=32, num_layers=1, vision_depth=1)
    model.forward = None  # calling it fails
    lines = [None, "Abnormalities: Cardiomegaly; Pneumothorax."]
    assert np.isnan(line_logits(model.eval(), PairCollator(processor), ROWS, lines)).all()


def test_names_that_share_a_beginning_are_told_apart():
    """With uniform weights, each way at a fork has the same share. Ways with a shared beginning divide its share."""
    model, processor = make_tiny_qwen(TEXTS, vocab_size=280, hidden_size=32, num_layers=1, vision_depth=1)
    for weights in model.parameters():
        torch.nn.init.zeros_(weights)
    collator = PairCollator(processor)
    (logits,) = line_logits(model.eval(), collator, ROWS[:1], [write_line([0] * 18, "names")])
    first = {name[0] for name in (*NAMES["en"].values(), "none")}  # each letter is a token of its own
    nodule, opacity = (LABELS.index(name) for name in ("Lung nodule", "Lung opacity"))
    p = np.exp(log_sigmoid(logits)) * np.cumprod([1, *np.exp(log_sigmoid(-logits[:-1]))])  # to be named first
    assert p[nodule] == pytest.approx(p[opacity]) and p[nodule] < 1 / len(first)
    assert p[LABELS.index("Hiatal hernia")] == pytest.approx(1 / len(first))
