"""Rows, seeds and shared runs of a study; what is read from its folders, and how it is told."""

import csv
import dataclasses
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import yaml
from datasets import load_dataset
from helpers.paths import ROOT
from matplotlib.figure import Figure
from trl import GRPOConfig

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.study import plan as study_module
from ct_rate_pairs.eval.study.figures import plot_study
from ct_rate_pairs.eval.study.plan import flip_labels, prepare_cohorts, read_study, run_folder, shuffle_cohort
from ct_rate_pairs.eval.study.results import interval_over_seeds, read_numbers, read_outcome, summarise
from ct_rate_pairs.eval.study.tables import format_summary, write_tables
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.recipes.grpo import make_parser
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.yaml_files import read_yaml


CONFIGS = ROOT / "recipes" / "configs"
DOCUMENT = ROOT / "docs" / "study.md"
STUDY = {
    "base": str(CONFIGS / "phantom_heter.yaml"),
    "cohort": {"scans": 8, "seed": 0},
    "settings": {"max_steps": 2},
    "seeds": [0, 1],
    "tables": {
        "first": {
            "title": "First",
            "rows": {"Origin": {"negative": "none", "beta": 0}, "Heter": {"negative": "heter"}},
        },
        "second": {
            "title": "Second",
            "against": "beta",
            "rows": {
                "beta 0": {"beta": 0, "negative": "none"},
                "beta 0.1": {"beta": 0.1},
                "beta 0.2": {"beta": 0.2},
            },
        },
    },
}


@pytest.fixture(autouse=True)
def cohorts_without_processes(monkeypatch):
    """They would take longer to start than these cohorts take to write."""
    monkeypatch.setattr(study_module, "write_cohort", partial(write_cohort, workers=1))


def read(tmp_path, content=STUDY, only=()):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(path, only)


