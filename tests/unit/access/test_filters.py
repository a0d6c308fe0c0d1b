"""Rows that come, and rows that do not, tell nobody of values that are masked to them (SEC-6, SEC-10)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import UTC, at, user

import grange as gr
from grange.access import Access, Gate
from grange.errors import CorruptStoreError, ForbiddenError
from grange.security import Security
from grange.security.policies import Policy
from grange.security.principals import Principal, Role

NOW = dt.datetime(2026, 3, 20, tzinfo=UTC)
PEOPLE = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u3"],
        "at": [at(1)] * 3,
        "income": [30_000, 50_000, 70_000],
        "age": [30, 40, 50],
        "since": [at(1), at(2), at(3)],
    }
)
SPINE = [{"user_id": user_id, "event_time": at(10)} for user_id in ("u1", "u2", "u3")]


def people(**options: Any) -> gr.FeatureGroup:
    source = gr.FileSource("people.parquet", event_time="at")
    return gr.FeatureGroup("people", entities=user, source=source, **options)


def rich(text: str = "income > 40000", **options: Any) -> gr.FeatureView:
    return gr.FeatureView("rich", features=options.pop("features", ["people"]), filter=text, **options)


def derived(name: str, *features: Any, filter: str = "", **options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, entities=user, source=gr.DerivedSource(list(features), filter=filter), **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    PEOPLE.write_parquet(tmp_path / "people.parquet")
    with gr.FeatureStore(tmp_path, online="memory") as opened:
        opened.apply([people(), rich(), derived("copied", "people")])
        opened.materialize()
        yield opened


@pytest.fixture
def security(store: gr.FeatureStore) -> Iterator[Security]:
    made = Security(store._parts.registry, "shop")
    made.policies.create(Policy("masked", "mask", ("feature:people:income",), ("*",), frozenset()), now=NOW)
    yield made
    made.close()


@pytest.fixture
def gate(store: gr.FeatureStore, security: Security) -> Gate:
    return Gate(store, security, clock=lambda: NOW)


def caller(gate: Gate, role: Role = "editor") -> Access:
    return gate.access(Principal("k1", "ann", "key", role, "shop", frozenset("*")))


def apply(gate: Gate, *definitions: Any) -> None:
    """As who may: the definer's decision."""
    gate.store.apply(list(definitions))


def users(rows: Any) -> list[str]:
    return [str(name) for name in rows.to_polars()["user_id"]]


# -- a filter that somebody else wrote


def test_what_a_filter_lets_through_is_for_who_wrote_it_to_decide(gate: Gate) -> None:
    found = caller(gate, "viewer").get_historical_features("rich", SPINE)
    assert users(found) == ["u2", "u3"] and found.to_polars()["income"].to_list() == [None, None]


@pytest.mark.parametrize(
    "text",
    ["income > floor", "income > 40000 AND income - floor > 0", "NOT (floor >= income)", "floor BETWEEN 0 AND income",
     "CASE WHEN floor > 1 THEN income > 40000 ELSE age > 1 END", "since > event_time", "coalesce(income > floor, true)",
     "user_id = 'u1' OR greatest(age, floor) < income"],
)  # fmt: skip
def test_a_filter_compares_nothing_masked_with_what_the_caller_brings(
    gate: Gate, security: Security, text: str
) -> None:
    security.policies.create(Policy("since", "mask", ("feature:people:since",), ("*",), frozenset()), now=NOW)
    apply(gate, rich(text))
    spine = [row | {"floor": 45_000} for row in SPINE]
    assert gate.store.get_historical_features("rich", spine).to_polars()["income"].null_count() == 0
    for full in (False, True):
        with pytest.raises(ForbiddenError, match=r"people:(income|since)") as caught:
            caller(gate, "viewer").get_historical_features("rich", spine, full_feature_names=full)
        assert caught.value.try_ is not None and "list" in caught.value.try_
    assert users(caller(gate, "viewer").get_historical_features(["people"], spine)) == ["u1", "u2", "u3"]
    gate.security.audit.flush()
    assert gate.security.audit.entries(limit=1)[0].data["outcome"] == "denied"


