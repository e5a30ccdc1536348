"""`task="report"`: asks for the report."""

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
    What of a report is used, and how it is asked for. The other tasks read these too.

    Args:
        target (`str`, *optional*, defaults to `"findings+impression"`):
            `"findings+impression"`, `"findings"` or `"impression"`. A scan without it is left out. It is the
            completion of `"report"`, what the places of `"vqa"` are read from, and an option of `"matching"`.
        prompt (`str`, *optional*, defaults to `"en"`):
            Language of the prompt, and of the answers of `"vqa"`: `"en"` or `"zh"`.
        prompt_metadata (`bool`, *optional*, defaults to `False`):
            Tell age and sex in the prompt.
    """

    target: str = field(
        default="findings+impression",
        metadata={"help": "Part of the report: findings+impression, findings or impression."},
    )
    prompt: str = field(default="en", metadata={"help": "Language of the prompt: en or zh."})
    prompt_metadata: bool = field(default=False, metadata={"help": "Tell age and sex in the prompt."})

    def check(self) -> None:
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)


class ReportWriting(Task):
    """
    Asks for the report, once a volume, whatever the epoch.

    Args:
        reports (`Sequence[tuple[str, str]]`):
            Findings and impression of the `N` volumes of a split.
        target (`str`):
            Which of them is asked for.
        language (`str`):
            `"en"` or `"zh"`.
    """

    Options = ReportOptions

    def __init__(self, reports: Sequence[tuple[str, str]], target: str, language: str):
        self.reports, self.target, self.language = reports, target, language
        self.rows_of = np.ones(len(reports), dtype=int)  # [N]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        return cls(scans.reports, options.target, options.prompt)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        completion = write_completion(*self.reports[i], self.target)
        return Asked(write_prompt(self.target, self.language), completion, {})

    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        return ()
