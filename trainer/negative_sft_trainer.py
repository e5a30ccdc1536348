"""Supervised fine-tuning that also makes a report unlikely where its visual evidence is absent."""

from typing import Any, NamedTuple

import torch
from accelerate.utils import DistributedType
from datasets import Dataset, IterableDataset
from trl import SFTTrainer

from .loss import capped_cross_entropy, negative_weight, pair_cross_entropy
from .negative_sft_config import NegativeSFTConfig


NEGATIVE = "negative_pixel_values_videos"
REMEDY = 'load the dataset with negative="gauss" or negative="heter", or set `beta=0`.'
# What is added up between two logs, over tokens or pairs; "paired" is what was also scored on a negative
SUMS = ("positive", "tokens", "paired_positive", "negative", "paired_tokens", "capped", "pairs")


class NegativeTerm(NamedTuple):
    """The negatives of a batch: their loss, and cross-entropy, tokens and whether it is capped for each pair."""

    loss: torch.Tensor  # []
    cross_entropy: torch.Tensor  # [B]
    tokens: torch.Tensor  # [B]
    capped: torch.Tensor  # [B]


class NegativeSFTTrainer(SFTTrainer):
    """
    Trainer for supervised fine-tuning with a negative constraint (the paper's sections 7.1 to 7.3).

    It minimises `alpha * L_pos - beta * L_neg`. `L_pos` is the loss of [`~trl.SFTTrainer`]: the cross-entropy of the
    report given its volume. `L_neg` is the cross-entropy of the same report given the negative (noise, or a volume
    with other labels), capped pair by pair at `max_negative_loss` nats a token. Both are sums over tokens divided by
    the number of report tokens of the whole optimizer step, so the way a step is split into micro-batches and
    processes does not matter. With `beta=0`, training is that of [`~trl.SFTTrainer`] bit for bit, given the same
    collator and `model_accepts_loss_kwargs`.

    Beside the logs of [`~trl.SFTTrainer`], training and evaluation log (the means over all tokens, or pairs, since the
    last log):

    - `loss_pos`: cross-entropy given the volumes, in nats a token.
    - `loss_neg`: cross-entropy given the negatives, in nats a token, without the cap.
    - `margin`: `loss_neg - loss_pos` on the same pairs. Near 0, the report owes nothing to the volume.
    - `capped_share`: share of the pairs whose negative is at or past the cap.
    - `beta`: weight of the negative at the last step.

    A training step whose weight is 0 spends nothing on negatives; if all steps since the last log are such, only
    `loss_pos` and `beta` are logged. Evaluation scores the negatives whenever a batch has them, and its loss always
    takes the full `beta`, so that evaluations before and after the ramp can be compared.

    The negative has its own forward and backward ahead of the volume's, so memory stays that of plain fine-tuning.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.SFTTrainer`].
        args ([`NegativeSFTConfig`]):
            Configuration for this trainer.
        kwargs:
            The arguments of [`~trl.SFTTrainer`]; `data_collator` is a [`PairCollator`].

    Raises:
        ValueError: if `beta` is above 0 and the training dataset, or a batch, has no negatives.
        NotImplementedError: if `beta` is above 0 under FSDP or DeepSpeed.

    Example:

    ```python
    >>> import ct_rate_pairs
    >>> from datasets import load_dataset
    >>> from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator

    >>> trainer = NegativeSFTTrainer(
    ...     model=model,
    ...     args=NegativeSFTConfig(output_dir="runs/heter", beta=0.1),
    ...     train_dataset=load_dataset("ct_rate_pairs", negative="heter", split="train", data_dir="phantom"),
    ...     data_collator=PairCollator(processor),
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    ```
    """

    def __init__(self, model, args: NegativeSFTConfig, *, train_dataset: Dataset | IterableDataset, **kwargs):
        if args.beta > 0:
            self._check_columns(train_dataset, args.beta)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        if args.beta > 0 and self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise NotImplementedError(
                f"Negatives under {self.accelerator.distributed_type} are not supported: their backward is skipped "
                "rank by rank and must not step the optimizer. Use plain data parallelism (DDP), or set `beta=0`."
            )
        # Qwen2.5-VL's class says False. Trainer would then not count the tokens of the whole optimizer step, each
        # micro-batch would be averaged on its own, and how a batch is split would change the loss.
        self.model_accepts_loss_kwargs = True
        self._sums = {mode: torch.zeros(len(SUMS), device=self.args.device) for mode in ("train", "eval")}

    @staticmethod
    def _check_columns(train_dataset: Dataset | IterableDataset, beta: float) -> None:
        # A transform makes its columns on access, and a stream may not know its own: there the first batch tells.
        if isinstance(train_dataset, Dataset) and train_dataset.format["type"] == "custom":
            return
        columns = train_dataset.column_names
        if columns is not None and "negative_images" not in columns:
            raise ValueError(f"`beta` is {beta}, but the training dataset has no column negative_images: {REMEDY}")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        Compute the loss of a batch of pairs. In training, the negatives' part of the gradient is added on the way.

        Returns:
            `torch.Tensor` or `tuple`: `alpha * L_pos - beta * L_neg`, whose graph is that of `L_pos` alone, and the
            outputs on the volumes if `return_outputs`.
        """
        training = self.model.training
        beta = self._beta_of_this_step() if training else self.args.beta
        positive = {name: value for name, value in inputs.items() if name != NEGATIVE}
        if training and self.args.beta > 0 and NEGATIVE not in inputs:
            raise ValueError(f"`beta` is {self.args.beta}, but a batch has no negatives: {REMEDY}")

        tokens = (inputs["labels"][:, 1:] != -100).sum()
        # What makes a sum over tokens a loss, as in `SFTTrainer.compute_loss`
        scale = 1 / torch.as_tensor(tokens if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            scale = scale * (self.accelerator.num_processes // self.get_tp_size())

        negative = None
        if NEGATIVE in inputs and (beta > 0 or not training):
            negative = self._negative(model, {**positive, "pixel_values_videos": inputs[NEGATIVE]}, beta, scale)

        outputs = None
        loss = super().compute_loss(model, positive, return_outputs, num_items_in_batch)
        if return_outputs:
            loss, outputs = loss
        self._add_to_sums(loss.detach() / scale, tokens, negative)
        self._metrics["train" if training else "eval"]["beta"] = [beta]

        loss = self.args.alpha * loss
        if negative is not None:
            loss = loss - beta * negative.loss
        return (loss, outputs) if return_outputs else loss

    def _beta_of_this_step(self) -> float:
        args = self.args
        return negative_weight(
            self.state.global_step,
            self.state.max_steps,
            args.beta,
            start_ratio=args.negative_start_ratio,
            warmup_ratio=args.negative_warmup_ratio,
        )

    def _negative(self, model, inputs: dict[str, Any], beta: float, scale: torch.Tensor) -> NegativeTerm:
        """Score the negatives and, in training, add the gradient of `-beta * L_neg`."""
        # The gradients wait for the volumes' backward, which is the one that synchronises the processes.
        with self.accelerator.no_sync(model):
            outputs = model(**inputs, fused_lm_head=True)
            cross_entropy, tokens = pair_cross_entropy(outputs.log_probs, outputs.label_mask)  # [B], [B]
            capped = cross_entropy >= self.args.max_negative_loss  # [B]
            loss = (capped_cross_entropy(cross_entropy, self.args.max_negative_loss) * tokens).sum() * scale
            if self.model.training and not capped.all():
                self.accelerator.backward(-beta * loss)
        return NegativeTerm(loss.detach(), cross_entropy.detach(), tokens, capped)

    def _add_to_sums(self, positive_sum: torch.Tensor, tokens: torch.Tensor, negative: NegativeTerm | None) -> None:
        mode = "train" if self.model.training else "eval"
        paired = [0.0] * 5
        if negative is not None:
            negative_sum = (negative.cross_entropy * negative.tokens).sum()
            paired = [positive_sum, negative_sum, tokens, negative.capped.sum(), len(negative.capped)]
        # On the device, without waiting for it
        new = [torch.as_tensor(value, device=tokens.device).float() for value in (positive_sum, tokens, *paired)]
        self._sums[mode] += torch.stack(new)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        # Sums, not means of means: a long report, or a fuller batch, counts by its tokens. One reduction a log.
        sums = dict(zip(SUMS, self.accelerator.reduce(self._sums[mode], reduction="sum").tolist(), strict=True))
        self._sums[mode].zero_()
        if sums["tokens"] > 0:
            self._metrics[mode]["loss_pos"] = [sums["positive"] / sums["tokens"]]
        if sums["pairs"] > 0:
            self._metrics[mode]["loss_neg"] = [sums["negative"] / sums["paired_tokens"]]
            margin = (sums["negative"] - sums["paired_positive"]) / sums["paired_tokens"]
            self._metrics[mode]["margin"] = [margin]
            self._metrics[mode]["capped_share"] = [sums["capped"] / sums["pairs"]]
        super().log(logs, start_time)

    def create_model_card(self, *args, **kwargs) -> None:
        """Write nothing: the card needs the evaluation's numbers, and TRL would overwrite it at each checkpoint."""
