"""One process of a two-process run with a mask head: rank 0 saves the weights."""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from helpers.masked_rows import ALIKE, NAMES
from helpers.pair_trainer import make_trainer


def main(out):
    trainer = make_trainer(
        out,
        ALIKE,
        mask_names=NAMES,
        mask_loss_weight=1.0,
        per_device_train_batch_size=2,
        ddp_backend="gloo",
    )
    assert trainer.accelerator.num_processes == 2
    trainer.train()
    trainer.save_model(f"{out}/saved")
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        torch.save({name: weight.detach() for name, weight in model.named_parameters()}, f"{out}/weights.pt")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
