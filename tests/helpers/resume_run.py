"""A run that may kill itself, after a step or while it writes a checkpoint; one that ends saves its outcome."""

import argparse
import os
import signal


os.environ["HF_HUB_OFFLINE"] = "1"  # ahead of any Hugging Face import

import torch
from datasets import concatenate_datasets, load_dataset
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.tree import SPACING


class FirstStep(TrainerCallback):
    """Steps that were already behind the run when it began."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.step = state.global_step


class KillAtStep(TrainerCallback):
    """`kill -9` at the end of a step, before its checkpoint."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class KillInCheckpoint(KillAtStep, ExportableState):
    """`kill -9` when a step's checkpoint has everything but `trainer_state.json`, which is written last."""

    at_step = False

    def on_step_end(self, args, state, control, **kwargs):
        self.at_step = state.global_step == self.step

    def state(self):
        if self.at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"args": {"step": self.step}, "attributes": {}}


def make_trainer(mode, tree, out, callbacks=()):
    """5 steps an epoch, 2 epochs and a step, a checkpoint every other step."""
    data = {"data_dir": tree, "split": "train", "spacing": SPACING, "num_slices": 4, "validation_size": 0.1}
    negatives = {"negative": "gauss"} if mode == "map" else {"negative": "heter", "min_label_distance": 6}
    dataset = load_dataset("ct_rate_pairs", streaming=mode == "stream", **data, **negatives)
    if mode == "stream":
        # One pass for all epochs: Trainer finds its place again in a pass, but not in the epochs of a stream
        dataset = concatenate_datasets([dataset.shuffle(seed=epoch, buffer_size=1) for epoch in range(4)])
    model, processor = make_tiny_qwen(["Finding 1. Impression 1."], hidden_size=32, num_layers=2, vision_depth=1)
    for layer in model.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.2
    args = NegativeSFTConfig(
        output_dir=out,
        per_device_train_batch_size=2,
        max_steps=11,
        save_steps=2,
        logging_steps=1,
        beta=0.3,
        max_negative_loss=100.0,
        learning_rate=1e-3,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    return NegativeSFTTrainer(
        model=model,
        args=args,
        train_dataset=dataset,
        data_collator=PairCollator(processor),
        processing_class=processor,
        callbacks=list(callbacks),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["map", "stream"])
    parser.add_argument("tree")
    parser.add_argument("out")
    parser.add_argument("--kill_at_step", type=int)
    parser.add_argument("--kill_in_checkpoint", type=int)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    callbacks = [first := FirstStep()]
    if args.kill_at_step:
        callbacks.append(KillAtStep(args.kill_at_step))
    if args.kill_in_checkpoint:
        callbacks.append(KillInCheckpoint(args.kill_in_checkpoint))
    trainer = make_trainer(args.mode, args.tree, args.out, callbacks)
    trainer.train(resume_from_checkpoint=args.resume or None)
    outcome = {"log": trainer.state.log_history, "weights": trainer.model.state_dict(), "resumed_at": first.step}
    torch.save(outcome, f"{args.out}/run.pt")


if __name__ == "__main__":
    main()
