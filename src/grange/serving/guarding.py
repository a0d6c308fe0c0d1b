"""An online store that is read carefully: left alone while it fails, remembered for a moment, asked once for many.

`GuardedOnlineStore` is an `OnlineStore` around another. Three things stand between a read and the store, each by
itself:

- A memory (off by default). A row that was read less than `max_age` ago is given again, so an answer is at most that
  much older than the store's. What this process writes is forgotten at once. Window state is not remembered.
- A breaker. After `failures` outages in a row the store is left alone for `pause`; then one read tries it, and either
  all go on or the pause begins again. Only outages count (StoreUnavailableError): a damaged row is no reason to stop,
  nor is a group that the store lost (StateLostError): it answers, and has the others.
- One read for equal keys: a key that is asked for twice in a read is read once.

Time is an argument (TIME-3): the clock is handed in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar

from grange.errors import StateLostError, StorageFullError, StoreUnavailableError
from grange.ports.online import Cells, GroupInfo, OnlineBatch, OnlineStore, StoredRow, WritableCells

T = TypeVar("T")
State = Literal["closed", "half_open", "open"]
Clock = Callable[[], float]
"""Seconds that never go back."""


class Watcher(Protocol):
    """Is told what happens; must be quick, and safe for several threads."""

    def store_call(self, call: str, seconds: float) -> None:
        """A call of the store that was answered."""

    def outage(self) -> None:
        """A call of the store that failed, or was not answered in time."""

    def lost(self, group: str) -> None:
        """A call that asked for a feature group which the store lost; empty where it cannot say which."""

    def cached(self, hits: int, misses: int) -> None:
        """Entity keys that were looked for in memory."""

    def breaker(self, state: State) -> None:
        """What the breaker came to."""


class _Nobody:
    """Watches nothing."""

    def store_call(self, call: str, seconds: float) -> None: ...
    def outage(self) -> None: ...
    def lost(self, group: str) -> None: ...
    def cached(self, hits: int, misses: int) -> None: ...
    def breaker(self, state: State) -> None: ...


NOBODY: Final[Watcher] = _Nobody()


class Breaker:
    """Whether a store may be asked. Safe for several threads.

    Args:
        failures: outages in a row after which it is left alone; 0 never leaves it alone.
        pause: seconds for which it is.
        clock: the time.
        on_change: told each new state.
    """

    def __init__(
        self, failures: int, pause: float, clock: Clock, on_change: Callable[[State], None] = lambda state: None
    ) -> None:
        self._failures = failures
        self._pause = pause
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._trying = False

    @property
    def state(self) -> State:
        """What it is at this moment."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._trying or self._clock() - self._opened_at >= self._pause else "open"

    def check(self) -> None:
        """Nothing when the store may be asked. After the pause one caller may, the others when that one was answered.

        Raises:
            StoreUnavailableError: it is left alone; `details["retry_after"]` says for how long.
        """
        if self._opened_at is None:
            return
        left = self._left()
        if left is not None:
            raise _left_alone(max(left, 0.0))

    def _left(self) -> float | None:
        """Seconds of the pause that are left; None for who may ask."""
        with self._lock:
            if self._opened_at is None:
                return None
            left = self._pause - (self._clock() - self._opened_at)
            if left > 0 or self._trying:
                return left
            self._trying = True
        self._on_change("half_open")
        return None

    def succeeded(self) -> None:
        """The store answered."""
        if self._in_a_row == 0 and self._opened_at is None:
            return
        with self._lock:
            was_open = self._opened_at is not None
            self._in_a_row, self._opened_at, self._trying = 0, None, False
        if was_open:
            self._on_change("closed")

    def failed(self) -> None:
        """The store had an outage."""
        with self._lock:
            self._in_a_row += 1
            is_open = self._opened_at is not None
            if not (self._trying or (self._failures and self._in_a_row >= self._failures and not is_open)):
                return
            self._opened_at, self._trying = self._clock(), False
        self._on_change("open")

    def gave_up(self) -> None:
        """A try ended without saying anything of the store: the next caller may try."""
        with self._lock:
            self._trying = False


