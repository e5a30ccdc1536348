"""JSON from elsewhere: what is damaged or hostile is refused by file and field."""

import json
import math
import os
from pathlib import Path

import pytest

from ct_rate_pairs.json_files import JSONFileError, check_json, parse_json, read_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.json_schemas.checkpoint import TrainerState
from ct_rate_pairs.json_schemas.cohort import PreparedCopy, VolumeMessages
from ct_rate_pairs.json_schemas.confidence import Confidences
from ct_rate_pairs.json_schemas.evaluation import Gaps, Results
from ct_rate_pairs.json_schemas.model_folder import ModelConfig, WeightsIndex
from ct_rate_pairs.json_schemas.run import Environment
from ct_rate_pairs.json_schemas.scan_reports import Failures
from ct_rate_pairs.reports.labels import LABELS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 10**5, "nested too deeply"),
        (b'{"a": ' * 10**5, "nested too deeply"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' twice"),
        (b'{"a": ' + b"9" * 10**4 + b"}", "is not JSON"),
    ],
)
def test_what_is_no_json_is_told_by_file(tmp_path, text, told):
    path = tmp_path / "some.json"
    path.write_bytes(text)
    with pytest.raises(JSONFileError, match=f"some.json .*{told}"):
        read_json(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "some.json"
    path.write_text("[1, 2, 3]")
    assert read_json(path) == [1, 2, 3]
    monkeypatch.setattr("ct_rate_pairs.json_files.MOST_BYTES", 8)
    with pytest.raises(JSONFileError, match="some.json has 9 bytes"):
        read_json(path)


def test_a_file_of_more_values_than_any_has_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "some.json"
    path.write_text('[{}, {}, {"a": ["b"]}]')
    monkeypatch.setattr("ct_rate_pairs.json_files.MOST_VALUES", 7)
    assert len(read_json(path)) == 3
    monkeypatch.setattr("ct_rate_pairs.json_files.MOST_VALUES", 6)
    with pytest.raises(JSONFileError, match="some.json has more than 6 values"):
        read_json(path)


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [pipe, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_a_folder_and_a_device_are_not_read(tmp_path, make):
    make(tmp_path / "some.json")
    with pytest.raises(JSONFileError, match="some.json is no file, but a folder, a pipe"):
        read_json(tmp_path / "some.json")


@pytest.mark.slow
def test_a_name_that_is_twice_among_many_is_found_at_once():
    names = [f'"name {number}": 0' for number in range(300_000)]  # each compared with each would take half an hour
    with pytest.raises(JSONFileError, match="the name 'name 299999' twice"):
        parse_json("{" + ", ".join([*names, names[-1]]) + "}", "f")


def test_a_message_shows_no_more_of_a_value_than_fits():
    with pytest.raises(JSONFileError) as refused:
        check_json({"global_step": "9" * 10**6}, TrainerState, "file.json")
    assert "file.json: the field global_step" in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize("step", ["../../x", "7", 7.0, True, 0, -1, 10**30, None, [7], math.nan])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(JSONFileError, match="trainer_state.json: the field global_step"):
        parse_json(json.dumps({"global_step": step}), "trainer_state.json", TrainerState)


def test_a_state_may_hold_losses_that_are_not_finite_and_fields_of_later_versions():
    state = {"global_step": 7, "log_history": [{"loss": math.nan}], "new": {}}
    assert parse_json(json.dumps(state), "f", TrainerState)["global_step"] == 7


@pytest.mark.parametrize(
    "config",
    [
        {"megatron_config": {}, "megatron_core": "os"},
        {"base_model_name_or_path": ["a"]},
        {"base_model_name_or_path": "a" * 10**5},
        {"r": 10**7},
        {"r": 4.5},
        {"r": True},
        {"r": -1},
        {"lora_alpha": "nan"},
        {"lora_alpha": math.nan},
        {"lora_dropout": 2.0},
        {"rank_pattern": {"q_proj": 10**7}},
        {"alpha_pattern": {"q_proj": math.inf}},
        {"target_modules": 3},
        {"target_modules": [["q_proj"]]},
        {"layers_to_transform": ["1"]},
        {"modules_to_save": "lm_head"},
        [],
    ],
)
def test_an_adapter_names_no_code_and_has_fields_of_their_types_and_ranges(config):
    with pytest.raises(JSONFileError, match="adapter_config.json: the"):
        check_json(config, AdapterConfig, "adapter_config.json")
    check_json({"base_model_name_or_path": "user/base", "r": 4, "megatron_config": None}, AdapterConfig, "f")


SLOW = (
    r"(\w+\.?)+!",
    ".*.*.*.*.*!",
    "(.|.)" * 40 + "!",
    "a?" * 40 + "!",
    r"(?=(\w+\.?)+!)x",
    "(((a+)+)+)+!",
    "(",
    "a" * 5000,
)
PLACES = {
    "target_modules": lambda pattern: pattern,
    "exclude_modules": lambda pattern: pattern,
    "rank_pattern": lambda pattern: {pattern: 4},
    "alpha_pattern": lambda pattern: {pattern: 4.0},
    "modules_to_save": lambda pattern: [pattern],
    "layers_pattern": lambda pattern: ["layers", pattern],
}


@pytest.mark.parametrize("field", PLACES)
@pytest.mark.parametrize("number", range(len(SLOW)))
def test_a_pattern_of_an_adapter_that_may_take_hours_is_refused(field, number):
    with pytest.raises(JSONFileError, match=rf"adapter_config.json: the field {field}"):
        check_json({field: PLACES[field](SLOW[number])}, AdapterConfig, "adapter_config.json")


@pytest.mark.parametrize(
    "pattern",
    [
        "all-linear",
        r".*language_model.*_proj",
        r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r"^(language_model(?=\.).*\.(q_proj|k_proj|up_proj))$",
        r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
        r"^(?!.*vision).*(q_proj|v_proj)$",
        r"(?:.*\.)?(?:q|k|v|o)_proj",
        r"(?:.*?(?:vision|image|visual|language|text).*?(?:layers|blocks|self_attn|mlp).*?(?:k_proj|q_proj|fc1|qkv).*?)"
        r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))",
    ],
)
def test_patterns_of_adapters_as_people_write_them_are_taken(pattern):
    names = [f"model.layers.{number}.mlp.up_proj" for number in range(600)]
    config = {"target_modules": pattern, "rank_pattern": dict.fromkeys(names, 8), "lora_alpha": 16, "r": 256}
    check_json(config, AdapterConfig, "adapter_config.json")
    check_json(config | {"target_modules": names, "modules_to_save": ["lm_head"]}, AdapterConfig, "f")


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "kernels-community/evil"},
        {"_attn_implementation": "evil/evil@main:f"},
        {"_attn_implementation_internal": "paged|evil/evil"},
        {"text_config": {"attn_implementation": "evil/evil"}},
        {"vision_config": {"attn_implementation": {"": "sdpa", "a": "evil/evil"}}},
        {"parts": [{"experts_implementation": "evil/evil"}]},
        {"dtype": "__class__"},
        {"torch_dtype": "load"},
        {"dtype": 3},
    ],
)
def test_a_model_s_config_chooses_neither_code_nor_anything_of_torch(config):
    with pytest.raises(JSONFileError, match="config.json: the"):
        check_json(config, ModelConfig, "config.json")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "torch.float16", "float8_e4m3fn", "auto", None])
