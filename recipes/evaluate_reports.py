"""
Write reports with a model and measure them, or measure existing reports.

    ct-rate-pairs evaluate --model_name_or_path runs/heter --data_dir /path/to/CT-RATE
    ct-rate-pairs evaluate --model_name_or_path USER/MODEL --model_revision heter --data_dir phantom
    ct-rate-pairs evaluate --predictions generated.json --data_dir /path/to/CT-RATE --output_dir runs/theirs
    ct-rate-pairs evaluate --model_name_or_path openai:NAME --endpoint http://127.0.0.1:8000/v1 \\
        --i_have_deidentified true

On several GPUs: `accelerate launch -m ct_rate_pairs.recipes.evaluate_reports` with the same options.

Each report is written to `predictions.jsonl` at once, so the same command continues after an interruption. Then the
command writes `results.json`, `generated_reports.json` (in the format of the VLM3D challenge), a table and figures.
The table also scores three trivial reports, which are written without looking at a scan. With a model, the command
also measures whether the model looks: loss gaps, report matching, and Coverage with the volumes of other patients.
With `--predictions`, neither a model nor a volume is read.

The model is any image-text-to-text model of transformers, or `openai:NAME` at an OpenAI-compatible `--endpoint`. For a
model at an endpoint, only the reports can be measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import ct_rate_pairs  # noqa: F401 (registers the dataset and the metrics)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT, SIZE
from ct_rate_pairs.recipes.arguments import (
    DataArguments,
    ModelArguments,
    ScoringArguments,
    SharedScansArguments,
    SplitArguments,
    check_made_by,
    longest_text,
    scans_to_measure,
)
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.shown_text import for_terminal


SERVED = "openai:"  # the name of a model at an endpoint begins with this
EXPORTS = ("radeval", "radmatch", "vlm3d")
RADEVAL = ("bleu", "rouge", "bertscore", "f1radbert_ct", "radgraph", "ratescore")  # what needs no service and no code
SHOWN = {"slices": "single images", "montage": "one picture"}  # what an endpoint gets


@dataclass
class EvaluationArguments(SharedScansArguments, ScoringArguments, SplitArguments, ModelArguments, DataArguments):
    """A model or a file of predictions, the scans, and what to measure."""

    predictions: str | None = field(
        default=None,
        metadata={
            "help": "File of reports to measure instead of a model: .jsonl, .json of the challenge, or what the "
            "scripts of another model write (docs/other_models.md)."
        },
    )
    made_by: str | None = field(
        default=None,
        metadata={
            "help": "What has written the --predictions, NAME@COMMIT: the reports are copied to predictions.jsonl, "
            "with this as their provenance."
        },
    )
    export: list[str] = field(
        default_factory=list,
        metadata={
            "choices": EXPORTS,
            "help": "Also write reports and references for other tools: RadEval, RadMatch, the VLM3D challenge.",
        },
    )
    radeval: list[str] = field(
        default_factory=list,
        metadata={
            "choices": RADEVAL,
            "help": "Also measure by these metrics of RadEval (pip install radeval), with weights of the Hub.",
        },
    )
    operating_point: str | None = field(
        default=None,
        metadata={
            "help": "Sets the findings lines by their probabilities: f1, or a sensitivity such as 0.9. none: the "
            "model decides. Default: that at which the training measured the model."
        },
    )
    looking_scans: int = field(default=200, metadata={"help": "Number of scans that looking is measured on; 0: none."})
    max_eval_samples: int = scans_to_measure(0)
    max_new_tokens: int = longest_text(1200)
    dataloader_num_workers: int = field(default=2, metadata={"help": "Worker processes that read scans, per process."})
    slices_as: Literal["slices", "numbered", "montage", "video"] = field(
        default="slices",
        metadata={
            "help": "slices: one video, or one image per slice, whichever a loaded model takes; an endpoint gets one "
            "image per slice. numbered: one image per slice with its number, for a loaded MedGemma 1.5. montage: one "
            "picture per volume. video: one video, for a model behind a vLLM server."
        },
    )
    mm_per_second: float | None = field(
        default=None,
        metadata={
            "range": SIZE,
            "help": "For slices_as video: depth in mm that counts as one second in the model's training. Default: 10.",
        },
    )
    endpoint: str | None = field(
        default=None,
        metadata={"help": "Base URL of an OpenAI-compatible API; its key, if any, is read from OPENAI_API_KEY."},
    )
    concurrency: int = field(
        default=4, metadata={"range": COUNT, "help": "Number of concurrent requests to the endpoint."}
    )
    i_have_deidentified: bool = field(
        default=False, metadata={"help": "Statement that slices and prompts may be sent to the endpoint."}
    )
    allow_http: bool = field(
        default=False,
        metadata={"help": "Send slices unencrypted to an endpoint on another machine. A key is never sent so."},
    )

    @property
    def served(self) -> bool:
        """Whether the model is at an endpoint."""
        return bool(self.model_name_or_path) and self.model_name_or_path.startswith(SERVED)

    def idle(self) -> dict[str, str]:
        """The options without effect beside the others, and why."""
        idle = self.idle_negatives() | self.idle_revision()
        of_model = (
            *("model_revision", "dtype", "per_device_eval_batch_size", "dataloader_num_workers", "looking_scans"),
            "operating_point",
        )
        of_endpoint = ("endpoint", "concurrency", "i_have_deidentified", "allow_http")
        of_negatives = ("negative", "min_label_distance", "max_label_distance", "partner_sampling")
        if self.looking_scans == 0:
            idle |= dict.fromkeys(of_negatives, "looking_scans is 0, so no negative is read")
        if self.served:
            idle |= dict.fromkeys((*of_model, *of_negatives), "the model is at an endpoint")
        else:
            idle |= dict.fromkeys(of_endpoint, f"the model is not {SERVED}NAME")
        if self.slices_as != "video":
            idle["mm_per_second"] = "slices_as is not video, and a loaded model knows its own"
        if not self.predictions:
            idle |= dict.fromkeys(("made_by", "scans_of"), "there are no --predictions")
        else:
            of_writing = ("max_new_tokens", "slices_as", "mm_per_second")
            idle |= dict.fromkeys((*of_model, *of_negatives, *of_writing), "the reports of --predictions are there")
        return idle

    def at_endpoint(self):
        """The [`~ct_rate_pairs.eval.predictions.endpoint.Endpoint`], which refuses an invalid URL."""
        from ct_rate_pairs.eval.predictions.endpoint import Endpoint

        return Endpoint(
            self.endpoint,
            self.model_name_or_path.removeprefix(SERVED),
            deidentified=self.i_have_deidentified,
            allow_http=self.allow_http,
            slices_as=self.slices_as,
            chat_template_kwargs=self.template_kwargs(),
            **{} if self.mm_per_second is None else {"mm_per_second": self.mm_per_second},
        )

    def check(self) -> None:
        """Raises a `ValueError` for options that exclude each other, and a `FileNotFoundError` for a missing file."""
        if CTRatePairsConfig(**self.dataset_options()).is_mutual:
            raise ValueError(
                "--partner_sampling mutual makes the volumes of a training batch each other's negatives, and a "
                "measurement has no such batches: give uniform or balanced."
            )
        if self.operating_point is not None:
            from ct_rate_pairs.eval.scoring.operating_points import read_operating_point

            read_operating_point(self.operating_point)
        if (self.model_name_or_path is None) == (self.predictions is None):
            raise ValueError(
                "Give either --model_name_or_path, to write reports, or --predictions, to measure a file of reports."
            )
        if self.predictions and self.max_eval_samples:
            raise ValueError("--max_eval_samples is for a model: all reports of a file of predictions are measured.")
        if self.predictions and not Path(self.predictions).is_file():
            raise FileNotFoundError(no_such("file", self.predictions))
        if self.made_by:
            check_made_by(self.made_by)
        self.template_kwargs()
        if self.slices_as == "video" and not self.served:
            raise ValueError(
                "--slices_as video is for an --endpoint: a model that takes videos is loaded to get them."
            )
        if self.slices_as == "numbered" and self.served:
            raise ValueError(
                "--slices_as numbered is for a loaded model: an --endpoint gets slices, montage or video."
            )
        if self.served and not self.endpoint:
            raise ValueError(
                f"A model {SERVED}NAME needs --endpoint: the base URL of its API, such as http://127.0.0.1:8000/v1."
            )


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs evaluate`."""
    parser = RecipeParser([EvaluationArguments], "ct-rate-pairs evaluate", __doc__)
    (args,) = parser.parse(argv)
    args.check()
    parser.refuse_idle(args.idle())
    parser.tell_idle(args.idle())
    endpoint = args.at_endpoint() if args.served else None  # now, not after hours of building the dataset

    from accelerate import PartialState
    from datasets import load_dataset

    from ct_rate_pairs.eval.predictions.provenance import row_settings_of
    from ct_rate_pairs.eval.rows import references_of
    from ct_rate_pairs.eval.scoring.radeval import radeval_scores
    from ct_rate_pairs.eval.scoring.scores import score_reports
    from ct_rate_pairs.readers import split_of
    from ct_rate_pairs.recipes.written_reports import measure_predictions
    from ct_rate_pairs.trainer.hub_files import commit_of, is_model_folder
    from ct_rate_pairs.trainer.row_settings import options_to_show, tell_assumed

    options = args.dataset_options()
    if args.predictions:
        options, path = row_settings_of(args.predictions) | options, Path(args.predictions)
        tell_assumed(args.predictions, options, settings=("target",))  # no volume is read
        out = Path(args.output_dir) if args.output_dir else path.with_name(f"{path.stem}_evaluation")
    else:
        out = args.evaluation_folder(not args.served and is_model_folder(args.model_name_or_path))
        if args.served:
            tell_assumed(args.model_name_or_path, options)
        else:  # by commit, because the branch may change during the evaluation
            args.model_revision = commit_of(args.model_name_or_path, args.model_revision)
            options = options_to_show(args.model_name_or_path, args.model_revision, options, "report")
    options |= {"task": "report"}
    index = load_dataset("ct_rate_pairs", seed=args.seed, **options | {"negative": "none"})
    split = split_of(index, args.split)
    score = args.given(ScoringArguments) | {"ci": args.ci}
    # A dry run, so that a misspelt option, a missing program (Java) or missing weights fail now, and not after reports
    # were written for hours.
    volumes, references, labels = references_of(split.select(range(min(2, len(split)))))
    score_reports(references, references, labels, volumes=volumes, **score)
    if args.radeval:
        radeval_scores(args.radeval, dict(zip(volumes, references, strict=True)), split, references, labels)
    _, score["train_reports"], score["train_labels"] = references_of(split_of(index, "train"))
    with folder_lock(out, parser.prog, distributed=True):
        if args.predictions:
            told = {"made_by": args.made_by, "scans_of": args.scans_of}
            measure_predictions(args.predictions, split, out, score, split_name=args.split, **told)
        elif args.served:
            measure_endpoint(args, endpoint, split, out, score)
        else:
            measure_model(args, split, out, score, options)
        if PartialState().is_main_process:
            serve_others(args, split, out, score)


