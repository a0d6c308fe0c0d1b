"""The small languages of windowed features: what they mean, what they refuse, and how features read afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.cli import windows
from grange.cli.describing import Columns, aggregate_record, aggregate_text, column_rows
from grange.cli.output import size
from grange.definitions.aggregations import Calendar, Lag, Rolling, Rollup, Session
from grange.errors import UsageError
from grange.types import Schema
from grange.types.aggregates import FUNCTIONS


@pytest.mark.parametrize(
    ("text", "rolling"),
    [
        ("amount:sum:7d", Rolling({"amount": "sum"}, "7d")),
        ("amount: sum, mean : 7d, 30d", Rolling({"amount": ["sum", "mean"]}, ["7d", "30d"])),
        (
            "amount:quantile(0.95),min_by(price),decayed_sum(7d):10rows,lifetime",
            Rolling({"amount": ["quantile(0.95)", "min_by(price)", "decayed_sum(7d)"]}, ["10rows", "lifetime"]),
        ),
        ("*:count:24h", Rolling({"*": "count"}, "24h")),
        ("amount:sum:7d:closed=left", Rolling({"amount": "sum"}, "7d", closed="left")),
        (
            "amount:sum:7d:every=1d:offset=6h:name=daily",
            Rolling({"amount": "sum"}, "7d", every="1d", offset="6h", name="daily"),
        ),
        (
            "amount:sum:7d:filter=country = 'a:b, c' AND x > 1",
            Rolling({"amount": "sum"}, "7d", filter="country = 'a:b, c' AND x > 1"),
        ),
        ("amount:sum:7d:filter=(x::int = 3)", Rolling({"amount": "sum"}, "7d", filter="(x::int = 3)")),
        ("amount:sum:7d:filter=\"country = 'FR'\"", Rolling({"amount": "sum"}, "7d", filter="country = 'FR'")),
        ('amount:sum:7d:filter="a" = "b"', Rolling({"amount": "sum"}, "7d", filter='"a" = "b"')),
        ('"net: total, ""EUR""":sum:7d', Rolling({'net: total, "EUR"': "sum"}, "7d")),
        ("amount:sum:7d:name={function}_{window}", Rolling({"amount": "sum"}, "7d", name="{function}_{window}")),
    ],
)
def test_aggregates(text: str, rolling: Rolling) -> None:
    assert windows.parse_aggregate(text) == rolling


def test_lags_rollups_sessions_and_calendars() -> None:
    assert windows.parse_lag("load:1h,24h") == Lag("load", ["1h", "24h"])
    assert windows.parse_lag("load,temp:1h:tolerance=59m") == Lag(["load", "temp"], "1h", tolerance="59m")
    assert windows.parse_rollup("load:mean,max:1h") == [Rollup({"load": ["mean", "max"]}, every="1h")]
    assert windows.parse_rollup("load:mean:1h,1d:offset=30m") == [
        Rollup({"load": "mean"}, every=length, offset="30m") for length in ("1h", "1d")
    ]
    assert windows.parse_session("amount:sum,count:30m:closed=left") == [
        Session({"amount": ["sum", "count"]}, gap="30m", closed="left")
    ]
    assert windows.parse_calendar("hour,holiday:timezone=Europe/Berlin:country=DE:prefix=at_") == Calendar(
        ["hour", "holiday"], timezone="Europe/Berlin", country="DE", prefix="at_"
    )


def test_all_kinds_together_keep_their_order() -> None:
    found = windows.parse_aggregations(
        aggregates=["a:sum:7d", "b:sum:7d"],
        lags=["a:1h"],
        rollups=["a:max:1h,1d"],
        sessions=["a:count:30m"],
        calendars=["hour"],
    )
    assert [type(item) for item in found] == [Rolling, Rolling, Lag, Rollup, Rollup, Session, Calendar]
    assert windows.parse_aggregations() == []


