"""lineage: what is made of what, and what a change or a deletion breaks. Reads; changes nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from grange.definitions.catalog import Catalog
from grange.definitions.references import parse_reference
from grange.definitions.sources import DerivedSource
from grange.errors import (
    CorruptStoreError,
    DefinitionError,
    InUseError,
    NotFoundError,
    RequestError,
    UnknownVersionError,
)
from grange.lineage import Facts, Impact, Lineage, Node, deletion_impact, impact, lineage_of
from grange.lineage.building import parent_nodes
from grange.lineage.columns import column_graph
from grange.lineage.finding import find, find_column
from grange.lineage.graph import Direction
from grange.lineage.things import group_node
from grange.ports.datasets import COLLECTION as TRAINING_DATASETS
from grange.ports.offline import NEVER_MATERIALIZED, VersionMeta
from grange.ports.registry import Change, RegistryState
from grange.verbs.parts import Parts, catalog_of
from grange.verbs.runs import runs_of

EXPORTS: Final = "exports"
RUNS: Final = 1000
"""How many of the newest runs lineage tells of."""
_NAMED: Final = 12
"""How many things an error names."""


def gather(parts: Parts, catalog: Catalog, name: str = "") -> Facts:
    """What lineage is built from: definitions, runs, and what was made of them.

    Args:
        parts: the opened backends.
        catalog: the definitions.
        name: what is asked about. A version that nothing pins is known when it is named.

    Raises:
        UnknownVersionError: it names a version that its group does not have.
    """
    facts = Facts(
        catalog,
        runs=tuple(sorted(runs_of(parts.registry, limit=RUNS), key=lambda run: run.started_at)),
        training_datasets=tuple(item.data for item in parts.registry.documents(TRAINING_DATASETS, limit=None)),
        exports=tuple(item.data for item in parts.registry.documents(EXPORTS, limit=None)),
    )
    return _with_derived(parts, _with_named(parts, facts, name))


def lineage(
    parts: Parts,
    catalog: Catalog,
    name: str,
    *,
    direction: Direction,
    columns: bool,
    depth: int | None,
    kind: str | None,
    project: str,
    now: dt.datetime,
) -> Lineage:
    """What something is made of, and what is made of it. See `FeatureStore.lineage`."""

    def ask(facts: Facts, *, columns: bool) -> Lineage:
        return lineage_of(
            facts,
            name,
            direction=direction,
            columns=columns,
            depth=depth,
            kind=kind,
            project=project,
            root=parts.project,
            now=now,
        )

    facts = gather(parts, catalog, name)
    # first which versions there are on the way, then what is known of these
    found = ask(facts, columns=False)
    metas = {(meta.name, meta.version): meta for meta in (*facts.metas, *_metas(parts, found.graph.nodes))}
    return ask(replace(facts, metas=tuple(metas.values())), columns=columns)


def deleted_impact(parts: Parts, catalog: Catalog, name: str, *, kind: str | None = None) -> tuple[Impact, ...]:
    """What deleting something would break. See `FeatureStore.impact`."""
    return _deletion(gather(parts, catalog, name), name, kind)


def _deletion(facts: Facts, name: str, kind: str | None) -> tuple[Impact, ...]:
    graph = facts.graph(entities=True)
    node, column = find(graph, name, kind=kind)
    if column:
        # which columns a source has may be known only from what reads it
        near = [node, *graph.downstream(node, depth=1)]
        node = find_column(column_graph(facts, graph, near), node, column)
    return deletion_impact(facts.catalog, graph, node)


def change_impact(parts: Parts, state: RegistryState, changes: Sequence[Change], after: Catalog) -> tuple[Impact, ...]:
    """What changes of definitions mean for what is made of them.

    Nothing is known where what is applied cannot be read or contradicts itself: applying it anew is how it is mended.

    Args:
        parts: the opened backends.
        state: what is applied.
        changes: to be made on top.
        after: the definitions once they are made.
    """
    if all(item.action == "create" for item in changes):
        return ()
    try:
        before = catalog_of(state, {})
        before.check()
    except (CorruptStoreError, DefinitionError, NotFoundError):
        return ()
    return impact(before, after, gather(parts, before).graph(entities=True))


@contextmanager
def telling_users(parts: Parts, catalog: Catalog, name: str, version: str | None) -> Iterator[None]:
    """Let a refusal to delete something say all that is made of it, not only who uses it directly.

    Raises:
        InUseError: as it was raised, with the impact in its details.
    """
    try:
        yield
    except InUseError as error:
        deleted = name if version is None else f"{name}@{version}"
        found = _deletion(gather(parts, catalog), deleted, _kind_of(catalog, name))
        error.details["impact"] = [item.to_dict() for item in found]
        if found and error.found is None:
            error.found = f"made of it: {_named(found)}"
        raise


def _kind_of(catalog: Catalog, name: str) -> str | None:
    """What a name means to `delete`, where several things have it."""
    kinds = (
        ("feature_group", catalog.groups),
        ("feature_view", catalog.views),
        ("entity", catalog.entities),
        ("transformation", catalog.transformations),
    )
    return next((kind for kind, known in kinds if name in known), None)


def _named(found: Sequence[Impact]) -> str:
    """The things that are affected, in the order in which they matter."""
    names = list(dict.fromkeys(str(item.what) for item in found))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _with_named(parts: Parts, facts: Facts, name: str) -> Facts:
    """The facts with the version that a name asks for, which nothing else needs to pin.

    Raises:
        UnknownVersionError: the group has no such version.
    """
    head = name.partition(":")[0]
    if "@" not in head:
        return facts
    with suppress(RequestError):  # a source may be called anything
        reference = parse_reference(head)
        if reference.source in facts.catalog.groups:
            return replace(facts, metas=(parts.offline.meta(reference.source, reference.version),))
    return facts


def _with_derived(parts: Parts, facts: Facts) -> Facts:
    """The facts with the versions of derived groups that matter: those that something pins or asks for, those that
    were made of such versions, and those that these were made of."""
    derived = {
        group_node(meta.name, meta.version): meta
        for group in facts.catalog.groups.values()
        if isinstance(group.source, DerivedSource)
        for meta in _metas(parts, (group_node(group.name, version) for version in parts.offline.versions(group.name)))
    }
    if not derived:
        return facts
    made_of = {node: frozenset(parent_nodes(meta)) for node, meta in derived.items()}
    named = {node for node in facts.graph().nodes if node.kind == "feature_group" and node.version}
    found = _grown(named, lambda found: (node for node, parents in made_of.items() if not parents.isdisjoint(found)))
    found = _grown(found, lambda found: (parent for node in found for parent in made_of.get(node, ())))
    more = (meta for node, meta in derived.items() if node in found and node not in facts.versions)
    return replace(facts, metas=(*facts.metas, *more))


def _grown(nodes: Iterable[Node], more: Callable[[Set[Node]], Iterable[Node]]) -> set[Node]:
    """Nodes with what belongs to them, and what belongs to that, and so on."""
    found = set(nodes)
    while new := set(more(found)) - found:
        found |= new
    return found


def _metas(parts: Parts, nodes: Iterable[Node]) -> Iterator[VersionMeta]:
    """What is known of the versions among some nodes; of one that is gone or damaged nothing is."""
    for node in nodes:
        if node.kind == "feature_group" and node.version not in ("", NEVER_MATERIALIZED):
            with suppress(UnknownVersionError, CorruptStoreError):
                yield parts.offline.meta(node.name, node.version)


__all__ = ["change_impact", "deleted_impact", "gather", "lineage", "telling_users"]
