"""The algebra of windowed functions: what is kept of a run of events, how two runs make one, and what value they give.

A run's state is a tuple of a few *partials*: a count, an exact sum, a least value. Each partial is a monoid: `of` takes
the values of a run, `merge` puts the states of neighbouring runs together, oldest first, and is associative; so a state
does not depend on where a run was cut. `FUNCTIONS` in `grange.types.aggregates` says what the functions mean; here is
how those of them that have `tiles` are computed, one value at a time, in plain Python numbers. `whole` computes those
that have not, from every value.

Nothing is ever subtracted: a window is covered by runs, so a maximum costs what a sum costs.

Sums are exact. A sum of floats is kept as floats whose exact sum is meant, the values themselves at first; `compact`
makes them few (two or three, seldom more), without an error. What lies outside the range in which that works is kept in
an integer of very small units. Rounding happens once, when a value is asked for, so that a mean of 1e8 times the
standard deviation does the latter no harm.
"""

from __future__ import annotations

import decimal
import importlib
import itertools
import math
import operator
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np

from grange.errors import ColumnTypeError, MissingDependencyError
from grange.types.aggregates import Function
from grange.types.dtypes import DataType

Values = Sequence[Any]
"""Of one column, in PIT-3 order, none of them null: wire values of `grange.serving.values`, or a typed memoryview."""

_INT64: Final = range(-(1 << 63), 1 << 63)
_MANY: Final = 24
"""From so many values on, NumPy's fixed cost per call is repaid."""


class Partial(Protocol):
    """A part of a state. Equal partials of the same values have equal states, so they can be shared by functions."""

    @property
    def empty(self) -> Any:
        """The state of no values."""
        ...

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> Any:
        """The state of a run of values.

        Args:
            times: their event times, microseconds, ascending.
            values: none of them null; for `*`, the times again.
            by: what `min_by` and `max_by` compare, one per value; empty for all others.
        """
        ...

    def merge(self, states: Sequence[Any]) -> Any:
        """The state of neighbouring runs together, oldest first."""
        ...

    def compact(self, state: Any) -> Any:
        """The same state in the least room, to store."""
        ...


@dataclass(frozen=True, slots=True)
class Count:
    """How many values."""

    @property
    def empty(self) -> int:
        return 0

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> int:
        return len(values)

    def merge(self, states: Sequence[int]) -> int:
        return sum(states)

    def compact(self, state: int) -> int:
        return state


@dataclass(frozen=True, slots=True)
class IntegerSum:
    """The sum of integers or of their squares, without a limit."""

    power: Literal[1, 2] = 1

    @property
    def empty(self) -> int:
        return 0

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> int:
        return sum(values) if self.power == 1 else sum(map(operator.mul, values, values))

    def merge(self, states: Sequence[int]) -> int:
        return sum(states)

    def compact(self, state: int) -> int:
        return state


FloatState = tuple[Sequence[float], int]
"""Floats and units: the state is the exact sum of the floats, plus so many units."""


