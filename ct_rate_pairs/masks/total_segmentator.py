"""
Masks of structures, such as lobes, heart and aorta, as TotalSegmentator 2 writes them: a folder per volume with a file
per structure, or with `--ml` one file per volume, whose header names the structures.
"""

import os
import re
from pathlib import Path

import nibabel as nib

from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.volume_names import VOLUME_NAME
from ct_rate_pairs.volumes.files import open_file, refusals, unpacked

from .mask import Mask
from .table import TABLE


_ENDINGS = (".nii.gz", ".nii")
_MOST_HEADER = 2**18  # bytes before the voxels of a file: the names of 117 structures take 16,000
_LABEL = re.compile(rb'<Label Key="(\d{1,6})"[^>]*><!\[CDATA\[([^\]]{1,200})\]\]></Label>')


def find_structures(folder: Path) -> dict[str, list[Mask]]:
    """
    Finds the masks of structures in a folder, however deep, by the names of volumes: files per structure in a folder
    `train_1_a_1/` (or `seg_train_1_a_1/`), or one file `train_1_a_1.nii.gz` with all structures, such as those of
    CT-RATE's own `dataset/ts_seg/ts_total/`.

    Args:
        folder (`Path`):
            The folder.

    Returns:
        `dict[str, list[Mask]]`: the masks of each volume, in the order of their values or names.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if a file of all structures does not name them.
    """
    masks: dict[str, list[Mask]] = {}
    for path, folders, files in os.walk(folder):
        folders.sort()
        volume = Path(path).name.removeprefix("seg_") + ".nii.gz"
        for name in sorted(name for name in files if name.endswith(_ENDINGS) and not name.startswith(".")):
            file, stem = Path(path, name), name.removesuffix(".gz").removesuffix(".nii")
            place = file.relative_to(folder).as_posix()
            if re.fullmatch(VOLUME_NAME, f"{stem}.nii.gz"):
                names = structures_of(file)
                of_volume = masks.setdefault(f"{stem}.nii.gz", [])
                of_volume += [Mask(names[value], file, place, value) for value in sorted(names)]
            elif re.fullmatch(VOLUME_NAME, volume):
                masks.setdefault(volume, []).append(Mask(stem, file, place))
    return masks


def structures_of(file: Path) -> dict[int, str]:
    """
    The names of the structures of a multi-label file, by the values of their voxels, from the extension of its header.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the header has no such extension.
        `VolumeError`: if the file is damaged.
    """
    with refusals(str(file)), open_file(str(file), file) as opened:
        content = unpacked(opened).read(_MOST_HEADER)
        end = int(nib.Nifti1Header(content[: nib.Nifti1Header.sizeof_hdr], check=False)["vox_offset"])
    names = {int(value): name.decode("utf-8", "replace") for value, name in _LABEL.findall(content[:end])}
    if not names:
        raise TableError(
            f"{file}: its header does not name its structures, as that of TotalSegmentator's --ml does. Write a table "
            f"{TABLE} with the columns volume, file, value and finding, and give the table as masks."
        )
    return names
