"""Visits to a group's cells: every one of them sees one state, whatever others write meanwhile.

A visit remembers what it has read. Each trip to the server gets the version of the set along with the cells. When
that has changed, somebody else has committed, and what was read before is read again, with what is asked now, in one
step: if it is the same, the visit has seen nothing that is old, and goes on; if not, it begins again. So visits are
disturbed by those alone who write what they read. A commit is checked by the version in the same way.

A visit that walks down a tree learns from one cell which to ask for next, a trip each. What a visit asked for after
its first question is therefore remembered, and the next one with the same first question gets all of it at once.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, TypeVar

from grange.errors import ConflictError, StoreUnavailableError
from grange.online.redis import records, scripts
from grange.online.redis.records import VERSION, Name
from grange.online.redis.resp import Call
from grange.online.redis.scripts import script
from grange.online.redis.sets import Build, Sets
from grange.ports.online import Cells, WritableCells, check_ascending

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds that a visit is begun again and again while others write what it reads."""
GUESSES: Final = 10_000
"""How many first questions are remembered."""
GUESSED_CELLS: Final = 100
"""Visits that ask for more are not: they are not one entity's."""
COMMITS: Final = 100
"""How often a commit is tried before the visit is begun again."""
LOAD_CELLS: Final = 8192
LOAD_BYTES: Final = 4 << 20
"""What a load of cells sends at a time, at most about."""


class Guesses:
    """What visits that began with the same question asked for later. Safe for threads: a lost guess costs a trip."""

    def __init__(self) -> None:
        self._later: dict[tuple[Name, tuple[bytes, ...]], tuple[bytes, ...]] = {}

    def get(self, name: Name, first: Sequence[bytes]) -> tuple[bytes, ...]:
        """The cells that will be asked for, perhaps."""
        return self._later.get((name, tuple(first)), ())

    def keep(self, name: Name, first: Sequence[bytes], later: Sequence[bytes]) -> None:
        """Remember what was asked for."""
        if len(first) + len(later) > GUESSED_CELLS:
            return
        if len(self._later) >= GUESSES:
            self._later = {}
        self._later[name, tuple(first)] = tuple(later)


class AgainError(BaseException):
    """Ends a visit that must begin again. No error, so that a visit that handles errors lets it pass."""


class ReadCells:
    """A group's cells in one state. See `grange.ports.online.Cells`.

    Args:
        sets: of the store.
        name: of the group's cells.
        guesses: of visits before.
    """

    def __init__(self, sets: Sets, name: Name, guesses: Guesses) -> None:
        self._sets = sets
        self._name = name
        self._guesses = guesses
        self._first: list[bytes] = []
        self._guess: tuple[bytes, ...] = ()
        self._asked_for: dict[bytes, None] = {}
        """In order."""
        self.current: bytes | None = None
        """The set that is read; None before the first trip, and where there is none."""
        self.version: bytes | None = None
        self._asked = False
        self._read: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a cell."""
        return self.get_many((key,))[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each cell, in one trip at most."""
        read, asked = self._read, dict.fromkeys(keys)
        unknown = [key for key in asked if key not in read]
        if unknown and not self._first:
            self._first = unknown
            self._guess = self._guesses.get(self._name, unknown)
            unknown = [*unknown, *(key for key in self._guess if key not in asked)]
        self._asked_for.update(asked)
        if unknown:
            self.fetch(unknown)
        return [read[key] for key in keys]

    def finish(self) -> None:
        """Remember what was asked for, after the visit."""
        later = list(self._asked_for)[len(self._first) :]
        if tuple(later) != self._guess:
            self._guesses.keep(self._name, self._first, later)

    def fetch(self, keys: Sequence[bytes]) -> None:
        """Read cells, and see that all that was read is of one state.

        Raises:
            AgainError: it is not.
        """
        if not self._asked:
            self.current = self._sets.find(self._name)
            self._asked = True
        if self.current is None:  # no cells, at the moment when the record was asked
            self._read.update(dict.fromkeys(keys))
            return
        version, values = self._ask(keys)
        if self.version not in (None, version):
            before = list(self._read)
            version, values = self._ask([*keys, *before])
            if values[len(keys) :] != [self._read[key] for key in before]:
                raise AgainError
        self.version = version
        self._read.update(zip(keys, values, strict=False))

    def _held(self) -> bytes:
        """The set that is read, which there is."""
        assert self.current is not None
        return self.current

    def _ask(self, keys: Sequence[bytes]) -> tuple[bytes, list[bytes | None]]:
        current = self._held()
        (route,) = records.routes_of(current, self._sets.shards)
        key = self._sets.keys.set(route, current)
        (answer,) = self._sets.servers.run([Call(route, records.hmget(key, VERSION, keys))])
        version, *values = answer
        if version is None:
            self._gone()
        return version, values

    def _gone(self) -> None:
        """The set is no longer read: another took its place, or there is none."""
        current = self._held()
        self._sets.forget(self._name, current)
        if self._sets.find(self._name) == current:
            raise self._sets.lost(self._name)
        raise AgainError


