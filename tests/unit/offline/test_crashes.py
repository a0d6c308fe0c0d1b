"""A crash or a full disk at any step leaves the old version readable and the half-written one invisible (VER-3)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from grange.errors import StorageFullError, StoreUnavailableError, UnknownVersionError
from grange.frames import Rows
from grange.offline.parquet.backend import ParquetStore
from grange.ports.offline import PUSHED_FROM
from grange.testing.offline import NOW, append, draft, history, numbered, publish, publish_windowed, windowed

CALLS = ["fsync", "rename", "replace", "mkdir", "unlink", "rmdir"]
"""Every call by which the store changes what another process can see."""


class Crash(BaseException):
    """The process is gone; nothing of it runs any more."""


@contextmanager
def failing(at: int, error: Callable[[], BaseException], *, once: bool) -> Iterator[list[str]]:
    """Let the call number `at` of those in `CALLS`, and unless `once` each later one, raise. Gives those made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def instead(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) - 1 == at or (len(made) > at and not once):
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


def amounts(store: ParquetStore, version: str | None = None) -> list[Any]:
    """The stored amounts of a version, read straight from its files."""
    meta = store.meta("spend", version)
    files = store.snapshot("spend", meta.version).rows.files  # type: ignore[union-attr]
    return [value for file in files for value in pq.ParquetFile(file).read().column("amount").to_pylist()]


def sums(store: ParquetStore) -> list[Any]:
    """The stored feature of the latest version, likewise."""
    scan: Any = store.snapshot("spend").features
    return [value for file in scan.files for value in pq.ParquetFile(file).read().column("amount__sum__7d").to_pylist()]


def steps(root: Path, prepare: Callable[[ParquetStore], Any], act: Callable[[ParquetStore], Any]) -> int:
    """How many calls an action makes in a prepared store."""
    store = ParquetStore(root / "counted")
    prepare(store)
    with failing(10**6, Crash, once=False) as made:
        act(store)
    return len(made)


def cases(
    tmp_path: Path, prepare: Callable[[ParquetStore], Any], act: Callable[[ParquetStore], Any]
) -> Iterator[tuple[int, Path, ParquetStore]]:
    """A prepared store per step of an action."""
    count = steps(tmp_path, prepare, act)
    assert count > 3, "the action is watched"
    for step in range(count):
        root = tmp_path / f"step{step}"
        store = ParquetStore(root)
        prepare(store)
        yield step, root, store


def one_version(store: ParquetStore) -> None:
    """1.0.0 with one row."""
    publish(store, draft(), numbered(history(1.0)))


def two_versions(store: ParquetStore) -> None:
    """1.0.0 and 1.0.1."""
    one_version(store)
    publish(store, draft(), numbered(history(2.0)))


def next_one(store: ParquetStore) -> Any:
    """A second version, of several months' files."""
    return store.publish(draft(), Rows(arrow=numbered(history(5.0, 6.0))), now=NOW)


def one_windowed(store: ParquetStore) -> None:
    """1.0.0 with one event and one feature row."""
    publish_windowed(store, windowed(), 1.0)


def next_windowed(store: ParquetStore) -> Any:
    """A second version of events and feature rows."""
    return publish_windowed(store, windowed(), 5.0, 6.0)


def cleaned(store: ParquetStore) -> None:
    """Verify names what is left, clears it when asked, and then finds nothing."""
    found = store.verify()
    assert not any(finding.removed for finding in found)
    cleared = store.verify(repair=True)
    assert all(finding.removed for finding in cleared)
    assert {finding.path for finding in cleared} <= {finding.path for finding in found}
    assert store.verify() == ()


