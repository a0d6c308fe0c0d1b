"""What the polars engine promises beyond the contract that every engine obeys."""

from __future__ import annotations

import gzip
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grange.definitions.sources import FileFormat
from grange.definitions.transforms import python_transform
from grange.engines.polars.backend import PolarsEngine
from grange.engines.polars.descriptor import DESCRIPTOR
from grange.errors import ColumnTypeError, KeyTypeError, RequestError, SchemaError, SourceError, TransformError
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
)
from grange.ports import Engine
from grange.types import Schema, as_dtype
from grange.types.arrow import TIMESTAMP, arrow_type
from grange.types.names import SEQUENCE


def run(node: Node, **inputs: Any) -> pa.Table:
    return PolarsEngine().run(node, {name: Rows.of(rows) for name, rows in inputs.items()}).arrow


def times(*micros: int | None) -> pa.Array:
    return pa.array(micros, pa.int64()).cast(TIMESTAMP)


def scan(file_format: FileFormat, *files: Path, **how: Any) -> Scan:
    schema = Schema.of(how.pop("schema", {}))
    return Scan(tuple(map(str, files)), file_format, schema=schema, **how)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_descriptor_is_light_and_makes_the_engine() -> None:
    """Listing engines loads no driver."""
    assert isinstance(DESCRIPTOR.factory(), Engine)
    code = (
        "import sys, grange.engines.polars.descriptor\n"
        "assert not {'polars', 'numpy', 'pyarrow'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Files


def test_csv_types_of_later_rows_widen_what_the_sample_said(tmp_path: Path) -> None:
    """The sample of 10,000 rows sees integers; one number and one text come later."""
    lines = ["a,b", *["1,2"] * 10_050, "1.5,x"]
    table = run(scan("csv", written(tmp_path / "late.csv", "\n".join(lines))))
    assert table.schema.types == [pa.float64(), pa.large_string()]
    assert table.slice(10_049).to_pylist() == [{"a": 1.0, "b": "2"}, {"a": 1.5, "b": "x"}]


def test_a_lazy_transform_gets_the_widened_rows_too(tmp_path: Path) -> None:
    def doubled(df: pl.LazyFrame) -> pl.LazyFrame:
        return df.select(pl.col("a") * 2)

    path = written(tmp_path / "late.csv", "\n".join(["a", *["1"] * 10_050, "1.5"]))
    table = run(Apply(scan("csv", path), python_transform(doubled), "g"))
    assert table.column("a").to_pylist()[-1] == 3.0


def test_a_limit_reads_the_head_alone(tmp_path: Path) -> None:
    """What lies behind the first rows, even what no reader could read, is not looked at."""
    csv = written(tmp_path / "a.csv", "a\n" + "1\n" * 5_000_000 + "1,2,3\n")
    jsonl = written(tmp_path / "a.jsonl", '{"a": 1}\n' * 3_000_000 + "no json\n")
    for file_format, path in (("csv", csv), ("jsonl", jsonl)):
        assert run(Limit(scan(file_format, path), 2)).column("a").to_pylist() == [1, 1]  # type: ignore[arg-type]
        with pytest.raises(SourceError, match=path.name):
            run(scan(file_format, path))  # type: ignore[arg-type]


def test_a_value_that_is_not_of_its_declared_type_is_named_with_its_row(tmp_path: Path) -> None:
    good, bad = written(tmp_path / "a.csv", "n\n1\n"), written(tmp_path / "b.csv", "n\n2\n\n3.5\n")
    with pytest.raises(ColumnTypeError, match="'n' is declared int64") as caught:
        run(scan("csv", good, bad, schema={"n": "int64"}))
    assert "b.csv" in caught.value.message
    assert caught.value.found is not None
    assert "'3.5'" in caught.value.found


@pytest.mark.parametrize("kind", ["boolean", "decimal(6,2)", "datetime", "date", "uuid"])
def test_declared_text_that_does_not_convert_is_an_error(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "a.csv", "v\nnonsense\n")
    with pytest.raises(ColumnTypeError, match="'v' is declared"):
        run(scan("csv", path, schema={"v": kind}))


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl"])
def test_the_file_that_cannot_be_read_is_named(tmp_path: Path, file_format: FileFormat) -> None:
    good, bad = tmp_path / f"good.{file_format}", tmp_path / f"bad.{file_format}"
    match file_format:
        case "parquet":
            pq.write_table(pa.table({"a": [1]}), good)
        case "csv":
            good.write_text("a\n1\n")
        case _:
            good.write_text('{"a": 1}\n')
    bad.write_bytes(b"a\n\xff\xfe\x00 no such format {,,")
    for wrong in (bad, tmp_path / f"absent.{file_format}"):
        with pytest.raises(SourceError, match=wrong.name):
            run(Conform(scan(file_format, good, wrong), Schema.of({"a": "int64"}), "g"))


def test_gzip_and_names_with_brackets_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("id;v\n007;1\n")
    with gzip.open(tmp_path / "[a]*.jsonl.gz", "wt") as file:
        file.write('{"id": "007", "v": 1}\n')
    pq.write_table(pa.table({"id": ["007"], "v": [1]}), tmp_path / "[a]?.parquet")
    expected = [{"id": "007", "v": 1}]
    declared = {"id": "string"}
    assert run(scan("csv", tmp_path / "a.csv.gz", schema=declared, separator=";")).to_pylist() == expected
    assert run(scan("jsonl", tmp_path / "[a]*.jsonl.gz")).to_pylist() == expected
    assert run(scan("parquet", tmp_path / "[a]?.parquet")).to_pylist() == expected


def test_folder_names_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "day=1" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"a": [1]}), path)
    assert run(scan("parquet", path)).column_names == ["a"]


