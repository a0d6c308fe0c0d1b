"""Parquet files from strangers: what they unpack to is known before anything is unpacked.

Each page says in its header how long it is unpacked, how many values it has and how they are written. The headers are
read here from the bytes as they came, since what the footer says of them may be untrue. They are read once: columns
that lie upon one another are refused, so that this takes as long as the file is. Columns whose pages name their values
by number stay that way until the length of the values is known: a megabyte that a page names a million times is one
megabyte there, and a terabyte as rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grange.errors import RequestError, TooLargeError
from grange.http.unpacking import check_columns, check_written_out, too_large

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MOST_CHUNKS: Final = 20_000
"""Columns times row groups: each costs a look, whatever is in it."""
_MOST_READ: Final = 8_000_000
"""Bytes of the footer and all page headers, without the texts in them: each costs a step."""
_MOST_FIELD: Final = 100
"""The number of a field; footers and page headers have a dozen."""
_SHARED_PREFIXES: Final = 7
"""The encoding that says of each value how much of the one before it begins with: it has no bound but its own word."""
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 8}
"""Bytes that a value takes at least, by its physical type."""
_OLD_WRITER: Final = re.compile(r"parquet-mr(?! version (?:[2-9]|\d{2}|1\.(?:[3-9]|\d{2}|2\.(?:9|\d{2}))))")
"""Writers that told the length of their columns wrong, for whose sake Arrow reads beyond it."""


def read_table(body: bytes, *, max_rows: int, max_bytes: int) -> pa.Table:
    """The table of a Parquet file.

    Args:
        body: the file.
        max_rows: rows at most.
        max_bytes: bytes at most that it may unpack to.

    Raises:
        RequestError: it is no such file.
        TooLargeError: it is too large.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        limits = {"thrift_string_size_limit": len(body) + 1, "thrift_container_size_limit": 1_000_000}
        file = pq.ParquetFile(pa.BufferReader(body), **limits)
        meta = file.metadata
        _check_shape(meta)
        rows, size = unpacked_size(body, meta.schema, meta.num_columns)
        if max(rows, meta.num_rows) > max_rows:
            raise TooLargeError(
                f"a file may have {max_rows:,} rows", found=f"{max(rows, meta.num_rows):,}", details={"limit": max_rows}
            )
        if size > max_bytes:
            raise too_large(size, max_bytes)
        paths = [meta.schema.column(place).path for place in range(meta.num_columns)]
        named = pq.ParquetFile(pa.BufferReader(body), read_dictionary=paths, **limits)
        return _dense(named.read(use_threads=False), file.schema_arrow, max_bytes)
    except (pa.ArrowException, OSError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, RequestError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError("the body is no Parquet file that can be read", found=reason[:200]) from error


def _check_shape(meta: pq.FileMetaData) -> None:
    """Check what the footer says at the first look."""
    check_columns(meta.num_columns)
    if max(1, meta.num_columns) * meta.num_row_groups > _MOST_CHUNKS:
        raise TooLargeError(
            f"a file may have {_MOST_CHUNKS:,} columns, counted once for each row group",
            found=f"{meta.num_columns:,} in {meta.num_row_groups:,} row groups",
            try_="write it with larger row groups",
        )
    if _OLD_WRITER.match(" ".join((meta.created_by or "").lower().split())):
        raise RequestError("files of parquet-mr before 1.2.9 are not taken", found=meta.created_by)


def _dense(table: pa.Table, schema: pa.Schema, max_bytes: int) -> pa.Table:
    """A table without dictionaries, unless it would be too large."""
    import pyarrow as pa

    check_written_out(table, max_bytes)
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in schema
    ]
    dense = table.cast(pa.schema(fields))
    dense.validate(full=True)
    return dense


def unpacked_size(body: bytes, schema: pq.ParquetSchema, columns: int) -> tuple[int, int]:
    """(rows, bytes) that all pages come to, by what their own headers say. Takes as long as the file is.

    The footer is read here too: where it is damaged, Arrow's own view of a single column ends the process.

    Raises:
        ValueError, IndexError: a footer or header that is none; columns outside their file, or upon one another.
        RequestError: a page that is written in a way whose size cannot be told.
    """
    rows, size, unread, read = 0, 0, len(body), _Thrift(body)
    widths = [_width(schema.column(place)) for place in range(columns)]
    for group in read.footer():
        if len(group.columns) != columns:
            raise ValueError("a row group without some of the columns")
        rows += group.rows
        for column, width in zip(group.columns, widths, strict=True):
            start = min(column.data, column.dictionary) if column.dictionary > 0 else column.data
            end = start + column.packed
            if not 0 <= start <= end <= len(body):
                raise ValueError("a column outside its file")
            unread -= end - start
            if unread < 0:
                raise ValueError("columns that lie upon one another")
            unpacked, values = _pages(read, start, end, width)
            size += max(unpacked, width * max(values, column.values, group.rows))
    return rows, size


def _width(column: pq.ColumnSchema) -> int:
    """Bytes that a value of a column takes at least."""
    return _WIDTHS.get(column.physical_type) or max(1, column.length)


def _pages(headers: _Thrift, place: int, end: int, width: int) -> tuple[int, int]:
    """(bytes unpacked, values) of the pages of a column."""
    size = values = 0
    while place < end:
        page = headers.page(place, end)
        if page.unpacked < 0 or page.packed < 0:
            raise ValueError("a page of negative length")
        # values that a dictionary names are written out; a dictionary itself is counted by its bytes
        size += max(page.unpacked, width * page.values)
        values += page.values
        place = page.start + page.packed
    return size, values


@dataclass(slots=True)
class _Column:
    """What the footer says of a column in a row group."""

    values: int = 0
    packed: int = -1
    data: int = -1
    dictionary: int = 0


