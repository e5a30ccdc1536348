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
        shares_features (`bool`):
            Whether `"mutual"` computes the features of a volume once, though it serves twice. With a sharded model,
            [`~ct_rate_pairs.trainer.NegativeSFTTrainer`] does not.
    """

    negative: str
    share: float = 1.0
    shares_features: bool = True

    @property
    def name(self) -> str:
        """The way in words."""
        if self.negative == "none":
            return "stock"
        name = self.negative if self.shares_features else f"{self.negative}, sharded"
        return name if self.share == 1 else f"{name}, share {self.share:g}"

    @property
    def sharded(self) -> "Way":
        """The way with a sharded model."""
        return self._replace(shares_features=self.negative != "mutual")

    @property
    def least_rows(self) -> int:
        """Rows that a GPU takes at once at least. A volume alone has no partner."""
        return 2 if self.negative == "mutual" else 1

    @property
    def language_passes(self) -> float:
        """Passes of the language model for a row. A pass is forward and backward."""
        return 1 + (self.share if self.negative != "none" else 0)

    @property
    def tower_passes(self) -> float:
        """Passes of the vision tower for a row."""
        has_own = self.negative in ("gauss", "heter") or not self.shares_features
        return 1 + (self.share if has_own else 0)
