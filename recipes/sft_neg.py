"""
Fine-tune a vision-language model on chest-CT reports with negative pairs, measure it, and write its model card.

Without options, this is the paper's heterogeneous run on CT-RATE (`--config heter`), from a checkout:

    accelerate launch recipes/sft_neg.py

On the phantom, without a GPU or a download (`make demo` does both):

    ct-rate-pairs phantom --output_dir phantom --scans 2000
    ct-rate-pairs train --config phantom --data_dir phantom

`ct-rate-pairs train` runs this recipe in one process. `accelerate launch -m ct_rate_pairs.recipes.sft_neg` works
without a checkout, where only the package is installed. `--config vqa`, `matching` and `errors` train on the other
tasks of the dataset (`--task`), and `--config mixture` on several tasks with weights. Trainer and loss are the same.

Any option of the config can be overridden on the command line: `--beta 0.2 --negative gauss --output_dir runs/gauss`.
`--push_to_hub true --hub_model_id USER/NAME` publishes the finished run. With `--hub_strategy checkpoint`, the Hub
also keeps the last checkpoint, and `--resume_from_checkpoint last-checkpoint` resumes from it on another machine.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import ct_rate_pairs
from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.recipes.recipe_parser import OLD_NAMES, RecipeParser
from ct_rate_pairs.recipes.training_arguments import OF_OPTIM, RecipeArguments


def load_tasks(recipe_args: RecipeArguments, args, options: dict) -> dict:
    """The splits of each task, reports first. The statistics of the first task's partners are printed."""
    from datasets import load_dataset

    from ct_rate_pairs.partners import mutual_statistics
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.trainer.splits import load_splits

    tasks, indexes = list(recipe_args.task_weights()), {}
    for task in tasks:
        needs = {"validates": args.eval_strategy != "no" and task == tasks[0]}
        needs["confidence_scans"] = recipe_args.confidence_scans if task == "report" else 0
        indexes[task] = load_splits(options | {"task": task}, **needs)
        if masks := recipe_args.mask_options():
            for split in ("train", "validation") if needs["validates"] else ("train",):
                indexes[task][split] = load_dataset("ct_rate_pairs", split=split, **options | masks | {"task": task})
    if recipe_args.negative in ("heter", "hard"):
        reader = reader_of(indexes[tasks[0]]["train"])
        if reader.config.is_mutual:
            cohort = reader.labels["train"], reader.tables["train"]["patient"].tolist()
            partners = mutual_statistics(*cohort, args.per_device_train_batch_size, recipe_args.min_label_distance)
        else:
            partners = reader.partners("train").statistics()
        print("Partners:", ", ".join(f"{name} {value:.3g}" for name, value in partners.items()))
    return indexes


def make_trainer(recipe_args: RecipeArguments, args, model_args, model, processor, indexes: dict, options: dict):
    """The trainer for the split `train`. With an `eval_strategy`, it evaluates the first task on `validation`."""
    from peft import PeftModel

    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.recipes.starting_model import new_adapter
    from ct_rate_pairs.trainer import MuonAdamW, NegativeSFTTrainer, PairCollator, WriteReportSamples
    from ct_rate_pairs.trainer.row_settings import settings_of
    from ct_rate_pairs.trainer.task_mixture import stream_rows

    weights, index = recipe_args.task_weights(), next(iter(indexes.values()))
    streams = recipe_args.streaming or recipe_args.mixture is not None
    validates = args.eval_strategy != "no"
    validation = first_rows(index["validation"], recipe_args.validation_scans) if validates else None
    names = reader_of(index["train"]).masks.known if args.mask_loss_weight else ()
    if recipe_args.muon and isinstance(model, PeftModel):
        raise ValueError(f"{model_args.model_name_or_path} is an adapter, and --muon true is for none: leave it out.")
    muon = (lambda: MuonAdamW, {"lr": args.learning_rate, "weight_decay": args.weight_decay})
    trainer = NegativeSFTTrainer(
        model=model,
        args=args,
        train_dataset=stream_rows(args, weights, indexes, options | recipe_args.mask_options())
        if streams
        else index["train"],
        eval_dataset=validation,
        data_collator=PairCollator(processor, None, recipe_args.template_kwargs(), names),
        row_settings=settings_of([reader_of(of_task["train"]) for of_task in indexes.values()]),
        processing_class=processor,
        peft_config=new_adapter(model_args, model),
        optimizer_cls_and_kwargs=muon if recipe_args.muon else None,
    )
    if validation is not None and "report" in indexes:
        scored = {"score": validation_coverage, "num_scored": len(validation)}
        samples = WriteReportSamples(trainer, validation, max_new_tokens=recipe_args.max_new_tokens, **scored)
        trainer.add_callback(samples)
    return trainer


