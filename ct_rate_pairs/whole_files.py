"""Writes a file as a whole: after a kill, a loss of power or on a full disk, it is the new one or the old one."""

import os
import tempfile
from pathlib import Path


def write_whole(path: str | Path, content: str) -> None:
    """
    Writes a text file in UTF-8, in one step and durably. What stood there before stays until the new text is on the
    disk.

    Args:
        path (`str` or `Path`):
            The file. Its folder must exist.
        content (`str`):
            The text.

    Raises:
        `OSError`: if the file cannot be written. Nothing is left of the attempt.
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # `mkstemp` lets only the user read
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Waits until the name of a new file is on the disk, too. Windows cannot open folders, and needs it not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
