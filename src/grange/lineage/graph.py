"""The graph: what is made of what, as frozen values. Pure; knows nothing of how it came to be.

A node is a thing (a source, a feature group, a training dataset …) or one column of a thing. Edges go from what is
read to what is made of it, between things or between columns, never from one level to the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal
from urllib.parse import quote

from grange.lineage.dependence import Certainty, How
from grange.ports.registry import Run

NodeKind = Literal[
    "entity",
    "source",
    "transformation",
    "feature_group",
    "feature_view",
    "training_dataset",
    "model",
    "export",
]
Direction = Literal["both", "upstream", "downstream"]
Why = Literal["reads", "derives", "pins", "label", "transforms", "publishes", "keys", "trains", "exports"]
"""Why something is upstream of something else:

`reads` takes rows or values of it; `derives` computes them from it; `pins` takes one version of it, for good; `label`
is to predict it; `transforms` runs it; `publishes` is one of its versions; `keys` is keyed by it; `trains` learned from
it; `exports` is a copy of it.
"""
KINDS: Final[Mapping[NodeKind, str]] = {
    "entity": "entity",
    "source": "source",
    "transformation": "transformation",
    "feature_group": "feature group",
    "feature_view": "feature view",
    "training_dataset": "training dataset",
    "model": "model",
    "export": "export",
}
"""Kinds in words, in the order in which data flows through them."""
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}
ANY: Final = "*"
"""The column that stands for any column of a thing, where it cannot be told which."""
EVENT: Final = "event"
"""The type of columns of a group's events, beside its windowed features."""
UNPREPARED: Final = "unprepared"
"""The type of a view's columns as they are before its model-dependent transformations, where these change them."""

_PLACES: Final = {EVENT: " of its events", UNPREPARED: " before it is prepared"}


@dataclass(frozen=True, slots=True)
class Node:
    """A thing, or one column of it. Equal when kind, name, type, version and column are; the rest is about it."""

    kind: NodeKind
    name: str
    """As it was defined; of a file source its path; of a training dataset its view; of an export where it went."""
    type: str = ""
    """Of sources `file`, `table`, `push` or `request`. Of columns `event` or `unprepared`, where a thing has two sorts
    of them."""
    version: str = ""
    """A pinned version of a group, the number of a training dataset; empty is the thing as it is defined."""
    column: str = ""
    """Empty for the whole thing; `*` is any of its columns."""
    dtype: str = field(default="", compare=False)
    """Of a column, where it is known."""
    details: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    """What else is known of it, JSON-able: `code_hash`, `created_at`, `schema` …"""

    @property
    def about(self) -> dict[str, Any]:
        """The details by name."""
        return dict(self.details)

    @property
    def owner(self) -> Node:
        """The thing that a column belongs to; the thing itself of a thing."""
        if not self.column:
            return self
        return Node(self.kind, self.name, self.type if self.kind == "source" else "", self.version)

    def at(self, column: str, *, type: str | None = None, dtype: str = "") -> Node:
        """A column of this thing."""
        named = tuple(detail for detail in self.details if detail[0] == "name")
        return Node(self.kind, self.name, self.type if type is None else type, self.version, column, dtype, named)

    def with_details(self, **details: Any) -> Node:
        """The same node with more known of it; what is None or empty is left out."""
        known = self.about | {name: value for name, value in details.items() if value not in (None, "", (), [], {})}
        return replace(self, details=tuple(known.items()))

    @property
    def id(self) -> str:
        """A text that no other node has, of characters that are safe in URLs."""
        parts = [self.kind, *([self.type] if self.type else []), _quoted(self.name)]
        text = ":".join(parts) + (f"@{_quoted(self.version)}" if self.version else "")
        return f"{text}/{_quoted(self.column)}" if self.column else text

    @property
    def reference(self) -> str:
        """How people name it: `user_spend@1.0.0:amount`, `churn#3`."""
        name = self.about.get("name", self.name) if self.kind == "source" else self.name
        mark = "#" if self.kind == "training_dataset" else "@"
        return f"{name}{mark + self.version if self.version else ''}{':' + self.column if self.column else ''}"

    @property
    def place(self) -> str:
        """Of a column, which of two sorts it is, where its thing has two: ` of its events`."""
        return _PLACES.get(self.type, "") if self.column else ""

    def __str__(self) -> str:
        return self.reference + self.place if self.column else f"{KINDS[self.kind]} {self.reference}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        data: dict[str, Any] = {"id": self.id, "kind": self.kind, "name": self.name}
        optional = {"type": self.type, "version": self.version, "column": self.column, "dtype": self.dtype}
        return data | {name: value for name, value in optional.items() if value} | {"details": self.about}


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing, or column, that another is made of."""

    upstream: Node
    downstream: Node
    why: Why
    how: How | None = None
    """Of columns: what the one is to the other."""
    certainty: Certainty = "certain"
    via: str = ""
    """What makes the one of the other, in words: `sum of 7d`, `SQL`, the name of a function."""

    def __post_init__(self) -> None:
        assert bool(self.upstream.column) == bool(self.downstream.column), "an edge stays on one level"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; nodes by their ids."""
        data: dict[str, Any] = {"upstream": self.upstream.id, "downstream": self.downstream.id, "why": self.why}
        if self.how is not None:
            data |= {"how": self.how, "certainty": self.certainty}
        return data | ({"via": self.via} if self.via else {})


