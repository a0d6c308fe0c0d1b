"""Monitoring, as people ask for it: latencies and hit rates, statistics, freshness, usage.

Each is at `/monitoring/...` and at `/api/v1/monitoring/...`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from grange.errors import CorruptStoreError, ForbiddenError, UnknownVersionError
from grange.http.answers import reply
from grange.http.consumers import KIND, Consumers
from grange.http.dependencies import Asking, Now
from grange.http.places import told
from grange.http.routing import PREFIX, ResourceRoute, needs
from grange.security.principals import Permission
from grange.types import format_duration
from grange.types.time import isoformat

if TYPE_CHECKING:
    from grange.definitions.feature_group import FeatureGroup
    from grange.http.context import Caller
    from grange.http.metrics import Snapshot
    from grange.store import FeatureStore

DAYS: Final = 7
_METRICS = needs(Permission.READ_METRICS)


def metrics(request: Request, asking: Asking) -> Response:
    """How long requests took by route and view, how many of the served values were there, what the cache held.

    p50, p95 and p99 are in milliseconds, since the server started, of all its workers; a view is in it only if it is
    one of the caller's project.
    """
    snapshot: Snapshot = request.app.state.metrics.snapshot()
    views = asking.access.catalog.views
    latencies = [each for each in snapshot.latencies if not each.view or each.view in views]
    return reply(
        {
            "routes": [asdict(each) for each in latencies if not each.view],
            "views": [{**asdict(each), "coverage": snapshot.coverage(each.view)} for each in latencies if each.view],
            "values": {view: found for view, found in snapshot.values.items() if view in views},
            "cache": {
                "hits": snapshot.cache_hits,
                "misses": snapshot.cache_misses,
                "hit_rate": snapshot.cache_hit_rate,
            },
            "in_flight": snapshot.in_flight,
            "refused": snapshot.refused,
        }
    )


def statistics(
    asking: Asking,
    now: Now,
    days: Annotated[
        int, Query(ge=1, le=3650, description="Only groups with a version of the last so many days.")
    ] = DAYS,
) -> Response:
    """Statistics of the features of every group that was materialized lately, less what a policy hides.

    Those that are kept are shown; of a version that was never described they are computed once.
    """
    since = now - dt.timedelta(days=days)
    with asking.access.reading(Permission.READ_METRICS) as store:
        recent = [
            name for name, entry in store.manifest().items() if entry.updated_at is None or entry.updated_at >= since
        ]
    groups: dict[str, Any] = {}
    for name in recent:
        if name in asking.access.catalog.groups and asking.access.may(Permission.READ_HISTORY, name):
            groups[name] = _statistics_of(asking, name)
    return reply({"days": days, "since": isoformat(since), "groups": groups})


def _statistics_of(asking: Caller, name: str) -> dict[str, Any]:
    try:
        return asking.access.statistics(name).to_dict()
    except (ForbiddenError, UnknownVersionError, CorruptStoreError) as error:
        return {"error": told(error.to_dict())}


def data_freshness(asking: Asking, now: Now) -> Response:
    """By feature group, how old its newest event and its last materialization are, and whether that is too old.

    `stale` is true where the newest event is older than the group's ttl, or a parent of a derived group is newer.
    """
    with asking.access.reading(Permission.READ_METRICS) as store:
        groups = [_freshness(store, group, now) for group in store.catalog.groups.values()]
    return reply({"at": isoformat(now), "groups": groups})


def _freshness(store: FeatureStore, group: FeatureGroup, now: dt.datetime) -> dict[str, Any]:
    told: dict[str, Any] = {
        "group": group.name,
        "version": None,
        "newest_event": None,
        "event_age_seconds": None,
        "materialized_at": None,
        "materialized_age_seconds": None,
        "pushed_rows": 0,
        "ttl": None if group.ttl is None else format_duration(group.ttl),
        "stale": None,
    }
    known = store.inspect(group.name)
    stored = known["stored"]
    told["pushed_rows"] = known["pending_rows"]
    if stored is None:
        return told | {"stale": True}
    newest = None if group.is_timeless else _moment(stored["max_event_time"])
    made = _moment(stored["created_at"])
    newest = max(filter(None, (newest, _newest_push(store, group, known))), default=None)
    too_old = group.ttl is not None and newest is not None and now - newest > group.ttl
    return told | {
        "version": stored["version"],
        "newest_event": None if newest is None else isoformat(newest),
        "event_age_seconds": _age(newest, now),
        "materialized_at": None if made is None else isoformat(made),
        "materialized_age_seconds": _age(made, now),
        "stale": too_old or bool(known.get("stale")),
    }


def _newest_push(store: FeatureStore, group: FeatureGroup, known: dict[str, Any]) -> dt.datetime | None:
    """The newest event among rows that were pushed since the version; None where there are none."""
    if not known["pending_rows"] or group.is_timeless:
        return None
    import pyarrow.compute as pc

    times = store.read(group.name, columns=[group.event_time], events=bool(group.aggregations)).arrow.column(0)
    return _utc(pc.max(times).as_py())


def _utc(value: dt.datetime | None) -> dt.datetime | None:
    return value if value is None or value.tzinfo is not None else value.replace(tzinfo=dt.UTC)


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _age(moment: dt.datetime | None, now: dt.datetime) -> float | None:
    return None if moment is None else round((now - moment).total_seconds(), 3)


def usage(
    request: Request,
    asking: Asking,
    now: Now,
    start_date: Annotated[
        dt.date | None, Query(description="The first day (UTC), inclusive; 30 days ago without.")
    ] = None,
) -> Response:
    """How often views, groups and features were read since a day, and by whom."""
    since = start_date or (now - dt.timedelta(days=30)).date()
    consumers: Consumers = request.app.state.consumers
    consumers.write()
    with asking.access.reading(Permission.READ_METRICS) as store:
        found = store.usage(since=since)
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in ("feature_view", "feature_group", "feature", KIND)}
    by_consumer: dict[str, Counter[str]] = {}
    by_day: Counter[str] = Counter()
    for each in found:
        if each.kind == KIND:
            by_consumer.setdefault(each.name, Counter())[each.feature] += each.count
        elif each.feature:
            totals["feature"][f"{each.name}:{each.feature}"] += each.count
        else:
            totals[each.kind][each.name] += each.count
            by_day[each.day.isoformat()] += each.count if each.kind == "feature_group" else 0
    return reply(
        {
            "start_date": since.isoformat(),
            "feature_views": dict(totals["feature_view"].most_common()),
            "feature_groups": dict(totals["feature_group"].most_common()),
            "features": dict(totals["feature"].most_common()),
            "consumers": {name: dict(counts.most_common()) for name, counts in by_consumer.items()},
            "days": dict(sorted(by_day.items())),
        }
    )


_ROUTES: Final = (
    ("/metrics", metrics, "Latencies and hit rates", "monitoring_metrics"),
    ("/statistics", statistics, "Statistics of features", "monitoring_statistics"),
    ("/data-freshness", data_freshness, "Freshness of groups", "monitoring_data_freshness"),
    ("/usage", usage, "Usage by feature and consumer", "monitoring_usage"),
)


def _router(prefix: str, suffix: str) -> APIRouter:
    router = APIRouter(prefix=f"{prefix}/monitoring", tags=["monitoring"], route_class=ResourceRoute)
    for path, answer, summary, operation in _ROUTES:
        router.add_api_route(
            path, answer, methods=["GET"], summary=summary, operation_id=operation + suffix, dependencies=_METRICS
        )
    return router


ROUTERS: Final = (_router("", ""), _router(PREFIX, "_v1"))
