"""Definitions change and what was stored stays: columns come, go and change type; keys and times move."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import at, user

import grange as gr
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    RequestError,
    SchemaError,
    SourceError,
    StoreUnavailableError,
    UnknownFeatureError,
    UnsupportedError,
)

ENGINES = ["polars", "duckdb", "reference"]


@pytest.fixture(params=ENGINES)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> gr.FeatureStore:
    return gr.FeatureStore(tmp_path, engine=request.param, online="memory")


def pushed_group(**columns: str) -> gr.FeatureGroup:
    schema = {"user_id": "string", "at": "datetime", **columns}
    return gr.FeatureGroup("clicks", entities=[user], source=gr.PushSource("clicks_in", schema=schema, event_time="at"))


def push(store: gr.FeatureStore, **values: Any) -> None:
    store.push("clicks", [{"user_id": "u1", "at": at(1), **values}])


def history(store: gr.FeatureStore, features: Any = ("clicks",), *, day: int = 10, **spine: Any) -> dict[str, Any]:
    row = {"user_id": "u1", "event_time": at(day), **spine}
    found: dict[str, Any] = store.get_historical_features(list(features), [row]).to_arrow().to_pylist()[0]
    return found


def rows_of(store: gr.FeatureStore, group: str = "clicks", **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.read(group, **options).arrow.to_pylist()
    return found


class TestPushedGroups:
    def test_a_column_is_added(self, store: gr.FeatureStore) -> None:
        """Rows pushed before are null in the new column, before and after they are materialized."""
        store.apply([pushed_group(n="int64")])
        push(store, n=1)
        store.materialize("clicks")
        store.apply([pushed_group(n="int64", label="string")])
        assert store.materialize("clicks")[0].rows == 1
        push(store, n=2, label="x")
        assert [(row["n"], row["label"]) for row in rows_of(store)] == [(1, None), (2, "x")]
        assert store.materialize("clicks")[0].rows == 2
        assert [(row["n"], row["label"]) for row in rows_of(store)] == [(1, None), (2, "x")]
        assert history(store) == {"user_id": "u1", "event_time": at(10), "n": 2, "label": "x"}

    def test_a_column_is_removed(self, store: gr.FeatureStore) -> None:
        """The next version does not have it; the version before still does (VER-4)."""
        store.apply([pushed_group(n="int64", label="string")])
        push(store, n=1, label="x")
        store.materialize("clicks")
        store.apply([pushed_group(n="int64")])
        push(store, n=2)
        made = store.materialize("clicks")[0]
        assert (made.version, made.rows) == ("2.0.0", 2)
        assert [row["n"] for row in rows_of(store)] == [1, 2]
        assert "label" not in rows_of(store)[0]
        assert rows_of(store, version="1.0.0")[0]["label"] == "x"

    def test_a_column_changes_its_type(self, store: gr.FeatureStore) -> None:
        """Older rows are read in the new type, where they fit it."""
        store.apply([pushed_group(n="int32")])
        push(store, n=1)
        store.materialize("clicks")
        store.apply([pushed_group(n="float64")])
        push(store, n=2.5)
        assert store.materialize("clicks")[0].rows == 2
        assert [row["n"] for row in rows_of(store)] == [1.0, 2.5]

    def test_rows_that_do_not_fit_the_new_type_say_so(self, store: gr.FeatureStore) -> None:
        """Nothing changes, and the old type brings the group back."""
        store.apply([pushed_group(n="float64")])
        push(store, n=1.5)
        store.materialize("clicks")
        store.apply([pushed_group(n="int64")])
        with pytest.raises(ColumnTypeError, match="stored rows of feature group 'clicks': column 'n'"):
            store.materialize("clicks")
        assert [row["n"] for row in rows_of(store)] == [1.5]
        store.apply([pushed_group(n="float64")])
        assert store.materialize("clicks")[0].version == "1.0.0"

    def test_rows_pushed_under_another_key_are_not_carried_over(self, store: gr.FeatureStore) -> None:
        """A null key would match nothing for ever, so it is an error and not a loss."""
        store.apply([pushed_group(n="int64")])
        push(store, n=1)
        store.materialize("clicks")
        shop = gr.Entity("shop", join_keys=["shop_id"])
        schema = {"shop_id": "string", "at": "datetime", "n": "int64"}
        source = gr.PushSource("clicks_in", schema=schema, event_time="at")
        store.apply([gr.FeatureGroup("clicks", entities=[shop], source=source)])
        with pytest.raises(SchemaError, match="stored rows of feature group 'clicks' have no 'shop_id'"):
            store.materialize("clicks")
        assert [row["n"] for row in rows_of(store)] == [1]

    def test_a_range_builds_on_a_version_of_other_columns(self, store: gr.FeatureStore) -> None:
        """Rows outside of the range keep what they have, and are null where they had nothing."""
        write(store, pl.DataFrame({"user_id": ["u1", "u1"], "at": [at(1), at(5)], "n": [1, 2]}))
        store.apply([filed_group()])
        store.materialize("clicks")
        write(store, pl.DataFrame({"user_id": ["u1"], "at": [at(5)], "n": [9.5], "label": ["x"]}))
        store.apply([filed_group(transform="select * from source")])
        store.materialize("clicks", start=at(4))
        assert [(row["n"], row["label"]) for row in rows_of(store)] == [(1.0, None), (9.5, "x")]


def write(store: gr.FeatureStore, frame: pl.DataFrame) -> None:
    frame.write_parquet(store.project / "clicks.parquet")


def filed_group(*, key: str = "user_id", time: str = "at", **options: Any) -> gr.FeatureGroup:
    entity = gr.Entity("user", join_keys=[key])
    source = gr.FileSource("clicks.parquet", event_time=time)
    return gr.FeatureGroup("clicks", entities=[entity], source=source, **options)


class TestPinnedVersions:
    """A pinned version is read by its own layout, whatever the definition says by now (VER-4)."""

    @pytest.fixture(
        params=[
            ({"user_id": [1, 2], "at": [at(1), at(2)], "n": [10, 20]}, {}),
            ({"account": ["u1", "u2"], "at": [at(1), at(2)], "n": [10, 20]}, {"key": "account"}),
            ({"user_id": ["u1", "u2"], "moment": [at(1), at(2)], "n": [10, 20]}, {"time": "moment"}),
        ],
        ids=["key type", "key column", "event time"],
    )
    def changed(self, store: gr.FeatureStore, request: pytest.FixtureRequest) -> gr.FeatureStore:
        """Version 1.0.0 is keyed by a text `user_id` and timed by `at`; the definition is not, any more."""
        write(store, pl.DataFrame({"user_id": ["u1", "u2"], "at": [at(1), at(2)], "n": [1, 2]}))
        store.apply([filed_group()])
        store.materialize("clicks")
        columns, options = request.param
        write(store, pl.DataFrame(columns))
        # applied anew: what is given decides, and the other definition's schema is inferred again
        store.apply([filed_group(**options, transform="select * from source")])
        return store

    def check(self, store: gr.FeatureStore, version: str | None) -> None:
        asked = "clicks" if version is None else f"clicks@{version}"
        assert history(store, [asked]) == {"user_id": "u1", "event_time": at(10), "n": 1}
        made = store.get_historical_features([asked], start=at(1), end=at(2)).to_arrow().to_pylist()
        assert made == [{"user_id": "u1", "at": at(1), "n": 1}]
        assert [row["n"] for row in rows_of(store, version=version, start=at(2))] == [2]

    def test_before_it_is_materialized(self, changed: gr.FeatureStore) -> None:
        """What is stored answers as it did, by name and as the latest."""
        self.check(changed, "1.0.0")
        self.check(changed, None)

    def test_after_it_is_materialized(self, changed: gr.FeatureStore) -> None:
        """The older version answers by its own key and time, beside the newer one."""
        changed.materialize("clicks")
        self.check(changed, "1.0.0")
        assert sorted(row["n"] for row in rows_of(changed)) == [10, 20]

    def test_a_feature_that_is_not_stored_yet(self, store: gr.FeatureStore) -> None:
        """It is defined, and the error says what makes it."""
        store.apply([pushed_group(n="int64")])
        push(store, n=1)
        store.materialize("clicks")
        store.apply([pushed_group(n="int64", label="string")])
        with pytest.raises(UnknownFeatureError, match="grange materialize clicks"):
            history(store, ["clicks:label"])


class TestMadeSpines:
    """PIT-8 where the first group is joined under other columns (PIT-6)."""

    @pytest.fixture
    def airports(self, store: gr.FeatureStore) -> gr.FeatureStore:
        airport = gr.Entity("airport", join_keys=["airport"])
        frame = pl.DataFrame({"airport": ["JFK", "SFO"], "at": [at(1), at(2)], "temp": [1.5, 2.5]})
        source = gr.TableSource(frame, event_time="at", name="weather_rows")
        ends = [gr.select("weather", on={"airport": end}, prefix=f"{end}_") for end in ("origin", "destination")]
        views = [gr.FeatureView("leaving", features=ends[:1]), gr.FeatureView("flying", features=ends)]
        store.apply([gr.FeatureGroup("weather", entities=[airport], source=source), *views])
        store.materialize("weather")
        return store

    def test_the_spine_has_the_columns_that_are_joined_on(self, airports: gr.FeatureStore) -> None:
        found = airports.get_historical_features("leaving", start=at(1), end=at(3)).to_arrow().to_pylist()
        assert found == [
            {"origin": "JFK", "at": at(1), "origin_temp": 1.5},
            {"origin": "SFO", "at": at(2), "origin_temp": 2.5},
        ]

    def test_a_second_key_needs_a_spine(self, airports: gr.FeatureStore) -> None:
        with pytest.raises(RequestError, match="a spine is needed") as caught:
            airports.get_historical_features("flying", start=at(1), end=at(3))
        assert "destination" in str(caught.value)

    def test_request_columns_need_a_spine(self, airports: gr.FeatureStore) -> None:
        asked = gr.RequestSource("ticket", schema={"price": "float64"})
        airports.apply([gr.FeatureView("priced", features=["weather"], requests=asked)])
        with pytest.raises(RequestError, match=r"a spine is needed.*'price'"):
            airports.get_historical_features("priced", start=at(1), end=at(3))


class TestPandasSpines:
    @pytest.fixture
    def clicks(self, store: gr.FeatureStore) -> gr.FeatureStore:
        store.apply([pushed_group(n="int64")])
        push(store, n=1)
        return store

    def test_a_column_that_nobody_looks_at_may_hold_anything(self, clicks: gr.FeatureStore) -> None:
        """It comes back as it was; formats that cannot hold it say which column it is."""
        pd = pytest.importorskip("pandas")
        odd = [1, "a", {"b": 2}]
        spine = pd.DataFrame({"user_id": ["u1", "u2", "u1"], "when": [at(10)] * 3, "odd": odd}, index=[7, 7, 8])
        found = clicks.get_historical_features(["clicks"], spine)
        frame = found.to_pandas()
        assert frame["odd"].tolist() == odd
        assert frame.index.tolist() == [7, 7, 8]
        assert [None if pd.isna(n) else n for n in frame["n"]] == [1, None, 1]
        assert (len(found), found.event_time) == (3, "when")
        for convert in (found.to_arrow, found.to_polars):
            with pytest.raises(ColumnTypeError, match="'odd'"):
                convert()

    def test_a_key_of_several_types_is_an_error(self, clicks: gr.FeatureStore) -> None:
        pd = pytest.importorskip("pandas")
        spine = pd.DataFrame({"user_id": ["u1", 2], "event_time": [at(10)] * 2})
        with pytest.raises(ColumnTypeError, match="'user_id'"):
            clicks.get_historical_features(["clicks"], spine)

    @pytest.mark.parametrize("dtype", ["float64", "object"])
    def test_an_empty_frame_is_an_empty_answer(self, clicks: gr.FeatureStore, dtype: str) -> None:
        """Pandas gives columns without rows a type that says nothing."""
        pd = pytest.importorskip("pandas")
        spine = pd.DataFrame({"user_id": pd.Series([], dtype=dtype), "event_time": pd.Series([], dtype=dtype)})
        found = clicks.get_historical_features(["clicks"], spine)
        assert len(found.to_pandas()) == len(found.to_polars()) == 0
        assert list(found.to_pandas().columns) == ["user_id", "event_time", "n"]


def flip(path: Path) -> None:
    """Change a byte in the middle, and nothing else: neither the size nor the times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class TestDamage:
    @pytest.fixture
    def filled(self, store: gr.FeatureStore) -> gr.FeatureStore:
        days = [at(1) + dt.timedelta(minutes=minute) for minute in range(500)]
        write(store, pl.DataFrame({"user_id": ["u1"] * 500, "at": days, "n": range(500)}))
        store.apply([filed_group()])
        store.materialize("clicks")
        return store

    @pytest.mark.parametrize(
        "read",
        [
            history,
            rows_of,
            lambda store: history(store, ["clicks@1.0.0"]),
            lambda store: store.materialize("clicks", start=at(5)),
        ],
        ids=["history", "read", "pinned", "materialize a range"],
    )
    def test_changed_bytes_are_never_features(self, filled: gr.FeatureStore, read: Callable[..., object]) -> None:
        """Damage is an error that names the version and what looks at it; a rebuild gets past it."""
        flip(filled.project / ".grange/offline/clicks/1.0.0/data.parquet")
        with pytest.raises(CorruptStoreError, match=r"1\.0\.0.*") as caught:
            read(filled)
        assert "grange verify clicks" in str(caught.value)
        assert filled.materialize("clicks")[0].version == "1.0.1"
        assert history(filled)["n"] == 499

    def test_changed_bytes_of_pushed_rows(self, store: gr.FeatureStore) -> None:
        store.apply([pushed_group(n="int64")])
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": n} for n in range(500)])
        (segment,) = (store.project / ".grange/offline/clicks/_pushed").iterdir()
        flip(segment)
        for read in (lambda: history(store), lambda: store.materialize("clicks")):
            with pytest.raises(CorruptStoreError, match="clicks"):
                read()

    def test_a_file_where_the_store_should_be_is_an_outage(self, filled: gr.FeatureStore) -> None:
        """Not a group without history (ONL-6's sibling): somebody's path is wrong."""
        root = filled.project / ".grange/offline"
        root.rename(root.with_name("away"))
        root.write_text("")
        for read in (history, rows_of, lambda store: rows_of(store, version="1.0.0")):
            with pytest.raises(StoreUnavailableError):
                read(filled)


