"""The promises of an offline store as tests: subclass, say how to open a store, inherit them all.

class TestMyStore(OfflineStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: MyStore(tmp_path)
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa
import pytest

from grange.errors import (
    ColumnTypeError,
    ConflictError,
    DataError,
    DefinitionError,
    RequestError,
    SchemaError,
    UnknownVersionError,
)
from grange.frames import Rows
from grange.plan.nodes import Node
from grange.ports.engine import Engine
from grange.ports.offline import PUSHED_FROM, FeatureRows, ManifestEntry, OfflineStore, Snapshot, VersionMeta
from grange.ports.plugins import create
from grange.testing.equality import assert_rows_equal
from grange.types import DataType, Schema
from grange.types.aggregates import LIFETIME, Aggregate, Function, Window
from grange.types.arrow import arrow_schema, conform
from grange.types.names import SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SCHEMA = Schema.of({"user_id": "string", "event_time": "datetime", "loaded_at": "datetime", "amount": "float64"})
EVERYTHING = Schema.of(
    {
        "user_id": "string", "event_time": "datetime", "loaded_at": "datetime", "i8": "int8", "u64": "uint64",
        "f32": "float32", "flag": "boolean", "raw": "binary", "id": "uuid", "day": "date", "took": "duration",
        "price": "decimal(12,2)", "vector": "list[float32]", "place": "struct{lat:float64,name:string}",
        "month": "int32",
    }
)  # fmt: skip
"""One column of every kind; `month` is also the name of a folder that a store may make."""
DAY: Final = 86_400_000_000
"""Microseconds."""
SPENT: Final = Aggregate(
    "amount__sum__7d", Function("sum"), "amount", Window("time", 7 * DAY), DataType("float64"), DataType("float64")
)
RECENT: Final = Aggregate(
    "amount__last_2__lifetime", Function("last_n", (2,)), "amount", LIFETIME,
    DataType("list", item=DataType("float64")), DataType("float64"),
)  # fmt: skip
COUNTED: Final = Aggregate("rows__count__30d", Function("count"), "*", Window("time", 30 * DAY), DataType("int64"))


def day(number: int) -> dt.datetime:
    """So many days after the first of January 2026."""
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=number)


def draft(schema: Schema = SCHEMA, **changes: Any) -> VersionMeta:
    """What is handed to `publish` and `append` for the group `spend`."""
    times: dict[str, Any] = {"event_time": "event_time", "created_time": "loaded_at"}
    return VersionMeta(name="spend", version="", schema=schema, entity_keys=("user_id",), **times).with_(**changes)


def history(*amounts: float | None, schema: Schema = SCHEMA, start: int = 0) -> pa.Table:
    """Rows of one user, one a day from day `start`, without sequence; columns beyond `SCHEMA` are null."""
    days = range(start, start + len(amounts))
    known: dict[str, Sequence[Any]] = {
        "user_id": ["ü"] * len(amounts),
        "event_time": [day(number) for number in days],
        "loaded_at": [None if number % 2 else day(number + 1) for number in days],
        "amount": amounts,
    }
    columns = {name: known.get(name, [None] * len(amounts)) for name in schema.names}
    return pa.table(columns, schema=arrow_schema(schema))


def windowed(*aggregates: Aggregate, schema: Schema = SCHEMA, **changes: Any) -> VersionMeta:
    """`draft` with aggregations: `SPENT` and `RECENT`, or those given."""
    made = aggregates or (SPENT, RECENT)
    features = Schema(tuple(Column(aggregate.name, aggregate.dtype) for aggregate in made))
    return draft(schema, aggregates=made, features=features, **changes)


def feature_history(meta: VersionMeta, *sums: float | None, start: int = 0) -> pa.Table:
    """Feature rows of the user of `history`, one a day from day `start`: the columns that `meta` says, their values
    made up, as stores compute none."""
    days = range(start, start + len(sums))
    known: dict[str, Sequence[Any]] = {
        "user_id": ["ü"] * len(sums),
        "event_time": [day(number) for number in days],
        SPENT.name: sums,
        RECENT.name: [None if value is None else [value, None] for value in sums],
    }
    columns = {name: known.get(name, list(days)) for name in meta.feature_schema.names}
    return pa.table(columns, schema=arrow_schema(meta.feature_schema))


def numbered(table: pa.Table, start: int = 0) -> pa.Table:
    """The rows with sequence numbers from `start`."""
    return table.append_column(SEQUENCE, pa.array(range(start, start + table.num_rows), pa.int64()))


def one_of_everything() -> pa.Table:
    """Two rows of `EVERYTHING` and one of nulls."""
    head: list[Any] = ["u", day(1), None]
    rows: list[list[Any]] = [
        [*head, -128, 2**64 - 1, 0.1, True, b"\x00\xff", "0" * 8 + "-0000-0000-0000-" + "0" * 12, dt.date(1969, 7, 20),
         dt.timedelta(microseconds=-1), decimal.Decimal("-1.10"), [1.5, None], {"lat": 1.0, "name": None}, 7],
        [*head, 127, 0, float("inf"), False, b"", "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12, dt.date(2026, 1, 1),
         dt.timedelta(days=9), decimal.Decimal("9999999999.99"), [], {"lat": None, "name": ""}, 0],
        [*head, *[None] * 12],
    ]  # fmt: skip
    return pa.table(list(zip(*rows, strict=True)), schema=arrow_schema(EVERYTHING))


class OfflineStoreContract:
    """Every promise of `grange.ports.offline.OfflineStore`.

    A subclass gives the fixture `open_store`: a function that opens the same, at first empty, store each time.
    """

    @pytest.fixture
    def open_store(self) -> Callable[[], OfflineStore]:
        """Opens the store under test; override it."""
        raise NotImplementedError("give a fixture `open_store` that returns a function without arguments")

    @pytest.fixture
    def store(self, open_store: Callable[[], OfflineStore]) -> OfflineStore:
        """The store under test, empty."""
        return open_store()

    @pytest.fixture
    def engine(self) -> Engine:
        """What runs the nodes that the store hands out."""
        engine: Engine = create("engines", "reference", {})
        return engine

    # an empty store

    def test_an_empty_store_has_nothing(self, store: OfflineStore) -> None:
        """No versions, no pushed rows, nothing wrong; asking for rows is an error that names the group."""
        assert isinstance(store, OfflineStore)
        assert store.versions("spend") == ()
        assert store.pushed("spend") is None
        assert store.next_pushed("spend") == PUSHED_FROM
        assert store.verify() == store.verify("spend") == ()
        for ask in (store.meta, store.snapshot):
            with pytest.raises(UnknownVersionError, match="spend"):
                ask("spend")
            with pytest.raises(UnknownVersionError, match="spend"):
                ask("spend", "1.0.0")

    def test_a_name_never_leads_elsewhere(self, store: OfflineStore) -> None:
        """Group names and versions that could be paths are refused by every call."""
        for name in ("../spend", "a/b", "", ".", "_metadata", "/etc"):
            with pytest.raises(DefinitionError):
                store.versions(name)
            with pytest.raises(DefinitionError):
                store.snapshot(name)
            with pytest.raises(DefinitionError):
                store.delete(name)
            with pytest.raises(DefinitionError):
                store.publish(draft(name=name), Rows(arrow=numbered(history(1.0))), now=NOW)
        for version in ("../1.0.0", "1.0", "latest", ""):
            with pytest.raises(RequestError):
                store.snapshot("spend", version)
            with pytest.raises(RequestError):
                store.delete("spend", version)

    # publishing

    def test_rows_come_back_as_they_were(self, store: OfflineStore, engine: Engine) -> None:
        """Same rows, same order, same types, nulls and sequence included, for every data type."""
        table = numbered(one_of_everything())
        publish(store, draft(EVERYTHING), table)
        assert_rows_equal(run(engine, store.snapshot("spend").rows, EVERYTHING), table)

    def test_metadata_says_what_was_stored(self, store: OfflineStore) -> None:
        """Counts, times, hashes, reason; the same from `publish`, `meta` and `snapshot`."""
        about: dict[str, Any] = {"code": "select *\nfrom source", "parents": (("orders", "1.0.0"), ("users", "2.1.0"))}
        given = draft(source="files", quarantined=2, code_hash="c", **about)
        meta = publish(store, given, numbered(history(1.0, None, 3.0)))
        assert meta == store.meta("spend") == store.meta("spend", "1.0.0") == store.snapshot("spend").meta
        assert (meta.version, meta.row_count, meta.created_at) == ("1.0.0", 3, NOW)
        assert (meta.min_event_time, meta.max_event_time) == (day(0), day(2))
        assert (meta.schema, meta.entity_keys) == (SCHEMA, ("user_id",))
        assert (meta.source, meta.quarantined, meta.code_hash) == ("files", 2, "c")
        assert (meta.code, meta.parents) == (about["code"], about["parents"])
        assert all(len(digest) == 64 for digest in (meta.content_hash, meta.schema_hash, meta.config_hash))
        assert dict(meta.change_summary)["bump_type"] == "initial"

    def test_numbers_follow_the_law(self, store: OfflineStore) -> None:
        """VER-1: first 1.0.0, data PATCH, code and new columns MINOR, lost columns MAJOR; all stay readable."""
        wide = Schema((*SCHEMA.columns, *Schema.of({"extra": "int64"}).columns))
        drafts = [
            (draft(), history(1.0)),
            (draft(), history(1.0, 2.0)),
            (draft(code_hash="new"), history(1.0, 2.0)),
            (draft(wide, code_hash="new"), history(1.0, 2.0, schema=wide)),
            (draft(code_hash="new"), history(1.0, 2.0)),
        ]
        made = [publish(store, each, numbered(table)).version for each, table in drafts]
        assert made == ["1.0.0", "1.0.1", "1.1.0", "1.2.0", "2.0.0"]
        assert store.versions("spend") == tuple(made)
        assert store.meta("spend").version == "2.0.0"

    def test_versions_order_as_numbers(self, store: OfflineStore) -> None:
        """1.10.0 comes after 1.9.0."""
        for number, version in enumerate(["1.9.0", "1.10.0"]):
            publish(store, draft(version=version), numbered(history(float(number))))
        assert store.versions("spend") == ("1.9.0", "1.10.0")
        assert publish(store, draft(), numbered(history(9.0))).version == "1.10.1"

    def test_identical_rows_make_no_version(self, store: OfflineStore) -> None:
        """VER-1: however the rows are cut into chunks, and whenever they are built again."""
        table = numbered(history(1.0, None, 3.0, 4.0))
        first = publish(store, draft(), table)
        again = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
        assert publish(store, draft(), again, now=NOW + dt.timedelta(days=1)) == first
        assert store.versions("spend") == ("1.0.0",)

    def test_order_is_content(self, store: OfflineStore) -> None:
        """The same rows in another order among ties are other history (PIT-3)."""
        tied = pa.concat_tables([history(1.0), history(2.0)])
        publish(store, draft(), numbered(tied))
        swapped = pa.concat_tables([history(2.0), history(1.0)])
        assert publish(store, draft(), numbered(swapped)).version == "1.0.1"

    def test_a_version_never_changes(self, store: OfflineStore, engine: Engine) -> None:
        """VER-4: what is published or pushed later is not in it."""
        table = numbered(history(1.0))
        meta = publish(store, draft(), table)
        publish(store, draft(), numbered(history(5.0, 6.0)))
        append(store, draft(), history(7.0, start=9))
        snapshot = store.snapshot("spend", "1.0.0")
        assert (snapshot.meta, snapshot.pending) == (meta, 0)
        assert_rows_equal(run(engine, snapshot.rows), table)

    def test_an_explicit_number_must_be_above(self, store: OfflineStore) -> None:
        """VER-2: a valid one above the highest, else an error and nothing is stored."""
        assert publish(store, draft(version="1.5.0"), numbered(history(1.0))).version == "1.5.0"
        for version in ("1.5.0", "1.4.9", "1.6", "x", "banana", "0.0.0"):
            with pytest.raises(RequestError):
                publish(store, draft(version=version), numbered(history(2.0)))
            with pytest.raises(RequestError):
                store.forecast(draft(version=version))
        assert store.versions("spend") == ("1.5.0",)
        assert publish(store, draft(), numbered(history(2.0))).version == "1.5.1"

    def test_the_number_that_a_forecast_tells_is_given(self, store: OfflineStore) -> None:
        """VER-1: where rows cannot change it, it is told; else both numbers are that the rows decide between."""
        wide = Schema((*SCHEMA.columns, *Schema.of({"extra": "int64"}).columns))
        retyped = Schema.of([(c.name, "int64" if c.name == "amount" else c.dtype) for c in SCHEMA])
        steps = [
            (draft(), history(1.0), "initial", "first_build", ()),
            (draft(wide), history(1.0, schema=wide), "minor", "added_columns", ("extra",)),
            (draft(), history(1.0), "major", "removed_columns", ("extra",)),
            (draft(code_hash="new"), history(1.0), "minor", "changed_code", ()),
            (draft(retyped), history(1, schema=retyped), "major", "changed_types", ("amount: float64 -> int64",)),
            (draft(retyped, created_time=None), history(1, schema=retyped), "minor", "changed_config", ()),
            (windowed(COUNTED), history(1.0), "major", "removed_columns", ("amount",)),
            (draft(version="7.0.0"), history(1.0), "explicit", "asked_for", ()),
        ]
        latest = None
        for each, table, *why in steps:
            told = store.forecast(each)
            assert (told.group, told.current, told.if_same, told.if_changed) == ("spend", latest, (), None)
            assert [told.bump, told.reason, told.details] == why
            features = Rows(arrow=feature_history(each, 1.0)) if each.aggregates else None
            meta = publish(store, each, numbered(table), feature_rows=features)
            assert meta.version == told.next
            assert dict(meta.change_summary) == {"bump_type": why[0], "reason": why[1], "details": list(why[2])}
            latest = meta.version
        assert store.versions("spend")[-1] == latest == "7.0.0"

    def test_a_forecast_of_data_tells_both_numbers(self, store: OfflineStore) -> None:
        """The version that there is, if the rows are the same; a PATCH if they are others. Rows that were pushed since
        are news in any case."""
        publish(store, draft(), numbered(history(1.0)))
        told = store.forecast(draft())
        assert (told.current, told.next, told.if_same, told.if_changed) == ("1.0.0", None, ("1.0.0",), "1.0.1")
        assert (told.bump, told.reason) == ("patch", "changed_data")
        assert publish(store, draft(), numbered(history(1.0))).version == told.if_same[0]
        assert publish(store, draft(), numbered(history(2.0))).version == told.if_changed
        append(store, draft(), history(3.0))
        reaching = draft(pushed_through=PUSHED_FROM + 1)
        assert (store.forecast(reaching).next, store.forecast(draft()).next) == ("1.0.2", None)
        assert publish(store, reaching, numbered(history(2.0))).version == "1.0.2"

    # going back

    def test_an_older_version_becomes_the_latest(
        self, store: OfflineStore, open_store: Callable[[], OfflineStore], engine: Engine
    ) -> None:
        """And the newer ones stay; whoever opens the store sees it; what is no version changes nothing."""
        for amount in (1.0, 2.0, 3.0):
            publish(store, draft(), numbered(history(amount)))
        with store.lock("spend", timeout=5):
            assert store.point("spend", "1.0.0") == store.meta("spend", "1.0.0")
        for each in (store, open_store()):
            assert each.meta("spend").version == each.snapshot("spend").meta.version == "1.0.0"
            assert_rows_equal(run(engine, each.snapshot("spend").rows), numbered(history(1.0)))
            assert each.versions("spend") == ("1.0.0", "1.0.1", "1.0.2")
            assert each.manifest()["spend"].latest == "1.0.0"
        with pytest.raises(UnknownVersionError, match=r"1\.0\.2"):
            store.point("spend", "1.0.3")
        with pytest.raises(RequestError):
            store.point("spend", "latest")
        assert (store.meta("spend").version, store.verify()) == ("1.0.0", ())

    def test_a_build_after_going_back_is_numbered_above_all(self, store: OfflineStore) -> None:
        """VER-1. Rows that are those of the latest, or of the highest, make no version: that one is the latest."""
        for amount in (1.0, 2.0):
            publish(store, draft(code_hash=f"{amount}"), numbered(history(amount)))
        with store.lock("spend", timeout=5):
            store.point("spend", "1.0.0")
        told = store.forecast(draft(code_hash="1.0"))
        assert (told.current, told.next, told.if_same, told.if_changed) == ("1.0.0", None, ("1.0.0",), "1.1.1")
        told = store.forecast(draft(code_hash="2.0"))
        assert (told.current, told.next, told.if_same, told.if_changed) == ("1.0.0", None, ("1.1.0",), "1.2.0")
        assert publish(store, draft(code_hash="1.0"), numbered(history(1.0))).version == "1.0.0"
        assert publish(store, draft(code_hash="1.0"), numbered(history(5.0))).version == "1.1.1"
        with store.lock("spend", timeout=5):
            store.point("spend", "1.1.0")
        assert publish(store, draft(code_hash="2.0"), numbered(history(6.0))).version == "1.1.2"
        with store.lock("spend", timeout=5):
            store.point("spend", "1.1.0")
        told = store.forecast(draft(code_hash="2.0"))
        assert (told.next, told.if_same, told.if_changed) == (None, ("1.1.0", "1.1.2"), "1.1.3")
        assert str(told).endswith("1.1.3 if its rows changed, else 1.1.0 or 1.1.2 (patch: changed data)")
        with store.lock("spend", timeout=5):
            store.point("spend", "1.0.0")
        assert publish(store, draft(code_hash="2.0"), numbered(history(6.0))).version == "1.1.2"
        assert store.versions("spend") == ("1.0.0", "1.1.0", "1.1.1", "1.1.2")
        assert store.meta("spend").version == "1.1.2"

    def test_rows_pushed_since_an_older_version_stay_visible(self, store: OfflineStore, engine: Engine) -> None:
        """They are pending beside it, those that a newer version contains too; none gets a number twice."""
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(), history(2.0, start=5))
        both = pa.concat_tables([numbered(history(1.0)), numbered(history(2.0, start=5), PUSHED_FROM)])
        publish(store, draft(pushed_through=PUSHED_FROM + 1), both)
        with store.lock("spend", timeout=5):
            store.point("spend", "1.0.0")
        snapshot = store.snapshot("spend")
        assert (snapshot.meta.version, snapshot.pending) == ("1.0.0", 1)
        assert_rows_equal(run(engine, snapshot.rows), both, by=[SEQUENCE])
        assert append(store, draft(), history(3.0)) == PUSHED_FROM + 1
        assert store.snapshot("spend").pending == 2

    # the manifest

    def test_the_manifest_lists_every_group(self, store: OfflineStore) -> None:
        """Its versions and what is known of the latest; made again it says the same."""
        assert store.manifest() == store.manifest(regenerate=True) == {}
        append(store, draft(name="pushed"), history(1.0))
        publish(store, draft(name="other"), numbered(history(1.0)))
        for amount in (1.0, 2.0):
            publish(store, draft(), numbered(history(amount)))
        with store.lock("spend", timeout=5):
            store.point("spend", "1.0.0")
        found = store.manifest()
        expected = {
            "other": ManifestEntry.of(("1.0.0",), store.meta("other")),
            "spend": ManifestEntry.of(("1.0.0", "1.0.1"), store.meta("spend", "1.0.0")),
        }
        assert dict(found) == dict(store.manifest(regenerate=True)) == expected
        assert (found["spend"].latest, found["spend"].row_count, found["spend"].updated_at) == ("1.0.0", 1, NOW)
        assert ManifestEntry.from_dict(found["spend"].to_dict()) == found["spend"]
        store.delete("other")
        assert set(store.manifest()) == {"spend"}

    def test_no_rows_are_a_version_too(self, store: OfflineStore, engine: Engine) -> None:
        """A build without rows is stored, with its columns and without times."""
        meta = publish(store, draft(), numbered(history()))
        assert (meta.row_count, meta.min_event_time, meta.max_event_time) == (0, None, None)
        assert_rows_equal(run(engine, store.snapshot("spend").rows), numbered(history()))

    def test_rows_of_all_times_are_stored(self, store: OfflineStore, engine: Engine) -> None:
        """Rows without a time come first, then those that are always true, then the others."""
        table = history(1.0, 2.0, 3.0)
        moments = pa.array([None, ALWAYS, day(0)], table.schema.field("event_time").type)
        table = numbered(table.set_column(1, "event_time", moments).set_column(2, "loaded_at", moments))
        meta = publish(store, draft(), table)
        assert (meta.min_event_time, meta.max_event_time) == (ALWAYS, day(0))
        assert_rows_equal(run(engine, store.snapshot("spend").rows), table)

    def test_contradicting_rows_are_refused(self, store: OfflineStore) -> None:
        """Out of order, other columns, other types, no sequence, pushed rows that never came: nothing is stored."""
        good = numbered(history(1.0, 2.0))
        backwards, twice = good.take([1, 0]), pa.concat_tables([good.slice(0, 1)] * 2)
        text = good.set_column(3, "amount", pa.array(["a", "b"]))
        missing = numbered(history(1.0).drop_columns(["amount"]))
        refused: list[tuple[type[Exception], pa.Table]] = [
            (DataError, backwards), (DataError, twice), (SchemaError, missing), (SchemaError, history(1.0)),
            (SchemaError, good.append_column("more", pa.array([1, 2]))), (ColumnTypeError, text),
        ]  # fmt: skip
        for error, table in refused:
            with pytest.raises(error, match="spend"):
                publish(store, draft(), table)
        with pytest.raises(DataError, match="pushed_through"):
            publish(store, draft(pushed_through=PUSHED_FROM + 1), good)
        assert store.versions("spend") == ()

    def test_another_opening_sees_the_same(
        self, store: OfflineStore, open_store: Callable[[], OfflineStore], engine: Engine
    ) -> None:
        """What was stored is there for whoever opens the store afterwards, and for whoever had it open."""
        other = open_store()
        table = numbered(history(1.0))
        meta = publish(store, draft(), table)
        append(store, draft(), history(2.0, start=5))
        for each in (other, open_store()):
            assert each.meta("spend") == meta
            assert each.next_pushed("spend") == PUSHED_FROM + 1
            assert run(engine, each.snapshot("spend").rows).num_rows == 2

    # pushed rows

    def test_pushed_rows_are_numbered_on(self, store: OfflineStore) -> None:
        """Monotone from `PUSHED_FROM`, one number a row, none for no rows."""
        assert append(store, draft(), history(1.0, 2.0)) == PUSHED_FROM
        assert append(store, draft(), history()) == PUSHED_FROM + 2
        assert append(store, draft(), history(3.0)) == PUSHED_FROM + 2
        assert store.next_pushed("spend") == PUSHED_FROM + 3

    def test_pushed_rows_alone_are_a_snapshot(self, store: OfflineStore, engine: Engine) -> None:
        """A group that was never materialized: version 0.0.0, late rows and ties as they came."""
        late = pa.concat_tables([history(1.0, start=9), history(2.0, start=3)])
        append(store, draft(), late)
        append(store, draft(), history(3.0))
        snapshot = store.snapshot("spend")
        assert (snapshot.meta.version, snapshot.meta.row_count, snapshot.pending) == ("0.0.0", 3, 3)
        assert (snapshot.meta.min_event_time, snapshot.meta.max_event_time) == (day(0), day(9))
        assert (snapshot.meta.schema, snapshot.meta.event_time) == (SCHEMA, "event_time")
        expected = numbered(pa.concat_tables([late, history(3.0)]), PUSHED_FROM)
        assert_rows_equal(run(engine, snapshot.rows), expected, by=[SEQUENCE])
        assert store.versions("spend") == ()

    def test_the_latest_has_the_rows_pushed_since(self, store: OfflineStore, engine: Engine) -> None:
        """The version's rows and those pushed later; a version that contains them ends that."""
        rows, more = history(1.0, 2.0), history(3.0, 4.0, start=5)
        publish(store, draft(), numbered(rows))
        append(store, draft(), more.slice(0, 1))
        append(store, draft(), more.slice(1))
        snapshot = store.snapshot("spend")
        assert (snapshot.meta.version, snapshot.pending) == ("1.0.0", 2)
        both = pa.concat_tables([numbered(rows), numbered(more, PUSHED_FROM)])
        assert_rows_equal(run(engine, snapshot.rows), both, by=[SEQUENCE])
        publish(store, draft(pushed_through=store.next_pushed("spend")), both)
        assert store.snapshot("spend").pending == 0
        assert_rows_equal(run(engine, store.snapshot("spend").rows), both)
        pushed = store.pushed("spend")
        assert pushed is not None
        assert_rows_equal(run(engine, pushed), numbered(more, PUSHED_FROM))

    def test_a_version_may_end_inside_a_push(self, store: OfflineStore, engine: Engine) -> None:
        """Only the rows of a push from `pushed_through` on are pending."""
        append(store, draft(), history(1.0, 2.0, 3.0))
        table = numbered(history(1.0), PUSHED_FROM)
        publish(store, draft(pushed_through=PUSHED_FROM + 1), table)
        snapshot = store.snapshot("spend")
        assert snapshot.pending == 2
        assert_rows_equal(run(engine, snapshot.rows), numbered(history(1.0, 2.0, 3.0), PUSHED_FROM), by=[SEQUENCE])

    def test_a_moment_can_be_read_again(self, store: OfflineStore, engine: Engine) -> None:
        """VER-4: a version and the rows pushed up to a number are the same, whatever comes later."""
        publish(store, draft(), numbered(history(1.0)))
        first = store.snapshot("spend")
        assert (first.pushed_until, first.pending) == (PUSHED_FROM, 0)
        kept: list[tuple[Snapshot, pa.Table]] = []
        for number in range(3):
            append(store, draft(), history(2.0, 3.0, start=10 * number))
            snapshot = store.snapshot("spend")
            assert snapshot.pushed_until == PUSHED_FROM + 2 * (number + 1)
            kept.append((snapshot, run(engine, snapshot.rows)))
        everything = kept[-1][1].sort_by([("event_time", "ascending"), (SEQUENCE, "ascending")])
        publish(store, draft(pushed_through=PUSHED_FROM + 6), everything)
        append(store, draft(), history(9.0))
        for snapshot, rows in kept:
            again = store.snapshot("spend", snapshot.meta.version, pushed_until=snapshot.pushed_until)
            assert (again.meta, again.pending, again.pushed_until) == (
                snapshot.meta, snapshot.pending, snapshot.pushed_until,
            )  # fmt: skip
            assert_rows_equal(run(engine, again.rows), rows, by=[SEQUENCE])
        assert store.snapshot("spend", "1.0.0").pushed_until == PUSHED_FROM
        assert store.snapshot("spend", "1.0.1").pushed_until == PUSHED_FROM + 6
        plain = store.snapshot("spend", "1.0.1", pushed_until=PUSHED_FROM + 6)
        assert (plain.pending, plain.meta) == (0, store.meta("spend", "1.0.1"))
        assert_rows_equal(run(engine, plain.rows), everything)

    def test_a_moment_may_end_inside_a_push(self, store: OfflineStore, engine: Engine) -> None:
        """And begin there, when a version does; any number of rows can be asked for."""
        append(store, draft(), history(1.0, 2.0, 3.0))
        publish(store, draft(pushed_through=PUSHED_FROM + 1), numbered(history(1.0), PUSHED_FROM))
        append(store, draft(), history(4.0, 5.0, start=5))
        everything = pa.concat_tables([history(1.0, 2.0, 3.0), history(4.0, 5.0, start=5)])
        for count in range(1, 6):
            snapshot = store.snapshot("spend", "1.0.0", pushed_until=PUSHED_FROM + count)
            assert (snapshot.pending, snapshot.pushed_until) == (count - 1, PUSHED_FROM + count)
            assert_rows_equal(
                run(engine, snapshot.rows), numbered(everything.slice(0, count), PUSHED_FROM), by=[SEQUENCE]
            )

    def test_a_moment_of_pushed_rows_alone(self, store: OfflineStore, engine: Engine) -> None:
        """Version 0.0.0 stands for none: the same also when there are versions by then."""
        append(store, draft(), history(1.0))
        append(store, draft(), history(2.0))
        before = store.snapshot("spend")
        assert (before.meta.version, before.pushed_until, before.pending) == ("0.0.0", PUSHED_FROM + 2, 2)
        rows = numbered(pa.concat_tables([history(1.0), history(2.0)]), PUSHED_FROM)
        append(store, draft(), history(3.0))
        publish(store, draft(pushed_through=PUSHED_FROM + 3), numbered(history(7.0)))
        for count in (1, 2):
            again = store.snapshot("spend", "0.0.0", pushed_until=PUSHED_FROM + count)
            assert (again.meta.version, again.meta.row_count, again.pending) == ("0.0.0", count, count)
            assert_rows_equal(run(engine, again.rows), rows.slice(0, count), by=[SEQUENCE])
        assert store.snapshot("spend", "0.0.0", pushed_until=PUSHED_FROM + 2).meta == before.meta
        for pushed_until in (None, PUSHED_FROM):
            with pytest.raises(UnknownVersionError, match="spend"):
                store.snapshot("spend", "0.0.0", pushed_until=pushed_until)

    def test_a_moment_keeps_its_columns(self, store: OfflineStore, engine: Engine) -> None:
        """Columns that are pushed later are not in it."""
        newer = Schema((*SCHEMA.columns, *Schema.of({"n": "int64"}).columns))
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(), history(2.0))
        append(store, draft(newer), history(3.0, schema=newer))
        assert store.snapshot("spend").meta.schema == newer
        old = store.snapshot("spend", "1.0.0", pushed_until=PUSHED_FROM + 1)
        assert old.meta.schema == SCHEMA
        assert run(engine, old.rows).num_rows == 2

    def test_moments_that_never_were_are_refused(self, store: OfflineStore) -> None:
        """Without a version, before what it contains, beyond what was pushed: such rows could change."""
        append(store, draft(), history(1.0, 2.0))
        publish(store, draft(pushed_through=PUSHED_FROM + 1), numbered(history(1.0), PUSHED_FROM))
        asked: list[tuple[str | None, int]] = [
            (None, PUSHED_FROM + 1), ("1.0.0", PUSHED_FROM), ("1.0.0", PUSHED_FROM + 3), ("0.0.0", PUSHED_FROM + 3),
            ("0.0.0", 7),
        ]  # fmt: skip
        for version, pushed_until in asked:
            with pytest.raises(RequestError, match="pushed_until"):
                store.snapshot("spend", version, pushed_until=pushed_until)
        with pytest.raises(UnknownVersionError):
            store.snapshot("spend", "2.0.0", pushed_until=PUSHED_FROM + 1)

    def test_reaching_further_is_a_version(self, store: OfflineStore) -> None:
        """Pushed rows that an expectation kept out are not pending for ever, though no row is new."""
        table = numbered(history(1.0))
        publish(store, draft(), table)
        append(store, draft(), history(-1.0))
        assert publish(store, draft(pushed_through=PUSHED_FROM + 1), table).version == "1.0.1"
        assert store.snapshot("spend").pending == 0

    def test_layouts_meet_in_the_columns_of_both(self, store: OfflineStore, engine: Engine) -> None:
        """After a change of columns, what one side lacks is null, and the newest push says the type."""
        newer = Schema.of({**{c.name: c.dtype for c in SCHEMA.without(["amount"])}, "amount": "float64", "n": "int64"})
        older = Schema.of({c.name: "int64" if c.name == "amount" else c.dtype for c in SCHEMA})
        narrow = SCHEMA.without(["amount"])
        rows = history(1.0)
        publish(store, draft(older), numbered(rows.cast(arrow_schema(older))))
        append(store, draft(newer), history(2.5, schema=newer).set_column(4, "n", pa.array([8])))
        append(store, draft(narrow), history(9.0, schema=narrow))
        snapshot = store.snapshot("spend")
        assert snapshot.meta.schema == newer
        result = run(engine, snapshot.rows, newer).sort_by(SEQUENCE)
        assert result.column("amount").to_pylist() == [1.0, 2.5, None]
        assert result.column("n").to_pylist() == [None, 8, None]
        pushed = store.pushed("spend")
        assert pushed is not None
        assert run(engine, pushed, newer).column("n").to_pylist() == [8, None]

    def test_the_newest_push_says_what_it_is(self, store: OfflineStore) -> None:
        """Its columns and where its numbers end, whether or not a version contains it."""
        assert store.newest_push("spend") is None
        append(store, draft(), history(1.0, 2.0))
        narrow = SCHEMA.without(["amount"])
        append(store, draft(narrow), history(9.0, schema=narrow))
        for _ in range(2):
            newest = store.newest_push("spend")
            assert newest is not None
            assert (newest.schema, newest.entity_keys, newest.pushed_through) == (narrow, ("user_id",), PUSHED_FROM + 3)
            publish(store, draft(pushed_through=PUSHED_FROM + 3), numbered(history(1.0)))

    def test_another_key_does_not_mix(self, store: OfflineStore) -> None:
        """Rows pushed under another entity key cannot lie beside the version's: an error until it is rebuilt."""
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(entity_keys=("user_id", "amount")), history(2.0))
        with pytest.raises(SchemaError, match="entity key"):
            store.snapshot("spend")
        assert store.snapshot("spend", "1.0.0").meta.version == "1.0.0"

    # aggregations: events, and feature rows beside them

    def test_events_and_feature_rows_come_back(self, store: OfflineStore, engine: Engine) -> None:
        """Both as they were, in order, whatever the number of each; the metadata says what they are."""
        events, meta = numbered(history(1.0, None, 3.0)), windowed(interval=DAY)
        features = feature_history(meta, 1.0, None, 4.0, 3.0)
        made = publish(store, meta, events, feature_rows=Rows(arrow=features))
        assert made == store.meta("spend") == store.meta("spend", "1.0.0")
        assert (made.row_count, made.feature_rows, made.interval) == (3, 4, DAY)
        assert (made.schema, made.features, made.aggregates) == (SCHEMA, meta.features, meta.aggregates)
        assert made.feature_schema.names == ("user_id", "event_time", SPENT.name, RECENT.name)
        for snapshot in (store.snapshot("spend"), store.snapshot("spend", "1.0.0")):
            assert_rows_equal(run(engine, snapshot.rows), events)
            assert_rows_equal(run_features(engine, snapshot), features)

    def test_ties_and_missing_times_of_feature_rows_are_stored(self, store: OfflineStore, engine: Engine) -> None:
        """As of every event there may be several of one time, and none for an event without; no rows are fine."""
        meta = windowed(SPENT)
        features = feature_history(meta, 1.0, 2.0, 3.0)
        moments = pa.array([None, day(3), day(3)], features.schema.field("event_time").type)
        features = features.set_column(1, "event_time", moments)
        publish(store, meta, numbered(history(1.0)), feature_rows=Rows(arrow=features))
        assert_rows_equal(run_features(engine, store.snapshot("spend")), features)
        none = feature_history(meta)
        publish(store, meta, numbered(history()), feature_rows=Rows(arrow=none))
        assert_rows_equal(run_features(engine, store.snapshot("spend")), none)
        assert store.verify() == ()

    def test_groups_without_aggregations_have_no_feature_rows(self, store: OfflineStore) -> None:
        """Their rows are their features; nothing else is stored of them."""
        meta = publish(store, draft(), numbered(history(1.0)))
        assert store.snapshot("spend").features is store.snapshot("spend", "1.0.0").features is None
        assert (meta.features, meta.aggregates, meta.feature_rows, meta.feature_files) == (Schema(), (), 0, ())
        assert meta.outputs == meta.schema

    def test_feature_rows_are_computed_for_new_versions_alone(self, store: OfflineStore) -> None:
        """VER-1: the same events and aggregates make no version, so nothing is computed for one."""
        calls: list[str] = []

        def compute() -> Rows:
            calls.append("computed")
            return Rows(arrow=feature_history(windowed(), 1.0))

        def fail() -> Rows:
            raise AssertionError("nothing is new")

        first = publish(store, windowed(), numbered(history(1.0)), feature_rows=compute)
        assert publish(store, windowed(), numbered(history(1.0)), feature_rows=fail) == first
        assert publish(store, windowed(RECENT, SPENT), numbered(history(1.0)), feature_rows=fail) == first
        assert (calls, store.versions("spend")) == (["computed"], ("1.0.0",))
        publish(store, windowed(version="1.0.7"), numbered(history(1.0)), feature_rows=compute)
        assert (calls, store.versions("spend")) == (["computed"] * 2, ("1.0.0", "1.0.7"))

    def test_feature_rows_that_cannot_be_computed_change_nothing(self, store: OfflineStore) -> None:
        """The error is the caller's own; the old version is the latest."""
        publish_windowed(store, windowed(), 1.0)

        def fail() -> Rows:
            raise ZeroDivisionError("in a window")

        with pytest.raises(ZeroDivisionError):
            publish(store, windowed(), numbered(history(2.0)), feature_rows=fail)
        assert (store.versions("spend"), store.verify()) == (("1.0.0",), ())

    def test_numbers_follow_the_aggregations(self, store: OfflineStore) -> None:
        """VER-1: lost MAJOR, new MINOR, another window behind the same name MINOR, and so are event ids and grids;
        columns that only the events have are content."""
        longer = dataclasses.replace(SPENT, window=Window("time", 8 * DAY))
        filtered = dataclasses.replace(longer, filter="amount > 0")
        identified = Schema((*SCHEMA.columns, *Schema.of({"id": "string", "back": "boolean"}).columns))
        of_grid: dict[str, Any] = {"schema": identified, "interval": 2 * DAY}
        drafts = [
            (windowed(SPENT), "first_build"),
            (windowed(SPENT, COUNTED), "added_columns"),
            (windowed(COUNTED), "removed_columns"),
            (windowed(SPENT), "removed_columns"),
            (windowed(longer), "changed_config"),
            (windowed(filtered), "changed_config"),
            (windowed(filtered, interval=DAY), "changed_config"),
            (windowed(filtered, interval=2 * DAY), "changed_config"),
            (windowed(filtered, **of_grid), "changed_data"),
            (windowed(filtered, **of_grid, event_id="id"), "changed_config"),
            (windowed(filtered, **of_grid, event_id="id", retracted="back"), "changed_config"),
            (draft(), "removed_columns"),
            (windowed(SPENT), "removed_columns"),
        ]  # fmt: skip
        made = [publish_windowed(store, each, 1.0) for each, _ in drafts]
        assert [dict(meta.change_summary)["reason"] for meta in made] == [reason for _, reason in drafts]
        assert [meta.version for meta in made] == [
            "1.0.0", "1.1.0", "2.0.0", "3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0", "3.4.1", "3.5.0", "3.6.0",
            "4.0.0", "5.0.0",
        ]  # fmt: skip
        assert store.verify() == ()

    def test_the_order_of_writing_is_content_of_events(self, store: OfflineStore) -> None:
        """WIN-6: the last written version of an event counts, and it may have any time, so that the same rows in the
        same order make another version when they were written in another order; numbers alone make none."""
        table, meta = history(1.0, 2.0), windowed(event_id="user_id")
        made = []
        for numbers in ([0, 1], [5, 9], [1, 0]):
            rows = table.append_column(SEQUENCE, pa.array(numbers, pa.int64()))
            features = Rows(arrow=feature_history(meta, 1.0, 2.0))
            made.append(publish(store, meta, rows, feature_rows=features).version)
        assert made == ["1.0.0", "1.0.0", "1.0.1"]
        assert store.verify() == ()

    def test_hashes_of_a_version_with_aggregations(self, store: OfflineStore) -> None:
        """VER-2: the schema hash is of the outputs, the content hash of events and aggregates."""
        wider = Schema((*SCHEMA.columns, *Schema.of({"note": "string"}).columns))
        one = publish_windowed(store, windowed(SPENT), 1.0)
        other = publish_windowed(store, windowed(SPENT, schema=wider), 1.0)
        plain = publish_windowed(store, draft(), 1.0)
        assert one.outputs.names == ("user_id", "event_time", "loaded_at", SPENT.name)
        assert one.schema_hash == other.schema_hash != plain.schema_hash
        assert len({one.content_hash, other.content_hash, plain.content_hash}) == 3

    def test_pushed_rows_are_events(self, store: OfflineStore, engine: Engine) -> None:
        """They are pending in the rows alone: the feature rows stay those of the version until the next has them."""
        append(store, windowed(), history(1.0))
        alone = store.snapshot("spend")
        assert (alone.meta.version, alone.pending, alone.features) == ("0.0.0", 1, None)
        assert (alone.meta.aggregates, alone.meta.feature_rows) == ((SPENT, RECENT), 0)
        pushed_as = alone.meta.schema_hash
        events = numbered(history(1.0), PUSHED_FROM)
        features = feature_history(windowed(), 1.0)
        publish(store, windowed(pushed_through=PUSHED_FROM + 1), events, feature_rows=Rows(arrow=features))
        assert store.meta("spend").schema_hash == pushed_as
        append(store, windowed(), history(2.0, start=5))
        snapshot = store.snapshot("spend")
        assert (snapshot.meta.version, snapshot.pending, snapshot.meta.feature_rows) == ("1.0.0", 1, 1)
        both = pa.concat_tables([events, numbered(history(2.0, start=5), PUSHED_FROM + 1)])
        assert_rows_equal(run(engine, snapshot.rows), both, by=[SEQUENCE])
        assert_rows_equal(run_features(engine, snapshot), features)
        append(store, windowed(), history(3.0, start=6))
        again = store.snapshot("spend", "1.0.0", pushed_until=snapshot.pushed_until)
        assert_rows_equal(run(engine, again.rows), both, by=[SEQUENCE])
        assert_rows_equal(run_features(engine, again), features)

    def test_contradicting_feature_rows_are_refused(self, store: OfflineStore) -> None:
        """Missing, of a group without aggregations, of other columns or types, out of order, and windows over columns
        that the events do not have: nothing is stored."""
        events, meta = numbered(history(1.0, 2.0)), windowed(SPENT)
        good = feature_history(meta, 1.0, 3.0)
        late = good.set_column(1, "event_time", pa.array([2**62] * 2).cast(good.schema.field("event_time").type))
        refused: list[tuple[type[Exception], VersionMeta, pa.Table | None]] = [
            (DataError, meta, None), (DataError, draft(), good), (DataError, meta, good.take([1, 0])),
            (DataError, meta, late), (SchemaError, meta, good.drop_columns([SPENT.name])),
            (SchemaError, meta, numbered(good)), (SchemaError, meta, good.append_column("more", pa.array([1, 2]))),
            (ColumnTypeError, meta, good.set_column(2, SPENT.name, pa.array(["a", "b"]))),
            (SchemaError, meta.with_(event_id="id"), good), (SchemaError, meta.with_(retracted="back"), good),
            (SchemaError, windowed(dataclasses.replace(SPENT, column="price")), good),
        ]  # fmt: skip
        for error, each, table in refused:
            rows = None if table is None else Rows(arrow=table)
            with pytest.raises(error, match="spend"):
                publish(store, each, events, feature_rows=rows)
        assert (store.versions("spend"), store.verify()) == ((), ())

    def test_deleting_a_version_takes_its_feature_rows(self, store: OfflineStore, engine: Engine) -> None:
        """And brings back those of the one before."""
        for amount in (1.0, 2.0):
            publish_windowed(store, windowed(), amount)
        store.delete("spend", "1.0.1")
        assert store.snapshot("spend").meta.version == "1.0.0"
        assert_rows_equal(run_features(engine, store.snapshot("spend")), feature_history(windowed(), 1.0))
        store.delete("spend")
        assert (store.versions("spend"), store.verify()) == ((), ())

    # deleting

    def test_deleting_the_latest_brings_the_one_before(self, store: OfflineStore, engine: Engine) -> None:
        """Its pushed rows are pending again, no number is given twice, and a new build gets a new number."""
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(), history(2.0, start=5))
        both = pa.concat_tables([numbered(history(1.0)), numbered(history(2.0, start=5), PUSHED_FROM)])
        publish(store, draft(pushed_through=PUSHED_FROM + 1), both)
        with store.lock("spend", timeout=5):
            store.delete("spend", "1.0.1")
        snapshot = store.snapshot("spend")
        assert (snapshot.meta.version, snapshot.pending, store.versions("spend")) == ("1.0.0", 1, ("1.0.0",))
        assert_rows_equal(run(engine, snapshot.rows), both, by=[SEQUENCE])
        assert append(store, draft(), history(3.0)) == PUSHED_FROM + 1
        with pytest.raises(UnknownVersionError):
            store.meta("spend", "1.0.1")
        assert store.verify() == ()

    def test_deleting_another_keeps_the_latest(self, store: OfflineStore) -> None:
        """And an unknown one is an error that names those there are."""
        for amount in (1.0, 2.0):
            publish(store, draft(), numbered(history(amount)))
        store.delete("spend", "1.0.0")
        assert store.meta("spend").version == "1.0.1"
        with pytest.raises(UnknownVersionError, match=r"1\.0\.1"):
            store.delete("spend", "1.0.0")

    def test_deleting_every_version_keeps_pushed_rows(self, store: OfflineStore) -> None:
        """They are the only copy."""
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(), history(2.0))
        store.delete("spend", "1.0.0")
        assert (store.snapshot("spend").meta.version, store.snapshot("spend").pending) == ("0.0.0", 1)

    def test_deleting_a_group_leaves_the_others(self, store: OfflineStore) -> None:
        """Nothing of it is left; it can begin again; deleting nothing is fine."""
        publish(store, draft(), numbered(history(1.0)))
        publish(store, draft(name="other"), numbered(history(1.0)))
        append(store, draft(), history(2.0))
        for _ in range(2):
            with store.lock("spend", timeout=5):
                store.delete("spend")
        assert (store.versions("spend"), store.pushed("spend")) == ((), None)
        assert store.versions("other") == ("1.0.0",)
        assert publish(store, draft(), numbered(history(3.0))).version == "1.0.0"
        assert store.verify() == ()

    # besides

    def test_quarantined_rows_are_kept_apart(self, store: OfflineStore) -> None:
        """Any columns; each call keeps its own; versions do not see them."""
        bad = Rows.of({"amount": [-1.0], "reason": ["amount: greater_than(0)"]})
        places = {store.quarantine("spend", bad, now=NOW) for _ in range(2)}
        assert len(places) == 2
        assert all(places)
        other = Rows.of({"amount": ["much"]})
        store.quarantine("spend", other, now=NOW + dt.timedelta(microseconds=1))
        kept = store.quarantined("spend")
        assert [rows.arrow.to_pydict() for rows in kept] == [each.arrow.to_pydict() for each in (bad, bad, other)]
        assert store.quarantined("nobody") == ()
        assert store.versions("spend") == ()
        assert store.verify() == ()

    def test_quarantined_rows_are_replaced_call_by_call(self, store: OfflineStore) -> None:
        """In their order; those that are to stay stay; what a change raises ends it, and what it did stays."""
        first, second, third, other = (Rows.of({"amount": [amount]}) for amount in (1.0, 2.0, 3.0, 9.0))
        for days, rows in enumerate((first, second, third)):
            store.quarantine("spend", rows, now=NOW + dt.timedelta(days=days))
        store.quarantine("others", first, now=NOW)

        def amounts() -> list[float]:
            return [rows.arrow.to_pydict()["amount"][0] for rows in store.quarantined("spend")]

        def doubled(rows: Rows) -> Rows | None:
            (amount,) = rows.arrow.column("amount").to_pylist()
            if amount == 3.0:
                raise LookupError("no change of this one")
            return None if amount == 2.0 else Rows.of({"amount": [amount * 2]})

        with store.lock("spend", timeout=5):
            with pytest.raises(LookupError):
                store.rewrite_quarantine("spend", doubled)
            assert amounts() == [2.0, 2.0, 3.0]
            assert store.rewrite_quarantine("spend", lambda rows: other) == 3
            assert store.rewrite_quarantine("spend", lambda rows: None) == 0
        assert amounts() == [9.0, 9.0, 9.0]
        assert store.quarantined("others")[0].arrow.equals(first.arrow)
        with store.lock("nobody", timeout=5):
            assert store.rewrite_quarantine("nobody", lambda rows: other) == 0
        assert (store.quarantined("nobody"), store.verify()) == ((), ())

    def test_one_writer_at_a_time(self, store: OfflineStore, open_store: Callable[[], OfflineStore]) -> None:
        """A second thread, through the same store or another, is told so; other groups are free."""
        outcomes: list[str] = []

        def attempt(through: OfflineStore, group: str) -> None:
            try:
                with through.lock(group, timeout=0.05):
                    outcomes.append(f"{group} taken")
            except ConflictError as error:
                outcomes.append(f"{group} refused, retry {error.retry}")

        def attempts() -> None:
            for through in (store, open_store()):
                thread = threading.Thread(target=attempt, args=(through, "spend"))
                thread.start()
                thread.join()

        with store.lock("spend", timeout=5):
            attempts()
            attempt(store, "other")
        attempts()
        assert outcomes == [*["spend refused, retry True"] * 2, "other taken", *["spend taken"] * 2]

    def test_writers_in_turn_lose_nothing(self, store: OfflineStore, open_store: Callable[[], OfflineStore]) -> None:
        """Pushes from several threads through several openings each get their own numbers."""
        firsts: list[int] = []

        def push(through: OfflineStore) -> None:
            for _ in range(3):
                with through.lock("spend", timeout=60):
                    firsts.append(through.append(draft(), Rows(arrow=history(1.0, 2.0))))

        threads = [threading.Thread(target=push, args=(through,)) for through in (store, store, open_store())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(firsts) == list(range(PUSHED_FROM, PUSHED_FROM + 18, 2))
        assert store.snapshot("spend").pending == 18

    def test_readers_see_whole_versions(self, store: OfflineStore, engine: Engine) -> None:
        """VER-3: a reader without the lock gets one version or the next, never a mixture."""
        publish(store, draft(), numbered(history(0.0, 0.0)))
        stop, mixed = threading.Event(), []

        def read() -> None:
            while not stop.is_set():
                amounts = run(engine, store.snapshot("spend").rows).column("amount").to_pylist()
                mixed.extend([amounts] if len(set(amounts)) != 1 or len(amounts) != 2 else [])

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(1, 8):
            publish(store, draft(), numbered(history(float(number), float(number))))
        stop.set()
        reader.join()
        assert mixed == []
        assert len(store.versions("spend")) == 8


def publish(
    store: OfflineStore,
    meta: VersionMeta,
    table: pa.Table,
    *,
    now: dt.datetime = NOW,
    feature_rows: FeatureRows | None = None,
) -> VersionMeta:
    """Publish as the verbs do: under the lock."""
    with store.lock(meta.name if meta.name.isidentifier() else "spend", timeout=30):
        return store.publish(meta, Rows(arrow=table), now=now, feature_rows=feature_rows)


def publish_windowed(store: OfflineStore, meta: VersionMeta, *amounts: float) -> VersionMeta:
    """Publish events of these amounts, with feature rows of the same number where the draft has aggregations."""
    rows = Rows(arrow=feature_history(meta, *amounts)) if meta.aggregates else None
    return publish(store, meta, numbered(history(*amounts, schema=meta.schema)), feature_rows=rows)


def append(store: OfflineStore, meta: VersionMeta, table: pa.Table) -> int:
    """Append as the verbs do: under the lock."""
    with store.lock(meta.name, timeout=30):
        return store.append(meta, Rows(arrow=table))


def run_features(engine: Engine, snapshot: Snapshot) -> pa.Table:
    """A snapshot's feature rows in canonical types."""
    assert snapshot.features is not None
    table = engine.run(snapshot.features, {}).arrow
    assert table.column_names == list(snapshot.meta.feature_schema.names)
    return conform(table, snapshot.meta.feature_schema, what="feature rows")


def run(engine: Engine, node: Node, schema: Schema = SCHEMA) -> pa.Table:
    """A store's rows in canonical types, with their sequence."""
    whole = Schema.of([*((column.name, column.dtype) for column in schema), (SEQUENCE, "int64")])
    table = engine.run(node, {}).arrow
    assert table.column_names == list(whole.names)
    return conform(table, whole, what="stored rows")
