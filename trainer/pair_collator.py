"""
Rows of the dataset -> batches of a vision-language model.

Where the model takes a video, a volume is one: slices are its frames, depth is its time. Else a slice is an image.
"""

from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from transformers import ProcessorMixin
from trl.trainer.utils import flush_left


class PairCollator:
    """
    Data collator that turns rows of `ct_rate_pairs` into training batches, and into generation batches.

    What the processor is decides how slices go in (`takes_video` tells):

    - A video, if it has a video processor that cuts patches along time and its chat template places a video
      (Qwen2.5-VL, Qwen3-VL). Slices reach the model pixel for pixel ("no further down-sampling", section 5 of the
      paper): sides that the patch grid does not divide are padded around the centre with air. The distance between
      slices sets the video's frame rate, so that time is physical depth: in Qwen2.5-VL's rotary positions, and in the
      seconds that Qwen3-VL's prompt spells out.
    - Images otherwise, one a slice (Gemma 3, MedGemma), with the processor's own resizing and image tokens. Such a
      model is told the order of the slices, not their distance.

    A pair shares its text. `input_ids`, masks, labels, grids and positions occur once, and the negative is one more
    tensor: `negative_X` takes the place of `X` when the negative is scored. Nothing is ever truncated.

    Which weights learn is not the collator's affair. For every family, `model.get_encoder("image")` is the vision
    tower: `.requires_grad_(False)` on it, ahead of the trainer, freezes it. With LoRA, `exclude_modules` of
    [`~peft.LoraConfig`] leaves it out: `r".*(visual|vision_tower).*"`.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of an image-text-to-text model. It must have a chat template, and its tokenizer a padding token.
        mm_per_second (`float`, *optional*, defaults to `10.0`):
            Millimetres of depth that count as one second of video. With 10 and Qwen2.5-VL's 2 positions a second,
            slices 30 mm apart give the frame pairs the temporal positions 0, 12, 24, ...; Qwen3-VL reads
            `<1.5 seconds>`, `<7.5 seconds>`, ... before them. Images have no use for it.

    Raises:
        ValueError: if the processor reads no images or has no chat template; if a negative differs from its volume in
            size or number of slices; if some rows of a batch have a negative and others have none.

    Example:

    ```python
    >>> from ct_rate_pairs.trainer import PairCollator

    >>> collator = PairCollator(processor)
    >>> list(collator(rows))  # rows of load_dataset("ct_rate_pairs", negative="heter"), processor of Qwen2.5-VL
    ['input_ids', 'attention_mask', 'mm_token_type_ids', 'pixel_values_videos', 'video_grid_thw',
     'second_per_grid_ts', 'labels', 'volumes', 'negative_pixel_values_videos']
    >>> model.generate(**collator.prompts(rows))
    ```
    """

    def __init__(self, processor: ProcessorMixin, mm_per_second: float = 10.0):
        if not isinstance(processor, ProcessorMixin) or "image_processor" not in processor.get_attributes():
            raise ValueError(
                f"{type(processor).__name__} reads no images, and a model without vision cannot learn from volumes: "
                "pass the processor of an image-text-to-text model, as AutoProcessor.from_pretrained loads it."
            )
        self.processor = processor
        self.mm_per_second = mm_per_second
        self.takes_video = self._takes_video()
        self.pixels = "pixel_values_videos" if self.takes_video else "pixel_values"

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor | list[str]]:
        """
        Collate a training batch. The labels cover the answer and its end-of-turn token, nothing else (section 7).

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset. They are left as they are.

        Returns:
            `dict`: `input_ids`, `attention_mask`, `labels` and the processor's `mm_token_type_ids`
            or `token_type_ids`, of shape `[B, T]`, padded on the right. A video adds `pixel_values_videos` of shape
            `[patches, channels * 2 * patch * patch]`, `video_grid_thw` of shape `[B, 3]` and for Qwen2.5-VL
            `second_per_grid_ts` of shape `[B]`; Gemma 3's images are `pixel_values` of shape `[slices, channels, side,
            side]`, the rows' slices one after the other. With negatives, `negative_pixel_values_videos` or
            `negative_pixel_values` of the same shape. `volumes` names the `B` volumes, for messages.
        """
        prompts = self._render(rows)
        dialogues = self._render(rows, with_answer=True)
        # The template ends a dialogue with a newline after the end-of-turn token, which generation never reaches.
        answers = [self._answer(prompt, dialogue) for prompt, dialogue in zip(prompts, dialogues, strict=True)]
        batch = self._process(prompts, rows)
        answer = self.processor.tokenizer(
            answers, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        )

        # As TRL collates prompts and completions: [pad prompt | answer pad], then the padding moves to the right.
        along_text = {
            "input_ids": answer["input_ids"],
            # Without token types Qwen falls back to one-dimensional positions, and Gemma to a causal mask over its
            # images, without a word.
            **{name: torch.zeros_like(answer["input_ids"]) for name in batch if name.endswith("token_type_ids")},
        }
        texts = [torch.cat([batch[name], after], dim=1) for name, after in along_text.items()]
        unscored = torch.full_like(batch["input_ids"], -100)
        labels = torch.cat([unscored, answer["input_ids"].masked_fill(answer["attention_mask"] == 0, -100)], dim=1)
        mask = torch.cat([batch["attention_mask"], answer["attention_mask"]], dim=1)
        mask, labels, *texts = flush_left(mask, labels, *texts)  # [B, T] each
        batch |= {"attention_mask": mask, "labels": labels, **dict(zip(along_text, texts, strict=True))}
        batch["volumes"] = [row["volume"] for row in rows]
        if self._have_negatives(rows):
            batch[f"negative_{self.pixels}"] = self._negatives(rows)
        return batch

    def prompts(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Collate a generation batch: prompts that end where the answer begins, padded on the left, and no negatives.

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset; only `images`, `slice_mm` and `prompt` are read.

        Returns:
            `dict[str, torch.Tensor]`: what `model.generate(**batch)` takes.
        """
        return self._process(self._render(rows), rows)

    def _takes_video(self) -> bool:
        # Video processors that resize frames to a fixed square gain nothing over the images of their family.
        if "video_processor" not in self.processor.get_attributes():
            return False
        if "temporal_patch_size" not in self.processor.video_processor.to_dict():
            return False
        turn = {"role": "user", "content": [{"type": "video"}]}
        return self.processor.video_token in self.processor.apply_chat_template([turn])

    def _render(self, rows: list[dict[str, Any]], with_answer: bool = False) -> list[str]:
        """The rows' prompts, or whole dialogues; the slices stand ahead of the text of the prompt's last turn."""
        conversations = []
        for row in rows:
            turns = [*row["prompt"], *(row["completion"] if with_answer else [])]
            # Some templates iterate over the content, so text is never a bare string.
            turns = [{"role": t["role"], "content": [{"type": "text", "text": t["content"]}]} for t in turns]
            slices = [{"type": "video"}] if self.takes_video else [{"type": "image"}] * len(row["images"])
            question = turns[len(row["prompt"]) - 1]
            question["content"] = slices + question["content"]
            conversations.append(turns)
        return self.processor.apply_chat_template(conversations, add_generation_prompt=not with_answer)

    @staticmethod
    def _answer(prompt: str, dialogue: str) -> str:
        if not dialogue.startswith(prompt):
            raise ValueError(
                f"The chat template ends a prompt with {prompt[-40:]!r}, but goes on differently once the answer is "
                "there. Templates of thinking models do: use the model's instruct variant."
            )
        return dialogue[len(prompt) :].rstrip()

    def _process(self, prompts: list[str], rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return dict(
            self.processor(
                text=prompts,
                add_special_tokens=False,  # the template has written them
                padding=True,
                padding_side="left",
                return_tensors="pt",
                **self._slices(rows, "images"),
            )
        )

    def _slices(self, rows: list[dict[str, Any]], column: str) -> dict[str, Any]:
        """The processor's arguments for the slices in `column`."""
        if not self.takes_video:
            return {"images": [[image.convert("RGB") for image in row[column]] for row in rows]}
        # qwen_vl_utils multiplies the patch size by the merge size twice for lists of frames, and would round sides to
        # multiples of 56 (64 for Qwen3-VL): half the patch size makes that 28 (32), which `_pad` has seen to.
        patch_size = self.processor.video_processor.patch_size // 2
        turns = [{"content": [self._video(row[column], row["slice_mm"])]} for row in rows]
        _, videos, kwargs = process_vision_info(
            turns, image_patch_size=patch_size, return_video_kwargs=True, return_video_metadata=True
        )
        frames, metadata = zip(*videos, strict=True)
        return {"videos": list(frames), "video_metadata": list(metadata), "do_resize": False, **kwargs}

    def _video(self, slices: list[Image.Image], slice_mm: list[float]) -> dict[str, Any]:
        gap_mm = (slice_mm[-1] - slice_mm[0]) / (len(slice_mm) - 1)
        fps = self.mm_per_second / gap_mm
        frames = [self._pad(image) for image in slices]
        width, height = frames[0].size
        # With the frame's own area as the lower bound, no bound of qwen_vl_utils can make it resize the frame.
        return {"type": "video", "video": frames, "sample_fps": fps, "raw_fps": fps, "min_pixels": width * height}

    def _pad(self, image: Image.Image) -> Image.Image:
        """Pad with air (0) around the centre to sides that the merged patches divide (28 or 32 pixels)."""
        side = self.processor.video_processor.patch_size * self.processor.video_processor.merge_size
        width, height = image.size
        new_width, new_height = -(-width // side) * side, -(-height // side) * side
        if (new_width, new_height) == (width, height):
            return image
        left, top = (width - new_width) // 2, (height - new_height) // 2
        return image.crop((left, top, left + new_width, top + new_height))  # a crop beyond the borders fills with 0

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
        # Through the whole processor, whose own image settings go before those of its parts
        slices = self._slices(rows, "negative_images")
        return self.processor(**slices, padding=True, return_tensors="pt")[self.pixels]
