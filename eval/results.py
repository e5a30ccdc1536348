"""All numbers of a set of reports in one flat dict, and the table that sets a model beside the trivial rows."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.crg import crg
from ct_rate_pairs.eval.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.labeler import label_reports
from ct_rate_pairs.eval.text_metrics import text_scores
from ct_rate_pairs.labels import LABELS


# Column titles of the table and the keys they show.
COLUMNS = {
    "scans": "n",
    "Coverage": "coverage",
    "Precision": "precision_micro",
    "F1 micro": "f1_micro",
    "Accuracy": "accuracy",
    "CRG": "crg",
    "BLEU-1": "bleu1",
    "BLEU-4": "bleu4",
    "ROUGE-L": "rouge_l",
    "loss gap": "loss_gap",
}


def score_reports(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: np.ndarray,
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
    labeler: str = "rules",
    recipe: str = "lower",
    meteor: bool = False,
    bertscore_model: str | None = None,
) -> dict:
    """
    Scores generated reports against reference reports and the data set's own labels.

    Args:
        predictions (`Sequence[str]`):
            Generated reports.
        references (`Sequence[str]`):
            Reference reports, one a prediction: for the text metrics.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels in the official order: for all other numbers. They come from the data set and not from a
            labeler run over `references`, so a labeler's error on the reference cannot cancel its error on the
            prediction.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, from which the intervals take the patients.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.
        labeler (`str`, *optional*, defaults to `"rules"`):
            What reads the labels of `predictions`, see [`~ct_rate_pairs.eval.label_reports`].
        recipe (`str`, *optional*, defaults to `"lower"`), meteor (`bool`, *optional*, defaults to `False`), \
        bertscore_model (`str`, *optional*):
            See [`~ct_rate_pairs.eval.text_scores`].

    Returns:
        `dict`: the keys of [`~ct_rate_pairs.eval.coverage`], [`~ct_rate_pairs.eval.label_accuracy`],
        [`~ct_rate_pairs.eval.crg`] and [`~ct_rate_pairs.eval.text_scores`], `n` (the number of reports), and the names
        that belong to the numbers: `labeler` and `recipe`. Each row of `per_label` also holds the label's `coverage`.
        Ready for `json.dump`; a number without a meaning is `None`.

    Raises:
        `ValueError`: for no reports, unequal numbers of them, an empty reference, or labels of another shape or value.
    """
    stated = label_reports(predictions, labeler=labeler)
    by_patient = {"volumes": volumes, "ci": ci}
    covered = coverage(stated, labels, LABELS, **by_patient)
    agreement = label_accuracy(stated, labels, LABELS, **by_patient)
    return {
        **covered,
        **agreement,
        **crg(stated, labels, LABELS, **by_patient),
        **text_scores(predictions, references, recipe, meteor=meteor, bertscore_model=bertscore_model, **by_patient),
        "per_label": {name: {**covered["per_label"][name], **agreement["per_label"][name]} for name in LABELS},
        "n": len(predictions),
        "labeler": labeler,
    }


def format_table(rows: dict[str, dict]) -> str:
    """
    The terminal table: one line a row, a model's beside the trivial reports'.

    Args:
        rows (`dict[str, dict]`):
            Name of a row to its numbers, as [`score_reports`] gives them; `loss_gap` in nats a token where it is
            known.

    Returns:
        `str`: the table; `-` where a row has no such number. A last line names the labeler and the recipe.
    """
    cells = [["", *COLUMNS]]
    for name, numbers in rows.items():
        values = [numbers.get(key) for key in COLUMNS.values()]
        cells.append([name, *map(_cell, values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    named = {f"{key}: {numbers[key]}" for numbers in rows.values() for key in ("labeler", "recipe") if key in numbers}
    return "\n".join([*lines, ", ".join(sorted(named))])


def format_intervals(model: dict) -> str:
    """One line: the bootstrap intervals by patient of the row `model` of `results.json`, of the table's columns."""
    told = [
        f"{title} {bounds[0]:.3f} to {bounds[1]:.3f}"
        for title, key in COLUMNS.items()
        if (bounds := model.get(f"{key}_ci"))
    ]
    return f"{model['ci_level']:.0%} intervals of model, by patient: {', '.join(told)}" if told else ""


def format_looking(model: dict) -> str:
    """
    What was measured of looking, a line each: loss gaps, and report matching beside chance and the text alone.

    Args:
        model (`dict`):
            The row `model` of `results.json`.

    Returns:
        `str`: the lines; empty where nothing was measured.
    """
    lines = []
    if change := model.get("coverage_change_shuffled"):
        lines.append(
            f"Coverage with other patients' volumes: {change['first']:.3f} -> {change['second']:.3f}, "
            f"{change['difference']:+.3f}{_bounds(change['ci'])}, p {change['p']:.3f}"
        )
    gaps = {
        title: f"{model[f'loss_gap{suffix}']:.3f}{_bounds(model.get(f'loss_gap{suffix}_ci'))}"
        for title, suffix in (("negative", ""), ("noise", "_noise"), ("shuffled", "_shuffled"), ("blank", "_blank"))
        if f"loss_gap{suffix}" in model
    }
    if gaps:
        told = ", ".join(f"{title} {gap}" for title, gap in gaps.items())
        lines.append(f"loss gap of the true report, nats a token: {told}")
    for difficulty, scores in model.get("matching", {}).items():
        lines.append(
            f"report matching, {difficulty}, 1 of {scores['num_options']}: Top-1 {scores['top1']:.2f}"
            f"{_bounds(scores.get('top1_ci'))}, by mutual information {scores['top1_pmi']:.2f}"
            f"{_bounds(scores.get('top1_pmi_ci'))}; chance {scores['top1_chance']:.2f}, text alone "
            f"{scores['top1_text_only']:.2f}"
        )
    return "\n".join(lines)


def _bounds(ci: list[float] | None) -> str:
    return f" [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else ""


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