def test_files_may_lack_columns_and_differ_in_width_and_not_in_kind(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in "abc"]
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), paths[0])
    pq.write_table(pa.table({"b": [True], "a": pa.array([2**40])}), paths[1])
    pq.write_table(pa.table({"a": ["x"]}), paths[2])
    assert run(scan("parquet", *paths[:2])).to_pylist() == [{"a": 1, "b": None}, {"a": 2**40, "b": True}]
    with pytest.raises(SourceError, match=r"(?s)do not fit together.*Int32 in .*a\.parquet and String in .*c\.parquet"):
        run(scan("parquet", *paths))


def test_signed_and_unsigned_64_bit_integers_do_not_meet_in_a_float(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(pa.table({"a": pa.array([2**63 - 1], pa.int64())}), paths[0])
    pq.write_table(pa.table({"a": pa.array([2**64 - 1], pa.uint64())}), paths[1])
    with pytest.raises(SourceError, match="do not fit together"):
        run(scan("parquet", *paths))


@pytest.mark.parametrize("kind", [pa.uuid(), pa.binary(16)])
def test_uuids_of_sixteen_bytes_become_their_text(tmp_path: Path, kind: pa.DataType) -> None:
    value = uuid.UUID("0e8bdd5c-6a1c-4c69-9a6f-3d1d9b1e9b5a")
    pq.write_table(pa.table({"id": pa.array([value.bytes, None], kind)}), tmp_path / "a.parquet")
    table = run(Conform(scan("parquet", tmp_path / "a.parquet"), Schema.of({"id": "uuid"}), "g"))
    assert table.column("id").to_pylist() == [str(value), None]


def test_uuid_text_becomes_canonical_and_other_text_is_an_error() -> None:
    value = "0e8bdd5c-6a1c-4c69-9a6f-3d1d9b1e9b5a"
    node = Conform(Input("rows"), Schema.of({"id": "uuid"}), "g")
    for texts in ([value, None], [value.upper(), None], [f"{{{value}}}", None]):
        assert run(node, rows=pl.DataFrame({"id": texts})).column("id").to_pylist() == [value, None]
    with pytest.raises(ColumnTypeError, match="'id'"):
        run(node, rows=pl.DataFrame({"id": [value, "no-uuid"]}))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"speed": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match="'sped'") as caught:
        run(scan("parquet", tmp_path / "a.parquet", columns=("sped",)))
    assert caught.value.closest == ("speed",)


def test_an_input_that_was_not_handed_in_is_an_error() -> None:
    with pytest.raises(RequestError, match="'spine'"):
        run(Input("spine"))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2026-01-01T00:00:00Z", None, "2026-01-01 00:00:00.000001"], [0, None, 1]),
        (["2026-01-01T01:00:00+01:00", "2026-01-01"], [0, 0]),
        (["1969-12-31T23:59:59.999999"], [-1767225600_000_001]),
    ],
)
def test_text_becomes_times_fast_or_slow_and_equal(texts: list[str | None], expected: list[int | None]) -> None:
    """Plain UTC text is parsed at once, all other ISO 8601 one by one (TIME-1)."""
    year = 1767225600_000_000
    table = run(Conform(Input("rows"), Schema.of({"t": "datetime"}), "g"), rows=pl.DataFrame({"t": texts}))
    assert table.schema.types == [TIMESTAMP]
    found = table.column("t").cast(pa.int64()).to_pylist()
    assert found == [None if micros is None else year + micros for micros in expected]


