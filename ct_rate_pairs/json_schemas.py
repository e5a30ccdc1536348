"""
What the fields of the JSON files may be that come from a model on the Hub, or decide about files and models here.

Unknown fields are ignored unless the schema forbids them. The settings of rows are checked by their own options, see
[`~ct_rate_pairs.trainer.row_settings`].
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, model_validator

from .name_patterns import MOST_WAYS, ways_to_match
from .reports.labels import LABELS


MOST_OPENINGS = 64  # per label; each takes a forward pass
LONGEST_OPENING = 400  # letters
MOST_HELD_OUT = 10**5  # probabilities per label, one for each validation scan


class Schema(BaseModel):
    """Base class: no value is converted, and numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def each_label(values: dict) -> dict:
    """Raises a `ValueError` if the keys are not the 18 labels."""
    if set(values) != set(LABELS):
        wrong = sorted(set(LABELS) ^ set(values))
        raise ValueError(f"it needs each of the {len(LABELS)} labels, and no other: {wrong[0]!r:.80}")
    return values


Opening = Annotated[str, Field(min_length=1, max_length=LONGEST_OPENING)]
Openings = Annotated[list[Opening], Field(max_length=MOST_OPENINGS)]
Share = Annotated[float, Field(ge=0, le=1)]
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


class Measured(Schema):
    """Quality of confidences, as they were measured."""

    calibrated: Errors
    uncalibrated: Errors
    prevalence: Errors
    n: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    ways: dict[Way, WayErrors] | None = None  # files of earlier releases have none
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


class Confidences(Schema):
    """`confidence.json` of a model."""

    model_config = ConfigDict(extra="forbid")

    openings: Annotated[dict[str, Openings], AfterValidator(each_label)]
    temperature: Temperatures
    bias: Biases
    measured: Measured
    held_out: HeldOut | None = None
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


Plain = Annotated[str, Field(pattern=r"^[^/\\]{1,200}$")]  # a name of a file in the folder itself
MOST_LAYERS = 1000  # the largest models have some hundred; each takes its time though there are no weights for it
Dtype = Annotated[str, Field(pattern=r"^(torch\.)?(auto|b?float\d[a-z0-9_]{0,20})$")]


class ModelConfig(BaseModel):
    """
    `config.json` of a model, as far as it is read here. transformers downloads code from the Hub, and runs it, if an
    implementation of attention or of experts is the name of a repository. It reads the weights from the file that
    `transformers_weights` names, and builds each layer before it looks for the weights.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    architectures: list[str] | None = None
    dtype: Dtype | None = None
    torch_dtype: Dtype | None = None
    transformers_weights: Plain | None = None

    @model_validator(mode="after")
    def few_layers(self) -> Self:
        """No part of the model has more layers than can be built in a minute."""
        for name, number in _numbers(self.model_extra):
            if number > MOST_LAYERS and (name == "depth" or name.endswith("layers")):
                raise ValueError(f"{name} is {number}, but a model has at most {MOST_LAYERS} layers")
        return self

    @model_validator(mode="after")
    def no_kernels(self) -> Self:
        """No implementation is a repository on the Hub, in whatever part of the configuration it stands."""
        if wrong := next(_repositories(self.model_extra), None):
            raise ValueError(f"the implementation {wrong!r:.80} would be code from the Hub, remove it")
        return self


def _numbers(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a JSON content, each with the last name above it."""
    if isinstance(content, dict):
        for inner, value in content.items():
            yield from _numbers(value, inner)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, name)
    elif isinstance(content, int | float):
        yield name, content


