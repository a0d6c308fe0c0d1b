"""What is known of the `files` connector before it is loaded."""

from __future__ import annotations

import os

from grange.ports.connector import Connector
from grange.ports.plugins import Descriptor


def _make(*, root: str | os.PathLike[str] = ".") -> Connector:
    """The connector. It keeps no state; `root` is taken as every backend takes it, and each call names the project."""
    from grange.connectors.files.backend import FilesConnector

    return FilesConnector()


DESCRIPTOR = Descriptor(
    name="files",
    factory=_make,
    summary="Parquet, CSV and JSON Lines files, frames in memory, pushed rows",
    schemes=("FileSource", "TableSource", "PushSource"),
)