@pytest.mark.parametrize("text", ["income > 40000 AND floor > 0", "income > 40000 OR age > floor", "age > floor"])
def test_a_filter_may_look_at_what_the_caller_brings_beside_what_is_masked(gate: Gate, text: str) -> None:
    apply(gate, rich(text))
    spine = [row | {"floor": 60} for row in SPINE]
    kept = users(caller(gate, "viewer").get_historical_features("rich", spine))
    assert kept == users(gate.store.get_historical_features("rich", spine))


def test_nor_by_way_of_what_is_computed(gate: Gate) -> None:
    """On demand, of a request column; by an expression; or of a label that the spine brings."""
    apply(
        gate,
        rich(
            "above > 0",
            derived={"above": "income - floor"},
            requests=[gr.RequestSource("asked", schema={"floor": "int64"})],
        ),
        gr.FeatureView("labelled", features=["people"], labels=["paid"], filter="income > paid"),
    )
    viewer = caller(gate, "viewer")
    for view, spine in (
        ("rich", [row | {"floor": 45_000} for row in SPINE]),
        ("labelled", [row | {"paid": 45_000} for row in SPINE]),
    ):
        assert gate.store.get_historical_features(view, spine).rows_left_out
        with pytest.raises(ForbiddenError, match="people:income"):
            viewer.get_historical_features(view, spine)


@pytest.mark.parametrize("text", ["income >= price", "much", "coalesce(price, 0) < income OR age > 1"])
def test_a_filter_compares_nothing_masked_with_what_the_caller_picks_by_other_keys(
    gate: Gate, tmp_path: Path, text: str
) -> None:
    prices = pl.DataFrame({"product_id": range(5), "at": [at(1)] * 5, "price": range(0, 100_000, 20_000)})
    prices.write_parquet(tmp_path / "prices.parquet")
    product = gr.Entity("product", join_keys=["product_id"])
    source = gr.FileSource("prices.parquet", event_time="at")
    apply(
        gate,
        gr.FeatureGroup("prices", entities=product, source=source),
        rich(text, features=["people", "prices"], derived={"much": "income > price"}),
        gr.FeatureView("both", features=["people", "prices"], filter="income > 40000 AND price > 1"),
        gr.FeatureView("shown", features=["people", "prices"], filter="age * 1000 > price"),
    )
    gate.store.materialize("prices")
    spine = [row | {"product_id": number} for row in SPINE for number in range(5)]
    viewer = caller(gate, "viewer")
    assert gate.store.get_historical_features("rich", spine).to_polars()["price"].n_unique() > 1
    with pytest.raises(ForbiddenError, match="people:income"):
        viewer.get_historical_features("rich", spine)
    for view in ("both", "shown"):
        assert users(viewer.get_historical_features(view, spine))


def test_nor_with_the_same_feature_of_another_entity(gate: Gate) -> None:
    boss = gr.select("people", "income", on={"user_id": "boss_id"}, prefix="boss_")
    apply(gate, rich("income > boss_income", features=["people", boss]))
    with pytest.raises(ForbiddenError, match="people:income"):
        caller(gate, "viewer").get_historical_features("rich", [row | {"boss_id": "u2"} for row in SPINE])


def test_a_view_that_is_brought_has_a_filter_of_the_callers_own(gate: Gate) -> None:
    viewer = caller(gate, "viewer")
    applied = gate.store.catalog.view("rich")
    assert users(viewer.get_historical_features(applied, SPINE)) == ["u2", "u3"]
    for brought in (rich("income > 60000"), gr.FeatureView("mine", features=["copied"], filter="income > 60000")):
        with pytest.raises(ForbiddenError, match="income"):
            viewer.get_historical_features(brought, SPINE)
    young = gr.FeatureView("mine", features=["people"], filter="age < 45")
    assert users(viewer.get_historical_features(young, SPINE)) == ["u1", "u2"]