def _quoted(text: str) -> str:
    """Text of characters that are safe in URLs; file names may hold what is no text, too."""
    return quote(text, safe="", errors="surrogatepass")


def node_order(node: Node) -> tuple[Any, ...]:
    """The order in which nodes are listed: as data flows, then by name; things before their columns."""
    return _RANK[node.kind], node.name, node.type, _number(node.version), node.column != "", node.column


def _number(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in version.split("."))


@dataclass(frozen=True)
class Graph:
    """Nodes and edges. Both ends of each edge are among the nodes; `Graph.of` sees to that."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    runs: tuple[Run, ...] = ()
    """Recorded runs of the groups in it, oldest first."""

    @classmethod
    def of(cls, nodes: Iterable[Node], edges: Iterable[Edge], runs: Iterable[Run] = ()) -> Graph:
        """A graph in the order of `node_order`, everything once.

        Of equal nodes the first counts, as what is known of it goes; a column's thing is a node too.
        """
        kept = tuple(dict.fromkeys(edges))
        known: dict[Node, Node] = {}
        for node in nodes:
            known.setdefault(node, node)
        for edge in kept:
            for end in (edge.upstream, edge.downstream):
                known.setdefault(end, end)
        for node in list(known):
            known.setdefault(node.owner, node.owner)
        position = {node: index for index, node in enumerate(sorted(known, key=node_order))}
        edges = sorted(kept, key=lambda edge: (position[edge.upstream], position[edge.downstream]))
        return cls(tuple(known[node] for node in position), tuple(edges), tuple(runs))

    @cached_property
    def _known(self) -> Mapping[Node, Node]:
        return {node: node for node in self.nodes}

    @cached_property
    def _into(self) -> Mapping[Node, tuple[Edge, ...]]:
        return _by_end(self.edges, lambda edge: edge.downstream)

    @cached_property
    def _out_of(self) -> Mapping[Node, tuple[Edge, ...]]:
        return _by_end(self.edges, lambda edge: edge.upstream)

    def __contains__(self, node: object) -> bool:
        return node in self._known

    def known(self, node: Node) -> Node:
        """The node as the graph has it, with what is known of it."""
        return self._known.get(node, node)

    def into(self, node: Node) -> tuple[Edge, ...]:
        """The edges that end in a node."""
        return self._into.get(node, ())

    def out_of(self, node: Node) -> tuple[Edge, ...]:
        """The edges that begin in a node."""
        return self._out_of.get(node, ())

    def names(self, edge: Edge) -> bool:
        """Whether an edge only says whose version something is: of a version that says itself what it was made of. It
        is one of its group's versions, and not made of what the group is made of now."""
        return edge.why == "publishes" and edge.downstream in self._telling

    @cached_property
    def _telling(self) -> frozenset[Node]:
        """The versions, and their columns, that say what they were made of."""
        return frozenset(edge.downstream for edge in self.edges if is_recorded(edge))

    def columns(self, node: Node) -> tuple[Node, ...]:
        """The columns of a thing."""
        return self._columns.get(node, ())

    @cached_property
    def _columns(self) -> Mapping[Node, tuple[Node, ...]]:
        found: dict[Node, list[Node]] = {}
        for node in self.nodes:
            if node.column:
                found.setdefault(node.owner, []).append(node)
        return {owner: tuple(columns) for owner, columns in found.items()}

    def upstream(self, node: Node, *, depth: int | None = None) -> tuple[Node, ...]:
        """Everything that a node is made of, nearest first, without itself.

        Args:
            node: a thing or a column.
            depth: at most so many edges away; None is without limit.
        """
        return self.reached([node], "upstream", depth=depth)

    def downstream(self, node: Node, *, depth: int | None = None) -> tuple[Node, ...]:
        """Everything that is made of a node, nearest first, without itself. Takes what `upstream` does."""
        return self.reached([node], "downstream", depth=depth)

    def reached(
        self, starts: Iterable[Node], towards: Literal["upstream", "downstream"], *, depth: int | None = None
    ) -> tuple[Node, ...]:
        """Everything upstream or downstream of some nodes, nearest first, without these."""
        away = dict.fromkeys(starts, 0)
        named: dict[Node, int] = {}  # groups that are only named as those of a version: nothing lies behind them
        pending = deque(away)
        while pending:
            node = pending.popleft()
            if depth is not None and away[node] >= depth:
                continue
            for edge in self.onward(node, towards, first=not away[node]):
                other = edge.upstream if towards == "upstream" else edge.downstream
                if towards == "upstream" and self.names(edge):
                    named.setdefault(other, away[node] + 1)
                elif other not in away:  # seen before: also what ends a circle, which definitions cannot make
                    away[other] = away[node] + 1
                    pending.append(other)
        for node, distance in named.items():
            away[node] = min(distance, away.get(node, distance))
        nearest = sorted((node for node, distance in away.items() if distance), key=away.__getitem__)
        return tuple(map(self.known, nearest))

    def onward(self, node: Node, towards: Literal["upstream", "downstream"], *, first: bool) -> tuple[Edge, ...]:
        """The edges of a node that a walk takes.

        Args:
            node: where it is.
            towards: which way it goes.
            first: whether it begins here: only from itself does a group lead to versions that say themselves what they
                were made of.
        """
        if towards == "upstream":
            return self.into(node)
        return self.out_of(node) if first else tuple(edge for edge in self.out_of(node) if not self.names(edge))

    def path(self, start: Node, end: Node) -> tuple[Node, ...]:
        """A shortest way along the data from a node to another, both included; empty when there is none."""
        return self.ways(start).get(end, ())

    def ways(self, start: Node) -> Mapping[Node, tuple[Node, ...]]:
        """By node, a shortest way to it along the data, itself included."""
        found: dict[Node, tuple[Node, ...]] = {start: (self.known(start),)}
        pending = deque([start])
        while pending:
            node = pending.popleft()
            for edge in self.onward(node, "downstream", first=node == start):
                if edge.downstream not in found:
                    found[edge.downstream] = (*found[node], self.known(edge.downstream))
                    pending.append(edge.downstream)
        return found

    def only(self, nodes: Collection[Node]) -> Graph:
        """Some of the nodes, and the edges and runs among them."""
        chosen = frozenset(nodes)
        edges = (edge for edge in self.edges if edge.upstream in chosen and edge.downstream in chosen)
        groups = {node.name for node in chosen if node.kind == "feature_group"}
        return Graph(
            tuple(node for node in self.nodes if node in chosen),
            tuple(edges),
            tuple(run for run in self.runs if run.group in groups),
        )

    def where(self, holds: Callable[[Edge], bool]) -> Graph:
        """The same nodes with some of the edges."""
        return Graph(self.nodes, tuple(filter(holds, self.edges)), self.runs)


def is_recorded(edge: Edge) -> bool:
    """Whether an edge says what a version was made of, as it was recorded with the version."""
    return edge.downstream.kind == "feature_group" and bool(edge.downstream.version) and edge.why != "publishes"


def _by_end(edges: Iterable[Edge], end: Callable[[Edge], Node]) -> dict[Node, tuple[Edge, ...]]:
    found: dict[Node, list[Edge]] = {}
    for edge in edges:
        found.setdefault(end(edge), []).append(edge)
    return {node: tuple(listed) for node, listed in found.items()}


__all__ = [
    "ANY", "EVENT", "KINDS", "UNPREPARED", "Direction", "Edge", "Graph", "Node", "NodeKind", "Why", "is_recorded",
    "node_order",
]  # fmt: skip
