"""Files of a scan that are no DICOM: which of them may stand for a slice, and what is told of the others."""

import re
from collections import Counter
from pathlib import PurePath

from ..files import PACKED
from ..slicing import VolumeError
from .headers import DicomFile


# Suffixes of files that may lie beside images. Other suffixes could be a part of a name.
_SUFFIXES = re.compile(
    r"(\.nii|\.mha|\.mhd|\.nrrd|\.tar|\.dcm)?\.(nii|gz|mha|mhd|raw|hdr|img|nrrd|zip|7z|rar|tar|tgz|bz2|xz|zst|txt|csv|tsv|json"
    r"|xml|html?|pdf|jpe?g|png|bmp|tiff?|gif|md|log|ini|inf|exe|bat|db|dat|bin|h5|npy|npz|pt|pkl|docx?|xlsx?|dcm|ima|dicom)"
)
_OF_DICOM = (".dcm", ".ima", ".dicom")


def suffix_of(path: PurePath) -> str:
    """The kind of a file that is not DICOM, by its suffix."""
    found = _SUFFIXES.search(path.name.lower())
    is_known = found and found.end() == len(path.name)
    return found[0] if is_known else "of another suffix" if path.suffix else "without a suffix"


def form_of(path: PurePath) -> tuple[PurePath, str]:
    """What files that belong together have in common: their folder, and their name without its numbers."""
    return path.parent, re.sub(r"\d+", "0", path.name.lower())


def check_other(number: int, path: PurePath, file: DicomFile, named: set[tuple[PurePath, str]]) -> None:
    """
    Refuses a file that is not DICOM, but is named as images are. A slice may then be missing.

    Args:
        number (`int`), path (`PurePath`), file (`Callable[[], BinaryIO]`):
            The number of the file in the scan, its path, and a function that opens it.
        named (`set[tuple[PurePath, str]]`):
            The folders and names of images, as [`form_of`] gives them.
    """
    folder, form = form_of(path)
    beside = [other for parent, other in named if parent == folder]
    suffixes = {PurePath(other).suffix for other in beside}
    is_numbered = not path.suffix and "" in suffixes and re.search(r"\d", path.name) is not None
    of_dicom = any(suffix.lower() in _OF_DICOM for suffix in path.suffixes)
    with file() as opened:
        start = opened.read(512)
    is_like = form in beside or (path.suffix and path.suffix.lower() in suffixes) or is_numbered or of_dicom
    is_empty_beside = not start and not path.suffix and "" in suffixes
    if not is_like and not is_empty_beside:
        return
    if packed := [kind for magic, kind in PACKED.items() if start.startswith(magic)]:
        raise VolumeError(
            f"file {number} of the scan is packed by {packed[0]}, though it is named as a DICOM image is, so a slice "
            "may be missing. Unpack it, or pack it by gzip."
        )
    what = "is empty" if not start else "is a text or a page of HTML" if b"\0" not in start else "is no DICOM"
    raise VolumeError(
        f"file {number} of the scan {what}, though it is named as its images are, so a slice may be missing. Export "
        "or download it again; if it is no slice, remove it."
    )


def what_else(paths: list[PurePath]) -> str:
    """What a scan without DICOM images holds, and how to pass it."""
    kinds = Counter(map(suffix_of, paths))
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    volumes = sorted(kind for kind in kinds if kind in (".nii", ".nii.gz", ".mha"))
    ways = ["Give the folder or zip of one CT series."]
    if volumes:
        ways = [
            f"Give the path of the {' or '.join(volumes)} file itself. Unpack a zip of a volume in another format."
        ]
    elif any(kind in (".zip",) for kind in kinds):
        ways = ["Give the path of the .zip itself. Unpack a zip that holds others."]
    elif packed := sorted(
        kind for kind in kinds if kind.endswith((".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz"))
    ):
        ways = [f"Unpack the {' and '.join(packed)} files."]
    return f" ({listed}). {' '.join(ways)}" if listed else f". {' '.join(ways)}"
