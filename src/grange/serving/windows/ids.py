"""Which version of which event counts (WIN-6): from event id to version, without a search of the tree.

While one leaf holds all events of an entity key, the leaf tells, and the events taken back stand beside it in the root.
Later the ids lie in bucket cells by their hash (linear hashing: buckets split and join one at a time).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from grange.serving.windows import columns as packed
from grange.serving.windows.nodes import ALWAYS, BUCKETS, Header, Leaf, OrderKey, decode, encode
from grange.serving.windows.spec import StateSpec

_FULL: Final = 128
"""Ids per bucket, on average at most."""


class Version(NamedTuple):
    """The last written version of an event."""

    event_time: int
    """When live, its event time; else the later one of its own and that of the version it took back."""
    created: int
    """`ALWAYS` for null."""
    sequence: int
    live: bool
    """Whether it counts, or took the event back."""

    @property
    def written(self) -> tuple[int, int]:
        """What the last written version is the greatest of."""
        return self.created, self.sequence

    @property
    def order_key(self) -> OrderKey:
        """The place of a live version in PIT-3 order."""
        return self.event_time, self.created, self.sequence


class Forget(NamedTuple):
    """Which versions need not be remembered any more."""

    evicted: OrderKey | None
    """Live ones before it are held no more."""
    expired_before: int | None
    """Events that were taken back and are older than this could not count again."""
    rows: bool
    """Whether events count by their number too: then one counts at any age that comes after `evicted`."""

    def __call__(self, version: Version) -> bool:
        gone = self.evicted is not None and version.order_key < self.evicted
        if version.live:
            return gone
        expired = self.expired_before is not None and version.event_time < self.expired_before
        return expired and (gone or not self.rows)


class Ids:
    """The event ids of one entity key while events are applied.

    Args:
        spec: what the cells were made for.
        header: of the key's root.
        load: gives the value of a cell.
        forget: what may go.
        leaf: the root, when it is a leaf.
    """

    def __init__(
        self, spec: StateSpec, header: Header, load: Callable[[int], bytes | None], forget: Forget, leaf: Leaf | None
    ) -> None:
        self._spec = spec
        self._load = load
        self._forget = forget
        self._changed: set[int] = set()
        self.count = header.buckets
        """How many buckets there are; 0 while everything is in one dict."""
        self.entries = header.ids
        self._buckets: dict[int, dict[Any, Version]] = {}
        if not self.count:
            self._buckets[0] = {} if leaf is None else _ids_of(spec, header, leaf, forget)
            self.entries = len(self._buckets[0])

    def get(self, event: Any) -> Version | None:
        """The version of an event that was written last."""
        return self._bucket(self._place(event)).get(event)

    def put(self, event: Any, version: Version) -> None:
        """Remember another version as the last one."""
        place = self._place(event)
        bucket = self._bucket(place)
        self.entries += event not in bucket
        bucket[event] = version
        self._changed.add(place)

    def tombstones(self) -> list[list[Any]]:
        """For a root without buckets."""
        return tombstones_of(self._buckets[0])

    def spread(self) -> None:
        """Put everything into buckets, if it is not yet."""
        if self.count:
            return
        versions = self._buckets[0]
        self.count = len(versions) * 2 // _FULL + 1
        self._buckets = {place: {} for place in range(self.count)}
        for event, version in versions.items():
            self._buckets[self._place(event)][event] = version
        self._changed = set(self._buckets)

    def cells(self, steps: int) -> dict[int, bytes | None]:
        """Cells to write after `spread`, None for those to delete; at most so many buckets split or join first."""
        removed: list[int] = []
        for _ in range(steps):
            if self.entries > self.count * _FULL:
                self._split()
            elif self.count > 1 and self.entries * 4 < self.count * _FULL:
                removed.append(self._join())
            else:
                break
        cells: dict[int, bytes | None] = dict.fromkeys(BUCKETS + place for place in removed)
        for place in self._changed:
            bucket = [(event, *version) for event, version in self._buckets[place].items()]
            cells[BUCKETS + place] = _packed(self._spec, bucket)
        return cells

    def _place(self, event: Any) -> int:
        return _place(event, self.count) if self.count else 0

    def _split(self) -> None:
        old = self.count - _level(self.count)
        versions = self._bucket(old)
        self.count += 1
        self._buckets[old], self._buckets[self.count - 1] = {}, {}
        for event, version in versions.items():
            self._buckets[self._place(event)][event] = version
        self._changed |= {old, self.count - 1}

    def _join(self) -> int:
        """Put the last bucket back into the one it was split from."""
        last = self.count - 1
        into = last - _level(last)
        self._bucket(into).update(self._bucket(last))
        self.count = last
        del self._buckets[last]
        self._changed = (self._changed | {into}) - {last}
        return last

    def _bucket(self, place: int) -> dict[Any, Version]:
        bucket = self._buckets.get(place)
        if bucket is None:
            ids, times, created, sequences, live = decode(self._load(BUCKETS + place) or b"")
            found = zip(
                packed.unpack(self._spec.id_code, ids), *_versions(times, created, sequences), live, strict=True
            )
            every = {event: Version(time, made, at, bool(flag)) for event, time, made, at, flag in found}
            bucket = {event: version for event, version in every.items() if not self._forget(version)}
            self.entries -= len(every) - len(bucket)
            self._buckets[place] = bucket
            if len(bucket) < len(every):
                self._changed.add(place)
        return bucket


def tombstones_of(versions: Mapping[Any, Version]) -> list[list[Any]]:
    """The events taken back, as a root without buckets holds them."""
    return [[event, *version[:3]] for event, version in versions.items() if not version.live]


Remembered = tuple[Any, int, int, int, bool]
"""An event id and the fields of its version."""


def bucket_cells(spec: StateSpec, remembered: Sequence[Remembered]) -> tuple[int, dict[int, bytes]]:
    """New buckets for all ids of an entity key: how many, and their cells. They are half full."""
    count = len(remembered) * 2 // _FULL + 1
    buckets: list[list[Remembered]] = [[] for _ in range(count)]
    for row in remembered:
        buckets[_place(row[0], count)].append(row)
    return count, {BUCKETS + place: _packed(spec, bucket) for place, bucket in enumerate(buckets)}


def _packed(spec: StateSpec, remembered: Sequence[Remembered]) -> bytes:
    """The value of a bucket's cell."""
    ids, times, created, sequences, live = zip(*remembered, strict=True) if remembered else ((),) * 5
    return encode([
        packed.pack(spec.id_code, ids),
        packed.pack("q", times),
        packed.pack("q", created),
        packed.pack("q", sequences),
        bytes(live),
    ])  # fmt: skip


def _place(event: Any, count: int) -> int:
    """Which of so many buckets an event id lies in."""
    hashed, level = zlib.crc32(encode(event)), _level(count)
    place = hashed % (2 * level)
    return place if place < count else hashed % level


def _level(count: int) -> int:
    """The greatest power of two up to `count`."""
    return 1 << count.bit_length() - 1


def _versions(*columns: bytes) -> list[Any]:
    return [packed.view("q", column) for column in columns]


def _ids_of(spec: StateSpec, header: Header, leaf: Leaf, forget: Forget) -> dict[Any, Version]:
    """The versions that a leaf and the tombstones beside it tell of."""
    created = packed.view("q", leaf.created) if leaf.created else [ALWAYS] * len(leaf)
    events = zip(
        packed.unpack(spec.id_code, leaf.ids), leaf.time_view(), created, packed.view("q", leaf.sequences), strict=True
    )
    versions = {event: Version(time, made, at, True) for event, time, made, at in events if event is not None}
    for event, time, made, at in header.tombstones:
        tombstone = Version(time, made, at, False)
        if not forget(tombstone):
            versions[event] = tombstone
    return versions
