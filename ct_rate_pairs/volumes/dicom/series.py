"""Reads one series of DICOM files: chooses it, checks it, sorts its slices, then reads their pixels."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from ..files import MOST_SIDE
from ..slicing import MOST_VOXELS, VolumeError
from ..told import tell
from .codestreams import Pixels, stated_pixels
from .headers import REQUIRED, SCALE, DicomFile, Header, read_content, read_headers, unquoted
from .padding import describe, padding_to_air
from .places import normal_of, order_slices
from .stacks import Part, is_axial, joined, set_aside, stacks_of


_ENOUGH = 10  # slices that a series needs to be chosen without a number: as many as a model sees
_MOST_LISTED = 50  # series in a message
_ROUNDING = 1e-3  # rounding error of cosines and voxel sizes that are written as decimals
# A kernel in the style of Siemens, Canon, Philips or GE (Br59d, FC51, YA, BONEPLUS). Other text might be a name.
_KERNEL = re.compile(
    r"([A-Za-z]{1,2}\d{1,3}[a-z]?|[A-Z]{1,2}|STANDARD|LUNG|SOFT|BONE|BONEPLUS|DETAIL|EDGE|CHST)(, \d)?"
)
# Words of a RescaleType in HU, and words that may stand beside them. The standard itself has a misspelling. Other
# languages have UH, HE, JH or HÜ.
_HU = re.compile(r"hus?|uhs?|he|jh|hü|h|hou?nd?sf(ie|ei|e|i)ld(a|scale|units?|einheit(en)?)?|хаунсфилда|亨氏单位|亨氏")
_BESIDE_HU = re.compile(
    r"units?|scale|values?|ct|numbers?|einheit(en)?|unit[ée]s?|unit[àa]|unidad(es)?|unidades?|eenhe(id|den)|enhe(t|ter)"
    r"|enhed(er)?|jednostk[ai]|jednotk[ay]|birimi|ünitesi|unitesi|ед(иниц[аы]?)?|escala|skala|de|di|in|d|单位|値|值"
)
_CT_NUMBER = re.compile(r"ct[ _-]?(numbers?|values?|#|zahl(en)?|wert(e)?|值)")
# Values that say something else, in upper case: the standard's terms, and units of PET. Other text might be a name.
_UNITS = re.compile(
    r"US|OD|HU_?MOD|MGML|Z_?EFF|ED|EDW|PCT|NORMALI[SZ]ED|UNSPECIFIED|BQML|CNTS|COUNTS|SUV|GML|MGCC|MM|CM2?|KEV|MONO\w{0,6}"
)
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
# Words of ImageType and VolumeBasedCalculationTechnique for projections, for maps, and for images that dual energy
# computes: those of the standard, and those of vendors.
_DERIVED = re.compile(
    r"(?<![A-Z])(?:MINIP|MAXIP|MAX_IP|MIN_IP|MIP|VRT|VOLUME_RENDER|SURFACE_RENDER|PROJECTION IMAGE|MAXIMUM|MINIMUM"
    r"|STD_DEVIATION|ADDITION|DIVISION|MULTIPLICATION|MASKED|QUANTITY|SUBTRACT(?:ION|ED)?|PERFUSION|PBV|CBF|CBV|MTT|TTP"
    r"|TMAX|MAT_SPECIFIC|MAT_REMOVED|MAT_FRACTIONAL|MAT_MODIFIED|MAT_VALUE_BASED|EFF_ATOMIC_NUM|ELECTRON_DENSITY"
    r"|ENERGY_PROP_WT|MD_[A-Z]{1,10}|VMI|VNC|VNUE|IODINE|WATER|CALCIUM|URIC_ACID|FAT_MAP|MATERIAL|Z_?EFF|RHO_?Z|MONO_?E|MONO(?=_?\d)"
    r"|MONOENERGETIC|MONOCHROMATIC|EFFECTIVE_Z)(?![A-Z])"
)
_DERIVED_IN = ("ImageType", "VolumeBasedCalculationTechnique")
_COLOURS = re.compile(r"MONOCHROME1|RGB|PALETTE COLOR|YBR_[A-Z_0-9]+")
_MOST_TILT = 1.0  # degrees that are no tilt of the gantry
# Where the table lies, in LPS, by the end of PatientPosition (such as HFS): an image as scanned shows it below.
_TABLE = {"S": (0, 1, 0), "P": (0, -1, 0), "DR": (-1, 0, 0), "DL": (1, 0, 0)}
_BELOW = np.cos(np.radians(60.0))  # smallest cosine between that direction and the one that an image shows below
# Suffixes of files that may lie beside images. Other suffixes could be a part of a name.
_SUFFIXES = re.compile(
    r"(\.nii|\.mha|\.mhd|\.nrrd|\.tar|\.dcm)?\.(nii|gz|mha|mhd|raw|hdr|img|nrrd|zip|7z|rar|tar|tgz|bz2|xz|zst|txt|csv|tsv|json"
    r"|xml|html?|pdf|jpe?g|png|bmp|tiff?|gif|md|log|ini|inf|exe|bat|db|dat|bin|h5|npy|npz|pt|pkl|docx?|xlsx?|dcm|ima|dicom)"
)
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "Zstandard", b"PK": "zip", b"7z\xbc\xaf": "7-Zip"}
_SHORT, _MOST_SHOWN = 2, 8  # letters of a word, and characters in all, that are no name
_OF_DICOM = (".dcm", ".ima", ".dicom")


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
            Matrix from (x, y, k) to RAS in mm, of shape `[4, 4]`. The origin is left out.
        slope (`float`):
            Slope in `HU = stored * slope + intercept`.
        intercept (`float`):
            Intercept of the same equation, in HU.
    """

    name: str
    stored: np.ndarray
    affine: np.ndarray
    slope: float
    intercept: float


