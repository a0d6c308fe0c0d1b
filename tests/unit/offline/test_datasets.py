"""Training datasets in files: a crash or a full disk at any step leaves the old ones readable, half ones invisible."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import ConflictError, StorageFullError, StoreUnavailableError, UnsupportedError
from grange.frames import Rows
from grange.offline.parquet import datasets_formats
from grange.offline.parquet.backend import ParquetStore
from grange.offline.parquet.datasets import FileDatasets
from grange.testing.datasets import NOW, draft, publish, rows
from grange.testing.equality import assert_rows_equal
from grange.types import Schema
from grange.types.arrow import arrow_schema

CALLS = ["fsync", "rename", "replace", "mkdir", "unlink", "rmdir"]
"""Every call by which the store changes what another process can see."""

KILLED = """
    import os, signal, sys

    def killing(name):
        real = getattr(os, name)

        def call(*args, **options):
            if int(sys.argv[2]) == len(made):
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(name)
            return real(*args, **options)

        return call

    from pathlib import Path
    from grange.offline.parquet.datasets import FileDatasets
    from grange.testing.datasets import draft, publish

    made, store = [], FileDatasets(Path(sys.argv[1]))
    for name in {calls!r}:
        setattr(os, name, killing(name))
    {act}
"""


def opened(root: Path) -> FileDatasets:
    """The store, as a new process has it."""
    return FileDatasets(root)


def python(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a Python process that runs a program."""
    command = [sys.executable, "-c", textwrap.dedent(program), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def killed_at_each_step(root: Path, act: str) -> Iterator[tuple[Path, FileDatasets]]:
    """A store with `churn#1` whose process was killed before each call of an action, until it ends by itself."""
    publish(opened(root / "prepared"))
    for step in range(100):
        folder = root / f"step{step}"
        shutil.copytree(root / "prepared", folder)
        done = python(KILLED.format(calls=CALLS, act=act), str(folder), str(step))
        if done.returncode == 0:
            assert step > 5, "the action is watched"
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield folder, opened(folder)
    raise AssertionError("it never ends")


def amounts(store: FileDatasets, version: int) -> list[Any]:
    """The values of a training dataset."""
    return list(store.read("churn", version).arrow.column("amount").to_pylist())


def cleaned(store: FileDatasets) -> None:
    """Verify names what is left, clears it when asked, and then finds nothing."""
    found = store.verify()
    assert all(not finding.removed and "did not end" in finding.problem for finding in found)
    cleared = store.verify(repair=True)
    assert [finding.path for finding in cleared] == [finding.path for finding in found]
    assert all(finding.removed for finding in cleared)
    assert store.verify() == ()


def test_a_process_killed_at_any_step_of_publish(tmp_path: Path) -> None:
    """The new one is there as a whole or not at all; the old one is as it was; publishing again gets there."""
    seen = set()
    for _, store in killed_at_each_step(tmp_path, "publish(store, draft(2))"):
        seen.add(store.versions("churn"))
        for version in store.versions("churn"):
            assert amounts(store, version) == [1.0, 2.0, 3.0, 4.0]
        cleaned(store)
        if store.versions("churn") == (1,):
            publish(store, draft(2))
        else:
            with pytest.raises(ConflictError):
                publish(store, draft(2))
        assert (store.versions("churn"), store.verify()) == ((1, 2), ())
    assert seen == {(1,), (1, 2)}


def test_a_process_killed_at_any_step_of_delete(tmp_path: Path) -> None:
    """It is there as a whole, or gone; what is left of its files is cleared, and its number is free."""
    seen = set()
    for _, store in killed_at_each_step(tmp_path, "store.delete('churn', 1)"):
        seen.add(store.versions("churn"))
        if store.versions("churn"):
            assert amounts(store, 1) == [1.0, 2.0, 3.0, 4.0]
            store.delete("churn", 1)
        cleaned(store)
        publish(store)
        assert (amounts(store, 1), store.verify()) == ([1.0, 2.0, 3.0, 4.0], ())
    assert seen == {(1,), ()}


def test_a_process_killed_in_the_middle_of_a_file(tmp_path: Path) -> None:
    """Half a file is in no training dataset; the lock that its process held is free."""
    publish(opened(tmp_path))
    program = """
        import os, signal, sys
        from pathlib import Path
        from grange.offline.parquet import tables
        from grange.offline.parquet.datasets import FileDatasets
        from grange.testing.datasets import draft, publish

        real = tables.write_parquet

        def half(file, *args, **options):
            real(file, *args, **options)
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        tables.write_parquet = half
        publish(FileDatasets(Path(sys.argv[1])), draft(2))
    """
    assert python(program, str(tmp_path)).returncode == -signal.SIGKILL
    store = opened(tmp_path)
    assert (store.versions("churn"), len(store.verify())) == ((1,), 1)
    cleaned(store)
    publish(store, draft(2))


@contextmanager
def failing(at: int, error: Callable[[], OSError]) -> Iterator[list[str]]:
    """Let the call number `at` of those in `CALLS` raise. Gives those made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def instead(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) - 1 == at:
                raise error()
            return real[name](*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, instead(name))
        yield made


def full() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_space_at_any_step_of_publish(tmp_path: Path) -> None:
    """An error that says so and may be retried; nothing changed, and nothing is left that `verify` does not clear."""
    step, steps = 0, 1
    while step < steps:
        store = opened(tmp_path / f"step{step}")
        publish(store)
        with failing(step, full) as made:
            try:
                publish(store, draft(2))
            except StorageFullError as error:
                assert error.retry
                assert store.versions("churn") == (1,)
        steps = max(steps, len(made))
        cleaned(store)
        if store.versions("churn") == (1,):
            publish(store, draft(2))
        assert amounts(store, 2) == [1.0, 2.0, 3.0, 4.0]
        step += 1
    assert steps > 5, "the action is watched"


def test_another_error_of_the_disk_is_an_outage(tmp_path: Path) -> None:
    """Not a full disk, not a missing training dataset."""
    store = opened(tmp_path)
    publish(store)
    with failing(2, lambda: OSError(errno.EIO, "Input/output error")), pytest.raises(StoreUnavailableError):
        publish(store, draft(2))
    assert (store.versions("churn"), store.verify()) == ((1,), ())


def test_verify_leaves_alone_what_is_being_written(tmp_path: Path) -> None:
    """While another process holds the lock, what is unfinished is no leftover."""
    store, other = opened(tmp_path), opened(tmp_path)
    publish(store)
    unfinished = tmp_path / "_training_datasets" / "churn" / ".building-0"
    unfinished.mkdir()
    with other.lock("churn", timeout=1):
        assert store.verify(repair=True) == ()
    assert unfinished.is_dir()
    cleaned(store)
    assert not unfinished.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"view": "other"}'])
def test_unreadable_metadata_is_named_and_never_removed(tmp_path: Path, text: str) -> None:
    """Such a number is not listed, its number stays taken, and `verify` says what it is; it can be deleted."""
    store = opened(tmp_path)
    publish(store)
    folder = tmp_path / "_training_datasets" / "churn" / "1"
    (folder / ".meta.json").write_text(text)
    assert (store.versions("churn"), store.views()) == ((), ())
    (finding,) = store.verify(repair=True)
    assert (finding.path, finding.removed) == (str(folder), False)
    with pytest.raises(ConflictError):
        publish(store)
    store.delete("churn", 1)
    assert (store.verify(), folder.exists()) == ((), False)


def test_metadata_moved_elsewhere_is_not_believed(tmp_path: Path) -> None:
    """A copied folder is not another training dataset; nor is a file outside its folder one of its files."""
    store = opened(tmp_path)
    publish(store)
    folder = tmp_path / "_training_datasets" / "churn"
    shutil.copytree(folder / "1", folder / "2")
    assert store.versions("churn") == (1,)
    meta = folder / "1" / ".meta.json"
    meta.write_text(meta.read_text().replace('"train.parquet"', '"../2/train.parquet"'))
    assert all("outside" in finding.problem or "it is of" in finding.problem for finding in store.verify())
    assert len(store.verify()) == 2


def test_verify_compares_rows_and_not_bytes_alone(tmp_path: Path) -> None:
    """Rows that someone rewrote together with the hash of the file are found by the hash of the rows."""
    store = opened(tmp_path)
    written = publish(store)
    (path,) = store.files("churn", 1, "test")
    pq.write_table(rows(5.0), path)
    meta = Path(path).parent / ".meta.json"
    file = written.part("test").files[0]
    digest = datasets_digest(Path(path))
    meta.write_text(meta.read_text().replace(file.sha256, digest))
    (finding,) = opened(tmp_path).verify()
    assert "part 'test' has other values than were published" in finding.problem


def datasets_digest(path: Path) -> str:
    """SHA-256 of a file."""
    from grange.offline.parquet import disk

    return disk.sha256(path)


def test_training_datasets_are_no_feature_groups(tmp_path: Path) -> None:
    """They lie in the offline store's folder, and it does not take them for groups."""
    store = ParquetStore(tmp_path)
    publish(opened(tmp_path))
    assert (store.verify(), store.manifest()) == ((), {})


def test_csv_is_plain_text(tmp_path: Path) -> None:
    """As any tool reads it: a header, ISO times, quoted text, nothing for null."""
    store = opened(tmp_path)
    publish(store, draft(format="csv"))
    assert Path(store.files("churn", 1, "train")[0]).read_text().splitlines() == [
        '"user_id","event_time","amount","churned"',
        '"u0",2026-03-01 00:00:00.000000Z,1,true',
        '"u1",2026-03-02 00:00:00.000000Z,2,',
        '"u2",2026-03-03 00:00:00.000000Z,3,true',
    ]


def test_a_row_of_csv_has_a_limit(tmp_path: Path) -> None:
    """One that could not be parsed back is refused before anything is written; just below it is fine."""
    store, schema = opened(tmp_path), Schema.of({"x": "string"})
    limit = datasets_formats._BLOCK // 2 - 32
    for number, length in ((1, limit), (2, limit + 1)):
        table = pa.table({"x": ['"' * length, "a"]}, schema=arrow_schema(schema))
        given = draft(number, schema=schema, format="csv")
        if length > limit:
            with pytest.raises(UnsupportedError, match="2 MiB"):
                publish(store, given, {"all": table})
        else:
            publish(store, given, {"all": table})
            assert_rows_equal(store.read("churn", number).arrow, table)
            assert sum(batch.num_rows for batch in store.batches("churn", number)) == 2


@given(texts=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8))
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str | None]) -> None:
    """Whatever it holds: quotes, commas, ends of lines, zeros."""
    schema = Schema.of({"x": "string", "y": "string"})
    table = pa.table({"x": texts, "y": texts[::-1]}, schema=arrow_schema(schema))
    store = opened(tmp_path_factory.mktemp("csv"))
    publish(store, draft(schema=schema, format="csv"), {"all": table})
    assert_rows_equal(store.read("churn", 1).arrow, table)


def test_rows_of_polars_are_as_good(tmp_path: Path) -> None:
    """What comes as a Polars frame has the same bytes."""
    import polars as pl

    store = opened(tmp_path)
    one = publish(store, draft(1), {"all": rows(1.0, None)})
    frame = pl.from_arrow(rows(1.0, None))
    assert isinstance(frame, pl.DataFrame)
    two = store.publish(draft(2), {"all": Rows(polars=frame)}, now=NOW)
    assert one.parts == two.parts
