"""Writes that are sent twice."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.http.callers import Caller, error_of, make_keys

import grange as gr
from grange.http import idempotency
from grange.http.idempotency import COLLECTION, KEPT, LONGEST
from grange.jobs import documents_of

ROWS = "feature-groups/clicks/rows"
ROW = {"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "home", "n": 1}
KEY = {"Idempotency-Key": "one"}


@pytest.fixture
def keys(store: gr.FeatureStore) -> dict[str, str]:
    """Made before the server begins; else it would take a moment to notice."""
    return make_keys(store)


@pytest.fixture
def api(client: Any) -> Caller:
    return Caller(client, None)


def stored(store: gr.FeatureStore) -> int:
    return len(store.read("clicks"))


def record(store: gr.FeatureStore) -> Any:
    (found,) = documents_of(store).documents(COLLECTION)
    return found


def test_the_same_write_again_gets_the_same_answer_and_is_not_done_again(api: Caller, store: gr.FeatureStore) -> None:
    before = stored(store)
    first, second = (api.post(ROWS, {"rows": [ROW]}, headers=KEY) for _ in range(2))
    assert first.status_code == second.status_code == 201 and first.content == second.content
    assert "idempotency-replayed" not in first.headers and second.headers["idempotency-replayed"] == "true"
    assert stored(store) == before + 1
    assert api.post(ROWS, {"rows": [ROW]}, headers={"Idempotency-Key": "two"}).status_code == 201
    assert stored(store) == before + 2


@pytest.mark.parametrize("change", ["body", "path", "query", "options", "condition"])
def test_the_same_key_for_another_write_is_refused(api: Caller, store: gr.FeatureStore, change: str) -> None:
    api.post(ROWS, {"rows": [ROW]}, headers=KEY)
    before = stored(store)
    other = {
        "body": lambda: api.post(ROWS, {"rows": [{**ROW, "n": 2}]}, headers=KEY),
        "path": lambda: api.post("feature-groups/click_events/rows", {"rows": [ROW]}, headers=KEY),
        "query": lambda: api.post(f"{ROWS}?x=1", {"rows": [ROW]}, headers=KEY),
        "options": lambda: api.post(ROWS, {"rows": [ROW]}, headers=KEY | {"X-Grange-Options": "%7B%7D"}),
        "condition": lambda: api.post(ROWS, {"rows": [ROW]}, headers=KEY | {"If-Match": '"abc"'}),
    }[change]()
    assert other.status_code == 409 and "another request" in error_of(other)["message"]
    assert stored(store) == before


def test_of_two_at_once_one_is_done(client: Any, store: gr.FeatureStore) -> None:
    before = stored(store)
    request = ("POST", f"/api/v1/{ROWS}", {"json": {"rows": [ROW]}, "headers": KEY})
    answers = client.all_at_once(*[request] * 6)
    assert stored(store) == before + 1
    assert sorted({answer.status_code for answer in answers}) in ([201], [201, 409])
    for answer in answers:
        if answer.status_code == 409:
            assert error_of(answer)["details"]["retry"] and answer.headers["retry-after"] == "1"
        else:
            assert answer.json()["groups"][0]["rows"] == 1


def test_a_refusal_that_says_nothing_was_understood_does_not_use_the_key_up(api: Caller) -> None:
    assert api.post("entities", {"name": "../x"}, headers=KEY).status_code == 422
    assert api.post("entities", {"name": "x", "join_keys": ["x"]}, headers=KEY).status_code == 201


def test_a_verbs_refusal_is_an_answer_that_stays(api: Caller) -> None:
    wrong = {**ROW, "n": "many"}
    first, second = (api.post(ROWS, {"rows": [wrong]}, headers=KEY) for _ in range(2))
    assert first.status_code == second.status_code == 422 and second.headers["idempotency-replayed"] == "true"


def test_an_answer_that_says_retry_is_not_kept(
    api: Caller, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise gr.errors.ConflictError("somebody else is at it")

    with monkeypatch.context() as patch:
        patch.setattr(gr.FeatureStore, "push", busy)
        assert api.post(ROWS, {"rows": [ROW]}, headers=KEY).status_code == 409
    assert api.post(ROWS, {"rows": [ROW]}, headers=KEY).status_code == 201


def test_a_write_half_done_keeps_its_answer(
    api: Caller, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(*_: Any, **__: Any) -> Any:
        error = gr.errors.StoreUnavailableError("history has the rows", details={"stored": ["clicks"]})
        error.retry = False
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(gr.FeatureStore, "push", half)
        assert api.post(ROWS, {"rows": [ROW]}, headers=KEY).status_code == 503
    again = api.post(ROWS, {"rows": [ROW]}, headers=KEY)
    assert again.status_code == 503 and again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("how", ["fault", "killed", "lost"])
def test_what_became_of_a_write_that_never_ended_is_not_guessed_at(
    api: Caller, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(gr.FeatureStore, "push", broken)
        assert api.post(ROWS, {"rows": [ROW]}, headers=KEY).status_code == 500
    found = record(store)
    assert found.data["status"] == "unknown"
    if how == "killed":
        gone = {"host": idempotency.Process.current().host, "pid": 2**22 + 1, "started": ""}
        put(store, found, {**found.data, "status": "running", "process": gone}, found.created_at)
    if how == "lost":
        away = {"host": "elsewhere", "pid": 1, "started": ""}
        documents_of(store).remove(COLLECTION, found.key)
        put(store, found, {**found.data, "status": "running", "process": away}, found.created_at - LONGEST)
    before = stored(store)
    again = api.post(ROWS, {"rows": [ROW]}, headers=KEY)
    assert again.status_code == 409 and error_of(again)["details"]["outcome"] == "unknown"
    assert not error_of(again)["details"]["retry"] and stored(store) == before


def put(store: gr.FeatureStore, found: Any, data: dict[str, Any], at: dt.datetime) -> None:
    documents_of(store).put(COLLECTION, found.key, data, now=at)


def test_a_key_is_free_again_after_a_day(api: Caller, store: gr.FeatureStore) -> None:
    api.post(ROWS, {"rows": [ROW]}, headers=KEY)
    found, before = record(store), stored(store)
    documents_of(store).remove(COLLECTION, found.key)
    put(store, found, found.data, found.created_at - KEPT)
    again = api.post(ROWS, {"rows": [{**ROW, "n": 9}]}, headers=KEY)
    assert again.status_code == 201 and stored(store) == before + 1


def test_keys_of_two_callers_are_two_keys(keys: dict[str, str], client: Any, store: gr.FeatureStore) -> None:
    before = stored(store)
    for role in ("editor", "operator"):
        done = Caller(client, keys[role]).post(ROWS, {"rows": [ROW]}, headers=KEY)
        assert done.status_code == 201 and "idempotency-replayed" not in done.headers
    assert stored(store) == before + 2


def test_a_secret_is_never_kept(keys: dict[str, str], client: Any, store: gr.FeatureStore) -> None:
    admin = Caller(client, keys["admin"])
    body = {"name": "new", "role": "viewer"}
    made = admin.post("keys", body, headers=KEY)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    assert made.json()["key"] not in str(record(store).data) and record(store).data["body"] is None
    again = admin.post("keys", body, headers=KEY)
    assert again.status_code == 409 and error_of(again)["details"]["outcome"] == "done"
    assert len(admin.get("keys").json()["items"]) == 5


def test_a_job_is_started_once(api: Caller) -> None:
    answers = [api.post("feature-groups/spend/materialize", {}, headers=KEY) for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {"/api/v1/jobs/job-00000001"}
    assert len(api.get("jobs").json()["items"]) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256])
def test_a_key_is_checked(api: Caller, key: str) -> None:
    assert api.post(ROWS, {"rows": [ROW]}, headers={"Idempotency-Key": key}).status_code == 422


def test_reading_needs_no_key_and_takes_none(api: Caller, store: gr.FeatureStore) -> None:
    body = {"features": "shopping"}
    for _ in range(2):
        assert "idempotency-replayed" not in api.post("explain/online", body, headers=KEY).headers
    assert documents_of(store).documents(COLLECTION) == ()


def test_an_answer_that_cannot_be_kept_says_so(
    api: Caller, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise gr.errors.StoreUnavailableError("gone")

    monkeypatch.setattr(idempotency, "_keep", away)
    done = api.post(ROWS, {"rows": [ROW]}, headers=KEY)
    assert done.status_code == 201 and done.headers["idempotency-unkept"] == "true"
    assert api.post(ROWS, {"rows": [ROW]}, headers=KEY).status_code == 409
