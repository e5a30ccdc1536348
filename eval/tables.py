"""Writes tables as Markdown, as CSV and for the terminal: their cells, and the lines below a table."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.whole_files import write_whole


def format_markdown(lines: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """
    A table as Markdown; its first line is the heading. All columns after the first `text_columns` align right.

    Cells may hold Markdown: pass text of a model through [`~ct_rate_pairs.shown_text.for_markdown`] before.
    """
    heading, *rows = [[for_terminal(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    rules = ["---" if place < text_columns else "---:" for place in range(len(heading))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heading, rules, *rows))


def write_markdown(lines: Sequence[Sequence[str]], path: str | Path) -> None:
    """Writes a table as Markdown."""
    write_whole(path, format_markdown(lines))


def write_csv(lines: Sequence[Sequence], path: str | Path) -> None:
    """Writes a table as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    write_whole(path, text.getvalue())


def write_table(results: Mapping[str, Mapping], lines: Sequence[Sequence[str]], out: Path) -> None:
    """Writes `results.json` and `table.md` to the folder `out`, and prints the table."""
    write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    write_markdown(lines, out / "table.md")
    print("", (out / "table.md").read_text(), f"written to {out}", sep="\n")


def format_value(value: float | int | None, bounds: Sequence[float] | None = None, digits: int = 3) -> str:
    """A number and its interval, if there is one: `0.500 [0.400, 0.600]`. `None` gives `-`; integers stay integers."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" + (f" [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]" if bounds else "")


def format_number(numbers: Mapping, key: str, digits: int = 3) -> str:
    """The cell of `numbers[key]`, with the interval `numbers[f"{key}_ci"]` if there is one."""
    return format_value(numbers[key], numbers.get(f"{key}_ci"), digits)


# Column titles of the table, and the key of `results.json` that each column shows.
COLUMNS = {
    "scans": "n",
    "Coverage": "coverage",
    "Precision": "precision_micro",
    "F1 micro": "f1_micro",
    "Accuracy": "accuracy",
    "CRG": "crg",
    "side": "side_accuracy",
    "lobe": "lobe_accuracy",
    "BLEU-1": "bleu1",
    "BLEU-4": "bleu4",
    "ROUGE-L": "rouge_l",
    "loss gap": "loss_gap",
    "cut": "cut",  # reports that met the limit of tokens before their end
}


def format_table(rows: dict[str, dict]) -> str:
    """
    The table for the terminal: one line per row, for the model and for each trivial report.

    Args:
        rows (`dict[str, dict]`):
            Maps the name of a row to its numbers, as [`~ct_rate_pairs.eval.score_reports`] gives them; `loss_gap`, in
            nats per token, may be added.

    Returns:
        `str`: the table, with `-` where a row lacks a number; the column `cut` is there only if a row has this number.
        A line below names the labeler and the recipe, and for a model at an endpoint the form of the slices. A further
        line per row tells how many of its reports could not be read, if there are any.
    """
    counted = any("cut" in numbers for numbers in rows.values())
    columns = {title: key for title, key in COLUMNS.items() if counted or key != "cut"}
    cells = [["", *columns]]
    for name, numbers in rows.items():
        values = [numbers.get(key) for key in columns.values()]
        cells.append([name, *map(format_value, values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    made_with = ("labels", "labeler", "recipe", "slices_as", "mm_per_second")
    named = {f"{key}: {numbers[key]}" for numbers in rows.values() for key in made_with if key in numbers}
    unread = filter(None, (format_unread(name, numbers) for name, numbers in rows.items()))
    return "\n".join([*lines, ", ".join(sorted(named)), *unread])


def format_unread(name: str, numbers: Mapping) -> str:
    """A line with the numbers of the row's reports that are empty or in another language; empty if there are none."""
    kinds = {"empty_predictions": "hold no text", "foreign_predictions": "are in a language that is not read"}
    told = [f"{numbers[key]} {words}" for key, words in kinds.items() if numbers.get(key)]
    if not told:
        return ""
    return f"Of the {numbers['n']} reports of {name}, {' and '.join(told)}. They count as reports without a finding."


