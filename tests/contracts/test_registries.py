"""Every registry that is installed keeps the contract."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tests.contracts.postgresql_server import missing, postgresql_server
from tests.unit.registries.old_registry import make_first

from grange.errors import UnsupportedError
from grange.ports.plugins import backends, create
from grange.ports.registry import RegistryState
from grange.testing.registry import (
    NOW,
    ODD_QUERIES,
    RegistryContract,
    column,
    created,
    deleted,
    found,
    group,
    record,
    run,
    updated,
)

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


@pytest.fixture
def options(recipe: tuple[str, str], tmp_path: Path, postgresql: Callable[[], str]) -> Iterator[Mapping[str, Any]]:
    """An empty registry of the recipe."""
    with RECIPES[recipe](tmp_path, postgresql) as made:
        yield made


def test_a_registry_of_the_first_schema_keeps_its_data_and_is_searched(options: Mapping[str, Any]) -> None:
    """What was applied before there was a search is found, and goes on being kept."""
    spend = group(columns=[column("amount", description="Paid in euros")], owner="payments")
    gone, user = record("gone"), record("user", description="A customer")
    engine = make_first(options["url"], [created(gone), created(spend)], [deleted(gone), created(user)], [run()])

    registry = create("registries", "sql", dict(options))
    assert registry.state() == RegistryState(2, (user, spend))
    assert [one.number for one in registry.revisions()] == [2, 1]
    assert registry.runs() == (run(),)
    assert found(registry.search("euros")) == ["user_spend:amount"]
    assert found(registry.search("", owner="payments")) == ["user_spend", "user_spend:amount"]
    assert found(registry.search("gone")) == []
    assert registry.documents("exports") == ()
    assert registry.next_number("exports") == 1

    assert registry.commit([updated(record("user", description="A visitor"))], expected_revision=2, now=NOW) == 3
    assert found(registry.search("visitor")) == ["user"]
    assert found(registry.search("customer")) == []
    registry.close()
    engine.dispose()


def test_a_migration_that_meets_the_tables_of_others_is_refused_and_changes_nothing(options: Mapping[str, Any]) -> None:
    engine = make_first(options["url"], [created(record("user"))])
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE uses (theirs TEXT)")
        connection.exec_driver_sql("INSERT INTO uses VALUES ('kept')")

    registry = create("registries", "sql", dict(options))
    with pytest.raises(UnsupportedError, match="not a Grange registry's"):
        registry.state()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT theirs FROM uses").scalar_one() == "kept"
        connection.exec_driver_sql("DROP TABLE uses")
    assert registry.state() == RegistryState(1, (record("user"),))
    registry.close()
    engine.dispose()


def test_postgresql_is_migrated_to_the_tables_of_the_code(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    """Columns with their collations, indexes and constraints, as PostgreSQL tells them."""
    from grange.registries.sql.migrations import VERSION_TABLE
    from grange.registries.sql.tables import METADATA

    def told(engine: sqlalchemy.Engine) -> list[tuple[Any, ...]]:
        of_mine = "table_schema = current_schema()"
        queries = (
            "SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default "
            f"FROM information_schema.columns WHERE {of_mine}",
            "SELECT tablename, indexname, replace(indexdef, current_schema(), '') FROM pg_indexes "
            "WHERE schemaname = current_schema()",
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace",
        )
        with engine.connect() as connection:
            rows = [tuple(row) for query in queries for row in connection.exec_driver_sql(query)]
        return sorted((row for row in rows if row[0] != VERSION_TABLE), key=repr)

    with _postgresql(tmp_path, postgresql) as migrated, _postgresql(tmp_path, postgresql) as made:
        registry = create("registries", "sql", migrated)
        registry.revision()
        registry.close()
        by_migrations, by_code = (sqlalchemy.create_engine(options["url"]) for options in (migrated, made))
        METADATA.create_all(by_code)
        assert told(by_migrations) == told(by_code)
        assert len(told(by_code)) > 50
        by_migrations.dispose()
        by_code.dispose()


def test_both_databases_find_the_same_in_the_same_order(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    """Scores, fields and excerpts too: the words and the order are made in one place."""
    words = ["user", "card", "amount", "payment", "merchant", "risk"]
    words += ["score", "session", "visit", "daily", "total", "mean"]
    made = [
        group(
            f"{words[number % 12]}_{words[number // 3 % 12]}_{number}",
            columns=[column(f"{one}_{number}", description=f"{words[-number % 12]} of {one}s") for one in words[:5]],
            description=" ".join(words[number % 7 : number % 7 + 5]),
            owner=words[number % 5],
            tags={"team": words[number % 4]},
        )
        for number in range(25)
    ]
    with _sqlite(tmp_path, postgresql) as one, _postgresql(tmp_path, postgresql) as other:
        registries = [create("registries", "sql", options) for options in (one, other)]
        for registry in registries:
            registry.commit([created(item) for item in made], expected_revision=0, now=NOW)
        queries = [*words, *(f"{a} {b[:3]}" for a in words for b in words), "payments", "", *ODD_QUERIES]
        for query in queries:
            first, second = (registry.search(query, limit=200) for registry in registries)
            assert first == second, query
        assert len(registries[0].search("user", limit=200)) > 20
        for registry in registries:
            registry.close()
