"""What a view takes of a group, as the leak check looks at it: which events a value is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import DerivedSource, FileSource, PushSource, Source, TableSource
from grange.plan.bind import BoundFeature
from grange.types.aggregates import ROWS, Aggregate

_NEWEST = ("last", "lag")
"""Functions of one row, the newest of the window."""


@dataclass(frozen=True, slots=True)
class Span:
    """Ages of events, in microseconds before the moment that is asked for: from `low` to `high`."""

    low: int
    low_closed: bool
    high: int | None
    """None is without limit."""
    high_closed: bool

    def holds(self, age: int) -> bool:
        """Whether an event of this age is in it."""
        after = age > self.low or (age == self.low and self.low_closed)
        return after and (self.high is None or age < self.high or (age == self.high and self.high_closed))

    def overlaps(self, other: Span) -> bool:
        """Whether an event can be in both."""
        low = max(self.low, other.low)
        high = min((span.high for span in (self, other) if span.high is not None), default=None)
        return high is None or low < high or (low == high and self.holds(low) and other.holds(low))


@dataclass(frozen=True, slots=True)
class Use:
    """One feature of a group as a view or request takes it."""

    group: str
    feature: str
    """Its name in the group."""
    name: str
    """Its output column."""
    source: tuple[str | None, ...]
    """What identifies the rows: where they are, and which column is their event time. Groups of equal sources have
    each other's events, at the same times."""
    keys: tuple[tuple[str, str], ...]
    """(column of the spine, join key) per join key."""
    aggregate: Aggregate | None = None
    """None for a column of the newest row."""
    exact_matches: bool = True

    @classmethod
    def of(cls, group: FeatureGroup, selection: FeatureSelection, feature: str, aggregate: Aggregate | None) -> Use:
        """A feature of a group as a selection takes it; `aggregate` is what it is, where it is windowed."""
        on = dict(selection.on)
        return cls(
            group=group.name,
            feature=feature,
            name=selection.output_name(feature),
            source=source_identity(group.source),
            keys=tuple((on.get(key, key), key) for key in group.join_keys),
            aggregate=aggregate,
            exact_matches=selection.exact_matches,
        )

    @classmethod
    def bound(cls, feature: BoundFeature) -> Use:
        """A feature of a request, as it is bound to what is stored."""
        return cls(
            group=feature.group.name,
            feature=feature.column,
            name=feature.name,
            source=source_identity(feature.group.source),
            keys=feature.keys,
            aggregate=next((item for item in feature.layout.aggregates if item.name == feature.column), None),
            exact_matches=feature.selection.exact_matches,
        )

    def __str__(self) -> str:
        return f"{self.group}:{self.feature}"

    @property
    def of_events(self) -> bool:
        """Whether it is made of rows at all; the hour of the day is not."""
        return self.aggregate is None or self.aggregate.function.about.tally != "time"

    @property
    def elsewhere(self) -> bool:
        """Whether it is of another entity than rows of its keys' own columns: an airport as a flight's destination."""
        return any(column != key for column, key in self.keys)

    @property
    def sees_own_moment(self) -> bool:
        """Whether an event at the spine row's own time is part of its value, whatever that time is (WIN-1, PIT-2).

        With `every` it is so only at boundaries, which is not counted here.
        """
        return self.of_events and (self.aggregate is None or self.aggregate.every is None) and self.span.holds(0)

    @property
    def is_point(self) -> bool:
        """Whether it is the value of a single event, the newest one, not of a stretch of time."""
        if self.aggregate is None or self.aggregate.function.name in _NEWEST:
            return True
        return self.aggregate.window.kind == "rows" and self.aggregate.window.size == 1

    @property
    def span(self) -> Span:
        """The ages of the events that it can be made of. With `every`, those as of a boundary."""
        aggregate = self.aggregate
        if aggregate is None:
            return Span(0, self.exact_matches, None, False)
        newest = aggregate.closed in ("right", "both") and (self.exact_matches or aggregate.shift > 0)
        if aggregate.window.kind != "time":
            return Span(aggregate.shift, newest, None, False)
        oldest = aggregate.closed in ("left", "both") or aggregate.function.about.tally == "point"
        return Span(aggregate.shift, newest, aggregate.shift + aggregate.window.size, oldest)

    def reads(self, column: str) -> bool:
        """Whether its value depends on a column of the group's rows, if only by its filter."""
        if self.aggregate is None:
            return self.feature == column
        return column in self.aggregate.columns or column in _words(self.aggregate.filter)

    @property
    def column(self) -> str:
        """The column of the group's rows that it is of, or `*`."""
        return self.feature if self.aggregate is None else self.aggregate.column

    @property
    def counts_rows(self) -> bool:
        """Whether it is of rows, not of a column's values."""
        return self.column == ROWS and self.of_events


def source_identity(source: Source) -> tuple[str | None, ...]:
    """What makes the rows of two sources the same rows at the same times."""
    match source:
        case FileSource():
            return "file", source.path, source.event_time
        case TableSource():
            return "table", source.name, source.event_time
        case PushSource():
            return "push", source.name, source.event_time
        case DerivedSource():
            return "derived", *map(str, source.features), source.event_time


def _words(condition: str | None) -> frozenset[str]:
    """The names in a SQL condition, without what stands in quotes as text."""
    return frozenset(re.findall(r"\w+", re.sub(r"'(?:[^']|'')*'", " ", condition or "")))


__all__ = ["Span", "Use", "source_identity"]
