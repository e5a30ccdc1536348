"""Negatives are drawn anew each epoch in training, workers included, and stay the same for held-out rows."""

import hashlib

import pytest
from datasets import load_dataset

import ct_rate_pairs  # noqa: F401
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


class RecordingCollator(PairCollator):
    """Adds to each batch a fingerprint of every negative, which comes back from the workers with it."""

    def __call__(self, rows):
        batch = super().__call__(rows)
        prints = [hashlib.sha256(b"".join(image.tobytes() for image in row["negative_images"])) for row in rows]
        batch["volumes"] = [f"{row['volume']}|{print_.hexdigest()}" for row, print_ in zip(rows, prints, strict=True)]
        return batch


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_of_training_has_its_own_negatives(tree, tmp_path, workers):
    dataset = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), negative="gauss", spacing=(6.0, 6.0, 8.0), num_slices=4
    )
    held_out = dataset["test"][0]["negative_images"]
    model, processor = make_tiny_qwen(["Finding 1. Impression 1."], hidden_size=32, num_layers=1, vision_depth=1)
    seen = []
    trainer = NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(
            output_dir=str(tmp_path),
            num_train_epochs=3,
            per_device_train_batch_size=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
        ),
        train_dataset=dataset["train"],
        data_collator=RecordingCollator(processor),
        processing_class=processor,
    )
    step = trainer.training_step
    trainer.training_step = lambda model, inputs, *rest: seen.extend(inputs["volumes"]) or step(model, inputs, *rest)
    trainer.train()
    number = len(dataset["train"])
    assert len(seen) == 3 * number and len(set(seen)) == 3 * number
    assert len({volume.split("|")[0] for volume in seen}) == number
    assert dataset["test"][0]["negative_images"] == held_out
