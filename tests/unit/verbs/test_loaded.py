"""What the runs say is loaded, compared with what the online store has: which groups are read, refused, or lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import at, shop, user

import grange as gr
from grange.errors import StateLostError, StoreUnavailableError, UnsupportedError
from grange.verbs import online
from grange.verbs.online import DOUBT_SECONDS, LONGEST_DOUBT_SECONDS, Readers, lost_groups

KEYS = [{"user_id": "u1", "shop_id": 1}]
NOW = at(20)
SOURCE = gr.FileSource("rows.parquet", event_time="at")
COUNT = gr.Rolling({"n": ["count"]}, windows=["36500d"])
CLICKS = gr.PushSource("clicks", schema={"user_id": "string", "at": "datetime", "n": "int64"}, event_time="at")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    rows = pl.DataFrame({"user_id": ["u1"], "shop_id": [1], "at": [at(1)], "n": [1]})
    rows.write_parquet(tmp_path / "rows.parquet")
    with gr.FeatureStore(tmp_path) as opened:
        yield opened


def group(name: str = "group", **options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, **{"entities": user, "source": SOURCE, **options})


def read(store: gr.FeatureStore, features: Any = "group") -> list[dict[str, Any]]:
    return store.get_online_features([features] if isinstance(features, str) else features, KEYS, now=NOW).to_dicts()


def lost(store: gr.FeatureStore) -> list[str]:
    return [group.name for group in lost_groups(store._parts, store.catalog.groups.values())]


def away(*args: Any, **options: Any) -> Any:
    raise StoreUnavailableError("the registry is away")


CHANGES = [
    pytest.param({}, {"entities": [user, shop]}, id="another entity key"),
    pytest.param({}, {"aggregations": [COUNT]}, id="windows over rows"),
    pytest.param({"aggregations": [COUNT]}, {}, id="rows without windows"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_group_that_is_read_from_another_place_is_not_loaded_and_not_lost(
    store: gr.FeatureStore, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """What it was loaded into is there, and is not where it is read from by now."""
    store.apply(group(**before))
    store.materialize()
    assert read(store)
    store.apply(group(**after))
    with pytest.raises(UnsupportedError, match="nothing of it was loaded"):
        read(store)
    assert not any("gone" in finding.problem for finding in store.verify())
    assert lost(store) == []
    store.materialize()
    assert read(store)


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_it_is_lost_when_that_which_it_is_read_from_goes(
    store: gr.FeatureStore, before: dict[str, Any], after: dict[str, Any]
) -> None:
    store.apply(group(**before))
    store.materialize()
    store.apply(group(**after))
    store.materialize()
    store._parts.online.drop(store.catalog.groups["group"].key_space, "group")
    with gr.FeatureStore(store.project) as fresh:
        with pytest.raises(StateLostError):
            read(fresh)
        assert lost(fresh) == ["group"]


class TestARegistryThatIsAway:
    @pytest.fixture(autouse=True)
    def filled(self, store: gr.FeatureStore) -> None:
        store.apply([group(), group("gone"), group("clicks_of", source=CLICKS)])
        store.materialize(["group", "gone"])
        store._parts.online.drop("user", "gone")

    @pytest.fixture
    def registry(self, store: gr.FeatureStore, filled: None, monkeypatch: pytest.MonkeyPatch) -> type:
        registry = type(store._parts.registry)
        for name in ("runs", "revisions"):
            monkeypatch.setattr(registry, name, away)
        return registry

    @pytest.mark.usefixtures("registry")
    def test_a_group_that_nobody_pushed_to_is_read(self, store: gr.FeatureStore) -> None:
        """That it rightly has nothing online its history says."""
        clicks = gr.select("clicks_of", "n", prefix="clicked_")
        assert read(store, ["group:n", clicks]) == [{"user_id": "u1", "n": 1, "clicked_n": None}]

    @pytest.mark.usefixtures("registry")
    def test_what_is_there_is_read_beside_what_nobody_can_say(self, store: gr.FeatureStore) -> None:
        with pytest.raises(StoreUnavailableError, match="registry is away") as caught:
            read(store, "gone:n")
        assert not isinstance(caught.value, StateLostError)
        view = gr.FeatureView("view", features=["group:n", gr.select("gone", "n", prefix="g_")], on_error="default")
        found = store.get_online_features(view, KEYS, now=NOW)
        assert found.degraded
        assert [(row["n"], row["g_n"]) for row in found.to_dicts()] == [(1, None)]

    def test_it_is_asked_less_and_less(
        self, store: gr.FeatureStore, registry: type, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By each request shape, until it answers; then the loss is told, and looked at often."""
        clock = Clock()
        readers = Readers(store._parts, store.catalog, clock)
        pauses = [clock.until_another(readers) for _ in range(7)]
        assert pauses == [min(DOUBT_SECONDS * 2**n, LONGEST_DOUBT_SECONDS) for n in range(7)]
        monkeypatch.undo()
        clock.until_another(readers)
        assert clock.until_another(readers) == DOUBT_SECONDS
        with pytest.raises(StateLostError):
            readers.get(["gone:n"], full_feature_names=False).read(KEYS, 0)

    def test_one_that_is_slow_is_asked_seldom(self, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look may be where others wait for it."""
        clock = Clock()
        loaded = online.loaded_rows

        def slow(*args: Any) -> bool | None:
            clock.now += 0.25
            return loaded(*args)

        monkeypatch.setattr(online, "loaded_rows", slow)
        assert clock.until_another(Readers(store._parts, store.catalog, clock)) == 2.5


class Clock:
    """Time as a test has it pass."""

    STEP = 1 / 64

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def until_another(self, readers: Readers) -> float:
        """How long the reader of one request is used."""
        first = readers.get(["gone:n"], full_feature_names=False)
        began = asked = self.now
        while readers.get(["gone:n"], full_feature_names=False) is first:
            self.now += self.STEP
            asked = self.now
        return asked - began


@pytest.mark.parametrize("windows", [False, True])
def test_what_is_loaded_while_it_is_looked_for_is_no_loss(
    store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    """The store is asked, then the runs: in between the first rows may come."""
    store.apply(group(aggregations=[COUNT] if windows else []))
    backend = type(store._parts.online)
    info = backend.info
    asked = []

    def between(self: Any) -> Any:
        found = info(self)
        if not asked:
            asked.append(found)
            store.materialize()
        return found

    for look in (lost, lambda store: [each.problem for each in store.verify()], lambda store: [*read(store)[1:]]):
        store._parts.online.drop("user", "group")
        asked.clear()
        with monkeypatch.context() as patched, gr.FeatureStore(store.project) as fresh:
            fresh.catalog  # noqa: B018 - opens the registry
            patched.setattr(backend, "info", between)
            assert look(fresh) == []
        assert asked == [()]
