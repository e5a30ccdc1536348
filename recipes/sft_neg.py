"""
Fine-tune a vision-language model on chest-CT reports with negative pairs, then measure it and write its card.

Run bare, this is the paper's heterogeneous run on CT-RATE (`recipes/configs/heter.yaml`):

    accelerate launch recipes/sft_neg.py

On the phantom, without a GPU or a download (`make demo` does both):

    python -m ct_rate_pairs.phantom --out phantom --scans 2000
    accelerate launch recipes/sft_neg.py --config recipes/configs/phantom.yaml --data_dir phantom

Any option of the config can be overridden on the command line: `--beta 0.2 --negative gauss --output_dir runs/gauss`.
`--push_to_hub true --hub_model_id USER/NAME` publishes the run at its end. With `--hub_strategy checkpoint` the Hub
keeps its last checkpoint too, and `--resume_from_checkpoint last-checkpoint` goes on from there on another machine.
"""

import logging
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from data_arguments import DataArguments
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets, load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.trainer_utils import HubStrategy
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

import ct_rate_pairs
from ct_rate_pairs.csv_tables import patient_of
from ct_rate_pairs.eval import coverage, label_reports
from ct_rate_pairs.eval.evaluation import evaluate_model
from ct_rate_pairs.eval.figures import plot_losses
from ct_rate_pairs.eval.load_model import version_of
from ct_rate_pairs.eval.predictions import write_predictions
from ct_rate_pairs.eval.provenance import describe_provenance
from ct_rate_pairs.hub import write_model_card
from ct_rate_pairs.hub.confidence import fit_confidence
from ct_rate_pairs.hub.guard import ForbiddenContentError
from ct_rate_pairs.hub.publish import (
    LAST_CHECKPOINT,
    HubRepository,
    PublishError,
    PushCheckpoints,
    fetch_checkpoint,
    publish_or_tell_how,
    take_over_push,
)
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.trainer import (
    MuonAdamW,
    NegativeSFTConfig,
    NegativeSFTTrainer,
    NewNegativesEachEpoch,
    PairCollator,
    WriteReportSamples,
    save_row_settings,
)
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@dataclass
class RecipeArguments(DataArguments):
    """What this recipe adds to TRL's options: scans, negatives, evaluation, and Muon for a model from scratch."""

    slices: str = field(default="uniform", metadata={"help": "uniform, or jitter: random planes, as augmentation."})
    freeze_vision: bool = field(default=False, metadata={"help": "Keep the vision tower's weights as they are."})
    streaming: bool = field(default=False, metadata={"help": "Stream the training rows; max_steps is then computed."})
    validation_scans: int = field(
        default=64, metadata={"help": "Scans of the validation split that an `eval_strategy` judges checkpoints by."}
    )
    confidence_scans: int = field(
        default=0,
        metadata={"help": "Scans of the validation split that the findings' confidences are fitted on; 0: none."},
    )
    eval_scans: int = field(default=200, metadata={"help": "Scans of the test split to write reports for; 0: all."})
    max_new_tokens: int = field(default=1200, metadata={"help": "Longest generated report, in tokens."})
    muon: bool = field(default=False, metadata={"help": "Muon on the hidden matrices, for a model from scratch."})


def load_model(model_args: ModelConfig, texts: list[str], seed: int) -> tuple[PreTrainedModel, ProcessorMixin]:
    """What `--model_name_or_path` names; "tiny" is an untrained model whose vocabulary comes from `texts`."""
    if model_args.model_name_or_path == "tiny":
        return make_tiny_qwen(texts, seed=seed)
    model = AutoModelForImageTextToText.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        dtype=model_args.dtype or "auto",
        attn_implementation=model_args.attn_implementation,
        quantization_config=get_quantization_config(model_args),
    )
    return model, AutoProcessor.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)


