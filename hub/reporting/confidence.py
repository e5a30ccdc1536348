r"""
The confidence of each of the 18 labels: the calibrated probability that a scan has the label. There are two ways to
read it from a model, `line` and `sentences`. Of a model that opens its reports with a findings line, both are
measured, and the one with the lower Brier score in the cross-validation is used.

The way `line` reads the decisions of the findings line, see [`~ct_rate_pairs.eval.looking.line_probabilities`]. The
way `sentences` reads the report, and serves every model:

Openings. A sentence that states a finding begins in one of a few ways, the *openings* of the label. An opening is the
shortest beginning, in whole words, after which the sentence always states the finding. So "Pericardial effusion
measuring" is an opening, but "Pericardial effusion" is not, because "was not observed" may follow. Openings are taken
from the model's own reports of the validation split. The most common ones are kept. No opening of a label begins with
another, so their probabilities can be added.

Probability. At each boundary \\(b\\) between two sentences of the report, the model gives each opening \\(o\\) a
probability. The label's probability is the probability that the label is stated at one of these boundaries, up to the
boundary where the report does state it:

\\(p = 1 - \prod_b (1 - \sum_o p(o \mid scan, report_{<b})).\\)

Calibration. These probabilities are too high or too low. So one temperature \\(T\\) and one bias \\(c\\) per label are
fitted to the true labels of the validation split. The confidence is \\(\sigma(logit(p) / T + c)\\). Both ways are
calibrated so.
"""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import write_reports
from ct_rate_pairs.eval.looking.likelihood import branch_log_probs, on_device, read_prompt, tokens_of
from ct_rate_pairs.eval.looking.line_probabilities import line_logits
from ct_rate_pairs.eval.metrics.calibration import errors
from ct_rate_pairs.eval.rows import select_readable, without_slices
from ct_rate_pairs.eval.scoring.label_calibration import (
    FOLDS,
    calibrate,
    fit_calibration,
    folds_of,
    held_out_prevalence,
    held_out_probabilities,
    judge,
    judge_each,
)
from ct_rate_pairs.eval.scoring.operating_points import (
    LineCalibration,
    OperatingPoint,
    read_operating_point,
)
from ct_rate_pairs.hub.references import STRETCH, letters_of
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.confidence import Confidences
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.reports.rules import label_sentence
from ct_rate_pairs.reports.sentences import report_sentences, stating_sentences
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import cut_warning
from ct_rate_pairs.trainer.hub_files import find_file
from ct_rate_pairs.trainer.row_settings import has_findings_line
from ct_rate_pairs.whole_files import write_whole


logger = logging.getLogger(__name__)

FILE = "confidence.json"
MOST_OPENINGS = 24  # per label
LONGEST_OPENING = 11  # words, and fewer letters than the guard takes for a quote: the file is published
NEGLIGIBLE = 1e-5  # if the first token of an opening is less probable, its other tokens are not read
AT_ONCE = 8  # openings per forward pass; more than for whole reports, because openings are short
DIGITS = 4  # decimals of the probabilities in the file