def read_series(files: Iterable[tuple[PurePath, DicomFile]], number: int | None = None) -> Stack:
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
    _check(name, headers)
    places, spacing = order_slices(name, headers)
    if lossy := [h for h in headers if h["LossyImageCompression"] == "01" or h["syntax"] in _LOSSY]:
        tell("%s: %d of its %d slices were compressed with loss.", name, len(lossy), len(headers))
    if derived := sorted(
        {word for h in headers for keyword in _DERIVED_IN for word in _DERIVED.findall(h[keyword].upper())}
    ):
        tell("%s: its ImageType has %s, so its values may be no plain HU.", name, " and ".join(derived))
    _tell_contradictions(name, headers)
    if differing := joined(headers):
        tell("%s: its slices are read as one volume, but have %s.", name, ", ".join(differing))
    stored, slope, intercept = _read_voxels(name, headers, places)
    # Cosines are written as decimals: without their rounding, the columns have exactly the length of the spacing.
    across, down = headers[0]["ImageOrientationPatient"].reshape(2, 3)
    normal = normal_of(headers[0])
    affine = np.eye(4)
    affine[:3, 0] = across / np.linalg.norm(across) * headers[0]["PixelSpacing"][1]
    affine[:3, 1] = down / np.linalg.norm(down) * headers[0]["PixelSpacing"][0]
    affine[:3, 2] = normal / np.linalg.norm(normal) * round(spacing, 6)
    return Stack(name, stored, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, slope, intercept)  # from DICOM's LPS to RAS


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
            named.add(_form(path))
        for header in headers or []:
            groups[header["SeriesInstanceUID"]].append(header)
    if not groups:
        raise VolumeError(f"the scan: no DICOM image among its {count} files{_what_else([o[1] for o in others])}")
    for number, path, file in others:
        _check_other(number, path, file, named)
    passed += Counter(map(_suffix, (path for _, path, _ in others)))
    aside = Counter()
    for uid, headers in groups.items():
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