def test_a_model_s_config_of_today_is_taken(dtype):
    config = {"dtype": dtype, "attn_implementation": "sdpa", "_name_or_path": "user/base", "text_config": {}}
    check_json(config, ModelConfig, "config.json")


def confidences():
    errors = {"ece": 0.1, "brier": 0.1, "nll": 0.3}
    return {
        "openings": {label: ["There is"] for label in LABELS},
        "temperature": dict.fromkeys(LABELS, 1.0),
        "bias": dict.fromkeys(LABELS, 0.0),
        "measured": {"calibrated": errors, "uncalibrated": errors, "prevalence": errors, "n": 40, "folds": 5},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("openings", {"Nodule": []}),
        ("openings", {label: ["There is"] * 10**4 for label in LABELS}),
        ("openings", {label: ["word " * 10**4] for label in LABELS}),
        ("temperature", dict.fromkeys(LABELS, 0.0)),
        ("temperature", dict.fromkeys(LABELS, math.inf)),
        ("bias", dict.fromkeys(LABELS, math.nan)),
        ("bias", dict.fromkeys(LABELS, "0.5")),
        ("bias", {**dict.fromkeys(LABELS, 0.5), "Fracture": 0.5}),
        ("measured", {"n": 40}),
        ("path", "/etc/passwd"),
    ],
)
def test_confidences_have_each_label_and_finite_numbers(field, value):
    content = confidences()
    assert check_json(content, Confidences, "confidence.json") == content
    with pytest.raises(JSONFileError, match=f"confidence.json: the field {field}"):
        check_json(content | {field: value}, Confidences, "confidence.json")


