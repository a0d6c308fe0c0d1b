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

from grange.definitions.versioning import schema_hash
from grange.errors import CorruptStoreError
from grange.offline.parquet import disk, layout, tables
from grange.plan.nodes import Align, Between, Concat, Node, Scan
from grange.ports.offline import VersionMeta
from grange.types import DataType, Schema
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
        version=NEVER_MATERIALIZED,
        row_count=table.num_rows,
        min_event_time=start,
        max_event_time=end,
        files=(),
        feature_rows=0,
        feature_files=(),
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


def check(listed: Sequence[Segment], *, group: str, most: int) -> None:
    """Check the pages of segments against their checksums, once per file; only where all have at most so many bytes.

    Raises:
        CorruptStoreError: a page does not match, or a file cannot be read.
    """
    try:
        stats = [(segment.path, segment.path.stat()) for segment in listed]
    except FileNotFoundError as error:
        raise _damaged(group, str(error)) from error
    except OSError as error:
        raise disk.unavailable(f"pushed rows of {group!r}", error) from error
    if sum(stat.st_size for _, stat in stats) > most:
        return
    try:
        for path, stat in stats:
            _check_pages(path, stat.st_size, stat.st_mtime_ns)
    except CorruptStoreError as error:
        raise _damaged(group, f"{error.message}: {error.found}") from error


@functools.lru_cache(maxsize=1 << 16)
def _check_pages(path: Path, size: int, changed: int) -> None:
    """Read a file, once: size and time of change tell one file from another of the same name."""
    tables.read_parquet(path)


def _damaged(group: str, found: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"feature group {group!r}: pushed rows are damaged",
        found=found,
        try_=f"grange verify {group}",
        details={"group": group},
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A node whose rows all have the columns of one schema, and the sequence."""

    schema: Schema
    node: Node


def pieces(listed: Iterable[Segment], *, group: str, since: int = 0) -> tuple[Piece, ...]:
    """The rows of segments from sequence `since` on, neighbours of equal columns in one scan."""
    made: list[Piece] = []
    for (_, cut), run in itertools.groupby(listed, lambda s: (_columns(note(s).schema), s.first < since)):
        same = list(run)
        schema = note(same[0]).schema
        node: Node = scan([segment.path for segment in same], schema, group=group, ordered=False)
        # a version may end in the middle of a push
        made.append(Piece(schema, Between(node, SEQUENCE, since, None) if cut else node))
    return tuple(made)


def _columns(schema: Schema) -> tuple[tuple[str, DataType], ...]:
    return tuple((column.name, column.dtype) for column in schema)


def scan(files: Sequence[Path], schema: Schema, *, group: str, ordered: bool, sequence: bool = True) -> Scan:
    """Stored files; what Parquet has no type for is said in the scan's schema. Feature rows have no sequence."""
    untyped = tuple(Column(column.name, column.dtype) for column in schema if _has_duration(column.dtype))
    return Scan(
        files=tuple(str(file) for file in files),
        format="parquet",
        schema=Schema(untyped),
        columns=(*schema.names, SEQUENCE) if sequence else schema.names,
        ordered=ordered,
        stored=group,
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
    return Align(piece.node, schema, group)


def alone(listed: Sequence[Segment]) -> VersionMeta:
    """What is known of a group that was pushed to and never materialized: the newest push, and all rows counted."""
    notes = [note(segment) for segment in listed]
    starts = [n.min_event_time for n in notes if n.min_event_time is not None]
    ends = [n.max_event_time for n in notes if n.max_event_time is not None]
    newest = notes[-1].with_(schema=union(n.schema for n in notes))
    return newest.with_(
        schema_hash=schema_hash(newest.outputs),
        row_count=sum(segment.rows for segment in listed),
        min_event_time=min(starts, default=None),
        max_event_time=max(ends, default=None),
        size_bytes=sum(segment.path.stat().st_size for segment in listed),
    )
