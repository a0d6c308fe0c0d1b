"""Vectors over HTTP: what is asked for, in which form, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tests.http.conftest import Client

import grange as gr
from grange.errors import TooLargeError
from grange.http.app import create_app, project_of
from grange.http.arrow_ipc import measure, read_table
from grange.http.context import Projects

URL = "/api/v1/serving/online"
ROWS = [{"user_id": "u1", "shop_id": 1}, {"user_id": "nobody", "shop_id": 2}]
NOW = "2026-03-20T00:00:00Z"
FIRST = {"user_id": "u1", "shop_id": 1, "amount": None, "visits": 3, "country": "FR", "page": "home", "n": 3}
ARROW = "application/vnd.apache.arrow.stream"
MSGPACK = "application/msgpack"


def ask(client: Client, body: dict[str, Any]) -> Any:
    answer = client.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: Client, body: Any, status: int) -> dict[str, Any]:
    answer = client.post(URL, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


class TestShapes:
    def test_a_view_is_served(self, client: Client) -> None:
        answer = client.post(URL, json={"features": "shopping", "rows": ROWS, "now": NOW})
        first, second = answer.json()["features"]
        assert first == FIRST
        assert second["amount"] is None
        assert second["country"] == "NZ"
        about = answer.json()["metadata"]
        assert about["view"] == "shopping"
        assert not about["degraded"]
        assert about["masked"] == []
        assert about["cache_hit"] is False
        assert about["latency_ms"] > 0
        assert about["request_id"] == answer.headers["x-request-id"]

    def test_it_is_what_the_library_says(self, client: Client, store: gr.FeatureStore) -> None:
        found = store.get_online_features("shopping", ROWS, now=NOW)
        answer = ask(client, {"features": "shopping", "rows": ROWS, "now": NOW, "statuses": True, "event_times": True})
        assert answer["features"] == found.to_dicts()
        assert answer["statuses"] == found.statuses
        times = [{name: time and time.isoformat().replace("+00:00", "Z") for name, time in row.items()}
                 for row in found.event_times]  # fmt: skip
        assert answer["event_times"] == times

    def test_references(self, client: Client) -> None:
        answer = ask(client, {"features": ["spend:visits", "shops"], "rows": ROWS, "full_feature_names": True})
        assert answer["features"][0] == {"user_id": "u1", "shop_id": 1, "spend__visits": 3, "shops__country": "FR"}
        assert answer["metadata"]["view"] is None

    def test_columns_in_and_out(self, client: Client) -> None:
        columns = {"user_id": ["u1", "nobody"], "shop_id": [1, 2]}
        answer = ask(client, {"features": "shopping", "columns": columns, "now": NOW, "format": "columns"})
        assert answer["features"]["country"] == ["FR", "NZ"]
        assert list(answer["features"]) == list(FIRST)

    def test_no_rows_give_no_vectors(self, client: Client) -> None:
        assert ask(client, {"features": "shopping", "rows": []})["features"] == []

    def test_the_time_of_the_read_can_be_said(self, client: Client) -> None:
        body = {"features": ["spend"], "rows": [{"user_id": "u1"}], "now": "2026-03-02T00:00:00Z", "statuses": True}
        assert ask(client, body)["statuses"] == [{"amount": "NOT_FOUND", "visits": "NOT_FOUND"}]

    def test_large_requests_are_answered_too(self, client: Client) -> None:
        rows = [{"user_id": f"u{place % 3}"} for place in range(3_000)]
        answer = ask(client, {"features": ["spend"], "rows": rows, "now": NOW})
        assert [row["user_id"] for row in answer["features"]] == [row["user_id"] for row in rows]


class TestForms:
    def test_messagepack(self, client: Client) -> None:
        body = msgspec.msgpack.encode({"features": "shopping", "rows": ROWS, "now": NOW})
        answer = client.post(URL, content=body, headers={"content-type": MSGPACK})
        assert answer.headers["content-type"] == MSGPACK
        assert msgspec.msgpack.decode(answer.content)["features"][0] == FIRST

    def test_json_in_arrow_out(self, client: Client) -> None:
        answer = client.post(URL, json={"features": "shopping", "rows": ROWS}, headers={"accept": ARROW})
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.column_names == list(FIRST)
        assert table.schema.field("visits").type == pa.int32()
        assert answer.headers["x-grange-degraded"] == "false"

    def test_arrow_in_with_options_in_the_query(self, client: Client) -> None:
        body = arrow(pa.table({"user_id": ["u1"], "shop_id": [1]}))
        answer = client.post(
            f"{URL}?features=shopping&now={NOW}", content=body, headers={"content-type": ARROW, "accept": ARROW}
        )
        assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == [FIRST]

    def test_arrow_in_with_references(self, client: Client) -> None:
        body = arrow(pa.table({"user_id": ["u1"]}))
        for query in ("features=spend:visits", "features=spend:visits&features=clicks:n"):
            answer = client.post(f"{URL}?{query}", content=body, headers={"content-type": ARROW})
            assert pa.ipc.open_stream(answer.content).read_all().column("visits").to_pylist() == [3]

    def test_values_that_json_has_no_word_for(self, folder: Any) -> None:
        """NaN and infinities become null in JSON, and stay what they are in MessagePack."""
        rows = pl.DataFrame({"user_id": ["u1"], "at": ["2026-03-01"], "x": [float("nan")], "y": [float("inf")]})
        rows = rows.with_columns(pl.col("at").str.to_datetime(time_zone="UTC"))
        user = gr.Entity("user", join_keys=["user_id"])
        group = gr.FeatureGroup("g", entities=user, source=gr.TableSource(rows, event_time="at", name="rows"))
        with gr.FeatureStore(folder) as store:
            store.apply(group)
            store.materialize("g")
            client = client_of(store)
            body = {"features": ["g"], "rows": [{"user_id": "u1"}], "statuses": True}
            answer = ask(client, body)
            assert answer["features"] == [{"user_id": "u1", "x": None, "y": None}]
            assert answer["statuses"] == [{"x": "PRESENT", "y": "PRESENT"}]
            packed = client.post(URL, content=msgspec.msgpack.encode(body), headers={"content-type": MSGPACK})
            assert str(msgspec.msgpack.decode(packed.content)["features"][0]["x"]) == "nan"
            client.close()


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ({"rows": ROWS}, 422, "features"),
            ({"features": [], "rows": ROWS}, 422, "features"),
            ({"features": "shopping"}, 422, "rows"),
            ({"features": "shopping", "rows": ROWS, "columns": {}}, 422, "rows"),
            ({"features": "shopping", "rows": ROWS, "featurs": 1}, 422, "featurs"),
            ({"features": "shopping", "rows": [1]}, 422, "not as it should be"),
            ({"features": "shopping", "rows": [{"user_id": "u1"}]}, 422, "shop_id"),
            ({"features": "shopping", "rows": [{"user_id": 1, "shop_id": 1}]}, 422, "user_id"),
            ({"features": "shopping", "columns": {"user_id": ["a"], "shop_id": []}}, 422, "equal length"),
            ({"features": "shoping", "rows": ROWS}, 404, "shoping"),
            ({"features": ["spend:amont"], "rows": ROWS}, 404, "amont"),
            ({"features": ["spend@9.9.9"], "rows": ROWS}, 404, "9.9.9"),
            ({"features": "shopping", "rows": ROWS, "now": "yesterday"}, 422, "yesterday"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said(self, client: Client, body: Any, status: int, said: str) -> None:
        error = refused(client, body, status)
        assert said in f"{error['message']} {error['details']}"

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'{"features": 1e999}'])
    def test_a_body_that_is_no_request(self, client: Client, body: bytes) -> None:
        answer = client.post(URL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "GRANGE-300"

    def test_a_deeply_nested_body(self, client: Client) -> None:
        body = b'{"features":"shopping","rows":[{"user_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
        answer = client.post(URL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 413

    def test_another_content_type(self, client: Client) -> None:
        answer = client.post(URL, content=b"a,b", headers={"content-type": "text/csv"})
        assert answer.status_code == 422
        assert "text/csv" in answer.json()["error"]["message"]

    def test_too_many_rows(self, store: gr.FeatureStore, client: Client) -> None:
        rows = [{"user_id": "u1"}] * (store.config.server.max_rows + 1)
        error = refused(client, {"features": ["spend"], "rows": rows}, 413)
        assert error["details"]["limit"] == store.config.server.max_rows

    def test_an_arrow_stream_of_too_many_rows(self, client: Client) -> None:
        """Two million rows in 224 bytes."""
        table = pa.table({"user_id": pa.nulls(2_000_000, pa.null())})
        answer = client.post(f"{URL}?features=spend", content=arrow(table), headers={"content-type": ARROW})
        assert answer.status_code == 413

    def test_an_arrow_stream_that_unpacks_to_too_much(self) -> None:
        """A hundred megabytes of zeros in a few thousand bytes are not unpacked."""
        table = pa.table({"x": pa.array(np.zeros(1 << 24))})
        body = arrow(table, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        assert len(body) < 10_000
        assert measure(body) == (1 << 24, 1 << 27)
        before = pa.total_allocated_bytes()
        with pytest.raises(TooLargeError, match="unpack"):
            read_table(body, max_rows=0, max_bytes=1 << 26)
        assert pa.total_allocated_bytes() == before

    @pytest.mark.parametrize("cut", [1, 10, 100, 300])
    def test_an_arrow_stream_that_breaks_off(self, client: Client, cut: int) -> None:
        body = arrow(pa.table({"user_id": ["u1"] * 100}))[:cut]
        answer = client.post(f"{URL}?features=spend", content=body, headers={"content-type": ARROW})
        assert answer.status_code == 422, answer.text


class TestChanges:
    def test_a_definition_that_changed_is_served_as_it_is_now(self, client: Client, store: gr.FeatureStore) -> None:
        body = {"features": "shopping", "rows": ROWS[:1], "now": NOW}
        assert set(ask(client, body)["features"][0]) == set(FIRST)
        store.apply(gr.FeatureView("shopping", features=["spend:visits"]))
        assert set(ask(client, body)["features"][0]) == {"user_id", "visits"}

    def test_a_push_is_served_at_once(self, client: Client, store: gr.FeatureStore) -> None:
        store.push("click_events", [{"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "new", "n": 9}])
        answer = ask(client, {"features": ["clicks"], "rows": [{"user_id": "u1"}], "now": NOW})
        assert answer["features"] == [{"user_id": "u1", "page": "new", "n": 9}]


def test_a_slow_view_is_read_by_a_thread_the_next_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its own functions hold nobody else up."""
    import threading

    import grange.http.hot as hot

    monkeypatch.setattr(hot, "SLOW_S", 0.0)
    threads = []
    answered = hot.Online._answered

    def seen(self: Any, plan: Any, works: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return answered(self, plan, works)

    monkeypatch.setattr(hot.Online, "_answered", seen)
    for _ in range(3):
        ask(client, {"features": "shopping", "rows": ROWS, "now": NOW})
    assert threads[1:] == [False, False]


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def client_of(store: gr.FeatureStore) -> Client:
    project = project_of(store)
    return Client(create_app(Projects(store.config, {project.name: project}, project.name)))
