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

import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ct_rate_pairs
from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.recipes.arguments import (
    OLD_NAMES,
    ChatArguments,
    DataArguments,
    LineArguments,
    RecipeParser,
    TaskArguments,
)
from ct_rate_pairs.tasks import TASKS
from ct_rate_pairs.volumes.settings import one_of


# Options of Trainer's own optimizers, which Muon does not take.
OF_OPTIM = ("optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon")


@dataclass
class RecipeArguments(LineArguments, ChatArguments, TaskArguments, DataArguments):
    """The options of this recipe besides TRL's: scans, negatives, evaluation, and Muon for a model from scratch."""

    mixture: dict | str | None = field(
        default=None,
        metadata={"help": "Tasks and their weights instead of `task`: {report: 0.5, vqa: 0.5}, or JSON."},
    )
    slices: str = field(
        default="uniform",
        metadata={
            "choices": ("uniform", "jitter"),
            "help": "Planes of the slices; jitter: random planes, as augmentation.",
        },
    )
    streaming: bool = field(
        default=False, metadata={"help": "Stream the training rows; max_steps is then computed from the epochs."}
    )
    validation_scans: int = field(
        default=64,
        metadata={"help": "Rows of the validation split to evaluate checkpoints on, with an `eval_strategy`."},
    )
    confidence_scans: int = field(
        default=0,
        metadata={"help": "Scans of the validation split to fit the confidences of findings on; 0: none."},
    )
    max_eval_samples: int = field(default=200, metadata={"help": "Scans of the test split to measure on; 0: all."})
    max_new_tokens: int = field(
        default=1200, metadata={"help": "Maximum length of a generated report or answer in tokens."}
    )
    muon: bool = field(default=False, metadata={"help": "Use Muon for the hidden matrices, for a model from scratch."})

    def dataset_options(self) -> dict:
        """The arguments that were given, for `load_dataset("ct_rate_pairs", ...)`."""
        return self.given(DataArguments) | self.given(TaskArguments) | {"slices": self.slices}

    def task_weights(self) -> dict[str, float]:
        """The tasks to train on, reports first, and their shares, which sum to 1."""
        if self.mixture is None:
            return {self.task: 1.0}
        wanted = 'Give tasks and their weights: {"report": 0.5, "vqa": 0.5}.'
        try:
            weights = json.loads(self.mixture) if isinstance(self.mixture, str) else self.mixture
        except json.JSONDecodeError as error:
            raise ValueError(f"mixture: {self.mixture!r} is not JSON ({error}). {wanted}") from error
        if not isinstance(weights, dict) or not weights:
            raise ValueError(f"mixture: {self.mixture!r} names no task. {wanted}")
        for task, weight in weights.items():
            one_of("mixture", task, TASKS)
            if type(weight) not in (int, float) or not math.isfinite(weight):
                raise ValueError(f"mixture: the weight {weight!r} of {task!r} is no finite number. {wanted}")
            if not weight > 0:
                raise ValueError(f"mixture: the weight {weight} of {task!r} is not above 0. Leave the task out.")
        return {task: weights[task] / sum(weights.values()) for task in TASKS if task in weights}

    def check(self, args) -> None:
        """Raises a `ValueError` for options that exclude each other."""
        from ct_rate_pairs.trainer.negative_sft_config import DEFAULTS
        from ct_rate_pairs.trainer.preconditions import check_mutual_batch

        values = args.to_dict()  # of enumerations, it has the plain values
        changed = [name for name in OF_OPTIM if values[name] != DEFAULTS[name]]
        if self.muon and changed:
            raise ValueError(
                f"--muon true trains by Muon and AdamW with their own settings, so {changed[0]}="
                f"{values[changed[0]]} would have no effect: leave one of the two out."
            )
        if args.beta > 0 and self.negative == "none":
            raise ValueError(f"beta={args.beta} needs negatives: pass --negative gauss or heter, or --beta 0.")
        if self.negative == "heter" and self.partner_sampling == "mutual" and args.beta > 0:
            check_mutual_batch(args)
        if args.hub_strategy == "all_checkpoints":
            raise ValueError("hub_strategy=all_checkpoints: only the last checkpoint is kept there, say checkpoint.")
        if args.push_to_hub and args.hub_strategy == "checkpoint" and args.save_strategy == "no":
            raise ValueError("hub_strategy=checkpoint needs checkpoints: pass --save_strategy steps or epoch.")
        if args.trust_remote_code:
            raise ValueError("trust_remote_code=true: code of a repository is never run here. Leave it out.")
        if self.point() is not None and (self.findings_line in (None, "none") or not self.confidence_scans):
            raise ValueError(
                f"operating_point={self.operating_point} sets findings lines by their calibrated probabilities: pass "
                "--findings_line names or yes_no, and --confidence_scans."
            )
        if "report" in self.task_weights():
            return
        if self.confidence_scans:
            raise ValueError("Confidences are read from reports, which this run does not learn: --confidence_scans 0.")
        if args.push_to_hub:
            raise ValueError("A model that learns no reports has no card to be published with: leave push_to_hub out.")

    def check_model(self, model_args) -> None:
        """Raises a `ValueError` for options of the model that exclude each other."""
        quantized = [name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)]
        if quantized and not model_args.use_peft:
            raise ValueError(f"{quantized[0]}=true: such weights cannot learn. Train adapters: --use_peft true.")
        if quantized and model_args.model_name_or_path == "tiny":
            raise ValueError(f"{quantized[0]}=true is for the weights of a released model, and tiny has none.")
        if self.muon and model_args.use_peft:
            raise ValueError(
                "--muon true is for a model that is trained from scratch, not for adapters: leave it out."
            )

    def idle(self, args, model_args) -> dict[str, str]:
        """The options of this recipe and of the model that have no effect beside the others, and why."""
        idle = self.idle_negatives() | self.idle_tasks(self.task_weights())
        if self.muon:
            idle |= dict.fromkeys(OF_OPTIM, "muon is true")
        if self.mixture is not None:
            idle["task"] = "mixture names the tasks"
            if not self.streaming:
                idle["streaming"] = "a mixture is always streamed"
        if args.eval_strategy == "no":
            idle |= dict.fromkeys(("validation_scans", "eval_on_start"), "eval_strategy is no")
        if not args.push_to_hub and args.resume_from_checkpoint != "last-checkpoint":
            of_hub = ("hub_model_id", "hub_strategy", "hub_revision", "hub_private_repo")
            idle |= dict.fromkeys(of_hub, "push_to_hub is false")
        names = vars(model_args)
        if not model_args.use_peft:
            idle |= dict.fromkeys(
                (n for n in names if n.startswith(("lora_", "use_rs", "use_do"))), "use_peft is false"
            )
        if not model_args.load_in_4bit:
            idle |= dict.fromkeys((name for name in names if "bnb" in name), "load_in_4bit is false")
        if model_args.model_name_or_path == "tiny":
            of_released = ("model_revision", "dtype", "attn_implementation")
            idle |= dict.fromkeys(of_released, "the tiny model is made anew, in float32")
        elif Path(model_args.model_name_or_path or "").is_dir():
            idle["model_revision"] = "a folder has no revisions"
        return idle


