"""History in an object store survives what networks and processes do to it: nothing is lost, nothing is half there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import obstore.store
import pytest
from tests.servers import s3 as servers
from tests.servers.s3 import SECRET_KEY, S3Server
from tests.servers.s3_proxy import Fault, every, s3_proxy
from tests.stories.s3_killing import SCENARIOS, opened

from grange.errors import ConfigError, ConflictError, StoreUnavailableError, UnknownVersionError
from grange.frames import Rows
from grange.offline.parquet.backend import ParquetStore
from grange.offline.parquet.objects.bucket import Bucket, BucketOptions
from grange.offline.parquet.objects.cache import Cache
from grange.offline.parquet.objects.files import ObjectFiles
from grange.ports.engine import Engine
from grange.ports.offline import PUSHED_FROM, OfflineStore
from grange.ports.plugins import create
from grange.testing import datasets
from grange.testing.offline import NOW, append, draft, history, numbered, publish, run

ROOT = Path(__file__).parents[2]
PLAIN: Any = {"allow_http": True}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    command = servers.missing()
    if command is not None:
        pytest.skip(f"needs an S3 server: {command}")
    with servers.s3_server() as server:
        yield server


@pytest.fixture
def engine() -> Engine:
    made: Engine = create("engines", "reference", {})
    return made


def amounts(store: OfflineStore, version: str | None = None) -> list[Any]:
    """The stored amounts of a version, or of the latest with what was pushed since."""
    rows = run(create("engines", "reference", {}), store.snapshot("spend", version).rows)
    return sorted(rows.column("amount").to_pylist())


def live_through_everything(store: OfflineStore, elsewhere: OfflineStore) -> None:
    """Every kind of write and read, with answers that are known."""
    assert publish(store, draft(), numbered(history(1.0))).version == "1.0.0"
    assert publish(store, draft(), numbered(history(1.0, 2.0))).version == "1.0.1"
    assert [append(store, draft(), history(float(n), start=5)) for n in (3, 4)] == [PUSHED_FROM, PUSHED_FROM + 1]
    assert amounts(elsewhere) == [1.0, 2.0, 3.0, 4.0]
    with store.lock("spend", timeout=30):
        assert store.point("spend", "1.0.0").version == "1.0.0"
    assert (amounts(elsewhere), amounts(elsewhere, "1.0.1")) == ([1.0, 3.0, 4.0], [1.0, 2.0])
    assert publish(store, draft(), numbered(history(9.0))).version == "1.0.2"
    with store.lock("spend", timeout=30):
        store.delete("spend", "1.0.2")
    assert (elsewhere.versions("spend"), elsewhere.meta("spend").version) == (("1.0.0", "1.0.1"), "1.0.1")
    assert dict(store.manifest()) == dict(store.manifest(regenerate=True))
    datasets.publish(store.datasets)
    assert elsewhere.datasets.read("churn", 1).arrow.column("amount").to_pylist() == [1.0, 2.0, 3.0, 4.0]
    assert store.verify() == store.datasets.verify() == ()
    with store.lock("spend", timeout=30):
        store.delete("spend")
    assert (elsewhere.versions("spend"), elsewhere.pushed("spend")) == ((), None)


# the network


@pytest.mark.parametrize(
    ("fault", "number", "methods"),
    [
        ("busy", 2, ()),
        ("late", 17, ()),
        ("cut", 3, ("GET",)),
        ("lost", 3, ("PUT",)),
        ("lost", 2, ("PUT", "POST", "DELETE")),
        ("lost", 5, ()),
    ],
)
def test_faults_of_the_network_change_nothing(
    s3: S3Server, tmp_path: Path, fault: Fault, number: int, methods: tuple[str, ...]
) -> None:
    """Requests are made again; one that was done and whose answer got lost is not taken for somebody else's."""
    with s3_proxy(s3.endpoint) as network:
        options = {**s3.options, "endpoint": network.endpoint, "path": s3.place(), "timeout": 0.8, "retries": 8}
        store, elsewhere = (
            create("offline_stores", "parquet", {"root": str(tmp_path / name), **options}) for name in ("a", "b")
        )
        network.choose = every(number, fault, *methods)
        live_through_everything(store, elsewhere)
        assert network.suffered


