"""Every route against every role: a table made from the routes, so that none can be forgotten."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from tests.http.callers import ROLES, Caller, error_of, make_keys

import grange as gr
from grange.http.reference import every_route
from grange.http.routing import permission_of
from grange.security import Security
from grange.security.principals import PERMISSIONS, Permission

OPEN = {"/docs", "/docs/style.css", "/openapi.json", "/health"}
"""What holds nothing of any project."""
KNOWN = {
    "name": "spend", "id": "job-00000001", "view": "shopping", "number": "1", "version": "1.0.0", "group": "spend",
}  # fmt: skip


def _routes() -> list[tuple[str, str, APIRoute]]:
    return [(method, route.path, route) for route in every_route() for method in sorted(route.methods or ())]


ROUTES = [each for each in _routes() if each[1] not in OPEN]


def test_every_route_says_what_it_asks_for() -> None:
    silent = [f"{method} {path}" for method, path, route in ROUTES if permission_of(route) is None]
    assert len(ROUTES) > 80 and silent == []


def test_what_reads_is_a_get_and_what_changes_is_none() -> None:
    """But for questions whose answer changes nothing and whose body is too long for a URL."""
    reads = {Permission.READ_DEFINITIONS, Permission.READ_FEATURES, Permission.READ_HISTORY, Permission.READ_METRICS,
             Permission.READ_AUDIT, Permission.MANAGE_SECURITY}  # fmt: skip
    changing = [f"{m} {path}" for m, path, route in ROUTES if m == "GET" and permission_of(route) not in reads]
    assert changing == []


@pytest.fixture
def keys(store: gr.FeatureStore) -> dict[str, str]:
    """Made before the server begins; else it would take a moment to notice."""
    return make_keys(store)


@pytest.fixture
def callers(keys: dict[str, str], client: Any) -> dict[str, Caller]:
    everybody: dict[str, str | None] = {**keys, "nobody": None, "stranger": "grange_shop.aaaa.bbbb"}
    return {name: Caller(client, key) for name, key in everybody.items()}


def _path(path: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if "policies" in path and name == "name":
            return "none"
        if "/exports/" in path:
            return "export-000001"
        if "/features/" in path and name == "id":
            return "spend:amount"
        return KNOWN.get(name, "x")

    return re.sub(r"{(\w+)(?::\w+)?}", value, path)


def test_each_role_may_do_what_the_table_says_and_nothing_else(callers: dict[str, Caller]) -> None:
    """Bodies are empty or wrong: who may not is told before anything of a request is looked at, so that whatever is
    answered to who may (a 422, a 404) is not 401 and not 403."""
    wrong = []
    for method, path, route in ROUTES:
        permission = permission_of(route)
        assert permission is not None
        for name, caller in callers.items():
            if name in ROLES and permission in PERMISSIONS[name] and method == "DELETE":
                continue  # what may be deleted is not deleted here
            answer = caller.request(method, _path(path), json={"surprise": 1} if method != "GET" else None)
            if name not in ROLES:
                expected = answer.status_code == 401
            elif permission in PERMISSIONS[name]:
                expected = answer.status_code not in (401, 403)
            else:
                expected = answer.status_code == 403
            if not expected:
                wrong.append(f"{name}: {method} {path} ({permission.name}) gave {answer.status_code}")
    assert wrong == []


def _hot() -> Iterator[tuple[str, str, dict[str, Any]]]:
    rows = [{"user_id": "u1", "shop_id": 1}]
    yield "POST", "/api/v1/serving/online", {"features": "shopping", "rows": rows}
    yield "POST", "/api/v1/serving/historical", {
        "features": "shopping", "rows": [{**rows[0], "event_time": "2026-03-11T00:00:00Z"}],
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), list(_hot()))
def test_hot_routes_ask_who_it_is_too(callers: dict[str, Caller], method: str, path: str, body: dict[str, Any]) -> None:
    statuses = {name: caller.request(method, path, json=body).status_code for name, caller in callers.items()}
    assert statuses == {**dict.fromkeys(ROLES, 200), "nobody": 401, "stranger": 401}


def test_the_least_role_is_in_the_document(callers: dict[str, Caller]) -> None:
    paths = callers["admin"].get("/openapi.json").json()["paths"]
    for method, path, route in ROUTES:
        if not route.include_in_schema:
            continue
        operation = paths[path][method.lower()]
        permission = permission_of(route)
        least = next(role for role in ROLES if permission in PERMISSIONS[role])
        assert operation["x-permission"] == permission.name and f"`{least}`" in operation["description"]


@pytest.mark.usefixtures("keys")
def test_a_scope_narrows_a_role_to_what_it_names(client: Any, store: gr.FeatureStore) -> None:
    made = Security(store._parts.registry, store.config.project).keys
    now = dt.datetime.now(dt.UTC)
    text = made.create("narrow", role="operator", scopes=["read:spend", "write:clicks", "operate:spend"], now=now).text
    narrow = Caller(client, text)
    assert narrow.get("feature-groups/spend/rows").status_code == 200
    assert narrow.get("feature-groups/shops/rows").status_code == 403
    row = {"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "home", "n": 1}
    assert narrow.post("feature-groups/clicks/rows", {"rows": [row]}).status_code == 201
    assert narrow.post("feature-groups/spend/rows", {"rows": [row]}).status_code == 403
    assert narrow.post("feature-groups/spend/materialize?wait=20", {}).status_code == 200
    for groups in (["spend", "shops"], None):
        assert narrow.post("materialize", {"groups": groups}).status_code == 403
    assert narrow.post("entities", {"name": "x", "join_keys": ["x"]}).status_code == 403
    assert narrow.get("keys").status_code == 403
    assert narrow.get("feature-groups/spend").status_code == 200
    assert narrow.get("feature-groups/shops").status_code == 403
    assert [item["name"] for item in narrow.get("feature-groups").json()["items"]] == ["spend"]
    assert {item["group"] for item in narrow.get("features").json()["items"]} == {"spend"}
    assert [item["name"] for item in narrow.get("definitions").json()["items"]] == ["spend"]
    assert set(narrow.get("manifest").json()["items"]) == {"spend"}


def test_what_a_policy_hides_is_hidden_in_every_way_out(keys: dict[str, str], client: Any) -> None:
    admin, viewer, editor = (Caller(client, keys[role]) for role in ("admin", "viewer", "editor"))
    mask = {
        "name": "mask-amount",
        "effect": "mask",
        "on": ["feature:spend:amount"],
        "to": ["role:viewer", "role:editor"],
    }
    assert admin.post("policies", mask).status_code == 201
    rows = viewer.get("feature-groups/spend/rows").json()["rows"]
    assert {row["amount"] for row in rows} == {None} and {row["visits"] for row in rows} != {None}
    assert {row["amount"] for row in admin.get("feature-groups/spend/rows").json()["rows"]} != {None}
    columns = viewer.get("feature-groups/spend/statistics").json()["columns"]
    assert "amount" not in [column["name"] for column in columns]
    for path in ("statistics:compare?before=1.0.0&after=1.0.0", "diff?before=1.0.0&after=1.0.0&statistics=true"):
        assert viewer.get(f"feature-groups/spend/{path}").status_code == 403
    assert editor.post("exports", {"what": "spend", "destination": "x.parquet"}).status_code == 403
    assert editor.post("training-datasets", {"view": "shopping"}).status_code == 403
    assert viewer.get("similar?feature=spend:amount").status_code == 403
    told = viewer.get("/monitoring/statistics").json()["groups"]["spend"]["columns"]
    assert "amount" not in [column["name"] for column in told]
    made = admin.post("training-datasets?wait=30", {"view": "careful"})
    assert made.json()["status"] == "succeeded"
    for path in ("careful/1", "careful/1/rows", "careful/1/statistics", "careful/diff?before=1&after=1"):
        assert viewer.get(f"training-datasets/{path}").status_code == 403
    listed = viewer.get("training-datasets").json()["items"]
    assert "statistics" not in listed[0] and "10.0" not in str(listed)
    job = made.json()["id"]
    assert viewer.get(f"jobs/{job}").json()["result"] is None
    assert viewer.get(f"jobs/{job}/logs").status_code == 403
    assert admin.get(f"jobs/{job}").json()["result"]["meta"]["statistics"]


def test_a_refusal_says_which_role_would_and_is_in_the_audit_log(callers: dict[str, Caller]) -> None:
    refused = callers["viewer"].post("feature-groups/spend/materialize", {})
    assert error_of(refused)["details"]["needs"] == "operator"
    denied = callers["admin"].get("audit?denied=true").json()["items"]
    assert any(entry["data"]["name"] == "viewer_key" for entry in denied)
    assert callers["admin"].get("audit:verify").json()["intact"]
