"""Rows over HTTP: in every form, in and out; and what is refused before it is unpacked."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.http.callers import Caller, error_of
from tests.http.conftest import Client

import grange as gr
from grange.errors import RequestError, TooLargeError
from grange.http.app import create_app, project_of
from grange.http.context import Projects
from grange.http.messages import ARROW, MSGPACK
from grange.http.parquet import read_table
from grange.http.rows import PARQUET

ROWS = "feature-groups/clicks/rows"
ROW = {"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "home", "n": 1}
TABLE = pa.table(
    {
        "user_id": ["u1", "u2"],
        "at": pa.array([1_773_000_000_000_000, 1_773_000_000_000_001], pa.timestamp("us", "UTC")),
        "page": ["home", None],
        "n": [1, 2**60],
    }
)


@pytest.fixture
def api(client: Any) -> Caller:
    return Caller(client, None)


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


PLAIN = [{**row, "at": row["at"].isoformat()} for row in TABLE.to_pylist()]
COLUMNS = {name: [row[name] for row in PLAIN] for name in PLAIN[0]}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", msgspec.json.encode({"rows": PLAIN})),
        ("application/json", msgspec.json.encode(PLAIN)),
        ("application/json; charset=utf-8", msgspec.json.encode({"columns": COLUMNS})),
        (MSGPACK, msgspec.msgpack.encode({"rows": TABLE.to_pylist()})),
        (MSGPACK, msgspec.msgpack.encode({"columns": COLUMNS})),
        (ARROW, arrow(TABLE)),
        (ARROW, arrow(TABLE, compression="zstd")),
        (ARROW, arrow(TABLE.set_column(2, "page", TABLE["page"].dictionary_encode()))),
        (PARQUET, parquet(TABLE)),
        (PARQUET, parquet(TABLE, compression="zstd", use_dictionary=False, row_group_size=1)),
        (PARQUET, parquet(TABLE, compression="none", data_page_version="2.0")),
    ],
    ids=range(11),
)
def test_rows_are_pushed_in_every_form(api: Caller, store: gr.FeatureStore, content_type: str, body: bytes) -> None:
    done = api.request("POST", ROWS, content=body, headers={"Content-Type": content_type})
    assert done.status_code == 201 and done.json()["groups"][0]["rows"] == 2
    read = store.read("clicks", start="2026-03-08T12:00:00", end="2026-03-09").arrow
    assert read["n"].to_pylist() == [1, 2**60] and read["page"].to_pylist() == ["home", None]


def test_a_push_source_and_a_group_are_both_names(api: Caller, store: gr.FeatureStore) -> None:
    assert api.post("feature-groups/click_events/rows", {"rows": [ROW]}).status_code == 201
    assert api.post("feature-groups/nothing/rows", {"rows": [ROW]}).status_code == 404
    assert api.post("feature-groups/clicks@1.0.0/rows", {"rows": [ROW]}).status_code == 422


@pytest.mark.parametrize("path", [ROWS.replace("clicks", "spend"), "training-datasets/careful/latest/rows"])
def test_rows_come_back_as_json_and_as_arrow(api: Caller, store: gr.FeatureStore, path: str) -> None:
    store.create_training_dataset("careful")
    told = api.get(path)
    assert told.status_code == 200 and told.json()["rows"]
    streamed = api.get(path, headers={"Accept": ARROW})
    assert streamed.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(streamed.content).read_all()
    assert table.column_names == told.json()["columns"] and table.num_rows == len(told.json()["rows"])
    assert len(api.get(f"{path}?limit=1").json()["rows"]) == 1
    assert pa.ipc.open_stream(api.get(f"{path}?limit=1", headers={"Accept": ARROW}).content).read_all().num_rows == 1


def test_some_columns_and_a_range_of_rows(api: Caller) -> None:
    found = api.get("feature-groups/spend/rows?columns=amount&columns=visits&start=2026-03-05&end=2026-03-06").json()
    assert found["columns"] == ["amount", "visits"] and [row["amount"] for row in found["rows"]] == [20.0, 7.5]
    assert api.get("feature-groups/spend/rows?columns=nothing").status_code == 404
    assert api.get("feature-groups/spend/rows?start=never").status_code == 422


def test_what_json_has_no_word_for(api: Caller, store: gr.FeatureStore) -> None:
    import datetime as dt
    import decimal

    values = {
        "key": ["a"], "at": [dt.datetime(2026, 3, 1, tzinfo=dt.UTC)], "nan": [float("nan")], "big": [2**62],
        "price": [decimal.Decimal("1.50")], "raw": [b"ab"], "day": [dt.date(2026, 3, 1)],
    }  # fmt: skip
    source = gr.TableSource(pa.table(values), name="odd", event_time="at")
    store.apply([gr.FeatureGroup("odd", entities=gr.Entity("thing", "key"), source=source)])
    store.materialize("odd")
    (row,) = api.get("feature-groups/odd/rows").json()["rows"]
    assert row == {"key": "a", "at": "2026-03-01T00:00:00Z", "nan": None, "big": 2**62, "price": "1.50",
                   "raw": "YWI=", "day": "2026-03-01"}  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 422),
        ("application/json", b"{", 422),
        ("application/json", b"7", 422),
        ("application/json", b'{"rows": 7}', 422),
        ("application/json", b'{"rows": [7]}', 422),
        ("application/json", b'{"columns": {"a": [1], "b": []}}', 422),
        ("application/json", b'{"rows": [], "columns": {}}', 422),
        ("application/json", b'{"rows": [], "path": "/etc/passwd"}', 422),
        ("application/json", b'"SELECT * FROM x"', 422),
        ("application/json", b"[" * 100_000, 413),
        ("application/json", b'{"rows": ' + b'[{"a":' * 5000 + b"1" + b"}]" * 5000 + b"}", 413),
        (MSGPACK, b"\x91" * 100_000 + b"\xc0", 413),
        (MSGPACK, b"\xc1", 422),
        ("text/csv", b"a,b\n1,2\n", 422),
        (ARROW, b"no arrow", 422),
        (ARROW, arrow(TABLE)[:-40], 422),
        (PARQUET, b"PAR1", 422),
        (PARQUET, parquet(TABLE)[:-40], 422),
        ("application/zip", b"PK\x03\x04", 422),
    ],
    ids=range(19),
)
def test_what_is_no_rows_is_told_so(api: Caller, content_type: str, body: bytes, status: int) -> None:
    refused = api.request("POST", ROWS, content=body, headers={"Content-Type": content_type})
    assert refused.status_code == status, refused.text
    error_of(refused)


# bombs

MOST = 1 << 20
BOMB = pa.table({"a": ["x" * 1_000_000] * 64})


def test_an_arrow_bomb_is_not_unpacked(folder: Path, store: gr.FeatureStore) -> None:
    (folder / "grange.toml").write_text((folder / "grange.toml").read_text() + f"[server]\nmax_body = {MOST}\n")
    with gr.FeatureStore(folder) as small:
        project = project_of(small)
        client = Client(create_app(Projects(small.config, {project.name: project}, project.name)))
        for body, content_type in ((arrow(BOMB, compression="zstd"), ARROW), (parquet(BOMB), PARQUET)):
            assert len(body) < MOST
            headers = {"Content-Type": content_type}
            refused = client.request("POST", f"/api/v1/{ROWS}", content=body, headers=headers)
            assert refused.status_code == 413, refused.text
        refused = client.request("POST", f"/api/v1/{ROWS}", content=b" " * (MOST + 1))
        assert refused.status_code == 413
        client.close()


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"use_dictionary": False, "compression": "gzip"}])
def test_a_parquet_bomb_is_told_by_its_pages(options: dict[str, Any]) -> None:
    body = parquet(BOMB, **options)
    assert len(body) < 2_000_000
    with pytest.raises(TooLargeError):
        read_table(body, max_rows=1000, max_bytes=10_000_000)
    assert read_table(body, max_rows=1000, max_bytes=100_000_000).equals(BOMB)


def test_values_that_pages_name_by_number_are_counted_before_they_are_repeated() -> None:
    """A million rows of one value of a megabyte: two megabytes of pages, a terabyte of rows."""
    rows = 1_000_000
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 1_000_000]))
    body = parquet(pa.table({"a": dictionary}), compression="zstd")
    with pytest.raises(TooLargeError):
        read_table(body, max_rows=2 * rows, max_bytes=100_000_000)


def test_a_footer_that_lies_about_the_size_of_its_pages_is_not_believed() -> None:
    from grange.http import parquet as module

    body = parquet(BOMB, use_dictionary=False, compression="zstd")
    told = pq.ParquetFile(pa.BufferReader(body)).metadata
    assert module.unpacked_size(body, told.schema, told.num_columns)[1] >= 64_000_000
    small = body.replace(struct.pack("<I", 64_000_256), struct.pack("<I", 256))
    with pytest.raises((TooLargeError, RequestError)):
        read_table(small, max_rows=1000, max_bytes=10_000_000)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), read=st.sampled_from(["parquet", "arrow"]))
def test_damaged_files_are_refused_and_nothing_else_happens(data: st.DataObject, read: str) -> None:
    from grange.http.arrow_ipc import read_table as read_arrow

    make: Callable[[pa.Table], bytes] = parquet if read == "parquet" else arrow
    body = bytearray(make(TABLE))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        if read == "parquet":
            read_table(bytes(body), max_rows=1000, max_bytes=MOST)
        else:
            read_arrow(bytes(body), max_rows=1000, max_bytes=MOST)
    except (RequestError, TooLargeError):
        pass


def test_options_travel_in_a_header_beside_arrow(api: Caller, store: gr.FeatureStore) -> None:
    spine = pa.table({"user_id": ["u1"], "at": pa.array([1_773_100_800_000_000], pa.timestamp("us", "UTC"))})
    options = quote(msgspec.json.encode({"view": "careful", "event_time": "at"}))
    headers = {"Content-Type": ARROW, "X-Grange-Options": options}
    made = api.request("POST", "training-datasets?wait=30", content=arrow(spine), headers=headers).json()
    assert made["status"] == "succeeded" and made["result"]["meta"]["parts"][0]["rows"] == 1
    for wrong in ("{", "7", quote('{"view": "careful", "surprise": 1}')):
        headers["X-Grange-Options"] = wrong
        assert api.request("POST", "training-datasets", content=arrow(spine), headers=headers).status_code == 422


SQL = ["'; DROP TABLE documents; --", "1 OR 1=1", '" OR ""="', "x'; SELECT pg_sleep(9); --", "%", "_%", "\\", "${7*7}"]
PATHS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "....//....//x", "C:\\x", "a/../../b"]


@pytest.mark.parametrize("text", [*SQL, *PATHS])
def test_texts_that_mean_something_elsewhere_mean_nothing_here(api: Caller, store: gr.FeatureStore, text: str) -> None:
    before = (sorted(store.catalog.groups), len(store.read("clicks")))
    quoted = quote(text, safe="")
    for path in ("feature-groups/{}", "feature-views/{}", "entities/{}", "features/{}", "jobs/{}", "exports/{}",
                 "training-datasets/{}/1", "policies/{}", "keys/{}", "feature-groups/spend/versions/{}",
                 "inspect/{}"):  # fmt: skip
        answer = api.get(path.format(quoted))
        assert answer.status_code in (404, 422), f"{path} {answer.text}"
    for path in ("search?query={}", "search?owner={}", "lineage?name={}", "usage?name={}", "jobs?kind={}",
                 "feature-groups?owner={}", "feature-groups?tag={}", "exports?what={}",
                 "audit?principal={}"):  # fmt: skip
        answer = api.get(path.format(quoted))
        assert answer.status_code in (200, 404, 422) and not answer.json().get("items"), f"{path} {answer.text}"
    assert api.post("exports", {"what": "spend", "destination": text}).status_code == 422
    assert api.post("entities", {"name": text, "join_keys": ["x"]}).status_code == 422
    row = {"user_id": text, "at": "2026-03-12T00:00:00Z", "page": text, "n": 1}
    assert api.post(ROWS, {"rows": [row]}).status_code == 201
    kept = store.read("clicks").arrow.to_pylist()
    assert any(each["user_id"] == text and each["page"] == text for each in kept)
    assert (sorted(store.catalog.groups), len(kept) - 1) == before
    described = {"name": "courier", "join_keys": [text], "description": text, "owner": text, "tags": {text: text}}
    made = api.put("entities/courier", described)
    assert made.status_code in (200, 201), made.text
    assert api.get("entities/courier").json()["definition"]["description"] == text
    assert api.get(f"entities?owner={quoted}").json()["items"][0]["name"] == "courier"
