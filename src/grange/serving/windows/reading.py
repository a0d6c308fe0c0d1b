"""Reading windowed features of entity keys at a moment, exactly, whatever the number of events in their windows.

A window is resolved to a run of positions in the tree of events, a run to a few pieces (`tree`), and what a function
needs of the pieces is merged (`kernels.algebra`). A read looks at the leaf where a window begins, and at the one where
it ends unless that is the newest event; all between are tiles.

Functions without tiles (median, quantile, count_distinct, mode, top_n, approx_*) read every event of the window: exact
likewise, and their cost grows with the window.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from grange.errors import DefinitionError, IncompleteStateError
from grange.kernels.algebra import Count, algebra, whole
from grange.ports.online import Cells
from grange.serving.windows import columns as packed
from grange.serving.windows.head import check_layout
from grange.serving.windows.nodes import HEAD, ROOT, Inner, Run, cell_key
from grange.serving.windows.spec import Needs, StateSpec, Tile
from grange.serving.windows.tree import Piece, Tree
from grange.types.aggregates import Aggregate, Closed, Window
from grange.types.time import from_micros


class Reading(NamedTuple):
    """What was read of one entity key."""

    found: bool
    """Whether the key has an event that is visible at the moment, of any age."""
    newest: int | None
    """The event time of the newest of these, microseconds."""
    values: list[Any]
    """One per aggregate, in order: wire values of its type. Of a key that was not found, those of an empty window."""


def read(
    cells: Cells, spec: StateSpec, key: bytes, aggregates: Sequence[Aggregate], *, now: int, exact_matches: bool = True
) -> Reading:
    """Read some aggregates of one entity key. A `Reader` made once is faster. See `Reader.read`."""
    return Reader(spec, aggregates).read(cells, key, now=now, exact_matches=exact_matches)


class Reader:
    """Reads the same aggregates again and again. Safe for several threads.

    Args:
        spec: what the cells are made for.
        aggregates: among those that the spec was made of.

    Raises:
        DefinitionError: the spec does not keep what an aggregate needs.
    """

    def __init__(self, spec: StateSpec, aggregates: Sequence[Aggregate]) -> None:
        self.spec = spec
        self._spans: list[_Span] = []
        needs = Needs(tuple(name for name, _ in spec.columns), spec.filters)
        self._features = [self._feature(aggregate, needs) for aggregate in aggregates]

    def _feature(self, aggregate: Aggregate, needs: Needs) -> _Feature:
        try:
            span = _span(self.spec, aggregate, needs)
            evaluate = _evaluator(self.spec, aggregate, needs)
        except (ValueError, KeyError) as error:
            raise DefinitionError(
                f"the online state does not keep what aggregate {aggregate.name!r} needs",
                try_="apply the definitions, then materialize the group",
            ) from error
        if span not in self._spans:
            self._spans.append(span)
        return _Feature(self._spans.index(span), evaluate)

    def read(self, cells: Cells, key: bytes, *, now: int, exact_matches: bool = True) -> Reading:
        """The aggregates of one entity key at a moment (ONL-1, WIN-2).

        Args:
            cells: the group's.
            key: the encoded entity key.
            now: the moment, microseconds UTC.
            exact_matches: whether events at the moment itself are visible (PIT-2).

        Raises:
            IncompleteStateError: events that count at this moment may have been evicted: it lies more than
                `StateSpec.grace` before a write.
            StateLayoutError: the cells were made for other aggregations.
            ColumnTypeError: an integer result does not fit 64 bits.
            CorruptStoreError: a cell cannot be read back.
        """
        return self.read_many(cells, (key,), now=now, exact_matches=exact_matches)[0]

    def read_many(self, cells: Cells, keys: Sequence[bytes], *, now: int, exact_matches: bool = True) -> list[Reading]:
        """`read` of each key, in order. Asks the cells once per level of the trees, not once per key."""
        head, *roots = cells.get_many([HEAD, *(cell_key(key, ROOT) for key in keys)])
        check_layout(head, self.spec)
        trees = [Tree(self.spec, key, cells, data) for key, data in zip(keys, roots, strict=True)]
        bounds = [span.bounds(now, exact_matches, self.spec.ttl) for span in self._spans]
        visible = now + exact_matches
        times = {visible, *(time for bound in bounds for time in (bound.low, bound.high))}
        if len(trees) * len(times) > 2:  # one window of one key finds its few nodes as well on the way
            _prefetch(cells, trees, times)
        return [self._reading(tree, bounds, visible) for tree in trees]

    def _reading(self, tree: Tree, bounds: Sequence[_Bounds], visible: int) -> Reading:
        newest = _newest(tree, visible)
        runs: dict[tuple[int, int], _Run] = {}
        spans: list[_Run] = []
        for span, bound in zip(self._spans, bounds, strict=True):
            extent = span.extent(tree, bound)
            spans.append(runs.get(extent) or runs.setdefault(extent, _Run(tree, *extent)))
        values = [feature.evaluate(spans[feature.span], bounds[feature.span].moment) for feature in self._features]
        return Reading(newest is not None, newest, values)


def _newest(tree: Tree, visible: int) -> int | None:
    """The event time of the newest event before a time, evicted ones included; None when there is none."""
    stop = tree.position(visible)
    if stop:
        return tree.time_at(stop - 1)
    evicted = tree.header.evicted
    if evicted is None:
        return None
    if evicted[0] >= visible:
        raise _incomplete(tree, visible - 1)
    return evicted[0]


def _prefetch(cells: Cells, trees: Sequence[Tree], times: set[int]) -> None:
    """Load the nodes on the way to some times, a level of all trees at once."""
    nodes: list[tuple[Tree, Inner]] = [(tree, tree.root) for tree in trees if isinstance(tree.root, Inner)]
    while nodes:
        wanted: dict[tuple[int, int], tuple[Tree, int]] = {}
        for number, (tree, node) in enumerate(nodes):
            lasts, firsts = node.last_view(), node.time_view()
            for time in times:
                child = bisect.bisect_left(lasts, time)
                if child < len(lasts) and firsts[child] < time:
                    wanted[number, child] = tree, node.children()[child]
        asked = list(wanted.values())
        keys = [cell_key(tree.key, cell) for tree, cell in asked]
        loaded = [
            (tree, tree.accept(cell, data))
            for (tree, cell), data in zip(asked, cells.get_many(keys) if keys else (), strict=True)
        ]
        nodes = [(tree, node) for tree, node in loaded if isinstance(node, Inner)]


def _incomplete(tree: Tree, needed: int | None) -> IncompleteStateError:
    since = tree.header.complete_from
    assert since is not None, "nothing is missing before something was evicted"
    return IncompleteStateError(
        f"the online state of this entity holds every event from {from_micros(since).isoformat()} on, none before",
        found="a read that needs " + ("all events" if needed is None else f"those from {_shown(needed)} on"),
        try_="ask for a later moment, or for the past in get_historical_features; where corrections moved events out "
        "of the windows, materialize the group again",
        details={"complete_from": since, "needed_from": needed},
    )


def _shown(micros: int) -> str:
    try:
        return from_micros(micros).isoformat()
    except (OverflowError, ValueError):  # before the year 1
        return f"{micros} us"


# -- windows -----------------------------------------------------------------------------------------------------

_NEVER = -(1 << 100)
"""Earlier than any event."""


class _Bounds(NamedTuple):
    """Where a span lies in time, before the events are known."""

    moment: int
    """`t`, moved back to a boundary where `every` says so."""
    end: int
    """Where the window ends: `t - shift`."""
    low: int
    """No event before it is in the window; `_NEVER` when any could be."""
    high: int
    """No event at it or after it is."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A window of aggregates that share it."""

    window: Window
    closed: Closed
    every: int | None
    offset: int
    shift: int
    point: bool
    """Whether only its newest row counts, found within a tolerance: a lag."""
    filter: int | None
    """Of windows that depend on which events match; None for others."""
    session: int
    """The place of the session's tile; 0 where it is none."""

    def bounds(self, now: int, exact_matches: bool, ttl: int | None) -> _Bounds:
        """The first, second and fourth step of `Aggregate`, as times."""
        moment = now if self.every is None else now - (now - self.offset) % self.every
        end = moment - self.shift
        high = min(moment + exact_matches, end + (self.closed in ("right", "both")))
        low = _NEVER
        if ttl is not None:  # a lag is the point-in-time value at its end (LAG-1)
            low = (end if self.point else moment) - ttl
        if self.window.kind == "time":
            inside = self.point or self.closed in ("left", "both")
            low = max(low, end - self.window.size + (not inside))
        return _Bounds(moment, end, low, high)

    def extent(self, tree: Tree, bounds: _Bounds) -> tuple[int, int]:
        """The run of events in the window; the functions apply the filter themselves.

        Raises:
            IncompleteStateError: an event of the window may have been evicted.
        """
        if bounds.high <= bounds.low:
            return 0, 0
        stop = tree.position(bounds.high)
        start = tree.position(bounds.low) if bounds.low > _NEVER else 0
        # events are evicted oldest first: while an older one is held, all of the window are
        complete_from = tree.header.complete_from
        complete = complete_from is None or bounds.low >= complete_from or start > 0
        match self.window.kind:
            case "rows":
                begin = self._newest_rows(tree, start, stop, self.window.size)
                complete = complete or begin is not None
                start = start if begin is None else begin
            case "session":
                state = tree.state(self.session, tree.pieces(start, stop)) if start < stop else None
                if state is None or bounds.end - state[2] > self.window.size:
                    start = stop
                else:
                    complete = complete or state[1] > state[0]
                    start = max(start, tree.position(state[1]))
            case "lifetime" if self.point and not complete:
                complete = self._newest_rows(tree, start, stop, 1) is not None
        if not complete:
            raise _incomplete(tree, bounds.low if bounds.low > _NEVER else None)
        return start, stop

    def _newest_rows(self, tree: Tree, start: int, stop: int, rows: int) -> int | None:
        """Where the newest so many rows begin; None when there are fewer from `start` on."""
        begin: int | None = stop - rows
        if self.filter is not None:
            begin = tree.nth_newest(stop, rows, self.filter)
        return None if begin is None or begin < start else begin


