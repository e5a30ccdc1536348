"""
Writes a prepared copy: Parquet shards, each with its scans and their slices, one row group per scan; or with its scans
alone, whose whole volumes are files beside it. An interrupted copy can be continued.
"""

import csv
import hashlib
import io
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Features, Image, List, Value
from PIL import Image as PILImage
from tqdm import tqdm

from ct_rate_pairs.builder import ROW_FEATURES
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import NotJSONError, check_json, parse_json, read_json
from ct_rate_pairs.json_schemas.cohort import PreparedCopy, VolumeMessages
from ct_rate_pairs.processes import end_with_parent
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.own import OwnSource
from ct_rate_pairs.sources.prepared import PROVENANCE, READING, shard_name
from ct_rate_pairs.sources.stores import volume_file
from ct_rate_pairs.sources.tree import TreeSource
from ct_rate_pairs.volumes.settings import FORMS, OF_SLICES, VolumeSettings, one_of
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.store_files import rescaling_of, write_volume
from ct_rate_pairs.volumes.told import collected_warnings
from ct_rate_pairs.whole_files import whole_file, write_whole

from .card import dataset_card


logger = logging.getLogger(__name__)

_OF_SLICES = {"images": List(Image()), "slice_mm": List(Value("float32"))}
# Where the slices lie, for masks; see `SlicePlan.to_row`.
_OF_PLANS = {
    "plan": {
        "shape": List(Value("int32"), length=3),
        "affine": List(Value("float64"), length=16),
        "axes": Value("string"),
        "size": List(Value("int32"), length=3),
        "planes": List(Value("int32")),
        "slabs": List(List(Value("int32"), length=2)),
    }
}
_OF_VOLUMES = {
    "shape": List(Value("int32"), length=3),
    "voxel_mm": List(Value("float64"), length=3),
    "lungs": List(Value("float64")),
}
# The further column of the copy of a reader's own table.
_OWN_FEATURES = {"questions": List({"question": Value("string"), "answer": Value("string")})}
BAD_VOLUMES, TOLD_VOLUMES = "bad_volumes.csv", "told_volumes.csv"
# Keys in the metadata of a shard: lists of the bad volumes that it leaves out, and of warnings about its volumes, and
# a copy of `prepared.json`.
_BAD_KEY, _TOLD_KEY, _PREPARED_KEY = b"bad_volumes", b"told_volumes", b"prepared"


def features_of(provenance: dict) -> Features:
    """The columns of the shards of a copy, from its `prepared.json`."""
    metadata = dict.fromkeys(provenance.get("metadata", ()), Value("string"))
    return Features(
        {
            "volume": Value("string"),
            **(_OF_SLICES if provenance.get("form", "slices") == "slices" else _OF_VOLUMES),
            **(_OF_PLANS if provenance.get("plans") else {}),
            "findings": Value("string"),
            "impression": Value("string"),
            **{name: ROW_FEATURES[name] for name in ("labels", "age", "sex")},
            **(_OWN_FEATURES if provenance.get("own") else {}),
            **metadata,
        }
    )


class Prepared(NamedTuple):
    """What reading a scan came to: a row of the copy or an error, and the warnings of the reader."""

    volume: str
    row: dict | None
    error: str
    told: list[str]


