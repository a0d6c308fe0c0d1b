"""The lmdb online store where it differs from others: crashes, damage, full disks, growing, forks."""

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
from grange.online.lmdb import building, environment
from grange.online.lmdb.backend import LmdbOnlineStore
from grange.online.lmdb.records import stored_key
from grange.ports.online import OnlineBatch


def key(number: int) -> bytes:
    return b"\x10" + number.to_bytes(8, "big")


def batch(numbers: Any, value: Any, event: int = 1) -> OnlineBatch:
    keys = [key(number) for number in numbers]
    return OnlineBatch(keys, [event] * len(keys), None, [(value,)] * len(keys))


def value(store: LmdbOnlineStore, number: int, group: str = "a") -> Any:
    row = store.read("user", [key(number)], [group])[0][0]
    return None if row is None else row[3]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbOnlineStore]:
    made = LmdbOnlineStore(tmp_path / "online")
    yield made
    made.close()


def run_and_kill(code: str, folder: Path, when: str) -> None:
    """Run code in another process and kill it when it has printed a line."""
    program = textwrap.dedent(
        """
        import sys, time
        from grange.online.lmdb.backend import LmdbOnlineStore
        from grange.ports.online import OnlineBatch
        def key(n): return b"\\x10" + n.to_bytes(8, "big")
        def batch(numbers, value, event=1):
            keys = [key(n) for n in numbers]
            return OnlineBatch(keys, [event] * len(keys), None, [(value,)] * len(keys))
        store = LmdbOnlineStore(sys.argv[1])
        """
    ) + textwrap.dedent(code)
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == when
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


LOAD_UNTIL_KILLED = """
    def batches():
        yield batch(range(100_000), "new", 9)
        yield batch(range(100_000, 200_000), "new", 9)
        print("half", flush=True)
        time.sleep(60)
    store.load("user", "a", ["x"], batches())
"""


def test_a_kill_in_a_load_leaves_the_old_rows(store: LmdbOnlineStore) -> None:
    """The half-built part is never seen, and what is written afterwards goes on as before."""
    store.write("user", "a", ["x"], batch([1, 2], "old"))
    store.write("user", "b", ["x"], batch([1], "other"))
    run_and_kill(LOAD_UNTIL_KILLED, store._shared.path, "half")
    assert (value(store, 1), value(store, 2), value(store, 3)) == ("old", "old", None)
    assert value(store, 1, "b") == "other"
    assert {item.group: item.rows for item in store.info()} == {"a": 2, "b": 1}
    store.write("user", "b", ["x"], batch([1, 5], "pushed", 2))
    assert store.load("user", "a", ["x"], [batch([1, 7], "next")]) == 2
    assert [value(store, n) for n in (1, 2, 7)] == ["next", None, "next"]
    assert [value(store, n, "b") for n in (1, 5)] == ["pushed", "pushed"]


def test_opening_clears_what_a_dead_load_left(tmp_path: Path) -> None:
    """The room of a half-built part is given back when the store is next opened."""
    first = LmdbOnlineStore(tmp_path)
    first.write("user", "a", ["x"], batch([1], "old"))
    first.close()
    run_and_kill(LOAD_UNTIL_KILLED, tmp_path, "half")
    with lmdb.open(str(tmp_path), max_dbs=9, readonly=True) as env:
        aside = env.open_db(b"k0.1", create=False)
        with env.begin() as txn:
            assert txn.stat(aside)["entries"] > 0
    again = LmdbOnlineStore(tmp_path)
    assert value(again, 1) == "old"
    again.close()
    with lmdb.open(str(tmp_path), max_dbs=9, readonly=True) as env:
        aside = env.open_db(b"k0.1", create=False)
        with env.begin() as txn:
            assert txn.stat(aside)["entries"] == 0


def test_a_running_load_is_not_cleared_by_opening(tmp_path: Path) -> None:
    """A second process, here a second store after a failed turn, leaves the build of a live one alone."""
    first = LmdbOnlineStore(tmp_path)

    def batches() -> Iterator[OnlineBatch]:
        yield batch(range(70_000), "new")
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from grange.online.lmdb.backend import LmdbOnlineStore as S; S(sys.argv[1]).close()",
                str(tmp_path),
            ],
            check=True,
        )
        yield batch(range(70_000, 70_010), "new")

    assert first.load("user", "a", ["x"], batches()) == 70_010
    assert [value(first, n) for n in (0, 69_999, 70_009)] == ["new"] * 3
    first.close()


