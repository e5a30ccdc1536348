"""The phantom's masks: where each finding was drawn, beside files that are the same without them."""

import hashlib

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset
from helpers.command import call
from helpers.shares import mostly_slow

from ct_rate_pairs import LABELS
from ct_rate_pairs.phantom import Scan, write_cohort
from ct_rate_pairs.phantom.__main__ import main
from ct_rate_pairs.phantom.masks import write_masks
from ct_rate_pairs.reports.rules import label_report


SHAPE = (84, 56, 40)
FIELD_OF_VIEW = (378.0, 252.0, 260.0)
COARSE = {"shape": (48, 36, 24), "spacing": (8.0, 8.0, 12.0)}
ALL = np.ones(len(LABELS), int)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    write_cohort(out, 10, valid_scans=4, workers=1, masks=True, **COARSE)
    return out


def digests(folder):
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files_of(folder)}


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_without_masks_all_other_files_are_the_same(cohort, tmp_path):
    write_cohort(tmp_path, 10, valid_scans=4, workers=1, **COARSE)
    plain = digests(tmp_path)
    assert plain == {file: digest for file, digest in digests(cohort).items() if not file.startswith("masks/")}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("label", mostly_slow(LABELS))
def test_a_mask_is_where_the_finding_shows_and_within_its_region(label):
    for patient in (1, 2, 3):
        only = np.eye(len(LABELS), dtype=int)[LABELS.index(label)]
        scan = Scan(4, (0, patient, 1), only, FIELD_OF_VIEW)
        present, absent = (s.render(SHAPE) for s in (scan, Scan(4, (0, patient, 1), 0 * only, FIELD_OF_VIEW)))
        mask = scan.masks(SHAPE)[label]
        assert mask.shape == SHAPE and 0 < mask.sum() < 0.5 * mask.size
        assert not (mask & ~scan.region(label, SHAPE)).any()
        changed = present != absent
        if label == "Cardiomegaly":  # the whole heart, and not its growth alone
            assert 0.3 < (mask & changed).sum() / mask.sum() < 0.7
            assert 20 < np.median(present[mask]) < 80
        else:  # faint edges may be lost when HU are rounded
            assert (mask & changed).sum() > 0.98 * mask.sum()
        if label not in ("Cardiomegaly", "Pericardial effusion"):  # the heart moves what lies about it, too
            assert not (changed & ~mask).any()


def test_findings_that_lie_on_each_other_keep_their_masks():
    scan = Scan(3, (0, 1, 1), ALL, FIELD_OF_VIEW)
    masks = scan.masks(SHAPE)
    assert list(masks) == list(scan.findings)
    assert (masks["Mosaic attenuation pattern"] & masks["Lung opacity"]).any()
    assert (masks["Cardiomegaly"] & masks["Coronary artery wall calcification"]).any()
    assert not (masks["Cardiomegaly"] & masks["Pericardial effusion"]).any()


def test_written_masks_are_the_findings_voxels_whatever_lies_on_them(tmp_path):
    scan, spacing = Scan(3, (0, 1, 1), ALL, FIELD_OF_VIEW), (4.5, 4.5, 6.5)
    rows = write_masks(tmp_path, "train_1_a_1.nii.gz", scan, SHAPE, spacing, dict.fromkeys(LABELS, "Seen."))
    assert [label for *_, label, _ in rows] == list(LABELS) and len({file for _, file, *_ in rows}) > 1
    masks = scan.masks(SHAPE)
    for _, file, value, label, _ in rows:
        layer = np.asarray(nib.load(tmp_path / "masks" / file).dataobj)
        np.testing.assert_array_equal(layer == value, masks[label])


def test_slabs_do_not_show(monkeypatch):
    scan = Scan(2, (0, 1, 1), ALL, FIELD_OF_VIEW)
    whole = scan.masks(SHAPE)
    monkeypatch.setattr("ct_rate_pairs.phantom.scan.SLAB_VOXELS", SHAPE[0] * SHAPE[1] * 7)
    for label, mask in scan.masks(SHAPE).items():
        np.testing.assert_array_equal(mask, whole[label])


def test_the_table_names_each_finding_with_its_sentence_and_each_healthy_volume(cohort):
    table = pd.read_csv(cohort / "masks/masks.csv", keep_default_na=False)
    texts = pd.concat(map(pd.read_csv, (cohort / "dataset/radiology_text_reports").glob("*.csv")))
    labels = pd.concat(map(pd.read_csv, (cohort / "dataset/multi_abnormality_labels").glob("*.csv")))
    report = dict(zip(texts["VolumeName"], texts["Findings_EN"], strict=True))
    of_volume = dict(iter(table.groupby("volume")))
    for row in labels.to_dict("records"):
        drawn = of_volume[row["VolumeName"]]
        present = [label for label in LABELS if row[label]]
        assert drawn["finding"].tolist() == (present or [""])
        for one in drawn.to_dict("records"):
            assert one["sentence"] in report[row["VolumeName"]]
            if present:
                assert label_report(one["sentence"])[LABELS.index(one["finding"])]
                assert int(one["value"]) == 1 + LABELS.index(one["finding"])
                mask = nib.load(cohort / "masks" / one["file"])
                volume = nib.load(next(cohort.glob(f"dataset/*/*/*/{row['VolumeName']}")))
                np.testing.assert_array_equal(mask.affine, volume.affine)
                assert mask.shape == volume.shape and mask.get_data_dtype() == np.uint8
    assert {row["VolumeName"] for row in labels.to_dict("records")} == of_volume.keys()
    assert any(rows["file"].iloc[0] == "" for rows in of_volume.values())


def test_its_masks_are_read_beside_its_slices(cohort):
    rows = load_dataset("ct_rate_pairs", data_dir=str(cohort), masks=str(cohort / "masks"), spacing=COARSE["spacing"],
                        reconstructions="all", validation_size=0)  # fmt: skip
    seen = 0
    for row in (*rows["train"], *rows["test"]):
        present = [label for label, positive in zip(LABELS, row["labels"], strict=True) if positive]
        assert [told["finding"] for told in row["mask_findings"]] == present
        for told, of_finding in zip(row["mask_findings"], row["masks"], strict=True):
            shown = np.array([np.asarray(image) for image in of_finding])
            hu = np.array([np.asarray(image) for image in row["images"]]) / 127.5 * 1000 - 1000
            if told["finding"] == "Medical material" and shown.any():
                assert np.median(hu[shown]) > 900  # metal
                seen += 1
            if told["finding"] == "Cardiomegaly":
                assert -30 < np.median(hu[shown]) < 120
                seen += 1
    assert seen


def test_the_command_writes_masks(tmp_path, capsys):
    size = ("--shape", 24, 24, 12, "--spacing", 14, 14, 26.7)
    assert call(main, "--output_dir", tmp_path, "--scans", 2, "--workers", 1, *size, "--masks") == 0
    assert (tmp_path / "masks/masks.csv").is_file()
