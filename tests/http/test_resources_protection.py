"""What a policy protects, asked for by every other way: older datasets, older versions, jobs of then, other groups."""

from __future__ import annotations

from typing import Any

import pytest
from tests.http.callers import Caller, error_of, make_keys

import grange as gr
from grange.security import Security

SPINE = [{"user_id": "u1", "event_time": "2026-03-06T00:00:00Z"}]
CLICK = {"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "home", "n": 1}
SOURCE = {"type": "file", "path": "data/spend.parquet", "event_time": "at", "created_time": "loaded"}
BUYING = {"name": "buying", "features": ["spend:amount", "spend:visits"]}


@pytest.fixture
def keys(store: gr.FeatureStore) -> dict[str, str]:
    return make_keys(store)


@pytest.fixture
def callers(keys: dict[str, str], client: Any) -> dict[str, Caller]:
    return {role: Caller(client, key) for role, key in keys.items()}


def forbid(callers: dict[str, Caller], on: str, *to: str, effect: str = "deny", actions: Any = ()) -> None:
    body = {"name": f"{effect}-{abs(hash((on, to)))}", "effect": effect, "on": [on], "to": list(to)}
    made = callers["admin"].post("policies", {**body, **({"actions": list(actions)} if actions else {})})
    assert made.status_code == 201, made.text


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer: Any) -> str:
    assert answer.status_code == 403, answer.text
    assert "9.0" not in answer.text and "20.0" not in answer.text
    message: str = error_of(answer)["message"]
    return message


def dataset(by: Caller, view: str = "buying", **headers: str) -> dict[str, Any]:
    made = ok(by.post("training-datasets?wait=30", {"view": view, "rows": SPINE}, headers=headers))
    assert made["status"] in ("succeeded", "queued", "running"), made
    found: dict[str, Any] = made
    return found


def test_an_older_training_dataset_is_judged_by_its_own_columns(callers: dict[str, Caller]) -> None:
    editor = callers["editor"]
    ok(editor.post("feature-views", BUYING), 201)
    dataset(editor)
    ok(editor.put("feature-views/buying", {**BUYING, "features": ["spend:visits"]}))
    dataset(editor)
    assert ok(editor.get("training-datasets/buying/1/rows"))["rows"][0]["amount"] == 20.0
    forbid(callers, "feature:spend:amount", "role:editor")
    for path in ("/1", "/1/rows", "/1/rows?columns=visits", "/1/statistics", "/diff?before=1&after=2"):
        assert "spend:amount" in refused(editor.get(f"training-datasets/buying{path}")), path
    refused(editor.post("training-datasets/buying/1/reproduce", {}))
    refused(editor.post("exports", {"what": "buying", "destination": "x.parquet", "training_dataset": 1}))
    assert ok(editor.get("training-datasets/buying/2/rows"))["rows"][0]["visits"] == 2
    assert ok(callers["operator"].get("training-datasets/buying/1/rows"))["rows"]


def test_an_older_version_is_judged_by_its_own_columns(callers: dict[str, Caller]) -> None:
    editor = callers["editor"]
    sql = 'SELECT user_id, "at", loaded, visits FROM source'
    changed = {"name": "spend", "entities": ["user"], "source": SOURCE, "sql": sql}
    ok(callers["admin"].put("feature-groups/spend", changed))
    forbid(callers, "feature:spend:amount", "role:editor")
    for path in ("statistics:compare?before=1.0.0&after=1.0.0", "diff?before=1.0.0&after=1.0.0&statistics=true"):
        assert "amount" in refused(editor.get(f"feature-groups/spend/{path}"))
    refused(editor.post("exports", {"what": "spend", "version": "1.0.0", "destination": "x.parquet"}))
    refused(editor.get("feature-groups/spend/rows?version=1.0.0&columns=amount"))
    assert "amount" not in editor.get("feature-groups/spend/statistics?version=1.0.0").text
    assert "amount" not in ok(editor.get("feature-groups/spend/rows?version=1.0.0"))["columns"]


