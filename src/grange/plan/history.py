"""The plan of `get_historical_features`: stored rows joined point-in-time onto a spine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from grange.plan.bound import NOW, BoundFeature, BoundSelection, Layout, Moment
from grange.plan.nodes import (
    CurrentEvents,
    EntityTimes,
    Grid,
    GroupJoin,
    Input,
    Join,
    Later,
    Node,
    Output,
    Plan,
    PointInTimeJoin,
    WindowJoin,
)
from grange.types import DataType
from grange.types.aggregates import LIFETIME, ROWS, Aggregate, Function
from grange.types.durations import to_micros
from grange.types.names import EVENT_TIME

SPINE = "spine"
"""The name under which the caller hands in the spine."""
SPINE_TIME = "__time"
"""The spine's time column, as the engine sees it."""
_SEEN: Final = "__seen_"
"""What the columns of `watched` start with."""
_FOUND: Final = "__found_"
"""What the columns start with that tell whether a group has a visible row."""
_DATETIME: Final = DataType("datetime")
_SECONDS: Final = DataType("float64")


@dataclass(frozen=True, slots=True)
class Sight:
    """Columns of a result that tell which row of a group each spine row saw: the newest that was visible to it.

    A join has one for each set of boundaries (WIN-3) that its features have.
    """

    group: str
    outputs: tuple[str, ...]
    """The features that saw it, by their names in the result."""
    event: str
    """The column of its event time. Of windows, the seconds (float64) from its event time to the moment."""
    created: str | None
    """The column of its created time; None where it was not asked for or the group has none."""
    windowed: bool
    every: int | None = None
    """Microseconds: the moment is the last boundary at or before the spine's time. None: it is the spine's time."""
    offset: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, which are nothing that anybody asked for."""
        return (self.event,) if self.created is None else (self.event, self.created)


def spine_column(column: str, dtype: DataType) -> str:
    """The engine's name of a spine column read as a key type; one column may be read as several."""
    return f"{column} as {dtype}"


def spine_time(after: int) -> str:
    """The engine's name of the spine's times, so many microseconds later."""
    return f"{SPINE_TIME}_{after}" if after else SPINE_TIME


def plan_history(
    features: Sequence[BoundFeature],
    stored: Mapping[tuple[str, str | None], tuple[str, Node]],
    *,
    as_known: bool,
    required: Sequence[BoundSelection] = (),
) -> Plan:
    """Join features onto a spine.

    Shape:
        One row per spine row, in its order; one column per feature, together by group (PIT-1).
    Time:
        A row at `f` is visible at `t` when `f <= t` and `t - f <= ttl`, both ends inclusive (PIT-2);
        with `as_known` only when it was created at or before `t` (PIT-5). Labels that are looked at later are joined
        for themselves, at those times.

    Args:
        features: what to join, bound to stored columns.
        stored: by (group, pinned version or None), the version that is read and the node of its rows.
        as_known: see above.
        required: what of groups only rows are wanted for that have a visible row of it.
    """
    joins: dict[tuple[object, ...], list[BoundFeature]] = {}
    sources: dict[tuple[object, ...], BoundSelection] = {}
    for source in (*features, *required):
        sources.setdefault(source.row, source)
        joins.setdefault(source.row, [])
    for feature in features:
        joins[feature.row].append(feature)
    moments: dict[Moment, dict[tuple[object, ...], Join]] = {NOW: {}}
    for row, together in joins.items():
        moments.setdefault(sources[row].moment, {})[row] = _join(sources[row], together, stored)
    root = moments.pop(NOW)
    found: dict[tuple[object, ...], tuple[str, str]] = {}
    for row in dict.fromkeys(source.row for source in required):
        column = f"{_FOUND}{len(found)}"
        found[row] = column, root[row].group
        root[row] = _with_sight(root[row], Sight(root[row].group, (), column, None, _is_windowed(root[row])))
    return Plan(
        verb="history",
        root=PointInTimeJoin(Input(SPINE), SPINE_TIME, tuple(root.values()), as_known),
        labels=tuple(_later(moment, tuple(later.values()), as_known) for moment, later in moments.items()),
        required=tuple(found.values()),
    )


def _later(moment: Moment, joins: tuple[Join, ...], as_known: bool) -> Later:
    return Later(
        moment.after,
        PointInTimeJoin(Input(SPINE), spine_time(moment.after), joins, as_known and not moment.finally_known),
    )


def _is_windowed(join: Join) -> bool:
    return isinstance(join, WindowJoin)


def watched(plan: Plan, features: Collection[str], *, created: bool) -> tuple[Plan, tuple[Sight, ...]]:
    """A plan of `plan_history` whose result also says what was seen: the same join, with columns of reserved names.

    Args:
        plan: what was asked for.
        features: the outputs whose rows' times are wanted. Joins that have none of them stay as they are, as do
            groups without event times and functions of the moment alone, which see no rows.
        created: whether created times are wanted, too.
    """
    root = plan.root
    assert isinstance(root, PointInTimeJoin), "what plan_history makes"
    joins: list[Join] = []
    sights: list[Sight] = []
    for join in root.joins:
        for sight in _sights(join, frozenset(features), first=len(sights), created=created):
            sights.append(sight)
            join = _with_sight(join, sight)
        joins.append(join)
    return replace(plan, root=replace(root, joins=tuple(joins))), tuple(sights)


