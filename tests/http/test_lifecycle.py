"""A real server: from start to graceful end, with one worker and with several."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.conftest import Served

import grange as gr

ONLINE = {"features": "shopping", "rows": [{"user_id": "u1", "shop_id": 1}]}
URL = "/api/v1/serving/online"


def test_it_says_what_it_serves_and_where(server: Served) -> None:
    text = server.log.read_text()
    for said in (server.url, "shopping", "lmdb", "parquet", "this machine only"):
        assert said in text
    assert server.ask(URL, ONLINE).json()["features"][0]["country"] == "FR"


def test_told_to_stop_it_ends_well(server: Served) -> None:
    server.ask(URL, ONLINE)
    assert server.stop(signal.SIGTERM) == 0
    with pytest.raises(httpx.ConnectError):
        server.ask("/health/live")


def test_ctrl_c_ends_it_well(server: Served) -> None:
    assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.log.read_text()


class _Pushing:
    """Clients that push numbered rows until they are refused, and remember which were acknowledged."""

    def __init__(self, server: Served, count: int = 4) -> None:
        self.server = server
        self.sent = self.failed = 0
        self.acknowledged: list[int] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._push, args=(place,)) for place in range(count)]
        for thread in self._threads:
            thread.start()

    def _push(self, place: int) -> None:
        with httpx.Client(base_url=self.server.url, timeout=30) as client:
            for number in range(place, 1_000_000, len(self._threads)):
                row = {"user_id": f"p{number}", "at": "2026-03-12T00:00:00Z", "page": "x", "n": number}
                with self._lock:
                    self.sent += 1
                try:
                    answer = client.post("/push", json={"push_source_name": "click_events", "df": _columns(row)})
                except httpx.TransportError:
                    with self._lock:
                        self.failed += 1
                    return
                with self._lock:
                    if answer.status_code == 200:
                        self.acknowledged.append(number)
                    else:
                        self.failed += 1

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


def _columns(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_under_load_loses_no_acknowledged_write(folder: Path, workers: int) -> None:
    server = Served(folder, "--workers", str(workers))
    pushing = _Pushing(server)
    time.sleep(2)
    assert server.stop() == 0
    pushing.join()
    assert pushing.acknowledged
    with gr.FeatureStore(folder) as store:
        rows = [{"user_id": f"p{number}"} for number in pushing.acknowledged]
        online = store.get_online_features(["clicks:n"], rows, now=dt.datetime(2026, 4, 1, tzinfo=dt.UTC)).to_dicts()
        kept = set(store.read("clicks").polars["n"].to_list())
    lost = [n for n, row in zip(pushing.acknowledged, online, strict=True) if row["n"] != n or n not in kept]
    print(f"sent {pushing.sent}, right {len(pushing.acknowledged)}, refused {pushing.failed}, lost {len(lost)}")
    assert lost == []
    assert "Traceback" not in server.log.read_text()


def test_a_request_in_flight_is_answered_before_the_end(server: Served) -> None:
    """The connection is open, half of the body has come; the signal comes, then the other half."""
    body = json.dumps(ONLINE).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST {URL} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:10])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(body[10:])
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"country":"FR"' in answer
    assert server.stop() == 0


def test_probes_fail_from_the_signal_on(server: Served) -> None:
    """On a connection that is open already; new ones are not taken."""
    body = json.dumps(ONLINE).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        busy.sendall(f"POST {URL} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.2)
        # a second request waits behind the first one, on its connection: it is answered after the signal
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(httpx.TransportError):
            server.ask("/health/ready")
        busy.sendall(body)
        assert busy.recv(65536).startswith(b"HTTP/1.1 200")
    assert server.stop() == 0


class TestWorkers:
    def test_several_answer_and_their_numbers_are_added_up(self, folder: Path) -> None:
        server = Served(folder, "--workers", "2")
        try:
            for _ in range(40):
                with httpx.Client() as client:  # a connection each, so that both workers get some
                    assert client.post(server.url + URL, json=ONLINE).status_code == 200
            deadline = time.monotonic() + 10  # a worker tells the others what it counted twice a second
            while counted(server) != 40 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert counted(server) == 40
        finally:
            assert server.stop() == 0

    def test_one_that_crashed_is_started_again(self, folder: Path) -> None:
        server = Served(folder, "--workers", "2")
        try:
            before = children(server.process.pid)
            os.kill(before[0], signal.SIGKILL)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and (
                before[0] in children(server.process.pid) or len(children(server.process.pid)) < len(before)
            ):
                time.sleep(0.1)
            assert before[0] not in children(server.process.pid)
            for _ in range(20):
                assert server.ask(URL, ONLINE).status_code == 200
        finally:
            assert server.stop() == 0


def counted(server: Served) -> int:
    """Online requests that the metrics have."""
    found = re.search(r"grange_request_seconds_count\{[^}]*serving/online[^}]*\} (\d+)", server.ask("/metrics").text)
    return 0 if found is None else int(found[1])


def children(pid: int) -> list[int]:
    """The worker processes of a server: those that run its application."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[1] == str(pid) and b"spawn_main" in command:
            found.append(int(entry.name))
    return sorted(found)


def test_with_reload_a_changed_definition_starts_it_anew(folder: Path) -> None:
    server = Served(folder, "--reload")
    try:
        [first] = children(server.process.pid)
        time.sleep(1)
        file = folder / "shop_features.py"
        file.write_text(file.read_text() + "\n# changed\n")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and children(server.process.pid) in ([first], []):
            time.sleep(0.1)
        assert children(server.process.pid) != [first]
        server.wait()
        assert server.ask(URL, ONLINE).status_code == 200
    finally:
        server.stop()


