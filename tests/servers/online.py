"""Options of empty online stores, one for every backend that is registered, on every server that it can have."""

from __future__ import annotations

import atexit
import functools
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.servers import valkey

from grange.ports.plugins import backends

SERVED = {"redis": ("redis-valkey", "redis-redis", "redis-cluster")}
"""Backends that need a server, and the kinds of servers they are proven on."""


def online_stores() -> list[str]:
    """The names of what tests of all online stores are run with; see `backend_of` and `options_in`."""
    return [name for backend in sorted(backends("online_stores")) for name in SERVED.get(backend, (backend,))]


def backend_of(name: str) -> str:
    """The entry point of one of `online_stores`."""
    return next((backend for backend, names in SERVED.items() if name in names), name)


def options_in(name: str, folder: Path) -> dict[str, Any]:
    """Options of an empty store; what it keeps on disk is in the folder. Skips the test when its server is missing."""
    if name not in SERVED["redis"]:
        known = backends("online_stores")[name].options
        return {"path": str(folder / "online")} if "path" in known else {"root": str(folder)}
    kind = "redis" if name == "redis-redis" else "valkey"
    if reason := valkey.missing(kind):
        pytest.skip(reason)
    # what is slow is the machine, not the server
    options = {"namespace": f"test-{secrets.token_hex(6)}", "timeout": 30.0}
    return options | ({"url": _cluster().url, "cluster": True} if name == "redis-cluster" else {"url": _server(kind)})


@functools.cache
def _server(kind: str) -> str:
    """One server for all tests of a process; namespaces keep them apart."""
    return _until_the_end().enter_context(valkey.server(kind)).url


@functools.cache
def _cluster() -> valkey.Cluster:
    return _until_the_end().enter_context(valkey.cluster())


@functools.cache
def _until_the_end() -> ExitStack:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack
