"""Reading files for the `reference` engine.

Declared raw types are honoured: `007` in a column declared string stays text. What is not declared is inferred
from the column's values as little as possible: integers, then numbers, then true and false, else text (a time
stays text until a `Conform` reads it). In CSV an empty field is null and nothing else is: `NA` is text.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final, assert_never

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from grange.errors import ColumnTypeError, DataError, SchemaError, SourceError
from grange.plan.checks import unreadable
from grange.plan.nodes import Scan
from grange.types import Schema
from grange.types.arrow import arrow_type, conform_column
from grange.types.schema import Column

_TEXT: Final = pa.large_string()
_FROM_TEXT: Final = ("string", "uuid", "date", "datetime")
"""Types whose values `conform` reads from text itself."""


def scan(node: Scan) -> pa.Table:
    """The rows of files, files in the given order. See `Scan`.

    Raises:
        SourceError: a file is absent, or cannot be read as its format.
        SchemaError: a declared or selected column is in none of the files.
        ColumnTypeError: a value does not fit its declared type.
    """
    table = _together([_read(Path(file), node) for file in node.files])
    if node.format == "csv":  # all files are one text
        table = _inferred(table, node.schema)
    declared = [column for column in node.schema if node.columns is None or column.name in node.columns]
    for column in declared:
        place = table.schema.get_field_index(_present(table, column.name))
        table = table.set_column(place, column.name, _declared(table.column(place), column, node))
    if node.columns is None:
        return table
    return pa.table({name: table.column(_present(table, name)) for name in node.columns})


def _read(path: Path, node: Scan) -> pa.Table:
    try:
        match node.format:
            case "parquet":
                # the file alone: no partition columns out of the names of the folders above it
                return pq.ParquetFile(path, page_checksum_verification=True).read().replace_schema_metadata(None)
            case "csv":
                return _read_csv(path, node)
            case "jsonl":
                return _read_jsonl(path, node.schema)
            case _:
                assert_never(node.format)
    except DataError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, csv.Error) as error:
        # Arrow says ArrowInvalid (a ValueError), files say OSError, text says UnicodeDecodeError (a ValueError)
        raise unreadable(str(path), node, error) from error


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """Files one after another; a column that one file lacks is null in its rows."""
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise SourceError(
            "files of one source have columns that do not fit together", found=str(error).splitlines()[0]
        ) from error


def _present(table: pa.Table, name: str) -> str:
    if name not in table.column_names:
        raise SchemaError(f"no column {name!r} in the source", found=", ".join(table.column_names) or "no columns")
    return name


def _declared(values: pa.ChunkedArray, column: Column, node: Scan) -> pa.ChunkedArray:
    """A column in its declared raw type."""
    what = f"source {node.files[0]!r}"
    if node.format == "csv" and column.dtype.kind not in _FROM_TEXT:
        values = _parse(values, column, what)
    return conform_column(values, column, what=what)


def _parse(values: pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    """The text of a CSV column read as its declared type."""
    if column.dtype.kind == "binary":
        return values.cast(pa.large_binary())
    parsed = _cast_text(values, arrow_type(column.dtype))
    if parsed is not None:
        return parsed
    for row, value in enumerate(values.to_pylist()):
        if _cast_text(pa.chunked_array([[value]], type=_TEXT), arrow_type(column.dtype)) is None:
            raise _misfit(column, value, row, what)
    raise AssertionError("a column that does not fit has a value that does not")


def _misfit(column: Column, value: object, row: int, what: str) -> ColumnTypeError:
    found = type(value).__name__
    return ColumnTypeError(
        f"{what}: column {column.name!r} is declared {column.dtype} and holds {found}",
        found=f"{value!r} in row {row}",
        try_=f"declare the type it has: schema={{{column.name!r}: ...}}",
        details={"column": column.name, "declared": str(column.dtype), "found_type": found},
    )


def _cast_text(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray | None:
    """Text as numbers or truth values; None when some of it is none."""
    try:
        return values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _read_csv(path: Path, node: Scan) -> pa.Table:
    """The columns as the text that they are. A row of more or fewer fields than the header is an error."""
    with _open(path) as file:
        lines = csv.reader(file, delimiter=node.separator, strict=True)
        header = next(lines, None)
        for _ in lines:  # so that a quote that is never closed is an error
            pass
    if not header:
        raise SourceError(f"file {str(path)!r} is empty", try_="a CSV file starts with the names of its columns")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise SourceError(f"file {str(path)!r} has two columns {twice!r}", found=", ".join(header))
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(
            delimiter=node.separator,
            newlines_in_values=True,
            ignore_empty_lines=len(header) > 1,  # in the only column, an empty line is a null
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(header, _TEXT),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _inferred(table: pa.Table, declared: Schema) -> pa.Table:
    """The table with undeclared columns of text in the types that hold their values."""
    columns = {name: table.column(name) for name in table.column_names}
    return pa.table({name: values if name in declared else _infer(values) for name, values in columns.items()})


def _infer(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The narrowest of integer, number, true or false, and text that holds every value."""
    if values.null_count == len(values):
        return values
    words = {value.as_py().lower() for value in values if value.is_valid}
    if words <= {"true", "false"}:
        return values.cast(pa.bool_())
    if any(word.lstrip("+-").startswith("0x") for word in words):
        return values
    for target in (pa.int64(), pa.float64()):
        parsed = _cast_text(values, target)
        if parsed is not None:
            return parsed
    return values


