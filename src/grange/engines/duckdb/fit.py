"""Columns into their declared types, without leaving DuckDB where that can be shown to change nothing (PIT-7).

`grange.types.arrow.conform_column` is the judge. A column that has its type already, or whose type widens into it,
is cast while rows flow. Where the values decide, rows are computed once into a table that spills, and a look at
them decides: when all are of a plain form that DuckDB and the judge read alike, DuckDB casts them; when one is
not, the columns go to the judge, which reads them or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from grange.engines.duckdb.session import Session
from grange.engines.duckdb.sql import Query, cell, listed, name, sql, text, whole
from grange.types import DataType
from grange.types.arrow import arrow_type, conform_column
from grange.types.schema import Column


@dataclass(frozen=True, slots=True)
class Cast:
    """How a column gets its type: an expression, and what every value must meet for it to be right."""

    expression: str
    condition: str | None = None
    """None: any value will do. A null always does."""


Caster = Callable[[str, pa.DataType, DataType], Cast | None]
"""How DuckDB casts (expression, its Arrow type, declared type); None when only the judge can."""
Judge = Callable[[pa.ChunkedArray, Column, str], pa.ChunkedArray]
"""Reads a column in its declared type or raises; the text says what the column is part of."""

_SIMPLE: Final[Mapping[str, str]] = {
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "float32": "FLOAT", "float64": "DOUBLE", "boolean": "BOOLEAN", "string": "VARCHAR", "binary": "BLOB",
    "uuid": "VARCHAR", "date": "DATE", "datetime": "TIMESTAMPTZ", "duration": "INTERVAL",
}  # fmt: skip

_WIDENS: Final[Mapping[str, frozenset[str]]] = {
    "int16": frozenset({"int8", "uint8"}),
    "int32": frozenset({"int8", "int16", "uint8", "uint16"}),
    "int64": frozenset({"int8", "int16", "int32", "uint8", "uint16", "uint32"}),
    "uint16": frozenset({"uint8"}),
    "uint32": frozenset({"uint8", "uint16"}),
    "uint64": frozenset({"uint8", "uint16", "uint32"}),
    "float32": frozenset({"int8", "int16", "uint8", "uint16"}),
    "float64": frozenset({"float", "int8", "int16", "int32", "uint8", "uint16", "uint32"}),
}
"""By declared type, the Arrow types all of whose values it holds exactly."""

_EXACT: Final = {"float": 1 << 24, "double": 1 << 53, "float32": 1 << 24, "float64": 1 << 53}
"""The integers between minus this and this are floats exactly."""

_DAY: Final = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])-\d\d-\d\d"
_CLOCK: Final = r"[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{3}(?:\d{3})?)?)?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)?"
_PLAIN_TEXT: Final[Mapping[str, str]] = {
    "date": _DAY,
    "datetime": f"{_DAY}(?:{_CLOCK})?",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
"""By declared type, the text that DuckDB's cast and the judge read alike."""


def fit(
    session: Session, query: Query, columns: Sequence[Column], *, what: str, caster: Caster | None = None,
    judge: Judge | None = None,
) -> Query:  # fmt: skip
    """The same rows and columns, the named ones in their canonical types.

    Args:
        columns: some of the query's, with their declared types.
        caster: how DuckDB casts; `cast` when left out.
        judge: reads the columns that DuckDB may not cast; `conform_column` when left out.

    Raises:
        SchemaError: a column is missing.
        ColumnTypeError: a value does not fit its declaration.
    """
    places = {column.name: query.column(column.name) for column in columns}
    if query.arrow is not None:
        return session.register(_judged(query.arrow, columns, judge or _conform, what))
    types = session.arrow_types(query)
    make = caster or cast
    casts = [
        make(places[own], types.field(own).type, dtype) or _stand_in(places[own], types.field(own).type, dtype)
        for own, dtype in _pairs(columns)
    ]
    certain = [each for each in casts if each is not None]
    conditions = [each.condition for each in certain if each.condition is not None]
    if conditions or len(certain) < len(casts):
        query = session.spool(query)
        if len(certain) < len(casts) or not _hold(session, query, conditions):
            return session.register(_judged(session.fetch(query), columns, judge or _conform, what))
    expressions = dict(zip(places, (each.expression for each in certain), strict=True))
    return query.select([(own, expressions.get(own, query.column(own))) for own in query.names])


def cast(expression: str, arrow: pa.DataType, dtype: DataType) -> Cast | None:
    """How DuckDB casts a column, where its result is that of `conform_column`; None when that alone can tell."""
    target = duckdb_type(dtype)
    if pa.types.is_null(arrow):
        return Cast(_to(expression, target))
    if dtype.kind == "uuid":
        # DuckDB's own uuids leave it as text too, so that text of any other form has to be looked at
        shown = _to(expression, target)
        return Cast(shown, _plain(shown, "uuid")) if _is_text(arrow) else None
    if arrow == arrow_type(dtype):
        return Cast(expression)
    if dtype.kind in ("date", "datetime") and _is_text(arrow):
        return Cast(_to(expression, target), _also(_plain(expression, dtype.kind), _holds(expression, target)))
    if dtype.kind == "datetime":
        return _moment(expression, arrow)
    if dtype.kind == "duration":
        return Cast(expression) if str(arrow) == "month_day_nano_interval" else None
    if dtype.kind == "string":
        return Cast(_to(expression, target)) if pa.types.is_dictionary(arrow) else None
    if dtype.is_integer or dtype.is_float:
        return _number(expression, arrow, dtype, target)
    return None


