"""Durations: fixed lengths only (TIME-2)."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from grange.errors import DurationError

_MICROSECONDS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 7 * 86_400_000_000,
}
_CALENDAR: Final = {
    "mo": "month", "month": "month", "months": "month", "M": "month", "q": "quarter", "quarter": "quarter",
    "y": "year", "year": "year", "years": "year", "Y": "year",
}  # fmt: skip
_LONGEST: Final = (1 << 63) - 1
"""Microseconds are held in 64 bits: 292,000 years."""
_NO_LIMIT: Final = "leave it out for no limit"
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*")


def parse_duration(value: str | dt.timedelta, *, what: str = "duration") -> dt.timedelta:
    """A positive fixed length from text such as `"90d"`, `"1d12h"`, `"250ms"`, or a timedelta.

    Units: us, ms, s, m (minutes), h, d (24 h), w (7 d).

    Raises:
        DurationError: zero or negative, malformed, or a calendar length, whose size depends on when it starts.
    """
    if isinstance(value, dt.timedelta):
        if value <= dt.timedelta(0):
            raise DurationError(f"{what} must be longer than zero, got {value!r}", try_=_NO_LIMIT)
        return value
    if not isinstance(value, str):
        raise DurationError(f"{what} must be text such as '90d' or a timedelta, got {value!r}")
    total, position = 0.0, 0
    while position < len(value):
        match = _PART.match(value, position)
        if match is None:
            break
        number, unit = match.groups()
        if unit in _CALENDAR:
            raise DurationError(
                f"{what} {value!r} counts in {_CALENDAR[unit]}s, which have no fixed length",
                try_=f"say days: {_in_days(number, unit)}",
            )
        if unit not in _MICROSECONDS:
            raise DurationError(f"{what} {value!r} has an unknown unit {unit!r}", try_="units: us ms s m h d w")
        total += float(number) * _MICROSECONDS[unit]
        position = match.end()
    if position == 0 or position < len(value):
        raise DurationError(f"{what} {value!r} is not a duration", try_="write it as 90d, 12h, 1d12h or 250ms")
    if total > _LONGEST:
        raise DurationError(f"{what} {value!r} is longer than 292,000 years", try_=_NO_LIMIT)
    if total < 1:
        raise DurationError(f"{what} must be at least one microsecond, got {value!r}", try_=_NO_LIMIT)
    return dt.timedelta(microseconds=round(total))


def format_duration(value: dt.timedelta) -> str:
    """The shortest text that `parse_duration` reads back as the same length."""
    left = to_micros(value)
    parts = []
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        if unit == "w" and left % _MICROSECONDS["w"]:
            continue  # 30d reads better than 4w2d
        count, left = divmod(left, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def to_micros(value: dt.timedelta) -> int:
    """The length in microseconds, exactly."""
    return (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds


def timedelta_of(micros: int) -> dt.timedelta:
    """The length of so many microseconds: the inverse of `to_micros`."""
    return dt.timedelta(microseconds=micros)


def _in_days(number: str, unit: str) -> str:
    days = {"month": 30, "quarter": 91, "year": 365}[_CALENDAR[unit]]
    return f"{round(float(number) * days)}d"
