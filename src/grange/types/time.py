"""Time: UTC, microseconds (TIME-1). Nothing here reads the clock (TIME-3)."""

from __future__ import annotations

import datetime as dt
from typing import Final

from grange.errors import RequestError

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ALWAYS: Final = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
"""The event time of rows whose source has none: true ever since."""
ALWAYS_MICROS: Final = (ALWAYS - EPOCH) // dt.timedelta(microseconds=1)

Moment = dt.datetime | dt.date | str
"""What people write for a point in time."""


def to_utc(value: Moment, *, what: str = "time") -> dt.datetime:
    """A moment in UTC: naive is read as UTC, other zones are converted, a date is its midnight (TIME-1).

    Text is ISO 8601: `2026-11-21`, `2026-11-21T10:00`, `2026-11-21T10:00:00.5+01:00`.

    Raises:
        RequestError: text that is not ISO 8601.
    """
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise RequestError(
                f"{what} {value!r} is not an ISO 8601 time", try_="write 2026-11-21 or 2026-11-21T10:00:00Z"
            ) from error
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    raise RequestError(f"{what} must be a datetime, a date or ISO 8601 text, got {value!r}")


def to_micros(value: Moment, *, what: str = "time") -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    return (to_utc(value, what=what) - EPOCH) // dt.timedelta(microseconds=1)


def from_micros(value: int) -> dt.datetime:
    """The UTC datetime of so many microseconds since 1970-01-01."""
    return EPOCH + dt.timedelta(microseconds=value)


def isoformat(value: dt.datetime) -> str:
    """How times are written in metadata: `2026-11-21T10:00:00Z`, microseconds only when there are any."""
    return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
