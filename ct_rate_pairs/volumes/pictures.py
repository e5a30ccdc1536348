"""
Reads a scan that was exported as pictures: a folder of 8-bit PNG or JPEG files, one per slice.

A picture has no HU and no size in mm. So its grey values are taken as a window has made them, and the depth is
assumed.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .files import MOST_SIDE, open_file, refusals
from .planes import choose_planes
from .slice_places import SlicePlace, places_of
from .slicing import VolumeError
from .told import tell
from .windows import Window, windows_of


PICTURES = (".png", ".jpg", ".jpeg")
DEPTH_MM = 300.0  # that the pictures of a scan are taken to span: about a chest
_MOST_COLOUR = 16  # grey values by which the channels of a grey picture may differ, as JPEG rounds them


@dataclass
class Pictures:
    """
    A scan as pictures. They are read when slices are asked for.

    Args:
        name (`str`):
            Name of the scan, for messages.
        files (`list[Path]`):
            The pictures, superior first.
    """

    name: str
    files: list[Path]
    # What other scans have, and pictures do not.
    spacing: None = field(default=None, init=False, repr=False)
    instances: None = field(default=None, init=False, repr=False)

    @classmethod
    def in_order(cls, name: str, files: Sequence[Path]) -> "Pictures":
        """
        The pictures of a scan in the order of their names, in which numbers count as numbers: `2.png` comes before
        `10.png`. The first picture is taken for the top.
        """
        if len({file.parent for file in files}) > 1:
            raise VolumeError(
                f"{name}: its pictures lie in several folders, so nobody knows their order. Put those of one scan "
                "into one folder."
            )
        return cls(name, sorted(files, key=lambda file: _in_order_of_numbers(file.name)))

    def slices(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
        window: Window = "paper",
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> tuple[np.ndarray, list[float]]:
        """
        As [`~ct_rate_pairs.volumes.slicing.Volume.slices`], with the grey values as they are: black is -1 and white
        is 1. `spacing` has no effect, because the size of a pixel is not known. The depths are those of pictures that
        span `DEPTH_MM`.

        Raises:
            `VolumeError`: for a `window` or a `rule` that needs HU, for fewer pictures than `num_slices`, and for
                pictures that are unreadable, in colour, of 16 bits or of different sizes.
        """
        planes = self.choose(num_slices, window, z_range, fractions, rule)
        tell(
            "%s: %d pictures, which have no HU and no size in mm. Their grey values are taken as they are, and their "
            "depth as %d mm in all. The first by name is taken for the top.", self.name, len(self.files), DEPTH_MM,
        )  # fmt: skip
        return self.grey(planes) / np.float32(127.5) - np.float32(1), self._depths(planes)

    def grey(self, planes: Sequence[int]) -> np.ndarray:
        """
        The grey values of some pictures, uint8 of shape `[S, Y, X]`. `planes` are their numbers, from 0.

        Raises:
            `VolumeError`: for pictures that are unreadable, in colour, of 16 bits or of different sizes.
        """
        with refusals(self.name):  # pictures are read where slices are made, and not before
            read = [_read_grey(self.name, plane + 1, self.files[plane]) for plane in planes]
        self._check_one_size([grey.shape[::-1] for grey in read])
        return np.stack(read)

    def places(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> list[SlicePlace]:
        """As [`~ct_rate_pairs.volumes.slicing.Volume.places`], with the numbers of the pictures as planes."""
        planes = self.choose(num_slices, z_range=z_range, fractions=fractions, rule=rule)
        return places_of([(plane,) * 3 for plane in planes], self._depths(planes), len(self.files))

    def _depths(self, planes: list[int]) -> list[float]:
        """The depth of each of some pictures below the first one, in mm."""
        return [(plane - planes[0]) * DEPTH_MM / len(self.files) for plane in planes]

    def hu(self) -> None:
        """Pictures have no HU: raises a `VolumeError`."""
        raise VolumeError(
            f"{self.name}: pictures have no HU and no size in mm, which other models are given. Use the DICOM or "
            "NIfTI files that the pictures were made from."
        )

    def whole(self) -> "Pictures":
        """The scan itself: its pictures stay where they are."""
        return self

    def plan(self, *how: object, **more: object) -> None:
        """Pictures have no place: raises a `VolumeError`."""
        raise VolumeError(
            f"{self.name}: pictures do not tell where they lie, so no mask can lie on them. Leave masks out, or give "
            "the scan as DICOM, NIfTI or MetaImage."
        )

    def values(self, spacing: tuple[float, float, float] | None = None, window: Window = "paper") -> None:
        """Pictures are no volume: raises a `VolumeError`."""
        raise VolumeError(
            f"{self.name}: pictures have no HU and no size in mm, so they are no whole volume. Choose images='slices' "
            "and form='slices', or give the scan as DICOM, NIfTI or MetaImage."
        )

    def resampled(self, spacing: tuple[float, float, float], slope: float = 1.0, intercept: float = 0.0) -> None:
        """As [`values`]."""
        self.values()

    def check(
        self, num_slices: int, spacing: tuple, window: Window, z_range: tuple[float, float], rule: str = "uniform"
    ) -> None:
        """Raises the `VolumeError` of [`slices`], as far as the headers of all pictures tell."""
        self.choose(num_slices, window, z_range, rule=rule)
        sizes = []
        for number, file in enumerate(self.files, start=1):
            with refusals(self.name), open_file(self.name, file) as opened:
                sizes.append(_open(self.name, number, opened).size)
        self._check_one_size(sizes)

    def choose(
        self,
        num_slices: int,
        window: Window = "paper",
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> list[int]:
        """The numbers of the pictures that [`slices`] shows, from 0."""
        if rule in ("lung", "mip"):
            raise VolumeError(
                f"{self.name}: slices={rule!r} needs HU, which pictures do not have. Choose slices='uniform', or give "
                "the scan as DICOM, NIfTI or MetaImage."
            )
        if windows_of(window) != windows_of("paper"):
            raise VolumeError(
                f"{self.name}: window={window!r} has no effect on pictures, which have no HU. Leave it out, or give "
                "the scan as DICOM, NIfTI or MetaImage."
            )
        planes = choose_planes(len(self.files), num_slices, z_range, fractions)
        if len(set(planes)) < num_slices:
            raise VolumeError(
                f"{self.name}: {len(self.files)} pictures, but {num_slices} slices are asked for, from the share "
                f"{z_range} of the depth. Give all pictures of the scan, or pass a smaller `num_slices`."
            )
        return planes

    def _check_one_size(self, sizes: list[tuple[int, int]]) -> None:
        counts = Counter(sizes).most_common()
        if len(counts) > 1:
            raise VolumeError(
                f"{self.name}: its pictures have different sizes, such as {counts[0][0]} and {counts[1][0]} pixels. "
                "Export the slices of one series alone."
            )


def _in_order_of_numbers(name: str) -> list:
    """A key that sorts `2.png` before `10.png`. The whole name decides between `1.png` and `01.png`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)] + [name]


