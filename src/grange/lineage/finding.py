"""Finding what people name: a thing, a version of it, or one of its columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from grange.errors import NotFoundError, RequestError, UnknownFeatureError, closest_names
from grange.lineage.graph import KINDS, Graph, Node, NodeKind

_FIRST: Final[tuple[NodeKind, ...]] = (
    "feature_group",
    "feature_view",
    "transformation",
    "source",
    "training_dataset",
    "export",
    "model",
    "entity",
)
"""Of several kinds of things with one name, the first of these is meant."""


def find(graph: Graph, name: str, *, kind: str | None = None) -> tuple[Node, str]:
    """The thing and the column that a name means; the column is empty for the whole thing.

    Args:
        graph: where to look; its columns need not be in it.
        name: `user_spend`, `user_spend@1.0.0`, `churn#3`, the name or path of a source, where an export went; with
            `:column` behind it one of its columns; or the id of a node.
        kind: only things of this kind.

    Raises:
        NotFoundError: nothing has this name; carries the closest ones.
        RequestError: two things of one kind have it; no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise RequestError(
            f"there is no kind {kind!r} of things", closest=closest_names(kind, KINDS), try_=", ".join(KINDS)
        )
    names = _names(graph, kind)
    for place in (len(name), *(index for index, letter in enumerate(name) if letter == ":")):
        found = names.get(name[:place], [])
        if found:
            return _one(found, name[:place]), name[place + 1 :]
    head = name.partition(":")[0]
    raise NotFoundError(
        f"nothing is called {name!r}" if kind is None else f"no {kind.replace('_', ' ')} is called {name!r}",
        closest=closest_names(name, names) or closest_names(head, names),
        try_="grange fg list, grange fv list",
    )


def _names(graph: Graph, kind: str | None) -> dict[str, list[Node]]:
    """By name, the things that have it."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if not node.column and kind in (None, node.kind):
            for name in dict.fromkeys((node.reference, *([node.name] if node.kind == "source" else []), node.id)):
                found.setdefault(name, []).append(node)
    return found


def _one(found: Collection[Node], name: str) -> Node:
    best = min(_FIRST.index(node.kind) for node in found)
    chosen = [node for node in found if node.kind == _FIRST[best]]
    if len(chosen) > 1:
        raise RequestError(
            f"two {KINDS[chosen[0].kind]}s are called {name!r}",
            found=", ".join(node.id for node in chosen),
            try_=f"name one by its id: {chosen[0].id}",
        )
    return chosen[0]


def find_column(graph: Graph, owner: Node, column: str) -> Node:
    """A column of a thing: one that leaves it before one inside it.

    Raises:
        UnknownFeatureError: it has no such column; carries the closest ones.
    """
    columns = graph.columns(owner)
    named = sorted((node for node in columns if node.column == column), key=lambda node: node.type != owner.type)
    if owner.kind == "source" and not named:  # SQL does not tell upper from lower case
        named = [node for node in columns if node.column.casefold() == column.casefold()]
    if named:
        return named[0]
    there = list(dict.fromkeys(node.column for node in columns))
    raise UnknownFeatureError(
        f"{owner} has no column {column!r}",
        found=", ".join(_some(there)) or "no column that is known",
        closest=closest_names(column, there),
        try_=f"grange lineage {owner.reference} --columns",
    )


def _some(names: list[str], limit: int = 20) -> Iterator[str]:
    yield from names[:limit]
    if len(names) > limit:
        yield f"and {len(names) - limit} more"
