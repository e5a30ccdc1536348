"""Reads one series of DICOM files: chooses it, checks it, sorts its slices, then reads their pixels."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from ..instances import Instances
from ..slicing import VolumeError
from ..told import tell
from .beside import check_other, form_of, suffix_of, what_else
from .checks import check_slices, tell_doubts
from .headers import DicomFile, Header, read_headers
from .identity import IDENTITY
from .instances import instances_of
from .places import normal_of, order_slices
from .stacks import Part, is_axial, set_aside, stacks_of
from .voxels import read_voxels
from .whole import check_whole, count_images


ENOUGH = 10  # slices that a series needs to be chosen without a number: as many as a model sees
MOST_LISTED = 50  # series in a message
# A kernel in the style of Siemens, Canon, Philips or GE (Br59d, FC51, YA, BONEPLUS). Other text might be a name.
KERNEL = re.compile(
    r"([A-Za-z]{1,2}\d{1,3}[a-z]?|[A-Z]{1,2}|STANDARD|LUNG|SOFT|BONE|BONEPLUS|DETAIL|EDGE|CHST)(, \d)?"
)


@dataclass
class Stack:
    """
    The voxels of one series.

    Args:
        name (`str`):
            Name for messages, such as "series 1 of the scan".
        stored (`np.ndarray`):
            Stored values of shape `[K, Y, X]`. The slices are sorted along the normal of their planes.
        affine (`np.ndarray`):
            Matrix from (x, y, k) to RAS in mm, of shape `[4, 4]`.
        slope (`float`):
            Slope in `HU = stored * slope + intercept`.
        intercept (`float`):
            Intercept of the same equation, in HU.
        instances ([`~ct_rate_pairs.volumes.instances.Instances`]):
            The image of each slice, in the order of the slices.
    """

    name: str
    stored: np.ndarray
    affine: np.ndarray
    slope: float
    intercept: float
    instances: Instances = field(repr=False)


def read_series(
    files: Iterable[tuple[PurePath, DicomFile]], number: int | None = None, headers_only: bool = False
) -> Stack:
    """
    Read one series of DICOM images. Files that are not DICOM, not images, or no slices of the volume (localizers,
    pages with the dose, a coronal image) are left out and counted in a warning. So are the other series, where one is
    chosen.

    Args:
        files (`Iterable[tuple[PurePath, Callable[[], BinaryIO]]]`):
            The path of each file, which is never shown, and a function that opens the file. The order does not matter.
        number (`int`, *optional*):
            Number of the series, from 1, as an error message lists them. It is needed unless exactly one series is an
            axial CT. Several acquisitions in one series (phases, reconstructions) are listed as a series each.
        headers_only (`bool`, *optional*, defaults to `False`):
            Whether zeros, which take no memory, stand for the pixels. What the headers say is checked as ever.

    Returns:
        [`Stack`]: the stored values, if all slices share slope and intercept; otherwise HU in float32.

    Raises:
        `VolumeError`: if a file is truncated, or is no DICOM though it is named as the images are, if no series or
            more than one series fits, or if the chosen series is not a regular, upright stack of CT slices in HU. Such
            a series has, for example, another modality, another photometric interpretation, frames without positions,
            a compression that cannot be decoded, missing slices, two slices at one place, a gantry tilt, or a declared
            padding that cannot be told from tissue.
    """
    every = _series(files)
    name, headers = _choose(every, number)
    if not all(_is_ct(header) for header in headers):
        raise VolumeError(f"{name} is {_describe((headers, []))}: this is no CT. Choose a CT series.")
    check_whole(name, headers)
    check_slices(name, headers)
    places, spacing = order_slices(name, headers)
    tell_doubts(name, headers)
    if headers_only:
        shape = (len(places), int(headers[0]["Rows"]), int(headers[0]["Columns"]))
        stored, slope, intercept = np.broadcast_to(np.int16(0), shape), 1.0, 0.0
    else:
        stored, slope, intercept = read_voxels(name, headers, places)
    # Cosines are written as decimals: without their rounding, the columns have exactly the length of the spacing.
    across, down = headers[0]["ImageOrientationPatient"].reshape(2, 3)
    normal = normal_of(headers[0])
    affine = np.eye(4)
    affine[:3, 0] = across / np.linalg.norm(across) * headers[0]["PixelSpacing"][1]
    affine[:3, 1] = down / np.linalg.norm(down) * headers[0]["PixelSpacing"][0]
    affine[:3, 2] = normal / np.linalg.norm(normal) * round(spacing, 6)
    affine[:3, 3] = headers[places[0][0]]["ImagePositionPatient"]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # from DICOM's LPS to RAS
    return Stack(name, stored, affine, slope, intercept, instances_of([headers[place[0]] for place in places]))


def _series(files: Iterable[DicomFile]) -> list[Part]:
    """The stacks of slices, sorted by the numbers of their series."""
    groups, count, named, others, passed = defaultdict(list), 0, set(), [], Counter()
    for count, (path, file) in enumerate(files, start=1):
        headers = read_headers(count, file)
        if headers is None:
            others.append((count, path, file))
        elif not headers:
            passed["DICOM without an image, such as a report"] += 1
        else:
            named.add(form_of(path))
        for header in headers or []:
            groups[header["SeriesInstanceUID"]].append(header)
    if not groups:
        raise VolumeError(f"the scan: no DICOM image among its {count} files{what_else([o[1] for o in others])}")
    for number, path, file in others:
        check_other(number, path, file, named)
    passed += Counter(map(suffix_of, (path for _, path, _ in others)))
    aside = Counter()
    for uid, headers in groups.items():
        count_images(headers)
        groups[uid], kinds = set_aside(headers)
        aside += kinds
    localizers = {uid for uid, headers in groups.items() if "LOCALIZER" in headers[0]["ImageType"].upper()}
    if len(localizers) == len(groups):
        raise VolumeError(f"the scan: only localizers among its {count} files. Give the files of a CT series.")
    aside["localizers"] += sum(len(groups.pop(uid)) for uid in localizers)
    if passed:
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(passed.items()))
        tell("%d of the scan's %d files are not DICOM images and were skipped: %s.", passed.total(), count, listed)
    if +aside:
        listed = ", ".join(f"{kind} ({number})" for kind, number in (+aside).items())
        tell("Images of the scan that are no slices of a volume were skipped: %s.", listed)
    # Series with the same number are sorted by their UID, which is never shown.
    numbers = {uid: min(h.get("SeriesNumber", np.inf) for h in headers) for uid, headers in groups.items()}
    return [part for uid in sorted(groups, key=lambda uid: (numbers[uid], uid)) for part in stacks_of(groups[uid])]


def _choose(every: list[Part], number: int | None) -> tuple[str, list[Header]]:
    fitting = [n for n, part in enumerate(every, start=1) if len(every) == 1 or _is_axial_ct(part)]
    numbers = fitting if number is None else [number]
    if len(numbers) != 1 or not 1 <= numbers[0] <= len(every):
        lines = [f"  {n}: {_describe(part)}" for n, part in enumerate(every, start=1)]
        listed = "\n".join(lines[:MOST_LISTED] + [f"  ... {len(lines)} in all"] * (len(lines) > MOST_LISTED))
        asked = f"{len(fitting)} of its {len(every)} series are axial CT of {ENOUGH} slices or more"
        if any(every[n - 1][1] for n in fitting):
            asked = "slices of one series belong to several volumes, listed apart with what tells them apart"
            apart = {word.split()[0] for n in fitting for word in every[n - 1][1]}
            if identity := [keyword for keyword in IDENTITY if keyword in apart]:
                asked += (
                    f". Two patients, studies or days are never one volume: if {', '.join(identity)} should be equal, "
                    "correct the files (dcmodify -m)"
                )
        if number is not None:
            asked = f"there is no series={number}"
        raise VolumeError(f"the scan: {asked}. Choose one by its number, as series=1:\n{listed}")
    if number is None and len(every) > 1:
        tell(
            "Series %d of the scan's %d series was chosen (%s): the others are no axial CT of %d slices or more.",
            *(numbers[0], len(every), _describe(every[numbers[0] - 1]), ENOUGH),
        )
    return f"series {numbers[0]} of the scan", every[numbers[0] - 1][0]


def _is_axial_ct(part: Part) -> bool:
    """Whether a stack may be chosen. Of stacks that share a series, a short one may be what another one lacks."""
    headers, words = part
    upright = all("ImageOrientationPatient" in header and is_axial(header) for header in headers)
    return upright and (len(headers) >= ENOUGH or bool(words)) and all(_is_ct(header) for header in headers)


def _is_ct(header: Header) -> bool:
    return header["Modality"].upper() == "CT"


def _describe(part: Part) -> str:
    """
    Modality, slices, spacing, kernel, and what tells the stack from others of its series. The description of a series
    is left out: free text may hold a name.
    """
    headers, telling = part
    first = headers[0]
    modality = first["Modality"] if re.fullmatch("[A-Z]{2,4}", first["Modality"]) else "no modality"
    words = [modality, f"{int(sum(h.get('NumberOfFrames', 1) for h in headers))} slices"]
    if all(keyword in h for h in headers for keyword in ("ImageOrientationPatient", "ImagePositionPatient")):
        along = np.unique([round(float(h["ImagePositionPatient"] @ normal_of(first)), 2) for h in headers])
        words += [f"{np.median(np.diff(along)):g} mm apart"] if len(along) > 1 else []
    if "PixelSpacing" in first:
        words.append("pixels of {:g} x {:g} mm".format(*first["PixelSpacing"]))
    kernel = first["ConvolutionKernel"].strip("[]").replace("'", "")  # the list as pydicom writes it
    return ", ".join(words + [f"kernel {kernel}"] * bool(KERNEL.fullmatch(kernel)) + telling)
