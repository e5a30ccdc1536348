"""
Files of the vectors of a dual encoder: those of CT-CLIP, which its own code makes, and those of a matcher that was
trained here.

A folder of embeddings has the layout that CT-CLIP's scripts write (`scripts/forward_data.py` of
ibrahimethemhamamci/CT-CLIP at b0a0e802): a file `NAME.npz` per vector, with an array `arr` of shape `[1, D]`.

- `image/NAME.npz`: a scan. NAME is its VolumeName without `.nii.gz`.
- `text/NAME.npz`: the report of that scan; `text/ID.npz`: a text of `texts.jsonl`, which maps each `id` to a `text`.
  An `id` is a hash of its text, so that a vector never comes to stand for another text.
- `blank/NAME.npz`: the scan with blank slices; or `blank/blank.npz` for all scans, if a blank volume is the same for
  all.
- `predicted_weights.npz` and `accessions.txt`: the zero-shot probabilities that CT-CLIP's `scripts/zero_shot.py` (at
  b97fab65) writes, `data` of shape `[N, 18]`, and the names of the scans in the same order.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from ct_rate_pairs.eval.predictions.formats import volume_of
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.export.write import MANIFEST
from ct_rate_pairs.json_files import parse_json, read_json
from ct_rate_pairs.json_schemas.export import ExportManifest, TextToEmbed
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.whole_files import whole_file, write_whole


TEXTS = "texts.jsonl"
BLANK = "blank"
FORMAT = "embeddings"  # in `manifest.json` of vectors of a matcher that was trained here
ZERO_SHOT, ACCESSIONS = "predicted_weights.npz", "accessions.txt"


class Embeddings(NamedTuple):
    """The vectors of a folder. All are unit vectors of one length."""

    volumes: list[str]
    vectors: torch.Tensor  # [2, N, D]: of the scans, and of blank volumes in their place (NaN if unknown)
    texts: dict[str, torch.Tensor]


def write_texts(folder: str | Path, texts: Sequence[str]) -> None:
    """
    Adds texts to embed to `texts.jsonl`, one per line, with an `id` each. Texts of an earlier call stay: their vectors
    may be on their way.
    """
    rows = read_texts(folder) | {f"text_{hashlib.sha256(text.encode()).hexdigest()[:16]}": text for text in texts}
    lines = (json.dumps({"id": name, "text": text}) + "\n" for name, text in rows.items())
    write_whole(Path(folder, TEXTS), "".join(lines))


def read_texts(folder: str | Path) -> dict[str, str]:
    """Maps the id of each text of `texts.jsonl` to the text. Empty without this file."""
    file = Path(folder, TEXTS)
    lines = file.read_text().splitlines() if file.is_file() else []
    rows = [parse_json(line, f"{file} line {number}", TextToEmbed) for number, line in enumerate(lines, 1)]
    return {row["id"]: row["text"] for row in rows}


def write_vectors(folder: str | Path, vectors: Mapping[str, torch.Tensor]) -> None:
    """Writes a file per vector `[D]`. `folder` is one of `image`, `text` and `blank`, which is made if needed."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, vector in vectors.items():
        with whole_file(Path(folder, f"{name}.npz")) as part, part.open("wb") as file:
            np.savez(file, arr=vector.numpy()[None])


def check_cohort(folder: str | Path, scans: Dataset) -> None:
    """
    Raises a `ValueError` if the vectors of a matcher are for other scans or reports than `scans`, the whole split. A
    folder without the manifest of `export --embeddings`, such as that of CT-CLIP's scripts, is not checked.
    """
    file = Path(folder, MANIFEST)
    there = read_json(file, ExportManifest) if file.is_file() else {}
    if there.get("format") == FORMAT and there["cohort"] != fingerprint(scans):
        raise ValueError(
            f"{file} tells that these vectors were written for a split {there['split']} with other scans or reports. "
            "Choose the data_dir and the target that they were written for."
        )


