"""Aggregations as data: names, what they expand to, what is refused, and that they read back as they were written."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import grange as gr
from grange.definitions.aggregations import Aggregation, aggregation_from_data, expand
from grange.definitions.serialize import fingerprint, group_from_data, to_data
from grange.errors import DefinitionError, DurationError
from grange.types import DataType, Schema
from grange.types.aggregates import FUNCTIONS, LIFETIME, Aggregate, Function, Window, parse_function, parse_window

user = gr.Entity("user", join_keys=["user_id"])
SCHEMA = Schema.of(
    {
        "user_id": int, "at": dt.datetime, "amount": float, "units": "int32", "country": str, "price": "decimal(9,2)",
        "tags": "list[string]", "raw": "binary", "gone": bool, "tx": str,
    }
)  # fmt: skip
DAY = 86_400_000_000


def names(*aggregations: Aggregation) -> list[str]:
    return [item.name for item in expand(aggregations, SCHEMA, what="g")]


class TestNames:
    """WIN-5."""

    def test_column_function_window(self) -> None:
        rolling = gr.Rolling({"amount": ["sum", "mean"]}, windows=["7d", "30d"])
        assert names(rolling) == ["amount__sum__7d", "amount__sum__30d", "amount__mean__7d", "amount__mean__30d"]

    @pytest.mark.parametrize(
        ("window", "label"),
        [
            ("24h", "24h"), ("7d", "7d"), (dt.timedelta(days=7), "7d"), ("1d12h", "1d12h"), ("10 rows", "10rows"),
            ("lifetime", "lifetime"), ("500us", "500us"), (dt.timedelta(hours=36), "1d12h"),
        ],
    )  # fmt: skip
    def test_a_window_reads_as_it_was_written(self, window: Any, label: str) -> None:
        assert names(gr.Rolling({"amount": "sum"}, windows=window)) == [f"amount__sum__{label}"]

    @pytest.mark.parametrize(
        ("function", "label"),
        [
            ("quantile(0.95)", "quantile_0_95"), ("last_n(5)", "last_5"), ("first_n(3)", "first_3"),
            ("top_n(3)", "top_3"), ("min_by(units)", "min_by_units"), ("ewma(7d)", "ewma_7d"),
            ("decayed_sum(36h)", "decayed_sum_1d12h"), ("approx_quantile(0.5)", "approx_quantile_0_5"),
        ],
    )  # fmt: skip
    def test_parameters_are_part_of_the_name(self, function: str, label: str) -> None:
        assert names(gr.Rolling({"amount": function}, windows="1d")) == [f"amount__{label}__1d"]

    def test_rows(self) -> None:
        assert names(gr.Rolling({"*": ["count", "time_since_last"]}, windows="1d")) == [
            "rows__count__1d",
            "rows__time_since_last__1d",
        ]

    def test_filter_and_name(self) -> None:
        french = "country = 'FR'"
        assert names(
            gr.Rolling({"amount": "sum"}, windows="1d", filter=french),
            gr.Rolling({"amount": "sum"}, windows="1d", filter=french, name="french"),
            gr.Rolling({"amount": "sum", "units": "max"}, windows="1d", name="{function}_{column}_of_{window}"),
        ) == ["amount_where_country_fr__sum__1d", "french__sum__1d", "sum_amount_of_1d", "max_units_of_1d"]

    def test_the_others(self) -> None:
        assert names(
            gr.Lag(["amount", "units"], ["1h", "168h"]),
            gr.Rollup({"amount": ["mean"]}, every="1h"),
            gr.Session({"amount": "sum"}, gap="30m"),
            gr.Calendar(["hour", "weekend"], prefix="local_"),
        ) == [
            "amount__lag__1h", "amount__lag__168h", "units__lag__1h", "units__lag__168h",
            "amount__mean__rollup_1h", "amount__sum__session_30m", "local_hour", "local_weekend",
        ]  # fmt: skip

    def test_two_features_of_one_name_are_refused(self) -> None:
        with pytest.raises(DefinitionError, match="two aggregations make a feature 'amount__sum__1d'"):
            names(
                gr.Rolling({"amount": "sum"}, windows="1d"), gr.Rolling({"amount": "sum"}, windows="1d", closed="left")
            )


class TestWhatTheyAre:
    def test_types_of_outputs(self) -> None:
        columns = {
            "amount": ["sum", "mean"],
            "units": ["sum", "mean", "max", "range"],
            "country": ["mode", "last_n(2)"],
        }
        found = {item.name: str(item.dtype) for item in expand([gr.Rolling(columns, windows="1d")], SCHEMA, what="g")}
        assert list(found.values()) == [
            "float64", "float64", "int64", "float64", "int32", "int64", "string", "list[string]"
        ]  # fmt: skip

    def test_a_rollup_is_the_last_whole_interval(self) -> None:
        [item] = expand([gr.Rollup({"amount": "sum"}, every="1d", offset="6h")], SCHEMA, what="g")
        assert (item.window, item.closed, item.every, item.offset) == (Window("time", DAY), "left", DAY, DAY // 4)

    def test_a_lag_may_have_a_tolerance(self) -> None:
        first, second = expand([gr.Lag("amount", "1d"), gr.Lag("amount", "2d", tolerance="1h")], SCHEMA, what="g")
        assert (first.window, first.shift) == (LIFETIME, DAY)
        assert (second.window, second.shift) == (Window("time", DAY // 24), 2 * DAY)

    def test_reach(self) -> None:
        [item] = expand([gr.Rolling({"amount": "sum"}, windows="7d", every="1d")], SCHEMA, what="g")
        assert item.reach == 8 * DAY
        [item] = expand([gr.Rolling({"amount": "sum"}, windows="10rows")], SCHEMA, what="g")
        assert item.reach is None

    @pytest.mark.parametrize(
        "aggregation",
        [
            gr.Rolling({"amount": ["sum", "ewma(7d)"], "*": "count"}, windows=["7d", "24h", "10rows", "lifetime"]),
            gr.Rolling(
                {"amount": "min_by(units)"}, windows="7d", closed="left", every="1d", offset="6h", filter="units > 1"
            ),
            gr.Lag("amount", ["1h", "24h"], tolerance="10m", name="{column}_{window}_ago"),
            gr.Rollup({"amount": "mean"}, every="1h", offset="15m"),
            gr.Session({"amount": ["sum"]}, gap="30m", closed="none"),
            gr.Calendar(["hour", "month"], timezone="Europe/Berlin"),
        ],
        ids=lambda item: type(item).__name__,
    )
    def test_they_read_back_as_they_were(self, aggregation: Aggregation) -> None:
        assert aggregation_from_data(aggregation.to_data()) == aggregation
        for item in expand([aggregation], SCHEMA, what="g"):
            assert Aggregate.from_data(item.to_data()) == item

    @pytest.mark.parametrize("name", [name for name, about in FUNCTIONS.items() if about.tally == "run"])
    def test_every_function_prints_as_it_is_parsed(self, name: str) -> None:
        text = FUNCTIONS[name].example or name
        assert str(parse_function(text, what="x")) == text


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: gr.Rolling({"amount": "summ"}, windows="1d"), "sum"),
            (lambda: gr.Rolling({"amount": "quantile"}, windows="1d"), "quantile(0.95)"),
            (lambda: gr.Rolling({"amount": "quantile(2)"}, windows="1d"), "from 0 to 1"),
            (lambda: gr.Rolling({"amount": "last_n(0)"}, windows="1d"), "whole number"),
            (lambda: gr.Rolling({"amount": "sum(1)"}, windows="1d"), "takes no parameters"),
            (lambda: gr.Rolling({"amount": "lag"}, windows="1d"), "no function 'lag'"),
            (lambda: gr.Rolling({"amount": []}, windows="1d"), "no function of 'amount'"),
            (lambda: gr.Rolling({}, windows="1d"), "functions by column"),
            (lambda: gr.Rolling({"amount": "sum"}, windows=[]), "needs windows"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="0rows"), "holds nothing"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="1h", every="1d"), "shorter than its every"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="1d", offset="1h"), "there is none"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="7d", every="1d", offset="1d"), "as long as its interval"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="1d", closed="rigth"), "right"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="1d", filter=" "), "SQL condition"),
            (lambda: gr.Rolling({"amount": "sum"}, windows="1d", name="{kolumn}"), "kolumn"),
            (lambda: gr.Rolling({"amount": "sum", "units": "sum"}, windows="1d", name="x"), "one name stands for 2"),
            (lambda: gr.Lag([], "1h"), "needs columns"),
            (lambda: gr.Lag("*", "1h"), "needs columns"),
            (lambda: gr.Calendar(["hours"]), "hour"),
            (lambda: gr.Calendar("holiday"), "of a country"),
        ],
    )  # fmt: skip
    def test_at_definition_time(self, make: Any, says: str) -> None:
        with pytest.raises(DefinitionError) as refused:
            make()
        assert says in str(refused.value)

    @pytest.mark.parametrize("window", ["1mo", "1 month", "1y", "2q"])
    def test_calendar_lengths_have_no_fixed_size(self, window: str) -> None:
        with pytest.raises(DurationError, match="no fixed length"):
            gr.Rolling({"amount": "sum"}, windows=window)

    def test_a_negative_lag_reads_the_future(self) -> None:
        with pytest.raises(DurationError, match="from the future"):
            gr.Lag("amount", "-1h")

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"amuont": "sum"}, "amount"),
            ({"country": "sum"}, "needs numbers, and column 'country' is string"),
            ({"price": "sum"}, "cast it to float64"),
            ({"tags": "min"}, "values with an order"),
            ({"raw": "max"}, "values with an order"),
            ({"tags": "count_distinct"}, "single values"),
            ({"amount": "min_by(uints)"}, "units"),
            ({"amount": "max_by(tags)"}, "values with an order"),
            ({"*": "sum"}, "needs a column"),
        ],
    )
    def test_against_the_rows(self, columns: dict[str, str], says: str) -> None:
        with pytest.raises(DefinitionError) as refused:
            expand([gr.Rolling(columns, windows="1d")], SCHEMA, what="feature group 'g'")
        assert says in str(refused.value)
        assert "feature group 'g'" in str(refused.value)

    def test_a_window_needs_words(self) -> None:
        with pytest.raises(DurationError):
            parse_window(7, what="x")


def group(**options: Any) -> gr.FeatureGroup:
    source = options.pop("source", gr.FileSource("tx.parquet", event_time="at"))
    rolling = gr.Rolling({"amount": ["sum"]}, windows=["7d"])
    return gr.FeatureGroup("spend", entities=user, source=source, **{"aggregations": [rolling], **options})


class TestInAGroup:
    def test_the_features_are_the_aggregations(self) -> None:
        spend = group(schema={"user_id": int, "at": dt.datetime, "amount": float})
        assert spend.features() == Schema.of({"amount__sum__7d": DataType("float64")})

    def test_it_reads_back_as_it_was(self) -> None:
        source = gr.FileSource("tx.parquet", event_time="at", created_time="known", event_id="tx", retracted="gone")
        spend = group(source=source, interval="1d", fill_gaps=True)
        again = group_from_data("spend", to_data(spend))
        assert again == spend
        assert (again.event_id, again.retracted, again.interval) == ("tx", "gone", dt.timedelta(days=1))

    def test_groups_without_aggregations_are_as_they_were_before_there_were_any(self) -> None:
        plain = to_data(gr.FeatureGroup("g", entities=user, source=gr.FileSource("x.parquet", event_time="at")))
        assert not {"aggregations", "interval", "fill_gaps"} & plain.keys()
        assert not {"event_id", "retracted"} & plain["source"].keys()
        assert fingerprint(plain) != fingerprint(to_data(group()))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"aggregations": ["sum"]}, "must be aggregations"),
            ({"aggregations": [], "interval": "1d"}, "interval is of groups with aggregations"),
            ({"fill_gaps": True}, "has no interval"),
            ({"source": gr.FileSource("x.parquet")}, "no event time"),
            ({"aggregations": [gr.Rolling({"c": "sum"}, "1d")], "schema": {"c": str}}, "needs numbers"),
            ({"aggregations": [], "source": gr.FileSource("x.parquet", event_time="t", event_id="i")}, "not events"),
            (
                {"aggregations": [gr.Rolling({"user": "sum"}, windows="1d", name="{column}_id")]},
                "name of its entity key",
            ),
        ],
    )
    def test_contradictions_are_refused(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(DefinitionError) as refused:
            group(**options)
        assert says in str(refused.value)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"retracted": "gone"}, "no event_id"),
            ({"event_id": "at"}, "stands for two things"),
            ({"event_id": "tx", "retracted": "tx"}, "stands for two things"),
        ],
    )
    def test_sources_are_checked(self, options: dict[str, str], says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            gr.FileSource("tx.parquet", event_time="at", **options)

    def test_columns_that_are_not_declared_are_inferred_later(self) -> None:
        partly = group(schema={"user_id": "string"})
        assert partly.schema.names == ("user_id",)

    def test_functions_compare_by_value(self) -> None:
        assert Function("quantile", (0.5,)) == parse_function("quantile(0.5)", what="x")
