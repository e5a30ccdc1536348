"""
The plan of a study: its tables, their rows, and the cohorts to train on. A row is one setting with several seeds.

`recipes/study.py` trains the runs, and `results.py` reads what the runs measured.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ct_rate_pairs.command_line import read_config
from ct_rate_pairs.eval.looking.other_volumes import derange_by_patient
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.cohort import PhantomArguments
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.tree import PHANTOM_MARKER
from ct_rate_pairs.yaml_files import read_yaml


COHORT, SHUFFLED = "cohort", "cohort_shuffled"  # folders within a study's folder; a row's `data_dir` names one of them
MASKED = "cohort_masked"  # the same scans as `cohort`, with masks of their findings
FLIPPED = re.compile(r"cohort_flipped_(\d+)")  # this percentage of its training labels is wrong
RUNS = "runs"  # folder of the runs; a row's `model_name_or_path` may name a run in it
SPLITS = ("train_fixed", "valid_fixed")
OF_THE_NEGATIVE = (
    "partner_sampling",
    "max_negative_loss",
    "negative_start_ratio",
    "negative_warmup_ratio",
    "negative_share",
)
TRAIN_LABELS = Path("dataset", "multi_abnormality_labels", "train_predicted_labels.csv")
LAST_WRITTEN = Path("dataset", "metadata", "no_chest_valid.txt")  # if this file exists, a cohort is complete

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom, which is the number of seeds less one.
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Run(NamedTuple):
    """One training run."""

    name: str  # also the name of its folder
    settings: dict  # options of its recipe; the paths of `own_paths` are relative to the study's folder

    @property
    def recipe(self) -> str:
        """The module of `recipes` that trains it: a run with rewards is a reinforcement."""
        return "grpo" if "reward_funcs" in self.settings else "sft_neg"

    @property
    def first_run(self) -> str | None:
        """Name of the run of this study whose model this run starts from; `None` if there is no such run."""
        model = Path(self.settings["model_name_or_path"])
        return model.name if model.parent == Path(RUNS) else None

    def own_paths(self, out: Path) -> dict[str, str]:
        """The settings that are paths in the study's folder `out`, as full paths."""
        paths = {"data_dir": out / self.settings["data_dir"], "output_dir": run_folder(out, self)}
        if "masks" in self.settings:
            paths["masks"] = out / self.settings["masks"]
        if self.first_run:
            paths["model_name_or_path"] = out / self.settings["model_name_or_path"]
        return {key: str(path) for key, path in paths.items()}


class Row(NamedTuple):
    """A row of a table: one setting with several seeds."""

    title: str
    runs: tuple[Run, ...]  # one per seed


class Table(NamedTuple):
    """A table. All other rows are compared with its first row."""

    title: str
    rows: tuple[Row, ...]
    against: str | None  # the setting on the x axis of the table's figure


class Study(NamedTuple):
    """The contents of a study's YAML file."""

    cohort: dict  # arguments of `write_cohort`
    tables: dict[str, Table]
    hours: float | None  # no run is started after this time

    @property
    def runs(self) -> list[Run]:
        """
        Every run once, although several tables may hold it.

        The first seeds of all rows come before the second seeds, and so on. Among runs of one seed, those that start
        from the base model come before those that start from the model of another run.
        """
        rows = [row for table in self.tables.values() for row in table.rows]
        most = max(len(row.runs) for row in rows)
        by_seed = [[row.runs[place] for row in rows if place < len(row.runs)] for place in range(most)]
        ordered = [run for runs in by_seed for run in sorted(runs, key=lambda run: bool(run.first_run))]
        return list({run.name: run for run in ordered}.values())


