"""`ct-rate-pairs report --dicomweb`: from a study in a real PACS to a report, and back into the study."""

import io
import json
import logging
import os
import signal
import subprocess
import time

import pytest
from helpers import orthanc, programs
from helpers.command import call
from helpers.dicom_series import PLANTED, ROOT, slices, write
from helpers.faulty_front import FaultyFront
from helpers.scan_reports import said_in
from helpers.tiny_reader import AFFINE, make_voxels, save_nifti, write_report
from PIL import Image
from pydicom import dcmread

from ct_rate_pairs.hub.pacs.server import PASSWORD
from ct_rate_pairs.hub.report import main


SHOWN = (1, 0, 1)
FILES = {"report.md", "report.html", "report.json", "sheet.png"}
OF_A_PATIENT = [word for word in PLANTED if word != ROOT]


@pytest.fixture
def pushed(pacs, tmp_path):
    pacs.push(write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE)))
    return pacs


def order(model, out, *arguments) -> int:
    places = ("--model_name_or_path", model, "--output_dir", out, "--device", "cpu")
    return call(main, *arguments, *places)


@pytest.mark.slow
def test_a_study_of_a_pacs_becomes_the_report_of_its_files_and_nobody_is_named(
    reader_dir, pushed, tmp_path, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "out").mkdir()
    assert order(reader_dir, tmp_path / "out", "--dicomweb", pushed.url, "--study", ROOT) == 0
    said = "".join(capfd.readouterr()) + caplog.text
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["text"] == write_report(SHOWN) and report["name"] == "scan"
    kept = b"".join(said_in(tmp_path / "out" / name) for name in FILES).decode("latin-1")
    assert not [word for word in (*PLANTED, orthanc.PASSWORD) if word in kept]
    assert not [word for word in (*OF_A_PATIENT, orthanc.PASSWORD) if word in said]


@pytest.mark.slow
def test_of_several_series_one_is_chosen_by_its_uid(reader_dir, pushed, tmp_path, capfd):
    pushed.push(write(tmp_path / "second", slices(make_voxels((0, 1, 0)), AFFINE, series=2)))
    study = ("--dicomweb", pushed.url, "--study", ROOT)
    assert order(reader_dir, tmp_path / "out", *study) == 2
    said = "".join(capfd.readouterr())
    assert f"--series UID):\n  {ROOT}.1: CT, 12 images" in said and not [w for w in OF_A_PATIENT if w in said]
    assert order(reader_dir, tmp_path / "out", *study, "--series", f"{ROOT}.2") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["text"] == write_report((0, 1, 0))


@pytest.mark.slow
def test_of_several_volumes_in_a_series_one_is_chosen_by_its_number(reader_dir, pacs, tmp_path, capfd):
    first = slices(make_voxels((0, 1, 0)), AFFINE, AcquisitionNumber=1)
    second = slices(make_voxels(SHOWN), AFFINE, AcquisitionNumber=2)
    for number, dataset in enumerate(second, start=100):
        dataset.SOPInstanceUID = f"{ROOT}.1.{number}"
    pacs.push(write(tmp_path / "first", first))
    pacs.push(write(tmp_path / "second", second))
    study = ("--dicomweb", pacs.url, "--study", ROOT)
    assert order(reader_dir, tmp_path / "out", *study) == 2
    assert f"as --series {ROOT}.1:1:" in capfd.readouterr().err
    assert order(reader_dir, tmp_path / "out", *study, "--series", f"{ROOT}.1:2") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["text"] == write_report(SHOWN)


