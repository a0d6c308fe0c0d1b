"""Rotation of the sealing key: everything that is sealed goes under the new key, and the old one can go (SEC-9)."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers import s3 as servers
from tests.servers.online import online_stores, options_in
from tests.shop import at, shops_group, spend_group

import grange as gr
from grange.errors import ConfigError, CorruptStoreError, TamperedError
from grange.frames import Rows
from grange.offline.parquet.backend import ParquetStore
from grange.serving.guarding import guarded

pytest.importorskip("cryptography", reason="pip install 'grange[security]'")

OLD = "old:" + base64.b64encode(bytes(range(32))).decode()
NEW = "new:" + base64.b64encode(bytes(32)).decode()
LATE = {"user_id": "u3", "at": at(10), "loaded": at(10), "amount": 1.5, "visits": 2}
KINDS = [kind for kind in online_stores() if kind in ("lmdb", "redis-valkey")]


def ring(project: Path, *keys: str) -> None:
    path = project / "keyring"
    path.write_text("\n".join([*keys, ""]))
    path.chmod(0o600)


@contextmanager
def opened(project: Path, *keys: str, **settings: Any) -> Iterator[gr.FeatureStore]:
    """The project as a process has it that was started with a key ring."""
    ring(project, *keys)
    with gr.FeatureStore(project, **{"security.encryption_key": "file:keyring"}, **settings) as store:
        yield store


def definitions() -> list[Any]:
    checked = {"amount": [gr.greater_than(8, policy="drop")]}
    sums = [gr.Rolling({"amount": ["sum"]}, windows=["3650d"])]
    return [
        spend_group(expectations=checked),
        shops_group(),
        spend_group("spends", aggregations=sums),
        spend_group("quiet", expectations=checked, online=False),
    ]


def filled(store: gr.FeatureStore) -> None:
    store.apply(definitions())
    store.materialize()
    store.push("spend", [LATE])
    store.push("spend", [LATE | {"user_id": "u4", "amount": 100.0}])


def told(store: gr.FeatureStore) -> list[Any]:
    """Everything that is sealed, in clear."""
    users = [{"user_id": user} for user in ("u1", "u2", "u4", "nobody")]
    return [
        *(store.get_online_features(group, users).to_dicts() for group in ("spend", "spends")),
        store.get_online_features("shops", [{"shop_id": 1}, {"shop_id": 2}]).to_dicts(),
        *(store.quarantined(group).polars.to_dicts() for group in ("spend", "quiet", "shops")),
    ]


def counts(done: Any) -> dict[str, tuple[int, int, int]]:
    return {each.group: (each.quarantine, each.online_rows, each.online_keys) for each in done}


@pytest.mark.parametrize("kind", KINDS)
def test_the_old_key_can_go_when_everything_was_sealed_anew(kind: str, project: Path, tmp_path: Path) -> None:
    online = {"online": {"type": "lmdb" if kind == "lmdb" else "redis", **options_in(kind, tmp_path)}}
    with opened(project, OLD, **online) as store:
        filled(store)
        before = told(store)
    with opened(project, NEW, OLD, **online) as store:
        assert told(store) == before
        assert counts(store.reseal()) == {
            "spend": (2, 3, 0), "shops": (0, 2, 0), "spends": (0, 0, 2), "quiet": (1, 0, 0)
        }  # fmt: skip
        assert told(store) == before
        again = counts(store.reseal())
        assert again == {"spend": (0, 0, 0), "shops": (0, 0, 0), "spends": (0, 0, 2), "quiet": (0, 0, 0)}
    with opened(project, NEW, **online) as store:
        assert told(store) == before
        assert all(each.holds for each in store.verify_online())
        assert store.verify() == ()
        store.push("spend", [LATE | {"user_id": "u5", "amount": 50.0}])
        assert store.get_online_features("spend", [{"user_id": "u5"}]).to_dicts()[0]["amount"] == 50.0


def test_before_that_what_is_missing_is_told(project: Path) -> None:
    """Which key, of whatever is read: rows, window state, quarantine; and when they are to be sealed anew."""
    with opened(project, OLD) as store:
        filled(store)
    with opened(project, NEW) as store:
        for ask in (
            lambda: store.get_online_features("spend", [{"user_id": "u1"}]).to_dicts(),
            lambda: store.get_online_features("spends", [{"user_id": "u1"}]).to_dicts(),
            lambda: store.quarantined("spend"),
            store.reseal,
        ):
            with pytest.raises(CorruptStoreError, match=r"key 'old'.*not in the key ring"):
                ask()
    with opened(project, NEW, OLD) as store:
        assert store.reseal("shops")[0].online_rows == 2
    with opened(project, NEW) as store:
        with pytest.raises(CorruptStoreError, match="key 'old'") as caught:
            store.reseal()
        done, failed = caught.value.details["done"], caught.value.details["failed"]
        assert ([each["group"] for each in done], failed) == (["shops"], ["quiet", "spend", "spends"])
        assert caught.value.asked_by == "feature group 'quiet'"


def test_what_was_stopped_halfway_is_read_and_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(project, OLD) as store:
        filled(store)
        before = told(store)
    real = ParquetStore._put_quarantined

    def second_fails(self: ParquetStore, path: Any, rows: Rows, made: list[Any] = []) -> None:  # noqa: B006
        made.append(path)
        if len(made) == 2:
            raise KeyboardInterrupt
        real(self, path, rows)

    with opened(project, NEW, OLD) as store:
        monkeypatch.setattr(ParquetStore, "_put_quarantined", second_fails)
        with pytest.raises(KeyboardInterrupt):
            store.reseal("spend")
        monkeypatch.undo()
        assert told(store) == before
        assert counts(store.reseal())["spend"] == (1, 3, 0)
    with opened(project, NEW) as store:
        assert told(store) == before


def test_rows_of_before_there_was_a_key_are_sealed_too(project: Path) -> None:
    with gr.FeatureStore(project) as store:
        filled(store)
        before = told(store)
    with opened(project, NEW, **{"security.allow_clear": True}) as store:
        with pytest.raises(TamperedError):
            store.reseal("spends")  # nothing says that window state is in clear
        store.materialize("spends")
        assert counts(store.reseal(["spend", "shops", "quiet"]))["spend"] == (2, 3, 0)
    with opened(project, NEW) as store:
        assert told(store) == before
    (file, _) = (project / ".grange" / "offline" / "spend" / "_quarantine").glob("*.parquet")
    assert b"amount" not in file.read_bytes()


def test_window_state_of_another_version_than_history_is_left_and_told(project: Path) -> None:
    with opened(project, OLD) as store:
        filled(store)
        store.push("spends", [LATE])
        store.materialize("spends", online=False)
        before = store.get_online_features("spends", [{"user_id": "u3"}]).to_dicts()
    with opened(project, NEW, OLD) as store:
        (done,) = store.reseal("spends")
        assert done.online_keys == 0 and "grange materialize spends" in done.left[0]
        assert store.get_online_features("spends", [{"user_id": "u3"}]).to_dicts() == before
        store.materialize("spends")
        assert store.reseal("spends")[0].left == ()
    with opened(project, NEW) as store:
        assert store.get_online_features("spends", [{"user_id": "u3"}]).to_dicts() == before


def test_rows_keep_the_version_that_is_served(project: Path) -> None:
    """Also where history has a newer one that was not loaded."""
    with opened(project, OLD) as store:
        filled(store)
        (project / "data" / "shops.csv").write_text("shop_id,country\n1,DE\n2,DE\n")
        store.materialize("shops", online=False)
    with opened(project, NEW, OLD) as store:
        assert store.reseal("shops")[0].online_rows == 2
    with opened(project, NEW) as store:
        assert store.get_online_features("shops", [{"shop_id": 2}]).to_dicts() == [{"shop_id": 2, "country": "NZ"}]


def test_a_server_that_reads_with_care_may_do_it(project: Path) -> None:
    """Through the memory and the breaker that stand before its online store."""
    with opened(project, OLD) as store:
        filled(store)
        before = told(store)
    careful = functools.partial(guarded, cache=60.0, cache_entries=100, failures=3, pause=1.0, clock=time.monotonic)
    with opened(project, NEW, OLD, wrap_online=careful) as store:
        assert told(store) == before
        assert counts(store.reseal())["spend"] == (2, 3, 0)
        assert told(store) == before
    with opened(project, NEW, wrap_online=careful) as store:
        assert told(store) == before


def test_state_that_nothing_reads_any_more_is_left_and_told(project: Path) -> None:
    """It lies there as it was sealed: whoever has the old key can open it, and without it nobody can."""
    with opened(project, OLD) as store:
        filled(store)
        sums = [gr.Rolling({"amount": ["sum"]}, windows=["3650d"])]
        store.apply([spend_group("spends", aggregations=sums, online=False)])
    with opened(project, NEW, OLD) as store:
        (done,) = store.reseal("spends")
        assert (done.online_rows, done.online_keys) == (0, 0)
        assert "nothing reads" in done.left[0] and "grange materialize spends" in done.left[0]


def test_without_a_key_there_is_nothing_to_seal(project: Path) -> None:
    with gr.FeatureStore(project) as store, pytest.raises(ConfigError, match="name no key"):
        store.reseal()


def test_quarantine_in_an_object_store_is_sealed_anew(project: Path, tmp_path: Path) -> None:
    command = servers.missing()
    if command is not None:
        pytest.skip(f"needs an S3 server: {command}")
    with servers.s3_server() as server:
        places = {"path": server.place(), "cache": str(tmp_path / "copies")}
        offline = {"offline": {"type": "parquet", **places, **server.options}}
        with opened(project, OLD, **offline) as store:
            filled(store)
            before = told(store)
        with opened(project, NEW, OLD, **offline) as store:
            assert counts(store.reseal())["spend"] == (2, 3, 0)
        with opened(project, NEW, **offline) as store:
            assert told(store) == before
