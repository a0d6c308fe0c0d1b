"""Where the rows of a split go, and the hash that decides it."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import math
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import ColumnTypeError, KeyTypeError, MissingColumnError
from grange.kernels.splitting import LEFT_OUT, assign, partition, row_hash, time_starts
from grange.testing.datasets import one_of_everything
from grange.testing.equality import assert_rows_equal
from grange.types.cuts import Cut, HashCut, MomentCut, StrataCut, TimeCut

UTC = pa.timestamp("us", tz="UTC")
G = 0x9E3779B97F4A7C15
WORD = 2**64


# The hash once more, from its description and one value at a time.


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 % WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def of_words(kind: int, length: int, words: Sequence[int]) -> int:
    total = sum(mix((word + number * G) % WORD) for number, word in enumerate(words, start=1))
    return mix(((mix(kind) ^ length) + total) % WORD)


def of_bytes(kind: int, data: bytes) -> int:
    padded = data + bytes(-len(data) % 8)
    return of_words(kind, len(data), struct.unpack(f"<{len(padded) // 8}Q", padded))


def digest(value: Any) -> int:
    match value:
        case None:
            return mix(mix(0))
        case bool():
            return mix(mix(3) ^ value)
        case int():
            return mix(mix(1 if value < 2**63 else 2) ^ value % WORD)
        case float():
            bits = 0x7FF8000000000000 if math.isnan(value) else struct.unpack("<Q", struct.pack("<d", value + 0.0))[0]
            return mix(mix(7) ^ bits)
        case str():
            return of_bytes(8, value.encode())
        case bytes():
            return of_bytes(9, value)
        case dt.datetime():
            return mix(mix(5) ^ (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) % WORD)
        case dt.date():
            return mix(mix(4) ^ (value - dt.date(1970, 1, 1)).days % WORD)
        case dt.timedelta():
            return mix(mix(6) ^ value // dt.timedelta(microseconds=1) % WORD)
        case decimal.Decimal():
            with decimal.localcontext(prec=100):
                return of_bytes(10, int(value.scaleb(38)).to_bytes(32, "little", signed=True))
        case list():
            return of_words(11, len(value), [digest(item) for item in value])
        case dict():
            return absorb(mix(mix(12)), list(value.values()))
    raise AssertionError(value)


def absorb(h: int, values: Sequence[Any]) -> int:
    for value in values:
        h = mix((h + G) % WORD ^ digest(value))
    return h


def expected(columns: Sequence[pa.Array], seed: int = 0) -> list[int]:
    return [absorb(mix(seed), row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


@pytest.mark.parametrize(
    ("row", "seed", "hash_"),
    [
        ([pa.array([0])], 0, "78f38d8290f81619"),
        ([pa.array([1])], 0, "62fb8db11fef8fc1"),
        ([pa.array([1])], 1, "54387e465bb041e1"),
        ([pa.array([-1])], 0, "fde110462009985f"),
        ([pa.array([2**64 - 1], pa.uint64())], 0, "e3208edb269a83e0"),
        ([pa.array([True])], 0, "e18992162057bacb"),
        ([pa.array([1.0])], 0, "71efd54cef9189e1"),
        ([pa.array([float("nan")])], 0, "ad71fd21a86243da"),
        ([pa.array([""])], 0, "7836f871e9aed567"),
        ([pa.array(["user-00012345"])], 0, "6e9014f9949d5b15"),
        ([pa.array(["é"])], 0, "8906d8e5875e3706"),
        ([pa.array([b"\x00"])], 0, "9ed907f173714072"),
        ([pa.array([dt.date(2026, 11, 21)])], 0, "efb1e385ed72c0fc"),
        ([pa.array([dt.datetime(2026, 11, 21, tzinfo=dt.UTC)], UTC)], 0, "462a4f9470eb7356"),
        ([pa.array([dt.timedelta(days=1)])], 0, "6e867aa867157b26"),
        ([pa.array([decimal.Decimal("1.50")])], 0, "bcb446264a9bf1be"),
        ([pa.array([None], pa.int64())], 0, "e220a8397b1dcdaf"),
        ([pa.array([[1.5, None]])], 0, "17aacfa2ee569a96"),
        ([pa.array([{"lat": 1.5, "name": "x"}])], 0, "681261d3c5118c39"),
        ([pa.array(["a"]), pa.array(["bc"])], 0, "766e59e728eb8430"),
        ([pa.array(["ab"]), pa.array(["c"])], 0, "9db2e42482c14d7e"),
        ([pa.array([7]), pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], UTC)], 42, "4952edb2b31abeed"),
    ],
)
def test_the_hash_is_what_it_was(row: list[pa.Array], seed: int, hash_: str) -> None:
    """Written down, so that no version of anything changes it: each is some row's place in some test set."""
    assert [f"{word:016x}" for word in row_hash(row, seed).tolist()] == [hash_]


