import json

import numpy as np
import pytest
import torch
from ct_rate_tree import SPACING
from datasets import load_dataset
from test_trainer_matcher import SIZE, TINY, make_row

from ct_rate_pairs.eval.evaluation import matching_summary
from ct_rate_pairs.eval.loss_gap import blank_slices
from ct_rate_pairs.eval.matcher_evaluation import (
    Similarities,
    evaluate_matcher,
    format_retrieval,
    matcher_matching,
    matching_table,
    measure_similarities,
)
from ct_rate_pairs.eval.report_matching import draw_options
from ct_rate_pairs.eval.results import format_looking
from ct_rate_pairs.eval.retrieval import label_prompts
from ct_rate_pairs.labels import LABELS
from ct_rate_pairs.trainer.matcher import make_tiny_matcher
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator


NUMBER = 40
VOLUMES = [f"valid_{i}_a_1.nii.gz" for i in range(NUMBER)]
TEXTS = [f"Report {i}." for i in range(NUMBER)]
FLAT = np.zeros((NUMBER, NUMBER))


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 2, (NUMBER, 18))


def similarities(reports, blank=FLAT):
    return Similarities(reports, blank, np.zeros((NUMBER, 18, 2)))


@pytest.fixture(scope="module")
def model_and_collator():
    rows = [make_row(seed) for seed in range(6)]
    texts = [row["completion"][0]["content"] for row in rows]
    model, tokenizer = make_tiny_matcher(texts, SIZE, **TINY)
    return model, MatcherCollator(tokenizer, model.config)


@pytest.mark.parametrize("difficulty", ["random", "hard"])
def test_a_perfect_encoder_finds_every_report_and_a_flat_one_is_at_chance(labels, difficulty):
    options = {"difficulty": difficulty, "ci": 0.9}
    perfect = matcher_matching(similarities(10 * np.eye(NUMBER)), labels, TEXTS, VOLUMES, **options)
    flat = matcher_matching(similarities(FLAT), labels, TEXTS, VOLUMES, **options)
    for rule in ("cosine", "pmi"):
        assert perfect["rules"][rule]["top1"] == 1 and flat["rules"][rule]["top1"] == 0.25
    assert perfect["rules"]["text_only_mean"]["top1"] == 0.25
    assert flat["mrr"] == flat["chance"]["mrr"] and flat["top1_ci"][0] < 0.25 < flat["top1_ci"][1]


def test_its_options_are_those_of_the_vision_language_model(labels):
    drawn = draw_options(labels, TEXTS, VOLUMES, difficulty="hard", seed=3)
    liked = np.zeros((NUMBER, NUMBER))
    np.put_along_axis(liked, drawn.reports, np.arange(4.0)[None], axis=1)  # the last option most, the first least
    result = matcher_matching(similarities(liked), labels, TEXTS, VOLUMES, difficulty="hard", seed=3)
    assert result["ranks"]["cosine"] == (4 - drawn.correct).tolist()


def test_mutual_information_takes_off_what_every_scan_likes(labels):
    favourite = np.zeros(NUMBER)
    favourite[:10] = 5
    result = matcher_matching(similarities(np.eye(NUMBER) + favourite), labels, TEXTS, VOLUMES)
    assert result["rules"]["pmi"]["top1"] == 1 > result["top1"] > 0.25
    text_only = matcher_matching(similarities(FLAT, blank=FLAT + favourite), labels, TEXTS, VOLUMES)["rules"]
    assert text_only["text_only_mean"]["top1"] != text_only["cosine"]["top1"] == 0.25


