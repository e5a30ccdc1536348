"""
Whether the slices that are named as evidence show the finding: `python benchmarks/bench_evidence.py MODEL PHANTOM`.

On the phantom, the slices that show a finding are known: they change if the scan is rendered without the finding. A
hit is a true positive (a finding that the report states and the scan has) whose slice with the most evidence shows the
finding. The benchmark prints the share of hits beside chance (a random slice), for each label and for all labels:
- of all true positives, where the target is at least .70;
- of the true positives whose finding is in at most half of the slices;
- of the true positives whose evidence is clear enough to name a slice to the reader (`top_slices`).

If the model writes findings lines, there are two tables: of evidence on the line, which the reporter gives, and on the
sentences.

If the model has a calibrated confidence (`confidence.json`), the benchmark also prints its errors. They are compared
with the errors of a constant: the prevalence of each label in the validation split.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from datasets import load_dataset
from tqdm.auto import tqdm

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.metrics.calibration import errors
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.hub.reporting.evidence import slice_evidence, top_slices
from ct_rate_pairs.hub.reporting.load import load_reporter
from ct_rate_pairs.phantom import Scan
from ct_rate_pairs.trainer import read_row_settings
from ct_rate_pairs.trainer.generation import write_batch
from ct_rate_pairs.volumes.planes import choose_planes


MOST_TOKENS = 480  # of a report of the phantom
CHANGED_HU, CHANGED_VOXELS = 40, 3  # a slice shows a finding if at least 3 of its voxels change by more than 40 HU


def planted(row: dict, cohort: dict) -> dict[int, np.ndarray]:
    """Index in `LABELS` of each finding of a phantom scan -> whether each slice shows the finding, bool `[S]`."""
    split, patient, scan = row["volume"].split("_")[:3]
    name = (("train", "valid").index(split), int(patient), "abc".index(scan) + 1)
    shape = cohort["shape"]
    size = [count * spacing for count, spacing in zip(shape, cohort["spacing"], strict=True)]
    planes = choose_planes(shape[2], len(row["images"]))

    def slices(labels):
        voxels = Scan(cohort["seed"], name, labels, size).render(tuple(shape))  # [x, y, z], toward the head
        return voxels[:, :, ::-1][:, :, planes].astype(int)

    here = slices(row["labels"])
    meets = {}
    for index in np.flatnonzero(row["labels"]):
        without = slices([value * (place != index) for place, value in enumerate(row["labels"])])
        meets[int(index)] = (np.abs(here - without) > CHANGED_HU).sum(axis=(0, 1)) >= CHANGED_VOXELS
    return meets


def print_hits(hits: list[tuple[int, bool, float, bool]]) -> None:
    """
    Prints a Markdown table: number of true positives, share of hits and chance. `hits` has (label, hit, chance,
    whether a slice is named) of each true positive.
    """
    table = np.array(hits, dtype=float)
    lines = [["finding", "true positives", "in at most half of the slices", "with a slice named"]]
    for name, own in [*((label, table[table[:, 0] == i]) for i, label in enumerate(LABELS)), ("all", table)]:
        parts = (own, own[own[:, 2] <= 0.5], own[own[:, 3] == 1])
        cells = [f"{len(p)}: {p[:, 1].mean():.2f} / {p[:, 2].mean():.2f}" if len(p) else "0" for p in parts]
        lines.append([name, *cells])
    print(format_markdown(lines), end="")


def main(model: str, data_dir: str, split: str, scans: int) -> None:
    """Writes the reports with their evidence, and prints the results."""
    cohort = json.loads((Path(data_dir) / "phantom.json").read_text())
    reporter = load_reporter(model)
    splits = load_dataset("ct_rate_pairs", data_dir=data_dir, negative="none", **read_row_settings(model))
    known = splits["validation"].with_format("numpy", columns=["labels"])["labels"][:]
    rows = splits[split]
    rows = rows.select(range(min(scans or len(rows), len(rows))))
    hits: dict[str, list] = {"sentences": [], "line": []}
    probabilities, labels = [], []
    for row in tqdm(rows, desc="Reporting", unit="scan"):
        options = {"max_new_tokens": MOST_TOKENS, "with_line": reporter.has_line}
        (written,) = write_batch(reporter.model, reporter.collator, [row], **options)
        if reporter.confidence and reporter.confidence.way == "sentences":
            asked = (reporter.model, reporter.collator, row, written.text, written.with_line)
            own = reporter.confidence.probabilities(*asked)
            probabilities.append(own)
            labels.append(row["labels"])
        meets = planted(row, cohort)
        for way, line in {"sentences": None, **({"line": written.line} if written.line else {})}.items():
            found = slice_evidence(reporter.model, reporter.collator, row, written.text, line=line)
            for label, evidence in found.items():
                here = meets.get(label, np.zeros(1))
                if here.any():
                    hits[way].append((label, here[np.argmax(evidence)], here.mean(), bool(top_slices(evidence))))
    print(f"{len(rows)} scans of the split '{split}'")
    for way, own in hits.items():
        if own:
            print(f"\nevidence by the {way}")
            print_hits(own)
    if probabilities:
        prevalence = (known.sum(axis=0) + 1) / (len(known) + 2)
        print("confidence on these scans:", errors(np.array(probabilities), np.array(labels)))
        print("prevalence on these scans:", errors(np.tile(prevalence, (len(labels), 1)), np.array(labels)))
        print("when it was fitted:", reporter.confidence.measured)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model trained on the phantom: a folder, such as runs/phantom")
    parser.add_argument("data_dir", help="the phantom cohort, such as runs/phantom_cohort")
    parser.add_argument("--split", default="test", help="split to report (default: %(default)s)")
    parser.add_argument("--scans", type=int, default=0, help="scans to report; 0, the default, is all")
    args = parser.parse_args()
    main(args.model, args.data_dir, args.split, args.scans)
