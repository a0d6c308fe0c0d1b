"""Run the benchmarks: every contender in its own process, rounds interleaved in random order.

    python benchmarks/run.py point-in-time --rounds 5
    python benchmarks/run.py online-read materialize --only grange feast-redis
    python benchmarks/run.py all
    python benchmarks/run.py all --small --rounds 1        a minute, to see that everything runs

Prints the machine, the versions and a table for each case; keeps every single run in benchmarks/results. Run it
with the development environment; `benchmarks/setup.sh` builds the peers'. Contenders whose environment or
server is missing are skipped by name.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import installs

HERE = Path(__file__).parent
ENVIRONMENTS = {
    "grange": Path(sys.executable),
    "feast": HERE / ".peers/feast/bin/python",
    "mlforge": HERE / ".peers/mlforge/bin/python",
}
REDIS_SERVER = os.environ.get("REDIS_SERVER", "redis-server")
WORK = HERE / "data" / "work"
BASE = "grange"


@dataclass(frozen=True)
class Contender:
    """One way to do the work, in its own process."""

    name: str
    environment: str
    module: str = ""
    """Run as `python -m <module>` in benchmarks/; or `command` instead."""
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """A command of the environment's `bin`, timed from outside."""
    redis: bool = False
    program: str = ""
    """A program that it needs besides."""
    prepare: bool = False
    """Whether it loads its stores once before the rounds (`--prepare`)."""


@dataclass(frozen=True)
class Case:
    """One table: contenders and what they are all given."""

    name: str
    contenders: tuple[Contender, ...]
    data: Path | None = None
    options: tuple[str, ...] = ()
    unit: str = "s"
    floor: str = ""
    """The contender that does nothing, whose time is subtracted."""
    stores: str = ""
    """Cases that name the same ones read what the first of them prepared, from one Redis; else each has its own."""


def by_hand(spine: int) -> tuple[Contender, ...]:
    """Who takes part in a point-in-time join. Feast on Dask needs more memory than the machine has at 1M."""
    feast = [Contender("feast-duckdb", "feast", "point_in_time.feast_", ("--engine", "duckdb"))]
    if spine <= 100_000:
        feast.append(Contender("feast-dask", "feast", "point_in_time.feast_", ("--engine", "dask")))
    return (
        Contender("grange", "grange", "point_in_time.grange_", prepare=True),
        Contender("grange-duckdb", "grange", "point_in_time.grange_", ("--engine", "duckdb"), prepare=True),
        Contender("read-only", "grange", "point_in_time.read_only"),
        Contender("polars", "grange", "point_in_time.polars_"),
        Contender("duckdb", "grange", "point_in_time.duckdb_"),
        Contender("pandas", "grange", "point_in_time.pandas_"),
        *feast,
    )


def point_in_time(settings: argparse.Namespace, keys: data.Keys) -> list[Case]:
    """Rows 1 and 2 of the bar: five groups joined onto a spine, by integer or string keys."""
    rows, spines = (20_000, [5_000]) if settings.small else (1_000_000, [100_000, 1_000_000])
    folder = data.point_in_time(rows, spines, keys)
    return [
        Case(
            f"point-in-time, {keys} keys, 5 groups x {rows:,} rows x 10 features, spine {spine:,}",
            by_hand(spine),
            folder,
            ("--spine", str(spine)),
        )
        for spine in spines
    ]


def online_read(settings: argparse.Namespace) -> list[Case]:
    """Row 4: fifty features of five groups, in process, through the public API."""
    entities = 1_000 if settings.small else 100_000
    contenders = (
        Contender("grange", "grange", "online_read.grange_", prepare=True),
        Contender("feast-redis", "feast", "online_read.feast_", redis=True, prepare=True),
        Contender("feast-sqlite", "feast", "online_read.feast_", prepare=True),
    )
    seconds = "0.5" if settings.small else "3"
    return [
        Case(
            f"online read, 50 features of 5 groups, {batch} of {entities:,} entities",
            contenders,
            data.online(entities),
            ("--entities", str(entities), "--batch", str(batch), "--seconds", seconds),
            unit="us",
        )
        for batch in (1, 100)
    ]


