"""`task="vqa"`: questions made from the 18 labels and from the places of the findings in the report."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from datasets import Value

from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL, LOBES, SIDES, places
from ct_rate_pairs.reports.readable import main_language, unread_language
from ct_rate_pairs.volumes.settings import one_of, whole_number

from .matching_groups import sharers
from .task import Asked, Scans, Task, TaskOptions
from .vqa_balance import balanced_chances, choose
from .vqa_wording import (
    ANSWER_TYPES,
    LOBE_NAMES,
    QUESTION_TYPES,
    SIDE_NAMES,
    YES_NO,
    write_findings,
    write_list,
    write_question,
)


logger = logging.getLogger(__name__)
# Relative frequency of each type of question, before the answers are balanced.
SHARES = {"presence": 4, "side": 2, "location": 1, "abnormalities": 1}
# All questions, each as its type and the index of its label (-1: about all labels).
QUESTIONS = (
    *(("presence", label) for label in range(len(LABELS))),
    *(("side", label) for label in LATERAL),
    *(("location", label) for label in LATERAL),
    ("abnormalities", -1),
)


@dataclass
class VQAOptions(TaskOptions):
    """
    Options of the task `"vqa"`.

    Args:
        questions_per_volume (`int`, *optional*, defaults to `4`):
            Questions per volume, each in its own row. With more than about 8 questions, the answers are less balanced,
            so that the question alone says more about its answer.
        question_types (`tuple[str, ...]`, *optional*):
            Types of questions: some of `"presence"`, `"side"`, `"location"` and `"abnormalities"`. All by default.
    """

    questions_per_volume: int = field(
        default=4, metadata={"help": "vqa: questions per volume; above 8, the answers are less balanced."}
    )
    question_types: tuple[str, ...] = field(
        default=QUESTION_TYPES, metadata={"help": "vqa: some of presence, side, location, abnormalities."}
    )

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed."""
        whole_number("questions_per_volume", self.questions_per_volume, 1, len(QUESTIONS))
        if isinstance(self.question_types, str):
            raise ValueError(f"question_types={self.question_types!r}: give a list, [{self.question_types!r}].")
        for kind in self.question_types:
            one_of("question_types", kind, QUESTION_TYPES)
        if len(set(self.question_types)) < len(self.question_types):
            raise ValueError(f"question_types={', '.join(self.question_types):.80}: give each type once.")


