"""The calendar kernel against datetime and zoneinfo, moment by moment; one moment against many (ONL-1)."""

from __future__ import annotations

import datetime as dt
import sys
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grange.errors import DefinitionError, MissingDependencyError
from grange.kernels import calendar
from grange.kernels.calendar import CALENDAR, HOLIDAYS, calendar_value, check_calendar, evaluate_calendar
from grange.types.aggregates import FUNCTIONS, Function, output_dtype
from grange.types.arrow import arrow_type
from grange.types.time import EPOCH, from_micros, to_micros

HOUR = 3_600_000_000
DAY = 24 * HOUR
FIRST, LAST = to_micros("0001-01-01"), to_micros("9999-12-31T23:59:59.999999")
ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
PLAIN = [name for name in CALENDAR if name not in HOLIDAYS]
AWKWARD = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca",
           "Pacific/Apia", "Asia/Gaza", "Africa/Freetown", "Antarctica/Troll", "Europe/Dublin"]  # fmt: skip

moments = st.one_of(
    st.integers(to_micros("1900-01-01"), to_micros("2100-01-01")),
    st.integers(to_micros("0001-01-02"), to_micros("9999-12-30T23:59:59.999999")),
)


def by_datetime(name: str, zone: str, micros: int) -> object:
    local = from_micros(micros).astimezone(zoneinfo.ZoneInfo(zone))
    return {
        "hour": local.hour,
        "weekday": local.weekday(),
        "day": local.day,
        "month": local.month,
        "weekend": local.weekday() >= 5,
    }[name]


def of(name: str, zone: str = "UTC", country: str = "DE") -> Function:
    return Function(name, (zone, country)[: len(FUNCTIONS[name].parameters)])


def evaluate(function: Function, micros: list[int | None]) -> list[Any]:
    valid = np.array([moment is not None for moment in micros], np.bool_)
    values = np.array([np.iinfo(np.int64).min if moment is None else moment for moment in micros], np.int64)
    return list(evaluate_calendar(function, values, None if valid.all() else valid).to_pylist())


@given(zone=st.sampled_from([*AWKWARD, *ZONES]), micros=st.lists(moments, max_size=8))
@example(zone="Europe/Berlin", micros=[to_micros("2026-03-29T00:59:59.999999"), to_micros("2026-03-29T01:00")])
@example(zone="Europe/Berlin", micros=[to_micros("2026-10-25T00:59:59.999999"), to_micros("2026-10-25T01:00")])
@example(zone="Pacific/Apia", micros=[to_micros("2011-12-30T09:59:59.999999"), to_micros("2011-12-30T10:00")])
@example(zone="Africa/Freetown", micros=[-957308400_000001, -957308400_000000, -956964000_000001, -956964000_000000])
@example(zone="Europe/Berlin", micros=[-2422054409_000000, -2422054408_000001, -2422054408_000000])
@example(zone="UTC", micros=[-1, 0, DAY - 1, DAY])
@settings(max_examples=300, deadline=None)
def test_values_are_those_of_a_datetime_in_the_zone(zone: str, micros: list[int]) -> None:
    for name in PLAIN:
        expected = [by_datetime(name, zone, moment) for moment in micros]
        assert evaluate(of(name, zone), list(micros)) == expected
        assert [calendar_value(of(name, zone), moment) for moment in micros] == expected


