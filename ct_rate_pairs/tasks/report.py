"""`task="report"`: the model writes the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from ct_rate_pairs.reports.texts import LANGUAGES, TARGETS, write_completion, write_prompt
from ct_rate_pairs.volumes.settings import one_of

from .task import Asked, Scans, Task, TaskOptions


@dataclass
class ReportOptions(TaskOptions):
    """
    Options that all tasks use: the part of the report, and the prompt.

    Args:
        target (`str`, *optional*, defaults to `"findings+impression"`):
            Part of the report that is used: `"findings+impression"`, `"findings"` or `"impression"`. A scan without
            this part is left out. The task `"report"` asks for this part, `"vqa"` reads places from it, and for
            `"matching"` it is the text.
        prompt (`str`, *optional*, defaults to `"en"`):
            Language of the prompt, and of the answers of `"vqa"`: `"en"` or `"zh"`.
        prompt_metadata (`bool`, *optional*, defaults to `False`):
            Whether the prompt gives the patient's age and sex.
    """

    target: str = field(
        default="findings+impression",
        metadata={"help": "Part of the report: findings+impression, findings or impression."},
    )
    prompt: str = field(default="en", metadata={"help": "Language of the prompt: en or zh."})
    prompt_metadata: bool = field(default=False, metadata={"help": "Give the patient's age and sex in the prompt."})

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed."""
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)


class ReportWriting(Task):
    """
    Asks for the report. There is one row per volume, the same in every epoch.

    Args:
        reports (`Sequence[tuple[str, str]]`):
            Findings and impression of the `N` volumes of a split.
        target (`str`):
            Part of the report that is asked for.
        language (`str`):
            Language of the prompt, `"en"` or `"zh"`.
    """

    Options = ReportOptions
    asks_anew = False

    def __init__(self, reports: Sequence[tuple[str, str]], target: str, language: str):
        self.reports, self.target, self.language = reports, target, language
        self.rows_of = np.ones(len(reports), dtype=int)  # [N]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        return cls(scans.reports, options.target, options.prompt)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The request for the report of volume `i`."""
        completion = write_completion(*self.reports[i], self.target)
        return Asked(write_prompt(self.target, self.language), completion, {})

    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """No volume: every volume may be the partner."""
        return ()