@dataclass(frozen=True, slots=True)
class FloatSum:
    """The exact sum of floats or of their squares. A unit is 2**-1074, of squares 2**-2148, the smallest there is."""

    power: Literal[1, 2] = 1

    @property
    def empty(self) -> FloatState:
        return (), 0

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> FloatState:
        return (values, 0) if self.power == 1 else squares(values)

    def merge(self, states: Sequence[FloatState]) -> FloatState:
        if len(states) == 1:
            return states[0]
        together: list[float] = []
        for floats, _ in states:
            together += floats
        return together, sum([units for _, units in states])

    def compact(self, state: FloatState, parts: int | None = None) -> FloatState:
        floats, units = state
        try:
            return expansion(floats, parts), units
        except OverflowError:
            return (), units + sum(self.units(value) for value in floats)

    def units(self, value: float) -> int:
        """A finite value in units."""
        return _in_units(value, 1074 * self.power)

    def rounded(self, state: FloatState) -> float:
        """The sum, rounded once; infinite beyond the largest float, NaN when there is one or infinities disagree."""
        floats, units = state
        if not units:
            try:
                return math.fsum(floats)
            except ValueError:  # both infinities
                return math.nan
            except OverflowError:
                pass
        return _divide(*self.ratio(state))

    def ratio(self, state: FloatState, parts: int | None = None) -> tuple[int, int]:
        """The sum as numerator and denominator, which is a power of two.

        Args:
            state: the sum.
            parts: so many floats, each the rounded rest, are enough; None for the exact sum.

        Raises:
            OverflowError, ValueError: the sum is infinite; or NaN.
        """
        floats, units = self.compact(state, parts)
        ratios = [value.as_integer_ratio() for value in floats]
        if units:
            ratios.append((units, 1 << 1074 * self.power))
        denominator = max((below for _, below in ratios), default=1)
        return sum(above * (denominator // below) for above, below in ratios), denominator


def expansion(floats: Sequence[float], most: int | None = None) -> tuple[float, ...]:
    """The fewest floats with the same exact sum, greatest first: each is the correctly rounded rest.

    One NaN or infinity when the sum is that. At most so many, if the exact sum is not asked for.

    Raises:
        OverflowError: partial sums exceed the largest float.
    """
    parts: list[float] = []
    rest = list(floats)
    try:
        while (part := math.fsum(rest)) != 0.0:
            if not math.isfinite(part):
                return (part,)
            parts.append(part)
            if len(parts) == most:
                break
            rest.append(-part)
    except ValueError:
        return (math.nan,)
    except OverflowError:
        special = [value for value in rest if not math.isfinite(value)]
        if special:
            return (sum(special),)
        raise
    return tuple(parts)


_SPLITTER: Final = 134217729.0  # 2**27 + 1 (Veltkamp): halves a product's digits
_SMALLEST, _LARGEST = 2.0**-450, 2.0**480
"""Between these the square and its rounding error are both floats; their sums do not overflow either."""


def squares(values: Values) -> FloatState:
    """The exact sum of the squares of floats: twice as many floats (Dekker's product), and units for the extremes."""
    if len(values) < _MANY:
        return _few_squares(values)
    x = np.asarray(values, dtype=np.float64)
    size = np.abs(x)
    if not (size.max() < _LARGEST and (size.min() > _SMALLEST or bool(np.all((size > _SMALLEST) | (size == 0.0))))):
        return _few_squares(values)
    shifted = x * _SPLITTER
    high = shifted - (shifted - x)
    low = x - high
    product = x * x
    error = ((high * high - product) + 2.0 * high * low) + low * low
    return product.tolist() + error.tolist(), 0


def _few_squares(values: Values) -> FloatState:
    floats: list[float] = []
    units = 0
    for x in values:
        if x == 0.0 or _SMALLEST < abs(x) < _LARGEST:
            shifted = x * _SPLITTER
            high = shifted - (shifted - x)
            low = x - high
            product = x * x
            floats += (product, ((high * high - product) + 2.0 * high * low) + low * low)
        elif math.isfinite(x):
            units += _in_units(x, 1074) ** 2
        else:
            floats.append(x * x)
    return floats, units


def _in_units(value: float, exponent: int) -> int:
    """A float as a number of 2**-exponent; the exponent is large enough for it to be whole."""
    above, below = value.as_integer_ratio()
    return above * ((1 << exponent) // below)


def _divide(above: int, below: int) -> float:
    """The quotient, rounded once; infinite where it is too large."""
    try:
        return above / below
    except OverflowError:
        return math.inf if above > 0 else -math.inf


# -- order -------------------------------------------------------------------------------------------------------


def _order(dtype: DataType) -> Callable[[Any], Any] | None:
    """What values on the wire are compared by; None is themselves."""
    return decimal.Decimal if dtype.kind == "decimal" else None


def _after_numbers(value: float) -> tuple[bool, float]:
    """What floats with a NaN among them are compared by: NaN is greater than any number and equal to itself."""
    return (True, 0.0) if value != value else (False, value)


def _comparable(values: Values, dtype: DataType) -> Values:
    """Values as things that compare: themselves as a rule."""
    if dtype.is_float:
        return list(map(_after_numbers, values)) if _has_nan(values) else values
    order = _order(dtype)
    return values if order is None else list(map(order, values))


def _has_nan(values: Values) -> bool:
    total = sum(values)  # NaN also where infinities meet, so a second look decides
    return total != total and any(value != value for value in values)


@dataclass(frozen=True, slots=True)
class Extreme:
    """The least or greatest value; None of no values."""

    greatest: bool
    dtype: DataType

    @property
    def empty(self) -> None:
        return None

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> Any:
        if not values:
            return None
        pick = max if self.greatest else min
        keys = _comparable(values, self.dtype)
        if keys is values:
            return pick(values)
        return values[keys.index(pick(keys))]

    def merge(self, states: Sequence[Any]) -> Any:
        return self.of((), [state for state in states if state is not None])

    def compact(self, state: Any) -> Any:
        return state


@dataclass(frozen=True, slots=True)
class ExtremeBy:
    """(by, value) of the row where `by` is least or greatest, of equal ones the newest; None of no rows."""

    greatest: bool
    by_dtype: DataType

    @property
    def empty(self) -> None:
        return None

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> tuple[Any, Any] | None:
        if not values:
            return None
        keys = _comparable(by, self.by_dtype)
        newest_first = keys[::-1]
        best = max(keys) if self.greatest else min(keys)
        if isinstance(newest_first, memoryview):
            newest_first = newest_first.tolist()
        place = len(keys) - 1 - newest_first.index(best)
        return by[place], values[place]

    def merge(self, states: Sequence[Any]) -> tuple[Any, Any] | None:
        found = [state for state in states if state is not None]
        return self.of((), [value for _, value in found], [by for by, _ in found])

    def compact(self, state: Any) -> Any:
        return state


# -- time --------------------------------------------------------------------------------------------------------

Decayed = tuple[int, float, float]
"""The newest event time, and as of then the decayed sum of the values and of their weights, which is at least 1."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Sums of values whose weight halves in `half_life` microseconds; None of no values.

    They are kept as of the newest event, so that nothing overflows, and the weights do not vanish as time goes on.
    """

    half_life: int

    @property
    def empty(self) -> None:
        return None

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> Decayed | None:
        if not values:
            return None
        newest = times[-1]
        if len(values) >= _MANY and math.isfinite(sum(values)):
            weights = np.exp2((np.asarray(times, dtype=np.int64) - newest) / self.half_life)
            terms = np.asarray(values, dtype=np.float64) * weights
            return newest, _add(terms.tolist()), _add(weights.tolist())
        pairs = zip(times, values, strict=True)
        terms_ = [self.faded(float(value), newest - time) for time, value in pairs]
        return newest, _add(terms_), _add([self.faded(1.0, newest - time) for time in times])

    def merge(self, states: Sequence[Decayed | None]) -> Decayed | None:
        found = [state for state in states if state is not None]
        if len(found) < 2:
            return found[0] if found else None
        newest = max(time for time, _, _ in found)
        totals = [self.faded(total, newest - time) for time, total, _ in found]
        weights = [self.faded(weight, newest - time) for time, _, weight in found]
        return newest, _add(totals), _add(weights)

    def compact(self, state: Any) -> Any:
        return state

    def faded(self, value: float, age: int) -> float:
        """What remains of a value after a time: `value * 2**(-age / half_life)`, infinities for ever."""
        halvings, rest = divmod(age, self.half_life)
        return math.ldexp(value * 2.0 ** (-rest / self.half_life), -halvings)


def _add(floats: Iterable[float]) -> float:
    return FloatSum().rounded((list(floats), 0))


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest event time; None of no values."""

    @property
    def empty(self) -> None:
        return None

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> int | None:
        return times[-1] if times else None

    def merge(self, states: Sequence[int | None]) -> int | None:
        return max((state for state in states if state is not None), default=None)

    def compact(self, state: Any) -> Any:
        return state


@dataclass(frozen=True, slots=True)
class Session:
    """(first, start, last) event times of a run, where `start` begins its last session; None of no events.

    A session ends where the next event is more than `gap` microseconds away.
    """

    gap: int

    @property
    def empty(self) -> None:
        return None

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> tuple[int, int, int] | None:
        if not times:
            return None
        start = times[-1]
        for time in reversed(times):
            if start - time > self.gap:
                break
            start = time
        return times[0], start, times[-1]

    def merge(self, states: Sequence[Any]) -> tuple[int, int, int] | None:
        found = [state for state in states if state is not None]
        if not found:
            return None
        start: int | None = None
        for first, own_start, last in reversed(found):
            if start is not None and start - last > self.gap:
                break
            start = own_start
            if own_start > first:
                break
        assert start is not None
        return found[0][0], start, found[-1][2]

    def compact(self, state: Any) -> Any:
        return state


@dataclass(frozen=True, slots=True)
class Ends:
    """The first or last `count` values, oldest first."""

    last: bool
    count: int

    @property
    def empty(self) -> tuple[Any, ...]:
        return ()

    def of(self, times: Sequence[int], values: Values, by: Values = ()) -> tuple[Any, ...]:
        return tuple(values[-self.count :] if self.last else values[: self.count])

    def merge(self, states: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        return self.of((), tuple(itertools.chain.from_iterable(states)))

    def compact(self, state: Any) -> Any:
        return state


# -- functions ---------------------------------------------------------------------------------------------------

State = tuple[Any, ...]
"""One state per partial of an algebra."""


@dataclass(frozen=True, slots=True)
class Algebra:
    """One function as a state with `add`, `merge` and `finalize`."""

    partials: tuple[Partial, ...]
    finalize: Callable[[State, int], Any]
    """The value of a state at a moment `t` in microseconds, not before the newest event: a wire value, or None.

    Raises ColumnTypeError when an integer result does not fit 64 bits."""

    @property
    def empty(self) -> State:
        """The state of no events."""
        return tuple(partial.empty for partial in self.partials)

    def add(self, state: State, time: int, value: Any, by: Any = None) -> State:
        """The state with one event more, the newest. One whose value is null, or whose `by` is where it matters,
        changes nothing; for `*` the value is anything else."""
        if value is None or (by is None and any(isinstance(partial, ExtremeBy) for partial in self.partials)):
            return state
        one = tuple(partial.of((time,), (value,), (by,)) for partial in self.partials)
        return self.merge(state, one)

    def merge(self, *states: State) -> State:
        """The state of neighbouring runs together, oldest first."""
        return tuple(
            partial.compact(partial.merge(parts))
            for partial, parts in zip(self.partials, zip(*states, strict=True), strict=True)
        )


def algebra(function: Function, dtype: DataType | None, by_dtype: DataType | None = None, *, what: str) -> Algebra:
    """The algebra of a function that has tiles (`FUNCTIONS[...].tiles`).

    Args:
        function: which.
        dtype: type of its column; None for `*`.
        by_dtype: type of the `by` column of `min_by` and `max_by`.
        what: whose value it is, for messages.

    Raises:
        ValueError: the function has no tiles.
    """
    floating = dtype is not None and dtype.is_float
    sums = FloatSum if floating else IntegerSum
    match function.name:
        case "count":
            return Algebra((Count(),), lambda state, t: state[0])
        case "sum":
            return Algebra((Count(), sums(1)), _of_some(_float_sum if floating else _integer_sum(what)))
        case "mean":
            return Algebra((Count(), sums(1)), _of_some(_float_mean if floating else _integer_mean))
        case "var" | "std":
            variance = _float_variance if floating else _integer_variance
            root = function.name == "std"
            return Algebra((Count(), sums(1), sums(2)), lambda state, t: _spread(state, variance, root))
        case "min" | "max":
            assert dtype is not None
            return Algebra((Extreme(function.name == "max", dtype),), lambda state, t: state[0])
        case "range":
            assert dtype is not None
            least, greatest = Extreme(False, dtype), Extreme(True, dtype)
            return Algebra((least, greatest), lambda state, t: _range(state[0], state[1], floating, what))
        case "first" | "last":
            return Algebra((Ends(function.name == "last", 1),), lambda state, t: state[0][0] if state[0] else None)
        case "first_n" | "last_n":
            ends = Ends(function.name == "last_n", function.parameters[0])
            return Algebra((ends,), lambda state, t: list(state[0]) or None)
        case "min_by" | "max_by":
            assert by_dtype is not None
            partial = ExtremeBy(function.name == "max_by", by_dtype)
            return Algebra((partial,), lambda state, t: None if state[0] is None else state[0][1])
        case "decayed_sum":
            decay = Decay(function.parameters[0])
            return Algebra((decay,), lambda state, t: _decayed_sum(state[0], decay, t))
        case "ewma":
            return Algebra((Decay(function.parameters[0]),), lambda state, t: _average(state[0]))
        case "time_since_last":
            return Algebra((Newest(),), lambda state, t: None if state[0] is None else (t - state[0]) / 1_000_000)
    raise ValueError(f"{function} has no state of fixed size")


def _of_some(value: Callable[[State], Any]) -> Callable[[State, int], Any]:
    """Null when nothing was counted (WIN-4)."""
    return lambda state, t: value(state) if state[0] else None


def _fits(total: int, what: str) -> int:
    if total in _INT64:
        return total
    raise ColumnTypeError(
        f"{what} does not fit int64", found=str(total), try_="cast the column to float64 in the group's transform"
    )


def _integer_sum(what: str) -> Callable[[State], int]:
    return lambda state: _fits(state[1], what)


def _float_sum(state: State) -> float:
    return FloatSum().rounded(state[1])


def _integer_mean(state: State) -> float:
    mean: float = state[1] / state[0]
    return mean


def _float_mean(state: State) -> float:
    count, total = state
    rounded = FloatSum().rounded(total)
    if not math.isfinite(rounded):
        try:
            above, below = FloatSum().ratio(total)
        except (OverflowError, ValueError):  # an infinity or NaN among the values
            return rounded
        return _divide(above, below * count)  # only the sum was too large
    mean: float = rounded / count
    return mean


def _spread(state: State, variance: Callable[[State], tuple[int, int] | None], root: bool) -> float | None:
    if state[0] < 2:
        return None
    ratio = variance(state)
    if ratio is None:  # an infinity or NaN among the values
        return math.nan
    value = _divide(*ratio)
    if not root:
        return value
    if sys.float_info.min <= value <= sys.float_info.max:
        return math.sqrt(value)
    return _root(*ratio)  # a float holds the root of many a ratio that it does not hold


def _root(above: int, below: int) -> float:
    """The square root of a ratio of integers."""
    shift = max(0, 128 - above.bit_length() + below.bit_length())
    shift += shift % 2
    drop = max(0, above.bit_length() - below.bit_length() - 256) // 2 * 2
    return math.ldexp(math.isqrt((above << shift >> drop) // below), (drop - shift) // 2)


def _integer_variance(state: State) -> tuple[int, int]:
    count, total, square = state
    return count * square - total * total, count * (count - 1)


def _float_variance(state: State) -> tuple[int, int] | None:
    count, total, square = state
    try:
        # two parts of a sum are 106 bits: enough unless all but the last 56 cancel
        for parts in (2, None):
            above, below = FloatSum(1).ratio(total, parts)
            above_2, below_2 = FloatSum(2).ratio(square, parts)
            # (sum of squares - sum**2 / n) / (n - 1), over one denominator
            squared = count * above_2 * below * below
            numerator = squared - above * above * below_2
            if numerator << 50 > squared:
                break
    except (OverflowError, ValueError):  # an infinity or NaN is no ratio
        return None
    return numerator, count * (count - 1) * below * below * below_2


def _range(least: Any, greatest: Any, floating: bool, what: str) -> Any:
    if least is None:
        return None
    return greatest - least if floating else _fits(int(greatest) - int(least), what)


def _decayed_sum(state: Decayed | None, decay: Decay, t: int) -> float | None:
    return None if state is None else decay.faded(state[1], t - state[0])


def _average(state: Decayed | None) -> float | None:
    return None if state is None else state[1] / state[2]


def whole(function: Function, values: Values, dtype: DataType) -> Any:
    """The value of a function that has no tiles, from all the values of a window; None of no values.

    Exact but for `approx_count_distinct` and `approx_quantile`. Costs O(n log n).

    Raises:
        MissingDependencyError: the package of the approximate functions is not installed.
    """
    match function.name:
        case "count_distinct":
            return len(set(_comparable(values, dtype)))
        case "approx_count_distinct":
            return _approximately_distinct(values, dtype) if values else 0
    if not values:
        return None
    match function.name:
        case "median":
            return _quantile(values, 0.5, dtype)
        case "quantile":
            return _quantile(values, function.parameters[0], dtype)
        case "mode":
            return _frequent(values, 1, dtype)[0]
        case "top_n":
            return _frequent(values, function.parameters[0], dtype)
        case "approx_quantile":
            return _approximate_quantile(values, function.parameters[0], dtype)
    raise ValueError(f"{function} is computed from a state")


def _quantile(values: Values, fraction: float, dtype: DataType) -> float:
    if dtype.is_float and _has_nan(values):
        return math.nan
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    low, part = float(ordered[below]), position - below
    high = float(ordered[below + 1]) if part else low
    if low == high:
        return low
    return low + (high - low) * part if math.isfinite(high - low) else low * (1.0 - part) + high * part


def _frequent(values: Values, count: int, dtype: DataType) -> list[Any]:
    """The most frequent values, most frequent first, of equally frequent ones the smaller first."""
    keys = _comparable(values, dtype)
    shown = dict(zip(keys, values, strict=True))
    ranked = sorted(Counter(keys).items(), key=lambda pair: (-pair[1], pair[0]))
    return [shown[key] for key, _ in ranked[:count]]


def _approximately_distinct(values: Values, dtype: DataType) -> int:
    sketch = _sketches().hll_sketch(12)
    for value in values:
        sketch.update(_distinguishable(value, dtype))
    estimate: float = sketch.get_estimate()
    return round(estimate)


def _distinguishable(value: Any, dtype: DataType) -> Any:
    """What a sketch hashes: equal things for equal values."""
    if dtype.is_float:
        return math.nan if value != value else value + 0.0
    if dtype.kind == "binary":
        return f"={value.hex()}"
    if isinstance(value, int):
        return (value + (1 << 63)) % (1 << 64) - (1 << 63)  # unsigned 64 bits as signed, true as 1
    return f"={value}"  # a sketch takes no notice of an empty text


def _approximate_quantile(values: Values, fraction: float, dtype: DataType) -> float:
    if dtype.is_float and _has_nan(values):
        return math.nan
    sketch = _sketches().kll_doubles_sketch(200)
    for value in values:
        sketch.update(float(value))
    quantile: float = sketch.get_quantile(fraction)
    return quantile


def _sketches() -> Any:
    try:
        return importlib.import_module("datasketches")
    except ImportError as error:
        raise MissingDependencyError(
            "approx_count_distinct and approx_quantile need the package datasketches",
            try_="pip install 'grange[sketches]'",
        ) from error