def keep_run(out, run, cohort, coverage, **record):
    """What a run leaves behind, with numbers that a test can choose."""
    folder = run_folder(out, run)
    folder.mkdir(parents=True)
    record = {"state": "finished", "minutes": 2.0, "cpu_minutes": 1.5, "peak_gib": 0.5, "commit": "abc"} | record
    record |= {"machine": "here", "cohort": cohort, "settings": run.settings}
    row = dict.fromkeys(("bleu1", "bleu4", "rouge_l", "accuracy", "precision_micro", "f1_micro", "f1_macro"), 0.5)
    row |= {"side_accuracy": 0.75, "lobe_accuracy": None}
    common = {"side_accuracy_common": 0.65, "lobe_accuracy_common": None}
    looking = {"matching": {"random": {"top1": 0.4, "top1_pmi": 0.6}}, "loss_gap_shuffled": 0.1, "loss_gap_noise": 0.9}
    diversity = {"unique_report_ratio": 0.8, "reference_unique_report_ratio": 0.9}
    looking |= {"per_label": {"Lung nodule": {"coverage": 0.3}}}
    results = {"model": {"coverage": coverage} | row | common | looking | diversity, "shuffled": {"coverage": 0.2}}
    for name, nodules in (("all_negative", 0.0), ("most_common", 0.0), ("all_positive", 1.0)):
        nowhere = {"side_accuracy": None, "per_label": {"Lung nodule": {"coverage": nodules}}}
        results[name] = {"coverage": 0.0} | row | {"precision_micro": None} | nowhere
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "predictions.jsonl").write_text('{"volume": "a", "report": "One two three four."}\n')
    history = [{"step": step, "loss_pos": 1 / step, "loss_neg": 2 / step} for step in (1, 2)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    gaps = {"pair_gaps_shuffled": [0.1, 0.2, 0.3], "pair_gaps_noise": [0.5, 0.9, 1.1], "loss_gap_noise": 0.9}
    (folder / "looking.json").write_text(json.dumps({"gaps": gaps}))
    if run.settings["negative"] != "none":
        masks = {"dice": 0.4, "met": 0.9, "pointed": 0.8, "auroc": 0.7, "false_masks": 0.1}
        ways = {"model": masks, "atlas": masks | {"dice": 0.3}, "empty": dict.fromkeys(masks, 0.0) | {"auroc": 0.5}}
        (folder / "masks.json").write_text(json.dumps(ways))
    record |= read_numbers(folder) if record["state"] == "finished" else {}
    (folder / "run.yaml").write_text(yaml.safe_dump(record))
    return folder


def test_rows_with_equal_settings_share_a_run_and_the_first_seeds_come_first(tmp_path):
    study = read(tmp_path)
    names = [run.name for run in study.runs]
    assert names == [
        *("none_beta-0_seed-0", "heter_beta-0.1_seed-0", "heter_beta-0.2_seed-0"),
        *("none_beta-0_seed-1", "heter_beta-0.1_seed-1", "heter_beta-0.2_seed-1"),
    ]
    assert study.tables["second"].rows[0].runs == study.tables["first"].rows[0].runs
    settings = study.runs[1].settings
    assert (settings["max_steps"], settings["learning_rate"], settings["data_dir"]) == (2, 0.002, "cohort")
    assert read(tmp_path, only=["first"]).tables.keys() == {"first"}


def test_an_unknown_table_and_too_many_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no table 'third', only first, second"):
        read(tmp_path, only=["third"])
    with pytest.raises(ValueError, match="11 seeds"):
        read(tmp_path, STUDY | {"seeds": list(range(11))})


def test_a_row_may_go_on_from_the_run_of_its_seed_and_then_comes_after_it(tmp_path):
    origin = STUDY["tables"]["first"]["rows"]["Origin"]
    rows = {"Heter": {"model_name_or_path": "runs/none_beta-0_seed-{seed}"}, "Origin": origin}
    study = read(tmp_path, STUDY | {"tables": {"first": {"title": "First", "rows": rows}}})
    names = ["none_beta-0_seed-0", "none_beta-0_seed-1"]
    assert [run.first_run or run.name for run in study.runs] == [names[0], names[0], names[1], names[1]]
    afresh, later = study.runs[2:]
    paths = later.own_paths(tmp_path)
    assert paths["model_name_or_path"] == str(run_folder(tmp_path, afresh))
    assert paths["output_dir"] == str(run_folder(tmp_path, later))
    assert "model_name_or_path" not in afresh.own_paths(tmp_path)
    for model in ("tiny", "/data/runs/none_beta-0_seed-0"):  # a model of elsewhere is no run of this study
        assert later._replace(settings={"model_name_or_path": model}).first_run is None
    del rows["Origin"]
    with pytest.raises(ValueError, match="goes on from none_beta-0_seed-0, which no table has before it"):
        read(tmp_path, STUDY | {"tables": {"first": {"title": "First", "rows": rows}}})


@pytest.mark.parametrize("name", ["study_small", "study"])
def test_every_setting_of_the_studies_is_one_the_trainer_takes(name, tmp_path):
    study = read_study(CONFIGS / f"{name}.yaml")
    for run in study.runs:
        kind = GRPOConfig if run.recipe == "grpo" else NegativeSFTConfig
        known = {field.name for field in dataclasses.fields(kind)}
        config = {key: value for key, value in run.settings.items() if key in known}
        kind(output_dir=str(tmp_path), **config)
        assert run.settings["beta"] == 0 or run.settings["negative"] != "none"
    # One budget for all rows that start afresh, and one for those that go on, but where a title tells its own.
    budget = ("max_steps", "per_device_train_batch_size", "max_eval_samples", "max_new_tokens", "spacing")
    rows = [row for table in study.tables.values() for row in table.rows if row.runs[0].recipe == "sft_neg"]
    rows = [row for row in rows if not row.title.endswith(f" {row.runs[0].settings['max_steps']} steps")]
    for goes_on in (False, True):
        settings = [run.settings for row in rows for run in row.runs if bool(run.first_run) is goes_on]
        assert all(len({str(of[key]) for of in settings}) <= 1 for key in budget)


def test_both_studies_share_their_runs():
    small, whole = (read_study(CONFIGS / f"{name}.yaml") for name in ("study_small", "study"))
    assert small.tables["table1"] == whole.tables["table1"] and small.cohort == whole.cohort
    assert len(small.runs) == 18 and {run.name for run in small.runs} < {run.name for run in whole.runs}


@pytest.fixture(scope="module")
def whole_study():
    return read_study(CONFIGS / "study.yaml")


@pytest.mark.parametrize("path", sorted(DOCUMENT.with_suffix("").glob("records/*.yaml")), ids=lambda path: path.stem)
def test_a_kept_record_is_that_of_a_run_of_the_study(whole_study, path):
    record = read_yaml(path)
    (run,) = [run for run in whole_study.runs if run.name == path.stem]
    assert (record["settings"], record["cohort"], record["state"]) == (run.settings, whole_study.cohort, "finished")


def test_a_row_with_a_base_of_its_own_has_the_options_of_that_and_of_the_study_but_none_of_negatives(tmp_path):
    row = {"base": str(CONFIGS / "phantom_grpo.yaml"), "model_name_or_path": "runs/none_beta-0_seed-{seed}"}
    row |= {"beta": 0.04}  # here the distance to the start
    rows = {"Origin": STUDY["tables"]["first"]["rows"]["Origin"], "GRPO": row}
    settings = {"max_steps": 2, "partner_sampling": "uniform"}
    tables = {"rewards": {"title": "Rewards", "rows": rows}}
    (origin, grpo, *_) = read(tmp_path, STUDY | {"settings": settings, "tables": tables}).runs
    assert (origin.recipe, grpo.recipe, grpo.first_run) == ("sft_neg", "grpo", origin.name)
    assert grpo.name.startswith("grpo_beta-0.04_") and grpo.settings["reward_weights"] == [1.0, 0.25, 0.25, 0.25]
    assert (grpo.settings["max_steps"], grpo.settings["seed"], grpo.settings["data_dir"]) == (2, 0, "cohort")
    known = {option.dest for option in make_parser()._actions}
    assert grpo.settings.keys() <= known


def test_the_interval_is_students():
    # Mean 2, standard deviation 1: 4.3027 / sqrt(3).
    estimate = interval_over_seeds([1.0, 2.0, 3.0])
    assert estimate == {"mean": 2.0, "half_width": pytest.approx(2.4842, abs=1e-4), "n": 3}
    assert interval_over_seeds([5.0]) == {"mean": 5.0, "half_width": None, "n": 1}
    rng = np.random.default_rng(0)
    estimates = [interval_over_seeds(sample.tolist()) for sample in rng.normal(size=(2000, 3))]
    covered = np.mean([abs(of["mean"]) <= of["half_width"] for of in estimates])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_a_run_of_other_settings_or_another_cohort_counts_as_not_run(tmp_path):
    study = read(tmp_path)
    run = study.runs[0]
    folder = keep_run(tmp_path, run, study.cohort, coverage=0.7)
    assert read_outcome(folder, run, study.cohort).state == "finished"
    assert (
        read_outcome(folder, run._replace(settings=run.settings | {"max_steps": 3}), study.cohort).state == "not run"
    )
    assert read_outcome(folder, run, study.cohort | {"scans": 9}).state == "not run"


@pytest.mark.slow
def test_tables_tell_means_differences_failures_and_what_was_not_run(tmp_path, monkeypatch):
    study = read(tmp_path)
    origin, heter = (study.tables["first"].rows[row].runs for row in (0, 1))
    for run, coverage in zip((*origin, *heter), (0.4, 0.6, 0.7, 0.8), strict=True):
        keep_run(tmp_path, run, study.cohort, coverage)
    failed = study.tables["second"].rows[2].runs[0]
    keep_run(tmp_path, failed, study.cohort, 0.0, state="failed", error="exit 1: boom (runs/it/log.txt)")

    summary = summarise(study, tmp_path)
    row = summary["first"]["rows"]["Heter"]
    assert row["metrics"]["coverage"]["mean"] == pytest.approx(0.75)
    # Seed by seed: 0.3 and 0.2, not the spread of either row.
    assert row["difference"]["coverage"]["mean"] == pytest.approx(0.25)
    assert row["difference"]["coverage"]["half_width"] == pytest.approx(12.7062 * math.sqrt(0.005) / math.sqrt(2))
    assert row["metrics"]["words"]["mean"] == 4 and row["metrics"]["coverage_shuffled"]["mean"] == 0.2

    write_tables(summary, tmp_path / "tables")
    first, second = ((tmp_path / "tables" / f"{name}.md").read_text() for name in ("first", "second"))
    assert "| Heter | 2 | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.750 ± 0.635 |" in first
    assert "| Side | Lobe |" not in first and "| F1 macro | Side |" in first  # no run knows a lobe
    assert "*references*" in first and "not run" not in first
    assert "| beta 0.2 | 1 failed | - |" in second and "exit 1: boom (runs/it/log.txt)" in second
    with open(tmp_path / "tables" / "first.csv") as file:
        lines = list(csv.DictReader(file))
    (coverage,) = (line for line in lines if (line["row"], line["metric"]) == ("Heter", "coverage"))
    assert float(coverage["mean"]) == pytest.approx(0.75) and float(coverage["difference"]) == pytest.approx(0.25)
    assert json.loads((tmp_path / "tables" / "first.json").read_text()) == summary["first"]

    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), savefig(figure, *a, **k)))
    plot_study(study, summary, tmp_path, tmp_path / "figures")
    told = {text.get_text() for figure in drawn for axes in figure.axes for text in axes.texts}
    assert {"0.100", "0.900"} <= told and "0.200" not in told  # the table's gaps, not the means of the reports' gaps
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    of_first = {"first_cost.png", "first_losses.png", "first_gaps.png"}
    assert names == of_first | {"second_cost.png", "second_losses.png", "second_gaps.png", "second_beta.png"}

    # The records alone give the same tables, and the figures that need no more.
    for folder in (tmp_path / "runs").iterdir():
        for path in folder.iterdir():
            if path.name != "run.yaml":
                path.unlink()
    assert summarise(study, tmp_path) == summary
    plot_study(study, summary, tmp_path, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        "first_cost.png", "second_cost.png", "second_beta.png"
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(DOCUMENT.with_suffix("").glob("*.json")), ids=lambda path: path.stem)
def test_the_document_shows_the_tables_of_its_json(path):
    told = format_summary(json.loads(path.read_text())).split("\n\n", 1)[1]  # without its title
    marks = (f"<!-- {path.stem} -->\n", f"\n<!-- /{path.stem} -->")
    shown = DOCUMENT.read_text().split(marks[0])[1].split(marks[1])[0]
    assert told.startswith(shown) and shown.count("|") > 100  # the costs, at its end, may be left out


