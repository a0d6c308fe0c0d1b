"""What the online state of a group's windowed features keeps of each event, and what it keeps of runs of events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from grange.errors import DefinitionError
from grange.kernels.algebra import Count, Ends, Newest, Partial, Session, algebra
from grange.serving.windows.columns import Code, code_of
from grange.types import Schema
from grange.types.aggregates import ROWS, Aggregate
from grange.types.dtypes import DataType

DAY: Final = 86_400_000_000
FORMAT: Final = 2
"""Of the cells; raise it when they change, so that older ones are noticed."""


class Event(NamedTuple):
    """One version of one event of an entity key, as it is written."""

    event_time: int
    """Microseconds UTC."""
    created: int | None
    """When it became known, microseconds UTC; None is before any."""
    sequence: int
    """In which order versions were written: the larger one later. Of equal ones the one applied later."""
    id: Any
    """Which event this is a version of, as a wire value; None is an event of its own (WIN-6)."""
    retracted: bool
    """Whether this version takes the event back."""
    filters: int
    """Bit k is set when the event matches the k-th of `StateSpec.filters`."""
    values: Sequence[Any]
    """In the order of `StateSpec.columns`: wire values of `grange.serving.values`."""


Selection = tuple[int | None, int | None, int | None]
"""Column, by and filter of a tile: tiles of the same selection are made of the same values."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What is kept of every run of events: the partial of a column's values in the events that match a filter."""

    partial: Partial
    column: int | None = None
    """A position in `StateSpec.columns`; None is `*`."""
    by: int | None = None
    """The position of what `min_by` and `max_by` compare."""
    filter: int | None = None
    """A position in `StateSpec.filters`; None is every event."""

    @property
    def selection(self) -> Selection:
        """Which values it is of."""
        return self.column, self.by, self.filter


EVENTS: Final = Tile(Count())
"""How many events; the first tile of every state."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """What the state of a group keeps. Equal specs read each other's cells; make one with `of`."""

    columns: tuple[tuple[str, DataType], ...]
    """The base columns kept with each event."""
    filters: tuple[str, ...]
    """The filters, in the order of `Event.filters`."""
    tiles: tuple[Tile, ...]
    """Kept per run of events; the first is `EVENTS`."""
    event_id: DataType | None
    """Type of the event id; None when events have none."""
    created: bool
    """Whether events have a created time."""
    identity: tuple[str | None, str | None]
    """The columns that identify events and take them back."""
    ttl: int | None
    """Microseconds; an event older than this counts nowhere (PIT-2)."""
    horizon: int | None
    """How far back an event can still count, in microseconds; None is for ever."""
    rows: int
    """So many of the newest events before the horizon count too: windows of rows reach them at any age."""
    grace: int
    """Events are kept this much longer, so that reads as of up to this long ago stay exact; microseconds."""
    leaf_size: int = 128
    """Events per leaf, at most; also the most events that one cell alone holds. Larger leaves make the two ends of a
    window dearer, smaller ones the way there; 64 to 256 differ little."""
    fan_out: int = 32
    """Children per inner node, at most."""
    codes: tuple[Code, ...] = field(init=False, repr=False)
    """How the columns are packed."""
    id_code: Code = field(init=False, repr=False)
    layout: str = field(init=False, repr=False, compare=False)
    """Everything that the meaning of the cells depends on, as text."""
    digest: bytes = field(init=False, repr=False, compare=False)
    """16 bytes that stand for the layout."""
    places: dict[Tile, int] = field(init=False, repr=False, compare=False)
    """Positions in `tiles`."""

    def __post_init__(self) -> None:
        if self.leaf_size < 2 or self.fan_out < 4:
            raise ValueError(f"no tree has leaves of {self.leaf_size} and {self.fan_out} children per node")
        set_ = object.__setattr__
        set_(self, "codes", tuple(code_of(dtype) for _, dtype in self.columns))
        set_(self, "id_code", "o" if self.event_id is None else code_of(self.event_id))
        set_(self, "places", {tile: place for place, tile in enumerate(self.tiles)})
        described = {
            "format": FORMAT,
            "columns": [[name, str(dtype)] for name, dtype in self.columns],
            "filters": list(self.filters),
            "tiles": [[str(tile.partial), tile.column, tile.by, tile.filter] for tile in self.tiles],
            "event_id": None if self.event_id is None else str(self.event_id),
            "created": self.created,
            "identity": list(self.identity),
            "keeps": [self.horizon, self.rows, self.grace],
        }
        set_(self, "layout", msgspec.json.encode(described).decode())
        set_(self, "digest", hashlib.blake2b(self.layout.encode(), digest_size=16).digest())

    @classmethod
    def of(
        cls,
        aggregates: Iterable[Aggregate],
        *,
        schema: Schema,
        event_id: str | None,
        retracted: str | None,
        created: bool,
        ttl: int | None,
        grace: int = DAY,
    ) -> StateSpec:
        """What must be kept to read aggregates at any moment from `grace` before the last write on.

        Args:
            aggregates: all that the state shall answer; those of the moment alone need nothing.
            schema: the group's base columns.
            event_id: the column that says which rows are versions of one event (WIN-6).
            retracted: the column that takes events back.
            created: whether rows have a created time.
            ttl: the group's, in microseconds.
            grace: how long ago reads may be as of; microseconds.

        Raises:
            SchemaError: a column is not in the schema.
            DefinitionError: a retraction without an event id takes nothing back.
        """
        if retracted is not None and event_id is None:
            raise DefinitionError(
                f"column {retracted!r} retracts events, and nothing says which",
                try_="name the column that identifies an event: event_id=",
            )
        asked = [aggregate for aggregate in aggregates if aggregate.function.about.tally != "time"]
        names = dict.fromkeys(name for aggregate in asked for name in aggregate.columns)
        filters = dict.fromkeys(aggregate.filter for aggregate in asked if aggregate.filter is not None)
        columns = tuple((name, schema[name]) for name in names)
        needs = Needs(tuple(names), tuple(filters))
        reaches = [_reach(aggregate, ttl) for aggregate in asked]
        horizon: int | None = 0
        for reach, _ in reaches:
            horizon = None if horizon is None or reach is None else max(horizon, reach)
        return cls(
            columns=columns,
            filters=tuple(filters),
            tiles=tuple(dict.fromkeys([EVENTS, *(tile for each in asked for tile in needs.all(each))])),
            event_id=None if event_id is None else schema[event_id],
            created=created,
            identity=(event_id, retracted),
            ttl=ttl,
            horizon=horizon,
            rows=max((rows for _, rows in reaches), default=0),
            grace=grace,
        )

    def expired_before(self, now: int) -> int | None:
        """The event time before which no event counts any more, as of `now` or `grace` before it; None: all count."""
        return None if self.horizon is None else now - self.horizon - self.grace


