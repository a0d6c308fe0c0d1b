"""Windows on DuckDB: it reads, filters and partitions the events, and spills; the kernel says what a window holds."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from grange.engines.duckdb.session import Session
from grange.engines.duckdb.sql import Query, cell, every, listed, sql, whole
from grange.kernels.asof import Instants, Spine
from grange.kernels.keys import KeyIndex
from grange.plan.nodes import CurrentEvents, Grid, WindowJoin
from grange.types.names import SEQUENCE
from grange.windowing import event_columns, partitions_of, scattered, window_features

_NUMBER: Final = "row_number() OVER ()"


def window_join(
    session: Session, join: WindowJoin, spine: Query, time: str, rows: Query, *, as_known: bool
) -> dict[str, pa.Array]:
    """The outputs of a window join, in the spine's order; a large history partition by partition."""
    columns = [name for name in event_columns(join, as_known=as_known) if name != SEQUENCE or SEQUENCE in rows.names]
    names = [name for name, _ in join.keys]
    asked = spine.pick(dict.fromkeys([*names, time]))
    (held,) = session.numbers(sql("SELECT count(*) FROM", rows.nested("q")))
    count = partitions_of(held)
    if count == 1:
        index, at = _keyed(session.fetch(asked), names, time)
        return window_features(join, index, at, session.fetch(rows.pick(columns)), as_known=as_known)
    where = _numbers(session.fetch(asked.select([("partition", _partition(asked, names, count))])))
    whole_spine = session.fetch(asked)
    parts = []
    for number in range(count):
        places = np.flatnonzero(where == number)
        index, at = _keyed(whole_spine.take(pa.array(places)), names, time)
        mine = sql(_partition(rows, [of_group for _, of_group in join.keys], count), "=", whole(number))
        events = session.fetch(rows.pick(columns, "WHERE", mine))
        parts.append((places, window_features(join, index, at, events, as_known=as_known)))
    return scattered(parts, whole_spine.num_rows)


def _keyed(spine: pa.Table, names: list[str], time: str) -> tuple[KeyIndex, Spine]:
    index = KeyIndex.of({name: spine.column(name) for name in names})
    return index, Spine.of(index, Instants.of(spine.column(time)))


def _partition(rows: Query, keys: list[str], count: int) -> str:
    """A row's partition, by its key's values; a null in the key lies in the first."""
    hashed = sql("hash(", listed(rows.column(key) for key in keys), ")")
    return sql("CAST( coalesce(", hashed, "%", whole(count), ", 0) AS BIGINT)")


def _numbers(table: pa.Table) -> np.ndarray:
    column = table.column(0).combine_chunks()
    return np.frombuffer(column.buffers()[1], np.int64, count=len(column), offset=column.offset * 8)


def current_events(node: CurrentEvents, query: Query, time: str | None) -> Query:
    """The last written version of each event, without retracted ones, in the order of its input.

    Args:
        node: what is asked for.
        query: its input.
        time: the expression of the created time, if there is one.
    """
    keys = [query.column(key) for key in (*node.keys, node.event_id)]
    ages = [*([] if time is None else [time]), query.column(SEQUENCE)]
    order = listed(sql(age, "ASC NULLS FIRST") for age in ages)
    newest = sql("lead(1) OVER ( PARTITION BY", listed(keys), "ORDER BY", order, ") IS NULL")
    # whoever has no key or no id is an event of its own
    counts = " OR ".join([newest, *(sql(key, "IS NULL") for key in keys)])
    retracted = "false" if node.retracted is None else sql("coalesce(", query.column(node.retracted), ", false)")
    names = query.names
    marked = query.select([*((own, query.column(own)) for own in names), ("", _NUMBER), ("", counts), ("", retracted)])
    row, newest_of_event, gone = (cell(len(names) + place) for place in range(3))
    body = sql(
        "SELECT", listed(cell(place) for place in range(len(names))), "FROM", marked.nested("q"),
        "WHERE", every([newest_of_event, sql("NOT", gone)]), "ORDER BY", row,
    )  # fmt: skip
    return Query(body, names)


def grid(node: Grid, query: Query, micros: str) -> Query:
    """The boundaries that follow each key's events, by boundary then key. `micros` is the event time's expression."""
    keys = [query.column(key) for key in node.keys]
    step = whole(node.interval)
    shifted = sql("(", micros, "+", whole(node.interval - 1 if node.closed == "right" else node.interval), ")")
    # DuckDB's // rounds towards zero
    boundary = sql("CAST( (", shifted, "- ((", shifted, "%", step, "+", step, ") %", step, ")) AS BIGINT)")
    present = every(sql(column, "IS NOT NULL") for column in (*keys, micros))
    at = query.select([*zip(node.keys, keys, strict=True), (node.event_time, boundary)], "WHERE", present)
    cells = [cell(place) for place in range(len(at.names))]
    own, last = cells[:-1], cells[-1]
    if node.fill:
        steps = sql("unnest( range( min(", last, "), max(", last, ") +", step, ",", step, "))")
        body = sql("SELECT", listed(own), ",", steps, "AS", last, "FROM", at.nested("q"), "GROUP BY", listed(own))
    else:
        body = sql("SELECT DISTINCT", listed(cells), "FROM", at.nested("q"))
    bounds = [] if node.start is None else [sql(last, ">=", whole(node.start))]
    bounds += [] if node.end is None else [sql(last, "<", whole(node.end))]
    chosen = Query(body, at.names)
    shown = [*zip(node.keys, own, strict=True), (node.event_time, sql("make_timestamptz(", last, ")"))]
    return chosen.select(shown, "WHERE", every(bounds), "ORDER BY", listed([last, *own]))


__all__ = ["current_events", "grid", "window_join"]
