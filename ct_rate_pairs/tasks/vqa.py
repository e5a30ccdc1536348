"""`task="vqa"`: questions made from the 18 labels, and from what the report says of the findings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from datasets import Value

from ct_rate_pairs.number_ranges import Range
from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports import details
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL, LOBES, SIDES, places
from ct_rate_pairs.reports.readable import main_language, unread_language
from ct_rate_pairs.reports.sentences import Sentence, report_sentences
from ct_rate_pairs.volumes.settings import one_of, whole_number

from .matching_groups import sharers
from .task import Asked, Scans, Task, TaskOptions
from .vqa_balance import balanced_chances, choose
from .vqa_wording import (
    ANSWER_TYPES,
    CHOICES,
    DEFAULT_TYPES,
    LOBE_NAMES,
    QUESTION_TYPES,
    SIDE_NAMES,
    YES_NO,
    write_examples,
    write_findings,
    write_list,
    write_question,
)


logger = logging.getLogger(__name__)
# Relative frequency of each type of question, before the answers are balanced.
SHARES = {
    **{"presence": 4, "side": 2, "location": 1, "abnormalities": 1},
    **{"size": 1, "count": 1, "grade": 1, "severity": 1, "change": 1},
}
# Types whose answers come up equally often, as far as the split allows.
BALANCED = ("presence", "side", *CHOICES["en"])
# What is asked before a question about a finding that is there, with `steps`.
STEPS = {
    "side": ("presence",),
    "location": ("presence", "side"),
    "size": ("presence", "side", "location"),
    "count": ("presence",),
    "grade": ("presence", "size"),
    "severity": ("presence",),
    "change": ("presence",),
}
# The questions of `DEFAULT_TYPES`, each as its type and the index of its label (-1: about all labels).
QUESTIONS = (
    *(("presence", label) for label in range(len(LABELS))),
    *(("side", label) for label in LATERAL),
    *(("location", label) for label in LATERAL),
    ("abnormalities", -1),
)
FURTHER_QUESTIONS = (
    *((kind, details.NODULE) for kind in ("size", "count", "grade")),
    *((kind, label) for kind in ("severity", "change") for label in range(len(LABELS))),
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
            Types of questions: some of `"presence"`, `"side"`, `"location"` and `"abnormalities"`, which are the
            default, and of `"size"`, `"count"`, `"grade"`, `"severity"` and `"change"`, which only reports tell.
        steps (`bool`, *optional*, defaults to `False`):
            Whether the questions that lead to a question stand before it as turns of a dialogue, with their answers:
            whether the finding is there, its side, its lobes, its size.
        num_shots (`int`, *optional*, defaults to `0`):
            Examples in the prompt: the same question about other patients of the split `train`, with its answers and
            without the scans.
    """

    questions_per_volume: int = field(
        default=4,
        metadata={
            "range": Range(1, len(QUESTIONS)),
            "help": "vqa: questions per volume; above 8, the answers are less balanced.",
        },
    )
    question_types: tuple[str, ...] = field(
        default=DEFAULT_TYPES,
        metadata={
            "help": "vqa: some of presence, side, location, abnormalities (the default), size, count, grade, "
            "severity, change."
        },
    )
    steps: bool = field(
        default=False, metadata={"help": "vqa: the questions that lead to a question stand before it, with answers."}
    )
    num_shots: int = field(
        default=0,
        metadata={
            "range": Range(0, 16),
            "help": "vqa: examples from other patients in the prompt, without their scans.",
        },
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
        whole_number("num_shots", self.num_shots, 0, 16)
        if self.task == "vqa" and self.steps and not STEPS.keys() & set(self.question_types):
            raise ValueError(
                f"steps=True has no effect on question_types={', '.join(self.question_types)}: it is for "
                f"{', '.join(STEPS)}."
            )


class Questions(Task):
    """
    Asks `questions_per_volume` different questions about each volume of a split.

    - presence: whether one of the 18 labels is present. For every label, the answers yes and no are about equally
      frequent.
    - side: on which side a finding is (right, left or both). The finding must be positive in the label table, and the
      report must state it with its side. The three answers are as equally frequent as the split allows.
    - location: in which lobes such a finding is. The report must name each lobe with its side.
    - abnormalities: the names of the positive labels, or none.
    - size: the largest diameter of the lung nodules, in whole mm. count: one nodule or several. grade: the size class
      of the Fleischner Society, see [`~ct_rate_pairs.reports.details.nodule_grade`]. severity and change: how severe a
      finding is and how it has changed, see [`~ct_rate_pairs.reports.details`]. These are asked only where the report
      clearly tells the answer.

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
        steps (`bool`, *optional*, defaults to `False`):
            Whether the questions that lead to a question stand before it, with their answers.
        num_shots (`int`, *optional*, defaults to `0`):
            Examples from other patients in a prompt. A question with fewer other patients that have an answer gets
            fewer.
        examples ([`Questions`], *optional*):
            The questions of the split that examples come from. By default, this split.
    """

    Options = VQAOptions
    features: ClassVar = {
        "question_number": Value("int16"),
        "question_type": Value("string"),
        "answer_type": Value("string"),
        "label": Value("string"),
        "proof": Value("string"),
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
        question_types: Sequence[str] = DEFAULT_TYPES,
        language: str = "en",
        seed: int = 0,
        *,
        steps: bool = False,
        num_shots: int = 0,
        examples: "Questions | None" = None,
    ):
        self.names, self.labels, self.language, self.seed = names, labels, language, seed
        self.steps, self.num_shots, self.examples = steps, num_shots, examples or self
        self.named_patients = np.asarray(patients, dtype=str)
        self.patients = np.unique(self.named_patients, return_inverse=True)[1]
        more = [question for question in FURTHER_QUESTIONS if question[0] in question_types]
        if "grade" in question_types and "size" not in question_types:
            more = [("size", details.NODULE), *more]  # an earlier step
        self.questions = (*QUESTIONS, *more)
        self.answers, self.proofs = _answers(reports, labels, self.questions)  # [N, Q]
        kinds = np.array([kind for kind, _ in self.questions])
        asked = np.isin(kinds, question_types) & _others_differ(self.answers, self.patients)  # [N, Q]
        share = np.array([SHARES[kind] / (kinds == kind).sum() for kind in kinds])
        self.chances = balanced_chances(
            np.where(asked, self.answers, -1), share, np.isin(kinds, BALANCED), questions_per_volume
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
        examples = None
        if options.num_shots and scans.train is not None:
            train = scans.train
            examples = cls(train.names, train.texts(options.target), train.labels, train.patients, *asked)
        more = {"steps": options.steps, "num_shots": options.num_shots, "examples": examples}
        return cls(scans.names, texts, scans.labels, scans.patients, *asked, **more)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """Question `number` about volume `i` in the epoch `draw_key`."""
        question, template = self._drawn(i, number, draw_key)
        kind, label = self.questions[question]
        told = {
            "question_number": number,
            "question_type": kind,
            "answer_type": ANSWER_TYPES[kind],
            "label": LABELS[label] if label >= 0 else "",
            "proof": self.proofs.get((i, question), ""),
        }
        before, text = self._steps(i, question, template), self._write(question, template)
        if self.num_shots:
            # The examples stand ahead of the dialogue.
            first = before[0][0] if before else text
            first = write_examples(self._examples(i, number, draw_key), first, self.language)
            before, text = (((first, before[0][1]), *before[1:]), text) if before else ((), first)
        return Asked(text, self._write_answer(i, question), told, before)

    def _write(self, question: int, template: int) -> str:
        kind, label = self.questions[question]
        return write_question(kind, self.language, template, LABELS[label] if label >= 0 else "")

    def _steps(self, i: int, question: int, template: int) -> tuple[tuple[str, str], ...]:
        """The questions that lead to a question about volume `i`, with their answers, as far as these are known."""
        kind, label = self.questions[question]
        if not self.steps or label < 0:
            return ()
        steps = [(step, label) for step in STEPS.get(kind, ())]
        places = [self.questions.index(step) for step in steps if step in self.questions]
        known = [place for place in places if self.answers[i, place] >= 0]
        return tuple((self._write(place, template), self._write_answer(i, place)) for place in known)

    def _examples(self, i: int, number: int, draw_key: int) -> list[tuple[str, str]]:
        """The same question about other patients, drawn whatever their answers are, with these answers."""
        question, template = self._drawn(i, number, draw_key)
        others = self.examples
        known = (others.answers[:, question] >= 0) & (others.named_patients != self.named_patients[i])
        rng = draw_rng(self.seed, draw_key, self.names[i], Purpose.EXAMPLES, number)
        chosen, patients = [], set()
        for j in rng.permutation(np.flatnonzero(known)).tolist():
            if len(chosen) == self.num_shots:
                break
            if others.patients[j] not in patients:  # the scans of one patient share most answers
                chosen.append((self._write(question, template), others._write_answer(j, question)))
                patients.add(others.patients[j])
        return chosen

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """Indices `[M]` of the volumes that have the same answer to this question as volume `i`, or no answer."""
        answers = self.answers[:, self._drawn(i, number, draw_key)[0]]
        return np.flatnonzero((answers == answers[i]) | (answers < 0))

    def _drawn(self, i: int, number: int, draw_key: int) -> tuple[int, int]:
        """The index of the question in `questions`, and the number of its wording."""
        # The questions of a volume are usually taken one after the other, so the last volume's draw is kept.
        if self._last[:2] != (i, draw_key):
            rng = draw_rng(self.seed, draw_key, self.names[i], Purpose.QUESTIONS)
            chosen = choose(self.chances[i], rng)
            self._last = (i, draw_key, chosen, rng.integers(1 << 30, size=len(chosen)))
        return int(self._last[2][number]), int(self._last[3][number])

    def _write_answer(self, i: int, question: int) -> str:
        kind, answer = self.questions[question][0], int(self.answers[i, question])
        if kind == "size":
            return f"{answer} mm"
        if kind in CHOICES[self.language]:
            return CHOICES[self.language][kind][answer]
        if kind == "presence":
            return YES_NO[self.language][answer]
        if kind == "side":
            return SIDE_NAMES[self.language][SIDES[answer]]
        if kind == "location":
            lobes = [LOBE_NAMES[self.language][lobe] for bit, lobe in enumerate(LOBES) if answer >> bit & 1]
            return write_list(lobes, self.language)
        return write_findings(self.labels[i], self.language)


def _answers(
    reports: Sequence[str], labels: np.ndarray, questions: Sequence[tuple[str, int]]
) -> tuple[np.ndarray, dict[tuple[int, int], str]]:
    """
    The answer of each volume to each question, int32 `[N, Q]`; -1 where it is unknown. It is 0 or 1 for presence, the
    index in `SIDES` for side, mm for size, the index in `CHOICES` for a choice, and otherwise a number whose bits are
    lobes or labels. And the sentences of the report that prove an answer, by (volume, question).
    """
    answers = np.full((len(reports), len(questions)), -1, dtype=np.int32)
    answers[:, : len(LABELS)] = labels
    column = {question: place for place, question in enumerate(questions)}
    answers[:, column["abnormalities", -1]] = labels.astype(np.int32) @ (1 << np.arange(len(LABELS)))
    kinds, proofs = {kind for kind, _ in questions}, {}
    for i, report in enumerate(reports):
        sentences = report_sentences(report)
        for (kind, label), (answer, proof) in (_placed(report, sentences) | _told(report, kinds)).items():
            if labels[i, label]:
                answers[i, column[kind, label]] = answer
                proofs[i, column[kind, label]] = proof
        for sentence in sentences:
            for label in sentence.labels:
                if labels[i, label]:
                    proofs.setdefault((i, column["presence", label]), sentence.text)
    return answers, proofs


def _placed(report: str, sentences: Sequence[Sentence]) -> dict[tuple[str, int], tuple[int, str]]:
    """The sides and lobes that a report tells, as numbers, with the sentences that prove them."""
    found = {}
    for label, (side, lobes) in places(report).items():
        proof = " ".join(sentence.text for sentence in sentences if label in places(sentence.text))
        found["side", label] = (SIDES.index(side), proof)
        if lobes:
            found["location", label] = (sum(1 << LOBES.index(lobe) for lobe in lobes), proof)
    return found


def _told(report: str, kinds: set[str]) -> dict[tuple[str, int], tuple[int, str]]:
    """The further answers that only a report tells, as numbers, with the sentences that prove them."""
    nodule, found = details.NODULE, {}
    if "size" in kinds and (size := details.largest_nodule(report)) and not size.is_bound:
        found["size", nodule] = (round(size.value), size.proof)
    if "count" in kinds and (count := details.nodule_count(report)):
        found["count", nodule] = (details.COUNTS.index(count.value), count.proof)
    if "grade" in kinds and (grade := details.nodule_grade(report)):
        found["grade", nodule] = (details.GRADES.index(grade.value), grade.proof)
    for kind, read, values in (
        ("severity", details.severities, details.SEVERITIES),
        ("change", details.changes, details.CHANGES),
    ):
        if kind in kinds:
            found |= {(kind, label): (values.index(told.value), told.proof) for label, told in read(report).items()}
    return found


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
