"""What the SQL registry promises beyond the contract: its files, its failures, its migrations."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from tests.unit.registries.old_registry import make_first

from grange.errors import (
    ConfigError,
    ConflictError,
    CorruptStoreError,
    MissingDependencyError,
    RequestError,
    StorageFullError,
    StoreUnavailableError,
    UnsupportedError,
)
from grange.ports.plugins import create
from grange.ports.registry import RegistryState, Use
from grange.registries.sql import migrations
from grange.registries.sql.backend import SqlRegistry
from grange.registries.sql.sqlite import SqliteDatabase
from grange.testing.registry import NOW, created, deleted, record, run, updated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the registry's file is, or will be."""
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[SqlRegistry]:
    """A registry with one entity, `user`, at revision 1."""
    made = SqlRegistry(f"sqlite:///{path}?timeout=0.05")
    made.commit([created(record())], expected_revision=0, now=NOW)
    yield made
    made.close()


def ask_everything(registry: SqlRegistry) -> list[Any]:
    """Calls that must fail alike, whatever is asked first."""
    return [
        registry.revision,
        registry.state,
        registry.revisions,
        registry.runs,
        lambda: registry.record_run(run()),
        lambda: registry.commit([created(record("seat"))], expected_revision=1, now=NOW),
        lambda: registry.search("user"),
        lambda: registry.put("exports", "e", {}, now=NOW),
        lambda: registry.get("exports", "e"),
        lambda: registry.documents("exports"),
        lambda: registry.remove("exports", "e"),
        lambda: registry.next_number("exports"),
        lambda: registry.count_uses([Use("entity", "user", "", "read")], now=NOW),
        registry.uses,
        lambda: registry.append("audit", [{"who": "u1"}], now=NOW),
        lambda: registry.entries("audit", where={"who": "u1"}),
        lambda: registry.head("audit"),
    ]


def in_new_process(code: str, *arguments: str) -> str:
    """Run code in a process of its own; what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# --- where it is ---------------------------------------------------------------------------------------------


def test_a_relative_path_lies_in_the_project_and_its_folder_is_made(tmp_path: Path) -> None:
    registry = create("registries", "sql", {"url": "sqlite:///.grange/deep/registry.db", "root": tmp_path})
    assert not (tmp_path / ".grange").exists()

    assert registry.revision() == 0
    assert (tmp_path / ".grange/deep/registry.db").is_file()
    registry.close()


def test_an_absolute_path_stays_where_it_is(path: Path, tmp_path: Path) -> None:
    with closing(SqlRegistry(f"sqlite:///{path}", root=tmp_path / "elsewhere")) as registry:
        registry.revision()

    assert path.is_file()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:memory?mode=memory",
        "sqlite+aiosqlite:///registry.db",
        "mysql://user@host/db",
        "registry.db",
        "",
        "sqlite:///registry.db?timeuot=1",
        "sqlite:///registry.db?timeout=soon",
        "sqlite:///registry.db?timeout=-1",
        "sqlite:///registry.db?timeout=nan",
        "postgresql://user@host:port/db",
    ],
)
def test_a_url_that_is_no_database_for_it_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        SqlRegistry(url)


def test_errors_and_repr_never_show_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        SqlRegistry("postgresql://user:hunter2@host:nonsense/db")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(SqlRegistry("postgresql://user:hunter2@host/db"))


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(MissingDependencyError, match="pip install"):
        SqlRegistry("postgresql://user@host/db").revision()


def test_a_postgresql_server_that_does_not_run_is_an_outage() -> None:
    """Port 1 is nobody's; the password is not told."""
    pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")

    with pytest.raises(StoreUnavailableError) as caught:
        SqlRegistry("postgresql://user:hunter2@127.0.0.1:1/db").revision()
    assert "hunter2" not in str(caught.value)


# --- drivers are loaded late ---------------------------------------------------------------------------------


