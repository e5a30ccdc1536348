"""
Reinforce a model that was trained here, by rewards on the reports that it writes (GRPO of TRL).

On the phantom, after `make demo` has trained `runs/phantom`:

    ct-rate-pairs grpo --config phantom_grpo

On CT-RATE, with adapters on the language model, from a checkout:

    accelerate launch recipes/grpo.py --model_name_or_path runs/heter --output_dir runs/heter_grpo \\
        --reward_funcs label_f1 place length --reward_weights 1 0.5 0.5 --num_generations 8 \\
        --use_peft true --lora_target_modules '.*language_model.*_proj'

The rows are those of the model's own training, without negatives. The run ends as `ct-rate-pairs train` does: reports
of the split `test` are written and measured, confidences are fitted, and the card is written.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ct_rate_pairs.command_line import run
from ct_rate_pairs.eval.rewards import REWARDS
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.recipes.arguments import ScanArguments, TrainingRunArguments
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.recipes.training_arguments import (
    MADE_ANEW,
    check_hub,
    check_quantized,
    idle_hub_options,
    idle_model_options,
)


@dataclass
class ReinforcementArguments(TrainingRunArguments, ScanArguments):
    """The options of this recipe besides TRL's: scans, rewards and evaluation."""

    reward_funcs: list[str] = field(
        default_factory=lambda: ["label_f1"],
        metadata={
            "choices": tuple(REWARDS),
            "help": "Rewards of a report, weighed by `reward_weights`: F1 of its labels, its share of CRG, the sides "
            "of its findings, the agreement with its findings line, its length.",
        },
    )

    def check(self, args, model_args) -> None:
        """Raises a `ValueError` for options that this recipe cannot follow."""
        from ct_rate_pairs.trainer.grpo_trainer import check_options

        check_options(args)
        check_quantized(model_args)
        check_hub(args)
        if model_args.model_name_or_path in (None, *MADE_ANEW):
            raise ValueError(
                "GRPO goes on from a model that writes reports. Train one by `ct-rate-pairs train`, and give its "
                "folder: --model_name_or_path runs/phantom"
            )
        if args.reward_weights is not None and len(args.reward_weights) != len(self.reward_funcs):
            raise ValueError(
                f"--reward_weights has {len(args.reward_weights)} numbers for {len(self.reward_funcs)} --reward_funcs "
                f"({' '.join(self.reward_funcs)}): give one number for each."
            )
        if self.point() is not None and not self.confidence_scans:
            raise ValueError(
                f"operating_point={self.operating_point} sets findings lines by their calibrated probabilities: pass "
                "--confidence_scans. Or pass --operating_point none."
            )

    def card_options(self) -> dict:
        """The rewards, for the model card."""
        return {"reward_funcs": self.reward_funcs}

    def idle(self, args, model_args) -> dict[str, str]:
        """The options that have no effect beside the others, and why."""
        from ct_rate_pairs.trainer.idle_options import idle_training_options

        idle = idle_training_options(args) | idle_model_options(model_args) | idle_hub_options(args)
        of_vllm = (name for name in vars(args) if name.startswith("vllm_"))
        idle |= dict.fromkeys(of_vllm, "reports are drawn by the model itself, without vLLM")
        if args.eval_strategy == "no":
            of_evaluation = ("validation_scans", "num_generations_eval", "eval_on_start")
            idle |= dict.fromkeys(of_evaluation, "eval_strategy is no")
        if args.beta == 0:
            of_reference = ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps")
            idle |= dict.fromkeys(
                (*of_reference, "use_bias_correction_kl"), "beta is 0, so there is no reference model"
            )
        return idle


def options_of_start(recipe_args: ReinforcementArguments, model_args) -> dict:
    """
    The options of `load_dataset` for the rows: those of the model's training, and the given ones.

    Raises:
        `ValueError`: if the model was not trained here, or was not trained to write reports; or if a reward or an
            operating point needs a findings line and the model has none.
    """
    from ct_rate_pairs.trainer.row_settings import find_row_settings

    name, revision = model_args.model_name_or_path, model_args.model_revision
    found = find_row_settings(name, revision)
    if found is None:
        raise ValueError(
            f"{name} was not trained by ct-rate-pairs: it has no row_settings.json, so nobody knows how it is to be "
            f"shown a scan. Fine-tune it first: ct-rate-pairs train --model_name_or_path {name}"
        )
    if found.tasks and "report" not in found.tasks:
        tasks = " and ".join(found.tasks)
        raise ValueError(f"{name} was trained on {tasks}, and writes no reports: give a model that does.")
    options = found.options | recipe_args.dataset_options()
    has_line = options.get("findings_line", "none") != "none"
    if recipe_args.point() is not None and not has_line:
        raise ValueError(
            f"operating_point={recipe_args.operating_point} sets findings lines, and {name} writes no such line. Pass "
            "--operating_point none, or start from a model that was trained with --findings_line names."
        )
    if "agreement" in recipe_args.reward_funcs and not has_line:
        raise ValueError(
            f"--reward_funcs agreement compares a report with its findings line, and {name} writes no such line. "
            "Leave it out, or start from a model that was trained with --findings_line names."
        )
    return options | {"task": "report", "negative": "none"}


