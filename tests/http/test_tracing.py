"""Traces: a span per request, part of the caller's trace, with nothing in it that is nobody's business."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from tests.http.conftest import Client, free_port

from grange.config import TracingConfig
from grange.http.app import create_app
from grange.http.context import Projects
from grange.http.tracing import Tracing, tracing_of

pytest.importorskip("opentelemetry.sdk", reason="pip install 'grange[tracing]'")
URL = "/api/v1/serving/online"
BODY = {"features": "shopping", "rows": [{"user_id": "u1", "shop_id": 1}]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def traced(projects: Projects) -> Iterator[tuple[Client, Any]]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    client = Client(create_app(projects, tracing=Tracing(provider)))
    yield client, kept
    client.close()


def test_a_request_is_a_span_of_its_callers_trace(traced: tuple[Client, Any]) -> None:
    client, kept = traced
    client.post(URL, json=BODY, headers={"traceparent": PARENT, "x-request-id": "r1"})
    [span] = kept.get_finished_spans()
    assert span.name == f"POST {URL}"
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["grange.view"] == "shopping"
    assert span.attributes["grange.request_id"] == "r1"
    assert "u1" not in str(dict(span.attributes))


def test_errors_are_on_it(traced: tuple[Client, Any]) -> None:
    client, kept = traced
    client.post(URL, json={**BODY, "features": "nothing"}, headers={"traceparent": "not a trace"})
    [span] = kept.get_finished_spans()
    assert span.attributes["http.response.status_code"] == 404
    assert span.attributes["grange.refused"] == "UnknownFeatureViewError"
    assert span.parent is None


def test_without_an_endpoint_there_is_no_tracing() -> None:
    assert tracing_of(TracingConfig("", 1.0)) is None


def test_spans_are_sent_to_the_endpoint(projects: Projects) -> None:
    """What is left at the end is sent then."""
    came: list[str] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            came.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", free_port()), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        tracing = tracing_of(TracingConfig(f"http://127.0.0.1:{collector.server_port}/v1/traces", 1.0))
        client = Client(create_app(projects, tracing=tracing))
        client.post(URL, json=BODY)
        client.close()
        collector.shutdown()
    assert came == ["/v1/traces"]
