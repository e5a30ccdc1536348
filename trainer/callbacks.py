"""Reports that the model writes while it trains: to read, and to choose the checkpoint by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTTrainer

from ct_rate_pairs.rows import reader_of

from .generation import generate_batch


SAMPLE = "## {volume}\n\n### Reference\n\n{reference}\n\n### Generated\n\n{report}\n"


class WriteReportSamples(TrainerCallback):
    """
    Writes reports for the first scans of a dataset at each evaluation, and scores them.

    Samples go to `samples/step-000123.md` in `output_dir`: volume, reference and generated report. They hold CT-RATE's
    texts, which its licence forbids to pass on: they stay on this machine, and no logger is given them.

    Scores are logged, and join the evaluation's metrics, so that `metric_for_best_model` may name one of them. The
    loss is a poor judge of reports: most of it is template.

    Reports are greedy and each process writes its share of them. Training then goes on as it would have without.

    Args:
        trainer ([`NegativeSFTTrainer`]):
            The trainer that this callback is added to. Its `data_collator` is a [`PairCollator`].
        dataset ([`~datasets.Dataset`]):
            Rows of `ct_rate_pairs`, usually of the split `validation`.
        num_samples (`int`, *optional*, defaults to `4`):
            Scans whose reports go to the file.
        max_new_tokens (`int`, *optional*, defaults to `512`):
            Longest report, in tokens.
        score (`Callable[[list[str], list[list[int]]], dict[str, float]]`, *optional*):
            Makes named numbers of the generated reports and the scans' `labels`. `{"coverage": 0.5}` is logged as
            `eval_coverage`.
        num_scored (`int`, *optional*, defaults to `64`):
            Scans whose reports are scored.

    Example:

    ```python
    >>> from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, WriteReportSamples

    >>> args = NegativeSFTConfig(
    ...     output_dir="runs/heter",
    ...     eval_strategy="steps",
    ...     load_best_model_at_end=True,
    ...     metric_for_best_model="eval_coverage",
    ...     greater_is_better=True,
    ... )
    >>> trainer = NegativeSFTTrainer(model, args, train_dataset=train, eval_dataset=validation, ...)
    >>> trainer.add_callback(WriteReportSamples(trainer, validation, score=coverage))
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
        self.dataset = dataset.select(range(min(max(num_samples, num_scored if score else 0), len(dataset))))
        self.num_scored = num_scored

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        scans = self._write_reports(args.per_device_eval_batch_size)
        if state.is_world_process_zero:
            path = Path(args.output_dir) / "samples" / f"step-{state.global_step:06d}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(SAMPLE.format(**scan) for scan in scans[: self.num_samples]))
        if self.score:
            scored = scans[: self.num_scored]
            scores = self.score([scan["report"] for scan in scored], [scan["labels"] for scan in scored])
            scores = {f"eval_{name}": value for name, value in scores.items()}
            # The metrics are logged by now, but Trainer has yet to choose the best checkpoint by them.
            metrics.update(scores)
            self.trainer.log(scores)

    def _write_reports(self, batch_size: int) -> list[dict[str, Any]]:
        """`volume`, `reference`, `labels` and `report` of each scan, the same list in each process."""
        scans = []
        indices = list(range(len(self.dataset)))
        # With padding, all processes generate equally often: under sharding each needs the others.
        with self.trainer.accelerator.split_between_processes(indices, apply_padding=True) as share:
            for start in range(0, len(share), batch_size):
                part = share[start : start + batch_size]
                rows = [self.dataset[index] for index in part]
                reports = generate_batch(
                    self.trainer.model, self.trainer.data_collator, rows, max_new_tokens=self.max_new_tokens
                )
                for index, row, report in zip(part, rows, reports, strict=True):
                    reference = row["completion"][0]["content"]
                    scan = {"volume": row["volume"], "reference": reference, "labels": row["labels"]}
                    scans.append((index, scan | {"report": report}))
        by_index = dict(gather_object(scans))
        return [by_index[index] for index in indices]


class NewNegativesEachEpoch(TrainerCallback):
    """
    Passes the epoch to the row reader of a map-style `ct_rate_pairs` dataset, workers included. A streamed dataset
    gets its epoch from `accelerate`.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs):
        dataset = train_dataloader.dataset
        if isinstance(dataset, Dataset):
            reader_of(dataset).set_epoch(int(state.epoch))
