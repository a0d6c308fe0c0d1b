"""Every registered online store keeps the promises of its port, and the ONL laws from request to vector."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.servers.online import backend_of, online_stores, options_in

from grange import errors
from grange.plan.nodes import ReadColumn, ReadGroup, ReadPlan
from grange.ports.online import OnlineBatch, OnlineStore, StoredRow
from grange.ports.plugins import create
from grange.serving.keys import encode_key
from grange.serving.layouts import layout_of
from grange.serving.reader import OnlineReader
from grange.serving.values import from_wire, to_wire
from grange.testing.online import OnlineStoreContract, online_cases, online_state_machine
from grange.types import Schema, parse_dtype, parse_duration
from grange.types.durations import to_micros as length
from grange.types.time import to_micros, to_utc

STORES = online_stores()


@pytest.mark.parametrize("kind", STORES)
class TestOnlineStores(OnlineStoreContract):
    """The contract, for each of them."""

    @pytest.fixture
    def backend(self, kind: str) -> str:
        return backend_of(kind)

    @pytest.fixture
    def options(self, kind: str, tmp_path: Path) -> dict[str, Any]:
        return options_in(kind, tmp_path)


@pytest.mark.parametrize("kind", STORES)
def test_a_store_behaves_like_a_dict(kind: str, tmp_path: Path) -> None:
    """Any sequence of write, load, drop and reopen leaves what it leaves in a dict."""
    options_in(kind, tmp_path)  # skips when there is no server
    machine = online_state_machine(backend_of(kind), lambda folder: options_in(kind, folder))
    machine.TestCase("runTest").debug()


class Unreachable:
    """A store in an outage."""

    name = "unreachable"

    def __init__(self, store: OnlineStore) -> None:
        self.layout = store.layout

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        raise errors.StoreUnavailableError("the store cannot be reached")


def plan_of(case: dict[str, Any]) -> ReadPlan:
    groups = []
    for group in case["groups"]:
        ttl = group.get("ttl")
        columns = tuple(
            ReadColumn(
                column["column"],
                column.get("name", column["column"]),
                parse_dtype(column["dtype"]),
                column.get("default"),
            )
            for column in group["columns"]
        )
        groups.append(
            ReadGroup(
                group=group["name"],
                key_space=group.get("key_space", "user"),
                keys=tuple((column, column, parse_dtype(dtype)) for column, dtype in group["keys"]),
                ttl=None if ttl is None else length(parse_duration(ttl)),
                exact_matches=group.get("exact_matches", True),
                columns=columns,
            )
        )
    return ReadPlan(tuple(groups), Schema.of(case.get("requests", {})), case.get("on_error", "raise"), "any")


def fill(store: OnlineStore, group: dict[str, Any]) -> None:
    """Do the writes and loads of a case's group, in order."""
    types = {column["column"]: parse_dtype(column["dtype"]) for column in group["columns"]}
    key_types = [parse_dtype(dtype) for _, dtype in group["keys"]]
    space = group.get("key_space", "user")
    for step in group.get("stored", ()):
        columns = step.get("columns", list(types))
        rows = [
            (
                encode_key(key, key_types),
                to_micros(event),
                None if created is None else to_micros(created),
                tuple(to_wire(value, types[name]) for name, value in zip(columns, values, strict=True)),
            )
            for key, event, created, values in step.get("write", step.get("load"))
        ]
        if "load" in step:
            rows.sort(key=lambda row: row[0])
        layout = layout_of(Schema.of((name, types[name]) for name in columns))
        made = OnlineBatch(*([row[place] for row in rows] for place in range(4)))
        if "load" in step:
            store.load(space, group["name"], layout, [made])
        else:
            store.write(space, group["name"], layout, made)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("case", online_cases(), ids=lambda case: case["name"])
def test_case(case: dict[str, Any], kind: str, tmp_path: Path) -> None:
    """What the case says, through the reader."""
    store: Any = create("online_stores", backend_of(kind), options_in(kind, tmp_path))
    try:
        for group in case["groups"]:
            fill(store, group)
        check(case, OnlineReader(plan_of(case), Unreachable(store) if case.get("outage") else store))  # type: ignore[arg-type]
    finally:
        store.close()


def check(case: dict[str, Any], reader: OnlineReader) -> None:
    now, expected = to_micros(case["now"]), case["expected"]
    if "error" in expected:
        with pytest.raises(getattr(errors, expected["error"])) as caught:
            reader.read(case["rows"], now)
        assert all(word in str(caught.value) for word in expected.get("mentions", ()))
        return
    answer = reader.read(case["rows"], now)
    types = {column.name: column.dtype for group in reader.plan.groups for column in group.columns}
    wanted = [
        {
            name: from_wire(to_wire(value, types[name]), types[name]) if name in types else value
            for name, value in row.items()
        }
        for row in expected["rows"]
    ]
    assert answer.to_dicts() == wanted
    assert [list(row) for row in answer.to_dicts()] == [list(row) for row in wanted]
    assert len(answer) == len(case["rows"])
    assert answer.degraded is expected.get("degraded", False)
    table = answer.to_arrow()
    assert table.num_rows == len(wanted)
    assert [{name: row[name] for name in types} for row in table.to_pylist()] == [
        {name: row[name] for name in types} for row in wanted
    ]
    if "statuses" in expected:
        assert [{name: status.name for name, status in row.items()} for row in answer.statuses] == expected["statuses"]
    if "event_times" in expected:
        times: list[dict[str, dt.datetime | None]] = [
            {name: None if time is None else to_utc(time) for name, time in row.items()}
            for row in expected["event_times"]
        ]
        assert answer.event_times == times