@dataclass(frozen=True)
class Confidence:
    """
    Gives the probabilities of the 18 labels for a report and its scan.

    Args:
        openings (`dict[str, list[str]]`):
            Maps each label to the beginnings of sentences that state it. The list is empty for a label that the model
            never states.
        temperature (`dict[str, float]`), bias (`dict[str, float]`):
            Maps each label to its calibration, in the way `sentences`.
        measured (`dict`):
            Quality of the confidences, in the way that is used: `calibrated`, `uncalibrated` and `prevalence` (the
            share of each label, predicted for every scan), each with `ece`, `brier` and `nll` over all scans and
            labels; `n`, the number of scans; `folds`, the number of folds of the cross-validation, in which
            `calibrated` and `prevalence` are fitted on other patients than they are measured on. `per_label` has the
            numbers of [`~ct_rate_pairs.eval.scoring.label_calibration.judge_each`]. `ways` compares the ways, all on
            the same scans: each has the numbers of [`~ct_rate_pairs.eval.scoring.label_calibration.judge`] and
            `seconds`, the time per scan. If there were scans without a sound findings line, which the way `line` can
            tell nothing of, `unknown` counts them.
        line ([`~ct_rate_pairs.eval.scoring.operating_points.LineCalibration`], *optional*):
            Calibration of the way `line`; `None` for a model without findings lines.
        way (`str`, *optional*, defaults to `"sentences"`):
            The way that is used, `"line"` or `"sentences"`.
    """

    openings: dict[str, list[str]]
    temperature: dict[str, float]
    bias: dict[str, float]
    measured: dict
    line: LineCalibration | None = None
    way: str = "sentences"

    def probabilities(
        self, model: PreTrainedModel, collator: PairCollator, row: dict, report: str, with_line: bool = False
    ) -> list[float]:
        """
        The 18 calibrated probabilities in the way `sentences`, in the official order. `report` is the model's whole
        text of `row`; for `with_line` see [`~ct_rate_pairs.reports.findings_line.open_text`].
        """
        logits = stating_logits(model, collator, row, report, self.openings, with_line)
        temperature, bias = ([values[label] for label in LABELS] for values in (self.temperature, self.bias))
        return calibrate(logits, np.array(temperature), np.array(bias)).tolist()

    @property
    def default_point(self) -> str | float | None:
        """The operating point at which reports are written if no other is asked for; `None` if the model decides."""
        return self.line.operating_point if self.line else None

    def operating_point(self, name: str | float) -> OperatingPoint:
        """
        The calibration and the thresholds under which a findings line is set, for `"f1"` or a sensitivity.

        Raises:
            `ValueError`: for a model without findings lines, or a file of an earlier release.
        """
        if self.line is None:
            raise ValueError(
                f"operating_point={name!r} sets the findings line, and {FILE} of this model has no calibration of its "
                "findings lines. Train it with findings_line names, yes_no or sides, and with confidence_scans."
            )
        return self.line.at(name)

    def save(self, folder: str | Path) -> None:
        """Writes `confidence.json` to the folder of a model."""
        write_whole(Path(folder) / FILE, json.dumps(asdict(self), indent=2) + "\n")


def load_confidence(name_or_path: str, revision: str | None = None) -> Confidence | None:
    """Reads `confidence.json` from a folder, or from a model on the Hub; `None` if there is no such file."""
    path = find_file(name_or_path, FILE, revision)
    if not path:
        return None
    content = read_json(path, Confidences)
    line = content.get("line")
    content.pop("held_out", None)  # which files of before have for the sentences, too
    return Confidence(**content | {"line": LineCalibration(**line) if line else None})


def calibration_of_lines(
    name_or_path: str, revision: str | None = None, operating_point: str | float | None = None
) -> tuple[LineCalibration | None, OperatingPoint | None]:
    """
    The calibration of a model's findings lines, if it has one, and the operating point of [`choose_point`].

    Raises:
        `ValueError`: for an operating point of a model without such a calibration.
    """
    confidence = load_confidence(name_or_path, revision)
    return confidence and confidence.line, choose_point(confidence, operating_point, name_or_path)


def choose_point(
    confidence: Confidence | None, operating_point: str | float | None, model: str = "this model"
) -> OperatingPoint | None:
    """
    What decides on the findings lines of a model.

    Args:
        confidence ([`Confidence`], *optional*):
            The confidence of the model.
        operating_point (`str` or `float`, *optional*):
            `"f1"` or a sensitivity; `"none"` lets the model decide. By default, the operating point at which the model
            was measured after its training.
        model (`str`, *optional*):
            The model, as an error names it.

    Returns:
        [`~ct_rate_pairs.eval.scoring.operating_points.OperatingPoint`] or `None`: the operating point; `None` if the
        model decides.

    Raises:
        `ValueError`: for anything else, and for an operating point of a model without calibrated findings lines.
    """
    if operating_point is not None:
        name = read_operating_point(operating_point)
    else:
        name = confidence.default_point if confidence else None
    if name is None:
        return None
    if confidence is None:
        raise ValueError(
            f"operating_point={name!r} sets the findings line by its probabilities, and {model} has no {FILE}. Train "
            "it with findings_line names, yes_no or sides, and with confidence_scans."
        )
    return confidence.operating_point(name)