@pytest.mark.parametrize(
    ("kind", "text", "said", "closest"),
    [
        ("aggregate", "", "needs column, functions and windows", ()),
        ("aggregate", "amount", "needs column, functions and windows", ()),
        ("aggregate", "amount:sum", "needs column, functions and windows", ()),
        ("aggregate", "amount::7d", "needs column, functions and windows", ()),
        ("aggregate", "amount:summ:7d", "no function 'summ'", ("sum",)),
        ("aggregate", "amount:sum,,mean:7d", "empty item", ()),
        ("aggregate", "amount:sum:7d,", "empty item", ()),
        ("aggregate", "amount:sum(2):7d", "takes no parameters", ()),
        ("aggregate", "amount:quantile:7d", r"needs quantile\(0.95\)", ()),
        ("aggregate", "amount:quantile(2):7d", "not a fraction", ()),
        ("aggregate", "amount:quantile(0.9:7d", "parenthesis is not closed", ()),
        ("aggregate", "amount:sum:7d:filter=a = 'b", "quote is not closed", ()),
        ("aggregate", "amount:sum:1mo", "months", ()),
        ("aggregate", "amount:sum:0d", "at least one microsecond", ()),
        ("aggregate", "amount:sum:7d:30d", "'30d' is no option", ()),
        ("aggregate", "amount:sum:7d:clsed=left", "no option", ("closed=",)),
        ("aggregate", "amount:sum:7d:closed=lft", "closed must be one of", ("left",)),
        ("aggregate", "amount:sum:7d:closed=left:closed=left", "given twice", ()),
        ("aggregate", "amount:sum:7d:every=30d", "shorter than its every", ()),
        ("aggregate", "amount:sum:7d:offset=1h", "every", ()),
        ("aggregate", "amount:sum:7d:filter=country =", "not SQL", ()),
        ("aggregate", "amount:sum:7d:name={x}", "may hold", ()),
        ("lag", "load", "needs column and lengths", ()),
        ("lag", "load:-1h", "future", ()),
        ("lag", "load:1h:every=1h", "no option", ()),
        ("lag", "*:1h", "needs columns", ()),
        ("rollup", "load:mean:1h:offset=2h", "as long as its interval", ()),
        ("rollup", "load:mean:x", "not a duration", ()),
        ("session", "load:mean", "needs column, functions and gaps", ()),
        ("calendar", "huor", "no field 'huor'", ("hour",)),
        ("calendar", "hour:timezone=Europe/Berln", "no time zone", ("Europe/Berlin",)),
        ("calendar", "holiday", "country", ()),
    ],
)
def test_what_cannot_be_read_is_said_with_its_text(kind: str, text: str, said: str, closest: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        getattr(windows, f"parse_{kind}")(text)
    assert caught.value.message.startswith(f"{kind} {text!r}: ")
    assert caught.value.closest[: len(closest)] == closest
    assert caught.value.try_ and "gr." not in caught.value.try_
    for python in ("Rolling", "Lag", "Rollup", "Session", "Calendar"):
        assert python not in caught.value.message


FUNCTION_TEXTS = [about.example or name for name, about in FUNCTIONS.items() if about.tally == "run"]


@given(
    column=st.text(min_size=1).filter(lambda text: text == text.strip()),
    functions=st.lists(st.sampled_from(FUNCTION_TEXTS), min_size=1, unique=True),
    lengths=st.lists(st.sampled_from(["250ms", "7d", "1d12h", "3rows", "lifetime"]), min_size=1, unique=True),
    options=st.fixed_dictionaries(
        {}, optional={"closed": st.sampled_from(["left", "both"]), "filter": st.sampled_from(["a > 1", "b = ':,)'"])}
    ),
)
def test_whatever_python_can_say_can_be_written(
    column: str, functions: list[str], lengths: list[str], options: dict[str, Any]
) -> None:
    """A column of any name in double quotes, a quote doubled."""
    quoted = '"' + column.replace('"', '""') + '"'
    tail = "".join(f":{name}={value}" for name, value in options.items())
    text = f"{quoted}:{','.join(functions)}:{','.join(lengths)}{tail}"
    assert windows.parse_aggregate(text) == Rolling({column: functions}, lengths, **options)


@given(st.text(alphabet="a:,()'\"=* 7dsum", max_size=30), st.sampled_from(windows.GRAMMARS))
def test_any_text_is_read_or_refused_as_usage(text: str, grammar: windows.Grammar) -> None:
    try:
        found = getattr(windows, f"parse_{grammar.option}")(text)
    except UsageError as error:
        assert error.message.startswith(f"{grammar.option} {text!r}: ")
    else:
        assert found


SCHEMA = Schema.of({"amount": "float64", "country": "string"})


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        ("aggregate", "amount:sum:7d", "sum of amount over 7d"),
        ("aggregate", "*:count:10rows", "count of rows over 10rows"),
        ("aggregate", "amount:quantile(0.95):lifetime", "quantile(0.95) of amount over lifetime"),
        (
            "aggregate",
            "amount:sum:7d:closed=left:every=1d:offset=6h:filter=country = 'FR'",
            "sum of amount over 7d, closed left, every 1d, offset 6h, where country = 'FR'",
        ),
        ("lag", "amount:24h", "lag of amount by 1d"),
        ("lag", "amount:1h:tolerance=59m", "lag of amount by 1h, tolerance 59m"),
        ("calendar", "hour:timezone=Europe/Berlin", "hour(Europe/Berlin)"),
    ],
)
def test_a_feature_reads_in_one_line(kind: str, text: str, shown: str) -> None:
    [aggregate] = getattr(windows, f"parse_{kind}")(text).aggregates(SCHEMA, what="group")
    assert aggregate_text(aggregate) == shown


def test_a_feature_as_data_says_only_what_applies() -> None:
    [lag] = windows.parse_lag("amount:24h:tolerance=1h").aggregates(SCHEMA, what="group")
    assert aggregate_record(lag) == {
        "function": "lag", "column": "amount", "window": "1h", "closed": "right", "every": None, "offset": None,
        "lag": "1d", "filter": None,
    }  # fmt: skip
    [hour] = windows.parse_calendar("hour").aggregates(SCHEMA, what="group")
    assert aggregate_record(hour) == dict.fromkeys(aggregate_record(lag)) | {"function": "hour(UTC)"}
    [rollup] = windows.parse_rollup("amount:mean:1h")
    [mean] = rollup.aggregates(SCHEMA, what="group")
    assert (aggregate_record(mean)["closed"], aggregate_record(mean)["every"]) == ("left", "1h")


def test_columns_that_nobody_fills_are_left_out_of_a_table() -> None:
    columns = [{"name": "a", "dtype": "int64"}, {"name": "b", "dtype": "string", "description": "a place"}]
    assert column_rows(columns) == [
        {"name": "a", "type": "int64", "what it is": ""},
        {"name": "b", "type": "string", "what it is": "a place"},
    ]
    assert column_rows(columns, {"a": 0}, {"b": ["not_null() fail"]})[1] == {
        "name": "b", "type": "string", "what it is": "a place", "default": "", "expectations": "not_null() fail",
    }  # fmt: skip
    assert column_rows([]) == []


def test_a_key_that_is_the_event_id_stays_a_key() -> None:
    roles = Columns(SCHEMA, {"amount": "join key"}, ()).records({})
    assert [(item["name"], item["role"]) for item in roles] == [("amount", "join key"), ("country", "feature")]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (13_701, "13.4 KiB"), (5 * 2**20, "5.0 MiB"),
     (2**30, "1.0 GiB"), (2**41, "2.0 TiB"), (2**52, "4,096.0 TiB")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text
