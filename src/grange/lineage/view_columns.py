"""Columns of feature views: what they take, compute and prepare, and what is left out by their filter. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from grange.definitions.catalog import Catalog, Taken
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import requested
from grange.definitions.references import FeatureSelection
from grange.definitions.transformations import Step
from grange.lineage.dependence import Dependence, Dependences, of_expression
from grange.lineage.graph import UNPREPARED, Edge, Node, Why
from grange.lineage.group_columns import condition_columns, step_edges
from grange.lineage.steps import step_outputs
from grange.lineage.things import group_node, request_node, view_node

Stored = Callable[[FeatureGroup, str | None], tuple[str, ...]]
"""The stored features of a group in a pinned version, or as it is defined (None)."""


@dataclass(frozen=True, slots=True)
class TakenColumn:
    """A column of something else that a view takes over."""

    node: Node
    why: Why


@dataclass(frozen=True, slots=True)
class Prepared:
    """A column as the model gets it."""

    made_of: Dependences
    """Columns as they were before, by name."""
    via: str


class Views:
    """The columns of a catalog's views.

    Args:
        catalog: the definitions.
        stored: which features are stored of a group.
    """

    def __init__(self, catalog: Catalog, stored: Stored) -> None:
        self._catalog = catalog
        self._stored = stored
        # by view and what it takes, as views that contain it ask again; a derived group takes as a view does, and its
        # versions took other versions
        self._taken: dict[tuple[str, tuple[FeatureSelection, ...]], dict[str, TakenColumn]] = {}

    def taken(self, view: FeatureView) -> Mapping[str, TakenColumn]:
        """By output column, in order, what a view takes over: features of groups, and of other views."""
        key = view.name, view.features
        if key not in self._taken:
            self._taken[key] = self._take(view)
        return self._taken[key]

    def _take(self, view: FeatureView) -> dict[str, TakenColumn]:
        allowed = {name for item in self._catalog.taken_by(view) for name, _ in self._of_group(item)}
        found: dict[str, TakenColumn] = {}
        for selection in view.features:
            columns = self._of_view(selection) if selection.source in self._catalog.views else self._direct(selection)
            found |= {name: column for name, column in columns if name in allowed or column.why == "derives"}
        return found

    def _direct(self, selection: FeatureSelection) -> Iterator[tuple[str, TakenColumn]]:
        for name, node in self._of_group(Taken(selection)):
            yield name, TakenColumn(node, "reads" if selection.version is None else "pins")

    def _of_group(self, item: Taken) -> Iterator[tuple[str, Node]]:
        selection = item.selection
        group = self._catalog.group(selection.source)
        own = group_node(group.name, selection.version)
        for feature in item.features_of(group, self._stored(group, selection.version)):
            yield selection.output_name(feature), own.at(feature)

    def _of_view(self, selection: FeatureSelection) -> Iterator[tuple[str, TakenColumn]]:
        """What another view offers: its features as they are before it prepares them for its own model."""
        inner = self._catalog.views[selection.source]
        taken = self.taken(inner)
        names = self.names(inner)
        changed = self.changed(inner, names)
        for name in names:
            yield name, TakenColumn(_before(inner, name, changed), "reads" if name in taken else "derives")

    def names(self, view: FeatureView) -> tuple[str, ...]:
        """The features of a view before any model-dependent transformation."""
        computed = [name for step in view.on_demand for name in step.output_names]
        return (*self.taken(view), *computed, *(name for name, _ in view.derived))

    def prepared(self, view: FeatureView, names: Iterable[str]) -> Mapping[str, Prepared]:
        """The columns that the model gets, in order, each with what it is made of."""
        state = {name: Prepared(frozenset({Dependence(name)}), "") for name in names if name not in view.helpers}
        for step in view.transformations:
            made = {name: _prepare(step, made_of, state) for name, made_of in step_outputs(step).items()}
            gone = set() if step.keep else set(step.inputs)
            state = {name: item for name, item in state.items() if name not in gone} | made
        helpers = {name: Prepared(frozenset({Dependence(name)}), "") for name in names if name in view.helpers}
        return state | helpers

    def changed(self, view: FeatureView, names: Iterable[str]) -> frozenset[str]:
        """The features that the model gets otherwise, or not at all."""
        names = tuple(names)
        final = self.prepared(view, names) if view.transformations else {}
        return frozenset(name for name in names if final and not _is_same(name, final.get(name)))

    def columns(self, view: FeatureView) -> tuple[str, ...]:
        """The columns of a view's rows: what the model gets, and labels."""
        return (*self.prepared(view, self.names(view)), *(_label_name(label) for label in view.labels))

    def nodes(self, view: FeatureView) -> Iterator[Node]:
        """Every column of a view."""
        names = self.names(view)
        changed = self.changed(view, names)
        yield from (_before(view, name, changed) for name in names)
        yield from (view_node(view.name).at(name) for name in self.columns(view))

    def edges(self, view: FeatureView) -> Iterator[Edge]:
        """What each column of a view is made of."""
        names = self.names(view)
        changed = self.changed(view, names)
        taken = self.taken(view)
        before = {name: _before(view, name, changed) for name in names}
        for name, column in taken.items():
            yield Edge(column.node, before[name], "pins" if column.why == "pins" else "reads", "identity")
        known = self._requests(view) | {name: before[name] for name in taken}
        edges = list(_computed_edges(view, known, before))
        yield from edges
        for name, item in self.prepared(view, names).items():
            if name in changed or name not in before:
                for dependence in sorted(item.made_of):
                    upstream = before[dependence.column]
                    yield Edge(upstream, view_node(view.name).at(name), "transforms", dependence.how, via=item.via)
        yield from _label_edges(view)
        yield from self._filter_edges(view, {name: [column.node] for name, column in taken.items()}, edges)

    def _filter_edges(self, view: FeatureView, outside: dict[str, list[Node]], computed: list[Edge]) -> Iterator[Edge]:
        """What decides which rows a view has, as columns of what it takes from: a view's columns do not decide about
        each other, and so never lie upstream of one another in both directions."""
        if not view.filter:
            return
        origins: dict[Node, list[Node]] = {}
        for edge in computed:
            inside = edge.upstream.owner == view_node(view.name)
            found = origins.get(edge.upstream, outside.get(edge.upstream.column, [])) if inside else [edge.upstream]
            origins.setdefault(edge.downstream, []).extend(found)
        by_name = outside | {node.column: nodes for node, nodes in origins.items()}
        deciding = [
            node
            for item in sorted(condition_columns(view.filter, "filter"))
            for node in by_name.get(item.column, [*filter(None, [self._requests(view).get(item.column)])])
        ]
        for name in self.columns(view):
            for node in dict.fromkeys(deciding):
                yield Edge(node, view_node(view.name).at(name), "reads", "filter")

    def _requests(self, view: FeatureView) -> dict[str, Node]:
        """The columns that each request of a view brings."""
        known = {name: request_node().at(name) for step in view.on_demand for name in requested(step).names}
        for selection in view.features:
            if selection.source in self._catalog.views:
                known |= self._requests(self._catalog.views[selection.source])
        own = {name: request_node(source.name).at(name) for source in view.requests for name in source.schema.names}
        return known | own


