"""Reading files, lazily: what is asked of the rows afterwards decides how much is read.

Declared raw types are honoured: `007` in a column declared string stays text. In CSV what is not declared is
inferred from the column's values in all files: integers, numbers, true and false, else text (a time stays text until
a `Conform` reads it); an unquoted empty field is null and nothing else is. Where a few rows are enough, types are
inferred from what was read.

CSV is read by Arrow, at once: Polars would pad a row that has too few fields with nulls. Arrow drops quotes inside
of quoted fields (`"x"y` reads `xy`), which other engines refuse.
"""

from __future__ import annotations

import csv
import glob
import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, assert_never

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from grange.engines.polars.values import conformed, from_arrow, is_canonical, polars_type
from grange.errors import ColumnTypeError, SchemaError, SourceError, closest_names
from grange.plan.checks import unreadable
from grange.plan.nodes import Scan
from grange.types.arrow import cast_text, conform_column, parse_text
from grange.types.schema import Column

_SAMPLE: Final = 10_000
"""From how many rows of a JSON Lines file its types are inferred, where fewer are asked for."""

_TEXT: Final = pa.large_string()
_FROM_TEXT: Final = ("string", "uuid", "date", "datetime")
"""Types whose values `conform` reads from text itself."""


def scan(node: Scan, *, limit: int | None) -> pl.LazyFrame:
    """The rows of files, files in the given order. Of Parquet and JSON Lines nothing but headers and samples is read
    yet, except where declared columns must be converted.

    Args:
        node: what to read.
        limit: so many rows are enough.

    Raises:
        SchemaError: a declared or selected column is in none of the files.
        ColumnTypeError: a value does not fit its declared type.
        SourceError: the files' columns do not fit together, or a CSV file cannot be read.
        PolarsError, OSError: a file cannot be read; `blame` says which.
    """
    if node.format == "csv":
        return _csv(node, limit)
    frame = together(_files(node, limit), what="files of one source", names=node.files)
    wanted, declared = _wanted(node, frame.collect_schema().names())
    frame = frame.select(wanted)
    return _declared(frame if limit is None else frame.head(limit), declared, node)


def _wanted(node: Scan, names: Sequence[str]) -> tuple[tuple[str, ...], list[Column]]:
    """The columns to read, in order, and the declared ones among them."""
    wanted = tuple(names) if node.columns is None else node.columns
    for name in (*wanted, *node.schema.names):
        check_column(name, names, what="in the source")
    return wanted, [column for column in node.schema if column.name in wanted]


def together(frames: Sequence[pl.LazyFrame], *, what: str, names: Sequence[str]) -> pl.LazyFrame:
    """Frames one after another; a column that one of them lacks is null in its rows.

    Numbers of different widths meet in the wider type, times of different units in the finer one.

    Args:
        frames: one or more.
        what: they are, for messages.
        names: what each is called, for messages.

    Raises:
        SourceError: a column is of kinds that have nothing in common.
    """
    if len(frames) == 1:
        return frames[0]
    schemas = [frame.collect_schema() for frame in frames]
    if all(schema == schemas[0] for schema in schemas[1:]):
        return pl.concat(frames, how="vertical")
    first: dict[str, tuple[pl.DataType, str]] = {}
    for schema, place in zip(schemas, names, strict=True):
        for name, dtype in schema.items():
            if dtype == pl.Null:
                continue
            before, there = first.setdefault(name, (dtype, place))
            if not _meet(before, dtype):
                raise SourceError(
                    f"{what} have columns that do not fit together",
                    found=f"column {name!r} is {before} in {there} and {dtype} in {place}",
                    try_="declare the column's type on the source",
                )
    return pl.concat(frames, how="diagonal_relaxed")


def _meet(left: pl.DataType, right: pl.DataType) -> bool:
    """Whether two types have one that holds the values of both."""
    if left.is_numeric() and right.is_numeric():
        signs = left.is_signed_integer() or right.is_signed_integer()
        return not (signs and pl.UInt64 in (left, right))
    return type(left) is type(right)


def check_column(name: str, names: Sequence[str], *, what: str) -> None:
    """Fail unless a column is there.

    Raises:
        SchemaError: it is not.
    """
    if name not in names:
        raise SchemaError(
            f"no column {name!r} {what}", found=", ".join(names) or "no columns", closest=closest_names(name, names)
        )


def blame(node: Scan) -> None:
    """Find the file that cannot be read, after reading failed.

    Raises:
        SourceError: a file is absent, or not of its format; names it.
        ColumnTypeError: a declared column of JSON Lines has values of different types.
    """
    for file in node.files:
        try:
            _one(node, file, None).collect()
        except (PolarsError, OSError) as error:
            if node.format == "jsonl" and isinstance(error, PolarsError):
                _blame_values(node, file)
            raise unreadable(file, node, error) from error