def test_a_copy_of_what_is_denied_is_denied_too(callers: dict[str, Caller]) -> None:
    forbid(callers, "feature:spend:amount", "role:viewer", "role:editor", "role:operator")
    body = {"name": "d1", "entities": ["user"], "source": {"type": "derived", "features": ["spend:amount"]}}
    ok(callers["editor"].post("feature-groups", body), 201)
    ok(callers["operator"].post("feature-groups/d1/materialize?wait=30"))
    ask = {"features": ["d1"], "rows": [{"user_id": "u2"}]}
    for role in ("viewer", "editor", "operator"):
        assert "spend:amount" in refused(callers[role].post("serving/online", ask))
        past = {"features": ["d1:amount"], "rows": SPINE}
        assert "spend:amount" in refused(callers[role].post("serving/historical", past))
        assert "amount" not in ok(callers[role].get("feature-groups/d1/rows"))["columns"]
    assert "9.0" in callers["admin"].post("serving/online", ask).text
    raw = {"name": "d2", "entities": ["user"], "source": SOURCE}
    for path, given in (
        ("feature-groups", raw),
        ("definitions:plan", {"definitions": [{"kind": "feature_group", "name": "d2", "definition": raw}]}),
        ("definitions:apply", {"definitions": [{"kind": "feature_group", "name": "d2", "definition": raw}]}),
    ):
        assert "spend:amount" in refused(callers["editor"].post(path, given))
    ok(callers["admin"].post("feature-groups", raw), 201)


def test_an_editor_does_not_take_a_tag_from_under_a_policy(callers: dict[str, Caller]) -> None:
    body = {"name": "spend", "entities": ["user"], "source": SOURCE}
    ok(callers["admin"].put("feature-groups/spend", {**body, "tags": {"pii": "true"}}))
    forbid(callers, "tag:pii=true", "role:editor", effect="mask")
    assert "from under policy" in refused(callers["editor"].put("feature-groups/spend", body))
    ok(callers["editor"].put("feature-groups/spend", {**body, "tags": {"pii": "true"}, "owner": "me"}))
    ok(callers["admin"].put("feature-groups/spend", body))


def test_a_denied_write_is_denied_by_the_name_of_the_source_too(callers: dict[str, Caller]) -> None:
    forbid(callers, "group:clicks", "role:editor", actions=["write"])
    for name in ("clicks", "click_events"):
        assert "may not change 'clicks'" in refused(
            callers["editor"].post(f"feature-groups/{name}/rows", {"rows": [CLICK]})
        )
    columns = {name: [value] for name, value in CLICK.items()}
    pushed = callers["editor"].post("/push", {"push_source_name": "click_events", "df": columns})
    assert pushed.status_code == 403
    ok(callers["operator"].post("feature-groups/click_events/rows", {"rows": [CLICK]}), 201)


def test_scopes_of_operating_do_what_they_say(callers: dict[str, Caller], store: gr.FeatureStore, client: Any) -> None:
    made = ok(callers["admin"].post("keys", {"name": "nightly", "role": "operator", "scopes": ["operate:spend"]}), 201)
    nightly = Caller(client, made["key"])
    assert ok(nightly.post("feature-groups/spend/materialize?wait=30"))["status"] == "succeeded"
    refused(nightly.post("feature-groups/shops/materialize"))
    forbid(callers, "group:spend", "key:nightly", actions=["write"])
    assert "may not change 'spend'" in refused(nightly.post("feature-groups/spend/materialize?wait=30"))


def test_rows_of_a_job_are_shown_to_who_may_see_them_by_now(callers: dict[str, Caller]) -> None:
    editor = callers["editor"]
    started = ok(
        editor.post("serving/historical?job=true", {"features": ["spend:amount", "spend:visits"], "rows": SPINE}), 202
    )
    path = f"jobs/{started['id']}"
    assert ok(editor.get(path + "?wait=30"))["status"] == "succeeded"
    assert "read" not in ok(editor.get(path))
    assert ok(editor.get(path + "/rows"))["rows"][0]["amount"] == 20.0
    forbid(callers, "feature:spend:amount", "role:editor", effect="mask")
    row = ok(editor.get(path + "/rows"))["rows"][0]
    assert row["amount"] is None and row["visits"] == 2
    streamed = editor.get(path + "/rows", headers={"Accept": "application/vnd.apache.arrow.stream"})
    import pyarrow as pa

    assert pa.ipc.open_stream(streamed.content).read_all()["amount"].to_pylist() == [None]
    forbid(callers, "feature:spend:visits", "role:editor")
    assert "spend:visits" in refused(editor.get(path + "/rows"))