def format_prompt_only(results: Mapping[str, Mapping]) -> str:
    """
    One line that warns if the prompts alone nearly reach the F1 micro of the model; empty otherwise. They do if theirs
    is in the interval of the model's or above it, or without an interval not below the model's.

    Args:
        results (`Mapping[str, Mapping]`):
            The contents of `results.json`.
    """
    model, prompts = results["model"], results.get("prompt_only", {})
    alone = prompts.get("f1_micro")
    if alone is None or model.get("f1_micro") is None:
        return ""
    low, _ = model.get("f1_micro_ci") or (model["f1_micro"], None)
    if alone < low:
        return ""
    told = ", ".join(name.replace("_", " ") for name in prompts["prompt_metadata"])
    return (
        f"What the prompts tell ({told}) gives an F1 micro of {alone:.3f} without any scan, and how common each "
        f"finding is gives {format_value(prompts['f1_micro_common'])} without either. The model's is "
        f"{model['f1_micro']:.3f}: its findings need not come from the scan."
    )


def format_intervals(model: dict) -> str:
    """One line with the bootstrap intervals of the table's columns, for the row `model` of `results.json`."""
    told = [
        f"{title} {bounds[0]:.3f} to {bounds[1]:.3f}"
        for title, key in COLUMNS.items()
        if (bounds := model.get(f"{key}_ci"))
    ]
    return f"{model['ci_level']:.0%} intervals of model, by patient: {', '.join(told)}" if told else ""


def format_places(model: dict) -> str:
    """One line with the places of the row `model` of `results.json`, and how many; empty without this measurement."""
    if "side_accuracy" not in model:  # a result of an earlier release
        return ""
    told = [
        f"{of} {format_number(model, f'{key}_accuracy')} of {model[f'{key}s']}"
        f" (most common: {format_value(model.get(f'{key}_accuracy_common'))})"
        for of, key in (("right side", "side"), ("right lobes", "lobe"))
    ]
    return f"places of {model['stated_by_both']} findings that report and reference both state: {', '.join(told)}"


# Titles of the numbers of an operating curve.
CURVE_COLUMNS = {
    "coverage": "Coverage",
    "precision_micro": "Precision",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
}


def format_lines(model: dict) -> str:
    """
    The scores of the findings lines of the row `model` of `results.json`, of their probabilities, and the operating
    curve; empty if there are none.
    """
    if "line_malformed" not in model:
        return ""
    titles = {"line_coverage": "Coverage", "line_precision_micro": "Precision", "line_f1_micro": "F1 micro"}
    told = [f"{title} {format_number(model, key)}" for key, title in titles.items()]
    lines = [
        f"findings lines: {', '.join(told)}; reports that state just the labels of their line "
        f"{format_number(model, 'line_agreement')}; without a line or malformed {model['line_malformed']} of "
        f"{model['n']}"
    ]
    if "line_side" in model:
        lines.append(
            f"sides of the lines: right {format_number(model, 'line_side')} of {model['line_sides']} (most common: "
            f"{format_number(model, 'line_side_common')}); the same in the report "
            f"{format_number(model, 'line_side_followed')} of {model['line_sides_placed']}"
        )
    if "operating_point" in model:
        lines.append(
            f"set at the operating point {model['operating_point']}; reports that follow their line "
            f"{format_number(model, 'line_followed')}"
        )
    if "line_auroc" in model:
        titles = {"line_auroc": "AUROC", "line_brier": "Brier", "line_brier_ratio": "of the prevalence's"}
        told = [f"{title} {format_number(model, key)}" for key, title in titles.items()]
        kind = "calibrated on validation scans" if model["line_calibrated"] else "not calibrated, so without a curve"
        lines.append(
            f"probabilities of the lines, {kind}: {', '.join(told)}; calibration error "
            f"{format_number(model, 'line_ece')} (by chance alone: {format_number(model, 'line_ece_by_chance')}); "
            f"unknown for {model['line_unknown']} of {model['n']}"
        )
    for point, scores in model.get("operating_curve", {}).items():
        told = ", ".join(f"{title} {format_number(scores, key)}" for key, title in CURVE_COLUMNS.items())
        lines.append(f"  lines at {point if point == 'f1' else f'sensitivity {point}'}: {told}")
    return "\n".join(lines)


def format_label_head(model: dict) -> str:
    """The probabilities of the label head, as one line; empty if there is no head."""
    if "label_head_auroc" not in model:
        return ""
    titles = {"auroc": "AUROC", "brier_ratio": "Brier, of the prevalence's", "ece": "calibration error"}
    told = [f"{title} {format_number(model, f'label_head_{key}')}" for key, title in titles.items()]
    return f"probabilities of the label head, not calibrated: {', '.join(told)}"


