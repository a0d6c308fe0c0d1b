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

from grange.kernels.arrays import Ints, Mask, room, single
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


class Validity:
    """Which rows of a column have a value, as blocks of them become known, from several threads.

    Most columns have one everywhere: there is no mask until a row is found to have none.
    """

    def __init__(self, count: int, *, everywhere: bool) -> None:
        """Of `count` rows; `everywhere` says what is true of those that no block tells of."""
        self._count = count
        self._mask: Mask | None = None
        self._lock = Lock()
        if not everywhere:
            self._room(valid=False)

    @classmethod
    def of(cls, mask: Mask | None, count: int) -> Validity:
        """As a mask says; None is everywhere."""
        known = cls(count, everywhere=True)
        known._mask = mask
        return known

    def __len__(self) -> int:
        return self._count

    @property
    def mask(self) -> Mask | None:
        """By row; None when all have a value."""
        return self._mask

    def put(self, at: Ints | slice, valid: Mask) -> None:
        """Take what a block says of the rows `at`. Each row is in one block at most."""
        if self._mask is None:
            if valid.all():
                return
            with self._lock:
                if self._mask is None:
                    self._room(valid=True)
        assert self._mask is not None
        self._mask[at] = valid

    def _room(self, *, valid: bool) -> None:
        mask: Mask = room(self._count, np.bool_)
        mask.fill(valid)
        self._mask = mask


class Sink:
    """Collects the answers of one aggregate, block by block, and makes a column of them.

    Blocks may come in any order and from several threads, because no two are of the same spine rows. Rows that no
    block answers are null, but where they are valid already: those are 0.
    """

    def __init__(self, aggregate: Aggregate, valid: Validity, *, shared: bool, everywhere: bool) -> None:
        """For as many spine rows as `valid` has.

        Args:
            aggregate: what is answered.
            valid: which numbers are not null.
            shared: whether somebody else writes that.
            everywhere: whether every spine row will be answered.
        """
        self._aggregate = aggregate
        self._valid = valid
        self._shared = shared
        self._all = everywhere
        self._values: Any = None
        self._lists: list[tuple[Ints | slice, Lists]] = []
        self._lock = Lock()

    def put(self, at: Ints | slice, answer: Answer) -> None:
        """Take the answers of the spine rows `at`."""
        match answer:
            case Numbers():
                self._room(answer.values.dtype.type, 0)[at] = answer.values
                if not self._shared:
                    self._valid.put(at, answer.valid)
            case Picks():
                self._room(np.int64, NO_ROW)[at] = answer.rows
            case Lists():
                with self._lock:
                    self._lists.append((at, answer))
        self._form = type(answer)

    def _room(self, kind: type[np.generic], empty: int) -> Any:
        with self._lock:
            if self._values is None:
                self._values = room(len(self._valid), kind)
                if not self._all:
                    self._values.fill(empty)
        return self._values

    def column(self, source: pa.Array | pa.ChunkedArray | None) -> pa.Array:
        """The column, in the canonical type of the aggregate. `source`: the events' values, which rows refer to."""
        target = arrow_type(self._aggregate.dtype)
        if self._lists:
            assert source is not None
            return self._conformed(_list_array(self._lists, len(self._valid), single(source)))
        if self._values is None:
            return _number_array(np.zeros(len(self._valid), np.int64), self._valid.mask, target)
        if self._form is Picks:
            assert source is not None
            rows = _nullable(self._values, _not_all(self._values >= 0), pa.int64())
            return self._conformed(single(source).take(rows))
        return _number_array(self._values, self._valid.mask, target)

    def _conformed(self, values: pa.Array) -> pa.Array:
        column = Column(self._aggregate.name, self._aggregate.dtype)
        return single(conform_column(pa.chunked_array([values]), column, what=f"aggregation {column.name!r}"))


def _number_array(values: Floats | Ints, mask: Mask | None, target: pa.DataType) -> pa.Array:
    valid = None if mask is None else _not_all(mask)
    if not len(values) or (valid is not None and not valid.any()):
        return pa.nulls(len(values), target)
    if pa.types.is_boolean(target):
        return _nullable(values, valid, pa.int64()).cast(target)
    if target.bit_width != 64:
        kind = np.int32 if pa.types.is_date(target) else target.to_pandas_dtype()
        return _nullable(values.astype(kind), valid, target)
    wanted = np.float64 if pa.types.is_floating(target) else np.int64
    return _nullable(values.astype(wanted, copy=False), valid, target)


def _not_all(mask: Mask) -> Mask | None:
    """The mask; None when it is true everywhere."""
    return None if mask.all() else mask


def _nullable(values: Any, valid: Mask | None, kind: pa.DataType) -> pa.Array:
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bitmap, pa.py_buffer(np.ascontiguousarray(values))])


def _list_array(blocks: list[tuple[Ints | slice, Lists]], count: int, source: pa.Array) -> pa.Array:
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