def trusting(expression: str, arrow: pa.DataType, dtype: DataType) -> Cast | None:
    """`cast` for stored rows: text declared uuid was made canonical when it was written."""
    return Cast(expression) if dtype.kind == "uuid" and _is_text(arrow) else cast(expression, arrow, dtype)


def duckdb_type(dtype: DataType) -> str:
    """A type as DuckDB writes it."""
    match dtype.kind:
        case "list":
            assert dtype.item is not None
            return duckdb_type(dtype.item) + "[]"
        case "struct":
            return sql("STRUCT(", listed(sql(name(own), duckdb_type(inner)) for own, inner in dtype.fields), ")")
        case "decimal":
            return sql("DECIMAL(", str(dtype.precision), ",", str(dtype.scale), ")")
        case kind:
            return _SIMPLE[kind]


def matches(expression: str, pattern: str) -> str:
    """Whether the whole of a text is of a form."""
    return sql("regexp_full_match(", expression, ",", text(pattern), ")")


def _number(expression: str, arrow: pa.DataType, dtype: DataType, target: str) -> Cast | None:
    if str(arrow) in _WIDENS.get(dtype.kind, ()):
        return Cast(_to(expression, target))
    if dtype.is_integer and (pa.types.is_integer(arrow) or (pa.types.is_decimal(arrow) and arrow.scale == 0)):
        return Cast(_to(expression, target), _holds(expression, target))
    if dtype.is_integer and pa.types.is_floating(arrow):
        fraction = sql("trunc(", expression, ") =", expression)
        exact = _also(fraction, _within(expression, _EXACT[str(arrow)]))
        return Cast(_to(expression, target), _also(exact, _holds(expression, target)))
    if dtype.is_float and pa.types.is_integer(arrow):
        return Cast(_to(expression, target), _within(expression, _EXACT[dtype.kind]))
    if dtype.kind == "float32" and pa.types.is_float64(arrow):
        return Cast(_to(expression, target), _holds(expression, target))
    return None


def _moment(expression: str, arrow: pa.DataType) -> Cast | None:
    if pa.types.is_date(arrow) or (pa.types.is_timestamp(arrow) and arrow.unit != "ns"):
        zoned = pa.types.is_timestamp(arrow) and arrow.tz is not None
        return Cast(_to(expression if zoned else _to(expression, "TIMESTAMP"), "TIMESTAMPTZ"))
    return None  # finer than a microsecond: which way to cut it is the judge's


def _stand_in(expression: str, arrow: pa.DataType, dtype: DataType) -> Cast | None:
    """DuckDB 1 makes a column of nulls only, which has no type, an INTEGER: nulls of that type fit any other."""
    if int(duckdb.__version__.split(".")[0]) > 1 or not pa.types.is_int32(arrow):
        return None
    return Cast(_to("NULL", duckdb_type(dtype)), sql("CASE WHEN", expression, "IS NOT NULL THEN false END"))


def _hold(session: Session, query: Query, conditions: Sequence[str]) -> bool:
    """Whether every row meets every condition; a condition that is null, as of a null value, is met."""
    met = [sql("coalesce(bool_and(", condition, "), true)") for condition in conditions]
    return all(session.numbers(sql("SELECT", listed(sql(each, "AS", cell(i)) for i, each in enumerate(met)),
                                   "FROM", query.nested("q"))))  # fmt: skip


def _judged(table: pa.Table, columns: Sequence[Column], judge: Judge, what: str) -> pa.Table:
    declared = {column.name: column for column in columns}
    judged = [
        judge(values, declared[own], what) if own in declared else values
        for own, values in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(judged, names=table.column_names)


def _conform(values: pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    return conform_column(values, column, what=what)


def _pairs(columns: Sequence[Column]) -> list[tuple[str, DataType]]:
    return [(column.name, column.dtype) for column in columns]


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def _to(expression: str, target: str) -> str:
    return sql("CAST(", expression, "AS", target, ")")


def _holds(expression: str, target: str) -> str:
    """Whether a value survives its cast; null for null, so that nulls are met."""
    return sql("CASE WHEN", expression, "IS NOT NULL THEN TRY_CAST(", expression, "AS", target, ") IS NOT NULL END")


def _plain(expression: str, kind: str) -> str:
    return matches(expression, _PLAIN_TEXT[kind])


def _within(expression: str, bound: int) -> str:
    return sql(expression, "BETWEEN", whole(-bound), "AND", whole(bound))


def _also(first: str, second: str) -> str:
    return sql("(", first, ") AND (", second, ")")
