"""Waiting for jobs, without a server: what verbs ask for is answered by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from grange.errors import RefusedError, SourceError, StoreUnavailableError
from grange.remote.calls.data import materialize
from grange.remote.calls.session import Session
from grange.remote.messages import Pause, Request, Response
from grange.verbs.progress import Progress

DONE = {"group": "spend", "version": "1.0.0", "rows": 5, "new_version": True, "online_rows": 2, "quarantined": 0,
        "warnings": [], "seconds": 0.5}  # fmt: skip


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "job-00000001", "status": status, "progress": None, "result": None, "error": None, **more}


def step(stage: str) -> dict[str, Any]:
    return {"group": "spend", "stage": stage, "rows": None, "position": 1, "total": 1}


def played(call: Any, answers: Iterator[Mapping[str, Any]]) -> tuple[Any, list[Request], list[float]]:
    """What a verb comes to, what it asked, and how long it waited in between."""
    asked: list[Request] = []
    waits: list[float] = []
    try:
        said = next(call)
        while True:
            if isinstance(said, Pause):
                waits.append(said.seconds)
                said = call.send(None)
            else:
                asked.append(said)
                said = call.send(Response(200, {}, msgspec.json.encode(next(answers))))
    except StopIteration as done:
        return done.value, asked, waits


def test_steps_are_told_once_and_in_order() -> None:
    steps: list[Progress] = []
    answers = [
        job("queued"),
        job("running", progress=step("read")),
        job("running", progress=step("read")),
        job("running", progress=step("write")),
        job("succeeded", progress=step("done"), result={"groups": [DONE]}),
    ]
    done, asked, waits = played(materialize(Session("u"), "spend", progress=steps.append), iter(answers))

    assert [each.stage for each in steps] == ["read", "write", "done"]
    assert done[0].version == "1.0.0"
    assert all("wait" not in request.query for request in asked)
    assert waits == sorted(waits)


def test_who_wants_no_steps_lets_the_server_wait() -> None:
    answers = [job("running"), job("succeeded", result={"groups": [DONE]})]
    _, asked, waits = played(materialize(Session("u"), "spend"), iter(answers))

    assert [request.query["wait"] for request in asked] == [20.0, 20.0]
    assert waits == []
    _, asked, _ = played(materialize(Session("u", timeout=5.0), "spend"), iter(answers))
    assert [request.query["wait"] for request in asked] == [2.5, 2.5]


def test_a_job_that_fails_raises_what_it_failed_with() -> None:
    error = {"code": "GRANGE-401", "type": "SourceError", "message": "no such file", "retry": False,
             "details": {"found": "nothing", "path": "a.csv"}}  # fmt: skip

    with pytest.raises(SourceError, match="no such file") as failed:
        played(materialize(Session("u"), "spend"), iter([job("failed", error=error)]))
    assert failed.value.details == {"path": "a.csv"}
    assert failed.value.__notes__ == ["job job-00000001"]


@pytest.mark.parametrize(("status", "kind"), [("cancelled", RefusedError), ("interrupted", StoreUnavailableError)])
def test_a_job_that_did_not_end_by_itself_is_told_apart(status: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="job-00000001"):
        played(materialize(Session("u"), "spend"), iter([job("running"), job(status)]))
