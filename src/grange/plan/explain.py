"""Explain: a plan as an indented tree, for people. An interpreter of the same nodes that engines run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import assert_never

from grange.definitions.transforms import PythonTransform
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
    Input,
    Join,
    Later,
    Latest,
    Limit,
    LoadOnline,
    Node,
    Number,
    Order,
    Plan,
    PointInTimeJoin,
    ReadPlan,
    Scan,
    Timeless,
    WindowJoin,
    WriteVersion,
)
from grange.types import format_duration
from grange.types.aggregates import Aggregate
from grange.types.durations import timedelta_of
from grange.types.names import SEQUENCE
from grange.types.time import from_micros, isoformat


def explain(plan: Plan) -> str:
    """The plan as text: sinks first, then the tree of nodes that feeds them."""
    lines = [_sink(sink) for sink in plan.sinks]
    lines += [f"only rows where {plan.condition}"] if plan.condition else []
    lines += [f"only rows with a visible row of {group}" for _, group in plan.required]
    lines += [str(item) for item in plan.computed]
    indent = "  " if lines else ""
    labels = [line for later in plan.labels for line in _later(later, indent)]
    return "\n".join([*lines, *_tree(plan.root, indent), *labels])


def explain_read(plan: ReadPlan) -> str:
    """An online read as text."""
    lines = [f"read online from {plan.store}"]
    for group in plan.groups:
        keys = ", ".join(key if column == key else f"{key}={column}" for column, key, _ in group.keys)
        strict = "" if group.exact_matches else ", strictly before now"
        lines.append(f"  {group.group} in {group.key_space!r} by {keys}, {_ttl(group.ttl)}{strict}")
        lines.append(f"    {', '.join(_as(item.column, item.name) for item in group.columns)}")
    lines += [f"  {item}" for item in plan.computed]
    if plan.requests:
        lines.append(f"  request columns: {', '.join(plan.requests.names)}")
    return "\n".join(lines)


def _later(later: Later, indent: str) -> Iterable[str]:
    length = f"{format_duration(timedelta_of(later.after))} later" if later.after else "as finally known"
    yield f"{indent}labels, {length}"
    yield from _tree(later.join, f"{indent}  ")


def _sink(sink: WriteVersion | LoadOnline) -> str:
    match sink:
        case WriteVersion():
            beside = "" if sink.features is None else f", and beside its events its feature rows {sink.features}"
            return f"publish a version of {sink.group} in {sink.store}{beside}"
        case LoadOnline():
            what = "the window state" if sink.windows else "the latest rows"
            return f"load {what} of {sink.group} into {sink.store} ({sink.key_space!r})"
        case _:
            assert_never(sink)


def _tree(node: Node, indent: str) -> Iterable[str]:
    yield indent + _line(node)
    if isinstance(node, PointInTimeJoin):
        for join in node.joins:
            yield f"{indent}  {_join(join)}"
            if isinstance(join, WindowJoin):
                yield from (f"{indent}    {_aggregate(item)}" for item in join.aggregates)
            else:
                yield f"{indent}    {', '.join(_as(item.column, item.name) for item in join.outputs)}"
            yield from _tree(join.rows, indent + "    ")
    for child in _children(node):
        yield from _tree(child, indent + "  ")


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Scan() | Input():
            return ()
        case Concat():
            return node.inputs
        case PointInTimeJoin():
            return (node.spine,)
        case _:
            return (node.input,)


def _line(node: Node) -> str:
    match node:
        case Scan():
            more = f" and {len(node.files) - 1} more" if len(node.files) > 1 else ""
            return f"scan {node.format} {node.files[0]}{more}{', in order' if node.ordered else ''}"
        case Input():
            return f"rows handed in as {node.name!r}"
        case Concat():
            return f"one after another ({len(node.inputs)})"
        case Limit():
            return f"the first {node.rows} rows"
        case Apply():
            named = f"{node.transform.name}()" if isinstance(node.transform, PythonTransform) else "SQL"
            return f"transform of {node.group}: {named}"
        case Timeless():
            return "true at every time"
        case Conform():
            return f"typed as {node.what}: {', '.join(f'{c.name} {c.dtype}' for c in node.schema)}"
        case Align():
            return f"{node.what} as {', '.join(f'{c.name} {c.dtype}' for c in node.schema)}"
        case Number():
            return f"numbered from {node.start}"
        case Between():
            return _between(node)
        case Order():
            by = [node.event_time, *([node.created_time] if node.created_time else []), SEQUENCE]
            return f"in order of {', '.join(by)}"
        case Latest():
            return f"the newest row per {', '.join(node.keys)}"
        case EntityTimes():
            return (
                f"distinct {', '.join(node.keys)} and {node.event_time}, {_moment(node.start)} to {_moment(node.end)}"
            )
        case CurrentEvents():
            taken = f", without those that {node.retracted} takes back" if node.retracted else ""
            return f"the last written row per {', '.join((*node.keys, node.event_id))}{taken}"
        case Grid():
            return _grid(node)
        case PointInTimeJoin():
            known = ", as known then" if node.as_known else ""
            return f"point-in-time join of {len(node.joins)} group{'s' if len(node.joins) != 1 else ''}{known} onto"
        case _:
            assert_never(node)


def _between(node: Between) -> str:
    if node.column == SEQUENCE:
        return f"{node.column} from {node.start if node.start is not None else 0} up to {node.end}"
    return f"{node.column} from {_moment(node.start)} up to {_moment(node.end)}"


def _grid(node: Grid) -> str:
    which = "every boundary" if node.fill else "the boundaries"
    of = "from its first event to its last" if node.fill else "that follow its events"
    return f"per {', '.join(node.keys)}, {which} of {format_duration(timedelta_of(node.interval))} {of}"


def _join(join: Join) -> str:
    keys = ", ".join(f"{key} = {column}" for column, key in join.keys)
    at = "at or before" if join.exact_matches else "strictly before"
    if isinstance(join, WindowJoin):
        return f"windows of {join.group}@{join.version} on {keys}, events {at} the spine's time, {_ttl(join.ttl)}"
    return f"{join.group}@{join.version} on {keys}, {join.event_time} {at} the spine's time, {_ttl(join.ttl)}"


def _aggregate(item: Aggregate) -> str:
    """One windowed feature in words."""
    if item.function.about.tally == "time":
        return f"{item.name}: {item.function}"
    kept = f" where {item.filter}" if item.filter else ""
    if item.function.name == "lag":
        tolerance = f", at most {item.window} older" if item.window.kind == "time" else ""
        return f"{item.name}: {item.column} {format_duration(timedelta_of(item.shift))} before{tolerance}{kept}"
    closed = "" if item.closed == "right" else f", closed {item.closed}"
    every = "" if item.every is None else f", as of every {format_duration(timedelta_of(item.every))}"
    return f"{item.name}: {item.function} of {item.column} over {item.window}{closed}{every}{kept}"


def _ttl(ttl: int | None) -> str:
    return "no ttl" if ttl is None else f"ttl {format_duration(dt.timedelta(microseconds=ttl))}"


def _as(column: str, name: str) -> str:
    return column if column == name else f"{column} as {name}"


def _moment(micros: int | None) -> str:
    return "any time" if micros is None else isoformat(from_micros(micros))
