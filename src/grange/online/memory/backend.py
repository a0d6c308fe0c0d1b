"""The reference online store: dicts behind one lock. Obvious code; every other store behaves like it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from grange.errors import CorruptStoreError, RequestError, StoreUnavailableError
from grange.ports.online import CREATED, EVENT, GroupInfo, OnlineBatch, StoredRow

_Group = dict[bytes, StoredRow]


class MemoryOnlineStore:
    """Keeps rows in dicts of this process. Safe for several threads; nothing survives the process."""

    name = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str], _Group] = {}
        self._layouts: list[tuple[str, ...]] = []
        self._closed = False

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group. See `OnlineStore.read`."""
        with self._lock:
            self._check_open()
            held: list[_Group] = [self._groups.get((key_space, group), {}) for group in groups]
            return [tuple(rows.get(key) for rows in held) for key in keys]

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        with self._lock:
            if not 0 <= layout < len(self._layouts):
                raise CorruptStoreError(f"no layout {layout} was ever written", found=f"{len(self._layouts)} layouts")
            return self._layouts[layout]

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows by (event time, created time), ONL-2. See `OnlineStore.write`."""
        with self._lock:
            self._check_open()
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
        with self._lock:
            self._check_open()
            layout = self._layout_number(columns)
        fresh: _Group = {}
        last: bytes | None = None
        for batch in batches:
            for key, row in _rows(layout, batch):
                if last is not None and key <= last:
                    raise RequestError(
                        f"keys of a load must ascend, each once: {key!r} comes after {last!r}",
                        try_="sort the rows by encoded key, one row per key",
                    )
                fresh[key] = row
                last = key
        with self._lock:
            self._check_open()
            self._groups[key_space, group] = fresh
        return len(fresh)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows. See `OnlineStore.drop`."""
        with self._lock:
            self._check_open()
            self._groups.pop((key_space, group), None)

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored; bytes are those of the rows in MessagePack."""
        import msgspec

        with self._lock:
            self._check_open()
            return tuple(
                GroupInfo(key_space, group, len(rows), sum(len(msgspec.msgpack.encode(row)) for row in rows.values()))
                for (key_space, group), rows in sorted(self._groups.items())
                if rows
            )

    def close(self) -> None:
        """Let go of the rows."""
        with self._lock:
            self._closed = True
            self._groups.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the memory online store is closed", try_="open the store again")

    def _layout_number(self, columns: Sequence[str]) -> int:
        wanted = tuple(columns)
        if wanted not in self._layouts:
            self._layouts.append(wanted)
        return self._layouts.index(wanted)


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
