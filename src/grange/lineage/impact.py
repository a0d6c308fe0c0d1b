"""What breaks: what a change of definitions, or a deletion, means for everything that is made of what changes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from grange.definitions.catalog import Catalog
from grange.definitions.expectations import Expectation
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import made_on_demand, offered
from grange.definitions.serialize import to_data
from grange.lineage.building import Facts
from grange.lineage.columns import column_graph
from grange.lineage.graph import Graph, Node, NodeKind, is_recorded, node_order
from grange.lineage.group_columns import group_features
from grange.lineage.things import entity_node, group_node, view_node
from grange.lineage.view_columns import Views
from grange.types import format_duration

Severity = Literal["breaks", "changes", "notice"]
"""`breaks`: it cannot be computed or used as before. `changes`: it works and has other values. `notice`: it stays as it
is, and somebody should know."""
Kind = Literal["removed", "unreadable", "lost", "retyped", "rekeyed", "unserved", "other", "added"]
_SEVERITIES: Final[tuple[Severity, ...]] = ("breaks", "changes", "notice")
_FIXED: Final[tuple[NodeKind, ...]] = ("training_dataset", "export", "model")
"""Kinds of things that were made once and stay as they are."""
_SHOWN: Final = 5
"""How many training datasets of a view a line names."""
_MEANING: Final[Mapping[Kind, Mapping[NodeKind, Severity]]] = {
    "removed": {"feature_view": "breaks", "feature_group": "breaks", "training_dataset": "breaks", "model": "breaks",
                "export": "notice"},
    "unreadable": {"feature_group": "breaks", "feature_view": "changes", "training_dataset": "breaks"},
    "lost": {"feature_view": "breaks", "feature_group": "breaks", "training_dataset": "changes", "model": "breaks",
             "export": "notice"},
    "unserved": {"feature_view": "breaks", "model": "breaks"},
    "other": {"feature_view": "changes", "feature_group": "changes", "training_dataset": "changes", "model": "changes",
              "export": "changes"},
    "added": {"feature_view": "notice"},
}  # fmt: skip
"""By what happens upstream, what it means for a kind of thing. Others are not affected."""


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change means for one thing."""

    severity: Severity
    what: Node
    why: str
    """One line: what happens upstream."""
    path: tuple[Node, ...]
    """From what changes to the thing, both included."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.what}: {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "severity": self.severity,
            "what": {"kind": self.what.kind, "name": self.what.reference, "id": self.what.id},
            "why": self.why,
            "path": [node.id for node in self.path],
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that changes."""

    node: Node
    kind: Kind
    text: str
    """In words; `{features}` stands for those of its features that matter to whoever is told."""
    features: tuple[str, ...] | None = None
    """Only these of its features; None is all of them."""
    code_hash: str | None = None
    """Of changed code, what it was: what was made of yet other code was out of date before."""
    implied: bool = False
    """Whether who is told of something weightier about the same thing knows as much: that code that makes other columns
    changed."""


@dataclass(frozen=True, slots=True)
class Touch:
    """How a cause reaches a thing."""

    sure: bool = True
    """False where code that cannot be looked into, or a name alone, says so."""
    features: tuple[str, ...] = ()
    """The features by which it does, where it is about features."""


def impact(before: Catalog, after: Catalog, graph: Graph) -> tuple[Impact, ...]:
    """What a change of definitions means for what is made of them; the worst first.

    What pins a version is not affected by what comes after it, and nothing is said of it.

    Args:
        before: the applied definitions.
        after: what they are to be.
        graph: the lineage before, with training datasets and exports.
    """
    causes = [cause for name in before.groups for cause in _group_causes(before, after, name)]
    causes += [cause for name in before.views for cause in _view_causes(before, after, name)]
    causes += [
        Cause(entity_node(name), "removed", f"entity {name} is removed")
        for name in before.entities
        if name not in after.entities
    ]
    left = Facts(after).graph()
    found: list[tuple[Cause, Impact]] = []
    for cause in causes:
        still = frozenset(left.downstream(cause.node))
        touched = {
            node: touch
            for node, touch in _affected(before, graph, cause).items()
            if node.kind in _FIXED or (_is_left(node, after) and node in still)
            if not _is_known(before, after, cause, node)
        }
        found += ((cause, item) for item in _impacts(graph, cause, touched))
    return _in_order(_not_implied(found))


