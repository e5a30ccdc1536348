"""What every task is: questions about the volumes of a split, and their answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from ct_rate_pairs.reports.texts import write_completion


class Asked(NamedTuple):
    """What a row asks, what the answer is, and the columns that only its task has."""

    prompt: str
    completion: str
    columns: dict


class Scans(NamedTuple):
    """The `N` volumes of a split, as a task needs them."""

    split: str  # its name, for messages
    names: list[str]
    reports: Sequence[tuple[str, str]]  # findings and impression of each
    labels: np.ndarray  # 0 or 1, [N, 18]
    patients: list[str]

    def texts(self, target: str) -> list[str]:
        """What each report has of the `target`."""
        return [write_completion(*sections, target) for sections in self.reports]


@dataclass
class TaskOptions:
    """
    The options of a task: fields of [`~ct_rate_pairs.config.CTRatePairsConfig`] and arguments of the commands. Their
    `help` is in the fields' metadata.
    """

    def check(self) -> None:
        """Raises a `ValueError` for an option that cannot be."""


class Task(ABC):
    """
    Asks about the volumes of a split.

    A task is one file: its class here, its options, and the columns that only its rows have. It becomes known by a
    line in `TASKS` (`tasks/__init__.py`).
    """

    Options: ClassVar[type[TaskOptions] | None] = None
    features: ClassVar[dict] = {}  # columns that only this task's rows have
    number_column: ClassVar[str | None] = None  # the column that tells which of a volume's rows it is
    remedy: ClassVar[str] = ""  # what else helps where a split has nothing to ask

    rows_of: np.ndarray  # rows of each volume, int [N]

    @classmethod
    @abstractmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split. `options` has `target`, `prompt` and `seed` of the dataset, and those of the task."""

    @abstractmethod
    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The row `number` of the volume `i` in the epoch `draw_key`."""

    @abstractmethod
    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """Volumes of the split that cannot be the negative of this row, whatever their labels: indices `[M]`."""
