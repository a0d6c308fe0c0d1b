"""Columns in the graph: every column of some things, and the edges between them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.serialize import fingerprint, to_data
from grange.definitions.sources import DerivedSource
from grange.definitions.transformations import Step
from grange.lineage.building import Facts, exported_node, parent_nodes
from grange.lineage.dependence import Certainty, least_certain
from grange.lineage.graph import ANY, EVENT, Edge, Graph, Node
from grange.lineage.group_columns import (
    Raw,
    group_edges,
    group_features,
    group_nodes,
    is_stored,
    known_columns,
)
from grange.lineage.relations import Known
from grange.lineage.things import entity_node, group_node, source_nodes, view_node
from grange.lineage.view_columns import Views
from grange.ports.offline import VersionMeta


def column_graph(facts: Facts, graph: Graph, within: Iterable[Node]) -> Graph:
    """A graph with the columns of some of its things.

    Args:
        facts: what it was built from.
        graph: its things.
        within: the things whose columns are wanted. Edges between columns of these are in the result.
    """
    chosen = frozenset(within)
    building = _Columns(facts)
    nodes = [node for owner in chosen for node in building.nodes(owner)]
    edges = [edge for owner in chosen for edge in building.edges(owner) if edge.upstream.owner in chosen]
    named: dict[Node, dict[Node, None]] = {node: {} for node in chosen if node.kind == "feature_group" and node.version}
    for edge in edges:
        if edge.upstream.owner in named:
            named[edge.upstream.owner].setdefault(edge.upstream)
    published = (edge for version, taken in named.items() for edge in building.published(version, taken))
    edges += [edge for edge in published if edge.upstream.owner in chosen]
    return Graph.of((*graph.nodes, *nodes), (*graph.edges, *edges), graph.runs)


class _Columns:
    """Nodes and edges of columns, thing by thing."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: Mapping[Node, Known] = known_columns(facts.catalog.groups.values())
        self._views = Views(facts.catalog, self._stored)

    def nodes(self, owner: Node) -> Iterator[Node]:
        """Every column of a thing that is known."""
        match owner.kind:
            case "source":
                yield from self._source_nodes(owner)
            case "feature_group" if owner.version:
                meta = self._facts.versions.get(owner)
                yield from () if meta is None else _version_nodes(owner, meta)
            case "feature_group":
                group = self._group(owner)
                yield from () if group is None else group_nodes(group)
            case "feature_view":
                view = self._view(owner)
                yield from () if view is None else self._views.nodes(view)
            case "entity":
                entity = self._facts.catalog.entities.get(owner.name)
                yield from () if entity is None else map(owner.at, entity.join_keys)
            case "training_dataset":
                yield from (
                    owner.at(name, dtype=dtype) for name, dtype in _dataset_columns(self._facts.datasets.get(owner, {}))
                )
            case _:
                return

    def edges(self, owner: Node) -> Iterator[Edge]:
        """What the columns of a thing are made of."""
        match owner.kind:
            case "feature_group" if owner.version:
                yield from self._recorded_edges(owner)
            case "feature_group":
                group = self._group(owner)
                yield from () if group is None else group_edges(group, self.raw(group))
                yield from () if group is None else _key_edges(group)
            case "feature_view":
                view = self._view(owner)
                yield from () if view is None else self._views.edges(view)
            case "training_dataset":
                yield from self._dataset_edges(owner)
            case "export":
                yield from self._export_edges(owner)
            case _:
                return

    def raw(self, group: FeatureGroup) -> Raw:
        """The raw columns of a group."""
        nodes = source_nodes(group)
        if nodes:
            best = max((self._known[node] for node in nodes), key=lambda known: (known.complete, len(known.columns)))
            return Raw(best, nodes)
        assert isinstance(group.source, DerivedSource)
        return self._raw_of_parents(group, group.source.features)

    def _raw_of_parents(self, group: FeatureGroup, features: Sequence[FeatureSelection]) -> Raw:
        """The base group's entity key and time, then the features that are taken."""
        view = FeatureView(group.name, features=features)
        selection = self._facts.catalog.taken_by(view)[0].selection
        base = self._facts.catalog.group(selection.source)
        own, on = group_node(base.name, selection.version), dict(selection.on)
        origins = {on.get(key, key): (own.at(key),) for key in base.join_keys}
        origins[group.event_time] = (own.at(base.event_time),)
        origins |= {name: (column.node,) for name, column in self._views.taken(view).items()}
        return Raw(Known(tuple(origins), complete=True), origins=origins)

    def _recorded_edges(self, owner: Node) -> Iterator[Edge]:
        """What the columns of a version of a derived group are made of in the versions that it was made of, as far as
        its group is still as it was."""
        meta, group = self._facts.versions.get(owner), self._group(owner)
        if meta is None or group is None or not meta.parents or not isinstance(group.source, DerivedSource):
            return
        versions = {node.name: node.version or None for node in parent_nodes(meta)}
        features = [
            replace(selection, version=versions.get(selection.source, selection.version))
            for selection in group.source.features
        ]
        same = _is_as_it_was(group, meta) and set(versions) == set(group.source.parents)
        stored = {node.column for node in _version_nodes(owner, meta)}
        for edge in group_edges(group, self._raw_of_parents(group, features)):
            ends = [_of_version(owner, end) for end in (edge.upstream, edge.downstream)]
            if ends[1].type == EVENT or ends[1].column in stored:
                doubt = least_certain(edge.certainty, "certain" if same else "maybe")
                yield replace(edge, upstream=ends[0], downstream=ends[1], certainty=doubt)

    def published(self, owner: Node, taken: Iterable[Node]) -> Iterator[Edge]:
        """What the columns of a version are made of: those of its group, as far as that is still as it was.

        Args:
            owner: the version.
            taken: columns of it that something takes; all that it has where it is known.
        """
        group = self._group(owner)
        meta = self._facts.versions.get(owner)
        columns = dict.fromkeys([*(() if meta is None else _version_nodes(owner, meta)), *taken])
        if group is None:
            return
        there = {(node.column, node.type) for node in group_nodes(group)}
        certainty: Certainty = "certain" if meta is not None and _is_as_it_was(group, meta) else "maybe"
        for node in columns:
            if (node.column, node.type) in there:
                origin = group_node(group.name).at(node.column, type=node.type)
                yield Edge(origin, node, "publishes", "identity", certainty)

    def _stored(self, group: FeatureGroup, version: str | None) -> tuple[str, ...]:
        meta = None if version is None else self._facts.versions.get(group_node(group.name, version))
        if meta is None:
            return group_features(group)
        made = [item.name for item in meta.aggregates]
        times = (meta.event_time, meta.created_time)
        return tuple(made) or tuple(
            name for name in meta.schema.names if name not in (*meta.entity_keys, *times) and is_stored(name)
        )

    def _group(self, node: Node) -> FeatureGroup | None:
        return self._facts.catalog.groups.get(node.name)

    def _view(self, node: Node) -> FeatureView | None:
        return self._facts.catalog.views.get(node.name)

    def _source_nodes(self, owner: Node) -> Iterator[Node]:
        types = {column["name"]: column["dtype"] for column in owner.about.get("schema", ())}
        for name in dict.fromkeys((*self._known.get(owner, Known()).columns, *types)):
            yield owner.at(name, dtype=types.get(name, ""))

    def _dataset_edges(self, owner: Node) -> Iterator[Edge]:
        data = self._facts.datasets.get(owner, {})
        view = self._facts.catalog.views.get(owner.name)
        if view is None:
            return
        same = data.get("view_fingerprint") == fingerprint(to_data(view))
        there = self._views.columns(view)
        certainty: Certainty = "certain" if same else "maybe"
        for name in [name for name, _ in _dataset_columns(data)] or there:
            column = _one_of(there, name)
            if column is not None:
                yield Edge(view_node(view.name).at(column), owner.at(name), "reads", "identity", certainty)

    def _export_edges(self, owner: Node) -> Iterator[Edge]:
        for data in self._facts.exported.get(owner, ()):
            there: dict[str, Node] = {}
            for node in self._leaving(exported_node(data)):
                there.setdefault(node.column, node)
            for name in data.get("columns") or [name for name, node in there.items() if not node.type]:
                column = _one_of(there, name)
                if column is not None:
                    yield Edge(there[column], owner.at(name), "exports", "identity")

    def _leaving(self, thing: Node) -> Iterator[Node]:
        """The columns of a thing as others get them: those of its rows first, then those of its events."""
        if thing.kind == "feature_view":
            view = self._view(thing)
            yield from () if view is None else map(thing.at, self._views.columns(view))
            return
        group, meta = self._group(thing), self._facts.versions.get(thing)
        own = _version_nodes(thing, meta) if meta is not None else () if group is None else group_nodes(group)
        yield from sorted((thing.at(node.column, type=node.type) for node in own), key=lambda node: node.type)


