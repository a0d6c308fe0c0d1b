"""An online store that lost what was loaded into it: an outage of these features alone, told by everybody, until they
are loaded again; never a missing feature (ONL-6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.servers import valkey
from tests.servers.processes import wait_until
from tests.shop import at, user

import grange as gr
from grange.cli.main import run
from grange.errors import StateLostError, StoreUnavailableError
from grange.online.redis.records import CELLS, ROWS, Name
from grange.verbs.online import lost_groups

pytestmark = pytest.mark.skipif(valkey.missing() is not None, reason=str(valkey.missing()))

NOW = at(20)
WINDOW = "n__count__36500d"
CLICKS = gr.PushSource("clicks", schema={"user_id": "string", "at": "datetime", "n": "int64"}, event_time="at")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[valkey.Server]:
    with valkey.server() as one:
        yield one


@pytest.fixture
def server(shared_server: valkey.Server) -> valkey.Server:
    shared_server.client.flushall()
    return shared_server


Open = Callable[..., gr.FeatureStore]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens one project, each time as another process would."""
    stores: list[gr.FeatureStore] = []

    def open_(url: str, **options: Any) -> gr.FeatureStore:
        stores.append(
            gr.FeatureStore(
                tmp_path, online={"type": "redis", "url": url, "namespace": "shop", "timeout": 10.0, **options}
            )
        )
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def definitions(project: Path, *users: str) -> list[Any]:
    """Rows, rows that are only pushed, and windows; a view of all that has an answer in an outage."""
    rows = pl.DataFrame({"user_id": users, "at": [at(1)] * len(users), "n": [1] * len(users)})
    rows.write_parquet(project / "rows.parquet")
    source = gr.FileSource("rows.parquet", event_time="at")
    count = gr.Rolling({"n": ["count"]}, windows=["36500d"])
    return [
        gr.FeatureGroup("visits", entities=user, source=source),
        gr.FeatureGroup("clicks_of", entities=user, source=CLICKS),
        gr.FeatureGroup("counts", entities=user, source=source, aggregations=[count]),
        gr.FeatureView("careful", features=["visits:n", f"counts:{WINDOW}"], on_error="default"),
    ]


def filled(opened: Open, url: str, *users: str, **options: Any) -> gr.FeatureStore:
    store = opened(url, **options)
    store.apply(definitions(store.project, *users or ("u1", "u2")))
    store.materialize(["visits", "counts"])
    store.push("clicks", pl.DataFrame({"user_id": ["u1"], "at": [at(2)], "n": [7]}))
    assert [read(store, group) for group in GROUPS] == [[1], [1], [7]]
    return store


GROUPS = ("visits:n", f"counts:{WINDOW}", "clicks_of:n")


def read(store: gr.FeatureStore, feature: str, *users: str) -> list[Any]:
    keys = [{"user_id": each} for each in users or ("u1",)]
    found = store.get_online_features([feature], keys, now=NOW)
    assert not found.degraded
    return [row[feature.partition(":")[2]] for row in found.to_dicts()]


def careful(store: gr.FeatureStore) -> tuple[bool, Any, Any]:
    """Whether the answer by policy is degraded, and its features."""
    found = store.get_online_features("careful", [{"user_id": "u1"}], now=NOW)
    (row,) = found.to_dicts()
    return found.degraded, row["n"], row[WINDOW]


def evict(server: valkey.Server, group: str, kind: str = ROWS) -> None:
    """Remove one group's state, as an eviction does."""
    (name,) = server.client.hmget("{shop}:record", Name(kind, "user", group).field())
    assert server.client.unlink(b"{shop:0}:" + name) == 1


def reads_again(store: gr.FeatureStore, feature: str, expected: list[Any]) -> None:
    def is_back() -> bool:
        try:
            return read(store, feature) == expected
        except StateLostError:
            return False

    wait_until(is_back, lambda: f"{feature} is not read again")