def test_the_descriptor_loads_no_driver() -> None:
    loaded = in_new_process(
        """
        import sys
        from grange.registries.sql.descriptor import DESCRIPTOR
        print(sorted({"sqlalchemy", "alembic", "sqlite3"} & set(sys.modules)))
        """
    )

    assert loaded == "[]"


def test_alembic_is_loaded_only_to_migrate(registry: SqlRegistry, path: Path) -> None:
    loaded = in_new_process(
        """
        import sys
        from grange.registries.sql.backend import SqlRegistry
        registry = SqlRegistry("sqlite:///" + sys.argv[1])
        print(registry.revision(), len(registry.state().records), "alembic" in sys.modules)
        """,
        str(path),
    )

    assert loaded == "1 1 False"


# --- SQLite's settings and kept connections ------------------------------------------------------------------


def test_every_connection_has_the_settings(registry: SqlRegistry) -> None:
    with registry._database.writing() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }

    assert settings == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 50}


def test_a_reader_does_not_wait_for_a_writer(registry: SqlRegistry) -> None:
    with registry._database.writing():
        assert registry.revision() == 1
        assert registry.state().revision == 1


def test_history_keeps_each_definition(registry: SqlRegistry, path: Path) -> None:
    """`changes` alone says what was applied at any revision."""
    registry.commit([updated(record("user", n=2))], expected_revision=1, now=NOW)
    registry.commit([deleted(record("user"))], expected_revision=2, now=NOW)

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT revision, action, definition, fingerprint FROM changes ORDER BY revision")
        told = [(revision, action, text and json.loads(text), mark) for revision, action, text, mark in rows]
    first, second = record("user"), record("user", n=2)
    assert told == [
        (1, "create", first.definition, first.fingerprint),
        (2, "update", second.definition, second.fingerprint),
        (3, "delete", None, None),
    ]


def test_a_file_put_in_its_place_is_read_from_then_on(registry: SqlRegistry, path: Path, tmp_path: Path) -> None:
    """As restoring a backup does; the old file is still open and would answer for ever."""
    other = tmp_path / "backup.db"
    with closing(SqlRegistry(f"sqlite:///{other}")) as backup:
        for number in range(3):
            backup.commit([created(record(f"e{number}"))], expected_revision=number, now=NOW)
    assert registry.revision() == 1
    for leftover in ("registry.db-wal", "registry.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    other.rename(path)

    assert registry.revision() == 3
    assert [one.name for one in registry.state().records] == ["e0", "e1", "e2"]


def test_a_file_that_vanished_is_an_outage_not_an_empty_registry(registry: SqlRegistry, path: Path) -> None:
    """ONL-6: what was applied does not read as nothing."""
    registry.revision()
    path.unlink()

    for ask in ask_everything(registry):
        with pytest.raises(StoreUnavailableError, match="is gone"):
            ask()
    assert not path.exists()


def test_after_close_the_next_use_opens_again(registry: SqlRegistry) -> None:
    registry.close()

    assert registry.revision() == 1
    assert registry.state().records == (record(),)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="never: there is no fork on this platform")
def test_a_forked_child_has_connections_of_its_own(registry: SqlRegistry, path: Path) -> None:
    """A connection used on both sides of a fork corrupts the file."""
    printed = in_new_process(
        """
        import os, sys
        from grange.registries.sql.backend import SqlRegistry
        from grange.testing.registry import NOW, created, record
        registry = SqlRegistry("sqlite:///" + sys.argv[1])
        registry.revision(), registry.state()
        inherited = registry._database._reader, registry._database._engine
        child = os.fork()
        if child == 0:
            assert registry._database._reader is None and registry._database._engine is None
            registry.commit([created(record("of_child"))], expected_revision=1, now=NOW)
            registry.close()
            os._exit(registry.revision())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert (registry._database._reader, registry._database._engine) == inherited
        print(registry.revision(), registry.commit([created(record("of_parent"))], expected_revision=2, now=NOW))
        """,
        str(path),
    )

    assert printed == "2 3"
    assert [one.name for one in registry.state().records] == ["of_child", "of_parent", "user"]


