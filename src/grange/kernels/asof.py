"""The as-of join: which stored row each spine row sees (PIT-2 to PIT-5), as one row number per spine row.

Stored rows have a rank in PIT-3 order: event time, created time with nulls first, sequence. The rows that a spine
row can see by time are then the ranks below a limit, and the newest of them is the largest rank. Entity code and
rank packed into one integer sort fast and never tie, and the answer is the packed number just below the spine
row's own (code, limit).

The spine is sorted once per join key, so that every search walks memory forwards, and is shared by all groups. One
that comes in order of key and time is not sorted at all.

    index = KeyIndex.of({"user_id": spine_ids})
    spine = Spine.of(index, Instants.of(spine_times))
    history = History.of(index.lookup({"user_id": ids}), event_time, created_time=created, sequence=sequence)
    rows = as_of(spine, history, ttl=30 * DAY)          # -1: nothing to see
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from grange.kernels.arrays import KNOWN_ALWAYS, Ints, Mask, argsort, integers, micros, room, single, tiles
from grange.kernels.keys import KeyIndex

NOTHING = -1
"""The row number that says no row is visible."""
_MIN = int(np.iinfo(np.int64).min)
_MAX = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class Instants:
    """The times of a spine. They are sorted when that is first needed, once for all join keys.

    Shape:
        `given` has one element per spine row, arbitrary where `valid` (None: everywhere) says that there is no time.
        `micros` ascends; `rows` says which spine row each belongs to. Rows without a time are left out.
    """

    given: Ints
    valid: Mask | None

    @classmethod
    def of(cls, times: pa.Array | pa.ChunkedArray) -> Instants:
        """Those of a time column; nulls match nothing (TIME-1)."""
        return cls(*micros(times))

    @property
    def count(self) -> int:
        """The number of spine rows, those without a time included."""
        return len(self.given)

    @cached_property
    def rows(self) -> Ints:
        """The spine rows in order of their times."""
        if self.valid is None:
            return argsort(self.given)
        rows = np.flatnonzero(self.valid)
        return rows[argsort(self.given[rows])]

    @cached_property
    def micros(self) -> Ints:
        """The times in their order."""
        return self.given[self.rows]


@dataclass(frozen=True, eq=False)
class Spine:
    """A spine's rows in order of (entity code, time). Immutable; made once per join key.

    Shape:
        `codes` and `ranks` (positions in `instants`) have one element per row that has both a key and a time.
    """

    codes: Ints
    instants: Instants
    _sorted: Ints | None
    """The ranks; None when the rows stand in this order already, as those of made spines do."""

    @classmethod
    def of(cls, index: KeyIndex, instants: Instants) -> Spine:
        """Sort the rows whose keys `index` encodes. `index` and `instants` are of the same rows."""
        present = instants.valid is None and (not len(index.codes) or index.codes[0] >= 0)
        if present and _ascends([index.codes, instants.given]):
            return cls(index.codes, instants, None)
        codes = index.codes[instants.rows]
        packed, bits = _pack(codes)
        packed.sort()
        return cls(packed >> bits, instants, packed & ((1 << bits) - 1))

    @cached_property
    def ranks(self) -> Ints:
        """By position: which of the instants it is."""
        if self._sorted is not None:
            return self._sorted
        ranks = np.empty(len(self.codes), np.int64)
        ranks[self.instants.rows] = np.arange(len(ranks))
        return ranks

    def times(self, part: slice) -> Ints:
        """The times at some positions."""
        return self.instants.given[part] if self._sorted is None else self.instants.micros[self._sorted[part]]

    def rows(self, part: slice) -> Ints | slice:
        """The spine's rows at some positions."""
        return part if self._sorted is None else self.instants.rows[self._sorted[part]]


