"""Every registered engine keeps the contract of engines."""

from __future__ import annotations

import pytest

from grange.ports.engine import Engine
from grange.testing.engines import EngineContract, engine_or_skip


class TestEngines(EngineContract):
    @pytest.fixture
    def engine(self, engine_name: str) -> Engine:
        return engine_or_skip(engine_name)
