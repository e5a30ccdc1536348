"""A scan of noise, written in several ways, and how a scan is refused."""

import gzip
import stat
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import VolumeError

from .dicom_series import PLANTED


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, Path("DOE_JANE", file.name))
    return path


def metaimage(array: np.ndarray, affine: np.ndarray, path: Path, compressed: bool = False) -> Path:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    zooms = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(zooms.tolist())
    image.SetDirection((lps[:3, :3] / zooms).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), compressed)
    return path


def assert_refused(path: Path, match: str, capfd=None, **given_) -> None:
    with pytest.raises(VolumeError, match=match) as raised:
        read_scan(path, **given_)
    told = "".join(traceback.format_exception(raised.value)) + ("".join(capfd.readouterr()) if capfd else "")
    assert not [word for word in (*PLANTED, str(path)) if word in told]


def noise(shape=(20, 16, 12), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)


def link_in_zip(archive: Path, name: str, target: str) -> None:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(entry, target)


def gzipped(folder: Path, number: int | None = None) -> Path:
    """The folder, after its first files were packed by gzip."""
    for path in sorted(folder.iterdir())[:number]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder
