"""`feature_store.yaml` as `grange.toml`, and notes on what does not go over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grange.compat.feast.values import Note, Place
from grange.errors import SourceError
from grange.frames import require

FILE: Final = "feature_store.yaml"
_SECRET: Final = re.compile(r"password|secret|token|key_?file", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """A project's settings."""

    project: str
    text: str
    """Of `grange.toml`."""
    notes: tuple[Note, ...]
    registry: str
    """Where Feast's own registry is, as it is said."""


def read_settings(file: Path, *, definitions: str) -> Settings:
    """Read a `feature_store.yaml`.

    Args:
        file: where it is.
        definitions: the name of the definition module, for `grange.toml`.

    Raises:
        SourceError: it is no YAML, or not what Feast takes.
        MissingDependencyError: the YAML parser is not installed.
    """
    yaml = require("yaml", extra="feast")
    text = file.read_text(encoding="utf-8")
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SourceError(f"{FILE} is no YAML", found=str(error).splitlines()[0]) from error
    if not isinstance(said, Mapping) or not isinstance(said.get("project"), str):
        raise SourceError(f"{FILE} says no project", found=type(said).__name__, try_="project: my_project")
    lines = _Lines(text)
    project = re.sub(r"[^\w .-]", "_", said["project"])
    sections, notes = _stores(said, lines)
    head = [f'project = "{project}"', f'definitions = ["{definitions}"]']
    body = "\n".join([*head, *(f"\n{section}" if section.startswith("[") else section for section in sections)])
    registry = said.get("registry", "")
    path = registry.get("path", "") if isinstance(registry, Mapping) else registry
    return Settings(project, f"{body}\n", tuple(notes), str(path))


class _Lines:
    """Where keys stand in the file."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def place(self, key: str) -> Place:
        """The first line that sets a key."""
        pattern = re.compile(rf"\s*{re.escape(key)}\s*:")
        found = next((number for number, line in enumerate(self._lines, 1) if pattern.match(line)), 1)
        return Place(FILE, found)


def _stores(said: Mapping[str, Any], lines: _Lines) -> tuple[list[str], list[Note]]:
    made: list[str] = []
    notes: list[Note] = []
    for part in (_engine(said, lines), _online(said, lines), _registry(said, lines), _others(said, lines)):
        for item in part:
            if isinstance(item, Note):
                notes.append(item)
            else:
                made.append(item)
    # settings of the file itself come before its sections
    return sorted(made, key=lambda section: section.startswith("[")), notes


def _typed(section: Any, default: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(section, Mapping):
        return str(section.get("type", default)), section
    return (str(section) if isinstance(section, str) else default), {}


def _engine(said: Mapping[str, Any], lines: _Lines) -> Iterator[str | Note]:
    kind, _ = _typed(said.get("offline_store"), "dask")
    if kind == "duckdb":
        yield 'engine = "duckdb"'
    elif kind not in ("dask", "file"):
        yield Note(
            lines.place("offline_store"),
            f"offline store {kind!r}: Grange keeps history in Parquet files of its own",
            "export the tables to Parquet; see `grange config show` for where history is kept",
        )


def _online(said: Mapping[str, Any], lines: _Lines) -> Iterator[str | Note]:
    kind, options = _typed(said.get("online_store"), "sqlite")
    if kind == "redis":
        yield from _redis(str(options.get("connection_string", "localhost:6379")), options, lines)
    elif kind not in ("sqlite", "none", "null"):
        yield Note(
            lines.place("online_store"),
            f"online store {kind!r} is none of Grange's",
            'the embedded one is used; of many machines: [online] type = "redis"',
        )
    if options.get("key_ttl_seconds"):
        yield Note(
            lines.place("key_ttl_seconds"), "rows expire by their group's ttl", 'or set expire = "30d" in [online]'
        )


def _redis(connection: str, options: Mapping[str, Any], lines: _Lines) -> Iterator[str | Note]:
    """Feast's `host:port,ssl=true,db=1` as the url that Redis' clients take. Passwords are not copied."""
    hosts = [part for part in connection.split(",") if "=" not in part and part]
    settings = dict(part.split("=", 1) for part in connection.split(",") if "=" in part)
    kind = str(options.get("redis_type", "redis"))
    scheme = "rediss" if settings.get("ssl", "").lower() == "true" else "redis"
    section = ["[online]", 'type = "redis"']
    if kind == "redis_sentinel":
        section.append("sentinels = [" + ", ".join(f'"{host}"' for host in hosts) + "]")
        section.append(f'master = "{options.get("sentinel_master", "mymaster")}"')
    else:
        section.append(f'url = "{scheme}://{hosts[0] if hosts else "localhost:6379"}/{settings.get("db", "0")}"')
    if kind == "redis_cluster":
        section.append("cluster = true")
    yield "\n".join(section)
    if any(_SECRET.search(key) for key in settings):
        yield Note(
            lines.place("connection_string"),
            "the password of Redis was not copied",
            "set it in the environment: GRANGE_ONLINE__PASSWORD",
        )


def _registry(said: Mapping[str, Any], lines: _Lines) -> Iterator[str | Note]:
    registry = said.get("registry")
    kind, options = _typed(registry, "file") if isinstance(registry, Mapping) else ("file", {})
    kind = str(options.get("registry_type", kind))
    if kind == "sql":
        url = str(options.get("path", ""))
        if url.startswith("postgres") and not re.search(r"//[^/@]*:[^/@]*@", url):
            plain = re.sub(r"^postgres\w*(\+\w+)?://", "postgresql://", url)
            yield f'[registry]\nurl = "{plain}"\nschema = "grange"'
            return
    if kind != "file":
        yield Note(
            lines.place("registry"),
            f"the registry of type {kind!r} was not taken over",
            "definitions are applied anew: SQLite in .grange/, or GRANGE_REGISTRY__URL=postgresql://...",
        )


def _others(said: Mapping[str, Any], lines: _Lines) -> Iterator[str | Note]:
    auth, _ = _typed(said.get("auth"), "no_auth")
    if auth != "no_auth":
        yield Note(
            lines.place("auth"),
            f"auth {auth!r} was not taken over",
            "keys: grange key create; tokens: [security] issuer",
        )
    for key in ("batch_engine", "feature_server", "materialization", "openlineage", "mlflow"):
        if said.get(key):
            yield Note(lines.place(key), f"{key} was not taken over", "grange config show lists Grange's settings")


__all__ = ["FILE", "Settings", "read_settings"]