def read_embeddings(folder: str | Path, reports: Mapping[str, str]) -> Embeddings:
    """
    Reads the vectors of a folder.

    Args:
        folder (`str` or `Path`):
            The folder, see the top of this module.
        reports (`Mapping[str, str]`):
            Maps the VolumeNames that may be in the folder to their reports, in the order of the split.

    Returns:
        [`Embeddings`]: the vectors of those volumes that are in the folder, in the order of `reports`, and of the
        texts that are there.

    Raises:
        `FileNotFoundError`: if the folder has no vector of any of the volumes.
        `ValueError`: for a file that holds no finite vector, or one of another length.
    """
    folder = Path(folder)
    stems = {volume: volume.removesuffix(".nii.gz") for volume in reports}
    volumes = [volume for volume, stem in stems.items() if Path(folder, "image", f"{stem}.npz").is_file()]
    if not volumes:
        raise FileNotFoundError(
            f"{folder} holds no vector of any of these {len(reports)} scans, such as "
            f"image/{next(iter(stems.values()))}.npz. Give the folder that has the folder `image`."
        )
    seen = [_read_vector(folder / "image" / f"{stems[volume]}.npz") for volume in volumes]
    length = len(seen[0])
    unknown = torch.full((length,), torch.nan)
    blank = [_read_blank(folder / BLANK, stems[volume], unknown) for volume in volumes]
    texts = {}
    named = {stems[volume]: reports[volume] for volume in volumes} | read_texts(folder)
    for name, text in named.items():
        if (file := folder / "text" / f"{name}.npz").is_file():
            texts[text] = _read_vector(file)
    for name, vector in [*zip(volumes, seen, strict=True), *zip(volumes, blank, strict=True), *texts.items()]:
        if len(vector) != length:
            raise ValueError(
                f"{folder} holds vectors of {length} and of {len(vector)} numbers, the first of these that of "
                f"{name!r:.60}: use those of one model."
            )
    return Embeddings(volumes, torch.stack([torch.stack(seen), torch.stack(blank)]), texts)


def read_label_scores(folder: str | Path) -> dict[str, np.ndarray] | None:
    """
    The zero-shot scores of the 18 labels that CT-CLIP's own script has written, for each VolumeName; `None` if there
    are none.

    Raises:
        `ValueError`: if there are not as many names as rows, a name occurs twice, or the rows do not have 18 numbers.
    """
    folder = Path(folder)
    if not (folder / ZERO_SHOT).is_file():
        return None
    scores = _read_array(folder / ZERO_SHOT, "data")
    names = (folder / ACCESSIONS).read_text().split()
    if scores.shape != (len(set(names)), len(LABELS)):
        raise ValueError(
            f"{folder / ZERO_SHOT} has the shape {scores.shape}, but {ACCESSIONS} beside it names {len(set(names))} "
            f"scans, and there are {len(LABELS)} labels. Take both from one run."
        )
    return {volume_of(name): row for name, row in zip(names, scores, strict=True)}


def _read_blank(folder: Path, name: str, unknown: torch.Tensor) -> torch.Tensor:
    """The vector of a scan with blank slices, or of any blank volume."""
    files = (folder / f"{name}.npz", folder / f"{BLANK}.npz")
    return next((_read_vector(file) for file in files if file.is_file()), unknown)


def _read_vector(file: Path) -> torch.Tensor:
    """The vector of a file, scaled to length 1."""
    vector = torch.from_numpy(_read_array(file, "arr").reshape(-1))
    if not len(vector) or not vector.isfinite().all() or not vector.any():
        raise ValueError(f"{file} holds no vector of finite numbers. Write it again.")
    return F.normalize(vector, dim=0)


def _read_array(file: Path, name: str) -> np.ndarray:
    """An array of an `.npz` file, float32. No pickle is read."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[name].astype(np.float32)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} holds no array {name!r} ({error}). Write it again.") from error
