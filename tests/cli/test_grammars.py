"""The small languages of arguments: what they mean, and what they refuse."""

from __future__ import annotations

import datetime as dt
import decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.cli import grammars
from grange.definitions import select
from grange.definitions.expectations import (
    between,
    finite,
    greater_than,
    length_between,
    matches,
    not_null,
    one_of,
)
from grange.definitions.labels import Label
from grange.errors import UsageError
from grange.types import parse_dtype

STRING, INT = parse_dtype("string"), parse_dtype("int64")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("user_id", {"user_id": None}),
        ("user_id:string, region", {"user_id": STRING, "region": None}),
        ("id:int", {"id": INT}),
    ],
)
def test_keys(text: str, keys: object) -> None:
    assert grammars.parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "a,,b", "a,a", ":string", "a:", "a:strng"])
def test_keys_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_keys(text)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("amount:float", [("amount", "float64", "")]),
        ("amount:float64:spent, in euro,n:int", [("amount", "float64", "spent, in euro"), ("n", "int64", "")]),
        ("price:decimal(12,2),tags:list[string]:a", [("price", "decimal(12,2)", ""), ("tags", "list[string]", "a")]),
        ("where:struct{lat:float64,lon:float64}:a place", [("where", "struct{lat:float64,lon:float64}", "a place")]),
    ],
)  # fmt: skip
def test_features(text: str, columns: list[tuple[str, str, str]]) -> None:
    found = grammars.parse_features(text)
    assert [(column.name, str(column.dtype), column.description) for column in found] == columns


@pytest.mark.parametrize("text", ["amount", "amount:", ":float", "amount:flot", ""])
def test_features_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_features(text)


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("profile LEFT user_id", select("profile")),
        ("profile asof user_id", select("profile")),
        ("weather@1.2.0 LEFT origin=airport o_", select("weather@1.2.0", on={"airport": "origin"}, prefix="o_")),
        ("seat ASOF hall=venue,number", select("seat", on={"venue": "hall"})),
        ("profile INNER user_id", select("profile", join="inner")),
        ("profile right user_id p_", select("profile", prefix="p_", join="right")),
        ("profile Full user_id", select("profile", join="full")),
    ],
)
def test_joins(text: str, selection: object) -> None:
    assert grammars.parse_join(text) == selection


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("churned", Label("churned")),
        ("orders:amount__sum__30d after 30d", Label("orders:amount__sum__30d", after="30d")),
        ("orders:late after 1d12h at_event", Label("orders:late", after="1d12h", observed="at_event")),
        ("orders:late  after 2h at_maturity", Label("orders:late", after="2h")),
    ],
)
def test_labels(text: str, label: Label) -> None:
    assert grammars.parse_labels(text) == [label]
    assert grammars.parse_labels(f"{text},bad") == [label, Label("bad")]


@pytest.mark.parametrize(
    "text", ["", "a,", "a after", "a before 30d", "a after soon", "a after 1mo", "a after 30d never", "g:x:y z", "__x"]
)
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_labels(text)


def test_derived_features() -> None:
    assert grammars.parse_derived(["share=a / NULLIF(b, 0)", "same=a=b"]) == {
        "share": "a / NULLIF(b, 0)",
        "same": "a=b",
    }
    for items in (["a / b"], ["=a"], ["x=a", "x=b"]):
        with pytest.raises(UsageError):
            grammars.parse_derived(items)


@pytest.mark.parametrize(
    "text",
    ["", "profile", "profile LEFT", "profile LEFT a b c", "profile SIDEWAYS a", "profile@1 LEFT a", "p LEFT a=",
     "p LEFT =a", "p LEFT a,,b", "p LEFT a=k,b=k", "9 LEFT a", "p:amount LEFT"],
)  # fmt: skip
def test_joins_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_join(text)


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        ("a:not_null", not_null()),
        ("a:finite():warn", finite(policy="warn")),
        ("a:greater_than(0):drop", greater_than(0, policy="drop")),
        ("a:between(-1.5, 2):warn", between(-1.5, 2, policy="warn")),
        ("a:one_of(x, y y)", one_of(["x", "y y"])),
        ('a:one_of("x, y","1",1)', one_of(["x, y", "1", 1])),
        ("a:matches(^(a|b):[0-9]{2,3}$):drop", matches("^(a|b):[0-9]{2,3}$", policy="drop")),
        ("a:length_between(1,3)", length_between(1, 3)),
        ("a:between(2025-01-01,2025-12-31)", between(dt.date(2025, 1, 1), dt.date(2025, 12, 31))),
    ],
)
def test_expectations(text: str, expectation: object) -> None:
    check = grammars.parse_expectation(text)
    assert (check.column, check.expectation) == ("a", expectation)


def test_expectations_are_read_in_the_columns_declared_type() -> None:
    assert grammars.parse_expectation("zip:one_of(007,1)", {"zip": STRING}).expectation == one_of(["007", "1"])


