"""A sentence is located where its finding is and its words say; one that is not true of the scan scores lower."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny_reader import make_row, save_nifti
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs import LABELS
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.locating import locate_findings, read_sentence, score_of
from ct_rate_pairs.hub.reporting.masks import Masker, ScanMasks
from ct_rate_pairs.hub.reporting.masks_and_text import told_of_masks
from ct_rate_pairs.hub.reporting.regions import ChestFrame, find_chest, weights_of
from ct_rate_pairs.reports.places import LOBES, Place
from ct_rate_pairs.trainer.mask_head import MaskHead
from ct_rate_pairs.volumes.native_slices import NativeSlices
from ct_rate_pairs.volumes.slice_places import SlicePlace
from ct_rate_pairs.volumes.slicing import Volume, VolumeError


SIZE = (40, 60)
CHEST = ChestFrame(0.5, 1.0, 0.0, 1.0, (np.arange(10) + 0.5) / 10)
MASKER = Masker(MaskHead(8, ("Lung nodule", "Pleural effusion", "Cardiomegaly"), 2), {"Lung nodule": 0.3})
PLAN = Volume("a volume", np.zeros((20, *SIZE), np.int16), (4.0, 4.0, 8.0), 1.0, 0.0).plan(10, (4.0, 4.0, 8.0))


def spot(slice_, row, column, height=0.6) -> np.ndarray:
    shares = np.full((10, *SIZE), 0.01, np.float32)
    shares[slice_, row : row + 3, column : column + 3] = height
    return shares


def located(sentence, **shares):
    own = {label.replace("_", " "): values for label, values in shares.items()}
    read = read_sentence(sentence, MASKER)
    return locate_findings(sentence, read, {label: own[label] for label in read}, MASKER, CHEST, PLAN)


LEFT_BASE = spot(8, 30, 44)  # low, at the back, on the patient's left
TRUE = ["Nodule in the left lower lobe.", "There is a nodule in the left lung.", "A nodule.", "左肺下叶结节。"]
FALSE = [
    "Nodule in the right lower lobe.",
    "Nodule in the left upper lobe.",
    "A nodule in the right lung.",
    "右肺结节。",
]


@pytest.mark.parametrize("sentence", TRUE)
def test_a_true_sentence_is_located_at_its_finding(sentence):
    found = located(sentence, Lung_nodule=LEFT_BASE)
    assert found.score > 0.5 and found.slices == [9] and found.point[0] == 8
    np.testing.assert_array_equal(found.shown, LEFT_BASE >= 0.3)
    assert found.voxels.shape == (20, *SIZE) and found.voxels.sum() == 9


OTHER_SIDE = "Lung nodule: the text says right, and the mask head shows it on the left. Look at the scan."


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ("A nodule is seen in the left lung.", []),
        ("A nodule is seen in the right lung.", [OTHER_SIDE]),
        ("Nodules in both lungs.", []),  # the head need not show all
        ("A nodule.", []),
        ("The heart is on the right.", []),
    ],
)
def test_a_side_on_which_text_and_mask_disagree_is_told(report, told):
    masks = ScanMasks(PLAN, {"Lung nodule": LEFT_BASE >= 0.3, "Cardiomegaly": LEFT_BASE >= 0.3}, {}, [], [], [])
    assert told_of_masks(masks, report, CHEST) == told
    across = np.flip(masks.shown["Lung nodule"], axis=2) | masks.shown["Lung nodule"]
    assert told_of_masks(replace(masks, shown={"Lung nodule": across}), report, CHEST) == []


@pytest.mark.parametrize("sentence", FALSE)
def test_a_sentence_with_a_false_place_scores_lower_and_has_no_mask(sentence):
    found = located(sentence, Lung_nodule=LEFT_BASE)
    assert found.score < min(located(true, Lung_nodule=LEFT_BASE).score for true in TRUE)
    assert not found.shown.any() and found.slices == []


def test_a_sentence_is_as_true_as_the_least_of_its_findings():
    shares = {"Lung_nodule": LEFT_BASE, "Pleural_effusion": spot(8, 30, 44, height=0.1)}
    both = located("Nodule and effusion in the left lung.", **shares)
    nodule, effusion = located("Nodule in the left lung.", **shares), located("Effusion on the left.", **shares)
    assert both.score == effusion.score < nodule.score and set(both.scores) == {"Lung nodule", "Pleural effusion"}
    assert both.shown.any()


UNPLACED = "No place was read for {}, though the sentence names one"
SIDE_ONLY = "Only the side was read for Lung nodule"
DENIED = "Mask and score leave out what the sentence denies: "


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("Nodule and emphysema in the left lung.", ["The mask head does not know Emphysema"]),
        ("Nodule in the left lung, no pleural effusion.", [f"{DENIED}Pleural effusion."]),
        ("Nodule in the left lung. No emphysema. The heart is normal.", [f"{DENIED}Cardiomegaly, Emphysema."]),
        ("No nodule in the right lung. Nodule in the left lung.", [f"{DENIED}Lung nodule."]),
        ("左肺下叶结节，未见胸腔积液。", [f"{DENIED}Pleural effusion."]),
        ("Lymphadenopathy in the left axilla.", [UNPLACED.format("Lymphadenopathy")]),
        ("Mosaic attenuation in the left lower lobe.", [UNPLACED.format("Mosaic attenuation pattern")]),
        ("A port catheter on the right.", [UNPLACED.format("Medical material")]),
        ("左侧腋窝淋巴结肿大。", [UNPLACED.format("Lymphadenopathy")]),
        ("A nodule in the upper lobe.", [UNPLACED.format("Lung nodule")]),
        ("A nodule on the left. Nodules, more prominent on the right.", [UNPLACED.format("Lung nodule")]),
        ("Nodule in the left apex.", [SIDE_ONLY]),
        ("左肺及右肺上叶结节。", [SIDE_ONLY]),
        *((sentence, []) for sentence in TRUE),
        ("Cardiomegaly. A nodule in the left lung. Effusion on the right, unchanged.", []),
        ("Lymphadenopathy.", []),
        ("The nodule in the right middle lobe has not changed.", []),
        ("双肺结节，较前无明显变化。", []),
    ],
)
def test_what_a_sentence_says_and_the_score_does_not_tell_is_told(sentence, told):
    names = (*MASKER.head.names, "Lymphadenopathy", "Mosaic attenuation pattern", "Medical material")
    masker = Masker(MaskHead(8, names, 2), dict.fromkeys(names, 0.3))
    read = read_sentence(sentence, masker)
    found = locate_findings(sentence, read, dict.fromkeys(read, LEFT_BASE), masker, CHEST, PLAN, ["of the scan"])
    assert found.told[0] == "of the scan"
    assert [of.startswith(words) for of, words in zip(found.told[1:], told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("No nodule in the left lung.", "states none of the 18 findings"),
        ("The weather is fine.", "states none of the 18 findings"),
        ("Emphysema in both lungs.", "nothing that the mask head knows"),
    ],
)
def test_a_sentence_without_a_finding_that_is_known_is_refused_with_the_remedy(sentence, told):
    with pytest.raises(ValueError, match=rf"{told}.*Name a finding"):
        read_sentence(sentence, MASKER)


@given(share=st.floats(0, 1), threshold=st.floats(0.05, 0.95))
def test_the_score_is_a_half_where_the_mask_begins(share, threshold):
    score = score_of(share, threshold)
    assert 0 <= score <= 1 and (share >= threshold) == (score >= 0.5 - 1e-9)


def chest_slices(shift=0, air=-850) -> tuple[NativeSlices, list[SlicePlace]]:
    """HU of a body with two lungs, off the middle of the image, on a couch; slices 3 to 8 show lungs."""
    rows, columns = np.mgrid[:60, :100]
    values = np.full((10, 60, 100), -1000, np.int16)
    body = ((columns - 50 - shift) / 36) ** 2 + ((rows - 28) / 22) ** 2 < 1
    values[:, body] = 40
    values[:, 56:58, 5:95] = 100  # the couch
    for middle in (34, 66):
        lung = ((columns - middle - shift) / 12) ** 2 + ((rows - 28) / 15) ** 2 < 1
        values[2:8, lung] = air
    places = [SlicePlace(n + 1, 30.0 * n, None, n + 1, n + 1, n + 1, 10, 2 <= n < 8) for n in range(10)]
    return NativeSlices(values, (4.0, 4.0)), places


@pytest.mark.parametrize("shift", [0, -9, 7])
def test_the_chest_is_found_wherever_the_patient_lies(shift):
    chest = find_chest(*chest_slices(shift))
    assert chest.middle == pytest.approx(0.505 + shift / 100, abs=0.01) and chest.width == pytest.approx(
        0.71, abs=0.02
    )
    assert (chest.front, chest.back) == (pytest.approx(14 / 60, abs=0.02), pytest.approx(43 / 60, abs=0.02))
    assert chest.depths[2] == pytest.approx(1 / 12) and chest.depths[7] == pytest.approx(11 / 12)


def test_without_lungs_the_frame_is_that_of_the_body():
    native, places = chest_slices(air=40)
    chest = find_chest(native, [place.__class__(**vars(place) | {"in_lungs": None}) for place in places])
    assert 0.1 < chest.front < 0.3 and 0.6 < chest.back < 0.85 and chest.depths[0] == 0.05
    empty = NativeSlices(np.full((2, 8, 8), -1000, np.int16), (4.0, 4.0))
    assert find_chest(empty, places[:2]).middle == 0.5


def test_lobes_make_up_their_side_and_sides_make_up_the_slice():
    weights = {
        lobe: weights_of(Place(lobe.split()[0] if " " in lobe else "left", frozenset([lobe])), CHEST, SIZE)
        for lobe in LOBES
    }
    sides = {side: weights_of(Place(side, frozenset()), CHEST, SIZE) for side in ("right", "left", "both")}
    np.testing.assert_allclose(sides["right"] + sides["left"], sides["both"], atol=1e-6)
    right = weights["right upper"] + weights["right middle"] + weights["right lower"]
    np.testing.assert_allclose(right, sides["right"], atol=1e-6)
    np.testing.assert_allclose(weights["left upper"] + weights["left lower"], sides["left"], atol=1e-6)
    assert (weights["lingula"] <= weights["left upper"] + 1e-6).all()
    # The patient's right is on the left of the image, the first slices are at the top, and the first rows in front.
    middles = {lobe: np.argwhere(weight > 0.9).mean(axis=0) for lobe, weight in weights.items()}
    assert middles["right lower"][2] < SIZE[1] / 2 < middles["left lower"][2]
    assert (
        middles["right upper"][0] < middles["right middle"][0]
        and middles["right middle"][1] < middles["right lower"][1]
    )
    assert middles["left upper"][0] < middles["left lower"][0]
    assert weights_of(None, CHEST, SIZE).min() == 1


@pytest.fixture(scope="module")
def reporter(mask_reader_dir):
    return load_reporter(mask_reader_dir, device="cpu")


def test_a_reporter_locates_a_sentence_in_a_scan(reporter, tmp_path):
    here, absent = (
        save_nifti(tmp_path / f"{name}.nii.gz", shown) for name, shown in (("a", (1, 0, 0)), ("b", (0, 0, 0)))
    )
    found, other = (reporter.locate(scan, "Emphysema in both lungs.") for scan in (here, absent))
    assert found.score > 0.5 > other.score and found.slices == [1, 2] and other.slices == []
    assert found.voxels.shape == (12, 28, 28) and found.plan.name == ""
    found.save(tmp_path / "mask.nii.gz")
    mask, scan = nib.load(tmp_path / "mask.nii.gz"), nib.load(here)
    np.testing.assert_array_equal(mask.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0)[::-1], found.voxels)  # feet first
    assert found.voxels.any()
    with pytest.raises(ValueError, match=r"mask\.nii: .*ends with \.nii\.gz"):
        found.save(tmp_path / "mask.nii")
    assert found.places == {"Emphysema": Place("both", frozenset())} and found.told == []


def test_what_cannot_be_located_is_refused(reporter, reader_dir, tmp_path):
    for number, image in enumerate(make_row((1, 0, 1))["images"]):
        image.save(tmp_path / f"{number}.png")
    with pytest.raises(VolumeError, match="Pictures do not tell where they lie"):
        reporter.locate(tmp_path, "Emphysema.")
    with pytest.raises(ValueError, match="Masks need a model with a mask head"):
        load_reporter(reader_dir, device="cpu").locate(tmp_path, "Emphysema.")
    assert set(reporter.masker.channels) < set(LABELS)