@pytest.mark.parametrize("zone", AWKWARD)
def test_values_change_where_the_zone_changes_its_offset(zone: str) -> None:
    """Every quarter of an hour, and the microsecond before it, of the days from 1900 to 2060 with a change."""
    info = zoneinfo.ZoneInfo(zone)
    days = range(to_micros("1900-01-01"), to_micros("2060-01-01"), DAY)
    offsets = [from_micros(day).astimezone(info).utcoffset() for day in days]
    around = [
        moment + before
        for day, offset, after in zip(days, offsets, offsets[1:], strict=False)
        if offset != after
        for moment in range(day, day + DAY + 1, HOUR // 4)
        for before in (-1, 0)
    ]
    assert around or zone == "UTC"
    for name in ("hour", "day"):
        assert evaluate(of(name, zone), list(around)) == [by_datetime(name, zone, moment) for moment in around]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("name", PLAIN)
def test_the_first_and_last_moments_are_read_although_the_local_date_is_none(name: str, zone: str) -> None:
    """400 years later, or earlier, the calendar is the same; a zone's offset is that of the nearest day."""
    cycle = 146_097 * DAY
    early, late = calendar_value(of(name, zone), FIRST), calendar_value(of(name, zone), LAST)
    assert [early, late] == evaluate(of(name, zone), [FIRST, LAST])
    assert early == by_datetime(name, zone, FIRST + cycle)
    assert late == by_datetime(name, zone, LAST - cycle)


@given(micros=st.lists(st.one_of(st.none(), moments), max_size=6), name=st.sampled_from(PLAIN))
@settings(deadline=None)
def test_there_is_no_value_where_there_is_no_moment(micros: list[int | None], name: str) -> None:
    function = of(name, "Europe/Berlin")
    expected = [None if moment is None else calendar_value(function, moment) for moment in micros]
    assert evaluate(function, micros) == expected


@pytest.mark.parametrize("name", PLAIN)
def test_values_have_the_declared_type(name: str) -> None:
    declared = arrow_type(output_dtype(of(name), None))
    for micros in (np.array([], np.int64), np.array([0, DAY], np.int64)):
        found = evaluate_calendar(of(name), micros, None)
        assert found.type == declared
        assert len(found) == len(micros)
    assert type(calendar_value(of(name), 0)) is (bool if pa.types.is_boolean(declared) else int)


def test_the_arguments_are_left_as_they_are() -> None:
    micros, valid = np.array([0, 5 * DAY, 7], np.int64), np.array([True, False, True])
    for name in PLAIN:
        evaluate_calendar(of(name, "Asia/Kathmandu"), micros, valid)
    assert micros.tolist() == [0, 5 * DAY, 7]
    assert valid.tolist() == [True, False, True]


def test_other_functions_are_no_calendar() -> None:
    with pytest.raises(ValueError, match="not of the calendar"):
        evaluate_calendar(Function("quantile", ("UTC",)), np.array([0], np.int64), None)
    with pytest.raises(ValueError, match="not of the calendar"):
        calendar_value(Function("quantile", ("UTC",)), 0)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires"])
def test_time_zones_of_the_database_are_known(zone: str) -> None:
    check_calendar(of("hour", zone), what="Calendar")


@pytest.mark.parametrize(
    ("zone", "closest"),
    [
        ("Europe/Belrin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/NewYork", "America/New_York"),
        ("Europe", None),
        ("../Berlin", None),
        ("/etc/localtime", None),
        ("right/UTC", None),
        ("localtime", None),
        ("", None),
        ("a\0b", None),
    ],
)
def test_other_time_zones_are_refused(zone: str, closest: str | None) -> None:
    with pytest.raises(DefinitionError, match="Calendar of load: no time zone") as caught:
        check_calendar(of("hour", zone), what="Calendar of load")
    if closest is not None:
        assert caught.value.closest[0] == closest


# Holidays, as the package `holidays` knows them.


@pytest.fixture
def holidays() -> Any:
    return pytest.importorskip("holidays", reason="needs holidays: pip install 'grange[timeseries]'")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is remembered of what was looked up before, and nothing after."""
    caches = (calendar._holidays, calendar._language)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_holidays_are_of_the_local_date(holidays: Any) -> None:
    """Christmas begins in Berlin an hour before it does in UTC, and a day's last hour belongs to the next day."""
    for moment, name in [
        ("2026-12-24T22:59:59.999999", None),
        ("2026-12-24T23:00", "Erster Weihnachtstag"),
        ("2026-12-26T22:59:59.999999", "Zweiter Weihnachtstag"),
        ("2026-12-26T23:00", None),
        ("2026-06-04T12:00", None),
    ]:
        micros = to_micros(moment)
        assert calendar_value(of("holiday_name", "Europe/Berlin"), micros) == name
        assert calendar_value(of("holiday", "Europe/Berlin"), micros) is (name is not None)


def test_holidays_of_a_subdivision_and_those_moved_from_a_weekend(holidays: Any) -> None:
    corpus_christi, moved = to_micros("2026-06-04T12:00"), to_micros("2027-12-31T12:00")
    assert calendar_value(of("holiday", country="DE-BY"), corpus_christi) is True
    assert calendar_value(of("holiday", country="DE-BE"), corpus_christi) is False
    assert calendar_value(of("holiday", country="US-CA"), moved) is True


@pytest.mark.parametrize("country", ["DE", "US-CA", "JP", "SA", "IN", "GB-SCT"])
def test_holidays_are_those_of_the_package(holidays: Any, country: str) -> None:
    code, _, subdivision = country.partition("-")
    days = np.arange(to_micros("2019-12-25"), to_micros("2028-01-05"), DAY, dtype=np.int64) + 13 * HOUR
    package = holidays.country_holidays(code, subdiv=subdivision or None, years=range(2019, 2029), expand=False)
    dates = [(EPOCH + dt.timedelta(microseconds=day)).date() for day in days.tolist()]
    expected = [date in package for date in dates]
    assert any(expected)
    assert evaluate_calendar(of("holiday", country=country), days, None).to_pylist() == expected
    named = evaluate_calendar(of("holiday_name", country=country), days, None)
    assert named.type == pa.string()
    assert [name is not None for name in named.to_pylist()] == expected
    for name in HOLIDAYS:
        one_by_one = [calendar_value(of(name, country=country), day) for day in days.tolist()]
        assert one_by_one == evaluate_calendar(of(name, country=country), days, None).to_pylist()


@given(micros=st.lists(st.one_of(st.none(), moments, st.sampled_from([FIRST, LAST])), max_size=6))
@settings(deadline=None, max_examples=30)
def test_holidays_of_one_moment_are_those_of_many(micros: list[int | None]) -> None:
    pytest.importorskip("holidays", reason="needs holidays: pip install 'grange[timeseries]'")
    for name in HOLIDAYS:
        function = of(name, "Pacific/Kiritimati", "US")
        expected = [None if moment is None else calendar_value(function, moment) for moment in micros]
        assert evaluate(function, micros) == expected


@pytest.mark.usefixtures("fresh")
def test_names_do_not_depend_on_the_language_of_the_machine(holidays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for language in ("C.UTF-8", "en_US.UTF-8", "de_DE.UTF-8", "uk_UA.UTF-8"):
        for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.setenv(variable, language)
        calendar._holidays.cache_clear()
        calendar._language.cache_clear()
        names.append(calendar_value(of("holiday_name"), to_micros("2026-01-01")))
    assert names == ["Neujahr"] * 4


def test_countries_of_the_package_are_known(holidays: Any) -> None:
    for country in ("DE", "DE-BY", "US-CA", "GB"):
        check_calendar(of("holiday", country=country), what="Calendar")


@pytest.mark.parametrize(
    ("country", "closest"), [("de", "DE"), ("DE-BZ", "DE-BY"), ("US-", None), ("Deutschland", None)]
)
def test_other_countries_are_refused(holidays: Any, country: str, closest: str | None) -> None:
    with pytest.raises(DefinitionError, match="Calendar: no holidays are known for country") as caught:
        check_calendar(of("holiday", country=country), what="Calendar")
    assert closest is None or closest in caught.value.closest


@pytest.mark.usefixtures("fresh")
def test_without_the_package_holidays_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    check_calendar(of("weekend"), what="Calendar")
    for ask in (
        lambda: check_calendar(of("holiday"), what="Calendar"),
        lambda: calendar_value(of("holiday"), 0),
        lambda: evaluate_calendar(of("holiday_name"), np.array([0], np.int64), None),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'grange\[timeseries\]'"):
            ask()
