"""The project that `grange init` writes: small, the same each time, and running as it stands."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from grange.errors import RefusedError

COMMANDS: Final = (
    "grange plan",
    "grange apply",
    "grange materialize",
    "grange fg preview last_order",
    "grange fv read churn --spine data/labels.csv",
    "grange fv get churn --entry customer_id=007",
)
"""What to run next, in this order, in the project's folder."""

_TEMPLATES: Final = ("grange.toml", "features.py", "README.md")
_DATA: Final = ("data/orders.parquet", "data/profiles.csv", "data/labels.csv")
_FIRST_DAY: Final = dt.datetime(2025, 1, 1)  # noqa: DTZ001 - written as naive UTC, as most files have it
_CUSTOMERS: Final = tuple(f"{number:03}" for number in range(1, 21))


@dataclass(frozen=True, slots=True)
class Started:
    """A project that was written."""

    project: Path
    files: tuple[str, ...]
    """Relative to the project, in the order of reading."""
    commands: tuple[str, ...] = COMMANDS


def write_project(directory: Path) -> Started:
    """Write the project.

    Raises:
        RefusedError: one of its files, or a store, is there already; nothing was written.
    """
    folder = directory.expanduser().absolute()
    names = (*_TEMPLATES, *_DATA)
    there = [name for name in (*names, ".grange") if (folder / name).exists()]
    if there or (folder.exists() and not folder.is_dir()):
        raise RefusedError(
            f"there is something in {str(folder)!r} already",
            found=", ".join(there) or "a file",
            try_="grange init <another folder>",
        )
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for name, text in _texts(folder.name or "project").items():
            (folder / name).write_text(text, encoding="utf-8")
        _write_orders(folder / "data/orders.parquet")
        (folder / "data/profiles.csv").write_text(_profiles(), encoding="utf-8")
        (folder / "data/labels.csv").write_text(_labels(), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return Started(folder, names)


def _texts(project: str) -> Mapping[str, str]:
    """The files made of templates."""
    folder = files("grange.cli") / "templates"
    # a folder's name may hold anything; in TOML's and Python's text it may not
    name = "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in project)
    values = {"project": name, "commands": "\n".join(COMMANDS)}
    return {
        file: Template((folder / f"{file}.tmpl").read_text(encoding="utf-8")).substitute(values) for file in _TEMPLATES
    }


def _write_orders(path: Path) -> None:
    """Orders of three months; loaded the night after, and one with an amount that cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(2025)
    rows = []
    for _ in range(200):
        ordered = _FIRST_DAY + dt.timedelta(minutes=chance.randrange(90 * 24 * 60))
        items = 1 + chance.randrange(5)
        loaded = dt.datetime(ordered.year, ordered.month, ordered.day, 2) + dt.timedelta(days=1)  # noqa: DTZ001
        amount = round(items * (400 + chance.randrange(9_600)) / 100, 2)
        rows.append((chance.choice(_CUSTOMERS), ordered, loaded, amount, items))
    rows.sort(key=lambda row: (row[1], row[0]))
    rows[120] = (*rows[120][:3], -1.0, rows[120][4])
    columns = list(zip(*rows, strict=True))
    utc = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "customer_id": pa.array(columns[0], pa.string()),
            "ordered_at": pa.array(columns[1], pa.timestamp("us")).cast(utc),
            "loaded_at": pa.array(columns[2], pa.timestamp("us")).cast(utc),
            "amount": pa.array(columns[3], pa.float64()),
            "items": pa.array(columns[4], pa.int32()),
        }
    )
    pq.write_table(table, path)


def _profiles() -> str:
    """A profile per customer at the start, and a few changes of plan."""
    chance = random.Random(7)
    lines = ["customer_id,changed_at,country,plan"]
    countries = {customer: chance.choice(("DE", "FR", "PL", "SE")) for customer in _CUSTOMERS}
    for customer in _CUSTOMERS:
        plan = chance.choice(("free", "plus"))
        lines.append(f"{customer},{_FIRST_DAY.isoformat()}Z,{countries[customer]},{plan}")
    for day in range(10, 80, 7):
        customer = chance.choice(_CUSTOMERS)
        changed = _FIRST_DAY + dt.timedelta(days=day, hours=chance.randrange(24))
        lines.append(
            f"{customer},{changed.isoformat()}Z,{countries[customer]},{chance.choice(('free', 'plus', 'pro'))}"
        )
    return "\n".join(lines) + "\n"


def _labels() -> str:
    """A spine: whom, when, and what came of it."""
    chance = random.Random(11)
    lines = ["customer_id,event_time,churned"]
    for number in range(12):
        moment = _FIRST_DAY + dt.timedelta(days=20 + 5 * number, hours=9)
        lines.append(f"{chance.choice(_CUSTOMERS)},{moment.isoformat()}Z,{str(chance.random() < 0.3).lower()}")
    return "\n".join(lines) + "\n"
