"""`task="report"`: the model writes the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from ct_rate_pairs.number_ranges import Range
from ct_rate_pairs.reports.findings_line import FINDINGS_LINES, write_line
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.prompt_lines import METADATA, plain_metadata
from ct_rate_pairs.reports.texts import LANGUAGES, TARGETS, write_completion, write_prompt
from ct_rate_pairs.volumes.settings import one_of

from .task import Asked, Scans, Task, TaskOptions


DROPOUT = Range(0, 1, below=True)


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
        prompt_metadata (`bool` or `Sequence[str]`, *optional*, defaults to `False`):
            What the prompt tells ahead of its question, see [`~ct_rate_pairs.reports.prompt_lines`]: any of `"age"`,
            `"sex"`, `"clinical_information"`, `"technique"`, `"contrast"` (read from the technique), `"surgery"`
            (whether the clinical information mentions an earlier operation) and `"device"`. `True` stands for age and
            sex. What is not known of a scan is left out.
        prompt_findings (`bool`, *optional*, defaults to `False`):
            For the task `"report"`: whether prompts of the split `train` name the findings of the scan, from its
            labels. No other split has such cues, because they would tell the answer. So it needs a `prompt_dropout`,
            and a `findings_line` would only copy them.
        prompt_dropout (`float`, *optional*, defaults to `0.0`):
            The chance with which a prompt of the split `train` tells nothing ahead of its question, and with which
            each line of the other prompts is left out. Each epoch draws anew. The other splits have all lines.
        findings_line (`str`, *optional*, defaults to `"none"`):
            For the task `"report"`: a line before the report that states the 18 labels of the scan, so that the model
            decides on the findings before it words them. `"names"` names those that are present, `"yes_no"` says yes
            or no for each, and `"sides"` also says on which side the findings of the lungs and the pleura are, by the
            report; see [`~ct_rate_pairs.reports.findings_line`]. It has the language of the prompt.
    """

    target: str = field(
        default="findings+impression",
        metadata={"help": "Part of the report: findings+impression, findings or impression."},
    )
    prompt: str = field(default="en", metadata={"help": "Language of the prompt: en or zh."})
    prompt_metadata: bool | tuple[str, ...] = field(
        default=False,
        metadata={
            "words": True,
            "choices": ("true", "false", *METADATA),
            "help": "What the prompt tells of the patient and the scan; true: age and sex.",
        },
    )
    prompt_findings: bool = field(
        default=False,
        metadata={"training": True, "help": "For the task report, name the findings in prompts of the training."},
    )
    prompt_dropout: float = field(
        default=0.0,
        metadata={
            "training": True,
            "range": DROPOUT,
            "help": "Chance with which training prompts lack all of this, or one line of it.",
        },
    )
    findings_line: str = field(
        default="none",
        metadata={
            "choices": FINDINGS_LINES,
            "help": "For the task report, a line of findings before the report: none, names, yes_no or sides.",
        },
    )

    def check(self) -> None:
        """Raises a `ValueError` for a value that is not allowed, and for options that exclude each other."""
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)
        one_of("findings_line", self.findings_line, FINDINGS_LINES)
        self.prompt_metadata = plain_metadata(self.prompt_metadata)
        DROPOUT.check("prompt_dropout", self.prompt_dropout)
        if self.prompt_dropout and not (self.prompt_metadata or self.prompt_findings):
            raise ValueError(
                f"prompt_dropout={self.prompt_dropout} has no effect: prompts tell nothing that could be left out. "
                "Pass prompt_metadata or prompt_findings, or leave it out."
            )
        if self.prompt_findings and not self.prompt_dropout:
            raise ValueError(
                "prompt_findings=True needs prompt_dropout, such as 0.5: no scan that is measured has its findings in "
                "the prompt, and the model would never have learnt to find them itself."
            )
        if self.prompt_findings and self.findings_line != "none":
            raise ValueError(
                f"prompt_findings=True and findings_line={self.findings_line!r} exclude each other: the line would be "
                "copied from the prompt. Choose one."
            )


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
            The line before the report: `"none"`, `"names"`, `"yes_no"` or `"sides"`.
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
            sides = {}
            if self.findings_line == "sides":  # by the whole report, also for a part of it
                sides = {label: place.side for label, place in places(" ".join(self.reports[i])).items()}
            line = write_line(self.labels[i].tolist(), self.findings_line, self.language, sides)
            completion = f"{line}\n{completion}"
        return Asked(write_prompt(self.target, self.language), completion, {})

    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """No volume: every volume may be the partner."""
        return ()
