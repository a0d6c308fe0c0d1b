"""Frames at the edge: whatever people hold (Polars, pandas, Arrow, Narwhals, rows of dicts) as one `Rows`.

`Rows` is what engines, stores and verbs hand each other: a table that is Arrow or Polars underneath and turns
into the other once, when asked. Nothing here knows a feature store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grange.errors import MissingDependencyError, RequestError

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
            RequestError: none of these.
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
            return cls(arrow=frame)
        if isinstance(frame, pa.RecordBatch):
            return cls(arrow=pa.Table.from_batches([frame]))
        if isinstance(frame, pa.RecordBatchReader):
            return cls(arrow=frame.read_all())
        if _is_a(frame, "pandas", "DataFrame"):
            return cls(arrow=pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
        if hasattr(frame, "__arrow_c_stream__"):
            return cls(arrow=pa.table(frame))
        if isinstance(frame, Mapping):
            return cls(arrow=pa.table(dict(frame)))
        if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
            names: dict[str, None] = {}
            for row in frame:
                names.update(dict.fromkeys(row))
            return cls(arrow=pa.table({name: [row.get(name) for row in frame] for name in names}))
        raise RequestError(
            f"{what} must be a Polars, pandas or Arrow frame, a mapping of columns or a list of dicts",
            found=f"{type(frame).__module__}.{type(frame).__qualname__}",
        )

    @property
    def arrow(self) -> pa.Table:
        """As an Arrow table."""
        if self._arrow is None:
            assert self._polars is not None
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