def _left_alone(seconds: float) -> StoreUnavailableError:
    return StoreUnavailableError(
        "the online store had outages one after another, and is left alone for a while",
        try_=f"come again in {seconds:.1f} seconds",
        details={"retry_after": seconds},
    )


@dataclass(slots=True)
class Tally:
    """What the reads of one answer found in memory."""

    hits: int = 0
    misses: int = 0

    @property
    def is_cached(self) -> bool:
        """Whether all of it came from memory."""
        return self.hits > 0 and not self.misses


class Waiting:
    """How long one thread has waited for the store, told to others while it waits.

    Args:
        clock: seconds that never go back.
    """

    __slots__ = ("_clock", "_since", "_spent")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._spent = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether a call of the store is not answered yet."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """What calls of the store took together, with the one that is under way."""
        spent, since = self._spent, self._since
        return spent if since is None else spent + self._clock() - since

    def begin(self) -> None:
        """A call of the store begins."""
        self._since = self._clock()

    def end(self) -> None:
        """It ended, one way or another."""
        since, self._since = self._since, None
        if since is not None:
            self._spent += self._clock() - since


class _Here(threading.local):
    """What is true of this thread's reads alone."""

    tally: Tally | None = None
    left_alone: bool = False
    past_memory: bool = False
    waiting: Waiting | None = None


_HERE: Final = _Here()


@contextmanager
def tallied() -> Iterator[Tally]:
    """Counts what this thread's reads find in memory."""
    before, _HERE.tally = _HERE.tally, Tally()
    try:
        yield _HERE.tally
    finally:
        _HERE.tally = before


@contextmanager
def left_alone() -> Iterator[None]:
    """Lets this thread's reads go without the store, as in an outage: what is in memory is given, the rest raises
    StoreUnavailableError. For answers by policy (ONL-6) when a read took too long."""
    before, _HERE.left_alone = _HERE.left_alone, True
    try:
        yield
    finally:
        _HERE.left_alone = before


@contextmanager
def past_memory() -> Iterator[None]:
    """Lets this thread's reads ask the store whatever is in memory, and leave what is there: for who compares what the
    store holds."""
    before, _HERE.past_memory = _HERE.past_memory, True
    try:
        yield
    finally:
        _HERE.past_memory = before


@contextmanager
def watched(waiting: Waiting) -> Iterator[None]:
    """Tells others how long this thread waits for the store."""
    before, _HERE.waiting = _HERE.waiting, waiting
    try:
        yield
    finally:
        _HERE.waiting = before


@dataclass(slots=True)
class _Remembered:
    """The rows of one entity key, by group, each with the moment before it was read."""

    rows: dict[str, tuple[StoredRow | None, float]] = field(default_factory=dict)


