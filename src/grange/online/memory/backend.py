"""The reference online store: dicts behind one lock. Obvious code; every other store behaves like it."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from grange.errors import CorruptStoreError, RequestError, StoreUnavailableError
from grange.ports.online import (
    CREATED,
    EVENT,
    Cells,
    GroupInfo,
    OnlineBatch,
    StoredRow,
    WritableCells,
    check_ascending,
    check_limit,
)

T = TypeVar("T")

_Group = dict[bytes, StoredRow]
_CellMap = dict[bytes, bytes]


class MemoryOnlineStore:
    """Keeps rows and cells in dicts of this process. Safe for several threads; nothing survives the process."""

    name = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visitor: int | None = None
        """The thread that visits cells, while it holds the lock."""
        self._groups: dict[tuple[str, str], _Group] = {}
        self._cells: dict[tuple[str, str], _CellMap] = {}
        self._layouts: list[tuple[str, ...]] = []
        self._closed = False

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group. See `OnlineStore.read`."""
        with self._entered():
            held: list[_Group] = [self._groups.get((key_space, group), {}) for group in groups]
            return [tuple(rows.get(key) for rows in held) for key in keys]

    def rows(
        self, key_space: str, group: str, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, StoredRow]]:
        """A page of a group's rows by ascending key, after any key. See `OnlineStore.rows`."""
        check_limit(limit)
        with self._entered():
            held = self._groups.get((key_space, group), {})
            left = held if after is None else [key for key in held if key > after]
            return [(key, held[key]) for key in heapq.nsmallest(limit, left)]

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        with self._entered():
            if not 0 <= layout < len(self._layouts):
                raise CorruptStoreError(f"no layout {layout} was ever written", found=f"{len(self._layouts)} layouts")
            return self._layouts[layout]

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows by (event time, created time), ONL-2. See `OnlineStore.write`."""
        with self._entered():
            rows = _rows(self._layout_number(columns), batch)
            if not rows:
                return 0
            held = self._groups.setdefault((key_space, group), {})
            taken = 0
            for key, row in rows:
                stored = held.get(key)
                if stored is None or _age(row) >= _age(stored):
                    held[key] = row
                    taken += 1
            return taken

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace a group's rows at once. See `OnlineStore.load`."""
        with self._entered():
            layout = self._layout_number(columns)
        fresh: _Group = {}
        last: bytes | None = None
        for batch in batches:
            for key, row in _rows(layout, batch):
                check_ascending(last, (key,))
                fresh[key] = row
                last = key
        with self._entered():
            self._groups[key_space, group] = fresh
        return len(fresh)

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns; nothing else happens meanwhile. See `OnlineStore.read_cells`."""
        with self._entered(), self._visiting():
            return visit(_Snapshot(self._cells.get((key_space, group), {})))

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Run a visit, then apply what it changed. See `OnlineStore.write_cells`."""
        with self._entered(), self._visiting():
            held = self._cells.get((key_space, group), {})
            changes = _Changes(held)
            result = visit(changes)
            self._cells[key_space, group] = held
            for key, value in changes.made.items():
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value
            return result

    def load_cells(self, key_space: str, group: str, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace a group's cells at once. See `OnlineStore.load_cells`."""
        with self._entered():
            pass  # a closed store says so before it takes the cells
        fresh: _CellMap = {}
        last: bytes | None = None
        for key, value in cells:
            check_ascending(last, (key,))
            fresh[key] = value
            last = key
        with self._entered():
            self._cells[key_space, group] = fresh
        return len(fresh)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows and cells. See `OnlineStore.drop`."""
        with self._entered():
            self._groups.pop((key_space, group), None)
            self._cells.pop((key_space, group), None)

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored; bytes are those of the rows in MessagePack, and of the cells."""
        with self._entered():
            found = []
            for name in sorted(self._groups.keys() | self._cells.keys()):
                rows, cells = self._groups.get(name, {}), self._cells.get(name, {})
                if rows or cells:
                    found.append(GroupInfo(*name, len(rows), _size_of_rows(rows) + _size_of_cells(cells), len(cells)))
            return tuple(found)

    def close(self) -> None:
        """Let go of the rows."""
        self._refuse_visitor()
        with self._lock:
            self._closed = True
            self._groups.clear()
            self._cells.clear()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """The lock of a store that is open."""
        self._refuse_visitor()
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the memory online store is closed", try_="open the store again")
            yield

    def _refuse_visitor(self) -> None:
        if self._visitor == threading.get_ident():  # it would wait for itself for ever
            raise RequestError(
                "an online store was called from within a visit to its cells",
                try_="return from the visit what the call needs, and call the store afterwards",
            )

    @contextmanager
    def _visiting(self) -> Iterator[None]:
        """While a visit runs; the lock is held."""
        self._visitor = threading.get_ident()
        try:
            yield
        finally:
            self._visitor = None

    def _layout_number(self, columns: Sequence[str]) -> int:
        wanted = tuple(columns)
        if wanted not in self._layouts:
            self._layouts.append(wanted)
        return self._layouts.index(wanted)


class _Snapshot:
    """A group's cells, for a visit that reads."""

    def __init__(self, held: _CellMap) -> None:
        self._held = held

    def get(self, key: bytes) -> bytes | None:
        return self._held.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]


class _Changes(_Snapshot):
    """A group's cells, and what a visit changes of them."""

    def __init__(self, held: _CellMap) -> None:
        super().__init__(held)
        self.made: dict[bytes, bytes | None] = {}
        """None is a cell that was deleted."""

    def get(self, key: bytes) -> bytes | None:
        return self.made[key] if key in self.made else super().get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.made[key] = value

    def delete(self, key: bytes) -> None:
        self.made[key] = None


def _size_of_rows(rows: _Group) -> int:
    import msgspec

    return sum(len(msgspec.msgpack.encode(row)) for row in rows.values())


def _size_of_cells(cells: _CellMap) -> int:
    return sum(len(key) + len(value) for key, value in cells.items())


def _rows(layout: int, batch: OnlineBatch) -> list[tuple[bytes, StoredRow]]:
    """A batch as (key, stored row), in order; everything is copied out of it before anything is stored."""
    created: Sequence[Any] = [None] * len(batch) if batch.created_times is None else batch.created_times
    return [
        (key, [layout, event, known, *values])
        for key, event, known, values in zip(batch.keys, batch.event_times, created, batch.rows, strict=True)
    ]


def _age(row: StoredRow) -> tuple[int, float | int]:
    """What orders two rows of a key: event time, then created time, where none is older than any (ONL-2)."""
    created = row[CREATED]
    return row[EVENT], float("-inf") if created is None else created
