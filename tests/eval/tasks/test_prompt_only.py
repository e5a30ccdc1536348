"""The labels as far as prompts tell them: what leaks is found, and what does not is not."""

import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset
from helpers.tree import SPACING, STEMS, write_tree

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.metrics.label_metrics import label_accuracy
from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.eval.tables import format_prompt_only, format_table
from ct_rate_pairs.eval.tasks.prompt_only import guess_labels, score_prompts
from ct_rate_pairs.eval.tasks.report import score_predictions


def f1_of(stated, labels) -> float:
    return label_accuracy(stated, labels, LABELS)["f1_micro"]


def cohort(rng, number, told) -> tuple[list[str], np.ndarray]:
    """Texts and labels: a rare label that the text tells, or only its frequency."""
    labels = (rng.random((number, 18)) < 0.1).astype(np.int8)
    words = [" ".join(f"word{i}" for i in np.flatnonzero(row)) if told else "cough" for row in labels]
    return [f"Age: {rng.integers(20, 90)}. {word}" for word in words], labels


@pytest.mark.parametrize("told", [True, False])
def test_what_a_text_tells_is_guessed_and_nothing_else(told):
    rng = np.random.default_rng(0)
    texts, labels = cohort(rng, 400, told)
    held_out, truth = cohort(rng, 200, told)
    f1 = f1_of(guess_labels(texts, labels, held_out), truth)
    always = f1_of(np.ones_like(truth), truth)
    assert f1 > 0.95 if told else f1 < always + 0.05


def test_patients_of_a_like_age_share_what_is_known_of_them():
    rng = np.random.default_rng(0)
    ages = rng.permutation(np.arange(20, 90))
    labels = np.zeros((70, 18), np.int8)
    labels[:, 3] = ages >= 60
    texts = [f"Age: {age}." for age in ages]  # no age occurs twice
    assert (guess_labels(texts[:50], labels[:50], texts[50:])[:, 3] == labels[50:, 3]).mean() > 0.9


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """A tree whose clinical information names the findings, as the labels do."""
    root = write_tree(tmp_path_factory.mktemp("leaking"), scans=60, shape=(12, 10, 12))
    for short, long in STEMS:
        labels = pd.read_csv(root / f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv")
        file = root / f"dataset/radiology_text_reports/{long}_reports.csv"
        told = [" and ".join(label.replace(" ", "") for label in LABELS if row[label]) for _, row in labels.iterrows()]
        pd.read_csv(file).assign(ClinicalInformation_EN=told).to_csv(file, index=False)
    return root


def load(tree, split, **options):
    options = {"spacing": SPACING, "validation_size": 0.0} | options
    return load_dataset("ct_rate_pairs", data_dir=str(tree), split=split, **options)


@pytest.mark.slow
def test_a_leaking_prompt_has_a_row_and_a_model_that_is_no_better_is_told(leaking):
    options = {"prompt_metadata": ("clinical_information",), "prompt_dropout": 0.9}  # the baseline reads whole prompts
    scans, train = (load(leaking, split, **options) for split in ("test", "train"))
    volumes, references, _ = references_of(scans)
    _, reports, train_labels = references_of(train)
    results = score_predictions(dict(zip(volumes, references, strict=True)), scans, reports, train_labels, ci=0.9)
    row = results["prompt_only"]
    assert row["prompt_metadata"] == ["clinical_information"] and row["n"] == 60
    assert row["f1_micro"] > 0.85 and 0.6 < row["f1_micro_common"] < 0.7  # half of the labels are there
    assert list(results)[1] == "prompt_only" and row["scans"] == results["model"]["scans"]
    assert "bleu1" not in row and "prompt_only" in format_table(results)
    told = format_prompt_only(results)
    assert "What the prompts tell (clinical information) gives an F1 micro of" in told
    better = results | {"model": results["model"] | {"f1_micro": 1.0, "f1_micro_ci": [0.99, 1.0]}}
    assert format_prompt_only(better) == ""
    without_intervals = {
        name: {"f1_micro": row["f1_micro"], "f1_micro_common": None, "prompt_metadata": []} for name in better
    }
    assert format_prompt_only(without_intervals)


@pytest.mark.slow
def test_prompts_that_tell_nothing_have_no_row(leaking):
    scans = load(leaking, "test")
    assert score_prompts(scans) is None
    volumes, references, _ = references_of(scans)
    _, reports, labels = references_of(load(leaking, "train"))
    results = score_predictions(dict(zip(volumes, references, strict=True)), scans, reports, labels)
    assert "prompt_only" not in results and format_prompt_only(results) == ""