def test_a_kill_between_writes_keeps_what_was_written(tmp_path: Path) -> None:
    """A write that returned is on disk; the one under way is not there at all."""
    run_and_kill(
        """
        store.write("user", "a", ["x"], batch([1], "kept"))
        txn = store._shared.env.begin(write=True)
        txn.put(key(1), b"half", db=store._shared.database(b"k0.0", create=False))
        print("half", flush=True)
        time.sleep(60)
        """,
        tmp_path,
        "half",
    )
    again = LmdbOnlineStore(tmp_path)
    assert value(again, 1) == "kept"
    again.write("user", "a", ["x"], batch([1], "next", 2))
    assert value(again, 1) == "next"
    again.close()


def test_the_map_grows(tmp_path: Path) -> None:
    """Writes and loads larger than the map, while a thread reads; another environment follows."""
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20)
    store.write("user", "b", ["x"], batch([1], "small"))
    done = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not done.is_set():
            found = value(store, 1, "b")
            if found != "small":
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        store.write("user", "a", ["x"], batch(range(500), "x" * 10_000))
        store.load("user", "a", ["x"], [batch(range(start, start + 500), "y" * 10_000) for start in (0, 500)])
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert (value(store, 0), value(store, 999)) == ("y" * 10_000, "y" * 10_000)
    assert store._shared.env.info()["map_size"] > 1 << 20
    store.close()


def test_a_map_that_another_process_grew_is_followed(tmp_path: Path) -> None:
    """Reads and writes go on with the larger map."""
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20)
    store.write("user", "a", ["x"], batch([1], "small"))
    code = (
        "import sys; from grange.online.lmdb.backend import LmdbOnlineStore as S; "
        "from grange.ports.online import OnlineBatch as B; "
        "S(sys.argv[1]).write('user', 'a', ['x'], "
        "B([b'%d' % n for n in range(500)], [1] * 500, None, [('x' * 9000,)] * 500))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert value(store, 1) == "small"
    assert store.read("user", [b"499"], ["a"])[0][0] is not None
    store.write("user", "a", ["x"], batch([2], "more"))
    assert value(store, 2) == "more"
    store.close()


def test_max_size_is_a_limit(tmp_path: Path) -> None:
    """A write that would pass it fails whole; what was stored stays, and smaller writes still work."""
    store = LmdbOnlineStore(tmp_path, map_size=1 << 20, max_size=2 << 20)
    store.write("user", "a", ["x"], batch([1], "kept"))
    with pytest.raises(StorageFullError, match="max_size"):
        store.write("user", "a", ["x"], batch(range(1000), "x" * 10_000, 2))
    with pytest.raises(StorageFullError, match="max_size"):
        store.load("user", "a", ["x"], [batch(range(1000), "x" * 10_000, 2)])
    assert (value(store, 1), value(store, 2)) == ("kept", None)
    store.write("user", "a", ["x"], batch([2], "small"))
    assert value(store, 2) == "small"
    store.close()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """A file that cannot grow is StorageFullError, in writes and loads, and the old rows stay readable."""
    code = """
        import resource, signal
        from grange.errors import StorageFullError
        store.write("user", "a", ["x"], batch([1], "kept"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for attempt in (
            lambda: store.write("user", "a", ["x"], batch(range(1000), "x" * 10_000, 2)),
            lambda: store.load("user", "a", ["x"], [batch(range(1000), "x" * 10_000, 2)]),
        ):
            try:
                attempt()
            except StorageFullError as error:
                assert sys.argv[1] in str(error)
            else:
                raise SystemExit("no error")
            assert store.read("user", [key(1), key(2)], ["a"]) == [([0, 1, None, "kept"],), (None,)]
        print("half", flush=True)
        time.sleep(60)
    """
    run_and_kill(code, tmp_path, "half")
    again = LmdbOnlineStore(tmp_path)
    assert (value(again, 1), value(again, 2)) == ("kept", None)
    again.close()


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"abc"])
def test_a_file_that_is_no_store(tmp_path: Path, content: bytes) -> None:
    """Named, with what to do about it."""
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(CorruptStoreError) as caught:
        LmdbOnlineStore(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "grange materialize" in str(caught.value)


def test_a_truncated_file_is_reported(tmp_path: Path) -> None:
    """Pages that are gone raise CorruptStoreError when something needs them; the process lives."""
    store = LmdbOnlineStore(tmp_path)
    store.load("user", "a", ["x"], [batch(range(5000), "x" * 100)])
    store.close()
    os.truncate(tmp_path / "data.mdb", 5 * 4096)
    with pytest.raises(CorruptStoreError) as caught:
        again = LmdbOnlineStore(tmp_path)
        try:
            again.read("user", [key(number) for number in range(5000)], ["a"])
        finally:
            again.close()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("damage", ["emptied", "removed"])
def test_a_store_that_lost_its_data_is_not_a_new_one(tmp_path: Path, damage: str) -> None:
    """LMDB would begin anew where its file is empty or gone, and nobody would have any feature."""
    store = LmdbOnlineStore(tmp_path)
    store.write("user", "a", ["x"], batch([1], "kept"))
    store.close()
    data = tmp_path / "data.mdb"
    if damage == "emptied":
        os.truncate(data, 0)
    else:
        data.unlink()
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match="lost its data") as caught:
            LmdbOnlineStore(tmp_path)
        assert "grange materialize" in str(caught.value)


