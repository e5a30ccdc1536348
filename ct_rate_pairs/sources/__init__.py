"""
Where scans come from. A source has `scans(split, on_error)` (a table), `read_slices(scan, fractions)`, the `settings`
that it reads with, and a `fingerprint()`.
"""

from pathlib import Path

from ct_rate_pairs.volumes.settings import VolumeSettings

from .hub import HubSource
from .prepared import PROVENANCE, PreparedSource
from .tree import LocalSource, TreeSource


Source = TreeSource | PreparedSource


def open_source(data_dir: str | Path | None = None, token: str | None = None, **settings) -> Source:
    """
    The source that `data_dir` holds: a prepared copy, or a tree with CT-RATE's layout (a copy of it, a phantom
    cohort); without `data_dir`, the gated repository on the Hub.

    Args:
        data_dir (`str` or `Path`, *optional*):
            Folder of the source.
        token (`str`, *optional*):
            Access token for the Hub; the stored one of `hf auth login` by default.
        settings:
            Fields of [`~ct_rate_pairs.volumes.settings.VolumeSettings`]. A prepared copy has its own, and refuses others.
    """
    if data_dir is None:
        return HubSource(token, VolumeSettings(**settings))
    if (Path(data_dir).expanduser() / PROVENANCE).is_file():
        return PreparedSource(data_dir, **settings)
    return LocalSource(data_dir, VolumeSettings(**settings))
