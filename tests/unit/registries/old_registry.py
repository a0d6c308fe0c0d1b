"""A registry as the first schema had it, with rows as they were written then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config

from grange.ports.registry import Change, Run
from grange.testing.registry import NOW
from grange.types.time import to_micros


def make_first(url: str, *commits: Sequence[Change] | Sequence[Run]) -> sqlalchemy.Engine:
    """Make the tables of schema 0001 and fill them with commits and runs. The caller disposes of the engine."""
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(parsed)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "grange.registries.sql:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for number, items in enumerate(commits, start=1):
            for position, item in enumerate(items):
                if isinstance(item, Run):
                    _add_run(connection, item)
                else:
                    _add_change(connection, number, position, item)
    return engine


def _add_change(connection: sqlalchemy.Connection, number: int, position: int, change: Change) -> None:
    record = change.record
    row = {
        "revision": number,
        "position": position,
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "fingerprint": None if record is None else record.fingerprint,
        "definition": None if record is None else json.dumps(record.definition),
    }
    if position == 0:
        _insert(connection, "revisions", {"number": number, "at": to_micros(NOW)})
    _insert(connection, "changes", row)
    connection.execute(sqlalchemy.text("DELETE FROM definitions WHERE kind = :kind AND name = :name"), row)
    if record is not None:
        _insert(connection, "definitions", {key: row[key] for key in row if key not in ("position", "action")})


def _add_run(connection: sqlalchemy.Connection, run: Run) -> None:
    row = {
        "group_name": run.group,
        "version": run.version,
        "verb": run.verb,
        "started_at": to_micros(run.started_at),
        "ended_at": to_micros(run.ended_at),
        "rows": run.rows,
        "details": json.dumps(run.details),
    }
    _insert(connection, "runs", row)


def _insert(connection: sqlalchemy.Connection, table: str, row: dict[str, object]) -> None:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(sqlalchemy.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
