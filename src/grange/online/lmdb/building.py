"""Replacing a group's rows: build the other database of the key space aside, then turn the pointer over.

The build goes through the keys once, upwards, in transactions of bounded size. Each of them merges the next new rows
with what the current database holds of the other groups, appends the result aside, and moves the frontier. A push
that lands between two of them writes to the current database and, if its key lies behind the frontier, to the
one aside as well; ahead of the frontier the build will still come by. So nothing is lost, nobody waits for longer
than one bounded transaction, and nothing is visible before the last of them turns the pointer and empties the old
database. When the process dies, the record still says that a build was under way, and the next to open or load
discards it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from grange.errors import ConflictError, CorruptStoreError, GrangeError
from grange.online.lmdb.environment import Environment
from grange.online.lmdb.records import (
    LONG_KEYS,
    Build,
    GroupRecord,
    SpaceRecord,
    decode_raw,
    decode_space,
    encode,
    is_digest,
    out_of_order,
    stored_keys,
)
from grange.ports.online import OnlineBatch, check_ascending

STEP_ROWS = 65_536
STEP_BYTES = 16 << 20
"""What one transaction of a build takes at most, so that pushes wait tens of milliseconds and not seconds."""

Item = tuple[bytes, bytes]
"""A stored key and the value of an entity."""

NOTHING: tuple[bytes | None, bytes] = (None, b"")


class Builder:
    """One load. Made, and run once, while holding the key space's load lock."""

    def __init__(
        self, shared: Environment, databases: tuple[Any, Any], record_key: bytes, pointer: bytes, group: str
    ) -> None:
        self._shared = shared
        self._databases = databases
        self._record_key = record_key
        self._pointer = pointer
        self._group = group
        self._number = 0
        self._prefix = 0
        """How many bytes of a value come before its only row."""
        self._rows = 0
        self._bytes = 0

    def run(self, layout: int, batches: Iterable[OnlineBatch]) -> int:
        """Replace the group's rows by those of the batches. Returns how many they are.

        Raises:
            RequestError: keys do not ascend.
        """
        discard_build(self._shared, self._databases, self._record_key)
        self._number = self._shared.write(self._begin)
        self._prefix = len(encode({self._number: 0})) - 1
        try:
            self._build(layout, batches)
        except BaseException:
            self._give_up()
            raise
        return self._rows

    def _give_up(self) -> None:
        try:
            discard_build(self._shared, self._databases, self._record_key)
        except GrangeError:
            return  # the error that ended the load says more; the next to open or load discards the rest

    def _build(self, layout: int, batches: Iterable[OnlineBatch]) -> None:
        waiting: list[Item] = []
        strays: list[Item] = []
        size = 0
        last: bytes | None = None
        for batch in batches:
            keys = batch.keys
            if not keys:
                continue
            check_ascending(last, keys)
            last = keys[-1]
            values = self._values(layout, batch)
            stored = stored_keys(keys)
            items = list(zip(stored, values, strict=True))
            if stored is not keys:
                self._keep_long_keys(stored, keys)
                strays += [item for item in items if out_of_order(item[0])]
                items = [item for item in items if not out_of_order(item[0])]
            waiting += items
            added = sum(map(len, values))
            size += added
            self._rows += len(values)
            self._bytes += added - self._prefix * len(values)
            if len(waiting) >= STEP_ROWS or size >= STEP_BYTES:
                self._advance(waiting, size, last=False)
                waiting, size = [], 0
        # long keys are stored as digests, which come after all others and in an order of their own
        self._advance(waiting + sorted(strays), size, last=True)

    def _keep_long_keys(self, stored: Sequence[bytes], keys: Sequence[bytes]) -> None:
        long = [(digest, key) for digest, key in zip(stored, keys, strict=True) if is_digest(digest)]
        if long:
            self._shared.write(lambda txn: keep_long_keys(txn, self._shared.meta, long))

    def _values(self, layout: int, batch: OnlineBatch) -> list[bytes]:
        """Each row as the value of an entity that has only this group."""
        number, pack = self._number, encode
        return [
            pack({number: (layout, event, created, *row)})
            for event, created, row in zip(batch.event_times, created_times(batch), batch.rows, strict=True)
        ]

    def _advance(self, items: list[Item], size: int, *, last: bool) -> None:
        """Merge items of `size` bytes, and what lies between them, in as many transactions as it takes."""
        if not items and not last:
            return
        limit = max(1, min(STEP_ROWS, STEP_BYTES * len(items) // max(size, 1) or STEP_ROWS))
        position, done = 0, False
        while not done:
            step = functools.partial(self._step, items=items, position=position, last=last, limit=limit)
            position, done = self._shared.write(step)

    # -- within a transaction ----------------------------------------------------------------------------------

    def _begin(self, txn: Any) -> int:
        record = self._record(txn)
        held = record.groups.setdefault(self._group, GroupRecord(len(record.groups)))
        record.build = Build(held.number)
        self._save(txn, record)
        return held.number

    def _step(self, txn: Any, *, items: list[Item], position: int, last: bool, limit: int) -> tuple[int, bool]:
        """Merge at most about `limit` keys; returns how many items are merged, and whether that is all."""
        record = self._record(txn)
        build = record.build
        if build is None or build.group != self._number:
            raise ConflictError("this load was discarded by another one", try_="run the same command again")
        current, aside = self._databases[record.slot], self._databases[1 - record.slot]
        if any(held.rows for held in record.groups.values() if held.number != self._number):
            cursor = txn.cursor(current)
            merged, position, done = self._merge(cursor, build, items, position, last, limit)
        else:
            merged = items[position : position + limit]
            position += len(merged)
            done = position == len(items)
            build.frontier = merged[-1][0] if merged else build.frontier
        _, added = txn.cursor(aside).putmulti(merged, dupdata=False, append=True)
        if added != len(merged):
            raise CorruptStoreError(f"{len(merged) - added} keys were already there in the part built aside")
        if done and last:
            self._turn(txn, record, current)
        self._save(txn, record)
        return position, done

    def _merge(
        self, cursor: Any, build: Build, items: list[Item], position: int, last: bool, limit: int
    ) -> tuple[list[Item], int, bool]:
        """The next merged values, and where the build stands after them.

        Covers stored keys after the frontier and up to the last item's; with `last`, all that are left.
        """
        upto = items[-1][0] if items else b""
        number, prefix, unpack = self._number, self._prefix, decode_raw
        merged: list[Item] = []
        ahead = _after(cursor, build.frontier)
        key, value = next(ahead, NOTHING)
        for _ in range(limit):
            if key is None or not (last or key <= upto):  # nothing of the others is left here
                rest = items[position : position + limit]
                merged += rest
                position += len(rest)
                build.frontier = merged[-1][0] if rest else build.frontier
                return merged, position, position == len(items)
            new = items[position] if position < len(items) else None
            if new is not None and new[0] < key:
                merged.append(new)
                build.frontier = new[0]
                position += 1
                continue
            entity = unpack(value)
            entity.pop(number, None)
            if new is not None and new[0] == key:
                entity[number] = msgspec.Raw(new[1][prefix:])
                position += 1
            if entity:
                merged.append((key, encode(entity)))
            build.frontier = key
            key, value = next(ahead, NOTHING)
        return merged, position, False

    def _turn(self, txn: Any, record: SpaceRecord, old: Any) -> None:
        """Make what was built the current database, and empty the old one."""
        record.slot = 1 - record.slot
        record.build = None
        held = record.groups[self._group]
        held.rows, held.bytes = self._rows, self._bytes
        txn.put(self._pointer, b"%d" % record.slot, db=self._shared.meta)
        txn.drop(old, delete=False)

    def _record(self, txn: Any) -> SpaceRecord:
        return decode_space(txn.get(self._record_key, b"", self._shared.meta))

    def _save(self, txn: Any, record: SpaceRecord) -> None:
        txn.put(self._record_key, encode(record), db=self._shared.meta)


def discard_build(shared: Environment, databases: tuple[Any, Any], record_key: bytes) -> None:
    """Empty the database aside and forget the build. The caller holds the key space's load lock."""

    def body(txn: Any) -> None:
        record = decode_space(txn.get(record_key, b"", shared.meta))
        if record.build is not None:
            txn.drop(databases[1 - record.slot], delete=False)
            record.build = None
            txn.put(record_key, encode(record), db=shared.meta)

    shared.write(body)


def keep_long_keys(txn: Any, meta: Any, long: Sequence[Item]) -> None:
    """Note keys that are stored as digests, so that `rows` can tell them. They stay, as others may have them too."""
    for digest, key in long:
        txn.put(LONG_KEYS + digest, key, db=meta)


def created_times(batch: OnlineBatch) -> Sequence[int | None]:
    """A batch's created times, None where there are none."""
    return [None] * len(batch) if batch.created_times is None else batch.created_times


def _after(cursor: Any, frontier: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """The entries after the frontier, ascending."""
    found = cursor.set_range(frontier) if frontier else cursor.first()
    if found and cursor.key() == frontier:
        found = cursor.next()
    if found:
        yield from cursor.iternext()
