"""Finding features: by words, by how often they are used, by what they are like."""

from __future__ import annotations

import datetime as dt
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shop import SPEND, at, shop, user

import grange as gr
from grange.errors import RequestError, StoreUnavailableError, UnknownFeatureError, UnknownFeatureGroupError
from grange.ports.registry import Use
from grange.verbs import usage
from grange.verbs.similar import WEIGHTS, name_similarity, type_similarity, words_of

SPINE = [{"user_id": "u1", "shop_id": 1, "event_time": at(20)}]
ROW = [{"user_id": "u1", "shop_id": 1}]


def definitions() -> list[Any]:
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    copied = SPEND.rename({"amount": "amounts", "visits": "userAmount"})
    return [
        gr.FeatureGroup(
            "spend", entities=user, source=source, description="What users pay.\nIn euros.", owner="payments",
            tags={"tier": "gold", "team": "money"},
        ),
        gr.FeatureGroup(
            "copies", entities=user, owner="payments", tags={"tier": "gold"},
            source=gr.TableSource(copied, name="c", event_time="at"),
        ),
        gr.FeatureGroup("shops", entities=shop, source=gr.FileSource("data/shops.csv"), tags={"tier": "tin"}),
        gr.FeatureView("churn", features=["spend", "shops:country"], description="Who leaves?", owner="growth"),
    ]  # fmt: skip


@pytest.fixture
def shopping(project: Path) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(project, online="memory") as store:
        store.apply(definitions())
        store.materialize()
        yield store


def counts(store: gr.FeatureStore, name: str | None = None) -> dict[tuple[str, str, str], int]:
    """By (name, feature, verb's second word), how often."""
    return {(use.name, use.feature, use.verb.split("_")[1]): use.count for use in store.usage(name)}


# words


def test_a_search_finds_definitions_and_features_with_what_is_known_of_them(shopping: gr.FeatureStore) -> None:
    shopping.get_historical_features("churn", SPINE)
    found = shopping.search("euro")
    first = found[0]
    assert (first.reference, first.kind, first.description, first.uses) == (
        "spend",
        "feature_group",
        "What users pay.",
        1,
    )
    feature = next(hit for hit in shopping.search("visits") if hit.feature)
    assert feature.reference == "spend:visits" and feature.uses == 1 and 0 < feature.score <= 1
    assert found.to_dict()["hits"][0]["name"] == "spend" and len(found) == len(found.hits)


def test_filters_of_a_search(shopping: gr.FeatureStore) -> None:
    assert {hit.name for hit in shopping.search("", kinds="feature_view")} == {"churn"}
    assert {hit.name for hit in shopping.search("", tags={"tier": "gold"})} == {"spend", "copies"}
    assert {hit.name for hit in shopping.search("", tags={"tier": "gold", "team": "money"})} == {"spend"}
    assert {hit.name for hit in shopping.search("", owner="growth")} == {"churn"}
    assert len(shopping.search("", limit=2)) == 2
    assert not shopping.search("nowhere")


def test_a_kind_that_is_none_says_which_there_are(shopping: gr.FeatureStore) -> None:
    with pytest.raises(RequestError, match="no kind 'feature_groups'") as error:
        shopping.search("spend", kinds=["feature_groups"])
    assert error.value.closest[0] == "feature_group"


def test_keywords_count_definitions_the_most_frequent_first(shopping: gr.FeatureStore) -> None:
    known = shopping.keywords()
    assert known.tags == (("tier", "gold", 2), ("team", "money", 1), ("tier", "tin", 1))
    assert known.owners == (("payments", 2), ("growth", 1))
    assert known.to_dict()["owners"][0] == {"owner": "payments", "definitions": 2}


# usage