def _of_version(version: Node, node: Node) -> Node:
    """A column of a group as the column of a version of it; any other node as it is."""
    return version.at(node.column, type=node.type) if node.owner == group_node(version.name) else node


def _key_edges(group: FeatureGroup) -> Iterator[Edge]:
    for entity in group.entities:
        for key in entity.join_keys:
            yield Edge(entity_node(entity.name).at(key), group_node(group.name).at(key), "keys", "identity")


def made_by(facts: Facts, transformation: str) -> tuple[Node, ...]:
    """The columns that a transformation makes, wherever it is used."""
    found = []
    for owner, steps in _steps(facts):
        for step in steps:
            if step.transformation is not None and step.function == transformation:
                found += [owner.at(name) for name in step.output_names]
    return tuple(found)


def _steps(facts: Facts) -> Iterator[tuple[Node, tuple[Step, ...]]]:
    for group in facts.catalog.groups.values():
        yield group_node(group.name), group.on_demand
    for view in facts.catalog.views.values():
        yield view_node(view.name), (*view.on_demand, *view.transformations)


def _version_nodes(owner: Node, meta: VersionMeta) -> Iterator[Node]:
    for column in meta.feature_schema if meta.aggregates else meta.schema:
        if is_stored(column.name):
            yield owner.at(column.name, dtype=str(column.dtype))


def _dataset_columns(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and types of a training dataset's columns, without those that only say which rows were asked for."""
    roles = data.get("roles") or {}
    asked = ("key", "event_time", "spine", "request")
    return [(item["name"], item["dtype"]) for item in data.get("schema", ()) if roles.get(item["name"]) not in asked]


def _one_of(columns: Collection[str], name: str) -> str | None:
    """The column of a view that a column of its rows is; those that are called after what was learned are one."""
    if name in columns:
        return name
    stems = (each for each in columns if each.endswith(ANY) and name.startswith(each.removesuffix(ANY)))
    return max(stems, key=len, default=None)


def _is_as_it_was(group: FeatureGroup, meta: VersionMeta) -> bool:
    """Whether a version was made by the code and the aggregations that the group has now."""
    code = "" if group.transform is None else group.transform.code_hash
    return code == meta.code_hash and group.aggregates() == meta.aggregates
