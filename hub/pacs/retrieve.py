"""
Fetches a series from a DICOMweb server: chooses it (QIDO-RS), and retrieves its instances one by one (WADO-RS) into a
private temporary folder, which is removed after use.

A series comes whole or not at all: each instance that the server lists must arrive, and be the one that was asked for.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from tqdm.auto import tqdm

from ct_rate_pairs.volumes.dicom.series import ENOUGH, KERNEL, MOST_LISTED
from ct_rate_pairs.volumes.dicom.stacks import is_axial
from ct_rate_pairs.volumes.files import MOST_BYTES
from ct_rate_pairs.volumes.told import tell

from .server import DicomWebServer, PacsError


MOST_INSTANCES = 5000  # of a series, and series of a study
Search = Callable[[DICOMwebClient, int], list[dict]]  # a page of what a server lists, from an offset on


@contextmanager
def retrieved_series(
    server: DicomWebServer, study: str, series: str | None = None, progress: bool = True
) -> Iterator[Path]:
    """
    Retrieves a series into a temporary folder that only this user can read.

    Args:
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`]):
            The server.
        study (`str`):
            StudyInstanceUID.
        series (`str`, *optional*):
            SeriesInstanceUID. It is needed unless exactly one series of the study is an axial CT of ten images or
            more. The error lists the series.
        progress (`bool`, *optional*, defaults to `True`):
            Whether a progress bar is shown.

    Yields:
        `Path`: the folder, one file per instance, in the transfer syntax in which the server keeps it. The folder is
            removed at the end, also after an error.

    Raises:
        [`~ct_rate_pairs.hub.pacs.server.PacsError`]: if the server does not give the whole series; if no series or
            several series fit.
        `ValueError`: for a UID that is none.

    Example:

    ```python
    from ct_rate_pairs.hub import load_reporter
    from ct_rate_pairs.hub.pacs import DicomWebServer, retrieved_series

    with retrieved_series(DicomWebServer("https://pacs.example.org/dicom-web"), study="1.2.3") as folder:
        report = load_reporter("USER/model").report(folder)
    ```
    """
    check_uid("study", study)
    if series is not None:
        check_uid("series", series)
    chosen = choose_series(server, study) if series is None else series
    listed = list_series(server, study)
    if chosen not in listed:
        raise PacsError(f"{server.host}: the study has no such series. {_listed(server, study, listed)}")
    uids = _instances_of(server, study, chosen, listed[chosen])
    with tempfile.TemporaryDirectory(prefix="ct-rate-pairs-") as folder:
        _retrieve(server, study, chosen, uids, Path(folder), progress)
        yield Path(folder)


def check_uid(name: str, uid: str) -> None:
    """Raises a `ValueError` for what is no UID. It is not quoted: it may be a patient's number."""
    if len(uid) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)+", uid):
        raise ValueError(f"{name} is no UID: a DICOM UID has numbers with points between them, at most 64 characters.")


def list_series(server: DicomWebServer, study: str) -> dict[str, Dataset]:
    """The series of a study by their UIDs, as the server describes them."""

    def search(client: DICOMwebClient, offset: int) -> list[dict]:
        return client.search_for_series(study, offset=offset)

    series = _every(server, "the series of the study", search, "SeriesInstanceUID")
    if not series:
        raise PacsError(
            f"{server.host} has no series of this study. Check the StudyInstanceUID, and that this login may see it."
        )
    return dict(sorted(series.items(), key=lambda item: (item[1].get("SeriesNumber") or 0, item[0])))


def _instances_of(server: DicomWebServer, study: str, series: str, described: Dataset) -> list[str]:
    """The UIDs of the instances of a series; refused if the server counts more of them than it lists, or fewer."""

    def search(client: DICOMwebClient, offset: int) -> list[dict]:
        return client.search_for_instances(study, series, offset=offset)

    uids = list(_every(server, "the instances of the series", search, "SOPInstanceUID"))
    counted = described.get("NumberOfSeriesRelatedInstances")
    if not uids or (counted is not None and counted != len(uids)):
        told = "no instance" if counted is None else f"{counted} instances"
        raise PacsError(
            f"{server.host} counts {told} in the series, and lists {len(uids)}. The series may still be arriving: try "
            "again later. No report is written of a part."
        )
    return uids


def _every(server: DicomWebServer, what: str, search: Search, keyword: str) -> dict[str, Dataset]:
    """All that a server lists, page by page, by the UID in `keyword`."""
    found: dict[str, Dataset] = {}
    while True:
        page = server.ask(f"list {what}", partial(_page, search, offset=len(found)))
        new = {str(item[keyword].value): item for item in page if item.get(keyword)}
        new = {uid: item for uid, item in new.items() if uid not in found}
        if not new:  # also of a server that knows no pages, and lists the same again
            return found
        found |= new
        if len(found) > MOST_INSTANCES:
            raise PacsError(f"{server.host} lists more than {MOST_INSTANCES} entries as {what}, more than a scan has.")


def _page(search: Search, client: DICOMwebClient, offset: int) -> list[Dataset]:
    return [Dataset.from_json(item) for item in search(client, offset)]


def choose_series(server: DicomWebServer, study: str) -> str:
    """
    The SeriesInstanceUID of the one series of a study that is an axial CT of ten images or more. A choice among
    several series is told.

    Args:
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`]), study (`str`):
            The server, and the StudyInstanceUID.

    Raises:
        [`~ct_rate_pairs.hub.pacs.server.PacsError`]: if no series or several series fit, with a list of them.
        `ValueError`: for a UID that is none.
    """
    check_uid("study", study)
    listed = list_series(server, study)
    fitting = [uid for uid in listed if _may_fit(listed[uid]) and _is_axial_ct(_first_of(server, study, uid))]
    if len(fitting) != 1:
        raise PacsError(
            f"{server.host}: {len(fitting)} of the study's {len(listed)} series are axial CT of {ENOUGH} images or "
            f"more. {_listed(server, study, listed)}"
        )
    if len(listed) > 1:
        tell(
            "One of the study's %d series was chosen (%s): the others are no axial CT of %d images or more.",
            *(len(listed), _describe(listed[fitting[0]], _first_of(server, study, fitting[0])), ENOUGH),
        )
    return fitting[0]


def _may_fit(series: Dataset) -> bool:
    """Whether a series may be an axial CT, by its own description. One file may be a whole Enhanced CT."""
    count = series.get("NumberOfSeriesRelatedInstances")
    return series.get("Modality") == "CT" and (count is None or count == 1 or count >= ENOUGH)


def _is_axial_ct(first: Dataset) -> bool:
    """Whether a series may be reported, by one header. An Enhanced CT has its places elsewhere: it is taken."""
    if "LOCALIZER" in str(first.get("ImageType", "")).upper():
        return False
    if (frames := first.get("NumberOfFrames") or 1) > 1:
        return frames >= ENOUGH
    cosines = first.get("ImageOrientationPatient") or []
    return len(cosines) == 6 and bool(is_axial({"ImageOrientationPatient": np.array(cosines, dtype=float)}))


def _first_of(server: DicomWebServer, study: str, series: str) -> Dataset:
    """The header of one instance of a series."""

    def header(client: DICOMwebClient) -> Dataset:
        first = Dataset.from_json(client.search_for_instances(study, series, limit=1)[0])
        return Dataset.from_json(
            client.retrieve_instance_metadata(study, series, str(first.SOPInstanceUID)), lambda _: b""
        )

    return server.ask("give the header of an image", header)


def _listed(server: DicomWebServer, study: str, listed: dict[str, Dataset]) -> str:
    """The series of a study for a message, each with its UID, without which none can be chosen."""
    lines = []
    for uid, series in list(listed.items())[:MOST_LISTED]:
        header = _first_of(server, study, uid) if series.get("Modality") == "CT" else Dataset()
        lines.append(f"  {uid}: {_describe(series, header)}")
    lines += [f"  ... {len(listed)} in all"] * (len(listed) > MOST_LISTED)
    return "\n".join(["Choose one by its UID, as series (--series UID):", *lines])


def _describe(series: Dataset, header: Dataset) -> str:
    """A series as the reader of DICOM describes it. Its description is left out: free text may hold a name."""
    modality = str(series.get("Modality", ""))
    words = [modality if re.fullmatch("[A-Z]{2,4}", modality) else "no modality"]
    count = series.get("NumberOfSeriesRelatedInstances")
    words += [] if count is None else [f"{count} images"]
    words += [f"{header.NumberOfFrames} frames"] if header.get("NumberOfFrames") else []
    if len(header.get("PixelSpacing") or []) == 2:
        words.append("pixels of {:g} x {:g} mm".format(*map(float, header.PixelSpacing)))
    if thickness := header.get("SliceThickness"):
        words.append(f"slices of {float(thickness):g} mm")
    kernel = str(header.get("ConvolutionKernel") or "").strip("[]").replace("'", "")
    return ", ".join(words + [f"kernel {kernel}"] * bool(KERNEL.fullmatch(kernel)))


def _retrieve(server: DicomWebServer, study: str, series: str, uids: list[str], folder: Path, progress: bool) -> None:
    """Writes the instances of a series to a folder. The names of the files are numbers, whatever the server says."""
    left = MOST_BYTES
    for number, uid in enumerate(tqdm(uids, "Retrieving", unit="image", disable=not progress), start=1):
        path = folder / f"{number:05}.dcm"

        def instance(client: DICOMwebClient, uid: str = uid, path: Path = path) -> tuple[str, str]:
            dataset = client.retrieve_instance(study, series, uid)
            dataset.save_as(path, enforce_file_format=True)
            return str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)

        try:
            came = server.ask(f"give image {number} of {len(uids)}", instance)
        except PacsError as error:
            raise PacsError(
                f"{error} {number - 1} of the {len(uids)} images of the series had arrived, and are removed: no "
                "report is written of a part. Run the same command again."
            ) from None
        if came != (series, uid):
            raise PacsError(f"{server.host} sends another image than the one that was asked for (image {number}).")
        left -= path.stat().st_size
        if left < 0:
            raise PacsError(f"The series has more than {MOST_BYTES / 2**30:.0f} GB, more than a scan has.")
