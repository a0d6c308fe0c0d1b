"""Every registry that is installed keeps the contract."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tests.contracts.postgresql_server import missing, postgresql_server

from grange.ports.plugins import backends
from grange.testing.registry import RegistryContract

POSTGRESQL = "GRANGE_TEST_POSTGRESQL_URL"
"""Names a PostgreSQL database to use instead of a server of the tests' own."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """The URL of a PostgreSQL database; the first test that asks starts the server, for all."""
    with ExitStack() as stack:

        @cache
        def url() -> str:
            given = os.environ.get(POSTGRESQL)
            if not given and (install := missing()) is not None:
                pytest.skip(f"PostgreSQL is not installed: {install}")
            return given or stack.enter_context(postgresql_server())

        yield url


@contextmanager
def _sqlite(folder: Path, _: Callable[[], str]) -> Iterator[dict[str, Any]]:
    yield {"url": f"sqlite:///{folder / 'new folder' / 'registry.db'}"}


@contextmanager
def _postgresql(_: Path, url: Callable[[], str]) -> Iterator[dict[str, Any]]:
    """A schema of its own for each test."""
    schema = f"grange_{uuid.uuid4().hex}"
    parsed = sqlalchemy.make_url(url()).set(drivername="postgresql+psycopg")
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


RECIPES: dict[tuple[str, str], Callable[[Path, Callable[[], str]], Any]] = {
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
    def options(
        self, recipe: tuple[str, str], tmp_path: Path, postgresql: Callable[[], str]
    ) -> Iterator[dict[str, Any]]:
        with RECIPES[recipe](tmp_path, postgresql) as made:
            yield made
