"""
Where scans come from. Each source has the methods `scans(split, on_error)` (a table of scans),
`read_slices(scan, fractions)` and `fingerprint()`, and the attributes `settings` (how it reads volumes) and
`labels_from` (`"table"`, or `"rules"` if the rule labeler reads the labels from the reports).
"""

import hashlib
from pathlib import Path

from ct_rate_pairs.volumes.settings import VolumeSettings

from .hub import HubSource
from .prepared import PROVENANCE, PreparedSource
from .tree import LocalSource, TreeSource


Source = TreeSource | PreparedSource


def open_source(data_dir: str | Path | None = None, token: str | None = None, **settings) -> Source:
    """
    Open a source.

    Args:
        data_dir (`str` or `Path`, *optional*):
            A prepared copy, or a folder with CT-RATE's layout (a copy of CT-RATE, or a phantom cohort). By default,
            the gated repository on the Hub.
        token (`str`, *optional*):
            Access token for the Hub. By default, the token that `hf auth login` has stored.
        settings:
            Fields of [`~ct_rate_pairs.volumes.settings.VolumeSettings`]. A prepared copy has fixed settings, and
            refuses other values.

    Returns:
        [`Source`]: the source.

    Raises:
        `FileNotFoundError`: if `data_dir` is no such folder.
        `ValueError`: if a setting has no allowed value, or is not that of the prepared copy.
    """
    if data_dir is None:
        return HubSource(token, VolumeSettings(**settings))
    if (Path(data_dir).expanduser() / PROVENANCE).is_file():
        return PreparedSource(data_dir, **settings)
    return LocalSource(data_dir, VolumeSettings(**settings))


def hash_of(source: Source) -> str:
    """A short hash that changes with the fingerprint of a source."""
    return hashlib.sha256(source.fingerprint().encode()).hexdigest()[:16]
