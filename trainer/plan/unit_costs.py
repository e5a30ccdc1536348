"""What a row costs the processor and the store, composed of what `benchmarks/bench_unit_costs.py` measured."""

from pathlib import Path
from typing import NamedTuple

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.unit_costs import UnitCosts


STORES = ("fixed", "original", "hub", "prepared")
NEGATIVES = ("none", "gauss", "heter", "mutual")
SHIPPED = Path(__file__).with_name("unit_costs.json")


class RowCost(NamedTuple):
    """
    What a row costs before it reaches a GPU.

    Attributes:
        seconds (`float`):
            Processor seconds of reading, decoding and collating the row, on one core.
        bytes (`float`):
            Bytes that the row takes from its store.
    """

    seconds: float
    bytes: float


def read_unit_costs(path: str | Path = SHIPPED) -> UnitCosts:
    """
    Unit costs as the benchmark wrote them.

    Args:
        path (`str` or `Path`, *optional*):
            JSON file of the benchmark. By default, the file that comes with the package.

    Returns:
        [`~ct_rate_pairs.json_schemas.unit_costs.UnitCosts`]: the costs.

    Raises:
        [`~ct_rate_pairs.json_files.JSONFileError`]: if the file does not hold such costs.
        `FileNotFoundError`: if there is no such file.
    """
    return UnitCosts.model_validate(read_json(path, UnitCosts))


def row_cost(costs: UnitCosts, store: str, negative: str, stored: str, volume_bytes: float) -> RowCost:
    """
    The cost of a row, with its negative.

    Args:
        costs ([`~ct_rate_pairs.json_schemas.unit_costs.UnitCosts`]):
            The measured parts.
        store (`str`):
            `"fixed"` or `"original"`: a copy of CT-RATE's `.nii.gz` files. `"hub"`: the fixed files, downloaded for
            each row. `"prepared"`: a prepared copy.
        negative (`str`):
            `"none"`, `"gauss"` (noise is drawn, nothing is read), `"heter"` (a second volume is read) or `"mutual"`
            (the volumes of a batch are each other's negatives: nothing more is read, drawn or collated).
        stored (`str`):
            Data type of the voxels of a `.nii.gz` file, a key of `costs.volumes`.
        volume_bytes (`float`):
            Bytes of a `.nii.gz` file.

    Returns:
        [`RowCost`]: the cost.

    Raises:
        `ValueError`: if the costs of this store were not measured.
    """
    volumes = 2 if negative == "heter" else 1
    made = costs.collate.pair if negative in ("gauss", "heter") else costs.collate.volume
    made += costs.rows.none if negative == "mutual" else getattr(costs.rows, negative)
    if store == "prepared":
        return RowCost(made, volumes * costs.prepared.bytes)
    read = getattr(costs.volumes[stored], store)
    if read is None:
        raise ValueError(
            f"The unit costs of {costs.date} ({costs.command}) have no store {store!r}: leave it out, or measure a "
            "copy with such files and pass the result as --unit_costs."
        )
    return RowCost(made + volumes * (read - costs.prepared.read), volumes * volume_bytes)
