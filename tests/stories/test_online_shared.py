"""Online stores that are shared, come back empty, or are behind: no answer is ever of others, or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.servers import valkey
from tests.shop import at, user

import grange as gr
from grange.errors import (
    ConfigError,
    ConflictError,
    GrangeError,
    StateLostError,
    StorageFullError,
    StoreUnavailableError,
)

needs_server = pytest.mark.skipif(valkey.missing() is not None, reason=str(valkey.missing()))

CLICKS = gr.PushSource("clicks", schema={"user_id": "string", "at": "datetime", "n": "int64"}, event_time="at")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[valkey.Server]:
    with valkey.server() as one:
        yield one


@pytest.fixture
def server(shared_server: valkey.Server) -> valkey.Server:
    shared_server.client.flushall()
    return shared_server


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., gr.FeatureStore]]:
    """Opens projects by the names of their folders."""
    stores: list[gr.FeatureStore] = []

    def open_(server: valkey.Server, folder: str = "shop", **options: Any) -> gr.FeatureStore:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        online = {"type": "redis", "url": server.url, "timeout": 10.0, **options}
        stores.append(gr.FeatureStore(tmp_path / folder, online=online))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def visits(n: int, *users: str) -> gr.FeatureGroup:
    rows = pl.DataFrame({"user_id": users, "at": [at(1)] * len(users), "n": [n] * len(users)})
    return gr.FeatureGroup("visits", entities=user, source=gr.TableSource(rows, event_time="at", name="rows"))


def pushed(n: int, *users: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": users, "at": [at(2)] * len(users), "n": [n] * len(users)})


def served(store: gr.FeatureStore, *users: str, features: str = "visits:n") -> list[Any]:
    name = features.rpartition(":")[2]
    answer = store.get_online_features([features], [{"user_id": each} for each in users])
    return [row[name] for row in answer.to_dicts()]


@needs_server
class TestProjectsOnOneServer:
    def test_they_do_not_meet(self, server: valkey.Server, opened: Callable[..., gr.FeatureStore]) -> None:
        """The name of the project is the namespace, where none is given."""
        shop, bank = opened(server, "shop"), opened(server, "my bank")
        for store, n in ((shop, 1), (bank, 999)):
            store.apply(visits(n, "u1"))
            store.materialize("visits")
        assert (served(shop, "u1"), served(bank, "u1")) == ([1], [999])
        bank.delete("visits")
        assert served(shop, "u1") == [1]

    def test_two_of_one_name_are_told(self, server: valkey.Server, opened: Callable[..., gr.FeatureStore]) -> None:
        """The second can neither read nor replace the rows of the first; a namespace of its own mends it."""
        first, second = opened(server, "here/shop"), opened(server, "there/shop")
        for store in (first, second):
            store.apply(visits(1 if store is first else 999, "u1"))
        first.materialize("visits")
        with pytest.raises(ConfigError, match="namespace 'shop'"):
            second.materialize("visits")
        assert served(first, "u1") == [1]
        apart = opened(server, "there/shop", namespace="shop-of-there")
        apart.apply(visits(999, "u1"))
        apart.materialize("visits")
        assert (served(first, "u1"), served(apart, "u1")) == ([1], [999])

    def test_processes_of_one_project_share(
        self, server: valkey.Server, opened: Callable[..., gr.FeatureStore]
    ) -> None:
        one, other = opened(server), opened(server)
        one.apply(visits(1, "u1"))
        one.materialize("visits")
        assert served(other, "u1") == [1]


@needs_server
class TestAServerThatCameBackEmpty:
    def test_reads_tell_and_materialize_mends(
        self, server: valkey.Server, opened: Callable[..., gr.FeatureStore]
    ) -> None:
        store = opened(server)
        store.apply(visits(1, "u1", "u2"))
        store.materialize("visits")
        assert served(store, "u1") == [1]
        server.client.flushall()
        for reader in (store, opened(server)):
            with pytest.raises(StateLostError) as caught:
                served(reader, "u1")
            assert caught.value.try_ and "grange materialize" in caught.value.try_
        store.materialize("visits")
        assert served(store, "u1", "u2") == [1, 1]

    @pytest.mark.parametrize("knows", [True, False])
    def test_a_push_brings_all_of_history_back(
        self, server: valkey.Server, opened: Callable[..., gr.FeatureStore], knows: bool
    ) -> None:
        """By the process that knew of the rows, and by one that did not: what is served is whole again."""
        store = opened(server)
        store.apply(visits(1, "u1", "u2"))
        store.materialize("visits")
        store.push("visits", pushed(2, "u2"))
        server.client.flushall()
        (store if knows else opened(server)).push("visits", pushed(3, "u3"))
        assert served(opened(server), "u1", "u2", "u3") == [1, 2, 3]
        assert served(store, "u1", "u2", "u3") == [1, 2, 3]

    @pytest.mark.parametrize("windows", [True, False])
    def test_a_group_that_was_only_pushed_to(
        self, server: valkey.Server, opened: Callable[..., gr.FeatureStore], windows: bool
    ) -> None:
        aggregations = [gr.Rolling({"n": ["count"]}, windows=["36500d"])] if windows else []
        group = gr.FeatureGroup("visits", entities=user, source=CLICKS, aggregations=aggregations)
        features = "visits:n__count__36500d" if windows else "visits:n"
        store = opened(server)
        store.apply(group)
        store.push("visits", pushed(1, "u1"))
        assert served(store, "u1", features=features) == [1]
        server.client.flushall()
        with pytest.raises(StateLostError, match="grange materialize visits"):
            served(opened(server), "u1", features=features)
        opened(server).push("visits", pushed(1, "u2"))
        assert served(opened(server), "u1", "u2", features=features) == [1, 1]


class TestRowsThatAreNotDue:
    def test_a_group_with_no_others_has_none_yet(self, store: gr.FeatureStore) -> None:
        """Nothing is lost: the rows are of the future, and a push of one that is due brings it alone."""
        store.apply(gr.FeatureGroup("visits", entities=user, source=CLICKS))
        later = pushed(9, "u1").with_columns(at=pl.lit(at(1).replace(year=2999)))
        store.push("visits", later)
        assert served(store, "u1") == [None]
        store.push("visits", pushed(1, "u2"))
        assert served(store, "u1", "u2") == [None, 1]


class TestAPushThatWasCutOff:
    """Between history and the online store."""

    @pytest.fixture
    def behind(self, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> gr.FeatureStore:
        store.apply(visits(1, "u1", "u2"))
        store.materialize("visits")
        store.push("visits", pushed(2, "u1"))
        assert store.verify() == ()

        def dies(*_: object) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(store._parts.online, "write", dies)
            with pytest.raises(KeyboardInterrupt):
                store.push("visits", pushed(3, "u2"))
        assert served(store, "u1", "u2") == [2, 1]
        return store

    def test_the_next_push_mends_it(self, behind: gr.FeatureStore) -> None:
        behind.push("visits", pushed(4, "u3"))
        assert served(behind, "u1", "u2", "u3") == [2, 3, 4]
        assert behind.verify() == ()

    def test_verify_tells_and_materialize_mends_it(self, behind: gr.FeatureStore) -> None:
        (finding,) = behind.verify()
        assert "grange materialize visits" in str(finding)
        behind.materialize("visits")
        assert served(behind, "u1", "u2") == [2, 3]
        assert behind.verify() == ()

    def test_a_push_writes_no_more_than_its_rows_where_nothing_was(
        self, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Loading all of history at each push would be slow."""
        store.apply(visits(1, "u1", "u2"))
        store.materialize("visits")

        def load(*_: object) -> int:
            raise AssertionError("all of history is loaded")

        monkeypatch.setattr(store._parts.online, "load", load)
        for n in range(3):
            store.push("visits", pushed(n, "u1"))
        assert served(store, "u1") == [2]


@pytest.mark.parametrize("error", [ConflictError, StorageFullError, StoreUnavailableError])
def test_an_error_after_history_was_written_says_so(
    store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch, error: type[GrangeError]
) -> None:
    """Whoever pushed the rows again would store them twice."""
    store.apply(gr.FeatureGroup("visits", entities=user, source=CLICKS))

    def refuse(*_: object) -> int:
        raise error("not now")

    monkeypatch.setattr(store._parts.online, "write", refuse)
    with pytest.raises(error) as caught:
        store.push("visits", pushed(1, "u1"))
    assert caught.value.details["stored"] == ["visits"]
    assert not caught.value.retry
    assert caught.value.try_ is not None and "grange materialize" in caught.value.try_
    monkeypatch.undo()
    store.materialize("visits")
    assert served(store, "u1") == [1]
