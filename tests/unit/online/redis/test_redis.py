"""The redis online store where it differs from others: servers that move, forget, fill up, expire; forks; commands."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import valkey
from tests.servers.proxy import proxy

from grange.errors import (
    ConfigError,
    ConflictError,
    CorruptStoreError,
    StateLostError,
    StorageFullError,
    StoreUnavailableError,
)
from grange.online.redis import cells as redis_cells
from grange.online.redis import records, scripts, servers, sets
from grange.online.redis.connection import check_version
from grange.online.redis.servers import slot_of, tag
from grange.online.redis.settings import Address
from grange.ports.online import OnlineBatch, OnlineStore
from grange.ports.plugins import create

pytestmark = pytest.mark.skipif(valkey.missing() is not None, reason=str(valkey.missing()))

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def key(number: int) -> bytes:
    return b"\x10" + number.to_bytes(8, "big")


def batch(numbers: Any, value: Any, event: int = 1) -> OnlineBatch:
    keys = [key(number) for number in numbers]
    return OnlineBatch(keys, [event] * len(keys), None, [(value,)] * len(keys))


def values(store: OnlineStore, numbers: Any, group: str = "a") -> list[Any]:
    return [row and row[3] for (row,) in store.read("user", [key(number) for number in numbers], [group])]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[valkey.Server]:
    with valkey.server() as one:
        yield one


@pytest.fixture
def server(shared_server: valkey.Server) -> valkey.Server:
    """An empty one."""
    shared_server.client.flushall()
    shared_server.client.script_flush()
    shared_server.client.config_resetstat()
    return shared_server


def opened(url: str, **options: Any) -> OnlineStore:
    store: OnlineStore = create("online_stores", "redis", {"url": url, "timeout": 10.0, **options})
    return store


@pytest.fixture
def store(server: valkey.Server) -> Iterator[OnlineStore]:
    made = opened(server.url)
    yield made
    made.close()


# -- order -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), INTEGERS | st.integers(-3, 3), st.none() | INTEGERS | st.integers(-3, 3)))
    )
)
def test_writes_are_ordered_as_in_a_dict(store: OnlineStore, writes: list[list[tuple[int, int, int | None]]]) -> None:
    """Any times of 64 bits, compared exactly, within a batch and from one to the next (ONL-2)."""
    store.drop("user", "a")
    model: dict[int, tuple[int, int | None, int]] = {}
    for number, rows in enumerate(writes):
        taken = 0
        for place, (entity, event, created) in enumerate(rows):
            old = model.get(entity)
            if old is None or _age(event, created) >= _age(*old[:2]):
                model[entity] = event, created, number * 1000 + place
                taken += 1
        made = OnlineBatch(
            [key(entity) for entity, _, _ in rows],
            [event for _, event, _ in rows],
            [created for _, _, created in rows],
            [(number * 1000 + place,) for place in range(len(rows))],
        )
        assert store.write("user", "a", ["x"], made) == taken
    found = store.read("user", [key(entity) for entity in range(3)], ["a"])
    assert [None if row is None else tuple(row[1:]) for (row,) in found] == [model.get(entity) for entity in range(3)]


def _age(event: int, created: int | None) -> tuple[int, int]:
    return event, -(1 << 64) if created is None else created


def test_rows_of_any_length_are_ordered(store: OnlineStore) -> None:
    """MessagePack writes arrays of three kinds; the script reads the times of each."""
    for width in (0, 12, 13, 70_000):
        columns = [f"c{place}" for place in range(width)]
        for event, taken in ((2**60, 1), (2**60 - 1, 0), (2**60 + 1, 1)):
            made = OnlineBatch([b"k"], [event], None, [(event,) * width])
            assert store.write("user", f"g{width}", columns, made) == taken


# -- what is sent ------------------------------------------------------------------------------------------------


def commands(server: valkey.Server) -> dict[str, int]:
    """How often each command ran since the last `config_resetstat`."""
    found = server.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): about["calls"] for name, about in found.items()}


def test_no_command_goes_through_the_keys_of_the_server(server: valkey.Server, store: OnlineStore) -> None:
    """Neither KEYS nor SCAN nor anything that blocks, whatever is done."""
    store.load("user", "a", ["x"], [batch(range(3000), "old")])
    store.load("user", "a", ["x"], [batch(range(3000), "new")])
    store.write("user", "b", ["x"], batch(range(10), "b"))
    store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v"))
    store.load_cells("user", "a", [(b"l", b"v")])
    assert len(store.rows("user", "a")) == 1000
    store.info()
    for group in ("a", "b"):
        store.drop("user", group)
    ran = commands(server)
    assert not {"keys", "scan", "del", "flushdb", "flushall"} & ran.keys()
    assert ran["unlink"] >= 4
    assert server.client.keys("{grange:0}:*") == []


def test_a_request_is_one_trip(server: valkey.Server) -> None:
    """However many entities and groups; counted by what passes a connection."""
    with proxy(server.port) as between:
        store = opened(f"redis://127.0.0.1:{between.port}")
        for group in "abc":
            store.write("user", group, ["x"], batch(range(200), group))
        store.read("user", [key(1)], ["a"])
        sent: list[int] = []
        pool = store._servers._pool  # type: ignore[attr-defined]
        connection = pool._idle.get_nowait()
        send = connection.send

        def counted(data: bytes) -> None:
            sent.append(len(data))
            send(data)

        connection.send = counted
        pool.give(connection)
        store.read("user", [key(n) for n in range(200)], ["a", "b", "c"])
        assert len(sent) == 1
        store.read_cells("user", "a", lambda cells: cells.get_many([b"k", b"l"]))
        assert len(sent) == 2
        store.close()


def test_scripts_are_sent_again_when_the_server_forgot_them(server: valkey.Server, store: OnlineStore) -> None:
    """SCRIPT FLUSH is no outage."""
    store.write("user", "a", ["x"], batch([1], "old"))
    server.client.script_flush()
    assert store.write("user", "a", ["x"], batch([1], "new")) == 1
    assert values(store, [1]) == ["new"]


# -- loads that die ----------------------------------------------------------------------------------------------


def died(store: OnlineStore) -> None:
    """A load whose process ends in the middle of it: nothing is tidied up."""
    building = sets.Build(store._sets, records.ROWS)  # type: ignore[attr-defined]
    building.__enter__()
    building.put(building.commands(0, [key(n) for n in range(100)], [b"\x93\x01\x01\xc0"] * 100, None))


def test_what_a_dead_load_left_is_removed_by_the_next(
    server: valkey.Server, store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its lease is over, and not before."""
    died(store)
    store.load("user", "a", ["x"], [batch(range(10), "new")])
    assert len(server.client.zrange("{grange}:aside", 0, -1)) == 1
    monkeypatch.setattr(sets, "LEASE", 0.0)
    died(store)
    monkeypatch.undo()
    store.load("user", "a", ["x"], [batch(range(10), "new")])
    assert len(server.client.keys("{grange:0}:*")) == 2
    assert len(server.client.zrange("{grange}:aside", 0, -1)) == 1