def test_each_read_counts_its_view_groups_and_features_once(shopping: gr.FeatureStore) -> None:
    shopping.get_historical_features("churn", SPINE * 3)
    for _ in range(5):
        shopping.get_online_features("churn", ROW * 2)
    shopping.get_online_features(["spend:amount", "spend:visits"], ROW)
    shopping.create_training_dataset("churn", SPINE)
    assert counts(shopping) == {
        ("churn", "", "historical"): 1, ("churn", "", "online"): 5, ("churn", "", "training"): 1,
        ("shops", "", "historical"): 1, ("shops", "", "online"): 5, ("shops", "", "training"): 1,
        ("shops", "country", "historical"): 1, ("shops", "country", "online"): 5, ("shops", "country", "training"): 1,
        ("spend", "", "historical"): 1, ("spend", "", "online"): 6, ("spend", "", "training"): 1,
        ("spend", "amount", "historical"): 1, ("spend", "amount", "online"): 6, ("spend", "amount", "training"): 1,
        ("spend", "visits", "historical"): 1, ("spend", "visits", "online"): 6, ("spend", "visits", "training"): 1,
    }  # fmt: skip
    assert {name for name, _, _ in counts(shopping, "shops")} == {"shops"}


@pytest.mark.parametrize(
    "features",
    [
        "spend",
        ("spend", "1.0.0"),
        [("spend", "1.0.0")],
        ["spend@1.0.0:amount"],
        gr.FeatureView("own", features=["spend"]),
    ],
)
def test_whatever_names_features_is_counted(shopping: gr.FeatureStore, features: Any) -> None:
    asked = [features] if features == "spend" else features
    shopping.get_historical_features(asked, [{"user_id": "u1", "event_time": at(20)}])
    found = counts(shopping)
    assert found["spend", "", "historical"] == found["spend", "amount", "historical"] == 1
    assert (("own", "", "historical") in found) == isinstance(features, gr.FeatureView)


def test_a_read_that_fails_is_no_use(shopping: gr.FeatureStore) -> None:
    with pytest.raises(UnknownFeatureError):
        shopping.get_historical_features(["spend:amuont"], SPINE)
    with pytest.raises(RequestError):
        shopping.get_online_features("churn", [{"shop_id": 1}])
    assert shopping.usage() == ()


def test_counts_are_written_when_a_store_closes_and_add_up(project: Path) -> None:
    for _ in range(2):
        with gr.FeatureStore(project, online="memory") as store:
            store.apply(definitions())
            store.materialize("spend")
            for _ in range(3):
                store.get_online_features(["spend:amount"], ROW)
    with gr.FeatureStore(project) as store:
        assert counts(store)["spend", "amount", "online"] == 6
        assert store.usage(since=dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)) == ()


def test_counts_are_written_by_another_thread_after_a_while(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "SECONDS", 0.0)
    shopping.get_online_features("churn", ROW)
    shopping._usage.write_when_due(1e12)
    thread = shopping._usage._thread
    assert thread is not None and thread is not threading.current_thread()
    thread.join()
    with gr.FeatureStore(project) as other:
        assert counts(other)["churn", "", "online"] == 1


def test_no_thread_is_started_for_nothing(shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "SECONDS", 0.0)
    shopping._usage.write_when_due(1e12)
    assert shopping._usage._thread is None


