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


def matcher_results(**changes):
    recalls = {"image_to_text": {"recall_at_1": 0.25, "recall_at_1_ci": [0.1, 0.4]}, "n": 7}
    labels = {"auroc_macro": 0.75, "auroc_macro_ci": [0.7, 0.8]}
    known = {"matching": {}, "retrieval": recalls, "zero_shot": {"auroc_macro": 0.5}, "zero_shot_sentences": labels}
    return known | {"n": 7, "scans": "a1"} | changes


def test_runs_of_any_kind_stand_in_one_table_by_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = {
        "ours/evaluation": results(0.5) | {"model": results(0.5, precision_micro=0.4, line_auroc=0.9)["model"]},
        "theirs": results(0.25),
        "clip": matcher_results(),
        "blind": matcher_results(retrieval=None, zero_shot_sentences=None),
    }
    for name, content in runs.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    main(["qwen=ours", "m3d=theirs", "ct-clip=clip", "blind=blind/results.json", "--output_file", "models.md"])
    with open("models.csv") as file:
        heading, *lines = csv.reader(file)
    shown = {line[0]: dict(zip(heading[1:], line[1:], strict=True)) for line in lines}
    assert list(shown) == ["qwen", "m3d", "ct-clip", "blind", "all_negative", "most_common", "all_positive"]
    assert shown["qwen"]["Coverage"] == "0.500" and shown["qwen"]["AUROC of labels"] == "0.900"
    assert shown["m3d"]["Precision"] == shown["ct-clip"]["Coverage"] == shown["m3d"]["AUROC of labels"] == "-"
    assert shown["ct-clip"]["AUROC of labels"] == "0.750 [0.700, 0.800]" and shown["ct-clip"]["scans"] == "7"
    assert shown["ct-clip"]["scan -> report, Recall@1"] == "0.250 [0.100, 0.400]"
    assert shown["blind"]["AUROC of labels"] == "0.500" and shown["blind"]["scan -> report, Recall@1"] == "-"

    (tmp_path / "clip/results.json").write_text(json.dumps(matcher_results(scans="b2")))
    with pytest.raises(ValueError, match="differ in `scans` .*ct-clip: b2"):
        main(["qwen=ours", "ct-clip=clip"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b"], "give the paper's three runs, or NAME=RUN"),
        (["a=x", "b"], "give all runs as NAME=RUN"),
        (["a=x", "a=y"], "two runs have the same name"),
    ],
)
def test_runs_without_or_with_equal_names_are_refused(arguments, told, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err