def _suffix(path: PurePath) -> str:
    """The kind of a file that is not DICOM, by its suffix."""
    found = _SUFFIXES.search(path.name.lower())
    is_known = found and found.end() == len(path.name)
    return found[0] if is_known else "of another suffix" if path.suffix else "without a suffix"


def _form(path: PurePath) -> tuple[PurePath, str]:
    """What files that belong together have in common: their folder, and their name without its numbers."""
    return path.parent, re.sub(r"\d+", "0", path.name.lower())


def _check_other(number: int, path: PurePath, file: DicomFile, named: set[tuple[PurePath, str]]) -> None:
    """Refuses a file that is not DICOM, but whose name is like those of images, whose forms are in `named`."""
    folder, form = _form(path)
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
    if packed := [kind for magic, kind in _PACKED.items() if start.startswith(magic)]:
        raise VolumeError(
            f"file {number} of the scan is packed by {packed[0]}, though it is named as a DICOM image is, so a slice "
            "may be missing. Unpack it, or pack it by gzip."
        )
    what = "is empty" if not start else "is a text or a page of HTML" if b"\0" not in start else "is no DICOM"
    raise VolumeError(
        f"file {number} of the scan {what}, though it is named as its images are, so a slice may be missing. Export "
        "or download it again; if it is no slice, remove it."
    )


def _what_else(paths: list[PurePath]) -> str:
    """What a scan without DICOM images holds, and how to pass it."""
    kinds = Counter(map(_suffix, paths))
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


def _choose(every: list[Part], number: int | None) -> tuple[str, list[Header]]:
    fitting = [n for n, part in enumerate(every, start=1) if len(every) == 1 or _is_axial_ct(part)]
    numbers = fitting if number is None else [number]
    if len(numbers) != 1 or not 1 <= numbers[0] <= len(every):
        lines = [f"  {n}: {_describe(part)}" for n, part in enumerate(every, start=1)]
        listed = "\n".join(lines[:_MOST_LISTED] + [f"  ... {len(lines)} in all"] * (len(lines) > _MOST_LISTED))
        asked = f"{len(fitting)} of its {len(every)} series are axial CT of {_ENOUGH} slices or more"
        if any(every[n - 1][1] for n in fitting):
            asked = "slices of one series belong to several volumes, listed apart with what tells them apart"
        if number is not None:
            asked = f"there is no series={number}"
        raise VolumeError(f"the scan: {asked}. Choose one by its number, as series=1:\n{listed}")
    if number is None and len(every) > 1:
        tell(
            "Series %d of the scan's %d series was chosen (%s): the others are no axial CT of %d slices or more.",
            *(numbers[0], len(every), _describe(every[numbers[0] - 1]), _ENOUGH),
        )
    return f"series {numbers[0]} of the scan", every[numbers[0] - 1][0]


def _is_axial_ct(part: Part) -> bool:
    """Whether a stack may be chosen. Of stacks that share a series, a short one may be what another one lacks."""
    headers, words = part
    upright = all("ImageOrientationPatient" in header and is_axial(header) for header in headers)
    return upright and (len(headers) >= _ENOUGH or bool(words)) and all(_is_ct(header) for header in headers)


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
    return ", ".join(words + [f"kernel {kernel}"] * bool(_KERNEL.fullmatch(kernel)) + telling)


