"""Cells: an ordered map of bytes per (key space, group), read in one snapshot and replaced at once.

All cells of a store lie in one named database, as `set number (4 bytes) + cell key`. A group's pointer says which set
is read. A load writes a set that nobody reads yet, in sorted puts and transactions of bounded size, turns the pointer
over, then deletes the old set in bounded transactions. Set numbers are never given twice, and the group's record names
every set that is not read, so that whoever opens the store or loads next deletes what a process that died has left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from grange.errors import ConflictError, CorruptStoreError, GrangeError, StorageFullError
from grange.online.lmdb import building
from grange.online.lmdb.environment import Environment
from grange.online.lmdb.records import (
    NEXT_SET,
    CellsRecord,
    cells_pointer_key,
    cells_record_key,
    decode_cells,
    encode,
)
from grange.ports.online import WritableCells, check_ascending

T = TypeVar("T")

CELLS: Final = b"cells"
"""Name of the database."""
SET_BYTES: Final = 4
LONGEST_KEY: Final = 506
"""With its set number a key then has 510 bytes, one less than LMDB takes; only digests have 511."""
_DIGEST_BYTES: Final = 32
CLEAR_CELLS = 16_384
"""What one transaction deletes at most of a set that nobody reads."""

Item = tuple[bytes, bytes]
"""A stored key and a cell's value."""


def stored_cell_key(prefix: bytes, key: bytes) -> bytes:
    """The key under which a cell of the set with this prefix is stored."""
    return prefix + key if len(key) <= LONGEST_KEY else long_key(prefix, key)


def long_key(prefix: bytes, key: bytes) -> bytes:
    """The stored key of a cell whose own is longer than LONGEST_KEY: its beginning, then its digest (BLAKE2b).

    It is as long as LMDB allows, which no other stored key is, so the two kinds never meet.
    """
    beginning = key[: LONGEST_KEY + 1 - _DIGEST_BYTES]
    return prefix + beginning + hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()


LIKE_OURS: Final = (msgspec.MsgspecError, OSError)
"""Exceptions of a visit that would pass for errors of the store."""


class VisitError(Exception):
    """Carries an exception of LIKE_OURS out of its transaction, past the translation of LMDB's own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


# -- what a visit gets -------------------------------------------------------------------------------------------


class NoCells:
    """The cells of a group that has none."""

    __slots__ = ()

    def get(self, key: bytes) -> bytes | None:
        """None."""
        del key
        return None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """None for each key."""
        return [None] * len(keys)


class StoredCells:
    """The cells of one set, in a transaction. See `grange.ports.online.Cells`."""

    __slots__ = ("_database", "_prefix", "_txn")

    def __init__(self, txn: Any, database: Any, prefix: bytes) -> None:
        self._txn = txn
        self._database = database
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        """The value of a cell."""
        prefix = self._prefix
        stored = prefix + key if len(key) <= LONGEST_KEY else long_key(prefix, key)
        value: bytes | None = self._txn.get(stored, None, self._database)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each cell."""
        get, database, prefix = self._txn.get, self._database, self._prefix
        return [get(prefix + key if len(key) <= LONGEST_KEY else long_key(prefix, key), None, database) for key in keys]


class CountedCells(StoredCells):
    """The cells of one set in a write transaction, counted. See `grange.ports.online.WritableCells`."""

    __slots__ = ("added", "added_bytes", "changed")

    def __init__(self, txn: Any, database: Any, prefix: bytes) -> None:
        super().__init__(txn, database, prefix)
        self.changed = False
        self.added = 0
        self.added_bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Set a cell's value."""
        old = self._txn.replace(stored_cell_key(self._prefix, key), value, self._database)
        self.changed = True
        if old is None:
            self.added += 1
            self.added_bytes += len(key) + len(value)
        else:
            self.added_bytes += len(value) - len(old)

    def delete(self, key: bytes) -> None:
        """Remove a cell."""
        old = self._txn.pop(stored_cell_key(self._prefix, key), self._database)
        if old is not None:
            self.changed = True
            self.added -= 1
            self.added_bytes -= len(key) + len(old)


# -- one group's cells -------------------------------------------------------------------------------------------


