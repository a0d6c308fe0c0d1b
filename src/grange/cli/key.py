"""`grange key`: API keys."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.output import Table, details_parts, moment
from grange.cli.session import Session, YesOption, command, from_command_line

if TYPE_CHECKING:
    from grange.security import Security
    from grange.security.keys import KeyInfo, NewKey
    from grange.store import FeatureStore

app = typer.Typer(help="API keys: who may reach the server.", no_args_is_help=True, rich_markup_mode=None)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its id, its name, or its text.")]


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for; policies name it.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, editor, operator or admin.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="VERB[:NAME]", help="Narrows the role: serve:churn, write:user_*. Repeatable."),
    ] = None,
    team: Annotated[
        list[str] | None, typer.Option("--team", metavar="NAME", help="What policies call team:NAME. Repeatable.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="LENGTH|TIME", help="90d, or 2027-01-01; never when left out.")
    ] = None,
) -> None:
    """Make a key, and show it: the only time that it can be seen.

    Scopes: read, serve, write, operate, administer, each alone or with the name of a feature group or view.
    """
    now = utc_now()
    ends = None if expires is None else moment_of(expires, now, what="--expires")
    asked = {"role": role, "scopes": scope or ["*"], "expires_at": ends}
    with session.store() as store, recorded(store, "key create", f"key:{name}", now, **asked) as security:
        made = security.keys.create(
            name, role=role, scopes=scope or (), teams=team or (), expires_at=ends, created_by="local", now=now
        )
    _show_new(session, made, now)


@command(app, "list")
def list_(
    session: Session,
    all_: Annotated[bool, typer.Option("--all", help="Also those that work no longer.")] = False,
) -> None:
    """List the keys."""
    now = utc_now()
    with session.store() as store:
        keys = [info for info in store.security.keys.list() if all_ or info.state(now) == "active"]
    rows = [
        (
            info.id,
            info.name,
            info.role,
            " ".join(sorted(info.scopes)),
            info.state(now),
            to_second(info.expires_at),
            to_second(info.last_used_at),
        )
        for info in keys
    ]
    headers = ("id", "name", "role", "scopes", "state", "expires", "last used")
    session.out.show(
        [info.to_dict(now) for info in keys],
        Table(headers, rows, empty="no keys: grange key create NAME --role viewer", spare=("last used", "expires")),
    )


@command(app, "info")
def info(session: Session, key: KeyArgument) -> None:
    """Show what is known of a key. Its secret is not."""
    now = utc_now()
    with session.store() as store:
        found = store.security.keys.named(key, now=now)
    session.out.show(found.to_dict(now), *details_parts(found.to_dict(now)))


@command(app, "revoke")
def revoke(session: Session, key: KeyArgument, yes: YesOption = False) -> None:
    """Stop a key from working, for ever, everywhere within 5 seconds."""
    now = utc_now()
    with session.store() as store:
        found = store.security.keys.named(key, now=now)
        session.confirm(f"revoke key {found.id} ({found.name}, {found.role})", yes=yes)
        with recorded(store, "key revoke", f"key:{found.name}", now, key_id=found.id) as security:
            revoked = security.keys.revoke(found.id, now=now)
    session.out.show(revoked.to_dict(now), f"revoked {revoked.id} ({revoked.name})")


@command(app, "rotate")
def rotate(
    session: Session,
    key: KeyArgument,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="LENGTH", help="So long the old one goes on working; not at all without."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Make a key that takes another's place, and show it: same name, role, scopes and length of life."""
    now = utc_now()
    for_so_long = dt.timedelta(0) if grace is None else _length(grace)
    with session.store() as store:
        found = store.security.keys.named(key, now=now)
        if not for_so_long:
            session.confirm(f"rotate key {found.id} ({found.name}), which stops working at once", yes=yes)
        with recorded(store, "key rotate", f"key:{found.name}", now, key_id=found.id) as security:
            made = security.keys.rotate(found.id, grace=for_so_long, now=now)
    _show_new(session, made, now, replaced=found)


@contextmanager
def recorded(store: FeatureStore, action: str, resource: str, now: dt.datetime, **details: Any) -> Iterator[Security]:
    """The store's security, for one change that is in the audit log before it is made (SEC-7)."""
    from grange.security import LOCAL

    with store.security.audit.recording(LOCAL, action, resource, at=now, details=details):
        yield store.security


def utc_now() -> dt.datetime:
    """The time: the command line is where it is read."""
    return dt.datetime.now(dt.UTC)


def to_second(at: dt.datetime | None) -> str:
    """A time in a table of many columns; JSON has its microseconds."""
    return moment(at if at is None else at.replace(microsecond=0))


def _show_new(session: Session, made: NewKey, now: dt.datetime, *, replaced: KeyInfo | None = None) -> None:
    data = {"key": made.text, **made.info.to_dict(now)}
    session.out.show(data | ({} if replaced is None else {"replaces": replaced.id}), made.text)
    ends = "" if made.info.expires_at is None else f", until {to_second(made.info.expires_at)}"
    # beside the key and not among it: `grange key create ... > file` keeps the key alone
    print(f"key {made.info.id} of role {made.info.role}{ends}. Keep it now: it is never shown again.", file=sys.stderr)


def moment_of(text: str, now: dt.datetime, *, what: str, past: bool = False) -> dt.datetime:
    """A length from now (or before now), or a time."""
    from grange.types.time import to_utc

    if not text[-1:].isalpha() or text[-1:] in "zZ":
        return to_utc(text, what=what)
    return now - _length(text) if past else now + _length(text)


def _length(text: str) -> dt.timedelta:
    from grange.types.durations import parse_duration

    with from_command_line():
        return parse_duration(text)
