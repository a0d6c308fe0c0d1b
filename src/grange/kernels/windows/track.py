"""The events of some entity keys that match one filter, and the ranges of them that windows hold.

Without `as_known` the events are those that count in the end. With it (PIT-5), an event that became known late, or a
version that was superseded later, counts at some moments and not at others. Most windows hold none of these: they are
ranges of the final events like all others, once the newest events that were still unknown are cut off. The rest are
answered each from a list of its own events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.events import NEVER, Part
from grange.kernels.windows.extremes import Extremes
from grange.kernels.windows.reach import Ask, Reach, earlier
from grange.kernels.windows.selection import Selection, Table
from grange.kernels.windows.spans import Runs, Spans, expand, parts, prefix
from grange.kernels.windows.timeline import Timeline

_PAIRS: Final = 1 << 21
"""How many (question, event) pairs are looked at in one step, where questions have lists of their own."""


class Questions:
    """Entity codes and times to answer at, ascending by both. Positions found for them are kept."""

    def __init__(self, codes: Ints, times: Ints) -> None:
        self.codes = codes
        self.times = times
        self._moments: dict[tuple[int | None, int], Ints] = {}
        self._found: dict[Any, Ints] = {}

    def __len__(self) -> int:
        return len(self.codes)

    def moments(self, ask: Ask) -> Ints:
        """What the answers are as of."""
        key = ask.every, ask.offset
        if key not in self._moments:
            self._moments[key] = ask.moments(self.times)
        return self._moments[key]

    def positions(self, track: Track, ask: Ask, before: int | None) -> Ints:
        """Of each question, the first event at or after `before` microseconds before its moment; None: of all."""
        key = track, ask.every, ask.offset, before
        if key not in self._found:
            digits = self.digits(track)
            if before is None:
                self._found[key] = track.timeline.begin(digits)
            elif before == -1 and ask.every is None and track.timeline.is_of(self.codes, self.times):
                self._found[key] = np.arange(1, len(self) + 1)  # each event's own moment: what comes next is later
            else:
                self._found[key] = track.timeline.at_or_after(digits, earlier(self.moments(ask), before))
        return self._found[key]

    def digits(self, track: Track) -> Ints:
        """The codes as a track's timeline has them."""
        if track not in self._found:
            self._found[track] = track.timeline.digits(self.codes)
        return self._found[track]


@dataclass(frozen=True, slots=True)
class Windows:
    """The events that the windows of some questions hold: ranges of positions in a selection."""

    selection: Selection
    spans: Spans
    asked: Ints | None
    """Which of the questions they are, ascending; None is all."""


class Track:
    """The events of some entity keys that match a filter."""

    def __init__(self, table: Table, events: Part, matching: Mask | None, *, as_known: bool) -> None:
        """`matching`: which rows of the table match the filter; None is all."""
        final = events.final()
        chosen = None if matching is None else matching[events.rows]
        if final is not None and not as_known:
            chosen = final if chosen is None else final & chosen
        if chosen is not None and not chosen.all():
            events = events.some(np.flatnonzero(chosen))
        self._table = table
        self._events = events
        self.timeline = Timeline.of(events.codes, events.times)
        self._knowledge = Knowledge.of(events) if as_known else None
        self._final: Ints | None = None
        if self._knowledge is not None and not self._knowledge.final.all():
            self._final = np.flatnonzero(self._knowledge.final)
            self._before = prefix(self._knowledge.final)
            events = events.some(self._final)
        self._selection = Selection(table, events.rows, events.codes, events.times)

    def windows(self, questions: Questions, ask: Ask, *, runs: bool) -> Iterator[Windows]:
        """The windows of the questions: of all of them, some of which are left empty, then of those.

        `runs`: they may have gaps (`Runs`). That is much faster where many events are in a window.
        """
        moments, reach = questions.moments(ask), ask.reach
        first = questions.positions(self, ask, reach.oldest)
        last = np.maximum(questions.positions(self, ask, reach.newest), first)
        if self._knowledge is None:
            yield Windows(self._selection, held(self._selection, Spans(first, last), moments, reach), None)
            return
        # known by the time that is asked for, not by the boundary of `every`: a late event counts, as it does online
        known = questions.times
        last = self._knowledge.last_known(Spans(first, last), known)
        spans = Spans(first, last) if self._final is None else Spans(self._before[first], self._before[last])
        spans = held(self._selection, spans, moments, reach)
        looked_at = Spans(np.minimum(self._looked_at(questions, first, spans, moments, reach), last), last)
        settled = self._knowledge.settled(looked_at, known)
        yield Windows(self._selection, Spans(np.where(settled, spans.first, spans.last), spans.last), None)
        doubtful = np.flatnonzero(~settled)
        if runs and self._final is None and reach.rows is None and reach.gap is None:
            yield from self._in_runs(Spans(first, last).some(doubtful), known[doubtful], doubtful)
            return
        for part in parts((last - first)[doubtful], _PAIRS):
            asked = doubtful[part]
            yield self._own(Spans(first[asked], last[asked]), moments[asked], known[asked], reach, asked)

    def _looked_at(self, questions: Questions, first: Ints, spans: Spans, moments: Ints, reach: Reach) -> Ints:
        """From where on an event could change what the windows hold."""
        if reach.rows is not None:
            full = spans.counts >= reach.rows
            begins = spans.first if self._final is None else _at(self._final, spans.first)
            return np.where(full, begins, first)
        if reach.gap is not None:
            # an event within a gap of the oldest one could make the session longer
            oldest = np.where(spans.filled, _at(self._selection.times, spans.first), earlier(moments, reach.end))
            return np.maximum(first, self.timeline.at_or_after(questions.digits(self), earlier(oldest, reach.gap)))
        return first

    def _in_runs(self, spans: Spans, known: Ints, asked: Ints) -> Iterator[Windows]:
        """Windows without the events that were not known: from the first of these on, event by event."""
        assert self._knowledge is not None
        tails = Spans(self._knowledge.first_late(spans, known), spans.last)
        for part in parts(tails.counts, _PAIRS):
            tail, count = tails.some(_numbers(part)), part.stop - part.start
            positions = tail.positions()
            owners = np.repeat(np.arange(count), tail.counts)
            counts = self._knowledge.counts_at(positions, known[part][owners])
            border = np.ones(len(owners) + 1, np.bool_)
            border[1:-1] = (owners[1:] != owners[:-1]) | (counts[1:] != counts[:-1])
            starts = np.flatnonzero(border[:-1] & counts)
            ends = np.flatnonzero(border[1:] & counts)
            # one run of what comes before, then those of the tail
            owner = np.concatenate([np.arange(count), owners[starts]])
            order = np.argsort(owner, kind="stable")
            first = np.concatenate([spans.first[part], positions[starts]])[order]
            last = np.concatenate([tail.first, positions[ends] + 1])[order]
            yield Windows(self._selection, Runs(first, last, owner[order], count), asked[part])

    def _own(self, spans: Spans, moments: Ints, known: Ints, reach: Reach, asked: Ints) -> Windows:
        """Windows over lists of events that each belong to one question: those that counted when it was asked."""
        assert self._knowledge is not None
        positions = expand(spans.first, spans.counts)
        owners = np.repeat(np.arange(len(spans)), spans.counts)
        counts = self._knowledge.counts_at(positions, known[owners])
        positions, owners = positions[counts], owners[counts]
        selection = Selection(self._table, self._events.rows[positions], owners, self._events.times[positions])
        borders = np.searchsorted(owners, np.arange(len(spans) + 1))
        return Windows(selection, held(selection, Spans(borders[:-1], borders[1:]), moments, reach), asked)