def _check(name: str, headers: list[Header]) -> None:
    """Refuse a series that does not consist of CT slices of one size, each with its geometry and scale."""
    if not all(_is_ct(header) for header in headers):
        raise VolumeError(f"{name} is {_describe((headers, []))}: this is no CT. Choose a CT series.")
    if frames := [h["NumberOfFrames"] for h in headers if h.get("NumberOfFrames", 1) > 1]:
        raise VolumeError(
            f"{name}: a file holds {frames[0]:g} frames, but not where each frame lies (multi-frame without the "
            "PerFrameFunctionalGroupsSequence of an Enhanced CT). Export the original series: one file per slice, or "
            "an Enhanced CT."
        )
    if others := [h for h in headers if h["PhotometricInterpretation"].upper() != "MONOCHROME2"]:
        shown = _shown(others[0]["PhotometricInterpretation"], _COLOURS)
        raise VolumeError(
            f"{name}: PhotometricInterpretation is {shown} in {_where(others, headers)}, but CT in HU is MONOCHROME2. "
            "Choose the original series."
        )
    for keyword in REQUIRED:
        if missing := [h for h in headers if keyword not in h]:
            values = sorted({h["Unreadable"].get(keyword, "") for h in missing} - {""})
            shown = f": {', '.join(values[:3])}" if values else ""
            raise VolumeError(
                f"{name}: {keyword} is missing or unreadable in {len(missing)} of its {len(headers)} slices{shown}. "
                "Choose the original series, or export it again."
            )
    if others := [h for h in headers if not _may_be_hu(h["RescaleType"])]:
        raise VolumeError(
            f"{name}: RescaleType is {_shown(others[0]['RescaleType'], _UNITS)} in {_where(others, headers)}, so its "
            "values do not rescale to HU. Choose the original series."
        )
    if others := [h for h in headers if not h["RescaleSlope"]]:
        raise VolumeError(
            f"{name}: RescaleSlope is 0 in {_where(others, headers)}, so its values do not rescale to HU. Choose the "
            "original series."
        )
    for keyword, is_bad in {
        "ImageOrientationPatient": abs(np.linalg.norm(normal_of(headers[0])) - 1) > _ROUNDING
        or np.abs(np.linalg.norm(headers[0]["ImageOrientationPatient"].reshape(2, 3), axis=1) - 1).max() > _ROUNDING,
        "PixelSpacing": min(headers[0]["PixelSpacing"]) <= 0,
    }.items():
        if is_bad:
            value = " ".join(f"{x:g}" for x in headers[0][keyword])
            raise VolumeError(f"{name}: {keyword} is {value}, which spans no plane. Export the series again.")
    _check_pixels(name, headers)
    _check_decoders(name, headers)


def _check_pixels(name: str, headers: list[Header]) -> None:
    """Refuse pixels that are not there, or that are stored in another way than those of a CT."""
    if others := [h for h in headers if not h["has_pixels"]]:
        raise VolumeError(
            f"{name}: PixelData is missing in {_where(others, headers)}. Export the series again, with its pixels."
        )
    bits = max(h["BitsAllocated"] for h in headers)
    for keyword, legal in {
        "SamplesPerPixel": (1,),
        "BitsAllocated": (8, 16, 32),
        "BitsStored": tuple(range(1, int(bits) + 1)),
        "PixelRepresentation": (0, 1),
    }.items():
        if others := [h for h in headers if h[keyword] not in legal]:
            known = f"1 to {legal[-1]}" if len(legal) > 3 else " or ".join(map(str, legal))
            raise VolumeError(
                f"{name}: {keyword} is {others[0][keyword]:g} in {_where(others, headers)}, but a CT has {known}. "
                "Export the series again."
            )
    if others := [h for h in headers if h.get("HighBit", h["BitsStored"] - 1) != h["BitsStored"] - 1]:
        raise VolumeError(
            f"{name}: HighBit is {others[0]['HighBit']:g}, but BitsStored {others[0]['BitsStored']:g}, in "
            f"{_where(others, headers)}: its values do not lie in the lowest bits. Export the series again."
        )


