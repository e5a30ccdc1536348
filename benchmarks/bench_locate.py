"""
Whether a true sentence scores higher than a false one, and lies where its finding is drawn:
`python benchmarks/bench_locate.py MODEL COHORT`, with a mask head, and a phantom that was written with --masks.

For each finding of a scan, the sentence of its report is true. Two kinds of sentences are false:
- `side`: the same sentence with the other side, where the finding lies on one side;
- `absent`: a sentence about a finding that the scan does not have, from the report of another scan.

The benchmark prints the AUROC of true against false sentences over all scans, the mean AUROC of the sentences about
one finding, and the share of the pairs of one scan in which the true sentence has the higher score; .5 is chance. The
row `prevalence` needs no scan: its score is the share of the training scans that have the finding, on the side that
the sentence names, if it names one.

For the true sentences it then prints how often the highest point lies in the drawn mask (the pointing game), and the
Dice. Beside them stand ways that need no head: the place of the sentence alone, the mean mask of training scans
(atlas), the atlas within that place, and no mask. The atlas's thresholds are fitted on validation scans, as the head's
are.

`--likelihood` adds a score that needs no mask head: how much less likely the model finds the sentence, as a report of
its own, if the slices are blurred.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset, load_dataset
from tqdm.auto import tqdm

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.looking.likelihood import token_log_probs
from ct_rate_pairs.eval.metrics.dice import mask_scores
from ct_rate_pairs.eval.metrics.ranking import auroc
from ct_rate_pairs.eval.rows import first_rows
from ct_rate_pairs.eval.scoring.masks import (
    THRESHOLDS,
    count_masks,
    drawn_masks,
    fit_thresholds,
    make_atlas,
    masks_of_atlas,
)
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.hub.reporting.evidence import blurred_slices
from ct_rate_pairs.hub.reporting.load import load_reporter
from ct_rate_pairs.hub.reporting.locating import locate_findings, read_sentence, score_of
from ct_rate_pairs.hub.reporting.regions import find_chest, weights_of
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.flips import swap_side
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.trainer.row_settings import options_to_show


@dataclass
class Asked:
    """A sentence that was located: of which scan and finding, how it is false if it is, and its scores."""

    scan: int
    label: str
    kind: str  # "true", "side" or "absent"
    scores: dict[str, float]


@dataclass
class Places:
    """Of the true sentences: the drawn masks, and for each way its masks and whether its highest point lies there."""

    labels: list[str] = field(default_factory=list)
    drawn: list[np.ndarray] = field(default_factory=list)
    masks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    pointed: dict[str, list[float]] = field(default_factory=dict)

    def add(self, label: str, drawn: np.ndarray, ways: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """
        Adds a sentence: for each way its values on the slices, and its mask. Of several highest points, one is drawn:
        the share of those that lie in the drawn mask counts.
        """
        self.labels.append(label)
        self.drawn.append(drawn)
        for way, (values, mask) in ways.items():
            self.masks.setdefault(way, []).append(mask)
            self.pointed.setdefault(way, []).append(float(drawn[values == values.max()].mean()))


def shares_of_statements(told: list[list[dict]]) -> dict[tuple[str, str], float]:
    """
    The share of scans that have a finding, `(finding, "")`, and that have it on a side, `(finding, side)`: all that a
    score can know without a look. `told` has the column `mask_findings` of each scan.
    """
    stated = Counter()
    for of_scan in told:
        keys = {(one["finding"], side) for one in of_scan for side in ("", side_of(one["finding"], one["sentence"]))}
        stated.update(keys)
    return {key: number / len(told) for key, number in stated.items()}


def side_of(finding: str, sentence: str) -> str:
    """The side on which a sentence places a finding; `""` if it names none."""
    place = places(sentence).get(LABELS.index(finding))
    return place.side if place else ""


def rows_for(model: str, cohort: str, split: str) -> Dataset:
    """A split of the cohort with masks, as the model is shown it: its planes, window and the like."""
    given = {"data_dir": cohort, "masks": f"{cohort}/masks", "negative": "none"}
    return load_dataset("ct_rate_pairs", split=split, **options_to_show(model, None, given, "report"))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cohort")
    parser.add_argument("--split", default="test")
    parser.add_argument("--scans", type=int, default=100)
    scans = "training scans of the atlas, and validation scans of its thresholds (default: %(default)s)"
    parser.add_argument("--atlas_scans", type=int, default=300, help=scans)
    parser.add_argument("--likelihood", action="store_true")
    args = parser.parse_args()
    reporter = load_reporter(args.model, device="cpu")
    rows, train, validation = (
        rows_for(args.model, args.cohort, split) for split in (args.split, "train", "validation")
    )
    common = shares_of_statements(train.with_format(None)["mask_findings"])
    rows = first_rows(rows, args.scans)
    atlas = make_atlas(first_rows(train, args.atlas_scans), LABELS)
    counts = count_masks(partial(masks_of_atlas, atlas), first_rows(validation, args.atlas_scans), LABELS)
    of_atlas = THRESHOLDS[fit_thresholds(counts)]
    files = {path.name: path for path in Path(args.cohort, "dataset").rglob("*.nii.gz")}
    said = rows.with_format(None)["mask_findings"]
    asked, placed, rng = [], Places(), random_stream(0)
    for scan, row in enumerate(tqdm(rows, unit="scan")):
        stated = {told["finding"]: told["sentence"] for told in said[scan]}
        seen, _ = reporter.see(files[row["volume"]], force=True)
        shares = reporter.masker.shares(reporter.model, reporter.collator, row, reporter.masker.channels)
        chest = find_chest(seen.native, seen.places)
        locate = partial(ask, reporter, row, shares, common, chest, seen.plan, args.likelihood)
        maps, drawn = masks_of_atlas(atlas, row), drawn_masks(row, LABELS)
        for label, sentence in stated.items():
            found, scores = locate(sentence)
            asked.append(Asked(scan, label, "true", scores))
            other = swap_side(sentence)
            if other:
                asked.append(Asked(scan, label, "side", locate(other)[1]))
            number = LABELS.index(label)
            if drawn[number].any():  # else it lies between the slices
                where = weights_of(found.places.get(label), chest, drawn.shape[2:])
                ways = {"locate": (found.shares, found.shown)}
                ways["head alone"] = (shares[label], shares[label] >= reporter.masker.threshold(label))
                for way, values in {"atlas": maps[number], "atlas in the place": maps[number] * where}.items():
                    ways[way] = (values, values >= of_atlas[number])
                ways["the place alone"] = (where, where >= 0.5)
                placed.add(label, drawn[number], ways)
        absent = [label for label in LABELS if label not in stated]
        for label in rng.permutation(absent)[: len(stated)]:
            others = [told["sentence"] for of_scan in said for told in of_scan if told["finding"] == label]
            if others:
                asked.append(Asked(scan, str(label), "absent", locate(str(rng.choice(others)))[1]))
    print_scores(asked)
    print_places(placed)


def ask(reporter, row, shares, common, chest, plan, with_likelihood: bool, sentence: str):
    """What a sentence is located at, and its scores in several ways."""
    read = read_sentence(sentence, reporter.masker)
    found = locate_findings(sentence, read, {label: shares[label] for label in read}, reporter.masker, chest, plan)
    scores = {"locate": found.score}
    scores["head alone"] = min(
        score_of(float(shares[label].max()), reporter.masker.threshold(label)) for label in read
    )
    scores["prevalence"] = min(common.get((label, place.side if place else ""), 0.0) for label, place in read.items())
    if with_likelihood:
        scores["likelihood"] = likelihood(reporter, row, sentence)
    return found, scores


def likelihood(reporter, row: dict, sentence: str) -> float:
    """Nats per token by which a sentence is likelier with the slices than with blurred ones."""
    answer = {"completion": [{"role": "assistant", "content": sentence}], "negative_images": []}
    rows = [row | {"prompt": reporter.prompt({})} | answer | {"images": images}
            for images in (row["images"], blurred_slices(row))]  # fmt: skip
    own, blurred = token_log_probs(reporter.model, reporter.collator, rows).mean(dim=1).tolist()
    return own - blurred


def print_scores(asked: list[Asked]) -> None:
    """AUROC and shares of pairs, for each kind of false sentence and each way."""
    table = [["score", "false sentences", "true", "false", "AUROC", "of one finding", "true one higher"]]
    for way in asked[0].scores:
        for kind in ("side", "absent"):
            false = [one for one in asked if one.kind == kind]
            # Of the sentences with a side, where the side is false; of all, where the finding is.
            paired = {(one.scan, one.label) for one in false}
            true = [one for one in asked if one.kind == "true"]
            true = [one for one in true if kind == "absent" or (one.scan, one.label) in paired]
            pairs = [
                (mine.scores[way], other.scores[way]) for other in false for mine in true
                if mine.scan == other.scan and (kind == "absent" or mine.label == other.label)
            ]  # fmt: skip
            higher = np.mean([(mine > other) + 0.5 * (mine == other) for mine, other in pairs])
            of_one = [
                auroc_of(way, *([one for one in sort if one.label == label] for sort in (true, false)))
                for label in {one.label for one in true} & {one.label for one in false}
            ]
            told = [auroc_of(way, true, false), np.mean(of_one), higher]
            table.append([way, kind, str(len(true)), str(len(false)), *(f"{number:.3f}" for number in told)])
    print(format_markdown(table, text_columns=2))


def auroc_of(way: str, true: list[Asked], false: list[Asked]) -> float:
    """AUROC of the scores of true sentences against those of false ones."""
    values = np.array([one.scores[way] for one in [*true, *false]])
    return float(auroc(values, np.array([1] * len(true) + [0] * len(false))))


def print_places(placed: Places) -> None:
    """The pointing game and the Dice of the true sentences, for all findings and for each."""
    table = [["way", "sentences", "pointed", "Dice", "lesions found", "lesions right"]]
    empty = {"no mask": [np.zeros_like(drawn) for drawn in placed.drawn]}
    for way, masks in (placed.masks | empty).items():
        scores = mask_scores(masks, placed.drawn, planes_apart=True)
        pointed = f"{np.mean(placed.pointed[way]):.3f}" if way in placed.pointed else ""
        numbers = (scores[key] for key in ("dice", "lesion_recall", "lesion_precision"))
        told = ["" if number is None else f"{number:.3f}" for number in numbers]
        table.append([way, str(len(masks)), pointed, *told])
    print(format_markdown(table, text_columns=1))
    table = [["finding", "sentences", *(f"{way}: pointed" for way in placed.pointed), "locate: Dice"]]
    dice = mask_scores(placed.masks["locate"], placed.drawn, findings=placed.labels)["per_finding"]
    for label in [label for label in LABELS if label in dice]:
        own = [place for place, other in enumerate(placed.labels) if other == label]
        pointed = [f"{np.mean([of_way[place] for place in own]):.2f}" for of_way in placed.pointed.values()]
        table.append([label, str(len(own)), *pointed, f"{dice[label]['dice']:.2f}"])
    print(format_markdown(table, text_columns=1))


if __name__ == "__main__":
    main()
