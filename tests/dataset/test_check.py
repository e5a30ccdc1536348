"""`ct-rate-pairs check` names every row that a training would stop at, before it starts."""

import json
import shutil

import numpy as np
import pytest
from helpers.command import call
from helpers.own_scans import own_rows, write_table

from ct_rate_pairs.check import main


GRID = ("--spacing", "4", "4", "8", "--workers", "2")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital") / "own"
    rows = own_rows(folder)
    write_table(folder / "cohort.csv", rows)
    return folder, rows


@pytest.fixture
def own(sound, tmp_path):
    """A folder that the test may damage, and its rows."""
    return shutil.copytree(sound[0], tmp_path / "own"), [dict(row) for row in sound[1]]


def test_a_sound_table_has_no_problems(sound, capsys):
    assert call(main, sound[0], *GRID) == 0
    told = capsys.readouterr().out
    assert "train 8 scans of 6 patients, test 4 scans of 3 patients; no problems" in told
    assert "note: it has no columns of labels" in told and "labels have fewer than 5 scans" in told
    assert "MÜLLER" not in told


@pytest.mark.slow
def test_a_sound_table_has_no_problems_when_it_is_read_as_a_whole(sound):
    assert call(main, sound[0], *GRID, "--whole") == 0


def test_every_kind_of_fault_is_listed_with_its_row_and_nothing_else(own, capsys, tmp_path):
    folder, rows = own
    rows[0]["report"] = "Not given."  # row 2
    (folder / rows[1]["scan"]).write_bytes(b"DOE")  # row 3: no header
    shutil.rmtree(folder / rows[4]["scan"])  # row 6
    rows[5]["report"] = "Kein Erguss. Herz normal groß, keine Rundherde."  # row 7
    rows[6]["scan"] = rows[0]["scan"]  # row 8
    for file in sorted((folder / rows[7]["scan"]).iterdir())[:12]:  # row 9: slices are missing
        file.unlink()
    rows[8]["split"] = "train"  # row 10: the patient of row 11 is in test
    write_table(folder / "cohort.csv", rows)
    assert call(main, folder, *GRID, "--output_file", tmp_path / "out" / "problems.json") == 1
    shown, results = capsys.readouterr().out, json.loads((tmp_path / "out" / "problems.json").read_text())
    found = {(one["row"], one["column"]) for one in results["problems"]}
    expected = {(2, "report"), (3, "scan"), (6, "scan"), (7, "report"), (8, "scan"), (9, "scan")}
    assert found - {(10, "split"), (11, "split"), (9, "split")} == expected
    assert found & {(10, "split"), (11, "split"), (9, "split")}
    for problem in results["problems"]:
        assert f"row {problem['row']}, column '{problem['column']}': {problem['told']}" in shown
        assert not [word for word in ("MÜLLER", "DOE", "ct 0") if word in problem["told"]]
    assert results["names"]["patient_1_a_1.nii.gz"] == 2 and "tell" not in results


def test_only_the_whole_scan_tells_that_it_is_cut_or_no_hu(own, capsys):
    folder, rows = own
    packed = folder / rows[0]["scan"]
    packed.write_bytes(packed.read_bytes()[:-3000])
    write_table(folder / "cohort.csv", rows[:4])
    assert call(main, folder, *GRID) == 0
    assert call(main, folder, *GRID, "--whole", "--json") == 1
    results = json.loads(capsys.readouterr().out.partition("problems, ")[2].partition("\n")[2])
    assert [(one["row"], one["column"]) for one in results["problems"]] == [(2, "scan")]
    assert "truncated" in results["problems"][0]["told"]


def test_fewer_planes_than_slices_are_found_by_the_headers(own, capsys):
    folder, rows = own
    write_table(folder / "cohort.csv", rows[:2])
    assert call(main, folder, "--spacing", "4", "4", "8", "--num_slices", "21") == 1
    assert capsys.readouterr().out.count("21 slices are asked for") == 2


def test_a_split_of_one_patient_has_no_negatives(own, capsys):
    folder, rows = own
    write_table(folder / "cohort.csv", [row | {"patient": "one"} for row in rows[:3]])
    assert call(main, folder, *GRID) == 1
    assert capsys.readouterr().out.count("has one patient, so its scans have no possible negative") == 3


def test_what_is_no_table_is_an_error_of_the_command(phantom, capsys):
    assert call(main, phantom) == 2
    assert "is no table of your own" in capsys.readouterr().err


def test_partners_that_differ_little_are_a_note(own, capsys):
    folder, rows = own
    from ct_rate_pairs import LABELS

    labels = np.eye(18, dtype=int)
    table = [row | dict(zip(LABELS, labels[number].tolist(), strict=True)) for number, row in enumerate(rows[:4])]
    write_table(folder / "cohort.csv", table)
    assert call(main, folder, *GRID) == 0
    assert "4 of 4 scans have no partner that differs in 10 labels" in capsys.readouterr().out
