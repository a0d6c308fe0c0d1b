"""Every registered offline store keeps every promise, and every engine reads what it stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from grange.ports.offline import OfflineStore
from grange.ports.plugins import backends, create
from grange.testing import OfflineStoreContract, assert_rows_equal
from grange.testing.offline import EVERYTHING, SCHEMA, append, draft, history, numbered, one_of_everything, publish, run
from grange.types import Schema
from grange.types.names import SEQUENCE


class Registered:
    """Opens each registered store in a folder of its own."""

    @pytest.fixture(params=sorted(backends("offline_stores")))
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], OfflineStore]:
        """See `OfflineStoreContract`."""
        return lambda: create("offline_stores", request.param, {"root": str(tmp_path)})


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
