"""The tasks that can be made of the same volumes and reports: what each asks of a split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import Errors
from .matching import Matching
from .question_texts import write_findings
from .questions import Questions
from .report_labels import label_report
from .texts import Asked, write_completion, write_prompt


if TYPE_CHECKING:
    from .builder import CTRatePairsConfig


TASKS = ("report", "vqa", "matching", "errors")


class ReportWriting:
    """
    `task="report"`: asks for the report, once a volume, whatever the epoch.

    Every task has these methods; [`~ct_rate_pairs.questions.Questions`], [`~ct_rate_pairs.matching.Matching`] and
    [`~ct_rate_pairs.errors.Errors`] are the others.

    Args:
        reports (`Sequence[tuple[str, str]]`):
            Findings and impression of the `N` volumes of a split.
        target (`str`):
            Which of them is asked for.
        language (`str`):
            `"en"` or `"zh"`.
    """

    def __init__(self, reports: Sequence[tuple[str, str]], target: str, language: str):
        self.reports, self.target, self.language = reports, target, language
        self.rows_of = np.ones(len(reports), dtype=int)  # rows of each volume, [N]

    def ask(self, i: int, number: int, draw_key: int) -> Asked:
        """The row `number` of the volume `i` in the epoch `draw_key`."""
        completion = write_completion(*self.reports[i], self.target)
        return Asked(write_prompt(self.target, self.language), completion, {})

    def unfit_partners(self, i: int, number: int, draw_key: int) -> Sequence[int]:
        """Volumes of the split that cannot be the negative of this row, whatever their labels."""
        return ()


Task = ReportWriting | Questions | Matching | Errors


def open_task(
    config: "CTRatePairsConfig",
    split: str,
    names: list[str],
    reports: Sequence[tuple[str, str]],
    labels: np.ndarray,
    patients: list[str],
) -> Task:
    """
    The task of a split.

    Args:
        config ([`~ct_rate_pairs.builder.CTRatePairsConfig`]):
            Its options of the task are used.
        split (`str`):
            Name of the split, for messages.
        names (`list[str]`):
            The `N` volumes.
        reports (`Sequence[tuple[str, str]]`):
            Findings and impression of each.
        labels (`np.ndarray`):
            Their labels, 0 or 1, of shape `[N, 18]`.
        patients (`list[str]`):
            Their patients.
    """
    if config.task == "report":
        return ReportWriting(reports, config.target, config.prompt)
    texts = [write_completion(*sections, config.target) for sections in reports]
    if config.task == "vqa":
        return Questions(
            names,
            texts,
            labels,
            patients,
            config.questions_per_volume,
            config.question_types,
            config.prompt,
            config.seed,
        )
    if config.task == "errors":
        return Errors(names, texts, labels, patients, config.prompt, config.seed)
    if config.options == "keywords":
        texts = [write_findings(label_report(text), config.prompt) for text in texts]
    return Matching(
        names, texts, labels, patients, config.num_false, config.difficulty, config.prompt, config.seed, split
    )
