"""A real registry in a file, and one that can be cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.security.parts import CutOff

from grange.ports.plugins import create
from grange.ports.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made: Registry = create("registries", "sql", {"root": tmp_path, "url": "sqlite:///registry.db"})
    yield made
    made.close()


@pytest.fixture
def cut_off(registry: Registry) -> CutOff:
    return CutOff(registry)
