"""The configurations of the builder are named after the negatives, and describe the dataset."""

import pytest
from datasets import Features, List, Value, load_dataset
from helpers.few_slices import comparable, load
from helpers.tree import SPACING

from ct_rate_pairs.config import NEGATIVES


@pytest.mark.parametrize("negative", NEGATIVES)
def test_a_configuration_is_named_after_its_negative(tree, negative):
    options = {"data_dir": str(tree), "spacing": SPACING, "num_slices": 3, "split": "test", "max_label_distance": 9}
    named = load_dataset("ct_rate_pairs", negative, **options)
    assert named.config_name == negative
    given_ = load_dataset("ct_rate_pairs", negative=negative, **options)
    assert [comparable(row) for row in named] == [comparable(row) for row in given_]
    streamed = load_dataset("ct_rate_pairs", negative, streaming=True, **options)
    assert [comparable(row) for row in streamed] == [comparable(row) for row in named]


def test_what_has_no_effect_is_refused(tree):
    load = {"path": "ct_rate_pairs", "data_dir": str(tree)}
    for options, message in (
        ({"name": "default"}, "none.*gauss.*heter.*hard"),
        ({"name": "gauss", "negative": "heter"}, "'gauss' contradicts negative='heter'"),
        ({"data_files": "x.csv"}, "data_files has no effect"),
        ({"revision": "v2"}, "revision='v2' has no effect"),
        ({"features": Features({"volume": Value("string")})}, "features= cannot change"),
        ({"name": "gauss", "num_slices": 1}, "at least two"),
        ({"nmu_slices": 3}, "nmu_slices"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            load_dataset(**load, **options)


def test_the_dataset_describes_itself(tree):
    for streaming in (False, True):
        info = load(tree, streaming=streaming).info
        assert "slices" in info.description and "2403.17834" in info.citation and "CT-RATE" in info.homepage
        assert info.license == "cc-by-nc-sa-4.0" and isinstance(info.features, Features)
    assert load(tree, streaming=True).features["slice_mm"] == List(Value("float32"))


def test_a_cache_that_cannot_be_written_to_is_told_with_the_remedy(phantom):
    with pytest.raises(
        OSError, match=r"cache of datasets cannot be written to \(.+/proc/cache.*Point HF_HOME at a folder"
    ):
        load_dataset("ct_rate_pairs", data_dir=str(phantom), cache_dir="/proc/cache")
