"""A sealed online store keeps every promise of its port, and values from whoever sees the store beneath (SEC-9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.test_online_stores import check, fill, plan_of
from tests.servers.online import backend_of, online_stores, options_in

from grange.errors import ConflictError, CorruptStoreError, TamperedError
from grange.ports.online import GroupInfo, OnlineBatch, OnlineStore
from grange.ports.plugins import create
from grange.security.encryption import EncryptedOnlineStore, Sealer
from grange.security.encryption.local import KeyRing
from grange.serving.reader import OnlineReader
from grange.testing.online import OnlineStoreContract, batch, key, online_cases, online_state_machine, put_cells, stored

RING = KeyRing({"one": bytes(range(32))})
KINDS = [kind for kind in online_stores() if kind in ("memory", "lmdb", "redis-valkey")]


OVERHEAD = len(Sealer(RING).seal(b"", b""))
"""Bytes that sealing adds to a value."""


class Measured(EncryptedOnlineStore):
    """Tells the bytes of cells as they are in clear, as the contract counts them: each is longer by the same."""

    def info(self) -> tuple[GroupInfo, ...]:
        return tuple(replace(item, bytes=item.bytes - item.cells * OVERHEAD) for item in super().info())


@pytest.mark.parametrize("kind", KINDS)
class TestEncryptedOnlineStores(OnlineStoreContract):
    """The contract of an online store."""

    @pytest.fixture
    def backend(self, kind: str) -> str:
        return backend_of(kind)

    @pytest.fixture
    def options(self, kind: str, tmp_path: Path) -> dict[str, Any]:
        return options_in(kind, tmp_path)

    @pytest.fixture
    def open_store(self, backend: str, options: dict[str, Any]) -> Iterator[Callable[[], OnlineStore]]:
        opened: list[OnlineStore] = []

        def open_() -> OnlineStore:
            made = Measured(create("online_stores", backend, options), Sealer(RING))
            opened.append(made)
            return made

        yield open_
        for made in opened:
            made.close()

    @pytest.fixture
    def shared(self) -> None:
        pytest.skip("the other process of the suite opens the store beneath, which is proven for itself")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sealed_store_behaves_like_a_dict(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any sequence of write, load, drop and reopen leaves what it leaves in a dict."""
    options_in(kind, tmp_path)  # skips when there is no server
    monkeypatch.setattr(
        "grange.testing.online.create", lambda port, name, options: Measured(create(port, name, options), Sealer(RING))
    )
    online_state_machine(backend_of(kind), lambda folder: options_in(kind, folder)).TestCase("runTest").debug()


@pytest.mark.parametrize("case", [case for case in online_cases() if not case.get("outage")], ids=lambda c: c["name"])
def test_a_case_of_the_laws_holds_from_request_to_vector(case: dict[str, Any]) -> None:
    """ONL-1 to ONL-5, as over any store."""
    store = EncryptedOnlineStore(create("online_stores", "memory", {}), Sealer(RING))
    for group in case["groups"]:
        fill(store, group)
    check(case, OnlineReader(plan_of(case), store))


# -- what the store beneath sees, and what whoever writes to it can do


@pytest.fixture
def inner() -> OnlineStore:
    made: OnlineStore = create("online_stores", "memory", {})
    return made


@pytest.fixture
def store(inner: OnlineStore) -> EncryptedOnlineStore:
    return EncryptedOnlineStore(inner, Sealer(RING))


def put(store: OnlineStore, number: int = 1, value: Any = "SECRET", *, time: int = 1, **where: str) -> None:
    space, group, column = where.get("space", "user"), where.get("group", "a"), where.get("column", "x:string")
    store.write(space, group, [column], batch((key(number), time, None, (value,))))


