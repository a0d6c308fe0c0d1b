"""The `lmdb` online store. How rows lie in it: `records`; how it is opened and shared: `environment`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import filelock
import msgspec

from grange.errors import ConflictError, CorruptStoreError, StorageFullError, StoreUnavailableError
from grange.online.lmdb import environment
from grange.online.lmdb.building import Builder, created_times, discard_build, keep_long_keys
from grange.online.lmdb.cells import CELLS, LIKE_OURS, GroupCells, NoCells, StoredCells, VisitError
from grange.online.lmdb.records import (
    LAYOUTS,
    LONG_KEYS,
    LONGEST_KEY,
    SPACES,
    CellsRecord,
    GroupRecord,
    RowHead,
    SpaceRecord,
    cells_pointer_key,
    cells_record_key,
    database_name,
    decode,
    decode_cells,
    decode_head,
    decode_layout,
    decode_raw,
    decode_space,
    encode,
    entity_key,
    is_digest,
    layout_key,
    pointer_key,
    space_key,
    stored_keys,
)
from grange.ports.online import Cells, GroupInfo, OnlineBatch, StoredRow, WritableCells, check_limit

T = TypeVar("T")


@dataclass(slots=True)
class Space:
    """What a process remembers of a key space: only what never changes."""

    name: str
    number: int
    databases: tuple[Any, Any]
    pointer: bytes
    cells: Any
    """The handle of the cells of all key spaces."""
    groups: dict[str, int] = field(default_factory=dict)
    cell_pointers: dict[str, bytes] = field(default_factory=dict)
    """Per group, where the set of its cells that is read is named."""

    def learn(self, record: SpaceRecord) -> None:
        """Remember the groups of its record."""
        for group, held in record.groups.items():
            self.groups[group] = held.number
            self.cell_pointers[group] = cells_pointer_key(self.number, held.number)


class LmdbOnlineStore:
    """Rows and cells in an LMDB environment. Safe for threads, for processes of one machine, and over a fork.

    Args:
        path: folder of the environment; made when missing.
        map_size: bytes of address space to start with; no disk is taken before rows are written.
        max_size: bytes it may grow to; None is no limit but the disk.
        lock_timeout: seconds that `load` and `drop` wait for another load of the same key space, `load_cells` and
            `drop` for one of the same group.

    Raises:
        CorruptStoreError: what lies at `path` is no online store, or is damaged.
        StoreUnavailableError: it can be neither read nor made.
        StorageFullError: there is no room to make it.
    """

    name = "lmdb"

    def __init__(
        self,
        path: Path | str,
        *,
        map_size: int = 64 << 30,
        max_size: int | None = None,
        lock_timeout: float = 600.0,
    ) -> None:
        self._shared = environment.acquire(Path(path), map_size=map_size, max_size=max_size)
        self._lock_timeout = lock_timeout
        self._spaces: dict[str, Space] = {}
        self._opened_env: Any = None
        self._closed = False
        try:
            self._clear_leftovers()
        except BaseException:
            self.close()
            raise

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group, of one state of the store. See `OnlineStore.read`."""
        space = self._space(key_space)
        if space is None:
            return [(None,) * len(groups)] * len(keys)
        numbers = list(map(space.groups.get, groups))
        if None in numbers:
            self._learn_groups(space)
            numbers = [space.groups.get(group, -1) for group in groups]
        keys = stored_keys(keys)
        meta = self._shared.meta
        zero, one = space.databases

        def body(txn: Any) -> list[tuple[StoredRow | None, ...]]:
            database = one if txn.get(space.pointer, b"0", meta) == b"1" else zero
            get = txn.get
            found = []
            for key in keys:
                value = get(key, None, database)
                if value is None:
                    found.append(nothing)
                else:
                    row = decode(value).get
                    found.append(tuple(map(row, numbers)))
            return found

        nothing: tuple[StoredRow | None, ...] = (None,) * len(numbers)
        return self._shared.read(body)

    def rows(
        self, key_space: str, group: str, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, StoredRow]]:
        """A page of a group's rows as they lie, by ascending key but for long ones. See `OnlineStore.rows`."""
        check_limit(limit)
        space = self._space(key_space)
        if space is None:
            return []
        if group not in space.groups:
            self._learn_groups(space)
        number = space.groups.get(group)
        start = None if after is None else stored_keys([after])[0]
        meta = self._shared.meta
        zero, one = space.databases

        def body(txn: Any) -> list[tuple[bytes, StoredRow]]:
            cursor = txn.cursor(one if txn.get(space.pointer, b"0", meta) == b"1" else zero)
            found = cursor.first() if start is None else cursor.set_range(start)
            if found and cursor.key() == start:
                found = cursor.next()
            page: list[tuple[bytes, StoredRow]] = []
            while found and len(page) < limit:
                row = decode(cursor.value()).get(number)
                if row is not None:
                    page.append((self._entity_key(txn, cursor.key()), row))
                found = cursor.next()
            return page

        return [] if number is None else self._shared.read(body)

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns. See `OnlineStore.read_cells`."""
        space = self._space(key_space)
        pointer = database = None
        if space is not None:
            pointer, database = space.cell_pointers.get(group), space.cells
            if pointer is None:
                self._learn_groups(space)
                pointer = space.cell_pointers.get(group)
        meta = self._shared.meta

        def body(txn: Any) -> T:
            prefix = None if pointer is None else txn.get(pointer, None, meta)
            try:
                return visit(NoCells() if prefix is None else StoredCells(txn, database, prefix))
            except LIKE_OURS as error:
                raise VisitError(error) from error

        return _as_raised(self._shared.read, body)

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        self._check_open()
        known = self._shared.layouts.get(layout)
        if known is None:
            self._shared.read(self._learn_layouts)
            known = self._shared.layouts.get(layout)
        if known is None:
            raise CorruptStoreError(
                f"online store {self._shared.path} has a row of layout {layout}, which was never written",
                found=f"{len(self._shared.layouts)} layouts",
                try_=environment.REBUILD,
                details={"path": str(self._shared.path)},
            )
        return known

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored, by key space and group; from counters that every write keeps, so it costs next to nothing."""
        self._check_open()
        return tuple(
            GroupInfo(space, group, rows.rows, rows.bytes + cells.bytes, cells.cells)
            for (space, group), (rows, cells) in sorted(self._all_groups().items())
            if rows.rows or cells.cells
        )

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows by (event time, created time), ONL-2, in one transaction. See `OnlineStore.write`."""
        self._check_open()
        if not len(batch):
            return 0
        space = self._ensure_space(key_space)
        rows = _rows(self._layout_number(columns), batch)
        long = [(row[0], key) for row, key in zip(rows, batch.keys, strict=True) if is_digest(row[0])]

        def body(txn: Any) -> int:
            keep_long_keys(txn, self._shared.meta, long)
            return self._merge(txn, space, group, rows)

        return self._shared.write(body)

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace a group's rows: built aside in sorted appends, then swapped in. See `OnlineStore.load`.

        Raises:
            ConflictError: another load of the same key space took longer than `lock_timeout`.
        """
        self._check_open()
        space = self._ensure_space(key_space)
        layout = self._layout_number(columns)
        with self._load_lock(key_space):
            builder = Builder(self._shared, space.databases, space_key(key_space), space.pointer, group)
            return builder.run(layout, batches)

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Run a visit to a group's cells in one write transaction. See `OnlineStore.write_cells`."""
        self._check_open()
        return _as_raised(self._group_cells(key_space, group).write, visit)

    def load_cells(self, key_space: str, group: str, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace a group's cells: written aside in bounded steps, then swapped in. See `OnlineStore.load_cells`.

        Raises:
            ConflictError: another load of the group's cells took longer than `lock_timeout`.
        """
        self._check_open()
        held = self._group_cells(key_space, group)
        with self._cells_lock(key_space, group):
            return held.load(cells)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows and cells. See `OnlineStore.drop`."""
        self._check_open()
        space = self._space(key_space)
        if space is None:
            return
        with self._load_lock(key_space):
            record = self._shared.read(lambda txn: self._record(txn, key_space))
            if record is not None and group in record.groups and record.groups[group].rows:
                Builder(self._shared, space.databases, space_key(key_space), space.pointer, group).run(0, ())
        if record is None or group not in record.groups:
            return
        held = GroupCells(self._shared, space.cells, space.number, record.groups[group].number)
        with self._cells_lock(key_space, group):
            if self._shared.read(held.record).cells:
                held.load(())

    def close(self) -> None:
        """Let go of the environment. Calling it twice is fine."""
        if not self._closed:
            self._closed = True
            environment.release(self._shared)

    # -- within a transaction ----------------------------------------------------------------------------------

    def _merge(self, txn: Any, space: Space, group: str, rows: list[tuple[bytes, RowHead, bytes]]) -> int:
        record = self._record(txn, space.name)
        assert record is not None, "made by _ensure_space"
        held = record.groups.get(group)
        if held is None:
            held = record.groups[group] = GroupRecord(len(record.groups))
        current, aside = space.databases[record.slot], space.databases[1 - record.slot]
        build = record.build
        taken = 0
        for key, head, row in rows:
            value = txn.get(key, None, current)
            entity = {} if value is None else decode_raw(value)
            stored = entity.get(held.number)
            if stored is None:
                held.rows += 1
            elif _age(decode_head(stored)) > _age(head):
                continue
            else:
                held.bytes -= len(stored)
            held.bytes += len(row)
            taken += 1
            entity[held.number] = msgspec.Raw(row)
            txn.put(key, encode(entity), db=current)
            # a load of another group has passed this key already, so it would not see the row any more
            if build is not None and build.group != held.number and key <= build.frontier:
                value = txn.get(key, None, aside)
                entity = {} if value is None else decode_raw(value)
                entity[held.number] = msgspec.Raw(row)
                txn.put(key, encode(entity), db=aside)
        txn.put(space_key(space.name), encode(record), db=self._shared.meta)
        return taken

    def _entity_key(self, txn: Any, stored: bytes) -> bytes:
        """The key of an entity by its stored key."""
        key = entity_key(stored)
        if key is None:
            key = txn.get(LONG_KEYS + stored, None, self._shared.meta)
        if key is None:
            raise CorruptStoreError(
                f"online store {self._shared.path} does not know a key of more than {LONGEST_KEY} bytes in full",
                found="a row that an older version of Grange wrote",
                try_="run grange materialize for its group",
                details={"path": str(self._shared.path)},
            )
        return key

    def _record(self, txn: Any, key_space: str) -> SpaceRecord | None:
        meta = self._shared.meta
        if meta is None:
            return None
        packed = txn.get(space_key(key_space), None, meta)
        return None if packed is None else decode_space(packed)

    def _learn_layouts(self, txn: Any) -> None:
        meta = self._shared.meta
        if meta is None:
            return
        known = self._shared.layouts
        cursor = txn.cursor(meta)
        found = cursor.set_range(layout_key(len(known)))
        while found and cursor.key()[:1] == LAYOUTS:
            known[int.from_bytes(cursor.key()[1:], "big")] = decode_layout(cursor.value())
            found = cursor.next()

    # -- what is remembered ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError(f"online store {self._shared.path} is closed", try_="open the store again")

    def _space(self, key_space: str) -> Space | None:
        """A key space that exists; None for any other."""
        self._check_open()
        env = self._shared.env
        if self._opened_env is not env:  # first use, or the first one after a fork: handles are of one environment
            self._spaces, self._opened_env = {}, env
        known = self._spaces.get(key_space)
        if known is not None:
            return known
        self._shared.meta  # noqa: B018  opened outside the transaction that uses it
        record = self._shared.read(lambda txn: self._record(txn, key_space))
        return None if record is None else self._remember(record)

    def _remember(self, record: SpaceRecord) -> Space:
        cells = self._shared.database(CELLS, create=True)
        handles = [self._shared.database(database_name(record.number, slot), create=True) for slot in (0, 1)]
        space = Space(record.name, record.number, (handles[0], handles[1]), pointer_key(record.number), cells)
        space.learn(record)
        return self._spaces.setdefault(record.name, space)

    def _learn_groups(self, space: Space) -> None:
        record = self._shared.read(lambda txn: self._record(txn, space.name))
        if record is not None:
            space.learn(record)

    def _ensure_space(self, key_space: str) -> Space:
        space = self._space(key_space)
        if space is not None:
            return space

        def make(txn: Any) -> SpaceRecord:
            record = self._record(txn, key_space)
            if record is None:
                record = SpaceRecord(key_space, len(_records(txn, self._shared.meta)), 0, {})
                txn.put(space_key(key_space), encode(record), db=self._shared.meta)
            return record

        return self._remember(self._shared.write(make))

    def _group_cells(self, key_space: str, group: str) -> GroupCells:
        """The cells of a group, which gets its number when it has none."""
        space = self._ensure_space(key_space)

        def make(txn: Any) -> SpaceRecord:
            record = self._record(txn, key_space)
            assert record is not None, "made by _ensure_space"
            if group not in record.groups:
                record.groups[group] = GroupRecord(len(record.groups))
                txn.put(space_key(key_space), encode(record), db=self._shared.meta)
            return record

        if group not in space.groups:
            space.learn(self._shared.write(make))
        return GroupCells(self._shared, space.cells, space.number, space.groups[group])

    def _layout_number(self, columns: Sequence[str]) -> int:
        wanted = tuple(columns)
        known = self._shared.layouts

        def find() -> int | None:
            return next((number for number, layout in list(known.items()) if layout == wanted), None)

        def make(txn: Any) -> int:
            self._learn_layouts(txn)
            number = find()
            if number is None:
                number = len(known)
                txn.put(layout_key(number), encode(wanted), db=self._shared.meta)
            return number

        number = find()
        if number is None:
            number = self._shared.write(make)
            known[number] = wanted
        return number

    def _all_spaces(self) -> list[SpaceRecord]:
        meta = self._shared.meta
        return [] if meta is None else self._shared.read(lambda txn: _records(txn, meta))

    def _all_groups(self) -> dict[tuple[str, str], tuple[GroupRecord, CellsRecord]]:
        """By key space and group, what is known of its rows and of its cells, in one state of the store."""
        meta = self._shared.meta

        def body(txn: Any) -> dict[tuple[str, str], tuple[GroupRecord, CellsRecord]]:
            found = {}
            for space in _records(txn, meta):
                for group, rows in space.groups.items():
                    packed = txn.get(cells_record_key(space.number, rows.number), None, meta)
                    found[space.name, group] = rows, CellsRecord() if packed is None else decode_cells(packed)
            return found

        return {} if meta is None else self._shared.read(body)

    # -- loads -------------------------------------------------------------------------------------------------

    def _load_lock(self, key_space: str) -> AbstractContextManager[object]:
        """Loads of a key space take turns, over threads and processes; the system frees a dead holder's lock."""
        return _Turn(self._lock_path(key_space), self._lock_timeout, repr(key_space))

    def _cells_lock(self, key_space: str, group: str) -> AbstractContextManager[object]:
        """Loads of a group's cells take turns like those of rows, and do not wait for them."""
        what = f"the cells of {group!r} by {key_space!r}"
        return _Turn(self._cells_lock_path(key_space, group), self._lock_timeout, what)

    def _lock_path(self, key_space: str) -> Path:
        return self._shared.path / f"{space_key(key_space).hex()[:32]}.lock"

    def _cells_lock_path(self, key_space: str, group: str) -> Path:
        digest = hashlib.blake2b(space_key(key_space) + group.encode(), digest_size=16)
        return self._shared.path / f"{digest.hexdigest()}.lock"

    def _clear_leftovers(self) -> None:
        """Discard what processes that died left half-built or half-deleted."""
        self._shared.env  # noqa: B018  opens it, so that a damaged store is found here
        if self._shared.read_only:
            return
        for record in self._all_spaces():
            if record.build is not None:
                space = self._ensure_space(record.name)
                _unless_locked(
                    self._lock_path(record.name),
                    partial(discard_build, self._shared, space.databases, space_key(record.name)),
                )
        for (key_space, group), (_, cells) in self._all_groups().items():
            if cells.aside:
                _unless_locked(self._cells_lock_path(key_space, group), self._group_cells(key_space, group).clear)


class _Turn:
    """A file lock whose timeout is an error of ours."""

    def __init__(self, path: Path, timeout: float, what: str) -> None:
        self._lock = filelock.FileLock(path, timeout=timeout)
        self._what = what

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ConflictError(
                f"another load of {self._what} in the online store is still running",
                found=f"{self._lock.lock_file} is held",
                try_="wait for it to end, then run the same command again",
            ) from error

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def _unless_locked(path: Path, clear: Callable[[], None]) -> None:
    """Clear what a load left, unless it is still running, for then it holds its lock.

    A store without the room that this takes can be read all the same, and the next load tries again.
    """
    with contextlib.suppress(filelock.Timeout, StorageFullError), filelock.FileLock(path, timeout=0):
        clear()


def _as_raised(run: Callable[[Callable[[Any], T]], T], body: Callable[[Any], T]) -> T:
    """Run a body that visits; what the visit raises is raised as it is."""
    try:
        return run(body)
    except VisitError as carried:
        error = carried.error
    raise error  # out here, so that it gains no context of ours


def _records(txn: Any, meta: Any) -> list[SpaceRecord]:
    records = []
    cursor = txn.cursor(meta)
    found = cursor.set_range(SPACES)
    while found and cursor.key()[:1] == SPACES:
        records.append(decode_space(cursor.value()))
        found = cursor.next()
    return records


def _rows(layout: int, batch: OnlineBatch) -> list[tuple[bytes, RowHead, bytes]]:
    """Per row: stored key, head, and the row in MessagePack."""
    times = list(zip(batch.event_times, created_times(batch), strict=True))
    heads = [RowHead(layout, event, created) for event, created in times]
    packed = [encode((layout, event, created, *row)) for (event, created), row in zip(times, batch.rows, strict=True)]
    return list(zip(stored_keys(batch.keys), heads, packed, strict=True))


def _age(head: RowHead) -> tuple[int, float | int]:
    """What orders two rows of a key: event time, then created time, where none is older than any (ONL-2)."""
    return head.event, float("-inf") if head.created is None else head.created
