"""Declaring features: what mlforge's words become in Grange."""

from __future__ import annotations

import datetime as dt
from types import ModuleType

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compat.transactions import raw, spend

import grange as gr
import grange.compat.mlforge.validators as v
from grange.compat.mlforge import Definitions, Entity, Feature, FeatureSpec, LocalStore, Rolling, Source, feature
from grange.compat.mlforge.store import FeatureMetadata
from grange.definitions.serialize import group_from_data, to_data
from grange.errors import DefinitionError, DuplicateNameError, DurationError, RequestError, SourceError
from grange.frames import Rows
from grange.quality.expectations import evaluate


def test_a_feature_is_a_feature_group() -> None:
    declared = spend(["7d"], ["sum"], validators={"amount": [v.greater_than(0)]}, tags=["money"], ttl="90d")

    assert isinstance(declared, gr.FeatureGroup)
    assert declared.name == "user_spend"
    assert declared.join_keys == ("user_id",)
    assert declared.source == gr.FileSource("transactions.parquet", event_time="event_time")
    assert declared.ttl == dt.timedelta(days=90)
    assert (declared.keys, declared.timestamp) == (["user_id"], "event_time")
    assert declared.validators == {"amount": [gr.greater_than(0)]}
    assert declared.metrics == [Rolling(windows=["7d"], aggregations={"amount": ["sum"]})]
    assert dict(declared.tags) == {"money": "true"}
    assert to_data(group_from_data("user_spend", to_data(declared))) == to_data(declared)


def test_a_feature_can_be_called_and_described() -> None:
    @feature(source=Source("a.txt", format="csv", delimiter="|"), entities=[Entity("user", "user_id")])
    def ages(df: pl.DataFrame) -> pl.DataFrame:
        """How old they are."""
        return df.select("user_id")

    assert ages(pl.DataFrame({"user_id": [1], "x": [2]})).columns == ["user_id"]
    assert ages.description == "How old they are."
    assert (ages.source.format, ages.source.separator) == ("csv", "|")  # type: ignore[union-attr]
    assert ages.entities == (gr.Entity("user", ["user_id"]),)


@pytest.mark.parametrize("keys", [{}, {"keys": ["a"], "entities": [gr.Entity("a")]}, {"keys": "user_id"}])
def test_a_feature_has_keys_or_entities(keys: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="needs keys, or entities"):
        feature(source="a.parquet", **keys)(lambda df: df)  # type: ignore[arg-type]


def test_rolling_has_both_ends_and_honours_another_choice() -> None:
    assert Rolling(windows="7d", aggregations={"amount": "sum"}).closed == "both"
    assert Rolling(["7d"], {"amount": ["sum"]}, "left").closed == "left"
    with pytest.raises(DurationError):
        Rolling(windows=["1mo"], aggregations={"amount": ["sum"]})
    with pytest.raises(DefinitionError) as caught:
        Rolling(windows=["7d"], aggregations={"amount": ["men"]})
    assert "mean" in caught.value.closest


def fails(validator: object, values: list[object]) -> list[object]:
    """The values that a validator refuses."""
    checks = (validator,) if isinstance(validator, gr.Expectation) else tuple(validator)  # type: ignore[arg-type]
    outcome = evaluate(Rows(polars=pl.DataFrame({"x": values})), (("x", checks),))
    return [value for check in outcome.checks for value in check.values]


@pytest.mark.parametrize(
    ("validator", "values", "refused"),
    [
        (v.not_null(), [1, None], [None]),
        (v.unique(), [1, 1, None, None], [1]),
        (v.greater_than(0), [0, 1, None], [0]),
        (v.greater_than_or_equal(0), [-1, 0], [-1]),
        (v.less_than(1), [0, 1], [1]),
        (v.less_than_or_equal(1), [1, 2], [2]),
        (v.in_range(0, 2), [-1, 0, 2, 3], [-1, 3]),
        (v.in_range(0, 2, inclusive=False), [0, 1, 2], [0, 2]),
        (v.is_in(["a", "b"]), ["a", "c", None], ["c"]),
        (v.matches_regex("b+"), ["abbc", "line\nb", "ac"], ["ac"]),
        (v.matches_regex("^b"), ["bc", "ab"], ["ab"]),
        (v.matches_regex("a|^b"), ["xa", "bx", "xb"], ["xb"]),
        (v.matches_regex("(?i)B$"), ["ab", "aBc"], ["aBc"]),
    ],
)
def test_validators_mean_what_they_meant(validator: object, values: list[object], refused: list[object]) -> None:
    assert fails(validator, values) == refused


