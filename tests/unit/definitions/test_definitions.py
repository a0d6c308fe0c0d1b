"""Definitions are frozen values that refuse what contradicts itself, with the reason."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import grange as gr
from grange.definitions.catalog import Catalog
from grange.definitions.serialize import (
    entity_from_data,
    fingerprint,
    group_from_data,
    to_data,
    view_from_data,
)
from grange.definitions.transforms import PythonTransform, python_transform, sql_transform
from grange.errors import (
    CyclicDefinitionError,
    DefinitionError,
    DuplicateNameError,
    DurationError,
    RequestError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
)

user = gr.Entity("user", join_keys=["user_id"])
source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")


def spend(**options: object) -> gr.FeatureGroup:
    arguments: dict[str, object] = {"entities": [user], "source": source, "schema": COLUMNS} | options
    return gr.FeatureGroup("spend", **arguments)  # type: ignore[arg-type]


COLUMNS = {"user_id": "string", "at": "datetime", "loaded": "datetime", "amount": "float64", "country": "string"}


def test_definitions_are_frozen() -> None:
    for value in (user, source, spend(), gr.FeatureView("v", features=["spend"])):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "other"  # type: ignore[misc]


def test_equal_content_is_equal() -> None:
    assert spend(ttl="30d") == spend(ttl=dt.timedelta(days=30))
    assert spend(ttl="30d") != spend(ttl="31d")


def test_a_group_splits_its_columns_into_key_times_and_features() -> None:
    group = spend()

    assert group.join_keys == ("user_id",)
    assert (group.event_time, group.created_time) == ("at", "loaded")
    assert group.features().names == ("amount", "country")


def test_composite_keys_come_from_all_entities_once() -> None:
    shop = gr.Entity("shop", join_keys=["shop_id", "user_id"])

    group = gr.FeatureGroup("visits", entities=[user, shop], source=source)

    assert group.join_keys == ("user_id", "shop_id")
    assert group.key_space == "user+shop"


def test_the_decorator_takes_name_and_docstring_and_stays_callable() -> None:
    @gr.feature_group(entities=user, source=source, ttl="1d")
    def doubled(df: pl.DataFrame) -> pl.DataFrame:
        """Twice the amount."""
        return df.with_columns(pl.col("amount") * 2)

    assert isinstance(doubled, gr.FeatureGroup)
    assert (doubled.name, doubled.description) == ("doubled", "Twice the amount.")
    assert doubled(pl.DataFrame({"amount": [1]}))["amount"].to_list() == [2]


def lazy(df: pl.LazyFrame) -> pl.LazyFrame:
    return df


def eager(df: pl.DataFrame) -> pl.DataFrame:
    return df


def from_pandas(df: pd.DataFrame) -> pd.DataFrame:
    return df


def from_arrow(df: pa.Table) -> pa.Table:
    return df


def from_narwhals(df: nw.DataFrame) -> nw.DataFrame:  # type: ignore[type-arg]
    return df


def without_annotation(df):  # type: ignore[no-untyped-def]
    return df


@pytest.mark.parametrize(
    ("function", "frame"),
    [
        (lazy, "polars_lazy"),
        (eager, "polars"),
        (from_pandas, "pandas"),
        (from_arrow, "arrow"),
        (from_narwhals, "narwhals"),
        (without_annotation, "polars"),
    ],
)
def test_the_annotation_says_which_frame(function: object, frame: str) -> None:
    assert python_transform(function).frame == frame  # type: ignore[arg-type]


def test_a_transform_that_takes_no_frame_is_refused() -> None:
    def number(x: int) -> int:
        return x

    def two(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
        return a

    with pytest.raises(DefinitionError, match="no frame"):
        python_transform(number)
    with pytest.raises(DefinitionError, match="must take one frame"):
        python_transform(two)  # type: ignore[arg-type]


def test_formatting_and_comments_do_not_count_as_code() -> None:
    """VER-2: the code hash is of the normalised syntax tree."""

    def make_one() -> PythonTransform:
        def f(df: pl.DataFrame) -> pl.DataFrame:
            """One."""
            return df.filter(pl.col("a") > 1)  # a comment

        return python_transform(f)

    def make_same() -> PythonTransform:
        def f(df: pl.DataFrame) -> pl.DataFrame:
            return df.filter(
                pl.col("a") > 1,
            )

        return python_transform(f)

    def make_other() -> PythonTransform:
        def f(df: pl.DataFrame) -> pl.DataFrame:
            return df.filter(pl.col("a") > 2)

        return python_transform(f)

    assert make_one().code_hash == make_same().code_hash
    assert make_one().code_hash != make_other().code_hash
    same = "select user_id,   at, amount from source -- all"
    assert sql_transform("SELECT user_id, at, amount FROM source").code_hash == sql_transform(same).code_hash


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE source",
        "SELECT 1",
        "SELECT * FROM source; SELECT * FROM source",
        "SELECT * FROM elsewhere",
        "SELECT * FROM source JOIN other USING (id)",
        "SELEC * FRM",
        "COPY source TO 'x.csv'",
        "SELECT * FROM source, 'secrets.parquet'",
        "WITH source_2 AS (SELECT * FROM source) SELECT * FROM Source_3",
    ],
)
def test_sql_is_one_select_over_source(query: str) -> None:
    with pytest.raises(DefinitionError):
        sql_transform(query)


@pytest.mark.parametrize("name", ["SOURCE", "Source", '"Source"'])
def test_source_may_be_written_in_any_case(name: str) -> None:
    """DuckDB's names have no case, quoted ones neither."""
    assert sql_transform(f"WITH Big AS (SELECT * FROM {name}) SELECT * FROM BIG").query


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        *[
            (text, "reads the clock")
            for text in (
                "now()", "NOW()", "main.now()", "today()", "current_timestamp", "current_date", "current_time",
                "localtime", "localtimestamp", "get_current_timestamp()", "transaction_timestamp()", "age(at)",
                "ago(INTERVAL 1 DAY)", "date_diff('day', at, now())", "(SELECT max(now()) FROM source)",
            )
        ],
        *[
            (text, "draws random values")
            for text in ("random()", "uuid()", "gen_random_uuid()", "uuidv7()", "setseed(0.5)")
        ],
        ("txid_current()", "depends on the session"),
    ],
)  # fmt: skip
def test_sql_that_gives_other_rows_at_another_time_is_refused(expression: str, reason: str) -> None:
    """The same rows must give the same version (TIME-3, VER-1)."""
    with pytest.raises(DefinitionError, match=reason):
        sql_transform(f"SELECT user_id, at, {expression} AS x FROM source")


