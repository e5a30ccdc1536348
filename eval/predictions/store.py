"""Generated reports in a file that survives any interruption: `predictions.jsonl`, and the challenge's format."""

import json
import os
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator, generate_batch

from .provenance import check_provenance, provenance_path


def find_predictions(name: str | Path) -> Path:
    """
    The predictions that a name stands for: a file, or a run's folder with `predictions.jsonl` in it or in its
    `evaluation/`.

    Raises:
        `FileNotFoundError`: if there are none.
    """
    path = Path(name)
    candidates = [path / folder / "predictions.jsonl" for folder in ("", "evaluation")] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"There are no predictions: no file {' nor '.join(map(str, candidates))}.")


def read_predictions(path: str | Path) -> dict[str, str]:
    """
    Reads generated reports, whichever way they are stored.

    Args:
        path (`str` or `Path`):
            `.jsonl` with `volume` and `report` a line, or `.json` in the form of the VLM3D challenge: a list
            `generated_reports` of `input_image_name` and `report`, alone or within the list of jobs that the
            challenge's server keeps (`outputs`, `value`). A last line that a kill cut off is left out, and said.

    Returns:
        `dict[str, str]`: VolumeName (`valid_1_a_1.nii.gz`) to report, in the file's order.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: for a line or entry without these fields, or a volume that occurs twice, with the entry's number.
    """
    path = Path(path)
    rows = _challenge_rows(path) if path.suffix == ".json" else _lines(path)
    predictions = {}
    for number, row in enumerate(rows, 1):
        volume, report = (row.get("volume"), row.get("report")) if isinstance(row, dict) else (None, None)
        if not isinstance(volume, str) or not isinstance(report, str):
            raise ValueError(f"{path} entry {number} needs texts for the volume and the report, got {row}.")
        volume = f"{volume.removesuffix('.nii.gz').removesuffix('.mha')}.nii.gz"
        if volume in predictions:
            raise ValueError(f"{path} entry {number} is a second report for {volume}: keep one of them.")
        predictions[volume] = report
    return predictions


def _challenge_rows(path: Path) -> list[dict]:
    content = json.loads(path.read_text())
    if isinstance(content, list):
        outputs = [output for job in content for output in (job.get("outputs") or ())]
        contents = [output["value"] for output in outputs if isinstance(output.get("value"), dict)]
    else:
        contents = [content]
    found = [content["generated_reports"] for content in contents if "generated_reports" in content]
    if not found:
        raise ValueError(f"{path} has no list `generated_reports`, as the VLM3D challenge's files have.")
    return [
        {"volume": entry.get("input_image_name"), "report": entry.get("report")}
        for entries in found
        for entry in entries
    ]


def _lines(path: Path) -> list:
    *lines, last = path.read_text().split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number} is not JSON ({error}): repair or remove it.") from error
    if last and _is_whole(last):
        rows.append(json.loads(last))
    elif last:
        print(f"{path} line {len(lines) + 1} was cut off and is left out.")
    return rows


def _is_whole(line: str | bytes) -> bool:
    """Whether a last line without a line end is all there: a part of an object is never JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def write_challenge_file(predictions: dict[str, str], path: str | Path) -> None:
    """Writes `predictions`, volume to report, in the VLM3D challenge's form."""
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
    Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


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
) -> dict[str, str]:
    """
    Writes a report for each scan that the file has none for yet, and appends it there.

    Under `accelerate launch` each process takes its share, and the first one writes. The file is flushed to the disk
    after each batch: a kill loses the batch in flight, and the same call goes on with what is missing. A scan that
    `on_error="skip"` replaced by its neighbour counts once.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that generates.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into prompts.
        scans ([`~datasets.Dataset`]):
            Rows of a split, read when their batch comes.
        path (`str` or `Path`):
            The `.jsonl`; the same file for all processes.
        batch_size (`int`, *optional*, defaults to `8`):
            Scans at a time, in each process.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Longest report in tokens.
        num_workers (`int`, *optional*, defaults to `0`):
            Processes that read scans ahead while the model writes, for each process.
        provenance (`dict`, *optional*):
            What the reports depend on, from [`~ct_rate_pairs.eval.predictions.provenance.describe_provenance`]. It is kept beside
            the file.

    Returns:
        `dict[str, str]`: VolumeName to report, of these scans alone, in their order.

    Raises:
        `ValueError`: if the file was begun with another `provenance`: one file must not hold two models' reports.
    """
    path, state = Path(path), PartialState()
    done = resume_predictions(path, provenance, state)
    volumes: list[str] = scans.with_format(None)["volume"][:]
    missing = [index for index, volume in enumerate(volumes) if volume not in done]
    if missing:
        # All processes take equally many: the last scans come twice, and are written once.
        step = batch_size * state.num_processes
        padded = missing + missing[:1] * (-len(missing) % state.num_processes)
        share = padded[state.process_index :: state.num_processes]
        batches = DataLoader(Subset(scans, share), batch_size, num_workers=num_workers, collate_fn=list)
        bar = tqdm(
            total=len(volumes), initial=len(volumes) - len(missing), desc="Writing reports", unit="scan",
            disable=not state.is_main_process,
        )  # fmt: skip
        for rows in batches:
            reports = generate_batch(model, collator, rows, max_new_tokens=max_new_tokens)
            names = [row["volume"] for row in rows]
            written = dict(gather_object(list(zip(names, reports, strict=True))))
            new = {volume: report for volume, report in written.items() if volume not in done}
            done |= new
            if state.is_main_process:
                append_predictions(path, new)
            bar.update(min(step, bar.total - bar.n))
        bar.close()
    return {volume: done[volume] for volume in volumes if volume in done}


def resume_predictions(path: Path, provenance: dict | None, state: PartialState) -> dict[str, str]:
    """
    Makes the file ready to be appended to: a line that was cut off is taken out. Returns what it holds, the same in
    all processes.

    Raises:
        `ValueError`: if it was begun with another `provenance`.
    """
    if provenance is not None and path.exists() and path.stat().st_size:
        check_provenance(path, provenance)
    state.wait_for_everyone()
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if content[whole:] and _is_whole(content[whole:]):
            path.write_bytes(content + b"\n")
        else:
            path.touch()
            os.truncate(path, whole)
        if provenance is not None:
            provenance_path(path).write_text(json.dumps(provenance, indent=2) + "\n")
    state.wait_for_everyone()
    done = read_predictions(path)
    state.wait_for_everyone()  # none reads what another has begun to append
    return done


def append_predictions(path: Path, reports: dict[str, str]) -> None:
    """Appends reports to the file, and waits until they are on the disk."""
    lines = [json.dumps({"volume": volume, "report": report}) + "\n" for volume, report in reports.items()]
    with open(path, "a") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
