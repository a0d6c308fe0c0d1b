"""The values that statistics name: as numbers to reckon with, as people see them, and as JSON holds them.

Times are reckoned with in microseconds (TIME-1): moments since 1970-01-01 UTC, durations as their length, times of
day since midnight.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any, Final, Literal

from grange.types.durations import timedelta_of
from grange.types.time import EPOCH, from_micros, to_micros

Kind = Literal["number", "date", "datetime", "duration", "time", "boolean", "text", "binary", "list", "other"]
"""What can be said of a column's values; `other` is counted alone."""

TIMES: Final = ("date", "datetime", "duration", "time")

_KINDS: Final[dict[str, Kind]] = {
    "float16": "number", "float32": "number", "float64": "number", "int128": "number", "uint128": "number",
    "date": "date", "datetime": "datetime", "duration": "duration", "time": "time",
    "boolean": "boolean", "string": "text", "uuid": "text", "binary": "binary",
}  # fmt: skip
_LENGTH: Final = re.compile(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d)(?:\.(\d{6}))?")
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def kind_of(dtype: str) -> Kind:
    """The kind of a type as statistics print it."""
    if dtype.startswith(("int", "uint", "decimal(")):
        return "number"
    if dtype.startswith("list["):
        return "list"
    return _KINDS.get(dtype, "other")


def shown(kind: Kind, value: Any, *, whole: bool = False) -> Any:
    """A number as a value of its kind.

    Microseconds become datetimes, timedeltas and times of day, rounded to whole ones; a moment that Python's datetime
    does not have is ISO 8601 text. Other numbers stay as they are.

    Args:
        whole: of dates, show the date itself; a mean or a quantile of dates is a moment.
    """
    if kind not in TIMES or value is None:
        return value
    micros = round(value)
    if kind == "duration":
        return timedelta_of(micros)
    if kind == "time":
        return (EPOCH + timedelta_of(micros)).time()
    try:
        moment = from_micros(micros)
    except OverflowError:
        return _beyond(micros)
    return moment.date() if whole and kind == "date" else moment


def number_of(value: Any) -> float:
    """The inverse of `shown`: microseconds of a time, a float of any other number."""
    match value:
        case dt.datetime() | dt.date():
            return float(to_micros(value))
        case dt.timedelta():
            return float(value // _MICROSECOND)
        case dt.time():
            return float((dt.datetime.combine(EPOCH, value, dt.UTC) - EPOCH) // _MICROSECOND)
        case str():
            return _micros_beyond(value)
        case _:
            return float(value)


def read(dtype: str, value: Any) -> Any:
    """A value of a column as it was before `plain` made it JSON; of a list's items, by their type."""
    kind = kind_of(dtype)
    if value is None or kind == "other":
        return value
    if kind == "list":
        return read(dtype[len("list[") : -1], value)
    if kind == "binary":
        return bytes.fromhex(value)
    if kind == "number":
        return _number(dtype, value)
    return _time(kind, value) if kind in TIMES else value


def read_computed(dtype: str, value: Any) -> Any:
    """A mean, quantile or edge of a column as it was before `plain` made it JSON: a float, or a time."""
    kind = kind_of(dtype)
    if value is None:
        return None
    return _time(kind, value) if kind in TIMES else float(value)


def _number(dtype: str, value: Any) -> Any:
    if dtype.startswith("decimal("):
        return Decimal(value)
    return float(value) if dtype.startswith("float") else int(value)


def _time(kind: Kind, text: str) -> Any:
    if kind == "duration":
        return _length(text)
    if kind == "time":
        return dt.time.fromisoformat(text)
    try:
        return dt.date.fromisoformat(text) if "T" not in text else dt.datetime.fromisoformat(text)
    except ValueError:
        return text  # a moment that Python's datetime does not have


def _length(text: str) -> dt.timedelta:
    """A timedelta from what it prints: `-1 day, 23:59:59.500000`."""
    found = _LENGTH.fullmatch(text)
    assert found is not None, f"{text!r} is not what a timedelta prints"
    days, hours, minutes, seconds, micros = (int(part or 0) for part in found.groups())
    return dt.timedelta(days, seconds, micros, minutes=minutes, hours=hours)


def _beyond(micros: int) -> str:
    import numpy as np

    return f"{np.datetime64(micros, 'us')}Z"


def _micros_beyond(text: str) -> float:
    import numpy as np

    return float(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


__all__ = ["TIMES", "Kind", "kind_of", "number_of", "read", "read_computed", "shown"]
