"""The dataset of a hand-made tree, or why there is none."""

import pytest
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError

from ct_rate_pairs.sources.csv_tables import TableError

from .tree import SPACING


def load(tree, negative="heter", **options):
    return load_dataset("ct_rate_pairs", negative=negative, data_dir=str(tree), **{"spacing": SPACING, **options})


def error_of(tree, **options) -> str:
    with pytest.raises((TableError, FileNotFoundError, DatasetGenerationError, ValueError)) as caught:
        load(tree, **options)
    return f"{caught.value} {caught.value.__cause__}"