def _sights(join: Join, features: frozenset[str], *, first: int, created: bool) -> Iterator[Sight]:
    """What is to be seen of a join's features, numbered from `first`."""
    outputs = [output for output in join.outputs if output.name in features]
    if not outputs or join.event_time == EVENT_TIME:
        return
    together: dict[tuple[int | None, int], list[str]] = {}
    if isinstance(join, GroupJoin):
        together[None, 0] = [output.name for output in outputs]
    else:
        aggregates = {item.name: item for item in join.aggregates}
        for output in outputs:
            item = aggregates[output.column]
            if item.function.about.tally != "time":
                together.setdefault((item.every, item.offset), []).append(output.name)
    for number, ((every, offset), names) in enumerate(together.items(), start=first):
        event = f"{_SEEN}{number}"
        yield Sight(
            group=join.group,
            outputs=tuple(names),
            event=event,
            created=f"{event}_created" if created and join.created_time is not None else None,
            windowed=isinstance(join, WindowJoin),
            every=every,
            offset=offset,
        )


def _with_sight(join: Join, sight: Sight) -> Join:
    """A join with the columns of a sight."""
    if isinstance(join, GroupJoin):
        times = [Output(join.event_time, sight.event, _DATETIME)]
        if sight.created is not None and join.created_time is not None:
            times.append(Output(join.created_time, sight.created, _DATETIME))
        return replace(join, outputs=(*join.outputs, *times))
    newest = [
        Aggregate(
            sight.event,
            Function("time_since_last"),
            ROWS,
            LIFETIME,
            _SECONDS,
            every=sight.every,
            offset=sight.offset,
        )
    ]
    if sight.created is not None and join.created_time is not None:
        newest.append(
            Aggregate(
                sight.created,
                Function("lag"),  # of the newest row, its null included
                join.created_time,
                LIFETIME,
                _DATETIME,
                input=_DATETIME,
                every=sight.every,
                offset=sight.offset,
            )
        )
    outputs = [Output(item.name, item.name, item.dtype) for item in newest]
    return replace(join, aggregates=(*join.aggregates, *newest), outputs=(*join.outputs, *outputs))


def plan_spine(layout: Layout, rows: Node, *, start: int | None, end: int | None) -> Plan:
    """The spine that stands in when none is given: the first group's entity keys and event times (PIT-8)."""
    node = EntityTimes(
        current_events(layout, rows), keys=layout.entity_keys, event_time=layout.event_time, start=start, end=end
    )
    return Plan(verb="history", root=node)


def plan_feature_rows(
    layout: Layout, events: Node, *, group: str, interval: int | None, fill: bool
) -> tuple[Node, Node]:
    """The feature rows of a group with aggregations: a spine of its entity keys and moments, and the join of its
    aggregates onto it, which takes the spine as `Input(SPINE)`.

    Time:
        Without an interval, the moments are those of the events; with one, the boundaries that follow them.
    """
    current = current_events(layout, events)
    spine: Node
    if interval is None:
        spine = EntityTimes(current, layout.entity_keys, layout.event_time, None, None)
    else:
        ends = {item.closed for item in layout.aggregates if item.function.about.tally != "time"}
        closed: Literal["left", "right"] = "left" if ends <= {"left", "none"} else "right"
        spine = Grid(current, layout.entity_keys, layout.event_time, interval, closed, fill)
    join = _window_join(
        layout,
        events,
        group=group,
        version="",
        keys=tuple((spine_column(key, layout.schema[key]), key) for key in layout.entity_keys),
        exact_matches=True,
        outputs=tuple(Output(item.name, item.name, item.dtype) for item in layout.aggregates),
    )
    return spine, PointInTimeJoin(Input(SPINE), SPINE_TIME, (join,), as_known=False)


def _window_join(
    layout: Layout,
    events: Node,
    *,
    group: str,
    version: str,
    keys: tuple[tuple[str, str], ...],
    exact_matches: bool,
    outputs: tuple[Output, ...],
) -> WindowJoin:
    """A join of the aggregates that the outputs name."""
    wanted = {output.column for output in outputs}
    return WindowJoin(
        group=group,
        version=version,
        rows=events,
        keys=keys,
        event_time=layout.event_time,
        created_time=layout.created_time,
        event_id=layout.event_id,
        retracted=layout.retracted,
        ttl=layout.ttl,
        exact_matches=exact_matches,
        aggregates=tuple(item for item in layout.aggregates if item.name in wanted),
        outputs=outputs,
    )


def current_events(layout: Layout, events: Node) -> Node:
    """A group's events as they finally are; the rows themselves where nothing identifies events (WIN-6)."""
    if layout.event_id is None:
        return events
    return CurrentEvents(events, layout.entity_keys, layout.created_time, layout.event_id, layout.retracted)


def _join(
    source: BoundSelection,
    features: Sequence[BoundFeature],
    stored: Mapping[tuple[str, str | None], tuple[str, Node]],
) -> Join:
    """A join of features that see the same rows."""
    group, layout, selection = source.group, source.layout, source.selection
    version, rows = stored[group.name, selection.version]
    keys = tuple((spine_column(column, layout.schema[key]), key) for column, key in source.keys)
    outputs = tuple(Output(item.column, item.name, item.dtype, item.default) for item in features)
    if layout.aggregates:
        return _window_join(
            layout,
            rows,
            group=group.name,
            version=version,
            keys=keys,
            exact_matches=selection.exact_matches,
            outputs=outputs,
        )
    return GroupJoin(
        group=group.name,
        version=version,
        rows=rows,
        keys=keys,
        event_time=layout.event_time,
        created_time=layout.created_time,
        ttl=None if group.ttl is None else to_micros(group.ttl),
        exact_matches=selection.exact_matches,
        outputs=outputs,
    )
