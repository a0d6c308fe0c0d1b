"""What runs verbs: real connections, and what becomes of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import logging
import os
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.remote.servers import Played, breaks_off, cuts, drips, hangs, playing, says, says_and_leaves

import grange as gr
from grange.errors import OverloadedError, StoreUnavailableError

KEYWORDS = msgspec.json.encode({"tags": [], "owners": [{"owner": "payments", "definitions": 3}]})
FOUND = (("payments", 3),)
PUSHED = msgspec.json.encode(
    {"groups": [{"group": "g", "rows": 1, "online_rows": 1}], "quarantined": 0, "warnings": []}
)


def blocking(url: str, **options: Any) -> Callable[[], Any]:
    """Asks with the blocking store."""

    def ask() -> Any:
        with gr.FeatureStore(url, **options) as store:
            return store.keywords().owners

    return ask


def awaiting(url: str, **options: Any) -> Callable[[], Any]:
    """Asks with the other one."""

    async def ask() -> Any:
        async with gr.AsyncFeatureStore(url, **options) as store:
            return (await store.keywords()).owners

    return lambda: asyncio.run(ask())


@pytest.mark.parametrize("asking", [blocking, awaiting])
@pytest.mark.parametrize("bad", [cuts, breaks_off, says(503), says(502, b"<html>"), says(429, retry_after="0")])
def test_a_bad_moment_is_not_noticed(asking: Any, bad: Any) -> None:
    with playing(bad, bad, says(200, KEYWORDS)) as server:
        assert asking(server.url)() == FOUND
        assert len(server.requests) == 3


@pytest.mark.parametrize("asking", [blocking, awaiting])
@pytest.mark.parametrize("bad", [hangs, drips])
def test_an_answer_that_does_not_end_is_an_outage_in_time(asking: Any, bad: Any) -> None:
    with playing(bad) as server, pytest.raises(StoreUnavailableError, match="did not answer") as failed:
        asking(server.url, timeout=0.3)()

    assert failed.value.retry


@pytest.mark.parametrize("asking", [blocking, awaiting])
def test_no_server_is_an_outage_after_all_tries(asking: Any) -> None:
    with playing(cuts) as server:
        gone = server.url

    with pytest.raises(StoreUnavailableError, match="in 2 tries"):
        asking(gone, retries=1)()


@pytest.mark.parametrize("asking", [blocking, awaiting])
def test_what_is_still_busy_in_the_end_is_said(asking: Any) -> None:
    body = msgspec.json.encode(
        {"error": {"code": "GRANGE-509", "message": "too much", "details": {}, "request_id": "r"}}
    )

    with playing(says(429, body)) as server, pytest.raises(OverloadedError, match="too much"):
        asking(server.url, retries=2)()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The certificate of an authority of one's own, and a server's context with a certificate that it signed."""
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a shop of ours")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return folder / "ca.pem", context


@pytest.mark.parametrize("asking", [blocking, awaiting])
def test_only_certificates_of_ones_own_authority_are_trusted(
    asking: Any, authority: tuple[Path, ssl.SSLContext]
) -> None:
    certificates, context = authority
    with playing(says(200, KEYWORDS), tls=context) as server:
        assert asking(server.url, verify=certificates, key="gk_1")() == FOUND
        assert asking(server.url, verify=ssl.create_default_context(cafile=certificates))() == FOUND
        with pytest.raises(StoreUnavailableError, match="did not answer") as failed:
            asking(server.url, key="gk_2")()

    assert not failed.value.retry
    assert "certificate" in str(failed.value)
    assert not any(b"gk_2" in request for request in server.requests)


@pytest.mark.parametrize("asking", [blocking, awaiting])
def test_a_server_that_speaks_no_tls_is_an_outage(asking: Any) -> None:
    with playing(cuts) as server, pytest.raises(StoreUnavailableError):
        asking(server.url.replace("http://", "https://"), retries=0, timeout=0.5)()


def test_a_connection_that_ended_while_nobody_looked_is_not_noticed() -> None:
    with playing(says_and_leaves(200, KEYWORDS)) as server, gr.FeatureStore(server.url) as store:
        assert [store.keywords().owners for _ in range(5)] == [FOUND] * 5


def keys_of(server: Played) -> list[bytes]:
    """The Idempotency-Keys of the requests, in order."""
    heads = [request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n") for request in server.requests]
    return [line for head in heads for line in head if line.startswith(b"idempotency-key:")]


def test_a_write_is_the_same_write_however_often_it_is_sent() -> None:
    with playing(cuts, says(503), says(201, PUSHED)) as server, gr.FeatureStore(server.url) as store:
        store.push("g", [{"user_id": "u1"}])
        store.push("g", [{"user_id": "u1"}])

    first, again, third, next_push = keys_of(server)
    assert first == again == third != next_push
    assert len({request.partition(b"\r\n\r\n")[2] for request in server.requests}) == 1


def test_connections_are_kept_and_used_again() -> None:
    with playing(says(200, KEYWORDS)) as server, gr.FeatureStore(server.url) as store:
        for _ in range(5):
            store.keywords()
        assert server.connections == 1


def test_a_closed_store_opens_again() -> None:
    with playing(says(200, KEYWORDS)) as server:
        store = gr.FeatureStore(server.url)
        store.keywords()
        store.close()
        store.close()
        assert store.keywords().owners == FOUND
        store.close()


def test_many_threads_share_a_store() -> None:
    with playing(says(200, KEYWORDS)) as server, gr.FeatureStore(server.url) as store:
        together = threading.Barrier(8)

        def ask(_: int) -> Any:
            together.wait()
            return store.keywords().owners

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(64))) == [FOUND] * 64
        assert server.connections <= 8


def test_a_forked_child_has_connections_of_its_own() -> None:
    with playing(says(200, KEYWORDS)) as server, gr.FeatureStore(server.url) as store:
        store.keywords()
        child = os.fork()
        if child == 0:
            os._exit(0 if store.keywords().owners == FOUND else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.keywords()
        assert server.connections == 2


def test_a_store_serves_one_event_loop_after_another() -> None:
    with playing(says(200, KEYWORDS)) as server:
        store = gr.AsyncFeatureStore(server.url)

        async def ask() -> Any:
            try:
                return (await store.keywords()).owners
            finally:
                await store.close()

        assert [asyncio.run(ask()) for _ in range(3)] == [FOUND] * 3


def test_a_hundred_reads_at_once() -> None:
    async def ask(url: str) -> list[Any]:
        async with gr.AsyncFeatureStore(url) as store:
            return [found.owners for found in await asyncio.gather(*(store.keywords() for _ in range(100)))]

    with playing(says(200, KEYWORDS)) as server:
        assert asyncio.run(ask(server.url)) == [FOUND] * 100


def test_a_read_that_is_cancelled_is_over() -> None:
    async def ask(url: str) -> None:
        async with gr.AsyncFeatureStore(url) as store:
            reading = asyncio.create_task(store.keywords())
            await asyncio.sleep(0.05)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    with playing(hangs) as server:
        asyncio.run(ask(server.url))


def test_the_key_is_sent_and_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = "gk_0123456789abcdef"
    with (
        playing(says(401)) as server,
        gr.FeatureStore(server.url, key=key) as store,
        pytest.raises(gr.GrangeError) as failed,
    ):
        store.keywords()

    assert f"authorization: bearer {key}".encode() in server.requests[0].lower()
    assert key not in caplog.text
    assert key not in str(failed.value)
