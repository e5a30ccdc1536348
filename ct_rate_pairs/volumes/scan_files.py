"""
Reads any chest CT scan as a `Volume`: NIfTI, MetaImage, or DICOM in a folder or a zip.

The path of a scan may hold the name of a patient. So no message quotes the path, and the volume is called "the scan".
"""

import hashlib
import logging
import math
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType
from typing import BinaryIO

import numpy as np

from .geometry import Grid, display, in_mm, same_size, tell_if_unset
from .nifti import read_volume
from .slicing import MOST_VOXELS, Volume, VolumeError


logger = logging.getLogger(__name__)

_NAME = "the scan"
_MOST_BYTES, _MOST_FILES = 4 * 2**30, 5000  # inflated bytes and files that a zip may hold
_MOST_LINK = 4096  # bytes of the path in a link
_MOST_HEADER = 2**16  # bytes of a MetaImage that are searched for its header
_OPPOSITE = str.maketrans("LRPASI", "RLAPIS")


def read_scan(path: str | Path, series: int | None = None) -> Volume:
    """
    Read a scan, and turn it to display order.

    Args:
        path (`str` or `Path`):
            A `.nii.gz`, `.nii` or `.mha` file in HU, a folder of DICOM files, a `.zip` of such a folder, or one file
            of an Enhanced (multi-frame) CT, whatever its name.
        series (`int`, *optional*):
            Number of the DICOM series, from 1. It is needed unless exactly one series is an axial CT. The error
            message lists the series.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume. Its name holds no part of the path and nothing about the
        patient.

    Raises:
        `VolumeError`: if the scan cannot be read, is not an upright and regular CT volume, or has several series that
            fit. The message holds no part of the path and nothing about the patient.
    """
    path = Path(path)
    try:
        return _read(path, series)
    except VolumeError as error:
        raise VolumeError(str(error)) from None  # the cause of the error may hold the path
    except OSError as error:
        raise VolumeError(f"{_NAME}: cannot be read: {error.strerror}.") from None


def _read(path: Path, series: int | None) -> Volume:
    name = path.name.lower()
    if not path.exists():
        raise VolumeError(f"{_NAME}: there is no such file or folder.")
    if path.is_dir():
        return _read_folder(path, series)
    if name.endswith(".zip"):
        return _read_zip(path, series)
    is_named = name.endswith((".nii", ".nii.gz", ".mha"))
    if not is_named and _is_dicom(path):
        return _read_dicom([partial(open, path, "rb")], series)
    if series is not None:
        raise VolumeError(f"{_NAME}: series={series} chooses among DICOM series, but this is a single volume.")
    if name.endswith((".nii", ".nii.gz")):
        return read_volume(path, _NAME)
    if name.endswith(".mha"):
        return _read_metaimage(path)
    raise VolumeError(
        f"{_NAME}: give a .nii.gz, .nii or .mha file, a folder of DICOM files, or a .zip of such a folder. A single "
        "DICOM file is one slice (unless it is an Enhanced CT): give its folder. A .mhd has its voxels in a second "
        "file: write both as one .mha. So has a .hdr: write both as one .nii.gz."
    )


def files_of(folder: Path) -> list[Path]:
    """
    All files in a folder and its subfolders, sorted by path, without hidden files and files that macOS adds. Links to
    files and folders are followed. A link to a folder that is read anyway, or to one around it, is passed over with a
    warning: there would be no end.

    Raises:
        `VolumeError`: if a folder cannot be read.
    """
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
            files += [Path(path, name) for name in names if _is_meant(PurePath(name))]
    if passed:
        logger.warning(
            "%d links to folders that are read anyway, or that lie around the scan, were passed over.", passed
        )
    return sorted(files)


def _cannot_be_read(error: OSError) -> None:
    raise VolumeError(f"{_NAME}: one of its folders cannot be read: {error.strerror}.") from None


def _is_meant(inside: PurePath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)


def _read_folder(path: Path, series: int | None) -> Volume:
    files = files_of(path)
    if broken := sum(file.is_symlink() and not file.exists() for file in files):
        raise VolumeError(
            f"{_NAME}: {broken} of its {len(files)} files are links that lead nowhere, so slices may be missing. Copy "
            "the files that they stand for (cp -L)."
        )
    return _read_dicom([partial(open, file, "rb") for file in files if file.is_file()], series)