def test_a_crash_at_any_step_of_publish(tmp_path: Path) -> None:
    """Before the pointer is replaced the old version is the latest, then the new one; neither is ever mixed."""
    seen = set()
    for step, root, store in cases(tmp_path, one_version, next_one):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            next_one(store)
        after = ParquetStore(root)
        latest = after.meta("spend").version
        seen.add((latest, after.versions("spend")))
        assert amounts(after) == ([1.0] if latest == "1.0.0" else [5.0, 6.0])
        assert amounts(after, "1.0.0") == [1.0]
        for version in after.versions("spend")[1:]:
            assert amounts(after, version) == [5.0, 6.0], "what is visible is whole"
        cleaned(after)
        again = publish(after, draft(), numbered(history(5.0, 6.0)))
        assert (again.version, amounts(after)) == ("1.0.1", [5.0, 6.0]), "the same build again gets there"
        assert after.versions("spend") == ("1.0.0", "1.0.1")
        assert after.manifest()["spend"].versions == ("1.0.0", "1.0.1")
        assert after.verify() == ()
    before, between, behind = ("1.0.0", ("1.0.0",)), ("1.0.0", ("1.0.0", "1.0.1")), ("1.0.1", ("1.0.0", "1.0.1"))
    assert seen == {before, between, behind}


def test_a_crash_at_any_step_of_the_first_publish(tmp_path: Path) -> None:
    """There is no version, or the first one."""
    for step, root, store in cases(tmp_path, lambda store: None, next_one):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            next_one(store)
        after = ParquetStore(root)
        assert after.versions("spend") in ((), ("1.0.0",))
        if after.versions("spend"):
            assert amounts(after) == [5.0, 6.0]
        else:
            with pytest.raises(UnknownVersionError):
                after.meta("spend")
        cleaned(after)
        assert publish(after, draft(), numbered(history(5.0, 6.0))).version == "1.0.0"
        assert after.verify() == ()


def test_a_crash_at_any_step_of_publishing_events_and_feature_rows(tmp_path: Path) -> None:
    """Events and feature rows appear together: a reader has both of the old version or both of the new one."""
    plain = steps(tmp_path / "plain", one_version, next_one)
    seen = set()
    for step, root, store in cases(tmp_path, one_windowed, next_windowed):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            next_windowed(store)
        after = ParquetStore(root)
        latest = after.meta("spend").version
        seen.add((latest, after.versions("spend")))
        expected = [1.0] if latest == "1.0.0" else [5.0, 6.0]
        assert amounts(after) == sums(after) == expected
        assert amounts(after, "1.0.0") == [1.0]
        cleaned(after)
        assert next_windowed(after).version == "1.0.1", "the same build again gets there"
        assert amounts(after) == sums(after) == [5.0, 6.0]
        assert after.versions("spend") == ("1.0.0", "1.0.1")
        assert after.verify() == ()
    before, between, behind = ("1.0.0", ("1.0.0",)), ("1.0.0", ("1.0.0", "1.0.1")), ("1.0.1", ("1.0.0", "1.0.1"))
    assert seen == {before, between, behind}
    assert step + 1 > plain, "the steps of the second table are among them"


@pytest.mark.parametrize(
    ("prepare", "act"), [(one_version, next_one), (one_windowed, next_windowed)], ids=["rows", "events and features"]
)
def test_no_space_at_any_step_of_publish(
    tmp_path: Path, prepare: Callable[[ParquetStore], Any], act: Callable[[ParquetStore], Any]
) -> None:
    """An error that says so; the old version is the latest, unless the very pointer was replaced already."""
    for step, root, store in cases(tmp_path, prepare, act):
        with failing(step, full, once=True) as made:
            try:
                act(store)
            except StorageFullError as error:
                assert error.retry
                changed = "replace" in made[:step]
            else:
                changed = True
                assert made[step] in ("unlink", "mkdir"), "clearing up, or a folder that was there already"
        after = ParquetStore(root)
        assert after.versions("spend") == (("1.0.0", "1.0.1") if changed else ("1.0.0",))
        assert amounts(after) == ([5.0, 6.0] if changed else [1.0])
        assert act(after).version == "1.0.1"
        after.verify(repair=True)
        assert after.verify() == ()


def set_aside(store: ParquetStore) -> None:
    """Rows of three calls in quarantine."""
    for amount in (1.0, 2.0, 3.0):
        store.quarantine("spend", Rows.of({"amount": [amount]}), now=NOW)


