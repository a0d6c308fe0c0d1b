"""Hot routes: vectors for models, with nothing between the shell and the store but a decoder and an encoder.

Embedded stores are read on the event loop, where a read takes microseconds; networked ones by a few threads, one read
for all requests that wait (`grange.http.batching`).
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

import msgspec

from grange.errors import RequestError, TooLargeError
from grange.http.codecs import CONTENT_TYPES, Body, Form, answer_form, arrow_bytes, encode, form_of, rows_of_arrow
from grange.http.limits import check_features
from grange.http.messages import ARROW, Call, Handler, Reply
from grange.http.parts import Answer, Part
from grange.http.plans import Plan, Plans, Shape
from grange.http.selections import Features, from_query
from grange.serving.guarding import tallied

if TYPE_CHECKING:
    from grange.http.batching import Batches
    from grange.http.feature_log import FeatureLog
    from grange.http.live import LiveProjects
    from grange.http.metrics import Metrics

ONLINE: Final = "/api/v1/serving/online"
ON_THE_LOOP: Final = 1000
"""Vectors at most that are read on the event loop; more take long enough for others to notice."""

SLOW_S: Final = 0.02
"""A request shape whose last read took more of the processor is read by a thread the next time."""


class OnlineRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /api/v1/serving/online`. `feature_sets` and `entities` make it one in the older shape, which
    `grange.http.compat` answers."""

    features: Features | None = None
    """A feature view, or a list of references (`group`, `group:feature`, `group@1.0.0:feature`) and of selections."""
    rows: list[dict[str, Any]] | None = None
    """Per vector, the entity key and the view's request columns."""
    columns: dict[str, list[Any]] | None = None
    """The same as columns of equal length, instead of `rows`."""
    now: str | int | None = None
    """The time to read at: ISO 8601, or microseconds since 1970; the server's clock without."""
    statuses: bool = False
    event_times: bool = False
    full_feature_names: bool = False
    training_dataset: int | None = None
    transform: bool = True
    format: Literal["rows", "columns"] = "rows"
    feature_sets: list[str] | None = None
    entities: dict[str, list[Any]] | None = None


class _Metadata(msgspec.Struct, gc=False):
    """What an answer says of itself."""

    view: str | None
    degraded: bool
    masked: list[str]
    request_id: str
    latency_ms: float
    cache_hit: bool


class _Body(msgspec.Struct, gc=False):
    """An answer."""

    features: Any
    statuses: Any
    event_times: Any
    metadata: _Metadata


_BODY: Final = Body(OnlineRequest)


@dataclass(slots=True)
class Work:
    """One request for vectors, while it is answered."""

    call: Call
    request: OnlineRequest
    rows: list[dict[str, Any]]
    form: Form
    """How the answer is written."""
    started: float