def deletion_impact(catalog: Catalog, graph: Graph, node: Node) -> tuple[Impact, ...]:
    """What removing a thing, a version of it, or one of its columns would mean; the worst first.

    Args:
        catalog: the definitions.
        graph: their lineage, with entities.
        node: what would be removed. Of a source, its rows.
    """
    owner = graph.known(node.owner)
    if node.column:
        cause = Cause(owner, "lost", "{features} removed", (node.column,))
        touched = _reached_by_columns(catalog, _live(graph), cause, {node.column: node})
    elif node.kind == "source":
        cause = Cause(owner, "unreadable", f"{owner} is not there any more")
        touched = _all(_live(graph).downstream(owner))
    else:
        cause = Cause(owner, "removed", f"{owner} is removed")
        touched = _all((_live(graph) if node.kind == "transformation" else graph).downstream(owner))
    return _in_order(_impacts(graph, cause, touched))


def impact_lines(impacts: Iterable[Impact]) -> list[str]:
    """Impacts as lines of text: the training datasets of one view in one line."""
    lines = []
    for (severity, why, view, _), items in groupby(impacts, key=_line):
        nodes = [item.what for item in items]
        if view and len(nodes) > 1:
            names = [node.reference for node in nodes[:_SHOWN]]
            more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
            lines.append(f"{severity}: training datasets {', '.join(names)}{more}: {why}")
        else:
            lines += [f"{severity}: {node}: {why}" for node in nodes]
    return lines


def _line(item: Impact) -> tuple[str, str, str, Node | None]:
    view = item.what.name if item.what.kind == "training_dataset" else ""
    return item.severity, item.why, view, None if view else item.what


def _not_implied(found: Sequence[tuple[Cause, Impact]]) -> Iterator[Impact]:
    """Impacts without those that say less than another of the same cause about the same thing."""
    told = {
        (cause.node, item.what)
        for cause, item in found
        if cause.kind in ("lost", "retyped", "rekeyed") and item.severity != "notice"
    }
    for cause, item in found:
        if not (cause.implied and (cause.node, item.what) in told):
            yield item


# what changes


def _group_causes(before: Catalog, after: Catalog, name: str) -> Iterator[Cause]:
    node = group_node(name)
    if name not in after.groups:
        yield Cause(node, "removed", f"feature group {name} is removed")
        return
    old, new = before.groups[name], after.groups[name]
    if old == new and repr(old.defaults) == repr(new.defaults):  # 1 and True are equal, and two defaults
        return
    if old.join_keys != new.join_keys or _key_types(old) != _key_types(new):
        yield Cause(node, "rekeyed", f"the entity key of {name} is {_keys(new)}, was {_keys(old)}")
    yield from _feature_causes(node, old, new)
    if old.online and not new.online:
        yield Cause(node, "unserved", f"{name} is not served online any more")
    yield from _value_causes(node, old, new)


def _feature_causes(node: Node, old: FeatureGroup, new: FeatureGroup) -> Iterator[Cause]:
    """Features that are gone, of another type, or new."""
    then, now = offered(old), offered(new)
    lost = [column.name for column in then if column.name not in now]
    if lost:
        yield Cause(node, "lost", "{features} removed", tuple(lost))
    for column in then:
        dtype = now.get(column.name)
        if dtype not in (None, column.dtype):
            text = f"{node.reference}:{column.name} is {dtype}, was {column.dtype}"
            yield Cause(node, "retyped", text, (column.name,))
    new_ones = [column.name for column in now if column.name not in then]
    if new_ones:
        yield Cause(node, "added", "{features} new, and taken with the whole group", tuple(new_ones))


