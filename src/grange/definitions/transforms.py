"""Transforms: how a feature group's rows come from its source's rows.

A transform is a Python function over one frame, of the kind its annotation names, or one SQL query over
`source` (DuckDB's dialect on every embedded engine). Functions are kept as source text, module path and code
hash, never pickled; only code that was deployed with the process runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from grange.definitions.python_code import code_hash_of, sha256, source_text_of
from grange.errors import DefinitionError

FrameKind = Literal["polars", "polars_lazy", "pandas", "arrow", "narwhals"]

_ANNOTATIONS: dict[str, FrameKind] = {
    "pl.DataFrame": "polars",
    "polars.DataFrame": "polars",
    "pl.LazyFrame": "polars_lazy",
    "polars.LazyFrame": "polars_lazy",
    "pd.DataFrame": "pandas",
    "pandas.DataFrame": "pandas",
    "pa.Table": "arrow",
    "pyarrow.Table": "arrow",
    "nw.DataFrame": "narwhals",
    "narwhals.DataFrame": "narwhals",
    "nw.LazyFrame": "narwhals",
    "narwhals.LazyFrame": "narwhals",
}


@dataclass(frozen=True, slots=True)
class PythonTransform:
    """A function from one frame of raw rows to one frame of feature rows."""

    name: str
    module: str
    source_text: str
    code_hash: str
    """Of the normalised syntax tree and of what the function closes over: formatting, comments, docstring and
    decorators do not count (VER-2)."""
    frame: FrameKind
    function: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    """None when the definition came from a registry and its module is not loaded here."""


@dataclass(frozen=True, slots=True)
class SqlTransform:
    """A SELECT over `source`."""

    query: str
    code_hash: str
    """Of the normalised query: formatting and comments do not count (VER-2)."""


Transform = PythonTransform | SqlTransform


def python_transform(function: Callable[[Any], Any]) -> PythonTransform:
    """The transform of a function; the first parameter's annotation says which frame it takes.

    Without an annotation it takes a Polars DataFrame.

    Raises:
        DefinitionError: the function takes other than one frame, or its annotation names no known frame; it closes
            over a value that cannot be told from another.
    """
    what = f"transform {getattr(function, '__qualname__', function)!r}"
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) != 1 or required[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise DefinitionError(f"{what} must take one frame", found=f"{len(required)} required parameters")
    text = source_text_of(function)
    return PythonTransform(
        name=function.__name__,
        module=function.__module__,
        source_text=text,
        code_hash=code_hash_of(function, text),
        frame=_frame_kind(required[0].annotation, what),
        function=function,
    )


def sql_transform(query: str) -> SqlTransform:
    """The transform of one SELECT over `source`.

    Raises:
        DefinitionError: not SQL, not exactly one SELECT, one that does not read `source`, or one whose answer
            is not decided by its rows alone: the clock, chance, the session (TIME-3, VER-1).
    """
    import sqlglot
    from sqlglot import exp

    try:
        statements = [statement for statement in sqlglot.parse(query, dialect="duckdb") if statement is not None]
    except sqlglot.errors.SqlglotError as error:
        raise DefinitionError(f"transform is not SQL: {str(error).splitlines()[0]}", found=query.strip()) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise DefinitionError(
            "a SQL transform is exactly one SELECT", found=query.strip(), try_="SELECT ... FROM source"
        )
    # DuckDB's names have no case, quoted ones neither
    tables = {table.name.casefold(): table.name for table in statements[0].find_all(exp.Table)}
    bound = {cte.alias_or_name.casefold() for cte in statements[0].find_all(exp.CTE)}
    foreign = sorted(name for folded, name in tables.items() if folded not in bound | {"source"})
    if "source" not in tables or foreign:
        raise DefinitionError(
            "a SQL transform reads `source` and nothing else",
            found=", ".join(foreign) or "no FROM source",
            try_="SELECT ... FROM source",
        )
    _check_repeatable(statements[0])
    normal = statements[0].sql(dialect="duckdb", normalize=True, comments=False)
    return SqlTransform(query=query.strip(), code_hash=sha256(normal))


_CLOCK: Final = frozenset(
    (
        "ago",
        "current_date",
        "current_localtime",
        "current_localtimestamp",
        "current_time",
        "current_timestamp",
        "get_current_time",
        "get_current_timestamp",
        "localtime",
        "localtimestamp",
        "now",
        "pg_conf_load_time",
        "pg_postmaster_start_time",
        "today",
        "transaction_timestamp",
    )
)
_CHANCE: Final = frozenset(("gen_random_uuid", "rand", "random", "setseed", "uuid", "uuidv4", "uuidv7"))
_SESSION: Final = frozenset(
    (
        "current_connection_id",
        "current_database",
        "current_role",
        "current_schema",
        "current_schemas",
        "current_setting",
        "current_user",
        "getvariable",
        "session_user",
        "user",
        "version",
        "write_log",
        "current_query",
        "current_query_id",
        "current_transaction_id",
        "currval",
        "nextval",
        "setval",
        "txid_current",
    )
)
_BARE: Final = frozenset(("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"))
"""What SQL calls without parentheses."""
_CALL: Final = re.compile(r'"?(\w+)"?(?:\(|$)')


def _check_repeatable(query: Any) -> None:
    """Refuse what gives other rows at another time: a version is its rows, code and configuration, nothing else."""
    from sqlglot import exp

    for node in query.find_all(exp.Func, exp.Column, exp.TableSample):
        reason = _unrepeatable(node)
        if reason is not None:
            raise DefinitionError(
                f"a SQL transform {reason}, so the same rows would not give the same version (TIME-3, VER-1)",
                found=node.sql(dialect="duckdb").strip(),
                try_="compute it when rows are written, and read it here as a column of source",
            )


def _unrepeatable(node: Any) -> str | None:
    """Why a part of a query gives other rows at another time; None when it does not."""
    from sqlglot import exp

    if isinstance(node, exp.TableSample):
        return "takes a sample"
    if isinstance(node, exp.Column):
        bare = not node.table and not node.this.args.get("quoted") and node.name.casefold() in _BARE
        return "reads the clock" if bare else None
    # under the name that DuckDB knows, for sqlglot has one class for several spellings
    call = _CALL.match(node.sql(dialect="duckdb"))
    called = call[1].casefold() if call else ""
    # AGE of one time counts from today, of two between them
    if called in _CLOCK or (called == "age" and len(node.expressions) == 1):
        return "reads the clock"
    if called in _CHANCE:
        return "draws random values"
    return "depends on the session" if called in _SESSION else None


def _frame_kind(annotation: Any, what: str) -> FrameKind:
    if annotation is inspect.Parameter.empty:
        return "polars"
    if isinstance(annotation, str):
        text = annotation
    else:
        text = f"{annotation.__module__.split('.')[0]}.{getattr(annotation, '__name__', annotation)}"
        if text == "pyarrow.Table" or text.endswith(".lib.Table"):
            text = "pyarrow.Table"
    kind = _ANNOTATIONS.get(text.split("[")[0].strip("'\" "))
    if kind is None:
        raise DefinitionError(
            f"{what} is annotated {text}, which is no frame Grange hands out",
            try_="annotate pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.Table or nw.DataFrame",
        )
    return kind