def test_pushed_rows_are_the_only_copy_so_their_types_stay(project: Path) -> None:
    """A type that cannot hold them is refused when it is applied, before anything new is stored."""

    def group(kind: str) -> gr.FeatureGroup:
        schema = {"user_id": "string", "at": "datetime", "x": kind}
        source = gr.PushSource("events", event_time="at", schema=schema)
        return gr.FeatureGroup("events", entities=gr.Entity("user", join_keys=["user_id"]), source=source)

    with gr.FeatureStore(project, online="memory") as store:
        store.apply([group("int64")])
        store.push("events", [{"user_id": "u1", "at": "2026-01-01", "x": 1}])
        with pytest.raises(SchemaError, match="cannot become string"):
            store.apply([group("string")])
        assert store.read("events", columns=["x"]).polars["x"].to_list() == [1]
        store.apply([group("float64")])
        store.materialize("events")
        assert store.read("events", columns=["x"]).polars["x"].to_list() == [1.0]


def test_an_empty_batch_source_takes_nothing_along(project: Path) -> None:
    import polars as pl

    rows = pl.DataFrame({"user_id": ["u1"], "at": ["2026-01-01T00:00:00Z"], "x": [1]})
    rows.write_parquet(project / "batch.parquet")
    source = gr.PushSource("p", event_time="at", batch_source=gr.FileSource("batch.parquet", event_time="at"))
    with gr.FeatureStore(project, online="memory") as store:
        store.apply([gr.FeatureGroup("p", entities=gr.Entity("user", join_keys=["user_id"]), source=source)])
        store.materialize("p")
        store.push("p", rows.with_columns(user_id=pl.lit("u2")))
        rows.clear().write_parquet(project / "batch.parquet")
        with pytest.raises(SourceError, match="has no rows"):
            store.materialize("p")
        assert len(store.read("p")) == 2


