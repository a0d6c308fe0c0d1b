"""Statistics: exact, NaN and nulls counted apart, plain for JSON."""

from __future__ import annotations

import datetime as dt
import json

import polars as pl
import pytest

from grange.errors import SchemaError
from grange.frames import Rows
from grange.quality.statistics import statistics

FRAME = pl.DataFrame(
    {
        "number": [1.0, 2.0, 4.0, float("nan"), None],
        "count": [1, 2, 2, 3, None],
        "text": ["b", "a", "b", None, "ccc"],
        "flag": [True, False, None, True, True],
        "day": [dt.date(2026, 1, d) for d in range(1, 6)],
        "items": [[1], [2], [], None, [3]],
    }
)


def test_numbers() -> None:
    (number, count) = statistics(Rows(polars=FRAME), ["number", "count"])

    assert (number.count, number.nulls, number.nan, number.distinct) == (5, 1, 1, 4)
    assert (number.min, number.max, number.mean, number.p50) == (1.0, 4.0, 7 / 3, 2.0)
    assert number.std == pytest.approx(1.527525, rel=1e-6)
    assert (count.dtype, count.distinct, count.min, count.max) == ("int64", 3, 1, 3)


def test_text_booleans_dates_and_lists() -> None:
    text, flag, day, items = statistics(Rows(polars=FRAME), ["text", "flag", "day", "items"])

    assert text.top == (("b", 2), ("a", 1), ("ccc", 1))
    assert (text.min_length, text.max_length) == (1, 3)
    assert flag.true == 3
    assert (day.min, day.max) == (dt.date(2026, 1, 1), dt.date(2026, 1, 5))
    assert (items.dtype, items.nulls, items.distinct) == ("list[int64]", 1, None)


def test_plain_for_json() -> None:
    frame = FRAME.with_columns(number=pl.lit(float("inf")))

    text = json.dumps([column.to_dict() for column in statistics(Rows(polars=frame))], allow_nan=False)

    assert '"inf"' in text


def test_no_rows_and_only_nulls() -> None:
    for frame in (FRAME.clear(), FRAME.clear(3)):
        for column in statistics(Rows(polars=frame)):
            assert column.count == column.nulls == frame.height
            assert column.min is None


def test_an_unknown_column_names_the_closest() -> None:
    with pytest.raises(SchemaError) as caught:
        statistics(Rows(polars=FRAME), ["nmber"])
    assert caught.value.closest == ("number",)
