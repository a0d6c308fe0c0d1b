"""Getting commands to the servers that hold what they are about, and their answers back: one trip per request.

`OneServer` is a server of its own, or the one that Sentinels name. `Cluster` sends each command to the node of its
shard, all nodes before it waits for the first. Every command that is sent through here may be sent twice: the
scripts see to it that this changes nothing (`scripts`).
"""

from __future__ import annotations

import binascii
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis

from grange.online.redis.connection import Connection, Pool, tls_context
from grange.online.redis.failures import DisconnectedError, code_of, refused, unavailable
from grange.online.redis.resp import Call, packed
from grange.online.redis.scripts import SOURCES
from grange.online.redis.settings import Address, Settings

SLOTS: Final = 16_384
ASK_EVERY: Final = 1.0
"""Seconds after which Sentinels are asked again."""
ROUNDS: Final = 8
"""How often commands follow a cluster that moves its slots, in one request."""
_MOVING: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})


class Servers(Protocol):
    """Where commands go."""

    atomic: bool
    """Whether one script may touch all keys of the store, because they lie on one server."""

    def run(self, calls: Sequence[Call], *, extra: float = 0.0, again: bool = True) -> list[Any]:
        """The answers, in order, one for each command.

        Args:
            calls: the commands.
            extra: seconds to wait on top of the timeout.
            again: whether to try again when a connection is lost.

        Raises:
            StoreUnavailableError, StorageFullError, CorruptStoreError: what `failures` makes of an error.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...

    def __str__(self) -> str:
        """For messages: where it is."""
        ...


def servers_of(settings: Settings) -> Servers:
    """What the settings name. Nothing is connected to yet."""
    if settings.cluster:
        return Cluster(settings)
    return Sentinels(settings) if settings.master is not None else OneServer(settings)


class OneServer:
    """A server whose address is known."""

    atomic = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = tls_context(settings.tls)
        # made at once, for it connects to nothing yet: of two that threads make at the same time one is never closed
        self._pool = None if settings.master is not None else Pool(settings.addresses[0], settings, self._context)

    def __str__(self) -> str:
        return str(self._settings.addresses[0])

    def run(self, calls: Sequence[Call], *, extra: float = 0.0, again: bool = True) -> list[Any]:
        """The answers of the server. See `Servers.run`."""
        if not calls:
            return []
        if len(calls) == 1:
            data, count = calls[0].data, calls[0].answers
        else:
            data, count = b"".join([call.data for call in calls]), sum([call.answers for call in calls])
        tries = self._settings.retries if again else 0
        moves = 2
        while True:
            try:
                pool = self._current()
                answers = _exchange(pool, data, count, extra)
            except DisconnectedError as error:
                if tries == 0 or error.timed_out:
                    raise error.as_outage() from error
                self._forget()
                tries -= 1
                continue
            for failed in answers:
                if type(failed) is hiredis.ReplyError:
                    break
            else:
                return answers
            moves -= 1
            if moves and self._mend(pool, code_of(failed)):
                continue
            raise refused(pool.address, failed)

    def close(self) -> None:
        """Close all connections."""
        self._forget()

    def _current(self) -> Pool:
        """The connections to the server."""
        assert self._pool is not None, "made with the server"
        return self._pool

    def _forget(self) -> None:
        """A connection was closed by the other side: the idle ones are likely as dead."""
        pool = self._pool
        if pool is not None:
            pool.close()

    def _mend(self, pool: Pool, code: str) -> bool:
        """Whether an error is mended, so that the same commands may succeed now."""
        if code == "NOSCRIPT":
            _load_scripts(pool)
        return code == "NOSCRIPT"


class Sentinels(OneServer):
    """The server that Sentinels name: the primary, also after a failover.

    They are asked again every now and then, because a primary that was replaced goes on taking writes, all of them
    lost, until it is told. The one that answered last is asked first, by one thread, while the others go on: so one
    that hangs is waited for once.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._asked = 0.0
        self._sentinels = settings.addresses
        """In the order in which they are asked."""
        self._renew_lock()
        _locking.add(self)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"{self._settings.master} of the Sentinels {', '.join(map(str, self._settings.addresses))}"

    def _current(self) -> Pool:
        pool = self._pool
        if pool is not None and time.monotonic() - self._asked <= ASK_EVERY:
            return pool
        if not self._lock.acquire(blocking=pool is None):
            assert pool is not None, "it was waited for"
            return pool
        try:
            pool = self._pool
            if pool is not None and time.monotonic() - self._asked <= ASK_EVERY:
                return pool  # another thread asked while this one waited
            return self._told(pool)
        finally:
            self._lock.release()

    def _told(self, pool: Pool | None) -> Pool:
        """The connections to the server that the Sentinels name; those that are known where none of them answers."""
        reasons: list[str] = []
        address = self._named(reasons)
        self._asked = time.monotonic()
        if address is None and pool is not None:
            return pool  # without its Sentinels the server is as good as it was
        if address is None:
            raise unavailable(str(self), "; ".join(reasons), "see that the Sentinels run and watch this name")
        if pool is None or pool.address != address:
            self._forget()
            pool = self._pool = Pool(address, self._settings, self._context, primary=True)
        return pool

    def _named(self, reasons: list[str]) -> Address | None:
        """The server that the first Sentinel who knows it names; why the others do not goes to `reasons`."""
        for sentinel in self._sentinels:
            try:
                address = self._ask(sentinel)
            except DisconnectedError as error:
                reasons.append(str(error))
                continue
            if address is not None:
                self._sentinels = (sentinel, *(other for other in self._sentinels if other != sentinel))
                return address
            reasons.append(f"{sentinel}: knows no master {self._settings.master!r}")
        return None

    def _ask(self, sentinel: Address) -> Address | None:
        connection = Connection(sentinel, self._settings, self._context, plain=True)
        try:
            assert self._settings.master is not None
            question = packed([b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._settings.master.encode()])
            (answer,) = connection.ask([question])
        finally:
            connection.close()
        if isinstance(answer, hiredis.ReplyError):
            raise refused(sentinel, answer)
        return None if answer is None else Address(answer[0].decode(), int(answer[1]))

    def _forget(self) -> None:
        super()._forget()
        self._pool = None

    def _mend(self, pool: Pool, code: str) -> bool:
        if code == "READONLY":  # it was the primary, and another is now
            self._forget()
            return True
        return super()._mend(pool, code)


