"""The results in a model card: tables and lines from the contents of `results.json` and `confidence.json`."""

from pathlib import Path

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.tables import CURVE_COLUMNS, format_markdown, format_prompt_only, format_value
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.confidence import ConfidenceQuality

from .templates import read_template


# Keys of `results.json`, and the names of these rows in the table.
ROWS = {
    "model": "**this model**",
    "shuffled": "this model, volumes shuffled between patients",
    "prompt_only": "labels guessed from the prompt, without the scan",
    "all_negative": "all-negative report",
    "most_common": "most common training report",
    "all_positive": "all-positive report",
}
# Keys of the metrics, and their names in the table and in the metadata.
METRICS = {
    "coverage": "Coverage",
    "precision_micro": "Precision (micro)",
    "f1_micro": "F1 (micro)",
    "accuracy": "Accuracy",
    "crg": "CRG",
    "side_accuracy": "Side accuracy",
    "lobe_accuracy": "Lobe accuracy",
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "loss_gap": "Loss gap",
}
CONFIDENCE_ROWS = {
    "calibrated": "**calibrated**",
    "uncalibrated": "the model's own probabilities",
    "prevalence": "prevalence",
}
CONFIDENCE_COLUMNS = {
    "ece": "Calibration error",
    "brier": "Brier score",
    "nll": "Log-likelihood, negative (nats)",
}
WAY_COLUMNS = {
    "auroc": "mean AUROC",
    "brier": "Brier score",
    "brier_ratio": "share of the prevalence's",
    "ece": "calibration error",
}
MATCHING_COLUMNS = {
    "top1": "Top-1",
    "top1_pmi": "by mutual information",
    "top1_chance": "chance",
    "top1_text_only": "text alone",
}


def results_table(results: dict[str, dict]) -> str:
    """The table of results: the model, the model with shuffled volumes, and what never looks; `-` for no value."""
    rows = []
    for row, name in ROWS.items():
        if row in results:
            rows.append([name, *(format_value(results[row].get(key)) for key in METRICS)])
    return format_markdown([["", *METRICS.values()], *rows]).rstrip()


def prompt_only_text(results: dict[str, dict]) -> str:
    """A warning if the prompts alone nearly reach the model's scores; otherwise an empty string."""
    told = format_prompt_only(results)
    return f"\n**{told}**\n" if told else ""


def intervals_text(model: dict) -> str:
    """A line with the bootstrap intervals of the row `model`; an empty string without intervals."""
    told = [
        f"{name} {bounds[0]:.3f} to {bounds[1]:.3f}"
        for key, name in METRICS.items()
        if (bounds := model.get(f"{key}_ci"))
    ]
    return f"\n{model['ci_level']:.0%} intervals of this model, by patient: {', '.join(told)}.\n" if told else ""


def places_text(model: dict) -> str:
    """How many places the row `model` is measured on, and what needs no look; an empty string if not measured."""
    if "side_accuracy_common" not in model:
        return ""
    return (
        f"\nSide accuracy is measured on {model['sides']} findings, lobe accuracy on {model['lobes']}. Always the "
        f"most common place of the training reports would give {format_value(model['side_accuracy_common'])} and "
        f"{format_value(model['lobe_accuracy_common'])}.\n"
    )


def cut_text(model: dict) -> str:
    """How many reports of the row `model` are cut at the limit of tokens; an empty string if that is not known."""
    if "cut" not in model:
        return ""
    limit = f"the limit of {model['max_new_tokens']:,} tokens" if "max_new_tokens" in model else "the limit of tokens"
    if not model["cut"]:
        return f"\nNo report met {limit} before its end.\n"
    return (
        f"\n**{model['cut']} reports ({model['cut_share']:.1%}) met {limit} before their end.** They are cut, and "
        "measured as they are.\n"
    )


def looking_text(model: dict) -> str:
    """Loss gaps and report matching of the row `model`; an empty string if nothing was measured."""
    gaps = [
        [name, f"{model[f'loss_gap{suffix}']:.3f}", f"{model[f'gap_positive_share{suffix}']:.0%}"]
        for kind, name in VOLUMES.items()
        if f"gap_positive_share{(suffix := suffix_of(kind))}" in model
    ]
    matching = [
        [f"{difficulty}, 1 of {scores['num_options']}", *(f"{scores[key]:.2f}" for key in MATCHING_COLUMNS)]
        for difficulty, scores in model.get("matching", {}).items()
    ]
    text = ""
    if gaps:
        text += read_template("model_card_looking").format(
            gaps=format_markdown([["volume", "loss gap", "scans with a gap above 0"], *gaps]).rstrip()
        )
    if matching:
        text += read_template("model_card_matching").format(
            matching=format_markdown([["", *MATCHING_COLUMNS.values()], *matching]).rstrip()
        )
    return text


def lines_text(model: dict) -> str:
    """Probabilities and operating curve of the findings lines of the row `model`; empty if they were not measured."""
    if "line_auroc" not in model:
        return ""
    quality = ", ".join(f"{title} {format_value(model[f'line_{key}'])}" for key, title in WAY_COLUMNS.items())
    followed = ""
    if "operating_point" in model:
        followed = (
            f"\nThe lines of the results above were set at the operating point {model['operating_point']}. "
            f"{model['line_followed']:.1%} of the reports state just what their line says.\n"
        )
    curve = ""
    if "operating_curve" in model:
        rows = [
            [point if point == "f1" else f"sensitivity {point}", *(format_value(own[key]) for key in CURVE_COLUMNS)]
            for point, own in model["operating_curve"].items()
        ]
        table = format_markdown([["operating point", *CURVE_COLUMNS.values()], *rows]).rstrip()
        curve = read_template("model_card_curve").format(table=table)
    calibrated = "calibrated on validation scans" if model["line_calibrated"] else "as the model gives them"
    return read_template("model_card_lines").format(
        calibrated=calibrated, quality=quality, followed=followed, curve=curve
    )


def confidence_text(run_dir: Path) -> str:
    """The measured quality of the confidences in `confidence.json`; an empty string without this file."""
    if not (run_dir / "confidence.json").is_file():
        return ""
    measured = read_json(run_dir / "confidence.json", ConfidenceQuality)["measured"]
    rows = [
        [name, *(f"{measured[row][key]:.3f}" for key in CONFIDENCE_COLUMNS)] for row, name in CONFIDENCE_ROWS.items()
    ]
    text = read_template("model_card_confidence").format(
        n=measured["n"], table=format_markdown([["", *CONFIDENCE_COLUMNS.values()], *rows]).rstrip()
    )
    ways = measured.get("ways") or {}
    if len(ways) > 1:
        rows = [
            [way, *(format_value(own[key]) for key in WAY_COLUMNS), f"{own['seconds']:.2f}"]
            for way, own in ways.items()
        ]
        columns = ["", *WAY_COLUMNS.values(), "seconds per scan"]
        text += read_template("model_card_ways").format(
            way=min(ways, key=lambda way: ways[way]["brier"]), table=format_markdown([columns, *rows]).rstrip()
        )
    return text