def validation_coverage(reports: list[str], labels: list[list[int]]) -> dict[str, float]:
    """
    The metric of `metric_for_best_model: eval_coverage`, 0 if no scan has a finding; and how many reports are
    unreadable.
    """
    from ct_rate_pairs.eval import coverage
    from ct_rate_pairs.eval.scoring.labelers import label_predictions

    stated, unread = label_predictions(reports)
    return {"coverage": coverage(stated, labels, ct_rate_pairs.LABELS)["coverage"] or 0.0, **unread}


def make_parser() -> RecipeParser:
    """The parser of the options of the recipe, of the training and of the model."""
    from trl import ModelConfig

    from ct_rate_pairs.trainer.negative_sft_config import NegativeSFTConfig

    old_names = {"eval_scans": OLD_NAMES["eval_scans"]}
    return RecipeParser([RecipeArguments, NegativeSFTConfig, ModelConfig], "ct-rate-pairs train", __doc__, old_names)


def parse(argv: Sequence[str], parser: RecipeParser | None = None) -> list:
    """The options of the recipe, of the training and of the model. An option without effect is refused, or told."""
    import torch

    from ct_rate_pairs.trainer.negative_sft_config import idle_options

    if not torch.accelerator.is_available():
        argv = [*argv, "--use_cpu", "true"]  # otherwise bf16 is refused before errors of the data are reported
    parser = parser or make_parser()
    recipe_args, args, model_args = parser.parse(argv, config="heter")
    idle = recipe_args.idle(args, model_args)
    both = {"gradient_checkpointing", "activation_checkpointing"}
    if both <= parser.typed and parser.values["gradient_checkpointing"] != parser.values["activation_checkpointing"]:
        raise ValueError("--gradient_checkpointing and --activation_checkpointing are one option: give it once.")
    parser.refuse_idle(idle | idle_options(args))
    parser.keep_run(args.output_dir, args.resume_from_checkpoint)
    parser.tell_idle(idle)  # `NegativeSFTConfig` tells its own
    recipe_args.check_model(model_args)
    if args.beta == 0 and recipe_args.negative != "none":
        print(
            f"beta is 0: the negatives ({recipe_args.negative}) are read and measured, and not trained on. To read "
            "none, pass --negative none.",
            file=sys.stderr,
        )
    return [recipe_args, args, model_args]


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs train`."""
    parser = make_parser()
    recipe_args, args, model_args = parse(argv, parser)
    recipe_args.check(args)
    with folder_lock(args.output_dir, parser.prog, distributed=True):
        train(recipe_args, args, model_args, parser)


def train(recipe_args: RecipeArguments, args, model_args, parser: RecipeParser) -> None:
    """Trains, writes and measures reports or answers, and writes the card."""
    from ct_rate_pairs.eval.figures.training import plot_losses
    from ct_rate_pairs.recipes.starting_model import commits_of_start, load_model, models_to_start_from
    from ct_rate_pairs.recipes.training_run import HubOfRun, keep_records, measure_run, train_and_save
    from ct_rate_pairs.trainer.hub_files import check_name

    for name in models_to_start_from(recipe_args, model_args):
        check_name(name)
    logging.basicConfig(level=logging.WARNING)
    hub = HubOfRun(args)
    options = recipe_args.dataset_options() | {"seed": args.seed}
    indexes = load_tasks(recipe_args, args, options)
    commits = commits_of_start(recipe_args, model_args)
    model_args.model_revision = commits.get(model_args.model_name_or_path)  # of an adapter's base
    model, processor = load_model(recipe_args, model_args, indexes, args.seed, commits)
    trainer = make_trainer(recipe_args, args, model_args, model, processor, indexes, options)
    # The optimizer that Trainer would have made does not run.
    keep_records(trainer, parser, indexes, commits, unused=OF_OPTIM if recipe_args.muon else ())
    minutes = train_and_save(trainer, processor, hub)
    if trainer.is_world_process_zero():
        plot_losses(trainer.state.log_history, Path(args.output_dir, "figures", "losses.png"), args)
    measure_run(recipe_args, model_args, trainer, indexes, options, minutes)
    hub.publish(trainer)


if __name__ == "__main__":
    run(main)
