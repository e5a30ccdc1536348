"""Writes the arrays of scans for another model. An interrupted export goes on; a bad scan is listed and left out."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.export import ExportManifest
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.sources.own import OwnSource
from ct_rate_pairs.sources.tree import TreeSource
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.whole_files import whole_file, write_whole

from .ct_clip import CT2REP, CT_CHAT, CT_CLIP
from .form import ModelInput
from .m3d import M3D
from .merlin import MERLIN
from .pictures import MED_FLAMINGO, MINIGPT4, QILIN
from .radfm import RADFM


logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMATS: Mapping[str, ModelInput] = {
    "m3d": M3D,
    "radfm": RADFM,
    "ct-chat": CT_CHAT,
    "ct2rep": CT2REP,
    "ct-clip": CT_CLIP,
    "merlin": MERLIN,
    "med-flamingo": MED_FLAMINGO,
    "qilin": QILIN,
    "minigpt-4": MINIGPT4,
}


def export_scans(
    source: TreeSource | OwnSource, scans: pd.DataFrame, out: str | Path, *, name: str, split: str, cohort: str
) -> dict:
    """
    Writes the array of each scan, what the model's scripts read beside them, and `manifest.json`.

    Scans whose array is there already are not read again. A scan that cannot be read is listed under `failed` of the
    manifest, with the reason, and tried again by the next call.

    Args:
        source ([`~ct_rate_pairs.sources.tree.TreeSource`] or [`~ct_rate_pairs.sources.own.OwnSource`]):
            Where the volumes are.
        scans (`pd.DataFrame`):
            Rows of a table of `source`, indexed by VolumeName.
        out (`str` or `Path`):
            Folder to write to.
        name (`str`):
            The model: a key of `FORMATS`.
        split (`str`):
            Name of the split, for the manifest.
        cohort (`str`):
            What tells the split from that of another source with the same names, see [`cohort_of`].

    Returns:
        `dict`: the content of `manifest.json`: `format`, `split`, `cohort`, the facts of
        [`~ct_rate_pairs.export.form.ModelInput`], `scans` (the file of each VolumeName whose array is there) and
        `failed` (the reason for each VolumeName that could not be read).

    Raises:
        `ValueError`: if `out` holds the arrays of another model, split or cohort.
        [`~ct_rate_pairs.folder_lock.FolderInUseError`]: if another process writes into the folder.
    """
    form, out = FORMATS[name], Path(out)
    facts = facts_of(name, split, cohort)
    with folder_lock(out, "ct-rate-pairs export"):
        before = open_manifest(out, facts)
        files, failed = dict(before["scans"]), dict(before["failed"])
        owed = [volume for volume in scans.index if volume not in files]
        for volume in tqdm(owed, f"exporting for {form.model}", unit="scan"):
            file = form.place(volume)
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            try:
                if not (out / file).exists():
                    save_array(out / file, source.take(scans.loc[volume], form.array))
            except VolumeError as error:
                failed[volume] = str(error)
                logger.warning("Left out: %s", error)
                continue
            files[volume] = file
            failed.pop(volume, None)
        manifest = facts | {"scans": files, "failed": failed}
        for path, content in form.beside(files).items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / path, content)
        write_whole(out / MANIFEST, to_json(manifest, indent=2) + "\n")
    return manifest


def cohort_of(scans: pd.DataFrame) -> str:
    """A hash (16 hexadecimal digits) of the names and reports of a split, from its whole table."""
    rows = pd.util.hash_pandas_object(scans[["findings", "impression"]].astype(str))
    return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()[:16]


def facts_of(name: str, split: str, cohort: str) -> dict:
    """What `manifest.json` tells besides the scans. The arguments are those of [`export_scans`]."""
    return {"format": name, "split": split, "cohort": cohort, **FORMATS[name].facts()}


def open_manifest(out: Path, facts: dict) -> dict:
    """
    The manifest of an export that goes on, or a new one without scans, which is written at once.

    Raises:
        `ValueError`: if the folder has a manifest with other facts.
    """
    if not (out / MANIFEST).exists():
        manifest = facts | {"scans": {}, "failed": {}}
        write_whole(out / MANIFEST, to_json(manifest, indent=2) + "\n")
        return manifest
    there = read_json(out / MANIFEST, ExportManifest)
    if changed := sorted(key for key in facts if there.get(key) != json.loads(json.dumps(facts))[key]):
        key = changed[0]
        raise ValueError(
            f"{out} holds scans that were exported otherwise: {key} {there.get(key)!r:.80}, now {facts[key]!r:.80}. "
            "Choose another --output_dir."
        )
    return there


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array: `.npy`; `.npz` with the name `arr_0`, as CT2Rep's loader reads it; or a picture, `.png`."""
    with whole_file(path) as part, part.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, array)
        elif path.suffix == ".png":
            Image.fromarray(array).save(file, "PNG")
        else:
            np.save(file, array)


def gigabytes(name: str, scans: int) -> float:
    """How much disk the arrays of some scans take at most, in GB."""
    form = FORMATS[name]
    return scans * math.prod(form.shape) * np.dtype(form.dtype).itemsize / 1e9
