"""A server as a process on one core, and wrk on another."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WRK = os.environ.get("WRK", "wrk")


def options(parser: argparse.ArgumentParser) -> None:
    """What contenders here take besides."""
    parser.add_argument("--connections", type=int, default=1, help="clients at once")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve")
    parser.add_argument("--serve", type=int, default=0, help="serve at this port; not measured")
    parser.add_argument("--soak", type=float, default=0, help="seconds of steady load, with an eye on memory")
    parser.add_argument("--key", action="store_true", help="ask with an API key, of a server that wants one")


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def cores(workers: int = 1) -> tuple[str, str]:
    """The cores of the server and of wrk."""
    mine = sorted(os.sched_getaffinity(0))
    servers = mine[:workers]
    others = mine[workers : workers + 1] or mine[-1:]
    return ",".join(map(str, servers)), ",".join(map(str, others))


@contextlib.contextmanager
def running(command: Sequence[str], port: int, *, workers: int = 1, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server, until it is no longer needed."""
    servers, _ = cores(workers)
    with log.open("wb") as out:
        process = subprocess.Popen(["taskset", "-c", servers, *command], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no server: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def asked(port: int, path: str, body: Any, key: str = "", *, patience: float = 60.0) -> Any:
    """One request's answer, as JSON; tried again while the server starts."""
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code}: {error.read()[:500]!r}") from error
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def measured(
    port: int, path: str, shape: str, settings: argparse.Namespace, *, seconds: float | None = None, key: str = ""
) -> dict[str, Any]:
    """What wrk says: `seconds` is the time per request, all connections together."""
    environ = {
        **os.environ,
        "BATCH": str(settings.batch),
        "ENTITIES": str(settings.entities),
        "SHAPE": shape,
        "REQUEST_PATH": path,
        **({"API_KEY": key} if key else {}),
    }
    _, core = cores(settings.workers)
    lua = Path(__file__).with_name("load.lua")

    def run(for_seconds: float) -> dict[str, Any]:
        done = subprocess.run(
            ["taskset", "-c", core, WRK, "-t1", f"-c{settings.connections}", f"-d{max(1, round(for_seconds))}s",
             "--timeout", "30s", "-s", str(lua), f"http://127.0.0.1:{port}"],
            env=environ, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        return said

    run(1)
    said = run(settings.seconds if seconds is None else seconds)
    if said["failed"] or not said["requests"]:
        raise RuntimeError(f"{said['failed']} of {said['requests']} requests failed")
    return {
        "seconds": said["taken_us"] / said["requests"] / 1e6,
        "p50_us": said["p50_us"],
        "p99_us": said["p99_us"],
        "requests_per_second": round(said["requests"] / said["taken_us"] * 1e6),
    }


def resident_mb(pid: int) -> float:
    """The memory of a process and of its children, in MiB."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(entry.name) == pid or int(stat[1]) == pid:
                total += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return total