def test_an_empty_file_that_was_never_used_is_a_new_store(tmp_path: Path) -> None:
    """What a crash while the store was first made leaves behind."""
    (tmp_path / "data.mdb").touch()
    store = LmdbOnlineStore(tmp_path)
    assert value(store, 1) is None
    store.close()


def test_a_damaged_value_is_reported(store: LmdbOnlineStore) -> None:
    """Bytes that do not decode are damage, not a missing row."""
    store.write("user", "a", ["x"], batch([1], "kept"))
    store._shared.write(lambda txn: txn.put(key(1), b"\xc1\x00", db=store._shared.database(b"k0.0", create=False)))
    with pytest.raises(CorruptStoreError):
        value(store, 1)
    with pytest.raises(CorruptStoreError):
        store.write("user", "a", ["x"], batch([1], "new", 2))


def test_data_of_another_program_is_refused(tmp_path: Path) -> None:
    """Before anything is written among it."""
    with lmdb.open(str(tmp_path), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"their", b"data")
    with pytest.raises(CorruptStoreError, match="no online store"):
        LmdbOnlineStore(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at."""
    store = LmdbOnlineStore(tmp_path)
    store._shared.write(lambda txn: txn.put(environment.FORMAT_KEY, b"grange-online-2", db=store._shared.meta))
    store.close()
    with pytest.raises(CorruptStoreError, match="grange-online-2"):
        LmdbOnlineStore(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is an outage with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="file"):
        LmdbOnlineStore(tmp_path / "file" / "online")


def test_a_read_only_place_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write, rows are read and writes say why they fail."""
    store = LmdbOnlineStore(tmp_path)
    store.write("user", "a", ["x"], batch([1], "kept"))
    store.close()
    real = lmdb.open

    def refuse(path: str, **options: Any) -> Any:
        if not options.get("readonly"):
            raise lmdb.ReadonlyError(path)
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", refuse)
    store = LmdbOnlineStore(tmp_path)
    assert value(store, 1) == "kept"
    assert value(store, 1, "unknown") is None
    assert store.read("nobody", [key(1)], ["a"]) == [(None,)]
    assert [item.rows for item in store.info()] == [1]
    with pytest.raises(StoreUnavailableError, match="only be read"):
        store.write("user", "a", ["x"], batch([1], "new", 2))
    with pytest.raises(StoreUnavailableError, match="only be read"):
        store.load("user", "a", ["x"], [batch([1], "new", 2)])
    store.close()


def test_little_address_space_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the map asked for cannot be had, a smaller one is."""
    real = lmdb.open

    def refuse(path: str, **options: Any) -> Any:
        if options["map_size"] > 1 << 30:
            raise lmdb.MemoryError("mmap")
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", refuse)
    store = LmdbOnlineStore(tmp_path)
    store.write("user", "a", ["x"], batch([1], "kept"))
    assert value(store, 1) == "kept"
    store.close()


def test_a_load_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    """Another load of the same entities that does not end is a conflict."""
    store = LmdbOnlineStore(tmp_path, lock_timeout=0.05)

    def batches() -> Iterator[OnlineBatch]:
        with pytest.raises(ConflictError, match="user"):
            LmdbOnlineStore(tmp_path, lock_timeout=0.05).load("user", "b", ["x"], [])
        yield batch([1], "new")

    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(store.load("user", "a", ["x"], batches())))
    thread.start()
    thread.join()
    assert result == [1]
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_shares_the_store(store: LmdbOnlineStore) -> None:
    """The child reads and writes with the store it inherited, and the parent with its own."""
    store.write("user", "a", ["x"], batch([1], "parent"))
    assert value(store, 1) == "parent"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert value(store, 1) == "parent"
            store.write("user", "a", ["x"], batch([1], "child", 2))
            store.load("user", "b", ["x"], [batch([1], "loaded")])
            store.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (value(store, 1), value(store, 1, "b")) == ("child", "loaded")
    store.write("user", "a", ["x"], batch([1], "parent again", 3))
    assert value(store, 1) == "parent again"


def test_a_path_and_a_link_to_it_are_one_store(tmp_path: Path) -> None:
    """Opened under two names in one process."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    first, second = LmdbOnlineStore(tmp_path / "real"), LmdbOnlineStore(tmp_path / "link")
    first.write("user", "a", ["x"], batch([1], "one"))
    assert value(second, 1) == "one"
    first.close()
    second.close()


def test_dead_readers_are_forgotten(tmp_path: Path) -> None:
    """A process killed while reading does not keep old pages for ever."""
    store = LmdbOnlineStore(tmp_path)
    store.write("user", "a", ["x"], batch([1], "kept"))
    store.close()
    run_and_kill(
        """
        txn = store._shared.env.begin()
        txn.get(b"meta")
        print("half", flush=True)
        time.sleep(60)
        """,
        tmp_path,
        "half",
    )
    store = LmdbOnlineStore(tmp_path)
    assert "(no active readers)" in store._shared.env.readers()
    store.close()


def test_steps_of_a_load_are_bounded(store: LmdbOnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying other groups' rows is cut into transactions too, so pushes get their turn."""
    monkeypatch.setattr(building, "STEP_ROWS", 10)
    store.load("user", "b", ["x"], [batch(range(0, 300, 3), "b")])
    store.load("user", "c", ["x"], [batch([], "c")])
    sizes: list[int] = []
    real = building.Builder._step

    def step(self: building.Builder, txn: Any, **options: Any) -> tuple[int, bool]:
        aside = self._databases[1 - self._record(txn).slot]
        before = txn.stat(aside)["entries"]
        result = real(self, txn, **options)
        sizes.append(0 if result[1] and options["last"] else txn.stat(aside)["entries"] - before)
        return result

    monkeypatch.setattr(building.Builder, "_step", step)
    assert store.load("user", "a", ["x"], [batch([50, 51, 290], "a")]) == 3
    assert len(sizes) >= 10
    assert max(sizes) <= 20
    assert [value(store, n) for n in (50, 51, 290)] == ["a"] * 3
    assert [value(store, n, "b") for n in range(0, 300, 3)] == ["b"] * 100


def test_stored_keys_are_injective() -> None:
    """No two entity keys share a stored key, and none is too long for LMDB."""
    keys = [b"", b"\xff", b"\xff\0", b"\xff\x01", b"\xff\x02", b"a", b"a" * 510, b"a" * 511, b"a" * 512]
    keys += [stored_key(b"a" * 511), stored_key(b"\xff" * 511), b"\xff" * 511]
    made = [stored_key(item) for item in keys]
    assert len(set(made)) == len(set(keys))
    assert all(0 < len(item) <= 511 for item in made)
