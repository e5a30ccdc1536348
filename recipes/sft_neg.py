"""
Fine-tune a vision-language model on chest-CT reports with negative pairs, then measure it and write its card.

Run bare, this is the paper's heterogeneous run on CT-RATE (`recipes/configs/heter.yaml`):

    accelerate launch recipes/sft_neg.py

On the phantom, without a GPU or a download (`make demo` does both):

    python -m ct_rate_pairs.phantom --out phantom --scans 2000
    accelerate launch recipes/sft_neg.py --config recipes/configs/phantom.yaml --data_dir phantom

`--config recipes/configs/vqa.yaml`, `matching.yaml` and `errors.yaml` train on the other tasks of the dataset
(`--task`), `mixture.yaml` on a mixture by weight, with the same trainer and loss (`docs/tasks.md`).

Any option of the config can be overridden on the command line: `--beta 0.2 --negative gauss --output_dir runs/gauss`.
`--push_to_hub true --hub_model_id USER/NAME` publishes the run at its end. With `--hub_strategy checkpoint` the Hub
keeps its last checkpoint too, and `--resume_from_checkpoint last-checkpoint` goes on from there on another machine.
"""

import json
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.trainer_utils import HubStrategy
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

import ct_rate_pairs
from ct_rate_pairs.eval import coverage, label_reports
from ct_rate_pairs.eval.figures.training import plot_losses
from ct_rate_pairs.eval.load_model import version_of
from ct_rate_pairs.eval.predictions.provenance import describe_provenance
from ct_rate_pairs.eval.predictions.store import write_predictions
from ct_rate_pairs.eval.tasks import evaluate_task
from ct_rate_pairs.eval.tasks.report import evaluate_model
from ct_rate_pairs.hub import write_model_card
from ct_rate_pairs.hub.checkpoints import LAST_CHECKPOINT, PushCheckpoints, fetch_checkpoint
from ct_rate_pairs.hub.guard import ForbiddenContentError, keep_reference_hashes
from ct_rate_pairs.hub.publish import publish_or_tell_how, take_over_push
from ct_rate_pairs.hub.reporting.confidence import fit_confidence
from ct_rate_pairs.hub.repository import HubRepository, PublishError
from ct_rate_pairs.recipes.arguments import DataArguments, TaskArguments
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.tasks import TASKS
from ct_rate_pairs.trainer import (
    MuonAdamW,
    NegativeSFTConfig,
    NegativeSFTTrainer,
    NewNegativesEachEpoch,
    PairCollator,
    WriteReportSamples,
    save_row_settings,
)
from ct_rate_pairs.trainer.row_settings import save_mixed_row_settings
from ct_rate_pairs.trainer.streams import mix_tasks
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.settings import one_of


@dataclass
class RecipeArguments(TaskArguments, DataArguments):
    """What this recipe adds to TRL's options: scans, negatives, evaluation, and Muon for a model from scratch."""

    mixture: dict | str | None = field(
        default=None,
        metadata={"help": "Tasks and their weights in the place of `task`: {report: 0.5, vqa: 0.5}, or JSON."},
    )
    slices: str = field(default="uniform", metadata={"help": "uniform, or jitter: random planes, as augmentation."})
    freeze_vision: bool = field(default=False, metadata={"help": "Keep the vision tower's weights as they are."})
    streaming: bool = field(default=False, metadata={"help": "Stream the training rows; max_steps is then computed."})
    validation_scans: int = field(
        default=64, metadata={"help": "Rows of the validation split that an `eval_strategy` judges checkpoints by."}
    )
    confidence_scans: int = field(
        default=0,
        metadata={"help": "Scans of the validation split that the findings' confidences are fitted on; 0: none."},
    )
    eval_scans: int = field(default=200, metadata={"help": "Scans of the test split to measure on; 0: all."})
    max_new_tokens: int = field(default=1200, metadata={"help": "Longest generated report or answer, in tokens."})
    muon: bool = field(default=False, metadata={"help": "Muon on the hidden matrices, for a model from scratch."})

    def dataset_options(self) -> dict:
        return self._given(DataArguments) | self._given(TaskArguments)

    def task_weights(self) -> dict[str, float]:
        """The tasks that are trained on, reports first, and the share of each; shares sum to 1."""
        if self.mixture is None:
            return {self.task: 1.0}
        weights = json.loads(self.mixture) if isinstance(self.mixture, str) else self.mixture
        for task, weight in weights.items():
            one_of("mixture", task, TASKS)
            if not weight > 0:
                raise ValueError(f"mixture: the weight {weight} of {task!r} is not above 0. Leave the task out.")
        return {task: weights[task] / sum(weights.values()) for task in TASKS if task in weights}


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
    validates = validates and options["task"] == next(iter(recipe_args.task_weights()))
    for split in ("train", "test", *(("validation",) if validates else ())):
        if not len(index.get(split, ())):
            raise ValueError(f"{recipe_args.data_dir or 'CT-RATE'} has no readable scan for the split '{split}'.")
    if recipe_args.confidence_scans and options["task"] == "report":
        volumes = first(index["validation"], recipe_args.confidence_scans).with_format(None)["volume"]
        if (patients := len({patient_of(volume) for volume in volumes})) < 5:
            raise ValueError(
                f"Confidences are fitted on 5 patients at least, but confidence_scans={recipe_args.confidence_scans} "
                f"takes {patients} of the split 'validation': raise it, or pass --confidence_scans 0 for none."
            )
    return index