def replaced(store: ParquetStore) -> int:
    """Each of them negative instead, unless it is already."""

    def negative(rows: Rows) -> Rows | None:
        (amount,) = rows.arrow.column("amount").to_pylist()
        return Rows.of({"amount": [-amount]}) if amount > 0 else None

    with store.lock("spend", timeout=5):
        return store.rewrite_quarantine("spend", negative)


@pytest.mark.parametrize("error", [Crash, full], ids=["crash", "full disk"])
def test_quarantined_rows_are_whole_while_they_are_replaced(tmp_path: Path, error: Callable[[], BaseException]) -> None:
    """The old rows of a call or the new ones, never neither; the same again does the rest."""
    for step, root, store in cases(tmp_path, set_aside, replaced):
        # what fails while it is cleared up is no failure of what was done
        with failing(step, error, once=False), suppress(Crash, StorageFullError, StoreUnavailableError):
            replaced(store)
        after = ParquetStore(root)
        kept = [rows.arrow.column("amount").to_pylist()[0] for rows in after.quarantined("spend")]
        assert sorted(map(abs, kept)) == [1.0, 2.0, 3.0], step
        assert replaced(after) == sum(amount > 0 for amount in kept)
        after.verify(repair=True)
        assert after.verify() == () and all(rows.arrow["amount"][0].as_py() < 0 for rows in after.quarantined("spend"))


def test_no_space_while_rows_are_written(tmp_path: Path) -> None:
    """A real limit on the size of files, in the middle of a data file: nothing changed, nothing is left."""
    program = """
        import resource, sys
        import pyarrow as pa
        from grange.errors import StorageFullError
        from grange.frames import Rows
        from grange.offline.parquet.backend import ParquetStore
        from grange.testing.offline import NOW, append, draft, history, numbered, publish

        store = ParquetStore(sys.argv[1])
        publish(store, draft(), numbered(history(1.0)))
        table = history(*map(float, range(5000)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for write in (lambda: publish(store, draft(), numbered(table)), lambda: append(store, draft(), table),
                      lambda: store.quarantine("spend", Rows(arrow=table), now=NOW)):
            try:
                write()
            except StorageFullError:
                continue
            sys.exit("it fitted")
        sys.exit(0 if store.verify() == () else str(store.verify()))
    """
    done = python(program, str(tmp_path))
    assert done.returncode == 0, done.stderr
    store = ParquetStore(tmp_path)
    assert (store.versions("spend"), store.snapshot("spend").pending, amounts(store)) == (("1.0.0",), 0, [1.0])


def test_a_killed_process_leaves_the_old_version(tmp_path: Path) -> None:
    """SIGKILL in the middle of a data file, while the lock is held: the lock is free, the half version invisible."""
    store = ParquetStore(tmp_path)
    one_version(store)
    program = """
        import os, signal, sys
        from grange.offline.parquet import tables
        from grange.offline.parquet.backend import ParquetStore
        from grange.testing.offline import draft, history, numbered, publish

        real = tables.write_parquet

        def half(file, *args, **options):
            real(file, *args, **options)
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        tables.write_parquet = half
        publish(ParquetStore(sys.argv[1]), draft(), numbered(history(5.0, 6.0)))
    """
    assert python(program, str(tmp_path)).returncode == -signal.SIGKILL
    assert (store.versions("spend"), amounts(store)) == (("1.0.0",), [1.0])
    (left,) = store.verify()
    assert ".building-" in left.path
    cleaned(store)
    assert publish(store, draft(), numbered(history(5.0, 6.0))).version == "1.0.1"


