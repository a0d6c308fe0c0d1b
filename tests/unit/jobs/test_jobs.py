"""Jobs: records that last, progress, stopping, results that expire, servers that stop or vanish."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import grange as gr
from grange.errors import (
    ExpectationError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    RequestError,
    StoreUnavailableError,
    UnknownJobError,
)
from grange.jobs import (
    RESULTS_KEPT,
    Job,
    JobHandle,
    JobOutcome,
    JobResults,
    JobRunner,
    Process,
    documents_of,
    job_info,
    jobs,
    request_stop,
)
from grange.jobs.records import COLLECTION, LOST_AFTER, MOST_LINES, save
from grange.jobs.runner import MOST_QUEUED, Work
from grange.verbs.progress import Progress

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(tmp_path) as opened:
        yield opened


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    made = JobRunner(workers=2, heartbeat=0.01)
    yield made
    made.close()


def submit(runner: JobRunner, store: gr.FeatureStore, work: Work) -> JobHandle:
    return runner.submit(store, work, kind="test", what="spend", created_by="me", owner="key:1")


def over(runner: JobRunner, handle: JobHandle) -> Job:
    job = runner.wait(handle, 20)
    assert job.is_over
    return job


def known(store: gr.FeatureStore, handle: JobHandle) -> Job:
    return job_info(documents_of(store), handle.job.id, now=dt.datetime.now(dt.UTC))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def step(name: str, place: int = 1) -> Progress:
    return Progress(name, "read", 3, place, 2)


def test_a_job_leaves_a_record_of_all_that_it_did(runner: JobRunner, store: gr.FeatureStore) -> None:
    def work(job: JobHandle) -> JobOutcome:
        job.progress(step("spend"))
        job.progress(step("spend"))
        job.progress(step("shops", 2))
        return JobOutcome({"rows": 7})

    handle = submit(runner, store, work)
    job = over(runner, handle)
    assert (job.status, job.result, job.id) == ("succeeded", {"rows": 7}, "job-00000001")
    assert job.progress == dataclasses.asdict(step("shops", 2))
    assert [line.text for line in job.lines] == ["spend: read, 3 rows (1 of 2)", "shops: read, 3 rows (2 of 2)"]
    assert known(store, handle) == job
    assert Job.from_dict(job.to_dict()) == job


def test_an_error_of_granges_is_kept_as_data_and_another_one_too(runner: JobRunner, store: gr.FeatureStore) -> None:
    def refused(job: JobHandle) -> JobOutcome:
        raise ExpectationError("amount is negative", details={"rows": 2})

    def broken(job: JobHandle) -> JobOutcome:
        raise ZeroDivisionError("oops")

    job = over(runner, submit(runner, store, refused))
    assert job.status == "failed" and job.error is not None
    assert (job.error["code"], job.error["details"]) == ("GRANGE-403", {"rows": 2})
    job = over(runner, submit(runner, store, broken))
    assert job.status == "failed" and job.error is not None and job.error["type"] == "ZeroDivisionError"


def test_a_job_is_stopped_between_two_steps_by_whoever_has_the_registry(
    runner: JobRunner, store: gr.FeatureStore
) -> None:
    began, steps = threading.Event(), 0

    def work(job: JobHandle) -> JobOutcome:
        nonlocal steps
        while True:
            began.set()
            job.progress(step("spend"))
            steps += 1
            time.sleep(0.002)

    handle = submit(runner, store, work)
    assert began.wait(20)
    request_stop(documents_of(store), handle.job.id, by="the operator", now=NOW)
    job = over(runner, handle)
    assert job.status == "cancelled" and job.lines[-1].text == "stopped by the operator" and steps
    with pytest.raises(RefusedError, match="is over"):
        request_stop(documents_of(store), job.id, by="me", now=NOW)


def test_a_job_that_waits_is_stopped_before_it_begins(store: gr.FeatureStore) -> None:
    runner, go, ran = JobRunner(workers=1, heartbeat=0.01), threading.Event(), threading.Event()

    def blocking(job: JobHandle) -> JobOutcome:
        go.wait(20)
        return JobOutcome({})

    def never(job: JobHandle) -> JobOutcome:
        ran.set()
        return JobOutcome({})

    first, second = submit(runner, store, blocking), submit(runner, store, never)
    request_stop(documents_of(store), second.job.id, by="me", now=NOW)
    assert over(runner, second).status == "cancelled"
    go.set()
    assert over(runner, first).status == "succeeded" and not ran.is_set()
    runner.close()


def test_a_server_that_stops_lets_jobs_finish_within_its_grace_and_says_what_it_interrupted(
    store: gr.FeatureStore,
) -> None:
    runner, go, hang = JobRunner(workers=2, heartbeat=0.01), threading.Event(), threading.Event()

    def quick(job: JobHandle) -> JobOutcome:
        go.wait(20)
        return JobOutcome({"done": True})

    def slow(job: JobHandle) -> JobOutcome:
        hang.wait(20)
        job.check()
        return JobOutcome({"done": True})

    first, second, third = (submit(runner, store, work) for work in (quick, slow, quick))
    until(lambda: second.job.status == "running")
    threading.Timer(0.05, go.set).start()
    runner.close(grace=1.0)
    assert known(store, first).status == "succeeded"
    assert known(store, second).status == "interrupted"
    assert known(store, third).status == "interrupted"
    assert "before it began" in known(store, third).lines[-1].text
    hang.set()
    time.sleep(0.05)
    assert known(store, second).status == "interrupted", "what was told stays"
    with pytest.raises(OverloadedError):
        submit(runner, store, quick)


@pytest.mark.parametrize(
    ("process", "age", "status"),
    [
        (Process.current(), dt.timedelta(0), "running"),
        (Process.current(), LOST_AFTER + dt.timedelta(seconds=1), "interrupted"),
        (Process(Process.current().host, 2**22 + 1), dt.timedelta(0), "interrupted"),
        (Process("elsewhere", 1), dt.timedelta(0), "running"),
        (Process("elsewhere", 1), LOST_AFTER + dt.timedelta(seconds=1), "interrupted"),
    ],
)
def test_a_job_whose_process_is_gone_is_interrupted(
    store: gr.FeatureStore, process: Process, age: dt.timedelta, status: str
) -> None:
    job = Job("job-1", "test", "spend", "running", NOW, "me", "key:1", process, NOW - age)
    save(documents_of(store), job, now=NOW)
    assert job_info(documents_of(store), "job-1", now=NOW).status == status
    found = [each.id for each in jobs(documents_of(store), now=NOW, status=status)]
    assert found == ["job-1"]


def test_jobs_are_listed_newest_first_and_unknown_ones_are_told(runner: JobRunner, store: gr.FeatureStore) -> None:
    made = [submit(runner, store, lambda _: JobOutcome({})) for _ in range(3)]
    for handle in made:
        over(runner, handle)
    listed = jobs(documents_of(store), now=dt.datetime.now(dt.UTC), kind="test", status="succeeded")
    assert [job.id for job in listed] == ["job-00000003", "job-00000002", "job-00000001"]
    assert jobs(documents_of(store), now=NOW, kind="other") == ()
    with pytest.raises(RequestError, match="no status"):
        jobs(documents_of(store), now=NOW, status="done")
    for id in ("job-9", "", "\n", "x" * 1000):
        with pytest.raises(UnknownJobError):
            job_info(documents_of(store), id, now=NOW)


def test_only_so_many_wait(store: gr.FeatureStore) -> None:
    runner, go = JobRunner(workers=1, heartbeat=0.01), threading.Event()

    def work(job: JobHandle) -> JobOutcome:
        go.wait(20)
        return JobOutcome({})

    for _ in range(MOST_QUEUED):
        submit(runner, store, work)
    with pytest.raises(OverloadedError) as refused:
        submit(runner, store, work)
    assert refused.value.details["retry_after"] and refused.value.retry
    go.set()
    runner.close(grace=20)


def test_the_log_of_a_job_is_bounded(runner: JobRunner, store: gr.FeatureStore) -> None:
    def work(job: JobHandle) -> JobOutcome:
        for number in range(MOST_LINES + 10):
            job.log(str(number))
        return JobOutcome({})

    job = over(runner, submit(runner, store, work))
    assert len(job.lines) == MOST_LINES and job.lines[-1].text == str(MOST_LINES + 9)


def test_how_a_job_ended_is_written_once_the_registry_is_back(
    runner: JobRunner, store: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = documents_of(store)
    put, away = documents.put, threading.Event()

    def flaky(collection: str, *arguments: object, **options: object) -> None:
        if away.is_set() and collection == COLLECTION:
            raise StoreUnavailableError("gone for a moment")
        put(collection, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(documents, "put", flaky)

    def work(job: JobHandle) -> JobOutcome:
        away.set()
        return JobOutcome({"rows": 1})

    handle = submit(runner, store, work)
    assert over(runner, handle).status == "succeeded"
    assert known(store, handle).status in ("queued", "running")
    away.clear()
    until(lambda: known(store, handle).status == "succeeded")


def test_rows_are_kept_as_they_were_and_expire(runner: JobRunner, store: gr.FeatureStore) -> None:
    table = pa.table({"a": [1, None, 3]}).replace_schema_metadata({"grange": "{}"})
    job = over(runner, submit(runner, store, lambda _: JobOutcome({}, table)))
    assert job.has_rows and job.expires_at is not None and job.ended_at is not None
    assert job.expires_at - job.ended_at >= RESULTS_KEPT - dt.timedelta(minutes=1)
    results = JobResults.of(store.project)
    schema, batches = results.open(job.id)
    assert pa.Table.from_batches(batches, schema).equals(table) and schema.metadata == {b"grange": b"{}"}
    results.clear(now=dt.datetime.now(dt.UTC))
    results.open(job.id)
    path = next(results.folder.glob("*.arrow"))
    os.utime(path, (0, 0))
    results.clear(now=dt.datetime.now(dt.UTC))
    with pytest.raises(NotFoundError, match="are not here"):
        results.open(job.id)
    assert list(results.folder.iterdir()) == []


@pytest.mark.parametrize("id", ["../../etc/passwd", "job-1/../../x", "", "job-", "job-1.arrow"])
def test_no_id_leads_out_of_the_folder_of_results(tmp_path: Path, id: str) -> None:
    with pytest.raises(NotFoundError):
        JobResults.of(tmp_path).open(id)