def serve_others(args: EvaluationArguments, split, out: Path, score: dict) -> None:
    """Writes the files of `--export`, and measures by the metrics of `--radeval`."""
    from ct_rate_pairs.eval.predictions.for_tools import write_for_tools
    from ct_rate_pairs.eval.predictions.store import read_predictions
    from ct_rate_pairs.eval.scoring.radeval import radeval_scores, write_radeval

    measured = read_predictions(out / "generated_reports.json")
    if args.export:
        print("for other tools:", *write_for_tools(args.export, measured, split, out))
    if args.radeval:
        scores = radeval_scores(args.radeval, measured, split, score["train_reports"], score["train_labels"])
        print(write_radeval(scores, out))


def measure_endpoint(args: EvaluationArguments, endpoint, split, out: Path, score: dict) -> None:
    """Writes reports with a model at an endpoint, and measures these reports."""
    from ct_rate_pairs.eval.predictions.endpoint import EndpointError
    from ct_rate_pairs.eval.predictions.endpoint_predictions import (
        count_failures,
        count_served,
        format_failures,
        write_endpoint_predictions,
    )
    from ct_rate_pairs.eval.predictions.provenance import describe_provenance
    from ct_rate_pairs.eval.predictions.store import read_lines
    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.eval.tasks.report import score_predictions, write_results

    shown = {"slices_as": args.slices_as}
    if args.slices_as == "video":
        shown["mm_per_second"] = endpoint.mm_per_second
    scans, sizes = first_rows(split, args.max_eval_samples), {"max_new_tokens": args.max_new_tokens}
    made_with = describe_provenance(
        f"{args.model_name_or_path}@{endpoint.url}", split, split=args.split, dtype="served", **sizes
    )
    predictions, failures = write_endpoint_predictions(
        endpoint,
        scans,
        out / "predictions.jsonl",
        concurrency=args.concurrency,
        provenance=made_with | shown | {"chat_template_kwargs": endpoint.chat_template_kwargs},
        **sizes,
    )
    print(format_failures(failures, len(scans), out))
    if not predictions:
        raise EndpointError("There is no report to measure.")
    lines = read_lines(out / "predictions.jsonl")
    results = score_predictions(predictions, split, lines=lines, **score)
    results["model"] |= {"failures": count_failures(failures), "max_new_tokens": args.max_new_tokens} | shown
    if served := count_served(out / "predictions.jsonl"):
        results["model"]["answered_by"] = served
        print("Reports by", for_terminal(", ".join(f"{name}: {number}" for name, number in served.items())))
    write_results(results, out, predictions=predictions, looking={})
    if args.slices_as != "video":
        print(
            f"The model was shown each scan as {SHOWN[args.slices_as]}. A model that was trained here on videos "
            "(Qwen) was not asked in the form of its training. --slices_as video asks a vLLM server in that form."
        )
    else:
        print(
            f"The model was told that {endpoint.mm_per_second:g} mm of depth are a second. A server does not tell "
            "what its model was trained with: if it was another mm_per_second, give it as --mm_per_second."
        )
    print("Not measured: loss gaps, report matching, shuffled volumes. These need a model that can be loaded.")


