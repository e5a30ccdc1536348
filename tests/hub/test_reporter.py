"""`load_reporter(...).report(scan)`: one report whatever the format, and nothing in it of whose scan it is."""

import json
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from datasets import load_dataset
from helpers.dicom_series import PLANTED, slices, write
from helpers.tiny_reader import (
    AFFINE,
    INDICES,
    SETTINGS,
    STATED,
    make_row,
    make_voxels,
    save_nifti,
    write_report,
)
from helpers.writable_hub import WRITE, WritableHub
from transformers import TextStreamer

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.publish import publish
from ct_rate_pairs.hub.references import keep_references
from ct_rate_pairs.hub.reporting import reporter as module
from ct_rate_pairs.hub.reporting.files import format_report
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import VolumeError


SHOWN = (1, 0, 1)


@pytest.fixture(scope="module")
def reporter(reader_dir):
    return load_reporter(reader_dir, device="cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One scan in every format that is read."""
    folder = tmp_path_factory.mktemp("DOE_JANE")
    voxels = make_voxels(SHOWN, seed=1000)
    series = write(folder / "series", slices(voxels, AFFINE))
    with zipfile.ZipFile(folder / "DOE.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, f"DOE_JANE/{file.name}")
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing([4.0, 4.0, 8.0])  # its axes are left, posterior and superior, as in AFFINE
    sitk.WriteImage(image, str(folder / "DOE.mha"))
    names = ("DOE.nii.gz", "DOE.nii")
    return {
        **{name: save_nifti(folder / name, SHOWN) for name in names},
        "mha": folder / "DOE.mha",
        "folder": series,
        "zip": folder / "DOE.zip",
    }


def told(report) -> dict:
    """All that a report says but how long it took."""
    return {name: value for name, value in report.to_dict().items() if name != "seconds"}


@pytest.mark.slow
def test_every_format_of_a_scan_gives_the_same_report_to_the_letter(reporter, scans):
    first, *others = (reporter.report(scan) for scan in [*scans.values(), read_scan(scans["folder"])])
    assert first.text == write_report(SHOWN)
    for other in others:
        assert told(other) == told(first)
        assert [image.tobytes() for image in other.images] == [image.tobytes() for image in first.images]


def test_a_report_has_the_labels_in_order_with_confidence_sentence_and_slices(reporter, scans):
    report = reporter.report(scans["zip"], name="case 7")
    assert [finding.label for finding in report.findings] == list(LABELS)
    stated = {LABELS.index(finding.label): finding for finding in report.findings if finding.stated}
    assert set(stated) == {INDICES[0], INDICES[2]}
    assert (stated[INDICES[0]].sentence, stated[INDICES[2]].sentence) == (STATED[0], STATED[2])
    assert (set(stated[INDICES[0]].slices), set(stated[INDICES[2]].slices)) == ({1, 2}, {5, 6})
    assert min(finding.confidence for finding in stated.values()) > 0.7
    others = [finding for finding in report.findings if not finding.stated]
    assert max(finding.confidence for finding in others) < 0.3
    assert all((finding.sentence, finding.evidence, finding.slices) == (None, None, []) for finding in others)
    assert report.name == "case 7" and len(report.images) == 6
    assert [place.mm for place in report.slices] == [0, 16, 32, 48, 64, 80]
    assert report.calibration["n"] == 16
    assert set(report.seconds) == {"reading", "writing", "confidence", "evidence"}
    assert all(seconds >= 0 for seconds in report.seconds.values())


def test_the_scan_is_shown_to_the_model_as_the_rows_of_the_dataset_are(reporter, scans):
    row, expected = reporter.read(scans["folder"]), make_row(SHOWN, seed=1000)
    assert row["prompt"] == expected["prompt"] and row["slice_mm"] == expected["slice_mm"]
    for image, other in zip(row["images"], expected["images"], strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(other))
    written = generate_reports(reporter.model, reporter.collator, [expected], max_new_tokens=60, progress=False)
    assert written == generate_reports(reporter.model, reporter.collator, [row], max_new_tokens=60, progress=False)


@pytest.mark.slow
def test_nothing_of_the_patient_or_the_path_is_in_a_report(reporter, scans):
    for scan in scans.values():
        report = reporter.report(scan)
        everything = json.dumps(report.to_dict()) + repr(report)
        assert not [word for word in (*PLANTED, str(scan.parent), scan.name) if word in everything]
        assert not any(image.info for image in report.images)


@pytest.mark.slow
def test_what_is_told_of_a_scan_stands_in_its_report(reporter, scans, tmp_path, caplog):
    image = nib.Nifti1Image(make_voxels(SHOWN, seed=1000), None)
    image.header.set_zooms((4, 4, 8))
    nib.save(image, tmp_path / "DOE.nii")
    report = reporter.report(tmp_path / "DOE.nii")
    assert report.text == write_report(SHOWN)  # left, posterior, superior is right here
    (warning,) = report.told
    assert warning.startswith("the scan: its header does not say where its axes point") and warning in caplog.text
    assert report.to_dict()["told"] == [warning] and f"> - {warning}" in format_report(report)
    plain = reporter.report(scans["DOE.nii"])
    assert plain.told == [] and "warning" not in format_report(plain)


@pytest.mark.slow
def test_one_of_several_series_is_asked_for_by_a_message_that_lists_them(reporter, tmp_path):
    folder = write(tmp_path / "DOE", slices(make_voxels((0, 1, 0)), AFFINE))
    write(folder, slices(make_voxels(SHOWN), AFFINE, series=2))
    with pytest.raises(VolumeError, match="2 of its 2 series are axial CT(.|\n)*1: CT, 12 slices(.|\n)*2: CT"):
        reporter.report(folder)
    assert [reporter.report(folder, series=n).text for n in (1, 2)] == [write_report((0, 1, 0)), write_report(SHOWN)]


def test_a_model_from_elsewhere_is_shown_the_defaults_which_is_told(reader_dir, tmp_path, caplog):
    ignored = shutil.ignore_patterns("row_settings.json")
    reporter = load_reporter(shutil.copytree(reader_dir, tmp_path / "theirs", ignore=ignored), device="cpu")
    assert reporter.volume_settings == VolumeSettings() and "Assumed: num_slices=10, spacing=" in caplog.text
    assert "Assumed: num_slices=10, spacing=(0.75, 0.75, 1.5)" in reporter.told[0]


def test_the_text_streams_while_it_is_written(reporter, scans, capsys):
    class Pieces(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            pieces.append(text)

    pieces: list[str] = []
    tokenizer = reporter.collator.processor.tokenizer
    report = reporter.report(scans["mha"], streamer=Pieces(tokenizer, skip_prompt=True, skip_special_tokens=True))
    assert "".join(pieces).strip() == report.text and len(pieces) > 5


def test_without_a_calibration_there_is_no_confidence(reporter, scans):
    plain = Reporter(reporter.model, reporter.collator, SETTINGS)
    report = plain.report(scans["mha"])
    assert {finding.confidence for finding in report.findings} == {None}
    assert report.calibration is None and "confidence" not in report.seconds
    assert report.text == write_report(SHOWN)


def test_a_scan_is_shown_by_the_rule_of_the_training(reporter, scans):
    projected = Reporter(reporter.model, reporter.collator, SETTINGS | {"slices": "mip"}).read(scans["mha"])
    assert {image.mode for image in projected["images"]} == {"RGB"}
    even = Reporter(reporter.model, reporter.collator, SETTINGS).read(scans["mha"])
    for colour, grey in zip(projected["images"], even["images"], strict=True):
        np.testing.assert_array_equal(np.asarray(colour)[..., 2], np.asarray(grey))
    with pytest.raises(VolumeError, match="no lungs are found"):
        Reporter(reporter.model, reporter.collator, SETTINGS | {"slices": "lung"}).read(scans["mha"])


@pytest.mark.slow
def test_a_reporter_says_which_model_wrote_the_report(reporter, reader_dir, scans):
    report = reporter.report(scans["mha"])
    assert report.model == "reader" and report.version
    assert str(reader_dir.parent) not in json.dumps(report.to_dict())


def test_a_report_that_is_cut_short_is_a_report_too(reporter, scans):
    report = reporter.report(scans["mha"], max_new_tokens=1)
    assert len(report.findings) == len(LABELS)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("text", "told"),
    [("", "The model wrote no report."), ("Kein Pleuraerguss, Herz nicht vergrößert.", "seems to be in German")],
)
def test_a_text_that_cannot_be_read_is_no_report_of_a_normal_scan(reporter, scans, text, told, monkeypatch, caplog):
    monkeypatch.setattr(module, "write_batch", lambda *_, **__: [Written(text, False)])
    report = reporter.report(scans["mha"])
    assert told in report.unread and told in report.to_dict()["unread"] and told in format_report(report)
    assert "says nothing about the scan" in caplog.text
    monkeypatch.undo()
    assert reporter.report(scans["mha"]).unread is None


@pytest.mark.slow
def test_a_published_model_is_downloaded_with_its_confidence_and_writes_the_same_report(
    reader_dir, reporter, scans, phantom, tmp_path, monkeypatch
):
    hub = WritableHub()
    try:
        hub.connect(monkeypatch, WRITE, tmp_path / "publisher")
        (tmp_path / "run").mkdir()
        for file in reader_dir.iterdir():
            (tmp_path / "run" / file.name).symlink_to(file)
        (tmp_path / "run" / "README.md").write_text("---\ntags: [phantom]\n---\n# A reader\n")
        keep_references(tmp_path / "run", load_dataset("ct_rate_pairs", data_dir=str(phantom), split="train"))
        publish(tmp_path / "run", "alice/reader", tag="v1", dtype="float32")
        assert {"confidence.json", "domain.json"} < set(hub.repo("alice/reader").files())

        hub.connect(monkeypatch, WRITE, tmp_path / "reader")  # a cache with nothing in it
        hub.faults = [{"path": "confidence.json", "status": 403, "times": 9}]
        with pytest.raises(OSError, match="Whether there is confidence.json in alice/reader is not known"):
            load_reporter("alice/reader", device="cpu")
        hub.faults = []
        downloaded = load_reporter("alice/reader", revision="v1", device="cpu")
        report, own = downloaded.report(scans["zip"]), reporter.report(scans["zip"])
        assert (report.model, report.version) == ("alice/reader", hub.repo("alice/reader").tags["v1"])
        of_the_model = ("model", "version")
        here, there = ({k: v for k, v in told(r).items() if k not in of_the_model} for r in (own, report))
        assert there == here and there["calibration"]["n"] == 16

        hub.connect(monkeypatch, WRITE, tmp_path / "late_reader")
        push_during_the_load(hub, monkeypatch, "alice/reader")
        loaded = load_reporter("alice/reader", device="cpu")
        assert hub.repo("alice/reader").rev("main") != loaded.version == report.version
        assert loaded.volume_settings.num_slices == SETTINGS["num_slices"] and loaded.confidence
    finally:
        hub.stop()


def push_during_the_load(hub, monkeypatch, repo_id):
    """Lets somebody push other settings, and no confidence, while the weights are being downloaded."""
    route = hub.route

    async def push_first(request, path, fault):
        repo = hub.repo(repo_id)
        if path[0] == "_cdn" and len(repo.commits) == before:
            files = repo.files() | {"row_settings.json": json.dumps({"num_slices": 3}).encode()}
            del files["confidence.json"]
            repo.commit("main", files, "in between")
        return await route(request, path, fault)

    before = len(hub.repo(repo_id).commits)
    monkeypatch.setattr(hub, "route", push_first)


def test_a_series_of_a_volume_is_refused_because_it_would_have_no_effect(reader_dir, tmp_path):
    volume = read_scan(save_nifti(tmp_path / "scan.nii.gz", (1, 0, 0)))
    with pytest.raises(ValueError, match="series=2 has no effect on a Volume"):
        load_reporter(reader_dir, device="cpu").report(volume, series=2)
