"""Exports: rows in files, whole or not at all, and a record of each."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers import s3 as s3_server
from tests.shop import SPEND, at, shops_group, spend_group

import grange as gr
from grange.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    RequestError,
    StorageFullError,
    StoreUnavailableError,
    UnknownFeatureError,
    UnknownVersionError,
    UnsupportedError,
)
from grange.verbs import batches
from grange.verbs.export import files, places
from grange.verbs.export.destinations import destination_of, redacted, secrets_of
from grange.verbs.export.records import Process

SPINE = [{"user_id": "u1", "shop_id": 1, "event_time": at(20)}, {"user_id": "u9", "shop_id": 2, "event_time": at(6)}]


@pytest.fixture
def shopping(project: Path) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(project, online="memory") as store:
        churn = gr.FeatureView("churn", features=["spend", "shops:country"])
        store.apply([spend_group(), shops_group(), churn])
        store.materialize()
        yield store


@pytest.fixture(scope="session")
def s3() -> Iterator[s3_server.S3Server]:
    command = s3_server.missing()
    if command is not None:
        pytest.skip(command)
    with s3_server.s3_server() as server:
        yield server


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".") and entry.name != ".grange"]


# groups


def test_a_group_goes_into_a_file_and_a_record_says_what_it_is(shopping: gr.FeatureStore, project: Path) -> None:
    done = shopping.export("spend", "exports/spend.parquet")
    path = project / "exports/spend.parquet"
    assert pl.read_parquet(path).equals(shopping.read("spend").polars)
    content = path.read_bytes()
    assert done == shopping.export_info(done.id) == shopping.exports()[0]
    assert (done.id, done.status, done.what, done.name, done.version) == (
        "export-000001", "succeeded", "group", "spend", "1.0.0",
    )  # fmt: skip
    assert (done.destination, done.format, done.compression) == ("exports/spend.parquet", "parquet", "snappy")
    assert (done.rows, done.bytes, done.sha256) == (5, len(content), hashlib.sha256(content).hexdigest())
    assert (done.min_event_time, done.max_event_time) == (at(1), at(9))
    assert done.pins[0].to_dict() == {"group": "spend", "version": "1.0.0", "pushed_until": None}
    assert done.ended_at is not None and done.ended_at >= done.started_at
    assert json.loads(json.dumps(done.to_dict()))["files"][0]["name"] == "spend.parquet"
    assert leftovers(path.parent) == []


def test_rows_columns_and_times_can_be_chosen(shopping: gr.FeatureStore, project: Path) -> None:
    done = shopping.export("spend@1.0.0", "some.parquet", columns=["visits", "user_id"], start=at(5), end="2026-03-09")
    rows = pl.read_parquet(project / "some.parquet")
    assert rows.to_dict(as_series=False) == {"visits": [2, 1], "user_id": ["u1", "u2"]}
    assert (done.columns, done.min_event_time, done.max_event_time) == (("visits", "user_id"), at(5), at(5))


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "brotli", "lz4", "none"])
def test_parquet_compressions(shopping: gr.FeatureStore, project: Path, compression: str) -> None:
    shopping.export("spend", "spend.parquet", compression=compression)
    found = pq.read_metadata(project / "spend.parquet").row_group(0).column(0).compression.lower()
    assert found == {"none": "uncompressed"}.get(compression, compression)


def test_arrow_and_csv_hold_the_same_rows(shopping: gr.FeatureStore, project: Path) -> None:
    shopping.export("spend", "spend.arrow", compression="zstd")
    assert pl.read_ipc(project / "spend.arrow").equals(shopping.read("spend").polars)
    shopping.export("spend", "spend.csv.gz")
    text = pa.csv.read_csv(project / "spend.csv.gz")
    assert text.column("amount").to_pylist() == shopping.read("spend").polars["amount"].to_list()
    assert text.column("at").to_pylist()[0] == at(1)


def test_csv_tells_nulls_from_empty_texts_and_quotes(tmp_path: Path) -> None:
    values = ["", None, 'a "quoted" one', "two\nlines", "a,b"]
    table = pa.table({"n": list(range(5)), "text": pa.array(values, pa.large_string())})
    files.write_files([table], tmp_path, lambda n: "x.csv", format="csv", compression="none", rows_per_file=None)
    convert = pa.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    found = pa.csv.read_csv(tmp_path / "x.csv", convert_options=convert, parse_options=parse)
    assert found.column("text").to_pylist() == values


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"lists": [[1]], "n": [1]}, "lists"),
        ({"bytes": [b"a"], "n": [1]}, "bytes"),
        ({"alone": [1, None]}, "empty line"),
    ],
)
def test_csv_refuses_what_it_cannot_hold(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        files.write_files(
            [pa.table(table)], tmp_path, lambda n: "x.csv", format="csv", compression="none", rows_per_file=None
        )


def test_equal_rows_make_equal_files(shopping: gr.FeatureStore) -> None:
    for ending in ("parquet", "csv", "csv.gz", "arrow"):
        one, other = (shopping.export("spend", f"{name}/{name}.{ending}") for name in ("a", "b"))
        assert one.sha256 == other.sha256


def test_pushed_rows_are_in_the_latest_and_in_the_pin(project: Path) -> None:
    batch = gr.FileSource("data/spend.parquet", event_time="at")
    with gr.FeatureStore(project, online="memory") as store:
        store.apply(spend_group().with_(source=gr.PushSource("pushed", event_time="at", batch_source=batch)))
        store.materialize()
        store.push("pushed", SPEND.head(1).with_columns(at=pl.lit(at(3)).cast(pl.Datetime("us", "UTC"))))
        done = store.export("spend", "latest.parquet")
        assert done.rows == 6 and done.pins[0].pushed_until is not None
        assert pl.read_parquet(project / "latest.parquet")["at"].is_sorted()
        pinned = store.export("spend@1.0.0", "pinned.parquet")
        assert pinned.rows == 5 and pinned.pins[0].pushed_until is None


def test_feature_rows_and_events_of_a_group_with_aggregations(project: Path) -> None:
    with gr.FeatureStore(project, online="memory") as store:
        store.apply(spend_group(aggregations=[gr.Rolling({"amount": ["sum"]}, windows=["7d"])]))
        store.materialize()
        store.export("spend", "features.parquet")
        store.export("spend", "events.parquet", events=True)
        assert pl.read_parquet(project / "features.parquet").equals(store.read("spend").polars)
        assert pl.read_parquet(project / "events.parquet").equals(store.read("spend", events=True).polars)


def test_rows_without_a_time_of_their_own(shopping: gr.FeatureStore, project: Path) -> None:
    done = shopping.export("shops", "shops.csv")
    assert (project / "shops.csv").read_text() == '"shop_id","country"\n1,"FR"\n2,"NZ"\n'
    assert (done.min_event_time, done.max_event_time) == (None, None)


def test_a_group_without_rows_in_a_range_is_a_file_with_columns(shopping: gr.FeatureStore, project: Path) -> None:
    done = shopping.export("spend", "none.parquet", start=at(20))
    assert done.rows == 0 and pq.read_schema(project / "none.parquet").names == shopping.read("spend").column_names


# folders


@pytest.mark.parametrize("destination", ["exports/spend", "exports/spend/"])
def test_a_folder_holds_parts(shopping: gr.FeatureStore, project: Path, destination: str) -> None:
    done = shopping.export("spend", destination, format="csv")
    assert [file.name for file in done.files] == ["part-00001.csv"]
    assert [entry.name for entry in (project / "exports/spend").iterdir()] == ["part-00001.csv"]


def test_parts_are_cut_where_they_are_full(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grange.verbs.export.create.ROWS_PER_FILE", 2)
    done = shopping.export("spend", "parts")
    assert [(file.name, file.rows) for file in done.files] == [
        ("part-00001.parquet", 2), ("part-00002.parquet", 2), ("part-00003.parquet", 1),
    ]  # fmt: skip
    assert pl.read_parquet(project / "parts/*.parquet").equals(shopping.read("spend").polars)
    assert done.rows == 5
    lines = "".join(
        hashlib.sha256((project / "parts" / file.name).read_bytes()).hexdigest() + "\n" for file in done.files
    )
    assert done.sha256 == hashlib.sha256(lines.encode()).hexdigest()


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(1, 6))
def test_pieces_hold_all_rows_in_order_and_none_is_too_large(sizes: list[int], most: int) -> None:
    numbers = iter(range(1000))
    tables = [pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    pieces = [pa.concat_tables(list(piece)) for piece in files._pieces(iter(tables), most)]
    assert pa.concat_tables(pieces).column("n").to_pylist() == list(range(sum(sizes)))
    assert all(piece.num_rows <= most for piece in pieces)
    assert all(piece.num_rows for piece in pieces[:-1])


def test_a_folder_of_an_export_is_replaced_and_others_are_not(shopping: gr.FeatureStore, project: Path) -> None:
    shopping.export("spend", "out/", format="csv")
    with pytest.raises(RefusedError, match="there already"):
        shopping.export("spend", "out/")
    shopping.export("spend", "out/", overwrite=True)
    assert [entry.name for entry in (project / "out").iterdir()] == ["part-00001.parquet"]
    (project / "out/notes.txt").write_text("mine")
    with pytest.raises(RefusedError, match="no export wrote") as error:
        shopping.export("spend", "out/", overwrite=True)
    assert error.value.found == "notes.txt" and (project / "out/notes.txt").read_text() == "mine"


# views


def test_a_view_is_joined_onto_a_spine(shopping: gr.FeatureStore, project: Path) -> None:
    done = shopping.export("churn", "churn.parquet", spine=SPINE)
    expected = shopping.get_historical_features("churn", SPINE).to_polars()
    assert pl.read_parquet(project / "churn.parquet").equals(expected)
    assert (done.what, done.version, done.rows) == ("view", None, 2)
    assert {(pin.group, pin.version, pin.pushed_until) for pin in done.pins} == {
        ("spend", "1.0.0", None), ("shops", "1.0.0", None),
    }  # fmt: skip
    assert (done.min_event_time, done.max_event_time) == (at(6), at(20))


def test_a_view_without_a_spine_takes_a_range(shopping: gr.FeatureStore, project: Path) -> None:
    shopping.apply(gr.FeatureView("own", features=["spend"]))
    done = shopping.export("own", "own.csv", start=at(5), columns=["user_id", "visits"])
    assert (project / "own.csv").read_text().splitlines()[0] == '"user_id","visits"'
    assert done.rows == 4 and done.columns == ("user_id", "visits")


def test_a_view_that_learns_is_prepared_by_a_training_dataset(shopping: gr.FeatureStore, project: Path) -> None:
    scaled = gr.FeatureView("scaled", features=["spend:visits"], transformations=[gr.standard_scaler("visits")])
    shopping.apply(scaled)
    spine = [{"user_id": "u1", "event_time": at(day)} for day in (2, 6, 10)]
    shopping.create_training_dataset("scaled", spine)
    done = shopping.export("scaled", "scaled.parquet", spine=spine, training_dataset=1)
    assert pl.read_parquet(project / "scaled.parquet")["visits"].mean() == pytest.approx(0.0)
    assert done.version == 1
    shopping.export("scaled", "raw.parquet", spine=spine, transform=False)
    assert pl.read_parquet(project / "raw.parquet")["visits"].to_list() == [1, 2, 3]
    with pytest.raises(RequestError, match="transformations that learn"):
        shopping.export("scaled", "neither.parquet", spine=spine)


def test_lineage_knows_exports(shopping: gr.FeatureStore) -> None:
    shopping.export("spend", "a.parquet")
    shopping.export("churn", "b.parquet", spine=SPINE)
    assert "a.parquet" in shopping.lineage("spend", direction="downstream").to_tree()
    assert "churn" in shopping.lineage("b.parquet", direction="upstream").to_tree()


# what is refused, and leaves no record


@pytest.mark.parametrize(
    ("what", "options", "error", "said"),
    [
        ("spent", {}, NotFoundError, "no feature group or view"),
        ("spend@9.0.0", {}, UnknownVersionError, "no version 9"),
        ("spend", {"columns": ["amuont"]}, UnknownFeatureError, "no column 'amuont'"),
        ("spend", {"columns": []}, RequestError, "one column or more"),
        ("spend", {"columns": ["at", "at"]}, RequestError, "each once"),
        ("spend", {"events": True}, RequestError, "no aggregations"),
        ("spend", {"spine": SPINE}, RequestError, "spine say how a view is joined"),
        ("spend", {"training_dataset": 1}, RequestError, "is a feature group"),
        ("churn", {"version": "1.0.0"}, RequestError, "versions and events are of feature groups"),
        ("churn", {"events": True}, RequestError, "versions and events are of feature groups"),
        ("spend", {"format": "xml"}, RequestError, "no format 'xml'"),
        ("spend", {"format": "csv"}, RequestError, "says parquet"),
        ("spend", {"compression": "zip"}, RequestError, "no compression of parquet 'zip'"),
        ("spend", {"options": {"region": "x"}}, RequestError, "options are for object stores"),
    ],
)
def test_what_cannot_be_exported(
    shopping: gr.FeatureStore, what: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        shopping.export(what, "x.parquet", **options)
    assert shopping.exports() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "printable"), ("a\nb.csv", "printable"), (".", "the project itself"), ("..", "the project itself"),
        ("x/../..", "the project itself"), (".grange/offline/x.parquet", "the project itself"),
        ("x.txt", "cannot tell the format"), ("ftp://host/x.csv", "cannot go to ftp"),
        ("s3:///x.csv", "names no object"),
        ("s3://bucket", "names no object"), ("s3://bucket/a//b.csv", "names no object"),
        ("s3://bucket/../x.csv", "names no object"), ("s3://key:secret@bucket/x.csv", "credentials"),
        ("s3://bucket/x.csv?X-Amz-Signature=abc", "credentials"),
    ],
)  # fmt: skip
def test_places_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as error:
        destination_of(text, project=tmp_path, format=None, compression=None)
    assert "secret" not in str(error.value) and "abc" not in str(error.value)


def test_a_destination_may_lie_outside_of_the_project(shopping: gr.FeatureStore, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    done = shopping.export("spend", elsewhere / "spend.parquet")
    assert done.destination == (elsewhere / "spend.parquet").as_posix() and (elsewhere / "spend.parquet").is_file()


def test_nothing_is_replaced_unless_asked(shopping: gr.FeatureStore, project: Path) -> None:
    (project / "mine.parquet").write_text("mine")
    with pytest.raises(RefusedError, match="there already"):
        shopping.export("spend", "mine.parquet")
    assert (project / "mine.parquet").read_text() == "mine" and shopping.exports() == ()
    shopping.export("spend", "mine.parquet", overwrite=True)
    assert len(pl.read_parquet(project / "mine.parquet")) == 5


# what fails, and leaves one


def appear_meanwhile(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let somebody else write a file while an export runs."""
    own = files.write_files

    def write(*arguments: Any, **options: Any) -> Any:
        path.write_text("theirs")
        return own(*arguments, **options)

    monkeypatch.setattr("grange.verbs.export.create.write_files", write)


