"""
Write reports with a model and measure them, or measure reports that are there.

    accelerate launch recipes/evaluate_reports.py --model runs/heter --data_dir /path/to/CT-RATE
    accelerate launch recipes/evaluate_reports.py --model USER/MODEL --revision heter --data_dir phantom --scans 100
    python recipes/evaluate_reports.py --predictions generated.json --data_dir /path/to/CT-RATE --out runs/theirs
    python recipes/evaluate_reports.py --model openai:NAME --endpoint http://127.0.0.1:8000/v1 --i-have-deidentified

Reports go to `predictions.jsonl` as they are written: after any interruption the same command goes on. Then come
`results.json`, `generated_reports.json` (the VLM3D challenge's form), a table and figures, with the rows of three
reports that never look at a scan. With a model, it is also measured whether it looks: loss gaps, report matching, and
its Coverage with the volumes of other patients. From predictions alone neither a model nor a volume is read.

`--model` is any image-text-to-text model of transformers, or `openai:NAME` at an OpenAI-compatible `--endpoint`, of
which only the reports can be measured (`docs/other_models.md`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from datasets import Dataset, load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset and the metrics)
from ct_rate_pairs.eval.load_model import check_model, commit_of, is_model_folder, load_model, version_of
from ct_rate_pairs.eval.predictions.endpoint import (
    PREFIX,
    Endpoint,
    EndpointError,
    count_failures,
    format_failures,
    write_endpoint_predictions,
)
from ct_rate_pairs.eval.predictions.provenance import check_references, describe_provenance, row_settings_of
from ct_rate_pairs.eval.predictions.store import read_predictions, write_predictions
from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.eval.scoring.scores import score_reports
from ct_rate_pairs.eval.tasks.report import evaluate_model, score_predictions, write_results
from ct_rate_pairs.recipes.arguments import DataArguments
from ct_rate_pairs.trainer import read_row_settings


@dataclass
class EvaluationArguments(DataArguments):
    """A model or a file of predictions, the scans, and what is measured."""

    model: str | None = field(
        default=None,
        metadata={"help": "Model or adapter: folder, or name on the Hub; or openai:NAME, a model at the endpoint."},
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."})
    predictions: str | None = field(
        default=None, metadata={"help": "Measure this file, .jsonl or the challenge's .json, without a model."}
    )
    out: str | None = field(
        default=None,
        metadata={
            "help": "Folder for all of it. By default MODEL/evaluation, runs/USER-MODEL for one on the Hub, and "
            "NAME_evaluation beside a file NAME.jsonl of predictions."
        },
    )
    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "test is CT-RATE's validation set."}
    )
    scans: int = field(default=0, metadata={"help": "First scans of the split to write reports for; 0: all."})
    looking_scans: int = field(default=200, metadata={"help": "Scans to measure looking on; 0: none."})
    batch_size: int = field(default=8, metadata={"help": "Scans at a time, in each process."})
    max_new_tokens: int = field(default=1200, metadata={"help": "Longest report, in tokens."})
    dtype: str = field(default="auto", metadata={"help": "Type of the weights; auto: as they were saved."})
    num_workers: int = field(default=2, metadata={"help": "Processes that read scans ahead, for each process."})
    recipe: str = field(default="lower", metadata={"help": "Of the text metrics: lower, or vlm3d (the challenge's)."})
    labeler: str = field(
        default="rules", metadata={"help": "What reads generated reports: rules, or radbert:CHECKPOINT."}
    )
    meteor: bool = field(default=False, metadata={"help": "METEOR too; it needs Java."})
    bertscore_model: str | None = field(default=None, metadata={"help": "Encoder for BERTScore: name or folder."})
    ci: float = field(default=0.95, metadata={"help": "Level of the bootstrap intervals by patient."})
    seed: int = field(default=0, metadata={"help": "Of the negatives, options and shuffles."})
    slices_as: Literal["slices", "montage"] = field(
        default="slices", metadata={"help": "slices: a video or an image each; montage: one picture a volume."}
    )
    endpoint: str | None = field(
        default=None,
        metadata={"help": "Base of an OpenAI-compatible API; its key, if any, is read from OPENAI_API_KEY."},
    )
    concurrency: int = field(default=4, metadata={"help": "Requests to the endpoint at a time."})
    i_have_deidentified: bool = field(
        default=False, metadata={"help": "That slices and prompts may be sent to the endpoint."}
    )


def output_folder(args: EvaluationArguments) -> Path:
    """Where the results go: beside what they are of, and never over what a run or a user put there."""
    if args.out:
        return Path(args.out)
    if args.predictions:
        path = Path(args.predictions)
        return path.with_name(f"{path.stem}_evaluation")
    if is_model_folder(args.model):
        return Path(args.model) / "evaluation"
    name = args.model.replace("/", "-").replace(":", "-") + (f"-{args.revision}" if args.revision else "")
    return Path("runs") / name


def make_endpoint(args: EvaluationArguments) -> Endpoint | None:
    """Who is asked for reports; `None` where the model is one that can be loaded."""
    if not args.model or not args.model.startswith(PREFIX):
        return None
    if not args.endpoint:
        raise ValueError(
            "--model openai:NAME needs --endpoint: the base of its API, such as http://127.0.0.1:8000/v1."
        )
    name = args.model.removeprefix(PREFIX)
    return Endpoint(args.endpoint, name, deidentified=args.i_have_deidentified, slices_as=args.slices_as)


def main(args: EvaluationArguments) -> None:
    if (args.model is None) == (args.predictions is None):
        raise ValueError("Give either --model, to write reports, or --predictions, to measure a file of them.")
    if args.predictions and args.scans:
        raise ValueError("--scans is for --model: of a file of predictions all are measured.")
    endpoint, out = make_endpoint(args), output_folder(args)
    if args.model and not endpoint:
        args.revision = commit_of(args.model, args.revision)  # a branch may move on while this runs
    if args.predictions:
        kept = row_settings_of(args.predictions)
    else:
        kept = {} if endpoint else read_row_settings(args.model, args.revision)
    options = kept | args.dataset_options() | {"task": "report"}
    index = load_dataset("ct_rate_pairs", seed=args.seed, **options | {"negative": "none"})
    split = index[args.split]
    train = index["train"]
    score = {name: getattr(args, name) for name in ("recipe", "labeler", "meteor", "bertscore_model", "ci")}
    # A dry run: what is misspelt or missing (Java, an encoder) is to fail now, not after a night of writing.
    volumes, references, labels = references_of(split.select(range(min(2, len(split)))))
    score_reports(references, references, labels, volumes=volumes, **score)
    _, score["train_reports"], score["train_labels"] = references_of(train)

    if args.predictions:
        predictions = read_predictions(args.predictions)
        check_references(args.predictions, split, args.split)
        print(f"{len(predictions)} of the {len(split)} scans of the split {args.split} have a report.")
        write_results(score_predictions(predictions, split, **score), out, predictions=predictions, looking={})
        return

    first = range(min(args.scans or len(split), len(split)))
    if endpoint:
        evaluate_endpoint(args, endpoint, split, split.select(first), out, score)
        return

    state = PartialState(cpu=not torch.accelerator.is_available())
    model, collator = load_model(args.model, args.revision, args.dtype, state.device, args.slices_as)
    check_model(model, collator, split[0], args.max_new_tokens, with_losses=args.looking_scans > 0)
    provenance = describe_provenance(
        version_of(args.model, args.revision),
        split,
        split=args.split,
        dtype=str(model.dtype),
        max_new_tokens=args.max_new_tokens,
    )
    if args.slices_as != "slices":
        provenance["slices_as"] = args.slices_as
    sizes = {"batch_size": args.batch_size, "max_new_tokens": args.max_new_tokens}
    predictions = write_predictions(
        model,
        collator,
        split.select(first),
        out / "predictions.jsonl",
        num_workers=args.num_workers,
        provenance=provenance,
        **sizes,
    )
    state.wait_for_everyone()
    state.destroy_process_group()  # the ranks part: what follows is the first one's
    if state.is_main_process:
        with_negatives = load_dataset("ct_rate_pairs", seed=args.seed, split=args.split, **options).select(first)
        evaluate_model(
            model,
            collator,
            predictions,
            with_negatives,
            out,
            looking_scans=args.looking_scans,
            seed=args.seed,
            **sizes,
            **score,
        )


def evaluate_endpoint(
    args: EvaluationArguments, endpoint: Endpoint, split: Dataset, scans: Dataset, out: Path, score: dict
) -> None:
    """Of a model that is served elsewhere only the reports can be measured."""
    sizes = {"max_new_tokens": args.max_new_tokens}
    provenance = describe_provenance(f"{args.model}@{endpoint.url}", split, split=args.split, dtype="served", **sizes)
    predictions, failures = write_endpoint_predictions(
        endpoint,
        scans,
        out / "predictions.jsonl",
        concurrency=args.concurrency,
        provenance=provenance | {"slices_as": args.slices_as},
        **sizes,
    )
    print(format_failures(failures, len(scans), out))
    if not predictions:
        raise EndpointError("There is no report to measure.")
    results = score_predictions(predictions, split, **score)
    results["model"]["failures"] = count_failures(failures)
    write_results(results, out, predictions=predictions, looking={})
    print("Not measured: loss gaps, report matching, shuffled volumes. They need a model that can be loaded.")


if __name__ == "__main__":
    main(*TrlParser((EvaluationArguments,)).parse_args_and_config())
