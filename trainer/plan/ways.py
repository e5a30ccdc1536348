"""The ways of training: how often each part of the model runs for a row."""

from typing import NamedTuple


class Way(NamedTuple):
    """
    A way of training.

    Attributes:
        negative (`str`):
            `"none"`, `"gauss"`, `"heter"` or `"mutual"`, see [`~ct_rate_pairs.trainer.plan.unit_costs.row_cost`].
        share (`float`):
            Share of the steps that have a negative.
    """

    negative: str
    share: float = 1.0

    @property
    def name(self) -> str:
        """The way in words."""
        if self.negative == "none":
            return "stock"
        return self.negative if self.share == 1 else f"{self.negative}, share {self.share:g}"

    @property
    def language_passes(self) -> float:
        """Passes of the language model for a row. A pass is forward and backward."""
        return 1 + (self.share if self.negative != "none" else 0)

    @property
    def tower_passes(self) -> float:
        """Passes of the vision tower for a row. The features of a volume that serves twice are computed once."""
        return 1 + (self.share if self.negative in ("gauss", "heter") else 0)
