"""A model by its folder: whole, or an adapter with its base; of every family that the docs name."""

import json
import shutil

import pytest
import torch
from helpers.eval_rows import REPORTS, make_row
from helpers.tiny_image_models import (
    make_tiny_idefics3,
    make_tiny_llava,
    make_tiny_llava_med,
    make_tiny_onevision,
)
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from helpers.writable_hub import WRITE, WritableHub
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import (
    DECIDING,
    base_commit_of,
    check_model,
    load_model,
    version_of,
)
from ct_rate_pairs.eval.looking.likelihood import option_losses, report_tokens
from ct_rate_pairs.eval.looking.loss_gap import loss_gap
from ct_rate_pairs.eval.predictions.montage import MontageCollator
from ct_rate_pairs.eval.scoring.radbert import load_radbert
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.hub_files import commit_of, is_model_folder
from ct_rate_pairs.trainer.row_settings import KEY, find_row_settings
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


def save_adapter(model, processor, base_name, folder):
    """Saves a LoRA that changes what the model writes, and returns that."""
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=r".*language_model.*_proj", init_lora_weights=False)
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.mul_(30)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    adapted.save_pretrained(folder)
    processor.save_pretrained(folder)
    return write(adapted, PairCollator(processor))


def test_an_adapter_is_loaded_onto_its_base(base, tmp_path):
    model, processor, folder = base
    plain = write(model, PairCollator(processor))
    expected = save_adapter(model, processor, str(folder), tmp_path / "adapter")
    loaded, collator = load_model(str(tmp_path / "adapter"))
    assert write(loaded, collator) == expected != plain


def test_an_adapter_without_a_processor_has_that_of_its_base_and_this_is_told(base, tmp_path, caplog):
    model, processor, folder = base
    expected = save_adapter(model, processor, str(folder), tmp_path / "adapter")
    for file in (tmp_path / "adapter").iterdir():
        if not file.name.startswith("adapter_"):
            file.unlink()
    loaded, collator = load_model(str(tmp_path / "adapter"))
    assert write(loaded, collator) == expected
    assert f"adapter has no processor: that of its base model {folder} is taken" in caplog.text


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = WritableHub()
    hub.connect(monkeypatch, WRITE, tmp_path / "hf")
    yield hub
    hub.stop()


@pytest.mark.slow
def test_an_adapter_on_a_branch_tag_or_commit_is_loaded_onto_the_main_branch_of_its_base(hub, base, tmp_path):
    model, processor, folder = base
    plain = write(model, PairCollator(processor))
    expected = save_adapter(model, processor, "alice/base", tmp_path / "adapter")
    api = HfApi()
    for name in ("alice/base", "alice/lora"):
        api.create_repo(name)
        api.upload_folder(folder_path=folder, repo_id=name)  # on main, lora is a whole model
    api.create_branch("alice/lora", branch="heter", revision="main")
    api.delete_file("config.json", "alice/lora", revision="heter")
    api.upload_folder(folder_path=tmp_path / "adapter", repo_id="alice/lora", revision="heter")
    api.create_tag("alice/lora", tag="v1", revision="heter")
    for revision in ("heter", "v1", commit_of("alice/lora", "v1")):
        loaded, collator = load_model("alice/lora", revision)
        assert write(loaded, collator) == expected != plain
    assert write(*load_model("alice/lora")) == plain
    half, _ = load_model("alice/lora", "v1", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    commits = hub.repo("alice/lora").rev("heter"), hub.repo("alice/base").rev("main")
    assert version_of("alice/lora", "v1") == f"alice/lora@{commits[0]} on alice/base@{commits[1]}"
    assert version_of("alice/lora", "v1", base_commit="abc") == f"alice/lora@{commits[0]} on alice/base@abc"
    assert version_of("alice/lora") == f"alice/lora@{hub.repo('alice/lora').rev('main')}"

    settings = json.dumps(json.loads((folder / "config.json").read_text()) | {KEY: {"num_slices": 6}}).encode()
    api.upload_file(path_or_fileobj=settings, path_in_repo="config.json", repo_id="alice/lora", revision="heter")
    commits = hub.repo("alice/lora").rev("heter"), commits[1]  # transformers still loads the adapter and its base
    assert write(*load_model("alice/lora", "heter")) == expected
    assert version_of("alice/lora", "heter") == f"alice/lora@{commits[0]} on alice/base@{commits[1]}"
    assert find_row_settings("alice/lora", "heter") is None  # the adapter and its base have none


@pytest.mark.slow
def test_an_adapter_is_loaded_onto_the_commit_of_its_base_that_it_was_trained_on(hub, base, tmp_path):
    model, processor, folder = base
    expected = save_adapter(model, processor, "alice/base", tmp_path / "adapter")
    api = HfApi()
    api.create_repo("alice/base")
    api.upload_folder(folder_path=folder, repo_id="alice/base")
    trained_on = hub.repo("alice/base").rev("main")
    other, _ = make_tiny_qwen(REPORTS, seed=5, hidden_size=32, num_layers=1, vision_depth=1)
    other.save_pretrained(tmp_path / "other")  # somebody pushes other weights to the branch
    weights = "model.safetensors"
    api.upload_file(path_or_fileobj=tmp_path / "other" / weights, path_in_repo=weights, repo_id="alice/base")
    moved = hub.repo("alice/base").rev("main")
    adapter = str(tmp_path / "adapter")
    assert base_commit_of(adapter) == moved and write(*load_model(adapter)) != expected
    assert write(*load_model(adapter, base_commit=trained_on)) == expected
    unrecorded = version_of(adapter)

    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"revision": trained_on}))
    api.create_repo("alice/lora")
    api.upload_folder(folder_path=adapter, repo_id="alice/lora")
    for name in (adapter, "alice/lora"):
        assert base_commit_of(name) == trained_on
        assert write(*load_model(name)) == expected
    assert version_of("alice/lora").endswith(f" on alice/base@{trained_on}") and version_of(adapter) != unrecorded
    assert base_commit_of("alice/base") is None and base_commit_of(str(folder)) is None


