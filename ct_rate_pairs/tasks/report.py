"""`task="report"`: the model writes the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from ct_rate_pairs.reports.findings_line import FINDINGS_LINES, write_line
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
        findings_line (`str`, *optional*, defaults to `"none"`):
            For the task `"report"`: a line before the report that states the 18 labels of the scan, so that the model
            decides on the findings before it words them. `"names"` names those that are present, `"yes_no"` says yes
            or no for each; see [`~ct_rate_pairs.reports.findings_line`]. It has the language of the prompt.
    """

    target: str = field(
        default="findings+impression",
        metadata={"help": "Part of the report: findings+impression, findings or impression."},
    )
    prompt: str = field(default="en", metadata={"help": "Language of the prompt: en or zh."})
    prompt_metadata: bool = field(default=False, metadata={"help": "Give the patient's age and sex in the prompt."})
    findings_line: str = field(
        default="none",
        metadata={
            "choices": FINDINGS_LINES,
            "help": "For the task report, a line of findings before the report: none, names or yes_no.",
        },
    )

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed."""
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)
        one_of("findings_line", self.findings_line, FINDINGS_LINES)


class ReportWriting(Task):
    """
    Asks for the report. There is one row per volume, the same in every epoch.

    Args:
        reports (`Sequence[tuple[str, str]]`):
            Findings and impression of the `N` volumes of a split.
        target (`str`):
            Part of the report that is asked for.
        language (`str`):
            Language of the prompt and of the findings line, `"en"` or `"zh"`.
        labels (`np.ndarray` of shape `[N, 18]`):
            The labels of the volumes, for the findings line.
        findings_line (`str`):
            The line before the report: `"none"`, `"names"` or `"yes_no"`.
    """

    Options = ReportOptions
    asks_anew = False

    def __init__(
        self,
        reports: Sequence[tuple[str, str]],
        target: str,
        language: str,
        labels: np.ndarray,
        findings_line: str,
    ):
        self.reports, self.target, self.language = reports, target, language
        self.labels, self.findings_line = labels, findings_line
        self.rows_of = np.ones(len(reports), dtype=int)  # [N]

    @classmethod
    def of_split(cls, scans: Scans, options) -> Self:
        """The task of a split."""
        return cls(scans.reports, options.target, options.prompt, scans.labels, options.findings_line)

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The request for the report of volume `i`."""
        completion = write_completion(*self.reports[i], self.target)
        if self.findings_line != "none":
            line = write_line(self.labels[i].tolist(), self.findings_line, self.language)
            completion = f"{line}\n{completion}"
        return Asked(write_prompt(self.target, self.language), completion, {})

    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """No volume: every volume may be the partner."""
        return ()
