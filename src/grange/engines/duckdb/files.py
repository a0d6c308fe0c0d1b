"""Reading files. Parquet stays lazy; CSV and JSON Lines are read once, as text, into a table that spills.

What a text file holds is then decided over all of its rows, not a sample: declared columns by their declaration
(`007` in a column declared string stays text), others as little as possible, integers, then numbers, then true
and false, else text. A time stays text until a `Conform` reads it. In CSV an empty field is null and nothing
else is.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, assert_never

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from grange.engines.duckdb.fit import Cast, cast, fit, matches
from grange.engines.duckdb.session import Session
from grange.engines.duckdb.sql import Query, cell, every, listed, sql, text
from grange.errors import ColumnTypeError, GrangeError, SchemaError, SourceError, closest_names
from grange.plan.checks import unreadable
from grange.plan.nodes import Scan
from grange.types import DataType
from grange.types.arrow import conform_column, parse_text
from grange.types.schema import Column

_WHOLE: Final = r"-?\d{1,18}"
"""Text that any reader takes for the same integer."""
_DIGITS: Final = r"(?i)[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)"
_TRUTH: Final = "(?i)true|false"
_PARSED: Final = ("boolean", "float32", "float64", "decimal", "binary")
_LENGTHS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}


def scan(session: Session, node: Scan) -> Query:
    """The rows of files, files in the given order. See `Scan`.

    Raises:
        SourceError: a file is absent, or cannot be read as its format.
        SchemaError: a declared or selected column is in none of the files.
        ColumnTypeError: a value does not fit its declared type.
    """
    match node.format:
        case "parquet":
            return _parquet(session, node)
        case "csv":
            return _csv(session, node)
        case "jsonl":
            return _jsonl(session, node)
        case _:
            assert_never(node.format)


def _wanted(node: Scan, present: Sequence[str]) -> tuple[list[str], list[Column]]:
    """The columns to read, in order, and the declared ones among them."""
    wanted = list(present if node.columns is None else node.columns)
    declared = [column for column in node.schema if node.columns is None or column.name in wanted]
    for own in [*wanted, *(column.name for column in declared)]:
        if own not in present:
            raise SchemaError(
                f"no column {own!r} in the source",
                found=", ".join(present) or "no columns",
                closest=closest_names(own, present),
            )
    return wanted, declared


def _runs(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[Any, list[str]]]:
    """Files that follow each other and are alike, as (what they have in common, files)."""
    for shape, run in itertools.groupby(items, key=lambda item: item[1]):
        yield shape, [file for file, _ in run]


def _union(parts: Sequence[Query]) -> Query:
    """Rows one after another; a column that one part lacks is null in its rows."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(own for part in parts for own in part.names))
    filled = [
        part.select([(own, part.column(own) if own in part.names else "NULL") for own in names]) for part in parts
    ]
    return Query(" UNION ALL ".join(sql("(", part.sql, ")") for part in filled), names)


def _reader(session: Session, function: str, files: Sequence[str], options: Sequence[str], columns: int) -> str:
    """A table function over files, its columns named by their place."""
    paths = sql("[", listed(text(session.path(file)) for file in files), "]")
    aliases = listed(cell(index) for index in range(columns))
    return sql(function, "(", listed([paths, *options, "hive_partitioning = false"]), ") AS q(", aliases, ")")


# Parquet


