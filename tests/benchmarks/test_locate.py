"""Sentences are scored on the slices of the model, beside what the prevalence of findings and sides alone gives."""

import importlib
import json
import shutil

import numpy as np
import pytest

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.hub.reporting.seen import see
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.trainer.mask_head import MaskHead
from ct_rate_pairs.volumes.settings import VolumeSettings


@pytest.fixture
def bench():
    return importlib.import_module("bench_locate")


def test_the_prevalence_is_of_scans_with_the_finding_and_with_it_on_the_side(bench):
    def nodule(place):
        return {"finding": "Lung nodule", "sentence": f"A nodule of 8 mm is seen in the {place} lobe."}

    heart = {"finding": "Cardiomegaly", "sentence": "Cardiomegaly is seen."}
    told = [[nodule("right upper"), nodule("right lower")], [nodule("left lower"), heart], [nodule("right upper")], []]
    assert bench.shares_of_statements(told) == {
        ("Lung nodule", ""): 0.75,
        ("Lung nodule", "right"): 0.5,
        ("Lung nodule", "left"): 0.25,
        ("Cardiomegaly", ""): 0.25,
    }


def rows_of(told: str) -> dict[tuple[str, str], list[str]]:
    """The rows of the table of scores, among all that was printed: the numbers by way and kind of false sentence."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("|")]
    return {(way, kind): numbers for way, kind, *numbers in lines if kind in ("side", "absent")}


def test_who_knows_how_common_a_finding_is_tells_absent_ones_apart_and_within_a_finding_none(bench, capsys):
    """A common finding is there, and a rare one is not; sides are as common as each other."""
    common = {"Lung nodule": 0.5, "Bronchiectasis": 0.1}
    asked = []
    for scan in range(10):
        true, false = ("Bronchiectasis", "Lung nodule") if scan == 0 else ("Lung nodule", "Bronchiectasis")
        asked += [
            bench.Asked(scan, label, kind, {"prevalence": common[label]})
            for label, kind in ((true, "true"), (true, "side"), (false, "absent"))
        ]
    bench.print_scores(asked)
    rows = rows_of(capsys.readouterr().out)
    assert rows["prevalence", "side"] == ["10", "10", "0.500", "0.500", "0.500"]
    assert rows["prevalence", "absent"] == ["10", "10", "0.900", "0.500", "0.900"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, 8, valid_scans=3, workers=1, masks=True, shape=(48, 36, 24), spacing=(8.0, 8.0, 12.0))
    return folder


@pytest.mark.slow  # 1 s: it writes the cohort
@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_rows_are_those_that_the_model_is_shown(bench, cohort, tmp_path, split):
    """The plan and the chest of a scan are those that the reporter reads, so the masks must be of its slices."""
    shown = {"num_slices": 4, "spacing": [8.0, 8.0, 12.0], "window": "rgb", "z_range": [0.3, 0.9]}
    of_text = {"target": "findings", "prompt": "en", "prompt_metadata": False}
    (tmp_path / "row_settings.json").write_text(json.dumps(shown | of_text))
    row = bench.rows_for(str(tmp_path), str(cohort), split)[0]
    (scan,) = cohort.rglob(row["volume"])
    for image, seen in zip(row["images"], see(scan, VolumeSettings(**shown)).images, strict=True):
        np.testing.assert_array_equal(image, seen)
    assert {len(planes) for planes in row["masks"]} == {4}


@pytest.mark.slow
def test_the_table_has_the_prevalence_beside_the_scores_of_the_model(
    bench, cohort, reader_dir, tmp_path, capsys, monkeypatch
):
    model = tmp_path / "model"
    shutil.copytree(reader_dir, model)
    vision = load_model(str(model), device="cpu")[0].config.vision_config
    MaskHead(vision.out_hidden_size, LABELS, vision.temporal_patch_size).save(model)
    (model / "masks.json").write_text(json.dumps({"model": {"dice": 0.5, "findings": {}}, "n": 8}))
    monkeypatch.setattr("sys.argv", ["bench_locate.py", str(model), str(cohort), "--atlas_scans", "4"])
    bench.main()
    rows = rows_of(capsys.readouterr().out)
    for kind in ("side", "absent"):
        assert rows["prevalence", kind][:2] == rows["locate", kind][:2]  # of the same sentences
    assert rows["head alone", "side"][2:] == ["0.500"] * 3  # a new head knows nothing
    assert rows["prevalence", "absent"][2] != "0.500"
