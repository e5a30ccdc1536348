"""Real DICOM series, written with pydicom from the voxels and affine of a NIfTI file, with a patient in them."""

import traceback
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path

import gdcm
import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from ct_rate_pairs.volumes.dicom import Stack, read_series
from ct_rate_pairs.volumes.slicing import VolumeError

from .marked_volume import marked_volume


ROOT = "1.2.826.0.1.777"
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 20], [0, 0, 4.0, -120], [0, 0, 0, 1]])
# What a message may never show: name, number, dates, UIDs, and what the files and folders are called after.
PLANTED = ("DOE", "JANE", "4711-0815", "19450102", "20240229", ROOT)


def slices(array: np.ndarray, affine: np.ndarray, series: int = 1, **attributes) -> list[Dataset]:
    """
    The slices of `array` `[X, Y, K]`, with `affine` as in a NIfTI file, in HU.

    Args:
        series (`int`, *optional*, defaults to `1`):
            Number of the series, which its UID follows.
        **attributes:
            Further elements, by keyword, of each slice.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    across, down = np.linalg.norm(lps[:3, :2], axis=0)
    datasets = []
    for k in range(array.shape[2]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = f"{ROOT}.{series}.{k + 1}"
        dataset.StudyInstanceUID = ROOT
        dataset.SeriesInstanceUID = f"{ROOT}.{series}"
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "DOE^JANE", "4711-0815", "19450102"
        dataset.StudyDate = dataset.SeriesDate = "20240229"
        dataset.SeriesDescription = "THORAX DOE^JANE"
        dataset.SeriesNumber, dataset.InstanceNumber = series, array.shape[2] - k  # the number is no order to rely on
        dataset.Modality, dataset.ImageType, dataset.ConvolutionKernel = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "B30f"
        dataset.ImageOrientationPatient = [*(lps[:3, 0] / across), *(lps[:3, 1] / down)]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in (lps @ [0, 0, k, 1])[:3]]
        dataset.PixelSpacing = [down, across]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
        store(dataset, array[:, :, k].T)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        datasets.append(dataset)
    return datasets


def store(dataset: Dataset, values: np.ndarray) -> None:
    """Put the stored `values` `[Y, X]` into the slice, in their own type."""
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.add_new("PixelData", "OW", np.ascontiguousarray(values).tobytes())


def write(folder: Path, datasets: list[Dataset], order: list[int] | None = None) -> Path:
    """Write the slices to `folder`, whose file names, by `order`, do not follow their places."""
    folder.mkdir(parents=True, exist_ok=True)
    order = order or [(7 * i + 3) % 101 for i in range(len(datasets))]
    for number, dataset in zip(order, datasets, strict=True):
        path = folder / f"DOE_JANE_{dataset.SeriesNumber}_{number:03}.dcm"
        dcmwrite(path, dataset, enforce_file_format=True)
    return folder


def series(**attributes) -> list[Dataset]:
    """The slices of the marked volume."""
    return slices(marked_volume(), AFFINE, **attributes)


def enhanced(datasets: list[Dataset]) -> Dataset:
    """The slices as the frames of one Enhanced CT: what all frames share stands in the shared functional groups."""
    first, frames = deepcopy(datasets[0]), []
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    of_frames = ("ImagePositionPatient", "InstanceNumber")
    of_groups = {
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
        "CTReconstructionSequence": ("ConvolutionKernel",),
    }
    grouped = {*of_frames, "AcquisitionNumber", *(keyword for keywords in of_groups.values() for keyword in keywords)}
    file.update({element.tag: element for element in first if element.keyword not in grouped})
    file.SOPClassUID, file.ImageType = EnhancedCTImageStorage, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    file.InstanceNumber, file.NumberOfFrames = 1, len(datasets)
    shared = Dataset()
    for sequence, keywords in of_groups.items():
        setattr(shared, sequence, [item := Dataset()])
        item.update({first[keyword].tag: first[keyword] for keyword in keywords if keyword in first})
    for dataset in datasets:
        frames.append(frame := Dataset())
        frame.PlanePositionSequence, frame.FrameContentSequence = [Dataset()], [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = dataset.ImagePositionPatient
        if "AcquisitionNumber" in dataset:
            frame.FrameContentSequence[0].FrameAcquisitionNumber = dataset.AcquisitionNumber
        frame.CTImageFrameTypeSequence = [Dataset()]
        frame.CTImageFrameTypeSequence[0].FrameType = dataset.ImageType
    file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence = [shared], frames
    file.PixelData = b"".join(dataset.PixelData for dataset in datasets)
    return file


def read(folder: Path, number: int | None = None, reverse: bool = False) -> Stack:
    paths = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=reverse)
    return read_series([(path, partial(open, path, "rb")) for path in paths], number)


def hu(stack: Stack) -> np.ndarray:
    """The voxels in HU, as `[X, Y, K]`."""
    return (stack.stored * np.float32(stack.slope) + np.float32(stack.intercept)).transpose(2, 1, 0)


def assert_refused(folder: Path, match: str, number: int | None = None, of_file: bool = False) -> None:
    """
    The refusal says why, and nothing of the patient; nor does its cause. The refusal is the same in any order of the
    files, except where it names one file (`of_file`).
    """
    messages = []
    for reverse in (False, True):
        with warnings.catch_warnings(record=True) as caught, pytest.raises(VolumeError, match=match) as raised:
            warnings.simplefilter("always")
            read(folder, number, reverse)
        told = "".join(traceback.format_exception_only(raised.value)) + str(raised.value.__cause__) + str(caught)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
        assert not [word for word in PLANTED if word in told]
        messages.append(str(raised.value))
    assert of_file or messages[0] == messages[1]


def compress(path: Path, syntax: str, codec: gdcm.ImageCodec | None = None) -> None:
    """Writes a file again in another transfer syntax, by GDCM, and perhaps by a codec with settings of its own."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    if codec:
        change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
