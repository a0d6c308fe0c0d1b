"""Bodies of a few kilobytes that are made to cost gigabytes or hours: refused, in no more steps than they are long."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grange.errors import RequestError, TooLargeError
from grange.http import arrow_ipc, parquet
from grange.http.unpacking import MOST_COLUMNS, check_written_out, column_count, written_out

MOST = 1 << 20
STEPS = 40
"""Lines of Python for each byte of a body, at the worst."""
LONG = "x" * 100_000


@contextmanager
def counted(most: int) -> Iterator[None]:
    """Fail as soon as the two readers have run more lines than this."""
    left = most
    before = sys.gettrace()

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        assert left > 0, f"more than {most} steps in {frame.f_code.co_name}"
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename in (parquet.__file__, arrow_ipc.__file__) else None

    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def as_arrow(*tables: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue())


def read_parquet(body: bytes, rows: int = 1_000_000, most: int = MOST) -> pa.Table:
    with counted(10_000 + STEPS * len(body)):
        return parquet.read_table(body, max_rows=rows, max_bytes=most)


def read_arrow(body: bytes, rows: int = 1_000_000, most: int = MOST) -> pa.Table:
    with counted(10_000 + STEPS * len(body)):
        return arrow_ipc.read_table(body, max_rows=rows, max_bytes=most)


PLAIN = pa.table(
    {
        "text": ["a", None, "bcd"],
        "flag": [True, False, None],
        "number": [1, 2, None],
        "real": [0.5, None, 1.5],
        "many": [["a", "b"], [], None],
        "both": [{"x": 1, "y": ["q"]}, None, {"x": None, "y": None}],
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "at": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        "price": pa.array([1, None, 3], pa.decimal128(9, 2)),
        "raw": pa.array([b"ab", b"cd", None], pa.binary(2)),
    }
)


class TestWhatIsTaken:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_dictionary": False},
            {"data_page_version": "2.0", "compression": "zstd"},
            {"row_group_size": 1},
            {"store_schema": False},
            {"store_decimal_as_integer": True},
        ],
    )
    def test_parquet_with_every_kind_of_column(self, options: dict[str, Any]) -> None:
        found = read_parquet(as_parquet(PLAIN, **options))
        assert found.to_pylist() == PLAIN.to_pylist()
        assert found["text"].type == pa.string() and found["many"].type.value_type == pa.string()

    @pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
    def test_arrow_with_every_kind_of_column(self, compression: str | None) -> None:
        found = PLAIN.append_column("named", PLAIN["text"].dictionary_encode())
        found = found.append_column("viewed", PLAIN["text"].cast(pa.string_view()))
        assert read_arrow(as_arrow(found, compression=compression)).equals(found)

    def test_texts_that_are_named_by_number_come_as_texts(self) -> None:
        table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "b": [["x", "x"], None, ["y"]]})
        found = read_parquet(as_parquet(table))
        assert found.schema.types == [pa.string(), pa.list_(pa.string())] and found["a"].to_pylist() == ["x", "y", "x"]


# Parquet, byte by byte


def varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def zigzag(number: int) -> bytes:
    return varint(number << 1)


class TestHeadersOfPages:
    """The header of the first page, replaced by what no writer writes."""

    def body(self, header: bytes) -> bytes:
        table = pa.table({"a": pa.array(np.arange(1000.0))})
        whole = as_parquet(table, use_dictionary=False, compression="none")
        return whole[:4] + header + whole[4 + len(header) :]

    @pytest.mark.parametrize(
        "header",
        [
            b"\x19\xf7" + b"\xff" * 8 + b"\x7f",  # a list of so many doubles
            b"\x19\xf1" + b"\xff" * 8 + b"\x7f",  # of flags
            b"\x19\xf3" + b"\xff" * 8 + b"\x7f",  # of bytes
            b"\x19\xfc" + b"\xff" * 8 + b"\x7f",  # of structures
            b"\x19\xf9" + (b"\xf9" + varint(1 << 60)) * 20,  # of lists of lists
            b"\x18" + b"\xff" * 8 + b"\x7f",  # a text that long
            b"\x1c" * 40,  # structures in one another
            b"\x11" * 200,  # fields without end
            b"\x25" + zigzag(1 << 40) + b"\x15\x00\x00",  # a length of more than 32 bits
            b"\x05" + zigzag(65536 + 2) + b"\x00\x00",  # a field whose number others would cut off
            b"\x25\x00\x15\x00\x00" * 30,  # pages of nothing
        ],
    )
    def test_one_that_no_writer_writes_is_refused(self, header: bytes) -> None:
        with pytest.raises((RequestError, TooLargeError)):
            read_parquet(self.body(header))


class TestParquet:
    def test_a_number_that_is_repeated_is_counted_as_often(self) -> None:
        """A million rows of one number take a few kilobytes a column."""
        column = pa.array(np.zeros(1_000_000))
        body = as_parquet(pa.table({f"c{place}": column for place in range(50)}), compression="zstd")
        assert len(body) < 400_000
        with pytest.raises(TooLargeError):
            read_parquet(body, most=100 * MOST)
        assert read_parquet(body, most=400 * MOST).num_rows == 1_000_000

    def test_nulls_are_counted(self) -> None:
        body = as_parquet(pa.table({f"c{place}": pa.nulls(100_000, pa.int64()) for place in range(50)}))
        assert len(body) < 50_000
        with pytest.raises(TooLargeError):
            read_parquet(body, most=10 * MOST)

    def test_nested_texts_that_are_named_by_number_are_counted_before_they_are_repeated(self) -> None:
        many = pa.ListArray.from_arrays(
            pa.array([0, 100_000], pa.int32()),
            pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array([LONG])),
        )
        for table in (pa.table({"a": many}), pa.table({"a": pa.StructArray.from_arrays([many], ["b"])})):
            body = as_parquet(table)
            before = pa.total_allocated_bytes()
            with pytest.raises(TooLargeError):
                read_parquet(body, most=100 * MOST)
            assert pa.total_allocated_bytes() - before < 10 * MOST

    def test_texts_that_begin_like_the_one_before_are_refused(self) -> None:
        table = pa.table({"a": [LONG] * 1000})
        body = as_parquet(table, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY", compression="none")
        assert len(body) < 400_000
        with pytest.raises(RequestError, match="DELTA_BYTE_ARRAY"):
            read_parquet(body)

    def test_wide_values_of_fixed_length_are_counted(self) -> None:
        column = pa.array([b"x" * 10_000] * 10_000, pa.binary(10_000))
        body = as_parquet(pa.table({"a": column}))
        with pytest.raises(TooLargeError):
            read_parquet(body, most=10 * MOST)

    def test_row_groups_times_columns_are_bounded(self) -> None:
        table = pa.table({f"c{place}": pa.array([0, 0], pa.int8()) for place in range(200)})
        body = as_parquet(table, row_group_size=1, compression="none", write_statistics=False)
        assert read_parquet(body).num_rows == 2
        old = parquet._MOST_CHUNKS
        assert old >= 400
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parquet, "_MOST_CHUNKS", 399)
            with pytest.raises(TooLargeError, match="row groups"):
                read_parquet(body)

    def test_columns_that_lie_upon_one_another_are_refused(self) -> None:
        """The footer says of four columns that all are a fifth, long one: each would be read as long as the file is."""
        small, large = ["small"] * 2000, ["large" * 60] * 2000
        table = pa.table({"a": small, "long": large, **{f"c{place}": small for place in range(4)}})
        body = as_parquet(table, use_dictionary=False, compression="none", write_statistics=False)
        group = pq.ParquetFile(pa.BufferReader(body)).metadata.row_group(0)
        footer = len(body) - 8 - struct.unpack("<I", body[-8:-4])[0]
        end = body[footer:]
        for place in range(2, 6):
            for name in ("data_page_offset", "total_compressed_size"):
                own, long = (zigzag(getattr(group.column(each), name)) for each in (place, 1))
                assert len(own) == len(long) == 3
                end = end.replace(own, long)
        with pytest.raises(RequestError, match="upon one another"):
            read_parquet(body[:footer] + end, most=100 * MOST)

    def test_files_of_writers_that_told_their_lengths_wrong_are_refused(self) -> None:
        for writer, is_old in (
            ("parquet-mr", True),
            ("parquet-mr version 1.2.8 (build x)", True),
            ("Parquet-MR  version 1.0.0", True),
            ("parquet-mr version 1.2.9", False),
            ("parquet-mr version 1.12.3 (build x)", False),
            ("parquet-mr version 2.0.0", False),
            ("parquet-cpp-arrow version 1.0.0", False),
        ):
            folded = " ".join(writer.lower().split())
            assert bool(parquet._OLD_WRITER.match(folded)) is is_old, writer


class TestArrow:
    def test_what_is_named_or_viewed_often_is_counted_as_often(self) -> None:
        named = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array([LONG]))
        wide = pa.DictionaryArray.from_arrays(named.indices, pa.array([LONG.encode()], pa.binary(len(LONG))))
        view = struct.pack("<i4sii", len(LONG), b"xxxx", 0, 0) * 100_000
        viewed = pa.Array.from_buffers(
            pa.string_view(), 100_000, [None, pa.py_buffer(view), pa.py_buffer(LONG.encode())]
        )
        for column in (named, wide, viewed, pa.StructArray.from_arrays([named], ["x"])):
            body = as_arrow(pa.table({"a": column}))
            assert len(body) < 3_000_000
            with pytest.raises(TooLargeError):
                read_arrow(body, most=1000 * MOST)

    def test_nulls_in_no_bytes_are_counted(self) -> None:
        inside = pa.ListArray.from_arrays(pa.array([0, 1 << 30], pa.int32()), pa.nulls(1 << 30))
        for column in (inside, pa.FixedSizeListArray.from_arrays(pa.nulls(1 << 30), 1 << 30)):
            body = as_arrow(pa.table({"a": column}))
            assert len(body) < 2_000
            with pytest.raises(TooLargeError):
                read_arrow(body, most=1000 * MOST)

    def test_layouts_that_cannot_be_stored_are_refused(self) -> None:
        repeated = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), pa.array([1]))
        views = pa.ListViewArray.from_arrays(
            pa.array([0, 0], pa.int32()), pa.array([2, 2], pa.int32()), pa.array([1, 2])
        )
        union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
        for column in (repeated, views, union):
            with pytest.raises(RequestError, match="is not taken"):
                read_arrow(as_arrow(pa.table({"a": column})), rows=0)

    def test_a_dictionary_that_goes_on_is_counted_each_time(self) -> None:
        """Each batch with a dictionary that grew has it whole."""
        words = [LONG, *(str(number) for number in range(200))]
        tables = []
        for count in range(1, len(words)):
            column = pa.DictionaryArray.from_arrays(pa.array([count - 1], pa.int32()), pa.array(words[:count]))
            tables.append(pa.table({"a": column}))
        body = as_arrow(*tables, emit_dictionary_deltas=True)
        assert len(body) < 300_000 and arrow_ipc.measure(body)[1] > 200 * len(LONG)
        with pytest.raises(TooLargeError):
            read_arrow(body, most=10 * MOST)

    def test_batches_are_bounded(self) -> None:
        table = pa.table({"a": pa.array([], pa.int8())})
        (batch,) = pa.table({"a": pa.array([1], pa.int8())}).to_batches()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            for _ in range(10_001):
                writer.write_batch(batch)
        with pytest.raises(TooLargeError, match="record batches"):
            read_arrow(bytes(sink.getvalue()))

    def test_columns_are_bounded_where_they_are_inside_of_others_too(self) -> None:
        inside = pa.struct([(f"c{place}", pa.null()) for place in range(MOST_COLUMNS)])
        for kind in (inside, pa.list_(inside), pa.map_(pa.string(), inside)):
            body = as_arrow(pa.table({"a": pa.nulls(0, kind)}))
            with pytest.raises(TooLargeError, match="columns"):
                read_arrow(body, most=1000 * MOST)
        assert column_count(PLAIN.schema) == len(PLAIN.schema) + 1 + 3 + 2

    def test_a_message_of_an_older_version_says_nothing_beside(self) -> None:
        """In free metadata such a message could say that it is compressed, and be measured as if it were not."""
        table = pa.table({"a": np.zeros(1000)})
        body = as_arrow(table, metadata_version=pa.ipc.MetadataVersion.V4)
        assert read_arrow(body).num_rows == 1000
        (batch,) = table.to_batches()
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
        with pytest.raises(RequestError, match="fourth version"):
            read_arrow(bytes(sink.getvalue()))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["abc", None, "d"]),
        pa.array(["abc", None, "d"]).dictionary_encode(),
        pa.array(["abc", None, "d"], pa.string_view()),
        pa.array([["abc"], None, ["d", "e"]]),
        pa.array([1, None], pa.int8()),
        pa.array([1, 2], pa.int64()).dictionary_encode(),
        pa.array([b"x" * 16], pa.uuid()),
        pa.nulls(3),
    ],
    ids=lambda column: str(column.type),
)
def test_what_is_written_out_is_never_less_than_its_values(column: pa.Array) -> None:
    def bytes_of(value: Any) -> int:
        if isinstance(value, list):
            return 8 + sum(map(bytes_of, value))
        return max(8, len(value) if isinstance(value, str | bytes) else 8)

    least = sum(map(bytes_of, column.to_pylist()))
    assert written_out(column) >= least
    check_written_out(pa.table({"a": column}), 10 * least + 100)
    with pytest.raises(TooLargeError):
        check_written_out(pa.table({"a": column}), least - 1)


# damage

BODIES: list[tuple[Callable[[bytes], pa.Table], bytes]] = [
    *(
        (read_parquet, as_parquet(PLAIN, **options))
        for options in ({}, {"compression": "zstd", "data_page_version": "2.0"}, {"row_group_size": 1})
    ),
    *((read_arrow, as_arrow(PLAIN, compression=compression)) for compression in (None, "zstd")),
    (read_arrow, as_arrow(pa.table({"a": PLAIN["text"].dictionary_encode()}))),
]
WILD = [0, 1, 0x7F, 0x80, 0xF7, 0xF9, 0xFC, 0xFF]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), which=st.integers(0, len(BODIES) - 1))
def test_damaged_bodies_take_no_more_steps_than_they_are_long(data: st.DataObject, which: int) -> None:
    read, body = BODIES[which]
    broken = bytearray(body)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(broken) - 1))
        filling = bytes(data.draw(st.lists(st.sampled_from(WILD) | st.integers(0, 255), min_size=1, max_size=10)))
        broken[place : place + len(filling)] = filling
    with suppress(RequestError, TooLargeError):
        read(bytes(broken))


def test_no_byte_of_a_footer_ends_the_process() -> None:
    """What Arrow says of a single column ends the process where the footer is damaged, so it is never asked."""
    program = """
import sys
from grange.errors import RequestError, TooLargeError
from grange.http.parquet import read_table

body = sys.stdin.buffer.read()
footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
for place in range(footer, len(body)):
    broken = bytearray(body)
    broken[place] = (broken[place] + 1) % 256
    try:
        read_table(bytes(broken), max_rows=1000, max_bytes=1 << 20)
    except (RequestError, TooLargeError):
        pass
print("done")
"""
    body = as_parquet(PLAIN.select(["number", "many"]), store_schema=False)
    done = subprocess.run([sys.executable, "-c", program], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"done\n"), done.stderr.decode()[-500:]