@pytest.mark.parametrize("text", ["2026-02-30T00:00:00Z", "2026-01-01T25:00:00", "01/02/2026", ""])
def test_text_that_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ColumnTypeError, match="'t' is declared datetime"):
        run(Conform(Input("rows"), Schema.of({"t": "datetime"}), "g"), rows=pl.DataFrame({"t": [text]}))


# Transforms


def test_a_lazy_transform_reads_only_the_columns_that_it_uses(tmp_path: Path) -> None:
    """The column it leaves alone cannot be read at all: its pages are broken."""
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"good": pa.array(np.arange(1000)), "bad": pa.array(np.arange(1000))}), path, use_dictionary=False
    )
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 60] = b"\xff" * 60
    path.write_bytes(data)

    def lazy(df: pl.LazyFrame) -> pl.LazyFrame:
        return df.select(pl.col("good") + 1)

    def eager(df: pl.DataFrame) -> pl.DataFrame:
        return df.select(pl.col("good") + 1)

    assert run(Apply(scan("parquet", path), python_transform(lazy), "g")).column("good")[9].as_py() == 10
    with pytest.raises(SourceError, match=r"a\.parquet"):
        run(Apply(scan("parquet", path), python_transform(eager), "g"))


def _raises(df: pl.LazyFrame) -> pl.LazyFrame:
    raise KeyError("mine")


def _fails_late(df: pl.LazyFrame) -> pl.LazyFrame:
    return df.select(pl.col("a").str.to_integer(strict=True))


