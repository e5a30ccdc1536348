import json

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.matcher_rows import SIZE, TINY, make_row
from helpers.phantom_reports import cohort
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.matcher import embed_scans, embed_texts, evaluate_matcher
from ct_rate_pairs.eval.matcher_scores import (
    choose,
    format_retrieval,
    score_labels,
    sentence_prompts,
    side_by_side,
)
from ct_rate_pairs.eval.tasks import TaskSettings
from ct_rate_pairs.eval.tasks.matching import choice_table, evaluate_matching, score_choices
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.flips import labels_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
from ct_rate_pairs.trainer.tiny import make_tiny_matcher, make_tiny_qwen


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("matcher"), scans=16)


def load(tree, **options):
    return load_dataset("ct_rate_pairs", data_dir=str(tree), num_slices=4, spacing=SPACING, negative="none", **options)


@pytest.fixture(scope="module")
def model_and_collator():
    rows = [make_row(seed) for seed in range(6)]
    texts = [row["completion"][0]["content"] for row in rows]
    model, tokenizer = make_tiny_matcher(texts, SIZE, **TINY)
    return model, MatcherCollator(tokenizer, model.config)


def test_vectors_are_those_whose_cosines_the_model_learns(model_and_collator):
    model, collator = model_and_collator
    model.eval()
    rows = [make_row(seed, size=(30, 44)) for seed in range(5)]
    places, (seen, blank) = embed_scans(model, collator, rows, batch_size=2, progress=False)
    assert places == list(range(5))
    texts = embed_texts(model, collator, [row["completion"][0]["content"] for row in rows], batch_size=3)
    with torch.no_grad():
        expected = model(**collator(rows)).logits_per_image
        of_blank = model(**collator([row | {"images": blank_slices(row)} for row in rows])).logits_per_image
    scale = model.logit_scale.exp().item()
    assert (scale * seen @ texts.T).numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert (scale * blank @ texts.T).numpy() == pytest.approx(of_blank.numpy(), abs=1e-4)


def test_there_is_something_to_measure(model_and_collator):
    with pytest.raises(ValueError, match="no rows"):
        embed_scans(*model_and_collator, [], progress=False)


@pytest.mark.parametrize("difficulty", ["random", "hard"])
def test_a_perfect_encoder_chooses_right_and_a_blind_one_by_chance(sixteen, difficulty):
    splits = load(sixteen, task="matching", difficulty=difficulty)
    asked = splits["test"].with_format(None)
    own = {row["volume"]: row["options"][row["correct"]] for row in asked}
    texts = {text: torch.eye(len(own))[i] for i, text in enumerate(own.values())}
    scans = torch.stack([torch.stack([texts[text] for text in own.values()]), torch.ones(len(own), len(own))])
    losses = choose(scans, list(own), texts, asked)
    config = reader_of(splits["test"]).config
    results = score_choices(losses, asked, splits["train"], config, 0.95)
    assert results["model"]["top1"] == 1 and results["blank"]["top1"] == 0.25
    assert [row[0] for row in choice_table({"dual encoder": results})[1:]] == [
        *("dual encoder", "dual encoder, blank volume"),
        *("TF-IDF of the options", "most common letter", "chance"),
    ]


def test_labels_are_scored_by_what_states_less_what_denies_them():
    scans = torch.eye(3)
    prompts = {
        "Cardiomegaly": (torch.eye(3)[[0]], torch.eye(3)[[1]]),
        "Lung nodule": (torch.eye(3)[[1, 2]], torch.eye(3)[[0]]),
        "Emphysema": (torch.eye(3)[[2]],),  # which no report denies
    }
    half = np.sqrt(0.5)
    assert score_labels(scans, prompts) == pytest.approx(np.array([[1, -1, 0], [-1, half, 0], [0, half, 1]]))


def test_sentences_of_the_reports_state_or_deny_one_label_each():
    prompts = sentence_prompts(cohort(400).reports)
    assert {len(pair) for pair in prompts.values()} == {1, 2} and set(prompts) <= set(LABELS)
    for label, (stated, *denied) in prompts.items():
        index = LABELS.index(label)
        assert all(labels_of(text) == ({index}, set()) for text in stated)
        assert all(labels_of(text) == (set(), {index}) for texts in denied for text in texts)


@pytest.mark.slow
def test_the_dual_encoder_and_a_vision_language_model_stand_in_one_table(tmp_path, sixteen, model_and_collator):
    scans = load(sixteen)
    kinds = [{"options": "full", "difficulty": "random"}, {"options": "full", "difficulty": "hard"}]
    choices = [load(sixteen, task="matching", **kind) for kind in kinds]
    texts = [text for splits in choices[:1] for row in splits["test"].with_format(None) for text in row["options"]]
    model, processor = make_tiny_qwen(texts, hidden_size=32, num_layers=1, vision_depth=1)
    hard = choices[1]
    theirs = evaluate_matching(
        model, PairCollator(processor), hard["test"], hard["train"], tmp_path / "vlm", TaskSettings(answers="texts")
    )
    assert theirs["model"]["answers"] == "texts"
    results = evaluate_matcher(
        *model_and_collator,
        scans["test"],
        scans["train"],
        [(splits["test"], splits["train"]) for splits in choices],
        tmp_path,
        beside={"vlm": theirs},
    )
    assert json.loads((tmp_path / "results.json").read_text()) == results
    own = results["matching"]["full, hard"]["model"]
    assert own["questions"] == theirs["model"]["questions"] and own["n"] == 16
    first, second, *_ = (tmp_path / "table.md").read_text().split("\n\n")
    assert "| vlm |" in second and "| vlm, blank volume |" in second and "vlm" not in first
    assert "| TF-IDF of the options |" in first and first.count("dual encoder") == 2
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {label} |" in table for label in LABELS) and "| scan -> report |" in table
    assert results["n"] == 16 and results["zero_shot"]["auroc_macro"] is not None

    other = theirs | {"model": theirs["model"] | {"questions": "0"}}
    with pytest.raises(ValueError, match="different questions"):
        choice_table(side_by_side(results["matching"]["full, hard"], {"other": other}))


def test_a_label_without_positives_or_sentences_has_a_dash_in_the_table():
    recalls = {f"{name}_at_{k}": 0.5 for name in ("recall", "chance") for k in (1, 5, 10)}
    zero_shot = {"auroc_macro": 0.5, "per_label": {"Cardiomegaly": {"auroc": None, "support": 0}}}
    both = {"image_to_text": recalls, "text_to_image": recalls, "n": 4}
    results = {"retrieval": both, "zero_shot": zero_shot, "zero_shot_sentences": None, "n": 4}
    assert "| Cardiomegaly | 0 | - | - |" in format_retrieval(results)
