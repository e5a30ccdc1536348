"""The file of predictions: interrupted and gone on with, by one process or two, and in the challenge's form."""

import json
import os
import signal
import time

import pytest
from datasets import load_dataset
from helpers import programs
from helpers.eval_rows import REPORTS
from helpers.paths import HELPERS
from helpers.predictions_run import SCANS, main, make_scans
from helpers.two_processes import run_as_two

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.predictions.provenance import provenance_path
from ct_rate_pairs.eval.predictions.store import (
    copy_predictions,
    count_cut,
    find_predictions,
    read_cut,
    read_line_logits,
    read_lines,
    read_predictions,
    select_shared,
    write_challenge_file,
    write_predictions,
)
from ct_rate_pairs.eval.rows import references_of, select_volumes
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


VOLUMES = [f"train_{seed}_a_1.nii.gz" for seed in range(SCANS)]


@pytest.fixture(scope="module")
def model_and_collator():
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    return model, PairCollator(processor)


@pytest.fixture(scope="module")
def expected(model_and_collator):
    """Each scan's report, written without a file."""
    rows = [make_scans()[index] for index in range(SCANS)]
    reports = generate_reports(*model_and_collator, rows, batch_size=1, max_new_tokens=40, progress=False)
    return dict(zip(VOLUMES, reports, strict=True))


@pytest.mark.slow
def test_only_what_is_missing_is_written_and_a_line_cut_off_is_written_again(tmp_path, model_and_collator, expected):
    path = tmp_path / "run" / "predictions.jsonl"
    first = write_predictions(*model_and_collator, make_scans().select([0, 1, 2]), path, max_new_tokens=40)
    assert first == {volume: expected[volume] for volume in VOLUMES[:3]}
    lines = path.read_text().splitlines(keepends=True)
    marked = json.dumps({"volume": VOLUMES[0], "report": "kept"}) + "\n"
    path.write_text(marked + lines[1] + lines[2][:-9])
    written = write_predictions(*model_and_collator, make_scans(), path, batch_size=2, max_new_tokens=40)
    assert written == expected | {VOLUMES[0]: "kept"}
    assert list(written) == VOLUMES
    assert read_predictions(path) == written and path.read_text().startswith(marked + lines[1])


def test_each_line_tells_whether_its_report_is_cut(tmp_path, model_and_collator):
    path = tmp_path / "predictions.jsonl"
    write_predictions(*model_and_collator, make_scans().select([0, 1]), path, max_new_tokens=2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["cut"] for line in lines] == [True, True]  # an untrained model writes no end
    path.write_text(path.read_text() + json.dumps({"volume": VOLUMES[2], "report": "of an earlier release"}) + "\n")
    cut = read_cut(path)
    assert cut == {VOLUMES[0]: True, VOLUMES[1]: True}
    assert count_cut(cut | {VOLUMES[1]: False}, VOLUMES[:3]) == {"cut": 1, "cut_share": 0.5, "cut_unknown": 1}
    assert count_cut({}, VOLUMES) == {}
    write_challenge_file(read_predictions(path), tmp_path / "reports.json")
    assert read_cut(tmp_path / "reports.json") == {}


@pytest.mark.slow
def test_after_kill_9_a_rerun_by_two_processes_completes_the_file(tmp_path, expected):
    path = tmp_path / "predictions.jsonl"
    run = programs.start(HELPERS / "predictions_run.py", path)
    while run.poll() is None and (not path.exists() or path.read_text().count("\n") < 2):
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert 2 <= path.read_text().count("\n") < SCANS
    before = path.read_text()
    before = before[: before.rfind("\n") + 1]
    run_as_two("predictions_run.py", path)
    assert path.read_text().startswith(before)
    assert len(path.read_text().splitlines()) == SCANS
    assert read_predictions(path) == expected
    main(path)  # nothing is missing, so nothing is written
    assert len(path.read_text().splitlines()) == SCANS


