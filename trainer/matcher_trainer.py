"""The trainer of the matcher."""

from .finite import FiniteTrainer
from .whole_checkpoints import WholeCheckpointTrainer


class MatcherTrainer(WholeCheckpointTrainer, FiniteTrainer):
    """
    Trains a [`~ct_rate_pairs.trainer.matcher.MatcherModel`]: a [`~transformers.Trainer`] that takes no step that is
    not finite, and resumes from whole checkpoints only.
    """
