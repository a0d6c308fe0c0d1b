"""The `files` connector: which files hold a source's rows, or under which name the caller hands them in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import assert_never
from urllib.parse import unquote, urlsplit

from grange.connectors.files.paths import expand
from grange.definitions.sources import DerivedSource, FileSource, PushSource, Source, TableSource
from grange.errors import SourceError, UnsupportedError
from grange.plan.nodes import Input, Node, Scan
from grange.types import Schema

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class FilesConnector:
    """Resolves sources on disk and in memory. See `grange.ports.connector.Connector`. Reads no rows."""

    name = "files"

    def resolve(self, source: Source, *, project: Path, what: str) -> Node:
        """The node of a source's raw rows. See `Connector.resolve`.

        Raises:
            SourceError: no file, none that may be read, or a frame that another process held.
            UnsupportedError: a path on an object store or a server.
        """
        match source:
            case FileSource():
                return _scan(source, source.schema, project, what)
            case TableSource():
                return _frame(source, what)
            case PushSource(batch_source=None):
                return Input(source.name)
            case PushSource(batch_source=batch):
                assert batch is not None
                # what is pushed and what is in the files are the same columns, so either may say the types
                return _scan(batch, batch.schema or source.schema, project, what)
            case DerivedSource():
                raise SourceError(f"{what} is made of other groups, which lie in the offline store, not in files")
            case _:
                assert_never(source)


def _scan(source: FileSource, schema: Schema, project: Path, what: str) -> Scan:
    files = expand(_local(source.path, what), project.absolute(), source.format, what=what)
    return Scan(files=tuple(map(str, files)), format=source.format, schema=schema, separator=source.separator)


def _frame(source: TableSource, what: str) -> Input:
    if source.frame is None:
        raise SourceError(
            f"{what}: source {source.name!r} is a frame that another process held",
            try_="materialize it where the frame is, or keep the rows in a file: FileSource(...)",
        )
    return Input(source.name)


def _local(path: str, what: str) -> str:
    """A path without `file://`.

    Raises:
        UnsupportedError: a URL of another scheme.
    """
    match = _URL.match(path)
    if match is None:
        return path
    if match[1].lower() != "file":
        raise UnsupportedError(
            f"{what}: the files connector reads local paths, not {match[1]}://",
            found=path,
            try_="copy the files here, or mount the store as a folder",
        )
    return unquote(urlsplit(path).path)
