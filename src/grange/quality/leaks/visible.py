"""Leaks in what rows see: their own event, days before they are over, values before they were known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from grange.quality.leaks.leak import Leak
from grange.quality.leaks.uses import Use

if TYPE_CHECKING:
    import polars as pl

    from grange.quality.leaks.training import Joined

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
MOST: Final = 0.5
"""A share of rows above this is most of them."""
FEWEST: Final = 10
"""Fewer rows say nothing about times."""
SNAPSHOT: Final = 8 * HOUR
"""What is known so soon after a midnight is a state as of that midnight, not a day's events."""
LOAD: Final = 0.05
"""Created times that spread over less than this share of what they are of were written by one load."""

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """`Joined` in numbers: of the rows that have a time and saw an event."""

    uses: tuple[Use, ...]
    times: Ints
    """The spine's."""
    events: Ints
    created: Ints
    """Of those of `known`; 0 elsewhere."""
    known: Mask
    """Whether there is a created time."""
    asked: int
    """Rows that have a time, whether they saw something or not."""
    naive: bool | None

    @property
    def group(self) -> str:
        """The feature group's name."""
        return self.uses[0].group

    @property
    def has_created(self) -> bool:
        """Whether any created time is known."""
        return bool(self.known.any())


@dataclass(frozen=True, slots=True, eq=False)
class Micros:
    """Times in microseconds UTC. A date is its midnight (TIME-1)."""

    values: Ints
    """0 where there is none."""
    known: Mask
    """Whether there is one."""


def seen(times: Micros, joined: Joined) -> Seen:
    """What rows saw, in numbers. `times` has one element per row of `joined`."""
    event = in_micros(joined.event_time)
    rows = np.flatnonzero(times.known & event.known)
    if joined.created_time is None:
        created = Micros(np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_))
    else:
        everywhere = in_micros(joined.created_time)
        created = Micros(everywhere.values[rows], everywhere.known[rows])
    return Seen(
        joined.uses,
        times.values[rows],
        event.values[rows],
        created.values,
        created.known,
        int(np.count_nonzero(times.known)),
        joined.naive,
    )


def check_visible(
    all_seen: Sequence[Seen], times: Micros, *, labels: Sequence[str], naive: bool | None, as_known: bool
) -> Iterator[Leak]:
    """LEAK-101, LEAK-102, LEAK-103 and LEAK-105.

    Args:
        all_seen: by join.
        times: the spine's.
        labels: the labels' names.
        naive: whether the spine's times have no zone; None is not known.
        as_known: whether the join left out what was created later (PIT-5).
    """
    yield from _own_events(all_seen, labels, as_known)
    yield from _zones(all_seen, naive)
    yield from _dates(all_seen, as_known)
    yield from _dated_spine(all_seen, times)
    if not as_known:
        yield from _known_later(all_seen)


def _own_events(all_seen: Iterable[Seen], labels: Sequence[str], as_known: bool) -> Iterator[Leak]:
    for item in all_seen:
        uses = [use for use in item.uses if use.sees_own_moment]
        own = int((item.events == item.times).sum())
        if not uses or item.asked < FEWEST or own <= MOST * item.asked or (as_known and item.has_created):
            continue
        telling = [use for use in uses if any(use.reads(label) for label in labels)]
        if not telling and _is_dated(item, as_known):
            continue  # LEAK-103 says more of it
        label = next((label for use in telling for label in labels if use.reads(label)), None)
        reading = f", and {telling[0].name!r} reads {label!r}" if telling else ""
        yield Leak(
            "LEAK-101",
            "warning" if telling else "notice",
            f"{own:,} of {item.asked:,} rows see an event of feature group {item.group!r} of their very own time"
            f"{reading}",
            group=item.group,
            features=tuple(use.name for use in telling or uses),
            label=label,
            rows=own,
            of=item.asked,
        )


def _zones(all_seen: Sequence[Seen], naive: bool | None) -> Iterator[Leak]:
    zoned = [item.group for item in all_seen if item.naive is False]
    without = list(dict.fromkeys(item.group for item in all_seen if item.naive))
    if naive and zoned:
        yield Leak(
            "LEAK-102",
            "warning",
            f"the spine's times have no zone, those of feature group {zoned[0]!r} have one",
            group=zoned[0],
        )
    elif naive:
        yield Leak("LEAK-102", "notice", "the spine's times have no zone")
    if naive is False:
        for group in without:
            yield Leak(
                "LEAK-102",
                "warning",
                f"the event times of feature group {group!r} have no zone in its source, the spine's have one",
                group=group,
            )