def read_study(path: str | Path, only: Sequence[str] = ()) -> Study:
    """
    Reads the YAML file of a study.

    Args:
        path (`str` or `Path`):
            The file, with these keys:

            - `base`: a config of `recipes/sft_neg.py` in the same folder.
            - `settings`: options that override `base` for all runs.
            - `cohort`: arguments of [`~ct_rate_pairs.phantom.write_cohort`].
            - `seeds`: the seeds of each row.
            - `hours` (*optional*): no run is started after so many hours.
            - `tables`: maps the name of a table to its `title`; its `rows`, which map the title of a row to the
              options that it overrides; *optionally* `seeds` for this table alone, and `against`, the setting on the x
              axis of its figure.

            A row whose `model_name_or_path` is `runs/NAME` starts from the model of that run. `{seed}` in `NAME`
            stands for the seed of the run itself. A row may have a `base` of its own. If its options have
            `reward_funcs`, as those of `phantom_grpo.yaml`, it is trained by `recipes/grpo.py`.
        only (`Sequence[str]`, *optional*):
            Names of the tables to keep; all by default.

    Raises:
        `ValueError`: for a table that the file does not have, for more seeds than there are t quantiles, or for a row
            that starts from the model of a run that these tables do not train earlier.
    """
    path = Path(path)
    content = read_yaml(path)

    def make_run(overrides: dict, seed: int) -> Run:
        """One run of a row."""
        config = read_config(path.parent / overrides.get("base", content["base"]))
        own = {name: value for name, value in overrides.items() if name != "base"}
        del config["output_dir"]
        return _run(config | {"data_dir": COHORT} | content["settings"], own | {"seed": seed})

    if unknown := set(only) - set(content["tables"]):
        raise ValueError(f"{path} has no table {sorted(unknown)[0]!r}, only {', '.join(content['tables'])}.")
    tables = {}
    for name, table in content["tables"].items():
        if only and name not in only:
            continue
        seeds = table.get("seeds", content["seeds"])
        if not 1 <= len(seeds) <= len(T_QUANTILES) + 1:
            raise ValueError(f"{path}, table {name}: {len(seeds)} seeds; give 1 to {len(T_QUANTILES) + 1}.")
        rows = (
            Row(title, tuple(make_run(overrides, seed) for seed in seeds))
            for title, overrides in table["rows"].items()
        )
        tables[name] = Table(table["title"], tuple(rows), table.get("against"))
    study = Study(content["cohort"], tables, content.get("hours"))
    before = set()
    for run in study.runs:
        if run.first_run and run.first_run not in before:
            raise ValueError(f"{path}: {run.name} goes on from {run.first_run}, which no table has before it.")
        before.add(run.name)
    return study


def _run(base: dict, overrides: dict) -> Run:
    """The run with these settings. Its name lists what differs from `base`, so equal settings have equal names."""
    settings = base | overrides
    settings["model_name_or_path"] = settings["model_name_or_path"].replace("{seed}", str(settings["seed"]))
    reinforces = "reward_funcs" in settings
    if settings["beta"] == 0 or reinforces:  # settings of the negative do not affect this training
        settings = {key: value for key, value in settings.items() if key not in OF_THE_NEGATIVE}
    changed = {key: settings[key] for key in sorted(settings) if key not in base or settings[key] != base[key]}
    told = {"beta": settings["beta"]} | changed | {"seed": settings["seed"]}
    told.pop("negative", None)
    words = [
        "grpo" if reinforces else settings["negative"],
        *(f"{key}-{_plain(value)}" for key, value in told.items()),
    ]
    return Run(re.sub(r"[^\w.-]+", "-", "_".join(words)), settings)


def _plain(value: object) -> str:
    """A setting as text; a number in its shortest form."""
    if isinstance(value, list):
        return "-".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def run_folder(out: str | Path, run: Run) -> Path:
    """Folder of a run; `out` is the folder of the study."""
    return Path(out) / RUNS / run.name


