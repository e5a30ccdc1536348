"""Checks of rows before they are collated. Each check raises a `ValueError` that names the row and the remedy."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from PIL import Image


STACKED = "num_slices"  # of an image processor: how many slices of a volume its encoder reads at once
ROLES = {"prompt": "user", "completion": "assistant"}  # columns of turns, and who speaks in them


def check_rows(rows: Sequence[Mapping[str, Any]], *columns: str, depths: bool, stacked: int | None = None) -> None:
    """
    Refuses rows that cannot be collated.

    Args:
        rows (`Sequence[Mapping]`):
            Rows of the dataset.
        columns (`str`):
            Columns that are read beside the slices and the prompt.
        depths (`bool`):
            Whether the depths of the slices are read.
        stacked (`int`, *optional*):
            How many slices of a volume the image encoder reads at once. By default, it reads each slice by itself.

    Raises:
        `ValueError`: if a row has another number of slices than `stacked`, if it lacks a column or cannot be read, if
            its slices are no PIL images, if its texts are no turns of a dialogue, or if the depths are those that
            [`depths_of`] refuses.
    """
    needed = ("images", "prompt", *(["slice_mm"] if depths else []), *columns)
    for row in rows:
        if missing := [name for name in needed if name not in row]:
            raise ValueError(
                f"The rows have no column {' and no '.join(missing)}, but only {', '.join(row) or 'none'}. A Trainer "
                "drops the columns that a model does not take: set `remove_unused_columns=False` in its arguments, as "
                "NegativeSFTConfig does."
            )
        if row["images"] is None:
            raise ValueError(
                f"{_name(row)} cannot be read (on_error='skip'). Read the rows as a stream, or pass "
                "`ct_rate_pairs.readable_rows.ReadableRows(rows)`, as NegativeSFTTrainer does."
            )
        for column in {"images", "negative_images"} & row.keys():
            _check_slices(row, column)
        if stacked and len(row["images"]) != stacked:
            raise ValueError(
                f"{_name(row)} has {len(row['images'])} images, but the image encoder of this model reads {stacked} "
                f"slices of a volume at once: pass num_slices={stacked}, and show the slices as slices."
            )
        for column in ROLES.keys() & needed:
            _check_turns(row, column)
        if depths:
            depths_of(row)


def depths_of(row: Mapping[str, Any]) -> list[float]:
    """
    The column `slice_mm` of a row: the depth of each slice below the first, in mm.

    Raises:
        `ValueError`: unless there is one number for each slice, and each slice lies below the one before it.
    """
    depths, slices = row["slice_mm"], row["images"]
    wrong = None
    if depths is None or any(mm is None for mm in depths):
        wrong = "holds no number"
    elif len(depths) != len(slices):
        wrong = f"holds {len(depths)} numbers for {len(slices)} slices"
    elif len(slices) < 2:
        wrong = "holds one slice, which has no distance"
    elif not all(map(math.isfinite, depths)):
        wrong = "holds a number that is NaN or infinite"
    elif not all(above < below for above, below in pairwise(depths)):
        wrong = "does not rise from slice to slice"
    if wrong:
        shown = "" if depths is None else f" ({', '.join('None' if mm is None else f'{mm:g}' for mm in depths)})"
        raise ValueError(
            f"{_name(row)}: its slice_mm {wrong}{shown}. It is the depth of each slice below the first, in mm, and "
            "the model is told these depths: sort slices and depths from the top downwards, as "
            "load_dataset('ct_rate_pairs', ...) gives them."
        )
    return list(depths)


def _check_slices(row: Mapping[str, Any], column: str) -> None:
    slices = row[column]
    if column == "images" and isinstance(slices, list) and not slices:
        raise ValueError(f"{_name(row)}: its images hold no slice.")
    if slices is None or (isinstance(slices, list) and all(isinstance(image, Image.Image) for image in slices)):
        return
    kind = type(slices[0] if isinstance(slices, list) else slices).__name__
    raise ValueError(
        f"{_name(row)}: its {column} are {kind}, not a list of PIL images. Pass the rows as they are: "
        "rows.with_format(None) takes back a format such as 'torch' or 'numpy'."
    )


def _check_turns(row: Mapping[str, Any], column: str) -> None:
    turns = row[column]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(
            f"{_name(row)}: its {column} is {type(turns).__name__}, but the turns of a dialogue are needed: "
            f'[{{"role": "{ROLES[column]}", "content": "..."}}].'
        )


def _name(row: Mapping[str, Any]) -> str:
    return row.get("volume", "A row")
