"""Bodies of the serving routes: JSON, MessagePack and Arrow IPC, in and out."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec

from grange.errors import RequestError
from grange.http.limits import too_nested
from grange.http.messages import ARROW, JSON, MSGPACK

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Form = Literal["json", "msgpack", "arrow"]

_BY_TYPE: Final[dict[str, Form]] = {
    "": "json",
    JSON: "json",
    "text/json": "json",
    "application/x-www-form-urlencoded": "json",  # what curl says when it is told nothing
    MSGPACK: "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    ARROW: "arrow",
}
CONTENT_TYPES: Final[dict[Form, str]] = {"json": JSON, "msgpack": MSGPACK, "arrow": ARROW}


class Body(Generic[T]):
    """Decodes bodies of one shape, checked while they are decoded.

    Args:
        shape: a msgspec struct.
    """

    def __init__(self, shape: type[T]) -> None:
        self._json: Callable[[bytes], T] = msgspec.json.Decoder(shape).decode
        self._msgpack: Callable[[bytes], T] = msgspec.msgpack.Decoder(shape).decode

    def json(self, body: bytes) -> T:
        """From JSON.

        Raises:
            RequestError: it is none, or of another shape; says where.
            TooLargeError: it is nested too deeply.
        """
        return _decoded(self._json, body)

    def msgpack(self, body: bytes) -> T:
        """From MessagePack. Raises what `json` does."""
        return _decoded(self._msgpack, body)


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        what, _, where = text.partition(" - at `")
        raise RequestError(
            f"the request's body is not as it should be: {what}",
            asked_by=where.rstrip("`") or None,
            try_="/docs has the shape",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("the request's body cannot be read", found=str(error)) from error
    except RecursionError as error:
        raise too_nested() from error


@functools.lru_cache(maxsize=64)
def form_of(header: bytes) -> Form:
    """How a body is written, by its header Content-Type; JSON when nothing is said.

    Raises:
        RequestError: none of the three.
    """
    content_type = header.partition(b";")[0].strip().lower().decode("latin-1")
    found = _BY_TYPE.get(content_type)
    if found is None:
        raise RequestError(
            f"a body of type {content_type!r} is not taken here", found=", ".join(dict.fromkeys(CONTENT_TYPES.values()))
        )
    return found


def answer_form(accept: str, asked: Form) -> Form:
    """How the answer is written: the first that the client names and there is; else as the request was."""
    if not accept:
        return asked
    for part in accept.split(","):
        name = part.partition(";")[0].strip().lower()
        if name in _BY_TYPE:
            return _BY_TYPE[name]
        if name in ("*/*", "application/*"):
            return asked
    return "json"


def rows_of_arrow(body: bytes, *, max_rows: int) -> pa.Table:
    """The table of an Arrow IPC stream.

    Raises:
        RequestError: it is none.
        TooLargeError: it has more rows, or unpacks to more bytes, than it may; told before it is unpacked.
    """
    from grange.http.arrow_ipc import read_table

    return read_table(body, max_rows=max_rows)


_JSON: Final = msgspec.json.Encoder()
_MSGPACK: Final = msgspec.msgpack.Encoder()


def encode(value: Any, form: Literal["json", "msgpack"]) -> bytes:
    """Plain data. In JSON, NaN and the infinities are null, binary is base64; in MessagePack they are themselves, and a
    time is the timestamp extension. A decimal and a uuid are text in both, a duration ISO 8601."""
    return _JSON.encode(value) if form == "json" else _MSGPACK.encode(value)


def arrow_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


BATCH_ROWS: Final = 65_536
"""Rows of a record batch that is sent."""


def arrow_chunks(table: pa.Table) -> Iterator[bytes]:
    """A table as an Arrow IPC stream, a record batch at a time."""
    import pyarrow as pa

    written = _Written()
    with pa.ipc.new_stream(pa.PythonFile(written, mode="w"), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            writer.write_batch(batch)
            yield written.taken()
    yield written.taken()


class _Written(io.RawIOBase):
    """What was written since it was last taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """All of it, at once."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
