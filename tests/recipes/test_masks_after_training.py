"""What is measured of masks after a training: on which scans and planes."""

import pytest
from datasets import load_dataset
from helpers.drawn_masks import write_masks
from helpers.tree import SPACING

from ct_rate_pairs.recipes import masks_after_training
from ct_rate_pairs.recipes.training_arguments import RecipeArguments


@pytest.fixture(scope="module")
def masks(tree, tmp_path_factory) -> str:
    return str(write_masks(tree, tmp_path_factory.mktemp("masks")))


@pytest.fixture
def measured(monkeypatch) -> dict:
    """The rows of each split that are measured."""
    rows_of = {}
    monkeypatch.setattr(masks_after_training, "read_mask_head", lambda file, model: None)
    monkeypatch.setattr(masks_after_training, "evaluate_masks", lambda *models, **rows: rows_of.update(rows))
    monkeypatch.setattr(masks_after_training, "format_masks", str)
    return rows_of


@pytest.mark.slow
@pytest.mark.parametrize("slices", ["key", "jitter"])
def test_the_atlas_is_of_the_planes_that_are_measured(tree, masks, measured, tmp_path, slices):
    """Else the atlas would be worse than it is, and the model would look better."""
    given = RecipeArguments(masks=masks, slices=slices, max_eval_samples=3)
    options = {"data_dir": str(tree), "spacing": SPACING, "num_slices": 4, "validation_size": 0.3}
    masks_after_training.measure_masks(given, None, None, given.dataset_options() | options, tmp_path)
    even, chosen = (
        load_dataset("ct_rate_pairs", split="train", negative="none", masks=masks, slices=of, **options)[0]
        for of in ("uniform", slices)
    )
    assert list(measured) == ["train", "validation", "test"]
    assert measured["train"][0]["images"] == even["images"] != chosen["images"]