class Online:
    """`POST /api/v1/serving/online`.

    Args:
        projects: what is served.
        max_rows: vectors that one request may ask for; 0 is no limit.
        metrics: is told what was served.
        pools: the threads that read networked stores, by project; projects that have none are read on the loop.
        feature_log: is offered what was served; nothing is logged without.
    """

    def __init__(
        self,
        projects: LiveProjects,
        *,
        max_rows: int,
        metrics: Metrics,
        pools: Mapping[str, Batches],
        feature_logs: Mapping[str, FeatureLog],
    ) -> None:
        self._plans = Plans(projects)
        self._max_rows = max_rows
        self._metrics = metrics
        self._pools = pools
        self._logs = feature_logs

    def __call__(self, call: Call) -> Reply | Awaitable[Reply]:
        """One request."""
        started = time.perf_counter()
        form = form_of(call.headers.get(b"content-type", b""))
        request = self._decoded(call, form)
        if request.feature_sets is not None or request.entities is not None:
            return self._older_shape(call, request)
        features = _features(request)
        shape = (
            tuple(features) if type(features) is list else features,
            request.full_feature_names,
            request.training_dataset,
            request.transform,
        )
        work = Work(call, request, self._rows(request), answer_form(call.accept, form), started)
        plan = self._plans.get(call, shape)
        pool = self._pools.get(call.caller.project.name)
        if plan is not None and pool is None and len(work.rows) <= ON_THE_LOOP and not plan.is_slow:
            return self._answered(plan, [work])[0]
        return self._later(plan, pool, work, features, shape)

    async def _later(
        self, plan: Plan | None, pool: Batches | None, work: Work, features: Features, shape: Shape
    ) -> Reply:
        """What the loop should not do itself: making a plan, large requests, stores that are far away."""
        if plan is None:
            options = {"full_feature_names": shape[1], "training_dataset": shape[2], "transform": shape[3]}
            make = functools.partial(self._plans.make, work.call, features, shape, options)
            plan = await (asyncio.to_thread(make) if pool is None else pool.within_time(make))
        if pool is not None:
            return await pool.answer(plan, work, self._answered)
        return (await asyncio.to_thread(self._answered, plan, [work]))[0]

    def _answered(self, plan: Plan, works: list[Work]) -> list[Reply]:
        """The answers of requests of one shape and one time, from one read."""
        rows = works[0].rows if len(works) == 1 else [row for work in works for row in work.rows]
        # by a thread that others push aside, only its own time says anything
        clock = time.thread_time if plan.is_slow else time.perf_counter
        began = clock()
        found, is_cached = self._read(plan, rows, works[0].request.now)
        replies, start = [], 0
        for work in works:
            replies.append(self._reply(plan, work, found.part(start, start + len(work.rows)), is_cached))
            start += len(work.rows)
        plan.is_slow = clock() - began > SLOW_S
        now = time.monotonic()
        weight = plan.is_sampled(len(rows), now)
        if weight:
            self._metrics.sampled(plan.view, found.statuses(), weight / len(rows))
            plan.sampled(now, time.monotonic())
        self._metrics.served(plan.view, len(rows))
        return replies

    def _read(self, plan: Plan, rows: list[dict[str, Any]], now: str | int | None) -> tuple[Answer, bool]:
        """What a read finds, and whether all of it came from memory."""
        if plan.live.project.store.config.serving.cache is None:
            return Answer(plan.read(rows, now)), False
        with tallied() as tally:
            return Answer(plan.read(rows, now)), tally.is_cached

    def _reply(self, plan: Plan, work: Work, part: Part, is_cached: bool) -> Reply:
        found, caller = part.answer.found, work.call.caller
        log = self._logs.get(caller.project.name)
        if log is not None and log.is_chosen(caller.request_id):
            log.offer(plan, caller.request_id, part)
        if work.form == "arrow":
            headers = (
                ("x-grange-degraded", "true" if found.degraded else "false"),
                ("x-grange-masked", ",".join(map(quote, sorted(found.masked)))),
            )
            return Reply(200, arrow_bytes(part.to_arrow()), ARROW, headers, view=plan.view)
        masked = sorted(found.masked) if found.masked else []
        took = round((time.perf_counter() - work.started) * 1e3, 3)
        metadata = _Metadata(plan.view or None, found.degraded, masked, caller.request_id, took, is_cached)
        body = _body(work.request, part, metadata)
        return Reply(200, encode(body, work.form), CONTENT_TYPES[work.form], view=plan.view)

    def _decoded(self, call: Call, form: Form) -> OnlineRequest:
        if form == "json":
            return _BODY.json(call.body)
        if form == "msgpack":
            return _BODY.msgpack(call.body)
        table = rows_of_arrow(call.body, max_rows=self._max_rows)
        return _from_query(call.parameters(), table.to_pylist())

    def _rows(self, request: OnlineRequest) -> list[dict[str, Any]]:
        if (request.rows is None) == (request.columns is None):
            found = "neither" if request.rows is None else "both"
            raise RequestError("a request for vectors has `rows` or `columns`", found=found)
        rows = request.rows if request.rows is not None else _as_rows(request.columns or {})
        if self._max_rows and len(rows) > self._max_rows:
            raise TooLargeError(
                f"one request may ask for {self._max_rows:,} vectors",
                found=f"{len(rows):,}",
                try_="ask for fewer at a time, or raise server.max_rows",
                details={"limit": self._max_rows},
            )
        return rows

    def _older_shape(self, call: Call, request: OnlineRequest) -> Reply | Awaitable[Reply]:
        from grange.http.compat.feature_store_2.serving import serve_online

        if call.caller.project.name in self._pools or _names(request) > ON_THE_LOOP:
            return asyncio.to_thread(serve_online, call, request)
        return serve_online(call, request)


def hot_routes(online: Online) -> Mapping[tuple[str, str], Handler]:
    """The hot routes, by method and path."""
    return {("POST", ONLINE): online}


def _names(request: OnlineRequest) -> int:
    """How many names a request in the older shape has."""
    named = (request.features, request.feature_sets, *(request.entities or {}).values())
    return max(len(names) for names in named if isinstance(names, list | tuple)) if any(named) else 0


def _features(request: OnlineRequest) -> Features:
    if not request.features:
        raise RequestError(
            "a request for vectors names `features`", found="none", try_='"features": "my_view", or ["group:feature"]'
        )
    if isinstance(request.features, list):
        check_features(len(request.features))
    return request.features


def _as_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise RequestError(
            "`columns` are of equal length", found=", ".join(f"{n}: {len(v)}" for n, v in columns.items())
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _from_query(given: dict[str, list[str]], rows: list[dict[str, Any]]) -> OnlineRequest:
    """A request whose rows are Arrow and whose options are in the query."""
    features = given.pop("features", [])
    plain: dict[str, Any] = {name: values[-1] for name, values in given.items()}
    try:
        request = msgspec.convert(plain, OnlineRequest, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"the query is not as it should be: {error}") from error
    request.features = from_query(features)
    request.rows = rows
    return request


def _body(request: OnlineRequest, part: Part, metadata: _Metadata) -> _Body:
    features: Any
    if request.format == "columns":
        vectors, names = part.to_dicts(), part.answer.found.column_names
        features = {name: [vector[name] for vector in vectors] for name in names}
    else:
        features = part.to_records()
    statuses = part.statuses() if request.statuses else msgspec.UNSET
    event_times = part.event_times() if request.event_times else msgspec.UNSET
    return _Body(features, statuses, event_times, metadata)


__all__ = ["ONLINE", "Online", "OnlineRequest", "hot_routes"]