def _files(node: Scan, limit: int | None) -> list[pl.LazyFrame]:
    if node.format == "parquet" and _same_schema(node.files):
        return [_parquet(list(node.files))]
    return [_one(node, file, limit) for file in node.files]


def _one(node: Scan, file: str, limit: int | None) -> pl.LazyFrame:
    match node.format:
        case "parquet":
            return _parquet([file])
        case "csv":
            return _csv(replace(node, files=(file,)), limit)
        case "jsonl":
            return _jsonl(node, file, limit)
        case _:
            assert_never(node.format)


def _same_schema(files: Sequence[str]) -> bool:
    if len(files) == 1:
        return True
    first = pl.read_parquet_schema(files[0])
    return all(list(pl.read_parquet_schema(file).items()) == list(first.items()) for file in files[1:])


def _parquet(files: list[str]) -> pl.LazyFrame:
    # the files alone: no partition columns out of the names of the folders above them
    frame = pl.scan_parquet(files, hive_partitioning=False, glob=False)
    binaries = [name for name, dtype in frame.collect_schema().items() if dtype == pl.Binary]
    if not binaries:
        return frame
    arrow = pq.read_schema(files[0])
    return frame.with_columns(_uuid_text(name) for name in binaries if _is_uuid(arrow.field(name).type))


