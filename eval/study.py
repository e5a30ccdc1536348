"""
A study: tables of rows, each row a training's settings over several seeds, and what the runs' folders hold of them.

`recipes/study.py` trains the runs; everything here works on plain data and on folders that are there.
"""

import csv
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import yaml

from ct_rate_pairs.eval.loss_gap import derange_by_patient
from ct_rate_pairs.eval.paper_table import PAPER_METRICS, TRIVIAL
from ct_rate_pairs.eval.predictions import read_predictions
from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.tree_source import PHANTOM_MARKER


COHORT, SHUFFLED = "cohort", "cohort_shuffled"  # folders of a study, and what a row's `data_dir` may say
RUNS = "runs"  # its folder of runs; a row's `model_name_or_path` may be one of them
SPLITS = ("train_fixed", "valid_fixed")
OF_THE_NEGATIVE = ("max_negative_loss", "negative_start_ratio", "negative_warmup_ratio")
LAST_WRITTEN = Path("dataset", "metadata", "no_chest_valid.txt")  # of a cohort: it is whole where this is

# Key of a number -> its column's title. The first table of a row is the paper's five figures and F1.
REPORT_METRICS = {key: title.replace("_", "-") for title, key in PAPER_METRICS.items()} | {
    "precision_micro": "Precision",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
}
LOOKING_METRICS = {
    "coverage_shuffled": "Coverage, volumes shuffled",
    "top1": "Matching Top-1",
    "top1_pmi": "Top-1 by PMI",
    "loss_pos": "loss",
    "loss_gap_shuffled": "gap, another patient",
    "loss_gap_noise": "gap, noise",
    "loss_gap": "gap, own negative",
    "unique_report_ratio": "unique reports",
    "words": "words a report",
}
COST_METRICS = {"minutes": "minutes", "cpu_minutes": "CPU minutes", "peak_gib": "peak GiB"}
METRICS = REPORT_METRICS | LOOKING_METRICS | COST_METRICS
ONE_DECIMAL = ("words", *COST_METRICS)
DIFFERENCES = REPORT_METRICS | {key: LOOKING_METRICS[key] for key in ("top1", "loss_gap_shuffled", "words")}

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Run(NamedTuple):
    """One training."""

    name: str  # its folder's too
    settings: dict  # of `recipes/sft_neg.py`, with the paths of `own_paths` relative to the study's folder

    @property
    def first_run(self) -> str | None:
        """Name of the run of this study whose model this one goes on from, if it does."""
        model = Path(self.settings["model_name_or_path"])
        return model.name if model.parent.name == RUNS else None

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
        """Every run once: rows of several tables share theirs. All rows' first seeds come before any second one."""
        rows = [row for table in self.tables.values() for row in table.rows]
        most = max(len(row.runs) for row in rows)
        ordered = [row.runs[place] for place in range(most) for row in rows if place < len(row.runs)]
        return list({run.name: run for run in ordered}.values())

    @property
    def waves(self) -> list[list[Run]]:
        """The runs that start afresh, and those that go on from the model of one of them."""
        return [[run for run in self.runs if bool(run.first_run) is later] for later in (False, True)]


