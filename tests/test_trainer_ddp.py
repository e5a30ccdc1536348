"""Two processes on gloo give the losses and weights of one with twice the batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_trainer_negative_sft import logged, make_trainer


TESTS = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("cap", [100.0, 5.6])  # no pair capped, and some: ranks then skip their negative's backward
def test_two_processes_equal_one(tmp_path, cap):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*command, str(TESTS / "ddp_run.py"), str(tmp_path), str(cap)],
        env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # a deadlock fails, and does not hold the suite
    )
    assert run.returncode == 0, run.stderr[-3000:]
    two = torch.load(tmp_path / "run.pt")

    trainer = make_trainer(tmp_path, per_device_train_batch_size=4, max_negative_loss=cap)
    trainer.train()
    for key in ("loss", "loss_pos", "loss_neg", "margin", "capped_share"):
        assert [entry[key] for entry in two["log"] if key in entry] == pytest.approx(logged(trainer, key), abs=1e-5)
    shares = logged(trainer, "capped_share")
    assert max(shares) == 0 if cap == 100.0 else 0 < sum(shares) < len(shares)
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=0, atol=2e-5)
