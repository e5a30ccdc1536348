"""The paper's table 1 from results files: runs side by side, and beside them what a report written blind gets."""

from collections.abc import Mapping


# Name in the paper's table 1 -> key in `results.json`.
PAPER_METRICS = {
    "BLEU_1": "bleu1",
    "BLEU_4": "bleu4",
    "ROUGE_L": "rouge_l",
    "Coverage": "coverage",
    "Accuracy": "accuracy",
}
TRIVIAL = ("all_negative", "most_common", "all_positive")


def paper_table(runs: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """
    Sets runs side by side as the paper's table 1 does (section 8).

    Args:
        runs (`Mapping[str, Mapping[str, Mapping]]`):
            Name of a run, such as `"Origin"`, to the contents of its `results.json`.

    Returns:
        `list[list[str]]`: the heading, then a line a metric: its name, each run's value with its interval where it has
        one, and the trivial rows' values, which are the same for all runs of one split.

    Raises:
        `ValueError`: if the runs were not measured on the same scans and references, by the same labeler and recipe.
    """
    models = {name: results["model"] for name, results in runs.items()}
    for key in ("n", "scans", "labeler", "recipe"):
        values = {name: model[key] for name, model in models.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in values.items())
            raise ValueError(
                f"The runs differ in `{key}` ({told}), so their numbers do not compare. Measure them alike."
            )
    first = next(iter(runs.values()))
    lines = [["", *models, *TRIVIAL]]
    for title, key in PAPER_METRICS.items():
        cells = [_cell(model, key) for model in models.values()]
        lines.append([title, *cells, *(_cell(first[name], key, interval=False) for name in TRIVIAL)])
    return lines


def _cell(numbers: Mapping, key: str, interval: bool = True) -> str:
    if numbers[key] is None:
        return "-"
    bounds = numbers.get(f"{key}_ci") if interval else None
    return f"{numbers[key]:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")