@pytest.mark.slow_but_first
@pytest.mark.parametrize("base_name", ["/root/private", "../private", "a/b/c", "~/private"])
def test_an_adapter_on_the_hub_names_no_path_of_this_machine(hub, base, tmp_path, base_name):
    model, processor, _ = base
    save_adapter(model, processor, base_name, tmp_path / "adapter")
    HfApi().create_repo("alice/adapter")
    HfApi().upload_folder(repo_id="alice/adapter", folder_path=tmp_path / "adapter")
    for opens in (load_model, find_row_settings):
        with pytest.raises(
            ValueError, match=r"alice/adapter on the Hub names '.*' as its base model, which is no name"
        ):
            opens("alice/adapter")


def test_an_adapter_that_names_code_is_refused(base, tmp_path):
    model, processor, folder = base
    save_adapter(model, processor, str(folder), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"megatron_config": {}, "megatron_core": "evil"}))
    with pytest.raises(ValueError, match=r"adapter_config.json: the field megatron_config"):
        load_model(str(tmp_path / "adapter"))


CODE = """
from pathlib import Path
Path({marker!r}).write_text("run")
from transformers import PreTrainedConfig as Config, PreTrainedModel as Model, ProcessorMixin as Processor
"""


@pytest.mark.parametrize("opens", [load_model, load_radbert.__wrapped__])
def test_code_of_a_model_is_never_run_nor_asked_for(tmp_path, monkeypatch, opens):
    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
    classes = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": classes, "architectures": ["EvilForSequenceClassification"]})
    )
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # the answer of a user who does not read
    monkeypatch.setattr("signal.alarm", lambda *_: None)
    with pytest.raises(ValueError, match="trust_remote_code"):
        opens(str(folder))
    assert not marker.exists()


def test_a_hub_that_does_not_answer_is_no_model_without_a_config(hub):
    HfApi().create_repo("alice/model")
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="alice/model")
    hub.faults = [{"path": "adapter_config.json", "status": 403, "times": 9}]
    for reads in (version_of, load_model):
        with pytest.raises(OSError, match="there is adapter_config.json in alice/model is not known"):
            reads("alice/model")
    hub.faults = []
    assert version_of("alice/model") == f"alice/model@{commit_of('alice/model')}"


def test_new_weights_are_another_version_and_a_copy_is_not(base, tmp_path):
    folder = base[2]
    before = version_of(str(folder))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)  # with new times
    assert version_of(f"{tmp_path}/copy/") == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert version_of(str(folder)) != before


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model-00002-of-00002.safetensors",
        "pytorch_model.bin.index.json",
        "config.json",
        "generation_config.json",
        "row_settings.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "chat_template.jinja",
        "additional_chat_templates/other.jinja",
    ],
)
def test_each_file_that_decides_what_a_model_writes_is_a_part_of_its_version(base, name):
    folder = base[2]
    path = folder / name
    before = version_of(str(folder))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.is_file() else b"") + b" ")
    after = version_of(str(folder))
    path.write_bytes(path.read_bytes() + b" ")
    assert len({before, after, version_of(str(folder))}) == 3


def test_what_a_run_keeps_beside_its_model_is_no_part_of_its_version(base):
    folder = base[2]
    before = version_of(str(folder))
    kept = ("training_args.bin", "optimizer.pt", "rng_state.pth", "README.md", "predictions.jsonl", "results.json")
    for name in (*kept, "training_config.json", "environment.json", "confidence.json", "trainer_state.json"):
        (folder / name).write_bytes(b"1")
    assert version_of(str(folder)) == before
    assert version_of(str(folder), files=(*DECIDING, "confidence.json")) != before


def test_an_adapter_is_another_model_on_another_base_wherever_both_lie(base, tmp_path):
    model, processor, folder = base
    save_adapter(model, processor, str(folder), tmp_path / "adapter")
    before = version_of(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())

    def version_on(name):
        path.write_text(json.dumps(config | {"base_model_name_or_path": name}))
        return version_of(str(tmp_path / "adapter"), base_commit="abc")

    moved = shutil.copytree(folder, tmp_path / "moved")
    assert version_on(str(moved)) == before
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    versions = {before, version_on(str(moved)), version_on("alice/base"), version_on("alice/other"), version_on(None)}
    assert len(versions) == 5
    with pytest.raises(ValueError, match=r"is an adapter itself: merge that one"):
        version_on(str(tmp_path / "adapter"))


