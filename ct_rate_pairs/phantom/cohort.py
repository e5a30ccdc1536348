"""Writes a phantom cohort with CT-RATE's layout: `.nii.gz` volumes in HU, and CT-RATE's tables."""

import csv
import io
import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import NotJSONError, check_json, read_json
from ct_rate_pairs.json_schemas.cohort import PhantomArguments
from ct_rate_pairs.processes import end_with_parent
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.tree import PHANTOM_MARKER
from ct_rate_pairs.volumes.settings import one_of
from ct_rate_pairs.whole_files import write_whole

from .anatomy import check_field_of_view
from .masks import write_mask_table, write_masks
from .prevalence import draw_labels
from .reports import WORDS, stated, write_report
from .scan import Scan
from .volume_file import write_volume


logger = logging.getLogger(__name__)

# File names of the two splits: prefix of the volumes, then reports, labels, metadata and excluded volumes. CT-RATE
# says `valid` in some of them and `validation` in others.
SPLITS = (
    ("train", "train_reports.csv", "train_predicted_labels.csv", "train_metadata.csv", "no_chest_train.txt"),
    ("valid", "validation_reports.csv", "valid_predicted_labels.csv", "validation_metadata.csv", "no_chest_valid.txt"),
)
REPORT_COLUMNS = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
METADATA_COLUMNS = (
    *("VolumeName", "Manufacturer", "SeriesDescription", "ManufacturerModelName", "PatientSex", "PatientAge"),
    *("ReconstructionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient", "GantryDetectorTilt"),
    *("TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent", "Exposure", "FilterType"),
    *("GeneratorPower", "FocalSpots", "ConvolutionKernel", "PatientPosition", "RevolutionTime"),
    *("SingleCollimationWidth", "TotalCollimationWidth", "TableSpeed", "TableFeedPerRotation", "SpiralPitchFactor"),
    *("DataCollectionCenterPatient", "ReconstructionTargetCenterPatient", "ExposureModulationType", "CTDIvol"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "Rows", "Columns", "XYSpacing", "RescaleIntercept", "RescaleSlope", "RescaleType"),
    *("NumberofSlices", "ZSpacing", "StudyDate"),
)
SECOND_SCAN_SHARE = 0.15  # of patients
# Keys of the random streams for a patient's scans and for a scan's report. Other keys draw the voxels.
PATIENT_KEYS, REPORT_KEYS = 100, 101
CHUNK = 8  # scans that a worker takes at a time


class Plan(NamedTuple):
    """One scan that is to be written. Everything else follows from the seed."""

    split: int
    patient: int
    scan: int
    labels: tuple[int, ...]
    reconstructions: int

    def name(self, reconstruction) -> str:
        """CT-RATE's name of a volume: `train_1_a_1.nii.gz` (split, patient, scan, reconstruction)."""
        return f"{self.stem}_{reconstruction}.nii.gz"

    @property
    def stem(self) -> str:
        """Name of the scan's folder, such as `train_1_a`."""
        return f"{SPLITS[self.split][0]}_{self.patient}_{'abc'[self.scan - 1]}"


def plan_cohort(scans, seed=0, split=0, reconstructions=0.25) -> list[Plan]:
    """
    Decide the patients, scans, labels and reconstructions of one split.

    Args:
        scans (`int`):
            Number of scans. About 15 % of the patients have two.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the cohort.
        split (`int`, *optional*, defaults to `0`):
            0 for training, 1 for the official validation set.
        reconstructions (`float`, *optional*, defaults to `0.25`):
            Share of scans with a second reconstruction.

    Returns:
        `list[Plan]`: one plan per scan.
    """
    plans, patient = [], 0
    while len(plans) < scans:
        patient += 1
        rng = random_stream(seed, split, patient, 0, PATIENT_KEYS)
        count = min(2 if rng.random() < SECOND_SCAN_SHARE else 1, scans - len(plans))
        for number, labels in enumerate(draw_labels(rng, 2)[:count], start=1):
            second = rng.random() < reconstructions
            plans.append(Plan(split, patient, number, tuple(labels.tolist()), 2 if second else 1))
    return plans