def test_no_other_way_out_takes_a_filter_or_counts_by_one(gate: Gate) -> None:
    """What has files of a view is refused whole; the others have no filter, and show every row."""
    viewer, editor = caller(gate, "viewer"), caller(gate)
    with pytest.raises(ForbiddenError):
        editor.create_training_dataset("rich", SPINE, filter="income > 60000")
    gate.store.create_training_dataset("rich", SPINE, filter="income > 60000")
    for refused in (
        lambda: viewer.check_dataset("rich", 1),
        lambda: editor.export("rich", "rich.parquet", spine=SPINE),
        lambda: viewer.statistics("people", columns=["income"]),
        lambda: viewer.served("rich"),
    ):
        with pytest.raises(ForbiddenError):
            refused()
    online = viewer.get_online_features("rich", [{"user_id": row["user_id"]} for row in SPINE]).to_dicts()
    assert [(row["user_id"], row["income"]) for row in online] == [("u1", None), ("u2", None), ("u3", None)]
    assert viewer.read("people").arrow["income"].null_count == len(viewer.read("people")) == 3
    assert {column.name for column in viewer.statistics("people")} == {"user_id", "at", "age", "since"}
    assert not viewer.search("60000").hits


# -- a filter that the caller applies


@pytest.mark.parametrize(
    "definition",
    [
        rich("income > 50000"),
        rich("income > 40000 AND income < 60000"),
        gr.FeatureView("mine", features=["people:income"], filter="income > 40000"),
        gr.FeatureView("mine", features=["copied"], filter="income > 40000"),
        gr.FeatureView("mine", features=["people"], derived={"much": "income > 5"}, filter="much"),
        rich("age > 40000", features=[gr.select("people", rename={"age": "income", "income": "age"})]),
        derived("mine", "people", filter="income > 40000"),
        derived("mine", "people", transform="SELECT user_id, event_time, age FROM source WHERE income > 40000"),
        derived("copied", "people", expectations={"income": [gr.greater_than(5, policy="drop")]}),
        people(expectations={"income": [gr.greater_than(5, policy="warn")]}),
    ],
)
def test_nobody_applies_what_sieves_by_what_is_hidden_from_them(gate: Gate, definition: Any) -> None:
    with pytest.raises(ForbiddenError, match="income"):
        caller(gate).apply([definition])
    with pytest.raises(ForbiddenError, match="income"):
        caller(gate).plan([definition])
    assert caller(gate, "admin").apply([definition]).changes


NEW = PEOPLE.select("user_id", "at", "age", new=pl.col("age") * 2, region=pl.lit("north"))


def new_group(name: str = "third", *entities: gr.Entity, **options: Any) -> gr.FeatureGroup:
    source = gr.FileSource("third.parquet", event_time="at")
    return gr.FeatureGroup(name, entities=[user, *entities], source=source, **options)


DOUBLED = 'SELECT user_id, "at", new * 2 AS more FROM source'


@pytest.mark.parametrize(
    "definitions",
    [
        [derived("d1", "people:age"), derived("d2", "d1")],
        [derived("d2", "d1:age", filter="age > 35"), derived("d1", "people:age")],
        [new_group(), derived("d1", "third")],
        [new_group(), derived("d1", "third:new", filter="new > 1"), derived("d2", "d1:new")],
        [new_group(), derived("d1", "third"), gr.FeatureView("mine", features=["d1"], filter="new > 1")],
        [new_group(transform=DOUBLED), derived("d1", "third:more", expectations={"more": [gr.greater_than(1)]})],
        [new_group(schema={"user_id": "string", "at": "datetime", "age": "int64"}), derived("d1", "third:new")],
        [new_group(), derived("d1", "people:age", "third:new", schema={"age": "float64"})],
    ],
)  # fmt: skip
def test_what_comes_with_its_parents_is_applied_with_them(gate: Gate, tmp_path: Path, definitions: list[Any]) -> None:
    NEW.write_parquet(tmp_path / "third.parquet")
    assert {change.name for change in caller(gate).apply(definitions).changes} == {item.name for item in definitions}


