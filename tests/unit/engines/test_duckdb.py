"""What the duckdb engine promises beyond the contract that every engine obeys, and the laws by hand-made rows."""

from __future__ import annotations

import datetime as dt
import gc
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grange.definitions.transforms import SqlTransform, python_transform, sql_transform
from grange.engines.duckdb.backend import DuckDBEngine
from grange.engines.duckdb.descriptor import DESCRIPTOR
from grange.errors import (
    ColumnTypeError,
    ConfigError,
    RequestError,
    SchemaError,
    SourceError,
    TransformError,
)
from grange.frames import Rows
from grange.plan.nodes import (
    Apply,
    Between,
    Concat,
    Conform,
    EntityTimes,
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
)
from grange.ports import Engine
from grange.ports.plugins import create
from grange.types import Schema, as_dtype
from grange.types.arrow import TIMESTAMP, arrow_type

SECOND = 1_000_000


def at(seconds: float | None) -> int | None:
    """Microseconds of a few seconds after the epoch."""
    return None if seconds is None else round(seconds * SECOND)


def times(*seconds: float | None) -> pa.Array:
    return pa.array([at(second) for second in seconds], pa.int64()).cast(TIMESTAMP)


def run(node: Node, engine: Engine | None = None, **inputs: Any) -> pa.Table:
    held = {name: Rows.of(rows) for name, rows in inputs.items()}
    return (engine or DuckDBEngine()).run(node, held).arrow


def micros(table: pa.Table, name: str) -> list[int | None]:
    return list(table.column(name).cast(pa.int64()).to_pylist())


# Files


def test_parquet_keeps_file_order_then_row_order_and_reads_only_what_is_asked(tmp_path: Path) -> None:
    """Many row groups and files, more than one thread: the rows come as they lie."""
    for name, start in (("b", 0), ("a", 300_000)):
        rows = pa.table({"i": range(start, start + 300_000), "x": [1.5] * 300_000, "s": ["t"] * 300_000})
        pq.write_table(rows, tmp_path / f"{name}.parquet", row_group_size=10_000)
    scan = Scan((str(tmp_path / "b.parquet"), str(tmp_path / "a.parquet")), "parquet", columns=("s", "i"))
    table = run(Number(scan, 5), DuckDBEngine(threads=4))
    assert table.column_names == ["s", "i", "__sequence"]
    assert table.column("i").to_pylist() == list(range(600_000))
    assert table.column("__sequence").to_pylist() == list(range(5, 600_005))


def test_columns_that_differ_in_case_or_are_strange_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    pq.write_table(pa.table({"Age": [1], "age": ["x"], 'a "b"; --': [2.5], "Ünï": [True]}), file)
    table = run(Scan((str(file),), "parquet", columns=("age", 'a "b"; --', "Age", "Ünï")))
    assert table.to_pylist() == [{"age": "x", 'a "b"; --': 2.5, "Age": 1, "Ünï": True}]


def test_a_path_that_looks_like_a_pattern_is_a_path(tmp_path: Path) -> None:
    """`part[1]` is not `part1`, and a folder `month=1` adds no column."""
    folder = tmp_path / "month=1"
    folder.mkdir()
    for name, value in (("part1", 1), ("part[1]", 2), ("it's *", 3)):
        pq.write_table(pa.table({"v": [value]}), folder / f"{name}.parquet")
    files = tuple(str(folder / f"{name}.parquet") for name in ("part[1]", "part1", "it's *"))
    assert run(Scan(files, "parquet")).to_pydict() == {"v": [2, 1, 3]}


def test_files_of_other_columns_fill_with_nulls_and_of_other_types_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"c": [True], "a": pa.array([2], pa.int64())}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"a": ["text"]}), tmp_path / "3.parquet")
    first, second, third = (str(tmp_path / f"{i}.parquet") for i in (1, 2, 3))
    assert run(Scan((first, second), "parquet")).to_pylist() == [
        {"a": 1, "b": "x", "c": None},
        {"a": 2, "b": None, "c": True},
    ]
    with pytest.raises(SourceError, match="fit together"):
        run(Scan((first, third), "parquet"))


