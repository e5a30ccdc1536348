"""What a training does with reports at its end: writes them, measures them, and writes the card."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from datasets import Dataset, load_dataset
from transformers import PreTrainedModel
from trl import ModelConfig

from ct_rate_pairs.eval.figures.evaluation import plot_reliability
from ct_rate_pairs.eval.load_model import version_of
from ct_rate_pairs.eval.predictions.provenance import describe_provenance
from ct_rate_pairs.eval.predictions.store import read_cut, read_line_logits, read_lines, write_predictions
from ct_rate_pairs.eval.rows import first_rows, references_of, select_readable
from ct_rate_pairs.eval.scoring.operating_points import OperatingPoint
from ct_rate_pairs.eval.tasks.report import evaluate_model
from ct_rate_pairs.hub import write_model_card
from ct_rate_pairs.hub.reporting.confidence import calibration_of_lines, fit_confidence
from ct_rate_pairs.hub.reporting.domain import fit_domain, measure_row, trained_on
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.recipes.arguments import TrainingRunArguments
from ct_rate_pairs.recipes.starting_model import models_to_start_from
from ct_rate_pairs.trainer.label_head import find_label_head
from ct_rate_pairs.trainer.model_files import ModelFilesTrainer


MOST_OF_DOMAIN, LEAST_OF_DOMAIN = 100, 20  # scans that the limits of a domain are fitted on


@dataclass
class ReportsAfterTraining:
    """
    The reports of a trained model on the first scans of the split `test`.

    All processes write them (`write`), and then the main process measures them (`finish`).
    """

    recipe_args: TrainingRunArguments
    model_args: ModelConfig
    trainer: ModelFilesTrainer  # after its training, and with the model saved in its output folder
    model: PreTrainedModel  # with all weights in this process
    index: dict  # the rows of each split
    options: dict  # of `load_dataset`

    def __post_init__(self):
        """Names the folder of the run and the scans."""
        args = self.trainer.args
        self.out = Path(args.output_dir)
        self.scans = first_rows(self.index["test"], self.recipe_args.max_eval_samples)
        self.sizes = {
            "batch_size": args.per_device_eval_batch_size,
            "max_new_tokens": self.recipe_args.max_new_tokens,
        }
        self.operating_point: OperatingPoint | None = None  # and `predictions`: set by `write`

    def write(self) -> None:
        """
        Writes the reports, in all processes. An operating point needs the confidences before, which the main process
        fits.
        """
        made_with = {"split": "test", "dtype": str(self.model.dtype), "max_new_tokens": self.sizes["max_new_tokens"]}
        version = version_of(str(self.out), base_commit=self.model_args.model_revision)
        provenance = describe_provenance(version, self.index["test"], **made_with)
        if self.recipe_args.point() is not None:
            if self.trainer.is_world_process_zero():
                self.fit_confidences()
            self.trainer.accelerator.wait_for_everyone()
            _, self.operating_point = calibration_of_lines(str(self.out))  # which now has this default
            if self.operating_point is None:  # told, and no error: the training took hours
                print(
                    "The model writes no sound findings lines, so --operating_point has no effect: the model decides "
                    "on the findings.",
                    file=sys.stderr,
                )
            else:
                provenance |= self.operating_point.describe()
        self.predictions = write_predictions(
            self.model,
            self.trainer.data_collator,
            self.scans,
            self.out / "predictions.jsonl",
            provenance=provenance,
            operating_point=self.operating_point,
            **self.sizes,
        )

    def fit_confidences(self) -> None:
        """Fits confidences and domain on the split `validation`, and writes them to the folder of the run."""
        rows = first_rows(self.validation(), self.recipe_args.confidence_scans)
        reader, measured = reader_of(rows), {}

        def keep_measures(row: dict) -> None:
            measured[row["volume"]] = measure_row(row, reader)

        collator = self.trainer.data_collator
        fitted = {"operating_point": self.recipe_args.point(), "on_row": keep_measures}
        confidence = fit_confidence(self.model, collator, rows, **self.sizes, **fitted)
        confidence.save(self.out)
        fit_domain(measured, trained_on(reader.source)).save(self.out)
        (self.out / "figures").mkdir(exist_ok=True)
        plot_reliability(confidence.measured["per_label"], self.out / "figures" / "reliability.png")

    def validation(self) -> Dataset:
        """The rows of the split `validation`, as reports are asked for."""
        return load_dataset(
            "ct_rate_pairs", split="validation", **self.options | {"task": "report", "negative": "none"}
        )

    def keep_domain(self) -> None:
        """
        Fits the domain alone, for a run without confidences. Few scans would give limits that take scans of the very
        cohort for others, so then there is none, and reports say that it is not known.
        """
        if len(self.index.get("validation", ())) < LEAST_OF_DOMAIN:
            return
        rows = select_readable(first_rows(self.validation(), MOST_OF_DOMAIN))
        reader = reader_of(rows)
        fit_domain({row["volume"]: measure_row(row, reader) for row in rows}, trained_on(reader.source)).save(self.out)

    def finish(self, minutes: float) -> None:
        """Fits confidences and domain if there are none yet, measures the reports, and writes the card."""
        if not self.recipe_args.confidence_scans:
            self.keep_domain()
        elif self.recipe_args.point() is None:
            self.fit_confidences()
        collator, predicted = self.trainer.data_collator, self.out / "predictions.jsonl"
        calibration, _ = calibration_of_lines(str(self.out))
        _, reports, labels = references_of(self.index["train"])
        results = evaluate_model(
            self.model,
            collator,
            self.predictions,
            self.scans,
            self.out,
            ci=0.95,
            train_reports=reports,
            train_labels=labels,
            cut=read_cut(predicted),
            lines=read_lines(predicted),
            line_logits=read_line_logits(predicted),
            line_calibration=calibration,
            operating_point=self.operating_point,
            label_head=find_label_head(str(self.out), self.model),
            **self.sizes,
        )
        args = self.trainer.args
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        source = reader_of(self.index["train"]).source
        volumes, references, _ = references_of(self.scans)
        sample = (self.predictions[volumes[0]], references[0]) if source.is_phantom else None
        write_model_card(
            self.out,
            results,
            args,
            phantom=source.is_phantom,
            own=source.is_own,
            slices=source.settings.slices,
            num_train=len(self.index["train"]),
            num_test=results["model"]["n"],
            steps=self.trainer.state.global_step,
            hardware=f"{args.world_size} x {gpu}" if gpu else f"{os.cpu_count()} CPU cores",
            minutes=minutes,
            peak_memory=peak_memory(),
            takes_video=collator.takes_video,
            base_model=models_to_start_from(self.recipe_args, self.model_args),
            sample=sample,
            **self.recipe_args.card_options(),
        )


def peak_memory() -> int:
    """Bytes that this process has taken at most: of the GPU if there is one, and else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
