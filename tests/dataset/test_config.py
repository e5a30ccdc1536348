"""The options of `load_dataset("ct_rate_pairs", ...)` are checked by name, kind and value."""

import numpy as np
import pytest
from helpers.loaded_tree import error_of, load


def test_unknown_options_are_refused(tree):
    assert "'none', 'gauss', 'heter'" in error_of(tree, negative="other")
    assert "on_error" in error_of(tree, on_error="ignore")
    assert "at least two" in error_of(tree, num_slices=1)
    for option in ("files", "reconstructions", "slices", "target", "prompt", "window"):
        assert option in error_of(tree, **{option: "other"})
    assert "z_range" in error_of(tree, z_range=(0.5, 0.4))
    for option, value in (
        ("spacing", (1, 1)), ("spacing", 4.5), ("spacing", (1, 1, float("nan"))), ("num_slices", 10.5),
        ("validation_size", 1.0), ("validation_size", -0.1), ("seed", -1), ("seed", None),
        ("min_label_distance", 0), ("max_label_distance", 19),
    ):  # fmt: skip
        assert f"{option}=" in error_of(tree, **{option: value})
    assert "dataset/train_fixed" in error_of(tree, files="original")


@pytest.mark.parametrize(
    ("option", "near"),
    [("num_slice", "num_slices"), ("negatives", "negative"), ("Window", "window"), ("datadir", "data_dir")],
)
def test_a_mistyped_option_is_refused_with_a_near_name(tree, option, near):
    for more in ({}, {"streaming": True}):
        assert error_of(tree, **{option: 4}, **more).startswith(f"There is no option {option}: is {near} meant?")


def test_an_option_like_no_other_is_refused_with_the_list_of_options(tree):
    told = error_of(tree, zzz=None)
    assert "There is no option zzz." in told and "num_slices, spacing" in told
    assert "no option settings" in error_of(tree, settings={})


@pytest.mark.parametrize("value", [4.0, np.int64(4), np.float32(4)])
def test_whole_numbers_of_any_kind_are_taken_as_such(tree, value):
    options = {"num_slices": value, "seed": value, "min_label_distance": value}
    rows = load(tree, "heter", split="train", **options)
    expected = load(tree, "heter", split="train", **dict.fromkeys(options, 4))
    assert rows.features == expected.features and len(rows[0]["images"]) == 4
    assert rows[0]["negative_volume"] == expected[0]["negative_volume"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("spacing", "4 4 8"), ("spacing", ("a", 4, 8)), ("spacing", None or {}), ("z_range", "0 1"),
        ("num_slices", "10"), ("num_slices", True), ("num_slices", float("inf")), ("seed", "3"), ("seed", 1.5),
        ("min_label_distance", "5"), ("validation_size", "0.05"), ("prompt_metadata", "false"),
        ("prompt_metadata", 1),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused_with_the_option_s_name(tree, option, value):
    assert f"{option}={value!r}: give" in error_of(tree, **{option: value})
