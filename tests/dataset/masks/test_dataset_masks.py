"""The columns of masks: as lazily read as the slices, on the same planes, and kept by every call of `datasets`."""

import json
import pickle
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset, load_from_disk
from helpers.drawn_masks import FINDINGS, draw, save_like, volumes_of, write_masks, write_table
from helpers.few_slices import load
from helpers.tree import SPACING
from torch.utils.data import DataLoader

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.readers import reader_of, with_data_dir
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.volumes.slicing import VolumeError


@pytest.fixture(scope="module")
def masks(tree, tmp_path_factory) -> str:
    return str(write_masks(tree, tmp_path_factory.mktemp("masks"), unknown=1, empty=1))


def pixels(masks) -> np.ndarray | None:
    return masks and np.array([[np.asarray(image) for image in of_finding] for of_finding in masks])


def expected(tree, volume, planes) -> np.ndarray:
    """The masks of a volume of the tree at some planes, from the top: the slices have the size of the voxels."""
    files = volumes_of(tree)
    (number,) = (number for number, file in enumerate(files) if file.name == volume)
    drawn = draw(nib.load(files[number]).shape, number - 1)
    return np.array([mask.transpose(2, 1, 0)[::-1][planes] for mask in drawn.values()])


def planes_of(row) -> list[int]:
    return [2 + round(depth / SPACING[2]) for depth in row["slice_mm"]]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_has_an_image_of_each_finding_for_each_slice(tree, masks, streaming):
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), masks=masks, spacing=SPACING, num_slices=4,
                        validation_size=0, streaming=streaming, split="train")  # fmt: skip
    seen = {}
    for row in rows:
        seen[row["volume"]] = (row["masks"], row["mask_findings"])
        if row["masks"]:
            assert {image.size for image in row["masks"][0]} == {image.size for image in row["images"]}
            assert [len(of_finding) for of_finding in row["masks"]] == [4, 4]
            np.testing.assert_array_equal(pixels(row["masks"]), expected(tree, row["volume"], planes_of(row)))
            assert [told["finding"] for told in row["mask_findings"]] == list(FINDINGS)
    assert len(seen) == 12
    assert seen["train_1_a_1.nii.gz"] == (None, None)  # not known
    assert seen["train_10_a_1.nii.gz"] == ([], [])  # known to have none


@pytest.mark.parametrize("layout", ["structures", "rexgrounding"])
def test_each_layout_gives_the_same_masks(tree, masks, layout, tmp_path):
    folder = write_masks(tree, tmp_path, layout, unknown=1, empty=1)
    rows, others = (load(tree, masks=path, split="test") for path in (masks, str(folder)))
    for row, other in zip(rows, others, strict=True):
        np.testing.assert_array_equal(pixels(row["masks"]), pixels(other["masks"]))


def test_masks_follow_jitter_and_stay_with_their_epoch(tree, masks):
    rows = load(tree, masks=masks, slices="jitter", num_slices=4, validation_size=0)
    reader, drawn = reader_of(rows), {}
    for epoch in (1, 2):
        reader.set_epoch(epoch)
        row = rows.filter(lambda name: name == "train_12_a_1.nii.gz", input_columns=["volume"])[0]
        first = row["masks"][0][0]
        depths = row["slice_mm"]
        spread = {int(plane) for plane in range(20)}
        matches = [
            top for top in spread
            if top + round(depths[-1] / SPACING[2]) < 20
            and np.array_equal(
                pixels(row["masks"]),
                expected(tree, row["volume"], [top + round(depth / SPACING[2]) for depth in depths]),
            )
        ]  # fmt: skip
        assert len(matches) == 1 and first.mode == "1"
        drawn[epoch] = (matches[0], tuple(depths))
    assert drawn[1] != drawn[2]


