"""The files of the VLM3D challenge's server."""

from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel


class ChallengeOutput(BaseModel):
    """An output of a job of the VLM3D challenge's server."""

    value: Any = None


class ChallengeJob(BaseModel):
    """A job of the VLM3D challenge's server."""

    outputs: list[ChallengeOutput] | None = None


class ChallengeJobs(RootModel[list[ChallengeJob]]):
    """What the VLM3D challenge's server writes."""


class ChallengeReports(BaseModel):
    """A file of reports of the VLM3D challenge."""

    model_config = ConfigDict(strict=True)

    generated_reports: list[dict[str, Any]]
