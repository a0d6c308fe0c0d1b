"""Rows on their way to Parquet files and back: columns, order, months, writing, checking."""

from __future__ import annotations

import datetime as dt
import errno
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from grange.errors import ColumnTypeError, CorruptStoreError, DataError, SchemaError
from grange.frames import Rows
from grange.kernels.arrays import integers, single
from grange.offline.parquet.disk import unavailable
from grange.types import DataType, Schema
from grange.types.arrow import arrow_type, conform_column
from grange.types.names import SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS_MICROS, from_micros

ROW_GROUP: Final = 128 * 1024
"""Rows per row group: what a reader skips, or reads in parallel, by the statistics."""
_NULL_TIME: Final = np.iinfo(np.int64).min
"""Stands for a null time, so that it sorts first."""
_LAST_MICROS: Final = (dt.datetime.max.replace(tzinfo=dt.UTC) - from_micros(0)) // dt.timedelta(microseconds=1)
_DICTIONARY: Final = ("string", "uuid", "binary")
"""Kinds that repeat enough for a dictionary; building one for every number costs more than writing it."""

Times = npt.NDArray[np.int64]


def stored(rows: Rows, schema: Schema, *, sequence: bool, what: str) -> pa.Table:
    """The rows with exactly the stored columns in canonical types, and with `sequence` the sequence column last.

    Raises:
        SchemaError: a column is missing, or is none of these.
        ColumnTypeError: a column does not fit its type, or a sequence is null or negative.
    """
    table = rows.arrow
    wanted = [*schema.names, *([SEQUENCE] if sequence else [])]
    missing = [name for name in wanted if name not in table.column_names]
    extra = [name for name in table.column_names if name not in wanted]
    if missing or extra:
        raise SchemaError(
            f"{what}: the rows to store have other columns than the version's schema",
            found=", ".join(table.column_names) or "no columns at all",
            details={"missing": missing, "extra": extra},
        )
    columns = {column.name: _canonical(table.column(column.name), column, what) for column in schema}
    if sequence:
        numbers = _canonical(table.column(SEQUENCE), Column(SEQUENCE, DataType("int64")), what)
        if numbers.null_count or (len(numbers) and pc.min(numbers).as_py() < 0):
            raise ColumnTypeError(f"{what}: a sequence is null or negative", found=f"{numbers.null_count} nulls")
        columns[SEQUENCE] = numbers
    return pa.table(columns)


