"""Reads the ages of patients."""

import re


OLDEST = 122  # years, which one person is known to have reached
_PERIODS = {"Y": 1, "M": 12, "W": 52, "D": 365}  # of DICOM's age strings, per year
_AGE = re.compile(r"(\d{1,3})([YMWD])")


def years_of(age: str) -> int | None:
    """
    The whole years of an age as DICOM writes it (`036Y`; months, weeks and days, too). `None` for what is no age, and
    for an age that nobody has: one above `OLDEST`, and `000Y`, which stands in headers whose age was taken out. An
    infant's age is in months, weeks or days.
    """
    found = _AGE.fullmatch(age)
    years = int(found[1]) // _PERIODS[found[2]] if found and age != "000Y" else None
    return years if years is None or years <= OLDEST else None