@dataclass(frozen=True, slots=True)
class History:
    """The stored rows of one group, ranked.

    Shape:
        `codes`, `times` and `created` have one element per row that has an event time, in PIT-3 order.
        `order` says which row each is; None when they are the rows themselves.
    """

    codes: Ints
    times: Ints
    created: Ints | None
    order: Ints | None

    @classmethod
    def of(
        cls,
        codes: Ints,
        event_time: pa.Array | pa.ChunkedArray,
        *,
        created_time: pa.Array | pa.ChunkedArray | None = None,
        sequence: pa.Array | pa.ChunkedArray | None = None,
        ordered: bool = False,
    ) -> History:
        """Rank rows.

        Args:
            codes: of the rows' keys, from `KeyIndex.lookup`.
            event_time: when a row was true. A row without one is never visible.
            created_time: when a row became known; decides ties of event time, and `as_known`.
            sequence: decides what times leave open; without it, the row that stands later is the newer one.
            ordered: the rows stand in PIT-3 order already, so `created_time` is needed for `as_known` only.
        """
        times, valid = micros(event_time)
        created = None if created_time is None else _known_from(created_time)
        order: Ints | None = None if valid is None else np.flatnonzero(valid)
        if not ordered:
            order = _ranked(times, created, _numbers(sequence), order)
        if order is None:
            return cls(codes, times, created, None)
        return cls(codes[order], times[order], None if created is None else created[order], order)

    def rows(self, positions: Ints) -> Ints:
        """The row numbers at positions in PIT-3 order."""
        return positions if self.order is None else self.order[positions]


def as_of(
    spine: Spine, history: History, *, ttl: int | None = None, exact_matches: bool = True, as_known: bool = False
) -> Ints:
    """The stored row that each spine row sees.

    Shape:
        One int64 per spine row, in the spine's own order (PIT-1): a row number of the history, or `NOTHING`.
    Time:
        A row at `f` is visible at `t` when `f <= t` (`f < t` without `exact_matches`) and, with a ttl in
        microseconds, `t - f <= ttl` (PIT-2). With `as_known`, a row created after `t` is invisible, and a row
        without created time is known always (PIT-5).
    """
    found = np.full(spine.instants.count, NOTHING, np.int64)
    packed, bits = _pack(history.codes)
    if not len(packed) or not len(spine.codes):
        return found
    packed.sort()
    limits = np.searchsorted(history.times, spine.instants.micros, side="right" if exact_matches else "left")
    first = spine.codes << bits
    last = np.searchsorted(packed, first | limits[spine.ranks]) - 1
    del limits
    if as_known and history.created is not None:
        known = history.created[packed & ((1 << bits) - 1)]
        last = _last_known(known, np.searchsorted(packed, first), last, spine.instants.micros[spine.ranks])
    newest = packed[np.maximum(last, 0)]
    hit = (last >= 0) & (newest >= first)
    newest &= (1 << bits) - 1
    if ttl is not None:
        hit &= history.times[newest] >= _oldest(spine.instants.micros, ttl)[spine.ranks]
    found[spine.instants.rows[spine.ranks[hit]]] = history.rows(newest[hit])
    return found


def latest(history: History) -> Ints:
    """The row number of every entity key's newest row by PIT-3, ascending. Absent keys and null times have none."""
    packed, bits = _pack(history.codes)
    packed.sort()
    codes = packed >> bits
    newest = np.ones(len(codes), np.bool_)
    np.not_equal(codes[1:], codes[:-1], out=newest[:-1])
    rows = history.rows(packed[newest] & ((1 << bits) - 1))
    rows.sort()
    return rows


def in_order_of_code(codes: Ints, *, spent: bool = False) -> tuple[Ints, int]:
    """Present keys' codes and positions, each pair in one integer, sorted; and how many bits the position has.

    `spent`: nobody looks at the codes again, and they may be written over.
    """
    bits = len(codes).bit_length()
    absent = len(codes) > 0 and int(codes.min()) < 0
    packed: Ints = codes if spent and codes.flags.writeable else room(len(codes))
    np.left_shift(codes, bits, out=packed)
    for tile in tiles(len(packed)):
        packed[tile] |= np.arange(tile.start, tile.stop)
    if absent:  # a negative code stays negative
        packed = packed[packed >= 0]
    packed.sort()
    return packed, bits


def _pack(codes: Ints) -> tuple[Ints, int]:
    """Code and position of every present key in one integer, unsorted, and how many bits the position has."""
    bits = len(codes).bit_length()
    positions = np.arange(len(codes), dtype=np.int64)
    absent = codes < 0
    if absent.any():
        positions = positions[~absent]
        codes = codes[positions]
    return (codes << bits) | positions, bits