def test_a_read_does_not_fail_for_a_registry_that_cannot_be_reached(
    shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopping.get_online_features("churn", ROW)

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("the registry is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(shopping._parts.registry), "count_uses", away)
        assert shopping._usage.write() is False
        assert shopping.get_online_features("churn", ROW).to_dicts()[0]["country"] == "FR"
        assert shopping._usage.write() is False
    assert counts(shopping)["churn", "", "online"] == 2  # nothing was lost


def test_uses_of_many_threads_are_all_counted(shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    shopping.get_online_features("churn", ROW)  # what is new is known before
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [shopping.get_online_features("churn", ROW) for _ in range(500)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert counts(shopping)["churn", "", "online"] == 2001


def test_changed_definitions_are_counted_as_they_are_now(shopping: gr.FeatureStore) -> None:
    shopping.get_online_features("churn", ROW)
    shopping.apply(gr.FeatureView("churn", features=["spend:amount"]))
    shopping.get_online_features("churn", ROW)
    found = counts(shopping)
    assert found["churn", "", "online"] == 2 and found["spend", "amount", "online"] == 2
    assert found["spend", "visits", "online"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_does_not_count_what_its_parent_counted() -> None:
    written: list[Any] = []
    counted = usage.Usage(written.extend)
    counted.add([Use("feature_view", "churn", "", "get_online_features")])
    child = os.fork()
    if child == 0:
        counted.write()
        os._exit(len(written))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    counted.write()
    assert [use.count for use in written] == [1]


def test_info_tells_how_often_something_was_read(shopping: gr.FeatureStore) -> None:
    shopping.get_historical_features("churn", SPINE)
    assert shopping.inspect("spend")["uses"] == {"get_historical_features": 1}
    assert shopping.inspect("churn")["uses"] == {"get_historical_features": 1}
    assert shopping.inspect("copies")["uses"] == {}


# likeness


def test_similar_features_by_name_type_and_values(shopping: gr.FeatureStore) -> None:
    found = {item.reference: item for item in shopping.similar("spend:amount", compute=True)}
    same = found["copies:amounts"]
    assert same.values == 1.0 and same.type == 1.0 and same.name > 0.4
    assert next(iter(found)) == "copies:amounts"
    assert found["shops:country"].type == found["shops:country"].values == 0.0
    assert "spend:amount" not in found
    assert same.score == pytest.approx(0.5 * same.name + 0.2 * same.type + 0.3 * 1.0)
    assert same.made_of == f"0.50 name {same.name:.2f} + 0.20 type 1.00 + 0.30 values 1.00"
    assert len(shopping.similar("spend:amount", limit=1)) == 1


def test_values_count_only_where_statistics_are_kept(shopping: gr.FeatureStore) -> None:
    (before, *_) = shopping.similar("spend:amount")
    assert before.values is None and set(before.parts) == {"name", "type"}
    assert before.score == pytest.approx((0.5 * before.name + 0.2 * before.type) / 0.7)
    shopping.statistics("spend")
    assert all(item.values is None for item in shopping.similar("spend:amount") if item.group != "spend")
    shopping.statistics("copies")
    kept = {item.reference: item.values for item in shopping.similar("spend:amount")}
    assert kept["copies:amounts"] == 1.0 and kept["shops:country"] is None


def test_a_group_without_history_is_compared_by_name_and_type(shopping: gr.FeatureStore) -> None:
    frame = pl.DataFrame({"user_id": ["u"], "at": [at(1)], "amount": [1.0]})
    shopping.apply(gr.FeatureGroup("empty", entities=user, source=gr.TableSource(frame, name="e", event_time="at")))
    first = shopping.similar("spend:amount", compute=True)[0]
    assert first.reference == "empty:amount" and first.values is None and first.score == 1.0


def test_what_names_no_feature_is_refused(shopping: gr.FeatureStore) -> None:
    for reference in ("spend", "spend@1.0.0:amount"):
        with pytest.raises(RequestError, match="names no feature"):
            shopping.similar(reference)
    with pytest.raises(UnknownFeatureError) as error:
        shopping.similar("spend:amuont")
    assert error.value.closest == ("spend:amount",)
    with pytest.raises(UnknownFeatureGroupError):
        shopping.similar("spent:amount")


def test_names_are_taken_apart() -> None:
    assert words_of("avgAmount__7d") == Counter(["avg", "amount", "7d"])
    assert words_of("HTTPStatus_code2xx") == Counter(["http", "status", "code", "2xx"])
    assert words_of("größteSumme") == Counter(["grösste", "summe"])
    assert name_similarity("total_amount", "amountTotal") == 1.0
    assert name_similarity("user_amount", "amount") > name_similarity("user_amount", "country")


@given(st.text(max_size=20), st.text(max_size=20))
def test_likeness_of_names_is_a_share_the_same_both_ways(one: str, other: str) -> None:
    assert 0.0 <= name_similarity(one, other) <= 1.0
    assert name_similarity(one, other) == name_similarity(other, one)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("int32", "int32", 1.0), ("int32", "int64", 0.8), ("float32", "float64", 0.8), ("int64", "float64", 0.5),
     ("date", "datetime", 0.5), ("string", "int64", 0.0), ("string", "boolean", 0.0), ("decimal(9,2)", "float64", 0.5)],
)  # fmt: skip
def test_likeness_of_types(one: str, other: str, alike: float) -> None:
    from grange.types.dtypes import parse_dtype

    assert type_similarity(parse_dtype(one), parse_dtype(other)) == alike
    assert type_similarity(parse_dtype(other), parse_dtype(one)) == alike


def test_the_weights_are_shares() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