def _is_uuid(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid"


def _uuid_text(name: str) -> pl.Expr:
    """The canonical text of a uuid's sixteen bytes, which is all that Polars reads of it."""
    digits = pl.col(name).bin.encode("hex")
    parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    return pl.concat_str(parts, separator="-").alias(name)


# JSON Lines


def _jsonl(node: Scan, file: str, limit: int | None) -> pl.LazyFrame:
    if Path(file).stat().st_size == 0:  # which Polars takes for an error
        return pl.LazyFrame(schema={column.name: polars_type(column.dtype) for column in node.schema})
    # any line may bring a field that no other has; this reader expands patterns always
    sample = None if limit is None else max(limit, _SAMPLE)
    frame = pl.scan_ndjson(glob.escape(file), infer_schema_length=sample)
    texts = [name for name, dtype in frame.collect_schema().items() if dtype == pl.String]
    _check_texts(node, file, [name for name in texts if node.columns is None or name in node.columns], limit)
    wide = [name for name, dtype in frame.collect_schema().items() if dtype == pl.Int128]
    return frame.with_columns(_narrowed(frame, name) for name in wide) if wide else frame


def _check_texts(node: Scan, file: str, names: Sequence[str], limit: int | None) -> None:
    """Fail when a column of text has numbers or truth values in it, which Polars would turn into text.

    Raises:
        SourceError: it has, so that its type cannot be told.
        ColumnTypeError: it has, and is declared.
    """
    for other, called in ((pl.Float64(), "numbers"), (pl.Boolean(), "truth values")) if names else ():
        # read as something else than text, text is null
        schema: dict[str, pl.DataType] = dict.fromkeys(names, other)
        values = pl.scan_ndjson(glob.escape(file), schema=schema, ignore_errors=True)
        values = values if limit is None else values.head(limit)
        first = values.select(pl.col(names).is_not_null().arg_true().first()).collect().row(0)
        for name, row in zip(names, first, strict=True):
            if row is not None:
                raise _mixed(node, file, name, f"text, and {called} as in row {row}")


def _blame_values(node: Scan, file: str) -> None:
    """Look for a declared column whose values are not of one type."""
    try:
        types = pl.scan_ndjson(glob.escape(file), infer_schema_length=None).collect_schema()
    except PolarsError:
        return  # not a question of values: the file is no JSON Lines
    for name in (name for name in node.schema.names if name in types):
        try:
            pl.scan_ndjson(glob.escape(file), schema={name: types[name]}).collect()
        except PolarsError as error:
            raise _mixed(node, file, name, str(error).splitlines()[0]) from error


def _mixed(node: Scan, file: str, name: str, found: str) -> SourceError | ColumnTypeError:
    dtype = node.schema.get(name)
    if dtype is None:
        return SourceError(f"file {file!r}: the type of {name!r} cannot be told", found=found)
    return ColumnTypeError(
        f"source {file!r}: column {name!r} is declared {dtype} and holds other values",
        found=found,
        try_="make its values of one type",
        details={"column": name, "declared": str(dtype), "found_type": found},
    )


def _narrowed(frame: pl.LazyFrame, name: str) -> pl.Expr:
    """Integers of which one needs all 64 bits or more, in a type that Grange has: unsigned, or else a float."""
    column = pl.col(name)
    least, most = frame.select(least=column.min(), most=column.max()).collect().row(0)
    return column.cast(pl.UInt64 if least >= 0 and most < 1 << 64 else pl.Float64)


# CSV


def _csv(node: Scan, limit: int | None) -> pl.LazyFrame:
    headers = {file: _header(node, file) for file in node.files}
    wanted, declared = _wanted(node, tuple(dict.fromkeys(name for header in headers.values() for name in header)))
    types = {column.name: column for column in declared}
    tables: list[pa.Table] = []
    left = limit
    for file, header in headers.items():
        # of a file without any of the columns there are still the rows
        names = [name for name in header if name in wanted] or header[:1]
        table = _read_csv(node, file, names, left, only_column=len(header) == 1)
        if left is not None:
            table = table.slice(0, left)
            left -= len(table)
        tables.append(pa.table({name: _declared_text(table.column(name), types.get(name), file) for name in names}))
    rows = pa.concat_tables(tables, promote_options="default")
    columns = {name: rows.column(name) if name in types else _inferred(rows.column(name)) for name in wanted}
    # by a mapping, because Polars would give a name to a column that has none
    return pl.LazyFrame({name: from_arrow(name, values) for name, values in columns.items()} or None, height=len(rows))


def _declared_text(values: pa.ChunkedArray, column: Column | None, file: str) -> pa.ChunkedArray:
    return values if column is None else _parsed(values, column, f"source {file!r}")


def _header(node: Scan, file: str) -> list[str]:
    try:
        with _open(file) as lines:
            header = next(csv.reader(lines, delimiter=node.separator), None)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise unreadable(file, node, error) from error
    if not header:
        raise SourceError(f"file {file!r} is empty", try_="a CSV file starts with the names of its columns")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise SourceError(f"file {file!r} has two columns {twice!r}", found=", ".join(header))
    return header


def _open(file: str) -> IO[str]:
    if file.endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return Path(file).open(encoding="utf-8-sig", newline="")


def _read_csv(node: Scan, file: str, names: Sequence[str], limit: int | None, *, only_column: bool) -> pa.Table:
    """Some columns of a file, as the text that they are; at least so many rows, where there are as many.

    A row of more or fewer fields than the header is an error.
    """
    schema = pa.schema([(name, _TEXT) for name in names])
    parse = pacsv.ParseOptions(
        delimiter=node.separator,
        newlines_in_values=True,
        ignore_empty_lines=not only_column,  # in the only column, an empty line is a null
    )
    convert = pacsv.ConvertOptions(
        column_types=schema,
        include_columns=list(names),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        if limit is None:
            _check_quotes(node, file)
            return pacsv.read_csv(file, parse_options=parse, convert_options=convert)
        batches, rows = [], 0
        with pacsv.open_csv(file, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                batches.append(batch)
                rows += batch.num_rows
                if rows >= limit:
                    break
        return pa.Table.from_batches(batches, schema)
    except (pa.ArrowException, OSError, EOFError, ValueError, csv.Error) as error:
        raise unreadable(file, node, error) from error


def _check_quotes(node: Scan, file: str) -> None:
    """Fail when a quote is never closed: Arrow would take the rest of the file for one field.

    Raises:
        csv.Error: one is not.
    """
    quotes = 0
    with gzip.open(file) if file.endswith(".gz") else Path(file).open("rb") as content:
        while part := content.read(1 << 20):
            quotes += part.count(b'"')
    if quotes % 2:  # or one stands inside of a field that is not quoted, which is fine
        with _open(file) as lines:
            for _ in csv.reader(lines, delimiter=node.separator, strict=True):
                pass


def _inferred(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The narrowest of true or false, integer, number, and text that holds every value."""
    if values.null_count == len(values):
        return values
    for target in (pa.int64(), pa.float64()):
        parsed = cast_text(values, target)
        if parsed is not None:  # Arrow takes 0x1F for a number, and nobody else does
            return values if pc.any(pc.match_substring_regex(values, "^[+-]?0[xX]")).as_py() else parsed
    if pc.all(pc.match_substring_regex(values, "^(?i:true|false)$")).as_py():
        return values.cast(pa.bool_())
    return values


def _parsed(values: pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    """Text as its declared type."""
    if column.dtype.kind in _FROM_TEXT:
        return conform_column(values, column, what=what)
    return parse_text(values, column, what=what)


# Declared types


def _declared(frame: pl.LazyFrame, columns: Sequence[Column], node: Scan) -> pl.LazyFrame:
    """Declared columns in their declared types; what is of its type already costs nothing."""
    found = frame.collect_schema()
    pending = [column for column in columns if not is_canonical(found[column.name], column.dtype)]
    if not pending:
        return frame
    # here and now, because Polars would turn the error of a lazy conversion into its own
    rows = frame.collect()
    what = f"source {node.files[0]!r}"
    return rows.with_columns(conformed(rows.get_column(column.name), column, what=what) for column in pending).lazy()
