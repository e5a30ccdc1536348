"""The results in a model card: tables and lines from the contents of `results.json` and `confidence.json`."""

from pathlib import Path

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.tables import CURVE_COLUMNS, format_markdown, format_number, format_prompt_only, format_value
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.confidence import ConfidenceQuality
from ct_rate_pairs.json_schemas.domain import TrainingDomain

from .reporting.domain import FILE as DOMAIN
from .reporting.domain import Domain
from .templates import read_template


# Keys of `results.json`, and the names of their columns in the table: what looks at a scan, and what never does.
LOOKING = {"model": "**this model**", "shuffled": "shuffled"}
BLIND = {
    "prompt_only": "prompt alone",
    "all_negative": "deny all",
    "most_common": "most common",
    "all_positive": "state all",
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
CONFIDENCES = (
    " AUROC and calibration error\nare those of the confidences, on {n} scans of the validation split; the error by "
    "cross-validation over patients."
)
OTHER_POINTS = """
With `report("scan.nii.gz", operating_point="none")`, the model decides by itself what it states. It does so in
the code below, too, so that code writes other reports than those of the results.
"""
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
    """
    The table of results, a line for each metric: the model with its interval, the model with shuffled volumes, and
    what never looks. A metric without any value is left out; `-` stands for no value.
    """
    model, columns = results["model"], {key: name for key, name in (LOOKING | BLIND).items() if key in results}
    titles = list(columns.values())
    if "ci_level" in model:
        titles.insert(1, f"its {model['ci_level']:.0%} interval")
    lines = []
    for key, name in METRICS.items():
        if all(results[column].get(key) is None for column in columns):
            continue
        cells = [format_value(results[column].get(key)) for column in columns]
        if "ci_level" in model:
            bounds = model.get(f"{key}_ci")
            cells.insert(1, f"{bounds[0]:.3f}–{bounds[1]:.3f}" if bounds else "-")
        lines.append([name, *cells])
    return format_markdown([["", *titles], *lines]).rstrip()


def labels_text(model: dict, run_dir: Path) -> str:
    """A folded table of the 18 labels, with the figures of them that the run has; empty if they were not measured."""
    if "per_label" not in model:
        return ""
    known = read_quality(run_dir)
    confidences = known["per_label"] if known and known.get("per_label") else {}
    lines = []
    for label, own in model["per_label"].items():
        sure = confidences.get(label, {})
        keys = ((own, "support"), (own, "f1"), (own, "recall"), (own, "precision"), (sure, "auroc"), (sure, "ece"))
        lines.append([label, *(format_value(of.get(key)) for of, key in keys)])
    titles = ["", "scans with it", "F1", "recall", "precision", "AUROC", "calibration error"]
    if not confidences:
        titles, lines = titles[:-2], [line[:-2] for line in lines]
    shown = {"labels": "Recall and precision of each label", "reliability": "Calibration of each label"}
    figures = [
        f"![{title}](figures/{name}.png)\n"
        for name, title in shown.items()
        if (run_dir / "figures" / f"{name}.png").is_file()
    ]
    return read_template("model_card_labels").format(
        table=format_markdown([titles, *lines]).rstrip(),
        confidences=CONFIDENCES.format(n=known["n"]) if confidences else "",
        figures="\n".join(["", *figures]),
    )


def prompt_only_text(results: dict[str, dict]) -> str:
    """A warning if the prompts alone nearly reach the model's scores; otherwise an empty string."""
    told = format_prompt_only(results)
    return f"\n**{told}**\n" if told else ""


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
            f"\nThe lines of the results above were set at the operating point {model['operating_point']}, which is "
            "also the default of `report`. "
            f"{model['line_followed']:.1%} of the reports state just the labels of their line.\n"
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
        calibrated=calibrated, quality=quality, followed=followed, sides=line_sides_text(model), curve=curve
    )


def line_sides_text(model: dict) -> str:
    """How good the sides of the findings lines of the row `model` are; an empty string for lines without sides."""
    if "line_side" not in model:
        return ""
    return (
        f"\nOf {model['line_sides']} findings that line and reference both place, the share with the right side is "
        f"{format_number(model, 'line_side')}. Always the most common side of the training reports would give "
        f"{format_value(model['line_side_common'])}. Of {model['line_sides_placed']} findings that line and report "
        f"both place, the share with the same side is {format_number(model, 'line_side_followed')}.\n"
    )


def point_texts(model: dict) -> dict[str, str]:
    """
    For the card's code: the operating point of the row `model`, at which a reporter writes as well, and what lets the
    model decide. Empty if the model decided.
    """
    point = model.get("operating_point")
    return {
        "at_point": f", at the operating point {point} as in the results above" if point else "",
        "other_points": OTHER_POINTS if point else "",
    }


def read_quality(run_dir: Path) -> dict | None:
    """The measured quality of the confidences in `confidence.json`; `None` without this file."""
    path = run_dir / "confidence.json"
    return read_json(path, ConfidenceQuality)["measured"] if path.is_file() else None


def domain_text(run_dir: Path) -> str:
    """How the model tells scans that are unlike those of its training; an empty string without a `domain.json`."""
    path = run_dir / DOMAIN
    if not path.is_file():
        return ""
    domain = Domain(**read_json(path, TrainingDomain))
    told = "is refused" if domain.refuses else "is told in its report"
    return (
        f"- A scan that is unlike those of the training {told}. {len(domain.limits)} measures of a scan are compared\n"
        f"  with limits (`{DOMAIN}`), such as the size of its voxels and the share of lung in it. The limits are of\n"
        f"  {domain.n:,} scans of the validation split, of which {domain.false_alarms:.1%} are taken for others.\n"
    )


def confidence_text(run_dir: Path) -> str:
    """The measured quality of the confidences in `confidence.json`; an empty string without this file."""
    if (measured := read_quality(run_dir)) is None:
        return ""
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
