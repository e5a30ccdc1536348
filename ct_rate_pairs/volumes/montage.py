"""Slices in one picture."""

import math

from PIL import Image


def montage(slices: list[Image.Image]) -> Image.Image:
    """
    Lays slices out in a grid, left to right and top to bottom, with at least as many columns as rows.

    Args:
        slices (`list[PIL.Image.Image]`):
            Slices of one size and mode.

    Returns:
        `PIL.Image.Image`: the picture, in the mode of the slices. Unused places are black, like air.
    """
    columns = math.ceil(math.sqrt(len(slices)))
    rows = math.ceil(len(slices) / columns)
    width, height = slices[0].size
    picture = Image.new(slices[0].mode, (columns * width, rows * height))
    for place, image in enumerate(slices):
        picture.paste(image, (place % columns * width, place // columns * height))
    return picture
