"""Calendar features: what the clock and the calendar on the wall say at a moment, and whether it is a holiday.

A moment is microseconds since 1970-01-01 UTC (TIME-1), of the years 1 to 9999. The first parameter of a function is
the time zone in which it is read, an IANA name; the second one, of `holiday` and `holiday_name`, the country.

`evaluate_calendar` reads a column of moments, `calendar_value` a single one; both look up the same tables, so that a
feature is the same offline and online (ONL-1). The tables are made of the time zone database and of the package
`holidays` when they are first needed, and kept.

    hour = Function("hour", ("Europe/Berlin",))
    evaluate_calendar(hour, np.array([0, 3_600_000_000]), None)       # [1, 2]
    calendar_value(hour, 0)                                           # 1
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.errors import DefinitionError, MissingDependencyError, closest_names
from grange.kernels.arrays import Ints, Mask
from grange.types.aggregates import FUNCTIONS, Function

CALENDAR: Final = tuple(name for name, about in FUNCTIONS.items() if about.tally == "time")
"""The functions that can be read here."""
HOLIDAYS: Final = ("holiday", "holiday_name")
"""Those that need a country and the package `holidays`."""

_SECOND: Final = 1_000_000
_HOUR: Final = 3_600 * _SECOND
_DAY_SECONDS: Final = 86_400
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_DAY: Final = _DAY_SECONDS * _SECOND

_BLOCK_SECONDS: Final = 1 << 25
"""Offsets of a zone are found for 388 days at a time."""
_BLOCK: Final = _BLOCK_SECONDS * _SECOND

_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()
_CYCLE_YEARS: Final = 400
_CYCLE_DAYS: Final = 146_097
"""The calendar repeats itself after 400 years, weekdays too."""

_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a zone is set where it is used
_EARLIEST: Final = (dt.datetime(1, 1, 2) - _EPOCH) // dt.timedelta(seconds=1)  # noqa: DTZ001
_LATEST: Final = (dt.datetime(9999, 12, 30) - _EPOCH) // dt.timedelta(seconds=1)  # noqa: DTZ001
"""The first and last second at which a zone can be asked: a day inside of what a datetime can hold."""

_MACHINE_ZONES: Final = frozenset({"localtime", "Factory"})
"""Names in the time zone database that mean another zone on another machine."""


def check_calendar(function: Function, *, what: str) -> None:
    """Check that the time zone of a calendar function exists, and that its country is known.

    Args:
        function: one of `CALENDAR`.
        what: what it belongs to, for messages.

    Raises:
        DefinitionError: an unknown time zone or country; carries the closest names.
        MissingDependencyError: it is about holidays and the package that knows them is not installed.
    """
    zone = function.parameters[0]
    if zone != "UTC" and zone not in _zones():
        raise DefinitionError(
            f"{what}: no time zone {zone!r}",
            closest=closest_names(str(zone), sorted(_zones())),
            try_='an IANA name: timezone="Europe/Berlin"',
        )
    if function.name in HOLIDAYS:
        _check_country(function.parameters[1], what)


def evaluate_calendar(function: Function, micros: Ints, valid: Mask | None) -> pa.Array:
    """The values of a calendar function at many moments.

    Args:
        function: one of `CALENDAR`, with parameters that `check_calendar` lets pass.
        micros: moments in microseconds since 1970-01-01 UTC, in any order.
        valid: which of them are moments; None is all. The others may hold any number.

    Returns:
        One value per moment, in order, null where `valid` is False. `hour` 0-23, `weekday` 0-6 (Monday is 0), `day`
        1-31 and `month` 1-12 are int64; `weekend` (Saturday or Sunday) and `holiday` boolean; `holiday_name` string,
        null on other days, in the country's own language, names of one day joined by `; `.

    Raises:
        MissingDependencyError: it is about holidays and the package that knows them is not installed.
    """
    moments = micros if valid is None else np.where(valid, micros, 0)
    local = _to_local(function.parameters[0], moments)
    match function.name:
        case "hour":
            return _array(local // _HOUR % 24, valid)
        case "weekday":
            return _array(_weekdays(local), valid)
        case "weekend":
            return _array(_weekdays(local) >= 5, valid)
        case "day":
            return _array(_cycle()[0][_days_of_cycle(local)], valid)
        case "month":
            return _array(_cycle()[1][_days_of_cycle(local)], valid)
        case "holiday":
            codes, _ = _holiday_codes(function.parameters[1], local // _DAY)
            return _array(codes > 0, valid)
        case "holiday_name":
            codes, names = _holiday_codes(function.parameters[1], local // _DAY)
            return pa.array(names, pa.string()).take(_array(codes, valid))
        case _:
            raise _no_calendar(function)


def calendar_value(function: Function, micros: int) -> int | bool | str | None:
    """The value of a calendar function at one moment: what `evaluate_calendar` gives there, for reads of a few rows.

    Raises:
        MissingDependencyError: it is about holidays and the package that knows them is not installed.
    """
    local = _local(function.parameters[0], micros)
    match function.name:
        case "hour":
            return local // _HOUR % 24
        case "weekday":
            return (local // _DAY + 3) % 7
        case "weekend":
            return (local // _DAY + 3) % 7 >= 5
        case "day":
            return _date(local // _DAY)[1].day
        case "month":
            return _date(local // _DAY)[1].month
        case "holiday":
            return _holiday_name(function.parameters[1], local // _DAY) is not None
        case "holiday_name":
            return _holiday_name(function.parameters[1], local // _DAY)
        case _:
            raise _no_calendar(function)


def _no_calendar(function: Function) -> ValueError:
    return ValueError(f"{function} is not of the calendar")


# Time zones.


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    """Every time zone, by name. Not the ones whose meaning depends on the machine."""
    return frozenset(zoneinfo.available_timezones()) - _MACHINE_ZONES


@lru_cache(maxsize=4096)
def _offsets(zone: str, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The offsets of a zone from UTC in a block of time: since which moment, and how much, in microseconds.

    The first moment is the block's own first.
    """
    info = zoneinfo.ZoneInfo(zone)
    first, last = _askable(block * _BLOCK_SECONDS), _askable((block + 1) * _BLOCK_SECONDS - 1)
    starts, offsets = [block * _BLOCK_SECONDS], [_offset_at(info, first)]
    before = first
    for probe in [*range(first + _DAY_SECONDS, last, _DAY_SECONDS), last]:
        offset = _offset_at(info, probe)
        if offset != offsets[-1]:
            starts.append(_change(info, before, probe))
            offsets.append(offset)
        before = probe
    return tuple(start * _SECOND for start in starts), tuple(offset // _MICROSECOND for offset in offsets)


def _change(info: zoneinfo.ZoneInfo, before: int, after: int) -> int:
    """The second at which a zone takes the offset that it has at `after`, and has not at `before`.

    There is one change between them: no zone ever changed its offset twice within a day.
    """
    offset = _offset_at(info, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset_at(info, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset_at(info: zoneinfo.ZoneInfo, second: int) -> dt.timedelta:
    """The offset of a zone from UTC at a second since 1970-01-01 UTC."""
    offset = info.fromutc((_EPOCH + dt.timedelta(0, second)).replace(tzinfo=info)).utcoffset()
    assert offset is not None  # every zone of the database has one
    return offset


def _askable(second: int) -> int:
    """The nearest second at which every zone can be asked."""
    return min(max(second, _EARLIEST), _LATEST)


def _local(zone: str, micros: int) -> int:
    """The moment that a clock in the zone shows, as if it were of UTC."""
    starts, offsets = _offsets(zone, micros // _BLOCK)
    return micros + offsets[bisect_right(starts, micros) - 1]


def _to_local(zone: str, micros: Ints) -> Ints:
    """What `_local` gives, of many."""
    blocks = [_offsets(zone, block) for block in _distinct(micros // _BLOCK).tolist()]
    offsets = np.array([offset for _, found in blocks for offset in found], np.int64)
    if len(offsets) == 0:
        return micros
    starts = np.array([start for found, _ in blocks for start in found], np.int64)
    always = bool((offsets == offsets[0]).all())
    local: Ints = micros + (offsets[0] if always else offsets[np.searchsorted(starts, micros, side="right") - 1])
    return local


# Dates. A day is counted from 1970-01-01.


def _weekdays(local: Ints) -> Ints:
    """0 is Monday; 1970-01-01 was a Thursday."""
    return (local // _DAY + 3) % 7


def _days_of_cycle(local: Ints) -> Ints:
    return (local // _DAY + (_ORDINAL - 1)) % _CYCLE_DAYS


@lru_cache(maxsize=1)
def _cycle() -> tuple[Ints, Ints]:
    """The day of the month and the month, of each day from 0001-01-01 until the calendar repeats itself."""
    days = np.arange(_CYCLE_DAYS, dtype=np.int64) - (_ORDINAL - 1)
    dates = days.view("datetime64[D]")
    months = dates.astype("datetime64[M]")
    return (dates - months).astype(np.int64) + 1, months.astype(np.int64) % 12 + 1


def _date(day: int) -> tuple[int, dt.date]:
    """The year of a day, and the date of the same month, day and weekday in the years 1 to 400.

    The local date at the ends of the years 1 to 9999 may lie outside of what a date can hold.
    """
    cycle, day_of_cycle = divmod(day + _ORDINAL - 1, _CYCLE_DAYS)
    date = dt.date.fromordinal(day_of_cycle + 1)
    return cycle * _CYCLE_YEARS + date.year, date


# Holidays.


def _holiday_name(country: str, day: int) -> str | None:
    return _holidays(country, _date(day)[0]).get(day)


def _holiday_codes(country: str, days: Ints) -> tuple[Ints, list[str | None]]:
    """Per day the place of its holiday's name in a list, 0 on other days; and that list, with None in front."""
    names: list[str | None] = [None]
    if len(days) == 0:
        return days, names
    days = np.clip(days, _day(dt.date.min), _day(dt.date.max))  # there are no holidays beyond
    low, high = int(days.min()), int(days.max())
    codes = np.zeros(high - low + 1, np.int64)
    years = np.unique(_distinct(days).view("datetime64[D]").astype("datetime64[Y]").astype(np.int64)) + 1970
    for year in years.tolist():
        for day, name in _holidays(country, year).items():
            if low <= day <= high:
                codes[day - low] = len(names)
                names.append(name)
    return codes[days - low], names


@lru_cache(maxsize=4096)
def _holidays(country: str, year: int) -> Mapping[int, str]:
    """The holidays of a year by day, those that move to another day because of a weekend among them."""
    if not dt.MINYEAR <= year <= dt.MAXYEAR:
        return {}
    code, subdivision = _country(country)
    found = _package().country_holidays(
        code, subdiv=subdivision, years=year, expand=False, observed=True, language=_language(country)
    )
    return {_day(date): name for date, name in found.items()}


@lru_cache(maxsize=256)
def _language(country: str) -> str | None:
    """The country's own language; without one the package takes that of the machine, and the feature with it."""
    code, subdivision = _country(country)
    language: str | None = _package().country_holidays(code, subdiv=subdivision).default_language
    return language


def _check_country(country: object, what: str) -> None:
    known: Mapping[str, list[str]] = _package().list_supported_countries()
    code, subdivision = _country(country) if isinstance(country, str) else (str(country), None)
    if code not in known:
        closest = closest_names(code, known)
    elif subdivision is None or subdivision in known[code]:
        return
    else:
        closest = closest_names(str(country), [f"{code}-{each}" for each in known[code]])
    raise DefinitionError(
        f"{what}: no holidays are known for country {country!r}",
        closest=closest,
        try_='an ISO 3166 code: country="DE", or with a subdivision country="US-CA"',
    )


def _country(country: str) -> tuple[str, str | None]:
    """`US-CA` as `US` and `CA`."""
    code, dash, subdivision = country.partition("-")
    return code, subdivision if dash else None


def _package() -> Any:
    try:
        return import_module("holidays")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "holidays is not installed, which knows the holidays of countries",
            try_="pip install 'grange[timeseries]'",
            details={"module": "holidays"},
        ) from error


def _day(date: dt.date) -> int:
    return date.toordinal() - _ORDINAL


# Arrays.


def _distinct(values: Ints) -> Ints:
    """The distinct values, ascending; for values that lie close together, which need no sorting."""
    if len(values) == 0:
        return values
    low = int(values.min())
    distinct: Ints = np.flatnonzero(np.bincount(values - low)) + low
    return distinct


def _array(values: Any, valid: Mask | None) -> pa.Array:
    return pa.array(values, mask=None if valid is None else ~valid)
