"""The port of an online store: the latest state per entity key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class OnlineStore(Protocol):
    """Latest row per (key space, entity key, group). Safe for several threads and, where it is shared, processes.

    A group's rows may have different layouts (the columns it had when they were written); a row names its own.
    Columns are opaque texts to the store; `grange.serving` writes `name:type` into them.
    `grange.testing.OnlineStoreContract` proves the promises.
    """

    name: str

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key, in order, duplicates included, the row of each group; None where there is none (ONL-4).

        One round trip however many groups. An unknown key space or group has no rows.

        Raises:
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

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows; nothing happens when there are none."""
        ...

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored, by key space and group."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        ...
