"""A server with keys: who asks, what they may, and what is hidden from them."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.conftest import Served, load, make_project

import grange as gr
from grange.errors import ForbiddenError, UnauthenticatedError
from grange.remote.address import KEY_VARIABLE
from grange.security.policies import Policy

ROWS = [{"user_id": "u1", "shop_id": 1}]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A server whose URL everybody has, and keys by role. Viewers do not see what a user spends."""
    folder: Path = make_project(tmp_path_factory.mktemp("guarded") / "shop", "shop")
    now = dt.datetime.now(dt.UTC)
    with gr.FeatureStore(folder) as store:
        load(store)
        keys = {role: store.security.keys.create(role, role=role, now=now).text for role in ("admin", "viewer")}
        store.security.policies.create(
            Policy("hidden", "mask", to=("role:viewer",), on=("feature:spend:visits",)), now=now
        )
    served = Served(folder)
    try:
        yield served.url, keys
    finally:
        served.stop(signal.SIGKILL)


@pytest.mark.parametrize("key", [None, "gk_wrong", "wrong"])
def test_who_is_not_known_is_told_so(guarded: tuple[str, dict[str, str]], key: str | None) -> None:
    with gr.FeatureStore(guarded[0], key=key) as store, pytest.raises(UnauthenticatedError) as refused:
        store.get_online_features("shopping", ROWS)

    assert not key or key not in str(refused.value)


def test_the_key_of_the_environment_opens_the_server(
    guarded: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, guarded[1]["admin"])
    with gr.FeatureStore(guarded[0]) as store:
        assert store.materialize("spend")[0].version == "1.0.0"


def test_who_may_not_is_told_so_and_nothing_happens(guarded: tuple[str, dict[str, str]]) -> None:
    url, keys = guarded
    with gr.FeatureStore(url, key=keys["viewer"]) as store:
        with pytest.raises(ForbiddenError):
            store.push("clicks", [{"user_id": "u1", "at": "2026-03-12", "page": "x", "n": 1}])
        with pytest.raises(ForbiddenError):
            store.delete("careful")
    with gr.FeatureStore(url, key=keys["admin"]) as store:
        assert len(store.read("clicks")) == 2
        assert "careful" in store.catalog.views


def test_what_a_policy_masks_is_null_and_says_so(guarded: tuple[str, dict[str, str]]) -> None:
    url, keys = guarded
    with gr.FeatureStore(url, key=keys["viewer"]) as store:
        found = store.get_online_features("shopping", ROWS)
        joined = store.get_historical_features(["spend"], [{"user_id": "u1", "event_time": "2026-03-11"}])

    assert found.to_dicts()[0]["visits"] is None
    assert found.statuses[0]["visits"] == "MASKED"
    assert found.masked == {"visits"}
    assert joined.to_polars()["visits"].to_list() == [None]
    with gr.FeatureStore(url, key=keys["admin"]) as store:
        assert store.get_online_features("shopping", ROWS).to_dicts()[0]["visits"] == 3


@pytest.mark.parametrize(
    "options",
    [{"rename": {"visits": "times"}}, {"prefix": "own_"}, {"rename": {"visits": "times"}, "version": "1.0.0"}],
)
def test_another_name_shows_nothing_that_is_masked(
    guarded: tuple[str, dict[str, str]], options: dict[str, Any]
) -> None:
    url, keys = guarded
    selection = gr.select("spend", "amount", "visits", **options)
    name, spine = selection.output_name("visits"), [{"user_id": "u1", "event_time": "2026-03-11"}]
    with gr.FeatureStore(url, key=keys["admin"]) as store:
        assert store.get_online_features([selection], ROWS).to_dicts()[0][name] == 3
        assert store.get_historical_features([selection], spine).to_polars()[name].to_list() == [3]
    with gr.FeatureStore(url, key=keys["viewer"]) as store:
        found = store.get_online_features([selection], ROWS)
        joined = store.get_historical_features([selection], spine)
    assert (found.to_dicts()[0][name], found.statuses[0][name], found.event_times[0][name]) == (None, "MASKED", None)
    assert (found.masked, found.to_arrow()[name].null_count) == ({name}, 1)
    assert joined.to_polars()[name].to_list() == [None]
