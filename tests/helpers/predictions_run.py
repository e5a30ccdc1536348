"""Writes predictions for eight scans, as one process or two; started by the tests, which may kill it."""

import os
import sys


os.environ["HF_HUB_OFFLINE"] = "1"

from accelerate import PartialState
from datasets import Dataset

from ct_rate_pairs.eval.predictions.store import write_predictions
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.eval_rows import REPORTS, make_row


SCANS = 7


def make_scans():
    rows = [make_row(seed, REPORTS[seed % 3]) for seed in range(SCANS)]

    def read(batch):
        chosen = [row for row in rows if row["volume"] in batch["volume"]]
        return {name: [row[name] for row in chosen] for name in rows[0]}

    index = {name: [row[name] for row in rows] for name in ("volume", "prompt", "completion", "labels")}
    return Dataset.from_dict(index).with_transform(read)


def main(path):
    state = PartialState(cpu=True)
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    write_predictions(model, PairCollator(processor), make_scans(), path, batch_size=1, max_new_tokens=40)
    state.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
