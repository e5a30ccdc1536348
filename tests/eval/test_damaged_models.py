"""Files of a model that are damaged, or made to harm: a message that names the model, and no traceback."""

import json
import math
import shutil

import pytest
from helpers.eval_rows import REPORTS
from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file, save_file

from ct_rate_pairs.eval.load_model import load_model, version_of
from ct_rate_pairs.json_files import JSONFileError, read_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.trainer.finite import NonFiniteWeightsError
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    for part in make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("file", "fields", "told"),
    [
        ("config.json", {"attn_implementation": "kernels-community/evil"}, r"config.json: .*'kernels-community/evil'"),
        ("config.json", {"_attn_implementation": "evil/evil"}, r"config.json: .*'evil/evil'"),
        ("config.json", {"dtype": "__class__"}, r"config.json: the field dtype"),
        ("config.json", {"text_config": 3}, r"model cannot be loaded \("),
        ("config.json", {"model_type": "nothing"}, r"model cannot be loaded \("),
        ("config.json", {"vision_config": {"depth": -1.5}}, r"model cannot be loaded \("),
        ("generation_config.json", {"eos_token_id": "x"}, r"model cannot be loaded \(.*eos_token_id"),
        ("tokenizer_config.json", {"model_max_length": "x"}, r"tokenizer of .*/model: the field model_max_length"),
        ("tokenizer_config.json", {"extra_special_tokens": 3}, r"model cannot be loaded \("),
    ],
)
def test_a_field_that_is_wrong_ends_with_a_message_that_names_the_model(folder, file, fields, told):
    change(folder / file, **fields)
    with pytest.raises(ValueError, match=told) as caught:
        load_model(str(folder))
    assert str(folder) in str(caught.value)


def elsewhere(folder, at):
    """Moves the weights of a model to another place."""
    (folder / at).parent.mkdir(exist_ok=True)
    shutil.move(folder / "model.safetensors", folder / at)
    return at


def by_config(folder, at):
    change(folder / "config.json", transformers_weights=elsewhere(folder, at))


def by_index(folder, at):
    names = load_file(folder / "model.safetensors")
    content = {"metadata": {}, "weight_map": dict.fromkeys(names, elsewhere(folder, at))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("named", [by_config, by_index])
@pytest.mark.parametrize("at", ["parts/model.safetensors", "../model.safetensors"])
def test_weights_are_read_only_where_the_version_of_the_model_finds_them(folder, named, at):
    named(folder, at)
    with pytest.raises(JSONFileError, match=r"the field (transformers_weights|weight_map\.)"):
        load_model(str(folder))


def test_weights_with_another_name_in_the_folder_are_a_part_of_the_version(folder):
    by_config(folder, "other.safetensors")
    load_model(str(folder))
    before = version_of(str(folder))
    weights = load_file(folder / "other.safetensors")
    next(iter(weights.values()))[0] += 1
    save_file(weights, folder / "other.safetensors", {"format": "pt"})
    assert version_of(str(folder)) != before


@pytest.mark.parametrize(
    "fields", [{"vision_config": {"depth": 10**5}}, {"text_config": [{"num_hidden_layers": 1e9}]}, {"layers": 1001}]
)
def test_a_model_of_more_layers_than_any_has_is_not_built(folder, fields):
    change(folder / "config.json", **fields)
    with pytest.raises(JSONFileError, match="but a model has at most 1000 layers"):
        load_model(str(folder))


def test_a_tokenizer_without_its_words_is_told(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer of .*/model knows no word"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_size", 0),
        ("patch_size", "x"),
        ("merge_size", -1),
        ("image_std", [0, 0, 0]),
        ("rescale_factor", math.nan),
    ],
)
@pytest.mark.parametrize("part", ["image_processor", "video_processor"])
def test_a_processor_that_cannot_read_a_scan_is_refused_when_it_is_loaded(folder, part, field, value):
    config = json.loads((folder / "processor_config.json").read_text())
    change(folder / "processor_config.json", **{part: config[part] | {field: value}})
    with pytest.raises(ValueError, match=rf"{part} of .*/model.*{field}|model cannot be loaded"):
        load_model(str(folder))


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"'])
@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_of_another_kind_ends_with_a_message(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises((ValueError, OSError)):
        load_model(str(folder))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_write_no_reports(folder, tmp_path, value):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name][0, 0] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(NonFiniteWeightsError, match=r"/model holds NaN or infinity in 1 tensors, such as .*q_proj"):
        load_model(str(folder))


def test_an_adapter_that_is_not_finite_writes_no_reports(folder, tmp_path):
    adapted = get_peft_model(load_model(str(folder))[0], LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    load_model(str(tmp_path / "adapter"))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    weights[next(iter(weights))][0] = math.nan
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(NonFiniteWeightsError, match=r"/adapter holds NaN or infinity in 1 tensors, such as .*lora"):
        load_model(str(tmp_path / "adapter"))
    change(folder / "config.json", attn_implementation="evil/evil")
    with pytest.raises(ValueError, match=r"model/config.json: .*'evil/evil'"):
        load_model(str(tmp_path / "adapter"))


def test_weights_that_overflow_in_float16_are_told(folder):
    weights = load_file(folder / "model.safetensors")
    weights[next(name for name in weights if name.endswith("q_proj.weight"))][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load_model(str(folder))
    with pytest.raises(NonFiniteWeightsError, match="If it was loaded in float16"):
        load_model(str(folder), dtype="float16")


@pytest.mark.parametrize("kind", [LoraConfig, LoHaConfig, LoKrConfig, OFTConfig, IA3Config, AdaLoraConfig])
def test_what_peft_writes_is_taken(tmp_path, kind):
    options = {"total_step": 9} if kind is AdaLoraConfig else {}
    options |= {"feedforward_modules": []} if kind is IA3Config else {}
    kind(target_modules=["q_proj", "v_proj"], **options).save_pretrained(tmp_path)
    read_json(tmp_path / "adapter_config.json", AdapterConfig)
