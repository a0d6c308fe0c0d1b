"""Every registry that is installed keeps the contract."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tests.servers.postgresql import OWN, missing, postgresql_url
from tests.unit.registries.old_registry import make_first

from grange.errors import ConfigError, CorruptStoreError, StoreUnavailableError, UnsupportedError
from grange.ports.journal import every_entry, verify_journal
from grange.ports.plugins import backends, create
from grange.ports.registry import Registry, RegistryState, Use
from grange.registries.sql.postgresql import PostgresqlOptions
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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """The URL of a PostgreSQL database; the first test that asks starts the server, for all."""
    with ExitStack() as stack:

        @cache
        def url() -> str:
            if OWN not in os.environ and (install := missing()) is not None:
                pytest.skip(f"PostgreSQL is not installed: {install}")
            return stack.enter_context(postgresql_url())

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
            "SELECT relname, tgname, replace(pg_get_triggerdef(pg_trigger.oid), current_schema(), '') FROM pg_trigger "
            "JOIN pg_class ON tgrelid = pg_class.oid AND relnamespace = current_schema()::regnamespace "
            "WHERE NOT tgisinternal",
            "SELECT proname, replace(pg_get_functiondef(oid), current_schema(), '') FROM pg_proc "
            "WHERE pronamespace = current_schema()::regnamespace",
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


# --- journals that somebody touches who can write to the database ----------------------------------------------

GUARDS = {
    "sqlite": [
        "DROP TRIGGER journal_entries_refuse_update",
        "DROP TRIGGER journal_entries_refuse_delete",
        "DROP TRIGGER journal_entries_refuse_replace",
    ],
    "postgresql": ["DROP TRIGGER journal_entries_refuse ON journal_entries"],
}
HEAD = 6
"""Entries of the journal that is touched."""


@pytest.fixture
def touched(options: Mapping[str, Any]) -> Iterator[tuple[Registry, sqlalchemy.Engine]]:
    """A registry with a journal of six entries, and a way into its database."""
    registry = create("registries", "sql", dict(options))
    for number in range(HEAD // 2):
        registry.append("audit", [{"n": number, "who": "u1"}, {"n": number, "who": "u2"}], now=NOW)
    engine = sqlalchemy.create_engine(options["url"])
    yield registry, engine
    engine.dispose()
    registry.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal_entries SET data = '{}' WHERE number = 2",
        "DELETE FROM journal_entries WHERE number = 2",
        "DELETE FROM journal_entries",
        "UPDATE journal_fields SET number = 1",
        "DELETE FROM journal_fields",
    ],
)
def test_a_database_refuses_to_change_a_journal(touched: tuple[Registry, sqlalchemy.Engine], statement: str) -> None:
    registry, engine = touched
    kept = registry.entries("audit")

    with pytest.raises(sqlalchemy.exc.DBAPIError, match="only added to"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert registry.entries("audit") == kept
    assert len(registry.entries("audit", where={"who": "u1"})) == HEAD // 2


@pytest.mark.parametrize(
    ("flavour", "statement"),
    [
        ("sqlite", "INSERT OR REPLACE INTO journal_entries SELECT journal, 2, at, data, previous_hash, hash "
                   "FROM journal_entries WHERE number = 3"),
        ("postgresql", "TRUNCATE journal_entries"),
        ("postgresql", "TRUNCATE journal_fields CASCADE"),
    ],
)  # fmt: skip
def test_other_ways_to_change_a_journal_are_refused_too(
    tmp_path: Path, postgresql: Callable[[], str], flavour: str, statement: str
) -> None:
    with RECIPES["sql", flavour](tmp_path, postgresql) as options:
        registry = create("registries", "sql", options)
        registry.append("audit", [{"n": number} for number in range(3)], now=NOW)
        engine = sqlalchemy.create_engine(options["url"])
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="only added to"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert len(registry.entries("audit")) == 3
        engine.dispose()
        registry.close()


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["UPDATE journal_entries SET data = '{\"n\":9}' WHERE number = 3"], {("changed", 3)}),
        (["UPDATE journal_entries SET at = at + 1 WHERE number = 6"], {("changed", 6)}),
        (["UPDATE journal_entries SET hash = previous_hash WHERE number = 3"], {("changed", 3), ("replaced", 3)}),
        (["DELETE FROM journal_entries WHERE number = 3"], {("removed", 3)}),
        (["DELETE FROM journal_entries WHERE number > 4"], {("cut_off", 5)}),
        (["DELETE FROM journal_entries"], {("cut_off", 1)}),
        (
            [
                "UPDATE journal_entries SET number = 100 WHERE number = 3",
                "UPDATE journal_entries SET number = 3 WHERE number = 4",
                "UPDATE journal_entries SET number = 4 WHERE number = 100",
            ],
            {("changed", 3), ("changed", 4)},
        ),
        (
            [
                "INSERT INTO journal_entries SELECT journal, 7, at, data, previous_hash, hash FROM journal_entries "
                "WHERE number = 6"
            ],
            {("changed", 7)},
        ),
        (
            [
                "UPDATE journal_entries SET number = number + 100 WHERE number > 3",
                "INSERT INTO journal_entries SELECT journal, 4, at, data, previous_hash, hash FROM journal_entries "
                "WHERE number = 1",
                "UPDATE journal_entries SET number = number - 99 WHERE number > 100",
            ],
            {("changed", number) for number in range(4, 8)},
        ),
    ],
)
def test_what_is_done_to_a_journal_is_found(
    touched: tuple[Registry, sqlalchemy.Engine], statements: list[str], expected: set[tuple[str, int]]
) -> None:
    """The triggers are gone, as for anybody who owns the tables."""
    registry, engine = touched
    head = registry.head("audit")
    assert head is not None and head.number == HEAD
    with engine.begin() as connection:
        for statement in (*GUARDS[engine.dialect.name], *statements):
            connection.exec_driver_sql(statement)

    found = verify_journal("audit", every_entry(registry, "audit"), anchor=head.anchor)
    assert {(finding.fault, finding.first) for finding in found.findings} >= expected
    assert {finding.first for finding in found.findings} == {number for _, number in expected}


@pytest.mark.parametrize(
    "change", ["data = '{'", "data = '[1]'", f"data = '{'[' * 100_000}'", "at = 9223372036854775807"]
)
def test_an_entry_that_is_none_is_named(touched: tuple[Registry, sqlalchemy.Engine], change: str) -> None:
    registry, engine = touched
    with engine.begin() as connection:
        for statement in (*GUARDS[engine.dialect.name], f"UPDATE journal_entries SET {change} WHERE number = 3"):
            connection.exec_driver_sql(statement)

    with pytest.raises(CorruptStoreError, match="entry 3 of journal 'audit'"):
        registry.entries("audit")
    assert len(registry.entries("audit", after=3)) == 3


# --- PostgreSQL: schemas, pools, timeouts ------------------------------------------------------------------------


@contextmanager
def _opened(url: str, **options: Any) -> Iterator[Registry]:
    registry = create("registries", "sql", {"url": url, **options})
    try:
        yield registry
    finally:
        registry.close()


def _schemas(url: str) -> set[str]:
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        found = set(connection.exec_driver_sql("SELECT nspname FROM pg_namespace").scalars())
    engine.dispose()
    return found


@pytest.fixture
def names(postgresql: Callable[[], str]) -> Iterator[list[str]]:
    """Names of schemas that are not there; they are gone afterwards."""
    made = [f"grange_{uuid.uuid4().hex}" for _ in range(2)]
    yield made
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(postgresql()).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for name in made:
            connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    engine.dispose()


def test_two_projects_in_one_database_see_nothing_of_each_other(
    postgresql: Callable[[], str], names: list[str]
) -> None:
    with _opened(postgresql(), schema=names[0]) as one, _opened(postgresql(), schema=names[1]) as other:
        assert not _schemas(postgresql()) & set(names), "a schema is made at first use"
        one.commit([created(group(owner="payments"))], expected_revision=0, now=NOW)
        one.record_run(run())
        one.put("exports", "e", {"n": 1}, now=NOW)
        one.next_number("exports")
        one.count_uses([Use("entity", "user", "", "read")], now=NOW)
        one.append("audit", [{"who": "u1"}], now=NOW)

        assert other.state() == RegistryState(0, ())
        assert other.revisions() == other.runs() == other.uses() == other.search("") == ()
        assert other.documents("exports") == other.entries("audit") == ()
        assert other.commit([created(record())], expected_revision=0, now=NOW) == 1
        assert other.next_number("exports") == 1
        assert other.append("audit", [{"who": "u2"}], now=NOW)[0].number == 1
        assert [entry.data for entry in one.entries("audit")] == [{"who": "u1"}]
        assert one.state().records == (group(owner="payments"),)
    assert set(names) <= _schemas(postgresql())


def test_a_schema_is_found_again_and_made_once(postgresql: Callable[[], str], names: list[str]) -> None:
    """Several handles race to make it."""
    handles = [create("registries", "sql", {"url": postgresql(), "schema": names[0]}) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda registry: registry.next_number("exports"), handles))
    for registry in handles:
        registry.close()
    assert sorted(taken) == [1, 2, 3, 4]


def test_a_user_who_may_not_make_schemas_uses_one_that_is_there(
    postgresql: Callable[[], str], names: list[str]
) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(postgresql()).set(drivername="postgresql+psycopg"))
    user = names[0]
    with engine.begin() as connection:
        for statement in (f"CREATE USER {user}", f"CREATE SCHEMA {user} AUTHORIZATION {user}"):
            connection.exec_driver_sql(statement)
    url = sqlalchemy.make_url(postgresql()).set(username=user).render_as_string(hide_password=False)
    with _opened(url, schema=user) as allowed:
        assert allowed.next_number("exports") == 1
    with (
        _opened(url, schema=names[1]) as refused,
        pytest.raises(StoreUnavailableError, match="cannot be used") as caught,
    ):
        refused.revision()
    assert "CREATE" in (caught.value.try_ or "")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {user} CASCADE")
        connection.exec_driver_sql(f"DROP USER {user}")
    engine.dispose()


def test_a_schema_that_a_pooler_drops_is_refused(
    postgresql: Callable[[], str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables would lie in another project's schema."""
    monkeypatch.setattr(PostgresqlOptions, "server_settings", "-cstatement_timeout=1000")
    with _opened(postgresql(), schema=names[0]) as registry, pytest.raises(ConfigError, match="does not use"):
        registry.revision()


