"""The nodes of an entity key's tree of events, and how they lie in cells.

Leaves hold events in PIT-3 order as columns; an inner node holds, of each child, how to find it, when its first and
last event were, and its tiles. All columns are bytes (`columns`), so that a node costs next to nothing to open and
only what is asked for is ever unpacked.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from grange.errors import CorruptStoreError
from grange.kernels.algebra import Count, Decay, Extreme, ExtremeBy, FloatSum, IntegerSum, Partial, Session
from grange.serving.windows import columns as packed
from grange.serving.windows.columns import Code
from grange.serving.windows.spec import Event, Selection, StateSpec, Tile

HEAD: Final = b"\xff"
"""Key of the cell that says what the state is made for. No encoded key starts with 0xFF, so it is nobody's and last."""
ROOT: Final = 0
"""Id of an entity key's first cell."""
BUCKETS: Final = 1 << 31
"""From this id on cells hold event ids."""
ALWAYS: Final = -(1 << 63)
"""What a null created time is stored as: before any (PIT-3)."""

OrderKey = tuple[int, int, int]
"""(event time, created time, sequence): the place of an event in PIT-3 order."""


def cell_key(key: bytes, cell: int) -> bytes:
    """The key of a cell of an entity key. Encoded keys say where they end, so no two are alike, and they ascend."""
    return key + cell.to_bytes(4, "big")


def order_key(event: Event) -> OrderKey:
    """The place of an event in PIT-3 order."""
    return event.event_time, ALWAYS if event.created is None else event.created, event.sequence


class Run(NamedTuple):
    """The values of a column in a run of events, without nulls, oldest first."""

    times: Sequence[int]
    values: Sequence[Any]
    by: Sequence[Any]


class Leaf:
    """Events in PIT-3 order, as columns."""

    __slots__ = ("_time_view", "columns", "created", "ids", "masks", "sequences", "times")

    def __init__(
        self, times: bytes, created: bytes, sequences: bytes, ids: bytes, masks: list[bytes], columns: list[bytes]
    ) -> None:
        self.times = times
        self.created = created
        """With `ALWAYS` for null; empty when events have no created time."""
        self.sequences = sequences
        self.ids = ids
        """Empty when events have no id."""
        self.masks = masks
        """Per filter a byte per event: whether it matches."""
        self.columns = columns
        self._time_view: Sequence[int] | None = None

    @classmethod
    def of(cls, spec: StateSpec, events: Sequence[Event]) -> Leaf:
        """A leaf of events in PIT-3 order."""
        times, created, sequences, ids, _, bits, values = zip(*events, strict=True) if events else ((),) * 7
        by_column = zip(*values, strict=True) if events else ((),) * len(spec.columns)
        return cls(
            packed.pack("q", times),
            packed.pack("q", [ALWAYS if time is None else time for time in created]) if spec.created else b"",
            packed.pack("q", sequences),
            b"" if spec.event_id is None else packed.pack(spec.id_code, ids),
            [bytes([bit >> place & 1 for bit in bits]) for place in range(len(spec.filters))],
            [packed.pack(code, column) for code, column in zip(spec.codes, by_column, strict=True)],
        )

    def __len__(self) -> int:
        return len(self.times) >> 3  # eight bytes each, after one

    def wire(self) -> list[Any]:
        """For MessagePack."""
        return [self.times, self.created, self.sequences, self.ids, self.masks, self.columns]

    def time_view(self) -> Sequence[int]:
        """Event times by position."""
        if self._time_view is None:
            self._time_view = packed.int_view(self.times)
        return self._time_view

    def keys(self) -> OrderKeys:
        """Order keys by position."""
        created = packed.int_view(self.created) if self.created else None
        return OrderKeys(self.time_view(), created, packed.int_view(self.sequences))

    def replaced(self, spec: StateSpec, start: int, stop: int, new: Leaf) -> Leaf:
        """The leaf with the events from `start` up to `stop` replaced by those of another."""
        return Leaf(
            _splice("q", self.times, start, stop, new.times),
            _splice("q", self.created, start, stop, new.created) if self.created else b"",
            _splice("q", self.sequences, start, stop, new.sequences),
            _splice(spec.id_code, self.ids, start, stop, new.ids) if self.ids else b"",
            [mask[:start] + more + mask[stop:] for mask, more in zip(self.masks, new.masks, strict=True)],
            [
                _splice(code, column, start, stop, more)
                for code, column, more in zip(spec.codes, self.columns, new.columns, strict=True)
            ],
        )

    def part(self, spec: StateSpec, start: int, stop: int) -> Leaf:
        """The events from `start` up to `stop`."""
        nothing, count = Leaf.of(spec, ()), len(self)
        return self.replaced(spec, stop, count, nothing).replaced(spec, 0, start, nothing)

    def run(self, spec: StateSpec, tile: Tile, start: int, stop: int) -> Run:
        """What a tile is made of, from `start` up to `stop`."""
        times = self.time_view()[start:stop]
        select = None if tile.filter is None else self.masks[tile.filter][start:stop]
        values: Sequence[Any] = times
        by: Sequence[Any] = ()
        if tile.column is not None:
            values, valid = packed.between(spec.codes[tile.column], self.columns[tile.column], start, stop)
            select = packed.both(select, valid)
        if tile.by is not None:
            by, valid = packed.between(spec.codes[tile.by], self.columns[tile.by], start, stop)
            select = packed.both(select, valid)
        if select is None or 0 not in select:
            return Run(times, values, by)
        chosen = list(itertools.compress(times, select))
        return Run(
            chosen,
            chosen if tile.column is None else list(itertools.compress(values, select)),
            list(itertools.compress(by, select)) if tile.by is not None else (),
        )