def first(scans: Dataset, number: int) -> Dataset:
    return scans.select(range(min(number, len(scans))))


def reader_of(index: DatasetDict) -> RowReader:
    return index["train"].format["format_kwargs"]["transform"]


def print_partners(reader: RowReader) -> None:
    partners = reader.partners("train").statistics()
    print("Partners:", ", ".join(f"{name} {value:.3g}" for name, value in partners.items()))


def texts_of(index: DatasetDict, column: str) -> list[str]:
    return [turns[0]["content"] for turns in index["train"].with_format(None)[column]]


def stream_rows(
    args: NegativeSFTConfig, weights: dict[str, float], indexes: dict[str, DatasetDict], options: dict
) -> IterableDataset:
    """The training rows of all epochs and tasks as one stream. It sets `max_steps`, which Trainer needs."""
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    num_rows = {task: len(index["train"]) for task, index in indexes.items()}
    if args.max_steps <= 0:
        args.max_steps = max(1, int(args.num_train_epochs * sum(num_rows.values()) / batch))
    args.accelerator_config.dispatch_batches = False  # else rank 0 reads every volume and hands the batches out
    return mix_tasks(weights, num_rows, args.max_steps * batch, **options)


def make_trainer(
    recipe_args: RecipeArguments,
    args: NegativeSFTConfig,
    model_args: ModelConfig,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    indexes: dict[str, DatasetDict],
    options: dict,
) -> NegativeSFTTrainer:
    """
    The trainer on the split `train`; where an `eval_strategy` asks for it, on `validation` too, with the first task.
    """
    weights, index = recipe_args.task_weights(), next(iter(indexes.values()))
    streams = recipe_args.streaming or recipe_args.mixture is not None
    validates = args.eval_strategy != "no"
    validation = first(index["validation"], recipe_args.validation_scans) if validates else None
    muon = (lambda: MuonAdamW, {"lr": args.learning_rate, "weight_decay": args.weight_decay})
    trainer = NegativeSFTTrainer(
        model=model,
        args=args,
        train_dataset=stream_rows(args, weights, indexes, options) if streams else index["train"],
        eval_dataset=validation,
        data_collator=PairCollator(processor),
        processing_class=processor,
        peft_config=get_peft_config(model_args),
        callbacks=[NewNegativesEachEpoch()],
        optimizer_cls_and_kwargs=muon if recipe_args.muon else None,
    )
    if validation is not None and "report" in indexes:
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


def save_run(trainer: NegativeSFTTrainer, processor: ProcessorMixin, readers: list[RowReader]) -> Path:
    """Saves the model and what belongs to it, and removes what an earlier run in this folder measured of its own."""
    out = Path(trainer.args.output_dir)
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(out)
        if len(readers) == 1:
            save_row_settings(readers[0], out)
        else:
            save_mixed_row_settings(readers, out)
        for earlier in ("predictions.jsonl", "confidence.json"):
            (out / earlier).unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    return out


def check_arguments(recipe_args: RecipeArguments, args: NegativeSFTConfig) -> None:
    if args.beta > 0 and recipe_args.negative == "none":
        raise ValueError(f"beta={args.beta} needs negatives: pass --negative gauss or heter, or --beta 0.")
    if "report" in recipe_args.task_weights():
        return
    if recipe_args.confidence_scans:
        raise ValueError("Confidences are read from reports, which this run does not learn: --confidence_scans 0.")
    if args.push_to_hub:
        raise ValueError("A model that learns no reports has no card to be published with: leave push_to_hub out.")


def measure_other_tasks(
    recipe_args: RecipeArguments,
    model: PreTrainedModel,
    collator: PairCollator,
    indexes: dict[str, DatasetDict],
    options: dict,
    out: Path,
    **sizes,
) -> None:
    """All tasks but reports; in a mixture, each has a folder of its own."""
    for task, index in indexes.items():
        if task != "report":
            # Without negatives, which would take a second volume a row
            test = load_dataset("ct_rate_pairs", split="test", **options | {"task": task, "negative": "none"})
            folder = out / task if len(indexes) > 1 else out
            evaluate_task(model, collator, test, index["train"], folder, scans=recipe_args.eval_scans, **sizes)