def prepare_cohorts(study: Study, out: str | Path) -> None:
    """
    Writes the cohort of the study and, if a row needs it, the cohorts with masks, with shuffled training volumes or
    with wrong training labels. A cohort that exists already is kept.

    Raises:
        `ValueError`: if the folder holds a cohort with other arguments.
    """
    cohort = Path(out) / COHORT
    if (cohort / LAST_WRITTEN).exists():
        found = read_json(cohort / PHANTOM_MARKER, PhantomArguments)
        if different := {key: found.get(key) for key, value in study.cohort.items() if found.get(key) != value}:
            raise ValueError(
                f"{cohort} was written with {different}, but the study asks for {study.cohort}. Choose another "
                "--output_dir, or remove the folder and train all runs again."
            )
    else:
        write_cohort(cohort, **study.cohort)
    for name in sorted({run.settings["data_dir"] for run in study.runs} - {COHORT}):
        if (Path(out) / name / LAST_WRITTEN).exists():
            continue
        if name == MASKED:
            write_cohort(Path(out) / name, **study.cohort, masks=True)
        elif name == SHUFFLED:
            shuffle_cohort(cohort, Path(out) / name)
        elif flipped := FLIPPED.fullmatch(name):
            flip_labels(cohort, Path(out) / name, int(flipped[1]) / 100)
        else:
            raise ValueError(
                f"data_dir: {name} names no cohort of a study, which are {COHORT}, {MASKED}, {SHUFFLED}, and for 5 % "
                "of wrong labels cohort_flipped_5."
            )


def shuffle_cohort(cohort: str | Path, out: str | Path) -> None:
    """
    Writes a cohort in which the training reports and labels stand beside volumes of other patients.

    Volumes are linked and tables are copied. Held-out volumes keep their own reports, so a model that is trained on
    this cohort is evaluated like all other models.

    Args:
        cohort (`str` or `Path`):
            A phantom cohort.
        out (`str` or `Path`):
            Folder to write to.
    """
    cohort = Path(cohort).resolve()
    train = volumes_of(cohort, "train_fixed")
    sources = [train[place] for place in derange_by_patient([path.name for path in train])]
    _link_cohort(cohort, Path(out), dict(zip(train, sources, strict=True)))


def flip_labels(cohort: str | Path, out: str | Path, share: float, seed: int = 0) -> None:
    """
    Writes a cohort in which a share of the training labels is wrong. Reports and test labels stay right. The split
    `validation` is a part of the training volumes.

    Args:
        cohort (`str` or `Path`):
            A phantom cohort.
        out (`str` or `Path`):
            Folder to write to.
        share (`float`):
            Probability that a label is changed from 0 to 1, or from 1 to 0.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.
    """
    cohort, out = Path(cohort).resolve(), Path(out)
    table = pd.read_csv(cohort / TRAIN_LABELS)
    labels = table[list(LABELS)].to_numpy()
    # By scan, because reconstructions share their labels.
    of_scan = table["VolumeName"].str.rsplit("_", n=1).str[0]
    scans, place = np.unique(of_scan, return_inverse=True)
    wrong = random_stream(seed).random((len(scans), len(LABELS))) < share
    table[list(LABELS)] = np.where(wrong[place], 1 - labels, labels)
    (out / TRAIN_LABELS).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / TRAIN_LABELS, index=False)
    _link_cohort(cohort, out, {})


def volumes_of(cohort: Path, split: str) -> list[Path]:
    """The volumes of a split, in the order of their names."""
    return sorted((cohort / "dataset" / split).glob("*/*/*.nii.gz"))


def _link_cohort(cohort: Path, out: Path, instead: Mapping[Path, Path]) -> None:
    """Links all volumes, those of `instead` to another volume, and copies the tables that are not there yet."""
    for split in SPLITS:
        for volume in volumes_of(cohort, split):
            link = out / volume.relative_to(cohort)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(instead.get(volume, volume))
    shutil.copy(cohort / PHANTOM_MARKER, out / PHANTOM_MARKER)
    tables = [path for path in cohort.glob("dataset/*/*") if path.suffix in (".csv", ".txt")]
    # `LAST_WRITTEN` comes last, because it marks the cohort as complete.
    for path in sorted(tables, key=lambda path: path.name == LAST_WRITTEN.name):
        place = out / path.relative_to(cohort)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(path, place)
