"""Plain data as the values that the verbs return: the inverses of their `to_dict`.

Fields that are not known here are left alone: a newer server may say more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from grange.definitions.catalog import Catalog
from grange.definitions.diff import DefinitionChange
from grange.definitions.serialize import (
    entity_from_data,
    group_from_data,
    transformation_from_data,
    view_from_data,
)
from grange.definitions.versioning import Change, VersionForecast
from grange.errors import CorruptStoreError
from grange.lineage import Impact, Lineage
from grange.lineage.graph import KINDS, Edge, Graph, Node, NodeKind
from grange.lineage.openlineage import Names
from grange.ports.datasets import DatasetMeta
from grange.ports.offline import Finding, ManifestEntry, VersionMeta
from grange.ports.registry import Run, UseCount
from grange.quality.leaks import Leak
from grange.types.time import to_utc
from grange.verbs.apply import ApplyPlan
from grange.verbs.diffs import CodeDiff, FieldChange, SchemaDiff, StatisticChange, VersionDiff
from grange.verbs.materialize import Materialized
from grange.verbs.push import Pushed
from grange.verbs.search import Keywords, SearchHit, SearchResults
from grange.verbs.similar import SimilarFeature
from grange.verbs.training.difference import DatasetDifference
from grange.verbs.versions import Rollback

if TYPE_CHECKING:
    from grange.quality.statistics import Comparison
    from grange.verbs.export.records import Export
    from grange.verbs.parity import OnlineParity
    from grange.verbs.statistics import VersionStatistics

Data = Mapping[str, Any]


def catalog(data: Data) -> Catalog:
    """The definitions, without functions and frames: those are where the server is.

    Raises:
        CorruptStoreError: one cannot be read: the server is newer than this client.
    """
    made: dict[str, dict[str, Any]] = {"entity": {}, "feature_group": {}, "feature_view": {}, "transformation": {}}
    readers = {
        "entity": entity_from_data,
        "feature_group": group_from_data,
        "feature_view": view_from_data,
        "transformation": transformation_from_data,
    }
    for item in data["items"]:
        kind, name = item["kind"], item["name"]
        try:
            made[kind][name] = readers[kind](name, item["definition"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptStoreError(
                f"the server's definition of {kind} {name!r} cannot be read here",
                found=f"{type(error).__name__}: {error}",
                try_="use the release of Grange that the server has",
            ) from error
    return Catalog(made["entity"], made["feature_group"], made["feature_view"], made["transformation"])


def apply_plan(data: Data) -> ApplyPlan:
    """Of `plan` and `apply`."""
    return ApplyPlan(
        changes=tuple(
            DefinitionChange(item["action"], item["kind"], item["name"], tuple(item["lines"]))
            for item in data["changes"]
        ),
        revision=data["revision"],
        kept=tuple(data["kept"]),
        leaks=tuple(map(leak, data["leaks"])),
        versions=tuple(map(forecast, data["versions"])),
        impact=impacts(data["impact"]),
    )


def leak(data: Data) -> Leak:
    """One leak; what it means and what to do about it is known by its code."""
    return Leak(
        code=data["code"],
        severity=data["severity"],
        message=data["message"],
        group=data["group"],
        features=tuple(data["features"]),
        label=data["label"],
        view=data["view"],
        rows=data["rows"],
        of=data["of"],
    )


def forecast(data: Data) -> VersionForecast:
    """Of `plan_materialize`, one group's."""
    fields = {**data, "details": tuple(data["details"]), "if_same": tuple(data["if_same"])}
    return VersionForecast(**{name: fields[name] for name in VersionForecast.__dataclass_fields__})


def materialized(data: Data) -> Materialized:
    """Of `materialize`, one group's. Seconds come in thousandths."""
    fields = {**data, "warnings": tuple(data["warnings"])}
    return Materialized(**{name: fields[name] for name in Materialized.__dataclass_fields__})


def pushed(data: Data) -> Pushed:
    """Of `push`."""
    groups = tuple((item["group"], item["rows"], item["online_rows"]) for item in data["groups"])
    return Pushed(groups, data["quarantined"], tuple(data["warnings"]))


def version_meta(data: Data) -> VersionMeta:
    """Of `version`."""
    found: VersionMeta = _readable(VersionMeta.from_dict, data, "a version's metadata")
    return found