def test_a_load_that_paused_too_long_is_told(store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another took it for dead; the old rows stay."""
    store.load("user", "a", ["x"], [batch(range(10), "old")])
    monkeypatch.setattr(sets, "LEASE", 0.0)

    def paused() -> Iterator[OnlineBatch]:
        yield batch(range(10), "new")
        store.load("user", "b", ["x"], [batch(range(10), "other")])
        yield batch(range(10, 20), "new")

    with pytest.raises(ConflictError, match="paused"):
        store.load("user", "a", ["x"], paused())
    assert values(store, [1]) == ["old"]


def test_a_load_into_a_server_that_forgets_is_refused(server: valkey.Server, store: OnlineStore) -> None:
    """It starts anew without its data, or evicts some: half a group is never swapped in."""

    def batches() -> Iterator[OnlineBatch]:
        yield batch(range(10), "new")
        yield batch(range(10, 20), "new")
        server.client.unlink(*server.client.keys("{grange:0}:*"))
        yield batch(range(20, 30), "new")

    with pytest.raises(StoreUnavailableError, match="lost a part"):
        store.load("user", "a", ["x"], batches())
    assert values(store, [1, 25]) == [None, None]
    assert store.info() == ()


def test_a_set_that_was_adopted_without_its_builder_knowing_stays(
    store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the last step got lost: the load is told to have failed, and nothing is removed."""
    adopt = sets.Sets._adopt

    def lost(self: Any, *arguments: Any, **more: Any) -> Any:
        adopt(self, *arguments, **more)
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(sets.Sets, "_adopt", lost)
    with pytest.raises(StoreUnavailableError, match="no answer"):
        store.load("user", "a", ["x"], [batch(range(10), "new")])
    monkeypatch.undo()
    assert values(store, range(10)) == ["new"] * 10


# -- damage and limits -------------------------------------------------------------------------------------------


def record_field(kind: str, key_space: str, group: str) -> bytes:
    """Where the record names a group's set."""
    return records.Name(kind, key_space, group).field()


def test_evicted_rows_are_lost_and_not_missing(server: valkey.Server, store: OnlineStore) -> None:
    """A server that throws keys away is told; a load mends it."""
    store.write("user", "a", ["x"], batch([1], "old"))
    store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v"))
    server.client.unlink(*server.client.keys("{grange:0}:*"))
    with pytest.raises(StateLostError, match="is gone from"):
        store.read("user", [key(1)], ["a"])
    with pytest.raises(StateLostError, match="is gone from"):
        store.write("user", "a", ["x"], batch([1], "new"))
    with pytest.raises(StateLostError, match="is gone from"):
        store.read_cells("user", "a", lambda cells: cells.get(b"k"))
    assert store.info() == ()
    store.load("user", "a", ["x"], [batch([1], "mended")])
    store.load_cells("user", "a", [(b"k", b"mended")])
    assert values(store, [1]) == ["mended"]
    assert store.read_cells("user", "a", lambda cells: cells.get(b"k")) == b"mended"


def test_one_group_that_was_evicted_leaves_the_others(server: valkey.Server, store: OnlineStore) -> None:
    """They are read, written and counted, by who knew of all and by who did not."""
    for group in ("a", "b"):
        store.load("user", group, ["x"], [batch([1], group)])
    (evicted,) = server.client.hmget("{grange}:record", record_field("rows", "user", "a"))
    server.client.unlink(b"{grange:0}:" + evicted)
    fresh = opened(server.url)
    for one in (store, fresh):
        with pytest.raises(StateLostError, match="group 'a'") as caught:
            one.read("user", [key(1)], ["b", "a"])
        assert caught.value.details["group"] == "a"
        assert values(one, [1], "b") == ["b"]
        assert [(info.group, info.rows) for info in one.info()] == [("b", 1)]
    fresh.close()


def test_layouts_that_were_evicted_are_lost(server: valkey.Server, store: OnlineStore) -> None:
    """Rows are there and nobody can say what they mean; a load says it again. One that never was is damage."""
    store.load("user", "a", ["x"], [batch([1], "old")])
    (row,) = store.read("user", [key(1)], ["a"])[0]
    assert row is not None
    fresh = opened(server.url)
    with pytest.raises(CorruptStoreError, match="never written"):
        fresh.layout(77)
    server.client.unlink("{grange}:layouts")
    with pytest.raises(StateLostError, match="layouts"):
        fresh.layout(row[0])
    assert store.layout(row[0]) == ("x",), "who knew it knows it"
    store.load("user", "a", ["x"], [batch([1], "new")])
    assert fresh.layout(row[0]) == ("x",)
    fresh.close()


def test_what_a_server_lost_that_came_back_empty_is_not_missing(server: valkey.Server, store: OnlineStore) -> None:
    """Whoever knows that there were rows says so, in rows and cells, reads and writes, until each is loaded again."""
    store.write("user", "a", ["x"], batch([1], "old"))
    store.write("user", "b", ["x"], batch([1], "old"))
    store.write_cells("user", "w", lambda cells: cells.put(b"k", b"v"))
    server.client.flushall()
    calls: list[Callable[[], Any]] = [
        lambda: store.read("user", [key(1)], ["a"]),
        lambda: store.read("user", [key(1)], ["never"]),
        lambda: store.rows("user", "a"),
        lambda: store.write("user", "a", ["x"], batch([2], "new")),
        lambda: store.write("user", "never", ["x"], batch([2], "new")),
        lambda: store.read_cells("user", "w", lambda cells: cells.get(b"k")),
        lambda: store.write_cells("user", "w", lambda cells: cells.put(b"k", b"w")),
    ]
    for call in calls:
        with pytest.raises(StateLostError, match="is gone from") as caught:
            call()
        assert caught.value.try_ and "grange materialize" in caught.value.try_
    store.load("user", "a", ["x"], [batch([1], "mended")])
    assert values(store, [1, 2]) == ["mended", None]
    for call in (calls[5], lambda: store.read("user", [key(1)], ["a", "b"])):
        with pytest.raises(StateLostError, match="is gone from"):
            call()
    store.load("user", "b", ["x"], [batch([1], "mended too")])
    assert values(store, [1], "b") == ["mended too"]
    assert values(store, [1], "never") == [None]


def test_a_loss_that_another_process_met_and_mended_in_part_is_met_here_too(
    server: valkey.Server, store: OnlineStore
) -> None:
    """A new record has taken the place of the one that is known, with one of two groups in it."""
    for group in ("a", "b"):
        store.load("user", group, ["x"], [batch([1], "old")])
    reader = opened(server.url)
    assert [values(reader, [1], group) for group in ("a", "b")] == [["old"], ["old"]]
    server.client.flushall()
    other = opened(server.url)
    other.load("user", "a", ["x"], [batch([1], "new")])
    assert values(reader, [1]) == ["new"]
    with pytest.raises(StateLostError, match="group 'b'"):
        values(reader, [1], "b")
    with pytest.raises(StateLostError, match="group 'b'"):
        reader.write("user", "b", ["x"], batch([2], "alone"))
    for one in (reader, other):
        one.close()


def test_a_namespace_of_another_owner_is_refused(server: valkey.Server) -> None:
    """Neither read nor written: its owner's rows stay as they are."""
    mine, theirs = opened(server.url, owner="mine"), opened(server.url, owner="theirs")
    mine.load("user", "a", ["x"], [batch([1], "mine")])
    calls: list[Callable[[OnlineStore], Any]] = [
        lambda store: store.load("user", "a", ["x"], [batch([1], "theirs")]),
        lambda store: store.load_cells("user", "a", [(b"k", b"v")]),
        lambda store: store.write("user", "b", ["x"], batch([1], "theirs")),
        lambda store: store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v")),
        lambda store: store.read("user", [key(1)], ["a"]),
        lambda store: store.read_cells("user", "a", lambda cells: cells.get(b"k")),
        lambda store: store.rows("user", "a"),
        lambda store: store.drop("user", "a"),
        lambda store: store.info(),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="belongs to another project") as caught:
            call(theirs)
        assert "namespace" in (caught.value.try_ or "")
    nobodys = opened(server.url)
    assert values(mine, [1]) == values(nobodys, [1]) == ["mine"]
    assert [(info.group, info.rows) for info in mine.info()] == [("a", 1)]
    for one in (mine, theirs, nobodys):
        one.close()


def test_owners_of_two_namespaces_do_not_meet(server: valkey.Server) -> None:
    """Any printable name of a project is a namespace."""
    one, other = (
        opened(server.url, namespace="my shop", owner="1"),
        opened(server.url, namespace="mein Lädchen", owner="2"),
    )
    one.load("user", "a", ["x"], [batch([1], "one")])
    other.load("user", "a", ["x"], [batch([1], "other")])
    assert (values(one, [1]), values(other, [1])) == (["one"], ["other"])
    for each in (one, other):
        each.close()


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93\x01", b"text", b"\x93\x01\x01\xc0\x00"])
def test_a_row_that_is_none_is_damage(server: valkey.Server, store: OnlineStore, damage: bytes) -> None:
    """Bytes that Grange did not write there are never values."""
    store.write("user", "a", ["x"], batch([1], "old"))
    (rows,) = server.client.keys("{grange:0}:r*")
    server.client.hset(rows, b"k" + key(1), damage)
    with pytest.raises(CorruptStoreError):
        store.read("user", [key(1)], ["a"])


def test_a_row_without_times_is_not_replaced(server: valkey.Server, store: OnlineStore) -> None:
    """Nobody can say whether it is newer."""
    store.write("user", "a", ["x"], batch([1], "old"))
    (rows,) = server.client.keys("{grange:0}:r*")
    for damage in (b"", b"text", b"\x93\x01", b"\x93\x01\xc0\xc0"):
        server.client.hset(rows, b"k" + key(1), damage)
        with pytest.raises(CorruptStoreError):
            store.write("user", "a", ["x"], batch([1], "new"))
        assert server.client.hget(rows, b"k" + key(1)) == damage


def test_keys_of_another_kind_are_damage(server: valkey.Server, store: OnlineStore) -> None:
    """WRONGTYPE, by reads, writes and visits."""
    store.write("user", "a", ["x"], batch([1], "old"))
    store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v"))
    for name in server.client.keys("{grange:0}:*"):
        server.client.set(name, b"text")
    with pytest.raises(CorruptStoreError, match="WRONGTYPE"):
        store.read("user", [key(1)], ["a"])
    with pytest.raises(CorruptStoreError, match="WRONGTYPE"):
        store.write("user", "a", ["x"], batch([1], "new"))
    with pytest.raises(CorruptStoreError, match="WRONGTYPE"):
        store.read_cells("user", "a", lambda cells: cells.get(b"k"))


def test_a_record_of_another_format_is_told(server: valkey.Server, store: OnlineStore) -> None:
    """What another version of Grange wrote is not guessed at."""
    server.client.hset("{grange}:record", "f", "2:1")
    with pytest.raises(CorruptStoreError, match="another version of Grange"):
        store.read("user", [key(1)], ["a"])


@pytest.mark.parametrize("kind", valkey.KINDS)
def test_a_full_server(kind: str) -> None:
    """Writes and loads are refused and change nothing; reads go on; when there is room, all does."""
    if reason := valkey.missing(kind):
        pytest.skip(reason)
    with valkey.server(kind) as server:
        store = opened(server.url)
        store.load("user", "a", ["x"], [batch(range(100), "old")])
        store.write_cells("user", "a", lambda cells: cells.put(b"k", b"old"))
        before = store.info()
        server.client.config_set("maxmemory", "1mb")
        with pytest.raises(StorageFullError, match="maxmemory"):
            store.write("user", "a", ["x"], batch(range(50, 150), "new", event=2))
        with pytest.raises(StorageFullError):
            store.load("user", "a", ["x"], [batch(range(100), "new")])
        with pytest.raises(StorageFullError):
            store.write_cells("user", "a", lambda cells: cells.put(b"k", b"new"))
        assert values(store, range(150)) == ["old"] * 100 + [None] * 50
        assert store.read_cells("user", "a", lambda cells: cells.get(b"k")) == b"old"
        assert store.info() == before
        server.client.config_set("maxmemory", 0)
        assert store.write("user", "a", ["x"], batch(range(50, 150), "new", event=2)) == 100
        store.close()


def test_old_servers_are_refused() -> None:
    """With the version that was found; any Valkey calls itself at least 7.2."""
    address = Address("old", 1)
    for about in (b"redis_version:6.0.16\r\n", b"redis_version:5.0.3\r\n", b"# Server\r\n"):
        with pytest.raises(StoreUnavailableError, match=r"Redis 6\.2 or newer"):
            check_version(address, about)
    for about in (b"redis_version:6.2.0\r\n", b"# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n"):
        check_version(address, about)


# -- expiry ------------------------------------------------------------------------------------------------------


def test_rows_expire_when_nobody_writes_them(server: valkey.Server) -> None:
    """Written or loaded; a row that is written again lives on; the group itself stays."""
    store = opened(server.url, expire="300ms")
    store.load("user", "a", ["x"], [batch(range(4), "loaded")])
    store.write("user", "b", ["x"], batch(range(4), "written"))
    assert values(store, [0, 1]) == ["loaded"] * 2
    end = time.monotonic() + 30
    while values(store, [0], "a") != [None] or values(store, [0], "b") != [None]:
        store.write("user", "a", ["x"], batch([3], "kept", event=2))
        assert time.monotonic() < end
    assert values(store, [3]) == ["kept"]
    assert store.write("user", "b", ["x"], batch([0], "again")) == 1
    assert values(store, [0, 1], "b") == ["again", None]
    store.close()


def test_expiry_that_the_server_does_not_have_is_refused() -> None:
    """Redis before 7.4 cannot forget a single row: that is said at the first use, before anything is written."""
    if reason := valkey.missing("redis"):
        pytest.skip(reason)
    with valkey.server("redis") as server:
        if server.client.command_count() and "hpexpire" in server.client.command():
            pytest.skip("this Redis has HPEXPIRE")
        store = opened(server.url, expire="30d")
        with pytest.raises(ConfigError, match="expire"):
            store.write("user", "a", ["x"], batch([1], "x"))
        with pytest.raises(ConfigError, match="expire"):
            store.load("user", "a", ["x"], [batch([1], "x")])
        assert server.client.keys() == []
        store.close()


# -- connections -------------------------------------------------------------------------------------------------


RIGHTS = (
    *("~{grange*", "+@read", "+@write", "+@scripting", "+@connection"),
    *("+time", "+info", "+role", "+command", "+cluster|slots"),
)
"""What the documentation says that a user needs."""


def test_credentials_and_databases(tmp_path: Path) -> None:
    """A user with a password, wrong ones, another database; the secret is in no error."""
    with valkey.server("valkey", "--requirepass", "hunter2", password="hunter2") as server:
        server.client.execute_command("ACL", "SETUSER", "me", "on", ">hunter3", *RIGHTS)
        for number, options in enumerate(({"password": "hunter2"}, {"username": "me", "password": "hunter3"})):
            store = opened(f"{server.url}/{number}", **options)
            assert values(store, [1]) == [None]
            store.write("user", "a", ["x"], batch([1], number))
            assert values(store, [1]) == [number]
            store.load("user", "a", ["x"], [batch([1], number)])
            store.write_cells("user", "a", lambda cells: cells.put(b"k", b"v"))
            assert len(store.rows("user", "a")) == len(store.info()) == 1
            store.drop("user", "a")
            store.close()
        for options in ({}, {"password": "hunter4"}, {"username": "me", "password": "hunter2"}):
            with pytest.raises(StoreUnavailableError, match="credentials") as caught:
                opened(server.url, **options).info()
            assert "hunter" not in str(caught.value.to_dict())


def test_a_socket_of_the_file_system(server: valkey.Server) -> None:
    """`unix://` names it."""
    path = server.folder / "s.sock"
    with valkey.server("valkey", "--unixsocket", path):
        store = opened(f"unix://{path}")
        store.write("user", "a", ["x"], batch([1], "here"))
        assert values(store, [1]) == ["here"]
        store.close()


def test_nobody_listens() -> None:
    """The error says where, and what to do."""
    (port,) = valkey.free_ports(1)
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}") as caught:
        opened(f"redis://127.0.0.1:{port}").read("user", [key(1)], ["a"])
    assert caught.value.retry
    assert caught.value.details["server"] == f"127.0.0.1:{port}"


