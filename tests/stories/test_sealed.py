"""A project whose settings name an encryption key: what is served is the same, what lies in the store is sealed."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from tests.shop import at, shops_group, spend_group

import grange as gr
from grange.errors import ConfigError, CorruptStoreError, GrangeError

pytest.importorskip("cryptography", reason="pip install 'grange[security]'")


def key_file(project: Path, name: str = "keyring") -> Path:
    path = project / name
    path.write_text("first:" + base64.b64encode(os.urandom(32)).decode() + "\n")
    path.chmod(0o600)
    return path


def test_values_are_sealed_and_served_as_ever(project: Path) -> None:
    key_file(project)
    settings = {"security.encryption_key": "file:keyring"}
    with gr.FeatureStore(project, **settings) as store:
        store.apply([spend_group(), shops_group()])
        store.materialize()
        store.push("spend", [{"user_id": "u3", "at": at(10), "loaded": at(10), "amount": 1.5, "visits": 2}])
        assert store.get_online_features("shops", [{"shop_id": 2}]).to_dicts() == [{"shop_id": 2, "country": "NZ"}]
        assert store.get_online_features("spend", [{"user_id": "u3"}]).to_dicts()[0]["amount"] == 1.5
        assert all(each.holds for each in store.verify_online())
    data = b"".join(path.read_bytes() for path in (project / ".grange" / "online").rglob("*") if path.is_file())
    assert b"shops" in data
    assert b"\xa2NZ" not in data
    assert b"\xa2FR" not in data


def test_without_the_key_nothing_is_served(project: Path) -> None:
    key_file(project)
    spends = spend_group(name="spends", aggregations=[gr.Rolling({"amount": ["sum"]}, windows=["3650d"])])
    with gr.FeatureStore(project, **{"security.encryption_key": "file:keyring"}) as store:
        store.apply([shops_group(), spends])
        store.materialize()
        assert store.get_online_features("spends", [{"user_id": "u2"}]).to_dicts()[0]["amount__sum__3650d"] == 16.5
    key_file(project, "other")
    with gr.FeatureStore(project, **{"security.encryption_key": "file:other"}) as store, pytest.raises(GrangeError):
        store.get_online_features("shops", [{"shop_id": 2}]).to_dicts()
    with gr.FeatureStore(project, **{"security.encryption_key": "file:nowhere"}) as store, pytest.raises(ConfigError):
        store.get_online_features("shops", [{"shop_id": 2}])
    with gr.FeatureStore(project) as store:
        with pytest.raises(CorruptStoreError, match="encryption_key"):
            store.get_online_features("shops", [{"shop_id": 2}]).to_dicts()
        with pytest.raises(GrangeError):
            store.get_online_features("spends", [{"user_id": "u2"}]).to_dicts()


def test_clear_values_of_before_are_read_only_where_the_settings_say_so(project: Path) -> None:
    with gr.FeatureStore(project) as store:
        store.apply([shops_group()])
        store.materialize()
    key_file(project)
    sealed = {"security.encryption_key": "file:keyring"}
    with gr.FeatureStore(project, **sealed) as store, pytest.raises(GrangeError):
        store.get_online_features("shops", [{"shop_id": 2}]).to_dicts()
    with gr.FeatureStore(project, **sealed, **{"security.allow_clear": True}) as store:
        assert store.get_online_features("shops", [{"shop_id": 2}]).to_dicts()[0]["country"] == "NZ"
        store.materialize("shops")
    with gr.FeatureStore(project, **sealed) as store:
        assert store.get_online_features("shops", [{"shop_id": 2}]).to_dicts()[0]["country"] == "NZ"


def test_quarantined_rows_are_sealed_and_opened(project: Path) -> None:
    key_file(project)
    checked = spend_group(expectations={"amount": [gr.greater_than(8, policy="drop")]})
    with gr.FeatureStore(project, **{"security.encryption_key": "file:keyring"}) as store:
        store.apply([checked])
        store.materialize()
        kept = store.quarantined("spend").polars
        assert kept["amount"].to_list() == [7.5]
        assert "amount" in kept["__reasons"].to_list()[0][0]
    (file,) = (project / ".grange" / "offline" / "spend" / "_quarantine").glob("*.parquet")
    assert b"amount" not in file.read_bytes()
    with gr.FeatureStore(project) as store, pytest.raises(CorruptStoreError, match="encryption_key"):
        store.quarantined("spend")


def test_quarantined_rows_in_clear_are_read_in_order(store: gr.FeatureStore) -> None:
    store.apply([spend_group(expectations={"amount": [gr.greater_than(8, policy="drop")]})])
    assert len(store.quarantined("spend")) == 0
    store.materialize()
    store.push("spend", [{"user_id": "u4", "at": at(11), "loaded": at(11), "amount": 1.0, "visits": 1}])
    assert store.quarantined("spend").polars["amount"].to_list() == [7.5, 1.0]
