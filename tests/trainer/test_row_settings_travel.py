"""Whatever can be opened as a model brings its row settings along, or it is told or refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from helpers.pair_trainer import ROWS, make_dataset, make_model, make_trainer, options
from helpers.tree import SPACING
from peft import LoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ct_rate_pairs.eval.predictions.provenance import describe_provenance
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator, read_row_settings
from ct_rate_pairs.trainer.row_settings import (
    FILE,
    KEY,
    RowSettings,
    RowSettingsError,
    find_row_settings,
    options_to_show,
    row_settings,
    settings_of,
    write_row_settings,
)
from ct_rate_pairs.trainer.run_record import write_run_config
from ct_rate_pairs.trainer.whole_checkpoints import LISTED


# Options of `load_dataset` that decide what is read and written here, which a model has no say in.
OF_THE_MACHINE = ("data_dir", "data_files", "cache_dir", "on_error", "token", "revision", "streaming", "seed", "path")
OPTIONS = {"num_slices": 4, "spacing": SPACING, "validation_size": 0.0}
LORA = LoraConfig(target_modules=r".*language_model.*_proj", r=2)


def rows_of(tree, **given):
    return load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **OPTIONS | given)


def train(folder, rows, **given):
    trainer = make_trainer(folder, dataset=rows, beta=0.0, max_steps=1, save_strategy="steps", save_steps=1, **given)
    trainer.train()
    trainer.save_model()
    return trainer


@pytest.fixture(scope="module")
def runs(tree, tmp_path_factory) -> Path:
    """A run, an adapter on a base that was not trained here, and the settings of both."""
    folder, rows = tmp_path_factory.mktemp("runs"), rows_of(tree)
    expected = json.loads(json.dumps(row_settings(reader_of(rows)) | {"tasks": ["report"]}))
    (folder / "expected.json").write_text(json.dumps(expected))
    train(folder / "run", rows)
    base = make_trainer(folder / "none", beta=0.0).model
    del base.config.ct_rate_pairs
    base.save_pretrained(folder / "base")
    trainer = train(folder / "adapter", rows, peft_config=LORA)
    trainer.model.peft_config["default"].base_model_name_or_path = str(folder / "base")
    trainer.save_model()
    trainer.model.merge_and_unload().save_pretrained(folder / "merged")
    return folder


def copied(runs, name, to, *without):
    """A copy of a model without some of its files."""
    shutil.copytree(runs / name, to, ignore=shutil.ignore_patterns("checkpoint-*", *without))
    return to


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["run", "run/checkpoint-1", "adapter", "adapter/checkpoint-1", "merged"])
def test_each_artefact_of_a_run_has_the_settings_of_its_rows(runs, name, caplog):
    expected = json.loads((runs / "expected.json").read_text())
    assert find_row_settings(str(runs / name)).content() == expected and expected["num_slices"] == 4
    assert read_row_settings(str(runs / name)).keys() == expected.keys() - {"tasks"}
    assert not caplog.text


@pytest.mark.parametrize("name", ["run", "run/checkpoint-1", "adapter"])
def test_a_copy_of_the_weights_alone_has_them_too(runs, name, tmp_path):
    traces = (FILE, "training_args.bin", "trainer_state.json", "README.md")
    copy = copied(runs, name, tmp_path / "copy", *traces, "processor_config.json")
    assert find_row_settings(str(copy)).content() == json.loads((runs / "expected.json").read_text())


def test_the_weights_of_an_adapter_stay_bit_for_bit(runs, tmp_path):
    weights = load_file(runs / "adapter" / "adapter_model.safetensors")
    loaded = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(runs / "base"), runs / "adapter")
    loaded.save_pretrained(tmp_path)
    again = load_file(tmp_path / "adapter_model.safetensors")
    assert weights.keys() == again.keys() and all(torch.equal(weights[name], again[name]) for name in again)


def strip(folder: Path) -> Path:
    """Takes away what this release adds, as if an earlier one had trained the model."""
    (folder / FILE).unlink(missing_ok=True)
    if (folder / "config.json").exists():
        config = json.loads((folder / "config.json").read_text())
        del config[KEY]
        (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "processor_config.json").read_text())
    del processor["image_processor"][KEY]
    (folder / "processor_config.json").write_text(json.dumps(processor))
    for path in folder.glob("adapter_model.safetensors"):
        save_file(load_file(path), path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("name", "trace"),
    [("run", "training_args.bin"), ("run/checkpoint-1", "trainer_state.json"), ("adapter", "training_args.bin")],
)
def test_a_model_of_an_earlier_release_without_them_is_refused(runs, tmp_path, name, trace):
    folder = strip(copied(runs, name, tmp_path / "copy"))
    with pytest.raises(
        RowSettingsError, match=rf"trained by ct-rate-pairs \({trace} tells so\).*Copy row_settings.json"
    ):
        read_row_settings(str(folder))


def test_the_settings_that_a_refusal_shows_can_be_written_as_they_are(runs, tmp_path):
    folder = strip(copied(runs, "run", tmp_path / "copy"))
    with pytest.raises(RowSettingsError) as refused:
        read_row_settings(str(folder))
    shown = re.search(r"\{.*\}", str(refused.value))[0]
    (folder / FILE).write_text(shown)
    assert read_row_settings(str(folder)) == json.loads(shown) and json.loads(shown)["num_slices"] == 10


def test_an_adapter_that_another_program_has_merged_takes_those_of_its_processor_and_tells(runs, tmp_path, caplog):
    base = AutoModelForImageTextToText.from_pretrained(runs / "base")
    PeftModel.from_pretrained(base, runs / "adapter").merge_and_unload().save_pretrained(tmp_path)
    assert find_row_settings(str(tmp_path)) is None
    AutoProcessor.from_pretrained(runs / "adapter").save_pretrained(tmp_path)
    assert find_row_settings(str(tmp_path)).content() == json.loads((runs / "expected.json").read_text())
    assert "the settings in its processor_config.json are taken" in caplog.text


def test_a_card_a_record_or_a_config_tells_too_that_a_model_was_trained_here(runs, tree, tmp_path):
    folder = strip(copied(runs, "run", tmp_path / "copy", "training_args.bin"))
    assert find_row_settings(str(folder)) is None
    (folder / "README.md").write_text("# run\n\nIt was trained with `ct-rate-pairs`.\n")
    with pytest.raises(RowSettingsError, match=r"README.md tells so"):
        find_row_settings(str(folder))
    (folder / "README.md").unlink()
    write_run_config("ct-rate-pairs train", {"seed": 1}, {"seed"}, folder)
    with pytest.raises(RowSettingsError, match=r"run.yaml tells so"):
        find_row_settings(str(folder))
    (folder / "run.yaml").unlink()
    test = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", **OPTIONS)
    told = describe_provenance("w", test, split="test", dtype="float32", max_new_tokens=8)
    (folder / "predictions.provenance.json").write_text(json.dumps(told))
    assert find_row_settings(str(folder)) is None  # whoever evaluates another's model beside itself writes this file
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {KEY: {}}))
    with pytest.raises(RowSettingsError, match=r"config.json tells so"):
        find_row_settings(str(folder))


def test_rows_of_nobody_knows_where_are_told_and_their_model_is_refused(tmp_path, caplog):
    trainer = make_trainer(tmp_path / "run", beta=0.0, max_steps=1)
    assert "It is not known how the training rows were made" in caplog.text
    trainer.save_model()
    with pytest.raises(RowSettingsError, match=r"config.json tells so"):
        find_row_settings(str(tmp_path / "run"))


def test_a_checkpoint_without_its_own_takes_those_of_its_run_and_tells(runs, tmp_path, caplog):
    run = tmp_path / "run"
    strip(Path(shutil.copytree(runs / "run" / "checkpoint-1", run / "checkpoint-1")))
    shutil.copy(runs / "run" / FILE, run / FILE)
    assert find_row_settings(f"{run}/checkpoint-1/").options["num_slices"] == 4
    assert "that of its run" in caplog.text


def test_an_adapter_from_elsewhere_takes_those_of_its_base_and_tells(runs, tmp_path, caplog):
    folder = strip(copied(runs, "adapter", tmp_path / "copy", "training_args.bin"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(runs / "run")}))
    assert find_row_settings(str(folder)).options["num_slices"] == 4
    assert "that of its base" in caplog.text


def test_copies_that_disagree_are_refused(runs, tmp_path):
    for name, place in (("run", "config.json"), ("adapter", "adapter_model.safetensors")):
        folder = copied(runs, name, tmp_path / name)
        (folder / FILE).write_text((folder / FILE).read_text().replace('"num_slices": 4', '"num_slices": 5'))
        with pytest.raises(RowSettingsError, match=rf"{place} disagree.*num_slices 5, now 4"):
            read_row_settings(str(folder))
        folder = copied(runs, name, tmp_path / f"{name}-processor")
        processor = json.loads((folder / "processor_config.json").read_text())
        processor["image_processor"][KEY]["num_slices"] = 6
        (folder / "processor_config.json").write_text(json.dumps(processor))
        for shown in (FILE, place):
            with pytest.raises(
                RowSettingsError, match=rf"{shown} and processor_config.json disagree.*num_slices 4, now 6"
            ):
                read_row_settings(str(folder))
            (folder / FILE).unlink(missing_ok=True)
        folder = copied(runs, name, tmp_path / f"{name}-tasks")
        (folder / FILE).write_text((folder / FILE).read_text().replace('"report"', '"vqa"'))
        with pytest.raises(RowSettingsError, match=rf"{place} disagree.*tasks vqa, now report"):
            read_row_settings(str(folder))


@pytest.mark.parametrize("content", ['{"num_slices": 4}', '{"tasks": ["report"]}', "{}"])
def test_what_a_file_of_settings_lacks_is_taken_from_a_copy_or_refused(runs, tmp_path, content, caplog):
    for name in ("run", "adapter"):
        folder = copied(runs, name, tmp_path / name)
        (folder / FILE).write_text(content)
        assert find_row_settings(str(folder)).content() == json.loads((runs / "expected.json").read_text())
        strip(folder)
        (folder / FILE).write_text(content)
        if "num_slices" in content:
            assert read_row_settings(str(folder)) == {"num_slices": 4} and "Assumed: spacing=" in caplog.text
            continue
        with pytest.raises(RowSettingsError, match=r"row_settings.json of .*there is no setting of slices.*by hand"):
            find_row_settings(str(folder))


def test_the_weights_of_an_adapter_are_the_same_file_in_each_process(runs, tmp_path):
    folder, written = copied(runs, "adapter", tmp_path / "adapter"), set()
    tensors = load_file(folder / "adapter_model.safetensors")
    for metadata in ({"format": "pt", "a": "é"}, {"a": "é", "format": "pt"}):
        for _ in range(8):
            save_file(tensors, folder / "adapter_model.safetensors", metadata=metadata)
            write_row_settings(RowSettings({"num_slices": 4}), folder)
            written.add((folder / "adapter_model.safetensors").read_bytes())
    assert len(written) == 1
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"a": "é", KEY: '{"num_slices": 4}', "format": "pt"}
    again = load_file(folder / "adapter_model.safetensors")
    assert tensors.keys() == again.keys() and all(torch.equal(tensors[name], again[name]) for name in again)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ('{"num_slices": 4, "tilt": 3}', "the setting 'tilt'"),
        ('{"num_slices": 4, "num_slices": 5}', "the name 'num_slices' twice"),
        ('{"tasks": ["chat"]}', "the field tasks.0 .*got 'chat'"),
        ('{"tasks": []}', "the field tasks"),
        ('["num_slices"]', "the content"),
        ('{"num_slices": true}', "the field num_slices"),
        ('{"num_slices": "4"}', "the field num_slices"),
        ('{"num_slices": 1000000000}', "num_slices=1000000000: give at most"),
        ('{"spacing": [1e-9, 1, 1]}', "spacing=.*give sizes from"),
        ('{"spacing": [1, 1, 1e999]}', "the field spacing.2 .*finite"),
        ('{"z_range": [0, NaN]}', "the field z_range.1 .*finite"),
        ('{"window": [1, -1]}', "window=.*choose one of"),
        ('{"window": {"low": 1}}', "the field window"),
        ('{"prompt": "../x"}', "prompt='../x' is unknown"),
        ('{"prompt_metadata": 1}', "the field prompt_metadata"),
        ('{"num_false": 1000}', "num_false=1000"),
        ('{"question_types": ["side", "side"]}', "give each type once"),
        *((json.dumps({name: "x"}), f"the setting '{name}'") for name in OF_THE_MACHINE),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, content, told):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RowSettingsError, match=told):
        read_row_settings(str(tmp_path))


def test_what_is_assumed_is_told(tmp_path, caplog):
    (tmp_path / "config.json").write_text("{}")
    assert read_row_settings(str(tmp_path)) == {}
    assert "Assumed: num_slices=10, spacing=(0.75, 0.75, 1.5), window=paper" in caplog.text
    caplog.clear()
    (tmp_path / FILE).write_text('{"num_slices": 6}')
    assert read_row_settings(str(tmp_path)) == {"num_slices": 6}
    assert "Assumed: spacing=" in caplog.text and "num_slices" not in caplog.text


def test_other_options_and_other_tasks_than_those_of_the_training_are_told(runs, caplog):
    name = str(runs / "run")
    shown = options_to_show(name, None, {"num_slices": 8, "spacing": SPACING}, "vqa")
    assert shown["num_slices"] == 8 and shown["window"] == "paper"
    assert "num_slices 4, now 8." in caplog.text and "was trained on report, and not on vqa" in caplog.text
    caplog.clear()
    options_to_show(name, None, {"num_slices": 4}, "report")
    assert not caplog.text


def test_a_model_of_other_tasks_says_which_to_the_dataset_by_default(tree):
    readers = [reader_of(rows_of(tree, task=task)) for task in ("vqa", "report")]
    assert settings_of(readers[:1]).options["task"] == "vqa"
    assert "task" not in settings_of(readers).options and settings_of(readers).tasks == ("vqa", "report")
    assert settings_of(readers).content()["tasks"] == ["vqa", "report"]


def test_going_on_from_a_model_of_other_rows_is_told_and_with_an_adapter_refused(runs, tree, tmp_path, caplog):
    model, processor = make_model()
    given = {"dataset": rows_of(tree, num_slices=6), "beta": 0.0, "made": (model, processor)}
    model.config.ct_rate_pairs = json.loads((runs / "run" / FILE).read_text())
    with pytest.raises(RowSettingsError, match=r"other rows: num_slices 4, now 6.*without an adapter"):
        make_trainer(tmp_path, peft_config=LORA, **given)
    model, processor = make_model()
    model.config.ct_rate_pairs = json.loads((runs / "run" / FILE).read_text())
    trainer = make_trainer(tmp_path, **given | {"made": (model, processor)})
    assert "The model was trained on other rows: num_slices 4, now 6." in caplog.text
    assert trainer.model.config.ct_rate_pairs["num_slices"] == 6


def test_a_checkpoint_of_other_rows_is_not_resumed(runs, tree, tmp_path):
    checkpoint = shutil.copytree(runs / "run" / "checkpoint-1", tmp_path / "checkpoint-1")
    trainer = make_trainer(tmp_path, dataset=rows_of(tree, num_slices=6), beta=0.0, max_steps=2)
    with pytest.raises(RowSettingsError, match="num_slices 4, now 6.*Resume with the options of its run"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def test_a_checkpoint_without_its_optimizer_is_told(runs, tree, tmp_path, caplog):
    checkpoint = shutil.copytree(runs / "run" / "checkpoint-1", tmp_path / "checkpoint-1")
    listed = json.loads((checkpoint / LISTED).read_text())
    for file in ("scheduler.pt", "optimizer.pt", "rng_state.pth"):
        (checkpoint / file).unlink()
        del listed[file]  # as `save_only_model` leaves it
    (checkpoint / LISTED).write_text(json.dumps(listed))
    make_trainer(tmp_path, dataset=rows_of(tree), beta=0.0, max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    assert "optimizer and learning rate start anew" in caplog.text


def test_a_checkpoint_of_other_tasks_is_not_resumed(runs, tree, tmp_path):
    checkpoint = shutil.copytree(runs / "run" / "checkpoint-1", tmp_path / "checkpoint-1")
    trainer = make_trainer(tmp_path, dataset=rows_of(tree, task="vqa"), beta=0.0, max_steps=2)
    with pytest.raises(RowSettingsError, match="tasks report, now vqa"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("rate", [20.0, None])
def test_the_rate_of_depth_travels_with_the_processor(tmp_path, rate):
    model, processor = make_model()
    trainer = NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(**options(tmp_path, beta=0.0)),
        train_dataset=make_dataset(ROWS),
        data_collator=PairCollator(processor, mm_per_second=rate),
        processing_class=processor,
    )
    trainer.save_model()
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert PairCollator(loaded).mm_per_second == (rate or 10.0)
    told = PairCollator(loaded).prompts(ROWS[:1])["second_per_grid_ts"].tolist()
    assert told == trainer.data_collator.prompts(ROWS[:1])["second_per_grid_ts"].tolist()


def test_settings_compare_as_json(tree):
    settings = settings_of([reader_of(rows_of(tree))])
    assert RowSettings(settings.content()).changes(settings.options) == []