def dataset_meta(data: Data) -> DatasetMeta:
    """Of `training_dataset_info`."""
    known = {name: data[name] for name in DatasetMeta.__dataclass_fields__ if name in data}
    found: DatasetMeta = _readable(DatasetMeta.from_dict, known, "a training dataset's metadata")
    return found


def manifest(data: Data) -> dict[str, ManifestEntry]:
    """Of `manifest`."""
    return {name: _readable(ManifestEntry.from_dict, item, "a manifest entry") for name, item in data.items()}


def rollback(data: Data) -> Rollback:
    """Of `plan_rollback` and `rollback`."""
    fields = {**data, "warnings": tuple(data["warnings"])}
    return Rollback(**{name: fields[name] for name in Rollback.__dataclass_fields__})


def version_diff(data: Data) -> VersionDiff:
    """Of `diff`. Times among the values are ISO 8601 text."""
    change, kept = data["change"], data["statistics"]
    return VersionDiff(
        group=data["group"],
        before=data["before"],
        after=data["after"],
        change=None if change is None else Change(change["bump_type"], change["reason"], tuple(change["details"])),
        schema=_schema_diff(data["schema"]),
        events=_schema_diff(data["events"]),
        config=tuple(map(_field_change, data["config"])),
        code=CodeDiff(data["code"]["changed"], data["code"]["diff"]),
        data=tuple(map(_field_change, data["data"])),
        statistics=None
        if kept is None
        else tuple(StatisticChange(c["column"], c["statistic"], c["before"], c["after"]) for c in kept),
    )


def _schema_diff(data: Data) -> SchemaDiff:
    return SchemaDiff(
        added=tuple((item["name"], item["dtype"]) for item in data["added"]),
        removed=tuple((item["name"], item["dtype"]) for item in data["removed"]),
        retyped=tuple((item["name"], item["before"], item["after"]) for item in data["retyped"]),
        reordered=tuple(data["reordered"]),
    )


def _field_change(data: Data) -> FieldChange:
    return FieldChange(data["field"], data["before"], data["after"])


def finding(data: Data) -> Finding:
    """Of `verify`, one."""
    return Finding(data["path"], data["problem"], data["removed"])


def online_parity(data: Data) -> OnlineParity:
    """Of `verify_online`, one group's. Values are as JSON has them."""
    from grange.verbs.parity import Difference, OnlineParity

    names = OnlineParity.__dataclass_fields__
    examples = tuple(
        Difference(item["key"], item["feature"], item["online"], item["history"]) for item in data["examples"]
    )
    return OnlineParity(**{**{name: data[name] for name in names}, "examples": examples})


def search_results(data: Data) -> SearchResults:
    """Of `search`."""
    names = SearchHit.__dataclass_fields__
    return SearchResults(data["query"], tuple(SearchHit(**{name: hit[name] for name in names}) for hit in data["hits"]))


def keywords(data: Data) -> Keywords:
    """Of `keywords`."""
    return Keywords(
        tuple((item["tag"], item["value"], item["definitions"]) for item in data["tags"]),
        tuple((item["owner"], item["definitions"]) for item in data["owners"]),
    )


def similar(data: Data) -> SimilarFeature:
    """Of `similar`, one."""
    return SimilarFeature(**{name: data[name] for name in SimilarFeature.__dataclass_fields__})


def use_count(data: Data) -> UseCount:
    """Of `usage`, one."""
    fields = {**data, "day": dt.date.fromisoformat(data["day"])}
    return UseCount(**{name: fields[name] for name in UseCount.__dataclass_fields__})


def export(data: Data) -> Export:
    """Of `export` and `exports`."""
    from grange.verbs.export.records import Export

    found: Export = _readable(Export.from_dict, data, "what is known of an export")
    return found


def dataset_difference(data: Data) -> DatasetDifference:
    """Of `diff_training_datasets`."""
    sections = tuple((name, tuple(lines)) for name, lines in data.items() if isinstance(lines, list))
    return DatasetDifference(data["before"], data["after"], sections)


