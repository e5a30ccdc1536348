"""`python -m ct_rate_pairs.hub.report`: the files it writes, batches, and that none of it tells whose scan it was."""

import io
import json
import re
import socket
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import programs
from helpers.command import call
from helpers.dicom_series import PLANTED, ROOT, slices, write
from helpers.failing_decoders import fail_at
from helpers.tiny_reader import AFFINE, make_voxels, save_nifti, write_report
from PIL import Image
from pydicom import dcmwrite
from pydicom.uid import MediaStorageDirectoryStorage
from transformers import AutoTokenizer

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting import files
from ct_rate_pairs.hub.reporting.batch import new_name, report_batch
from ct_rate_pairs.hub.reporting.files import format_report, report_key, save
from ct_rate_pairs.hub.reporting.page import format_page
from ct_rate_pairs.hub.reporting.sheet import save_sheet
from ct_rate_pairs.hub.reporting.streamer import TerminalStreamer
from ct_rate_pairs.volumes.scan_files import find_scans


SHOWN = (1, 0, 1)
FILES = {"report.md", "report.html", "report.json", "sheet.png"}


def order(model, out, *arguments) -> int:
    """What the command exits with."""
    places = ("--model_name_or_path", model, "--output_dir", out)
    return call(main, *arguments, *places, "--device", "cpu")


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def traces(folder: Path, said: str, *, also: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """What of the planted patient is in the names and bytes of the files, in the sheets' metadata, and was said."""
    told = {"what was said": said.encode(), "file names": "\n".join(written(folder)).encode(), **written(folder)}
    for name, data in written(folder).items():
        if name.endswith(".html"):  # without its pictures, in which any three letters are there by chance
            told[name] = re.sub(rb"base64,[\w+/=]+", b"", data)
        if name.endswith(".png"):
            image = Image.open(io.BytesIO(data))
            told[f"metadata of {name}"] = repr((image.info, dict(image.getexif()))).encode()
            del told[name]
            # Of compressed pixels only what is long enough not to be there by chance
            told[f"bytes of {name}"] = b"" if not any(w.encode() in data for w in PLANTED if len(w) > 4) else data
    return [(word, where) for where, data in told.items() for word in (*PLANTED, *also) if word.encode() in data]


@pytest.mark.slow
def test_a_dicom_folder_becomes_a_report_a_sheet_and_a_stream_of_text(reader_dir, tmp_path, capfd):
    series = write(tmp_path / "DOE_JANE_19450102", slices(make_voxels(SHOWN), AFFINE))
    assert order(reader_dir, tmp_path / "out", series) == 0
    said = capfd.readouterr()
    assert said.out.startswith(write_report(SHOWN)) and "Not a medical device." in said.out
    assert set(written(tmp_path / "out")) == FILES
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["text"] == write_report(SHOWN) and report["name"] == "scan"
    assert report["notice"].startswith("Not a medical device.")
    stated = {finding["label"]: finding["slices"] for finding in report["findings"] if finding["stated"]}
    assert {label: sorted(numbers) for label, numbers in stated.items()} == {
        "Emphysema": [1, 2],
        "Pleural effusion": [5, 6],
    }
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert write_report(SHOWN) in markdown and "Not a medical device." in markdown
    assert next(line for line in markdown.splitlines() if "| Emphysema" in line).count("%") == 1
    image = Image.open(tmp_path / "out" / "sheet.png")
    assert image.width > 800 and len(image.convert("RGB").getcolors(1 << 24)) > 100
    assert not traces(tmp_path / "out", said.out + said.err, also=(series.name,))


@pytest.mark.slow
def test_no_file_of_a_batch_and_nothing_it_says_tells_whose_scans_they_are(reader_dir, tmp_path, capfd):
    folder = tmp_path / "JANE_DOE"
    one = write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE))
    folder.mkdir()
    with zipfile.ZipFile(folder / "DOE_4711-0815.zip", "w") as archive:
        for file in one.iterdir():
            archive.write(file, f"DOE_JANE/{file.name}")
    broken = slices(make_voxels(SHOWN), AFFINE)
    del broken[5]
    with zipfile.ZipFile(folder / "JANE_19450102.zip", "w") as archive:
        for file in write(tmp_path / "broken", broken).iterdir():
            archive.write(file, f"DOE_JANE/{file.name}")
    (folder / "DOE_20240229.nii.gz").write_bytes(b"DOE JANE 19450102")
    save_nifti(folder / "DOE_1.nii.gz", (0, 1, 0))
    assert order(reader_dir, tmp_path / "out", folder) == 1
    said = capfd.readouterr()
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert sorted(failure["error"].split(":")[0] for failure in failures) == ["series 1 of the scan", "the scan"]
    assert "2 of 4 scans are reported" in said.out
    assert not traces(tmp_path / "out", said.out + said.err, also=(str(folder),))


