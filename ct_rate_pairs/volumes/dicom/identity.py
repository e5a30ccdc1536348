"""
The patient, the study and the day that slices are of. Slices of two of them are never one volume.

One patient may be spelled in several ways, and a scan may run over midnight: these are no differences.
"""

import re
import unicodedata
from collections import defaultdict
from datetime import date

import numpy as np

from ..told import tell
from .headers import Header


_DAYS = (
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "AcquisitionDateTime",
    "FrameReferenceDateTime",
)
IDENTITY = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "ClinicalTrialSubjectID",
    "StudyInstanceUID",
    "StudyID",
    "AccessionNumber",
    "ClinicalTrialTimePointID",
    *_DAYS,
)
MISSING = -1e12  # below any number
_DAY, _HOUR = 86400.0, 3600.0  # seconds; no scan over midnight has a pause of an hour


def by_identity(headers: list[Header], keyword: str) -> list[list[Header]]:
    """
    The slices by their patient, study or day, as an element of `IDENTITY` tells it. Slices without the element are
    apart only where the other slices differ.
    """
    kinds, said = defaultdict(list), [header for header in headers if _meant(header, keyword)]
    for header in headers:
        kinds[_meant(header, keyword)].append(header)
    if len(kinds.keys() - {""}) < 2 or (keyword in _DAYS and _over_midnight(said, keyword)):
        return [headers]
    return [kinds[meant] for meant in sorted(kinds)]


def days_of(headers: list[Header]) -> dict[str, int]:
    """The number of days that each element gives to the slices of one volume: two for a scan over midnight."""
    return {keyword: len({_meant(header, keyword) for header in headers} - {""}) for keyword in _DAYS}


def tell_spellings(name: str, headers: list[Header]) -> None:
    """Tells elements that are spelled in several ways, or that some of the slices lack. No value is shown."""
    differing = []
    for keyword in IDENTITY:
        said = [header for header in headers if _meant(header, keyword)]
        spellings = {header[keyword][: 8 if keyword.endswith("DateTime") else None] for header in said}
        if len(spellings) > 1 and len({_meant(header, keyword) for header in said}) == 1:
            differing.append(f"{len(spellings)} spellings of {keyword}")
        if 0 < len(said) < len(headers):
            differing.append(f"no {keyword} in {len(headers) - len(said)} of its {len(headers)} slices")
    if differing:
        tell("%s: its slices are taken for one patient, study and day, but have %s.", name, ", ".join(differing))


def _meant(header: Header, keyword: str) -> str:
    """The value of an element in the one spelling that all its spellings share; empty if it says nothing."""
    text = " ".join(unicodedata.normalize("NFKC", header[keyword]).replace("\0", " ").casefold().split())
    if "Date" in keyword:
        return re.sub(r"\D", "", text)[:8]
    if keyword == "PatientSex":
        return text[:1]
    if keyword == "PatientName":  # the same name in other scripts follows, behind "="
        groups = [" ".join(re.split(r"[\s^,]+", group)).strip() for group in text.split("=")]
        return next(filter(None, groups), "")
    return text


def _over_midnight(headers: list[Header], keyword: str) -> bool:
    """Whether the days of the slices, with the times that belong to them, are those of one scan over midnight."""
    seconds = seconds_of(headers, keyword if keyword.endswith("DateTime") else keyword.replace("Date", "Time"))
    is_known = all(_number_of_day(header[keyword]) is not None for header in headers)
    return is_known and bool(np.diff(np.sort(seconds)).max() < _HOUR)


def seconds_of(headers: list[Header], keyword: str) -> list[float]:
    """
    The times of the slices in seconds, with their dates. Where the dates do not differ, or are not there, a scan over
    midnight has times from both ends of the day: these count on.
    """
    dates, clocks = [], []
    for header in headers:
        text = header[keyword].replace(":", "")
        dates.append(_number_of_day(text if keyword.endswith("DateTime") else header[keyword.replace("Time", "Date")]))
        found = re.match(r"(\d\d)(\d\d)?(\d\d(?:\.\d*)?)?", text[8 if keyword.endswith("DateTime") else 0 :])
        clocks.append(sum(float(found[i] or 0) * unit for i, unit in enumerate((3600, 60, 1), 1)) if found else None)
    if None in dates or len(set(dates)) == 1:
        known = sorted({clock for clock in clocks if clock is not None})
        if known and known[-1] - known[0] > _DAY / 2:
            gaps = np.diff(known, append=known[0] + _DAY)
            start = known[(int(np.argmax(gaps)) + 1) % len(known)]  # after the longest pause
            clocks = [clock if clock is None else (clock - start) % _DAY for clock in clocks]
        return [MISSING if clock is None else clock for clock in clocks]
    if not any(clock is not None for clock in clocks):
        return [day * _DAY for day in dates]
    return [MISSING if clock is None else day * _DAY + clock for day, clock in zip(dates, clocks, strict=True)]


def _number_of_day(text: str) -> int | None:
    """The number of a day from the year 1 on; `None` if the text does not begin with a date."""
    found = re.match(r"([12]\d{3})\D?(0[1-9]|1[0-2])\D?(\d\d)", text)
    return date(int(found[1]), int(found[2]), 1).toordinal() + int(found[3]) if found else None
