"""A model by its folder: whole, or an adapter with its base."""

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_eval_generate import REPORTS, make_row

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import is_model_folder, load_model, version_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


ROW = make_row(0, REPORTS[0])


def write(model, collator):
    return generate_reports(model, collator, [ROW], max_new_tokens=12, progress=False)


@pytest.fixture
def base(tmp_path):
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "base")
    return model, processor, tmp_path / "base"


def test_a_whole_model_writes_what_it_wrote_before_it_was_saved(base):
    model, processor, folder = base
    loaded, collator = load_model(str(folder))
    assert not loaded.training
    assert write(loaded, collator) == write(model, PairCollator(processor))


def test_an_adapter_is_loaded_onto_its_base(base, tmp_path):
    model, processor, _ = base
    plain = write(model, PairCollator(processor))
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=r".*language_model.*_proj", init_lora_weights=False)
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.mul_(30)
    expected = write(adapted, PairCollator(processor))
    adapted.peft_config["default"].base_model_name_or_path = str(base[2])
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    loaded, collator = load_model(str(tmp_path / "adapter"))
    assert write(loaded, collator) == expected != plain


def test_new_weights_are_another_version_and_a_copy_is_not(base, tmp_path):
    folder = base[2]
    before = version_of(str(folder))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)  # with new times
    assert version_of(f"{tmp_path}/copy/") == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert version_of(str(folder)) != before


def test_a_folder_of_results_is_no_model(tmp_path):
    (tmp_path / "user" / "model" / "evaluation").mkdir(parents=True)
    assert not is_model_folder(str(tmp_path / "user" / "model"))
    with pytest.raises(OSError, match="neither a model's folder"):
        version_of(str(tmp_path / "user" / "model"))
