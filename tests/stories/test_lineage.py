"""Lineage in a store: from what was applied, made and kept; what a change breaks; what a deletion refuses."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.shop import at, shops_group, spend_group, user

import grange as gr
from grange.errors import InUseError, NotFoundError, UnknownFeatureError, UnknownVersionError

SPINE = [
    {"user_id": "u1", "event_time": at(6), "bought": True},
    {"user_id": "u2", "event_time": at(7), "bought": False},
]


def totals(**options: Any) -> gr.FeatureGroup:
    query = options.pop("transform", 'SELECT user_id, "at", loaded, amount * 2 AS twice FROM source WHERE visits > 0')
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    return gr.FeatureGroup("totals", entities=user, source=source, transform=query, **options)


def view(**options: Any) -> gr.FeatureView:
    given = {"features": ["spend:amount", "totals"], "labels": ["bought"], **options}
    return gr.FeatureView("churn", **given)


@pytest.fixture
def shop(store: gr.FeatureStore) -> gr.FeatureStore:
    store.apply([spend_group(), totals(), shops_group(), view()])
    store.materialize()
    return store


def names(found: Any) -> list[str]:
    return [str(node) for node in found]


def test_from_a_file_to_a_training_dataset(shop: gr.FeatureStore) -> None:
    shop.create_training_dataset("churn", SPINE)
    found = shop.lineage("data/spend.parquet")
    assert names(found.downstream) == [
        "feature group spend", "feature group totals", "feature group spend@1.0.0", "feature view churn",
        "feature group totals@1.0.0", "training dataset churn#1",
    ]  # fmt: skip
    assert names(shop.lineage("churn#1").upstream) == [
        "feature group spend@1.0.0", "feature group totals@1.0.0", "feature view churn", "feature group spend",
        "feature group totals", "source data/spend.parquet",
    ]  # fmt: skip


def test_the_answer_knows_versions_runs_and_code(shop: gr.FeatureStore) -> None:
    about = shop.lineage("spend").start.about
    assert about["latest"] == "1.0.0"
    assert about["materialized_at"].startswith("20")
    version = shop.lineage("spend@1.0.0").start.about
    assert version["rows"] == 5
    assert [column["name"] for column in version["schema"]] == ["user_id", "at", "loaded", "amount", "visits"]
    assert shop.lineage("totals").start.about["code_hash"] == shop.version("totals").code_hash


def test_column_by_column(shop: gr.FeatureStore) -> None:
    found = shop.lineage("churn:twice", direction="upstream")
    assert names(found.upstream) == [
        "totals:twice", "data/spend.parquet:amount", "data/spend.parquet:visits",
    ]  # fmt: skip
    how = {edge.upstream.column: edge.how for edge in found.graph.edges if edge.downstream.reference == "totals:twice"}
    assert how == {"amount": "transformation", "visits": "filter"}


def test_columns_of_a_training_dataset(shop: gr.FeatureStore) -> None:
    shop.create_training_dataset("churn", SPINE)
    found = shop.lineage("churn#1:twice", direction="upstream")
    assert names(found.upstream) == [
        "churn:twice", "totals:twice", "data/spend.parquet:amount", "data/spend.parquet:visits",
    ]  # fmt: skip
    assert {edge.certainty for edge in found.graph.edges} == {"certain"}


def test_an_export_is_downstream_of_what_it_was_made_of(shop: gr.FeatureStore) -> None:
    shop.export("spend", "exports/spend.parquet")
    shop.export("churn", "exports/churn.parquet", spine=SPINE)
    assert names(shop.lineage("exports/churn.parquet").upstream) == [
        "feature group spend@1.0.0",
        "feature group totals@1.0.0",
        "feature view churn",
        "feature group spend",
        "feature group totals",
        "source data/spend.parquet",
    ]
    assert "export exports/spend.parquet" in names(shop.lineage("spend:amount").graph.nodes)
    assert names(shop.lineage("exports/spend.parquet:amount").upstream) == [
        "spend@1.0.0:amount",
        "spend:amount",
        "data/spend.parquet:amount",
    ]
    assert [str(item) for item in shop.impact("spend")][-2:] == [
        "notice: export exports/churn.parquet: feature group spend is removed; it stays, and is not renewed",
        "notice: export exports/spend.parquet: feature group spend is removed; it stays, and is not renewed",
    ]


def test_a_derived_group_knows_its_parents(store: gr.FeatureStore) -> None:
    both = gr.FeatureGroup(
        "both", entities=user, source=gr.DerivedSource(["spend:amount", gr.select("totals", "twice")])
    )
    store.apply([spend_group(), totals(), both])
    assert names(store.lineage("both", direction="upstream").upstream) == [
        "feature group spend", "feature group totals", "source data/spend.parquet",
    ]  # fmt: skip
    assert names(store.lineage("both:twice", direction="upstream", depth=1).upstream) == ["totals:twice"]


def both(*features: Any, **options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup("both", entities=user, source=gr.DerivedSource(list(features), **options))


@pytest.fixture
def derived(store: gr.FeatureStore) -> gr.FeatureStore:
    """`both` was made of spend and totals, `both@1.0.0` is pinned, and now `both` is made of spend alone."""
    store.apply([spend_group(), totals(), both("spend:amount", "totals:twice")])
    store.materialize()
    store.apply([gr.FeatureView("pinned", features=["both@1.0.0:twice"])])
    store.create_training_dataset("pinned", [{"user_id": "u1", "event_time": at(6)}])
    store.apply([both("spend:amount")])
    return store


def test_a_version_of_a_derived_group_is_made_of_what_its_parents_were(derived: gr.FeatureStore) -> None:
    found = derived.lineage("both@1.0.0")
    assert found.to_tree().splitlines()[2:] == [
        "upstream",
        "├─ feature group both (1.0.0) · version of",
        "├─ feature group spend@1.0.0 · derived from",
        "│  └─ feature group spend (1.0.0) · version of",
        "│     └─ source data/spend.parquet · reads",
        "└─ feature group totals@1.0.0 · derived from",
        "   └─ feature group totals (1.0.0) · version of",
        "      └─ source data/spend.parquet · reads",
        "",
        "downstream",
        "├─ feature view pinned · pins",
        "│  └─ training dataset pinned#1 · reads",
        "└─ training dataset pinned#1 · pins",
    ]
    assert "feature group totals" not in names(derived.lineage("both").upstream)
    for start in ("both@1.0.0", "pinned", "pinned#1"):
        assert "feature group totals@1.0.0" in names(derived.lineage(start).upstream)
    for start in ("totals", "totals@1.0.0", "both"):
        assert "feature group both@1.0.0" in names(derived.lineage(start).downstream)


def test_columns_of_a_version_of_a_derived_group(shop: gr.FeatureStore) -> None:
    shop.apply([both("spend:amount", gr.select("totals", "twice", rename={"twice": "double"}))])
    shop.materialize("both")
    found = shop.lineage("both@1.0.0:double", direction="upstream", depth=2)
    assert {(str(edge.upstream), edge.why, edge.certainty) for edge in found.graph.into(found.start)} == {
        ("both:double", "publishes", "certain"),
        ("totals@1.0.0:twice", "derives", "certain"),
    }
    assert names(found.upstream) == ["totals@1.0.0:twice", "both:double", "totals:twice"]


def test_deleting_a_version_tells_of_what_was_made_of_it(derived: gr.FeatureStore) -> None:
    told = [
        "notice: feature group both@1.0.0: feature group totals@1.0.0 is removed; it was made of it, and stays",
        "notice: feature view pinned: feature group totals@1.0.0 is removed; both@1.0.0, which it takes, was made of "
        "it and stays",
        "notice: training dataset pinned#1: feature group totals@1.0.0 is removed; both@1.0.0, which it takes, was "
        "made of it and stays",
    ]
    assert [str(item) for item in derived.impact("totals@1.0.0")] == told
    derived.apply([gr.FeatureView("also", features=["totals@1.0.0:twice"])])
    with pytest.raises(InUseError) as refused:
        derived.delete("totals", version="1.0.0")
    assert refused.value.found == (
        "made of it: feature view also, feature group both@1.0.0, feature view pinned, training dataset pinned#1"
    )


def test_deleting_a_version_tells_of_what_was_made_of_that(store: gr.FeatureStore) -> None:
    again = gr.FeatureGroup("again", entities=user, source=gr.DerivedSource(["both"]))
    store.apply([spend_group(), both("spend:amount"), again])
    store.materialize()
    store.apply([gr.FeatureView("pinned", features=["again@1.0.0"])])
    assert [
        str(item).replace("feature group spend@1.0.0 is removed; ", "") for item in store.impact("spend@1.0.0")
    ] == [
        "notice: feature group again@1.0.0: it was made of it, and stays",
        "notice: feature group both@1.0.0: it was made of it, and stays",
        "notice: feature view pinned: again@1.0.0, which it takes, was made of it and stays",
    ]


def test_versions_that_nothing_asks_for_are_left_out(shop: gr.FeatureStore) -> None:
    shop.apply([both("spend:amount")])
    shop.materialize("both")
    assert "feature group both@1.0.0" not in names(shop.lineage("spend").downstream)
    assert "feature group both@1.0.0" in names(shop.lineage("spend@1.0.0").downstream)


def test_events_for_other_catalogues(shop: gr.FeatureStore) -> None:
    events = shop.lineage("totals", columns=True).to_openlineage()
    jobs = [(event["job"]["name"], event.get("eventType")) for event in events]
    assert jobs == [
        ("feature_group.totals", None), ("feature_view.churn", None),
        ("materialize.totals", "START"), ("materialize.totals", "COMPLETE"),
    ]  # fmt: skip
    [read] = events[0]["inputs"]
    assert (read["namespace"], read["name"]) == ("file", str(shop.project / "data/spend.parquet"))
    assert {event["job"]["namespace"] for event in events} == {"grange://shop"}
    ended = events[-1]
    assert ended["outputs"][0]["facets"]["version"]["datasetVersion"] == "1.0.0"
    assert dt.datetime.fromisoformat(ended["eventTime"]) <= dt.datetime.now(dt.UTC)


@pytest.mark.parametrize(
    "name, error", [("spnd", NotFoundError), ("spend@9.0.0", UnknownVersionError), ("spend:amout", UnknownFeatureError)]
)
def test_names_that_mean_nothing(shop: gr.FeatureStore, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        shop.lineage(name)


def test_a_plan_says_what_breaks(shop: gr.FeatureStore) -> None:
    shop.create_training_dataset("churn", SPINE)
    smaller = totals(transform='SELECT user_id, "at", loaded, visits FROM source')
    planned = shop.plan([smaller])
    assert [str(item) for item in planned.impact] == [
        "breaks: feature view churn: totals:twice is removed",
        "changes: training dataset churn#1: totals:twice is removed; it was made before that",
        "notice: feature view churn: totals:visits is new, and taken with the whole group",
    ]
    assert str(planned).splitlines()[-1] == (
        "notice: feature view churn: totals:visits is new, and taken with the whole group"
    )
    assert planned.to_dict()["impact"][0]["severity"] == "breaks"
    assert shop.apply([smaller]).impact == planned.impact
    assert shop.plan([smaller]).impact == ()


def test_a_plan_that_only_adds_breaks_nothing(shop: gr.FeatureStore) -> None:
    assert shop.plan([gr.FeatureView("other", features=["spend"])]).impact == ()


def test_a_version_that_is_pinned_is_left_alone(shop: gr.FeatureStore) -> None:
    shop.apply([gr.FeatureView("pinned", features=["totals@1.0.0:twice"])])
    planned = shop.plan([totals(transform='SELECT user_id, "at", loaded, amount * 3 AS twice FROM source')])
    assert {item.what.name for item in planned.impact} == {"churn"}


def test_pruning_says_what_it_breaks(shop: gr.FeatureStore) -> None:
    planned = shop.plan([spend_group(), view(features=["spend:amount"])], prune=True)
    assert [str(item) for item in planned.impact] == []
    assert {change.action for change in planned.changes} == {"delete", "update"}


def test_a_view_with_training_datasets_is_not_pruned_as_it_is_not_deleted(shop: gr.FeatureStore) -> None:
    shop.create_training_dataset("churn", SPINE)
    refusals = []
    for attempt in (
        lambda: shop.delete("churn"),
        lambda: shop.plan([spend_group(), totals(), shops_group()], prune=True),
        lambda: shop.apply([spend_group(), totals(), shops_group()], prune=True),
    ):
        with pytest.raises(InUseError, match="feature view 'churn' has training datasets: churn#1") as refused:
            attempt()
        refusals.append((refused.value.message, refused.value.try_))
    assert len(set(refusals)) == 1
    assert [str(item) for item in shop.impact("churn")] == [
        "notice: training dataset churn#1: feature view churn is removed; it stays, and grange td reproduce can "
        "compute it again",
    ]
    shop.delete_training_dataset("churn", 1)
    shop.apply([spend_group(), totals(), shops_group()], prune=True)
    assert shop.catalog.views == {}


def test_a_plan_tells_of_rows_that_go(shop: gr.FeatureStore) -> None:
    def planned(policy: Any) -> list[str]:
        checks = {"twice": [gr.greater_than(3, policy=policy)]}
        return [str(item) for item in shop.plan([totals(expectations=checks)]).impact]

    assert planned("drop") == ["changes: feature view churn: the expectations of totals leave out other rows"]
    assert planned("warn") == []


def test_a_plan_says_how_entities_change_in_words(shop: gr.FeatureStore) -> None:
    both = gr.Entity("pair", join_keys={"user_id": "string", "visits": "int64"})
    query = 'SELECT user_id, visits, "at", loaded, amount * 2 AS twice FROM source'
    planned = str(shop.plan([totals(transform=query).with_(entities=(both,))]))
    assert "    - entity user (user_id)\n    + entity pair (user_id string, visits int64)\n" in planned
    assert "{" not in planned


def test_the_column_of_a_group_without_times_is_never_named(store: gr.FeatureStore) -> None:
    def latest(**options: Any) -> gr.FeatureGroup:
        return gr.FeatureGroup("latest", entities=user, source=gr.FileSource("data/spend.parquet", **options))

    assert "    columns: at datetime, loaded datetime, amount" in str(store.apply([latest()]))
    store.materialize("latest")
    planned = store.plan([latest(event_time="at")])
    assert [forecast.why for forecast in planned.versions] == ["major: removed columns: the time of its rows"]
    assert "__event_time" not in f"{planned} {planned.to_dict()}"


def test_a_refused_deletion_names_everything_downstream(shop: gr.FeatureStore) -> None:
    shop.apply([gr.FeatureView("outer", features=["churn"])])
    shop.create_training_dataset("churn", SPINE)
    with pytest.raises(InUseError) as refused:
        shop.delete("spend")
    assert "feature view churn" in str(refused.value)
    assert refused.value.found == "made of it: feature view churn, feature view outer, training dataset churn#1"
    assert [item["what"]["name"] for item in refused.value.details["impact"]] == ["churn", "outer", "churn#1"]
    with pytest.raises(InUseError) as refused:
        shop.delete("user")
    assert "feature group totals" in (refused.value.found or "")


def test_what_a_deletion_would_break_can_be_asked_before(shop: gr.FeatureStore) -> None:
    assert [str(item) for item in shop.impact("totals:twice")] == [
        "breaks: feature view churn: totals:twice is removed"
    ]
    assert [str(item.what) for item in shop.impact("data/spend.parquet")] == [
        "feature group spend", "feature group totals", "feature view churn",
    ]  # fmt: skip
    assert shop.impact("churn") == ()
    with pytest.raises(UnknownFeatureError):
        shop.impact("totals:twce")


def test_sql_does_not_tell_upper_from_lower_case(store: gr.FeatureStore) -> None:
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    loud = gr.FeatureGroup(
        "loud", entities=user, source=source,
        transform='SELECT USER_ID AS user_id, "AT" AS "at", Loaded AS loaded, AMOUNT + Visits AS f FROM SOURCE',
    )  # fmt: skip
    store.apply([loud])
    assert names(store.lineage("loud:f", direction="upstream").upstream) == [
        "data/spend.parquet:amount", "data/spend.parquet:visits",
    ]  # fmt: skip
    assert names(store.lineage("loud:user_id", direction="upstream").upstream) == ["data/spend.parquet:user_id"]
    store.apply([totals()])
    for column in ("AMOUNT", "amount"):
        assert names(store.lineage(f"data/spend.parquet:{column}", direction="downstream").upstream) == []
        found = names(store.lineage(f"data/spend.parquet:{column}", direction="downstream").downstream)
        assert found == ["loud:f", "totals:twice"]


def test_what_the_loss_of_a_source_column_breaks_behind_sql(shop: gr.FeatureStore) -> None:
    shop.delete("churn")
    shop.delete("spend")  # which takes the source's columns as they are, so that they are known
    assert [str(item) for item in shop.impact("data/spend.parquet:amount")] == [
        "breaks: feature group totals: data/spend.parquet:amount is removed",
    ]
    with pytest.raises(UnknownFeatureError):
        shop.impact("data/spend.parquet:amuont")


def test_another_process_sees_the_same(shop: gr.FeatureStore, project: Path) -> None:
    expected = shop.lineage("churn").to_tree()
    with gr.FeatureStore(project) as other:
        assert other.lineage("churn").to_tree() == expected
