"""MetaImages whose headers are odd in many ways: what is read is what ITK reads, or ITK does not read it."""

import os
import pickle
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct_rate_pairs.volumes.files import refusals
from ct_rate_pairs.volumes.metaimage import read_metaimage
from ct_rate_pairs.volumes.slicing import VolumeError

from .harness import Kind


_NUMBERS = (
    "0", "-1", "nan", "inf", "1e999", "1e-320", "2", "-2", "1", "0x10", "1_0", "1,5", "2.", "+2", ".5", "1e0", "٣",
    "", "2 3", "2 3 4 5", "0 0 0", "-2 3 4", "2 -3 4", "2 3 -4", "2 3 4e0", "1 1 1", "2;3;4", "2,3,4", "2\t3\t4",
    "2\xa03\xa04", "2\x1c3\x1c4", "2 3 4 # mm", "4 3 2",
)  # fmt: skip
_MATRICES = (
    "1 0 0 0 1 0 0 0 -1", "-1 0 0 0 -1 0 0 0 1", "0 1 0 1 0 0 0 0 1", "0 0 1 1 0 0 0 1 0", "0 1 0 0 0 1 1 0 0",
    "1 0 0 1 0 0 0 0 1", "0 0 0 0 0 0 0 0 0", "nan 0 0 0 1 0 0 0 1", "2 0 0 0 2 0 0 0 2", "1 0 0 0 1 0 0 0",
    "0.99 0.1 0 -0.1 0.99 0 0 0 1", "1 0 0 0 1 0 0 0 1e-9", "1 0 0 0.02 1 0 0 0 1", "1,0,0,0,1,0,0,0,1",
)  # fmt: skip
_FLAGS = ("True", "False", "true", "TRUE", "t", "1", "0", "yes", "no", "T", "F", "Tru", "2", "")
_ORIGINS = ("0 0 0", "nan 0 0", "1 2", "1 2 3", "1e30 0 0", "a b c")
# What a field may be, besides what it is in a sound header.
_VALUES = {
    "ObjectType": ("image", "Scene", "Mesh", "", "Image Tube", "Tube"),
    "ObjectSubType": ("Image", "HMHD"),
    "NDims": ("03", "3.0", "+3", "3 3", "-1", "2", "4", "", "³", "3x"),
    **dict.fromkeys(("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"), _FLAGS),
    "CompressedDataSize": ("-1", "0", "1", "100", "99999999999", "x", ""),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), _MATRICES),
    **dict.fromkeys(("Offset", "Position", "Origin", "CenterOfRotation"), _ORIGINS),
    "AnatomicalOrientation": ("RAI", "LPS", "???", "xyz", ""),
    **dict.fromkeys(("ElementSpacing", "ElementSize"), _NUMBERS),
    "DimSize": (
        "16 20 12", "12 16 20", "20 16 11", "20 16 13", "20 16 12 1", "0 16 12", "-20 16 12", "20 16", "20,16,12",
        "20.0 16 12", "020 16 12", "1 1 3840", "40 16 6", "+20 16 12", "20\t16\t12", "4294967316 16 12",
    ),
    "ElementNumberOfChannels": ("1", "2", "0", "-1", "1.0", "01", "", "x"),
    "ElementType": (
        *("MET_SHORT", "MET_USHORT", "MET_CHAR", "MET_UCHAR", "MET_INT", "MET_LONG", "MET_ULONG", "MET_LONG_LONG"),
        *("MET_FLOAT", "MET_DOUBLE", "MET_SHORT_ARRAY", "MET_NONE", "MET_ASCII_CHAR", "MET_STRING", "met_short"),
    ),
    "HeaderSize": ("-1", "0", "1", "100", "x", "", "00"),
    "ElementToIntensityFunctionSlope": ("1", "2", "0", "nan", "-1", "x", ""),
    "ElementToIntensityFunctionOffset": ("0", "-1024", "x"),
    "DistanceUnits": ("mm", "cm", "um", "?", "MM", ""),
    **dict.fromkeys(("Modality", "ElementMin", "SequenceID", "ID", "Color", "Name"), ("1", "x", "MET_MOD_CT")),
    "Comment": ("a = b", "a\nDimSize = 9 9 9", "a\nb"),
    "ElementDataFile": ("local", "LOCAL ", "LIST", "other.raw", "/etc/passwd", "%d 1 12 1", "", "LOCAL\t"),
}  # fmt: skip
_TYPES = {"MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
_SEPARATORS = (*[" = "] * 8, "=", ": ", " : ", " =\t", " == ", " ")
_ENDS = (*["\n"] * 8, "\r\n", "\r", "\n\n", " \n", "\t\n", "\0\n", "\n\xa0\n", "\nno field\n")
_STARTS = (*[""] * 20, "\ufeff", "Name = Müller\n", "# comment\n", "\n", f"{'x' * 30_000} = 1\n")


def _make(rng: np.random.Generator, folder: Path) -> None:
    def one_of(choices):
        return choices[rng.integers(len(choices))]

    kind = one_of(list(_TYPES))
    voxels = rng.integers(0, 2000, (12, 16, 20)).astype(_TYPES[kind])
    body = voxels.tobytes()
    fields = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
        "AnatomicalOrientation": "RAI", "ElementSpacing": "2 3 4", "DimSize": "20 16 12", "ElementType": kind,
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    if rng.integers(3) == 0:
        packer = zlib.compressobj(wbits=one_of((15, 15, 31, -15)))
        body = packer.compress(body) + packer.flush()
        fields |= {"CompressedData": "True", "CompressedDataSize": str(len(body))}
    lines = [(field, value) for field, value in fields.items() if field != "ElementDataFile"]
    for _ in range(rng.integers(4)):
        field, place = one_of(list(_VALUES)), int(rng.integers(len(lines)))
        found = [number for number, (key, _) in enumerate(lines) if key == field]
        way = 0 if field == "CompressedDataSize" else rng.integers(8)  # without it, ITK gives other voxels
        match way:
            case 0 | 1 | 2 | 3 if found:
                lines[found[0]] = (field, one_of(_VALUES[field]))
            case 4 if found:
                lines.pop(found[0])
            case 5 if found:
                key = one_of((field.lower(), field.upper(), f" {field}", f"{field} ", field[:-1], f"\xa0{field}"))
                lines[found[0]] = (key, lines[found[0]][1])
            case 6:
                rng.shuffle(lines)
            case _:
                lines.insert(place, (field, one_of(_VALUES[field])))
    lines.append(("ElementDataFile", "LOCAL"))  # which ends a header; another one may stand before
    separator, end, varies = one_of(_SEPARATORS), one_of(_ENDS), rng.integers(6) == 0
    header = one_of(_STARTS)
    for field, value in lines:
        if varies:
            separator, end = one_of(_SEPARATORS), one_of(_ENDS)
        header += f"{field}{separator}{value}{end}"
    match rng.integers(12):
        case 0:
            body += rng.bytes(int(rng.integers(1, 500)))
        case 1:
            body = body[: -int(rng.integers(1, 50))]
        case 2:
            body = b"\n" + body
    (folder / "DOE.mha").write_bytes(header.encode(one_of(("utf-8", "latin-1")), "replace") + body)


def _by_itk(path: str) -> tuple[np.ndarray, tuple[float, ...]] | None:
    """Voxels in display order and their size, as ITK reads them in a process of its own; `None` if it does not."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            image = sitk.DICOMOrient(sitk.ReadImage(path), "LPI")
            with os.fdopen(theirs, "wb") as pipe:
                pickle.dump((sitk.GetArrayFromImage(image), image.GetSpacing()), pipe)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(told) if told else None


def _use(folder: Path) -> None:
    path = folder / "DOE.mha"
    with refusals("the scan"):
        volume = read_metaimage(path, "the scan")
    expected = _by_itk(str(path))
    if expected:
        np.testing.assert_array_equal(volume.stored, expected[0])
        np.testing.assert_allclose(volume.spacing, expected[1], rtol=1e-4)


KINDS = {"MetaImage as ITK": Kind(_make, _use, VolumeError, ("DOE", "/etc"))}
