"""The contract of an online store: subclass it, name the backend, inherit every promise of `grange.ports.online`.

    class TestMine(OnlineStoreContract):
        @pytest.fixture
        def backend(self) -> str:
            return "mine"                                   # its entry point in `grange.online_stores`

        @pytest.fixture
        def options(self, tmp_path: Path) -> dict[str, Any]:
            return {"url": f"mine://{tmp_path}"}            # an empty store, new for each test

    TestMineAgainstADict = online_state_machine("mine", options_in).TestCase

Stores are opened by name and options, so that other processes can open the same one. A store whose descriptor
declares `durable` keeps its rows over a close; one that declares `shared` is one store for all processes.
The cases of the ONL laws, from a request to its vector, are `online_cases`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from grange.errors import ConflictError, CorruptStoreError, RequestError, StoreUnavailableError
from grange.ports.online import Cells, GroupInfo, OnlineBatch, OnlineStore, StoredRow, WritableCells
from grange.ports.plugins import backend as backend_of
from grange.ports.plugins import create

CASES: Final = Path(__file__).with_name("cases") / "onl" / "read"

OpenStore = Callable[[], OnlineStore]
Values = tuple[Any, ...]


def batch(*rows: tuple[bytes, int, int | None, Values]) -> OnlineBatch:
    """A batch of (key, event time, created time, values)."""
    return OnlineBatch(
        keys=[row[0] for row in rows],
        event_times=[row[1] for row in rows],
        created_times=[row[2] for row in rows],
        rows=[row[3] for row in rows],
    )


def stored(store: OnlineStore, space: str, key: bytes, group: str) -> tuple[Any, ...] | None:
    """What is stored as (event, created, {column: value}); None when there is nothing."""
    row = store.read(space, [key], [group])[0][0]
    return None if row is None else named(store, row)


def named(store: OnlineStore, row: StoredRow) -> tuple[Any, ...]:
    """A stored row as (event, created, {column: value})."""
    layout, event, created, *values = row
    return event, created, dict(zip(store.layout(layout), values, strict=True))


def key(number: int) -> bytes:
    """A key; keys ascend with numbers."""
    return b"\x10" + number.to_bytes(8, "big")


def cells_of(store: OnlineStore, space: str, group: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Those of the cells that there are, read in one visit."""
    found = store.read_cells(space, group, lambda cells: cells.get_many(keys))
    return {k: value for k, value in zip(keys, found, strict=True) if value is not None}


def put_cells(store: OnlineStore, space: str, group: str, cells: Mapping[bytes, bytes]) -> None:
    """Put cells in one visit."""

    def visit(held: WritableCells) -> None:
        for k, value in cells.items():
            held.put(k, value)

    store.write_cells(space, group, visit)


def increment(cells: WritableCells) -> int:
    """A visit that counts itself in two cells, which are therefore always equal."""
    number = int(cells.get(b"x") or b"0") + 1
    cells.put(b"x", b"%d" % number)
    cells.put(b"y" * 600, b"%d" % number)
    return number


def counted(cells: Cells) -> set[bytes | None]:
    """What `increment` left in its two cells."""
    return {cells.get(b"x"), *cells.get_many([b"y" * 600, b"x"])}


def walked(store: OnlineStore, space: str, group: str, limit: int) -> Iterator[tuple[bytes, StoredRow]]:
    """All rows of a group, page by page."""
    page = store.rows(space, group, None, limit)
    while page:
        assert len(page) <= limit
        yield from page
        page = store.rows(space, group, page[-1][0], limit)


