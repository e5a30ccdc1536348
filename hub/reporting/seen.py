"""What a report takes from a scan: the slices that the model sees, where they lie, and how a reader looks at them."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ct_rate_pairs.volumes.instances import Instances
from ct_rate_pairs.volumes.measures import measure
from ct_rate_pairs.volumes.native_slices import NativeSlices, native_slices
from ct_rate_pairs.volumes.pictures import Pictures
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slice_places import SlicePlace
from ct_rate_pairs.volumes.slice_plan import SlicePlan
from ct_rate_pairs.volumes.slicing import Volume
from ct_rate_pairs.volumes.told import collected_warnings
from ct_rate_pairs.volumes.windows import to_uint8


@dataclass(frozen=True)
class SeenScan:
    """
    A scan as a model and a reader see it. It is made in the process that reads the scan, so only this is copied.

    Args:
        pixels (`np.ndarray`):
            The slices, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, superior first.
        measures (`dict[str, float]`):
            What is compared with the scans of the training, see [`~ct_rate_pairs.volumes.measures.measure`].
        places (`list[SlicePlace]`):
            The place of each slice in the scan.
        native ([`~ct_rate_pairs.volumes.native_slices.NativeSlices`]):
            The stored plane that is nearest to each slice, at its own resolution.
        instances ([`~ct_rate_pairs.volumes.instances.Instances`], *optional*):
            The DICOM image that is nearest to each slice; `None` for other formats. It tells of the patient.
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`], *optional*):
            Where the slices lie on the grid of the scan; `None` for pictures, which do not tell it.
        told (`tuple[str, ...]`):
            Warnings of the reader of the scan.
    """

    pixels: np.ndarray
    measures: dict[str, float]
    places: list[SlicePlace]
    native: NativeSlices
    instances: Instances | None
    plan: SlicePlan | None = None
    told: tuple[str, ...] = ()

    @property
    def images(self) -> list[Image.Image]:
        """The slices as images."""
        return [Image.fromarray(plane) for plane in self.pixels]

    @property
    def slice_mm(self) -> list[float]:
        """The depth of each slice below the first one, in mm."""
        return [place.mm for place in self.places]


def see(scan: str | Path | Volume | SeenScan, settings: VolumeSettings, series: int | None = None) -> SeenScan:
    """
    Reads a scan as a model sees it.

    Args:
        scan (`str`, `Path`, [`~ct_rate_pairs.volumes.Volume`] or [`SeenScan`]):
            See [`~ct_rate_pairs.volumes.scan_files.read_scan`]. What is seen already stays as it is.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`]):
            How the scans of the training became slices.
        series (`int`, *optional*):
            Number of the DICOM series, from 1.

    Returns:
        [`SeenScan`]: the slices and their places.

    Raises:
        `VolumeError`: if the scan cannot be read, or is not a chest CT in HU.
        `ValueError`: for a `series` of a volume.
    """
    if isinstance(scan, Volume | SeenScan) and series is not None:
        raise ValueError(f"series={series} has no effect on a Volume, which is one series already: leave it out.")
    if isinstance(scan, SeenScan):
        return scan
    with collected_warnings() as told:
        is_read = isinstance(scan, Volume)
        seen = _seen(settings, scan) if is_read else read_scan(scan, series, partial(_seen, settings))
    return replace(seen, told=tuple(told))


def _seen(settings: VolumeSettings, volume: Volume | Pictures) -> SeenScan:
    chosen = {"num_slices": settings.num_slices, "z_range": settings.z_range, "rule": settings.slices}
    slices, slice_mm = volume.slices(spacing=settings.spacing, window=settings.window, **chosen)
    pixels, voxel_mm = to_uint8(slices), volume.spacing
    measures = measure(pixels, slice_mm, settings, voxel_mm, has_sizes=voxel_mm is not None)
    places = volume.places(spacing=settings.spacing, **chosen)
    planes = [place.index for place in places]
    instances = volume.instances.at(planes) if volume.instances else None
    # A volume is called by its path, which no report may tell.
    plan = None if isinstance(volume, Pictures) else replace(volume.plan(spacing=settings.spacing, **chosen), name="")
    return SeenScan(pixels, measures, places, native_slices(volume, planes), instances, plan)
