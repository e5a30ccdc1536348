"""The options of `load_dataset("ct_rate_pairs", ...)`, and their allowed values."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import datasets

from ct_rate_pairs.number_ranges import Range
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.volumes.settings import OF_SLICES, VolumeSettings, one_of, plain_number


NEGATIVES = ("none", "gauss", "heter", "hard")
PARTNER_SAMPLINGS = ("uniform", "balanced", "mutual")
IMAGES = ("slices", "volume")
LABEL_DISTANCE = Range(1, len(LABELS))
_SETTINGS = tuple(field.name for field in fields(VolumeSettings))


@dataclass
class CTRatePairsConfig(*OPTIONS, datasets.BuilderConfig):
    """
    Options of `load_dataset("ct_rate_pairs", ...)`.

    `files`, `reconstructions`, `num_slices`, `spacing`, `window`, `z_range` and `slices` are described in
    [`~ct_rate_pairs.volumes.settings.VolumeSettings`], which also has their defaults. A prepared copy of slices has
    fixed values for all of them, and one of whole volumes for `files`, `reconstructions` and `spacing`. The options of
    the tasks are described in [`~ct_rate_pairs.tasks.report.ReportOptions`] (`target`,
    `prompt`, `prompt_metadata` and `prompt_dropout`, which all tasks use, `prompt_findings` and `findings_line`),
    [`~ct_rate_pairs.tasks.vqa.VQAOptions`] and [`~ct_rate_pairs.tasks.matching.MatchingOptions`].

    Args:
        data_dir (`str`, *optional*):
            A folder with CT-RATE's layout (a copy of CT-RATE, or a phantom cohort), a prepared copy, a table of the
            reader's own scans (`docs/own_data.md`) or the folder that holds one such table. By default, the gated
            repository on the Hub.
        task (`str`, *optional*, defaults to `"report"`):
            What a row asks for. `"report"`: write the report. `"vqa"`: answer questions made from the labels and the
            report, see [`~ct_rate_pairs.tasks.Questions`]. `"matching"`: choose the volume's text among false texts,
            see [`~ct_rate_pairs.tasks.Matching`]. `"errors"`: name the statement of the report that was made wrong,
            see [`~ct_rate_pairs.tasks.Errors`]. In the split `train`, each epoch has new questions, options and
            errors. `"own_questions"`: answer the questions of a reader's own table, the same in every epoch, see
            [`~ct_rate_pairs.tasks.OwnQuestions`].
        negative (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"gauss"` (noise, paper section 7.1), `"heter"` (a partner volume with other labels, section 7.2)
            or `"hard"` (a partner with nearly the same labels that lacks a finding of the report). Some tasks restrict
            the partners further: for `"vqa"` and `"own_questions"`, the partner has another answer; for `"matching"`,
            it has another text; for `"errors"`, the wrong statement is true of it.
        images (`str`, *optional*, defaults to `"slices"`):
            What the columns `images` and `negative_images` hold. `"slices"`: PIL images. `"volume"`: the whole
            resampled volume, for 3D encoders, as an array of shape `[Z, Y, X]` (with three windows `[Z, Y, X, 3]`),
            float16 in [-1, 1]. `slice_mm` then has the depth of each plane. A negative is cropped or padded with air
            around its centre to the size of its volume. `num_slices`, `z_range`, `slices` and streams are refused.
        masks (`str`, *optional*):
            Masks of findings, for the columns `masks` and `mask_findings`: a table of masks, ReXGroundingCT, or the
            folder of TotalSegmentator's output, see [`~ct_rate_pairs.masks.mask_set.MaskSet`]. By default, rows have
            no such columns. `files="original"`, `images="volume"` and prepared copies that do not tell where their
            slices lie are refused.
        mask_names (`Sequence[str]`, *optional*):
            The findings or structures whose masks are taken. By default, all.
        min_label_distance (`int`, *optional*, defaults to `10`):
            In how many of the 18 labels a heter partner must differ. Where no volume differs that much, the volumes
            that differ most are used.
        max_label_distance (`int`, *optional*, defaults to `3`):
            In how many of the 18 labels a hard partner may differ.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` (the paper) or `"balanced"`, see [`~ct_rate_pairs.partners.sampler.PartnerSampler`]. Or
            `"mutual"`, for `negative="heter"` and reports alone: `NegativeSFTTrainer` makes the volumes of a batch
            each other's negatives, see [`~ct_rate_pairs.partners.mutual.match_mutually`]. The rows of the split
            `train` then have no negative of their own, so no second volume is read. The rows of the other splits have
            partners that are drawn as with `"uniform"`, so that evaluations of all trainings can be compared.
        validation_size (`float`, *optional*, defaults to `0.05`):
            Share of the training patients in the split `validation`. The split `test` is CT-RATE's validation set. A
            reader's own table that has rows of `validation` decides itself, and the option then has no effect.
            Use this option to hold patients out, not `select`, `filter` or `train_test_split`: partners are drawn from
            the whole split of a row, also from rows that such a call has removed.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the negatives, questions, options, errors and dropped lines of prompts. The seed, the epoch and the
            volume's name determine every draw; for a stream, its shuffling seed does so too. `set_epoch` starts a new
            epoch: the method of a stream, or of the reader of a map-style dataset (in training,
            `NewNegativesEachEpoch` calls it). `repeat` repeats the negatives too.
        on_error (`str`, *optional*, defaults to `"raise"`):
            `"raise"`: stop at a bad volume. `"skip"`: go on, with a warning that names and counts it. A stream leaves
            it out. In a map-style dataset, which must return a row for every index, its `images`, `negative_images`
            and `slice_mm` are `None`; [`~ct_rate_pairs.readable_rows.ReadableRows`] puts the next readable row in its
            place, and so does `NegativeSFTTrainer`.
    """

    files: str | None = None
    reconstructions: str | None = None
    num_slices: int | None = None
    spacing: tuple[float, float, float] | None = None
    window: str | tuple | None = None
    z_range: tuple[float, float] | None = None
    slices: str | None = None
    images: str = "slices"
    masks: str | None = None
    mask_names: tuple[str, ...] | None = None
    task: str = "report"
    negative: str = "none"
    min_label_distance: int = 10
    max_label_distance: int = 3
    partner_sampling: str = "uniform"
    validation_size: float = 0.05
    seed: int = 0
    on_error: str = "raise"

    def __post_init__(self):
        super().__post_init__()
        self._set_plain_numbers()
        one_of("task", self.task, TASKS)
        one_of("negative", self.negative, NEGATIVES)
        one_of("images", self.images, IMAGES)
        one_of("partner_sampling", self.partner_sampling, PARTNER_SAMPLINGS)
        one_of("on_error", self.on_error, ("raise", "skip"))
        self._check_mutual()
        self._check_masks()
        for options in OPTIONS:
            options.check(self)
        if not 0 <= self.validation_size < 1:
            raise ValueError(f"validation_size={self.validation_size}: give a share of the patients, 0 <= size < 1.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: give a whole number, 0 or more.")
        for name in ("min_label_distance", "max_label_distance"):
            if not 1 <= getattr(self, name) <= len(LABELS):
                raise ValueError(f"{name}={getattr(self, name)}: choose 1 to {len(LABELS)}, the number of labels.")
        for name, value in vars(VolumeSettings(**self.settings)).items():
            if name in self.settings:
                setattr(self, name, value)
        if self.images == "volume" and (given := {*OF_SLICES} & self.settings.keys()):
            raise ValueError(
                f"{min(given)}={self.settings[min(given)]!r} has no effect with images='volume', which gives all "
                "planes: leave one of the two out."
            )

    def _check_mutual(self) -> None:
        if self.partner_sampling != "mutual":
            return
        if self.negative == "hard":
            raise ValueError(
                "partner_sampling='mutual' chooses the partners that differ most within a batch, and negative='hard' "
                "wants those that hardly differ: pass negative='heter', or partner_sampling='uniform'."
            )
        if self.negative == "heter" and self.task != "report":
            raise ValueError(
                f"partner_sampling='mutual' looks at labels alone, but the task {self.task!r} restricts the partners "
                "further: pass partner_sampling='uniform' or 'balanced'."
            )

    def _check_masks(self) -> None:
        if self.mask_names is not None:
            self.mask_names = (self.mask_names,) if isinstance(self.mask_names, str) else tuple(self.mask_names)
        if self.masks is None and self.mask_names is not None:
            raise ValueError("mask_names has no effect without masks: give both, or none.")
        if self.masks is None and self.slices == "key":
            raise ValueError("slices='key' takes the planes that masks show: give masks, too, or choose another rule.")
        if self.masks is not None and self.images == "volume":
            raise ValueError("masks are shown per slice, and images='volume' has none: leave one of the two out.")
        if self.masks is not None and self.files == "original":
            raise ValueError(
                "masks need the place of each volume, and with files='original' the metadata table does not tell it: "
                "pass files='fixed'."
            )

    @property
    def is_mutual(self) -> bool:
        """Whether the volumes of a training batch are each other's negatives."""
        return self.negative == "heter" and self.partner_sampling == "mutual"

    @property
    def idle_options(self) -> list[str]:
        """The names of options of reports that were given and have no effect, because the task is another one."""
        given = {"findings_line": self.findings_line != "none", "prompt_findings": self.prompt_findings}
        return [name for name, is_given in given.items() if is_given and self.task != "report"]

    def _set_plain_numbers(self) -> None:
        """Whole numbers, numbers and switches as Python's own: another kind would go into names and files as it is."""
        kinds = {int: "a whole number", float: "a number", bool: "True or False"}
        for option in (option for option in fields(self) if option.type in kinds):
            value = plain_number(getattr(self, option.name))
            value = float(value) if option.type is float and type(value) is int else value
            if type(value) is not option.type:
                raise ValueError(f"{option.name}={value!r}: give {kinds[option.type]}.")
            setattr(self, option.name, value)

    @property
    def settings(self) -> dict:
        """The fields of `VolumeSettings` that were given."""
        return {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}

    def to_json(self) -> str:
        """All options as JSON, with absolute paths: they go into the schema of a map-style dataset."""
        own = {field.name for field in fields(self)} - {field.name for field in fields(datasets.BuilderConfig)}
        options = {name: getattr(self, name) for name in sorted(own)}
        paths = {"data_dir": self.data_dir, "masks": self.masks}
        absolute = {name: path and str(Path(path).expanduser().resolve()) for name, path in paths.items()}
        return json.dumps(options | absolute)

    @classmethod
    def from_json(cls, options: str) -> Self:
        """The options that [`to_json`] wrote."""
        return cls(**json.loads(options))