def test_confidences_of_lines_are_checked_as_those_of_sentences_are():
    way = {"ece": 0.1, "brier": 0.1, "nll": 0.3, "auroc": None, "brier_ratio": 0.6, "seconds": 0.1}
    content = confidences()
    line = {name: content[name] for name in ("temperature", "bias")} | {"held_out": {name: [0.2] for name in LABELS}}
    content |= {"line": line, "way": "line"}
    content["measured"] |= {"ways": {"line": way, "sentences": way | {"auroc": 0.9}}, "unknown": 1}
    assert check_json(content, Confidences, "confidence.json") == content
    for field, value in (
        ("way", {"way": "guess"}),
        ("line.held_out", {"line": line | {"held_out": {name: [] for name in LABELS}}}),
        ("line.held_out", {"line": line | {"held_out": {name: [1.5] for name in LABELS}}}),
        ("line.path", {"line": line | {"path": "x"}}),
        ("measured.ways", {"measured": content["measured"] | {"ways": {"guess": way}}}),
    ):
        with pytest.raises(JSONFileError, match=f"the field {field}"):
            check_json(content | value, Confidences, "confidence.json")
    with pytest.raises(JSONFileError, match="there is no calibration of lines"):
        check_json(content | {"line": None}, Confidences, "confidence.json")


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "scan-001/..", "scan-001\n", "", ".hidden", "a b", "é"])
def test_a_failure_names_no_folder_outside(name):
    failure = {"name": "scan-001", "number": 1, "digest": "ab", "error": "no"}
    named = ["scan-001", "valid_1_a_1", "train_1_ab_12", "scan number 3", "case_7.b"]
    check_json([failure | {"name": name} for name in named], Failures, "failures.json")
    with pytest.raises(JSONFileError, match=r"failures.json: the field 0\.name"):
        check_json([failure | {"name": name}], Failures, "failures.json")


COPY = {"source": "s", "phantom": True, "settings": {}, "shards": {"train": 1, "test": 0}, "ct_rate_pairs": "0.1"}


@pytest.mark.parametrize(
    ("schema", "sound", "wrong", "field"),
    [
        (PreparedCopy, COPY, COPY | {"phantom": "no"}, "phantom"),
        (PreparedCopy, COPY, COPY | {"settings": []}, "settings"),
        (PreparedCopy, COPY, COPY | {"shards": {"train": 10**9, "test": 0}}, "shards.train"),
        (PreparedCopy, COPY, COPY | {"shards": {"../x": 1}}, "shards"),
        (PreparedCopy, COPY, {name: COPY[name] for name in COPY if name != "source"}, "source"),
        (VolumeMessages, [["v", "m"]], [["v"]], "0"),
        (VolumeMessages, [], [["v", 3]], "0.1"),
        (Results, {"model": {"n": 1}, "all_negative": {}}, {"model": {}, "other": 3}, "the content"),
        (Results, {"model": {}}, {"all_negative": {}}, "model"),
        (Results, {"model": {}, "shuffled": {}}, {"model": [1]}, "model"),
        (Gaps, {"gaps": {"a": [0.5]}}, {"gaps": {"a": ["0.5"]}}, "gaps.a"),
        (Environment, {"versions": {"trl": "1"}, "commit": None}, {"commit": "<img>"}, "commit"),
        (Environment, {}, {"versions": {"trl": 1}}, "versions.trl"),
        (Environment, {"optimizer": {"name": "AdamW", "groups": []}}, {"optimizer": "AdamW"}, "optimizer"),
        (WeightsIndex, {"weight_map": {"a": "b"}}, {"weight_map": {"a": "../b"}}, "weight_map.a"),
        (WeightsIndex, {"weight_map": {"a": "b"}}, {"weight_map": {}}, "weight_map"),
    ],
)
def test_a_field_with_a_value_that_it_must_not_have_is_named(schema, sound, wrong, field):
    check_json(sound, schema, "f.json")
    with pytest.raises(JSONFileError, match=rf"f\.json: (the field )?{field}"):
        check_json(wrong, schema, "f.json")
