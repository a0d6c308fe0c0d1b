"""A guarded online store: when it is asked, what is remembered, and that both keep their bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import CorruptStoreError, StateLostError, StorageFullError, StoreUnavailableError
from grange.online.memory.backend import MemoryOnlineStore
from grange.ports.online import OnlineBatch, OnlineStore
from grange.serving.guarding import (
    Breaker,
    GuardedOnlineStore,
    RowMemory,
    Waiting,
    left_alone,
    past_memory,
    tallied,
    watched,
)

SPACE, GROUP = "user", "spend"
COLUMNS = ("n:int64",)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shaky(MemoryOnlineStore):
    """A store that fails when it is told to, and counts the reads that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.reads: list[list[bytes]] = []
        self.during: Callable[[], None] = lambda: None

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> Any:
        self.reads.append(list(keys))
        if self.error is not None:
            raise self.error
        found = super().read(key_space, keys, groups)
        self.during()
        return found


class Seen:
    def __init__(self) -> None:
        self.states: list[str] = []
        self.outages = 0
        self.lost_groups: list[str] = []
        self.keys = [0, 0]

    def store_call(self, call: str, seconds: float) -> None: ...

    def outage(self) -> None:
        self.outages += 1

    def lost(self, group: str) -> None:
        self.lost_groups.append(group)

    def cached(self, hits: int, misses: int) -> None:
        self.keys[0] += hits
        self.keys[1] += misses

    def breaker(self, state: str) -> None:
        self.states.append(state)


def guard(
    store: Shaky, clock: Clock, *, max_age: float | None = None, most: int = 100, seen: Seen | None = None
) -> GuardedOnlineStore:
    seen = seen or Seen()
    memory = None if max_age is None else RowMemory(max_age, most, clock)
    return GuardedOnlineStore(
        store, breaker=Breaker(3, 5.0, clock, seen.breaker), memory=memory, clock=clock, watcher=seen
    )


def put(store: OnlineStore, key: bytes, value: int, at: int) -> None:
    store.write(SPACE, GROUP, COLUMNS, OnlineBatch([key], [at], None, [[value]]))


def value(store: OnlineStore, key: bytes) -> int | None:
    [(row,)] = store.read(SPACE, [key], [GROUP])
    return None if row is None else row[3]


class TestBreaker:
    def test_outages_in_a_row_open_it_and_the_store_is_left_alone(self) -> None:
        store, clock, seen = Shaky(), Clock(), Seen()
        guarded = guard(store, clock, seen=seen)
        store.error = StoreUnavailableError("down")
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="down"):
                value(guarded, b"a")
        with pytest.raises(StoreUnavailableError, match="left alone") as caught:
            value(guarded, b"a")
        assert caught.value.details["retry_after"] == 5.0
        assert len(store.reads) == 3
        assert seen.states == ["open"]
        assert seen.outages == 3

    def test_after_the_pause_one_read_tries_and_closes_it(self) -> None:
        store, clock, seen = Shaky(), Clock(), Seen()
        guarded = guard(store, clock, seen=seen)
        put(store, b"a", 1, at=1)
        open_it(guarded, store)
        store.error = None
        clock.now += 5.0
        assert value(guarded, b"a") == 1
        assert seen.states == ["open", "half_open", "closed"]
        assert guarded.breaker.state == "closed"

    def test_a_try_that_fails_begins_the_pause_again(self) -> None:
        store, clock, seen = Shaky(), Clock(), Seen()
        guarded = guard(store, clock, seen=seen)
        open_it(guarded, store)
        clock.now += 5.0
        with pytest.raises(StoreUnavailableError, match="down"):
            value(guarded, b"a")
        clock.now += 4.9
        with pytest.raises(StoreUnavailableError, match="left alone"):
            value(guarded, b"a")
        assert seen.states == ["open", "half_open", "open"]

    def test_while_one_read_tries_the_others_are_refused(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock)
        open_it(guarded, store)
        store.error = None
        clock.now += 5.0
        refused = []

        def another() -> None:
            try:
                value(guarded, b"b")
            except StoreUnavailableError as error:
                refused.append(error)

        def meanwhile() -> None:
            store.during = lambda: None
            thread = threading.Thread(target=another)
            thread.start()
            thread.join()

        store.during = meanwhile
        assert value(guarded, b"a") is None
        assert len(refused) == 1
        assert store.reads[-1] == [b"a"]

    @pytest.mark.parametrize("error", [CorruptStoreError("torn"), StorageFullError("full")])
    def test_only_outages_count(self, error: Exception) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock)
        store.error = error
        for _ in range(10):
            with pytest.raises(type(error)):
                value(guarded, b"a")
        assert guarded.breaker.state == "closed"

    def test_a_lost_group_is_an_answer(self) -> None:
        """It is counted by itself, opens nothing, and closes what outages opened: other groups are read."""
        store, clock, seen = Shaky(), Clock(), Seen()
        guarded = guard(store, clock, seen=seen)
        put(store, b"a", 1, at=1)
        open_it(guarded, store)
        clock.now += 5.0
        store.error = StateLostError.of("spend", key_space=SPACE, store="the store", found="nothing")
        for _ in range(10):
            with pytest.raises(StateLostError):
                value(guarded, b"a")
        assert guarded.breaker.state == "closed"
        assert (seen.outages, seen.lost_groups) == (3, ["spend"] * 10)
        store.error = None
        assert value(guarded, b"a") == 1

    def test_an_answer_between_outages_starts_the_count_anew(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock)
        for error in [StoreUnavailableError("down"), StoreUnavailableError("down"), None] * 4:
            store.error = error
            if error is None:
                value(guarded, b"a")
            else:
                with pytest.raises(StoreUnavailableError, match="down"):
                    value(guarded, b"a")
        assert guarded.breaker.state == "closed"

    def test_a_try_that_ends_in_another_error_lets_the_next_one_try(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock)
        open_it(guarded, store)
        clock.now += 5.0
        store.error = CorruptStoreError("torn")
        for _ in range(2):
            with pytest.raises(CorruptStoreError):
                value(guarded, b"a")


