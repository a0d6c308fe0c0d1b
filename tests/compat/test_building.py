"""Building: versions end to end, what lies on disk, both engines, training data of versions."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.compat.transactions import NOW, ROWS, raw, spend, write

import grange.compat.mlforge.validators as v
from grange.compat.mlforge import Definitions, LocalStore, Rolling, feature, get_training_data
from grange.compat.mlforge.features import Feature
from grange.errors import RequestError, UnknownFeatureError, UnknownFeatureGroupError, UnknownVersionError
from grange.frames import Rows


def build(*features: Feature, **options: object) -> dict[str, str]:
    """Versions after a build by a process that just started."""
    with Definitions(features=list(features), store=LocalStore("./feature_store")) as defs:
        return defs.build(**options).versions  # type: ignore[arg-type]


def summary(name: str) -> tuple[str, str, list[str]]:
    told = LocalStore("./feature_store").read_metadata(name).change_summary
    return told["bump_type"], told["reason"], told["details"]


def test_removed_columns_are_major() -> None:
    assert build(raw()) == {"transactions": "1.0.0"}
    write(ROWS.drop("amount").with_columns(pl.lit(1).alias("visits")))
    assert build(raw()) == {"transactions": "2.0.0"}
    assert summary("transactions") == ("major", "removed_columns", ["amount"])


def test_a_changed_type_is_major_even_with_a_column_more() -> None:
    build(raw())
    write(ROWS.with_columns(pl.col("amount").cast(pl.Int64), pl.lit("x").alias("shop")))
    assert build(raw()) == {"transactions": "2.0.0"}
    assert summary("transactions") == ("major", "changed_types", ["amount: float64 -> int64"])


def test_added_columns_are_minor() -> None:
    build(raw())
    write(ROWS.with_columns(pl.lit("x").alias("shop")))
    assert build(raw()) == {"transactions": "1.1.0"}
    assert summary("transactions") == ("minor", "added_columns", ["shop"])


def test_new_data_is_a_patch_and_the_same_data_is_nothing() -> None:
    assert build(spend(["7d"], ["sum"])) == {"user_spend": "1.0.0"}
    assert build(spend(["7d"], ["sum"])) == {"user_spend": "1.0.0"}
    write(ROWS.with_columns(pl.col("amount") * 2))
    assert build(spend(["7d"], ["sum"])) == {"user_spend": "1.0.1"}
    assert summary("user_spend") == ("patch", "changed_data", [])
    assert LocalStore().list_versions("user_spend") == ["1.0.0", "1.0.1"]


def test_metrics_added_are_minor_and_removed_are_major() -> None:
    build(spend(["7d"], ["sum"]))
    assert build(spend(["7d", "30d"], ["sum", "mean"])) == {"user_spend": "1.1.0"}
    kind, reason, details = summary("user_spend")
    assert (kind, reason) == ("minor", "added_columns")
    assert set(details) == {"amount__sum__30d", "amount__mean__7d", "amount__mean__30d"}
    assert build(spend(["30d"], ["sum", "mean"])) == {"user_spend": "2.0.0"}


def test_configuration_is_minor() -> None:
    build(spend(["7d"], ["sum"]))
    assert build(spend(["7d"], ["sum"], interval="1d")) == {"user_spend": "1.1.0"}
    assert summary("user_spend")[:2] == ("minor", "changed_config")


def test_an_explicit_version_is_taken_and_must_be_above_the_others() -> None:
    assert build(raw(), features=["transactions"], version="2.0.0") == {"transactions": "2.0.0"}
    assert build(raw(), feature_names=["transactions"], feature_version="2.1.0") == {"transactions": "2.1.0"}
    with pytest.raises(RequestError, match="not above"):
        build(raw(), version="1.0.0")
    with pytest.raises(RequestError, match=r"is not MAJOR\.MINOR\.PATCH"):
        build(raw(), version="banana")
    assert LocalStore().list_versions("transactions") == ["2.0.0", "2.1.0"]


def test_a_version_is_given_to_each_feature() -> None:
    assert build(raw(), spend(["7d"], ["sum"]), version="3.0.0") == {"transactions": "3.0.0", "user_spend": "3.0.0"}


def test_force_makes_a_version_of_the_same_rows() -> None:
    assert build(raw(), force=True) == {"transactions": "1.0.0"}
    assert build(raw(), force=True) == {"transactions": "1.0.1"}
    write(ROWS.with_columns(pl.lit("x").alias("shop")))
    assert build(raw(), force=True) == {"transactions": "1.1.0"}
    with pytest.raises(RequestError, match="force says nothing"):
        build(raw(), force=True, version="9.0.0")


def test_the_result_says_what_was_built_and_where() -> None:
    defs = Definitions(features=[raw(tags=["raw"]), spend(["7d"], ["sum"])])
    first = defs.build(tag_names=["raw"])
    assert (first.built, first.skipped) == (("transactions",), ())
    second = defs.build()
    assert (second.built, second.skipped) == (("user_spend",), ("transactions",))
    stored = pl.read_parquet(second.paths["user_spend"])
    assert stored["amount__sum__7d"].sort().to_list() == [5.0, 7.0, 10.0, 100.0]
    assert second.paths["user_spend"] == defs.offline_store.path_for("user_spend", "1.0.0")


@pytest.mark.parametrize(
    ("options", "closest"),
    [({"features": ["user_spnd"]}, "user_spend"), ({"tag_names": ["mony"]}, "money"), ({"tag_names": []}, None)],
)
def test_a_name_that_is_none_is_told_with_the_closest(options: dict[str, object], closest: str | None) -> None:
    with pytest.raises(UnknownFeatureGroupError) as caught:
        build(spend(["7d"], ["sum"], tags=["money"]), **options)
    assert caught.value.closest == ((closest,) if closest else ())
    assert not Path("feature_store/user_spend").exists()


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(RequestError, match="not both"):
        build(raw(), features=["transactions"], tag_names=["a"])
    with pytest.raises(RequestError, match="no feature to build"):
        build()
    with pytest.raises(RequestError, match="there is none"):
        build(raw(), online=True)


def test_an_interval_is_the_grid_that_stored_rows_lie_on() -> None:
    build(spend(["7d"], ["sum"], interval="1d"))
    stored = LocalStore().read("user_spend")
    assert stored["event_time"].dt.truncate("1d").to_list() == stored["event_time"].to_list()
    spine = pl.DataFrame({"user_id": ["user_123"], "event_time": [NOW - dt.timedelta(days=2)]})
    assert get_training_data(spine, ["user_spend"])["amount__sum__7d"].to_list() == [5.0]


def test_what_lies_on_disk_is_as_documented() -> None:
    build(spend(["7d"], ["sum"], interval="1d"))
    build(spend(["7d", "30d"], ["sum"], interval="1d"))
    root = Path("feature_store")

    assert sorted(path.name for path in root.iterdir()) == ["_metadata", "user_spend"]
    assert json.loads((root / "user_spend/_latest.json").read_text()) == {"version": "1.1.0"}
    assert {"1.0.0", "1.1.0"} <= {path.name for path in (root / "user_spend").iterdir()}
    assert json.loads((root / "_metadata/manifest.json").read_text())
    told = json.loads((root / "user_spend/1.1.0/.meta.json").read_text())
    assert (told["name"], told["version"]) == ("user_spend", "1.1.0")
    assert all(len(told[f"{what}_hash"]) == 64 for what in ("content", "schema", "config"))
    assert told["created_at"] == told["updated_at"]
    assert (told["row_count"], told["entity_keys"]) == (4, ["user_id"])
    assert (told["timestamp"], told["interval"]) == ("event_time", "1d")
    metric = {"name": "amount__sum__30d", "dtype": "float64", "aggregation": "sum", "window": "30d"}
    assert told["columns"][-1] == metric
    assert told["change_summary"] == {"bump_type": "minor", "reason": "added_columns", "details": ["amount__sum__30d"]}


def test_a_store_is_read_by_version() -> None:
    store = LocalStore("./feature_store")
    assert (store.list_versions("transactions"), store.get_latest_version("transactions")) == ([], None)
    assert not store.exists("transactions")
    build(raw())
    write(ROWS.with_columns(pl.col("amount") + 1))
    build(raw())

    assert store.read("transactions", version="1.0.0")["amount"].to_list() == [100.0, 10.0, 5.0, 7.0]
    assert store.read("transactions", feature_version="1.0.1")["amount"].to_list() == [101.0, 11.0, 6.0, 8.0]
    assert store.read("transactions", columns=["amount"]).columns == ["amount"]
    assert store.get_latest_version("transactions") == "1.0.1"
    assert store.exists("transactions", "1.0.0") and not store.exists("transactions", "7.0.0")
    assert [meta.version for meta in store.list_metadata()] == ["1.0.1"]
    assert store.read_metadata("transactions", "1.0.0").row_count == 4
    for call, error in (
        (lambda: store.read("transactoins"), UnknownFeatureGroupError),
        (lambda: store.read("transactions", "1.0.7"), UnknownVersionError),
        (lambda: store.read("transactions", columns=["amont"]), UnknownFeatureError),
        (lambda: store.read_metadata("transactoins"), UnknownFeatureGroupError),
    ):
        with pytest.raises(error) as caught:
            call()
        assert caught.value.closest  # type: ignore[attr-defined]


def test_training_data_of_pinned_and_latest_versions() -> None:
    build(raw(), spend(["7d", "30d"], ["sum", "count"]))
    write(ROWS.with_columns(pl.col("amount") * 10))
    build(raw(), spend(["7d", "30d"], ["sum", "count"]))
    spine = pl.DataFrame(
        {
            "label": [1, 0, 1, 1],
            "user_id": ["user_456", "user_123", "nobody", "user_123"],
            "event_time": [NOW, NOW - dt.timedelta(days=2), NOW, NOW - dt.timedelta(days=50)],
        }
    )
    store = LocalStore("./feature_store")

    found = get_training_data(spine, features=["transactions", ("user_spend", "1.0.0")], store=store)

    assert found.columns[:3] == spine.columns
    assert_frame_equal(found.select(spine.columns), spine)
    assert found["amount"].to_list() == [70.0, 50.0, None, None]
    assert found["amount__sum__7d"].to_list() == [7.0, 5.0, None, None]
    assert found["amount__sum__30d"].to_list() == [7.0, 15.0, None, None]
    assert found["amount__count__30d"].to_list() == [1, 2, 0, 0]
    defs = Definitions(features=[], store=store)
    again = defs.get_training_data(["transactions", ("user_spend", "1.0.0")], entity_df=spine)
    assert_frame_equal(again, found)
    elsewhere = Definitions(features=[], store=LocalStore("other"))
    assert_frame_equal(
        elsewhere.get_training_data(["transactions", ("user_spend", "1.0.0")], spine, store=store), found
    )


def test_training_data_that_cannot_be_made() -> None:
    build(raw())
    spine = pl.DataFrame({"user_id": ["user_123"], "event_time": [NOW]})
    with pytest.raises(UnknownFeatureGroupError) as caught:
        get_training_data(spine, ["transaction"], LocalStore())
    assert caught.value.closest == ("transactions",)
    with pytest.raises(UnknownVersionError):
        get_training_data(spine, [("transactions", "4.0.0")], LocalStore())
    with pytest.raises(RequestError, match="a spine"):
        get_training_data(features=["transactions"], store=LocalStore())
    with pytest.raises(RequestError, match="features"):
        get_training_data(spine, store=LocalStore())


FUNCTIONS = ["count", "sum", "mean", "min", "max", "std", "median"]
SQL = {"count": "COUNT", "sum": "SUM", "mean": "AVG", "min": "MIN", "max": "MAX", "std": "STDDEV_SAMP"}
SQL["median"] = "MEDIAN"
events = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 400), st.none() | st.integers(-9, 9)), min_size=1, max_size=25
)


def by_sql(rows: pl.DataFrame) -> pl.DataFrame:
    """The windows as SQL has them: RANGE BETWEEN w PRECEDING AND CURRENT ROW."""
    made = ", ".join(f"{SQL[f]}(amount) OVER w_{w} AS amount__{f}__{w}" for f in FUNCTIONS for w in ("1d", "7d"))
    over = ", ".join(
        f"w_{days}d AS (PARTITION BY user_id ORDER BY event_time RANGE BETWEEN INTERVAL {days} DAY PRECEDING "
        "AND CURRENT ROW)"
        for days in (1, 7)
    )
    with duckdb.connect() as connection:
        connection.register("rows", rows.to_arrow())
        query = f"SELECT user_id, epoch_us(event_time) AS at, {made} FROM rows WINDOW {over}"
        return Rows(arrow=connection.sql(query).to_arrow_table()).polars


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(events=events)
def test_both_engines_and_sql_agree_on_windows(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, events: list[tuple[str, int, int | None]]
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("parity"))
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    rows = pl.DataFrame(
        [{"user_id": u, "event_time": start + dt.timedelta(hours=h), "amount": a} for u, h, a in events],
        schema={"user_id": pl.String, "event_time": pl.Datetime("us", "UTC"), "amount": pl.Float64},
    )
    write(rows)
    windows = spend(["1d", "7d"], FUNCTIONS)
    stored = {}
    for engine in ("polars", "duckdb"):
        store = LocalStore(f"./{engine}")
        Definitions(features=[windows], store=store, engine=engine).build()
        stored[engine] = store.read("user_spend").unique().sort("user_id", "event_time")

    assert_frame_equal(stored["polars"], stored["duckdb"], abs_tol=1e-9)
    as_sql = by_sql(rows).unique(["user_id", "at"]).sort("user_id", "at")
    ours = stored["polars"].with_columns(pl.col("event_time").dt.epoch("us").alias("at")).select(as_sql.columns)
    assert_frame_equal(ours, as_sql, abs_tol=1e-9, check_dtypes=False)


def test_a_closed_end_is_honoured_by_both_engines() -> None:
    write(ROWS.with_columns(event_time=pl.lit(NOW)).head(2))
    found = {}
    for closed, engine in (("both", "polars"), ("left", "polars"), ("left", "duckdb")):

        @feature(
            keys=["user_id"],
            source="transactions.parquet",
            timestamp="event_time",
            metrics=[Rolling(["7d"], {"amount": ["sum"]}, closed=closed)],
            validators={"amount": [v.not_null()]},
        )
        def windowed(df: pl.DataFrame) -> pl.DataFrame:
            return df

        store = LocalStore(f"./{closed}_{engine}")
        Definitions(features=[windowed], store=store).build(engine=engine)
        found[closed, engine] = store.read("windowed")["amount__sum__7d"].unique().to_list()
    assert found == {("both", "polars"): [110.0], ("left", "polars"): [None], ("left", "duckdb"): [None]}
