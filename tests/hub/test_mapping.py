"""Which report is of which scan: names that a reader gives, and a private file. No other output tells it."""

import json
import zipfile
from pathlib import Path

import pytest
from helpers.command import call
from helpers.dicom_series import PLANTED, ROOT, enhanced, slices, write
from helpers.scan_reports import said_in
from helpers.tiny_reader import AFFINE, make_voxels, save_nifti

from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting.mapping import ScanMapping
from ct_rate_pairs.hub.reporting.names import read_names
from ct_rate_pairs.json_files import JSONFileError


SHOWN = (1, 0, 1)
SHORT = ("--max_new_tokens", 4)  # what a report says is not looked at here


def order(model, out, *arguments) -> int:
    """What the command exits with."""
    return call(main, *arguments, "--model_name_or_path", model, "--output_dir", out, "--device", "cpu", *SHORT)


def read(file: Path) -> dict:
    return json.loads(file.read_text())


def everything(folder: Path) -> str:
    """All that the texts in a folder and the names of its files tell."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(f"{file.relative_to(folder)} {said_in(file).decode()}" for file in files)


def test_the_mapping_of_a_dicom_scan_names_the_image_of_each_slice_and_nothing_else_does(reader_dir, tmp_path, capfd):
    series = write(tmp_path / "DOE_JANE", slices(make_voxels(SHOWN), AFFINE))
    private = tmp_path / "private.json"
    assert order(reader_dir, tmp_path / "out", series, "--name", "case 7", "--mapping", private) == 0
    mapped = read(private)
    assert private.stat().st_mode & 0o777 == 0o600 and mapped["notice"].startswith("Private:")
    (scan,) = mapped["scans"]
    assert (scan["name"], scan["path"]) == ("case 7", str(series))
    assert (scan["study_uid"], scan["series_uid"]) == (ROOT, f"{ROOT}.1")
    # Twelve planes, of which slices 1 to 6 lie between two; the writer counts images from the top.
    report = read(tmp_path / "out" / "report.json")
    assert [s["instance_number"] for s in scan["slices"]] == [place["index"] for place in report["slices"]]
    for of_slice, place in zip(scan["slices"], report["slices"], strict=True):
        assert of_slice["sop_instance_uid"] == f"{ROOT}.1.{13 - place['index']}" and of_slice["frame"] is None
        assert place["table_mm"] == 8 * (12 - place["index"])  # of that image
    said = capfd.readouterr()
    assert "Private:" in said.out
    told = everything(tmp_path / "out") + said.out.replace(str(private), "") + said.err
    assert not [word for word in (*PLANTED, str(series)) if word in told]
    # The same command again, of the same folder, is a new report; another folder's mapping is not overwritten.
    assert order(reader_dir, tmp_path / "out", series, "--name", "case 8", "--mapping", private) == 0
    assert [scan["name"] for scan in read(private)["scans"]] == ["case 7", "case 8"]
    assert order(reader_dir, tmp_path / "other", series, "--mapping", private) == 2
    assert "of the reports in another folder" in capfd.readouterr().err


@pytest.mark.slow
def test_frames_of_an_enhanced_ct_are_named_by_their_number(reader_dir, tmp_path):
    file = enhanced(slices(make_voxels(SHOWN), AFFINE))
    file.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    private = tmp_path / "private.json"
    assert order(reader_dir, tmp_path / "out", tmp_path / "enhanced.dcm", "--mapping", private) == 0
    of_slices = read(private)["scans"][0]["slices"]
    indices = [place["index"] for place in read(tmp_path / "out" / "report.json")["slices"]]
    assert [s["frame"] for s in of_slices] == [13 - index for index in indices]  # the frames run upwards
    assert {s["instance_number"] for s in of_slices} == {None} and len({s["sop_instance_uid"] for s in of_slices}) == 1


@pytest.mark.parametrize("place", ["out/private.json", "out/deep/../private.json", "out", "nowhere/private.json"])
def test_the_mapping_is_not_among_what_may_be_given_away(place, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"--mapping\) (must not lie in the folder of the reports|is a folder)"):
        ScanMapping(tmp_path / place, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ValueError, match="must not lie"):
        ScanMapping(tmp_path / "link" / "private.json", tmp_path / "out")


def test_a_file_that_is_no_mapping_is_not_overwritten(tmp_path):
    for content in ("name,patient", '{"scans": []}'):
        (tmp_path / "mine.json").write_text(content)
        with pytest.raises(JSONFileError, match=r"mine\.json"):
            ScanMapping(tmp_path / "mine.json", tmp_path / "out")
        assert (tmp_path / "mine.json").read_text() == content


@pytest.fixture
def batch(tmp_path):
    """Three scans of patients, the second of which is broken."""
    folder = tmp_path / "DOE"
    folder.mkdir()
    save_nifti(folder / "JANE_1.nii.gz", (1, 0, 0))
    (folder / "JANE_2.nii.gz").write_bytes(save_nifti(tmp_path / "b.nii.gz", (0, 1, 0)).read_bytes()[:-300])
    with zipfile.ZipFile(folder / "JANE_3.zip", "w") as archive:
        for file in write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE)).iterdir():
            archive.write(file, file.name)
    (tmp_path / "names.csv").write_text(
        f"path,name\nDOE/JANE_3.zip,case-3\nDOE/JANE_1.nii.gz,case-1\n{folder}/JANE_2.nii.gz,case-2\n"
    )
    return folder


@pytest.mark.slow
def test_a_batch_has_the_names_that_its_reader_gave_and_a_mapping_that_an_interruption_keeps(
    reader_dir, batch, tmp_path, capfd
):
    private, out = tmp_path / "private.json", tmp_path / "out"
    options = ("--names", tmp_path / "names.csv")
    assert order(reader_dir, out, batch, *options) == 1  # without a mapping: the finished scans are read for it later
    assert sorted(path.name for path in out.iterdir()) == ["case-1", "case-3", "failures.json"]
    assert read(out / "failures.json")[0]["name"] == "case-2" and read(out / "case-3/report.json")["name"] == "case-3"
    save_nifti(batch / "JANE_2.nii.gz", (0, 1, 0))  # repaired
    capfd.readouterr()
    assert order(reader_dir, out, batch, *options, "--mapping", private) == 0
    said = capfd.readouterr()
    assert said.out.count("finished before") == 2 and "Private:" in said.out
    scans = {scan["name"]: scan for scan in read(private)["scans"]}
    assert {name: Path(scan["path"]).name for name, scan in scans.items()} == {
        "case-1": "JANE_1.nii.gz",
        "case-2": "JANE_2.nii.gz",
        "case-3": "JANE_3.zip",
    }
    assert [len(scans[name]["slices"]) for name in ("case-1", "case-2", "case-3")] == [0, 0, 6]
    told = everything(out) + said.out.replace(str(private), "") + said.err
    assert not [word for word in (*PLANTED, str(batch)) if word in told]
    # Without names, finished scans keep those that they have.
    assert order(reader_dir, out, batch, "--mapping", private) == 0
    assert len(read(private)["scans"]) == 3 and capfd.readouterr().out.count("finished before") == 3
    # A name never moves to another scan.
    before = (out / "case-1" / "report.json").read_bytes()
    (tmp_path / "names.csv").write_text(
        "path,name\nDOE/JANE_3.zip,case-1\nDOE/JANE_1.nii.gz,case-3\nDOE/JANE_2.nii.gz,case-2\n"
    )
    assert order(reader_dir, out, batch, *options) == 1
    assert "the report case-1 is of another scan" in capfd.readouterr().err
    assert (out / "case-1" / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,name\na,../b\n", "row 2: a name has 1 to 64 letters"),
        ("path,name\na,\n", "row 2: a name has"),
        ("path,name\na,x\nb,X\n", "row 3: the path or the name occurs twice"),
        ("path,name\na,x\na,y\n", "row 3: the path or the name occurs twice"),
        ("path,name\nDOE,x\n", "row 2: its path is none of the 2 scans"),
        ("path,name\na,x\n", "names 1 of 2 scans. It lacks, in the order of their paths, number 2"),
        ("file,name\na,x\n", "needs the columns path and name"),
        ("path,name\n", "needs the columns path and name"),
        (b"path,name\n\xff,x\n", "is no CSV in UTF-8"),
    ],
)
def test_names_that_do_not_fit_the_scans_are_told_by_row_and_without_a_path(tmp_path, content, told):
    file = tmp_path / "names.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="--names") as raised:
        read_names(file, [tmp_path / "a", tmp_path / "b"])
    assert told in str(raised.value) and "DOE" not in str(raised.value) and str(tmp_path) not in str(raised.value)


def test_names_are_for_a_batch(reader_dir, tmp_path, capfd):
    assert (
        order(reader_dir, tmp_path / "out", save_nifti(tmp_path / "a.nii", SHOWN), "--names", tmp_path / "x.csv") == 2
    )
    assert "--names is for a batch" in capfd.readouterr().err
