"""A prepared copy is read: bad rows, bad tables and flipped bits are errors that name the file and the row."""

import io
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.volumes.slicing import VolumeError


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
    # The second message is of older versions of pyarrow, which read no list of another size.
    "labels null": (field("labels", None), f"(row 1: {NAME} has no 18 labels of 0 or 1|.*lists to be of size=18)"),
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
