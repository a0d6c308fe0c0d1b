"""The port of an online store: the latest state per entity key.

A group has one of two kinds of state. Rows are the latest values per entity key; the store orders them (ONL-2). Cells
are what windowed features need beyond a row (recent events, tiles over them): an ordered map of bytes per group whose
meaning only `grange.serving.windows` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import Any, Protocol, TypeVar, runtime_checkable

from grange.errors import RequestError

T = TypeVar("T")

StoredRow = Sequence[Any]
"""`[layout, event_time, created_time, value, value, ...]`: the layout's number, microseconds UTC (created may
be None), then the values of the layout's columns in MessagePack's own types (None, bool, int, float, str,
bytes, list, dict with text keys)."""

LAYOUT, EVENT, CREATED, VALUES = 0, 1, 2, 3
"""Positions in a StoredRow; values start at VALUES."""


@dataclass(frozen=True, slots=True)
class OnlineBatch:
    """Rows to store, as columns of equal length."""

    keys: Sequence[bytes]
    """Encoded entity keys (`grange.serving.keys`)."""
    event_times: Sequence[int]
    created_times: Sequence[int | None] | None
    """None when the group has no created time."""
    rows: Sequence[Sequence[Any]]
    """Per key, the values in the order of `columns`."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """What the store holds of one group."""

    key_space: str
    group: str
    rows: int
    bytes: int
    """Of its rows as they are stored, and of its cells: their keys and values, exactly."""
    cells: int = 0


class Cells(Protocol):
    """A group's cells in one state of the store. Good until the visit that it was handed to returns."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a cell; None when there is no such cell. A key may have any length."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """`get` of each key, in order, duplicates included; one round trip where that matters."""
        ...


@runtime_checkable
class WritableCells(Cells, Protocol):
    """A group's cells within a transaction. Reads see what this transaction has put and deleted."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a cell's value, which may be empty."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a cell; nothing happens when there is none."""
        ...


@runtime_checkable
class OnlineStore(Protocol):
    """Rows and cells per (key space, group). Safe for several threads and, where it is shared, processes.

    A group's rows may have different layouts (the columns it had when they were written); a row names its own.
    Columns are opaque texts to the store; `grange.serving` writes `name:type` into them.
    `grange.testing.OnlineStoreContract` proves the promises.
    """

    name: str

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key, in order, duplicates included, the row of each group; None where there is none (ONL-4).

        One round trip however many groups. An unknown key space or group has no rows.

        Raises:
            StoreUnavailableError: the store cannot be reached; or knows that it lost a group (StateLostError, ONL-6).
            CorruptStoreError: what is stored cannot be read.
        """
        ...

    def rows(
        self, key_space: str, group: str, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, StoredRow]]:
        """A page of a group's rows with their keys, at most `limit`; an empty one comes after the last.

        `after` is the last key of the page before, None for the first page. The order is the store's own. A row that
        is there from the first page to the last is in one of them, or seldom in two; one that is written meanwhile may
        be in none. A page belongs to the store object that gave the page before.

        Raises:
            RequestError: `limit` is below 1; or no page ended with `after`, where the store must know.
            ConflictError: a load has replaced the rows since the first page; begin again.
            StoreUnavailableError: the store cannot be reached (ONL-6).
            CorruptStoreError: what is stored cannot be read.
        """
        ...

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number; they never change, so callers may keep them.

        Raises:
            CorruptStoreError: no such layout was ever written.
        """
        ...

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows, in order: a row replaces what is stored unless that is newer by (event time, created time)
        (ONL-2; a missing created time is older than any). All or nothing. Returns how many were taken.

        Raises:
            StorageFullError, StoreUnavailableError: nothing was written.
        """
        ...

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace all of a group's rows, at once: readers see the old rows until the end, then the new ones.

        Keys ascend over all batches and none occurs twice. Other groups' rows stay. Returns the number of rows.
        An error leaves the old rows in place.
        """
        ...

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What `visit` returns of a group's cells: all it gets is of one state of the store, whatever others write.

        An unknown key space or group has no cells. `visit` may be called again, and may not call a store itself.

        Raises:
            RequestError: `visit` called the store.
            StoreUnavailableError: the store cannot be reached (ONL-6).
            CorruptStoreError: what is stored cannot be read.
            Exception: whatever `visit` raises, as it is.
        """
        ...

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Read and change a group's cells in one transaction. Returns what `visit` returns.

        No other write to the group happens between what `visit` gets and what it puts, and readers see all of it or
        nothing. `visit` may be called again from the start, after a conflict or when room had to be made, so it may
        have no effects elsewhere; it may not call a store itself.

        Raises:
            RequestError: `visit` called the store.
            StorageFullError, StoreUnavailableError: nothing was written.
            CorruptStoreError: what is stored cannot be read.
            Exception: whatever `visit` raises, as it is; nothing was written.
        """
        ...

    def load_cells(self, key_space: str, group: str, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace all of a group's cells, at once: readers see the old ones until the end, then the new ones.

        `cells` are (key, value); keys ascend and none occurs twice. What is written to this group's cells meanwhile
        is replaced with the old ones; other groups, and this group's rows, stay. Returns the number of cells. An
        error leaves the old ones in place.

        Raises:
            RequestError: keys do not ascend.
            StorageFullError, StoreUnavailableError: the old cells are in place.
        """
        ...

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows and cells; nothing happens when there are none."""
        ...

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored, by key space and group."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        ...


def check_limit(limit: int) -> None:
    """Refuse a page that could hold nothing.

    Raises:
        RequestError: `limit` is below 1.
    """
    if limit < 1:
        raise RequestError(f"a page of rows holds at least one, not {limit}", try_="rows(key_space, group, limit=1000)")


def check_ascending(last: bytes | None, keys: Sequence[bytes]) -> None:
    """Refuse keys of a load that do not ascend from `last` on; for stores.

    Raises:
        RequestError: names the first key out of order.
    """
    if (last is None or last < keys[0]) and all(map(lt, keys, islice(keys, 1, None))):
        return
    before = last
    for key in keys:
        if before is not None and key <= before:
            raise RequestError(
                f"keys of a load must ascend, each once: {key!r} comes after {before!r}",
                try_="sort them by encoded key, each once",
            )
        before = key