def _splice(code: Code, column: bytes, start: int, stop: int, more: bytes) -> bytes:
    return packed.splice(code, column, start, stop, packed.unpack(code, more))


class OrderKeys(Sequence[OrderKey]):
    """Order keys of a node's events or children, made when they are looked at."""

    __slots__ = ("created", "sequences", "times")

    def __init__(self, times: Sequence[int], created: Sequence[int] | None, sequences: Sequence[int]) -> None:
        self.times = times
        self.created = created
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, position: Any) -> Any:
        created = ALWAYS if self.created is None else self.created[position]
        return self.times[position], created, self.sequences[position]

    def first_from(self, key: OrderKey) -> int:
        """The position of the first that is not before `key`."""
        return bisect.bisect_left(self, key)

    def first_after(self, key: OrderKey) -> int:
        """The position of the first that is after `key`."""
        return bisect.bisect_right(self, key)


class Child(NamedTuple):
    """What an inner node holds of one child."""

    cell: int
    first: OrderKey
    last_time: int
    states: list[Any]
    """One per tile."""


class Inner:
    """Children in PIT-3 order of their events, as columns."""

    __slots__ = (
        "_last_view", "_offsets", "_time_view", "cells", "created", "last_times", "sequences", "tiles", "times",
    )  # fmt: skip

    def __init__(
        self, cells: bytes, times: bytes, created: bytes, sequences: bytes, last_times: bytes, tiles: list[bytes]
    ) -> None:
        self.cells = cells
        self.times = times
        """Of each child's first event, or earlier; so are `created` and `sequences`."""
        self.created = created
        self.sequences = sequences
        self.last_times = last_times
        self.tiles = tiles
        """Per tile a column of states."""
        self._offsets: list[int] | None = None
        self._time_view: Sequence[int] | None = None
        self._last_view: Sequence[int] | None = None

    @classmethod
    def of(cls, spec: StateSpec, children: Sequence[Child]) -> Inner:
        """An inner node of children in order."""
        return cls(
            packed.pack("q", [child.cell for child in children]),
            packed.pack("q", [child.first[0] for child in children]),
            packed.pack("q", [child.first[1] for child in children]),
            packed.pack("q", [child.first[2] for child in children]),
            packed.pack("q", [child.last_time for child in children]),
            [
                pack_states(tile.partial, [child.states[place] for child in children])
                for place, tile in enumerate(spec.tiles)
            ],
        )

    def __len__(self) -> int:
        return len(self.cells) >> 3

    def wire(self) -> list[Any]:
        """For MessagePack."""
        return [self.cells, self.times, self.created, self.sequences, self.last_times, self.tiles]

    def children(self) -> Sequence[int]:
        """The children's cells."""
        return packed.int_view(self.cells)

    def time_view(self) -> Sequence[int]:
        """The event times of the children's first events, or earlier ones."""
        if self._time_view is None:
            self._time_view = packed.int_view(self.times)
        return self._time_view

    def last_view(self) -> Sequence[int]:
        """The event times of the children's last events."""
        if self._last_view is None:
            self._last_view = packed.int_view(self.last_times)
        return self._last_view

    def counts(self) -> Sequence[int]:
        """The children's numbers of events."""
        return packed.int_view(self.tiles[0])

    def offsets(self) -> list[int]:
        """How many events there are up to the end of each child."""
        if self._offsets is None:
            self._offsets = list(itertools.accumulate(self.counts()))
        return self._offsets

    def keys(self) -> OrderKeys:
        """Order keys of the children's first events, or earlier ones."""
        return OrderKeys(self.time_view(), packed.int_view(self.created), packed.int_view(self.sequences))

    def replaced(self, spec: StateSpec, start: int, stop: int, children: Sequence[Child]) -> Inner:
        """The node with the children from `start` up to `stop` replaced by others."""
        return Inner(
            packed.splice("q", self.cells, start, stop, [child.cell for child in children]),
            packed.splice("q", self.times, start, stop, [child.first[0] for child in children]),
            packed.splice("q", self.created, start, stop, [child.first[1] for child in children]),
            packed.splice("q", self.sequences, start, stop, [child.first[2] for child in children]),
            packed.splice("q", self.last_times, start, stop, [child.last_time for child in children]),
            [
                splice_states(tile.partial, column, start, stop, [child.states[place] for child in children])
                for place, (tile, column) in enumerate(zip(spec.tiles, self.tiles, strict=True))
            ],
        )

    def joined(self, spec: StateSpec, other: Inner) -> Inner:
        """This node's children, then another's."""
        tiles = zip(spec.tiles, self.tiles, other.tiles, strict=True)
        return Inner(
            _chained(self.cells, other.cells),
            _chained(self.times, other.times),
            _chained(self.created, other.created),
            _chained(self.sequences, other.sequences),
            _chained(self.last_times, other.last_times),
            [
                pack_states(tile.partial, [*all_states(tile.partial, mine), *all_states(tile.partial, others)])
                for tile, mine, others in tiles
            ],
        )

    def part(self, spec: StateSpec, start: int, stop: int) -> Inner:
        """The children from `start` up to `stop`."""
        return self.replaced(spec, stop, len(self), ()).replaced(spec, 0, start, ())

    def state(self, spec: StateSpec, place: int, start: int, stop: int) -> Any:
        """A tile's state over the children from `start` up to `stop`."""
        partial = spec.tiles[place].partial
        return partial.merge(states_between(partial, self.tiles[place], start, stop))


