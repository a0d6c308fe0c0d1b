"""The applied definitions as a process knows them, while others change them and the registry comes and goes."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import SPEND, at, spend_group

import grange as gr
from grange.errors import (
    CorruptStoreError,
    RequestError,
    StoreUnavailableError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
    UnsupportedError,
)

ROWS = [{"user_id": "u1"}, {"user_id": "nobody"}]
NEVER = 3600.0
"""A thread that looks so seldom does not look during a test."""


def view(name: str = "churn", number: int = 1, **options: Any) -> gr.FeatureView:
    derived = {"number": f"CASE WHEN visits IS NULL THEN {number} ELSE {number} END"}
    return gr.FeatureView(name, features=["spend:visits"], derived=derived, **options)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    SPEND.write_parquet(tmp_path / "data" / "spend.parquet")
    (tmp_path / "grange.toml").write_text('project = "shop"\n')
    with gr.FeatureStore(tmp_path) as store:
        store.apply([spend_group(), view(), view("other")])
        store.materialize()
    return tmp_path


@pytest.fixture
def store(project: Path) -> Iterator[gr.FeatureStore]:
    """What serves."""
    with gr.FeatureStore(project) as opened:
        yield opened


@pytest.fixture
def elsewhere(project: Path) -> Iterator[gr.FeatureStore]:
    """What another process changes things by."""
    with gr.FeatureStore(project) as opened:
        yield opened


def read(store: gr.FeatureStore, features: Any = "churn") -> list[Any]:
    return [vector["number"] for vector in store.get_online_features(features, ROWS, now=at(20)).to_dicts()]


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def look(store: gr.FeatureStore) -> None:
    """What the thread does, now."""
    store._definitions.confirm()


def untouchable(monkeypatch: pytest.MonkeyPatch, part: object, *names: str) -> None:
    """Calls that nobody may make from here on."""

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("touched")

    for name in names:
        monkeypatch.setattr(type(part), name, touched)


def threads() -> int:
    return sum(thread.name == "grange-definitions" for thread in threading.enumerate())


# --- what a request pays -------------------------------------------------------------------------------------


def test_no_request_touches_the_registry(store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep_fresh(NEVER)
    assert read(store) == [1, 1]

    untouchable(monkeypatch, store._parts.registry, "revision", "state", "runs", "revisions", "get", "documents")
    moment = time.monotonic() + NEVER / 2
    monkeypatch.setattr(store._definitions, "_clock", lambda: moment)  # much later
    assert read(store) == [1, 1]
    assert store.get_historical_features("other", [{"user_id": "u1", "event_time": at(20)}]).to_polars().height == 1


def test_without_it_a_request_looks_once_a_second(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(store) == [1, 1]
    moment = store._definitions._known.confirmed  # type: ignore[union-attr]
    elsewhere.apply([view(number=2)])

    monkeypatch.setattr(store._definitions, "_clock", lambda: moment + 1.0)
    assert read(store) == [1, 1]
    monkeypatch.setattr(store._definitions, "_clock", lambda: moment + 1.1)
    assert read(store) == [2, 2]


def test_readers_in_use_are_made_before_the_new_definitions_take_their_place(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making one looks into history and into the online store; no request does."""
    store.keep_fresh(NEVER)
    assert read(store) == [1, 1]
    elsewhere.apply([view(number=2)])
    look(store)

    untouchable(monkeypatch, store._parts.registry, "revision", "state", "runs", "revisions")
    untouchable(monkeypatch, store._parts.offline, "versions", "meta")
    untouchable(monkeypatch, store._parts.online, "info")
    assert read(store) == [2, 2]
    with pytest.raises(AssertionError, match="touched"):
        read(store, "other")  # which nobody asked for before