def prepare(
    source: TreeSource | OwnSource,
    out: str | Path,
    form: str = "slices",
    shard_size: int = 200,
    workers: int | None = None,
    on_error: str = "skip",
    shard_index: int = 0,
    num_shards: int = 1,
) -> dict:
    """
    Write a prepared copy of `source`. Finished shards are kept, so an interrupted copy goes on with a second call.

    Args:
        source ([`~ct_rate_pairs.sources.tree.TreeSource`] or [`~ct_rate_pairs.sources.own.OwnSource`]):
            CT-RATE on disk or on the Hub, or a table of the reader's own scans, with the settings that the volumes are
            read with.
        out (`str` or `Path`):
            Folder of the copy. A folder that was prepared from other data or with other settings is refused.
        form (`str`, *optional*, defaults to `"slices"`):
            What is kept of a scan. `"slices"`: the slices that the settings of `source` choose, as 8-bit images.
            `"preprocessed"`: the whole resampled volume with values normalised to [-1, 1] by the window, as a NIfTI
            file with its affine. `"preprocessed_numpy"`: the whole resampled volume in HU, as an int16 array of shape
            `(z, x, y)` in a `.npy` file. Both are the paper's (section 6.3), and slices are chosen as they are read.
        shard_size (`int`, *optional*, defaults to `200`):
            Scans per file.
        workers (`int`, *optional*):
            Number of processes. One per core by default.
        on_error (`str`, *optional*, defaults to `"skip"`):
            `"skip"`: leave bad volumes out and list them in `bad_volumes.csv`. `"raise"`: stop at the first bad
            volume.
        shard_index (`int`, *optional*, defaults to `0`):
            Number of this job among the `num_shards` jobs, from 0.
        num_shards (`int`, *optional*, defaults to `1`):
            Number of jobs that share the work, such as one per machine. This job writes every `num_shards`-th file,
            beginning with file `shard_index`.

    Returns:
        `dict`: numbers of `rows`, `bad` volumes and `bytes` in the files that exist now, and the number of `missing`
        files, which other jobs have not written yet.

    Raises:
        `ValueError`: if an argument is out of its range, if the source has no volume, or if `out` was prepared from
            other data or with other settings.
        `FileExistsError`: if `out` holds other files.
        [`~ct_rate_pairs.folder_lock.FolderInUseError`]: if another process does the same job in `out`.
        `VolumeError`: at the first bad volume, with `on_error="raise"`.
    """
    if not 0 <= shard_index < num_shards:
        raise ValueError(f"shard_index={shard_index} must be at least 0 and below num_shards={num_shards}.")
    if shard_size < 1:
        raise ValueError(f"shard_size={shard_size}: give a number of scans, 1 or more.")
    _check_form(form, source.settings)
    out = Path(out).expanduser()
    tables = {split: source.scans(split, on_error) for split in source.splits}
    if not any(map(len, tables.values())):
        raise ValueError(
            f"{source.location} holds no volume that its tables name, for files={source.settings.files!r}. The "
            "`fixed` volumes are in dataset/train_fixed and dataset/valid_fixed, the `original` volumes in "
            "dataset/train and dataset/valid."
            if not source.is_own
            else f"{source.location} names no scan that can be read: `ct-rate-pairs check` tells why."
        )
    job = f"{shard_index + 1}-of-{num_shards}" if num_shards > 1 else ""
    with folder_lock(out, "ct-rate-pairs prepare", job):
        provenance = _write_provenance(source, out, form, shard_size, tables)
        counts = provenance["shards"]
        files = [
            (out / shard_name(split, i, counts[split]), tables[split].iloc[i * shard_size : (i + 1) * shard_size])
            for split in source.splits
            for i in range(counts[split])
        ]
        _write_shards(source, files[shard_index::num_shards], provenance, workers, on_error)
        return _summarise(out, [file for file, _ in files])


def _check_form(form: str, settings: VolumeSettings) -> None:
    """Refuses settings that a form cannot keep, or that it leaves to those who read the copy."""
    one_of("form", form, FORMS)
    if form == "slices":
        if settings.slices == "jitter":
            raise ValueError(
                "slices='jitter' draws other planes in each epoch, and form='slices' keeps one choice. Prepare whole "
                "volumes (form='preprocessed_numpy'), or choose another rule."
            )
        if settings.slices == "key":
            raise ValueError("slices='key' takes planes by masks, which a copy does not know: read the source itself.")
        return
    for name in (*OF_SLICES, *(["window"] if form == "preprocessed_numpy" else [])):
        if getattr(settings, name) != getattr(VolumeSettings(), name):
            raise ValueError(
                f"{name}={getattr(settings, name)!r} has no effect with form={form!r}, which keeps whole volumes: "
                "leave it out here, and give it to load_dataset."
            )
    if settings.channels > 1:
        raise ValueError(
            f"window={settings.window!r} gives three values per voxel, but form='preprocessed' keeps one. Choose one "
            "window (low, high), or form='preprocessed_numpy', from which any window can be read."
        )


def _write_shards(source, files: list[tuple[Path, pd.DataFrame]], provenance: dict, workers, on_error) -> None:
    """Writes those files, each with its scans, that are not there yet."""
    owed = [(file, scans) for file, scans in files if not _is_whole(file)]
    total = sum(len(scans) for _, scans in files)
    done = total - sum(len(scans) for _, scans in owed)
    if done:
        logger.warning("%d scans are in finished files already: going on from there.", done)
    form = provenance.get("form", "slices")
    # `spawn`, because a fork of a process with threads (of the Hub client, of Arrow) may deadlock.
    with (
        ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn"), _start, (source, form, on_error)) as pool,
        tqdm(total=total, initial=done, unit="scan", desc="preparing", smoothing=0.05) as bar,
    ):
        try:
            queued: deque = deque()
            for file, scans in owed:
                if form != "slices":
                    _make_volumes_folder(file)
                rows = pool.map(partial(_prepare_row, file), [scan for _, scan in scans.iterrows()])
                queued.append((file, rows))
                if len(queued) > 1:  # two files at a time, so that no process waits for the last scan of a file
                    _write_shard(*queued.popleft(), provenance, bar)
            while queued:
                _write_shard(*queued.popleft(), provenance, bar)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise all queued scans would still be read
            raise


