"""The contract of an engine: subclass `EngineContract`, give an `engine` fixture, inherit every proof.

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self) -> Engine:
            return engine_or_skip("my_engine")

It runs the laws' cases, every node, the errors, and random joins against the `reference` engine, cell for cell.
`GRANGE_EXAMPLES` says how many random examples each test draws (100 when unset); they are the same in every run.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from grange.definitions.transforms import PythonTransform, Transform, python_transform, sql_transform
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    DefinitionError,
    GrangeError,
    MissingDependencyError,
    SchemaError,
    SourceError,
    TransformError,
)
from grange.frames import Rows, require
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
    GroupJoin,
    Input,
    Latest,
    Limit,
    Node,
    Number,
    Order,
    Output,
    PointInTimeJoin,
    Scan,
    Timeless,
    WindowJoin,
)
from grange.ports.engine import Engine
from grange.ports.plugins import create
from grange.testing.cases import (
    SPINE,
    CaseGroup,
    ConformCase,
    CurrentEventsCase,
    EntityTimesCase,
    ExpectedError,
    GridCase,
    JoinCase,
    WindowCase,
    WindowGroup,
    cases_of,
    numbered,
    read_table,
)
from grange.testing.equality import COMPUTED, assert_rows_equal
from grange.testing.strategies import (
    History,
    JoinExample,
    PlainJoin,
    histories,
    joins,
    plain_joins,
    raw_tables,
    window_joins,
)
from grange.testing.windows import WindowExample
from grange.types import Schema, parse_dtype
from grange.types.arrow import arrow_type
from grange.types.names import EVENT_TIME, SEQUENCE
from grange.types.time import ALWAYS_MICROS, to_micros

Home = Literal["frames", "files", "ordered_files"]
"""Where a case's rows lie: the groups' in Polars frames, in Parquet files as written, or in files in PIT-3 order."""
HOMES: Final[tuple[Home, ...]] = ("frames", "files", "ordered_files")
Held = Literal["arrow", "polars"]
"""What holds rows that are handed in."""

F = TypeVar("F", bound=Callable[..., Any])


def engine_or_skip(name: str) -> Engine:
    """A registered engine; skips the test, with the install command, when its driver is not installed."""
    try:
        return cast(Engine, create("engines", name, {}))
    except MissingDependencyError as error:
        pytest.skip(f"{error.message}: {error.try_}")


def examples(test: F) -> F:
    """The settings of the random tests: the same examples everywhere, as many as `GRANGE_EXAMPLES` says."""
    return settings(
        max_examples=int(os.environ.get("GRANGE_EXAMPLES", "100")),
        derandomize=True,
        deadline=None,
        database=None,
        # an engine holds no state between runs, so one fixture serves all examples, and one test all subclasses
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )(test)


def _ids(cases: Iterable[Any]) -> list[str]:
    return [case.name for case in cases]


_JOINS: Final = cases_of(JoinCase)
_WINDOWS: Final = cases_of(WindowCase)
_CURRENT_EVENTS: Final = cases_of(CurrentEventsCase)
_GRIDS: Final = cases_of(GridCase)
_ENTITY_TIMES: Final = cases_of(EntityTimesCase)
_CONFORMS: Final = cases_of(ConformCase)

_LOANS: Final = numbered(
    read_table(
        {
            "columns": {"user_id": "string", "f": "datetime", "c": "datetime", "v": "int64"},
            "rows": [
                ["b", "2026-01-01T11:00:00", "2026-01-01T11:30:00", 1],
                ["a", "2026-01-01T11:00:00", None, 2],
                ["a", "2026-01-01T10:00:00", "2026-01-01T12:00:00", 3],
                ["b", "2026-01-01T11:00:00", "2026-01-01T11:20:00", 4],
                ["a", "2026-01-01T11:00:00", "2026-01-01T11:10:00", None],
                [None, "2026-01-01T12:00:00", "2026-01-01T12:00:00", 6],
                ["b", "2026-01-01T11:00:00", "2026-01-01T11:30:00", 7],
            ],
        }
    )
)
"""Rows in no order at all, with every kind of tie. `__sequence` is 0 to 6."""


class EngineContract:
    """What every engine must do. See the top of this module."""

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test; subclasses give it."""
        raise NotImplementedError("a subclass of EngineContract gives an `engine` fixture")

    # What it is

    def test_it_is_an_engine(self, engine: Engine) -> None:
        """It has the port's methods, and a name."""
        assert isinstance(engine, Engine)
        assert engine.name

    # The laws' cases

    @pytest.mark.parametrize("home", HOMES)
    @pytest.mark.parametrize("case", _JOINS, ids=_ids(_JOINS))
    def test_join_case(self, engine: Engine, case: JoinCase, home: Home, tmp_path: Path) -> None:
        """A point-in-time join answers what its law says, wherever the rows lie."""
        inputs = {SPINE: _held(case.spine, "polars" if home == "files" else "arrow")}
        nodes = [_lay_out(group, number, home, tmp_path, inputs) for number, group in enumerate(case.groups)]
        _check(case.expected, lambda: engine.run(case.node(nodes), inputs), str(case))

    @pytest.mark.parametrize("home", HOMES)
    @pytest.mark.parametrize("case", _WINDOWS, ids=_ids(_WINDOWS))
    def test_window_case(self, engine: Engine, case: WindowCase, home: Home, tmp_path: Path) -> None:
        """A windowed feature is what its law says, wherever the events lie."""
        inputs = {SPINE: _held(case.spine, "polars" if home == "files" else "arrow")}
        node = case.node(_lay_out(case.group, 0, home, tmp_path, inputs))
        _check(case.expected, lambda: engine.run(node, inputs), str(case), tolerance=COMPUTED)

    @pytest.mark.parametrize("held", ["arrow", "polars"])
    @pytest.mark.parametrize("case", _CURRENT_EVENTS, ids=_ids(_CURRENT_EVENTS))
    def test_current_events_case(self, engine: Engine, case: CurrentEventsCase, held: Held) -> None:
        """Of every event the version that counts stays, in the rows' order (WIN-6)."""
        inputs = {"group": _held(case.rows, held)}
        _check(case.expected, lambda: engine.run(case.node(Input("group")), inputs), str(case))

    @pytest.mark.parametrize("held", ["arrow", "polars"])
    @pytest.mark.parametrize("case", _GRIDS, ids=_ids(_GRIDS))
    def test_grid_case(self, engine: Engine, case: GridCase, held: Held) -> None:
        """A grid has the boundaries that follow events, by boundary then key (WIN-3)."""
        inputs = {"group": _held(case.rows, held)}
        _check(case.expected, lambda: engine.run(case.node(Input("group")), inputs), str(case))

    @pytest.mark.parametrize("held", ["arrow", "polars"])
    @pytest.mark.parametrize("case", _ENTITY_TIMES, ids=_ids(_ENTITY_TIMES))
    def test_entity_times_case(self, engine: Engine, case: EntityTimesCase, held: Held) -> None:
        """A spine made of a group's rows holds the keys and times that PIT-8 says, in its order."""
        inputs = {"group": _held(case.rows, held)}
        _check(case.expected, lambda: engine.run(case.node(Input("group")), inputs), str(case))

    @pytest.mark.parametrize("case", _CONFORMS, ids=_ids(_CONFORMS))
    def test_conform_case(self, engine: Engine, case: ConformCase) -> None:
        """`Conform` gives canonical values, or the error that names what does not fit."""
        node = Conform(Input("rows"), case.schema, what="rows")
        _check(case.expected, lambda: engine.run(node, {"rows": Rows(arrow=case.table)}), str(case))

    # Scan

    def test_scan_parquet_keeps_files_and_rows_in_order(self, engine: Engine, tmp_path: Path) -> None:
        """Files come in the given order, not sorted; rows in each file's order."""
        tables = [pa.table({"v": list(values)}) for values in ([3, 1], [2, 9], [0])]
        files = _parquet_files(tmp_path, ["z.parquet", "a.parquet", "m.parquet"], tables)
        assert_rows_equal(engine.run(Scan(files, "parquet"), {}), pa.concat_tables(tables))

    def test_scan_parquet_selects_columns_in_order(self, engine: Engine, tmp_path: Path) -> None:
        """Only the columns asked for, in the order asked for."""
        files = _parquet_files(tmp_path, ["x.parquet"], [pa.table({"a": [1], "b": [2.5], "c": [True]})])
        found = engine.run(Scan(files, "parquet", columns=("c", "a")), {})
        assert_rows_equal(found, pa.table({"c": [True], "a": [1]}))

    def test_scan_parquet_takes_no_columns_from_folder_names(self, engine: Engine, tmp_path: Path) -> None:
        """A folder called `month=01` adds no column."""
        folder = tmp_path / "month=01"
        folder.mkdir()
        files = _parquet_files(folder, ["x.parquet"], [pa.table({"a": [1]})])
        assert_rows_equal(engine.run(Scan(files, "parquet"), {}), pa.table({"a": [1]}))

    def test_scan_parquet_of_no_rows(self, engine: Engine, tmp_path: Path) -> None:
        """A file without rows has its columns and their types."""
        files = _parquet_files(tmp_path, ["x.parquet"], [pa.table({"a": pa.array([], pa.int64())})])
        assert_rows_equal(engine.run(Scan(files, "parquet"), {}), pa.table({"a": pa.array([], pa.int64())}))

    def test_scan_reads_paths_as_they_are(self, engine: Engine, tmp_path: Path) -> None:
        """A path's stars, brackets, blanks and accents are characters, not patterns."""
        names = ["a[1] é.parquet", "a1 é.parquet", "a*.parquet", "it's.parquet"]
        tables = [pa.table({"v": [number]}) for number in range(len(names))]
        files = _parquet_files(tmp_path, names, tables)
        for file, table in zip(files, tables, strict=True):
            assert_rows_equal(engine.run(Scan((file,), "parquet"), {}), table, what=file)

    @pytest.mark.parametrize("format", ["csv", "jsonl"])
    def test_scan_honours_declared_types(self, engine: Engine, tmp_path: Path, format: Literal["csv", "jsonl"]) -> None:
        """`007` declared a string stays text; numbers take the declared width."""
        texts = {
            "csv": "user_id,small,ratio,ok,day,at\n007,1,2,true,2026-01-01,2026-01-01T12:00:00Z\n,,,,,\n"
            "NA,-2,0.5,false,1969-12-31,2026-01-01 12:00:00.000001\n",
            "jsonl": '{"user_id":"007","small":1,"ratio":2,"ok":true,"day":"2026-01-01","at":"2026-01-01T12:00:00Z"}\n'
            '{"small":null}\n'
            '{"user_id":"NA","small":-2,"ratio":0.5,"ok":false,"day":"1969-12-31","at":"2026-01-01 12:00:00.000001"}\n',
        }
        file = _text_file(tmp_path / f"x.{format}", texts[format])
        schema = Schema.of(
            {"user_id": "string", "small": "int8", "ratio": "float32", "ok": "boolean", "day": "date", "at": "datetime"}
        )
        expected = read_table(
            {
                "columns": {column.name: str(column.dtype) for column in schema},
                "rows": [
                    ["007", 1, 2.0, True, "2026-01-01", "2026-01-01T12:00:00"],
                    [None] * 6,
                    ["NA", -2, 0.5, False, "1969-12-31", "2026-01-01T12:00:00.000001"],
                ],
            }
        )
        found = engine.run(Conform(Scan((file,), format, schema), schema, what="rows"), {})
        assert_rows_equal(found, expected)

    @pytest.mark.parametrize("format", ["csv", "jsonl"])
    def test_scan_infers_what_is_not_declared(
        self, engine: Engine, tmp_path: Path, format: Literal["csv", "jsonl"]
    ) -> None:
        """Integers, numbers, truth values, text and times need no declaration to fit the group's."""
        texts = {
            "csv": "n,x,ok,word,at\n1,1.5,true,one,2026-01-01T12:00:00\n,,,,\n-3,2,false,two,2026-01-02T00:00:00.5\n",
            "jsonl": '{"n":1,"x":1.5,"ok":true,"word":"one","at":"2026-01-01T12:00:00"}\n\n{"n":null}\n'
            '{"n":-3,"x":2,"ok":false,"word":"two","at":"2026-01-02T00:00:00.5"}\n',
        }
        file = _text_file(tmp_path / f"x.{format}", texts[format])
        schema = Schema.of({"n": "int64", "x": "float64", "ok": "boolean", "word": "string", "at": "datetime"})
        expected = read_table(
            {
                "columns": {column.name: str(column.dtype) for column in schema},
                "rows": [
                    [1, 1.5, True, "one", "2026-01-01T12:00:00"],
                    [None] * 5,
                    [-3, 2.0, False, "two", "2026-01-02T00:00:00.5"],
                ],
            }
        )
        assert_rows_equal(engine.run(Conform(Scan((file,), format), schema, what="rows"), {}), expected)

    def test_scan_infers_from_every_row(self, engine: Engine, tmp_path: Path) -> None:
        """A column that turns from integers to numbers, or from nulls to text, late in the file is read right."""
        rows = [f"{number},,{number}" for number in range(3_000)] + ["0.5,late,x"]
        file = _text_file(tmp_path / "x.csv", "\n".join(["n,word,mixed", *rows]) + "\n")
        schema = Schema.of({"n": "float64", "word": "string", "mixed": "string"})
        found = engine.run(Conform(Scan((file,), "csv"), schema, what="rows"), {}).arrow
        assert found.num_rows == 3_001
        assert found.slice(2_999).to_pylist() == [
            {"n": 2999.0, "word": None, "mixed": "2999"},
            {"n": 0.5, "word": "late", "mixed": "x"},
        ]

    def test_scan_csv_quotes_separators_and_lines(self, engine: Engine, tmp_path: Path) -> None:
        """Quoted separators, quotes and line breaks are part of the text; the separator is the declared one."""
        file = _text_file(tmp_path / "x.csv", 'a;b\n"x;y";"say ""hi"""\n"two\nlines";plain\n')
        schema = Schema.of({"a": "string", "b": "string"})
        found = engine.run(Scan((file,), "csv", schema, separator=";"), {})
        expected = pa.table({"a": ["x;y", "two\nlines"], "b": ['say "hi"', "plain"]}).cast(
            pa.schema([("a", pa.large_string()), ("b", pa.large_string())])
        )
        assert_rows_equal(
            engine.run(Conform(Scan((file,), "csv", schema, separator=";"), schema, "rows"), {}), expected
        )
        assert len(found) == 2

    def test_scan_csv_infers_over_all_files(self, engine: Engine, tmp_path: Path) -> None:
        """Files of one source are one table: its types are told by all of their rows."""
        texts = ["a,n,only\n1,1,x\n", "n,a\n0.5,y\n"]
        files = tuple(_text_file(tmp_path / f"{name}.csv", text) for name, text in zip("zy", texts, strict=True))
        schema = Schema.of({"a": "string", "n": "float64", "only": "string"})
        found = engine.run(Conform(Scan(files, "csv"), schema, what="rows"), {}).arrow
        assert found.to_pylist() == [{"a": "1", "n": 1.0, "only": "x"}, {"a": "y", "n": 0.5, "only": None}]

    def test_scan_csv_fields(self, engine: Engine, tmp_path: Path) -> None:
        """What a field is: an unquoted empty one null, signs, zeros, infinities, blanks, and lines without any."""
        text = '\ufeffn,x,w,,q\r\n+1,inf, a,0,""\r\n\r\n-1,nan,b ,007,\r\n2,1e3,NA,1,"c"\r\n'
        found = engine.run(Scan((_text_file(tmp_path / "x.csv", text),), "csv"), {}).arrow
        expected = read_table(
            {
                "columns": {"n": "float64", "x": "float64", "w": "string", "": "int64", "q": "string"},
                "rows": [
                    [1.0, "Infinity", " a", 0, ""],
                    [-1.0, "NaN", "b ", 7, None],
                    [2.0, 1000.0, "NA", 1, "c"],
                ],
            }
        )
        assert_rows_equal(found, expected)

    @pytest.mark.parametrize(
        ("texts", "dtype"),
        [
            (["9223372036854775808"], "uint64"),
            (["9223372036854775808", "-1"], "float64"),
            (["1" + "0" * 30], "float64"),
        ],
    )
    def test_scan_large_json_integers(self, engine: Engine, tmp_path: Path, texts: list[str], dtype: str) -> None:
        """Integers beyond 63 bits are unsigned where they fit all, else numbers."""
        lines = "".join(f'{{"a":{text}}}\n' for text in texts)
        found = engine.run(Scan((_text_file(tmp_path / "x.jsonl", lines),), "jsonl"), {})
        values = [int(text) if dtype == "uint64" else float(text) for text in texts]
        assert_rows_equal(found, read_table({"columns": {"a": dtype}, "rows": [[value] for value in values]}))

    def test_scan_json_lines_without_lines(self, engine: Engine, tmp_path: Path) -> None:
        """A file without lines has the declared columns, and no rows."""
        schema = Schema.of({"a": "int64", "b": "string"})
        file = _text_file(tmp_path / "x.jsonl", "")
        found = engine.run(Conform(Scan((file,), "jsonl", schema), schema, what="rows"), {})
        assert_rows_equal(found, read_table({"columns": {"a": "int64", "b": "string"}, "rows": []}))

    @pytest.mark.parametrize("format", ["csv", "jsonl"])
    def test_scan_compressed_text(self, engine: Engine, tmp_path: Path, format: Literal["csv", "jsonl"]) -> None:
        """Text files ending in .gz are read through gzip."""
        path = tmp_path / f"x.{format}.gz"
        text = {"csv": "a\n1\n2\n", "jsonl": '{"a":1}\n{"a":2}\n'}[format]
        path.write_bytes(gzip.compress(text.encode()))
        assert_rows_equal(engine.run(Scan((str(path),), format), {}), pa.table({"a": [1, 2]}))

    @pytest.mark.parametrize("format", ["csv", "jsonl"])
    def test_scan_selects_text_columns_in_order(
        self, engine: Engine, tmp_path: Path, format: Literal["csv", "jsonl"]
    ) -> None:
        """Selecting columns of text files keeps the declared types, files in order."""
        texts = {"csv": ["a,b,c\n1,02,x\n", "a,b,c\n3,04,y\n"], "jsonl": ['{"a":1,"b":"02"}\n', '{"a":3,"b":"04"}\n']}
        files = tuple(
            _text_file(tmp_path / f"{name}.{format}", text) for name, text in zip("zy", texts[format], strict=True)
        )
        schema = Schema.of({"b": "string", "a": "int64"})
        node = Conform(Scan(files, format, schema, columns=("b", "a")), schema, what="rows")
        assert engine.run(node, {}).arrow.to_pylist() == [{"b": "02", "a": 1}, {"b": "04", "a": 3}]
        assert engine.run(node.input, {}).column_names == ["b", "a"]

    # The other nodes that only move rows

    @pytest.mark.parametrize("held", ["arrow", "polars"])
    def test_input_is_what_was_handed_in(self, engine: Engine, held: Held) -> None:
        """An input's rows come back untouched, or the columns asked for in the order asked for."""
        inputs = {"rows": _held(_LOANS, held)}
        assert_rows_equal(engine.run(Input("rows"), inputs), _LOANS)
        assert_rows_equal(engine.run(Input("rows", columns=("v", "user_id")), inputs), _LOANS.select(["v", "user_id"]))

    def test_concat_is_one_after_another(self, engine: Engine) -> None:
        """Rows of several nodes follow each other; columns go by name; an empty part adds nothing."""
        turned = _LOANS.select(list(reversed(_LOANS.column_names)))
        inputs = {"a": Rows(arrow=_LOANS), "b": Rows(arrow=turned), "none": Rows(arrow=_LOANS.slice(0, 0))}
        node = Concat((Input("b"), Input("none"), Input("a")))
        assert_rows_equal(engine.run(node, inputs), pa.concat_tables([turned, _LOANS.select(turned.column_names)]))

    @pytest.mark.parametrize("home", ["arrow", "polars", "files"])
    @pytest.mark.parametrize(
        "other",
        [
            {"a": [3]},
            {"a": [3], "b": [4], "c": [5]},
            {"a": [3], "c": [4]},
            {"a": [3], "b": ["text"]},
            {"a": [3], "b": [True]},
        ],
        ids=["one lacks a column", "one has a column more", "another column", "text under numbers", "truth values"],
    )
    def test_concat_of_other_columns_is_an_error(
        self, engine: Engine, other: dict[str, list[Any]], home: str, tmp_path: Path
    ) -> None:
        """Rows of other columns, or of types with nothing in common, do not lie in one table."""
        tables = [pa.table({"a": [1], "b": [2]}), pa.table(other)]
        for parts in (tables, tables[::-1]):
            homed = [_homed(table, home, tmp_path, name) for name, table in zip("xy", parts, strict=True)]
            node = Concat(tuple(part for part, _ in homed))
            with pytest.raises(SchemaError, match="rows to put together"):
                engine.run(node, {**homed[0][1], **homed[1][1]})

    @pytest.mark.parametrize("home", ["arrow", "polars", "files"])
    def test_align_gives_stored_rows_the_columns_of_today(self, engine: Engine, home: str, tmp_path: Path) -> None:
        """What the rows lack is null, what is no column any more is left out, the rest is cast; the sequence stays."""
        old = pa.table(
            {
                "gone": pa.array(["x", "y", None], pa.large_string()),
                "k": pa.array([1, 2, None], pa.int32()),
                "t": pa.array([3, 1, 2], pa.int64()).cast(pa.timestamp("us", "UTC")),
                "v": pa.array([1, None, 3], pa.int64()),
                SEQUENCE: pa.array([7, 8, 9], pa.int64()),
            }
        )
        added = {"text": "string", "tags": "list[string]", "place": "struct{x: float64}", "price": "decimal(9,2)",
                 "day": "date", "took": "duration", "id": "uuid", "ok": "boolean"}  # fmt: skip
        schema = Schema.of({**added, "v": "float64", "k": "int64", "t": "datetime"})
        rows, inputs = _homed(old, home, tmp_path)
        found = engine.run(Align(rows, schema, "spend", required=("k", "t")), inputs)
        columns = {name: pa.nulls(3, arrow_type(schema[name])) for name in added}
        columns |= {"v": pa.array([1.0, None, 3.0]), "k": pa.array([1, 2, None], pa.int64())}
        expected = pa.table(columns).append_column("t", old.column("t")).append_column(SEQUENCE, old.column(SEQUENCE))
        assert_rows_equal(found, expected)

    @pytest.mark.parametrize("home", ["arrow", "polars", "files"])
    def test_align_of_rows_that_lack_nothing(self, engine: Engine, home: str, tmp_path: Path) -> None:
        """Rows of the schema come back as they are; without a sequence they get none."""
        table = pa.table({"v": pa.array([3, None, 1], pa.int64()), "k": pa.array(["b", "a", "c"], pa.large_string())})
        rows, inputs = _homed(table, home, tmp_path)
        schema = Schema.of({"v": "int64", "k": "string"})
        assert_rows_equal(engine.run(Align(rows, schema, "spend"), inputs), table)
        turned = Schema.of({"k": "string", "v": "int64"})
        assert_rows_equal(engine.run(Align(rows, turned, "spend"), inputs), table.select(["k", "v"]))

    @pytest.mark.parametrize("home", ["arrow", "polars", "files"])
    def test_align_refuses_what_does_not_fit(self, engine: Engine, home: str, tmp_path: Path) -> None:
        """A stored value that the new type cannot hold, and rows without their key, are errors that name the group."""
        table = pa.table({"k": pa.array(["a", "b"], pa.large_string()), "v": pa.array([1.5, 2.0])})
        rows, inputs = _homed(table, home, tmp_path)
        with pytest.raises(ColumnTypeError, match="stored rows of feature group 'spend': column 'v'"):
            engine.run(Align(rows, Schema.of({"k": "string", "v": "int64"}), "spend"), inputs)
        with pytest.raises(ColumnTypeError, match="stored rows of feature group 'spend': column 'k'"):
            engine.run(Align(rows, Schema.of({"k": "int64", "v": "float64"}), "spend"), inputs)
        with pytest.raises(SchemaError, match="stored rows of feature group 'spend' have no 'other'"):
            engine.run(Align(rows, Schema.of({"other": "string", "v": "float64"}), "spend", ("other",)), inputs)

    def test_concat_of_files_and_frames(self, engine: Engine, tmp_path: Path) -> None:
        """A version in a file and pushed rows in a frame make one history."""
        files = _parquet_files(tmp_path, ["x.parquet"], [_LOANS])
        inputs = {"pushed": Rows(arrow=_LOANS)}
        node = Concat((Scan(files, "parquet"), Input("pushed")))
        assert_rows_equal(engine.run(node, inputs), pa.concat_tables([_LOANS, _LOANS]))

    @pytest.mark.parametrize("rows", [0, 1, 3, 7, 1_000])
    def test_limit_is_the_first_rows(self, engine: Engine, rows: int) -> None:
        """At most so many rows, the first ones; the columns stay when there are none."""
        found = engine.run(Limit(Input("rows"), rows), {"rows": Rows(arrow=_LOANS)})
        assert_rows_equal(found, _LOANS.slice(0, rows))

    @pytest.mark.parametrize("start", [0, 5, 1 << 40])
    def test_number_counts_in_order(self, engine: Engine, start: int) -> None:
        """`__sequence` counts the rows from start, as int64."""
        rows = _LOANS.drop_columns([SEQUENCE])
        expected = rows.append_column(SEQUENCE, pa.array(range(start, start + 7), pa.int64()))
        assert_rows_equal(engine.run(Number(Input("rows"), start), {"rows": Rows(arrow=rows)}), expected)
        nothing = {"rows": Rows(arrow=rows.slice(0, 0))}
        assert_rows_equal(engine.run(Number(Input("rows"), start), nothing), expected.slice(0, 0))

    def test_timeless_rows_are_true_since_the_year_1(self, engine: Engine) -> None:
        """`__event_time` is the same for every row, behind the other columns."""
        rows = pa.table({"airport": ["OSL", "LIS"]})
        found = engine.run(Timeless(Input("rows")), {"rows": Rows(arrow=rows)}).arrow
        assert found.column_names == ["airport", EVENT_TIME]
        schema = Schema.of({"airport": "string", EVENT_TIME: "datetime"})
        typed = engine.run(Conform(Timeless(Input("rows")), schema, what="rows"), {"rows": Rows(arrow=rows)}).arrow
        assert typed.column(EVENT_TIME).cast(pa.int64()).to_pylist() == [ALWAYS_MICROS] * 2

    @pytest.mark.parametrize(
        ("start", "end", "kept"),
        [
            ("2026-01-01T11:00:00", "2026-01-01T12:00:00", [0, 1, 3, 4, 6]),
            ("2026-01-01T11:00:00.000001", None, [5]),
            (None, "2026-01-01T11:00:00", [2]),
            (None, None, [0, 1, 2, 3, 4, 5, 6]),
            ("2026-01-01T12:00:00", "2026-01-01T11:00:00", []),
        ],
    )
    def test_between_start_included_end_excluded(
        self, engine: Engine, start: str | None, end: str | None, kept: list[int]
    ) -> None:
        """Rows with start <= time < end stay, in their order."""
        node = Between(Input("rows"), "f", _micros(start), _micros(end))
        assert_rows_equal(engine.run(node, {"rows": Rows(arrow=_LOANS)}), _LOANS.take(pa.array(kept, pa.int64())))

    def test_between_leaves_nulls_outside(self, engine: Engine) -> None:
        """A null is outside of every range, an open one too."""
        inputs = {"rows": Rows(arrow=_LOANS)}
        assert_rows_equal(engine.run(Between(Input("rows"), "c", None, None), inputs), _LOANS.take([0, 2, 3, 4, 5, 6]))
        assert_rows_equal(engine.run(Between(Input("rows"), "v", 2, 7), inputs), _LOANS.take([1, 2, 3, 5]))

    def test_between_of_a_sequence(self, engine: Engine) -> None:
        """An integer column has bounds of its own."""
        found = engine.run(Between(Input("rows"), SEQUENCE, 2, 5), {"rows": Rows(arrow=_LOANS)})
        assert_rows_equal(found, _LOANS.slice(2, 3))

    @pytest.mark.parametrize(("created_time", "order"), [("c", [2, 1, 4, 3, 0, 6, 5]), (None, [2, 0, 1, 3, 4, 6, 5])])
    def test_order_is_pit_3(self, engine: Engine, created_time: str | None, order: list[int]) -> None:
        """Event time, then created time with nulls first, then sequence, all ascending (PIT-3)."""
        turned = _LOANS.take(list(range(6, -1, -1)))  # so that no stable sort can stand in for the sequence
        found = engine.run(Order(Input("rows"), "f", created_time), {"rows": Rows(arrow=turned)})
        assert_rows_equal(found, _LOANS.take(order))

    @pytest.mark.parametrize(("created_time", "newest"), [("c", [4, 6]), (None, [4, 6])])
    def test_latest_is_the_newest_row_of_each_key(
        self, engine: Engine, created_time: str | None, newest: list[int]
    ) -> None:
        """One row per entity key, whole, by PIT-3; a null key is left out (PIT-4)."""
        node = Latest(Input("rows"), ("user_id",), "f", created_time)
        found = engine.run(node, {"rows": Rows(arrow=_LOANS)})
        assert_rows_equal(found, _LOANS.take(newest), by=["user_id"])

    def test_null_event_times(self, engine: Engine) -> None:
        """Rows without event time come first in order, and are nobody's newest, no entity's time, in no range."""
        rows = numbered(
            read_table(
                {
                    "columns": {"user_id": "string", "f": "datetime", "c": "datetime", "v": "int64"},
                    "rows": [
                        ["a", "2026-01-01", "2026-01-01", 1],
                        ["a", None, "2026-01-03", 2],
                        ["b", None, None, 3],
                        ["a", None, "2026-01-02", 4],
                    ],
                }
            )
        )
        inputs = {"rows": Rows(arrow=rows)}
        assert_rows_equal(engine.run(Order(Input("rows"), "f", "c"), inputs), rows.take([2, 3, 1, 0]))
        assert_rows_equal(engine.run(Order(Input("rows"), "f", None), inputs), rows.take([1, 2, 3, 0]))
        assert_rows_equal(engine.run(Latest(Input("rows"), ("user_id",), "f", "c"), inputs), rows.slice(0, 1))
        times = EntityTimes(Input("rows"), ("user_id",), "f", None, None)
        assert_rows_equal(engine.run(times, inputs), rows.select(["user_id", "f"]).slice(0, 1))
        assert_rows_equal(engine.run(Between(Input("rows"), "f", None, None), inputs), rows.slice(0, 1))

    @pytest.mark.parametrize("node", ["latest", "order", "join"])
    def test_floats_keep_their_bits(self, engine: Engine, node: str) -> None:
        """The sign of a zero and a NaN are moved, not computed, among few rows and among many."""
        count, floats = 600, [-0.0, 0.0, float("nan"), None]
        rows = pa.table(
            {
                "k": pa.array(range(count), pa.int64()),
                "f": pa.array([0] * count, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
                "x": pa.array([floats[number % 4] for number in range(count)], pa.float64()),
                "y": pa.array([floats[number % 4] for number in range(count)], pa.float32()),
                "l": pa.array([[floats[number % 4]] for number in range(count)], pa.large_list(pa.float64())),
                SEQUENCE: pa.array(range(count), pa.int64()),
            }
        )
        for part in (rows.slice(0, 4), rows):
            inputs = {"rows": Rows(arrow=part)}
            if node == "join":
                outputs = tuple(
                    Output(name, name, parse_dtype(dtype))
                    for name, dtype in (("x", "float64"), ("y", "float32"), ("l", "list[float64]"))
                )
                join = GroupJoin("g", "1.0.0", Input("rows"), (("k", "k"),), "f", None, 1, True, outputs)
                found = engine.run(PointInTimeJoin(Input("rows"), "f", (join,), as_known=False), inputs)
                assert_rows_equal(found, part.select(["x", "y", "l"]))
            elif node == "order":
                assert_rows_equal(engine.run(Order(Input("rows"), "f", None), inputs), part)
            else:
                assert_rows_equal(engine.run(Latest(Input("rows"), ("k",), "f", None), inputs), part, by=["k"])

    def test_latest_of_nothing(self, engine: Engine) -> None:
        """No rows, no keys; columns and types stay."""
        node = Latest(Input("rows"), ("user_id",), "f", "c")
        assert_rows_equal(engine.run(node, {"rows": Rows(arrow=_LOANS.slice(0, 0))}), _LOANS.slice(0, 0))

    @pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "arrow", "sql"])
    def test_apply_runs_a_transform(self, engine: Engine, kind: str) -> None:
        """A transform of every kind gives the rows that it makes."""
        if kind == "pandas":
            pytest.importorskip("pandas")
        schema = Schema.of({"user_id": "string", "f": "datetime", "double": "int64"})
        node = Conform(Apply(Input("rows"), _DOUBLES[kind](), "loans"), schema, what="loans")
        found = engine.run(node, {"rows": Rows(arrow=_LOANS)})
        doubles = [2, 4, 6, 8, None, 12, 14]
        expected = _LOANS.select(["user_id", "f"]).append_column("double", pa.array(doubles, pa.int64()))
        assert_rows_equal(found, expected)

    def test_a_whole_materialization(self, engine: Engine, tmp_path: Path) -> None:
        """File, transform, types, range, numbers, order: one plan, as materialize runs it."""
        text = "user_id,f,v\n01,2026-01-02T00:00:00,5\n1,2026-01-01T00:00:00,6\n01,2026-01-01T00:00:00,7\n"
        file = _text_file(tmp_path / "x.csv", text)
        schema = Schema.of({"user_id": "string", "f": "datetime", "v": "int32"})
        scan = Scan((file,), "csv", Schema.of({"user_id": "string"}))
        typed = Conform(Apply(scan, sql_transform("SELECT user_id, f, v - 1 AS v FROM source"), "g"), schema, "g")
        start = to_micros("2026-01-01")
        node = Order(Number(Between(typed, "f", start, None)), "f", None)
        expected = {
            "columns": {"user_id": "string", "f": "datetime", "v": "int32", SEQUENCE: "int64"},
            "rows": [["1", "2026-01-01", 5, 1], ["01", "2026-01-01", 6, 2], ["01", "2026-01-02", 4, 0]],
        }
        assert_rows_equal(engine.run(node, {}), read_table(expected))

    # What it does when something is wrong

    @pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
    def test_absent_file(self, engine: Engine, tmp_path: Path, format: Literal["parquet", "csv", "jsonl"]) -> None:
        """A file that is not there is a SourceError that names it."""
        with pytest.raises(SourceError, match="not_there"):
            engine.run(Scan((str(tmp_path / f"not_there.{format}"),), format), {})

    @pytest.mark.parametrize(
        ("format", "content"),
        [
            ("parquet", b"this is no parquet file, whatever its name"),
            ("parquet", b"PAR1"),
            ("parquet", b""),
            ("csv", b"a,b\n1,2\n1,2,3,4\n"),
            ("csv", b"a,b\n1,2\n3\n"),
            ("csv", b"a,b\n" + b"1,2\n" * 20_000 + b"3"),
            ("csv", b"a,b\n" + b"1,2\n" * 20_000 + b"3,4,5\n"),
            ("csv", b'a,b\n1,2\n3,"4\n5,6\n'),
            ("csv", b"a,a\n1,2\n"),
            ("csv", b"a,b\nx,\xff\n"),
            ("csv", b""),
            ("jsonl", b'{"a":1}\n{"a":"x"}\n'),
            ("jsonl", b'{"a":"x"}\n{"a":true}\n'),
            ("jsonl", b'{"a":1}\n[1]\n'),
            ("jsonl", b'{"a":1}\n{"a":'),
            ("jsonl", b'{"a":1}\nno json\n'),
        ],
    )
    def test_corrupt_file(
        self, engine: Engine, tmp_path: Path, format: Literal["parquet", "csv", "jsonl"], content: bytes
    ) -> None:
        """A file that cannot be read as its format is a SourceError that names it, under any node."""
        path = tmp_path / f"broken.{format}"
        path.write_bytes(content)
        scan = Scan((str(path),), format)
        for node in (scan, Number(scan)):
            with pytest.raises(SourceError, match="broken"):
                engine.run(node, {})

    @pytest.mark.parametrize("damage", ["absent", "junk", "half"])
    def test_a_damaged_stored_file_is_no_wrong_source(self, engine: Engine, tmp_path: Path, damage: str) -> None:
        """A stored file that cannot be read is a CorruptStoreError that says what looks at the whole store."""
        (file,) = _parquet_files(tmp_path, ["data.parquet"], [_LOANS])
        content = Path(file).read_bytes()
        match damage:
            case "absent":
                Path(file).unlink()
            case "junk":
                Path(file).write_bytes(b"junk" * 100)
            case _:
                Path(file).write_bytes(content[: len(content) // 2])
        scan = Scan((file,), "parquet", stored="loans")
        for node in (scan, Latest(scan, ("user_id",), "f", "c")):
            with pytest.raises(CorruptStoreError, match="grange verify loans"):
                engine.run(node, {})

    def test_a_damaged_page_is_no_wrong_source(self, engine: Engine, tmp_path: Path) -> None:
        """What cannot be unpacked is noticed by every engine, whichever column it lies in, and is damage."""
        file = tmp_path / "data.parquet"
        table = pa.table({"v": pa.array([f"value {number}" for number in range(10_000)], pa.large_string())})
        pq.write_table(table, file, compression="zstd", use_dictionary=False, write_page_checksum=True)
        content = bytearray(file.read_bytes())
        content[1_000:3_000] = bytes(2_000)
        file.write_bytes(content)
        with pytest.raises(CorruptStoreError, match="grange verify loans"):
            engine.run(Scan((str(file),), "parquet", stored="loans"), {})

    def test_truncated_parquet(self, engine: Engine, tmp_path: Path) -> None:
        """Half a Parquet file is a SourceError, never half the rows."""
        (file,) = _parquet_files(tmp_path, ["half.parquet"], [_LOANS])
        content = Path(file).read_bytes()
        Path(file).write_bytes(content[: len(content) // 2])
        with pytest.raises(SourceError, match="half"):
            engine.run(Scan((file,), "parquet"), {})

    @pytest.mark.parametrize(
        ("format", "text"),
        [
            ("csv", "a,b\nx,1\ny,many\n"),
            ("csv", "a,b\nx,1\ny,1.5\n"),
            ("csv", "a,b\nx,1\ny,9223372036854775808\n"),
            ("jsonl", '{"a":"x","b":1}\n{"a":"y","b":"many"}\n'),
            ("jsonl", '{"a":"x","b":1}\n{"a":"y","b":1.5}\n'),
            ("jsonl", '{"a":"x","b":1}\n{"a":"y","b":true}\n'),
            ("jsonl", '{"a":"x","b":"1"}\n'),
        ],
    )
    def test_file_that_does_not_fit_its_declaration(
        self, engine: Engine, tmp_path: Path, format: Literal["csv", "jsonl"], text: str
    ) -> None:
        """A value that is not of the declared raw type is a ColumnTypeError that names the column (PIT-7)."""
        file = _text_file(tmp_path / f"x.{format}", text)
        schema = Schema.of({"a": "string", "b": "int64"})
        with pytest.raises(ColumnTypeError, match="'b'"):
            engine.run(Conform(Scan((file,), format, schema), schema, what="rows"), {})

    @pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
    def test_selected_column_is_missing(
        self, engine: Engine, tmp_path: Path, format: Literal["parquet", "csv", "jsonl"]
    ) -> None:
        """A column that the files do not have is an error that names it."""
        path = tmp_path / f"x.{format}"
        if format == "parquet":
            pq.write_table(pa.table({"a": [1]}), path)
        else:
            path.write_text({"csv": "a\n1\n", "jsonl": '{"a":1}\n'}[format])
        with pytest.raises(SchemaError, match="absent_column"):
            engine.run(Scan((str(path),), format, columns=("a", "absent_column")), {})

    def test_conform_of_a_missing_column(self, engine: Engine) -> None:
        """A declared column that the rows lack is a SchemaError that names it."""
        node = Conform(Input("rows"), Schema.of({"user_id": "string", "amount": "float64"}), what="loans")
        with pytest.raises(SchemaError, match="'amount'"):
            engine.run(node, {"rows": Rows(arrow=_LOANS)})

    @pytest.mark.parametrize("kind", ["raises", "raises_late", "returns_a_number", "not_loaded", "bad_sql"])
    def test_failing_transform(self, engine: Engine, kind: str) -> None:
        """Whatever goes wrong in a transform is a TransformError that names the group; its cause is kept."""
        node = Apply(Input("rows"), _FAILURES[kind](), "loans")
        with pytest.raises(TransformError, match="loans") as caught:
            engine.run(node, {"rows": Rows(arrow=_LOANS)})
        if kind.startswith("raises"):
            assert caught.value.__cause__ is not None

    def test_an_error_leaves_the_engine_usable(self, engine: Engine, tmp_path: Path) -> None:
        """After an error the same engine answers as before."""
        inputs = {"rows": Rows(arrow=_LOANS)}
        before = engine.run(Order(Input("rows"), "f", "c"), inputs)
        with pytest.raises(GrangeError):
            engine.run(Scan((str(tmp_path / "none.parquet"),), "parquet"), {})
        assert_rows_equal(engine.run(Order(Input("rows"), "f", "c"), inputs), before)

    # What it must not do

    def test_inputs_stay_as_they_were(self, engine: Engine) -> None:
        """Rows that are handed in are not changed by a run, nor reordered in place."""
        table = pa.table({name: _LOANS.column(name).combine_chunks() for name in _LOANS.column_names})
        for held in (Rows(arrow=table), Rows(polars=cast(pl.DataFrame, pl.from_arrow(table)))):
            engine.run(Latest(Order(Input("rows"), "f", "c"), ("user_id",), "f", "c"), {"rows": held})
            assert_rows_equal(held, _LOANS)

    def test_several_threads(self, engine: Engine) -> None:
        """Runs of several threads at a time do not meet."""
        case = next(case for case in _JOINS if case.name == "groups-of-different-entities")
        inputs = {SPINE: Rows(arrow=case.spine)}
        inputs |= {f"group{number}": Rows(arrow=group.rows) for number, group in enumerate(case.groups)}
        node = case.node([Input(f"group{number}") for number in range(len(case.groups))])
        assert isinstance(case.expected, pa.Table)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: engine.run(node, inputs), range(16)):
                assert_rows_equal(found, case.expected)

    # Random rows

    @examples
    @given(example=joins())
    def test_random_joins_equal_reference(self, engine: Engine, example: JoinExample) -> None:
        """Any lawful join gives what the reference engine gives, cell for cell."""
        expected = _reference().run(example.node, example.inputs)
        assert_rows_equal(engine.run(example.node, example.inputs), expected)

    @examples
    @given(example=window_joins())
    def test_random_windows_equal_reference(self, engine: Engine, example: WindowExample) -> None:
        """Any aggregates over any events give what the reference engine gives; floats within 1e-9 (ONL-1)."""
        example = _without_sketched_quantiles(example)
        expected = _reference().run(example.node, example.inputs)
        assert_rows_equal(engine.run(example.node, example.inputs), expected, tolerance=COMPUTED)

    @examples
    @given(example=window_joins())
    def test_random_events_equal_reference(self, engine: Engine, example: WindowExample) -> None:
        """The current events and the grids of any events are those of the reference engine, in its order."""
        join, rows = example.join, Input("events")
        keys = tuple(of_group for _, of_group in join.keys)
        nodes: list[Node] = [
            Grid(rows, keys, join.event_time, interval, closed, fill, start, None)
            for interval, closed, fill, start in _GRID_SHAPES
        ]
        if join.event_id is not None:
            nodes.append(CurrentEvents(rows, keys, join.created_time, join.event_id, join.retracted))
        for node in nodes:
            assert_rows_equal(engine.run(node, example.inputs), _reference().run(node, example.inputs), what=str(node))

    def test_windows_beside_a_plain_join(self, engine: Engine) -> None:
        """Windows of one group and the newest row of another answer one request, each by its own keys (PIT-6)."""
        window = next(case for case in _WINDOWS if case.name == "each-entity-has-its-own-events")
        spine = window.spine.append_column("user_id", window.spine.column("k"))
        plain = GroupJoin(
            "loans", "1.0.0", Input("loans"), (("user_id", "user_id"),), "f", "c", None, True,
            (Output("v", "loan", parse_dtype("int64")),),
        )  # fmt: skip
        node = PointInTimeJoin(Input(SPINE), "t", (plain, window.group.join(Input("events"))), as_known=False)
        inputs = {
            SPINE: Rows(arrow=spine),
            "loans": Rows(arrow=_LOANS),
            "events": Rows(arrow=window.group.rows),
        }
        assert isinstance(window.expected, pa.Table)
        expected = pa.table({"loan": pa.array([None, 7, None, None], pa.int64())})
        for name in window.expected.column_names:
            expected = expected.append_column(name, window.expected.column(name))
        assert_rows_equal(engine.run(node, inputs), expected)

    def test_windows_of_no_events_and_of_no_spine(self, engine: Engine) -> None:
        """Columns and their types stay; without events counts are 0, and without a spine there are no rows."""
        for case in _WINDOWS:
            if case.name not in ("an-empty-window-counts-zero", "values-of-any-type-can-be-counted-and-kept"):
                continue
            events = {SPINE: Rows(arrow=case.spine), "events": Rows(arrow=case.group.rows.slice(0, 0))}
            spine = {SPINE: Rows(arrow=case.spine.slice(0, 0)), "events": Rows(arrow=case.group.rows)}
            assert isinstance(case.expected, pa.Table)
            found = engine.run(case.node(Input("events")), events).arrow
            assert found.schema.equals(case.expected.schema)
            for aggregate in case.group.aggregates:
                empty = 0 if aggregate.function.name in ("count", "count_distinct") else None
                assert found.column(aggregate.name).to_pylist() == [empty] * case.spine.num_rows
            assert_rows_equal(engine.run(case.node(Input("events")), spine), case.expected.slice(0, 0))

    @pytest.mark.parametrize(
        ("condition", "named"),
        [("no_such_column > 1", "'no_such_column"), ("v", "'v'"), ("sum(v) > 1", "'sum(v) > 1'")],
    )
    def test_a_filter_that_cannot_be_computed(self, engine: Engine, condition: str, named: str) -> None:
        """A filter of other columns, that is no condition or that is of many rows is an error that names it."""
        case = next(case for case in _WINDOWS if case.name == "a-filter-chooses-events-before-the-window-does")
        aggregates = tuple(replace(each, filter=condition) for each in case.group.aggregates)
        join = replace(case.group.join(Input("events")), aggregates=aggregates)
        inputs = {SPINE: Rows(arrow=case.spine), "events": Rows(arrow=case.group.rows)}
        with pytest.raises((DefinitionError, TransformError)) as caught:
            engine.run(replace(case.node(Input("events")), joins=(join,)), inputs)
        assert named in str(caught.value)

    @examples
    @given(history=histories())
    def test_random_histories_equal_reference(self, engine: Engine, history: History) -> None:
        """Order, latest, entity times and ranges of any history are those of the reference engine."""
        inputs = {"rows": Rows(arrow=history.rows)}
        rows = Input("rows")
        nodes: list[Node] = [
            Order(rows, history.event_time, history.created_time),
            EntityTimes(Between(rows, history.event_time, -1, 8), history.keys, history.event_time, 0, None),
        ]
        for node in nodes:
            assert_rows_equal(engine.run(node, inputs), _reference().run(node, inputs), what=type(node).__name__)
        latest = Latest(rows, history.keys, history.event_time, history.created_time)
        expected = _reference().run(latest, inputs)
        assert_rows_equal(engine.run(latest, inputs), expected, what="Latest", by=history.keys)

    @examples
    @given(drawn=raw_tables())
    def test_random_types_equal_reference(self, engine: Engine, drawn: tuple[pa.Table, Schema]) -> None:
        """Values fit their declaration for one engine exactly when they do for the reference engine."""
        table, schema = drawn
        inputs = {"rows": Rows(arrow=table)}
        # once from the caller's hands, once behind a node that an engine runs by itself
        for rows in (Input("rows"), Limit(Input("rows"), 100)):
            _same_or_misfit(engine, Conform(rows, schema, what="rows"), inputs)

    @examples
    @given(join=plain_joins())
    def test_plain_joins_equal_pandas(self, engine: Engine, join: PlainJoin) -> None:
        """Where no tie needs a law, the answer is that of `pandas.merge_asof`."""
        pytest.importorskip("pandas")
        inputs = {"spine": Rows(arrow=join.spine), "history": Rows(arrow=join.history)}
        found = engine.run(join.node, inputs).arrow.column("v").to_pylist()
        assert found == merge_asof(join)


def merge_asof(join: PlainJoin) -> list[int | None]:
    """The answer of pandas to a plain join, in the spine's order."""
    pd = require("pandas", extra="pandas")
    spine = pd.DataFrame({"k": join.spine.column("k").to_pylist(), "t": _timestamps(pd, join.spine.column("t"))})
    history = pd.DataFrame(
        {
            "k": join.history.column("k").to_pylist(),
            "f": _timestamps(pd, join.history.column("f")),
            "v": pd.array(join.history.column("v").to_pylist(), dtype="Int64"),
        }
    )
    if spine.empty or history.empty:
        return [None] * len(spine)  # empty columns have no type, which merge_asof refuses
    merged = pd.merge_asof(
        spine.reset_index().sort_values("t", kind="stable"),
        history.sort_values("f", kind="stable"),
        left_on="t",
        right_on="f",
        by="k",
        tolerance=None if join.ttl is None else pd.Timedelta(join.ttl, unit="us"),
        allow_exact_matches=join.exact_matches,
    ).sort_values("index")
    return [None if pd.isna(value) else int(value) for value in merged["v"]]


def _timestamps(pd: Any, column: pa.ChunkedArray) -> Any:
    return pd.to_datetime(pd.Series(column.cast(pa.int64()).to_pylist(), dtype="int64"), unit="us", utc=True)


def _reference() -> Engine:
    return cast(Engine, create("engines", "reference", {}))


_HOUR: Final = 3_600_000_000
_GRID_SHAPES: Final[tuple[tuple[int, Literal["right", "left"], bool, int | None], ...]] = (
    (_HOUR, "right", False, None),
    (3 * _HOUR, "left", True, None),
    (7, "left", False, -7_000_000),
    (2_000_003, "right", False, 0),
)
"""Interval, closed end, whether gaps are filled, and start of the grids that random events are laid on."""


def _without_sketched_quantiles(example: WindowExample) -> WindowExample:
    """The example without the outputs that are only promised to lie near the truth."""
    sketched = {each.name for each in example.join.aggregates if each.function.name == "approx_quantile"}
    outputs = tuple(output for output in example.join.outputs if output.column not in sketched)
    join: WindowJoin = replace(example.join, outputs=outputs)
    return replace(example, node=replace(example.node, joins=(join,)))


def _check(expected: pa.Table | ExpectedError, run: Callable[[], Rows], what: str, *, tolerance: float = 0.0) -> None:
    """Whether a run gives the rows, or the error, that a case expects."""
    if isinstance(expected, ExpectedError):
        with pytest.raises(expected.error) as caught:
            run()
        missing = [word for word in expected.mentions if word not in str(caught.value)]
        assert not missing, f"{what}: the error does not mention {missing}: {caught.value}"
    else:
        assert_rows_equal(run(), expected, what=what, tolerance=tolerance)


def _same_or_misfit(engine: Engine, node: Node, inputs: Mapping[str, Rows]) -> None:
    """Whether an engine gives the reference engine's rows, or names the column that does not fit as it does."""
    try:
        expected = _reference().run(node, inputs)
    except ColumnTypeError as misfit:
        with pytest.raises(ColumnTypeError) as caught:
            engine.run(node, inputs)
        assert caught.value.details["column"] == misfit.details["column"]
    else:
        assert_rows_equal(engine.run(node, inputs), expected)


def _held(table: pa.Table, held: Held) -> Rows:
    return Rows(polars=cast(pl.DataFrame, pl.from_arrow(table))) if held == "polars" else Rows(arrow=table)


def _homed(table: pa.Table, home: str, folder: Path, name: str = "rows") -> tuple[Node, dict[str, Rows]]:
    """A table in a Parquet file, or handed in under a name: its node, and the inputs."""
    if home == "files":
        return Scan(_parquet_files(folder, [f"{name}.parquet"], [table]), "parquet"), {}
    return Input(name), {name: _held(table, cast(Held, home))}


def _lay_out(group: CaseGroup | WindowGroup, number: int, home: Home, folder: Path, inputs: dict[str, Rows]) -> Node:
    """Put a group's rows where a case wants them, and say where that is."""
    name = f"group{number}"
    if home == "frames":
        inputs[name] = _held(group.rows, "polars")
        return Input(name)
    rows = group.rows
    ordered = home == "ordered_files"
    if ordered:
        order = Order(Input("rows"), group.event_time, group.created_time)
        rows = _reference().run(order, {"rows": Rows(arrow=rows)}).arrow
    halves = [rows.slice(0, len(rows) // 2), rows.slice(len(rows) // 2)]
    files = _parquet_files(folder, [f"{name}-{part}.parquet" for part in (0, 1)], halves)
    return Scan(files, "parquet", ordered=ordered)


def _parquet_files(folder: Path, names: Iterable[str], tables: Iterable[pa.Table]) -> tuple[str, ...]:
    files = []
    for name, table in zip(names, tables, strict=True):
        pq.write_table(table, folder / name)
        files.append(str(folder / name))
    return tuple(files)


def _text_file(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


def _micros(text: str | None) -> int | None:
    return None if text is None else to_micros(text)


# Transforms of every kind, good and bad


def _double_polars(df: pl.DataFrame) -> pl.DataFrame:
    return df.select("user_id", "f", double=pl.col("v") * 2)


def _double_lazy(df: pl.LazyFrame) -> pl.LazyFrame:
    return df.select("user_id", "f", double=pl.col("v") * 2)


def _double_pandas(df: Any) -> Any:
    return df.assign(double=df["v"] * 2)[["user_id", "f", "double"]]


def _double_arrow(table: pa.Table) -> pa.Table:
    doubled = pa.array([None if value is None else value * 2 for value in table.column("v").to_pylist()], pa.int64())
    return table.select(["user_id", "f"]).append_column("double", doubled)


def _annotated(function: Callable[[Any], Any], annotation: str) -> Transform:
    function.__annotations__ = {next(iter(function.__code__.co_varnames)): annotation}
    return python_transform(function)


_DOUBLES: Final[Mapping[str, Callable[[], Transform]]] = {
    "polars": lambda: python_transform(_double_polars),
    "lazy": lambda: python_transform(_double_lazy),
    "pandas": lambda: _annotated(_double_pandas, "pd.DataFrame"),
    "arrow": lambda: _annotated(_double_arrow, "pa.Table"),
    "sql": lambda: sql_transform("SELECT user_id, f, v * 2 AS double FROM source"),
}


def _raises(df: pl.DataFrame) -> pl.DataFrame:
    raise ZeroDivisionError(f"nothing to divide by in {df.height} rows")


def _raises_late(df: pl.LazyFrame) -> pl.LazyFrame:
    return df.select(pl.col("no_such_column"))


def _returns_a_number(df: pl.DataFrame) -> Any:
    return df.height


def _not_loaded() -> Transform:
    return PythonTransform("gone", "elsewhere", "def gone(df): ...", "hash", "polars")


_FAILURES: Final[Mapping[str, Callable[[], Transform]]] = {
    "raises": lambda: python_transform(_raises),
    "raises_late": lambda: python_transform(_raises_late),
    "returns_a_number": lambda: python_transform(_returns_a_number),
    "not_loaded": _not_loaded,
    "bad_sql": lambda: sql_transform("SELECT no_such_column FROM source"),
}

__all__ = ["HOMES", "EngineContract", "Held", "Home", "engine_or_skip", "examples", "merge_asof"]
