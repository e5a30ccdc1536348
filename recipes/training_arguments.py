"""
The options of `recipes/sft_neg.py` besides those of TRL. This file does not import torch, so that `--help` and a
mistyped option answer at once.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from ct_rate_pairs.recipes.arguments import (
    ChatArguments,
    DataArguments,
    TaskArguments,
    TrainingRunArguments,
    TrainingTextArguments,
)
from ct_rate_pairs.tasks import TASKS
from ct_rate_pairs.volumes.settings import one_of


ENCODER_DECODER = "encoder-decoder"
MADE_ANEW = ("tiny", ENCODER_DECODER)  # values of `model_name_or_path` that name no folder and no repository
# Options of Trainer's own optimizers, which Muon does not take.
OF_OPTIM = ("optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon")


@dataclass
class RecipeArguments(TrainingRunArguments, ChatArguments, TrainingTextArguments, TaskArguments, DataArguments):
    """The options of this recipe besides TRL's: scans, negatives, evaluation, and Muon for a model from scratch."""

    vision_model: str = field(
        default="swin",
        metadata={
            "help": "Image encoder of --model_name_or_path encoder-decoder: swin or vit of single slices, swin_unetr "
            "or resnet3d of all slices of a volume (small and untrained), or a folder or name on the Hub."
        },
    )
    text_model: str = field(
        default="biogpt",
        metadata={
            "help": "Language model of --model_name_or_path encoder-decoder: biogpt or gpt2 (small and untrained), "
            "or a folder or name on the Hub, such as openai-community/gpt2."
        },
    )
    mixture: dict | str | None = field(
        default=None,
        metadata={"help": "Tasks and their weights instead of `task`: {report: 0.5, vqa: 0.5}, or JSON."},
    )
    masks: str | None = field(
        default=None,
        metadata={"help": "Masks of findings for `mask_loss_weight`: a table, ReXGroundingCT or TotalSegmentator."},
    )
    mask_names: list[str] | None = field(
        default=None, metadata={"help": "The findings or structures whose masks are learnt; by default all."}
    )
    streaming: bool = field(
        default=False, metadata={"help": "Stream the training rows; max_steps is then computed from the epochs."}
    )
    muon: bool = field(default=False, metadata={"help": "Use Muon for the hidden matrices, for a model from scratch."})

    def dataset_options(self) -> dict:
        """The arguments that were given, for `load_dataset("ct_rate_pairs", ...)`."""
        options = self.given(DataArguments) | self.given(TaskArguments) | self.given(TrainingTextArguments)
        return options | {"slices": "uniform"} if self.slices == "key" else options

    def card_options(self) -> dict:
        """How negatives were drawn, for the model card."""
        drawn = ("negative", "min_label_distance", "max_label_distance", "partner_sampling")
        return {name: getattr(self, name) for name in drawn}

    def mask_options(self) -> dict:
        """The arguments for the masks of the training rows. Rows that are measured need none."""
        given = {"masks": self.masks, "mask_names": self.mask_names}
        given |= {"slices": "key"} if self.slices == "key" else {}
        return {name: value for name, value in given.items() if value is not None}

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
        if self.masks is None and args.mask_loss_weight:
            raise ValueError("--mask_loss_weight has no effect without --masks: give both, or none.")
        if self.masks and not args.mask_loss_weight and self.slices != "key":
            raise ValueError("--masks has no effect without --mask_loss_weight or --slices key: give one of the two.")
        check_hub(args)
        if self.point() is not None and (self.findings_line in (None, "none") or not self.confidence_scans):
            raise ValueError(
                f"operating_point={self.operating_point} sets findings lines by their calibrated probabilities: pass "
                "--findings_line names, yes_no or sides, and --confidence_scans. Or pass --operating_point none."
            )
        if "report" in self.task_weights():
            return
        if self.confidence_scans:
            raise ValueError("Confidences are read from reports, which this run does not learn: --confidence_scans 0.")
        if args.push_to_hub:
            raise ValueError("A model that learns no reports has no card to be published with: leave push_to_hub out.")

    def check_model(self, model_args) -> None:
        """Raises a `ValueError` for options of the model that exclude each other."""
        check_quantized(model_args)
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
        idle |= idle_hub_options(args)
        if model_args.model_name_or_path != ENCODER_DECODER:
            idle |= dict.fromkeys(("vision_model", "text_model"), f"the model is no {ENCODER_DECODER}")
        return idle | idle_model_options(model_args)


def check_hub(args) -> None:
    """Raises a `ValueError` for options of the Hub that a training cannot follow."""
    if args.hub_strategy == "all_checkpoints":
        raise ValueError("hub_strategy=all_checkpoints: only the last checkpoint is kept there, say checkpoint.")
    if args.push_to_hub and args.hub_strategy == "checkpoint" and args.save_strategy == "no":
        raise ValueError("hub_strategy=checkpoint needs checkpoints: pass --save_strategy steps or epoch.")
    if args.trust_remote_code:
        raise ValueError("trust_remote_code=true: code of a repository is never run here. Leave it out.")


def idle_hub_options(args) -> dict[str, str]:
    """The options of the Hub that have no effect if nothing is published, and why."""
    if args.push_to_hub or args.resume_from_checkpoint == "last-checkpoint":
        return {}
    of_hub = ("hub_model_id", "hub_strategy", "hub_revision", "hub_private_repo")
    return dict.fromkeys(of_hub, "push_to_hub is false")


def check_quantized(model_args) -> None:
    """Raises a `ValueError` for quantized weights that cannot learn, or that are not there."""
    quantized = [name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)]
    if quantized and not model_args.use_peft:
        raise ValueError(f"{quantized[0]}=true: such weights cannot learn. Train adapters: --use_peft true.")
    if quantized and model_args.model_name_or_path in MADE_ANEW:
        raise ValueError(
            f"{quantized[0]}=true is for the weights of a released model, and {model_args.model_name_or_path} makes a "
            "model anew."
        )


def idle_model_options(model_args) -> dict[str, str]:
    """The options of the model that have no effect beside the others, and why."""
    names, idle = vars(model_args), {}
    of_adapter = [name for name in names if name.startswith(("lora_", "use_rs", "use_do"))]
    if not model_args.use_peft:
        idle |= dict.fromkeys(of_adapter, "use_peft is false")
    elif Path(model_args.model_name_or_path or "", "adapter_config.json").is_file():
        idle |= dict.fromkeys(of_adapter, f"{model_args.model_name_or_path} is an adapter, which goes on as it is")
    if not model_args.load_in_4bit:
        idle |= dict.fromkeys((name for name in names if "bnb" in name), "load_in_4bit is false")
    if model_args.model_name_or_path in MADE_ANEW:
        of_released = ("model_revision", "dtype", "attn_implementation")
        idle |= dict.fromkeys(of_released, f"{model_args.model_name_or_path} makes a model anew, in float32")
    elif Path(model_args.model_name_or_path or "").is_dir():
        idle["model_revision"] = "a folder has no revisions"
    return idle