def _is_whole(file: Path) -> bool:
    """Whether a shard is finished. A file that is empty or cut is not, and is told."""
    try:
        pq.read_metadata(file)
    except FileNotFoundError:
        return False
    except pa.ArrowInvalid:
        logger.warning("%s is empty or cut. It is written again.", file)
        return False
    return True


def _write_provenance(
    source: TreeSource | OwnSource, out: Path, form: str, shard_size: int, tables: dict[str, pd.DataFrame]
) -> dict:
    """
    Write `prepared.json`, which says what the copy is made from and how. An existing file must say the same: an
    interrupted copy is only continued with the same data and settings.
    """
    rows = [pd.util.hash_pandas_object(table.astype(str)).to_numpy().tobytes() for table in tables.values()]
    provenance = {
        "source": source.location,
        "metadata": list(source.metadata),
        "tables": hashlib.sha256(b"".join(rows)).hexdigest(),  # of the content: jobs may see the source at other paths
        "phantom": source.is_phantom,
        "settings": asdict(source.settings),
        "shard_size": shard_size,
        "shards": {split: -(-len(table) // shard_size) for split, table in tables.items()},
        "ct_rate_pairs": version("ct-rate-pairs"),
        "reading": READING,
    }
    if source.labels_from == "rules":
        provenance["labels_from"] = "rules"
    if source.is_own:
        provenance["own"] = True
    if form != "slices":
        provenance["form"] = form
    elif _are_placed(source):
        provenance["plans"] = True
    wanted = json.loads(json.dumps(provenance))  # tuples become lists, as in the file
    there = _read_provenance(out)
    if there is None:
        # Another job may start in the same folder at the same time, so its files do not count.
        ours = ("data", "volumes", PROVENANCE)
        foreign = [path for path in out.iterdir() if not path.name.startswith(".") and path.name not in ours]
        if foreign:
            raise FileExistsError(f"{out} holds {foreign[0].name} and is no prepared copy: choose another folder.")
        write_whole(out / PROVENANCE, json.dumps(provenance, indent=2))
        there = read_json(out / PROVENANCE, PreparedCopy)
    (out / "data").mkdir(exist_ok=True)
    # A copy that an earlier release began lacks what that release did not know, and has the defaults.
    defaults = {"form": "slices"}
    wanted, known = defaults | wanted, defaults | there
    known["settings"] = json.loads(json.dumps(asdict(VolumeSettings()))) | there["settings"]
    # Where the source is, and whether plans are kept, does not change what is in a shard otherwise.
    compared = [name for name in wanted if name not in ("source", "plans")]
    differing = [name for name in compared if known.get(name) != wanted[name]]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{out} was prepared with another {name}: {known.get(name)!r} there, {wanted[name]!r} now. Choose another "
            "folder, or remove this one."
        )
    return there


def _read_provenance(out: Path) -> dict | None:
    """`prepared.json`; `None` if there is none. If it is empty or cut, it is written again from a finished shard."""
    file = out / PROVENANCE
    if not file.exists():
        return None
    try:
        there = read_json(file)
    except NotJSONError as error:
        logger.warning("%s It is written again.", error)
        finished = [shard for shard in sorted(out.glob("data/*.parquet")) if _is_whole(shard)]
        if not finished:
            file.unlink()
            return None
        kept = pq.read_metadata(finished[0]).metadata.get(_PREPARED_KEY)
        if kept is None:
            raise ValueError(
                f"{file} does not tell how {finished[0]} was prepared, and neither does this file, which an earlier "
                f"release wrote. Remove {out}, and prepare the copy again."
            ) from error
        write_whole(file, kept)
        there = parse_json(kept, finished[0])
    return check_json(there, PreparedCopy, file)


def _start(source: TreeSource | OwnSource, form: str, on_error: str) -> None:
    """Prepares each process of the pool."""
    global _source, _form, _on_error
    _source, _form, _on_error = source, form, on_error
    torch.set_num_threads(1)  # the processes share the cores already
    end_with_parent()


def _prepare_row(file: Path, scan: pd.Series) -> Prepared:
    """A row of the shard `file`, or the error of a bad volume that is left out."""
    with collected_warnings() as told:
        try:
            kept = _slices_of(scan) if _form == "slices" else _write_volume_of(scan, file)
        except VolumeError as error:
            if _on_error == "raise":
                raise
            return Prepared(scan.name, None, str(error), told)
    known = scan[["findings", "impression", "age", "sex", *_source.metadata]].astype(object).replace({pd.NA: None})
    row = {
        "volume": scan.name,
        **kept,
        "labels": scan[list(LABELS)].tolist(),
        **known,
    }
    if _source.is_own:
        row["questions"] = [{"question": question, "answer": answer} for question, answer in scan["questions"]]
    return Prepared(scan.name, row, "", told)


def _are_placed(source: TreeSource | OwnSource) -> bool:
    """Whether the place of each volume is known. That of original files is not, and own scans may be pictures."""
    return not source.is_own and source.settings.files == "fixed"


def _slices_of(scan: pd.Series) -> dict:
    """The columns of the slices of a scan."""
    plans = {}
    if _are_placed(_source):
        slices, slice_mm, plan = _source.read_planned(scan)
        plans["plan"] = plan.to_row()
    else:
        slices, slice_mm = _source.read_slices(scan)
    return plans | {"images": [{"bytes": png(plane), "path": None} for plane in slices], "slice_mm": slice_mm}


def _write_volume_of(scan: pd.Series, shard: Path) -> dict:
    """Writes the whole volume of a scan, and returns the columns that describe it."""
    volume = _source.read_resampled(scan, *rescaling_of(_form, _source.settings.window))
    write_volume(shard.parent.parent / volume_file(shard, scan.name, _form), _form, volume)
    return {"shape": volume.stored.shape, "voxel_mm": volume.spacing, "lungs": volume.lungs}


def png(plane: np.ndarray) -> bytes:
    """One slice as the PNG bytes that a prepared copy stores."""
    buffer = io.BytesIO()
    PILImage.fromarray(plane).save(buffer, "PNG", compress_level=1)  # level 6 takes 6 times as long and saves 15 %
    return buffer.getvalue()


def _make_volumes_folder(shard: Path) -> None:
    """Makes the folder of a shard's volumes. They are written before the shard, so a whole shard has all of them."""
    folder = shard.parent.parent / "volumes" / shard.stem
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.part"):  # left by a run that was killed
        left.unlink(missing_ok=True)


def _write_shard(file: Path, scans: Iterator[Prepared], provenance: dict, bar: tqdm) -> None:
    """Write a shard. It has another name until it is complete, so a killed run leaves no half shard."""
    for left in file.parent.glob(f".{file.name}.*.part"):  # left by a run that was killed
        left.unlink(missing_ok=True)
    schema = features_of(provenance).arrow_schema
    bad, told = [], []
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    with whole_file(file) as part, pq.ParquetWriter(part, schema, **options) as writer:
        for scan in scans:
            if scan.row is None:
                bad.append((scan.volume, scan.error))
            else:
                writer.write_table(pa.Table.from_pylist([scan.row], schema))  # one row group per scan
                told += [(scan.volume, message) for message in scan.told]
            bar.update()
        kept = {_BAD_KEY: bad, _TOLD_KEY: told, _PREPARED_KEY: provenance}
        writer.add_key_value_metadata({key: json.dumps(value, indent=2) for key, value in kept.items()})
    if bad:
        logger.warning("%s: %d bad volumes left out, the first: %s", file.name, len(bad), bad[0][1])
    if told:
        logger.warning("%s: %d warnings about volumes, the first: %s", file.name, len(told), told[0][1])


def _summarise(out: Path, files: list[Path]) -> dict:
    """Write the lists of volumes and the dataset card from the files that exist, and return the summary."""
    there = [file for file in files if file.exists()]
    bad, told, rows = [], [], dict.fromkeys(read_json(out / PROVENANCE, PreparedCopy)["shards"], 0)
    for file in there:
        metadata = _read_metadata(file)
        rows[file.name.split("-")[0]] += metadata.num_rows
        bad += parse_json(metadata.metadata[_BAD_KEY], file, VolumeMessages)
        told += parse_json(metadata.metadata[_TOLD_KEY], file, VolumeMessages)
    for name, column, listed in ((BAD_VOLUMES, "error", bad), (TOLD_VOLUMES, "warning", told)):
        lines = io.StringIO()
        csv.writer(lines).writerows([("volume", column), *listed])
        write_whole(out / name, lines.getvalue())
    provenance = read_json(out / PROVENANCE, PreparedCopy)
    summary = {
        "rows": sum(rows.values()),
        "bad": len(bad),
        "told": len({volume for volume, _ in told}),
        "bytes": sum(file.stat().st_size for file in (*there, *out.glob("volumes/*/[!.]*"))),
        "missing": len(files) - len(there),
    }
    write_whole(out / "README.md", dataset_card(provenance, rows, summary))
    return summary


def _read_metadata(file: Path) -> pq.FileMetaData:
    """The metadata of a shard. A file that [`prepare`] did not write is refused with a `ValueError`."""
    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is damaged ({error}). Remove it, and run the same command again.") from error
    if not {_BAD_KEY, _TOLD_KEY} <= set(metadata.metadata or ()):
        raise ValueError(f"{file} is no file of this command: remove it, and run the same command again.")
    return metadata
