"""The options of the dataset, as arguments of a recipe."""

import dataclasses
from dataclasses import dataclass, field


@dataclass
class ScanArguments:
    """Scans, and what is read of them. What is not given is the dataset's own default, or as the model was trained."""

    data_dir: str | None = field(
        default=None,
        metadata={"help": "CT-RATE tree, phantom cohort or prepared copy; CT-RATE on the Hub by default."},
    )
    num_slices: int | None = field(default=None, metadata={"help": "Axial slices a volume; 10 by default."})
    spacing: list[float] | None = field(
        default=None, metadata={"help": "Spacing in mm after resampling, x y z; 0.75 0.75 1.5 by default."}
    )
    window: str | None = field(default=None, metadata={"help": "paper (the default), or rgb: three windows."})
    target: str | None = field(
        default=None, metadata={"help": "findings+impression (the default), findings or impression."}
    )
    prompt: str | None = field(default=None, metadata={"help": "Language of the prompt: en (the default) or zh."})
    on_error: str = field(
        default="raise", metadata={"help": "raise, or skip: leave bad volumes out, counted and named."}
    )

    def dataset_options(self) -> dict:
        """The arguments that were given, for `load_dataset("ct_rate_pairs", ...)`."""
        return self._given(ScanArguments)

    def _given(self, arguments: type) -> dict:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(arguments)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class DataArguments(ScanArguments):
    """Scans with their negatives."""

    negative: str = field(default="heter", metadata={"help": "Negative partner: none, gauss, heter or hard."})
    min_label_distance: int = field(default=10, metadata={"help": "Labels in which a heter partner differs at least."})
    max_label_distance: int = field(default=3, metadata={"help": "Labels in which a hard partner differs at most."})
    partner_sampling: str = field(default="uniform", metadata={"help": "uniform (the paper) or balanced."})

    def dataset_options(self) -> dict:
        return self._given(DataArguments)


@dataclass
class TaskArguments(ScanArguments):
    """What a volume is asked."""

    task: str = field(default="report", metadata={"help": "report, vqa, matching or errors."})
    prompt_metadata: bool | None = field(default=None, metadata={"help": "Tell age and sex in the prompt."})
    questions_per_volume: int | None = field(
        default=None, metadata={"help": "vqa: questions a volume; 4 by default, above 8 less balanced."}
    )
    question_types: list[str] | None = field(
        default=None, metadata={"help": "vqa: some of presence, side, location, abnormalities; all by default."}
    )
    options: str | None = field(
        default=None, metadata={"help": "matching: full (the default), impression or keywords."}
    )
    num_false: int | None = field(default=None, metadata={"help": "matching: false texts a volume; 3 by default."})
    difficulty: str | None = field(default=None, metadata={"help": "matching: random (the default) or hard."})

    def dataset_options(self) -> dict:
        return self._given(TaskArguments)
