"""A run that was killed and resumed ends as if nothing had happened: data position, negatives, dropout and weights."""

import json
import shutil

import pytest
import torch
from helpers import programs
from helpers.paths import HELPERS
from helpers.resume_run import make_trainer


def start(*arguments):
    return programs.run(HELPERS / "resume_run.py", *arguments)


def steps_of(log):
    """What each step logs, times and rates left out."""
    keys = ("step", "loss", "loss_pos", "loss_neg", "margin", "capped_share", "grad_norm", "learning_rate")
    return [[entry[key] for key in keys] for entry in log if "loss" in entry]


def whole_run(mode, tree, out):
    trainer = make_trainer(mode, str(tree), str(out))
    trainer.train()
    assert len(steps_of(trainer.state.log_history)) == 11
    return trainer


@pytest.fixture(scope="module")
def whole(tree, tmp_path_factory):
    """The trainer of the uninterrupted run, by mode."""
    return {mode: whole_run(mode, tree, tmp_path_factory.mktemp(mode)) for mode in ("map", "stream")}


def assert_resumed_as(trainer, out, first_step):
    """The run in `out` began again after `first_step` and equals the uninterrupted `trainer`, to the bit."""
    resumed = torch.load(out / "run.pt")
    assert resumed["resumed_at"] == first_step
    assert steps_of(resumed["log"]) == steps_of(trainer.state.log_history)
    weights = trainer.model.state_dict()
    assert resumed["weights"].keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(resumed["weights"][name], weight, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["map", "stream"])
def test_killed_run_resumes_as_if_uninterrupted(tree, whole, tmp_path, mode):
    killed = start(mode, tree, tmp_path / "killed", "--kill_at_step", 9)
    assert killed.returncode == -9, killed.stderr[-3000:]
    assert not (tmp_path / "killed" / "run.pt").exists()
    resumed = start(mode, tree, tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert_resumed_as(whole[mode], tmp_path / "killed", first_step=8)


@pytest.fixture(scope="module")
def half_written(tree, tmp_path_factory):
    """The folder of a run that was killed while it wrote its checkpoint of step 8."""
    folder = tmp_path_factory.mktemp("half_written")
    killed = start("map", tree, folder, "--kill_in_checkpoint", 8)
    assert killed.returncode == -9, killed.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("last_file", [None, '{"best_gl'])  # killed ahead of trainer_state.json, and within it
def test_half_written_checkpoint_is_passed_over(tree, whole, half_written, tmp_path, last_file):
    shutil.copytree(half_written, tmp_path / "killed")
    half = tmp_path / "killed" / "checkpoint-8"
    assert (half / "optimizer.pt").exists() and not (half / "trainer_state.json").exists()
    if last_file is not None:
        (half / "trainer_state.json").write_text(last_file)
    resumed = start("map", tree, tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert_resumed_as(whole["map"], tmp_path / "killed", first_step=6)
    assert json.loads((half / "trainer_state.json").read_text())["global_step"] == 8  # written anew


def test_resuming_without_a_whole_checkpoint_is_refused(tree, tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    trainer = make_trainer("map", str(tree), str(tmp_path))
    with pytest.raises(ValueError, match="has no whole checkpoint to resume from: start without"):
        trainer.train(resume_from_checkpoint=True)
