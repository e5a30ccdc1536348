"""
Metrics of RadEval (Xu et al., 2025, arXiv:2509.18030), beside those of this package and on the same reports.

RadEval is called as it is installed, and its version stands in the result: other versions give other numbers. Its
metrics that send reports to somebody's language model, or run code of a repository, are not offered here.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from datasets import Dataset

from ct_rate_pairs.eval.rows import references_of, select_volumes
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.whole_files import write_whole

from .baselines import all_negative_report, most_common_report


FILE = "radeval.json"


def radeval_scores(
    metrics: Sequence[str],
    predictions: Mapping[str, str],
    scans: Dataset,
    train_reports: Sequence[str],
    train_labels: Sequence[Sequence[int]],
) -> dict:
    """
    Scores reports by metrics of RadEval, and beside them two trivial reports, which are written without looking.

    Args:
        metrics (`Sequence[str]`):
            Names of RadEval, such as `"bleu"`, `"radgraph"`, `"ratescore"` and `"f1radbert_ct"`. All but `"bleu"` and
            `"rouge"` need weights, which RadEval takes from the cache of the Hub, or from the Hub.
        predictions (`Mapping[str, str]`):
            Maps each VolumeName to its generated report.
        scans ([`~datasets.Dataset`]):
            Rows of the split that holds these volumes. No volume is read.
        train_reports (`Sequence[str]`), train_labels (`Sequence[Sequence[int]]`):
            Reports and labels (18 each) of the training split, from which the trivial reports come.

    Returns:
        `dict`: `radeval` (its version), `scans` (their number), and for `model`, `all_negative` and `most_common` the
        numbers of each metric, by RadEval's own names.

    Raises:
        `ImportError`: if RadEval, or what one of the metrics needs, is not installed.
        `OSError`: if the weights of a metric are neither here nor on the Hub. The message names the metric.
    """
    try:
        from radeval import RadEval  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ImportError(f"--radeval needs RadEval ({error}): pip install radeval.") from error
    volumes, references, _ = references_of(select_volumes(scans, predictions))
    texts = {
        "model": [predictions[volume] for volume in volumes],
        "all_negative": [all_negative_report(train_reports, train_labels)] * len(volumes),
        "most_common": [most_common_report(train_reports)] * len(volumes),
    }
    scores: dict[str, dict] = {row: {} for row in texts}
    for name in metrics:
        try:
            metric = RadEval(metrics=[name], show_progress=False)
        except OSError as error:
            raise OSError(
                f"--radeval {name}: its weights cannot be loaded. Download them first, or leave this metric out. "
                f"({error})"
            ) from error
        for row, reports in texts.items():
            scores[row] |= metric(refs=list(references), hyps=reports)
    return {"radeval": version("radeval"), "scans": len(volumes), **scores}


def write_radeval(scores: dict, out: str | Path) -> str:
    """Writes the scores to `radeval.json` of a folder, and returns them as a table."""
    write_whole(Path(out, FILE), to_json(scores, indent=2) + "\n")
    rows = {row: numbers for row, numbers in scores.items() if isinstance(numbers, dict)}
    title = f"RadEval {scores['radeval']}, {scores['scans']} scans"
    width = max(map(len, [title, *rows["model"]]))
    lines = [title.ljust(width) + "".join(f"{row:>14}" for row in rows)]
    for name in rows["model"]:
        lines.append(name.ljust(width) + "".join(f"{rows[row][name]:>14.3f}" for row in rows))
    return "\n".join(lines)
