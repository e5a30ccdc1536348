"""The paper's table 1 from results files."""

import csv
import json

import pytest

from ct_rate_pairs.eval.tables import PAPER_METRICS, paper_table
from ct_rate_pairs.recipes.table1 import main


def results(value, **changes):
    row = dict.fromkeys(PAPER_METRICS.values(), value)
    row |= {"n": 7, "scans": "a1", "labeler": "rules", "recipe": "lower"} | changes
    trivial = {name: row | {"coverage": 0.0} for name in ("all_negative", "most_common", "all_positive")}
    return {"model": row, **trivial}


def test_runs_stand_side_by_side_with_their_intervals_and_the_trivial_rows(tmp_path):
    files = []
    for name, value in (("origin", 0.25), ("gauss", 0.5), ("heter", 0.75)):
        path = tmp_path / name / "results.json"
        path.parent.mkdir()
        path.write_text(json.dumps(results(value, coverage_ci=[value - 0.1, value + 0.1], accuracy=None)))
        files.append(str(path if name == "origin" else path.parent))
    main([*files, "--output_file", str(tmp_path / "table")])
    with open(tmp_path / "table.csv") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["", "Origin", "Ours-Gauss", "Ours-Heter", "all_negative", "most_common", "all_positive"]
    assert [line[0] for line in lines[1:]] == ["BLEU_1", "BLEU_4", "ROUGE_L", "Coverage", "Accuracy"]
    assert lines[1][1:4] == ["0.2500", "0.5000", "0.7500"]
    assert lines[4][1:5] == ["0.2500 [0.1500, 0.3500]", "0.5000 [0.4000, 0.6000]", "0.7500 [0.6500, 0.8500]", "0.0000"]
    assert lines[5][1:4] == ["-"] * 3
    markdown = (tmp_path / "table.md").read_text().splitlines()
    assert markdown[5] == f"| {' | '.join(lines[4])} |" and set(markdown[1]) == set("| -:")


@pytest.mark.parametrize(("key", "value"), [("n", 8), ("scans", "b2"), ("labeler", "radbert"), ("recipe", "vlm3d")])
def test_runs_that_were_measured_differently_are_not_set_side_by_side(key, value):
    with pytest.raises(ValueError, match=f"differ in `{key}` .Origin.*Heter: {value}"):
        paper_table({"Origin": results(0.5), "Heter": results(0.5, **{key: value})})


def test_reports_that_could_not_be_read_are_a_line_of_the_table():
    runs = {"Origin": results(0.5, empty_predictions=0, foreign_predictions=0), "Heter": results(0.5)}
    assert len(paper_table(runs)) == 1 + len(PAPER_METRICS)
    runs["Heter"]["model"]["empty_predictions"] = 3
    assert paper_table(runs)[-1][:4] == ["empty reports", "0", "3", "0"]
