"""Which set of a group is read, and how one comes to be: built aside, then named in the record in one step.

A client remembers the sets it has met and need not ask again: a set that is no longer read has lost its mark, which
every read asks for as well. Then it asks the record. In a Cluster, where the record and the marks of a set lie on
different nodes and whoever swaps them may die in between, it asks the record again every `TRUSTED` seconds, and after
each write: so no write that was taken is one that nobody reads. What is being built has a lease, renewed with each
part; what was left by a process that died is removed by whoever loads next, once its lease is over.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Final

from grange.errors import ConfigError, ConflictError, StateLostError, StoreUnavailableError
from grange.online.redis import records, scripts
from grange.online.redis.failures import corrupt, lost, lost_layouts
from grange.online.redis.records import FORMAT, MARK, ROWS, VERSION, Keys, Name
from grange.online.redis.resp import META, Call, call
from grange.online.redis.scripts import script
from grange.online.redis.servers import Servers

TRUSTED: Final = 1.0
"""Seconds that a client of a Cluster reads a set without asking the record again."""
LEASE: Final = 600.0
"""Seconds that a load may pause between two of its parts before others may discard it."""


class Sets:
    """The sets of a store. Safe for threads.

    Args:
        servers: where they lie.
        namespace: of the store.
        owner: whose the record must be, where that is known.
    """

    def __init__(self, servers: Servers, namespace: str, owner: str | None = None) -> None:
        self.servers = servers
        self.keys = Keys(namespace)
        self._namespace = namespace
        self._owner = (owner or "").encode()
        self.shards = 1 if servers.atomic else records.CLUSTER_SHARDS
        self._format: bytes | None = None
        self._known: dict[Name, bytes] = {}
        self._asked: dict[Name, float] = {}
        """When the record said so, by the monotonic clock."""
        self._met: set[Name] = set()
        """Names that had a set at some time."""
        self._lost: set[Name] = set()
        """Those that had one in a record that is gone, and have none in the one that took its place."""
        self._registered: dict[tuple[str, ...], int] = {}
        self._layouts: dict[int, tuple[str, ...]] = {}

    # -- what is read ------------------------------------------------------------------------------------------

    def known(self, name: Name) -> bytes | None:
        """The set that was read last, which may be gone by now; None when the record must be asked."""
        current = self._known.get(name)
        if self.servers.atomic or current is None or time.monotonic() - self._asked[name] < TRUSTED:
            return current
        return None

    def question(self, names: Sequence[Name]) -> Call:
        """What to ask the record; `learn` takes the answer."""
        return call(META, b"HMGET", self.keys.record, FORMAT, *(name.field() for name in names))

    def learn(self, names: Sequence[Name], answer: Sequence[bytes | None]) -> None:
        """Take what the record answered.

        Raises:
            CorruptStoreError: the record is of another format.
            StateLostError: the server lost one, and a set with it.
            ConfigError: the record is somebody else's.
        """
        missing = self._take(names, answer)
        if answer[0] is not None or not self._met:
            missing = [name for name in missing if name in self._met]
        if not missing:
            return
        # another thread may have made it since the record was asked: what is missing now is lost, or was dropped
        (answer,) = self.servers.run([self.question(missing)])
        for name in self._take(missing, answer):
            if answer[0] is None or name in self._lost:
                raise self.lost(name, is_named=False)

    def _take(self, names: Sequence[Name], answer: Sequence[bytes | None]) -> list[Name]:
        """Take what the record answered. Returns the names of which there is no set."""
        said, *found = answer
        self._check_format(said)
        for name, current in zip(names, found, strict=True):
            if current is None:
                self._known.pop(name, None)
            else:
                self._meet(name, current)
        return [name for name, current in zip(names, found, strict=True) if current is None]

    def _meet(self, name: Name, current: bytes) -> None:
        """A set is the one that is read."""
        self._asked[name] = time.monotonic()
        self._known[name] = current
        self._met.add(name)
        self._lost.discard(name)

    def find(self, name: Name) -> bytes | None:
        """The set that is read, of the record if it is not known; None when there is none."""
        return self.known(name) or self._ask(name)

    def still_read(self, name: Name, current: bytes) -> bool:
        """Whether what was just written to a set is read: on a server of its own the script that wrote knew."""
        return self.servers.atomic or self._ask(name) == current

    def _ask(self, name: Name) -> bytes | None:
        (answer,) = self.servers.run([self.question([name])])
        self.learn([name], answer)
        return self._known.get(name)

    def forget(self, name: Name, gone: bytes) -> None:
        """A set has lost its mark: ask the record the next time, and register layouts anew."""
        if self._known.get(name) == gone:
            self._known.pop(name, None)
        self._registered = {}

    def everything(self) -> dict[Name, bytes]:
        """All sets that are read, asked of the record."""
        (answer,) = self.servers.run([call(META, b"HGETALL", self.keys.record)])
        found = dict(zip(answer[::2], answer[1::2], strict=True))
        self._check_format(found.pop(FORMAT, None))
        named = {Name(*records.decode_name(field)): current for field, current in found.items()}
        self._met.update(named)
        return named

    def lost(self, name: Name, *, is_named: bool = True) -> StateLostError:
        """What to raise of a set that is not there.

        Args:
            name: of the set.
            is_named: whether the record names it; then its other shards may be there.
        """
        partly = is_named and name.kind == ROWS and self.shards > 1
        return lost(str(self.servers), key_space=name.key_space, group=name.group, partly=partly)

    def _check_format(self, said: bytes | None) -> None:
        if said is None or said == self._format:
            return
        told = records.format_of(said)
        if told is None:
            raise corrupt(str(self.servers), f"its record is of format {said!r}, written by another version of Grange")
        if self._owner and told.owner and told.owner != self._owner:
            raise self._taken()
        if self._format is not None:  # what was in the record before is lost, until it is met in this one
            self._lost = set(self._met)
        self.shards = told.shards
        # a server that lost its data has lost the layouts as well
        self._format, self._registered = said, {}

    def _taken(self) -> ConfigError:
        """What to raise of a namespace that is somebody else's."""
        return ConfigError(
            f"the namespace {self._namespace!r} of online store redis at {self.servers} belongs to another project",
            asked_by="online store 'redis'",
            found="its rows were loaded with another registry",
            try_="give this project a namespace of its own in [online]; if its registry was made anew, too, and "
            "grange materialize",
        )

    # -- layouts -----------------------------------------------------------------------------------------------

    def layout_number(self, columns: Iterable[str], *, anew: bool = False) -> int:
        """The number of a layout, registered if need be; with `anew` in any case.

        To be called when the set is there whose rows will have it: a server that loses layouts loses sets as well.
        """
        wanted = tuple(columns)
        number = None if anew else self._registered.get(wanted)
        if number is None:
            text = records.encode(wanted)
            asked = script(META, scripts.LAYOUT, [self.keys.layouts], text, b"%d" % records.layout_wish(text))
            (number,) = self.servers.run([asked])
            assert isinstance(number, int)
            self._registered[wanted] = number
            self._layouts[number] = wanted
        return number

    def layout(self, number: int) -> tuple[str, ...]:
        """The columns of a layout.

        Raises:
            CorruptStoreError: no such layout was ever written.
            StateLostError: the server lost all of them.
        """
        known = self._layouts.get(number)
        if known is None:
            layouts, record = self.keys.layouts, self.keys.record
            asked = [call(META, b"HGET", layouts, b"n%d" % number)]
            asked += [call(META, b"HLEN", key) for key in (layouts, record)]
            text, count, sets = self.servers.run(asked)
            if text is None and not count and (sets or self._met):
                raise lost_layouts(str(self.servers))
            if text is None:
                raise corrupt(str(self.servers), f"layout {number}, which was never written")
            known = self._layouts[number] = records.decode_columns(text)
        return known

    # -- building ----------------------------------------------------------------------------------------------

    def ensure(self, name: Name) -> bytes:
        """The set that is read; an empty one is made when there is none."""
        current = self.find(name)
        if current is None:
            with Build(self, name.kind) as build:
                current = build.adopt(name, leave=True)
            self._registered = {}  # the record may have been made with it
        return current

    def drop(self, name: Name) -> None:
        """Read no set of a group any more, and remove what was read."""
        self._adopt(name, b"", leave=False)
        self._known.pop(name, None)
        self._met.discard(name)
        self._lost.discard(name)

    def _adopt(self, name: Name, fresh: bytes, *, leave: bool) -> tuple[int, bytes]:
        """Make a set the one that is read, remove the one before. Returns the outcome and the set of `scripts.ADOPT`.

        Raises:
            ConfigError: the namespace is somebody else's.
        """
        prefix = self.keys.prefix(0) if self.servers.atomic and self.shards == 1 else b""
        asked = script(
            META,
            scripts.ADOPT,
            [self.keys.record, self.keys.aside],
            name.field(),
            fresh,
            prefix,
            b"%d" % leave,
            records.format_text(self.shards, self._owner),
            self._owner,
        )
        ((outcome, other, said),) = self.servers.run([asked])
        if outcome == 3:
            raise self._taken()
        self._check_format(said)
        if outcome == 1 and not prefix:
            # it is done; what cannot be removed now is aside, for the next load
            with contextlib.suppress(StoreUnavailableError):
                self.sweep()
        return outcome, other

    def remove(self, name: bytes) -> None:
        """Delete a set that is aside, in the background of the server."""
        routes = records.routes_of(name, self.shards)
        self.servers.run([call(route, b"UNLINK", self.keys.set(route, name)) for route in routes])
        self.servers.run([call(META, b"ZREM", self.keys.aside, name)])

    def sweep(self) -> None:
        """Remove what was left by loads that died."""
        (found,) = self.servers.run([script(META, scripts.SWEEP, [self.keys.aside])])
        for name in found:
            self.remove(name)


