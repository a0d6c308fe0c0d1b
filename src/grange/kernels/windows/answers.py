"""What a function answers for many windows at once, and how answers become Arrow columns in the spine's order.

An answer is one of three forms: numbers, rows of the events' table whose value is the answer, or lists of such rows.
Values that are only carried along (the last text, the most frequent day) are never looked at: their row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grange.kernels.arrays import Ints, Mask, single
from grange.kernels.windows.spans import expand
from grange.types.aggregates import Aggregate
from grange.types.arrow import arrow_type, conform_column
from grange.types.schema import Column

NO_ROW: Final = -1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """One number per window: float64, or int64 (of an unsigned 64-bit column its bits)."""

    values: Floats | Ints
    valid: Mask
    """False is null."""


@dataclass(frozen=True, slots=True)
class Picks:
    """One row of the events' table per window; `NO_ROW` is null."""

    rows: Ints


@dataclass(frozen=True, slots=True)
class Lists:
    """Rows of the events' table, those of one window after those of the one before. A window without any is null."""

    lengths: Ints
    rows: Ints


Answer = Numbers | Picks | Lists


def patch(answer: Answer, at: Ints, other: Answer) -> Answer:
    """The answer with those of the windows `at` (ascending) replaced by another answer of the same form."""
    match answer, other:
        case Numbers(), Numbers():
            return Numbers(_replaced(answer.values, at, other.values), _replaced(answer.valid, at, other.valid))
        case Picks(), Picks():
            return Picks(_replaced(answer.rows, at, other.rows))
        case Lists(), Lists():
            lengths = _replaced(answer.lengths, at, other.lengths)
            other_windows = _replaced(np.zeros(len(lengths), np.bool_), at, np.ones(len(at), np.bool_))
            rows = np.empty(int(lengths.sum()), np.int64)
            from_other = np.repeat(other_windows, lengths)
            rows[from_other] = other.rows
            rows[~from_other] = answer.rows[np.repeat(~other_windows, answer.lengths)]
            return Lists(lengths, rows)
        case _:
            raise AssertionError("the answers of one function have one form")


def _replaced(values: Any, at: Ints, others: Any) -> Any:
    copy = values.copy()
    copy[at] = others
    return copy


class Sink:
    """Collects the answers of one aggregate, block by block, and makes a column of them.

    Blocks may come in any order and from several threads, because no two are of the same spine rows. Rows that no
    block answers are null, but where `valid` is true already: those are 0.
    """

    def __init__(self, aggregate: Aggregate, valid: Mask, *, shared: bool) -> None:
        """`valid` says which numbers are none of null, one per spine row. `shared`: somebody else writes it."""
        self._aggregate = aggregate
        self._valid = valid
        self._shared = shared
        self._values: Any = None
        self._lists: list[tuple[Ints, Lists]] = []
        self._lock = Lock()

    def put(self, at: Ints, answer: Answer) -> None:
        """Take the answers of the spine rows `at`."""
        match answer:
            case Numbers():
                self._room(answer.values.dtype, 0)[at] = answer.values
                if not self._shared:
                    self._valid[at] = answer.valid
            case Picks():
                self._room(np.dtype(np.int64), NO_ROW)[at] = answer.rows
            case Lists():
                with self._lock:
                    self._lists.append((at, answer))
        self._form = type(answer)

    def _room(self, kind: np.dtype[Any], empty: int) -> Any:
        with self._lock:
            if self._values is None:
                # `np.zeros` would leave it to each scattered write to fetch a page, of the smallest size
                self._values = np.full(len(self._valid), empty, kind)
        return self._values

    def column(self, source: pa.Array | pa.ChunkedArray | None) -> pa.Array:
        """The column, in the canonical type of the aggregate. `source`: the events' values, which rows refer to."""
        target = arrow_type(self._aggregate.dtype)
        if self._lists:
            assert source is not None
            return self._conformed(_list_array(self._lists, len(self._valid), single(source)))
        if self._values is None:
            return _number_array(np.zeros(len(self._valid), np.int64), self._valid, target)
        if self._form is Picks:
            assert source is not None
            rows = _nullable(self._values, self._values >= 0, pa.int64())
            return self._conformed(single(source).take(rows))
        return _number_array(self._values, self._valid, target)

    def _conformed(self, values: pa.Array) -> pa.Array:
        column = Column(self._aggregate.name, self._aggregate.dtype)
        return single(conform_column(pa.chunked_array([values]), column, what=f"aggregation {column.name!r}"))


def _number_array(values: Floats | Ints, valid: Mask, target: pa.DataType) -> pa.Array:
    if not valid.any():
        return pa.nulls(len(values), target)
    if pa.types.is_boolean(target):
        return _nullable(values, valid, pa.int64()).cast(target)
    if target.bit_width != 64:
        kind = np.int32 if pa.types.is_date(target) else target.to_pandas_dtype()
        return _nullable(values.astype(kind), valid, target)
    wanted = np.float64 if pa.types.is_floating(target) else np.int64
    return _nullable(values.astype(wanted, copy=False), valid, target)


def _nullable(values: Any, valid: Mask, kind: pa.DataType) -> pa.Array:
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(np.ascontiguousarray(values))])


def _list_array(blocks: list[tuple[Ints, Lists]], count: int, source: pa.Array) -> pa.Array:
    lengths, starts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    rows = np.concatenate([answer.rows for _, answer in blocks])
    before = 0
    for at, answer in blocks:
        lengths[at] = answer.lengths
        starts[at] = before + np.cumsum(answer.lengths) - answer.lengths
        before += len(answer.rows)
    items = source.take(_plain(rows[expand(starts, lengths)]))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    bitmap = pa.py_buffer(np.packbits(lengths > 0, bitorder="little"))
    kind = pa.large_list(items.type)
    return pa.Array.from_buffers(kind, count, [bitmap, pa.py_buffer(offsets)], children=[items])


def _plain(rows: Ints) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])