class Outcome(NamedTuple):
    """What became of a run."""

    state: str  # finished, failed or not run
    numbers: dict[str, float]  # by the keys of `METRICS`; empty unless finished
    blind: dict[str, dict]  # the same numbers of the trivial rows, and of the references
    record: dict  # `run.yaml`: commit, machine, time, error


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
            goes on from a run that none of the tables has.
    """
    path = Path(path)
    content = yaml.safe_load(path.read_text())
    base = yaml.safe_load((path.parent / content["base"]).read_text()) | {"data_dir": COHORT} | content["settings"]
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
    afresh = {run.name for run in study.waves[0]}
    for run in study.waves[1]:
        if run.first_run not in afresh:
            raise ValueError(f"{path}: {run.name} goes on from {run.first_run}, which is in none of its tables.")
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
                f"{cohort} was written with {different}, but the study asks for {study.cohort}. Choose another --out, "
                "or remove the folder: its runs have to be made anew."
            )
    else:
        write_cohort(cohort, **study.cohort)
    if any(run.settings["data_dir"] == SHUFFLED for run in study.runs) and not (shuffled / LAST_WRITTEN).exists():
        shuffle_cohort(cohort, shuffled)


def shuffle_cohort(cohort: str | Path, out: str | Path, seed: int = 0) -> None:
    """
    Writes a cohort whose training reports and labels belong to the volumes of other patients.

    Only links to the volumes are made. Tables are copied, and the held-out volumes stay in their places, so a model
    that is trained on it is measured as all others are.

    Args:
        cohort (`str` or `Path`):
            A phantom cohort.
        out (`str` or `Path`):
            Folder to write to.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the derangement by patient, see [`~ct_rate_pairs.eval.loss_gap.derange_by_patient`].
    """
    cohort, out = Path(cohort).resolve(), Path(out)
    volumes = {split: sorted((cohort / "dataset" / split).glob("*/*/*.nii.gz")) for split in SPLITS}
    train = volumes["train_fixed"]
    sources = {
        "train_fixed": [train[place] for place in derange_by_patient([path.name for path in train], seed)],
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


def run_folder(out: str | Path, run: Run) -> Path:
    """Where a run of the study in `out` is kept."""
    return Path(out) / RUNS / run.name


def is_finished(folder: Path, run: Run, cohort: dict) -> bool:
    """Whether the folder holds this run, finished: the same settings on the same cohort."""
    record = _read_record(folder)
    return (record.get("settings"), record.get("cohort"), record.get("state")) == (run.settings, cohort, "finished")


def read_outcome(folder: Path, run: Run, cohort: dict) -> Outcome:
    """What the folder of a run holds. With other settings, or of another cohort, it counts as not run."""
    record = _read_record(folder)
    if (record.get("settings"), record.get("cohort")) != (run.settings, cohort):
        return Outcome("not run", {}, {}, {})
    if record["state"] == "failed":
        return Outcome("failed", {}, {}, record)
    results = json.loads((folder / "results.json").read_text())
    model, reports = results["model"], read_predictions(folder / "predictions.jsonl").values()
    numbers = {key: model[key] for key in METRICS if key in model} | {key: record[key] for key in COST_METRICS}
    numbers["words"] = fmean(len(report.split()) for report in reports)
    if "shuffled" in results:
        numbers["coverage_shuffled"] = results["shuffled"]["coverage"]
    if "random" in model.get("matching", {}):
        numbers |= {key: model["matching"]["random"][key] for key in ("top1", "top1_pmi")}
    known = {key: value for key, value in numbers.items() if value is not None}
    blind = {name: {key: results[name][key] for key in REPORT_METRICS} for name in TRIVIAL}
    blind["references"] = {"unique_report_ratio": model["reference_unique_report_ratio"]}
    return Outcome("finished", known, blind, record)


def _read_record(folder: Path) -> dict:
    path = folder / "run.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def read_losses(folder: Path) -> list[dict]:
    """`log_history` of a finished run."""
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def read_gaps(folder: Path) -> dict[str, list[float]]:
    """Kind of the other volume (`shuffled`, `noise`, ...) to each report's loss gap in nats a token."""
    gaps = json.loads((folder / "looking.json").read_text())["gaps"]
    return {name.removeprefix("pair_gaps_"): values for name, values in gaps.items() if name.startswith("pair_gaps_")}


def interval_over_seeds(values: Sequence[float]) -> dict[str, float | int | None]:
    r"""
    Mean over seeds, and the half width of its 95 % interval by Student's t.

    \\(\bar x \pm t_{.975, n-1} \, s / \sqrt{n}\\) with the sample's standard deviation \\(s\\): what the mean over
    other seeds would be, initial weights, order and negatives all drawn anew, on the same held-out scans. With three
    seeds \\(t = 4.30\\): intervals are wide, and may pass the ends of a metric's range.

    Args:
        values (`Sequence[float]`):
            One a seed, at most ten.

    Returns:
        `dict`: `mean`, `half_width` (`None` for one seed) and `n`.
    """
    n = len(values)
    half_width = T_QUANTILES[n - 2] * stdev(values) / sqrt(n) if n > 1 else None
    return {"mean": fmean(values), "half_width": half_width, "n": n}


def summarise(study: Study, out: str | Path) -> dict[str, dict]:
    """
    Collects what the runs in `out` measured.

    Returns:
        `dict`: for each table `title`, `rows` and `blind`. A row has `states` (of its runs, in the order of the
        seeds), `runs` (their names), `metrics` (key to [`interval_over_seeds`]), `difference` (the same of the
        difference to the table's first row, seed by seed), `failures` (run to its error), `commits` and `machines`.
        `blind` has the metrics of the reports that never look, and of the references.
    """
    outcomes = {run.name: read_outcome(run_folder(out, run), run, study.cohort) for run in study.runs}
    summary = {}
    for name, table in study.tables.items():
        rows, everything = {}, []
        first = [outcomes[run.name] for run in table.rows[0].runs]
        for row in table.rows:
            mine = [outcomes[run.name] for run in row.runs]
            everything += mine
            rows[row.title] = {
                "states": [outcome.state for outcome in mine],
                "runs": [run.name for run in row.runs],
                "commits": sorted({outcome.record["commit"] for outcome in mine if outcome.record}),
                "machines": sorted({outcome.record["machine"] for outcome in mine if outcome.record}),
                "metrics": _over_seeds(outcome.numbers for outcome in mine),
                "difference": _over_seeds(map(_difference, mine, first)) if row is not table.rows[0] else {},
                "failures": {
                    run.name: outcome.record["error"]
                    for run, outcome in zip(row.runs, mine, strict=True)
                    if outcome.state == "failed"
                },
            }
        # Neither the seed nor the settings change what a report written blind gets, nor the references.
        blind = next((outcome.blind for outcome in everything if outcome.blind), {})
        summary[name] = {"title": table.title, "rows": rows, "blind": blind}
    return summary