def test_a_replica_takes_no_writes() -> None:
    """It is said to be one; reads are fine."""
    with valkey.server("valkey", "--repl-diskless-sync-delay", "0") as primary:
        first = opened(primary.url)
        first.write("user", "a", ["x"], batch([1], "here"))
        first.close()
        with valkey.server("valkey", "--replicaof", f"127.0.0.1 {primary.port}") as replica:
            valkey.wait_until(lambda: len(replica.client.keys()) == 3, lambda: "the replica does not follow")
            store = opened(replica.url)
            assert values(store, [1]) == ["here"]
            with pytest.raises(StoreUnavailableError, match="READONLY") as caught:
                store.write("user", "a", ["x"], batch([1], "new"))
            assert "primary" in str(caught.value)
            store.close()


def test_more_threads_than_connections(server: valkey.Server) -> None:
    """They take turns; no more connections are made than allowed."""
    store = opened(server.url, pool=2)
    store.write("user", "a", ["x"], batch(range(100), "here"))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: values(store, [n % 100]), range(400)))
    assert found == [["here"]] * 400
    assert len(server.client.client_list()) <= 3
    store.close()


def test_connections_that_are_all_in_use_are_an_outage(server: valkey.Server) -> None:
    """After the timeouts, with the option to change."""
    store = opened(server.url, pool=1, timeout=0.1, connect_timeout=0.1)
    inside, done = threading.Event(), threading.Event()
    pool = store._servers._current()  # type: ignore[attr-defined]

    def hold() -> None:
        connection = pool.take()
        inside.set()
        done.wait(30)
        pool.give(connection)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)
    with pytest.raises(StoreUnavailableError, match="in use") as caught:
        values(store, [1])
    assert "pool" in str(caught.value.try_)
    done.set()
    thread.join(30)
    assert values(store, [1]) == [None]
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_has_connections_of_its_own(server: valkey.Server, store: OnlineStore) -> None:
    """Parent and child ask at the same time, and each gets its own answers."""
    store.write(
        "user", "a", ["x"], OnlineBatch([key(n) for n in range(200)], [1] * 200, None, [(n,) for n in range(200)])
    )
    values(store, [0])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if all(values(store, [n]) == [n] for _ in range(5) for n in range(100)) else 2
        finally:
            os._exit(code)
    assert all(values(store, [n]) == [n] for _ in range(5) for n in range(100, 200))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# -- cells -------------------------------------------------------------------------------------------------------