def _span(spec: StateSpec, aggregate: Aggregate, needs: Needs) -> _Span:
    if aggregate.function.about.tally == "time":
        # of the moment alone: no event is looked at, so none can be missing
        return _Span(Window("time", 0), "none", aggregate.every, aggregate.offset, 0, False, None, 0)
    point = aggregate.function.about.tally == "point"
    tiles = needs.window(aggregate)
    return _Span(
        aggregate.window,
        aggregate.closed,
        aggregate.every,
        aggregate.offset,
        aggregate.shift,
        point,
        needs.filter(aggregate) if tiles or point else None,
        spec.places[tiles[0]] if tiles else 0,
    )


# -- functions ---------------------------------------------------------------------------------------------------


class _Run:
    """A run of events and what has been worked out of it."""

    __slots__ = ("_pieces", "_states", "start", "stop", "tree")

    def __init__(self, tree: Tree, start: int, stop: int) -> None:
        self.tree = tree
        self.start = start
        self.stop = stop
        self._pieces: list[Piece] | None = None
        self._states: dict[int, Any] = {0: stop - start}  # the first tile counts the events

    @property
    def pieces(self) -> list[Piece]:
        """The run as few pieces."""
        if self._pieces is None:
            self._pieces = self.tree.pieces(self.start, self.stop)
        return self._pieces

    def state(self, place: int) -> Any:
        """A tile's state over the run."""
        if place not in self._states:
            self._states[place] = self.tree.state(place, self.pieces)
        return self._states[place]


