"""Reinforcement on rewards of whole reports (GRPO), with the inputs of the supervised training."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import PeftModel
from torch.nn.functional import pad
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from ct_rate_pairs.readable_rows import ReadableRows
from ct_rate_pairs.reports.texts import text_of

from .callbacks import NewNegativesEachEpoch
from .chat_template import end_of_answers
from .finite import FiniteTrainer
from .model_files import ModelFilesTrainer
from .pair_collator import PairCollator
from .preconditions import check_upload, check_vision
from .row_settings import RowSettings, settings_of_dataset
from .what_learns import check_what_learns, format_what_learns, freeze_unread, what_learns


START = "ref"  # TRL's name of the adapter that the training starts from
ROWS = "rows"  # key of a batch with the row of each of its completions
SLICES = ("images", "negative_images")  # columns that TRL must not see: it would make images of the slices


class ReportGRPOTrainer(ModelFilesTrainer, FiniteTrainer, GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] for models that read a scan as [`PairCollator`] shows it.

    Several reports of each scan are drawn from the model. Rewards score them, and the model learns to write those
    that are better than the mean of their scan. Loss, sampling and logs are those of TRL.

    TRL itself knows images and no videos. A model of this package that reads a scan as a video would be shown each
    slice as an image, with other tokens and without depths: it would be another model. So here, the collator of the
    supervised training makes all inputs: those of the drawing, and those of the log-probabilities. Both are the
    same, and the same as in [`NegativeSFTTrainer`]. A model that reads slices as images (Gemma 3) gets images.

    A reward is a function as [`~trl.GRPOTrainer`] calls it, see [`~ct_rate_pairs.eval.rewards`]. Besides the columns
    of the rows, it gets:

    - `reference` (`list[str]`): the completion of each row, with its findings line. TRL keeps `completion` to itself.
    - `cut` (`list[bool]`): whether the text met `max_completion_length` before its end.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to be trained. It must have learnt to write reports.
        reward_funcs (`Sequence[Callable]`):
            The rewards. Their weights are `reward_weights` of `args`.
        args ([`~trl.GRPOConfig`]):
            Configuration of TRL for this trainer.
        train_dataset ([`~datasets.Dataset`]):
            Map-style rows of `ct_rate_pairs`.
        data_collator ([`PairCollator`]):
            Makes the inputs from the rows. Its processor is saved with the model.
        row_settings ([`~ct_rate_pairs.trainer.row_settings.RowSettings`], *optional*):
            How the rows were made, as for [`NegativeSFTTrainer`]. By default, the settings of `train_dataset`.
        kwargs:
            The other arguments of [`~trl.GRPOTrainer`].

    Raises:
        `ValueError`: for options that [`check_options`] refuses; if the model is sharded, or takes no images; if an
            adapter is trained on other rows than its base model.
        [`~ct_rate_pairs.trainer.finite.NonFiniteError`]: as [`NegativeSFTTrainer`].

    Example:

    ```python
    collator = PairCollator(processor)
    trainer = ReportGRPOTrainer(model, [label_f1_reward], args, train_dataset=rows, data_collator=collator)
    trainer.train()
    ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reward_funcs: Sequence[Callable],
        args: GRPOConfig,
        *,
        train_dataset: Dataset,
        data_collator: PairCollator,
        row_settings: RowSettings | None = None,
        **kwargs,
    ):
        check_upload(args)
        check_options(args)
        # A drawn token that stands for slices would ask for more slices than the scan has.
        stand_for_slices = [model.config.image_token_id]
        if data_collator.takes_video:
            stand_for_slices.append(model.config.video_token_id)
        args.generation_kwargs = {"suppress_tokens": stand_for_slices} | (args.generation_kwargs or {})
        kwargs |= {"train_dataset": train_dataset, "processing_class": data_collator.processor}
        super().__init__(model=model, reward_funcs=list(reward_funcs), args=args, **kwargs)
        check_whole(self.accelerator.distributed_type)
        end = end_of_answers(data_collator.processor)  # which ends a text in evaluations, too
        if end is not None and end not in self.eos_token_ids:
            self.eos_token_ids = [*self.eos_token_ids, end]
            self.generation_config.eos_token_id = self.generation_kwargs["eos_token_id"] = self.eos_token_ids
        check_vision(self.model, data_collator.pixels)
        freeze_unread(self.model)
        self.add_callback(NewNegativesEachEpoch(train_dataset))
        self.data_collator = data_collator
        self.row_settings = row_settings or settings_of_dataset(train_dataset)
        self.heads = []
        self.mark_model()
        self._rows: list[dict] = []  # of the texts that are drawn or scored now

    def _get_dataloader(self, dataset: Dataset, **kwargs):
        # The collator is for the inputs of the model, which are made when there are completions.
        collator, self.data_collator = self.data_collator, plain_rows
        try:
            return super()._get_dataloader(ReadableRows(dataset), **kwargs)
        finally:
            self.data_collator = collator

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        self._rows = inputs
        told = [
            {name: value for name, value in row.items() if name not in SLICES}
            | {"reference": text_of(row["completion"][-1])}
            for row in inputs
        ]
        # TRL shuffles and splits the values of this dict together.
        return super()._generate_and_score_completions(told) | {ROWS: inputs}

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict[str, torch.Tensor]]:
        batch = self.data_collator.prompts(self._rows)
        tokens, mask = batch.pop("input_ids"), batch.pop("attention_mask").bool()  # [B, P], padded on the left
        return [own[known].tolist() for own, known in zip(tokens, mask, strict=True)], None, batch

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list) -> torch.Tensor:
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        marked = [row | {"cut": ids[-1] not in ends} for row, ids in zip(inputs, completion_ids_list, strict=True)]
        return super()._calculate_rewards(marked, prompts, completions, completion_ids_list)

    def _compute_loss(self, model, inputs: dict) -> torch.Tensor:
        self._rows = inputs[ROWS]
        if self.model.training:
            volumes = [row["volume"] for row in self._rows]
            self.volumes_of_step = [*self.volumes_of_step, *dict.fromkeys(volumes)]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        # As TRL's method, but for the inputs of the slices.
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            part = slice(start, start + size)
            tokens, mask = input_ids[part], attention_mask[part]  # [b, P + C]
            labels = tokens.masked_fill(mask == 0, -100)
            labels[:, :-logits_to_keep] = -100
            inputs = self._with_slices(self._rows[part], tokens, logits_to_keep)
            with self.accelerator.autocast():
                outputs = model(**inputs, attention_mask=mask, labels=labels, fused_lm_head=True)
            log_probs.append(outputs.log_probs[:, -logits_to_keep:])
            if compute_entropy:
                entropies.append(outputs.entropy[:, -logits_to_keep:])
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _with_slices(self, rows: list[dict], tokens: torch.Tensor, completion: int) -> dict[str, torch.Tensor]:
        """The inputs of the model for prompts and completions, `tokens` `[b, P + C]` with `C = completion`."""
        inputs = self.data_collator.prompts(rows)
        # [b, P']: other rows of the batch may have longer prompts.
        around = tokens.shape[1] - completion - inputs["input_ids"].shape[1], completion
        del inputs["input_ids"], inputs["attention_mask"]
        types = {name: pad(value, around) for name, value in inputs.items() if name.endswith("token_type_ids")}
        return {"input_ids": tokens} | {name: value.to(tokens.device) for name, value in (inputs | types).items()}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        # TRL's copy of an adapter that goes on, to measure the distance (KL) from: PEFT has saved it, too.
        if isinstance(self.model, PeftModel) and START in self.model.peft_config and self.args.should_save:
            shutil.rmtree(Path(output_dir or self.args.output_dir, START))

    def create_model_card(self, *args, **kwargs) -> None:
        """Write no card: TRL would overwrite it at each checkpoint."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """Train, as [`NegativeSFTTrainer`] does: first, it is printed how many parameters learn."""
        check_what_learns(self.model)
        if self.is_world_process_zero():
            print(format_what_learns(what_learns(self.model)), flush=True)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)


def plain_rows(rows: list[dict]) -> list[dict]:
    """The rows with plain lists, because accelerate makes each list of a batch anew, from its content alone."""
    return [{name: list(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows]


def check_options(args: GRPOConfig) -> None:
    """Raises a `ValueError` for options of TRL that this trainer cannot follow. The message names the remedy."""
    if args.use_vllm or args.use_transformers_continuous_batching:
        name = "use_vllm" if args.use_vllm else "use_transformers_continuous_batching"
        raise ValueError(
            f"`{name}`: TRL hands that engine images and no video with depths, so it would draw the reports of "
            "another model. Leave the option out."
        )
    if args.log_completions_hub_repo is not None:
        raise ValueError(
            "`log_completions_hub_repo` would publish the drawn reports while the model trains. Leave it out: "
            "--log_completions true keeps them in the folder of the run."
        )
    if not (math.isfinite(args.beta) and args.beta >= 0):
        raise ValueError(
            f"`beta` is {args.beta}, but here it is the weight of the distance (KL) to the model that the training "
            "starts from: give 0 or more. There are no negatives in this training."
        )
    if args.remove_unused_columns:
        raise ValueError("`remove_unused_columns` must be False: it would drop `slice_mm`, and what rewards read.")


def check_whole(distributed_type: DistributedType) -> None:
    """Raises a `ValueError` for a sharded model."""
    if distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"{distributed_type.value} shards the model, and drawing reports from a sharded model is not tested here. "
            "Give each process a whole model (recipes/accelerate/ddp.yaml), and if it is too large for that, train "
            "adapters: --use_peft true, with --load_in_4bit true if need be."
        )