def test_the_sides_of_lines_are_columns_as_soon_as_one_run_knows_them():
    table = json.loads((DOCUMENT.with_suffix("") / "headline.json").read_text())
    assert "report has the side" not in format_summary(table)  # all runs are of an earlier release
    *_, (title, row) = table["rows"].items()
    told = ("line_side", "line_side_common", "line_side_followed")
    row["metrics"] |= {name: interval_over_seeds([value]) for name, value in zip(told, (0.7, 0.6, 0.5), strict=True)}
    told = format_summary(table)
    heading, _, *lines = told.split("its probabilities of the 18 labels.\n\n")[1].split("\n\n")[0].splitlines()
    assert heading.endswith("| report agrees | Side | *Side, commonest* | report has the side |")
    ends = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[-3:] for line in lines}
    assert ends.pop(title) == ["0.700", "0.600", "0.500 |"]
    assert all(end == ["-", "-", "- |"] for end in ends.values()) and ends


def test_a_label_head_has_a_table_of_its_own_and_calibration_errors_that_of_chance():
    table = json.loads((DOCUMENT.with_suffix("") / "headline.json").read_text())
    for row in table["rows"].values():
        for name in ("line_ece_by_chance", "label_head_auroc", "label_head_brier_ratio", "label_head_ece"):
            row["metrics"].pop(name, None)
    assert "error by chance" not in format_summary(table) and "label head, without" not in format_summary(table)
    *_, (title, row) = table["rows"].items()
    told = {
        "line_ece_by_chance": 0.016,
        "label_head_auroc": 0.9,
        "label_head_brier_ratio": 0.5,
        "label_head_ece": 0.02,
    }
    row["metrics"] |= {name: interval_over_seeds([value]) for name, value in told.items()}
    told = format_summary(table)
    assert "| calibration error | *error by chance* | report agrees |" in told and " | 0.016 | " in told
    (line,) = told.split("label head, without calibration.\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert line.startswith(f"| {title} | ") and line.endswith(" | 0.900 | 0.500 | 0.020 |")


def test_places_and_masks_stand_beside_what_needs_no_look(tmp_path):
    study = read(tmp_path)
    for run in study.runs:
        keep_run(tmp_path, run, study.cohort, coverage=0.7)
    told = format_summary(summarise(study, tmp_path)["first"])
    heading, _, *lines = told.split("training reports.\n\n")[1].split("\n\n")[0].splitlines()
    assert heading.endswith("| Side | Coverage of nodules | *Side, commonest* |")  # no run knows a lobe
    ends = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[-3:] for line in lines}
    assert ends["Heter"] == ["0.750 ± 0.000", "0.300 ± 0.000", "0.650 ± 0.000 |"]
    assert ends["*all_negative*"] == ["-", "0.000", "- |"] and ends["*all_positive*"] == ["-", "1.000", "- |"]
    # Of the first row, no run has masks.
    masks = told.split("as means over the findings.\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert masks == [
        "| Heter | 2 | 0.400 ± 0.000 | 0.900 ± 0.000 | 0.800 ± 0.000 | 0.700 ± 0.000 |",
        "| *atlas* |  | 0.300 | 0.900 | 0.800 | 0.700 |",
        "| *empty* |  | 0.000 | 0.000 | 0.000 | 0.500 |",
    ]


