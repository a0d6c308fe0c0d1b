"""Evaluating expectations: which rows fail which checks, and what becomes of them."""

from __future__ import annotations

import datetime as dt
import decimal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from grange.definitions.expectations import Expectation
from grange.errors import ColumnTypeError, ExpectationError, SchemaError, closest_names
from grange.frames import Rows
from grange.types.names import SEQUENCE

if TYPE_CHECKING:
    import polars as pl

REASONS = "__reasons"
"""The column of quarantined rows that says which checks they failed."""
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """One check that does not hold."""

    column: str
    expectation: Expectation
    count: int
    """How many rows fail it."""
    rows: tuple[int, ...]
    """The first of them, as positions among the rows that were checked."""
    values: tuple[Any, ...]
    """Their values."""

    def __str__(self) -> str:
        shown = ", ".join(f"{value!r} in row {row}" for row, value in zip(self.rows, self.values, strict=True))
        rows = "row fails" if self.count == 1 else "rows fail"
        return f"{self.column}: {self.count} {rows} {self.expectation} ({shown})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "expectation": self.expectation.to_dict(),
            "count": self.count,
            "rows": list(self.rows),
            "values": [str(value) for value in self.values],
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What evaluating a group's expectations found."""

    failures: tuple[Failure, ...]
    _reasons: pl.Series | None
    """Per row, the `drop` checks it fails; None when no row fails one."""

    @property
    def dropped(self) -> int:
        """How many rows fail a check with policy `drop`."""
        return 0 if self._reasons is None else int((self._reasons.list.len() > 0).sum())

    def kept(self, rows: Rows) -> Rows:
        """The rows that stay, in order."""
        if self._reasons is None:
            return rows
        return Rows(polars=rows.polars.filter(self._reasons.list.len() == 0))

    def quarantine(self, rows: Rows) -> Rows:
        """The rows that go, with a `__reasons` column: a list of texts such as `amount: greater_than(0)`."""
        if self._reasons is None:
            return Rows(polars=rows.polars.clear())
        gone = rows.polars.with_columns(self._reasons.alias(REASONS)).filter(self._reasons.list.len() > 0)
        return Rows(polars=gone.drop(SEQUENCE, strict=False))

    def warnings(self) -> tuple[str, ...]:
        """The checks with policy `warn` that do not hold, one line each."""
        return tuple(str(failure) for failure in self.failures if failure.expectation.policy == "warn")

    def raise_failures(self, what: str) -> None:
        """Fail when a check with policy `fail` does not hold.

        Raises:
            ExpectationError: names each check, how many rows fail it, and the first of them.
        """
        failed = [failure for failure in self.failures if failure.expectation.policy == "fail"]
        if failed:
            raise ExpectationError(
                f"{what}: {failed[0]}" + (f", and {len(failed) - 1} more" if len(failed) > 1 else ""),
                found="; ".join(str(failure) for failure in failed[1:]) or None,
                try_="mend the source, or say policy='drop' or policy='warn'",
                details={"failures": [failure.to_dict() for failure in failed]},
            )


def evaluate(rows: Rows, expectations: tuple[tuple[str, tuple[Expectation, ...]], ...]) -> Outcome:
    """Check rows against expectations, all of them in one pass.

    Nulls pass every check but `not_null`. A NaN is a value: it fails comparisons.

    Args:
        rows: what is to be stored.
        expectations: by column, its checks.

    Raises:
        SchemaError: a check on a column that is not there.
        ColumnTypeError: a check that the column's type cannot have (`matches` on an integer).
    """
    checks = [(column, check) for column, of_column in expectations for check in of_column]
    if not checks:
        return Outcome((), None)
    frame = rows.polars
    for column, check in checks:
        _check_possible(frame, column, check)
    failing = frame.select(
        _failing(column, check, frame.schema[column]).alias(str(number))
        for number, (column, check) in enumerate(checks)
    )
    failures = []
    for number, (column, check) in enumerate(checks):
        mask = failing[str(number)]
        count = int(mask.sum())
        if count:
            positions = mask.arg_true().head(_EXAMPLES).to_list()
            values = tuple(frame[column][position] for position in positions)
            failures.append(Failure(column, check, count, tuple(positions), values))
    return Outcome(tuple(failures), _drop_reasons(failing, checks))