def _tell_contradictions(name: str, headers: list[Header]) -> None:
    """Tells elements that say something else than what is taken, or that should be equal in all slices."""
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        values = sorted({h[keyword] for h in headers})
        if len(values) > 1:
            few = [h for h in headers if h[keyword] == min(values, key=[h[keyword] for h in headers].count)]
            tell(
                "%s: its slices have %d values of %s, from %g to %g (%g in %s). Each slice is rescaled by its own.",
                *(name, len(values), keyword, values[0], values[-1], few[0][keyword], _where(few, headers)),
            )
    if tilted := [h for h in headers if abs(h.get("GantryDetectorTilt", 0.0)) > _MOST_TILT]:
        tell(
            "%s: GantryDetectorTilt is %g degrees in %s, but by ImagePositionPatient and ImageOrientationPatient its "
            "slices are stacked upright, and that is taken. If the series was not resampled, it is sheared.",
            *(name, tilted[0]["GantryDetectorTilt"], _where(tilted, headers)),
        )
    down = headers[0]["ImageOrientationPatient"][3:]
    for header in headers:
        position = header["PatientPosition"].upper()
        if re.fullmatch("(HF|FF)(S|P|DR|DL)", position) and down @ np.array(_TABLE[position[2:]]) < _BELOW:
            tell(
                "%s: PatientPosition is %s, but ImageOrientationPatient (%s) does not show the table below, and "
                "that is taken. If the images were not turned, front and back or left and right are wrong.",
                *(name, position, " ".join(f"{x:g}" for x in headers[0]["ImageOrientationPatient"])),
            )
            break


def _check_decoders(name: str, headers: list[Header]) -> None:
    """Refuse pixels in a transfer syntax that nothing here decodes."""
    for syntax in sorted({h["syntax"] for h in headers}):
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise VolumeError(f"{name}: pydicom does not know its transfer syntax. Write it uncompressed.") from None
        compressed = f"{name}: its pixels are compressed as {UID(syntax).name}"
        if not decoder.is_available:
            raise VolumeError(f"{compressed}, which needs a plug-in of pydicom: pip install 'ct-rate-pairs[dicom]'.")
        bits = max(h.get("BitsStored", 0) for h in headers if h["syntax"] == syntax)
        if syntax == JPEGExtended12Bit and bits > 8 and "pylibjpeg" not in decoder.available_plugins:
            raise VolumeError(
                f"{compressed}, of {bits:g} bits. Only one decoder reads these, under the GPL: pip install "
                "pylibjpeg-libjpeg. Or write the files uncompressed (dcmdjpeg)."
            )


def _may_be_hu(rescale_type: str) -> bool:
    """Whether RescaleType says HU, in any spelling, or nothing: `US` stands for unspecified."""
    text = rescale_type.casefold().replace(".", "").strip("\0 \t\n")
    if text in ("", "us", "unspecified", "h u") or _CT_NUMBER.fullmatch(text):
        return True
    words = re.findall(r"[^\W\d_]+", text)
    is_hu = [bool(_HU.fullmatch(word)) for word in words]
    known = all(hu or _BESIDE_HU.fullmatch(word) for hu, word in zip(is_hu, words, strict=True))
    return any(is_hu) and known and not re.search(r"[\d/*+^%=?]|^-", text)


def _shown(value: str, known: re.Pattern) -> str:
    """A value for a message, if it is a known one, or made of words too short for a name. Other text might be one."""
    words = re.findall(r"[^\W\d_]+", value.upper())
    is_short = all(len(word) <= _SHORT or word in ("KHU", "MHU", "NOT") for word in words)
    if not value:
        return "missing"
    if known.fullmatch(value.upper()) or (is_short and len(value) <= _MOST_SHOWN and not re.search(r"\d{3}", value)):
        return repr(value)
    return f"an unknown word of {len(value)} characters"


def _where(some: list[Header], headers: list[Header]) -> str:
    return f"{len(some)} of its {len(headers)} slices (first in file {min(h['count'] for h in some)} of the scan)"


