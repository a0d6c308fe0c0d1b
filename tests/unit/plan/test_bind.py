"""Binding: what a request takes, what labels it leaves out, and one name per column."""

from __future__ import annotations

from typing import Any

import pytest

import grange as gr
from grange.definitions.catalog import Catalog
from grange.errors import (
    CyclicDefinitionError,
    DefinitionError,
    NameCollisionError,
    RequestError,
    UnknownFeatureError,
    UnknownFeatureViewError,
)
from grange.plan.bind import bind, check_view, resolve

user = gr.Entity("user", join_keys=["user_id"])
airport = gr.Entity("airport", join_keys=["airport"])


def group(name: str, *features: str, entity: gr.Entity = user) -> gr.FeatureGroup:
    (key,) = entity.join_keys
    columns = {key: "string", "at": "datetime"} | dict.fromkeys(features, "int64")
    source = gr.PushSource(f"{name}_source", schema=columns, event_time="at")
    return gr.FeatureGroup(name, entities=entity, source=source, schema=columns)


GROUPS = [group("g", "x", "target"), group("h", "x", "z"), group("weather", "temp", "wind", entity=airport)]


def catalog(*views: gr.FeatureView) -> Catalog:
    return Catalog.of([*GROUPS, *views])


def names(known: Catalog, features: Any, *, labels: bool = False, full: bool = False) -> list[str]:
    bound = bind(known, resolve(known, features), {}, labels=labels, full_feature_names=full)
    return list(bound.columns)


class TestLabels:
    def test_a_whole_group_leaves_the_label_out(self) -> None:
        """Online the label is not there; offline it comes once, as label, after the features."""
        view = gr.FeatureView("v", features=["g"], labels=["g:target"])
        assert names(catalog(view), "v") == ["x"]
        assert names(catalog(view), "v", labels=True) == ["x", "target"]

    def test_under_another_prefix_too(self) -> None:
        view = gr.FeatureView("v", features=[gr.select("g", prefix="g_")], labels=["g:target"])
        assert names(catalog(view), "v", labels=True) == ["g_x", "target"]

    def test_inside_other_views_and_lists(self) -> None:
        """Labels of the inner view and of the outer one are left out of what the inner one selects whole."""
        inner = gr.FeatureView("inner", features=["g"], labels=["g:target"])
        outer = gr.FeatureView("outer", features=["inner", "weather"], labels=["weather:wind", "g:x"])
        assert names(catalog(inner, outer), "outer") == ["temp"]
        assert names(catalog(inner), ["inner"]) == ["x"]
        assert names(catalog(), [inner, "weather:temp"]) == ["x", "temp"]
        assert names(catalog(), ["g"]) == ["x", "target"], "a list of groups has no labels"

    def test_a_label_that_is_selected_is_refused(self) -> None:
        """Where the definitions are checked, and where an unapplied view is used."""
        view = gr.FeatureView("v", features=["g:x", "g:target"], labels=["g:target"])
        with pytest.raises(DefinitionError, match="both a feature and a label") as caught:
            catalog(view).check()
        assert "feature view 'v'" in str(caught.value)
        with pytest.raises(DefinitionError, match="both a feature and a label"):
            resolve(catalog(), view)
        inner = gr.FeatureView("inner", features=["g:target"])
        outer = gr.FeatureView("outer", features=["inner"], labels=["g:target"])
        with pytest.raises(DefinitionError, match="both a feature and a label"):
            catalog(inner, outer).check()
        renamed = gr.FeatureView("v", features=[gr.select("g", "target", rename={"target": "y"})], labels=["g:target"])
        with pytest.raises(DefinitionError, match="both a feature and a label"):
            catalog(renamed).check()

    def test_another_value_of_the_same_feature_may_be_taken(self) -> None:
        """What it was before, or what it is elsewhere."""
        before = gr.select("g", "target", prefix="last_", exact_matches=False)
        elsewhere = gr.select("weather", "temp", on={"airport": "origin"}, prefix="origin_")
        view = gr.FeatureView("v", features=[before, elsewhere], labels=["g:target", "weather:temp"])
        known = catalog(view)
        known.check()
        check_view(known, view)
        assert names(known, "v", labels=True) == ["last_target", "origin_temp", "target", "temp"]

    def test_nothing_but_labels_is_refused(self) -> None:
        view = gr.FeatureView("v", features=["g"], labels=["g:target", "g:x"])
        with pytest.raises(DefinitionError, match="no features besides its labels"):
            check_view(catalog(view), view)


