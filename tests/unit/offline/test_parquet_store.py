"""What the `parquet` store keeps on disk, what it makes of damage, and who may write."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grange.errors import ConfigError, ConflictError, CorruptStoreError, DataError, RequestError, StoreUnavailableError
from grange.frames import Rows
from grange.offline.parquet.backend import ParquetStore
from grange.offline.parquet.layout import Layout
from grange.plan.nodes import Concat, Scan
from grange.ports.offline import PUSHED_FROM, VersionMeta
from grange.ports.plugins import create
from grange.testing import assert_rows_equal
from grange.testing.offline import (
    DAY,
    NOW,
    SCHEMA,
    SPENT,
    append,
    draft,
    feature_history,
    history,
    numbered,
    publish,
    publish_windowed,
    run,
    run_features,
    windowed,
)
from grange.types.names import SEQUENCE
from grange.types.time import ALWAYS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store's folder."""
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ParquetStore:
    """An empty store."""
    return ParquetStore(root)


def tree(root: Path) -> set[str]:
    """Every file under the root but locks."""
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name for name in files if not name.endswith((".lock", ".owner"))}


# on disk


def test_the_layout(store: ParquetStore, root: Path) -> None:
    """The files of the design, by their names; metadata with the seed's fields."""
    publish(store, draft(), numbered(history(1.0)))
    append(store, draft(), history(2.0, 3.0))
    place = Path(store.quarantine("spend", Rows.of({"a": [1]}), now=NOW))
    assert place.parent == root / "spend/_quarantine"
    assert place.name.startswith("20260301T000000.000000Z-")
    (pushed,) = (root / "spend/_pushed").iterdir()
    digest = sha256(pushed.read_bytes()).hexdigest()[:16]
    segment = f"spend/_pushed/{PUSHED_FROM:019d}-{PUSHED_FROM + 1:019d}-{digest}.parquet"
    assert tree(root) == {
        "spend/1.0.0/data.parquet", "spend/1.0.0/.meta.json", "spend/_latest.json", "spend/_reached.json", segment,
        str(place.relative_to(root)), "_metadata/manifest.json",
    }  # fmt: skip
    assert json.loads((root / "spend/_latest.json").read_text()) == {"version": "1.0.0"}
    meta = json.loads((root / "spend/1.0.0/.meta.json").read_text())
    seed = {"name", "version", "content_hash", "schema_hash", "config_hash", "created_at", "updated_at", "row_count",
            "entity_keys", "timestamp", "interval", "columns", "change_summary"}  # fmt: skip
    assert seed <= meta.keys()
    assert meta["change_summary"] == {"bump_type": "initial", "reason": "first_build", "details": []}


def test_the_layout_with_aggregations(store: ParquetStore, root: Path) -> None:
    """Events beside feature rows; a group that loses its aggregations has data alone again."""
    meta = publish_windowed(store, windowed(interval=DAY), 1.0, 2.0)
    assert (meta.files, meta.feature_files) == (("events.parquet",), ("data.parquet",))
    publish(store, draft(), numbered(history(1.0, 2.0)))
    assert tree(root) == {
        "spend/1.0.0/data.parquet", "spend/1.0.0/events.parquet", "spend/1.0.0/.meta.json", "spend/_latest.json",
        "spend/2.0.0/data.parquet", "spend/2.0.0/.meta.json", "_metadata/manifest.json",
    }  # fmt: skip
    data, events = (root / "spend/1.0.0" / name for name in ("data.parquet", "events.parquet"))
    assert pq.ParquetFile(data).schema_arrow.names == list(meta.feature_schema.names)
    assert pq.ParquetFile(events).schema_arrow.names == [*SCHEMA.names, SEQUENCE]
    assert meta.size_bytes == data.stat().st_size + events.stat().st_size
    stored = json.loads((root / "spend/1.0.0/.meta.json").read_text())
    assert set(stored["file_hashes"]) == {"data.parquet", "events.parquet"}
    assert stored["interval"] == "1d"


