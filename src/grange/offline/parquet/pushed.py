"""Pushed rows: append-only segments, a file per push, numbered on from `PUSHED_FROM`. They are never rewritten."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from grange.definitions.versioning import schema_hash
from grange.errors import CorruptStoreError, RequestError
from grange.offline.parquet import disk, layout, tables
from grange.offline.parquet.files import FilePath, Files, LocalFile
from grange.plan.nodes import Align, Between, Concat, Node, Scan
from grange.ports.offline import NEVER_MATERIALIZED, PUSHED_FROM, VersionMeta
from grange.types import DataType, Schema
from grange.types.names import SEQUENCE
from grange.types.schema import Column

_NOTE: Final = b"grange"


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one push."""

    path: FilePath
    first: int
    last: int
    digest: str = ""
    """How the SHA-256 of its bytes begins; empty in files of older releases."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment that can be read."""

    segment: Segment
    file: LocalFile

    @property
    def path(self) -> Path:
        """The file on the disk."""
        return self.file.path


def segments(files: Files, folder: FilePath, *, since: int = 0, until: int | None = None) -> tuple[Segment, ...]:
    """The segments with a row of `since <= sequence < until`, in sequence order; None is no end."""
    found = [(name, layout.parse_segment(name)) for name in files.added(folder)]
    listed = (Segment(folder / name, *parsed) for name, parsed in found if parsed is not None)
    chosen = (s for s in listed if s.last >= since and (until is None or s.first < until))
    return tuple(sorted(chosen, key=lambda segment: segment.first))


def opened(files: Files, listed: Iterable[Segment], *, fresh: bool = False) -> tuple[Opened, ...]:
    """Segments to be read.

    Raises:
        CorruptStoreError: one is gone, or is a copy with other bytes.
        StoreUnavailableError: one cannot be read.
    """
    wanted = list(listed)
    try:
        local = files.local([(segment.path, segment.digest) for segment in wanted], fresh=fresh)
    except FileNotFoundError as error:
        raise CorruptStoreError("pushed rows are gone", found=str(error)) from error
    return tuple(Opened(segment, file) for segment, file in zip(wanted, local, strict=True))


def reached(files: Files, file: FilePath) -> int:
    """The number that the next pushed row gets, as the last push noted it; `PUSHED_FROM` where none did, or the note
    cannot be read: then the segments alone tell."""
    try:
        return read_reached(files, file)
    except ValueError:
        return PUSHED_FROM


def read_reached(files: Files, file: FilePath) -> int:
    """`reached`.

    Raises:
        ValueError: the note cannot be read.
    """
    return _following(files.read_json(file))


def _following(noted: Mapping[str, Any] | None) -> int:
    following = PUSHED_FROM if noted is None else noted.get("next")
    if not isinstance(following, int) or isinstance(following, bool) or following < PUSHED_FROM:
        raise ValueError(f"{following!r} is no number of a pushed row")
    return following


def check_whole(listed: Sequence[Segment], *, group: str, since: int, until: int | None, reached: int) -> None:
    """Check that segments hold each row of `since <= sequence < until` once: a push that is gone is no shorter history.

    Args:
        listed: the segments.
        group: the feature group.
        since: inclusive.
        until: exclusive; None is all that were pushed.
        reached: the number after the last row that was ever pushed, as far as that is known; read before the segments
            were listed.

    Raises:
        RequestError: `until` is before `since`, or beyond the last row that was pushed.
        CorruptStoreError: rows in between are missing, or there twice.
    """
    if until is not None and until < since:
        raise RequestError(
            f"feature group {group!r}: pushed_until={until} is before what the version contains",
            found=f"the version contains pushed rows below {since}",
        )
    after = since
    for segment in listed:
        if segment.first > after or (segment.first < after and after != since):
            raise _not_there_once(group, after, segment.first, str(segment.path))
        after = segment.last + 1
    end = reached if until is None else min(until, reached)
    if after < end:
        raise _not_there_once(group, after, end, "no file of them")
    if until is not None and after < until:
        raise RequestError(
            f"feature group {group!r}: pushed_until={until} is beyond what was pushed",
            found=f"the next pushed row gets {after}",
        )


def _not_there_once(group: str, after: int, first: int, found: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"feature group {group!r}: pushed rows {min(after, first)} to {max(after, first) - 1} are not there just once",
        found=found,
        try_=f"grange verify {group}; grange materialize {group} makes a version of the rows that are there",
        details={"group": group},
    )


def write(
    files: Files, folder: FilePath, draft: VersionMeta, table: pa.Table, first: int, *, note: FilePath, compression: str
) -> None:
    """Store rows as the segment that starts at `first`; it appears whole.

    Then `note` says how far numbers went, so that one is never given out twice, whatever becomes of the segments. It
    is written before the segment appears: a full disk is found out while nothing has changed. It is not flushed to the
    device, which would make every push wait twice: a loss of power can take the newest note, and then the segments,
    which it cannot take, say how far numbers went.
    """
    last = first + table.num_rows - 1
    what = f"feature group {draft.name!r}"
    start, end = tables.event_range(table, draft.event_time, what=what)
    about = draft.with_(
        version=NEVER_MATERIALIZED,
        row_count=table.num_rows,
        min_event_time=start,
        max_event_time=end,
        files=(),
        feature_rows=0,
        feature_files=(),
        code="",  # versions keep it: every push would repeat it
    )
    numbered = table.append_column(SEQUENCE, pa.array(range(first, last + 1), pa.int64()))
    noted = numbered.replace_schema_metadata({_NOTE: json.dumps(about.to_dict()).encode()})

    def fill(file: IO[bytes]) -> None:
        tables.write_parquet(file, noted, draft.schema, compression=compression)

    def further(noted: Mapping[str, Any] | None) -> dict[str, int]:
        """Numbers never go back."""
        try:
            return {"next": max(_following(noted), last + 1)}
        except ValueError:
            return {"next": last + 1}

    with files.writing(str(folder)):
        staged = files.stage_change(note, further, flush=False)
        try:
            name = functools.partial(layout.segment_name, first, last)
            files.add(folder, fill, name, slot=layout.segment_slot(first))
            staged.commit()
        finally:
            staged.discard()


