"""A path that does not exist is told with the names that are near it."""

import os

import pytest
from datasets import load_dataset
from helpers.command import call
from huggingface_hub.errors import OfflineModeIsEnabled

import ct_rate_pairs.__main__ as commands
from ct_rate_pairs.eval import score_reports
from ct_rate_pairs.eval.scoring.comparison import compare_reports
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.trainer.hub_files import check_name, not_readable


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A working folder with runs in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/heter", "runs/gauss", "phantom_cohort/dataset"):
        os.makedirs(name)
    (tmp_path / "runs" / "heter" / "results.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("runs/hetr", "There is no folder runs/hetr (is runs/heter meant?)."),
        ("./runs/hetr", "There is no folder ./runs/hetr (is runs/heter meant?)."),
        ("run/heter", "There is no folder run/heter, because there is no run (is runs meant?)."),
        ("elsewhere", "There is no folder elsewhere."),
        ("runs/heter/results.json", "runs/heter/results.json is no folder."),
        ("runs/heter/results.json/x", "There is no folder runs/heter/results.json/x."),
    ],
)
def test_near_names_are_told(runs, path, told):
    assert no_such("folder", path) == told


def test_a_home_that_nobody_has_filled_in_is_told(runs, monkeypatch):
    monkeypatch.setenv("HOME", str(runs))
    assert no_such("folder", "~/runs") == f"There is no folder ~/runs (is {runs / 'runs'} meant?)."
    assert f"(is {runs / 'runs'} meant?)" in no_such("folder", "~/rns")


def test_the_whole_path_is_told_where_the_whole_path_was_given(runs):
    assert f"(is {runs / 'runs' / 'heter'} meant?)" in no_such("folder", runs / "runs" / "hetr")


def test_a_path_is_not_asked_of_the_hub(runs):
    for name in ("./runs/hetr", "../runs", "runs/heter/nothing", "/nowhere/at/all", "runs/hetr/"):
        with pytest.raises(FileNotFoundError, match="There is no folder .* cannot be a name on the Hub"):
            check_name(name)
    for name in ("runs/hetr", "gpt2", "./runs/heter"):
        check_name(name)


def test_a_name_of_the_hub_is_not_called_a_folder(runs):
    assert not_readable("alice/model", OfflineModeIsEnabled("")).startswith(
        "alice/model cannot be read from the Hub: "
    )
    told = not_readable("runs/hetr", OfflineModeIsEnabled(""))
    assert told.startswith(
        "There is no folder runs/hetr (is runs/heter meant?). runs/hetr cannot be read from the Hub"
    )
    for name in ("rums/heter", "Runs/heter"):
        told = not_readable(name, OfflineModeIsEnabled(""))
        assert told.startswith(f"There is no folder {name}, because there is no {name[:4]} (is runs meant?). {name} ")


def test_data_that_is_not_there_is_told_by_its_name(runs):
    with pytest.raises(FileNotFoundError, match=r"no folder phantom_cohrt \(is phantom_cohort meant\?\)"):
        load_dataset("ct_rate_pairs", data_dir="phantom_cohrt")


def test_the_folder_in_a_copy_is_told_to_be_one_too_deep(runs):
    with pytest.raises(FileNotFoundError, match=r"holds no folder `dataset/` \(is .*phantom_cohort meant\?\)"):
        load_dataset("ct_rate_pairs", data_dir="phantom_cohort/dataset")


def test_scoring_tells_a_model_that_is_not_there_before_it_scores(runs):
    labels, volumes = [[0] * 18], ["valid_1_a_1.nii.gz"]
    for option in ({"bertscore_model": "./runs/hetr"}, {"labeler": "radbert:./runs/hetr"}):
        with pytest.raises(FileNotFoundError, match="is runs/heter meant"):
            score_reports(["A nodule."], ["A nodule."], labels, volumes=volumes, **option)
        with pytest.raises(FileNotFoundError, match="is runs/heter meant"):
            compare_reports(["A nodule."], ["A nodule."], ["A nodule."], labels, volumes, **option)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("report runs/heter --model_name_or_path ./runs/hetr --output_dir o", "is runs/heter meant?"),
        ("evaluate --model_name_or_path runs/hetr --data_dir phantom_cohort", "is runs/heter meant?"),
        (
            "evaluate-task --task vqa --model_name_or_path ./runs/hetr",
            "is runs/heter meant?",
        ),
        ("evaluate --predictions runs/heter/result.json", "is runs/heter/results.json meant?"),
        ("table runs/heter runs/gaus runs/heter", "is runs/gauss meant?"),
        ("compare --first runs/heter --second runs/gaus", "no file or folder runs/gaus (is runs/gauss meant?)"),
        ("publish runs/hetr a/b", "is runs/heter meant?"),
        ("negative-index a/b phantom_cohrt", "is phantom_cohort meant?"),
        ("partners phantom_cohrt", "is phantom_cohort meant?"),
        ("train --config runs/heter/result.json", "is runs/heter/results.json meant?"),
    ],
)
def test_every_command_tells_near_names(runs, capsys, argv, told):
    if argv.startswith("report"):
        (runs / "runs" / "heter" / "scan.nii.gz").touch()
    if argv.startswith("compare"):
        (runs / "runs" / "heter" / "predictions.jsonl").touch()
    assert call(commands.main, *argv.split()) == 2
    assert told in capsys.readouterr().err