def make_parser() -> RecipeParser:
    """The parser of the options of the recipe, of the training and of the model."""
    from trl import GRPOConfig, ModelConfig

    return RecipeParser([ReinforcementArguments, GRPOConfig, ModelConfig], "ct-rate-pairs grpo", __doc__, {})


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs grpo`."""
    import torch

    parser = make_parser()
    if not torch.accelerator.is_available():
        argv = [*argv, "--use_cpu", "true"]  # otherwise bf16 is refused before errors of the data are reported
    recipe_args, args, model_args = parser.parse(argv)
    recipe_args.check(args, model_args)
    idle = recipe_args.idle(args, model_args)
    parser.refuse_idle(idle)
    parser.tell_idle(idle)
    parser.keep_run(args.output_dir, args.resume_from_checkpoint)
    with folder_lock(args.output_dir, parser.prog, distributed=True):
        train(recipe_args, args, model_args, parser)


def train(recipe_args: ReinforcementArguments, args, model_args, parser: RecipeParser) -> None:
    """Trains, writes and measures reports, and writes the card."""
    from ct_rate_pairs.eval.figures.training import plot_rewards
    from ct_rate_pairs.eval.rewards import rewards_of
    from ct_rate_pairs.eval.rows import first_rows, references_of
    from ct_rate_pairs.recipes.starting_model import commits_of_start, load_model, new_adapter
    from ct_rate_pairs.recipes.training_run import HubOfRun, keep_records, measure_run, train_and_save
    from ct_rate_pairs.trainer import PairCollator
    from ct_rate_pairs.trainer.grpo_trainer import ReportGRPOTrainer
    from ct_rate_pairs.trainer.hub_files import check_name
    from ct_rate_pairs.trainer.splits import load_splits

    logging.basicConfig(level=logging.WARNING)
    name = model_args.model_name_or_path
    check_name(name)
    hub = HubOfRun(args)
    commits = commits_of_start(recipe_args, model_args)
    model_args.model_revision = commits[name]  # asked for once: a branch may move
    options = options_of_start(recipe_args, model_args) | {"seed": args.seed}
    validates = args.eval_strategy != "no"
    indexes = {
        "report": load_splits(options, validates=validates, confidence_scans=recipe_args.confidence_scans),
    }
    rows, validation = indexes["report"]["train"], indexes["report"].get("validation")
    model, processor = load_model(recipe_args, model_args, indexes, args.seed, commits)
    if model_args.model_revision:
        args.model_init_kwargs = {"revision": model_args.model_revision}  # of the reference model
    trainer = ReportGRPOTrainer(
        model,
        rewards_of(recipe_args.reward_funcs, references_of(rows)[2]),
        args,
        train_dataset=rows,
        eval_dataset=first_rows(validation, recipe_args.validation_scans) if validates else None,
        data_collator=PairCollator(processor, None, args.chat_template_kwargs),
        peft_config=new_adapter(model_args, model),
    )
    keep_records(trainer, parser, indexes, commits)
    minutes = train_and_save(trainer, processor, hub)
    if trainer.is_world_process_zero():
        keep_heads(trainer, name, model_args.model_revision)
        plot_rewards(trainer.state.log_history, Path(args.output_dir, "figures", "rewards.png"))
    measure_run(recipe_args, model_args, trainer, indexes, options, minutes)
    hub.publish(trainer)


def keep_heads(trainer, name: str, revision: str | None) -> None:
    """
    Copies the mask head of the start, with its scores and thresholds, to the run: they hold as long as the vision
    tower that the head reads has not learnt. If it has, it is told that the head is left out. So is a label head: the
    language model that it reads has learnt.
    """
    from ct_rate_pairs.hub.reporting.masks import SCORES
    from ct_rate_pairs.trainer.hub_files import find_file
    from ct_rate_pairs.trainer.label_head import LabelHead
    from ct_rate_pairs.trainer.mask_head import FILE
    from ct_rate_pairs.trainer.what_learns import PROJECTOR, VISION, what_learns

    if find_file(name, LabelHead.file, revision):
        print(f"The label head of {name} is not kept: the language model that it reads has learnt.")
    if not find_file(name, FILE, revision):
        return
    if any(part.trainable for part in what_learns(trainer.model) if part.name in (VISION, PROJECTOR)):
        print(
            f"The mask head of {name} is not kept: the vision tower that it reads has learnt. To keep it, train "
            "adapters on the language model alone (--use_peft true --lora_target_modules '.*language_model.*_proj')."
        )
        return
    for file in (FILE, SCORES):
        if found := find_file(name, file, revision):
            shutil.copy(found, Path(trainer.args.output_dir, file))


if __name__ == "__main__":
    run(main)