def test_a_visit_goes_on_when_others_write_other_cells(store: OnlineStore) -> None:
    """It is not begun again: what it has read is still so."""
    store.write_cells("user", "a", lambda cells: [cells.put(b"%d" % n, b"old") for n in range(3)])  # type: ignore[func-returns-value]
    turns: list[int] = []

    def visit(cells: Any) -> list[bytes | None]:
        turns.append(1)
        first = cells.get(b"0")
        other = threading.Thread(target=store.write_cells, args=("user", "a", lambda held: held.put(b"2", b"new")))
        other.start()
        other.join()
        return [first, cells.get(b"1"), cells.get(b"2")]

    assert store.read_cells("user", "a", visit) == [b"old", b"old", b"new"]
    assert len(turns) == 1


def test_a_visit_begins_again_when_others_write_what_it_read(store: OnlineStore) -> None:
    """So all it gets is of one state."""
    store.write_cells("user", "a", lambda cells: [cells.put(b"%d" % n, b"old") for n in range(2)])  # type: ignore[func-returns-value]
    turns: list[int] = []

    def change(held: Any) -> None:
        for n in range(2):
            held.put(b"%d" % n, b"new")

    def visit(cells: Any) -> list[bytes | None]:
        turns.append(1)
        first = cells.get(b"0")
        if len(turns) == 1:
            other = threading.Thread(target=store.write_cells, args=("user", "a", change))
            other.start()
            other.join()
        return [first, cells.get(b"1")]

    assert store.read_cells("user", "a", visit) == [b"new", b"new"]
    assert len(turns) == 2