def measure_model(args: EvaluationArguments, split, out: Path, score: dict, options: dict) -> None:
    """Writes reports with a model in all processes. The main process measures them, and whether the model looks."""
    import torch
    from accelerate import PartialState
    from datasets import load_dataset

    from ct_rate_pairs.eval.load_model import base_commit_of, check_model, load_model, version_of
    from ct_rate_pairs.eval.predictions.provenance import describe_provenance
    from ct_rate_pairs.eval.predictions.store import read_cut, read_line_logits, read_lines, write_predictions
    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.eval.tasks.report import evaluate_model
    from ct_rate_pairs.hub.reporting.confidence import calibration_of_lines
    from ct_rate_pairs.trainer.label_head import find_label_head

    state = PartialState(cpu=not torch.accelerator.is_available())
    name, revision = args.model_name_or_path, args.model_revision
    base_commit = base_commit_of(name, revision)
    calibration, point = calibration_of_lines(name, revision, args.operating_point)
    shown = {"slices_as": args.slices_as, "chat_template_kwargs": args.template_kwargs()}
    model, collator = load_model(name, revision, args.dtype, state.device, base_commit=base_commit, **shown)
    check_model(model, collator, split[0], args.max_new_tokens, with_losses=args.looking_scans > 0)
    made_with = {"split": args.split, "dtype": str(model.dtype), "max_new_tokens": args.max_new_tokens}
    weights = version_of(name, revision, base_commit=base_commit)
    provenance = describe_provenance(weights, split, **made_with)
    if args.slices_as != "slices":
        provenance["slices_as"] = args.slices_as
    if collator.chat_template_kwargs:
        provenance["chat_template_kwargs"] = collator.chat_template_kwargs
    provenance |= point.describe() if point else {}
    sizes = {"batch_size": args.per_device_eval_batch_size, "max_new_tokens": args.max_new_tokens}
    predictions = write_predictions(
        model,
        collator,
        first_rows(split, args.max_eval_samples),
        out / "predictions.jsonl",
        num_workers=args.dataloader_num_workers,
        provenance=provenance,
        operating_point=point,
        **sizes,
    )
    state.wait_for_everyone()
    state.destroy_process_group()  # only the main process continues
    if state.is_main_process:
        negative = options["negative"] if args.looking_scans else "none"
        of_split = {"seed": args.seed, "split": args.split}
        with_negatives = load_dataset("ct_rate_pairs", **of_split, **options | {"negative": negative})
        scans = first_rows(with_negatives, args.max_eval_samples)
        path, seen = out / "predictions.jsonl", {"looking_scans": args.looking_scans, "seed": args.seed}
        seen |= {"cut": read_cut(path), "lines": read_lines(path), "line_logits": read_line_logits(path)}
        seen |= {"line_calibration": calibration, "operating_point": point}
        seen["label_head"] = find_label_head(name, model, revision)
        evaluate_model(model, collator, predictions, scans, out, **seen, **sizes, **score)


if __name__ == "__main__":
    run(main)
