"""Servers that several contracts are put to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.servers import s3 as servers


@pytest.fixture(scope="session")
def s3() -> Iterator[servers.S3Server]:
    """A running S3 server."""
    command = servers.missing()
    if command is not None:
        pytest.skip(f"needs an S3 server: {command}")
    with servers.s3_server() as server:
        yield server