def _value_causes(node: Node, old: FeatureGroup, new: FeatureGroup) -> Iterator[Cause]:
    """What gives features of the same names and types other values."""
    name = node.name
    codes = [None if group.transform is None else group.transform.code_hash for group in (old, new)]
    if codes[0] != codes[1]:
        yield Cause(node, "other", f"the code of {name} changed", code_hash=codes[0], implied=True)
    if _source_data(old) != _source_data(new):
        yield Cause(node, "other", f"the source of {name} changed")
    if _dropping(old) != _dropping(new):
        yield Cause(node, "other", f"the expectations of {name} leave out other rows")
    if old.ttl != new.ttl:
        lengths = ["none" if group.ttl is None else format_duration(group.ttl) for group in (new, old)]
        yield Cause(node, "other", f"the ttl of {name} is {lengths[0]}, was {lengths[1]}")
    for what, then, now in (
        ("windows", _windows(old), _windows(new)),
        ("on-demand code", _on_demand(old), _on_demand(new)),
        ("defaults", dict(old.defaults), dict(new.defaults)),
    ):
        both = then.keys() | now.keys() if what == "defaults" else then.keys() & now.keys()
        names = sorted(key for key in both if repr(then.get(key)) != repr(now.get(key)))
        if names:
            yield Cause(node, "other", f"{{features}} given other {what}", tuple(names))


def _view_causes(before: Catalog, after: Catalog, name: str) -> Iterator[Cause]:
    """What a view's own change means for what takes from it."""
    node = view_node(name)
    if name not in after.views:
        yield Cause(node, "removed", f"feature view {name} is removed")
        return
    old, new = before.views[name], after.views[name]
    if _meaning(old) == _meaning(new):
        return
    then, now = (_view_columns(catalog, view) for catalog, view in ((before, old), (after, new)))
    lost = [column for column in then if column not in now]
    if lost:
        yield Cause(node, "lost", "{features} no longer given", tuple(lost))
    else:
        yield Cause(node, "other", f"feature view {name} changed")


def _view_columns(catalog: Catalog, view: FeatureView) -> tuple[str, ...]:
    return Views(catalog, lambda group, _: group_features(group)).columns(view)


def _meaning(view: FeatureView) -> dict[str, Any]:
    """What decides a view's rows and columns."""
    told = ("description", "owner", "tags", "on_error", "exact", "training_helpers", "inference_helpers")
    return {key: value for key, value in to_data(view).items() if key not in told}


def _source_data(group: FeatureGroup) -> dict[str, Any]:
    """What decides which rows a source has."""
    data: dict[str, Any] = to_data(group)["source"]
    return {key: value for key, value in data.items() if key not in ("name", "schema")}


def _dropping(group: FeatureGroup) -> set[tuple[str, Expectation]]:
    """The expectations that leave out the rows that fail them, each with its column."""
    return {(column, check) for column, checks in group.expectations for check in checks if check.policy == "drop"}


def _windows(group: FeatureGroup) -> dict[str, Any]:
    """By windowed feature, what it is, whatever its types."""
    types = ("dtype", "input", "by_input")
    return {
        item.name: {key: value for key, value in item.to_data().items() if key not in types}
        for item in group.aggregates()
    }


def _on_demand(group: FeatureGroup) -> dict[str, Any]:
    """By on-demand feature, what it is made by."""
    steps = made_on_demand(group)
    return {
        name: (step.inputs, None if step.transformation is None else step.transformation.code_hash)
        for name, step in steps.items()
    }


def _key_types(group: FeatureGroup) -> list[str]:
    return [str(group.schema.get(key) or "") for key in group.join_keys]


