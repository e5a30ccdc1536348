"""The measured costs of a volume and of a row."""

from typing import Annotated

from pydantic import ConfigDict, Field

from .schema import Positive, Schema


class VolumeCost(Schema):
    """Bytes and voxels of a `.nii.gz` file, and processor seconds of its slices by store."""

    bytes: Annotated[int, Field(gt=0)]
    voxels: Annotated[int, Field(gt=0)]
    fixed: Positive
    original: Positive | None = None
    hub: Positive


class PreparedCost(Schema):
    """Bytes of a volume of a prepared copy, and processor seconds of its slices."""

    bytes: Positive
    read: Positive
    bytes_of_a_real_ct: Positive | None = None


class RowCosts(Schema):
    """Processor seconds of a row of a prepared copy, by negative."""

    none: Positive
    gauss: Positive
    heter: Positive


class CollateCosts(Schema):
    """Processor seconds of the collator for a volume alone, and for a volume and its negative."""

    volume: Positive
    pair: Positive


class UnitCosts(Schema):
    """What `benchmarks/bench_unit_costs.py` has measured."""

    model_config = ConfigDict(extra="forbid")

    command: str
    date: str
    machine: str
    volumes: Annotated[dict[str, VolumeCost], Field(min_length=1)]  # by data type of the voxels
    prepared: PreparedCost
    rows: RowCosts
    collate: CollateCosts
    side: Annotated[int, Field(gt=0)]
