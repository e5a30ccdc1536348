"""
Trainings with mutual partners. As a script, this is one process of a two-process run; rank 0
saves each outcome.
"""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import load_dataset

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.pair_trainer import make_trainer
from helpers.tree import SPACING


def rows_of(tree, **options):
    shown = {"data_dir": str(tree), "split": "train", "spacing": SPACING, "num_slices": 4, "validation_size": 0.1}
    return load_dataset("ct_rate_pairs", **{"negative": "heter", "partner_sampling": "mutual", **shown, **options})


def with_one_large_family(rows):
    """Eight rows of which five are of one patient: some batches of two have no pair."""
    names = [f"train_{max(1, i - 3)}_a_{i + 1}.nii.gz" for i in range(8)]
    return rows.select(range(8)).remove_columns("volume").add_column("volume", names)


def trainer_of(out, rows, **changes):
    made = make_tiny_qwen(["Finding 1. Impression 1."], hidden_size=32, num_layers=2, vision_depth=1)
    options = {"beta": 0.3, "max_negative_loss": 100.0, "max_steps": 6, **changes}
    return make_trainer(out, dataset=rows, made=made, **options)


def main(tree, out):
    rows = with_one_large_family(rows_of(tree))
    for pair_mode in ("sequential", "joint"):
        two = {"global_batch_size": 8, "ddp_backend": "gloo"}
        trainer = trainer_of(out, rows, pair_mode=pair_mode, optim="sgd", **two)
        assert trainer.accelerator.num_processes == trainer.args.gradient_accumulation_steps == 2
        trainer.train()
        if trainer.is_world_process_zero():
            weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
            torch.save({"log": trainer.state.log_history, "weights": weights}, f"{out}/{pair_mode}.pt")
    trainer.accelerator.end_training()  # left to the interpreter's exit, gloo's threads sometimes abort it


if __name__ == "__main__":
    main(*sys.argv[1:])
