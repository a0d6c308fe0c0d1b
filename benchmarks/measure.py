"""What every contender does the same way: take its arguments, time the work, say what came out.

A contender is one process. It prints one line of JSON on standard output, last, and exits 0. Imports and
set-up are outside the measured time; reading the files is inside it. This module needs nothing but Python.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def arguments(
    description: str | None, further: Callable[[argparse.ArgumentParser], None] = lambda parser: None
) -> argparse.Namespace:
    """The arguments that `run.py` hands to each contender; each uses those that it needs.

    Args:
        description: of the contender.
        further: adds what only some contenders have.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--work", type=Path, required=True, help="folder for the contender's own stores")
    parser.add_argument("--spine", type=int, default=0, help="rows of the spine")
    parser.add_argument("--groups", type=int, default=5, help="groups to join or to read")
    parser.add_argument("--batch", type=int, default=1, help="entities in one read")
    parser.add_argument("--entities", type=int, default=0, help="entities in the store")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to go on reading")
    parser.add_argument("--redis", default="", help="host:port of a Redis for the contender alone")
    parser.add_argument("--prepare", action="store_true", help="load the stores and stop; not measured")
    parser.add_argument("--windows", default="", help="windows to compute, with commas; all without")
    parser.add_argument("--functions", default="", help="functions to compute, with commas; all without")
    parser.add_argument("--events", type=int, default=0, help="events of one entity key in its window")
    parser.add_argument("--engine", default="", help="engine to use, where there is a choice")
    parser.add_argument("--by", default="", help="what a split goes by: time, key or row")
    further(parser)
    return parser.parse_args()


def timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run the work once.

    Returns:
        Its result, and `seconds` of wall clock, `cpu_seconds`, and `peak_mb` of the whole process so far.
    """
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {"seconds": wall, "cpu_seconds": cpu, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """The most memory the process has had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def limit_memory(gigabytes: int) -> None:
    """Let the process fail rather than the machine: a ceiling on its address space."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))


def repeated(read: Callable[[list[int]], Any], options: argparse.Namespace) -> dict[str, float]:
    """Read batches of random entities for a while, each batch timed by itself.

    Returns:
        `seconds` is the median of one read; `p99_seconds`, `reads` and `peak_mb` besides.
    """
    chosen = random.Random(7)
    batches = [[chosen.randrange(options.entities) for _ in range(options.batch)] for _ in range(1000)]
    for batch in batches[:20]:
        read(batch)
    taken: list[float] = []
    end = time.perf_counter() + options.seconds
    while (start := time.perf_counter()) < end or len(taken) < 20:
        read(batches[len(taken) % len(batches)])
        taken.append(time.perf_counter() - start)
    taken.sort()
    return {
        "seconds": statistics.median(taken),
        "p99_seconds": taken[int(len(taken) * 0.99)],
        "reads": len(taken),
        "peak_mb": peak_mb(),
    }


def fingerprint(table: Any) -> dict[str, Any]:
    """What an answer (an Arrow table) holds, to compare contenders by.

    `checksum` weighs each value with its spine row, so a value beside the wrong row shows, whatever the order
    of the rows; `in_order` says whether the spine's order was kept. An answer as of every event has no spine rows:
    there user and time are the weight.
    """
    import numpy as np

    if "row" in table.column_names:
        rows = table["row"].to_numpy()
    else:
        time = table["event_time"].cast("int64").to_numpy()
        rows = table["user_id"].to_numpy() * 31 + time // 1000
    weight = (rows % 1009 + 1).astype("float64")
    present, checksum = 0, 0.0
    for name in sorted(name for name in table.column_names if name.startswith(("g", "amount__"))):
        column = table[name]
        present += len(column) - column.null_count
        values = column.to_numpy()
        checksum += float(np.nansum(values * weight))
    found = {"rows": len(rows), "present": present, "checksum": float(f"{checksum:.10g}")}
    return found | ({"in_order": bool((rows == np.arange(len(rows))).all())} if "row" in table.column_names else {})


def report(**fields: Any) -> None:
    """Print the result and leave at once: tearing down is nobody's question."""
    print(json.dumps(fields), flush=True)
    sys.stdout.flush()
    os._exit(0)
