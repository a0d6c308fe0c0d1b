"""Tables, JSON, errors and exit codes, without a store."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import math
from dataclasses import dataclass

import pyarrow as pa
import pytest

from grange import errors
from grange.cli.output import (
    Output,
    ProgressReport,
    Table,
    WrongUsageError,
    as_json,
    cell,
    details_parts,
    exit_code,
    rows_parts,
)
from grange.frames import Rows


def all_errors(root: type[errors.GrangeError] = errors.GrangeError) -> list[type[errors.GrangeError]]:
    return [root, *(error for child in root.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_an_exit_code(kind: type[errors.GrangeError]) -> None:
    """1 failed, 2 wrong usage, 3 not found, 4 refused; never 0."""
    branches = {errors.NotFoundError: 3, errors.RefusedError: 4, errors.RequestError: 2, errors.ConfigError: 2}
    wanted = [code for branch, code in branches.items() if issubclass(kind, branch)] or [1]
    assert exit_code(kind("no")) == wanted[0]


def test_definitions_made_of_options_are_wrong_usage() -> None:
    assert exit_code(errors.DurationError("no")) == 1
    assert exit_code(WrongUsageError(errors.DurationError("no"))) == 2
    assert exit_code(ValueError("no")) == 1


def test_errors_print_their_class_code_and_hints(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.UnknownFeatureError("no feature 'a:x'", closest=["a:y"], try_="grange fg features a")
    Output().error(error)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "UnknownFeatureError [GRANGE-204]: no feature 'a:x'",
        "  closest:   a:y",
        "  try:       grange fg features a",
    ]


def test_errors_are_json_alone_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.UnknownFeatureError("no feature 'a:x'", closest=["a:y"])
    for given in (error, WrongUsageError(error)):
        Output(json=True).error(given)
        captured = capsys.readouterr()
        assert captured.err == "" and json.loads(captured.out) == {"error": error.to_dict()}


def test_unexpected_errors_say_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as error:
        Output().error(error)
        assert "unexpected ZeroDivisionError: oops" in (said := capsys.readouterr().err) and "--debug" in said
        Output().error(error, debug=True)
        assert "Traceback" in capsys.readouterr().err
        Output(json=True).error(error)
        assert json.loads(capsys.readouterr().out)["error"]["type"] == "ZeroDivisionError"


def test_json_has_a_word_for_every_value() -> None:
    value = {
        "nan": math.nan,
        "inf": [math.inf, -math.inf],
        "at": dt.datetime(2025, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        "day": dt.date(2025, 1, 1),
        "span": [dt.timedelta(days=1, hours=12), dt.timedelta(hours=-1), dt.timedelta(0)],
        "bytes": b"hi",
        "price": decimal.Decimal("1.50"),
        "none": None,
        "flag": True,
    }
    assert json.loads(as_json(value)) == {
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "at": "2025-01-01T00:00:00Z",
        "day": "2025-01-01",
        "span": ["1d12h", "-1h", "0s"],
        "bytes": "aGk=",
        "price": "1.50",
        "none": None,
        "flag": True,
    }
    with pytest.raises(TypeError):
        as_json(object())


def test_tables_fit_the_terminal_and_lose_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = [f"word{number}" for number in range(30)]
    Output().show(None, Table(("name", "text", "n"), [("a_name_of_medium_length", " ".join(words), "12")]))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert "a_name_of_medium_length" in out and all(word in out for word in words)


def test_markup_in_data_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show(None, Table(("a",), [("[bold]x[/bold] :smile:",)]))
    assert "[bold]x[/bold] :smile:" in capsys.readouterr().out


HOSTILE = "\x1b]0;owned\x07\x9b2J\x7f \u202egpj.exe\u2066"


def test_data_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and overrides of the writing direction are shown, wherever text comes from."""
    rows = Rows(arrow=pa.table({"a": [HOSTILE]}))
    Output().show(None, HOSTILE, Table((HOSTILE,), [(HOSTILE,)]), *rows_parts(rows), *details_parts({"a": HOSTILE}))
    Output().note(HOSTILE)
    Output().warn(HOSTILE)
    Output().error(errors.SourceError(HOSTILE, found=HOSTILE))
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert not any(letter in said for letter in set(HOSTILE) if not letter.isprintable())
    assert said.count(r"\x1b]0;owned\x07\x9b2J\x7f \u202egpj.exe\u2066") >= 7


def test_json_holds_hostile_text_as_it_is_and_prints_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).show([HOSTILE, "\ud800 é"])
    said = capsys.readouterr().out
    assert json.loads(said) == [HOSTILE, "\ud800 é"] and "é" in said
    assert said.replace("\n", "").isprintable()


def test_the_name_of_a_row_gives_way_last(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    headers = ("name", "keys", "features", "version", "rows", "online", "description")
    for name, described in (("customer_orders", True), ("customer_orders_of_the_month", False)):
        row = (name, "customer_id", "12", "1.0.0", "1,234", "yes", "What a customer ordered, by day and by shop.")
        Output().show(None, Table(headers, [row], spare=("description",)))
        out = capsys.readouterr().out
        assert name in out and "customer_id" in out and max(map(len, out.splitlines())) <= 80
        assert ("What a" in out) is ("description" in out) is described


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show([], Table(("a",), [], empty="nothing yet"))
    assert capsys.readouterr().out == "nothing yet\n"


def test_columns_that_do_not_fit_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = Rows(arrow=pa.table({f"column_{number}": ["x" * 100, None] for number in range(4)}))
    Output().show(None, *rows_parts(rows))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 and "and 3 more columns: column_1, column_2, column_3" in out
    assert "…" in out and "null" in out


def test_cells() -> None:
    assert [cell(value) for value in (None, True, 1.5, 1e-9, [1, None], {"a": 1}, "a\n b")] == [
        "null", "true", "1.5", "1e-09", "[1, null]", '{"a": 1}', "a b",
    ]  # fmt: skip


def test_details_show_records_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show(None, *details_parts({"name": "a", "tags": {"tier": "gold"}, "none": None, "rows": [{"x": 1}]}))
    out = capsys.readouterr().out
    assert "tags.tier  gold" in out and "none       -" in out and out.endswith("rows:\nx\n1\n")


@dataclass(frozen=True)
class Event:
    group: str
    stage: str
    rows: int | None
    position: int = 1
    total: int = 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    with ProgressReport(stream) as progress:
        progress(Event("a", "read", None))
        progress(Event("a", "done", 1234))
    assert stream.getvalue() == "[1/2] a: reading\n[1/2] a: done, 1,234 rows\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with ProgressReport(stream) as progress:
        progress(Event("a", "read", None))
        progress(Event("b", "done", 1234, position=2))
    assert "done, 1,234 rows" in stream.getvalue()


def test_usage_errors_have_a_code_of_their_own() -> None:
    codes = [kind.code for kind in all_errors()]
    assert codes.count(errors.UsageError.code) == 1
