"""CT-RATE's original files, whose geometry is in the metadata table: the same rows as from the fixed files."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.csv_tables import TableError


SUPINE = "[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]"
# ImageOrientationPatient, and how its array is stored if the fixed file has left, posterior, superior.
STORED = {
    SUPINE: lambda hu: hu,
    "[-1, 0, 0, 0, -1, 0]": lambda hu: hu[::-1, ::-1],  # prone
    "[1, 0, 0, 0, -1, 0]": lambda hu: hu[:, ::-1, ::-1],  # head first
    "[0, 1, 0, -1, 0, 0]": lambda hu: hu.transpose(1, 0, 2)[:, ::-1],  # on the side
    "['-0.9998', '0.0199', '0', '-0.0199', '-0.9998', '0']": lambda hu: hu[::-1, ::-1],  # prone, a degree off
}
UNIT = np.diag([-1.0, -1.0, 1.0, 1.0])


def original_tree(root: Path, stored: Callable, affine: np.ndarray | None = None, **columns) -> Path:
    """The volumes of `write_tree`, each as `stored` and with the header's `affine`, and columns of the metadata."""
    write_tree(root, files="original", scans=4)
    for file in root.glob("dataset/*/*/*/*.nii.gz"):
        nib.save(nib.Nifti1Image(stored(np.asarray(nib.load(file).dataobj)), affine), file)
    for file in root.glob("dataset/metadata/*.csv"):
        pd.read_csv(file).assign(**columns).to_csv(file, index=False)
    return root


def rows(root: Path, **options) -> list:
    source = open_source(root, spacing=SPACING, **options)
    scans = [scan for split in ("train", "test") for _, scan in source.scans(split, "raise").iterrows()]
    return [(scan.name, *source.read_slices(scan)) for scan in scans]


def assert_equal(some: list, others: list) -> None:
    assert len(some) == len(others) == 8
    for (name, slices, slice_mm), (other_name, other_slices, other_mm) in zip(some, others, strict=True):
        assert name == other_name and slice_mm == pytest.approx(other_mm)  # a prepared copy holds float32
        np.testing.assert_array_equal(slices, other_slices)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> list:
    return rows(write_tree(tmp_path_factory.mktemp("fixed"), scans=4))


