"""The prepared copy: the same rows as its source, whole shards only, resumable, with provenance."""

import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError
from helpers.failing_decoders import FILE, WAY
from helpers.tree import SPACING, without_labels
from PIL import Image

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.volumes.slicing import VolumeError


def use_a_thread(monkeypatch):
    """The pool is a thread: what its processes do is tested where a run is killed."""

    def pool(workers, context, start, arguments):
        return ThreadPoolExecutor(1, initializer=start, initargs=arguments)

    monkeypatch.setattr("ct_rate_pairs.prepare.shards.ProcessPoolExecutor", pool)
    monkeypatch.setattr("ct_rate_pairs.prepare.shards.end_with_parent", lambda: None)


@pytest.fixture
def without_processes(monkeypatch):
    use_a_thread(monkeypatch)


@pytest.fixture(scope="module")
def copy(tree, tmp_path_factory):
    """The session's tree, prepared with five scans a file."""
    out = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_a_thread(monkeypatch)
        prepare(open_source(tree, spacing=SPACING), out, shard_size=5, workers=1)
    return out


def content(row: dict) -> dict:
    images = {name: [np.asarray(image).tolist() for image in row[name]] for name in ("images", "negative_images")}
    return row | images


@pytest.mark.parametrize("negative", ["none", "gauss", "heter"])
def test_the_copy_gives_the_rows_of_its_source(tree, copy, negative):
    for streaming in (False, True):
        options = {"negative": negative, "streaming": streaming, "validation_size": 0.3}
        source = load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, **options)
        prepared = load_dataset("ct_rate_pairs", data_dir=str(copy), **options)
        for split in ("train", "validation", "test"):
            for row, twin in zip(source[split], prepared[split], strict=True):
                assert content(row) == content(twin)


@pytest.mark.usefixtures("without_processes")
def test_rgb_windows_survive(tree, tmp_path):
    prepare(open_source(tree, spacing=SPACING, window="rgb"), tmp_path / "copy", workers=1)
    row = load_dataset("ct_rate_pairs", data_dir=str(tmp_path / "copy"), negative="heter", split="train")[0]
    twin = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), negative="heter", split="train", spacing=SPACING, window="rgb"
    )[0]
    assert row["images"][0].mode == "RGB" and content(row) == content(twin)


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
    again = subprocess.run(command, capture_output=True, text=True, check=True)
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


SHARD, NAME = "data/train-00000-of-00003.parquet", "train_2_a_1.nii.gz"


