"""What is not for others stays at home: scans, reports, tables, tokens, paths."""

import json
from pathlib import Path

import pytest
from helpers.finished_run import NIFTI, REFERENCE, REPORT, write_model, write_run
from helpers.paths import ROOT
from helpers.reading_time import grows_with_length
from helpers.writable_hub import READ, WRITE

from ct_rate_pairs.hub.guard import ForbiddenContentError, publishable_files
from ct_rate_pairs.hub.publish import publish
from ct_rate_pairs.hub.references import keep_reference_hashes
from ct_rate_pairs.hub.tokens_and_paths import find_path, find_token


DICOM = bytes(128) + b"DICM" + bytes(64)
PARQUET = b"PAR1" + bytes(64) + b"PAR1"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run_dir(tmp_path, model_dir) -> Path:
    return write_run(tmp_path / "run", model_dir)


# What is planted in a run of CT-RATE, and what the refusal says.
FORBIDDEN = {
    "volume": ("train_1_a_1.nii.gz", b"\x1f\x8b", "train_1_a_1.nii.gz: a scan or a table"),
    "table": ("tables/any.csv", b"VolumeName,Findings_EN\n", "tables/any.csv: a table of CT-RATE, by its columns"),
    "NIfTI under another name": ("figures/labels.png", NIFTI, "figures/labels.png: NIfTI data"),
    "DICOM under another name": ("figures/slice.png", DICOM, "figures/slice.png: DICOM data"),
    "Parquet under another name": ("notes.txt", PARQUET, "notes.txt: Parquet data"),
    "pickle under another name": ("model.safetensors", b"PK\3\4" + bytes(9), "model.safetensors: not what its name"),
    "table under another name": ("merges.txt", b"VolumeName,Findings_EN\n", "merges.txt: the column Findings_EN"),
    "half the weights": (
        "model.safetensors",
        lambda file: file.read_bytes()[:-1000],
        "model.safetensors: not what its name says, or cut short",
    ),
    "a shard that is not there": (
        "model.safetensors.index.json",
        b'{"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}',
        "model.safetensors.index.json: model-00002-of-00002.safetensors, which it names, is missing",
    ),
    "a base elsewhere on this machine": (
        "adapter_config.json",
        b'{"base_model_name_or_path": "../qwen"}',
        "adapter_config.json: its base, '../qwen', is no model on the Hub",
    ),
    "a base below this folder": (
        "adapter_config.json",
        b'{"base_model_name_or_path": "tests"}',
        "adapter_config.json: its base, 'tests', is no model on the Hub",
    ),
    "a path of a disk": (
        "training_config.json",
        b'{"note": "/scratch/ann"}',
        "training_config.json: a path of this machine, /scratch/ann",
    ),
    "a volume that is none": (
        "predictions.jsonl",
        b'{"volume": "/data/jane.nii.gz", "report": "r"}\n',
        "predictions.jsonl line 1: volume must be a name such as valid_1_a_1.nii.gz",
    ),
    "a report that is none": (
        "predictions.jsonl",
        b'{"volume": "valid_1_a_1.nii.gz", "report": ["r"]}\n',
        "predictions.jsonl line 1: volume must be a name",
    ),
    "reference in the predictions": (
        "predictions.jsonl",
        json.dumps({"volume": "v", "report": "r", "reference": "x"}).encode() + b"\n",
        "predictions.jsonl line 1: volume, report, reference",
    ),
    "a text in the place of a mark": (
        "predictions.jsonl",
        json.dumps({"volume": "v", "report": "r", "cut": "x"}).encode() + b"\n",
        "predictions.jsonl line 1: cut must be true or false",
    ),
    "references as predictions": (
        "predictions.jsonl",
        json.dumps({"volume": "v", "report": REFERENCE}).encode() + b"\n",
        "predictions.jsonl holds 1 reference reports among 1",
    ),
    "reference in the results": (
        "results.json",
        json.dumps({"model": {"worst": REFERENCE}}).encode(),
        "results.json: quotes a reference report",
    ),
    "a text in the results": ("results.json", json.dumps({"worst": "word " * 70}).encode(), "results.json: a text"),
    "reference in the confidences": (
        "confidence.json",
        json.dumps({"openings": {"Lung nodule": [REFERENCE[10:120]]}}).encode(),
        "confidence.json: quotes a reference report",
    ),
    "token": ("training_config.json", json.dumps({"note": f"x {READ}"}).encode(), "training_config.json: a token"),
    "token in the weights' header": (
        "adapter_model.safetensors",
        (text := json.dumps({"__metadata__": {"by": READ}}).encode()) and len(text).to_bytes(8, "little") + text,
        "adapter_model.safetensors: a token",
    ),
    "home": (
        "adapter_config.json",
        b'{"base": "/home/ann/qwen"}',
        "adapter_config.json: a path of this machine, /home",
    ),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_the_guard_refuses_before_any_request(hub, tmp_path, model_dir, monkeypatch, case):
    run_dir = write_run(tmp_path / "run", model_dir, phantom=False)
    file, content, refusal = FORBIDDEN[case]
    monkeypatch.chdir(ROOT)
    (run_dir / file).parent.mkdir(exist_ok=True)
    content = content(run_dir / file) if callable(content) else content
    (run_dir / file).unlink(missing_ok=True)
    (run_dir / file).write_bytes(content)
    with pytest.raises(ForbiddenContentError) as refused:
        publish(run_dir, "alice/heter")
    assert f"- {refusal}" in str(refused.value)
    assert READ not in str(refused.value) and hub.log == []


@pytest.mark.parametrize("quoted", [REFERENCE, REFERENCE[40:180]])
def test_a_card_that_quotes_a_reference_report_is_refused(hub, tmp_path, model_dir, quoted):
    run_dir = write_run(tmp_path / "run", model_dir, phantom=False)
    (run_dir / "samples" / "step-000001.md").unlink()
    with (run_dir / "README.md").open("a") as card:
        card.write(f"\nAn example: {quoted}\n")
    (run_dir / "reference_hashes.json").unlink()
    with pytest.raises(ForbiddenContentError, match=r"reference_hashes.json is missing, so nobody can tell"):
        publish(run_dir, "alice/heter")
    keep_reference_hashes(run_dir, ["Another one.", REFERENCE])
    with pytest.raises(ForbiddenContentError, match="README.md: quotes a reference report"):
        publish(run_dir, "alice/heter")


def test_references_are_known_later_by_hashes_that_stay_here(hub, tmp_path, model_dir):
    run_dir = write_run(tmp_path / "run", model_dir, phantom=False)
    predictions = run_dir / "predictions.jsonl"
    others = [f"{REFERENCE} Seen {again} times." for again in range(3)]  # of the split test: not among the samples
    rows = [{"volume": f"valid_{number}_a_1.nii.gz", "report": report} for number, report in enumerate(others)]
    predictions.write_text("\n".join(map(json.dumps, rows)))
    keep_reference_hashes(run_dir, others)
    assert "lobe" not in (run_dir / "reference_hashes.json").read_text()
    with pytest.raises(ForbiddenContentError, match="holds 3 reference reports among 3 reports"):
        publish(run_dir, "alice/heter")
    rows[0]["report"] = rows[1]["report"] = REPORT  # a template that a model wrote word for word is no copy
    predictions.write_text("\n".join(map(json.dumps, rows)))
    publish(run_dir, "alice/heter")
    assert "reference_hashes.json" not in hub.repo("alice/heter").files()


def test_tables_of_our_own_are_no_reason_to_refuse_a_run(run_dir):
    (run_dir / "evaluation").mkdir()
    (run_dir / "evaluation" / "table1.csv").write_text("model,coverage\nheter,0.5\n")
    assert "evaluation/table1.csv" not in publishable_files(run_dir)


@pytest.mark.parametrize(
    "token",
    [
        *(f"note_{WRITE}", f"api_org_{'x' * 20}", f"sk-proj-{'x' * 20}", f"AKIA{'X' * 16}", f"ghp_{'x' * 36}"),
        *(f"wandb_v1_{'x' * 20}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh"),
    ],
)
def test_tokens_of_others_than_the_hub_are_found(run_dir, token):
    (run_dir / "row_settings.json").write_text(json.dumps({"note": token}))
    with pytest.raises(ForbiddenContentError, match="row_settings.json: a token; revoke it") as refused:
        publishable_files(run_dir)
    assert token not in str(refused.value)


# What begins like a token or a path, again and again.
BEGINNINGS = ("eyJ-", "-eyJaaaaaaaa", ".eyJ-", "hf_", "sk-", "~/", "//", "/-", "$A", "a:/", "A:", "a=/", "file:/")


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_the_time_to_look_for_tokens_and_paths_grows_with_a_text_and_no_faster(tmp_path, beginning):
    def look(text):
        find_token(text, None)
        find_path(text, tmp_path, settings=True)

    # Squared, the time would be 64 times as long.
    assert grows_with_length(look, *(beginning * (length // len(beginning)) for length in (20_000, 160_000)))


def test_a_token_of_another_form_is_found_too(hub, run_dir, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "custom.token.value")
    (run_dir / "row_settings.json").write_text('{"note": "custom.token.value"}')
    with pytest.raises(ForbiddenContentError, match="row_settings.json: a token"):
        publish(run_dir, "alice/heter")
