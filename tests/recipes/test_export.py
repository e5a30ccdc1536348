"""`ct-rate-pairs export`: an interrupted night goes on, and one bad scan does not end it."""

import json

import numpy as np
import pytest
from helpers.own_scans import own_rows, write_table
from helpers.prepare import use_a_thread
from helpers.tree import SPACING, write_tree
from PIL import Image

from ct_rate_pairs.export import ct_clip, radfm
from ct_rate_pairs.prepare.shards import prepare
from ct_rate_pairs.recipes import export
from ct_rate_pairs.sources import open_source


def run(tree, out, *options, of="m3d"):
    export.main(["--for", of, "--data_dir", str(tree), "--output_dir", str(out), *options])
    return json.loads((out / "manifest.json").read_text())


@pytest.mark.slow
def test_a_bad_scan_is_listed_and_the_next_run_writes_only_what_is_missing(tmp_path, capsys, caplog):
    tree = write_tree(tmp_path / "tree", scans=4)
    (bad,) = tree.glob("dataset/valid_fixed/valid_2/*/*.nii.gz")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:300])
    out = tmp_path / "out"
    manifest = run(tree, out, "--max_eval_samples", "3")
    assert manifest["scans"] == {f"valid_{i}_a_1.nii.gz": f"scans/valid_{i}_a_1.npy" for i in (1, 3)}
    assert (
        list(manifest["failed"]) == ["valid_2_a_1.nii.gz"] and "truncated" in manifest["failed"]["valid_2_a_1.nii.gz"]
    )
    assert "1 scans could not be read" in capsys.readouterr().out and "Left out: " in caplog.text
    array = np.load(out / "scans/valid_1_a_1.npy")
    assert array.shape == (1, 32, 256, 256) == tuple(manifest["shape"]) and array.dtype == np.float32
    assert manifest["prompts"][0].endswith("<im_patch>Please generate a medical report based on this image.")
    assert manifest["sources"]["Data/process/m3d_cap_data_prepare.py"].startswith("ac364a9a")

    bad.write_bytes(whole)
    (out / "scans/valid_3_a_1.npy").write_text("as it was written before")
    before = {path: path.stat().st_mtime_ns for path in (out / "scans").iterdir()}
    manifest = run(tree, out)
    assert list(manifest["scans"]) == [f"valid_{i}_a_1.nii.gz" for i in (1, 3, 2, 4)] and not manifest["failed"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    listed = json.loads((out / "M3D_Cap.json").read_text())["test"]
    assert [(out / row["text"]).read_text() for row in listed] == list(manifest["scans"])
    assert all((out / row["image"]).is_file() for row in listed)

    files, written = sorted(out.rglob("*")), (out / "manifest.json").read_text()
    with pytest.raises(ValueError, match="holds scans that were exported otherwise: axes"):
        run(tree, out, of="radfm")
    with pytest.raises(ValueError, match="holds scans that were exported otherwise: axes"):
        run(tree, out, of="ct-clip")  # which has files besides the scans
    with pytest.raises(ValueError, match="holds scans that were exported otherwise: cohort"):  # of the same names
        run(write_tree(tmp_path / "other", scans=5), out)
    assert files == sorted(out.rglob("*")) and written == (out / "manifest.json").read_text()


@pytest.mark.slow
def test_each_model_s_scripts_find_their_lists(tmp_path, tree, monkeypatch):
    monkeypatch.setattr(ct_clip, "SIZE", (24, 48, 48))  # arrays of the true size have 221 MB
    monkeypatch.setattr(radfm, "SIDE", 16)
    one = ("--max_eval_samples", "1")
    run(tree, tmp_path / "radfm", *one, of="radfm")
    (listed,) = json.loads((tmp_path / "radfm/radiology_article_npy_test.json").read_text())
    assert listed["finding"] == "valid_1_a_1.nii.gz" and np.load(tmp_path / "radfm" / listed["npy_path"]).shape[0] == 1
    assert json.loads((tmp_path / "radfm/caption_prompt.json").read_text())["caption_prompt"]

    run(tree, tmp_path / "ct2rep", *one, of="ct2rep")
    with np.load(tmp_path / "ct2rep/scans/valid_1/valid_1_a/valid_1_a_1.npz") as file:
        assert file["arr_0"].shape == (24, 48, 48)

    run(tree, tmp_path / "ct-chat", *one, of="ct-chat")
    (asked,) = json.loads((tmp_path / "ct-chat/merged_output_valid.json").read_text())
    human, gpt = asked["conversations"]
    assert asked["image"] == "valid_1_a_1.nii.gz" and human["from"] == "human" and gpt == {"from": "gpt", "value": ""}
    assert human["value"].startswith("<image>\n") and human["value"].endswith("<report_generation>")

    manifest = run(tree, tmp_path / "qilin", *one, of="qilin")
    (asked,) = [json.loads(line) for line in (tmp_path / "qilin/questions.jsonl").read_text().splitlines()]
    assert asked["VolumeName"] == "valid_1_a_1.nii.gz" and asked["prompt"] == manifest["prompts"][0]
    with Image.open(tmp_path / "qilin" / asked["image"]) as picture:
        assert (picture.size, picture.mode, picture.format) == ((1344, 1344), "RGB", "PNG")


@pytest.mark.slow
def test_own_scans_of_any_format_are_written_under_neutral_names_and_pictures_are_told(tmp_path):
    write_table(tmp_path / "ours/scans.csv", own_rows(tmp_path / "ours"))
    out = tmp_path / "out"
    manifest = run(tmp_path / "ours", out)
    assert len(manifest["scans"]) == 3 and len(manifest["failed"]) == 1  # a zip of DICOM, NIfTI, MetaImage; pictures
    (told,) = manifest["failed"].values()
    assert "pictures have no HU" in told and "row 11 of scans.csv" in told
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not any("MÜLLER" in path.name or b"M\xc3\x9cLLER" in path.read_bytes() for path in files)


@pytest.mark.slow
def test_a_prepared_copy_is_refused_as_it_has_no_whole_volumes(tmp_path, tree, monkeypatch, capsys):
    use_a_thread(monkeypatch)
    prepare(open_source(tree, num_slices=2, spacing=SPACING), tmp_path / "copy")
    with pytest.raises(SystemExit):
        run(tmp_path / "copy", tmp_path / "out")
    assert "is a prepared copy, which lacks the whole volumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give either --for MODEL"),
        (("--for", "m3d", "--embeddings", "x"), "give either --for MODEL"),
        (("--embeddings", "x", "--split", "train"), "--split has no effect with --embeddings"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, told, capsys):
    with pytest.raises(SystemExit):
        export.main(["--output_dir", "out", *options])
    assert told in capsys.readouterr().err