def _parquet(session: Session, node: Scan) -> Query:
    schemas = [(file, _parquet_schema(file, node)) for file in node.files]
    try:
        schema = pa.unify_schemas([schema for _, schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise SourceError(
            "files of one source have columns that do not fit together", found=str(error).splitlines()[0]
        ) from error
    wanted, declared = _wanted(node, schema.names)
    parts = []
    for shape, files in _runs(schemas):
        columns = [(field.name, _stored(cell(index), field.type)) for index, field in enumerate(shape)]
        columns = [(own, expression) for own, expression in columns if own in wanted]
        part = _parquet_part(session, files, columns, len(shape))
        session.suspect(part.sql, _accuser(files, node))
        parts.append(part)
    return fit(session, _union(parts).pick(wanted), declared, what=f"source {node.files[0]!r}")


def _parquet_schema(file: str, node: Scan) -> pa.Schema:
    try:
        return pq.read_schema(file).remove_metadata()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, node, error) from error


def _parquet_part(session: Session, files: Sequence[str], columns: Sequence[tuple[str, str]], width: int) -> Query:
    shown = [sql(expression, "AS", cell(index)) for index, (_, expression) in enumerate(columns)]
    table = _reader(session, "read_parquet", files, (), width)
    # of no columns there are still the rows
    return Query(sql("SELECT", listed(shown) or "1 AS c0", "FROM", table), tuple(own for own, _ in columns))


def _accuser(files: Sequence[str], node: Scan) -> Callable[[duckdb.Error], GrangeError]:
    shown = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    return lambda error: unreadable(shown, node, error)


def _stored(expression: str, arrow: pa.DataType) -> str:
    """A column of a Parquet file, which holds nulls and lengths of time as integers and says so to Arrow alone."""
    if pa.types.is_null(arrow):
        return "NULL"
    if not pa.types.is_duration(arrow):
        return expression
    if arrow.unit == "ns":
        return sql("to_microseconds(", expression, "// 1000)")
    return sql("to_microseconds(", expression, "*", str(_LENGTHS[arrow.unit]), ")")


# CSV


def _csv(session: Session, node: Scan) -> Query:
    headers = [(file, _header(file, node)) for file in node.files]
    wanted, declared = _wanted(node, tuple(dict.fromkeys(own for _, header in headers for own in header)))
    options = [
        "all_varchar = true", "header = true", "auto_detect = true", "skip = 0", "comment = ''", "nullstr = ''",
        "allow_quoted_nulls = false", "quote = '\"'", "escape = '\"'", sql("delim =", text(node.separator)),
    ]  # fmt: skip
    parts = []
    for header, files in _runs(headers):
        table = _reader(session, "read_csv", files, options, len(header))
        columns = [(own, cell(index)) for index, own in enumerate(header) if own in wanted]
        shown = listed(sql(expression, "AS", cell(index)) for index, (_, expression) in enumerate(columns))
        parts.append(Query(sql("SELECT", shown or "1 AS c0", "FROM", table), tuple(own for own, _ in columns)))
    rows = _spooled(session, _union(parts).pick(wanted), node)
    typed = {column.name for column in declared}
    guessed = _infer(session, rows, [own for own in wanted if own not in typed])
    rows = rows.select([(own, guessed.get(own, rows.column(own))) for own in rows.names])
    return fit(session, rows, declared, what=f"source {node.files[0]!r}", caster=_cast_field, judge=_judge_field)


def _header(file: str, node: Scan) -> tuple[str, ...]:
    try:
        with _open(file) as stream:
            header = next(csv.reader(stream, delimiter=node.separator), None)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise unreadable(file, node, error) from error
    if not header:
        raise SourceError(f"file {file!r} is empty", try_="a CSV file starts with the names of its columns")
    if len(set(header)) != len(header):
        twice = next(own for own in header if header.count(own) > 1)
        raise SourceError(f"file {file!r} has two columns {twice!r}", found=", ".join(header))
    return tuple(header)


def _spooled(session: Session, query: Query, node: Scan) -> Query:
    shown = node.files[0] if len(node.files) == 1 else f"{node.files[0]} and {len(node.files) - 1} more"
    session.suspect(query.sql, lambda error: unreadable(shown, node, error))
    return session.spool(query)


def _infer(session: Session, rows: Query, names: Sequence[str]) -> dict[str, str]:
    """By column of text, the expression of the narrowest of integer, number and true or false that holds it all."""
    if not names:
        return {}
    tests: list[str] = []
    for own in names:
        column = rows.column(own)
        integer = sql("TRY_CAST(", column, "AS BIGINT) IS NOT NULL AND", matches(column, r"-?\d+"))
        for test in (integer, matches(column, _DIGITS), matches(column, _TRUTH)):
            tests.append(sql("bool_and(", test, ") FILTER (", column, "IS NOT NULL)"))
    answers = session.numbers(
        sql("SELECT", listed(sql(test, "AS", cell(i)) for i, test in enumerate(tests)), "FROM", rows.nested("q"))
    )
    found = {}
    for place, own in enumerate(names):
        for answer, target in zip(answers[3 * place : 3 * place + 3], ("BIGINT", "DOUBLE", "BOOLEAN"), strict=True):
            if answer:  # null when every field is empty: then it stays text
                found[own] = sql("CAST(", rows.column(own), "AS", target, ")")
                break
    return found


def _cast_field(expression: str, arrow: pa.DataType, dtype: DataType) -> Cast | None:
    """How DuckDB reads a CSV field as its declared type."""
    if dtype.is_integer:
        fits = cast(sql("CAST(", expression, "AS BIGINT)"), pa.int64(), dtype)
        plain = matches(expression, _WHOLE)
        if fits is None:
            return None
        # only text of the plain form is cast at all, so that the second half never fails
        second = sql("CASE WHEN", plain, "THEN", fits.condition or "true", "END")
        return Cast(fits.expression, every([plain, sql("coalesce(", second, ", false)")]))
    match dtype.kind:
        case "float32" | "float64":
            target = "FLOAT" if dtype.kind == "float32" else "DOUBLE"
            return Cast(sql("CAST(", expression, "AS", target, ")"), matches(expression, _DIGITS))
        case "boolean":
            return Cast(sql("CAST(", expression, "AS BOOLEAN)"), matches(expression, _TRUTH))
        case "binary":
            return Cast(sql("encode(", expression, ")"))
        case _:
            return cast(expression, arrow, dtype)


def _judge_field(values: pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    """A CSV field read as its declared type by Arrow."""
    if not (column.dtype.is_integer or column.dtype.kind in _PARSED):
        return conform_column(values, column, what=what)
    if column.dtype.kind == "binary":
        return values.cast(pa.large_binary())
    return parse_text(values, column, what=what)


# JSON Lines


def _jsonl(session: Session, node: Scan) -> Query:
    for file in node.files:
        _exists(file, node)
    table = _reader(session, "read_json_objects", node.files, ["format = 'newline_delimited'"], 1)
    lines = _spooled(session, Query(sql("SELECT c0 FROM", table), ("line",)), node)
    _all_objects(session, lines, node)
    # of a file without lines nothing but the declaration is known
    wanted, declared = _wanted(node, _json_names(session, lines) or node.schema.names)
    types = {column.name: column.dtype for column in declared}
    columns = [(own, _json_column(session, lines, own, types.get(own), node)) for own in wanted]
    return fit(session, lines.select(columns), declared, what=f"source {node.files[0]!r}")


def _exists(file: str, node: Scan) -> None:
    try:
        Path(file).stat()
    except OSError as error:
        raise unreadable(file, node, error) from error


def _all_objects(session: Session, lines: Query, node: Scan) -> None:
    kinds = sql("SELECT min(json_type(c0)) FILTER (json_type(c0) <> 'OBJECT') AS kind FROM", lines.nested("q"))
    (other,) = session.numbers(kinds)
    if other is not None:
        raise SourceError(f"file {node.files[0]!r}: a line is not a JSON object", found=str(other).lower())


def _json_names(session: Session, lines: Query) -> list[str]:
    """The keys of all lines, in the order in which they first appear."""
    numbered = sql("SELECT row_number() OVER () AS line, json_keys(c0) AS keys FROM", lines.nested("q"))
    pairs = sql("SELECT line, unnest(keys) AS key, generate_subscripts(keys, 1) AS place FROM (", numbered, ")")
    first = sql("SELECT key, min((line, place)) AS first FROM (", pairs, ") GROUP BY key")
    return list(session.numbers(sql("SELECT coalesce(list(key ORDER BY first), []) AS keys FROM (", first, ")"))[0])


def _json_column(session: Session, lines: Query, own: str, dtype: DataType | None, node: Scan) -> str:
    """The expression of one key's values, in the type that holds them all."""
    pointer = "/" + own.replace("~", "~0").replace("/", "~1")
    value = sql("json_extract(c0,", text(pointer), ")")
    (found,) = session.numbers(sql("SELECT json_group_structure(", value, ") AS s FROM", lines.nested("q")))
    shape = "NULL" if found is None else json.loads(found)
    if shape == "NULL":
        return "NULL"
    if _mixed(shape):
        raise _not_one_type(own, dtype, shape, node)
    if shape == "VARCHAR":
        return sql("json_extract_string(c0,", text(pointer), ")")
    return sql("from_json(", value, ",", text(json.dumps(_readable(shape, _beyond(session, lines, value, shape)))), ")")


def _not_one_type(own: str, dtype: DataType | None, shape: Any, node: Scan) -> SourceError | ColumnTypeError:
    found = "values of different types, or objects without keys: " + json.dumps(shape)
    if dtype is None:
        return SourceError(f"file {node.files[0]!r}: the type of {own!r} cannot be told", found=found)
    return ColumnTypeError(
        f"source {node.files[0]!r}: column {own!r} is declared {dtype} and holds other values",
        found=found,
        try_="make its values of one type",
        details={"column": own, "declared": str(dtype), "found_type": json.dumps(shape)},
    )


def _beyond(session: Session, lines: Query, value: str, shape: Any) -> bool:
    """Whether some integer needs all 64 bits."""
    if shape != "UBIGINT":
        return False
    most = sql("SELECT max(from_json(", value, ", '\"UBIGINT\"')) AS most FROM", lines.nested("q"))
    return bool(session.numbers(most)[0] >= 1 << 63)


def _mixed(shape: Any) -> bool:
    match shape:
        case dict():
            return any(_mixed(inner) for inner in shape.values())
        case [item]:
            return _mixed(item)
        case _:
            return bool(shape == "JSON")


def _readable(shape: Any, beyond: bool) -> Any:
    """A structure as `from_json` takes it: integers signed, nulls as text that is always null."""
    match shape:
        case dict():
            return {own: _readable(inner, beyond) for own, inner in shape.items()}
        case [item]:
            return [_readable(item, beyond)]
        case "UBIGINT":
            return "UBIGINT" if beyond else "BIGINT"
        case "NULL":
            return "VARCHAR"
        case "HUGEINT" | "UHUGEINT":
            return "DOUBLE"
        case _:
            return shape


def _open(file: str) -> IO[str]:
    if file.lower().endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return Path(file).open(encoding="utf-8-sig", newline="")


__all__ = ["scan"]
