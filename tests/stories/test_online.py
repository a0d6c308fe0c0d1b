"""Served features: what is never served, what is refused before it is read, and rows in any form."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from tests.shop import at, spend_group, user

import grange as gr
from grange.errors import (
    ColumnTypeError,
    DefinitionError,
    KeyTypeError,
    NameCollisionError,
    RequestError,
    StateLostError,
    UnknownVersionError,
    UnsupportedError,
)

NOW = at(20)
ROW = [{"user_id": "u1"}]
SPINE = [{"user_id": "u1", "event_time": NOW}]


def table(name: str = "g", *, value: Any = 1, **options: Any) -> gr.FeatureGroup:
    rows = pl.DataFrame({"user_id": ["u1"], "at": [at(1)], "x": [value], "target": [7]})
    return gr.FeatureGroup(
        name, entities=user, source=gr.TableSource(rows, event_time="at", name=f"{name}_rows"), **options
    )


def pushed(dtype: str, **options: Any) -> gr.FeatureGroup:
    source = gr.PushSource("clicks", schema={"user_id": "string", "at": "datetime", "n": dtype}, event_time="at")
    return gr.FeatureGroup("clicks_by_user", entities=user, source=source, **options)


def serve(store: gr.FeatureStore, features: Any, rows: Any = ROW) -> list[dict[str, Any]]:
    return store.get_online_features(features, rows, now=NOW).to_dicts()


class TestLabels:
    def test_a_label_is_trained_on_and_never_served(self, store: gr.FeatureStore) -> None:
        """Also when its group is selected whole; in training data it comes once, as the label."""
        store.apply([table(), gr.FeatureView("v", features=["g"], labels=["g:target"])])
        store.materialize("g")
        assert serve(store, "v") == [{"user_id": "u1", "x": 1}]
        train = store.get_historical_features("v", SPINE)
        assert train.feature_names == ("x", "target")
        assert train.to_polars().row(0) == ("u1", NOW, 1, 7)

    def test_a_label_among_the_features_is_refused_at_apply(self, store: gr.FeatureStore) -> None:
        with pytest.raises(DefinitionError, match="both a feature and a label"):
            store.apply([table(), gr.FeatureView("v", features=["g:x", "g:target"], labels=["g:target"])])
        assert not store.catalog.views


class TestNames:
    def test_collisions_are_refused_at_apply(self, store: gr.FeatureStore) -> None:
        """Two groups' features, a feature and a request column, a feature and a key."""
        amount = gr.RequestSource("request", schema={"x": "string"})
        store.apply([table("g"), table("h")])
        for view in (
            gr.FeatureView("v", features=["g", "h"]),
            gr.FeatureView("v", features=["g:x"], requests=amount),
            gr.FeatureView("v", features=[gr.select("g", "x", rename={"x": "user_id"})]),
        ):
            with pytest.raises(NameCollisionError) as caught:
                store.apply([view])
            assert "prefix=" in str(caught.value)
        store.apply([gr.FeatureView("v", features=["g", gr.select("h", prefix="h_")])])

    def test_a_new_column_that_collides_is_refused_at_apply(self, store: gr.FeatureStore) -> None:
        """A group that grows into a name of another group of an applied view."""
        store.apply([pushed("int64"), table(), gr.FeatureView("v", features=["clicks_by_user", "g"])])
        grown = gr.PushSource(
            "clicks", schema={"user_id": "string", "at": "datetime", "n": "int64", "x": "int64"}, event_time="at"
        )
        with pytest.raises(NameCollisionError, match="'x'"):
            store.apply([gr.FeatureGroup("clicks_by_user", entities=user, source=grown)])

    def test_collisions_of_a_list_are_refused_online(self, store: gr.FeatureStore) -> None:
        store.apply([table()])
        store.materialize()
        with pytest.raises(NameCollisionError, match="join key"):
            serve(store, [gr.select("g", "x", rename={"x": "user_id"})])
        with pytest.raises(NameCollisionError, match="strictly before"):
            serve(store, ["g:x", gr.select("g", "x", exact_matches=False)])


