"""What of definitions can be found."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import grange as gr
from grange.definitions.serialize import Definition, to_data
from grange.ports.registry import Kind, Record
from grange.registries.sql.entries import Entry, index_entries
from grange.types import Schema
from grange.types.schema import Column

USER = gr.Entity("user", join_keys={"user_id": "string", "region": "string"}, description="A customer", owner="crm")
ROWS = gr.FileSource("rows.parquet", event_time="at", created_time="loaded_at")


def entries(kind: Kind, name: str, definition: Definition | dict[str, Any]) -> tuple[Entry, ...]:
    """The entries of a definition, as a registry has it."""
    data = definition if isinstance(definition, dict) else to_data(definition)
    return index_entries(Record(kind, name, data, "fingerprint"))


def test_an_entity_is_found_by_its_keys() -> None:
    assert entries("entity", "user", USER) == (
        Entry("entity", "user", members=("user_id", "region"), description="A customer", owner="crm"),
    )


def test_a_group_has_an_entry_and_one_for_each_feature() -> None:
    columns = [("user_id", "string"), ("region", "string"), ("at", "datetime"), ("loaded_at", "datetime")]
    schema = Schema(
        (
            *Schema.of(columns).columns,
            Column("amount", Schema.of({"x": "float64"})["x"], "Paid in euros"),
            *Schema.of({"card": "string"}).columns,
        )
    )
    group = gr.FeatureGroup(
        "spend", entities=[USER], source=ROWS, schema=schema, description="What", owner="pay", tags={"b": "2", "a": "1"}
    )
    about: dict[str, Any] = {"owner": "pay", "tags": (("a", "1"), ("b", "2"))}

    whole, amount, card = entries("feature_group", "spend", group)
    assert (whole.feature, whole.description, whole.owner, whole.tags) == ("", "What", "pay", about["tags"])
    assert whole.members[:5] == ("user", "user_id", "region", "at", "loaded_at")
    assert not {"amount", "card"} & set(whole.members)
    assert amount == Entry("feature_group", "spend", "amount", dtype="float64", description="Paid in euros", **about)
    assert card == Entry("feature_group", "spend", "card", dtype="string", **about)


def test_a_windowed_feature_is_described_as_its_column() -> None:
    schema = Schema((Column("amount", Schema.of({"x": "float64"})["x"], "Paid in euros"),))
    group = gr.FeatureGroup(
        "spend",
        entities=[USER],
        source=ROWS,
        schema=schema,
        aggregations=[gr.Rolling({"amount": ["sum"], "*": "count"}, windows=["7d"]), gr.Lag("amount", ["1d"])],
    )

    whole, *features = entries("feature_group", "spend", group)
    assert "amount" in whole.members
    assert [(one.feature, one.description) for one in features] == [
        ("amount__sum__7d", "Paid in euros"),
        ("rows__count__7d", ""),
        ("amount__lag__1d", "Paid in euros"),
    ]


def test_on_demand_features_are_features_of_their_group() -> None:
    ratio = {"outputs": [{"name": "ratio", "dtype": "float64"}], "sql": [], "description": "Share"}
    sql = {"outputs": [], "sql": [["total", "a + b"]], "description": ""}
    steps = [
        {"function": "share", "inputs": ["a", "b"], "outputs": [], "transformation": ratio},
        {"function": "share", "inputs": ["a", "c"], "outputs": ["other_ratio"], "transformation": ratio},
        {"function": "sum", "inputs": ["a", "b"], "outputs": [], "transformation": sql},
    ]
    whole, *features = entries("feature_group", "spend", {"on_demand": steps, "schema": []})

    assert [(one.feature, one.dtype, one.description) for one in features] == [
        ("ratio", "float64", "Share"),
        ("other_ratio", "float64", "Share"),
        ("total", "", ""),
    ]
    assert whole.members == ("share", "sum")


def test_a_view_is_found_by_what_it_takes_and_makes() -> None:
    view = gr.FeatureView(
        "churn",
        features=["spend", gr.select("visits", "clicks", "pages", rename={"clicks": "hits"}, prefix="web_")],
        labels=["left"],
        requests=[gr.RequestSource("basket", schema={"total": "float64"})],
        derived={"ratio": "total / 2"},
    )
    [whole] = entries("feature_view", "churn", view)

    selected = ("spend", "visits:clicks", "visits:pages", "hits", "web_")
    assert whole.members == (*selected, "left", "ratio", "basket", "total")


def test_a_view_is_found_by_its_transformations() -> None:
    made = {"outputs": [{"name": "logged", "dtype": "float64"}], "sql": []}
    steps = [
        {"function": "standard_scaler", "inputs": ["amount"], "outputs": []},
        {"function": "log", "inputs": ["amount"], "outputs": [], "transformation": made},
    ]
    [whole] = entries("feature_view", "churn", {"transformations": steps, "training_helpers": ["country"]})

    assert whole.members == ("standard_scaler", "log", "logged", "country")


def test_a_transformation_is_found_by_its_inputs_and_outputs() -> None:
    data = {"inputs": ["a", "b"], "outputs": [{"name": "ratio", "dtype": "float64"}], "sql": [["ratio", "a / b"]]}
    [whole] = entries("transformation", "share", {**data, "description": "Share of a", "tags": {"t": "1"}})

    assert whole == Entry(
        "transformation", "share", members=("a", "b", "ratio"), description="Share of a", tags=(("t", "1"),)
    )


def test_what_a_feature_shares_with_its_group_is_only_around_it() -> None:
    feature = Entry("feature_group", "spend", "amount", owner="pay", tags=(("tier", "gold"),))

    assert feature.title == "amount"
    assert feature.about == ()
    assert feature.context == ("spend", "tier: gold", "pay")
    whole = Entry("feature_group", "spend", owner="pay", tags=(("tier", "gold"),))
    assert (whole.title, whole.about, whole.context) == ("spend", ("tier: gold", "pay"), ())


FIELDS = (
    *("schema", "entities", "source", "transform", "aggregations", "on_demand", "features", "labels", "derived"),
    *("requests", "transformations", "inputs", "outputs", "sql", "tags", "owner", "description", "join_keys"),
)
PARTS = ("name", "dtype", "description", "join_keys", "event_time", "source", "features", "rename", "prefix", "schema")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*PARTS, "type", "transformation", "outputs", "sql")), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["entity", "feature_group", "feature_view", "transformation"]),
    st.dictionaries(st.sampled_from(FIELDS), ODD),
)
def test_data_of_any_form_gives_an_entry_first_and_each_reads_back(kind: Kind, data: dict[str, Any]) -> None:
    made = entries(kind, "odd", data)

    assert (made[0].name, made[0].feature) == ("odd", "")
    assert all(one.feature for one in made[1:])
    assert len({one.feature for one in made}) == len(made)
    for one in made:
        assert Entry.from_data(kind, "odd", json.loads(json.dumps(one.to_data()))) == one