def test_records_of_earlier_releases_have_no_trivial_masks_and_places(tmp_path):
    study = read(tmp_path)
    for run in study.runs:
        path = keep_run(tmp_path, run, study.cohort, coverage=0.7) / "run.yaml"
        record = read_yaml(path)
        del record["numbers"]["side_accuracy_common"]
        for name in ("atlas", "empty"):
            record["blind"].pop(name, None)
        for name in ("all_negative", "most_common", "all_positive"):
            del record["blind"][name]["nodule_coverage"]
        path.write_text(yaml.safe_dump(record))
    told = format_summary(summarise(study, tmp_path)["first"])
    assert "commonest" not in told and "| *atlas* |  | - | - | - | - |" in told
    assert "| *all_positive* |  | 0.500 | 0.500 | 0.500 | 0.000 | 0.500 | - | 0.500 | 0.500 | - | - |" in told


def test_nothing_run_is_told_as_such(tmp_path):
    study = read(tmp_path)
    summary = summarise(study, tmp_path)
    write_tables(summary, tmp_path / "tables")
    assert "| Origin | not run | - |" in (tmp_path / "tables" / "first.md").read_text()
    assert "first,Origin,not run," in (tmp_path / "tables" / "first.csv").read_text()
    plot_study(study, summary, tmp_path, tmp_path / "figures")
    assert not list((tmp_path / "figures").iterdir())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, 12, valid_scans=4, workers=1)
    return folder