def open_it(guarded: GuardedOnlineStore, store: Shaky) -> None:
    store.error = StoreUnavailableError("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            value(guarded, b"a")


class TestMemory:
    def test_a_row_is_given_again_until_it_is_too_old(self) -> None:
        store, clock, seen = Shaky(), Clock(), Seen()
        guarded = guard(store, clock, max_age=2.0, seen=seen)
        put(store, b"a", 1, at=1)
        assert value(guarded, b"a") == 1
        put(store, b"a", 2, at=2)  # somebody else's write
        clock.now += 2.0
        assert value(guarded, b"a") == 1
        clock.now += 0.001
        assert value(guarded, b"a") == 2
        assert seen.keys == [1, 2]

    def test_that_nothing_is_stored_is_remembered_too(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=2.0)
        assert value(guarded, b"nobody") is None
        assert value(guarded, b"nobody") is None
        assert len(store.reads) == 1

    def test_the_age_counts_from_before_the_read(self) -> None:
        """A read that takes long gives rows that were true when it began, not when it ended."""
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=2.0)
        put(store, b"a", 1, at=1)

        def slow() -> None:
            clock.now += 1.5

        store.during = slow
        value(guarded, b"a")
        store.during = lambda: None
        clock.now += 0.6
        value(guarded, b"a")
        assert len(store.reads) == 2

    def test_what_this_process_writes_is_seen_at_once(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=60.0)
        put(guarded, b"a", 1, at=1)
        assert value(guarded, b"a") == 1
        put(guarded, b"a", 2, at=2)
        assert value(guarded, b"a") == 2
        guarded.load(SPACE, GROUP, COLUMNS, [OnlineBatch([b"a"], [3], None, [[3]])])
        assert value(guarded, b"a") == 3
        guarded.drop(SPACE, GROUP)
        assert value(guarded, b"a") is None

    def test_a_row_that_was_read_while_it_was_written_is_not_remembered(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=60.0)
        put(guarded, b"a", 1, at=1)
        store.during = lambda: put(guarded, b"a", 2, at=2)
        assert value(guarded, b"a") == 1
        store.during = lambda: None
        assert value(guarded, b"a") == 2

    def test_it_holds_so_many_keys_and_forgets_what_was_not_used_for_longest(self) -> None:
        store, clock = Shaky(), Clock()
        memory = RowMemory(60.0, 2, clock)
        guarded = GuardedOnlineStore(store, breaker=Breaker(3, 5, clock), memory=memory, clock=clock)
        for key in (b"a", b"b", b"a", b"c", b"a"):
            value(guarded, key)
        assert len(memory) == 2
        assert store.reads == [[b"a"], [b"b"], [b"c"]]

    def test_only_what_is_missing_is_read_and_the_order_is_kept(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=60.0)
        for place, key in enumerate((b"a", b"b", b"c")):
            put(store, key, place, at=1)
        value(guarded, b"b")
        with tallied() as tally:
            found = guarded.read(SPACE, [b"c", b"b", b"a", b"c"], [GROUP])
        assert [row[3] for (row,) in found if row is not None] == [2, 1, 0, 2]
        assert store.reads[-1] == [b"c", b"a"]
        assert (tally.hits, tally.misses, tally.is_cached) == (1, 2, False)

    def test_what_is_remembered_is_given_in_an_outage(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=60.0)
        put(store, b"a", 1, at=1)
        value(guarded, b"a")
        with left_alone():
            assert value(guarded, b"a") == 1
            with pytest.raises(StoreUnavailableError, match="in time"):
                value(guarded, b"b")

    def test_who_compares_reads_past_it_and_leaves_it(self) -> None:
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=60.0)
        put(store, b"a", 1, at=1)
        value(guarded, b"a")
        put(store, b"a", 2, at=2)
        with past_memory():
            assert value(guarded, b"a") == 2
        assert value(guarded, b"a") == 1

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["read", "ours", "theirs", "wait"]), st.sampled_from([b"a", b"b"]), st.floats(0, 3)
            )
        )
    )
    def test_an_answer_is_never_older_than_the_bound(self, steps: list[tuple[str, bytes, float]]) -> None:
        """Whatever is written by whom: a value that is read was the store's at some moment within the bound, and
        never older than what this process wrote."""
        store, clock = Shaky(), Clock()
        guarded = guard(store, clock, max_age=2.0)
        truth: dict[bytes, list[tuple[float, int | None]]] = {b"a": [(clock.now, None)], b"b": [(clock.now, None)]}
        own: dict[bytes, int] = {b"a": 0, b"b": 0}
        for number, (what, key, seconds) in enumerate(steps, start=1):
            if what == "wait":
                clock.now += seconds
            elif what == "read":
                allowed = [
                    held
                    for place, (since, held) in enumerate(truth[key])
                    if place + 1 == len(truth[key]) or truth[key][place + 1][0] >= clock.now - 2.0
                ]
                found = value(guarded, key)
                assert found in allowed
                assert (found or 0) >= own[key]
            else:
                put(guarded if what == "ours" else store, key, number, at=number)
                truth[key].append((clock.now, number))
                if what == "ours":
                    own[key] = number


