"""The outline of what stands out on a slice: lines in shares of its width and height."""

from collections.abc import Iterator

import numpy as np


Line = tuple[float, float, float, float]  # from (x, y) to (x, y), in shares of the width and the height


def outline_of(inside: np.ndarray, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> list[Line]:
    """
    The lines between the cells that are inside and those that are outside.

    Args:
        inside (`np.ndarray` of shape `[R, C]`):
            The cells of a slice, bool: rows from the front, columns from the patient's right.
        rows (`np.ndarray` of shape `[R + 1]`, *optional*), columns (`np.ndarray` of shape `[C + 1]`, *optional*):
            The edges of the cells, in shares of the height and the width of the slice. By default, all cells are
            equally large.

    Returns:
        `list[tuple[float, float, float, float]]`: lines along edges of cells, each as long as it can be; none if no
        cell is inside.
    """
    rows, columns = (
        np.linspace(0, 1, count + 1) if edges is None else edges
        for edges, count in zip((rows, columns), inside.shape, strict=True)
    )
    cells = np.pad(inside, 1)
    across = [
        (columns[first], rows[row], columns[last], rows[row])
        for row, first, last in _runs(cells[1:, 1:-1] != cells[:-1, 1:-1])
    ]
    down = [
        (columns[column], rows[first], columns[column], rows[last])
        for column, first, last in _runs((cells[1:-1, 1:] != cells[1:-1, :-1]).T)
    ]
    return [tuple(map(float, line)) for line in across + down]


def _runs(edges: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Of each row, where a run of true values begins, and where it ends."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for (row, first), (_, last) in zip(np.argwhere(steps == 1), np.argwhere(steps == -1), strict=True):
        yield int(row), int(first), int(last)
