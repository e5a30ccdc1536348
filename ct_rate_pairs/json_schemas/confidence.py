"""The file with the confidences of a model."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..reports.labels import LABELS
from .schema import Schema, Share


MOST_OPENINGS = 64  # per label; each takes a forward pass
LONGEST_OPENING = 400  # letters
MOST_BINS = 10  # of the probabilities of a label
MOST_HELD_OUT = 10**5  # probabilities per label, one for each validation scan


def each_label(values: dict) -> dict:
    """Raises a `ValueError` if the keys are not the 18 labels."""
    if set(values) != set(LABELS):
        wrong = sorted(set(LABELS) ^ set(values))
        raise ValueError(f"it needs each of the {len(LABELS)} labels, and no other: {wrong[0]!r:.80}")
    return values


Opening = Annotated[str, Field(min_length=1, max_length=LONGEST_OPENING)]
Openings = Annotated[list[Opening], Field(max_length=MOST_OPENINGS)]
Way = Literal["line", "sentences"]  # how the probability of a label is read from a model


class Errors(Schema):
    """Errors of probabilities."""

    ece: Share
    brier: Share
    nll: Annotated[float, Field(ge=0)]


class WayErrors(Errors):
    """Quality of the probabilities in one way of reading them."""

    auroc: Share | None
    brier_ratio: Annotated[float, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]


class Bin(Schema):
    """Scans that are given a similar probability of a label."""

    n: Annotated[int, Field(ge=1)]
    p: Share
    share: Share


class LabelErrors(Schema):
    """Quality of the probabilities of a label."""

    support: Annotated[int, Field(ge=0)]
    auroc: Share | None
    ece: Share
    brier: Share
    bins: Annotated[list[Bin], Field(min_length=1, max_length=MOST_BINS)]


class Measured(Schema):
    """Quality of confidences, as they were measured."""

    calibrated: Errors
    uncalibrated: Errors
    prevalence: Errors
    n: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    # Files of earlier releases lack these.
    per_label: Annotated[dict[str, LabelErrors], AfterValidator(each_label)] | None = None
    ways: dict[Way, WayErrors] | None = None
    unknown: Annotated[int, Field(ge=0)] = 0


HeldOut = Annotated[
    dict[str, Annotated[list[Share], Field(min_length=1, max_length=MOST_HELD_OUT)]], AfterValidator(each_label)
]
Temperatures = Annotated[dict[str, Annotated[float, Field(gt=0)]], AfterValidator(each_label)]
Biases = Annotated[dict[str, float], AfterValidator(each_label)]


class LineCalibration(Schema):
    """How the probabilities of findings lines are calibrated."""

    model_config = ConfigDict(extra="forbid")

    temperature: Temperatures
    bias: Biases
    held_out: HeldOut
    operating_point: Literal["f1"] | Annotated[float, Field(gt=0, lt=1)] | None = None


class Confidences(Schema):
    """`confidence.json` of a model."""

    model_config = ConfigDict(extra="forbid")

    openings: Annotated[dict[str, Openings], AfterValidator(each_label)]
    temperature: Temperatures
    bias: Biases
    measured: Measured
    held_out: HeldOut | None = None  # in files of before: nothing reads it
    line: LineCalibration | None = None
    way: Way = "sentences"

    @model_validator(mode="after")
    def way_is_there(self) -> Self:
        """The way that is used has a calibration."""
        if self.way == "line" and self.line is None:
            raise ValueError("the way is line, and there is no calibration of lines")
        return self


class ConfidenceQuality(BaseModel):
    """`confidence.json` of a model, as far as its card tells it."""

    model_config = ConfigDict(strict=True)

    measured: Measured