class TestWaiting:
    """What others are told of a thread that waits for the store."""

    def test_it_is_the_stores_time_alone(self) -> None:
        store, clock = Shaky(), Clock()
        guarded, waiting = guard(store, clock), Waiting(clock)
        seen: list[tuple[bool, float]] = []

        def during() -> None:
            clock.now += 2.0
            seen.append((waiting.is_under_way, waiting.seconds))

        store.during = during
        with watched(waiting):
            value(guarded, b"a")
            clock.now += 10.0
            value(guarded, b"b")
        value(guarded, b"c")
        assert seen == [(True, 2.0), (True, 4.0), (False, 4.0)]
        assert (waiting.is_under_way, waiting.seconds) == (False, 4.0)

    def test_a_call_that_fails_ends_too(self) -> None:
        store, clock = Shaky(), Clock()
        guarded, waiting = guard(store, clock), Waiting(clock)
        store.error = StoreUnavailableError("gone")
        with watched(waiting), pytest.raises(StoreUnavailableError):
            value(guarded, b"a")
        assert not waiting.is_under_way

    def test_what_is_remembered_waits_for_nothing(self) -> None:
        store, clock = Shaky(), Clock()
        guarded, waiting = guard(store, clock, max_age=60.0), Waiting(clock)
        value(guarded, b"a")
        store.during = lambda: pytest.fail("the store was asked")
        with watched(waiting):
            value(guarded, b"a")
        assert waiting.seconds == 0.0


def test_equal_keys_are_read_once() -> None:
    store, clock = Shaky(), Clock()
    guarded = guard(store, clock)
    put(store, b"a", 1, at=1)
    found = guarded.read(SPACE, [b"a", b"b", b"a"], [GROUP])
    assert [None if row is None else row[3] for (row,) in found] == [1, None, 1]
    assert store.reads == [[b"a", b"b"]]
