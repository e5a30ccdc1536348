"""Dice and lesions of masks: by brute force, with the trivial masks, and each wrong input by its row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.metrics.dice import count_lesions, mask_scores, pack_mask, unpack_mask


def box(*places: slice, shape=(4, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[places] = True
    return mask


ONE = box(slice(1, 3), slice(2, 6), slice(2, 6))
TWO = ONE | box(slice(1, 2), slice(9, 11), slice(9, 11))
EMPTY = np.zeros_like(ONE)


@given(seed=st.integers(0, 2**20), shares=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)))
def test_the_numbers_are_those_of_each_voxel_and_each_lesion(seed, shares):
    rng = np.random.default_rng(seed)
    prediction, reference = (rng.random((3, 6, 5)) < share for share in shares)
    scores = mask_scores([prediction], [reference])
    both, sizes = (prediction & reference).sum(), prediction.sum() + reference.sum()
    assert scores["dice"] == (2 * both / sizes if reference.any() else None)
    assert scores["false_masks"] == (None if reference.any() else float(prediction.any()))
    counts = []
    for own, other in ((reference, prediction), (prediction, reference)):
        parts = parts_of(own)
        counts += [len(parts), sum(any(other[place] for place in part) for part in parts)]
    assert count_lesions(prediction, reference) == tuple(counts)


def parts_of(mask) -> list[set]:
    """Connected parts by flooding, neighbours at the corners included."""
    left, parts = {tuple(place) for place in np.argwhere(mask).tolist()}, []
    while left:
        part, edge = set(), {left.pop()}
        while edge:
            part |= edge
            edge = {place for place in left if any(max(map(abs, np.subtract(place, one))) <= 1 for one in edge)}
            left -= edge
        parts.append(part)
    return parts


def test_trivial_masks_have_their_known_scores():
    same, empty, full = (mask_scores([mask] * 2, [TWO, EMPTY]) for mask in (TWO, EMPTY, ~EMPTY))
    assert (same["dice"], same["lesion_recall"], same["lesion_precision"], same["false_masks"]) == (1, 1, 0.5, 1)
    assert (same["lesions"], same["support"], same["pairs"]) == (2, 1, 2) and same["lesion_f1"] == pytest.approx(2 / 3)
    assert (empty["dice"], empty["lesion_recall"], empty["lesion_precision"], empty["false_masks"]) == (0, 0, None, 0)
    assert (full["lesion_recall"], full["false_masks"]) == (1, 1) and full["dice"] < 0.2


def test_a_shift_costs_overlap_before_it_costs_the_lesion():
    near, far = (mask_scores([np.roll(ONE, by, axis=2)], [ONE]) for by in (2, 5))
    assert (near["dice"], near["lesion_recall"]) == (0.5, 1)
    assert (far["dice"], far["lesion_recall"], far["lesion_precision"], far["lesion_f1"]) == (0, 0, 0, 0)


def test_what_lies_on_two_planes_is_one_lesion_only_if_there_is_no_gap_between_them():
    first, second = box(0, slice(2, 5), slice(2, 5)), box(1, slice(3, 6), slice(3, 6))
    whole, apart = (mask_scores([first], [first | second], planes_apart=gaps) for gaps in (False, True))
    assert (whole["lesions"], whole["lesion_recall"]) == (1, 1) and (apart["lesions"], apart["lesion_recall"]) == (
        2,
        0.5,
    )
    beside = first | box(0, slice(5, 6), slice(5, 6))  # a corner within the plane
    assert mask_scores([beside], [beside], planes_apart=True)["lesions"] == 1


def test_findings_have_numbers_of_their_own_and_patients_give_intervals():
    volumes = ["valid_1_a_1.nii.gz", "valid_1_a_1.nii.gz", "valid_2_a_1.nii.gz"]
    scores = mask_scores([ONE, EMPTY, TWO], [ONE, TWO, TWO], findings=["a", "b", "b"], volumes=volumes, ci=0.9)
    assert {name: of["dice"] for name, of in scores["per_finding"].items()} == {"a": 1.0, "b": 0.5}
    assert scores["per_finding"]["b"]["lesions"] == 4 and scores["dice_ci"] == [0.5, 1.0]


@given(shape=st.tuples(*[st.integers(0, 5)] * 3), seed=st.integers(0, 99))
def test_a_packed_mask_is_the_same_again(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    np.testing.assert_array_equal(unpack_mask(pack_mask(mask)), mask)


@pytest.mark.parametrize(
    ("predictions", "references", "options", "told"),
    [
        ([], [], {}, "0 predictions and 0 references"),
        ([ONE], [ONE, TWO], {}, "1 predictions and 2 references"),
        ([ONE, ONE[0]], [ONE, ONE], {}, "Row 1: a mask has 2 axes"),
        ([ONE, ONE[:3]], [ONE, ONE], {}, r"Row 1: the prediction has the shape \(3, 12, 12\)"),
        ([ONE * 0.5], [ONE], {}, "Row 0: a mask has other values"),
        ([ONE], [ONE], {"findings": ["a", "b"]}, "2 `findings` for 1 masks"),
    ],
)
def test_what_is_no_pair_of_masks_is_named_by_its_row(predictions, references, options, told):
    with pytest.raises(ValueError, match=told):
        mask_scores(predictions, references, **options)
