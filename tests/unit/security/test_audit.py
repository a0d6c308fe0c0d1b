"""The audit log: what is in it, before what, and how anybody finds out that it was touched (SEC-7, SEC-8)."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.security.parts import MINUTE, NOW, SECOND, CutOff, principal

from grange.errors import ForbiddenError, RequestError, StoreUnavailableError
from grange.ports.journal import Anchor, Entry, verify_journal
from grange.ports.registry import Registry
from grange.security import audit as audit_module
from grange.security.audit import AuditLog, Event, anchor_text, entry_data, parse_anchor
from grange.types.time import to_utc

RANKER, BOSS = principal(name="ranker"), principal("admin", "boss")


@pytest.fixture
def log(cut_off: CutOff, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    """A log whose thread writes when the test says so: `flush`."""
    monkeypatch.setattr(audit_module, "FLUSH_SECONDS", 3600.0)
    made = AuditLog(cut_off)  # type: ignore[arg-type]
    yield made
    cut_off.is_down = False
    made.close()


def denied(number: int = 0, **more: Any) -> Event:
    fields = {"principal": RANKER, "action": "read online", "resource": "profile:ssn", "outcome": "denied"}
    return Event(at=NOW + number * SECOND, **{**fields, **more})


def told(log: AuditLog) -> list[tuple[Any, ...]]:
    """(who, action, resource, outcome, count), oldest first."""
    keys = ("name", "action", "resource", "outcome", "count")
    return [tuple(entry.data[key] for key in keys) for entry in reversed(log.entries(limit=1000))]


# -- changes


def test_a_change_is_in_the_log_before_it_is_made(log: AuditLog) -> None:
    with log.recording(BOSS, "push", "feature_group:spend", at=NOW, request_id="r1", details={"rows": 3}):
        assert told(log) == [("boss", "push", "feature_group:spend", "accepted", 1)]
    (entry,) = log.entries()
    assert (entry.at, entry.data["request_id"], entry.data["details"]) == (NOW, "r1", {"rows": 3})
    assert (entry.data["principal"], entry.data["kind"], entry.data["role"]) == ("id-boss", "key", "admin")


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (ForbiddenError("no"), "denied", "GRANGE-507 no"),
        (RequestError("bad"), "failed", "GRANGE-300 bad"),
        (ZeroDivisionError("secret"), "failed", "ZeroDivisionError"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_a_change_that_fails_is_in_it_twice(log: AuditLog, error: BaseException, outcome: str, text: str) -> None:
    with pytest.raises(type(error)) as caught, log.recording(BOSS, "apply", "x", at=NOW):
        raise error
    assert caught.value is error
    assert [item[3] for item in told(log)] == ["accepted", outcome]
    assert log.entries()[0].data["details"] == {"accepted_as": 1, "error": text}


def test_a_change_that_cannot_be_recorded_is_not_made(log: AuditLog, cut_off: CutOff) -> None:
    cut_off.is_down = True
    with pytest.raises(StoreUnavailableError), log.recording(BOSS, "push", "spend", at=NOW):
        raise AssertionError("it was made")


def test_a_failure_that_cannot_be_recorded_is_told_elsewhere(
    log: AuditLog, cut_off: CutOff, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RequestError, match="bad"), log.recording(BOSS, "push", "spend", at=NOW):
        cut_off.is_down = True
        raise RequestError("bad")
    assert "push of spend failed (RequestError)" in caplog.text


def test_secrets_are_not_written_down(log: AuditLog) -> None:
    log.record(denied(details={"password": "hunter2", "url": "redis://u:hunter2@host"}, resource="x?token=hunter2"))
    assert "hunter2" not in "".join(log.lines())


# -- denied requests


def test_denied_requests_that_are_alike_are_one_entry_with_their_number(log: AuditLog, cut_off: CutOff) -> None:
    for number in range(1000):
        log.denied(denied(number, request_id=f"r{number}"))
    log.denied(denied(5, principal=None))
    assert "append" not in cut_off.asked
    assert told(log) == [
        ("ranker", "read online", "profile:ssn", "denied", 1000),
        ("", "read online", "profile:ssn", "denied", 1),
    ]
    assert cut_off.asked.count("append") == 1
    data = log.entries()[1].data
    assert (data["request_id"], to_utc(data["first_at"]), to_utc(data["last_at"])) == ("r0", NOW, NOW + 999 * SECOND)


def test_a_flood_of_different_requests_is_bounded_and_loses_none(log: AuditLog) -> None:
    for number in range(5000):
        log.denied(denied(number, resource=f"r{number}", principal=principal(name=f"p{number % 400}")))
    found = told(log)
    assert sum(item[4] for item in found) == 5000
    assert len(found) <= 2 * audit_module.MOST + 1
    assert ("", audit_module.OTHERS, audit_module.OTHERS) in {item[:3] for item in found}
    assert all(len(json.dumps(entry.data)) < 1000 for entry in log.entries())


def test_threads_that_are_denied_at_once_are_all_counted(log: AuditLog) -> None:
    def deny() -> None:
        for number in range(500):
            log.denied(denied(number))
            if number % 100 == 0:
                log.flush()

    threads = [threading.Thread(target=deny) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(item[4] for item in told(log)) == 2000


def test_a_thread_writes_them_by_itself(cut_off: CutOff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "FLUSH_SECONDS", 0.01)
    log = AuditLog(cut_off)  # type: ignore[arg-type]
    log.denied(denied())
    written = threading.Event()
    monkeypatch.setattr(log._denied, "flush", _then(log._denied.flush, written.set))
    assert written.wait(30)
    assert cut_off.head("audit").number == 1
    log.close()


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def test_while_the_journal_is_gone_they_stay_counted(log: AuditLog, cut_off: CutOff) -> None:
    log.denied(denied(0))
    cut_off.is_down = True
    for number in (1, 2):
        with pytest.raises(StoreUnavailableError):
            log.flush()
        log.denied(denied(number))
    cut_off.is_down = False
    assert told(log) == [("ranker", "read online", "profile:ssn", "denied", 3)]


def test_closing_writes_what_is_left(cut_off: CutOff) -> None:
    log = AuditLog(cut_off)  # type: ignore[arg-type]
    log.denied(denied())
    log.close()
    log.close()
    assert cut_off.head("audit").data["count"] == 1


def test_closing_without_a_journal_tells_what_is_lost(cut_off: CutOff, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(cut_off)  # type: ignore[arg-type]
    log.denied(denied())
    cut_off.is_down = True
    with caplog.at_level(logging.ERROR), pytest.raises(StoreUnavailableError):
        log.close()
    assert "profile:ssn" in caplog.text
    log.close()


# -- reading


def test_entries_are_found_by_who_what_when_and_how(log: AuditLog) -> None:
    for number in range(3):
        log.record(denied(60 * number, outcome="accepted", action="push", principal=BOSS))
        log.record(denied(60 * number))

    def numbers(**how: Any) -> list[int]:
        return [entry.number for entry in log.entries(**how)]

    assert numbers() == [6, 5, 4, 3, 2, 1]
    assert numbers(limit=2) == [6, 5] and numbers(limit=2, before=5) == [4, 3]
    assert numbers(denied=True) == [6, 4, 2]
    assert numbers(action="push") == [5, 3, 1]
    assert numbers(principal="boss") == numbers(principal="id-boss") == [5, 3, 1]
    assert numbers(principal="boss", denied=True) == numbers(principal="nobody") == []
    assert numbers(since=NOW + MINUTE) == [6, 5, 4, 3]
    assert numbers(since=NOW + MINUTE, principal="ranker", limit=1) == [6]


def test_reading_goes_on_over_pages(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_PAGE", 2)
    for number in range(7):
        log.record(denied(number))
    assert [entry.number for entry in log.entries(since=NOW + 2 * SECOND)] == [7, 6, 5, 4, 3]


# -- touched


def test_an_untouched_log_is_intact_and_an_anchor_stands(log: AuditLog) -> None:
    assert log.anchor() is None and log.verify().is_intact
    log.record(denied())
    anchor = log.anchor()
    assert anchor is not None and parse_anchor(anchor_text(anchor)) == anchor
    log.record(denied())
    assert log.verify(anchor).is_intact and log.verify(anchor).entries == 2


def test_the_exported_lines_are_all_that_is_needed_to_verify(log: AuditLog) -> None:
    for number in range(3):
        log.record(denied(number))
    read = [json.loads(line) for line in log.lines()]
    entries = [Entry(**{**item, "at": to_utc(item["at"])}) for item in read]
    assert verify_journal("audit", entries, anchor=log.anchor()).is_intact
    assert [entry_data(entry) for entry in entries] == read
    assert [json.loads(line)["number"] for line in log.lines(after=2)] == [3]


DATA = "UPDATE journal_entries SET data = replace(data, 'profile', 'other') WHERE number = 3"
TAMPERINGS = {
    "changed": ([DATA], 3),
    "removed": (["DELETE FROM journal_entries WHERE number = 3"], 3),
    "cut off": (["DELETE FROM journal_entries WHERE number > 3"], 4),
    "moved in time": (["UPDATE journal_entries SET at = at + 1 WHERE number = 3"], 3),
    "swapped": (
        [
            "UPDATE journal_entries SET number = 100 WHERE number = 3",
            "UPDATE journal_entries SET number = 3 WHERE number = 4",
            "UPDATE journal_entries SET number = 4 WHERE number = 100",
        ],
        3,
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_whoever_writes_to_the_database_is_found_out(log: AuditLog, tmp_path: Path, how: str) -> None:
    for number in range(5):
        log.record(denied(number))
    anchor = log.anchor()
    statements, first = TAMPERINGS[how]
    with sqlite3.connect(tmp_path / "registry.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert database.execute(statement).rowcount > 0
    database.close()
    findings = log.verify(anchor).findings
    assert findings and min(finding.first for finding in findings) == first


@pytest.mark.parametrize("text", ["", "3", "3:xyz", f"-1:{'0' * 64}", f"3:{'0' * 63}", f"3:{'A' * 64}"])
def test_an_anchor_that_is_none(text: str) -> None:
    with pytest.raises(RequestError, match="NUMBER:HASH"):
        parse_anchor(text)
    assert parse_anchor(f" 3:{'0' * 64}\n") == Anchor(3, "0" * 64)


def test_a_registry_keeps_it_over_a_restart(registry: Registry) -> None:
    AuditLog(registry).record(denied())
    assert AuditLog(registry).entries()[0].number == 1
