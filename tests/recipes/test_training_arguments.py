"""The options of a training are read and checked before it."""

import pytest
from helpers.command import call

from ct_rate_pairs.recipes import sft_neg
from ct_rate_pairs.recipes.training_arguments import RecipeArguments


def test_weights_are_shares_with_reports_first():
    assert RecipeArguments().task_weights() == {"report": 1.0}
    mixed = RecipeArguments(mixture='{"vqa": 3, "report": 1}')
    assert list(mixed.task_weights().items()) == [("report", 0.25), ("vqa", 0.75)]
    with pytest.raises(ValueError, match="'report', 'vqa', 'matching'"):
        RecipeArguments(mixture={"captions": 1}).task_weights()
    with pytest.raises(ValueError, match="'vqa' is not above 0"):
        RecipeArguments(mixture={"vqa": 0, "report": 1}).task_weights()
    for wrong, told in {
        "{}": "'{}' names no task",
        "[]": "names no task",
        '"report"': "names no task",
        "report": "mixture: 'report' is not JSON",
        '{"report": "a"}': "the weight 'a' of 'report' is no finite number",
        '{"report": true}': "the weight True",
        '{"report": null}': "the weight None",
        '{"report": NaN}': "the weight nan",
        '{"report": Infinity, "vqa": 1}': "the weight inf",
    }.items():
        with pytest.raises(ValueError, match=f"{told}.*Give tasks and their weights"):
            RecipeArguments(mixture=wrong).task_weights()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--confidence_scans", "9"), "--confidence_scans 0"),
        (("--push_to_hub", "true"), "leave push_to_hub out"),
        (("--negative", "none"), "--beta 0"),
    ],
)
def test_what_a_run_without_reports_cannot_do_is_told_before_it(tmp_path, arguments, remedy):
    recipe_args, args, _ = sft_neg.parse(["--config", "vqa", "--output_dir", str(tmp_path), *arguments])
    with pytest.raises(ValueError, match=remedy):
        recipe_args.check(args)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("accelerator_config: {splt_batches: true}", "unexpected keyword argument 'splt_batches'"),
        ("save_steps: 1e999", "save_steps inf: choose a finite number"),
        ("logging_steps: 1e999", "logging_steps inf: choose a finite number"),
    ],
)
def test_a_value_of_a_config_that_a_library_refuses_ends_in_a_message(tmp_path, capsys, line, told):
    config = tmp_path / "own.yaml"
    config.write_text(f"model_name_or_path: tiny\noutput_dir: {tmp_path}\nbf16: false\n{line}\n")
    assert call(sft_neg.main, "--config", config) == 2
    message = capsys.readouterr().err
    assert told in message and "own.yaml" in message


def parsed(tmp_path, *arguments):
    recipe_args, args, _ = sft_neg.parse(["--config", "phantom", "--output_dir", str(tmp_path), *arguments])
    return recipe_args, args


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--masks", "m"), "--masks has no effect without --mask_loss_weight or --slices key"),
        (("--mask_loss_weight", "1"), "--mask_loss_weight has no effect without --masks"),
    ],
)
def test_masks_that_nothing_takes_are_refused(tmp_path, arguments, told):
    recipe_args, args = parsed(tmp_path, *arguments)
    with pytest.raises(ValueError, match=told):
        recipe_args.check(args)


def test_key_planes_are_those_of_the_training_rows_alone(tmp_path):
    recipe_args, args = parsed(tmp_path, "--masks", "m", "--slices", "key")
    recipe_args.check(args)
    assert recipe_args.dataset_options()["slices"] == "uniform"
    assert recipe_args.mask_options() == {"masks": "m", "slices": "key"}
    assert "slices" not in parsed(tmp_path)[0].mask_options()
