"""The point-in-time join on Polars: read keys and times, ask the kernel which rows, read and gather only those.

Groups are independent of each other (PIT-6), so two are worked on at a time: one reads while the other searches.
More would hold more columns in memory than they would save time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from grange.engines.polars.scans import check_column
from grange.engines.polars.values import conformed, from_numpy, is_canonical, literal
from grange.frames import Rows
from grange.kernels.arrays import Ints
from grange.kernels.asof import History, Instants, Spine, as_of
from grange.kernels.keys import KeyIndex
from grange.plan.nodes import Concat, GroupJoin, Input, Join, Node, Output, PointInTimeJoin, Scan, WindowJoin
from grange.types.names import SEQUENCE
from grange.types.schema import Column
from grange.windowing import answers, event_columns, event_log, in_order, partitions_of, scattered, window_features

_AT_ONCE: Final = 2

Part = tuple[int, int]
"""The first row, and how many."""
_KEY_HASH: Final = 0x6A09E667
"""Seed of the hash that partitions keys; nothing that it makes outlives a run."""


class Reader(Protocol):
    """Reads some columns of a node's rows: all of its rows, or a part of them."""

    def __call__(self, node: Node, columns: Sequence[str], part: Part | None = None) -> pl.DataFrame: ...


class Scanner(Protocol):
    """A node's rows, not read yet."""

    def __call__(self, node: Node) -> pl.LazyFrame: ...


@dataclass(frozen=True, slots=True)
class _Keyed:
    """A spine sorted by one join key, and the index that other tables' keys are looked up in."""

    index: KeyIndex
    spine: Spine


def point_in_time_join(node: PointInTimeJoin, spine: Rows, read: Reader, scan: Scanner) -> pl.DataFrame:
    """The feature columns of every join, one row per spine row, in the spine's order. See `PointInTimeJoin`."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-join") as pool:
        # a task waits only for tasks submitted before it, so that two workers never wait for each other
        instants = pool.submit(Instants.of, _spine_column(spine, node.time))
        keyed: dict[tuple[str, ...], Future[_Keyed]] = {}
        for join in node.joins:
            names = tuple(name for name, _ in join.keys)
            if names not in keyed:
                keyed[names] = pool.submit(_keyed, spine, names, instants)
        answers = [
            pool.submit(_answer, join, keyed[tuple(name for name, _ in join.keys)], spine, read, scan, node)
            for join in node.joins
            if join.outputs
        ]
        try:
            frames = [answer.result() for answer in answers]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # one has failed: do not begin what nobody will see
            raise
    return pl.concat(frames, how="horizontal") if frames else pl.DataFrame(height=len(spine))


def _keyed(spine: Rows, names: tuple[str, ...], instants: Future[Instants]) -> _Keyed:
    index = KeyIndex.of({name: _spine_column(spine, name) for name in names})
    return _Keyed(index, Spine.of(index, instants.result()))


def _spine_column(spine: Rows, name: str) -> pa.Array | pa.ChunkedArray:
    check_column(name, spine.column_names, what="in the spine")
    return spine.polars.get_column(name).to_arrow() if spine.is_polars else spine.arrow.column(name)


def _answer(
    join: Join, keyed: Future[_Keyed], spine: Rows, read: Reader, scan: Scanner, node: PointInTimeJoin
) -> pl.DataFrame:
    if isinstance(join, GroupJoin):
        return _join(join, keyed, read, node.as_known)
    return _windows(join, keyed, spine, read, scan, node)


def _windows(
    join: WindowJoin, keyed: Future[_Keyed], spine: Rows, read: Reader, scan: Scanner, node: PointInTimeJoin
) -> pl.DataFrame:
    """The aggregates of a group at the spine's rows; a large history partition by partition."""
    columns = event_columns(join, as_known=node.as_known)
    count = partitions_of(_rows_of(scan(join.rows)))
    if count == 1:
        events = read(join.rows, columns).to_arrow()
        have = keyed.result()
        log = event_log(join, have.index, events, as_known=node.as_known)
        del events  # the memory of keys and times is free again before the answers take theirs
        return _framed(answers(join, have.spine, log, as_known=node.as_known))
    names = [name for name, _ in join.keys]
    whole = (spine if spine.is_polars else Rows(polars=spine.polars)).select([*names, node.time])
    where = whole.polars.select(_partition_of(names, whole.polars.schema, count)).to_series().to_numpy()
    parts = []
    for number in range(count):
        places = np.flatnonzero(where == number)
        share = Rows(polars=whole.polars[from_numpy(places.astype(np.uint32))])
        index = KeyIndex.of({name: _spine_column(share, name) for name in names})
        at = Spine.of(index, Instants.of(_spine_column(share, node.time)))
        mine = _partition_of([of_group for _, of_group in join.keys], scan(join.rows).collect_schema(), count) == number
        chosen = scan(join.rows).filter(mine).select(columns)
        events = chosen.collect(engine="streaming").to_arrow()
        parts.append((places, window_features(join, index, at, events, as_known=node.as_known)))
    return _framed(scattered(parts, len(whole)))


