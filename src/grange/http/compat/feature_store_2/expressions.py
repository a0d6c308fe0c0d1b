"""What the SQL of a feature means: a column, an expression over one raw row, or an aggregation over a window.

The clock of an expression is the row's: `current_date` is the day of its event time, since a stored value must not
depend on when it was computed (TIME-3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grange.errors import DefinitionError, DurationError, closest_names
from grange.types import DataType
from grange.types.aggregates import Closed, parse_window

Tree = Any
"""A node of the SQL parser, which is loaded when it is needed."""

_TYPES: Final = {
    "int64": "BIGINT", "int32": "INTEGER", "int16": "SMALLINT", "int8": "TINYINT", "float64": "DOUBLE",
    "float32": "FLOAT", "string": "VARCHAR", "boolean": "BOOLEAN", "date": "DATE",
}  # fmt: skip
_UNITS: Final = {
    "microsecond": "us", "millisecond": "ms", "second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w",
}  # fmt: skip
_FUNCTIONS: Final = {
    "Count": "count", "Sum": "sum", "Avg": "mean", "Min": "min", "Max": "max", "Stddev": "std", "StddevSamp": "std",
    "Variance": "var", "Median": "median",
}  # fmt: skip
"""By the parser's name; `std` and `var` are of samples, as SQL's are."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A column of a feature group, computed from one raw row."""

    sql: str


@dataclass(frozen=True, slots=True)
class Windowed:
    """An aggregation over a window of rows that ends at the moment asked for."""

    sql: str
    """What it takes of each raw row; null where the row does not count."""
    function: str
    window: str
    closed: Closed


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def read_feature(
    text: str,
    *,
    what: str,
    dtype: DataType,
    keys: Sequence[str],
    event_time: str | None,
    window_size: str | None,
) -> Computed | Windowed:
    """What a feature's transformation means over the rows of its source.

    Args:
        text: one SQL expression.
        what: whose it is, for errors.
        dtype: what the feature was declared as; expressions are cast to it.
        keys: the join keys of its set, which windows are partitioned by.
        event_time: of its source, which windows are ordered by.
        window_size: as the client says it beside the SQL.

    Raises:
        DefinitionError: not one expression; subqueries, a window inside of an expression, a frame that does not end at
            the row itself, another order or partition than the set's, a function that windows do not have.
        DurationError: a calendar length (TIME-2).
    """
    from sqlglot import exp

    root = _parsed(text, what)
    _refuse_queries(root, what)
    inner = root.this if isinstance(root, exp.Window) else root
    if isinstance(root, exp.Window) or (window_size is not None and isinstance(inner, exp.AggFunc | exp.Filter)):
        return _windowed(root, what=what, dtype=dtype, keys=keys, event_time=event_time, window_size=window_size)
    found = next(iter(root.find_all(exp.Window, exp.AggFunc)), None)
    if found is not None:
        raise DefinitionError(
            f"{what}: an aggregation stands inside of an expression",
            found=found.sql(dialect="duckdb"),
            try_="make it a feature of its own, and this one of it: source_features",
        )
    if window_size is not None:
        raise DefinitionError(f"{what}: window_size is of aggregations, and this is none", found=text)
    return Computed(_cast(_timed(root, event_time, what), dtype))


def plain_column(name: str, dtype: DataType) -> Computed:
    """The raw column of a feature without a transformation. Integers become floats where those are declared; whatever
    else does not fit its declaration is an error when it is materialized (PIT-7)."""
    return Computed(_cast(quoted(name), dtype) if dtype.is_float else quoted(name))


def names_in(text: str, *, what: str) -> tuple[str, ...]:
    """The columns that an expression names, each once.

    Raises:
        DefinitionError: not one expression.
    """
    from sqlglot import exp

    return tuple(dict.fromkeys(column.name for column in _parsed(text, what).find_all(exp.Column)))


