"""The contract of a registry: subclass it, name the backend, inherit every promise of `grange.ports.registry`.

    class TestMine(RegistryContract):
        @pytest.fixture
        def backend(self) -> str:
            return "mine"                                   # its entry point in `grange.registries`

        @pytest.fixture
        def options(self, tmp_path: Path) -> dict[str, Any]:
            return {"url": f"mine://{tmp_path}"}            # an empty registry, new for each test

Registries are opened by name and options, so that other processes can open the same one.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from grange.errors import ConflictError, RequestError
from grange.ports.plugins import create
from grange.ports.registry import Change, Kind, Record, Registry, RegistryState, Run

NOW = dt.datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=dt.UTC)

OpenRegistry = Callable[[], Registry]


def record(name: str = "user", *, kind: Kind = "entity", **definition: Any) -> Record:
    """A record whose fingerprint differs when its definition does."""
    data = {"name": name, **definition}
    return Record(kind, name, data, f"fingerprint of {json.dumps(data, sort_keys=True)}")


def created(made: Record) -> Change:
    """The change that creates a record."""
    return Change("create", made.kind, made.name, made)


def updated(made: Record) -> Change:
    """The change that updates a record."""
    return Change("update", made.kind, made.name, made)


def deleted(gone: Record) -> Change:
    """The change that deletes a record."""
    return Change("delete", gone.kind, gone.name, None)


def run(group: str = "spend", *, ended_at: dt.datetime = NOW, **fields: Any) -> Run:
    """A run that took a second."""
    whole = {"version": "1.0.0", "verb": "materialize", "rows": 3, **fields}
    return Run(group=group, started_at=ended_at - dt.timedelta(seconds=1), ended_at=ended_at, **whole)


class RegistryContract:
    """What every registry promises."""

    @pytest.fixture
    def backend(self) -> str:
        """The registry's name among the entry points of `grange.registries`."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """JSON-able options of an empty registry that nobody else uses."""
        raise NotImplementedError

    @pytest.fixture
    def open_registry(self, backend: str, options: dict[str, Any]) -> Iterator[OpenRegistry]:
        """Opens the registry under test; each call is another handle on the same one."""
        opened: list[Registry] = []

        def open_one() -> Registry:
            opened.append(create("registries", backend, options))
            return opened[-1]

        yield open_one
        for registry in opened:
            registry.close()

    @pytest.fixture
    def registry(self, open_registry: OpenRegistry) -> Registry:
        """One handle on the registry under test."""
        return open_registry()

    # --- what is applied -------------------------------------------------------------------------------------

    def test_is_a_registry_of_its_name(self, registry: Registry, backend: str) -> None:
        assert isinstance(registry, Registry)
        assert registry.name == backend

    def test_an_empty_registry_is_at_revision_zero(self, registry: Registry) -> None:
        assert registry.revision() == 0
        assert registry.state() == RegistryState(0, ())
        assert registry.revisions() == ()
        assert registry.runs() == ()

    def test_a_commit_is_one_revision_however_many_changes(self, registry: Registry) -> None:
        user, seat = record("user"), record("seat")

        assert registry.commit([created(user), created(seat)], expected_revision=0, now=NOW) == 1
        assert registry.revision() == 1
        assert registry.state() == RegistryState(1, (seat, user))

    def test_revisions_grow_by_one(self, registry: Registry) -> None:
        numbers = [registry.commit([created(record(f"e{n}"))], expected_revision=n, now=NOW) for n in range(5)]

        assert numbers == [1, 2, 3, 4, 5]

    def test_records_come_by_kind_then_name_in_code_point_order(self, registry: Registry) -> None:
        names = ["b", "B", "a10", "a2", "a_1", "ab"]
        made = [record(name, kind=kind) for kind in ("feature_view", "entity", "feature_group") for name in names]
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)

        assert registry.state().records == tuple(sorted(made, key=lambda one: (one.kind, one.name)))

    def test_one_name_may_be_of_several_kinds(self, registry: Registry) -> None:
        entity, group = record("user", kind="entity"), record("user", kind="feature_group", n=2)
        registry.commit([created(entity), created(group)], expected_revision=0, now=NOW)
        registry.commit([deleted(entity)], expected_revision=1, now=NOW)

        assert registry.state() == RegistryState(2, (group,))

    def test_names_differ_by_case(self, registry: Registry) -> None:
        registry.commit([created(record("User")), created(record("user"))], expected_revision=0, now=NOW)

        assert [one.name for one in registry.state().records] == ["User", "user"]

    def test_an_update_replaces_and_a_delete_removes(self, registry: Registry) -> None:
        old, new, other = record("user", n=1), record("user", n=2), record("seat")
        registry.commit([created(old), created(other)], expected_revision=0, now=NOW)

        registry.commit([updated(new)], expected_revision=1, now=NOW)
        assert registry.state() == RegistryState(2, (other, new))

        registry.commit([deleted(new)], expected_revision=2, now=NOW)
        assert registry.state() == RegistryState(3, (other,))

    def test_changes_of_a_commit_happen_in_order(self, registry: Registry) -> None:
        first, second = record("user", n=1), record("user", n=2)
        passing = record("passing")
        registry.commit(
            [created(first), deleted(first), created(second), created(passing), deleted(passing)],
            expected_revision=0,
            now=NOW,
        )

        assert registry.state() == RegistryState(1, (second,))

    def test_what_was_deleted_can_be_created_again(self, registry: Registry) -> None:
        user = record("user")
        for expected, change in enumerate([created(user), deleted(user), created(user)]):
            registry.commit([change], expected_revision=expected, now=NOW)

        assert registry.state() == RegistryState(3, (user,))

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "größer 数 🚆",
            "quote ' \" \\ % {} \r\n\t",
            "nul \x00 and half a pair \ud800",
            "x" * 1_000_000,
            2**63,
            -(2**100),
            0.1,
            1e308,
            -0.0,
            True,
            None,
            [],
            {},
            [1, [None, {"deep": [[], "1"]}]],
            {"": 1, "ключ": {"a.b": 2}},
        ],
        ids=lambda value: repr(value)[:24].encode("ascii", "backslashreplace").decode(),
    )
    def test_a_definition_reads_back_as_it_was(self, registry: Registry, value: Any) -> None:
        made = record("user", value=value)
        registry.commit([created(made)], expected_revision=0, now=NOW)

        (found,) = registry.state().records
        assert found == made
        assert type(found.definition["value"]) is type(value)

    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), b"bytes", {1: "a"}, {"s"}, NOW, object(), [{"deep": (1, {2: 3})}]],
        ids=lambda value: type(value).__name__,
    )
    def test_a_definition_that_is_no_json_is_refused(self, registry: Registry, value: Any) -> None:
        """JSON has no NaN, no bytes and no integer keys; what would read back otherwise is not written."""
        bad = Record("entity", "user", {"value": value}, "f")

        with pytest.raises(RequestError, match=r"\$\.value"):
            registry.commit([created(record("seat")), created(bad)], expected_revision=0, now=NOW)
        assert registry.state() == RegistryState(0, ())

    def test_changing_what_was_read_changes_nothing_stored(self, registry: Registry) -> None:
        registry.commit([created(record("user", keys=["a"]))], expected_revision=0, now=NOW)

        registry.state().records[0].definition["keys"].append("b")
        assert registry.state().records == (record("user", keys=["a"]),)

    # --- compare and swap ------------------------------------------------------------------------------------

    def test_no_changes_make_no_revision(self, registry: Registry) -> None:
        assert registry.commit([], expected_revision=0, now=NOW) == 0
        registry.commit([created(record())], expected_revision=0, now=NOW)

        assert registry.commit([], expected_revision=1, now=NOW) == 1
        assert registry.revision() == 1
        assert len(registry.revisions()) == 1

    @pytest.mark.parametrize("expected", [-1, 0, 2, 100])
    def test_another_revision_than_expected_is_a_conflict(self, registry: Registry, expected: int) -> None:
        """Whatever the changes: even none were worked out from another state."""
        registry.commit([created(record("user"))], expected_revision=0, now=NOW)
        before = registry.state(), registry.revisions()

        for changes in ([], [created(record("seat"))], [deleted(record("user"))]):
            with pytest.raises(ConflictError) as caught:
                registry.commit(changes, expected_revision=expected, now=NOW)
            assert caught.value.retry
        assert (registry.state(), registry.revisions()) == before

    @pytest.mark.parametrize(
        "bad",
        [
            created(record("user", n=9)),
            updated(record("nobody")),
            deleted(record("nobody")),
            Change("create", "entity", "seat", None),
            Change("update", "entity", "user", None),
            Change("create", "entity", "seat", record("table")),
            Change("create", "feature_view", "seat", record("seat", kind="entity")),
            Change("delete", "entity", "user", record("user")),
        ],
        ids=lambda change: f"{change.action}-{change.name}-{change.record.name if change.record else None}",
    )
    def test_a_change_that_does_not_fit_is_refused_with_the_whole_commit(self, registry: Registry, bad: Change) -> None:
        registry.commit([created(record("user"))], expected_revision=0, now=NOW)
        before = registry.state(), registry.revisions()

        with pytest.raises(RequestError):
            registry.commit([created(record("good")), bad, created(record("late"))], expected_revision=1, now=NOW)
        assert (registry.state(), registry.revisions()) == before
        assert registry.commit([created(record("good"))], expected_revision=1, now=NOW) == 2

    # --- history ---------------------------------------------------------------------------------------------

    def test_revisions_tell_what_was_done_newest_first(self, registry: Registry) -> None:
        user, group = record("user"), record("spend", kind="feature_group")
        registry.commit([created(user), created(group)], expected_revision=0, now=NOW)
        registry.commit([deleted(group), updated(record("user", n=2))], expected_revision=1, now=NOW)

        second, first = registry.revisions()
        assert (second.number, first.number) == (2, 1)
        assert first.changes == (("create", "entity", "user"), ("create", "feature_group", "spend"))
        assert second.changes == (("delete", "feature_group", "spend"), ("update", "entity", "user"))

    def test_revisions_are_limited(self, registry: Registry) -> None:
        for number in range(4):
            registry.commit([created(record(f"e{number}"))], expected_revision=number, now=NOW)

        assert [one.number for one in registry.revisions(limit=2)] == [4, 3]
        assert [one.changes[0][2] for one in registry.revisions(limit=2)] == ["e3", "e2"]
        assert registry.revisions(limit=0) == ()
        with pytest.raises(RequestError):
            registry.revisions(limit=-1)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (NOW, NOW),
            (NOW.replace(tzinfo=None), NOW),
            (NOW.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=45))), NOW),
            (dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
            (dt.datetime.max.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)),
        ],
        ids=["utc", "naive", "zone", "first", "last"],
    )
    def test_times_are_utc_to_the_microsecond(self, registry: Registry, given: dt.datetime, kept: dt.datetime) -> None:
        """TIME-1: naive is read as UTC, other zones are converted."""
        registry.commit([created(record())], expected_revision=0, now=given)
        registry.record_run(Run("spend", "1.0.0", "materialize", given, given, 0))

        (revision,) = registry.revisions()
        (made,) = registry.runs()
        assert [revision.at, made.started_at, made.ended_at] == [kept, kept, kept]
        assert {time.utcoffset() for time in (revision.at, made.started_at, made.ended_at)} == {dt.timedelta(0)}

    # --- runs ------------------------------------------------------------------------------------------------

    def test_runs_come_newest_end_first_then_last_recorded(self, registry: Registry) -> None:
        late, early = NOW + dt.timedelta(microseconds=1), NOW - dt.timedelta(days=1)
        recorded = [run(rows=1), run(rows=2, ended_at=late), run(rows=3, ended_at=early), run(rows=4)]
        for one in recorded:
            registry.record_run(one)

        assert [one.rows for one in registry.runs()] == [2, 4, 1, 3]

    def test_a_run_reads_back_as_it_was(self, registry: Registry) -> None:
        recorded = run("spend", version="1.2.3", verb="backfill", rows=2**40, details={"from": ["a", None], "ü": 0.5})
        registry.record_run(recorded)

        assert registry.runs() == (recorded,)
        assert registry.runs()[0].details == recorded.details

    def test_runs_of_one_group(self, registry: Registry) -> None:
        for group in ("spend", "profile", "spend"):
            registry.record_run(run(group))

        assert [one.group for one in registry.runs("spend")] == ["spend", "spend"]
        assert registry.runs("nobody") == ()
        assert len(registry.runs("spend", limit=1)) == 1
        assert registry.runs(limit=0) == ()
        with pytest.raises(RequestError):
            registry.runs(limit=-1)

    def test_runs_make_no_revision(self, registry: Registry) -> None:
        registry.record_run(run())

        assert registry.revision() == 0

    def test_details_that_are_no_json_are_refused(self, registry: Registry) -> None:
        with pytest.raises(RequestError):
            registry.record_run(run(details={"when": NOW}))
        assert registry.runs() == ()

    # --- several handles, threads and processes --------------------------------------------------------------

    def test_what_was_committed_outlives_the_handle(self, open_registry: OpenRegistry) -> None:
        first = open_registry()
        first.commit([created(record())], expected_revision=0, now=NOW)
        first.record_run(run())
        first.close()
        first.close()

        second = open_registry()
        assert second.state() == RegistryState(1, (record(),))
        assert [one.number for one in second.revisions()] == [1]
        assert second.runs() == (run(),)

    def test_a_commit_is_seen_by_every_handle_at_once(self, open_registry: OpenRegistry) -> None:
        writer, reader = open_registry(), open_registry()
        assert (reader.revision(), reader.state().records) == (0, ())

        for number in range(1, 4):
            writer.commit([created(record(f"e{number}"))], expected_revision=number - 1, now=NOW)
            assert reader.revision() == number
            assert reader.state() == writer.state()

    def test_closing_one_handle_leaves_the_others_open(self, open_registry: OpenRegistry) -> None:
        first, second = open_registry(), open_registry()
        first.commit([created(record())], expected_revision=0, now=NOW)
        assert second.revision() == 1
        first.close()

        assert second.commit([deleted(record())], expected_revision=1, now=NOW) == 2

    def test_of_racing_threads_exactly_one_wins(self, open_registry: OpenRegistry) -> None:
        """Half of the threads share a handle, half bring their own."""
        shared = open_registry()
        handles = [shared, open_registry(), shared, open_registry(), shared, open_registry()]
        start = threading.Barrier(len(handles))

        def race(number: int) -> bool:
            start.wait()
            try:
                handles[number].commit([created(record(f"e{number}"))], expected_revision=0, now=NOW)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(len(handles)) as pool:
            won = list(pool.map(race, range(len(handles))))
        assert sum(won) == 1
        assert shared.state() == RegistryState(1, (record(f"e{won.index(True)}"),))
        assert len(shared.revisions()) == 1

    def test_a_reader_never_sees_half_a_commit(self, open_registry: OpenRegistry) -> None:
        """Each commit writes its number into every record, so a mixture would show."""
        writer, reader = open_registry(), open_registry()
        names = [f"e{position}" for position in range(8)]
        writer.commit([created(record(name, at=1)) for name in names], expected_revision=0, now=NOW)
        done = threading.Event()
        seen: list[tuple[int, set[int]]] = []

        def read() -> None:
            while not done.is_set():
                state = reader.state()
                seen.append((state.revision, {one.definition["at"] for one in state.records}))

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            for number in range(2, 40):
                writer.commit(
                    [updated(record(name, at=number)) for name in names], expected_revision=number - 1, now=NOW
                )
            done.set()
            reading.result()
        assert seen
        assert [state for state in seen if state[1] != {state[0]}] == []

    def test_of_racing_processes_exactly_one_wins(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """They also meet at the first use of an empty registry, so all of them make it."""
        answers = in_processes(3, backend, options, "race")

        winners = [answer["worker"] for answer in answers if answer["won"]]
        assert len(winners) == 1
        assert open_registry().state() == RegistryState(1, (record(f"e{winners[0]}"),))
        assert len(open_registry().revisions()) == 1

    def test_processes_that_retry_lose_no_commit(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """Each adds to one counter and records a run; a lost update or a torn commit would show in the sum."""
        open_registry().commit([created(record("counter", n=0))], expected_revision=0, now=NOW)
        answers = in_processes(3, backend, options, "count")

        commits = sum(answer["commits"] for answer in answers)
        registry = open_registry()
        assert commits == 3 * _COUNTS
        assert registry.revision() == commits + 1
        assert registry.state().records == (record("counter", n=commits),)
        assert [one.number for one in registry.revisions(limit=1000)] == list(range(commits + 1, 0, -1))
        assert len(registry.runs(limit=1000)) == commits


_COUNTS = 15
"""Commits of each process of the counting test."""


def in_processes(count: int, backend: str, options: Mapping[str, Any], action: str) -> list[dict[str, Any]]:
    """Run an action of this module in so many new processes, which start it together; their answers."""
    command = [sys.executable, "-c", "from grange.testing.registry import child; child()"]
    started = [
        subprocess.Popen(
            [*command, json.dumps({"backend": backend, "options": dict(options), "action": action, "worker": worker})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * count
    return [json.loads(answer) for answer in answers]


def child() -> None:
    """What a process of `in_processes` runs."""
    task = json.loads(sys.argv[1])
    registry: Registry = create("registries", task["backend"], task["options"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    answer = {"race": _race, "count": _count}[task["action"]](registry, task["worker"])
    sys.stdout.write(json.dumps({"worker": task["worker"], **answer}))
    registry.close()


def _race(registry: Registry, worker: int) -> dict[str, Any]:
    try:
        registry.commit([created(record(f"e{worker}"))], expected_revision=0, now=NOW)
    except ConflictError:
        return {"won": False}
    return {"won": True}


def _count(registry: Registry, worker: int) -> dict[str, Any]:
    commits = conflicts = 0
    while commits < _COUNTS:
        state = registry.state()
        number = state.records[0].definition["n"] + 1
        changes: Sequence[Change] = [updated(record("counter", n=number))]
        try:
            registry.commit(changes, expected_revision=state.revision, now=NOW)
        except ConflictError:
            conflicts += 1
            continue
        registry.record_run(run(f"worker{worker}", rows=number))
        commits += 1
    return {"commits": commits, "conflicts": conflicts}
