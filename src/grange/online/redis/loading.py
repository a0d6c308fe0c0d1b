"""Replacing a group's rows: put into a set aside, then swapped in. The server takes a part while the next is packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from grange.online.redis import records
from grange.online.redis.records import ROWS, Name
from grange.online.redis.resp import Call
from grange.online.redis.sets import Build, Sets
from grange.ports.online import OnlineBatch, check_ascending


def load(sets: Sets, name: Name, columns: Sequence[str], batches: Iterable[OnlineBatch], expire: int | None) -> int:
    """Replace a group's rows by those of the batches. Returns how many they are.

    Raises:
        RequestError: keys do not ascend.
        ConflictError, StoreUnavailableError: the old rows are in place.
    """
    sets.sweep()
    with Build(sets, ROWS) as build, ThreadPoolExecutor(1, thread_name_prefix="grange-load") as sender:
        layout = sets.layout_number(columns, anew=True)
        sent: Future[None] | None = None
        try:
            last: bytes | None = None
            for batch in batches:
                if not len(batch):
                    continue
                check_ascending(last, batch.keys)
                last = batch.keys[-1]
                calls = _calls(build, sets.shards, layout, batch, expire)
                if sent is not None:
                    sent.result()
                sent = sender.submit(build.put, calls)
        finally:
            if sent is not None:
                sent.exception()  # nothing is on its way when the set is removed
        if sent is not None:
            sent.result()
        build.adopt(name, expires=expire is not None)
        return sum(build.rows.values())


def _calls(build: Build, shards: int, layout: int, batch: OnlineBatch, expire: int | None) -> list[Call]:
    """The commands that put a batch into the set."""
    keys, values = batch.keys, records.values_of(layout, batch)
    if shards == 1:
        return build.commands(0, keys, values, expire)
    calls = []
    for route, places in records.by_shard(keys, shards).items():
        calls += build.commands(route, [keys[at] for at in places], [values[at] for at in places], expire)
    return calls
