"""The audit log: every change, and everything that was denied, in a journal that only grows.

A change is recorded before it is made, and again when it fails (SEC-7): what is not in the log was not done. Denied
requests are counted at once and written within a second, together: of those that are alike one entry with their number,
so that a flood of them is told and does not drown the log, and none is dropped (SEC-8). The journal is chained by
hashes; `verify` finds entries that were changed, removed, inserted or put elsewhere, and with an anchor that is kept
elsewhere also a tail that was cut off.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from grange.errors import (
    ConflictError,
    ForbiddenError,
    GrangeError,
    RequestError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from grange.ports.journal import Anchor, Entry, Verification, every_entry, verify_journal
from grange.ports.registry import Journal
from grange.security.principals import Principal
from grange.security.scrubbing import scrubbed, scrubbed_text
from grange.types.time import isoformat

Outcome = Literal["accepted", "failed", "denied"]
"""`accepted`: let through, and about to be done. `failed`: it was accepted, and changed nothing, or not all of it."""

JOURNAL: Final = "audit"
FLUSH_SECONDS: Final = 1.0
SLOWEST_SECONDS: Final = 60.0
"""How often denied requests are written: the first, and under a flood ever less often down to the second."""
MOST: Final = 100
"""Entries of denied requests that are written at a time; the others are counted together by principal and action."""
OTHERS: Final = "(others)"
_NOBODY: Final = ""
_PAGE: Final = 1000
_ANCHOR: Final = re.compile(r"(\d{1,15}):([0-9a-f]{64})", re.ASCII)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody was let do, failed at, or was denied."""

    at: dt.datetime
    principal: Principal | None
    """None: nobody that is known."""
    action: str
    """A verb: `apply`, `push`, `key create`, `read online`."""
    resource: str
    """What it was about: `feature_group:user_spend`; several with commas; "" for nothing in particular."""
    outcome: Outcome
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else is to be known; secrets are taken out of it."""
    request_id: str = ""


class AuditLog:
    """The audit log of one project. Safe for several threads and processes.

    Args:
        journal: where it is kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._denied = _DeniedWriter(self._append)

    def record(self, event: Event) -> Entry:
        """Write an event; it is durable when this returns.

        Raises:
            StoreUnavailableError, ConflictError: it was not written.
        """
        (entry,) = self._append([_Counted(event)])
        return entry

    def denied(self, event: Event) -> None:
        """Count an event of outcome `denied`; a thread writes it within a second. Costs a few microseconds."""
        self._denied.count(event)

    @contextmanager
    def recording(
        self,
        principal: Principal | None,
        action: str,
        resource: str,
        *,
        at: dt.datetime,
        request_id: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Iterator[None]:
        """Around a change: it is in the log before it is made, and again if it fails (SEC-7).

        Args:
            principal: who makes it.
            action: a verb.
            resource: what is changed.
            at: when.
            request_id: of the request that asks for it.
            details: what else is to be known.

        Raises:
            StoreUnavailableError, ConflictError: the log cannot be written, so the change is not made.
            Exception: whatever the change raises.
        """
        accepted = Event(at, principal, action, resource, "accepted", details or {}, request_id)
        number = self.record(accepted).number
        try:
            yield
        except BaseException as error:
            refused = isinstance(error, ForbiddenError | UnauthenticatedError)
            about = {"accepted_as": number, "error": _error_text(error)}
            self._record_failure(replace(accepted, outcome="denied" if refused else "failed", details=about), error)
            raise

    def entries(
        self,
        *,
        since: dt.datetime | None = None,
        principal: str | None = None,
        action: str | None = None,
        denied: bool = False,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[Entry, ...]:
        """Entries, newest first. `data` has `principal` (an id), `name`, `kind`, `role`, `action`, `resource`,
        `outcome`, `details`, `request_id`, `count`, and of several alike `last_at`.

        Args:
            since: the earliest time, inclusive.
            principal: only of whoever has this id or name.
            action: only this verb.
            denied: only what was denied.
            limit: at most so many.
            before: only entries of a lower number: the next page.
        """
        self.flush()
        where: dict[str, str | int | bool] = {"action": action} if action is not None else {}
        if denied:
            where["outcome"] = "denied"
        if principal is None:
            return self._found(where, since, limit, before)
        found = {
            entry.number: entry
            for name in ("principal", "name")
            for entry in self._found({**where, name: principal}, since, limit, before)
        }
        return tuple(sorted(found.values(), key=lambda entry: -entry.number)[:limit])

    def verify(self, anchor: Anchor | None = None) -> Verification:
        """Read the whole log and find what was touched. See `grange.ports.journal.verify_journal`.

        Args:
            anchor: what `anchor` said once, kept elsewhere.
        """
        self.flush()
        return verify_journal(JOURNAL, every_entry(self._journal, JOURNAL), anchor=anchor)

    def anchor(self) -> Anchor | None:
        """Number and hash of the newest entry, to be kept where nobody can write who can write to the registry; None
        when there is none."""
        self.flush()
        head = self._journal.head(JOURNAL)
        return None if head is None else head.anchor

    def lines(self, *, after: int = 0) -> Iterator[str]:
        """The whole log as JSON lines, oldest first: all that is needed to verify it elsewhere."""
        self.flush()
        for entry in every_entry(self._journal, JOURNAL, after=after):
            yield json.dumps(entry_data(entry), ensure_ascii=False)

    def flush(self) -> None:
        """Write the denied requests that are counted and not written.

        Raises:
            StoreUnavailableError, ConflictError: they are still counted, and are written later.
        """
        self._denied.flush()

    def close(self) -> None:
        """Write what is left. Calling it twice is fine.

        Raises:
            StoreUnavailableError, ConflictError: it could not be written, and is lost; the standard log says what.
        """
        self._denied.close()

    def _append(self, counted: list[_Counted]) -> tuple[Entry, ...]:
        now = max(item.last_at for item in counted)
        return self._journal.append(JOURNAL, [item.fact() for item in counted], now=now)

    def _record_failure(self, event: Event, error: BaseException) -> None:
        try:
            self.record(event)
        except (StoreUnavailableError, ConflictError) as outage:
            # the failure itself is what the caller has to hear of; that it was accepted is in the log
            _log.error("%s of %s failed (%s), which the audit log has no entry of: %s", event.action, event.resource,
                       type(error).__name__, outage.message)  # fmt: skip

    def _found(
        self, where: Mapping[str, str | int | bool], since: dt.datetime | None, limit: int, before: int | None
    ) -> tuple[Entry, ...]:
        found: list[Entry] = []
        while len(found) < limit:
            page = self._journal.entries(JOURNAL, before=before, limit=_PAGE, where=where, newest_first=True)
            fitting = [entry for entry in page if since is None or entry.at >= since]
            found += fitting
            # clocks of several writers disagree a little: a page without any is far enough
            if len(page) < _PAGE or not fitting:
                break
            before = page[-1].number
        return tuple(found[:limit])


def entry_data(entry: Entry) -> dict[str, Any]:
    """An entry as plain data."""
    return {
        "number": entry.number,
        "at": isoformat(entry.at),
        "data": entry.data,
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def anchor_text(anchor: Anchor) -> str:
    """An anchor as `NUMBER:HASH`."""
    return f"{anchor.number}:{anchor.hash}"


def parse_anchor(text: str) -> Anchor:
    """The anchor that `anchor_text` wrote.

    Raises:
        RequestError: it is none.
    """
    match = _ANCHOR.fullmatch(text.strip())
    if match is None:
        raise RequestError("an anchor is NUMBER:HASH", found=repr(text)[:100], try_="grange audit --anchor")
    return Anchor(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class _Counted:
    """Events that are alike: the first of them, how many there are, and when the last one was."""

    event: Event
    count: int = 1
    latest: dt.datetime | None = None

    @property
    def last_at(self) -> dt.datetime:
        return self.latest or self.event.at

    def plus(self, other: _Counted) -> _Counted:
        return _Counted(self.event, self.count + other.count, max(self.last_at, other.last_at))

    def fact(self) -> dict[str, Any]:
        """What the journal gets."""
        event, who = self.event, self.event.principal
        fact: dict[str, Any] = {
            "principal": _NOBODY if who is None else who.id,
            "name": _NOBODY if who is None else who.name,
            "kind": _NOBODY if who is None else who.kind,
            "role": _NOBODY if who is None else who.role,
            "action": event.action,
            "resource": scrubbed_text(event.resource),
            "outcome": event.outcome,
            "details": scrubbed(event.details),
            "request_id": scrubbed_text(event.request_id),
            "count": self.count,
        }
        if self.count > 1:
            fact |= {"first_at": isoformat(event.at), "last_at": isoformat(self.last_at)}
        return fact


_Alike = tuple[str, str, str]
"""Principal, action, resource."""


class _DeniedWriter:
    """Counts denied requests, and writes them from a thread of its own. Its memory is bounded by `MOST`."""

    def __init__(self, append: Any) -> None:
        self._append = append
        self._counted: dict[_Alike, _Counted] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._flooded = False

    def count(self, event: Event) -> None:
        with self._lock:
            self._add(_Counted(event))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="grange-audit", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        with self._writing:  # of two that flush, the second returns when all is written
            with self._lock:
                taken, self._counted = self._counted, {}
                self._flooded = any(resource == OTHERS for _, _, resource in taken)
            if not taken:
                return
            try:
                self._append(list(taken.values()))
            except (StoreUnavailableError, ConflictError):
                with self._lock:
                    since, self._counted = self._counted, {}
                    for item in (*taken.values(), *since.values()):
                        self._add(item)
                raise

    def close(self) -> None:
        with self._lock:
            thread, self._closed = self._thread, True
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        try:
            self.flush()
        except (StoreUnavailableError, ConflictError) as outage:
            for item in self._counted.values():
                _log.error("not in the audit log: %s", json.dumps(item.fact()))
            self._counted = {}
            raise outage

    def _add(self, item: _Counted) -> None:
        """Count; the lock is held."""
        who = _NOBODY if item.event.principal is None else item.event.principal.id
        alike = (who, item.event.action, item.event.resource)
        if alike not in self._counted and len(self._counted) >= MOST:
            alike = (who, item.event.action, OTHERS)
            item = replace(item, event=replace(item.event, resource=OTHERS, details={}, request_id=""))
            if alike not in self._counted and len(self._counted) >= 2 * MOST:
                alike = (OTHERS, OTHERS, OTHERS)
                item = replace(item, event=replace(item.event, principal=None, action=OTHERS))
        before = self._counted.get(alike)
        self._counted[alike] = item if before is None else before.plus(item)

    def _run(self) -> None:
        pause, failing = FLUSH_SECONDS, False
        while not self._wake.wait(pause):
            try:
                self.flush()
            except (StoreUnavailableError, ConflictError) as outage:
                if not failing:
                    _log.error("denied requests cannot be written to the audit log for now: %s", outage.message)
                failing = True
            else:
                if failing:
                    _log.warning("denied requests are written to the audit log again")
                failing = False
            pause = min(SLOWEST_SECONDS, 2 * pause) if self._flooded or failing else FLUSH_SECONDS


def _error_text(error: BaseException) -> str:
    return f"{error.code} {error.message}" if isinstance(error, GrangeError) else type(error).__name__


__all__ = ["AuditLog", "Event", "Outcome", "anchor_text", "entry_data", "parse_anchor"]
