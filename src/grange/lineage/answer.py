"""The answer to "where does it come from, where does it go": a part of the graph, as text, data or events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grange.errors import RequestError
from grange.lineage.building import Facts
from grange.lineage.columns import column_graph, made_by
from grange.lineage.dots import to_dot
from grange.lineage.finding import find, find_column
from grange.lineage.graph import Direction, Graph, Node
from grange.lineage.openlineage import Names, to_openlineage
from grange.lineage.trees import to_tree


@dataclass(frozen=True)
class Lineage:
    """What something is made of, and what is made of it. Print it for a tree."""

    start: Node
    """What was asked about."""
    graph: Graph
    """It and everything found; with columns, every thing and the columns of it that were found."""
    direction: Direction
    columns: bool
    depth: int | None
    starts: tuple[Node, ...]
    """Where the trees begin: the start, or its columns."""
    names: Names
    """What OpenLineage calls this project."""

    @property
    def upstream(self) -> tuple[Node, ...]:
        """What it is made of, nearest first; columns when these were asked for."""
        return self._found("upstream")

    @property
    def downstream(self) -> tuple[Node, ...]:
        """What is made of it, nearest first; columns when these were asked for."""
        return self._found("downstream")

    def _found(self, towards: Literal["upstream", "downstream"]) -> tuple[Node, ...]:
        if self.direction not in ("both", towards):
            return ()
        return self.graph.reached(self.starts, towards, depth=self.depth)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: nodes with ids, and edges between ids."""
        return {
            "start": self.start.id,
            "direction": self.direction,
            "upstream": [node.id for node in self.upstream],
            "downstream": [node.id for node in self.downstream],
            "nodes": [node.to_dict() for node in self.graph.nodes],
            "edges": [edge.to_dict() for edge in self.graph.edges],
        }

    def to_tree(self, *, width: int | None = None) -> str:
        """As text: a tree each for upstream and downstream.

        Args:
            width: characters per line at most; longer lines are cut and end in `…`.
        """
        return to_tree(self.graph, self.start, self.starts, self.direction, depth=self.depth, width=width)

    def to_dot(self) -> str:
        """As a graph in the language of Graphviz."""
        return to_dot(self.graph, self.start)

    def to_openlineage(self) -> list[dict[str, Any]]:
        """As OpenLineage events (2-0-2), JSON-able: a job event for each thing that is made, and a pair of run events
        (START, COMPLETE) for each recorded run. They have column lineage when columns were asked for."""
        return to_openlineage(self.graph, self.names)

    def __str__(self) -> str:
        return self.to_tree()


def lineage_of(
    facts: Facts,
    name: str,
    *,
    direction: Direction = "both",
    columns: bool = False,
    depth: int | None = None,
    kind: str | None = None,
    project: str = "grange",
    root: Path = Path(),
    now: dt.datetime,
) -> Lineage:
    """The lineage of what a name means.

    Args:
        facts: what the graph is built from.
        name: see `finding.find`. Of a column the answer is in columns.
        direction: what it is made of (`upstream`), what is made of it (`downstream`), or both.
        columns: whether the answer is in columns.
        depth: at most so many edges away; None is without limit.
        kind: only things of this kind.
        project: the namespace of OpenLineage events.
        root: the folder that relative paths of files are relative to.
        now: the time of OpenLineage events that are of no run.

    Raises:
        NotFoundError, UnknownFeatureError: nothing has this name.
        RequestError: it means two things; a direction that is none, or a negative depth.
    """
    if direction not in ("both", "upstream", "downstream"):
        raise RequestError(f"direction {direction!r} is none", try_="both, upstream or downstream")
    if depth is not None and depth < 0:
        raise RequestError(f"a depth of {depth} is none", try_="0 or more; leave it out for no limit")
    whole = facts.graph(entities=True)
    start, column = find(whole, name, kind=kind)
    if start.kind != "entity":
        whole = whole.only([node for node in whole.nodes if node.kind != "entity"])
    names = Names(project, root, now)
    if not columns and not column:
        found = _part(whole, [start], direction, depth)
        return Lineage(start, whole.only(found), direction, False, depth, (start,), names)
    reached = _part(whole, [start], direction, None)
    # a transformation is made of nothing; the columns that it makes are
    makers = {node.owner for node in made_by(facts, start.name)} if start.kind == "transformation" else set()
    detailed = column_graph(facts, whole, _part(whole, [start, *makers], direction, None))
    if column:
        start = find_column(detailed, start, column)
    starts = _starts(facts, detailed, start)
    kept = _part(detailed, starts, direction, depth)
    things = {node.owner for node in kept} | (set() if column else reached)
    return Lineage(start, detailed.only(kept | things), direction, True, depth, starts, names)


def _part(graph: Graph, starts: Collection[Node], direction: Direction, depth: int | None) -> set[Node]:
    found = set(starts)
    if direction != "downstream":
        found |= set(graph.reached(starts, "upstream", depth=depth))
    if direction != "upstream":
        found |= set(graph.reached(starts, "downstream", depth=depth))
    return found


def _starts(facts: Facts, graph: Graph, start: Node) -> tuple[Node, ...]:
    """The columns to begin with."""
    if start.column:
        return (start,)
    if start.kind == "transformation":
        return tuple(node for node in made_by(facts, start.name) if node in graph)
    return tuple(node for node in graph.columns(start) if node.type == start.type)


__all__ = ["Lineage", "lineage_of"]