class TestViews:
    def test_views_of_one_name_are_told_apart(self, store: gr.FeatureStore) -> None:
        """Unapplied ones by what they say; and one that differs from the applied one is used as it is."""
        store.apply([table(), gr.FeatureView("v", features=["g:x"])])
        store.materialize()
        one = gr.FeatureView("w", features=["g:x"])
        two = gr.FeatureView("w", features=[gr.select("g", "x", rename={"x": "other"})])
        changed = gr.FeatureView("v", features=["g:target"])
        assert [serve(store, view) for view in (one, two, "v", changed, [changed])] == [
            [{"user_id": "u1", name: value}]
            for name, value in (("x", 1), ("other", 1), ("x", 1), ("target", 7), ("target", 7))
        ]
        assert store.get_historical_features(changed, SPINE).feature_names == ("target",)
        assert store.get_historical_features("v", SPINE).feature_names == ("x",)


class TestVersions:
    def test_a_pinned_version_is_served_while_it_is_the_one_loaded(self, store: gr.FeatureStore) -> None:
        """An online store holds the latest state alone: another version is refused, before any work."""
        store.apply([table(value=1)])
        store.materialize()
        for features in (["g@1.0.0:x"], [("g", "1.0.0")], [["g", "1.0.0"]], "g@1.0.0:x"):
            assert serve(store, features)[0]["x"] == 1
        store.apply([table(value=2)])
        assert serve(store, ["g@1.0.0:x"])[0]["x"] == 1, "applied, and not loaded yet"
        store.materialize()
        with pytest.raises(UnsupportedError, match=r"1\.0\.0") as caught:
            serve(store, ["g@1.0.0:x"])
        assert "version 1.0.1" in str(caught.value)
        assert serve(store, ["g@1.0.1:x"])[0]["x"] == 2
        assert store.get_historical_features(["g@1.0.0:x"], SPINE).to_polars()["x"].to_list() == [1]

    def test_a_version_that_there_is_not(self, store: gr.FeatureStore) -> None:
        store.apply([table()])
        store.materialize()
        with pytest.raises(UnknownVersionError, match=r"7\.0\.0") as caught:
            serve(store, ["g@7.0.0:x"])
        assert "1.0.0" in str(caught.value)
        with pytest.raises(UnknownVersionError):
            store.explain_online(["g@7.0.0:x"])

    def test_a_version_that_was_not_loaded(self, store: gr.FeatureStore) -> None:
        store.apply([table(value=1)])
        store.materialize()
        store.apply([table(value=2)])
        store.materialize(online=False)
        assert serve(store, ["g@1.0.0:x"])[0]["x"] == 1
        with pytest.raises(UnsupportedError, match=r"1\.0\.1"):
            serve(store, ["g@1.0.1:x"])

    def test_a_deleted_version_gives_way(self, store: gr.FeatureStore) -> None:
        """What is loaded then is the version before it."""
        store.apply([table(value=1)])
        store.materialize()
        store.apply([table(value=2)])
        store.materialize()
        store.delete("g", version="1.0.1")
        assert serve(store, ["g@1.0.0:x"])[0]["x"] == 1
        with pytest.raises(UnknownVersionError):
            serve(store, ["g@1.0.1:x"])

    def test_pushed_rows_are_of_no_version(self, store: gr.FeatureStore) -> None:
        """After a push the state is not that of a version, until the next one is loaded."""
        store.apply([pushed("int64")])
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": 1}])
        store.materialize()
        assert serve(store, ["clicks_by_user@1.0.0:n"])[0]["n"] == 1
        store.push("clicks", [{"user_id": "u1", "at": at(2), "n": 2}])
        with pytest.raises(UnsupportedError, match="not what is served") as caught:
            serve(store, ["clicks_by_user@1.0.0:n"])
        assert "pushed since" in str(caught.value)
        store.materialize()
        assert serve(store, ["clicks_by_user:n"])[0]["n"] == 2
        latest = store.versions("clicks_by_user")[-1].version
        assert serve(store, [f"clicks_by_user@{latest}:n"])[0]["n"] == 2

    def test_a_pinned_version_has_its_own_columns(self, store: gr.FeatureStore) -> None:
        """The loaded version answers with what it has, also once the definition has moved on."""
        store.apply([pushed("int64")])
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": 1}])
        store.materialize()
        store.apply([pushed("float64")])
        assert serve(store, ["clicks_by_user@1.0.0:n"])[0]["n"] == 1
        with pytest.raises(UnsupportedError, match="stored as int64 and defined as float64"):
            serve(store, ["clicks_by_user:n"])


