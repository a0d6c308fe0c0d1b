"""The `redis` online store. How it lies in the server: `records`; how a group's set is swapped: `sets`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from grange.errors import ConflictError, RequestError, StoreUnavailableError
from grange.online.redis import cells, loading, records, scripts
from grange.online.redis.reading import Rows
from grange.online.redis.records import CELLS, MARK, ROWS, Name
from grange.online.redis.resp import Call, call
from grange.online.redis.scripts import script
from grange.online.redis.servers import Servers, servers_of
from grange.online.redis.sets import Sets
from grange.online.redis.settings import Settings
from grange.online.redis.walks import Walks
from grange.ports.online import Cells, GroupInfo, OnlineBatch, StoredRow, WritableCells, check_limit

T = TypeVar("T")

TURNS: Final = 20
"""How often a call begins again because a load has just swapped what it was about."""
SECONDS_PER_ROW: Final = 2e-5
"""What a write of many rows may take on top of the timeout: it is one step of the server."""


class _Visits(threading.local):
    """What each thread is at."""

    inside = False
    """Whether it runs a visit to cells."""


class RedisOnlineStore:
    """Rows and cells in Redis or Valkey. Safe for threads, for processes of any machine, and over a fork.

    Args:
        settings: where the server is and how it is talked to. It is connected to at the first use.

    Raises:
        ConfigError: the TLS files cannot be used.
    """

    name = "redis"

    def __init__(self, settings: Settings) -> None:
        self._servers: Servers = servers_of(settings)
        self._sets = Sets(self._servers, settings.namespace, settings.owner)
        self._rows = Rows(self._sets)
        self._walks = Walks(self._sets)
        self._expire = settings.expire
        self._guesses = cells.Guesses()
        self._visits = _Visits()
        self._closed = False

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group, all in one trip. See `OnlineStore.read`."""
        self._check_usable()
        if not keys or not groups:
            return [()] * len(keys)
        names = self._rows.names(key_space, groups)
        gone: dict[Name, bytes] = {}
        for _ in range(TURNS):
            found = self._rows.read(names, keys, gone)
            if found is not None:
                return found
        raise self._restless()

    def rows(
        self, key_space: str, group: str, after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, StoredRow]]:
        """A page of a group's rows, in no order. See `OnlineStore.rows`."""
        check_limit(limit)
        self._check_usable()
        page = self._walks.page(Name(ROWS, key_space, group), after, limit)
        rows = self._rows.decoded([value for _, value in page])
        return [(key, row) for (key, _), row in zip(page, rows, strict=True) if row is not None]

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        self._check_usable()
        return self._sets.layout(layout)

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored, by key space and group; from counters that every write keeps, so it costs next to nothing."""
        self._check_usable()
        for _ in range(TURNS):
            counted = self._counted()
            if counted is not None:
                return counted
        raise self._restless()

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns. See `OnlineStore.read_cells`."""
        self._check_usable()
        return cells.visit_to_read(self._sets, Name(CELLS, key_space, group), self._guesses, self._visiting(visit))

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows by (event time, created time), ONL-2, in one step of each shard. See `OnlineStore.write`."""
        self._check_usable()
        if not len(batch):
            return 0
        name = Name(ROWS, key_space, group)
        gone: bytes | None = None
        for _ in range(TURNS):
            current = self._sets.ensure(name)
            if current == gone:
                raise self._sets.lost(name)
            calls = self._merges(current, self._sets.layout_number(columns), batch)
            answers = self._servers.run(calls, extra=len(batch) * SECONDS_PER_ROW)
            if -1 in answers:
                gone = current
                self._sets.forget(name, current)
            elif self._sets.still_read(name, current):
                return sum(answers)
            # a load has swapped the set, of one shard at least: all of the write goes into the new one
        raise self._restless()

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace a group's rows: put aside, then swapped in. See `OnlineStore.load`.

        Raises:
            ConflictError: the batches paused for so long that another load took this one for dead.
        """
        self._check_usable()
        return loading.load(self._sets, Name(ROWS, key_space, group), columns, batches, self._expire)

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Run a visit, then write what it changed in one step. See `OnlineStore.write_cells`.

        Raises:
            ConflictError: others wrote what it reads for a minute on end.
        """
        self._check_usable()
        return cells.visit_to_write(self._sets, Name(CELLS, key_space, group), self._guesses, self._visiting(visit))

    def load_cells(self, key_space: str, group: str, cells_: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace a group's cells: put aside, then swapped in. See `OnlineStore.load_cells`.

        Raises:
            ConflictError: the cells paused for so long that another load took this one for dead.
        """
        self._check_usable()
        return cells.load(self._sets, Name(CELLS, key_space, group), cells_)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group's rows and cells. See `OnlineStore.drop`."""
        self._check_usable()
        for kind in (ROWS, CELLS):
            self._sets.drop(Name(kind, key_space, group))

    def close(self) -> None:
        """Let go of the connections. Calling it twice is fine."""
        self._closed = True
        self._servers.close()

    # -- steps -------------------------------------------------------------------------------------------------

    def _merges(self, current: bytes, layout: int, batch: OnlineBatch) -> list[Call]:
        """The calls of the script that merges a batch, one for each shard."""
        sets = self._sets
        values = records.values_of(layout, batch)
        expire = b"%d" % (self._expire or 0)
        return [
            script(
                route,
                scripts.WRITE,
                [sets.keys.set(route, current)],
                expire,
                *records.pair_texts([(batch.keys[at], values[at]) for at in places]),
            )
            for route, places in records.by_shard(batch.keys, sets.shards).items()
        ]

    def _counted(self) -> tuple[GroupInfo, ...] | None:
        """The counters of all sets that are whole; None when one of them was swapped meanwhile."""
        sets = self._sets
        every = sets.everything()
        asked = [
            (name, sets.keys.set(route, current), route)
            for name, current in every.items()
            for route in records.routes_of(current, sets.shards)
        ]
        calls = [call(route, b"HLEN", key) for _, key, route in asked]
        calls += [call(route, b"HGET", key, MARK) for _, key, route in asked]
        answers = self._servers.run(calls) if calls else []
        sizes = answers[len(asked) :]
        torn = {name for (name, _, _), size in zip(asked, sizes, strict=True) if size is None}
        if torn:
            named = sets.everything()
            if any(named.get(name) != every[name] for name in torn):
                return None
        counts: dict[tuple[str, str], list[int]] = {}
        for (name, _, _), length, size in zip(asked, answers, sizes, strict=False):
            if name in torn:  # it is lost, at least in part: reads say so
                continue
            held = counts.setdefault((name.key_space, name.group), [0, 0, 0])
            if name.kind == ROWS:
                held[0] += length - 1
            else:
                held[2] += length - 2
            held[1] += int(size)
        return tuple(
            GroupInfo(space, group, rows, size, held_cells)
            for (space, group), (rows, size, held_cells) in sorted(counts.items())
            if rows or held_cells
        )

    def _visiting(self, visit: Callable[[Any], T]) -> Callable[[Any], T]:
        """The visit, during which its thread may not call the store."""

        def run(held: Any) -> T:
            self._visits.inside = True
            try:
                return visit(held)
            finally:
                self._visits.inside = False

        return run

    def _check_usable(self) -> None:
        if self._visits.inside:
            raise RequestError(
                "an online store was called from within a visit to its cells",
                try_="return from the visit what the call needs, and call the store afterwards",
            )
        if self._closed:
            raise StoreUnavailableError(f"online store redis at {self._servers} is closed", try_="open the store again")

    def _restless(self) -> ConflictError:
        return ConflictError(
            f"groups were loaded anew {TURNS} times during one call", try_="load less often, then try again"
        )