def test_a_hub_that_is_gone_does_not_hinder_the_version_of_a_loaded_adapter(base, tmp_path, monkeypatch):
    model, processor, _ = base
    save_adapter(model, processor, "alice/base", tmp_path / "adapter")
    monkeypatch.setattr("ct_rate_pairs.eval.load_model.commit_of", lambda *_: pytest.fail("the Hub is asked"))
    assert version_of(str(tmp_path / "adapter"), base_commit="abc").startswith("sha256:")


def test_a_folder_of_results_is_no_model(tmp_path):
    (tmp_path / "user" / "model" / "evaluation").mkdir(parents=True)
    assert not is_model_folder(str(tmp_path / "user" / "model"))
    with pytest.raises(OSError, match="holds no model: it has neither adapter_config.json nor config.json"):
        load_model(str(tmp_path / "user" / "model"))
    with pytest.raises(OSError, match="neither a model's folder"):
        version_of(str(tmp_path / "user" / "model"))


TEXTS = [*REPORTS, "Write the report.", "USER: ASSISTANT:"]

FAMILIES = {
    "qwen2.5-vl": lambda: make_tiny_qwen(TEXTS, hidden_size=32, num_layers=1, vision_depth=1),
    "qwen3-vl": lambda: make_tiny_qwen3(TEXTS),
    "qwen3.5": lambda: make_tiny_qwen3_5(TEXTS),
    "gemma3": lambda: make_tiny_gemma3(TEXTS),
    "llava": lambda: make_tiny_llava(TEXTS),
    "llava-med": lambda: make_tiny_llava_med(TEXTS),
    "llava-onevision": lambda: make_tiny_onevision(TEXTS),
    "idefics3": lambda: make_tiny_idefics3(TEXTS),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for part in FAMILIES[request.param]():
        part.save_pretrained(folder)
    return request.param, str(folder)


ROWS = [make_row(seed, report) for seed, report in enumerate(REPORTS)]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("slices_as", ["slices", "montage"])
def test_every_family_writes_reports_and_is_measured(family, slices_as):
    name, folder = family
    model, collator = load_model(folder, slices_as=slices_as)
    assert collator.takes_video == (slices_as == "slices" and name.startswith("qwen"))
    assert len(generate_reports(model, collator, ROWS, max_new_tokens=4, progress=False)) == len(ROWS)
    check_model(model, collator, ROWS[0], 4, with_losses=True)
    gaps = loss_gap(model, collator, ROWS, volumes=("noise", "blank"), progress=False)
    assert all(gap != 0 for gap in gaps["pair_gaps_noise"] + gaps["pair_gaps_blank"])
    prompt = collator.prompts(ROWS[:1])
    # A template may write a blank before an answer, and only there.
    plain, opened = (
        collator.processor.batch_decode(collator.prompts(ROWS[:1], openings)["input_ids"])[0]
        for openings in ([""], ["Findings: "])
    )
    assert opened.removesuffix("Findings: ").rstrip(" ") == plain.rstrip(" ") and opened != plain
    with torch.no_grad():
        losses = option_losses(model, prompt, report_tokens(collator, ROWS))
    assert losses[0] / len(report_tokens(collator, ROWS[:1])[0]) == pytest.approx(
        loss_gap(model, collator, ROWS[:1], volumes=("noise",), progress=False)["loss_pos"], rel=1e-3
    )


def test_a_montage_is_one_image_told_of_in_the_prompt_and_its_negative_another():
    _, processor = make_tiny_gemma3(TEXTS)
    collator = MontageCollator(processor)
    negative = ROWS[1]["images"]
    batch = collator([ROWS[0] | {"negative_images": negative, "negative_volume": "b"}])
    assert batch["pixel_values"].shape == batch["negative_pixel_values"].shape == (1, 3, 28, 28)
    as_images = collator.prompts([ROWS[0] | {"images": negative}])
    assert torch.equal(batch["negative_pixel_values"], as_images["pixel_values"])
    assert not torch.equal(batch["negative_pixel_values"], batch["pixel_values"])
    told = processor.tokenizer.decode(as_images["input_ids"][0])
    assert "4 axial slices of one chest CT in one picture" in told and "Write the report." in told
    assert len(ROWS[0]["images"]) == 4  # the row is left as it was


def test_slices_that_do_not_fit_into_the_context_are_refused():
    model, processor = make_tiny_llava(TEXTS)
    row = ROWS[0] | {"images": ROWS[0]["images"] * 3, "slice_mm": [30.0 * place for place in range(12)]}
    with pytest.raises(ValueError, match=r"takes \d+ tokens.* context of 250.*--slices_as montage"):
        check_model(model, PairCollator(processor), row, 60, with_losses=False)
    check_model(model, MontageCollator(processor), row, 60, with_losses=False)
