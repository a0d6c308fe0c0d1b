"""Building the graph: from definitions, versions, runs and documents to nodes and edges. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import requested
from grange.definitions.sources import DerivedSource
from grange.definitions.transformations import Step
from grange.lineage.graph import Edge, Graph, Node
from grange.lineage.things import (
    dataset_node,
    described_dataset,
    described_entity,
    described_export,
    described_group,
    described_request,
    described_transformation,
    described_version,
    described_view,
    entity_node,
    export_node,
    file_node,
    group_node,
    request_node,
    selected_node,
    source_nodes,
    transformation_node,
    view_node,
)
from grange.ports.offline import NEVER_MATERIALIZED, VersionMeta
from grange.ports.registry import Run
from grange.types.time import isoformat

_FAILED = ("failed", "interrupted")


@dataclass(frozen=True)
class Facts:
    """Everything that a graph is built from."""

    catalog: Catalog
    metas: tuple[VersionMeta, ...] = ()
    """Versions of groups that are known; others are nodes where something pins them."""
    runs: tuple[Run, ...] = ()
    training_datasets: tuple[Mapping[str, Any], ...] = ()
    exports: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def versions(self) -> Mapping[Node, VersionMeta]:
        """By node, what is known of versions."""
        return {group_node(meta.name, meta.version): meta for meta in self.metas}

    @cached_property
    def datasets(self) -> Mapping[Node, Mapping[str, Any]]:
        """By node, the documents of training datasets."""
        return {dataset_node(data["view"], data["version"]): data for data in self.training_datasets}

    @cached_property
    def exported(self) -> Mapping[Node, tuple[Mapping[str, Any], ...]]:
        """By node, the documents of exports to one place. An export that failed left nothing there."""
        found: dict[Node, list[Mapping[str, Any]]] = {}
        for data in self.exports:
            if data.get("status") in _FAILED:
                continue
            found.setdefault(export_node(str(data["destination"])), []).append(data)
        return {node: tuple(listed) for node, listed in found.items()}

    def graph(self, *, entities: bool = False) -> Graph:
        """All things and the edges between them. See `build_graph`."""
        return Graph.of(_nodes(self, entities), _edges(self, entities), self.runs)


def build_graph(
    catalog: Catalog,
    *,
    metas: Iterable[VersionMeta] = (),
    runs: Iterable[Run] = (),
    training_datasets: Iterable[Mapping[str, Any]] = (),
    exports: Iterable[Mapping[str, Any]] = (),
    entities: bool = False,
    columns: bool | Collection[Node] = False,
) -> Graph:
    """The lineage of everything that is applied and was made of it.

    Args:
        catalog: the applied definitions.
        metas: versions of feature groups that are to be nodes; so are those that something pins.
        runs: recorded runs; they say when a group was last materialized, and as which version.
        training_datasets: documents with `view`, `version` and `pins`, and what else `DatasetMeta.to_dict` has.
        exports: documents with `what` (`group` or `view`), `name`, `version` and `destination`.
        entities: whether entities are nodes, too.
        columns: whether columns are nodes, too: of everything, or of these things.
    """
    facts = Facts(
        catalog,
        tuple(metas),
        tuple(sorted(runs, key=lambda run: run.started_at)),
        tuple(training_datasets),
        tuple(exports),
    )
    graph = facts.graph(entities=entities)
    if columns is False:
        return graph
    from grange.lineage.columns import column_graph

    within = graph.nodes if columns is True else [node for node in graph.nodes if node in columns]
    return column_graph(facts, graph, within)


def _nodes(facts: Facts, entities: bool) -> Iterator[Node]:
    catalog = facts.catalog
    last = {run.group: run for run in facts.runs if run.version}
    if entities:
        yield from map(described_entity, catalog.entities.values())
    for group in catalog.groups.values():
        yield from source_nodes(group)
        run = last.get(group.name)
        yield described_group(group).with_details(
            latest=None if run is None else run.version,
            materialized_at=None if run is None else isoformat(run.ended_at),
        )
    yield from map(described_transformation, catalog.transformations.values())
    for view in catalog.views.values():
        yield from map(described_request, view.requests)
        yield described_view(view)
    runs = {(run.group, run.version): run for run in facts.runs if run.verb == "materialize"}
    for meta in facts.metas:
        run = runs.get((meta.name, meta.version))
        yield described_version(meta).with_details(materialized_at=None if run is None else isoformat(run.ended_at))
    yield from map(described_dataset, facts.training_datasets)
    yield from (described_export(data) for listed in facts.exported.values() for data in listed)


def _edges(facts: Facts, entities: bool) -> Iterator[Edge]:
    catalog = facts.catalog
    edges = list(_definition_edges(catalog, entities))
    edges += (edge for data in facts.training_datasets for edge in _dataset_edges(data))
    edges += (
        edge for place, listed in facts.exported.items() for data in listed for edge in _export_edges(place, data)
    )
    yield from edges
    recorded = [edge for meta in facts.metas for edge in _recorded_edges(meta)]
    yield from recorded
    edges += recorded
    versions = {end for edge in edges for end in (edge.upstream, edge.downstream) if end.kind == "feature_group"}
    versions |= {group_node(meta.name, meta.version) for meta in facts.metas}
    for node in versions:
        if node.version:
            yield Edge(group_node(node.name), node, "publishes")


def _definition_edges(catalog: Catalog, entities: bool) -> Iterator[Edge]:
    for group in catalog.groups.values():
        yield from _group_edges(catalog, group)
        if entities:
            yield from (Edge(entity_node(entity.name), group_node(group.name), "keys") for entity in group.entities)
    for view in catalog.views.values():
        yield from _view_edges(catalog, view)


def _group_edges(catalog: Catalog, group: FeatureGroup) -> Iterator[Edge]:
    own = group_node(group.name)
    for source in source_nodes(group):
        yield Edge(source, own, "reads")
    if isinstance(group.source, DerivedSource):
        for selection in group.source.features:
            yield Edge(selected_node(catalog, selection), own, "derives")
    yield from _step_edges(group.on_demand, own, frozenset())


def _view_edges(catalog: Catalog, view: FeatureView) -> Iterator[Edge]:
    own = view_node(view.name)
    for selection in view.features:
        yield Edge(selected_node(catalog, selection), own, "reads" if selection.version is None else "pins")
    for label in view.label_features:
        yield Edge(selected_node(catalog, label), own, "label")
    for source in view.requests:
        yield Edge(request_node(source.name), own, "reads")
    brought = frozenset(column for source in view.requests for column in source.schema.names)
    yield from _step_edges((*view.on_demand, *view.transformations), own, brought)


def _step_edges(steps: Iterable[Step], own: Node, brought: frozenset[str]) -> Iterator[Edge]:
    """The transformations that users wrote, and the request where they take columns that no request source has."""
    for step in steps:
        if step.transformation is None:
            continue
        yield Edge(transformation_node(step.function), own, "transforms")
        if not brought.issuperset(requested(step).names):
            yield Edge(request_node(), own, "reads")


def _dataset_edges(data: Mapping[str, Any]) -> Iterator[Edge]:
    own = dataset_node(data["view"], data["version"])
    yield Edge(view_node(data["view"]), own, "reads")
    yield from _pin_edges(own, data)
    spine = data.get("spine") or {}
    if spine.get("type") == "file":
        yield Edge(file_node(str(spine["path"])), own, "reads", via="spine")


def _recorded_edges(meta: VersionMeta) -> Iterator[Edge]:
    """What a version was made of, as it was recorded with it."""
    for parent in parent_nodes(meta):
        yield Edge(parent, group_node(meta.name, meta.version), "derives")


def parent_nodes(meta: VersionMeta) -> tuple[Node, ...]:
    """The versions that a version of a derived group was made of; of a parent that only had pushed rows, the group."""
    return tuple(_version_node(group, version) for group, version, *_ in meta.parents)


def _version_node(group: str, version: str) -> Node:
    return group_node(group, None if version == NEVER_MATERIALIZED else version)


def _export_edges(own: Node, data: Mapping[str, Any]) -> Iterator[Edge]:
    yield Edge(exported_node(data), own, "exports")
    if data["what"] == "view":
        yield from _pin_edges(own, data)
        if data.get("version"):
            yield Edge(dataset_node(data["name"], data["version"]), own, "transforms", via="prepared as in")


def _pin_edges(own: Node, data: Mapping[str, Any]) -> Iterator[Edge]:
    for pin in data.get("pins", ()):
        yield Edge(_version_node(pin["group"], pin["version"]), own, "pins")


def exported_node(data: Mapping[str, Any]) -> Node:
    """What an export is a copy of: a group or a version of it, or a view."""
    return group_node(data["name"], data.get("version")) if data["what"] == "group" else view_node(data["name"])


__all__ = ["Facts", "build_graph", "exported_node", "parent_nodes"]
