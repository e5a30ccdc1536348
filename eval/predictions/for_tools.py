"""
Reports and references in the files that other evaluation tools read:

- RadEval: JSON lines of `ref` and `hyp` (`docs/file_formats.md` of jbdel/RadEval at 6d2cc58e).
- RadMatch: two folders of `NAME.txt`, paired by name (`README.md` of raidium-med/RadMatch at 1378ab49).
- the report track of the VLM3D challenge: predictions, reference reports and labels, as the code of its container
  reads them (`src/nlg_metrics.py`, `src/calc_scores.py` and `src/crg_score.py` in `ct_challenges/reportgen_evaluation`
  of forithmus/VLM3D-Dockers at a9459009; `reportgen_evaluation/src/infer.py` at c73fe073). `ground_truth.json` is an
  object with a list `generated_reports`, as in the `test` folder there, though the README beside it says "array".

These files hold the reference reports. Those of CT-RATE must not be passed on.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from ct_rate_pairs.eval.rows import references_of, select_volumes
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.whole_files import write_whole


def write_for_tools(
    tools: Sequence[str], predictions: Mapping[str, str], scans: Dataset, out: str | Path
) -> list[Path]:
    """
    Writes the files of each tool to a folder of its name.

    Args:
        tools (`Sequence[str]`):
            Names among `TOOLS`.
        predictions (`Mapping[str, str]`):
            Maps each VolumeName to its generated report.
        scans ([`~datasets.Dataset`]):
            Rows of the split that holds these volumes. No volume is read.
        out (`str` or `Path`):
            Folder of the folders.

    Returns:
        `list[Path]`: the folders.
    """
    volumes, references, labels = references_of(select_volumes(scans, predictions))
    names = [volume.removesuffix(".nii.gz") for volume in volumes]
    reports = [predictions[volume] for volume in volumes]
    folders = []
    for tool in tools:
        folder = Path(out, tool)
        for path, content in TOOLS[tool](names, reports, references, labels).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / path, content)
        folders.append(folder)
    return folders


def radeval_files(names: list[str], reports: list[str], references: list[str], labels: np.ndarray) -> dict[str, str]:
    """RadEval's file: a line per report. `volume` is for the reader of the file: RadEval goes by the order."""
    rows = zip(names, references, reports, strict=True)
    lines = (json.dumps({"ref": reference, "hyp": report, "volume": name}) + "\n" for name, reference, report in rows)
    return {"reports.jsonl": "".join(lines)}


def radmatch_files(names: list[str], reports: list[str], references: list[str], labels: np.ndarray) -> dict[str, str]:
    """RadMatch's two folders."""
    sides = {"reports_gt": references, "reports_pred": reports}
    return {
        f"{side}/{name}.txt": text for side, texts in sides.items() for name, text in zip(names, texts, strict=True)
    }


def vlm3d_files(names: list[str], reports: list[str], references: list[str], labels: np.ndarray) -> dict[str, str]:
    """What the evaluation container of the VLM3D challenge mounts: the folders `predictions` and `ground_truth`."""

    def listed(texts: list[str]) -> dict:
        entries = [{"input_image_name": name, "report": text} for name, text in zip(names, texts, strict=True)]
        return {
            "name": "Generated reports",
            "type": "Report generation",
            "version": "1.0",
            "generated_reports": entries,
        }

    table = io.StringIO()
    csv.writer(table).writerows(
        [("AccessionNo", *LABELS), *([name, *row] for name, row in zip(names, labels, strict=True))]
    )
    return {
        "predictions/predictions.json": json.dumps([{"outputs": [{"value": listed(reports)}]}], indent=1) + "\n",
        "ground_truth/ground_truth.json": json.dumps(listed(references), indent=1) + "\n",
        "ground_truth/ground_truth.csv": table.getvalue(),
    }


TOOLS = {"radeval": radeval_files, "radmatch": radmatch_files, "vlm3d": vlm3d_files}
