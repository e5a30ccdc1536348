"""Rows of the dataset -> batches of a Qwen-VL model: a volume is a video, its slices are the frames, depth is time."""

from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin


class PairCollator:
    """
    Data collator that turns rows of `ct_rate_pairs` into training batches, and into generation batches.

    Slices go through `qwen_vl_utils` and the processor pixel for pixel ("no further down-sampling", section 5 of the
    paper): sides that the patch grid does not divide are padded around the centre with air. The distance between
    slices sets the video's frame rate, so that the model's rotary positions along time are physical depth.

    A pair shares its text. `input_ids`, masks, labels, grids and positions occur once, and the negative is one more
    tensor, `negative_pixel_values_videos`.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of a Qwen2.5-VL model. Its tokenizer must have a padding token.
        mm_per_second (`float`, *optional*, defaults to `10.0`):
            Millimetres of depth that count as one second of video. With 10 and Qwen2.5-VL's 2 positions a second,
            slices 30 mm apart give the frame pairs the temporal positions 0, 12, 24, ...

    Raises:
        ValueError: if a negative differs from its volume in size or number of slices, or if some rows of a batch have
            a negative and others have none.

    Example:

    ```python
    >>> from ct_rate_pairs.trainer import PairCollator

    >>> collator = PairCollator(processor)
    >>> list(collator(rows))  # rows of load_dataset("ct_rate_pairs", negative="heter")
    ['input_ids', 'attention_mask', 'mm_token_type_ids', 'labels', 'pixel_values_videos', 'video_grid_thw',
     'second_per_grid_ts', 'negative_pixel_values_videos']
    >>> model.generate(**collator.prompts(rows))
    ```
    """

    def __init__(self, processor: ProcessorMixin, mm_per_second: float = 10.0):
        self.processor = processor
        self.mm_per_second = mm_per_second

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Collate a training batch. The labels cover the answer and its end-of-turn token, nothing else (section 7).

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset. They are left as they are.

        Returns:
            `dict[str, torch.Tensor]`: `input_ids`, `attention_mask`, `mm_token_type_ids` and `labels` of shape
            `[B, T]`, padded on the right; `pixel_values_videos` of shape `[patches, channels * 2 * 14 * 14]`,
            `video_grid_thw` of shape `[B, 3]`, `second_per_grid_ts` of shape `[B]`; with negatives,
            `negative_pixel_values_videos` of the shape of `pixel_values_videos`.
        """
        conversations = [self._conversation(row) for row in rows]
        prompts = self._render(conversations, add_generation_prompt=True)
        dialogues = self._render([chat + row["completion"] for chat, row in zip(conversations, rows, strict=True)])
        # The template ends a dialogue with a newline after the end-of-turn token, which generation never reaches.
        answers = [dialogue[len(prompt) :].rstrip() for dialogue, prompt in zip(dialogues, prompts, strict=True)]

        batch = self._process(conversations, prompts)
        answer_ids = self.processor.tokenizer(answers, add_special_tokens=False)["input_ids"]
        ids, labels, kinds = [], [], []
        for prompt, kind, answer in zip(batch["input_ids"], batch["mm_token_type_ids"], answer_ids, strict=True):
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([-100] * len(prompt) + answer))
            # Without the answer's zeros the model would fall back to one-dimensional positions, without a word.
            kinds.append(torch.tensor(kind + [0] * len(answer)))
        pad_id = self.processor.tokenizer.pad_token_id
        collated = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),  # [B, T]
            "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),  # [B, T]
            "mm_token_type_ids": pad_sequence(kinds, batch_first=True),  # [B, T]
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),  # [B, T]
            "pixel_values_videos": batch["pixel_values_videos"],
            "video_grid_thw": batch["video_grid_thw"],  # [B, 3]
            "second_per_grid_ts": torch.tensor(batch["second_per_grid_ts"]),  # [B]
        }
        if self._have_negatives(rows):
            collated["negative_pixel_values_videos"] = self._negatives(rows)
        return collated

    def prompts(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Collate a generation batch: prompts that end where the answer begins, padded on the left, and no negatives.

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset; only `images`, `slice_mm` and `prompt` are read.

        Returns:
            `dict[str, torch.Tensor]`: what `model.generate(**batch)` takes.
        """
        conversations = [self._conversation(row) for row in rows]
        prompts = self._render(conversations, add_generation_prompt=True)
        return dict(self._process(conversations, prompts, padding=True, padding_side="left", return_tensors="pt"))

    def _conversation(self, row: dict[str, Any], column: str = "images") -> list[dict[str, Any]]:
        """The row's prompt with the slices of `column` as a video ahead of the text of its last turn."""
        *history, turn = row["prompt"]
        video = self._video(row[column], row["slice_mm"])
        return [*history, {"role": turn["role"], "content": [video, {"type": "text", "text": turn["content"]}]}]

    def _video(self, slices: list[Image.Image], slice_mm: list[float]) -> dict[str, Any]:
        gap_mm = (slice_mm[-1] - slice_mm[0]) / (len(slice_mm) - 1)
        fps = self.mm_per_second / gap_mm
        frames = [self._pad(image) for image in slices]
        width, height = frames[0].size
        # With the frame's own area as the lower bound, no bound of qwen_vl_utils can make it resize the frame.
        return {"type": "video", "video": frames, "sample_fps": fps, "raw_fps": fps, "min_pixels": width * height}

    def _pad(self, image: Image.Image) -> Image.Image:
        """Pad with air (0) around the centre to sides that the merged patches divide (28 pixels for Qwen2.5-VL)."""
        side = self.processor.video_processor.patch_size * self.processor.video_processor.merge_size
        width, height = image.size
        new_width, new_height = -(-width // side) * side, -(-height // side) * side
        if (new_width, new_height) == (width, height):
            return image
        left, top = (width - new_width) // 2, (height - new_height) // 2
        return image.crop((left, top, left + new_width, top + new_height))  # a crop beyond the borders fills with 0

    def _render(self, conversations: list[list[dict[str, Any]]], add_generation_prompt: bool = False) -> list[str]:
        return self.processor.apply_chat_template(conversations, add_generation_prompt=add_generation_prompt)

    def _read(self, conversations: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """The processor's video arguments for the frames in `conversations`."""
        # qwen_vl_utils multiplies the patch size by the merge size twice for lists of frames, and would round sides to
        # multiples of 56: half the patch size makes that 28, which `_pad` has seen to.
        patch_size = self.processor.video_processor.patch_size // 2
        _, videos, kwargs = process_vision_info(
            conversations, image_patch_size=patch_size, return_video_kwargs=True, return_video_metadata=True
        )
        frames, metadata = zip(*videos, strict=True)
        return {"videos": list(frames), "video_metadata": list(metadata), "do_resize": False, **kwargs}

    def _process(self, conversations: list[list[dict[str, Any]]], prompts: list[str], **kwargs) -> dict[str, Any]:
        return self.processor(text=prompts, add_special_tokens=False, **self._read(conversations), **kwargs)

    def _have_negatives(self, rows: list[dict[str, Any]]) -> bool:
        with_negative = [bool(row.get("negative_images")) for row in rows]
        if any(with_negative) and not all(with_negative):
            without = rows[with_negative.index(False)]["volume"]
            raise ValueError(
                f"{without} has no negative_images, while other rows of its batch have: build the whole dataset with "
                'one value of `negative` ("none", "gauss" or "heter").'
            )
        return all(with_negative)

    def _negatives(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        for row in rows:
            shape, negative_shape = [[i.size for i in row[name]] for name in ("images", "negative_images")]
            if shape != negative_shape:
                raise ValueError(
                    f"{row['volume']}: {len(shape)} slices of {shape[0]} (width, height), but its negative "
                    f"{row['negative_volume'] or '(noise)'} has {len(negative_shape)} of {negative_shape[0]}. A pair "
                    "shares its grid and positions: crop or pad the negative to the volume's size."
                )
        read = self._read([self._conversation(row, "negative_images") for row in rows])
        return self.processor.video_processor(**read, return_tensors="pt")["pixel_values_videos"]