@pytest.mark.slow
def test_a_server_that_dies_in_mid_series_leaves_no_report(reader_dir, pushed, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with FaultyFront(pushed.url, "cut", after=5) as front:
        assert order(reader_dir, tmp_path / "out", "--dicomweb", front.url, "--study", ROOT) == 2
    assert "no report is written of a part" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_report_goes_back_into_the_study_as_a_document_that_names_its_images(
    reader_dir, pushed, tmp_path, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    files = {name: tmp_path / name for name in ("sr.dcm", "report.fhir.json")}
    to = ("--sr", files["sr.dcm"], "--store_sr", "--fhir", files["report.fhir.json"], "--fhir_subject", "Patient/123")
    assert order(reader_dir, tmp_path / "out", "--dicomweb", pushed.url, "--study", ROOT, *to) == 0
    said = "".join(capfd.readouterr())
    assert "sr.dcm (it names the patient), a Structured Report in the study, on 127.0.0.1" in said
    assert not [word for word in (*OF_A_PATIENT, orthanc.PASSWORD) if word in said + caplog.text]
    (stored,) = pushed.kept("SR")
    document, own = dcmread(io.BytesIO(stored)), dcmread(files["sr.dcm"])
    assert document == own and files["sr.dcm"].stat().st_mode & 0o777 == 0o600
    assert (document.StudyInstanceUID, document.PatientName) == (ROOT, "DOE^JANE")
    (evidence,) = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    pushed_uids = {dcmread(path).SOPInstanceUID for path in (tmp_path / "series").iterdir()}
    assert {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence} <= pushed_uids
    told = subprocess.run(["dsrdump", "+Pl", files["sr.dcm"]], capture_output=True, text=True, check=True).stdout
    assert write_report(SHOWN) in told and '(87433001,SCT,"Pulmonary emphysema")' in told
    record = json.loads(files["report.fhir.json"].read_text())
    assert (record["conclusion"], record["status"]) == (write_report(SHOWN), "preliminary")
    assert record["subject"] == {"reference": "Patient/123"}
    assert not [word for word in PLANTED if word in files["report.fhir.json"].read_text()]
    # A second call adds a second document, which is told. The private file names the images, and no path.
    mapping = tmp_path / "mapping.json"
    from_server = ("--dicomweb", pushed.url, "--study", ROOT, "--max_new_tokens", "4")
    assert order(reader_dir, tmp_path / "again", *from_server, "--store_sr", "--mapping", mapping) == 0
    assert "a Structured Report in the study (beside 1 of earlier calls), on 127.0.0.1" in capfd.readouterr().out
    assert len(pushed.kept("SR")) == 2
    (mapped,) = json.loads(mapping.read_text())["scans"]
    assert mapped["path"] is None and {image["sop_instance_uid"] for image in mapped["slices"]} <= pushed_uids


@pytest.mark.slow
def test_a_folder_of_dicom_has_a_structured_report_too(reader_dir, tmp_path, capfd):
    series = write(tmp_path / "DOE_JANE", slices(make_voxels(SHOWN), AFFINE))
    assert order(reader_dir, tmp_path / "out", series, "--sr", tmp_path / "out.dcm") == 0
    assert dcmread(tmp_path / "out.dcm").PatientID == "4711-0815"
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert not [word for word in PLANTED if word in "".join(capfd.readouterr())]


@pytest.mark.slow
def test_a_report_that_the_pacs_does_not_take_is_told_and_stays_on_the_disk(
    reader_dir, pushed, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with FaultyFront(pushed.url) as front:  # which passes on no POST
        to = ("--sr", tmp_path / "sr.dcm", "--store_sr")
        assert order(reader_dir, tmp_path / "out", "--dicomweb", front.url, "--study", ROOT, *to) == 2
    assert "127.0.0.1 does not take the report" in capfd.readouterr().err
    assert (tmp_path / "sr.dcm").exists() and (tmp_path / "out" / "report.json").exists()
    assert pushed.kept("SR") == []


@pytest.mark.slow
def test_a_command_that_is_ended_in_mid_series_leaves_no_image_behind(reader_dir, pushed, tmp_path):
    (tmp_path / "kept").mkdir()
    words = ("-m", "ct_rate_pairs.hub.report", "--study", ROOT, "--model_name_or_path", reader_dir)
    with FaultyFront(pushed.url, "silent", after=5) as front:
        program = programs.start(
            *(*words, "--dicomweb", front.url, "--output_dir", tmp_path / "out"),
            env=os.environ | {"TMPDIR": str(tmp_path / "kept")},
        )
        while not any(tmp_path.glob("kept/*/00005.dcm")):
            assert program.poll() is None
            time.sleep(0.02)
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait(60) != 0
    assert list((tmp_path / "kept").iterdir()) == [] and not (tmp_path / "out").exists()


def test_a_wrong_password_is_told_and_not_shown(reader_dir, pushed, tmp_path, capfd, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(PASSWORD, "wrong-word")
    assert order(reader_dir, tmp_path / "out", "--dicomweb", pushed.url, "--study", ROOT) == 2
    said = "".join(capfd.readouterr())
    assert "HTTP 401: the login is wrong" in said and "wrong-word" not in said + caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "give a SCAN, or --dicomweb and --study"),
        (["{scan}", "--dicomweb", "http://127.0.0.1:1", "--study", "1.2"], "give either SCAN, or --dicomweb"),
        (["--dicomweb", "http://127.0.0.1:1"], "--dicomweb needs --study"),
        (["--dicomweb", "http://127.0.0.1:1", "--study", "1.2", "--series", "2"], "and not its number"),
        (["{scan}", "--series", "1.2.3"], "a UID only with --dicomweb"),
        (["{scan}", "--series", "0"], "give the number of a series, from 1"),
        (["{scan}", "--study", "1.2"], "--study has no effect without --dicomweb"),
        (["{scan}", "--store_sr"], "Write --sr FILE.dcm, and send that file"),
        (["{scan}", "--sr", "a.dcm"], "--sr needs a DICOM scan"),
        (["{pictures}", "--sr", "a.dcm"], "--sr needs a DICOM scan"),
        (["{scan}", "--sr", "no/such/a.dcm"], "its folder is not there"),
        (["{scan}", "{scan}", "--fhir", "a.json"], "--fhir is for a single scan"),
        (["{scan}", "--fhir_subject", "Patient/1"], "no effect without --fhir"),
        (["{scan}", "--fhir", "a.json", "--fhir_subject", "Jane Doe"], "no reference of FHIR"),
        (["--dicomweb", "http://me:pass@127.0.0.1:1", "--study", "1.2"], "A login does not belong into it"),
        (["--dicomweb", "http://127.0.0.1:1", "--study", "DOE-4711-0815"], "study is no UID"),
    ],
)
def test_options_that_contradict_each_other_are_told_before_anything_is_asked(
    reader_dir, tmp_path, capfd, monkeypatch, given, told
):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    (tmp_path / "pictures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pictures" / "1.png")
    words = (word.format(scan=scan, pictures=tmp_path / "pictures") for word in given)
    assert order(reader_dir, tmp_path / "out", *words) == 2
    said = capfd.readouterr().err
    assert told in said and not [word for word in ("me:pass", "DOE", "Jane") if word in said]
