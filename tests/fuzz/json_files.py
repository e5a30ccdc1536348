"""Every JSON file that comes from a model, a batch or another program, with faults."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.predictions.provenance import provenance_path, read_provenance
from ct_rate_pairs.eval.predictions.store import read_cut, read_predictions
from ct_rate_pairs.hub.checkpoints import STATE
from ct_rate_pairs.hub.reporting.batch import earlier_failures
from ct_rate_pairs.hub.reporting.confidence import load_confidence
from ct_rate_pairs.hub.reporting.files import finished_reports
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.checkpoint import TrainerState
from ct_rate_pairs.sources.prepared import PROVENANCE, READING, PreparedSource
from ct_rate_pairs.trainer.row_settings import find_row_settings

from .harness import Kind, mutated


_SETTINGS = {
    "num_slices": 10, "spacing": [0.75, 0.75, 1.5], "window": "paper",
    "z_range": [0.0, 1.0], "target": "findings+impression", "prompt": "en", "prompt_metadata": False,
}  # fmt: skip
_ERRORS = {"ece": 0.1, "brier": 0.1, "nll": 0.3}
_REPORTS = [{"volume": f"valid_{i}_a_1.nii.gz", "report": "No effusion.", "cut": False} for i in range(3)]
_REPORTER = SimpleNamespace(name="model", version="1")


def _settings(folder: Path) -> None:
    find_row_settings(str(folder))


def _predictions(folder: Path) -> None:
    for path in folder.glob("predictions.json*"):
        read_predictions(path)
        read_cut(path)
        read_provenance(path)


# The files that are read together, and what reads them.
_READ: list[tuple[dict[str, Any], Callable[[Path], object]]] = [
    ({"row_settings.json": _SETTINGS | {"tasks": ["report", "vqa"]}}, _settings),
    (
        {
            "config.json": {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "ct_rate_pairs": _SETTINGS},
            "processor_config.json": {"image_processor": {"ct_rate_pairs": _SETTINGS}},
        },
        _settings,
    ),
    ({"adapter_config.json": {"base_model_name_or_path": "/no/model", "revision": "main"}}, _settings),
    (
        {
            "confidence.json": {
                "openings": {label: ["There is"] for label in LABELS},
                "temperature": dict.fromkeys(LABELS, 1.0),
                "bias": dict.fromkeys(LABELS, 0.0),
                "measured": {
                    "calibrated": _ERRORS,
                    "uncalibrated": _ERRORS,
                    "prevalence": _ERRORS,
                    "n": 100,
                    "folds": 5,
                    "ways": {"line": _ERRORS | {"auroc": 0.9, "brier_ratio": 0.6, "seconds": 0.1}},
                    "unknown": 0,
                },
                "line": {
                    "temperature": dict.fromkeys(LABELS, 1.0),
                    "bias": dict.fromkeys(LABELS, 0.0),
                    "held_out": {label: [0.1, 0.9] for label in LABELS},
                },
                "way": "line",
            }
        },
        lambda folder: load_confidence(str(folder)),
    ),
    (
        {STATE: {"global_step": 10, "max_steps": 20, "best_model_checkpoint": None, "log_history": [{"loss": 1.0}]}},
        lambda folder: read_json(folder / STATE, TrainerState),
    ),
    (
        {"failures.json": [{"name": "scan-001", "number": 1, "digest": "a", "error": "cut"}]},
        lambda folder: earlier_failures(folder / "failures.json"),
    ),
    (
        {
            "scan-001/report.json": {
                "model": "model",
                "version": "1",
                "digest": "a",
                "series": None,
                "max_new_tokens": 1200,
                "cut": False,
                "code": "c",
                "text": "No effusion.",
            }
        },
        lambda folder: finished_reports(folder, _REPORTER),
    ),
    (
        {
            "predictions.jsonl": _REPORTS,
            str(provenance_path("predictions.jsonl")): {
                "weights": "w",
                "references": "r",
                "split": "test",
                "target": "findings",
                "dtype": "float32",
                "max_new_tokens": 1200,
                **_SETTINGS,
            },
        },
        _predictions,
    ),
    (
        {
            "predictions.json": [
                {
                    "outputs": [
                        {
                            "value": {
                                "generated_reports": [
                                    {"input_image_name": row["volume"], "report": row["report"]} for row in _REPORTS
                                ]
                            }
                        }
                    ]
                }
            ]
        },
        _predictions,
    ),
    (
        {
            PROVENANCE: {
                "source": "/x",
                "tables": "0",
                "phantom": True,
                "shard_size": 2,
                "shards": {"train": 0, "test": 0},
                "settings": {name: _SETTINGS[name] for name in list(_SETTINGS)[:4]},
                "ct_rate_pairs": "0.1",
                "reading": READING,
            }
        },
        lambda folder: [PreparedSource(folder).scans(split, "raise") for split in ("train", "test")],
    ),
]
_VALUES = (
    None, True, False, 0, -1, 1, 3.5, 1e308, 10**400, float("nan"), float("inf"), 10**30, -(10**18), "", "²", "\ud800",
    "\x1b[2J", "a" * 10_000, "../../x", "/etc/passwd", "3", "en", [], [[]], [None], [1, 2, 3], [0.0, 1.0], {},
    {"a": {}}, {"": 1},
)  # fmt: skip


def _other_value(rng: np.random.Generator, content: Any) -> Any:
    """The content with another value at one place, or without it."""
    if not isinstance(content, dict | list) or not content or rng.integers(5) == 0:
        return _VALUES[rng.integers(len(_VALUES))]
    content = content.copy()
    places = list(content) if isinstance(content, dict) else range(len(content))
    place = places[rng.integers(len(places))]
    way = rng.integers(10)
    if way == 0:
        del content[place]
    elif way == 1 and isinstance(content, dict):
        content["".join(map(chr, rng.integers(32, 0x2FFF, 5)))] = content[place]
    elif way == 1:
        content.append(content[place])
    else:
        content[place] = _other_value(rng, content[place])
    return content


def _text(rng: np.random.Generator, content: Any, name: str) -> bytes:
    """The content as text, in one of its spellings."""
    lines = content if name.endswith("l") and isinstance(content, list) else [content]
    data = "".join(json.dumps(line, ensure_ascii=bool(rng.integers(4))) + "\n" for line in lines)
    match rng.integers(12):
        case 0 if '"' in data:  # a name twice, or nearly
            place = data.index('"')
            data = f'{data[:place]}"files": 1, {data[place:]}'
        case 1:
            data = "[" * int(rng.integers(1, 200_000)) + data
        case 2:
            data = data.replace("1", "1" * int(rng.integers(1, 6000)), 1)
        case 3:
            return data.encode(("utf-16", "utf-8-sig", "latin-1")[rng.integers(3)], "replace")
    data = data.encode("utf-8", "surrogatepass")
    return mutated(rng, data) if rng.integers(4) == 0 else data


def _make(rng: np.random.Generator, folder: Path) -> None:
    number = int(rng.integers(len(_READ)))
    files = dict(_READ[number][0])
    if rng.integers(12):
        for _ in range(rng.integers(1, 3)):
            name = list(files)[rng.integers(len(files))]
            files[name] = _other_value(rng, files[name])
    (folder / "number").write_text(str(number))
    for name, content in files.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(_text(rng, content, name))


class _Refused(Exception):
    """The product refuses a file, and the message names the file."""


def _use(folder: Path) -> None:
    read = _READ[int((folder / "number").read_text())][1]
    try:
        read(folder / "files")
    except OSError:  # a shard that a prepared copy promises, or the base of an adapter, is not here
        raise _Refused from None
    except ValueError as error:
        names = [str(folder), *(path.name for path in (folder / "files").rglob("*.*"))]
        assert any(name in str(error) for name in names), f"the message names no file: {error}"
        raise _Refused from None


KINDS = {"JSON": Kind(_make, _use, _Refused)}
