"""`grange job`: what servers are working on, seen from the command line."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.cli.running import Grange

import grange as gr
from grange.jobs import Job, JobHandle, JobOutcome, JobRunner, LogLine, Process, documents_of
from grange.jobs.records import save, stop_requested
from grange.verbs.progress import Progress


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grange.toml").write_text('project = "shop"\n')
    return tmp_path


def run_one(project: Path) -> str:
    def work(job: JobHandle) -> JobOutcome:
        job.progress(Progress("spend", "write", 7, 1, 1))
        return JobOutcome({"rows": 7})

    with gr.FeatureStore(project) as store:
        runner = JobRunner(heartbeat=0.01)
        handle = runner.submit(store, work, kind="materialize", what="spend", created_by="me", owner="key:1")
        job = runner.wait(handle, 20)
        runner.close()
        return job.id


def running(project: Path) -> str:
    now = dt.datetime.now(dt.UTC)
    with gr.FeatureStore(project) as store:
        line = LogLine(now, "begun")
        job = Job("job-00000009", "export", "spend", "running", now, "me", "k", Process.current(), now, lines=(line,))
        save(documents_of(store), job, now=now)
        return job.id


def test_jobs_are_listed_and_told_about(grange: Grange, project: Path) -> None:
    assert grange("job", "list").out.strip().endswith("no jobs")
    done, going = run_one(project), running(project)
    listed = grange("job", "list").out
    assert done in listed and going in listed and "succeeded" in listed
    assert [job["id"] for job in grange("job", "list", "--json").json] == [going, done]
    assert [job["id"] for job in grange("job", "list", "--status", "succeeded", "--json").json] == [done]
    assert grange("job", "list", "--status", "done").code == 2
    told = grange("job", "info", done, "--json").json
    assert told["status"] == "succeeded" and told["result"] == {"rows": 7}
    assert "succeeded" in grange("job", "info", done).out
    assert "begun" in grange("job", "logs", going).out
    assert [line["text"] for line in grange("job", "logs", going, "--json").json] == ["begun"]


def test_a_job_is_asked_to_stop(grange: Grange, project: Path) -> None:
    id = running(project)
    assert grange("job", "stop", id).code == 4, "it asks first, and there is nobody to ask"
    stopped = grange("job", "stop", id, "--yes")
    assert stopped.code == 0 and "asked to stop" in stopped.out
    with gr.FeatureStore(project) as store:
        assert stop_requested(documents_of(store), id) == "the command line"


def test_a_job_that_is_over_or_unknown(grange: Grange, project: Path) -> None:
    assert grange("job", "stop", run_one(project), "--yes").code == 4
    for verb in ("info", "logs"):
        assert grange("job", verb, "job-9").code == 3
    assert grange("job", "stop", "job-9", "--yes").code == 3
