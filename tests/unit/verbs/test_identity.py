"""Whose a registry is."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import grange as gr
from grange.errors import ConfigError
from grange.ports.plugins import create
from grange.ports.registry import Registry
from grange.verbs.identity import check_project, identity

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def registry(folder: Path, name: str = "registry") -> Registry:
    made: Registry = create("registries", "sql", {"url": f"sqlite:///{name}.db", "root": folder})
    return made


def test_a_registry_has_one_identity(tmp_path: Path) -> None:
    """The same whoever asks, also when many ask first; another registry has another."""
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: identity(registry(tmp_path), now=NOW), range(8)))
    assert len(found) == 1
    assert identity(registry(tmp_path, "other"), now=NOW) not in found


def test_the_first_project_has_the_registry(tmp_path: Path) -> None:
    check_project(registry(tmp_path), "shop", now=NOW)
    check_project(registry(tmp_path), "shop", now=NOW)
    with pytest.raises(ConfigError, match="another project than 'bank'") as caught:
        check_project(registry(tmp_path), "bank", now=NOW)
    assert "'shop'" in str(caught.value.found)


def store(folder: Path, settings: str = "") -> gr.FeatureStore:
    folder.mkdir(exist_ok=True)
    (folder / "grange.toml").write_text(settings)
    return gr.FeatureStore(folder, registry={"url": f"sqlite:///{folder.parent}/shared.db"})


def test_two_named_projects_cannot_share_a_registry(tmp_path: Path) -> None:
    """Else what one applies with prune removes what the other has."""
    shop, bank = store(tmp_path / "a", 'project = "shop"'), store(tmp_path / "b", 'project = "bank"')
    shop.apply(gr.Entity("user", join_keys={"user_id": "string"}))
    with pytest.raises(ConfigError, match="another project"):
        bank.apply([], prune=True)
    assert list(shop.catalog.entities) == ["user"]


def test_one_project_in_two_folders_shares_it(tmp_path: Path) -> None:
    """The name of a folder, which is all that there is without settings, says nothing."""
    one, other = store(tmp_path / "a"), store(tmp_path / "b")
    one.apply(gr.Entity("user", join_keys={"user_id": "string"}))
    assert list(other.catalog.entities) == ["user"]