@pytest.fixture
def batch(tmp_path):
    """Three scans, the second of which is broken."""
    folder = tmp_path / "scans"
    folder.mkdir()
    save_nifti(folder / "a.nii.gz", (1, 0, 0))
    (folder / "b.nii.gz").write_bytes(save_nifti(tmp_path / "b.nii.gz", (0, 1, 0)).read_bytes()[:-300])
    save_nifti(folder / "c.nii.gz", (0, 0, 1))
    return folder


@pytest.mark.slow
def test_a_broken_scan_is_listed_and_does_not_stop_the_rest(reader_dir, batch, tmp_path, capfd):
    out = tmp_path / "out"
    assert order(reader_dir, out, batch) == 1
    texts = {name: json.loads((out / name / "report.json").read_text())["text"] for name in ("scan-001", "scan-003")}
    assert texts == {"scan-001": write_report((1, 0, 0)), "scan-003": write_report((0, 0, 1))}
    (failure,) = json.loads((out / "failures.json").read_text())
    assert (failure["name"], failure["number"]) == ("scan-002", 2) and "truncated" in failure["error"]
    assert set(written(out)) == {f"scan-00{n}/{file}" for n in (1, 3) for file in FILES} | {"failures.json"}
    assert "[2/3] scan-002: the scan: the gzip stream" in capfd.readouterr().err


