"""The readers of a process: datasets with the same options and the same source share one, and its epoch."""

import logging
from pathlib import Path

import torch

from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.sources import Source, hash_of, open_source

from .config import CTRatePairsConfig
from .rows import RowReader


logger = logging.getLogger(__name__)


# The datasets of a process with the same options and source share a reader and an epoch, whatever calls of `datasets`
# made them. An epoch stands apart from its reader, so that a process that has not opened the reader yet knows it.
_readers: dict[tuple[str, str], RowReader] = {}
_epochs: dict[tuple[str, str], torch.Tensor] = {}


def reader_for(options: str, source: str) -> RowReader:
    """The reader for the `options` and `source` of a [`~ct_rate_pairs.pair_column.PairColumn`]."""
    if (options, source) not in _readers:
        config = CTRatePairsConfig.from_json(options)
        if config.data_dir and not Path(config.data_dir).exists():
            raise FileNotFoundError(
                f"{no_such('folder or table', config.data_dir)} The scans of this dataset were there when it was "
                "loaded or saved. If they were moved: ct_rate_pairs.readers.with_data_dir(dataset, NEW_FOLDER)."
            )
        opened = open_source(config.data_dir, **config.settings)
        if hash_of(opened) != source:
            logger.warning(
                "%s has changed since this dataset was loaded or saved. Its rows now show the volumes as they are. "
                "Load the dataset again with load_dataset, so that texts and labels are up to date too.",
                config.data_dir or "CT-RATE on the Hub",
            )
        make_reader(options, source, config, opened)
    return _readers[options, source]


def make_reader(options: str, source: str, config: CTRatePairsConfig, opened: Source) -> RowReader:
    """A new reader for these options and source: its token and what it knows of bad volumes are those of today."""
    _readers[options, source] = RowReader(config, opened, share_epoch(options, source))
    return _readers[options, source]


def share_epoch(options: str, source: str) -> torch.Tensor:
    """The epoch of the datasets with these options and source, int64 `[]` in shared memory."""
    if (options, source) not in _epochs:
        _epochs[options, source] = torch.zeros((), dtype=torch.int64).share_memory_()
    return _epochs[options, source]


def adopt(options: str, source: str, epoch: torch.Tensor | None = None, reader: RowReader | None = None) -> None:
    """Makes an epoch and a reader known to this process, unless it knows others for these options and source."""
    if epoch is not None:
        _epochs.setdefault((options, source), epoch)
    if reader is not None:
        _readers.setdefault((options, source), reader)


def what_a_process_needs(options: str, source: str) -> tuple[torch.Tensor, RowReader | None]:
    """The epoch and, if it was opened, the reader: a spawned process adopts them."""
    return share_epoch(options, source), _readers.get((options, source))