@pytest.mark.parametrize("feature", GROUPS)
class TestAServerThatCameBackEmpty:
    def test_everybody_tells(self, server: valkey.Server, opened: Open, feature: str) -> None:
        """Who read before, and who began since; with the command that mends it."""
        store = filled(opened, server.url)
        server.client.flushall()
        for reader in (store, opened(server.url)):
            for _ in range(3):
                with pytest.raises(StateLostError, match="is gone from") as caught:
                    read(reader, feature)
                group = feature.partition(":")[0]
                assert caught.value.code == "GRANGE-602"
                assert caught.value.try_ == f"grange materialize {group}"
                assert caught.value.details["group"] == group
                assert caught.value.retry

    def test_a_load_by_anybody_mends_it_for_all(self, server: valkey.Server, opened: Open, feature: str) -> None:
        store = filled(opened, server.url)
        server.client.flushall()
        fresh = opened(server.url)
        for reader in (store, fresh):
            with pytest.raises(StateLostError):
                read(reader, feature)
        opened(server.url).materialize(feature.partition(":")[0])
        for reader in (store, fresh):
            reads_again(reader, feature, [7] if feature == GROUPS[2] else [1])


@pytest.mark.parametrize("knows", [True, False])
def test_a_push_brings_all_of_history_back(server: valkey.Server, opened: Open, knows: bool) -> None:
    """Of rows and of windows, by who knew of them and by who did not."""
    store = filled(opened, server.url)
    server.client.flushall()
    pushing = store if knows else opened(server.url)
    for group in ("visits", "counts", "clicks_of"):
        pushing.push(group, pl.DataFrame({"user_id": ["u3"], "at": [at(3)], "n": [9]}))
    for reader in (store, opened(server.url)):
        assert read(reader, "visits:n", "u1", "u2", "u3") == [1, 1, 9]
        assert read(reader, f"counts:{WINDOW}", "u1", "u2", "u3") == [1, 1, 1]
        assert read(reader, "clicks_of:n", "u1", "u3") == [7, 9]


def test_a_view_with_a_policy_is_answered_without_what_is_lost(server: valkey.Server, opened: Open) -> None:
    """Degraded: defaults for what is lost, and the values of what is there."""
    store = filled(opened, server.url)
    assert careful(store) == (False, 1, 1)
    evict(server, "counts", CELLS)
    assert [careful(reader) for reader in (store, opened(server.url))] == [(True, 1, None)] * 2
    server.client.flushall()
    assert [careful(reader) for reader in (store, opened(server.url))] == [(True, None, None)] * 2


def test_windows_that_are_lost_beside_rows_of_before(server: valkey.Server, opened: Open) -> None:
    """A group that got aggregations keeps the rows that it had. Its windows are lost all the same, and they alone."""
    store = opened(server.url)
    _, _, counts, view = definitions(store.project, "u1", "u2")
    plain = [gr.FeatureGroup(name, entities=user, source=counts.source) for name in ("visits", "counts", "wholly")]
    store.apply(plain)
    store.materialize()
    store.apply([counts, view])
    store.materialize("counts")
    assert {(info.rows, info.cells > 0) for info in store._parts.online.info() if info.group == "counts"} == {(2, True)}
    evict(server, "counts", CELLS)
    evict(server, "wholly")
    for reader in (store, opened(server.url)):
        assert careful(reader) == (True, 1, None)
        told = {found.path.rpartition(" ")[2]: found.problem for found in reader.verify()}
        assert told.keys() == {"counts", "wholly"}
        assert "grange materialize counts" in told["counts"]
        groups = reader.catalog.groups.values()
        assert {group.name for group in lost_groups(reader._parts, groups)} == {"counts", "wholly"}


def test_one_lost_group_leaves_the_others_of_its_entity(server: valkey.Server, opened: Open) -> None:
    """They are read as ever; and in one read with it, where the view's policy is to answer."""
    store = filled(opened, server.url)
    clicks = gr.select("clicks_of", "n", prefix="clicked_")
    store.apply(gr.FeatureView("both", features=["visits:n", clicks], on_error="default"))
    evict(server, "visits")
    for reader in (store, opened(server.url)):
        assert read(reader, "clicks_of:n", "u1", "nobody") == [7, None]
        found = reader.get_online_features("both", [{"user_id": "u1"}], now=NOW)
        assert found.degraded
        (row,) = found.to_dicts()
        assert (row["n"], row["clicked_n"]) == (None, 7)


