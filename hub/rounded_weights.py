"""
Rounds the weights of a run to bfloat16 for the Hub, in a copy. The folder of the run stays as it is.

A file of safetensors is rounded piece by piece, so that a model of any size takes some hundred megabytes of memory.
"""

import json
import math
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.model_folder import ModelConfig, WeightsIndex

from .guard import INDEX


CONFIG = "config.json"
NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # in safetensors, and in torch
WIDE = {"F64": 8, "F32": 4}  # bytes of what is rounded; 16 bits and less, and whole numbers, stay as they are
AT_ONCE = 2**26  # bytes


@dataclass(frozen=True)
class Weights:
    """
    The weights of a run, as they are published.

    Args:
        types (`str`):
            The types in which they are saved, such as `"float32"`.
        size (`int`):
            Bytes of all weights as they are saved.
        rounded (`dict[str, Path | bytes]`, *optional*):
            Maps the name of each file that rounding changes to its copy, or to its new contents.
        rounded_size (`int`, *optional*):
            Bytes of all weights after rounding.
    """

    types: str
    size: int
    rounded: dict[str, Path | bytes] = field(default_factory=dict)
    rounded_size: int = 0

    def describe(self) -> str:
        """What is done with the weights, in words."""
        if not self.rounded:
            return f"Weights: {self.size / 1e6:,.1f} MB in {self.types}, as they are saved."
        return (
            f"Weights: rounded from {self.types} to bfloat16, {self.size / 1e6:,.1f} MB to "
            f"{self.rounded_size / 1e6:,.1f} MB."
        )


def saved_weights(run_dir: Path, files: Collection[str]) -> Weights:
    """The weights of a run as they are saved; `files` as for [`round_weights`]."""
    tensors = _tensors(_headers(run_dir, files))
    types = {NAMES.get(part["dtype"], part["dtype"]) for part in tensors}
    return Weights(", ".join(sorted(types)), sum(map(_size, tensors)))


def round_weights(run_dir: Path, files: Collection[str], folder: Path) -> Weights:
    """
    Rounds the weights of a model or an adapter to bfloat16.

    Args:
        run_dir (`Path`):
            Folder of the run.
        files (`Collection[str]`):
            The files of the run, from [`~ct_rate_pairs.hub.guard.publishable_files`].
        folder (`Path`):
            Folder for the copies.

    Returns:
        [`Weights`]: with the files that change. Beside the weights these are `config.json`, which names the type that
            a model is loaded in, and the index of shards, which names their size. No file changes if no weight has
            more than 16 bits, nor for a quantized model.

    Raises:
        `OSError`: if there is no room for the copies.
    """
    saved, headers = saved_weights(run_dir, files), _headers(run_dir, files)
    config = read_json(run_dir / CONFIG, ModelConfig) if CONFIG in files else {}
    wide = [file for file, header in headers.items() if any(part.get("dtype") in WIDE for part in header.values())]
    if "quantization_config" in config or not wide:
        return saved
    for file in wide:
        round_file(run_dir / file, folder / file)
    rounded: dict[str, Path | bytes] = {file: folder / file for file in wide}
    rounded_size = sum(map(_rounded_size, _tensors(headers)))
    if INDEX in files:
        index = read_json(run_dir / INDEX, WeightsIndex)
        shards = set(index["weight_map"].values())  # and no other weights, such as a mask head
        of_shards = _tensors({file: header for file, header in headers.items() if file in shards})
        index["metadata"] = index.get("metadata", {}) | {"total_size": sum(map(_rounded_size, of_shards))}
        rounded[INDEX] = _as_json(index)
    if config:
        rounded[CONFIG] = _as_json(_in_bfloat16(config))
    return replace(saved, rounded=rounded, rounded_size=rounded_size)


def _headers(run_dir: Path, files: Collection[str]) -> dict[str, dict]:
    return {file: read_header(run_dir / file) for file in files if file.endswith(".safetensors")}


def _tensors(headers: dict[str, dict]) -> list[dict]:
    return [part for header in headers.values() for name, part in header.items() if name != "__metadata__"]


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a file of safetensors: type, shape and place of each tensor, and `__metadata__`."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def round_file(source: Path, target: Path) -> None:
    """Writes a copy of a file of safetensors to `target`, with its weights rounded to bfloat16."""
    header = read_header(source)
    # As safetensors orders them, large numbers first: each number then stands at a multiple of its size.
    names = sorted(header.keys() - {"__metadata__"}, key=lambda name: (-_bytes_per_number(header[name]), name))
    new, end = {"__metadata__": header.get("__metadata__", {})}, 0
    for name in names:
        start, end = end, end + _rounded_size(header[name])
        dtype = "BF16" if header[name]["dtype"] in WIDE else header[name]["dtype"]
        new[name] = {"dtype": dtype, "shape": header[name]["shape"], "data_offsets": [start, end]}
    text = json.dumps(new, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as old, target.open("wb") as file:
        (length,) = struct.unpack("<Q", old.read(8))
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            start, end = header[name]["data_offsets"]
            old.seek(8 + length + start)
            _copy(old, file, end - start, header[name]["dtype"])


def _copy(old: BinaryIO, file: BinaryIO, size: int, dtype: str) -> None:
    """Copies the `size` bytes of a tensor, rounded if they are wide."""
    import torch  # takes seconds, and most errors of a publication come before

    for start in range(0, size, AT_ONCE):
        piece = bytearray(old.read(min(AT_ONCE, size - start)))
        if dtype in WIDE:
            numbers = torch.frombuffer(piece, dtype=getattr(torch, NAMES[dtype]))
            # numpy has no bfloat16, so its bytes are taken as whole numbers.
            piece = numbers.to(torch.bfloat16).view(torch.int16).numpy()
        file.write(piece)


def _size(part: dict) -> int:
    """Bytes of a tensor, from its entry in the header."""
    start, end = part["data_offsets"]
    return end - start


def _rounded_size(part: dict) -> int:
    """Bytes of a tensor after rounding."""
    return _size(part) * 2 // WIDE.get(part["dtype"], 2)


def _bytes_per_number(part: dict) -> float:
    """Bytes of each number of a tensor after rounding."""
    return _rounded_size(part) / max(math.prod(part["shape"]), 1)


def _in_bfloat16(config: Any) -> Any:
    """A configuration in which no part is loaded in more than 16 bits."""
    if not isinstance(config, dict):
        return config
    wide = ("float32", "float64", "torch.float32", "torch.float64")
    return {
        name: "bfloat16" if name in ("dtype", "torch_dtype") and value in wide else _in_bfloat16(value)
        for name, value in config.items()
    }


def _as_json(content: dict) -> bytes:
    """As transformers writes it."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
