"""The plan of a history: which joins are made as of which moments, and what tells whether a row was found."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import grange as gr
from grange.definitions.catalog import Catalog
from grange.plan.bind import Bound, bind, resolve
from grange.plan.explain import explain
from grange.plan.history import SPINE, SPINE_TIME, plan_history, spine_time
from grange.plan.nodes import GroupJoin, Input, Plan, PointInTimeJoin, WindowJoin
from grange.types.durations import to_micros
from grange.verbs.spine import spine_sources

user = gr.Entity("user", join_keys=["user_id"])
DAY = to_micros(dt.timedelta(days=1))


def group(name: str, *features: str, **options: Any) -> gr.FeatureGroup:
    columns = {"user_id": "string", "at": "datetime"} | dict.fromkeys(features or ("x", "y"), "float64")
    source = gr.PushSource(f"{name}_source", schema=columns, event_time="at")
    return gr.FeatureGroup(name, entities=user, source=source, schema=columns, **options)


GROUPS = [
    group("g", on_demand=[gr.Transformation("double", sql={"twice": "x * 2"})]),
    group("h", "u", "v"),
    group("w", aggregations=[gr.Rolling({"x": ["sum"]}, windows=["7d"])]),
]
STORED = {(name, None): ("1.0.0", Input(name)) for name in ("g", "h", "w")}


def bound(features: list[Any], labels: Any = (), **options: Any) -> Bound:
    view = gr.FeatureView("v", features=features, labels=labels)
    known = Catalog.of(GROUPS)
    return bind(known, resolve(known, view), {}, labels=True, full_feature_names=False, **options)


def planned(features: list[Any], labels: Any = (), *, as_known: bool = False, inner: bool = False) -> Plan:
    found = bound(features, labels)
    return plan_history(found.features, STORED, as_known=as_known, required=found.selections if inner else ())


def outputs(join: GroupJoin | WindowJoin) -> list[str]:
    return [output.name for output in join.outputs]


def root(plan: Plan) -> PointInTimeJoin:
    assert isinstance(plan.root, PointInTimeJoin)
    return plan.root


def test_labels_join_with_the_features_of_their_moment() -> None:
    labels = ["g:y", gr.Label("w:x__sum__7d", after="7d"), gr.Label("h:u", after="7d"), gr.Label("h:v", after="1d")]
    plan = planned(["g:x"], labels)
    assert [outputs(join) for join in root(plan).joins] == [["x", "y"]]
    assert [(later.after // DAY, [outputs(join) for join in later.join.joins]) for later in plan.labels] == [
        (7, [["x__sum__7d"], ["u"]]), (1, [["v"]])
    ]  # fmt: skip


def test_each_moment_has_a_time_column_of_its_own() -> None:
    plan = planned(["g:x"], [gr.Label("w:x__sum__7d", after="7d"), gr.Label("h:u", after="1d")], as_known=True)
    assert root(plan).time == SPINE_TIME == spine_time(0)
    assert [later.join.time for later in plan.labels] == [f"{SPINE_TIME}_{7 * DAY}", f"{SPINE_TIME}_{DAY}"]
    assert [later.join.as_known for later in plan.labels] == [True, True]
    assert all(later.join.spine == Input(SPINE) for later in plan.labels)


def test_at_event_is_the_rows_own_time_whatever_was_known() -> None:
    plan = planned(["g:x"], [gr.Label("h:u", after="7d", observed="at_event")], as_known=True)
    (later,) = plan.labels
    assert (later.after, later.join.time, later.join.as_known) == (0, SPINE_TIME, False)
    assert root(plan).as_known
    assert "labels, as finally known" in explain(plan)


def test_what_must_be_found_is_an_output_of_its_join() -> None:
    plan = planned(["g:x", "w", gr.select("g", "x", prefix="before_", exact_matches=False)], inner=True)
    assert plan.required == (("__found_0", "g"), ("__found_1", "w"), ("__found_2", "g"))
    assert [outputs(join) for join in root(plan).joins] == [
        ["x", "__found_0"], ["x__sum__7d", "__found_1"], ["before_x", "__found_2"]
    ]  # fmt: skip
    assert planned(["g:x"]).required == ()


def test_two_selections_of_the_same_rows_are_found_once() -> None:
    plan = planned([gr.select("g", "x"), gr.select("g", "y", prefix="g_")], inner=True)
    assert plan.required == (("__found_0", "g"),)


def test_what_is_made_on_demand_is_found_by_what_it_is_made_of() -> None:
    plan = planned(["g:twice"], inner=True)
    assert [outputs(join) for join in root(plan).joins] == [["g:x", "__found_0"]]


@pytest.mark.parametrize(
    ("joins", "sources"),
    [
        ([], ["g"]),
        (["inner"], ["g"]),
        (["right"], ["h"]),
        (["full"], ["g", "h"]),
        (["full", "full"], ["g", "h", "w"]),
        (["full", "right"], ["w"]),
        (["right", "full"], ["h", "w"]),
        (["left", "asof"], ["g"]),
    ],
)
def test_the_groups_that_a_spine_is_made_of(joins: list[Any], sources: list[str]) -> None:
    names = ["h", "w"]
    chosen = [gr.select(name, prefix=f"{name}_", join=join) for name, join in zip(names, joins, strict=False)]
    found = spine_sources(bound(["g", *chosen]).selections)
    assert [source.group.name for source in found] == sources
