"""How much of a task is measured, and how."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TaskSettings:
    """
    What all evaluations of a task take.

    Args:
        max_samples (`int`, *optional*, defaults to `0`):
            How many of the split's volumes are used: the first ones with all of their questions, or the first whole
            groups of questions; 0 for all.
        batch_size (`int`, *optional*, defaults to `8`), max_new_tokens (`int`, *optional*, defaults to `96`):
            Questions at a time, and the longest answer in tokens, where answers are written.
        answers (`str`, *optional*, defaults to `"letters"`):
            How options are chosen among: by the likelihood of the `"letters"` (or numbers) that stand for them, or of
            their `"texts"`, for a model that was trained on reports alone.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the bootstrap intervals.
        made_with (`dict`, *optional*):
            What is measured: model, split, seed. It is kept in `results.json`.
    """

    max_samples: int = 0
    batch_size: int = 8
    max_new_tokens: int = 96
    answers: Literal["letters", "texts"] = "letters"
    ci: float = 0.95
    made_with: dict = field(default_factory=dict)

    @property
    def told(self) -> dict:
        """The entry `made_with` of `results.json`, where there is one."""
        return {"made_with": self.made_with} if self.made_with else {}
