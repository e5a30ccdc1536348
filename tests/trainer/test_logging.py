"""What `report_to` names is given the trainer's own numbers."""

import pytest
from helpers.pair_trainer import logged, make_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_tensorboard_gets_losses_margin_and_throughput(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = make_trainer(tmp_path, report_to="tensorboard", max_negative_loss=5.6)
    trainer.train()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    names = ("loss_pos", "loss_neg", "margin", "capped_share", "grad_norm", "volumes_per_second", "tokens_per_second")
    for name in names:
        values = [event.value for event in events.Scalars(f"train/{name}")]
        assert values == pytest.approx(logged(trainer, name), rel=1e-6)