def _read_jsonl(path: Path, declared: Schema) -> pa.Table:
    rows: list[dict[str, Any]] = []
    with _open(path, "utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_json_row(line, number, path))
    names = dict.fromkeys([*(name for row in rows for name in row), *(declared.names if not rows else ())])
    columns = {}
    for name in names:
        dtype, values = declared.get(name), [row.get(name) for row in rows]
        what = f"source {str(path)!r}"
        columns[name] = _json_column(values) if dtype is None else _json_declared(values, Column(name, dtype), what)
    return pa.table(columns)


def _json_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_first_of_each, parse_constant=_refuse)
    except ValueError as error:
        raise SourceError(f"file {str(path)!r}, line {number}: not JSON", found=str(error)) from error
    if not isinstance(row, dict):
        raise SourceError(f"file {str(path)!r}, line {number}: not a JSON object", found=type(row).__name__)
    return row


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that comes twice has its first value."""
    row: dict[str, Any] = {}
    for key, value in pairs:
        row.setdefault(key, value)
    return row


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _json_column(values: list[Any]) -> pa.ChunkedArray:
    numbers = [value for value in values if isinstance(value, int)]
    if not any(value >= 1 << 63 or value < -(1 << 63) for value in numbers):
        return pa.chunked_array([pa.array(values)])
    if min(numbers) >= 0 and max(numbers) < 1 << 64:
        return pa.chunked_array([pa.array(values, pa.uint64())])
    return pa.chunked_array([pa.array([float(value) if isinstance(value, int) else value for value in values])])


def _json_declared(values: list[Any], column: Column, what: str) -> pa.ChunkedArray:
    """JSON values as their declared type, one by one, so that the one that does not fit is known."""
    parts = []
    for row, value in enumerate(values):
        try:
            parts.append(conform_column(_json_column([value]), column, what=what))
        except (ColumnTypeError, pa.ArrowException, OverflowError) as error:
            raise _misfit(column, value, row, what) from error
    chunks = [chunk for part in parts for chunk in part.chunks]
    return pa.chunked_array(chunks, type=arrow_type(column.dtype))


def _open(path: Path, encoding: str = "utf-8-sig") -> IO[str]:
    opener: Callable[..., IO[str]] = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding=encoding, newline="")


__all__ = ["scan"]
