"""Lineage as OpenLineage events (specification 2-0-2): what catalogues such as Marquez and DataHub take.

Everything of this project has the namespace `grange://<project>`; files have that of their file system, so that they
are the same datasets that others report. Run ids are derived from the runs, so sending events twice adds nothing.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from grange.lineage.dependence import DIRECT, Certainty, How, chained, least_certain
from grange.lineage.graph import ANY, Graph, Node
from grange.ports.registry import Run
from grange.types.time import isoformat

_SPEC: Final = "https://openlineage.io/spec"
_EVENT: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/"
_FACETS: Final = {
    "schema": "1-1-1/SchemaDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "documentation": "1-0-1/DocumentationJobFacet",
    "sql": "1-0-1/SQLJobFacet",
    "jobType": "2-0-3/JobTypeJobFacet",
}
_RUNS: Final = uuid.UUID("5a3c3c0e-6a1c-5d0c-9f0e-6c1f3b8f7d52")
"""The name space of run ids."""
_DATA: Final = ("source", "feature_group", "feature_view", "training_dataset", "export")
"""Kinds of things that are datasets."""
_WRITES: Final = ("materialize", "push")
"""Verbs of runs that make rows of a group."""
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """What OpenLineage calls things of a project."""

    project: str
    root: Path
    """What relative paths of files are relative to."""
    now: dt.datetime
    """The time of events that are of no run."""

    @property
    def namespace(self) -> str:
        """Of jobs, and of datasets that are no files."""
        return f"grange://{self.project}"

    def dataset(self, node: Node) -> Data:
        """Namespace and name of a dataset. All versions of a group are one dataset."""
        if (node.kind == "source" and node.type == "file") or node.kind == "export":
            return self._file(node.name)
        number = f"/{node.version}" if node.kind == "training_dataset" else ""
        kind = f"{node.kind}/{node.type}" if node.kind == "source" else node.kind
        return {"namespace": self.namespace, "name": f"{kind}/{node.name}{number}"}

    def _file(self, path: str) -> Data:
        url = urlsplit(path)
        if url.scheme and url.netloc:
            return {"namespace": f"{url.scheme}://{url.netloc}", "name": url.path.lstrip("/")}
        return {"namespace": "file", "name": (self.root / path).as_posix()}


def to_openlineage(graph: Graph, names: Names) -> list[Data]:
    """A job event for each thing that is made of others, then START and COMPLETE events for each recorded run.

    Args:
        graph: things, maybe with columns; with these, outputs have the facet `columnLineage`.
        names: what things are called.
    """
    writer = _Writer(graph, names)
    made = [node for node in graph.nodes if not node.column and node.kind in _DATA and node.kind != "source"]
    events = [writer.job_event(node) for node in made if not (node.kind == "feature_group" and node.version)]
    groups = {node.name: node for node in made if node.kind == "feature_group" and not node.version}
    events += (
        event for run in graph.runs if run.group in groups for event in writer.run_events(run, groups[run.group])
    )
    return events


class _Writer:
    """Events of one graph."""

    def __init__(self, graph: Graph, names: Names) -> None:
        self._graph = graph
        self._names = names
        self._producer = f"urn:grange:{version('grange')}"

    def job_event(self, node: Node) -> Data:
        """What a thing is made of, without any run."""
        outputs = [self._dataset(node, columns=True)]
        return self._event("JobEvent", self._names.now) | {
            "job": self._job(node, node.kind),
            "inputs": self._inputs(node),
            "outputs": outputs,
        }

    def run_events(self, run: Run, group: Node) -> Iterator[Data]:
        """The beginning and the end of a run."""
        identity = "|".join(
            [
                self._names.namespace,
                run.group,
                run.version,
                run.verb,
                isoformat(run.started_at),
                isoformat(run.ended_at),
            ]
        )
        common = {
            "run": {"runId": str(uuid.uuid5(_RUNS, identity)), "facets": {}},
            "job": self._job(group, run.verb),
        }
        writes = run.verb in _WRITES
        inputs = self._inputs(group) if writes else [self._dataset(group)]
        yield self._event("RunEvent", run.started_at) | {
            "eventType": "START",
            **common,
            "inputs": inputs,
            "outputs": [],
        }
        outputs = [self._written(group, run)] if writes else []
        yield self._event("RunEvent", run.ended_at) | {
            "eventType": "COMPLETE",
            **common,
            "inputs": inputs,
            "outputs": outputs,
        }

    def _written(self, group: Node, run: Run) -> Data:
        data = self._dataset(group, columns=True)
        if run.version:
            data["facets"]["version"] = self._facet("version", datasetVersion=run.version)
        statistics = self._facet("outputStatistics", rowCount=run.rows)
        return data | {"outputFacets": {"outputStatistics": statistics}}

    def _event(self, kind: str, when: dt.datetime) -> Data:
        return {"eventTime": isoformat(when), "producer": self._producer, "schemaURL": f"{_EVENT}{kind}"}

    def _facet(self, name: str, **content: Any) -> Data:
        path = _FACETS[name]
        definition = path.rpartition("/")[2]
        url = f"{_SPEC}/facets/{path}.json#/$defs/{definition}"
        return {"_producer": self._producer, "_schemaURL": url, **content}

    def _job(self, node: Node, verb: str) -> Data:
        known = self._graph.known(node)
        about = known.about
        number = f".{node.version}" if node.kind == "training_dataset" else ""
        facets = {
            "jobType": self._facet("jobType", processingType="BATCH", integration="GRANGE", jobType=node.kind.upper())
        }
        if about.get("description"):
            facets["documentation"] = self._facet("documentation", description=about["description"])
        if about.get("sql"):
            facets["sql"] = self._facet("sql", query=about["sql"])
        return {"namespace": self._names.namespace, "name": f"{verb}.{node.name}{number}", "facets": facets}

    def _inputs(self, node: Node) -> list[Data]:
        above = dict.fromkeys(edge.upstream for edge in self._graph.into(node) if edge.upstream.kind in _DATA)
        return [self._dataset(each) for each in above]

    def _dataset(self, node: Node, *, columns: bool = False) -> Data:
        """A dataset with what is known of its columns.

        Args:
            node: the thing.
            columns: whether what its columns are made of is said, too.
        """
        known = self._graph.known(node)
        facets: Data = {}
        fields = [_field(column) for column in known.about.get("schema", ())]
        if fields:
            facets["schema"] = self._facet("schema", fields=fields)
        if node.kind == "feature_group" and node.version:
            facets["version"] = self._facet("version", datasetVersion=node.version)
        if columns:
            facets |= self._column_lineage(node)
        return self._names.dataset(node) | {"facets": facets}

    def _column_lineage(self, node: Node) -> Data:
        """The facet of a thing's columns. What has a say in all of them alike is said once, of the whole dataset."""
        uses = {column.column: list(dict.fromkeys(_uses(self._graph, column))) for column in self._graph.columns(node)
                if not column.type}  # fmt: skip
        if not any(uses.values()):
            return {}
        shared = [use for use in next(iter(uses.values())) if use.how not in DIRECT]
        shared = [use for use in shared if all(use in each for each in uses.values())]
        fields = {
            name: {"inputFields": self._fields(use for use in each if use not in shared)} for name, each in uses.items()
        }
        return {"columnLineage": self._facet("columnLineage", fields=fields, dataset=self._fields(shared))}

    def _fields(self, uses: Iterable[_Use]) -> list[Data]:
        found: dict[Node, list[Data]] = {}
        for use in uses:
            found.setdefault(use.column, []).append(_transformation(use))
        return [
            self._names.dataset(column.owner) | {"field": column.column, "transformations": transformations}
            for column, transformations in found.items()
        ]