def online_read_redis(settings: argparse.Namespace) -> list[Case]:
    """The same with the store across a connection: both in the same Redis."""
    entities = 1_000 if settings.small else 100_000
    contenders = (
        Contender("grange", "grange", "online_read.grange_", redis=True, prepare=True),
        Contender("feast-redis", "feast", "online_read.feast_", redis=True, prepare=True),
    )
    seconds = "0.5" if settings.small else "3"
    return [
        Case(
            f"online read from Redis, 50 features of 5 groups, {batch} of {entities:,} entities",
            contenders,
            data.online(entities),
            ("--entities", str(entities), "--batch", str(batch), "--seconds", seconds),
            unit="us",
        )
        for batch in (1, 100)
    ]


def http(settings: argparse.Namespace) -> list[Case]:
    """Row 6: fifty features of five groups over HTTP, one worker; `seconds` is the time per request."""
    entities = 1_000 if settings.small else 100_000
    contenders = (
        Contender("grange", "grange", "http_online.grange_", prepare=True, program="wrk"),
        Contender("grange-redis", "grange", "http_online.grange_", redis=True, prepare=True, program="wrk"),
        Contender("bare", "grange", "http_online.bare_", program="wrk"),
        Contender("bare-redis", "grange", "http_online.bare_", redis=True, prepare=True, program="wrk"),
        Contender("feast-redis", "feast", "http_online.feast_", redis=True, prepare=True, program="wrk"),
        Contender("feast-sqlite", "feast", "http_online.feast_", prepare=True, program="wrk"),
    )
    sizes = [(1, 1)] if settings.small else [(batch, clients) for batch in (1, 10, 100) for clients in (1, 16)]
    return [
        Case(
            f"http, 50 features of 5 groups, {batch} of {entities:,} entities, {clients} connections",
            contenders,
            data.online(entities),
            (*_http_options(settings, entities, batch), "--connections", str(clients)),
            unit="us",
            stores="http",
        )
        for batch, clients in sizes
    ]


def http_security(settings: argparse.Namespace) -> list[Case]:
    """What a key on every request costs."""
    entities = 1_000 if settings.small else 100_000
    contenders = (
        Contender("grange", "grange", "http_online.grange_", prepare=True, program="wrk"),
        Contender("grange-key", "grange", "http_online.grange_", ("--key",), prepare=True, program="wrk"),
    )
    options = (*_http_options(settings, entities, 1), "--connections", "16")
    return [Case("http, with and without a key, 1 entity, 16 connections", contenders, data.online(entities), options,
                 unit="us")]  # fmt: skip


def http_soak(settings: argparse.Namespace) -> list[Case]:
    """Ten minutes of steady load; `memory_mb` in ten places, `growth_mb` from the third on."""
    entities = 1_000 if settings.small else 100_000
    contenders = (Contender("grange", "grange", "http_online.grange_", prepare=True, program="wrk"),)
    seconds = "10" if settings.small else "600"
    options = (*_http_options(settings, entities, 10), "--connections", "16", "--soak", seconds)
    return [Case(f"http, {seconds} s of steady load, 10 entities, 16 connections", contenders, data.online(entities),
                 options, unit="us")]  # fmt: skip


def http_scaling(settings: argparse.Namespace) -> list[Case]:
    """From one worker to two; wrk needs a third core."""
    entities = 1_000 if settings.small else 100_000
    contenders = (
        Contender("grange", "grange", "http_online.grange_", prepare=True, program="wrk"),
        Contender("grange-2", "grange", "http_online.grange_", ("--workers", "2"), program="wrk"),
    )
    return [
        Case(
            f"http, one worker and two, {batch} entities, 32 connections",
            contenders,
            data.online(entities),
            (*_http_options(settings, entities, batch), "--connections", "32"),
            unit="us",
        )
        for batch in ((1,) if settings.small else (1, 100))
    ]


def _http_options(settings: argparse.Namespace, entities: int, batch: int) -> tuple[str, ...]:
    seconds = "1" if settings.small else "5"
    return ("--entities", str(entities), "--batch", str(batch), "--seconds", seconds)


def materialize(settings: argparse.Namespace) -> list[Case]:
    """Row 7: one group into the online store."""
    entities = 5_000 if settings.small else 1_000_000
    contenders = (
        Contender("grange", "grange", "materialize.grange_"),
        Contender("feast-redis", "feast", "materialize.feast_", redis=True),
        Contender("feast-sqlite", "feast", "materialize.feast_"),
    )
    name = f"materialize, {entities:,} entity keys x 10 features"
    return [Case(name, contenders, data.materialize(entities), ("--entities", str(entities)))]


