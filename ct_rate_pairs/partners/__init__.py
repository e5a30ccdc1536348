"""Which volume serves as the negative of which."""

from .sampler import NoPartnerError, PartnerSampler


__all__ = ["NoPartnerError", "PartnerSampler"]