def load_splits(recipe_args: RecipeArguments, args: NegativeSFTConfig, options: dict) -> DatasetDict:
    """The dataset, after a look at whether it has the scans that this run will ask it for."""
    index = load_dataset("ct_rate_pairs", **options)
    validates = args.eval_strategy != "no" or recipe_args.confidence_scans
    for split in ("train", "test", *(("validation",) if validates else ())):
        if not len(index.get(split, ())):
            raise ValueError(f"{recipe_args.data_dir or 'CT-RATE'} has no readable scan for the split '{split}'.")
    if recipe_args.confidence_scans:
        volumes = first(index["validation"], recipe_args.confidence_scans).with_format(None)["volume"]
        if (patients := len({patient_of(volume) for volume in volumes})) < 5:
            raise ValueError(
                f"Confidences are fitted on 5 patients at least, but confidence_scans={recipe_args.confidence_scans} "
                f"takes {patients} of the split 'validation': raise it, or pass --confidence_scans 0 for none."
            )
    if recipe_args.negative in ("heter", "hard"):
        partners = index["train"].format["format_kwargs"]["transform"].partners("train").statistics()
        print("Partners:", ", ".join(f"{name} {value:.3g}" for name, value in partners.items()))
    return index


def first(scans: Dataset, number: int) -> Dataset:
    return scans.select(range(min(number, len(scans))))


