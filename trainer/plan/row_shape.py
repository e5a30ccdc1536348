"""The size of a row: slices, patches and tokens."""

from typing import NamedTuple

from .shapes import TOWER


class RowShape(NamedTuple):
    """
    The size of a row.

    Attributes:
        slices (`int`):
            Slices of a volume.
        side (`int`):
            Pixels along a side of a slice, after resampling.
        prompt (`int`):
            Tokens of the prompt with its template, without those of the slices.
        report (`int`):
            Tokens of the report, with the token that ends it.
    """

    slices: int = 10
    side: int = 480
    prompt: int = 32
    report: int = 311

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches of the volume as a video: along time, height and width. The collator pads to merged patches."""
        merged = TOWER["patch_size"] * TOWER["spatial_merge_size"]
        patches = -(-self.side // merged) * TOWER["spatial_merge_size"]
        return -(-self.slices // TOWER["temporal_patch_size"]), patches, patches

    @property
    def patches(self) -> int:
        """Patches that the vision tower sees."""
        frames, height, width = self.grid
        return frames * height * width

    @property
    def visual(self) -> int:
        """Tokens of the slices in the language model."""
        return self.patches // TOWER["spatial_merge_size"] ** 2

    @property
    def tokens(self) -> int:
        """Tokens of the whole sequence."""
        return self.visual + self.prompt + self.report