def test_events_and_feature_rows_are_cut_apart(root: Path) -> None:
    """Each has a file per month when it is large itself."""
    store = ParquetStore(root, partition_rows=40)
    meta = windowed(SPENT)
    months = ("2026-01", "2026-02")
    for events, features in ((50, 3), (3, 50), (50, 60)):
        rows, made = numbered(history(*range(events))), feature_history(meta, *range(features))
        stored = publish(store, meta, rows, feature_rows=Rows(arrow=made))
        for name, count, files in (("events", events, stored.files), ("data", features, stored.feature_files)):
            cut = [f"{name}/month={month}/part-0.parquet" for month in (*months, "2026-03")][: 2 if count == 50 else 3]
            assert files == (tuple(cut) if count > 40 else (f"{name}.parquet",))
        snapshot = store.snapshot("spend")
        for engine in ("reference", "polars", "duckdb"):
            assert_rows_equal(run(create("engines", engine, {}), snapshot.rows), rows)
            assert_rows_equal(run_features(create("engines", engine, {}), snapshot), made)
    assert store.verify() == ()


def test_versions_of_before_are_read_and_repeated(store: ParquetStore, root: Path) -> None:
    """Metadata and pushed rows without what came with aggregations; the same build makes no new version."""
    meta = publish(store, draft(), numbered(history(1.0)))
    path = root / "spend/1.0.0/.meta.json"
    stored = json.loads(path.read_text())
    added = ("event_columns", "aggregates", "event_id", "retracted", "feature_rows", "feature_files", "fill_gaps",
             "code", "parents")  # fmt: skip
    path.write_text(json.dumps({key: value for key, value in stored.items() if key not in added}))
    assert store.meta("spend") == meta
    assert (store.snapshot("spend").features, store.verify()) == (None, ())
    assert publish(store, draft(), numbered(history(1.0))) == meta
    assert publish_windowed(store, windowed(), 1.0).version == "2.0.0"


def test_data_files_are_for_any_reader(store: ParquetStore, root: Path) -> None:
    """The group's columns and the sequence, in row groups with statistics."""
    table = numbered(history(1.0).take([0] * 200_000))
    publish(store, draft(), table)
    file = pq.ParquetFile(root / "spend/1.0.0/data.parquet")
    assert file.schema_arrow.names == [*SCHEMA.names, SEQUENCE]
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [131_072, 200_000 - 131_072]
    statistics = file.metadata.row_group(1).column(SCHEMA.names.index("event_time")).statistics
    assert statistics.has_min_max


def test_large_versions_have_a_file_per_month(root: Path) -> None:
    """Above the threshold; the months are slices in order; rows that are always true lie in 0001-01."""
    store = ParquetStore(root, partition_rows=4)
    table = history(*range(40))
    moments = [None, ALWAYS, *table.column("event_time").to_pylist()[2:]]
    table = numbered(table.set_column(1, "event_time", pa.array(moments, table.schema.field("event_time").type)))
    meta = publish(store, draft(), table)
    assert meta.files == tuple(f"data/month={month}/part-0.parquet" for month in ("0001-01", "2026-01", "2026-02"))
    scan = store.snapshot("spend").rows
    assert isinstance(scan, Scan)
    assert (scan.ordered, scan.columns) == (True, (*SCHEMA.names, SEQUENCE))
    for engine in ("reference", "polars", "duckdb"):
        assert_rows_equal(run(create("engines", engine, {}), scan), table)
    assert store.verify() == ()
    whole = ParquetStore(root / "whole")
    assert publish(whole, draft(), table).content_hash == meta.content_hash
    assert publish(store, draft(), numbered(table.slice(1, 4).drop_columns([SEQUENCE]))).files == ("data.parquet",)


def test_equal_snapshots_are_equal_values(store: ParquetStore) -> None:
    """A plan is a value, also where columns had to be aligned."""
    publish(store, draft(), numbered(history(1.0)))
    append(store, draft(SCHEMA.without(["amount"])), history(2.0).drop_columns(["amount"]))
    snapshot = store.snapshot("spend")
    assert isinstance(snapshot.rows, Concat)
    assert snapshot == store.snapshot("spend")


