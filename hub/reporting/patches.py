"""
Where on its slices a finding rests: the evidence of each patch, and the outline of the patches that stand out.

Patches are told in shares of the width and the height of a slice. The slices of the model and the stored planes show
the same field of the scan, so a share is the same place on both, whatever their pixels are.
"""

from dataclasses import dataclass

import numpy as np

from .outlines import Line, outline_of


OUTLINED = 0.5  # share of the highest evidence that a patch needs, to be outlined


@dataclass(frozen=True)
class PatchEvidence:
    """
    The evidence of each patch of the slices for one finding.

    Args:
        values (`np.ndarray` of shape `[S, R, C]`):
            Evidence of the patches: slices from the top, rows from the front, columns from the patient's right. Only
            the order of the values of one finding has a meaning.
        rows (`np.ndarray` of shape `[R + 1]`), columns (`np.ndarray` of shape `[C + 1]`):
            The edges of the patches, in shares of the height and the width of a slice, in [0, 1].
    """

    values: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @property
    def top(self) -> tuple[int, tuple[float, float, float, float]]:
        """
        The patch with the most evidence: its slice, counted from 1, and its left, upper, right and lower edge in
        shares.
        """
        place, row, column = np.unravel_index(self.values.argmax(), self.values.shape)
        left, right = self.columns[column : column + 2].tolist()
        upper, lower = self.rows[row : row + 2].tolist()
        return int(place) + 1, (left, upper, right, lower)

    def outline(self, number: int) -> list[Line]:
        """
        The outline of the patches of one slice that stand out: those with more than half of the highest evidence.

        Args:
            number (`int`):
                Number of the slice, counted from 1.

        Returns:
            `list[tuple[float, float, float, float]]`: lines along edges of patches; none if no patch of the slice
            stands out.
        """
        stand_out = self.values[number - 1] > OUTLINED * max(self.values.max(), 0.0)
        return outline_of(stand_out, self.rows, self.columns)
