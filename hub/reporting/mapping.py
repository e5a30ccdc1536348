"""
The private file that says whose scans some reports are of: the path of each scan, and of a DICOM scan the image that
each slice was taken from. No other file of a report has any of this.
"""

from pathlib import Path

from ct_rate_pairs.json_files import check_json, read_json
from ct_rate_pairs.json_schemas.scan_mapping import ScanMappings
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.sources.tree import as_text
from ct_rate_pairs.volumes.instances import Instances
from ct_rate_pairs.whole_files import write_whole


PRIVATE = "Private: this file says whose scans the reports are of. Do not send it with them."


class ScanMapping:
    """
    The mapping of the reports in one folder. It is written anew with each scan, and only this user may read it. What
    an earlier call has written is kept, so that an interrupted batch continues.

    Args:
        path (`Path`):
            The file. It must not lie in `output_dir`, which may be given away.
        output_dir (`Path`):
            Folder of the reports.

    Raises:
        `ValueError`: if the file lies in `output_dir`, if its folder is not there, or if there is such a file and it
            is none of these, or belongs to the reports in another folder.
    """

    def __init__(self, path: Path, output_dir: Path):
        """Checks the place of the file, and reads what an earlier call has written."""
        self.path, self.output_dir = path, as_text(output_dir.resolve())
        if path.resolve().is_relative_to(output_dir.resolve()):
            raise ValueError(
                "The mapping (--mapping) must not lie in the folder of the reports: it says whose scans they are of, "
                "and the folder may be given away. Choose a file in another folder."
            )
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError("The mapping (--mapping) is a folder, or its folder is not there: give a file.")
        self.scans: dict[str, dict] = {}
        if path.exists():
            earlier = check_json(read_json(path), ScanMappings, path)
            if earlier["output_dir"] != self.output_dir:
                raise ValueError(
                    f"{path} is the mapping (--mapping) of the reports in another folder: choose another file."
                )
            self.scans = {scan["name"]: scan for scan in earlier["scans"]}

    def has(self, name: str, digest: str) -> bool:
        """Whether the report of this name is mapped already, to a scan with this hash."""
        return name in self.scans and self.scans[name]["digest"] == digest

    def add(self, name: str, scan: Path | None, digest: str | None, instances: Instances | None = None) -> None:
        """
        Maps a report to its scan, and writes the file.

        Args:
            name (`str`):
                Name of the report.
            scan (`Path`, *optional*):
                Path of the scan; `None` for a scan from a server.
            digest (`str`, *optional*):
                Hash of the scan; `None` if it cannot be opened.
            instances ([`~ct_rate_pairs.volumes.instances.Instances`], *optional*):
                The DICOM image of each slice.
        """
        images = instances.images if instances else []
        self.scans[name] = {
            "name": name,
            "path": None if scan is None else as_text(scan.resolve()),
            "digest": digest,
            "study_uid": images[0].study_uid if images else None,
            "series_uid": images[0].series_uid if images else None,
            "slices": [
                {
                    "number": number,
                    "sop_instance_uid": image.sop_instance_uid,
                    "instance_number": image.number,
                    "frame": image.frame,
                }
                for number, image in enumerate(images, start=1)
            ],
        }
        content = {"notice": PRIVATE, "output_dir": self.output_dir, "scans": list(self.scans.values())}
        write_whole(self.path, to_json(content, indent=2) + "\n", private=True)