class OnlineStoreContract:
    """Every promise of `OnlineStore`."""

    @pytest.fixture
    def backend(self) -> str:
        """The store's entry point."""
        raise NotImplementedError("a subclass says which backend it proves")

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """Options of an empty store, new for each test."""
        raise NotImplementedError("a subclass says how to open its backend")

    @pytest.fixture
    def open_store(self, backend: str, options: dict[str, Any]) -> Iterator[OpenStore]:
        """Opens the test's store; all are closed when the test ends."""
        opened: list[OnlineStore] = []

        def open_() -> OnlineStore:
            made: OnlineStore = create("online_stores", backend, options)
            opened.append(made)
            return made

        yield open_
        for made in opened:
            made.close()

    @pytest.fixture
    def store(self, open_store: OpenStore) -> OnlineStore:
        """The test's store."""
        return open_store()

    @pytest.fixture
    def durable(self, backend: str) -> None:
        """Skips the test for stores that do not outlive their closing."""
        if "durable" not in backend_of("online_stores", backend).capabilities:
            pytest.skip("declares no durability")

    @pytest.fixture
    def shared(self, backend: str) -> None:
        """Skips the test for stores of one process."""
        if "shared" not in backend_of("online_stores", backend).capabilities:
            pytest.skip("is of one process")

    # -- reading -----------------------------------------------------------------------------------------------

    def test_is_an_online_store(self, store: OnlineStore, backend: str) -> None:
        """It fits the port and knows its own name."""
        assert isinstance(store, OnlineStore)
        assert store.name == backend

    def test_unknown_names_have_no_rows(self, store: OnlineStore) -> None:
        """An unknown key space, group or key is no error and has no rows (ONL-4)."""
        assert store.read("user", [key(1), key(2)], ["a", "b"]) == [(None, None), (None, None)]
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        assert store.read("user", [key(2)], ["a"]) == [(None,)]
        assert store.read("user", [key(1)], ["b"]) == [(None,)]
        assert store.read("seller", [key(1)], ["a"]) == [(None,)]

    def test_results_follow_the_keys(self, store: OnlineStore) -> None:
        """One result per key, in order, duplicates and unknown ones included (ONL-4)."""
        store.write("user", "a", ["x"], batch(*((key(n), 1, None, (n,)) for n in range(5))))
        asked = [3, 1, 9, 3, 0, 3]

        found = [row[0] and row[0][3] for row in store.read("user", [key(n) for n in asked], ["a"])]

        assert found == [3, 1, None, 3, 0, 3]

    def test_results_follow_the_groups(self, store: OnlineStore) -> None:
        """Each group's row stands where the group was asked for, twice when it was asked for twice."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, ("a",))))
        store.write("user", "b", ["x"], batch((key(1), 1, None, ("b",))))

        (row,) = store.read("user", [key(1)], ["b", "none", "a", "b"])

        assert [part and part[3] for part in row] == ["b", None, "a", "b"]

    def test_empty_requests_have_empty_answers(self, store: OnlineStore) -> None:
        """No keys give no results; no groups give empty ones (ONL-4)."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        assert store.read("user", [], ["a"]) == []
        assert store.read("user", [key(1)], []) == [()]

    def test_key_spaces_are_apart(self, store: OnlineStore) -> None:
        """Equal keys and group names of two key spaces are two rows."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, ("user",))))
        store.write("seller", "a", ["x"], batch((key(1), 1, None, ("seller",))))
        store.drop("user", "a")
        assert stored(store, "user", key(1), "a") is None
        assert stored(store, "seller", key(1), "a") == (1, None, {"x": "seller"})

    @pytest.mark.parametrize("names", [("a", "ab", "b"), ("a+b", "a", "+b"), ("x" * 400, "x" * 401, "é")])
    def test_names_are_never_glued(self, store: OnlineStore, names: tuple[str, ...]) -> None:
        """(key space, group) pairs whose texts run together stay apart, long ones too."""
        pairs = [(space, group) for space in names for group in names]
        for number, (space, group) in enumerate(pairs):
            store.write(space, group, ["x"], batch((key(1), 1, None, (number,))))
        found = [stored(store, space, key(1), group) for space, group in pairs]
        assert found == [(1, None, {"x": number}) for number in range(len(pairs))]

    KEYS: Sequence[bytes] = (
        b"a",
        b"a\0",
        b"a\0\0",
        b"\0",
        b"\0a",
        b"\xff",
        b"\xff\0",
        b"\xff\x01",
        b"\xff\xff",
        b"k" * 509,
        b"k" * 510,
        b"k" * 511,
        b"k" * 512,
        b"k" * 511 + b"l",
        b"k" * 5000,
        b"\xff" * 511,
        b"\xff" * 600,
    )

    def test_composite_keys_never_collide(self, store: OnlineStore) -> None:
        """Keys are bytes: with NULs, prefixes of each other, of any length; each is its own (PIT-4)."""
        store.write("user", "a", ["x"], batch(*((k, 1, None, (n,)) for n, k in enumerate(self.KEYS))))

        found = [row[0] and row[0][3] for row in store.read("user", self.KEYS, ["a"])]

        assert found == list(range(len(self.KEYS)))

    def test_loaded_keys_never_collide(self, store: OnlineStore) -> None:
        """The same for loads, into a key space that has other groups, twice over."""
        store.write("user", "b", ["x"], batch(*((k, 1, None, (n,)) for n, k in enumerate(self.KEYS))))
        ascending = sorted(self.KEYS)
        for _ in range(2):
            count = store.load("user", "a", ["x"], [batch((k, 1, None, (k[:3],))) for k in ascending])
            assert count == len(ascending)
        found = store.read("user", ascending, ["a", "b"])
        assert [row[0] and row[0][3] for row in found] == [k[:3] for k in ascending]
        assert [row[1] and self.KEYS[row[1][3]] for row in found] == ascending

    VALUES: Sequence[Any] = (
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        0.5,
        -0.0,
        float("inf"),
        "",
        "text with \0 and é",
        b"",
        b"\0\xff",
        [],
        [None],
        [[1, 2], []],
        {"a": None, "b": [1, {"c": b"d"}]},
    )

    def test_values_come_back_as_they_are(self, store: OnlineStore) -> None:
        """Every value of MessagePack's types, written and loaded, and NaN."""
        columns = [f"c{n}" for n in range(len(self.VALUES))] + ["nan"]
        row = (*self.VALUES, float("nan"))
        store.write("user", "a", columns, batch((key(1), 1, None, row)))
        store.load("user", "b", columns, [batch((key(1), 1, None, row))])
        for group in ("a", "b"):
            found = stored(store, "user", key(1), group)
            assert found is not None
            values = list(found[2].values())
            assert values[:-1] == list(self.VALUES)
            assert [type(value) for value in values[:-1]] == [type(value) for value in self.VALUES]
            assert str(values[9]) == "-0.0"
            assert values[-1] != values[-1]

    def test_huge_values(self, store: OnlineStore) -> None:
        """Rows of megabytes are rows, beside small ones."""
        huge = "x" * 3_000_000
        store.write("user", "a", ["x"], batch((key(1), 1, None, (huge,)), (key(2), 1, None, ("small",))))
        store.load("user", "b", ["x"], [batch((key(n), 1, None, (huge,))) for n in (1, 3)])
        assert stored(store, "user", key(1), "a") == (1, None, {"x": huge})
        assert stored(store, "user", key(2), "a") == (1, None, {"x": "small"})
        assert stored(store, "user", key(3), "b") == (1, None, {"x": huge})

    def test_extreme_times(self, store: OnlineStore) -> None:
        """Event times before 1970 and the times of rows that are always true."""
        for moment in (-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999):
            store.write("user", "a", ["x"], batch((key(1), moment, moment, (1,))))
            assert stored(store, "user", key(1), "a") == (moment, moment, {"x": 1})

    # -- going through rows ------------------------------------------------------------------------------------

    def test_pages_hold_every_row(self, store: OnlineStore) -> None:
        """Written and loaded ones, of one group alone, each with its whole key; no page is larger than asked."""
        keys = sorted({*self.KEYS, *(key(n) for n in range(700))})
        store.load("user", "a", ["x"], [batch(*((k, 1, None, (k[:9],)) for k in keys[::2]))])
        store.write("user", "a", ["x"], batch(*((k, 2, 3, (k[:9],)) for k in keys[1::2])))
        store.write("user", "b", ["x"], batch(*((k, 1, None, ("other",)) for k in keys[::5])))
        for limit in (1000, 100, 7):
            found = dict(walked(store, "user", "a", limit))
            assert sorted(found) == keys
            assert all(named(store, row)[2] == {"x": k[:9]} for k, row in found.items())
            assert {tuple(row[1:3]) for row in found.values()} == {(1, None), (2, 3)}

    def test_pages_of_nothing_are_empty(self, store: OnlineStore) -> None:
        """Unknown names and dropped groups have no rows; a page that could hold none is refused."""
        assert store.rows("user", "a") == []
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        put_cells(store, "user", "b", {b"k": b"v"})
        assert store.rows("user", "b") == store.rows("seller", "a") == []
        assert [k for k, _ in store.rows("user", "a")] == [key(1)]
        with pytest.raises(RequestError, match="at least one"):
            store.rows("user", "a", None, 0)
        store.drop("user", "a")
        assert store.rows("user", "a") == []

    def test_a_load_between_two_pages(self, store: OnlineStore) -> None:
        """What follows is of the new rows, or said to be of others than what came before; never a mixture unseen."""
        store.load("user", "a", ["x"], [batch(*((key(n), 1, None, ("old",)) for n in range(500)))])
        first = store.rows("user", "a", None, 100)
        store.load("user", "a", ["x"], [batch(*((key(n), 1, None, ("new",)) for n in range(500)))])
        try:
            second = store.rows("user", "a", first[-1][0], 100)
        except ConflictError:
            second = store.rows("user", "a", None, 100)
        assert {row[3] for _, row in first} == {"old"}
        assert {row[3] for _, row in second} == {"new"}

    # -- layouts -----------------------------------------------------------------------------------------------

    def test_a_row_names_its_own_layout(self, store: OnlineStore) -> None:
        """Columns change over time; a row keeps those it was written with."""
        store.write("user", "a", ["x", "y"], batch((key(1), 1, None, (1, 2))))
        store.write("user", "a", ["y", "z", "x"], batch((key(2), 1, None, (20, 30, 10))))
        store.write("user", "a", [], batch((key(3), 1, None, ())))
        assert stored(store, "user", key(1), "a") == (1, None, {"x": 1, "y": 2})
        assert stored(store, "user", key(2), "a") == (1, None, {"x": 10, "y": 20, "z": 30})
        assert stored(store, "user", key(3), "a") == (1, None, {})
        store.write("user", "a", ["z"], batch((key(1), 2, None, (3,))))
        assert stored(store, "user", key(1), "a") == (2, None, {"z": 3})

    def test_equal_columns_are_one_layout(self, store: OnlineStore) -> None:
        """Layouts do not grow with writes, so that readers may keep them."""
        for number in range(3):
            store.write("user", f"g{number}", ["x", "y"], batch((key(1), 1, None, (1, 2))))
        (row,) = store.read("user", [key(1)], ["g0", "g1", "g2"])
        assert len({part[0] for part in row if part is not None}) == 1

    def test_an_unknown_layout_is_an_error(self, store: OnlineStore) -> None:
        """A number that was never given is damage, not an empty layout."""
        with pytest.raises(CorruptStoreError):
            store.layout(77)

    # -- writing -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("old", "new", "taken"),
        [
            ((10, 5), (11, 5), True),
            ((10, 5), (9, 5), False),
            ((10, 5), (10, 6), True),
            ((10, 5), (10, 4), False),
            ((10, 5), (10, 5), True),
            ((10, None), (10, None), True),
            ((10, None), (10, -(10**15)), True),
            ((10, -(10**15)), (10, None), False),
            ((10, 5), (11, None), True),
            ((10, None), (9, 99), False),
        ],
    )
    def test_an_older_row_never_replaces_a_newer_one(
        self, store: OnlineStore, old: tuple[int, int | None], new: tuple[int, int | None], taken: bool
    ) -> None:
        """By event time, then created time, none being older than any; equal times are a correction (ONL-2)."""
        store.write("user", "a", ["x"], batch((key(1), *old, ("old",))))
        assert store.write("user", "a", ["x"], batch((key(1), *new, ("new",)))) == int(taken)
        assert stored(store, "user", key(1), "a") == ((*new, {"x": "new"}) if taken else (*old, {"x": "old"}))

    def test_writes_are_ordered_within_a_batch(self, store: OnlineStore) -> None:
        """A batch's rows merge one after another: the newest wins, of equal ones the last (ONL-2)."""
        rows = [(2, "b"), (3, "c"), (1, "a"), (3, "d"), (2, "e")]
        taken = store.write("user", "a", ["x"], batch(*((key(1), time, None, (x,)) for time, x in rows)))
        assert taken == 3
        assert stored(store, "user", key(1), "a") == (3, None, {"x": "d"})

    def test_a_write_merges_onto_loaded_rows(self, store: OnlineStore) -> None:
        """Rows that came by load are older or newer like any others (ONL-2)."""
        store.load("user", "a", ["x"], [batch((key(1), 5, None, (1,)), (key(2), 5, None, (2,)))])
        written = batch((key(1), 4, None, (10,)), (key(2), 6, None, (20,)), (key(3), 1, None, (30,)))
        assert store.write("user", "a", ["x"], written) == 2
        assert [stored(store, "user", key(n), "a") for n in (1, 2, 3)] == [
            (5, None, {"x": 1}),
            (6, None, {"x": 20}),
            (1, None, {"x": 30}),
        ]

    def test_no_created_times_at_all(self, store: OnlineStore) -> None:
        """A batch of a group without created time."""
        store.write("user", "a", ["x"], OnlineBatch([key(1)], [1], None, [(1,)]))
        store.load("user", "b", ["x"], [OnlineBatch([key(1)], [1], None, [(1,)])])
        assert stored(store, "user", key(1), "a") == stored(store, "user", key(1), "b") == (1, None, {"x": 1})

    def test_empty_batches(self, store: OnlineStore) -> None:
        """Nothing written, nothing changed."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        assert store.write("user", "a", ["x"], batch()) == 0
        assert store.write("other", "a", ["x"], batch()) == 0
        assert stored(store, "user", key(1), "a") == (1, None, {"x": 1})

    def test_a_write_leaves_other_groups(self, store: OnlineStore) -> None:
        """Groups of one entity do not touch each other."""
        for number in range(20):
            store.write("user", f"g{number}", ["x"], batch((key(1), number, None, (number,))))
        store.write("user", "g3", ["x"], batch((key(1), 99, None, ("new",))))
        (row,) = store.read("user", [key(1)], [f"g{number}" for number in range(20)])
        assert [part and part[3] for part in row] == ["new" if n == 3 else n for n in range(20)]

    # -- loading -----------------------------------------------------------------------------------------------

    def test_a_load_replaces_all_of_a_group(self, store: OnlineStore) -> None:
        """Rows that are not in the load are gone, newer ones too; other groups stay."""
        store.write("user", "a", ["x"], batch(*((key(n), 9, 9, (n,)) for n in (1, 2, 3))))
        store.write("user", "b", ["x"], batch(*((key(n), 1, None, (n,)) for n in (0, 2, 5))))
        loaded = [batch((key(2), 1, None, ("two",))), batch(), batch((key(4), 1, None, ("four",)))]

        assert store.load("user", "a", ["x"], iter(loaded)) == 2

        found = store.read("user", [key(n) for n in range(6)], ["a", "b"])
        assert [row[0] and row[0][3] for row in found] == [None, None, "two", None, "four", None]
        assert [row[1] and row[1][3] for row in found] == [0, None, 2, None, None, 5]

    def test_a_load_of_nothing_empties_the_group(self, store: OnlineStore) -> None:
        """The group's rows are replaced by none; others stay."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        store.write("user", "b", ["x"], batch((key(1), 1, None, (2,))))
        assert store.load("user", "a", ["x"], []) == 0
        assert stored(store, "user", key(1), "a") is None
        assert stored(store, "user", key(1), "b") == (1, None, {"x": 2})

    def test_a_failing_load_leaves_the_old_rows(self, store: OnlineStore) -> None:
        """An error of the rows' source is raised, and nothing of the load is ever seen; the next load works."""

        def broken() -> Iterator[OnlineBatch]:
            yield batch((key(1), 5, None, ("new",)))
            yield batch(*((key(n), 5, None, ("new",)) for n in range(2, 100_000)))
            raise ZeroDivisionError("the source broke")

        store.write("user", "a", ["x"], batch((key(1), 1, None, ("old",))))
        store.write("user", "b", ["x"], batch((key(3), 1, None, ("old",))))
        with pytest.raises(ZeroDivisionError, match="the source broke"):
            store.load("user", "a", ["x"], broken())
        assert stored(store, "user", key(1), "a") == (1, None, {"x": "old"})
        assert stored(store, "user", key(2), "a") is None
        assert stored(store, "user", key(3), "b") == (1, None, {"x": "old"})
        assert {(item.group, item.rows) for item in store.info()} == {("a", 1), ("b", 1)}
        store.load("user", "a", ["x"], [batch((key(2), 1, None, ("next",)))])
        assert [stored(store, "user", key(n), "a") for n in (1, 2)] == [None, (1, None, {"x": "next"})]

    @pytest.mark.parametrize("numbers", [[[2, 1]], [[1, 1]], [[1, 2], [2, 3]], [[5], [3]]])
    def test_keys_that_do_not_ascend_are_refused(self, store: OnlineStore, numbers: list[list[int]]) -> None:
        """Within a batch and from one to the next; the old rows stay."""
        store.write("user", "a", ["x"], batch((key(9), 1, None, ("old",))))
        with pytest.raises(RequestError, match="ascend"):
            store.load("user", "a", ["x"], [batch(*((key(n), 1, None, (n,)) for n in part)) for part in numbers])
        assert stored(store, "user", key(9), "a") == (1, None, {"x": "old"})
        assert stored(store, "user", key(numbers[0][0]), "a") is None

    def test_a_load_is_seen_all_at_once(self, store: OnlineStore) -> None:
        """While a load runs, readers see the old rows of all groups, and none of the new ones."""

        def batches() -> Iterator[OnlineBatch]:
            for start in range(0, 200_000, 40_000):
                yield batch(*((key(n), 2, None, ("new",)) for n in range(start, start + 40_000)))
                assert stored(store, "user", key(1), "a") == (1, None, {"x": "old"})
                assert stored(store, "user", key(start + 7), "a") is None
                assert stored(store, "user", key(1), "b") == (1, None, {"x": "other"})

        store.write("user", "a", ["x"], batch((key(1), 1, None, ("old",))))
        store.write("user", "b", ["x"], batch((key(1), 1, None, ("other",))))
        assert store.load("user", "a", ["x"], batches()) == 200_000
        assert stored(store, "user", key(1), "a") == (2, None, {"x": "new"})
        assert stored(store, "user", key(1), "b") == (1, None, {"x": "other"})

    def test_pushes_to_other_groups_during_a_load_are_kept(self, store: OnlineStore) -> None:
        """Wherever their keys lie: before, at and after what the load has merged; new rows and replaced ones."""
        keys = range(0, 450_000, 3)
        store.write("user", "b", ["x"], batch(*((key(n), 1, None, ("old",)) for n in keys[::100])))
        pushed: dict[int, str] = {}

        def batches() -> Iterator[OnlineBatch]:
            for step, start in enumerate(range(0, len(keys), 35_000)):
                yield batch(*((key(n), 2, None, (n,)) for n in keys[start : start + 35_000]))
                for number in (0, 1, 2, 300, 90_000, 90_001, 179_998, 500_000 + step):
                    store.write("user", "b", ["x"], batch((key(number), 2 + step, None, (f"push {step}",))))
                    pushed[number] = f"push {step}"

        store.load("user", "a", ["x"], batches())

        found = store.read("user", [key(n) for n in pushed], ["b"])
        assert [row[0] and row[0][3] for row in found] == list(pushed.values())
        untouched = [n for n in keys[::100] if n not in pushed]
        assert all(row[0] and row[0][3] == "old" for row in store.read("user", [key(n) for n in untouched], ["b"]))
        counts = {item.group: item.rows for item in store.info()}
        assert counts == {"a": len(keys), "b": len({*keys[::100], *pushed})}
        assert [row[0] and row[0][3] for row in store.read("user", [key(0), key(3)], ["a"])] == [0, 3]

    # -- cells -------------------------------------------------------------------------------------------------

    def test_unknown_names_have_no_cells(self, store: OnlineStore) -> None:
        """An unknown key space, group or key is no error and has no cells; nor has a group that has only rows."""
        asked = [b"k", b"", b"l" * 600]
        assert store.read_cells("user", "a", lambda cells: cells.get_many(asked)) == [None] * 3
        assert store.read_cells("user", "a", lambda cells: cells.get(b"k")) is None
        put_cells(store, "user", "a", {b"k": b"v"})
        store.write("user", "rows", ["x"], batch((key(1), 1, None, (1,))))
        for space, group in (("user", "b"), ("seller", "a"), ("user", "rows")):
            assert store.read_cells(space, group, lambda cells: cells.get_many(asked)) == [None] * 3
        assert cells_of(store, "user", "a", asked) == {b"k": b"v"}

    def test_cells_follow_the_keys(self, store: OnlineStore) -> None:
        """`get_many` answers in order, duplicates and unknown ones included; no keys give nothing."""
        put_cells(store, "user", "a", {key(n): b"%d" % n for n in range(5)})
        asked = [key(n) for n in (3, 1, 9, 3)]
        assert store.read_cells("user", "a", lambda cells: cells.get_many(asked)) == [b"3", b"1", None, b"3"]
        assert store.read_cells("user", "a", lambda cells: cells.get_many([])) == []
        assert store.read_cells("user", "a", lambda cells: [cells.get(k) for k in asked]) == [b"3", b"1", None, b"3"]

    def test_a_visit_returns_what_it_returns(self, store: OnlineStore) -> None:
        """Any value, None too."""
        token = object()
        assert store.read_cells("user", "a", lambda cells: token) is token
        assert store.write_cells("user", "a", lambda cells: token) is token
        assert store.write_cells("user", "a", lambda cells: None) is None
        assert store.info() == ()

    def test_a_visit_reads_what_it_wrote(self, store: OnlineStore) -> None:
        """Puts, overwrites and deletes of a visit are seen by itself at once, and by others when it is over."""

        def visit(cells: WritableCells) -> list[bytes | None]:
            cells.put(b"new", b"1")
            cells.put(b"old", b"2")
            cells.delete(b"gone")
            cells.delete(b"never")
            cells.put(b"back", b"3")
            cells.delete(b"back")
            cells.put(b"back", b"4")
            seen = [cells.get(b"new"), *cells.get_many([b"old", b"gone", b"back"])]
            cells.put(b"new", b"5")
            return seen

        put_cells(store, "user", "a", {b"old": b"0", b"gone": b"0", b"stays": b"0"})
        assert store.write_cells("user", "a", visit) == [b"1", b"2", None, b"4"]
        found = cells_of(store, "user", "a", [b"new", b"old", b"gone", b"never", b"back", b"stays"])
        assert found == {b"new": b"5", b"old": b"2", b"back": b"4", b"stays": b"0"}

    def test_cells_are_apart(self, store: OnlineStore) -> None:
        """Equal keys of two groups, of two key spaces, and of rows and cells of one group are each their own."""
        pairs = [(space, group) for space in ("a", "ab", "b") for group in ("a", "ab", "b")]
        for space, group in pairs:
            put_cells(store, space, group, {key(1): f"{space} {group}".encode()})
            store.write(space, group, ["x"], batch((key(1), 1, None, (f"{space} {group}",))))
        store.load_cells("ab", "b", [(key(2), b"loaded")])
        for space, group in pairs:
            expected = {key(2): b"loaded"} if (space, group) == ("ab", "b") else {key(1): f"{space} {group}".encode()}
            assert cells_of(store, space, group, [key(1), key(2)]) == expected
            assert stored(store, space, key(1), group) == (1, None, {"x": f"{space} {group}"})

    CELL_KEYS: Sequence[bytes] = (
        b"",
        *KEYS,
        *(b"k" * length for length in range(470, 520)),
        *(b"k" * 600 + bytes([last]) for last in range(5)),
        *(b"\xff" * length for length in (505, 506, 507, 512)),
    )

    def test_cell_keys_never_collide(self, store: OnlineStore) -> None:
        """Keys are bytes of any length, put, loaded and deleted; each is its own."""
        keys = sorted(set(self.CELL_KEYS))
        for group in ("put", "loaded"):
            cells = {k: b"%d" % number for number, k in enumerate(keys)}
            if group == "put":
                put_cells(store, "user", group, cells)
            else:
                assert store.load_cells("user", group, cells.items()) == len(keys)
            assert cells_of(store, "user", group, keys) == cells
            for k in keys[::2]:
                store.write_cells("user", group, lambda held, k=k: held.delete(k))  # type: ignore[misc]
            assert cells_of(store, "user", group, keys) == {k: cells[k] for k in keys[1::2]}

    def test_values_of_cells(self, store: OnlineStore) -> None:
        """Any bytes: none at all, NULs, megabytes; an empty value is a cell."""
        values = {b"empty": b"", b"nul": b"\0", b"huge": b"\xff" * 3_000_000, b"kilobyte": bytes(range(256)) * 4}
        put_cells(store, "user", "a", values)
        store.load_cells("user", "b", sorted(values.items()))
        size = sum(len(k) + len(value) for k, value in values.items())
        for group in ("a", "b"):
            assert cells_of(store, "user", group, list(values)) == values
            assert store.read_cells("user", group, lambda cells: cells.get(b"empty")) == b""
        assert store.info() == (GroupInfo("user", "a", 0, size, 4), GroupInfo("user", "b", 0, size, 4))
        put_cells(store, "user", "a", {b"empty": b"", b"huge": b""})
        store.write_cells("user", "a", lambda cells: cells.delete(b"empty"))
        assert cells_of(store, "user", "a", [b"empty", b"huge"]) == {b"huge": b""}

    @pytest.mark.parametrize(
        "error", [ZeroDivisionError(), OSError("mine"), StoreUnavailableError("another"), KeyError()]
    )
    def test_an_exception_of_a_visit_changes_nothing(self, store: OnlineStore, error: Exception) -> None:
        """It is raised as it is, whatever it is, and the cells and their counters are what they were."""

        def fail(cells: WritableCells) -> None:
            cells.put(b"k", b"changed")
            cells.put(b"new", b"new")
            cells.delete(b"l")
            raise error

        def fail_reading(cells: Cells) -> None:
            cells.get(b"k")
            raise error

        put_cells(store, "user", "a", {b"k": b"v", b"l": b"v"})
        for group in ("a", "unknown"):
            with pytest.raises(type(error)) as caught:
                store.write_cells("user", group, fail)
            assert caught.value is error
            with pytest.raises(type(error)) as caught:
                store.read_cells("user", group, fail_reading)
            assert caught.value is error
        assert cells_of(store, "user", "a", [b"k", b"l", b"new"]) == {b"k": b"v", b"l": b"v"}
        assert store.info() == (GroupInfo("user", "a", 0, 4, 2),)

    @pytest.mark.parametrize("writes", [False, True])
    def test_a_visit_may_not_call_the_store(self, store: OnlineStore, writes: bool) -> None:
        """It would wait for itself; it is told so, and nothing happens."""
        calls: list[Callable[[], object]] = [
            lambda: store.read("user", [key(1)], ["a"]),
            lambda: store.rows("user", "a"),
            lambda: store.write("user", "a", ["x"], batch((key(1), 9, None, (9,)))),
            lambda: store.load("user", "a", ["x"], []),
            lambda: store.read_cells("user", "a", lambda cells: cells.get(b"k")),
            lambda: store.write_cells("user", "a", lambda cells: cells.put(b"k", b"inner")),
            lambda: store.write_cells("new space", "new", lambda cells: cells.put(b"k", b"inner")),
            lambda: store.load_cells("user", "a", []),
            lambda: store.drop("user", "a"),
            store.info,
        ]
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        put_cells(store, "user", "a", {b"k": b"v"})
        before = store.info()

        for call in calls:

            def visit(cells: Cells, call: Callable[[], object] = call) -> object:
                if isinstance(cells, WritableCells):
                    cells.put(b"k", b"outer")
                return call()

            with pytest.raises(RequestError, match="from within a visit"):
                if writes:
                    store.write_cells("user", "a", visit)
                else:
                    store.read_cells("user", "a", visit)
        assert store.info() == before
        assert cells_of(store, "user", "a", [b"k"]) == {b"k": b"v"}
        assert stored(store, "user", key(1), "a") == (1, None, {"x": 1})

    def test_cells_are_counted_exactly(self, store: OnlineStore) -> None:
        """Cells, and the bytes of their keys and values, over puts, overwrites, deletes, loads and drops."""

        def counts(group: str) -> tuple[int, int]:
            return next(((i.cells, i.bytes) for i in store.info() if i.group == group and not i.rows), (0, 0))

        put_cells(store, "user", "a", {b"k": b"four", b"long" * 200: b"1"})
        assert counts("a") == (2, 1 + 4 + 800 + 1)
        put_cells(store, "user", "a", {b"k": b"x", b"long" * 200: b"22"})
        assert counts("a") == (2, 1 + 1 + 800 + 2)
        put_cells(store, "user", "a", {b"k": b"x"})
        assert counts("a") == (2, 1 + 1 + 800 + 2)
        for k in (b"long" * 200, b"never"):
            store.write_cells("user", "a", lambda cells, k=k: cells.delete(k))  # type: ignore[misc]
        assert counts("a") == (1, 2)
        store.load_cells("user", "a", [(b"long" * 200, b"3"), (b"z", b"333")])
        assert counts("a") == (2, 801 + 4)
        put_cells(store, "user", "a", {b"k": b"", b"z": b"1"})
        assert counts("a") == (3, 1 + 801 + 2)
        for k in (b"k", b"z", b"long" * 200):
            store.write_cells("user", "a", lambda cells, k=k: cells.delete(k))  # type: ignore[misc]
        assert store.info() == ()
        put_cells(store, "user", "a", {b"k": b"x"})
        store.load_cells("user", "b", [(b"k", b"x")])
        store.load_cells("user", "b", [])
        assert [(i.group, i.cells, i.bytes) for i in store.info()] == [("a", 1, 2)]

    def test_rows_and_cells_of_one_group(self, store: OnlineStore) -> None:
        """Each is loaded, counted and read beside the other; drop removes both."""
        store.write("user", "a", ["x"], batch((b"k", 1, None, ("row",))))
        (alone,) = store.info()
        put_cells(store, "user", "a", {b"k": b"cell"})
        assert store.info() == (GroupInfo("user", "a", 1, alone.bytes + 5, 1),)
        store.load("user", "a", ["x"], [batch((b"k", 1, None, ("new",)), (b"l", 1, None, ("new",)))])
        assert cells_of(store, "user", "a", [b"k"]) == {b"k": b"cell"}
        store.load_cells("user", "a", [(b"m", b"1"), (b"n", b"2"), (b"o", b"3")])
        assert [row[0] and row[0][3] for row in store.read("user", [b"k", b"l", b"m"], ["a"])] == ["new", "new", None]
        assert [(i.rows, i.cells) for i in store.info()] == [(2, 3)]
        put_cells(store, "user", "b", {b"k": b"other"})
        store.drop("user", "a")
        assert [(i.group, i.rows, i.cells) for i in store.info()] == [("b", 0, 1)]
        assert cells_of(store, "user", "a", [b"m", b"n"]) == {}
        assert stored(store, "user", b"k", "a") is None
        store.drop("user", "a")
        put_cells(store, "user", "a", {b"n": b"again"})
        assert cells_of(store, "user", "a", [b"k", b"m", b"n", b"o"]) == {b"n": b"again"}

    def test_a_load_replaces_all_cells_of_a_group(self, store: OnlineStore) -> None:
        """Cells that are not in the load are gone; other groups and key spaces stay."""
        put_cells(store, "user", "a", {key(n): b"old" for n in range(4)})
        put_cells(store, "user", "b", {key(1): b"b"})
        put_cells(store, "seller", "a", {key(1): b"seller"})
        for number in range(3):
            cells = [(key(n), b"%d" % number) for n in (2, 5)]
            assert store.load_cells("user", "a", iter(cells)) == 2
            assert cells_of(store, "user", "a", [key(n) for n in range(9)]) == dict(cells)
        assert cells_of(store, "user", "b", [key(1)]) == {key(1): b"b"}
        assert cells_of(store, "seller", "a", [key(1)]) == {key(1): b"seller"}
        put_cells(store, "user", "a", {key(1): b"new", key(2): b"newer"})
        found = cells_of(store, "user", "a", [key(n) for n in range(9)])
        assert found == {key(1): b"new", key(2): b"newer", key(5): b"2"}

    def test_a_load_of_cells_is_seen_all_at_once(self, store: OnlineStore) -> None:
        """Readers see the old ones until the end; what is written to the group meanwhile goes with them."""

        def cells() -> Iterator[tuple[bytes, bytes]]:
            for number in range(150_000):
                yield key(number), b"new"
                if number % 50_000 == 40_000:
                    assert cells_of(store, "user", "a", [key(n) for n in range(10)]) == {key(1): b"old"}
                    assert cells_of(store, "user", "a", [key(200_000 + number)]) == {}
                    put_cells(store, "user", "a", {key(200_000 + number): b"lost", key(2): b"lost"})
                    store.write_cells("user", "a", lambda held: held.delete(key(2)))
                    put_cells(store, "user", "b", {key(number): b"kept"})

        put_cells(store, "user", "a", {key(1): b"old"})
        assert store.load_cells("user", "a", cells()) == 150_000
        asked = [key(n) for n in (0, 1, 2, 70_000, 149_999, 150_000, 240_000)]
        assert cells_of(store, "user", "a", asked) == dict.fromkeys(asked[:5], b"new")
        kept = [key(number) for number in (40_000, 90_000, 140_000)]
        assert cells_of(store, "user", "b", kept) == dict.fromkeys(kept, b"kept")
        assert [(i.group, i.cells, i.bytes) for i in store.info()] == [("a", 150_000, 150_000 * 12), ("b", 3, 39)]

    def test_a_failing_load_leaves_the_old_cells(self, store: OnlineStore) -> None:
        """An error of the cells' source is raised as it is, and nothing of the load is ever seen."""

        def broken() -> Iterator[tuple[bytes, bytes]]:
            for number in range(100_000):
                yield key(number), b"new"
            raise ZeroDivisionError("the source broke")

        put_cells(store, "user", "a", {key(1): b"old"})
        for group in ("a", "fresh"):
            with pytest.raises(ZeroDivisionError, match="the source broke"):
                store.load_cells("user", group, broken())
        assert cells_of(store, "user", "a", [key(1), key(2)]) == {key(1): b"old"}
        assert cells_of(store, "user", "fresh", [key(1), key(2)]) == {}
        assert store.info() == (GroupInfo("user", "a", 0, 12, 1),)
        assert store.load_cells("user", "a", [(key(2), b"next")]) == 1
        assert cells_of(store, "user", "a", [key(1), key(2)]) == {key(2): b"next"}

    @pytest.mark.parametrize("numbers", [[2, 1], [1, 1], [1, 2, 2, 3]])
    def test_cells_that_do_not_ascend_are_refused(self, store: OnlineStore, numbers: list[int]) -> None:
        """Also where a digest would stand for the key; the old cells stay."""
        put_cells(store, "user", "a", {key(9): b"old"})
        for stem in (b"", b"k" * 600):
            with pytest.raises(RequestError, match="ascend"):
                store.load_cells("user", "a", [(stem + key(n), b"new") for n in numbers])
        assert cells_of(store, "user", "a", [key(1), key(2), key(9)]) == {key(9): b"old"}
        assert [(i.cells, i.bytes) for i in store.info()] == [(1, 12)]

    def test_cells_outlive_the_store(self, open_store: OpenStore, durable: None) -> None:
        """What was written and loaded is there when the store is opened again, counted as before."""
        first = open_store()
        put_cells(first, "user", "a", {b"k": b"v", b"l" * 600: b"w"})
        first.load_cells("user", "b", [(b"k", b"loaded")])
        before = first.info()
        first.close()
        again = open_store()
        assert again.info() == before
        assert cells_of(again, "user", "a", [b"k", b"l" * 600]) == {b"k": b"v", b"l" * 600: b"w"}
        assert cells_of(again, "user", "b", [b"k"]) == {b"k": b"loaded"}
        assert again.write_cells("user", "a", increment) == 1

    # -- dropping, counting, closing ---------------------------------------------------------------------------

    def test_drop_removes_a_group(self, store: OnlineStore) -> None:
        """Its rows alone; dropping again, or what never was, is fine; the group can come back."""
        store.drop("never", "was")
        store.write("user", "a", ["x"], batch((key(1), 5, None, (1,)), (key(2), 5, None, (2,))))
        store.write("user", "b", ["x"], batch((key(1), 5, None, (3,))))
        store.drop("user", "a")
        store.drop("user", "a")
        assert store.read("user", [key(1), key(2)], ["a"]) == [(None,), (None,)]
        assert stored(store, "user", key(1), "b") == (5, None, {"x": 3})
        store.write("user", "a", ["x"], batch((key(1), 1, None, ("again",))))
        assert stored(store, "user", key(1), "a") == (1, None, {"x": "again"})
        store.drop("user", "b")
        assert stored(store, "user", key(1), "a") == (1, None, {"x": "again"})

    def test_info_counts_rows(self, store: OnlineStore) -> None:
        """Rows and bytes per group, by key space and group; groups without rows are not listed."""
        assert store.info() == ()
        store.write("user", "b", ["x"], batch((key(1), 1, None, ("four",)), (key(1), 2, None, ("x",))))
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,)), (key(2), 1, None, (1,))))
        store.load("seller", "a", ["x"], [batch((key(1), 1, None, ("x" * 1000,)))])
        store.write("user", "gone", ["x"], batch((key(1), 1, None, (1,))))
        store.drop("user", "gone")
        assert [(i.key_space, i.group, i.rows) for i in store.info()] == [
            ("seller", "a", 1),
            ("user", "a", 2),
            ("user", "b", 1),
        ]
        assert all(isinstance(item, GroupInfo) and item.bytes > 0 for item in store.info())
        assert store.info()[0].bytes > 1000

    def test_a_closed_store_says_so(self, store: OnlineStore) -> None:
        """Closing twice is fine; using it afterwards is an outage, not an empty store (ONL-6)."""
        store.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        store.close()
        store.close()
        with pytest.raises(StoreUnavailableError):
            store.read("user", [key(1)], ["a"])
        with pytest.raises(StoreUnavailableError):
            store.rows("user", "a")
        with pytest.raises(StoreUnavailableError):
            store.write("user", "a", ["x"], batch((key(1), 2, None, (1,))))
        with pytest.raises(StoreUnavailableError):
            store.read_cells("user", "a", lambda cells: cells.get(b"k"))
        with pytest.raises(StoreUnavailableError):
            store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v"))
        with pytest.raises(StoreUnavailableError):
            store.load_cells("user", "a", [])

    def test_rows_outlive_the_store(self, open_store: OpenStore, durable: None) -> None:
        """What was written and loaded is there when the store is opened again, layouts included."""
        first = open_store()
        first.write("user", "a", ["x", "y"], batch((key(1), 1, 2, (1, "é"))))
        first.load("user", "b", ["z"], [batch((key(1), 1, None, (3,)), (key(2), 1, None, (4,)))])
        before = first.info()
        first.close()
        again = open_store()
        assert stored(again, "user", key(1), "a") == (1, 2, {"x": 1, "y": "é"})
        assert stored(again, "user", key(2), "b") == (1, None, {"z": 4})
        assert again.info() == before
        assert again.write("user", "a", ["x"], batch((key(1), 0, None, (1,)))) == 0

    def test_two_stores_of_one_place(self, open_store: OpenStore, durable: None) -> None:
        """Opened twice in one process they see each other's rows, and closing one leaves the other."""
        first, second = open_store(), open_store()
        first.write("user", "a", ["x"], batch((key(1), 1, None, (1,))))
        assert stored(second, "user", key(1), "a") == (1, None, {"x": 1})
        second.load("user", "b", ["y"], [batch((key(1), 1, None, (2,)))])
        assert stored(first, "user", key(1), "b") == (1, None, {"y": 2})
        first.close()
        assert stored(second, "user", key(1), "a") == (1, None, {"x": 1})
        assert second.write("user", "a", ["x"], batch((key(1), 2, None, (5,)))) == 1

    # -- concurrency -------------------------------------------------------------------------------------------

    def test_threads_never_undo_each_other(self, store: OnlineStore) -> None:
        """Writers in any order: the newest row of each key is what stays (ONL-2)."""
        versions = [(key(k), time, None, (time,)) for k in range(4) for time in range(30)]
        random.Random(5).shuffle(versions)

        def push(part: int) -> int:
            return sum(store.write("user", "a", ["x"], batch(row)) for row in versions[part::4])

        with ThreadPoolExecutor(4) as pool:
            taken = sum(pool.map(push, range(4)))

        assert 4 <= taken <= len(versions)
        assert [stored(store, "user", key(k), "a") for k in range(4)] == [(29, None, {"x": 29})] * 4

    def test_readers_see_whole_loads(self, store: OnlineStore) -> None:
        """While loads follow each other, every read is of one of them, in all of its keys."""
        done = threading.Event()
        torn: list[object] = []
        asked = [key(n) for n in (0, 1, 499, 999)]

        def read() -> None:
            while not done.is_set():
                found = {row[0] and row[0][3] for row in store.read("user", asked, ["a"])}
                if len(found) != 1 or None in found:
                    torn.append(found)

        def load(number: int) -> None:
            store.load("user", "a", ["x"], [batch(*((key(n), 1, None, (number,)) for n in range(1000)))])

        load(0)
        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for number in range(1, 8):
                load(number)
            done.set()
            for reader in readers:
                reader.result()
        assert torn == []

    def test_loads_of_two_groups_at_once(self, store: OnlineStore) -> None:
        """Threads that load groups of one key space at the same time lose nothing of each other's."""

        def load(group: str) -> int:
            rows = [(key(n), 1, None, (group,)) for n in range(3000)]
            return store.load("user", group, ["x"], [batch(*rows[n : n + 500]) for n in range(0, 3000, 500)])

        names = ["a", "b", "c"]
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(load, names)) == [3000] * 3
        for number in (0, 1500, 2999):
            (row,) = store.read("user", [key(number)], names)
            assert [part and part[3] for part in row] == names

    def test_visits_of_threads_take_turns(self, store: OnlineStore) -> None:
        """Writers lose nothing of each other's, and readers see whole visits alone."""
        done = threading.Event()
        torn: list[object] = []

        def read() -> None:
            while not done.is_set():
                found = store.read_cells("user", "a", counted)
                if len(found) != 1:
                    torn.append(found)

        def write(_: int) -> None:
            for _ in range(25):
                store.write_cells("user", "a", increment)

        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                list(pool.map(write, range(4)))
            finally:
                done.set()
            for reader in readers:
                reader.result()
        assert torn == []
        assert store.read_cells("user", "a", counted) == {b"100"}
        assert [(i.cells, i.bytes) for i in store.info()] == [(2, 1 + 3 + 600 + 3)]

    def test_readers_see_whole_loads_of_cells(self, store: OnlineStore) -> None:
        """While loads follow each other, every visit is of one of them, in all of its cells, however long it takes."""
        done = threading.Event()
        torn: list[object] = []
        asked = [key(n) for n in (0, 1, 499, 999)]

        def visit(cells: Cells) -> set[bytes | None]:
            first = cells.get_many(asked)
            return {*first, *(cells.get(k) for _ in range(20) for k in asked)}

        def read() -> None:
            while not done.is_set():
                found = store.read_cells("user", "a", visit)
                if len(found) != 1 or None in found:
                    torn.append(found)

        def load(number: int) -> None:
            store.load_cells("user", "a", ((key(n), b"%d" % number) for n in range(1000)))

        load(0)
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                list(pool.map(load, range(1, 9)))
            finally:
                done.set()
            for reader in readers:
                reader.result()
        assert torn == []
        assert [(i.cells, i.bytes) for i in store.info()] == [(1000, 10_000)]

    def test_processes_share_cells(
        self, store: OnlineStore, backend: str, options: dict[str, Any], shared: None
    ) -> None:
        """Visits of two processes take turns, each sees whole visits of the other, and its loads at once."""
        put_cells(store, "user", "loaded", {key(1): b"here"})
        child = _Child(backend, options)
        child.start("count")
        for _ in range(100):
            store.write_cells("user", "counts", increment)
            assert len(store.read_cells("user", "counts", counted)) == 1
        child.expect("count")
        assert store.read_cells("user", "counts", counted) == {b"200"}
        child.tell("load cells")
        assert cells_of(store, "user", "loaded", [key(1), key(2)]) == {key(2): b"there"}
        assert cells_of(store, "seller", "new group", [key(1)]) == {key(1): b"new"}
        child.finish()

    def test_processes_share_the_store(
        self, store: OnlineStore, backend: str, options: dict[str, Any], shared: None
    ) -> None:
        """What another process loads and writes is seen at once, and writers of two processes keep ONL-2."""
        store.load("user", "a", ["x"], [batch((key(1), 1, None, ("here",)))])
        store.read("user", [key(1)], ["a"])
        child = _Child(backend, options)
        child.tell("load")
        assert stored(store, "user", key(1), "a") == (5, None, {"there": "loaded"})
        assert stored(store, "user", key(1), "new group") == (1, None, {"y": 1})
        child.start("push")
        for time in range(0, 200, 2):
            store.write("user", "c", ["x"], batch(*((key(n), time, None, (time,)) for n in range(5))))
        child.finish()
        assert [stored(store, "user", key(n), "c") for n in range(5)] == [(199, None, {"x": 199})] * 5
        assert stored(store, "user", key(1), "a") == (5, None, {"there": "loaded"})

    def test_pushes_of_another_process_during_a_load_are_kept(
        self, store: OnlineStore, backend: str, options: dict[str, Any], shared: None
    ) -> None:
        """The pushing process does not know of the load, and loses nothing to it."""
        child = _Child(backend, options)

        def batches() -> Iterator[OnlineBatch]:
            for start in range(0, 160_000, 20_000):
                yield batch(*((key(n), 1, None, (n,)) for n in range(start, start + 20_000)))
                if start == 80_000:
                    child.tell("spread")

        store.load("user", "a", ["x"], batches())
        child.finish()
        found = store.read("user", [key(n) for n in range(0, 200_000, 1000)], ["spread"])
        assert [row[0] and row[0][3] for row in found] == list(range(0, 200_000, 1000))


