"""Connections: whatever way bytes come, each request is answered once, in its turn, as it would be alone.

Most of it is proven in memory, where bytes come in exactly the pieces that a test says; the rest over sockets, with
servers in threads of this process, and at last with processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import json
import logging
import re
import shutil
import signal
import socket
import ssl
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.http.conftest import Served, free_port, load, make_project
from tests.http.test_lifecycle import self_signed
from tests.servers import valkey
from uvicorn.server import ServerState

import grange as gr
from grange.errors import RequestError
from grange.http import protocol
from grange.http.app import create_app, project_of
from grange.http.context import Projects
from grange.http.messages import Call, Reply, json_reply
from grange.http.protocol import MAX_HEAD, Protocol, Writer
from grange.http.shell import Shell
from grange.security.policies import Policy

ONLINE: Final = "/api/v1/serving/online"
NOW: Final = "2026-03-20T00:00:00Z"
VIEW: Final = {"features": "shopping", "rows": [{"user_id": "u1", "shop_id": 1}], "now": NOW}
SLOW: Final = "/slow"
"""A hot route whose answers are awaited."""


# -- requests and answers ------------------------------------------------------------------------------------------


def asking(
    body: Any = None, *headers: str, path: str = ONLINE, method: str = "POST", id: str = "", version: str = "1.1"
) -> bytes:
    """One request, its length said where it has a body that is not chunked."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    said = [f"{method} {path} HTTP/{version}", "host: localhost", *headers]
    if id:
        said.append(f"x-request-id: {id}")
    if data and "transfer-encoding: chunked" not in headers:
        said.append(f"content-length: {len(data)}")
    return "\r\n".join(said).encode() + b"\r\n\r\n" + data