def _canonical(values: pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    """In its canonical type; what has it already is taken as it is (engines conformed it)."""
    return values if values.type == arrow_type(column.dtype) else conform_column(values, column, what=what)


def check_order(table: pa.Table, event_time: str, created_time: str | None, *, what: str) -> None:
    """That rows are in PIT-3 order: event time, created time, sequence, nulls first, no two rows equal in all.

    Raises:
        DataError: two rows are not; names them.
    """
    wrong = first_disorder(table, event_time, created_time)
    if wrong is None:
        return
    by = [name for name in (event_time, created_time, SEQUENCE) if name]
    before, after = (tuple(str(table.column(name)[row].as_py()) for name in by) for row in (wrong - 1, wrong))
    raise DataError(
        f"{what}: rows to store are not in the order of {', '.join(by)}",
        found=f"row {wrong - 1} has ({', '.join(before)}), row {wrong} has ({', '.join(after)})",
        try_="put them in order first: plan.nodes.Order(rows, event_time=..., created_time=...)",
    )


def first_disorder(table: pa.Table, event_time: str, created_time: str | None) -> int | None:
    """The first row that does not come after the one before it by PIT-3; None when all do."""
    ties: npt.NDArray[np.bool_] | None = None
    wrong = np.zeros(max(len(table) - 1, 0), dtype=bool)
    for name in (event_time, created_time, SEQUENCE):
        if name is None:
            continue
        values = times(table.column(name))
        before, after = values[:-1], values[1:]
        wrong |= (after < before) if ties is None else ties & (after < before)
        ties = (after == before) if ties is None else ties & (after == before)
    if ties is not None:
        wrong |= ties
    return int(np.argmax(wrong)) + 1 if wrong.any() else None


def check_by_time(table: pa.Table, event_time: str, *, what: str) -> None:
    """That feature rows come by event time, nulls first; ties may lie in any order.

    Raises:
        DataError: a row is earlier than the one before it; names it.
    """
    wrong = first_earlier(table, event_time)
    if wrong is None:
        return
    before, after = (table.column(event_time)[row].as_py() for row in (wrong - 1, wrong))
    raise DataError(
        f"{what}: feature rows to store are not in the order of {event_time}",
        found=f"row {wrong - 1} is at {before}, row {wrong} at {after}",
    )


def first_earlier(table: pa.Table, event_time: str) -> int | None:
    """The first row that is earlier than the one before it; None when none is."""
    moments = times(table.column(event_time))
    wrong = moments[1:] < moments[:-1]
    return int(np.argmax(wrong)) + 1 if wrong.any() else None


def times(values: pa.ChunkedArray) -> Times:
    """A time or integer column as int64, a null as the smallest number."""
    numbers, valid = integers(single(values.cast(pa.int64())))
    return numbers if valid is None else np.where(valid, numbers, _NULL_TIME)


def event_range(table: pa.Table, event_time: str, *, what: str) -> tuple[dt.datetime | None, dt.datetime | None]:
    """The first and last event time, both included; (None, None) when no row has one.

    Raises:
        DataError: one lies outside the years 1 to 9999.
    """
    if table.num_rows == table.column(event_time).null_count:
        return None, None
    ends = pc.min_max(table.column(event_time).cast(pa.int64()))
    first, last = ends["min"].as_py(), ends["max"].as_py()
    if first < ALWAYS_MICROS or last > _LAST_MICROS:
        raise DataError(
            f"{what}: an event time lies outside the years 1 to 9999",
            found=f"{first if first < ALWAYS_MICROS else last} microseconds since 1970",
        )
    return from_micros(first), from_micros(last)


@dataclass(frozen=True, slots=True)
class Month:
    """A run of rows of one calendar month."""

    label: str
    """`YYYY-MM`."""
    start: int
    rows: int


def months(table: pa.Table, event_time: str) -> Iterator[Month]:
    """The months of rows that are in event-time order. Rows without an event time go with the year 1."""
    moments = np.maximum(times(table.column(event_time)), ALWAYS_MICROS)
    labels = moments.view("datetime64[us]").astype("datetime64[M]")
    cuts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    for start, end in itertools.pairwise(cuts if len(labels) else []):
        yield Month(str(labels[start]), start, end - start)


def write_parquet(file: IO[bytes], table: pa.Table, schema: Schema, *, compression: str) -> None:
    """Write rows as one Parquet file with statistics and a checksum per page."""
    pq.write_table(
        table,
        file,
        row_group_size=ROW_GROUP,
        compression=compression,
        use_dictionary=[column.name for column in schema if column.dtype.kind in _DICTIONARY],
        write_statistics=True,
        write_page_checksum=True,
    )


def read_parquet(path: Path) -> pa.Table:
    """A file's rows, every page checked against its checksum.

    Raises:
        CorruptStoreError: it is not there, is no Parquet file, or a page does not match.
    """
    with _reading(path):
        return pq.ParquetFile(path, page_checksum_verification=True).read()


def read_note(path: Path) -> tuple[Mapping[bytes, bytes], int]:
    """What was noted in a file's footer, and its number of rows.

    Raises:
        CorruptStoreError: it is not there, or is no Parquet file.
    """
    with _reading(path):
        footer = pq.read_metadata(path)
        return footer.metadata or {}, footer.num_rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a stored file into CorruptStoreError, and an outage into StoreUnavailableError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        # for a file that is not what it should be, Arrow raises a bare OSError, without a number; names in its footer
        # that are no text are a UnicodeDecodeError, which is a ValueError
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise unavailable(str(path), error) from error
        raise CorruptStoreError(
            f"stored file {path} cannot be read", found=(str(error).splitlines() or ["nothing"])[0]
        ) from error
