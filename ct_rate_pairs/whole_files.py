"""Writes a file as a whole: after a kill, a loss of power or on a full disk, it is the new one or the old one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: str | Path, content: str | bytes, private: bool = False) -> None:
    """
    Writes a file in one step and durably. What stood there before stays until the new content is on the disk.

    Args:
        path (`str` or `Path`):
            The file. Its folder must exist.
        content (`str` or `bytes`):
            The content. A text is written in UTF-8.
        private (`bool`, *optional*, defaults to `False`):
            Whether only this user may read the file.

    Raises:
        `OSError`: if the file cannot be written. Nothing is left of the attempt.
    """
    with whole_file(path, private) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: str | Path, private: bool = False) -> Iterator[Path]:
    """
    Like [`write_whole`], for what writes its file itself.

    Args:
        path (`str` or `Path`):
            The file. Its folder must exist.
        private (`bool`, *optional*, defaults to `False`):
            As in [`write_whole`].

    Yields:
        `Path`: a temporary file in the same folder, to write to. It becomes `path` if no error is raised. A kill
            leaves it there: its name begins with a dot, ends with `.part`, and is removed by the next process that
            takes the folder (see [`~ct_rate_pairs.folder_lock.folder_lock`]).

    Example:

    ```python
    with whole_file("figure.png") as part:
        figure.savefig(part, format="png")
    ```
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        if not private:
            part.chmod(0o666 & ~_umask())  # `mkstemp` lets only the user read
        sync_file(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_file(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the name of a new file is on the disk, too. Windows cannot open folders, and needs it not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