def chunked(body: Any, size: int = 7) -> bytes:
    """A body in chunks."""
    data = json.dumps(body).encode()
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One answer, save for what no two answers have in common: the date and how long it took."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def id(self) -> str:
        """Of its request."""
        return dict(self.headers).get("x-request-id", "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


_OF_THE_MOMENT: Final = re.compile(rb'"latency_ms":[0-9.e-]+')


def taken(data: bytes) -> tuple[Answer | None, bytes]:
    """The first answer, if it is there whole, and what follows it."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None, data
    lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
    status, said = int(lines[0].split()[1]), dict(headers)
    if "transfer-encoding" in said:
        body, end, rest = rest.partition(b"0\r\n\r\n")
        if not end:
            return None, data
    else:
        length = int(said.get("content-length", "0"))
        if len(rest) < length:
            return None, data
        body, rest = rest[:length], rest[length:]
    # a length that says how many digits the time took is no difference either
    kept = tuple((name, value) for name, value in headers if name not in ("date", "content-length"))
    return Answer(status, kept, _OF_THE_MOMENT.sub(b'"latency_ms":0', body)), rest


def answers_of(data: bytes) -> list[Answer]:
    """All answers; nothing is left over."""
    found = []
    while data:
        answer, data = taken(data)
        assert answer is not None, data
        found.append(answer)
    return found


# -- applications --------------------------------------------------------------------------------------------------


class Held:
    """Answers to `/slow`, which come when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.asked = 0

    async def __call__(self, call: Call) -> Reply:
        self.asked += 1
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        finally:
            self.waiting.remove(future)
        return json_reply({"request_id": call.caller.request_id})

    def release(self, error: Exception | None = None) -> None:
        """Let all go on that wait, or fail."""
        for future in self.waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


@dataclass
class App:
    """An application, and its answers that wait."""

    shell: Shell
    held: Held


@pytest.fixture(scope="module")
def opened(loaded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.FeatureStore]:
    """The store of the shop; nobody writes to it."""
    folder = tmp_path_factory.mktemp("protocol") / "shop"
    shutil.copytree(loaded_folder, folder)
    with gr.FeatureStore(folder) as store:
        yield store


def make_app(store: gr.FeatureStore, *, short: bool = True, tracing: Any = None, **server: Any) -> App:
    """An application with other settings; `short` says whether it has a short way."""
    config = replace(store.config, server=replace(store.config.server, **server))
    project = project_of(store)
    held = Held()
    shell = create_app(
        Projects(config, {project.name: project}, project.name),
        extra_routes={("POST", SLOW): held, ("POST", "/broken"): _broken},
        tracing=tracing,
    )
    shell.brief = shell.brief | {SLOW.encode(), b"/broken"} if short else frozenset()
    return App(shell, held)


def _broken(call: Call) -> Reply:
    raise ZeroDivisionError("nobody foresaw this")


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How many requests each shell answered the short way, by its `id`."""
    found: dict[int, int] = {}
    asked = Shell.briefly

    def briefly(self: Shell, path: str, headers: dict[bytes, bytes], body: bytes) -> Any:
        answer = asked(self, path, headers, body)
        found[id(self)] = found.get(id(self), 0) + (answer is not None)
        return answer

    monkeypatch.setattr(Shell, "briefly", briefly)
    return found


@pytest.fixture(params=["at once", "together"])
def writing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers go out each by itself, or wait for those of the same turn of the loop, whatever the machine's pace."""
    monkeypatch.setattr(protocol, "AT_ONCE_S", -1.0 if request.param == "at once" else 1e9)
    monkeypatch.setattr(protocol, "LONGEST_WAIT_S", 1e9)


# -- connections in memory -----------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A connection in memory: what is sent comes in exactly these pieces, and nothing that is said is lost sight of."""

    def __init__(self, app: App, **options: Any) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.said = bytearray()
        self.is_reading = True
        self.closes = False
        config = uvicorn.Config(
            app.shell, http=Protocol, ws="none", log_config=None, access_log=False, proxy_headers=False, **options
        )
        config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"), (b"x-every", b"answer")]
        self.protocol = Protocol(config, self.state, {}, _loop=self.loop)
        self.protocol.connection_made(self)

    def send(self, *pieces: bytes) -> None:
        """Let the server read, now, piece by piece; what it does not want to read it is given later."""
        for piece in pieces:
            if self.closes:
                return
            self.protocol.data_received(piece)

    async def send_as_it_reads(self, *pieces: bytes) -> None:
        """Let the server read when it wants to."""
        for piece in pieces:
            await until(lambda: self.is_reading or self.closes)
            self.send(piece)

    def hang_up(self) -> None:
        """The client is gone."""
        self.closes = True
        self.protocol.connection_lost(ConnectionResetError())

    async def answers(self, count: int) -> list[Answer]:
        """The next answers, when they are there."""
        await until(lambda: self._count() >= count or self.closes)
        await asyncio.sleep(0)
        found = answers_of(bytes(self.said))
        self.said.clear()
        return found

    def _count(self) -> int:
        rest, count = bytes(self.said), 0
        while True:
            answer, rest = taken(rest)
            if answer is None:
                return count
            count += 1

    def write(self, data: Any) -> None:
        assert not self.closes, "written to a connection that is closed"
        self.said += data

    def close(self) -> None:
        if not self.closes:
            self.closes = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closes

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let the loop run until something is so."""
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up, "it never came to that"
        await asyncio.sleep(0 if give_up - time.monotonic() > seconds - 0.2 else 0.005)


@contextlib.asynccontextmanager
async def running(*apps: App) -> AsyncIterator[None]:
    """Applications, started; nothing that was in flight is left over."""
    for app in apps:
        for start in app.shell.starting:
            await start()
    try:
        yield
        await until(lambda: not any(app.shell.in_flight for app in apps))
    finally:
        for app in apps:
            app.held.release()
            for stop in app.shell.stopping:
                await stop()


async def asked(app: App, *requests: bytes) -> list[Answer]:
    """What requests are answered that come one by one, on a connection each."""
    found = []
    for one in requests:
        wire = Wire(app)
        wire.send(one)
        found += await wire.answers(1)
        wire.close()
    return found


# -- the same answer, whatever way the bytes come --------------------------------------------------------------------

FEAST: Final = {"features": ["spend:amount"], "entities": {"user_id": ["u1", "u2"]}}
ODD: Final = {
    "a view": asking(VIEW, id="r"),
    "references": asking({"features": ["spend", "clicks:n"], "rows": [{"user_id": "u1"}], "now": NOW}, id="r"),
    "the route of another system": asking(FEAST, path="/get-online-features", id="r"),
    "statuses": asking({**VIEW, "statuses": True, "event_times": True}, id="r"),
    "a body in chunks": asking(None, "transfer-encoding: chunked", id="r") + chunked(VIEW),
    "a body in chunks, with trailers": asking(None, "transfer-encoding: chunked", id="r")
    + chunked(VIEW)[:-2]
    + b"x-request-id: forged\r\nhost: elsewhere.example\r\n\r\n",
    "HTTP/1.0": asking(VIEW, version="1.0", id="r"),
    "HTTP/1.0, kept": asking(VIEW, "connection: keep-alive", version="1.0", id="r"),
    "the last one": asking(VIEW, "connection: close", id="r"),
    "a query": asking(VIEW, path=ONLINE + "?a=b", id="r"),
    "an empty query": asking(VIEW, path=ONLINE + "?", id="r"),
    "upper case": asking(VIEW, "CONTENT-TYPE: APPLICATION/JSON", "ACCEPT: */*", id="r"),
    "a whole address": asking(VIEW, path="http://localhost" + ONLINE, id="r"),
    "a path in per cent": asking(VIEW, path="/api/v1/serving/%6fnline", id="r"),
    "another protocol": asking(VIEW, "connection: upgrade, http2-settings", "upgrade: h2c", id="r"),
    "another protocol, in chunks": asking(
        None, "connection: upgrade", "upgrade: x", "transfer-encoding: chunked", id="r"
    )
    + chunked(VIEW),
    "an id that is none": asking(VIEW, id="r").replace(b"x-request-id: r", b"x-request-id: a b"),
    "no body": asking(id="r"),
    "no JSON": asking(b"{", id="r"),
    "no UTF-8": asking(b'{"features": "\xff"}', id="r"),
    "what it does not know": asking({"feature": 1}, id="r"),
    "no such view": asking({**VIEW, "features": "nothing"}, id="r"),
    "no rows": asking({"features": "shopping"}, id="r"),
    "too deep for the parser": asking(b"[" * 200_000, id="r"),
    "too deep in a row": asking(b'{"features":"shopping","rows":[{"user_id":' + b"[" * 100_000, id="r"),
    "another site": asking(VIEW, "origin: https://elsewhere.example", id="r"),
    "another host": asking(VIEW, id="r").replace(b"host: localhost", b"host: elsewhere.example"),
    "another method": asking(VIEW, method="PUT", id="r"),
    "no method for it": asking(method="GET", id="r"),
    "a resource": asking(method="GET", path="/api/v1/feature-views", id="r"),
    "health": asking(method="GET", path="/health/live", id="r"),
    "nothing": asking(method="GET", path="/nothing", id="r"),
    "what nobody foresaw": asking(VIEW, path="/broken", id="r"),
}  # fmt: skip
GOES_SHORT: Final = {
    "a view", "references", "the route of another system", "statuses", "a body in chunks",
    "a body in chunks, with trailers", "another protocol", "another protocol, in chunks", "upper case",
    "an id that is none", "no body", "no JSON", "no UTF-8", "what it does not know", "no such view", "no rows",
    "too deep for the parser", "too deep in a row", "what nobody foresaw",
}  # fmt: skip
"""What is answered without ASGI; everything else has something to it that only the long way knows."""


def same(found: Answer, expected: Answer) -> bool:
    """Whether two answers say the same; ids that the server gave differ."""
    if found.id == expected.id:
        return found == expected
    return without_id(found) == without_id(expected)


def without_id(answer: Answer) -> Answer:
    """An answer, save for the id of its request."""
    headers = tuple(header for header in answer.headers if header[0] != "x-request-id")
    return replace(answer, headers=headers, body=answer.body.replace(answer.id.encode(), b""))


class Pair:
    """Two applications over one store, with a short way and without: the second says what is right."""

    def __init__(self, store: gr.FeatureStore) -> None:
        self.short, self.long = make_app(store), make_app(store, short=False)
        self._right: dict[bytes, Answer] = {}

    async def right(self, one: bytes) -> Answer:
        """What a request is answered that comes alone, the long way."""
        if one not in self._right:
            [self._right[one]] = await asked(self.long, one)
        return self._right[one]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def pair(loop: asyncio.Runner, opened: gr.FeatureStore) -> Iterator[Pair]:
    made = Pair(opened)
    both = running(made.short, made.long)
    loop.run(both.__aenter__())
    try:
        loop.run(asked(made.short, *[ODD[name] for name in sorted(GOES_SHORT)]))  # plans are made by threads
        yield made
    finally:
        loop.run(both.__aexit__(None, None, None))


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def run(loop: asyncio.Runner) -> Run:
    return loop.run


@pytest.mark.parametrize("name", ODD)
def test_it_is_answered_as_the_long_way_answers_it(
    pair: Pair, run: Run, counted: dict[int, int], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        expected = await pair.right(ODD[name])
        counted.clear()
        [found] = await asked(pair.short, ODD[name])
        assert same(found, expected), (found, expected)
        assert counted.get(id(pair.short.shell), 0) == (name in GOES_SHORT)

    run(check())
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.parametrize("name", [name for name, one in ODD.items() if len(one) < 1000])
def test_wherever_it_is_split(pair: Pair, run: Run, name: str) -> None:
    one = ODD[name]

    async def check() -> None:
        expected = await pair.right(one)
        for place in range(1, len(one), 1 if len(one) < 400 else 3):
            wire = Wire(pair.short)
            wire.send(one[:place])
            for _ in range(place % 3):  # the rest comes at once, or when the start was looked at
                await asyncio.sleep(0)
            wire.send(one[place:])
            [found] = await wire.answers(1)
            assert same(found, expected), (place, found, expected)
            wire.close()

    run(check())


@pytest.mark.parametrize("name", ["a view", "a body in chunks, with trailers", "another protocol", "health", "no JSON"])
def test_byte_by_byte(pair: Pair, run: Run, name: str) -> None:
    async def check() -> None:
        wire = Wire(pair.short)
        for byte in ODD[name]:
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        [found] = await wire.answers(1)
        assert same(found, await pair.right(ODD[name]))
        wire.close()

    run(check())


def test_who_asks_first_whether_to_go_on_is_told_to(pair: Pair, run: Run) -> None:
    one = asking(VIEW, "expect: 100-continue", id="r")
    head, _, body = one.partition(b"\r\n\r\n")

    async def check() -> None:
        wire = Wire(pair.short)
        wire.send(ODD["a view"] + head + b"\r\n\r\n")
        await until(lambda: b"100 Continue" in wire.said)
        wire.send(body)
        first, proceed, found = await wire.answers(3)
        assert (first.status, proceed.status) == (200, 100)
        assert same(found, await pair.right(ODD["a view"]))
        wire.close()

    run(check())


_KEPT: Final = [name for name in ODD if name not in ("HTTP/1.0", "HTTP/1.0, kept", "the last one")]
"""After these the connection goes on."""


@pytest.mark.usefixtures("writing")
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # threads of the server do, meanwhile
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_comes_on_one_connection_is_answered_in_its_order(pair: Pair, run: Run, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(_KEPT), min_size=1, max_size=12))
    # each has an id of its own, so an answer that is another's is seen
    asked_for = [
        ODD[name].replace(b"x-request-id: r\r\n", b"x-request-id: r%d\r\n" % n) for n, name in enumerate(names)
    ]
    together = b"".join(asked_for)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(together) - 1)), max_size=5)))
    pieces = [together[start:end] for start, end in zip([0, *cuts], [*cuts, len(together)], strict=True)]

    async def check() -> None:
        wire = Wire(pair.short)
        await wire.send_as_it_reads(*pieces)
        found = await wire.answers(len(names))
        assert len(found) == len(names)
        for answer, one in zip(found, asked_for, strict=True):
            assert same(answer, await pair.right(one)), (one[:300], answer)
        await until(lambda: pair.short.shell.in_flight == 0)
        wire.close()

    run(check())


# -- refusals ------------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """What an application made of requests: what it said, counted and has left."""

    answers: list[Answer]
    seen: dict[tuple[str, str], tuple[int, int]]
    """By route and view, requests and those among them that were refused."""
    refused: dict[str, int]


async def counted_by(app: App, requests: Sequence[bytes], *, together: bool) -> Counted:
    """Requests on one connection, in one piece or each when the one before it was answered."""
    async with running(app):
        wire = Wire(app)
        if together:
            wire.send(b"".join(requests))
            answers = await wire.answers(len(requests))
        else:
            answers = []
            for one in requests:
                wire.send(one)
                answers += await wire.answers(1)
        wire.close()
        found = app.shell.metrics.snapshot()
        return Counted(answers, {(e.route, e.view): (e.count, e.errors) for e in found.latencies}, found.refused)


def check_refused(
    run: Run, make: Callable[[bool], App], requests: Sequence[bytes], statuses: Sequence[int], *, together: bool = False
) -> Counted:
    """Both ways say and count the same; returns what the short way did."""
    found: list[Counted] = []

    async def check() -> None:
        for short in (True, False):
            found.append(await counted_by(make(short), requests, together=together))

    run(check())
    assert [answer.status for answer in found[0].answers] == list(statuses)
    assert all(same(*both) for both in zip(*(each.answers for each in found), strict=True)), found
    assert (found[0].seen, found[0].refused) == (found[1].seen, found[1].refused)
    assert sum(count for count, _ in found[0].seen.values()) == len(requests)
    assert sum(errors for _, errors in found[0].seen.values()) == sum(status >= 400 for status in statuses)
    return found[0]


@pytest.fixture(scope="module")
def guarded(loaded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.FeatureStore]:
    """The store of a shop that has keys."""
    folder = tmp_path_factory.mktemp("guarded") / "shop"
    shutil.copytree(loaded_folder, folder)
    with gr.FeatureStore(folder) as store:
        yield store


@pytest.fixture(scope="module")
def keys(guarded: gr.FeatureStore) -> dict[str, str]:
    """Keys that are good, expired and revoked, and one whose owner may not read what the view has."""
    of, now = guarded.security.keys, dt.datetime.now(dt.UTC)
    made = {name: of.create(name, role="viewer", now=now) for name in ("viewer", "revoked", "denied")}
    long_ago = now - dt.timedelta(days=2)
    made["expired"] = of.create("expired", role="viewer", now=long_ago, expires_at=now - dt.timedelta(days=1))
    of.revoke(made["revoked"].info.id, now=now)
    guarded.security.policies.create(Policy("closed", "deny", ("group:shops",), ("key:denied",)), now=now)
    return {name: key.text for name, key in made.items()}


class TestRefusals:
    @pytest.mark.parametrize("name", ["expired", "revoked", "denied", "wrong", "none", "scheme", "project"])
    def test_of_who_is_not_known_or_may_not(
        self, guarded: gr.FeatureStore, keys: dict[str, str], run: Run, name: str
    ) -> None:
        good = f"authorization: Bearer {keys['viewer']}"
        said = {
            "wrong": ["x-api-key: grange_shop_wrong"],
            "none": [],
            "scheme": ["authorization: Basic abc"],
            "project": [good, "x-grange-project: other"],
        }.get(name) or [f"x-api-key: {keys[name]}" for name in [name] if name in keys]
        requests = [asking(VIEW, good, id="a"), asking(VIEW, *said, id="b"), asking(VIEW, good, id="c")]
        status = 403 if name == "denied" else 401
        found = check_refused(run, lambda short: make_app(guarded, short=short), requests, [200, status, 200])
        assert sum(found.refused.values()) == 1

    def test_of_a_caller_over_its_rate_counts_each_request_once(self, opened: gr.FeatureStore, run: Run) -> None:
        async def check() -> None:
            for short in (True, False):
                app = make_app(opened, short=short, rate_limit=4)
                app.shell._rates._rate = 1e-9  # a bucket of four that does not fill again
                found = await counted_by(app, [asking(VIEW, id=f"r{n}") for n in range(6)], together=True)
                assert [each.status for each in found.answers] == [200] * 4 + [429] * 2
                assert found.seen == {(ONLINE, "shopping"): (4, 0), (ONLINE, ""): (2, 2)}
                assert found.refused == {"OverloadedError": 2}

        run(check())

    @pytest.mark.parametrize("body", [b" " * 300, b"[" * 300])
    def test_of_a_body_that_is_too_large(self, opened: gr.FeatureStore, run: Run, body: bytes) -> None:
        requests = [asking(VIEW, id="a"), asking(body, id="b"), asking(VIEW, id="c")]
        make = lambda short: make_app(opened, short=short, max_body=200)  # noqa: E731
        assert check_refused(run, make, requests, [200, 413, 200]).refused == {"TooLargeError": 1}
        in_chunks = asking(None, "transfer-encoding: chunked", id="b") + b"12c\r\n" + body + b"\r\n0\r\n\r\n"
        requests[1] = in_chunks
        assert check_refused(run, make, requests, [200, 413, 200]).refused == {"TooLargeError": 1}

    @pytest.mark.parametrize("name", ["no JSON", "no such view", "too deep in a row", "no rows", "what nobody foresaw"])
    def test_of_what_cannot_be_answered(
        self, opened: gr.FeatureStore, run: Run, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        status = {"no such view": 404, "too deep in a row": 413, "what nobody foresaw": 500}.get(name, 422)
        requests = [ODD["a view"], ODD[name], ODD["a view"]]
        found = check_refused(
            run, lambda short: make_app(opened, short=short), requests, [200, status, 200], together=True
        )
        assert sum(found.refused.values()) == 1
        told = [each for each in caplog.records if each.name == "grange.http" and each.exc_info]
        assert len(told) == (2 if status == 500 else 0), "once for each of both"

    def test_of_requests_over_the_number_at_once(self, opened: gr.FeatureStore, run: Run) -> None:
        async def check() -> None:
            for short in (True, False):
                app = make_app(opened, short=short, max_in_flight=2)
                async with running(app):
                    waiting = [Wire(app), Wire(app)]
                    for wire in waiting:
                        wire.send(asking({}, path=SLOW, id="a"))
                    await until(lambda app=app: app.held.asked == 2)  # type: ignore[misc]
                    [refused] = await asked(app, asking(VIEW, id="b"))
                    assert (refused.status, dict(refused.headers)["retry-after"]) == (429, "1")
                    [health] = await asked(app, asking(method="GET", path="/health/live"))
                    assert health.status == 200
                    assert app.shell.in_flight == 2
                    app.held.release()
                    for wire in waiting:
                        [answer] = await wire.answers(1)
                        assert answer.status == 200
                        wire.close()
                    [answer] = await asked(app, asking(VIEW, id="b"))
                    assert answer.status == 200
                    assert app.shell.metrics.snapshot().refused == {"OverloadedError": 1}

        run(check())

    def test_with_traces_there_is_a_span_for_each(
        self, opened: gr.FeatureStore, run: Run, counted: dict[int, int]
    ) -> None:
        pytest.importorskip("opentelemetry.sdk", reason="pip install 'grange[tracing]'")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from grange.http.tracing import Tracing

        provider, kept = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(kept))

        async def check() -> None:
            app = make_app(opened, tracing=Tracing(provider))
            found = await counted_by(app, [ODD["a view"]] * 3, together=True)
            assert [answer.status for answer in found.answers] == [200] * 3
            assert counted == {id(app.shell): 0}

        run(check())
        assert len(kept.get_finished_spans()) == 3


# -- what is no request ----------------------------------------------------------------------------------------------

_HEAD: Final = f"POST {ONLINE} HTTP/1.1\r\nhost: localhost\r\n".encode()
_BODY: Final = json.dumps(VIEW).encode()
_SIZED: Final = b"content-length: %d\r\n" % len(_BODY)
NO_REQUEST: Final = {
    "a length, and chunks": _HEAD + _SIZED + b"transfer-encoding: chunked\r\n\r\n" + chunked(VIEW),
    "chunks, and a length": _HEAD + b"transfer-encoding: chunked\r\n" + _SIZED + b"\r\n" + _BODY,
    "a length, and chunks in odd cases": _HEAD + _SIZED + b"tRANSFER-eNCODING: cHUNKED\r\n\r\n" + chunked(VIEW),
    "two lengths": _HEAD + _SIZED + b"Content-length: 2\r\n\r\n" + _BODY,
    "the same length twice": _HEAD + _SIZED + _SIZED + b"\r\n" + _BODY,
    "lengths in one": _HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a length with a sign": _HEAD + b"content-length: +2\r\n\r\n{}",
    "a length beyond counting": _HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}",
    "a space before a colon": _HEAD + b"content-length : 2\r\n\r\n{}",
    "another coding": _HEAD + b"transfer-encoding: xchunked\r\n\r\n" + _BODY,
    "chunks not at the end": _HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + chunked(VIEW),
    "a chunk of no size": _HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk that is longer": _HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "NUL": _HEAD + b"x: a\0b\r\n\r\n",
    "a lone CR": _HEAD + b"x: a\rcontent-length: 2\r\n\r\n{}",
    "a lone LF": _HEAD + b"x: a\ncontent-length: 2\r\n\r\n{}",
    "a folded header": _HEAD + b"x: a\r\n b\r\n\r\n",
    "no header": _HEAD + b"nothing\r\n\r\n",
    "no method": b"{}",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "another protocol's beginning": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
TOO_LARGE: Final = {
    "a header": _HEAD + b"x: " + b"a" * MAX_HEAD,
    "headers": _HEAD + b"x: aaaaaaaaaaaaaaaaaa\r\n" * (MAX_HEAD // 20),
    "a path": b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\n\r\n",
}


class TestWhatIsNoRequest:
    """It is refused once, after the answers to what came before it, and nothing that follows is looked at."""

    @pytest.mark.parametrize("end", [*NO_REQUEST, *TOO_LARGE])
    @pytest.mark.usefixtures("writing")
    @pytest.mark.parametrize("before", ["nothing", "a short way", "a long way", "one that waits", "three that wait"])
    def test_comes_last(
        self, pair: Pair, run: Run, before: str, end: str, counted: dict[int, int], caplog: pytest.LogCaptureFixture
    ) -> None:
        app = pair.short
        first = {
            "nothing": [],
            "a short way": [asking(VIEW, id="r0"), asking(VIEW, id="r1")],
            "a long way": [asking(VIEW, path=ONLINE + "?x=y", id="r0")],
            "one that waits": [asking({}, path=SLOW, id="r0")],
            "three that wait": [asking({}, path=SLOW + "?", id=f"r{n}") for n in range(3)],
        }[before]

        async def check() -> None:
            wire = Wire(app)
            wire.send(b"".join(first) + (NO_REQUEST | TOO_LARGE)[end])
            wire.send(asking(VIEW, id="smuggled"))
            for _ in range(len(first)):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                app.held.release()
            await until(lambda: wire.closes)
            found = answers_of(bytes(wire.said))
            assert [each.id for each in found[:-1]] == [f"r{n}" for n in range(len(first))]
            assert [each.status for each in found[:-1]] == [200] * len(first)
            assert found[-1].status == (431 if end in TOO_LARGE else 400)
            assert dict(found[-1].headers)["connection"] == "close"
            await until(lambda: app.shell.in_flight == 0)

        run(check())
        assert counted.get(id(app.shell), 0) == {"a short way": 2, "one that waits": 1}.get(before, 0)
        assert "Traceback" not in caplog.text

    def test_breaks_off_the_request_that_it_is_in(self, pair: Pair, run: Run) -> None:
        """One whose body was looked for already, and one that waits behind another."""

        async def check() -> None:
            start = _HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
            for first in ((), (asking({}, path=SLOW, id="r0"),)):
                wire = Wire(pair.short)
                wire.send(*first, start)
                await asyncio.sleep(0)
                wire.send(b"zz\r\n")
                await asyncio.sleep(0)
                pair.short.held.release()
                await until(lambda wire=wire: wire.closes)  # type: ignore[misc]
                assert [each.status for each in answers_of(bytes(wire.said))] == [200] * len(first) + [400]
                await until(lambda: pair.short.shell.in_flight == 0)

        run(check())

    def test_a_body_that_is_longer_than_it_says_ends_the_connection(self, pair: Pair, run: Run) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            wire.send(_HEAD + b"content-length: 2\r\n\r\n{}" + _BODY)
            assert [each.status for each in await wire.answers(2)] == [422, 400]
            assert wire.closes

        run(check())

    def test_a_body_that_is_shorter_than_it_says_takes_what_follows(self, pair: Pair, run: Run) -> None:
        """It is data then, and never a request."""

        async def check() -> None:
            wire, health = Wire(pair.short), asking(method="GET", path="/health/live")
            size = len(_BODY) + len(health)
            wire.send(_HEAD + b"content-length: %d\r\n\r\n" % size + _BODY + health)
            assert [each.status for each in await wire.answers(1)] == [422]
            wire.send(health)
            assert [each.status for each in await wire.answers(1)] == [200]
            wire.close()

        run(check())

    def test_what_stands_behind_a_body_is_no_header(
        self, guarded: gr.FeatureStore, keys: dict[str, str], run: Run
    ) -> None:
        """However the bytes come: a key there lets nobody in."""
        start = asking(None, "transfer-encoding: chunked", id="r") + chunked(VIEW)[:-2]
        key = f"x-api-key: {keys['viewer']}\r\n\r\n".encode()

        async def check() -> None:
            for short in (True, False):
                app = make_app(guarded, short=short)
                async with running(app):
                    for pieces in ((start + key,), (start, key)):
                        wire = Wire(app)
                        wire.send(*pieces)
                        assert [each.status for each in await wire.answers(1)] == [401]
                        wire.close()

        run(check())

    def test_the_body_of_one_that_asks_for_another_protocol_is_its_body(self, pair: Pair, run: Run) -> None:
        """Not the next request, though it looks like one, and comes when its head was read."""
        health = asking(method="GET", path="/health/live", id="smuggled")
        for said in ("upgrade: h2c", "upgrade: websocket"):
            one = asking(health, "connection: upgrade", said, id="r")

            async def check(one: bytes = one) -> None:
                for place in range(1, len(one), 7):
                    wire = Wire(pair.short)
                    wire.send(one[:place], one[place:] + ODD["a view"])
                    assert [(each.id, each.status) for each in await wire.answers(2)] == [("r", 422), ("r", 200)]
                    wire.close()

            run(check())

    def test_many_that_ask_for_another_protocol_come_in_one_piece(self, pair: Pair, run: Run) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            one = asking(None, "connection: upgrade", "upgrade: x", method="GET", path="/health/live")
            wire.send(one * 2_000)
            assert [each.status for each in await wire.answers(2_000)] == [200] * 2_000
            wire.close()

        run(check())


# -- answers that are awaited ----------------------------------------------------------------------------------------


class TestAnAnswerThatIsAwaited:
    """On the short way, and on the long one."""

    PATHS: Final = pytest.mark.parametrize("path", [SLOW, SLOW + "?"], ids=["short", "long"])

    @PATHS
    @pytest.mark.usefixtures("writing")
    def test_comes_before_those_to_what_was_asked_after_it(self, pair: Pair, run: Run, path: str) -> None:
        app = pair.short

        async def check() -> None:
            wire = Wire(app)
            wire.send(asking(VIEW, id="r0") + asking({}, path=path, id="r1") + asking(VIEW, id="r2") + ODD["health"])
            assert [each.id for each in await wire.answers(1)] == ["r0"]
            assert not wire.is_reading
            await until(lambda: app.held.asked > 0)
            assert (wire.said, app.shell.in_flight) == (b"", 1)
            app.held.release()
            assert [each.id for each in await wire.answers(3)] == ["r1", "r2", "r"]
            await until(lambda: wire.is_reading)
            wire.send(asking(VIEW, id="r3"))
            assert [each.id for each in await wire.answers(1)] == ["r3"]
            await until(lambda: app.shell.in_flight == 0)
            wire.close()

        run(check())

    @PATHS
    @pytest.mark.parametrize("behind", [b"", ODD["a view"], ODD["a view"][:40], b"garbage"])
    def test_to_a_client_that_is_gone_is_let_go_of(
        self, opened: gr.FeatureStore, run: Run, path: str, behind: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def check() -> None:
            app = make_app(opened)
            async with running(app):
                wire = Wire(app)
                wire.send(asking({}, path=path, id="r") + behind)
                await until(lambda: app.held.asked == 1)
                wire.said.clear()
                wire.hang_up()
                assert app.shell.in_flight == 1
                app.held.release()
                await until(lambda: not wire.state.tasks)
                assert (wire.said, app.shell.in_flight, wire.state.connections) == (b"", 0, set())
                [latency] = app.shell.metrics.snapshot().latencies
                assert latency.count == 1

        with caplog.at_level(logging.DEBUG, "grange.http"):
            run(check())
        assert not [record for record in caplog.records if record.exc_info]
        assert [record.request["status"] for record in caplog.records if hasattr(record, "request")] in ([200], [499])

    @PATHS
    def test_that_takes_longer_than_a_connection_may_lie_idle_comes_all_the_same(
        self, pair: Pair, run: Run, path: str
    ) -> None:
        async def check() -> None:
            wire = Wire(pair.short, timeout_keep_alive=0.02)
            wire.send(asking(VIEW, id="r0") + asking({}, path=path, id="r1"))
            await asyncio.sleep(0.1)
            assert not wire.closes
            pair.short.held.release()
            assert [each.id for each in await wire.answers(2)] == ["r0", "r1"]
            await until(lambda: wire.closes)

        run(check())

    @PATHS
    @pytest.mark.parametrize("behind", [b"", ODD["a view"]])
    def test_comes_when_the_server_was_told_to_stop(self, pair: Pair, run: Run, path: str, behind: bytes) -> None:
        """The last one on the connection says so."""

        async def check() -> None:
            wire = Wire(pair.short)
            wire.send(asking({}, path=path, id="r") + behind)
            await until(lambda: len(pair.short.held.waiting) == 1)
            wire.protocol.shutdown()
            assert not wire.closes
            pair.short.held.release()
            found = await wire.answers(2 if behind else 1)
            assert [each.status for each in found] == [200] * len(found)
            assert ["connection" in dict(each.headers) for each in found] == [False, True][-len(found) :]
            assert wire.closes

        run(check())

    @PATHS
    def test_that_is_cut_off_ends_the_connection(self, opened: gr.FeatureStore, run: Run, path: str) -> None:
        """As the server does when its time to stop is up: whatever came next would be taken for the answer."""

        async def check() -> None:
            app = make_app(opened)
            async with running(app):
                wire = Wire(app)
                wire.send(asking({}, path=path, id="r"))
                await until(lambda: len(app.held.waiting) == 1)
                for task in wire.state.tasks:
                    task.cancel()
                await until(lambda: wire.closes and not wire.state.tasks)
                assert b" 200 " not in wire.said
                assert app.shell.in_flight == 0
                assert app.shell.metrics.snapshot().refused == {"cut_off": 1}

        run(check())

    @PATHS
    def test_may_be_that_it_failed(self, pair: Pair, run: Run, path: str, caplog: pytest.LogCaptureFixture) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            for error, status in (
                (ZeroDivisionError("hidden"), 500),
                (RecursionError(), 413),
                (RequestError("no"), 422),
            ):
                wire.send(asking({}, path=path, id="r"))
                await until(lambda: len(pair.short.held.waiting) == 1)
                pair.short.held.release(error)
                [found] = await wire.answers(1)
                assert (found.status, b"hidden" in found.body) == (status, False)
            wire.send(ODD["a view"])
            assert [each.status for each in await wire.answers(1)] == [200]
            wire.close()

        run(check())
        assert sum(bool(record.exc_info) for record in caplog.records) == 1


class TestConnectionsThatWait:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "HEADERS_S", 0.02)

    @pytest.mark.parametrize("start", [b"", b"P", _HEAD, b"\r\n", ODD["a view"] + b"POST", ODD["health"] + _HEAD])
    def test_for_a_head_are_closed(self, pair: Pair, run: Run, start: bytes) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            wire.send(start)
            await until(lambda: wire.closes)
            assert all(each.status == 200 for each in answers_of(bytes(wire.said)))

        run(check())

    @pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
    def test_for_nothing_are_closed(self, pair: Pair, run: Run, end: bytes) -> None:
        """Also those where something came that is no part of a request."""

        async def check() -> None:
            for first in (ODD["a view"], ODD["health"]):
                wire = Wire(pair.short, timeout_keep_alive=0.02)
                wire.send(first)
                assert len(await wire.answers(1)) == 1
                wire.send(end)
                await until(lambda wire=wire: wire.closes)  # type: ignore[misc]

        run(check())

    def test_for_their_answers_are_not(self, pair: Pair, run: Run) -> None:
        """Though the next head is not there whole: it may be the server that does not read on."""

        async def check() -> None:
            wire = Wire(pair.short)
            wire.send(asking({}, path=SLOW, id="r0") + asking(VIEW, id="r1") + _HEAD)
            await asyncio.sleep(0.1)
            assert not wire.closes
            pair.short.held.release()
            await until(lambda: wire.closes)
            assert [each.id for each in answers_of(bytes(wire.said))] == ["r0", "r1"]

        run(check())

    def test_for_a_body_are_not(self, pair: Pair, run: Run) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            one = ODD["a view"]
            wire.send(one[:-3])
            await asyncio.sleep(0.1)
            wire.send(one[-3:])
            assert [each.status for each in await wire.answers(1)] == [200]
            wire.close()

        run(check())


# -- what is kept, and what goes out ---------------------------------------------------------------------------------


class TestWhatIsKept:
    @pytest.mark.parametrize("name", ["a view", "health", "a query"])
    @pytest.mark.parametrize("waits", [False, True])
    def test_is_no_more_than_one_read_brings(self, pair: Pair, run: Run, name: str, waits: bool) -> None:
        """However much a client sends, and whether it reads what it is told or not."""
        at_once = 20

        async def check() -> None:
            wire = Wire(pair.short)
            if waits:
                wire.protocol.pause_writing()
            sent = 0
            for _ in range(2_000):
                if wire.is_reading and sent < 60 * at_once:
                    wire.send(ODD[name] * at_once)
                    sent += at_once
                await asyncio.sleep(0)
                assert len(wire.protocol.pipeline) <= at_once
            wire.protocol.resume_writing()
            assert sent <= 2 * at_once if waits else sent == 60 * at_once
            assert [each.status for each in await wire.answers(sent)] == [200] * sent
            wire.close()

        run(check())

    def test_a_server_that_is_gone_leaves_nothing(self) -> None:
        async def of_this_loop() -> tuple[weakref.ref[Any], bool]:
            found = asyncio.get_running_loop()
            return weakref.ref(found), Writer.of(found) is Writer.of(found)

        seen, is_one = asyncio.run(of_this_loop())
        gc.collect()
        assert is_one
        assert seen() is None


@pytest.mark.usefixtures("writing")
class TestWhatGoesOut:
    def test_is_not_held_up_by_a_connection_that_is_lost(self, pair: Pair, run: Run) -> None:
        async def check() -> None:
            wires = [Wire(pair.short) for _ in range(3)]
            for place, wire in enumerate(wires):
                wire.send(asking(VIEW, id=f"r{place}"))
            wires[1].hang_up()
            for place in (0, 2):
                assert [each.id for each in await wires[place].answers(1)] == [f"r{place}"]
                wires[place].close()

        run(check())

    @pytest.mark.parametrize("how", ["told to stop", "half closed"])
    def test_goes_out_before_the_end(self, pair: Pair, run: Run, how: str) -> None:
        async def check() -> None:
            wire = Wire(pair.short)
            wire.send(asking(VIEW, id="r0") + asking(VIEW, id="r1"))
            if how == "told to stop":
                wire.protocol.shutdown()
                assert wire.closes
            else:
                assert not wire.protocol.eof_received()
            assert [each.id for each in answers_of(bytes(wire.said))] == ["r0", "r1"]
            wire.close()

        run(check())

    def test_of_many_requests_keeps_their_order(self, pair: Pair, run: Run) -> None:
        async def check() -> None:
            wires = [Wire(pair.short) for _ in range(4)]
            for start in range(0, 60, 3):
                for wire in wires:
                    names = [("a view", "a query", "no JSON")[n % 3] for n in range(start, start + 3)]
                    wire.send(
                        b"".join(ODD[e].replace(b"-id: r\r\n", b"-id: r%d\r\n" % n) for n, e in enumerate(names, start))
                    )
                await asyncio.sleep(0)
            for wire in wires:
                assert [each.id for each in await wire.answers(60)] == [f"r{n}" for n in range(60)]
                wire.close()

        run(check())


# -- over sockets ----------------------------------------------------------------------------------------------------


class Running:
    """A server in a thread of this process."""

    def __init__(self, app: App, loop: str, certificate: tuple[Path, Path] | None) -> None:
        self.port = free_port()
        self._trusted = None if certificate is None else ssl.create_default_context(cafile=str(certificate[1]))
        files = {} if certificate is None else {"ssl_keyfile": certificate[0], "ssl_certfile": certificate[1]}
        config = uvicorn.Config(
            app.shell, host="127.0.0.1", port=self.port, loop=loop, http=Protocol, ws="none", lifespan="on",
            log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=30,
            headers=[("x-every", "answer")], **files,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started

    def connect(self, room: int = 0) -> socket.socket:
        """A connection, on whose other end there is so much room."""
        plain = socket.socket()
        if room:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain if self._trusted is None else self._trusted.wrap_socket(plain, server_hostname="localhost")

    def stop(self) -> None:
        """Stop it, and wait for that."""
        self.server.should_exit = True
        self._thread.join(40)
        assert not self._thread.is_alive()


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Until something is so."""
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.005)


