"""Reads of stores that are far away, by threads: what counts as the store's time, and who waits for whom."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from grange.errors import OverloadedError, StateLostError, StoreUnavailableError
from grange.http import batching
from grange.http.batching import Batches
from grange.http.hot import OnlineRequest, Work
from grange.http.plans import Plan
from grange.online.memory.backend import MemoryOnlineStore
from grange.serving.guarding import Breaker, GuardedOnlineStore

TIMEOUT_S = 0.3
HANGS_S = 30.0


class Hanging(MemoryOnlineStore):
    """A store that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def read(self, *arguments: Any) -> Any:
        self.goes_on.wait(HANGS_S)
        return super().read(*arguments)


class Project:
    """The reads of one project: its store, and how its answers are made."""

    def __init__(self) -> None:
        self.store = Hanging()
        self.states: list[str] = []
        self.guard = GuardedOnlineStore(
            self.store, breaker=Breaker(3, 60.0, time.monotonic, self.states.append), clock=time.monotonic
        )
        self.batches = Batches(lambda: self.guard, timeout=TIMEOUT_S)
        self.computed = threading.Event()
        """Lets those answers end that are computed for long."""

    def read(self, *_: Any) -> list[Any]:
        return self._answers("read")

    def compute(self, *_: Any) -> list[Any]:
        self.guard.read("user", [b"a"], ["spend"])
        self.computed.wait(HANGS_S)
        return self._answers("computed")

    def with_default(self, *_: Any) -> list[Any]:
        try:
            return self._answers("read")
        except StoreUnavailableError:
            return ["degraded"]

    def _answers(self, said: str) -> list[Any]:
        self.guard.read("user", [b"a"], ["spend"])
        return [said]

    async def ask(self, answering: Callable[..., list[Any]], plan: object) -> Any:
        work = Work(cast("Any", None), OnlineRequest(), [], "json", 0.0)
        return await self.batches.answer(cast("Plan", plan), work, answering)


@pytest.fixture
def project() -> Iterator[Project]:
    made = Project()
    yield made
    made.store.goes_on.set()
    made.computed.set()
    made.batches.close()


@contextmanager
def hanging(project: Project) -> Iterator[None]:
    project.store.goes_on.clear()
    try:
        yield
    finally:
        project.store.goes_on.set()


def plans(count: int) -> list[object]:
    return [SimpleNamespace(number=number) for number in range(count)]


def test_what_is_computed_for_long_is_answered_and_is_no_outage(project: Project) -> None:
    """However many there are: the store is well, and others are answered meanwhile."""

    async def asked() -> tuple[list[Any], list[Any]]:
        long = [asyncio.ensure_future(project.ask(project.compute, plan)) for plan in plans(12)]
        await asyncio.sleep(TIMEOUT_S * 2)
        others = [await project.ask(project.read, plan) for plan in plans(3)]
        assert not any(each.done() for each in long)
        project.computed.set()
        return others, await asyncio.gather(*long)

    others, long = asyncio.run(asked())
    assert others == ["read"] * 3
    assert long == ["computed"] * 12
    assert project.states == []
    assert project.guard.breaker.state == "closed"


@pytest.mark.parametrize(("partly", "calls"), [(False, 1), (True, 3)])
def test_a_lost_group_is_everybodys_unless_a_part_is_there(project: Project, partly: bool, calls: int) -> None:
    """One read tells all who wait of a group that is gone; of one of which a part is there, each is asked by itself."""
    asked: list[int] = []

    def answering(_: Any, works: list[Any]) -> list[Any]:
        asked.append(len(works))
        if len(works) == 1 and partly and len(asked) == calls:
            return ["read"]
        raise StateLostError.of("spend", key_space="user", store="the store", found="nothing", partly=partly)

    async def both() -> list[Any]:
        (plan,) = plans(1)
        return await asyncio.gather(*(project.ask(answering, plan) for _ in range(2)), return_exceptions=True)

    answers = asyncio.run(both())
    assert asked == [2, 1, 1][:calls]
    assert isinstance(answers[0], StateLostError)
    assert answers[1] == "read" if partly else isinstance(answers[1], StateLostError)


def test_a_store_that_hangs_is_given_up_by_each_views_policy(project: Project) -> None:
    async def asked() -> tuple[list[Any], str]:
        with hanging(project):
            (plan,) = plans(1)
            first = await asyncio.gather(project.ask(project.with_default, plan), return_exceptions=True)
            others = plans(6)
            more = [project.ask(project.read, each) for each in others]
            return [*first, *await asyncio.gather(*more, return_exceptions=True)], project.guard.breaker.state

    (first, *others), state = asyncio.run(asked())
    assert first == "degraded"
    assert all(isinstance(each, StoreUnavailableError) for each in others)
    assert state == "open", "each is an outage"


def test_time_that_is_spent_before_and_after_the_store_is_not_the_stores(project: Project) -> None:
    """A store that answers within its time, three times, in an answer that takes longer than that."""

    def several(*_: Any) -> list[Any]:
        for _ in range(3):
            project.guard.read("user", [b"a"], ["spend"])
            time.sleep(TIMEOUT_S * 0.7)
        return ["several"]

    (plan,) = plans(1)
    assert asyncio.run(project.ask(several, plan)) == "several"
    assert project.guard.breaker.state == "closed"


def test_reads_that_take_too_long_together_are_given_up(project: Project) -> None:
    """What a request waits for is the store's time as a whole."""
    calls = []

    def several(*_: Any) -> list[Any]:
        for _ in range(10):
            project.guard.read("user", [b"a"], ["spend"])
            calls.append(1)
        return ["several"]

    read = project.store.read

    def slow(*arguments: Any) -> Any:
        time.sleep(TIMEOUT_S * 0.4)
        return read(*arguments)

    project.store.read = slow  # type: ignore[method-assign]
    (plan,) = plans(1)
    with pytest.raises(StoreUnavailableError, match="in time"):
        asyncio.run(project.ask(several, plan))
    assert len(calls) < 10


def test_who_gets_no_thread_is_told_to_come_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads are taken so fast that one more does not help."""
    monkeypatch.setattr(batching, "LONG_S", 3600.0)
    monkeypatch.setattr(batching, "PATIENCE_S", 0.1)

    async def asked() -> Any:
        long = [asyncio.ensure_future(project.ask(project.compute, plan)) for plan in plans(batching.THREADS)]
        await asyncio.sleep(0.05)
        (plan,) = plans(1)
        refused = await asyncio.gather(project.ask(project.read, plan), return_exceptions=True)
        project.computed.set()
        assert await asyncio.gather(*long) == ["computed"] * batching.THREADS
        return refused[0]

    refused = asyncio.run(asked())
    assert isinstance(refused, OverloadedError)
    assert refused.details["retry_after"] == 1.0
    assert project.guard.breaker.state == "closed"