class Questions(Task):
    """
    Asks `questions_per_volume` different questions about each volume of a split.

    - presence: whether one of the 18 labels is present. For every label, the answers yes and no are about equally
      frequent.
    - side: on which side a finding is (right, left or both). The finding must be positive in the label table, and the
      report must state it with its side. The three answers are as equally frequent as the split allows.
    - location: in which lobes such a finding is. The report must name each lobe with its side.
    - abnormalities: the names of the positive labels, or none.

    A question is not asked if the volumes of all other patients have the same answer, because the question alone would
    then give the answer. The questions, their order and their wording depend only on (`seed`, epoch, volume) and the
    answers of the split.

    Args:
        names (`Sequence[str]`):
            Names of the `N` volumes.
        reports (`Sequence[str]`):
            Report of each volume.
        labels (`np.ndarray`):
            Labels of the volumes, 0 or 1, of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each volume.
        questions_per_volume (`int`, *optional*, defaults to `4`):
            Questions per volume. A volume with fewer possible questions gets all of them.
        question_types (`Sequence[str]`, *optional*):
            Types of questions. All types by default.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the questions and answers, `"en"` or `"zh"`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws.
    """

    Options = VQAOptions
    features: ClassVar = {
        "question_number": Value("int16"),
        "question_type": Value("string"),
        "answer_type": Value("string"),
        "label": Value("string"),
    }
    number_column = "question_number"
    remedy = ", or other `question_types`"

    def __init__(
        self,
        names: Sequence[str],
        reports: Sequence[str],
        labels: np.ndarray,
        patients: Sequence[str],
        questions_per_volume: int = 4,
        question_types: Sequence[str] = tuple(SHARES),
        language: str = "en",
        seed: int = 0,
    ):
        self.names, self.labels, self.language, self.seed = names, labels, language, seed
        self.patients = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
        self.answers = _answers(reports, labels)  # [N, Q]
        kinds = np.array([kind for kind, _ in QUESTIONS])
        asked = np.isin(kinds, question_types) & _others_differ(self.answers, self.patients)  # [N, Q]
        share = np.array([SHARES[kind] / (kinds == kind).sum() for kind in kinds])
        self.chances = balanced_chances(
            np.where(asked, self.answers, -1), share, np.isin(kinds, ("presence", "side")), questions_per_volume
        )
        self._last = (-1, -1, np.empty(0), np.empty(0))
        self.rows_of = np.rint(self.chances.sum(axis=1)).astype(int)  # questions of each volume, [N]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        texts = scans.texts(options.target)
        if {"side", "location"} & set(options.question_types) and (language := main_language(texts, unread_language)):
            logger.warning(
                "The reports of the split '%s' seem to be in %s. Sides and lobes are read from English and Chinese "
                "only, so they are not asked for.",
                *(scans.split, language),
            )
        asked = options.questions_per_volume, options.question_types, options.prompt, options.seed
        return cls(scans.names, texts, scans.labels, scans.patients, *asked)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """Question `number` about volume `i` in the epoch `draw_key`."""
        question, template = self._drawn(i, number, draw_key)
        kind, label = QUESTIONS[question]
        name = LABELS[label] if label >= 0 else ""
        return Asked(
            write_question(kind, self.language, template, name),
            self._write_answer(i, question),
            {"question_number": number, "question_type": kind, "answer_type": ANSWER_TYPES[kind], "label": name},
        )

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """Indices `[M]` of the volumes that have the same answer to this question as volume `i`, or no answer."""
        answers = self.answers[:, self._drawn(i, number, draw_key)[0]]
        return np.flatnonzero((answers == answers[i]) | (answers < 0))

    def _drawn(self, i: int, number: int, draw_key: int) -> tuple[int, int]:
        """The index of the question in `QUESTIONS`, and the number of its wording."""
        # The questions of a volume are usually taken one after the other, so the last volume's draw is kept.
        if self._last[:2] != (i, draw_key):
            rng = draw_rng(self.seed, draw_key, self.names[i], Purpose.QUESTIONS)
            chosen = choose(self.chances[i], rng)
            self._last = (i, draw_key, chosen, rng.integers(1 << 30, size=len(chosen)))
        return int(self._last[2][number]), int(self._last[3][number])

    def _write_answer(self, i: int, question: int) -> str:
        kind, answer = QUESTIONS[question][0], int(self.answers[i, question])
        if kind == "presence":
            return YES_NO[self.language][answer]
        if kind == "side":
            return SIDE_NAMES[self.language][SIDES[answer]]
        if kind == "location":
            lobes = [LOBE_NAMES[self.language][lobe] for bit, lobe in enumerate(LOBES) if answer >> bit & 1]
            return write_list(lobes, self.language)
        return write_findings(self.labels[i], self.language)


def _answers(reports: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """
    The answer of each volume to each question, int32 `[N, Q]`; -1 where it is unknown. It is 0 or 1 for presence, the
    index in `SIDES` for side, and otherwise a number whose bits are lobes or labels.
    """
    answers = np.full((len(reports), len(QUESTIONS)), -1, dtype=np.int32)
    answers[:, : len(LABELS)] = labels
    answers[:, -1] = labels.astype(np.int32) @ (1 << np.arange(len(LABELS)))
    column = {question: place for place, question in enumerate(QUESTIONS)}
    for i, report in enumerate(reports):
        for label, (side, lobes) in places(report).items():
            if not labels[i, label]:
                continue
            answers[i, column["side", label]] = SIDES.index(side)
            if lobes:
                answers[i, column["location", label]] = sum(1 << LOBES.index(lobe) for lobe in lobes)
    return answers


def _others_differ(answers: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Whether a volume's answer is known and a volume of another patient has another answer, bool `[N, Q]`."""
    differ = np.zeros(answers.shape, dtype=bool)
    for question, answer in enumerate(answers.T):
        known = answer >= 0
        same_answer = sharers(answer)
        same_patient = sharers(np.where(known, patients, -1))
        same_both = sharers(answer.astype(np.int64) * (patients.max(initial=0) + 1) + patients)
        differ[:, question] = known & (known.sum() - same_answer - same_patient + same_both > 0)
    return differ
