"""Turns a source into a prepared copy, sharded Parquet that `load_dataset("ct_rate_pairs", data_dir=...)` reads."""

from .shards import prepare


__all__ = ["prepare"]
