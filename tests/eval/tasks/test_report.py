"""A model and held-out rows -> predictions, results, figures and table."""

import json
import re

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from helpers.eval_rows import REPORTS, make_row
from helpers.tree import SPACING, without_labels

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.predictions.store import write_predictions
from ct_rate_pairs.eval.tables import format_table
from ct_rate_pairs.eval.tasks import report
from ct_rate_pairs.eval.tasks.report import evaluate_model, score_predictions
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


TEXTS = [*REPORTS, "Hiatal hernia is seen.", "A nodule of 4 mm in the left lung. Pleural effusion."]


def make_scans(rows):
    """As the package's own: an index of texts and labels, and images on access."""

    def read(batch):
        chosen = [next(row for row in rows if row["volume"] == volume) for volume in batch["volume"]]
        return {name: [row[name] for row in chosen] for name in rows[0]}

    index = {name: [row[name] for row in rows] for name in ("volume", "prompt", "completion", "labels")}
    return Dataset.from_dict(index).with_transform(read)


def make_rows(number):
    labels = np.eye(18, dtype=int)
    rows = [make_row(seed, TEXTS[seed]) | {"labels": labels[seed].tolist()} for seed in range(number)]
    return [row | {"negative_images": rows[-1 - seed]["images"]} for seed, row in enumerate(rows)]


