"""Every registry that is installed keeps the contract."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grange.ports.plugins import backends
from grange.testing.registry import RegistryContract

POSTGRESQL = "GRANGE_TEST_POSTGRESQL_URL"
"""Names a PostgreSQL database in which tests may make schemas: `postgresql://user:password@host/database`."""


@contextmanager
def _sqlite(folder: Path) -> Iterator[dict[str, Any]]:
    yield {"url": f"sqlite:///{folder / 'new folder' / 'registry.db'}"}


@contextmanager
def _postgresql(folder: Path) -> Iterator[dict[str, Any]]:
    """A schema of its own for each test."""
    url = os.environ.get(POSTGRESQL)
    if not url:
        pytest.skip(f"set {POSTGRESQL} to test on PostgreSQL")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")
    schema = f"grange_{uuid.uuid4().hex}"
    parsed = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(parsed)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        mine = parsed.update_query_dict({"options": f"-csearch_path={schema}"})
        yield {"url": mine.render_as_string(hide_password=False)}
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    finally:
        engine.dispose()


RECIPES: dict[tuple[str, str], Callable[[Path], Any]] = {
    ("sql", "sqlite"): _sqlite,
    ("sql", "postgresql"): _postgresql,
}
"""How to make an empty registry, by entry point and flavour."""


def test_every_registered_registry_is_tested() -> None:
    """A backend that is registered and has no recipe here would go untested."""
    assert set(backends("registries")) == {backend for backend, _ in RECIPES}


@pytest.fixture(params=sorted(RECIPES), ids="-".join)
def recipe(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which registry a test is about."""
    return request.param


class TestRegistries(RegistryContract):
    """The contract, for each."""

    @pytest.fixture
    def backend(self, recipe: tuple[str, str]) -> str:
        return recipe[0]

    @pytest.fixture
    def options(self, recipe: tuple[str, str], tmp_path: Path) -> Iterator[dict[str, Any]]:
        with RECIPES[recipe](tmp_path) as made:
            yield made
