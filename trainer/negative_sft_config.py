"""Configuration of the trainer that learns from pairs."""

import logging
import math
from dataclasses import dataclass, field, fields

from trl import SFTConfig

from .idle_options import idle_training_options


logger = logging.getLogger(__name__)

GAP_LOSSES = ("hinge", "logistic", "info_nce")  # they need both losses of a pair at the same time
NEGATIVE_LOSSES = ("capped", "unlikelihood", *GAP_LOSSES)
PAIR_MODES = ("sequential", "joint")


@dataclass
class NegativeSFTConfig(SFTConfig):
    r"""
    Configuration class for the [`NegativeSFTTrainer`].

    This class includes only the parameters that are specific to training with negatives. For a full list of training
    arguments, please refer to the [`~trl.SFTConfig`] and [`~transformers.TrainingArguments`] documentation.

    Parameters:
        alpha (`float`, *optional*, defaults to `1.0`):
            Weight of the loss on the volume.
        beta (`float`, *optional*, defaults to `0.1`):
            Weight of the loss on the negative, which is maximised up to the cap (the paper's equation 4). `0.0` is
            plain supervised fine-tuning and needs no negatives.
        negative_loss (`str`, *optional*, defaults to `"capped"`):
            The term of the loss for the negative, see `trainer/loss.py`. `"capped"`: the paper's term.
            `"unlikelihood"`: unlikelihood training. `"hinge"`, `"logistic"` and `"info_nce"` use the gap between the
            two losses of a pair. `"info_nce"` compares each pair with all negatives of its micro-batch. So it is the
            only term that depends on `per_device_train_batch_size`; with a batch size of 1 it equals `"logistic"`.
        negative_temperature (`float`, *optional*, defaults to `0.1`):
            The gap that counts as one unit in `"logistic"` and `"info_nce"`, in nats per token.
        pair_mode (`str`, *optional*, defaults to `"sequential"`):
            `"sequential"`: first the forward and backward of the negative, then those of the volume. This takes no
            more memory than plain fine-tuning, and if all negatives of a batch are at the cap, their backward is
            skipped. `"joint"`: one forward over both, which the losses on the gap need. Under FSDP and DeepSpeed,
            training is always joint.
        max_negative_loss (`float`, *optional*, defaults to `2.0`):
            Cap of the negative loss of a pair, in nats per token (the paper's section 7.3). For `"hinge"`, the wanted
            gap, for which 0.2 is already much. A pair at or above the cap has no gradient. The paper gives no value.
            On the phantom (`docs/study.md`), a cap of 0.2 makes noise useless, because the loss on noise is above 1
            from the start; a cap of 1 or more is never reached with volumes of other patients.
        negative_start_ratio (`float`, *optional*, defaults to `0.0`):
            Share of the training steps during which the weight of the negative is 0. A model that cannot read volumes
            yet only unlearns language from negatives, so the phantom demo waits for 0.8 of its steps.
        negative_warmup_ratio (`float`, *optional*, defaults to `0.0`):
            Share of the training steps, after those, over which the weight of the negative grows linearly from 0 to
            `beta`.
        negative_share (`float`, *optional*, defaults to `1.0`):
            Share of the steps that have negatives. These steps are drawn at random, from the seed and the number of
            the step, so all processes and a resumed training draw the same. The weight of the negative at such a step
            is divided by the share, so the expected gradient is that of a share of 1. The other steps are steps of
            plain fine-tuning, and take as long. The workers read the negatives of all rows, though: they do not know
            the step of a row. Mutual partners (`partner_sampling="mutual"`) are not read.
        global_batch_size (`int`, *optional*):
            Pairs per optimizer step, over all processes. It sets `gradient_accumulation_steps`, so that a run on 1, 2
            or 8 GPUs takes the same steps.
        freeze_vision (`bool`, *optional*, defaults to `False`):
            Whether the vision tower stays as it is. In Qwen's models, the tower includes the projector. The trainer
            refuses adapters in the tower then.

        label_loss_weight (`float`, *optional*, defaults to `0.0`):
            Weight of the loss of a label head, see [`~ct_rate_pairs.trainer.label_head.LabelHead`]: a linear layer
            from the hidden state at the end of the prompt to the 18 labels of the row. It is trained beside the
            report, and saved beside the model. A row without labels adds nothing. With 0, there is no head.
        mask_loss_weight (`float`, *optional*, defaults to `0.0`):
            Weight of the loss of a mask head, see [`~ct_rate_pairs.trainer.mask_head.MaskHead`]: a linear layer on the
            vision tower that predicts where each finding is. It needs rows with masks. With `0.0` there is no head.
            The head costs next to nothing, and the report is written without it.

    > [!NOTE]
    > These parameters have default values different from [`~trl.SFTConfig`]:
    > - `max_length`: Defaults to `None` instead of `1024`, which would cut visual tokens.
    > - `remove_unused_columns`: Defaults to `False` instead of `True`, which would drop the negatives.
    """

    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Maximum length of the tokenized sequence. Must stay `None`: a cut would take visual tokens."
        },
    )
    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Whether to remove columns that the model's forward does not name. Must stay `False`."},
    )
    # transformers 5.23 renamed `gradient_checkpointing`. Both names work with every version of transformers. The
    # default is TRL's.
    activation_checkpointing: bool | None = field(
        default=None, metadata={"help": "Other name of `gradient_checkpointing`. If both are given, this one counts."}
    )
    activation_checkpointing_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Other name of `gradient_checkpointing_kwargs`."}
    )
    alpha: float = field(default=1.0, metadata={"help": "Weight of the loss on the volume."})
    beta: float = field(
        default=0.1,
        metadata={
            "help": "Weight of the loss on the negative, which is maximised up to the cap. `0.0` is plain supervised "
            "fine-tuning and needs no negatives."
        },
    )
    negative_loss: str = field(
        default="capped",
        metadata={
            "help": "Term for the negative: capped (the paper's), unlikelihood, hinge, logistic or info_nce.",
            "choices": list(NEGATIVE_LOSSES),
        },
    )
    negative_temperature: float = field(
        default=0.1,
        metadata={"help": "Gap that counts as one unit in logistic and info_nce, in nats per token."},
    )
    pair_mode: str = field(
        default="sequential",
        metadata={
            "help": "sequential: backward of the negative before the forward of the volume, with the memory of plain "
            "fine-tuning. joint: one forward over both.",
            "choices": list(PAIR_MODES),
        },
    )
    max_negative_loss: float = field(
        default=2.0,
        metadata={
            "help": "Cap of the negative loss of a pair, in nats per token. A pair at or above the cap has no "
            "gradient. The paper gives no value; noise is above 1 from the start."
        },
    )
    negative_start_ratio: float = field(
        default=0.0,
        metadata={"help": "Share of the training steps during which the weight of the negative is 0."},
    )
    negative_warmup_ratio: float = field(
        default=0.0,
        metadata={
            "help": "Share of the training steps, after those, over which the weight of the negative grows to `beta`."
        },
    )
    negative_share: float = field(
        default=1.0,
        metadata={
            "help": "Share of the steps with negatives, drawn at random. Their weight is divided by the share. The "
            "other steps cost as much as plain fine-tuning."
        },
    )

    global_batch_size: int | None = field(
        default=None,
        metadata={"help": "Pairs per optimizer step, over all processes. Sets `gradient_accumulation_steps`."},
    )
    freeze_vision: bool = field(
        default=False,
        metadata={"help": "Do not train the vision tower, which in Qwen's models includes the projector."},
    )
    label_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the loss of a label head, from the hidden state at the end of the prompt to the 18 "
            "labels. 0: no head."
        },
    )
    mask_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the loss of a head on the vision tower that predicts where findings are. Needs masks."
        },
    )

    def __post_init__(self):
        given = dict(vars(self))
        for old, new in (
            ("gradient_checkpointing", "activation_checkpointing"),
            ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        ):
            value = getattr(self, old) if getattr(self, new) is None else getattr(self, new)
            setattr(self, old, value)
            setattr(self, new, value)
        super().__post_init__()
        self._set_accumulation()
        self._check_weights()
        self._check_pairs()
        self._check_steps()
        if not self.max_negative_loss > 0:  # as NaN is not
            raise ValueError(
                f"`max_negative_loss` must be above 0 nats per token, got {self.max_negative_loss}. To train without "
                "negatives, set `beta=0`."
            )
        if self.max_length is not None:
            raise ValueError(
                f"`max_length` must be None, got {self.max_length}: the collator does not truncate, since a cut would "
                "take visual tokens. For less memory, lower `num_slices` or the in-plane resolution of the dataset."
            )
        if self.remove_unused_columns:
            raise ValueError("`remove_unused_columns` must be False: it would drop `negative_images` and `slice_mm`.")
        if self.loss_type != "nll" or self.label_smoothing_factor > 0:
            raise ValueError(
                "The two losses of a pair are plain token cross-entropies: use `loss_type='nll'` and "
                "`label_smoothing_factor=0`."
            )
        if self.assistant_only_loss or self.completion_only_loss is False:
            raise ValueError(
                "The loss always covers the completion alone: leave `assistant_only_loss` and `completion_only_loss` "
                "at their defaults."
            )
        for name, reason in idle_options(self).items():
            if given[name] != DEFAULTS[name]:
                logger.warning("%s=%s has no effect: %s.", name, given[name], reason)

    def _check_weights(self) -> None:
        for name in ("alpha", "beta", "label_loss_weight", "mask_loss_weight"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be a finite number, got {getattr(self, name)}.")
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative, got {getattr(self, name)}: the loss is alpha * positive - beta * "
                    "negative + the losses of the heads, so the minus sign is already there."
                )
        if self.alpha == self.beta == 0:
            raise ValueError("`alpha` and `beta` are both 0, so the loss is 0 and nothing learns: set one of them.")

    def _set_accumulation(self) -> None:
        if self.global_batch_size is None:
            return
        if self.auto_find_batch_size:
            raise ValueError(
                f"`auto_find_batch_size` changes the batch during the training, so that a step would no longer have "
                f"`global_batch_size` ({self.global_batch_size}) pairs. Leave one of the two out."
            )
        batch = self.per_device_train_batch_size * self.world_size
        if self.global_batch_size < 1 or self.global_batch_size % batch:
            raise ValueError(
                f"`global_batch_size` ({self.global_batch_size}) must be a multiple of the pairs that are taken at "
                f"once: {self.world_size} x `per_device_train_batch_size` ({self.per_device_train_batch_size})."
            )
        steps = self.global_batch_size // batch
        if self.gradient_accumulation_steps not in (1, steps):
            raise ValueError(
                f"`global_batch_size` {self.global_batch_size} means `gradient_accumulation_steps` {steps} here, but "
                f"{self.gradient_accumulation_steps} is given. Give one of the two options, not both."
            )
        self.gradient_accumulation_steps = steps

    def _check_steps(self) -> None:
        for name in ("negative_start_ratio", "negative_warmup_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a share of the training steps, from 0 to 1, got {getattr(self, name)}.")
        if self.negative_start_ratio == 1 and self.beta > 0:
            raise ValueError(
                "`negative_start_ratio` is 1, so no step would have a negative: lower it, or set `beta=0`."
            )
        if self.negative_start_ratio + self.negative_warmup_ratio > 1:
            raise ValueError(
                f"`negative_start_ratio` ({self.negative_start_ratio}) and `negative_warmup_ratio` "
                f"({self.negative_warmup_ratio}) add up to more than 1: `beta` would never be reached. Lower one of "
                "them."
            )
        if not 0 < self.negative_share <= 1:
            raise ValueError(
                f"`negative_share` is a share of the steps, above 0 and at most 1, got {self.negative_share}. To "
                "train without negatives, set `beta=0`."
            )

    def _check_pairs(self) -> None:
        for name, choices in (("negative_loss", NEGATIVE_LOSSES), ("pair_mode", PAIR_MODES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {getattr(self, name)}.")
        if self.negative_loss in GAP_LOSSES and self.pair_mode != "joint":
            raise ValueError(
                f"`negative_loss={self.negative_loss!r}` compares the two losses of a pair, so it needs both at the "
                "same time: set `pair_mode='joint'`."
            )
        if not 0 < self.negative_temperature < math.inf:
            raise ValueError(f"`negative_temperature` must be above 0 nats, got {self.negative_temperature}.")


# Options of TRL for datasets and collators that this trainer does not have: a `PairCollator` makes its batches.
OF_OTHER_COLLATORS = (
    "dataset_text_field",
    "dataset_kwargs",
    "dataset_num_proc",
    "truncation_mode",
    "shuffle_dataset",
    "packing_strategy",
    "eval_packing",
    "pad_to_multiple_of",
    "pad_token",
)
DEFAULTS = {option.name: option.default for option in fields(NegativeSFTConfig)}


def idle_options(config: NegativeSFTConfig) -> dict[str, str]:
    """
    The options whose value does not matter beside the other options of a configuration.

    Args:
        config ([`NegativeSFTConfig`]):
            A configuration. It warns of such an option if the value is not the default.

    Returns:
        `dict[str, str]`: maps the name of each option to the reason.
    """
    idle = idle_training_options(config)
    idle |= dict.fromkeys(OF_OTHER_COLLATORS, "the rows of this trainer are neither packed, truncated nor mapped")
    if config.beta == 0:
        of_pairs = ("negative_loss", "pair_mode", "max_negative_loss", "negative_temperature")
        of_steps = ("negative_start_ratio", "negative_warmup_ratio", "negative_share")
        idle |= dict.fromkeys((*of_pairs, *of_steps), "beta is 0, so no negative is trained on")
    if config.negative_loss not in ("logistic", "info_nce"):
        idle["negative_temperature"] = f"negative_loss={config.negative_loss} has no temperature"
    if config.negative_loss not in ("capped", "hinge"):
        idle["max_negative_loss"] = f"negative_loss={config.negative_loss} has no cap"
    return {name: reason for name, reason in idle.items() if name in DEFAULTS}  # older versions of TRL lack some
