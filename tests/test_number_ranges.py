"""A number that an option cannot be is refused when the options are parsed, in every command."""

import json
import subprocess
import sys

import pytest
from helpers import programs
from helpers.paths import ROOT

from ct_rate_pairs.__main__ import COMMANDS, main
from ct_rate_pairs.number_ranges import COUNT, Range
from ct_rate_pairs.recipes.evaluate_reports import EvaluationArguments
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.trainer import NegativeSFTConfig


OF_TRAINER = ("train", "grpo", "train-matcher")  # these show the options of Trainer, which needs torch
# What 0 means something for. Every other option refuses it.
ZERO = {
    *("seed", "valid_scans", "reconstructions", "z_range", "shard_index", "hours", "num_shots"),
    *("max_eval_samples", "looking_scans", "validation_scans", "confidence_scans", "dataloader_num_workers"),
}
# Those of the libraries, and of `NegativeSFTConfig`, which checks its own numbers when it is made.
ZERO_IN_TRAINING = ZERO | {
    *("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "max_steps", "adam_beta1", "adam_beta2"),
    *("adam_epsilon", "label_smoothing_factor", "neftune_noise_alpha", "eval_delay", "save_total_limit", "data_seed"),
    *("local_rank", "ddp_bucket_cap_mb", "router_aux_loss_coef", "dataset_num_proc", "lora_dropout", "max_length"),
    *("pad_to_multiple_of", "global_batch_size", "alpha", "beta", "negative_temperature", "max_negative_loss"),
    "label_loss_weight",
    "mask_loss_weight",
    *("negative_start_ratio", "negative_warmup_ratio", "negative_share", "prompt_dropout"),
    # Of TRL's `GRPOConfig`.
    *("reward_weights", "top_k", "min_p", "ref_model_mixup_alpha", "off_policy_mask_threshold", "entropy_target"),
    *("entropy_coef", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "sapo_temperature_neg"),
    *("sapo_temperature_pos", "vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"),
    *("num_completions_to_print", "max_tool_calling_iterations", "vllm_server_port", "vllm_server_timeout"),
    *("vllm_group_port", "vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_tensor_parallel_size"),
    *("vllm_importance_sampling_cap", "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"),
}
NEGATIVE_IN_TRAINING = {
    *("max_steps", "local_rank"),
    *("alpha", "beta", "negative_temperature", "max_negative_loss", "global_batch_size"),
    *("negative_start_ratio", "negative_warmup_ratio", "negative_share"),
}


def ask(*names):
    command = ["-m", "helpers.numeric_options", *names]
    if set(names) <= {*OF_TRAINER}:
        done = programs.run(*command, cwd=ROOT / "tests")
    else:  # a Python that has imported nothing
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT / "tests", capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def wrongly_accepted(accepted, zero=frozenset(), negative=frozenset()):
    may = {"0": zero, "-1": negative, "nan": ()}
    tried = [(name, *one) for name, options in accepted.items() for one in options.items()]
    return [
        f"{name} {option} {value}"
        for name, option, values in tried
        for value in values
        if option[2:] not in may[value]
    ]


@pytest.mark.slow
def test_every_command_refuses_numbers_that_cannot_be_before_torch_is_imported():
    told = ask(*(name for name in COMMANDS if name not in OF_TRAINER))
    assert sum(map(len, told["accepted"].values())) > 60 and not told["torch"]
    assert not wrongly_accepted(told["accepted"], ZERO)


@pytest.mark.slow
def test_a_training_refuses_numbers_that_cannot_be():
    accepted = ask(*OF_TRAINER)["accepted"]
    assert sum(map(len, accepted.values())) > 70
    assert not wrongly_accepted(accepted, ZERO_IN_TRAINING, NEGATIVE_IN_TRAINING)


@pytest.mark.parametrize(
    "name",
    [
        "alpha",
        "beta",
        "label_loss_weight",
        "mask_loss_weight",
        "negative_temperature",
        "max_negative_loss",
        "negative_share",
    ],
)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_configuration_of_the_trainer_refuses_them_too(tmp_path, name, value):
    options = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, name: value}
    if (name, value) == ("max_negative_loss", float("inf")):  # no cap, as in rows of the study
        assert NegativeSFTConfig(**options).max_negative_loss == value
        return
    with pytest.raises(ValueError, match=f"`{name}`"):
        NegativeSFTConfig(**options)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train", "--max_new_tokens", "0"], "--max_new_tokens 0: choose 1 or more."),
        (["evaluate", "--model_name_or_path", "m", "--max_eval_samples", "-3"], "--max_eval_samples -3: choose 0"),
        (["evaluate", "--ci", "1"], "--ci 1.0: choose above 0, and below 1."),
        (
            ["phantom", "--scans", "1", "--output_dir", "o", "--spacing", "1", "inf", "1"],
            "inf: choose a finite number",
        ),
        (["plan", "--stream_mb_s", "0"], "--stream_mb_s 0.0: choose above 0."),
    ],
)
def test_the_message_names_option_value_and_range(tmp_path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        main(argv)
    assert not list(tmp_path.iterdir())


def test_a_number_of_a_config_is_told_with_its_file_and_has_the_type_of_its_option(tmp_path, capsys):
    config = tmp_path / "own.yaml"
    config.write_text("max_new_tokens: 0\nmm_per_second: 20\nwindow: [-1000, 200]\n")
    parser = RecipeParser([EvaluationArguments], "x", "")
    with pytest.raises(ValueError, match=r"own\.yaml: max_new_tokens 0: choose 1 or more"):
        parser.parse(["--config", str(config)])
    (args,) = parser.parse(["--config", str(config), "--max_new_tokens", "3"])
    assert type(args.mm_per_second) is float and args.window == (-1000, 200)
    config.write_text("max_new_tokens: 1.5\n")
    with pytest.raises(SystemExit):
        RecipeParser([EvaluationArguments], "x", "").parse(["--config", str(config)])
    assert "invalid int value: '1.5'" in capsys.readouterr().err


def test_words_and_none_are_in_every_range():
    for value in (None, "rgb", ["rgb"], [1, "x"], True):
        COUNT.check("--x", value)
    with pytest.raises(ValueError, match="--x 0: choose 1 or more"):
        COUNT.check("--x", [1, 0])
    assert 1 not in Range(0, 1, below=True) and 1 in Range(0, 1)
