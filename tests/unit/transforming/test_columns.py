"""Transformations: one row and a whole table give the same values, whatever the function is handed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.transforming.generating import column_of, dtypes, exactly, values_of

from grange.definitions.transformations import PythonCode, Transformation
from grange.errors import DefinitionError, RequestError, TransformError
from grange.transforming.columns import compile_row, fit_state, output_schema, transform_columns
from grange.transforming.values import python_values
from grange.types import DataType, Schema, as_dtype

FLOAT, INTEGER, TEXT = as_dtype("float64"), as_dtype("int64"), as_dtype("string")
ASKED_BY = "feature view 'churn'"
MODES = ("row", "numpy", "polars", "pandas")
ARRAYS = ("numpy", "polars", "pandas")


def make(function: Callable[..., Any], outputs: Any, **options: Any) -> Transformation:
    made = {"y": outputs} if isinstance(outputs, str | DataType) else outputs
    return Transformation("subject", function, outputs=made, **options)


def table(
    item: Transformation, *columns: pa.ChunkedArray | Sequence[Any], types: Sequence[Any], **options: Any
) -> list[Any]:
    """The first output of a transformation, as Python values."""
    dtypes = [as_dtype(dtype) for dtype in types]
    arrays = [
        values if isinstance(values, pa.ChunkedArray) else column_of(list(values), dtype)
        for values, dtype in zip(columns, dtypes, strict=True)
    ]
    return transform_columns(item, arrays, dtypes, asked_by=ASKED_BY, **options)[0].to_pylist()


def agree(item: Transformation, rows: Sequence[Sequence[Any]], types: Sequence[DataType], state: Any = None) -> None:
    """That a table and its rows one by one have the same outputs, to the last bit."""
    columns = [column_of([row[place] for row in rows], dtype) for place, dtype in enumerate(types)]
    offline = transform_columns(item, columns, types, state=state, asked_by=ASKED_BY)
    one = compile_row(item, types, state=state, asked_by=ASKED_BY)
    online = [one(row) for row in rows]

    schema = output_schema(item, types)
    assert [len(column) for column in offline] == [len(rows)] * len(schema)
    for place, (column, made) in enumerate(zip(schema, offline, strict=True)):
        assert exactly(made, column.dtype) == [repr(values[place]) for values in online]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_a_function_passes_on_is_what_it_was_given(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(MODES))
    dtype = data.draw(dtypes())
    rows = data.draw(st.lists(st.tuples(values_of(dtype)), max_size=6))
    item = make(lambda x: x, dtype, inputs=["x"], mode=mode)

    if mode == "numpy" and dtype.kind == "list":
        rows = [row for row in rows if row[0] is None or None not in row[0]]  # arrays have NaN there
    agree(item, rows, [dtype])
    column = column_of([row[0] for row in rows], dtype)
    (made,) = transform_columns(item, [column], [dtype], asked_by=ASKED_BY)
    assert exactly(made, dtype) == exactly(column, dtype)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_lists_with_nulls_in_arrays_are_the_same_for_a_row_and_a_table(data: st.DataObject) -> None:
    dtype = as_dtype(data.draw(st.sampled_from(["list[float64]", "list[int32]", "list[string]", "list[datetime]"])))
    rows = data.draw(st.lists(st.tuples(values_of(dtype)), max_size=6))
    item = make(lambda x: np.array([repr(value) for value in x], object), "string", inputs=["x"], mode="numpy")
    agree(item, rows, [dtype])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nulls_that_are_passed_are_seen(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["row", "polars", "pandas"]))
    dtype = data.draw(dtypes())
    rows = data.draw(st.lists(st.tuples(values_of(dtype)), max_size=6))
    functions: dict[str, Callable[[Any], Any]] = {
        "row": lambda x: x is None,
        "polars": lambda x: x.is_null(),
        "pandas": lambda x: x.isna(),
    }
    item = make(functions[mode], "boolean", inputs=["x"], mode=mode, nulls="pass")

    agree(item, rows, [dtype])
    if mode != "pandas":  # whose NaN is missing too
        assert table(item, column_of([row[0] for row in rows], dtype), types=[dtype]) == [
            row[0] is None for row in rows
        ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arithmetic_is_the_same_for_a_row_and_a_table(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(ARRAYS))
    types = [as_dtype(data.draw(st.sampled_from(["float64", "float32", "int8"]))) for _ in range(2)]
    rows = data.draw(st.lists(st.tuples(*map(values_of, types)), max_size=6))

    def compute(left: Any, right: Any) -> Any:
        with np.errstate(all="ignore"):
            return left + right * 3, left > right

    item = make(compute, {"number": "float64", "greater": "boolean"}, mode=mode)
    agree(item, rows, types)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(values_of(FLOAT), values_of(INTEGER)), max_size=6))
def test_sql_is_the_same_for_a_row_and_a_table(rows: list[tuple[Any, Any]]) -> None:
    item = Transformation(
        "ratio", sql={"ratio": "a / NULLIF(b, 0)", "known": "COALESCE(ratio, -1)"}, outputs={"known": "float32"}
    )
    agree(item, rows, [FLOAT, INTEGER])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(values_of(FLOAT), values_of(INTEGER)), max_size=6))
def test_numbers_with_nulls_are_floats_with_nan_in_arrays(rows: list[tuple[Any, Any]]) -> None:
    def total(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        assert a.dtype == b.dtype == np.float64
        return np.where(np.isnan(a), -1.0, a) + b

    agree(make(total, "float64", nulls="pass"), rows, [FLOAT, INTEGER])


RESULTS: dict[str, list[Any]] = {
    "row": [
        1, 2**53 + 1, 2**64 - 1, -1, True, 1.5, 3.0, -0.0, float("nan"), 1e300, "1", "2020-02-29", "x\ud800", b"a",
        None,
        np.float64(2.5), np.float32(0.1), np.int64(7), np.uint64(2**64 - 1), np.bool_(True), np.str_("t"),
        np.bytes_(b"t"),
        np.longdouble(1) / 3, np.datetime64("2020-01-01T00:00:00.000001"), np.datetime64("NaT"), pd.NaT, pd.NA,
        pd.Timestamp("2020-01-01 10:00+02:00"), pd.Timestamp("2020-01-01 00:00:00.000000001"), dt.date(2020, 1, 1),
        dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 1), dt.timedelta(1), Decimal("1.20"), Decimal("1.234"),
        Decimal("-0.00"), Decimal("NaN"), Decimal("1e20"), "6F9619FF8B86D011B42D00C04FC964FF", [1.0, None], (2, 3), [],
        [[1]], np.array([1.0, 2.0]), {"a": 1}, {"a": 1, "c": 2}, object(), 1j,
    ],
    "numpy": [
        np.array([1, 2, 3]), np.array([300, -1, 0]), np.array([1.0, 2.5, np.nan]), np.array([1e300, -0.0, 3]),
        np.array([0.1, 0.2, 3], np.float32), np.array([0.1, 0.2, 3], np.float16), np.array([1, 2, 3], ">i4"),
        np.array([2**53 + 1, 1, 2]), np.array([2**64 - 1, 1, 2], np.uint64), np.array([True, False, True]),
        np.array(["a", "bc", ""]), np.array([b"a", b"bc", b""]), np.array(["2020-02-29", "x", "2020-01-01T10:00Z"]),
        np.array([1, None, 2.5], object), np.array(["a", None, 1], object), np.array([np.nan, pd.NaT, None], object),
        np.array(["2020-01-01", "NaT", "2020-01-02T01"], "M8[h]"),
        np.array(["2020-01-01", "NaT", "1969-12-31"], "M8[ns]"),
        np.array([1, 2, 3], "m8[s]"), np.array([1, 2, 3], np.longdouble) / 3, np.array([1j, 2, 3]),
        np.ma.array([1, 2, 3], mask=[False, True, False]), np.ones((3, 2)),
        np.ones((3, 2, 2)), np.array([Decimal("1.2"), Decimal("1.25"), Decimal("1.234")], object),
    ],
    "polars": [
        pl.Series([1, 2, None]), pl.Series([1.5, float("nan"), None]), pl.Series(["a", None, "2020-02-29"]),
        pl.Series([300, -1, 0], dtype=pl.Int32), pl.Series([True, None, False]), pl.Series([None, None, None]),
        pl.Series(["a", "b", "a"], dtype=pl.Categorical), pl.Series([[1.0], None, [None]]),
        pl.Series([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 1), None]), pl.Series([dt.date(2020, 1, 1)] * 3),
        pl.Series([Decimal("1.20"), Decimal("1.25"), None]), pl.Series([object(), 1, None], dtype=pl.Object),
        pl.Series([2**64 - 1, 1, 0], dtype=pl.UInt64), pl.Series([1, 2, 3], dtype=pl.Int128),
    ],
    "pandas": [
        pd.Series([1, 2, 3]), pd.Series([1.5, np.nan, 2.0]), pd.Series(["a", None, "2020-02-29"]),
        pd.Series([1, None, 3], dtype="Int64"), pd.Series([1.0, None, 2.0], dtype="double[pyarrow]"),
        pd.Series([1, "a", np.nan], dtype=object), pd.Series([pd.Timestamp("2020-01-01"), pd.NaT, None]),
        pd.Series(["a", "b", "a"], dtype="category"), pd.Series([True, False, True], index=[0, 1, 2]),
        pd.Series([1.0, 2.0, float("nan")], dtype="double[pyarrow]"), pd.Series([300, -1, 0], dtype="int32[pyarrow]"),
        pd.Series(["a", None, "2020-02-29"], dtype=object), pd.Series([0.1, 0.2, 3], dtype="float32"),
        pd.Series([2**64 - 1, 1, 2], dtype="uint64"), pd.Series([True, None, False], dtype="boolean"),
    ],
}  # fmt: skip
TYPES = (
    "float64", "float32", "int64", "int8", "uint64", "boolean", "string", "binary", "uuid", "date", "datetime",
    "duration", "decimal(6,2)", "list[float64]", "list[int64]", "struct{a:int64,b:string}",
)  # fmt: skip


def outcome(call: Callable[[], Any]) -> str:
    """A value as exact text, or that it was refused."""
    try:
        return repr(call())
    except TransformError as error:
        assert " gave " in error.message or "returned 2 outputs instead of 1" in error.message
        return "refused"


def part(values: Any, low: int, high: int) -> Any:
    return values.iloc[low:high].reset_index(drop=True) if isinstance(values, pd.Series) else values[low:high]


GIVEN: list[Any] = []
"""What the functions below return: for all rows, or for the one row that there is."""


def return_given(x: Any) -> Any:
    return GIVEN[-1]


def return_given_part(x: Any) -> Any:
    (first, *others) = list(x)
    return part(GIVEN[-1], int(first), int(first) + 1 + len(others))


@pytest.mark.parametrize("declared", TYPES)
@pytest.mark.parametrize("mode", MODES)
def test_what_functions_return_is_taken_or_refused_alike_for_a_row_and_a_table(mode: str, declared: str) -> None:
    dtype = as_dtype(declared)

    item = make(return_given if mode == "row" else return_given_part, declared, mode=mode)

    def offline(result: Any, rows: int) -> list[Any]:
        GIVEN.append(result)
        (made,) = transform_columns(item, [column_of([*range(rows)], INTEGER)], [INTEGER], asked_by=ASKED_BY)
        return python_values(made, dtype)

    def online(result: Any) -> list[Any]:
        GIVEN.append(result)
        return list(compile_row(item, [INTEGER], asked_by=ASKED_BY)([0]))

    if mode == "row":
        for result in RESULTS[mode]:
            assert outcome(lambda: online(result)) == outcome(lambda: offline(result, 1)), repr(result)  # noqa: B023
        return
    for result in RESULTS[mode]:
        rows = [part(result, place, place + 1) for place in range(3)]
        alone = [outcome(lambda: online(row)) for row in rows]  # noqa: B023
        assert alone == [outcome(lambda: offline(row, 1)) for row in rows], repr(result)  # noqa: B023
        together = outcome(lambda: [[value] for value in offline(result, 3)])  # noqa: B023
        assert together == ("refused" if "refused" in alone else f"[{', '.join(alone)}]"), repr(result)


@pytest.mark.parametrize("mode", ARRAYS)
def test_a_function_on_arrays_that_raises_is_asked_again_for_the_row(mode: str) -> None:
    def refuse_seven(x: Any) -> Any:
        if 7 in list(x):
            raise ValueError("no sevens, please\nreally")
        return x

    item = make(refuse_seven, "float64", mode=mode)
    with pytest.raises(TransformError) as caught:
        table(item, [1.0, None, 3.0, 7.0, 2.0], types=["float64"])
    error = caught.value
    assert error.message == "transformation 'subject' raised ValueError: no sevens, please"
    assert (error.asked_by, error.found, error.details["row"]) == (ASKED_BY, "row 3: x=7.0", 3)
    assert isinstance(error.__cause__, ValueError)
    with pytest.raises(TransformError, match=r"no sevens, please\n.*\n  found:     x=7.0"):
        compile_row(item, [FLOAT], asked_by=ASKED_BY)([7.0])


def test_a_function_on_values_that_raises_names_the_row() -> None:
    item = make(lambda a, b: a / b, "float64", inputs=["a", "b"])
    with pytest.raises(TransformError, match="ZeroDivisionError") as caught:
        table(item, [1.0, None, 3.0], [2.0, 1.0, 0.0], types=["float64", "float64"])
    assert caught.value.found == "row 2: a=3.0, b=0.0"


def test_a_function_that_fails_with_no_single_row_failed_as_a_whole() -> None:
    item = make(lambda x: 1.0 if x > 0 else 0.0, "float64", inputs=["x"], mode="numpy")
    with pytest.raises(TransformError, match="when it was called with all 3 rows") as caught:
        table(item, [1.0, 2.0, 3.0], types=["float64"])
    assert 'mode="row"' in str(caught.value)


def test_other_numbers_of_rows_and_outputs_are_refused() -> None:
    def run(function: Callable[..., Any], outputs: Any, mode: str = "numpy") -> str:
        item = make(function, outputs, inputs=["x"], mode=mode)
        with pytest.raises(TransformError) as caught:
            table(item, [1.0] * 5, types=["float64"])
        return caught.value.message.removeprefix("transformation 'subject' ")

    assert run(lambda x: x[:3], "float64") == "returned 3 values for 5 rows"
    assert run(lambda x: x.sum(), "float64") == "returned no array for output 'y'"
    assert run(lambda x: [1.0] * 5, "float64") == "returned no array for output 'y'"
    assert run(lambda x: None, "float64") == "returned no array for output 'y'"
    assert run(lambda x: (x, x), "float64") == "returned 2 outputs instead of 1"
    assert run(lambda x: (x,), {"a": "float64", "b": "float64"}) == "returned 1 output instead of 2"
    assert run(lambda x: x, {"a": "float64", "b": "float64"}) == "returned one ndarray for 2 outputs"
    assert run(lambda x: (x, x), "float64", "row") == "returned 2 outputs instead of 1"
    assert run(lambda x: x, {"a": "float64", "b": "float64"}, "row") == "returned one float for 2 outputs"


def test_a_row_that_is_answered_with_several_is_refused() -> None:
    item = make(lambda x: np.array([1.0, 2.0]), "float64", inputs=["x"], mode="numpy")
    with pytest.raises(TransformError, match="returned 2 values for 1 row"):
        compile_row(item, [FLOAT], asked_by=ASKED_BY)([1.0])
    with pytest.raises(TransformError, match="returned no array"):
        compile_row(make(lambda x: 1.0, "float64", inputs=["x"], mode="numpy"), [FLOAT], asked_by=ASKED_BY)([1.0])


def test_a_value_that_does_not_fit_is_shown_with_its_row() -> None:
    for mode in ARRAYS:
        with pytest.raises(TransformError) as caught:
            table(make(lambda x: x / 2, "int64", inputs=["x"], mode=mode), [2.0, None, 4.0, 5.0], types=["float64"])
        assert caught.value.message == "transformation 'subject' gave 2.5 for output 'y', which is declared int64"
        assert caught.value.found == "row 3: x=5.0"


def test_what_is_handed_out_cannot_be_written_to() -> None:
    def spoil(x: Any) -> Any:
        for place in range(len(x)):
            x[place] = 0.0
        return x

    column = column_of([1.0, 2.0], FLOAT)
    for columns, dtype in (([1.0, 2.0], "float64"), (["a", "b"], "string"), ([[1.0], [2.0]], "list[float64]")):
        with pytest.raises(TransformError, match="read-only"):
            table(make(spoil, dtype, mode="numpy"), columns, types=[dtype])
        with pytest.raises(TransformError, match="read-only"):
            compile_row(make(spoil, dtype, mode="numpy"), [as_dtype(dtype)], asked_by=ASKED_BY)([columns[0]])
    with pytest.raises(TransformError, match="read-only"):
        table(make(lambda x: spoil(x[0]), "float64", inputs=["x"], mode="numpy"), [[1.0]], types=["list[float64]"])
    for mode in ("polars", "pandas"):
        assert table(make(spoil, "float64", mode=mode), column, types=["float64"]) == [0.0, 0.0]
        assert column.to_pylist() == [1.0, 2.0]


def centred(x: Any) -> Any:
    return x - x.mean()


def sorted_rows(x: Any) -> Any:
    return np.sort(x)


def reversed_rows(x: Any) -> Any:
    return x[::-1]


def running_total(x: Any) -> Any:
    return x.cumsum()


def share_of_all(x: Any) -> Any:
    return x / x.sum()


ROWS = [float(value % 37) for value in range(1, 200)]


@pytest.mark.parametrize(
    ("function", "modes"),
    [
        (centred, ARRAYS),
        (running_total, ("numpy", "pandas")),
        (share_of_all, ARRAYS),
        (sorted_rows, ("numpy",)),
        (reversed_rows, ("numpy", "polars")),
        (lambda x: x.shift(1), ("polars", "pandas")),
        (lambda x: x.rank(), ("polars", "pandas")),
        (lambda x: x.sort(), ("polars",)),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_a_function_that_mixes_rows_is_refused(function: Callable[..., Any], modes: Sequence[str]) -> None:
    for mode in modes:
        item = make(function, "float64", inputs=["x"], mode=mode)
        with pytest.raises(TransformError, match=r"of row \d+ in a table, and .* for the row alone") as caught:
            table(item, ROWS, types=["float64"])
        assert caught.value.try_ is not None and "each row by itself" in caught.value.try_
        (alone,) = compile_row(item, [FLOAT], asked_by=ASKED_BY)([ROWS[caught.value.details["row"]]])
        assert f"and {alone!r} for the row alone" in caught.value.message


def test_the_row_that_differs_is_named_as_it_stands_in_the_table() -> None:
    item = make(centred, "float64", mode="numpy")
    with pytest.raises(TransformError) as caught:
        table(item, [None, 1.0, 3.0], types=["float64"])
    assert caught.value.message == (
        "transformation 'subject' gave -1.0 for output 'y' of row 1 in a table, and 0.0 for the row alone: "
        "online it would have another value"
    )
    assert caught.value.found == "row 1: x=1.0"


def test_a_function_that_fails_with_a_row_alone_is_refused() -> None:
    item = make(lambda x: np.gradient(x), "float64", inputs=["x"], mode="numpy")
    with pytest.raises(TransformError, match=r"works on a table, and not on row 0 alone, .* it raised ValueError"):
        table(item, [1.0, 3.0, 2.0], types=["float64"])


def test_few_rows_are_run_alone_however_many_there_are() -> None:
    sizes: list[int] = []

    def twice(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return x * 2

    item = make(twice, "float64")
    table(item, [float(value) for value in range(1000)], types=["float64"])
    assert sizes == [1000, *[1] * 8]
    sizes.clear()
    table(item, [1.0], types=["float64"])
    compile_row(item, [FLOAT], asked_by=ASKED_BY)([1.0])
    assert sizes == [1, 1]


def test_rounding_of_vectors_is_no_difference() -> None:
    def slightly_more(x: np.ndarray) -> np.ndarray:
        return x * (1 + 1e-13 * len(x))

    assert table(make(slightly_more, "float64"), [1.0, float("nan")], types=["float64"])[0] == pytest.approx(1)


def test_a_pandas_result_has_the_index_of_its_input() -> None:
    def other_order(x: pd.Series) -> pd.Series:
        return x.sort_values()

    item = make(other_order, "float64")
    assert item.mode == "pandas"
    with pytest.raises(TransformError, match="another index than its input's for output 'y'") as caught:
        table(item, [3.0, 1.0, 2.0], types=["float64"])
    assert caught.value.found == "index [1, 2, 0]"
    assert table(item, [1.0, 2.0, 3.0], types=["float64"]) == [1.0, 2.0, 3.0]
    named = make(lambda x: pd.Series(x.to_list(), index=["a"] * len(x)), "float64", inputs=["x"], mode="pandas")
    with pytest.raises(TransformError, match="another index"):
        compile_row(named, [FLOAT], asked_by=ASKED_BY)([1.0])


def test_lists_of_a_row_are_copies() -> None:
    row = [[1.0, 2.0]]
    item = make(lambda x: x.pop(), "float64", inputs=["x"])
    assert compile_row(item, [as_dtype("list[float64]")], asked_by=ASKED_BY)(row) == (2.0,)
    assert row == [[1.0, 2.0]]


def test_a_function_that_skips_nulls_is_not_called_for_nulls_alone() -> None:
    def never(x: Any) -> Any:
        raise AssertionError("called")

    for mode in MODES:
        assert table(make(never, "float64", mode=mode), [None, None], types=["float64"]) == [None, None]
        assert table(make(never, "float64", mode=mode), [], types=["float64"]) == []


def test_rows_are_read_as_their_columns_types_have_them() -> None:
    """Requests bring what JSON has; the function sees what the column would hold."""
    seen: list[Any] = []
    item = make(lambda *values: seen.append(values) or 1, "int64", inputs=["f", "g", "t", "d"])
    types = [as_dtype(name) for name in ("float64", "float32", "datetime", "decimal(6,2)")]
    compile_row(item, types, asked_by=ASKED_BY)([1, 0.1, dt.datetime(2020, 1, 1), Decimal("1.5")])
    assert repr(seen[0]) == repr((1.0, 0.10000000149011612, dt.datetime(2020, 1, 1, tzinfo=dt.UTC), Decimal("1.50")))


def test_arrays_have_no_nulls_but_nan() -> None:
    item = make(lambda x: x, "string", inputs=["x"], mode="numpy", nulls="pass")
    for call in (
        lambda: output_schema(item, [TEXT]),
        lambda: compile_row(item, [TEXT], asked_by=ASKED_BY),
        lambda: table(item, ["a"], types=["string"]),
    ):
        with pytest.raises(DefinitionError, match="shown nulls as NaN, and input 'x' is no number"):
            call()


def test_request_columns_without_room_for_nulls_are_refused_when_they_are_declared() -> None:
    with pytest.raises(DefinitionError, match="shown nulls as NaN, and input 'x' is no number"):
        make(lambda x: x, "string", inputs=["x"], mode="numpy", nulls="pass", requests={"x": "string"})
    make(lambda x: x, "float64", inputs=["x"], mode="numpy", nulls="pass", requests={"x": "int64"})


def test_sql_outputs_have_the_types_of_their_expressions_or_declared_ones() -> None:
    item = Transformation("t", sql={"a": "x + 1", "b": "a > 2", "c": "x / 2"}, outputs={"c": "float32"})
    assert output_schema(item, [INTEGER]) == Schema.of({"a": "int64", "b": "boolean", "c": "float32"})
    narrow = Transformation("t", sql={"a": "x + 1"}, outputs={"a": "int8"})
    with pytest.raises(TransformError, match=r"gave 301 for output 'a', which is declared int8\n.*\n.*row 1: x=300"):
        table(narrow, [1, 300], types=["int64"])
    with pytest.raises(TransformError, match="gave 301 for output 'a'"):
        compile_row(narrow, [INTEGER], asked_by=ASKED_BY)([300])


def test_code_that_is_not_loaded_is_not_run() -> None:
    item = make(lambda x: x, "float64", inputs=["x"])
    stored = item.with_code(PythonCode("f", "shop.features", "def f(x): ...", "hash"), None)
    with pytest.raises(TransformError, match="is not loaded in this process") as caught:
        table(stored, [1.0], types=["float64"])
    assert caught.value.found == "registered from module 'shop.features'"


def scaled(x: np.ndarray, state: Any) -> np.ndarray:
    return (x - state["mean"]) / state["spread"][0]


@pytest.mark.parametrize("mode", MODES)
def test_a_function_is_given_what_it_learned(mode: str) -> None:
    def learn(x: Any) -> Any:
        values = np.asarray(x, float)
        assert len(values) == 3  # without the null
        return {"mean": values.mean(), "spread": np.array([values.max() - values.min()]), "known": (np.True_, "a")}

    item = make(scaled, "float64", inputs=["x"], mode=mode, fit=learn)
    state = fit_state(item, [column_of([1.0, None, 2.0, 6.0], FLOAT)], [FLOAT], asked_by=ASKED_BY)
    assert repr(state) == "{'mean': 3.0, 'spread': [5.0], 'known': [True, 'a']}"
    assert table(item, [8.0, None], types=["float64"], state=state) == [1.0, None]
    agree(item, [(8.0,), (None,), (float("nan"),)], [FLOAT], state)
    with pytest.raises(RequestError, match="has not been fitted: compute a training dataset"):
        table(item, [8.0], types=["float64"])
    with pytest.raises(RequestError, match="has not been fitted"):
        compile_row(item, [FLOAT], asked_by=ASKED_BY)


@pytest.mark.parametrize(
    ("learned", "found"),
    [
        ({"a": [1, float("nan")]}, "state['a'][1]: nan (float)"),
        ({"a": {1: 2}}, "state['a']: 1 (int)"),
        ([{1, 2}], "state[0]: {1, 2} (set)"),
        (np.array([dt.date(2020, 1, 1)], object), "state[0]: datetime.date(2020, 1, 1) (date)"),
    ],
)
def test_a_state_is_json(learned: Any, found: str) -> None:
    item = make(scaled, "float64", inputs=["x"], fit=lambda x: learned)
    with pytest.raises(TransformError, match="learned what cannot be kept") as caught:
        fit_state(item, [column_of([1.0], FLOAT)], [FLOAT], asked_by=ASKED_BY)
    assert caught.value.found == found


def test_a_fit_that_fails_says_so() -> None:
    def learn(x: Any) -> Any:
        raise KeyError("missing")

    item = make(scaled, "float64", inputs=["x"], fit=learn)
    with pytest.raises(TransformError, match=r"could not be fitted: learn\(\) raised KeyError") as caught:
        fit_state(item, [column_of([1.0, None], FLOAT)], [FLOAT], asked_by=ASKED_BY)
    assert caught.value.found == "1 rows without nulls"
    nothing = make(scaled, "float64", inputs=["x"], fit=lambda x: None)
    with pytest.raises(TransformError, match="its fit function gave nothing"):
        fit_state(nothing, [column_of([1.0], FLOAT)], [FLOAT], asked_by=ASKED_BY)