def _read_zip(path: Path, series: int | None) -> Volume:
    """
    Reads the DICOM files of a zip. They are inflated in memory, one at a time, and never beyond the size that the zip
    states.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(entries)
            meant = [entry for entry in entries if _is_meant(PurePosixPath(entry.filename))]
            meant = _without_links(archive, meant)
            return _read_dicom([partial(archive.open, entry) for entry in meant], series)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise VolumeError(
            f"{_NAME}: the zip is truncated, damaged, or packed by a method that Python does not know. Download or "
            "pack it again."
        ) from None


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    size = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise VolumeError(
            f"{_NAME}: the zip holds {len(entries)} files of {size / 2**30:.1f} GB inflated, more than a scan has (at "
            f"most {_MOST_FILES} and {_MOST_BYTES / 2**30:.0f} GB). Pack one series alone."
        )
    for entry in entries:
        inside = PurePosixPath(entry.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or re.match("[A-Za-z]:", entry.filename):
            raise VolumeError(f"{_NAME}: the zip names files outside its own folder. Pack the series' folder again.")
        if entry.flag_bits & 1:
            raise VolumeError(f"{_NAME}: the zip is encrypted. Pack it without a password.")


def _without_links(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """
    The entries that are files. A link in a zip is a file that holds a path. Where the zip holds what the path leads
    to, that is read already; a link to anything else is refused.
    """
    links = [entry for entry in entries if stat.S_ISLNK(entry.external_attr >> 16)]
    held = {
        PurePosixPath(name) for entry in entries for name in (entry.filename, *PurePosixPath(entry.filename).parents)
    }
    lost = 0
    for link in links:
        with archive.open(link) as opened:
            target = opened.read(_MOST_LINK).decode("utf-8", "replace")
        lost += PurePosixPath(os.path.normpath(os.path.join(os.path.dirname(link.filename), target))) not in held
    if lost:
        raise VolumeError(
            f"{_NAME}: {lost} files of the zip are links to files that the zip does not hold, so slices may be "
            "missing. Pack the files that they stand for (zip without -y)."
        )
    if links:
        logger.warning("%d links in the zip to files that the zip holds were passed over.", len(links))
    return [entry for entry in entries if entry not in links]


def _read_dicom(files: list[Callable[[], BinaryIO]], series: int | None) -> Volume:
    stack = _dicom_reader().read_series(files, series)
    grid = Grid.of_matrix("its series", stack.affine[:3, :3])
    return _volume(stack.name, stack.stored, grid, stack.slope, stack.intercept)


def _dicom_reader() -> ModuleType:
    try:
        from . import dicom  # noqa: PLC0415
    except ModuleNotFoundError:
        raise VolumeError(f"{_NAME}: DICOM needs pydicom: pip install 'ct-rate-pairs[dicom]'.") from None
    return dicom


def _read_metaimage(path: Path) -> Volume:
    try:
        import SimpleITK as sitk  # noqa: PLC0415
    except ModuleNotFoundError:
        raise VolumeError(f"{_NAME}: a .mha needs SimpleITK: pip install 'ct-rate-pairs[metaimage]'.") from None
    try:
        str(path).encode()  # SimpleITK would end the process for a path that is not UTF-8
    except UnicodeEncodeError:
        raise VolumeError(f"{_NAME}: its path is not UTF-8. Rename the file, or the folder that it is in.") from None
    fields, start = _metaimage_header(path)
    # The header could name any other file as the file of the voxels, so only a MetaImage with its own voxels is read.
    if fields.get("ElementDataFile", "").upper() != "LOCAL":
        raise VolumeError(f"{_NAME}: not a MetaImage that holds its own voxels. Write it as one .mha again.")
    if not re.fullmatch(r"[1-9]\d?", fields.get("NDims", "")):  # SimpleITK would end the process
        raise VolumeError(f"{_NAME}: not a MetaImage: its header has no number of dimensions.")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, kind = reader.GetSize(), sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if len(size) != 3 or reader.GetNumberOfComponents() != 1 or "complex" in kind:
            raise VolumeError(
                f"{_NAME}: a volume has three dimensions and one number per voxel, but this file: {size}, {kind}."
            )
        if math.prod(size) > MOST_VOXELS:
            raise VolumeError(f"{_NAME}: the header promises {size} voxels, more than any CT has. Download it again.")
        image = reader.Execute()
    except RuntimeError:  # its message quotes the path
        raise VolumeError(f"{_NAME}: not a MetaImage, or its voxels are missing or cut short.") from None
    directions = np.reshape(image.GetDirection(), (3, 3))
    grid = Grid.of_lps("its header", directions, image.GetSpacing())
    _check_metaimage(fields, grid)
    tell_if_unset(_NAME, grid, np.array(image.GetOrigin()))
    after = path.stat().st_size - start - image.GetNumberOfPixels() * image.GetSizeOfPixelComponent()
    if fields.get("CompressedData", "False") == "False" and after > 0:
        logger.warning("%s: %d bytes follow its %s voxels and were not read. Check its DimSize.", _NAME, after, size)
    return _volume(_NAME, sitk.GetArrayFromImage(image), grid)


def _metaimage_header(path: Path) -> tuple[dict[str, str], int]:
    """
    The fields of the text header of a MetaImage, of which `ElementDataFile` is the last, and its length in bytes.

    Raises:
        `VolumeError`: if a field has two values.
    """
    with path.open("rb") as opened:
        header = opened.read(_MOST_HEADER).decode("latin-1")
    fields: dict[str, str] = {}
    length = 0
    for line in header.splitlines(keepends=True):
        length += len(line)
        if field := re.fullmatch(r"\s*([^=:]+?)\s*[=:]\s*(.*?)\s*", line):
            key, value = field.groups()
            if fields.setdefault(key, value) != value:
                raise VolumeError(f"{_NAME}: its header has two values of {key}. Write the scan again.")
            if key == "ElementDataFile":
                break
    return fields, length


def _check_metaimage(fields: dict[str, str], grid: Grid) -> None:
    """
    Compares what SimpleITK takes from the header of a MetaImage with the fields that it passes over.

    Raises:
        `VolumeError`: if the header does not state the voxel size, or means other values or sizes than SimpleITK
            gives.
    """
    if not fields.keys() & {"ElementSpacing", "ElementSize"}:
        raise VolumeError(
            f"{_NAME}: its header has no ElementSpacing, so the size of its voxels is unknown. Write the scan again."
        )
    slope, offset = (_numbers(fields, f"ElementToIntensityFunction{part}") for part in ("Slope", "Offset"))
    unit = fields.get("DistanceUnits", "mm")
    if slope not in ([], [1]) or offset not in ([], [0]) or unit.lower() not in ("mm", "?"):
        raise VolumeError(
            f"{_NAME}: its header has an intensity function of slope {slope} and offset {offset}, and {unit} as its "
            "unit of length. SimpleITK applies neither. Write the scan in HU and mm, without these fields."
        )
    if not np.allclose(np.linalg.norm(grid.directions, axis=0), 1, atol=0.01):
        raise VolumeError(
            f"{_NAME}: the columns of its TransformMatrix are not of length 1, which contradicts its ElementSpacing "
            f"of {in_mm(grid.spacing)}. Write the scan again."
        )
    size = [abs(number) for number in _numbers(fields, "ElementSize")] or grid.spacing
    if len(size) != 3 or not same_size(size, grid.spacing):
        logger.warning(
            "%s: its ElementSize is %s, its ElementSpacing %s. The ElementSpacing is taken, as ITK does.",
            _NAME, in_mm(size), in_mm(grid.spacing),
        )  # fmt: skip
    named = fields.get("AnatomicalOrientation", "???")
    if not fields.keys() & {"TransformMatrix", "Rotation", "Orientation"}:
        logger.warning(
            "%s: its header has no TransformMatrix (and AnatomicalOrientation %s). Taken instead: left, posterior, "
            "superior (LPS), as in ITK.", _NAME, named,
        )  # fmt: skip
    # Writers differ in whether a letter is where the axis runs to or where it comes from.
    elif named not in ("???", grid.axes, grid.axes.translate(_OPPOSITE)):
        logger.warning(
            "%s: its AnatomicalOrientation is %s, but by its TransformMatrix its axes run to %s. The TransformMatrix "
            "is taken, as ITK does.", _NAME, named, grid.axes,
        )  # fmt: skip


def _numbers(fields: dict[str, str], field: str) -> list[float]:
    """The numbers in a field of a MetaImage; none if there is no such field."""
    try:
        return [float(number) for number in fields.get(field, "").split()]
    except ValueError:
        raise VolumeError(f"{_NAME}: its header has no numbers in {field}. Write the scan again.") from None


def _volume(name: str, stored: np.ndarray, grid: Grid, slope: float = 1.0, intercept: float = 0.0) -> Volume:
    """A volume in display order, as a view, from `stored` `[K, Y, X]`. The axes in `grid` are x, y, k."""
    stored, spacing = display(name, stored.transpose(2, 1, 0), grid)
    return Volume(name, stored, spacing, slope, intercept)


VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".zip")  # with .mhd, so that a batch reports that it cannot be read
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
    """As [`~ct_rate_pairs.volumes.dicom.headers.study_of`]. Needs no pydicom for a file without DICOM's preamble."""
    try:
        if not _is_dicom(file):
            return None
    except OSError:
        return ""
    return _dicom_reader().study_of(partial(file.open, "rb"))


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def digest(scan: Path) -> str:
    """A hash of the bytes of a scan's files, which does not depend on the names of the files."""
    digests = []
    try:
        for file in [file for file in files_of(scan) if file.is_file()] if scan.is_dir() else [scan]:
            with file.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:  # its message names the file
        raise VolumeError(f"the scan: cannot be read: {error.strerror}.") from None
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