def find_openings(reports: Sequence[str]) -> dict[str, list[str]]:
    """The openings of each label in the reports of a model, the most common first; see the top of this module."""
    sentences = [sentence for report in reports for sentence in report_sentences(report)]
    always: dict[str, set[int]] = {}  # the labels that all sentences with a beginning state
    for text, labels in {(sentence.text, sentence.labels) for sentence in sentences}:
        for beginning in beginnings(text):
            always.setdefault(beginning, set(labels)).intersection_update(labels)
    counts: dict[str, Counter] = {label: Counter() for label in LABELS}
    for (text, labels), count in Counter((sentence.text, sentence.labels) for sentence in sentences).items():
        for label in labels:
            settled = (
                b for b in beginnings(text) if label in always[b] and label in label_sentence(b.rstrip(".;!?。；！？"))
            )
            opening = next(settled, None)
            if opening and len(opening.split()) <= LONGEST_OPENING and len(letters_of(opening)) < STRETCH:
                counts[LABELS[label]][opening] += count
    return {label: apart([text for text, _ in own.most_common(MOST_OPENINGS)]) for label, own in counts.items()}


def apart(openings: list[str]) -> list[str]:
    """Drops openings that begin with another one: "Emphysema" also covers "Emphysema."."""
    return [one for one in openings if not any(one.startswith(other) for other in openings if other != one)]


def beginnings(sentence: str) -> list[str]:
    """All beginnings of a sentence in whole words, the shortest first; in Chinese, in whole clauses."""
    if is_chinese(sentence):
        return [sentence[: mark.end()] for mark in re.finditer(r"[，,。；！？]|$", sentence) if mark.end()]
    words = sentence.split()
    return [" ".join(words[: count + 1]) for count in range(len(words))]


@torch.no_grad()
def stating_logits(
    model: PreTrainedModel,
    collator: PairCollator,
    row: dict,
    report: str,
    openings: dict[str, list[str]],
    with_line: bool = False,
) -> np.ndarray:
    """
    Log-odds that the report of a scan states each label, before calibration, `[18]`; 0 for a label without openings.

    The model reads the scan and the report once. At each place where a sentence may begin, the openings are read from
    a copy of the cache.
    """
    ways = {index: list(openings[label]) for index, label in enumerate(LABELS) if openings[label]}
    stating = stating_sentences(report, with_line)
    last = {index: boundary(report, sentence.start) for index, sentence in stating.items()}
    for index, sentence in stating.items():
        if index in ways and not any(sentence.text.startswith(opening) for opening in ways[index]):
            ways[index].append(sentence.text)
    sentences = report_sentences(report, with_line)
    places = {end for sentence in sentences for end in (boundary(report, sentence.start), sentence.end)} or {0}
    tokens, offsets = tokens_of(collator, report)

    context, read = read_prompt(model, on_device(collator.prompts([row]), model)), 0
    not_stated = np.zeros(len(LABELS))  # log-probability
    for place in sorted(places):
        reach = sum(end <= place for _, end in offsets)
        if reach > read:
            context, read = context.read(model, tokens[read:reach]), reach
        due = {index: texts for index, texts in ways.items() if place <= last.get(index, len(report))}
        texts = sorted({text for texts in due.values() for text in texts})
        # Between Chinese sentences is no space.
        branches = [tokens_of(collator, f" {text}" if place and not is_chinese(text) else text)[0] for text in texts]
        log_probs = branch_log_probs(model, context, branches, least=np.log(NEGLIGIBLE), at_once=AT_ONCE)
        probability = dict(zip(texts, log_probs.exp().tolist(), strict=True))
        for index, texts in due.items():
            not_stated[index] += np.log1p(-min(sum(probability[text] for text in texts), 1 - NEGLIGIBLE))
    stated = np.clip(-np.expm1(not_stated), NEGLIGIBLE, 1 - NEGLIGIBLE)
    logits = np.log(stated) - np.log1p(-stated)
    return np.where([index in ways for index in range(len(LABELS))], logits, 0.0)


def boundary(report: str, start: int) -> int:
    """End of the text before a sentence. The white space between belongs to the first token of the sentence."""
    return len(report[:start].rstrip())


