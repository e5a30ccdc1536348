"""
Whether all images of a series are there, by what their headers count. A series may be cut at an end, where no gap
between its slices shows it.
"""

from collections import defaultdict

from ..slicing import VolumeError
from ..told import tell
from .headers import Header


def count_images(headers: list[Header]) -> None:
    """Puts into each header of a series, as `"There"`, how much there is of what the header counts."""
    acquired, instances, parts = defaultdict(set), set(), defaultdict(set)
    for header in headers:
        instance = header["Compared"].get("SOPInstanceUID"), tuple(header.get("ImagePositionPatient", ()))
        acquired[header.get("AcquisitionNumber")].add((*instance, header["frame"]))
        instances.add(instance if header["frames"] == 1 else header["count"])
        parts[header["ConcatenationUID"]].add(header.get("InConcatenationNumber"))
    for header in headers:
        header["There"] = {
            "ImagesInAcquisition": len(acquired[header.get("AcquisitionNumber")]),
            "NumberOfSeriesRelatedInstances": len(instances),
            "images": sum(map(len, acquired.values())),
            "parts": parts[header["ConcatenationUID"]],
        }


def check_whole(name: str, headers: list[Header]) -> None:
    """
    Refuses a concatenation (one Enhanced CT in several files) without some of its files, and tells a count of images
    that is more than there are: a part of a series may have been left out on purpose.
    """
    for header in headers:
        parts = header["There"]["parts"] - {None}
        most = int(max(parts | {header.get("InConcatenationTotalNumber", 0.0)}))
        if parts and len(parts) < most:
            raise VolumeError(
                f"{name}: it is an Enhanced CT in {most} files (InConcatenationTotalNumber), of which "
                f"{most - len(parts)} are not there. Give all files of the series."
            )
    for keyword in ("ImagesInAcquisition", "NumberOfSeriesRelatedInstances"):
        # Some scanners call each place of the table an acquisition, and count the images of all.
        lacking = [
            h for h in headers if h["There"][keyword] < h.get(keyword, 0) and h["There"]["images"] != h.get(keyword, 0)
        ]
        if lacking:
            tell(
                "%s: %s is %g, but only %d are there. Check that no slice was left out of the export.",
                *(name, keyword, lacking[0][keyword], lacking[0]["There"][keyword]),
            )
