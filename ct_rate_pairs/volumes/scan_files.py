"""
Reads any chest CT scan: NIfTI, MetaImage, a volume of RAD-ChestCT, or DICOM in a folder or a zip, as a `Volume`; a
folder of pictures, as `Pictures`.

The path of a scan may hold the name of a patient. So no message quotes the path, and the volume is called "the scan".
"""

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType
from typing import BinaryIO, TypeVar

import numpy as np

from .apart import read_apart
from .files import limited, open_file, promised_voxels, read_voxels, refusals, unpacked
from .geometry import Grid, display
from .metaimage import read_metaimage
from .nifti import read_nifti
from .pictures import PICTURES, Pictures
from .rad_chestct import read_rad_chestct
from .slicing import Volume, VolumeError
from .told import tell


T = TypeVar("T")
_NAME = "the scan"
_NO_SERIES = f"{_NAME}: series={{}} chooses among DICOM series, but this is a single volume."
_MOST_BYTES, _MOST_FILES = 4 * 2**30, 5000  # inflated bytes and files that a zip may hold
_MOST_DIRECTORY = 2**24  # bytes of the directory at the end of a zip
_MOST_PACKED_START = 2**19  # bytes that are read of a packed file to find its study, without a process apart
_MOST_LINK = 4096  # bytes of the path in a link


def _whole(scan: Volume | Pictures) -> Volume | Pictures:
    return scan.whole()


def read_scan(
    path: str | Path,
    series: int | None = None,
    use: Callable[[Volume | Pictures], T] = _whole,
    headers_only: bool = False,
) -> T:
    """
    Read a scan, and turn it to display order.

    Args:
        path (`str` or `Path`):
            A `.nii.gz`, `.nii` or `.mha` file in HU, a folder of DICOM files, a `.zip` of such a folder, or one file
            of an Enhanced (multi-frame) CT, whatever its name. Gzip may have packed DICOM files (`.dcm.gz`). Or a
            `.npz` file of RAD-ChestCT, see [`~ct_rate_pairs.volumes.rad_chestct.read_rad_chestct`]. Or a folder of
            8-bit pictures (`.png`, `.jpg`), one per slice, which have neither HU nor sizes, see
            [`~ct_rate_pairs.volumes.pictures.Pictures`].
        series (`int`, *optional*):
            Number of the DICOM series, from 1. It is needed unless exactly one series is an axial CT. The error
            message lists the series.
        use (`Callable[[Volume], T]`, *optional*):
            As in [`~ct_rate_pairs.volumes.read_volume`]: takes from the volume what is needed.
        headers_only (`bool`, *optional*, defaults to `False`):
            Whether no voxel is read: all voxels of the volume are then 0, and take no memory. What the headers say is
            checked as ever.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume, or what `use` returns. The name of the volume holds no part of
        the path and nothing about the patient.

    Raises:
        `VolumeError`: if `series` is no whole number, if the scan cannot be read, is not an upright and regular CT
            volume, or has several series that fit. The message holds no part of the path and nothing about the
            patient.
    """
    if series is not None and (isinstance(series, bool) or not isinstance(series, (int, np.integer))):
        raise VolumeError(
            f"{_NAME}: series is {series!r}, which is no whole number. Give a number as an error lists it, such as "
            "series=1."
        )
    try:
        return read_apart(_NAME, partial(_read, Path(path), series, headers_only), use)
    except VolumeError as error:
        raise VolumeError(str(error)) from None  # the cause of the error may hold the path


