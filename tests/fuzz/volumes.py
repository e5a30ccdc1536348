"""Scans of every format, with faults, as a batch of the reporter reads them."""

import gzip
import io
import zipfile
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import gdcm
import nibabel as nib
import numpy as np
from helpers.dicom_series import AFFINE, PLANTED, enhanced, slices
from PIL import Image
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ct_rate_pairs.volumes.scan_files import digest, find_scans, read_scan
from ct_rate_pairs.volumes.slicing import VolumeError

from .harness import Kind, mutated


_SHAPE = (20, 16, 12)


def _use(folder: Path) -> None:
    """As a batch does with each scan: find, hash, read, and make slices."""
    scans, _ = find_scans([folder])
    for scan in scans:
        digest(scan)
        read_scan(scan).slices(4, (2, 3, 4))


@cache
def _hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, _SHAPE, dtype=np.int16)


@cache
def _nifti_seeds(kind: type) -> list[bytes]:
    seeds = []
    for order in "<>":
        for dtype in ("i2", "u1", "f4", "f8", "i4"):
            header = kind.header_class(endianness=order)
            header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
            image = kind((_hu() // 8 + 125 if dtype == "u1" else _hu()).astype(order + dtype), AFFINE, header)
            image.set_qform(AFFINE, 1)
            image.header.set_slope_inter(*((8, -1000) if dtype == "u1" else (1, 0)))
            seeds.append(image.to_bytes())
    return seeds


def _nifti(kind: type):
    def make(rng: np.random.Generator, folder: Path) -> None:
        seeds = _nifti_seeds(kind)
        data = seeds[rng.integers(len(seeds))]
        way = rng.integers(4)
        if way < 2:
            (folder / "v.nii").write_bytes(mutated(rng, data))
        elif way == 2:  # faults in the file, in one gzip stream or several
            data, cut = mutated(rng, data), int(rng.integers(len(data)))
            (folder / "v.nii.gz").write_bytes(gzip.compress(data[:cut], 1) + gzip.compress(data[cut:], 1))
        else:  # faults in the stream
            (folder / "v.nii.gz").write_bytes(mutated(rng, gzip.compress(data, 1)))

    return make


def _metaimage(rng: np.random.Generator, folder: Path) -> None:
    compressed = bool(rng.integers(2))
    dtype = ("i2", "f4")[rng.integers(2)]
    body = _hu().astype(dtype).tobytes(order="F")
    if compressed:
        body = zlib.compress(mutated(rng, body) if rng.integers(4) == 0 else body)
        body = mutated(rng, body) if rng.integers(4) == 0 else body
    fields = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": compressed, "CompressedDataSize": len(body), "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0", "CenterOfRotation": "0 0 0", "AnatomicalOrientation": "RAI", "ElementSpacing": "2 3 4",
        "DimSize": "20 16 12", "ElementNumberOfChannels": 1,
        "ElementType": {"i2": "MET_SHORT", "f4": "MET_FLOAT"}[dtype],
        "Comment": "DOE^JANE", "ElementDataFile": "LOCAL",
    }  # fmt: skip
    names = list(fields)
    for _ in range(rng.integers(3)):
        way, field = rng.integers(4), names[rng.integers(len(names))]
        if way == 0:
            fields.pop(field, None)
        elif way == 1:
            fields[field] = ("", "-1", "DOE", "9" * 5000, "/etc/passwd", "LIST", "nan nan nan")[rng.integers(7)]
        elif way == 2:
            fields[field] = fields.pop(names[rng.integers(len(names))], "")
        else:
            fields = {name: fields[name] for name in rng.permutation(list(fields))}
    header = "".join(f"{field} = {value}\n" for field, value in fields.items()).encode()
    data = header + body
    (folder / "v.mha").write_bytes((data, mutated(rng, data, 1), mutated(rng, header) + body)[rng.integers(3)])


_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)


@cache
def _dicom_seeds() -> list[dict[str, bytes]]:
    """Series by transfer syntax, and an Enhanced CT: the bytes of each file by its name."""
    hu = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 12), dtype=np.int16)  # JPEG 2000 needs 32 pixels
    seeds = [
        {f"{number}.dcm": _coded(dataset, syntax) for number, dataset in enumerate(slices(hu, AFFINE))}
        for syntax in _SYNTAXES
    ]
    return [*seeds, {"enhanced.dcm": _written(enhanced(slices(hu, AFFINE)))}]


def _coded(dataset: Dataset, syntax: UID) -> bytes:
    if not syntax.is_compressed or syntax.is_deflated:
        dataset.file_meta.TransferSyntaxUID = syntax
        return _written(dataset)
    with TemporaryDirectory() as folder:
        file = str(Path(folder, "slice.dcm"))
        dcmwrite(file, dataset, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(file)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(file)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return Path(file).read_bytes()


def _written(dataset: Dataset) -> bytes:
    content = io.BytesIO()
    with config.disable_value_validation():
        dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


_ELEMENTS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "NumberOfFrames", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "InstanceNumber", "AcquisitionNumber", "SeriesNumber", "SOPClassUID",
    "AcquisitionTime", "ImageType", "TriggerTime", "PixelData",
)  # fmt: skip
_DECIMALS = ("0", "-1", "1e999", "nan", "-inf", "1e-30", "999999999", "12.34567890123", "x", "")
_INTEGERS = (0, 1, 2, 7, 8, 12, 32, 64, 4095, 4096, 32767, 65535)