class Build:
    """A set that nobody reads yet. Leaving the block without `adopt` removes it.

    Args:
        sets: of the store.
        kind: `rows` or `cells`.
    """

    def __init__(self, sets: Sets, kind: str) -> None:
        self._sets = sets
        self._kind = kind
        self._leased = 0.0
        self._done = False
        self.name = records.new_set(kind)
        self.routes = records.routes_of(self.name, sets.shards)
        self.rows = dict.fromkeys(self.routes, 0)
        self.bytes = dict.fromkeys(self.routes, 0)

    def __enter__(self) -> Build:
        self._lease(new=True)
        version = [VERSION, secrets.token_bytes(records.TOKEN_BYTES)] if self._kind != ROWS else []
        self._sets.servers.run(
            [call(route, b"HSET", self._sets.keys.set(route, self.name), MARK, b"0", *version) for route in self.routes]
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        if self._done:
            return
        try:
            self._discard()
        except StoreUnavailableError:
            if kind is None:
                raise
            # what ended the load says more; the lease ends, and the next load removes the set

    def _discard(self) -> None:
        # when the answer to `adopt` got lost the set may be the one that is read
        (aside,) = self._sets.servers.run([script(META, scripts.DISCARD, [self._sets.keys.aside], self.name)])
        if aside:
            self._sets.remove(self.name)

    def commands(self, route: int, names: Sequence[bytes], values: Sequence[bytes], expire: int | None) -> list[Call]:
        """What puts rows or cells into the set, and counts them."""
        key = self._sets.keys.set(route, self.name)
        found = []
        for start in range(0, len(names), records.PAIRS):
            part = names[start : start + records.PAIRS]
            found.append(Call(route, records.hset(key, part, values[start : start + records.PAIRS])))
            if expire is not None:
                fields = [b"k" + name for name in part]
                found.append(call(route, b"HPEXPIRE", key, b"%d" % expire, b"FIELDS", b"%d" % len(part), *fields))
        self.rows[route] += len(names)
        self.bytes[route] += sum(map(len, names)) + sum(map(len, values))
        return found

    def put(self, calls: Sequence[Call]) -> None:
        """Send commands, and keep the lease.

        Raises:
            ConflictError: others discarded the set, because the last part came too long ago.
        """
        if time.monotonic() - self._leased > LEASE / 4:
            self._lease(new=False)
        self._sets.servers.run(calls)

    def adopt(self, name: Name, *, leave: bool = False, expires: bool = False) -> bytes:
        """Make it the set that is read. Returns that.

        Args:
            name: of the group.
            leave: whether a set that is there already stays, and this one is removed.
            expires: whether rows may have expired meanwhile.

        Raises:
            ConflictError: others discarded the set.
            ConfigError: the namespace is somebody else's.
            StoreUnavailableError: the server lost a part of it, as it does when it starts anew without its data.
        """
        self._seal(expires=expires)
        outcome, other = self._sets._adopt(name, self.name, leave=leave)
        if outcome == 0:
            raise self._discarded()
        current = other if outcome == 2 else self.name
        self._done = outcome != 2
        self._sets._meet(name, current)
        return current

    def _seal(self, *, expires: bool) -> None:
        """See that all is there, and say how much it is."""
        keys = [(route, self._sets.keys.set(route, self.name)) for route in self.routes]
        asked = [call(route, b"HLEN", key) for route, key in keys] + [
            call(route, b"HEXISTS", key, MARK) for route, key in keys
        ]
        answers = self._sets.servers.run(asked)
        marks = 1 if self._kind == ROWS else 2
        lengths, marked = answers[: len(keys)], answers[len(keys) :]
        whole = expires or lengths == [self.rows[route] + marks for route in self.routes]
        if not whole or 0 in marked:
            raise StoreUnavailableError(
                f"online store redis at {self._sets.servers} lost a part of what was loaded; the old rows are in place",
                found="it started anew without its data, or evicted some",
                try_="run the same command again",
            )
        self._sets.servers.run(
            [call(route, b"HSET", key, MARK, b"%d" % self.bytes[route]) for route, key in keys if self.rows[route]]
        )

    def _lease(self, *, new: bool) -> None:
        milliseconds = b"%d" % int(LEASE * 1000)
        asked = script(META, scripts.LEASE, [self._sets.keys.aside], self.name, milliseconds, b"%d" % new)
        (kept,) = self._sets.servers.run([asked])
        if not kept:
            raise self._discarded()
        self._leased = time.monotonic()

    @staticmethod
    def _discarded() -> ConflictError:
        return ConflictError(
            "this load paused for so long that another one discarded it", try_="run the same command again"
        )