@pytest.mark.parametrize(
    "text",
    ["a", "a:", "a:greater", "a:greater_than(0):explode", "a:greater_than()", "a:greater_than(1,2)", "a:between(3,1)",
     "a:matches(()", "a:one_of()", "a:between(1,x)", "a:length_between(a,b)"],
)  # fmt: skip
def test_expectations_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_expectation(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("f=0", 0), ("f=0.5", 0.5), ("f=-1e3", -1000.0), ("f=true", True), ('f="0"', "0"), ("f=a=b", "a=b"), ("f=", ""),
     ("f=2025-01-01", dt.date(2025, 1, 1)), ("f=2025-13-01", "2025-13-01")],
)  # fmt: skip
def test_defaults_are_read_as_they_look_unless_declared(text: str, value: object) -> None:
    found = grammars.parse_default(text, {})
    assert found == ("f", value) and type(found[1]) is type(value)


def test_a_declared_default_is_read_in_its_type() -> None:
    assert grammars.parse_default("f=007", {"f": STRING}) == ("f", "007")
    with pytest.raises(UsageError, match="int64"):
        grammars.parse_default("f=x", {"f": INT})


def test_an_entry_is_typed_by_the_schema() -> None:
    dtypes = {"id": STRING, "n": INT, "at": parse_dtype("datetime"), "p": parse_dtype("decimal(6,2)")}
    assert grammars.parse_entry("id=007,n=007, at=2025-01-01,p=1.50", dtypes) == {
        "id": "007",
        "n": 7,
        "at": dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        "p": decimal.Decimal("1.50"),
    }


@given(st.dictionaries(st.sampled_from(["a", "b c", "d"]), st.text(), min_size=1))
def test_any_text_can_be_said_in_an_entry(row: dict[str, str]) -> None:
    """In double quotes, a quote doubled."""
    text = ",".join(f'{name}="{value.replace(chr(34), chr(34) * 2)}"' for name, value in row.items())
    assert grammars.parse_entry(text, dict.fromkeys(["a", "b c", "d"], STRING)) == row


@given(st.text(st.characters(exclude_characters='",'), max_size=20))
def test_unquoted_text_of_an_entry_is_taken_as_it_stands(value: str) -> None:
    assert grammars.parse_entry(f"a={value}", {"a": STRING}) == {"a": value}


@pytest.mark.parametrize(
    "text",
    ["", "id", "id=1,", "=1", "id=1,id=2", 'id="1', "other=1", "n=1.0", "n=", "n=1e5", "n=99999999999999999999"],
)
def test_entries_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_entry(text, {"id": STRING, "n": INT})


def test_an_entry_with_an_unknown_column_names_the_closest() -> None:
    with pytest.raises(UsageError) as caught:
        grammars.parse_entry("user=1", {"user_id": STRING}, asked_by="feature view 'v'")
    assert caught.value.closest == ("user_id",)


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("boolean", "TRUE", True),
        ("float64", "nan", "nan"),
        ("date", "2025-02-03", dt.date(2025, 2, 3)),
        ("duration", "1d12h", dt.timedelta(days=1.5)),
        ("binary", "aGk=", b"hi"),
        ("uuid", "12345678-1234-5678-1234-56781234567A", "12345678-1234-5678-1234-56781234567a"),
        ("list[int64]", "[1, 2]", [1, 2]),
        ("uint8", "255", 255),
    ],
)
def test_values_by_type(dtype: str, text: str, value: object) -> None:
    found = grammars.parse_value(text, parse_dtype(dtype), what="x")
    assert found == value or str(found) == value


@pytest.mark.parametrize(
    ("dtype", "text"),
    [("boolean", "1"), ("float64", "1e999"), ("float64", "x"), ("date", "2025-02-30"), ("datetime", "soon"),
     ("duration", "1mo"), ("binary", "?"), ("uuid", "1"), ("list[int64]", "{}"), ("list[int64]", "["), ("uint8", "256"),
     ("int8", "-129"), ("decimal(6,2)", "x")],
)  # fmt: skip
def test_values_that_are_not_of_their_type(dtype: str, text: str) -> None:
    with pytest.raises(UsageError):
        grammars.parse_value(text, parse_dtype(dtype), what="x")


def test_references() -> None:
    assert grammars.parse_references("a:x,b@1.0.0:y,c") == ["a:x", "b@1.0.0:y", "c"]
    assert grammars.parse_references("x,b:y", base="a") == ["a:x", "b:y"]
    for text in ("a:", "a,,b", "a@1:x"):
        with pytest.raises(UsageError):
            grammars.parse_references(text)


def test_tags() -> None:
    assert grammars.parse_tags(["tier=gold", "a=b=c"]) == {"tier": "gold", "a": "b=c"}
    with pytest.raises(UsageError):
        grammars.parse_tags(["gold"])
