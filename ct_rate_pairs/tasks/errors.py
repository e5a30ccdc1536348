"""`task="errors"`: one statement of the volume's report is made wrong, and the model names it."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from datasets import List, Value

from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports.flips import (
    OTHER_SIDE,
    SIDE,
    FlippedReport,
    collect_statements,
    findings_of,
    flip_report,
    labels_of,
    possible_flips,
)
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import main_language
from ct_rate_pairs.reports.sentences import report_sentences

from .task import Asked, Scans, Task


QUESTION = {
    "en": "One of these statements about this chest CT is wrong. Answer with its number.",
    "zh": "以下关于这份胸部 CT 的描述中有一条是错误的，请回答其编号。",
}


class Errors(Task):
    """
    Asks which statement of a report was made wrong, see [`~ct_rate_pairs.reports.flips.flip_report`].

    Each epoch makes another error in the same report. The statements are listed in random order, so that the number of
    a statement says nothing about it. Volumes whose report has fewer than two statements to choose from are left out.

    Args:
        names (`Sequence[str]`):
            Names of the `N` volumes.
        texts (`Sequence[str]`):
            Report of each volume.
        labels (`np.ndarray`):
            Labels of the volumes, 0 or 1, of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each volume.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the question, `"en"` or `"zh"`. The statements keep the language of the report.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws.
    """

    features: ClassVar = {
        "statements": List(Value("string")),
        "wrong": Value("int8"),
        "error": Value("string"),
        "label": Value("string"),
    }

    def __init__(
        self,
        names: Sequence[str],
        texts: Sequence[str],
        labels: np.ndarray,
        patients: Sequence[str],
        language: str = "en",
        seed: int = 0,
    ):
        self.names, self.labels, self.language, self.seed = names, labels, language, seed
        self.patients = np.asarray(patients)
        self.texts = [findings_of(text) for text in texts]
        self.statements = collect_statements(texts)
        sentences = [[sentence.text for sentence in report_sentences(text)] for text in self.texts]
        self.rows_of = np.array([bool(possible_flips(own, self.statements)) for own in sentences], dtype=int)  # [N]
        self.sides = [_sides(own) for own in sentences]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        texts = scans.texts(options.target)
        if language := main_language(texts):
            raise ValueError(
                f"task='errors' makes statements of English reports wrong, and the reports of the split "
                f"'{scans.split}' seem to be in {language}. Use another task, or English translations."
            )
        return cls(scans.names, texts, scans.labels, scans.patients, options.prompt, options.seed)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The question about volume `i` in the epoch `draw_key`."""
        report, order = self._drawn(i, draw_key)
        statements = [report.options[place] for place in order]
        wrong = order.index(report.wrong)
        lines = [f"{place}. {statement}" for place, statement in enumerate(statements, 1)]
        columns = {"statements": statements, "wrong": wrong, "error": report.kind, "label": report.label}
        return Asked("\n".join([QUESTION[self.language], *lines]), str(wrong + 1), columns)

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """
        Indices `[M]` of volumes that cannot be the partner, because the wrong statement is not true of them either and
        the answer could be the same. Empty if the wrong statement is true of no other patient's volume.
        """
        report, _ = self._drawn(i, draw_key)
        label = LABELS.index(report.label)
        if report.kind == "side":
            (side,) = {mark.lower() for mark in SIDE.findall(report.original)}
            fit = np.array([OTHER_SIDE[side] in sides.get(label, ()) for sides in self.sides])
        else:
            fit = self.labels[:, label] == (report.kind == "added")
        others = self.patients != self.patients[i]
        return np.flatnonzero(~fit) if (fit & others).any() else np.empty(0, dtype=int)

    def _drawn(self, i: int, draw_key: int) -> tuple[FlippedReport, list[int]]:
        """The report with its error, and the order in which the statements are listed."""
        rng = draw_rng(self.seed, draw_key, self.names[i], Purpose.ERRORS)
        report = flip_report(self.texts[i], self.statements, rng)
        return report, rng.permutation(len(report.statements)).tolist()


def _sides(sentences: Sequence[str]) -> dict[int, set[str]]:
    """Index of a finding in `LABELS` -> the sides that the sentences name that state the finding."""
    sides: dict[int, set[str]] = {}
    for sentence in sentences:
        for label in labels_of(sentence)[0]:
            sides.setdefault(label, set()).update(mark.lower() for mark in SIDE.findall(sentence))
    return sides