CALLS = {
    "select": lambda rows: rows.select(range(1, len(rows))).select(range(len(rows) - 1)),
    "map of what is read": lambda rows: rows.map(lambda row: {"n": len(row["masks"] or ())}),
    "map that gives the row back": lambda rows: rows.map(dict),
    "concatenate": lambda rows: concatenate_datasets([rows.select([0]), rows.select(range(1, len(rows)))]),
    "cast": lambda rows: rows.cast(rows.features),
    "reset_format": lambda rows: rows.with_format("torch").with_format(None),
    "flatten": lambda rows: rows.flatten(),
    "pickle": lambda rows: pickle.loads(pickle.dumps(rows)),
    "stream": lambda rows: rows.to_iterable_dataset(num_shards=2),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_datasets_keeps_the_masks(tree, masks, call):
    rows = load(tree, masks=masks, split="test")
    kept = {row["volume"]: row for row in CALLS[call](rows)}
    assert len(kept) >= len(rows) - 1
    for row in rows:
        if row["volume"] in kept:
            np.testing.assert_array_equal(pixels(kept[row["volume"]]["masks"]), pixels(row["masks"]))
            assert kept[row["volume"]]["mask_findings"] == row["mask_findings"]


def test_masks_alone_are_read_and_saved(tree, masks, tmp_path):
    rows = load(tree, masks=masks, split="test")
    (alone,) = (one["masks"] for one in rows.select_columns(["masks"]).select([3]))
    whole = pixels(rows[3]["masks"])
    np.testing.assert_array_equal(pixels(alone), whole)
    rows.save_to_disk(tmp_path / "saved")
    rows.to_parquet(tmp_path / "rows.parquet")
    for other in (load_from_disk(tmp_path / "saved"), Dataset.from_parquet(str(tmp_path / "rows.parquet"))):
        np.testing.assert_array_equal(pixels(other[3]["masks"]), whole)
    tensors = rows.with_format("torch")[3]["masks"]
    np.testing.assert_array_equal(tensors[:, :, 0].numpy(), whole)
    moved = tmp_path / "moved"
    shutil.copytree(masks, moved)
    elsewhere = with_data_dir(load_from_disk(tmp_path / "saved"), tree, moved)
    np.testing.assert_array_equal(pixels(elsewhere[3]["masks"]), whole)


def test_changed_slices_take_their_masks_along(tree, masks):
    rows = load(tree, masks=masks, split="test").select([3])
    before = rows[0]
    darker = rows.map(lambda row: {"images": [image.point(lambda value: value // 2) for image in row["images"]]})
    np.testing.assert_array_equal(pixels(darker[0]["masks"]), pixels(before["masks"]))
    emptied = rows.map(lambda row: {"masks": [of_finding[:1] for of_finding in row["masks"]]})
    np.testing.assert_array_equal(pixels(emptied[0]["masks"]), pixels(before["masks"])[:, :1])


@pytest.mark.slow
def test_spawned_workers_read_the_same_masks(tree, masks):
    rows = load(tree, masks=masks, split="test")
    loader = DataLoader(rows, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for row, other in zip(rows, loader, strict=True):
        np.testing.assert_array_equal(pixels(other["masks"]), pixels(row["masks"]))


def test_a_volume_is_not_read_again_for_its_masks(tree, masks, monkeypatch):
    rows = load(tree, masks=masks, negative="none", split="test")
    reader, read = reader_of(rows), []
    read_planned = reader.source.read_planned
    monkeypatch.setattr(
        reader.source, "read_planned", lambda scan, *how: read.append(scan.name) or read_planned(scan, *how)
    )
    row = rows[3]
    assert row["masks"] and read == [row["volume"]]


def test_a_bad_mask_stops_or_is_unknown_with_a_warning(tree, masks, tmp_path, caplog):
    folder = shutil.copytree(masks, tmp_path / "masks")
    file = folder / "valid_2_a_1/Lung opacity.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :-1], image.affine), file)
    rows = load(tree, masks=str(folder), split="test")
    (bad,) = (place for place, name in enumerate(rows["volume"]) if name == "valid_2_a_1.nii.gz")
    with pytest.raises(
        VolumeError, match=r"valid_2_a_1.nii.gz: its mask \(masks.csv, row \d+\) has .*on_error='skip'"
    ):
        rows[bad]
    skipping = load(tree, masks=str(folder), split="test", on_error="skip")
    stream = load(tree, masks=str(folder), split="test", on_error="skip", streaming=True)
    for row in (skipping[bad], next(row for row in stream if row["volume"] == "valid_2_a_1.nii.gz")):
        assert row["masks"] is None and len(row["images"]) == 3
    assert "its mask (masks.csv" in caplog.text


def test_masks_that_were_written_again_are_read_again(tree, tmp_path):
    folder = write_masks(tree, tmp_path)
    first = load(tree, masks=str(folder), split="test")[0]
    rows = pd.read_csv(folder / "masks.csv").assign(sentence="Written again.")
    rows.to_csv(folder / "masks.csv", index=False)
    again = load(tree, masks=str(folder), split="test")[0]
    assert first["mask_findings"] != again["mask_findings"]
    assert {told["sentence"] for told in again["mask_findings"]} == {"Written again."}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"images": "volume", "num_slices": None}, "images='volume' has none"),
        ({"files": "original"}, "pass files='fixed'"),
        ({"masks": None, "mask_names": "Lung nodule"}, "mask_names has no effect without masks"),
        ({"mask_names": ("heart",)}, "no mask of 'heart'"),
    ],
)
def test_masks_that_cannot_be_shown_are_refused_with_the_remedy(tree, masks, options, told):
    with pytest.raises(ValueError, match=told):
        load(tree, **{"masks": masks, **options})


@pytest.mark.parametrize("slices", ["uniform", "mip"])
def test_a_prepared_copy_of_slices_shows_the_masks_of_its_source(tree, masks, tmp_path, slices, without_processes):
    settings = {"spacing": SPACING, "num_slices": 4, "slices": slices}
    prepare(open_source(tree, **settings), tmp_path, shard_size=5, workers=1)
    kept, of_source = (
        load_dataset("ct_rate_pairs", data_dir=str(folder), masks=masks, split="train", validation_size=0, **settings)
        for folder in (tmp_path, tree)
    )
    for row, other in zip(kept, of_source, strict=True):
        assert row["mask_findings"] == other["mask_findings"]
        np.testing.assert_array_equal(pixels(row["masks"]), pixels(other["masks"]))
        np.testing.assert_array_equal(np.array(row["images"][1]), np.array(other["images"][1]))


def test_a_prepared_copy_that_does_not_tell_where_its_slices_lie_has_no_masks(copy, masks, tmp_path):
    earlier = shutil.copytree(copy, tmp_path / "earlier")
    kept = json.loads((earlier / "prepared.json").read_text())
    (earlier / "prepared.json").write_text(json.dumps(kept | {"plans": False}))
    with pytest.raises(ValueError, match=r"does not tell where its slices lie.* Read the source \(.*--form slices"):
        load_dataset("ct_rate_pairs", data_dir=str(earlier), masks=masks)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [0, 20, 24]},
        {"size": [20, 20, 23]},
        {"slabs": [[0, 0]] * 9 + [[3, 99]]},
        {"slabs": [[0, 0]] * 3, "planes": [0] * 3},
        {"affine": [float("nan")] * 16},
        {"axes": None},
        {"axes": "LLS"},
        {"size": [2**31 - 1, 20, 24]},
    ],
)
def test_a_damaged_plan_is_a_bad_row(copy, masks, tmp_path, change):
    damaged = shutil.copytree(copy, tmp_path / "damaged")
    for file in sorted(damaged.glob("data/train-*")):
        table = pq.read_table(file)
        plans = [plan | change for plan in table["plan"].to_pylist()]
        place, kind = table.schema.get_field_index("plan"), table.schema.field("plan").type
        pq.write_table(table.set_column(place, "plan", pa.array(plans, kind)), file, row_group_size=1)
    rows = load_dataset("ct_rate_pairs", data_dir=str(damaged), masks=masks, split="train", validation_size=0)
    with pytest.raises(VolumeError, match=r"train_\d+_a_1.nii.gz: its (slices|mask)"):
        rows[5]["masks"]