def stream_epochs(args: NegativeSFTConfig, num_rows: int, options: dict) -> IterableDataset:
    """
    The training rows of all epochs as one stream, each epoch in its own order and with its own negatives.

    In one pass, because Trainer finds its place again in a pass, but not in the epochs of a stream. It sets
    `max_steps`, which Trainer needs.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.max_steps <= 0:
        args.max_steps = max(1, int(args.num_train_epochs * num_rows / batch))
    args.accelerator_config.dispatch_batches = False  # else rank 0 reads every volume and hands the batches out
    stream = load_dataset("ct_rate_pairs", split="train", streaming=True, **options)
    # A volume is a shard, so shuffling shards is all the shuffling: no buffer, and no volume read ahead for it.
    epochs = range(1 + args.max_steps * batch // num_rows)
    shuffling = {"buffer_size": 1, "max_buffer_input_shards": 1}
    return concatenate_datasets([stream.shuffle(seed=args.seed + epoch, **shuffling) for epoch in epochs])


def make_trainer(
    recipe_args: RecipeArguments,
    args: NegativeSFTConfig,
    model_args: ModelConfig,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    index: DatasetDict,
    options: dict,
) -> NegativeSFTTrainer:
    """The trainer on the split `train`; where an `eval_strategy` asks for it, on `validation` too."""
    validates = args.eval_strategy != "no"
    validation = first(index["validation"], recipe_args.validation_scans) if validates else None
    muon = (lambda: MuonAdamW, {"lr": args.learning_rate, "weight_decay": args.weight_decay})
    trainer = NegativeSFTTrainer(
        model=model,
        args=args,
        train_dataset=stream_epochs(args, len(index["train"]), options) if recipe_args.streaming else index["train"],
        eval_dataset=validation,
        data_collator=PairCollator(processor),
        processing_class=processor,
        peft_config=get_peft_config(model_args),
        callbacks=[NewNegativesEachEpoch()],
        optimizer_cls_and_kwargs=muon if recipe_args.muon else None,
    )
    if validation is not None:
        trainer.add_callback(
            WriteReportSamples(
                trainer,
                validation,
                max_new_tokens=recipe_args.max_new_tokens,
                score=validation_coverage,
                num_scored=len(validation),
            )
        )
    return trainer


def validation_coverage(reports: list[str], labels: list[list[int]]) -> dict[str, float]:
    """What `metric_for_best_model: eval_coverage` chooses the checkpoint by; 0 without a finding among the scans."""
    return {"coverage": coverage(label_reports(reports), labels, ct_rate_pairs.LABELS)["coverage"] or 0.0}


def resume_from(args: NegativeSFTConfig, hub: dict) -> str | bool | None:
    """What `--resume_from_checkpoint` stands for; `last-checkpoint` is the one on the Hub, as Trainer calls it."""
    if args.resume_from_checkpoint == LAST_CHECKPOINT:
        place = {name: hub[name] for name in ("repo_id", "revision", "token")}
        fetched = [fetch_checkpoint(output_dir=args.output_dir, **place) if args.process_index == 0 else None]
        return broadcast_object_list(fetched)[0]
    # On the command line "true" is a string, which Trainer would take for a path.
    return args.resume_from_checkpoint == "true" or args.resume_from_checkpoint


def save_run(trainer: NegativeSFTTrainer, processor: ProcessorMixin, reader: RowReader) -> Path:
    """Saves the model and what belongs to it, and removes what an earlier run in this folder measured of its own."""
    out = Path(trainer.args.output_dir)
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(out)
        save_row_settings(reader, out)
        for earlier in ("predictions.jsonl", "confidence.json"):
            (out / earlier).unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    return out


def main(recipe_args: RecipeArguments, args: NegativeSFTConfig, model_args: ModelConfig) -> None:
    if args.beta > 0 and recipe_args.negative == "none":
        raise ValueError(f"beta={args.beta} needs negatives: pass --negative gauss or heter, or --beta 0.")
    pushing, hub = args.push_to_hub, take_over_push(args)
    if pushing and args.process_index == 0:
        HubRepository(**hub)  # a token that may not write is told of now, not after the training
    options = recipe_args.dataset_options() | {"slices": recipe_args.slices, "seed": args.seed}
    index = load_splits(recipe_args, args, options)
    reader = index["train"].format["format_kwargs"]["transform"]
    texts = index["train"].with_format(None)
    reports, prompts = ([turn[0]["content"] for turn in texts[column]] for column in ("completion", "prompt"))

    model, processor = load_model(model_args, [*reports, *prompts], args.seed)
    if recipe_args.freeze_vision:
        model.get_encoder("image").requires_grad_(False)
    trainer = make_trainer(recipe_args, args, model_args, model, processor, index, options)
    if pushing and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        trainer.add_callback(PushCheckpoints(**hub))
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=resume_from(args, hub))
    minutes = (time.monotonic() - start) / 60
    out = save_run(trainer, processor, reader)

    model, collator = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.data_collator
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # each process holds a share of the weights only
        model = AutoModelForImageTextToText.from_pretrained(out, dtype="auto").to(args.device)
    test = index["test"]
    scans = first(test, recipe_args.eval_scans or len(test))
    sizes = {"batch_size": args.per_device_eval_batch_size, "max_new_tokens": recipe_args.max_new_tokens}
    made_with = {"split": "test", "dtype": str(model.dtype), "max_new_tokens": recipe_args.max_new_tokens}
    provenance = describe_provenance(version_of(str(out)), test, **made_with)
    predictions = write_predictions(model, collator, scans, out / "predictions.jsonl", provenance=provenance, **sizes)
    trainer.accelerator.end_training()  # the ranks part here, and a process group left to the exit may abort there
    if not trainer.is_world_process_zero():
        return

    if recipe_args.confidence_scans:
        validation = load_dataset("ct_rate_pairs", split="validation", **options | {"negative": "none"})
        fit_confidence(model, collator, first(validation, recipe_args.confidence_scans), **sizes).save(out)
    results = evaluate_model(
        model,
        collator,
        predictions,
        scans,
        out,
        train_reports=reports,
        train_labels=texts.with_format("numpy", columns=["labels"])["labels"][:],
        ci=0.95,
        **sizes,
    )
    plot_losses(trainer.state.log_history, out / "figures" / "losses.png", args)
    write_model_card(
        out,
        results,
        args,
        phantom=reader.source.is_phantom,
        negative=recipe_args.negative,
        num_train=len(index["train"]),
        num_test=results["model"]["n"],
        steps=trainer.state.global_step,
        hardware=torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        minutes=minutes,
        base_model=None if model_args.model_name_or_path == "tiny" else model_args.model_name_or_path,
        num_slices=reader.source.settings.num_slices,
        spacing=reader.source.settings.spacing,
        min_label_distance=recipe_args.min_label_distance,
    )
    if pushing:
        references = [turns[0]["content"] for turns in scans.with_format(None)["completion"]]
        try:
            print("Published:", publish_or_tell_how(out, **hub, references=references))
        except (ForbiddenContentError, PublishError) as error:
            sys.exit("\n".join([str(error), *error.__notes__]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if not {"--config", "-h", "--help"} & {argument.split("=")[0] for argument in sys.argv}:
        sys.argv += ["--config", str(Path(__file__).parent / "configs" / "heter.yaml")]
    if not torch.accelerator.is_available():
        sys.argv += ["--use_cpu", "true"]  # else bf16 is refused before the data's own errors can be seen
    main(*TrlParser((RecipeArguments, NegativeSFTConfig, ModelConfig)).parse_args_and_config())