def received(connection: socket.socket, count: int | None = None) -> list[Answer]:
    """So many answers; all until the connection ends without."""
    data, found = b"", list[Answer]()
    while count is None or len(found) < count:
        with contextlib.suppress(ConnectionResetError):
            if part := connection.recv(1 << 20):
                data += part
                while (answer := taken(data))[0] is not None:
                    found.append(answer[0])
                    data = answer[1]
                continue
        assert count is None, (found, data)
        break
    assert not data
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    for name, content in zip(("key.pem", "certificate.pem"), self_signed(), strict=True):
        (folder / name).write_bytes(content)
    return folder / "key.pem", folder / "certificate.pem"


@pytest.fixture(params=["uvloop", "asyncio", "uvloop, TLS", "asyncio, TLS"])
def app_and_server(
    request: pytest.FixtureRequest, opened: gr.FeatureStore, certificate: tuple[Path, Path]
) -> Iterator[tuple[App, Running]]:
    loop, _, tls = request.param.partition(", ")
    app = make_app(opened)
    server = Running(app, loop, certificate if tls else None)
    yield app, server
    server.stop()
    assert app.shell.in_flight == 0


class TestOverSockets:
    def test_all_sorts_of_requests_in_one_piece(
        self, app_and_server: tuple[App, Running], pair: Pair, run: Run, counted: dict[int, int]
    ) -> None:
        app, server = app_and_server
        names = [*(name for name in _KEPT if len(ODD[name]) < 1000), "a view", "a view"]

        async def check() -> None:
            expected = [await pair.right(ODD[name]) for name in names]
            for found in answers:
                for both in zip(found, expected, strict=True):
                    assert same(*both), both

        answers = []
        for size in (1_000_000, 700, 33):
            together = b"".join(ODD[name] for name in names)
            with server.connect() as connection:
                for start in range(0, len(together), size):
                    connection.sendall(together[start : start + size])
                answers.append(received(connection, len(names)))
        with server.connect() as connection:
            for name in ("a view",) * 20:
                connection.sendall(ODD[name])
                assert [each.status for each in received(connection, 1)] == [200]
        run(check())
        assert counted[id(app.shell)] >= 20

    def test_a_client_that_does_not_read_costs_no_more_than_a_few_answers(
        self, app_and_server: tuple[App, Running]
    ) -> None:
        """Answers of 100 kB to requests of 60 kB each: what is not read is not worked on either."""
        app, server = app_and_server
        rows = [{"user_id": f"u{n}", "shop_id": n % 3} for n in range(900)]
        one = asking({"features": "shopping", "rows": rows, "now": NOW}, id="r")
        with server.connect(room=65_536) as connection:
            connection.settimeout(0.5)
            sent = one * 1_500
            left = memoryview(sent)
            with contextlib.suppress(TimeoutError):
                while left:
                    left = left[connection.send(left[:65_536]) :]
            assert left, "the server read all of it"
            [held] = server.server.server_state.connections
            assert len(held.pipeline) <= 1 + (1 << 20) // len(one)
            assert held.transport.get_write_buffer_size() < 4 << 20
            assert app.shell.metrics.snapshot().in_flight <= 1
            connection.settimeout(30)
            # to the end of a request, and no less than was on its way when it was given up: TLS wants that again
            begun = len(sent) - len(left)
            whole = -(-(begun + 65_536) // len(one))
            rest = threading.Thread(target=connection.sendall, args=(sent[begun : whole * len(one)],))
            rest.start()
            found = received(connection, whole)
            rest.join()
        assert {(each.status, len(each.json["features"])) for each in found} == {(200, 900)}

    def test_nothing_that_was_answered_is_lost_when_it_stops(self, app_and_server: tuple[App, Running]) -> None:
        app, server = app_and_server
        connections = [server.connect() for _ in range(64)]
        found: dict[int, list[Answer]] = {}

        def read(place: int) -> None:
            with connections[place]:
                found[place] = received(connections[place])

        readers = [threading.Thread(target=read, args=(place,)) for place in range(len(connections))]
        for place, connection in enumerate(connections):
            connection.sendall(b"".join(asking(VIEW, id=f"{place}.{n}") for n in range(20)))
        for reader in readers:
            reader.start()
        wait_until(lambda: app.shell.metrics.snapshot().latencies != ())
        server.stop()
        for reader in readers:
            reader.join(30)
        for place, answers in found.items():
            assert [each.id for each in answers] == [f"{place}.{n}" for n in range(len(answers))]
            assert {each.status for each in answers} <= {200}
        counted = sum(each.count for each in app.shell.metrics.snapshot().latencies)
        assert sum(map(len, found.values())) == counted > 0

    def test_a_client_that_closes_its_half_is_answered(self, app_and_server: tuple[App, Running]) -> None:
        _, server = app_and_server
        with server.connect() as first:
            first.sendall(ODD["a view"])  # a shape is answered by a thread when it is new
            received(first, 1)
        with server.connect() as connection:
            connection.sendall(ODD["a view"] * 3)
            if not isinstance(connection, ssl.SSLSocket):
                connection.shutdown(socket.SHUT_WR)
            assert len(received(connection, 3)) == 3


# -- processes -------------------------------------------------------------------------------------------------------


def test_workers_that_are_told_to_stop_answer_in_order_up_to_the_end(folder: Path) -> None:
    server = Served(folder, "--workers", "2")
    try:
        connections = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(64)]
        for place, connection in enumerate(connections):
            connection.sendall(b"".join(asking(VIEW, id=f"{place}.{n}") for n in range(20)))
        first = received(connections[0], 1)
    finally:
        assert server.stop() == 0
    assert first[0].status == 200
    for place, connection in enumerate(connections[1:], 1):
        with connection:
            found = received(connection)
        assert [each.id for each in found] == [f"{place}.{n}" for n in range(len(found))]
        assert {each.status for each in found} <= {200}
    connections[0].close()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(valkey.missing() is not None, reason=valkey.missing() or "")