def _parsed(text: str, what: str) -> Tree:
    import sqlglot

    try:
        trees = sqlglot.parse(f"SELECT {text}", dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise DefinitionError(f"{what} is not SQL: {str(error).splitlines()[0]}", found=text) from error
    select = trees[0] if len(trees) == 1 else None
    plain = isinstance(select, sqlglot.exp.Select) and [key for key, value in select.args.items() if value]
    if select is None or plain != ["expressions"] or len(select.expressions) != 1:
        raise DefinitionError(f"{what} is not one SQL expression", found=text)
    return select.expressions[0].unalias()


def _refuse_queries(root: Tree, what: str) -> None:
    from sqlglot import exp

    for node in root.find_all(exp.Query, exp.Subquery):
        raise DefinitionError(f"{what} reads its own row, and no query", found=node.sql(dialect="duckdb"))


def _timed(root: Tree, event_time: str | None, what: str) -> str:
    """The expression with the row's event time in the place of the clock."""
    from sqlglot import exp

    def replaced(node: Tree) -> Tree:
        called = _called(node)
        if called in ("current_date", "today"):
            return exp.cast(_time(node, event_time, what), "DATE")
        if called in ("current_timestamp", "now", "localtimestamp", "transaction_timestamp"):
            return _time(node, event_time, what)
        if called == "age" and len(node.expressions) == 1:
            day = exp.cast(_time(node, event_time, what), "DATE")
            return exp.Anonymous(this="AGE", expressions=[day, *node.expressions])
        return node

    return str(root.transform(replaced).sql(dialect="duckdb", identify=True))


def _called(node: Tree) -> str:
    """The name of the function that a node calls, in lower case; empty where it calls none."""
    from sqlglot import exp

    if not isinstance(node, exp.Func):
        return ""
    found = re.match(r"\w+", node.sql(dialect="duckdb"))
    return found[0].lower() if found else ""


def _time(node: Tree, event_time: str | None, what: str) -> Tree:
    from sqlglot import exp

    if event_time is None:
        raise DefinitionError(
            f"{what} reads the clock, which is the event time of its row, and the source has none (TIME-3)",
            found=node.sql(dialect="duckdb"),
            try_='"source": {"path": ..., "event_time": ...}',
        )
    return exp.column(event_time, quoted=True)


def _windowed(
    root: Tree,
    *,
    what: str,
    dtype: DataType,
    keys: Sequence[str],
    event_time: str | None,
    window_size: str | None,
) -> Windowed:
    from sqlglot import exp

    called, condition = (root.this if isinstance(root, exp.Window) else root), None
    if isinstance(called, exp.Filter):
        called, condition = called.this, called.expression.this
    function, taken = _function(called, what)
    if isinstance(root, exp.Window):
        _check_partition(root, keys, what)
        _check_order(root, event_time, what)
    window, closed = _frame(root, window_size, what)
    sql = "1" if taken is None else _timed(taken, event_time, what)
    if condition is not None:
        sql = f"CASE WHEN {_timed(condition, event_time, what)} THEN {sql} END"
    if taken is None:
        sql = f"CAST({sql} AS BIGINT)"
    elif dtype.is_float and function in ("sum", "min", "max"):
        sql = _cast(sql, dtype)
    return Windowed(sql, function, window, closed)


def _function(called: Tree, what: str) -> tuple[str, Tree | None]:
    """The aggregation's function, and what it takes; None for rows."""
    from sqlglot import exp

    name = type(called).__name__
    if isinstance(called, exp.PercentileCont) and called.expression is not None:
        return f"quantile({called.expression.name})", called.this
    if name not in _FUNCTIONS:
        raise DefinitionError(
            f"{what}: windows have no {called.sql(dialect='duckdb')}",
            found=f"functions: {', '.join(sorted(set(_FUNCTIONS.values())))}, count_distinct, quantile",
            closest=closest_names(name, _FUNCTIONS.values()),
        )
    taken = called.this
    if isinstance(taken, exp.Distinct):
        if name != "Count" or len(taken.expressions) != 1:
            raise DefinitionError(f"{what}: DISTINCT is of COUNT, and of one expression", found=called.sql())
        return "count_distinct", taken.expressions[0]
    return _FUNCTIONS[name], None if isinstance(taken, exp.Star) else taken


def _check_partition(window: Tree, keys: Sequence[str], what: str) -> None:
    named = [item.name for item in window.args.get("partition_by") or ()]
    if sorted(named) != sorted(keys):
        raise DefinitionError(
            f"{what}: windows of a feature set are partitioned by its entity key",
            found=f"PARTITION BY {', '.join(named) or 'nothing'}",
            try_=f"PARTITION BY {', '.join(keys)}",
        )


def _check_order(window: Tree, event_time: str | None, what: str) -> None:
    order = window.args.get("order")
    named = [item.this.name for item in order.expressions if not item.args.get("desc")] if order else []
    if event_time is None or named != [event_time]:
        raise DefinitionError(
            f"{what}: windows of a feature set are ordered by the event time of its source",
            found=order.sql(dialect="duckdb").strip() if order else "no ORDER BY",
            try_=f"ORDER BY {event_time}" if event_time else '"source": {"path": ..., "event_time": ...}',
        )


def _frame(root: Tree, window_size: str | None, what: str) -> tuple[str, Closed]:
    """The window's length as Grange writes it, and which of its ends belong to it (WIN-1)."""
    spec = root.args.get("spec")
    if spec is None:
        return (window_size, "right") if window_size is not None else ("lifetime", "right")
    kind, start, end = spec.args.get("kind"), spec.args.get("start"), spec.args.get("end")
    if end not in (None, "CURRENT ROW") or spec.args.get("start_side") not in (None, "PRECEDING"):
        raise DefinitionError(
            f"{what}: a window ends at the moment asked for",
            found=spec.sql(dialect="duckdb"),
            try_="BETWEEN ... PRECEDING AND CURRENT ROW",
        )
    if start == "UNBOUNDED":
        length, closed = "lifetime", "right"
    elif kind == "ROWS":
        length, closed = f"{int(start.name) + 1}rows", "right"
    else:
        length, closed = _interval(start, what), "both"
    if window_size is not None and not _equal(length, window_size, what):
        raise DefinitionError(
            f"{what}: its SQL says a window of {length}, and window_size another", found=window_size, try_=length
        )
    return length, closed  # type: ignore[return-value]


def _interval(node: Tree, what: str) -> str:
    """`INTERVAL '30 days'` as `30d`."""
    from sqlglot import exp

    unit = node.args["unit"].name.lower().removesuffix("s") if isinstance(node, exp.Interval) else ""
    if unit in ("month", "quarter", "year"):
        raise DurationError(
            f"{what}: a window has a fixed length, and a {unit} has none (TIME-2)",
            found=node.sql(dialect="duckdb"),
            try_="INTERVAL '30 days'",
        )
    if unit not in _UNITS or not node.this.name.isdigit():
        raise DefinitionError(
            f"{what}: the length of its window cannot be read",
            found=node.sql(dialect="duckdb"),
            try_="RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW",
        )
    return f"{node.this.name}{_UNITS[unit]}"


def _equal(length: str, said: str, what: str) -> bool:
    return parse_window(length, what=what) == parse_window(said, what=what)


def _cast(sql: str, dtype: DataType) -> str:
    written = _TYPES.get(str(dtype))
    return sql if written is None else f"CAST({sql} AS {written})"


def columns_of(items: Iterable[tuple[str, str]]) -> str:
    """`SELECT` items: SQL by name."""
    return ", ".join(f"{sql} AS {quoted(name)}" for name, sql in items)