def write_scan(plan: Plan, out, seed, shape, spacing, language="en", masks=False) -> tuple[list[list], ...]:
    """
    Write the volumes of one scan, and with `masks` their masks. Returns their rows of the reports, the labels, the
    metadata and the masks CSV.
    """
    field_of_view = [count * size for count, size in zip(shape, spacing, strict=True)]
    scan = Scan(seed, (plan.split, plan.patient, plan.scan), plan.labels, field_of_view)
    rng = random_stream(seed, plan.split, plan.patient, plan.scan, REPORT_KEYS)
    findings, impression = write_report(rng, scan.findings, language)
    words = WORDS[language]
    clinical = words.CLINICAL_INFORMATION[int(rng.integers(len(words.CLINICAL_INFORMATION)))]
    technique = words.TECHNIQUE.format(thickness=f"{spacing[2]:g}")

    split = SPLITS[plan.split][0]
    folder = Path(out) / "dataset" / f"{split}_fixed" / f"{split}_{plan.patient}" / plan.stem
    folder.mkdir(parents=True, exist_ok=True)
    sentences = stated(random_stream(seed, plan.split, plan.patient, plan.scan, REPORT_KEYS), scan.findings, language)
    reports, labels, metadata, drawn = [], [], [], []
    for reconstruction in range(1, plan.reconstructions + 1):
        # The second reconstruction has a sharp kernel and slightly thicker slices in the same field of view.
        slices = shape[2] if reconstruction == 1 else round(0.8 * shape[2])
        kernel = "soft" if reconstruction == 1 else "sharp"
        thickness = field_of_view[2] / slices
        name = plan.name(reconstruction)
        volume = scan.render((shape[0], shape[1], slices), reconstruction, kernel)
        voxel = (spacing[0], spacing[1], thickness)
        write_volume(folder / name, volume, voxel)
        reports.append([name, clinical, technique, findings, impression])
        labels.append([name, *plan.labels])
        metadata.append(_metadata(name, plan, seed, kernel=kernel, shape=volume.shape, spacing=voxel))
        if masks:
            drawn += write_masks(out, name, scan, volume.shape, voxel, sentences)
    return reports, labels, metadata, drawn


def _metadata(name, plan, seed, *, kernel, shape, spacing) -> list:
    rng = random_stream(
        seed, plan.split, plan.patient, 0, REPORT_KEYS
    )  # one per patient: all scans have the same age and sex
    values = {
        "VolumeName": name,
        "Manufacturer": ("Phantom One", "Phantom Two")[int(rng.integers(2))],
        "SeriesDescription": "Thorax soft tissue" if kernel == "soft" else "Thorax lung",
        "ManufacturerModelName": "ct_rate_pairs.phantom",
        "PatientSex": ("F", "M")[int(rng.integers(2))],
        "PatientAge": f"{int(rng.integers(18, 92)):03d}Y",
        "ReconstructionDiameter": round(shape[0] * spacing[0], 1),
        "ConvolutionKernel": kernel,
        "PatientPosition": "FFS",
        "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": shape[1],
        "Columns": shape[0],
        "XYSpacing": f"[{spacing[0]:g}, {spacing[1]:g}]",
        # As in CT-RATE, slope and intercept belong to the stored DICOM values: the fixed files already hold HU.
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "NumberofSlices": shape[2],
        "ZSpacing": f"{spacing[2]:g}",
        "StudyDate": 20200101 + plan.scan,
    }
    return [values.get(column, "") for column in METADATA_COLUMNS]


def _claim(out, arguments):
    """Write the marker of a phantom cohort, which holds its arguments. It also tells phantoms from patients."""
    marker = out / PHANTOM_MARKER
    try:
        there = read_json(marker) if marker.exists() else arguments
    except NotJSONError as error:  # all volumes and tables are written again
        logger.warning("%s It is written again.", error)
        there = arguments
    if check_json(there, PhantomArguments, marker) != arguments:
        raise ValueError(
            f"{out} holds a phantom cohort of other arguments (see {marker}). Choose another folder, or remove it."
        )
    write_whole(marker, json.dumps(arguments))