def test_a_process_killed_in_its_feature_rows_leaves_the_old_version(tmp_path: Path) -> None:
    """SIGKILL while they are computed, and in the middle of their file, when the events are written already."""
    store = ParquetStore(tmp_path)
    one_windowed(store)
    program = """
        import os, signal, sys
        from grange.frames import Rows
        from grange.offline.parquet import tables
        from grange.offline.parquet.backend import ParquetStore
        from grange.testing.offline import feature_history, history, numbered, publish, windowed

        real = tables.write_parquet

        def compute():
            if sys.argv[2] == "computing":
                os.kill(os.getpid(), signal.SIGKILL)
            return Rows(arrow=feature_history(windowed(), 5.0, 6.0))

        def half(file, *args, **options):
            real(file, *args, **options)
            if file.name.endswith("data.parquet"):
                file.truncate(file.tell() // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        tables.write_parquet = half
        publish(ParquetStore(sys.argv[1]), windowed(), numbered(history(5.0, 6.0)), feature_rows=compute)
    """
    for when, leftovers in (("computing", 0), ("writing", 1)):
        assert python(program, str(tmp_path), when).returncode == -signal.SIGKILL
        assert (store.versions("spend"), amounts(store), sums(store)) == (("1.0.0",), [1.0], [1.0])
        assert len(store.verify()) == leftovers
        cleaned(store)
    assert next_windowed(store).version == "1.0.1"


def test_no_space_while_feature_rows_are_written(tmp_path: Path) -> None:
    """A real limit on the size of files: the events fit, the feature rows do not; nothing changed, nothing is left."""
    program = """
        import resource, sys
        from grange.errors import StorageFullError
        from grange.frames import Rows
        from grange.offline.parquet.backend import ParquetStore
        from grange.testing.offline import feature_history, history, numbered, publish, publish_windowed, windowed

        store = ParquetStore(sys.argv[1])
        publish_windowed(store, windowed(), 1.0)
        features = feature_history(windowed(), *map(float, range(5000)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            publish(store, windowed(), numbered(history(2.0)), feature_rows=Rows(arrow=features))
        except StorageFullError:
            sys.exit(0 if store.verify() == () else str(store.verify()))
        sys.exit("it fitted")
    """
    done = python(program, str(tmp_path))
    assert done.returncode == 0, done.stderr
    store = ParquetStore(tmp_path)
    assert (store.versions("spend"), amounts(store), sums(store)) == (("1.0.0",), [1.0], [1.0])


def test_a_crash_at_any_step_of_append(tmp_path: Path) -> None:
    """The pushed rows are there as a whole or not at all, and no number is given twice."""
    outcomes = set()

    def push(store: ParquetStore) -> int:
        return store.append(draft(), Rows(arrow=history(3.0, 4.0)))

    for step, root, store in cases(tmp_path, one_version, push):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            push(store)
        after = ParquetStore(root)
        pending = after.snapshot("spend").pending
        outcomes.add(pending)
        cleaned(after)
        assert append(after, draft(), history(9.0)) == PUSHED_FROM + pending
        assert after.verify() == ()
    assert outcomes == {0, 2}


def two_windowed(store: ParquetStore) -> None:
    """1.0.0 and 1.0.1 of events and feature rows."""
    one_windowed(store)
    publish_windowed(store, windowed(), 2.0)


@pytest.mark.parametrize("prepare", [two_versions, two_windowed])
def test_a_crash_at_any_step_of_deleting_a_version(tmp_path: Path, prepare: Callable[[ParquetStore], Any]) -> None:
    """Each version is there as a whole or not at all; the latest is always one that is there."""
    outcomes = set()
    for step, root, store in cases(tmp_path, prepare, lambda store: store.delete("spend", "1.0.1")):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            store.delete("spend", "1.0.1")
        after = ParquetStore(root)
        outcomes.add((after.meta("spend").version, after.versions("spend")))
        for version in after.versions("spend"):
            assert amounts(after, version) == [{"1.0.0": 1.0, "1.0.1": 2.0}[version]]
        cleaned(after)
    assert outcomes == {
        ("1.0.1", ("1.0.0", "1.0.1")),
        ("1.0.0", ("1.0.0", "1.0.1")),
        ("1.0.0", ("1.0.0",)),
    }


