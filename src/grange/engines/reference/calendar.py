"""What a calendar says of a moment: the hour, the weekday, a holiday. Plain Python, for the `reference` engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from grange.engines.reference.tables import Micros
from grange.errors import DefinitionError, RequestError
from grange.frames import require
from grange.types.aggregates import Function
from grange.types.time import EPOCH

_SATURDAY = 5


def calendar_value(function: Function, moment: Micros) -> int | bool | str | None:
    """A calendar function of a moment, on the wall clock of its time zone.

    `hour` is 0 to 23; `weekday` 0 (Monday) to 6; `day` the day of the month, 1 to 31; `month` 1 to 12; `weekend`
    whether it is Saturday or Sunday; `holiday` whether the day is a public holiday of the country, `holiday_name`
    which one, and None when it is none.

    Raises:
        DefinitionError: there is no such time zone, or nothing is known of the country's holidays.
        RequestError: the moment is outside of the years 1 to 9999.
        MissingDependencyError: holidays are asked for and the package `holidays` is not installed.
    """
    zone, *country = function.parameters
    local = _wall_clock(moment, zone)
    match function.name:
        case "hour":
            return local.hour
        case "weekday":
            return local.weekday()
        case "day":
            return local.day
        case "month":
            return local.month
        case "weekend":
            return local.weekday() >= _SATURDAY
        case "holiday":
            return _holiday(local.date(), *country) is not None
        case "holiday_name":
            return _holiday(local.date(), *country)
        case name:
            raise AssertionError(f"{name} is no function of a moment")


def _wall_clock(moment: Micros, zone: str) -> dt.datetime:
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DefinitionError(f"no time zone {zone!r}", try_="Europe/Berlin, America/New_York or UTC") from error
    try:
        return (EPOCH + dt.timedelta(microseconds=moment)).astimezone(where)
    except OverflowError as error:
        raise RequestError(
            "a calendar knows the years 1 to 9999", found=f"{moment} microseconds from 1970-01-01"
        ) from error


def _holiday(day: dt.date, country: str) -> str | None:
    """What a public holiday is called in a country, `DE`, or one of its parts, `US-CA`; None for any other day."""
    holidays = require("holidays", extra="timeseries")
    code, _, part = country.partition("-")
    try:
        calendar = holidays.country_holidays(code, subdiv=part or None)
        # in the country's own language: left out, it would be the machine's
        calendar = holidays.country_holidays(
            code, subdiv=part or None, years=day.year, language=calendar.default_language
        )
    except NotImplementedError as error:
        raise DefinitionError(f"no holidays are known of {country!r}", found=str(error), try_="DE, or US-CA") from error
    name: str | None = calendar.get(day)
    return name


def calendar_values(function: Function, moments: Sequence[Micros | None]) -> list[int | bool | str | None]:
    """`calendar_value` of each moment; None where there is none (TIME-1)."""
    return [None if moment is None else calendar_value(function, moment) for moment in moments]


__all__ = ["calendar_value", "calendar_values"]
