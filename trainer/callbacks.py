"""
Callbacks of the trainer: one writes reports during training, to read them and to choose the best checkpoint; the other
passes the epoch to the dataset.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset, IterableDataset
from transformers import TrainerCallback
from trl import SFTTrainer

from ct_rate_pairs.readable_rows import ReadableRows
from ct_rate_pairs.readers import has_reader, reader_of
from ct_rate_pairs.reports.findings_line import report_of
from ct_rate_pairs.shown_text import for_markdown
from ct_rate_pairs.whole_files import write_whole

from .generation import cut_warning, write_batch
from .row_settings import has_findings_line


logger = logging.getLogger(__name__)

SAMPLE = "## {volume}\n\n### Reference\n\n{reference}\n\n### Generated{limit}\n\n{report}\n"


class WriteReportSamples(TrainerCallback):
    """
    Writes reports for the first scans of a dataset at each evaluation, and scores them.

    The samples (volume, reference and generated report) are written to `samples/step-000123.md` in `output_dir`. They
    hold texts of CT-RATE, whose licence forbids redistribution, so they stay on this machine and are not logged.

    The scores are logged and added to the metrics of the evaluation, so that `metric_for_best_model` may name one of
    them. The loss is a poor measure for reports, because most tokens belong to the template. `eval_cut_share`, the
    share of the reports that are cut at `max_new_tokens`, is logged, too.

    Reports are written greedily, and each process writes a part of them. The callback does not change the training.

    Args:
        trainer ([`NegativeSFTTrainer`]):
            The trainer that this callback is added to. Its `data_collator` must be a [`PairCollator`].
        dataset ([`~datasets.Dataset`]):
            Rows of `ct_rate_pairs`, usually of the split `validation`.
        num_samples (`int`, *optional*, defaults to `4`):
            Scans whose reports are written to the file.
        max_new_tokens (`int`, *optional*, defaults to `512`):
            Longest report, in tokens.
        score (`Callable[[list[str], list[list[int]]], dict[str, float]]`, *optional*):
            Computes named scores from the generated reports and the scans' `labels`. `{"coverage": 0.5}` is logged as
            `eval_coverage`.
        num_scored (`int`, *optional*, defaults to `64`):
            Scans whose reports are scored.

    Example:

    ```python
    from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, WriteReportSamples

    args = NegativeSFTConfig(
        output_dir="runs/heter",
        eval_strategy="steps",
        load_best_model_at_end=True,
        metric_for_best_model="eval_coverage",
        greater_is_better=True,
    )
    trainer = NegativeSFTTrainer(model, args, collator, train_dataset=train, eval_dataset=validation)
    trainer.add_callback(WriteReportSamples(trainer, validation, score=coverage))
    ```
    """

    def __init__(
        self,
        trainer: SFTTrainer,
        dataset: Dataset,
        num_samples: int = 4,
        max_new_tokens: int = 512,
        score: Callable[[list[str], list[list[int]]], dict[str, float]] | None = None,
        num_scored: int = 64,
    ):
        self.trainer = trainer
        self.num_samples = num_samples
        self.max_new_tokens = max_new_tokens
        self.score = score
        self.dataset = ReadableRows(
            dataset.select(range(min(max(num_samples, num_scored if score else 0), len(dataset))))
        )
        self.num_scored = num_scored
        self.with_line = has_findings_line(dataset)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Writes the samples of this evaluation, and logs the scores."""
        scans = self._write_reports(args.per_device_eval_batch_size)
        if state.is_world_process_zero:
            path = Path(args.output_dir) / "samples" / f"step-{state.global_step:06d}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = ("reference", "report")
            shown = [scan | {name: for_markdown(scan[name]) for name in texts} for scan in scans[: self.num_samples]]
            write_whole(path, "\n".join(SAMPLE.format(**scan) for scan in shown))
            if warning := cut_warning(sum(scan["cut"] for scan in scans), len(scans), self.max_new_tokens):
                logger.warning("Samples of step %d: %s", state.global_step, warning)
        scores = {"eval_cut_share": sum(scan["cut"] for scan in scans) / max(1, len(scans))}
        if self.score:
            scored = scans[: self.num_scored]
            by_name = self.score([scan["report"] for scan in scored], [scan["labels"] for scan in scored])
            scores |= {f"eval_{name}": value for name, value in by_name.items()}
        # Trainer has already logged the metrics, but it has not yet chosen the best checkpoint by them.
        metrics.update(scores)
        self.trainer.log(scores)

    def _write_reports(self, batch_size: int) -> list[dict[str, Any]]:
        """
        `volume`, `reference`, `labels`, `report`, `cut` and `limit` (its note) of each scan. Every process gets the
        same list.
        """
        scans = []
        indices = list(range(len(self.dataset)))
        # With padding, all processes generate equally often: the processes of a sharded model need each other.
        with self.trainer.accelerator.split_between_processes(indices, apply_padding=True) as share:
            for start in range(0, len(share), batch_size):
                part = share[start : start + batch_size]
                rows = [self.dataset[index] for index in part]
                options = {"max_new_tokens": self.max_new_tokens, "with_line": self.with_line}
                reports = write_batch(self.trainer.model, self.trainer.data_collator, rows, **options)
                for index, row, written in zip(part, rows, reports, strict=True):
                    reference = report_of(row["completion"][-1])
                    scan = {"volume": row["volume"], "reference": reference, "labels": row["labels"]}
                    limit = f" (cut at {self.max_new_tokens} tokens)" if written.cut else ""
                    scans.append((index, scan | {"report": written.report, "cut": written.cut, "limit": limit}))
        by_index = dict(gather_object(scans))
        return [by_index[index] for index in indices]


class NewNegativesEachEpoch(TrainerCallback):
    """
    Passes the epoch to the reader of a `ct_rate_pairs` dataset, also in its workers, so that each epoch has new
    negatives. A stream gets its epoch from `accelerate`, unless it is made by `to_iterable_dataset`.
    """

    def __init__(self, dataset: Dataset | IterableDataset):
        self.dataset = dataset
        self.epoch = 0

    def on_train_begin(self, args, state, control, **kwargs):
        """Starts at the epoch of the checkpoint, if a training is resumed."""
        self.epoch = int(state.epoch)

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Passes the epoch on."""
        if has_reader(self.dataset):
            reader_of(self.dataset).set_epoch(self.epoch)
        # Counted here: with `max_steps`, `state.epoch` is a share of a stream's steps.
        self.epoch += 1

    def on_train_end(self, args, state, control, **kwargs):
        """After the training, the dataset is in its first epoch again, as a dataset that is loaded anew."""
        if has_reader(self.dataset):
            reader_of(self.dataset).set_epoch(0)
