"""The server's application, assembled: the shell around hot routes, resources, other systems' routes and health."""

from __future__ import annotations

import asyncio
import functools
import importlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grange.errors import GrangeError
from grange.http.authentication import Gate
from grange.http.batching import Batches
from grange.http.consumers import Consumers
from grange.http.context import Project, Projects
from grange.http.errors import enveloped
from grange.http.feature_log import FeatureLog
from grange.http.health import Health
from grange.http.historical import HISTORICAL, Historical
from grange.http.hot import ONLINE, Online, hot_routes
from grange.http.limits import Receive
from grange.http.live import LiveProjects
from grange.http.messages import Call, Handler, Reply, error_reply, json_reply
from grange.http.metrics import CONTENT_TYPE, Metrics
from grange.http.places import serve_from
from grange.http.shell import FAILURE, Application, Scope, Send, Shell
from grange.jobs import JobRunner
from grange.ports.plugins import backend
from grange.security import Security
from grange.security.principals import Permission
from grange.serving.guarding import NOBODY, GuardedOnlineStore, guarded

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from grange.config import Config
    from grange.http.tracing import Tracing
    from grange.security.tokens import TokenVerifier
    from grange.store import FeatureStore

_BRIEF: Final = frozenset({ONLINE.encode(), b"/get-online-features"})
_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
    422: "invalid",
}
"""Of errors that are none of Grange's own."""


def create_app(
    projects: Projects,
    *,
    metrics: Metrics | None = None,
    tokens: TokenVerifier | None = None,
    tracing: Tracing | None = None,
    extra_routes: Mapping[tuple[str, str], Handler] | None = None,
) -> Shell:
    """The server as one ASGI application.

    Args:
        projects: what is served; `by_name` is a dict, in which a project that gets its first key is open no more.
        metrics: where numbers go; its own without.
        tokens: what verifies tokens; none are taken without.
        tracing: where spans go; nowhere without.
        extra_routes: further hot routes, by method and path.
    """
    shell: Shell
    metrics = metrics or Metrics(lambda: shell.in_flight)
    live = LiveProjects(projects, metrics.flush)
    health = Health(projects, lambda: shell.draining)
    gate = Gate(projects, tokens)
    pools = _pools(projects)
    logs = _feature_logs(projects, metrics)
    settings = projects.config.server
    jobs = JobRunner()
    consumers = Consumers(projects.by_name)
    online = Online(live, max_rows=projects.config.server.max_rows, metrics=metrics, pools=pools, feature_logs=logs)

    async def started() -> None:
        await live.start()
        for log in logs.values():
            log.start()

    async def stopped() -> None:
        await live.stop()
        await asyncio.to_thread(jobs.close, shell.grace_left())
        await asyncio.to_thread(consumers.close)
        for log in logs.values():
            await asyncio.to_thread(log.stop)
        for pool in pools.values():
            pool.close()
        health.close()
        gate.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    shell = Shell(
        projects=projects,
        live=live,
        gate=gate,
        app=_resources(projects, metrics, gate, jobs, consumers),
        routes={
            **hot_routes(online),
            ("POST", HISTORICAL): Historical(jobs=jobs, most=settings.historical_rows),
            **_compat_routes(projects),
            ("GET", "/metrics"): _metrics_route(metrics),
            **(extra_routes or {}),
        },
        open_routes={("GET", "/health/live"): health.live, ("GET", "/health/ready"): health.ready},
        metrics=metrics,
        consumers=consumers,
        tracing=tracing,
        open_paths=frozenset({"/health"}),
        brief=_BRIEF,
        starting=(started,),
        stopping=(stopped,),
    )
    return shell


def _pools(projects: Projects) -> dict[str, Batches]:
    """Threads for the projects whose online store is reached over a network."""
    return {
        name: Batches(
            functools.partial(_guard_of, project.store),
            timeout=project.store.config.serving.store_timeout.total_seconds(),
        )
        for name, project in projects.by_name.items()
        if _is_networked(project.store.config)
    }


def _guard_of(store: FeatureStore) -> GuardedOnlineStore | None:
    online = store._parts.online
    return online if isinstance(online, GuardedOnlineStore) else None


def _is_networked(config: Config) -> bool:
    return "networked" in backend("online_stores", config.online.type).capabilities


def _feature_logs(projects: Projects, metrics: Metrics) -> dict[str, FeatureLog]:
    """The logs of the projects that log what they serve."""
    return {
        name: FeatureLog(project.store, share=project.store.config.serving.log_share, metrics=metrics)
        for name, project in projects.by_name.items()
        if project.store.config.serving.log_share
    }


def open_projects(config: Config, metrics: Metrics | None = None) -> tuple[Projects, TokenVerifier | None]:
    """The projects that a configuration says to serve, opened, and what verifies tokens.

    Args:
        config: of the project that the server is started in.
        metrics: told what reads of the online stores come to.

    Raises:
        ConfigError, StoreUnavailableError: one cannot be opened.
        RefusedError: two of them have one name.
    """
    from grange.config import Config as Settings
    from grange.errors import RefusedError

    tokens = token_verifier(config)
    configs = [config, *(Settings.load(config.root / Path(folder)) for folder in config.server.projects)]
    opened: dict[str, Project] = {}
    for each in configs:
        if each.project in opened:
            raise RefusedError(
                f"two projects are named {each.project!r}",
                found=str(each.root),
                try_=f"set project in {each.root / 'grange.toml'}",
            )
        opened[each.project] = open_project(each, takes_tokens=tokens is not None, metrics=metrics)
    return Projects(config, opened, config.project), tokens