def _rows_of(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _partition_of(keys: Sequence[str], schema: Mapping[str, pl.DataType], count: int) -> pl.Expr:
    """Each row's partition, by its key's values: integers of any width are of one family (PIT-4)."""
    hashed = pl.lit(0, pl.UInt64)
    for place, key in enumerate(keys):
        value = pl.col(key)
        if schema[key].is_integer():
            value = value.cast(pl.Int128)
        elif schema[key] in (pl.Categorical, pl.Enum):
            value = value.cast(pl.String)
        hashed = hashed ^ value.hash(_KEY_HASH + place)
    return (hashed % count).cast(pl.Int64)


def _framed(features: Mapping[str, pa.Array]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.table(dict(features)))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _join(join: GroupJoin, keyed: Future[_Keyed], read: Reader, as_known: bool) -> pl.DataFrame:
    ordered = in_order(join.rows)
    names = [name for _, name in join.keys] + [join.event_time]
    if join.created_time is not None and (as_known or not ordered):
        names.append(join.created_time)
    if not ordered:
        names.append(SEQUENCE)
    columns = list(dict.fromkeys(output.column for output in join.outputs))
    twice = _reads_twice(join.rows)
    stored = read(join.rows, list(dict.fromkeys(names if twice else [*names, *columns])))
    rows = _rows(join, stored, keyed.result(), ordered=ordered, as_known=as_known)
    # what is read already is not read again: an event time may be among the features
    held = stored.select([name for name in columns if not twice or name in names])
    del stored  # the keys' memory is free again before the features take theirs
    unread = [name for name in columns if name not in held.columns]

    def part(first: int, count: int) -> pl.DataFrame:
        if not unread:
            return held.slice(first, count)
        return read(join.rows, unread, (first, count)).hstack(held.slice(first, count).get_columns())

    return _gather(join, rows, part)


def _reads_twice(rows: Node) -> bool:
    """Whether reading some columns now and others later costs no more than all at once."""
    match rows:
        case Scan():
            return rows.format == "parquet"
        case Input():
            return True
        case Concat():
            return all(_reads_twice(part) for part in rows.inputs)
        case _:
            return False


def _rows(join: GroupJoin, stored: pl.DataFrame, keyed: _Keyed, *, ordered: bool, as_known: bool) -> Ints:
    """The stored row of every spine row, -1 for none."""

    def arrow(name: str | None) -> pa.Array | None:
        return None if name is None or name not in stored.columns else stored.get_column(name).to_arrow()

    codes = keyed.index.lookup({name: stored.get_column(name).to_arrow() for _, name in join.keys})
    history = History.of(
        codes,
        arrow(join.event_time),
        created_time=arrow(join.created_time) if as_known or not ordered else None,
        sequence=None if ordered else arrow(SEQUENCE),
        ordered=ordered,
    )
    return as_of(keyed.spine, history, ttl=join.ttl, exact_matches=join.exact_matches, as_known=as_known)


def _gather(join: GroupJoin, rows: Ints, read: Callable[[int, int], pl.DataFrame]) -> pl.DataFrame:
    """The outputs of the chosen rows; `read` takes the first row and how many, so that old rows stay unread."""
    hit = rows >= 0
    hits = int(np.count_nonzero(hit))
    if hits == 0:
        stored = read(0, 0)
        chosen = _canonical(join, stored).clear(len(rows))
    else:
        last = int(rows.max())
        first = int(rows.min() if hits == len(rows) else rows[hit].min())
        stored = _canonical(join, read(first, last - first + 1).rechunk())
        # a gather with nulls in its index is several times slower than one without, and a mask over it
        position = from_numpy((rows - first).clip(0).astype(np.uint32))
        taken = pl.all().gather(pl.lit(position))
        chosen = stored.select(
            taken
            if hits == len(rows)
            else pl.when(pl.lit(from_numpy(hit.view(np.uint8)).cast(pl.Boolean))).then(taken).name.keep()
        )
    return chosen.select(_output(join, output) for output in join.outputs)


def _canonical(join: GroupJoin, stored: pl.DataFrame) -> pl.DataFrame:
    """The outputs in their declared types (PIT-7). Stored columns are of them already, so this costs nothing."""
    declared: Mapping[str, Output] = {output.column: output for output in join.outputs}
    pending = [
        conformed(stored.get_column(name), Column(name, output.dtype), what=f"feature group {join.group!r}")
        for name, output in declared.items()
        if not is_canonical(stored.schema[name], output.dtype)
    ]
    return stored.with_columns(pending)


def _output(join: GroupJoin, output: Output) -> pl.Expr:
    column = pl.col(output.column)
    if output.default is not None:
        column = column.fill_null(
            literal(output.default, output.dtype, what=f"default of {join.group}:{output.column}")
        )
    return column.alias(output.name)


__all__ = ["Reader", "point_in_time_join"]
