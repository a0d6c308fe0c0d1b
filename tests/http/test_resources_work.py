"""What the server does for somebody: materializing, training datasets, exports, jobs; and what it tells of itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.http.callers import Caller, error_of, make_keys

import grange as gr
from grange.http.messages import ARROW

SPINE = [
    {"user_id": "u1", "event_time": "2026-03-06T00:00:00Z"},
    {"user_id": "u9", "event_time": "2026-03-06T00:00:00Z"},
]


@pytest.fixture
def api(client: Any) -> Caller:
    return Caller(client, None)


def done(answer: Any) -> dict[str, Any]:
    """The result of a job that succeeded in time."""
    job = answer.json()
    assert answer.status_code == 200 and job["status"] == "succeeded", answer.text
    found: dict[str, Any] = job["result"]
    return found


def add_rows(api: Caller, day: int) -> None:
    at = f"2026-03-{day}T00:00:00Z"
    row = {"user_id": "u1", "at": at, "loaded": at, "amount": 5.0, "visits": 1}
    assert api.post("feature-groups/spend/rows", {"rows": [row]}).status_code == 201


def test_materializing_is_a_job_with_progress_and_a_log(api: Caller, store: gr.FeatureStore) -> None:
    add_rows(api, 20)
    plan = api.post("feature-groups/spend/materialize:plan").json()["items"][0]
    started = api.post("feature-groups/spend/materialize", {})
    assert started.status_code == 202 and started.headers["retry-after"] == "1"
    job = api.get(started.headers["location"] + "?wait=30").json()
    assert (job["status"], job["kind"], job["what"], job["created_by"]) == (
        "succeeded",
        "materialize",
        "spend",
        "local",
    )
    assert job["progress"] == {"group": "spend", "stage": "done", "rows": 6, "position": 1, "total": 1}
    made = job["result"]["groups"][0]["version"]
    assert made == store.version("spend").version and made in (plan["next"], plan["if_changed"])
    lines = [line["text"] for line in api.get(job["logs_url"]).json()["items"]]
    assert lines[0].startswith("spend: read") and lines[-1].startswith("spend: done")
    listed = api.get("jobs?kind=materialize&status=succeeded").json()["items"]
    assert [each["id"] for each in listed] == [job["id"]]
    assert api.get("jobs?status=failed").json()["items"] == []


def test_what_can_be_told_at_once_is_no_job(api: Caller) -> None:
    assert api.post("feature-groups/nothing/materialize", {}).status_code == 404
    assert api.post("feature-groups/spend/materialize", {"version": "0.0.1"}).status_code == 422
    assert api.post("materialize", {"groups": ["spend", "nothing"]}).status_code == 404
    assert api.post("training-datasets", {"view": "nothing"}).status_code == 404
    assert api.post("exports", {"what": "nothing", "destination": "x"}).status_code == 404
    assert api.get("jobs").json()["items"] == []


def test_a_job_that_fails_says_how(api: Caller, store: gr.FeatureStore) -> None:
    (store.project / "data" / "spend.parquet").unlink()
    job = api.post("feature-groups/spend/materialize?wait=30", {}).json()
    assert job["status"] == "failed" and job["error"]["code"] == "GRANGE-401" and job["result"] is None


def test_all_groups_are_materialized_by_one_job(api: Caller) -> None:
    result = done(api.post("materialize?wait=30", {"groups": ["spend", "shops"], "online": False}))
    assert [each["group"] for each in result["groups"]] == ["spend", "shops"]
    forecast = api.post("materialize:plan", {"groups": ["spend"]}).json()["items"]
    assert [each["group"] for each in forecast] == ["spend"]


def test_a_job_is_stopped(api: Caller, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()
    whole = gr.FeatureStore.materialize

    def slow(self: Any, groups: Any, *, progress: Any, **options: Any) -> Any:
        began.set()
        go.wait(20)
        return whole(self, groups, progress=progress, **options)

    monkeypatch.setattr(gr.FeatureStore, "materialize", slow)
    add_rows(api, 20)
    job = api.post("feature-groups/spend/materialize", {}).json()["id"]
    assert began.wait(20)
    assert api.post(f"jobs/{job}/stop").status_code == 202
    threading.Timer(1.5, go.set).start()
    assert api.get(f"jobs/{job}?wait=30").json()["status"] == "cancelled"
    assert len(store.versions("spend")) == 1
    assert api.post(f"jobs/{job}/stop").status_code == 200
    assert api.post("jobs/job-99/stop").status_code == 404


def test_going_back_to_a_version_and_forward_again(api: Caller, store: gr.FeatureStore) -> None:
    add_rows(api, 20)
    done(api.post("feature-groups/spend/materialize?wait=30", {}))
    before, after = (meta["version"] for meta in api.get("feature-groups/spend/versions").json()["items"])
    assert api.get("feature-groups/spend/versions/latest").json()["version"] == after
    difference = api.get(f"feature-groups/spend/diff?before={before}&after={after}").json()
    assert difference == store.diff("spend", before, after).to_dict()
    compared = api.get("feature-groups/spend/statistics:compare").json()
    assert compared == store.compare_statistics("spend").to_dict()
    planned = api.post("feature-groups/spend/rollback:plan", {"previous": True}).json()
    assert (planned["version"], planned["replaced"]) == (before, after) and store.version("spend").version == after
    assert api.post("feature-groups/spend/rollback", {"version": before}).json()["version"] == before
    assert store.version("spend").version == before
    assert api.post("feature-groups/spend/rollback", {}).status_code == 422
    assert api.delete(f"feature-groups/spend/versions/{after}").json()["removed"]
    assert api.get(f"feature-groups/spend/versions/{after}").status_code == 404


def test_statistics_can_be_read_back_without_loss(api: Caller, store: gr.FeatureStore) -> None:
    from grange.quality.statistics import Profile

    exact = api.get("feature-groups/spend/statistics?form=exact").json()
    kept = store.statistics("spend")
    assert Profile.from_data(exact["profile"]) == kept.profile and exact["version"] == kept.version


def test_a_training_dataset_from_rows_to_rows(api: Caller, store: gr.FeatureStore) -> None:
    body = {"view": "careful", "rows": SPINE * 4, "split": {"type": "random", "parts": [["train", 0.5], ["test", 0.5]]}}
    meta = done(api.post("training-datasets?wait=30", body))["meta"]
    assert meta == store.training_dataset_info("careful").to_dict()
    assert [part["name"] for part in meta["parts"]] == ["train", "test"]
    parts = [api.get(f"training-datasets/careful/1/rows?part={name}").json() for name in ("train", "test")]
    assert sum(len(part["rows"]) for part in parts) == 8
    assert {row["amount"] for part in parts for row in part["rows"]} == {20.0, None}
    assert api.get("training-datasets/careful/latest/statistics").json() == store.training_dataset_statistics("careful")
    again = done(api.post("training-datasets/careful/1/reproduce?wait=30", {}))
    assert again["identical"], again
    done(api.post("training-datasets?wait=30", {"view": "careful", "rows": SPINE}))
    difference = api.get("training-datasets/careful/diff?before=1&after=2").json()
    assert difference == store.diff_training_datasets("careful", 1, 2).to_dict()
    assert [each["version"] for each in api.get("training-datasets?view=careful").json()["items"]] == [1, 2]
    assert api.delete("training-datasets/careful/1").json()["removed"]
    assert api.get("training-datasets/careful/1").status_code == 404


@pytest.mark.parametrize("split", [{"type": "random"}, {"type": "nothing"}, {"type": 7}, {"train": "x"}, {}, "a"])
def test_a_split_that_is_none(api: Caller, split: Any) -> None:
    answer = api.post("training-datasets?wait=30", {"view": "careful", "split": split})
    assert answer.status_code == 422 or answer.json()["error"]["code"].startswith("GRANGE-"), answer.text


@pytest.mark.parametrize("field", ["spine", "source", "query", "path", "write"])
def test_a_spine_is_rows_and_nothing_of_the_servers(api: Caller, field: str) -> None:
    refused = api.post("training-datasets", {"view": "careful", field: "SELECT * FROM x"})
    assert refused.status_code == 422
    for rows in ("data/spend.parquet", "SELECT 1"):
        assert api.post("training-datasets", {"view": "careful", "rows": rows}).status_code == 422


def test_an_export_lands_in_the_projects_own_folder(api: Caller, store: gr.FeatureStore, folder: Path) -> None:
    told = done(api.post("exports?wait=30", {"what": "spend", "destination": "deep/spend.parquet"}))
    assert told["destination"] == "exports/deep/spend.parquet" and (folder / told["destination"]).is_file()
    assert api.get(f"exports/{told['id']}").json() == store.export_info(told["id"]).to_dict()
    view = {"what": "careful", "destination": "careful.csv", "rows": SPINE, "event_time": "event_time"}
    assert done(api.post("exports?wait=30", view))["rows"] == 2
    some = {"what": "spend", "destination": "some.parquet", "columns": ["user_id", "amount"]}
    assert done(api.post("exports?wait=30", some))["columns"] == ["user_id", "amount"]
    listed = api.get("exports?limit=1&what=careful").json()
    assert [each["name"] for each in listed["items"]] == ["careful"]
    newest = api.get("exports?limit=2").json()
    rest = api.get(f"exports?cursor={newest['next']}").json()
    assert [each["id"] for each in rest["items"]] == ["export-000001"] and rest["next"] is None
    again = api.post("exports?wait=30", {"what": "spend", "destination": "deep/spend.parquet"}).json()
    assert again["status"] == "failed" and again["error"]["code"] == "GRANGE-500"


@pytest.mark.parametrize(
    "destination",
    ["/tmp/x.parquet", "../x.parquet", "a/../../x.parquet", "a//x", ".grange/x", "~/x", "http://x/y", "file:///x",
     "s3://bucket/../x", "s3://user:secret@bucket/x", "s3://bucket/x?a=b", "\\\\host\\x", "x\x00", ""],
)  # fmt: skip
def test_an_export_goes_nowhere_else_on_the_disk(api: Caller, destination: str) -> None:
    refused = api.post("exports", {"what": "spend", "destination": destination})
    assert refused.status_code == 422, refused.text
    with_options = {"what": "spend", "destination": "s3://bucket/x", "options": {"endpoint": "http://evil"}}
    assert api.post("exports", with_options).status_code == 422


@pytest.fixture
def keys(store: gr.FeatureStore) -> dict[str, str]:
    """Made before the server begins; else it would take a moment to notice."""
    return make_keys(store)


def test_rows_of_a_job_are_for_who_started_it(keys: dict[str, str], client: Any) -> None:
    ask = {"features": "careful", "rows": SPINE}
    viewer, admin = Caller(client, keys["viewer"]), Caller(client, keys["admin"])
    job = viewer.post("serving/historical?job=true", ask).json()
    viewer.get(f"jobs/{job['id']}?wait=30")
    streamed = viewer.get(f"jobs/{job['id']}/rows", headers={"Accept": ARROW})
    assert pa.ipc.open_stream(streamed.content).read_all()["amount"].to_pylist() == [20.0, None]
    assert [row["amount"] for row in viewer.get(f"jobs/{job['id']}/rows?limit=1").json()["rows"]] == [20.0]
    assert admin.get(f"jobs/{job['id']}/rows").status_code == 403
    plain = admin.post("feature-groups/spend/materialize?wait=30", {}).json()
    assert admin.get(f"jobs/{plain['id']}/rows").status_code == 409


def test_verifying_is_a_job(api: Caller, store: gr.FeatureStore) -> None:
    assert done(api.post("verify?wait=30", {})) == {"items": []}
    version = store.version("spend").version
    (store.project / ".grange" / "offline" / "spend" / version / "data.parquet").write_bytes(b"broken")
    (found,) = done(api.post("verify?wait=30", {"group": "spend"}))["items"]
    assert found["path"] == f".grange/offline/spend/{version}"
    (found,) = done(api.post("verify?wait=30", {"group": f"spend@{version}"}))["items"]
    assert api.post("verify", {"group": "nothing"}).status_code == 404


def test_what_is_served_is_compared_with_history(api: Caller, store: gr.FeatureStore) -> None:
    (found,) = api.post("verify/online", {"group": "spend"}).json()["items"]
    assert found["holds"] and found["compared"] == 2
    assert {each["group"] for each in api.post("verify/online", {}).json()["items"]} == {"spend", "shops", "clicks"}
    assert api.post("verify/online", {"group": "nothing"}).status_code == 404


def test_served_vectors_can_be_read(api: Caller, store: gr.FeatureStore) -> None:
    assert api.get("feature-views/careful/served").json()["rows"] == []
    streamed = api.get("feature-views/careful/served", headers={"Accept": ARROW})
    assert "request_id" in pa.ipc.open_stream(streamed.content).read_all().column_names
    assert api.get("feature-views/nothing/served").status_code == 404


def test_finding_things_is_what_the_library_finds(api: Caller, store: gr.FeatureStore) -> None:
    assert api.get("search?query=spend&kinds=feature_group").json()["hits"][0]["name"] == "spend"
    assert api.get("keywords").json() == store.keywords().to_dict()
    similar = api.get("similar?feature=spend:amount&compute=true").json()["items"]
    assert similar == [each.to_dict() for each in store.similar("spend:amount")]
    graph = api.get("lineage?name=spend&columns=true").json()
    assert graph.items() >= store.lineage("spend", columns=True).to_dict().items() and graph["runs"]
    assert api.get("lineage?name=spend&form=tree").json()["text"] == store.lineage("spend").to_tree()
    impact = api.get("impact?name=spend").json()["items"]
    assert impact == [each.to_dict() for each in store.impact("spend")]
    for path in ("lineage?name=nothing", "impact?name=nothing", "similar?feature=spend:nothing", "inspect/nothing"):
        assert api.get(path).status_code == 404
    assert api.get("features/spend:amount").json()["feature_views"] == ["careful", "shopping"]
    assert [f["id"] for f in api.get("features?entity=shop").json()["items"]] == ["shops:country"]
    assert api.get("features/spend:nothing").status_code == 404 and api.get("features/spend").status_code == 422
    inputs = api.get("feature-views/shopping/inputs").json()
    assert inputs["join_keys"] == {"user_id": "string", "shop_id": "int64"}
    explained = api.post("explain/online", {"features": ["spend:amount", {"source": "shops"}]}).json()["text"]
    assert "spend" in explained and "shops" in explained
    told = store.explain_materialize("spend").replace(f"{store.project}/", "")
    assert api.get("feature-groups/spend/explain").json()["text"] == told
    assert api.get("manifest").json()["items"] == api.post("manifest:regenerate").json()["items"]


# monitoring


@pytest.mark.parametrize("prefix", ["/monitoring", "/api/v1/monitoring"])
def test_monitoring_tells_what_was_served(api: Caller, store: gr.FeatureStore, prefix: str) -> None:
    ask = {"features": "careful", "rows": [{"user_id": "u1"}, {"user_id": "u9"}]}
    for _ in range(20):
        assert api.post("serving/online", ask).status_code == 200
    told = api.get(f"{prefix}/metrics").json()
    (view,) = told["views"]
    assert (view["view"], view["count"], view["errors"]) == ("careful", 20, 0)
    assert 0 < view["p50_ms"] <= view["p95_ms"] <= view["p99_ms"]
    # u1 has both values, u9 neither; the newest amount of u1 is null
    assert view["coverage"] == pytest.approx(0.25) and told["cache"]["hit_rate"] is None
    usage = api.get(f"{prefix}/usage?start_date=2024-01-01").json()
    assert usage["start_date"] == "2024-01-01" and usage["feature_views"]["careful"] >= 20
    assert usage["features"]["spend:amount"] >= 20 and usage["consumers"] == {"local": {"careful": 20}}
    assert api.get(f"{prefix}/usage?start_date=2999-01-01").json()["features"] == {}
    assert api.get(f"{prefix}/usage?start_date=never").status_code == 422


def test_freshness_is_the_age_of_the_newest_event(api: Caller, store: gr.FeatureStore) -> None:
    entity = store.catalog.entities["user"]
    store.apply(
        [
            gr.FeatureGroup(
                "old", entities=entity, source=gr.FileSource("data/spend.parquet", event_time="at"), ttl="7d"
            ),
            gr.FeatureGroup("never", entities=entity, source=gr.FileSource("data/spend.parquet", event_time="at")),
        ]
    )
    store.materialize("old")
    groups = {each["group"]: each for each in api.get("/monitoring/data-freshness").json()["groups"]}
    assert groups["spend"]["newest_event"] == "2026-03-09T00:00:00Z" and not groups["spend"]["stale"]
    assert groups["spend"]["materialized_age_seconds"] < 600 < groups["spend"]["event_age_seconds"]
    assert groups["clicks"]["newest_event"] == "2026-03-11T00:00:00Z" and groups["clicks"]["pushed_rows"] == 2
    assert groups["old"]["stale"] and groups["never"]["stale"] and groups["never"]["version"] is None
    assert groups["shops"]["newest_event"] is None


def test_statistics_are_of_what_was_materialized_lately(api: Caller) -> None:
    told = api.get("/monitoring/statistics?days=7").json()
    assert set(told["groups"]) == {"spend", "shops"} and told["days"] == 7
    for days in ("0", "x", "99999"):
        assert error_of(api.get(f"/monitoring/statistics?days={days}"))["code"] == "invalid"