@given(st.lists(st.text(alphabet="ab\n", max_size=4), min_size=1))
def test_a_pattern_is_searched_anywhere(texts: list[str]) -> None:
    missing = [text for text in texts if "ab" not in text]
    assert fails(v.matches_regex("ab"), list(texts)) == missing[:5]


def test_a_broken_pattern_is_told_as_it_was_written() -> None:
    with pytest.raises(DefinitionError, match=r"matches\('\('\)"):
        v.matches_regex("(")


def test_definitions_take_features_and_modules_each_once() -> None:
    first, second = raw(tags=["a"]), spend(["7d"], ["sum"], tags=["a", "b"])
    module = ModuleType("features")
    module.one, module.two, module.other = first, second, 3  # type: ignore[attr-defined]
    defs = Definitions("shop", [module, first])

    assert defs.features == {"transactions": first, "user_spend": second}
    assert defs.list_features() == [first, second]
    assert defs.list_features(tags="b") == [second]
    assert defs.list_tags() == ["a", "b"]
    with pytest.raises(DuplicateNameError, match="two features are called 'transactions'"):
        Definitions(features=[first, raw()])
    with pytest.raises(RequestError, match="features or modules"):
        Definitions(features=["transactions"])  # type: ignore[list-item]


def test_of_two_names_of_one_argument_one_is_given() -> None:
    store = LocalStore("elsewhere")
    assert Definitions(offline_store=store, default_engine="duckdb").offline_store is store
    with pytest.raises(RequestError, match="two names of one argument"):
        Definitions(store=store, offline_store=LocalStore())
    with pytest.raises(RequestError, match="two names of one argument"):
        Definitions(features=[raw()]).build(features=["transactions"], feature_names=["transactions"])


def test_nothing_lies_on_disk_before_it_is_needed(folder: object) -> None:
    Definitions(features=[raw()], store=LocalStore("history"))
    assert not LocalStore("history").path.exists()


def test_a_spec_names_columns() -> None:
    assert FeatureSpec(name="f", columns=["a"], version="1.0.0").columns == ["a"]
    with pytest.raises(RequestError, match="list of names"):
        FeatureSpec(name="f", columns=[])


def test_validate_checks_every_feature_and_stores_nothing() -> None:
    good = raw(validators={"amount": [v.greater_than(0)], "user_id": [v.not_null()]})
    bad = spend(["7d"], ["sum"], validators={"amount": [v.in_range(0, 50)]})
    defs = Definitions(features=[good, bad])
    first, second = defs.validate()

    assert (first.feature_name, first.passed, first.failures) == ("transactions", True, ())
    assert (second.passed, second.failures) == (False, ("amount: between(0, 50): 1 values",))
    assert not defs.offline_store.path.exists()
    with pytest.raises(gr.GrangeError, match="does not hold"):
        defs.build(features=["user_spend"])
    assert defs.offline_store.list_versions("user_spend") == []


def test_a_feature_without_times_is_always_true() -> None:
    pl.DataFrame({"user_id": ["user_123"], "country": ["NZ"]}).write_csv("users.csv")

    @feature(keys=["user_id"], source="users.csv")
    def users(df: pl.DataFrame) -> pl.DataFrame:
        return df

    defs = Definitions(features=[users])
    defs.build()
    assert defs.offline_store.read("users").to_dicts() == [{"user_id": "user_123", "country": "NZ"}]
    meta = defs.offline_store.read_metadata("users")
    assert isinstance(meta, FeatureMetadata)
    assert (meta.timestamp, [column["name"] for column in meta.columns]) == (None, ["user_id", "country"])


def test_a_source_that_is_not_there_builds_nothing() -> None:
    @feature(keys=["user_id"], source="transaction.parquet", timestamp="event_time")
    def lost(df: pl.DataFrame) -> pl.DataFrame:
        return df

    with pytest.raises(SourceError) as caught:
        Definitions(features=[lost]).build()
    assert "transactions.parquet" in str(caught.value)


def test_a_feature_says_which_engine_builds_it() -> None:
    with pytest.raises(gr.GrangeError, match="no engine 'dukdb'"):
        Definitions(features=[raw(engine="dukdb")], engine="polars").build()
    Definitions(features=[raw(engine="dukdb")]).build(engine="duckdb")
    assert isinstance(raw(engine="polars"), Feature)
