"""Expectations: whether rows are as their definition says, and which are not.

Nulls pass every check but `not_null`. A float NaN is a value, and fails every comparison. A check that its column's
type can never meet is an error before any row is looked at.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final, assert_never

from grange.definitions.expectations import Expectation
from grange.errors import DefinitionError, ExpectationError, SchemaError, closest_names
from grange.frames import Rows
from grange.quality.plain import plain
from grange.types.time import to_utc

if TYPE_CHECKING:
    import polars as pl

REASONS: Final = "__reasons"
"""The column of quarantined rows that says why: texts such as `amount: greater_than(0)`."""
SHOWN: Final = 5
"""How many failing values a check remembers."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one expectation found on one column."""

    column: str
    expectation: Expectation
    failed: int
    """How many rows fail."""
    values: tuple[Any, ...] = ()
    """The first few failing values."""
    rows: tuple[int, ...] = ()
    """Their row numbers, from 0."""

    @property
    def passed(self) -> bool:
        """Whether no row fails."""
        return self.failed == 0

    def __str__(self) -> str:
        return f"{self.column}: {self.expectation}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "expectation": str(self.expectation),
            "policy": self.expectation.policy,
            "failed": self.failed,
            "values": [plain(value) for value in self.values],
            "rows": list(self.rows),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all expectations found."""

    checks: tuple[Check, ...]
    """In the order of the expectations."""
    rows: int
    """How many rows were looked at."""
    drop: pl.Series = field(repr=False, compare=False)
    """By row, whether it fails an expectation with policy `drop`."""
    quarantine: Rows = field(compare=False)
    """Those rows, in order, with `__reasons`: which expectations of policy `drop` they fail."""

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks of policy `fail` that do not hold: nothing may be written."""
        return self._failing("fail")

    @property
    def drops(self) -> tuple[Check, ...]:
        """The checks of policy `drop` that do not hold: their rows are in quarantine."""
        return self._failing("drop")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks of policy `warn` that do not hold: their rows stay."""
        return self._failing("warn")

    def kept(self, rows: Rows) -> Rows:
        """Of the rows that were looked at, those that stay, in order."""
        if not self.drop.any():
            return rows
        return Rows(polars=rows.polars.filter(~self.drop))

    def demand(self, *, what: str) -> None:
        """Insist on every expectation of policy `fail`.

        Raises:
            ExpectationError: one does not hold; names the first, with values and their rows.
        """
        if not self.failures:
            return
        first = self.failures[0]
        more = f" and {len(self.failures) - 1} more expectations" if len(self.failures) > 1 else ""
        shown = ", ".join(f"{value!r} in row {row}" for value, row in zip(first.values, first.rows, strict=True))
        raise ExpectationError(
            f"{what}: {first} does not hold for {first.failed} of {self.rows} rows{more}",
            found=shown,
            try_='correct the rows, or let them go to quarantine: policy="drop"',
            details={"checks": [check.to_dict() for check in self.failures]},
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "dropped": len(self.quarantine),
            "checks": [check.to_dict() for check in self.checks],
        }

    def _failing(self, policy: str) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.failed and check.expectation.policy == policy)


def evaluate(rows: Rows, expectations: tuple[tuple[str, tuple[Expectation, ...]], ...]) -> Outcome:
    """Check rows.

    Args:
        expectations: per column, what is expected of it, as `FeatureGroup.expectations` has them.

    Raises:
        SchemaError: an expectation on a column that is not there; carries the closest names.
        DefinitionError: an expectation that the column's type can never meet, such as `matches` on an integer.
    """
    import polars as pl

    frame = rows.polars
    pairs = [(column, expectation) for column, checks in expectations for expectation in checks]
    tests = [_fails(frame, column, expectation) for column, expectation in pairs]
    try:
        masks = frame.select(test.fill_null(False).alias(str(place)) for place, test in enumerate(tests)).get_columns()
    except pl.exceptions.ComputeError as error:
        raise DefinitionError(f"an expectation cannot be computed: {str(error).splitlines()[0]}") from error
    checks = tuple(
        _check(frame, column, expectation, mask) for (column, expectation), mask in zip(pairs, masks, strict=True)
    )
    dropping = [(check, mask) for check, mask in zip(checks, masks, strict=True) if check.expectation.policy == "drop"]
    drop = pl.Series("drop", [False], dtype=pl.Boolean).new_from_index(0, frame.height)
    for _, mask in dropping:
        drop = drop | mask
    return Outcome(checks, frame.height, drop, _quarantine(frame, dropping, drop))


def _check(frame: pl.DataFrame, column: str, expectation: Expectation, mask: pl.Series) -> Check:
    failed = int(mask.sum())
    if not failed:
        return Check(column, expectation, 0)
    places = mask.arg_true().head(SHOWN)
    return Check(
        column, expectation, failed, tuple(frame.get_column(column).gather(places).to_list()), tuple(places.to_list())
    )


def _quarantine(frame: pl.DataFrame, dropping: Sequence[tuple[Check, pl.Series]], drop: pl.Series) -> Rows:
    import polars as pl

    reasons = [
        pl.when(pl.lit(mask.filter(drop))).then(pl.lit(str(check))).otherwise(pl.lit(None, pl.String))
        for check, mask in dropping
    ]
    listed = pl.concat_list(reasons).list.drop_nulls() if reasons else pl.lit([], pl.List(pl.String))
    return Rows(polars=frame.filter(drop).with_columns(listed.alias(REASONS)))


def _fails(frame: pl.DataFrame, column: str, expectation: Expectation) -> pl.Expr:
    """Whether a row fails; null where its value is null and the check lets nulls pass."""
    import polars as pl

    if column not in frame.columns:
        raise SchemaError(
            f"an expectation on column {column!r}, which the rows do not have",
            found=", ".join(frame.columns) or "no columns at all",
            closest=closest_names(column, frame.columns),
        )
    dtype, value = frame.schema[column], pl.col(column)
    if expectation.kind == "not_null":
        return value.is_null()
    if dtype == pl.Null:
        return value.is_not_null()
    kind = _kind(dtype)
    match expectation.kind:
        case "unique":
            if kind == "nested":
                raise _mismatch(column, dtype, expectation, "has no dependable equality")
            return value.is_not_null() & ~value.is_first_distinct()
        case "finite":
            if kind not in _NUMBERS:
                raise _mismatch(column, dtype, expectation, "is no number")
            return ~value.is_finite() if kind == "float" else _always(value, False)
        case "matches":
            if kind != "text":
                raise _mismatch(column, dtype, expectation, "is no text")
            return ~_text(value).str.contains(_whole(expectation))
        case "length_between":
            return _length_outside(column, dtype, value, expectation)
        case "one_of":
            return ~_any([_compares(column, dtype, expectation, _EQUAL, item) for item in expectation.arguments])
        case "between":
            low, high = expectation.arguments
            return ~(
                _compares(column, dtype, expectation, _AT_LEAST, low)
                & _compares(column, dtype, expectation, _AT_MOST, high)
            )
        case "greater_than":
            return ~_compares(column, dtype, expectation, _ABOVE, expectation.arguments[0])
        case "greater_than_or_equal":
            return ~_compares(column, dtype, expectation, _AT_LEAST, expectation.arguments[0])
        case "less_than":
            return ~_compares(column, dtype, expectation, _BELOW, expectation.arguments[0])
        case "less_than_or_equal":
            return ~_compares(column, dtype, expectation, _AT_MOST, expectation.arguments[0])
        case _:
            assert_never(expectation.kind)


# Comparing


@dataclass(frozen=True, slots=True)
class _Comparison:
    holds: Callable[[Any, Any], Any]
    """Of a column and a bound of its own type."""
    whole: Callable[[Any], int] | None
    """The integer that stands for a bound with a fraction; None when no integer does."""


_ABOVE: Final = _Comparison(lambda value, bound: value > bound, math.floor)
_AT_LEAST: Final = _Comparison(lambda value, bound: value >= bound, math.ceil)
_BELOW: Final = _Comparison(lambda value, bound: value < bound, math.ceil)
_AT_MOST: Final = _Comparison(lambda value, bound: value <= bound, math.floor)
_EQUAL: Final = _Comparison(lambda value, bound: value == bound, None)

_NUMBERS: Final = ("integer", "float", "decimal")


def _kind(dtype: pl.DataType) -> str:
    import polars as pl

    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "float"
    if dtype.is_decimal():
        return "decimal"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype.is_nested():
        return "nested"
    simple: dict[Any, str] = {
        pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime", pl.Duration: "duration", pl.Binary: "binary"
    }  # fmt: skip
    return next((kind for known, kind in simple.items() if dtype == known), "other")


def _compares(
    column: str, dtype: pl.DataType, expectation: Expectation, comparison: _Comparison, bound: Any
) -> pl.Expr:
    """Whether the comparison holds; null for null, false for NaN."""
    import polars as pl

    value, kind = pl.col(column), _kind(dtype)
    number = isinstance(bound, int | float | Decimal) and not isinstance(bound, bool)
    if kind == "integer" and number:
        return _compare_integer(value, comparison, bound)
    if kind == "float" and number:
        # at the column's own precision: a stored float32 0.1 is the 0.1 of the bound
        holds = _expr(comparison.holds(value, pl.lit(float(bound), dtype)))
        return _always(value, False) if math.isnan(bound) else holds & value.is_not_nan()
    if kind == "decimal" and number:
        return _compare_decimal(value, dtype, comparison, bound)
    if kind == "text" and isinstance(bound, str):
        return _expr(comparison.holds(_text(value), pl.lit(bound)))
    if kind in ("date", "datetime") and isinstance(bound, dt.date):
        moment = pl.lit(to_utc(bound)).cast(pl.Datetime("us", "UTC"))
        return _expr(comparison.holds(_moment(value, dtype), moment))
    if kind == "duration" and isinstance(bound, dt.timedelta):
        return _expr(comparison.holds(value.cast(pl.Duration("us")), pl.lit(bound).cast(pl.Duration("us"))))
    same = (kind == "boolean" and isinstance(bound, bool)) or (kind == "binary" and isinstance(bound, bytes))
    if same and comparison is _EQUAL:
        return _expr(comparison.holds(value, pl.lit(bound)))
    raise _mismatch(column, dtype, expectation, f"cannot be compared with {bound!r} ({type(bound).__name__})")


def _compare_integer(value: pl.Expr, comparison: _Comparison, bound: Any) -> pl.Expr:
    """Exactly, whatever the width: a bound with a fraction becomes the integer that decides alike."""
    import polars as pl

    if math.isnan(bound):
        return _always(value, False)
    if abs(bound) > _BEYOND:  # further than any integer of 64 bits, which all compare as zero does
        return _always(value, bool(comparison.holds(0, bound)))
    if bound != int(bound):
        if comparison.whole is None:
            return _always(value, False)
        bound = comparison.whole(bound)
    return _expr(comparison.holds(value.cast(pl.Int128), pl.lit(int(bound), pl.Int128)))


def _compare_decimal(value: pl.Expr, dtype: pl.DataType, comparison: _Comparison, bound: Any) -> pl.Expr:
    """At the column's digits, exactly; a float bound is the number that it prints."""
    import polars as pl

    exact = bound if isinstance(bound, Decimal) else Decimal(str(bound))
    if exact.is_nan():
        return _always(value, False)
    precision, scale = getattr(dtype, "precision", None) or 38, getattr(dtype, "scale", 0)
    if not exact.is_finite() or exact.adjusted() + scale >= precision:
        return _always(value, bool(comparison.holds(Decimal(0), exact)))
    with localcontext(prec=80):
        digits = exact.scaleb(scale)
        if digits != digits.to_integral_value():  # finer than the column: the neighbour that decides alike
            if comparison.whole is None:
                return _always(value, False)
            digits = Decimal(comparison.whole(digits))
        return _expr(comparison.holds(value, pl.lit(digits.scaleb(-scale)).cast(dtype)))