@pytest.mark.parametrize("compression", ["snappy", "zstd", "lz4", "none"])
def test_compression_is_an_option(tmp_path: Path, compression: str) -> None:
    """As the files say it; it does not count as content."""
    store = create("offline_stores", "parquet", {"root": tmp_path, "path": "h", "compression": compression})
    publish(store, draft(), numbered(history(1.0)))
    column = pq.read_metadata(tmp_path / "h/spend/1.0.0/data.parquet").row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())


@pytest.mark.parametrize(
    "options",
    [
        {"check_bytes": -1},
        {"check_bytes": "all"},
        {"compression": "gzip9"},
        {"partition_rows": 0},
        {"partition_rows": "many"},
        {"path": "ftp://b"},
        {"pat": "x"},
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Before anything is made."""
    with pytest.raises(ConfigError):
        create("offline_stores", "parquet", {"root": tmp_path, **options})
    assert list(tmp_path.iterdir()) == []


def test_opening_and_reading_make_nothing(root: Path) -> None:
    """A store that is only looked at leaves no trace."""
    store = ParquetStore(root)
    assert (store.versions("spend"), store.verify("spend"), store.manifest()) == ((), (), {})
    assert not root.exists()


def test_descriptors_are_light() -> None:
    """Listing backends loads no driver."""
    program = (
        "import sys, grange.offline.parquet.descriptor, grange.connectors.files.descriptor\n"
        "print([m for m in ('pyarrow', 'numpy', 'polars', 'filelock', 'duckdb', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# the latest


def test_without_a_pointer_the_highest_is_the_latest(store: ParquetStore, root: Path) -> None:
    """Missing, unreadable, or pointing nowhere; verify says so, and repair writes what readers do already."""
    for amount in (1.0, 2.0):
        publish(store, draft(), numbered(history(amount)))
    pointer = root / "spend/_latest.json"
    for text in (None, "", "[]", "{}", '{"version": "9.9.9"}', '{"version": "../x"}', '{"version": 1}'):
        pointer.unlink() if text is None else pointer.write_text(text)
        assert store.meta("spend").version == store.snapshot("spend").meta.version == "1.0.1"
        (finding,) = store.verify("spend")
        assert (finding.path, finding.removed) == (str(pointer), False)
        assert [found.removed for found in store.verify("spend", repair=True)] == [True]
        assert json.loads(pointer.read_text()) == {"version": "1.0.1"}
        assert store.verify() == ()


def test_a_build_after_a_rollback(store: ParquetStore, root: Path) -> None:
    """VER-1: the bump applies to the highest version; the same rows again bring the highest back."""
    for amount in (1.0, 2.0):
        publish(store, draft(), numbered(history(amount)))
    pointer = root / "spend/_latest.json"
    pointer.write_text('{"version": "1.0.0"}')
    assert store.meta("spend").version == "1.0.0"
    assert publish(store, draft(), numbered(history(1.0))).version == "1.0.0"
    assert publish(store, draft(), numbered(history(3.0))).version == "1.0.2"
    pointer.write_text('{"version": "1.0.0"}')
    assert publish(store, draft(), numbered(history(3.0))).version == "1.0.2"
    assert store.meta("spend").version == store.manifest()["spend"].latest == "1.0.2"
    assert store.versions("spend") == ("1.0.0", "1.0.1", "1.0.2")


def test_a_damaged_latest_is_an_error_not_an_older_answer(store: ParquetStore, root: Path) -> None:
    """Its pointer is right, so the older version would be a silent lie; a new build gets past it."""
    for amount in (1.0, 2.0):
        publish(store, draft(), numbered(history(amount)))
    (root / "spend/1.0.1/.meta.json").write_text("{")
    for ask in (store.meta, store.snapshot):
        with pytest.raises(CorruptStoreError, match=r"1\.0\.1"):
            ask("spend")
        with pytest.raises(CorruptStoreError, match=r"1\.0\.1"):
            ask("spend", "1.0.1")
    assert store.versions("spend") == ("1.0.0",)
    assert store.snapshot("spend", "1.0.0").meta.version == "1.0.0"
    assert publish(store, draft(), numbered(history(2.0))).version == "1.0.2"
    assert store.meta("spend").version == "1.0.2"
    store.delete("spend", "1.0.1")
    assert store.verify() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"}, {"version": "2.0.0"}, {"columns": [{"name": "a", "dtype": "nonsense"}]},
        {"row_count": None, "columns": 3}, {"files": ["../../other/1.0.0/data.parquet"]}, {"files": ["/etc/passwd"]},
        {"files": []}, {"parents": ["clicks"]}, {"parents": 7},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_lies_is_damage(store: ParquetStore, root: Path, change: dict[str, Any]) -> None:
    """Of another version, not metadata at all, or leading out of its folder."""
    publish(store, draft(), numbered(history(1.0)))
    path = root / "spend/1.0.0/.meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptStoreError):
        store.snapshot("spend", "1.0.0")
    assert any("1.0.0" in finding.path for finding in store.verify())


@pytest.mark.parametrize(
    "change",
    [
        {"feature_files": []}, {"feature_files": ["../../other/1.0.0/data.parquet"]},
        {"feature_files": ["/etc/passwd"]}, {"feature_files": ["data.parquet", "events.parquet"]},
        {"aggregates": []}, {"aggregates": [], "interval": None}, {"aggregates": [{}]},
        {"event_columns": None}, {"interval": "1 month"}, {"files": []},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_of_windows_that_lies_is_damage(store: ParquetStore, root: Path, change: dict[str, Any]) -> None:
    """Aggregates and feature files that do not go together, or lead out of the folder."""
    publish_windowed(store, windowed(interval=DAY), 1.0)
    path = root / "spend/1.0.0/.meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptStoreError):
        store.snapshot("spend", "1.0.0")
    assert any("1.0.0" in finding.path for finding in store.verify())


def damage(path: Path) -> None:
    """Change one byte of the first page, which no reader needs to understand the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("version", [None, "1.0.0"])
def test_changed_bytes_are_found_before_an_engine_reads_them(
    store: ParquetStore, root: Path, version: str | None
) -> None:
    """Where the size is as it was; the other versions are untouched."""
    publish(store, draft(), numbered(history(1.0)))
    publish(store, draft(), numbered(history(2.0)))
    store.snapshot("spend")
    damage(root / ("spend/1.0.0/data.parquet" if version else "spend/1.0.1/data.parquet"))
    with pytest.raises(CorruptStoreError, match=version or r"1\.0\.1") as caught:
        store.snapshot("spend", version)
    assert "grange verify spend" in str(caught.value)
    assert store.snapshot("spend", None if version else "1.0.0").meta.row_count == 1


@pytest.mark.parametrize("name", ["events.parquet", "data.parquet"])
def test_changed_bytes_of_either_table_are_found(store: ParquetStore, root: Path, name: str) -> None:
    """Before an engine reads them; the same build again gets past them, with feature rows computed anew."""
    first = publish_windowed(store, windowed(), 1.0)
    damage(root / "spend/1.0.0" / name)
    for version in (None, "1.0.0"):
        with pytest.raises(CorruptStoreError, match=name):
            store.snapshot("spend", version)
    again = publish_windowed(store, windowed(), 1.0)
    assert (again.version, again.content_hash) == ("1.0.1", first.content_hash)
    assert dict(again.change_summary)["reason"] == "damaged_files"
    assert store.snapshot("spend").meta == again
    unchecked = ParquetStore(root, check_bytes=first.size_bytes - 1)
    assert unchecked.snapshot("spend", "1.0.0").meta == first


def test_larger_versions_are_left_to_verify(root: Path) -> None:
    """`check_bytes` is the limit, the version's own size included."""
    size = publish(ParquetStore(root), draft(), numbered(history(1.0))).size_bytes
    damage(root / "spend/1.0.0/data.parquet")
    ParquetStore(root, check_bytes=size - 1).snapshot("spend")
    with pytest.raises(CorruptStoreError, match="damaged"):
        ParquetStore(root, check_bytes=size).snapshot("spend")
    assert any("1.0.0" in finding.path for finding in ParquetStore(root, check_bytes=0).verify())


def test_changed_bytes_of_pushed_rows_are_found(store: ParquetStore, root: Path) -> None:
    """By the hash in their file's name, in a snapshot and in all that was pushed."""
    append(store, draft(), history(*map(float, range(500))))
    (segment,) = (root / "spend/_pushed").iterdir()
    damage(segment)
    for read in (store.snapshot, store.pushed):
        with pytest.raises(CorruptStoreError, match="pushed rows are damaged"):
            read("spend")
    unchecked = ParquetStore(root, check_bytes=0)
    assert unchecked.snapshot("spend").pending == 500
    assert [Path(finding.path).name for finding in unchecked.verify()] == [segment.name]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_every_byte_of_pushed_rows_counts(store: ParquetStore, root: Path, share: float) -> None:
    """They are the only copy: a changed byte of values, of statistics or of the note is found."""
    append(store, draft(), history(*map(float, range(50))))
    (segment,) = (root / "spend/_pushed").iterdir()
    content = bytearray(segment.read_bytes())
    content[int(len(content) * share)] ^= 0x20
    segment.write_bytes(content)
    with pytest.raises(CorruptStoreError):
        store.snapshot("spend")
    assert [Path(finding.path).name for finding in store.verify()] == [segment.name]


def test_pushed_rows_of_older_releases_are_read(store: ParquetStore, root: Path) -> None:
    """Without a hash in the name the checksums of pages are compared."""
    append(store, draft(), history(*map(float, range(500))))
    (segment,) = (root / "spend/_pushed").iterdir()
    old = segment.rename(segment.with_name(f"{PUSHED_FROM:019d}-{PUSHED_FROM + 499:019d}.parquet"))
    assert append(store, draft(), history(2.0)) == PUSHED_FROM + 500
    assert (store.snapshot("spend").pending, store.verify()) == (501, ())
    damage(old)
    with pytest.raises(CorruptStoreError, match="pushed rows are damaged"):
        store.snapshot("spend")


def test_a_push_that_is_gone_is_no_shorter_history(store: ParquetStore, root: Path) -> None:
    """A snapshot of the latest says so, and one of a moment does; an earlier moment can still be read."""
    publish(store, draft(), numbered(history(1.0)))
    for amount in (2.0, 3.0, 4.0):
        append(store, draft(), history(amount))
    segments = sorted((root / "spend/_pushed").iterdir())
    segments[1].unlink()
    for read in (
        lambda: store.snapshot("spend"),
        lambda: store.snapshot("spend", "1.0.0", pushed_until=PUSHED_FROM + 3),
    ):
        with pytest.raises(CorruptStoreError, match=f"{PUSHED_FROM + 1} to {PUSHED_FROM + 1} are not there"):
            read()
    assert store.snapshot("spend", "1.0.0", pushed_until=PUSHED_FROM + 1).pending == 1
    assert store.snapshot("spend", "1.0.0").pending == 0


def test_a_file_in_place_of_the_store_is_an_outage(store: ParquetStore, root: Path) -> None:
    """An empty answer would say that nothing was ever stored."""
    root.write_text("")
    for read in (store.versions, store.meta, store.snapshot, store.pushed, store.next_pushed):
        with pytest.raises(StoreUnavailableError):
            read("spend")
    with pytest.raises(StoreUnavailableError):
        store.meta("spend", "1.0.0")
    with pytest.raises(StoreUnavailableError):
        store.verify()


def test_event_times_no_calendar_has_are_refused(store: ParquetStore) -> None:
    """Before the year 1 and after 9999."""
    table = numbered(history(1.0))
    for micros in (-(2**62), 2**62):
        moments = pa.array([micros], pa.int64()).cast(table.schema.field("event_time").type)
        with pytest.raises(DataError, match="years 1 to 9999"):
            publish(store, draft(), table.set_column(1, "event_time", moments))
    assert store.versions("spend") == ()


def test_versions_are_checked_before_any_path_is_made(root: Path) -> None:
    """A version is never a way out of the store."""
    with pytest.raises(RequestError):
        Layout(root).version("spend", "../../etc")


# verify


def flip(path: Path, column: str) -> None:
    """Change one bit of a column's values."""
    file = pq.ParquetFile(path)
    chunk = file.metadata.row_group(0).column(file.schema_arrow.get_field_index(column))
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(data)


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a data file, with metadata that fits its new size and bytes."""
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    meta, files = path.parent / ".meta.json", sorted(path.parent.glob("*.parquet"))
    fitting = {
        "size_bytes": sum(file.stat().st_size for file in files),
        "file_hashes": {file.name: sha256(file.read_bytes()).hexdigest() for file in files},
    }
    meta.write_text(json.dumps(json.loads(meta.read_text()) | fitting))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data.unlink(), "gone"),
        (lambda data: data.write_bytes(data.read_bytes()[:-9]), "another size"),
        (lambda data: data.write_bytes(b"x" * data.stat().st_size), "cannot be read"),
        (lambda data: flip(data, "amount"), "cannot be read"),
        (lambda data: flip(data, SEQUENCE), "cannot be read"),
        (lambda data: edit(data, lambda t: t.set_column(3, "amount", pa.array([1.0, 2.5]))), "content hash"),
        (lambda data: edit(data, lambda t: t.slice(0, 1)), "1 rows where 2"),
        (lambda data: edit(data, lambda t: t.take([1, 0])), "PIT-3"),
        (lambda data: edit(data, lambda t: t.drop_columns(["amount"])), "columns user_id"),
        (lambda data: edit(data, lambda t: t.set_column(3, "amount", pa.array(["a", "b"]))), "another type"),
        (lambda data: (data.parent / ".meta.json").unlink(), "no such file"),
    ],
)
def test_verify_names_damage_and_never_removes_it(
    store: ParquetStore, root: Path, damage: Callable[[Path], Any], problem: str
) -> None:
    """Hashes, checksums, sizes, columns, order; repair leaves published versions alone."""
    publish(store, draft(), numbered(history(1.0, 2.0)))
    publish(store, draft(name="other"), numbered(history(1.0)))
    damage(root / "spend/1.0.0/data.parquet")
    before = tree(root)
    for repair in (False, True):
        found = [f for f in store.verify(repair=repair) if f.path.startswith(str(root / "spend/1.0.0"))]
        assert any(problem in finding.problem for finding in found)
        assert not any(finding.removed for finding in found)
        assert tree(root) == before
    assert store.verify("other") == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema_hash": "0" * 64}, "schema hash"), ({"content_hash": "0" * 64}, "content hash"),
        ({"max_event_time": "2027-01-01T00:00:00Z"}, "other times"), ({"row_count": 7}, "2 rows where 7"),
        ({"file_hashes": {}}, "bytes are not those"),
    ],
    ids=str,
)  # fmt: skip
def test_verify_holds_metadata_against_the_rows(
    store: ParquetStore, root: Path, change: dict[str, Any], problem: str
) -> None:
    """What a version says of its rows is computed from them again."""
    publish(store, draft(), numbered(history(1.0, 2.0)))
    path = root / "spend/1.0.0/.meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert any(problem in finding.problem for finding in store.verify("spend"))


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("events", lambda data: data.unlink(), "gone"),
        ("data", lambda data: data.unlink(), "gone"),
        ("data", lambda data: data.write_bytes(data.read_bytes()[:-9]), "another size"),
        ("data", lambda data: data.write_bytes(b"x" * data.stat().st_size), "cannot be read"),
        ("events", lambda data: flip(data, "amount"), "cannot be read"),
        ("data", lambda data: flip(data, SPENT.name), "cannot be read"),
        ("events", lambda data: edit(data, lambda t: t.slice(0, 1)), "1 rows where 2"),
        ("events", lambda data: edit(data, lambda t: t.set_column(3, "amount", pa.array([1.0, 9.0]))), "content hash"),
        ("data", lambda data: edit(data, lambda t: t.slice(0, 1)), "1 feature rows where 2"),
        ("data", lambda data: edit(data, lambda t: t.take([1, 0])), "feature row 1 is earlier"),
        ("data", lambda data: edit(data, lambda t: t.drop_columns([SPENT.name])), "feature rows: columns user_id"),
        ("data", lambda data: edit(data, lambda t: t.set_column(2, SPENT.name, pa.array([1, 2]))), "another type"),
    ],
)
def test_verify_names_damage_of_either_table(
    store: ParquetStore, root: Path, name: str, damage: Callable[[Path], Any], problem: str
) -> None:
    """Events as other rows; feature rows by file hash, checksums, columns, count and order."""
    publish_windowed(store, windowed(), 1.0, 2.0)
    assert store.verify() == ()
    damage(root / f"spend/1.0.0/{name}.parquet")
    found = [f for f in store.verify(repair=True) if f.path.startswith(str(root / "spend/1.0.0"))]
    assert any(problem in finding.problem for finding in found)
    assert not any(finding.removed for finding in found)


@pytest.mark.parametrize(
    ("name", "meta"),
    [("data", draft()), ("events", windowed(SPENT)), ("data", windowed(SPENT))],
    ids=["rows", "events", "features"],
)
def test_verify_sees_every_changed_byte(store: ParquetStore, root: Path, name: str, meta: VersionMeta) -> None:
    """Also where no value is: statistics that are wrong would let engines skip rows."""
    publish_windowed(store, meta, 1.0)
    path = root / f"spend/1.0.0/{name}.parquet"
    data = path.read_bytes()
    for at in range(0, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert store.verify("spend")
    path.write_bytes(data)
    assert store.verify() == ()


def test_verify_reads_pushed_and_quarantined_rows(store: ParquetStore, root: Path) -> None:
    """Damage, a number missing, a number twice."""
    for amount in (1.0, 2.0, 3.0):
        append(store, draft(), history(amount))
    bad = Path(store.quarantine("spend", Rows.of({"a": [1]}), now=NOW))
    first, second, third = sorted((root / "spend/_pushed").iterdir())
    bad.write_bytes(b"")
    first.write_bytes(b"junk")
    second.rename(second.with_name(third.name))
    problems = {Path(finding.path).name: finding.problem for finding in store.verify("spend")}
    assert set(problems) == {bad.name, first.name, third.name}
    with pytest.raises(CorruptStoreError):
        store.snapshot("spend")


def test_verify_clears_leftovers_alone(store: ParquetStore, root: Path) -> None:
    """Half-built and half-removed things of every place; a user's own file stays and is nobody's business."""
    publish(store, draft(), numbered(history(1.0)))
    append(store, draft(), history(2.0))
    clean = tree(root)
    for name in ("spend/.building-1/data.parquet", "spend/.deleting-2/x", "spend/.temp-3", "spend/_pushed/.temp-4",
                 "_metadata/.temp-5", f".deleting-gone-{'0' * 32}/1.0.0/data.parquet"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("half")
    (root / "spend/notes.txt").write_text("mine")
    assert len(store.verify()) == 6
    assert all(finding.removed for finding in store.verify(repair=True))
    assert tree(root) == {*clean, "spend/notes.txt"}
    assert store.verify() == ()


def test_what_a_living_writer_builds_is_no_leftover(store: ParquetStore, root: Path) -> None:
    """Verify looks away from the unfinished things of a group that another is writing."""
    publish(store, draft(), numbered(history(1.0)))
    half = root / "spend/.building-1/data.parquet"
    holding, done = threading.Event(), threading.Event()

    def write() -> None:
        with store.lock("spend", timeout=5):
            half.parent.mkdir()
            half.write_text("half")
            holding.set()
            done.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert holding.wait(60)
    try:
        assert store.verify(repair=True) == ()
        assert half.exists()
    finally:
        done.set()
        writer.join()
    assert [finding.removed for finding in store.verify(repair=True)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        None, "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "groups": {"spend": 1}}',
        '{"format": 1, "groups": {"spend": {"latest": "1.0.0"}}}', '{"format": 1, "groups": ["spend"]}',
        '{"format": 1, "groups": {"spend": {"latest": "new", "versions": [], "updated_at": null, "row_count": 1, '
        '"size_bytes": 1, "content_hash": "", "schema_hash": ""}}}',
    ],
)  # fmt: skip
def test_the_manifest_is_made_again_from_the_folders(store: ParquetStore, root: Path, text: str | None) -> None:
    """Missing or unreadable, it says the same again; the next write, or repair, puts it back."""
    publish(store, draft(), numbered(history(1.0)))
    publish(store, draft(name="other"), numbered(history(1.0)))
    path = root / "_metadata/manifest.json"
    before, entries = path.read_text(), store.manifest()
    path.unlink() if text is None else path.write_text(text)
    assert store.manifest() == entries
    assert [finding.path for finding in store.verify()] == [str(path)]
    assert [finding.removed for finding in store.verify(repair=True)] == [True]
    assert path.read_text() == before
    path.write_text(text or "")
    assert store.manifest(regenerate=True) == entries
    assert path.read_text() == before
    path.write_text(text or "")
    publish(store, draft(name="third"), numbered(history(1.0)))
    assert set(store.manifest()) == {"spend", "other", "third"}
    assert store.verify() == ()


# locks


def test_a_lock_may_be_taken_again_by_its_holder(store: ParquetStore) -> None:
    """And is free only when the outermost block ends."""
    refused: list[ConflictError] = []

    def attempt() -> None:
        with pytest.raises(ConflictError) as caught, store.lock("spend", timeout=0):
            pass
        refused.append(caught.value)

    with store.lock("spend", timeout=5):
        with store.lock("spend", timeout=5):
            publish(store, draft(), numbered(history(1.0)))
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert "this process, in another thread" in str(refused[0])
    with store.lock("spend", timeout=0):
        pass


def test_a_conflict_names_the_process(store: ParquetStore, root: Path) -> None:
    """Who holds it and what to do; when that process dies the lock is free."""
    program = (
        "import sys\nfrom grange.offline.parquet.backend import ParquetStore\n"
        "with ParquetStore(sys.argv[1]).lock('spend', timeout=5):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConflictError, match=f"process {other.pid} on ") as caught, store.lock("spend", timeout=0.1):
            pass
        assert caught.value.try_
        other.kill()
    with store.lock("spend", timeout=30):
        publish(store, draft(), numbered(history(1.0)))


def test_deleting_a_group_does_not_free_its_lock(store: ParquetStore) -> None:
    """The lock lies outside the group's folder, so a waiter cannot hold another file of its name."""
    publish(store, draft(), numbered(history(1.0)))
    outcome: list[str] = []

    def attempt() -> None:
        try:
            with store.lock("spend", timeout=0):
                outcome.append("taken")
        except ConflictError:
            outcome.append("refused")

    with store.lock("spend", timeout=5):
        store.delete("spend")
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert outcome == ["refused"]


def test_the_clock_is_an_argument(store: ParquetStore) -> None:
    """TIME-3: times in metadata are those that were handed in, in UTC."""
    zone = dt.timezone(dt.timedelta(hours=2))
    meta = publish(store, draft(), numbered(history(1.0)), now=dt.datetime(2030, 1, 1, 12, tzinfo=zone))
    assert meta.created_at == dt.datetime(2030, 1, 1, 10, tzinfo=dt.UTC)
