"""The options of the recipes: names of earlier releases, and configs."""

import pytest
import yaml

from ct_rate_pairs.command_line import read_config
from ct_rate_pairs.recipes import evaluate_reports, evaluate_task, sft_neg, train_matcher
from ct_rate_pairs.recipes.evaluate_reports import EvaluationArguments
from ct_rate_pairs.recipes.recipe_parser import OLD_NAMES, RecipeParser, find_config


def parse(*arguments):
    return RecipeParser([EvaluationArguments], "evaluate", "").parse(arguments)[0]


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_is_accepted_and_told_as_old(old, tmp_path, capsys):
    new, value = OLD_NAMES[old], "3" if OLD_NAMES[old].startswith(("max", "per", "data")) else "three"
    (tmp_path / "old.yaml").write_text(f"{old}: {value}\n")
    by_new_name = parse(f"--{new}", value)
    assert capsys.readouterr().err == ""
    for arguments in ([f"--{old}", value], [f"--{old}={value}"], ["--config", str(tmp_path / "old.yaml")]):
        assert parse(*arguments) == by_new_name
        assert f"--{old} is an old name of --{new}" in capsys.readouterr().err


def test_a_config_is_found_by_its_path_or_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_config("phantom")
    assert shipped == find_config("phantom.yaml") == find_config("recipes/configs/phantom.yaml")
    (tmp_path / "phantom.yaml").write_text("beta: 0.3\n")
    assert find_config("phantom.yaml").resolve() == tmp_path / "phantom.yaml" and find_config("phantom") == shipped
    for name in ("fantom", "elsewhere/phantom.yaml"):
        with pytest.raises(FileNotFoundError, match="Give a file, or one of errors, gauss"):
            find_config(name)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("true", True),
        ("false", False),
        ("sex age", True),
        ("device", ("device",)),
        ("surgery age", ("age", "surgery")),
    ],
)
def test_what_prompts_tell_is_read_alike_from_command_line_and_config(words, read, tmp_path):
    config = tmp_path / "c.yaml"
    assert parse("--prompt_metadata", *words.split()).prompt_metadata == read
    # `true` is a switch in YAML, and a word where the command line gave it.
    for value in (words.split(), *([words] if " " not in words else [])):
        config.write_text(f"prompt_metadata: {value}\n")
        assert parse("--config", str(config)).prompt_metadata == read


def test_a_name_that_prompts_cannot_tell_is_refused_by_the_command(capsys):
    with pytest.raises(SystemExit):
        parse("--prompt_metadata", "age", "race")
    assert "race" in capsys.readouterr().err


