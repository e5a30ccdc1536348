"""The file with the scores of a model's masks."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


LONGEST_NAME = 200  # letters of the name of a finding


class FindingThreshold(BaseModel):
    """The threshold of one finding; `None` where the volumes of `validation` told none."""

    model_config = ConfigDict(strict=True)

    threshold: Annotated[float, Field(gt=0, le=1)] | None


class ModelMasks(BaseModel):
    """The scores of the model's own masks."""

    model_config = ConfigDict(strict=True)

    findings: dict[Annotated[str, Field(max_length=LONGEST_NAME)], FindingThreshold]


class MaskScores(BaseModel):
    """`masks.json` of a model, as far as its thresholds are read."""

    model_config = ConfigDict(strict=True)

    model: ModelMasks