def note(opened: Opened) -> VersionMeta:
    """What is known of a segment's rows: their columns, keys, times and how many there are.

    Raises:
        CorruptStoreError: the segment cannot be read, or is not what its name says.
    """
    try:
        stat = opened.path.stat()
    except FileNotFoundError as error:
        raise CorruptStoreError(f"pushed rows {opened.segment.path} are gone") from error
    except OSError as error:
        raise disk.unavailable(str(opened.segment.path), error) from error
    return _read_note(opened.segment, opened.path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read_note(segment: Segment, path: Path, size: int, changed: int) -> VersionMeta:
    """`note`, once per file: size and time of change tell one file from another of the same name."""
    footer, rows = tables.read_note(path)
    if rows != segment.rows:
        raise CorruptStoreError(f"pushed rows {segment.path}: {segment.rows} by name", found=f"{rows} rows")
    try:
        return VersionMeta.from_dict(json.loads(footer[_NOTE]))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(f"pushed rows {segment.path} do not say what they are", found=repr(error)) from error


def check(listed: Sequence[Opened], *, group: str, most: int) -> None:
    """Check the bytes of segments against their hashes, once per file; only where all have at most so many bytes.

    Raises:
        CorruptStoreError: some are not those that were written, or a file cannot be read.
    """
    try:
        stats = [(each, each.path.stat()) for each in listed]
    except FileNotFoundError as error:
        raise _damaged(group, str(error)) from error
    except OSError as error:
        raise disk.unavailable(f"pushed rows of {group!r}", error) from error
    if sum(stat.st_size for _, stat in stats) > most:
        return
    try:
        for each, stat in stats:
            _check_once(each.segment, each.path, stat.st_size, stat.st_mtime_ns)
    except CorruptStoreError as error:
        raise _damaged(group, f"{error.message}: {error.found}") from error


@functools.lru_cache(maxsize=1 << 16)
def _check_once(segment: Segment, path: Path, size: int, changed: int) -> None:
    """`check_bytes`, once per file: size and time of change tell one file from another of the same name."""
    check_bytes(segment, path)


def check_bytes(segment: Segment, path: Path) -> None:
    """Check the bytes of a segment's file against its hash; one without against the checksums of its pages.

    Raises:
        CorruptStoreError: they are not those that were written.
        StoreUnavailableError: the file cannot be read.
    """
    if not segment.digest:
        tables.read_parquet(path)
        return
    try:
        found = disk.sha256(path)
    except FileNotFoundError as error:
        raise CorruptStoreError(f"pushed rows {segment.path} are gone") from error
    except OSError as error:
        raise disk.unavailable(str(segment.path), error) from error
    if not found.startswith(segment.digest):
        raise CorruptStoreError(
            f"pushed rows {segment.path} have other bytes than were written",
            found=f"SHA-256 {found[: len(segment.digest)]}",
        )


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


def pieces(listed: Iterable[Opened], *, group: str, since: int = 0, until: int | None = None) -> tuple[Piece, ...]:
    """The rows of segments with `since <= sequence < until`, neighbours of equal columns in one scan."""

    def bounds(segment: Segment) -> tuple[int | None, int | None]:
        """Where a version, or what is asked for, ends in the middle of a push."""
        beyond = until is not None and segment.last >= until
        return since if segment.first < since else None, until if beyond else None

    made: list[Piece] = []
    for (_, (start, end)), run in itertools.groupby(
        listed, lambda each: (_columns(note(each).schema), bounds(each.segment))
    ):
        same = list(run)
        schema = note(same[0]).schema
        node: Node = scan([each.file for each in same], schema, group=group, ordered=False)
        whole = start is None and end is None
        made.append(Piece(schema, node if whole else Between(node, SEQUENCE, start, end)))
    return tuple(made)


def _columns(schema: Schema) -> tuple[tuple[str, DataType], ...]:
    return tuple((column.name, column.dtype) for column in schema)


def scan(files: Sequence[LocalFile], schema: Schema, *, group: str, ordered: bool, sequence: bool = True) -> Scan:
    """Stored files; what Parquet has no type for is said in the scan's schema. Feature rows have no sequence."""
    untyped = tuple(Column(column.name, column.dtype) for column in schema if _has_duration(column.dtype))
    return Scan(
        files=tuple(file.text for file in files),
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


def alone(listed: Sequence[Opened], *, until: int) -> VersionMeta:
    """What is known of pushed rows of `sequence < until` without a version: the newest push, and all rows counted."""
    notes = [note(each) for each in listed]
    starts = [n.min_event_time for n in notes if n.min_event_time is not None]
    ends = [n.max_event_time for n in notes if n.max_event_time is not None]
    newest = notes[-1].with_(schema=union(n.schema for n in notes))
    return newest.with_(
        schema_hash=schema_hash(newest.outputs),
        row_count=sum(min(each.segment.last + 1, until) - each.segment.first for each in listed),
        min_event_time=min(starts, default=None),
        max_event_time=max(ends, default=None),
        size_bytes=sum(each.path.stat().st_size for each in listed),
    )