def evaluate(rows, out, **options):
    model, processor = make_tiny_qwen(TEXTS, hidden_size=32, num_layers=1, vision_depth=1)
    collator, scans = PairCollator(processor), make_scans(rows)
    predictions = write_predictions(model, collator, scans, out / "predictions.jsonl", max_new_tokens=4)
    training = {"train_reports": TEXTS, "train_labels": np.zeros((5, 18), np.int8)}
    return evaluate_model(model, collator, predictions, scans, out, max_new_tokens=4, ci=0.95, **training, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, evaluate(make_rows(5), out)


@pytest.mark.slow
def test_every_row_is_scored_beside_the_shuffled_and_the_trivial_ones(run):
    out, results = run
    assert list(results) == ["model", "shuffled", "all_negative", "most_common", "all_positive"]
    assert {row["n"] for row in results.values()} == {5}
    assert json.loads((out / "results.json").read_text()) == results
    low, high = results["all_positive"]["accuracy_ci"]
    assert low <= results["all_positive"]["accuracy"] <= high


def test_results_say_whether_the_rules_read_the_true_labels(own_tree, capsys):
    def results_of(folder):
        scans = load_dataset("ct_rate_pairs", data_dir=str(folder), split="test", spacing=SPACING)
        reports = dict.fromkeys(scans.with_format(None)["volume"], "A nodule is seen in the left lung.")
        return score_predictions(reports, scans, TEXTS, np.zeros((len(TEXTS), 18), int))

    assert not any("labels" in row for row in results_of(own_tree).values())
    results = results_of(without_labels(own_tree))
    assert {row["labels"] for row in results.values()} == {"rules"}
    assert results["model"]["side_accuracy"] == 0 and results["model"]["sides"] == 12
    assert "labels: rules" in format_table(results)


@pytest.mark.slow
def test_cut_reports_are_counted_and_told_with_the_remedy(tmp_path, capsys):
    results = evaluate(make_rows(5), tmp_path / "cut", cut={"train_0_a_1.nii.gz": True, "train_1_a_1.nii.gz": False})
    told = capsys.readouterr().out
    assert (results["model"]["cut"], results["model"]["cut_unknown"], results["model"]["max_new_tokens"]) == (1, 3, 4)
    assert results["shuffled"]["cut"] == 5  # an untrained model writes no end
    assert re.search(r"loss gap +cut\n", told) and "1 of 2 reports (50.0%) met their limit of 4 tokens" in told
    assert "Of 3 reports, which an earlier release has written, it is not known" in told
    evaluate(make_rows(5), tmp_path / "unknown", looking_scans=0)
    assert not re.search(r"loss gap +cut\n", capsys.readouterr().out)


def test_looking_is_measured_and_its_details_kept(run):
    out, results = run
    model, details = results["model"], json.loads((out / "looking.json").read_text())
    for kind in ("", "_noise", "_shuffled", "_blank"):
        pairs = details["gaps"][f"pair_gaps{kind}"]
        assert len(pairs) == 5 and min(pairs) <= model[f"loss_gap{kind}"] <= max(pairs)
    for difficulty in ("random", "hard"):
        scores = model["matching"][difficulty]
        assert scores["top1"] == np.mean(np.array(details["matching"][difficulty]["ranks"]["mean"]) == 1)
        assert scores["top1_chance"] == 0.25 and 0 <= scores["calibration_error_pmi"] <= 1
        low, high = scores["top1_ci"]
        assert low <= scores["top1"] <= high
        assert scores["mrr_chance"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    low, high = model["loss_gap_shuffled_ci"]
    assert low <= model["loss_gap_shuffled"] <= high
    change = model["coverage_change_shuffled"]
    assert change["first"] == model["coverage"] and change["second"] == results["shuffled"]["coverage"]
    assert 0 < model["unique_report_ratio"] <= 1 and model["reference_unique_report_ratio"] == 1
    assert model["nodule_coverage_by_size"]["no size"]["support"] + model["nodule_coverage_by_size"]["3-6 mm"][
        "support"
    ] == sum(row["labels"][9] for row in make_rows(5))


@pytest.mark.slow
def test_the_figure_of_the_gaps_and_the_table_take_the_same_mean(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(report, "plot_gaps", lambda gaps, path, means: drawn.update(means))
    results = evaluate(make_rows(5), tmp_path)
    details = json.loads((tmp_path / "looking.json").read_text())["gaps"]
    assert drawn == {kind: results["model"][f"loss_gap{suffix_of(kind)}"] for kind in VOLUMES}
    assert any(abs(drawn[kind] - np.mean(details[f"pair_gaps{suffix_of(kind)}"])) > 1e-6 for kind in VOLUMES)


def test_figures_and_the_challenges_file_are_written(run):
    out, _ = run
    for name in ("labels", "gaps", "calibration", "reports"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000
    content = json.loads((out / "generated_reports.json").read_text())
    assert [row["input_image_name"] for row in content["generated_reports"]] == [f"train_{i}_a_1" for i in range(5)]


@pytest.mark.slow
def test_scans_of_one_patient_give_all_numbers_that_need_no_other(tmp_path, capsys):
    results = evaluate(make_rows(1), tmp_path)
    assert list(results) == ["model", "all_negative", "most_common", "all_positive"]
    assert results["model"]["n"] == 1 and "matching" not in results["model"]
    printed = capsys.readouterr().out
    assert "Neither loss gaps nor a row `shuffled`" in printed and "No hard report matching" in printed


@pytest.mark.slow
def test_shuffled_reports_are_compared_with_the_models_own_on_the_same_scans(tmp_path, capsys):
    results = evaluate(make_rows(5), tmp_path, looking_scans=4)
    assert list(results)[:3] == ["model", "unshuffled", "shuffled"]
    assert [results[row]["n"] for row in ("model", "unshuffled", "shuffled")] == [5, 4, 4]
    assert results["unshuffled"]["scans"] == results["shuffled"]["scans"] != results["model"]["scans"]
    assert results["model"]["coverage_change_shuffled"]["first"] == results["unshuffled"]["coverage"]
    assert "Coverage with other patients' volumes" in capsys.readouterr().out


def test_predictions_are_scored_without_reading_a_scan():
    scans = make_scans(make_rows(5))
    scans.set_transform(lambda batch: pytest.fail("a scan was read"))
    predictions = {f"train_{seed}_a_1.nii.gz": TEXTS[seed] for seed in (4, 1)}
    results = score_predictions(predictions, scans, TEXTS, np.zeros((5, 18), np.int8))
    assert results["model"]["bleu4"] == pytest.approx(1) and results["model"]["n"] == 2
    backwards = dict(reversed(predictions.items()))
    assert score_predictions(backwards, scans, TEXTS, np.zeros((5, 18), np.int8)) == results
