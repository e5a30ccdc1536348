"""
Measure how well a model answers questions, chooses a volume's text among false ones, or finds a wrong statement.

    python recipes/evaluate_task.py --model runs/vqa --task vqa --data_dir runs/phantom_cohort
    python recipes/evaluate_task.py --model runs/matching --task matching --difficulty hard --data_dir /path/to/CT-RATE
    python recipes/evaluate_task.py --model runs/heter --task matching --answers texts --data_dir /path/to/CT-RATE

`results.json` and a table hold the model's numbers beside those of the same model shown blank volumes, and of
baselines that read the text alone. Any model that transformers loads can be asked, whatever it was trained on.
`docs/tasks.md` says what is measured.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from datasets import load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.eval.load_model import is_model_folder, load_model
from ct_rate_pairs.eval.metrics.bootstrap import check_level
from ct_rate_pairs.eval.tasks import evaluate_task
from ct_rate_pairs.recipes.arguments import TaskArguments
from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer import read_row_settings


@dataclass
class TaskEvaluationArguments(TaskArguments):
    """A model, a task, and the scans."""

    model: str = field(kw_only=True, metadata={"help": "Model or adapter: folder, or name on the Hub."})
    task: Literal["vqa", "matching", "errors"] = field(kw_only=True, metadata={"help": "vqa, matching or errors."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."})
    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "test is CT-RATE's validation set."}
    )
    scans: int = field(
        default=0,
        metadata={"help": "First scans of the split to ask about (of matching, whole groups of questions); 0: all."},
    )
    batch_size: int = field(default=8, metadata={"help": "Questions at a time."})
    max_new_tokens: int = field(default=96, metadata={"help": "Longest answer, in tokens."})
    answers: Literal["letters", "texts"] = field(
        default="letters",
        metadata={"help": "matching: by the likelihood of the letters, or of the texts as reports, one by one."},
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights; auto: as they were saved."})
    ci: float = field(default=0.95, metadata={"help": "Level of the bootstrap intervals."})
    seed: int = field(default=0, metadata={"help": "Of the questions, options and errors."})
    out: str | None = field(
        default=None,
        metadata={
            "help": "Folder for all of it. By default MODEL/evaluation/TASK, runs/USER-MODEL/TASK for the Hub; of "
            "matching, TASK is matching-full-random-letters, say."
        },
    )


def output_folder(args: TaskEvaluationArguments, config: CTRatePairsConfig) -> Path:
    if args.out:
        return Path(args.out)
    name = args.task
    if args.task == "matching":  # which other options do not replace
        name = f"matching-{config.options}-{config.difficulty}-{args.answers}"
    if is_model_folder(args.model):
        return Path(args.model) / "evaluation" / name
    return Path("runs") / args.model.replace("/", "-") / name


def main(args: TaskEvaluationArguments) -> None:
    check_level(args.ci)
    kept = read_row_settings(args.model, args.revision)
    dataset = load_dataset("ct_rate_pairs", seed=args.seed, **kept | args.dataset_options() | {"negative": "none"})
    if args.split not in dataset:
        raise ValueError(f"There is nothing to ask in the split '{args.split}': it has no or too few scans.")
    rows = dataset[args.split]
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model, collator = load_model(args.model, args.revision, args.dtype, device)
    evaluate_task(
        model,
        collator,
        rows,
        dataset["train"],
        output_folder(args, reader_of(rows).config),
        scans=args.scans,
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        answers=args.answers,
        ci=args.ci,
    )


if __name__ == "__main__":
    main(*TrlParser((TaskEvaluationArguments,)).parse_args_and_config())
