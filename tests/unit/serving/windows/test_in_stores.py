"""The state in every registered online store: loaded, written, read, opened again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.servers.online import backend_of, online_stores, options_in
from tests.unit.serving.windows import brute
from tests.unit.serving.windows.catalogue import SCHEMA, aggregate

from grange.errors import ColumnTypeError
from grange.ports.online import OnlineStore
from grange.ports.plugins import create
from grange.serving.keys import encode_key
from grange.serving.windows import Event, Reader, StateSpec, apply, build, describe
from grange.types import DataType
from grange.types.aggregates import Function, Window

AGGREGATES = [
    aggregate(Function("sum"), "amount", Window("time", 400)),
    aggregate(Function("last_n", (3,)), "city", Window("rows", 10)),
    aggregate(Function("max"), "items", Window("time", 900), filter="big"),
]
SPEC = dataclasses.replace(
    StateSpec.of(AGGREGATES, schema=SCHEMA, event_id="event", retracted="gone", created=True, ttl=None),
    leaf_size=8,
    fan_out=4,
)
NAMES = [name for name, _ in SPEC.columns]


def history(count: int) -> list[Event]:
    rows = [{"amount": n / 7, "city": f"c{n % 5}", "items": n * 37 % 101} for n in range(count)]
    return [
        Event(n * 3, n % 4 or None, n, f"e{n % 250}", n % 17 == 0, n % 2, tuple(row[name] for name in NAMES))
        for n, row in enumerate(rows)
    ]


def opened(kind: str, options: dict[str, Any]) -> OnlineStore:
    store: OnlineStore = create("online_stores", backend_of(kind), options)
    return store


@pytest.mark.parametrize("kind", online_stores())
def test_the_same_answers_from_every_store(kind: str, tmp_path: Path) -> None:
    """Some keys are loaded, then all are written to; what is read is what brute force says, before and after a
    restart; a write that fails changes nothing."""
    keys = [encode_key([name], [DataType("string")]) or b"" for name in ("ann", "bob", "cleo")]
    events = history(300)
    options = options_in(kind, tmp_path)
    store = opened(kind, options)
    now = 1000
    store.load_cells("user", "spend", build(SPEC, [(key, events[:200]) for key in keys[:2]], now=now))
    for start in range(200, 300, 20):
        batch = events[start : start + 20]
        changed = [
            store.write_cells("user", "spend", lambda cells, k=key, b=batch: apply(cells, SPEC, k, b, now=now))
            for key in keys
        ]
        assert all(changed)
    if store.name != "memory":
        store.close()
        store = opened(kind, options)
    reader = Reader(SPEC, AGGREGATES)
    for moment in (100, 599, 1000):
        readings = store.read_cells("user", "spend", lambda cells, m=moment: reader.read_many(cells, keys, now=m))
        for key, reading in zip(keys, readings, strict=True):
            counting = brute.counting(events if key != keys[2] else events[200:])
            assert reading.values == [
                brute.value(each, counting, NAMES, SPEC.filters, now=moment, exact_matches=True, ttl=None)
                for each in AGGREGATES
            ]
    [info] = store.info()
    head = store.read_cells("user", "spend", describe)
    assert head is not None
    assert (head.keys, head.cells + 1) == (3, info.cells)
    assert head.size < info.bytes
    with pytest.raises(ColumnTypeError):
        store.write_cells("user", "spend", lambda cells: failing(apply(cells, SPEC, keys[0], history(1), now=now)))
    assert store.read_cells("user", "spend", describe) == head
    store.close()


def failing(changed: int) -> None:
    raise ColumnTypeError(f"after {changed}")
