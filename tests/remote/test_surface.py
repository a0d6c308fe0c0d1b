"""The remote stores have the verbs of the embedded one: each, with the same arguments, and no others."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import grange as gr
from grange.remote.stores import RemoteFeatureStore

LOCAL = {"keep_fresh", "definitions_age", "security", "origins", "log_served", "quarantined", "reseal"}
"""What only whoever holds the stores has: keeping definitions fresh in a server, keys and policies, and what policies
are asked about, keeping what was served, rows that were kept out and may be sealed, the keys that seal."""
EMBEDDED = {name for name in vars(gr.FeatureStore) if not name.startswith("_")} - LOCAL


def arguments(verb: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """The parameters of a verb behind `self`, or behind the session, with kinds and defaults."""
    return [(item.name, item.kind, item.default) for item in list(inspect.signature(verb).parameters.values())[1:]]


@pytest.mark.parametrize("remote", [RemoteFeatureStore, gr.AsyncFeatureStore])
def test_every_verb_is_there_and_no_other(remote: type) -> None:
    assert {name for name in vars(remote) if not name.startswith("_")} == EMBEDDED


@pytest.mark.parametrize("name", sorted(name for name in EMBEDDED if name != "catalog"))
@pytest.mark.parametrize("remote", [RemoteFeatureStore, gr.AsyncFeatureStore])
def test_every_verb_takes_what_the_embedded_one_takes(remote: type, name: str) -> None:
    assert arguments(getattr(remote, name)) == arguments(getattr(gr.FeatureStore, name))


def test_verbs_of_the_async_store_are_coroutines() -> None:
    waiting = {name for name in EMBEDDED if name != "catalog"}

    assert all(inspect.iscoroutinefunction(getattr(gr.AsyncFeatureStore, name)) for name in waiting)


def test_what_only_servers_have_says_so() -> None:
    with gr.FeatureStore("https://features.example.com") as remote:
        assert not any(hasattr(remote, name) for name in (*LOCAL, "config", "no_such_verb"))
        with pytest.raises(gr.GrangeError, match="that is the server's"):
            _ = remote.security


def test_a_url_makes_a_remote_store_and_a_folder_an_embedded_one(tmp_path: Any) -> None:
    with gr.FeatureStore("https://features.example.com") as remote, gr.FeatureStore(tmp_path) as embedded:
        assert isinstance(remote, RemoteFeatureStore)
        assert isinstance(embedded, gr.FeatureStore)


def test_an_embedded_store_loads_nothing_of_the_network() -> None:
    code = "import sys, grange; grange.FeatureStore; print(*{'httpx', 'ssl', 'http.client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
