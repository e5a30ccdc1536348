"""Whether the slices of a series are CT in HU, stored as a CT is. What contradicts itself is told."""

import re
from collections import Counter, defaultdict

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEGExtended12Bit

from ..slicing import VolumeError
from ..told import tell
from .headers import REQUIRED, Header
from .identity import tell_spellings
from .places import normal_of
from .stacks import joined


_ROUNDING = 1e-3  # rounding error of cosines and voxel sizes that are written as decimals
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
# Words of ImageType and VolumeBasedCalculationTechnique for projections, for maps, and for images that dual energy
# computes: those of the standard, and those of vendors.
_DERIVED = re.compile(
    r"(?<![A-Z])(?:MINIP|MAXIP|MAX_IP|MIN_IP|MIP|VRT|VOLUME_RENDER|SURFACE_RENDER|PROJECTION IMAGE|MAXIMUM|MINIMUM"
    r"|STD_DEVIATION|ADDITION|DIVISION|MULTIPLICATION|MASKED|QUANTITY|SUBTRACT(?:ION|ED)?|PERFUSION|PBV|CBF|CBV|MTT|TTP"
    r"|TMAX|MAT_SPECIFIC|MAT_REMOVED|MAT_FRACTIONAL|MAT_MODIFIED|MAT_VALUE_BASED|EFF_ATOMIC_NUM|ELECTRON_DENSITY"
    r"|ENERGY_PROP_WT|MD_[A-Z]{1,10}|VMI|VNC|VNUE|IODINE|WATER|CALCIUM|URIC_ACID|FAT_MAP|MATERIAL|Z_?EFF|RHO_?Z|MONO_?E|MONO(?=_?\d)"
    r"|MONOENERGETIC|MONOCHROMATIC|EFFECTIVE_Z)(?![A-Z])"
)
# In the terms of DICOM (PS3.16, annex L) and in other languages, each scan that has the lungs in it.
_CHEST = re.compile(r"CHEST|TH?ORA|LUNG|PULMO|BRONCH|HEART|CARDI|MEDIAST|BREAST|AORTA|BODY|TRUNK|TORSO")
_DERIVED_IN = ("ImageType", "VolumeBasedCalculationTechnique")
_COLOURS = re.compile(r"MONOCHROME1|RGB|PALETTE COLOR|YBR_[A-Z_0-9]+")
_MOST_TILT = 1.0  # degrees that are no tilt of the gantry
# Where the table lies, in LPS, by the end of PatientPosition (such as HFS): an image as scanned shows it below.
_TABLE = {"S": (0, 1, 0), "P": (0, -1, 0), "DR": (-1, 0, 0), "DL": (1, 0, 0)}
_BELOW = np.cos(np.radians(60.0))  # smallest cosine between that direction and the one that an image shows below
_SHORT, _MOST_SHOWN = 2, 8  # letters of a word, and characters in all, that are no name


def check_slices(name: str, headers: list[Header]) -> None:
    """Refuse a series that does not consist of CT slices of one size, each with its geometry and scale."""
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


def tell_doubts(name: str, headers: list[Header]) -> None:
    """Tells what makes the values or the places of a series doubtful, though it is read."""
    if derived := sorted(
        {word for h in headers for keyword in _DERIVED_IN for word in _DERIVED.findall(h[keyword].upper())}
    ):
        tell("%s: its ImageType has %s, so its values may be no plain HU.", name, " and ".join(derived))
    _tell_contradictions(name, headers)
    _tell_overridden(name, headers)
    _tell_numbers(name, headers)
    tell_spellings(name, headers)
    if differing := joined(headers):
        tell("%s: its slices are read as one volume, but have %s.", name, ", ".join(differing))


def _tell_contradictions(name: str, headers: list[Header]) -> None:
    """
    Tells elements that say something else than what is taken, or that should be equal in all slices; and pixels that
    may name the patient.
    """
    # The value itself is not told: whoever typed it may have typed a name.
    if elsewhere := [h for h in headers if h["BodyPartExamined"] and not _CHEST.search(h["BodyPartExamined"].upper())]:
        tell(
            "%s: by BodyPartExamined, it shows another part of the body than the chest in %s. Check that it is a "
            "chest CT.",
            *(name, _where(elsewhere, headers)),
        )
    if named := [h for h in headers if h["BurnedInAnnotation"].upper() == "YES"]:
        tell(
            "%s: BurnedInAnnotation is YES in %s: its pixels hold text that may name the patient. Look at the slices "
            "before they leave this machine, also as a sheet, a montage or a model that was trained on them.",
            *(name, _where(named, headers)),
        )
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        values = sorted({h[keyword] for h in headers})
        if len(values) > 1:
            few = [h for h in headers if h[keyword] == min(values, key=[h[keyword] for h in headers].count)]
            tell(
                "%s: its slices have %d values of %s, from %g to %g (%g in %s). Each slice is rescaled by its own.",
                *(name, len(values), keyword, values[0], values[-1], few[0][keyword], _where(few, headers)),
            )
    for syntax in sorted({h["syntax"] for h in headers}):
        is_implicit = UID(syntax).is_implicit_VR
        if others := [h for h in headers if h["syntax"] == syntax and h["implicit"] != is_implicit]:
            tell(
                "%s: TransferSyntaxUID is %s, but the elements are written with %s VR in %s, and are read so.",
                *(name, UID(syntax).name, "explicit" if is_implicit else "implicit", _where(others, headers)),
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


def _tell_overridden(name: str, headers: list[Header]) -> None:
    """Tells what an Enhanced CT says of its frames outside of their functional groups, if no frame agrees."""
    frames, differing = Counter(h["count"] for h in headers), defaultdict(list)
    for header in headers:
        for keyword in header["Overridden"]:
            differing[keyword, header["count"]].append(header)
    for (keyword, count), others in differing.items():
        if len(others) == frames[count]:
            taken = "\\".join(f"{value:g}" for value in np.atleast_1d(others[0].get(keyword, np.nan)))
            tell(
                "%s: %s is %s in one place of the header of an Enhanced CT, but %s in the functional group of its "
                "frame %d, and that is taken. Check the size of its voxels, its place and its HU.",
                *(name, keyword, others[0]["Overridden"][keyword], taken, others[0]["frame"] + 1),
            )


def _tell_numbers(name: str, headers: list[Header]) -> None:
    """Tells numbers that several slices have, at different places: they may be of two acquisitions."""
    places, normal = defaultdict(set), normal_of(headers[0])
    for header in headers:
        if "InstanceNumber" in header:
            places[header["InstanceNumber"]].add(round(float(header["ImagePositionPatient"] @ normal), 1))
    several = [number for number, where in places.items() if len(where) > 1]
    if several and len(places) > 1:
        tell(
            "%s: %d values of InstanceNumber belong to several slices each, at different places. Check that these are "
            "of one acquisition.",
            *(name, len(several)),
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