@pytest.mark.parametrize("sample", ["USING SAMPLE 10", "TABLESAMPLE 10%"])
def test_sql_that_takes_a_sample_is_refused(sample: str) -> None:
    with pytest.raises(DefinitionError, match="takes a sample"):
        sql_transform(f"SELECT * FROM source {sample}")


@pytest.mark.parametrize(
    "expression",
    ["now", "uuid", "source.random", "age(ended, started)", '"current_date"', "flag AND source.now", "upper(today)"],
)
def test_columns_that_are_called_like_a_clock_are_columns(expression: str) -> None:
    assert sql_transform(f"SELECT user_id, {expression} AS x FROM source").query


def test_sql_may_use_ctes() -> None:
    assert sql_transform("WITH big AS (SELECT * FROM source WHERE amount > 1) SELECT * FROM big").query


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gr.Entity("2fast"), "must be letters"),
        (lambda: gr.Entity("../etc"), "must be letters"),
        (lambda: gr.Entity("user", join_keys=[]), "at least one join key"),
        (lambda: gr.Entity("user", join_keys=5), "join_keys must be column names"),
        (lambda: gr.FileSource(None), "needs a path"),
        (lambda: gr.FeatureGroup("g", entities=[gr.Entity("user")], source=None), "needs a source"),
        (lambda: gr.FeatureGroup("g", entities=[gr.Entity("user")], source="a.parquet"), r"gr\.FileSource\('a.parq"),
        (lambda: gr.FeatureGroup("g", entities=[gr.Entity("user")], source=pl.DataFrame()), r"gr\.TableSource"),
        (lambda: gr.FeatureGroup("g", entities=["user"], source=gr.FileSource("a.csv")), r"gr\.Entity\('user'"),
        (lambda: gr.FeatureGroup("g", entities=None, source=gr.FileSource("a.csv")), r"gr\.Entity\('user'"),
        (lambda: gr.FeatureView("v", features=None), "features is a list"),
        (lambda: gr.FeatureView("v", features={"a": "b"}), "features is a list"),
        (lambda: gr.FeatureView("v", features=["a"], requests=["basket"]), "must be request sources"),
        (lambda: gr.Entity("user", join_keys=["a", "a"]), "twice"),
        (lambda: gr.Entity("user", join_keys={"a": "float64"}), "no dependable equality"),
        (lambda: gr.Entity("user", join_keys=["__sequence"]), "reserved"),
        (lambda: gr.FileSource("data.xlsx"), "cannot tell the format"),
        (lambda: gr.FileSource("a.csv", separator="||"), "one character"),
        (lambda: gr.FileSource("a.csv", event_time="t", created_time="t"), "same column"),
        (lambda: gr.FileSource("a.csv", created_time="t"), "no event_time"),
        (lambda: gr.PushSource("p", event_time="t"), "needs a schema"),
        (lambda: gr.PushSource("p", event_time="t", schema={"a": int}), "lacks the column"),
        (lambda: gr.RequestSource("r", schema={}), "needs a schema"),
        (lambda: gr.FeatureGroup("g", entities=[], source=source), "at least one entity"),
        (
            lambda: gr.FeatureGroup("g", entities=gr.Entity("x", join_keys=["at"]), source=source),
            "both a time column and a join key",
        ),
        (lambda: gr.FeatureGroup("g", entities=user, source=gr.FileSource("a.csv"), ttl="1d"), "no event time"),
        (lambda: spend(ttl="0d"), "longer than zero|at least one microsecond"),
        (lambda: spend(ttl="1mo"), "no fixed length"),
        (lambda: spend(defaults={"user_id": "x"}), "part of the key"),
        (lambda: spend(expectations={"amount": "positive"}), "must be expectations"),
        (lambda: gr.FeatureView("v", features=[]), "has no features"),
        (lambda: gr.FeatureView("v", features="spend"), "is a list"),
        (lambda: gr.FeatureView("v", features=["spend"], labels=["a", "a"]), "twice"),
        (lambda: gr.FeatureView("v", features=["spend"], on_error="ignore"), "is not one of"),  # type: ignore[arg-type]
        (lambda: gr.between(2, 1), "holds for no value"),
        (lambda: gr.one_of([]), "at least one"),
        (lambda: gr.matches("("), "not a regular expression"),
        (lambda: gr.not_null(policy="explode"), "is not one of"),  # type: ignore[arg-type]
    ],
)
def test_contradictions_are_refused(make: object, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()  # type: ignore[operator]


def test_a_ttl_of_zero_says_what_to_do() -> None:
    with pytest.raises(DurationError) as caught:
        spend(ttl=dt.timedelta(0))
    assert "leave" in str(caught.value)


@pytest.mark.parametrize("text", ["", "a b", "spend:", "spend@1:x", "spend@1.0:x", ":amount", "a/b:c"])
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        gr.FeatureView("v", features=[text])


def test_references_are_understood() -> None:
    view = gr.FeatureView(
        "v",
        features=["spend", "spend:amount", "spend@1.2.0:amount", ("spend", "1.0.0"), spend(), spend().select("amount")],
    )

    assert [(item.source, item.features, item.version) for item in view.features] == [
        ("spend", (), None),
        ("spend", ("amount",), None),
        ("spend", ("amount",), "1.2.0"),
        ("spend", (), "1.0.0"),
        ("spend", (), None),
        ("spend", ("amount",), None),
    ]


class TestPlainData:
    """Definitions survive the registry: plain JSON, nothing pickled."""

    def test_groups(self) -> None:
        group = spend(
            ttl="36h",
            defaults={"amount": 0.0, "country": "unknown"},
            expectations={"amount": [gr.greater_than(0, policy="drop"), gr.finite()], "country": gr.one_of(["FR"])},
            transform="SELECT * FROM source",
            tags={"tier": "gold"},
            owner="payments",
            online=False,
        )

        data = json.loads(json.dumps(to_data(group)))

        assert group_from_data("spend", data) == group

    def test_expectation_bounds_in_time(self) -> None:
        group = spend(
            expectations={
                "at": gr.between(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
            }
        )

        assert group_from_data("spend", json.loads(json.dumps(to_data(group)))) == group

    def test_values_that_json_lacks(self) -> None:
        group = spend(
            defaults={"amount": float("-inf"), "country": b"\x00"},
            expectations={"amount": gr.between(float("-inf"), 3.5)},
        )

        text = json.dumps(to_data(group), allow_nan=False)

        assert group_from_data("spend", json.loads(text)) == group

    def test_python_transforms_lose_only_their_function(self) -> None:
        group = spend(transform=eager)

        back = group_from_data("spend", json.loads(json.dumps(to_data(group))))

        assert back == group
        assert isinstance(back.transform, PythonTransform)
        assert back.transform.function is None
        assert "def eager" in back.transform.source_text

    def test_push_and_table_sources(self) -> None:
        push = gr.PushSource("clicks", event_time="at", schema={"user_id": str, "at": dt.datetime, "n": int})
        for item in (push, gr.TableSource(pl.DataFrame(), name="frame", event_time="at")):
            group = gr.FeatureGroup("g", entities=user, source=item)
            assert group_from_data("g", json.loads(json.dumps(to_data(group)))) == group

    def test_views_and_entities(self) -> None:
        view = gr.FeatureView(
            "v",
            features=["spend:amount", gr.select("spend", "country", on={"user_id": "buyer"}, rename={"country": "c"})],
            labels=["churned", "spend:amount"],
            requests=gr.RequestSource("basket", schema={"total": float}),
            on_error="default",
        )
        typed = gr.Entity("seat", join_keys={"venue": "string", "number": int}, tags={"a": "b"})

        assert view_from_data("v", json.loads(json.dumps(to_data(view)))) == view
        assert entity_from_data("seat", json.loads(json.dumps(to_data(typed)))) == typed

    def test_the_fingerprint_is_of_meaning(self) -> None:
        assert fingerprint(to_data(spend(ttl="1d"))) == fingerprint(to_data(spend(ttl="24h")))
        assert fingerprint(to_data(spend(ttl="1d"))) != fingerprint(to_data(spend(ttl="2d")))


class TestCatalog:
    def test_groups_bring_their_entities(self) -> None:
        assert list(Catalog.of([spend()]).entities) == ["user"]

    def test_the_same_definition_twice_is_one(self) -> None:
        assert list(Catalog.of([spend(), spend(), user]).groups) == ["spend"]

    def test_two_definitions_under_one_name_are_refused(self) -> None:
        with pytest.raises(DuplicateNameError, match="spend"):
            Catalog.of([spend(), spend(ttl="1d")])
        with pytest.raises(DuplicateNameError, match="both a feature group and a feature view"):
            Catalog.of([spend(), gr.FeatureView("spend", features=["spend"])])

    def test_a_view_of_views_is_expanded(self) -> None:
        base = gr.FeatureView("base", features=["spend:amount"])
        catalog = Catalog.of([spend(), base, gr.FeatureView("big", features=[base, "spend:country"])])

        expanded = catalog.expand(catalog.view("big").features, asked_by="test")

        assert [str(item) for item in expanded] == ["spend:amount", "spend:country"]

    def test_a_view_that_contains_itself_is_refused(self) -> None:
        one = gr.FeatureView("one", features=["two"])
        two = gr.FeatureView("two", features=["one"])

        with pytest.raises(CyclicDefinitionError) as caught:
            Catalog.of([one, two]).check()
        assert "one -> two -> one" in str(caught.value)

    def test_unknown_names_come_with_the_closest(self) -> None:
        with pytest.raises(UnknownFeatureGroupError) as unknown_group:
            Catalog.of([spend(), gr.FeatureView("v", features=["spned"])]).check()
        assert unknown_group.value.closest == ("spend",)
        with pytest.raises(UnknownFeatureError) as unknown_feature:
            Catalog.of([spend(), gr.FeatureView("v", features=["spend:amuont"])]).check()
        assert unknown_feature.value.closest == ("spend:amount",)
        assert "feature view 'v'" in str(unknown_feature.value)

    def test_only_join_keys_can_be_taken_from_other_columns(self) -> None:
        view = gr.FeatureView("v", features=[gr.select("spend", on={"usr_id": "buyer"})])

        with pytest.raises(DefinitionError, match="no join key 'usr_id'"):
            Catalog.of([spend(), view]).check()


@pytest.mark.parametrize("prefix", ["__", "a\n"])
def test_a_prefix_makes_names_that_columns_may_have(prefix: str) -> None:
    with pytest.raises(DefinitionError, match="prefix"):
        gr.select("spend", prefix=prefix)
