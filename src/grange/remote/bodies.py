"""Bodies: plain data as JSON or MessagePack, tables as Arrow IPC, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from grange.errors import CorruptStoreError
from grange.remote.messages import Response
from grange.types.time import Moment, isoformat, to_utc

if TYPE_CHECKING:
    import pyarrow as pa

_MSGPACK: Final = msgspec.msgpack.Encoder(enc_hook=lambda value: _other(value))
_JSON: Final = msgspec.json.Encoder(enc_hook=lambda value: _other(value))


def _other(value: Any) -> Any:
    """What the formats have no word for."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):  # a scalar of NumPy
        return value.item()
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be sent to a server")


def as_json(data: Any) -> bytes:
    """Plain data as JSON: times as ISO 8601 text, binary as base64, decimals and uuids as text."""
    return _JSON.encode(data)


def as_msgpack(data: Any) -> bytes:
    """Plain data as MessagePack."""
    return _MSGPACK.encode(data)


def from_json(response: Response) -> Any:
    """An answer's data.

    Raises:
        CorruptStoreError: it is no JSON.
    """
    return _read(msgspec.json.decode, response, "JSON")


def from_msgpack(response: Response) -> Any:
    """An answer's data.

    Raises:
        CorruptStoreError: it is no MessagePack.
    """
    return _read(msgspec.msgpack.decode, response, "MessagePack")


def _read(decode: Any, response: Response, name: str) -> Any:
    try:
        return decode(response.body)
    except msgspec.DecodeError as error:
        raise CorruptStoreError(f"the server's answer is no {name}", found=str(error)) from error


def as_arrow(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def from_arrow(response: Response) -> pa.Table:
    """The table of an Arrow IPC stream.

    Raises:
        CorruptStoreError: it is none, or ends before its end.
    """
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.py_buffer(response.body)) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise CorruptStoreError("the server's answer is no Arrow stream", found=str(error)[:200]) from error


def moment(value: Moment | None, what: str) -> str | None:
    """A time as it is sent: ISO 8601 in UTC.

    Raises:
        RequestError: it is no time; says of what.
    """
    return None if value is None else isoformat(to_utc(value, what=what))


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="@")


def without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is said, of options that may be left out."""
    return {name: value for name, value in data.items() if value is not None}


__all__ = [
    "as_arrow",
    "as_json",
    "as_msgpack",
    "from_arrow",
    "from_json",
    "from_msgpack",
    "moment",
    "quoted",
    "without_none",
]