def _dates(all_seen: Iterable[Seen], as_known: bool) -> Iterator[Leak]:
    for item in all_seen:
        if not _is_dated(item, as_known):
            continue
        uses, rows = _of_the_day(item)
        yield Leak(
            "LEAK-103",
            "warning",
            f"the event times of feature group {item.group!r} are all midnights, and {int(rows):,} of "
            f"{item.asked:,} rows see one of their own day",
            group=item.group,
            features=tuple(use.name for use in uses),
            rows=rows,
            of=item.asked,
        )


def _is_dated(item: Seen, as_known: bool) -> bool:
    """Whether most rows see a day's events at its start."""
    if item.asked < FEWEST or not _midnights(item.events) or (as_known and item.has_created):
        return False
    delays = (item.created - item.events)[item.known]
    if item.has_created and not _is_one_load(item) and np.median(delays) <= SNAPSHOT:
        return False
    return _of_the_day(item)[1] > MOST * item.asked


def _of_the_day(item: Seen) -> tuple[list[Use], int]:
    """The features that see events of the row's own day, dated by its midnight; and how many rows see one."""
    same_day = item.events // DAY == item.times // DAY
    later = same_day & (item.events < item.times)
    rows = {use: int((same_day if use.sees_own_moment else later).sum()) for use in item.uses if _sees_the_day(use)}
    return list(rows), max(rows.values(), default=0)


def _sees_the_day(use: Use) -> bool:
    """Whether an event dated by a day's midnight can be seen later that day."""
    if not use.of_events:
        return False
    aggregate = use.aggregate
    if aggregate is None:
        return True
    if aggregate.every is not None and aggregate.every % DAY == 0 and aggregate.offset == 0:
        return aggregate.closed in ("right", "both")
    return aggregate.shift < DAY


def _dated_spine(all_seen: Sequence[Seen], times: Micros) -> Iterator[Leak]:
    clock = times.values[times.known]
    finer = [item for item in all_seen if len(item.events) >= FEWEST and (item.events % DAY != 0).any()]
    if len(clock) >= FEWEST and finer and _midnights(clock):
        yield Leak(
            "LEAK-103",
            "notice",
            f"all {len(clock):,} times of the spine are midnights: each row sees what was known when its day began",
            rows=len(clock),
            of=len(clock),
        )


def _known_later(all_seen: Iterable[Seen]) -> Iterator[Leak]:
    for item in all_seen:
        of = int(item.known.sum())
        later = int((item.created > item.times)[item.known].sum())
        uses = [use for use in item.uses if use.of_events and (use.aggregate is None or use.aggregate.shift == 0)]
        if not uses or of < FEWEST or later <= MOST * of:
            continue
        load = _is_one_load(item)
        yield Leak(
            "LEAK-105",
            "notice" if load else "warning",
            f"{later:,} of {of:,} rows see a value of feature group {item.group!r} that was created after their time"
            f"{', all by one load' if load else ''}",
            group=item.group,
            features=tuple(use.name for use in uses),
            rows=later,
            of=of,
        )


def _is_one_load(item: Seen) -> bool:
    """Whether created times say when old history was loaded, not when something became known."""
    created, events = item.created[item.known], item.events[item.known]
    span = int(np.ptp(events))
    return span > 0 and int(np.ptp(created)) < LOAD * span


def _midnights(micros: Ints) -> bool:
    """Whether times of several days are all their days' first moments."""
    return len(micros) >= FEWEST and not (micros % DAY).any() and bool((micros != micros[0]).any())


def in_micros(times: pl.Series) -> Micros:
    """Times of any unit and zone, or dates, in microseconds UTC."""
    import polars as pl

    zone = times.dtype.time_zone if isinstance(times.dtype, pl.Datetime) else None
    values = times.cast(pl.Datetime("us", zone)).to_physical()  # which count from 1970-01-01 UTC in any zone
    if not values.null_count():
        return Micros(values.to_numpy(), np.ones(len(values), np.bool_))
    return Micros(values.fill_null(0).to_numpy(), values.is_not_null().to_numpy())


__all__ = ["Micros", "Seen", "check_visible", "in_micros", "seen"]
