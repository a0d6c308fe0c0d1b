"""PostgreSQL: one registry for many machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from grange.errors import (
    ConfigError,
    ConflictError,
    CorruptStoreError,
    GrangeError,
    MissingDependencyError,
    StorageFullError,
    StoreUnavailableError,
)
from grange.registries.sql.database import WRITE, Database, newest_revision

LOCK_TIMEOUT_S: Final = 30
_CONNECTING: Final = {
    "connect_timeout": "10",
    # a machine that vanished does not say so: without these a connection to it would wait for hours
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Parameters of connections (seconds; the last one milliseconds). Those of the url come first."""
_SCHEMA_LOCK: Final = 0x6772616E6765
"""The advisory lock that migrations take: "grange" in ASCII."""
_SCHEMA_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class PostgresqlOptions:
    """How a registry uses its PostgreSQL database.

    Raises:
        ConfigError: a value that is none.
    """

    schema: str | None = None
    """The schema that its tables lie in, made at first use; None is the first one of the search path."""
    pool_size: int = 5
    """Connections that are kept open, at most."""
    max_connections: int | None = None
    """Connections at once, at most; None is no limit."""
    pool_timeout: float = 10.0
    """Seconds to wait for a connection where all are used."""
    statement_timeout: float = 60.0
    """Seconds that one statement may take; 0 is no limit. Migrations have none."""

    def __post_init__(self) -> None:
        if self.schema is not None and (not isinstance(self.schema, str) or not _SCHEMA_NAME.fullmatch(self.schema)):
            raise ConfigError(
                "the registry's schema must be lower-case letters, digits and underscores, at most 63, not pg_...",
                found=repr(self.schema),
                try_='schema = "grange_shop"',
            )
        _check_number("pool_size", self.pool_size, 1, 10_000, whole=True)
        if self.max_connections is not None:
            _check_number("max_connections", self.max_connections, self.pool_size, 10_000, whole=True)
        _check_number("pool_timeout", self.pool_timeout, 0, 86_400)
        _check_number("statement_timeout", self.statement_timeout, 0, 86_400)

    @property
    def server_settings(self) -> str:
        """What a connection asks the server for."""
        settings = {"statement_timeout": str(round(self.statement_timeout * 1000))}
        if self.schema is not None:
            settings["search_path"] = self.schema
        return " ".join(f"-c{name}={value}" for name, value in settings.items())


class PostgresqlDatabase(Database):
    """A registry in a PostgreSQL database, in a schema of its own or the first one of the connection's search path."""

    def __init__(self, url: URL, options: PostgresqlOptions | None = None) -> None:
        self._url = url
        self._options = options or PostgresqlOptions()
        # parameters are left out, for one of them may be a password too
        shown = url.set(query={}).render_as_string(hide_password=True)
        super().__init__(f"{shown} (schema {self._options.schema})" if self._options.schema else shown)

    def newest_revision(self) -> int:
        """As `Database.newest_revision`, in one round trip: no transaction around one SELECT."""
        with self.explained(), self.engine().connect() as plain:
            return newest_revision(plain.execution_options(isolation_level="AUTOCOMMIT"))

    def _make_engine(self) -> Engine:
        options = self._options
        most = -1 if options.max_connections is None else options.max_connections - options.pool_size
        asked = self._url.query.get("options", ())
        settings = " ".join((*((asked,) if isinstance(asked, str) else asked), options.server_settings))
        try:
            # a connection that a restart of the server broke is noticed and replaced before it is used
            engine = create_engine(
                self._url.update_query_dict({**_CONNECTING, **self._url.query, "options": settings}),
                pool_pre_ping=True,
                pool_size=options.pool_size,
                max_overflow=most,
                pool_timeout=options.pool_timeout,
            )
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{error.name} is not installed, which a PostgreSQL registry needs",
                try_="pip install 'psycopg[binary]'",
                details={"module": error.name},
            ) from error
        event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self, engine: Engine) -> None:
        """As `Database._migrate`; makes the schema where there is none."""
        if self._options.schema is not None:
            with self._transaction(engine) as connection:
                self._ensure_schema(connection, self._options.schema)
        super()._migrate(engine)

    def _ensure_schema(self, connection: Connection, name: str) -> None:
        """Make the schema, if it is not there, and see that it is the one that is used.

        Raises:
            ConfigError: the connection uses another one.
        """
        if not _has_schema(connection, name):
            self._lock_schema(connection)
            connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
        found = connection.exec_driver_sql("SELECT current_schema()").scalar()
        if found != name:
            raise ConfigError(
                f"a connection to the registry {self.shown} does not use that schema",
                found=f"schema {found}: what lies between here and the server drops the parameter `options`",
                try_="let the pooler pass `options`, or connect to the server itself",
            )

    @contextmanager
    def _snapshot(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as plain:
            yield plain.execution_options(isolation_level="REPEATABLE READ")

    def _lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")

    def _explain(self, error: BaseException) -> GrangeError | None:
        if isinstance(error, NoFreeConnection):
            return StoreUnavailableError(
                f"no connection to the registry {self.shown} got free",
                found=f"{self._options.max_connections} in use, for {self._options.pool_timeout:g} s",
                try_="set max_connections or pool_timeout under [registry] in grange.toml",
            )
        # drivers name it differently; the five characters are the server's and stable
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state is None:
            return self._unavailable(error) if type(error).__name__ in ("OperationalError", "InterfaceError") else None
        match state[:2], state:
            case _, "23505" | "40001" | "40P01" | "55P03":
                return ConflictError(
                    f"somebody else is writing to {self.shown}",
                    found=_first_line(error),
                    try_="read the state again and retry",
                )
            case _, "42P07":
                return self._foreign(_first_line(error))
            case _, "53100":
                return StorageFullError(f"no space left for the registry {self.shown}", found=_first_line(error))
            case ("XX", _) | (_, "42P01" | "42703"):
                return CorruptStoreError(
                    f"the registry {self.shown} cannot be read",
                    found=_first_line(error),
                    try_="restore a backup, or drop its tables and apply again; stored features are not in it",
                )
            case _, "57014":
                return StoreUnavailableError(
                    f"the registry {self.shown} did not answer in time",
                    found=_first_line(error),
                    try_="try again; statement_timeout under [registry] in grange.toml waits longer",
                )
            case _, "42501":
                return StoreUnavailableError(
                    f"the registry {self.shown} cannot be used",
                    found=_first_line(error),
                    try_="grant its user CREATE on the database, or on a schema that an administrator made",
                )
            case ("08" | "28" | "3D" | "53" | "57", _):
                return self._unavailable(error)
            case _:
                return None

    def _unavailable(self, error: BaseException) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the registry {self.shown} cannot be reached",
            found=_first_line(error),
            try_="check that the server runs, and the host, user and database of the registry's url",
        )


def _has_schema(connection: Connection, name: str) -> bool:
    found = connection.exec_driver_sql("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (name,))
    return found.one_or_none() is not None


def _check_number(name: str, value: object, least: float, most: float, *, whole: bool = False) -> None:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(
            f"{name} of the registry must be a {'whole ' if whole else ''}number from {least:g} to {most:g}",
            found=repr(value),
        )


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITE):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