class _Child:
    """Another process with the same store open, which does what it is told and says when it is done."""

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        arguments = json.dumps({"backend": backend, "options": dict(options)}, default=str)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import _child; _child()", arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready")

    def start(self, task: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(task + "\n")
        self._process.stdin.flush()

    def tell(self, task: str) -> None:
        self.start(task)
        self.expect(task)

    def expect(self, task: str) -> None:
        """Wait until what was started is done."""
        self._expect("done " + task)

    def finish(self) -> None:
        """Wait for what was started and end the process."""
        self._process.communicate(timeout=120)
        assert self._process.returncode == 0

    def _expect(self, line: str) -> None:
        assert self._process.stdout is not None
        found = self._process.stdout.readline().strip()
        assert found == line, f"the other process said {found!r}"


def _child() -> None:
    arguments = json.loads(sys.argv[1])
    store: OnlineStore = create("online_stores", arguments["backend"], arguments["options"])
    print("ready", flush=True)
    for line in sys.stdin:
        task = line.strip()
        if task == "load":
            store.load("user", "a", ["there"], [batch((key(1), 5, None, ("loaded",)))])
            store.write("user", "new group", ["y"], batch((key(1), 1, None, (1,))))
        elif task == "push":
            for time in range(1, 200, 2):
                store.write("user", "c", ["x"], batch(*((key(n), time, None, (time,)) for n in range(5))))
        elif task == "spread":
            for number in range(0, 200_000, 1000):
                store.write("user", "spread", ["x"], batch((key(number), 1, None, (number,))))
        elif task == "count":
            for _ in range(100):
                store.write_cells("user", "counts", increment)
        elif task == "load cells":
            store.load_cells("user", "loaded", [(key(2), b"there")])
            put_cells(store, "seller", "new group", {key(1): b"new"})
        else:
            raise ValueError(f"no task {task!r}")
        print("done " + task, flush=True)
    store.close()


# -- the state machine -------------------------------------------------------------------------------------------

_SPACES = st.sampled_from(["user", "user+seller"])
_GROUPS = st.sampled_from(["a", "b", "c"])
_KEYS = st.sampled_from([b"\x10a", b"\x10a\0", b"\x10b", b"\xff", b"\xff\x01", b"k" * 511, b"k" * 700, b"m" * 600])
_TIMES = st.integers(-2, 2)
_COLUMNS = st.sampled_from([("x",), ("x", "y"), ("y", "x")])
_ROWS = st.lists(st.tuples(_KEYS, _TIMES, st.none() | _TIMES, st.integers(0, 99)), max_size=6)
_CELL_KEYS: Final = (
    b"",
    b"\x10a",
    b"\x10b",
    b"\xff",
    b"k" * 505,
    b"k" * 506,
    b"k" * 507,
    b"k" * 508,
    b"m" * 600,
    b"m" * 601,
)
_CELL_VALUES = st.sampled_from([b"", b"1", b"two", b"x" * 5000])
_CELL_CHANGES = st.lists(st.tuples(st.sampled_from(_CELL_KEYS), st.none() | _CELL_VALUES), max_size=8)

Held = dict[tuple[str, str], dict[bytes, tuple[int, int | None, dict[str, Any]]]]


def online_state_machine(backend: str, options_in: Callable[[Path], dict[str, Any]]) -> type[RuleBasedStateMachine]:
    """A machine that drives a store and a dict with the same calls, and compares them after every one.

    Args:
        backend: the store's entry point.
        options_in: options of an empty store, given an empty folder of its own.
    """

    class Machine(RuleBasedStateMachine):
        @initialize()
        def open(self) -> None:
            self.folder = tempfile.TemporaryDirectory()
            self.options = options_in(Path(self.folder.name))
            self.store: OnlineStore = create("online_stores", backend, self.options)
            self.model: Held = {}
            self.cells: dict[tuple[str, str], dict[bytes, bytes]] = {}

        @rule(space=_SPACES, group=_GROUPS, columns=_COLUMNS, rows=_ROWS)
        def write(self, space: str, group: str, columns: Values, rows: list[Any]) -> None:
            held = self.model.setdefault((space, group), {})
            taken = 0
            for k, event, created, value in rows:
                old = held.get(k)
                if old is None or _age(old) <= _age((event, created)):
                    held[k] = (event, created, dict.fromkeys(columns, value))
                    taken += 1
            made = batch(*((k, event, created, (value,) * len(columns)) for k, event, created, value in rows))
            assert self.store.write(space, group, columns, made) == taken

        @rule(space=_SPACES, group=_GROUPS, columns=_COLUMNS, rows=_ROWS, size=st.integers(1, 3), fails=st.booleans())
        def load(self, space: str, group: str, columns: Values, rows: list[Any], size: int, fails: bool) -> None:
            fresh = {row[0]: row for row in rows}
            ordered = [fresh[k] for k in sorted(fresh)]

            def batches() -> Iterator[OnlineBatch]:
                for start in range(0, len(ordered), size):
                    part = ordered[start : start + size]
                    yield batch(*((k, event, created, (value,) * len(columns)) for k, event, created, value in part))
                if fails:
                    raise ZeroDivisionError

            if fails:
                with pytest.raises(ZeroDivisionError):
                    self.store.load(space, group, columns, batches())
                return
            assert self.store.load(space, group, columns, batches()) == len(ordered)
            self.model[space, group] = {
                k: (event, created, dict.fromkeys(columns, value)) for k, event, created, value in ordered
            }

        @rule(space=_SPACES, group=_GROUPS)
        def drop(self, space: str, group: str) -> None:
            self.store.drop(space, group)
            self.model.pop((space, group), None)
            self.cells.pop((space, group), None)

        @rule(space=_SPACES, group=_GROUPS, changes=_CELL_CHANGES, fails=st.booleans())
        def write_cells(self, space: str, group: str, changes: list[Any], fails: bool) -> None:
            held = dict(self.cells.get((space, group), {}))

            def visit(cells: WritableCells) -> None:
                changed = dict(held)
                for k, value in changes:
                    assert cells.get(k) == changed.get(k)
                    if value is None:
                        cells.delete(k)
                        changed.pop(k, None)
                    else:
                        cells.put(k, value)
                        changed[k] = value
                assert cells.get_many(_CELL_KEYS) == [changed.get(k) for k in _CELL_KEYS]
                if fails:
                    raise ZeroDivisionError
                self.cells[space, group] = changed

            if fails:
                with pytest.raises(ZeroDivisionError):
                    self.store.write_cells(space, group, visit)
            else:
                self.store.write_cells(space, group, visit)

        @rule(space=_SPACES, group=_GROUPS, changes=_CELL_CHANGES, fails=st.booleans())
        def load_cells(self, space: str, group: str, changes: list[Any], fails: bool) -> None:
            fresh = {k: value for k, value in sorted(changes, key=lambda change: change[0]) if value is not None}

            def cells() -> Iterator[tuple[bytes, bytes]]:
                yield from fresh.items()
                if fails:
                    raise ZeroDivisionError

            if fails:
                with pytest.raises(ZeroDivisionError):
                    self.store.load_cells(space, group, cells())
                return
            assert self.store.load_cells(space, group, cells()) == len(fresh)
            self.cells[space, group] = fresh

        @rule()
        def reopen(self) -> None:
            if "durable" in backend_of("online_stores", backend).capabilities:
                self.store.close()
                self.store = create("online_stores", backend, self.options)

        @invariant()
        def the_store_is_the_dict(self) -> None:
            keys = [b"\x10a", b"\x10a\0", b"\x10b", b"\xff", b"\xff\x01", b"k" * 511, b"k" * 700, b"m" * 600, b"none"]
            groups = ["a", "b", "c"]
            for space in ("user", "user+seller"):
                found = [
                    [None if row is None else named(self.store, row) for row in rows]
                    for rows in self.store.read(space, keys, groups)
                ]
                assert found == [[self.model.get((space, group), {}).get(k) for group in groups] for k in keys]
                for group in groups:
                    walk = {k: named(self.store, row) for k, row in walked(self.store, space, group, 3)}
                    assert walk == self.model.get((space, group), {})
                    held = self.cells.get((space, group), {})
                    assert cells_of(self.store, space, group, _CELL_KEYS) == held
            infos = {(item.key_space, item.group): item for item in self.store.info()}
            names = {name for held in (self.model, self.cells) for name, rows in held.items() if rows}
            assert infos.keys() == names
            for name, info in infos.items():
                rows, cells = self.model.get(name, {}), self.cells.get(name, {})
                assert (info.rows, info.cells) == (len(rows), len(cells))
                size = sum(len(k) + len(value) for k, value in cells.items())
                assert info.bytes > size if rows else info.bytes == size

        def teardown(self) -> None:
            self.store.close()
            self.folder.cleanup()

    Machine.TestCase.settings = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return Machine


def _age(row: Sequence[Any]) -> tuple[int, float | int]:
    return row[0], float("-inf") if row[1] is None else row[1]


# -- the cases ---------------------------------------------------------------------------------------------------


def online_cases() -> list[dict[str, Any]]:
    """The cases of the ONL laws, as plain data: what is stored, what is asked, what must come back.

    Each has `name`, `laws`, `description`, `groups` (`name`, `key_space`, `keys` as [[request column, type]],
    `ttl`, `exact_matches`, `columns` as [{column, name, dtype, default}], `stored` as a list of
    {"write" | "load": [[key values, event time, created time, values]], "columns": names}), `requests`, `on_error`,
    `outage` (whether reads fail), `now`, `rows`, and `expected`: `rows`, `statuses`, `event_times` and `degraded`, or
    `error` with the words that it `mentions`.

    Raises:
        ValueError: there are none, a name occurs twice, or a law of ONL has no case.
    """
    cases = [
        case for path in sorted(CASES.glob("*.json")) for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
    ]
    names = [case["name"] for case in cases]
    missing = {f"ONL-{number}" for number in range(1, 7)} - {law for case in cases for law in case["laws"]}
    if missing or len(set(names)) != len(names):
        raise ValueError(f"laws without a case: {sorted(missing)}; names: {names}")
    return cases
