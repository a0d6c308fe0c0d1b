"""The spine of the product, end to end: define, apply, materialize, train, serve, push, delete."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from tests.shop import SPEND, UTC, at, shops_group, spend_group, spend_source, user

import grange as gr
from grange.errors import (
    ColumnTypeError,
    ConflictError,
    DefinitionError,
    ExpectationError,
    InUseError,
    KeyTypeError,
    MissingColumnError,
    NameCollisionError,
    NotFoundError,
    RequestError,
    SchemaError,
    SourceError,
    TransformError,
    UnknownBackendError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
    UnknownVersionError,
)

ENGINES = ["polars", "duckdb", "reference"]
VIEW = gr.FeatureView("taste", features=["spend", gr.select("shops", prefix="shop_")], labels=["churned"])


def spine() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": ["u1", "u2", "u1", "u9", "u1", None],
            "shop_id": [1, 2, 2, 1, 3, 1],
            "event_time": [at(6), at(4), at(10), at(10), at(6), at(10)],
            "churned": [True, False, True, False, True, None],
        }
    )


@pytest.fixture
def filled(store: gr.FeatureStore) -> gr.FeatureStore:
    store.apply([spend_group(ttl="5d"), shops_group(), VIEW])
    store.materialize()
    return store


@pytest.mark.parametrize("engine", ENGINES)
def test_a_training_set_is_point_in_time_correct(filled: gr.FeatureStore, engine: str) -> None:
    """PIT-1, PIT-2, PIT-3: every spine row, in order, with what was true then."""
    train = filled.get_historical_features("taste", spine(), engine=engine).to_polars()

    assert train.select(spine().columns).equals(spine())
    assert train.columns == [*spine().columns, "amount", "visits", "shop_country"]
    assert train["amount"].to_list() == [20.0, None, None, None, 20.0, None]
    assert train["visits"].to_list() == [2, None, 3, None, 2, None]
    assert train["visits"].dtype == pl.Int32
    assert train["shop_country"].to_list() == ["FR", "NZ", "NZ", "FR", None, "FR"]


@pytest.mark.parametrize("engine", ENGINES)
def test_as_known_hides_what_came_late(filled: gr.FeatureStore, engine: str) -> None:
    """PIT-5: the row of the 9th was loaded on the 12th."""
    rows = [{"user_id": "u1", "event_time": at(10)}, {"user_id": "u1", "event_time": at(13)}]

    known = filled.get_historical_features(["spend:visits"], rows, as_known=True, engine=engine).to_polars()

    assert known["visits"].to_list() == [2, 3]


@pytest.mark.parametrize("engine", ENGINES)
def test_strictly_before_leaves_out_the_row_at_the_same_time(filled: gr.FeatureStore, engine: str) -> None:
    view = [gr.select("spend", "visits", exact_matches=False), gr.select("spend", "visits", rename={"visits": "now"})]

    got = filled.get_historical_features(view, [{"user_id": "u1", "event_time": at(5)}], engine=engine).to_polars()

    assert got.select("visits", "now").row(0) == (1, 2)


def test_without_a_spine_the_first_group_makes_one(filled: gr.FeatureStore) -> None:
    """PIT-8: start is included, end is not."""
    got = filled.get_historical_features(["spend:amount"], start=at(5), end=at(9)).to_polars()

    assert got.rows() == [("u1", at(5), 20.0), ("u2", at(5), 7.5)]


def test_what_is_served_is_what_was_trained_on(filled: gr.FeatureStore) -> None:
    """ONL-1: the promise of the project."""
    now = at(10)
    rows = [{"user_id": u, "shop_id": s} for u, s in (("u1", 1), ("u2", 2), ("u9", 9), ("u1", 1))]

    served = filled.get_online_features("taste", rows, now=now)
    trained = filled.get_historical_features("taste", [{**row, "event_time": now} for row in rows])

    names = ["amount", "visits", "shop_country"]
    assert [[row[name] for name in names] for row in served.to_dicts()] == [
        list(row) for row in trained.to_polars().select(names).rows()
    ]
    assert served.statuses[0] == {"amount": "NULL", "visits": "PRESENT", "shop_country": "PRESENT"}
    assert set(served.statuses[2].values()) == {"NOT_FOUND"}


def test_an_expired_value_is_null_and_says_so(filled: gr.FeatureStore) -> None:
    """PIT-2 and ONL-3: five days is inside, one microsecond more is not."""
    row = [{"user_id": "u2"}]
    edge = at(14)

    inside = filled.get_online_features(["spend:amount"], row, now=edge)
    outside = filled.get_online_features(["spend:amount"], row, now=edge + dt.timedelta(microseconds=1))

    assert (inside.to_dicts()[0]["amount"], inside.statuses[0]["amount"]) == (9.0, "PRESENT")
    assert (outside.to_dicts()[0]["amount"], outside.statuses[0]["amount"]) == (None, "EXPIRED")


def test_defaults_stand_in_online_and_offline_alike(store: gr.FeatureStore) -> None:
    """ONL-5."""
    store.apply([spend_group(defaults={"amount": -1.0, "visits": 0})])
    store.materialize("spend")
    rows = [{"user_id": "u1"}, {"user_id": "u9"}]

    offline = store.get_historical_features(["spend"], [{**row, "event_time": at(20)} for row in rows]).to_polars()
    online = store.get_online_features(["spend"], rows, now=at(20)).to_dicts()

    assert offline.select("amount", "visits").rows() == [(-1.0, 3), (-1.0, 0)]
    assert [(row["amount"], row["visits"]) for row in online] == [(-1.0, 3), (-1.0, 0)]


class TestSpines:
    """Spines come as people hold them."""

    def test_pandas_keeps_its_index_and_types(self, filled: gr.FeatureStore) -> None:
        frame = spine().to_pandas().set_index(pd.Index(list("abcdef"), name="row"))
        frame["kind"] = pd.Categorical(list("xyxyxy"))

        got = filled.get_historical_features("taste", frame).to_pandas()

        pd.testing.assert_frame_equal(got[frame.columns], frame)
        assert got["visits"].tolist()[0] == 2
        assert str(got["visits"].dtype) == "int32[pyarrow]"

    def test_arrow_dicts_and_columns(self, filled: gr.FeatureStore) -> None:
        rows = [{"user_id": "u1", "event_time": at(6)}]
        for given in (rows, pa.Table.from_pylist(rows), {"user_id": ["u1"], "event_time": [at(6)]}, pl.LazyFrame(rows)):
            got = filled.get_historical_features(["spend:amount"], given)
            assert got.to_arrow().column("amount").to_pylist() == [20.0]

    def test_a_file_and_a_query(self, filled: gr.FeatureStore) -> None:
        spine().write_parquet(filled.project / "labels.parquet")

        from_file = filled.get_historical_features(["spend:amount"], "labels.parquet").to_polars()
        query = "SELECT user_id, event_time FROM 'labels.parquet' WHERE churned"
        from_query = filled.get_historical_features(["spend:amount"], query).to_polars()

        assert from_file["amount"].to_list() == [20.0, None, None, None, 20.0, None]
        assert from_query["amount"].to_list() == [20.0, None, 20.0]

    def test_other_zones_naive_times_dates_and_text(self, filled: gr.FeatureStore) -> None:
        """TIME-1: all of these are the same moment."""
        naive = dt.datetime(2026, 3, 5)
        zone = dt.timezone(dt.timedelta(hours=-5))
        for moment in (naive, dt.date(2026, 3, 5), "2026-03-05", dt.datetime(2026, 3, 4, 19, tzinfo=zone)):
            got = filled.get_historical_features(["spend:amount"], {"user_id": ["u1"], "event_time": [moment]})
            assert got.to_arrow().column("amount").to_pylist() == [20.0], moment

    def test_an_empty_spine(self, filled: gr.FeatureStore) -> None:
        got = filled.get_historical_features("taste", spine().clear())

        assert len(got) == 0
        assert got.to_polars().columns[-1] == "shop_country"

    def test_a_null_time_keeps_its_row(self, filled: gr.FeatureStore) -> None:
        got = filled.get_historical_features(
            ["spend:amount"], pl.DataFrame({"user_id": ["u1", "u1"], "event_time": [None, at(6)]})
        )
        assert got.to_polars()["amount"].to_list() == [None, 20.0]

    def test_the_time_column_is_found_or_asked_for(self, filled: gr.FeatureStore) -> None:
        one = pl.DataFrame({"user_id": ["u1"], "when": [at(6)]})
        two = one.with_columns(other=pl.col("when"))

        assert filled.get_historical_features(["spend:amount"], one).event_time == "when"
        with pytest.raises(MissingColumnError, match="which column"):
            filled.get_historical_features(["spend:amount"], two)
        assert len(filled.get_historical_features(["spend:amount"], two, event_time="other")) == 1

    def test_one_group_joined_under_two_columns(self, store: gr.FeatureStore) -> None:
        """PIT-6."""
        store.apply([shops_group()])
        store.materialize()
        trip = [
            gr.select("shops", on={"shop_id": "origin"}, prefix="from_"),
            gr.select("shops", on={"shop_id": "target"}, prefix="to_"),
        ]

        got = store.get_historical_features(trip, {"origin": [1, 2], "target": [2, 7], "at": [at(1), at(1)]})

        assert got.to_polars().select("from_country", "to_country").rows() == [("FR", "NZ"), ("NZ", None)]
        served = store.get_online_features(trip, [{"origin": 1, "target": 2}]).to_dicts()
        assert served == [{"origin": 1, "target": 2, "from_country": "FR", "to_country": "NZ"}]

    def test_integer_widths_unify_and_too_large_matches_nothing(self, store: gr.FeatureStore) -> None:
        """PIT-4."""
        frame = pl.DataFrame({"shop_id": [1, 2], "n": [5, 6]}, schema_overrides={"shop_id": pl.Int16})
        shop = gr.Entity("shop", join_keys={"shop_id": "int16"})
        store.apply([gr.FeatureGroup("small", entities=shop, source=gr.TableSource(frame, name="small"))])
        store.materialize()

        for dtype in (pl.Int64, pl.UInt64, pl.Int8, pl.UInt32):
            keys = [1, 2, 99] if dtype == pl.Int8 else [1, 2, 70_000]
            rows = pl.DataFrame({"shop_id": pl.Series(keys, dtype=dtype), "t": [at(1)] * 3})
            assert store.get_historical_features(["small:n"], rows).to_polars()["n"].to_list() == [5, 6, None]


class TestPush:
    """Rows in history and online at once."""

    @pytest.fixture
    def clicks(self, store: gr.FeatureStore) -> gr.FeatureStore:
        source = gr.PushSource("clicks", event_time="at", schema={"user_id": "string", "at": "datetime", "n": "int64"})
        doubled = gr.FeatureGroup(
            "doubled", entities=user, source=source, transform='SELECT user_id, "at", n * 2 AS n FROM source'
        )
        store.apply([gr.FeatureGroup("plain", entities=user, source=source), doubled])
        return store

    def test_a_source_feeds_every_group_that_reads_it(self, clicks: gr.FeatureStore) -> None:
        pushed = clicks.push("clicks", [{"user_id": "u1", "at": at(1), "n": 4}])

        assert {group for group, _, _ in pushed.groups} == {"plain", "doubled"}
        rows = [{"user_id": "u1"}]
        served = clicks.get_online_features(["plain:n", "doubled:n"], rows, now=at(2), full_feature_names=True)
        assert served.to_dicts() == [{"user_id": "u1", "plain__n": 4, "doubled__n": 8}]
        trained = clicks.get_historical_features(["doubled:n"], [{"user_id": "u1", "event_time": at(2)}])
        assert trained.to_polars()["n"].to_list() == [8]

    def test_older_rows_go_to_history_and_change_nothing_online(self, clicks: gr.FeatureStore) -> None:
        """ONL-2."""
        clicks.push("plain", [{"user_id": "u1", "at": at(5), "n": 5}])
        pushed = clicks.push("plain", [{"user_id": "u1", "at": at(3), "n": 3}])

        assert pushed.groups == (("plain", 1, 0),)
        assert clicks.get_online_features(["plain:n"], [{"user_id": "u1"}], now=at(6)).to_dicts()[0]["n"] == 5
        rows = [{"user_id": "u1", "event_time": at(day)} for day in (4, 6)]
        assert clicks.get_historical_features(["plain:n"], rows).to_polars()["n"].to_list() == [3, 5]

    def test_a_row_with_equal_times_is_a_correction(self, clicks: gr.FeatureStore) -> None:
        """PIT-3 and ONL-2, before and after materialize."""
        for n in (1, 2):
            clicks.push("plain", [{"user_id": "u1", "at": at(5), "n": n}])
        for _ in range(2):
            assert clicks.get_online_features(["plain:n"], [{"user_id": "u1"}], now=at(6)).to_dicts()[0]["n"] == 2
            rows = [{"user_id": "u1", "event_time": at(6)}]
            assert clicks.get_historical_features(["plain:n"], rows).to_polars()["n"].to_list() == [2]
            clicks.materialize("plain")

    def test_materialize_keeps_what_was_pushed(self, store: gr.FeatureStore) -> None:
        """Rows that only ever were pushed survive every rebuild, and a correction stays one."""
        store.apply([spend_group()])
        store.materialize("spend")
        fix = {"user_id": "u1", "at": at(9), "loaded": at(12), "amount": 99.0, "visits": 3}
        store.push("spend", [fix])

        for _ in range(2):
            (done,) = store.materialize("spend")
            assert done.rows == SPEND.height + 1
            rows = [{"user_id": "u1", "event_time": at(10)}]
            assert store.get_historical_features(["spend:amount"], rows).to_polars()["amount"].to_list() == [99.0]
            assert store.get_online_features(["spend:amount"], rows, now=at(10)).to_dicts()[0]["amount"] == 99.0
        assert not done.new_version

    def test_rows_that_do_not_fit_are_written_nowhere(self, clicks: gr.FeatureStore) -> None:
        for bad, error in (
            ([{"user_id": "u1", "at": at(1), "n": "many"}], ColumnTypeError),
            ([{"user_id": 7, "at": at(1), "n": 1}], ColumnTypeError),
            ([{"user_id": "u1", "n": 1}], SchemaError),
        ):
            with pytest.raises(error):
                clicks.push("plain", bad)
        with pytest.raises(UnknownVersionError):
            clicks.read("plain")

    def test_a_row_of_the_future_does_not_hide_the_present_one(self, clicks: gr.FeatureStore) -> None:
        """ONL-1: it is in history, and comes online when a materialize finds it due."""
        clicks.push("plain", [{"user_id": "u1", "at": at(5), "n": 5}])
        pushed = clicks.push("plain", [{"user_id": "u1", "at": "2999-01-01", "n": 9}])

        assert "dated in the future" in pushed.warnings[0]
        assert clicks.get_online_features(["plain:n"], [{"user_id": "u1"}]).to_dicts()[0]["n"] == 5
        rows = [{"user_id": "u1", "event_time": "2999-01-02"}]
        assert clicks.get_historical_features(["plain:n"], rows).to_polars()["n"].to_list() == [9]

    def test_no_rows_are_no_push(self, clicks: gr.FeatureStore) -> None:
        assert clicks.push("clicks", []).groups == (("doubled", 0, 0), ("plain", 0, 0))

    def test_all_groups_get_the_rows_or_none(self, project: Path) -> None:
        with gr.FeatureStore(project, online="memory", locks={"timeout": "100ms"}) as store:
            source = gr.PushSource("p", event_time="at", schema={"user_id": "string", "at": "datetime", "n": "int64"})
            store.apply([gr.FeatureGroup(name, entities=user, source=source) for name in ("a", "b")])
            held, release = threading.Event(), threading.Event()

            def hold() -> None:
                with store._parts.offline.lock("b", timeout=5):
                    held.set()
                    release.wait(20)

            other = threading.Thread(target=hold)
            other.start()
            held.wait(20)
            try:
                with pytest.raises(ConflictError):
                    store.push("p", [{"user_id": "u1", "at": at(1), "n": 1}])
            finally:
                release.set()
                other.join()
            for name in ("a", "b"):
                with pytest.raises(UnknownVersionError):
                    store.read(name)

    def test_a_group_and_a_source_of_one_name_both_get_the_rows(self, store: gr.FeatureStore) -> None:
        source = gr.PushSource("same", event_time="at", schema={"user_id": "string", "at": "datetime", "n": "int64"})
        store.apply([gr.FeatureGroup(name, entities=user, source=source) for name in ("same", "other")])

        pushed = store.push("same", [{"user_id": "u1", "at": at(1), "n": 1}])

        assert {group for group, _, _ in pushed.groups} == {"same", "other"}

    def test_nobody_of_that_name(self, clicks: gr.FeatureStore) -> None:
        with pytest.raises(UnknownFeatureGroupError) as caught:
            clicks.push("clikcs", [])
        assert caught.value.closest == ("clicks",)


class TestMaterialize:
    def test_the_same_again_is_no_new_version(self, filled: gr.FeatureStore) -> None:
        (again,) = filled.materialize("spend")

        assert (again.version, again.new_version) == ("1.0.0", False)

    def test_new_data_is_a_patch(self, filled: gr.FeatureStore) -> None:
        """VER-1, and VER-4: the pinned version still reads as it did."""
        more = SPEND.with_columns(amount=pl.col("amount") + 1)
        more.write_parquet(filled.project / "data" / "spend.parquet")

        (done,) = filled.materialize("spend")

        assert (done.version, done.new_version) == ("1.0.1", True)
        rows = [{"user_id": "u1", "event_time": at(6)}]
        for reference, amount in (("spend:amount", 21.0), ("spend@1.0.0:amount", 20.0), ("spend@1.0.1:amount", 21.0)):
            assert filled.get_historical_features([reference], rows).to_polars()["amount"].to_list() == [amount]
        assert [meta.version for meta in filled.versions("spend")] == ["1.0.0", "1.0.1"]

    def test_an_asked_for_version_must_be_above_the_highest(self, filled: gr.FeatureStore) -> None:
        """VER-2."""
        assert filled.materialize("spend", version="2.0.0")[0].version == "2.0.0"
        for version in ("1.5.0", "2.0.0", "2.0"):
            with pytest.raises(RequestError):
                filled.materialize("spend", version=version)
        with pytest.raises(RequestError, match="one feature group at a time"):
            filled.materialize(version="3.0.0")

    def test_a_range_replaces_only_its_rows(self, filled: gr.FeatureStore) -> None:
        changed = SPEND.with_columns(visits=pl.col("visits") * 10)
        changed.write_parquet(filled.project / "data" / "spend.parquet")

        filled.materialize("spend", start=at(5), end=at(9))

        stored = filled.read("spend", columns=["at", "visits"]).polars
        assert stored.sort("at", "visits").rows() == [(at(1), 1), (at(5), 10), (at(5), 20), (at(9), None), (at(9), 3)]

    def test_a_new_column_is_a_minor(self, filled: gr.FeatureStore) -> None:
        wider = "SELECT *, amount * 2 AS twice FROM source"
        changes = filled.apply([spend_group(ttl="5d", transform=wider)])

        assert "+ column twice float64" in str(changes)
        (done,) = filled.materialize("spend")
        assert done.version == "1.1.0"
        assert (
            filled.get_online_features(["spend:twice"], [{"user_id": "u2"}], now=at(9)).to_dicts()[0]["twice"] == 18.0
        )

    @pytest.mark.parametrize("engine", ENGINES)
    def test_every_engine_builds_the_same_version(self, filled: gr.FeatureStore, engine: str) -> None:
        (done,) = filled.materialize("spend", engine=engine)

        assert not done.new_version

    def test_an_empty_source_is_refused_and_takes_nothing_along(self, filled: gr.FeatureStore) -> None:
        SPEND.clear().write_parquet(filled.project / "data" / "spend.parquet")

        for options in ({}, {"start": at(5)}):
            with pytest.raises(SourceError, match="has no rows") as caught:
                filled.materialize("spend", **options)
            assert "5 rows, which stay" in str(caught.value)
        assert len(filled.read("spend")) == 5
        assert (
            filled.get_online_features(["spend:amount"], [{"user_id": "u2"}], now=at(9)).to_dicts()[0]["amount"] == 9.0
        )
        assert not filled.materialize("spend", start=at(20))[0].new_version

    def test_rows_that_are_always_true_lie_in_every_range(self, filled: gr.FeatureStore) -> None:
        (done,) = filled.materialize("shops", start=at(1), end=at(2))

        assert (done.rows, done.new_version) == (2, False)

    def test_the_same_quarantine_is_kept_once(self, store: gr.FeatureStore) -> None:
        store.apply([spend_group(expectations={"amount": gr.not_null(policy="drop")})])
        for _ in range(3):
            store.materialize("spend")

        assert len(list((store.project / ".grange/offline/spend/_quarantine").iterdir())) == 1

    def test_expectations_that_drop_every_row_take_nothing_along(self, filled: gr.FeatureStore) -> None:
        filled.apply([spend_group(ttl="5d", expectations={"visits": gr.greater_than(100, policy="drop")})])
        SPEND.drop_nulls("visits").write_parquet(filled.project / "data" / "spend.parquet")

        with pytest.raises(ExpectationError, match="drop every one of 4 rows"):
            filled.materialize("spend")
        assert len(filled.read("spend")) == 5

    def test_a_group_deleted_elsewhere_is_not_brought_back(self, project: Path) -> None:
        with gr.FeatureStore(project) as one, gr.FeatureStore(project) as two:
            one.apply([spend_group()])
            assert two.catalog.group("spend")
            one.delete("spend")
            with pytest.raises(UnknownFeatureGroupError):
                two.materialize("spend")
            with pytest.raises(UnknownFeatureGroupError):
                two.push("spend", [])

    def test_expectations_fail_drop_and_warn(self, store: gr.FeatureStore) -> None:
        store.apply([spend_group(expectations={"amount": gr.not_null(policy="drop")})])
        (done,) = store.materialize("spend")
        assert (done.rows, done.quarantined) == (4, 1)
        store.apply([spend_group(expectations={"amount": gr.less_than(15, policy="warn")})])
        (warned,) = store.materialize("spend")
        assert warned.rows == 5
        assert "less_than(15)" in warned.warnings[0]
        store.apply([spend_group(expectations={"amount": gr.greater_than(8)})])
        with pytest.raises(ExpectationError, match=r"greater_than\(8\)"):
            store.materialize("spend")
        assert len(store.read("spend")) == 5

    def test_a_transform_that_raises_leaves_everything(self, filled: gr.FeatureStore) -> None:
        def broken(df: pl.DataFrame) -> pl.DataFrame:
            if df.height and "boom" in df["user_id"].to_list():
                raise RuntimeError("kaputt")
            return df

        filled.apply([spend_group(transform=broken)])
        SPEND.with_columns(user_id=pl.lit("boom")).write_parquet(filled.project / "data" / "spend.parquet")

        with pytest.raises(TransformError, match="kaputt"):
            filled.materialize("spend")
        assert len(filled.read("spend")) == 5

    def test_a_type_that_changed_under_way_is_named(self, filled: gr.FeatureStore) -> None:
        """PIT-7."""
        SPEND.with_columns(visits=pl.lit("many")).write_parquet(filled.project / "data" / "spend.parquet")

        with pytest.raises(ColumnTypeError, match="'visits' is declared int32"):
            filled.materialize("spend")
        assert len(filled.read("spend")) == 5

    def test_someone_else_is_at_it(self, project: Path) -> None:
        with gr.FeatureStore(project, online="memory", locks={"timeout": "200ms"}) as store:
            store.apply([spend_group()])
            held, release = threading.Event(), threading.Event()

            def hold() -> None:
                with store._parts.offline.lock("spend", timeout=5):
                    held.set()
                    release.wait(20)

            other = threading.Thread(target=hold)
            other.start()
            held.wait(20)
            try:
                with pytest.raises(ConflictError):
                    store.materialize("spend")
            finally:
                release.set()
                other.join()
            assert store.materialize("spend")[0].version == "1.0.0"

    def test_the_source_is_gone(self, filled: gr.FeatureStore) -> None:
        (filled.project / "data" / "spend.parquet").rename(filled.project / "data" / "spent.parquet")

        with pytest.raises(SourceError) as caught:
            filled.materialize("spend")
        assert "spent.parquet" in str(caught.value)
        assert len(filled.read("spend")) == 5

    def test_a_frame_of_another_process(self, project: Path) -> None:
        frame = gr.TableSource(SPEND, name="spend_frame", event_time="at", created_time="loaded")
        with gr.FeatureStore(project) as one:
            one.apply([gr.FeatureGroup("framed", entities=user, source=frame)])
            assert one.materialize("framed")[0].rows == 5
        with gr.FeatureStore(project) as two:
            assert len(two.read("framed")) == 5
            with pytest.raises(SourceError, match="lives in the process"):
                two.materialize("framed")

    def test_code_comes_from_the_projects_modules(self, project: Path) -> None:
        (project / "features.py").write_text(
            "import grange as gr\nimport polars as pl\n\n"
            "user = gr.Entity('user', join_keys=['user_id'])\n\n"
            "@gr.feature_group(entities=user, source=gr.FileSource('data/spend.parquet', event_time='at'))\n"
            "def halves(df: pl.LazyFrame) -> pl.LazyFrame:\n"
            "    return df.select('user_id', 'at', half=pl.col('amount') / 2)\n"
        )
        (project / "grange.toml").write_text('definitions = ["features.py"]\n')
        with gr.FeatureStore(project) as one:
            one.apply()
        with gr.FeatureStore(project) as two:
            two.materialize("halves")
            assert two.read("halves", columns=["half"]).polars["half"].to_list()[0] == 5.0


class TestApply:
    def test_plan_shows_and_changes_nothing(self, store: gr.FeatureStore) -> None:
        shown = store.plan([spend_group()])

        assert "+ feature group spend" in str(shown)
        assert "amount float64" in str(shown)
        assert not store.catalog.groups

    def test_the_same_again_changes_nothing(self, filled: gr.FeatureStore) -> None:
        again = filled.apply([spend_group(ttl="5d"), shops_group(), VIEW])

        assert not again
        assert again.revision == 1

    def test_a_diff_people_can_read(self, filled: gr.FeatureStore) -> None:
        text = str(filled.plan([spend_group(ttl="7d", owner="growth")]))

        assert "~ feature group spend" in text
        assert "ttl: 5d -> 1w" in text
        assert "owner: none -> growth" in text

    def test_the_schema_is_inferred_once_then_fixed(self, filled: gr.FeatureStore) -> None:
        SPEND.with_columns(visits=pl.col("visits").cast(pl.Float64)).write_parquet(
            filled.project / "data" / "spend.parquet"
        )

        assert not filled.plan([spend_group(ttl="5d")])
        assert str(filled.catalog.group("spend").schema["visits"]) == "int32"

    def test_prune_takes_away_what_is_not_there(self, filled: gr.FeatureStore) -> None:
        assert set(filled.plan([spend_group(ttl="5d")]).kept) == {"taste", "shops", "shop"}

        pruned = filled.apply([spend_group(ttl="5d")], prune=True)

        assert {(change.action, change.name) for change in pruned.changes} == {
            ("delete", "taste"),
            ("delete", "shops"),
            ("delete", "shop"),
        }

    def test_concurrent_applies_all_arrive(self, project: Path) -> None:
        def one(number: int) -> None:
            with gr.FeatureStore(project) as store:
                frame = gr.TableSource(SPEND, name="f", event_time="at")
                store.apply([gr.FeatureGroup(f"group_{number}", entities=user, source=frame)])

        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        with gr.FeatureStore(project) as store:
            assert set(store.catalog.groups) == {f"group_{number}" for number in range(4)}

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (
                lambda: gr.FeatureGroup("g", entities=user, source=gr.FileSource("data/none.parquet")),
                SourceError,
                "none",
            ),
            (
                lambda: gr.FeatureGroup(
                    "g", entities=user, source=gr.FileSource("data/spend.parquet", event_time="att")
                ),
                SchemaError,
                "event-time column 'att'",
            ),
            (
                lambda: gr.FeatureGroup("g", entities=gr.Entity("usr"), source=spend_source),
                SchemaError,
                "no join key 'usr'",
            ),
            (lambda: spend_group(schema={"amount": "string"}), ColumnTypeError, "'amount' is declared string"),
            (lambda: spend_group(schema={"amuont": "float64"}), SchemaError, "'amuont', which is declared"),
            (lambda: spend_group(defaults={"amuont": 1.0}), UnknownFeatureError, "amuont"),
            (lambda: spend_group(defaults={"visits": "many"}), ColumnTypeError, "default"),
            (lambda: spend_group(expectations={"amuont": gr.not_null()}), SchemaError, "amuont"),
            (lambda: spend_group(transform='SELECT user_id, "at", loaded FROM source'), SchemaError, "no features"),
            (lambda: spend_group(transform="SELECT nope FROM source"), TransformError, "nope"),
            (lambda: gr.FeatureView("v", features=["nothing"]), UnknownFeatureGroupError, "nothing"),
            (lambda: 7, DefinitionError, "cannot be applied"),
        ],
    )
    def test_bad_definitions_change_nothing(
        self, store: gr.FeatureStore, make: object, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            store.apply([make()])  # type: ignore[operator]
        assert not store.catalog.groups

    def test_two_groups_disagree_about_a_key(self, filled: gr.FeatureStore) -> None:
        """PIT-4: refused when applied, not when read."""
        frame = gr.TableSource(pl.DataFrame({"user_id": [1], "x": [1]}), name="numbers")

        with pytest.raises(KeyTypeError, match="two types"):
            filled.apply([gr.FeatureGroup("numbered", entities=user, source=frame)])

    def test_leading_zeros_survive_a_csv(self, store: gr.FeatureStore) -> None:
        (store.project / "codes.csv").write_text("user_id,at,n\n007,2026-03-01T00:00:00,1\n07,2026-03-01T00:00:00,2\n")
        typed = gr.Entity("agent", join_keys={"user_id": "string"})
        store.apply([gr.FeatureGroup("agents", entities=typed, source=gr.FileSource("codes.csv", event_time="at"))])
        store.materialize("agents")

        got = store.get_online_features(["agents:n"], [{"user_id": "007"}, {"user_id": "7"}], now=at(2))

        assert [row["n"] for row in got.to_dicts()] == [1, None]


class TestBadRequests:
    @pytest.mark.parametrize(
        ("features", "rows", "error", "closest"),
        [
            (["spend:amuont"], {}, UnknownFeatureError, "spend:amount"),
            (["spned"], {}, UnknownFeatureGroupError, "spend"),
            ("tatse", {}, UnknownFeatureViewError, "taste"),
            (["spend@9.0.0:amount"], {}, UnknownVersionError, None),
            (["spend:amount"], {"user_id": None}, MissingColumnError, None),
            (["spend:amount", gr.select("spend", "visits", rename={"visits": "amount"})], {}, NameCollisionError, None),
            (["spend:amount"], {"amount": [1.0]}, NameCollisionError, None),
            (["spend:amount"], {"user_id": [1]}, KeyTypeError, None),
            (["spend:amount"], {"event_time": ["soon"]}, ColumnTypeError, None),
            ([3], {}, RequestError, None),
        ],
    )
    def test_history(
        self, filled: gr.FeatureStore, features: object, rows: dict[str, object], error: type, closest: str | None
    ) -> None:
        asked = {"user_id": ["u1"], "event_time": [at(6)]} | rows
        asked = {name: values for name, values in asked.items() if values is not None}

        with pytest.raises(error) as caught:
            filled.get_historical_features(features, asked)
        if closest:
            assert closest in caught.value.closest

    def test_online(self, filled: gr.FeatureStore) -> None:
        with pytest.raises(MissingColumnError, match="user_id"):
            filled.get_online_features(["spend:amount"], [{"usr": "u1"}])
        with pytest.raises(KeyTypeError):
            filled.get_online_features(["spend:amount"], [{"user_id": 1}])
        with pytest.raises(UnknownFeatureViewError):
            filled.get_online_features("tatse", [])
        assert filled.get_online_features("taste", []).to_dicts() == []

    def test_an_unknown_engine(self, filled: gr.FeatureStore) -> None:
        with pytest.raises(UnknownBackendError) as caught:
            filled.get_historical_features(["spend"], spine(), engine="duck")
        assert caught.value.closest == ("duckdb",)

    def test_a_spine_and_a_range(self, filled: gr.FeatureStore) -> None:
        with pytest.raises(RequestError, match="start and end make a spine"):
            filled.get_historical_features(["spend"], spine(), start=at(1))

    def test_not_materialized_yet(self, store: gr.FeatureStore) -> None:
        store.apply([spend_group()])

        with pytest.raises(UnknownVersionError) as caught:
            store.get_historical_features(["spend"], spine())
        assert caught.value.try_ == "grange materialize spend"


class TestViews:
    def test_request_columns_are_demanded_and_echoed(self, filled: gr.FeatureStore) -> None:
        basket = gr.RequestSource("basket", schema={"total": "float64"})
        filled.apply([gr.FeatureView("buying", features=["spend:amount"], requests=basket)])

        served = filled.get_online_features("buying", [{"user_id": "u2", "total": 3.5}], now=at(9))
        assert served.to_dicts() == [{"user_id": "u2", "total": 3.5, "amount": 9.0}]
        with pytest.raises(MissingColumnError, match="total"):
            filled.get_online_features("buying", [{"user_id": "u2"}])
        with pytest.raises(MissingColumnError, match="total"):
            filled.get_historical_features("buying", [{"user_id": "u2", "event_time": at(9)}])

    def test_label_features_are_trained_on_and_never_served(self, filled: gr.FeatureStore) -> None:
        filled.apply([gr.FeatureView("labelled", features=["spend:amount"], labels=["spend:visits"])])
        rows = [{"user_id": "u1", "event_time": at(6)}]

        assert filled.get_historical_features("labelled", rows).feature_names == ("amount", "visits")
        assert "visits" not in filled.get_online_features("labelled", rows, now=at(6)).to_dicts()[0]

    def test_explain_names_versions_keys_and_ttl(self, filled: gr.FeatureStore) -> None:
        text = filled.get_historical_features("taste", spine()).explain()

        assert "point-in-time join of 2 groups" in text
        assert "spend@1.0.0 on user_id" in text
        assert "ttl 5d" in text
        assert "lmdb" in filled.explain_online("taste") or "memory" in filled.explain_online("taste")
        assert "publish a version of spend" in filled.explain_materialize("spend")


class TestDelete:
    def test_what_a_view_uses_stays(self, filled: gr.FeatureStore) -> None:
        with pytest.raises(InUseError, match="taste"):
            filled.delete("spend")
        assert len(filled.read("spend")) == 5

    def test_cascade_takes_the_views_along(self, filled: gr.FeatureStore) -> None:
        removed = filled.delete("spend", cascade=True)

        assert "feature view taste" in removed
        assert set(filled.catalog.groups) == {"shops"}
        with pytest.raises(UnknownFeatureGroupError):
            filled.read("spend")

    def test_a_deleted_group_starts_afresh(self, filled: gr.FeatureStore) -> None:
        filled.delete("spend", cascade=True)
        filled.apply([spend_group()])

        with pytest.raises(UnknownVersionError):
            filled.read("spend")
        served = filled.get_online_features(["spend:amount"], [{"user_id": "u2"}], now=at(9))
        assert served.statuses[0]["amount"] == "NOT_FOUND"

    def test_one_version(self, filled: gr.FeatureStore) -> None:
        SPEND.head(2).write_parquet(filled.project / "data" / "spend.parquet")
        filled.materialize("spend")

        filled.delete("spend", version="1.0.1")

        assert len(filled.read("spend")) == 5
        with pytest.raises(UnknownVersionError):
            filled.delete("spend", version="7.7.7")

    def test_what_is_served_goes_back_with_the_version(self, filled: gr.FeatureStore) -> None:
        """ONL-1 after a version is taken back."""
        SPEND.with_columns(visits=pl.col("visits") * 10).write_parquet(filled.project / "data" / "spend.parquet")
        filled.materialize("spend")

        filled.delete("spend", version="1.0.1")

        assert (
            filled.get_online_features(["spend:visits"], [{"user_id": "u1"}], now=at(10)).to_dicts()[0]["visits"] == 3
        )

    def test_a_pruned_group_leaves_nothing_to_inherit(self, filled: gr.FeatureStore) -> None:
        filled.apply([shops_group()], prune=True)
        filled.apply([spend_group()])

        with pytest.raises(UnknownVersionError):
            filled.read("spend")

    def test_entities_and_the_unknown(self, filled: gr.FeatureStore) -> None:
        with pytest.raises(InUseError, match="spend"):
            filled.delete("user")
        with pytest.raises(NotFoundError) as caught:
            filled.delete("spnd")
        assert "spend" in caught.value.closest


def test_another_process_sees_what_was_applied(project: Path) -> None:
    with gr.FeatureStore(project) as one:
        one.apply([spend_group(transform="SELECT * FROM source WHERE amount > 8 OR amount IS NULL")])
        one.materialize()
    with gr.FeatureStore(project) as two:
        assert two.get_online_features(["spend:amount"], [{"user_id": "u2"}], now=at(9)).to_dicts()[0]["amount"] == 9.0
        assert two.catalog.group("spend").join_keys == ("user_id",)
        assert two.inspect("spend")["stored"]["row_count"] == 4
        assert two.materialize("spend")[0].version == "1.0.0"


def test_utc_is_what_comes_out(filled: gr.FeatureStore) -> None:
    assert filled.read("spend").polars["at"].dtype == pl.Datetime("us", "UTC")
    assert filled.get_online_features(["spend"], [{"user_id": "u2"}], now=at(9)).event_times[0]["amount"] == at(9)
    assert at(9).tzinfo is UTC


@pytest.mark.parametrize("name", ["served__taste", "served__"])
def test_no_group_is_called_as_the_log_of_what_was_served(store: gr.FeatureStore, name: str) -> None:
    """Who may read such a group could read what others were served, whatever the policies say of its features."""
    source = gr.PushSource(
        "rows",
        schema={"request_id": "string", "place": "int64", "at": "datetime", "features": "string"},
        event_time="at",
    )
    request = gr.Entity("request", join_keys=["request_id", "place"])
    group = gr.FeatureGroup(name, entities=request, source=source)
    for refused in (lambda: store.plan([group]), lambda: store.apply([group])):
        with pytest.raises(DefinitionError, match="served__"):
            refused()
    assert not store.catalog.groups