def _read_voxels(name: str, headers: list[Header], places: list[np.ndarray]) -> tuple[np.ndarray, float, float]:
    """The voxels `[K, Y, X]`, their slope and their intercept. Only one more file is in memory at a time."""
    shape = (len(places), int(headers[0]["Rows"]), int(headers[0]["Columns"]))
    if np.prod(shape, dtype=float) > MOST_VOXELS or max(shape) > MOST_SIDE:
        raise VolumeError(f"{name}: the headers promise {shape} voxels, more than any CT has. Export it again.")
    scales = {tuple(h[keyword] for keyword in SCALE) for h in headers}
    slope, intercept = next(iter(scales))[:2] if len(scales) == 1 else (1.0, 0.0)
    stored, read, copies, told = None, set(), 0, Counter()
    for k, header, pixels in _decode(name, headers, places):
        if pixels.shape != shape[1:]:
            raise VolumeError(f"{name}: slice {k + 1} is no single plane of {shape[1:]}. Export it again.")
        with unquoted(f"{name}: slice {k + 1} has pixels that are no integers"):
            told += padding_to_air(name, pixels, header)
        if len(scales) > 1:
            pixels = pixels * np.float32(header["RescaleSlope"]) + np.float32(header["RescaleIntercept"])  # noqa: PLW2901
        if stored is None:
            stored = np.empty(shape, pixels.dtype.newbyteorder("="))
        if k not in read:
            stored[k] = pixels
            read.add(k)
        elif np.array_equal(stored[k], pixels):
            copies += 1
        else:
            raise VolumeError(
                f"{name}: slice {k + 1} (of {len(places)}) is there {len(places[k])} times, with different pixels. "
                "Give only the files of one volume: one phase, one reconstruction. (Or positions were cut to whole "
                "mm, and two slices fell together: then export them with decimals.)"
            )
    if copies:
        tell("%s: %d files repeat a slice, pixel by pixel, and were dropped.", name, copies)
    if told["kept"] or told["air"]:
        tell(
            "%s declares padding (%s) that is a value of tissue: %.1f %% of its voxels, from the border of the slices "
            "on, became air; %.1f %% have such a value elsewhere, and were kept.",
            *(name, describe(headers[0]), 100 * told["air"] / told["all"], 100 * told["kept"] / told["all"]),
        )
    return stored, slope, intercept


def _decode(name: str, headers: list[Header], places: list[np.ndarray]) -> Iterator[tuple[int, Header, np.ndarray]]:
    """The pixels `[Y, X]` of each header, as they are stored, and the number of its slice. Each file is read once."""
    of_files = defaultdict(dict)  # number of the file -> number of the frame -> number of the slice, header
    for k, place in enumerate(places):
        for i in place:
            of_files[headers[i]["count"]][headers[i]["frame"]] = k, headers[i]
    for frames in of_files.values():
        k, header = frames[min(frames)]
        with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
            content = read_content(header)
            stated = stated_pixels(content, header["syntax"])
        if others := [pixels for pixels in sorted(stated) if not _is_of_header(pixels, header)]:
            rows, columns, values, bits = others[0]
            raise VolumeError(
                f"{name}: the compressed pixels of slice {k + 1} state {rows} x {columns} x {values} values of {bits} "
                f"bits, but its header {header['Rows']:g} x {header['Columns']:g} x 1 of {header['BitsAllocated']:g} "
                "bits, which can be 8 or 16. Export the series again."
            )
        with closing(iter_pixels(content, photometric_interpretation="MONOCHROME2")) as images:  # in any spelling
            for frame in range(max(frames) + 1):
                k, header = frames.get(frame, (k, header))
                with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                    pixels = next(images)
                if frame in frames:
                    yield k, header, pixels
            with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                if "Multiframe" not in header and next(images, None) is not None:
                    raise VolumeError(f"{name}: slice {k + 1} holds more frames than NumberOfFrames says.")


def _is_of_header(pixels: Pixels, header: Header) -> bool:
    """Whether a codestream states the pixels of its header, of a size that every decoder here knows."""
    *size, bits = pixels
    allocated = header["BitsAllocated"]
    return size == [header["Rows"], header["Columns"], 1] and allocated in (8, 16) and 2 <= bits <= allocated
