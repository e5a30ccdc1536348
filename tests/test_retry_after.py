"""`Retry-After` may hold anything."""

import pytest

from ct_rate_pairs.retry_after import retry_after


@pytest.mark.parametrize(("told", "seconds"), [("0", 0), ("12", 12), (" 1.5 ", 1.5), ("inf", float("inf"))])
def test_numbers_are_seconds(told, seconds):
    assert retry_after(told) == seconds


def test_dates_are_times_from_now_and_many_digits_are_endless():
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT") > 10**9
    assert retry_after("1" * 5_000) == float("inf")


@pytest.mark.parametrize(
    "told",
    [
        *("", " ", "-1", "nan", "-inf", "soon", "\u00b2", "0x10", "1,5", "1 2", "Mon, 01 Jan 2001 00:00:00 GMT"),
        *("Mon, 01 Jan 2030 00:00:00 +9999999999", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 41 Jan 2030"),
    ],
)
def test_what_is_neither_or_past_asks_for_nothing(told):
    assert retry_after(told) is None