def test_each_request_of_a_publish_and_a_push_may_lose_its_answer(s3: S3Server, tmp_path: Path) -> None:
    """One after the other, each of them alone: the outcome is the same."""
    with s3_proxy(s3.endpoint) as network:
        for lost in range(100):
            place = {**s3.options, "path": s3.place(), "root": str(tmp_path / str(lost))}
            store = create("offline_stores", "parquet", place)
            publish(store, draft(), numbered(history(1.0)))
            network.suffered.clear()
            first = iter(range(10**6))
            network.choose = lambda *_, first=first, lost=lost: "lost" if next(first) == lost else "none"
            proxied = create("offline_stores", "parquet", {**place, "endpoint": network.endpoint})
            assert publish(proxied, draft(), numbered(history(1.0, 2.0))).version == "1.0.1"
            assert append(proxied, draft(), history(3.0, start=5)) == PUSHED_FROM
            if not network.suffered:
                assert lost > 20, "the requests are watched"
                return
            assert (amounts(store), store.next_pushed("spend")) == ([1.0, 2.0, 3.0], PUSHED_FROM + 1)
            assert (store.versions("spend"), store.verify()) == (("1.0.0", "1.0.1"), ())
    raise AssertionError("it never ends")


def test_an_outage_is_an_error_that_says_where(s3: S3Server, tmp_path: Path) -> None:
    """And never an empty answer (ONL-6's spirit): bucket and key are named, secrets are not; later all is there."""
    with s3_proxy(s3.endpoint) as network:
        path = s3.place()
        options = {**s3.options, "endpoint": network.endpoint, "path": path, "retries": 1, "root": str(tmp_path)}
        store = create("offline_stores", "parquet", options)
        publish(store, draft(), numbered(history(1.0)))
        network.choose = lambda *_: "busy"
        asked: list[Callable[[], Any]] = [
            lambda: store.versions("spend"), lambda: store.meta("spend"), lambda: store.snapshot("spend"),
            lambda: publish(store, draft(), numbered(history(2.0))), lambda: append(store, draft(), history(2.0)),
            lambda: store.datasets.views(), lambda: store.verify(),
        ]  # fmt: skip
        for ask in asked:
            with pytest.raises(StoreUnavailableError, match=path) as error:
                ask()
            assert error.value.retry
            assert SECRET_KEY not in str(error.value)
        network.choose = lambda *_: "none"
        assert (amounts(store), store.verify()) == ([1.0], ())


def test_an_outage_at_any_request_of_a_publish_leaves_a_whole_store(s3: S3Server, tmp_path: Path) -> None:
    """From some request on nothing is answered any more: the old version or the new one is the latest, as a whole."""
    seen = set()
    with s3_proxy(s3.endpoint) as network:
        for lasting in range(100):
            place = {"path": s3.place(), "root": str(tmp_path / str(lasting))}
            store = create("offline_stores", "parquet", {**s3.options, **place})
            publish(store, draft(), numbered(history(1.0)))
            first = iter(range(10**6))
            network.choose = lambda *_, first=first, lasting=lasting: "lost" if next(first) >= lasting else "none"
            cut_off = {**s3.options, "endpoint": network.endpoint, "retries": 0, **place}
            try:
                publish(create("offline_stores", "parquet", cut_off), draft(), numbered(history(1.0, 2.0)))
            except StoreUnavailableError:
                pass
            else:
                assert seen == {"1.0.0", "1.0.1"}
                return
            latest = store.meta("spend").version
            seen.add(latest)
            assert amounts(store) == ([1.0] if latest == "1.0.0" else [1.0, 2.0])
            for version in store.versions("spend"):
                assert amounts(store, version) == ([1.0] if version == "1.0.0" else [1.0, 2.0])
    raise AssertionError("it never ends")


def test_wrong_credentials_and_buckets_are_said(s3: S3Server, tmp_path: Path) -> None:
    """At the first question, in words that help, without the secret; not as a store that holds nothing."""
    where = {"root": str(tmp_path), "path": s3.place()}
    wrong = create("offline_stores", "parquet", {**s3.options, **where, "secret_access_key": "not-the-secret"})
    nowhere = create("offline_stores", "parquet", {**s3.options, "root": str(tmp_path), "path": "s3://no-such-one/x"})
    for store, text in ((wrong, "credentials"), (nowhere, "no bucket")):
        for ask in (store.versions, store.meta, store.pushed, store.verify):
            with pytest.raises(ConfigError, match=text) as error:
                ask("spend")
            assert "not-the-secret" not in f"{error.value} {store!r} {vars(store)}"