def test_every_type_comes_through_parquet_and_conform(tmp_path: Path) -> None:
    values: dict[str, tuple[str, list[Any]]] = {
        "i8": ("int8", [1, None]),
        "u64": ("uint64", [2**64 - 1, None]),
        "f32": ("float32", [math.nan, None]),
        "f64": ("float64", [math.inf, math.nan]),
        "yes": ("boolean", [True, None]),
        "text": ("string", ["ü", None]),
        "raw": ("binary", [b"\x00\xff", None]),
        "day": ("date", [dt.date(1, 1, 1), None]),
        "when": ("datetime", [dt.datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=dt.UTC), None]),
        "length": ("duration", [dt.timedelta(days=400, microseconds=-1), None]),
        "money": ("decimal(12,2)", [Decimal("-1.25"), None]),
        "many": ("list[float32]", [[1.0, None], None]),
        "deep": ("struct{a:list[int64],b:string}", [{"a": [1], "b": None}, None]),
    }
    arrays = {name: pa.array(cells, arrow_type(as_dtype(dtype))) for name, (dtype, cells) in values.items()}
    file = tmp_path / "all.parquet"
    pq.write_table(pa.table(arrays), file)
    schema = Schema.of({name: dtype for name, (dtype, _) in values.items()})
    lazy = run(Conform(Scan((str(file),), "parquet"), schema, "rows"))
    held = run(Conform(Input("x"), schema, "rows"), x=pa.table(arrays))
    for table in (lazy, held):
        assert table.schema.types == [arrow_type(column.dtype) for column in schema]
        assert repr(table.to_pylist()) == repr(pa.table(arrays).to_pylist())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_lengths_of_time_in_parquet_are_read_in_their_unit(tmp_path: Path, unit: str) -> None:
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({"d": pa.array([dt.timedelta(seconds=-3), None], pa.duration(unit))}), file)
    assert run(Scan((str(file),), "parquet")).column("d").to_pylist() == [dt.timedelta(seconds=-3), None]


