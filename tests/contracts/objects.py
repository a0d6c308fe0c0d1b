"""The stores that lie in object stores as well, for the contracts: each gets a place of its own on a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grange.ports.plugins import backends

SUFFIX = " on s3"


def on_objects() -> list[str]:
    """A parameter for each registered offline store that takes a URL for its path."""
    return [f"{name}{SUFFIX}" for name, known in sorted(backends("offline_stores").items()) if "cache" in known.options]


def backend_options(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    """The name of a store and the options that open it, from a parameter: in a folder, or on the S3 server."""
    if not request.param.endswith(SUFFIX):
        return request.param, {"root": str(folder)}
    server = request.getfixturevalue("s3")
    return request.param.removesuffix(SUFFIX), {"root": str(folder), "path": server.place(), **server.options}
