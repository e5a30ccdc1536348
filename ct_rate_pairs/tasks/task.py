"""The interface of a task, which asks questions about the volumes of a split and knows the answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from ct_rate_pairs.reports.texts import write_completion


class Asked(NamedTuple):
    """The prompt of a row, its answer, the columns that only this task has, and the turns before the prompt."""

    prompt: str
    completion: str
    columns: dict
    before: tuple[tuple[str, str], ...] = ()  # questions and their answers


class Scans(NamedTuple):
    """What a task needs to know about the `N` volumes of a split."""

    split: str  # name of the split, for messages
    names: list[str]
    reports: Sequence[tuple[str, str]]  # findings and impression of each volume
    labels: np.ndarray  # 0 or 1, [N, 18]
    patients: list[str]
    questions: Sequence[Sequence[tuple[str, str]]] = ()  # questions and answers of a reader's own table
    train: "Scans | None" = None  # the split `train`, unless it is this one

    def texts(self, target: str) -> list[str]:
        """The part `target` of each report."""
        return [write_completion(*sections, target) for sections in self.reports]


@dataclass
class TaskOptions:
    """
    Base class for the options of a task. Each option is a field of [`~ct_rate_pairs.config.CTRatePairsConfig`] and an
    argument of the commands, whose `help` is in the metadata of the field.
    """

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed."""


class Task(ABC):
    """
    Base class of the tasks. A task asks about the volumes of a split.

    One file holds the subclass of a task, its options, and the columns that only its rows have. A line in `TASKS`
    (`tasks/__init__.py`) makes the task known.
    """

    Options: ClassVar[type[TaskOptions] | None] = None
    features: ClassVar[dict] = {}  # columns that only the rows of this task have
    asks_anew: ClassVar[bool] = True  # whether the split `train` has other texts in each epoch
    number_column: ClassVar[str | None] = None  # column with the number of a row among the rows of its volume
    of_reports: ClassVar[bool] = True  # whether scans without a report are left out
    remedy: ClassVar[str] = ""  # end of the error for a split about which nothing can be asked: what else would help

    rows_of: np.ndarray  # number of rows of each volume, int [N]

    @classmethod
    @abstractmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split. `options` holds `target`, `prompt`, `seed` and the task's own options."""

    @abstractmethod
    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """Row `number` of volume `i` in the epoch `draw_key`."""

    @abstractmethod
    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """Indices `[M]` of the volumes that cannot be the partner of this row, whatever their labels are."""
