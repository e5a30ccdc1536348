"""The header `Retry-After` of a server's answer, which may hold anything."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(told: str) -> float | None:
    """
    Seconds that a server asks to wait. Whoever waits bounds them: a server may ask for years.

    Args:
        told (`str`):
            Value of the header: a number or a date.

    Returns:
        `float` or `None`: the seconds, which may be infinite; `None` if the value is neither, or lies in the past.
    """
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):  # neither a number nor a date
            return None
    return seconds if seconds >= 0 else None  # `nan` is not