def materialize_redis(settings: argparse.Namespace) -> list[Case]:
    """One group into an empty Redis. Feast takes minutes for a million, so there are fewer beside it as well."""
    sizes = (5_000,) if settings.small else (100_000, 1_000_000)
    grange = Contender("grange", "grange", "materialize.grange_", redis=True)
    feast = Contender("feast-redis", "feast", "materialize.feast_", redis=True)
    return [
        Case(
            f"materialize to Redis, {entities:,} entity keys x 10 features",
            (grange, feast),
            data.materialize(entities),
            ("--entities", str(entities)),
        )
        for entities in sizes
    ]


def windows(settings: argparse.Namespace) -> list[Case]:
    """Row 3: 1h, 1d, 7d, 30d of sum, mean, count, min, max and std, as of a spine and as of every event."""
    events, users, spine = (50_000, 500, 2_000) if settings.small else (5_000_000, 50_000, 200_000)
    folder = data.windows(events, users, data.DAYS, [spine])
    name = f"windows, 4 windows x 6 functions over {events:,} events"
    return [
        Case(
            f"{name}, as of {spine:,} spine rows",
            (
                Contender("grange", "grange", "windows.grange_", prepare=True),
                Contender("grange-duckdb", "grange", "windows.grange_", ("--engine", "duckdb"), prepare=True),
                Contender("polars-join", "grange", "windows.polars_", ("--engine", "join")),
                Contender("polars-union", "grange", "windows.polars_", ("--engine", "union")),
                Contender("duckdb", "grange", "windows.duckdb_"),
            ),
            folder,
            ("--spine", str(spine)),
        ),
        Case(
            f"{name}, as of every event",
            (
                Contender("grange", "grange", "windows.grange_", prepare=True),
                Contender("polars-rolling", "grange", "windows.polars_"),
                Contender("duckdb-range", "grange", "windows.duckdb_"),
            ),
            folder,
        ),
    ]


def windows_mlforge(settings: argparse.Namespace) -> list[Case]:
    """mlforge's own work: 7d and 30d of sum, mean and count; as of each event, and mlforge as of each day."""
    events, users = (10_000, 100) if settings.small else (1_000_000, 10_000)
    contenders = (
        Contender("grange", "grange", "windows.grange_", prepare=True),
        Contender("polars-rolling", "grange", "windows.polars_"),
        Contender("mlforge", "mlforge", "windows.mlforge_"),
    )
    name = f"windows as mlforge has them, 7d and 30d x sum, mean, count over {events:,} events of {users:,} users"
    options = ("--windows", "7d,30d", "--functions", "sum,mean,count")
    return [Case(name, contenders, data.windows(events, users, 365, []), options)]


def window_read(settings: argparse.Namespace) -> list[Case]:
    """Row 5: one entity's windows read online, with more and more events in them."""
    sizes = (1_000, 10_000) if settings.small else (1_000, 10_000, 100_000, 1_000_000)
    contenders = (Contender("grange", "grange", "window_read.grange_", prepare=True),)
    seconds = "0.5" if settings.small else "3"
    return [
        Case(
            f"online read of window state, {size:,} events in the window",
            contenders,
            data.windows(1000, 10, 30, []),
            ("--events", str(size), "--seconds", seconds, "--entities", "1"),
            unit="us",
        )
        for size in sizes
    ]


def build(settings: argparse.Namespace) -> list[Case]:
    """What a build costs besides computing and writing its rows: validation, hashes, metadata, visibility."""
    rows, spines = (20_000, [5_000]) if settings.small else (1_000_000, [100_000, 1_000_000])
    contenders = (Contender("grange", "grange", "build.grange_"), Contender("parquet", "grange", "build.parquet_"))
    return [Case(f"build, {rows:,} rows x 10 features", contenders, data.point_in_time(rows, spines, "integer"))]


def split(settings: argparse.Namespace) -> list[Case]:
    """Training rows divided into three parts in memory; the bar is twice the time of only reading them."""
    rows = 10_000 if settings.small else 1_000_000
    contenders = (
        Contender("grange", "grange", "split.grange_"),
        Contender("polars", "grange", "split.polars_"),
        Contender("read-only", "grange", "split.read_only"),
    )
    kinds: tuple[data.Keys, ...] = ("integer", "string")
    return [
        Case(
            f"split by {by}, {keys} keys, {rows:,} rows x 23 columns into three parts, reading included",
            contenders,
            data.split(rows, keys),
            ("--by", by),
            unit="ms",
        )
        for keys in kinds
        for by in ("time", "key", "row")
    ]


