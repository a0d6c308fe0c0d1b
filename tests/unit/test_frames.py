"""What people hand in as rows, and what they are told when it is no table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from grange.errors import ColumnTypeError, RequestError
from grange.frames import Rows

TWICE = pd.DataFrame([[1, 2]], columns=["a", "a"])


@pytest.mark.parametrize(
    "frame",
    [
        {"a": [1, 2], "b": ["x", None]},
        {"a": (1, 2), "b": pd.Series(["x", None], dtype="str")},
        {"a": pl.Series([1, 2]), "b": pa.chunked_array([["x"], [None]])},
        [{"a": 1, "b": "x"}, {"a": 2}],
        pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pl.LazyFrame({"a": [1, 2], "b": ["x", None]}),
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[7, 8]),
        pa.table({"a": [1, 2], "b": ["x", None]}),
    ],
)
def test_whatever_people_hold_is_rows(frame: Any) -> None:
    assert Rows.of(frame).polars.to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


@pytest.mark.parametrize(
    "frame",
    [
        {"fine": [1, 2], "odd": [1, "b"]},
        [{"fine": 1, "odd": 1}, {"fine": 1, "odd": "b"}],
        [{"fine": 1, "odd": 2**70}],
        [{"odd": object()}],
        {"odd": ["\ud800"]},
        pd.DataFrame({"fine": [1, 2], "odd": [1, "b"]}),
    ],
)
def test_values_of_no_one_type_name_their_column(frame: Any) -> None:
    with pytest.raises(ColumnTypeError, match="column 'odd'") as caught:
        Rows.of(frame, what="the spine")
    assert caught.value.message.startswith("the spine") and caught.value.found
    assert caught.value.details["column"] == "odd"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"a": [1], "b": [1, 2]}, "unequal lengths"),
        (TWICE, "several columns have one name"),
        (pa.table([[1], [2]], names=["a", "a"]), "several columns have one name"),
        ({"a": 1}, "column 'a' must be a list"),
        ({"a": "text"}, "column 'a' must be a list"),
        ({1: [1]}, "names are text"),
        ([{1: 1}], "names are text"),
        (7, "must be a Polars, pandas or Arrow frame"),
        ([1], "must be a Polars, pandas or Arrow frame"),
        (None, "must be a Polars, pandas or Arrow frame"),
    ],
)
def test_what_is_no_table_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Rows.of(frame)


@pytest.mark.parametrize("value", [object(), 2**70])
def test_a_polars_column_that_arrow_lacks_is_kept_and_refused_as_arrow(value: object) -> None:
    """Polars would hand Arrow the addresses of Python objects."""
    rows = Rows.of(pl.DataFrame({"odd": [value]}))
    assert rows.polars.item() == value
    with pytest.raises(ColumnTypeError, match="column 'odd'"):
        _ = rows.arrow