class RowMemory:
    """Rows that were read a moment ago. Safe for several threads.

    Args:
        max_age: seconds after which a row is read again.
        most: entity keys at most; what was not used for longest is forgotten first.
        clock: the time.
    """

    def __init__(self, max_age: float, most: int, clock: Clock) -> None:
        self._max_age = max_age
        self._most = most
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes], _Remembered] = OrderedDict()
        self._lock = threading.Lock()
        self._writes = 0
        """Counts writes of this process as they begin and end: what was read across one is not remembered."""

    def __len__(self) -> int:
        return len(self._known)

    def begin(self) -> tuple[float, int]:
        """The moment of a read, for `get` and `put`."""
        return self._clock(), self._writes

    def get(
        self, key_space: str, keys: Sequence[bytes], groups: Sequence[str], moment: tuple[float, int]
    ) -> list[tuple[StoredRow | None, ...] | None]:
        """Per key the rows of the groups, where all are known and young enough; else None."""
        oldest = moment[0] - self._max_age
        with self._lock:
            return [self._get(key_space, key, groups, oldest) for key in keys]

    def _get(
        self, key_space: str, key: bytes, groups: Sequence[str], oldest: float
    ) -> tuple[StoredRow | None, ...] | None:
        known = self._known.get((key_space, key))
        if known is None:
            return None
        rows: list[StoredRow | None] = []
        for group in groups:
            found = known.rows.get(group)
            if found is None or found[1] < oldest:
                return None
            rows.append(found[0])
        self._known.move_to_end((key_space, key))
        return tuple(rows)

    def put(
        self,
        key_space: str,
        keys: Sequence[bytes],
        groups: Sequence[str],
        found: Sequence[tuple[StoredRow | None, ...]],
        moment: tuple[float, int],
    ) -> None:
        """Remember what a read found, unless this process wrote meanwhile."""
        with self._lock:
            if self._writes != moment[1]:
                return
            for key, rows in zip(keys, found, strict=True):
                known = self._known.setdefault((key_space, key), _Remembered())
                for group, row in zip(groups, rows, strict=True):
                    known.rows[group] = row, moment[0]
                self._known.move_to_end((key_space, key))
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    @contextmanager
    def changing(self, key_space: str, group: str, keys: Sequence[bytes] | None) -> Iterator[None]:
        """Around a write: what it changes is forgotten before it begins and after it ends, and nothing that is read
        meanwhile is remembered. Without keys all of the group is forgotten."""
        self._forget(key_space, group, keys)
        try:
            yield
        finally:
            self._forget(key_space, group, keys)

    def _forget(self, key_space: str, group: str, keys: Sequence[bytes] | None) -> None:
        with self._lock:
            self._writes += 1
            if keys is None:
                for (space, _), known in self._known.items():
                    if space == key_space:
                        known.rows.pop(group, None)
                return
            for key in keys:
                found = self._known.get((key_space, key))
                if found is not None:
                    found.rows.pop(group, None)


