"""The parts of the window kernel, each against a loop over the same ranges."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.kernels.windows.answers import Validity
from grange.kernels.windows.decay import DecayedSums
from grange.kernels.windows.extremes import Extremes
from grange.kernels.windows.frequent import most_frequent
from grange.kernels.windows.moments import FloatSums, IntegerSums, Variances
from grange.kernels.windows.spans import Spans, expand, parts
from grange.kernels.windows.sums import ExactSums, span_of, squares, terms_of_floats, terms_of_integers
from grange.kernels.windows.timeline import Timeline
from grange.kernels.windows.values import ranked, sortable
from grange.kernels.windows.wavelet import WaveletMatrix

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def ranges(draw: st.DrawFn, count: int) -> Spans:
    ends = st.tuples(st.integers(0, count), st.integers(0, count)).map(sorted)
    pairs = draw(st.lists(ends, min_size=1, max_size=12))
    return Spans(np.array([low for low, _ in pairs]), np.array([high for _, high in pairs]))


def each(spans: Spans) -> list[tuple[int, int]]:
    return list(zip(spans.first.tolist(), spans.last.tolist(), strict=True))


@settings(deadline=None)
@given(data=st.data(), values=st.lists(FINITE | st.sampled_from([1e300, -1e300, 1e-300, 5e-324]), max_size=40))
def test_sums_of_floats_and_of_their_squares_are_exact(data: st.DataObject, values: list[float]) -> None:
    """In whole numbers there is no error at all, of any mixture of magnitudes."""
    array, spans = np.array(values, np.float64), data.draw(ranges(len(values)))
    span = span_of(lambda tile: terms_of_floats(array[tile]), len(values))
    sums = ExactSums(lambda tile: (terms_of_floats(array[tile]),), span, len(values), len(values))
    squared = ExactSums(lambda tile: squares(terms_of_floats(array[tile])), span.squared(), len(values), len(values))
    for place, (low, high) in enumerate(each(spans)):
        exact = [Fraction(value) for value in values[low:high]]
        assert sums.exactly(spans)[place] * Fraction(2) ** sums.bottom == sum(exact)
        assert squared.exactly(spans)[place] * Fraction(2) ** squared.bottom == sum(value**2 for value in exact)


@settings(deadline=None)
@given(data=st.data(), values=st.lists(FINITE, max_size=40))
def test_rounded_sums_are_those_of_fsum(data: st.DataObject, values: list[float]) -> None:
    spans = data.draw(ranges(len(values)))
    totals = FloatSums(np.array(values, np.float64), len(values)).totals(spans)
    for total, (low, high) in zip(totals.tolist(), each(spans), strict=True):
        exact = sum(map(Fraction, values[low:high]), Fraction(0))
        if abs(exact) < Fraction(np.finfo(float).max):
            assert total == pytest.approx(float(exact), rel=1e-15, abs=0)


def test_prefix_sums_that_wrap_around_still_give_exact_ranges() -> None:
    """The digits of 100000 values need more than 64 bits together; those of a range do not."""
    values = np.full(100_000, np.nextafter(2.0, 1.0))
    values[::1000] = 3e-5
    spans = Spans(np.array([0, 32_760, 65_530, 99_000]), np.array([9, 32_780, 65_540, 100_000]))
    found = FloatSums(values, 1000).totals(spans).tolist()
    assert found == [math.fsum(values[low:high].tolist()) for low, high in each(spans)]


@settings(deadline=None)
@given(data=st.data(), unsigned=st.booleans())
def test_sums_of_integers_tell_when_they_do_not_fit(data: st.DataObject, unsigned: bool) -> None:
    low, high = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
    near = st.sampled_from([low, high, 2**62, 1]) | st.integers(0, 9) | st.integers(low, high)
    values = data.draw(st.lists(near, max_size=30))
    array = np.array(values, np.uint64 if unsigned else np.int64).view(np.int64)
    spans = data.draw(ranges(len(values)))
    sums = IntegerSums(array, len(values), unsigned=unsigned)
    totals, over = sums.totals(spans)
    for place, (first, last) in enumerate(each(spans)):
        exact = sum(values[first:last])
        fits = -(2**63) <= exact < 2**63
        assert fits == (over is None or not over[place])
        if fits:
            assert int(totals[place]) == exact
        if last > first:
            assert sums.means(spans)[place] == pytest.approx(float(Fraction(exact) / (last - first)), rel=1e-14)
    widest = max((abs(value).bit_length() for value in values), default=0)
    terms = terms_of_integers(array, widest, unsigned=unsigned)
    total = sum(
        int(term.size[place]) << int(term.exponent[place]) for term in squares(terms) for place in range(len(values))
    )
    assert total == sum(value**2 for value in values)


@settings(deadline=None)
@given(
    data=st.data(),
    mean=st.sampled_from([0.0, 1.0, 1e8, -1e12, 1e17, 1e-200, 1e250]),
    parts=st.lists(st.floats(-10, 10), min_size=2, max_size=30),
)
def test_variances_are_right_whatever_the_mean(data: st.DataObject, mean: float, parts: list[float]) -> None:
    """Never negative, zero exactly for equal values, else within 1e-12."""
    values = [mean + part * (mean if abs(mean) > 1e200 or 0 < abs(mean) < 1e-100 else 1.0) for part in parts]
    spans = data.draw(ranges(len(values)))
    variances = Variances(FloatSums(np.array(values), len(values)), np.zeros(1, np.int64), len(values))
    found, roots = variances.variances(spans), variances.deviations(spans)
    for place, (low, high) in enumerate(each(spans)):
        if high - low < 2:
            continue
        exact = [Fraction(value) for value in values[low:high]]
        middle = sum(exact) / len(exact)
        variance = sum((value - middle) ** 2 for value in exact) / (len(exact) - 1)
        deviation = math.isqrt(int(variance * 4**1200)) / Fraction(2**1200)
        assert roots[place] == pytest.approx(float(deviation), rel=1e-12, abs=0)
        if variance < Fraction(2) ** 1023:
            assert found[place] == pytest.approx(float(variance), rel=1e-12, abs=5e-324)
        else:
            assert found[place] > 1e300
        assert (found[place] == 0.0) or variance > 0


@settings(deadline=None)
@given(data=st.data(), keys=st.lists(st.tuples(st.integers(-150, 150), st.integers(1, 40)), min_size=1, max_size=4))
def test_variances_of_keys_of_other_magnitudes(data: st.DataObject, keys: list[tuple[int, int]]) -> None:
    """Every key is looked at in a unit of its own; near values, far ones and long ranges each take their way."""
    lengths = [length for _, length in keys]
    ends = np.cumsum(lengths)
    near = st.sampled_from([0.0, 1e-9, 1.0, 1.0 + 1e-13, 2.0**-900, 2.0**-901, 2.0**800]) | st.floats(-1, 1)
    values = [2.0**power * data.draw(near) for power, length in keys for _ in range(length)]
    pairs = [
        sorted((data.draw(st.integers(end - length, end)), data.draw(st.integers(end - length, end))))
        for end, length in zip(ends.tolist(), lengths, strict=True)
        for _ in range(3)
    ]
    spans = Spans(np.array([low for low, _ in pairs]), np.array([high for _, high in pairs]))
    sums = FloatSums(np.array(values), max(lengths))
    found = Variances(sums, np.array([0, *ends[:-1]]), max(lengths)).deviations(spans)
    for place, (low, high) in enumerate(pairs):
        if high - low >= 2:
            exact = [Fraction(value) for value in values[low:high]]
            middle = sum(exact) / len(exact)
            variance = sum((value - middle) ** 2 for value in exact) / (len(exact) - 1)
            deviation = math.isqrt(int(variance * 4**2400)) / Fraction(2**2400)
            assert found[place] == pytest.approx(float(deviation), rel=1e-12, abs=0)


@settings(deadline=None)
@given(data=st.data(), count=st.integers(0, 150), longest=st.integers(1, 150))
def test_extremes_of_every_length(data: st.DataObject, count: int, longest: int) -> None:
    """Up to 31 neighbours two runs cover a range, from 32 on whole blocks lie between them."""
    values = np.random.default_rng(count).permutation(count)
    spans = data.draw(ranges(count))
    spans = Spans(spans.first, np.minimum(spans.last, spans.first + longest))
    for choose, plain in ((np.minimum, min), (np.maximum, max)):
        found = Extremes(values, choose, longest).of(spans)
        for place, (low, high) in enumerate(each(spans)):
            assert low == high or found[place] == plain(values[low:high])


@settings(deadline=None)
@given(data=st.data(), values=st.lists(st.integers(0, 20), max_size=50))
def test_the_wavelet_matrix_orders_and_counts(data: st.DataObject, values: list[int]) -> None:
    spans = data.draw(ranges(len(values)))
    matrix = WaveletMatrix(np.array(values, np.int64))
    limits = np.array([data.draw(st.integers(0, 40)) for _ in range(len(spans))])
    below = matrix.below(spans, limits)
    for place, (low, high) in enumerate(each(spans)):
        ascending = sorted(values[low:high])
        assert below[place] == sum(value < limits[place] for value in ascending)
        for number, value in enumerate(ascending):
            one = spans.some(np.array([place]))
            assert matrix.smallest(one, np.array([number]))[0] == value


@settings(deadline=None)
@given(data=st.data(), keys=st.lists(st.integers(-3, 3), max_size=40), limit=st.sampled_from([2, 8, 10**6]))
def test_the_most_frequent_by_pairs_and_by_histogram(data: st.DataObject, keys: list[int], limit: int) -> None:
    """Short ranges are counted one by one, long ones by what enters and leaves: the same answer."""
    spans = data.draw(ranges(len(keys)))
    ranks = ranked(np.zeros(len(keys), np.int64), np.array(keys, np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grange.kernels.windows.frequent._LONG", limit)
        found = most_frequent(ranks, spans, 3)
    ends = np.cumsum(found.lengths)
    for place, (low, high) in enumerate(each(spans)):
        tally = Counter(keys[low:high])
        expected = sorted(tally, key=lambda key: (-tally[key], key))[:3]
        positions = found.rows[ends[place] - found.lengths[place] : ends[place]]
        assert [keys[position] for position in positions] == expected


@settings(deadline=None)
@given(
    data=st.data(),
    rows=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e6)), max_size=40),
    half_life=st.integers(1, 10**5),
)
def test_decayed_sums_of_positive_values_have_full_precision(
    data: st.DataObject, rows: list[tuple[int, float]], half_life: int
) -> None:
    rows.sort()
    times, values = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)
    spans = data.draw(ranges(len(rows)))
    moments = np.full(len(spans), 10**6 + 3)
    found = DecayedSums(values, times, half_life, len(rows)).sums(spans, moments)
    for place, (low, high) in enumerate(each(spans)):
        ages = [10**6 + 3 - time for time, _ in rows[low:high]]
        exact = math.fsum(v * 2.0 ** (-age / half_life) for (_, v), age in zip(rows[low:high], ages, strict=True))
        assert found[place] == pytest.approx(exact, rel=1e-11, abs=1e-300)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), max_size=30),
    far=st.sampled_from([1, 1000, 2**58]),
    few=st.sampled_from([0.0, 1e9]),
)
def test_a_timeline_finds_times_among_those_of_the_code(rows: list[tuple[int, int]], far: int, few: float) -> None:
    """Packed or ranked, through cells or by search, and for codes and times outside of all."""
    rows = sorted((code, time * far) for code, time in rows)
    codes, times = np.array([code for code, _ in rows], np.int64), np.array([time for _, time in rows], np.int64)
    asked = [(code, time * far) for code in range(-1, 6) for time in range(-11, 12)]
    timeline = Timeline.of(codes, times)
    digits = timeline.digits(np.array([code for code, _ in asked]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grange.kernels.windows.timeline._FEW", few)
        found = timeline.at_or_after(digits, np.array([time for _, time in asked]))
    assert found.tolist() == [sum(row < question for row in rows) for question in asked]
    begin = timeline.begin(timeline.digits(np.arange(-1, 6)))
    assert begin.tolist() == [sum(code < question for code, _ in rows) for question in range(-1, 6)]


def test_sortable_floats_have_the_order_and_equality_of_the_catalogue() -> None:
    floats = [-math.inf, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, math.inf, math.nan]
    keys = sortable(np.array(floats))
    assert sorted(keys.tolist()) == keys.tolist() and len(set(keys.tolist())) == len(floats)
    payload = np.array([-math.nan, -0.0])
    assert sortable(payload).tolist() == [keys[-1], keys[4]]


def test_ranges_expand_and_split() -> None:
    assert expand(np.array([3, 7, 0]), np.array([2, 0, 3])).tolist() == [3, 4, 0, 1, 2]
    assert [(p.start, p.stop) for p in parts(np.array([3, 9, 1, 1, 4, 0]), 5)] == [(0, 1), (1, 2), (2, 4), (4, 6)]
    assert list(parts(np.zeros(0, np.int64), 5)) == []


@given(
    pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(-4, 4)), min_size=1, max_size=8).map(sorted),
    asked=st.none() | st.lists(st.tuples(st.integers(0, 2), st.integers(-20, 20)), max_size=8).map(sorted),
)
def test_a_timeline_knows_its_own_moments(pairs: list[tuple[int, int]], asked: list[tuple[int, int]] | None) -> None:
    def columns(rows: list[tuple[int, int]]) -> list[np.ndarray]:
        return [np.array([row[place] for row in rows], np.int64) for place in (0, 1)]

    asked = pairs if asked is None else asked
    expected = asked == pairs and len(set(pairs)) == len(pairs)
    assert Timeline.of(*columns(pairs)).is_of(*columns(asked)) == expected


def test_a_time_out_of_reach_is_not_taken_for_another_codes() -> None:
    codes, times = np.array([0, 0, 1]), np.array([0, 3, 0])
    timeline = Timeline.of(codes, times)
    assert timeline.is_of(codes, times)
    # packed, it would be what the first event of the next code is
    assert not timeline.is_of(np.array([0, 0, 1, 1])[[0, 1, 1]], np.array([0, 3, 1 << timeline.bits]))
    assert not timeline.is_of(np.array([0, 0, 1]), np.array([0, 3 - (1 << timeline.bits), 0]))
    assert not timeline.is_of(np.array([0, 1, 1]), np.array([0, 3 - (1 << timeline.bits), 0]))


@given(
    blocks=st.permutations([(0, [True, True]), (2, [False, True]), (4, [True])]),
    everywhere=st.booleans(),
    told=st.integers(0, 3),
)
def test_validity_is_what_the_blocks_say(blocks: list[tuple[int, list[bool]]], everywhere: bool, told: int) -> None:
    validity, expected = Validity(5, everywhere=everywhere), [everywhere] * 5
    for start, valid in blocks[:told]:
        at = slice(start, start + len(valid))
        validity.put(at, np.array(valid))
        expected[at] = valid
    found = [True] * 5 if validity.mask is None else validity.mask.tolist()
    assert found == expected and len(validity) == 5
    assert (validity.mask is None) == (everywhere and all(expected))
