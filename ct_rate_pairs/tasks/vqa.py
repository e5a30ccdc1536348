"""`task="vqa"`: questions made from the 18 labels and from where the report places its findings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from datasets import Value

from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL, LOBES, SIDES, places
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


# How often a type is asked for, before the balance of the answers is seen to.
SHARES = {"presence": 4, "side": 2, "location": 1, "abnormalities": 1}
# Every question there is: its type and the index of its label, -1 for all of them.
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
            Rows per volume, each with another question. With more than about 8 the answers of a volume can no longer
            be balanced, and the question alone tells more.
        question_types (`tuple[str, ...]`, *optional*):
            Which of `"presence"`, `"side"`, `"location"` and `"abnormalities"` are asked for; all by default.
    """

    questions_per_volume: int = field(
        default=4, metadata={"help": "vqa: questions per volume; above 8 they are less balanced."}
    )
    question_types: tuple[str, ...] = field(
        default=QUESTION_TYPES, metadata={"help": "vqa: some of presence, side, location, abnormalities."}
    )

    def check(self) -> None:
        whole_number("questions_per_volume", self.questions_per_volume, 1, len(QUESTIONS))
        if isinstance(self.question_types, str):
            raise ValueError(f"question_types={self.question_types!r}: give a list, [{self.question_types!r}].")
        for kind in self.question_types:
            one_of("question_types", kind, QUESTION_TYPES)


class Questions(Task):
    """
    Asks `questions_per_volume` different questions of each volume of a split.

    - presence: each of the 18 labels, yes or no. For every label about as many questions have the answer yes as no.
    - side: right, left or both, of a finding that the label table and the report state and whose side is said. The
      three are as even as the split allows.
    - location: the lobes of such a finding, where each is said with its side.
    - abnormalities: the names of the positive labels, or none.

    A question is not asked where all other patients' volumes would have the same answer: there the question alone
    tells it. Questions, their order and their wording depend on (`seed`, epoch, volume) and the split's answers.

    Args:
        names (`Sequence[str]`):
            The `N` volumes.
        reports (`Sequence[str]`):
            Their reports.
        labels (`np.ndarray`):
            Their labels, 0 or 1, of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Their patients.
        questions_per_volume (`int`, *optional*, defaults to `4`):
            Questions a volume. Where there are fewer, all of them are asked.
        question_types (`Sequence[str]`, *optional*):
            Which types are asked; all by default.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`.
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
        texts = scans.texts(options.target)
        asked = options.questions_per_volume, options.question_types, options.prompt, options.seed
        return cls(scans.names, texts, scans.labels, scans.patients, *asked)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        question, template = self._drawn(i, number, draw_key)
        kind, label = QUESTIONS[question]
        name = LABELS[label] if label >= 0 else ""
        return Asked(
            write_question(kind, self.language, template, name),
            self._write_answer(i, question),
            {"question_number": number, "question_type": kind, "answer_type": ANSWER_TYPES[kind], "label": name},
        )

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """Volumes that have the same answer to that question as the volume `i`, or none: indices `[M]`."""
        answers = self.answers[:, self._drawn(i, number, draw_key)[0]]
        return np.flatnonzero((answers == answers[i]) | (answers < 0))

    def _drawn(self, i: int, number: int, draw_key: int) -> tuple[int, int]:
        """The question, as its place in `QUESTIONS`, and its wording."""
        if self._last[:2] != (i, draw_key):  # a volume's questions are mostly asked for one after the other
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
    What each volume answers to each question, int32 `[N, Q]`, -1 where that is not known: the label of a presence, the
    place in `SIDES`, lobes or labels as bits.
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
    """Where a volume's answer is known and another patient's volume has another one, bool `[N, Q]`."""
    differ = np.zeros(answers.shape, dtype=bool)
    for question, answer in enumerate(answers.T):
        known = answer >= 0
        same_answer = sharers(answer)
        same_patient = sharers(np.where(known, patients, -1))
        same_both = sharers(answer.astype(np.int64) * (patients.max(initial=0) + 1) + patients)
        differ[:, question] = known & (known.sum() - same_answer - same_patient + same_both > 0)
    return differ
