"""Turns rows of the dataset into batches of a dual encoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ct_rate_pairs.reports.findings_line import report_of
from ct_rate_pairs.reports.sentence_spans import split_sentences
from ct_rate_pairs.reports.texts import same_words

from .matcher import MatcherConfig


class MatcherCollator:
    """
    Data collator that turns rows of `ct_rate_pairs` into batches of a [`~ct_rate_pairs.trainer.matcher.MatcherModel`].

    The negatives of a scan are the other reports of the batch. With `partners`, the partner of each row is added to
    the batch as one more pair: its slices with its own report. With `negative="hard"`, the two pairs have nearly the
    same labels and different texts, so each of them is a hard negative of the other.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the text tower.
        config ([`~ct_rate_pairs.trainer.matcher.MatcherConfig`]):
            Configuration of the model. It gives the size of the slices and the longest text; the end of a longer text
            is cut off.
        partners (`Mapping[str, dict]`, *optional*):
            Name of a volume -> its `completion`, `age` and `sex`, for all volumes that may be a partner. Without
            `partners`, the partners are not in the batch.
        keep_sentences (`float`, *optional*, defaults to `1.0`):
            Share of a report's sentences that [`~MatcherCollator.__call__`] keeps. They are drawn again at every call.
            So the model also learns short texts (such as a prompt or an impression), and does not memorise reports.

    Raises:
        `ValueError`: if `keep_sentences` is not above 0 and at most 1; if `partners` are given but the negative of a
            row is missing or noise; if the slices and the model have different numbers of channels.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: MatcherConfig,
        partners: Mapping[str, dict] | None = None,
        keep_sentences: float = 1.0,
    ):
        if not 0 < keep_sentences <= 1:
            raise ValueError(f"keep_sentences={keep_sentences} is a share of the sentences: above 0 and at most 1.")
        self.tokenizer = tokenizer
        self.config = config
        self.partners = partners
        self.keep_sentences = keep_sentences

    @classmethod
    def from_pretrained(cls, name_or_path: str, **kwargs) -> "MatcherCollator":
        """The collator of a saved model."""
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        return cls(tokenizer, MatcherConfig.from_pretrained(name_or_path), **kwargs)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Collate a training batch.

        Args:
            rows (`list[dict]`):
                Rows of the dataset.

        Returns:
            `dict[str, torch.Tensor]`: the arguments of [`MatcherModel.forward`] for `B` pairs: one pair per row, or
            two pairs per row with `partners`.
        """
        if self.partners is not None:
            rows = [*rows, *map(self._partner, rows)]
        reports = [report_of(row["completion"][-1]) for row in rows]
        shown = [self._some_sentences(report) for report in reports]
        # A scan and another scan's text are no negative if the two full reports or the two shown texts are equal.
        same_text = equal(reports) | equal(shown)
        return {**self.images(rows), **self.texts(shown), "same_text": same_text}

    def images(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The slices of `B` rows as `pixel_values` `[B, C, S, H, W]` in [-1, 1], and their `metadata` `[B, 4]`."""
        return {
            "pixel_values": torch.stack([self._stack(row) for row in rows]),
            "metadata": torch.tensor([describe(row["age"], row["sex"]) for row in rows], dtype=torch.float32),
        }

    def texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` of `B` texts, both of shape `[B, T]`."""
        longest = self.config.text_config.max_position_embeddings
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def _partner(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["negative_volume"] not in self.partners:
            raise ValueError(
                f"{row['volume']}: its negative {row['negative_volume'] or '(none, or noise)'} has no report here. "
                'Hard negatives need negative="hard", and `partners` of the same split.'
            )
        return self.partners[row["negative_volume"]] | {
            "volume": row["negative_volume"],
            "images": row["negative_images"],
        }

    def _stack(self, row: dict[str, Any]) -> torch.Tensor:
        height, width = self.config.image_size
        planes = []
        for image in row["images"]:
            left, top = (image.width - width) // 2, (image.height - height) // 2
            # Outside of the image, `crop` gives 0, which is air.
            planes.append(np.asarray(image.crop((left, top, left + width, top + height))))
        stack = torch.from_numpy(np.stack(planes)).float() / 127.5 - 1  # [S, H, W] or [S, H, W, 3]
        stack = stack[None] if stack.ndim == 3 else stack.permute(3, 0, 1, 2)  # [C, S, H, W]
        if len(stack) != self.config.num_channels:
            raise ValueError(
                f"{row['volume']}: slices of {len(stack)} channels for a model of {self.config.num_channels}. Use the "
                "`window` and `slices` that the model was trained with (three windows, and slices='mip', give three "
                "channels, all else gives one)."
            )
        return stack

    def _some_sentences(self, report: str) -> str:
        if self.keep_sentences == 1:
            return report
        sentences = split_sentences(report)
        kept = torch.rand(len(sentences)) < self.keep_sentences  # by torch, because a DataLoader seeds it per worker
        if not kept.any():
            return report
        return " ".join(f"{sentence}." for sentence, keep in zip(sentences, kept, strict=True) if keep)


def equal(texts: Sequence[str]) -> torch.Tensor:
    """Whether two of `B` texts are equal except for case and white space, bool `[B, B]`."""
    numbers: dict[str, int] = {}
    ids = torch.tensor([numbers.setdefault(same_words(text), len(numbers)) for text in texts])
    return ids[:, None] == ids


def describe(age: int | None, sex: str | None) -> list[float]:
    """The metadata of a patient: age in centuries, whether the age is known, whether male, whether female."""
    return [(age or 0) / 100, float(age is not None), float(sex == "M"), float(sex == "F")]
