"""Definitions over HTTP: lists, entity tags, creating, replacing, deleting; many at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.http.callers import Caller, error_of

import grange as gr
from grange.definitions.serialize import to_data

GROUP = {
    "name": "recent",
    "entities": ["user"],
    "source": {"type": "file", "path": "data/spend.parquet", "event_time": "at", "created_time": "loaded"},
    "aggregations": [{"type": "rolling", "columns": {"amount": ["sum"]}, "windows": ["7d"]}],
    "expectations": {"amount": [{"kind": "between", "arguments": [0, 100], "policy": "warn"}]},
    "ttl": "90d",
    "tags": {"tier": "gold"},
}


@pytest.fixture
def api(client: Any) -> Caller:
    return Caller(client, None)


def test_a_list_is_paged_and_stable_while_others_insert(api: Caller) -> None:
    first = api.get("feature-groups?limit=2").json()
    assert [item["name"] for item in first["items"]] == ["clicks", "shops"]
    assert api.post("feature-groups", {**GROUP, "name": "aaa"}).status_code == 201
    second = api.get(f"feature-groups?limit=2&cursor={first['next']}").json()
    assert [item["name"] for item in second["items"]] == ["spend"] and second["next"] is None


def test_a_cursor_is_of_one_list_alone(api: Caller) -> None:
    cursor = api.get("feature-groups?limit=1").json()["next"]
    for path in (f"entities?cursor={cursor}", f"feature-groups?owner=x&cursor={cursor}", "features?cursor=AAAA"):
        assert api.get(path).status_code == 422
    altered = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]
    assert "cursor" in error_of(api.get(f"feature-groups?cursor={altered}"))["message"]


def test_filters_and_fields(api: Caller) -> None:
    api.post("feature-groups", GROUP)
    names = lambda path: [item["name"] for item in api.get(path).json()["items"]]  # noqa: E731
    assert names("feature-groups?owner=payments") == ["spend"]
    assert names("feature-groups?tag=tier=gold") == ["recent"]
    assert names("feature-groups?prefix=s") == ["shops", "spend"]
    assert api.get("feature-groups?fields=name,owner&limit=1").json()["items"] == [{"name": "clicks", "owner": ""}]
    assert api.get("feature-groups?fields=nothing").status_code == 422


def test_a_created_group_is_what_the_library_would_have_made(api: Caller, store: gr.FeatureStore) -> None:
    made = api.post("feature-groups", GROUP)
    assert made.status_code == 201 and made.headers["location"] == "/api/v1/feature-groups/recent"
    assert [change["action"] for change in made.json()["applied"]["changes"]] == ["create"]
    expected = gr.FeatureGroup(
        "recent",
        entities=store.catalog.entities["user"],
        source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
        aggregations=[gr.Rolling({"amount": ["sum"]}, windows=["7d"])],
        expectations={"amount": [gr.between(0, 100, policy="warn")]},
        ttl="90d",
        tags={"tier": "gold"},
    )
    assert store.apply([expected]).changes == ()
    assert api.post("feature-groups", GROUP).status_code == 409


def test_every_definition_survives_the_way_there_and_back(api: Caller, store: gr.FeatureStore) -> None:
    store.apply(
        [
            gr.Transformation("ratio", sql={"ratio": "amount / NULLIF(visits, 0)"}),
            gr.FeatureView(
                "wide",
                features=[gr.select("spend", "amount", "visits", rename={"amount": "paid"}), "shops:country"],
                labels=[gr.Label("churned", after="7d")],
                requests=[gr.RequestSource("basket", schema={"total": "float64"})],
                derived={"share": "paid / NULLIF(total, 0)"},
                transformations=[gr.standard_scaler("visits")],
                filter="country = 'FR'",
            ),
        ]
    )
    before = api.get("definitions").json()
    replayed = api.post("definitions:plan", {"definitions": before["items"]})
    assert replayed.status_code == 200 and replayed.json()["changes"] == []
    for kind in ("entities", "feature-groups", "feature-views", "transformations"):
        for item in api.get(kind).json()["items"]:
            known = api.get(f"{kind}/{item['name']}").json()
            body = {"name": item["name"], **known["definition"]}
            assert api.put(f"{kind}/{item['name']}", body).json()["applied"]["changes"] == []
    assert api.get("definitions").json() == before


def test_an_entity_tag_saves_an_answer_and_somebody_elses_change(api: Caller, store: gr.FeatureStore) -> None:
    path = "feature-groups/spend"
    seen = api.get(path)
    tag = seen.headers["etag"]
    again = api.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert again.status_code == 304 and again.content == b""
    body = {"name": "spend", **seen.json()["definition"], "owner": "me"}
    assert api.put(path, body, headers={"If-Match": '"other"'}).status_code == 412
    changed = api.put(path, body, headers={"If-Match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag
    late = api.put(path, {**body, "owner": "you"}, headers={"If-Match": tag})
    assert late.status_code == 412 and error_of(late)["code"] == "GRANGE-510"
    assert store.catalog.group("spend").owner == "me"
    assert api.delete(path, headers={"If-Match": tag}).status_code == 412
    assert api.put(path, body, headers={"If-None-Match": "*"}).status_code == 412
    assert api.put("feature-groups/recent", GROUP, headers={"If-None-Match": "*"}).status_code == 201
    assert api.put("feature-groups/other", {**GROUP, "name": "other"}, headers={"If-Match": "*"}).status_code == 412


def test_pushed_rows_do_not_change_an_entity_tag(api: Caller) -> None:
    tag = api.get("feature-groups/clicks").headers["etag"]
    row = {"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "home", "n": 1}
    assert api.post("feature-groups/clicks/rows", {"rows": [row]}).status_code == 201
    assert api.get("feature-groups/clicks").headers["etag"] == tag


def test_what_is_used_is_not_deleted(api: Caller) -> None:
    refused = api.delete("feature-groups/shops")
    assert refused.status_code == 409 and "shopping" in str(error_of(refused))
    assert api.delete("feature-groups/shops?cascade=true").json()["removed"]
    assert api.get("feature-groups/shops").status_code == 404
    assert api.delete("entities/spend").status_code == 404, "a group is no entity"


def test_definitions_are_applied_together_or_not_at_all(api: Caller) -> None:
    both = [
        {"kind": "feature_view", "name": "v", "definition": {"features": ["recent:amount__sum__7d"]}},
        {"kind": "feature_group", "name": "recent", "definition": {k: v for k, v in GROUP.items() if k != "name"}},
        {"kind": "entity", "name": "courier", "definition": {"join_keys": ["courier_id"]}},
    ]
    broken = [*both, {"kind": "feature_view", "name": "w", "definition": {"features": ["nothing"]}}]
    assert api.post("definitions:apply", {"definitions": broken}).status_code == 404
    assert api.get("feature-groups/recent").status_code == 404
    done = api.post("definitions:apply", {"definitions": both}).json()
    assert {(c["action"], c["name"]) for c in done["changes"]} == {("create", n) for n in ("v", "recent", "courier")}
    assert api.post("definitions:plan", {}).json()["changes"] == [], "the server's own modules are applied"
    pruned = api.post("definitions:plan", {"prune": True}).json()
    assert {c["name"] for c in pruned["changes"]} == {"v", "recent", "courier"}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../other/rows.parquet", "data/../../x.csv", "~/x.csv", "file:///etc/passwd", "C:\\x.csv",
        "grange.toml", ".grange/registry.db", ".env.csv", "data/.hidden/x.csv", "s3://bucket/x.csv", "shop_features.py",
    ],
)  # fmt: skip
def test_a_source_reads_nothing_but_data_of_the_project(api: Caller, path: str) -> None:
    body = {**GROUP, "source": {"type": "file", "path": path, "format": "csv"}, "aggregations": [], "ttl": None}
    refused = api.post("feature-groups", {**body, "expectations": {}})
    assert refused.status_code == 403, refused.text
    pushed = {"type": "push", "name": "p", "event_time": "at", "schema": [{"name": "at", "dtype": "datetime"}],
              "batch_source": {"type": "file", "path": path, "event_time": "at", "format": "csv"}}  # fmt: skip
    assert api.post("feature-groups", {**GROUP, "source": pushed}).status_code == 403


def test_a_path_that_the_project_applied_itself_stays(api: Caller, store: gr.FeatureStore, tmp_path: Any) -> None:
    outside = tmp_path / "outside.parquet"
    (store.project / "data" / "spend.parquet").rename(outside)
    entity = store.catalog.entities["user"]
    store.apply([gr.FeatureGroup("far", entities=entity, source=gr.FileSource(outside, event_time="at"))])
    known = api.get("feature-groups/far").json()["definition"]
    assert api.put("feature-groups/far", {"name": "far", **known, "owner": "me"}).status_code == 200
    assert api.post("feature-groups", {"name": "near", **known}).status_code == 403


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": "../x"}, "name"),
        ({"name": "a b"}, "name"),
        ({"entities": []}, "entities"),
        ({"ttl": 7}, "ttl"),
        ({"sql": "SELECT 1", "transform": {"type": "sql", "query": "SELECT 1"}}, "sql"),
        ({"tags": {"a": 1}}, "tags"),
        ({"description": "x" * 10_001}, "description"),
        ({"aggregations": [{"type": "rolling", "columns": {}, "windows": []}]}, "Rolling"),
        ({"expectations": {"amount": [{"kind": "between", "arguments": [1]}]}}, "between"),
        ({"expectations": {"amount": [{"kind": "greater_than", "arguments": [[1]]}]}}, "arguments"),
        ({"sql": "SELECT * FROM read_csv('/etc/passwd')"}, "source"),
        ({"sql": "SELECT * FROM source; DROP TABLE x"}, "SELECT"),
    ],
)
def test_a_body_is_checked_strictly(api: Caller, change: dict[str, Any], told: str) -> None:
    refused = api.post("feature-groups", {**GROUP, **change})
    assert refused.status_code == 422 and told in str(error_of(refused)), refused.text


def test_code_does_not_travel(api: Caller) -> None:
    text = "def evil(amount):\n    import os\n    os.system('touch /tmp/x')\n    return amount\n"
    code = {"type": "python", "name": "evil", "module": "", "source_text": text, "code_hash": "0" * 64}
    body = {"name": "evil", "code": code, "outputs": {"evil": "float64"}, "inputs": ["amount"], "mode": "row"}
    refused = api.post("transformations", body)
    assert refused.status_code == 403 and "code" in error_of(refused)["message"]
    python = {"type": "python", "name": "f", "module": "shop_features", "source_text": text, "code_hash": "0" * 64}
    group = {**GROUP, "transform": python, "aggregations": [], "expectations": {}}
    assert api.post("feature-groups", group).status_code == 403


def test_stored_definitions_equal_what_is_told(api: Caller, store: gr.FeatureStore) -> None:
    for group in store.catalog.groups.values():
        assert api.get(f"feature-groups/{group.name}").json()["definition"] == to_data(group)