def describe_columns(settings: argparse.Namespace) -> list[Case]:
    """Statistics of every column; the bar is Polars' own, which are fewer."""
    rows = 20_000 if settings.small else 1_000_000
    contenders = (
        Contender("grange", "grange", "statistics_.grange_"),
        Contender("grange-mergeable", "grange", "statistics_.grange_", ("--engine", "mergeable")),
        Contender("grange-correlations", "grange", "statistics_.grange_", ("--engine", "correlations")),
        Contender("polars", "grange", "statistics_.polars_"),
        Contender("duckdb-summarize", "grange", "statistics_.duckdb_"),
    )
    return [Case(f"statistics, {rows:,} rows x 50 columns, reading included", contenders, data.statistics(rows))]


def startup(settings: argparse.Namespace) -> list[Case]:
    """Row 8: how long until the import is done, until the help is printed."""
    del settings
    contenders = (
        Contender("grange", "grange", command=("python", "-c", "import grange")),
        Contender("feast", "feast", command=("python", "-c", "import feast")),
        Contender("python", "grange", command=("python", "-c", "pass")),
    )
    helps = (
        Contender("grange", "grange", command=("grange", "--help")),
        Contender("feast", "feast", command=("feast", "--help")),
        Contender("python", "grange", command=("python", "-c", "pass")),
    )
    return [
        Case("startup, import", contenders, unit="ms", floor="python"),
        Case("startup, --help", helps, unit="ms", floor="python"),
    ]


QUESTIONS = {
    "point-in-time": lambda settings: point_in_time(settings, "integer"),
    "point-in-time-strings": lambda settings: point_in_time(settings, "string"),
    "online-read": online_read,
    "http": http,
    "http-security": http_security,
    "http-soak": http_soak,
    "http-scaling": http_scaling,
    "online-read-redis": online_read_redis,
    "materialize": materialize,
    "materialize-redis": materialize_redis,
    "windows": windows,
    "windows-mlforge": windows_mlforge,
    "window-read": window_read,
    "build": build,
    "split": split,
    "statistics": describe_columns,
    "startup": startup,
}


