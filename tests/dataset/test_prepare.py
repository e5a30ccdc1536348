"""A prepared copy is written: the same rows as its source, whole shards only, resumable, with provenance."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError
from helpers import programs
from helpers.failing_decoders import FILE, WAY
from helpers.few_slices import comparable
from helpers.tree import SPACING, without_labels

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.volumes.slicing import VolumeError


@pytest.mark.slow_but_first
@pytest.mark.parametrize("negative", ["none", "gauss", "heter"])
def test_the_copy_gives_the_rows_of_its_source(tree, copy, negative):
    for streaming in (False, True):
        options = {"negative": negative, "streaming": streaming, "validation_size": 0.3}
        source = load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, **options)
        prepared = load_dataset("ct_rate_pairs", data_dir=str(copy), **options)
        for split in ("train", "validation", "test"):
            for row, twin in zip(source[split], prepared[split], strict=True):
                assert comparable(row) == comparable(twin)


@pytest.mark.usefixtures("without_processes")
def test_rgb_windows_survive(tree, tmp_path):
    prepare(open_source(tree, spacing=SPACING, window="rgb"), tmp_path / "copy", workers=1)
    row = load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "copy"), negative="heter", split="train")[0]
    twin = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), negative="heter", split="train", spacing=SPACING, window="rgb"
    )[0]
    assert row["images"][0].mode == "RGB" and comparable(row) == comparable(twin)


def test_the_card_opens_with_plain_datasets_and_names_the_provenance(copy):
    rows = load_dataset(str(copy), split="train")
    assert rows[0]["images"][0].size == (24, 20) and len(rows) == 12
    card = (copy / "README.md").read_text()
    assert "cc-by-nc-sa-4.0" in card and "Do not upload" in card and '"spacing"' in card
    provenance = json.loads((copy / "prepared.json").read_text())
    assert provenance["settings"]["spacing"] == list(SPACING) and provenance["settings"]["files"] == "fixed"


def test_a_copy_remembers_that_its_labels_were_read_by_rules(own_tree, tmp_path, without_processes):
    prepare(open_source(without_labels(own_tree), spacing=SPACING), tmp_path / "copy", workers=1)
    assert open_source(tmp_path / "copy").labels_from == "rules"
    assert "in CT-RATE's order, which the rule labeler read from the reports." in (
        tmp_path / "copy" / "README.md"
    ).read_text().replace("\n", " ")


def test_settings_that_the_copy_does_not_have_are_refused(copy, tree):
    with pytest.raises(ValueError, match="num_slices=10.*num_slices=5"):
        load_dataset("ct_rate_pairs", data_dir=str(copy), num_slices=5)
    with pytest.raises(ValueError, match="prepared copy"):
        load_dataset("ct_rate_pairs", data_dir=str(copy), slices="jitter")
    with pytest.raises(ValueError, match="another settings"):
        prepare(open_source(tree, spacing=(4, 4, 7)), copy, shard_size=5)
    with pytest.raises(ValueError, match="another shard_size"):
        prepare(open_source(tree, spacing=SPACING), copy, shard_size=4)


def test_a_folder_of_something_else_is_left_alone(tree, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        prepare(open_source(tree, spacing=SPACING), tmp_path)


@pytest.mark.usefixtures("without_processes")
def test_bad_volumes_are_left_out_listed_and_remembered_by_finished_shards(own_tree, tmp_path):
    bad = next(own_tree.glob("dataset/*/*/*/train_5_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    source, out = open_source(own_tree, spacing=SPACING), tmp_path / "copy"
    with pytest.raises(ValueError, match="train_5_a_1"):
        prepare(source, out, shard_size=5, workers=1, on_error="raise")
    for _ in range(2):  # the second run finds all shards finished
        assert prepare(source, out, shard_size=5, workers=1)["bad"] == 1
        listed = list(csv.DictReader((out / "bad_volumes.csv").open()))
        assert [line["volume"] for line in listed] == ["train_5_a_1.nii.gz"] and "truncated" in listed[0]["error"]
    names = load_dataset("ct_rate_pairs", data_dir=str(out), split="train+validation").with_format(None)["volume"]
    assert len(names) == 11 and "train_5_a_1.nii.gz" not in names


@pytest.mark.slow
def test_a_volume_that_ends_its_reader_is_left_out_and_listed(own_tree, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import helpers.failing_decoders")  # of the pool's processes
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv(FILE, "train_5_a_1.nii.gz")
    monkeypatch.setenv(WAY, "crash")
    summary = prepare(open_source(own_tree, spacing=SPACING), tmp_path / "copy", shard_size=5, workers=2)
    assert (summary["rows"], summary["bad"]) == (23, 1)
    (bad,) = csv.DictReader((tmp_path / "copy/bad_volumes.csv").open())
    assert bad["volume"] == "train_5_a_1.nii.gz" and "ended by SIGSEGV" in bad["error"]


@pytest.mark.usefixtures("without_processes")
def test_what_is_told_of_a_volume_is_listed_and_remembered_by_finished_shards(own_tree, tmp_path, capsys):
    for name in ("train_5_a_1", "valid_2_a_1"):
        odd = next(own_tree.glob(f"dataset/*/*/*/{name}.nii.gz"))
        odd.write_bytes(odd.read_bytes() + b"odd")
    bad = next(own_tree.glob("dataset/*/*/*/train_6_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    source, out = open_source(own_tree, spacing=SPACING), tmp_path / "copy"
    for _ in range(2):  # the second run finds all shards finished
        summary = prepare(source, out, shard_size=5, workers=1)
        assert (summary["told"], summary["bad"], summary["rows"]) == (2, 1, 23)
        listed = list(csv.DictReader((out / "told_volumes.csv").open()))
        assert [line["volume"] for line in listed] == ["train_5_a_1.nii.gz", "valid_2_a_1.nii.gz"]
        assert all("3 bytes follow the gzip stream" in line["warning"] for line in listed)
    assert "2 were read with a warning" in (out / "README.md").read_text()


def test_a_copy_of_a_release_that_read_otherwise_is_told_and_not_continued(tree, copy, tmp_path, caplog):
    PreparedSource(copy)
    assert not caplog.records
    old = tmp_path / "old"
    shutil.copytree(copy, old)
    provenance = json.loads((old / "prepared.json").read_text())
    del provenance["reading"]
    (old / "prepared.json").write_text(json.dumps(provenance))
    PreparedSource(old)
    assert "old was prepared by a release" in caplog.text and "Prepare the copy again" in caplog.text
    with pytest.raises(ValueError, match="another reading"):
        prepare(open_source(tree, spacing=SPACING), old, shard_size=5, workers=1)


@pytest.mark.slow
@pytest.mark.usefixtures("without_processes")
def test_a_damaged_copy_names_the_file_and_a_mended_one_serves_no_stale_index(own_tree, tmp_path):
    source, out = open_source(own_tree, spacing=SPACING), tmp_path / "copy"
    prepare(source, out, shard_size=5, workers=1)
    options = {"data_dir": str(out), "split": "train", "validation_size": 0.0}
    assert len(load_dataset("ct_rate_pairs", **options)) == 12
    shard = out / "data/train-00001-of-00003.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole.replace(b"IDAT", b"XDAT"))
    with pytest.raises(VolumeError, match=rf"train_\d+_a_1.*{shard.name}.*prepared the copy again"):
        list(load_dataset("ct_rate_pairs", **options))
    assert len(list(load_dataset("ct_rate_pairs", streaming=True, on_error="skip", **options))) == 7
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((ValueError, DatasetGenerationError)) as caught:
        load_dataset("ct_rate_pairs", **options)
    assert f"{shard.name} is damaged" in f"{caught.value} {caught.value.__cause__}"
    prepare(source, out, shard_size=5, workers=1)  # what is cut is written again
    assert pq.read_table(shard).equals(pq.read_table(io.BytesIO(whole)))
    pq.write_table(pa.table({"a": [1]}), shard)
    with pytest.raises(ValueError, match=rf"{shard.name} is no file of this command: remove it"):
        prepare(source, out, shard_size=5, workers=1)
    provenance = (out / "prepared.json").read_text()
    (out / "prepared.json").write_text('{"phantom": true, "phantom": false}')
    with pytest.raises(ValueError, match=r"prepared.json has the name 'phantom' twice"):
        prepare(source, out, shard_size=5, workers=1)
    (out / "prepared.json").write_text(provenance)
    shard.unlink()
    bad = next(own_tree.glob("dataset/*/*/*/train_7_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    prepare(source, out, shard_size=5, workers=1)
    assert len(list(load_dataset("ct_rate_pairs", **options))) == 11


@pytest.mark.usefixtures("without_processes")
def test_a_copy_without_a_test_split_loads(own_tree, tmp_path):
    for path in own_tree.glob("dataset/valid_fixed/*/*/*"):
        path.write_bytes(path.read_bytes()[:500])
    prepare(open_source(own_tree, spacing=SPACING), tmp_path / "copy", workers=1)
    splits = load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "copy"), validation_size=0.0)
    assert set(splits) == {"train"} and splits["train"][0]["images"]


def test_sizes_and_sources_that_make_no_sense_are_refused(tree, tmp_path):
    source = open_source(tree, spacing=SPACING)
    with pytest.raises(ValueError, match="shard_size=0"):
        prepare(source, tmp_path, shard_size=0)
    with pytest.raises(ValueError, match="shard_index=2"):
        prepare(source, tmp_path, shard_index=2, num_shards=2)
    with pytest.raises(ValueError, match="dataset/train_fixed"):
        prepare(open_source(tree, files="original"), tmp_path)


@pytest.mark.usefixtures("without_processes")
def test_jobs_share_the_shards(tree, tmp_path):
    source = open_source(tree, spacing=SPACING)
    first = prepare(source, tmp_path / "copy", shard_size=5, workers=1, shard_index=0, num_shards=2)
    assert first["missing"] == 3 and first["rows"] < 24
    with pytest.raises(FileNotFoundError, match="3 of the|1 of the|2 of the"):
        load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "copy"))
    second = prepare(source, tmp_path / "copy", shard_size=5, workers=1, shard_index=1, num_shards=2)
    assert second["missing"] == 0 and second["rows"] == 24


def running_in_group(group: int) -> list[str]:
    """Processes of a process group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except FileNotFoundError:  # it has ended just now
            continue
        if int(of_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
def test_a_killed_run_goes_on_without_redoing_shards_or_leaving_half_of_one(tree, tmp_path):
    command = [sys.executable, "-m", "ct_rate_pairs.prepare", "--output_dir", str(tmp_path / "copy")]
    command += ["--data_dir", str(tree), "--spacing", *map(str, SPACING), "--shard_size", "1", "--workers", "1"]
    run = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    data = tmp_path / "copy/data"
    deadline = time.monotonic() + 120
    while len(list(data.glob("*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    run.kill()  # the parent alone: its processes have to end by themselves
    run.wait()
    while running_in_group(run.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    there = {file.name: file.stat().st_mtime_ns for file in data.glob("*.parquet")}
    assert len(there) >= 2
    for name in there:
        pq.ParquetFile(data / name).read()
    (data / ".train-00011-of-00012.parquet.4242.part").write_bytes(b"half a shard")
    again = programs.run(*command[1:])
    assert "24 scans" in again.stdout and "going on from there" in again.stderr
    assert {name: (data / name).stat().st_mtime_ns for name in there} == there
    assert len(list(data.iterdir())) == 24
    assert len(load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "copy"), split="test")) == 12


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("damage", ["", '{"source": "/da'])
def test_a_record_that_is_empty_or_cut_is_written_again_from_a_finished_file(tree, copy, tmp_path, caplog, damage):
    out = tmp_path / "copy"
    shutil.copytree(copy, out)
    (out / "prepared.json").write_text(damage)
    with pytest.raises(ValueError, match="was prepared with another settings"):
        prepare(open_source(tree, spacing=(9, 9, 9)), out, shard_size=5, workers=1)
    assert "prepared.json is not JSON" in caplog.text and "It is written again" in caplog.text
    (out / "prepared.json").write_text(damage)
    prepare(open_source(tree, spacing=SPACING), out, shard_size=5, workers=1)
    assert json.loads((out / "prepared.json").read_text()) == json.loads((copy / "prepared.json").read_text())