def test_a_walk_down_a_tree_is_one_trip_the_next_time(store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell names the next one; the second visit gets all of them at once, and sees what changed."""
    store.load_cells("user", "a", [(b"%d" % n, b"%d" % (n + 1)) for n in range(5)])
    trips: list[int] = []
    servers_ = store._servers  # type: ignore[attr-defined]
    run = servers_.run
    monkeypatch.setattr(servers_, "run", lambda *a, **k: (trips.append(1), run(*a, **k))[1])

    def visit(cells: Any) -> list[bytes]:
        walk = [b"0"]
        while (following := cells.get(walk[-1])) is not None:
            walk.append(following)
        return walk

    for expected in (6, 1):
        trips.clear()
        assert b"".join(store.read_cells("user", "a", visit)) == b"012345"
        assert len(trips) == expected
    store.write_cells("user", "a", lambda cells: cells.put(b"3", b"9"))
    trips.clear()
    assert b"".join(store.read_cells("user", "a", visit)) == b"01239"
    assert len(trips) == 2
    trips.clear()
    assert b"".join(store.read_cells("user", "a", visit)) == b"01239"
    assert len(trips) == 1


def test_a_visit_that_is_always_disturbed_gives_up(store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a conflict that may be tried again, not for ever."""
    monkeypatch.setattr(redis_cells, "PATIENCE", 0.1)
    numbers = iter(range(1_000_000))

    def visit(cells: Any) -> None:
        cells.get(b"k")
        number = next(numbers)
        other = threading.Thread(
            target=store.write_cells, args=("user", "a", lambda held: held.put(b"k", b"%d" % number))
        )
        other.start()
        other.join()
        cells.put(b"k", b"mine")

    with pytest.raises(ConflictError, match="gave up"):
        store.write_cells("user", "a", visit)


# -- many servers ------------------------------------------------------------------------------------------------


def test_slots_are_those_of_the_cluster(server: valkey.Server) -> None:
    """Computed as the server does."""
    with valkey.cluster(nodes=1) as cluster:
        for route in (-1, 0, 1, 77, 127):
            name = tag("grange", route)
            assert cluster.nodes[0].client.execute_command("CLUSTER", "KEYSLOT", b"{%b}:x" % name) == slot_of(name)


def test_a_cluster_whose_slots_move() -> None:
    """Commands follow them, those that are on their way as well."""
    with valkey.cluster() as cluster:
        store = opened(cluster.url, cluster=True)
        store.load("user", "a", ["x"], [batch(range(2000), "here")])
        assert {len(node.client.keys("{grange:*")) > 10 for node in cluster.nodes} == {True}
        slot = slot_of(tag("grange", 5))
        holder = min(range(3), key=lambda n: not valkey.SLOTS * n // 3 <= slot < valkey.SLOTS * (n + 1) // 3)
        target = (holder + 1) % 3
        cluster.begin_move(slot, holder, target)
        assert values(store, range(2000)) == ["here"] * 2000
        cluster.move_keys(slot, holder, target)  # now the old node answers ASK
        assert values(store, range(2000)) == ["here"] * 2000
        assert store.write("user", "a", ["x"], batch(range(2000), "new", event=2)) == 2000
        cluster.end_move(slot, target)
        assert values(store, range(2000)) == ["new"] * 2000
        other = opened(cluster.nodes[2].url, cluster=True)
        assert values(other, range(2000)) == ["new"] * 2000
        for one in (store, other):
            one.close()


def test_a_cluster_that_lost_a_node() -> None:
    """Rows of the others are not read as if it had none; when it is back, so are they."""
    with valkey.cluster() as cluster:
        store = opened(cluster.url, cluster=True, timeout=0.5)
        store.load("user", "a", ["x"], [batch(range(500), "here")])
        cluster.nodes[1].pause()
        with pytest.raises(StoreUnavailableError):
            values(store, range(500))
        cluster.nodes[1].resume()
        valkey.wait_until(cluster.is_whole, lambda: "the node does not come back")
        assert values(store, range(500)) == ["here"] * 500
        store.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[valkey.Cluster]:
    with valkey.cluster() as one:
        yield one


def _dies(self: Any, name: bytes) -> None:
    raise KeyboardInterrupt


def test_a_load_that_dies_before_the_old_rows_are_gone_is_seen_by_all(
    cluster: valkey.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a Cluster the old set keeps its mark until it is removed: clients that remember it ask again by themselves."""
    cluster.flush()
    loader, reader = (opened(cluster.url, cluster=True) for _ in range(2))
    loader.load("user", "a", ["x"], [batch(range(50), "old")])
    assert values(reader, range(50)) == ["old"] * 50
    with monkeypatch.context() as patched:
        patched.setattr(sets.Sets, "remove", _dies)
        with pytest.raises(KeyboardInterrupt):
            loader.load("user", "a", ["x"], [batch(range(50), "new")])
    # the old set is still there and marked: what is written goes into the new one all the same
    assert reader.write("user", "a", ["x"], batch([77], "pushed", event=9)) == 1
    fresh = opened(cluster.url, cluster=True)
    assert values(fresh, [0, 77]) == values(reader, [0, 77]) == ["new", "pushed"]

    other = opened(cluster.url, cluster=True)
    assert values(other, [0]) == ["new"]
    with monkeypatch.context() as patched:
        patched.setattr(sets.Sets, "remove", _dies)
        with pytest.raises(KeyboardInterrupt):
            loader.drop("user", "a")
    monkeypatch.setattr(sets, "TRUSTED", 0.0)
    assert values(other, [0]) == [None]
    for store in (loader, reader, fresh, other):
        store.close()


def test_a_visit_to_cells_that_were_replaced_meanwhile_is_of_the_new_ones(
    cluster: valkey.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of cells: a commit into a set that nobody reads is no commit."""
    cluster.flush()
    loader, writer = (opened(cluster.url, cluster=True) for _ in range(2))
    loader.load_cells("user", "w", [(b"n", b"1")])
    assert writer.read_cells("user", "w", lambda cells: cells.get(b"n")) == b"1"
    with monkeypatch.context() as patched:
        patched.setattr(sets.Sets, "remove", _dies)
        with pytest.raises(KeyboardInterrupt):
            loader.load_cells("user", "w", [(b"n", b"10")])

    def increment(cells: Any) -> None:
        cells.put(b"n", b"%d" % (int(cells.get(b"n")) + 1))

    writer.write_cells("user", "w", increment)
    fresh = opened(cluster.url, cluster=True)
    assert fresh.read_cells("user", "w", lambda cells: cells.get(b"n")) == b"11"
    for store in (loader, writer, fresh):
        store.close()


def test_the_old_rows_go_also_when_the_answer_to_the_swap_got_lost(
    cluster: valkey.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap is asked for again, and is done already: what it put aside is removed all the same."""
    cluster.flush()
    loader, reader = (opened(cluster.url, cluster=True) for _ in range(2))
    loader.load("user", "a", ["x"], [batch(range(50), "old")])
    assert values(reader, [1]) == ["old"]
    run, cut = servers.Cluster.run, iter([True])

    def lossy(self: Any, calls: Any, **more: Any) -> Any:
        adopts = any(scripts._DIGESTS[scripts.ADOPT] in each.data for each in calls)
        if adopts and next(cut, False):
            run(self, calls, **more)  # done, and nobody hears of it: the client sends it again
        return run(self, calls, **more)

    with monkeypatch.context() as patched:
        patched.setattr(servers.Cluster, "run", lossy)
        loader.load("user", "a", ["x"], [batch(range(50), "new")])
    assert next(cut, None) is None
    assert values(reader, [1]) == ["new"]
    assert {len(node.client.keys("*aside")) for node in cluster.nodes} == {0}
    for store in (loader, reader):
        store.close()


def test_threads_of_a_cluster_do_not_wait_for_each_other_in_a_circle(cluster: valkey.Cluster) -> None:
    """Each needs a connection to every node, of which there is one."""
    cluster.flush()
    store = opened(cluster.url, cluster=True, pool=1, timeout=5.0)
    store.load("user", "a", ["x"], [batch(range(300), "here")])

    def read(first: int) -> bool:
        numbers = [*range(first, 300), *range(first)]
        return all(values(store, numbers) == ["here"] * 300 for _ in range(20))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(read, range(0, 300, 50)))
    store.close()


def test_a_sentinel_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that answered is asked first from then on."""
    monkeypatch.setattr(servers, "ASK_EVERY", 0.0)
    asked: list[int] = []
    ask = servers.Sentinels._ask

    def counted(self: Any, sentinel: Address) -> Any:
        asked.append(sentinel.port)
        return ask(self, sentinel)

    monkeypatch.setattr(servers.Sentinels, "_ask", counted)
    with valkey.watched() as watched, socket.create_server(("127.0.0.1", 0)) as silent:
        hangs, answers = silent.getsockname()[1], watched.sentinel.port
        store: OnlineStore = create(
            "online_stores",
            "redis",
            {"sentinels": [f"127.0.0.1:{hangs}", f"127.0.0.1:{answers}"], "master": watched.master, "timeout": 0.5},
        )
        store.write("user", "a", ["x"], batch([1], "here"))
        for _ in range(10):
            assert values(store, [1]) == ["here"]
        assert asked[:2] == [hangs, answers]
        assert set(asked[2:]) == {answers}
        store.close()


def test_a_failover_by_sentinel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica takes over: writes go there by themselves, though the old primary would still take them."""
    monkeypatch.setattr(servers, "ASK_EVERY", 0.0)
    with valkey.watched() as watched:
        options = {"sentinels": [f"127.0.0.1:{watched.sentinel.port}"], "master": watched.master}
        store: OnlineStore = create("online_stores", "redis", options | {"timeout": 10.0})
        store.load("user", "a", ["x"], [batch(range(100), "old")])
        watched.fail_over()
        assert values(store, range(100)) == ["old"] * 100
        assert store.write("user", "a", ["x"], batch(range(100), "new", event=2)) == 100
        assert watched.replica.client.info("replication")["role"] == "master"
        watched.primary.kill()
        assert values(store, range(100)) == ["new"] * 100
        watched.sentinel.kill()
        assert values(store, range(100)) == ["new"] * 100
        watched.sentinel.start()
        store.close()
        wrong = create("online_stores", "redis", options | {"master": "nobody"})
        with pytest.raises(StoreUnavailableError, match="knows no master 'nobody'"):
            wrong.info()


# -- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cryptography", reason="pip install cryptography")
    folder = tmp_path_factory.mktemp("certificates")
    valkey.make_certificates(folder)
    return folder


def test_tls(certificates: Path) -> None:
    """The server must prove who it is, and may ask the client; whoever cannot is refused."""
    if reason := valkey.missing("redis"):
        pytest.skip(reason)
    with valkey.tls_server(certificates) as server:
        url = server.url.replace("redis://127.0.0.1", "rediss://localhost")
        mine = {"tls_certificate": str(certificates / "client.pem"), "tls_key": str(certificates / "client.key")}
        good = opened(url, tls_ca=str(certificates / "ca.pem"), **mine)
        good.write("user", "a", ["x"], batch(range(3000), "sealed" * 100))
        assert values(good, range(3000)) == ["sealed" * 100] * 3000
        careless = opened(url, tls_insecure=True, **mine)
        assert values(careless, [1]) == ["sealed" * 100]
        for options in ({}, mine, {"tls_ca": str(certificates / "ca.pem")}):
            with pytest.raises(StoreUnavailableError):
                opened(url, **options).info()
        with pytest.raises(StoreUnavailableError):
            opened(server.url.replace("rediss", "redis")).info()
        for store in (good, careless):
            store.close()


def test_tls_files_that_are_none(tmp_path: Path) -> None:
    """They are read when the store is made."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="TLS files"):
        opened("rediss://127.0.0.1:1", tls_ca=str(tmp_path / "ca.pem"))


def test_the_server_is_looked_into_by_another_client(server: valkey.Server) -> None:
    """The tests would not notice if both sides of the store made the same mistake; this one does."""
    store = opened(server.url, namespace="mine")
    store.write("user", "a", ["x"], OnlineBatch([b"k"], [5], [6], [("v",)]))
    looking = redis.Redis(port=server.port)
    record = looking.hgetall("{mine}:record")
    (name,) = [value for field, value in record.items() if field != b"f"]
    assert record[b"f"].startswith(b"1:1:")
    row = looking.hgetall(b"{mine:0}:" + name)
    assert row.keys() == {b"b", b"kk"}
    assert int(row[b"b"]) == len(row[b"kk"]) + 1
    looking.close()
    store.close()


def test_threads_that_begin_together_share_their_connections(
    server: valkey.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second pool, made by a thread that came second, would take the place of the first, whose connections nobody
    closes."""
    made: list[Any] = []
    pool = servers.Pool

    def slowly(*arguments: Any, **options: Any) -> Any:
        made.append(pool(*arguments, **options))
        time.sleep(0.02)
        return made[-1]

    monkeypatch.setattr(servers, "Pool", slowly)
    opened_now = opened(server.url)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: opened_now.info(), range(8)))
    opened_now.close()
    assert len(made) == 1
