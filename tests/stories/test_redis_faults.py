"""A server that dies, hangs, comes back, or is cut off while threads read and write: no answer is ever wrong."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.servers import valkey
from tests.servers.proxy import Proxy, proxy

from grange.errors import StateLostError, StoreUnavailableError
from grange.ports.online import OnlineBatch, OnlineStore
from grange.ports.plugins import create

pytestmark = pytest.mark.skipif(valkey.missing() is not None, reason=str(valkey.missing()))

TIMEOUT = 0.25
HANGS = 20 * TIMEOUT
"""Seconds: far more than any call may take whose timeouts are obeyed, even on a machine that is busy."""
THREADS, KEYS = 4, 5
KEPT = ("--appendonly", "yes", "--appendfsync", "always")


class Traffic:
    """Threads that write and read keys of their own, and know what each answer may be.

    A write that was taken must be read from then on; one that was refused may have been done or not, but is done or
    not for ever, as only newer ones follow.
    """

    def __init__(self, store: OnlineStore) -> None:
        self.store = store
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(THREADS)]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """While it flows."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a call hangs"

    def flow(self, answers: int) -> None:
        """Wait until some more calls were answered rightly."""
        goal = self.counts["right"] + answers
        end = time.monotonic() + 60
        while self.counts["right"] < goal:
            assert time.monotonic() < end, f"nothing is answered any more: {self.counts}, {self.wrong}"
            time.sleep(0.005)

    def refuse(self, answers: int) -> None:
        """Wait until some more calls were refused."""
        goal = self.counts["refused"] + answers
        end = time.monotonic() + 60
        while self.counts["refused"] < goal:
            assert time.monotonic() < end, f"nothing is refused: {self.counts}"
            time.sleep(0.005)

    def _work(self, number: int) -> None:
        chance = random.Random(number)
        keys = [b"\x10%d:%d" % (number, place) for place in range(KEYS)]
        taken, tried = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)
        while not self._stop.is_set():
            key = chance.choice(keys)
            if chance.random() < 0.5:
                tried[key] += 1
                event = tried[key]
                if self._call(lambda key=key, event=event: self._write(key, event)):  # type: ignore[misc]
                    taken[key] = event
            else:
                asked = chance.sample(keys, 3)
                self._call(lambda asked=asked: self._read(asked, taken, tried))  # type: ignore[misc]

    def _call(self, call: Callable[[], str | None]) -> bool:
        began = time.monotonic()
        problem: str | None = None
        try:
            problem = call()
            outcome = "wrong" if problem else "right"
        except StoreUnavailableError as error:
            outcome = "refused"
            if "127.0.0.1" not in str(error):
                problem = f"an outage that does not say where: {error}"
        except Exception as error:  # noqa: BLE001 - whatever else comes out is what this test is about
            outcome, problem = "wrong", repr(error)
        if time.monotonic() - began > HANGS:
            problem = f"took {time.monotonic() - began:.1f} s"
        with self._lock:
            self.counts.update((outcome, "sent"))
            if problem:
                self.wrong.append(problem)
        return outcome == "right"

    def _write(self, key: bytes, event: int) -> str | None:
        taken = self.store.write("user", "a", ["x"], OnlineBatch([key], [event], None, [(b"%d" % event + key,)]))
        return None if taken == 1 else f"{key!r} at {event} was not taken"

    def _read(self, asked: list[bytes], taken: dict[bytes, int], tried: dict[bytes, int]) -> str | None:
        for key, (row,) in zip(asked, self.store.read("user", asked, ["a"]), strict=True):
            event = 0 if row is None else row[1]
            if not taken[key] <= event <= tried[key]:
                return f"{key!r} is of {event}, taken was {taken[key]}, tried {tried[key]}"
            if row is not None and row[3] != b"%d" % event + key:
                return f"{key!r} has the value of another: {row!r}"
        return None


def opened(port: int, **options: Any) -> OnlineStore:
    store: OnlineStore = create(
        "online_stores",
        "redis",
        {"url": f"redis://127.0.0.1:{port}", "timeout": TIMEOUT, "connect_timeout": TIMEOUT, **options},
    )
    return store


def opened_once(port: int, keys: list[bytes], group: str) -> list[tuple[Any, ...]]:
    """Rows as (columns, first value), by a store that remembers nothing."""
    store = opened(port)
    try:
        found = store.read("user", keys, [group])
        return [tuple(row and (store.layout(row[0]), row[3]) for row in rows) for rows in found]
    finally:
        store.close()


def check(traffic: Traffic, what: str) -> None:
    """Nothing was wrong, and something was right."""
    counts = traffic.counts
    # a call that neither returned nor raised anything has no outcome
    lost = counts["sent"] - counts["right"] - counts["refused"] - counts["wrong"]
    print(
        f"{what}: {counts['sent']} requests, {counts['right']} right, {counts['refused']} refused, "
        f"{counts['wrong']} wrong, {lost} lost"
    )
    assert traffic.wrong == []
    assert lost == 0
    traffic.store.close()


def test_a_server_that_is_killed_and_started_again() -> None:
    """What was taken is there when it is back, and clients find it by themselves."""
    with valkey.server("valkey", *KEPT) as server:
        traffic = Traffic(opened(server.port))
        with traffic.flowing():
            for _ in range(3):
                traffic.flow(200)
                server.kill()
                traffic.refuse(20)
                server.start()
            traffic.flow(200)
        check(traffic, "killed three times")