@pytest.mark.slow
def test_a_scan_that_ends_its_reader_is_listed_and_does_not_stop_the_rest(
    reader_dir, tmp_path, monkeypatch, capfd, reads_apart
):
    (tmp_path / "scans").mkdir()
    for name in "ab":
        save_nifti(tmp_path / f"scans/{name}.nii.gz", SHOWN, seed=ord(name))
    fail_at("a.nii.gz", "crash", monkeypatch)
    assert order(reader_dir, tmp_path / "out", tmp_path / "scans") == 1
    (failure,) = json.loads((tmp_path / "out/failures.json").read_text())
    assert failure["name"] == "scan-001" and "ended by SIGSEGV" in failure["error"]
    assert (tmp_path / "out/scan-002/report.json").exists() and "Segmentation" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_scan_that_cannot_be_opened_is_listed_by_its_number(reader_dir, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    save_nifti(Path("scans/B.nii"), SHOWN)
    with socket.socket(socket.AF_UNIX) as closed:  # opening it fails, for root too
        closed.bind("scans/DOE.nii")
        assert order(reader_dir, "out", "scans") == 1
    (failure,) = json.loads(Path("out/failures.json").read_text())
    assert (failure["name"], failure["number"], failure["digest"]) == ("scan number 2", 2, None)
    assert failure["error"].startswith("the scan: cannot be read") and "DOE" not in capfd.readouterr().err
    assert Path("out/scan-001/report.json").exists()


@pytest.mark.slow
def test_a_report_that_is_cut_is_told_in_every_place(reader_dir, batch, tmp_path, capfd, caplog):
    for file in batch.iterdir():
        if file.name != "a.nii.gz":
            file.unlink()
    save_nifti(batch / "c.nii.gz", (0, 1, 0))
    assert order(reader_dir, tmp_path / "one", batch / "a.nii.gz", "--max_new_tokens", "4") == 0
    assert "The report of scan met its limit of 4 tokens. It is cut" in caplog.text
    capfd.readouterr()
    assert json.loads((tmp_path / "one" / "report.json").read_text())["cut"] is True
    assert "> - The report met its limit of tokens. It is cut" in (tmp_path / "one" / "report.md").read_text()
    assert order(reader_dir, tmp_path / "both", batch, "--max_new_tokens", "4") == 0
    told = capfd.readouterr().out
    assert told.count("(cut at the limit of tokens)") == 2
    assert "2 of 2 reports are cut at their limit of tokens (scan-001, scan-002)" in told
    assert order(reader_dir, tmp_path / "whole", batch) == 0
    assert "(cut at" not in capfd.readouterr().out
    assert json.loads((tmp_path / "whole" / "scan-001" / "report.json").read_text())["cut"] is False


@pytest.mark.slow
def test_a_batch_goes_on_where_it_stopped(reader_dir, batch, tmp_path, capfd):
    out = tmp_path / "out"
    order(reader_dir, out, batch)
    first = {name: data for name, data in written(out).items() if name.startswith("scan-001")}
    (out / "scan-003" / "report.json").unlink()  # as if it had been stopped there
    save_nifti(batch / "b.nii.gz", (0, 1, 0))  # repaired
    capfd.readouterr()
    assert order(reader_dir, out, batch) == 0
    said = capfd.readouterr().out
    assert said.count("finished before") == 1 and "[1/3] scan-001: finished before" in said
    assert {name: data for name, data in written(out).items() if name.startswith("scan-001")} == first
    reports = {path.parent.name: json.loads(path.read_text())["text"] for path in out.glob("*/report.json")}
    assert sorted(reports.values()) == sorted(write_report(shown) for shown in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    assert not (out / "failures.json").exists()


@pytest.mark.slow
def test_a_finished_scan_is_known_by_its_content_whatever_it_is_called(reader_dir, tmp_path):
    """Files that are renamed, or put ahead of the others, neither move a report nor overwrite another's."""
    reporter, out = load_reporter(reader_dir, device="cpu"), tmp_path / "out"
    paths = [save_nifti(tmp_path / f"{name}.nii.gz", shown) for name, shown in (("m", (1, 0, 0)), ("n", (0, 1, 0)))]
    assert report_batch(reporter, paths, out) == []
    before = written(out)
    first = save_nifti(tmp_path / "a.nii.gz", (0, 0, 1))
    assert report_batch(reporter, [first, paths[1], paths[0].rename(tmp_path / "z.nii.gz")], out) == []
    after = written(out)
    assert {name: after[name] for name in before} == before
    assert json.loads(after["scan-003/report.json"])["text"] == write_report((0, 0, 1))


@pytest.mark.slow
def test_a_dicom_scan_is_known_by_its_files_whatever_they_are_called(reader_dir, tmp_path):
    reporter, out = load_reporter(reader_dir, device="cpu"), tmp_path / "out"
    folder = write(tmp_path / "a", slices(make_voxels(SHOWN), AFFINE))
    report_batch(reporter, [folder], out)
    first = sorted(folder.iterdir())[0]
    first.rename(folder / "z.dcm")
    (folder / ".DS_Store").write_bytes(b"left behind")
    assert report_batch(reporter, [folder.rename(tmp_path / "b")], out) == []
    assert [path.name for path in out.iterdir()] == ["scan-001"]


@pytest.mark.slow
def test_another_series_or_length_is_another_report(reader_dir, tmp_path, capfd):
    reporter, out = load_reporter(reader_dir, device="cpu"), tmp_path / "out"
    folder = write(tmp_path / "DOE", slices(make_voxels((0, 1, 0)), AFFINE))
    write(folder, slices(make_voxels(SHOWN), AFFINE, series=2))
    (failure,) = report_batch(reporter, [folder], out)
    assert failure["name"] == "scan-001" and "2 of its 2 series" in failure["error"]
    for options in ({"series": 1}, {"series": 2}, {"series": 2, "max_new_tokens": 3}, {"series": 2}):
        assert report_batch(reporter, [folder], out, **options) == []
    reports = [json.loads((out / f"scan-00{number}" / "report.json").read_text()) for number in (1, 2, 3)]
    assert [report["text"] for report in reports[:2]] == [write_report((0, 1, 0)), write_report(SHOWN)]
    assert len(reports[2]["text"]) < len(reports[1]["text"])
    assert [(r["series"], r["max_new_tokens"]) for r in reports] == [(1, 1200), (2, 1200), (2, 3)]
    assert len(list(out.iterdir())) == 3 and capfd.readouterr().out.count("finished before") == 1


@pytest.mark.slow
def test_a_report_that_is_cut_off_while_it_is_written_leaves_no_earlier_one_in_its_place(
    reader_dir, tmp_path, monkeypatch
):
    reporter = load_reporter(reader_dir, device="cpu")
    report = reporter.report(save_nifti(tmp_path / "a.nii", SHOWN))
    save(report, tmp_path / "out", {"digest": "a"})
    monkeypatch.setattr(files, "save_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(report, tmp_path / "out", {"digest": "b"})
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_report_of_something_else_is_named(reader_dir, batch, tmp_path, capfd):
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "report.json").write_text('{"model": "m", "version": "v"}')
    assert order(reader_dir, tmp_path / "out", batch) == 2
    assert "report.json is no report of this command, without ['digest'" in capfd.readouterr().err


@pytest.mark.parametrize("damage", [b"", b'{"model": "x"', b"\xff"])
@pytest.mark.slow
def test_what_a_full_disk_has_cut_is_told_and_mended_by_the_same_command(reader_dir, batch, tmp_path, caplog, damage):
    out = tmp_path / "out"
    assert order(reader_dir, out, batch) == 1
    whole = {name: (out / name / "report.json").read_text() for name in ("scan-001", "scan-003")}
    (out / "scan-001" / "report.json").write_bytes(damage)
    (out / "failures.json").write_bytes(damage)
    assert order(reader_dir, out, batch) == 1
    assert "scan-001/report.json is not JSON" in caplog.text and "failures.json is not JSON" in caplog.text
    assert json.loads((out / "scan-001" / "report.json").read_text())["text"] == json.loads(whole["scan-001"])["text"]
    assert (out / "scan-003" / "report.json").read_text() == whole["scan-003"]
    assert len(json.loads((out / "failures.json").read_text())) == 1


def test_a_name_in_the_list_of_failures_is_no_way_out_of_the_folder(reader_dir, batch, tmp_path, capfd):
    out = tmp_path / "out"
    out.mkdir()
    digests = [report_key(path, None, 12)["digest"] for path in sorted(batch.iterdir())]
    for name in ("../outside", str(tmp_path / "outside"), "scan-001/../../outside"):
        failures = [{"name": name, "number": 1, "digest": digest, "error": ""} for digest in digests]
        (out / "failures.json").write_text(json.dumps(failures))
        assert order(reader_dir, out, batch) == 2
        assert "failures.json: the field 0.name" in capfd.readouterr().err
    assert not (tmp_path / "outside").exists() and not list(out.rglob("report.json"))


def test_a_folder_of_volumes_and_dicom_studies_holds_a_scan_each(tmp_path):
    """A study is one scan, its series in a folder or in several; what is hidden or no scan is none."""
    root = tmp_path / "root"
    (root / "p1" / "study").mkdir(parents=True)
    (root / "folder.nii").mkdir()
    few = slices(make_voxels(SHOWN), AFFINE)[:2]
    other = slices(make_voxels(SHOWN), AFFINE, StudyInstanceUID=f"{ROOT}.9")[:2]
    for number in (1, 2):
        write(root / "p1" / "study" / f"series{number}", few)
    write(root / "p2" / "deep", other)
    save_nifti(root / "one.nii.gz", SHOWN)
    for name in ("._k.mha", "notes.txt", "p2/.hidden.zip"):
        (root / name).write_bytes(b"junk")
    scans, batch = find_scans([root])
    assert batch and scans == [root / "one.nii.gz", root / "p1" / "study", root / "p2" / "deep"]
    assert find_scans([root / "p1"]) == ([root / "p1" / "study"], False)
    write(root / "p1" / "other", other)  # p1 is no longer that of one study, and study is
    assert find_scans([root / "p1"]) == ([root / "p1" / "other", root / "p1" / "study"], True)
    write(root / "p1" / "third", few)  # the study has no folder to itself
    series = [root / "p1" / name for name in ("other", "study/series1", "study/series2", "third")]
    assert find_scans([root / "p1"]) == (series, True)


def test_a_damaged_dicom_folder_is_a_scan_that_fails_and_a_disc_s_directory_is_none(tmp_path):
    root = tmp_path / "disc"
    for name, uid in (("a", ROOT), ("b", f"{ROOT}.9")):
        write(root / name, slices(make_voxels(SHOWN), AFFINE, StudyInstanceUID=uid)[:2])
    for file in (root / "a").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    directory = slices(make_voxels(SHOWN), AFFINE, SOPClassUID=MediaStorageDirectoryStorage)[0]
    del directory.Rows, directory.SeriesInstanceUID
    dcmwrite(root / "DICOMDIR", directory, enforce_file_format=True)
    assert find_scans([root]) == ([root / "a", root / "b"], True)


@pytest.mark.slow
def test_the_series_of_a_study_in_folders_of_their_own_are_chosen_from(reader_dir, tmp_path, capfd):
    for number, shown in ((1, (0, 1, 0)), (2, SHOWN)):
        write(tmp_path / "DOE" / f"{number}", slices(make_voxels(shown), AFFINE, series=number))
    out = tmp_path / "out"
    assert order(reader_dir, out, tmp_path / "DOE") == 2
    assert "2 of its 2 series are axial CT" in capfd.readouterr().err
    assert order(reader_dir, out, tmp_path / "DOE", "--series", 2) == 0
    assert capfd.readouterr().out.startswith(write_report(SHOWN)) and set(written(out)) == FILES


@pytest.mark.slow
def test_reports_of_two_models_are_not_mixed_in_one_folder(reader_dir, batch, tmp_path):
    reporter, out = load_reporter(reader_dir, device="cpu"), tmp_path / "out"
    report_batch(reporter, [batch / "a.nii.gz"], out)
    reporter.version = "another"
    with pytest.raises(ValueError, match="out holds reports of reader, version .* choose another --output_dir"):
        report_batch(reporter, [batch / "c.nii.gz"], out)


@pytest.mark.slow
def test_a_batch_takes_the_names_of_ct_rate_and_only_those(reader_dir, tmp_path):
    for name in ("valid_4711_doe_19450102.nii.gz", "train_19450102_jane_4711.zip", "train_123456_a_1.nii.gz"):
        assert new_name(Path(name), set()) == "scan-001"
    names = ("valid_7_a_1.nii.gz", "DOE.nii")
    paths = [save_nifti(tmp_path / name, (1, 0, 0), seed) for seed, name in enumerate(names)]
    assert order(reader_dir, tmp_path / "out", *paths) == 0
    assert {path.parent.name for path in (tmp_path / "out").glob("*/report.json")} == {"valid_7_a_1", "scan-001"}


@pytest.mark.slow
def test_series_are_listed_and_one_is_chosen(reader_dir, tmp_path, capfd):
    folder = write(tmp_path / "DOE", slices(make_voxels((0, 1, 0)), AFFINE))
    write(folder, slices(make_voxels(SHOWN), AFFINE, series=2))
    out = tmp_path / "out"
    assert order(reader_dir, out, folder) == 2
    said = capfd.readouterr()
    assert "2 of its 2 series are axial CT" in said.err and "--series" in said.err and "2: CT, 12 slices" in said.err
    assert "Traceback" not in said.err and not out.exists()
    assert order(reader_dir, out, folder, "--series", 2) == 0
    assert capfd.readouterr().out.startswith(write_report(SHOWN))


@pytest.mark.slow
def test_a_name_is_given_by_the_user_and_by_nothing_else(reader_dir, batch, tmp_path, capfd):
    assert order(reader_dir, tmp_path / "out", batch / "a.nii.gz", "--name", "case 7") == 0
    assert (tmp_path / "out" / "report.md").read_text().startswith("# Chest CT report: case 7\n")
    assert order(reader_dir, tmp_path / "out", batch, "--name", "case 7") == 2
    assert "--name is for a single scan" in capfd.readouterr().err


def test_what_is_not_there_is_told_at_once_and_without_its_path(tmp_path, capfd):
    assert order(tmp_path, tmp_path / "out", tmp_path / "DOE.nii.gz") == 2
    said = capfd.readouterr().err
    assert "SCAN number 1: there is no such file or folder." in said and "DOE" not in said


def test_a_terminal_shows_the_name_that_is_meant_and_a_log_does_not(tmp_path, capsys, monkeypatch):
    (tmp_path / "DOE.nii.gz").touch()
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda shown=is_terminal: shown)
        assert order(tmp_path, tmp_path / "out", tmp_path / "DOE.nii") == 2
        assert (f"(is {tmp_path / 'DOE.nii.gz'} meant?)" in capsys.readouterr().err) == is_terminal


def test_a_model_that_cannot_be_loaded_and_a_file_for_out_are_told_without_a_traceback(tmp_path, capfd):
    scan = save_nifti(tmp_path / "a.nii", SHOWN)
    for model, cause in (
        (tmp_path, "holds no model"),
        ("a b/c", "There is no folder"),
        (tmp_path / "none", "There is no folder"),
    ):
        assert order(model, tmp_path / "out", scan) == 2
        said = capfd.readouterr().err
        assert said.startswith("error: ") and cause in said and "Traceback" not in said
    assert order(tmp_path, scan, scan) == 2
    assert "--output_dir is a file" in capfd.readouterr().err


@pytest.mark.slow
def test_a_report_without_findings_and_without_confidence_is_written_too(reader_dir, tmp_path):
    reporter = load_reporter(reader_dir, device="cpu")
    reporter.confidence = None
    report = reporter.report(save_nifti(tmp_path / "a.nii", (0, 0, 0)))
    save_sheet(report, tmp_path / "sheet.png")
    markdown = format_report(report)
    assert "None of the 18." in markdown and "no confidence is given" in markdown and "%" not in markdown


@pytest.mark.slow
def test_a_scan_whose_pixels_hold_text_is_told_beside_its_pictures(reader_dir, tmp_path):
    folder = write(tmp_path / "DOE", slices(make_voxels(SHOWN), AFFINE, BurnedInAnnotation="YES"))
    assert order(reader_dir, tmp_path / "out", folder) == 0
    kept, told = (tmp_path / "out" / "report.json").read_text(), (tmp_path / "out" / "report.md").read_text()
    (warning,) = json.loads(kept)["told"]
    assert "BurnedInAnnotation is YES in" in warning and "> - series 1 of the scan: Burned" in told
    report = load_reporter(reader_dir, device="cpu").report(folder)
    assert warning in report.warnings and "BurnedInAnnotation is YES" in format_page(report)


@pytest.mark.slow
def test_what_a_model_writes_is_text_and_nothing_else_in_the_terminal_and_in_the_report(reader_dir, tmp_path, capfd):
    hostile = "There is \x1b[31ma ![x](https://evil.example/x.png) <b>nodule</b>\u202e on the left.\n## Findings\x9b2J"
    report = load_reporter(reader_dir, device="cpu").report(save_nifti(tmp_path / "a.nii.gz", (1, 0, 0)))
    findings = [replace(f, sentence=hostile) if f.stated else f for f in report.findings]
    assert any(finding.stated for finding in findings)
    save(replace(report, name=hostile, text=hostile, findings=findings, told=[hostile], model=hostile), tmp_path, {})
    told, kept = ((tmp_path / name).read_text() for name in ("report.md", "report.json"))
    for shown in (told, kept):
        assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "](https:" not in told and "<b>" not in told and "\n## Findings\\" not in told
    assert json.loads(kept)["text"] == hostile
    streamer = TerminalStreamer(AutoTokenizer.from_pretrained(reader_dir))
    streamer.on_finalized_text(hostile, stream_end=True)
    assert "a ![x](https" in (said := capfd.readouterr().out) and not {"\x1b", "\x9b", "\u202e"} & set(said)


@pytest.mark.slow
def test_the_command_runs_as_its_help_says(reader_dir, tmp_path):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    command = ["-m", "ct_rate_pairs.hub.report", scan, "--model_name_or_path", reader_dir]
    done = programs.run(*command, "--output_dir", tmp_path / "out", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(write_report(SHOWN)) and set(written(tmp_path / "out")) == FILES
