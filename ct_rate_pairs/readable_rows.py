"""Rows of a map-style dataset without those that cannot be read."""

from datasets import Dataset


def is_readable(row: dict) -> bool:
    """Whether the slices of a row, and its negative if it has one, could be read (see `on_error="skip"`)."""
    return all(row.get(column, ()) is not None for column in ("images", "negative_images"))


class ReadableRows:
    """
    Rows of a map-style dataset, where the next readable row takes the place of a row that cannot be read
    (`on_error="skip"`). Whoever takes rows by their index, such as a trainer, gets a row for each index.

    Args:
        rows ([`~datasets.Dataset`]):
            The dataset.

    Raises:
        `VolumeError`: when a row is taken and no row of the dataset can be read.
    """

    def __init__(self, rows: Dataset):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """The rows of a batch. A row that the batch repeats, as for reinforcement, is read once."""
        rows = {index: self[index] for index in dict.fromkeys(indices)}
        return [rows[index] for index in indices]

    def __getitem__(self, index: int) -> dict:
        if index >= len(self):
            raise IndexError(index)  # ends a loop over the rows
        for step in range(len(self)):
            row = self.rows[(index + step) % len(self)]
            if is_readable(row):
                return row
        from .volumes.slicing import VolumeError  # noqa: PLC0415  (imports torch)

        raise VolumeError(f"None of the {len(self)} rows of the dataset can be read.")
