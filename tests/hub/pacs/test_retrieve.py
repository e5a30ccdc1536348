"""A series comes whole from a real PACS or not at all, and no message names a patient or a login."""

import logging
import subprocess
import time
import traceback
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.dicom_series import PLANTED, ROOT, compress, enhanced, slices, write
from helpers.faulty_front import FaultyFront
from helpers.orthanc import PASSWORD as SECRET
from helpers.tiny_reader import AFFINE, make_voxels
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from ct_rate_pairs.hub.pacs import DicomWebServer, PacsError, retrieved_series, store_instance
from ct_rate_pairs.hub.pacs.server import PASSWORD, TOKEN, USER
from ct_rate_pairs.volumes.scan_files import read_scan


STUDY, SERIES = ROOT, f"{ROOT}.1"
# The UID of the study is what the user gives, and UIDs of series are what is chosen by.
OF_A_PATIENT = [word for word in PLANTED if word != ROOT]


@pytest.fixture
def heard(caplog, capfd):
    """All that is logged at any level or shown."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text + "".join(capfd.readouterr())


@pytest.fixture
def pushed(pacs, tmp_path):
    pacs.push(write(tmp_path / "series", slices(make_voxels((1, 0, 1)), AFFINE)))
    return pacs


def connect(url: str, **options) -> DicomWebServer:
    return DicomWebServer(url, backoff=0.01, **options)


@contextmanager
def refused(match: str, heard, kind=PacsError):
    """Retrieving fails with a message that tells the remedy, and nothing of the patient or the login."""
    with pytest.raises(kind, match=match) as raised:
        yield
    told = "".join(traceback.format_exception_only(raised.value)) + str(raised.value.__cause__) + heard()
    assert not [word for word in (*OF_A_PATIENT, SECRET, "wrong-word") if word in told]


def retrieve(server: DicomWebServer, series: str | None = None, study: str = STUDY) -> np.ndarray:
    with retrieved_series(server, study, series) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        return read_scan(folder).stored.copy()


def test_a_series_comes_from_a_pacs_as_it_was_pushed(pushed, tmp_path, heard):
    came, own = retrieve(connect(pushed.url)), read_scan(tmp_path / "series").stored
    np.testing.assert_array_equal(came, own)
    said = heard()
    assert "12/12" in said and not [word for word in (*PLANTED, SECRET) if word in said]


@pytest.mark.parametrize(("login", "match"), [("wrong-word", "401: the login is wrong"), (None, "asks for a login")])
def test_a_wrong_password_and_none_are_told_apart(pushed, monkeypatch, heard, login, match):
    for name in (USER, PASSWORD):
        monkeypatch.setenv(name, login) if login else monkeypatch.delenv(name)
    with refused(match, heard):
        retrieve(connect(pushed.url))


def test_a_token_is_sent_in_its_header_alone(pushed, monkeypatch, heard):
    for name in (USER, PASSWORD):
        monkeypatch.delenv(name)
    monkeypatch.setenv(TOKEN, "wrong-word")
    with FaultyFront(pushed.url) as front, refused("401: the login is wrong", heard):
        retrieve(connect(front.url))
    assert {headers["Authorization"] for headers in front.headers} == {"Bearer wrong-word"}
    assert "wrong-word" not in "".join(front.paths) + repr(connect(pushed.url))


def test_a_study_or_series_that_is_not_there_is_told(pushed, heard):
    with refused("has no series of this study. Check the StudyInstanceUID", heard):
        retrieve(connect(pushed.url), study="1.2.3")
    with refused(f"no such series. Choose one by its UID(.|\n)*{SERIES}: CT, 12 images", heard):
        retrieve(connect(pushed.url), series="1.2.3")


@pytest.mark.parametrize("path", ["", "/app/explorer.html", "/app"])
def test_an_address_that_is_no_dicomweb_is_told(pushed, heard, path):
    with refused("Check the UIDs, and the address|Check the address", heard):
        retrieve(connect(pushed.rest + path))


def test_of_several_axial_series_one_is_asked_for_by_a_list_without_patients(pushed, tmp_path, heard):
    pushed.push(write(tmp_path / "second", slices(make_voxels((0, 1, 0)), AFFINE, series=2)))
    with refused(f"2 of the study's 2 series are axial(.|\n)*{ROOT}.1: CT, 12 images(.|\n)*{ROOT}.2: CT", heard):
        retrieve(connect(pushed.url))
    came, own = retrieve(connect(pushed.url), series=f"{ROOT}.2"), read_scan(tmp_path / "second").stored
    np.testing.assert_array_equal(came, own)


@pytest.mark.slow
def test_the_one_axial_ct_is_chosen_and_the_choice_is_told(pushed, tmp_path, caplog):
    coronal = AFFINE[:, [0, 2, 1, 3]]
    pushed.push(write(tmp_path / "coronal", slices(make_voxels((0, 1, 0)), coronal, series=2)))
    pushed.push(write(tmp_path / "localizer", slices(make_voxels((0, 1, 0)), AFFINE, series=3)[:2]))
    pushed.push(write(tmp_path / "pet", slices(make_voxels((0, 1, 0)), AFFINE, series=4, Modality="PT")))
    np.testing.assert_array_equal(retrieve(connect(pushed.url)), read_scan(tmp_path / "series").stored)
    assert "One of the study's 4 series was chosen (CT, 12 images, pixels of 4 x 4 mm, kernel B30f)" in caplog.text


def test_an_enhanced_ct_in_one_file_is_a_series_too(pacs, tmp_path):
    file = enhanced(slices(make_voxels((1, 0, 1)), AFFINE, SliceThickness=8, SpacingBetweenSlices=8))
    pacs.push(write(tmp_path / "series", [file]))
    np.testing.assert_array_equal(retrieve(connect(pacs.url)), read_scan(tmp_path / "series").stored)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_compressed_series_comes_as_the_pacs_keeps_it(pacs, tmp_path, syntax):
    folder = write(tmp_path / "series", slices(make_voxels((1, 0, 1)), AFFINE))
    own = read_scan(folder).stored.copy()
    for path in folder.iterdir():
        if syntax == JPEGLSLossless:
            subprocess.run(["dcmcjpls", path, path], check=True)
        else:
            compress(path, syntax)
    pacs.push(folder)
    with retrieved_series(connect(pacs.url), STUDY) as came:
        assert {dcmread(path).file_meta.TransferSyntaxUID for path in came.iterdir()} == {syntax}
        np.testing.assert_array_equal(read_scan(came).stored, own)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("fault", ["cut", "unnoticed", "503"])
def test_a_server_that_dies_in_mid_series_gives_no_part_of_it(pushed, heard, fault):
    with (
        FaultyFront(pushed.url, fault, after=5) as front,
        refused("image 6 of 12.*5 of the 12 images of the series had arrived, and are removed", heard),
    ):
        retrieve(connect(front.url))
    assert sum("/instances/" in path and "metadata" not in path for path in front.paths) == 5 + 4  # tries


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "unnoticed", "503"])
def test_a_fault_that_passes_costs_no_more_than_a_try(pushed, tmp_path, fault):
    with FaultyFront(pushed.url, fault, after=5, times=2) as front:
        np.testing.assert_array_equal(retrieve(connect(front.url)), read_scan(tmp_path / "series").stored)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_a_slow_server_is_not_waited_for_without_end(pushed, heard, fault):
    start = time.monotonic()
    with FaultyFront(pushed.url, fault) as front, refused("image 1 of 12: no answer within", heard):
        retrieve(connect(front.url, timeout=0.3, seconds=0.5, tries=2))
    assert time.monotonic() - start < 30


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("page", "does not give image 4 of 12 in the form of DICOMweb"),
        ("other", "another image than the one that was asked for .image 4"),
        ("elsewhere", "sends on to another address"),
        ("deflated", "keeps the series deflated"),  # which could inflate to anything
    ],
)
def test_what_is_not_the_image_that_was_asked_for_is_not_taken(pushed, heard, fault, match):
    with FaultyFront(pushed.url, fault, after=3) as front, refused(match, heard):
        retrieve(connect(front.url))


@pytest.mark.slow
def test_a_certificate_that_nobody_vouches_for_is_refused(pushed, tmp_path, heard, monkeypatch):
    path = tmp_path / "server.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=pacs"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "certificate.pem"]
    subprocess.run(made, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with FaultyFront(pushed.url, certificate=path) as front:
        with refused("certificate or encryption is not accepted.*REQUESTS_CA_BUNDLE", heard):
            retrieve(connect(front.url))
        assert front.paths == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
        assert retrieve(connect(front.url)).shape == (12, 28, 28)


def test_a_series_that_is_still_arriving_is_not_taken_for_whole(pushed, heard, monkeypatch):
    server = connect(pushed.url)
    listed = server.client.search_for_instances
    monkeypatch.setattr(server.client, "search_for_instances", lambda *a, offset: listed(*a)[offset:7])
    with refused("counts 12 instances in the series, and lists 7.*try again later", heard):
        retrieve(server, SERIES)


def test_a_server_that_is_not_there_is_told(pacs, heard):
    with refused("no connection, or it broke. Check the address", heard):
        retrieve(connect("http://127.0.0.1:1/dicom-web"))


@pytest.mark.parametrize(
    ("url", "match"),
    [
        (f"https://alice:{SECRET}@pacs.example.org/dicom-web", "A login does not belong into it"),
        (f"https://pacs.example.org/dicom-web?token={SECRET}", "a part behind"),
        (f"https://[alice:{SECRET}@pacs", "has to be the base"),
        ("pacs.example.org", "has to be the base"),
        ("http://pacs.example.org/dicom-web", "The login would go to pacs.example.org unencrypted"),
    ],
)
def test_an_address_that_would_give_the_login_away_is_refused(monkeypatch, url, match):
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setenv(USER, "alice")
    monkeypatch.setenv(PASSWORD, SECRET)
    with pytest.raises(ValueError, match=match) as raised:
        DicomWebServer(url)
    assert SECRET not in str(raised.value)


def test_a_scan_travels_unencrypted_only_if_asked_for(monkeypatch):
    for name in (TOKEN, USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="everybody on the way could read it.*--allow_http"):
        DicomWebServer("http://pacs.example.org/dicom-web")
    DicomWebServer("http://pacs.example.org/dicom-web", allow_http=True)


def test_half_a_login_and_two_are_refused(monkeypatch):
    monkeypatch.setenv(USER, "alice")
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(ValueError, match=f"{PASSWORD} is not: set both"):
        DicomWebServer("https://pacs.example.org")
    monkeypatch.setenv(PASSWORD, SECRET)
    monkeypatch.setenv(TOKEN, SECRET)
    with pytest.raises(ValueError, match="are both set"):
        DicomWebServer("https://pacs.example.org")


def test_what_a_pacs_refuses_to_store_is_told(pushed, tmp_path, heard):
    broken = dcmread(next((tmp_path / "series").iterdir()))
    broken.SOPInstanceUID = f"{ROOT}.9.9"
    del broken.PatientID, broken.SeriesInstanceUID
    with refused("does not|has not stored", heard):
        store_instance(connect(pushed.url), broken)