def load_model(model_args, texts: list[str], seed: int) -> tuple:
    """The model and processor of `--model_name_or_path`; `"tiny"` is untrained, with a vocabulary from `texts`."""
    from transformers import AutoModelForImageTextToText
    from trl import get_quantization_config

    from ct_rate_pairs.eval.load_model import check_configs, load_processor, naming
    from ct_rate_pairs.trainer.row_settings import KEY, find_row_settings
    from ct_rate_pairs.trainer.tiny import make_tiny_qwen

    if model_args.model_name_or_path == "tiny":
        return make_tiny_qwen(texts, seed=seed)
    commit = model_args.model_revision
    check_configs(model_args.model_name_or_path, commit)
    before = find_row_settings(model_args.model_name_or_path, commit)
    with naming(model_args.model_name_or_path):
        model = AutoModelForImageTextToText.from_pretrained(
            model_args.model_name_or_path,
            revision=commit,
            dtype=model_args.dtype or "auto",
            attn_implementation=model_args.attn_implementation,
            quantization_config=get_quantization_config(model_args),
            trust_remote_code=False,
        )
    if model_args.load_in_4bit and not getattr(model, "is_loaded_in_4bit", False):
        raise ValueError(
            "load_in_4bit=true: the weights were not loaded in 4 bits. Give a model that is not quantized."
        )
    # Models of earlier releases have no copy of their row settings, with which the trainer compares the new rows.
    if before:
        setattr(model.config, KEY, before.content())
    return model, load_processor(model_args.model_name_or_path, commit)