@dataclass(frozen=True, slots=True)
class _Use:
    """A column of another thing that a column is made of, and how."""

    column: Node
    how: How
    certainty: Certainty


def _uses(graph: Graph, column: Node) -> Iterator[_Use]:
    """The columns of other things that a column is made of; what lies between, inside its own thing, is left out."""
    pending = [_Use(column, "identity", "certain")]
    seen = set(pending)
    while pending:
        use = pending.pop()
        for edge in graph.into(use.column):
            assert edge.how is not None, "an edge between columns says how"
            certainty = least_certain(use.certainty, edge.certainty)
            found = _Use(edge.upstream, chained(use.how, edge.how), certainty)
            inside = edge.upstream.owner == column.owner or edge.upstream.column == ANY
            if inside and found not in seen:
                pending.append(found)
            elif not inside and edge.upstream.kind in _DATA:
                yield found
            seen.add(found)


def _transformation(use: _Use) -> Data:
    description = {
        "certain": "",
        "maybe": "as far as names tell",
        "opaque": "by code that is not looked into: may matter",
    }
    return {
        "type": "DIRECT" if use.how in DIRECT else "INDIRECT",
        "subtype": use.how.upper(),
        "description": description[use.certainty],
        "masking": False,
    }


def _field(column: Mapping[str, str]) -> Data:
    described = {"description": column["description"]} if column.get("description") else {}
    return {"name": column["name"], "type": column["dtype"], **described}