def _other_element(rng: np.random.Generator, data: bytes) -> bytes:
    """The file with another value of one element."""
    dataset, keyword = dcmread(io.BytesIO(data)), (*_ELEMENTS, *["PixelData"] * 8)[rng.integers(len(_ELEMENTS) + 8)]
    kind = dictionary_VR(keyword)
    if keyword == "PixelData":
        pixels = dataset.PixelData
        value = pixels[:16] + mutated(rng, pixels[16:]) + b"\0"  # pydicom writes no fragments without their start
        dataset["PixelData"]._value = value[: len(value) // 2 * 2]
    elif keyword in dataset and rng.integers(6) == 0:
        del dataset[keyword]
    elif kind in ("US", "US or SS"):
        dataset.add_new(keyword, "US", _INTEGERS[rng.integers(len(_INTEGERS))])
    else:
        count = (1, 1, 2, 3, 6)[rng.integers(5)]
        words = [_DECIMALS[rng.integers(len(_DECIMALS))].encode() for _ in range(count)]
        dataset[keyword] = RawDataElement(Tag(keyword), kind, 0, b"\\".join(words), 0, False, True)
    return _written(dataset)


def _damaged(rng: np.random.Generator) -> dict[str, bytes]:
    """A series of which one or two files, or all in the same way, have faults: in bytes, or in values of elements."""
    seeds = _dicom_seeds()
    files = dict(seeds[rng.integers(len(seeds))])
    names, way, state = sorted(files), rng.integers(4), rng.bit_generator.state
    fault = mutated if way < 2 else _other_element
    if way % 2:  # the same fault in all files, so that none stands out
        for name in names:
            rng.bit_generator.state = state
            files[name] = fault(rng, files[name])
    else:
        for _ in range(rng.integers(1, 3)):
            name = names[rng.integers(len(names))]
            files[name] = fault(rng, files[name])
    return files


def _dicom(rng: np.random.Generator, folder: Path) -> None:
    for name, data in _damaged(rng).items():
        (folder / name).write_bytes(data)


def _zip(rng: np.random.Generator, folder: Path) -> None:
    seeds = _dicom_seeds()
    inside = bool(rng.integers(2))
    files = _damaged(rng) if inside else seeds[rng.integers(len(seeds))]
    content = io.BytesIO()
    method = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[
        rng.choice(4, p=[0.7, 0.2, 0.05, 0.05])
    ]
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(f"DOE_JANE/{name}")
            entry.compress_type = method
            if rng.integers(200) == 0:
                entry.filename = ("\0", "../x", "/x", "\\x", "a" * 60000, "é", "x/", "CON")[rng.integers(8)]
            if rng.integers(200) == 0:
                entry.external_attr = int(rng.integers(2**32))
            archive.writestr(entry, data)
    data = content.getvalue()
    (folder / "v.zip").write_bytes(data if inside else mutated(rng, data))


def _kind(make) -> Kind:
    return Kind(make, _use, VolumeError, (*PLANTED, "/etc"))


def _pictures(rng: np.random.Generator, folder: Path) -> None:
    """A folder of PNG or JPEG files of one kind of pixels, some of them with faults."""
    mode = ("L", "L", "RGB", "P", "LA", "RGBA", "I;16", "1")[rng.integers(8)]
    ending = ".jpg" if mode in ("L", "RGB") and rng.integers(2) else ".png"
    picture, written = Image.new(mode, (20, 16)), io.BytesIO()
    picture.save(written, "JPEG" if ending == ".jpg" else "PNG")
    for number in range(12):
        data = written.getvalue()
        (folder / f"{number}{ending}").write_bytes(data if rng.integers(12) else mutated(rng, data))


def _npz(rng: np.random.Generator, folder: Path) -> None:
    """A volume of RAD-ChestCT, with faults in its voxels, in the header of the array, in the zip or in its names."""
    kinds = ("<i2", "<i2", "<i2", ">i2", "<f4", "O")
    voxels = rng.integers(-1000, 1000, (52, 51, 50), dtype=np.int16).astype(kinds[rng.integers(len(kinds))])
    array = io.BytesIO()
    np.save(array, voxels if rng.integers(4) else np.asfortranarray(voxels), allow_pickle=True)
    data = array.getvalue()
    way = rng.integers(4)
    if way == 0:
        data = mutated(rng, data[:128]) + data[128:]
    elif way == 1:
        data = data[: rng.integers(len(data))]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ct.npy" if rng.integers(8) else ("image.npy", "../ct.npy", "DOE.npy")[rng.integers(3)], data)
    packed = content.getvalue()
    (folder / "v.npz").write_bytes(mutated(rng, packed) if way == 2 else packed)


KINDS = {
    "NIfTI-1": _kind(_nifti(nib.Nifti1Image)),
    "NIfTI-2": _kind(_nifti(nib.Nifti2Image)),
    "MetaImage": _kind(_metaimage),
    "DICOM": _kind(_dicom),
    "zip": _kind(_zip),
    "pictures": _kind(_pictures),
    "RAD-ChestCT": _kind(_npz),
}