def _read(path: Path, series: int | None, headers_only: bool) -> Volume | Pictures:
    name = path.name.lower()
    if not path.exists():
        raise VolumeError(f"{_NAME}: there is no such file or folder.")
    if path.is_dir():
        return _read_folder(path, series, headers_only)
    if name.endswith(".zip"):
        return _read_zip(path, series, headers_only)
    is_named = name.endswith((".nii", ".nii.gz", ".mha", ".npz"))
    if not is_named and _is_dicom(partial(_open_slice, path)):
        return _read_dicom([(path, partial(_open_slice, path))], series, headers_only)
    if series is not None:
        raise VolumeError(_NO_SERIES.format(series))
    voxels = promised_voxels if headers_only else read_voxels
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(path, _NAME, voxels=voxels)
    if name.endswith(".mha"):
        return read_metaimage(path, _NAME, voxels)
    if name.endswith(".npz"):
        with open_file(_NAME, path) as file, _opened_zip(file) as archive:
            _check_entries(archive.infolist(), os.fstat(file.fileno()).st_size)
            return read_rad_chestct(archive, _NAME, voxels)
    raise VolumeError(
        f"{_NAME}: give a .nii.gz, .nii or .mha file, a folder of DICOM files or pictures, or a .zip of DICOM files. "
        "A single DICOM file is one slice (unless it is an Enhanced CT), and so is a single picture: give its folder. "
        "A .mhd has its voxels in a second file: write both as one .mha. So has a .hdr: write both as one .nii.gz. "
        "Unpack any other archive (.tar, .7z) and give its folder. Write any other format (.nrrd, .npy) as .nii.gz."
    )


def files_of(folder: Path) -> list[Path]:
    """
    All files in a folder and its subfolders, sorted by path, without hidden files and files that macOS adds. Links to
    files and folders are followed. A link to a folder that is read anyway, or to one around it, is passed over with a
    warning: there would be no end.

    Raises:
        `VolumeError`: if a folder cannot be read.
    """
    return [file for file in _every_file(folder) if _is_meant(PurePath(file.name))]


def _every_file(folder: Path) -> list[Path]:
    """As [`files_of`], with hidden files, but without those in hidden folders."""
    files, links, seen, passed = [], [folder], set(), 0
    top = folder.resolve()
    while links:
        link = links.pop(0)  # what is no link comes first, so that each folder is read under its own name
        if top.is_relative_to(link.resolve()) and link != folder:
            passed += 1
            continue
        for path, folders, names in os.walk(link, onerror=_cannot_be_read):
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                passed += 1
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if _is_meant(PurePath(name)))
            links += [Path(path, name) for name in folders if os.path.islink(os.path.join(path, name))]
            files += [Path(path, name) for name in names]
    if passed:
        tell("%d links to folders that are read anyway, or that lie around the scan, were passed over.", passed)
    return sorted(files)


def _cannot_be_read(error: OSError) -> None:
    raise VolumeError(f"{_NAME}: one of its folders cannot be read: {error.strerror}.") from None


def _is_meant(inside: PurePath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)


def _tell_hidden(slices: int) -> None:
    """Tells slices that are left out because they are hidden. What macOS hides beside files is no slice."""
    if slices:
        tell(
            "%d hidden files of the scan look like slices, and were left out: their names begin with a dot. If they "
            "are slices, rename them.", slices,
        )  # fmt: skip


def _read_folder(path: Path, series: int | None, headers_only: bool) -> Volume | Pictures:
    every = _every_file(path)
    files = [file for file in every if _is_meant(PurePath(file.name))]
    hidden = [file for file in every if file.is_file() and not _is_meant(PurePath(file.name))]
    if broken := sum(not file.is_file() for file in files):
        raise VolumeError(
            f"{_NAME}: {broken} of its {len(files)} files are links that lead nowhere, pipes or devices, so slices "
            "may be missing. Copy the files that they stand for (cp -L)."
        )
    if len(files) == 1 and files[0].name.lower().endswith((".nii", ".nii.gz", ".mha", ".npz", ".zip")):
        return _read(files[0], series, headers_only)  # a volume in a folder of its own
    if pictures := pictures_among(files):
        if series is not None:
            raise VolumeError(_NO_SERIES.format(series))
        if others := len(files) - len(pictures):
            tell("%d of the scan's %d files are no pictures and were skipped.", others, len(files))
        _tell_hidden(sum(file.suffix.lower() in PICTURES and not file.name.startswith("._") for file in hidden))
        return Pictures.in_order(_NAME, pictures)
    _tell_hidden(sum(_is_dicom(partial(_open_slice, file)) for file in hidden))
    return _read_dicom([(file, partial(_open_slice, file)) for file in files], series, headers_only)


def pictures_among(files: Sequence[Path]) -> list[Path]:
    """The pictures among the files of a scan; none if there is a DICOM file, beside which pictures are no slices."""
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    others = (file for file in files if file.suffix.lower() not in PICTURES)
    return [] if pictures and any(_is_dicom(partial(_open_slice, file)) for file in others) else pictures


