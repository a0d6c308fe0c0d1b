"""`grange reseal`: what is sealed, under another key."""

from __future__ import annotations

from typing import Annotated

import typer

from grange.cli.key import recorded, utc_now
from grange.cli.output import Table, count
from grange.cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Put the command on the command line."""
    command(app, "reseal")(reseal)


def reseal(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES]...", help="Feature groups; all without.")
    ] = None,
) -> None:
    """Seal quarantined rows and online values anew, under the first key of the key ring.

    After a rotation, once every process has the new key: the old one can go when this has been through all groups.
    What is sealed under the first key already stays as it is, except window state, which is loaded from history each
    time. Stopped halfway, the same again does the rest.

    Ends with 1 when something online had to be left as it is.
    """
    with (
        session.store() as store,
        recorded(store, "reseal", ", ".join(names or ["*"]), utc_now()),
    ):
        done = store.reseal(names or None)
    headers = ("group", "quarantine", "online rows", "window keys")
    rows = [(each.group, count(each.quarantine), count(each.online_rows), count(each.online_keys)) for each in done]
    table = Table(headers, rows, right=frozenset(headers[1:]), empty="no feature groups")
    session.out.show([each.to_dict() for each in done], table)
    for each in done:
        for reason in each.left:
            session.out.warn(f"{each.group}: left as it is: {reason}")
    if any(each.left for each in done):
        raise typer.Exit(1)