def _reach(aggregate: Aggregate, ttl: int | None) -> tuple[int | None, int]:
    """How far before `t` an event counts (None: for ever), and how many of the newest before that count too."""
    base = aggregate.shift + (aggregate.every or 0)
    if aggregate.filter is None:
        if aggregate.window.kind == "rows":
            return base, aggregate.window.size
        if aggregate.window.kind == "lifetime" and aggregate.function.about.tally == "point":
            return base, 1
    limits = [limit for limit in (aggregate.reach,) if limit is not None]
    if ttl is not None:
        limits.append(ttl + (base if aggregate.function.about.tally == "point" else aggregate.every or 0))
    return min(limits, default=None), 0


@dataclass(frozen=True, slots=True)
class Needs:
    """Which tiles an aggregate needs, by the names of the columns and filters that are kept."""

    columns: tuple[str, ...]
    filters: tuple[str, ...]

    def all(self, aggregate: Aggregate) -> list[Tile]:
        """The tiles of its function and of its window."""
        return [*self.function(aggregate), *self.window(aggregate)]

    def filter(self, aggregate: Aggregate) -> int | None:
        """The position of its filter."""
        return None if aggregate.filter is None else self.filters.index(aggregate.filter)

    def column(self, name: str | None) -> int | None:
        """The position of a column; None of `*`."""
        return None if name is None or name == ROWS else self.columns.index(name)

    def function(self, aggregate: Aggregate) -> tuple[Tile, ...]:
        """One per partial of its algebra. First and last values are no tiles but found by counts of those there are."""
        function, where = aggregate.function, self.filter(aggregate)
        column, by = self.column(aggregate.column), self.column(aggregate.by)
        if function.about.tally == "point":
            return (Tile(Count(), filter=where),)
        if not function.about.tiles:
            return ()
        partials = algebra(function, aggregate.input, aggregate.by_input, what=aggregate.name).partials
        if any(isinstance(partial, Ends | Newest) for partial in partials):
            return (Tile(Count(), column, filter=where),)
        return tuple(Tile(partial, column, by, where) for partial in partials)

    def window(self, aggregate: Aggregate) -> tuple[Tile, ...]:
        """What finds where its window starts."""
        where = self.filter(aggregate)
        match aggregate.window.kind:
            case "rows":
                return (Tile(Count(), filter=where),)
            case "session":
                return (Tile(Session(aggregate.window.size), filter=where),)
            case "time" | "lifetime":
                return ()