class TestConnections:
    def test_headers_that_come_too_slowly_are_not_waited_for(self, folder: Path) -> None:
        """A connection that says nothing, and one that says a byte now and then."""
        server = Served(folder, environ={"GRANGE_SERVER__REQUEST_TIMEOUT": "2s"})
        try:
            with socket.create_connection(("127.0.0.1", server.port)) as silent:
                silent.settimeout(30)
                started = time.monotonic()
                silent.sendall(b"POST / HTTP/1.1\r\nx")
                assert silent.recv(1) == b""
                assert time.monotonic() - started < 25
        finally:
            server.stop()

    def test_heads_without_end_are_not_kept(self, server: Served) -> None:
        start = b"POST /api/v1/serving/online HTTP/1.1\r\nHost: localhost\r\n"
        chunked = start + b"Transfer-Encoding: chunked\r\n\r\n"
        for endless, more in (
            (start + b"X: ", b"a" * 65_536),  # one header
            (start, b"X: a\r\n" * 5_000),  # many
            (b"GET /", b"a" * 65_536),  # the path
            (chunked + b"2;", b"a" * 65_536),  # what may stand beside a chunk's length
            (chunked + b"2\r\n{}\r\n0\r\nX: ", b"a" * 65_536),  # one trailer
            (chunked + b"2\r\n{}\r\n0\r\n", b"X: a\r\n" * 5_000),  # many
        ):
            with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                connection.sendall(endless)
                with contextlib.suppress(ConnectionError):
                    for _ in range(1000):
                        connection.sendall(more)
                    pytest.fail("a head of dozens of megabytes was taken")
        kept = start + b"Content-Length: 2\r\nX: " + b"a" * 60_000 + b"\r\n\r\n{}"
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            for _ in range(3):  # each request has a head of its own
                connection.sendall(kept)
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(1000)
                assert answer.startswith(b"HTTP/1.1 422")

    def test_a_body_that_comes_too_slowly_is_refused(self, folder: Path) -> None:
        server = Served(folder, environ={"GRANGE_SERVER__REQUEST_TIMEOUT": "1s"})
        try:
            with socket.create_connection(("127.0.0.1", server.port)) as slow:
                slow.settimeout(30)
                slow.sendall(f"POST {URL} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{".encode())
                assert slow.recv(65536).startswith(b"HTTP/1.1 429")
        finally:
            server.stop()


class TestStarting:
    def test_listening_elsewhere_without_keys_is_refused(self, folder: Path) -> None:
        server = Served(folder, "--host", "0.0.0.0", wait=False)
        assert server.process.wait(30) == 4
        assert "grange key create" in server.log.read_text()

    def test_listening_elsewhere_with_a_key_is_not(self, folder: Path) -> None:
        with gr.FeatureStore(folder) as store:
            key = store.security.keys.create("app", role="viewer", now=dt.datetime.now(dt.UTC)).text
        server = Served(folder, "--host", "0.0.0.0")
        try:
            assert server.ask(URL, ONLINE).status_code == 401
            assert server.ask(URL, ONLINE, headers={"x-api-key": key}).status_code == 200
            assert key not in server.log.read_text()
        finally:
            server.stop()

    def test_an_address_that_is_taken_is_said(self, server: Served, folder: Path) -> None:
        second = Served(folder, "--port", str(server.port), wait=False)
        assert second.process.wait(30) == 2
        second.stop()
        assert "cannot listen" in second.log.read_text()

    def test_logs_in_json(self, folder: Path) -> None:
        server = Served(folder, "--log-level", "debug", environ={"GRANGE_SERVER__LOG_FORMAT": "json"})
        server.ask(URL, ONLINE, headers={"x-request-id": "find-me", "x-api-key": "a-secret"})
        server.ask("/api/v1/nothing%0aforged", headers={"x-request-id": "other"})
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        [line] = [line for line in lines if line.get("request_id") == "find-me"]
        assert line["route"] == URL
        assert line["status"] == 200
        assert line["view"] == "shopping"
        assert line["latency_ms"] > 0
        assert "a-secret" not in server.log.read_text()
        assert "u1" not in server.log.read_text()


def test_https_by_files(folder: Path) -> None:
    key, certificate = self_signed()
    (folder / "key.pem").write_bytes(key)
    (folder / "certificate.pem").write_bytes(certificate)
    environ = {"GRANGE_SERVER__TLS_CERTIFICATE": "certificate.pem", "GRANGE_SERVER__TLS_KEY": "key.pem"}
    server = Served(folder, environ=environ, wait=False)
    trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    url = f"https://localhost:{server.port}"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(url + URL, json=ONLINE, verify=trusted)
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert answer.json()["features"][0]["country"] == "FR"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://localhost:{server.port}/health/live")
    finally:
        assert server.stop() == 0


def test_tls_files_that_are_not_there_are_said(folder: Path) -> None:
    server = Served(folder, environ={"GRANGE_SERVER__TLS_CERTIFICATE": "nothing.pem"}, wait=False)
    assert server.process.wait(30) == 2
    assert "nothing.pem" in server.log.read_text()


def self_signed() -> tuple[bytes, bytes]:
    """A key, and a certificate for localhost that it signed itself, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