def test_the_store_beneath_sees_no_value(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put(store)
    put_cells(store, "user", "a", {b"k": b"SECRET"})
    (row,) = inner.read("user", [key(1)], ["a"])
    assert row[0] is not None and row[0][1:3] == [1, None] and len(row[0]) == 4
    cell = inner.read_cells("user", "a", lambda cells: cells.get(b"k"))
    assert b"SECRET" not in row[0][3] and cell is not None and b"SECRET" not in cell
    assert inner.layout(row[0][0]) == ('sealed:["x:string"]',) and store.layout(row[0][0]) == ("x:string",)


def test_another_process_with_the_keys_reads_it(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put(store)
    other = EncryptedOnlineStore(inner, Sealer(KeyRing({"two": bytes(32), "one": bytes(range(32))})))
    assert stored(other, "user", key(1), "a") == (1, None, {"x:string": "SECRET"})
    put(other, value="new", time=2)
    with pytest.raises(CorruptStoreError, match="sealed under key 'two'"):
        stored(store, "user", key(1), "a")


def moved(
    inner: OnlineStore, row: Any, *, number: int = 1, group: str = "a", space: str = "user", **changed: Any
) -> None:
    """Put a sealed row somewhere else, as whoever writes to the store beneath can."""
    columns = changed.get("columns", inner.layout(row[0]))
    time = (changed.get("event", row[1]), changed.get("created", row[2]))
    inner.load(space, group, columns, [batch((key(number), *time, tuple(row[3:])))])


@pytest.mark.parametrize(
    "where",
    [
        {"number": 2},
        {"group": "b"},
        {"space": "seller"},
        {"event": 2},
        {"created": 0},
        {"created": 1},
        {"columns": ('sealed:["y:string"]',)},
        {"columns": ('sealed:["x:string","y:string"]',)},
        {"columns": ("x:string",)},
    ],
)
def test_a_row_that_was_moved_does_not_open(
    inner: OnlineStore, store: EncryptedOnlineStore, where: dict[str, Any]
) -> None:
    put(store)
    (found,) = inner.read("user", [key(1)], ["a"])
    moved(inner, found[0])
    assert stored(store, "user", key(1), "a") == (1, None, {"x:string": "SECRET"})
    moved(inner, found[0], **where)
    with pytest.raises(TamperedError):
        store.read(where.get("space", "user"), [key(where.get("number", 1))], [where.get("group", "a")])


@pytest.mark.parametrize("value", ["SECRET", None, 3, b"", b"\x01"])
def test_a_row_that_is_none_of_ours_does_not_open(inner: OnlineStore, store: EncryptedOnlineStore, value: Any) -> None:
    inner.load("user", "a", ['sealed:["x:string"]'], [batch((key(1), 1, None, (value,)))])
    with pytest.raises(TamperedError):
        store.read("user", [key(1)], ["a"])


def test_a_cell_that_was_moved_does_not_open(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put_cells(store, "user", "a", {b"k": b"one", b"l": b"two"})
    sealed = inner.read_cells("user", "a", lambda cells: cells.get(b"k"))
    assert sealed is not None
    for space, group, name in (("user", "a", b"l"), ("user", "b", b"k"), ("seller", "a", b"k")):
        put_cells(inner, space, group, {name: sealed})
        with pytest.raises(TamperedError):
            store.read_cells(space, group, lambda cells, name=name: cells.get(name))  # type: ignore[misc]


def test_a_row_is_no_cell_and_a_cell_no_row(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put(store)
    (found,) = inner.read("user", [key(1)], ["a"])
    assert found[0] is not None
    put_cells(inner, "user", "a", {key(1): found[0][3]})
    with pytest.raises(TamperedError):
        store.read_cells("user", "a", lambda cells: cells.get(key(1)))


def test_rows_in_clear_are_refused_unless_they_are_allowed(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put(inner)
    put(store, number=2)
    with pytest.raises(TamperedError, match="cannot be opened") as caught:
        store.read("user", [key(1)], ["a"])
    assert "in clear" in str(caught.value) and "grange materialize" in str(caught.value)
    tolerant = EncryptedOnlineStore(inner, Sealer(RING), allow_clear=True)
    found = [stored(tolerant, "user", key(number), "a") for number in (1, 2)]
    assert found == [(1, None, {"x:string": "SECRET"})] * 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_no_two_places_have_one_context(one: list[str], other: list[str]) -> None:
    from grange.security.encryption.online import _context

    assert (_context(b"r", *one) == _context(b"r", *other)) == (one == other)


def test_two_threads_learn_one_layout(store: EncryptedOnlineStore) -> None:
    for number in range(50):
        put(store, number, group=f"g{number}", column=f"c{number}")
    groups = [f"g{number}" for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: store.read("user", [key(7)], groups), range(8)))
    assert all(answer == answers[0] for answer in answers) and answers[0][0][7][3] == "SECRET"


# -- another key


TWO = {"two": bytes(32)}
BOTH = KeyRing({**TWO, "one": bytes(range(32))})


class Held:
    """Counts how often others were kept out, and lets one of them write before."""

    def __init__(self, *before: Callable[[], object]) -> None:
        self.times = 0
        self._before = list(before)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.times += 1
        if self._before:
            self._before.pop(0)()
        yield


def test_rows_sealed_anew_are_the_same_rows(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    """Of all layouts, with their times; those under the primary key stay as they are, byte by byte."""
    many = 2_500
    keys = sorted(key(number) for number in range(many))
    store.write("user", "a", ["x:int64"], OnlineBatch(keys, [5] * many, None, [(number,) for number in range(many)]))
    store.write("user", "a", ["x:int64", "y:string"], OnlineBatch([keys[7]], [6], [4], [(1, "SECRET")]))
    before = store.read("user", keys, ["a"])
    rotated, hold = EncryptedOnlineStore(inner, Sealer(BOTH)), Held()
    rotated.write("user", "a", ["x:int64"], OnlineBatch([keys[0]], [9], None, [(0,)]))
    assert (rotated.reseal_rows("user", "a", hold), hold.times) == (many - 1, 4)
    kept = inner.read("user", keys, ["a"])
    assert (rotated.reseal_rows("user", "a", Held()), inner.read("user", keys, ["a"])) == (0, kept)
    alone = EncryptedOnlineStore(inner, Sealer(KeyRing(TWO)))
    found = alone.read("user", keys, ["a"])
    assert [rows[0][1:] for rows in found[1:] if rows[0]] == [rows[0][1:] for rows in before[1:] if rows[0]]
    assert [alone.layout(rows[0][0]) for rows in found if rows[0]][6:8] == [("x:int64",), ("x:int64", "y:string")]
    assert rotated.reseal_rows("user", "nothing", Held()) == 0


def test_what_others_write_meanwhile_stays(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    """A row is never put in the place of a newer one."""
    keys = [key(number) for number in range(1500)]

    def put_all(value: str, time: int) -> None:
        store.write("user", "a", ["x:string"], OnlineBatch(keys, [time] * 1500, None, [(value,)] * 1500))

    put_all("older", 1)
    rotated = EncryptedOnlineStore(inner, Sealer(BOTH))
    assert rotated.reseal_rows("user", "a", Held(lambda: None, lambda: put_all("newer", 2))) == 1500
    assert rotated.reseal_rows("user", "a", Held()) == 1000, "of what was written behind it"
    alone = EncryptedOnlineStore(inner, Sealer(KeyRing(TWO)))
    assert {row[3] for rows in alone.read("user", keys, ["a"]) for row in rows if row} == {"newer"}


@pytest.mark.parametrize("often", [2, 9])
def test_where_all_rows_are_replaced_meanwhile_it_begins_again(
    inner: OnlineStore, store: EncryptedOnlineStore, often: int
) -> None:
    put(store)

    class Replaced:
        left = often

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def rows(self, space: str, group: str, after: bytes | None, limit: int) -> list[Any]:
            if after is not None and self.left:
                self.left -= 1
                put(store, time=often)
                raise ConflictError("the rows were replaced")
            return inner.rows(space, group, after, limit)

    rotated = EncryptedOnlineStore(cast("OnlineStore", Replaced()), Sealer(BOTH))
    if often > 5:
        with pytest.raises(ConflictError):
            rotated.reseal_rows("user", "a", Held())
        return
    assert rotated.reseal_rows("user", "a", Held()) == 3
    alone = EncryptedOnlineStore(inner, Sealer(KeyRing(TWO)))
    assert stored(alone, "user", key(1), "a") == (2, None, {"x:string": "SECRET"})


def test_nothing_that_was_changed_is_sealed_anew(inner: OnlineStore, store: EncryptedOnlineStore) -> None:
    put(store)
    ((row,),) = inner.read("user", [key(1)], ["a"])
    assert row is not None
    inner.write("user", "b", inner.layout(row[0]), OnlineBatch([key(1)], [1], None, [tuple(row[3:])]))
    with pytest.raises(TamperedError):
        EncryptedOnlineStore(inner, Sealer(BOTH)).reseal_rows("user", "b", Held())
    inner.write("user", "c", ["x:string"], batch((key(1), 1, None, ("clear",))))
    with pytest.raises(TamperedError):
        EncryptedOnlineStore(inner, Sealer(BOTH)).reseal_rows("user", "c", Held())
    assert EncryptedOnlineStore(inner, Sealer(BOTH), allow_clear=True).reseal_rows("user", "c", Held()) == 1
    alone = EncryptedOnlineStore(inner, Sealer(KeyRing(TWO)))
    assert stored(alone, "user", key(1), "c") == (1, None, {"x:string": "clear"})
