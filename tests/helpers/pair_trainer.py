"""Trainers of pairs on a few rows, and what they logged."""

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from PIL import Image

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


REPORTS = [
    "Heart size is normal.",
    "There is a pleural effusion on the right. A nodule of 8 mm is seen in the left lower lobe.",
    "No nodule.",
    "Emphysema is present in both lungs. Heart size is normal.",
]
PROMPT = "Describe the findings."


def make_row(index):
    rng = np.random.default_rng(index)
    images = [Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)) for _ in range(8)]
    return {
        "volume": f"train_{index}_a_1.nii.gz",
        "images": images[:4],
        "negative_images": images[4:],
        "negative_volume": "train_99_a_1.nii.gz",
        "prompt": [{"role": "user", "content": PROMPT}],
        "completion": [{"role": "assistant", "content": REPORTS[index % 4]}],
        "slice_mm": [0.0, 30.0, 60.0, 90.0],
    }


ROWS = [make_row(index) for index in range(8)]


def make_dataset(rows, negatives=True):
    """As the package's own: an index whose transform makes the rows on access."""

    def read(batch):
        made = [rows[index] | ({} if negatives else {"negative_images": []}) for index in batch["index"]]
        return {name: [row[name] for row in made] for name in made[0]}

    return Dataset.from_dict({"index": list(range(len(rows)))}).with_transform(read)


def make_model():
    return make_tiny_qwen([*REPORTS, PROMPT], hidden_size=32, num_layers=2, vision_depth=1)


def options(tmp_path, **changes):
    return {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        **changes,
    }


def make_trainer(
    tmp_path, rows=ROWS, negatives=True, dataset=None, peft_config=None, made=None, mask_names=(), **changes
):
    """`made` may be a model and its processor."""
    model, processor = made or make_model()
    return NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(**options(tmp_path, **changes)),
        train_dataset=dataset or make_dataset(rows, negatives),
        eval_dataset=make_dataset(rows, negatives),
        data_collator=PairCollator(processor, mask_names=mask_names),
        peft_config=peft_config,
    )


def weights_of(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], **tolerance)


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def gradients(trainer, rows, num_items=None):
    """Gradients and loss of one micro-batch, as `training_step` makes them."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(trainer.data_collator(rows)), num_items_in_batch=num_items)
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}, loss.detach()


def plain_cross_entropies(trainer, rows, key):
    """Cross-entropy of each row's report from plain logits, `[B]`, and its number of tokens, `[B]`."""
    batch = trainer.data_collator(rows)
    labels = batch.pop("labels")[:, 1:]
    pixels = batch[key]
    batch = {name: value for name, value in batch.items() if name != "negative_pixel_values_videos"}
    logits = trainer.model(**batch | {"pixel_values_videos": pixels}).logits[:, :-1]
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
    tokens = (labels != -100).sum(-1)
    return losses.sum(-1) / tokens, tokens
