"""What a training of a mask head does at its end: it measures the masks."""

from pathlib import Path

from datasets import Dataset, load_dataset
from transformers import PreTrainedModel

from ct_rate_pairs.eval.rows import first_rows, select_readable
from ct_rate_pairs.eval.scoring.masks import evaluate_masks, format_masks
from ct_rate_pairs.recipes.training_arguments import RecipeArguments
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.mask_head import FILE, read_mask_head
from ct_rate_pairs.volumes.settings import OF_TRAINING
from ct_rate_pairs.whole_files import write_whole


MASKS = "masks.json"
SPLITS = ("train", "validation", "test")


def measure_masks(
    recipe_args: RecipeArguments, model: PreTrainedModel, collator: PairCollator, options: dict, out: Path
) -> None:
    """
    Measures the masks on the first scans of the split `test` whose masks are known, and writes `masks.json`: the
    scores, and the threshold of each finding, which is fitted on `validation`. A split without masks is told.
    """
    given = options | recipe_args.mask_options() | {"task": "report", "negative": "none"}
    if recipe_args.slices in OF_TRAINING:
        given["slices"] = "uniform"  # the atlas must be of the planes that are measured
    splits = {split: _with_masks(load_dataset("ct_rate_pairs", split=split, **given)) for split in SPLITS}
    if missing := [split for split, rows in splits.items() if not rows]:
        print(f"No scan of the split {' and of '.join(missing)} has masks, so the masks are not measured.")
        return
    rows = {split: first_rows(of_split, recipe_args.max_eval_samples) for split, of_split in splits.items()}
    results = evaluate_masks(model, read_mask_head(out / FILE, model), collator, **rows)
    write_whole(out / MASKS, to_json(results, indent=2) + "\n")
    print(format_masks(results))


def _with_masks(rows: Dataset) -> Dataset:
    """The rows whose masks are known, and whose scans can be read."""
    known = rows.with_format(None)["mask_findings"]
    return select_readable(rows.select([place for place, findings in enumerate(known) if findings is not None]))
