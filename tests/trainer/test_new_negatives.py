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


def make_trainer(dataset, folder, **options):
    """A trainer that records which negatives it was shown; see [`RecordingCollator`]."""
    model, processor = make_tiny_qwen(["Finding 1. Impression 1."], hidden_size=32, num_layers=1, vision_depth=1)
    trainer = NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
            **options,
        ),
        train_dataset=dataset,
        data_collator=RecordingCollator(processor),
        processing_class=processor,
    )
    seen, step = [], trainer.training_step
    trainer.training_step = lambda model, inputs, *rest: seen.extend(inputs["volumes"]) or step(model, inputs, *rest)
    return trainer, seen


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_of_training_has_its_own_negatives(tree, tmp_path, workers):
    dataset = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), negative="gauss", spacing=(6.0, 6.0, 8.0), num_slices=4
    )
    held_out, first = (dataset[split][0]["negative_images"] for split in ("test", "train"))
    options = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    trainer, seen = make_trainer(dataset["train"], tmp_path, num_train_epochs=3, **options)
    trainer.train()
    number = len(dataset["train"])
    assert len(seen) == 3 * number and len(set(seen)) == 3 * number
    assert len({volume.split("|")[0] for volume in seen}) == number
    assert dataset["test"][0]["negative_images"] == held_out
    assert dataset["train"][0]["negative_images"] == first  # after the training, as in a dataset loaded anew


@pytest.mark.slow
def test_a_scan_that_cannot_be_read_neither_ends_a_training_nor_is_in_it(own_tree, tmp_path):
    bad = next(own_tree.glob("dataset/train_fixed/*/*/train_5_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    rows = load_dataset(
        "ct_rate_pairs",
        data_dir=str(own_tree),
        negative="heter",
        spacing=(6.0, 6.0, 8.0),
        num_slices=4,
        min_label_distance=1,
        split="train",
        on_error="skip",
    )
    trainer, seen = make_trainer(rows, tmp_path, num_train_epochs=1)
    trainer.train()
    volumes = [volume.split("|")[0] for volume in seen]
    assert len(volumes) == len(rows) and set(volumes) == set(rows["volume"]) - {"train_5_a_1.nii.gz"}


def test_negatives_of_a_dataset_without_negatives_are_refused_at_once(tree, tmp_path):
    rows = load_dataset("ct_rate_pairs", "none", data_dir=str(tree), split="train")
    with pytest.raises(ValueError, match="has no negatives.*negative="):
        make_trainer(rows, tmp_path)