def _read_zip(path: Path, series: int | None, headers_only: bool) -> Volume:
    """
    Reads the DICOM files of a zip. They are inflated in memory, one at a time, and never beyond the size that the zip
    states.
    """
    try:
        with open_file(_NAME, path) as file, _opened_zip(file) as archive:
            # A folder has no bytes: what has some is a file, whatever its name ends with.
            entries = [entry for entry in archive.infolist() if entry.file_size or entry.filename[-1:] not in "/\\"]
            _check_entries(entries, os.fstat(file.fileno()).st_size)
            meant = [entry for entry in entries if _is_meant(_inside(entry))]
            hidden = [entry for entry in entries if not _is_meant(_inside(entry))]
            _tell_hidden(sum(_is_dicom(partial(_open_member, archive, entry)) for entry in hidden))
            meant = _without_links(archive, meant)
            slices = [(_inside(entry), partial(_open_member, archive, entry)) for entry in meant]
            return _read_dicom(slices, series, headers_only)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise VolumeError(f"{_NAME}: the zip is truncated or damaged. Download or pack it again.") from None


def _opened_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The zip, if its directory, which Python reads as a whole, is no longer than that of a scan."""
    many = VolumeError(f"{_NAME}: the zip lists more files than a scan has. Pack one series alone.")
    with zipfile.ZipFile(limited(file, _MOST_DIRECTORY, many)):
        return zipfile.ZipFile(file)


def _open_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    """A file of a zip, which gzip may have packed."""
    return unpacked(archive.open(entry))


def _inside(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The path of a file in a zip. Some programs of Windows write it with backslashes."""
    return PurePosixPath(entry.filename.replace("\\", "/"))