class GroupCells:
    """Writing the cells of one group.

    Args:
        shared: the environment.
        database: the handle of the store's cells.
        space: number of the key space.
        group: number of the group.
    """

    def __init__(self, shared: Environment, database: Any, space: int, group: int) -> None:
        self._shared = shared
        self._database = database
        self._pointer = cells_pointer_key(space, group)
        self._record_key = cells_record_key(space, group)

    def write(self, visit: Callable[[WritableCells], T]) -> T:
        """Run a visit in one transaction, and keep the counters.

        Raises:
            VisitError: the visit raised what would pass for an error of the store; nothing was written.
        """

        def body(txn: Any) -> T:
            held = self.record(txn)
            is_new = held.current == 0
            if is_new:
                held.current = self._new_set(txn)
                self._point(txn, held.current)
            cells = CountedCells(txn, self._database, set_prefix(held.current))
            try:
                result = visit(cells)
            except LIKE_OURS as error:
                raise VisitError(error) from error
            held.cells += cells.added
            held.bytes += cells.added_bytes
            if is_new or cells.changed:
                self._save(txn, held)
            return result

        return self._shared.write(body)

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace the cells by others. Call it while holding the group's load lock. Returns how many they are.

        Raises:
            RequestError: keys do not ascend.
        """
        self.clear()
        fresh = self._shared.write(self._begin)
        try:
            count, size = self._fill(fresh, cells)
            self._shared.write(partial(self._turn, fresh=fresh, count=count, size=size))
        finally:
            self._tidy()
        return count

    def clear(self) -> None:
        """Delete the sets that nobody reads. Call it while holding the group's load lock.

        Raises:
            StorageFullError: there is not even the room that it takes to delete.
        """
        limit, done = CLEAR_CELLS, False
        while not done:
            try:
                done = self._shared.write(partial(self._clear_some, limit=limit))
            except StorageFullError:
                # pages that a transaction frees are free after it, so a full store is emptied in smaller steps
                if limit == 1:
                    raise
                limit = max(1, limit // 8)

    def record(self, txn: Any) -> CellsRecord:
        """What is known of the group's cells."""
        packed = txn.get(self._record_key, None, self._shared.meta)
        return CellsRecord() if packed is None else decode_cells(packed)

    def _tidy(self) -> None:
        try:
            self.clear()
        except GrangeError:
            return  # the load has ended one way or the other; the next to open or load deletes the rest

    def _fill(self, fresh: int, cells: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
        """Put cells into the fresh set. Returns their number and the bytes of their keys and values."""
        prefix = set_prefix(fresh)
        waiting: list[Item] = []
        count = size = step_size = 0
        last: bytes | None = None
        for key, value in cells:
            if last is not None and key <= last:
                check_ascending(last, (key,))
            last = key
            waiting.append((stored_cell_key(prefix, key), value))
            step_size += len(key) + len(value)
            if len(waiting) >= building.STEP_ROWS or step_size >= building.STEP_BYTES:
                self._shared.write(partial(self._append, fresh=fresh, items=sorted(waiting)))
                count += len(waiting)
                size += step_size
                waiting, step_size = [], 0
        if waiting:
            self._shared.write(partial(self._append, fresh=fresh, items=sorted(waiting)))
        return count + len(waiting), size + step_size

    # -- within a transaction ----------------------------------------------------------------------------------

    def _begin(self, txn: Any) -> int:
        held = self.record(txn)
        fresh = self._new_set(txn)
        held.aside.append(fresh)
        self._save(txn, held)
        return fresh

    def _append(self, txn: Any, *, fresh: int, items: list[Item]) -> None:
        """Put items, which ascend, into the fresh set."""
        self._check_mine(self.record(txn), fresh)
        cursor = txn.cursor(self._database)
        # the last set of all fills pages to the brim; another group's later set stands behind it
        at_the_end = not cursor.last() or cursor.key() < items[0][0]
        _, added = cursor.putmulti(items, dupdata=False, append=at_the_end)
        if added != len(items):
            raise CorruptStoreError(f"{len(items) - added} cells could not be added to set {fresh}, which is new")

    def _turn(self, txn: Any, *, fresh: int, count: int, size: int) -> None:
        """Make the fresh set the one that is read."""
        held = self.record(txn)
        self._check_mine(held, fresh)
        held.aside.remove(fresh)
        if held.current:
            held.aside.append(held.current)
        held.current, held.cells, held.bytes = fresh, count, size
        self._point(txn, fresh)
        self._save(txn, held)

    def _clear_some(self, txn: Any, *, limit: int) -> bool:
        """Delete at most `limit` cells that nobody reads; whether none is left."""
        held = self.record(txn)
        if not held.aside:
            return True
        prefix = set_prefix(held.aside[0])
        cursor = txn.cursor(self._database)
        found = cursor.set_range(prefix)
        for _ in range(limit):
            if not found or cursor.key()[:SET_BYTES] != prefix:
                del held.aside[0]
                self._save(txn, held)
                return not held.aside
            cursor.delete()
            found = bool(cursor.key())
        return False

    def _new_set(self, txn: Any) -> int:
        """A number that no set of cells ever had."""
        packed = txn.get(NEXT_SET, None, self._shared.meta)
        number = 1 if packed is None else int.from_bytes(packed, "big")
        txn.put(NEXT_SET, set_prefix(number + 1), db=self._shared.meta)
        return number

    def _check_mine(self, held: CellsRecord, fresh: int) -> None:
        if fresh not in held.aside:
            raise ConflictError("this load was discarded by another one", try_="run the same command again")

    def _point(self, txn: Any, number: int) -> None:
        txn.put(self._pointer, set_prefix(number), db=self._shared.meta)

    def _save(self, txn: Any, held: CellsRecord) -> None:
        txn.put(self._record_key, encode(held), db=self._shared.meta)


def set_prefix(number: int) -> bytes:
    """What the stored keys of a set begin with."""
    return number.to_bytes(SET_BYTES, "big")