def main(recipe_args: RecipeArguments, args: NegativeSFTConfig, model_args: ModelConfig) -> None:
    check_arguments(recipe_args, args)
    pushing, hub = args.push_to_hub, take_over_push(args)
    if pushing and args.process_index == 0:
        HubRepository(**hub)  # a token that may not write is told of now, not after the training
    options = recipe_args.dataset_options() | {"slices": recipe_args.slices, "seed": args.seed}
    indexes = {task: load_splits(recipe_args, args, options | {"task": task}) for task in recipe_args.task_weights()}
    index = next(iter(indexes.values()))
    reader = reader_of(index)
    if recipe_args.negative in ("heter", "hard"):
        print_partners(reader)
    texts = [text for index in indexes.values() for name in ("completion", "prompt") for text in texts_of(index, name)]
    model, processor = load_model(model_args, texts, args.seed)
    if recipe_args.freeze_vision:
        model.get_encoder("image").requires_grad_(False)
    trainer = make_trainer(recipe_args, args, model_args, model, processor, indexes, options)
    if pushing and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        trainer.add_callback(PushCheckpoints(**hub))
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=resume_from(args, hub))
    minutes = (time.monotonic() - start) / 60
    out = save_run(trainer, processor, [reader_of(index) for index in indexes.values()])

    model, collator = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.data_collator
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # each process holds a share of the weights only
        model = AutoModelForImageTextToText.from_pretrained(out, dtype="auto").to(args.device)
    sizes = {"batch_size": args.per_device_eval_batch_size, "max_new_tokens": recipe_args.max_new_tokens}
    if "report" in indexes:
        test = index["test"]
        scans = first(test, recipe_args.eval_scans or len(test))
        made_with = {"split": "test", "dtype": str(model.dtype), "max_new_tokens": recipe_args.max_new_tokens}
        provenance = describe_provenance(version_of(str(out)), test, **made_with)
        file = out / "predictions.jsonl"
        predictions = write_predictions(model, collator, scans, file, provenance=provenance, **sizes)
    trainer.accelerator.end_training()  # the ranks part here, and a process group left to the exit may abort there
    if not trainer.is_world_process_zero():
        return

    (out / "figures").mkdir(exist_ok=True)
    plot_losses(trainer.state.log_history, out / "figures" / "losses.png", args)
    measure_other_tasks(recipe_args, model, collator, indexes, options, out, **sizes)
    if "report" not in indexes:
        return
    if recipe_args.confidence_scans:
        validation = load_dataset(
            "ct_rate_pairs", split="validation", **options | {"task": "report", "negative": "none"}
        )
        fit_confidence(model, collator, first(validation, recipe_args.confidence_scans), **sizes).save(out)
    results = evaluate_model(
        model,
        collator,
        predictions,
        scans,
        out,
        train_reports=texts_of(index, "completion"),
        train_labels=index["train"].with_format("numpy", columns=["labels"])["labels"][:],
        ci=0.95,
        **sizes,
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    write_model_card(
        out,
        results,
        args,
        phantom=reader.source.is_phantom,
        negative=recipe_args.negative,
        num_train=len(index["train"]),
        num_test=results["model"]["n"],
        steps=trainer.state.global_step,
        hardware=f"{args.world_size} x {gpu}" if gpu else f"{os.cpu_count()} CPU cores",
        minutes=minutes,
        base_model=None if model_args.model_name_or_path == "tiny" else model_args.model_name_or_path,
        slices=recipe_args.slices,
        min_label_distance=recipe_args.min_label_distance,
        max_label_distance=recipe_args.max_label_distance,
        partner_sampling=recipe_args.partner_sampling,
    )
    # What publishing, now or later, looks for in the predictions.
    keep_reference_hashes(out, [turns[0]["content"] for turns in scans.with_format(None)["completion"]])
    if pushing:
        try:
            print("Published:", publish_or_tell_how(out, **hub))
        except (ForbiddenContentError, PublishError) as error:
            sys.exit("\n".join([str(error), *error.__notes__]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if not {"--config", "-h", "--help"} & {argument.split("=")[0] for argument in sys.argv}:
        sys.argv += ["--config", str(Path(__file__).parent / "configs" / "heter.yaml")]
    if not torch.accelerator.is_available():
        sys.argv += ["--use_cpu", "true"]  # else bf16 is refused before the data's own errors can be seen
    main(*TrlParser((RecipeArguments, NegativeSFTConfig, ModelConfig)).parse_args_and_config())