class GuardedOnlineStore:
    """An online store behind a memory and a breaker. Safe for several threads.

    Args:
        store: the store.
        breaker: whether it may be asked.
        memory: rows that were read a moment ago; none are remembered without.
        clock: seconds that never go back.
        watcher: is told what happens.
    """

    def __init__(
        self,
        store: OnlineStore,
        *,
        breaker: Breaker,
        memory: RowMemory | None = None,
        clock: Clock,
        watcher: Watcher = NOBODY,
    ) -> None:
        self.name = store.name
        self.breaker = breaker
        self._store = store
        self._memory = memory
        self._clock = clock
        self._watcher = watcher

    # -- reads -------------------------------------------------------------------------------------------------------

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group. See `OnlineStore.read`."""
        distinct = list(dict.fromkeys(keys))
        found = self._rows(key_space, distinct, groups)
        if len(distinct) == len(keys):
            return found
        by_key = dict(zip(distinct, found, strict=True))
        return [by_key[key] for key in keys]

    def _rows(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        if self._memory is None or _HERE.past_memory:
            return self._guarded("read", lambda: self._store.read(key_space, keys, groups))
        moment = self._memory.begin()
        known = self._memory.get(key_space, keys, groups, moment)
        missing = [key for key, rows in zip(keys, known, strict=True) if rows is None]
        self._tell(len(keys) - len(missing), len(missing))
        if not missing:
            return [rows for rows in known if rows is not None]
        read = self._guarded("read", lambda: self._store.read(key_space, missing, groups))
        self._memory.put(key_space, missing, groups, read, moment)
        answers = iter(read)
        return [next(answers) if rows is None else rows for rows in known]

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns. See `OnlineStore.read_cells`."""
        if _HERE.tally is not None:
            _HERE.tally.misses += 1
        return self._guarded("read_cells", lambda: self._store.read_cells(key_space, group, visit))

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number. See `OnlineStore.layout`."""
        return self._guarded("layout", lambda: self._store.layout(layout))

    def timed_out(self) -> None:
        """A call of the store was given up because it took too long, while its thread still waits: an outage like
        others. That an answer took long for another reason is none (`Waiting` tells the two apart)."""
        self._watcher.outage()
        self.breaker.failed()

    def is_lost(self, error: StateLostError) -> None:
        """A group turned out to be lost, though the store itself knows of none."""
        self._watcher.lost(error.details.get("group", ""))

    def _guarded(self, call: str, work: Callable[[], T]) -> T:
        if _HERE.left_alone:
            raise StoreUnavailableError("the online store did not answer in time")
        self.breaker.check()
        started, waiting = self._clock(), _HERE.waiting
        if waiting is not None:
            waiting.begin()
        try:
            result = work()
        except StorageFullError:
            self.breaker.gave_up()
            raise
        except StateLostError as error:
            self.breaker.succeeded()  # it answered
            self.is_lost(error)
            raise
        except StoreUnavailableError:
            self._watcher.outage()
            self.breaker.failed()
            raise
        except BaseException:
            self.breaker.gave_up()
            raise
        finally:
            if waiting is not None:
                waiting.end()
        self.breaker.succeeded()
        self._watcher.store_call(call, self._clock() - started)
        return result

    def _tell(self, hits: int, misses: int) -> None:
        if _HERE.tally is not None:
            _HERE.tally.hits += hits
            _HERE.tally.misses += misses
        self._watcher.cached(hits, misses)

    # -- writes ------------------------------------------------------------------------------------------------------

    def write(self, key_space: str, group: str, columns: Sequence[str], batch: OnlineBatch) -> int:
        """Merge rows. See `OnlineStore.write`."""
        with self._changing(key_space, group, batch.keys):
            return self._store.write(key_space, group, columns, batch)

    def load(self, key_space: str, group: str, columns: Sequence[str], batches: Iterable[OnlineBatch]) -> int:
        """Replace all of a group's rows. See `OnlineStore.load`."""
        with self._changing(key_space, group, None):
            return self._store.load(key_space, group, columns, batches)

    def write_cells(self, key_space: str, group: str, visit: Callable[[WritableCells], T]) -> T:
        """Change a group's cells. See `OnlineStore.write_cells`."""
        return self._store.write_cells(key_space, group, visit)

    def load_cells(self, key_space: str, group: str, cells: Iterable[tuple[bytes, bytes]]) -> int:
        """Replace a group's cells. See `OnlineStore.load_cells`."""
        return self._store.load_cells(key_space, group, cells)

    def drop(self, key_space: str, group: str) -> None:
        """Remove a group. See `OnlineStore.drop`."""
        with self._changing(key_space, group, None):
            self._store.drop(key_space, group)

    def info(self) -> tuple[GroupInfo, ...]:
        """What is stored. See `OnlineStore.info`."""
        return self._guarded("info", self._store.info)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def __getattr__(self, name: str) -> Any:
        # what a store has beyond its port (what `grange verify` asks, say) is its own to answer
        if name.startswith("__") or "_store" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._store, name)

    @contextmanager
    def _changing(self, key_space: str, group: str, keys: Sequence[bytes] | None) -> Iterator[None]:
        if self._memory is None:
            yield
            return
        with self._memory.changing(key_space, group, keys):
            yield


def guarded(
    store: OnlineStore,
    *,
    cache: float | None,
    cache_entries: int,
    failures: int,
    pause: float,
    clock: Clock,
    watcher: Watcher = NOBODY,
) -> GuardedOnlineStore:
    """A store with a guard made of settings.

    Args:
        store: the store.
        cache: seconds that an answer may be older than the store's; None remembers nothing.
        cache_entries: entity keys at most that are remembered.
        failures: outages in a row after which the store is left alone; 0 never leaves it alone.
        pause: seconds for which it is.
        clock: seconds that never go back.
        watcher: is told what happens.
    """
    return GuardedOnlineStore(
        store,
        breaker=Breaker(failures, pause, clock, watcher.breaker),
        memory=None if cache is None else RowMemory(cache, cache_entries, clock),
        clock=clock,
        watcher=watcher,
    )


__all__ = [
    "NOBODY",
    "Breaker",
    "GuardedOnlineStore",
    "RowMemory",
    "Tally",
    "Waiting",
    "Watcher",
    "guarded",
    "left_alone",
    "past_memory",
    "tallied",
    "watched",
]