def test_an_outage_before_the_first_read_is_no_reason_to_believe_an_empty_store(opened: Open) -> None:
    """A process that begins during the outage never met what was lost in it."""
    with valkey.server() as server:
        filled(opened, server.url)
        server.kill()
        fresh = opened(server.url, timeout=0.5, connect_timeout=0.5, retries=0)
        with pytest.raises(StoreUnavailableError) as caught:
            read(fresh, "visits:n")
        assert not isinstance(caught.value, StateLostError)
        assert careful(fresh) == (True, None, None)
        server.start()

        def is_told() -> bool:
            try:
                found = read(fresh, "visits:n")
            except StateLostError:
                return True
            except StoreUnavailableError:
                return False
            raise AssertionError(f"nobody is found: {found}")

        wait_until(is_told, lambda: "the loss is not told")


class TestVerify:
    def test_the_command_line_says_so(
        self, server: valkey.Server, opened: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = filled(opened, server.url)
        monkeypatch.setenv("GRANGE_ONLINE__TYPE", "redis")
        monkeypatch.setenv("GRANGE_ONLINE__URL", server.url)
        monkeypatch.setenv("GRANGE_ONLINE__NAMESPACE", "shop")
        server.client.flushall()
        assert run(["verify", "online", "--project", str(store.project)]) == 1
        told = capsys.readouterr()
        assert told.out.count("lost") == 3
        assert "grange materialize" in told.out + told.err

    def test_it_names_what_is_lost_and_the_command(self, server: valkey.Server, opened: Open) -> None:
        store = filled(opened, server.url)
        assert store.verify() == ()
        evict(server, "visits")
        for one in (store, opened(server.url)):
            (found,) = one.verify()
            assert "feature group visits" in found.path
            assert "grange materialize visits" in found.problem
        server.client.flushall()
        assert {finding.path.rpartition(" ")[2] for finding in opened(server.url).verify()} == {
            "visits",
            "counts",
            "clicks_of",
        }

    def test_what_is_served_is_compared_where_it_is_there(self, server: valkey.Server, opened: Open) -> None:
        store = filled(opened, server.url)
        evict(server, "visits")
        for one in (store, opened(server.url)):
            found = {each.group: each for each in one.verify_online()}
            assert (found["visits"].lost, found["visits"].holds, found["visits"].compared) == (True, False, 0)
            assert all(found[group].holds for group in ("counts", "clicks_of"))

    def test_a_load_of_no_rows_is_no_loss(self, server: valkey.Server, opened: Open) -> None:
        """Rows that are all of the future: there is nobody, and rightly so."""
        store = opened(server.url)
        later = pl.DataFrame({"user_id": ["u1"], "at": [at(1).replace(year=2999)], "n": [1]})
        store.apply(
            gr.FeatureGroup("later", entities=user, source=gr.TableSource(later, event_time="at", name="later"))
        )
        store.materialize("later")
        assert store.verify() == ()
        assert read(opened(server.url), "later:n") == [None]


def test_a_node_of_a_cluster_that_comes_back_empty(opened: Open) -> None:
    """Keys of other nodes are read on, its own are told, of all groups; a load mends it."""
    users = [f"u{number}" for number in range(1, 60)]
    with valkey.cluster() as cluster:
        store = filled(opened, cluster.url, *users, cluster=True)
        lost = _node_without_the_record(cluster)
        lost.kill()
        lost.start()
        wait_until(cluster.is_whole, lambda: "the cluster is not whole again")
        store.apply(gr.FeatureView("v", features=["visits:n"], on_error="default"))
        for reader in (store, opened(cluster.url, cluster=True)):
            outcomes = {each: _outcome(reader, each) for each in users}
            assert set(outcomes.values()) == {"read", "lost"}
            together = reader.get_online_features("v", [{"user_id": each} for each in users], now=NOW)
            assert together.degraded
            found = [row["n"] for row in together.to_dicts()]
            assert found == [1 if outcomes[each] == "read" else None for each in users]
            assert any("feature group visits" in finding.path for finding in reader.verify())
        store.materialize("visits")
        for reader in (store, opened(cluster.url, cluster=True)):
            assert read(reader, "visits:n", *users) == [1] * len(users)


def _outcome(store: gr.FeatureStore, user_id: str) -> str:
    try:
        assert read(store, "visits:n", user_id) == [1]
    except StateLostError as error:
        assert error.details["partly"]
        return "lost"
    return "read"


def _node_without_the_record(cluster: valkey.Cluster) -> valkey.Server:
    """A node that has rows, and not the record."""
    return next(node for node in cluster.nodes if not node.client.keys("{shop}:record") and node.client.dbsize())
