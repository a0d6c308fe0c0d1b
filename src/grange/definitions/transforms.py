"""Transforms: how a feature group's rows come from its source's rows.

A transform is a Python function over one frame, of the kind its annotation names, or one SQL query over
`source` (DuckDB's dialect on every embedded engine). Functions are kept as source text, module path and code
hash, never pickled; only code that was deployed with the process runs.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

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
    """Of the normalised syntax tree: formatting, comments, docstring and decorators do not count (VER-2)."""
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
        DefinitionError: the function takes other than one frame, or its annotation names no known frame.
    """
    what = f"transform {getattr(function, '__qualname__', function)!r}"
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) != 1 or required[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise DefinitionError(f"{what} must take one frame", found=f"{len(required)} required parameters")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        text = ""  # defined at a prompt: it runs, and its code hash is of its bytecode
    return PythonTransform(
        name=function.__name__,
        module=function.__module__,
        source_text=text,
        code_hash=_code_hash(function, text),
        frame=_frame_kind(required[0].annotation, what),
        function=function,
    )


def sql_transform(query: str) -> SqlTransform:
    """The transform of one SELECT over `source`.

    Raises:
        DefinitionError: not SQL, not exactly one SELECT, or one that does not read `source`.
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
    tables = {table.name for table in statements[0].find_all(exp.Table)}
    bound = {cte.alias_or_name for cte in statements[0].find_all(exp.CTE)}
    foreign = sorted(tables - bound - {"source"})
    if "source" not in tables or foreign:
        raise DefinitionError(
            "a SQL transform reads `source` and nothing else",
            found=", ".join(foreign) or "no FROM source",
            try_="SELECT ... FROM source",
        )
    normal = statements[0].sql(dialect="duckdb", normalize=True, comments=False)
    return SqlTransform(query=query.strip(), code_hash=_sha256(normal))


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


def _code_hash(function: Callable[[Any], Any], text: str) -> str:
    if text:
        try:
            tree = ast.parse(text)
        except SyntaxError:
            tree = None  # a lambda in the middle of a call: its lines are no statement
        if tree is not None:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    node.decorator_list = []
                    first = node.body[0]
                    if (
                        isinstance(first, ast.Expr)
                        and isinstance(first.value, ast.Constant)
                        and isinstance(first.value.value, str)
                    ):
                        node.body = node.body[1:] or [ast.Pass()]
            return _sha256(ast.dump(tree))
    code = function.__code__
    return _sha256(repr((code.co_code, code.co_consts, code.co_names)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