class TestNames:
    @pytest.mark.parametrize(
        ("view", "what"),
        [
            (gr.FeatureView("v", features=["g", "h"]), "two features"),
            (gr.FeatureView("v", features=["h:x"], labels=["g:x"]), "two features"),
            (gr.FeatureView("v", features=[gr.select("g", "x", rename={"x": "user_id"})]), "join key"),
            (gr.FeatureView("v", features=["g:x"], labels=["x"]), "label"),
            (
                gr.FeatureView("v", features=["g:x"], requests=gr.RequestSource("r", schema={"x": "string"})),
                "request column",
            ),
            (
                gr.FeatureView("v", features=["g:x"], requests=gr.RequestSource("r", schema={"user_id": "int64"})),
                "another type",
            ),
            (
                gr.FeatureView(
                    "v",
                    features=[
                        gr.select("weather", "temp", on={"airport": "origin"}),
                        gr.select("weather", "temp", on={"airport": "target"}),
                    ],
                ),
                "two features",
            ),
        ],
    )
    def test_two_columns_of_one_name_are_refused(self, view: gr.FeatureView, what: str) -> None:
        """At apply, naming the view."""
        with pytest.raises(NameCollisionError, match=what) as caught:
            check_view(catalog(view), view)
        assert "feature view 'v'" in str(caught.value)

    def test_strict_time_makes_another_feature(self) -> None:
        """PIT-2: the value at `t` and the value before `t` are two, and need two names."""
        strict = gr.select("g", "x", exact_matches=False)
        with pytest.raises(NameCollisionError, match="'x'") as caught:
            names(catalog(), ["g:x", strict])
        assert "strictly before" in str(caught.value)
        assert names(catalog(), ["g:x", gr.select("g", "x", prefix="last_", exact_matches=False)]) == ["x", "last_x"]

    def test_the_same_feature_twice_is_one(self) -> None:
        assert names(catalog(), ["g:x", "g", gr.select("g", "x")]) == ["x", "target"]

    def test_full_names_tell_groups_apart(self) -> None:
        assert names(catalog(), ["g:x", "h:x"], full=True) == ["g__x", "h__x"]

    def test_a_request_column_may_be_a_key(self) -> None:
        """One column of the row, read twice; of one family of types."""
        view = gr.FeatureView("v", features=["g:x"], requests=gr.RequestSource("r", schema={"user_id": "string"}))
        check_view(catalog(view), view)

    def test_pinned_versions_have_columns_of_their_own(self) -> None:
        """So they are looked at when they are read."""
        view = gr.FeatureView("v", features=["g@1.0.0:gone", "h:x"])
        known = catalog(view)
        known.check()
        check_view(known, view)

    def test_request_columns_of_two_types(self) -> None:
        """Of two views in one list."""
        one = gr.FeatureView("one", features=["g:x"], requests=gr.RequestSource("r", schema={"a": "string"}))
        two = gr.FeatureView("two", features=["h:z"], requests=gr.RequestSource("s", schema={"a": "int64"}))
        with pytest.raises(NameCollisionError, match="'a' has two types"):
            resolve(catalog(one, two), ["one", "two"])


class TestResolving:
    def test_a_view_that_is_handed_in_is_taken_as_it_is(self) -> None:
        """Whatever is applied under its name, alone and in a list."""
        known = catalog(gr.FeatureView("v", features=["g:x"]))
        changed = gr.FeatureView("v", features=["h:z"])
        assert names(known, "v") == ["x"]
        assert names(known, changed) == names(known, [changed]) == ["z"]

    def test_a_view_does_not_contain_itself(self) -> None:
        known = catalog(gr.FeatureView("w", features=["v"]), gr.FeatureView("v", features=["g"]))
        with pytest.raises(CyclicDefinitionError):
            resolve(known, gr.FeatureView("v", features=["w"]))

    @pytest.mark.parametrize("features", [None, [], (), 3, {"g"}, {"g": 1}, iter(["g"]), b"g"])
    def test_what_names_no_features_is_refused(self, features: Any) -> None:
        with pytest.raises(RequestError) as caught:
            resolve(catalog(), features)
        assert caught.value.found
        assert caught.value.try_

    def test_every_way_to_name_a_group(self) -> None:
        for features in ("g", ["g"], ("g",), GROUPS[0], [GROUPS[0]], gr.select("g"), [gr.select("g")]):
            assert names(catalog(), features) == ["x", "target"]

    @pytest.mark.parametrize("features", [("g", "1.0.0"), [("g", "1.0.0")], [["g", "1.0.0"]], ["g@1.0.0"], "g@1.0.0"])
    def test_every_way_to_pin(self, features: Any) -> None:
        """A list of two, as JSON has it, is a pair inside a list."""
        (selection,) = resolve(catalog(), features).selections
        assert (selection.source, selection.version) == ("g", "1.0.0")

    def test_unknown_names(self) -> None:
        with pytest.raises(UnknownFeatureViewError):
            resolve(catalog(), "nobody")
        with pytest.raises(UnknownFeatureError):
            resolve(catalog(), ["g:y"])