def _chained(one: bytes, other: bytes) -> bytes:
    return packed.pack("q", [*packed.view("q", one), *packed.view("q", other)])


Node = Leaf | Inner


def child_of(spec: StateSpec, cell: int, node: Node) -> Child:
    """What a node's parent holds of it. The node has events."""
    count = len(node)
    if isinstance(node, Leaf):
        runs: dict[Selection, Run] = {}
        states = []
        for tile in spec.tiles:
            run = runs.get(tile.selection) or runs.setdefault(tile.selection, node.run(spec, tile, 0, count))
            states.append(tile.partial.compact(tile.partial.of(*run)))
        last_time = node.time_view()[-1]
    else:
        states = [tile.partial.compact(node.state(spec, place, 0, count)) for place, tile in enumerate(spec.tiles)]
        last_time = node.last_view()[-1]
    return Child(cell, node.keys()[0], last_time, states)


class Header(NamedTuple):
    """What the root cell holds besides the root node."""

    next_cell: int = 1
    """The id of the next new node; ids are never used again."""
    evicted: OrderKey | None = None
    """The newest event that was evicted. Those kept are all that were written and lie after it in PIT-3 order."""
    buckets: int = 0
    """How many cells hold event ids; 0 while the only leaf tells them."""
    ids: int = 0
    """How many event ids lie in the buckets, those of evicted events included until their bucket is written again."""
    tombstones: list[list[Any]] = []
    """Without buckets, the events taken back: [id, event time, created time, sequence]."""
    cells: int = 0
    """Besides the root."""
    size: int = 0
    """Of these cells, keys and values."""

    @property
    def complete_from(self) -> int | None:
        """The event time from which on every event is held; None when all ever written are."""
        return None if self.evicted is None else self.evicted[0] + 1