def format_looking(model: dict) -> str:
    """
    Whether the model looks, one line per measurement: Coverage with other volumes, loss gaps, report matching.

    Args:
        model (`dict`):
            The row `model` of `results.json`.

    Returns:
        `str`: the lines; an empty string if nothing was measured.
    """
    lines = []
    if change := model.get("coverage_change_shuffled"):
        lines.append(
            f"Coverage with other patients' volumes: {change['first']:.3f} -> {change['second']:.3f}, "
            f"{change['difference']:+.3f}{_bounds(change['ci'])}, p {change['p']:.3f}"
        )
    gaps = {kind: format_number(model, key) for kind in VOLUMES if (key := f"loss_gap{suffix_of(kind)}") in model}
    if gaps:
        told = ", ".join(f"{title} {gap}" for title, gap in gaps.items())
        lines.append(f"loss gap of the true report, nats per token: {told}")
    for difficulty, scores in model.get("matching", {}).items():
        lines.append(
            f"report matching, {difficulty}, 1 of {scores['num_options']}: Top-1 {scores['top1']:.2f}"
            f"{_bounds(scores.get('top1_ci'))}, by mutual information {scores['top1_pmi']:.2f}"
            f"{_bounds(scores.get('top1_pmi_ci'))}; chance {scores['top1_chance']:.2f}, text alone "
            f"{scores['top1_text_only']:.2f}"
        )
    return "\n".join(lines)


def _bounds(ci: list[float] | None) -> str:
    """An interval behind its number; an empty string for none."""
    return f" [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else ""


# Names of the metrics in the paper's table 1, and their keys in `results.json`.
PAPER_METRICS = {
    "BLEU_1": "bleu1",
    "BLEU_4": "bleu4",
    "ROUGE_L": "rouge_l",
    "Coverage": "coverage",
    "Accuracy": "accuracy",
}
# Reports that could not be read, and count as reports without a finding.
UNREAD = {"empty reports": "empty_predictions", "not read": "foreign_predictions"}
TRIVIAL = ("all_negative", "most_common", "all_positive")


OTHER_SCANS = (
    "Give all runs the same split and `target`. If a run lacks the reports of some scans, measure the others without "
    "these: evaluate --predictions OTHER_RUN/predictions.jsonl --scans_of RUN, and evaluate-matcher --scans_of RUN."
)


def check_same(rows: Mapping[str, Mapping], keys: Sequence[str]) -> None:
    """Raises a `ValueError` if the rows of some runs, by their names, differ in one of `keys`."""
    for key in keys:
        values = {name: row[key] for name, row in rows.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in values.items())
            remedy = OTHER_SCANS if key in ("n", "scans") else f"Measure all runs with the same `{key}`."
            raise ValueError(f"The runs differ in `{key}` ({told}), so their numbers cannot be compared. {remedy}")


def paper_table(runs: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """
    Sets runs side by side as the paper's table 1 does (section 8).

    Args:
        runs (`Mapping[str, Mapping[str, Mapping]]`):
            Maps the name of a run, such as `"Origin"`, to the contents of its `results.json`.

    Returns:
        `list[list[str]]`: the heading, then one line per metric: the metric's name, the value of each run with its
        interval if there is one, and the values of the trivial reports, which are the same for all runs of one split.
        If a run has reports that could not be read, their numbers follow.

    Raises:
        `ValueError`: if the runs were not measured on the same scans and references, by the same labeler and recipe.
    """
    models = {name: results["model"] for name, results in runs.items()}
    check_same(models, ("n", "scans", "labeler", "recipe"))
    first = next(iter(runs.values()))
    lines = [["", *models, *TRIVIAL]]
    for title, key in PAPER_METRICS.items():
        cells = [format_number(model, key, digits=4) for model in models.values()]
        lines.append([title, *cells, *(format_value(first[name][key], digits=4) for name in TRIVIAL)])
    for title, key in UNREAD.items():
        if any(model.get(key) for model in models.values()):
            numbers = [*models.values(), *(first[name] for name in TRIVIAL)]
            lines.append([title, *(format_value(row.get(key)) for row in numbers)])
    return lines
