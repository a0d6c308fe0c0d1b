"""Frames at the edge: whatever people hold (Polars, pandas, Arrow, Narwhals, rows of dicts) as one `Rows`.

`Rows` is what engines, stores and verbs hand each other: a table that is Arrow or Polars underneath and turns
into the other once, when asked. Nothing here knows a feature store.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grange.errors import ColumnTypeError, MissingDependencyError, RequestError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class Rows:
    """A table in Arrow or Polars, converted to the other at most once. Immutable by agreement."""

    __slots__ = ("_arrow", "_polars")

    def __init__(self, *, arrow: pa.Table | None = None, polars: pl.DataFrame | None = None) -> None:
        assert (arrow is None) != (polars is None), "exactly one of arrow and polars"
        self._arrow = arrow
        self._polars = polars

    @classmethod
    def of(cls, frame: Any, *, what: str = "rows") -> Rows:
        """Rows from any frame.

        Takes: `Rows`; Polars DataFrame or LazyFrame; pandas DataFrame (its index is not a column); Arrow Table,
        RecordBatch or RecordBatchReader; a Narwhals frame; anything with `__arrow_c_stream__`; a mapping of
        column to values; a sequence of mappings, where an absent key is null.

        Raises:
            RequestError: none of these; columns of unequal length, or of one name; a name that is not text.
            ColumnTypeError: a column whose values have no one type that a column can have; names it.
        """
        if isinstance(frame, Rows):
            return frame
        if _is_a(frame, "polars", "DataFrame"):
            return cls(polars=frame)
        if _is_a(frame, "polars", "LazyFrame"):
            return cls(polars=frame.collect())
        if _is_a(frame, "narwhals", "DataFrame", "LazyFrame"):
            return cls.of(frame.to_native(), what=what)
        import pyarrow as pa

        if isinstance(frame, pa.Table):
            return cls(arrow=_distinctly_named(frame, what))
        if isinstance(frame, pa.RecordBatch):
            return cls(arrow=_distinctly_named(pa.Table.from_batches([frame]), what))
        if isinstance(frame, pa.RecordBatchReader):
            return cls(arrow=_distinctly_named(frame.read_all(), what))
        if _is_a(frame, "pandas", "DataFrame"):
            return cls(arrow=_from_pandas(frame, what))
        if hasattr(frame, "__arrow_c_stream__"):
            return cls(arrow=_distinctly_named(pa.table(frame), what))
        if isinstance(frame, Mapping):
            return cls(arrow=_from_columns(frame, what))
        if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
            names: dict[str, None] = {}
            for row in frame:
                names.update(dict.fromkeys(row))
            return cls(arrow=_from_columns({name: [row.get(name) for row in frame] for name in names}, what))
        raise RequestError(
            f"{what} must be a Polars, pandas or Arrow frame, a mapping of columns or a list of dicts",
            found=f"{type(frame).__module__}.{type(frame).__qualname__}",
        )

    @property
    def arrow(self) -> pa.Table:
        """As an Arrow table.

        Raises:
            ColumnTypeError: a Polars column of a type that Arrow does not have; names it.
        """
        if self._arrow is None:
            assert self._polars is not None
            _check_arrow_has(self._polars)
            self._arrow = self._polars.to_arrow()
        return self._arrow

    @property
    def polars(self) -> pl.DataFrame:
        """As a Polars DataFrame."""
        if self._polars is None:
            import polars as pl

            frame = pl.from_arrow(self._arrow)
            assert isinstance(frame, pl.DataFrame)
            self._polars = frame
        return self._polars

    @property
    def pandas(self) -> Any:
        """As a pandas DataFrame with Arrow-backed nullable types, so that integers with nulls stay integers.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        pd = require("pandas", extra="pandas")
        return self.arrow.to_pandas(types_mapper=pd.ArrowDtype)

    @property
    def is_polars(self) -> bool:
        """Whether the rows are in Polars already, so that `.polars` costs nothing."""
        return self._polars is not None

    @property
    def column_names(self) -> list[str]:
        """The columns, in order."""
        return list(self._polars.columns if self._polars is not None else self.arrow.column_names)

    def __len__(self) -> int:
        return self._polars.height if self._polars is not None else int(self.arrow.num_rows)

    def select(self, names: Iterable[str]) -> Rows:
        """Only the named columns, in the order asked for."""
        wanted = list(names)
        if self._polars is not None:
            return Rows(polars=self._polars.select(wanted))
        return Rows(arrow=self.arrow.select(wanted))

    def __repr__(self) -> str:
        return f"Rows({len(self)} x {self.column_names})"


def _from_columns(columns: Mapping[Any, Any], what: str) -> pa.Table:
    """A table of columns that Python holds: lists, arrays, series."""
    import pyarrow as pa

    for name in columns:
        if not isinstance(name, str):
            raise RequestError(f"{what}: column names are text", found=f"{name!r} ({type(name).__name__})")
    arrays = {name: _column(name, values, what) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise RequestError(
            f"{what}: columns have unequal lengths",
            found=", ".join(f"{name!r}: {length}" for name, length in lengths.items()),
            details={"lengths": lengths},
        )
    return pa.table(arrays)


def _column(name: str, values: Any, what: str) -> Any:
    """One column as Arrow has it, of the type that fits all its values."""
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise RequestError(
            f"{what}: column {name!r} must be a list or an array of values",
            found=type(values).__name__,
            try_="one row is a list of one dict: [{...}]",
        )
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _no_one_type(name, what, error) from error


def _from_pandas(frame: Any, what: str) -> pa.Table:
    import pyarrow as pa

    _check_distinct([str(name) for name in frame.columns], what)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        for name in frame.columns:
            _column(str(name), frame[name], what)  # names the one that does not fit
        raise


def _check_arrow_has(frame: pl.DataFrame) -> None:
    """Refuse what Polars alone has; of Python objects it would hand out the addresses."""
    for name, dtype in frame.schema.items():
        if str(dtype) in ("Object", "Int128", "UInt128"):
            raise ColumnTypeError(
                f"column {name!r} is of Polars type {dtype}, which Arrow does not have",
                try_="cast it to int64, decimal or text",
                details={"column": name},
            )


def _distinctly_named(table: pa.Table, what: str) -> pa.Table:
    _check_distinct(table.column_names, what)
    return table


def _check_distinct(names: Sequence[str], what: str) -> None:
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise RequestError(f"{what}: several columns have one name", found=", ".join(map(repr, twice)))


def _no_one_type(name: str, what: str, error: BaseException) -> ColumnTypeError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ColumnTypeError(
        f"{what}: the values of column {name!r} have no one type that a column can have",
        found=reason[:200],
        details={"column": name},
    )


def require(module: str, *, extra: str) -> Any:
    """Import an optional package.

    Raises:
        MissingDependencyError: it is not installed; carries the install command.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{module} is not installed", try_=f"pip install 'grange[{extra}]'", details={"module": module}
        ) from error


def _is_a(value: Any, module: str, *names: str) -> bool:
    """Whether a value is of a class of a package that may not even be loaded; never imports it."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return False
    return any(isinstance(value, getattr(loaded, name)) for name in names if hasattr(loaded, name))