def test_the_challenges_form_is_read_and_written(tmp_path):
    predictions = {"valid_1_a_1.nii.gz": "A nodule — 4 mm.", "valid_2_a_1.nii.gz": ""}
    write_challenge_file(predictions, tmp_path / "reports.json")
    content = json.loads((tmp_path / "reports.json").read_text())
    assert content["generated_reports"][0] == {"input_image_name": "valid_1_a_1", "report": "A nodule — 4 mm."}
    assert read_predictions(tmp_path / "reports.json") == predictions


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"volume": "v", "report": "r"}\nnonsense\n', "line 2 is not JSON"),
        ("a.jsonl", '{"volume": "v", "report": "r", "report": "s"}\n', "line 1 has the name 'report' twice"),
        ("a.jsonl", "[" * 10**5 + "\n", "line 1 is nested too deeply"),
        ("a.json", '[{"outputs": 3}]', "a.json: the field 0.outputs is not as it must be"),
        ("a.json", "[7]", "a.json: the field 0 is not as it must be"),
        ("a.json", '{"generated_reports": {"a": 1}}', "a.json: the field generated_reports"),
        ("a.json", "3", "has no list `generated_reports`"),
        ("a.jsonl", '{"volume": "v"}\n', "entry 1 needs texts"),
        ("a.json", "{}", "no list `generated_reports`"),
        ("a.json", '{"generated_reports": [{"report": "r"}]}', "entry 1 needs texts"),
        ("a.json", '[{"outputs": [{"value": 3}]}]', "no list `generated_reports`"),
        ("a.jsonl", '["v", "r"]\n', "entry 1 needs texts"),
        ("a.jsonl", '{"volume": "v", "report": "a"}\n{"volume": "v.nii.gz", "report": "b"}\n', "entry 2 is a second"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / name)


def test_the_file_that_the_challenges_server_keeps_is_read(tmp_path):
    def job(*entries):
        reports = [{"input_image_name": name, "report": report} for name, report in entries]
        interface = {"socket": {"slug": "chest-ct"}, "value": {"generated_reports": reports}}
        return {"pk": "1", "inputs": [], "outputs": [{"value": "a path"}, interface]}

    (tmp_path / "a.json").write_text(json.dumps([job(("valid_1_a_1.mha", "A.")), job(("valid_2_a_1", "B."))]))
    assert read_predictions(tmp_path / "a.json") == {"valid_1_a_1.nii.gz": "A.", "valid_2_a_1.nii.gz": "B."}


def test_a_whole_last_line_without_a_line_end_counts_and_one_cut_off_is_said(
    tmp_path, model_and_collator, expected, capsys
):
    path = tmp_path / "predictions.jsonl"
    lines = [json.dumps({"volume": volume, "report": "kept"}) for volume in VOLUMES[:2]]
    path.write_text("\n".join(lines))
    assert list(read_predictions(path)) == VOLUMES[:2] and not capsys.readouterr().out
    written = write_predictions(*model_and_collator, make_scans().select([0, 1, 2]), path, max_new_tokens=40)
    assert written == {VOLUMES[0]: "kept", VOLUMES[1]: "kept", VOLUMES[2]: expected[VOLUMES[2]]}
    path.write_text(lines[0] + "\n" + lines[1][:-1])
    assert list(read_predictions(path)) == VOLUMES[:1]
    assert "line 2 was cut off" in capsys.readouterr().out