def commit_of_start(model_args) -> str | None:
    """
    The commit on the Hub that the training begins with; `None` for a folder, and for `"tiny"`. It is asked for once,
    because the branch may move, and before the training, because the Hub may not answer after it.
    """
    from ct_rate_pairs.eval.load_model import commit_of

    if model_args.model_name_or_path == "tiny":
        return None
    return commit_of(model_args.model_name_or_path, model_args.model_revision)


def load_tasks(recipe_args: RecipeArguments, args, options: dict) -> dict:
    """The splits of each task, reports first. The statistics of the first task's partners are printed."""
    from ct_rate_pairs.partners import mutual_statistics
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.trainer.splits import load_splits

    tasks, indexes = list(recipe_args.task_weights()), {}
    for task in tasks:
        needs = {"validates": args.eval_strategy != "no" and task == tasks[0]}
        needs["confidence_scans"] = recipe_args.confidence_scans if task == "report" else 0
        indexes[task] = load_splits(options | {"task": task}, **needs)
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
    from trl import get_peft_config

    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.trainer import (
        MuonAdamW,
        NegativeSFTTrainer,
        PairCollator,
        WriteReportSamples,
    )
    from ct_rate_pairs.trainer.row_settings import settings_of
    from ct_rate_pairs.trainer.task_mixture import stream_rows

    weights, index = recipe_args.task_weights(), next(iter(indexes.values()))
    streams = recipe_args.streaming or recipe_args.mixture is not None
    validates = args.eval_strategy != "no"
    validation = first_rows(index["validation"], recipe_args.validation_scans) if validates else None
    peft_config = get_peft_config(model_args)
    if peft_config is not None:
        peft_config.revision = model_args.model_revision  # whoever loads the adapter needs the same base model
    muon = (lambda: MuonAdamW, {"lr": args.learning_rate, "weight_decay": args.weight_decay})
    trainer = NegativeSFTTrainer(
        model=model,
        args=args,
        train_dataset=stream_rows(args, weights, indexes, options) if streams else index["train"],
        eval_dataset=validation,
        data_collator=PairCollator(processor, chat_template_kwargs=recipe_args.template_kwargs()),
        row_settings=settings_of([reader_of(of_task["train"]) for of_task in indexes.values()]),
        processing_class=processor,
        peft_config=peft_config,
        optimizer_cls_and_kwargs=muon if recipe_args.muon else None,
    )
    if validation is not None and "report" in indexes:
        scored = {"score": validation_coverage, "num_scored": len(validation)}
        samples = WriteReportSamples(trainer, validation, max_new_tokens=recipe_args.max_new_tokens, **scored)
        trainer.add_callback(samples)
    return trainer


def keep_records(trainer, parser: RecipeParser, model_args, indexes: dict) -> None:
    """Keeps the options of the run, what it runs with, and hashes of its reference reports for the guard."""
    from ct_rate_pairs.hub.references import keep_references
    from ct_rate_pairs.trainer.run_record import WriteRunRecord, options_in_effect

    rows = [of_task["train"] for of_task in indexes.values()]
    options, base = options_in_effect(parser.values, rows), None
    if model_args.model_revision:  # by now a commit
        options["model_revision"] = model_args.model_revision
        base = f"{model_args.model_name_or_path}@{model_args.model_revision}"
    trainer.add_callback(WriteRunRecord("ct-rate-pairs train", options, parser.given, base))
    if "report" in indexes and trainer.is_world_process_zero():
        keep_references(trainer.args.output_dir, rows[0])


def validation_coverage(reports: list[str], labels: list[list[int]]) -> dict[str, float]:
    """
    The metric of `metric_for_best_model: eval_coverage`, 0 if no scan has a finding; and how many reports are
    unreadable.
    """
    from ct_rate_pairs.eval import coverage
    from ct_rate_pairs.eval.scoring.labelers import label_predictions

    stated, unread = label_predictions(reports)
    return {"coverage": coverage(stated, labels, ct_rate_pairs.LABELS)["coverage"] or 0.0, **unread}


