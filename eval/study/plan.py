"""
A study: tables of rows, each row a training's settings over several seeds, and the cohorts they train on.

`recipes/study.py` trains the runs, `study_results.py` reads what they measured.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from ct_rate_pairs.command_line import read_config
from ct_rate_pairs.eval.looking.other_volumes import derange_by_patient
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.sources.tree import PHANTOM_MARKER


COHORT, SHUFFLED = "cohort", "cohort_shuffled"  # folders of a study, and what a row's `data_dir` may say
RUNS = "runs"  # its folder of runs; a row's `model_name_or_path` may be one of them
SPLITS = ("train_fixed", "valid_fixed")
OF_THE_NEGATIVE = ("partner_sampling", "max_negative_loss", "negative_start_ratio", "negative_warmup_ratio")
LAST_WRITTEN = Path("dataset", "metadata", "no_chest_valid.txt")  # of a cohort: it is whole where this is

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom: of as many seeds, less one
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Run(NamedTuple):
    """One training."""

    name: str  # its folder's too
    settings: dict  # of `recipes/sft_neg.py`, with the paths of `own_paths` relative to the study's folder

    @property
    def first_run(self) -> str | None:
        """Name of the run of this study whose model this one goes on from, if it does."""
        model = Path(self.settings["model_name_or_path"])
        return model.name if model.parent == Path(RUNS) else None

    def own_paths(self, out: Path) -> dict[str, str]:
        """The settings that lie in the study's folder `out`."""
        paths = {"data_dir": out / self.settings["data_dir"], "output_dir": run_folder(out, self)}
        if self.first_run:
            paths["model_name_or_path"] = out / self.settings["model_name_or_path"]
        return {key: str(path) for key, path in paths.items()}


class Row(NamedTuple):
    """A line of a table."""

    title: str
    runs: tuple[Run, ...]  # one a seed


class Table(NamedTuple):
    """A table, whose first row is what the others are compared with."""

    title: str
    rows: tuple[Row, ...]
    against: str | None  # the setting that its figure has on the x axis


class Study(NamedTuple):
    """What a study's YAML asks for."""

    cohort: dict  # arguments of `write_cohort`
    tables: dict[str, Table]
    hours: float | None  # after which no further run is begun

    @property
    def runs(self) -> list[Run]:
        """
        Every run once: rows of several tables share theirs. All rows' first seeds come before any second one, and of
        a seed those that start afresh before those that go on from another's model.
        """
        rows = [row for table in self.tables.values() for row in table.rows]
        most = max(len(row.runs) for row in rows)
        by_seed = [[row.runs[place] for row in rows if place < len(row.runs)] for place in range(most)]
        ordered = [run for runs in by_seed for run in sorted(runs, key=lambda run: bool(run.first_run))]
        return list({run.name: run for run in ordered}.values())


def read_study(path: str | Path, only: Sequence[str] = ()) -> Study:
    """
    Reads a study's YAML.

    Args:
        path (`str` or `Path`):
            The file. `base` names a config of `recipes/sft_neg.py` beside it, `settings` overrides it for all runs,
            `cohort` holds the arguments of the phantom, `seeds` the seeds, `hours` (*optional*) a limit. `tables` has
            a `title`, `rows` (title of a row to what it overrides), and optionally `seeds` of its own and `against`,
            the setting that its figure has on the x axis.
            A row whose `model_name_or_path` is `runs/NAME` goes on from that run's model; `{seed}` in it is its own.
        only (`Sequence[str]`, *optional*):
            Names of the tables to keep; all by default.

    Raises:
        `ValueError`: for a table that the file does not have, more seeds than intervals are known for, or a row that
            goes on from a run that does not come before it in these tables.
    """
    path = Path(path)
    content = yaml.safe_load(path.read_text())
    base = read_config(path.parent / content["base"]) | {"data_dir": COHORT} | content["settings"]
    del base["output_dir"]
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
            Row(title, tuple(_run(base, overrides | {"seed": seed}) for seed in seeds))
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
    """The run is named by what makes it another one than the base's, so equal settings have equal names."""
    settings = base | overrides
    settings["model_name_or_path"] = settings["model_name_or_path"].replace("{seed}", str(settings["seed"]))
    if settings["beta"] == 0:  # whatever is said of the negative, the training is the same
        settings = {key: value for key, value in settings.items() if key not in OF_THE_NEGATIVE}
    changed = {key: settings[key] for key in sorted(settings) if key not in base or settings[key] != base[key]}
    told = {"beta": settings["beta"]} | changed | {"seed": settings["seed"]}
    told.pop("negative", None)
    words = [settings["negative"], *(f"{key}-{_plain(value)}" for key, value in told.items())]
    return Run(re.sub(r"[^\w.-]+", "-", "_".join(words)), settings)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def run_folder(out: str | Path, run: Run) -> Path:
    """Where a run of the study in `out` is kept."""
    return Path(out) / RUNS / run.name


def prepare_cohorts(study: Study, out: str | Path) -> None:
    """
    Writes the study's cohort, and the one with shuffled training volumes if a row needs it, unless they are there.

    Raises:
        `ValueError`: if the folder holds another cohort.
    """
    cohort, shuffled = Path(out) / COHORT, Path(out) / SHUFFLED
    if (cohort / LAST_WRITTEN).exists():
        found = json.loads((cohort / PHANTOM_MARKER).read_text())
        if different := {key: found.get(key) for key, value in study.cohort.items() if found.get(key) != value}:
            raise ValueError(
                f"{cohort} was written with {different}, but the study asks for {study.cohort}. Choose another --output_dir, "
                "or remove the folder: its runs have to be made anew."
            )
    else:
        write_cohort(cohort, **study.cohort)
    if any(run.settings["data_dir"] == SHUFFLED for run in study.runs) and not (shuffled / LAST_WRITTEN).exists():
        shuffle_cohort(cohort, shuffled)


def shuffle_cohort(cohort: str | Path, out: str | Path) -> None:
    """
    Writes a cohort whose training reports and labels belong to the volumes of other patients.

    Only links to the volumes are made. Tables are copied, and the held-out volumes stay in their places, so a model
    that is trained on it is measured as all others are.

    Args:
        cohort (`str` or `Path`):
            A phantom cohort.
        out (`str` or `Path`):
            Folder to write to.
    """
    cohort, out = Path(cohort).resolve(), Path(out)
    volumes = {split: sorted((cohort / "dataset" / split).glob("*/*/*.nii.gz")) for split in SPLITS}
    train = volumes["train_fixed"]
    sources = {
        "train_fixed": [train[place] for place in derange_by_patient([path.name for path in train])],
        "valid_fixed": volumes["valid_fixed"],
    }
    for split in SPLITS:
        for place, source in zip(volumes[split], sources[split], strict=True):
            link = out / place.relative_to(cohort)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(source)
    shutil.copy(cohort / PHANTOM_MARKER, out / PHANTOM_MARKER)
    tables = [path for path in cohort.glob("dataset/*/*") if path.suffix in (".csv", ".txt")]
    for path in sorted(tables, key=lambda path: path.name == LAST_WRITTEN.name):  # that one says: whole
        (out / path.relative_to(cohort)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / path.relative_to(cohort))