@pytest.mark.parametrize(
    "definitions",
    [
        [new_group(), derived("d1", "people:income", "third:new", filter="new > 1")],
        [new_group(), derived("d1", "people:income", "third:new"), derived("d2", "d1", filter="new > 1")],
        [new_group(), gr.FeatureView("mine", features=["people:income", "third:new"], filter="new > 1")],
    ],
)
def test_as_long_as_columns_are_not_known_all_of_them_count(gate: Gate, tmp_path: Path, definitions: list[Any]) -> None:
    NEW.write_parquet(tmp_path / "third.parquet")
    editor = caller(gate)
    with pytest.raises(ForbiddenError, match="people:income") as caught:
        editor.apply(definitions)
    assert caught.value.try_ is not None and caught.value.try_.startswith(("apply third first", "apply d1 first"))
    editor.apply(definitions[0])
    assert editor.apply(definitions).changes


def test_columns_that_are_open_hide_nothing_that_is_made_of_them(gate: Gate, tmp_path: Path) -> None:
    NEW.write_parquet(tmp_path / "third.parquet")
    both = derived("d1", gr.select("people", "income", rename={"income": "wage"}), "third:new")
    for definitions in (
        [new_group(), both, gr.FeatureView("mine", features=["d1"], filter="wage > 40000")],
        [new_group(), both, derived("d2", "d1", filter="wage > 40000")],
        [new_group(), both, derived("d2", "d1", expectations={"wage": [gr.greater_than(1)]})],
    ):
        with pytest.raises(ForbiddenError, match="people:income"):
            caller(gate).apply(definitions)


def test_a_group_gets_other_keys_beside_a_filter_that_does_not_look_at_what_is_hidden(
    gate: Gate, tmp_path: Path
) -> None:
    PEOPLE.select("user_id", "at", tall=pl.lit(1)).write_parquet(tmp_path / "third.parquet")
    apply(
        gate,
        new_group(),
        gr.FeatureView("by_height", features=["third"], filter="tall > 0"),
        gr.FeatureView("by_both", features=["people:income", "third:tall"], filter="tall > 0 AND income > 5"),
    )
    NEW.with_columns(tall=pl.lit(1)).write_parquet(tmp_path / "third.parquet")
    assert caller(gate).apply([new_group("third", gr.Entity("region", join_keys=["region"]))]).changes


@pytest.mark.parametrize(
    "deciding",
    [
        {"filter": "x > 45"},
        {"transform": "SELECT user_id, event_time, 1 AS one FROM source WHERE x > 45"},
        {"expectations": {"x": [gr.greater_than(45, policy="drop")]}},
    ],
)
def test_what_decides_which_rows_there_are_is_not_changed_further_up(gate: Gate, deciding: dict[str, Any]) -> None:
    apply(
        gate,
        derived("top", gr.select("people", "age", rename={"age": "x"})),
        derived("between", "top"),
        derived("below", "between:x", **deciding),
    )
    editor = caller(gate)
    hidden = derived("top", gr.select("people", "income", rename={"income": "x"}))
    for definitions in ([hidden], [hidden, derived("between", "top")]):
        with pytest.raises(ForbiddenError, match="people:income"):
            editor.apply(definitions)
    assert editor.apply([derived("top", gr.select("people", "age", rename={"age": "x"}), filter="x > 1")]).changes


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("schema", [{}, {"age": "int64"}, {"user_id": "string", "income": "int64"}])
def test_a_project_is_applied_again_whatever_it_leaves_open(
    tmp_path: Path, gate: Gate, ending: str, schema: dict[str, str]
) -> None:
    (PEOPLE.write_csv if ending == "csv" else PEOPLE.write_parquet)(tmp_path / f"again.{ending}")
    source = gr.FileSource(f"again.{ending}", event_time="at")
    project = [
        gr.FeatureGroup("again", entities=user, source=source, schema=schema),
        gr.FeatureView("poor", features=["again"], filter="income < 40000"),
    ]
    apply(gate, *project)
    masked = Policy("again", "mask", ("feature:again:income",), ("*",), frozenset())
    gate.security.policies.create(masked, now=NOW)
    assert not caller(gate).apply(project).changes
    with pytest.raises(ForbiddenError, match="again:income"):
        caller(gate).apply([project[0], gr.FeatureView("poor", features=["again"], filter="income < 50000")])