def held(selection: Selection, spans: Spans, moments: Ints, reach: Reach) -> Spans:
    """What windows hold of the events in their bounds: all, the newest rows, or the session going on at the end."""
    if reach.rows is not None:
        return Spans(np.maximum(spans.first, spans.last - reach.rows), spans.last)
    if reach.gap is not None and len(selection):
        newest = np.maximum(spans.last - 1, 0)
        going_on = selection.times[newest] >= earlier(moments, min(reach.end + reach.gap, NEVER))
        first = np.maximum(spans.first, selection.session_starts(reach.gap)[newest])
        return Spans(np.where(going_on & spans.filled, first, spans.last), spans.last)
    return spans


def _numbers(part: slice) -> Ints:
    return np.arange(part.start, part.stop)


def _at(values: Ints, positions: Ints) -> Ints:
    """Values at positions, of which the one behind the last reads as the last."""
    if not len(values):
        return np.zeros(len(positions), np.int64)
    return values.take(np.minimum(positions, len(values) - 1))


class Knowledge:
    """When each event of a track was known, and until when it counted."""

    def __init__(self, born: Ints, died: Ints, settled: Ints, longest: int) -> None:
        self.final: Mask = died == NEVER
        self._born = born
        self._died = died
        self._first_born = Extremes(born, np.minimum, longest)
        self._last_settled = Extremes(settled, np.maximum, longest)

    @classmethod
    def of(cls, events: Part) -> Knowledge | None:
        """None when every event was known as it finally is as soon as it was true."""
        born = np.full(len(events.rows), -NEVER - 1) if events.born is None else events.born
        died = np.full(len(events.rows), NEVER) if events.died is None else events.died
        settled = np.where(died == NEVER, born, died)
        if events.died is None and bool((settled <= events.times).all()):
            return None
        _, lengths = np.unique(events.codes, return_counts=True)
        return cls(born, died, settled, int(lengths.max(initial=0)))

    def counts_at(self, positions: Ints, moments: Ints) -> Mask:
        """Whether events counted at moments."""
        counts: Mask = (self._born[positions] <= moments) & (moments < self._died[positions])
        return counts

    def settled(self, spans: Spans, moments: Ints) -> Mask:
        """Whether all events of a range had become what they finally are."""
        settled: Mask = ~spans.filled | (self._last_settled.of(spans) <= moments)
        return settled

    def first_late(self, spans: Spans, moments: Ints) -> Ints:
        """The first event of each range that was not known yet; its end where there is none."""
        low, high = spans.first.copy(), spans.last.copy()
        asked = np.flatnonzero(low < high)
        while len(asked):
            middle = (low[asked] + high[asked] + 1) // 2
            settled = self._last_settled.of(Spans(low[asked], middle)) <= moments[asked]
            low[asked] = np.where(settled, middle, low[asked])
            high[asked] = np.where(settled, high[asked], middle - 1)
            asked = asked[low[asked] < high[asked]]
        return low

    def last_known(self, spans: Spans, moments: Ints) -> Ints:
        """The ends of the ranges without those newest events that were not known yet."""
        last = spans.last.copy()
        if not len(self._born):
            return last
        late = spans.filled & (self._born.take(np.maximum(last - 1, 0)) > moments)
        asked = np.flatnonzero(late)
        # nothing from `high` on was known; from `low` on something was, or `low` is still the first
        low, high = spans.first[asked], last[asked]
        while len(asked):
            middle = (low + high) // 2
            known = self._first_born.of(Spans(middle, high)) <= moments[asked]
            low, high = np.where(known, middle, low), np.where(known, high, middle)
            done = (high == low) | (known & (high - low == 1))
            last[asked[done]] = high[done]
            asked, low, high = asked[~done], low[~done], high[~done]
        return last