def _oldest(times: Ints, ttl: int) -> Ints:
    """`times - ttl`, without wrapping around below the smallest integer."""
    oldest: Ints = np.maximum(times, _MIN + ttl) - ttl
    return oldest


def _known_from(created: pa.Array | pa.ChunkedArray) -> Ints:
    values, valid = micros(created)
    return values if valid is None else np.where(valid, values, KNOWN_ALWAYS)


def _numbers(column: pa.Array | pa.ChunkedArray | None) -> Ints | None:
    return None if column is None else integers(single(column))[0]


def _ranked(times: Ints, created: Ints | None, sequence: Ints | None, rows: Ints | None) -> Ints | None:
    """The rows in PIT-3 order; None when they all stand in it already."""
    ties = [values if rows is None else values[rows] for values in (created, sequence) if values is not None]
    times = times if rows is None else times[rows]
    if _ascends([times, *ties]):
        return rows
    # a tie is decided by what follows, and at the very end by where the row stands: every sort is stable
    order = argsort(times) if _ascends(ties) else np.lexsort((*reversed(ties), times))
    return order if rows is None else rows[order]


def _ascends(columns: list[Ints]) -> bool:
    """Whether rows ascend by the first column, its ties by the second, and so on."""
    steps = len(columns[0]) - 1 if columns else 0
    return all(_steps_up([values[tile.start : tile.stop + 1] for values in columns]) for tile in tiles(steps))


def _steps_up(columns: list[Ints]) -> bool:
    undecided: Mask | None = None
    for values in columns:
        step_down, same = values[1:] < values[:-1], values[1:] == values[:-1]
        if np.any(step_down if undecided is None else step_down & undecided):
            return False
        undecided = same if undecided is None else same & undecided
        if not undecided.any():
            return True
    return True


def _last_known(known: Ints, start: Ints, last: Ints, at: Ints) -> Ints:
    """The last position in `[start, last]` with `known <= at`, element by element; -1 where there is none.

    Most rows are known when they happen, so `last` itself is tried first. What is left descends a tree of minima,
    one level of all queries at a time: a run of rows that all became known late (a backfill) costs a few steps,
    not a walk.
    """
    found = np.full(len(last), -1, np.int64)
    asked = last >= start
    now = asked & (known[np.maximum(last, 0)] <= at)
    found[now] = last[now]
    left = np.flatnonzero(asked & ~now)
    if len(left):
        found[left] = _descend(_minima(known), start[left], last[left], at[left])
    return found


def _minima(values: Ints) -> list[Ints]:
    """Level 0 is the values; an element of level `k + 1` is the smaller of two neighbours of level `k`."""
    levels = []
    while len(values) > 1:
        if len(values) % 2:
            values = np.append(values, _MAX)
        levels.append(values)
        values = np.minimum(values[0::2], values[1::2])
    return [*levels, values]


def _descend(levels: list[Ints], start: Ints, end: Ints, at: Ints) -> Ints:
    """The last position in `[start, end)` whose value is `<= at`; -1 where there is none. See `_last_known`."""
    found = np.full(len(end), -1, np.int64)
    queries, block = np.arange(len(end)), end.copy()
    hits: list[tuple[Ints, Ints]] = []  # per level: queries, and the block that holds their answer
    for level, minima in enumerate(levels):
        inside = (block << level) > start[queries]  # blocks before the run's start belong to other keys
        queries, block = queries[inside], block[inside]
        odd = (block & 1).astype(np.bool_)
        hit = odd.copy()
        hit[odd] = minima[block[odd] - 1] <= at[queries[odd]]
        hits.append((queries[hit], block[hit] - 1))
        queries, block = queries[~hit], block[~hit] >> 1
    queries, block = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for level in range(len(levels) - 1, -1, -1):
        if len(queries):
            block = 2 * block + 1
            block -= levels[level][block] > at[queries]
        queries, block = np.concatenate([queries, hits[level][0]]), np.concatenate([block, hits[level][1]])
    inside = block >= start[queries]
    found[queries[inside]] = block[inside]
    return found