def test_masks_of_another_cohort_are_refused(tree, tmp_path):
    save_like(volumes_of(tree)[0], tmp_path / "m.nii.gz", np.zeros((24, 20, 20), np.uint8))
    write_table(tmp_path, [("test_9_z_1.nii.gz", "m.nii.gz", "", "", "")])
    with pytest.raises(ValueError, match=r"names 1 volumes, such as 'test_9_z_1.nii.gz', and none of this dataset"):
        load(tree, masks=str(tmp_path))


def test_masks_of_own_scans_are_named_by_the_path_of_the_scan(tree, tmp_path, caplog):
    folder = tmp_path / "own"
    for number, volume in enumerate(volumes_of(tree)[:3]):
        shutil.copytree(volume.parent, folder / f"DOE_JANE_{number}")
    scans = [f"DOE_JANE_{number}/{volume.name}" for number, volume in enumerate(volumes_of(tree)[:3])]
    pd.DataFrame({"scan": scans, "report": ["A nodule.", "Clear.", "Effusion."]}).to_csv(
        folder / "scans.csv", index=False
    )
    drawn = draw((24, 20, 20), 5)["Lung nodule"]
    save_like(folder / scans[1], tmp_path / "masks/DOE.nii.gz", drawn.astype(np.uint8))
    save_like(folder / scans[2], tmp_path / "masks/bad_DOE.nii.gz", drawn[:20].astype(np.uint8))
    files = {scans[1]: "DOE.nii.gz", scans[2]: "bad_DOE.nii.gz"}
    table = write_table(tmp_path / "masks", [(scan, file, "", "Lung nodule", "") for scan, file in files.items()])
    rows = load(folder / "scans.csv", masks=str(table), negative="none", validation_size=0)
    assert rows[0]["masks"] is None
    np.testing.assert_array_equal(
        pixels(rows[1]["masks"])[0], drawn.transpose(2, 1, 0)[::-1][planes_of_three(rows[1])]
    )
    with pytest.raises(
        VolumeError, match=r"row 4 of scans.csv, patient_3_a_1.nii.gz: its mask \(masks.csv, row 3\)"
    ) as raised:
        rows[2]
    assert "DOE" not in str(raised.value) + caplog.text


def planes_of_three(row) -> list[int]:
    return [3 + round(depth / SPACING[2]) for depth in row["slice_mm"]]