def encode_root(header: Header, node: Node) -> bytes:
    """The value of an entity key's first cell."""
    return encode([header, isinstance(node, Leaf), node.wire()])


def decode_root(data: bytes, key: bytes) -> tuple[Header, Node]:
    """The inverse of `encode_root`.

    Raises:
        CorruptStoreError: the cell holds something else.
    """
    try:
        (next_cell, evicted, *others), leaf, wire = decode(data)
        return Header(next_cell, None if evicted is None else tuple(evicted), *others), node_of(leaf, wire)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise _corrupt(data, key) from error


def _corrupt(data: bytes | None, key: bytes) -> CorruptStoreError:
    return CorruptStoreError(
        "a cell of a window state cannot be read back",
        found=repr(data),
        try_="build the group's online state again: grange materialize",
        details={"key": key.hex()},
    )


def encode_node(node: Node) -> bytes:
    """A node as the value of its own cell."""
    return encode([isinstance(node, Leaf), node.wire()])


def decode_node(data: bytes | None, key: bytes) -> Node:
    """The inverse of `encode_node`.

    Raises:
        CorruptStoreError: there is no such cell, or it holds something else.
    """
    try:
        leaf, wire = decode(data or b"")
        return node_of(leaf, wire)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise _corrupt(data, key) from error


def node_of(leaf: bool, wire: list[Any]) -> Node:
    """The inverse of `wire`."""
    return Leaf(*wire) if leaf else Inner(*wire)


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


# -- columns of states -------------------------------------------------------------------------------------------
# Sums of floats are many floats each: [a byte of how many, the floats, units where there are any]


def state_code(partial: Partial) -> Code:
    """How states are packed, but for those of `FloatSum`."""
    match partial:
        case Count():
            return "q"
        case IntegerSum():
            return "i"
        case Extreme():
            return packed.code_of(partial.dtype)
        case ExtremeBy() | Decay() | Session():
            return "o"
    raise TypeError(f"{partial} is no tile")


def pack_states(partial: Partial, states: Sequence[Any]) -> bytes:
    """A column of states."""
    if not isinstance(partial, FloatSum):
        return packed.pack(state_code(partial), states)
    floats = list(itertools.chain.from_iterable(floats for floats, _ in states))
    units = [str(units) if units else None for _, units in states]
    lengths = bytes([len(floats) for floats, _ in states])
    return encode([lengths, packed.pack("d", floats), units if any(units) else None])


def all_states(partial: Partial, column: bytes) -> list[Any]:
    """Every state of a column."""
    if not isinstance(partial, FloatSum):
        return packed.unpack(state_code(partial), column)
    lengths, floats, units = decode(column)
    ends = list(itertools.accumulate(lengths))
    values = packed.view("d", floats)
    return [
        (tuple(values[end - length : end]), int(unit or 0))
        for end, length, unit in zip(ends, lengths, units or itertools.repeat(None), strict=False)
    ]


def states_between(partial: Partial, column: bytes, start: int, stop: int) -> Sequence[Any]:
    """States from `start` up to `stop` to be merged: those that are not empty, or one that stands for all."""
    if not isinstance(partial, FloatSum):
        return packed.present(state_code(partial), column, start, stop)
    lengths, floats, units = decode(column)
    begin = sum(lengths[:start])
    values, _ = packed.between("d", floats, begin, begin + sum(lengths[start:stop]))
    return ((values, sum(map(int, filter(None, units[start:stop]))) if units else 0),)


def splice_states(partial: Partial, column: bytes, start: int, stop: int, states: Sequence[Any]) -> bytes:
    """The column with the states from `start` up to `stop` replaced by others."""
    if not isinstance(partial, FloatSum):
        return packed.splice(state_code(partial), column, start, stop, states)
    lengths, floats, units = decode(column)
    begin = sum(lengths[:start])
    more = list(itertools.chain.from_iterable(new for new, _ in states))
    new_units = [str(new) if new else None for _, new in states]
    if units or any(new_units):
        units = list(units or [None] * len(lengths))
        units[start:stop] = new_units
        units = units if any(units) else None
    return encode([
        lengths[:start] + bytes([len(new) for new, _ in states]) + lengths[stop:],
        packed.splice("d", floats, begin, begin + sum(lengths[start:stop]), more),
        units,
    ])  # fmt: skip
