"""A store as one caller may use it: roles and scopes first, then policies, and the audit log of both."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import SHOPS, SPEND, UTC, at, shops_group, spend_group

import grange as gr
from grange.access import MASKED, Access, Gate
from grange.errors import ForbiddenError, RequestError
from grange.security import Security
from grange.security.policies import Policy
from grange.security.principals import Permission, Principal, Role

NOW = dt.datetime(2026, 3, 20, tzinfo=UTC)
ROWS = [{"user_id": "u1"}, {"user_id": "nobody"}]
SPINE = [{"user_id": "u1", "at": at(10)}, {"user_id": "u2", "at": at(6)}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    (tmp_path / "data").mkdir()
    SPEND.write_parquet(tmp_path / "data" / "spend.parquet")
    SHOPS.write_csv(tmp_path / "data" / "shops.csv")
    with gr.FeatureStore(tmp_path, online="memory") as opened:
        doubled = gr.FeatureView("doubled", features=["spend", gr.select("spend:amount", rename={"amount": "paid"})])
        scaled = gr.FeatureView("scaled", features=["spend"], transformations=[gr.log("amount")])
        opened.apply([spend_group(tags={"pii": "no"}), shops_group(), doubled, scaled])
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


def principal(role: Role = "viewer", *scopes: str, name: str = "ann") -> Principal:
    return Principal("k1", name, "key", role, "shop", frozenset(scopes or ("*",)))


def policy(security: Security, effect: Any, on: str, to: str = "*", actions: Any = frozenset()) -> None:
    security.policies.create(
        Policy(f"{effect}_{len(security.policies.list())}", effect, (on,), (to,), actions), now=NOW
    )


def audited(security: Security, **which: Any) -> list[tuple[str, str]]:
    security.audit.flush()
    return [(entry.data["action"], entry.data["outcome"]) for entry in security.audit.entries(**which)]


def test_a_viewer_reads_and_changes_nothing(gate: Gate, security: Security) -> None:
    viewer = gate.access(principal("viewer"))
    assert viewer.get_online_features("spend", ROWS).to_dicts()[0]["visits"] == 3
    assert len(viewer.get_historical_features("spend", SPINE, event_time="at")) == 2
    for change in (
        lambda: viewer.push("spend", [{"user_id": "u9", "at": at(1), "loaded": at(1), "amount": 1.0, "visits": 1}]),
        lambda: viewer.materialize("spend"),
        lambda: viewer.delete("spend"),
        lambda: viewer.apply([shops_group()]),
    ):
        with pytest.raises(ForbiddenError):
            change()
    assert len(audited(security, denied=True)) == 4
    assert "u9" not in gate.store.read("spend").polars["user_id"]


def test_an_operator_may_delete_a_version_and_no_definition(gate: Gate) -> None:
    operator = gate.access(principal("operator"))
    operator.materialize("shops", version="1.0.1")
    assert operator.delete("shops@1.0.0")
    with pytest.raises(ForbiddenError):
        operator.delete("shops")
    with pytest.raises(ForbiddenError):
        operator.apply([spend_group()], prune=True)
    assert "shops" in gate.store.catalog.groups


def test_a_change_is_in_the_audit_log_before_it_is_made(gate: Gate, security: Security) -> None:
    editor = gate.access(principal("editor"), "request-7")
    editor.push("spend", [{"user_id": "u3", "at": at(2), "loaded": at(2), "amount": 1.0, "visits": 1}])
    with pytest.raises(gr.GrangeError):
        editor.push("spend", [{"user_id": "u3"}])
    assert audited(security)[::-1] == [("push", "accepted"), ("push", "accepted"), ("push", "failed")]
    newest = security.audit.entries(limit=1)[0].data
    assert newest["request_id"] == "request-7"
    assert newest["principal"]["name"] == "ann" if isinstance(newest["principal"], dict) else newest["principal"]


def test_scopes_name_groups_and_views(gate: Gate) -> None:
    narrow = gate.access(principal("viewer", "serve:shops", "serve:doubled"))
    assert narrow.get_online_features("shops", [{"shop_id": 1}]).to_dicts()[0]["country"] == "FR"
    assert narrow.get_online_features("doubled", ROWS).to_dicts()[0]["visits"] == 3
    with pytest.raises(ForbiddenError):
        narrow.get_online_features(["spend:amount"], ROWS)
    with pytest.raises(ForbiddenError):
        narrow.get_historical_features("shops", [{"shop_id": 1, "event_time": at(3)}])


def test_a_masked_feature_is_null_wherever_it_comes_from(gate: Gate, security: Security) -> None:
    policy(security, "mask", "feature:spend:visits")
    viewer = gate.access(principal())
    online = viewer.get_online_features("spend", ROWS)
    assert online.masked == {"visits"}
    assert [row["visits"] for row in online.to_dicts()] == [None, None]
    assert [row["visits"] for row in online.statuses()] == [MASKED, MASKED]
    assert [row["visits"] for row in online.event_times()] == [None, None]
    assert online.to_arrow()["visits"].null_count == 2
    assert online.statuses()[1]["amount"] == "NOT_FOUND"
    past = viewer.get_historical_features("spend", SPINE, event_time="at").to_polars()
    assert past["visits"].to_list() == [None, None]
    assert past["visits"].dtype == pl.Int32
    assert past["amount"].to_list() != [None, None]
    preview = viewer.read("spend").polars
    assert preview["visits"].null_count() == len(preview) == 5


def test_a_renamed_feature_is_masked_under_its_new_name(gate: Gate, security: Security) -> None:
    policy(security, "mask", "feature:spend:amount")
    found = gate.access(principal()).get_online_features("doubled", ROWS)
    assert found.masked == {"amount", "paid"}


def test_what_transformations_make_of_a_masked_feature_is_refused(gate: Gate, security: Security) -> None:
    policy(security, "mask", "feature:spend:amount")
    viewer = gate.access(principal())
    with pytest.raises(ForbiddenError, match="transform=False"):
        viewer.get_online_features("scaled", ROWS)
    with pytest.raises(ForbiddenError):
        viewer.get_historical_features("scaled", SPINE, event_time="at")
    assert viewer.get_online_features("scaled", ROWS, transform=False).to_dicts()[0]["amount"] is None


def test_a_denied_feature_is_refused_by_name(gate: Gate, security: Security) -> None:
    policy(security, "deny", "feature:spend:amount")
    viewer = gate.access(principal())
    for ask in (
        lambda: viewer.get_online_features("spend", ROWS),
        lambda: viewer.get_online_features(["spend:amount"], ROWS),
        lambda: viewer.get_historical_features("doubled", SPINE, event_time="at"),
        lambda: viewer.read("spend", columns=["amount"]),
    ):
        with pytest.raises(ForbiddenError, match="spend:amount"):
            ask()
    assert viewer.get_online_features(["spend:visits"], ROWS).to_dicts()[0]["visits"] == 3
    assert "amount" not in viewer.read("spend").column_names
    assert len(audited(security, denied=True)) >= 1


def test_a_denied_tag_hides_the_group_from_search(gate: Gate, security: Security) -> None:
    viewer = gate.access(principal())
    assert {hit.name for hit in viewer.search("").hits} >= {"spend", "shops"}
    policy(security, "deny", "tag:pii=no")
    gate = Gate(gate.store, Security(gate.store._parts.registry, "shop"), clock=lambda: NOW + dt.timedelta(minutes=1))
    viewer = gate.access(principal())
    assert "spend" not in {hit.name for hit in viewer.search("").hits}
    with pytest.raises(ForbiddenError):
        viewer.read("spend")


def test_statistics_exports_and_training_datasets_show_no_hidden_values(
    gate: Gate, security: Security, tmp_path: Path
) -> None:
    policy(security, "mask", "feature:spend:amount")
    editor = gate.access(principal("editor"))
    assert "amount" not in [column.name for column in editor.statistics("spend")]
    for ask in (
        lambda: editor.statistics("spend", columns=["amount"]),
        lambda: editor.export("spend", str(tmp_path / "out.parquet")),
        lambda: editor.export("doubled", str(tmp_path / "out.parquet"), spine=SPINE, event_time="at"),
        lambda: editor.create_training_dataset("doubled", SPINE, event_time="at"),
        lambda: editor.check_values("spend"),
        lambda: editor.similar("spend:amount"),
    ):
        with pytest.raises(ForbiddenError):
            ask()
    assert not (tmp_path / "out.parquet").exists()
    assert editor.export("shops", str(tmp_path / "shops.parquet")).status == "succeeded"


def test_policies_hold_for_those_they_name(gate: Gate, security: Security) -> None:
    policy(security, "deny", "group:spend", to="role:viewer")
    with pytest.raises(ForbiddenError):
        gate.access(principal("viewer")).get_online_features("spend", ROWS)
    assert len(gate.access(principal("editor")).get_online_features("spend", ROWS)) == 2


def test_a_write_can_be_denied_to_who_may_write(gate: Gate, security: Security) -> None:
    policy(security, "deny", "group:spend", actions=frozenset({"write"}))
    editor = gate.access(principal("editor"))
    with pytest.raises(ForbiddenError):
        editor.push("spend", [{"user_id": "u3", "at": at(2), "loaded": at(2), "amount": 1.0, "visits": 1}])
    assert len(editor.get_online_features("spend", ROWS)) == 2


@pytest.mark.parametrize("spine", ["SELECT 1 AS user_id", "/etc/passwd", Path("/etc/passwd")])
def test_a_spine_is_rows_and_nothing_of_the_servers(gate: Gate, spine: Any) -> None:
    admin: Access = gate.access(principal("admin"))
    for ask in (
        lambda: admin.get_historical_features("spend", spine),
        lambda: admin.create_training_dataset("doubled", spine),
        lambda: admin.export("doubled", "out.parquet", spine=spine),
    ):
        with pytest.raises(RequestError):
            ask()


def test_a_new_definition_is_seen_by_the_next_request(gate: Gate, security: Security) -> None:
    """What was decided under other definitions does not count: a view that takes a denied feature is denied."""
    policy(security, "deny", "feature:spend:amount")
    admin = gate.access(principal("admin", name="root"))
    view = gr.FeatureView("plain", features=["spend:visits"])
    admin.apply([view])
    assert admin.get_online_features("plain", ROWS).to_dicts()[0]["visits"] == 3
    admin.apply([gr.FeatureView("plain", features=["spend:visits", "spend:amount"])])
    with pytest.raises(ForbiddenError):
        admin.get_online_features("plain", ROWS)


def test_permissions_are_asked_for_by_name(gate: Gate) -> None:
    narrow = gate.access(principal("operator", "operate:shops"))
    narrow.check(Permission.MATERIALIZE, "shops@1.0.0")
    assert narrow.may(Permission.MATERIALIZE, "shops")
    with pytest.raises(ForbiddenError):
        narrow.check(Permission.MATERIALIZE, "spend")
    with pytest.raises(ForbiddenError):
        narrow.check(Permission.MATERIALIZE)


def test_what_is_read_and_not_shown_is_not_in_an_answer(gate: Gate, security: Security) -> None:
    """A masked feature of which only an on-demand one is asked for: that is masked, and the other has no column."""
    twice = gr.Transformation("twice", sql={"twice": "amount * 2"}, inputs=["amount"], outputs={"twice": "float64"})
    gate.store.apply(spend_group(tags={"pii": "no"}, on_demand=[twice]))
    policy(security, "mask", "feature:spend:amount")
    found = gate.access(principal()).get_online_features(["spend:visits", "spend:twice"], ROWS)
    assert found.to_dicts()[0] == {"user_id": "u1", "visits": 3, "twice": None}
    assert "amount" not in found.to_dicts()[1]
    assert found.to_arrow().column_names == ["user_id", "visits", "twice"]
