"""Online stores: the contract on every store, values of features that are built, a store of one's own."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.compat.transactions import NOW, ROWS, raw, spend, write
from tests.servers import valkey

from grange.compat.mlforge import Definitions, FeatureSpec, get_online_features
from grange.compat.mlforge.online import (
    GrangeOnlineStore,
    LocalOnlineStore,
    MemoryOnlineStore,
    OnlineStore,
    RedisStore,
)
from grange.errors import (
    KeyTypeError,
    MissingColumnError,
    NameCollisionError,
    RefusedError,
    RequestError,
    StoreUnavailableError,
    UnknownFeatureGroupError,
    UnsupportedError,
)


@pytest.fixture(scope="module")
def redis() -> Iterator[valkey.Server]:
    """A real server."""
    if install := valkey.missing():
        pytest.skip(install)
    with valkey.server() as running:
        yield running


@pytest.fixture(params=["memory", "local", "redis"])
def online(request: pytest.FixtureRequest) -> Iterator[GrangeOnlineStore]:
    if request.param == "redis":
        server: valkey.Server = request.getfixturevalue("redis")
        server.client.flushall()
        store: GrangeOnlineStore = RedisStore(port=server.port)
    else:
        store = {"memory": MemoryOnlineStore, "local": LocalOnlineStore}[request.param]()
    yield store
    store.close()


def test_what_is_written_by_hand_is_read_back(online: OnlineStore) -> None:
    online.write("clicks", {"user_id": "u1"}, {"n": 1, "last": "home", "rate": None, "pages": [1, {"a": True}]})

    assert online.read("clicks", {"user_id": "u1"}) == {"n": 1, "last": "home", "rate": None, "pages": [1, {"a": True}]}
    assert online.read("clicks", {"user_id": "u2"}) is None
    assert online.read("likes", {"user_id": "u1"}) is None


def test_the_last_write_replaces_all_values(online: OnlineStore) -> None:
    online.write("clicks", {"user_id": "u1"}, {"n": 1, "old": 1})
    online.write("clicks", {"user_id": "u1"}, {"n": 2})
    assert online.read("clicks", {"user_id": "u1"}) == {"n": 2}
    online.write_batch("clicks", [{"user_id": "u1", "n": 3}, {"m": 4, "user_id": "u1"}], ["user_id"])
    assert online.read("clicks", {"user_id": "u1"}) == {"m": 4}


def test_a_batch_keeps_order_and_duplicates_and_says_none(online: OnlineStore) -> None:
    online.write_batch("clicks", [{"user_id": 1, "n": 10}, {"n": 20, "user_id": "2"}], ["user_id"])
    asked: Any = [{"user_id": "2"}, {"user_id": "9"}, {"user_id": "1"}, {"user_id": "2"}, {"user_id": None}]
    assert online.read_batch("clicks", asked) == [{"n": 20}, None, {"n": 10}, {"n": 20}, None]
    assert online.read_batch("clicks", []) == []
    online.write_batch("clicks", [], ["user_id"])
    online.write("nothing", {"user_id": "1"}, {})
    assert online.read("nothing", {"user_id": "1"}) == {}


def test_keys_are_compared_column_by_column(online: OnlineStore) -> None:
    online.write("pairs", {"a": "1", "b": "12"}, {"n": 1})
    assert online.read("pairs", {"b": "12", "a": "1"}) == {"n": 1}
    assert online.read_batch("pairs", [{"a": "11", "b": "2"}, {"b": "1", "a": "12"}, {"a": "1"}]) == [None] * 3


def test_wrong_keys_and_values_are_refused(online: OnlineStore) -> None:
    wrong: Any = 1.5
    with pytest.raises(KeyTypeError, match="'user_id' must be text or an integer"):
        online.write("clicks", {"user_id": wrong}, {"n": 1})
    with pytest.raises(RequestError, match="a null in an entity key"):
        online.write_batch("clicks", [{"user_id": None}], ["user_id"])
    with pytest.raises(MissingColumnError, match="no key column 'user_id'"):
        online.write_batch("clicks", [{"user": "u1"}], ["user_id"])
    for value in (NOW, 1 << 64, [{1: "a"}], {"a": ({},)}):
        with pytest.raises(RequestError, match="value of 'at' is of a type"):
            online.write("clicks", {"user_id": "u1"}, {"at": value})
    assert online.read("clicks", {"user_id": "u1"}) is None


def test_a_feature_that_is_built_is_read_as_training_data_has_it(online: GrangeOnlineStore) -> None:
    defs = Definitions(features=[raw(), spend(["7d", "30d"], ["sum", "count", "mean"])], online_store=online)
    defs.build(online=True)

    assert online.read(feature_name="user_spend", entity_keys={"user_id": "user_123"}) == {
        "amount__sum__7d": 5.0,
        "amount__sum__30d": 15.0,
        "amount__count__7d": 1,
        "amount__count__30d": 2,
        "amount__mean__7d": 5.0,
        "amount__mean__30d": 7.5,
    }
    spine = pl.DataFrame({"user_id": ["user_456", "user_123"], "event_time": [dt.datetime.now(dt.UTC)] * 2})
    trained = defs.get_training_data(["transactions", "user_spend"], spine).drop("event_time")
    assert_frame_equal(defs.get_online_features(["transactions", "user_spend"], spine.drop("event_time")), trained)
    assert online.read_batch("transactions", [{"user_id": "x"}, {"user_id": "user_456"}, {"user_id": "x"}]) == [
        None,
        {"amount": 7.0},
        None,
    ]


def test_a_feature_of_counts_alone_is_none_for_who_is_unknown(online: GrangeOnlineStore) -> None:
    Definitions(features=[spend(["1d"], ["count"])], online_store=online).build(online=True)
    assert online.read("user_spend", {"user_id": "nobody"}) is None
    assert online.read("user_spend", {"user_id": "user_123"}) == {"amount__count__1d": 0}


def test_an_expired_value_is_none(online: GrangeOnlineStore) -> None:
    Definitions(features=[raw(ttl="36h")], online_store=online).build(online=True)
    asked = [{"user_id": "user_123"}, {"user_id": "user_456"}]
    assert online.read_batch("transactions", asked) == [None, {"amount": 7.0}]


def test_an_integer_key_may_be_text(online: GrangeOnlineStore) -> None:
    write(ROWS.with_columns(user_id=pl.col("user_id").str.slice(5).cast(pl.Int64)))
    Definitions(features=[raw()], online_store=online).build(online=True)
    asked: Any = [{"user_id": "456"}, {"user_id": 456}]
    assert online.read_batch("transactions", asked) == [{"amount": 7.0}] * 2
    with pytest.raises(KeyTypeError, match="int64"):
        online.read("transactions", {"user_id": "user_456"})
    with pytest.raises(MissingColumnError):
        online.read("transactions", {"user": "456"})


def test_offline_builds_leave_the_online_store_alone(online: GrangeOnlineStore) -> None:
    defs = Definitions(features=[raw()], online_store=online)
    defs.build()
    with pytest.raises(UnsupportedError, match="nothing of it was loaded"):
        online.read("transactions", {"user_id": "user_123"})
    defs.build(online=True)
    write(ROWS.with_columns(pl.col("amount") + 1))
    assert defs.build().versions == {"transactions": "1.0.1"}
    assert online.read("transactions", {"user_id": "user_123"}) == {"amount": 5.0}
    defs.build(online=True)
    defs.close()
    assert online.read("transactions", {"user_id": "user_123"}) == {"amount": 6.0}


def test_names_that_mean_nothing_are_told(online: GrangeOnlineStore) -> None:
    defs = Definitions(features=[raw()], online_store=online)
    defs.build(online=True)
    online.write("clicks", {"user_id": "u1"}, {"n": 1})

    with pytest.raises(UnknownFeatureGroupError) as caught:
        online.read("transaction", {"user_id": "u1"})
    assert caught.value.closest == ("transactions",)
    with pytest.raises(RefusedError, match="built from its source"):
        online.write("transactions", {"user_id": "u1"}, {"amount": 1.0})
    assert online.read("clicks", {"user_id": "u1"}) == {"n": 1}


def test_features_of_definitions_that_are_not_known_are_told() -> None:
    first = LocalOnlineStore("./online")
    Definitions(features=[raw()], online_store=first).build(online=True)
    first.close()
    alone = LocalOnlineStore("./online")
    with pytest.raises(RequestError, match="Definitions that are not known here"):
        alone.read("transactions", {"user_id": "user_123"})
    Definitions(features=[], online_store=alone)
    assert alone.read("transactions", {"user_id": "user_123"}) == {"amount": 5.0}
    alone.close()


def test_online_features_beside_rows(online: GrangeOnlineStore) -> None:
    defs = Definitions(features=[raw(), spend(["7d"], ["sum"])], online_store=online)
    defs.build(online=True)
    rows = pl.DataFrame({"request": [1, 2, 3], "user_id": ["user_456", "nobody", "user_456"]})
    found = get_online_features([FeatureSpec(name="user_spend", columns=["amount__sum__7d"])], rows, online)

    assert_frame_equal(found, rows.with_columns(amount__sum__7d=pl.Series([7.0, None, 7.0])))
    with pytest.raises(NameCollisionError, match="'amount'"):
        defs.get_online_features(["transactions"], rows.with_columns(amount=1))
    with pytest.raises(UnknownFeatureGroupError):
        get_online_features(["transactions"], rows, MemoryOnlineStore())
    with pytest.raises(RequestError, match="no feature was named"):
        defs.get_online_features([], rows)
    with pytest.raises(RequestError, match="no online store to read"):
        Definitions(features=[raw()]).get_online_features(["transactions"], rows)


class Recorder(OnlineStore):
    """A store of one's own."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}

    def write(self, feature_name: str, entity_keys: dict[str, str], values: dict[str, Any]) -> None:
        self.held[feature_name, str(sorted(entity_keys.items()))] = values

    def write_batch(self, feature_name: str, records: list[dict[str, Any]], entity_key_columns: list[str]) -> None:
        for record in records:
            keys = {column: record[column] for column in entity_key_columns}
            self.write(feature_name, keys, {name: value for name, value in record.items() if name not in keys})

    def read(self, feature_name: str, entity_keys: dict[str, str]) -> dict[str, Any] | None:
        return self.held.get((feature_name, str(sorted(entity_keys.items()))))

    def read_batch(self, feature_name: str, entity_keys: list[dict[str, str]]) -> list[dict[str, Any] | None]:
        return [self.read(feature_name, entity) for entity in entity_keys]


