"""What a ready function is at run time: how it learns from a column, and what it then does to columns and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from grange.preparing.subject import Subject
from grange.types.dtypes import DataType

FLOAT = DataType("float64")
INTEGER = DataType("int64")
FLAG = DataType("int8")

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """A function on a column of a type, with what it learned."""

    outputs: tuple[tuple[str, DataType], ...]
    """What each output's name adds to the column's, and its type."""
    columns: Callable[[pa.ChunkedArray], list[pa.ChunkedArray]]
    """A column, in its canonical Arrow type, to the outputs in theirs."""
    value: Callable[[Any], Any]
    """A canonical value (`grange.transforming.values`) to the output's; to a tuple of them where there are several."""


class Fit(Protocol):
    """Learns from a column of training data; what it gives is JSON-able data."""

    def __call__(self, column: pa.ChunkedArray, given: Settings, subject: Subject, /) -> Any: ...


class Bind(Protocol):
    """Makes the function of what was learned. Refuses types and settings that do not go together."""

    def __call__(self, learned: Any, given: Settings, subject: Subject, /) -> Bound: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """The two halves of a ready function."""

    fit: Fit
    bind: Bind
