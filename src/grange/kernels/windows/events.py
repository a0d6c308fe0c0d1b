"""Events: the rows that windows are made of, by entity key and in PIT-3 order, each with the time it counts for.

A row counts from the moment it was known until the moment a later written version of the same event was known
(WIN-6). As finally true, the rows that count are those that nothing supersedes; as known at `t` (PIT-5), those with
`born <= t < died`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.kernels.arrays import KNOWN_ALWAYS, Ints, Mask, argsort, integers, micros, single
from grange.kernels.asof import History

NEVER: Final = int(np.iinfo(np.int64).max)
"""The time at which a row that nothing supersedes stops counting."""

_TILE: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Events:
    """The rows of one group that count at some moment: those with a key that is asked for and an event time.

    Shape:
        Every array has one element per row, ordered by entity code, then by PIT-3.
    """

    rows: Ints
    """Which row of the table it is."""
    codes: Ints
    times: Ints
    """Event times, microseconds since 1970-01-01 UTC."""
    born: Ints | None
    """Created times, `KNOWN_ALWAYS` for a null; None when the table has none."""
    died: Ints | None
    """When a later version of the event was known, `NEVER` for the last one; None when all are the last."""

    @classmethod
    def of(
        cls,
        codes: Ints,
        event_time: pa.Array | pa.ChunkedArray,
        *,
        created_time: pa.Array | pa.ChunkedArray | None = None,
        sequence: pa.Array | pa.ChunkedArray | None = None,
        event_id: pa.Array | pa.ChunkedArray | None = None,
        retracted: pa.Array | pa.ChunkedArray | None = None,
        ordered: bool = False,
    ) -> Events:
        """Order the rows of a table, and settle which version of an event counts when.

        Args:
            codes: of the rows' keys, from `KeyIndex.lookup`; a row with `ABSENT` is nobody's.
            event_time: when a row was true. A row without one is never visible, but it can supersede another.
            created_time: when a row became known; null is always. Decides ties of event time, versions, `as_known`.
            sequence: decides what times leave open; without it, the row that stands later is the newer one.
            event_id: rows of one entity key with equal ids are versions of one event, of which the last written
                counts (newest created time, then largest sequence). A null id is an event of its own (WIN-6).
            retracted: true in a version that takes its event back; null is false.
            ordered: the rows stand in PIT-3 order already.
        """
        history = History.of(codes, event_time, created_time=created_time, sequence=sequence, ordered=ordered)
        by_code, own_codes = _by_code(history.codes)
        events = cls(
            rows=history.rows(by_code),
            codes=own_codes,
            times=history.times[by_code],
            born=None if created_time is None or history.created is None else history.created[by_code],
            died=None,
        )
        died = None
        if event_id is not None:
            died = _superseded(codes, single(event_id), _known_from(created_time, len(codes)), sequence)
        gone = None if retracted is None else _true(retracted)
        return events if died is None and gone is None else events._counting(died, gone)

    def _counting(self, died: Ints | None, gone: Mask | None) -> Events:
        """Without the rows that never count. `died` and `gone` (taken back) are by row of the table."""
        ends = np.full(len(self.rows), NEVER) if died is None else died[self.rows]
        starts = np.full(len(self.rows), KNOWN_ALWAYS) if self.born is None else self.born
        counts = starts < ends
        if gone is not None:
            counts &= ~gone[self.rows]
        kept = self if counts.all() else self.take(np.flatnonzero(counts))
        ends = ends[counts]
        final = bool((ends == NEVER).all())
        return Events(kept.rows, kept.codes, kept.times, kept.born, None if final else ends)

    def take(self, positions: Ints | slice) -> Events:
        """Some of the rows, in their order."""
        born = None if self.born is None else self.born[positions]
        died = None if self.died is None else self.died[positions]
        return Events(self.rows[positions], self.codes[positions], self.times[positions], born, died)

    def final(self) -> Mask | None:
        """Which rows count as finally true; None when all do."""
        return None if self.died is None else self.died == NEVER


def _by_code(codes: Ints) -> tuple[Ints, Ints]:
    """The positions of present keys in order of their codes, equal codes in order of position; and these codes."""
    bits = len(codes).bit_length()
    packed = codes << bits
    for start in range(0, len(codes), _TILE):
        stop = min(start + _TILE, len(codes))
        packed[start:stop] |= np.arange(start, stop)
    if len(codes) and codes.min() < 0:
        packed = packed[codes >= 0]
    packed.sort()
    positions = packed & ((1 << bits) - 1)
    packed >>= bits
    return positions, packed


def _superseded(codes: Ints, ids: pa.Array, known: Ints, sequence: pa.Array | pa.ChunkedArray | None) -> Ints | None:
    """By row of the table, when the next version of its event was known; `NEVER` for the last, None when all are."""
    encoded = pc.dictionary_encode(ids.cast(ids.type.value_type) if pa.types.is_dictionary(ids.type) else ids)
    numbers, valid = integers(encoded.indices)
    rows = np.flatnonzero(codes >= 0 if valid is None else (codes >= 0) & valid)
    ties = [known[rows]] if sequence is None else [integers(single(sequence))[0][rows], known[rows]]
    rows = rows[np.lexsort(ties)]
    events = codes[rows] * max(len(encoded.dictionary), 1) + numbers[rows]
    order = argsort(events)
    rows, events = rows[order], events[order]
    again = np.flatnonzero(events[1:] == events[:-1])
    if not len(again):
        return None
    died = np.full(len(codes), NEVER)
    died[rows[again]] = known[rows[again + 1]]
    return died


def _known_from(created: pa.Array | pa.ChunkedArray | None, count: int) -> Ints:
    if created is None:
        return np.full(count, KNOWN_ALWAYS)
    values, valid = micros(created)
    return values if valid is None else np.where(valid, values, KNOWN_ALWAYS)


def _true(flags: pa.Array | pa.ChunkedArray) -> Mask:
    values, valid = integers(single(flags))
    taken: Mask = values != 0
    return taken if valid is None else taken & valid