SCALARS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "boolean": (pa.bool_(), st.booleans()),
    "float32": (pa.float32(), st.floats(width=32)),
    "float64": (pa.float64(), st.floats()),
    "string": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]))),
    "large string": (pa.large_string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=100)),
    "binary": (pa.large_binary(), st.binary()),
    "date": (pa.date32(), st.dates()),
    "time": (UTC, st.datetimes(timezones=st.just(dt.UTC))),
    "duration": (pa.duration("us"), st.timedeltas(dt.timedelta(days=-(10**5)), dt.timedelta(days=10**5))),
    "decimal": (pa.decimal128(20, 4), st.decimals(-(10**15), 10**15, places=4)),
}
NESTED: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "list": (pa.large_list(pa.string()), st.lists(st.none() | st.text("ab", max_size=9), max_size=4)),
    "struct": (
        pa.struct([("lat", pa.float64()), ("tags", pa.list_(pa.int8()))]),
        st.fixed_dictionaries({"lat": st.none() | st.floats(), "tags": st.none() | st.lists(st.integers(0, 9))}),
    ),
}
EVERYTHING = SCALARS | NESTED


@pytest.mark.parametrize("kind", EVERYTHING)
@given(data=st.data())
def test_the_hash_is_as_described(kind: str, data: st.DataObject) -> None:
    """For every type, with nulls, in chunks and slices of any size, for any seed."""
    type_, values = EVERYTHING[kind]
    array = pa.array(data.draw(st.lists(st.none() | values, max_size=12)), type_)
    start = data.draw(st.integers(0, len(array)))
    seed = data.draw(st.integers(0, 2**64 - 1))
    other = pa.array(range(len(array)), pa.int16())
    chunked = pa.chunked_array([array.slice(0, start), array.slice(start)], type_)
    whole = expected([array, other], seed)
    assert row_hash([array, other], seed).tolist() == row_hash([chunked, other], seed).tolist() == whole
    assert row_hash([array.slice(start), other.slice(start)], seed).tolist() == whole[start:]


