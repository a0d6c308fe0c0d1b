"""Rows from and to files that a command names. Paths are relative to where the command runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.sources import FileFormat, FileSource
from grange.errors import DefinitionError, SourceError, StorageFullError, UsageError
from grange.frames import Rows
from grange.types import DataType

if TYPE_CHECKING:
    import polars as pl

_PLAIN_KINDS: Final = ("boolean", "string", "float32", "float64")


def file_format(path: Path) -> FileFormat:
    """The format that a path's ending names: parquet, csv or jsonl.

    Raises:
        UsageError: none of them.
    """
    if path.suffix:
        try:
            return FileSource(str(path)).format
        except DefinitionError:
            pass
    raise UsageError(
        f"cannot tell the format of {str(path)!r} from its ending", try_="end it in .parquet, .csv or .jsonl"
    )


def read_rows(path: Path, dtypes: Mapping[str, DataType]) -> Rows:
    """The rows of a file.

    Args:
        path: a Parquet, CSV (or TSV) or JSON Lines file.
        dtypes: of columns whose type is known: `007` in a CSV file is text where the column is.

    Raises:
        SourceError: there is no such file, or it is not of its format.
        UsageError: the ending names no format.
    """
    import polars as pl

    kind = file_format(path)
    if not path.is_file():
        near = sorted(entry.name for entry in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        raise SourceError(
            f"there is no file {str(path)!r}", found=f"beside it: {', '.join(near[:5])}" if near else None
        )
    try:
        match kind:
            case "parquet":
                return Rows(polars=pl.read_parquet(path))
            case "jsonl":
                return Rows(polars=pl.read_ndjson(path, infer_schema_length=None))
            case "csv":
                return Rows(polars=_read_csv(path, dtypes))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"{str(path)!r} cannot be read as {kind}: {message}") from error


def _read_csv(path: Path, dtypes: Mapping[str, DataType]) -> pl.DataFrame:
    import polars as pl

    separator = FileSource(str(path)).separator
    header = pl.read_csv(path, separator=separator, n_rows=0, infer_schema=False).columns
    types = {name: _polars_type(dtype) for name, dtype in dtypes.items() if name in header}
    overrides = {name: dtype for name, dtype in types.items() if dtype is not None}
    return pl.read_csv(
        path, separator=separator, schema_overrides=overrides, try_parse_dates=True, infer_schema_length=None
    )


def _polars_type(dtype: DataType) -> Any:
    """The Polars type that a CSV column of a known type is read as; None leaves it to how it looks."""
    import polars as pl

    if dtype.kind == "uuid":
        return pl.String()
    if dtype.is_integer or dtype.kind in _PLAIN_KINDS:
        from grange.types.arrow import arrow_type

        return pl.Series(pl.from_arrow(_empty(arrow_type(dtype)))).dtype
    return None


def _empty(arrow: Any) -> Any:
    import pyarrow as pa

    return pa.array([], type=arrow)


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows to a file, all or nothing: beside, then in its place.

    Raises:
        UsageError: the ending names no format, the folder is not there, or CSV cannot hold a column's type.
        StorageFullError: no space left; the file is as it was.
    """
    kind = file_format(path)
    if kind == "csv":
        _refuse_nested(path, rows)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        match kind:
            case "parquet":
                rows.polars.write_parquet(aside)
            case "csv":
                rows.polars.write_csv(aside, separator=FileSource(str(path)).separator)
            case "jsonl":
                rows.polars.write_ndjson(aside)
        aside.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFullError(f"no space left to write {str(path)!r}") from error
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)


def _refuse_nested(path: Path, rows: Rows) -> None:
    nested = [name for name, dtype in rows.polars.schema.items() if dtype.is_nested()]
    if nested:
        raise UsageError(
            f"CSV cannot hold the lists of column {nested[0]!r}", try_=f"--output {path.with_suffix('.parquet')}"
        )
