"""
A trained model and the held-out scans -> `predictions.jsonl`, `results.json`, the sheet of reports and the
table.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from ct_rate_pairs.eval.baselines import trivial_reports
from ct_rate_pairs.eval.figures import plot_reports
from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.loss_gap import loss_gap, shuffle_volumes
from ct_rate_pairs.eval.results import format_table, score_reports
from ct_rate_pairs.trainer import PairCollator


def evaluate_reports(
    model: PreTrainedModel,
    collator: PairCollator,
    scans: Dataset,
    train_reports: Sequence[str],
    train_labels: np.ndarray,
    run_dir: str | Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1200,
) -> dict[str, dict]:
    """
    Write reports for held-out scans at temperature 0 and score them beside the trivial rows (paper, section 7.4).

    The row `shuffled` is the same model shown another patient's volume: a model that looks at the scan must lose by
    it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Trained model.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        scans ([`~datasets.Dataset`]):
            Rows of a held-out split. A volume that `on_error="skip"` replaced by its neighbour counts once.
        train_reports (`Sequence[str]`), train_labels (`np.ndarray` of shape `[N, 18]`):
            The training split, for the trivial rows.
        run_dir (`str` or `Path`):
            Folder to write to.
        batch_size (`int`, *optional*, defaults to `8`):
            Scans at a time.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Longest report in tokens.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: metrics under `model`, `shuffled`, `all_negative`,
        `most_common` and `all_positive`.
    """
    run_dir = Path(run_dir)
    rows = list({row["volume"]: row for row in scans}.values())
    references = [row["completion"][0]["content"] for row in rows]
    labels = np.array([row["labels"] for row in rows])

    write_reports = partial(generate_reports, model, collator, batch_size=batch_size, max_new_tokens=max_new_tokens)
    generated = write_reports(rows)
    (run_dir / "figures").mkdir(parents=True, exist_ok=True)
    with open(run_dir / "predictions.jsonl", "w") as file:
        for row, report in zip(rows, generated, strict=True):
            file.write(json.dumps({"volume": row["volume"], "report": report}) + "\n")

    results = {"model": score_reports(generated, references, labels)}
    try:
        others = list(shuffle_volumes(rows))
    except ValueError as error:  # a handful of scans, most of them of one patient: the other numbers still count
        print(f"No row `shuffled`: {error}")
    else:
        results["shuffled"] = score_reports(write_reports(others), references, labels)
    if rows[0]["negative_images"]:
        gaps = loss_gap(model, collator, rows, batch_size=batch_size)
        results["model"] |= {name: value for name, value in gaps.items() if name != "pair_gaps"}
    for name, report in trivial_reports(train_reports, train_labels).items():
        results[name] = score_reports([report] * len(rows), references, labels)

    (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot_reports(rows, generated, run_dir / "figures" / "reports.png")
    print(f"\n{len(rows)} held-out scans, temperature 0\n{format_table(results)}")
    return results