def _load_scripts(pool: Pool) -> None:
    """Make the scripts known to a server."""
    try:
        _exchange(pool, b"".join(SOURCES), len(SOURCES), 0.0)
    except DisconnectedError as error:
        raise error.as_outage() from error


def _exchange(pool: Pool, data: bytes, count: int, extra: float) -> list[Any]:
    """Send commands on a connection of a pool and wait for their answers."""
    connection = pool.take()
    done = False
    try:
        connection.send(data)
        answers = connection.receive(count, extra)
        done = True
    finally:
        if done:
            pool.give(connection)
        else:
            pool.discard(connection)
    return answers


# -- cluster -----------------------------------------------------------------------------------------------------


class Cluster:
    """The nodes of a cluster. Which of them holds a slot is learnt from them, again whenever they say so."""

    atomic = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = tls_context(settings.tls)
        self._pools: dict[Address, Pool] = {}
        self._nodes: list[Address | None] = []
        """Per slot; empty before it is known."""
        self._slots: dict[int, int] = {}
        """Per route."""
        self._renew_lock()
        _locking.add(self)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"cluster of {', '.join(map(str, self._settings.addresses))}"

    def run(self, calls: Sequence[Call], *, extra: float = 0.0, again: bool = True) -> list[Any]:
        """The answers of the nodes. See `Servers.run`."""
        answers: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        asking: dict[int, Address] = {}
        lost = self._settings.retries if again else 0
        for turn in range(ROUNDS):
            plan = self._plan(calls, waiting, asking)
            failures = self._send_all(plan, calls, answers, asking, extra)
            waiting = [place for failure in failures for place in plan[failure.address]]
            if failures:
                lost -= 1
                self._lose(failures)
                if lost < 0 or any(failure.timed_out for failure in failures):
                    raise failures[0].as_outage() from failures[0]
            asking = {}
            for address, places in plan.items():
                waiting += self._follow(address, [place for place in places if place not in waiting], answers, asking)
            if not waiting:
                return answers
            time.sleep(0.01 * turn)  # slots on their way need a moment
        raise unavailable(str(self), "its slots keep moving", "wait until the cluster is stable")

    def _lose(self, failures: Sequence[DisconnectedError]) -> None:
        """Nodes did not answer: others may hold their slots now."""
        self._nodes = []
        for failure in failures:
            if not failure.timed_out:
                self._pool(failure.address).close()

    def close(self) -> None:
        """Close all connections."""
        for pool in list(self._pools.values()):
            pool.close()

    def _plan(
        self, calls: Sequence[Call], waiting: Sequence[int], asking: dict[int, Address]
    ) -> dict[Address, list[int]]:
        """By node, the places of the commands that go there."""
        nodes = self._nodes or self._learn()
        plan: dict[Address, list[int]] = {}
        for place in waiting:
            address = asking.get(place) or nodes[self._slot(calls[place].route)]
            if address is None:
                self._nodes = []
                raise unavailable(str(self), "no node holds one of its slots", "see CLUSTER INFO")
            plan.setdefault(address, []).append(place)
        return plan

    def _slot(self, route: int) -> int:
        slot = self._slots.get(route)
        if slot is None:
            slot = self._slots[route] = slot_of(tag(self._settings.namespace, route))
        return slot

    def _send_all(
        self,
        plan: dict[Address, list[int]],
        calls: Sequence[Call],
        answers: list[Any],
        asking: dict[int, Address],
        extra: float,
    ) -> list[DisconnectedError]:
        """Send to every node, then wait for each. Returns the nodes that were lost.

        Nodes come in one order, so that of two threads that have a connection to one node and wait for one to another,
        neither waits for the other.
        """
        failures: list[DisconnectedError] = []
        sent: list[tuple[Pool, Connection, list[int]]] = []
        try:
            for address, places in sorted(plan.items(), key=lambda item: str(item[0])):
                try:
                    self._send(address, places, calls, asking, sent)
                except DisconnectedError as error:
                    failures.append(error)
            while sent:
                pool, connection, places = sent[-1]
                marks = sum(place in asking for place in places)
                try:
                    found = connection.receive(len(places) + marks, extra)
                except DisconnectedError as error:
                    failures.append(error)
                    pool.discard(connection)
                else:
                    self._place(places, found, answers, asking)
                    pool.give(connection)
                sent.pop()
        finally:
            for pool, connection, _ in sent:
                pool.discard(connection)
        return failures

    def _send(
        self,
        address: Address,
        places: list[int],
        calls: Sequence[Call],
        asking: dict[int, Address],
        sent: list[tuple[Pool, Connection, list[int]]],
    ) -> None:
        pool = self._pool(address)
        data = b"".join([(_ASKING if place in asking else b"") + calls[place].data for place in places])
        connection = pool.take()
        done = False
        try:
            connection.send(data)
            sent.append((pool, connection, places))
            done = True
        finally:
            if not done:
                pool.discard(connection)

    @staticmethod
    def _place(places: list[int], found: list[Any], answers: list[Any], asking: dict[int, Address]) -> None:
        """Put a node's answers where they belong; those to ASKING are left out."""
        at = 0
        for place in places:
            at += place in asking
            answers[place] = found[at]
            at += 1

    def _follow(
        self, address: Address, places: Sequence[int], answers: list[Any], asking: dict[int, Address]
    ) -> list[int]:
        """The places of commands that must be sent again, because of what a node answered."""
        waiting = []
        loaded = False
        for place in places:
            answer = answers[place]
            if not isinstance(answer, hiredis.ReplyError):
                continue
            code = code_of(answer)
            if code == "NOSCRIPT":
                if not loaded:
                    _load_scripts(self._pool(address))
                loaded = True
            elif code == "ASK":
                asking[place] = _redirected(str(answer), address)
            elif code in _MOVING or code == "READONLY":
                self._nodes = []
            else:
                raise refused(address, answer)
            waiting.append(place)
        return waiting

    def _pool(self, address: Address) -> Pool:
        with self._lock:
            pool = self._pools.get(address)
            if pool is None:
                pool = self._pools[address] = Pool(address, self._settings, self._context)
            return pool

    def _learn(self) -> list[Address | None]:
        """Ask a node which one holds what, those that are known first."""
        reasons = []
        for address in dict.fromkeys([*self._pools, *self._settings.addresses]):
            try:
                (found,) = _exchange(self._pool(address), packed([b"CLUSTER", b"SLOTS"]), 1, 0.0)
            except DisconnectedError as error:
                reasons.append(str(error))
                continue
            if isinstance(found, hiredis.ReplyError):
                reasons.append(f"{address}: {found}")
                continue
            self._nodes = nodes = _nodes(found, address)
            return nodes
        raise unavailable(str(self), "; ".join(reasons), "see that its nodes run and can be reached from here")


_ASKING: Final = packed([b"ASKING"])


def tag(namespace: str, route: int) -> bytes:
    """The part of a key that decides its slot."""
    return b"%b:%d" % (namespace.encode(), route) if route >= 0 else namespace.encode()


def slot_of(tagged: bytes) -> int:
    """The slot of a hash tag."""
    return binascii.crc_hqx(tagged, 0) % SLOTS


def _nodes(found: list[Any], asked: Address) -> list[Address | None]:
    """Per slot the address of its primary, of what CLUSTER SLOTS answers."""
    nodes: list[Address | None] = [None] * SLOTS
    for first, last, primary, *_ in found:
        host = (primary[0] or b"").decode()
        # a node that does not know its own address is where it was asked
        address = Address(host if host and host != "?" else asked.host, primary[1])
        nodes[first : last + 1] = [address] * (last + 1 - first)
    return nodes


def _redirected(text: str, asked: Address) -> Address:
    """Where `ASK slot host:port` points."""
    host, _, port = text.split(" ")[2].rpartition(":")
    return Address(host or asked.host, int(port))


_locking: weakref.WeakSet[Cluster | Sentinels] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a child of a fork, where another thread of the parent may have held one."""
    for servers in list(_locking):
        servers._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
