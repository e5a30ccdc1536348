"""One process of two: reads its part of a shuffled stream as the Trainer would."""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from accelerate import Accelerator, DataLoaderConfiguration
from datasets import load_dataset
from torch.utils.data import DataLoader

import ct_rate_pairs  # noqa: F401
from helpers.tree import SPACING


def main(tree, out):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False))
    assert accelerator.num_processes == 2
    options = {"split": "train", "spacing": SPACING, "validation_size": 0.1}
    dataset = load_dataset("ct_rate_pairs", data_dir=tree, negative="gauss", streaming=True, **options)
    dataset = dataset.shuffle(seed=3, buffer_size=1)
    loader = DataLoader(dataset, batch_size=1, num_workers=1, collate_fn=lambda rows: {"name": rows[0]["volume"]})
    loader = accelerator.prepare(loader)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        np.save(f"{out}/{epoch}-{accelerator.process_index}.npy", [batch["name"] for batch in loader])
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
