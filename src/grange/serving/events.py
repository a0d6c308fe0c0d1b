"""From a table of a group's events to what its online window state takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from grange.frames import Rows
from grange.serving.keys import encode_columns
from grange.serving.values import wire_list
from grange.serving.windows import Event, StateSpec
from grange.types import Column, DataType, Schema
from grange.types.names import SEQUENCE

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE: Final = 65_536
"""How many events are Python objects at a time, but for an entity key that has more."""
_TIME: Final = DataType("datetime")
_FLAG: Final = DataType("boolean")
_NUMBER: Final = DataType("int64")


def keyed_events(
    rows: Rows,
    spec: StateSpec,
    *,
    keys: Sequence[tuple[str, DataType]],
    event_time: str,
    created_time: str | None,
    event_id: str | None,
    retracted: str | None,
    masks: Mapping[str, Any],
    now: int | None = None,
) -> Iterator[tuple[bytes, list[Event]]]:
    """Events by entity key: encoded keys ascending, the events of each in the order of the rows.

    Rows with a null in the key or without event time match nothing and are left out.

    Args:
        rows: events with `__sequence`.
        spec: what the state keeps of each.
        keys: (column, type) per join key, in the order the stored key has.
        event_time: the event-time column.
        created_time: the created-time column, if there is one.
        event_id: the column that identifies an event, if there is one.
        retracted: the column that takes events back, if there is one.
        masks: by filter of the spec, whether each row matches: booleans, null-free.
        now: the moment that a whole state is built as of, microseconds UTC; rows are in PIT-3 order then. Events that
            no longer count by then are left out early, but for each key's newest, which says that there were any.

    Raises:
        ColumnTypeError: a column does not fit its type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from grange.types.arrow import conform

    columns = dict(keys)
    columns |= {name: _TIME for name in (event_time, created_time) if name is not None}
    columns |= {} if event_id is None or spec.event_id is None else {event_id: spec.event_id}
    columns |= {} if retracted is None else {retracted: _FLAG}
    columns |= dict(spec.columns) | {SEQUENCE: _NUMBER}
    schema = Schema(tuple(Column(name, dtype) for name, dtype in columns.items()))
    table = conform(rows.arrow.select(list(columns)), schema, what="events for the online store").combine_chunks()
    for place, text in enumerate(spec.filters):
        table = table.append_column(f"__filter{place}", pa.array(masks[text], pa.bool_()))
    encoded = encode_columns([table.column(name) for name, _ in keys], [dtype for _, dtype in keys])
    there = pc.and_(encoded.is_valid(), pc.is_valid(table.column(event_time)).combine_chunks())
    order = pc.sort_indices(encoded)
    order = order.filter(there.take(order))
    table, encoded = table.take(order), encoded.take(order)
    expired = None if now is None or spec.event_id is not None or spec.rows else spec.expired_before(now)
    if expired is not None:
        counts = _counting(encoded, table.column(event_time), expired)
        table, encoded = table.filter(counts), encoded.filter(counts)
    pending: tuple[bytes, list[Event]] | None = None
    for start in range(0, table.num_rows, AT_ONCE):
        names = encoded[start : start + AT_ONCE].to_pylist()
        events = _events(table.slice(start, AT_ONCE), spec, event_time, created_time, event_id, retracted)
        for key, run in _runs(names, events):
            if pending is not None and pending[0] == key:
                pending[1].extend(run)
                continue
            if pending is not None:
                yield pending
            pending = (key, run)
    if pending is not None:
        yield pending


def _counting(keys: pa.Array, times: pa.ChunkedArray, expired: int) -> pa.Array:
    """Whether an event counts, or is the newest of its key that does not. Keys are together, times ascend in each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fresh = pc.greater_equal(times.cast(pa.int64()), expired).combine_chunks()
    if len(keys) < 2:
        return pc.or_(fresh, True)
    ends = pc.or_(pc.not_equal(keys[1:], keys[:-1]), fresh[1:])
    return pc.or_(fresh, pa.concat_arrays([ends, pa.array([True])]))


def _runs(keys: list[bytes], events: list[Event]) -> Iterator[tuple[bytes, list[Event]]]:
    """Neighbours of one key, together."""
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            yield keys[start], events[start:stop]
            start = stop


def _events(
    table: pa.Table,
    spec: StateSpec,
    event_time: str,
    created_time: str | None,
    event_id: str | None,
    retracted: str | None,
) -> list[Event]:
    def listed(name: str | None, dtype: DataType) -> Any:
        return repeat(None) if name is None else wire_list(table.column(name), dtype)

    gone = repeat(False) if retracted is None else map(bool, listed(retracted, _FLAG))
    bits: Any = repeat(0)
    if spec.filters:
        flags = [table.column(f"__filter{place}").to_pylist() for place in range(len(spec.filters))]
        bits = [sum(flag << place for place, flag in enumerate(row)) for row in zip(*flags, strict=True)]
    values: Any = repeat(())
    if spec.columns:
        values = zip(*(listed(name, dtype) for name, dtype in spec.columns), strict=True)
    fields = zip(
        listed(event_time, _TIME),
        listed(created_time if spec.created else None, _TIME),
        listed(SEQUENCE, _NUMBER),
        listed(event_id, spec.event_id or _NUMBER),
        gone,
        bits,
        values,
        strict=False,
    )
    return list(map(Event._make, fields))


__all__ = ["keyed_events"]