def test_what_is_for_training_alone_is_no_option_of_an_evaluation(capsys):
    recipe_args, *_ = sft_neg.parse(["--config", "phantom", "--prompt_findings", "true", "--prompt_dropout", "0.5"])
    assert recipe_args.dataset_options().items() >= {"prompt_findings": True, "prompt_dropout": 0.5}.items()
    with pytest.raises(SystemExit):
        parse("--prompt_dropout", "0.5")
    assert "no option --prompt_dropout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ("--num_train_epochs 2", "num_train_epochs.*max_steps=1700"),
        ("--negative gauss --partner_sampling balanced", "partner_sampling.*negative=gauss"),
        ("--max_label_distance 2", "max_label_distance.*negative=heter"),
        ("--lora_r 8", "lora_r.*use_peft is false"),
        ("--use_rslora true", "use_rslora.*use_peft is false"),
        ("--bnb_4bit_quant_type fp4", "bnb_4bit_quant_type.*load_in_4bit is false"),
        ("--questions_per_volume 2", "questions_per_volume.*the task is report"),
        ("--difficulty hard --task vqa --confidence_scans 0", "difficulty.*the task is vqa"),
        ("--prompt_findings true --task vqa --confidence_scans 0", "prompt_findings.*the task is vqa"),
        ("--dtype bfloat16", "dtype.*makes a model anew"),
        ("--model_revision v1", "model_revision.*makes a model anew"),
        ("--task vqa --mixture {report:1}", "task.*mixture names the tasks"),
        ("--validation_scans 4", "validation_scans.*eval_strategy is no"),
        ("--hub_model_id alice/model", "hub_model_id.*push_to_hub is false"),
        ("--optim adamw_torch_fused", "optim.*muon is true"),
        ("--beta 0 --negative_start_ratio 0.5", "negative_start_ratio.*beta is 0"),
        ("--beta 0 --negative_share 0.5", "negative_share.*beta is 0"),
        ("--negative gauss --partner_sampling mutual", "partner_sampling.*negative=gauss"),
        ("--padding_free true --dataset_num_proc 2", "dataset_num_proc.*neither packed"),
        ("--save-steps 5", "save_steps.*save_strategy is no"),
        ("--lr_scheduler_type constant --warmup_steps 5", "warmup_steps.*constant has no warmup"),
        ("--lr_scheduler_type constant_with_warmup --lr_scheduler_kwargs {}", "lr_scheduler_kwargs.*takes none"),
        ("--load_best_model_at_end true", "load_best_model_at_end.*eval_strategy is no"),
        ("--metric_for_best_model eval_coverage", "metric_for_best_model.*eval_strategy is no"),
        ("--greater_is_better true", "greater_is_better.*eval_strategy is no"),
        ("--eval_on_start true", "eval_on_start.*eval_strategy is no"),
        ("--muon false --optim adafactor --adam_beta1 0.8", "adam_beta1.*optim=adafactor does not"),
        ("--muon false --optim sgd --adam_epsilon 1e-6", "adam_epsilon.*optim=sgd does not"),
    ],
)
def test_an_option_of_the_command_line_without_effect_is_refused(options, idle):
    options = [option.replace("{report:1}", '{"report": 1}') for option in options.split(" ")]
    with pytest.raises(ValueError, match=f"^--{idle}"):
        sft_neg.parse(["--config", "phantom_heter", *options])


@pytest.mark.parametrize(
    ("recipe", "options", "idle"),
    [
        (evaluate_reports, "--predictions reports.json --slices_as montage", "slices_as"),
        (evaluate_reports, "--predictions reports.json --model_revision v1", "model_revision"),
        (evaluate_reports, "--model_name_or_path m --concurrency 2", "concurrency.*openai:NAME"),
        (evaluate_reports, "--model_name_or_path m --looking_scans 0 --negative hard", "negative.*looking_scans is 0"),
        (
            evaluate_reports,
            "--model_name_or_path openai:m --endpoint http://127.0.0.1 --dtype float16",
            "dtype.*endpoint",
        ),
        (evaluate_reports, "--model_name_or_path folder --model_revision v1", "model_revision.*no revisions"),
        (evaluate_task, "--model_name_or_path folder --model_revision v1 --task vqa", "model_revision.*no revisions"),
        (sft_neg, "--config origin --model_name_or_path folder --model_revision v1 --bf16 false", "model_revision"),
        (evaluate_task, "--model_name_or_path m --task vqa --num_false 2", "num_false.*the task is vqa"),
        (evaluate_task, "--model_name_or_path m --task vqa --answers texts", "answers.*generated"),
        (train_matcher, "--config matcher --vision_model clip", "vision_model.*cnn3d"),
        (train_matcher, "--config matcher --num_train_epochs 2", "num_train_epochs.*max_steps=360"),
        (train_matcher, "--config matcher --save_steps 5", "save_steps.*save_strategy is no"),
        (train_matcher, "--config matcher --optim sgd --adam_beta1 0.8", "adam_beta1.*optim=sgd"),
        (
            train_matcher,
            "--config matcher --lr_scheduler_type constant --warmup_steps 5",
            "warmup_steps.*constant has no warmup",
        ),
        (train_matcher, "--config matcher --metric_for_best_model loss", "metric_for_best_model.*eval_strategy"),
        (train_matcher, "--config matcher --label_smoothing_factor 0.1", "label_smoothing_factor.*compares"),
        (train_matcher, "--config matcher --do_eval true", "do_eval.*neither"),
    ],
)
def test_the_other_recipes_refuse_it_too(tmp_path, monkeypatch, recipe, options, idle):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=f"^--{idle}"):
        recipe.main([*options.split(), *(["--output_dir", "run"] * (recipe in (train_matcher, sft_neg)))])