def test_a_process_killed_within_a_commit_leaves_nothing_of_it(registry: SqlRegistry, path: Path) -> None:
    killed = in_new_process(
        """
        import os, signal, sys
        from grange.registries.sql import backend
        from grange.testing.registry import NOW, created, record
        registry = backend.SqlRegistry("sqlite:///" + sys.argv[1])
        child = os.fork()
        if child == 0:
            def die(connection, *rest):
                # more than the page cache holds, so that uncommitted pages are in the file already
                connection.exec_driver_sql(
                    "INSERT INTO runs VALUES (1, 'g', 'v', 'verb', 0, 0, 0, hex(zeroblob(4000000)))"
                )
                os.kill(os.getpid(), signal.SIGKILL)
            backend._replace_definitions = die
            registry.commit([created(record("half"))], expected_revision=1, now=NOW)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        str(path),
    )

    assert killed == "-9"
    assert path.with_name("registry.db-wal").stat().st_size > 4_000_000
    assert registry.state() == RegistryState(1, (record(),))
    assert len(registry.revisions()) == 1
    assert registry.commit([created(record("whole"))], expected_revision=1, now=NOW) == 2


def test_a_process_killed_within_a_put_leaves_nothing_of_it(registry: SqlRegistry, path: Path) -> None:
    """The document is written and its old fields are gone when it dies, before its new fields are there."""
    registry.put("exports", "e", {"n": 1}, now=NOW)
    killed = in_new_process(
        """
        import os, signal, sys
        from grange.registries.sql import backend, documents
        from grange.testing.registry import NOW
        registry = backend.SqlRegistry("sqlite:///" + sys.argv[1])
        child = os.fork()
        if child == 0:
            documents.mark = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            registry.put("exports", "e", {"n": 2}, now=NOW)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        str(path),
    )

    assert killed == "-9"
    assert [one.data for one in registry.documents("exports", where={"n": 1})] == [{"n": 1}]
    registry.put("exports", "e", {"n": 2}, now=NOW, expected="present")


def test_a_search_that_cannot_be_indexed_takes_the_commit_with_it(
    registry: SqlRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="in the middle"):
        patch.setattr("grange.registries.sql.searching.index", fail)
        registry.commit([created(record("seat")), deleted(record("user"))], expected_revision=1, now=NOW)
    assert registry.state() == RegistryState(1, (record(),))
    assert [hit.name for hit in registry.search("")] == ["user"]


# --- failures ------------------------------------------------------------------------------------------------


def assert_corrupt(registry: SqlRegistry, path: Path) -> None:
    """Every call names the file and says what to do."""
    for ask in ask_everything(registry):
        with pytest.raises(CorruptStoreError) as caught:
            ask()
        assert str(path) in caught.value.message
        assert "restore a backup" in (caught.value.try_ or "")


def test_a_file_that_is_no_database_is_corrupt(path: Path) -> None:
    path.write_text("# notes about the registry\n" * 100)

    with closing(SqlRegistry(f"sqlite:///{path}")) as registry:
        assert_corrupt(registry, path)
    assert path.read_text().startswith("# notes")