@dataclass(slots=True)
class _RowGroup:
    """What the footer says of a row group."""

    columns: list[_Column]
    rows: int = -1


@dataclass(slots=True)
class _Page:
    """What the header of a page says."""

    unpacked: int = -1
    packed: int = -1
    values: int = 0
    start: int = 0
    """Where the page itself begins, behind its header."""


class _Thrift:
    """Reads structures of Thrift's compact protocol, as far as footers and page headers need it.

    Whatever it reads or leaves out takes at least one of the bytes that all of them may have, or is jumped over at
    once. What another reader might see otherwise is refused: numbers that it would cut off, fields that come twice.
    """

    __slots__ = ("_body", "_end", "_left", "_place")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._place = self._end = 0
        self._left = _MOST_READ

    def footer(self) -> list[_RowGroup]:
        """The row groups of the file."""
        if len(self._body) < 12 or self._body[-4:] != b"PAR1":
            raise ValueError("a file that does not end as one")
        self._end = len(self._body) - 8
        self._place = self._end - int.from_bytes(self._body[-8:-4], "little")
        if self._place < 4:
            raise ValueError("a footer that is longer than its file")
        groups: list[_RowGroup] = []
        for field, kind in self._fields():
            if (field, kind) == (4, 9):
                groups = [self._row_group() for _ in self._items()]
            else:
                self._skip(kind)
        return groups

    def _row_group(self) -> _RowGroup:
        group = _RowGroup([])
        for field, kind in self._fields():
            match field, kind:
                case 1, 9:
                    group.columns = [self._chunk() for _ in self._items()]
                case 3, 6:
                    group.rows = self._long()
                case _:
                    self._skip(kind)
        if group.rows < 0:
            raise ValueError("a row group of negative length")
        return group

    def _chunk(self) -> _Column:
        found = _Column()
        for field, kind in self._fields():
            if (field, kind) == (3, 12):
                found = self._column()
            elif field == 1:
                raise ValueError("a column in another file")
            else:
                self._skip(kind)
        return found

    def _column(self) -> _Column:
        found = _Column()
        for field, kind in self._fields():
            match field, kind:
                case 5, 6:
                    found.values = self._long()
                case 7, 6:
                    found.packed = self._long()
                case 9, 6:
                    found.data = self._long()
                case 11, 6:
                    found.dictionary = self._long()
                case _:
                    self._skip(kind)
        return found

    def _items(self) -> Iterator[None]:
        """A turn for each structure of a list."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if head & 0x0F != 12 and count:
            raise ValueError("a list of something else than structures")
        for _ in range(count):
            yield None

    def page(self, place: int, end: int) -> _Page:
        """The header of the page that begins at `place`, in a column that ends at `end`."""
        self._place, self._end = place, end
        page = _Page()
        for field, kind in self._fields():
            match field, kind:
                case 2, 5:
                    page.unpacked = self._integer()
                case 3, 5:
                    page.packed = self._integer()
                case ((5 | 7 | 8), 12):
                    page.values = max(page.values, self._values(encoding=4 if field == 8 else 2))
                case _:
                    self._skip(kind)
        page.start = self._place
        return page

    def _values(self, *, encoding: int) -> int:
        """How many values a page has, from the header of its kind: data, a dictionary, data of the second version."""
        values = 0
        for field, kind in self._fields():
            if (field, kind) == (1, 5):
                values = max(values, self._integer())
            elif (field, kind) == (encoding, 5):
                if self._integer() == _SHARED_PREFIXES:
                    raise RequestError(
                        "pages in the encoding DELTA_BYTE_ARRAY are not taken", try_="write the file with plain texts"
                    )
            else:
                self._skip(kind)
        return values

    def _fields(self) -> Iterator[tuple[int, int]]:
        """(number, type) of the fields of a structure; each is to be read before the next."""
        field = 0
        while (head := self._byte()) & 0x0F:
            before, field = field, field + (head >> 4) if head >> 4 else self._integer()
            if not before < field <= _MOST_FIELD:
                raise ValueError("a field twice, or one that there is none of")
            yield field, head & 0x0F

    def _byte(self) -> int:
        if not self._left:
            raise ValueError("page headers that are too long")
        self._left -= 1
        self._jump(1)
        return self._body[self._place - 1]

    def _jump(self, count: int) -> None:
        if count > self._end - self._place:
            raise ValueError("a page header that goes on behind its column")
        self._place += count

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("an integer that is too long")

    def _integer(self) -> int:
        """A zigzag integer of 32 bits."""
        value = self._long()
        if not -(1 << 31) <= value < 1 << 31:
            raise ValueError("an integer that is too long")
        return value

    def _long(self) -> int:
        """A zigzag integer of 64 bits."""
        value = self._varint()
        if value >> 64:
            raise ValueError("an integer that is too long")
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int = 0) -> None:
        """Leave out the value of a field."""
        if depth > 8:
            raise ValueError("a footer or header that is nested too deeply")
        match kind:
            case 1 | 2:
                return
            case 3:
                self._jump(1)
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self._jump(8)
            case 8:
                self._jump(self._varint())
            case 9 | 10:
                self._skip_list(depth)
            case 12:
                for _, inner in self._fields():
                    self._skip(inner, depth + 1)
            case _:
                raise ValueError("a field of a type that page headers do not have")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        kind, count = head & 0x0F, head >> 4 if head >> 4 < 15 else self._varint()
        fixed = {1: 1, 2: 1, 3: 1, 7: 8}.get(kind)
        if fixed is not None:
            self._jump(fixed * count)
            return
        for _ in range(count):
            self._skip(kind, depth + 1)