def open_project(config: Config, *, takes_tokens: bool, metrics: Metrics | None = None) -> Project:
    """One project, its stores opened; an online store that is far away, or remembered, behind a guard."""
    from grange.store import FeatureStore

    if not _is_networked(config) and config.serving.cache is None:
        return project_of(FeatureStore(config=config), takes_tokens=takes_tokens)
    serving = config.serving
    wrap = functools.partial(
        guarded,
        cache=None if serving.cache is None else serving.cache.total_seconds(),
        cache_entries=serving.cache_entries,
        failures=serving.breaker_failures,
        pause=serving.breaker_pause.total_seconds(),
        clock=time.monotonic,
        watcher=NOBODY if metrics is None else metrics.watcher(config.project),
    )
    return project_of(FeatureStore(config=config, wrap_online=wrap), takes_tokens=takes_tokens)


def project_of(store: FeatureStore, *, takes_tokens: bool = False) -> Project:
    """A store as a project that is served: open while nobody ever made a key and no tokens are taken."""
    security = Security(store._parts.registry, store.config.project)
    serve_from(store.config)
    return Project(store.config.project, store, security, not takes_tokens and not security.keys.any_ever())


def token_verifier(config: Config) -> TokenVerifier | None:
    """What verifies tokens, where the configuration names who signs them."""
    settings = config.security
    if not settings.issuer:
        return None
    from grange.security.tokens import TokenVerifier

    return TokenVerifier.from_settings(
        issuer=settings.issuer,
        audience=settings.audience,
        jwks=settings.jwks or None,
        role_claim=settings.role_claim,
        project=config.project,
        project_claim=settings.project_claim or None,
    )


def _metrics_route(metrics: Metrics) -> Handler:
    def answer(call: Any) -> Reply:
        call.caller.access.check(Permission.READ_METRICS)
        return Reply(200, metrics.text(), CONTENT_TYPE)

    return answer


def _compat_routes(projects: Projects) -> Mapping[tuple[str, str], Handler]:
    """Hot routes of other systems. Where a store is far away, a thread answers them."""
    routes: Mapping[tuple[str, str], Handler] = _of_module("grange.http.compat", "HOT_ROUTES", {})
    if not any(_is_networked(project.store.config) for project in projects.by_name.values()):
        return routes
    return {where: _in_a_thread(handler) for where, handler in routes.items()}


def _in_a_thread(handler: Handler) -> Handler:
    async def answer(call: Call) -> Reply:
        answered = await asyncio.to_thread(handler, call)
        return answered if isinstance(answered, Reply) else await answered

    return answer


def _resources(projects: Projects, metrics: Metrics, gate: Gate, jobs: JobRunner, consumers: Consumers) -> Application:
    """Everything that is no hot route, made when it is first asked for: a server of vectors starts without it."""
    made: list[FastAPI] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if not made:
            made.append(await asyncio.to_thread(fastapi_app, projects, metrics, gate, jobs, consumers))
        await made[0](scope, receive, send)

    return application


def fastapi_app(projects: Projects, metrics: Metrics, gate: Gate, jobs: JobRunner, consumers: Consumers) -> FastAPI:
    """The resources and other systems' routes, as a FastAPI application without the shell around it."""
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app = FastAPI(title="Grange", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.projects, app.state.metrics, app.state.gate, app.state.jobs = projects, metrics, gate, jobs
    app.state.consumers = consumers
    app.add_middleware(_Unforeseen)
    app.add_exception_handler(GrangeError, _grange_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    for router in _routers():
        app.include_router(router)
    return app


def _routers() -> Iterable[Any]:
    for module in ("grange.http.resources", "grange.http.compat"):
        yield from _of_module(module, "ROUTERS", ())


def _of_module(module: str, name: str, default: Any) -> Any:
    return getattr(importlib.import_module(module), name, default)


class _Unforeseen:
    """Leaves what nobody foresaw to the shell, before anything else answers it: one envelope for all.

    Args:
        app: the routes.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        has_begun = False

        async def noting(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if has_begun:
                raise
            scope["state"][FAILURE] = error


def _grange_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GrangeError)
    return _response(error_reply(error, _request_id(request)))


def _invalid(request: Request, error: Exception) -> Response:
    """A body or parameter that is not as the document says. What was sent is not repeated."""
    problems = [
        {"where": ".".join(map(str, each["loc"])), "problem": each["msg"]}
        for each in error.errors()  # type: ignore[attr-defined]
    ]
    said = "; ".join(f"{each['where']}: {each['problem']}" for each in problems[:3])
    body = enveloped(
        "invalid", f"the request is not as it should be: {said}", {"problems": problems}, _request_id(request)
    )
    return _response(json_reply(body, 422))


def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code  # type: ignore[attr-defined]
    message = {404: f"nothing is at {request.url.path}", 405: f"{request.method} is not for {request.url.path}"}.get(
        status,
        str(error.detail),  # type: ignore[attr-defined]
    )
    body = enveloped(_CODES.get(status, "http_error"), message, {"try": "/docs has the routes"}, _request_id(request))
    return _response(json_reply(body, status, tuple((error.headers or {}).items())))  # type: ignore[attr-defined]


def _request_id(request: Request) -> str:
    said: str = request.scope["state"]["request_id"]
    return said


def _response(reply: Reply) -> Response:
    from starlette.responses import Response

    return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)


__all__ = ["create_app", "fastapi_app", "open_project", "open_projects", "project_of", "token_verifier"]
