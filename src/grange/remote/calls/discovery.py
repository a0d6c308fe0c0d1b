"""Discovery: search, likeness, usage, statistics, lineage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.serialize import Definition
from grange.remote import answers, bodies
from grange.remote.calls.session import Session, every, fetched
from grange.remote.messages import LONG, Call
from grange.verbs.names import name_of, pinned, pinned_pair

if TYPE_CHECKING:
    from grange.lineage import Impact, Lineage
    from grange.lineage.graph import Direction
    from grange.ports.registry import UseCount
    from grange.quality.statistics import Comparison
    from grange.verbs.search import Keywords, SearchResults
    from grange.verbs.similar import SimilarFeature
    from grange.verbs.statistics import VersionStatistics


def search(
    session: Session,
    query: str,
    *,
    kinds: Iterable[str] | str = (),
    tags: Mapping[str, str] | None = None,
    owner: str = "",
    limit: int = 20,
) -> Call[SearchResults]:
    """What is applied and has all words of a query, best first."""
    data = yield from fetched(
        "/search",
        query=query,
        kinds=[kinds] if isinstance(kinds, str) else list(kinds),
        tag=[f"{name}={value}" for name, value in (tags or {}).items()],
        owner=owner or None,
        limit=limit,
    )
    return answers.search_results(data)


def keywords(session: Session) -> Call[Keywords]:
    """The tags and owners of what is applied, each with how many definitions have it."""
    return answers.keywords((yield from fetched("/keywords")))


def similar(
    session: Session, feature: str, *, limit: int = 10, compute: bool = False
) -> Call[tuple[SimilarFeature, ...]]:
    """The features that are most like one."""
    data = yield from fetched("/similar", LONG, feature=feature, limit=limit, compute=compute)
    return tuple(map(answers.similar, data["items"]))


def usage(session: Session, name: str | None = None, since: dt.date | None = None) -> Call[tuple[UseCount, ...]]:
    """How often groups, features and views were read, by day (UTC), thing and verb."""
    items = yield from every("/usage", name=name, since=None if since is None else since.isoformat())
    return tuple(map(answers.use_count, items))


def statistics(
    session: Session,
    group: str | FeatureGroup,
    *,
    version: str | None = None,
    columns: Sequence[str] | None = None,
    compute: bool = False,
    correlations: bool = False,
) -> Call[VersionStatistics]:
    """Statistics of a group's stored columns."""
    group, version = pinned(group, version)
    data = yield from fetched(
        f"/feature-groups/{bodies.quoted(group)}/statistics",
        LONG,
        version=version,
        columns=None if columns is None else list(columns),
        compute=compute,
        correlations=correlations,
        form="exact",
    )
    return answers.statistics(data)


def compare_statistics(
    session: Session, group: str | FeatureGroup, before: str | None = None, after: str | None = None
) -> Call[Comparison]:
    """What changed between the values of two versions, by column."""
    group, before, after = pinned_pair(group, before, after)
    data = yield from fetched(
        f"/feature-groups/{bodies.quoted(group)}/statistics:compare", LONG, before=before, after=after
    )
    return answers.comparison(data)


def lineage(
    session: Session,
    name: str | Definition,
    *,
    direction: Direction = "both",
    columns: bool = False,
    depth: int | None = None,
    kind: str | None = None,
) -> Call[Lineage]:
    """What something is made of, and what is made of it."""
    asked: dict[str, Any] = {
        "name": name_of(name),
        "direction": direction,
        "columns": columns,
        "depth": depth,
        "kind": kind,
    }
    data = yield from fetched("/lineage", **asked)
    if session.run is not None:
        return answers.lineage(data, partial(_events, session.run, asked))
    events = (yield from fetched("/lineage", **asked, form="openlineage"))["items"]
    return answers.lineage(data, lambda: list(events))


def _events(run: Callable[[Call[Any]], Any], asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run(fetched("/lineage", **asked, form="openlineage"))["items"]
    return found


def impact(session: Session, name: str | Definition, *, kind: str | None = None) -> Call[tuple[Impact, ...]]:
    """What deleting something would break, the worst first."""
    data = yield from fetched("/impact", name=name_of(name), kind=kind)
    return answers.impacts(data["items"])