def test_a_store_that_ignores_conditions_is_refused(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some do, and would let two writers overwrite each other: found out before anything is written."""
    real = obstore.put

    def careless(*args: Any, mode: Any = None, **options: Any) -> Any:
        del mode
        return real(*args, **options)

    monkeypatch.setattr(obstore, "put", careless)
    store = create("offline_stores", "parquet", {**s3.options, "root": str(tmp_path), "path": s3.place()})
    with pytest.raises(ConfigError, match="leave alone"), store.lock("spend", timeout=1):
        raise AssertionError("it was let in")


# the right to write


class Machines:
    """Stores in one place, each on a machine of its own; their clocks go together, and are set."""

    def __init__(self, s3: S3Server, folder: Path) -> None:
        self.now = 1_000_000.0
        self._folder = folder
        self.options = BucketOptions(s3.place(), allow_http=True, **s3.options)

    def store(self, name: str) -> ParquetStore:
        """A store on a machine."""
        return self.opened(Bucket(self.options), name)

    def opened(self, bucket: Bucket, name: str) -> ParquetStore:
        """A store on a machine that reaches the objects so."""
        cache = Cache(self._folder / name, most=1 << 30, check_bytes=1 << 20)
        files = ObjectFiles(bucket, cache, clock=lambda: self.now)
        return ParquetStore(files.root, files=files)


WRITES: dict[str, Callable[[ParquetStore], object]] = {
    "publish": lambda store: store.publish(draft(), Rows(arrow=numbered(history(5.0))), now=NOW),
    "push": lambda store: store.append(draft(), Rows(arrow=history(5.0, start=9))),
    "point": lambda store: store.point("spend", "1.0.0"),
    "delete": lambda store: store.delete("spend", "1.0.1"),
    "delete the group": lambda store: store.delete("spend"),
}


@pytest.fixture
def machines(s3: S3Server, tmp_path: Path) -> Machines:
    """With a group of two versions in their place."""
    made = Machines(s3, tmp_path)
    store = made.store("prepared")
    publish(store, draft(), numbered(history(1.0)))
    publish(store, draft(), numbered(history(2.0)))
    return made


@pytest.mark.parametrize("write", WRITES)
def test_a_holder_that_lost_the_right_to_write_is_refused(machines: Machines, write: str) -> None:
    """It was away for longer than its lease lasts, and another took it over: what it then commits is a conflict."""
    slow, quick = machines.store("slow"), machines.store("quick")
    with slow.lock("spend", timeout=1):
        with pytest.raises(ConflictError, match="process"), quick.lock("spend", timeout=0):
            raise AssertionError("two hold it")
        machines.now += 70
        with pytest.raises(ConflictError), quick.lock("spend", timeout=0):
            raise AssertionError("clocks may differ by more")
        machines.now += 10
        with quick.lock("spend", timeout=0):
            pass
        with pytest.raises(ConflictError, match="lost"):
            WRITES[write](slow)
    assert (quick.versions("spend"), amounts(quick), quick.next_pushed("spend")) == (
        ("1.0.0", "1.0.1"), [2.0], PUSHED_FROM,
    )  # fmt: skip
    assert quick.verify() == slow.verify(repair=True) == ()


def test_a_holder_that_is_late_keeps_the_right_when_nobody_wants_it(machines: Machines) -> None:
    """The lease ran out and is renewed."""
    store = machines.store("slow")
    with store.lock("spend", timeout=1):
        machines.now += 500
        assert WRITES["publish"](store)
    assert amounts(store) == [5.0]


def test_a_holder_renews_while_it_works(s3: S3Server, tmp_path: Path) -> None:
    """A short lease, held for several times its length: nobody else gets it."""
    bucket = Bucket(BucketOptions(s3.place(), allow_http=True, **s3.options))
    files = ObjectFiles(bucket, Cache(tmp_path, most=1, check_bytes=1), lease_seconds=0.3)
    store, tokens = ParquetStore(files.root, files=files), set()
    publish(store, draft(), numbered(history(1.0)))
    with store.lock("spend", timeout=1):
        for _ in range(4):
            threading.Event().wait(0.3)
            found = bucket.get("_metadata/locks/spend.lock")
            assert found is not None
            tokens.add(found.body)
        store.append(draft(), Rows(arrow=history(2.0)))
    assert len(tokens) > 1, "it was renewed"
    assert amounts(store) == [1.0, 2.0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": "one", "expires_at": 9e9}', b'{"expires_at": true}'])
def test_a_lease_that_cannot_be_read_is_free(machines: Machines, content: bytes) -> None:
    """It must not keep everybody out for ever; the next holder writes a new one."""
    bucket = Bucket(machines.options)
    key = f"{machines.options.url.removeprefix(f's3://{servers.BUCKET}/')}/_metadata/locks/spend.lock"
    obstore.put(
        obstore.store.S3Store(servers.BUCKET, config=machines.options.config, client_options=PLAIN), key, content
    )
    with machines.store("next").lock("spend", timeout=0):
        found = bucket.get("_metadata/locks/spend.lock")
        assert found is not None
        assert json.loads(found.body)["token"] == 1


class Paused(Bucket):
    """A bucket whose client is held up right before one of its conditional puts."""

    before: tuple[int, Callable[[], object]] | None = None
    made = 0

    def _put_if(self, key: str, body: bytes, mode: Any) -> Any:
        if self.before is not None and not key.startswith("_metadata/locks/"):
            self.made += 1
            if self.made - 1 == self.before[0]:
                self.before[1]()
        return super()._put_if(key, body, mode)


@pytest.mark.parametrize("other", ["publish", "push", "point", "repair"])
@pytest.mark.parametrize("write", ["publish", "push", "point"])
def test_what_was_sent_before_the_right_was_lost_overwrites_nothing(
    s3: S3Server, tmp_path: Path, write: str, other: str
) -> None:
    """Held up between looking at the lease and a put, for so long that another takes over and writes: in whichever
    order the two then end, what both were told is true, versions are whole and numbers are given once."""
    for put in range(8):
        machines = Machines(s3, tmp_path / str(put))
        prepared = machines.store("prepared")
        publish(prepared, draft(), numbered(history(1.0)))
        publish(prepared, draft(), numbered(history(2.0)))
        quick = machines.store("quick")
        bucket = Paused(machines.options)
        slow = machines.opened(bucket, "slow")

        def meanwhile(machines: Machines = machines, quick: ParquetStore = quick) -> None:
            machines.now += 100
            if other == "repair":
                quick.verify(repair=True)
                return
            with quick.lock("spend", timeout=0):
                if other == "publish":
                    quick.publish(draft(), Rows(arrow=numbered(history(8.0))), now=NOW)
                else:
                    WRITES[other](quick)

        bucket.before = (put, meanwhile)
        refused = False
        with slow.lock("spend", timeout=1):
            try:
                WRITES[write](slow)
            except ConflictError:
                refused = True
        if bucket.made <= put:
            assert put > 0, "puts are watched"
            return
        rows = {"1.0.0": [1.0], "1.0.1": [2.0]}
        for version in quick.versions("spend"):
            assert amounts(quick, version) in ([rows[version]] if version in rows else [[5.0], [8.0]])
        assert amounts(quick), "what is the latest can be read, with what was pushed since"
        pushes = (write == "push" and not refused) + (other == "push")
        assert quick.next_pushed("spend") == PUSHED_FROM + pushes
        if other == "publish":
            assert [8.0] in [amounts(quick, version) for version in quick.versions("spend")], "it was told so"
        if write == "publish" and not refused:
            assert [5.0] in [amounts(quick, version) for version in quick.versions("spend")], "it was told so"
        quick.verify(repair=True)
        assert quick.verify() == ()
    raise AssertionError("it never ends")


def test_processes_at_once_lose_nothing(s3: S3Server, tmp_path: Path) -> None:
    """Several publish and push to one group, each with copies of its own; every version and every push is there."""
    program = """
        import json, sys
        from grange.ports.plugins import create
        from grange.testing.offline import append, draft, history, numbered, publish

        options, me = json.loads(sys.argv[1]), int(sys.argv[2])
        options["root"] = f"{options['root']}/{me}"
        store = create("offline_stores", "parquet", options)
        for number in range(4):
            publish(store, draft(), numbered(history(float(me), float(number))))
            publish(store, draft(name=f"own{me}"), numbered(history(float(number))))
            append(store, draft(), history(float(me)))
    """
    options = {"root": str(tmp_path), "path": s3.place(), **s3.options}
    command = [sys.executable, "-c", textwrap.dedent(program), json.dumps(options)]
    running = [subprocess.Popen([*command, str(me)], stderr=subprocess.PIPE, text=True) for me in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = create("offline_stores", "parquet", options)
    versions = store.versions("spend")
    assert versions == tuple(f"1.0.{number}" for number in range(12))
    assert sorted(tuple(amounts(store, version)) for version in versions) == sorted(
        tuple(sorted((float(me), float(number)))) for me in range(3) for number in range(4)
    )
    assert store.next_pushed("spend") == PUSHED_FROM + 12
    assert run(create("engines", "reference", {}), store.pushed("spend")).num_rows == 12
    assert set(store.manifest()) == {"spend", "own0", "own1", "own2"}
    assert store.verify() == ()


# the process


def killed(scenario: str, s3: S3Server, folder: Path) -> Iterator[OfflineStore]:
    """The stores that are left, one per step of a scenario, as another machine opens them."""
    place = s3.place()
    command = [sys.executable, "-m", "tests.stories.s3_killing", scenario, s3.endpoint, place, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    steps = int((folder / "steps").read_text())
    assert steps > 6, "the action is watched"
    yield from (opened(s3, f"{place}/{step}", folder / f"after{step}") for step in range(steps))


def cleaned(store: OfflineStore) -> None:
    """Verify names what is left, clears it when asked, and then finds nothing."""
    found = [*store.verify(), *store.datasets.verify()]
    assert not any(finding.removed for finding in found)
    cleared = [*store.verify(repair=True), *store.datasets.verify(repair=True)]
    assert all(finding.removed for finding in cleared)
    assert {finding.path for finding in cleared} <= {finding.path for finding in found}
    assert store.verify() == store.datasets.verify() == ()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_killed_process_leaves_a_whole_store(scenario: str, s3: S3Server, tmp_path: Path) -> None:
    """SIGKILL at each step: what was there is there, what is new is there as a whole or not at all, the right to write
    is free, leftovers are cleared, and the same again gets there."""
    seen = set()
    for store in killed(scenario, s3, tmp_path):
        versions, pushed = store.versions("spend"), store.next_pushed("spend") - PUSHED_FROM
        latest = store.meta("spend").version if versions else None
        seen.add((latest, versions, pushed, store.datasets.versions("churn")))
        for version in versions:
            expected = {"1.0.0": [1.0], "1.0.1": [2.0], "1.0.2": [5.0, 6.0]}[version]
            assert amounts(store, version) == expected
        assert amounts_of_datasets(store) == {
            number: [1.0, 2.0, 3.0, 4.0] for number in store.datasets.versions("churn")
        }
        if pushed:
            waiting = [3.0, 7.0][:pushed]
            assert (
                run(create("engines", "reference", {}), store.pushed("spend")).column("amount").to_pylist() == waiting
            )
        else:
            with pytest.raises(UnknownVersionError):
                store.snapshot("spend")
        assert amounts_of_other(store) == [1.0]
        cleaned(store)
        publish(store, draft(), numbered(history(5.0, 6.0)))
        assert amounts(store, store.meta("spend").version) == [5.0, 6.0]
        assert append(store, draft(), history(8.0, start=9)) == PUSHED_FROM + pushed
        assert store.verify() == ()
    both, three, kept = ("1.0.0", "1.0.1"), ("1.0.0", "1.0.1", "1.0.2"), (1,)
    before = ("1.0.1", both, 1, kept)
    assert (
        seen
        == {
            "publish": {before, ("1.0.1", three, 1, kept), ("1.0.2", three, 1, kept)},
            "push": {before, ("1.0.1", both, 2, kept)},
            "point": {before, ("1.0.0", both, 1, kept)},
            "delete": {before, ("1.0.0", both, 1, kept), ("1.0.0", ("1.0.0",), 1, kept)},
            "delete the group": {before, (None, (), 0, kept)},
            "dataset": {before, ("1.0.1", both, 1, (1, 2))},
            "delete a dataset": {before, ("1.0.1", both, 1, ())},
        }[scenario]
    )


def amounts_of_datasets(store: OfflineStore) -> dict[int, list[Any]]:
    numbers = store.datasets.versions("churn")
    return {number: store.datasets.read("churn", number).arrow.column("amount").to_pylist() for number in numbers}


def amounts_of_other(store: OfflineStore) -> list[Any]:
    rows = run(create("engines", "reference", {}), store.snapshot("other").rows)
    return list(rows.column("amount").to_pylist())