def test_a_patients_own_other_scans_do_not_count_as_what_every_scan_likes(labels):
    volumes = [f"valid_{i // 2}_{'ab'[i % 2]}_1.nii.gz" for i in range(NUMBER)]  # two scans a patient
    alike = np.kron(np.eye(NUMBER // 2), np.ones((2, 2)))  # which no one can tell apart
    result = matcher_matching(similarities(9 * alike), labels, TEXTS, volumes)
    assert result["rules"]["pmi"]["top1"] == 1
    assert min(result["confidence"]) == pytest.approx(np.exp(9) / (np.exp(9) + 3))


def test_similarities_are_the_models_cosines_over_the_temperature(model_and_collator):
    model, collator = model_and_collator
    rows = [make_row(seed, size=(30, 44)) for seed in range(5)]
    measured = measure_similarities(model, collator, rows, batch_size=2, progress=False)
    assert model.training  # as it was
    model.eval()
    with torch.no_grad():
        expected = model(**collator(rows)).logits_per_image
        blank = model(**collator([row | {"images": blank_slices(row)} for row in rows])).logits_per_image
        absent = collator.texts([label_prompts(LABELS[7])[1]])
        prompt = model(**collator.images(rows[:1]), **absent, return_loss=False).logits_per_image
    model.train()
    assert measured.reports == pytest.approx(expected.numpy(), abs=1e-4)
    assert measured.blank == pytest.approx(blank.numpy(), abs=1e-4)
    assert measured.prompts.shape == (5, 18, 2)
    assert measured.prompts[0, 7, 1] == pytest.approx(prompt.item(), abs=1e-4)


def test_there_is_something_to_measure(model_and_collator):
    with pytest.raises(ValueError, match="no rows"):
        measure_similarities(*model_and_collator, [], progress=False)


def test_results_have_the_form_of_a_vision_language_models(tmp_path, tree, model_and_collator, labels):
    options = {"data_dir": str(tree), "num_slices": 4, "spacing": SPACING, "negative": "none"}
    scans = load_dataset("ct_rate_pairs", split="test", **options)
    results = evaluate_matcher(*model_and_collator, scans, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    model = results["model"]
    theirs = matcher_matching(similarities(FLAT), labels, TEXTS, VOLUMES, ci=0.95)
    assert matching_summary(theirs).keys() | {"mrr_ci"} == model["matching"]["random"].keys()
    assert "report matching, hard, 1 of 4: Top-1" in format_looking(model)  # what prints a VLM's prints this one's
    assert model["n"] == 12 and model["zero_shot"]["auroc_macro"] is not None
    table = (tmp_path / "table.md").read_text()
    assert table.count("dual encoder") == 2 and "| chance | random, 1 of 4 | 0.250 | 0.521 |" in table
    assert all(f"| {label} |" in table for label in LABELS) and "| scan -> report |" in table
    ranks = json.loads((tmp_path / "looking.json").read_text())["matching"]["hard"]["ranks"]
    assert np.mean(np.array(ranks["cosine"]) == 1) == pytest.approx(model["matching"]["hard"]["top1"])


def test_runs_on_other_scans_do_not_share_a_table(labels):
    summary = matching_summary(matcher_matching(similarities(FLAT), labels, TEXTS, VOLUMES))
    first = {"model": {"matching": {"random": summary}, "scans": "a"}}
    lines = matching_table({"dual encoder": first, "VLM": first})
    assert [line[0] for line in lines[1:]] == ["dual encoder", "VLM", "chance"]
    with pytest.raises(ValueError, match="dual encoder: a, VLM: b"):
        matching_table({"dual encoder": first, "VLM": {"model": first["model"] | {"scans": "b"}}})


def test_a_label_without_positives_has_a_dash_in_the_table():
    recalls = {f"{name}_at_{k}": 0.5 for name in ("recall", "chance") for k in (1, 5, 10)}
    zero_shot = {"auroc_macro": 0.5, "per_label": {"Cardiomegaly": {"auroc": None, "support": 0}}}
    both = {"image_to_text": recalls, "text_to_image": recalls, "n": 4}
    assert "| Cardiomegaly | 0 | - |" in format_retrieval({"retrieval": both, "zero_shot": zero_shot})