def test_an_emptied_file_beside_its_log_is_corrupt_and_the_log_is_kept(registry: SqlRegistry, path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    kept = log.read_bytes()
    registry.close()
    path.write_bytes(b"")
    log.write_bytes(kept)

    reopened = SqlRegistry(f"sqlite:///{path}")
    for ask in ask_everything(reopened):
        with pytest.raises(CorruptStoreError, match="cannot be read"):
            ask()
    assert kept and log.read_bytes() == kept


def test_a_file_of_no_bytes_is_a_new_registry(path: Path) -> None:
    path.touch()
    fresh = SqlRegistry(f"sqlite:///{path}")
    assert fresh.revision() == 0
    fresh.close()


def test_a_malformed_file_is_corrupt(registry: SqlRegistry, path: Path) -> None:
    registry.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    assert_corrupt(registry, path)


def test_missing_tables_are_corrupt(registry: SqlRegistry, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        tables = "runs definitions changes revisions search_words search_marks search_entries document_fields documents"
        for table in [*tables.split(), "sequences", "uses", "journal_entries", "journal_fields"]:
            connection.execute(f"DROP TABLE {table}")

    assert_corrupt(registry, path)


@pytest.mark.parametrize("text", ["{", "[1]", "null", ""])
def test_a_definition_that_cannot_be_read_is_named(registry: SqlRegistry, path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE definitions SET definition = ?", [text])

    with pytest.raises(CorruptStoreError, match="entity 'user' in the registry"):
        registry.state()


def test_text_that_is_no_utf8_is_corrupt(registry: SqlRegistry, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE definitions SET definition = CAST(x'7bff7d' AS TEXT)")

    with pytest.raises(CorruptStoreError):
        registry.state()


def test_locked_for_longer_than_the_timeout_is_a_conflict(registry: SqlRegistry, path: Path) -> None:
    """Reading still works; a retry after the lock is gone succeeds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConflictError, match="locked") as caught:
            registry.commit([created(record("seat"))], expected_revision=1, now=NOW)
        assert caught.value.retry
        assert registry.state().revision == 1
        other.execute("ROLLBACK")

    assert registry.commit([created(record("seat"))], expected_revision=1, now=NOW) == 2


def test_locked_at_first_use_is_a_conflict(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE unrelated (x)")
        registry = SqlRegistry(f"sqlite:///{path}?timeout=0.05")
        with pytest.raises(ConflictError, match="locked"):
            registry.revision()
        other.execute("ROLLBACK")

    assert registry.revision() == 0
    registry.close()


def test_a_full_disk_is_said_and_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own limit on pages stands in for a full disk: it fails with the same code."""
    connect = SqliteDatabase._connect

    def connect_to_full_disk(self: SqliteDatabase) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count=40")
        return connection

    monkeypatch.setattr(SqliteDatabase, "_connect", connect_to_full_disk)
    with closing(SqlRegistry(f"sqlite:///{path}")) as registry:
        registry.commit([created(record())], expected_revision=0, now=NOW)
        with pytest.raises(StorageFullError, match="no space left"):
            registry.commit([created(record("big", text="x" * 1_000_000))], expected_revision=1, now=NOW)
        assert registry.state() == RegistryState(1, (record(),))


def test_a_path_that_cannot_be_opened_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    for impossible in ("file/registry.db", "folder"):
        for ask in ask_everything(SqlRegistry(f"sqlite:///{tmp_path / impossible}")):
            with pytest.raises(StoreUnavailableError, match="cannot be used"):
                ask()


def test_a_refused_change_and_a_bug_are_not_called_an_outage(registry: SqlRegistry) -> None:
    with pytest.raises(RequestError):
        registry.commit([deleted(record("nobody"))], expected_revision=1, now=NOW)
    with pytest.raises(sqlite3.ProgrammingError), registry._database.explained():
        raise sqlite3.ProgrammingError("a bug")


# --- migrations ----------------------------------------------------------------------------------------------


def test_the_known_steps_are_those_that_are_shipped() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "grange.registries.sql:migrations")
    config.set_main_option("path_separator", "os")
    steps = list(ScriptDirectory.from_config(config).walk_revisions())
    assert [step.revision for step in reversed(steps)] == list(migrations.KNOWN)
    assert list(migrations.KNOWN) == sorted(migrations.KNOWN)


def test_migrating_an_empty_database_gives_the_tables_of_the_code(registry: SqlRegistry) -> None:
    """Alembic compares columns, types, keys and indexes of the two and finds nothing."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from grange.registries.sql.tables import METADATA, is_described

    options = {"version_table": migrations.VERSION_TABLE, "include_name": is_described}
    with registry._database.reading() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert context.get_current_revision() == migrations.HEAD
        assert compare_metadata(context, METADATA) == []


def test_migrated_tables_have_the_constraints_of_the_code(registry: SqlRegistry, tmp_path: Path) -> None:
    """`compare_metadata` does not look at primary keys and names of constraints; the whole DDL does."""
    from sqlalchemy import create_engine

    from grange.registries.sql.tables import METADATA

    engine = create_engine(f"sqlite:///{tmp_path / 'by_code.db'}")
    METADATA.create_all(engine)
    engine.dispose()
    registry.close()

    def ddl(file: Path) -> dict[str, str]:
        with closing(sqlite3.connect(file)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        return {name: " ".join(sql.split()) for name, sql in rows if name != migrations.VERSION_TABLE}

    assert ddl(tmp_path / "registry.db") == ddl(tmp_path / "by_code.db")


def test_an_older_schema_is_migrated_at_first_use(path: Path) -> None:
    """A version table without a row is the schema before the first step."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {migrations.VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")

    with closing(SqlRegistry(f"sqlite:///{path}")) as registry:
        assert registry.commit([created(record())], expected_revision=0, now=NOW) == 1


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(op, "create_index", fail)
    registry = SqlRegistry(f"sqlite:///{path}")
    with pytest.raises(RuntimeError, match="in the middle"):
        registry.revision()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []

    monkeypatch.undo()
    assert registry.revision() == 0
    registry.close()


def test_without_full_text_search_the_registry_is_refused_and_not_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of another name stands in for one that SQLite was built without: it fails in the same words."""
    make_engine = SqliteDatabase._make_engine

    def make_without(self: SqliteDatabase) -> Engine:
        engine = make_engine(self)

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def rename(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
            return statement.replace("USING fts5(", "USING fts5_is_not_here("), parameters

        return engine

    registry = SqlRegistry(f"sqlite:///{path}")
    with monkeypatch.context() as patch, pytest.raises(UnsupportedError, match="FTS5") as caught:
        patch.setattr(SqliteDatabase, "_make_engine", make_without)
        registry.revision()
    assert "postgresql://" in (caught.value.try_ or "")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert registry.revision() == 0
    registry.close()


def test_an_older_registry_that_cannot_be_read_is_named_and_left_as_it_is(path: Path) -> None:
    make_first(f"sqlite:///{path}", [created(record())]).dispose()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE definitions SET definition = '{'")

    registry = SqlRegistry(f"sqlite:///{path}")
    with pytest.raises(CorruptStoreError, match="entity 'user' in the registry"):
        registry.runs()
    registry.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchall() == [("0001",)]


def test_a_newer_schema_is_refused_and_left_alone(registry: SqlRegistry, path: Path) -> None:
    registry.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    before = path.read_bytes()

    for ask in ask_everything(registry):
        with pytest.raises(UnsupportedError, match="newer Grange") as caught:
            ask()
        assert "9999" in str(caught.value)
        assert "pip install --upgrade grange" in str(caught.value)
    assert path.read_bytes() == before


def test_a_database_of_others_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (race TEXT)")

    with closing(SqlRegistry(f"sqlite:///{path}")) as registry, pytest.raises(UnsupportedError, match="not a Grange"):
        registry.revision()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("runs",)]


def test_tables_of_others_beside_its_own_do_no_harm(path: Path) -> None:
    """Alembic's usual version table among them: the registry has its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")

    with closing(SqlRegistry(f"sqlite:///{path}")) as registry:
        assert registry.revision() == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("theirs",)]


def test_times_before_1970_and_far_away_survive(registry: SqlRegistry) -> None:
    early = dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    registry.record_run(run(ended_at=early))

    assert registry.runs()[0].ended_at == early
