"""One process of a two-process run: trains as the test does alone; rank 0 saves each outcome."""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from helpers.pair_trainer import make_trainer


def main(out, *caps):
    for cap in caps:
        trainer = make_trainer(
            out, per_device_train_batch_size=1, global_batch_size=4, max_negative_loss=float(cap), ddp_backend="gloo"
        )
        assert trainer.accelerator.num_processes == trainer.args.gradient_accumulation_steps == 2
        trainer.train()
        if trainer.is_world_process_zero():
            weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
            torch.save({"log": trainer.state.log_history, "weights": weights}, f"{out}/{cap}.pt")
    trainer.accelerator.end_training()  # left to the interpreter's exit, gloo's threads sometimes abort it


if __name__ == "__main__":
    main(*sys.argv[1:])
