"""What is made of what a policy protects, what was made of it once, and changes that would take it from under it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.shop import SHOPS, SPEND, UTC, at, shops_group, spend_group, user

import grange as gr
from grange.access import Access, Gate
from grange.access.changes import readers_of
from grange.access.reading import Reading
from grange.errors import ColumnTypeError, ExpectationError, ForbiddenError
from grange.security import Security
from grange.security.policies import Policy
from grange.security.principals import Permission, Principal, Role

NOW = dt.datetime(2026, 3, 20, tzinfo=UTC)
ROWS = [{"user_id": "u1"}]
SPINE = [{"user_id": "u1", "at": at(10)}]
CLICK = {"user_id": "u1", "at": at(2), "page": "home"}


def derived(name: str, *features: Any, **options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, entities=user, source=gr.DerivedSource(list(features)), **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    (tmp_path / "data").mkdir()
    SPEND.write_parquet(tmp_path / "data" / "spend.parquet")
    SHOPS.write_csv(tmp_path / "data" / "shops.csv")
    clicks = gr.FeatureGroup(
        "clicks",
        entities=user,
        source=gr.PushSource(
            "click_events", schema={"user_id": "string", "at": "datetime", "page": "string"}, event_time="at"
        ),
    )
    with gr.FeatureStore(tmp_path, online="memory") as opened:
        opened.apply(
            [
                spend_group(tags={"pii": "yes"}),
                shops_group(),
                clicks,
                derived("copied", "spend"),
                derived("counted", "spend:visits"),
                derived("big", "spend:visits", "spend:amount"),
                derived("again", gr.select("copied:amount", rename={"amount": "paid"})),
                gr.FeatureView("buying", features=["spend"]),
                gr.FeatureView("buying_more", features=["buying"]),
            ]
        )
        opened.push("clicks", [CLICK])
        opened.materialize()
        yield opened


@pytest.fixture
def security(store: gr.FeatureStore) -> Iterator[Security]:
    made = Security(store._parts.registry, "shop")
    yield made
    made.close()


@pytest.fixture
def gate(store: gr.FeatureStore, security: Security) -> Gate:
    return Gate(store, security, clock=lambda: NOW)


def caller(gate: Gate, role: Role = "editor", *scopes: str, name: str = "ann") -> Access:
    return gate.access(Principal("k1", name, "key", role, "shop", frozenset(scopes or ("*",))))


def policy(security: Security, effect: Any, on: str, to: str = "*", actions: Any = frozenset()) -> None:
    name = f"{effect}_{len(security.policies.list())}"
    security.policies.create(Policy(name, effect, (on,), (to,), actions), now=NOW)


def transformed(query: str) -> gr.FeatureGroup:
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    return gr.FeatureGroup("spend", entities=user, source=source, transform=query, tags={"pii": "yes"})


WITHOUT_AMOUNT = 'SELECT user_id, "at", loaded, visits FROM source'


# derived groups


@pytest.mark.parametrize("on", ["feature:spend:amount", "tag:pii=yes", "group:spend"])
@pytest.mark.parametrize("asked", ["copied", "copied:amount", "again:paid", "big:amount"])
def test_what_is_derived_of_a_denied_feature_is_denied(gate: Gate, security: Security, on: str, asked: str) -> None:
    assert caller(gate, "viewer").get_online_features([asked], ROWS)
    policy(security, "deny", on)
    viewer = caller(gate, "viewer")
    group = asked.partition(":")[0]
    for ask in (
        lambda: viewer.get_online_features([asked], ROWS),
        lambda: viewer.get_historical_features([f"{group}@1.0.0"], [{"user_id": "u1", "event_time": at(10)}]),
        lambda: viewer.check_values(group),
        lambda: viewer.read(group, columns=[asked.partition(":")[2] or "amount"]),
    ):
        with pytest.raises(ForbiddenError, match=r"spend|amount|paid"):
            ask()
    rows = [{"user_id": "u1", "event_time": at(10)}]
    if on == "feature:spend:amount":
        assert viewer.read("counted").column_names == ["user_id", "event_time", "visits"]
        assert len(viewer.get_historical_features("counted", rows)) == 1


def test_what_is_derived_of_a_masked_feature_is_masked(gate: Gate, security: Security) -> None:
    policy(security, "mask", "feature:spend:amount")
    viewer = caller(gate, "viewer")
    assert viewer.get_online_features("again", ROWS).to_dicts() == [{"user_id": "u1", "paid": None}]
    assert viewer.get_online_features(["counted"], ROWS).to_dicts()[0]["visits"] is not None
    preview = viewer.read("big").polars
    assert preview["amount"].null_count() == len(preview) and preview["visits"].null_count() == 1
    assert [column.name for column in viewer.statistics("big")].count("amount") == 0


def test_a_transform_and_a_filter_are_made_of_all_that_they_look_at(gate: Gate, security: Security) -> None:
    admin = caller(gate, "admin")
    admin.apply(
        [
            gr.FeatureGroup("rich", entities=user, source=gr.DerivedSource(["spend:visits"], filter="visits > 1")),
            gr.FeatureGroup(
                "picked",
                entities=user,
                source=gr.DerivedSource(["spend:visits", "spend:amount"], filter="amount > 8"),
                transform="SELECT user_id, event_time, visits FROM source",
            ),
        ]
    )
    admin.materialize(["rich", "picked"])
    policy(security, "deny", "feature:spend:amount")
    viewer = caller(gate, "viewer")
    assert len(viewer.get_online_features("rich", ROWS)) == 1
    with pytest.raises(ForbiddenError, match="spend:amount"):
        viewer.get_online_features(["picked:visits"], ROWS)
    admin = caller(gate, "admin", name="root")
    admin.apply(derived("picky", "spend:visits").with_(source=gr.DerivedSource(["spend"], filter="amount > 8")))
    with pytest.raises(ForbiddenError):
        viewer.check_values("picky")


def test_a_scope_names_what_is_asked_for_and_not_what_it_is_made_of(gate: Gate) -> None:
    narrow = caller(gate, "viewer", "serve:again", "serve:buying")
    assert narrow.get_online_features("again", ROWS).column_names == ("user_id", "paid")
    assert narrow.get_online_features("buying", ROWS).to_dicts()[0]["visits"] == 3
    with pytest.raises(ForbiddenError):
        narrow.get_online_features("copied", ROWS)


def test_an_allow_of_a_parent_closes_what_is_derived_of_it(gate: Gate, security: Security) -> None:
    policy(security, "allow", "feature:spend:amount", to="role:admin")
    assert caller(gate, "admin").get_online_features("again", ROWS)
    with pytest.raises(ForbiddenError):
        caller(gate, "viewer").get_online_features("again", ROWS)


# what was stored under older definitions


def test_a_version_is_judged_by_the_columns_that_it_has(gate: Gate, security: Security, tmp_path: Path) -> None:
    policy(security, "deny", "feature:spend:amount", to="role:editor")
    for name in ("big", "again", "copied", "buying_more", "buying"):
        caller(gate, "admin").delete(name)
    caller(gate, "admin").apply(transformed(WITHOUT_AMOUNT))
    caller(gate, "admin").materialize("spend")
    editor = caller(gate)
    for ask in (
        lambda: editor.export("spend", str(tmp_path / "x.parquet"), version="1.0.0"),
        lambda: editor.export("spend@1.0.0", str(tmp_path / "x.parquet")),
        lambda: editor.check_compared("spend", "1.0.0", "1.0.0"),
        lambda: editor.check_compared("spend", None, None),
        lambda: editor.statistics("spend", version="1.0.0", columns=["amount"]),
        lambda: editor.read("spend", version="1.0.0", columns=["amount"]),
        lambda: editor.get_online_features(["spend@1.0.0:amount"], ROWS),
    ):
        with pytest.raises(ForbiddenError, match="amount"):
            ask()
    assert not (tmp_path / "x.parquet").exists()
    assert "amount" not in [column.name for column in editor.statistics("spend", version="1.0.0")]
    assert "amount" not in editor.read("spend", version="1.0.0").column_names
    assert editor.export("spend", str(tmp_path / "new.parquet")).status == "succeeded"


def test_a_training_dataset_is_judged_by_what_it_has(gate: Gate, security: Security) -> None:
    admin = caller(gate, "admin")
    admin.create_training_dataset("buying", SPINE, event_time="at")
    admin.apply(gr.FeatureView("buying", features=["spend:visits"]))
    admin.create_training_dataset("buying", SPINE, event_time="at")
    policy(security, "deny", "feature:spend:amount", to="role:viewer")
    viewer = caller(gate, "viewer")
    with pytest.raises(ForbiddenError, match="spend:amount"):
        viewer.check_dataset("buying", 1)
    viewer.check_dataset("buying", 2)
    viewer.check_dataset("buying", None)
    caller(gate, "admin", name="root").check_dataset("buying", 1)


def test_a_training_dataset_of_a_derived_group_is_judged_by_the_parents_of_then(gate: Gate, security: Security) -> None:
    admin = caller(gate, "admin")
    admin.apply(gr.FeatureView("third", features=["again"]))
    admin.create_training_dataset("third", [{"user_id": "u1", "event_time": at(10)}])
    admin.apply(derived("again", gr.select("spend:visits", rename={"visits": "paid"})))
    policy(security, "deny", "feature:spend:amount")
    with pytest.raises(ForbiddenError, match="spend:amount"):
        caller(gate, "viewer").check_dataset("third", 1)


def test_served_vectors_of_an_older_view_are_left_out(gate: Gate, security: Security, store: gr.FeatureStore) -> None:
    from grange.verbs.served import ServedVector

    def serve(**values: Any) -> None:
        store.log_served("buying", [ServedVector("r1", 0, NOW, {"user_id": "u1", **values}, {}, False)])

    serve(amount=9.0, visits=3)
    caller(gate, "admin").apply(gr.FeatureView("buying", features=["spend:visits"]))
    serve(visits=3)
    assert len(caller(gate, "viewer").served("buying")) == 2
    policy(security, "mask", "feature:spend:amount", to="role:viewer")
    left = caller(gate, "viewer").served("buying").arrow["features"].to_pylist()
    assert len(left) == 1 and "amount" not in left[0]
    assert len(caller(gate, "editor").served("buying")) == 2


# changes that would take something from under a policy


def test_a_tag_that_a_policy_names_is_changed_by_who_manages_policies(gate: Gate, security: Security) -> None:
    policy(security, "mask", "tag:pii=yes", to="role:editor")
    editor = caller(gate)
    with pytest.raises(ForbiddenError, match="from under policy 'mask_0'"):
        editor.apply(spend_group())
    assert editor.get_online_features("spend", ROWS).masked == {"amount", "visits"}
    editor.apply(spend_group(tags={"pii": "yes", "tier": "gold"}, description="What a user spends."))
    caller(gate, "admin").apply(spend_group())
    assert not caller(gate).get_online_features("spend", ROWS).masked


def test_a_tag_that_would_let_others_in_is_no_editors_either(gate: Gate, security: Security) -> None:
    reading: Any = frozenset({"online"})
    policy(security, "allow", "tag:pii=yes", to="role:viewer", actions=reading)
    policy(security, "allow", "tag:open=yes", to="role:editor", actions=reading)
    with pytest.raises(ForbiddenError, match="allow_1"):
        caller(gate).apply(spend_group(tags={"pii": "yes", "open": "yes"}))
    caller(gate).apply(shops_group().with_(tags=(("open", "yes"),)))  # closed to nobody until now


def test_a_derived_group_does_not_slip_out_from_under_its_parents_policies(gate: Gate, security: Security) -> None:
    policy(security, "deny", "feature:spend:amount", to="key:bob")
    editor = caller(gate, name="cid")  # from whom nothing is hidden
    other = gr.select("spend:visits", rename={"visits": "paid"})
    with pytest.raises(ForbiddenError, match="again:paid"):
        editor.apply(derived("again", other))
    editor.apply(derived("again", gr.select("spend:visits", rename={"visits": "times"})))
    with pytest.raises(ForbiddenError, match="again"):  # what is stored is of then
        editor.apply(derived("again", other))


def test_a_version_that_was_made_of_what_is_protected_does_not_come_back(gate: Gate, security: Security) -> None:
    admin = caller(gate, "admin")
    admin.apply(derived("again", gr.select("counted:visits", rename={"visits": "times"})))
    admin.materialize("again")
    policy(security, "deny", "group:copied", to="key:bob")
    with pytest.raises(ForbiddenError, match="'again"):
        caller(gate, "operator").rollback("again", "1.0.0")
    assert gate.store.version("again").version != "1.0.0"
    assert caller(gate, "admin", name="root").rollback("again", "1.0.0").version == "1.0.0"


@pytest.mark.parametrize(
    "path", ["data/spend.parquet", "data/./spend.parquet", "data/*.parquet", "data", "*/spend.parquet", "data/sp*"]
)
def test_nobody_reads_the_rows_of_a_hidden_feature_by_another_group(gate: Gate, security: Security, path: str) -> None:
    source = gr.FileSource(path, event_time="at", created_time="loaded", format="parquet")
    mine = gr.FeatureGroup(
        "mine", entities=user, source=source, schema={"user_id": "string", "amount": "float64", "visits": "int32"}
    )
    policy(security, "mask", "feature:spend:amount", to="role:editor")
    with pytest.raises(ForbiddenError, match="spend:amount"):
        caller(gate).apply(mine)
    assert "mine" not in gate.store.catalog.groups


def test_nobody_renames_what_is_hidden_from_them(gate: Gate, security: Security) -> None:
    renamed = transformed('SELECT user_id, "at", loaded, visits, amount, amount AS free FROM source')
    policy(security, "deny", "feature:spend:amount", to="role:editor", actions=frozenset({"online"}))
    with pytest.raises(ForbiddenError, match="spend:amount"):
        caller(gate).apply(renamed)
    caller(gate).apply(spend_group(tags={"pii": "yes"}, owner="somebody"))  # the values are as they were
    caller(gate, "admin").apply(renamed)
    assert "free" in gate.store.catalog.group("spend").features().names


def test_sources_are_compared_as_far_as_paths_tell(gate: Gate, tmp_path: Path) -> None:
    def readers(path: str) -> tuple[str, ...]:
        return readers_of(gate.store.catalog, gr.FileSource(path, event_time="at", format="parquet"), tmp_path)

    assert readers("data/spend.parquet") == readers(str(tmp_path / "data" / "spend.parquet")) == ("spend",)
    assert readers("data/other.parquet") == readers("s3://data/spend.parquet") == ()
    assert readers("data/*") == ("shops", "spend")
    clicks = gr.PushSource("click_events", schema={"at": "datetime"}, event_time="at")
    assert readers_of(gate.store.catalog, clicks, tmp_path) == ("clicks",)


# changing


def test_pushing_to_a_source_is_writing_the_groups_that_read_it(gate: Gate, security: Security) -> None:
    assert caller(gate, "editor", "write:clicks").push("click_events", [CLICK])
    with pytest.raises(ForbiddenError):
        caller(gate, "editor", "write:click_events").push("click_events", [CLICK])
    with pytest.raises(ForbiddenError):
        caller(gate, "editor", "write:clicks").push("unknown", [CLICK])
    policy(security, "deny", "group:clicks", to="role:editor", actions=frozenset({"write"}))
    for name in ("clicks", "click_events"):
        with pytest.raises(ForbiddenError, match="may not change 'clicks'"):
            caller(gate).push(name, [CLICK])
    assert len(gate.store.read("clicks")) == 2


def test_scopes_of_operating_and_administering_are_enough_for_it(gate: Gate, security: Security) -> None:
    caller(gate, "operator", "operate:shops").materialize("shops", version="1.0.1")
    assert caller(gate, "operator", "operate:shops").delete("shops@1.0.0")
    assert caller(gate, "admin", "administer:buying_more").delete("buying_more")
    with pytest.raises(ForbiddenError):
        caller(gate, "operator", "operate:shops").materialize("clicks")
    policy(security, "deny", "group:shops", actions=frozenset({"write"}))
    with pytest.raises(ForbiddenError, match="may not change 'shops'"):
        caller(gate, "operator", "operate:shops").materialize("shops")


def test_who_changes_something_may_change_what_goes_along(gate: Gate, security: Security) -> None:
    with pytest.raises(ForbiddenError):
        caller(gate, "operator", "operate:copied").materialize("copied")
    caller(gate, "operator", "operate:copied").materialize("copied", downstream=False)
    policy(security, "deny", "group:again", to="role:operator", actions=frozenset({"write"}))
    policy(security, "deny", "view:buying_more", to="role:admin", actions=frozenset({"write"}))
    for name in ("copied", "spend"):
        with pytest.raises(ForbiddenError, match="'again'"):
            caller(gate, "operator").materialize(name)
    with pytest.raises(ForbiddenError, match="'buying_more'"):
        caller(gate, "admin").delete("buying", cascade=True)
    with pytest.raises(ForbiddenError, match="'buying_more'"):
        caller(gate, "admin").apply([spend_group()], prune=True)
    assert "buying_more" in gate.store.catalog.views


@pytest.mark.parametrize("is_hidden", [True, False])
def test_an_error_quotes_no_values_to_whom_they_are_hidden_from(
    gate: Gate, security: Security, is_hidden: bool
) -> None:
    caller(gate, "admin").apply(spend_group(tags={"pii": "yes"}, expectations={"amount": [gr.less_than(8)]}))
    if is_hidden:
        policy(security, "deny", "feature:spend:amount", to="role:operator")
    with pytest.raises(ExpectationError) as caught:
        caller(gate, "operator").materialize("spend")
    told = str(caught.value.to_dict())
    assert ("9.0" in told) is not is_hidden
    assert "less_than(8)" in told
    changing = caller(gate, "operator").writing(Permission.MATERIALIZE, "try", "spend")
    with pytest.raises(ColumnTypeError) as wrong, changing:
        raise ColumnTypeError("column 'amount' is declared int64", found="9.0 in row 1", details={"column": "amount"})
    assert (wrong.value.found is None) is is_hidden and wrong.value.details["column"] == "amount"


# asking again


def test_what_was_read_is_asked_about_again_later(gate: Gate, security: Security) -> None:
    viewer = caller(gate, "viewer")
    kept = Reading.from_dict(viewer.reading_of("buying").to_dict())
    assert viewer.shows(kept) and viewer.hidden_of(kept) == frozenset()
    policy(security, "mask", "feature:spend:amount")
    assert not viewer.shows(kept) and viewer.hidden_of(kept) == {"amount"}
    policy(security, "deny", "view:buying")
    with pytest.raises(ForbiddenError):
        viewer.hidden_of(kept)
    security.audit.flush()
    assert len(security.audit.entries(denied=True)) == 1


def test_what_cannot_be_masked_is_refused_when_it_is_asked_about_again(gate: Gate, security: Security) -> None:
    caller(gate, "admin").create_training_dataset("buying", SPINE, event_time="at")
    viewer = caller(gate, "viewer")
    kept = viewer.reading_of_dataset("buying", 1)
    policy(security, "mask", "feature:spend:amount")
    with pytest.raises(ForbiddenError, match="amount"):
        viewer.hidden_of(kept)


def test_a_decision_of_older_policies_does_not_outlive_them(
    gate: Gate, security: Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that began under the old policies ends after another asked under the new ones."""
    viewer, reached = Principal("k1", "ann", "key", "viewer", "shop"), []
    plain = Gate._sight

    def slow(self: Gate, *given: Any) -> Any:
        sight = plain(self, *given)
        if not reached:
            reached.append(True)
            policy(security, "mask", "feature:spend:amount")
            assert self.masked(viewer, "online", ["spend:visits"], labels=False) == frozenset()
        return sight

    monkeypatch.setattr(Gate, "_sight", slow)
    gate.masked(viewer, "online", ["spend:amount"], labels=False)
    assert reached
    assert gate.masked(viewer, "online", ["spend:amount"], labels=False) == {"amount"}
