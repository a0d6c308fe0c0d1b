"""The corpus of cases is there, cites laws that exist, and leaves none of its laws without a case."""

from __future__ import annotations

from typing import get_args

import pyarrow as pa
import pytest

from grange.errors import ColumnTypeError, DurationError
from grange.testing import cases
from grange.testing.cases import (
    LAWS,
    ConformCase,
    DurationCase,
    ExpectedError,
    NameCase,
    StoreCase,
    WindowCase,
    cases_of,
    load_cases,
    read_case,
    read_table,
)
from grange.testing.equality import assert_rows_equal
from grange.types import parse_duration
from grange.types.aggregates import FUNCTIONS, Closed, WindowKind
from grange.types.arrow import conform
from grange.types.durations import to_micros

LAWS_WITH_CASES = [
    *("TIME-1", "TIME-2", "LAG-1", "ONL-5"),
    *(f"PIT-{number}" for number in range(1, 9)),
    *(f"WIN-{number}" for number in range(1, 7)),
]


def test_the_corpus_is_not_empty_and_names_are_unique():
    names = [case.name for case in load_cases()]
    assert len(names) > 200
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("law", LAWS_WITH_CASES)
def test_every_law_of_joins_has_several_cases(law):
    assert len([case for case in load_cases() if law in case.laws]) >= 3


def test_every_case_cites_existing_laws_and_says_what_it_promises():
    for case in load_cases():
        assert case.laws and set(case.laws) <= LAWS, case.name
        assert case.description.endswith("."), case.name


def test_an_empty_corpus_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="no cases"):
        load_cases.__wrapped__()


def test_a_malformed_case_names_its_file(tmp_path, monkeypatch):
    (tmp_path / "pit").mkdir()
    (tmp_path / "pit" / "x.json").write_text('{"cases": [{"name": "x", "laws": ["PIT-99"], "level": "join"}]}')
    monkeypatch.setattr(cases, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"x\.json: case 'x': cites no existing law"):
        load_cases.__wrapped__()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"laws": []}, "cites no existing law"),
        ({"laws": ["PIT-9"]}, "cites no existing law"),
        ({"level": "dream"}, "no level 'dream'"),
        ({"txt": "1d"}, "unknown field 'txt'"),
        ({"name": "Not A Name"}, "lower-case words"),
        ({"expected": {"error": "NoSuchError"}}, "no error 'NoSuchError'"),
    ],
)
def test_a_case_with_a_mistake_is_refused(change, message):
    case = {"name": "x", "laws": ["TIME-2"], "description": "X.", "level": "duration", "text": "1d"}
    with pytest.raises(ValueError, match=message):
        read_case({**case, "expected": {"micros": 1}, **change})


def test_a_case_without_a_needed_field_is_refused():
    with pytest.raises(KeyError, match="text"):
        read_case(
            {"name": "x", "laws": ["TIME-2"], "description": "X.", "level": "duration", "expected": {"micros": 1}}
        )


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 values for 2 columns"):
        read_table({"columns": {"a": "int64", "b": "int64"}, "rows": [[1, 2], [3]]})


def test_times_are_read_to_the_nanosecond():
    table = read_table(
        {
            "columns": {"t": "arrow:timestamp[ns, tz=Europe/Paris]"},
            "rows": [["1969-12-31T23:59:59.999999999"], ["1970-01-01T01:00:00.000000001+01:00"], [None]],
        }
    )
    assert table.column("t").cast(pa.int64()).to_pylist() == [-1, 1, None]
    with pytest.raises(ValueError, match="finer than us"):
        read_table({"columns": {"t": "datetime"}, "rows": [["2026-01-01T00:00:00.0000001"]]})


def test_values_of_every_kind_are_read_exactly():
    table = read_table(
        {
            "columns": {
                "x": "float64",
                "d": "decimal(12,2)",
                "b": "binary",
                "s": "struct{at:datetime,tags:list[string]}",
                "e": "arrow:dictionary<int32, string>",
            },
            "rows": [
                ["-Infinity", "0.10", "00ff", {"at": "2026-01-01T00:00:00", "tags": ["a", None]}, "u"],
                [None] * 5,
            ],
        }
    )
    assert str(table.column("d")[0]) == "0.10"
    assert table.column("x").to_pylist() == [float("-inf"), None]
    assert table.column("b").to_pylist() == [b"\x00\xff", None]
    assert table.column("s")[0].as_py()["tags"] == ["a", None]
    assert pa.types.is_dictionary(table.column("e").type)


@pytest.mark.parametrize("case", cases_of(ConformCase), ids=lambda case: case.name)
def test_conform_case(case):
    """`grange.types.arrow.conform` keeps TIME-1 and PIT-7, before any engine does."""
    if isinstance(case.expected, ExpectedError):
        with pytest.raises(case.expected.error) as caught:
            conform(case.table, case.schema, what="rows")
        assert all(word in str(caught.value) for word in case.expected.mentions)
    else:
        assert_rows_equal(conform(case.table, case.schema, what="rows"), case.expected, what=str(case))


@pytest.mark.parametrize("case", cases_of(DurationCase), ids=lambda case: case.name)
def test_duration_case(case):
    """`parse_duration` keeps TIME-2."""
    if isinstance(case.expected, ExpectedError):
        with pytest.raises(DurationError) as caught:
            parse_duration(case.text)
        assert all(word in str(caught.value) for word in case.expected.mentions)
    else:
        assert to_micros(parse_duration(case.text)) == case.expected


@pytest.mark.parametrize("case", cases_of(NameCase), ids=lambda case: case.name)
def test_name_case(case):
    """A function's label and a window's text are what names are made of (WIN-5)."""
    assert f"{case.column}__{case.function.label}__{case.window}" == case.expected


def test_window_cases_are_of_every_function_and_window():
    """The corpus shows each function that needs no optional package, and each kind and end of windows."""
    aggregates = [aggregate for case in cases_of(WindowCase) for aggregate in case.group.aggregates]
    optional = {"approx_count_distinct", "approx_quantile", "holiday", "holiday_name"}
    assert {aggregate.function.name for aggregate in aggregates} == set(FUNCTIONS) - optional
    assert {aggregate.window.kind for aggregate in aggregates} == set(get_args(WindowKind))
    assert {aggregate.closed for aggregate in aggregates} == set(get_args(Closed))


@pytest.mark.parametrize("case", cases_of(StoreCase), ids=lambda case: case.name)
def test_store_case_is_made_of_valid_definitions(case):
    groups = case.definitions()
    assert {group.name for group in groups} >= {selection.source for selection in case.features}
    if not isinstance(case.expected, ExpectedError) and case.spine is not None:
        own = case.expected.select(case.spine.column_names)
        assert_rows_equal(own, case.spine, what="the spine's own columns in the expected answer (PIT-1)")


def test_conform_names_the_row_of_the_first_misfit():
    case = next(case for case in cases_of(ConformCase) if case.name == "fraction-is-no-integer")
    with pytest.raises(ColumnTypeError) as caught:
        conform(case.table, case.schema, what="rows")
    assert caught.value.details["column"] == "v"