@pytest.mark.parametrize("affine", [None, np.eye(4), UNIT], ids=["none", "eye", "LPS"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_table_says_where_the_axes_point(tmp_path, caplog, fixed, orientation, affine):
    root = original_tree(tmp_path, STORED[orientation], affine, ImageOrientationPatient=orientation)
    assert_equal(rows(root, files="original"), fixed)
    assert not caplog.records  # a header of 1 mm says nothing


def test_a_copy_is_prepared_by_the_table_too(tmp_path, fixed, monkeypatch):
    def pool(workers, context, start, arguments):
        return ThreadPoolExecutor(1, initializer=start, initargs=arguments)

    monkeypatch.setattr("ct_rate_pairs.prepare.shards.ProcessPoolExecutor", pool)
    monkeypatch.setattr("ct_rate_pairs.prepare.shards.end_with_parent", lambda: None)
    prone = "[-1, 0, 0, 0, -1, 0]"
    root = original_tree(tmp_path / "tree", STORED[prone], ImageOrientationPatient=prone, PatientPosition="HFP")
    prepare(open_source(root, files="original", spacing=SPACING), tmp_path / "copy", workers=1)
    assert_equal(rows(tmp_path / "copy", files="original"), fixed)


@pytest.mark.parametrize("columns", [{}, {"ImageOrientationPatient": None, "PatientPosition": "ffs "}])
def test_a_table_without_directions_is_told_once(tmp_path, caplog, fixed, columns):
    root = original_tree(tmp_path, STORED[SUPINE], **columns)
    assert_equal(rows(root, files="original"), fixed)
    assert caplog.text.count("for 4 of 4 volumes, the first: train_1_a_1.nii.gz. Their axes are taken as left") == 1
    assert "train_metadata.csv has no ImageOrientationPatient" in caplog.text


@pytest.mark.parametrize("position", ["HFP", "FFP", "HFDL", "prone"])
def test_a_patient_who_lies_otherwise_needs_directions(tmp_path, position):
    root = original_tree(tmp_path, STORED[SUPINE], PatientPosition=position)
    with pytest.raises(TableError, match=f"train_metadata.csv, row of train_1_a_1.*Orient.*=nan.*'{position}'.*fixed"):
        rows(root, files="original")


@pytest.mark.parametrize(
    "cosines", ["[1, 0, 0]", "[1, 0, 0, 1, 0, 0]", "[0, 0, 0, 0, 0, 0]", "[2, 0, 0, 0, 2, 0]", "[1, 0, 0, 0, nan, 0]"]
)
def test_directions_that_are_none_are_refused(tmp_path, cosines):
    root = original_tree(tmp_path, STORED[SUPINE], ImageOrientationPatient=cosines)
    with pytest.raises(
        TableError, match="train_metadata.csv, row of train_1_a_1.*ImageOrientationPatient.*right angle"
    ):
        rows(root, files="original")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("RescaleSlope", 0),
        ("ZSpacing", 0),
        ("ZSpacing", -8),
        ("ZSpacing", ""),
        ("XYSpacing", 4),
        ("XYSpacing", "[4, 0]"),
        ("XYSpacing", "-" * 10**5 + "1"),  # deeper than Python's parser goes
        ("XYSpacing", "[" * 10**5),
        ("RescaleIntercept", "1+" * 10**5 + "1j"),
        ("RescaleIntercept", "1" + "0" * 310),
        ("ZSpacing", "1" + "0" * 299 + "e99"),
        ("ZSpacing", "9" * 309),
    ],
)
def test_numbers_that_no_scan_has_are_refused(tmp_path, column, value):
    others = {"ZSpacing": "[4, 8]"} if value == 4 else {}  # as many numbers in all
    root = original_tree(tmp_path, STORED[SUPINE], **{column: value, **others})
    with pytest.raises(
        TableError, match=f"train_metadata.csv, row of train_1_a_1.*{column}=.*Correct the row"
    ) as told:
        rows(root, files="original")
    assert len(str(told.value)) < 2000


def test_a_voxel_size_without_a_matrix_is_compared_too(tmp_path, caplog, fixed):
    root = original_tree(tmp_path, STORED[SUPINE], ImageOrientationPatient=SUPINE)
    for file in root.glob("dataset/*/*/*/*.nii.gz"):
        image = nib.load(file)
        image.header.set_zooms((4, 4, 5))
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), file)
        assert nib.load(file).header["sform_code"] == nib.load(file).header["qform_code"] == 0
    assert_equal(rows(root, files="original"), fixed)
    assert "but its pixdim says axes LPS and voxels of 4 x 4 x 5 mm. The table is taken." in caplog.text


@pytest.mark.parametrize(
    ("affine", "told"),
    [
        (np.diag([-4.0, -4.0, 8.0, 1.0]), None),
        (np.diag([-4.02, -4.02, 8.04, 1.0]), None),
        (np.diag([4.0, 4.0, 8.0, 1.0]), "axes RAS and voxels of 4 x 4 x 8 mm"),
        (np.diag([-4.0, -4.0, 5.0, 1.0]), "axes LPS and voxels of 4 x 4 x 5 mm"),
    ],
)
def test_a_header_that_says_something_else_is_told(tmp_path, caplog, fixed, affine, told):
    root = original_tree(tmp_path, STORED[SUPINE], affine, ImageOrientationPatient=SUPINE)
    assert_equal(rows(root, files="original"), fixed)
    if told:
        said = f"the metadata table says axes LPS and voxels of 4 x 4 x 8 mm, but its sform says {told}. The table is"
        assert f"train_1_a_1.nii.gz: {said}" in caplog.text
    else:
        assert not caplog.records