def _difference(of: Outcome, to: Outcome) -> dict[str, float]:
    return {key: value - to.numbers[key] for key, value in of.numbers.items() if key in to.numbers}


def _over_seeds(runs: Iterable[dict[str, float]]) -> dict[str, dict]:
    runs = list(runs)
    values = {key: [run[key] for run in runs if key in run] for key in METRICS}
    return {key: interval_over_seeds(of) for key, of in values.items() if of}


def write_tables(summary: dict[str, dict], out: str | Path) -> None:
    """Writes `NAME.md`, `NAME.csv` and `NAME.json`, which has all of [`summarise`], for each table to `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in summary.items():
        (out / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n")
        (out / f"{name}.md").write_text(format_markdown(table))
        with open(out / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(format_csv(name, table))


def format_markdown(table: dict) -> str:
    """A table of [`summarise`] as Markdown: reports, looking, differences, costs, failures."""
    rows = table["rows"]
    first = next(iter(rows))
    measured = [(title, count_seeds(row["states"]), row["metrics"]) for title, row in rows.items()]
    blind = [
        (f"*{title}*", "", {key: interval_over_seeds([value]) for key, value in numbers.items() if value is not None})
        for title, numbers in table["blind"].items()
    ]
    differences = [
        (title, count_seeds(row["states"]), row["difference"]) for title, row in rows.items() if title != first
    ]
    seeds = max(len(row["states"]) for row in rows.values())
    parts = [
        f"# {table['title']}",
        f"Mean ± half width of the 95 % t interval over seeds (up to {seeds} a row). The rows in italics never look.",
        _grid(REPORT_METRICS, [*measured, *blind[:-1]]),
        "Does it look? The loss of the true report and its gaps in nats a token; chance of matching is 0.25.",
        _grid(LOOKING_METRICS, [*measured, *blind[-1:]]),
    ]
    if differences:
        parts += [f"Difference to {first}, seed by seed.", _grid(DIFFERENCES, differences)]
    parts += ["Cost of a run, training and evaluation.", _grid(COST_METRICS, measured)]
    failures = {name: error for row in rows.values() for name, error in row["failures"].items()}
    if failures:
        parts += ["Failed runs:", "\n".join(f"- `{name}`: {error}" for name, error in failures.items())]
    return "\n\n".join(parts) + "\n"


def count_seeds(states: Sequence[str]) -> str:
    """`3`, `2 of 3`, `failed` or `not run`, with the failures beside what finished."""
    finished, failed = states.count("finished"), states.count("failed")
    if finished == len(states):
        return str(finished)
    if finished == failed == 0:
        return "not run"
    told = [f"{finished} of {len(states)}"] * bool(finished) + [f"{failed} failed"] * bool(failed)
    return ", ".join(told)


def _grid(columns: dict[str, str], lines: Sequence[tuple[str, str, dict]]) -> str:
    rows = [["", "seeds", *columns.values()], ["---"] + ["---:"] * (len(columns) + 1)]
    rows += [[title, seeds, *(_cell(key, metrics) for key in columns)] for title, seeds, metrics in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(key: str, metrics: dict[str, dict]) -> str:
    if key not in metrics:
        return "-"
    digits = 1 if key in ONE_DECIMAL else 3
    estimate = metrics[key]
    spread = "" if estimate["half_width"] is None else f" ± {estimate['half_width']:.{digits}f}"
    return f"{estimate['mean']:.{digits}f}{spread}"


def format_csv(name: str, table: dict) -> list[list]:
    """A table of [`summarise`] as lines of a CSV, a number a line; a row that was not run has one line without any."""
    heading = ["table", "row", "seeds", "metric", "mean", "half_width", "n", "difference", "difference_half_width"]
    lines = [heading]
    for title, row in table["rows"].items():
        seeds = count_seeds(row["states"])
        if not row["metrics"]:
            lines.append([name, title, seeds, *[""] * 6])
        for key, of in row["metrics"].items():
            difference = row["difference"].get(key, {"mean": "", "half_width": ""})
            numbers = [of["mean"], of["half_width"], of["n"], difference["mean"], difference["half_width"]]
            lines.append([name, title, seeds, key, *("" if number is None else number for number in numbers)])
    for title, numbers in table["blind"].items():
        lines += [[name, title, "", key, value, "", "", "", ""] for key, value in numbers.items() if value is not None]
    return lines
