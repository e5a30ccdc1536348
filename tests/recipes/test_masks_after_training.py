"""What is measured of masks after a training: on which scans and planes, of which findings, and what is kept of it."""

import json

import numpy as np
import pytest
from datasets import load_dataset
from helpers.drawn_masks import FINDINGS, volumes_of, write_masks
from helpers.pair_trainer import make_model
from helpers.tree import SPACING

from ct_rate_pairs.eval.rows import volume_names
from ct_rate_pairs.eval.scoring import masks as scoring
from ct_rate_pairs.eval.scoring.masks import drawn_masks
from ct_rate_pairs.hub.reporting.masks import load_masker
from ct_rate_pairs.recipes import masks_after_training
from ct_rate_pairs.recipes.masks_after_training import measure_masks
from ct_rate_pairs.recipes.training_arguments import RecipeArguments
from ct_rate_pairs.trainer.mask_head import MaskHead


ROWS = {"spacing": SPACING, "num_slices": 4, "validation_size": 0.3}


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
    options = {"data_dir": str(tree), **ROWS}
    measure_masks(given, None, None, given.dataset_options() | options, tmp_path)
    even, chosen = (
        load_dataset("ct_rate_pairs", split="train", negative="none", masks=masks, slices=of, **options)[0]
        for of in ("uniform", slices)
    )
    assert list(measured) == ["train", "validation", "test"]
    assert measured["train"][0]["images"] == even["images"] != chosen["images"]


@pytest.mark.slow
def test_the_thresholds_that_are_measured_are_those_that_a_reporter_reads(tree, masks, monkeypatch, tmp_path):
    """Predictions are 0.8 inside of masks and 0.5 elsewhere; no scan has emphysema."""
    predict = lambda model, head, collator, row: np.where(drawn_masks(row, head.names), 0.8, 0.5)  # noqa: E731
    monkeypatch.setattr(scoring, "predict_masks", predict)
    model, _ = make_model()
    MaskHead(model.config.vision_config.out_hidden_size, (*FINDINGS, "Emphysema"), 2).save(tmp_path)
    given = RecipeArguments(masks=masks, max_eval_samples=3)
    measure_masks(given, model, None, {"data_dir": str(tree), **ROWS}, tmp_path)
    results = json.loads((tmp_path / "masks.json").read_text())
    assert results["n"] == 3 and results["model"]["dice"] == 1
    masker = load_masker(str(tmp_path), None, model)
    assert masker.fitted == {name: results["model"]["findings"][name]["threshold"] for name in FINDINGS}
    assert all(0.5 < threshold <= 0.8 for threshold in masker.fitted.values())
    assert masker.unfitted([*FINDINGS, "Emphysema"]) == ["Emphysema"]


@pytest.mark.slow
def test_splits_without_masks_are_told_and_nothing_is_measured(tree, measured, tmp_path, capsys):
    only_test = write_masks(tree, tmp_path / "masks", unknown=len(volumes_of(tree)) // 2)
    given = RecipeArguments(masks=str(only_test))
    measure_masks(given, None, None, {"data_dir": str(tree), **ROWS}, tmp_path)
    assert not measured and not (tmp_path / "masks.json").exists()
    told = "No scan of the split train and of validation has masks, so the masks are not measured."
    assert capsys.readouterr().out.strip() == told


@pytest.mark.slow
def test_the_findings_of_mask_names_alone_are_measured(tree, masks, measured, tmp_path):
    given = RecipeArguments(masks=masks, mask_names=["Lung opacity"])
    measure_masks(given, None, None, {"data_dir": str(tree), **ROWS}, tmp_path)
    told = [own["finding"] for rows in measured.values() for of_scan in rows["mask_findings"] for own in of_scan]
    assert set(told) == {"Lung opacity"} and len(told) == len(volumes_of(tree))


@pytest.mark.slow
def test_scans_without_masks_and_scans_that_cannot_be_read_are_left_out(own_tree, measured, tmp_path):
    masks = str(write_masks(own_tree, tmp_path / "masks", unknown=1))
    names = [volume.name for volume in volumes_of(own_tree)]
    volumes_of(own_tree)[-1].write_bytes(b"damaged")
    given = RecipeArguments(masks=masks, max_eval_samples=0)
    measure_masks(given, None, None, {"data_dir": str(own_tree), "on_error": "skip", **ROWS}, tmp_path)
    assert sorted(name for rows in measured.values() for name in volume_names(rows)) == sorted(names[1:-1])