def test_answers_of_a_store_that_is_far_away(tmp_path: Path) -> None:
    """While it hangs, clients go away, pipeline, and the server is told to stop: who stayed is answered."""
    with valkey.server() as redis:
        folder = make_project(tmp_path / "shop", "shop")
        with (folder / "grange.toml").open("a") as settings:
            settings.write(f'[online]\ntype = "redis"\nurl = "{redis.url}"\ntimeout = 120.0\n')
            settings.write('[serving]\nstore_timeout = "120s"\n')
        with gr.FeatureStore(folder) as store:
            load(store)
        server = Served(folder, "--log-level", "debug")
        try:
            with contextlib.ExitStack() as opened:
                stays, behind, goes = (
                    opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 60)) for _ in range(3)
                )
                stays.sendall(ODD["a view"] + ODD["a view"])
                assert [each.json["features"][0]["country"] for each in received(stays, 2)] == ["FR"] * 2
                redis.pause()
                try:
                    stays.sendall(asking(VIEW, id="stays"))
                    behind.sendall(asking(VIEW, id="first") + ODD["health"] + asking(VIEW, id="last"))
                    goes.sendall(asking(VIEW, id="goes"))
                    wait_until(lambda: in_flight(server) == 4)
                    goes.close()
                    server.process.send_signal(signal.SIGTERM)
                    wait_until(lambda: not accepts(server.port))
                finally:
                    redis.resume()
                [answer] = received(stays)
                assert (answer.status, answer.id, dict(answer.headers)["connection"]) == (200, "stays", "close")
                answers = received(behind)
                assert [(each.id, each.status) for each in answers] == [("first", 200), ("r", 200), ("last", 200)]
                assert dict(answers[-1].headers)["connection"] == "close"
        finally:
            assert server.stop() == 0
    log = server.log.read_text()
    assert "Traceback" not in log and "never retrieved" not in log
    assert sum(f"POST {ONLINE} 200" in line for line in log.splitlines()) == 5
    assert sum(f"POST {ONLINE} 499" in line and "[goes]" in line for line in log.splitlines()) == 1


def in_flight(server: Served) -> int:
    """Requests being answered, this one among them."""
    found = re.search(r"^grange_requests_in_flight ([0-9.]+)", server.ask("/metrics").text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0