def test_what_came_of_a_job_is_shown_to_who_may_see_values_by_now(callers: dict[str, Caller]) -> None:
    ok(callers["editor"].post("feature-views", BUYING), 201)
    made = dataset(callers["editor"], **{"Idempotency-Key": "k1"})
    assert "20.0" in str(made["result"]["meta"]["statistics"])
    path = f"jobs/{made['id']}"
    assert ok(callers["operator"].get(path))["result"] is not None
    forbid(callers, "feature:spend:amount", "role:editor", "role:operator")
    for role in ("operator", "editor"):
        job = ok(callers[role].get(path))
        assert job["status"] == "succeeded" and job["result"] is None
        assert "20.0" not in callers[role].get("jobs").text
    again = dataset(callers["editor"], **{"Idempotency-Key": "k1"})
    assert again["id"] == made["id"] and again["result"] is None
    assert ok(callers["admin"].get(path))["result"] is not None


def test_a_failed_job_quotes_no_values_to_whom_they_are_hidden_from(callers: dict[str, Caller]) -> None:
    check = {"kind": "less_than", "arguments": [8]}
    body = {"name": "spend", "entities": ["user"], "source": SOURCE, "expectations": {"amount": [check]}}
    ok(callers["admin"].put("feature-groups/spend", body))
    failed = ok(callers["admin"].post("feature-groups/spend/materialize?wait=30"))
    assert failed["status"] == "failed" and "9.0" in str(failed["error"])
    forbid(callers, "feature:spend:amount", "role:operator")
    seen = ok(callers["operator"].get(f"jobs/{failed['id']}"))
    assert seen["error"]["code"] == "GRANGE-403" and "9.0" not in str(seen)
    own = ok(callers["operator"].post("feature-groups/spend/materialize?wait=30"))
    assert own["status"] == "failed" and "9.0" not in str(own)
    assert "9.0" not in callers["admin"].get(f"jobs/{own['id']}").text


def test_a_key_hands_on_nothing_that_it_has_not(
    callers: dict[str, Caller], store: gr.FeatureStore, client: Any
) -> None:
    clerk = ok(callers["admin"].post("keys", {"name": "clerk", "role": "admin", "scopes": ["administer"]}), 201)
    narrow = Caller(client, clerk["key"])
    for body in ({"role": "admin"}, {"role": "viewer"}, {"role": "viewer", "scopes": ["serve:spend"]}):
        assert "hand on" in refused(narrow.post("keys", {"name": "more", **body}))
    refused(narrow.post(f"keys/{_id_of(store, 'viewer_key')}/rotate"))
    ok(narrow.post("keys", {"name": "less", "role": "admin", "scopes": ["administer:spend"]}), 201)


def _id_of(store: gr.FeatureStore, name: str) -> str:
    keys = Security(store._parts.registry, store.config.project).keys
    return next(info.id for info in keys.list() if info.name == name)


def test_deleting_takes_along_only_what_its_caller_may_delete(callers: dict[str, Caller]) -> None:
    forbid(callers, "view:shopping", "role:admin", actions=["write"])
    assert "'shopping'" in refused(callers["admin"].delete("feature-groups/shops?cascade=true"))
    ok(callers["admin"].get("feature-views/shopping"))


def test_nobody_finds_out_by_a_filter_what_is_masked_to_them(callers: dict[str, Caller]) -> None:
    """Neither by one of their own nor by what they bring for one to be compared with."""
    mask = {"name": "amounts", "effect": "mask", "on": ["feature:spend:amount"], "to": ["role:editor", "role:viewer"]}
    assert callers["admin"].post("policies", mask).status_code == 201
    view = {"name": "big", "features": ["spend"], "filter": "amount > 8"}
    refused = callers["editor"].put("feature-views/big", view)
    assert refused.status_code == 403 and error_of(refused)["details"]["feature"] == "spend:amount"
    assert callers["admin"].put("feature-views/big", view).status_code == 201
    assert callers["editor"].put("feature-views/big", {**view, "owner": "sales"}).status_code == 200
    rows = [{"user_id": name, "event_time": "2026-03-11T00:00:00Z", "floor": 8.5} for name in ("u1", "u2")]
    history = callers["viewer"].post("serving/historical", {"features": "big", "rows": rows}).json()
    assert [row["amount"] for row in history["rows"]] == [None]
    assert callers["admin"].put("feature-views/big", {**view, "filter": "amount > floor"}).status_code == 200
    asked = {"features": "big", "rows": rows}
    assert error_of(callers["viewer"].post("serving/historical", asked))["code"] == "GRANGE-507"
    assert len(callers["admin"].post("serving/historical", asked).json()["rows"]) == 1
