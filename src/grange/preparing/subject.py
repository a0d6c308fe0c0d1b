"""What a ready function works on, and the errors that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grange.errors import DefinitionError, TransformError
from grange.types.dtypes import DataType

_SHOWN: Final = 10
"""Known categories that a message names."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One column under one function."""

    function: str
    column: str
    dtype: DataType
    asked_by: str

    def wrong_type(self, takes: str, try_: str | None = None) -> DefinitionError:
        """The column is of a type that the function does not take."""
        return DefinitionError(
            f"{self.function} takes {takes}, and column {self.column!r} is {self.dtype}",
            asked_by=self.asked_by,
            try_=try_,
            details={"function": self.function, "column": self.column, "dtype": str(self.dtype)},
        )

    def wrong_setting(self, name: str, value: Any, reason: str | None = None) -> DefinitionError:
        """A setting that does not go with the column's type."""
        return DefinitionError(
            f"{self.function}: {name} {value!r} is no value of column {self.column!r}, which is {self.dtype}",
            asked_by=self.asked_by,
            found=reason,
        )

    def cannot_learn(self, reason: str, *, found: str | None = None, try_: str | None = None) -> TransformError:
        """There is nothing to learn from the column, or nothing sensible."""
        return TransformError(
            f"{self.function} cannot learn from column {self.column!r}: {reason}",
            asked_by=self.asked_by,
            found=found,
            try_=try_,
            details={"function": self.function, "column": self.column},
        )

    def never_seen(self, value: Any, known: Sequence[Any], row: int | None) -> TransformError:
        """A category that is none of the known ones, where that is an error. Rows count from 0."""
        shown = ", ".join(map(repr, known[:_SHOWN])) + (
            f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        )
        where = "" if row is None else f" in row {row}"
        return TransformError(
            f"{self.function}: column {self.column!r} has {value!r}{where}, which training data did not have",
            asked_by=self.asked_by,
            found=f"known: {shown}",
            try_=self._other_encoder() if self.function == "label_encoder" else 'another unknown=, which is "error"',
            details={"function": self.function, "column": self.column, "value": str(value), "row": row},
        )

    def _other_encoder(self) -> str:
        """Encoders that take categories which training data did not have."""
        return (
            f'ordinal_encoder({self.column!r}, unknown="null"), or one_hot_encoder({self.column!r}, unknown="ignore")'
        )

    def finite(self, learned: Mapping[str, float]) -> dict[str, float]:
        """Learned numbers, which must be numbers that JSON has."""
        for name, value in learned.items():
            if not math.isfinite(value):
                raise self.cannot_learn("its values are too large", found=f"{name}: {value}")
        return dict(learned)