def test_an_option_of_a_config_without_effect_is_told_and_a_default_is_not(tmp_path, capsys, caplog):
    (tmp_path / "run.yaml").write_text(
        "model_name_or_path: tiny\nnegative: gauss\nbeta: 0.1\nlora_r: 8\nlora_alpha: 32\npartner_sampling: balanced\n"
        "max_label_distance: 3\nnegative_temperature: 0.7\noutput_dir: run\nbf16: false\n"
    )
    sft_neg.parse(["--config", str(tmp_path / "run.yaml")])
    told = capsys.readouterr().err
    assert "lora_r=8 of the config has no effect here: use_peft is false" in told
    assert "partner_sampling=balanced of the config" in told and "negative_temperature=0.7" in caplog.text
    assert "lora_alpha" not in told and "max_label_distance" not in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--optim adafactor", "muon"),
        ("--adam_beta2 0.95", "--adam_beta2 has no effect here: muon is true"),
        ("--muon true --use_peft true", "from scratch, not for adapters"),
        ("--muon false --load_in_4bit true", "--use_peft true"),
        ("--muon false --load_in_4bit true --use_peft true", "tiny makes a model anew"),
        ("--trust_remote_code true", "never run here"),
        ("--push_to_hub true --hub_strategy checkpoint", "--save_strategy steps"),
        ("--push_to_hub true --hub_strategy all_checkpoints", "say checkpoint"),
        ("--partner_sampling mutual --per_device_train_batch_size 1", "take 2 or more"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        sft_neg.main(["--config", "phantom_heter", "--output_dir", str(tmp_path / "run"), *options.split()])


def test_a_config_with_muon_and_another_optimizer_is_refused(tmp_path):
    (tmp_path / "both.yaml").write_text(
        "model_name_or_path: tiny\nmuon: true\noptim: adafactor\noutput_dir: run\nbf16: false\n"
    )
    with pytest.raises(ValueError, match="optim=adafactor would have no effect"):
        sft_neg.main(["--config", str(tmp_path / "both.yaml")])


@pytest.mark.parametrize("trained", ["model.safetensors", "adapter_model.safetensors", "checkpoint-5"])
@pytest.mark.parametrize("command", ["sft_neg", "train_matcher"])
def test_a_run_is_not_overwritten_from_its_own_record(tmp_path, command, trained):
    recipe, config = {"sft_neg": (sft_neg, "phantom"), "train_matcher": (train_matcher, "matcher")}[command]
    run = tmp_path / "run"
    run.mkdir()
    options = read_config(find_config(config)) | {"output_dir": str(run), "data_dir": str(tmp_path / "nothing")}
    (run / "run.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(options | {"seed": 7}))
    (run / trained).touch()
    (run / "config.yaml").write_text(yaml.safe_dump(options | {"seed": 8}))  # as in the run of a study
    for own in (run / "run.yaml", tmp_path / "copy.yaml", run / "config.yaml"):
        with pytest.raises(ValueError, match=f"holds the run of {own}, and {trained} would be.*--output_dir"):
            recipe.main(["--config", str(own), "--max_steps", "1"])
    allowed = (
        ("run/run.yaml", "--output_dir", str(tmp_path / "again")),
        ("run/run.yaml", "--resume_from_checkpoint", "true"),
        ("other.yaml",),
    )
    for config, *given in allowed:
        with pytest.raises(OSError, match="nothing"):  # the data, which is looked for next
            recipe.main(["--config", str(tmp_path / config), *given])
    (run / trained).rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="nothing"):
        recipe.main(["--config", str(run / "run.yaml")])