def rewritten(copy: Path, out: Path, change, schema: pa.Schema | None = None) -> PreparedSource:
    """The copy with changed rows in its first file, which has no checksums, as releases of before wrote it."""
    shutil.copytree(copy, out)
    table = pq.read_table(out / SHARD)
    rows = {row["volume"]: row for row in table.to_pylist()}
    change(rows)
    with pq.ParquetWriter(out / SHARD, schema or table.schema, compression="none", use_dictionary=False) as writer:
        for row in rows.values():
            writer.write_table(pa.Table.from_pylist([row], schema or table.schema))
    return PreparedSource(out)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def promising(width: int, height: int) -> bytes:
    """A PNG that promises many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def pictures(image: bytes | None, places=slice(None)):
    def change(rows):
        for slot in rows[NAME]["images"][places]:
            slot["bytes"] = image

    return change


def field(name, value):
    return lambda rows: rows[NAME].update({name: value})


GREY = Image.new("L", (24, 20))
BAD_ROWS = {
    "no slice": (field("images", []), "there are 0 of 10 slices"),
    "slices null": (field("images", None), "there are 0 of 10 slices"),
    "a slice missing": (lambda rows: rows[NAME]["images"].pop(), "there are 9 of 10 slices"),
    "too many slices": (lambda rows: rows[NAME]["images"].extend(rows[NAME]["images"] * 9), "there are 100 of 10"),
    "a slice null": (lambda rows: rows[NAME]["images"].__setitem__(3, None), "slice 4 is no PNG"),
    "bytes null": (pictures(None), "slice 1 is no PNG"),
    "bytes empty": (pictures(b""), "slice 1 is no PNG"),
    "another format": (pictures(encoded(GREY, "GIF")), "slice 1 is no PNG"),
    "cut": (lambda rows: pictures(rows[NAME]["images"][0]["bytes"][:-40])(rows), "cannot be read"),
    "400 million pixels": (pictures(promising(20_000, 20_000)), "decompression bomb"),
    "25 million pixels": (pictures(promising(5_000, 5_000)), "larger than those of any CT"),
    "a line": (pictures(promising(1, 10**6)), "larger than those of any CT"),
    "two sizes": (pictures(encoded(Image.new("L", (10, 10))), slice(3, 4)), r"a slice is \('L', 10, 10\)"),
    "colours": (pictures(encoded(GREY.convert("RGB"))), r"a slice is \('RGB', 24, 20\)"),
    "16 bits": (pictures(encoded(Image.new("I;16", (24, 20)))), r"a slice is \('I;16', 24, 20\)"),
    "depths null": (field("slice_mm", None), "slice_mm must be one depth per slice"),
    "depths NaN": (field("slice_mm", [float("nan")] * 10), "slice_mm must be one depth per slice"),
    "a depth null": (field("slice_mm", [*range(9), None]), "slice_mm must be one depth per slice"),
    "one depth": (field("slice_mm", [0.0]), "slice_mm must be one depth per slice"),
    "depths that fall": (field("slice_mm", [*range(10, 0, -1)]), "slice_mm must be one depth per slice, and rise"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_an_error_of_that_row_alone(copy, tmp_path, case):
    change, told = BAD_ROWS[case]
    source = rewritten(copy, tmp_path / "copy", change)
    scans = source.scans("train", "raise")
    for name, scan in scans.iterrows():
        if name == NAME:
            with pytest.raises(VolumeError, match=f"{NAME}: its slices in .*{SHARD}.*{told}.*prepared the copy again"):
                source.read_slices(scan)
        else:
            slices, depths = source.read_slices(scan)
            assert slices.shape == (10, 20, 24) and len(depths) == 10


@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_row_is_skipped_by_a_dataset_that_skips(copy, tmp_path, streaming):
    rewritten(copy, tmp_path / "copy", field("images", None))
    options = {"data_dir": str(tmp_path / "copy"), "negative": "heter", "on_error": "skip", "validation_size": 0.0}
    rows = list(load_dataset("ct_rate_pairs", split="train", streaming=streaming, **options))
    read = {row["volume"] for row in rows if row["images"]}
    assert len(read) == 11 and NAME not in read | {row["negative_volume"] for row in rows}


def test_a_row_in_the_place_of_another_is_not_read_under_its_name(copy, tmp_path):
    source = rewritten(copy, tmp_path / "copy", lambda rows: None)
    table = pq.read_table(source.root / SHARD)
    with pq.ParquetWriter(source.root / SHARD, table.schema) as writer:
        for first, last in ((0, 0), (0, 1), (1, 3), (3, 5)):
            writer.write_table(table.slice(first, last - first))
    scans = source.scans("train", "raise")
    for place in range(4):
        with pytest.raises(VolumeError, match="its slices in"):
            source.read_slices(scans.iloc[place])


BAD_TABLES = {
    "name null": (field("volume", None), "row 1: (None|nan) is no name of a volume"),
    "name of a path": (field("volume", "../../x\x1b[2J"), r"row 1: '../../x\\x1b\[2J' is no name of a volume"),
    "name twice": (field("volume", "train_1_a_1.nii.gz"), "row 1: train_1_a_1.nii.gz occurs twice"),
    "name of another file": (field("volume", "train_12_a_1.nii.gz"), "row 1: train_12_a_1.nii.gz occurs twice"),
    "labels null": (field("labels", None), f"row 1: {NAME} has no 18 labels of 0 or 1"),
    "a label of 2": (field("labels", [2] * 18), f"row 1: {NAME} has no 18 labels of 0 or 1"),
    "a label null": (field("labels", [None] * 18), f"row 1: {NAME} has no 18 labels of 0 or 1"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_an_error_that_names_file_and_row(copy, tmp_path, case):
    change, told = BAD_TABLES[case]
    source = rewritten(copy, tmp_path / "copy", change)
    with pytest.raises(ValueError, match=rf"train-0000\d-of-00003.parquet is damaged \({told}.*Remove it"):
        source.scans("train", "raise")


@pytest.mark.parametrize(
    ("column", "content"),
    [
        ("labels", None),
        ("images", None),
        ("age", [10**6] * 5),
        ("age", ["x"] * 5),
        ("labels", [[0] * 17] * 5),
        ("labels", [7] * 5),
        ("volume", [{"a": 1}] * 5),
    ],
)
def test_columns_that_lack_or_hold_something_else_are_told_with_the_file(copy, tmp_path, column, content):
    source = rewritten(copy, tmp_path / "copy", lambda rows: None)
    table = pq.read_table(source.root / SHARD).drop_columns([column])
    pq.write_table(table if content is None else table.append_column(column, pa.array(content)), source.root / SHARD)
    with pytest.raises(ValueError, match=f"{SHARD}.*again"):
        source.read_slices(source.scans("train", "raise").iloc[0])


def test_a_flipped_bit_is_an_error_and_never_another_report_or_place(copy, tmp_path):
    shutil.copytree(copy, tmp_path / "copy")
    source, shard = PreparedSource(tmp_path / "copy"), tmp_path / "copy" / SHARD
    whole, scans = shard.read_bytes(), source.scans("train", "raise")
    scan, row = scans.iloc[0], pq.read_table(shard).to_pylist()[0]
    for text in (row["findings"].encode(), row["volume"].encode()):
        refused = 0
        for found in re.finditer(re.escape(text), whole):  # the text itself, and statistics of the file, for searches
            place = found.start() + len(text) // 2
            shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                assert source.scans("train", "raise").equals(scans)
            except ValueError as error:
                assert f"{SHARD} is damaged" in str(error)
                refused += 1
        assert refused
    for stored in (np.array(row["slice_mm"], np.float32).tobytes(), row["images"][0]["bytes"]):
        place = whole.index(stored) + len(stored) // 2
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(VolumeError, match=f"{row['volume']}: its slices in .*{SHARD}"):
            source.read_slices(scan)


def test_a_copy_without_checksums_is_read_as_before(copy, tmp_path):
    source, twin = rewritten(copy, tmp_path / "copy", lambda rows: None), PreparedSource(copy)
    scans = source.scans("train", "raise")
    assert scans.equals(twin.scans("train", "raise"))
    for _, scan in scans.iterrows():
        (slices, depths), (others, other_depths) = source.read_slices(scan), twin.read_slices(scan)
        np.testing.assert_array_equal(slices, others)
        assert depths == other_depths
