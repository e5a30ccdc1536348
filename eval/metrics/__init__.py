"""Metrics of arrays and texts. Some of these modules are also shipped beside the `evaluate` scripts."""
