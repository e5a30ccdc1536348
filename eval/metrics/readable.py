"""Checks of texts. Beside the `evaluate` scripts lies `ct_rate_pairs/reports/readable.py` itself under this name."""

from ct_rate_pairs.reports.readable import (
    check_given,
    check_language,
    check_lengths,
    foreign_language,
    is_missing,
    name_of_rules,
)


__all__ = ["check_given", "check_language", "check_lengths", "foreign_language", "is_missing", "name_of_rules"]
