"""`load_dataset("ct_rate_pairs", ...)`: the row's contract, epochs, splits and bad input."""

import logging
import os
import subprocess
import sys

import httpx2
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from ct_rate_tree import SPACING, write_tree
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError
from huggingface_hub.errors import GatedRepoError
from torch.utils.data import DataLoader

from ct_rate_pairs import LABELS
from ct_rate_pairs.source import CTRateAccessError, HubSource
from ct_rate_pairs.tables import TableError
from ct_rate_pairs.volume import VolumeError, fit, read_slices


def load(tree, negative="heter", **options):
    return load_dataset("ct_rate_pairs", negative=negative, data_dir=str(tree), spacing=SPACING, **options)


def pixels(images) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def path_of(tree, name):
    return next(tree.glob(f"dataset/*/*/*/{name}"))


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


def epoch_of(dataset, epoch):
    dataset.set_epoch(epoch)
    return {row["volume"]: pixels(row["negative_images"]).tobytes() for row in dataset}


def test_streamed_negatives_are_new_each_epoch_and_the_same_for_any_number_of_workers(tree):
    stream = load(tree, "gauss", split="train", streaming=True).shuffle(seed=3, buffer_size=1)
    first, second = epoch_of(stream, 0), epoch_of(stream, 1)
    assert first.keys() == second.keys() and all(first[name] != second[name] for name in first)
    assert epoch_of(stream, 1) == second
    stream.set_epoch(1)
    for workers in (1, 2, 3):
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        assert {row["volume"]: pixels(row["negative_images"]).tobytes() for row in loader} == second


def test_map_style_negatives_follow_the_epoch_into_persistent_workers(tree):
    rows = load(tree, "gauss", split="train")
    reader = rows.format["format_kwargs"]["transform"]
    loader = DataLoader(rows, batch_size=None, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (0, 1, 0):
        reader.set_epoch(epoch)
        seen.append([pixels(row["negative_images"]).tobytes() for row in loader])
    assert seen[0] == seen[2] and all(a != b for a, b in zip(seen[0], seen[1], strict=True))


def test_the_first_streamed_row_opens_two_volumes_at_most(tree, monkeypatch):
    opened = []
    monkeypatch.setattr("ct_rate_pairs.source.read_volume", lambda path: opened.append(path) or real(path))
    from ct_rate_pairs.volume import read_volume as real

    next(iter(load(tree, split="train", streaming=True)))
    assert len(opened) == 2


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


def test_not_given_is_never_taught(tree):
    texts = [turn[0]["content"] for turn in load(tree, "none", split="test").with_format(None)["completion"]]
    assert "Findings: Finding 0." in texts and "Findings: Finding 1.\nImpression: Impression 1." in texts
    assert not any("Not given" in text for text in texts)


def test_one_reconstruction_a_scan(own_tree):
    folder = own_tree / "dataset/valid_fixed/valid_3/valid_3_a"
    (folder / "valid_3_a_2.nii.gz").write_bytes((folder / "valid_3_a_1.nii.gz").read_bytes())
    for file in own_tree.glob("dataset/*/valid*.csv"):
        table = pd.read_csv(file)
        twin = table[table["VolumeName"] == "valid_3_a_1.nii.gz"].assign(VolumeName="valid_3_a_2.nii.gz")
        pd.concat([twin, table]).to_csv(file, index=False)
    names = load(own_tree, "none", split="test").with_format(None)["volume"]
    assert "valid_3_a_1.nii.gz" in names and "valid_3_a_2.nii.gz" not in names and len(names) == 12


def test_no_chest_volumes_are_left_out(own_tree):
    (own_tree / "dataset/metadata/no_chest_valid.txt").write_text("valid_4_a_1.nii.gz\n")
    assert "valid_4_a_1.nii.gz" not in load(own_tree, "none", split="test").with_format(None)["volume"]


def test_a_cohort_written_anew_serves_no_stale_index(own_tree):
    assert len(load(own_tree, "none", split="test")) == 12
    write_tree(own_tree, scans=13)
    assert len(load(own_tree, "none", split="test")) == 13


def error_of(tree, **options) -> str:
    with pytest.raises((TableError, FileNotFoundError, DatasetGenerationError, ValueError)) as caught:
        load(tree, **options)
    return f"{caught.value} {caught.value.__cause__}"


def test_bad_tables_are_named_with_the_remedy(own_tree):
    labels = own_tree / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    whole = labels.read_text()
    labels.write_text(whole.replace("Lung nodule", "Nodule"))
    assert "no column 'Lung nodule'" in error_of(own_tree) and str(labels) in error_of(own_tree)
    labels.write_text(whole.replace(",1,", ",7,", 1))
    assert "row 2" in error_of(own_tree) and "0 or 1" in error_of(own_tree)
    labels.write_text(whole.replace("train_2_a_1.nii.gz", "train_2_a.nii.gz"))
    assert f"{labels}, row 3: 'train_2_a.nii.gz' is not a CT-RATE volume name" in error_of(own_tree)
    labels.write_text("")
    assert "not a readable CSV" in error_of(own_tree)
    labels.write_text(whole[: whole.rindex("train_12")])
    assert "train_12_a_1.nii.gz" in error_of(own_tree) and "on_error='skip'" in error_of(own_tree)
    assert len(load(own_tree, "none", on_error="skip", split="train+validation")) == 11
    labels.unlink()
    assert str(labels) in error_of(own_tree)


def test_unknown_options_are_refused(tree):
    assert "'none', 'gauss', 'heter'" in error_of(tree, negative="other")
    assert "on_error" in error_of(tree, on_error="ignore")
    assert "at least two" in error_of(tree, num_slices=1)


def test_a_folder_without_a_tree_is_refused(tmp_path):
    assert "ct_rate_pairs.phantom" in error_of(tmp_path)


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
        taken = [(row["volume"], row["negative_volume"]) for row in rows]
        assert len(taken) == 12 and not any("train_5_a_1.nii.gz" in pair for pair in taken)


def test_a_row_whose_partners_are_all_bad_says_so(own_tree):
    rows = load(own_tree, "heter", split="train", on_error="skip", validation_size=0.0)
    for number in range(2, 13):
        bad = path_of(own_tree, f"train_{number}_a_1.nii.gz")
        bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(VolumeError, match="train_1_a_1.*that could be its negative"):
        rows[0]


def test_terms_that_are_not_accepted_are_told_apart_from_a_dead_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise GatedRepoError("403", response=httpx2.Response(403, request=httpx2.Request("GET", "https://hf.co")))

    monkeypatch.setattr("ct_rate_pairs.source.hf_hub_download", refuse)
    with pytest.raises(CTRateAccessError, match=r"^CT-RATE is a gated dataset. Accept its terms.*hf auth login"):
        HubSource().file("dataset/metadata/train_metadata.csv")


def test_without_access_the_error_says_how_to_get_it():
    with pytest.raises(CTRateAccessError, match=r"hf auth login(.|\n)*phantom"):
        load_dataset("ct_rate_pairs", negative="heter")


def test_the_literal_use_from_an_empty_folder(tree, tmp_path):
    code = (
        "import ct_rate_pairs; from datasets import load_dataset; "
        f"d = load_dataset('ct_rate_pairs', negative='heter', data_dir={str(tree)!r}, spacing={SPACING}); "
        "print(len(d['train'][0]['negative_images']))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    (tmp_path / "empty").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip().endswith("10"), run.stderr
