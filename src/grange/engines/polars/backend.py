"""The `polars` engine: scans stay lazy, so that only the rows and columns that are asked for are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from grange.definitions.transforms import PythonTransform
from grange.engines.polars.joining import Part, point_in_time_join
from grange.engines.polars.scans import blame, check_column, scan, together
from grange.engines.polars.values import (
    TIME,
    canonical,
    conformed,
    from_arrow,
    from_numpy,
    is_canonical,
    polars_type,
)
from grange.errors import RequestError, SchemaError, SourceError, TransformError
from grange.frames import Rows
from grange.kernels.arrays import KNOWN_ALWAYS, borders, repeated, room, tiles
from grange.kernels.asof import History, in_order_of_code, latest
from grange.kernels.keys import KeyIndex
from grange.kernels.windows.spans import expand
from grange.plan.checks import check_align, check_concat
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
    Input,
    Latest,
    Limit,
    Node,
    Number,
    Order,
    PointInTimeJoin,
    Scan,
    Timeless,
)
from grange.transforming import run_transform
from grange.types import DataType
from grange.types.arrow import TIMESTAMP, conform, plain
from grange.types.names import EVENT_TIME, SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS_MICROS
from grange.windowing import partitions_of

_ROW: Final = "__row"


class PolarsEngine:
    """Runs plans in this process, in memory. See `grange.ports.engine.Engine`."""

    name = "polars"

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        """The rows of a node. See `grange.ports.engine.Engine.run`."""
        return _Run(inputs).rows(node)

    def for_one_request(self) -> _RequestEngine:
        """An engine that reads the stored keys and times of a made spine (PIT-8) once: the join onto it has them."""
        return _RequestEngine()


class _RequestEngine:
    """As `PolarsEngine`, for the runs of one request: what was read is held until it is used, or the engine gone."""

    name = "polars"

    def __init__(self) -> None:
        self._held: dict[Scan, pl.DataFrame] = {}

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        """The rows of a node. See `grange.ports.engine.Engine.run`."""
        return _Run(inputs, self._held).rows(node)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a plan."""

    inputs: Mapping[str, Rows]
    held: dict[Scan, pl.DataFrame] | None = None
    """Keys and times that a spine was made of. Whoever reads the same rows next takes them."""

    def rows(self, node: Node) -> Rows:
        """A node's rows, read."""
        return self._input(node) if isinstance(node, Input) else Rows(polars=self._frame(node))

    def _frame(self, node: Node, columns: Sequence[str] | None = None, part: Part | None = None) -> pl.DataFrame:
        """A node's rows, read; only some columns or a part of them when these are given."""
        try:
            frame = self._lazy(node)
            if columns is not None:
                _check_columns(frame, columns)
                known = self._taken(node) if part is None else None
                if known is not None:
                    unread = [name for name in columns if name not in known.columns]
                    more = frame.select(unread).collect().get_columns() if unread else []
                    return known.hstack(more).select(columns)
                frame = frame.select(columns)
            return (frame if part is None else frame.slice(*part)).collect()
        except (PolarsError, OSError):
            for scanned in _scans(node):
                blame(scanned)
            raise

    def _taken(self, node: Node) -> pl.DataFrame | None:
        """What was read of a node before and is held, from now on no more."""
        return self.held.pop(node, None) if self.held and isinstance(node, Scan) else None

    def _lazy(self, node: Node, limit: int | None = None) -> pl.LazyFrame:
        """A node's rows, not read yet; so many rows are enough."""
        match node:
            case Scan():
                return scan(node, limit=limit)
            case Input():
                return _imported(self._input(node)).polars.lazy()
            case Concat():
                return _concat([self._lazy(part, limit) for part in node.inputs])
            case Limit():
                enough = node.rows if limit is None else min(node.rows, limit)
                return self._lazy(node.input, enough).head(node.rows)
            case Apply():
                return self._apply(node).polars.lazy()
            case Timeless():
                always = pl.lit(ALWAYS_MICROS, pl.Int64).cast(TIME).alias(EVENT_TIME)
                return self._lazy(node.input, limit).with_columns(always)
            case Conform():
                return self._conform(node, limit)
            case Align():
                return self._align(node, limit)
            case Number():
                numbers = pl.int_range(node.start, node.start + pl.len(), dtype=pl.Int64).alias(SEQUENCE)
                return self._lazy(node.input, limit).with_columns(numbers)
            case Between():
                return self._between(node)
            case Order():
                return self._order(node)
            case Latest():
                return self._latest(node).lazy()
            case EntityTimes():
                return self._entity_times(node).lazy()
            case CurrentEvents():
                return self._current_events(node)
            case Grid():
                return self._grid(node)
            case PointInTimeJoin():
                return point_in_time_join(node, self.rows(node.spine), self._frame, self._lazy).lazy()
            case _:
                assert_never(node)

    def _input(self, node: Input) -> Rows:
        if node.name not in self.inputs:
            raise RequestError(
                f"no input {node.name!r} was handed to the engine", found=", ".join(self.inputs) or "none"
            )
        rows = self.inputs[node.name]
        if node.columns is None:
            return rows
        for name in node.columns:
            check_column(name, rows.column_names, what=f"in input {node.name!r}")
        return rows.select(node.columns)

    def _apply(self, node: Apply) -> Rows:
        """What a transform makes of its input. One that takes a lazy frame gets one: it reads only what it uses."""
        transform = node.transform
        if not isinstance(transform, PythonTransform) or transform.frame != "polars_lazy" or not transform.function:
            return run_transform(transform, Rows(polars=self._frame(node.input)), group=node.group)
        function, source = transform.function, self._lazy(node.input)
        columns = Rows(polars=source.collect_schema().to_frame())
        lazy = replace(transform, frame="polars", function=lambda _: function(source))
        try:
            return run_transform(lazy, columns, group=node.group)
        except TransformError:
            # the rows, read whole, tell whether the source or the transform is at fault
            return run_transform(transform, Rows(polars=self._frame(node.input)), group=node.group)

    def _conform(self, node: Conform, limit: int | None) -> pl.LazyFrame:
        if isinstance(node.input, Input) and not (handed := self._input(node.input)).is_polars:
            # before Polars sees them, which does not know all of Arrow's types
            return Rows(arrow=conform(handed.arrow, node.schema, what=node.what)).polars.lazy()
        frame = self._lazy(node.input, limit)
        found = frame.collect_schema()
        missing = [name for name in node.schema.names if name not in found]
        if missing:
            columns = ("columns " if len(missing) > 1 else "column ") + ", ".join(map(repr, missing))
            raise SchemaError(
                f"{node.what}: declared {columns} missing",
                found=", ".join(found) or "no columns at all",
            )
        chosen = frame.select(node.schema.names)
        if all(is_canonical(found[column.name], column.dtype) for column in node.schema):
            return chosen
        rows = chosen.collect()
        return pl.LazyFrame([conformed(rows.get_column(column.name), column, what=node.what) for column in node.schema])

    def _align(self, node: Align, limit: int | None) -> pl.LazyFrame:
        frame = self._lazy(node.input, limit)
        found = frame.collect_schema()
        check_align(node, found.names())
        lacking = [column for column in node.schema if column.name not in found]
        nulls = [pl.lit(None, polars_type(column.dtype)).alias(column.name) for column in lacking]
        wanted = [*node.schema.names, *([SEQUENCE] if SEQUENCE in found else [])]
        aligned = frame.with_columns(nulls).select(wanted)
        there = [column for column in node.schema if column.name in found]
        if all(is_canonical(found[column.name], column.dtype) for column in there):
            return aligned
        rows = aligned.collect()
        return rows.with_columns(conformed(rows.get_column(c.name), c, what=node.what) for c in there).lazy()

    def _between(self, node: Between) -> pl.LazyFrame:
        frame = self._lazy(node.input)
        _check_columns(frame, [node.column])
        if frame.collect_schema()[node.column].is_integer():
            value = pl.col(node.column)
            bound: pl.DataType = pl.Int64()
        else:
            frame, [value] = _times(frame, [node.column])
            bound = TIME
        inside = value.is_not_null()
        if node.start is not None:
            inside &= value >= pl.lit(node.start, pl.Int64).cast(bound)
        if node.end is not None:
            inside &= value < pl.lit(node.end, pl.Int64).cast(bound)
        return frame.filter(inside)

    def _order(self, node: Order) -> pl.LazyFrame:
        frame = self._lazy(node.input)
        names = [node.event_time] if node.created_time is None else [node.event_time, node.created_time]
        _check_columns(frame, [*names, SEQUENCE])
        frame, times = _times(frame, names)
        return frame.sort([*times, pl.col(SEQUENCE)], nulls_last=False, maintain_order=True)

    def _latest(self, node: Latest) -> pl.DataFrame:
        frame = self._frame(node.input)
        times = [node.event_time] if node.created_time is None else [node.event_time, node.created_time]
        _check_columns(frame.lazy(), [*node.keys, *times, SEQUENCE])
        frame = canonical(frame)
        event, *created = (_time(frame, name).to_arrow() for name in times)
        history = History.of(
            KeyIndex.of({key: frame.get_column(key).to_arrow() for key in node.keys}).codes,
            event,
            created_time=created[0] if created else None,
            sequence=frame.get_column(SEQUENCE).to_arrow(),
        )
        return frame[from_numpy(latest(history).astype(np.uint32))]

    def _entity_times(self, node: EntityTimes) -> pl.DataFrame:
        read = self._frame(node.input, list(dict.fromkeys([*node.keys, node.event_time])))
        if self.held is not None and isinstance(node.input, Scan) and partitions_of(read.height) == 1:
            self.held[node.input] = read = read.rechunk()
        frame = canonical(read)
        moments = _time(frame, node.event_time)
        inside = moments.is_not_null()
        if node.start is not None:
            inside &= moments.to_physical() >= node.start
        if node.end is not None:
            inside &= moments.to_physical() < node.end
        chosen = frame.with_columns(moments).filter(inside).drop_nulls(node.keys)
        return _by_key_and_time(chosen, node.keys, node.event_time)

    def _current_events(self, node: CurrentEvents) -> pl.LazyFrame:
        frame = self._lazy(node.input)
        created = [] if node.created_time is None else [node.created_time]
        _check_columns(frame, [*node.keys, node.event_id, *filter(None, [node.retracted]), *created, SEQUENCE])
        frame, times = _times(frame, created)
        ages = [*(time.to_physical().fill_null(KNOWN_ALWAYS) for time in times), pl.col(SEQUENCE)]
        row = pl.col(_ROW)
        newest = row == row.sort_by(ages).last().over([*node.keys, node.event_id])
        # whoever has no key or no id is an event of its own
        stays = newest | pl.any_horizontal(pl.col([*node.keys, node.event_id]).is_null())
        if node.retracted is not None:
            stays &= ~pl.col(node.retracted).fill_null(value=False)
        return frame.with_row_index(_ROW).filter(stays).drop(_ROW)

    def _grid(self, node: Grid) -> pl.LazyFrame:
        frame = canonical(self._frame(node.input, list(dict.fromkeys([*node.keys, node.event_time]))))
        micros = _time(frame, node.event_time).to_physical()
        step = node.interval
        shift = step - 1 if node.closed == "right" else step
        boundary = ((micros + shift) // step * step).alias(node.event_time)
        rows = frame.with_columns(boundary).drop_nulls([*node.keys, node.event_time]).lazy()
        if node.fill:
            ends = pl.int_ranges(pl.col("__first"), pl.col("__last") + step, step).alias(node.event_time)
            at = pl.col(node.event_time)
            span = rows.group_by(node.keys).agg(at.min().alias("__first"), at.max().alias("__last"))
            rows = span.select(*node.keys, ends).explode(node.event_time)
        else:
            rows = rows.unique()
        if node.start is not None:
            rows = rows.filter(pl.col(node.event_time) >= node.start)
        if node.end is not None:
            rows = rows.filter(pl.col(node.event_time) < node.end)
        return rows.sort(node.event_time, *node.keys).with_columns(pl.col(node.event_time).cast(TIME))


def _by_key_and_time(frame: pl.DataFrame, keys: Sequence[str], time: str) -> pl.DataFrame:
    """The distinct rows by key, then time; none of both is null.

    Keys become small integers, which sort several times faster than rows do, and only the distinct ones are compared.
    """
    if frame.is_empty():
        return frame
    codes = KeyIndex.of({key: frame.get_column(key).to_arrow() for key in keys}).codes
    history = History.of(codes, frame.get_column(time).to_arrow())
    packed, bits = in_order_of_code(history.codes, spent=True)
    positions = (1 << bits) - 1
    times = room(len(packed))
    for tile in tiles(len(packed)):
        history.times.take(packed[tile] & positions, out=times[tile], mode="clip")
    first_of_key = borders(packed, shift=bits)
    first_of_pair = first_of_key | borders(times)
    if not first_of_pair.all():
        packed, times, first_of_key = packed[first_of_pair], times[first_of_pair], first_of_key[first_of_pair]
    starts = np.flatnonzero(first_of_key)
    counts = np.diff(starts, append=len(packed))
    heads = frame.select(keys)[from_numpy(history.rows(packed[starts] & positions).astype(np.uint32))]
    del packed
    ranking = heads.select(pl.arg_sort_by(keys).cast(pl.Int64)).to_series().to_numpy()
    if (ranking[1:] < ranking[:-1]).any():
        times, counts = times[expand(starts[ranking], counts[ranking])], counts[ranking]
    moments = pa.Array.from_buffers(TIMESTAMP, len(times), [None, pa.py_buffer(times)])
    numbers = pa.Array.from_buffers(pa.uint32(), len(times), [None, pa.py_buffer(repeated(ranking, counts))])
    named = from_arrow(time, pa.chunked_array([moments]))
    return heads[from_arrow("", pa.chunked_array([numbers]))].with_columns(named).select(frame.columns)


def _concat(parts: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Parts of the same columns one after another.

    Raises:
        SchemaError: their columns differ, or have types that nothing holds both of.
    """
    schemas = [part.collect_schema() for part in parts]
    check_concat([schema.names() for schema in schemas])
    try:
        return together(parts, what="rows to put together", names=[f"part {n}" for n in range(1, len(parts) + 1)])
    except SourceError as error:
        raise SchemaError("rows to put together have other types", found=error.found) from error


def _imported(rows: Rows) -> Rows:
    """The rows in types that Polars reads."""
    if rows.is_polars:
        return rows
    columns = [plain(rows.arrow.column(place), name) for place, name in enumerate(rows.column_names)]
    if all(column.type == field.type for column, field in zip(columns, rows.arrow.schema, strict=True)):
        return rows  # which remember what they are in Polars
    return Rows(arrow=pa.table(columns, names=rows.column_names))


def _scans(node: Node) -> Iterator[Scan]:
    """The scans under a node."""
    match node:
        case Scan():
            yield node
        case Input():
            return
        case Concat():
            for part in node.inputs:
                yield from _scans(part)
        case PointInTimeJoin():
            yield from _scans(node.spine)
            for join in node.joins:
                yield from _scans(join.rows)
        case (
            Limit()
            | Apply()
            | Timeless()
            | Conform()
            | Align()
            | Number()
            | Between()
            | Order()
            | Latest()
            | EntityTimes()
            | CurrentEvents()
            | Grid()
        ):
            yield from _scans(node.input)
        case _:
            assert_never(node)


def _check_columns(frame: pl.LazyFrame, names: Sequence[str]) -> None:
    found = frame.collect_schema().names()
    for name in names:
        check_column(name, found, what="in the rows")


def _times(frame: pl.LazyFrame, names: Sequence[str]) -> tuple[pl.LazyFrame, list[pl.Expr]]:
    """Time columns as UTC microseconds; a frame whose columns are so already stays unread (TIME-1)."""
    schema = frame.collect_schema()
    if all(schema[name] == TIME for name in names):
        return frame, [pl.col(name) for name in names]
    rows = frame.collect()
    return rows.lazy(), [pl.lit(_time(rows, name)) for name in names]


def _time(frame: pl.DataFrame, name: str) -> pl.Series:
    return conformed(frame.get_column(name), Column(name, DataType("datetime")), what=f"time column {name!r}")


__all__ = ["PolarsEngine"]