def _drop_reasons(failing: pl.DataFrame, checks: list[tuple[str, Expectation]]) -> pl.Series | None:
    import polars as pl

    dropping = [number for number, (_, check) in enumerate(checks) if check.policy == "drop"]
    dropping = [number for number in dropping if failing[str(number)].any()]
    if not dropping:
        return None
    reasons = [
        pl.when(pl.col(str(number))).then(pl.lit(f"{checks[number][0]}: {checks[number][1]}")) for number in dropping
    ]
    return failing.select(pl.concat_list(reasons).list.drop_nulls().alias(REASONS)).to_series()


def _failing(column: str, check: Expectation, dtype: pl.DataType) -> pl.Expr:
    """True where a value fails a check; never null."""
    import polars as pl

    value = pl.col(column)
    arguments = [pl.lit(argument) for argument in check.arguments]
    match check.kind:
        case "not_null":
            return value.is_null()
        case "unique":
            return ~value.is_first_distinct() & value.is_not_null()
        case "between":
            passes = (value >= arguments[0]) & (value <= arguments[1])
        case "greater_than":
            passes = value > arguments[0]
        case "greater_than_or_equal":
            passes = value >= arguments[0]
        case "less_than":
            passes = value < arguments[0]
        case "less_than_or_equal":
            passes = value <= arguments[0]
        case "one_of":
            passes = pl.any_horizontal(value == argument for argument in arguments)
        case "matches":
            passes = value.str.contains(f"^(?:{check.arguments[0]})$")
        case "length_between":
            length = value.list.len() if isinstance(dtype, pl.List) else value.str.len_chars()
            passes = (length >= arguments[0]) & (length <= arguments[1])
        case "finite":
            passes = value.is_finite()
        case _:
            assert_never(check.kind)
    if dtype.is_float() and check.kind != "one_of":
        passes = passes & value.is_not_nan()  # Polars sorts NaN above every number; here it compares to nothing
    return (~passes & value.is_not_null()).fill_null(False)


def _check_possible(frame: pl.DataFrame, column: str, check: Expectation) -> None:
    """Refuse a check that the column's type cannot have, before anything is evaluated."""
    import polars as pl

    if column not in frame.columns:
        raise SchemaError(
            f"expectation {check} on {column!r}, which is no column",
            found=", ".join(frame.columns),
            closest=closest_names(column, frame.columns),
        )
    dtype = frame.schema[column]
    match check.kind:
        case "not_null" | "unique":
            possible = True
        case "matches":
            possible = dtype == pl.String
        case "length_between":
            possible = dtype == pl.String or isinstance(dtype, pl.List)
        case "finite":
            possible = dtype.is_float()
        case _:
            possible = all(_comparable(dtype, argument) for argument in check.arguments)
    if not possible:
        raise ColumnTypeError(f"expectation {check} cannot be asked of column {column!r}", found=f"a column of {dtype}")


def _comparable(dtype: pl.DataType, argument: Any) -> bool:
    import polars as pl

    match argument:
        case bool():
            return dtype == pl.Boolean
        case int() | float() | decimal.Decimal():
            return dtype.is_numeric()
        case str():
            return dtype == pl.String
        case dt.datetime():
            return isinstance(dtype, pl.Datetime)
        case dt.date():
            return dtype == pl.Date or isinstance(dtype, pl.Datetime)
        case dt.timedelta():
            return isinstance(dtype, pl.Duration)
        case bytes():
            return dtype == pl.Binary
        case _:
            return False
