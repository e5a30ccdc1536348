"""
How well the rule labeler reads reports, and how fast: `python benchmarks/bench_labeler.py REPORTS.csv`.

The CSV has one report per row: a column `report_text`, and one column per label, as in the training set of CT-CLIP's
text classifier. The benchmark prints precision, recall and F1 per label, and the speed on one core: cold (no sentence
or word was seen before) and warm (as in a long run over similar reports). `--misses LABEL` prints the errors of one
label, row by row, with the sentences about the label. They are only printed and never written to a file, because
CT-RATE's licence forbids redistribution.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.reports.rules import hinted_by, label_report, label_sentence
from ct_rate_pairs.reports.sentence_spans import split_sentences
from ct_rate_pairs.reports.terms import STEMS


def print_table(stated: np.ndarray, labels: np.ndarray) -> None:
    """Prints precision, recall, F1 and support of each label, and their means, as a Markdown table."""
    hits, claims, support = (stated & labels).sum(0), stated.sum(0), labels.sum(0)
    precision, recall, f1 = hits / claims, hits / support, 2 * hits / (claims + support)
    rows = [*zip(LABELS, precision, recall, f1, support, strict=True)]
    rows.append(("mean (macro)", precision.mean(), recall.mean(), f1.mean(), support.sum()))
    lines = [[name, *(f"{score:.3f}" for score in scores), str(count)] for name, *scores, count in rows]
    print(format_markdown([["label", "precision", "recall", "F1", "support"], *lines]), end="")


def print_misses(texts: list[str], stated: np.ndarray, labels: np.ndarray, label: str) -> None:
    """
    Prints the rows (from 0) where the rules and the manual label differ, with the sentences that hold one of the
    label's stems.
    """
    index = LABELS.index(label)
    for row in np.flatnonzero(stated[:, index] != labels[:, index]):
        print(f"\nrow {row}: manual {int(labels[row, index])}, rules {int(stated[row, index])}")
        for sentence in split_sentences(texts[row]):
            if any(stem in sentence.lower() for stem in STEMS[label].split()):
                print(f"  {'+' if index in label_sentence(sentence) else '-'} {sentence}")


def reports_per_second(texts: list[str]) -> float:
    """Reports per second of one pass over the reports, on one core."""
    start = time.process_time()
    for text in texts:
        label_report(text)
    return len(texts) / (time.process_time() - start)


def main(csv: Path, misses: str | None) -> None:
    """Runs the measurement, and prints the results, or the errors of the label `misses`."""
    table = pd.read_csv(csv)
    texts, labels = table["report_text"].fillna("").tolist(), table[list(LABELS)].to_numpy(dtype=bool)
    cold, warm = [], []
    for _ in range(5):
        label_sentence.cache_clear()
        hinted_by.cache_clear()
        cold.append(reports_per_second(texts))
        warm.append(reports_per_second(texts))
    stated = np.array([label_report(text) for text in texts], dtype=bool)
    if misses:
        print_misses(texts, stated, labels, misses)
        return
    print_table(stated, labels)
    print(f"\n{len(texts)} reports, one core: {np.median(cold):.0f} reports/s cold, {np.median(warm):.0f} warm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="reports with manual labels")
    parser.add_argument("--misses", choices=LABELS, metavar="LABEL", help="print only the errors of this label")
    args = parser.parse_args()
    main(args.csv, args.misses)
