"""One table over runs of any kind: models trained here or elsewhere, files of reports, endpoints, dual encoders."""

from collections.abc import Mapping

from .tables import check_same, format_value


# Column titles, and the key of `results.json` that each column shows of a model that writes reports.
COLUMNS = {
    "scans": "n",
    "Coverage": "coverage",
    "Precision": "precision_micro",
    "F1 micro": "f1_micro",
    "CRG": "crg",
    "BLEU-1": "bleu1",
    "ROUGE-L": "rouge_l",
    "AUROC of labels": "line_auroc",
    "scan -> report, Recall@1": None,  # of dual encoders alone
}
TRIVIAL = ("all_negative", "most_common", "all_positive")


def model_table(runs: Mapping[str, Mapping]) -> list[list[str]]:
    """
    Sets runs side by side, one line per run.

    Args:
        runs (`Mapping[str, Mapping]`):
            Maps the name of a run to the contents of its `results.json`: of an evaluation of reports, or of a dual
            encoder, which writes none.

    Returns:
        `list[list[str]]`: the heading, a line per run, and those of the trivial reports. A number that a run does not
        have is `-`. The labels of a model that writes reports are the probabilities of its findings line. Those of a
        dual encoder are by the sentences of reports or, without these, by its prompts.

    Raises:
        `ValueError`: if the runs were not measured on the same scans and references, or their reports not by the same
            labeler and recipe.
    """
    rows = {name: _row(results) for name, results in runs.items()}
    check_same(rows, ("n", "scans"))
    reports = {name: results["model"] for name, results in runs.items() if "model" in results}
    check_same(reports, ("labeler", "recipe"))
    trivial = next((results for results in runs.values() if "model" in results), {})
    rows |= {name: trivial[name] for name in TRIVIAL if name in trivial}
    lines = [["", *COLUMNS]]
    for name, row in rows.items():
        cells = ((row.get(key), row.get(f"{key}_ci")) for key in map(_key, COLUMNS))
        lines.append([name, *(format_value(*cell) for cell in cells)])
    return lines


def _key(title: str) -> str:
    """The key of a row that a column shows."""
    return COLUMNS[title] or "recall_at_1"


def _row(results: Mapping) -> Mapping:
    """The numbers of a run, under the keys of a model that writes reports."""
    if "model" in results:
        return results["model"]
    labels = results["zero_shot_sentences"] or results["zero_shot"] or {}
    found = (results["retrieval"] or {}).get("image_to_text", {})
    named = {"line_auroc": labels.get("auroc_macro"), "line_auroc_ci": labels.get("auroc_macro_ci")}
    return {"n": results["n"], "scans": results["scans"], **named, **found}