_BEYOND: Final = 1 << 70


def _always(value: pl.Expr, answer: bool) -> pl.Expr:
    """One answer for every value; null for null."""
    import polars as pl

    return pl.when(value.is_not_null()).then(pl.lit(answer))


def _length_outside(column: str, dtype: pl.DataType, value: pl.Expr, expectation: Expectation) -> pl.Expr:
    import polars as pl

    if _kind(dtype) == "text":
        length = _text(value).str.len_chars()
    elif isinstance(dtype, pl.List):
        length = value.list.len()
    elif isinstance(dtype, pl.Array):
        length = value.arr.len()
    else:
        raise _mismatch(column, dtype, expectation, "has no length")
    low, high = expectation.arguments
    return ~length.cast(pl.Int64).is_between(low, high)


def _text(value: pl.Expr) -> pl.Expr:
    import polars as pl

    return value.cast(pl.String)


def _moment(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A date or time as UTC microseconds (TIME-1)."""
    import polars as pl

    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return value.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _whole(expectation: Expectation) -> str:
    """A pattern for the whole text."""
    import polars as pl

    pattern = expectation.arguments[0]
    whole = f"\\A(?:{pattern})\\z"
    try:
        pl.select(pl.lit("").str.contains(whole))
    except pl.exceptions.ComputeError as error:
        raise DefinitionError(
            f"matches({pattern!r}) is no regular expression of Rust's syntax",
            found=str(error).splitlines()[0],
            try_="write it without look-around and back-references",
        ) from error
    return whole


def _any(tests: Sequence[pl.Expr]) -> pl.Expr:
    import polars as pl

    return pl.any_horizontal(tests)


def _expr(result: Any) -> pl.Expr:
    import polars as pl

    assert isinstance(result, pl.Expr)
    return result


def _mismatch(column: str, dtype: pl.DataType, expectation: Expectation, why: str) -> DefinitionError:
    return DefinitionError(
        f"expectation {expectation} on column {column!r}, whose type {why}",
        found=str(dtype),
        try_="expect something that its type can be, or take the expectation away",
        details={"column": column, "expectation": expectation.to_dict()["kind"]},
    )


__all__ = ["REASONS", "Check", "Outcome", "evaluate"]
