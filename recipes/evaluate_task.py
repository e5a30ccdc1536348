"""
Measure how well a model answers questions, chooses a volume's text among false texts, or finds a wrong statement.

    ct-rate-pairs evaluate-task --model_name_or_path runs/vqa --task vqa --data_dir runs/phantom_cohort
    ct-rate-pairs evaluate-task --model_name_or_path runs/matching --task matching --difficulty hard --data_dir DIR
    ct-rate-pairs evaluate-task --model_name_or_path runs/heter --task matching --answers texts --data_dir DIR
    ct-rate-pairs evaluate-task --model_name_or_path runs/heter --task errors --answers texts --data_dir DIR

`results.json` and a table hold the numbers of the model, of the same model with blank volumes, and of baselines that
read only the text. Any image-text-to-text model of transformers can be measured. With `--answers texts`, a model that
writes reports chooses by the likelihood of the texts, finds a wrong statement by the loss of its words given the scan,
less the loss given noise, and answers whether a finding is there by what its own report states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.recipes.arguments import (
    ModelArguments,
    SplitArguments,
    TaskArguments,
    longest_text,
    scans_to_measure,
)
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.tasks import TASKS


@dataclass
class TaskEvaluationArguments(SplitArguments, ModelArguments, TaskArguments):
    """A model, a task, and the scans."""

    task: str = field(
        kw_only=True,
        metadata={"help": "Task to measure.", "choices": [task for task in TASKS if task != "report"]},
    )
    max_eval_samples: int = scans_to_measure(0)
    max_new_tokens: int = longest_text(96)
    answers: Literal["letters", "texts"] = field(
        default="letters",
        metadata={
            "help": "letters: choose by the likelihood of letters or numbers (own_questions: answer the questions). "
            "texts: for a model that writes reports, by the likelihood of the texts (own_questions: answer from the "
            "model's report, for questions about the 18 labels)."
        },
    )

    def idle(self) -> dict[str, str]:
        """The options without effect beside the others, and why."""
        idle = self.idle_tasks([self.task]) | self.idle_revision()
        if self.task == "vqa":
            idle["answers"] = "answers of vqa are always generated"
        return idle


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs evaluate-task`."""
    parser = RecipeParser([TaskEvaluationArguments], "ct-rate-pairs evaluate-task", __doc__)
    (args,) = parser.parse(argv)
    parser.refuse_idle(args.idle())
    parser.tell_idle(args.idle())
    if not args.model_name_or_path:
        raise ValueError("Give --model_name_or_path: a folder, or a name on the Hub.")

    from datasets import load_dataset

    from ct_rate_pairs.eval.load_model import base_commit_of
    from ct_rate_pairs.readers import reader_of, split_of
    from ct_rate_pairs.trainer.hub_files import commit_of, is_model_folder
    from ct_rate_pairs.trainer.row_settings import options_to_show

    name = args.model_name_or_path
    revision = commit_of(name, args.model_revision)  # because the branch may change during the evaluation
    base_commit = base_commit_of(name, revision)
    task = "report" if args.answers == "texts" else args.task  # what the model must have learnt
    options = options_to_show(name, revision, args.dataset_options(), task) | {"negative": "none", "seed": args.seed}
    if args.task == "errors" and args.answers == "texts":
        options["task"] = "report"  # the statements of these reports are made wrong later
    dataset = load_dataset("ct_rate_pairs", **options)
    split_of(dataset, "train")
    config, folder = reader_of(split_of(dataset, args.split)).config, args.task
    if args.task == "matching":  # results of other options go to other folders
        folder = f"matching-{config.options}-{config.difficulty}-{args.answers}"
    elif args.answers == "texts":
        folder = f"{args.task}-texts"
    out = args.evaluation_folder(is_model_folder(name), folder)
    with folder_lock(out, parser.prog):
        measure(args, {"revision": revision, "base_commit": base_commit}, dataset, out)


def measure(args: TaskEvaluationArguments, commits: dict, dataset, out: Path) -> None:
    """Measures the model on the rows of a split."""
    import torch

    from ct_rate_pairs.eval.load_model import load_model, version_of
    from ct_rate_pairs.eval.tasks import EVALUATIONS, TaskSettings

    name = args.model_name_or_path
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    shown = {"chat_template_kwargs": args.template_kwargs()}
    model, collator = load_model(name, dtype=args.dtype, device=device, **commits, **shown)
    version = version_of(name, **commits)
    made_with = {"model": version, "split": args.split, "seed": args.seed}
    if collator.chat_template_kwargs:
        made_with["chat_template_kwargs"] = collator.chat_template_kwargs
    settings = TaskSettings(
        max_samples=args.max_eval_samples,
        batch_size=args.per_device_eval_batch_size,
        max_new_tokens=args.max_new_tokens,
        answers=args.answers,
        ci=args.ci,
        made_with=made_with,
    )
    EVALUATIONS[args.task](model, collator, dataset[args.split], dataset["train"], out, settings)


if __name__ == "__main__":
    run(main)
