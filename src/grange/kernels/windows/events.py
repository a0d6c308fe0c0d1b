"""Events: the rows that windows are made of, by entity key and in PIT-3 order, each with the time it counts for.

A row counts from the moment it was known until the moment a later written version of the same event was known
(WIN-6). As finally true, the rows that count are those that nothing supersedes; as known at `t` (PIT-5), those with
`born <= t < died`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.kernels.arrays import KNOWN_ALWAYS, Ints, Mask, argsort, integers, micros, single
from grange.kernels.asof import History, in_order_of_code

NEVER: Final = int(np.iinfo(np.int64).max)
"""The time at which a row that nothing supersedes stops counting."""


@dataclass(frozen=True, slots=True)
class Events:
    """The rows of one group that count at some moment: those with a key that is asked for and an event time.

    They are put in order, by entity code, then by PIT-3. What else is known of them is looked up part by part.
    """

    _packed: Ints
    """The code, then the position in PIT-3 order."""
    _bits: int
    """Of the position."""
    _times: Ints
    """By position, as `_created` and `_rows`."""
    _created: Ints | None
    _rows: Ints | None
    """Which row of the table it is; None when positions are rows."""
    _died: Ints | None
    """By row of the table, when a later version of the event was known; None when all are the last."""

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
        spent: bool = False,
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
            spent: nobody looks at `codes` again, and they may be written over.
        """
        history = History.of(codes, event_time, created_time=created_time, sequence=sequence, ordered=ordered)
        packed, bits = in_order_of_code(history.codes, spent=spent and event_id is None)
        created = None if created_time is None else history.created
        events = cls(packed, bits, history.times, created, history.order, None)
        died = None
        if event_id is not None:
            died = _superseded(codes, single(event_id), _known_from(created_time, len(codes)), sequence)
        gone = None if retracted is None else _true(retracted)
        return events if died is None and gone is None else events._counting(died, gone)

    def __len__(self) -> int:
        return len(self._packed)

    def _counting(self, died: Ints | None, gone: Mask | None) -> Events:
        """Without the rows that never count. `died` and `gone` (taken back) are by row of the table."""
        every = self.part(slice(0, len(self)))
        ends = np.full(len(self), NEVER) if died is None else died[every.rows]
        starts = np.full(len(self), KNOWN_ALWAYS) if every.born is None else every.born
        counts = starts < ends
        if gone is not None:
            counts &= ~gone[every.rows]
        final = bool((ends[counts] == NEVER).all())
        return replace(self, _packed=self._packed[counts], _died=None if final else died)

    def code_at(self, position: int) -> int:
        """The entity code of the event at a position."""
        return int(self._packed[position]) >> self._bits

    def begin(self, code: int) -> int:
        """The position of the first event of a code, or of a greater one."""
        return int(np.searchsorted(self._packed, code << self._bits))

    def part(self, positions: slice) -> Part:
        """Some of the events, in their order."""
        packed = self._packed[positions]
        places = packed & ((1 << self._bits) - 1)
        rows = places if self._rows is None else self._rows.take(places)
        return Part(
            rows=rows,
            codes=packed >> self._bits,
            times=self._times.take(places),
            born=None if self._created is None else self._created.take(places),
            died=None if self._died is None else self._died.take(rows),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Events of some entity keys.

    Shape:
        Every array has one element per event, ordered by entity code, then by PIT-3.
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

    def some(self, which: Ints) -> Part:
        """Some of them, in their order."""
        born = None if self.born is None else self.born[which]
        died = None if self.died is None else self.died[which]
        return Part(self.rows[which], self.codes[which], self.times[which], born, died)

    def final(self) -> Mask | None:
        """Which count as finally true; None when all do."""
        return None if self.died is None else self.died == NEVER


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
