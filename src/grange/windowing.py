"""Windows as plans have them, asked of the kernel: what an engine reads of a group's events, and what it gets back.

The law is in `grange.kernels.windows`; engines differ in how they fetch the events. A history that does not fit into
memory is worked on partition by partition: an entity key's events all lie in one, so nothing is ever put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from grange.definitions.expressions import parse_condition
from grange.deriving.conditions import conditions
from grange.frames import Rows
from grange.kernels.arrays import single
from grange.kernels.asof import Spine
from grange.kernels.keys import KeyIndex
from grange.kernels.windows import Events, evaluate
from grange.plan.nodes import Node, Order, Output, Scan, WindowJoin
from grange.types.aggregates import Aggregate
from grange.types.arrow import conform_column, constant
from grange.types.names import SEQUENCE
from grange.types.schema import Column

PARTITION_EVENTS: Final = 16_000_000
"""How many events are held at once: about 2.5 GB with a handful of columns."""


def partitions_of(events: int) -> int:
    """Into how many partitions so many events are cut."""
    return max(1, -(-events // PARTITION_EVENTS))


def event_columns(join: WindowJoin, *, as_known: bool) -> tuple[str, ...]:
    """The columns of a group's events that its outputs need, each once."""
    ordered = in_order(join.rows)
    names = [name for _, name in join.keys] + [join.event_time]
    if join.created_time is not None and (as_known or not ordered or join.event_id is not None):
        names.append(join.created_time)
    if not ordered or join.event_id is not None:
        names.append(SEQUENCE)
    names += [name for name in (join.event_id, join.retracted) if name is not None]
    for aggregate in join.aggregates:
        names += aggregate.columns
        names += filter_columns(aggregate)
    return tuple(dict.fromkeys(names))


def filter_columns(aggregate: Aggregate) -> tuple[str, ...]:
    """The columns that an aggregate's filter looks at."""
    return () if aggregate.filter is None else parse_condition(aggregate.filter, what=aggregate.name).columns


def in_order(rows: Node) -> bool:
    """Whether a node's rows lie in PIT-3 order already."""
    return isinstance(rows, Order) or (isinstance(rows, Scan) and rows.ordered)


@dataclass(frozen=True, slots=True)
class EventLog:
    """What the kernel looks at of a group's events."""

    events: Events
    values: Mapping[str, pa.Array]
    """The columns that the functions look at, in their declared types (PIT-7)."""
    masks: Mapping[str, np.ndarray]
    """By filter, which rows match it."""


def event_log(join: WindowJoin, index: KeyIndex, events: pa.Table, *, as_known: bool) -> EventLog:
    """A group's events in the order of the kernel. Of the table it keeps no more than the values.

    Args:
        join: what is asked for.
        index: of the spine's keys.
        events: the group's events, at least `event_columns` of them; all events of every key that it has any of.
        as_known: whether events created after a moment are invisible at it (PIT-5).

    Raises:
        ColumnTypeError: a column is not of its declared type.
    """
    ordered = in_order(join.rows)
    needs_created = as_known or not ordered or join.event_id is not None
    log = Events.of(
        index.lookup({name: events.column(name) for _, name in join.keys}),
        events.column(join.event_time),
        created_time=_column(events, join.created_time if needs_created else None),
        sequence=_column(events, SEQUENCE if SEQUENCE in events.column_names else None),
        event_id=_column(events, join.event_id),
        retracted=_column(events, join.retracted),
        ordered=ordered,
        spent=True,
    )
    return EventLog(log, _values(join, events), _masks(join, events))


def answers(join: WindowJoin, spine: Spine, log: EventLog, *, as_known: bool) -> dict[str, pa.Array]:
    """The outputs of a window join, one element per spine row, in the spine's order.

    Args:
        join: what is asked for.
        spine: the spine's rows, sorted.
        log: the group's events.
        as_known: whether events created after a moment are invisible at it (PIT-5).

    Raises:
        ColumnTypeError: a sum of integers does not fit into 64 bits.
    """
    found = evaluate(
        spine,
        log.events,
        join.aggregates,
        log.values,
        log.masks,
        ttl=join.ttl,
        exact_matches=join.exact_matches,
        as_known=as_known,
    )
    return {output.name: _with_default(join, output, found[output.column]) for output in join.outputs}


def window_features(
    join: WindowJoin, index: KeyIndex, spine: Spine, events: pa.Table, *, as_known: bool
) -> dict[str, pa.Array]:
    """The outputs of a window join of the events in a table: see `event_log` and `answers`."""
    return answers(join, spine, event_log(join, index, events, as_known=as_known), as_known=as_known)


def _column(events: pa.Table, name: str | None) -> pa.ChunkedArray | None:
    return None if name is None else events.column(name)


def _values(join: WindowJoin, events: pa.Table) -> Mapping[str, pa.Array]:
    declared = {item.column: item.input for item in join.aggregates}
    declared |= {item.by: item.by_input for item in join.aggregates if item.by is not None}
    what = f"feature group {join.group!r}"
    return {
        name: single(conform_column(events.column(name), Column(name, dtype), what=what))
        for name, dtype in declared.items()
        if dtype is not None
    }


def _masks(join: WindowJoin, events: pa.Table) -> Mapping[str, np.ndarray]:
    filters = list(dict.fromkeys(item.filter for item in join.aggregates if item.filter is not None))
    if not filters:
        return {}
    found = conditions(Rows(arrow=events), filters)
    return {text: np.asarray(mask, np.bool_) for text, mask in found.items()}


def _with_default(join: WindowJoin, output: Output, values: pa.Array) -> pa.Array:
    """The values with the declared default in place of null (ONL-5)."""
    if output.default is None or values.null_count == 0:
        return values
    default = constant(output.default, output.dtype, what=f"default of {join.group}:{output.column}")
    return values.fill_null(pa.scalar(default, values.type) if not isinstance(default, pa.Scalar) else default)


def scattered(parts: Sequence[tuple[np.ndarray, Mapping[str, pa.Array]]], rows: int) -> dict[str, pa.Array]:
    """The outputs of partitions of a spine, back in the spine's order.

    Args:
        parts: per partition, the spine's rows that it holds, ascending, and their outputs.
        rows: of the whole spine; every one of them is in one partition.
    """
    order = np.empty(rows, np.int64)
    order[np.concatenate([places for places, _ in parts])] = np.arange(rows)
    taken = pa.array(order)
    names = parts[0][1].keys()
    return {name: pa.concat_arrays([outputs[name] for _, outputs in parts]).take(taken) for name in names}


__all__ = [
    "EventLog",
    "answers",
    "event_columns",
    "event_log",
    "filter_columns",
    "in_order",
    "partitions_of",
    "scattered",
    "window_features",
]
