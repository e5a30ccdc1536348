"""NIfTI masks of DICOM series in a reader's own table, as hospitals have them, lie where the series shows them."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.dicom_series import slices, write
from helpers.drawn_masks import write_table
from helpers.few_slices import load


pytestmark = pytest.mark.slow
COS, SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
POSITIONS = {
    "supine": np.diag([-4.0, -4.0, 8.0, 1.0]),
    "prone": np.diag([4.0, 4.0, 8.0, 1.0]),
    "feet first": np.array([[-4.0, 0, 0, 20], [0, -4, 0, 30], [0, 0, -8, 700], [0, 0, 0, 1]]),
    "columns first": np.array([[0, -4.0, 0, 0], [-4, 0, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]]),
    "oblique": np.array([[-4 * COS, -4 * SIN, 0, 5], [4 * SIN, -4 * COS, 0, 6], [0, 0, 8, 7], [0, 0, 0, 1]]),
}
ORDERS = ("RAS", "LPS", "PIR")  # in which a program may store a mask


def draw(seed: int) -> np.ndarray:
    """A mask that has no symmetry, `[28, 28, 12]`."""
    mask = np.zeros((28, 28, 12), bool)
    mask[4:24, 4:14] = np.random.default_rng(seed).random((20, 10, 12)) < 0.3
    return mask


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Series in each position, bright where their finding is, with its mask in each order of storage."""
    folder, table = tmp_path_factory.mktemp("hospital"), []
    for seed, (position, affine) in enumerate(POSITIONS.items()):
        hu = np.where(draw(seed), 300, -850).astype(np.int16)
        hu[:, -4:] = 40  # a back, without which it is no patient
        write(folder / position, slices(hu, affine, series=seed + 1))
        mask = nib.Nifti1Image(draw(seed).astype(np.uint8), affine)
        own = nib.orientations.io_orientation(affine)
        for order in ORDERS:
            turn = nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(order))
            nib.save(mask.as_reoriented(turn), folder / f"{position} {order}.nii.gz")
            table.append((position, f"{position} {order}.nii.gz", "", "Lung nodule", order))
    pd.DataFrame({"scan": list(POSITIONS), "report": ["A nodule."] * len(POSITIONS)}).to_csv(
        folder / "scans.csv", index=False
    )
    options = {"spacing": (4.0, 4.0, 8.0), "negative": "none", "validation_size": 0}
    return load(folder / "scans.csv", masks=str(write_table(folder, table)), **options)


@pytest.mark.parametrize("place", range(len(POSITIONS)), ids=list(POSITIONS))
def test_the_mask_of_a_series_lies_on_its_pixels_in_any_position_and_order(rows, place):
    row = rows[place]
    bright = np.array([np.asarray(image) for image in row["images"]]) > 150
    assert [told["sentence"] for told in row["mask_findings"]] == list(ORDERS)
    for shown in row["masks"]:
        np.testing.assert_array_equal(np.array([np.asarray(image) for image in shown]), bright)
    assert all((bright != np.flip(bright, axis)).any() for axis in range(3))  # else a mirrored mask would do
