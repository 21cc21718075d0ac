"""Points in time as directories write them, read as seconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import Enum

_GENERALIZED = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)([0-5]\d|60)?)?(?:[.,](\d+))?(?:Z|([+-])([01]\d|2[0-3])([0-5]\d)?)", re.ASCII
)
_WINDOWS_EPOCH_S = 11_644_473_600
"""From the beginning of 1601 to that of 1970."""
_TICKS = 10_000_000
"""In a second."""
_NEVER = 2**63 - 1
_DAY_S = 86_400


class TimeForm(Enum):
    """How an attribute writes a time."""

    GENERALIZED_TIME = "generalized_time"
    """RFC 4517 §3.3.13: `20260131120000Z`."""
    FILETIME = "filetime"
    """AD: tenths of microseconds since 1601; 0 and the largest number mean never."""
    DAYS = "days"
    """Days since 1970, as `shadowExpire` has them (RFC 2307 §2.2, shadow(5)); what is negative means never."""


class IntervalForm(Enum):
    """How an attribute writes a length of time."""

    SECONDS = "seconds"
    """0 means that it never ends."""
    FILETIME = "filetime"
    """AD: tenths of microseconds, as a negative number; 0 and the least number mean that it never ends."""


def parse_interval_s(text: str, form: IntervalForm) -> float | None:
    """The length of time in seconds, or None where it never ends or the text holds none."""
    if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) is None:
        return None
    number = int(text)
    if form is IntervalForm.SECONDS:
        return float(number) if number > 0 else None
    return abs(number) / _TICKS if number and abs(number) < _NEVER else None


def parse_time_s(text: str, form: TimeForm) -> float | None:
    """Seconds since 1970, or None for what is no time, or never."""
    if form is TimeForm.GENERALIZED_TIME:
        return _parse_generalized_s(text)
    if re.fullmatch(r"-?\d{1,19}", text, re.ASCII) is None:
        return None
    number = int(text)
    if form is TimeForm.DAYS:
        return float(number * _DAY_S) if number >= 0 else None
    return (number - _WINDOWS_EPOCH_S * _TICKS) / _TICKS if 0 < number < _NEVER else None


def _parse_generalized_s(text: str) -> float | None:
    found = _GENERALIZED.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour = (int(found[number]) for number in range(1, 5))
    minute, second = int(found[5] or 0), int(found[6] or 0)
    unit_s = 1 if found[6] else 60 if found[5] else 3600  # a fraction is one of the last unit that is written
    fraction_s = unit_s * float(f"0.{found[7] or 0}")
    offset = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    try:
        start = datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    shift_s = offset.total_seconds() * (-1 if found[8] == "-" else 1)
    return start.timestamp() + second + fraction_s - shift_s
