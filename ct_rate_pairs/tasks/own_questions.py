"""`task="own_questions"`: the questions and answers of a reader's own table."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from datasets import Value

from ct_rate_pairs.reports.texts import same_words

from .task import Asked, Scans, Task


CLOSED_ANSWERS = ("yes", "no", "是", "否", "有", "无")


class OwnQuestions(Task):
    """
    Asks the questions of a table, each in a row of its own. They are the same in every epoch.

    Args:
        questions (`Sequence[Sequence[tuple[str, str]]]`):
            Questions and answers of the `N` volumes of a split.
    """

    features: ClassVar = {
        "question_number": Value("int16"),
        "question_type": Value("string"),
        "answer_type": Value("string"),
        "label": Value("string"),
    }
    asks_anew = False
    number_column = "question_number"
    of_reports = False
    remedy = " with questions"

    def __init__(self, questions: Sequence[Sequence[tuple[str, str]]]):
        self.questions = questions
        self.rows_of = np.array([len(asked) for asked in questions], dtype=int)  # [N]
        # The answers of each volume to each question, to know which volumes answer a question alike.
        self.answers = [
            {same_words(question): same_words(answer) for question, answer in asked} for asked in questions
        ]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        return cls(scans.questions)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """Question `number` about volume `i`."""
        question, answer = self.questions[i][number]
        kind = question_type(answer)
        columns = {"question_number": number, "question_type": kind, "answer_type": "text", "label": ""}
        return Asked(question, answer, columns)

    def unfit_partners(self, i: int, number: int, draw_key: int) -> np.ndarray:
        """
        Indices `[M]` of the volumes that have the same answer to this question. A volume that was not asked it may be
        a partner: its labels decide.
        """
        question, answer = (same_words(text) for text in self.questions[i][number])
        return np.flatnonzero([own.get(question) == answer for own in self.answers])


def question_type(answer: str) -> str:
    """`"closed"` for an answer that is yes or no, otherwise `"open"`."""
    return "closed" if same_words(answer).strip(" .。!") in CLOSED_ANSWERS else "open"
