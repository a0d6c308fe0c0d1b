"""Cells in the lmdb online store where it differs from others: crashes, damage, full stores, growing, forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from grange.errors import ConflictError, CorruptStoreError, StorageFullError, StoreUnavailableError
from grange.online.lmdb import building, cells, environment
from grange.online.lmdb.backend import LmdbOnlineStore
from grange.online.lmdb.cells import GroupCells, set_prefix, stored_cell_key
from grange.online.lmdb.records import cells_record_key
from grange.ports.online import OnlineBatch, WritableCells

Cells = dict[bytes, bytes]


def key(number: int) -> bytes:
    return b"\x10" + number.to_bytes(8, "big")


def numbered(numbers: range, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((key(number), value) for number in numbers)


def put(store: LmdbOnlineStore, held: Cells, group: str = "a") -> None:
    def visit(writable: WritableCells) -> None:
        for name, value in held.items():
            writable.put(name, value)

    store.write_cells("user", group, visit)


def get(store: LmdbOnlineStore, number: int, group: str = "a") -> bytes | None:
    return store.read_cells("user", group, lambda held: held.get(key(number)))


def counts(store: LmdbOnlineStore) -> dict[str, int]:
    return {item.group: item.cells for item in store.info()}


def stored_cells(path: Path) -> int:
    """How many cells lie in a store that is not open here, read or not."""
    with lmdb.open(str(path), max_dbs=9, readonly=True) as env:
        database = env.open_db(cells.CELLS, create=False)
        with env.begin() as txn:
            return int(txn.stat(database)["entries"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbOnlineStore]:
    made = LmdbOnlineStore(tmp_path / "online")
    yield made
    made.close()


def run_and_kill(code: str, folder: Path) -> None:
    """Run code in another process and kill it when it has printed a line."""
    program = textwrap.dedent(
        """
        import sys, time
        from grange.online.lmdb import building, cells
        from grange.online.lmdb.backend import LmdbOnlineStore
        def key(n): return b"\\x10" + n.to_bytes(8, "big")
        def half():
            print("half", flush=True)
            time.sleep(60)
        store = LmdbOnlineStore(sys.argv[1])
        """
    ) + textwrap.dedent(code)
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "half"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


LOAD_UNTIL_KILLED = """
    def new():
        for n in range(100_000):
            yield key(n), b"new"
        half()
    store.load_cells("user", "a", new())
"""

CLEAR_UNTIL_KILLED = """
    cells.CLEAR_CELLS = 10
    real, steps = cells.GroupCells._clear_some, []
    def clear_some(self, txn, *, limit):
        steps.append(real(self, txn, limit=limit))
        if len(steps) == 4:
            half()
        return steps[-1]
    cells.GroupCells._clear_some = clear_some
    store.load_cells("user", "a", [(key(2), b"new")])