def _before(view: FeatureView, name: str, changed: frozenset[str]) -> Node:
    """A feature before it is prepared; the same column where it stays as it is."""
    return view_node(view.name).at(name, type=UNPREPARED if name in changed else "")


def _is_same(name: str, item: Prepared | None) -> bool:
    return item is not None and item.made_of == {Dependence(name)}


def _prepare(step: Step, made_of: Dependences, state: Mapping[str, Prepared]) -> Prepared:
    """A column that a step makes of columns that earlier ones made."""
    inputs = [(outer, state[outer.column]) for outer in sorted(made_of) if outer.column in state]
    found = frozenset(inner.through(outer.how) for outer, item in inputs for inner in item.made_of)
    earlier = dict.fromkeys(item.via for _, item in inputs if item.via)
    return Prepared(found, ", ".join([*earlier, step.function]))


def _computed_edges(view: FeatureView, known: Mapping[str, Node], before: Mapping[str, Node]) -> Iterator[Edge]:
    """On-demand features, then derived ones; each may use those before it."""
    there = dict(known)
    for step in view.on_demand:
        brought = {name: request_node().at(name) for name in requested(step).names if name not in known}
        yield from step_edges(step, there | brought, before.__getitem__)
        there |= {name: before[name] for name in step.output_names}
    for name, expression in view.derived:
        for item in sorted(of_expression(expression)):
            if item.column in there:
                yield Edge(there[item.column], before[name], "derives", item.how, via="SQL")
        there[name] = before[name]


def _label_name(label: str) -> str:
    return label.partition(":")[2] or label


def _label_edges(view: FeatureView) -> Iterator[Edge]:
    for selection in view.label_features:
        own = group_node(selection.source, selection.version)
        for feature in selection.features:
            yield Edge(own.at(feature), view_node(view.name).at(selection.output_name(feature)), "label", "identity")