def _keys(group: FeatureGroup) -> str:
    pairs = zip(group.join_keys, _key_types(group), strict=True)
    return ", ".join(f"{key} {dtype}".rstrip() for key, dtype in pairs)


def _listed(node: Node, names: Collection[str]) -> str:
    """Features with their verb: `spend:net, spend:fee are`."""
    shown = ", ".join(f"{node.reference}:{name}" for name in list(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


# what it means


def _affected(before: Catalog, graph: Graph, cause: Cause) -> Mapping[Node, Touch]:
    """The things that a cause reaches, nearest first."""
    if cause.kind == "removed":
        return _all(graph.downstream(cause.node))
    if cause.kind == "unserved":
        taken = graph.where(lambda edge: edge.why in ("reads", "publishes", "pins"))
        return _all(node for node in taken.downstream(cause.node) if node.kind in ("feature_view", "model"))
    if cause.features is None:
        return _all(_live(graph).downstream(cause.node))
    if cause.kind == "added":
        return dict.fromkeys(_whole_takers(before, cause.node.name), Touch(features=cause.features))
    return _reached_by_columns(before, _live(graph), cause, {name: cause.node.at(name) for name in cause.features})


def _all(nodes: Iterable[Node]) -> Mapping[Node, Touch]:
    return dict.fromkeys(nodes, Touch())


def _live(graph: Graph) -> Graph:
    """The graph as far as changes go: a version that was published stays what it is, for whoever pins it."""
    return graph.where(lambda edge: edge.why not in ("publishes", "pins"))


def _reached_by_columns(
    catalog: Catalog, live: Graph, cause: Cause, starts: Mapping[str, Node]
) -> Mapping[Node, Touch]:
    """The things that have a column made of some columns, and what was made of these things once.

    Args:
        catalog: the definitions.
        live: their lineage, as far as changes go.
        cause: whose columns they are.
        starts: the columns by name.
    """
    near = [cause.node, *(node for node in live.downstream(cause.node) if node.kind not in _FIXED)]
    columns = _live(column_graph(Facts(catalog), live, near))
    certain = columns.where(lambda edge: edge.certainty == "certain")
    found: dict[Node, Touch] = {}
    for name, start in starts.items():
        surely = {node.owner for node in certain.reached([start], "downstream")}
        owners = dict.fromkeys(node.owner for node in columns.reached([start], "downstream"))
        for owner in (cause.node, *owners):
            before = found.get(owner, Touch(sure=False))
            sure = owner in surely or owner == cause.node
            found[owner] = Touch(before.sure or sure, tuple(dict.fromkeys((*before.features, name))))
    for node in live.downstream(cause.node):
        made_of = [found[edge.upstream] for edge in live.into(node) if edge.upstream in found]
        if node.kind in _FIXED and made_of:
            names = dict.fromkeys(name for touch in made_of for name in touch.features)
            found[node] = Touch(any(touch.sure for touch in made_of), tuple(names))
    found.pop(cause.node)
    return found


def _whole_takers(catalog: Catalog, group: str) -> Iterator[Node]:
    """The views that take a group whole, and so get what is new in it."""
    for view in catalog.views.values():
        for item in catalog.taken_by(view):
            selection = item.selection
            if selection.source == group and not selection.features and selection.version is None:
                yield view_node(view.name)
                break


def _is_left(node: Node, after: Catalog) -> bool:
    """Whether a thing is there afterwards; what was made once is."""
    if node.kind == "feature_group":
        return node.name in after.groups
    return node.kind != "feature_view" or node.name in after.views


def _is_known(before: Catalog, after: Catalog, cause: Cause, node: Node) -> bool:
    """Whether whoever changes this knows of it: a view that itself drops the feature that is dropped."""
    if node.kind != "feature_view" or cause.kind not in ("lost", "added"):
        return False
    return _meaning(before.views[node.name]) != _meaning(after.views[node.name])


def _impacts(graph: Graph, cause: Cause, touched: Mapping[Node, Touch]) -> Iterator[Impact]:
    """What a cause means for the things that it reaches. A version is told of with its group."""
    near = graph.where(lambda edge: not is_recorded(edge)) if cause.kind == "removed" else _live(graph)
    nearer = near.ways(cause.node)
    ways = {**graph.ways(cause.node), **nearer}
    for node, touch in touched.items():
        known, path = graph.known(node), ways.get(node, ())
        if _is_told_with_its_group(node, cause, touched) or _was_out_of_date(known, cause):
            continue
        text = cause.text.replace("{features}", _listed(cause.node, touch.features))
        if not touch.sure:
            yield Impact("notice", known, f"{text}; whether it matters cannot be told", path)
        elif cause.kind == "removed" and (node not in nearer or not _cannot_be_again(graph, cause, node)):
            yield Impact("notice", known, text + _what_stays(cause, node, path), path)
        else:
            severity = _severity(cause, node, direct=len(path) == 2)
            if severity is not None:
                yield Impact(severity, known, text + _consequence(cause, node, severity), path)


def _is_told_with_its_group(node: Node, cause: Cause, touched: Mapping[Node, Touch]) -> bool:
    """Whether it is a version of a group that is told of. What was made of a version alone is told of by itself."""
    group = group_node(node.name)
    is_version = node.kind == "feature_group" and bool(node.version)
    return is_version and (group in touched or node.name == cause.node.name or cause.kind != "removed")


def _cannot_be_again(graph: Graph, cause: Cause, node: Node) -> bool:
    """Whether something cannot be as it was without what is removed. A training dataset needs the versions that it
    pins, and knows the rest by itself."""
    if node.kind != "training_dataset":
        return True
    return any(edge.why == "pins" and _is_part(edge.upstream, cause.node) for edge in graph.into(node))


def _is_part(node: Node, whole: Node) -> bool:
    """Whether it is a thing, or a version of it."""
    return (node.kind, node.name) == (whole.kind, whole.name) and whole.version in ("", node.version)


def _what_stays(cause: Cause, node: Node, path: Sequence[Node]) -> str:
    """What is left as it is where something is removed."""
    if node.kind == "feature_group":
        return "; it was made of it, and stays"
    between = [each.reference for each in path[1:-1] if each.version and not _is_part(each, cause.node)]
    if between:
        return f"; {between[-1]}, which it takes, was made of it and stays"
    return "; it stays, and grange td reproduce can compute it again"


def _severity(cause: Cause, node: Node, *, direct: bool) -> Severity | None:
    kind: Kind = "lost" if cause.kind in ("retyped", "rekeyed") else cause.kind
    found = _MEANING[kind].get(node.kind)
    if kind == "unreadable" and not direct:
        return None if found is None or node.kind in _FIXED else "changes"
    return found


def _consequence(cause: Cause, node: Node, severity: Severity) -> str:
    """What follows from a cause for a kind of thing, where that is not plain."""
    match cause.kind, node.kind:
        case "removed" | "unreadable", "training_dataset":
            return "; it stays, and cannot be computed again"
        case "removed", "export":
            return "; it stays, and is not renewed"
        case "unreadable", _:
            return "; it cannot be materialized again" if severity == "breaks" else "; it gets no newer values"
        case "other", "feature_group":
            return "; it is stale until it is materialized again"
        case _, "training_dataset" | "export":
            return "; it was made before that"
        case _:
            return ""


def _was_out_of_date(node: Node, cause: Cause) -> bool:
    """Whether a training dataset was made of other code already."""
    hashes = node.about.get("code_hashes") if node.kind == "training_dataset" else None
    if not hashes or cause.code_hash is None:
        return False
    return hashes.get(cause.node.name) not in (None, cause.code_hash)


def _in_order(found: Iterable[Impact]) -> tuple[Impact, ...]:
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda item: (_SEVERITIES.index(item.severity), node_order(item.what), item.why)))
