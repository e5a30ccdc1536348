"""
How well the rule labeler reads reports, and how fast: `python benchmarks/bench_labeler.py REPORTS.csv`.

The CSV has one report a row: a column `report_text` and the 18 labels by name, as in the training set of CT-CLIP's
text classifier. Prints precision, recall and F1 a label, and the speed on one core twice: cold, with no sentence or
word seen before, and warm, as in a long run over the same kind of reports. `--misses LABEL` prints the misses of one
label, row by row, with the sentences that speak of it; they go to the terminal only, as CT-RATE's licence asks.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS
from ct_rate_pairs.reports.rules import hinted_by, label_report, label_sentence, split_sentences
from ct_rate_pairs.reports.terms import STEMS


def print_table(stated: np.ndarray, labels: np.ndarray) -> None:
    """Precision, recall, F1 and support of each label, and their means, as a Markdown table."""
    hits, claims, support = (stated & labels).sum(0), stated.sum(0), labels.sum(0)
    precision, recall, f1 = hits / claims, hits / support, 2 * hits / (claims + support)
    print("| label | precision | recall | F1 | support |\n|---|---|---|---|---|")
    for row in zip(LABELS, precision, recall, f1, support, strict=True):
        print("| {} | {:.3f} | {:.3f} | {:.3f} | {} |".format(*row))
    print(f"| mean (macro) | {precision.mean():.3f} | {recall.mean():.3f} | {f1.mean():.3f} | {support.sum()} |")


def print_misses(texts: list[str], stated: np.ndarray, labels: np.ndarray, label: str) -> None:
    """Rows (from 0) where rules and manual label differ, with the sentences that hold one of the label's stems."""
    index = LABELS.index(label)
    for row in np.flatnonzero(stated[:, index] != labels[:, index]):
        print(f"\nrow {row}: manual {int(labels[row, index])}, rules {int(stated[row, index])}")
        for sentence in split_sentences(texts[row]):
            if any(stem in sentence.lower() for stem in STEMS[label].split()):
                print(f"  {'+' if index in label_sentence(sentence) else '-'} {sentence}")


def reports_per_second(texts: list[str]) -> float:
    """Speed of one pass over the reports in this process, which uses one core."""
    start = time.process_time()
    for text in texts:
        label_report(text)
    return len(texts) / (time.process_time() - start)


def main(csv: Path, misses: str | None) -> None:
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
    parser.add_argument("--misses", choices=LABELS, metavar="LABEL", help="print the misses of this label")
    args = parser.parse_args()
    main(args.csv, args.misses)
