"""`grange serve`: on Redis if `--redis` says where, else on LMDB; with keys if `--key` says so."""

import datetime as dt
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from grange_common import definitions
from measure import arguments, report, timed

import grange as gr
from http_online import load

PATH = "/api/v1/serving/online"


def main() -> None:
    """Prepare, or serve, ask and report."""
    options = arguments(__doc__, load.options)
    folder = options.work / ("grange-redis" if options.redis else "grange-key" if options.key else "grange-lmdb")
    if options.prepare:
        prepare(folder, options)
    key = new_key(folder) if options.key else ""
    port = load.free_port()
    command = [sys.executable, "-m", "grange", "serve", "--project", str(folder), "--port", str(port)]
    command += ["--workers", str(options.workers)]
    with load.running(command, port, workers=options.workers, log=folder / "server.log") as server:
        first = load.asked(port, PATH, {"features": "bench", "rows": [{"user_id": 1}]}, key)["features"][0]
        if options.soak:
            found = soak(port, server.pid, options, key)
        else:
            found = load.measured(port, PATH, "grange", options, key=key)
        memory = load.resident_mb(server.pid)
    total = round(sum(value for name, value in first.items() if name.startswith("g")), 6)
    report(**found, values=len(first), checksum=total, server_mb=round(memory, 1))


def prepare(folder: Path, options: Any) -> None:
    """Load the stores, from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    online = f'[online]\ntype = "redis"\nurl = "redis://{options.redis}"\n' if options.redis else ""
    (folder / "grange.toml").write_text(f'project = "bench"\n{online}')
    with gr.FeatureStore(folder) as store:
        groups, view = definitions(options.data, options.groups, ttl=None, online=True)
        store.apply([*groups, view])
        _, taken = timed(store.materialize)
    report(**taken)


def new_key(folder: Path) -> str:
    """The text of an API key; from then on the server wants one."""
    with gr.FeatureStore(folder) as store:
        return store.security.keys.create("bench", role="viewer", now=dt.datetime.now(dt.UTC)).text


def soak(port: int, pid: int, options: Any, key: str) -> dict[str, Any]:
    """Steady load for `--soak` seconds; memory is looked at in ten places."""
    stretch = options.soak / 10
    rates, memory = [], []
    end = time.monotonic() + options.soak
    while time.monotonic() < end:
        found = load.measured(port, PATH, "grange", options, seconds=stretch, key=key)
        rates.append(found["requests_per_second"])
        memory.append(round(load.resident_mb(pid), 1))
    return {**found, "rates": rates, "memory_mb": memory, "growth_mb": round(memory[-1] - memory[len(memory) // 3], 1)}


main()