def test_a_store_of_ones_own_is_handed_the_values() -> None:
    own = Recorder()
    defs = Definitions(features=[raw(), spend(["7d"], ["sum", "count"])], online_store=own)
    defs.build()
    assert own.held == {}
    defs.build(online=True)
    assert own.read("user_spend", {"user_id": "user_123"}) == {"amount__sum__7d": 5.0, "amount__count__7d": 1}
    assert own.read("transactions", {"user_id": "user_456"}) == {"amount": 7.0}
    assert len(own.held) == 4
    with pytest.raises(UnsupportedError, match="read_batch"):
        defs.get_online_features(["transactions"], ROWS.select("user_id"))


def test_the_contract_has_four_methods() -> None:
    assert OnlineStore.__abstractmethods__ == {"write", "write_batch", "read", "read_batch"}


def test_redis_is_told_its_database_password_and_lifetime() -> None:
    store = RedisStore(host="cache", port=7000, db=2, password="a/b@c", ttl=60)
    assert store._options == {"url": "redis://cache:7000/2", "password": "a/b@c", "expire": "60s"}


def test_what_is_in_redis_expires(redis: valkey.Server) -> None:
    store = RedisStore(port=redis.port, ttl=1)
    store.write("short", {"k": "1"}, {"n": 1})
    assert store.read("short", {"k": "1"}) == {"n": 1}
    time.sleep(1.2)
    assert store.read("short", {"k": "1"}) is None
    store.close()


def test_a_closed_backend_is_an_outage_and_not_a_missing_value() -> None:
    store = MemoryOnlineStore()
    Definitions(features=[raw()], online_store=store).build(online=True)
    store.backend.close()
    with pytest.raises(StoreUnavailableError):
        store.read("transactions", {"user_id": "user_123"})
    assert Path("feature_store").exists()