def test_a_changed_type_is_refused_online_until_it_is_materialized(project: Path) -> None:
    import polars as pl

    pl.DataFrame({"user_id": ["u1"], "at": ["2026-01-01T00:00:00Z"], "x": [1]}).write_csv(project / "rows.csv")

    def group(kind: str) -> gr.FeatureGroup:
        source = gr.FileSource("rows.csv", event_time="at")
        user = gr.Entity("user", join_keys=["user_id"])
        return gr.FeatureGroup("typed", entities=user, source=source, schema={"x": kind})

    with gr.FeatureStore(project, online="memory") as store:
        store.apply([group("int64")])
        store.materialize("typed")
        store.apply([group("float64")])
        with pytest.raises(UnsupportedError, match="stored as int64 and defined as float64"):
            store.get_online_features(["typed:x"], [{"user_id": "u1"}])
        store.materialize("typed")
        assert store.get_online_features(["typed:x"], [{"user_id": "u1"}]).to_dicts()[0]["x"] == 1.0


def test_an_unreadable_definition_is_mended_by_applying_it_again(project: Path) -> None:
    import sqlite3

    import polars as pl

    pl.DataFrame({"user_id": ["u1"], "x": [1]}).write_csv(project / "rows.csv")
    user = gr.Entity("user", join_keys=["user_id"])
    group = gr.FeatureGroup("plain", entities=user, source=gr.FileSource("rows.csv"))
    with gr.FeatureStore(project) as store:
        store.apply([group])
    with sqlite3.connect(project / ".grange" / "registry.db") as database:
        database.execute("update definitions set definition = '{}' where kind = 'feature_group'")
    database.close()
    with gr.FeatureStore(project) as store:
        with pytest.raises(CorruptStoreError, match="plain"):
            store.catalog.group("plain")
        assert store.apply([group])
        assert store.catalog.group("plain").join_keys == ("user_id",)


def test_one_name_for_a_group_and_a_foreign_source_is_not_pushed_to(project: Path) -> None:
    import polars as pl

    user = gr.Entity("user", join_keys=["user_id"])
    schema = {"user_id": "string", "at": "datetime", "x": "int64"}
    foreign = gr.FeatureGroup("q", entities=user, source=gr.PushSource("n", event_time="at", schema=schema))
    frame = gr.TableSource(pl.DataFrame({"user_id": ["u1"], "x": [1]}), name="frame")
    with gr.FeatureStore(project, online="memory") as store:
        store.apply([foreign, gr.FeatureGroup("n", entities=user, source=frame)])
        with pytest.raises(RequestError, match="feature group and, besides, the push source"):
            store.push("n", [{"user_id": "u1", "at": "2026-01-01", "x": 1}])