def test_a_server_that_comes_back_empty() -> None:
    """It kept nothing on disk: that is told by all who knew of rows, and what they remember of it does no harm."""
    with valkey.server() as server:
        one, other = opened(server.port), opened(server.port)
        for store in (one, other):
            store.write("user", "a", ["x"], OnlineBatch([b"k", b"l"], [1, 1], None, [("old",), ("old",)]))
            assert store.read("user", [b"k"], ["a"])[0][0] is not None
        server.kill()
        server.start()
        for store in (one, other):
            with pytest.raises(StateLostError, match="is gone from"):
                store.read("user", [b"k"], ["a"])
            with pytest.raises(StateLostError, match="is gone from"):
                store.write("user", "a", ["x"], OnlineBatch([b"k"], [1], None, [("alone",)]))
        one.load("user", "b", ["y"], [OnlineBatch([b"k"], [1], None, [("of another group",)])])
        other.write("user", "b", ["x"], OnlineBatch([b"l"], [1], None, [("as before",)]))
        ((row,),) = opened_once(server.port, [b"l"], "b")
        assert row == (("x",), "as before")
        with pytest.raises(StateLostError, match="is gone from"):
            other.read("user", [b"k"], ["a"])
        assert other.load("user", "a", ["x"], [OnlineBatch([b"k"], [1], None, [("new",)])]) == 1
        fresh = opened(server.port)
        for store in (one, other, fresh):
            ((row,),) = store.read("user", [b"k"], ["a"])
            assert row is not None and row[3] == "new" and store.layout(row[0]) == ("x",)
            store.close()


def test_a_server_that_hangs() -> None:
    """Calls are refused when the timeout is over, and answered when it goes on."""
    with valkey.server() as server:
        traffic = Traffic(opened(server.port))
        with traffic.flowing():
            for _ in range(2):
                traffic.flow(200)
                server.pause()
                traffic.refuse(THREADS)
                server.resume()
            traffic.flow(200)
        check(traffic, "hung twice")


def connections_are_cut(between: Proxy, traffic: Traffic) -> None:
    for _ in range(20):
        traffic.flow(20)
        between.cut()


def answers_are_cut_in_the_middle(between: Proxy, traffic: Traffic) -> None:
    for number in range(20):
        between.cut_after = 7 + 13 * number
        traffic.flow(20)


def answers_come_late(between: Proxy, traffic: Traffic) -> None:
    between.latency = TIMEOUT / 10
    traffic.flow(40)


def answers_come_too_late(between: Proxy, traffic: Traffic) -> None:
    between.latency = TIMEOUT * 2
    traffic.refuse(THREADS * 2)


def answers_never_come(between: Proxy, traffic: Traffic) -> None:
    between.swallows = True
    traffic.refuse(THREADS * 2)


def nobody_listens(between: Proxy, traffic: Traffic) -> None:
    for _ in range(3):
        between.down()
        traffic.refuse(20)
        between.up()
        traffic.flow(20)


FAULTS: tuple[Callable[[Proxy, Traffic], None], ...] = (
    connections_are_cut,
    answers_are_cut_in_the_middle,
    answers_come_late,
    answers_come_too_late,
    answers_never_come,
    nobody_listens,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_fails(fault: Callable[[Proxy, Traffic], None]) -> None:
    """Every call is right or refused, and all are right again when the network is."""
    with valkey.server() as server, proxy(server.port) as between:
        traffic = Traffic(opened(between.port))
        with traffic.flowing():
            traffic.flow(100)
            fault(between, traffic)
            between.latency, between.swallows, between.cut_after = 0.0, False, None
            traffic.flow(100)
        check(traffic, fault.__name__)


def test_commits_of_cells_are_never_done_twice() -> None:
    """A counter in a cell, through connections that are cut in the middle of answers, counts what was taken."""
    with valkey.server() as server, proxy(server.port) as between:
        store = opened(between.port)
        counted = refused = 0
        for number in range(150):
            between.cut_after = 3 + number * 7 % 200
            before = int(store_of(server.port, "x") or 0)
            try:
                store.write_cells("user", "a", _increment)
                counted += 1
                assert int(store_of(server.port, "x") or 0) == before + 1
            except StoreUnavailableError:
                refused += 1
                assert int(store_of(server.port, "x") or 0) in (before, before + 1)
        print(f"commits cut in the middle: 150 visits, {counted} done once, {refused} refused")
        assert counted
        store.close()


def _increment(cells: Any) -> None:
    cells.put(b"x", b"%d" % (int(cells.get(b"x") or 0) + 1))


def store_of(port: int, cell: str) -> bytes | None:
    """A cell, read past the proxy."""
    store = opened(port)
    try:
        return store.read_cells("user", "a", lambda cells: cells.get(cell.encode()))
    finally:
        store.close()


def test_a_load_through_an_outage_leaves_the_old_rows() -> None:
    """The server dies and comes back during a load: rows of before or after, and never some of each."""
    keys = [b"\x10" + number.to_bytes(8, "big") for number in range(5000)]

    def batches(broken: Callable[[], None], value: str) -> Iterator[OnlineBatch]:
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            yield OnlineBatch(part, [1] * len(part), None, [(value,)] * len(part))
            if start == 2000:
                broken()

    with valkey.server("valkey", *KEPT) as server, proxy(server.port) as between:
        store = opened(between.port)
        store.load("user", "a", ["x"], batches(lambda: None, "old"))
        outages: list[Callable[[], None]] = [between.cut, between.down, server.kill]
        for outage in outages:
            try:
                store.load("user", "a", ["x"], batches(outage, "new"))
                expected = "new"
            except StoreUnavailableError:
                expected = "old"
            if outage == server.kill:
                server.start()
            between.up()
            found = {row and row[3] for (row,) in store.read("user", keys, ["a"])}
            assert found == {expected}
            store.load("user", "a", ["x"], batches(lambda: None, "old"))
        store.close()
