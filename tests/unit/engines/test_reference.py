"""What the reference engine does beyond its contract: calendars, and packages that are not installed."""

from __future__ import annotations

import sys

import pytest

from grange.engines.reference.calendar import calendar_value
from grange.errors import DefinitionError, MissingDependencyError, RequestError
from grange.frames import Rows
from grange.plan.nodes import Input, Output, PointInTimeJoin, WindowJoin
from grange.testing.cases import numbered, read_table
from grange.testing.engines import engine_or_skip
from grange.types import DataType
from grange.types.aggregates import LIFETIME, Aggregate, Function
from grange.types.time import to_micros


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        ("2026-03-29T00:59:59.999999", "Europe/Berlin", (1, 6, 29, 3, True)),
        ("2026-03-29T01:00:00", "Europe/Berlin", (3, 6, 29, 3, True)),
        ("2026-10-25T00:30:00", "Europe/Berlin", (2, 6, 25, 10, True)),
        ("2026-10-25T01:30:00", "Europe/Berlin", (2, 6, 25, 10, True)),
        ("2026-12-31T18:30:00", "Asia/Kolkata", (0, 4, 1, 1, False)),
        ("1969-12-31T23:59:59.999999", "UTC", (23, 2, 31, 12, False)),
        ("2024-02-29T12:00:00", "UTC", (12, 3, 29, 2, False)),
        ("2026-06-01T03:59:00", "America/New_York", (23, 6, 31, 5, True)),
    ],
)
def test_calendar_values_are_those_of_the_wall_clock(moment: str, zone: str, expected: tuple[int | bool, ...]) -> None:
    names = ("hour", "weekday", "day", "month", "weekend")
    assert tuple(calendar_value(Function(name, (zone,)), to_micros(moment)) for name in names) == expected


def test_calendars_say_what_they_do_not_know() -> None:
    with pytest.raises(DefinitionError, match="no time zone 'Europe/Atlantis'"):
        calendar_value(Function("hour", ("Europe/Atlantis",)), 0)
    with pytest.raises(RequestError, match="years 1 to 9999"):
        calendar_value(Function("hour", ("UTC",)), 1 << 60)


def test_holidays_are_those_of_the_country_on_its_own_day() -> None:
    pytest.importorskip("holidays", reason="pip install 'grange[timeseries]'")
    eve = to_micros("2026-12-24T23:30:00")
    for zone, country, expected in (
        ("Europe/Berlin", "DE", "Erster Weihnachtstag"),
        ("UTC", "DE", None),
        ("America/Los_Angeles", "US-CA", None),
    ):
        assert calendar_value(Function("holiday_name", (zone, country)), eve) == expected
        assert calendar_value(Function("holiday", (zone, country)), eve) is (expected is not None)
    chavez = to_micros("2026-03-31T20:00:00")
    assert calendar_value(Function("holiday", ("America/Los_Angeles", "US-CA")), chavez) is True
    assert calendar_value(Function("holiday", ("America/Los_Angeles", "US")), chavez) is False
    with pytest.raises(DefinitionError, match="'XX'"):
        calendar_value(Function("holiday", ("UTC", "XX")), eve)


@pytest.mark.parametrize(
    ("package", "function", "dtype", "command"),
    [
        ("datasketches", Function("approx_count_distinct"), "int64", "grange[sketches]"),
        ("datasketches", Function("approx_quantile", (0.5,)), "float64", "grange[sketches]"),
        ("holidays", Function("holiday", ("UTC", "DE")), "boolean", "grange[timeseries]"),
    ],
)
def test_a_missing_package_is_an_error_with_the_install_command(
    package: str, function: Function, dtype: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    column = "*" if package == "holidays" else "v"
    aggregate = Aggregate("x", function, column, LIFETIME, DataType(dtype))
    join = WindowJoin(
        "events", "1.0.0", Input("events"), (("k", "k"),), "f", None, None, None, None, True, (aggregate,),
        (Output("x", "x", DataType(dtype)),),
    )  # fmt: skip
    node = PointInTimeJoin(Input("spine"), "f", (join,), as_known=False)
    events = numbered(
        read_table({"columns": {"k": "string", "f": "datetime", "v": "int64"}, "rows": [["a", "2026-01-01", 1]]})
    )
    rows = {"events": Rows(arrow=events), "spine": Rows(arrow=events.select(["k", "f"]))}
    with pytest.raises(MissingDependencyError) as caught:
        engine_or_skip("reference").run(node, rows)
    assert command in str(caught.value)
