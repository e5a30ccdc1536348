"""One process of a two-process FSDP2 run: the model is sharded at load time."""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.distributed.configuration_utils import DistributedConfig

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from helpers.pair_trainer import ROWS, make_dataset, options


def main(folder, out, *caps):
    dist.init_process_group("gloo")
    for cap in caps:
        model = AutoModelForImageTextToText.from_pretrained(folder, distributed_config=DistributedConfig(fsdp_size=2))
        processor = AutoProcessor.from_pretrained(folder)
        changes = {"per_device_train_batch_size": 1, "global_batch_size": 4, "max_negative_loss": float(cap)}
        trainer = NegativeSFTTrainer(
            model=model,
            args=NegativeSFTConfig(**options(out, ddp_backend="gloo", **changes)),
            train_dataset=make_dataset(ROWS),
            data_collator=PairCollator(processor),
            processing_class=processor,
        )
        assert trainer.accelerator.num_processes == trainer.args.gradient_accumulation_steps == 2
        assert all(isinstance(parameter, DTensor) for parameter in trainer.model.parameters())
        assert trainer.joint
        trainer.train()
        weights = {name: parameter.full_tensor() for name, parameter in trainer.model.named_parameters()}
        if trainer.is_world_process_zero():
            torch.save({"log": trainer.state.log_history, "weights": weights}, f"{out}/{cap}.pt")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
