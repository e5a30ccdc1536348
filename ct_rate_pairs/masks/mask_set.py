"""The masks of a cohort, from a table, from ReXGroundingCT or from TotalSegmentator."""

import hashlib
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.sources.table_files import FORMATS
from ct_rate_pairs.volumes.slice_plan import SlicePlan

from . import rexgrounding, table
from .key_planes import key_fractions
from .mask import Mask
from .rexgrounding import read_rexgrounding
from .shown import mask_areas, shown_masks
from .table import read_table
from .total_segmentator import find_structures


class MaskSet:
    """
    The masks of a cohort.

    Args:
        path (`str` or `Path`):
            A table of masks, or a folder with a table `masks.csv` (see [`~ct_rate_pairs.masks.table.read_table`]);
            ReXGroundingCT's `dataset.json`, `MICCAI_challenge_dataset.json` or the folder of the first; or a folder of
            TotalSegmentator's masks (see [`~ct_rate_pairs.masks.total_segmentator.find_structures`]).
        names (`Sequence[str]`, *optional*):
            Findings or structures that are taken. By default, all.

    Raises:
        `FileNotFoundError`: if there is no such file or folder.
        `ValueError`: if it holds no masks, or none of a name in `names`.
    """

    def __init__(self, path: str | Path, names: Sequence[str] | None = None):
        self.path, self.names = Path(path).expanduser().resolve(), names
        if not self.path.exists():
            raise FileNotFoundError(f"masks: {no_such('file or folder', path)}")
        found = _read(self.path)
        if names is not None:
            known = {mask.finding for of_volume in found.values() for mask in of_volume}
            _check_names(self.path, names, known)
            found = {volume: [mask for mask in of if mask.finding in names] for volume, of in found.items()}
        self._masks = found

    def __reduce__(self):
        return MaskSet, (self.path, self.names)

    @cached_property
    def known(self) -> list[str]:
        """The names of the findings, sorted."""
        return sorted({mask.finding for of_volume in self._masks.values() for mask in of_volume})

    def findings(self, volume: str) -> list[dict[str, str]] | None:
        """
        What is drawn of a volume: the `finding` and the `sentence` of each mask. Empty for a volume without findings,
        and `None` for a volume of which nothing is known.
        """
        masks = self._masks.get(volume)
        return masks and [{"finding": mask.finding, "sentence": mask.sentence} for mask in masks]

    def images(self, volume: str, plan: SlicePlan) -> list[list[Image.Image]] | None:
        """
        What the slices of a volume show of its masks: for each mask, an image of one bit per slice.

        Args:
            volume (`str`):
                The volume.
            plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
                Where its slices lie.

        Raises:
            `VolumeError`: see [`~ct_rate_pairs.masks.shown.shown_masks`].
        """
        masks = self._masks.get(volume)
        return masks and [[Image.fromarray(plane) for plane in shown] for shown in shown_masks(masks, plan)]

    def key_fractions(
        self, volume: str, plan: SlicePlan, num_slices: int, z_range: tuple[float, float]
    ) -> np.ndarray | None:
        """
        Where in each bin of the depth the plane lies that shows most of the masks of a volume, see
        [`~ct_rate_pairs.masks.key_planes.key_fractions`]; `None`, the middle, if it has no masks.

        Args:
            volume (`str`):
                The volume.
            plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
                Where any slices of it lie.
            num_slices (`int`), z_range (`tuple[float, float]`):
                The bins.

        Raises:
            `VolumeError`: see [`~ct_rate_pairs.masks.shown.shown_masks`].
        """
        masks = self._masks.get(volume)
        return key_fractions(mask_areas(masks, plan), num_slices, z_range) if masks else None

    def check(self, volumes: Collection[str]) -> None:
        """Raises a `ValueError` if none of these volumes has masks."""
        if self._masks.keys().isdisjoint(volumes):
            raise ValueError(
                f"masks={str(self.path)!r} names {len(self._masks)} volumes, such as {next(iter(self._masks))!r}, and "
                f"none of this dataset, such as {next(iter(volumes), None)!r}. Give the masks of this cohort. A table "
                "of masks names CT-RATE's volumes by their VolumeName, and those of a table of your own by its "
                "column 'scan'."
            )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the masks and of the sizes and times of their files."""
        digest = hashlib.sha256(repr(self._masks).encode(errors="surrogateescape"))
        for file in sorted({mask.file for of_volume in self._masks.values() for mask in of_volume}):
            stat = file.stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        return digest.hexdigest()


def _read(path: Path) -> dict[str, list[Mask]]:
    if path.is_file():
        if path.suffix == ".json":
            return read_rexgrounding(path)
        if path.suffix.lower() in FORMATS:
            return read_table(path)
        raise ValueError(
            f"masks={str(path)!r} is no table of masks ({', '.join(FORMATS)}) and no JSON file of ReXGroundingCT. "
            "Give one of these, or a folder."
        )
    for name, read in ((table.TABLE, read_table), (rexgrounding.TABLE, read_rexgrounding)):
        if (path / name).is_file():
            return read(path / name)
    found = find_structures(path)
    if not found:
        raise ValueError(
            f"masks={str(path)!r} holds neither {table.TABLE} (a table of masks), nor {rexgrounding.TABLE} "
            "(ReXGroundingCT), nor masks of TotalSegmentator, in folders or files that are called as the volumes are."
        )
    return found


def _check_names(path: Path, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            told = f"is {near[0]!r} meant?" if near else f"it has {', '.join(sorted(known)[:20])}"
            raise ValueError(f"mask_names: {path} has no mask of {name!r} ({told}).")
