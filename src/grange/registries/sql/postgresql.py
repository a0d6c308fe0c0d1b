"""PostgreSQL: one registry for many machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from grange.errors import (
    ConflictError,
    CorruptStoreError,
    GrangeError,
    MissingDependencyError,
    StorageFullError,
    StoreUnavailableError,
)
from grange.registries.sql.database import WRITE, Database, newest_revision

LOCK_TIMEOUT_S: Final = 30
CONNECT_TIMEOUT_S: Final = 10
_SCHEMA_LOCK: Final = 0x6772616E6765
"""The advisory lock that migrations take: "grange" in ASCII."""


class PostgresqlDatabase(Database):
    """A registry in a PostgreSQL database, in the first schema of the connection's search path."""

    def __init__(self, url: URL) -> None:
        self._url = url
        # parameters are left out, for one of them may be a password too
        super().__init__(url.set(query={}).render_as_string(hide_password=True))

    def newest_revision(self) -> int:
        """As `Database.newest_revision`, in one round trip: no transaction around one SELECT."""
        with self.explained(), self.engine().connect() as plain:
            return newest_revision(plain.execution_options(isolation_level="AUTOCOMMIT"))

    def _make_engine(self) -> Engine:
        try:
            # a connection that a restart of the server broke is noticed and replaced before it is used
            engine = create_engine(
                self._url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S), **self._url.query}),
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=-1,
            )
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{error.name} is not installed, which a PostgreSQL registry needs",
                try_="pip install 'psycopg[binary]'",
                details={"module": error.name},
            ) from error
        event.listen(engine, "begin", _begin)
        return engine

    @contextmanager
    def _snapshot(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as plain:
            yield plain.execution_options(isolation_level="REPEATABLE READ")

    def _lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")

    def _explain(self, error: BaseException) -> GrangeError | None:
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


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITE):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
