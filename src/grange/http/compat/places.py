"""Where raw rows of definitions that come over HTTP may be."""

from __future__ import annotations

from pathlib import Path

from grange.errors import ForbiddenError
from grange.http.trust import is_data


def check_data_path(path: str, *, what: str, project: Path) -> None:
    """Refuse files that are not data of the project.

    Raises:
        ForbiddenError: the path may lead elsewhere.
    """
    if not is_data(path, project):
        raise ForbiddenError(
            f"{what}: {path!r} is no data inside the project",
            found="a path over HTTP is relative, without .. and hidden folders, and ends like data or in /",
            try_='"source": {"path": "data/rows.parquet"}',
        )