def resume_from(args, hub: dict) -> str | bool | None:
    """The checkpoint of `--resume_from_checkpoint`; as in Trainer, `last-checkpoint` is the checkpoint on the Hub."""
    from accelerate.utils import broadcast_object_list

    from ct_rate_pairs.hub.checkpoints import LAST_CHECKPOINT, fetch_checkpoint

    if args.resume_from_checkpoint == LAST_CHECKPOINT:
        place = {name: hub[name] for name in ("repo_id", "revision", "token")}
        fetched = [fetch_checkpoint(output_dir=args.output_dir, **place) if args.process_index == 0 else None]
        return broadcast_object_list(fetched)[0]
    # On the command line "true" is a string, which Trainer would take for a path.
    wanted = args.resume_from_checkpoint == "true" or args.resume_from_checkpoint
    if isinstance(wanted, str) and not Path(wanted).is_dir():
        raise FileNotFoundError(f"--resume_from_checkpoint: {no_such('folder', wanted)}")
    return wanted


def save_run(trainer, processor) -> Path:
    """Saves model, row settings and processor, and removes the predictions and confidences of an earlier run."""
    out = Path(trainer.args.output_dir)
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(out)
        for earlier in ("predictions.jsonl", "confidence.json"):
            (out / earlier).unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    return out


def fit_confidences(recipe_args: RecipeArguments, model, collator, told: dict, sizes: dict) -> None:
    """Fits the confidences on the split `validation`, and writes them to the folder of the run."""
    from datasets import load_dataset

    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.hub.reporting.confidence import fit_confidence

    held_out = told["options"] | {"task": "report", "negative": "none"}
    validation = load_dataset("ct_rate_pairs", split="validation", **held_out)
    fit_confidence(model, collator, first_rows(validation, recipe_args.confidence_scans), **sizes).save(told["out"])


def write_reports(recipe_args: RecipeArguments, trainer, model, told: dict, sizes: dict) -> dict[str, str]:
    """
    Writes reports of the first scans of the split `test`, in all processes. `told` has results of the training. An
    operating point needs the confidences before, which the main process fits.
    """
    from ct_rate_pairs.eval.load_model import version_of
    from ct_rate_pairs.eval.predictions.provenance import describe_provenance
    from ct_rate_pairs.eval.predictions.store import write_predictions
    from ct_rate_pairs.hub.reporting.confidence import calibration_of_lines

    out, test = told["out"], told["index"]["test"]
    made_with = {"split": "test", "dtype": str(model.dtype), "max_new_tokens": sizes["max_new_tokens"]}
    provenance = describe_provenance(version_of(str(out), base_commit=told["base_commit"]), test, **made_with)
    if recipe_args.point() is not None:
        if trainer.is_world_process_zero():
            fit_confidences(recipe_args, model, trainer.data_collator, told, sizes)
        trainer.accelerator.wait_for_everyone()
    calibration, point = calibration_of_lines(str(out))[0], None
    if recipe_args.point() is not None and calibration is None:  # told, and no error: the training took hours
        print(
            "The model writes no sound findings lines, so --operating_point has no effect: the model decides on the "
            "findings.",
            file=sys.stderr,
        )
    elif recipe_args.point() is not None:
        point = calibration.at(recipe_args.point())
    told["operating_point"] = point and point.name
    provenance |= point.describe() if point else {}
    made_with = {"provenance": provenance, "operating_point": point, **sizes}
    return write_predictions(model, trainer.data_collator, told["scans"], out / "predictions.jsonl", **made_with)


