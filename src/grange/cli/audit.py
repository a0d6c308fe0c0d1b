"""`grange audit`: what was done, and what was denied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from grange.cli.key import moment_of, to_second, utc_now
from grange.cli.output import Table
from grange.cli.session import Session, command
from grange.errors import UsageError

if TYPE_CHECKING:
    from grange.ports.journal import Entry


def register(app: typer.Typer) -> None:
    """Put the command on the command line."""
    command(app, "audit")(audit)


def audit(
    session: Session,
    since: Annotated[
        str | None, typer.Option("--since", metavar="LENGTH|TIME", help="Only from then on: 24h, or 2026-11-21.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", metavar="NAME", help="Only of whoever has this name or id.")
    ] = None,
    action: Annotated[str | None, typer.Option("--action", metavar="VERB", help="Only this: push, key create.")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was denied.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Instead, find out whether anybody touched the log.")
    ] = False,
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Instead, number and hash of the newest entry, to be kept elsewhere.")
    ] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="NUMBER:HASH", help="With --verify: what --anchor said once.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Instead, the whole log as JSON lines, oldest first.")] = False,
) -> None:
    """Read the audit log: every change, and everything that was denied.

    --verify finds entries that were changed, removed, inserted or moved. That the newest ones were cut off, or all of
    it made anew, shows against an anchor that was kept where nobody can write who can write to the registry. Ends with
    1 when something is wrong.
    """
    if verify + anchor + lines > 1:
        raise UsageError("--verify, --anchor and --lines are three questions", try_="one of them")
    if against is not None and not verify:
        raise UsageError("--against is for --verify", try_="grange audit --verify --against NUMBER:HASH")
    if verify:
        _verify(session, against)
    elif anchor:
        _anchor(session)
    elif lines:
        with session.store() as store:
            found = list(store.security.audit.lines())
        session.out.show(found, *found)
    else:
        start = None if since is None else moment_of(since, utc_now(), what="--since", past=True)
        with session.store() as store:
            entries = store.security.audit.entries(
                since=start, principal=principal, action=action, denied=denied, limit=limit
            )
        _show(session, entries)


def _verify(session: Session, against: str | None) -> None:
    from grange.security.audit import anchor_text, parse_anchor

    anchor = None if against is None else parse_anchor(against)
    with session.store() as store:
        found = store.security.audit.verify(anchor)
    data = {
        "entries": found.entries,
        "is_intact": found.is_intact,
        "head": None if found.head is None else anchor_text(found.head),
        "findings": [
            {"fault": item.fault, "first": item.first, "last": item.last, "message": item.message}
            for item in found.findings
        ],
    }
    rows = [(item.fault.replace("_", " "), str(item.first), item.message) for item in found.findings]
    told = f"{found.entries:,} entries" if found.entries != 1 else "1 entry"
    session.out.show(data, Table(("fault", "entry", "what"), rows) if rows else f"{told}, as they were written")
    if not found.is_intact:
        raise typer.Exit(1)


def _anchor(session: Session) -> None:
    from grange.security.audit import anchor_text

    with session.store() as store:
        found = store.security.audit.anchor()
    text = None if found is None else anchor_text(found)
    session.out.show({"anchor": text}, text or "the audit log is empty")


def _show(session: Session, entries: Sequence[Entry]) -> None:
    from grange.security.audit import entry_data

    rows = [
        (
            str(entry.number),
            to_second(entry.at),
            str(entry.data.get("name") or "(unknown)"),
            str(entry.data.get("action", "")),
            str(entry.data.get("resource", "")),
            str(entry.data.get("outcome", "")) + _times(entry),
        )
        for entry in entries
    ]
    headers = ("number", "at", "who", "action", "resource", "outcome")
    table = Table(headers, rows, right=frozenset({"number"}), empty="nothing that fits is in the audit log")
    session.out.show([entry_data(entry) for entry in entries], table)


def _times(entry: Entry) -> str:
    count = entry.data.get("count", 1)
    return f" x{count}" if count != 1 else ""
