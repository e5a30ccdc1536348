"""The file that says which scans a model was trained on."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .schema import Schema, Share


MOST_MEASURES = 64
MEASURE = r"^[A-Za-z0-9 ()-]{1,80}$"  # it is shown in reports, and anybody may have written the file


class Limits(Schema):
    """The values of a measure that are like those of the training."""

    model_config = ConfigDict(extra="forbid")

    low: float
    high: float

    @model_validator(mode="after")
    def low_is_below_high(self) -> Self:
        """The limits are in their order."""
        if self.low > self.high:
            raise ValueError(f"the lower limit {self.low:g} is above the upper one, {self.high:g}")
        return self


class TrainingDomain(Schema):
    """`domain.json` of a model."""

    model_config = ConfigDict(extra="forbid")

    trained_on: Literal["phantom", "ct-rate", "own"]
    limits: Annotated[
        dict[Annotated[str, Field(pattern=MEASURE)], Limits], Field(min_length=1, max_length=MOST_MEASURES)
    ]
    n: Annotated[int, Field(ge=1)]
    false_alarms: Share
