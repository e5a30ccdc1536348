"""A hospital's folder: scans in every format that is read, and a table in words of its own."""

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import SimpleITK as sitk
from PIL import Image

from .dicom_series import slices, write
from .tree import SPACING


AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
REPORTS = (
    "Heart is enlarged. Bilateral pleural effusions with adjacent passive atelectasis. No nodule.",
    "A 6 mm nodule is observed in the right upper lobe. No effusion. Heart size is normal.",
    "Centrilobular emphysema. Calcified plaques in the coronary arteries and the aorta. Sliding hiatal hernia.",
    "Both lungs are clear. No pleural or pericardial effusion. Mediastinal lymph nodes are not enlarged.",
    "Consolidation in the left lower lobe with air bronchograms. Small pericardial effusion.",
    "Bronchiectasis and peribronchial thickening in the middle lobe. Fibrotic sequelae at both apices.",
)


def write_scan(folder: Path, number: int, shape=(24, 20, 20)) -> str:
    """Writes a scan of noise in one of five formats, which follow each other, and returns its path in the folder."""
    hu = np.random.default_rng(number).integers(-1000, 400, shape, dtype=np.int16)
    kinds = (f"ct {number}.nii.gz", f"scans/{number}.mha", f"dicom/{number}", f"packed/{number}.zip", f"png/{number}")
    path = folder / kinds[number % 5]
    path.parent.mkdir(parents=True, exist_ok=True)
    match number % 5:
        case 0:
            nib.save(nib.Nifti1Image(hu, AFFINE), path)
        case 1:
            image = sitk.GetImageFromArray(np.ascontiguousarray(hu.transpose(2, 1, 0)))
            image.SetSpacing(SPACING)
            sitk.WriteImage(image, str(path))
        case 2:
            write(path, slices(hu, AFFINE))
        case 3:
            files = sorted(write(path.with_suffix(""), slices(hu, AFFINE)).iterdir())
            with zipfile.ZipFile(path, "w") as archive:
                for file in files:
                    archive.write(file, file.name)
                    file.unlink()
            path.with_suffix("").rmdir()
        case 4:
            path.mkdir()
            for place in range(shape[2]):
                grey = ((hu[:, :, place].T + 1000) / 1400 * 255).astype(np.uint8)
                Image.fromarray(grey).save(path / f"{place + 1}.png")
    return path.relative_to(folder).as_posix()


def own_rows(folder: Path, scans: int = 12) -> list[dict]:
    """Writes scans, and returns a row of a table for each. Each second patient has two scans."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(scans):
        patient = number - number // 3  # 0, 1, 2, 2, 3, 4, 4, ...
        rows.append(
            {
                "scan": write_scan(folder, number),
                "patient": f"MÜLLER, {patient:03}",
                "split": "test" if patient >= scans // 2 else "train",
                "report": REPORTS[number % len(REPORTS)],
                "age": str(40 + number),
                "sex": "female" if patient % 2 else "M",
                "clinical_information": "Cough." if number else None,
            }
        )
    return rows


def write_table(file: Path, rows: list[dict]) -> Path:
    """Writes rows as CSV, JSONL or Parquet, by the ending of the file."""
    match file.suffix:
        case ".csv":
            pd.DataFrame(rows).to_csv(file, index=False)
        case ".jsonl":
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
    return file
