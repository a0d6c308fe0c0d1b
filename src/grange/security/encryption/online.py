"""An online store that keeps values sealed: another store's, which sees neither values nor cells in clear (SEC-9).

Sealed are the values of rows, and of cells. Clear stay, because the store orders and finds by them: key spaces, groups,
entity keys and cells' keys, event and created times, column names, how many bytes there are. Where entity keys are
themselves secret (an e-mail address), key the group by something that is not.

A row is bound to its place: to key space, group, entity key, columns, event and created time. Whoever can write to the
store can take a row away or put back, whole, an older one that was there; they cannot make, change or move one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from grange.errors import ConflictError, CorruptStoreError
from grange.ports.online import (
    CREATED,
    EVENT,
    LAYOUT,
    VALUES,
    Cells,
    GroupInfo,
    OnlineBatch,
    OnlineStore,
    StoredRow,
    WritableCells,
)
from grange.security.encryption.sealer import Sealer, tampered

if TYPE_CHECKING:
    from msgspec.msgpack import Decoder, Encoder

T = TypeVar("T")

_SEALED: Final = "sealed:"
"""How the one column of a sealed layout begins in the inner store; the real columns follow, as JSON."""
_PAGE: Final = 1_000
"""Rows that are sealed anew at a time."""
_ATTEMPTS: Final = 5
_times: Final = struct.Struct("<q?q").pack
"""Event time, whether there is a created time, created time."""

_Contexts = dict[int, bytes | None]
"""By layout number, how the contexts of its rows begin; None for rows in clear."""


class EncryptedOnlineStore:
    """Seals what it writes to another online store, and opens what it reads from it. Safe as the other one is.

    Args:
        inner: the store that keeps the rows.
        sealer: seals them.
        allow_clear: whether rows that were written before there was a key are read as they lie there. It lets a store
            change over without a pause, and lets whoever can write to the store put values of their own into it: turn
            it off when every group was materialized again.
    """

    def __init__(self, inner: OnlineStore, sealer: Sealer, *, allow_clear: bool = False) -> None:
        import msgspec

        self.name = inner.name
        self._inner = inner
        self._rows = sealer.for_purpose("online rows")
        self._cells = sealer.for_purpose("online cells")
        self._allow_clear = allow_clear
        self._layouts: dict[int, tuple[str, ...] | None] = {}
        """The columns of sealed layouts by number; None for those in clear."""
        self._contexts: dict[tuple[str, str], _Contexts] = {}
        self._encode: Encoder = msgspec.msgpack.Encoder()
        self._decode: Decoder[list[Any]] = msgspec.msgpack.Decoder(list[Any])

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group, opened. See `OnlineStore.read`.

        Raises:
            TamperedError: a row was changed or moved; or lies there in clear, and may not.
        """
        found = self._inner.read(key_space, keys, groups)
        contexts = [self._contexts_of(key_space, group) for group in groups]
        return [
            tuple(
                [
                    None if row is None else self._opened(row, key, key_space, group, known)
                    for row, group, known in zip(rows, groups, contexts, strict=True)
                ]
            )
            for key, rows in zip(keys, found, strict=True)
        ]

    def rows(
        self, key_space: str, group: str, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, StoredRow]]:
        """A page of a group's rows, opened. See `OnlineStore.rows`."""
        known = self._contexts_of(key_space, group)
        return [
            (key, self._opened(row, key, key_space, group, known))
            for key, row in self._inner.rows(key_space, group, after, limit)
        ]

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        columns = self._sealed_columns(layout)
        return self._inner.layout(layout) if columns is None else columns

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows, sealed. See `OnlineStore.write`."""
        sealed = self._sealed_batch(_row_context(key_space, group, columns), batch)
        return self._inner.write(key_space, group, _sealed_layout(columns), sealed)

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace a group's rows at once, sealed. See `OnlineStore.load`."""
        context = _row_context(key_space, group, columns)
        sealed = (self._sealed_batch(context, batch) for batch in batches)
        return self._inner.load(key_space, group, _sealed_layout(columns), sealed)

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns, which sees them opened. See `OnlineStore.read_cells`."""
        context = _context(b"c", key_space, group)
        return self._inner.read_cells(key_space, group, lambda cells: visit(_OpenedCells(cells, self._cells, context)))

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Run a visit, whose cells are sealed. See `OnlineStore.write_cells`."""
        context = _context(b"c", key_space, group)
        return self._inner.write_cells(
            key_space, group, lambda cells: visit(_WritableOpenedCells(cells, self._cells, context))
        )

    def load_cells(self, key_space: str, group: str, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace a group's cells at once, sealed. See `OnlineStore.load_cells`."""
        context = _context(b"c", key_space, group)
        sealed = ((key, self._cells.seal(value, context + key)) for key, value in cells)
        return self._inner.load_cells(key_space, group, sealed)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows and cells. See `OnlineStore.drop`."""
        self._inner.drop(key_space, group)

    def reseal_rows(self, key_space: str, group: str, hold: Callable[[], AbstractContextManager[object]]) -> int:
        """Seal a group's rows under the key that is primary now: those that are under another, and those in clear
        where they may be. Returns how many were.

        Values, times and layouts stay. After a crash some are under the one key and some under the other, and the same
        again does the rest.

        Args:
            key_space: where the group lies.
            group: the feature group.
            hold: keeps others from writing the group, while some rows are read and written again.

        Raises:
            ConflictError: others replace the rows again and again.
            and what `rows` and `write` do.
        """
        count, after, left = 0, None, _ATTEMPTS
        while True:
            with hold():
                try:
                    page = self._inner.rows(key_space, group, after, _PAGE)
                except ConflictError:  # all rows were replaced meanwhile: begin again
                    left -= 1
                    if not left:
                        raise
                    after = None
                    continue
                count += self._reseal(key_space, group, page)
            if not page:
                return count
            after = page[-1][0]

    def _reseal(self, key_space: str, group: str, page: Sequence[tuple[bytes, StoredRow]]) -> int:
        """Write rows of a page again, as far as they are not sealed under the primary key; returns how many."""
        known = self._contexts_of(key_space, group)
        chosen: dict[int, list[tuple[bytes, StoredRow]]] = {}
        for key, row in page:
            opened = self._opened(row, key, key_space, group, known)
            if opened is row or self._rows.is_outdated(row[VALUES]):
                chosen.setdefault(row[LAYOUT], []).append((key, opened))
        for layout, rows in chosen.items():
            batch = OnlineBatch(
                keys=[key for key, _ in rows],
                event_times=[row[EVENT] for _, row in rows],
                created_times=[row[CREATED] for _, row in rows],
                rows=[row[VALUES:] for _, row in rows],
            )
            self.write(key_space, group, self.layout(layout), batch)
        return sum(map(len, chosen.values()))

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored, as it is stored: sealed. See `OnlineStore.info`."""
        return self._inner.info()

    def close(self) -> None:
        """Close the inner store."""
        self._inner.close()

    def _opened(self, row: StoredRow, key: bytes, key_space: str, group: str, known: _Contexts) -> StoredRow:
        layout, event, created = row[LAYOUT], row[EVENT], row[CREATED]
        context = known[layout] if layout in known else self._learned(key_space, group, layout, known)
        if context is None:
            return row
        times = _times(event, False, 0) if created is None else _times(event, True, created)
        sealed = row[VALUES] if len(row) == VALUES + 1 else None
        if not isinstance(sealed, bytes):
            raise tampered("it is not sealed", "an online row")
        return [layout, event, created, *self._decode.decode(self._rows.open(sealed, context + times + key))]

    def _contexts_of(self, key_space: str, group: str) -> _Contexts:
        found = self._contexts.get((key_space, group))
        return self._contexts.setdefault((key_space, group), {}) if found is None else found

    def _learned(self, key_space: str, group: str, layout: int, known: _Contexts) -> bytes | None:
        columns = self._sealed_columns(layout)
        context = known[layout] = None if columns is None else _row_context(key_space, group, columns)
        return context

    def _sealed_columns(self, layout: int) -> tuple[str, ...] | None:
        """The columns of a sealed layout; None for one in clear, where that is allowed."""
        if layout not in self._layouts:
            self._layouts[layout] = _columns_of(self._inner.layout(layout), allow_clear=self._allow_clear)
        return self._layouts[layout]

    def _sealed_batch(self, context: bytes, batch: OnlineBatch) -> OnlineBatch:
        return replace(batch, rows=list(self._sealed_rows(context, batch)))

    def _sealed_rows(self, context: bytes, batch: OnlineBatch) -> Iterator[tuple[bytes]]:
        created_times: Sequence[int | None] = batch.created_times or [None] * len(batch)
        encode, seal = self._encode.encode, self._rows.seal
        for key, event, created, values in zip(batch.keys, batch.event_times, created_times, batch.rows, strict=True):
            times = _times(event, False, 0) if created is None else _times(event, True, created)
            yield (seal(encode(list(values)), context + times + key),)


class _OpenedCells:
    """A group's cells, for a visit that reads."""

    def __init__(self, cells: Cells, sealer: Sealer, context: bytes) -> None:
        self._held = cells
        self._sealer = sealer
        self._context = context

    def get(self, key: bytes) -> bytes | None:
        return self._opened(key, self._held.get(key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._opened(key, value) for key, value in zip(keys, self._held.get_many(keys), strict=True)]

    def _opened(self, key: bytes, value: bytes | None) -> bytes | None:
        return None if value is None else self._sealer.open(value, self._context + key)


class _WritableOpenedCells(_OpenedCells):
    """A group's cells, for a visit that changes them."""

    def __init__(self, cells: WritableCells, sealer: Sealer, context: bytes) -> None:
        super().__init__(cells, sealer, context)
        self._writable = cells

    def put(self, key: bytes, value: bytes) -> None:
        self._writable.put(key, self._sealer.seal(value, self._context + key))

    def delete(self, key: bytes) -> None:
        self._writable.delete(key)


def _context(kind: bytes, *parts: str) -> bytes:
    """How a context begins: texts with their lengths, so that no two lists of them are the same bytes."""
    encoded = [part.encode() for part in parts]
    return kind + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _row_context(key_space: str, group: str, columns: Sequence[str]) -> bytes:
    return _context(b"r", key_space, group, _columns_text(columns))


def _columns_text(columns: Sequence[str]) -> str:
    return json.dumps(list(columns), ensure_ascii=False, separators=(",", ":"))


def _sealed_layout(columns: Sequence[str]) -> tuple[str]:
    return (_SEALED + _columns_text(columns),)


def _columns_of(stored: tuple[str, ...], *, allow_clear: bool) -> tuple[str, ...] | None:
    if len(stored) == 1 and stored[0].startswith(_SEALED + "["):
        try:
            return tuple(json.loads(stored[0].removeprefix(_SEALED)))
        except ValueError as error:
            raise CorruptStoreError("a sealed layout of the online store cannot be read", found=str(error)) from error
    if allow_clear:
        return None
    raise tampered(
        "it lies there in clear, as from before there was a key, or as somebody else put it", "an online row"
    )
