"""Traces: a span per request, sent by OpenTelemetry to where `tracing.endpoint` says.

A request that is part of a trace already (W3C `traceparent`) goes on with it, sampled as its caller decided; others are
sampled by `tracing.share`. Spans have route, view, project, status and the request's id; no values and no credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from grange.errors import MissingDependencyError

if TYPE_CHECKING:
    from grange.config import TracingConfig
    from grange.http.shell import Request

_HEADERS: Final = (b"traceparent", b"tracestate")


class Tracing:
    """Spans of one process.

    Args:
        provider: of OpenTelemetry's SDK.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("grange.http")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.SERVER

    @contextmanager
    def request(self, request: Request, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """The span of one request; what is known of it at the end is on it."""
        said = {name.decode(): headers[name].decode("latin-1") for name in _HEADERS if name in headers}
        context = self._extract(said) if said else None
        with self._tracer.start_as_current_span(request.method, context=context, kind=self._kind) as span:
            try:
                yield
            finally:
                if span.is_recording():
                    _describe(span, request)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def tracing_of(config: TracingConfig) -> Tracing | None:
    """Tracing as the configuration has it; None when it has none.

    Raises:
        MissingDependencyError: OpenTelemetry is not installed.
    """
    if not config.endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise MissingDependencyError(
            "tracing.endpoint needs OpenTelemetry", found="it is not installed", try_="pip install 'grange[tracing]'"
        ) from error
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(config.share), resource=Resource.create({"service.name": "grange"})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(config.endpoint)))
    return Tracing(provider)


def _describe(span: Any, request: Request) -> None:
    from opentelemetry.trace import StatusCode

    span.update_name(f"{request.method} {request.route}")
    span.set_attribute("http.request.method", request.method)
    span.set_attribute("http.route", request.route)
    span.set_attribute("http.response.status_code", request.status)
    span.set_attribute("grange.request_id", request.id)
    for name, value in (("project", request.project), ("view", request.view), ("refused", request.refused)):
        if value:
            span.set_attribute(f"grange.{name}", value)
    if request.status >= 500:
        span.set_status(StatusCode.ERROR)
