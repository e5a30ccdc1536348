"""Reads what the runs of a study measured, and computes means and intervals over seeds."""

from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.predictions.store import read_predictions
from ct_rate_pairs.eval.tables import PAPER_METRICS, TRIVIAL
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.evaluation import Gaps, Results
from ct_rate_pairs.json_schemas.run import LossHistory
from ct_rate_pairs.trainer.run_record import read_run

from .plan import T_QUANTILES, Run, Study, run_folder


# Keys of the numbers, and the titles of their columns. The first table shows the paper's five metrics, and F1.
REPORT_METRICS = {key: title.replace("_", "-") for title, key in PAPER_METRICS.items()} | {
    "precision_micro": "Precision",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
}
PLACE_METRICS = {"side_accuracy": "Side", "lobe_accuracy": "Lobe", "nodule_coverage": "Coverage of nodules"}
COMMON_METRICS = {"side_accuracy_common": "*Side, commonest*", "lobe_accuracy_common": "*Lobe, commonest*"}
MASK_METRICS = {"mask_dice": "Dice", "mask_met": "met", "mask_pointed": "pointed", "mask_auroc": "AUROC"}
LINE_METRICS = {  # of the findings line
    "line_coverage": "Coverage",
    "line_precision_micro": "Precision",
    "line_f1_micro": "F1 micro",
    "line_f1_macro": "F1 macro",
    "line_auroc": "AUROC",
    "line_brier_ratio": "Brier / prevalence's",
    "line_ece": "calibration error",
    "line_ece_by_chance": "*error by chance*",
    "line_agreement": "report agrees",
}
LINE_SIDE_METRICS = {  # of lines with sides
    "line_side": "Side",
    "line_side_common": "*Side, commonest*",
    "line_side_followed": "report has the side",
}
LABEL_HEAD_METRICS = {
    "label_head_auroc": "AUROC",
    "label_head_brier_ratio": "Brier / prevalence's",
    "label_head_ece": "calibration error",
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
    "words": "words per report",
}
COST_METRICS = {"minutes": "minutes", "cpu_minutes": "CPU minutes", "peak_gib": "peak GiB"}
MASK_TRIVIAL = ("atlas", "empty")  # masks that need no scan
CUT = "cut_share"  # share of the reports that met their limit of tokens before their end
METRICS = (
    REPORT_METRICS
    | PLACE_METRICS
    | COMMON_METRICS
    | MASK_METRICS
    | LINE_METRICS
    | LINE_SIDE_METRICS
    | LABEL_HEAD_METRICS
    | LOOKING_METRICS
    | COST_METRICS
    | {CUT: "reports cut"}
)


class Outcome(NamedTuple):
    """The outcome of a run."""

    state: str  # finished, failed or not run
    numbers: dict[str, float]  # its keys are those of `METRICS`; empty unless finished
    blind: dict[str, dict]  # the same numbers for trivial reports, trivial masks and the references
    record: dict  # `run.yaml`: numbers, commit, machine, time, error


def is_finished(folder: Path, run: Run, cohort: dict) -> bool:
    """Whether the folder holds this run, with the same settings and cohort, and the run is finished."""
    record = read_record(folder)
    return (record.get("settings"), record.get("cohort"), record.get("state")) == (run.settings, cohort, "finished")


def read_outcome(folder: Path, run: Run, cohort: dict) -> Outcome:
    """The outcome in the folder of a run. A run with other settings or on another cohort counts as not run."""
    record = read_record(folder)
    if (record.get("settings"), record.get("cohort")) != (run.settings, cohort):
        return Outcome("not run", {}, {}, {})
    if record["state"] == "failed":
        return Outcome("failed", {}, {}, record)
    costs = {key: record[key] for key in COST_METRICS}
    return Outcome("finished", record["numbers"] | costs, record["blind"], record)


def read_numbers(folder: Path) -> dict[str, dict]:
    """
    What a finished run measured, for its record: `numbers`, and `blind`, the same for the trivial reports, the trivial
    masks and the references. With them, the record alone gives the tables, and can be kept where the folder is too
    large.
    """
    results = read_json(folder / "results.json", Results)
    model, reports = results["model"], read_predictions(folder / "predictions.jsonl").values()
    numbers = {key: model[key] for key in METRICS if key in model}
    numbers["words"] = fmean(len(report.split()) for report in reports)
    if "shuffled" in results:
        numbers["coverage_shuffled"] = results["shuffled"]["coverage"]
    if "random" in model.get("matching", {}):
        numbers |= {key: model["matching"]["random"][key] for key in ("top1", "top1_pmi")}
    numbers["nodule_coverage"] = _nodule_coverage(model)
    of_reports = [key for key in REPORT_METRICS | PLACE_METRICS if key != "nodule_coverage"]
    blind = {
        name: {key: results[name][key] for key in of_reports} | {"nodule_coverage": _nodule_coverage(results[name])}
        for name in TRIVIAL
    }
    if (folder / "masks.json").is_file():
        masks = read_json(folder / "masks.json")
        numbers |= _mask_numbers(masks["model"])
        blind |= {name: _mask_numbers(masks[name]) for name in MASK_TRIVIAL}
    blind["references"] = {"unique_report_ratio": model["reference_unique_report_ratio"]}
    return {"numbers": {key: value for key, value in numbers.items() if value is not None}, "blind": blind}


