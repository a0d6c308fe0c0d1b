"""Columns of feature groups: from a source's raw columns to a group's rows, and from these to its features. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.on_demand import made_on_demand, requested
from grange.definitions.sources import DerivedSource, FileSource, PushSource
from grange.definitions.transformations import Step
from grange.definitions.transforms import PythonTransform, SqlTransform
from grange.lineage.dependence import Dependence, Dependences, How, of_expression
from grange.lineage.graph import ANY, EVENT, Edge, Node, Why
from grange.lineage.queries import query_columns
from grange.lineage.relations import OPAQUE, Known
from grange.lineage.steps import step_outputs
from grange.lineage.things import group_node, request_node, source_nodes
from grange.types.aggregates import ROWS, Aggregate
from grange.types.names import RESERVED_PREFIX


@dataclass(frozen=True, slots=True)
class Raw:
    """The raw columns of a group: those of its source, or features of its parents."""

    known: Known
    sources: tuple[Node, ...] = ()
    origins: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)
    """By raw column of a derived group, what it is in the parents."""

    def of(self, column: str) -> tuple[Node, ...]:
        """The nodes of a raw column; of `*`, of any column."""
        if self.sources:
            return tuple(source.at(column) for source in self.sources)
        if column == ANY:
            return tuple(dict.fromkeys(node for nodes in self.origins.values() for node in nodes))
        return self.origins.get(column, ())


def is_stored(column: str) -> bool:
    """Whether a column is one that people know; names that begin with `__` are Grange's own."""
    return not column.startswith(RESERVED_PREFIX)


def group_features(group: FeatureGroup) -> tuple[str, ...]:
    """The features that a group offers: those that are stored, then those that are made on demand."""
    stored = group.features().names if group.schema or group.aggregations else ()
    return (*(name for name in stored if is_stored(name)), *made_on_demand(group))


def row_node(group: FeatureGroup, column: str) -> Node:
    """A column of a group's rows. Of a group with aggregations these are its events, beside its features."""
    shared = (*group.join_keys, group.event_time)
    return group_node(group.name).at(column, type=EVENT if group.aggregations and column not in shared else "")


def group_nodes(group: FeatureGroup) -> Iterator[Node]:
    """Every column of a group, with its type."""
    for column in group.schema:
        if is_stored(column.name):
            node = row_node(group, column.name)
            yield node.owner.at(column.name, type=node.type, dtype=str(column.dtype))
    for item in group.aggregates():
        yield group_node(group.name).at(item.name, dtype=str(item.dtype))
    for step in group.on_demand:
        types = (
            {}
            if step.transformation is None
            else dict(zip(step.output_names, step.transformation.outputs, strict=False))
        )
        for name in step.output_names:
            dtype = str(types[name].dtype) if name in types else ""
            yield group_node(group.name).at(name, dtype=dtype)


def group_edges(group: FeatureGroup, raw: Raw) -> Iterator[Edge]:
    """What each column of a group is made of."""
    yield from _row_edges(group, raw)
    for item in group.aggregates():
        yield from _aggregate_edges(group, item)
    for step in group.on_demand:
        own = group_node(group.name)
        known = {name: own.at(name) for name in step.inputs} | _brought(step)
        yield from step_edges(step, known, own.at)


def _row_edges(group: FeatureGroup, raw: Raw) -> Iterator[Edge]:
    rows = _rows(group, raw)
    why: Why = (
        "derives" if isinstance(group.source, DerivedSource) else "reads" if group.transform is None else "transforms"
    )
    via = ""
    if isinstance(group.transform, PythonTransform):
        via = f"{group.transform.name}()"
    elif isinstance(group.transform, SqlTransform):
        via = "SQL"
    filtered = _source_filter(group)
    for column, made_of in rows.items():
        own = row_node(group, column)
        for item in sorted(made_of | filtered):
            for origin in raw.of(item.column):
                yield Edge(origin, own, why, item.how, item.certainty, via if item not in filtered else "")
        if any(item.column == ANY for item in made_of):
            yield from _any_edges(raw)