def test_a_file_that_appears_meanwhile_stays(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appear_meanwhile(monkeypatch, project / "x.parquet")
    with pytest.raises(ConflictError, match="somebody else wrote"):
        shopping.export("spend", "x.parquet")
    assert (project / "x.parquet").read_text() == "theirs" and leftovers(project) == []
    (failed,) = shopping.exports(status="failed")
    assert failed.error is not None and failed.error["type"] == "ConflictError" and failed.rows is None


def test_a_failure_leaves_the_old_file_and_says_why(shopping: gr.FeatureStore, project: Path) -> None:
    shopping.export("churn", "x.parquet", spine=SPINE)
    before = (project / "x.parquet").read_bytes()
    with pytest.raises(UnknownFeatureError):
        shopping.export("churn", "x.parquet", spine=SPINE, columns=["nothing"], overwrite=True)
    assert (project / "x.parquet").read_bytes() == before and leftovers(project) == []
    failed = shopping.export_info("export-000002")
    assert failed.status == "failed" and failed.ended_at is not None
    assert failed.error is not None and "no column 'nothing'" in failed.error["message"]


@pytest.mark.parametrize(("number", "error"), [(28, StorageFullError), (13, StoreUnavailableError)])
def test_a_disk_that_is_full_or_closed(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def write(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("grange.verbs.export.create.write_files", write)
    with pytest.raises(error, match=r"x\.parquet"):
        shopping.export("spend", "x.parquet")
    assert leftovers(project) == [] and shopping.exports()[0].status == "failed"


def test_ctrl_c_is_an_interruption(shopping: gr.FeatureStore, project: Path) -> None:
    def stop(step: Any) -> None:
        if step.stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shopping.export("spend", "x.parquet", progress=stop)
    assert shopping.exports()[0].status == "interrupted" and leftovers(project) == []


KILLED = """
import os, signal, sys
import grange as gr
def die(step):
    if step.stage == "write":
        os.kill(os.getpid(), signal.SIGKILL)
with gr.FeatureStore(sys.argv[1]) as store:
    store.export("spend", sys.argv[2], progress=die)
"""


@pytest.mark.parametrize("destination", ["x.parquet", "folder/"])
def test_a_killed_process_is_an_interruption_whose_leftovers_the_next_one_clears(
    shopping: gr.FeatureStore, project: Path, destination: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(project), destination], check=False, timeout=120)
    assert done.returncode == -9
    (killed,) = shopping.exports()
    assert killed.status == "interrupted" and shopping.exports(status="interrupted") == (killed,)
    assert shopping.exports(status="running") == ()
    assert len(leftovers(project)) == 1 and not (project / destination).exists()
    assert shopping.export("spend", destination).status == "succeeded"
    assert leftovers(project) == []


def test_leftovers_of_one_that_still_runs_stay(shopping: gr.FeatureStore, project: Path) -> None:
    def again(step: Any) -> None:
        if step.stage == "write":
            assert shopping.exports(status="running")[0].id == "export-000001"
            shopping.export("spend", "x.parquet")

    with pytest.raises(ConflictError):
        shopping.export("spend", "x.parquet", progress=again)
    assert {item.id: item.status for item in shopping.exports()} == {
        "export-000001": "failed", "export-000002": "succeeded",
    }  # fmt: skip
    assert leftovers(project) == []


def test_a_replaced_folder_that_was_cut_off_comes_back(shopping: gr.FeatureStore, project: Path) -> None:
    shopping.export("spend", "out/", format="csv")
    (project / "out").rename(project / ".out.export-000099.tmp.old")
    with pytest.raises(RefusedError, match="there already"):
        place = places.LocalPlace(
            destination_of("out/", project=project, format=None, compression=None), project / "out", lambda id: False
        )
        with place.staging("export-000100"):
            place.check(overwrite=False)
    assert (project / "out/part-00001.csv").is_file()


def test_a_process_is_known_by_more_than_its_number() -> None:
    mine = Process.current()
    assert not mine.is_gone
    if mine.started:
        assert Process(mine.host, mine.pid, "1").is_gone  # another one had this number before
    assert not Process("elsewhere", 1 << 30, "").is_gone  # nothing is known of it


# listing


def test_exports_are_listed_newest_first(shopping: gr.FeatureStore) -> None:
    for number in range(3):
        shopping.export("spend", f"{number}.parquet")
    shopping.export("shops", "shops.parquet")
    assert [item.id for item in shopping.exports()] == [f"export-00000{number}" for number in (4, 3, 2, 1)]
    assert [item.destination for item in shopping.exports("spend", limit=2)] == ["2.parquet", "1.parquet"]
    assert shopping.exports("spend", status="failed") == ()
    with pytest.raises(RequestError, match="no status 'done'"):
        shopping.exports(status="done")
    with pytest.raises(NotFoundError, match="no export 'export-9'"):
        shopping.export_info("export-9")


def test_large_groups_are_written_in_batches(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int | None] = []
    own = batches.StoredRows.batches
    monkeypatch.setattr(batches.StoredRows, "batches", lambda *args, **options: own(*args, **options, size=2))
    shopping.export("spend", "x.parquet", progress=lambda step: sizes.append(step.rows))
    assert sizes == [None, 1, 3, 5, 5]  # rows of one time stay together
    assert pl.read_parquet(project / "x.parquet").equals(shopping.read("spend").polars)
    assert pq.read_metadata(project / "x.parquet").num_row_groups == 3


# object stores


def test_object_stores_get_whole_objects(shopping: gr.FeatureStore, s3: s3_server.S3Server) -> None:
    import obstore

    done = shopping.export("spend", "s3://lake/a/spend.parquet", options=s3.options)
    content = bytes(obstore.get(s3.client(), "a/spend.parquet").bytes())
    assert pl.read_parquet(io.BytesIO(content)).equals(shopping.read("spend").polars)
    assert done.sha256 == hashlib.sha256(content).hexdigest() and done.destination == "s3://lake/a/spend.parquet"
    with pytest.raises(RefusedError, match="there already"):
        shopping.export("spend", "s3://lake/a/spend.parquet", options=s3.options)
    assert shopping.export("shops", "s3://lake/a/spend.parquet", options=s3.options, overwrite=True).rows == 2


def test_folders_in_an_object_store(
    shopping: gr.FeatureStore, s3: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    with monkeypatch.context() as patch:
        patch.setattr("grange.verbs.export.create.ROWS_PER_FILE", 2)
        shopping.export("spend", "s3://lake/parts/", options=s3.options)
    with pytest.raises(RefusedError, match="there already"):
        shopping.export("spend", "s3://lake/parts", options=s3.options)
    obstore.put(s3.client(), "parts/notes.txt", b"mine")
    shopping.export("spend", "s3://lake/parts", options=s3.options, overwrite=True)
    names = [item["path"] for batch in obstore.list(s3.client(), "parts") for item in batch]
    assert sorted(names) == ["parts/notes.txt", "parts/part-00001.parquet"]


def test_large_objects_are_put_in_parts(
    shopping: gr.FeatureStore, s3: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    monkeypatch.setattr(places, "_WHOLE", 100)
    done = shopping.export("spend", "s3://lake/large.parquet", options=s3.options)
    content = bytes(obstore.get(s3.client(), "large.parquet").bytes())
    assert done.sha256 == hashlib.sha256(content).hexdigest()


def test_an_object_that_appears_meanwhile_stays(
    shopping: gr.FeatureStore, s3: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    own = files.write_files

    def write(*arguments: Any, **options: Any) -> Any:
        obstore.put(s3.client(), "raced.parquet", b"theirs")
        return own(*arguments, **options)

    monkeypatch.setattr("grange.verbs.export.create.write_files", write)
    with pytest.raises(ConflictError, match="somebody else wrote"):
        shopping.export("spend", "s3://lake/raced.parquet", options=s3.options)
    assert bytes(obstore.get(s3.client(), "raced.parquet").bytes()) == b"theirs"


def test_credentials_come_from_the_environment_too(
    shopping: gr.FeatureStore, s3: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"endpoint": "AWS_ENDPOINT_URL", "access_key_id": "AWS_ACCESS_KEY_ID",
             "secret_access_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}  # fmt: skip
    for name, value in s3.options.items():
        monkeypatch.setenv(names[name], value)
    assert shopping.export("spend", "s3://lake/environment.csv").status == "succeeded"


def test_secrets_are_in_no_record_and_no_message(
    shopping: gr.FeatureStore, s3: s3_server.S3Server, project: Path
) -> None:
    secret = "wrong-secret-of-mine"
    with pytest.raises(RefusedError, match="does not let these credentials") as refused:
        shopping.export("spend", "s3://lake/x.parquet", options=s3.options | {"secret_access_key": secret})
    with pytest.raises(RequestError, match="cannot be opened with these options") as wrong:
        shopping.export("spend", "s3://lake/x.parquet", options=s3.options | {"nonsense": secret})
    shopping.export("spend", "s3://lake/kept.parquet", options=s3.options)
    for error in (refused.value, wrong.value):
        told = json.dumps(error.to_dict()) + str(error)
        assert secret not in told and s3_server.ACCESS_KEY not in told
    records = json.dumps([item.to_dict() for item in shopping.exports()])
    assert s3_server.SECRET_KEY not in records and s3_server.ACCESS_KEY not in records
    assert s3_server.SECRET_KEY.encode() not in b"".join(path.read_bytes() for path in project.rglob("registry*"))


def test_an_object_store_that_is_away_is_an_outage(shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="pip install 'grange[objectstores]'")
    monkeypatch.setattr(places, "_RETRIES", {"max_retries": 0, "retry_timeout": dt.timedelta(seconds=5)})
    options = {"endpoint": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "b", "region": "r"}
    with pytest.raises(StoreUnavailableError, match="cannot be used"):
        shopping.export("spend", "s3://lake/x.parquet", options=options)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hush@host/x", "GET /x?X-Amz-Signature=hush&a=b", "<AWSAccessKeyId>hush</AWSAccessKeyId>",
        'config secret_access_key="hush"', "token: hush", "sig=hush",
    ],
)  # fmt: skip
def test_what_looks_like_a_credential_is_not_shown(text: str) -> None:
    assert "hush" not in redacted(text)
    assert "hush!" not in redacted("somewhere hush! is", ["hush!"])


def test_options_that_are_no_secret_may_be_shown() -> None:
    assert secrets_of({"region": "eu", "endpoint": "http://host", "account": "x", "token": "y"}) == ("x", "y")
