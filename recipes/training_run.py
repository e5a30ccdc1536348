"""
What each training does around its steps, `recipes/sft_neg.py` as well as `recipes/grpo.py`: it keeps records, resumes,
saves, measures, writes the card, and publishes.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path

from accelerate.utils import broadcast_object_list
from datasets import DatasetDict
from transformers import AutoModelForImageTextToText, ProcessorMixin, TrainingArguments
from transformers.trainer_utils import HubStrategy
from trl import ModelConfig

from ct_rate_pairs.eval.tasks import TaskSettings, evaluate_tasks
from ct_rate_pairs.hub.checkpoints import LAST_CHECKPOINT, PushCheckpoints, fetch_checkpoint, take_over_push
from ct_rate_pairs.hub.publish import publish_or_tell_how
from ct_rate_pairs.hub.references import keep_references
from ct_rate_pairs.hub.repository import HubRepository
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.recipes.arguments import TrainingRunArguments
from ct_rate_pairs.recipes.masks_after_training import measure_masks
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.recipes.reports_after_training import ReportsAfterTraining
from ct_rate_pairs.trainer.label_head import LabelHead
from ct_rate_pairs.trainer.mask_head import MaskHead
from ct_rate_pairs.trainer.model_files import ModelFilesTrainer
from ct_rate_pairs.trainer.run_record import WriteRunRecord, base_of_run, options_in_effect


MEASURED = ("predictions.jsonl", "confidence.json", "domain.json", "masks.json")


class HubOfRun:
    """
    The repository of a run on the Hub, by the options of `args`. With `push_to_hub`, it is asked for now, so that a
    token without the right to write fails before the training. Trainer's own `push_to_hub` is turned off.
    """

    def __init__(self, args: TrainingArguments):
        self.pushes, self.options = args.push_to_hub, take_over_push(args)
        self.keeps_checkpoints = self.pushes and args.hub_strategy in (
            HubStrategy.CHECKPOINT,
            HubStrategy.ALL_CHECKPOINTS,
        )
        if self.pushes and args.process_index == 0:
            HubRepository(**self.options)

    def resume_from(self, args: TrainingArguments) -> str | bool | None:
        """The checkpoint of `--resume_from_checkpoint`; as in Trainer, `last-checkpoint` is that on the Hub."""
        if args.resume_from_checkpoint == LAST_CHECKPOINT:
            place = {name: self.options[name] for name in ("repo_id", "revision", "token")}
            fetched = [fetch_checkpoint(output_dir=args.output_dir, **place) if args.process_index == 0 else None]
            return broadcast_object_list(fetched)[0]
        # On the command line "true" is a string, which Trainer would take for a path.
        wanted = args.resume_from_checkpoint == "true" or args.resume_from_checkpoint
        if isinstance(wanted, str) and not Path(wanted).is_dir():
            raise FileNotFoundError(f"--resume_from_checkpoint: {no_such('folder', wanted)}")
        return wanted

    def publish(self, trainer: ModelFilesTrainer) -> None:
        """Publishes the finished run, if it is to be."""
        if self.pushes and trainer.is_world_process_zero():
            print("Published:", publish_or_tell_how(trainer.args.output_dir, **self.options))


def keep_records(
    trainer: ModelFilesTrainer,
    parser: RecipeParser,
    indexes: Mapping[str, DatasetDict],
    commits: Mapping[str, str | None],
    unused: Collection[str] = (),
) -> None:
    """
    Keeps the options of the run but for the `unused` ones, what it runs with, and hashes of its reference reports for
    the guard. `commits` are those of the models that the training starts from.
    """
    rows = [of_task["train"] for of_task in indexes.values()]
    options = options_in_effect(parser.values, rows)
    options = {name: value for name, value in options.items() if name not in unused}
    if commit := commits.get(parser.values["model_name_or_path"]):
        options["model_revision"] = commit
    bases = [f"{name}@{commit}" if commit else base_of_run(name) for name, commit in commits.items()]
    base = ", ".join(filter(None, bases)) or None
    trainer.add_callback(WriteRunRecord(parser.prog, options, parser.given, base))
    if "report" in indexes and trainer.is_world_process_zero():
        keep_references(trainer.args.output_dir, rows[0])


def train_and_save(trainer: ModelFilesTrainer, processor: ProcessorMixin, hub: HubOfRun) -> float:
    """
    Trains, saves model, row settings and processor, and removes what an earlier run has measured. Returns the minutes
    of the training.
    """
    if hub.keeps_checkpoints:
        trainer.add_callback(PushCheckpoints(**hub.options))
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=hub.resume_from(trainer.args))
    minutes, out = (time.monotonic() - start) / 60, Path(trainer.args.output_dir)
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(out)
        for earlier in {*MEASURED, MaskHead.file, LabelHead.file} - {head.file for head in trainer.heads}:
            (out / earlier).unlink(missing_ok=True)
        (out / "figures").mkdir(exist_ok=True)
    trainer.accelerator.wait_for_everyone()
    return minutes


def measure_run(
    recipe_args: TrainingRunArguments,
    model_args: ModelConfig,
    trainer: ModelFilesTrainer,
    indexes: Mapping[str, DatasetDict],
    options: dict,
    minutes: float,
) -> None:
    """
    Writes and measures reports or answers, fits confidences, and writes the card. All processes write, and the main
    process does the rest. `options` are those of `load_dataset` for the rows of the training.
    """
    args, out = trainer.args, Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # each process holds only a share of the weights
        model = AutoModelForImageTextToText.from_pretrained(out, dtype="auto", trust_remote_code=False).to(args.device)
    reports = None
    if "report" in indexes:
        reports = ReportsAfterTraining(recipe_args, model_args, trainer, model, indexes["report"], options)
        reports.write()
    trainer.accelerator.end_training()  # a process group that is still open at exit may abort
    if trainer.is_world_process_zero():
        settings = TaskSettings(
            max_samples=recipe_args.max_eval_samples,
            batch_size=args.per_device_eval_batch_size,
            max_new_tokens=recipe_args.max_new_tokens,
        )
        evaluate_tasks(model, trainer.data_collator, indexes, options, out, settings)
        if any(head.file == MaskHead.file for head in trainer.heads):
            measure_masks(recipe_args, model, trainer.data_collator, options, out)
        if reports is not None:
            reports.finish(minutes)
