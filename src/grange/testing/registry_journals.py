"""The part of a registry's contract that is about journals. `grange.testing.registry.RegistryContract` has it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from grange.errors import RequestError
from grange.ports.journal import NO_HASH, Entry, entry_hash, every_entry, verify_journal
from grange.ports.registry import Journal, Registry

NOW = dt.datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=dt.UTC)
NO_FACTS: tuple[dict[Any, Any], ...] = (
    {"n": 2**53},
    {"n": float("nan")},
    {"n": [1, float("inf")]},
    {"n": {"m": {1, 2}}},
    {"n": b"bytes"},
    {"n": NOW},
    {1: "a key that is no text"},
    {"n": "\ud800"},
    {"\udfff": "n"},
)
"""What has no canonical form."""


def facts(*numbers: int) -> list[dict[str, Any]]:
    """A fact for each number."""
    return [{"n": number, "action": "read" if number % 2 else "write"} for number in numbers]


def numbers(entries: Sequence[Entry]) -> list[int]:
    """Where entries stand."""
    return [entry.number for entry in entries]


def is_intact(journal: Journal, name: str) -> bool:
    """Whether nothing is wrong with a journal, whose newest entry is what it says it is."""
    head = journal.head(name)
    found = verify_journal(name, every_entry(journal, name, page=7), anchor=None if head is None else head.anchor)
    return found.is_intact


class JournalContract:
    """What every journal promises."""

    def test_a_journal_that_nobody_wrote_to_is_empty(self, registry: Registry) -> None:
        assert registry.entries("audit") == ()
        assert registry.head("audit") is None
        assert registry.append("audit", [], now=NOW) == ()
        assert registry.head("audit") is None

    def test_entries_are_numbered_and_chained(self, registry: Registry) -> None:
        first = registry.append("audit", facts(1, 2), now=NOW)
        second = registry.append("audit", facts(3), now=NOW + dt.timedelta(days=1))

        assert registry.entries("audit") == (*first, *second)
        assert registry.head("audit") == second[0]
        assert numbers((*first, *second)) == [1, 2, 3]
        assert [entry.data["n"] for entry in (*first, *second)] == [1, 2, 3]
        assert [entry.previous_hash for entry in (*first, *second)] == [NO_HASH, first[0].hash, first[1].hash]
        assert [entry.at for entry in (*first, *second)] == [NOW, NOW, NOW + dt.timedelta(days=1)]
        for entry in (*first, *second):
            assert entry.hash == entry_hash("audit", entry.number, entry.at, entry.data, entry.previous_hash)

    def test_journals_know_nothing_of_each_other(self, registry: Registry) -> None:
        (audit,) = registry.append("audit", facts(1), now=NOW)
        (other,) = registry.append("Audit", facts(1), now=NOW)

        assert (audit.number, other.number) == (1, 1)
        assert audit.hash != other.hash
        assert registry.entries("Audit", where={"n": 1}) == (other,)
        assert registry.documents("audit") == ()

    @pytest.mark.parametrize(
        "value",
        [
            *(
                None,
                True,
                0,
                -0.0,
                1.0,
                1e300,
                5e-324,
                2**53 - 1,
                -(2**53) + 1,
                "",
                "a\x00b",
                "🚆\u2028'\"\\",
                "\ufeff",
            ),
            *([], {}, [1, [2, {"three": [None]}]], {"\U0001f680": 1, "\ufffd": 2, "": 3}, "x" * 100_000),
        ],
    )
    def test_a_fact_reads_back_as_it_was(self, registry: Registry, value: Any) -> None:
        (appended,) = registry.append("audit", [{"value": value, "by": "u1"}], now=NOW)

        (entry,) = registry.entries("audit", where={"by": "u1"})
        assert entry == appended
        assert entry.data == {"value": value, "by": "u1"}
        assert type(entry.data["value"]) is type(value)
        assert is_intact(registry, "audit")

    def test_times_of_entries_are_utc_to_the_microsecond(self, registry: Registry) -> None:
        """TIME-1."""
        given = dt.datetime(2026, 11, 21, 11, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=1)))
        far = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
        for moment in (given, far, dt.datetime(1, 1, 1, tzinfo=dt.UTC)):
            registry.append("audit", facts(1), now=moment)

        found = registry.entries("audit")
        assert [entry.at for entry in found] == [NOW, far, dt.datetime(1, 1, 1, tzinfo=dt.UTC)]
        assert all(entry.at.tzinfo is dt.UTC for entry in found)
        assert is_intact(registry, "audit")

    @pytest.mark.parametrize("bad", NO_FACTS, ids=ascii)
    def test_a_fact_without_canonical_form_is_refused_with_the_batch(
        self, registry: Registry, bad: dict[Any, Any]
    ) -> None:
        with pytest.raises(RequestError):
            registry.append("audit", [*facts(1), bad], now=NOW)
        assert registry.head("audit") is None

    @pytest.mark.parametrize("name", ["", "a b", "a-b", "a/b", "é", "a\x00", "x" * 513, None, 7])
    def test_names_that_are_none_are_refused(self, registry: Registry, name: Any) -> None:
        for ask in (
            lambda: registry.append(name, facts(1), now=NOW),
            lambda: registry.append(name, [], now=NOW),
            lambda: registry.entries(name),
            lambda: registry.head(name),
        ):
            with pytest.raises(RequestError):
                ask()

    def test_entries_by_number(self, registry: Registry) -> None:
        registry.append("audit", facts(*range(1, 11)), now=NOW)

        assert numbers(registry.entries("audit", after=7)) == [8, 9, 10]
        assert numbers(registry.entries("audit", before=3)) == [1, 2]
        assert numbers(registry.entries("audit", after=2, before=8, limit=3)) == [3, 4, 5]
        assert numbers(registry.entries("audit", after=2, before=8, limit=3, newest_first=True)) == [7, 6, 5]
        assert numbers(registry.entries("audit", limit=0)) == []
        assert numbers(registry.entries("audit", after=10)) == []
        assert numbers(tuple(every_entry(registry, "audit", after=4, page=2))) == [5, 6, 7, 8, 9, 10]
        with pytest.raises(RequestError):
            registry.entries("audit", limit=-1)

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"who": "u1"}, [1, 2, 5]),
            ({"who": "u1", "n": 1}, [1]),
            ({"n": 1}, [1, 3]),
            ({"n": True}, [2]),
            ({"n": "1"}, [4]),
            ({"who": "nobody"}, []),
            ({"nothing": "u1"}, []),
            ({"who": "a\x00b' --"}, [6]),
            ({"inner": "x"}, []),
            ({}, [1, 2, 3, 4, 5, 6]),
        ],
    )
    def test_entries_by_fields(self, registry: Registry, where: dict[str, Any], expected: list[int]) -> None:
        rows = [("u1", 1), ("u1", True), ("u2", 1), ("u2", "1"), ("u1", None), ("a\x00b' --", 2.5)]
        registry.append("audit", [{"who": who, "n": n, "of": {"inner": "x"}} for who, n in rows], now=NOW)

        assert numbers(registry.entries("audit", where=where)) == expected
        assert numbers(registry.entries("audit", where=where, newest_first=True, limit=1)) == expected[-1:]
        assert numbers(registry.entries("audit", where=where, after=1)) == [n for n in expected if n > 1]

    @pytest.mark.parametrize("value", [None, 1.5, ["u1"], {"a": 1}, b"u1"])
    def test_fields_of_other_types_find_no_entries(self, registry: Registry, value: Any) -> None:
        with pytest.raises(RequestError):
            registry.entries("audit", where={"who": value})

    def test_changing_what_was_given_or_read_changes_nothing(self, registry: Registry) -> None:
        fact: dict[str, Any] = {"list": [1]}
        (appended,) = registry.append("audit", [fact], now=NOW)
        fact["list"].append(2)
        registry.entries("audit")[0].data["list"].append(3)

        assert appended.data == {"list": [1]}
        assert registry.entries("audit") == (appended,)

    def test_what_was_appended_outlives_the_handle(self, open_registry: Callable[[], Registry]) -> None:
        first = open_registry()
        kept = first.append("audit", facts(1), now=NOW)
        first.close()

        again = open_registry()
        assert again.entries("audit") == kept
        assert again.append("audit", facts(2), now=NOW)[0].previous_hash == kept[0].hash

    def test_threads_append_one_after_another(self, open_registry: Callable[[], Registry]) -> None:
        """Each batch stays together, in its thread's order; two journals are written at once."""
        shared = open_registry()
        handles = [shared, open_registry(), shared, open_registry()]
        start = threading.Barrier(len(handles))

        def work(worker: int) -> None:
            start.wait()
            for turn in range(10):
                for name in ("audit", "other"):
                    handles[worker].append(name, [{"worker": worker, "turn": turn, "n": n} for n in range(3)], now=NOW)

        with ThreadPoolExecutor(len(handles)) as pool:
            list(pool.map(work, range(len(handles))))
        for name in ("audit", "other"):
            found = shared.entries(name)
            assert numbers(found) == list(range(1, 121))
            assert is_intact(shared, name)
            batches = [found[place : place + 3] for place in range(0, 120, 3)]
            for batch in batches:
                assert len({(entry.data["worker"], entry.data["turn"]) for entry in batch}) == 1
            for worker in range(len(handles)):
                mine = [batch[0].data["turn"] for batch in batches if batch[0].data["worker"] == worker]
                assert mine == list(range(10))

    def test_a_large_batch_is_one_step(self, open_registry: Callable[[], Registry]) -> None:
        """A reader sees all of it or nothing."""
        writer, reader = open_registry(), open_registry()
        reader.head("audit")
        seen: set[int] = set()
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                head = reader.head("audit")
                seen.add(0 if head is None else head.number)

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            for _ in range(3):
                writer.append("audit", [{"n": number, "m": str(number)} for number in range(2_000)], now=NOW)
            done.set()
            reading.result()
        assert seen <= {0, 2_000, 4_000, 6_000}
        assert is_intact(reader, "audit")
