"""Lineage as text: a tree for what something is made of, and one for what is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from grange.lineage.graph import ANY, Direction, Edge, Graph, Node

_WORDS: Final = {
    "reads": "reads",
    "derives": "derived from",
    "pins": "pins",
    "label": "label",
    "transforms": "transforms",
    "publishes": "version of",
    "keys": "keyed by",
    "trains": "trained on",
    "exports": "copy of",
}
_HOW: Final = {"identity": "as it is", "group_by": "group by", "conditional": "condition"}
_LEAST: Final = 20
"""Characters that a line keeps, however narrow the terminal."""


def to_tree(
    graph: Graph,
    start: Node,
    starts: Sequence[Node],
    direction: Direction,
    *,
    depth: int | None = None,
    width: int | None = None,
) -> str:
    """Trees of a graph around a node.

    A thing that was shown with what lies behind it is shown again without, and marked with `(above)`.

    Args:
        graph: what was found.
        start: what was asked about.
        starts: where the trees begin: the start, or its columns.
        direction: which trees.
        depth: at most so many edges away; None is without limit.
        width: characters per line at most; longer lines are cut.
    """
    lines = [_title(graph.known(start))]
    for towards in ("upstream", "downstream"):
        if direction in ("both", towards):
            lines += ["", towards, *_section(graph, start, starts, towards, depth)]
    return "\n".join(_cut(_printable(line), width) for line in lines)


def _section(
    graph: Graph, start: Node, starts: Sequence[Node], towards: Literal["upstream", "downstream"], depth: int | None
) -> list[str]:
    shown: dict[Node, float] = {}
    if list(starts) == [start]:
        found = list(_branches(graph, start, towards, depth, "", shown, first=True))
        return found or ["  nothing"]
    lines: list[str] = []
    for node in starts:
        inner = list(_branches(graph, node, towards, depth, "  ", shown, first=True))
        lines += [f"  {_column(node, start)}", *inner] if inner else []
    return lines or ["  nothing"]


def _branches(
    graph: Graph,
    node: Node,
    towards: Literal["upstream", "downstream"],
    depth: int | None,
    indent: str,
    shown: dict[Node, float],
    *,
    first: bool = False,
) -> Iterator[str]:
    """The lines below a node. `shown` has, by node, how deep it was shown already."""
    if depth == 0:
        return
    shown[node] = math.inf if depth is None else depth
    deeper = None if depth is None else depth - 1
    edges = graph.onward(node, towards, first=first)
    others = list(dict.fromkeys(edge.upstream if towards == "upstream" else edge.downstream for edge in edges))
    for position, other in enumerate(others):
        last = position == len(others) - 1
        between = [edge for edge in edges if other in (edge.upstream, edge.downstream)]
        ends = towards == "upstream" and all(map(graph.names, between))
        behind = () if ends or deeper == 0 else graph.onward(other, towards, first=False)
        again = bool(behind and shown.get(other, -1) >= (deeper or math.inf))
        mark = " (above)" if again else ""
        yield f"{indent}{'└─' if last else '├─'} {_label(graph.known(other), node)}{_why(between, other)}{mark}"
        if behind and not again:
            yield from _branches(graph, other, towards, deeper, indent + ("   " if last else "│  "), shown)


def _title(node: Node) -> str:
    about = node.about
    latest = f" ({about['latest']}, {about['materialized_at']})" if "latest" in about else ""
    return f"{node}{_path(node)}{latest}"


def _label(node: Node, beside: Node) -> str:
    if node.column:
        return _column(node, beside)
    latest = node.about.get("latest")
    return f"{node}{_path(node)}" + (f" ({latest})" if latest else "")


def _path(node: Node) -> str:
    """The path of a source that goes by another name."""
    return f" ({node.name})" if not node.column and node.kind == "source" and "name" in node.about else ""


def _column(node: Node, beside: Node) -> str:
    """A column; within the same thing it goes without the thing's name."""
    name = node.column if node.owner == beside.owner else node.reference
    return f"{name}{node.place}"


def _why(edges: Sequence[Edge], other: Node) -> str:
    """Why two nodes are neighbours, in a few words."""
    words = dict.fromkeys(word for edge in edges for word in _words_of(edge, other))
    return f" · {', '.join(words)}" if words else ""


def _words_of(edge: Edge, other: Node) -> Iterator[str]:
    if edge.how is None:
        yield edge.via or _WORDS[edge.why]
        return
    if edge.certainty == "opaque" and other.column != ANY and edge.downstream.column == ANY:
        return  # a column of a source, among all of them
    direct = edge.how in ("transformation", "aggregation")
    what = "label" if edge.why == "label" else edge.via if direct and edge.via else _HOW.get(edge.how, edge.how)
    match edge.certainty:
        case "certain":
            yield what
        case "maybe":
            yield f"{what} (maybe: by its name)"
        case "opaque":
            yield f"{edge.via}, opaque: any column may matter".removeprefix(", ")


def _printable(text: str) -> str:
    """Text without characters that would move or hide what follows."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _cut(line: str, width: int | None) -> str:
    limit = None if width is None else max(width, _LEAST)
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"
