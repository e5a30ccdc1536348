"""Supervised fine-tuning that also makes a report unlikely if its visual evidence is absent."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate.utils import DistributedType
from datasets import Dataset, IterableDataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import ProcessorMixin
from trl import SFTTrainer

from ct_rate_pairs.readable_rows import ReadableRows
from ct_rate_pairs.readers import has_reader

from .callbacks import NewNegativesEachEpoch
from .finite import FiniteTrainer, NonFiniteLossError
from .heads import OutputWithHeads
from .label_head import TARGETS, LabelTargets, attach_label_head, label_loss
from .loss import has_negatives, negative_weight, pair_cross_entropy
from .mask_head import attach_mask_head, mask_loss
from .model_files import ModelFilesTrainer
from .mutual_pairs import PARTNERS, MutualPairs, mutual_reader
from .negative_sft_config import GAP_LOSSES, NegativeSFTConfig
from .negative_term import NegativeTerm, negative_term
from .pair_collator import MASK_SHARES, PairCollator
from .pair_sums import SUMS, metrics_of, sums_of
from .preconditions import REMEDY, check_columns, check_embeddings, check_mutual_batch, check_upload, check_vision
from .row_settings import RowSettings, settings_of_dataset
from .vision_features import ENCODED, VisionFeatures, inputs_of_rows, takes_features, volumes_of_pixels
from .what_learns import (
    check_frozen_vision,
    check_what_learns,
    format_what_learns,
    freeze_unread,
    vision_tower,
    what_learns,
)


logger = logging.getLogger(__name__)

NEGATIVE = "negative_"  # `negative_X` of a batch replaces `X` when the negatives are scored
VOLUMES = "volumes"  # key of a batch with the names of its volumes, for messages


class Pairs(NamedTuple):
    """The inputs of the two forwards of a batch."""

    positive: dict[str, Any]  # of the volumes
    rows: list[int]  # the rows that have a negative
    negative: dict[str, Any]  # of the negatives, one for each of `rows`
    features: VisionFeatures | None = None  # of the volumes, if both forwards share them
    leaves: VisionFeatures | None = None  # the same, cut from the graph of the tower, as `negative` has them
    serving: list[int] | None = None  # the places of the negatives in `features`


@contextmanager
def outputs_of(model: torch.nn.Module) -> Iterator[list]:
    """Collects what the forwards of a model return, which `SFTTrainer.compute_loss` keeps for itself."""
    collected: list = []
    hook = model.register_forward_hook(lambda module, inputs, outputs: collected.append(outputs))
    try:
        yield collected
    finally:
        hook.remove()


class NegativeSFTTrainer(ModelFilesTrainer, FiniteTrainer, SFTTrainer):
    """
    Trainer for supervised fine-tuning with a negative constraint (the paper's sections 7.1 to 7.3).

    The trainer minimises `alpha * L_pos - beta * L_neg`. `L_pos` is the loss of [`~trl.SFTTrainer`]: the cross-entropy
    of the report given its volume. `L_neg` is the cross-entropy of the same report given the negative (noise, or a
    partner volume), capped for each pair at `max_negative_loss` nats per token. The option `negative_loss` replaces
    `L_neg` by another term. Both losses are sums over tokens, divided by the number of report tokens of the whole
    optimizer step. So it does not matter how a step is split into micro-batches and processes. With `beta=0`, the
    training equals [`~trl.SFTTrainer`] bit for bit, if that has the same collator and `model_accepts_loss_kwargs`.

    In addition to [`~trl.SFTTrainer`], training and evaluation log these values. Means are taken over all tokens, or
    over all pairs, since the last log.

    - `loss_pos`: cross-entropy given the volumes, in nats per token.
    - `loss_neg`: cross-entropy given the negatives, in nats per token, without the cap.
    - `margin`: `loss_neg - loss_pos` on the same pairs. If it is near 0, the model does not use the volume.
    - `capped_share`: share of the pairs whose negative is at or above the cap (for the hinge: the wanted gap).
    - `paired_share`: with mutual partners, share of the volumes of a batch that have a partner.
    - `loss_labels`: in training, cross-entropy of the label head, in nats per label.
    - `loss_mask`: cross-entropy and Dice loss of the mask head, see [`~ct_rate_pairs.trainer.mask_head.mask_loss`].
    - `beta`: weight of the negative at the last step; with `negative_share`, its mean over the draws.
    - `volumes_per_second`, `tokens_per_second`: over all processes, since the last log.

    With several processes, the last batch of an evaluation may be filled up with rows that then count twice.

    A training step with a weight of 0 spends no time on negatives. If all steps since the last log are such steps,
    only `loss_pos` and `beta` are logged. An evaluation scores the negatives if a batch has them. Its loss always uses
    the full `beta`, so that evaluations before and after the ramp can be compared.

    With `pair_mode="sequential"`, the forward and backward of the negative come before those of the volume, so the
    memory is that of plain fine-tuning. With `pair_mode="joint"`, there is one forward for both, with twice the
    activations. The gradients are the same. A joint step does not log entropy, token accuracy and `num_tokens`. Models
    that FSDP or DeepSpeed shard are always trained jointly.

    With rows of `partner_sampling="mutual"`, the volumes of a micro-batch are each other's negatives, see
    [`~ct_rate_pairs.trainer.mutual_pairs.MutualPairs`]. No further volume is read. The vision tower runs once over the
    volumes, forward and backward, and both forwards of the language model share its features; the gradients are those
    of two passes of the tower. Only a partner that had to be fitted to another grid takes a pass of its own. Volumes
    without a partner (all others are of the same patient, or have the same labels) have no negative. The features are
    not shared if the model is sharded, or takes no features in place of pixels; that is told.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.SFTTrainer`].
        args ([`NegativeSFTConfig`]):
            Configuration for this trainer.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows of `ct_rate_pairs`.
        data_collator ([`PairCollator`]):
            Makes batches from the rows. It finds a row with a missing negative, or with a negative of another size,
            only when it makes the batch of this row.
        processing_class ([`~transformers.ProcessorMixin`], *optional*):
            Processor that is saved with the model. By default, that of `data_collator`.
        row_settings ([`~ct_rate_pairs.trainer.row_settings.RowSettings`], *optional*):
            How the rows were made. The settings are saved with each checkpoint and with the model. By default, they
            are those of `train_dataset`, if it is a map-style dataset of `ct_rate_pairs`. Give them for a stream.
        kwargs:
            The other arguments of [`~trl.SFTTrainer`].

    Raises:
        `ValueError`: if `beta` is above 0 and the training dataset, or a batch, has no negatives; if the model takes
            no images; if partners are mutual and a batch has one volume; if the model has tied embeddings and was
            sharded at load time; if `push_to_hub` is set; if `freeze_vision` is set and an adapter in the vision tower
            would learn; if an adapter is trained on other rows than its base model.
        [`~ct_rate_pairs.trainer.finite.NonFiniteError`]: if a loss or the norm of a gradient is NaN or infinite (the
            weights are those of the step before), or if such weights would be saved or resumed from.

    Example:

    ```python
    import ct_rate_pairs
    from datasets import load_dataset
    from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator

    trainer = NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(output_dir="runs/heter", beta=0.1),
        train_dataset=load_dataset("ct_rate_pairs", negative="heter", split="train", data_dir="phantom"),
        data_collator=PairCollator(processor),
    )
    trainer.train()
    ```
    """

    def __init__(
        self,
        model,
        args: NegativeSFTConfig,
        *,
        train_dataset: Dataset | IterableDataset,
        data_collator: PairCollator,
        processing_class: ProcessorMixin | None = None,
        row_settings: RowSettings | None = None,
        **kwargs,
    ):
        check_upload(args)
        if args.beta > 0:
            check_columns(train_dataset, args.beta)
        kwargs |= {"data_collator": data_collator, "processing_class": processing_class or data_collator.processor}
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.add_callback(NewNegativesEachEpoch(train_dataset))
        check_vision(self.model, data_collator.pixels)
        if self.is_distributed_loading_by_transformers:
            check_embeddings(self.model)
        if args.freeze_vision:
            if not isinstance(self.model, PeftModel):  # PEFT has frozen all weights of the model but its own
                vision_tower(self.model).requires_grad_(False)
            check_frozen_vision(self.model)
        self.row_settings = row_settings or settings_of_dataset(train_dataset)
        self.mask_head, self.label_head = None, None
        heads = [name for name in ("mask_loss_weight", "label_loss_weight") if getattr(args, name) > 0]
        if heads and self.is_distributed_loading_by_transformers:
            raise ValueError(
                f"`{heads[0]}` needs a model that is not sharded as it is loaded: shard it by accelerate "
                "(recipes/accelerate/fsdp2.yaml), or leave the option out."
            )
        if args.mask_loss_weight > 0:
            if not data_collator.mask_names:
                raise ValueError(
                    f"`mask_loss_weight` is {args.mask_loss_weight}, but the collator has no `mask_names`."
                )
            self.mask_head = attach_mask_head(self.model, data_collator.mask_names)
        if args.label_loss_weight > 0:
            self.label_head = attach_label_head(self.model)
        self.heads = [head for head in (self.mask_head, self.label_head) if head is not None]
        self.mark_model()
        self.joint = args.pair_mode == "joint"
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        sharded = sharded or self.is_distributed_loading_by_transformers
        # With a sharded model, the tower alone has no weights outside of a forward of the whole model.
        if not sharded:
            freeze_unread(self.model)
        self.shares_features = not sharded and takes_features(self.model)
        self.mutual = mutual_reader(train_dataset) if args.beta > 0 else None
        if self.mutual is not None:
            check_mutual_batch(args)
            if not self.shares_features:
                logger.warning(
                    "The vision tower sees each volume twice, as a volume and as a negative: %s.",
                    "the model is sharded" if sharded else "the model takes no features in place of pixels",
                )
        if sharded and not self.joint and args.beta > 0:
            # With a sharded model, a separate backward for the negative would step the optimizer, or would wait for
            # ranks that skip their backward.
            logger.warning("A sharded model is trained with pair_mode='joint'.")
            self.joint = True
        # The class of Qwen2.5-VL says False. Trainer would then average each micro-batch separately, and not over the
        # tokens of the whole optimizer step, so the loss would depend on how a step is split into micro-batches.
        self.model_accepts_loss_kwargs = True
        self._sums = {mode: torch.zeros(len(SUMS), device=self.args.device) for mode in ("train", "eval")}
        self._last_log = time.monotonic()

    def _get_dataloader(self, dataset: Dataset | IterableDataset, **kwargs) -> DataLoader:
        # With `on_error="skip"`, a scan that cannot be read must not end the training. A stream leaves it out itself.
        if isinstance(dataset, Dataset) and has_reader(dataset):
            dataset = ReadableRows(dataset)
        return super()._get_dataloader(dataset, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """
        The batches of the training, as [`~transformers.Trainer`] makes them; with mutual partners and with the labels
        of the rows if so set.
        """
        collator = self.data_collator
        if self.mutual is not None:  # not of evaluations: their rows have negatives
            self.data_collator = MutualPairs(self.data_collator, self.mutual.air)
        if self.label_head is not None:  # nor of these: their loss is that of the text
            self.data_collator = LabelTargets(self.data_collator)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        Compute the loss of a batch of pairs. A sequential training step also adds the gradient of the negatives.

        Returns:
            `torch.Tensor` or `tuple`: `alpha * L_pos - beta * L_neg`, and the losses of the heads; with
            `return_outputs`, also the outputs for the volumes. The graph of the loss has all terms in a joint step,
            and all but `L_neg` in a sequential step.

        Raises:
            `ValueError`: if `beta` is above 0 and a training batch has no negatives.
            `NonFiniteLossError`: if a loss is NaN or infinite.
        """
        training = self.model.training
        expected_beta = self._beta_of_this_step() if training else self.args.beta
        share = self.args.negative_share if training else 1.0
        beta = expected_beta / share if has_negatives(self.state.global_step, share, self.args.seed) else 0.0
        volumes = inputs.get(VOLUMES)
        if training:
            self.volumes_of_step = [*self.volumes_of_step, *(volumes or ())]
        negatives = {name.removeprefix(NEGATIVE): value for name, value in inputs.items() if name.startswith(NEGATIVE)}
        partners = inputs.get(PARTNERS)
        positive = {
            name: value
            for name, value in inputs.items()
            if name not in (VOLUMES, PARTNERS, MASK_SHARES, TARGETS) and not name.startswith(NEGATIVE)
        }
        if training and self.args.beta > 0 and not negatives and partners is None:
            raise ValueError(f"`beta` is {self.args.beta}, but a batch has no negatives: {REMEDY}")

        tokens = (inputs["labels"][:, 1:] != -100).sum()
        # The factor from a sum over tokens to a loss, as in `SFTTrainer.compute_loss`.
        scale = 1 / torch.as_tensor(tokens if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            scale = scale * (self.accelerator.num_processes // self.get_tp_size())

        # The same in all processes, so that all take the same way, and gather the same.
        scored = bool(negatives or partners is not None) and (beta > 0 or not training)
        pairs, outputs, negative, paired_positive, feature_scale = None, None, None, None, None
        joint = scored and training and self.joint
        if scored:
            pairs = self._pairs(model, positive, negatives, partners)
            positive = pairs.positive
            if pairs.rows and not joint:
                negative, feature_scale = self._sequential(model, pairs, beta, scale)
        with outputs_of(model) as forwards:  # after that of the negatives, whose graph would stay in memory with it
            if joint:
                loss, negative, paired_positive = self._joint(model, pairs, scale)
            else:
                loss = super().compute_loss(model, positive, return_outputs, num_items_in_batch)
                if return_outputs:
                    loss, outputs = loss
                if negative is not None:
                    paired_positive = self._cross_entropies(forwards[-1])[0].detach()[pairs.rows]  # [P]
        self._check_finite(loss, negative, volumes)
        counts = (tokens, len(inputs["labels"]), inputs["attention_mask"].sum())
        matched = len(partners) if scored and partners is not None else 0
        mode = "train" if training else "eval"
        self._sums[mode] += sums_of(loss.detach() / scale, *counts, negative, paired_positive, matched)
        self._metrics[mode]["beta"] = [expected_beta]

        loss = self.args.alpha * loss
        if negative is not None:
            loss = loss + beta * negative.loss
            if pairs.leaves is not None and feature_scale is not None:
                loss = loss + pairs.features.carry_gradient(pairs.leaves, feature_scale)
        if self.heads:  # micro-batches count by their tokens, as in the loss of the reports
            loss = loss + tokens * scale * self._loss_of_heads(forwards[-1], inputs)
        return (loss, outputs) if return_outputs else loss

    def _loss_of_heads(self, outputs: OutputWithHeads, inputs: dict[str, Any]) -> torch.Tensor | float:
        """The weighted losses of the heads on the volumes of a batch; negatives come after these in the outputs."""
        total = 0.0
        if self.label_head is not None and TARGETS in inputs:
            targets = inputs[TARGETS]
            of_labels = label_loss(outputs.label_logits[: len(targets)], targets)
            self._log_head("loss_labels", of_labels)
            total = total + self.args.label_loss_weight * of_labels
        if self.mask_head is not None and (self.model.training or MASK_SHARES in inputs):
            of_masks = self._mask_loss(outputs, inputs)
            self._log_head("loss_mask", of_masks)
            total = total + self.args.mask_loss_weight * of_masks
        return total

    def _mask_loss(self, outputs: OutputWithHeads, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss of the mask head."""
        if MASK_SHARES not in inputs:
            named = ", ".join(inputs.get(VOLUMES) or ["a batch"])
            raise ValueError(f"{named}: no column masks. Load the dataset with `masks`, or set `mask_loss_weight=0`.")
        shares, grids = inputs[MASK_SHARES], inputs["video_grid_thw"]
        merged = self.data_collator.processor.video_processor.merge_size**2
        return mask_loss(outputs.mask_logits[: len(shares)], shares, (grids.prod(dim=1) // merged).tolist())

    def _log_head(self, name: str, loss: torch.Tensor) -> None:
        """Keeps the mean of a loss over the processes for the next log."""
        mean = self.accelerator.gather(loss.detach()).mean().item()
        self._metrics["train" if self.model.training else "eval"][name].append(mean)

    def _beta_of_this_step(self) -> float:
        """The expected weight of the negatives: with `negative_share`, the mean over the draws of the step."""
        args = self.args
        return negative_weight(
            self.state.global_step,
            self.state.max_steps,
            args.beta,
            start_ratio=args.negative_start_ratio,
            warmup_ratio=args.negative_warmup_ratio,
        )

    def _pairs(
        self, model, positive: dict[str, Any], negatives: dict[str, torch.Tensor], partners: list[int] | None
    ) -> Pairs:
        """The inputs of the two forwards, from those of the volumes and from the pixels of negatives."""
        pixels, number = self.data_collator.pixels, len(positive["input_ids"])
        if partners is None:
            return Pairs(positive, list(range(number)), positive | negatives)

        rows = [row for row, partner in enumerate(partners) if partner >= 0]
        serving = [partners[row] for row in rows]
        texts, fitted = inputs_of_rows(positive, rows), negatives.get(pixels)
        fitted_rows = [row for row in rows if partners[row] >= number]
        if not self.shares_features:
            volumes = volumes_of_pixels(positive[pixels], positive)
            if fitted is not None:
                volumes += volumes_of_pixels(fitted, inputs_of_rows(positive, fitted_rows))
            served = torch.cat([positive[pixels][:0], *(volumes[partner] for partner in serving)])
            return Pairs(positive, rows, texts | {pixels: served})

        with self.accelerator.autocast():
            unwrapped = self.accelerator.unwrap_model(model)
            features = VisionFeatures.of(unwrapped, positive, pixels, fitted, fitted_rows)
        leaves = features.leaves()
        volumes = {name: value for name, value in positive.items() if name != pixels}
        return Pairs(
            volumes | {ENCODED: features.outputs(range(number))},
            rows,
            texts | {ENCODED: leaves.outputs(serving)},
            features,
            leaves,
            serving,
        )

    def _sequential(
        self, model, pairs: Pairs, beta: float, scale: torch.Tensor
    ) -> tuple[NegativeTerm, torch.Tensor | None]:
        """
        Score the negatives and, in training, add the gradient of their term. Also returns the factor by which that
        backward has scaled the gradients (float16); `None` without a backward.
        """
        # The processes are synchronised only in the later backward of the volumes.
        with self.accelerator.no_sync(model):
            forward = partial(model, use_cache=False, fused_lm_head=True)
            outputs, volumes = forward(**pairs.negative), None
            if self.args.negative_loss in GAP_LOSSES:  # only in evaluation: training with these losses is joint
                volumes = self._cross_entropies(forward(**pairs.positive))[0][pairs.rows]
            term = negative_term(self.args, volumes, *self._scores(outputs), scale)
            factor = None
            if self.model.training and not term.capped.all():
                one = torch.ones((), device=term.loss.device, requires_grad=True)
                self.accelerator.backward(beta * term.loss + (one - one.detach()))
                factor = one.grad
        return term._replace(loss=term.loss.detach()), factor

    def _joint(self, model, pairs: Pairs, scale: torch.Tensor) -> tuple[torch.Tensor, NegativeTerm, torch.Tensor]:
        """
        `L_pos` and the term of the negatives, both with their graph, from one forward over both; and the volumes'
        cross-entropy, where there is a negative, `[P]`.
        """
        number = len(pairs.positive["input_ids"])
        both = {
            name: torch.cat([value, pairs.negative[name]]) for name, value in pairs.positive.items() if name != ENCODED
        }
        if pairs.features is not None:
            both[ENCODED] = pairs.features.outputs([*range(number), *pairs.serving])
        log_probs, mask = self._scores(model(**both, use_cache=False, fused_lm_head=True))  # [B + P, T]
        cross_entropy, tokens = pair_cross_entropy(log_probs[:number], mask[:number])
        paired = cross_entropy[pairs.rows]
        term = negative_term(self.args, paired, log_probs[number:], mask[number:], scale)
        return (cross_entropy * tokens).sum() * scale, term, paired.detach()

    def _cross_entropies(self, outputs) -> tuple[torch.Tensor, torch.Tensor]:
        return pair_cross_entropy(*self._scores(outputs))

    @staticmethod
    def _scores(outputs) -> tuple[torch.Tensor, torch.Tensor]:
        return outputs.log_probs, outputs.label_mask

    def _check_finite(self, loss: torch.Tensor, negative: NegativeTerm | None, volumes: list[str] | None) -> None:
        """
        Stops the training at a loss that is NaN or infinite: `logging_nan_inf_filter` would hide it, and the optimizer
        would spread it over all weights.
        """
        # Without the cap, which would hide an infinite loss on a negative.
        for kind, value in (("volumes", loss), ("negatives", negative and negative.cross_entropy.sum())):
            if value is not None and not torch.isfinite(value):
                raise NonFiniteLossError(
                    f"Step {self.state.global_step + 1}: the loss on the {kind} is {value.item()}, in the batch of "
                    f"{', '.join(volumes or ['unnamed volumes'])}. Look at these volumes; if they are sound, lower "
                    "`learning_rate` or `max_grad_norm`, and resume from the last checkpoint."
                )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, as [`~trl.SFTTrainer`] does, and add the values of this class."""
        mode = "train" if self.model.training else "eval"
        sums = self.accelerator.reduce(self._sums[mode], reduction="sum")
        self._sums[mode].zero_()
        for name, value in metrics_of(sums).items():
            self._metrics[mode][name] = [value]
        volumes, attended = (sums[SUMS.index(name)].item() for name in ("volumes", "attended"))
        if mode == "train" and volumes > 0:
            now = time.monotonic()
            self._metrics[mode]["volumes_per_second"] = [volumes / (now - self._last_log)]
            self._metrics[mode]["tokens_per_second"] = [attended / (now - self._last_log)]
            self._last_log = now
        super().log(logs, start_time)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Evaluate, as [`~transformers.Trainer`] does."""
        start = time.monotonic()
        metrics = super().evaluate(*args, **kwargs)
        self._last_log += time.monotonic() - start  # the throughput is that of training, without evaluations
        return metrics

    def create_model_card(self, *args, **kwargs) -> None:
        """Write no card: the card needs the final evaluation, and TRL would overwrite it at each checkpoint."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """
        Train, as [`~transformers.Trainer`] does. `resume_from_checkpoint=True` resumes from the last complete
        checkpoint in `output_dir`. An incomplete checkpoint, left by a process that was killed, is not used.

        Before the first step, the trainer prints how many parameters of each part of the model learn.

        Raises:
            `ValueError`: if `resume_from_checkpoint` is `True` and `output_dir` has no complete checkpoint; if no
                parameter of the model, or of its adapters, learns; if the checkpoint was trained on other rows.
        """
        check_what_learns(self.model)
        if self.is_world_process_zero():
            print(format_what_learns(what_learns(self.model)), flush=True)
        self._last_log = time.monotonic()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
