"""Makes `load_dataset("ct_rate_pairs")` find the builder.

Only this module, `builder.py` and `pair_column.py` use private parts of `datasets`.

`datasets` 4 removed loading scripts. What remains is its table of packaged modules. For a packaged module without
`data_dir`, `datasets` would scan the current folder for data files, so the function that finds the module is replaced
here.
"""

import hashlib
import json
from pathlib import Path

from datasets import load
from datasets.data_files import DataFilesDict
from datasets.load import DatasetModule, PackagedDatasetModuleFactory
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from .pair_column import register_column


NAME = "ct_rate_pairs"


def register_builder() -> None:
    """
    Add the builder to the packaged modules of `datasets`. Each process needs it once; `import ct_rate_pairs` does it.
    """
    if NAME in _PACKAGED_DATASETS_MODULES:
        return
    register_column()
    _PACKAGED_DATASETS_MODULES[NAME] = ("ct_rate_pairs.builder", "")
    packaged_module = PackagedDatasetModuleFactory.get_module
    module_factory = load.dataset_module_factory

    def get_module(factory: PackagedDatasetModuleFactory) -> DatasetModule:
        if factory.name != NAME:
            return packaged_module(factory)
        if factory.data_files is not None:
            raise ValueError("data_files has no effect: pass a folder of scans as data_dir, or a table as table.")
        # The builder adds the state of the source to this hash, which changes with the code.
        code = [file.read_text() for file in sorted(Path(__file__).parent.rglob("*.py"))]
        hash = hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]
        return DatasetModule("ct_rate_pairs.builder", hash, {"dataset_name": NAME, "data_files": DataFilesDict()})

    def dataset_module_factory(path: str, revision: str | None = None, **options) -> DatasetModule:
        # `datasets` ignores the revision of a packaged module.
        if path == NAME and revision is not None:
            raise ValueError(
                f"revision={revision!r} has no effect: CT-RATE is read at its newest commit. For another one, run `hf "
                f"download ibrahimhamamci/CT-RATE --repo-type dataset --revision {revision} --local-dir DIR` and pass "
                "data_dir=DIR."
            )
        return module_factory(path, revision=revision, **options)

    PackagedDatasetModuleFactory.get_module = get_module
    load.dataset_module_factory = dataset_module_factory
