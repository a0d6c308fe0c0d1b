"""What one request may bring, at its worst."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.http.callers import Caller, error_of
from tests.http.conftest import Client
from tests.http.test_unpacking import LONG, as_arrow

import grange as gr
from grange.errors import TooLargeError
from grange.http.compat.feast import online as feast
from grange.http.compat.feature_store_2 import serving as sets
from grange.http.compat.known import MOST_NAMES, Known
from grange.http.limits import MAX_FEATURES, check_nesting
from grange.http.messages import ARROW
from grange.http.shell import Shell
from grange.http.trust import is_data

ONLINE = "/api/v1/serving/online"


@pytest.fixture
def api(client: Any) -> Caller:
    return Caller(client, None)


def test_texts_that_are_not_closed_take_no_longer_than_others() -> None:
    for text in (b'\\"' * 500_000, b"\\" * 1_000_001, b"x" * 1_000_000):
        check_nesting(b"[" * 60 + b'"' + text + b"[" * 10)
        with pytest.raises(TooLargeError):
            check_nesting(b"[" * 65 + b'"' + text)


def test_the_body_of_a_request_that_needs_no_key_is_not_read(client: Client, app: Shell) -> None:
    asked: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        asked.append({})
        return {"type": "http.request", "body": b"[" * 10_000, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    said: list[MutableMapping[str, Any]] = []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    for path in ("/health", "/health/live", "/health/ready"):
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"",
                 "raw_path": path.encode(), "root_path": "", "scheme": "http", "http_version": "1.1"}  # fmt: skip
        client.wait_for(app(scope, receive, send))
    assert [message["status"] for message in said if "status" in message] == [200, 200, 200] and not asked


class TestFeaturesOfARequest:
    MANY = [f"spend:f{number}" for number in range(MAX_FEATURES + 1)]

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            (ONLINE, {"features": MANY, "rows": []}),
            (ONLINE, {"features": MANY, "entities": {"user": ["u1"]}}),
            (ONLINE, {"feature_sets": MANY, "entities": {"user": ["u1"]}}),
            ("/api/v1/serving/historical", {"features": MANY, "rows": [{"user_id": "u1"}]}),
            ("/get-online-features", {"features": MANY, "entities": {"user_id": ["u1"]}}),
            ("/api/v1/explain/online", {"features": MANY}),
            ("/ai/features/get", {"feature_set": "shopping", "entities": [], "features": MANY}),
        ],
    )
    def test_are_bounded(self, client: Client, path: str, body: dict[str, Any]) -> None:
        assert client.post(path, json=body).status_code in (413, 422)
        if path == ONLINE:
            assert error_of(client.post(path, json=body))["details"]["limit"] == MAX_FEATURES

    @pytest.mark.parametrize("refuse", [feast._refuse_twice, sets._refuse_twice])
    def test_one_that_is_named_twice_is_found_by_looking_at_each_once(self, refuse: Any) -> None:
        class Name(str):
            __slots__ = ()
            compared = 0

            def __eq__(self, other: object) -> bool:
                Name.compared += 1
                return str.__eq__(self, str(other))

            __hash__ = str.__hash__

        with pytest.raises(gr.errors.NameCollisionError):
            refuse([Name("same") for _ in range(1000)])
        assert Name.compared < 5_000

    def test_what_is_worked_out_of_a_group_does_not_grow_with_their_number(
        self, client: Client, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The features of a group are worked out once, not once for each that is named."""
        times = 0
        work_out = gr.FeatureGroup._features

        def counted(self: gr.FeatureGroup, whole: Any) -> Any:
            nonlocal times
            times += 1
            return work_out(self, whole)

        monkeypatch.setattr(gr.FeatureGroup, "_features", counted)
        body = {"features": ["spend:amount", "spend:visits"] * 500, "rows": [{"user_id": "u1"}]}
        assert client.post(ONLINE, json=body).status_code == 200
        assert times < 50

    def test_questions_with_thousands_of_names_fill_no_memory(self, store: gr.FeatureStore) -> None:
        known: Known[int] = Known()
        catalog = store.catalog
        for number in range(100):
            known.get(catalog, number, lambda: 1, size=MOST_NAMES // 10)
            assert len(known._found) <= 10
        assert known.get(catalog, 99, lambda: 2) == 1


class TestBombs:
    """A megabyte that says itself a thousand times, on every route that takes rows."""

    NAMED = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array([LONG * 10]))

    @pytest.mark.parametrize(
        "path",
        [
            f"{ONLINE}?features=spend:amount",
            "/api/v1/serving/historical",
            "/api/v1/feature-groups/clicks/rows",
            "/api/v1/training-datasets",
        ],
    )
    def test_a_text_that_is_named_often_is_refused(self, client: Client, path: str) -> None:
        body = as_arrow(pa.table({"user_id": self.NAMED.slice(0, 9_000) if "online" in path else self.NAMED}))
        assert len(body) < 2_000_000
        before = pa.total_allocated_bytes()
        headers = {"content-type": ARROW, "x-grange-options": "%7B%22features%22%3A%22spend%22%7D"}
        assert client.post(path, content=body, headers=headers).status_code == 413
        assert pa.total_allocated_bytes() - before < 50_000_000


def test_what_nobody_foresaw_in_a_resource_has_the_envelope_too(
    api: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr("grange.store.FeatureStore.push", fail)
    answer = api.post("feature-groups/clicks/rows", {"rows": [{"user_id": "u1"}]})
    assert answer.status_code == 500 and error_of(answer)["code"] == "internal"
    assert error_of(answer)["request_id"] == answer.headers["x-request-id"] and "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text or any(record.exc_info for record in caplog.records)


def test_where_the_project_lies_is_not_told(api: Caller, folder: Path) -> None:
    group = {"name": "other", "entities": ["user"], "source": {"type": "file", "path": "data/none/*"}}
    answer = api.post("feature-groups", group)
    assert answer.status_code >= 400 and "data/none" in answer.text and str(folder) not in answer.text


def test_every_file_of_the_project_is_no_data(tmp_path: Path) -> None:
    assert is_data("data/*", tmp_path) and is_data("data/**", tmp_path)
    assert not is_data("*", tmp_path) and not is_data("**", tmp_path) and not is_data("./*", tmp_path)
