"""One scan: a patient's anatomy, the findings of its labels, and its voxels."""

import numpy as np

from ct_rate_pairs.phantom import findings as other
from ct_rate_pairs.phantom import lung_findings as lung
from ct_rate_pairs.reports.labels import LABELS

from .anatomy import Anatomy
from .findings import Finding
from .slab import texture


# The order of painting: what is painted later lies on top. Fluid and airless lung hide the lung's texture, and metal
# outshines all. The heart's two findings are part of the anatomy and come first.
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

# Standard deviation of the noise in HU: a soft kernel smooths it in the plane, a sharp one leaves it white.
NOISE_HU = {"soft": 22.0, "sharp": 45.0}
SLAB_VOXELS = 2**21

# Keys of the streams of one scan: 0 to 17 are the findings, in official order.
PLACES_STREAM, NOISE_STREAM = 18, 19


def stream(*keys: int) -> np.random.Generator:
    """A generator of its own for every tuple of whole numbers."""
    return np.random.default_rng(keys)


class Scan:
    """
    One scan of one phantom patient.

    Args:
        seed (`int`):
            Seed of the cohort.
        name (`tuple[int, int, int]`):
            Split (0 train, 1 validation), patient and scan, which key every stream of random numbers.
        labels (`np.ndarray`):
            18 zeros and ones in official order: the findings that are there.
        field_of_view (`tuple[float, float, float]`):
            Millimetres along x, y, z.

    Attributes:
        anatomy ([`Anatomy`]): Shared by all scans of the patient.
        findings (`dict[str, Finding]`): The present ones by label, in the order of painting. What a finding looks
            like depends on its own stream only, never on which others are present (coronary calcium sits on the
            heart's surface, and so follows its size).
    """

    def __init__(self, seed, name, labels, field_of_view):
        split, patient, number = name
        self.seed, self.name = seed, name
        self.field_of_view = tuple(float(size) for size in field_of_view)
        self.anatomy = Anatomy(stream(seed, split, patient), self.field_of_view)
        self.labels = np.asarray(labels, np.int8)
        places = lung.deal_lobes(stream(seed, split, patient, number, PLACES_STREAM))
        self.findings: dict[str, Finding] = {}
        for label in PAINT_ORDER:
            index = LABELS.index(label)
            if self.labels[index]:
                self.findings[label] = self._draw(label, stream(seed, split, patient, number, index), places)

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
        """Size of the heart over its normal size."""
        return self.findings["Cardiomegaly"].heart_scale if "Cardiomegaly" in self.findings else 1.0

    @property
    def effusion(self) -> float:
        """Thickness of the pericardial fluid in mm."""
        return self.findings["Pericardial effusion"].effusion if "Pericardial effusion" in self.findings else 0.0

    def _slab(self, shape, first, last):
        spacing = [size / count for size, count in zip(self.field_of_view, shape, strict=True)]
        return self.anatomy.slab(shape, spacing, first, last, heart_scale=self.heart_scale, effusion=self.effusion)

    def region(self, label, shape) -> np.ndarray:
        """The region that the report names for a present finding, bool `[x, y, z]`."""
        mask = self.findings[label].region(self._slab(shape, 0, shape[2]))
        return np.broadcast_to(mask, shape[::-1]).transpose(2, 1, 0)

    def render(self, shape, reconstruction=1, kernel="soft") -> np.ndarray:
        """
        The scan's voxels, a few slices at a time, so that memory stays near that of the result.

        Args:
            shape (`tuple[int, int, int]`):
                Voxels along x, y, z; the spacing follows from the field of view.
            reconstruction (`int`, *optional*, defaults to `1`):
                Number of the reconstruction: each has noise of its own.
            kernel (`str`, *optional*, defaults to `"soft"`):
                `"soft"` or `"sharp"`.

        Returns:
            `np.ndarray`: int16 HU `[x, y, z]`, axes toward the patient's left, back and head, Fortran order.
        """
        volume = np.empty(shape[::-1], np.int16)  # [z, y, x]
        depth = max(1, SLAB_VOXELS // (shape[0] * shape[1]))
        for first in range(0, shape[2], depth):
            last = min(first + depth, shape[2])
            slab = self._slab(shape, first, last)
            for finding in self.findings.values():
                finding.paint(slab)
            hu = slab.hu
            hu += 6 * texture(self.anatomy.soft_texture, slab.x, slab.y, slab.z)
            # Findings have no part in this stream, so one that is switched off leaves the noise as it was.
            noise = stream(self.seed, *self.name, NOISE_STREAM + reconstruction, first).standard_normal(
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
