"""States of runs of events: where a run is cut does not matter, and the value is that of all its events."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import ColumnTypeError, MissingDependencyError
from grange.kernels.algebra import Algebra, FloatSum, State, algebra, expansion, squares, whole
from grange.types import DataType, as_dtype
from grange.types.aggregates import FUNCTIONS, Function

FLOAT, INTEGER, TEXT, DECIMAL = (as_dtype(name) for name in ("float64", "int64", "string", "decimal(12,2)"))

FLOATS = st.one_of(
    st.floats(),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 2.0**-500, 1e16, 1.0, 1e200, math.nan, math.inf]),
)
VALUES = {FLOAT: FLOATS, INTEGER: st.integers(-(2**63), 2**63 - 1), TEXT: st.text(max_size=3)}


def tiled() -> list[tuple[Function, DataType, DataType | None]]:
    """Every function that has a state, over types it takes."""
    cases: list[tuple[Function, DataType, DataType | None]] = []
    for name, about in FUNCTIONS.items():
        if not about.tiles or about.tally != "run":
            continue
        types = (FLOAT, INTEGER) if about.accepts == "numbers" else (FLOAT, INTEGER, TEXT)
        for dtype in types:
            if about.parameters == ("column",):
                cases += [(Function(name, ("c",)), dtype, by) for by in (FLOAT, INTEGER, TEXT)]
            else:
                given_ = {"count": (3,), "duration": (50,)}
                cases.append((Function(name, given_[about.parameters[0]] if about.parameters else ()), dtype, None))
    return cases


CASES = tiled()


@st.composite
def runs(draw: st.DrawFn) -> tuple[Algebra, list[tuple[int, Any, Any]]]:
    """A function and a run of (time, value, by), oldest first."""
    function, dtype, by_dtype = draw(st.sampled_from(CASES))
    count = draw(st.integers(0, 60))
    times = sorted(draw(st.lists(st.integers(0, 300), min_size=count, max_size=count)))
    some = draw(st.lists(VALUES[dtype], min_size=1, max_size=12))
    by_some = draw(st.lists(VALUES[by_dtype or INTEGER], min_size=1, max_size=6))
    random = draw(st.randoms(use_true_random=False))
    rows = [(time, random.choice(some), random.choice(by_some)) for time in times]
    return algebra(function, dtype, by_dtype, what="this"), rows


def state_of(computed: Algebra, rows: Sequence[tuple[int, Any, Any]]) -> State:
    """The state of a run at once."""
    times, values, by = (list(part) for part in zip(*rows, strict=True)) if rows else ([], [], [])
    return tuple(partial.compact(partial.of(times, values, by)) for partial in computed.partials)


def value_of(computed: Algebra, state: State, t: int = 400) -> Any:
    try:
        return computed.finalize(state, t)
    except ColumnTypeError:
        return "too large"


def same(left: Any, right: Any, relative: float = 0.0) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(*pair, relative) for pair in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or left == right or math.isclose(left, right, rel_tol=relative)
    return type(left) is type(right) and left == right


def decays(computed: Algebra) -> bool:
    return any(type(partial).__name__ == "Decay" for partial in computed.partials)


@given(runs(), st.data())
def test_where_a_run_is_cut_does_not_matter(case: tuple[Algebra, list[Any]], data: st.DataObject) -> None:
    """Merging is associative, and has the empty state; but for decay to the last bit, which rounds."""
    computed, rows = case
    first = data.draw(st.integers(0, len(rows)))
    second = data.draw(st.integers(first, len(rows)))
    a, b, c = (state_of(computed, part) for part in (rows[:first], rows[first:second], rows[second:]))
    want = value_of(computed, state_of(computed, rows))
    merged = [
        computed.merge(computed.merge(a, b), c),
        computed.merge(a, computed.merge(b, c)),
        computed.merge(a, b, c),
        computed.merge(computed.empty, a, computed.empty, b, c),
    ]
    if decays(computed):
        sizes = [abs(value) for _, value, _ in rows]
        if any(not size < 1e290 for size in sizes):
            return  # sums of these overflow or not as they are grouped
        slack = 1e-12 * sum(sizes) + 1e-320  # the smallest floats have no digits to round to
        for state in merged:
            got = value_of(computed, state)
            assert (got is None) == (want is None)
            assert got is None or abs(got - want) <= slack
        return
    assert all(same(value_of(computed, state), want) for state in merged)


@given(runs())
def test_a_run_is_its_events_added_one_by_one(case: tuple[Algebra, list[Any]]) -> None:
    """`add` and `of` come to the same."""
    computed, rows = case
    state = computed.empty
    for time, value, by in rows:
        state = computed.add(state, time, value, by)
        assert computed.add(state, time, None, by) is state
    if not decays(computed):
        assert same(value_of(computed, state), value_of(computed, state_of(computed, rows)))


def test_a_row_without_a_value_to_compare_is_left_out() -> None:
    computed = algebra(Function("max_by", ("c",)), TEXT, INTEGER, what="this")
    state = computed.add(computed.add(computed.empty, 1, "a", 5), 2, "b", None)
    assert computed.finalize(state, 9) == "a"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40))
def test_sums_of_floats_are_exact(values: list[float]) -> None:
    """Of values and of their squares, over the whole range; stored or not."""
    for power in (1, 2):
        partial = FloatSum(1 if power == 1 else 2)
        exact = sum((Fraction(value) ** power for value in values), Fraction(0))
        state = partial.of((), values)
        for each in (state, partial.compact(state)):
            assert Fraction(*partial.ratio(each)) == exact
            assert partial.rounded(each) == rounded(exact)
        assert len(partial.compact(state)[0]) <= 42 * power


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(st.lists(st.floats(-1e9, 1e9), min_size=30, max_size=60))
def test_squares_of_many_are_those_of_few(values: list[float]) -> None:
    """The vectorised product and the plain one are one."""
    floats, units = squares(values)
    exact = sum((Fraction(value) for value in floats), Fraction(units, 2**2148))
    assert exact == sum((Fraction(value) ** 2 for value in values), Fraction(0))


def test_an_expansion_is_short() -> None:
    """A thousand ordinary values are a handful of floats."""
    assert len(expansion([0.1 * number for number in range(1000)])) <= 3
    assert expansion([]) == ()
    assert expansion([1e16, 1.0, -1e16]) == (1.0,)
    assert expansion([math.inf, 1.0]) == (math.inf,)
    assert math.isnan(expansion([math.inf, -math.inf])[0])
    with pytest.raises(OverflowError):
        expansion([1e308, 1e308])


@pytest.mark.parametrize(
    ("function", "values", "want"),
    [
        ("sum", [1e308, 1e308, -1e308], 1e308),
        ("sum", [1e308, 1e308], math.inf),
        ("mean", [1e308, 1e308], 1e308),
        ("sum", [math.inf, -math.inf], math.nan),
        ("sum", [math.inf, 1e308, 1e308], math.inf),
        ("mean", [math.nan, 1.0], math.nan),
        ("min", [math.nan, 1.0], 1.0),
        ("max", [math.nan, 1.0], math.nan),
        ("min", [math.nan], math.nan),
        ("max", [math.inf, -math.inf], math.inf),
        ("range", [math.nan, 1.0], math.nan),
        ("var", [1.0], None),
        ("var", [math.nan], None),
        ("var", [1.0, math.inf], math.nan),
        ("var", [1e8 + 0.25, 1e8 + 0.75], 0.125),
        ("var", [1e200, 1e200], 0.0),
        ("var", [1e-170, 3e-170], 0.0),
        ("std", [1e-160, 3e-160], math.sqrt(2) * 1e-160),
        ("sum", [], None),
        ("count", [], 0),
        ("std", [], None),
        ("range", [], None),
        ("first_n", [], None),
        ("time_since_last", [], None),
    ],
)
def test_floats_at_their_edges(function: str, values: list[float], want: Any) -> None:
    """What the catalogue says of NaN; infinities as IEEE has them; and nothing overflows on the way."""
    parameters = (2,) if function == "first_n" else ()
    computed = algebra(Function(function, parameters), FLOAT, what="this")
    rows = [(time, value, None) for time, value in enumerate(values)]
    apart = computed.merge(computed.empty, *(state_of(computed, [row]) for row in rows))
    for state in (state_of(computed, rows), apart):
        assert same(value_of(computed, state), want, 1e-15)


def test_decay_neither_overflows_nor_vanishes() -> None:
    """Over ten thousand half-lives the sum is gone, and the average is not."""
    total = algebra(Function("decayed_sum", (1,)), FLOAT, what="this")
    average = algebra(Function("ewma", (1,)), FLOAT, what="this")
    rows = [(0, 5.0, None), (1, 8.0, None)]
    assert value_of(total, state_of(total, rows), 1) == 10.5
    assert value_of(average, state_of(average, rows), 10_000) == 7.0
    assert value_of(total, state_of(total, rows), 10_000) == 0.0
    late = total.merge(state_of(total, rows), state_of(total, [(20_000, 3.0, None)]))
    assert value_of(total, late, 20_000) == 3.0
    infinite = state_of(total, [(0, math.inf, None), (9_999, 1.0, None)])
    assert value_of(total, infinite, 10_000) == math.inf


@pytest.mark.parametrize("count", [3, 23, 24, 500])
def test_decay_of_many_is_that_of_each(count: int) -> None:
    """The vectorised sum and the plain one, to the last bits."""
    rows = [(number * 7, math.sin(number) * 100, None) for number in range(count)]
    total = algebra(Function("decayed_sum", (1000,)), FLOAT, what="this")
    average = algebra(Function("ewma", (1000,)), FLOAT, what="this")
    t = count * 7
    terms = [value * 2.0 ** (-(t - time) / 1000) for time, value, _ in rows]
    weights = [2.0 ** (-(t - time) / 1000) for time, _, _ in rows]
    scale = sum(map(abs, terms)) * 1e-14
    assert abs(value_of(total, state_of(total, rows), t) - math.fsum(terms)) <= scale
    want = math.fsum(terms) / math.fsum(weights)
    assert abs(value_of(average, state_of(average, rows), t) - want) <= 1e-11


def test_an_integer_result_that_does_not_fit_names_whose_it_is() -> None:
    total = algebra(Function("sum"), INTEGER, what="aggregate 'a'")
    with pytest.raises(ColumnTypeError, match="aggregate 'a'") as caught:
        total.finalize(state_of(total, [(0, 2**63 - 1, None), (1, 1, None)]), 1)
    assert caught.value.found == str(2**63)
    spread = algebra(Function("range"), INTEGER, what="aggregate 'a'")
    with pytest.raises(ColumnTypeError):
        spread.finalize(state_of(spread, [(0, 2**62, None), (1, -(2**62), None), (2, -(2**63), None)]), 1)


@pytest.mark.parametrize(
    ("function", "dtype", "values", "want"),
    [
        (Function("median"), INTEGER, [3, 1, 2, 10], 2.5),
        (Function("quantile", (0.25,)), FLOAT, [4.0, 0.0, 2.0], 1.0),
        (Function("quantile", (1.0,)), FLOAT, [4.0, math.inf], math.inf),
        (Function("median"), FLOAT, [1.0, math.nan], math.nan),
        (Function("median"), FLOAT, [-1.7e308, 1.7e308], 0.0),
        (Function("median"), FLOAT, [], None),
        (Function("count_distinct"), FLOAT, [math.nan, -math.nan, 0.0, -0.0], 2),
        (Function("count_distinct"), DECIMAL, ["1.00", "1.00", "-0.00", "0.00"], 2),
        (Function("count_distinct"), TEXT, [], 0),
        (Function("mode"), TEXT, ["b", "a", "b", "a"], "a"),
        (Function("mode"), FLOAT, [math.nan, math.nan, 1.0], math.nan),
        (Function("mode"), DECIMAL, ["10.00", "9.00"], "9.00"),
        (Function("top_n", (2,)), INTEGER, [5, 5, 1, 2, 1, 5], [5, 1]),
        (Function("top_n", (9,)), TEXT, ["b", "a"], ["a", "b"]),
        (Function("top_n", (9,)), TEXT, [], None),
    ],
)
def test_functions_of_every_value(function: Function, dtype: DataType, values: list[Any], want: Any) -> None:
    assert same(whole(function, values, dtype), want)


def test_functions_know_their_kind() -> None:
    with pytest.raises(ValueError, match="no state"):
        algebra(Function("median"), FLOAT, what="this")
    with pytest.raises(ValueError, match="from a state"):
        whole(Function("sum"), [1.0], FLOAT)


def test_approximations_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketches", None)
    with pytest.raises(MissingDependencyError, match="datasketches") as caught:
        whole(Function("approx_count_distinct"), [1.0], FLOAT)
    assert caught.value.try_ == "pip install 'grange[sketches]'"


def test_approximations_are_near() -> None:
    """HyperLogLog and KLL of the values, with their documented errors."""
    pytest.importorskip("datasketches")
    values = [float(number % 5000) for number in range(20_000)]
    distinct = whole(Function("approx_count_distinct"), values, FLOAT)
    assert abs(distinct - 5000) < 5000 * 5 * 0.016
    quantile = whole(Function("approx_quantile", (0.5,)), values, FLOAT)
    assert abs(quantile - 2500) < 5000 * 3 * 0.0133
    assert whole(Function("approx_count_distinct"), [], TEXT) == 0
    assert whole(Function("approx_quantile", (0.5,)), [], FLOAT) is None
    assert math.isnan(whole(Function("approx_quantile", (0.5,)), [math.nan], FLOAT))
