"""Files of exports: Parquet, CSV and Arrow, written batch by batch, and what is known of each."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from grange.errors import UnsupportedError
from grange.types.time import ALWAYS_MICROS, from_micros
from grange.verbs.export.destinations import Format

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP: Final = 128 * 1024
"""Rows of a row group: what a reader holds at once."""
ROWS_PER_FILE: Final = 5_000_000
"""At most, of a folder's files."""

Put = Callable[["pa.Table"], None]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of an export."""

    name: str
    rows: int
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExportedFile:
        """The inverse of `to_dict`."""
        return cls(data["name"], data["rows"], data["bytes"], data["sha256"])


@dataclass(slots=True)
class TimeRange:
    """The first and the last event time of tables that pass by."""

    column: str | None
    """The column of event times; None for rows that have no time of their own."""
    low: int | None = None
    high: int | None = None

    def watch(self, table: pa.Table) -> None:
        """Take in one more table."""
        if self.column is None or not table.num_rows:
            return
        import pyarrow as pa
        import pyarrow.compute as pc

        ends = pc.min_max(table.column(self.column).cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
        low, high = ends["min"].as_py(), ends["max"].as_py()
        if low is not None:
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    @property
    def ends(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        """Both, inclusive; None where no row has a time."""
        if self.low is None or self.high is None or self.high <= ALWAYS_MICROS:
            return None, None
        return from_micros(max(self.low, ALWAYS_MICROS)), from_micros(self.high)


def write_files(
    tables: Iterable[pa.Table],
    folder: Path,
    names: Callable[[int], str],
    *,
    format: Format,
    compression: str,
    rows_per_file: int | None,
) -> tuple[ExportedFile, ...]:
    """Write tables of one schema into files of a folder, each on the device when the next begins.

    Args:
        tables: at least one; it says the columns.
        folder: where; it is there.
        names: from a file's number, from 1, to its name.
        format: of the files.
        compression: of the format.
        rows_per_file: at most; None puts all in one file.

    Raises:
        UnsupportedError: CSV cannot hold a column.
        OSError: the disk.
    """
    written: list[ExportedFile] = []
    pieces = _pieces(iter(tables), rows_per_file)
    for number, piece in enumerate(pieces, start=1):
        path = folder / names(number)
        rows = 0
        first = next(piece)
        with _writer(path, first.schema, format, compression) as put:
            put(first)
            rows += first.num_rows
            for table in piece:
                put(table)
                rows += table.num_rows
        written.append(_described(path, rows))
    return tuple(written)


def _pieces(tables: Iterator[pa.Table], most: int | None) -> Iterator[Iterator[pa.Table]]:
    """The tables of each file, cut where one is full. Each is read to its end before the next is asked for."""
    rest: list[pa.Table] = []

    def piece(table: pa.Table) -> Iterator[pa.Table]:
        room = most
        while True:
            if room is not None and table.num_rows > room:
                rest.append(table.slice(room))
                yield table.slice(0, room)
                return
            yield table
            room = None if room is None else room - table.num_rows
            following = next(tables, None)
            if following is None:
                return
            if room == 0:
                rest.append(following)
                return
            table = following

    yield piece(next(tables))
    while rest:
        yield piece(rest.pop())


@contextmanager
def _writer(path: Path, schema: pa.Schema, format: Format, compression: str) -> Iterator[Put]:
    match format:
        case "parquet":
            import pyarrow.parquet as pq

            repeating = [column.name for column in schema if _repeats(column.type)]
            options = {"compression": compression, "use_dictionary": repeating, "write_page_checksum": True}
            with pq.ParquetWriter(path, schema, **options) as parquet:
                yield lambda table: parquet.write_table(table, row_group_size=ROW_GROUP)
        case "arrow":
            import pyarrow as pa

            how = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
            with pa.ipc.new_file(path, schema, options=how) as stream:
                yield lambda table: stream.write_table(table, max_chunksize=ROW_GROUP)
        case "csv":
            import pyarrow.csv

            _refuse_nested(schema)
            with _opened(path, compression) as file, pyarrow.csv.CSVWriter(file, schema) as text:
                yield lambda table: text.write_table(_without_blank_lines(table))


def _repeats(dtype: pa.DataType) -> bool:
    """Whether values repeat enough for a dictionary; making one for every number costs more than writing it."""
    import pyarrow as pa

    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_dictionary(dtype))


@contextmanager
def _opened(path: Path, compression: str) -> Iterator[IO[bytes]]:
    """A file to write text into."""
    with path.open("xb") as file:
        if compression != "gzip":
            yield file
            return
        # with neither name nor time in it, so that equal rows make equal files
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
            yield zipped  # type: ignore[misc]


def _refuse_nested(schema: pa.Schema) -> None:
    """Refuse columns that lines of text cannot hold.

    Raises:
        UnsupportedError: names the first.
    """
    import pyarrow as pa

    for column in schema:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            raise UnsupportedError(
                f"CSV cannot hold column {column.name!r}, which is of type {column.type}",
                try_='format="parquet", or other columns',
            )


def _without_blank_lines(table: pa.Table) -> pa.Table:
    """The table, of which no row may be an empty line: readers of CSV take those for none.

    Raises:
        UnsupportedError: the only column has nulls.
    """
    if table.num_columns == 1 and table.column(0).null_count:
        raise UnsupportedError(
            f"CSV cannot hold column {table.column_names[0]!r} alone: a null would be an empty line, which is no row",
            try_='format="parquet", or one more column',
        )
    return table


def _described(path: Path, rows: int) -> ExportedFile:
    """What is known of a file; it is on the device when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(path.name, rows, path.stat().st_size, digest)


def digest_of(files: Iterable[ExportedFile]) -> str:
    """The SHA-256 of an export: of its file, or of the hashes of its files in order, a line each."""
    hashes = [file.sha256 for file in files]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()


__all__ = ["ROWS_PER_FILE", "ExportedFile", "TimeRange", "digest_of", "write_files"]
