"""Files for other evaluation tools, each read here as the tool's own page or script says that it is read."""

import json

import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.predictions.for_tools import TOOLS
from ct_rate_pairs.eval.predictions.store import read_predictions
from ct_rate_pairs.recipes.evaluate_reports import EXPORTS


NAMES = ["valid_1_a_1", "valid_2_b_3"]
REPORTS = ["Findings: No effusion.\nImpression: Normal.", 'A "nodule", 4 mm.']
REFERENCES = ["Findings: Clear.\nImpression: —", "Impression: Nodule."]
ROWS = np.eye(18, dtype=int)[[3, 9]]


def files(tool):
    return TOOLS[tool](NAMES, REPORTS, REFERENCES, ROWS)


def test_the_command_knows_every_tool():
    assert tuple(TOOLS) == EXPORTS


def test_radeval_reads_its_lines():
    """`docs/file_formats.md`: rows = [json.loads(line) for line in f]; refs = [r["ref"] for r in rows]."""
    (content,) = files("radeval").values()
    rows = [json.loads(line) for line in content.splitlines()]
    assert [row["ref"] for row in rows] == REFERENCES and [row["hyp"] for row in rows] == REPORTS


def test_radmatch_pairs_two_folders_by_name():
    """`README.md`: Reports are `<series>.txt` files, paired by filename across the two directories."""
    written = files("radmatch")
    assert [written[f"reports_pred/{name}.txt"] for name in NAMES] == REPORTS
    assert [written[f"reports_gt/{name}.txt"] for name in NAMES] == REFERENCES and len(written) == 4


def test_the_challenge_reads_its_predictions_and_its_ground_truth(tmp_path):
    """`src/nlg_metrics.py` and `src/crg_score.py` of its evaluation container."""
    for path, content in files("vlm3d").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    wrapped = json.loads((tmp_path / "predictions/predictions.json").read_text())
    items = wrapped[0]["outputs"][0]["value"]["generated_reports"]
    truth = json.loads((tmp_path / "ground_truth/ground_truth.json").read_text())["generated_reports"]
    # Their key: the name up to its last dot.
    predicted, expected = (
        {entry["input_image_name"].rsplit(".", 1)[0]: entry["report"] for entry in entries}
        for entries in (items, truth)
    )
    assert predicted == dict(zip(NAMES, REPORTS, strict=True)) and list(expected.values()) == REFERENCES
    table = pd.read_csv(tmp_path / "ground_truth/ground_truth.csv").set_index("AccessionNo")
    assert list(table.columns) == list(LABELS) and table.loc[NAMES].to_numpy().tolist() == ROWS.tolist()
    assert list(read_predictions(tmp_path / "predictions/predictions.json").values()) == REPORTS
