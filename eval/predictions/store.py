"""Generated reports in a file that survives interruptions, `predictions.jsonl`, and in the challenge's format."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.scoring.operating_points import OperatingPoint
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import check_json
from ct_rate_pairs.json_schemas.evaluation import Provenance
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.processes import end_worker_with_parent
from ct_rate_pairs.readable_rows import ReadableRows
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.findings_line import open_text
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.row_settings import has_findings_line
from ct_rate_pairs.whole_files import write_whole

from .formats import is_whole, read_rows
from .predict import predict
from .provenance import check_provenance, fingerprint, provenance_path, read_provenance, set_aside_unknown


# What a line of `predictions.jsonl` has, of which a file of another program has the first two.
ROW = ("volume", "report", "line", "line_logits", "cut")


def find_predictions(name: str | Path) -> Path:
    """
    The file of predictions that a name stands for.

    The name is that of the file itself, or of a run's folder with `predictions.jsonl` in the folder or in its
    subfolder `evaluation`.

    Raises:
        `FileNotFoundError`: if there is no such file.
    """
    path = Path(name)
    candidates = [path / folder / "predictions.jsonl" for folder in ("", "evaluation")] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not path.exists():
        raise FileNotFoundError(no_such("file or folder", name))
    raise FileNotFoundError(f"There are no predictions: no file {' nor '.join(map(str, candidates))}.")


def read_predictions(path: str | Path) -> dict[str, str]:
    """
    Reads generated reports from either format.

    Args:
        path (`str` or `Path`):
            `.jsonl` with `volume`, `report` and perhaps `line` and `cut` on each line ([`read_lines`] and [`read_cut`]
            read these); `.json` in the format of the VLM3D challenge: a list `generated_reports` of
            `input_image_name` and `report`, alone or within the list of jobs that the challenge's server writes
            (`outputs`, `value`); or what the scripts of another model write, see
            [`~ct_rate_pairs.eval.predictions.formats`]. If an interruption truncated the last line of a `.jsonl`, the
            line is left out and a notice is printed.

    Returns:
        `dict[str, str]`: maps each VolumeName (`valid_1_a_1.nii.gz`) to its report, in the file's order. The report of
        an entry with a `line` is as it stands. Any other report loses a sound findings line, and nothing else.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: for a line or entry without these fields, or a volume that occurs twice. The message gives the
            number of the entry.
    """
    predictions = {}
    for number, row in enumerate(read_rows(path), 1):
        if row["volume"] in predictions:
            raise ValueError(f"{path} entry {number} is a second report for {row['volume']}: keep one of them.")
        predictions[row["volume"]] = _open_row(row)[1]
    return predictions


def select_shared(texts: Mapping[str, str], runs: Sequence[str | Path]) -> dict[str, str]:
    """
    The texts of those volumes that each of some runs has a report of; all texts, if there are no runs.

    Args:
        texts (`Mapping[str, str]`):
            Maps a VolumeName to its text.
        runs (`Sequence[str | Path]`):
            Names of runs or files, see [`find_predictions`].

    Raises:
        `ValueError`: if a run has no report of any of the volumes that are left.
    """
    shared = dict(texts)
    for run in runs:
        theirs = read_predictions(find_predictions(run))
        shared = {volume: text for volume, text in shared.items() if volume in theirs}
        if not shared:
            raise ValueError(f"scans_of: {run} has no report of the scans that are measured. Choose runs of these.")
    return shared


def read_lines(path: str | Path) -> dict[str, str]:
    """The findings line of each VolumeName of a file; reports without one are left out."""
    lines = {row["volume"]: _open_row(row)[0] for row in read_rows(path)}
    return {volume: line for volume, line in lines.items() if line}


def _open_row(row: Mapping) -> tuple[str | None, str]:
    """The findings line of an entry, if there is one, and its report."""
    if line := row.get("line"):
        return line, row["report"]
    line, _, report = open_text(row["report"])
    return line, report


def read_line_logits(path: str | Path) -> dict[str, list[float]]:
    """
    The log-odds of the 18 labels in the findings line that the model itself wrote, for each VolumeName of a `.jsonl`
    file, see [`~ct_rate_pairs.eval.looking.line_probabilities`]. Scans of which they are not known are left out.
    """
    return {row["volume"]: row["line_logits"] for row in read_rows(path) if "line_logits" in row}


def read_cut(path: str | Path) -> dict[str, bool]:
    """
    Reads which reports of a `.jsonl` file are cut at the limit of tokens.

    Returns:
        `dict[str, bool]`: maps each VolumeName to whether its report is cut. Reports of which the file does not tell,
        as in files of other programs, are left out.
    """
    return {row["volume"]: row["cut"] for row in read_rows(path) if isinstance(row.get("cut"), bool)}


def count_cut(cut: Mapping[str, bool], volumes: Collection[str]) -> dict:
    """
    Counts cut reports, for `results.json`.

    Args:
        cut (`Mapping[str, bool]`):
            Whether the report of a volume is cut, see [`read_cut`].
        volumes (`Collection[str]`):
            The volumes whose reports are measured.

    Returns:
        `dict`: `cut`, the number of cut reports, and `cut_share`, their share; `cut_unknown`, the number of reports of
        which it is not known, if there are some. Empty if it is known of no report.
    """
    known = [cut[volume] for volume in volumes if volume in cut]
    if not known:
        return {}
    unknown = len(volumes) - len(known)
    counts = {"cut": sum(known), "cut_share": sum(known) / len(known)}
    return counts | ({"cut_unknown": unknown} if unknown else {})


def copy_predictions(path: str | Path, scans: Dataset, out: str | Path, *, made_by: str, split: str) -> None:
    """
    Copies the reports that another program has written to `predictions.jsonl`, with a record of what has made them. So
    they are a run as any other, and `ct-rate-pairs compare` takes the folder. What lines of JSON tell of a report goes
    with it. The version of this package is no part of the record: it has written none of them.

    Args:
        path (`str` or `Path`):
            The file, see [`read_predictions`].
        scans ([`~datasets.Dataset`]):
            The whole split that the reports are for.
        out (`str` or `Path`):
            Folder to write to.
        made_by (`str`):
            The model and its commit, `NAME@COMMIT`.
        split (`str`):
            Name of the split.

    Raises:
        `ValueError`: if `path` has a record of its own, or if `out` holds the reports of another model.
    """
    if read_provenance(path):
        raise ValueError(f"--made_by is for files of other programs, and {path} tells itself what has made it.")
    copy = Path(out) / "predictions.jsonl"
    settings = {"target": reader_of(scans).config.target, "split": split, "references": fingerprint(scans)}
    provenance = {"weights": made_by, **settings}
    if copy.exists():
        check_provenance(copy, provenance)
    rows = [{key: row[key] for key in ROW if key in row} for row in read_rows(path)]
    write_whole(copy, "".join(json.dumps(row) + "\n" for row in rows))
    write_whole(provenance_path(copy), json.dumps(provenance, indent=2) + "\n")


def write_challenge_file(predictions: dict[str, str], path: str | Path) -> None:
    """Writes `predictions`, which maps a VolumeName to its report, in the format of the VLM3D challenge."""
    reports = [
        {"input_image_name": volume.removesuffix(".nii.gz"), "report": report}
        for volume, report in predictions.items()
    ]
    content = {
        "name": "Generated reports",
        "type": "Report generation",
        "generated_reports": reports,
        "version": {"major": 1, "minor": 0},
    }
    write_whole(path, to_json(content, indent=2) + "\n")


def write_predictions(
    model: PreTrainedModel,
    collator: PairCollator,
    scans: Dataset,
    path: str | Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1200,
    num_workers: int = 0,
    provenance: dict | None = None,
    operating_point: OperatingPoint | None = None,
) -> dict[str, str]:
    """
    Generates a report for each scan that has no report in the file yet, and appends the report to the file.

    Under `accelerate launch`, each process generates a share of the reports, and the main process writes the file. The
    file is flushed to disk after each batch: an interruption loses only the current batch, and the same call continues
    with the missing scans. With `on_error="skip"`, a scan that cannot be read gets no report.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that generates.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into prompts.
        scans ([`~datasets.Dataset`]):
            Rows of a split. A row is read when its batch is due. If they have a `findings_line`, so has the model: the
            first line of each text is kept apart, whatever it is.
        path (`str` or `Path`):
            The `.jsonl` file, the same for all processes.
        batch_size (`int`, *optional*, defaults to `8`):
            Scans per batch, in each process.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Maximum length of a report in tokens.
        num_workers (`int`, *optional*, defaults to `0`):
            Number of worker processes that read scans while the model generates, per process.
        provenance (`dict`, *optional*):
            What the reports depend on, from
            [`~ct_rate_pairs.eval.predictions.provenance.describe_provenance`]. It is written beside the file.
        operating_point ([`~ct_rate_pairs.eval.scoring.operating_points.OperatingPoint`], *optional*):
            Sets the findings lines. It must be part of `provenance`.

    Returns:
        `dict[str, str]`: maps each VolumeName of `scans`, in their order, to its report.

    Raises:
        `ValueError`: if the file was begun with another `provenance`, since one file must not hold reports of two
            models.
        [`~ct_rate_pairs.folder_lock.FolderInUseError`]: if another process writes into the folder.
    """
    path, state = Path(path), PartialState()
    with folder_lock(path.parent, "ct-rate-pairs evaluate", distributed=True):
        done = resume_predictions(path, provenance, state)
        volumes: list[str] = scans.with_format(None)["volume"][:]
        missing = [index for index, volume in enumerate(volumes) if volume not in done]
        if missing:
            # All processes need equally many scans: the first one is repeated if necessary, and written once.
            step = batch_size * state.num_processes
            padded = missing + missing[:1] * (-len(missing) % state.num_processes)
            share = padded[state.process_index :: state.num_processes]
            # A readable neighbour takes the place of an unreadable scan: all processes write equally many reports.
            readable = Subset(ReadableRows(scans), share)
            workers = {"num_workers": num_workers, "worker_init_fn": end_worker_with_parent}
            batches = DataLoader(readable, batch_size, collate_fn=list, **workers)
            bar = tqdm(
                total=len(volumes), initial=len(volumes) - len(missing), desc="Writing reports", unit="scan",
                disable=not state.is_main_process,
            )  # fmt: skip
            options = {"max_new_tokens": max_new_tokens, "with_line": has_findings_line(scans)}
            for rows in batches:
                reports = predict(model, collator, rows, operating_point=operating_point, **options)
                names = [row["volume"] for row in rows]
                written = dict(gather_object(list(zip(names, reports, strict=True))))
                new = {volume: report for volume, report in written.items() if volume not in done}
                done |= {volume: prediction.written.report for volume, prediction in new.items()}
                if state.is_main_process:
                    texts = {volume: prediction.written for volume, prediction in new.items()}
                    append_predictions(path, texts, {volume: prediction.logits for volume, prediction in new.items()})
                bar.update(min(step, bar.total - bar.n))
            bar.close()
        return {volume: done[volume] for volume in volumes if volume in done}


def resume_predictions(path: Path, provenance: dict | None, state: PartialState) -> dict[str, str]:
    """
    Prepares the file for appending: removes a truncated last line, and writes `provenance` beside the file. Returns
    the reports in the file, the same in all processes.

    Raises:
        `ValueError`: if the file was begun with another `provenance`, or if `provenance` could not be read again.
    """
    if provenance is not None:
        check_json(provenance, Provenance, provenance_path(path))
    if provenance is not None and state.is_main_process:
        set_aside_unknown(path)
    state.wait_for_everyone()
    if provenance is not None and path.exists() and path.stat().st_size:
        check_provenance(path, provenance)
    state.wait_for_everyone()
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if content[whole:] and is_whole(content[whole:]):
            with path.open("ab") as file:  # nothing that is there is written again: the disk may be full
                file.write(b"\n")
        else:
            path.touch()
            os.truncate(path, whole)
        if provenance is not None:
            write_whole(provenance_path(path), json.dumps(provenance, indent=2) + "\n")
    state.wait_for_everyone()
    done = read_predictions(path)
    state.wait_for_everyone()  # so that no process reads what the main process appends next
    return done


def append_predictions(
    path: Path,
    reports: Mapping[str, Written],
    logits: Mapping[str, np.ndarray] | None = None,
    told: Mapping[str, str] | None = None,
) -> None:
    """
    Appends reports to the file, each with its findings line, if it has one, the line's log-odds of the 18 labels, if
    they are known (not NaN), whether the report is cut, and what a server has `told` of them. Waits until they are on
    the disk.
    """
    lines = []
    for volume, written in reports.items():
        line = {} if written.line is None else {"line": written.line}
        if logits and not np.isnan(logits[volume]).any():
            line["line_logits"] = logits[volume].round(4).tolist()
        row = {"volume": volume, **line, "report": written.report, "cut": written.cut, **(told or {})}
        lines.append(json.dumps(row) + "\n")
    with open(path, "a") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