@pytest.mark.parametrize(
    "options",
    [
        *({"schema": name} for name in ("", "A", "a-b", "a b", "a;b", 'a"b', "a.b", "pg_a", "1a", "ä", "a" * 64, 7)),
        *({"pool_size": value} for value in (0, -1, 1.5, True, "5")),
        *({"max_connections": value} for value in (0, 4, True, "9")),
        *({name: value} for name in ("pool_timeout", "statement_timeout") for value in (-1, "30s", True, 1e9)),
    ],
    ids=str,
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        create("registries", "sql", {"url": "postgresql://user@host/db", **options})


def test_sqlite_has_none_of_these_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PostgreSQL"):
        create("registries", "sql", {"url": "sqlite:///registry.db", "root": tmp_path, "schema": "shop"})


def test_a_statement_that_takes_too_long_is_an_outage(postgresql: Callable[[], str], names: list[str]) -> None:
    """Somebody holds a lock; reading and writing end in time, and work again when it is gone."""
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(postgresql()).set(drivername="postgresql+psycopg"))
    with _opened(postgresql(), schema=names[0], statement_timeout=0.1) as registry:
        registry.append("audit", [{"n": 1}], now=NOW)
        with engine.begin() as other:
            other.exec_driver_sql(f"LOCK TABLE {names[0]}.journal_entries IN ACCESS EXCLUSIVE MODE")
            for ask in (lambda: registry.head("audit"), lambda: registry.append("audit", [{"n": 2}], now=NOW)):
                with pytest.raises(StoreUnavailableError, match="in time"):
                    ask()
        assert [entry.number for entry in registry.append("audit", [{"n": 2}], now=NOW)] == [2]
    engine.dispose()


