"""A served shop: a project with rows, its application, a client in this process, and a real server.

- `folder`: a project of its own: `spend` and `shops` from files, `clicks` that are pushed, the view `shopping`.
- `store`: its FeatureStore, applied and materialized.
- `projects`, `app`: what is served, and the ASGI application. Open: nobody made a key.
- `client`: asks the application in this process, as `http://localhost`.
- `server`: `grange serve` as a process, on a free port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.shop import SHOPS, SPEND

import grange as gr
from grange.http.app import create_app, project_of
from grange.http.context import Projects
from grange.http.shell import Shell

DEFINITIONS = """
import grange as gr

user = gr.Entity("user", join_keys=["user_id"])
shop = gr.Entity("shop", join_keys=["shop_id"])

spend = gr.FeatureGroup(
    "spend",
    entities=user,
    source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
    description="What a user spends.",
    owner="payments",
)
shops = gr.FeatureGroup("shops", entities=shop, source=gr.FileSource("data/shops.csv"))
clicks = gr.FeatureGroup(
    "clicks",
    entities=user,
    source=gr.PushSource(
        "click_events", schema={"user_id": "string", "at": "datetime", "page": "string", "n": "int64"}, event_time="at"
    ),
)
shopping = gr.FeatureView("shopping", features=["spend", "shops", "clicks"])
careful = gr.FeatureView("careful", features=["spend"], on_error="default")
"""


@pytest.fixture(scope="session")
def loaded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is applied, materialized and pushed to; to be copied, not used."""
    folder = make_project(tmp_path_factory.mktemp("loaded") / "shop", "shop")
    with gr.FeatureStore(folder) as store:
        load(store)
    return folder


@pytest.fixture
def folder(tmp_path: Path, loaded_folder: Path) -> Path:
    shutil.copytree(loaded_folder, tmp_path / "shop")
    return tmp_path / "shop"


def make_project(folder: Path, name: str) -> Path:
    """A project with definitions and raw rows; nothing is applied yet."""
    (folder / "data").mkdir(parents=True)
    SPEND.write_parquet(folder / "data" / "spend.parquet")
    SHOPS.write_csv(folder / "data" / "shops.csv")
    (folder / "grange.toml").write_text(f'project = "{name}"\ndefinitions = ["{name}_features.py"]\n')
    (folder / f"{name}_features.py").write_text(DEFINITIONS)
    return folder


def load(store: gr.FeatureStore) -> None:
    """Apply and materialize all that the project defines, and push two clicks."""
    store.apply()
    store.materialize(["spend", "shops"])
    store.push(
        "click_events",
        [
            {"user_id": "u1", "at": "2026-03-10T00:00:00Z", "page": "home", "n": 3},
            {"user_id": "u2", "at": "2026-03-11T00:00:00Z", "page": "cart", "n": 1},
        ],
    )


@pytest.fixture
def store(folder: Path) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(folder) as opened:
        yield opened


@pytest.fixture
def projects(store: gr.FeatureStore) -> Projects:
    project = project_of(store)
    return Projects(store.config, {project.name: project}, project.name)


@pytest.fixture
def app(projects: Projects) -> Shell:
    return create_app(projects)


class Client:
    """Asks an application in this process, one request after another."""

    def __init__(self, app: Any, base_url: str = "http://localhost") -> None:
        self._loop = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url)
        self._app = app
        self._is_closed = False
        for start in getattr(app, "starting", ()):
            self.wait_for(start())

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine gives."""
        return self._loop.run(coroutine)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""
        return self.wait_for(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def all_at_once(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Several requests, none waiting for another."""

        async def every() -> list[httpx.Response]:
            return await asyncio.gather(
                *(self._client.request(method, path, **options) for method, path, options in requests)
            )

        return self.wait_for(every())

    def close(self) -> None:
        """Stop the application as a server would. Calling it twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        for stop in getattr(self._app, "stopping", ()):
            self.wait_for(stop())
        self.wait_for(self._client.aclose())
        self._loop.close()


@pytest.fixture
def client(app: Shell) -> Iterator[Client]:
    with contextlib.closing(Client(app)) as asking:
        yield asking


def free_port() -> int:
    """A port that nobody has, outside the range that the system hands to clients."""
    for port in range(21_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                attempt.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("no free port")


class Served:
    """`grange serve` as a process."""

    def __init__(self, folder: Path, *options: str, environ: dict[str, str] | None = None, wait: bool = True) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        command = [
            sys.executable,
            "-m",
            "grange",
            "serve",
            "--project",
            str(folder),
            "--port",
            str(self.port),
            *options,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environ or {})},
            )
        if wait:
            self.wait()

    def wait(self, seconds: float = 30.0) -> None:
        """Until it is ready."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server is not ready:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Tell it to stop; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)

    def ask(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One request: POST with a body, GET without."""
        method = "GET" if body is None else "POST"
        return httpx.request(method, self.url + path, json=body, timeout=30, **options)


@pytest.fixture
def server(folder: Path) -> Iterator[Served]:
    served = Served(folder)
    yield served
    if served.process.poll() is None:
        served.stop(signal.SIGKILL)