@pytest.mark.slow
def test_a_shuffled_cohort_keeps_reports_and_test_and_moves_training_volumes_between_patients(cohort, tmp_path):
    shuffle_cohort(cohort, tmp_path / "shuffled")
    options = {"negative": "none", "spacing": [4.5, 4.5, 6.5], "reconstructions": "all", "validation_size": 0.0}
    honest, shuffled = (
        load_dataset("ct_rate_pairs", data_dir=str(folder), **options) for folder in (cohort, tmp_path / "shuffled")
    )
    pixels = {
        row["volume"]: np.stack([np.asarray(image) for image in row["images"]]).tobytes() for row in honest["train"]
    }
    owner = {content: volume for volume, content in pixels.items()}
    taken = []
    for before, after in zip(honest["train"], shuffled["train"], strict=True):
        assert all(before[key] == after[key] for key in ("volume", "completion", "labels"))
        taken.append(owner[np.stack([np.asarray(image) for image in after["images"]]).tobytes()])
        assert patient_of(taken[-1]) != patient_of(after["volume"])
    assert sorted(taken) == sorted(pixels)
    assert all(
        before["images"] == after["images"] for before, after in zip(honest["test"], shuffled["test"], strict=True)
    )
    assert len(honest["test"]) == len(shuffled["test"]) > 0


