"""What `recipes/evaluate_reports.py` does with a file of reports that are written already, by any program."""

from pathlib import Path

from datasets import Dataset

from ct_rate_pairs.eval.predictions.provenance import check_references, read_provenance
from ct_rate_pairs.eval.predictions.store import (
    copy_predictions,
    count_cut,
    read_cut,
    read_line_logits,
    read_lines,
    read_predictions,
    select_shared,
)
from ct_rate_pairs.eval.rows import select_volumes
from ct_rate_pairs.eval.tasks.report import score_predictions, write_results


def measure_predictions(
    file: str, split: Dataset, out: Path, score: dict, *, split_name: str, made_by: str | None, scans_of: list[str]
) -> None:
    """Measures a file of reports, of the scans that all runs of `scans_of` have, too. Reads no model and no volume."""
    predictions = read_predictions(file)
    check_references(file, split, split_name)
    print(f"{len(predictions)} of the {len(split)} scans of the split {split_name} have a report.")
    select_volumes(split, predictions)  # refuses reports of other scans
    if made_by:
        copy_predictions(file, split, out, made_by=made_by, split=split_name)
    predictions, made_with = select_shared(predictions, scans_of), read_provenance(file)
    if scans_of:
        print(f"{len(predictions)} of these scans have a report in all runs of scans_of, too, and are measured.")
    score |= {"lines": read_lines(file), "line_logits": read_line_logits(file)}
    score["operating_point"] = made_with.get("operating_point")
    results, counts = score_predictions(predictions, split, **score), count_cut(read_cut(file), predictions)
    if not counts:
        print("Whether reports are cut at a limit of tokens is not known: the file does not tell.")
    limit = made_with.get("max_new_tokens")
    results["model"] |= counts | ({"max_new_tokens": limit} if limit else {})
    results["model"] |= {"made_by": made_by} if made_by else {}
    write_results(results, out, predictions=predictions, looking={})
