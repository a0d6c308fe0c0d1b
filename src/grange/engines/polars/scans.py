"""Reading files, lazily: what is asked of the rows afterwards decides how much is read.

Declared raw types are honoured: `007` in a column declared string stays text. In CSV what is not declared is
inferred from the column's values: integers, numbers, true and false, else text (a time stays text until a
`Conform` reads it); an unquoted empty field is null and nothing else is.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from typing import Final, assert_never

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from grange.definitions.sources import FileFormat
from grange.engines.polars.values import conformed, from_arrow, is_canonical, polars_type
from grange.errors import ColumnTypeError, SchemaError, SourceError, closest_names
from grange.plan.nodes import Scan
from grange.types import DataType
from grange.types.arrow import arrow_type
from grange.types.schema import Column

SAMPLE: Final = 10_000
"""From how many rows of a file the types of its undeclared columns are inferred first."""

_FROM_TEXT: Final = ("string", "uuid", "date", "datetime")
"""Types whose values `conform` reads from text itself."""


def scan(node: Scan, *, infer: int | None, limit: int | None) -> pl.LazyFrame:
    """The rows of files, files in the given order. Nothing but headers and samples is read yet, except where
    declared columns must be converted.

    Args:
        node: what to read.
        infer: from how many rows of each file undeclared types are inferred; None is all of them.
        limit: so many rows are enough.

    Raises:
        SchemaError: a declared or selected column is in none of the files.
        ColumnTypeError: a value does not fit its declared type.
        SourceError: the files' columns do not fit together.
        PolarsError, OSError: a file cannot be read; `blame` says which.
    """
    frame = together(_files(node, infer), what="files of one source", names=node.files)
    names = frame.collect_schema().names()
    wanted = node.columns if node.columns is not None else tuple(names)
    for name in (*wanted, *node.schema.names):
        check_column(name, names, what="in the source")
    declared = [column for column in node.schema if column.name in wanted]
    frame = frame.select(wanted)
    return _declared(frame if limit is None else frame.head(limit), declared, node)


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
        ColumnTypeError: a CSV value does not fit its declared type; names column, value and row.
    """
    for file in node.files:
        _blame_values(node, file)
        try:
            _one(node, file, None).collect()
        except FileNotFoundError as error:
            raise SourceError(f"file {file!r} does not exist", try_="look at the path of its source") from error
        except (PolarsError, OSError) as error:
            raise SourceError(
                f"file {file!r} cannot be read as {node.format}", found=(str(error).splitlines() or ["nothing"])[0]
            ) from error


def _files(node: Scan, infer: int | None) -> list[pl.LazyFrame]:
    if node.format == "parquet" and _same_schema(node.files):
        return [_parquet(list(node.files))]
    return [_one(node, file, infer) for file in node.files]


def _one(node: Scan, file: str, infer: int | None) -> pl.LazyFrame:
    match node.format:
        case "parquet":
            return _parquet([file])
        case "csv":
            return _csv(node, file, infer)
        case "jsonl":
            # this reader expands patterns always: a file may well be called so
            return pl.scan_ndjson(glob.escape(file), infer_schema_length=infer)
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


def _csv(node: Scan, file: str, infer: int | None) -> pl.LazyFrame:
    overrides: dict[str, pl.DataType] = {column.name: _raw_csv(column.dtype) for column in node.schema}
    return pl.scan_csv(
        file, separator=node.separator, schema_overrides=overrides, infer_schema_length=infer, glob=False
    )


def _raw_csv(dtype: DataType) -> pl.DataType:
    """How a declared CSV column is read: numbers as such, all else as the text that it is."""
    return polars_type(dtype) if dtype.is_integer or dtype.is_float else pl.String()


def _declared(frame: pl.LazyFrame, columns: Sequence[Column], node: Scan) -> pl.LazyFrame:
    """Declared columns in their declared types; what is of its type already costs nothing."""
    found = frame.collect_schema()
    pending = [column for column in columns if not is_canonical(found[column.name], column.dtype)]
    if not pending:
        return frame
    # here and now, because Polars would turn the error of a lazy conversion into its own
    rows = frame.collect()
    what = f"source {node.files[0]!r}"
    return rows.with_columns(
        _converted(rows.get_column(column.name), column, node.format, what) for column in pending
    ).lazy()


def _converted(series: pl.Series, column: Column, file_format: FileFormat, what: str) -> pl.Series:
    if file_format != "csv" or column.dtype.kind in _FROM_TEXT:
        return conformed(series, column, what=what)
    values = pa.chunked_array([series.to_arrow()])
    try:
        return from_arrow(column.name, values.cast(arrow_type(column.dtype)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _misfit(column, what, str(error).splitlines()[0]) from error


def _blame_values(node: Scan, file: str) -> None:
    """Look for a CSV value that is not the number it was declared to be."""
    if node.format != "csv":
        return
    numbers = [column for column in node.schema if _raw_csv(column.dtype) != pl.String()]
    texts = dict.fromkeys((column.name for column in numbers), pl.String())
    try:
        found = pl.scan_csv(file, separator=node.separator, schema_overrides=texts, infer_schema=False, glob=False)
        frame = found.select(name for name in texts if name in found.collect_schema()).collect()
    except (PolarsError, OSError):
        return  # not a question of values: `blame` reads the file next, and says what is wrong with it
    for column in numbers:
        text = frame.get_column(column.name, default=pl.Series(dtype=pl.String))
        bad = (text.is_not_null() & text.cast(polars_type(column.dtype), strict=False).is_null()).arg_true()
        if len(bad):
            raise _misfit(column, f"source {file!r}", f"{text[bad[0]]!r} in row {bad[0]}")


def _misfit(column: Column, what: str, found: str) -> ColumnTypeError:
    return ColumnTypeError(
        f"{what}: column {column.name!r} is declared {column.dtype} and holds text",
        found=found,
        try_=f"declare the type it has: schema={{{column.name!r}: 'string'}}",
        details={"column": column.name, "declared": str(column.dtype), "found_type": "string"},
    )
