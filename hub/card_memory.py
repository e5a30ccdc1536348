"""The memory that the weights of a model take, computed from their shapes, for the card."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from .rounded_weights import read_header


FOUR_BITS = 1 / 2 + 4 / 64  # bytes per weight: a block of 64 weights has a scale of 4 bytes
WHOLE = """
**Memory.** The {number:,} weights take {sizes[bfloat16]} in bfloat16, and {sizes[float32]} in float32. They take
{sizes[8bit]} with `load_reporter(..., quantization="8bit")`, and {sizes[4bit]} with `"4bit"`. These numbers are
computed from the shapes of the weights.{measured}
"""
MEASURED = """ Measured on the machine of the training ({hardware}): the process that trained and then
wrote the reports took {peak} at most, all libraries included."""
ADAPTER = """
**Memory.** The {number:,} weights of the adapter take {sizes[bfloat16]} in bfloat16, and {sizes[float32]} in float32.
The weights of the base model come on top.
"""
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def memory_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """
    Bytes that the weights of a model take when they are loaded.

    Args:
        shapes (`Mapping[str, Sequence[int]]`):
            Maps the name of each weight to its shape.

    Returns:
        `dict`: bytes in `"float32"`, `"bfloat16"`, `"8bit"` and `"4bit"`. In the last two, the matrices of the layers
        are quantized, see [`~ct_rate_pairs.eval.quantization.quantization_config`], and all else is in bfloat16.
    """
    number = sum(map(math.prod, shapes.values()))
    matrices = [shape for name, shape in shapes.items() if len(shape) == 2 and _is_quantized(name)]
    quantized = sum(map(math.prod, matrices))
    rows = sum(shape[0] for shape in matrices)  # each has a scale of 4 bytes in 8 bits
    return {
        "float32": 4 * number,
        "bfloat16": 2 * number,
        "8bit": quantized + 4 * rows + 2 * (number - quantized),
        "4bit": FOUR_BITS * quantized + 2 * (number - quantized),
    }


def _is_quantized(name: str) -> bool:
    """Whether a matrix of this name is that of a linear layer, and not the output weights."""
    return name.endswith(".weight") and "embed" not in name and "lm_head" not in name


def shapes_of(folder: Path, files: Collection[str]) -> dict[str, list[int]]:
    """The shape of each weight in the files of safetensors of a folder."""
    headers = [read_header(folder / file) for file in files if file.endswith(".safetensors")]
    return {name: part["shape"] for header in headers for name, part in header.items() if name != "__metadata__"}


def memory_text(folder: Path, is_adapter: bool, hardware: str, peak: float | None = None) -> str:
    """
    A paragraph of the card with the memory of the weights in a folder, and the bytes that the training took at most on
    its `hardware`; an empty string without weights.
    """
    files = [path.name for path in folder.glob("adapter_model*" if is_adapter else "model*") if path.is_file()]
    shapes = shapes_of(folder, files)
    if not shapes:
        return ""
    number, sizes = sum(map(math.prod, shapes.values())), {kind: written(n) for kind, n in memory_of(shapes).items()}
    if is_adapter:
        return ADAPTER.format(number=number, sizes=sizes)
    measured = MEASURED.format(hardware=hardware, peak=written(peak)) if peak else ""
    return WHOLE.format(number=number, sizes=sizes, measured=measured)


def written(size: float) -> str:
    """Bytes in words, such as `"16.6 GB"`."""
    name, unit = next((one for one in UNITS if size >= one[1]), UNITS[-1])
    return f"{size / unit:,.1f} {name}"