def _repositories(content: Any, of_implementation: bool = False) -> Iterator[str]:
    """The names of implementations in a JSON content that are names of repositories."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _repositories(value, of_implementation or "_implementation" in name)
    elif isinstance(content, list):
        for value in content:
            yield from _repositories(value, of_implementation)
    elif of_implementation and isinstance(content, str) and "/" in content:
        yield content


Size = Annotated[int, Field(ge=1, le=4096)]
Deviation = Annotated[float, Field(gt=0)]


class ProcessorPart(Schema):
    """What cuts images or videos to patches, and to numbers. Some families give a size as height and width."""

    patch_size: Size | list[Size] | dict[str, Size | None] | None = None
    merge_size: Size | None = None
    temporal_patch_size: Size | None = None
    image_mean: float | list[float] | None = None
    image_std: Deviation | list[Deviation] | None = None
    rescale_factor: Deviation | None = None


class ProcessorConfig(BaseModel):
    """`processor_config.json` of a model, as far as it is read here."""

    model_config = ConfigDict(strict=True)

    image_processor: dict[str, Any] = {}


def quickly_matched(patterns: str | list | dict | None) -> str | list | dict | None:
    """Raises a `ValueError` if to match names with these patterns, or with the keys of a dict, may take hours."""
    if sum(map(ways_to_match, [patterns] if isinstance(patterns, str) else patterns or ())) > MOST_WAYS:
        raise ValueError("names can be matched in too many ways, give the names of the modules as a list")
    return patterns


def quick_if_a_pattern(names: str | list | None) -> str | list | None:
    """As [`quickly_matched`]; a list has whole names, or their ends, and no patterns."""
    return quickly_matched(names) if isinstance(names, str) else names


Names = list[Annotated[str, Field(max_length=400)]]
NamesOrPattern = Annotated[str | Names | None, AfterValidator(quick_if_a_pattern)]
Rank = Annotated[int, Field(ge=0, le=4096)]


class AdapterConfig(Schema):
    """
    `adapter_config.json` of an adapter. PEFT imports the module that `megatron_core` names if there is a
    `megatron_config`. It takes `target_modules` and `exclude_modules` as a pattern if they are no list, and
    `modules_to_save`, `layers_pattern` and the keys of `rank_pattern` and `alpha_pattern` in any case.
    """

    base_model_name_or_path: Annotated[str, Field(max_length=4096)] | None = None
    revision: Annotated[str, Field(max_length=256)] | None = None
    megatron_config: None = None
    peft_type: str | None = None
    r: Rank | None = None
    lora_alpha: float | None = None
    lora_dropout: Share | None = None
    rank_pattern: Annotated[dict[str, Rank | list[bool]] | None, AfterValidator(quickly_matched)] = None
    alpha_pattern: Annotated[dict[str, float] | None, AfterValidator(quickly_matched)] = None
    target_modules: NamesOrPattern = None
    exclude_modules: NamesOrPattern = None
    modules_to_save: Annotated[Names | None, AfterValidator(quickly_matched)] = None
    layers_pattern: Annotated[str | Names | None, AfterValidator(quickly_matched)] = None
    layers_to_transform: int | list[int] | None = None
    target_parameters: Names | None = None


class WeightsIndex(BaseModel):
    """`model.safetensors.index.json`: the file of each tensor."""

    model_config = ConfigDict(strict=True)

    weight_map: Annotated[dict[str, Plain], Field(min_length=1)]


class TrainerState(BaseModel):
    """`trainer_state.json` of a checkpoint. The losses in its `log_history` may be NaN."""

    model_config = ConfigDict(strict=True)

    global_step: Annotated[int, Field(ge=1, le=10**12)]
    max_steps: Annotated[int, Field(ge=-1, le=10**12)] = 1
    best_model_checkpoint: str | None = None
    log_history: list[dict[str, Any]] = []


class CheckpointFiles(RootModel[dict[str, Annotated[int, Field(ge=0)]]]):
    """`checkpoint_files.json` of a checkpoint: the size of each file."""


# As [`~ct_rate_pairs.hub.reporting.batch`] names a scan. The name becomes that of a folder.
SCAN_NAME = r"^(?:scan-\d{3,9}|scan number \d{1,9}|(?:train|valid)_\d{1,5}_[a-z]{1,2}_\d{1,2})$"


class Failure(Schema):
    """A scan of a batch that could not be read."""

    name: Annotated[str, Field(pattern=SCAN_NAME)]
    number: Annotated[int, Field(ge=1)]
    digest: str | None
    error: str


class Failures(RootModel[list[Failure]]):
    """`failures.json` of a batch of scans."""


class FinishedReport(Schema):
    """What a batch reads in the `report.json` of a scan."""

    model: str
    version: str
    digest: str | None
    series: int | None
    code: str | None = None
    max_new_tokens: Annotated[int, Field(ge=1)]
    operating_point: str | None = None
    findings_given: list[str] | None = None
    cut: bool = False


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


class LossHistory(BaseModel):
    """`trainer_state.json` of a run, as far as figures of a study read it."""

    model_config = ConfigDict(strict=True)

    log_history: list[dict[str, Any]]


class Gaps(BaseModel):
    """`looking.json` of an evaluation, as far as figures of a study read it."""

    model_config = ConfigDict(strict=True)

    gaps: dict[str, list[float] | float | None]


class Optimizer(BaseModel):
    """The optimizer in `environment.json`."""

    model_config = ConfigDict(strict=True)

    name: Annotated[str, Field(max_length=256)]


class Environment(BaseModel):
    """`environment.json` of a run, as far as its card tells it."""

    model_config = ConfigDict(strict=True)

    versions: dict[str, str] | None = None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    dirty: bool | None = None
    optimizer: Optimizer | None = None


class PreparedCopy(BaseModel):
    """`prepared.json` of a prepared copy. Its `settings` are checked by their own options."""

    model_config = ConfigDict(strict=True)

    source: str
    tables: str | None = None
    phantom: bool
    labels_from: Literal["table", "rules"] = "table"
    settings: dict[str, Any]
    shard_size: Annotated[int, Field(ge=1)] | None = None
    shards: dict[Literal["train", "test"], Annotated[int, Field(ge=0, le=10**6)]]
    ct_rate_pairs: str
    reading: int = 1


Positive = Annotated[float, Field(gt=0)]


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


class VolumeMessages(RootModel[list[tuple[str, str]]]):
    """Volumes and what is told of them, in the metadata of a shard of a prepared copy."""


class PhantomArguments(RootModel[dict[str, Any]]):
    """`phantom.json` of a phantom cohort: the arguments of its command."""


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


class ReferenceHashes(Schema):
    """`reference_hashes.json` of a run, see [`~ct_rate_pairs.hub.references`]."""

    model_config = ConfigDict(extra="forbid")

    phantom: bool
    stretch: Annotated[int, Field(ge=1)]
    window: Annotated[int, Field(ge=1)]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    whole: str
    rare: str
    other: str