def _open(name: str, number: int, file) -> Image.Image:
    """A picture of which only the header is read."""
    try:
        picture = Image.open(file, formats=["PNG", "JPEG"])
    except UnidentifiedImageError:  # its message has an address in memory
        raise VolumeError(
            f"{name}: picture {number} is neither PNG nor JPEG, whatever its name says. Export it again."
        ) from None
    if max(picture.size) > MOST_SIDE:
        raise VolumeError(f"{name}: picture {number} has {picture.size} pixels, more than any slice has.")
    if picture.mode not in ("L", "LA", "P", "RGB", "RGBA"):
        raise VolumeError(
            f"{name}: picture {number} has pixels of the kind {picture.mode}, but a picture has 8 bits per pixel. "
            "Export it with a window, from black to white, or give the scan as DICOM, NIfTI or MetaImage."
        )
    return picture


def _read_grey(name: str, number: int, file: Path) -> np.ndarray:
    """The grey values of a picture, uint8 `[H, W]`."""
    with open_file(name, file) as opened:
        picture = _open(name, number, opened)
        try:
            if picture.mode in ("L", "LA"):
                return np.asarray(picture)[..., 0] if picture.mode == "LA" else np.asarray(picture)
            channels = np.asarray(picture.convert("RGB"))
        except OSError:  # Pillow's, for a file that is cut or damaged
            raise VolumeError(f"{name}: picture {number} is cut or damaged. Export it again.") from None
    if np.ptp(channels.astype(np.int16), axis=-1).max() > _MOST_COLOUR:
        raise VolumeError(f"{name}: picture {number} is in colour. Export slices without overlays, as grey pictures.")
    return channels[..., 1]
