"""Generated reports in a file that survives any interruption: `predictions.jsonl`, and the challenge's format."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator, generate_batch


def read_predictions(path: str | Path) -> dict[str, str]:
    """
    Reads generated reports, whichever way they are stored.

    Args:
        path (`str` or `Path`):
            `.jsonl` with `volume` and `report` a line, or `.json` in the form of the VLM3D challenge: a list
            `generated_reports` of `input_image_name` and `report`. A last line that was cut off by a kill is left out.

    Returns:
        `dict[str, str]`: VolumeName (`valid_1_a_1.nii.gz`) to report, in the file's order.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: for a line or entry without these fields, with the line's number.
    """
    path = Path(path)
    if path.suffix == ".json":
        entries = json.loads(path.read_text()).get("generated_reports")
        if entries is None:
            raise ValueError(f"{path} has no list `generated_reports`, as the VLM3D challenge's files have.")
        rows = [{"volume": entry.get("input_image_name"), "report": entry.get("report")} for entry in entries]
    else:
        lines = path.read_text().split("\n")
        rows = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line end is empty, or was cut off
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON ({error}): repair or remove it.") from error
    predictions = {}
    for number, row in enumerate(rows, 1):
        volume, report = row.get("volume"), row.get("report")
        if not isinstance(volume, str) or not isinstance(report, str):
            raise ValueError(f"{path} entry {number} needs texts for the volume and the report, got {row}.")
        predictions[volume if volume.endswith(".nii.gz") else f"{volume}.nii.gz"] = report
    return predictions


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
    made_with: dict | None = None,
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
        made_with (`dict`, *optional*):
            What the reports depend on, such as the model's version and the slices. It is kept beside the file.

    Returns:
        `dict[str, str]`: VolumeName to report, of these scans alone, in their order.

    Raises:
        `ValueError`: if the file was begun with another `made_with`: one file must not hold two models' reports.
    """
    path, state = Path(path), PartialState()
    if made_with is not None:
        _check_origin(path, made_with, state)
    done = _resume(path, state)
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
                _append(path, new)
            bar.update(min(step, bar.total - bar.n))
        bar.close()
    return {volume: done[volume] for volume in volumes if volume in done}


def _check_origin(path: Path, made_with: dict, state: PartialState) -> None:
    kept, made_with = path.with_suffix(".made_with.json"), json.loads(json.dumps(made_with))
    if kept.exists() and path.exists():
        before = json.loads(kept.read_text())
        changed = sorted(name for name in before | made_with if before.get(name) != made_with.get(name))
        if changed:
            raise ValueError(
                f"{path} was begun with other settings: "
                + "; ".join(f"{name} {before.get(name)}, now {made_with.get(name)}" for name in changed)
                + ". Choose another folder, or delete the file."
            )
    state.wait_for_everyone()
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(made_with, indent=2) + "\n")


def _resume(path: Path, state: PartialState) -> dict[str, str]:
    """What the file holds, the same in all processes, after a line that was cut off has been taken out of it."""
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        whole = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, whole)
    state.wait_for_everyone()
    done = read_predictions(path)
    state.wait_for_everyone()  # none reads what another has begun to append
    return done


def _append(path: Path, reports: dict[str, str]) -> None:
    lines = [json.dumps({"volume": volume, "report": report}) + "\n" for volume, report in reports.items()]
    with open(path, "a") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def references_of(scans: Dataset, volumes: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """
    The reference reports and label rows of `volumes`, from the dataset's index: no scan is read.

    Raises:
        `KeyError`: for a volume that is not among `scans`.
    """
    texts = scans.with_format(None).select_columns(["volume", "completion", "labels"])
    rows = {volume: index for index, volume in enumerate(texts["volume"])}
    missing = [volume for volume in volumes if volume not in rows]
    if missing:
        raise KeyError(
            f"{len(missing)} of {len(volumes)} predictions are for volumes that the split does not have, such as "
            f"{missing[0]}: choose the split, the data_dir and `reconstructions` that they were made from."
        )
    chosen = texts.select([rows[volume] for volume in volumes])
    return [turns[0]["content"] for turns in chosen["completion"]], chosen["labels"][:]
