"""The files of an evaluation: who wrote the reports, their scores, and whether the model looks."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .schema import Schema, Share


class Provenance(Schema):
    """`predictions.provenance.json`."""

    weights: str | None = None
    references: str | None = None
    split: str | None = None
    target: str | None = None
    dtype: str | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    operating_point: str | None = None
    thresholds: list[Share] | None = None


class Results(BaseModel):
    """`results.json` of an evaluation: a row for the model, and others beside it."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: dict[str, Any]
    shuffled: dict[str, Any] | None = None

    @model_validator(mode="after")
    def rows(self) -> Self:
        """Each row is a dict of measures."""
        if wrong := [name for name, row in self.model_extra.items() if not isinstance(row, dict)]:
            raise ValueError(f"the row {wrong[0]!r:.80} has no measures")
        return self


class MatcherResults(BaseModel):
    """`results.json` of a dual encoder, which writes no reports."""

    model_config = ConfigDict(strict=True, extra="allow")

    n: int
    scans: str
    retrieval: dict[str, Any] | None
    zero_shot: dict[str, Any] | None
    zero_shot_sentences: dict[str, Any] | None


class Gaps(BaseModel):
    """`looking.json` of an evaluation, as far as figures of a study read it."""

    model_config = ConfigDict(strict=True)

    gaps: dict[str, list[float] | float | None]
