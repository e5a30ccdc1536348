"""A tiny model that has really learnt to read: each third of a scan's depth shows one finding, or does not.

So the slices that a finding rests on are known. It takes some seconds to train: the fixture `reader` has it ready.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from ct_rate_pairs.eval.looking.other_volumes import noise_slices
from ct_rate_pairs.hub.reporting.confidence import fit_confidence
from ct_rate_pairs.hub.reporting.domain import fit_domain
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.tasks.vqa_wording import write_findings, write_question
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.row_settings import OF_THE_VOLUME
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volumes.measures import measure
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume
from ct_rate_pairs.volumes.windows import to_uint8


# The thirds from the top; slices 1 and 2, 3 and 4, 5 and 6.
FINDINGS = ("Emphysema", "Cardiomegaly", "Pleural effusion")
STATED = ("Emphysema is seen in both lungs.", "Cardiomegaly is seen.", "Pleural effusion is seen on the left.")
DENIED = ("No emphysema is seen.", "The heart is normal.", "No pleural effusion is seen.")
COMBINATIONS = [tuple(number >> bit & 1 for bit in range(3)) for number in range(8)]
INDICES = [LABELS.index(finding) for finding in FINDINGS]
SETTINGS = {
    "num_slices": 6,
    "spacing": [4.0, 4.0, 8.0],
    "window": "paper",
    "z_range": [0.0, 1.0],
    "target": "findings",
    "prompt": "en",
    "prompt_metadata": False,
}
VOXEL_MM = (4.0, 4.0, 8.0)
AFFINE = np.diag([-4.0, -4.0, 8.0, 1.0])  # [X, Y, K]: patient's right first, front first, feet first


def make_voxels(shown: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """HU `[28, 28, 12]` of a scan that shows those of the three findings."""
    voxels = np.random.default_rng(seed).integers(-900, -800, (28, 28, 12), dtype=np.int16)
    voxels[:, -4:] = 40  # a back, without which it is no patient
    for third, here in enumerate(reversed(shown)):
        if here:
            voxels[6:20, 6:20, 4 * third : 4 * third + 4] += 1200
    return voxels


def write_report(shown: tuple[int, ...]) -> str:
    return " ".join((STATED if here else DENIED)[third] for third, here in enumerate(shown))


def completion(text: str) -> dict:
    return {"completion": [{"role": "assistant", "content": text}]}


def make_row(shown: tuple[int, ...], seed: int = 0) -> dict:
    """A row as the dataset would make it."""
    stored = make_voxels(shown, seed).transpose(2, 1, 0)[::-1]
    grid = {name: SETTINGS[name] for name in ("num_slices", "spacing")}
    slices, slice_mm = Volume("a scan", stored, (4.0, 4.0, 8.0), 1.0, 0.0).slices(**grid)
    return {
        "volume": f"valid_{seed + 1}_a_1.nii.gz",
        "images": [Image.fromarray(plane) for plane in to_uint8(slices)],
        "negative_images": [],
        "slice_mm": slice_mm,
        "prompt": [{"role": "user", "content": write_prompt("findings")}],
        **completion(write_report(shown)),
        "labels": stating(shown),
    }


def under_noise(row: dict, shown: tuple[int, ...], third: int, seed: int) -> tuple[dict, tuple[int, ...]]:
    """The row with a third of its slices turned to noise, and what the other slices still show."""
    images, noise = list(row["images"]), noise_slices(row, seed)
    images[2 * third : 2 * third + 2] = noise[2 * third : 2 * third + 2]
    return row | {"images": images}, tuple(here and place != third for place, here in enumerate(shown))


def half_seen(shown: tuple[int, ...], step: int, rng: np.random.Generator) -> tuple[dict, tuple[int, ...]]:
    """A row for the training, two of five times under noise, and what its slices show."""
    row = make_row(shown, seed=step)
    return under_noise(row, shown, int(rng.integers(3)), step) if rng.random() < 0.4 else (row, shown)


def train_tiny(
    texts: list[str], steps: int, make_rows: Callable[[int, np.random.Generator], list[dict]]
) -> tuple[Qwen2_5_VLForConditionalGeneration, PairCollator]:
    """A tiny model in evaluation mode, trained on the rows of each step; and its collator."""
    model, processor = make_tiny_qwen(texts, hidden_size=64, num_layers=2, vision_depth=1, vision_hidden_size=32)
    collator = PairCollator(processor)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(steps):
        batch = collator(make_rows(step, rng))
        del batch["volumes"]
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), collator


def train_reader(steps: int = 150) -> tuple[Qwen2_5_VLForConditionalGeneration, PairCollator]:
    """A reader whose reports state what the slices show."""

    def make_rows(step: int, rng: np.random.Generator) -> list[dict]:
        seen = (half_seen(shown, step, rng) for shown in COMBINATIONS)
        return [row | completion(write_report(left)) for row, left in seen]

    texts = [write_prompt("findings"), *STATED, *DENIED, *map(write_report, COMBINATIONS)]
    return train_tiny(texts, steps, make_rows)


def list_findings(shown: tuple[int, ...]) -> str:
    """The answer to the question that asks for the abnormalities."""
    return write_findings(stating(shown), "en")


def train_talker(steps: int = 260) -> tuple[Qwen2_5_VLForConditionalGeneration, PairCollator]:
    """
    A reader that opens its reports with a findings line, and also lists the abnormalities if it is asked for them. In
    its training, line and report of each eighth scan state anything: so a report follows its line, and not the scan.
    """
    questions = [write_question("abnormalities", "en", template) for template in range(3)]

    def make_rows(step: int, rng: np.random.Generator) -> list[dict]:
        rows = []
        for number, shown in enumerate(COMBINATIONS):
            row, seen = half_seen(shown, step, rng)
            if (number + step) % 2:
                stated = COMBINATIONS[rng.integers(len(COMBINATIONS))] if rng.random() < 1 / 8 else seen
                rows.append(row | completion(with_line(stated)))
            else:
                question = questions[rng.integers(len(questions))]
                rows.append(
                    row | {"prompt": [{"role": "user", "content": question}]} | completion(list_findings(seen))
                )
        return rows

    texts = [write_prompt("findings"), *map(with_line, COMBINATIONS), write_line([1] * len(LABELS), "names")]
    return train_tiny([*texts, *questions, *map(list_findings, COMBINATIONS)], steps, make_rows)


def stating(shown: tuple[int, ...]) -> list[int]:
    """The 18 labels of a scan that shows those of the three findings."""
    labels = [0] * len(LABELS)
    for index, here in zip(INDICES, shown, strict=True):
        labels[index] = here
    return labels


def with_line(shown: tuple[int, ...]) -> str:
    """A report below its findings line."""
    return f"{write_line(stating(shown), 'names')}\n{write_report(shown)}"


def save_run(folder: Path, model: Qwen2_5_VLForConditionalGeneration, collator: PairCollator, settings: dict) -> None:
    """The model as a run leaves it, with what it is shown, its confidence, and what it was trained on."""
    model.save_pretrained(folder)
    collator.processor.save_pretrained(folder)
    (folder / "row_settings.json").write_text(json.dumps(settings))
    rows = [make_row(shown, seed=500 + seed) for seed, shown in enumerate(COMBINATIONS * 2)]
    fit_confidence(model, collator, rows, max_new_tokens=60, progress=False).save(folder)
    save_domain(folder, rows, "own")


def save_domain(folder: Path, rows: list[dict], trained_on: str) -> None:
    """What the scans of the training are like, as if they were phantoms (`"phantom"`) or somebody's own."""
    settings = VolumeSettings(**{name: SETTINGS[name] for name in OF_THE_VOLUME if name in SETTINGS})
    pixels = {row["volume"]: np.stack([np.asarray(image) for image in row["images"]]) for row in rows}
    measured = {row["volume"]: measure(pixels[row["volume"]], row["slice_mm"], settings, VOXEL_MM) for row in rows}
    fit_domain(measured, trained_on).save(folder)


def save_talker(folder: Path) -> None:
    settings = {"findings_line": "names", "tasks": ["report", "vqa"], "question_types": ["abnormalities"]}
    save_run(folder, *train_talker(), SETTINGS | settings)


def save_line_reader(folder: Path, talker: Path) -> None:
    """The talker as a model of reports alone: it takes as long to train as another one would."""
    shutil.copytree(talker, folder)
    (folder / "row_settings.json").write_text(json.dumps(SETTINGS | {"findings_line": "names"}))


def save_reader(folder: Path) -> None:
    save_run(folder, *train_reader(), SETTINGS)


def save_nifti(path: Path, shown: tuple[int, ...], seed: int = 1000) -> Path:
    nib.save(nib.Nifti1Image(make_voxels(shown, seed), AFFINE), path)
    return path
