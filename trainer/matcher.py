"""
A dual encoder: it maps a scan and a report to vectors of the same space, and their cosine says how well they match.

The dual encoder is a light baseline for a vision-language model. It scores reports and cannot write them.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils import ModelOutput


IMAGE_TOWERS = ("cnn3d", "clip_middle_slice", "clip_all_slices")
LARGEST_SCALE = math.log(100)  # as in CLIP: "to prevent scaling the logits by more than 100" (section 2.5)


class MatcherConfig(PreTrainedConfig):
    """
    Configuration of a [`MatcherModel`].

    Args:
        image_tower (`str`, *optional*, defaults to `"cnn3d"`):
            `"cnn3d"`: [`Simple3DCNN`] on the stack of slices. `"clip_middle_slice"`: a CLIP vision model on the middle
            slice (stage 1). `"clip_all_slices"`: the mean of a CLIP vision model over all slices (stage 2).
        image_size (`tuple[int, int]`, *optional*, defaults to `(480, 480)`):
            Height and width of the slices, in pixels. Slices are cropped or padded with air around their centre. They
            are not resampled, so that a pixel keeps its size in mm, as in CT-CLIP. A CLIP tower then resizes the
            slices to its own square.
        num_channels (`int`, *optional*, defaults to `1`):
            Channels of the slices: 1 for one window, 3 for three windows.
        cnn_widths (`tuple[int, ...]`, *optional*, defaults to `(32, 64, 128, 256)`):
            Channels of the blocks of the CNN, multiples of 8. Each block halves height and width.
        cnn_grid (`tuple[int, int, int]`, *optional*, defaults to `(5, 3, 3)`):
            Depth, height and width of the grid into which the CNN pools, so that the model can tell sides and lobes
            apart.
        projection_dim (`int`, *optional*, defaults to `512`):
            Length of the vectors.
        logit_scale_init_value (`float`, *optional*, defaults to `2.6592`):
            Logarithm of the initial inverse temperature, 1 / 0.07 as in CLIP.
        text_config (`dict` or [`~transformers.BertConfig`], *optional*):
            Configuration of the text tower.
        vision_config (`dict` or [`~transformers.CLIPVisionConfig`], *optional*):
            Configuration of the image tower, if it is a CLIP vision model.

    Raises:
        `ValueError`: if `image_tower` is unknown.
    """

    model_type = "ct_matcher"
    sub_configs: ClassVar = {"text_config": BertConfig, "vision_config": CLIPVisionConfig}

    image_tower: str = "cnn3d"
    image_size: list[int] | tuple[int, ...] = (480, 480)
    num_channels: int = 1
    cnn_widths: list[int] | tuple[int, ...] = (32, 64, 128, 256)
    cnn_grid: list[int] | tuple[int, ...] = (5, 3, 3)
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592
    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        if self.image_tower not in IMAGE_TOWERS:
            raise ValueError(f"image_tower={self.image_tower!r}: choose one of {', '.join(IMAGE_TOWERS)}.")
        for name, config_class in self.sub_configs.items():
            part = getattr(self, name)
            if not isinstance(part, PreTrainedConfig):
                setattr(self, name, config_class(**part or {}))
        super().__post_init__(**kwargs)


class Simple3DCNN(nn.Module):
    """
    3D convolutions on the stack of slices, `[B, C, S, H, W]` -> `[B, D]`.

    Slices are far apart (30 mm in CT-RATE) and pixels are close together, so each block halves height and width and
    keeps the depth. Each cell of the grid gives its mean and its maximum, because the mean would dilute a small
    finding.

    Args:
        config ([`MatcherConfig`]):
            Configuration of the model.
    """

    def __init__(self, config: MatcherConfig):
        super().__init__()
        channels = (config.num_channels, *config.cnn_widths)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv3d(before, after, kernel_size=3, stride=(1, 2, 2), padding=1),
                    nn.GroupNorm(after // 8, after),  # unlike batch norm, the same in training and in evaluation
                    nn.GELU(),
                )
                for before, after in pairwise(channels)
            )
        )
        self.mean = nn.AdaptiveAvgPool3d(tuple(config.cnn_grid))
        self.maximum = nn.AdaptiveMaxPool3d(tuple(config.cnn_grid))
        self.out_features = 2 * config.cnn_widths[-1] * math.prod(config.cnn_grid)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Slices `[B, C, S, H, W]` in [-1, 1] -> features `[B, D]`."""
        features = self.blocks(pixel_values)  # [B, C, S, H / 2^blocks, W / 2^blocks]
        return torch.cat([self.mean(features), self.maximum(features)], dim=1).flatten(1)


class CLIPSlices(nn.Module):
    """
    A CLIP vision model on the middle slice, or on all slices, whose features are averaged.

    Args:
        config ([`MatcherConfig`]):
            Configuration of the model.
        clip ([`~transformers.CLIPVisionModel`], *optional*):
            Pretrained CLIP vision model. Untrained by default.
    """

    def __init__(self, config: MatcherConfig, clip: CLIPVisionModel | None = None):
        super().__init__()
        self.clip = clip or CLIPVisionModel(config.vision_config)
        self.middle_only = config.image_tower == "clip_middle_slice"
        self.side = config.vision_config.image_size
        self.out_features = config.vision_config.hidden_size

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Slices `[B, C, S, H, W]` in [-1, 1] -> features `[B, D]`."""
        if self.middle_only:
            middle = pixel_values.shape[2] // 2
            pixel_values = pixel_values[:, :, middle : middle + 1]
        batch = len(pixel_values)
        slices = pixel_values.transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)  # [B * S, 3, H, W]
        slices = F.interpolate(slices, size=(self.side, self.side), mode="bilinear", antialias=True)
        mean, std = (slices.new_tensor(of_clip)[:, None, None] for of_clip in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
        pooled = self.clip(((slices + 1) / 2 - mean) / std).pooler_output  # [B * S, D]
        return pooled.unflatten(0, (batch, -1)).mean(dim=1)


@dataclass
class MatcherOutput(ModelOutput):
    """
    Output of a [`MatcherModel`].

    Args:
        loss (`torch.Tensor` of shape `[]`, *optional*):
            [`contrastive_loss`] of the batch.
        logits_per_image (`torch.Tensor` of shape `[B, B]`):
            Cosine of each scan (row) and each report (column), divided by the temperature.
        image_embeds (`torch.Tensor` of shape `[B, D]`):
            Vectors of the scans, of length 1.
        text_embeds (`torch.Tensor` of shape `[B, D]`):
            Vectors of the reports, of length 1.
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None


