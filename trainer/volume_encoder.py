"""
Image encoders in three dimensions, from MONAI: the slices of a volume are one stack, and each sees its neighbours.

LLaVA's class of transformers asks its encoder for the tokens of each image. So the feature maps of all stages are
averaged over one grid, which has a plane for each slice, and are put side by side: the tokens of a slice tell of it
and, by the deep stages, of its surroundings. The first stages keep what is small, as the skips of a U-Net do.

Importing this file makes its models known to `AutoConfig` and `AutoModel`. MONAI is needed only to make or load one.
"""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool3d
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


NETWORKS = ("swin_unetr", "resnet3d")
STAGES = 4
MOST_FEATURES = 192  # four times those of SwinUNETR's release: MONAI makes all weights before any are loaded
MOST = 4096  # of slices, tokens along a side, channels and pixels


class VolumeEncoderConfig(PreTrainedConfig):
    """
    Configuration of a [`VolumeEncoder`].

    Args:
        network (`str`, *optional*, defaults to `"swin_unetr"`):
            `"swin_unetr"`: the encoder of SwinUNETR (Hatamizadeh et al., 2022, arXiv:2201.01266), a Swin transformer
            with windows of 7 x 7 x 7; `"resnet3d"`: the residual encoder of SegResNet (Myronenko, 2018,
            arXiv:1810.11654), with group norm, because batch norm would mix volumes and negatives.
        num_slices (`int`, *optional*, defaults to `10`):
            Slices of a volume.
        grid (`tuple[int, int]`, *optional*, defaults to `(3, 3)`):
            Tokens of a slice, down and across.
        feature_size (`int`, *optional*, defaults to `12`):
            Features of the first stage; each later stage has twice as many. SwinUNETR's release has 48.
        num_channels (`int`, *optional*, defaults to `3`):
            Channels of a slice.
        image_size (`tuple[int, int]`, *optional*, defaults to `(96, 96)`):
            Height and width of a slice in pixels.

    Raises:
        `ValueError`: for another network, and for sizes that no model has.
    """

    model_type = "ct_volume_encoder"

    def __init__(
        self,
        network: str = "swin_unetr",
        num_slices: int = 10,
        grid: tuple[int, int] = (3, 3),
        feature_size: int = 12,
        num_channels: int = 3,
        image_size: tuple[int, int] = (96, 96),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if network not in NETWORKS:
            raise ValueError(f"network={network!r:.80}: give {' or '.join(NETWORKS)}.")
        sizes = {"num_slices": [num_slices], "grid": grid, "num_channels": [num_channels], "image_size": image_size}
        for name, values in (sizes | {"feature_size": [feature_size]}).items():
            most = MOST_FEATURES if name == "feature_size" else MOST
            if not all(type(value) is int and 1 <= value <= most for value in values):
                raise ValueError(f"{name}: give whole numbers from 1 to {most}.")
        self.network, self.num_slices, self.grid = network, num_slices, grid
        self.feature_size, self.num_channels, self.image_size = feature_size, num_channels, image_size
        maps = STAGES + 1 if network == "swin_unetr" else STAGES  # the patches of a Swin transformer come before them
        self.hidden_size = sum(feature_size * 2**stage for stage in range(maps))


class VolumeEncoder(PreTrainedModel):
    """
    An encoder of MONAI that reads all slices of a volume at once.

    Args:
        config ([`VolumeEncoderConfig`]):
            The network and its sizes.

    Raises:
        `ImportError`: if MONAI is not installed.
    """

    config_class = VolumeEncoderConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True  # LLaVA passes on the choice of its language model; MONAI has its own attention

    def __init__(self, config: VolumeEncoderConfig):
        super().__init__(config)
        with torch.device("cpu"):  # MONAI computes while it builds, which it cannot on the meta device
            self.network = make_network(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """MONAI's own weights stay."""

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor`):
                The slices of `B` volumes, one volume after the other, of shape `[B * num_slices, C, H, W]`.

        Returns:
            `BaseModelOutput`: the tokens of each slice, of shape `[B * num_slices, tokens, hidden_size]`, also as the
            only hidden state.

        Raises:
            `ValueError`: if the slices are not those of whole volumes.
        """
        slices = self.config.num_slices
        if len(pixel_values) % slices:
            raise ValueError(
                f"{len(pixel_values)} slices are no whole volumes: this model was made for {slices} slices per "
                f"volume. Pass --num_slices {slices}."
            )
        stacks = pixel_values.unflatten(0, (-1, slices)).transpose(1, 2)  # [B, C, slices, H, W]
        maps = [adaptive_avg_pool3d(found, (slices, *self.config.grid)) for found in self.network(stacks)]
        tokens = torch.cat(maps, dim=1).permute(0, 2, 3, 4, 1)  # [B, slices, down, across, hidden_size]
        tokens = tokens.flatten(2, 3).flatten(0, 1)
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def make_network(config: VolumeEncoderConfig) -> nn.Module:
    """The network of MONAI, which maps `[B, C, D, H, W]` to a list of feature maps, one per stage."""
    try:
        from monai.networks.nets.segresnet_ds import SegResEncoder  # noqa: PLC0415
        from monai.networks.nets.swin_unetr import SwinTransformer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "monai":
            raise
        raise ImportError(
            f"The image encoder {config.network!r} needs MONAI: pip install 'ct-rate-pairs[monai]'."
        ) from None
    if config.network == "swin_unetr":
        return SwinTransformer(
            in_chans=config.num_channels,
            embed_dim=config.feature_size,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2,) * STAGES,
            num_heads=tuple(max(config.feature_size * 2**stage // 16, 1) for stage in range(STAGES)),
        )
    return SegResEncoder(
        init_filters=config.feature_size,
        in_channels=config.num_channels,
        norm=("group", {"num_groups": 4}),
        blocks_down=(1,) * STAGES,
    )


AutoConfig.register(VolumeEncoderConfig.model_type, VolumeEncoderConfig)
AutoModel.register(VolumeEncoderConfig, VolumeEncoder)
