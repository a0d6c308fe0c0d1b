"""Pushed rows: append-only segments, a file per push, numbered on from `PUSHED_FROM`. They are never rewritten."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from grange.definitions.transforms import PythonTransform
from grange.definitions.versioning import schema_hash
from grange.errors import CorruptStoreError
from grange.offline.parquet import disk, layout, tables
from grange.plan.nodes import Apply, Between, Concat, Node, Scan
from grange.ports.offline import VersionMeta
from grange.types import DataType, Schema
from grange.types.arrow import arrow_type, conform_column
from grange.types.names import SEQUENCE
from grange.types.schema import Column

NEVER_MATERIALIZED: Final = "0.0.0"
"""The version of a group that holds pushed rows alone."""
_NOTE: Final = b"grange"


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one push."""

    path: Path
    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.last - self.first + 1


def segments(folder: Path, *, since: int = 0) -> tuple[Segment, ...]:
    """The segments with a row of sequence `since` or later, in sequence order."""
    found = [(name, layout.parse_segment(name)) for name in disk.names(folder)]
    listed = (Segment(folder / name, *ends) for name, ends in found if ends is not None)
    return tuple(sorted((s for s in listed if s.last >= since), key=lambda segment: segment.first))


def write(folder: Path, draft: VersionMeta, table: pa.Table, first: int, *, compression: str) -> None:
    """Store rows as the segment that starts at `first`; it appears whole."""
    last = first + table.num_rows - 1
    what = f"feature group {draft.name!r}"
    start, end = tables.event_range(table, draft.event_time, what=what)
    note = draft.with_(
        version=NEVER_MATERIALIZED, row_count=table.num_rows, min_event_time=start, max_event_time=end, files=()
    )
    numbered = table.append_column(SEQUENCE, pa.array(range(first, last + 1), pa.int64()))
    noted = numbered.replace_schema_metadata({_NOTE: json.dumps(note.to_dict()).encode()})

    def fill(file: IO[bytes]) -> None:
        tables.write_parquet(file, noted, draft.schema, compression=compression)

    with disk.writing(str(folder)):
        disk.make_folder(folder)
        disk.put_file(folder / layout.segment_name(first, last), fill)


def note(segment: Segment) -> VersionMeta:
    """What is known of a segment's rows: their columns, keys, times and how many there are.

    Raises:
        CorruptStoreError: the segment cannot be read, or is not what its name says.
    """
    try:
        stat = segment.path.stat()
    except FileNotFoundError as error:
        raise CorruptStoreError(f"pushed rows {segment.path} are gone") from error
    except OSError as error:
        raise disk.unavailable(str(segment.path), error) from error
    return _read_note(segment, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read_note(segment: Segment, size: int, changed: int) -> VersionMeta:
    """`note`, once per file: size and time of change tell one file from another of the same name."""
    footer, rows = tables.read_note(segment.path)
    if rows != segment.rows:
        raise CorruptStoreError(f"pushed rows {segment.path}: {segment.rows} by name", found=f"{rows} rows")
    try:
        return VersionMeta.from_dict(json.loads(footer[_NOTE]))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(f"pushed rows {segment.path} do not say what they are", found=repr(error)) from error


@dataclass(frozen=True, slots=True)
class Piece:
    """A node whose rows all have the columns of one schema, and the sequence."""

    schema: Schema
    node: Node


def pieces(listed: Iterable[Segment], *, since: int = 0) -> tuple[Piece, ...]:
    """The rows of segments from sequence `since` on, neighbours of equal columns in one scan."""
    made: list[Piece] = []
    for (_, cut), run in itertools.groupby(listed, lambda s: (_columns(note(s).schema), s.first < since)):
        same = list(run)
        schema = note(same[0]).schema
        node: Node = scan([segment.path for segment in same], schema, ordered=False)
        # a version may end in the middle of a push
        made.append(Piece(schema, Between(node, SEQUENCE, since, None) if cut else node))
    return tuple(made)


def _columns(schema: Schema) -> tuple[tuple[str, DataType], ...]:
    return tuple((column.name, column.dtype) for column in schema)


def scan(files: Sequence[Path], schema: Schema, *, ordered: bool) -> Scan:
    """Stored files; what Parquet has no type for is said in the scan's schema."""
    untyped = tuple(Column(column.name, column.dtype) for column in schema if _has_duration(column.dtype))
    return Scan(
        files=tuple(str(file) for file in files),
        format="parquet",
        schema=Schema(untyped),
        columns=(*schema.names, SEQUENCE),
        ordered=ordered,
    )


def _has_duration(dtype: DataType) -> bool:
    inner = [*([dtype.item] if dtype.item else []), *(field for _, field in dtype.fields)]
    return dtype.kind == "duration" or any(_has_duration(part) for part in inner)


def union(schemas: Iterable[Schema]) -> Schema:
    """The columns of all, in the order they came up; the newest (last) schema decides a column's type."""
    columns: dict[str, Column] = {}
    for schema in schemas:
        for column in schema:
            columns[column.name] = column
    return Schema(tuple(columns.values()))


def together(parts: Sequence[Piece], schema: Schema, *, group: str) -> Node:
    """The rows of all pieces with the columns of `schema`; a column that a piece lacks is null there."""
    nodes = tuple(_aligned(piece, schema, group) for piece in parts)
    return nodes[0] if len(nodes) == 1 else Concat(nodes)


def _aligned(piece: Piece, schema: Schema, group: str) -> Node:
    if _columns(piece.schema) == _columns(schema):
        return piece.node
    align = PythonTransform(
        name="align",
        module=__name__,
        source_text="",
        code_hash=schema_hash(schema),
        frame="arrow",
        function=Align(schema, f"feature group {group!r}"),
    )
    return Apply(piece.node, align, group)


@dataclass(frozen=True, slots=True)
class Align:
    """Gives stored rows of older columns the columns of a newer schema: what they lack is null, types are cast.

    Called with an Arrow table that has a sequence column. ColumnTypeError when a value does not fit the newer type.
    """

    schema: Schema
    what: str

    def __call__(self, table: pa.Table) -> pa.Table:
        columns = {column.name: self._column(table, column) for column in self.schema}
        return pa.table({**columns, SEQUENCE: table.column(SEQUENCE)})

    def _column(self, table: pa.Table, column: Column) -> pa.ChunkedArray:
        if column.name in table.column_names:
            return conform_column(table.column(column.name), column, what=self.what)
        return pa.chunked_array([pa.nulls(table.num_rows, arrow_type(column.dtype))])


def alone(listed: Sequence[Segment]) -> VersionMeta:
    """What is known of a group that was pushed to and never materialized: the newest push, and all rows counted."""
    notes = [note(segment) for segment in listed]
    starts = [n.min_event_time for n in notes if n.min_event_time is not None]
    ends = [n.max_event_time for n in notes if n.max_event_time is not None]
    schema = union(n.schema for n in notes)
    return notes[-1].with_(
        schema=schema,
        schema_hash=schema_hash(schema),
        row_count=sum(segment.rows for segment in listed),
        min_event_time=min(starts, default=None),
        max_event_time=max(ends, default=None),
        size_bytes=sum(segment.path.stat().st_size for segment in listed),
    )
