"""Running a user's transform: hand it the frame it asked for, take back rows. Every engine runs it the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_never

from grange.definitions.transforms import FrameKind, PythonTransform, SqlTransform, Transform
from grange.errors import GrangeError, RequestError, TransformError
from grange.frames import Rows


def run_transform(transform: Transform, rows: Rows, *, group: str) -> Rows:
    """The rows that a transform makes of raw rows.

    Raises:
        TransformError: it raised, returned something that is no frame, or its function is not loaded here.
        MissingDependencyError: it asks for a frame whose package is not installed.
    """
    match transform:
        case PythonTransform():
            return run_python(transform, rows, group=group)
        case SqlTransform():
            return run_sql(transform, rows, group=group)
        case _:
            assert_never(transform)


def run_python(transform: PythonTransform, rows: Rows, *, group: str) -> Rows:
    """The rows that a Python transform makes of raw rows. See `run_transform`."""
    if transform.function is None:
        raise TransformError(
            f"feature group {group!r}: the code of its transform {transform.name!r} is not loaded in this process",
            found=f"registered from module {transform.module!r}",
            try_="name the module in grange.toml (definitions = [...]), or apply the definition in this process",
        )
    frame = _hand_out(transform.frame, rows)
    try:
        result = transform.function(frame)
        # a lazy frame runs its code only here, so that its errors too are the transform's
        return Rows.of(result, what=f"the result of transform {transform.name!r}")
    except RequestError as error:
        raise TransformError(f"feature group {group!r}: {error.message}", found=error.found) from error
    except GrangeError:
        raise
    except Exception as error:
        raise TransformError(
            f"feature group {group!r}: transform {transform.name!r} raised "
            f"{type(error).__name__}: {_first_line(error)}",
            found=f"source columns: {', '.join(rows.column_names)}",
            details={"group": group, "transform": transform.name},
        ) from error


def run_sql(transform: SqlTransform, rows: Rows, *, group: str) -> Rows:
    """The rows that a SQL transform makes of raw rows, in DuckDB, without access to files or the network."""
    import duckdb

    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = true")
        connection.execute("SET lock_configuration = true")
        connection.register("source", rows.arrow)
        try:
            return Rows(arrow=connection.sql(transform.query).to_arrow_table())
        except duckdb.Error as error:
            raise TransformError(
                f"feature group {group!r}: its SQL transform failed: {_first_line(error)}",
                found=f"source columns: {', '.join(rows.column_names)}",
                details={"group": group, "query": transform.query},
            ) from error


def query_sql(query: str, *, project: Path) -> Rows:
    """The rows of a caller's own SELECT, in DuckDB; relative file names are relative to the project.

    It reads files and nothing of this process: frames that happen to be local variables are not tables.

    Raises:
        RequestError: the query fails, or is not exactly one SELECT.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET file_search_path = ?", [str(project)])
        try:
            # before anything runs: a COPY between two SELECTs would write a file
            kinds = [statement.type for statement in connection.extract_statements(query)]
            if kinds != [duckdb.StatementType.SELECT]:
                raise RequestError(
                    "a spine's query must be exactly one SELECT",
                    found=", ".join(kind.name for kind in kinds) or "no statement",
                    try_="SELECT ... FROM 'labels.parquet'",
                )
            return Rows(arrow=connection.sql(query).to_arrow_table())
        except duckdb.Error as error:
            raise RequestError(f"the spine's query failed: {_first_line(error)}", found=query.strip()) from error


def _hand_out(frame: FrameKind, rows: Rows) -> Any:
    match frame:
        case "polars":
            return rows.polars
        case "polars_lazy":
            return rows.polars.lazy()
        case "pandas":
            return rows.pandas
        case "arrow":
            return rows.arrow
        case "narwhals":
            import narwhals as nw

            return nw.from_native(rows.polars, eager_only=True)
        case _:
            assert_never(frame)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
