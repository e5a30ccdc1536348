"""The base of the schemas, and the numbers that several of them have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    """Base class: no value is converted, and numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
