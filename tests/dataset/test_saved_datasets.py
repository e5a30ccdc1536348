"""Datasets that `datasets` has saved: they hold places, and read the scans again, wherever these lie."""

import nibabel as nib
import numpy as np
import pytest
from datasets import concatenate_datasets, load_dataset, load_from_disk
from helpers import programs
from helpers.few_slices import agrees, comparable, load, pixels
from helpers.tree import write_tree
from PIL import Image

from ct_rate_pairs.pair_column import tell_stored
from ct_rate_pairs.readers import reader_of, with_data_dir


def test_files_that_datasets_writes_hold_places_and_no_pixels(tree, tmp_path):
    rows = load(tree)
    rows.save_to_disk(tmp_path / "saved")
    rows.to_parquet(tmp_path / "rows.parquet")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 100_000
    parquet = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=tmp_path)
    for again in (load_from_disk(tmp_path / "saved"), parquet):
        reader_of(again).set_epoch(1)
        for row in again:
            agrees(row, 1, reader_of(rows))
        reader_of(again).set_epoch(0)


@pytest.mark.slow
def test_another_process_reads_a_saved_dataset(tree, tmp_path):
    rows = load(tree, "gauss")
    rows.save_to_disk(tmp_path)
    code = (
        "import sys, ct_rate_pairs, datasets; row = datasets.load_from_disk(sys.argv[1])[2]; "
        "print(row['volume'], [sum(image.tobytes()) for image in row['negative_images']])"
    )
    run = programs.run("-c", code, tmp_path)
    row = rows[2]
    assert run.stdout.strip() == f"{row['volume']} {[sum(image.tobytes()) for image in row['negative_images']]}"


@pytest.mark.slow
def test_a_saved_dataset_whose_scans_have_changed_says_so(tmp_path, caplog):
    tree = write_tree(tmp_path / "tree")
    load(tree, "none").save_to_disk(tmp_path / "saved")
    write_tree(tree, scans=13)
    assert load_from_disk(tmp_path / "saved")[0]["images"]
    code = "import sys, ct_rate_pairs, datasets; datasets.load_from_disk(sys.argv[1])[0]['images']"
    run = programs.run("-c", code, tmp_path / "saved")
    assert f"{tree} has changed" in run.stderr and "load_dataset" in run.stderr


def test_a_saved_dataset_follows_its_scans_to_another_folder(tmp_path):
    tree = write_tree(tmp_path / "tree")
    rows = load(tree).filter(lambda volume: volume > "train_2", input_columns=["volume"])
    rows.save_to_disk(tmp_path / "saved")
    reference = [comparable(row) for row in rows]
    tree.rename(tmp_path / "moved")
    saved = load_from_disk(tmp_path / "saved")
    there = with_data_dir(saved, tmp_path / "moved")
    assert [comparable(row) for row in there] == reference
    assert reader_of(there).config.data_dir == str(tmp_path / "moved")
    there.save_to_disk(tmp_path / "again")
    assert [comparable(row) for row in load_from_disk(tmp_path / "again")] == reference
    assert list(concatenate_datasets([there, load(tmp_path / "moved").select([0])])["volume"])


def test_a_saved_dataset_whose_scans_are_not_there_names_the_remedy(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "tree")
    load(tree, "none").save_to_disk(tmp_path / "saved")
    tree.rename(tmp_path / "moved")
    monkeypatch.setattr("ct_rate_pairs.shared_readers._readers", {})  # as in a new process
    told = rf"no folder or table {tree}\. .*moved: .*with_data_dir\(dataset, NEW_FOLDER\)"
    with pytest.raises(FileNotFoundError, match=told):
        load_from_disk(tmp_path / "saved")[0]


@pytest.mark.parametrize(("scans", "told"), [(12, "has other labels for train_"), (1, "has nothing for train_")])
def test_the_scans_of_another_cohort_are_not_those_of_a_saved_dataset(tree, tmp_path, scans, told):
    other = write_tree(tmp_path / "other", scans=scans, seed=1 if scans == 12 else 0)
    with pytest.raises(ValueError, match=told):
        with_data_dir(load(tree, "none").select([0] if scans == 12 else [4]), other)


def test_what_describes_stored_slices_is_stored_with_them(tree, caplog):
    tell_stored.cache_clear()
    for options in ({"negative": "heter"}, {"negative": "none", "slices": "jitter"}):
        rows = load(tree, **options)
        first = [comparable(row) for row in rows]
        small = rows.map(lambda row: {k: [i.resize((6, 6)) for i in row[k]] for k in ("images", "negative_images")})
        reader_of(rows).set_epoch(1)
        for row, own in zip(small, first, strict=True):
            described = ("negative_volume", "label_distance", "slice_mm")
            assert [row[name] for name in described] == [own[name] for name in described]
        assert any(comparable(row) != own for row, own in zip(rows, first, strict=True))
        reader_of(rows).set_epoch(0)
    assert "'images'" in caplog.text and "with_transform" in caplog.text


@pytest.mark.slow
def test_slices_that_come_from_elsewhere_are_stored(tree):
    rows, other = load(tree), load(tree, window=(-100, 100))
    swapped = rows.map(lambda row: {"images": row["negative_images"], "negative_images": row["images"]})
    in_batch = rows.map(lambda rows: {"negative_images": rows["images"][1:] + rows["images"][:1]}, batched=True)
    windowed = rows.map(lambda row, i: {"images": other[i]["images"]}, with_indices=True)
    split = rows.map(lambda row: {"images": load(tree, split="test")[0]["images"]})
    for i, row in enumerate(rows):
        assert pixels(swapped[i]["images"]) == pixels(row["negative_images"])
        assert pixels(swapped[i]["negative_images"]) == pixels(row["images"])
        assert pixels(in_batch[i]["negative_images"]) == pixels(rows[(i + 1) % len(rows)]["images"])
        assert pixels(windowed[i]["images"]) == pixels(other[i]["images"])
        assert pixels(split[i]["images"]) == pixels(load(tree, split="test")[0]["images"])


def test_a_repaired_volume_is_another_source(tmp_path):
    tree = write_tree(tmp_path)
    count = {"function": lambda row: {"seen": pixels(row["images"]).hex()}}
    before = load(tree, "none").map(**count)
    path = next(tree.glob(f"dataset/*/*/*/{before[0]['volume']}"))
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.flip(np.asarray(volume.dataobj), 0), volume.affine), path)
    after = load(tree, "none").map(**count)
    assert before[0]["seen"] != after[0]["seen"] and before[1]["seen"] == after[1]["seen"]


def test_a_saved_value_of_a_reader_needs_no_volume(tmp_path):
    tree = write_tree(tmp_path / "tree")
    rows = load(tree, "none").map(lambda row: {"images": [Image.new("L", (4, 4), 7)]})
    rows.to_parquet(tmp_path / "rows.parquet")
    again = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=tmp_path)
    assert pixels(again[0]["images"]) == bytes([7] * 16)