"""


# -- crashes -----------------------------------------------------------------------------------------------------


def test_a_kill_in_a_load_leaves_the_old_cells(store: LmdbOnlineStore) -> None:
    """What it had put is never seen nor counted, and what is written afterwards goes on as before."""
    put(store, {key(1): b"old", key(2): b"old"})
    put(store, {key(1): b"other"}, "b")
    run_and_kill(LOAD_UNTIL_KILLED, store._shared.path)
    assert [get(store, number) for number in (1, 2, 3)] == [b"old", b"old", None]
    assert counts(store) == {"a": 2, "b": 1}
    put(store, {key(3): b"pushed"})
    assert [get(store, number) for number in (2, 3, 4)] == [b"old", b"pushed", None]
    assert store.load_cells("user", "a", [(key(1), b"next"), (key(7), b"next")]) == 2
    assert [get(store, number) for number in (1, 2, 3, 7)] == [b"next", None, None, b"next"]
    assert counts(store) == {"a": 2, "b": 1}
    path = store._shared.path
    store.close()
    assert stored_cells(path) == 3


def test_opening_clears_what_a_dead_load_of_cells_left(tmp_path: Path) -> None:
    """The room is given back when the store is next opened."""
    first = LmdbOnlineStore(tmp_path)
    put(first, {key(1): b"old"})
    first.close()
    run_and_kill(LOAD_UNTIL_KILLED, tmp_path)
    assert stored_cells(tmp_path) > 50_000
    again = LmdbOnlineStore(tmp_path)
    assert get(again, 1) == b"old"
    again.close()
    assert stored_cells(tmp_path) == 1


def test_a_kill_while_old_cells_are_deleted(tmp_path: Path) -> None:
    """The new ones are there, whole, and opening deletes the rest of the old ones."""
    first = LmdbOnlineStore(tmp_path)
    first.load_cells("user", "a", numbered(range(100), b"old"))
    first.close()
    run_and_kill(CLEAR_UNTIL_KILLED, tmp_path)
    assert 1 < stored_cells(tmp_path) <= 101
    again = LmdbOnlineStore(tmp_path)
    assert [get(again, number) for number in (1, 2, 99)] == [None, b"new", None]
    assert counts(again) == {"a": 1}
    again.close()
    assert stored_cells(tmp_path) == 1


def test_a_kill_in_a_visit_changes_nothing(tmp_path: Path) -> None:
    """What an earlier visit wrote is on disk; what the one under way put is not there at all."""
    run_and_kill(
        """
        store.write_cells("user", "a", lambda held: held.put(key(1), b"kept"))
        def visit(held):
            held.put(key(1), b"half")
            held.put(key(2), b"half")
            half()
        store.write_cells("user", "a", visit)
        """,
        tmp_path,
    )
    again = LmdbOnlineStore(tmp_path)
    assert (get(again, 1), get(again, 2)) == (b"kept", None)
    put(again, {key(1): b"next"})
    assert (get(again, 1), counts(again)) == (b"next", {"a": 1})
    again.close()


def test_a_running_load_of_cells_is_not_cleared_by_opening(tmp_path: Path) -> None:
    """Another process that opens the store meanwhile leaves the cells that a live one puts alone."""
    first = LmdbOnlineStore(tmp_path)
    code = "import sys; from grange.online.lmdb.backend import LmdbOnlineStore as S; S(sys.argv[1]).close()"

    def new() -> Iterator[tuple[bytes, bytes]]:
        yield from numbered(range(70_000), b"new")
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        yield from numbered(range(70_000, 70_010), b"new")

    assert first.load_cells("user", "a", new()) == 70_010
    assert [get(first, number) for number in (0, 69_999, 70_009)] == [b"new"] * 3
    first.close()
    assert stored_cells(tmp_path) == 70_010


# -- room --------------------------------------------------------------------------------------------------------


def test_a_visit_is_called_again_when_the_map_had_to_grow(tmp_path: Path) -> None:
    """From its start, on what was stored before; cells and counters are those of one call."""
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20)
    put(store, {b"n": b"1"})
    calls: list[bytes | None] = []

    def visit(held: WritableCells) -> None:
        calls.append(held.get(b"n"))
        held.put(b"n", b"2")
        for number in range(500):
            held.put(key(number), b"x" * 10_000)

    store.write_cells("user", "a", visit)
    assert len(calls) > 1
    assert set(calls) == {b"1"}
    (info,) = store.info()
    assert (info.cells, info.bytes) == (501, 2 + 500 * 10_009)
    assert get(store, 499) == b"x" * 10_000
    store.close()


def test_a_load_of_cells_grows_the_map(tmp_path: Path) -> None:
    """While threads read, and another process's environment follows."""
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20)
    put(store, {key(1): b"small"}, "b")
    done = threading.Event()
    wrong: list[bytes | None] = []

    def read() -> None:
        while not done.is_set():
            found = get(store, 1, "b")
            if found != b"small":
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        store.load_cells("user", "a", numbered(range(2000), b"x" * 5000))
    finally:
        done.set()
        reader.join()
    assert wrong == []
    code = (
        "import sys; from grange.online.lmdb.backend import LmdbOnlineStore as S; "
        "S(sys.argv[1], map_size=1 << 20).load_cells('user', 'b', [(b'%05d' % n, b'x' * 9000) for n in range(3000)])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert get(store, 1999) == b"x" * 5000
    assert store.read_cells("user", "b", lambda held: held.get(b"02999")) == b"x" * 9000
    put(store, {key(1): b"more"}, "b")
    assert counts(store) == {"a": 2000, "b": 3001}
    store.close()


@pytest.mark.parametrize("size", [100, 9000])
def test_a_load_too_large_for_the_store(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old cells stay, what it had put is deleted again however full the store is, and smaller loads still work."""
    monkeypatch.setattr(building, "STEP_BYTES", 1 << 20)
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20, max_size=40 << 20)
    put(store, {key(1): b"kept"})
    for _ in range(2):
        with pytest.raises(StorageFullError, match="max_size"):
            store.load_cells("user", "a", numbered(range(50 * 2**20 // size), b"x" * size))
        with pytest.raises(StorageFullError, match="max_size"):
            put(store, {key(number): b"x" * 100_000 for number in range(500)})
        assert (get(store, 1), get(store, 2)) == (b"kept", None)
        assert counts(store) == {"a": 1}
    assert store.load_cells("user", "a", numbered(range(8 * 2**20 // size), b"y" * size)) == 8 * 2**20 // size
    assert get(store, 7) == b"y" * size
    store.close()
    assert stored_cells(tmp_path) == 8 * 2**20 // size


def test_a_store_too_full_to_clear_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leftovers wait for the next load when there is no room to delete them."""
    first = LmdbOnlineStore(tmp_path)
    put(first, {key(1): b"old"})
    first.close()
    run_and_kill(LOAD_UNTIL_KILLED, tmp_path)

    def full(self: GroupCells, txn: Any, *, limit: int) -> bool:
        raise lmdb.MapFullError("full")

    with monkeypatch.context() as patch:
        patch.setattr(GroupCells, "_clear_some", full)
        again = LmdbOnlineStore(tmp_path, max_size=64 << 20)
        assert get(again, 1) == b"old"
        with pytest.raises(StorageFullError):
            again.load_cells("user", "a", [(key(1), b"new")])
        assert get(again, 1) == b"old"
    assert again.load_cells("user", "a", [(key(1), b"new")]) == 1
    again.close()
    assert stored_cells(tmp_path) == 1


def test_steps_of_a_load_of_cells_are_bounded(store: LmdbOnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts and deletes are cut into transactions, by number and by bytes, so that pushes get their turn."""
    monkeypatch.setattr(building, "STEP_ROWS", 10)
    monkeypatch.setattr(building, "STEP_BYTES", 5000)
    monkeypatch.setattr(cells, "CLEAR_CELLS", 7)
    changes: list[int] = []
    real = store._shared.write

    def write(body: Any) -> Any:
        def counted(txn: Any) -> Any:
            before = txn.stat(store._space("user").cells)["entries"]  # type: ignore[union-attr]
            result = body(txn)
            changes.append(txn.stat(store._space("user").cells)["entries"] - before)  # type: ignore[union-attr]
            return result

        return real(counted)

    put(store, {key(0): b"old"})
    monkeypatch.setattr(store._shared, "write", write)
    assert store.load_cells("user", "a", numbered(range(95), b"x")) == 95
    assert store.load_cells("user", "a", numbered(range(12), b"x" * 2000)) == 12
    puts = [change for change in changes if change > 0]
    deletes = [change for change in changes if change < 0]
    assert puts == [10] * 9 + [5] + [3] * 4
    assert (max(deletes), min(deletes), sum(deletes)) == (-1, -7, -96)
    assert [get(store, number) for number in (11, 12)] == [b"x" * 2000, None]


def test_loads_into_the_middle(store: LmdbOnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another group's set with a later number is begun while a load goes on, and long keys come in any order."""
    monkeypatch.setattr(building, "STEP_ROWS", 10)
    long = {b"k" * 600 + key(number): b"%d" % number for number in range(100)}

    def items() -> Iterator[tuple[bytes, bytes]]:
        for number, item in enumerate(long.items()):
            if number == 35:
                put(store, {b"k" * 600: b"later"}, "b")
                store.load_cells("user", "c", numbered(range(50), b"later"))
            yield item

    assert store.load_cells("user", "a", items()) == 100
    assert store.read_cells("user", "a", lambda held: held.get_many(list(long))) == list(long.values())
    assert store.read_cells("user", "b", lambda held: held.get(b"k" * 600)) == b"later"
    assert [get(store, number, "c") for number in (0, 49, 50)] == [b"later", b"later", None]


def test_there_is_room_for_the_cells_of_every_key_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many key spaces as the limit says, with rows and cells; one more is refused by name of the limit."""
    monkeypatch.setattr(environment, "MAX_DATABASES", 8)
    store = LmdbOnlineStore(tmp_path)
    for space in ("a", "b", "c"):
        store.write(space, "rows", ["x"], OnlineBatch([key(1)], [1], None, [(1,)]))
        store.load_cells(space, "cells", [(key(1), b"v")])
    with pytest.raises(StoreUnavailableError, match="limit of 3 key spaces"):
        store.load_cells("d", "cells", [(key(1), b"v")])
    store.close()
    again = LmdbOnlineStore(tmp_path)
    assert [(item.key_space, item.rows, item.cells) for item in again.info()] == [
        (space, *found) for space in ("a", "b", "c") for found in ((0, 1), (1, 0))
    ]
    assert again.read_cells("c", "cells", lambda held: held.get(key(1))) == b"v"
    again.close()


# -- sharing -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_shares_the_cells(store: LmdbOnlineStore) -> None:
    """The child reads and writes with the store it inherited, and the parent with its own."""
    put(store, {key(1): b"parent"})
    assert get(store, 1) == b"parent"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert get(store, 1) == b"parent"
            put(store, {key(1): b"child"})
            store.load_cells("user", "b", [(key(1), b"loaded")])
            store.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (get(store, 1), get(store, 1, "b")) == (b"child", b"loaded")
    put(store, {key(1): b"parent again"})
    assert get(store, 1) == b"parent again"
    assert counts(store) == {"a": 1, "b": 1}


def test_loads_of_cells_wait_for_those_of_their_group_alone(tmp_path: Path) -> None:
    """Another load of the same cells that does not end is a conflict; other groups, and rows, do not wait."""
    store = LmdbOnlineStore(tmp_path, lock_timeout=0.05)

    def new() -> Iterator[tuple[bytes, bytes]]:
        with pytest.raises(ConflictError, match="cells of 'a' by 'user'"):
            store.load_cells("user", "a", [])
        with pytest.raises(ConflictError, match="cells of 'a' by 'user'"):
            store.drop("user", "a")
        store.load_cells("user", "b", [(key(1), b"other")])
        store.load_cells("seller", "a", [(key(1), b"other")])
        store.load("user", "a", ["x"], [OnlineBatch([key(1)], [1], None, [(1,)])])
        yield key(1), b"new"

    put(store, {key(1): b"old"})
    assert store.load_cells("user", "a", new()) == 1
    assert (get(store, 1), get(store, 1, "b")) == (b"new", b"other")
    store.close()


def test_a_load_that_was_discarded_says_so(store: LmdbOnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks do not work, a load that another one cleared away never half-replaces the cells."""
    monkeypatch.setattr(building, "STEP_ROWS", 10)
    put(store, {key(1): b"old"})

    def new() -> Iterator[tuple[bytes, bytes]]:
        yield from numbered(range(25), b"new")
        store._group_cells("user", "a").clear()
        yield from numbered(range(25, 28), b"new")

    with pytest.raises(ConflictError, match="discarded"):
        store.load_cells("user", "a", new())
    assert (get(store, 1), counts(store)) == (b"old", {"a": 1})


def test_a_read_only_place_has_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write, cells are read, leftovers stay, and writes say why they fail."""
    store = LmdbOnlineStore(tmp_path)
    put(store, {key(1): b"kept"})
    store.close()
    run_and_kill(LOAD_UNTIL_KILLED, tmp_path)
    real = lmdb.open

    def refuse(path: str, **options: Any) -> Any:
        if not options.get("readonly"):
            raise lmdb.ReadonlyError(path)
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", refuse)
    store = LmdbOnlineStore(tmp_path)
    assert (get(store, 1), get(store, 1, "unknown")) == (b"kept", None)
    assert store.read_cells("nobody", "a", lambda held: held.get(key(1))) is None
    assert counts(store) == {"a": 1}
    for group in ("a", "new"):
        with pytest.raises(StoreUnavailableError, match="only be read"):
            put(store, {key(1): b"new"}, group)
        with pytest.raises(StoreUnavailableError, match="only be read"):
            store.load_cells("user", group, [(key(1), b"new")])
    store.close()


# -- what is stored ----------------------------------------------------------------------------------------------


def make_old_store(path: Path) -> None:
    """A store of a version that knew no cells: one group of rows, and nothing else in it."""
    store = LmdbOnlineStore(path)
    store.write("user", "a", ["x"], OnlineBatch([key(1)], [1], None, [("row",)]))
    store.close()
    with lmdb.open(str(path), max_dbs=9) as env:
        database = env.open_db(cells.CELLS, create=False)
        with env.begin(write=True) as txn:
            assert txn.stat(database)["entries"] == 0
            txn.drop(database, delete=True)


def test_a_store_that_was_made_without_cells(tmp_path: Path) -> None:
    """Its rows are read as before, and cells can be put beside them."""
    make_old_store(tmp_path)
    store = LmdbOnlineStore(tmp_path)
    assert store.read("user", [key(1)], ["a"])[0][0] == [0, 1, None, "row"]
    assert [(item.rows, item.cells) for item in store.info()] == [(1, 0)]
    assert get(store, 1) is None
    put(store, {key(1): b"cell"})
    assert get(store, 1) == b"cell"
    assert [(item.rows, item.cells) for item in store.info()] == [(1, 1)]
    store.close()


def test_a_read_only_store_that_was_made_without_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none, and its rows are read."""
    make_old_store(tmp_path)
    real = lmdb.open

    def refuse(path: str, **options: Any) -> Any:
        if not options.get("readonly"):
            raise lmdb.ReadonlyError(path)
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", refuse)
    store = LmdbOnlineStore(tmp_path)
    assert get(store, 1) is None
    assert store.read("user", [key(1)], ["a"])[0][0] == [0, 1, None, "row"]
    assert [(item.rows, item.cells) for item in store.info()] == [(1, 0)]
    store.close()


def test_a_damaged_record_of_cells_is_reported(store: LmdbOnlineStore) -> None:
    """Bytes that do not decode are damage, not a group without cells."""
    put(store, {key(1): b"kept"})
    store._shared.write(lambda txn: txn.put(cells_record_key(0, 0), b"\xc1\x00", db=store._shared.meta))
    with pytest.raises(CorruptStoreError):
        put(store, {key(1): b"new"})
    with pytest.raises(CorruptStoreError):
        store.info()
    assert get(store, 1) == b"kept"


def test_stored_cell_keys_are_injective() -> None:
    """No two cell keys share a stored key, also not one that looks like another's digest; none is too long."""
    prefix = set_prefix(7)
    keys = [b"k" * length for length in range(600)] + [b"k" * 600 + b"%d" % number for number in range(20)]
    keys += [stored_cell_key(prefix, found)[4:] for found in keys if len(found) > 506]
    made = {stored_cell_key(prefix, found) for found in keys}
    assert len(made) == len(set(keys))
    assert max(map(len, made)) == 511
    assert all(found.startswith(prefix) for found in made)