def _nodule_coverage(row: dict) -> float | None:
    return row["per_label"]["Lung nodule"]["coverage"]


def _mask_numbers(way: dict) -> dict[str, float | None]:
    """The numbers of a way to make masks, by the keys of `MASK_METRICS`."""
    return {key: way[key.removeprefix("mask_")] for key in MASK_METRICS}


def read_record(folder: Path) -> dict:
    """The record that `recipes/study.py` writes for a run: state, settings, numbers, commit, machine and time."""
    return read_run(folder)


def read_losses(folder: Path) -> list[dict]:
    """The `log_history` of a finished run."""
    return read_json(folder / "trainer_state.json", LossHistory)["log_history"]


def read_gaps(folder: Path) -> dict[str, list[float]]:
    """Loss gaps of each report in nats per token, by the kind of the other volume (`shuffled`, `noise`, ...)."""
    gaps = read_json(folder / "looking.json", Gaps)["gaps"]
    kinds = [kind for kind in VOLUMES if kind != "negative"]  # the kind of negative differs from run to run
    return {kind: gaps[key] for kind in kinds if (key := f"pair_gaps{suffix_of(kind)}") in gaps}


def interval_over_seeds(values: Sequence[float]) -> dict[str, float | int | None]:
    r"""
    Mean over seeds, and the half width of its 95 % interval by Student's t distribution.

    The interval is \\(\bar x \pm t_{.975, n-1} \, s / \sqrt{n}\\), with \\(s\\) the sample standard deviation. It
    covers the variation over seeds (initial weights, order of the scans, negatives) on the same held-out scans. With
    three seeds, \\(t = 4.30\\): the intervals are wide, and may exceed the range of a metric.

    Args:
        values (`Sequence[float]`):
            One value per seed, at most ten.

    Returns:
        `dict`: `mean`, `half_width` (`None` for one seed) and `n`.
    """
    n = len(values)
    half_width = T_QUANTILES[n - 2] * stdev(values) / sqrt(n) if n > 1 else None
    return {"mean": fmean(values), "half_width": half_width, "n": n}


def summarise(study: Study, out: str | Path) -> dict[str, dict]:
    """
    Collects what the runs in the folder `out` measured.

    Returns:
        `dict`: for each table `title`, `rows` and `blind`. `rows` maps the title of a row to:

        - `states`, `runs`: states and names of the runs, in the order of the seeds.
        - `metrics`: maps a metric to [`interval_over_seeds`].
        - `difference`: the same for the difference to the table's first row, computed per seed.
        - `failures`: maps the name of a failed run to its error.
        - `commits`, `machines`: the commits and machines of the runs.

        `blind` holds the metrics of the trivial reports, of the trivial masks and of the references.
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
        summary[name] = {"title": table.title, "rows": rows, "blind": _blind(everything)}
    return summary


def _blind(outcomes: Iterable[Outcome]) -> dict[str, dict]:
    """
    The numbers that need no look at a scan. They do not depend on seed or settings, so the first run that has a number
    gives it: not every run has masks, and runs of earlier releases have fewer numbers.
    """
    blind: dict[str, dict] = {}
    for outcome in outcomes:
        for name, numbers in outcome.blind.items():
            blind[name] = numbers | blind.get(name, {})
    return blind


def _difference(of: Outcome, to: Outcome) -> dict[str, float]:
    """The numbers of one run less those of another."""
    return {key: value - to.numbers[key] for key, value in of.numbers.items() if key in to.numbers}


def _over_seeds(runs: Iterable[dict[str, float]]) -> dict[str, dict]:
    """Maps each metric to [`interval_over_seeds`], from the numbers of the runs of a row."""
    runs = list(runs)
    values = {key: [run[key] for run in runs if key in run] for key in METRICS}
    return {key: interval_over_seeds(of) for key, of in values.items() if of}
