"""The tables of a study as Markdown, CSV and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.eval.tables import TRIVIAL, format_markdown, format_value, write_csv
from ct_rate_pairs.whole_files import write_whole

from .results import (
    COMMON_METRICS,
    COST_METRICS,
    CUT,
    LABEL_HEAD_METRICS,
    LINE_METRICS,
    LINE_SIDE_METRICS,
    LOOKING_METRICS,
    MASK_METRICS,
    MASK_TRIVIAL,
    PLACE_METRICS,
    REPORT_METRICS,
    interval_over_seeds,
)


ONE_DECIMAL = ("words", *COST_METRICS)
COMMON_PLACES = (
    " Columns in italics do not look either: each finding that a row places gets its commonest side and lobes of the "
    "training reports."
)
LOOKING_DIFFERENCES = {key: LOOKING_METRICS[key] for key in ("top1", "loss_gap_shuffled", "words")}


def write_tables(summary: dict[str, dict], out: str | Path) -> None:
    """
    Writes `NAME.md`, `NAME.csv` and `NAME.json` for each table. `NAME.json` holds the complete summary.

    Args:
        summary (`dict`):
            Summary of a study, from [`~ct_rate_pairs.eval.study.results.summarise`].
        out (`str` or `Path`):
            Folder to write to.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in summary.items():
        write_whole(out / f"{name}.json", json.dumps(table, indent=2) + "\n")
        write_whole(out / f"{name}.md", format_summary(table))
        write_csv(format_csv(name, table), out / f"{name}.csv")


def format_summary(table: dict) -> str:
    """One table of a summary as Markdown: scores of reports, measures of looking, differences, costs, failures."""
    rows = table["rows"]
    first = next(iter(rows))
    measured = [(title, count_seeds(row["states"]), row["metrics"]) for title, row in rows.items()]
    differences = [
        (title, count_seeds(row["states"]), row["difference"]) for title, row in rows.items() if title != first
    ]
    # Runs of earlier releases have no places. Without those of the first row, there is nothing to compare with.
    placed = {key: title for key, title in PLACE_METRICS.items() if key in measured[0][2]}
    common = {key: title for key, title in COMMON_METRICS.items() if key in measured[0][2]}
    seeds = max(len(row["states"]) for row in rows.values())
    parts = [
        f"# {table['title']}",
        f"Mean ± half width of the 95 % t interval over seeds (up to {seeds} per row). Rows in italics never look."
        + COMMON_PLACES * bool(common),
        _grid(REPORT_METRICS | placed | common, [*measured, *_blind(table, TRIVIAL)]),
        "Does it look? The loss of the true report and its gaps in nats per token; chance of matching is 0.25.",
        _grid(LOOKING_METRICS, [*measured, *_blind(table, ["references"])]),
    ]
    if lined := [line for line in measured if LINE_METRICS.keys() & line[2].keys()]:
        known = {key for _, _, metrics in lined for key in metrics}  # runs of earlier releases lack some
        columns = {key: title for key, title in (LINE_METRICS | LINE_SIDE_METRICS).items() if key in known}
        parts += ["The findings line itself, and its probabilities of the 18 labels.", _grid(columns, lined)]
    if headed := [line for line in measured if LABEL_HEAD_METRICS.keys() & line[2].keys()]:
        parts += ["The probabilities of the label head, without calibration.", _grid(LABEL_HEAD_METRICS, headed)]
    if masked := [line for line in measured if MASK_METRICS.keys() & line[2].keys()]:
        masked += _blind(table, MASK_TRIVIAL)
        parts += ["The masks of the mask head, as means over the findings.", _grid(MASK_METRICS, masked)]
    if differences:
        parts += [
            f"Difference to {first}, seed by seed.",
            _grid(REPORT_METRICS | placed | LOOKING_DIFFERENCES, differences),
        ]
    parts += ["Cost of a run, training and evaluation.", _grid(COST_METRICS, measured)]
    cut = [f"{title} {metrics[CUT]['mean']:.1%}" for title, _, metrics in measured if CUT in metrics]
    if any(metrics[CUT]["mean"] > 0 for _, _, metrics in measured if CUT in metrics):
        parts += [f"Reports cut at their limit of tokens, and measured as they are: {', '.join(cut)}."]
    failures = {name: error for row in rows.values() for name, error in row["failures"].items()}
    if failures:
        parts += ["Failed runs:", "\n".join(f"- `{name}`: {error}" for name, error in failures.items())]
    return "\n\n".join(parts) + "\n"


def _blind(table: dict, names: Sequence[str]) -> list[tuple[str, str, dict]]:
    """Lines of a grid that need no look at a scan. What the records of earlier releases do not tell is not known."""
    return [
        (
            f"*{name}*",
            "",
            {key: interval_over_seeds([value]) for key, value in numbers.items() if value is not None},
        )
        for name in names
        for numbers in [table["blind"].get(name, {})]
    ]


def count_seeds(states: Sequence[str]) -> str:
    """The number of finished runs, such as `3`, `2 of 3`, `2 of 3, 1 failed`, `3 failed` or `not run`."""
    finished, failed = states.count("finished"), states.count("failed")
    if finished == len(states):
        return str(finished)
    if finished == failed == 0:
        return "not run"
    told = [f"{finished} of {len(states)}"] * bool(finished) + [f"{failed} failed"] * bool(failed)
    return ", ".join(told)


def _grid(columns: dict[str, str], lines: Sequence[tuple[str, str, dict]]) -> str:
    """A Markdown table with one line per row: title, number of seeds, and the metrics of `columns`."""
    rows = [[title, seeds, *(_cell(key, metrics) for key in columns)] for title, seeds, metrics in lines]
    return format_markdown([["", "seeds", *columns.values()], *rows]).rstrip()


def _cell(key: str, metrics: dict[str, dict]) -> str:
    """Mean and half width of a metric; `-` if it was not measured."""
    digits = 1 if key in ONE_DECIMAL else 3
    estimate = metrics.get(key, {"mean": None, "half_width": None})
    spread = "" if estimate["half_width"] is None else f" ± {estimate['half_width']:.{digits}f}"
    return format_value(estimate["mean"], digits=digits) + spread


def format_csv(name: str, table: dict) -> list[list]:
    """One table of a summary as lines of a CSV, one number per line; a row without results has one empty line."""
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