def test_connections_are_limited(postgresql: Callable[[], str], names: list[str]) -> None:
    limits = {"pool_size": 1, "max_connections": 1, "pool_timeout": 0.1}
    with _opened(postgresql(), schema=names[0], **limits) as registry:
        registry.revision()
        with registry._database.reading(), pytest.raises(StoreUnavailableError, match="got free"):
            registry.revision()
        assert registry.revision() == 0


def test_parameters_of_the_url_are_kept(postgresql: Callable[[], str], names: list[str]) -> None:
    """What the url asks for stays beside what the options ask for."""
    url = sqlalchemy.make_url(postgresql()).update_query_dict({"options": "-c geqo=off", "application_name": "shop"})
    with _opened(url.render_as_string(hide_password=False), schema=names[0]) as registry:
        with registry._database.reading() as connection:
            asked = ("geqo", "application_name", "search_path", "statement_timeout")
            told = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in asked]
        assert told == ["off", "shop", names[0], "1min"]


def test_a_server_without_tls_is_refused_where_the_url_wants_it(postgresql: Callable[[], str]) -> None:
    url = sqlalchemy.make_url(postgresql()).update_query_dict({"sslmode": "require"})
    with (
        _opened(url.render_as_string(hide_password=False)) as registry,
        pytest.raises(StoreUnavailableError, match="reached"),
    ):
        registry.revision()