def _check_entries(entries: list[zipfile.ZipInfo], packed: int) -> None:
    """Refuses what no scan has. `packed` is the size of the zip."""
    size = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise VolumeError(
            f"{_NAME}: the zip holds {len(entries)} files of {size / 2**30:.1f} GB inflated, more than a scan has (at "
            f"most {_MOST_FILES} and {_MOST_BYTES / 2**30:.0f} GB). Pack one series alone."
        )
    if sum(entry.compress_size for entry in entries) > packed:
        raise VolumeError(
            f"{_NAME}: the zip states that its files take more bytes than it has, or several of them are the same "
            "bytes. Download or pack it again."
        )
    for entry in entries:
        inside = _inside(entry)
        if inside.is_absolute() or ".." in inside.parts or re.match("[A-Za-z]:", entry.filename):
            raise VolumeError(f"{_NAME}: the zip names files outside its own folder. Pack the series' folder again.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Python inflates bzip2 and LZMA without a limit: a few kilobytes could take all memory.
            raise VolumeError(
                f"{_NAME}: the zip is packed by another method than deflate (such as bzip2 or LZMA). Pack the series' "
                "folder again, as a plain zip."
            )
        if entry.flag_bits & 1:
            raise VolumeError(f"{_NAME}: the zip is encrypted. Pack it without a password.")


def _without_links(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """
    The entries that are files. A link in a zip is a file that holds a path. Where the zip holds what the path leads
    to, that is read already; a link to anything else is refused.
    """
    links = [entry for entry in entries if stat.S_ISLNK(entry.external_attr >> 16)]
    held = {path for entry in entries for path in (_inside(entry), *_inside(entry).parents)}
    lost = 0
    for link in links:
        with archive.open(link) as opened:
            target = opened.read(_MOST_LINK).decode("utf-8", "replace")
        lost += PurePosixPath(os.path.normpath(_inside(link).parent / target)) not in held
    if lost:
        raise VolumeError(
            f"{_NAME}: {lost} files of the zip are links to files that the zip does not hold, so slices may be "
            "missing. Pack the files that they stand for (zip without -y)."
        )
    if links:
        tell("%d links in the zip to files that the zip holds were passed over.", len(links))
    return [entry for entry in entries if entry not in links]


def _read_dicom(
    files: list[tuple[PurePath, Callable[[], BinaryIO]]], series: int | None, headers_only: bool
) -> Volume:
    stack = _dicom_reader().read_series(files, series, headers_only)
    grid = Grid.of_matrix("its series", stack.affine[:3, :3], stack.affine[:3, 3])
    stored, spacing, affine = display(stack.name, stack.stored.transpose(2, 1, 0), grid)
    # The planes of a coronal or sagittal series, turned to axial ones, are no images of the series.
    instances = stack.instances if grid.axes[2] in "SI" else None
    if grid.axes[2] == "S":
        instances = instances.at(range(len(stored), 0, -1))
    return Volume(
        stack.name,
        stored,
        spacing,
        stack.slope,
        stack.intercept,
        affine,
        is_placed=True,
        instances=instances,
        axes=grid.axes,
    )


def _dicom_reader() -> ModuleType:
    try:
        from . import dicom  # noqa: PLC0415
    except ModuleNotFoundError:
        raise VolumeError(f"{_NAME}: DICOM needs pydicom: pip install 'ct-rate-pairs[dicom]'.") from None
    return dicom


# With .mhd, so that a batch reports that it cannot be read.
VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".npz", ".zip")
_UNREADABLE = (".hdr", ".nrrd", ".nhdr")  # beside other scans, these are reported, too


def find_scans(paths: Sequence[Path]) -> tuple[list[Path], bool]:
    """
    Finds the scans in files and folders.

    Args:
        paths (`Sequence[Path]`):
            Files of single scans, folders of one DICOM study, or folders of many scans.

    Returns:
        `tuple[list[Path], bool]`: the path of each scan, and whether the scans are a batch. A single file or a single
        study is not a batch.
    """
    scans, batch = [], len(paths) > 1
    for path in paths:
        files = files_of(path) if path.is_dir() else []
        volumes = [file for file in files if file.name.lower().endswith(VOLUMES)]
        studies = find_studies([file for file in files if file not in volumes])
        if volumes or len(studies) > 1:
            volumes += [file for file in files if file.name.lower().endswith(_UNREADABLE)]
        scans += sorted(volumes + studies) or [path]
        batch = batch or len(studies) > 1 or bool(volumes)
    return scans, batch


def find_studies(files: Sequence[Path]) -> list[Path]:
    """
    Finds the folders that hold one DICOM study each. If a study shares its folder with another study, the folders of
    its series are given instead.
    """
    studies: dict[Path, str] = {}  # folder -> UID of the study, from the first file that has one
    for file in files:
        if not studies.get(file.parent) and file.is_file():
            study = _study_of(file)
            if study is not None:
                studies[file.parent] = study
    folders = [folder for folder in studies if not any(parent in studies for parent in folder.parents)]
    scans = []
    for study in {studies[folder] for folder in folders}:
        own = [folder for folder in folders if studies[folder] == study]
        shared = Path(os.path.commonpath(own))
        alone = study and all(folder in own for folder in folders if folder.is_relative_to(shared))
        scans += [shared] if alone else own
    return scans


def _study_of(file: Path) -> str | None:
    """As [`~ct_rate_pairs.volumes.dicom.headers.study_of`]. Needs no pydicom for what does not begin like DICOM."""
    start = partial(_open_start, file)
    try:
        with refusals(_NAME):
            if not _is_dicom(start):
                return None
    except VolumeError:
        return ""
    return _dicom_reader().study_of(start)


def _open_start(file: Path) -> BinaryIO:
    """As [`_open_slice`], to read the start alone: what gzip has packed may begin with a name that has no end."""
    more = VolumeError(f"{_NAME}: gzip has packed more than a header before its first bytes. Pack it again.")
    return unpacked(limited(open_file(_NAME, file), _MOST_PACKED_START, more))


def _open_slice(file: Path) -> BinaryIO:
    """A file of a series, which gzip may have packed, such as a `.dcm.gz`."""
    return unpacked(open_file(_NAME, file))


def _is_dicom(file: Callable[[], BinaryIO]) -> bool:
    """Whether a file begins like DICOM, with its preamble or without."""
    with file() as opened:
        start = opened.read(132)
    return start[128:] == b"DICM" or start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")


def digest(scan: Path) -> str:
    """A hash of the bytes of a scan's files, which does not depend on the names of the files."""
    digests = []
    try:
        for file in [file for file in files_of(scan) if file.is_file()] if scan.is_dir() else [scan]:
            with open_file(_NAME, file) as content:
                digests.append(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:  # its message names the file
        raise VolumeError(f"{_NAME}: cannot be read: {error.strerror}.") from None
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
