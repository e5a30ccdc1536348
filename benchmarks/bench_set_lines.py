"""
How well reports follow a findings line that is set before them, as a reader's findings are:

    python benchmarks/bench_set_lines.py runs/phantom runs/phantom_cohort

Each scan of the split test is reported three times: below the line that the model writes by itself, below the true
line of the scan, and below the true line of another patient. For each, the benchmark prints the share of the reports
that state just the labels of their line, the share of the entries on which both agree, and of the entries that state a
finding; and beside it the scores of the reports against the scan. Those below true lines are what the text would reach
if the line were never wrong. As JSON, too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from datasets import load_dataset

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.eval.looking.other_volumes import derange_by_patient
from ct_rate_pairs.eval.rows import first_rows, references_of
from ct_rate_pairs.eval.scoring.findings_lines import score_following
from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.eval.scoring.scores import score_reports
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer.generation import write_batch
from ct_rate_pairs.trainer.row_settings import options_to_show


SCORES = {"coverage": "Coverage", "precision_micro": "Precision", "f1_macro": "F1 macro", "bleu4": "BLEU-4"}
SCORES |= {"side_accuracy": "Side"}
MOST_TOKENS = 480


def main(model_dir: str, data_dir: str, scans: int, out: Path) -> None:
    """Writes the reports, and prints and saves what they follow."""
    model, collator = load_model(model_dir)
    options = options_to_show(model_dir, None, {"data_dir": data_dir}, "report") | {"negative": "none"}
    rows = first_rows(load_dataset("ct_rate_pairs", split="test", **options), scans)
    volumes, references, labels = references_of(rows)
    true = [text_of(turns[-1]).partition("\n")[0] for turns in rows.with_format(None)["completion"]]
    others = [true[i] for i in derange_by_patient(volumes)]
    ways = {"the model's own": None, "true": true, "of another patient": others}
    results = {}
    for way, lines in ways.items():
        openings = None if lines is None else [f"{line}\n" for line in lines]
        written = []
        for places in batched(range(len(rows)), 25):
            set_before = openings and [openings[i] for i in places]
            some = [rows[i] for i in places]
            written += write_batch(model, collator, some, max_new_tokens=MOST_TOKENS, openings=set_before)
        reports = [text.report for text in written]
        stated, _ = label_predictions(reports)
        kept = {volume: text.line for volume, text in zip(volumes, written, strict=True) if text.line}
        followed = score_following(kept, volumes, stated)
        per_label = followed["line_followed_per_label"].values()
        results[way] = {
            "followed": followed["line_followed"],
            "entries": float(np.mean([label["followed"] for label in per_label])),
            "stated entries": float(np.mean([label["stated"] for label in per_label if label["stated"] is not None])),
        } | {title: score_reports(reports, references, labels)[name] for name, title in SCORES.items()}
    table = [["line", *next(iter(results.values()))]]
    table += [[way, *(f"{value:.3f}" for value in numbers.values())] for way, numbers in results.items()]
    print(format_markdown(table))
    out.mkdir(parents=True, exist_ok=True)
    (out / "set_lines.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a model that was trained with a findings line")
    parser.add_argument("data_dir", help="the cohort")
    parser.add_argument("--scans", type=int, default=0, help="the first scans of the split test (default: all)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bench_set_lines"), help="default: %(default)s")
    given = parser.parse_args()
    main(given.model, given.data_dir, given.scans, given.output_dir)