class ChangedCells(ReadCells):
    """A group's cells, and what a visit changes of them. See `grange.ports.online.WritableCells`."""

    def __init__(self, sets: Sets, name: Name, guesses: Guesses) -> None:
        super().__init__(sets, name, guesses)
        self.changes: dict[bytes, bytes | None] = {}
        """None is a cell that was deleted."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each cell, those that this visit changed as it left them."""
        changes = self.changes
        if not changes:
            return super().get_many(keys)
        found = iter(super().get_many([key for key in keys if key not in changes]))
        return [changes[key] if key in changes else next(found) for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        """Set a cell's value."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a cell."""
        self.changes[key] = None

    def commit(self) -> None:
        """Write the changes, if what was read is still so.

        Raises:
            AgainError: it is not.
            StoreUnavailableError: nothing was written; or it says that nobody knows.
        """
        if not self.changes:
            return
        if self.current is None:
            self._begin()
        for _ in range(COMMITS):
            if self.version is None:  # a visit that only wrote
                self.fetch([])
            outcome = self._try()
            if outcome == 1 and self._sets.still_read(self._name, self._held()):
                return
            if outcome == 1:  # into a set that a load has replaced
                raise AgainError
            if outcome == -1:
                self._gone()
            self._renew()
        raise AgainError

    def _begin(self) -> None:
        """Make the set of a group that had none."""
        current = self._sets.ensure(self._name)
        if self._asked:  # what the visit did not find may have come since
            self.current, self.version = current, None
            self._renew()
        self.current, self._asked = current, True

    def _renew(self) -> None:
        """Somebody else has committed: see whether it matters."""
        before = list(self._read)
        version, values = self._ask(before)
        if values != [self._read[key] for key in before]:
            raise AgainError
        self.version = version

    def _try(self) -> int:
        assert self.version is not None
        current = self._held()
        (route,) = records.routes_of(current, self._sets.shards)
        token = secrets.token_bytes(records.TOKEN_BYTES)
        asked = script(
            route,
            scripts.COMMIT,
            [self._sets.keys.set(route, current)],
            self.version,
            token,
            *records.pair_texts(list(self.changes.items())),
        )
        return self._sent(asked)

    def _sent(self, asked: Call) -> int:
        """What a commit answers. When its answer got lost it is sent again: the server knows its token."""
        lost: StoreUnavailableError | None = None
        for _ in range(2):
            try:
                (outcome,) = self._sets.servers.run([asked], again=False)
            except StoreUnavailableError as error:
                if lost is not None or not error.details.get("unanswered"):
                    raise
                lost = error
                continue
            assert isinstance(outcome, int)
            if outcome != 1 and lost is not None:  # it came first, or the first sending did and many others since
                break
            return outcome
        assert lost is not None
        raise lost


def visit_to_read(sets: Sets, name: Name, guesses: Guesses, visit: Callable[[Cells], T]) -> T:
    """What a visit returns of one state of a group's cells."""

    def run() -> T:
        cells = ReadCells(sets, name, guesses)
        result = visit(cells)
        cells.finish()
        return result

    return _until_undisturbed(run)


def visit_to_write(sets: Sets, name: Name, guesses: Guesses, visit: Callable[[WritableCells], T]) -> T:
    """What a visit returns whose changes are then written in one step."""

    def run() -> T:
        cells = ChangedCells(sets, name, guesses)
        result = visit(cells)
        cells.commit()
        cells.finish()
        return result

    return _until_undisturbed(run)


def _until_undisturbed(run: Callable[[], T]) -> T:
    """Run something until others leave alone what it reads."""
    end = time.monotonic() + PATIENCE
    turn = 0
    while True:
        try:
            return run()
        except AgainError:
            turn += 1
        if time.monotonic() > end:
            raise ConflictError(
                f"others write the same cells all the time; gave up after {turn} turns", try_="try again later"
            )
        if turn > 2:  # make room, each at another moment
            time.sleep(random.uniform(0, min(0.0005 * 2**turn, 0.02)))


def load(sets: Sets, name: Name, cells: Iterable[tuple[bytes, bytes]]) -> int:
    """Replace all of a group's cells: put aside in parts, then swapped in. Returns how many they are.

    Raises:
        RequestError: keys do not ascend.
    """
    sets.sweep()
    last: bytes | None = None
    with Build(sets, records.CELLS) as build:
        (route,) = build.routes
        source = iter(cells)
        while part := _part(source):
            keys = [key for key, _ in part]
            check_ascending(last, keys)
            last = keys[-1]
            build.put(build.commands(route, keys, [value for _, value in part], None))
        build.adopt(name)
        return build.rows[route]


def _part(source: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The next cells, of bounded size."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for item in islice(source, LOAD_CELLS):
        part.append(item)
        size += len(item[1])
        if size >= LOAD_BYTES:
            break
    return part