def finish_reports(recipe_args: RecipeArguments, args, model_args, trainer, model, told: dict, sizes: dict) -> None:
    """Fits the confidences, measures the reports, and writes the card; `told` holds results of the training."""
    import torch

    from ct_rate_pairs.eval.looking.label_head import label_head_scores
    from ct_rate_pairs.eval.predictions.store import read_cut, read_line_logits, read_lines
    from ct_rate_pairs.eval.rows import references_of, select_volumes
    from ct_rate_pairs.eval.tasks.report import evaluate_model
    from ct_rate_pairs.hub import write_model_card
    from ct_rate_pairs.hub.reporting.confidence import calibration_of_lines
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.trainer.label_head import load_label_head

    out, index, scans = told["out"], told["index"], told["scans"]
    collator = trainer.data_collator
    if (
        recipe_args.confidence_scans and recipe_args.point() is None
    ):  # under an operating point, they had to be there before
        fit_confidences(recipe_args, model, collator, told, sizes)
    calibration, _ = calibration_of_lines(str(out))
    _, reports, labels = references_of(index["train"])
    path = out / "predictions.jsonl"
    known = {"train_reports": reports, "train_labels": labels, "cut": read_cut(path), "lines": read_lines(path)}
    known |= {"line_logits": read_line_logits(path), "line_calibration": calibration}
    known["operating_point"] = told["operating_point"]
    if args.label_loss_weight > 0:
        readable = select_volumes(scans, told["predictions"])
        known["head_scores"] = label_head_scores(
            model, load_label_head(out), collator, readable, labels, batch_size=sizes["batch_size"]
        )
    results = evaluate_model(model, collator, told["predictions"], scans, out, ci=0.95, **known, **sizes)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    drawn = ("negative", "slices", "min_label_distance", "max_label_distance", "partner_sampling")
    write_model_card(
        out,
        results,
        args,
        phantom=reader_of(index["train"]).source.is_phantom,
        num_train=len(index["train"]),
        num_test=results["model"]["n"],
        steps=trainer.state.global_step,
        hardware=f"{args.world_size} x {gpu}" if gpu else f"{os.cpu_count()} CPU cores",
        minutes=told["minutes"],
        takes_video=collator.takes_video,
        base_model=None if model_args.model_name_or_path == "tiny" else model_args.model_name_or_path,
        **{name: getattr(recipe_args, name) for name in drawn},
    )


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
    from transformers import AutoModelForImageTextToText
    from transformers.trainer_utils import HubStrategy

    from ct_rate_pairs.eval.figures.training import plot_losses
    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.eval.tasks import TaskSettings, evaluate_tasks
    from ct_rate_pairs.hub.checkpoints import PushCheckpoints, take_over_push
    from ct_rate_pairs.hub.publish import publish_or_tell_how
    from ct_rate_pairs.hub.repository import HubRepository
    from ct_rate_pairs.trainer.hub_files import check_name
    from ct_rate_pairs.trainer.splits import texts_to_learn

    if model_args.model_name_or_path != "tiny":
        check_name(model_args.model_name_or_path)
    logging.basicConfig(level=logging.WARNING)
    pushing, hub = args.push_to_hub, take_over_push(args)
    if pushing and args.process_index == 0:
        HubRepository(**hub)  # a token without the right to write fails now, not after the training
    options = recipe_args.dataset_options() | {"seed": args.seed}
    indexes = load_tasks(recipe_args, args, options)
    index = next(iter(indexes.values()))
    model_args.model_revision = commit_of_start(model_args)
    model, processor = load_model(model_args, texts_to_learn(indexes.values()), args.seed)
    trainer = make_trainer(recipe_args, args, model_args, model, processor, indexes, options)
    if pushing and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        trainer.add_callback(PushCheckpoints(**hub))
    keep_records(trainer, parser, model_args, indexes)
    told = {"index": index, "options": options, "base_commit": model_args.model_revision}
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=resume_from(args, hub))
    told |= {"minutes": (time.monotonic() - start) / 60, "out": (out := save_run(trainer, processor))}

    model, collator = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.data_collator
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # each process holds only a share of the weights
        model = AutoModelForImageTextToText.from_pretrained(out, dtype="auto", trust_remote_code=False).to(args.device)
    sizes = {"batch_size": args.per_device_eval_batch_size, "max_new_tokens": recipe_args.max_new_tokens}
    if "report" in indexes:
        told["scans"] = first_rows(index["test"], recipe_args.max_eval_samples)
        told["predictions"] = write_reports(recipe_args, trainer, model, told, sizes)
    trainer.accelerator.end_training()  # a process group that is still open at exit may abort
    if trainer.is_world_process_zero():
        (out / "figures").mkdir(exist_ok=True)
        plot_losses(trainer.state.log_history, out / "figures" / "losses.png", args)
        settings = TaskSettings(max_samples=recipe_args.max_eval_samples, **sizes)
        evaluate_tasks(model, collator, indexes, options, out, settings)
        if "report" in indexes:
            finish_reports(recipe_args, args, model_args, trainer, model, told, sizes)
        if pushing:
            print("Published:", publish_or_tell_how(out, **hub))


if __name__ == "__main__":
    run(main)