def _any_edges(raw: Raw) -> Iterator[Edge]:
    """The known columns of a source are among those of which any may matter."""
    for source in raw.sources:
        for column in raw.known.columns:
            yield Edge(source.at(column), source.at(ANY), "reads", "identity", "opaque")


def _rows(group: FeatureGroup, raw: Raw) -> Mapping[str, Dependences]:
    """By column of a group's rows, what it is made of among the raw columns."""
    columns = tuple(name for name in group.schema.names if is_stored(name))
    match group.transform:
        case None:
            return {name: frozenset({Dependence(name)}) for name in columns}
        case SqlTransform(query=query):
            return query_columns(query, columns, raw.known)
        case PythonTransform():
            same = {name: Dependence(name, "transformation", "maybe") for name in raw.known.columns}
            return {name: OPAQUE | ({same[name]} if name in same else set()) for name in columns}


def _source_filter(group: FeatureGroup) -> Dependences:
    """What the filter of a derived source has to say about its rows."""
    if not isinstance(group.source, DerivedSource) or not group.source.filter:
        return frozenset()
    return condition_columns(group.source.filter, "filter")


def _aggregate_edges(group: FeatureGroup, item: Aggregate) -> Iterator[Edge]:
    own = group_node(group.name).at(item.name)
    for column, how, via in _aggregated(group, item):
        yield Edge(row_node(group, column), own, "derives", how, via=via)


def _aggregated(group: FeatureGroup, item: Aggregate) -> Iterator[tuple[str, How, str]]:
    """What a windowed feature is made of: the column itself, then what decides which events count."""
    if item.function.about.tally == "time":
        return  # the hour of the day is made of no row
    point = item.function.about.tally == "point"
    text = f"{item.function} of {item.window}" if not point else str(item.function)
    if item.column != ROWS:
        yield item.column, "transformation" if point else "aggregation", text
    if item.by is not None:
        yield item.by, "conditional", text
    if item.filter is not None:
        for dependence in sorted(condition_columns(item.filter, "filter")):
            yield dependence.column, "filter", ""
    if group.retracted is not None:
        yield group.retracted, "filter", ""
    if group.event_id is not None:
        yield group.event_id, "group_by", ""
    yield group.event_time, "window", ""
    for key in group.join_keys:
        yield key, "group_by", ""


def condition_columns(text: str, how: How) -> Dependences:
    """The columns that a SQL condition looks at."""
    from grange.definitions.expressions import parse_condition  # a parser that others do without

    return frozenset(item.through(how) for item in of_expression(parse_condition(text, what="condition")))


def step_edges(step: Step, known: Mapping[str, Node], output: Callable[[str], Node]) -> Iterator[Edge]:
    """What the outputs of an on-demand step are made of.

    Args:
        step: a step of a group or a view.
        known: by name, the columns that it can take.
        output: the node of an output.
    """
    for name, made_of in step_outputs(step).items():
        for item in sorted(made_of):
            if item.column in known:
                yield Edge(known[item.column], output(name), "transforms", item.how, item.certainty, step.function)


def _brought(step: Step) -> dict[str, Node]:
    return {name: request_node().at(name) for name in requested(step).names}


def known_columns(groups: Iterable[FeatureGroup]) -> Mapping[Node, Known]:
    """What is known of the columns of sources: what they declare, and what groups have that take them as they are."""
    found: dict[Node, Known] = {}
    for group in groups:
        source = group.source
        declared = source.schema.names if isinstance(source, FileSource | PushSource) else ()
        whole = isinstance(source, PushSource) and bool(declared)
        taken = tuple(name for name in group.schema.names if is_stored(name)) if group.transform is None else ()
        for node in source_nodes(group):
            before = found.get(node, Known())
            if before.complete:
                continue
            columns = tuple(dict.fromkeys((*taken, *declared, *before.columns)))
            likely = (name for name in group.schema.names if is_stored(name))
            found[node] = Known(columns, bool(taken) or whole, tuple(dict.fromkeys((*before.likely, *likely))))
    return found
