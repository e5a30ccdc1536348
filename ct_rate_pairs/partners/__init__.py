"""Which volume serves as the negative of which."""

from .mutual import match_mutually, mutual_statistics
from .sampler import NoPartnerError, PartnerSampler


__all__ = ["NoPartnerError", "PartnerSampler", "match_mutually", "mutual_statistics"]
