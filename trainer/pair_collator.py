"""
Turns rows of the dataset into batches of a vision-language model.

If the model takes videos, a volume is a video: the slices are its frames, and the depth is its time. Otherwise, each
slice is an image.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from transformers import ProcessorMixin
from trl.trainer.utils import flush_left

from ct_rate_pairs.reports.texts import text_of

from .chat_template import (
    begins_thought,
    end_of_turn,
    set_chat_template_kwargs,
    set_plain_template,
    takes_one_picture,
)
from .mask_shares import mask_shares
from .row_checks import STACKED, check_rows


# Share of the mean distance by which a slice may lie off its even place. Evenly spread slices are rounded to whole
# planes, and lie closer; nearly all random ones (`slices="jitter"`) do not.
_EVEN = 1 / 3
MM_PER_SECOND = 10.0
MASK_SHARES = "mask_shares"


def saved_mm_per_second(processor: ProcessorMixin) -> float:
    """The `mm_per_second` that a model was trained with, from its processor; `MM_PER_SECOND` if it was not changed."""
    if "video_processor" not in processor.get_attributes():
        return MM_PER_SECOND
    return processor.video_processor.to_dict().get("mm_per_second", MM_PER_SECOND)


class PairCollator:
    """
    Data collator that turns rows of `ct_rate_pairs` into training batches, and into generation batches.

    The processor decides in which form the model gets the slices (`takes_video` says which):

    - As a video, if the processor has a video processor that cuts patches along time, and a chat template that places
      a video (Qwen2.5-VL, Qwen3-VL). The slices are not resized ("no further down-sampling", section 5 of the paper).
      If the patch grid does not divide their sides, they are padded with air around their centre. The distance between
      slices sets the frame rate of the video, so that time means physical depth. Qwen2.5-VL has the time in its rotary
      positions, Qwen3-VL in seconds that are written in the prompt. If the slices are uneven (`slices="jitter"`), both
      are told the depth of each pair of slices that they merge.
    - Otherwise as images, one per slice (Gemma 3, MedGemma), with the processor's own resizing and image tokens. Such
      a model knows the order of the slices, but not their distance.

    The two halves of a pair share their text. `input_ids`, masks, labels, grids and positions occur once, and the
    negative is one more tensor: `negative_X` replaces `X` when the negative is scored. Nothing is ever truncated.

    A thinking model (Qwen3.5, 3.6, 3.8) is asked without thinking, because the reports hold no thoughts. All that a
    chat template writes before an answer, such as an empty thought, belongs to the prompt, in training and in
    generation. No label covers it. What a template writes after an answer, such as `</response>`, is left out but for
    the end-of-turn token.

    The collator does not decide which weights are trained. To freeze the vision tower of any model, set
    `freeze_vision` of [`NegativeSFTConfig`]. With LoRA, leave the vision tower out with
    `exclude_modules=r".*(visual|vision_tower).*"` in [`~peft.LoraConfig`].

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of an image-text-to-text model. It must have a chat template, and its tokenizer a padding token.
            BLIP-2's and InstructBLIP's have none, and get a plain form of questions. These two families are shown one
            picture per volume. They write reports, and are not trained.
        mm_per_second (`float`, *optional*):
            Depth in mm that counts as one second of video. Defaults to that of the training, which the processor was
            saved with, or 10. Qwen2.5-VL has 2 positions per second. So with 10, slices
            30 mm apart give the frame pairs the temporal positions 0, 12, 24, ...; for Qwen3-VL, the prompt has
            `<1.5 seconds>`, `<7.5 seconds>`, ... before them. Images do not use this value.
        chat_template_kwargs (`dict`, *optional*):
            Default arguments of the chat template. They are written into the processor's template, and saved with
            the processor, see [`~ct_rate_pairs.trainer.chat_template.set_chat_template_kwargs`]. By default
            `enable_thinking=False`, if the template has this argument. A row may have a column
            `chat_template_kwargs`, as in TRL, whose values replace them.

        mask_names (`Sequence[str]`, *optional*):
            Findings whose masks a mask head learns (`mask_loss_weight` of [`NegativeSFTConfig`]), from the columns
            `masks` and `mask_findings`. By default, masks are not collated.

    Raises:
        `ValueError`: if the processor reads no images or has no chat template; if a family without one is to be
            trained, or gets several pictures per volume; if the template does not use an argument of
            `chat_template_kwargs`; if a row lacks a column, has other things than PIL images as slices, or depths that
            do not rise; if a turn has parts that are no text; if a negative differs from its volume in the size or the
            number of slices; if only some rows of a batch have a negative; if the template does not separate an answer
            from its prompt.

    Example:

    ```python
    from ct_rate_pairs.trainer import PairCollator

    collator = PairCollator(processor)  # of Qwen2.5-VL
    list(collator(rows))  # rows of load_dataset("ct_rate_pairs", negative="heter")
    # ['input_ids', 'attention_mask', 'mm_token_type_ids', 'pixel_values_videos', 'video_grid_thw',
    #  'second_per_grid_ts', 'labels', 'volumes', 'negative_pixel_values_videos']
    model.generate(**collator.prompts(rows))
    ```
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        mm_per_second: float | None = None,
        chat_template_kwargs: dict | None = None,
        mask_names: Sequence[str] = (),
    ):
        if not isinstance(processor, ProcessorMixin) or "image_processor" not in processor.get_attributes():
            raise ValueError(
                f"{type(processor).__name__} reads no images, and a model without vision cannot learn from volumes: "
                "pass the processor of an image-text-to-text model, as AutoProcessor.from_pretrained loads it."
            )
        if mm_per_second is not None and not 0 < mm_per_second < math.inf:
            raise ValueError(f"mm_per_second={mm_per_second!r}: give a depth in mm above 0.")
        self.processor = processor
        self.mm_per_second = saved_mm_per_second(processor) if mm_per_second is None else mm_per_second
        self.takes_one_picture = takes_one_picture(processor)
        self.stacked = processor.image_processor.to_dict().get(STACKED)
        set_plain_template(processor)
        self.chat_template_kwargs = set_chat_template_kwargs(processor, chat_template_kwargs)
        self.mask_names = tuple(mask_names)
        self.takes_video = self._takes_video()
        self.pixels = "pixel_values_videos" if self.takes_video else "pixel_values"

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor | list[str]]:
        """
        Collate a training batch. The labels cover only the answer and its end-of-turn token (the paper's section 7).

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset. They are not changed.

        Returns:
            `dict[str, torch.Tensor | list[str]]`: with these entries.

            - `input_ids`, `attention_mask`, `labels` and the processor's `mm_token_type_ids` or `token_type_ids`, of
              shape `[B, T]`, padded on the right.
            - For a video: `pixel_values_videos` of shape `[patches, channels * 2 * patch * patch]`, `video_grid_thw`
              of shape `[B, 3]`, and for Qwen2.5-VL `second_per_grid_ts` of shape `[B]`, or `[B, frame pairs]` if
              slices are uneven.
            - For images, such as those of Gemma 3: `pixel_values` of shape `[slices, channels, side, side]`, the
              slices of all rows one after the other.
            - With negatives: `negative_pixel_values_videos` or `negative_pixel_values`, of the same shape.
            - With `mask_names`, and masks in all rows: `mask_shares`, `[merged patches, L, 2, cells, cells]`, see
              [`~ct_rate_pairs.trainer.mask_shares.mask_shares`]; NaN for a volume whose masks are not known.
            - `volumes`: names of the `B` volumes, for messages.
        """
        if self.takes_one_picture:
            raise ValueError(
                f"A model with a {type(self.processor).__name__} writes reports here, but is not trained, and the "
                "likelihood of a report is not measured: it has no chat template that says how an answer ends."
            )
        check_rows(rows, "completion", "volume", depths=self.takes_video, stacked=self.stacked)
        prompts = self._prompts(rows)
        answers = [self._answer(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        batch = self._process(prompts, rows)
        answer = self.processor.tokenizer(
            answers, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        )

        # As in TRL's collator of prompts and completions: [pad prompt | answer pad], then all padding moves right.
        along_text = {
            "input_ids": answer["input_ids"],
            # Without token types, Qwen silently uses one-dimensional positions, and Gemma a causal mask over images.
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
            batch[f"negative_{self.pixels}"] = self.negatives(rows)
        if self.mask_names and all("masks" in row for row in rows):  # rows that are only measured may have none
            batch[MASK_SHARES] = torch.cat([self._mask_shares(row) for row in rows])
        return batch

    def _mask_shares(self, row: dict[str, Any]) -> torch.Tensor:
        """What a mask head is to predict of a row: NaN if its masks are not known."""
        (width, height), number = row["images"][0].size, len(row["images"])
        shown = np.zeros((len(self.mask_names), number, height, width), np.float32)
        if row["masks"] is None:
            shown += np.nan
        for finding, slices in zip(row["mask_findings"] or (), row["masks"] or (), strict=True):
            if finding["finding"] in self.mask_names:
                own = shown[self.mask_names.index(finding["finding"])]
                np.maximum(own, np.stack([np.asarray(plane) for plane in slices]), out=own)
        video = self.processor.video_processor
        return mask_shares(shown, video.patch_size * video.merge_size, video.temporal_patch_size)

    def prompts(self, rows: list[dict[str, Any]], openings: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """
        Collate a generation batch: prompts that end where the answer begins, padded on the left, and no negatives.

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset. Only `images`, `slice_mm` and `prompt` are read.
            openings (`Sequence[str]`, *optional*):
                The beginning of each answer, from which the model goes on. The prompts end after it. An empty text
                leaves the whole answer to the model.

        Returns:
            `dict[str, torch.Tensor]`: the batch for `model.generate(**batch)`.
        """
        check_rows(rows, depths=self.takes_video, stacked=self.stacked)
        prompts = self._prompts(rows)
        if openings is not None:
            prompts = [self._begin(*each) for each in zip(rows, prompts, openings, strict=True)]
        return self._process(prompts, rows)

    def _takes_video(self) -> bool:
        # A video processor without patches along time resizes frames to a fixed square: then images are as good.
        if "video_processor" not in self.processor.get_attributes():
            return False
        if "temporal_patch_size" not in self.processor.video_processor.to_dict():
            return False
        turn = {"role": "user", "content": [{"type": "video"}]}
        return self.processor.video_token in self.processor.apply_chat_template([turn])

    def _prompts(self, rows: list[dict[str, Any]]) -> list[str]:
        """The prompts of the rows, up to the place where the answer begins."""
        return [self._render(row, row["prompt"]) for row in rows]

    def _answer(self, row: dict[str, Any], prompt: str) -> str:
        """The answer of a row with its end-of-turn token. `prompt` is that of [`_prompts`]."""
        completion = [turn | {"content": text_of(turn).strip()} for turn in row["completion"]]
        dialogue = self._render(row, [*row["prompt"], *completion])
        # Some templates (LLaVA-OneVision's) write other white space before an answer than at the end of a prompt. Then
        # the white space of the prompt counts, because that is what a model sees when it generates.
        begin = prompt if dialogue.startswith(prompt) else prompt.rstrip()
        answer, content = dialogue.removeprefix(begin).rstrip(), completion[0]["content"]
        answer = answer if begin == prompt else answer.lstrip()
        if not dialogue.startswith(begin) or not answer.lstrip(" ").startswith(content):
            raise ValueError(
                f"The chat template ends a prompt with {prompt[-40:]!r}, but writes a dialogue as "
                f"{dialogue[-len(answer) - 40 :][:120]!r}. So the answer cannot be told from its prompt. If this is a "
                "thinking model, pass chat_template_kwargs that turn thinking off, or use its instruct variant."
            )
        # What else the template writes after an answer, such as `</response>` or the newline after the end-of-turn
        # token, is not part of the answer: generation stops at the token.
        before, _, after = answer.partition(content) if content else ("", "", answer)
        return before + content + end_of_turn(self.processor.tokenizer, after)

    def _begin(self, row: dict[str, Any], prompt: str, opening: str) -> str:
        """A prompt with the opening of its answer, after the blanks that the template writes between the two."""
        if not opening:
            return prompt
        if begins_thought(prompt):
            raise ValueError(
                f"An answer that is to begin with {opening[:40]!r} would be a part of the model's thought. Turn "
                'thinking off: chat_template_kwargs={"enable_thinking": False}.'
            )
        answer = self._answer(row | {"completion": [{"role": "assistant", "content": opening}]}, prompt)
        return prompt + answer[: len(answer) - len(answer.lstrip(" "))] + opening

    def _render(self, row: dict[str, Any], turns: list[dict[str, str]]) -> str:
        """The prompt of a row, or its whole dialogue. The slices come before the text of the prompt's last turn."""
        # Some templates iterate over the content, so text must not be a plain string.
        turns = [{"role": t["role"], "content": [{"type": "text", "text": text_of(t)}]} for t in turns]
        question = turns[len(row["prompt"]) - 1]
        question["content"] = self._places(len(row["images"])) + question["content"]
        is_prompt = len(turns) == len(row["prompt"])
        return self.processor.apply_chat_template(turns, add_generation_prompt=is_prompt, **_kwargs_of(row))

    def _places(self, number: int) -> list[dict[str, str]]:
        """The places of `number` slices in the turn that asks, before the text of the question."""
        return [{"type": "video"}] if self.takes_video else [{"type": "image"}] * number

    def _process(self, prompts: list[str], rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = dict(
            self.processor(
                text=prompts,
                # A chat template has written special tokens already, a plain form has not.
                **({} if self.takes_one_picture else {"add_special_tokens": False}),
                padding=True,
                padding_side="left",
                return_tensors="pt",
                **self._slices(rows, "images"),
            )
        )
        if self.takes_one_picture:
            self._move_padding(batch)
        if "second_per_grid_ts" in batch:  # of Qwen2.5-VL
            batch["second_per_grid_ts"] = self._seconds_per_grid(batch["second_per_grid_ts"], rows)
        return batch

    @staticmethod
    def _move_padding(batch: dict[str, torch.Tensor]) -> None:
        """
        Moves padding to the left of the pictures' tokens, which BLIP-2's processor puts in front of padded text. What
        InstructBLIP's Q-Former reads is padded on the right, since its positions count from the left.
        """
        for start, on_left in (("", True), ("qformer_", False)):
            if (mask := batch.get(f"{start}attention_mask")) is not None:  # [B, P]
                order = mask.argsort(dim=1, descending=not on_left, stable=True)
                for name in ("input_ids", "attention_mask"):
                    batch[start + name] = batch[start + name].gather(1, order)

    def _seconds_per_grid(self, even: torch.Tensor, rows: list[dict[str, Any]]) -> torch.Tensor:
        """
        The seconds between merged frames, `[B]` as the processor gives them. If slices are uneven, `[B, G]`: the model
        multiplies these by 0, 1, ..., G - 1, so that each product is the time of one of the `G` merged frames.

        Even slices keep the one number, as every server and pipeline gives it. Then the last of an odd number of
        slices, which is repeated, has the time of a frame of two slices. Uneven slices follow that: the repeated slice
        counts as one that lies a mean distance deeper, so that uneven and even slices are told alike.
        """
        uneven = [self._uneven_places(row["slice_mm"]) for row in rows]
        if not any(uneven):
            return even
        if len({len(row["slice_mm"]) for row in rows}) > 1:
            raise ValueError("Uneven slices cannot be collated with other numbers of slices: collate them apart.")
        merged = self.processor.video_processor.temporal_patch_size
        numbers = torch.arange(-(-len(rows[0]["slice_mm"]) // merged))  # [G]
        seconds = even[:, None].repeat(1, len(numbers))  # [B, G]
        for own, places in zip(seconds, uneven, strict=True):
            if places:
                frames = torch.tensor(places + [places[-1] + 1] * (len(numbers) * merged - len(places)))
                grids = frames.view(-1, merged).mean(dim=1)  # [G]: in mean distances, of which `merged` take own[0] s
                own[1:] = ((grids - grids[0]) / merged * own[0] / numbers)[1:]
        return seconds

    def _slices(self, rows: list[dict[str, Any]], column: str) -> dict[str, Any]:
        """The processor's arguments for the slices in `column`."""
        if self.takes_one_picture:
            if any(len(row[column]) > 1 for row in rows):
                raise ValueError(
                    f"A model with a {type(self.processor).__name__} is shown one picture per scan: pass all slices "
                    "as one (--slices_as montage)."
                )
            return {"images": [row[column][0].convert("RGB") for row in rows]}
        if not self.takes_video:
            return {"images": [[image.convert("RGB") for image in row[column]] for row in rows]}
        # For lists of frames, qwen_vl_utils multiplies the patch size by the merge size twice, so it would round sides
        # to multiples of 56 (64 for Qwen3-VL). With half the patch size it rounds to multiples of 28 (32), which the
        # sides already are after `_pad`.
        patch_size = self.processor.video_processor.patch_size // 2
        turns = [{"content": [self._video(row[column], row["slice_mm"])]} for row in rows]
        _, videos, kwargs = process_vision_info(
            turns, image_patch_size=patch_size, return_video_kwargs=True, return_video_metadata=True
        )
        frames, metadata = zip(*videos, strict=True)
        for row, video, told in zip(rows, frames, metadata, strict=True):
            places = self._uneven_places(row["slice_mm"]) or list(range(len(row["slice_mm"])))
            told["frames_indices"] = self._repeat_last(places, len(video))
        return {"videos": list(frames), "video_metadata": list(metadata), "do_resize": False, **kwargs}

    @staticmethod
    def _gap_mm(slice_mm: list[float]) -> float:
        return (slice_mm[-1] - slice_mm[0]) / (len(slice_mm) - 1)

    def _uneven_places(self, slice_mm: list[float]) -> list[float]:
        """The places of uneven slices, in mean distances below the first; none if the slices are even."""
        places = [(mm - slice_mm[0]) / self._gap_mm(slice_mm) for mm in slice_mm]
        return places if max(abs(place - i) for i, place in enumerate(places)) > _EVEN else []

    @staticmethod
    def _repeat_last(places: list[float], frames: int) -> list[float]:
        """The places of all frames: of an odd number of slices the last is repeated, and lies where it lies."""
        return places + places[-1:] * (frames - len(places))

    def _video(self, slices: list[Image.Image], slice_mm: list[float]) -> dict[str, Any]:
        fps = self.mm_per_second / self._gap_mm(slice_mm)
        frames = [self._pad(image) for image in slices]
        width, height = frames[0].size
        # The area of the frame as the lower bound keeps qwen_vl_utils from resizing the frame.
        return {"type": "video", "video": frames, "sample_fps": fps, "raw_fps": fps, "min_pixels": width * height}

    def _pad(self, image: Image.Image) -> Image.Image:
        """Pad an image with air (0) around its centre, to sides that are multiples of a merged patch (28 or 32)."""
        side = self.processor.video_processor.patch_size * self.processor.video_processor.merge_size
        width, height = image.size
        new_width, new_height = -(-width // side) * side, -(-height // side) * side
        if (new_width, new_height) == (width, height):
            return image
        left, top = (width - new_width) // 2, (height - new_height) // 2
        return image.crop((left, top, left + new_width, top + new_height))  # outside of the image, `crop` gives 0

    def _have_negatives(self, rows: list[dict[str, Any]]) -> bool:
        with_negative = [bool(row.get("negative_images")) for row in rows]
        if any(with_negative) and not all(with_negative):
            without = rows[with_negative.index(False)]["volume"]
            raise ValueError(
                f"{without} has no negative_images, while other rows of its batch have: build the whole dataset with "
                'one value of `negative` ("none", "gauss" or "heter").'
            )
        return all(with_negative)

    def negatives(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        """
        The pixels of the negatives of some rows, with the grids and positions of the rows' volumes.

        Args:
            rows (`list[dict]`):
                Rows of the dataset. `images`, `negative_images`, `slice_mm` and the two names are read.

        Returns:
            `torch.Tensor`: the pixels, of the shape of the volumes' pixels.
        """
        for row in rows:
            shape, negative_shape = [[i.size for i in row[name]] for name in ("images", "negative_images")]
            if shape != negative_shape:
                raise ValueError(
                    f"{row['volume']}: {len(shape)} slices of {shape[0]} (width, height), but its negative "
                    f"{row['negative_volume'] or '(noise)'} has {len(negative_shape)} of {negative_shape[0]}. A pair "
                    "shares its grid and positions: crop or pad the negative to the volume's size."
                )
        # By the whole processor, because its image settings take precedence over those of its parts.
        slices = self._slices(rows, "negative_images")
        return self.processor(**slices, padding=True, return_tensors="pt")[self.pixels]


def _kwargs_of(row: dict[str, Any]) -> dict[str, Any]:
    """The column of TRL, without the arguments that `datasets` fills with `None` where a row has none."""
    return {name: value for name, value in (row.get("chat_template_kwargs") or {}).items() if value is not None}
