"""A guarded store keeps every promise of the store that it guards, with all that it remembers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grange.ports.online import OnlineStore
from grange.ports.plugins import create
from grange.serving.guarding import guarded
from grange.testing.online import OnlineStoreContract, OpenStore


class TestGuarded(OnlineStoreContract):
    @pytest.fixture(params=["memory", "lmdb"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @pytest.fixture
    def options(self, backend: str, tmp_path: Path) -> dict[str, Any]:
        return {"root": tmp_path}

    @pytest.fixture
    def open_store(self, backend: str, options: dict[str, Any]) -> Iterator[OpenStore]:
        opened: list[OnlineStore] = []

        def open_() -> OnlineStore:
            made = create("online_stores", backend, options)
            # what other processes write behind its back is seen within the bound, not at once: it remembers nothing
            # of a store that it shares
            remembers = 60.0 if backend == "memory" else None
            opened.append(
                guarded(made, cache=remembers, cache_entries=1000, failures=5, pause=1.0, clock=time.monotonic)
            )
            return opened[-1]

        yield open_
        for made in opened:
            made.close()