class TestWhatIsServed:
    def test_a_group_that_is_not_online(self, store: gr.FeatureStore) -> None:
        store.apply([table(online=False)])
        store.materialize()
        with pytest.raises(UnsupportedError, match="'g' is not served online") as caught:
            serve(store, ["g"])
        assert "online=True" in str(caught.value)

    def test_history_that_was_never_loaded(self, store: gr.FeatureStore) -> None:
        """Not everybody is unknown: nobody was loaded."""
        store.apply([table()])
        store.materialize(online=False)
        with pytest.raises(UnsupportedError, match="nothing of it was loaded") as caught:
            serve(store, ["g"])
        assert "grange materialize g" in str(caught.value)
        store.materialize()
        assert serve(store, ["g:x"]) == [{"user_id": "u1", "x": 1}]

    def test_a_store_of_one_process_says_that_it_is_empty(self, project: Path) -> None:
        with gr.FeatureStore(project, online="memory") as store:
            store.apply([spend_group()])
            store.materialize()
            assert serve(store, ["spend:amount"])[0]["user_id"] == "u1"
        with (
            gr.FeatureStore(project, online="memory") as store,
            pytest.raises(StateLostError, match="grange materialize spend"),
        ):
            serve(store, ["spend:amount"])

    def test_a_group_that_nobody_pushed_to_knows_nobody(self, store: gr.FeatureStore) -> None:
        """That is no mistake: NOT_FOUND, until somebody does (ONL-3)."""
        store.apply([pushed("int64")])
        found = store.get_online_features(["clicks_by_user"], ROW, now=NOW)
        assert found.statuses == [{"n": "NOT_FOUND"}]
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": 1}])
        assert serve(store, ["clicks_by_user"]) == [{"user_id": "u1", "n": 1}]

    def test_a_load_of_no_rows_is_a_load(self, store: gr.FeatureStore) -> None:
        """All of its rows are in the future: nobody has a value yet, rightly."""
        rows = pl.DataFrame({"user_id": ["u1"], "at": [at(1).replace(year=2100)], "x": [1]})
        source = gr.TableSource(rows, event_time="at", name="later")
        store.apply([gr.FeatureGroup("later", entities=user, source=source)])
        store.materialize()
        assert serve(store, ["later"]) == [{"user_id": "u1", "x": None}]


class TestTypes:
    @pytest.mark.parametrize(
        ("before", "after", "value", "found"),
        [
            ("int64", "int32", 1, None),
            ("int64", "float64", 1, None),
            ("int32", "int64", 1, 1),
        ],
    )
    def test_a_value_of_another_type_is_not_found(
        self, store: gr.FeatureStore, before: str, after: str, value: Any, found: Any
    ) -> None:
        """After a change of type and before the next materialize; a wider integer is the same value."""
        store.apply([pushed(before)])
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": value}])
        store.apply([pushed(after)])
        answer = store.get_online_features(["clicks_by_user"], ROW, now=NOW)
        assert answer.to_dicts() == [{"user_id": "u1", "n": found}]
        assert answer.statuses == [{"n": "NOT_FOUND" if found is None else "PRESENT"}]
        assert answer.to_arrow()["n"].to_pylist() == [found]

    def test_a_default_stands_in(self, store: gr.FeatureStore) -> None:
        """As for every value that is not there (ONL-5)."""
        store.apply([pushed("int64")])
        store.push("clicks", [{"user_id": "u1", "at": at(1), "n": 1}])
        store.apply([pushed("float64", defaults={"n": -1.0})])
        assert serve(store, ["clicks_by_user"]) == [{"user_id": "u1", "n": -1.0}]
        store.push("clicks", [{"user_id": "u1", "at": at(2), "n": 2.0}])
        assert serve(store, ["clicks_by_user"]) == [{"user_id": "u1", "n": 2.0}]


class TestRequests:
    def test_what_names_no_features(self, store: gr.FeatureStore) -> None:
        """Online and historical alike."""
        store.apply([table()])
        store.materialize()
        wrong: list[Any] = [None, [], {"g"}, {"g": 1}, 5, iter(["g"]), ["g", "1.0.0"], [None], [["g"]], pl.DataFrame()]
        for features in wrong:
            with pytest.raises(RequestError) as caught:
                serve(store, features)
            assert caught.value.try_
            with pytest.raises(RequestError):
                store.get_historical_features(features, SPINE)

    def test_what_are_no_rows(self, store: gr.FeatureStore) -> None:
        """With request columns, which are looked at first, and without."""
        request = gr.RequestSource("request", schema={"amount": "float64"})
        plain = gr.FeatureView("plain", features=["g:x"])
        store.apply([table(), plain, gr.FeatureView("with_request", features=["g:x"], requests=request)])
        store.materialize()
        wrong: list[Any] = [None, 5, {"user_id": "u1"}, {"user_id": ["u1"]}, "u1", b"u1", [1], ["u1"], [None], {1}]
        for rows in wrong:
            for view in ("plain", "with_request"):
                with pytest.raises(RequestError) as caught:
                    serve(store, view, rows)
                assert caught.value.found

    def test_rows_in_any_form(self, store: gr.FeatureStore) -> None:
        """Frames of Polars, pandas and Arrow, a tuple, an iterator; each is read once."""
        store.apply([table()])
        store.materialize()
        rows = [{"user_id": "u1"}, {"user_id": "u9"}]
        expected = [{"user_id": "u1", "x": 1}, {"user_id": "u9", "x": None}]
        frame = pl.DataFrame(rows)
        for form in (rows, tuple(rows), iter(rows), frame, frame.lazy(), frame.to_arrow(), pd.DataFrame(rows)):
            answer = store.get_online_features(["g:x"], form, now=NOW)
            assert answer.to_dicts() == answer.to_dicts() == expected
            assert len(answer) == 2

    def test_frames_are_typed_like_rows(self, store: gr.FeatureStore) -> None:
        store.apply([table()])
        store.materialize()
        with pytest.raises(KeyTypeError):
            serve(store, ["g:x"], pl.DataFrame({"user_id": [1]}))
        view = gr.FeatureView("v", features=["g:x"], requests=gr.RequestSource("r", schema={"amount": "float64"}))
        with pytest.raises(ColumnTypeError):
            serve(store, view, pl.DataFrame({"user_id": ["u1"], "amount": ["1"]}))


def test_readers_follow_the_definitions_under_concurrent_applies(store: gr.FeatureStore) -> None:
    """A thread that reads while another one applies never keeps a reader of definitions that are gone."""
    store.apply([table(), gr.FeatureView("v", features=["g:x"])])
    store.materialize()
    stop = threading.Event()
    seen: list[set[str]] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                seen.append(set(serve(store, "v")[0]))
        except BaseException as error:
            failures.append(error)
            raise

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(20):
            name = f"x{turn}"
            store.apply([gr.FeatureView("v", features=[gr.select("g", "x", rename={"x": name})])])
            assert set(serve(store, "v")[0]) == {"user_id", name}
    finally:
        stop.set()
        reader.join()
    assert not failures
    assert seen