@pytest.mark.parametrize("function", [_raises, _fails_late])
def test_a_lazy_transform_that_fails_is_at_fault_itself(
    tmp_path: Path, function: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> None:
    path = written(tmp_path / "a.csv", "a\nx\n")
    with pytest.raises(TransformError, match=function.__name__):
        run(Apply(scan("csv", path), python_transform(function), "g"))


def test_a_lazy_transform_over_a_broken_file_is_not_at_fault(tmp_path: Path) -> None:
    def lazy(df: pl.LazyFrame) -> pl.LazyFrame:
        return df

    path = written(tmp_path / "a.csv", "a,b\n1,2\n1,2,3\n")
    with pytest.raises(SourceError, match=r"a\.csv"):
        run(Apply(scan("csv", path), python_transform(lazy), "g"))


# Order of rows


def test_numbers_are_those_of_the_rows_whatever_is_asked_afterwards(tmp_path: Path) -> None:
    """A filter or a limit above `Number` does not renumber."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": pa.array(np.arange(500)), "t": times(*range(500))}), path, row_group_size=50)
    numbered = Number(scan("parquet", path), start=1 << 40)
    late = run(Between(numbered, "t", 300, 303))
    assert late.column(SEQUENCE).to_pylist() == [(1 << 40) + row for row in (300, 301, 302)]
    assert run(Between(numbered, SEQUENCE, (1 << 40) + 7, (1 << 40) + 9)).column("a").to_pylist() == [7, 8]
    assert run(Limit(numbered, 2)).column(SEQUENCE).to_pylist() == [1 << 40, (1 << 40) + 1]


# The point-in-time join


def group(
    rows: Node, outputs: dict[str, str], *, keys: dict[str, str] | None = None, default: object = None, **how: Any
) -> GroupJoin:
    settings: dict[str, Any] = {"created_time": None, "ttl": None, "exact_matches": True} | how
    return GroupJoin(
        "g",
        "1.0.0",
        rows,
        tuple((keys or {"k": "k"}).items()),
        "t",
        outputs=tuple(Output(name, f"g__{name}", as_dtype(kind), default) for name, kind in outputs.items()),
        **settings,
    )


def stored(path: Path, **columns: Any) -> Path:
    count = len(next(iter(columns.values())))
    pq.write_table(pa.table({**columns, SEQUENCE: pa.array(range(count), pa.int64())}), path, row_group_size=10)
    return path


def test_only_the_rows_of_the_answer_are_read(tmp_path: Path) -> None:
    """Feature pages that no spine row sees are not touched: here they are broken."""
    count = 20_000
    path = tmp_path / "data.parquet"
    pq.write_table(
        pa.table(
            {
                "k": pa.array([1] * count),
                "t": times(*range(count)),
                "v": pa.array(np.arange(count) * 1.5),
                SEQUENCE: pa.array(range(count)),
            }
        ),
        path,
        row_group_size=1000,
        use_dictionary=False,
    )
    column = pq.ParquetFile(path).metadata.row_group(2).column(2)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 60] = b"\xff" * 60
    path.write_bytes(data)
    join = PointInTimeJoin(
        Input("spine"), "at", (group(scan("parquet", path, ordered=True), {"v": "float64"}),), as_known=False
    )
    late = run(join, spine=pa.table({"k": [1, 1], "at": times(15_000, 15_007)}))
    assert late.column("g__v").to_pylist() == [22_500.0, 22_510.5]
    with pytest.raises(SourceError, match=r"data\.parquet"):
        run(join, spine=pa.table({"k": [1, 1], "at": times(2_500, 15_007)}))


@pytest.mark.parametrize(
    ("kind", "values", "default"),
    [
        ("int8", [1, None, 3], 9),
        ("uint64", [1, None, 2**64 - 1], 2**64 - 2),
        ("string", ["a", None, ""], "?"),
        ("boolean", [True, None, False], True),
        ("binary", [b"a", None, b""], b"?"),
        ("list[float32]", [[1.0], None, []], [0.5]),
        ("struct{x:int64}", [{"x": 1}, None, {"x": None}], {"x": 7}),
    ],
)
def test_every_type_keeps_its_type_its_nulls_and_its_default(
    tmp_path: Path, kind: str, values: list[Any], default: object
) -> None:
    """PIT-7 and ONL-5, for rows that are found, found null, and not found."""
    dtype = as_dtype(kind)
    path = stored(
        tmp_path / "a.parquet", k=pa.array([1, 2, 3]), t=times(0, 1, 2), v=pa.array(values, arrow_type(dtype))
    )
    spine = pa.table({"k": [3, 2, 1, 4], "at": times(5, 5, 5, 5)})
    for standin in (None, default):
        join = group(scan("parquet", path, ordered=True), {"v": kind}, default=standin)
        table = run(PointInTimeJoin(Input("spine"), "at", (join,), as_known=False), spine=spine)
        assert table.schema.types == [arrow_type(dtype)]
        assert table.column(0).to_pylist() == [values[2], standin, values[0], standin]
    nobody = run(
        PointInTimeJoin(Input("spine"), "at", (join,), as_known=False), spine=pa.table({"k": [7], "at": times(5)})
    )
    assert (nobody.schema.types, nobody.column(0).to_pylist()) == ([arrow_type(dtype)], [default])


def test_a_version_and_the_rows_pushed_since_are_one_history(tmp_path: Path) -> None:
    """Neither part's order is the whole's: the sequence decides ties across both (PIT-3)."""
    version = stored(tmp_path / "a.parquet", k=pa.array(["a", "a"]), t=times(5, 9), v=pa.array([1.0, 2.0]))
    pushed = pa.table({"k": ["a", "a"], "t": times(9, 3), "v": [3.0, 4.0], SEQUENCE: [1 << 40, (1 << 40) + 1]})
    rows = Concat((scan("parquet", version, ordered=True), Input("pushed", ("k", "t", "v", SEQUENCE))))
    join = PointInTimeJoin(Input("spine"), "at", (group(rows, {"v": "float64"}),), as_known=False)
    spine = pl.DataFrame({"k": ["a"] * 4, "at": [2, 4, 8, 9]}).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    assert run(join, spine=spine, pushed=pushed).column("g__v").to_pylist() == [None, 4.0, 1.0, 3.0]


def test_groups_of_other_keys_and_the_same_group_twice_join_in_one_request(tmp_path: Path) -> None:
    """Column names of the spine and of the group are independent (PIT-6)."""
    path = stored(tmp_path / "a.parquet", id=pa.array(["x", "y"]), t=times(0, 0), v=pa.array([1, 2]))
    rows = scan("parquet", path, ordered=True)
    ends = [
        GroupJoin(
            "airports", "1.0.0", rows, ((f"{end}_id", "id"),), "t", None, None, True,
            (Output("v", f"{end}__v", as_dtype("int64")), Output("v", f"{end}__again", as_dtype("int64"))),
        )
        for end in ("origin", "destination")
    ]  # fmt: skip
    spine = pa.table({"origin_id": ["x", "y"], "destination_id": ["y", None], "at": times(1, 1)})
    table = run(PointInTimeJoin(Input("spine"), "at", tuple(ends), as_known=False), spine=spine)
    assert table.to_pydict() == {
        "origin__v": [1, 2], "origin__again": [1, 2], "destination__v": [2, None], "destination__again": [2, None],
    }  # fmt: skip


def test_rows_that_are_computed_join_as_files_do(tmp_path: Path) -> None:
    """A node that is no plain scan is run once, and its order is believed only when it was sorted."""
    path = stored(tmp_path / "a.parquet", k=pa.array([1, 1, 1]), t=times(9, 3, 6), v=pa.array([1, 2, 3]))
    for rows in (
        Order(scan("parquet", path), "t", None),
        Limit(scan("parquet", path), 10),
        Between(scan("parquet", path), "t", 0, 100),
    ):
        join = PointInTimeJoin(Input("spine"), "at", (group(rows, {"v": "int64"}),), as_known=False)
        found = run(join, spine=pa.table({"k": [1] * 4, "at": times(2, 3, 8, 10)}))
        assert found.column(0).to_pylist() == [None, 2, 3, 1]


def test_a_join_without_groups_has_the_spine_s_rows_and_no_columns() -> None:
    node = PointInTimeJoin(Input("spine"), "at", (), as_known=False)
    answer = PolarsEngine().run(node, {"spine": Rows.of({"k": [1, 2], "at": times(0, 0)})})
    assert (len(answer), answer.column_names) == (2, [])


def test_keys_of_another_family_are_an_error_that_names_both(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.parquet", id=pa.array([7]), t=times(0), v=pa.array([1]))
    join = group(scan("parquet", path, ordered=True), {"v": "int64"}, keys={"user": "id"})
    with pytest.raises(KeyTypeError, match="'user' is string and 'id' is integer"):
        run(
            PointInTimeJoin(Input("spine"), "at", (join,), as_known=False),
            spine=pa.table({"user": ["007"], "at": times(1)}),
        )


def test_one_engine_serves_many_threads(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.parquet", k=pa.array([1, 2]), t=times(0, 0), v=pa.array([10, 20]))
    rows = scan("parquet", path, ordered=True)
    node = PointInTimeJoin(Input("spine"), "at", (group(rows, {"v": "int64"}),), as_known=False)
    engine = PolarsEngine()

    def ask(key: int) -> Any:
        spine = Rows.of({"k": [key], "at": times(1)})
        return engine.run(node, {"spine": spine}).arrow.column(0).to_pylist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, [1, 2, 3] * 10)) == [[10], [20], [None]] * 10


def test_latest_keeps_whole_rows_in_their_types() -> None:
    rows = pa.table(
        {
            "k": ["a", "b", "a", None],
            "t": times(5, 1, 5, 9),
            "c": times(3, None, None, 0),
            "v": pa.array([1, None, 3, 4], pa.int8()),
            SEQUENCE: [0, 1, 2, 3],
        }
    )
    table = run(Latest(Input("rows"), ("k",), "t", "c"), rows=rows)
    assert {row["k"]: row["v"] for row in table.to_pylist()} == {"a": 1, "b": None}
    assert table.schema.field("v").type == pa.int8()


# One request


def _joined(files: Scan) -> PointInTimeJoin:
    outputs = tuple(Output(name, name, as_dtype(kind)) for name, kind in (("at", "datetime"), ("amount", "int64")))
    join = GroupJoin("g", "1.0.0", files, (("user", "user"),), "at", None, None, True, outputs)
    return PointInTimeJoin(Input("spine"), "at", (join,), as_known=False)


def test_a_request_reads_the_rows_of_a_made_spine_once_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"user": [2, 1, 2, None], "at": times(1, 2, 3, 4), "amount": [10, 20, None, 40]})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=1)
    files = scan("parquet", tmp_path / "rows.parquet", ordered=True)
    spine = EntityTimes(files, ("user",), "at", None, None)
    alone, together = PolarsEngine(), PolarsEngine().for_one_request()
    made = alone.run(spine, {})
    expected = alone.run(_joined(files), {"spine": made}).arrow
    assert expected.to_pydict()["amount"] == [20, 10, None]

    assert together.run(spine, {}).arrow == made.arrow
    read: set[str] = set()
    collect = pl.LazyFrame.collect

    def noted(frame: pl.LazyFrame, **how: Any) -> pl.DataFrame:
        read.update(frame.collect_schema().names())
        return collect(frame, **how)

    monkeypatch.setattr(pl.LazyFrame, "collect", noted)
    assert together.run(_joined(files), {"spine": made}).arrow == expected
    assert "amount" in read and "user" not in read
    assert together.run(_joined(files), {"spine": made}).arrow == expected
    assert "user" in read  # held no more