def test_many_rows_and_long_texts() -> None:
    """More than are hashed at a time, in other chunks; texts of no byte up to a million of them."""
    texts = ["x" * (number % 23) for number in range(300_000)]
    for place, length in ((0, 63), (1, 64), (2, 65), (9, 72), (131_071, 1_000_003), (131_072, 0), (299_999, 5_000)):
        texts[place] = "é" * (length // 2) + "y" * (length % 2)
    whole = pa.array(texts)
    cut = pa.chunked_array([whole.slice(start, 7_777) for start in range(0, len(whole), 7_777)])
    found = row_hash([whole])
    assert (row_hash([cut]) == found).all()
    for place in (0, 1, 2, 3, 9, 131_070, 131_071, 131_072, 299_999):
        assert int(found[place]) == absorb(mix(0), [texts[place]])


@given(st.lists(st.none() | st.integers(0, 127), min_size=1))
def test_widths_and_encodings_unify(values: list[int | None]) -> None:
    """An integer hashes as what it is; so do text, uuids, decimals and times, however they are stored."""
    plain = row_hash([pa.array(values, pa.int64())]).tolist()
    for type_ in (pa.int8(), pa.int32(), pa.uint8(), pa.uint64()):
        assert row_hash([pa.array(values, type_)]).tolist() == plain
    texts = pa.array([None if value is None else f"{value:032x}" for value in values])
    for type_ in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        assert row_hash([texts.cast(type_)]).tolist() == row_hash([texts]).tolist()
    raw = pa.array([None if value is None else value.to_bytes(16) for value in values], pa.binary(16))
    for type_ in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert row_hash([raw.cast(type_)]).tolist() == row_hash([raw]).tolist()
    ids = pa.array([None if value is None else str(uuid.UUID(int=value)) for value in values])
    extension = pa.ExtensionArray.from_storage(pa.uuid(), raw)
    assert row_hash([extension]).tolist() == row_hash([ids]).tolist()
    exact = pa.array([None if value is None else decimal.Decimal(value) for value in values], pa.decimal128(9, 0))
    assert row_hash([exact.cast(pa.decimal256(40, 7))]).tolist() == row_hash([exact]).tolist()
    days = pa.array(values, pa.int32()).cast(pa.date32())
    assert row_hash([days.cast(pa.date64())]).tolist() == row_hash([days]).tolist()
    times = days.cast(pa.timestamp("us", tz="UTC"))
    for type_ in (pa.timestamp("s"), pa.timestamp("ns", tz="Europe/Berlin")):
        assert row_hash([times.cast(type_)]).tolist() == row_hash([times]).tolist()
    lists = pa.array([None if value is None else [value, None] for value in values], pa.list_(pa.int64(), 2))
    assert row_hash([lists.cast(pa.large_list(pa.int64()))]).tolist() == row_hash([lists]).tolist()


def test_what_differs_differs() -> None:
    """Values that look alike in another type, columns that would be equal when joined end to end, nulls by place."""
    rows: list[list[pa.Array]] = [
        [pa.array([1])], [pa.array([True])], [pa.array([1.0])], [pa.array(["1"])], [pa.array([b"1"])],
        [pa.array([dt.date(1970, 1, 2)])], [pa.array([1], UTC)], [pa.array([1], pa.duration("us"))],
        [pa.array([decimal.Decimal(1)])], [pa.array([-1])], [pa.array([2**64 - 1], pa.uint64())], [pa.array([""])],
        [pa.array(["\x00"])], [pa.array(["\x00" * 8])], [pa.array([None], pa.int64())], [pa.array([0])],
        [pa.array([[]], pa.list_(pa.int8()))], [pa.array([[1]])], [pa.array([[1, None]])], [pa.array([{"a": 1}])],
        [pa.array([1]), pa.array([1])], [pa.array(["a"]), pa.array(["bc"])], [pa.array(["ab"]), pa.array(["c"])],
        [pa.array(["abc"]), pa.array([""])], [pa.array([None], pa.string()), pa.array(["a"])],
        [pa.array(["a"]), pa.array([None], pa.string())], [pa.array([2]), pa.array([1])],
        [pa.array([1]), pa.array([2])], [pa.array(["12345678abcdefgh"])], [pa.array(["abcdefgh12345678"])],
    ]  # fmt: skip
    found = [int(row_hash(row)[0]) for row in rows]
    assert len(set(found)) == len(rows)
    assert row_hash([pa.array([0.0, -0.0])]).tolist() == row_hash([pa.array([0.0, 0.0])]).tolist()


def test_a_type_without_a_hash_is_refused() -> None:
    """Also inside others; and decimals that do not fit."""
    times = pa.array([dt.time(1)])
    for column in (times, pa.array([[dt.time(1)]]), pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))):
        with pytest.raises(KeyTypeError):
            row_hash([column])
    with pytest.raises(ColumnTypeError):
        row_hash([pa.array([decimal.Decimal(10**40)], pa.decimal256(76, 0))])


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("kind", ["numbers", "texts", "times", "pairs"])
def test_neighbours_spread_evenly(kind: str, seed: int) -> None:
    """Chi-square over 256 equal parts, by the first and by the last byte: keys that count up fall anywhere."""
    count = 100_000
    columns: dict[str, list[pa.Array]] = {
        "numbers": [pa.array(range(count))],
        "texts": [pa.array([f"user-{number:08d}" for number in range(count)])],
        "times": [pa.array(np.arange(count) * 86_400_000_000, UTC)],
        "pairs": [pa.array(np.arange(count) % 10), pa.array(np.arange(count) // 10)],
    }
    hashes = row_hash(columns[kind], seed)
    for part in (hashes >> np.uint64(56), hashes & np.uint64(255)):
        counts = np.bincount(part.astype(np.int64), minlength=256)
        chi_square = float(((counts - count / 256) ** 2 / (count / 256)).sum())
        assert 160 < chi_square < 370, "255 degrees of freedom: one in a hundred thousand lies outside"


def test_a_bit_of_the_input_changes_half_of_the_hash() -> None:
    """Each of the 64 bits of a number changes each bit of the hash about half of the time."""
    numbers = np.random.default_rng(0).integers(0, 2**63, 4096)
    hashes = row_hash([pa.array(numbers)])
    for bit in range(63):
        flipped = row_hash([pa.array(numbers ^ (1 << bit))])
        share = np.unpackbits((hashes ^ flipped).view(np.uint8)).reshape(-1, 64).mean(axis=0)
        assert abs(share - 0.5).max() < 0.05


# splits


SHARES = (0.7, 0.15, 0.15)
KEYS = st.sampled_from([None, "a", "b", "c", "d", "e"])
TIMES = st.none() | st.integers(0, 20)
LABELS = st.sampled_from([None, True, False])
ROWS = st.lists(st.tuples(KEYS, TIMES, LABELS), max_size=40)
CUTS = st.sampled_from(
    [
        HashCut(SHARES, 0), HashCut((0.2,) * 5, 3, mixed=True), HashCut((0.1,) * 9 + (0.1,), 1), StrataCut(SHARES, 0),
        TimeCut(SHARES), TimeCut((0.5, 0.5), gap=3), MomentCut((5, 11)), MomentCut((5, 11), end=15, gap=4),
    ]
)  # fmt: skip


def columns_of(rows: Sequence[tuple[Any, Any, Any]]) -> dict[str, pa.Array]:
    keys, times, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "key": pa.array(keys, pa.string()),
        "time": pa.array(times, pa.int64()).cast(UTC),
        "label": pa.array(labels, pa.bool_()),
    }


def parts_of(cut: Cut, rows: Sequence[tuple[Any, Any, Any]], by: Sequence[str] = ("label",)) -> list[int]:
    table = columns_of(rows)
    named = [table[name] for name in by] if isinstance(cut, StrataCut) or by != ("label",) else []
    parts = assign(cut, identity=[table["key"], table["time"]], by=named, event_time=table["time"])
    assert parts.dtype == np.int16
    return list(parts.tolist())


@given(CUTS, ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_has_no_say(cut: Cut, rows: list[tuple[Any, Any, Any]], random: Any) -> None:
    """Shuffled rows fall into the parts into which they fell; equal rows into the same one."""
    order = list(range(len(rows)))
    random.shuffle(order)
    parts = parts_of(cut, rows)
    assert parts_of(cut, [rows[place] for place in order]) == [parts[place] for place in order]
    assert len(set(zip(rows, parts, strict=True))) == len(set(rows))


@given(ROWS, ROWS, st.integers(0, 3))
def test_added_rows_move_no_others(
    rows: list[tuple[Any, Any, Any]], more: list[tuple[Any, Any, Any]], seed: int
) -> None:
    """Where a hash decides."""
    for cut, by in itertools.product([HashCut(SHARES, seed), HashCut((0.25,) * 4, seed, True)], [("label",), ("key",)]):
        assert parts_of(cut, [*rows, *more], by)[: len(rows)] == parts_of(cut, rows, by)


@given(CUTS, ROWS)
def test_rows_are_in_one_part_each(cut: Cut, rows: list[tuple[Any, Any, Any]]) -> None:
    """Every row is in one of the parts or left out; partition gives all rows that are in one, in their order."""
    parts = parts_of(cut, rows)
    in_time = isinstance(cut, TimeCut | MomentCut)
    count = len(cut.starts) + 1 if isinstance(cut, MomentCut) else len(cut.shares)
    assert all(LEFT_OUT <= part < count for part in parts)
    for (_, time, _), part in zip(rows, parts, strict=True):
        assert part != LEFT_OUT or in_time
        assert not (in_time and time is None) or part == LEFT_OUT
    table = pa.table({**columns_of(rows), "place": pa.array(range(len(rows)), pa.int64())})
    found = partition(table, np.array(parts, np.int16), count)
    assert [piece.schema for piece in found] == [table.schema] * count
    assert [piece.column("place").to_pylist() for piece in found] == [
        [place for place, part in enumerate(parts) if part == number] for number in range(count)
    ]


@given(ROWS)
def test_a_key_is_in_one_part(rows: list[tuple[Any, Any, Any]]) -> None:
    """Nulls are a key too."""
    parts = parts_of(HashCut((0.4, 0.3, 0.3), 5), rows, by=("key",))
    assert len({(key, part) for (key, _, _), part in zip(rows, parts, strict=True)}) == len({key for key, *_ in rows})


def test_shares_are_met() -> None:
    """By hash within five standard deviations, also of a part that was cut by the same hash and seed."""
    count = 100_000
    key = pa.array(range(count))
    first = assign(HashCut(SHARES, 0), identity=[key])
    for number, share in enumerate(SHARES):
        assert abs((first == number).sum() - share * count) < 5 * math.sqrt(count * share * (1 - share))
    train = key.filter(pa.array(first == 0))
    folds = assign(HashCut((0.1,) * 10, 0, mixed=True), identity=[train])
    sizes = np.bincount(folds)
    assert len(sizes) == 10
    assert abs(sizes - len(train) / 10).max() < 5 * math.sqrt(len(train) * 0.09)


def test_the_limits_of_shares_are_those_described() -> None:
    """A part ends at its share, added to those before it, times 2**64."""
    hashes = row_hash([pa.array(range(1000))], 9)
    parts = assign(HashCut(SHARES, 9), identity=[pa.array(range(1000))])
    limits = [int(0.7 * 2**64), int((0.7 + 0.15) * 2**64)]
    assert parts.tolist() == [sum(int(word) >= limit for limit in limits) for word in hashes]


@given(st.lists(st.sampled_from([None, "x", "y", "z"]), max_size=60), st.integers(0, 5))
def test_strata_are_exact_to_the_row(labels: list[str | None], seed: int) -> None:
    """Rows of distinct identity: each part has its share of each value, rounded at the ends."""
    identity = [pa.array(range(len(labels)))]
    parts = assign(StrataCut(SHARES, seed), identity=identity, by=[pa.array(labels, pa.string())])
    for label in set(labels):
        of = [part for part, own in zip(parts.tolist(), labels, strict=True) if own == label]
        ends = [0, *(math.floor(len(of) * end + 0.5) for end in (0.7, 0.7 + 0.15)), len(of)]
        assert [of.count(number) for number in range(3)] == [end - start for start, end in itertools.pairwise(ends)]


def test_strata_of_several_columns_and_many_values() -> None:
    """Each combination is one; 0.0 and -0.0 are one value, NaN is one."""
    one = pa.array([0.0, -0.0, float("nan"), float("nan")] * 50)
    two = pa.array([1, 1, 2, 2] * 50)
    parts = assign(StrataCut((0.5, 0.5), 0), identity=[pa.array(range(200))], by=[one, two])
    for stratum in (np.arange(200) % 4 < 2, np.arange(200) % 4 >= 2):
        assert np.bincount(parts[stratum]).tolist() == [50, 50]
    many = assign(StrataCut((0.5, 0.5), 0), identity=[pa.array(range(200_000))], by=[pa.array(np.arange(200_000) // 2)])
    assert np.bincount(many[::2] + many[1::2]).tolist() == [0, 100_000], "one of each pair"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.sampled_from([SHARES, (0.5, 0.5), (0.9, 0.1)]))
def test_parts_in_time_follow_each_other(times: list[int], shares: tuple[float, ...]) -> None:
    """No time is in two parts, each part ends where the next starts, and no other cut is nearer to the shares."""
    column = pa.array(times).cast(UTC)
    parts = assign(TimeCut(shares), identity=[], event_time=column).tolist()
    assert sorted(parts) == [part for _, part in sorted(zip(times, parts, strict=True))]
    assert len(set(zip(times, parts, strict=True))) == len(set(times))
    starts = time_starts(TimeCut(shares), column)
    assert parts == [sum(start is not None and time >= start for start in starts) for time in times]
    end = 0.0
    for number, share in enumerate(shares[:-1]):
        end += share
        place = int(len(times) * end + 0.5)
        cut = sum(part <= number for part in parts)
        possible = [sum(time < at for time in times) for at in range(14)]
        assert abs(cut - place) == min(abs(other - place) for other in possible)


@given(st.lists(TIMES, max_size=30), st.integers(1, 8), st.none() | st.integers(13, 20))
def test_a_gap_is_kept(times: list[int | None], gap: int, end: int | None) -> None:
    """No row of an earlier part lies within the gap before a later one, both ends included; all others stay."""
    starts = (4, 12)
    column = pa.array(times, pa.int64()).cast(UTC)
    parts = assign(MomentCut(starts, end=end, gap=gap), identity=[], event_time=column).tolist()
    for time, part in zip(times, parts, strict=True):
        out = time is None or (end is not None and time >= end) or any(at - gap <= time < at for at in starts)
        assert part == (LEFT_OUT if out else sum(time >= at for at in starts))  # type: ignore[operator]


def test_a_gap_before_a_part_that_shares_cut() -> None:
    """It counts from the first row of the later part."""
    column = pa.array(range(0, 100, 10)).cast(UTC)
    parts = assign(TimeCut((0.5, 0.5), gap=20), identity=[], event_time=column).tolist()
    assert parts == [0, 0, 0, LEFT_OUT, LEFT_OUT, 1, 1, 1, 1, 1]
    assert time_starts(TimeCut((0.5, 0.5), gap=20), column) == (50,)
    longest = assign(TimeCut((0.5, 0.5), gap=2**63 - 1), identity=[], event_time=column).tolist()
    assert longest == [LEFT_OUT] * 5 + [1] * 5


def test_dates_are_times() -> None:
    """A date is its midnight (TIME-1)."""
    days = pa.array([dt.date(2026, 1, 1), dt.date(2026, 1, 2), None])
    start = (dt.datetime(2026, 1, 2) - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    assert assign(MomentCut((start,)), identity=[], event_time=days).tolist() == [0, 1, LEFT_OUT]


def test_no_rows_and_no_times() -> None:
    """Nothing goes nowhere; a part that no row reaches has no start."""
    empty = pa.array([], UTC)
    for cut in (HashCut(SHARES, 0), StrataCut(SHARES, 0), TimeCut(SHARES), MomentCut((1,))):
        assert assign(cut, identity=[empty], by=[empty], event_time=empty).tolist() == []
    assert time_starts(TimeCut(SHARES), pa.nulls(3, UTC)) == (None, None)
    assert assign(TimeCut(SHARES), identity=[], event_time=pa.nulls(3, UTC)).tolist() == [LEFT_OUT] * 3
    same = pa.array([7, 7, 7]).cast(UTC)
    assert (time_starts(TimeCut((0.1, 0.9)), same), time_starts(TimeCut((0.9, 0.1)), same)) == ((7,), (None,))


def test_a_cut_says_what_it_needs() -> None:
    """A split in time without a time, a stratified one without columns."""
    with pytest.raises(MissingColumnError):
        assign(TimeCut(SHARES), identity=[pa.array([1])])
    with pytest.raises(MissingColumnError):
        assign(StrataCut(SHARES, 0), identity=[pa.array([1])])


@pytest.mark.parametrize("seed", range(5))
def test_the_rows_of_parts_are_those_of_a_filter(seed: int) -> None:
    """For every type, with nulls, in chunks that differ from column to column, sliced, some of them empty."""
    random = np.random.default_rng(seed)
    whole = pa.concat_tables([one_of_everything()] * 5).slice(3)
    columns = []
    for column in whole.columns:
        cuts = [0, *np.sort(random.integers(0, len(whole), 4)).tolist(), len(whole)]
        columns.append(pa.chunked_array([column.slice(a, b - a).combine_chunks() for a, b in itertools.pairwise(cuts)]))
    table = pa.table(columns, schema=whole.schema)
    parts = random.integers(LEFT_OUT, 3, len(table)).astype(np.int16)
    found = partition(table, parts, 4)
    assert [len(piece) for piece in found[3:]] == [0]
    for number, piece in enumerate(found):
        piece.validate(full=True)
        assert_rows_equal(piece, table.filter(pa.array(parts == number)))


@pytest.mark.parametrize("size", [1, 300_000])
def test_many_rows_in_parts(size: int) -> None:
    """In one chunk, and in as many as there are rows."""
    count = 300_000 if size > 1 else 3_000
    numbers = pa.array(np.arange(count), mask=np.arange(count) % 7 == 0)
    column = pa.chunked_array([numbers.slice(start, size) for start in range(0, count, size)])
    parts = (np.arange(count) * 7919 % 4 - 1).astype(np.int16)
    for number, piece in enumerate(partition(pa.table({"x": column}), parts, 3)):
        piece.validate(full=True)
        assert piece.column("x").to_pylist() == numbers.filter(pa.array(parts == number)).to_pylist()


def test_pieces_share_memory() -> None:
    """Parts that lie in one piece are not copied."""
    table = pa.table({"x": pa.array(range(1000))})
    first, second = partition(table, np.repeat(np.array([0, 1], np.int16), 500), 2)
    address = table.column("x").chunk(0).buffers()[1].address
    assert [piece.column("x").chunk(0).buffers()[1].address for piece in (first, second)] == [address, address]
