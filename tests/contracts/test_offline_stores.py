"""Every registered offline store keeps every promise, and every engine reads what it stores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.contracts.objects import backend_options, on_objects

from grange.frames import Rows
from grange.plan.nodes import GroupJoin, Input, Number, Output, PointInTimeJoin
from grange.ports.offline import OfflineStore
from grange.ports.plugins import backends, create
from grange.testing import OfflineStoreContract, assert_rows_equal
from grange.testing.offline import (
    COUNTED,
    DAY,
    EVERYTHING,
    SCHEMA,
    SPENT,
    append,
    day,
    draft,
    feature_history,
    history,
    numbered,
    one_of_everything,
    publish,
    run,
    run_features,
    windowed,
)
from grange.types import Schema
from grange.types.aggregates import LIFETIME, Aggregate, Function
from grange.types.arrow import arrow_schema
from grange.types.names import SEQUENCE


class Registered:
    """Opens each registered store in a folder of its own, and those that have object stores in one of these too."""

    @pytest.fixture(params=[*sorted(backends("offline_stores")), *on_objects()])
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], OfflineStore]:
        """See `OfflineStoreContract`."""
        name, options = backend_options(request, tmp_path)
        return lambda: create("offline_stores", name, options)


class TestOfflineStores(Registered, OfflineStoreContract):
    """The contract, for each registered store."""


@pytest.mark.parametrize("engine", sorted(backends("engines")))
class TestEveryEngineReadsIt(Registered):
    """What a store hands out is for every engine."""

    def test_a_version(self, open_store: Callable[[], OfflineStore], engine: str) -> None:
        """Every data type, cell for cell; folder names do not become columns."""
        store, table = open_store(), numbered(one_of_everything())
        publish(store, draft(EVERYTHING), table)
        rows = run(create("engines", engine, {}), store.snapshot("spend").rows, EVERYTHING)
        assert_rows_equal(rows, table)

    def test_feature_rows(self, open_store: Callable[[], OfflineStore], engine: str) -> None:
        """An aggregate of every kind of output beside its events, cell for cell."""
        store, events = open_store(), numbered(one_of_everything())
        newest = [
            Aggregate(f"newest_{column.name}", Function("last"), column.name, LIFETIME, column.dtype, column.dtype)
            for column in EVERYTHING.without(["user_id", "event_time", "loaded_at"])
        ]
        meta = windowed(*newest, COUNTED, schema=EVERYTHING)
        values = [*one_of_everything().drop_columns(["loaded_at"]).columns, pa.array([1, None, 3], pa.int64())]
        features = pa.table(values, schema=arrow_schema(meta.feature_schema))
        publish(store, meta, events, feature_rows=Rows(arrow=features))
        runner = create("engines", engine, {})
        assert_rows_equal(run_features(runner, store.snapshot("spend")), features)
        assert_rows_equal(run(runner, store.snapshot("spend").rows, EVERYTHING), events)

    def test_feature_rows_join(self, open_store: Callable[[], OfflineStore], engine: str) -> None:
        """On the grid they are rows like any others once they are numbered: the last boundary wins (WIN-3, PIT-3)."""
        store, meta = open_store(), windowed(SPENT, interval=DAY)
        publish(store, meta, numbered(history(1.0)), feature_rows=Rows(arrow=feature_history(meta, 1.0, 2.0, 3.0)))
        features = store.snapshot("spend").features
        assert features is not None
        output = Output(SPENT.name, "spent", SPENT.dtype)
        join = GroupJoin(
            "spend", "1.0.0", Number(features), (("user_id", "user_id"),), "event_time", None, None, True, (output,)
        )
        spine = pa.table(
            {"user_id": ["ü", "ü", "x"], "t": [day(1) + dt.timedelta(hours=1), day(0) - dt.timedelta(hours=1), day(9)]},
            schema=arrow_schema(Schema.of({"user_id": "string", "t": "datetime"})),
        )
        joined = PointInTimeJoin(Input("spine"), "t", (join,), as_known=False)
        found = create("engines", engine, {}).run(joined, {"spine": Rows(arrow=spine)}).arrow
        assert found.column("spent").to_pylist() == [2.0, None, None]

    def test_a_version_and_pushed_rows_of_other_columns(
        self, open_store: Callable[[], OfflineStore], engine: str
    ) -> None:
        """The columns of both, nulls where one side has none."""
        store = open_store()
        newer = Schema.of([*((c.name, c.dtype) for c in SCHEMA), ("took", "duration")])
        publish(store, draft(), numbered(history(1.0)))
        append(store, draft(newer), history(2.0, 3.0, schema=newer))
        rows = run(create("engines", engine, {}), store.snapshot("spend").rows, newer).sort_by(SEQUENCE)
        assert rows.column("amount").to_pylist() == [1.0, 2.0, 3.0]
        assert rows.column("took") == pa.chunked_array([pa.nulls(3, pa.duration("us"))])
