"""Two processes on gloo that accumulate two pairs each give the losses and weights of one that takes four."""

import pytest
import torch
from helpers.pair_trainer import logged, make_trainer
from helpers.two_processes import run_as_two


CAPS = (100.0, 5.6)  # no pair capped, and some: ranks then skip their negative's backward


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A file for each cap, of a run of two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    run_as_two("ddp_run.py", folder, *CAPS)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cap", CAPS)
def test_two_processes_equal_one(outcomes, tmp_path, cap):
    two = torch.load(outcomes / f"{cap}.pt")
    trainer = make_trainer(tmp_path, per_device_train_batch_size=4, max_negative_loss=cap)
    trainer.train()
    for key in ("loss", "loss_pos", "loss_neg", "margin", "capped_share"):
        assert [entry[key] for entry in two["log"] if key in entry] == pytest.approx(logged(trainer, key), abs=1e-5)
    shares = logged(trainer, "capped_share")
    assert max(shares) == 0 if cap == 100.0 else 0 < sum(shares) < len(shares)
    # A step moves a weight by up to 1e-2
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=0, atol=1e-4)
