"""Events that take part, and the non-null values of their columns, with whatever functions need of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import numpy as np
import pyarrow as pa

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.decay import DecayedSums
from grange.kernels.windows.extremes import Extremes
from grange.kernels.windows.moments import FloatSums, IntegerSums, Specials, Variances
from grange.kernels.windows.sketches import sketch_items
from grange.kernels.windows.spans import Kept, Spans, prefix
from grange.kernels.windows.values import Ranks, Values, ranked
from grange.kernels.windows.wavelet import WaveletMatrix


class Table:
    """The columns of a group's events, each looked at when it is first needed."""

    def __init__(self, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> None:
        self._columns = {name: Values(column) for name, column in columns.items()}

    def __getitem__(self, name: str) -> Values:
        return self._columns[name]


class Selection(Kept):
    """Events of some entity keys, all those that count: every window is a range of positions here.

    Shape:
        `rows` (of the table), `codes` and `times` have one element per event, ordered by code and PIT-3.
    """

    def __init__(self, table: Table, rows: Ints, codes: Ints, times: Ints) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.codes = codes
        self.times = times
        borders = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        self.starts: Ints = np.concatenate([np.zeros(min(len(codes), 1), np.int64), borders])
        """The first position of every code."""
        self.lengths: Ints = np.diff(self.starts, append=len(codes))
        """How many events every code has."""
        self.longest = int(self.lengths.max()) if len(codes) else 0

    def __len__(self) -> int:
        return len(self.rows)

    def series(self, *columns: str) -> Series:
        """The events in which none of the columns is null."""
        return self.keep(columns, lambda: self._series(columns))

    def _series(self, columns: tuple[str, ...]) -> Series:
        valid: Mask | None = None
        for column in columns:
            there = self.table[column].valid
            if there is not None:
                mine = there[self.rows]
                valid = mine if valid is None else valid & mine
        if valid is None or valid.all():
            return Series(self.alike(), None, self.table[columns[0]])
        kept = Selection(self.table, self.rows[valid], self.codes[valid], self.times[valid])
        return Series(kept, prefix(valid), self.table[columns[0]])

    def alike(self) -> Selection:
        """The same events, with nothing kept: what is kept here may refer to it without referring to itself."""
        same = copy(self)
        same._kept = {}
        return same

    def before(self, spans: Spans) -> Ints:
        """The newest event time in each range; arbitrary where it is empty."""
        if not len(self.times):
            return np.zeros(len(spans), np.int64)
        return self.times.take(np.maximum(spans.last - 1, 0))

    def session_starts(self, gap: int) -> Ints:
        """By position: where the session that it belongs to starts, with events at most `gap` apart."""
        return self.keep(("session", gap), lambda: self._session_starts(gap))

    def _session_starts(self, gap: int) -> Ints:
        starts = np.zeros(len(self), np.bool_)
        starts[1:] = np.diff(self.times) > gap
        starts[self.starts] = True
        begun: Ints = np.maximum.accumulate(np.where(starts, np.arange(len(self)), 0))
        return begun

    def start_of(self, positions: Ints) -> Ints:
        """The first position of the code that each position belongs to."""
        starts = self.keep("starts", lambda: np.repeat(self.starts, self.lengths))
        found: Ints = starts.take(positions)
        return found


class Series(Kept):
    """The values of a column in the events of a selection in which they are not null.

    Shape:
        `events` are those events; values are in their order.
    """

    def __init__(self, events: Selection, before: Ints | None, values: Values) -> None:
        super().__init__()
        self.events = events
        self.values = values
        self._before = before

    def narrow(self, spans: Spans) -> Spans:
        """Ranges of the selection as ranges of its non-null events."""
        before = self._before
        if before is None:
            return spans
        return spans.keep(self, lambda: spans.through(before))

    def floats(self) -> Floats:
        """The values as float64."""
        return self.keep("floats", lambda: self.values.floats[self.events.rows])

    def keys(self) -> Ints:
        """The values as integers of the same order and equality."""
        return self.keep("keys", lambda: self.values.keys.keys[self.events.rows])

    def sums(self) -> FloatSums | IntegerSums:
        """For sums and means."""
        return self.keep("sums", self._sums)

    def _sums(self) -> FloatSums | IntegerSums:
        if self.values.kind == "float":
            return FloatSums(self.floats(), self.events.longest)
        whole = self.values.integers[self.events.rows]
        return IntegerSums(whole, self.events.longest, unsigned=self.values.wraps)

    def variances(self) -> Variances:
        """For variances."""
        return self.keep("variances", lambda: Variances(self.sums(), self.events.starts, self.events.longest))

    def least(self) -> Extremes:
        """Of floats themselves, of all else of the keys."""
        if self.values.kind == "float":
            return self.keep("least", lambda: Extremes(self.floats(), np.fmin, self.events.longest))
        return self.keep("least", lambda: Extremes(self.keys(), np.minimum, self.events.longest))

    def greatest(self) -> Extremes:
        """Of floats themselves, of all else of the keys."""
        numbers = self.floats() if self.values.kind == "float" else self.keys()
        return self.keep("greatest", lambda: Extremes(numbers, np.maximum, self.events.longest))

    def ranks(self) -> Ranks:
        """The values' ranks among those of their code."""
        return self.keep("ranks", lambda: ranked(self.events.codes, self.keys()))

    def sorted_values(self) -> tuple[WaveletMatrix, Ints]:
        """For order statistics: the ranks within each code, and by position the number of its code's first rank."""
        return self.keep("sorted", self._sorted_values)

    def _sorted_values(self) -> tuple[WaveletMatrix, Ints]:
        ids = self.ranks().ids
        if not len(ids):
            return WaveletMatrix(ids), ids
        first = np.repeat(np.minimum.reduceat(ids, self.events.starts), self.events.lengths)
        return WaveletMatrix(ids - first), first

    def earlier(self) -> WaveletMatrix:
        """For counting distinct values: by position, where in its code the same value stood before, from 1; else 0."""
        return self.keep("earlier", self._earlier)

    def _earlier(self) -> WaveletMatrix:
        earlier = self.ranks().earlier
        return WaveletMatrix(np.where(earlier < 0, 0, earlier + 1 - self.events.start_of(np.arange(len(earlier)))))

    def specials(self) -> Specials:
        """Where values are no finite numbers."""
        if self.values.kind == "float":
            return self.keep("specials", lambda: Specials.of(self.floats())[0])
        return Specials(None, None, None)

    def decayed(self, half_life: int) -> DecayedSums:
        """For decayed sums."""
        return self.keep(
            ("decayed", half_life),
            lambda: DecayedSums(self.floats(), self.events.times, half_life, self.events.longest),
        )

    def items(self) -> list[int | float | str]:
        """The values as what sketches hash."""
        return self.keep("items", lambda: sketch_items(self.values.array.take(pa.array(self.events.rows))))