def test_a_cohort_with_wrong_labels_keeps_everything_but_a_share_of_the_training_labels(cohort, tmp_path):
    flip_labels(cohort, tmp_path / "flipped", 0.2)
    names = {path.relative_to(cohort) for path in cohort.rglob("*") if path.is_file()}
    changed = [name for name in names if (cohort / name).read_bytes() != (tmp_path / "flipped" / name).read_bytes()]
    assert changed == [study_module.TRAIN_LABELS]
    before, after = (pd.read_csv(folder / changed[0]) for folder in (cohort, tmp_path / "flipped"))
    assert before["VolumeName"].equals(after["VolumeName"])
    wrong = (before[list(LABELS)] != after[list(LABELS)]).to_numpy()
    assert 0.1 < wrong.mean() < 0.3
    scans = before["VolumeName"].str.rsplit("_", n=1).str[0]
    assert all(len(np.unique(wrong[scans == scan], axis=0)) == 1 for scan in scans)


@pytest.mark.slow
def test_a_cohort_that_no_study_has_is_refused(tmp_path):
    rows = {"rows": {"a": {"data_dir": "cohort_turned"}}, "title": "A"}
    study = read(tmp_path, STUDY | {"cohort": {"scans": 2, "valid_scans": 1, "seed": 0}, "tables": {"a": rows}})
    with pytest.raises(ValueError, match="cohort_turned names no cohort of a study"):
        prepare_cohorts(study, tmp_path)


@pytest.mark.slow
def test_the_cohort_is_written_once_and_another_one_is_refused(tmp_path, monkeypatch):
    content = STUDY | {"cohort": {"scans": 2, "valid_scans": 1, "seed": 0}}
    study = read(tmp_path, content)
    prepare_cohorts(study, tmp_path)
    monkeypatch.setattr(study_module, "write_cohort", None)  # a second call would fail
    prepare_cohorts(study, tmp_path)
    other = read(tmp_path, content | {"cohort": content["cohort"] | {"seed": 1}})
    with pytest.raises(ValueError, match=r"was written with \{'seed': 0\}"):
        prepare_cohorts(other, tmp_path)


def test_a_cohort_with_masks_has_the_same_scans_and_its_rows_find_the_masks(tmp_path):
    masked = {"beta": 0, "negative": "none", "data_dir": "cohort_masked", "masks": "cohort_masked/masks"}
    table = {"title": "Masks", "rows": {"Origin": {"beta": 0, "negative": "none"}, "mask head": masked}}
    study = read(tmp_path, STUDY | {"tables": {"masks": table}})
    prepare_cohorts(study, tmp_path)
    first, second = tmp_path / "cohort", tmp_path / "cohort_masked"
    names = {path.relative_to(first) for path in first.glob("dataset/**/*") if path.is_file()}
    assert len(names) > 8 and all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    run = study.tables["masks"].rows[1].runs[0]
    assert run.own_paths(tmp_path)["masks"] == str(second / "masks") and (second / "masks" / "masks.csv").is_file()
