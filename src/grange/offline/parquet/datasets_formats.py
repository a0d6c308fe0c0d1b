"""The formats of training datasets: Parquet, CSV, Arrow's own. What is written comes back, cell for cell.

CSV as people read it: ISO dates and times, `true` and `false`, decimals with all their digits, binary in hexadecimal,
durations in microseconds. Text is quoted, so that nothing between two commas is a null and `""` is empty text.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from grange.errors import CorruptStoreError, UnsupportedError
from grange.offline.parquet import tables
from grange.offline.parquet.disk import unavailable
from grange.types import DataType, Schema
from grange.types.arrow import arrow_schema, arrow_type

_BLOCK: Final = 2 * 1024 * 1024
"""Bytes of CSV that are parsed at a time. A row has to fit in; the parser holds some twenty times as much."""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How rows become a file, and a file rows."""

    suffix: str
    check: Callable[[pa.Table, Schema, str], None]
    """That it can hold the rows; raises UnsupportedError."""
    write: Callable[[IO[bytes], pa.Table, Schema, str], None]
    """Write rows of a schema, in its canonical types; the text is the compression of Parquet."""
    read: Callable[[Path, Schema], pa.Table]
    """The columns of a schema, in its order and types."""
    stream: Callable[[Path, Schema], Iterator[pa.RecordBatch]]
    """The same some rows at a time, in bounded memory."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a stored file into CorruptStoreError, and an outage into StoreUnavailableError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        # for a file that is not what it should be, Arrow raises an OSError without a number, or a ValueError
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise unavailable(str(path), error) from error
        raise CorruptStoreError(
            f"stored file {path} cannot be read", found=(str(error).splitlines() or ["nothing"])[0]
        ) from error


def _all(table: pa.Table, schema: Schema, what: str) -> None:
    """Everything can be held."""


def _write_parquet(file: IO[bytes], table: pa.Table, schema: Schema, compression: str) -> None:
    # in one piece, so that how the rows were cut before does not show in the bytes
    tables.write_parquet(file, table.combine_chunks(), schema, compression=compression)


def _read_parquet(path: Path, schema: Schema) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(schema.names)).select(schema.names)


def _stream_parquet(path: Path, schema: Schema) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=list(schema.names)):
            yield batch.select(list(schema.names))


def _write_arrow(file: IO[bytes], table: pa.Table, schema: Schema, compression: str) -> None:
    del compression  # as it is, so that it can be mapped into memory
    with pa.ipc.new_file(file, arrow_schema(schema)) as writer:
        for start in range(0, table.num_rows, tables.ROW_GROUP):
            writer.write_table(table.slice(start, tables.ROW_GROUP).combine_chunks())


def _read_arrow(path: Path, schema: Schema) -> pa.Table:
    return pa.Table.from_batches(_stream_arrow(path, schema), arrow_schema(schema))


def _stream_arrow(path: Path, schema: Schema) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number).select(list(schema.names))


def _check_csv(table: pa.Table, schema: Schema, what: str) -> None:
    nested = [column.name for column in schema if column.dtype.kind in ("list", "struct")]
    if nested:
        raise UnsupportedError(
            f"{what}: CSV has no lists and structs", found=", ".join(nested), try_="format='parquet' or 'arrow'"
        )
    texts = (pc.max(pc.binary_length(table.column(c.name))).as_py() or 0 for c in schema if _is_text(c.dtype))
    # twice: for quotes that are doubled, and for binary, of which each byte is two letters
    longest = sum(2 * length for length in texts) + 64 * len(schema)
    if longest > _BLOCK:
        raise UnsupportedError(
            f"{what}: a row of CSV may have up to {_BLOCK >> 20} MiB",
            found=f"a row of up to {longest:,} bytes",
            try_="format='parquet' or 'arrow'",
        )


def _is_text(dtype: DataType) -> bool:
    return dtype.kind in ("string", "uuid", "binary")


def _write_csv(file: IO[bytes], table: pa.Table, schema: Schema, compression: str) -> None:
    del compression
    columns = [_to_csv(table.column(column.name), column.dtype) for column in schema]
    pyarrow.csv.write_csv(pa.table(columns, names=list(schema.names)), file)


def _read_csv(path: Path, schema: Schema) -> pa.Table:
    table = pyarrow.csv.read_csv(path, **_csv_options(schema))
    columns = [_from_csv(table.column(column.name), column.dtype) for column in schema]
    return pa.table(columns, schema=arrow_schema(schema))


def _stream_csv(path: Path, schema: Schema) -> Iterator[pa.RecordBatch]:
    with pyarrow.csv.open_csv(path, **_csv_options(schema)) as batches:
        for batch in batches:
            columns = [_from_csv(batch.column(column.name), column.dtype) for column in schema]
            yield pa.record_batch(columns, schema=arrow_schema(schema))


def _csv_options(schema: Schema) -> dict[str, Any]:
    """How a file is parsed of which the columns of a schema are wanted."""
    return {
        "read_options": pyarrow.csv.ReadOptions(block_size=_BLOCK),
        # an empty line is a row of one column without a value
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        "convert_options": pyarrow.csv.ConvertOptions(
            column_types={column.name: _csv_type(column.dtype) for column in schema},
            include_columns=list(schema.names),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }


def _csv_type(dtype: DataType) -> pa.DataType:
    """The type that a column is parsed as."""
    match dtype.kind:
        case "binary":
            return pa.large_string()
        case "duration":
            return pa.int64()
        case _:
            return arrow_type(dtype)


def _to_csv(values: pa.ChunkedArray, dtype: DataType) -> Any:
    """A column in a type that CSV has."""
    match dtype.kind:
        case "binary":
            return pl.Series(values).bin.encode("hex").to_arrow()
        case "duration":
            return values.cast(pa.int64())
        case _:
            return values


def _from_csv(values: Any, dtype: DataType) -> Any:
    """A parsed column in its canonical type."""
    match dtype.kind:
        case "binary":
            return pl.Series(values).str.decode("hex").to_arrow()
        case "duration":
            return values.cast(pa.duration("us"))
        case _:
            return values


FILE_FORMATS: Final = {
    "parquet": FileFormat("parquet", _all, _write_parquet, _read_parquet, _stream_parquet),
    "csv": FileFormat("csv", _check_csv, _write_csv, _read_csv, _stream_csv),
    "arrow": FileFormat("arrow", _all, _write_arrow, _read_arrow, _stream_arrow),
}
"""By `DatasetMeta.format`."""


def in_sizes(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of so many; the last has what is left. Copies only where two batches meet."""
    held: list[pa.RecordBatch] = []
    room = size
    for batch in batches:
        while batch.num_rows:
            held.append(batch.slice(0, room))
            batch = batch.slice(held[-1].num_rows)
            room -= held[-1].num_rows
            if room == 0:
                yield _joined(held)
                held, room = [], size
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
