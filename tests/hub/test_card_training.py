"""What a card tells of a reinforcement, and of the run that a training started from."""

import json
from pathlib import Path

import pytest
from helpers.finished_run import SHOWN
from huggingface_hub import ModelCard
from trl import GRPOConfig

from ct_rate_pairs.eval.rewards import REWARDS
from ct_rate_pairs.hub import card_training, write_model_card
from ct_rate_pairs.trainer.run_record import write_run_config


COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = f"Qwen/Qwen2.5-VL-3B-Instruct@{COMMIT}"


@pytest.fixture
def run_dir(tmp_path) -> Path:
    folder = tmp_path / "reinforced"
    folder.mkdir()
    (folder / "row_settings.json").write_text(json.dumps(SHOWN))
    return folder


def write(run_dir: Path, weights: list[float] | None = None, **facts) -> ModelCard:
    options = {"use_cpu": True, "bf16": False, "num_generations": 4, "per_device_train_batch_size": 4, "beta": 0.04}
    config = GRPOConfig(run_dir, reward_weights=weights, **options)
    row = {"coverage": 0.5, "labeler": "rules", "recipe": "lower"}
    facts = {"num_train": 20, "num_test": 10, "steps": 60, "minutes": 1.0, "hardware": "2 CPU cores"} | facts
    names = ["label_f1", "length"]
    results = {"model": row, "all_negative": row}
    write_model_card(run_dir, results, config, phantom=True, reward_funcs=names, **facts)
    return ModelCard.load(run_dir / "README.md")


def test_rewards_weights_and_settings_of_a_reinforcement_are_told_and_grpo_is_cited(run_dir):
    write_run_config("ct-rate-pairs grpo", {"num_generations": 4, "seed": 0}, {"seed"}, run_dir)
    card = write(run_dir, [1.0, 0.25])
    assert "`ct-rate-pairs`,\nby rewards on the reports that it writes (GRPO)." in card.text
    assert "- `label_f1`, 1: F1 of" in card.text and "- `length`, 0.25: 1 up to" in card.text
    assert "| reports per scan | 4, of at most" in card.text and "to the base model | 0.04 |" in card.text
    assert "the model learnt from the reports that it drew itself" in card.text
    assert "min(CE" not in card.text and "steps with negatives" not in card.text
    assert "`ct-rate-pairs grpo --config run.yaml" in card.text and "grpo" in card.data.tags
    assert "@article{shao2024deepseekmath," in card.text and "arXiv:2402.03300" in card.text
    assert json.loads((run_dir / "training_config.json").read_text())["reward_weights"] == [1.0, 0.25]
    assert "- `length`, 1: 1 up to" in write(run_dir).text  # the weights of TRL, if none are given


def test_the_run_that_a_training_started_from_is_told_without_its_folder_and_its_base_is_that_of_the_card(run_dir):
    start = run_dir.with_name("jane_doe")
    start.mkdir()
    assert "| base model | a local checkpoint |" in write(run_dir, base_model=str(start)).text
    options = {"negative": "none", "findings_line": "names", "beta": 0.0, "max_steps": 1700, "data_dir": "/cohort"}
    write_run_config("ct-rate-pairs train", options, {"negative"}, start)
    (start / "environment.json").write_text(json.dumps({"commit": COMMIT, "base": None}))
    card = write(run_dir, base_model=str(start))
    told = "negative none, findings_line names, beta 0.0, max_steps 1700, commit 0123456789ab"
    assert f"| base model | a run of `ct-rate-pairs` ({told}), itself from scratch |" in card.text
    assert "jane" not in card.text and "/cohort" not in card.text and card.data.base_model is None

    for folder in (start, run_dir):  # as the recipe hands it on
        (folder / "environment.json").write_text(json.dumps({"commit": COMMIT, "base": BASE}))
    (start / "run.yaml").write_text(
        json.dumps({"state": "finished", "settings": {"beta": 0, "reward_funcs": ["crg"]}})
    )
    card = write(run_dir, base_model=str(start))
    hub = "[Qwen/Qwen2.5-VL-3B-Instruct](https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct) at commit `0123456789ab`"
    assert f"(reward_funcs crg, beta 0, commit 0123456789ab), itself from {hub} |" in card.text
    assert (card.data.base_model, card.data.base_model_relation) == ("Qwen/Qwen2.5-VL-3B-Instruct", "finetune")
    assert f"| base model | {hub} |" in write(run_dir, base_model="Qwen/Qwen2.5-VL-3B-Instruct").text


def test_each_reward_that_can_be_chosen_has_its_words():
    assert card_training.REWARDS.keys() == REWARDS.keys()