_Evaluate = Callable[[_Run, int], Any]
"""From a run and the moment to a value."""


class _Feature(NamedTuple):
    span: int
    evaluate: _Evaluate


def _evaluator(spec: StateSpec, aggregate: Aggregate, needs: Needs) -> _Evaluate:
    """How an aggregate is computed of its window.

    Raises:
        KeyError, ValueError: the spec does not keep what it needs.
    """
    function = aggregate.function
    if function.about.tally == "time":
        from grange.kernels.calendar import calendar_value

        return lambda run, moment: calendar_value(function, moment)
    tiles = needs.function(aggregate)
    places = tuple(spec.places[tile] for tile in tiles)
    column, where = needs.column(aggregate.column), needs.filter(aggregate)
    rows = Tile(Count(), column, filter=where)
    if function.about.tally == "point":
        assert column is not None, "a lag is of a column"
        return lambda run, moment: _newest_row(run, spec, rows, places[0])
    if not function.about.tiles:
        dtype = aggregate.input
        assert dtype is not None, "these functions are of columns"
        return lambda run, moment: whole(function, _values(run, spec, rows), dtype)
    computed = algebra(function, aggregate.input, aggregate.by_input, what=f"aggregate {aggregate.name!r}")
    match function.name:
        case "first" | "last" | "first_n" | "last_n":
            count = function.parameters[0] if function.parameters else 1
            last = function.name.startswith("last")
            return lambda run, moment: computed.finalize(
                (_ends(run, spec, rows, places[0], last, count).values,), moment
            )
        case "time_since_last":
            return lambda run, moment: computed.finalize(
                (computed.partials[0].of(*_ends(run, spec, rows, places[0], True, 1)),), moment
            )
    return lambda run, moment: computed.finalize(tuple([run.state(place) for place in places]), moment)


def _newest_row(run: _Run, spec: StateSpec, rows: Tile, counted: int) -> Any:
    """The column's value in the newest row that matches, null or not."""
    assert rows.column is not None
    for leaf, start, stop in run.tree.leaves(run.pieces, counted=counted, newest_first=True):
        place = stop - 1
        if rows.filter is not None:
            place = leaf.masks[rows.filter].rfind(1, start, stop)
        if place >= start:
            return packed.at(spec.codes[rows.column], leaf.columns[rows.column], place)
    return None


def _ends(run: _Run, spec: StateSpec, rows: Tile, counted: int, last: bool, count: int) -> Run:
    """The first or last so many values that are not null, oldest first."""
    parts: list[Run] = []
    missing = count
    for leaf, start, stop in run.tree.leaves(run.pieces, counted=counted, newest_first=last):
        part = leaf.run(spec, rows, start, stop)
        parts.append(part)
        missing -= len(part.times)
        if missing <= 0:
            break
    if last:
        parts.reverse()
    times = list(itertools.chain.from_iterable(part.times for part in parts))
    values = list(itertools.chain.from_iterable(part.values for part in parts))
    chosen = slice(-count, None) if last else slice(count)
    return Run(times[chosen], values[chosen], ())


def _values(run: _Run, spec: StateSpec, rows: Tile) -> list[Any]:
    """Every value that is not null."""
    leaves = run.tree.leaves(run.pieces, counted=None)
    return list(itertools.chain.from_iterable(leaf.run(spec, rows, start, stop).values for leaf, start, stop in leaves))
