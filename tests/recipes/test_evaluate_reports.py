"""`recipes/evaluate_reports.py` and `compare_runs.py` on files of predictions: what is measured, and where it goes."""

import json
from pathlib import Path

import pandas as pd
import pytest
from datasets import load_dataset
from helpers.command import call
from helpers.loopback_endpoint import LoopbackEndpoint, answer, error
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.eval.predictions.provenance import describe_provenance, provenance_path
from ct_rate_pairs.eval.predictions.store import write_challenge_file
from ct_rate_pairs.recipes import compare_runs, evaluate_reports
from ct_rate_pairs.trainer.hub_files import is_model_folder
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def write_reports(path, tree, number=12, target=None):
    """Predictions for the first scans, and unless `target` is `None` the file that tells their references."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"volume": f"valid_{i}_a_1.nii.gz", "report": f"Finding {i - 1}."} for i in range(1, number + 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if target is not None:
        scans = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", negative="none", target=target)
        described = describe_provenance("sha256:0", scans, split="test", dtype="float32", max_new_tokens=9)
        provenance_path(path).write_text(json.dumps(described))
    return path


def evaluate(path, tree, *options):
    evaluate_reports.main(["--predictions", str(path), "--data_dir", str(tree), *options])


@pytest.mark.slow
def test_predictions_alone_are_measured_into_a_folder_of_their_own(tmp_path, tree, capsys):
    theirs = tmp_path / "generated_reports.json"
    write_challenge_file({"valid_1_a_1.nii.gz": "Finding 0.", "valid_3_a_1.nii.gz": "Finding 2."}, theirs)
    (tmp_path / "results.json").write_text("theirs")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    evaluate(theirs, tree)
    assert {path: path.read_bytes() for path in before} == before
    out = tmp_path / "generated_reports_evaluation"
    assert set(tmp_path.iterdir()) == {*before, out}
    assert json.loads((out / "results.json").read_text())["model"]["n"] == 2
    assert "2 of the 12 scans of the split test have a report" in capsys.readouterr().out


@pytest.mark.slow
def test_predictions_are_measured_against_the_references_they_were_written_for(tmp_path, tree):
    path = write_reports(tmp_path / "run" / "predictions.jsonl", tree, target="findings")
    evaluate(path, tree)
    results = json.loads((tmp_path / "run" / "predictions_evaluation" / "results.json").read_text())
    assert results["model"]["rouge_l"] == 1  # findings against findings: the dataset's default has impressions too


@pytest.mark.slow
def test_cut_reports_of_a_file_are_counted_or_told_as_unknown(tmp_path, tree, capsys):
    path = write_reports(tmp_path / "predictions.jsonl", tree, target="findings")
    evaluate(path, tree)
    assert "Whether reports are cut at a limit of tokens is not known" in capsys.readouterr().out
    path.write_text(path.read_text().replace('"}', '", "cut": true}'))
    evaluate(path, tree)
    results = json.loads((tmp_path / "predictions_evaluation" / "results.json").read_text())["model"]
    assert (results["cut"], results["cut_share"], results["max_new_tokens"]) == (12, 1.0, 9)
    assert "12 of 12 reports (100.0%) met their limit of 9 tokens" in capsys.readouterr().out


@pytest.mark.slow
def test_reports_that_hold_no_text_or_are_not_in_english_are_counted_and_told(tmp_path, tree, capsys):
    path = write_reports(tmp_path / "predictions.jsonl", tree, target="findings")
    whole = path.read_text()
    path.write_text(whole.replace("Finding 3.", "").replace("Finding 4.", "N/A").replace("Finding 5.", "Kein Erguss."))
    evaluate(path, tree)
    results = json.loads((tmp_path / "predictions_evaluation" / "results.json").read_text())
    told = [
        (results[row]["empty_predictions"], results[row]["foreign_predictions"]) for row in ("model", "most_common")
    ]
    assert told == [(2, 1), (0, 0)]
    assert (
        "Of the 12 reports of model, 2 hold no text and 1 are in a language that is not read."
        in capsys.readouterr().out
    )
    (tmp_path / "whole.jsonl").write_text(whole)
    compare(tmp_path / "whole.jsonl", path, tree, "--target", "findings")
    assert "0 and 2 reports hold no text." in capsys.readouterr().out


def test_references_in_another_language_are_refused_before_any_report_is_measured(tmp_path):
    write_tree(tmp_path)
    for file in tmp_path.glob("dataset/radiology_text_reports/*.csv"):
        german = pd.read_csv(file).assign(Findings_EN="Kein Pleuraerguss. Herz nicht vergrößert.")
        german.to_csv(file, index=False)
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"volume": "valid_1_a_1.nii.gz", "report": "Kein Pleuraerguss."}\n')
    with pytest.raises(ValueError, match="`references` row 0 seems to be in German"):
        evaluate(path, tmp_path, "--target", "findings")


@pytest.mark.slow
def test_predictions_for_other_references_are_refused(tmp_path, tree):
    path = write_reports(tmp_path / "predictions.jsonl", tree, target="findings")
    with pytest.raises(ValueError, match="target='findings'.*move it away from predictions.provenance.json"):
        evaluate(path, tree, "--target", "impression")
    with pytest.raises(ValueError, match="not those of the split validation"):
        evaluate(path, tree, "--split", "validation")
    provenance_path(path).unlink()
    evaluate(path, tree)


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ({"model_name_or_path": "user/model"}, "runs/user-model"),
        ({"model_name_or_path": "user/model", "model_revision": "heter"}, "runs/user-model-heter"),
        ({"model_name_or_path": "openai:user/model"}, "runs/openai-user-model"),
        ({"model_name_or_path": "here"}, "here/evaluation"),
        ({"model_name_or_path": "here/"}, "here/evaluation"),
        ({"model_name_or_path": "here", "output_dir": "b"}, "b"),
    ],
)
def test_results_go_beside_what_they_are_of(tmp_path, monkeypatch, arguments, out):
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "user/model/evaluation"):  # the latter is no model, only a folder of that name
        Path(folder).mkdir(parents=True)
    Path("here/adapter_config.json").touch()
    args = evaluate_reports.EvaluationArguments(**arguments)
    assert args.evaluation_folder(is_model_folder(args.model_name_or_path)) == Path(out)


def test_results_of_a_file_go_where_they_are_asked_to(tmp_path, tree):
    evaluate(write_reports(tmp_path / "theirs.jsonl", tree), tree, "--output_dir", str(tmp_path / "b"))
    assert {path.name for path in tmp_path.iterdir()} == {"theirs.jsonl", "b"}
    assert (tmp_path / "b" / "results.json").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--recipe", "lowre"), "invalid choice"),
        (("--negative", "hetr"), "invalid choice"),
        (("--min_label_distance", "99"), "min_label_distance"),
        (("--partner_sampling", "mutual"), "a measurement has no such batches"),
        (("--labeler", "rulez"), "Unknown labeler"),
        (("--ci", "95"), "--ci 95.0: choose above 0, and below 1"),
    ],
)
def test_a_wrong_option_is_refused_before_the_model_is_loaded(tmp_path, tree, capsys, option, message):
    (tmp_path / "config.json").write_text("{}")  # nothing that could be loaded
    assert call(evaluate_reports.main, "--model_name_or_path", tmp_path, "--data_dir", tree, *option) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--model_name_or_path", "a", "--predictions", "b")])
def test_a_model_or_predictions_are_needed(capsys, arguments):
    assert call(evaluate_reports.main, *arguments) == 2
    assert capsys.readouterr().err.startswith("error: Give either --model_name_or_path")


def ask(endpoint, out, tree, *options):
    served = ("--model_name_or_path", "openai:some/model", "--endpoint", endpoint, "--i_have_deidentified", "true")
    data = ("--data_dir", str(tree), "--max_eval_samples", "4", "--output_dir", str(out))
    evaluate_reports.main([*served, *data, *options])


@pytest.mark.slow
def test_a_model_at_an_endpoint_is_asked_and_only_its_reports_are_measured(tmp_path, tree, capsys):
    refused = error(400, "blocked", "content_filter")
    served = {"model": "some-model-05", "system_fingerprint": "fp_1"}
    with LoopbackEndpoint(refused, answer(served=served)) as server:
        ask(server.url, tmp_path, tree, "--concurrency", "1")
        told = capsys.readouterr().out
        assert "1 of 4 scans have NO report (1 content_filter)" in told and "Not measured: loss gaps" in told
        model = json.loads((tmp_path / "results.json").read_text())["model"]
        assert model["slices_as"] == "slices" and "slices_as: slices" in told and "single images" in told
        assert model["n"] == 3 and model["failures"] == {"content_filter": 1} and "loss_gap" not in model
        assert model["answered_by"] == {"some-model-05 fp_1": 1} and "Reports by some-model-05 fp_1: 1\n" in told
        assert "valid_" not in json.dumps(server.bodies) and len(server.bodies) == 4
        ask(server.url, tmp_path, tree, "--concurrency", "1")
        assert len(server.bodies) == 5  # the one that was missing
        with pytest.raises(ValueError, match="slices_as slices, now montage"):
            ask(server.url, tmp_path, tree, "--slices_as", "montage")
    model = json.loads((tmp_path / "results.json").read_text())["model"]
    assert model["n"] == 4 and model["failures"] == {}


@pytest.mark.slow
def test_a_video_is_sent_with_the_depth_of_a_second_that_is_given_and_both_are_told(tmp_path, tree, capsys):
    sent = []
    for options in ([], ["--mm_per_second", "25"]):
        with LoopbackEndpoint() as server:
            ask(server.url, tmp_path / str(len(sent)), tree, "--slices_as", "video", *options)
        model = json.loads((tmp_path / str(len(sent)) / "results.json").read_text())["model"]
        sent.append({body["media_io_kwargs"]["video"]["fps"] for body in server.bodies})
        told = f"{model['mm_per_second']:g} mm of depth are a second"
        assert told == ["10", "25"][len(sent) - 1] + " mm of depth are a second" and told in capsys.readouterr().out
    assert sorted(sent[1]) == pytest.approx([2.5 * fps for fps in sorted(sent[0])])
    with pytest.raises(ValueError, match="--mm_per_second has no effect.*slices_as is not video"):
        ask("http://127.0.0.1:1/v1", tmp_path, tree, "--mm_per_second", "25")
    with pytest.raises(ValueError, match="--mm_per_second -1.0: choose above 0"):
        ask("http://127.0.0.1:1/v1", tmp_path, tree, "--slices_as", "video", "--mm_per_second", "-1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost:8000/v1", "models.example.org/v1", "ftp://a/v1"])
def test_an_endpoint_that_is_no_url_is_refused_before_anything_is_read(tmp_path, url):
    with pytest.raises(ValueError, match="with http:// or https://"):
        ask(url, tmp_path / "out", tmp_path / "no such folder")


def test_no_slice_leaves_the_machine_unasked(tmp_path, tree):
    with pytest.raises(ValueError, match="Then pass --i[-_]have[-_]deidentified"):
        ask("http://127.0.0.1:1/v1", tmp_path / "out", tree, "--i_have_deidentified", "false")
    with pytest.raises(ValueError, match="--slices_as video is for an --endpoint"):
        evaluate_reports.main(["--model_name_or_path", "m", "--slices_as", "video", "--data_dir", str(tree)])
    with pytest.raises(ValueError, match="--slices_as numbered is for a loaded model"):
        ask("http://127.0.0.1:1/v1", tmp_path / "out", tree, "--slices_as", "numbered")
    with pytest.raises(ValueError, match="needs --endpoint"):
        evaluate_reports.main(["--model_name_or_path", "openai:some/model", "--data_dir", str(tree)])
    assert not (tmp_path / "out").exists()


def compare(first, second, tree, *options):
    compare_runs.main(["--first", str(first), "--second", str(second), "--data_dir", str(tree), *options])


def test_two_runs_are_compared_by_their_folders(tmp_path, tree, capsys):
    write_reports(tmp_path / "a" / "predictions.jsonl", tree, target="findings")
    write_reports(tmp_path / "b" / "evaluation" / "predictions.jsonl", tree, number=7, target="findings")
    compare(tmp_path / "a", tmp_path / "b", tree, "--output_file", str(tmp_path / "compared.json"))
    content = json.loads((tmp_path / "compared.json").read_text())
    assert content["n"] == 7 and content["metrics"]["rouge_l"]["first"] == 1
    assert "7 scans in both; 5 and 0 in one alone" in capsys.readouterr().out


def test_runs_for_different_references_are_not_compared(tmp_path, tree):
    write_reports(tmp_path / "a" / "predictions.jsonl", tree, target="findings")
    write_reports(tmp_path / "b" / "predictions.jsonl", tree, target="impression")
    with pytest.raises(
        ValueError, match="b/predictions.jsonl was written for the split test with target='impression'"
    ):
        compare(tmp_path / "a", tmp_path / "b", tree)


def test_one_patient_has_a_difference_and_no_interval(tmp_path, tree, capsys):
    path = write_reports(tmp_path / "a.jsonl", tree, number=1)
    compare(path, path, tree)
    assert "one patient" in capsys.readouterr().out


def test_an_operating_point_that_only_one_of_two_runs_has_is_told(tmp_path, tree, capsys):
    first, second = (write_reports(tmp_path / name / "predictions.jsonl", tree, target="findings") for name in "ab")
    record = json.loads(provenance_path(second).read_text())
    at_point = {"operating_point": "f1", "thresholds": [0.3] * 18, "slices_as": "montage"}
    provenance_path(second).write_text(json.dumps(record | at_point))
    compare_runs.main(["--first", str(first), "--second", str(second), "--data_dir", str(tree)])
    assert "made: operating_point none and f1; slices_as slices and montage\n" in capsys.readouterr().out


def test_how_two_runs_were_made_differently_is_told(tmp_path, tree, capsys, caplog):
    first, second = (write_reports(tmp_path / name / "predictions.jsonl", tree, target="findings") for name in "ab")
    record = json.loads(provenance_path(second).read_text())
    provenance_path(second).write_text(json.dumps(record | {"num_slices": 20, "weights": "sha256:1"}))
    compare_runs.main(["--first", str(first), "--second", str(second), "--data_dir", str(tree)])
    told = capsys.readouterr().out
    assert "The runs also differ in how they were made: num_slices 10 and 20\n" in told and not caplog.text
    assert "cut at the limit of tokens: an unknown number of the reports of first" in told
    first.write_text(first.read_text().replace('"}', '", "cut": false}').replace("false", "true", 2))
    compare_runs.main(["--first", str(first), "--second", str(second), "--data_dir", str(tree)])
    told = capsys.readouterr().out
    assert "cut at the limit of tokens: 2 of the reports of first, an unknown number of second" in told
    assert f"{first}: 2 of 12 reports (16.7%) met their limit of tokens" in told
    provenance_path(first).unlink()
    provenance_path(second).unlink()
    compare_runs.main(["--first", str(first), "--second", str(second), "--data_dir", str(tree)])
    assert caplog.text.count("Assumed: target=findings+impression.") == 2


@pytest.mark.slow
def test_no_negative_is_read_where_looking_is_not_measured(tmp_path):
    tree = write_tree(tmp_path / "tree")
    left_out = tree / "dataset" / "metadata" / "no_chest_valid.txt"
    left_out.write_text("\n".join(f"valid_{i}_a_1.nii.gz" for i in range(2, 13)))  # no volume could be a negative
    model, processor = make_tiny_qwen(["Finding 0."], hidden_size=32, num_layers=1, vision_depth=1)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    options = {"data_dir": tree, "output_dir": tmp_path / "out", "looking_scans": 0, "max_new_tokens": 2}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--spacing", *map(str, SPACING), "--num_slices", "2"]
    evaluate_reports.main(["--model_name_or_path", str(tmp_path / "model"), *words])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["model"]["labeler"] == "rules"


@pytest.mark.slow
def test_reports_of_another_model_are_a_run_with_its_name_and_commit(tmp_path, tree, capsys):
    theirs = tmp_path / "eval_caption.csv"
    rows = "".join(f"q,valid_{i}_a_1.nii.gz,Finding {i - 1}.\n" for i in range(1, 13))
    theirs.write_text(f"Question,Ground Truth,pred\n{rows}")
    out = tmp_path / "m3d"
    named = ("--made_by", "M3D-LaMed@b7d2b19", "--export", "radmatch", "vlm3d")
    evaluate(theirs, tree, *named, "--output_dir", str(out))
    assert json.loads((out / "results.json").read_text())["model"]["made_by"] == "M3D-LaMed@b7d2b19"
    pairs = [
        sorted(path.name for path in (out / "radmatch" / side).iterdir()) for side in ("reports_gt", "reports_pred")
    ]
    assert pairs[0] == pairs[1] and len(pairs[0]) == 12 and (out / "vlm3d/ground_truth/ground_truth.csv").is_file()
    written = json.loads(provenance_path(out / "predictions.jsonl").read_text())
    assert written["weights"] == "M3D-LaMed@b7d2b19" and len(written["references"]) == 16
    compare_runs.main(
        ["--first", str(out), "--second", str(out), "--data_dir", str(tree), "--output_file", str(tmp_path / "c.json")]
    )
    assert json.loads((tmp_path / "c.json").read_text())

    with pytest.raises(ValueError, match="begun with other settings: weights M3D-LaMed@b7d2b19, now RadFM@1"):
        evaluate(theirs, tree, "--made_by", "RadFM@1", "--output_dir", str(out))
    with pytest.raises(ValueError, match="tells itself what has made it"):
        evaluate(out / "predictions.jsonl", tree, "--made_by", "RadFM@1")
    with pytest.raises(ValueError, match="as NAME@COMMIT"):
        evaluate(theirs, tree, "--made_by", "RadFM")
