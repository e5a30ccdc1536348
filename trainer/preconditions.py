"""Checks before the first step of training. Each check raises a `ValueError` that names the remedy."""

import inspect

import torch
from datasets import Dataset, IterableDataset
from peft import PeftModel
from transformers import TrainingArguments

from ct_rate_pairs.readers import has_reader, reader_of


REMEDY = 'load the dataset with negative="gauss" or negative="heter", or set `beta=0`.'


def check_upload(args: TrainingArguments) -> None:
    """Refuses `push_to_hub`, because Trainer would upload all files of the output folder."""
    if args.push_to_hub:
        raise ValueError(
            "`push_to_hub` would upload training_args.bin, which holds the token, and the samples, which hold "
            "reference reports. Publish the finished run with `ct-rate-pairs publish`."
        )


def check_columns(train_dataset: Dataset | IterableDataset, beta: float) -> None:
    """Refuses a training dataset that has no negatives."""
    if has_reader(train_dataset) and reader_of(train_dataset).config.negative == "none":
        raise ValueError(f"`beta` is {beta}, but the training dataset has no negatives: {REMEDY}")
    # A transform makes its columns on access, and a stream may not know its columns. Then the first batch is checked.
    if isinstance(train_dataset, Dataset) and train_dataset.format["type"] == "custom":
        return
    columns = train_dataset.column_names
    if columns is not None and "negative_images" not in columns:
        raise ValueError(f"`beta` is {beta}, but the training dataset has no column negative_images: {REMEDY}")


def check_mutual_batch(args: TrainingArguments) -> None:
    """Refuses batches of one volume, which has no other volume of its batch as a partner."""
    if args.per_device_train_batch_size < 2:
        raise ValueError(
            "partner_sampling='mutual' makes the volumes of a batch each other's negatives, but "
            f"`per_device_train_batch_size` is {args.per_device_train_batch_size}: take 2 or more, or "
            "partner_sampling='uniform'."
        )


def check_vision(model: torch.nn.Module, pixels: str) -> None:
    """Refuses a model whose forward does not take the argument `pixels`, such as `"pixel_values_videos"`."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if pixels not in inspect.signature(base.forward).parameters:
        raise ValueError(
            f"{type(base).__name__} takes no {pixels}: it would train on the text alone. Load an image-text-to-text "
            "model, by `AutoModelForImageTextToText`."
        )


def check_embeddings(model: torch.nn.Module) -> None:
    """
    Refuses a model with tied embeddings that transformers has sharded at load time.

    Measured with transformers 5.23 and its own Trainer on two processes: from the second step on, each process still
    has the untrained values of the other process's half of the embedding. Only the losses show this error.
    """
    if model.config.get_text_config().tie_word_embeddings:
        raise ValueError(
            "The model ties its input and output embeddings, and transformers trains such a model wrongly when "
            "`from_pretrained(distributed_config=...)` shards it. Load it without `distributed_config`, and use DDP "
            "or accelerate's own sharding (recipes/accelerate/fsdp2.yaml)."
        )