def comparison(data: Data) -> Comparison:
    """Of `compare_statistics`. Statistics of times are ISO 8601 text, NaN and infinities text."""
    from grange.quality.statistics.comparing import Change as StatisticChanged
    from grange.quality.statistics.comparing import ColumnChange, Comparison

    return Comparison(
        data["rows"]["before"],
        data["rows"]["after"],
        tuple(
            ColumnChange(
                column["name"],
                column["status"],
                tuple(
                    StatisticChanged(c["statistic"], c["before"], c["after"], c["difference"])
                    for c in column["changes"]
                ),
                column["psi"],
                column["ks"],
                column["shift"],
            )
            for column in data["columns"]
        ),
    )


def statistics(data: Data) -> VersionStatistics:
    """Of `statistics`, with everything that its profile holds."""
    from grange.quality.statistics import Profile
    from grange.verbs.statistics import VersionStatistics

    when = data["computed_at"]
    return VersionStatistics(
        data["group"],
        data["version"],
        Profile.from_data(data["profile"]),
        data["pending"],
        None if when is None else to_utc(when),
        data.get("kept", False),
    )


# lineage


def node(id: str, about: Data | None = None) -> Node:
    """A node by its id, which says everything that it is equal by.

    Args:
        id: as `Node.id` has it.
        about: what else is known of it: its `dtype` and `details`.
    """
    thing, _, column = id.partition("/")
    kind, *middle, last = thing.split(":")
    name, _, version = last.partition("@")
    if kind not in KINDS:
        raise CorruptStoreError(f"{id!r} is no node of a lineage", found=f"kind {kind!r}")
    known_kind = cast("NodeKind", kind)
    known = about or {}
    return Node(
        known_kind,
        unquote(name, errors="surrogatepass"),
        middle[0] if middle else "",
        unquote(version),
        unquote(column, errors="surrogatepass"),
        known.get("dtype", ""),
        tuple((known.get("details") or {}).items()),
    )


def impacts(items: Iterable[Data]) -> tuple[Impact, ...]:
    """Of `impact`, and of a plan."""
    return tuple(
        Impact(item["severity"], _named(item["what"]), item["why"], tuple(node(id) for id in item["path"]))
        for item in items
    )


def _named(what: Data) -> Node:
    """A thing with the name that people have for it, where that is not its own: of a file, its source's."""
    found = node(what["id"])
    if found.kind != "source" or found.column:
        return found
    return found.with_details(name=what["name"])


@dataclass(frozen=True)
class RemoteLineage(Lineage):
    """As `Lineage`. What OpenLineage calls things, and where files are, the server knows."""

    events: Callable[[], list[dict[str, Any]]] = field(default=list, repr=False, compare=False)
    """Fetches the OpenLineage events."""

    def to_openlineage(self) -> list[dict[str, Any]]:
        """As OpenLineage events. See `Lineage.to_openlineage`."""
        return self.events()


def lineage(data: Data, events: Callable[[], list[dict[str, Any]]]) -> RemoteLineage:
    """Of `lineage`.

    Args:
        data: the answer.
        events: has the OpenLineage events.
    """
    nodes = {item["id"]: node(item["id"], item) for item in data["nodes"]}
    edges = [
        Edge(
            nodes[item["upstream"]],
            nodes[item["downstream"]],
            item["why"],
            item.get("how"),
            item.get("certainty", "certain"),
            item.get("via", ""),
        )
        for item in data["edges"]
    ]
    return RemoteLineage(
        start=nodes.get(data["start"]) or node(data["start"]),
        graph=Graph(tuple(nodes.values()), tuple(edges), tuple(map(run, data["runs"]))),
        direction=data["direction"],
        columns=data["columns"],
        depth=data["depth"],
        starts=tuple(nodes.get(id) or node(id) for id in data["starts"]),
        names=_NO_NAMES,
        events=events,
    )


_NO_NAMES: Final = Names("", Path(), dt.datetime.min.replace(tzinfo=dt.UTC))
"""The server has them."""


def run(data: Data) -> Run:
    """One recorded run."""
    return Run(
        data["group"],
        data["version"],
        data["verb"],
        to_utc(data["started_at"]),
        to_utc(data["ended_at"]),
        data["rows"],
        dict(data["details"]),
    )


def _readable(read: Any, data: Any, what: str) -> Any:
    """What a reader makes of data.

    Raises:
        CorruptStoreError: it does not understand it.
    """
    try:
        return read(data)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(
            f"{what} cannot be read here",
            found=f"{type(error).__name__}: {error}",
            try_="use the release of Grange that the server has",
        ) from error
