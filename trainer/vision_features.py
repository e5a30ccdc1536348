"""What the vision tower makes of the volumes of a batch, computed once for several forwards of the model."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from peft import PeftModel
from transformers.utils import ModelOutput


ENCODED = "mm_encoder_outputs"  # argument of a model's forward: the features of the tower, in place of the pixels
_GRIDS = {"video": "video_grid_thw", "image": "image_grid_thw"}


def takes_features(model: torch.nn.Module) -> bool:
    """Whether the forward of a model takes the features of its vision tower in place of the pixels."""
    return ENCODED in inspect.signature(_base_of(model).forward).parameters


def volumes_of_pixels(pixels: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The pixels of each volume of a batch. The `inputs` tell how many volumes there are, and their grids."""
    number = len(inputs["input_ids"])
    grids = next((inputs[name] for name in _GRIDS.values() if name in inputs), None)
    if grids is None:  # each image has the same size
        return pixels.chunk(number)
    return pixels.split(grids.prod(dim=-1).view(number, -1).sum(dim=-1).tolist())


class VisionFeatures:
    """
    The features of the vision tower for a number of volumes. A forward of the model takes the features of some of
    these volumes, in any order, in place of pixels.

    Args:
        kinds (`list[tuple[torch.Tensor, ...] | torch.Tensor]`):
            The features that enter the language model at its embeddings, then those that enter deeper (Qwen3-VL). One
            entry per volume, or per slice.
        volumes (`int`):
            Number of volumes.
        modality (`str`):
            `"video"` or `"image"`.
        output (`type[ModelOutput]`):
            Class of the tower's output.
    """

    def __init__(
        self,
        kinds: list[tuple[torch.Tensor, ...] | torch.Tensor],
        volumes: int,
        modality: str,
        output: type[ModelOutput],
    ):
        self.kinds = kinds
        self.volumes = volumes
        self.modality = modality
        self.output = output

    @classmethod
    def of(
        cls,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        pixels: str,
        fitted: torch.Tensor | None = None,
        rows: Sequence[int] = (),
    ) -> Self:
        """
        The features of the volumes of a batch, and of further volumes.

        Args:
            model (`torch.nn.Module`):
                Model, or model with adapters; not wrapped by DDP.
            inputs (`dict[str, torch.Tensor]`):
                Inputs of the model for the `B` volumes of the batch.
            pixels (`str`):
                Key of the pixels, such as `"pixel_values_videos"`.
            fitted (`torch.Tensor`, *optional*):
                Pixels of the further volumes.
            rows (`Sequence[int]`, *optional*):
                The rows of the batch whose grids the further volumes have.

        Returns:
            [`VisionFeatures`]: those of `B + len(rows)` volumes.
        """
        modality = "video" if pixels == "pixel_values_videos" else "image"
        number, values, grids = len(inputs["input_ids"]), inputs[pixels], inputs.get(_GRIDS[modality])
        if fitted is not None:
            values = torch.cat([values, fitted])
            if grids is not None:
                of_rows = grids.view(number, -1, 3)[list(rows)].flatten(0, 1)
                grids = torch.cat([grids, of_rows])
        base = _base_of(model)
        encode = base.get_video_features if modality == "video" else base.get_image_features
        output = encode(values, *(() if grids is None else (grids,)), return_dict=True)
        # Of Qwen3-VL. It takes features of more than one layer of its tower.
        kinds = [output["pooler_output"], *output.get("deepstack_features", ())]
        return cls(kinds, number + len(rows), modality, type(output))

    def outputs(self, volumes: Sequence[int]) -> dict[str, ModelOutput]:
        """The argument `mm_encoder_outputs` of a forward over some of the volumes."""
        slices = len(self.kinds[0]) // self.volumes  # entries per volume
        entries = [volume * slices + entry for volume in volumes for entry in range(slices)]
        pooled, *deep = [
            kind[entries] if isinstance(kind, torch.Tensor) else tuple(kind[entry] for entry in entries)
            for kind in self.kinds
        ]
        stacked = {"deepstack_features": deep} if deep else {}
        return {self.modality: self.output(pooler_output=pooled, **stacked)}

    def leaves(self) -> Self:
        """
        The same values, cut from the graph of the tower. What flows back to them stays there, until
        [`carry_gradient`] passes it on. If the tower does not learn, nothing flows back.
        """
        cut = lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad)  # noqa: E731
        kinds = [cut(kind) if isinstance(kind, torch.Tensor) else tuple(map(cut, kind)) for kind in self.kinds]
        return type(self)(kinds, self.volumes, self.modality, self.output)

    def carry_gradient(self, leaves: Self, scale: torch.Tensor) -> torch.Tensor:
        """
        A term of a loss that is 0, and whose gradient is the one that the leaves have collected.

        Args:
            leaves ([`VisionFeatures`]):
                Those of [`leaves`], after a backward.
            scale (`torch.Tensor`):
                Factor that the loss of that backward was multiplied by, `[]`.

        Returns:
            `torch.Tensor`: the term, `[]`.
        """
        pairs = zip(self._tensors(), leaves._tensors(), strict=True)
        terms = [(own.float() * leaf.grad.float() / scale).sum() for own, leaf in pairs if leaf.grad is not None]
        carried = torch.stack(terms).sum() if terms else scale.new_zeros(())
        return carried - carried.detach()

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for kind in self.kinds for tensor in ([kind] if isinstance(kind, torch.Tensor) else kind)]


def _base_of(model: torch.nn.Module) -> torch.nn.Module:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def inputs_of_rows(inputs: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The inputs of some rows of a batch, without pixels: texts, masks, labels, grids and times."""
    number = len(inputs["input_ids"])
    return {
        name: value.reshape(number, -1, *value.shape[1:])[list(rows)].flatten(0, 1)
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and not name.startswith("pixel_")
    }
