r"""
Operating points: at which probability of a label its finding is stated.

The thresholds come from calibrated probabilities of validation scans, and from nothing else. The expected number of
scans with the label is \\(\sum_{p \ge t} p\\) among those with a probability of at least \\(t\\), and \\(\sum p\\)
among all. So sensitivity and F1 can be expected at each threshold. The true labels are not used a second time: a few
scans would decide on a rare label, and thresholds that are fitted to a few scans do not hold on others.

A sensitivity counts all findings together, as Coverage does, so it has one threshold for all labels. Since the
probabilities are calibrated by label, no other choice of thresholds states fewer findings that are not there. For the
best F1, each label's threshold lies half-way between the one that is best for all findings together and the label's
own best one. The first alone gives the best F1 micro, and leaves rare labels unstated. The second alone states a label
that the model cannot see for most scans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ct_rate_pairs.reports.findings_line import form_of, write_line
from ct_rate_pairs.reports.labels import LABELS

from .label_calibration import calibrate


CURVE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # sensitivities of the operating curve


@dataclass(frozen=True)
class OperatingPoint:
    """
    What decides a findings line in the place of the model's own choice.

    Args:
        name (`str`):
            `"f1"`, or the sensitivity that was asked for.
        temperature (`np.ndarray` of shape `[18]`), bias (`np.ndarray` of shape `[18]`):
            Calibration of the log-odds of [`~ct_rate_pairs.eval.looking.line_probabilities.line_logits`].
        thresholds (`np.ndarray` of shape `[18]`):
            The probability from which on each label is stated.
    """

    name: str
    temperature: np.ndarray
    bias: np.ndarray
    thresholds: np.ndarray

    def set_line(self, logits: np.ndarray, own: str | None, sides: Mapping[int, str]) -> str | None:
        """
        The findings line under this operating point, in the form of the model's own line. `logits` are the log-odds of
        the labels, `[18]`, and `sides` the likeliest sides, of which a form without sides reads none. They are not
        known (NaN) if the model writes no sound line. Then nothing is set: `None`.
        """
        form = form_of(own) if own else None
        if form is None:
            return None
        return write_line(self.decide(logits).tolist(), *form, sides)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The calibrated probabilities of log-odds, `[..., 18]`."""
        return calibrate(logits, self.temperature, self.bias)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The labels that are stated, 0 or 1, `[..., 18]`."""
        return (self.probabilities(logits) >= self.thresholds).astype(int)

    def describe(self) -> dict:
        """What tells this operating point from others, for the record of predictions."""
        return {"operating_point": self.name, "thresholds": self.thresholds.round(4).tolist()}


@dataclass(frozen=True)
class LineCalibration:
    """
    Calibration of the probabilities that a model's findings lines give the 18 labels.

    Args:
        temperature (`dict[str, float]`), bias (`dict[str, float]`):
            Maps each label to its calibration, see [`~ct_rate_pairs.eval.scoring.label_calibration.calibrate`].
        held_out (`dict[str, list[float]]`):
            Maps each label to the probabilities of the validation scans, in ascending order, by calibrations that have
            not seen their patients. Operating points are found from these.
        operating_point (`str` or `float`, *optional*):
            The operating point at which the model was measured after its training, and at which it writes reports if
            no other is asked for. `None` if the model decides, as in files of earlier releases.
    """

    temperature: dict[str, float]
    bias: dict[str, float]
    held_out: dict[str, list[float]]
    operating_point: str | float | None = None

    def at(self, name: str | float) -> OperatingPoint:
        """The operating point `"f1"`, or that of a sensitivity."""
        arrays = [np.array([values[label] for label in LABELS]) for values in (self.temperature, self.bias)]
        return OperatingPoint(str(name), *arrays, thresholds_at(name, self.held_out))


def read_operating_point(text: str | float) -> str | float | None:
    """
    An operating point from an option: `"f1"`, or the sensitivity that is asked for; `None` for `"none"`, which lets
    the model decide.

    Raises:
        `ValueError`: for anything but `"f1"`, `"none"` and numbers above 0 and below 1.
    """
    if text == "none":
        return None
    if text == "f1":
        return text
    try:
        sensitivity = float(text)
    except (TypeError, ValueError):
        sensitivity = 0.0
    if isinstance(text, bool) or not 0 < sensitivity < 1:
        raise ValueError(
            f"operating_point={text!r}: give f1, or a sensitivity above 0 and below 1, such as 0.9: the share of the "
            "present findings that reports are to state. none lets the model decide."
        )
    return sensitivity


def thresholds_at(operating_point: str | float, held_out: Mapping[str, Sequence[float]]) -> np.ndarray:
    """
    The probability from which on each label is stated, `[18]`.

    Args:
        operating_point (`str` or `float`):
            `"f1"` for the best F1, or the sensitivity over all findings.
        held_out (`Mapping[str, Sequence[float]]`):
            Maps each label to calibrated probabilities of validation scans, by calibrations that have not seen them.
    """
    of_labels = [np.sort(held_out[label])[::-1] for label in LABELS]
    together = np.sort(np.concatenate(of_labels))[::-1]
    if operating_point == "f1":
        return (np.array([_best_f1(own) for own in of_labels]) + _best_f1(together)) / 2
    return np.full(len(LABELS), _sensitivity(together, operating_point))


def _best_f1(p: np.ndarray) -> float:
    """The threshold with the highest expected F1. `p` falls."""
    found = p.cumsum()
    return float(p[np.argmax(2 * found / (np.arange(1, len(p) + 1) + found[-1]))])


def _sensitivity(p: np.ndarray, sensitivity: float) -> float:
    """The highest threshold with at least this expected sensitivity. `p` falls."""
    found = p.cumsum()
    return float(p[min(np.searchsorted(found, sensitivity * found[-1]), len(p) - 1)])
