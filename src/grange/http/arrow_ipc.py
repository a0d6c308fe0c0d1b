"""Arrow IPC streams from strangers: what they unpack to is known before anything is unpacked.

A record batch says in its metadata how many rows it has, and before each compressed buffer how long that will be. Both
are read here from the bytes as they came, so that a few kilobytes cannot become gigabytes.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, Final

from grange.errors import RequestError, TooLargeError
from grange.http.unpacking import check_columns, check_written_out, column_count, too_large

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES: Final = 1 << 30
"""What one stream may unpack to."""
_MOST_MESSAGES: Final = 10_000
"""Record batches and dictionaries of one stream: each costs a look, whatever is in it."""
_RECORD_BATCH: Final = 3
_DICTIONARY_BATCH: Final = 2
_VERSION_5: Final = 4
"""Since this version a batch says itself whether it is compressed; before, some said so in free metadata."""
_CONTINUATION: Final = 0xFFFFFFFF


def read_table(body: bytes, *, max_rows: int, max_bytes: int = MAX_BYTES) -> pa.Table:
    """The table of an Arrow IPC stream.

    Args:
        body: the stream.
        max_rows: rows at most; 0 is no limit.
        max_bytes: bytes at most that it may unpack to.

    Raises:
        RequestError: it is no such stream.
        TooLargeError: it is too large.
    """
    import pyarrow as pa

    try:
        rows, size = measure(body)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise _unreadable(str(error)) from error
    if max_rows and rows > max_rows:
        raise TooLargeError(f"one request may have {max_rows:,} rows", found=f"{rows:,}", details={"limit": max_rows})
    if size > max_bytes:
        raise too_large(size, max_bytes)
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            check_columns(column_count(reader.schema))
            table = reader.read_all()
        table.validate(full=True)
        check_written_out(table, max_bytes)
    except (RequestError, TooLargeError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return table


def measure(body: bytes) -> tuple[int, int]:
    """(rows, bytes when unpacked) of all record batches of a stream, by what they say themselves.

    Raises:
        struct.error, ValueError: it is no stream.
    """
    rows = size = place = dictionaries = 0
    for count in itertools.count():
        if place >= len(body):
            break
        if count > _MOST_MESSAGES:
            raise TooLargeError(
                f"a stream may have {_MOST_MESSAGES:,} record batches", found="more", try_="write it with larger ones"
            )
        (length,) = struct.unpack_from("<I", body, place)
        place += 4
        if length == _CONTINUATION:
            (length,) = struct.unpack_from("<I", body, place)
            place += 4
        if length == 0:
            break
        message = _Table.root(body[place : place + length])
        place += length
        if message.scalar(0, "<h", 0) < _VERSION_5 and message.has(4):
            raise ValueError("a message of the fourth version with metadata of its own, which may say anything")
        body_length = message.scalar(3, "<q", 0)
        if not 0 <= body_length <= len(body) - place:
            raise ValueError("a message that is longer than its stream")
        kind = message.scalar(1, "<B", 0)
        if kind == _RECORD_BATCH:
            batch = message.table(2)
            rows += max(0, batch.scalar(0, "<q", 0))
            size += _unpacked(batch, body, place, body_length)
        elif kind == _DICTIONARY_BATCH:
            batch = message.table(2)
            dictionaries += _unpacked(batch.table(1), body, place, body_length)
            # one that goes on from those before it is made anew, of all of them
            size += dictionaries if batch.scalar(2, "<B", 0) else body_length
        place += body_length
    return rows, size + dictionaries


def _unpacked(batch: _Table, body: bytes, start: int, length: int) -> int:
    """What the buffers of a record batch come to."""
    if not batch.has(3):
        return length
    size = 0
    for offset, packed in batch.pairs(2):
        if not 0 <= offset <= offset + packed <= length:
            raise ValueError("a buffer outside its message")
        if packed >= 8:
            (said,) = struct.unpack_from("<q", body, start + offset)
            size += packed if said < 0 else said  # -1: this one is not compressed
    return size


class _Table:
    """A table of a flatbuffer: fields by number, through its vtable."""

    __slots__ = ("_data", "_place", "_vtable")

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place
        (back,) = struct.unpack_from("<i", data, place)
        self._vtable = place - back
        if not 0 <= self._vtable <= len(data) - 4:
            raise ValueError("a vtable outside its message")

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _field(self, number: int) -> int:
        """Where a field is; 0 when it is not there."""
        (size,) = struct.unpack_from("<H", self._data, self._vtable)
        entry = 4 + 2 * number
        if entry >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + entry)
        return self._place + offset if offset else 0

    def has(self, number: int) -> bool:
        return self._field(number) != 0

    def scalar(self, number: int, form: str, default: int) -> int:
        place = self._field(number)
        return int(struct.unpack_from(form, self._data, place)[0]) if place else default

    def _reference(self, number: int) -> int:
        place = self._field(number)
        if not place:
            raise ValueError("a message lacks a part")
        return place + int(struct.unpack_from("<I", self._data, place)[0])

    def table(self, number: int) -> _Table:
        return _Table(self._data, self._reference(number))

    def pairs(self, number: int) -> list[Any]:
        """A vector of pairs of 64-bit integers."""
        place = self._reference(number)
        (count,) = struct.unpack_from("<I", self._data, place)
        if count * 16 > len(self._data) - place:
            raise ValueError("a vector that is longer than its message")
        return list(struct.iter_unpack("<qq", self._data[place + 4 : place + 4 + 16 * count]))


def _unreadable(reason: str) -> RequestError:
    return RequestError("the body is no Arrow IPC stream", found=reason, try_="send what pyarrow.ipc.new_stream writes")
