"""`load_dataset("ct_rate_pairs", ...)`: the row's contract, epochs, splits and bad volumes."""

import logging
import os
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset
from helpers import programs
from helpers.failing_decoders import fail_at
from helpers.loaded_tree import error_of, load
from helpers.tree import SPACING, write_tree
from torch.utils.data import DataLoader

from ct_rate_pairs import LABELS
from ct_rate_pairs.readable_rows import ReadableRows, is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.sources.hub import CTRateAccessError
from ct_rate_pairs.sources.own import OwnSource
from ct_rate_pairs.sources.tree import LocalSource
from ct_rate_pairs.volumes.fitting import fit
from ct_rate_pairs.volumes.nifti import read_slices
from ct_rate_pairs.volumes.slicing import VolumeError


def pixels(images) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def path_of(tree, name):
    return next(tree.glob(f"dataset/*/*/*/{name}"))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("negative", ["none", "gauss", "heter"])
def test_rows_keep_the_contract_and_streaming_yields_the_same(tree, negative):
    rows = load(tree, negative, split="train")
    streamed = load(tree, negative, split="train", streaming=True)
    labels = pd.read_csv(tree / "dataset/multi_abnormality_labels/train_predicted_labels.csv").set_index("VolumeName")
    for row, twin in zip(rows, streamed, strict=True):
        expected = np.rint((read_slices(path_of(tree, row["volume"]), spacing=SPACING) + 1) * 127.5)
        np.testing.assert_array_equal(pixels(row["images"]), expected)
        assert row["labels"] == labels.loc[row["volume"], list(LABELS)].tolist()
        assert row["prompt"][0]["role"] == "user" and row["completion"][0]["role"] == "assistant"
        assert (row["age"], row["sex"]) == (36, "F")
        assert row["slice_mm"] == pytest.approx([16.0 * i for i in range(10)])
        if negative == "none":
            assert row["negative_images"] == []
        else:
            assert pixels(row["negative_images"]).shape == pixels(row["images"]).shape
        if negative == "heter":
            partner = row["negative_volume"]
            assert row["label_distance"] == (labels.loc[partner] != labels.loc[row["volume"]]).sum()
            slices = fit(read_slices(path_of(tree, partner), spacing=SPACING), *expected.shape[1:])
            np.testing.assert_array_equal(pixels(row["negative_images"]), np.rint((slices + 1) * 127.5))
        else:
            assert (row["negative_volume"], row["label_distance"]) == ("", 0)
        for column in ("images", "negative_images"):
            assert [image.tobytes() for image in row[column]] == [image.tobytes() for image in twin[column]]
        assert {k: v for k, v in row.items() if "images" not in k} == {
            k: v for k, v in twin.items() if "images" not in k
        }


def test_noise_is_clipped_standard_normal(tree):
    noise = pixels(load(tree, "gauss", split="train")[0]["negative_images"]) / 127.5 - 1
    assert abs(noise.mean()) < 0.05
    assert np.mean(np.abs(noise) > 0.99) == pytest.approx(0.317, abs=0.03)  # mass beyond one sigma


def test_a_partner_of_another_size_is_fitted(own_tree):
    for name in os.listdir(own_tree / "dataset/train_fixed")[:4]:
        path = path_of(own_tree, f"{name}_a_1.nii.gz")
        array = np.random.default_rng(0).integers(-1000, 400, (30, 12, 20), dtype=np.int16)
        nib.save(nib.Nifti1Image(array, np.diag([-4.0, -4, 8, 1])), path)
    sizes = set()
    for row in load(own_tree, split="train", min_label_distance=1):
        assert {image.size for image in row["negative_images"]} == {row["images"][0].size}
        sizes.add(row["images"][0].size)
    assert len(sizes) == 2


