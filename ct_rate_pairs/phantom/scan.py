"""One scan of the phantom: the patient's anatomy, the findings of its labels, and its voxels."""

import numpy as np

from ct_rate_pairs.phantom import findings as other
from ct_rate_pairs.phantom import lung_findings as lung
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.labels import LABELS

from .anatomy import Anatomy
from .findings import Finding
from .slab import texture


# The order of painting: what is painted later lies on top. Fluid and airless lung hide the texture of the lung, and
# metal is brighter than everything. The two findings of the heart are part of the anatomy, so they come first.
PAINT_ORDER = (
    "Cardiomegaly",
    "Pericardial effusion",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Mosaic attenuation pattern",
    "Lung opacity",
    "Interlobular septal thickening",
    "Pulmonary fibrotic sequela",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Pleural effusion",
    "Atelectasis",
    "Lung nodule",
    "Arterial wall calcification",
    "Coronary artery wall calcification",
    "Medical material",
)

# Standard deviation of the noise in HU. A soft kernel smooths the noise in the plane; a sharp kernel leaves it white.
NOISE_HU = {"soft": 22.0, "sharp": 45.0}
SLAB_VOXELS = 2**21

# Keys of the random streams of one scan. Keys 0 to 17 are those of the findings, in official order.
PLACES_STREAM, NOISE_STREAM = 18, 19


