"""
Where scans come from. Each source has the methods `scans(split, on_error)` (a table of scans),
`read_slices(scan, fractions)`, `read_planned(scan, fractions)` (slices, and where they lie for masks),
`read_values(scan)` (whole volumes, which a prepared copy of slices cannot give) and `fingerprint()`, and the
attributes `settings` (how it reads volumes), `splits` (those that it divides its scans into), `labels_from`
(`"table"`, or `"rules"` if the rule labeler reads the labels from the reports), `metadata` (columns that rows hold as
they are), `is_phantom` and `is_own` (a reader's own table).
"""

import hashlib
from pathlib import Path

from ct_rate_pairs.volumes.settings import VolumeSettings

from .hub import HubSource
from .own import OwnSource
from .prepared import PROVENANCE, PreparedSource, form_of
from .stores import StoreSource
from .table_files import find_table
from .tree import LocalSource, TreeSource


Source = TreeSource | PreparedSource | OwnSource


def open_source(data_dir: str | Path | None = None, token: str | None = None, **settings) -> Source:
    """
    Open a source.

    Args:
        data_dir (`str` or `Path`, *optional*):
            A prepared copy, a folder with CT-RATE's layout (a copy of CT-RATE, or a phantom cohort), or a table of
            the reader's own scans, or the folder that holds one such table. By default, the gated repository on the
            Hub.
        token (`str`, *optional*):
            Access token for the Hub. By default, the token that `hf auth login` has stored.
        settings:
            Fields of [`~ct_rate_pairs.volumes.settings.VolumeSettings`]. A prepared copy refuses other
            values of those that it was written with.

    Returns:
        [`Source`]: the source.

    Raises:
        `FileNotFoundError`: if `data_dir` is no such folder or file.
        `ValueError`: if a setting has no allowed value, or is not that of the prepared copy, or if a folder holds
            several tables.
    """
    if data_dir is None:
        return HubSource(token, VolumeSettings(**settings))
    path = Path(data_dir).expanduser()
    if path.is_file():
        return OwnSource(path, VolumeSettings(**settings))
    if (path / PROVENANCE).is_file():
        return (PreparedSource if form_of(path) == "slices" else StoreSource)(path, **settings)
    if path.is_dir() and not (path / "dataset").is_dir() and (table := find_table(path)):
        return OwnSource(table, VolumeSettings(**settings))
    return LocalSource(data_dir, VolumeSettings(**settings))


def hash_of(source: Source) -> str:
    """A short hash that changes with the fingerprint of a source."""
    return hashlib.sha256(source.fingerprint().encode()).hexdigest()[:16]
