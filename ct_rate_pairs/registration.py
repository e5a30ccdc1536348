"""Makes `load_dataset("ct_rate_pairs")` find the builder.

This module and `builder.py` are the only ones that touch private parts of `datasets`.

`datasets` 4 dropped loading scripts; what is left is its table of packaged modules. Its own route for those would
scan the current folder for data files when no `data_dir` is given, so the module is answered here instead.
"""

import hashlib
import json
from pathlib import Path

from datasets.data_files import DataFilesDict
from datasets.load import DatasetModule, PackagedDatasetModuleFactory
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES


NAME = "ct_rate_pairs"


def register_builder() -> None:
    """Add the builder to the packaged modules of `datasets`. Needed once a process; `import ct_rate_pairs` does it."""
    if NAME in _PACKAGED_DATASETS_MODULES:
        return
    _PACKAGED_DATASETS_MODULES[NAME] = ("ct_rate_pairs.builder", "")
    packaged_module = PackagedDatasetModuleFactory.get_module

    def get_module(factory: PackagedDatasetModuleFactory) -> DatasetModule:
        if factory.name != NAME:
            return packaged_module(factory)
        # Here, as it brings in what reads volumes, and `import ct_rate_pairs` is to be light.
        from ct_rate_pairs.sources import open_source  # noqa: PLC0415

        # The cached index is keyed by this hash: a cohort written anew, or questions worded anew, must not serve an
        # old one.
        code = [file.read_text() for file in sorted(Path(__file__).parent.rglob("*.py"))]
        key = json.dumps([code, open_source(factory.data_dir).fingerprint()])
        hash = hashlib.sha256(key.encode()).hexdigest()[:16]
        return DatasetModule("ct_rate_pairs.builder", hash, {"dataset_name": NAME, "data_files": DataFilesDict()})

    PackagedDatasetModuleFactory.get_module = get_module