def _write_csv(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_whole(path, text.getvalue())


def write_cohort(
    out,
    scans,
    seed=0,
    *,
    valid_scans=None,
    shape=(84, 56, 40),
    spacing=(4.5, 4.5, 6.5),
    reconstructions=0.25,
    language="en",
    masks=False,
    workers=None,
):
    """
    Write a phantom cohort under `out/dataset`. Equal arguments give equal files, with any number of workers.

    Args:
        out (`str` or `Path`):
            Folder of the cohort. It is created if needed. Files with the same names are overwritten.
        scans (`int`):
            Scans of the training split. Some patients have two scans, and some scans have two reconstructions.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the whole cohort.
        valid_scans (`int`, *optional*):
            Scans of the official validation set, in addition to `scans`. By default a tenth of `scans`, at least one.
        shape (`tuple[int, int, int]`, *optional*, defaults to `(84, 56, 40)`):
            Voxels along x, y, z.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(4.5, 4.5, 6.5)`):
            Size of a voxel along x, y, z, in mm.
        reconstructions (`float`, *optional*, defaults to `0.25`):
            Share of scans with a second reconstruction (sharp kernel, thicker slices).
        language (`str`, *optional*, defaults to `"en"`):
            Language of the reports, `"en"` or `"zh"`. The volumes and the labels are the same.
        masks (`bool`, *optional*, defaults to `False`):
            Whether `out/masks` holds which voxels each finding takes: files of label values for each volume, and the
            table `masks.csv`. Everything else is the same.
        workers (`int`, *optional*):
            Number of processes. One per core by default.

    Raises:
        `ValueError`: for an unknown language, if `shape` times `spacing` cannot hold a thorax, if `scans` is not
            positive, or if `out` holds another cohort, whose volumes would be mixed with the new volumes.
        [`~ct_rate_pairs.folder_lock.FolderInUseError`]: if another process writes into `out`.
    """
    if scans < 1:
        raise ValueError(f"scans={scans}: a cohort needs at least one scan.")
    one_of("language", language, WORDS)
    valid_scans = max(1, scans // 10) if valid_scans is None else valid_scans
    workers = os.cpu_count() if workers is None else workers
    check_field_of_view([count * size for count, size in zip(shape, spacing, strict=True)])
    arguments = {
        "scans": scans,
        "valid_scans": valid_scans,
        "seed": seed,
        "shape": list(shape),
        "spacing": list(spacing),
        "reconstructions": reconstructions,
        # Cohorts of earlier releases do not name their language, which is English.
        **({"language": language} if language != "en" else {}),
    }
    with folder_lock(out, "ct-rate-pairs phantom"):
        _claim(Path(out), arguments)
        _write_scans(Path(out), arguments, masks, workers)


def _write_scans(out, arguments, masks, workers):
    """Write the volumes, and then the tables."""
    names = ("scans", "valid_scans", "seed", "shape", "spacing", "reconstructions")
    scans, valid_scans, seed, shape, spacing, reconstructions = (arguments[name] for name in names)
    plans = plan_cohort(scans, seed, 0, reconstructions) + plan_cohort(valid_scans, seed, 1, reconstructions)
    write = partial(write_scan, out=out, seed=seed, shape=tuple(shape), spacing=tuple(spacing))
    write = partial(write, language=arguments.get("language", "en"), masks=masks)
    progress = partial(tqdm, total=len(plans), desc="writing phantom scans", unit="scan")
    if workers == 1:
        written = list(progress(map(write, plans)))
    else:
        # `spawn`, because a fork of a process with threads (of torch, for example) may hang. An executor, because a
        # pool of multiprocessing starts processes that die anew, for ever.
        try:
            with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
                written = list(progress(pool.map(write, plans, chunksize=CHUNK)))
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that writes scans has ended. In a script, call write_cohort below `if __name__ == "
                '"__main__":`, because each process runs the script again; or pass workers=1. If the system has ended '
                "the process for its memory, pass fewer workers."
            ) from error

    root = out / "dataset"
    for split, (_, reports_csv, labels_csv, metadata_csv, no_chest) in enumerate(SPLITS):
        mine = [rows for plan, rows in zip(plans, written, strict=True) if plan.split == split]
        reports, labels, metadata = ([row for rows in mine for row in rows[kind]] for kind in range(3))
        _write_csv(root / "radiology_text_reports" / reports_csv, REPORT_COLUMNS, reports)
        _write_csv(root / "multi_abnormality_labels" / labels_csv, ("VolumeName", *LABELS), labels)
        _write_csv(root / "metadata" / metadata_csv, METADATA_COLUMNS, metadata)
        write_whole(root / "metadata" / no_chest, "")  # every phantom volume shows the chest
    if masks:
        write_mask_table(out, [row for *_, drawn in written for row in drawn])