def test_readers_of_what_did_not_change_are_kept(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    def reader(features: str) -> object:
        known = store._definitions.current()
        return known.online_readers(store._parts).get(features, full_feature_names=False)

    store.keep_fresh(NEVER)
    before = {name: reader(name) for name in ("churn", "other", "spend:amount")}
    elsewhere.apply([view(number=2), gr.FeatureView("third", features=["spend"])])
    look(store)

    assert "third" in store.catalog.views
    after = {name: reader(name) for name in before}
    assert {name for name in before if before[name] is not after[name]} == {"churn"}


def test_a_change_below_a_view_is_a_change_of_the_view(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    elsewhere.apply([gr.FeatureView("outer", features=["churn"]), spend_group(defaults={"visits": 7})])
    store.keep_fresh(NEVER)
    assert read(store, "outer") == [1, 1]
    assert read(store, ["churn"]) == [1, 1]

    elsewhere.apply([view(number=2), spend_group(defaults={"visits": 8})])
    look(store)
    assert read(store, "outer") == [2, 2]
    assert read(store, ["churn"]) == [2, 2]
    served = store.get_online_features("outer", ROWS, now=at(20)).to_dicts()
    assert [vector["visits"] for vector in served] == [3, 8]


def test_a_view_that_is_gone_is_unknown_and_the_others_are_served(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore
) -> None:
    store.keep_fresh(NEVER)
    assert read(store) == read(store, "other") == [1, 1]
    elsewhere.delete("other")
    look(store)

    assert read(store) == [1, 1]
    with pytest.raises(UnknownFeatureViewError):
        read(store, "other")


def test_a_request_that_has_begun_sees_one_state_to_its_end(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    store.keep_fresh(NEVER)
    known = store._definitions.current()
    elsewhere.apply([view(number=2)])
    look(store)

    assert known.catalog.views["churn"].derived != store.catalog.views["churn"].derived
    assert known.online_readers(store._parts).catalog is known.catalog
    assert store._definitions.current().online_readers(store._parts).catalog is store.catalog


# --- who changes something -----------------------------------------------------------------------------------


def test_a_process_sees_its_own_changes_at_once(store: gr.FeatureStore) -> None:
    store.keep_fresh(NEVER)
    assert read(store) == [1, 1]

    store.apply([view(number=2)])
    assert read(store) == [2, 2]
    store.delete("churn")
    with pytest.raises(UnknownFeatureViewError):
        read(store)
    store.delete("spend", cascade=True)
    with pytest.raises(UnknownFeatureGroupError):
        read(store, ["spend"])


def test_what_writes_sees_what_others_changed_at_once(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    store.keep_fresh(NEVER)
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    elsewhere.apply([gr.FeatureGroup("more", entities=gr.Entity("user", join_keys=["user_id"]), source=source)])

    assert [done.group for done in store.materialize("more")] == ["more"]


def test_the_thread_sees_what_others_change(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    store.keep_fresh(0.01)
    for number in (2, 3, 4):
        elsewhere.apply([view(number=number)])
        until(lambda number=number: read(store) == [number, number])  # type: ignore[misc]


def test_a_change_is_seen_by_who_made_it_while_another_thread_looks(
    store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that read the registry before the change, and is done with that after it."""
    has_read, may_go_on = threading.Event(), threading.Event()
    state = type(store._parts.registry).state

    def slow(registry: Any) -> Any:
        found = state(registry)
        if threading.current_thread().name == "slow":
            has_read.set()
            assert may_go_on.wait(30)
        return found

    monkeypatch.setattr(type(store._parts.registry), "state", slow)
    looking = threading.Thread(target=lambda: store.catalog, name="slow")
    looking.start()
    assert has_read.wait(30)
    changing = threading.Thread(target=lambda: store.apply([view("new")]), name="changing")
    changing.start()
    until(lambda: not changing.is_alive() or bool(store._definitions._changes))
    may_go_on.set()
    looking.join(30)
    changing.join(30)
    monkeypatch.setattr(store._definitions, "_clock", lambda: 0.0)  # nobody looks because time went by
    assert "new" in store.catalog.views


# --- what is served goes away --------------------------------------------------------------------------------


def test_readers_of_what_was_taken_away_elsewhere_say_so(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, project: Path
) -> None:
    """A rollback to what cannot be served leaves nothing online: no reader may say that there is no such entity."""
    retyped = SPEND.with_columns(pl.col("visits").cast(pl.String))
    retyped.write_parquet(project / "data" / "spend.parquet")
    elsewhere.delete("other", cascade=True)
    elsewhere.delete("churn")
    elsewhere.apply([spend_group(schema={"visits": "string"})])
    elsewhere.materialize("spend")
    store.keep_fresh(NEVER)
    with gr.FeatureStore(project) as third:
        for reading in (store, third):
            (found, _) = reading.get_online_features(["spend:visits"], ROWS, now=at(20)).statuses
            assert found == {"visits": "PRESENT"}

        assert elsewhere.rollback("spend", "1.0.0").online_rows is None
        look(store)
        look(third)
        for reading in (store, third, elsewhere):
            with pytest.raises(UnsupportedError, match="spend"):
                reading.get_online_features(["spend:visits"], ROWS, now=at(20))


def test_new_definitions_are_taken_while_history_is_away(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What depends on no store is known at once: tags, by which policies go, and what is gone. Views that did not
    change are served as before; the reader of one that did is made when history is there again."""
    store.keep_fresh(NEVER)
    assert read(store) == read(store, "other") == [1, 1]
    elsewhere.apply([view(number=2, tags={"pii": "true"})])

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        for name in ("versions", "meta", "next_pushed"):
            patch.setattr(type(store._parts.offline), name, away)
        look(store)
        assert dict(store.catalog.views["churn"].tags) == {"pii": "true"}
        assert read(store, "other") == [1, 1]
        with pytest.raises(StoreUnavailableError, match="away"):
            read(store)
    assert read(store) == [2, 2]


# --- the registry goes away ----------------------------------------------------------------------------------


def test_reads_go_on_without_the_registry(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="grange.definitions")
    assert store.definitions_age == inf
    store.keep_fresh(0.01)
    assert read(store) == [1, 1]
    elsewhere.close()
    file = project / ".grange" / "registry.db"
    file.rename(file.with_name("away.db"))

    until(lambda: len(caplog.records) == 1)
    until(lambda: store.definitions_age > 0.3)
    assert read(store) == [1, 1]
    assert read(store, "other") == [1, 1], "one that was not asked for before"
    for write in (lambda: store.apply([view(number=2)]), lambda: store.materialize(), lambda: store.delete("churn")):
        with pytest.raises(StoreUnavailableError):
            write()

    file.with_name("away.db").rename(file)
    until(lambda: len(caplog.records) == 2)
    assert store.definitions_age < 10
    store.apply([view(number=2)])
    assert read(store) == [2, 2]
    assert [entry.levelname for entry in caplog.records] == ["WARNING", "INFO"]
    assert "is gone" in caplog.records[0].message


def test_a_registry_that_is_away_at_the_start_is_an_outage(project: Path) -> None:
    with gr.FeatureStore(project, registry={"type": "sql", "url": "sqlite:///grange.toml/registry.db"}) as store:
        with pytest.raises(StoreUnavailableError):
            store.keep_fresh()
        assert threads() == 0


def test_a_change_whose_confirmation_fails_is_made(store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry went away right after the commit."""
    store.keep_fresh(NEVER)
    assert read(store) == [1, 1]
    registry = store._parts.registry
    commit = type(registry).commit

    def gone(*_: object) -> None:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:

        def commit_and_go(*arguments: Any, **options: Any) -> int:
            patch.setattr(type(registry), "state", gone)
            return commit(*arguments, **options)

        patch.setattr(type(registry), "commit", commit_and_go)
        store.apply([view(number=2)])
        assert read(store) == [1, 1]
    look(store)
    assert read(store) == [2, 2]


def test_definitions_that_cannot_be_read_leave_the_known_ones(
    store: gr.FeatureStore,
    elsewhere: gr.FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a newer Grange may write them."""
    store.keep_fresh(0.01)
    assert read(store) == [1, 1]

    def unreadable(*_: object) -> None:
        raise CorruptStoreError("of another form")

    with monkeypatch.context() as patch:
        patch.setattr("grange.verbs.watching.catalog_of", unreadable)
        elsewhere.apply([view(number=2)])
        until(lambda: len(caplog.records) == 1)
        assert read(store) == [1, 1]
    until(lambda: read(store) == [2, 2])
    assert "of another form" in caplog.records[0].message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_thread_is_not_served_over(
    store: gr.FeatureStore, elsewhere: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks meets it, instead of definitions that get old unnoticed."""
    store.keep_fresh(0.01)
    assert read(store) == [1, 1]

    def wrong(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("grange.verbs.watching.catalog_of", wrong)
        elsewhere.apply([view(number=2)])
        until(lambda: threads() == 0)
        patch.setattr(store._definitions, "_clock", lambda: time.monotonic() + 2)
        with pytest.raises(RuntimeError, match="a bug"):
            read(store)
    until(lambda: read(store) == [2, 2])


# --- beginning and ending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, -1.0, inf, float("nan")])
def test_a_pause_that_is_none_is_refused(store: gr.FeatureStore, every: float) -> None:
    with pytest.raises(RequestError):
        store.keep_fresh(every)
    assert threads() == 0


def test_it_can_be_told_again_and_ends_with_the_store(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    store.keep_fresh(NEVER)
    store.keep_fresh(0.01)
    assert threads() == 1
    elsewhere.apply([view(number=2)])
    until(lambda: read(store) == [2, 2])

    store.close()
    store.close()
    assert threads() == 0
    assert store.definitions_age == inf
    assert read(store) == [2, 2], "a closed store opens again, without the thread"
    assert threads() == 0


def test_a_store_that_nobody_has_any_more_ends_its_thread(project: Path) -> None:
    store = gr.FeatureStore(project)
    store.keep_fresh(0.01)
    kept = weakref.ref(store)
    store._parts.close()
    del store

    def is_gone() -> bool:
        gc.collect()
        return kept() is None and threads() == 0

    until(is_gone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is needed")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_fresh_too(store: gr.FeatureStore, elsewhere: gr.FeatureStore) -> None:
    store.keep_fresh(0.01)
    assert read(store) == [1, 1]
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert read(store) == [1, 1]
            os.write(tells, b"r")
            until(lambda: read(store) == [2, 2])
            code = 0 if threads() == 1 else 2
        finally:
            os._exit(code)
    os.close(tells)
    assert os.read(told, 1) == b"r"
    os.close(told)
    elsewhere.apply([view(number=2)])
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    until(lambda: read(store) == [2, 2])