def main() -> None:
    """Run what was asked for; exit 1 if a contender failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="+", choices=[*QUESTIONS, "install", "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="contenders to run")
    parser.add_argument("--skip", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--small", action="store_true", help="small data: to see that it runs, not how fast")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run")
    parser.add_argument("--warm-gb", type=float, default=3, help="memory to touch before each run; 0 is none")
    settings = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped run stops its Redis
    asked = [*QUESTIONS, "install"] if "all" in settings.questions else settings.questions

    heading = machine()
    print("\n".join(f"{name}: {value}" for name, value in heading.items()), flush=True)
    failed = False
    for question in asked:
        if question == "install":
            installs.main(HERE)
            continue
        for cases in sharing_stores(QUESTIONS[question](settings)):
            prepared: set[str] = set()
            with redis(any(c.redis for c in taking_part(cases[0], settings) if not missing(c))) as address:
                for case in cases:
                    runs = run_case(case, settings, address, prepared)
                    failed |= any("error" in run for run in runs)
                    print(table(case, runs), flush=True)
                    keep(question, case, heading, runs)
    sys.exit(1 if failed else 0)


def sharing_stores(cases: list[Case]) -> list[list[Case]]:
    """Cases by the stores that they read, in order."""
    groups: list[list[Case]] = []
    for case in cases:
        if groups and case.stores and groups[-1][0].stores == case.stores:
            groups[-1].append(case)
        else:
            groups.append([case])
    return groups


def taking_part(case: Case, settings: argparse.Namespace) -> list[Contender]:
    """The contenders of a case that were asked for."""
    contenders = [c for c in case.contenders if c.name not in settings.skip]
    return [c for c in contenders if not settings.only or c.name in settings.only]


def run_case(case: Case, settings: argparse.Namespace, address: str, prepared: set[str]) -> list[dict[str, Any]]:
    """All rounds of a case. A contender that fails once is left out of the rounds that follow.

    Args:
        case: what is asked.
        settings: of the command line.
        address: of the Redis.
        prepared: the contenders whose stores are loaded; those that this case loads are added.
    """
    contenders = taking_part(case, settings)
    print(f"\n## {case.name}", flush=True)
    for contender in list(contenders):
        if reason := missing(contender):
            print(f"skipped: {contender.name}: {reason}", flush=True)
            contenders.remove(contender)
    runs: list[dict[str, Any]] = []
    for contender in [c for c in contenders if c.prepare and c.name not in prepared]:
        run = run_once(case, contender, address, settings, prepare=True)
        runs.append({"round": "prepare", **run})
        print(f"prepared: {describe(run)}", flush=True)
        prepared.add(contender.name)
        if "error" in run:
            contenders.remove(contender)
    for number in range(settings.rounds):
        for contender in random.sample(contenders, len(contenders)):
            warm(case, settings)
            if contender.redis and not contender.prepare:
                flush(address)
            run = run_once(case, contender, address, settings)
            runs.append({"round": number, **run})
            print(f"round {number + 1}: {describe(run)}", flush=True)
            if "error" in run:
                contenders.remove(contender)
    return runs


def run_once(
    case: Case, contender: Contender, address: str, settings: argparse.Namespace, *, prepare: bool = False
) -> dict[str, Any]:
    """One process; what it reported, or `error`."""
    run: dict[str, Any] = {"contender": contender.name, "load": round(os.getloadavg()[0], 2)}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command(case, contender, address, prepare=prepare),
            cwd=tempfile.gettempdir() if contender.command else HERE,
            env=os.environ if contender.command else {**os.environ, "PYTHONPATH": str(HERE)},
            capture_output=True,
            text=True,
            timeout=settings.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**run, "error": f"took more than {settings.timeout:.0f} s"}
    seconds = time.perf_counter() - start
    if contender.command:
        if done.returncode == 0:
            return {**run, "seconds": seconds}
        return {**run, "error": last_line(done.stderr)}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {**run, "error": last_line(done.stderr) or f"exit {done.returncode}"}
    return {**run, **json.loads(lines[-1])}


def command(case: Case, contender: Contender, address: str, *, prepare: bool) -> list[str]:
    """The process of a contender."""
    python = ENVIRONMENTS[contender.environment]
    if contender.command:
        program, *rest = contender.command
        return [str(python if program == "python" else python.parent / program), *rest]
    work = WORK / ("duckdb" if contender.name.endswith("-duckdb") else "default") / str(case.data and case.data.name)
    work.mkdir(parents=True, exist_ok=True)
    options = ["--data", str(case.data), "--work", str(work), *case.options, *contender.options]
    options += ["--redis", address] if contender.redis else []
    options += ["--prepare"] if prepare else []
    return [str(python), "-m", contender.module, *options]


def missing(contender: Contender) -> str:
    """Why a contender cannot run here; empty if it can."""
    if not ENVIRONMENTS[contender.environment].exists():
        return "its environment is missing: run benchmarks/setup.sh"
    if contender.redis and shutil.which(REDIS_SERVER) is None:
        return f"{REDIS_SERVER} is not installed (Debian: apt-get install redis-server)"
    if contender.program and shutil.which(os.environ.get(contender.program.upper(), contender.program)) is None:
        return f"{contender.program} is not installed (Debian: apt-get install {contender.program})"
    return ""


def warm(case: Case, settings: argparse.Namespace) -> None:
    """Give every run the same start: memory that was just in use, files in the page cache.

    On virtual machines whose host takes idle memory back, the first touch of a page costs up to 100 times what
    it does otherwise. Without this, whoever runs first after a pause pays for the others.
    """
    if settings.warm_gb and case.data is not None:
        size = int(settings.warm_gb * 2**30)
        subprocess.run([sys.executable, "-c", f"b'x' * {size}"], check=True)
        for path in sorted(case.data.rglob("*.parquet")):
            path.read_bytes()


@contextlib.contextmanager
def redis(wanted: bool) -> Iterator[str]:
    """A Redis server on a free port that keeps nothing on disk; its address."""
    if not wanted:
        yield ""
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([REDIS_SERVER, *options], stdout=subprocess.DEVNULL)
        try:
            ask(port, b"PING")
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def flush(address: str) -> None:
    """Empty the Redis."""
    ask(int(address.rpartition(":")[2]), b"FLUSHALL")


def ask(port: int, request: bytes) -> None:
    """Send one command that answers with a status, waiting for the server to come up."""
    for attempt in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(request + b"\r\n")
                answer = connection.recv(100)
            if answer.startswith(b"+"):
                return
        except ConnectionRefusedError:
            if attempt == 99:
                raise
        time.sleep(0.1)
    raise RuntimeError(f"Redis does not answer {request!r}")


def table(case: Case, runs: list[dict[str, Any]]) -> str:
    """The case's table in Markdown: medians, and ratios of runs of the same round."""
    good = [run for run in runs if "error" not in run and run["round"] != "prepare"]
    seen = {run["contender"] for run in runs if run["round"] != "prepare"}
    names = [contender.name for contender in case.contenders if contender.name in seen]
    times = {n: {r["round"]: seconds(case, r, good) for r in good if r["contender"] == n} for n in names}
    base = times.get(BASE) or next((t for t in times.values() if t), {})
    base_name = next((n for n, t in times.items() if t is base), "")
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[case.unit]
    lines = [
        f"| contender | median {case.unit} | least | times {base_name}'s | CPU s | peak MiB | answer |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name in sorted((n for n in names if times[n]), key=lambda n: statistics.median(times[n].values())):
        of = [run for run in good if run["contender"] == name]
        paired = [times[name][r] / base[r] for r in times[name] if base.get(r)]
        cells = [
            name,
            figures(statistics.median(times[name].values()) * scale),
            figures(min(times[name].values()) * scale),
            f"{statistics.median(paired):.2f}" if paired else "",
            middle(of, "cpu_seconds"),
            middle(of, "peak_mb"),
            answer(of[0], good),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    errors = [f"failed: {r['contender']}: {r['error']}" for r in runs if "error" in r]
    return "\n".join(["", *lines, *errors])


def seconds(case: Case, run: dict[str, Any], good: list[dict[str, Any]]) -> float:
    """The time of a run, less that of the floor in the same round."""
    taken: float = run["seconds"]
    if case.floor and run["contender"] != case.floor:
        taken -= sum(r["seconds"] for r in good if r["round"] == run["round"] and r["contender"] == case.floor)
    return taken


def middle(runs: list[dict[str, Any]], field: str) -> str:
    """The median of a field that a contender may not report."""
    values = [run[field] for run in runs if field in run]
    return figures(statistics.median(values)) if values else ""


def figures(number: float) -> str:
    """Three significant figures, without an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def answer(run: dict[str, Any], good: list[dict[str, Any]]) -> str:
    """Whether a contender found what Grange (or else Polars) found."""
    if "checksum" not in run:
        return ""
    truth = next((r for name in (BASE, "polars") for r in good if r["contender"] == name and "checksum" in r), run)
    if abs(run["checksum"] - truth["checksum"]) > 1e-6 * max(1.0, abs(truth["checksum"])):
        return f"**differs**: {run.get('rows', '')} rows, {run.get('present', '')} values"
    if "present" in run and (run["rows"], run["present"]) != (truth["rows"], truth["present"]):
        return f"**differs**: {run['rows']:,} rows for {truth['rows']:,}, {run['present']:,} values"
    return "same" if run.get("in_order", True) else "same, in another order"


def describe(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"{run['contender']} FAILED: {run['error']}"
    peak = f", {run['peak_mb']:,.0f} MiB" if "peak_mb" in run else ""
    return f"{run['contender']} {run['seconds']:.6g} s{peak}"


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def keep(question: str, case: Case, heading: dict[str, str], runs: list[dict[str, Any]]) -> None:
    """Write every run to benchmarks/results."""
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    path = folder / f"{question}-{now:%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps({"case": case.name, "at": now.isoformat(), **heading, "runs": runs}, indent=1))
    print(f"\nkept in {path.relative_to(HERE.parent)}", flush=True)


def machine() -> dict[str, str]:
    """The machine and the versions."""
    about = {
        "machine": f"{cpu()}, {len(os.sched_getaffinity(0))} cores, {memory_gb():.0f} GiB, {platform.release()}",
        "load": f"{os.getloadavg()[0]:.2f} when starting",
        "grange": commit(),
    }
    packages = ("feast", "polars", "duckdb", "pandas", "pyarrow", "numpy", "lmdb", "redis")
    script = (
        "import sys, importlib.metadata as m\n"
        "def v(n):\n"
        "    try: return n + ' ' + m.version(n)\n"
        "    except m.PackageNotFoundError: return ''\n"
        f"print(', '.join(['Python ' + sys.version.split()[0], *filter(None, map(v, {packages!r}))]))"
    )
    for name, python in ENVIRONMENTS.items():
        if python.exists():
            done = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True)
            about[f"environment {name}"] = done.stdout.strip()
    if shutil.which(REDIS_SERVER):
        done = subprocess.run([REDIS_SERVER, "--version"], capture_output=True, text=True, check=True)
        about["redis-server"] = " ".join(done.stdout.split()[2:3])
    return about


def cpu() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """The machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit() -> str:
    """The commit that is measured, and whether something was changed since."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return found.stdout.strip()


if __name__ == "__main__":
    main()