def fit_confidence(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 1200,
    operating_point: str | float | None = None,
    progress: bool = True,
    on_row: Callable[[dict], object] = lambda row: None,
) -> Confidence:
    """
    Fits the confidences of a model on the validation split. `fit_confidence(...).save(folder)` writes them.

    The openings come from reports that the model writes of these scans, not from reference reports. The file is
    published with the model, and CT-RATE's reports must not be.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Trained model, in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of the validation split. Each row is read twice. A few hundred rows are enough.
        batch_size (`int`, *optional*, defaults to `16`):
            Scans per batch.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Maximum length of a report in tokens.
        operating_point (`str` or `float`, *optional*):
            The operating point at which the model is measured. It becomes the default of the model's reports.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show progress bars.
        on_row (`Callable[[dict], object]`, *optional*):
            Is called with each row that is read, for what is measured of the same scans.

    Returns:
        [`Confidence`]: the fitted confidences, with their measured quality.

    Raises:
        `ValueError`: for scans of fewer than 5 patients.
    """
    rows = select_readable(rows)
    index = without_slices(rows)
    fold = folds_of([row["volume"] for row in index])  # [N]
    labels = np.array([row["labels"] for row in index], dtype=np.int64)  # [N, 18]
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    written = write_reports(model, collator, rows, **sizes, progress=progress, with_line=has_findings_line(rows))
    if warning := cut_warning(sum(text.cut for text in written), len(written), max_new_tokens):
        logger.warning(warning)
    openings = find_openings([text.report for text in written])
    has_lines = any(text.line for text in written)
    ways = {"sentences": np.empty(labels.shape)} | ({"line": np.empty(labels.shape)} if has_lines else {})
    seconds = dict.fromkeys(ways, 0.0)
    scored = tqdm(zip(rows, written, strict=True), "Scoring findings", len(written), unit="scan", disable=not progress)
    for place, (row, text) in enumerate(scored):
        on_row(row)
        start = time.perf_counter()
        # With its findings line: each sentence depends on what is before it.
        ways["sentences"][place] = stating_logits(model, collator, row, text.text, openings, text.with_line)
        seconds["sentences"] += time.perf_counter() - start
        if has_lines:
            start = time.perf_counter()
            ways["line"][place] = line_logits(model, collator, [row], [text.line])[0]
            seconds["line"] += time.perf_counter() - start

    fitted, probabilities = {}, {}
    for way, logits in ways.items():
        known = ~np.isnan(logits).any(axis=1)
        if len(np.unique(fold[known])) < FOLDS:
            logger.warning(
                "Only %d of %d scans have a sound findings line: the probabilities of lines are not calibrated.",
                known.sum(), len(known),
            )  # fmt: skip
            continue
        held_out = np.full(labels.shape, np.nan)
        held_out[known] = held_out_probabilities(logits[known], labels[known], fold[known])
        fit = [
            dict(zip(LABELS, values.tolist(), strict=True)) for values in fit_calibration(logits[known], labels[known])
        ]
        # Each label's probabilities are sorted for themselves, so nobody can tell which ones are of the same scan.
        ordered = np.sort(held_out[known], axis=0).round(DIGITS).T.tolist()
        fitted[way], probabilities[way] = (*fit, dict(zip(LABELS, ordered, strict=True))), held_out
    compared = ~np.isnan(np.stack(list(probabilities.values()))).any(axis=(0, 2))  # the scans that all ways know
    prevalence = held_out_prevalence(labels, fold)
    judged = {
        way: judge(own[compared], labels[compared], prevalence[compared]) | {"seconds": seconds[way] / len(labels)}
        for way, own in probabilities.items()
    }
    used = min(judged, key=lambda way: judged[way]["brier"])
    known = ~np.isnan(ways[used]).any(axis=1)
    raw = calibrate(ways[used][known], np.ones(len(LABELS)), np.zeros(len(LABELS)))
    measured = {
        "uncalibrated": errors(raw, labels[known]),
        "calibrated": errors(probabilities[used][known], labels[known]),
        "prevalence": errors(prevalence[known], labels[known]),
        "n": len(labels),
        "folds": FOLDS,
        "per_label": judge_each(probabilities[used][known], labels[known], ways[used][known]),
        "ways": judged,
        "unknown": int(np.isnan(ways["line"]).any(axis=1).sum()) if has_lines else 0,
    }
    temperature, bias, _ = fitted["sentences"]
    lines = LineCalibration(*fitted["line"], operating_point) if "line" in fitted else None
    return Confidence(openings, temperature, bias, measured, lines, used)
