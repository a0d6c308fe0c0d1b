"""Which events a window holds, as bounds relative to the moment it is asked for (WIN-1, PIT-2, LAG-1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from grange.kernels.arrays import Ints
from grange.types.aggregates import Aggregate

_MIN: Final = int(np.iinfo(np.int64).min)
_MAX: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Reach:
    """The bounds of a window at a moment `b`, in microseconds: events with `b - oldest <= event time < b - newest`.

    Times are whole microseconds, so that every open end is a closed one a microsecond away, and all four forms of a
    window, the ttl, `exact_matches` and the lag are two numbers.
    """

    oldest: int | None
    """None is without limit."""
    newest: int
    """-1 lets events at `b` itself in, 0 does not."""
    end: int
    """The window ends at `b - end`: the lag."""
    rows: int | None = None
    """Only so many of the newest."""
    gap: int | None = None
    """Only the session that is going on at the end."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What decides which events a function sees: aggregates with equal ones share their ranges."""

    filter: str | None
    every: int | None
    offset: int
    reach: Reach

    @classmethod
    def of(cls, aggregate: Aggregate, *, ttl: int | None, exact_matches: bool) -> Ask:
        """The events that an aggregate sees, with a group's ttl (microseconds) and a reference's `exact_matches`."""
        reach = _reach(aggregate, ttl, exact_matches)
        return cls(aggregate.filter, aggregate.every, aggregate.offset if aggregate.every else 0, reach)

    def moments(self, times: Ints) -> Ints:
        """The moments that answers at the given times are as of (WIN-3)."""
        if self.every is None:
            return times
        since = (times % self.every - self.offset) % self.every
        return earlier(times, since)


def _reach(aggregate: Aggregate, ttl: int | None, exact_matches: bool) -> Reach:
    window, shift, closed = aggregate.window, aggregate.shift, aggregate.closed
    point = aggregate.function.about.tally == "point"
    limits = []
    if window.kind == "time":
        # the tolerance of a lag has both its ends inside
        limits.append(shift + window.size - (closed in ("right", "none") and not point))
    if ttl is not None:
        limits.append(ttl + (shift if point else 0))
    before = closed in ("left", "none") or (not exact_matches and shift == 0)
    return Reach(
        oldest=min(limits, default=None),
        newest=shift if before else shift - 1,
        end=shift,
        rows=window.size if window.kind == "rows" else None,
        gap=window.size if window.kind == "session" else None,
    )


def earlier(times: Ints, by: int | Ints) -> Ints:
    """`times - by`, without wrapping around at the ends of int64."""
    if isinstance(by, int):
        by = min(by, _MAX)
        if by < 0:
            later: Ints = np.minimum(times, _MAX + by) - by
            return later
    sooner = np.maximum(times, _MIN + by)
    sooner -= by
    return sooner
