"""The table of ReXGroundingCT's masks, as its dataset card describes it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel

from ct_rate_pairs.volume_names import VOLUME_NAME


class ReXGroundingVolume(BaseModel):
    """What is read of a volume: its findings and their categories, by the position of a finding in the mask."""

    model_config = ConfigDict(strict=True)

    name: Annotated[str, Field(pattern=f"^{VOLUME_NAME}$")]
    findings: dict[Annotated[str, Field(pattern=r"^\d{1,4}$")], str]
    categories: dict[str, str] = {}


class ReXGroundingCT(RootModel[dict[str, list[ReXGroundingVolume]]]):
    """`dataset.json` or `MICCAI_challenge_dataset.json`: the volumes of each split."""
