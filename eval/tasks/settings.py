"""The settings of an evaluation: how much of a task is measured, and how."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TaskSettings:
    """
    The settings that the evaluations of all tasks take.

    Args:
        max_samples (`int`, *optional*, defaults to `0`):
            How much of the split is used: all questions about the first `max_samples` volumes, or the first whole
            groups of at most `max_samples` questions. 0 for all.
        batch_size (`int`, *optional*, defaults to `8`), max_new_tokens (`int`, *optional*, defaults to `96`):
            Questions per batch, and maximum length of an answer in tokens, for tasks whose answers are generated.
        answers (`str`, *optional*, defaults to `"letters"`):
            What chooses among options: the likelihood of their `"letters"` (or numbers), or the likelihood of their
            `"texts"`, for a model that was trained on reports alone. Questions of a reader's own table are answered,
            or with `"texts"` the model's report tells the answer.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the bootstrap intervals.
        made_with (`dict`, *optional*):
            What is measured: model, split and seed. It is written to `results.json`.
    """

    max_samples: int = 0
    batch_size: int = 8
    max_new_tokens: int = 96
    answers: Literal["letters", "texts"] = "letters"
    ci: float = 0.95
    made_with: dict = field(default_factory=dict)

    @property
    def told(self) -> dict:
        """The entry `made_with` of `results.json`; empty without `made_with`."""
        return {"made_with": self.made_with} if self.made_with else {}