@pytest.mark.parametrize("prepare", [two_versions, two_windowed])
def test_a_crash_at_any_step_of_going_back(tmp_path: Path, prepare: Callable[[ParquetStore], Any]) -> None:
    """The one or the other is the latest, and both are there; the same call again gets there."""
    outcomes = set()
    for step, root, store in cases(tmp_path, prepare, lambda store: store.point("spend", "1.0.0")):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            store.point("spend", "1.0.0")
        after = ParquetStore(root)
        latest = after.meta("spend").version
        outcomes.add((latest, after.versions("spend")))
        assert amounts(after) == [{"1.0.0": 1.0, "1.0.1": 2.0}[latest]]
        cleaned(after)
        assert after.meta("spend").version == latest
        assert after.point("spend", "1.0.0").version == after.manifest()["spend"].latest == "1.0.0"
        assert after.verify() == ()
    assert outcomes == {("1.0.1", ("1.0.0", "1.0.1")), ("1.0.0", ("1.0.0", "1.0.1"))}


def test_no_space_at_any_step_of_going_back(tmp_path: Path) -> None:
    """An error that says so and changed nothing, unless the pointer was replaced already."""
    for step, root, store in cases(tmp_path, two_versions, lambda store: store.point("spend", "1.0.0")):
        with failing(step, full, once=True) as made:
            try:
                store.point("spend", "1.0.0")
            except StorageFullError:
                changed = "replace" in made[:step]
            else:
                changed = True
                assert made[step] in ("unlink", "mkdir"), "clearing up, or a folder that was there already"
        after = ParquetStore(root)
        assert after.meta("spend").version == ("1.0.0" if changed else "1.0.1")
        assert after.point("spend", "1.0.0").version == "1.0.0"
        after.verify(repair=True)
        assert (after.verify(), after.meta("spend").version) == ((), "1.0.0")


def test_a_crash_at_any_step_of_deleting_a_group(tmp_path: Path) -> None:
    """The group is there with everything, or gone."""

    def prepare(store: ParquetStore) -> None:
        two_versions(store)
        append(store, draft(), history(3.0))
        publish(store, draft(name="other"), numbered(history(1.0)))

    outcomes = set()
    for step, root, store in cases(tmp_path, prepare, lambda store: store.delete("spend")):
        with failing(step, Crash, once=False), pytest.raises(Crash):
            store.delete("spend")
        after = ParquetStore(root)
        outcomes.add((after.versions("spend"), after.pushed("spend") is not None))
        assert after.versions("other") == ("1.0.0",)
        cleaned(after)
    assert outcomes == {(("1.0.0", "1.0.1"), True), ((), False)}


def test_another_error_of_the_disk_is_an_outage(tmp_path: Path) -> None:
    """Not a full disk, not a missing version (ONL-6's spirit): nothing changed."""
    store = ParquetStore(tmp_path)
    one_version(store)
    with failing(2, lambda: OSError(errno.EIO, "Input/output error"), once=True), pytest.raises(StoreUnavailableError):
        next_one(store)
    assert (store.versions("spend"), amounts(store), store.verify()) == (("1.0.0",), [1.0], ())


def test_processes_at_once_corrupt_nothing(tmp_path: Path) -> None:
    """Several processes publish and push to one group and others; every version and every push is there."""
    program = """
        import sys
        import pyarrow as pa
        from grange.offline.parquet.backend import ParquetStore
        from grange.testing.offline import append, draft, history, numbered, publish

        store, me = ParquetStore(sys.argv[1]), int(sys.argv[2])
        for number in range(4):
            publish(store, draft(), numbered(history(float(me), float(number))))
            publish(store, draft(name=f"own{me}"), numbered(history(float(number))))
            append(store, draft(), history(float(me)))
    """
    running = [start(program, str(tmp_path), str(me)) for me in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = ParquetStore(tmp_path)
    versions = store.versions("spend")
    assert versions == tuple(f"1.0.{number}" for number in range(12))
    assert sorted(tuple(amounts(store, version)) for version in versions) == sorted(
        (float(me), float(number)) for me in range(3) for number in range(4)
    )
    assert store.next_pushed("spend") == PUSHED_FROM + 12
    assert set(store.manifest()) == {"spend", "own0", "own1", "own2"}
    assert store.verify() == ()


def start(program: str, *args: str) -> subprocess.Popen[str]:
    """A Python process that runs a program."""
    command = [sys.executable, "-c", textwrap.dedent(program), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def python(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a Python process that runs a program."""
    process = start(program, *args)
    out, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)