class Scan:
    """
    One scan of one phantom patient.

    Args:
        seed (`int`):
            Seed of the cohort.
        name (`tuple[int, int, int]`):
            Split (0 train, 1 validation), patient and scan. They are the keys of every random stream of the scan.
        labels (`np.ndarray`):
            18 zeros and ones in official order: which findings the scan has.
        field_of_view (`tuple[float, float, float]`):
            Size along x, y, z, in mm.

    Attributes:
        anatomy ([`Anatomy`]):
            The anatomy, which is the same in all scans of the patient.
        findings (`dict[str, Finding]`):
            The findings of the scan by label, in the order of painting. The look of a finding depends only on its own
            random stream, not on the other findings. One exception: coronary calcium lies on the heart's surface, so
            it depends on the size of the heart.
    """

    def __init__(self, seed, name, labels, field_of_view):
        split, patient, number = name
        self.seed, self.name = seed, name
        self.field_of_view = tuple(float(size) for size in field_of_view)
        self.anatomy = Anatomy(random_stream(seed, split, patient), self.field_of_view)
        self.labels = np.asarray(labels, np.int8)
        places = lung.deal_lobes(random_stream(seed, split, patient, number, PLACES_STREAM))
        self.findings: dict[str, Finding] = {}
        for label in PAINT_ORDER:
            index = LABELS.index(label)
            if self.labels[index]:
                self.findings[label] = self._draw(label, random_stream(seed, split, patient, number, index), places)

    def _draw(self, label, rng, places) -> Finding:
        anatomy = self.anatomy
        if label == "Coronary artery wall calcification":
            return other.coronary_calcification(anatomy, rng, self.heart_scale)
        dealt = {
            "Lung nodule": (lung.nodule, places[0]),
            "Consolidation": (lung.consolidation, places[1]),
            "Lung opacity": (lung.opacity, places[2]),
            "Bronchiectasis": (lung.bronchiectasis, places[3]),
        }
        if label in dealt:
            draw, place = dealt[label]
            return draw(anatomy, rng, place)
        return {
            "Medical material": other.medical_material,
            "Arterial wall calcification": other.arterial_calcification,
            "Cardiomegaly": other.cardiomegaly,
            "Pericardial effusion": other.pericardial_effusion,
            "Hiatal hernia": other.hiatal_hernia,
            "Lymphadenopathy": other.lymphadenopathy,
            "Emphysema": lung.emphysema,
            "Atelectasis": lung.atelectasis,
            "Pulmonary fibrotic sequela": lung.fibrotic_sequela,
            "Pleural effusion": lung.pleural_effusion,
            "Mosaic attenuation pattern": lung.mosaic,
            "Peribronchial thickening": lung.peribronchial_thickening,
            "Interlobular septal thickening": lung.septal_thickening,
        }[label](anatomy, rng)

    @property
    def heart_scale(self) -> float:
        """Size of the heart divided by its normal size."""
        return self.findings["Cardiomegaly"].heart_scale if "Cardiomegaly" in self.findings else 1.0

    @property
    def effusion(self) -> float:
        """Thickness of the pericardial fluid, in mm."""
        return self.findings["Pericardial effusion"].effusion if "Pericardial effusion" in self.findings else 0.0

    def _slab(self, shape, first, last):
        spacing = [size / count for size, count in zip(self.field_of_view, shape, strict=True)]
        return self.anatomy.slab(shape, spacing, first, last, heart_scale=self.heart_scale, effusion=self.effusion)

    def region(self, label, shape) -> np.ndarray:
        """The region that the report names for a finding of the scan, bool `[x, y, z]`."""
        mask = self.findings[label].region(self._slab(shape, 0, shape[2]))
        return np.broadcast_to(mask, shape[::-1]).transpose(2, 1, 0)

    def _slabs(self, shape):
        """The slabs of the whole volume, from the feet up, each with its first and last slice."""
        depth = max(1, SLAB_VOXELS // (shape[0] * shape[1]))
        for first in range(0, shape[2], depth):
            last = min(first + depth, shape[2])
            yield first, last, self._slab(shape, first, last)

    def masks(self, shape) -> dict[str, np.ndarray]:
        """
        Which voxels each finding takes, also where another finding lies on it. Cardiomegaly takes the whole heart.

        Args:
            shape (`tuple[int, int, int]`):
                Voxels along x, y, z, as for [`render`].

        Returns:
            `dict[str, np.ndarray]`: for each label of the scan, bool of the shape and axes that [`render`] gives.
        """
        masks = {label: np.zeros(shape[::-1], bool) for label in self.findings}  # [z, y, x]
        for first, last, slab in self._slabs(shape):
            for label, finding in self.findings.items():
                before = slab.hu.copy()
                finding.paint(slab)
                masks[label][first:last] = finding.extent(slab) if finding.extent else slab.hu != before
        return {label: mask.transpose(2, 1, 0) for label, mask in masks.items()}

    def render(self, shape, reconstruction=1, kernel="soft") -> np.ndarray:
        """
        The voxels of the scan. A few slices are painted at a time, so that little memory is used beside the result.

        Args:
            shape (`tuple[int, int, int]`):
                Voxels along x, y, z. The spacing follows from the field of view.
            reconstruction (`int`, *optional*, defaults to `1`):
                Number of the reconstruction. Each reconstruction has its own noise.
            kernel (`str`, *optional*, defaults to `"soft"`):
                `"soft"` or `"sharp"`.

        Returns:
            `np.ndarray`: HU, int16 of shape `[x, y, z]`, in Fortran order. The axes run toward the patient's left,
            back and head.
        """
        volume = np.empty(shape[::-1], np.int16)  # [z, y, x]
        for first, last, slab in self._slabs(shape):
            for finding in self.findings.values():
                finding.paint(slab)
            hu = slab.hu
            hu += 6 * texture(self.anatomy.soft_texture, slab.x, slab.y, slab.z)
            # The stream of the noise does not depend on the findings, so a scan without a finding has the same noise.
            noise = random_stream(self.seed, *self.name, NOISE_STREAM + reconstruction, first).standard_normal(
                hu.shape, np.float32
            )
            if kernel == "soft":
                noise[:, :, 1:] += noise[:, :, :-1]
                noise[:, 1:] += noise[:, :-1]
                noise *= 0.5
            noise *= NOISE_HU[kernel]
            hu += noise
            np.clip(hu, -1024, 3071, out=hu)
            np.rint(hu, out=hu)
            volume[first:last] = hu
        return volume.transpose(2, 1, 0)