def test_csv_honours_declared_types_and_guesses_the_rest_over_all_rows(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text('id,n,x,b,q,t,z,e\n007,1,1,true,"",2026-01-01,0x1F,\n8,-2,2.5,FALSE,NA,x,1,\n')
    table = run(Scan((str(file),), "csv", Schema.of({"id": "string"})))
    assert table.to_pylist() == [
        {"id": "007", "n": 1, "x": 1.0, "b": True, "q": "", "t": "2026-01-01", "z": "0x1F", "e": None},
        {"id": "8", "n": -2, "x": 2.5, "b": False, "q": "NA", "t": "x", "z": "1", "e": None},
    ]
    assert [str(dtype) for dtype in table.schema.types[:4]] == ["large_string", "int64", "double", "bool"]


def test_csv_reads_declared_columns_exactly_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("i,u,f,b,d,day,t\n-5,18446744073709551615,1e3,1,1.50,2026-02-28,2026-01-01T10:00+01:00\n,,,,,,\n")
    declared = {"i": "int8", "u": "uint64", "f": "float32", "b": "boolean", "d": "decimal(5,2)", "day": "date"}
    table = run(Scan((str(file),), "csv", Schema.of({**declared, "t": "datetime"})))
    first, second = table.to_pylist()
    assert first == {
        "i": -5,
        "u": 2**64 - 1,
        "f": 1000.0,
        "b": True,
        "d": Decimal("1.50"),
        "day": dt.date(2026, 2, 28),
        "t": dt.datetime(2026, 1, 1, 9, tzinfo=dt.UTC),
    }
    assert set(second.values()) == {None}


@pytest.mark.parametrize(("field", "dtype"), [("1.5", "int64"), ("300", "int8"), ("x", "float64"), ("yes", "boolean")])
def test_a_csv_field_that_is_not_of_its_declared_type_is_an_error(tmp_path: Path, field: str, dtype: str) -> None:
    file = tmp_path / "f.csv"
    file.write_text(f"a\n1\n{field}\n")
    with pytest.raises(ColumnTypeError) as caught:
        run(Scan((str(file),), "csv", Schema.of({"a": dtype})))
    assert caught.value.found == f"{field!r} in row 1"


def test_csv_separator_quotes_line_breaks_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text('a;b\n"x;""y""";"l\nine"\n')
    (tmp_path / "2.csv").write_text("c;a\n1;z\n")
    files = (str(tmp_path / "1.csv"), str(tmp_path / "2.csv"))
    assert run(Scan(files, "csv", separator=";")).to_pylist() == [
        {"a": 'x;"y"', "b": "l\nine", "c": None},
        {"a": "z", "b": None, "c": 1},
    ]


def test_json_lines_keep_text_and_find_every_key(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(
        '{"b": "007", "t": "2026-01-01T00:00:00Z", "n": null, "l": [1, null], "s": {"x": 1.5, "d": "2026-01-01"}}\n'
        '{"u": 18446744073709551615, "A": -1, "a": 2, "b": "x", "x/y~": true}\n'
    )
    table = run(Scan((str(file),), "jsonl"))
    assert table.column_names == ["b", "t", "n", "l", "s", "u", "A", "a", "x/y~"]
    first, second = table.to_pylist()
    assert (first["b"], first["t"], first["l"]) == ("007", "2026-01-01T00:00:00Z", [1, None])
    assert first["s"] == {"x": 1.5, "d": "2026-01-01"}
    assert (second["u"], second["A"], second["a"], second["x/y~"]) == (2**64 - 1, -1, 2, True)
    declared = Scan((str(file),), "jsonl", Schema.of({"t": "datetime", "A": "int8"}), columns=("A", "t"))
    assert run(declared).to_pylist() == [
        {"A": None, "t": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
        {"A": -1, "t": None},
    ]


@pytest.mark.parametrize(
    ("name", "format", "content"),
    [
        ("absent.parquet", "parquet", None),
        ("absent.csv", "csv", None),
        ("absent.jsonl", "jsonl", None),
        ("bad.parquet", "parquet", b"not parquet"),
        ("empty.csv", "csv", b""),
        ("bad.csv", "csv", b"a,b\n1,2\n1,2,3\n"),
        ("bad.jsonl", "jsonl", b'{"a": 1}\n{"a":\n'),
        ("list.jsonl", "jsonl", b"[1]\n"),
        ("mixed.jsonl", "jsonl", b'{"a": 1}\n{"a": "x"}\n'),
    ],
)
def test_a_file_that_cannot_be_read_is_a_source_error(
    tmp_path: Path, name: str, format: Any, content: bytes | None
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceError, match=name.split(".")[0]):
        run(Scan((str(file),), format))


def test_a_parquet_file_that_breaks_in_the_middle_is_a_source_error(tmp_path: Path) -> None:
    """It is found while rows flow, beneath a transform: the file is to blame all the same."""
    file = tmp_path / "broken.parquet"
    pq.write_table(pa.table({"a": [f"{i * 7919}" for i in range(50_000)]}), file, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[100:20_000] = b"\xff" * 19_900
    file.write_bytes(content)
    node = Apply(Scan((str(file),), "parquet"), sql_transform("SELECT upper(a) AS a FROM source"), "g")
    with pytest.raises(SourceError, match="broken"):
        run(node)


def test_an_unknown_column_names_the_closest(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("amount\n1\n")
    with pytest.raises(SchemaError) as caught:
        run(Scan((str(file),), "csv", columns=("amuont",)))
    assert caught.value.closest == ("amount",)
    with pytest.raises(SchemaError):
        run(Scan((str(file),), "csv", Schema.of({"price": "int64"})))


# Inputs, order, filters


def test_an_input_keeps_its_columns_and_an_absent_one_is_refused() -> None:
    assert run(Input("x", ("b", "a")), x={"a": [1], "b": ["x"], "c": [2]}).to_pydict() == {"b": ["x"], "a": [1]}
    with pytest.raises(RequestError, match="spine"):
        run(Input("spine"))
    with pytest.raises(SchemaError):
        run(Input("x", ("z",)), x={"a": [1]})


def test_concat_keeps_order_and_refuses_other_types() -> None:
    both = Concat((Input("x"), Input("y")))
    assert run(both, x={"a": [3, 1], "b": [1, 2]}, y={"b": [9], "a": [2]}).to_pydict() == {
        "a": [3, 1, 2],
        "b": [1, 2, 9],
    }
    with pytest.raises(SchemaError):
        run(both, x={"a": [1]}, y={"a": ["x"]})


def test_limit_number_and_between() -> None:
    rows = {"t": times(2, None, 1, 3), "i": [1, 2, None, 4]}
    assert run(Limit(Input("x"), 2), x=rows).num_rows == 2
    assert run(Number(Input("x")), x=rows).column("__sequence").to_pylist() == [0, 1, 2, 3]
    assert run(Between(Input("x"), "t", at(1), at(3)), x=rows).column("i").to_pylist() == [1, None]
    assert run(Between(Input("x"), "t", None, None), x=rows).num_rows == 3
    assert run(Between(Input("x"), "i", 2, None), x=rows).column("i").to_pylist() == [2, 4]
    timeless = run(Timeless(Input("x")), x={"a": [1, 2]})
    assert micros(timeless, "__event_time") == [-62_135_596_800 * SECOND] * 2


def test_order_is_event_time_then_created_time_nulls_first_then_sequence() -> None:
    rows = {
        "t": times(2, 1, 1, 1, 1, None),
        "c": times(0, 5, None, 4, 4, 0),
        "__sequence": [0, 1, 2, 4, 3, 5],
    }
    table = run(Number(Limit(Order(Input("x"), "t", "c"), 6)), x={**rows, "id": list("abcdef")})
    assert table.column("id").to_pylist() == ["f", "c", "e", "d", "b", "a"]


def test_latest_is_the_newest_row_whole_and_leaves_null_keys_out() -> None:
    rows = {
        "k": ["a", "a", "b", "b", "b", None, "c"],
        "t": times(1, 2, 1, 1, 1, 9, None),
        "c": times(0, 0, None, 3, 3, 0, 0),
        "v": [1, None, 2, 3, 4, 5, 6],
        "__sequence": [0, 1, 2, 4, 3, 5, 6],
    }
    table = run(Latest(Input("x"), ("k",), "t", "c"), x=rows)
    assert {row["k"]: row["v"] for row in table.to_pylist()} == {"a": None, "b": 3}
    assert table.schema.field("k").type == pa.large_string()
    assert table.schema.field("t").type == TIMESTAMP


def test_entity_times_are_distinct_and_ordered_by_key_then_time() -> None:
    rows = {"k": ["b", "a", "b", None, "a", "z"], "n": [1, 10, 1, 1, 9, 1], "t": times(1, 1, 1, 1, 1, 5), "v": range(6)}
    table = run(EntityTimes(Input("x"), ("k", "n"), "t", at(1), at(5)), x=pa.table({**rows, "v": list(range(6))}))
    assert table.select(["k", "n"]).to_pylist() == [{"k": "a", "n": 9}, {"k": "a", "n": 10}, {"k": "b", "n": 1}]
    assert table.column_names == ["k", "n", "t"]


# Conform


def test_conform_reads_plain_and_odd_text_alike(tmp_path: Path) -> None:
    """Times of the plain form stay in DuckDB, others are read by the one judge; nobody can tell."""
    file = tmp_path / "f.csv"
    texts = ["2026-01-01", "2026-01-01 10:00", "2026-01-01T10:00:00.000001Z", "2026-01-01T10:00:00+01:00", ""]
    file.write_text("t,u\n" + "".join(f'"{text}",1\n' if text else ",2\n" for text in texts))
    schema = Schema.of({"t": "datetime"})
    plain = run(Conform(Scan((str(file),), "csv"), schema, "rows"))
    with file.open("a") as stream:
        stream.write("20260101T100000,3\n")
    odd = run(Conform(Scan((str(file),), "csv"), schema, "rows"))
    base = 1_767_225_600 * SECOND
    expected = [base, base + 36_000 * SECOND, base + 36_000 * SECOND + 1, base + 32_400 * SECOND, None]
    assert micros(plain, "t") == expected
    assert micros(odd, "t") == [*expected, base + 36_000 * SECOND]


@pytest.mark.parametrize(
    ("select", "dtype", "fits"),
    [
        ("i::HUGEINT * 10", "int64", True),
        ("i::DOUBLE", "int64", True),
        ("i + 0.5::DOUBLE", "int64", False),
        ("'nan'::DOUBLE", "int32", False),
        ("i + 40000", "int16", False),
        ("i + 9007199254740993", "float64", False),
        ("i::DOUBLE / 3", "float32", True),
        ("'x' || i", "int64", False),
        ("i", "string", False),
        ("uuid()", "uuid", True),
        ("upper(uuid()::VARCHAR)", "uuid", True),
        ("TIMESTAMP '2026-01-01'", "datetime", True),
        ("DATE '2026-01-01'", "datetime", True),
        ("INTERVAL 3 HOURS", "duration", True),
        ("[i, NULL]", "list[int64]", True),
        ("'a'::ENUM('a', 'b')", "string", True),
    ],
)
def test_conform_after_sql_casts_exactly_or_refuses(select: str, dtype: str, fits: bool) -> None:
    node = Conform(
        Apply(Input("x"), SqlTransform(f"SELECT {select} AS v FROM source", ""), "g"), Schema.of({"v": dtype}), "group"
    )
    rows = pa.table({"i": [1, 2, 3]})
    if fits:
        table = run(node, x=rows)
        assert table.schema.types == [arrow_type(as_dtype(dtype))]
        assert table.num_rows == 3
    else:
        with pytest.raises(ColumnTypeError, match="group: column 'v'"):
            run(node, x=rows)


def test_conform_gives_a_column_of_nulls_only_its_declared_type(tmp_path: Path) -> None:
    """From rows in memory, from a file, and out of SQL."""
    rows = pa.table({"i": [1, 2], "v": pa.nulls(2)})
    pq.write_table(rows, tmp_path / "f.parquet")
    out_of_sql = Apply(Input("x"), SqlTransform("SELECT i, NULL AS v FROM source", ""), "g")
    for below in (Limit(Input("x"), 2), Scan((str(tmp_path / "f.parquet"),), "parquet"), out_of_sql):
        table = run(Conform(below, Schema.of({"v": "list[string]", "i": "int8"}), "group"), x=rows)
        assert table.schema == pa.schema([("v", pa.large_list(pa.large_string())), ("i", pa.int8())])
        assert table.to_pylist() == [{"v": None, "i": 1}, {"v": None, "i": 2}]


def test_conform_names_the_missing_column() -> None:
    node = Conform(Limit(Input("x"), 1), Schema.of({"a": "int64", "b": "int64"}), "feature group 'g'")
    with pytest.raises(SchemaError, match="feature group 'g': declared column 'b' missing"):
        run(node, x={"a": [1]})


def test_calendar_months_are_no_duration() -> None:
    node = Apply(Input("x"), SqlTransform("SELECT INTERVAL 1 MONTH AS v FROM source", ""), "g")
    with pytest.raises(duckdb.Error, match="TIME-2"):
        run(node, x={"a": [1]})


# Transforms


def test_sql_runs_inside_the_query_with_ctes_comments_and_order() -> None:
    query = """WITH source AS (SELECT * FROM source WHERE a > 1), t AS (SELECT a * 2 AS "Twice it", b FROM source)
    SELECT * FROM t ORDER BY b DESC -- the end;"""
    table = run(Apply(Input("x"), SqlTransform(query, ""), "g"), x={"a": [1, 2, 3, 4], "b": ["p", "q", "s", "r"]})
    assert table.to_pydict() == {"Twice it": [6, 8, 4], "b": ["s", "r", "q"]}


def test_two_transforms_in_one_plan_each_see_their_own_source() -> None:
    first = Apply(Input("x"), sql_transform("SELECT a + 1 AS a FROM source"), "g")
    second = Apply(first, sql_transform("SELECT a * 10 AS a FROM source"), "g")
    other = Apply(Input("y"), sql_transform("SELECT a FROM source;"), "h")
    assert run(Concat((second, other)), x={"a": [1]}, y={"a": [7]}).to_pydict() == {"a": [20, 7]}


def test_sql_that_cannot_be_a_view_or_has_columns_by_case_still_runs() -> None:
    pivot = SqlTransform("PIVOT source ON k USING sum(v)", "")
    assert run(Apply(Input("x"), pivot, "g"), x={"k": ["a", "b"], "v": [1, 2]}).num_rows == 1
    case = SqlTransform('SELECT 1 AS "A", 2 AS "a" FROM source', "")
    assert run(Apply(Input("x"), case, "g"), x={"k": [1]}).to_pydict() == {"A": [1], "a": [2]}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_csv('https://example.invalid/x.csv')",
        "SELECT * FROM held",
        "SELECT * FROM source; COPY source TO '{folder}/out.csv'",
        "COPY source TO '{source}'",
        "SELECT 1) AS x; ATTACH '{folder}/x.db'; SELECT * FROM (SELECT 1",
        "SET enable_external_access = true",
        "SELECT nonsense FROM source",
        "SELECT CAST(a AS DATE) FROM source",
    ],
)
def test_sql_reaches_no_other_file_no_network_and_no_python(tmp_path: Path, query: str) -> None:
    """A transform that tries is an error, lazily or not, and nothing was written."""
    held = pa.table({"a": [1]})
    secret, file = tmp_path / "secret.csv", tmp_path / "source.csv"
    secret.write_text("a\n1\n")
    file.write_text("a\nx\n")
    query = query.format(secret=secret, folder=tmp_path, source=file)
    with pytest.raises(TransformError, match="feature group 'g'"):
        run(Apply(Scan((str(file),), "csv"), SqlTransform(query, ""), "g"))
    assert {path.name for path in tmp_path.iterdir()} == {"secret.csv", "source.csv"}
    assert file.read_text() == "a\nx\n"
    assert held.num_rows == 1


def test_python_transforms_run_on_the_rows(tmp_path: Path) -> None:
    def double(df: pl.LazyFrame) -> pl.LazyFrame:
        return df.with_columns(pl.col("a") * 2)

    def broken(df: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("no luck")

    file = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), file)
    scan = Scan((str(file),), "parquet")
    assert run(Number(Apply(scan, python_transform(double), "g"))).to_pydict() == {"a": [2, 4], "__sequence": [0, 1]}
    with pytest.raises(TransformError, match="no luck"):
        run(Apply(scan, python_transform(broken), "g"))


# The point-in-time join

HISTORY = pa.table(
    {
        "k": ["a", "a", "a", "a", None, "b"],
        "event": times(10, 20, 20, 20, 5, 10),
        "created": times(11, 50, None, 50, 5, 10),
        "v": pa.array([1, 2, 3, None, 9, 7], pa.int32()),
        "w": [1.0, math.nan, 3.0, 4.0, 9.0, 7.0],
        "__sequence": [0, 3, 1, 2, 4, 5],
    }
)


def join(**changes: Any) -> GroupJoin:
    fields: dict[str, Any] = {
        "group": "g",
        "version": "1.0.0",
        "rows": Input("g"),
        "keys": (("user", "k"),),
        "event_time": "event",
        "created_time": "created",
        "ttl": None,
        "exact_matches": True,
        "outputs": (Output("v", "v", as_dtype("int32")), Output("w", "other w", as_dtype("float64"))),
    }
    return GroupJoin(**{**fields, **changes})


def ask(spine: list[tuple[Any, float | None]], *joins: GroupJoin, as_known: bool = False, **inputs: Any) -> pa.Table:
    rows = pa.table(
        {"user": pa.array([key for key, _ in spine], pa.string()), "t": times(*(time for _, time in spine))}
    )
    node = PointInTimeJoin(Input("spine"), "t", joins or (join(),), as_known)
    return run(node, **{"spine": rows, "g": HISTORY, **inputs})


def test_pit_one_row_per_spine_row_in_order_with_ties_by_created_then_sequence() -> None:
    """PIT-1 to PIT-4: duplicates stay, nulls match nothing, the chosen row is taken whole."""
    spine: list[tuple[Any, float | None]] = [
        ("a", 25), ("zz", 25), ("a", 10), ("a", 9.999999), (None, 25), ("a", None), ("a", 25), ("b", 10),
    ]  # fmt: skip
    table = ask(spine)
    assert table.column("v").to_pylist() == [2, None, 1, None, None, None, 2, 7]
    assert [repr(value) for value in table.column("other w").to_pylist()] == [
        "nan", "None", "1.0", "None", "None", "None", "nan", "7.0",
    ]  # fmt: skip
    assert table.schema == pa.schema([("v", pa.int32()), ("other w", pa.float64())])


def test_pit_whole_row_is_taken_its_nulls_included() -> None:
    rows = pa.table({"k": ["a", "a"], "event": times(1, 2), "v": [1, None], "w": [1.0, 2.0], "__sequence": [0, 1]})
    table = ask([("a", 3)], join(created_time=None), g=rows)
    assert table.to_pylist() == [{"v": None, "other w": 2.0}]


def test_pit_ttl_is_inclusive_and_nulls_the_value_not_the_row() -> None:
    table = ask([("a", 30), ("a", 30.000001), ("b", 10), ("b", 21)], join(ttl=at(10)))
    assert table.column("v").to_pylist() == [2, None, 7, None]


def test_pit_exact_matches_off_is_strictly_before() -> None:
    strict = join(exact_matches=False)
    assert ask([("a", 20), ("a", 20.000001), ("a", 10)], strict).column("v").to_pylist() == [1, 2, None]


def test_pit_as_known_hides_rows_that_were_created_later() -> None:
    """PIT-5: a null created time was always known; the newest of what was known answers."""
    spine: list[tuple[Any, float | None]] = [("a", 10), ("a", 11), ("a", 20), ("a", 49), ("a", 50), ("b", 10)]
    assert ask(spine, as_known=True).column("v").to_pylist() == [None, 1, 3, 3, 2, 7]
    assert ask(spine).column("v").to_pylist() == [1, 1, 2, 2, 2, 7]


def test_pit_defaults_stand_in_wherever_a_null_would_be() -> None:
    default = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    outputs = (
        Output("v", "v", as_dtype("int32"), -1),
        Output("event", "seen", as_dtype("datetime"), default),
        Output("l", "l", as_dtype("list[float64]"), [0, 1.5]),
        Output("s", "s", as_dtype("string"), "it's; --"),
    )
    rows = HISTORY.append_column("l", pa.array([[1.0], None, None, None, None, None], pa.large_list(pa.float64())))
    rows = rows.append_column("s", pa.array([None] * 6, pa.large_string()))
    table = ask([("a", 10), ("zz", 10)], join(outputs=outputs), g=rows)
    assert table.to_pylist() == [
        {"v": 1, "seen": dt.datetime(1970, 1, 1, 0, 0, 10, tzinfo=dt.UTC), "l": [1.0], "s": "it's; --"},
        {"v": -1, "seen": default, "l": [0.0, 1.5], "s": "it's; --"},
    ]
    with pytest.raises(ColumnTypeError, match="default of g:v"):
        ask([("a", 10)], join(outputs=(Output("v", "v", as_dtype("int32"), "x"),)))


def test_pit_composite_keys_never_run_together_and_groups_join_independently() -> None:
    """PIT-4 and PIT-6: ("1", "11") is not ("11", "1"); two groups by other columns, one request."""
    spine = pa.table({"x": ["1", "11"], "y": ["11", "1"], "n": pa.array([5, 6], pa.int64()), "t": times(9, 9)})
    one = pa.table({"p": ["1", "11"], "q": ["11", "1"], "event": times(1, 1), "V": [1, 2], "__sequence": [0, 1]})
    two = pa.table({"m": pa.array([6], pa.int16()), "event": times(2), "v": ["six"], "__sequence": [0]})
    joins = (
        join(rows=Input("one"), keys=(("x", "p"), ("y", "q")), created_time=None,
             outputs=(Output("V", "A", as_dtype("int64")),)),
        join(rows=Input("two"), keys=(("n", "m"),), created_time=None, outputs=(Output("v", "a", as_dtype("string")),)),
    )  # fmt: skip
    table = run(PointInTimeJoin(Input("spine"), "t", joins, False), spine=spine, one=one, two=two)
    assert table.to_pydict() == {"A": [1, 2], "a": [None, "six"]}


@pytest.mark.parametrize("dtype", [pa.large_binary(), pa.large_string()])
def test_pit_composite_keys_of_zero_bytes_are_their_own(dtype: pa.DataType) -> None:
    """PIT-4: `("", "\\0")`, `("\\0", "")` and `("", "\\0\\0")` are three entity keys."""
    texts = ["", "\0", "\0\0", "a", "a\0"]
    pairs = [(left, right) for left in texts for right in texts]
    cells = [pa.array([pair[place].encode() for pair in pairs], pa.large_binary()).cast(dtype) for place in (0, 1)]
    spine = pa.table({"x": cells[0], "y": cells[1], "t": times(*[9] * len(pairs))})
    rows = {"p": cells[0], "q": cells[1], "event": times(*[1] * len(pairs)), "v": list(range(len(pairs)))}
    group = pa.table({**rows, "__sequence": list(range(len(pairs)))})
    one = join(keys=(("x", "p"), ("y", "q")), created_time=None, outputs=(Output("v", "v", as_dtype("int64")),))
    node = PointInTimeJoin(Input("spine"), "t", (one,), False)
    assert run(node, spine=spine, g=group).column("v").to_pylist() == list(range(len(pairs)))
    odd = group.filter(pa.array([index % 2 == 1 for index in range(len(pairs))]))
    expected = [index if index % 2 else None for index in range(len(pairs))]
    assert run(node, spine=spine, g=odd).column("v").to_pylist() == expected


@pytest.mark.parametrize("rows", [1, 200])
def test_pit_keeps_the_sign_of_zero(rows: int) -> None:
    """Of few rows and of many, floats of both widths and inside lists: DuckDB's aggregates would lose it."""
    history = pa.table(
        {
            "k": ["a"] * 2,
            "event": times(1, 1),
            "v": pa.array([1.0, -0.0], pa.float32()),
            "w": [1.0, -0.0],
            "l": [[1.0], [-0.0]],
            "__sequence": [0, 1],
        }
    )
    outputs = tuple(Output(n, n, as_dtype(t)) for n, t in [("v", "float32"), ("w", "float64"), ("l", "list[float64]")])
    for created in (None, "event"):
        for as_known in (False, True):
            table = ask([("a", 2)] * rows, join(outputs=outputs, created_time=created), as_known=as_known, g=history)
            assert {repr(row) for row in table.to_pylist()} == {"{'v': -0.0, 'w': -0.0, 'l': [-0.0]}"}
    latest = run(Latest(Input("x"), ("k",), "event", None), x=history)
    assert repr(latest.select(["v", "w", "l"]).to_pylist()) == "[{'v': -0.0, 'w': -0.0, 'l': [-0.0]}]"


@pytest.mark.parametrize("as_known", [False, True])
def test_pit_of_no_rows_on_either_side(as_known: bool) -> None:
    assert ask([], as_known=as_known).schema == pa.schema([("v", pa.int32()), ("other w", pa.float64())])
    assert ask([("a", 1)], as_known=as_known, g=HISTORY.slice(0, 0)).to_pylist() == [{"v": None, "other w": None}]


@pytest.mark.parametrize("seed", range(12))
def test_pit_is_what_the_reference_finds_on_random_histories(seed: int) -> None:
    """Late, tied, null and duplicated rows, every option, several groups: cell for cell."""
    dice = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if dice.random() < 0.1 else value

    def history(rows: int) -> pa.Table:
        sequence = dice.sample(range(rows * 3), rows)
        return pa.table(
            {
                "k": pa.array([maybe(dice.choice("abc")) for _ in range(rows)], pa.large_string()),
                "m": pa.array([maybe(dice.randrange(2)) for _ in range(rows)], pa.int32()),
                "event": times(*(maybe(dice.randrange(12)) for _ in range(rows))),
                "created": times(*(maybe(dice.randrange(16)) for _ in range(rows))),
                "v": pa.array([maybe(dice.randrange(100)) for _ in range(rows)], pa.int64()),
                "w": pa.array([maybe(dice.choice([0.5, -0.0, math.inf])) for _ in range(rows)], pa.float64()),
                "__sequence": sequence,
            }
        )

    spine = pa.table(
        {
            "k": pa.array([maybe(dice.choice("abcd")) for _ in range(150)], pa.large_string()),
            "n": pa.array([maybe(dice.randrange(3)) for _ in range(150)], pa.int64()),
            "t": times(*(maybe(dice.randrange(-1, 16)) for _ in range(150))),
        }
    )
    inputs = {"spine": spine, "g0": history(120), "g1": history(60)}
    joins = tuple(
        join(
            rows=Input(f"g{index}"),
            keys=(("k", "k"), ("n", "m")) if index else (("k", "k"),),
            created_time=dice.choice(["created", None]),
            ttl=dice.choice([None, at(1), at(4)]),
            exact_matches=dice.random() < 0.6,
            outputs=(
                Output("v", f"v{index}", as_dtype("int64"), dice.choice([None, 5])),
                Output("w", f"w{index}", as_dtype("float64")),
                Output("event", f"e{index}", as_dtype("datetime")),
            ),
        )
        for index in range(2)
    )
    node = PointInTimeJoin(Input("spine"), "t", joins, as_known=dice.random() < 0.5)
    reference: Engine = create("engines", "reference", {})
    expected = run(node, reference, **inputs)
    assert run(node, **inputs).equals(expected)
    for other in (
        Order(Input("g0"), "event", "created"),
        EntityTimes(Input("g0"), ("k", "m"), "event", at(2), None),
    ):
        assert run(other, **inputs).to_pylist() == run(other, reference, **inputs).to_pylist()
    latest = Latest(Input("g0"), ("m", "k"), "event", "created")
    rows, wanted = run(latest, **inputs).to_pylist(), run(latest, reference, **inputs).to_pylist()
    assert sorted(rows, key=repr) == sorted(wanted, key=repr)


# The engine itself


def test_rows_larger_than_memory_spill_and_leave_nothing_behind(tmp_path: Path) -> None:
    """A sort of several times the memory that the engine may use."""
    folder = tmp_path / "spill"
    file = tmp_path / "f.parquet"
    rows = 1_500_000
    pq.write_table(pa.table({"t": pa.array(range(rows, 0, -1), pa.int64()).cast(TIMESTAMP)}), file)
    wide = SqlTransform(
        "SELECT t, md5(t::VARCHAR) || md5('x' || t::VARCHAR) || md5('y' || t::VARCHAR) AS s FROM source", ""
    )
    ordered = Order(Number(Apply(Scan((str(file),), "parquet"), wide, "g")), "t", None)
    query = """SELECT count(*) AS n, min(len(s)) AS s
    FROM (SELECT *, row_number() OVER () AS r FROM source) WHERE epoch_us(t) = r"""
    check = SqlTransform(query, "")
    table = run(Apply(ordered, check, "g"), DuckDBEngine(memory_limit="120MB", threads=2, temp_directory=str(folder)))
    assert table.to_pydict() == {"n": [rows], "s": [96]}
    assert list(folder.iterdir()) == []


def test_the_descriptor_makes_an_engine_and_loads_no_driver_before() -> None:
    engine = create("engines", "duckdb", {"threads": 1})
    assert isinstance(engine, Engine)
    assert engine.name == DESCRIPTOR.name == "duckdb"
    with pytest.raises(ConfigError):
        create("engines", "duckdb", {"threads": 0})
    code = "import sys, grange.engines.duckdb.descriptor; sys.exit(bool({'duckdb', 'pyarrow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_runs_of_one_engine_share_a_database_and_nothing_in_it(tmp_path: Path) -> None:
    """What a run registers or spools goes with it, and a file that was written anew is read anew."""
    engine = DuckDBEngine()
    path = tmp_path / "a.parquet"
    with ThreadPoolExecutor(4) as pool:
        for start in (0, 1_000):
            pq.write_table(pa.table({"x": range(start, start + 500)}), path)
            node = Number(Concat((Scan((str(path),), "parquet"), Input("rows"))))
            asked = [{"rows": Rows(arrow=pa.table({"x": [number]}))} for number in range(16)]
            for number, found in enumerate(pool.map(lambda rows, node=node: engine.run(node, rows), asked)):
                assert found.arrow.column("x").to_pylist() == [*range(start, start + 500), number]


def test_an_engine_that_is_gone_leaves_no_folder(tmp_path: Path) -> None:
    engine = DuckDBEngine(temp_directory=str(tmp_path / "spill"))
    engine.run(Limit(Input("rows"), 1), {"rows": Rows(arrow=pa.table({"x": [1]}))})
    assert len(list((tmp_path / "spill").iterdir())) == 1
    del engine
    gc.collect()
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_fork_has_a_database_of_its_own() -> None:
    """A process that is forked off after a run answers, and its end leaves the parent's database alone."""
    code = """
import os, sys
import pyarrow as pa
from grange.engines.duckdb.backend import DuckDBEngine
from grange.frames import Rows
from grange.plan.nodes import Input, Limit

engine, rows = DuckDBEngine(), {"rows": Rows(arrow=pa.table({"x": [1, 2]}))}
assert len(engine.run(Limit(Input("rows"), 1), rows)) == 1
child = os.fork()
assert len(engine.run(Limit(Input("rows"), 2), rows)) == 2
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
