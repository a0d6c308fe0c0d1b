"""Histories that do not fit into memory are worked on partition by partition, with the same answers."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from grange import windowing
from grange.definitions.aggregations import Calendar, Lag, Rolling, expand
from grange.frames import Rows
from grange.plan.nodes import Input, Output, PointInTimeJoin, WindowJoin
from grange.ports.plugins import create
from grange.types import Schema

SCHEMA = Schema.of({"user": "string", "shop": "int64", "at": "datetime", "amount": "float64", "kind": "string"})
AGGREGATES = expand(
    [
        Rolling({"amount": ["sum", "median", "last_n(2)", "mode"], "*": "count"}, ["10ms", "3rows", "lifetime"]),
        Rolling({"amount": "max"}, "20ms", filter="kind = 'a'", name="filtered"),
        Lag("kind", "5ms"),
        Calendar("hour"),
    ],
    SCHEMA,
    what="g",
)
JOIN = WindowJoin(
    group="g",
    version="1.0.0",
    rows=Input("events"),
    keys=(("who", "user"), ("where", "shop")),
    event_time="at",
    created_time=None,
    event_id=None,
    retracted=None,
    ttl=None,
    exact_matches=True,
    aggregates=AGGREGATES,
    outputs=tuple(Output(item.name, item.name, item.dtype) for item in AGGREGATES),
)
NODE = PointInTimeJoin(Input("spine"), "time", (JOIN,), as_known=False)
MOMENT = pa.timestamp("us", tz="UTC")


def drawn(seed: int) -> dict[str, Rows]:
    chance = random.Random(seed)

    def some(options: list[object], count: int) -> list[object]:
        return [chance.choice(options) for _ in range(count)]

    users: list[object] = ["a", "b", "c", "d", None, "é"]
    events = pa.table(
        {
            "user": pa.array(some(users, 300), pa.string()),
            "shop": pa.array(some([1, 2, -3, None], 300), pa.int64()),
            "at": pa.array([chance.randrange(100_000) for _ in range(300)], pa.int64()).cast(MOMENT),
            "amount": pa.array(some([None, 1.5, -2.0, 0.1], 300), pa.float64()),
            "kind": pa.array(some(["a", "b", None], 300), pa.string()),
            "__sequence": pa.array(range(300), pa.int64()),
        }
    )
    spine = pa.table(
        {
            "who": pa.array(some([*users, "nobody"], 120), pa.string()),
            "where": pa.array(some([1, 2, -3, None, 99], 120), pa.int64()),
            "time": pa.array(some([None, *range(0, 120_000, 997)], 120), pa.int64()).cast(MOMENT),
        }
    )
    return {"events": Rows(arrow=events), "spine": Rows(arrow=spine)}


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
@pytest.mark.parametrize("seed", range(4))
def test_partitions_change_nothing(engine: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = drawn(seed)
    runner = create("engines", engine, {})
    whole = runner.run(NODE, inputs).arrow
    assert whole == runner.run(NODE, inputs).arrow
    monkeypatch.setattr(windowing, "PARTITION_EVENTS", 40)
    assert windowing.partitions_of(300) == 8
    assert runner.run(NODE, inputs).arrow.to_pydict() == whole.to_pydict()
    assert runner.run(NODE, inputs).arrow.schema == whole.schema
