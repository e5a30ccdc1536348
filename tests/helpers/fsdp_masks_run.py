"""
One process of a two-process run with a mask head, sharded by accelerate, and of its second half, resumed: rank 0 saves
the weights of both.
"""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ |= {  # as recipes/accelerate/fsdp2.yaml has them, but for the device
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType
from peft import LoraConfig
from torch.distributed.tensor import DTensor

from helpers.masked_rows import ALIKE, NAMES
from helpers.pair_trainer import make_trainer


def main(out, *lora):
    dist.init_process_group("gloo")
    # accelerate shards on accelerators only: where it sees CPUs, it trains by DDP. The sharding itself is torch's.
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
    for name, checkpoint in {"whole": None, "resumed": f"{out}/whole/checkpoint-2"}.items():
        trainer = make_trainer(
            f"{out}/{name}",
            ALIKE,
            mask_names=NAMES,
            mask_loss_weight=1.0,
            peft_config=LoraConfig(target_modules=r".*language_model.*_proj") if lora else None,
            per_device_train_batch_size=2,
            ddp_backend="gloo",
            save_strategy="steps",
            save_steps=2,
        )
        assert trainer.accelerator.is_fsdp2 and trainer.accelerator.num_processes == 2 and trainer.joint
        trainer.train(resume_from_checkpoint=checkpoint)
        assert all(isinstance(parameter, DTensor) for parameter in trainer.model.parameters())
        trainer.save_model()
        weights = {name: parameter.full_tensor() for name, parameter in trainer.model.named_parameters()}
        if trainer.is_world_process_zero():
            torch.save(weights, f"{out}/{name}.pt")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