def test_a_damaged_version_is_in_the_way_of_nothing_that_has_not_to_do_with_it(gate: Gate, tmp_path: Path) -> None:
    apply(gate, rich(features=["people@1.0.0:income"]))
    NEW.write_parquet(tmp_path / "third.parquet")
    (gate.store.project / ".grange/offline/people/1.0.0/.meta.json").write_text("nothing that anybody could read")
    editor = caller(gate)
    assert editor.apply([gr.Entity("region", join_keys=["region"]), new_group()]).changes
    assert not editor.apply([rich(features=["people@1.0.0:income"])]).changes
    with pytest.raises(CorruptStoreError):
        editor.apply([rich("income > 50000", features=["people@1.0.0:income"])])


def test_what_is_applied_already_may_be_applied_again(gate: Gate) -> None:
    editor = caller(gate)
    apply(gate, people(expectations={"income": [gr.greater_than(5)]}), derived("few", "people", filter="income > 1"))
    same = [gate.store.catalog.group("people"), rich(owner="sales"), derived("few", "people", filter="income > 1")]
    editor.apply(same)
    editor.apply([rich("age > 1 AND income > 40000")])
    editor.apply([rich("age > 1 OR age < 5"), people(expectations={"age": [gr.greater_than(1)]})])
    assert editor.apply([derived("older", "people:age", filter="age > 35")]).changes


def test_what_a_filter_looks_at_is_not_changed_under_it(gate: Gate) -> None:
    """What is on demand in a group, or aggregated, and what the filter of another decides by."""
    flag = gr.Transformation("flag", sql={"flag": "income > 40000"}, inputs=["income"])
    other = gr.Transformation("flag", sql={"flag": "income > 60000"}, inputs=["income"])
    counted = gr.Rolling({"income": ["count"]}, windows=["7d"], filter="income > 40000", name="many")
    recounted = gr.Rolling({"income": ["count"]}, windows=["7d"], filter="income > 60000", name="many")
    apply(
        gate,
        people(on_demand=[flag]),
        derived("counts", "people:income", aggregations=[counted]),
        gr.FeatureView("flagged", features=["people"], filter="flag"),
        gr.FeatureView("counted", features=["counts"], filter="many__count__7d > 0"),
    )
    editor = caller(gate)
    for definition in (people(on_demand=[other]), derived("counts", "people:income", aggregations=[recounted])):
        with pytest.raises(ForbiddenError, match="income"):
            editor.apply([definition])
    editor.apply([gate.store.catalog.group("counts"), gate.store.catalog.view("flagged")])


def test_a_view_of_a_group_whose_columns_are_not_known_yet_is_for_who_sees_all(gate: Gate, tmp_path: Path) -> None:
    PEOPLE.rename({"income": "wage"}).write_parquet(tmp_path / "others.parquet")
    others = gr.FeatureGroup("others", entities=user, source=gr.FileSource("others.parquet", event_time="at"))
    view = gr.FeatureView("mine", features=["people", "others:wage"], filter="income > wage")
    with pytest.raises(ForbiddenError, match="people:income"):
        caller(gate).apply([others, view])
    assert caller(gate).apply([others, gr.FeatureView("mine", features=["others"], filter="wage > 40000")]).changes


def test_a_policy_that_lets_others_see_closes_a_filter_too(gate: Gate, security: Security) -> None:
    security.policies.delete("masked")
    editor = caller(gate)
    editor.apply([rich("income > 45000")])
    security.policies.create(Policy("only", "allow", ("feature:people:income",), ("key:bob",), frozenset()), now=NOW)
    with pytest.raises(ForbiddenError, match="income"):
        caller(gate).apply([rich("income > 46000")])
    security.policies.delete("only")
    online = Policy("online", "mask", ("feature:people:income",), ("*",), frozenset({"online"}))
    security.policies.create(online, now=NOW)
    assert caller(gate).apply([rich("income > 47000")]).changes, "who may see it in history may filter history by it"