def contrastive_loss(logits: torch.Tensor, same_text: torch.Tensor | None = None) -> torch.Tensor:
    r"""
    CLIP's loss: the mean of two cross-entropies, one for finding the report of each scan in the batch, and one for
    finding the scan of each report.

    Args:
        logits (`torch.Tensor` of shape `[B, B]`):
            Scores of scans (rows) and reports (columns). The pairs are on the diagonal.
        same_text (`torch.Tensor` of shape `[B, B]`, *optional*):
            Whether two reports of the batch have the same text. The report of a healthy scan fits every healthy scan,
            so a scan and another scan's report with the same text count neither as a match nor as a negative.

    Returns:
        `torch.Tensor`: the loss in nats. Guessing gives \\(\log B\\).
    """
    if same_text is not None:
        others = same_text & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(others, -torch.inf)
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


class MatcherModel(PreTrainedModel):
    """
    Dual encoder of chest CT scans and reports.

    An MLP maps age and sex to a vector, which is added to the vector of the scan. The temperature is learned and
    clipped as in CLIP.

    Args:
        config ([`MatcherConfig`]):
            Configuration of the model.
        text_model ([`~transformers.BertModel`], *optional*):
            Pretrained text tower that fits `config.text_config`. Untrained by default.
        vision_model ([`~transformers.CLIPVisionModel`], *optional*):
            Pretrained image tower that fits `config.vision_config`. Untrained by default.

    Example:

    ```python
    from ct_rate_pairs.trainer.matcher import MatcherModel
    from ct_rate_pairs.trainer.matcher_collator import MatcherCollator

    model = MatcherModel.from_pretrained("runs/matcher")
    collator = MatcherCollator.from_pretrained("runs/matcher")
    model(**collator(rows)).logits_per_image  # [B, B]
    ```
    """

    config_class = MatcherConfig
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")

    def __init__(
        self,
        config: MatcherConfig,
        text_model: BertModel | None = None,
        vision_model: CLIPVisionModel | None = None,
    ):
        super().__init__(config)
        if config.image_tower == "cnn3d":
            self.vision_model = Simple3DCNN(config)
        else:
            self.vision_model = CLIPSlices(config, vision_model)
        self.text_model = text_model or BertModel(config.text_config, add_pooling_layer=False)
        self.visual_projection = nn.Linear(self.vision_model.out_features, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.metadata_mlp = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, config.projection_dim))
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def embed_images(self, pixel_values: torch.Tensor, metadata: torch.Tensor) -> torch.Tensor:
        """Slices `[B, C, S, H, W]` in [-1, 1] and `metadata` `[B, 4]` -> vectors of length 1, `[B, D]`."""
        projected = self.visual_projection(self.vision_model(pixel_values))
        return F.normalize(projected + self.metadata_mlp(metadata), dim=-1)

    def embed_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Texts `[B, T]` -> vectors of length 1, `[B, D]`, from the mean over the tokens of each text."""
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, T, D]
        mask = attention_mask[..., None].to(states.dtype)
        return F.normalize(self.text_projection((states * mask).sum(dim=1) / mask.sum(dim=1)), dim=-1)

    def forward(
        self,
        pixel_values: torch.Tensor,
        metadata: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        same_text: torch.Tensor | None = None,
        return_loss: bool = True,
    ) -> MatcherOutput:
        """
        Scores scans against reports.

        Args:
            pixel_values (`torch.Tensor` of shape `[B, C, S, H, W]`):
                Slices in [-1, 1], superior first.
            metadata (`torch.Tensor` of shape `[B, 4]`):
                Age in centuries, whether the age is known, whether the patient is male, whether female.
            input_ids (`torch.Tensor` of shape `[B, T]`):
                Tokens of the reports.
            attention_mask (`torch.Tensor` of shape `[B, T]`):
                1 on the tokens of the reports, 0 on padding.
            same_text (`torch.Tensor` of shape `[B, B]`, *optional*):
                Whether two reports have the same text, see [`contrastive_loss`].
            return_loss (`bool`, *optional*, defaults to `True`):
                Whether to compute the loss. The reports must then be those of the scans, in the same order.

        Returns:
            [`MatcherOutput`]: the loss, the scores and the vectors.
        """
        if self.training:
            # The value is clamped outside of the graph: inside, a clamped scale would have no gradient and stay there.
            with torch.no_grad():
                self.logit_scale.clamp_(0, LARGEST_SCALE)
        images = self.embed_images(pixel_values, metadata)
        texts = self.embed_texts(input_ids, attention_mask)
        logits = self.logit_scale.exp() * images @ texts.T
        loss = contrastive_loss(logits, same_text) if return_loss else None
        return MatcherOutput(loss=loss, logits_per_image=logits, image_embeds=images, text_embeds=texts)