def test_a_runs_folder_stands_for_its_predictions(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluation/predictions.jsonl"):
        find_predictions(tmp_path)
    file = tmp_path / "evaluation" / "predictions.jsonl"
    file.parent.mkdir()
    file.touch()
    assert find_predictions(tmp_path) == find_predictions(file) == file
    (tmp_path / "predictions.jsonl").touch()
    assert find_predictions(tmp_path) == tmp_path / "predictions.jsonl"


def test_references_come_from_the_index_without_reading_a_scan():
    scans = make_scans()
    scans.set_transform(lambda batch: pytest.fail("a scan was read"))
    volumes, references, labels = references_of(select_volumes(scans, [VOLUMES[4], VOLUMES[0]]))
    assert volumes == [VOLUMES[0], VOLUMES[4]] and references == [REPORTS[0], REPORTS[1]]
    assert labels.tolist() == [[0] * 18] * 2
    with pytest.raises(ValueError, match="train_99_a_1"):
        select_volumes(scans, [VOLUMES[0], "train_99_a_1.nii.gz"])


def test_a_record_that_could_not_be_read_again_is_not_written(tmp_path, model_and_collator):
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(ValueError, match="max_new_tokens is not as it must be"):
        write_predictions(*model_and_collator, make_scans(), path, max_new_tokens=4, provenance={"max_new_tokens": 0})
    assert not path.exists() and not provenance_path(path).exists()


@pytest.mark.parametrize("record", ['{"max_new_tokens": 0}', '{"thresholds": [2]}', '{"split": 3}', "[]"])
def test_a_wrong_record_is_told_with_its_file_and_the_remedy(tmp_path, model_and_collator, record):
    path = tmp_path / "predictions.jsonl"
    provenance_path(path).write_text(record)
    with pytest.raises(ValueError, match=r"predictions\.provenance\.json: .*remove both files, or choose another"):
        write_predictions(*model_and_collator, make_scans(), path, max_new_tokens=4, provenance={"max_new_tokens": 4})
    assert provenance_path(path).read_text() == record


def test_one_file_never_holds_the_reports_of_two_models(tmp_path, model_and_collator):
    path = tmp_path / "predictions.jsonl"
    write = lambda scans, **provenance: write_predictions(  # noqa: E731
        *model_and_collator, scans, path, max_new_tokens=4, provenance=provenance
    )
    write(make_scans().select([0]), model="a", spacing=(1, 1, 2))
    write(make_scans().select([0, 1]), model="a", spacing=[1, 1, 2])
    with pytest.raises(ValueError, match="model a, now b"):
        write(make_scans(), model="b", spacing=[1, 1, 2])
    assert len(read_predictions(path)) == 2
    provenance_path(path).unlink()
    with pytest.raises(ValueError, match="predictions.provenance.json, which tells what made them, is missing"):
        write(make_scans(), model="a", spacing=[1, 1, 2])
    path.unlink()
    write(make_scans().select([0]), model="b", spacing=[1, 1, 2])


@pytest.mark.slow
def test_a_copy_tells_what_the_file_of_another_program_tells_and_no_version_of_this_code(tmp_path, tree):
    theirs, copy = tmp_path / "theirs.jsonl", tmp_path / "run" / "predictions.jsonl"
    copy.parent.mkdir()
    told = {"line": "Abnormality: hernia.", "line_logits": [0.5] * 18, "cut": True}
    rows = [{"volume": "valid_1_a_1.nii.gz", "report": "A hernia.", **told, "seconds": 3}]
    rows += [{"VolumeName": "valid_2_a_1", "report": "None."}]
    theirs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scans = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", negative="none")
    copy_predictions(theirs, scans, copy.parent, made_by="RadFM@1", split="test")
    for read in (read_predictions, read_lines, read_line_logits, read_cut):
        assert read(copy) == read(theirs) and read(copy)
    assert json.loads(provenance_path(copy).read_text()).keys() == {"weights", "target", "split", "references"}


def test_texts_are_restricted_to_the_scans_that_all_runs_have(tmp_path):
    for name, number in (("a", 3), ("b", 2)):
        (tmp_path / name).mkdir()
        lines = (json.dumps({"volume": volume, "report": "r"}) + "\n" for volume in VOLUMES[3 - number : 3])
        (tmp_path / name / "predictions.jsonl").write_text("".join(lines))
    texts, runs = dict.fromkeys(VOLUMES[:3], "mine"), [tmp_path / "a", tmp_path / "b"]
    assert select_shared(texts, runs) == dict.fromkeys(VOLUMES[1:3], "mine") and select_shared(texts, []) == texts
    with pytest.raises(ValueError, match="b has no report of the scans that are measured"):
        select_shared({VOLUMES[0]: "mine"}, runs)