def test_map_style_negatives_follow_the_epoch_into_persistent_workers(tree):
    rows = load(tree, "gauss", split="train")
    reader = reader_of(rows)
    loader = DataLoader(rows, batch_size=None, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (0, 1, 0):
        reader.set_epoch(epoch)
        seen.append([pixels(row["negative_images"]).tobytes() for row in loader])
    assert seen[0] == seen[2] and all(a != b for a, b in zip(seen[0], seen[1], strict=True))


def test_validation_patients_are_held_out_and_the_official_validation_is_the_test_split(tree):
    splits = load(tree, validation_size=0.3)
    train, validation, test = (
        set(splits[name].with_format(None)["volume"]) for name in ("train", "validation", "test")
    )
    assert validation and not train & validation
    assert len(train | validation) == 12 and all(name.startswith("valid_") for name in test)
    assert set(load(tree, validation_size=0.3, split="validation").with_format(None)["volume"]) == validation


def test_partners_come_from_the_same_split(tree):
    splits = load(tree, min_label_distance=1)
    for split in ("train", "test"):
        names = set(splits[split].with_format(None)["volume"])
        assert {row["negative_volume"] for row in splits[split]} <= names


def test_original_files_become_hu_and_millimetres_by_the_metadata_table(tmp_path):
    fixed, original = (write_tree(tmp_path / files, files=files) for files in ("fixed", "original"))
    for row, twin in zip(load(fixed, split="test"), load(original, split="test", files="original"), strict=True):
        assert row["slice_mm"] == twin["slice_mm"] and row["negative_volume"] == twin["negative_volume"]
        np.testing.assert_array_equal(pixels(row["images"]), pixels(twin["images"]))
        np.testing.assert_array_equal(pixels(row["negative_images"]), pixels(twin["negative_images"]))
    metadata = original / "dataset/metadata/validation_metadata.csv"
    metadata.write_text(metadata.read_text().replace("[4.0, 4.0]", "4.0", 1))
    assert f"{metadata}, row of valid_1_a_1.nii.gz" in error_of(original, files="original")
    metadata.write_text(metadata.read_text().replace("RescaleSlope", "Slope"))
    assert "no column 'RescaleSlope'" in error_of(original, files="original")


def test_the_target_decides_what_is_taught_and_asked(tree):
    impressions = load(tree, "none", split="test", target="impression", prompt="zh").with_format(None)
    assert impressions[0]["completion"][0]["content"] == "Impression 1."  # scan 0 has none: it is left out
    assert len(impressions) == 11 and impressions[0]["prompt"][0]["content"] == "请写出这份胸部 CT 的诊断印象。"
    findings = load(tree, "none", split="test", target="findings", prompt_metadata=True)
    assert findings[0]["completion"][0]["content"] == "Finding 0."
    assert findings[0]["prompt"][0]["content"].startswith("Age: 36, Sex: F.")


def test_jitter_takes_new_planes_each_epoch_in_training_alone_and_the_partner_shares_them(tree):
    uniform, jitter = (load(tree, "heter", slices=slices, validation_size=0.3) for slices in ("uniform", "jitter"))
    reader = reader_of(jitter["train"])
    epochs = []
    for epoch in (0, 1, 0):
        reader.set_epoch(epoch)
        epochs.append(jitter["train"][0])
    assert pixels(epochs[0]["images"]).tobytes() == pixels(epochs[2]["images"]).tobytes()
    assert epochs[0]["slice_mm"] != epochs[1]["slice_mm"]
    assert epochs[0]["negative_volume"] == uniform["train"][0]["negative_volume"]  # planes and partners: two draws
    depths = np.array(epochs[1]["slice_mm"]) + 1e-6
    assert (np.diff(depths) > 0).all()
    for split in ("validation", "test"):
        assert pixels(jitter[split][0]["images"]).tobytes() == pixels(uniform[split][0]["images"]).tobytes()


def test_rgb_windows_and_a_range_of_the_depth(tree):
    row = load(tree, "gauss", split="train", window="rgb", z_range=(0.2, 0.8), num_slices=5)[0]
    assert {image.mode for image in (*row["images"], *row["negative_images"])} == {"RGB"}
    whole = load(tree, "none", split="train", num_slices=5)[0]
    assert row["slice_mm"][-1] < 0.8 * whole["slice_mm"][-1]


def test_hard_negatives_lack_a_finding_and_share_most_labels(tree):
    for row in load(tree, "hard", split="train", max_label_distance=9):
        _, partner = row["labels"], labels_of(tree, row["negative_volume"])
        assert row["label_distance"] == sum(a != b for a, b in zip(row["labels"], partner, strict=True)) <= 9
        assert any(a > b for a, b in zip(row["labels"], partner, strict=True))


def test_a_split_too_small_for_partners_does_not_stop_the_others(tree):
    rows = load(tree, "heter", validation_size=0.0001)
    assert rows["train"][0]["negative_volume"]
    single = load(tree, "heter", validation_size=next(size for size in np.arange(0.01, 1, 0.01) if len_of(tree, size)))
    assert single["train"][0]["negative_volume"]
    with pytest.raises(ValueError, match="the split 'validation' has 1.*validation_size"):
        single["validation"][0]


def len_of(tree, size) -> bool:
    return len(load(tree, "none", validation_size=float(size)).get("validation", ())) == 1


def test_what_map_and_columns_do_to_the_index_is_kept(tree):
    rows = load(tree, "none", split="test")
    asked = rows.map(lambda row: {"prompt": [{"role": "user", "content": "Mine."}], "n": len(row["labels"])})
    assert (asked[0]["prompt"][0]["content"], asked[0]["n"]) == ("Mine.", 18) and len(asked[0]["images"]) == 10
    assert rows.add_column("weight", list(range(len(rows))))[3]["weight"] == 3
    assert list(rows.select_columns(["labels"])[0]) == ["labels"]
    with_nodules = rows.filter(lambda labels: labels[9] == 1, input_columns=["labels"])
    assert 0 < len(with_nodules) < len(rows) and all(row["labels"][9] == 1 for row in with_nodules)


def test_a_volume_that_is_gone_from_the_tables_is_an_error_and_no_end_of_the_rows(tree):
    reader = reader_of(load(tree, "none", split="test"))
    with pytest.raises(KeyError, match="valid_99_a_1.*load the dataset again"):
        reader.column("images", "valid_99_a_1.nii.gz", 0)


def labels_of(tree, volume):
    labels = pd.read_csv(tree / "dataset/multi_abnormality_labels/train_predicted_labels.csv").set_index("VolumeName")
    return labels.loc[volume, list(LABELS)].tolist()


def test_a_folder_without_a_tree_is_refused(tmp_path):
    assert "ct-rate-pairs phantom" in error_of(tmp_path)


@pytest.mark.slow
def test_a_bad_volume_stops_the_run_unless_skipped_by_name(own_tree, caplog):
    bad = path_of(own_tree, "train_5_a_1.nii.gz")
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(VolumeError, match="train_5_a_1"):
        list(load(own_tree, "none", split="train+validation", streaming=True))
    with caplog.at_level(logging.WARNING):
        streamed = [
            row["volume"] for row in load(own_tree, "none", split="train+validation", streaming=True, on_error="skip")
        ]
    assert "train_5_a_1.nii.gz" not in streamed and len(streamed) == 11
    assert "1 so far" in caplog.text and "train_5_a_1" in caplog.text
    for negative in ("none", "heter"):
        rows = load(own_tree, negative, split="train+validation", on_error="skip", min_label_distance=1)
        empty = dict.fromkeys(("images", "negative_images", "slice_mm"))
        for row in rows:
            bad = row["volume"] == "train_5_a_1.nii.gz"
            assert is_readable(row) is not bad and (empty.items() <= row.items()) is bad
            assert row["completion"][0]["content"] and row["negative_volume"] != "train_5_a_1.nii.gz"
        taken = [(row["volume"], row["negative_volume"]) for row in ReadableRows(rows)]
        assert len(taken) == 12 and not any("train_5_a_1.nii.gz" in pair for pair in taken)


@pytest.mark.slow
def test_a_volume_that_ends_its_reader_is_left_out_and_counted_by_a_worker_of_a_training(
    own_tree, monkeypatch, reads_apart
):
    fail_at("train_5_a_1.nii.gz", "crash", monkeypatch)
    with pytest.raises(VolumeError, match=r"train_5_a_1.*SIGSEGV.*on_error='skip'"):
        list(load(own_tree, "none", split="train", validation_size=0.0))
    for streaming in (False, True):
        options = {"split": "train", "validation_size": 0.0, "on_error": "skip", "min_label_distance": 1}
        rows = load(own_tree, "heter", streaming=streaming, **options)
        taken = rows if streaming else ReadableRows(rows)
        got = list(DataLoader(taken, batch_size=None, num_workers=1, multiprocessing_context="fork"))
        assert len(got) == (11 if streaming else 12)
        assert not any("train_5_a_1.nii.gz" in (row["volume"], row["negative_volume"]) for row in got)
    reader = reader_of(load(own_tree, "heter", **options))
    assert reader.read("train_5_a_1.nii.gz") is None
    assert len(reader.skipped) == 1 and "SIGSEGV" in reader.skipped[0]


def test_a_row_whose_partners_are_all_bad_is_skipped_and_says_so(own_tree, caplog):
    options = {"split": "train", "on_error": "skip", "validation_size": 0.0}
    rows, stream = load(own_tree, "heter", **options), load(own_tree, "heter", streaming=True, **options)
    for number in range(2, 13):
        bad = path_of(own_tree, f"train_{number}_a_1.nii.gz")
        bad.write_bytes(bad.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        assert list(stream) == []
    assert re.search("train_1_a_1.*that could be its negative", caplog.text)
    assert rows[0]["images"] and rows[0]["negative_images"] is rows[0]["negative_volume"] is None
    with pytest.raises(VolumeError, match="None of the 12 rows"):
        ReadableRows(rows)[0]


def test_without_access_the_error_says_how_to_get_it():
    with pytest.raises(CTRateAccessError, match=r"hf auth login(.|\n)*phantom"):
        load_dataset("ct_rate_pairs", negative="heter")


@pytest.mark.slow
def test_the_literal_use_from_an_empty_folder(tree, tmp_path):
    code = (
        "import ct_rate_pairs; from datasets import load_dataset; "
        f"d = load_dataset('ct_rate_pairs', negative='heter', data_dir={str(tree)!r}, spacing={SPACING}); "
        "print(len(d['train'][0]['negative_images']))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    (tmp_path / "empty").mkdir()
    run = programs.run("-c", code, cwd=tmp_path / "empty", env=environment)
    assert run.stdout.strip().endswith("10"), run.stderr


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[2J", b"%s", b"-n", b"x" * 200])
def test_a_file_beside_the_volumes_is_told_whatever_its_name_is(tmp_path, name, caplog):
    tree = write_tree(tmp_path / os.fsdecode(name), scans=2)
    (next(tree.glob("dataset/train_fixed/*/*")) / os.fsdecode(name + b".nii.gz")).write_bytes(b"x")
    with pytest.raises(TableError, match="lies under dataset/train_fixed but has no row in"):
        load(tree, "none", split="train")
    assert len(load(tree, "none", split="train", on_error="skip")) == 1
    assert "lies under dataset/train_fixed" in caplog.text


def test_where_a_source_is_can_be_written_whatever_its_name_is(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    assert LocalSource(write_tree(folder, scans=2)).location.encode().endswith(rb"\xff")
    assert OwnSource(folder / "scans.csv").location.encode().endswith(rb"\xff/scans.csv")
