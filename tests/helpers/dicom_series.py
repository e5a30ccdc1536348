"""Real DICOM series, written with pydicom from the voxels and affine of a NIfTI file, with a patient in them."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


ROOT = "1.2.826.0.1.777"
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
