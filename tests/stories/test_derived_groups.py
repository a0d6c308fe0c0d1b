"""Derived groups: rows joined from other groups, with their parents recorded, kept fresh when these change."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from tests.shop import at, user

import grange as gr
from grange.errors import (
    CyclicDefinitionError,
    DefinitionError,
    ExpectationError,
    GrangeError,
    InUseError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    SourceError,
    StoreUnavailableError,
    UnknownFeatureError,
    UnknownVersionError,
)
from grange.verbs.parts import Parts

ORDERS = pl.DataFrame(
    {"user_id": ["u1", "u2", "u1"], "at": [at(2), at(3), at(6)], "amount": [10.0, 20.0, 30.0]},
)
PLANS = pl.DataFrame(
    {"user_id": ["u1", "u1", "u2"], "since": [at(1), at(5), at(4)], "plan": ["free", "paid", "free"]},
)


@gr.transformation(outputs="float64")
def twice(amount: float) -> float:
    return amount * 2


def groups() -> list[gr.FeatureGroup]:
    return [
        gr.FeatureGroup("orders", entities=user, source=gr.FileSource("data/orders.parquet", event_time="at")),
        gr.FeatureGroup("plans", entities=user, source=gr.FileSource("data/plans.parquet", event_time="since")),
    ]


def both(**source: object) -> gr.FeatureGroup:
    features = source.pop("features", ["orders", "plans:plan"])
    return gr.FeatureGroup("both", entities=user, source=gr.DerivedSource(features, **source))  # type: ignore[arg-type]


@pytest.fixture
def loaded(store: gr.FeatureStore, project: Path) -> gr.FeatureStore:
    ORDERS.write_parquet(project / "data" / "orders.parquet")
    PLANS.write_parquet(project / "data" / "plans.parquet")
    store.apply([*groups(), both()])
    store.materialize()
    return store


def rows(store: gr.FeatureStore) -> list[tuple[object, ...]]:
    return store.read("both").polars.sort("event_time").rows()


def stale(store: gr.FeatureStore) -> list[dict[str, str]]:
    return store.inspect("both")["stale"]


def write(project: Path, name: str, frame: pl.DataFrame) -> None:
    frame.write_parquet(project / "data" / f"{name}.parquet")


def test_rows_are_joined_point_in_time(loaded: gr.FeatureStore) -> None:
    assert rows(loaded) == [
        ("u1", at(2), 10.0, "free"),
        ("u2", at(3), 20.0, None),
        ("u1", at(6), 30.0, "paid"),
    ]


def test_parents_are_recorded(loaded: gr.FeatureStore) -> None:
    (meta,) = loaded.versions("both")
    assert dict(meta.parents) == {"orders": "1.0.0", "plans": "1.0.0"}


def test_it_is_served_like_any_group(loaded: gr.FeatureStore) -> None:
    (vector,) = loaded.get_online_features(["both"], [{"user_id": "u1"}], now=at(9)).to_dicts()
    assert (vector["amount"], vector["plan"]) == (30.0, "paid")


def test_a_parents_new_version_makes_a_new_one(loaded: gr.FeatureStore, project: Path) -> None:
    PLANS.with_columns(plan=pl.col("plan").str.to_uppercase()).write_parquet(project / "data" / "plans.parquet")

    done = loaded.materialize("plans")

    assert [(item.group, item.version) for item in done] == [("plans", "1.0.1"), ("both", "1.0.1")]
    assert rows(loaded)[0][3] == "FREE"


def test_nothing_is_done_again_when_nothing_changed(loaded: gr.FeatureStore) -> None:
    assert [item.group for item in loaded.materialize("orders")] == ["orders"]


def test_children_may_be_left_alone_and_are_stale(loaded: gr.FeatureStore, project: Path) -> None:
    PLANS.with_columns(plan=pl.lit("gone")).write_parquet(project / "data" / "plans.parquet")

    loaded.materialize("plans", downstream=False)

    assert rows(loaded)[0][3] == "free"
    assert loaded.inspect("both")["stale"] == [{"parent": "plans", "made_of": "1.0.0", "latest": "1.0.1"}]
    loaded.materialize("both")
    assert loaded.inspect("both")["stale"] == []


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("inner", [("u1", at(2)), ("u1", at(6))]),
        ("right", [("u1", at(1)), ("u2", at(4)), ("u1", at(5))]),
        ("full", [("u1", at(1)), ("u1", at(2)), ("u2", at(3)), ("u2", at(4)), ("u1", at(5)), ("u1", at(6))]),
    ],
)
def test_joins_say_which_rows_there_are(
    loaded: gr.FeatureStore, join: str, expected: list[tuple[str, dt.datetime]]
) -> None:
    loaded.apply(both(features=["orders", gr.select("plans", "plan", join=join)]))
    loaded.materialize("both")
    assert [row[:2] for row in rows(loaded)] == expected


def test_a_filter_and_a_transform(loaded: gr.FeatureStore) -> None:
    group = gr.FeatureGroup(
        "both",
        entities=user,
        source=gr.DerivedSource(["orders", "plans:plan"], filter="plan IS NOT NULL", event_time="moment"),
        transform="SELECT user_id, moment, amount * 2 AS twice FROM source",
    )
    loaded.apply(group)
    loaded.materialize("both")
    assert loaded.read("both").polars.sort("moment").rows() == [("u1", at(2), 20.0), ("u1", at(6), 60.0)]


def test_windows_over_derived_rows(loaded: gr.FeatureStore) -> None:
    group = gr.FeatureGroup(
        "spend_by_plan",
        entities=user,
        source=gr.DerivedSource(["orders", "plans:plan"]),
        aggregations=[gr.Rolling({"amount": "sum"}, "30d", filter="plan = 'paid'", name="paid")],
    )
    loaded.apply(group)
    loaded.materialize("spend_by_plan")
    (vector,) = loaded.get_online_features(["spend_by_plan"], [{"user_id": "u1"}], now=at(9)).to_dicts()
    assert vector["paid__sum__30d"] == 30.0


class TestRowsOfTheBaseGroup:
    """Each stored row is an event, those of equal key and time too (WIN-6)."""

    @pytest.fixture
    def tied(self, loaded: gr.FeatureStore, project: Path) -> gr.FeatureStore:
        twice = {"user_id": ["u1", "u1", "u2"], "at": [at(2), at(2), at(3)], "amount": [1.0, 2.0, 5.0]}
        write(project, "orders", pl.DataFrame(twice))
        loaded.materialize("orders", downstream=False)
        return loaded

    @pytest.mark.parametrize("engine", ["polars", "duckdb", "reference"])
    @pytest.mark.parametrize("join", ["left", "asof"])
    def test_all_of_them_are_rows(self, tied: gr.FeatureStore, engine: str, join: str) -> None:
        tied.apply(both(features=["orders", gr.select("plans", "plan", join=join)]))
        tied.materialize("both", engine=engine)
        assert rows(tied) == [("u1", at(2), 1.0, "free"), ("u1", at(2), 2.0, "free"), ("u2", at(3), 5.0, None)]

    def test_an_inner_join_keeps_both(self, tied: gr.FeatureStore) -> None:
        tied.apply(both(features=["orders", gr.select("plans", "plan", join="inner")]))
        tied.materialize("both")
        assert rows(tied) == [("u1", at(2), 1.0, "free"), ("u1", at(2), 2.0, "free")]

    def test_without_any_join(self, tied: gr.FeatureStore) -> None:
        tied.apply(both(features=[gr.select("orders", prefix="order_")], filter="order_amount > 1"))
        tied.materialize("both")
        assert rows(tied) == [("u1", at(2), 2.0), ("u2", at(3), 5.0)]

    def test_what_else_is_taken_of_the_row_is_of_the_row(self, tied: gr.FeatureStore) -> None:
        again = gr.select("orders", "amount", rename={"amount": "again"})
        before = gr.select("orders", "amount", rename={"amount": "before"}, exact_matches=False)
        tied.apply(both(features=["orders:amount", again, before]))
        tied.materialize("both")
        assert rows(tied) == [
            ("u1", at(2), 1.0, 1.0, None),
            ("u1", at(2), 2.0, 2.0, None),
            ("u2", at(3), 5.0, 5.0, None),
        ]

    def test_windows_count_them_all(self, tied: gr.FeatureStore) -> None:
        windows = gr.Rolling({"amount": ["sum", "count"]}, "30d")
        source = gr.DerivedSource(["orders", "plans:plan"])
        tied.apply(gr.FeatureGroup("spend", entities=user, source=source, aggregations=[windows]))
        tied.materialize("spend")

        (served,) = tied.get_online_features(["spend"], [{"user_id": "u1"}], now=at(9)).to_dicts()
        joined = tied.get_historical_features(["spend"], [{"user_id": "u1", "event_time": at(9)}]).to_polars()

        for vector in (served, joined.row(0, named=True)):
            assert (vector["amount__sum__30d"], vector["amount__count__30d"]) == (3.0, 2)

    def test_of_a_range_too(self, tied: gr.FeatureStore) -> None:
        tied.apply(both(event_time="moment").with_(name="ranged"))
        tied.materialize("ranged", end=at(3))
        assert tied.read("ranged").polars.rows() == [("u1", at(2), 1.0, "free"), ("u1", at(2), 2.0, "free")]

    def test_made_entity_keys_and_times_are_distinct(self, tied: gr.FeatureStore) -> None:
        tied.apply(both(features=["orders", gr.select("plans", "plan", join="full")]))
        tied.materialize("both")
        assert [row[:2] for row in rows(tied)] == [
            ("u1", at(1)),
            ("u1", at(2)),
            ("u2", at(3)),
            ("u2", at(4)),
            ("u1", at(5)),
        ]

    def test_aggregates_are_as_of_each_distinct_event(self, tied: gr.FeatureStore) -> None:
        spend = gr.FeatureGroup(
            "spend",
            entities=user,
            source=gr.FileSource("data/orders.parquet", event_time="at"),
            aggregations=[gr.Rolling({"amount": "sum"}, "30d")],
        )
        tied.apply([spend, both(features=["spend", "plans:plan"])])
        tied.materialize(["spend", "both"])
        assert rows(tied) == [("u1", at(2), 3.0, "free"), ("u2", at(3), 5.0, None)]

    def test_rows_that_were_pushed_are_among_them(self, tied: gr.FeatureStore) -> None:
        tied.push("orders", [{"user_id": "u1", "at": at(2), "amount": 4.0}])
        tied.materialize("both")
        assert [row[2] for row in rows(tied)] == [1.0, 2.0, 4.0, 5.0]

    @pytest.mark.parametrize("engine", ["polars", "duckdb", "reference"])
    def test_a_default_stands_where_there_is_a_null(self, loaded: gr.FeatureStore, project: Path, engine: str) -> None:
        orders, _ = groups()
        write(project, "orders", ORDERS.with_columns(amount=pl.when(pl.col("amount") > 15).then("amount")))
        loaded.apply(orders.with_(defaults=(("amount", -1.0),)))
        loaded.materialize("orders", downstream=False)
        loaded.materialize("both", engine=engine)
        assert [row[2] for row in rows(loaded)] == [-1.0, 20.0, 30.0]

    def test_on_demand_features_are_computed_of_them(self, tied: gr.FeatureStore) -> None:
        source = gr.FileSource("data/orders.parquet", event_time="at")
        tied.apply([gr.FeatureGroup("orders", entities=user, source=source, on_demand=[twice]), both()])
        tied.materialize("both")
        assert tied.read("both", columns=["twice"]).polars.to_series().to_list() == [2.0, 4.0, 10.0]


class TestStaleness:
    def test_rows_that_came_out_the_same_are_fresh(self, loaded: gr.FeatureStore, project: Path) -> None:
        write(project, "plans", PLANS.vstack(pl.DataFrame({"user_id": ["u9"], "since": [at(1)], "plan": ["free"]})))

        again = loaded.materialize("plans")[1]

        assert (again.group, again.version, again.new_version) == ("both", "1.0.0", False)
        assert stale(loaded) == []
        assert [item.group for item in loaded.materialize("orders")] == ["orders"]

    def test_a_pinned_parent_does_not_make_it_stale(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.apply(both(features=["orders", "plans@1.0.0:plan"]))
        loaded.materialize("both")
        write(project, "plans", PLANS.with_columns(plan=pl.lit("gone")))

        assert [item.group for item in loaded.materialize("plans")] == ["plans"]
        assert stale(loaded) == []

    def test_pushed_rows_make_it_stale(self, loaded: gr.FeatureStore) -> None:
        loaded.push("plans", [{"user_id": "u2", "since": at(1), "plan": "trial"}])
        assert stale(loaded) == [{"parent": "plans", "made_of": "1.0.0", "latest": "1.0.0 and 1 newer pushed row"}]

        assert [item.group for item in loaded.materialize("orders")] == ["orders", "both"]

        assert rows(loaded)[1][3] == "trial"
        assert stale(loaded) == []

    @pytest.mark.parametrize(
        ("parent", "features", "value"),
        [
            ("orders", ["orders@1.0.0", "plans:plan", gr.select("orders", prefix="now_")], 9.0),
            ("plans", ["orders", "plans@1.0.0:plan", gr.select("plans", prefix="now_")], "gold"),
        ],
    )
    def test_a_group_may_be_pinned_and_followed(
        self, loaded: gr.FeatureStore, parent: str, features: list[object], value: object
    ) -> None:
        loaded.apply(both(features=features))
        loaded.materialize("both")
        loaded.push(parent, [{"user_id": "u1", "at": at(6), "since": at(6), "amount": 9.0, "plan": "gold"}])
        assert [item["parent"] for item in stale(loaded)] == [parent]

        loaded.materialize("both")

        assert stale(loaded) == []
        assert rows(loaded)[2] == ("u1", at(6), 30.0, "paid", value)

    def test_a_range_is_widened_when_a_parent_changed(self, loaded: gr.FeatureStore, project: Path) -> None:
        write(project, "plans", PLANS.with_columns(plan=pl.lit("gone")))
        loaded.materialize("plans", downstream=False)

        (done,) = loaded.materialize("both", start=at(6))

        assert [row[3] for row in rows(loaded)] == ["gone", None, "gone"]
        assert "plans (1.0.0 -> 1.0.1)" in done.warnings[0]
        (done,) = loaded.materialize("both", start=at(6))
        assert done.warnings == ()

    def test_a_version_that_is_gone_back_to_is_as_old_as_what_it_was_made_of(
        self, loaded: gr.FeatureStore, project: Path
    ) -> None:
        write(project, "plans", PLANS.with_columns(plan=pl.lit("gone")))
        loaded.materialize("plans")
        loaded.rollback("both", "1.0.0")
        assert stale(loaded) == [{"parent": "plans", "made_of": "1.0.0", "latest": "1.0.1"}]

    def test_a_run_says_how_far_pushed_rows_were_read(self, loaded: gr.FeatureStore) -> None:
        def reach() -> int:
            (run, *_) = loaded._parts.registry.runs("both")
            (orders,) = (item for item in run.details["parents"] if item["group"] == "orders")
            return int(orders["pushed_until"])

        before = reach()
        loaded.push("orders", [{"user_id": "u1", "at": at(7), "amount": 1.0}] * 3)
        loaded.materialize("both")
        assert reach() == before + 3

    def test_a_registry_that_is_away_is_a_warning(
        self, loaded: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object, **__: object) -> None:
            raise StoreUnavailableError("the registry is away")

        write(project, "plans", PLANS.with_columns(plan=pl.lit("gone")))
        loaded.materialize("plans", downstream=False)
        with monkeypatch.context() as patch:
            patch.setattr(type(loaded._parts.registry), "put", away)
            (done,) = loaded.materialize("both")

        assert done.new_version
        assert "could not record what they were made of: the registry is away" in done.warnings[0]
        assert stale(loaded) == []  # as the version itself says


class TestChildrenThatFail:
    @pytest.fixture
    def failing(self, loaded: gr.FeatureStore, project: Path) -> gr.FeatureStore:
        checked = both().with_(name="a_child", expectations=(("amount", (gr.less_than(100),)),))
        loaded.apply(checked)
        loaded.materialize("a_child")
        write(project, "orders", ORDERS.with_columns(amount=pl.col("amount") * 10))
        return loaded

    def test_do_not_keep_others_back(self, failing: gr.FeatureStore) -> None:
        with pytest.raises(ExpectationError) as caught:
            failing.materialize("orders")

        assert caught.value.details["done"] == ["orders@1.0.1", "both@1.0.1"]
        assert caught.value.details["failed"] == ["a_child"]
        assert "orders@1.0.1, both@1.0.1 done" in str(caught.value)
        assert "grange materialize a_child" in str(caught.value)
        assert [row[2] for row in rows(failing)] == [100.0, 200.0, 300.0]

    def test_a_schema_that_no_longer_fits(self, loaded: gr.FeatureStore, project: Path) -> None:
        write(project, "orders", ORDERS.rename({"amount": "price"}))
        orders, _ = groups()
        loaded.apply(both(features=["orders"]))
        loaded.materialize("both")
        loaded.apply(
            orders.with_(source=gr.FileSource("data/orders.parquet", event_time="at", schema={"price": "float64"}))
        )

        with pytest.raises(GrangeError, match="apply it again: grange apply") as caught:
            loaded.materialize("orders")

        assert caught.value.details["failed"] == ["both"]
        loaded.apply(both(features=["orders"]))
        (done,) = loaded.materialize("both")
        assert done.version == "3.0.0"


def test_the_asked_engine_does_all_of_it(loaded: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real = Parts.engine
    monkeypatch.setattr(Parts, "engine", lambda self, name=None: used.append(name) or real(self, name))
    loaded.materialize("both", engine="duckdb", online=False)
    assert set(used) == {"duckdb"}


def test_a_version_that_is_the_latest_again_is_not_new(loaded: gr.FeatureStore, project: Path) -> None:
    orders, _ = groups()
    checked = orders.with_(expectations=(("amount", (gr.less_than(25, policy="drop"),)),))
    loaded.apply(checked)
    quarantine = project / ".grange" / "offline" / "orders" / "_quarantine"
    first = loaded.materialize("orders", downstream=False)[0]
    write(project, "orders", ORDERS.with_columns(amount=pl.col("amount") + 1))
    second = loaded.materialize("orders", downstream=False)[0]
    files = sorted(quarantine.iterdir())
    loaded.rollback("orders", first.version)

    again = loaded.materialize("orders", downstream=False)[0]

    assert (again.version, again.new_version, again.quarantined) == (second.version, False, 1)
    assert sorted(quarantine.iterdir()) == files


@pytest.mark.parametrize("version", ["banana", "", 5, "0.0.0", "1.0.0"])
def test_a_version_that_cannot_be_is_refused_before_any_work(
    loaded: gr.FeatureStore, project: Path, version: object
) -> None:
    (project / "data" / "orders.parquet").unlink()  # reading the source would say so
    with pytest.raises(RequestError, match="version"):
        loaded.materialize("orders", version=version)  # type: ignore[arg-type]


class TestRefusals:
    def test_a_filter_on_a_column_that_is_not_there(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(MissingColumnError, match="feature group 'both': filter takes 'amont'") as caught:
            loaded.apply(both(filter="amont > 1"))
        assert caught.value.closest == ("amount",)

    def test_a_filter_on_other_types(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(DefinitionError, match="feature group 'both': filter"):
            loaded.apply(both(filter="amount > 'much'"))

    def test_a_key_to_join_on_that_its_rows_lack(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(MissingColumnError, match="feature group 'both': its rows have no key column 'buyer'"):
            loaded.apply(both(features=["orders", gr.select("plans", "plan", on={"user_id": "buyer"})]))

    @pytest.mark.parametrize("name", ["amount", "plan"])
    def test_a_time_with_the_name_of_another_column(self, loaded: gr.FeatureStore, name: str) -> None:
        with pytest.raises(NameCollisionError, match="feature group 'both': the time") as caught:
            loaded.apply(both(event_time=name))
        assert "gr.DerivedSource(..., event_time='...')" in str(caught.value)

    def test_speak_of_the_group(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(UnknownFeatureError) as caught:
            loaded.apply(both(features=["orders", "plans:plam"]))
        assert "feature group 'both'" in str(caught.value)
        assert "feature view" not in str(caught.value)

    def test_a_pinned_version_that_is_not_there(self, loaded: gr.FeatureStore) -> None:
        loaded.apply(both(features=["orders", "plans@7.0.0:plan"]))
        with pytest.raises(UnknownVersionError, match=r"7\.0\.0") as caught:
            loaded.materialize("both")
        assert caught.value.asked_by == "feature group 'both'"

    def test_a_group_of_itself(self, store: gr.FeatureStore) -> None:
        with pytest.raises(CyclicDefinitionError):
            store.apply(both(features=["both"]))

    def test_a_parent_that_is_not_there(self, store: gr.FeatureStore) -> None:
        with pytest.raises(GrangeError, match="ordres"):
            store.apply(both(features=["ordres"]))

    def test_a_parent_without_history(self, store: gr.FeatureStore, project: Path) -> None:
        ORDERS.write_parquet(project / "data" / "orders.parquet")
        PLANS.write_parquet(project / "data" / "plans.parquet")
        store.apply([*groups(), both()])
        with pytest.raises(SourceError, match="grange materialize orders"):
            store.materialize("both")

    def test_a_parent_is_not_deleted_under_it(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(InUseError, match="both"):
            loaded.delete("orders")

    def test_a_parents_feature_does_not_vanish_under_it(self, loaded: gr.FeatureStore, project: Path) -> None:
        ORDERS.drop("amount").with_columns(price=1.0).write_parquet(project / "data" / "orders.parquet")
        changed = gr.FeatureGroup(
            "orders",
            entities=user,
            source=gr.FileSource("data/orders.parquet", event_time="at", schema={"price": "float64"}),
        )
        loaded.apply(both(features=["orders:amount", "plans:plan"]))
        with pytest.raises(UnknownFeatureError, match="amount"):
            loaded.apply(changed)
