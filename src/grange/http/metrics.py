"""Numbers of the server: Prometheus metrics, and what of them `/monitoring/metrics` says.

Labels are bounded: routes are those that there are, views those that are applied; whatever else is asked for shares one
label. With several workers the numbers of all of them are added up, through files in a folder that the environment
variable PROMETHEUS_MULTIPROC_DIR names; `grange serve` makes it.
"""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from grange.http.shell import Request

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (
    0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02,
    0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper ends, in seconds: quantiles are told between neighbours, so to a third at worst."""
_MOST_WAITING: Final = 4096
STATUSES: Final = ("PRESENT", "NULL", "NOT_FOUND", "EXPIRED", "MASKED")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long requests took, in milliseconds; of no requests every number is None."""

    route: str
    view: str
    """Empty for requests that read no view."""
    count: int
    errors: int
    """Answers with status 400 and above."""
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers since the server started, of all workers."""

    latencies: tuple[Latency, ...]
    values: dict[str, dict[str, int]]
    """By view, values by status, as sampled; `coverage` is made of these."""
    cache_hits: int
    cache_misses: int
    in_flight: int
    refused: dict[str, int]
    """Requests that were not answered as asked, by reason."""

    def coverage(self, view: str) -> float | None:
        """The share of a view's values that were present; None when none was seen."""
        seen = self.values.get(view, {})
        total = sum(seen.values())
        return seen.get("PRESENT", 0) / total if total else None

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of entity keys that were answered from memory; None without a cache."""
        total = self.cache_hits + self.cache_misses
        return self.cache_hits / total if total else None


class Metrics:
    """The numbers of one process; `text` and `snapshot` are of all workers.

    Args:
        in_flight: how many requests are being answered.
    """

    def __init__(self, in_flight: Callable[[], int] = lambda: 0) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests: Any = Histogram(
            "grange_request_seconds",
            "How long requests took, from their headers to the last byte of the answer",
            ("method", "route", "view", "status"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "grange_requests_refused", "Requests that were not answered as asked", ("reason",), registry=registry
        )
        self._rows = Counter("grange_served_rows", "Vectors that were served", ("view",), registry=registry)
        self._values = Counter(
            "grange_served_values",
            "Values that were served, by status, as estimated from samples",
            ("view", "status"),
            registry=registry,
        )
        self._store = Histogram(
            "grange_online_store_seconds",
            "How long calls of the online store took",
            ("project", "call"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._outages = Counter(
            "grange_online_store_outages", "Calls of the online store that failed", ("project",), registry=registry
        )
        self._lost = Counter(
            "grange_online_store_lost",
            "Calls that asked for a feature group which the online store lost",
            ("project", "group"),
            registry=registry,
        )
        self._cache = Counter(
            "grange_cache_keys", "Entity keys that were looked for in memory", ("project", "found"), registry=registry
        )
        self._breaker = Gauge(
            "grange_breaker_open",
            "1 while the online store is left alone after outages, 0.5 while it is tried again, else 0",
            ("project",),
            registry=registry,
            multiprocess_mode="max",
        )
        self._logged = Counter(
            "grange_logged_vectors", "Served vectors for the feature log", ("project", "outcome"), registry=registry
        )
        self._in_flight = Gauge(
            "grange_requests_in_flight", "Requests being answered", registry=registry, multiprocess_mode="livesum"
        )
        self._count_in_flight = in_flight
        self._children: dict[tuple[str, str, str, int], Any] = {}
        self._row_children: dict[str, Any] = {}
        self._waiting: deque[tuple[Any, float]] = deque()
        self._flushing = threading.Lock()

    # -- what happened -----------------------------------------------------------------------------------------------

    def observe(self, request: Request, seconds: float) -> None:
        """One request that was answered."""
        key = request.method, request.route, request.view, request.status
        child = self._children.get(key)
        if child is None:
            method = request.method if request.method in _METHODS else "OTHER"
            child = self._requests.labels(method, request.route, request.view, str(request.status))
            if method == request.method:
                self._children[key] = child
        self._waiting.append((child, seconds))
        if len(self._waiting) >= _MOST_WAITING:
            self.flush()
        if request.refused:
            self._refused.labels(request.refused).inc()

    def flush(self) -> None:
        """Count the requests that wait to be counted: many at once cost a fifth of each by itself."""
        with self._flushing:
            found: dict[Any, list[float]] = {}
            while self._waiting:
                child, seconds = self._waiting.popleft()
                found.setdefault(child, []).append(seconds)
            for child, times in found.items():
                _observe(child, times)

    def served(self, view: str, rows: int) -> None:
        """Vectors that were served."""
        child = self._row_children.get(view)
        if child is None:
            child = self._row_children[view] = self._rows.labels(view)
        child.inc(rows)

    def sampled(self, view: str, statuses: Iterable[dict[str, str]], weight: float) -> None:
        """The statuses of some vectors, each of which stands for `weight` of them."""
        counts = dict.fromkeys(STATUSES, 0.0)
        for row in statuses:
            for status in row.values():
                counts[status] += weight
        for status, count in counts.items():
            if count:
                self._values.labels(view, status).inc(count)

    def watcher(self, project: str) -> StoreWatcher:
        """What a project's guarded online store tells."""
        return StoreWatcher(self, project)

    def logged(self, project: str, outcome: str, vectors: int) -> None:
        """Vectors of the feature log: `written`, `dropped` when its queue was full, `failed`."""
        self._logged.labels(project, outcome).inc(vectors)

    # -- what is told ------------------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._everything())

    def snapshot(self) -> Snapshot:
        """What `/monitoring/metrics` says of it."""
        samples = [
            (sample.name, sample.labels, sample.value) for m in self._everything().collect() for sample in m.samples
        ]

        def of(name: str) -> list[tuple[dict[str, str], float]]:
            return [(labels, value) for found, labels, value in samples if found == name]

        values: dict[str, dict[str, int]] = {}
        for labels, value in of("grange_served_values_total"):
            values.setdefault(labels["view"], {})[labels["status"]] = round(value)
        cache = {"yes": 0, "no": 0}
        for labels, value in of("grange_cache_keys_total"):
            cache[labels["found"]] += int(value)
        return Snapshot(
            latencies=_latencies(of("grange_request_seconds_bucket"), of("grange_request_seconds_sum")),
            values=values,
            cache_hits=cache["yes"],
            cache_misses=cache["no"],
            in_flight=int(sum(value for _, value in of("grange_requests_in_flight"))),
            refused={labels["reason"]: int(value) for labels, value in of("grange_requests_refused_total")},
        )

    def _everything(self) -> CollectorRegistry:
        self.flush()
        self._in_flight.set(self._count_in_flight())
        if not os.environ.get(FOLDER):
            return self._registry
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return merged


class StoreWatcher:
    """Counts what becomes of the reads of one project's online store (`grange.serving.guarding.Watcher`)."""

    def __init__(self, metrics: Metrics, project: str) -> None:
        self._seconds = {
            call: metrics._store.labels(project, call) for call in ("read", "read_cells", "layout", "info")
        }
        self._outages = metrics._outages.labels(project)
        self._lost, self._project = metrics._lost, project
        self._hits, self._misses = metrics._cache.labels(project, "yes"), metrics._cache.labels(project, "no")
        self._state = metrics._breaker.labels(project)

    def store_call(self, call: str, seconds: float) -> None:
        """A call that was answered."""
        self._seconds[call].observe(seconds)

    def outage(self) -> None:
        """A call that failed, or was not answered in time."""
        self._outages.inc()

    def lost(self, group: str) -> None:
        """A call that asked for a feature group which the store lost."""
        self._lost.labels(self._project, group).inc()

    def cached(self, hits: int, misses: int) -> None:
        """Entity keys that were looked for in memory."""
        if hits:
            self._hits.inc(hits)
        if misses:
            self._misses.inc(misses)

    def breaker(self, state: str) -> None:
        """What the breaker came to."""
        self._state.set({"closed": 0.0, "half_open": 0.5, "open": 1.0}[state])


def _observe(child: Any, times: list[float]) -> None:
    """What `Histogram.observe` does, for many at once; the library has no call for that."""
    counts: dict[int, int] = {}
    for seconds in times:
        place = bisect_left(BUCKETS, seconds)
        counts[place] = counts.get(place, 0) + 1
    child._sum.inc(sum(times))
    for place, count in counts.items():
        child._buckets[place].inc(count)


_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_Series = list[tuple[dict[str, str], float]]


def _latencies(buckets: _Series, sums: _Series) -> tuple[Latency, ...]:
    """Per route and view, of the buckets of all statuses."""
    curves: dict[tuple[str, str], dict[float, float]] = {}
    errors: dict[tuple[str, str], float] = {}
    for labels, value in buckets:
        key, end = (labels["route"], labels["view"]), float(labels["le"])
        curve = curves.setdefault(key, {})
        curve[end] = curve.get(end, 0.0) + value
        if end == math.inf and int(labels["status"]) >= 400:
            errors[key] = errors.get(key, 0.0) + value
    took: dict[tuple[str, str], float] = {}
    for labels, value in sums:
        key = labels["route"], labels["view"]
        took[key] = took.get(key, 0.0) + value
    return tuple(_latency(key, curve, errors.get(key, 0), took.get(key, 0.0)) for key, curve in sorted(curves.items()))


def _latency(key: tuple[str, str], curve: dict[float, float], errors: float, seconds: float) -> Latency:
    count = curve.get(math.inf, 0.0)
    quantiles = [_quantile(curve, share) for share in (0.5, 0.95, 0.99)]
    mean = seconds / count * 1e3 if count else None
    return Latency(*key, int(count), int(errors), mean, *quantiles)


def _quantile(curve: dict[float, float], share: float) -> float | None:
    """A quantile in milliseconds, linear between the ends of its bucket; beyond the last end, that end."""
    ends = sorted(curve)
    total = curve[ends[-1]] if ends else 0.0
    if not total:
        return None
    wanted = share * total
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *((end, curve[end]) for end in ends)]):
        if upto >= wanted and upto > below:
            if high == math.inf:
                return low * 1e3
            return (low + (high - low) * (wanted - below) / (upto - below)) * 1e3
    return None


__all__ = ["BUCKETS", "CONTENT_TYPE", "FOLDER", "Latency", "Metrics", "Snapshot"]
