"""Answers: plain data as JSON, tables as JSON or Arrow, errors in their envelope.

JSON has no words for some values. NaN and infinities are null; times are ISO 8601 in UTC with `Z`; decimals and uuids
are text; binary is base64; integers stay integers, however large.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from grange.errors import GrangeError
from grange.http.errors import envelope, headers_of, status_of
from grange.http.messages import ARROW, JSON

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.requests import Request

BATCH_ROWS: Final = 65_536
"""Rows per record batch of a streamed table."""


def _other(value: Any) -> Any:
    """What JSON has no word for, and msgspec does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_other)


def as_json(data: Any) -> bytes:
    """Plain data as JSON."""
    return _ENCODER.encode(data)


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Plain data as an answer."""
    return Response(as_json(data), status, dict(headers or {}), JSON)


def failure(error: GrangeError, request_id: str) -> Response:
    """An error as an answer, in the one envelope."""
    status = status_of(error)
    headers = headers_of(error)
    if "retry_after" in error.details:
        headers.setdefault("Retry-After", str(error.details["retry_after"]))
    return Response(as_json(envelope(error, request_id)), status, headers, JSON)


def wants_arrow(request: Request) -> bool:
    """Whether the client asked for Arrow."""
    return ARROW in request.headers.get("accept", "")


def table_reply(
    request: Request, table: pa.Table, about: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """A table: as Arrow IPC where the client asks for it, else as JSON rows beside what is known of them."""
    if wants_arrow(request):
        return arrow_reply(lambda: iter(table.to_batches(max_chunksize=BATCH_ROWS)), table.schema, headers)
    data = {**about, "columns": table.column_names, "rows": table.to_pylist()}
    return reply(data, headers=headers)


def arrow_reply(
    batches: Callable[[], Iterator[pa.RecordBatch]], schema: pa.Schema, headers: Mapping[str, str] | None = None
) -> Response:
    """Record batches as one Arrow IPC stream, sent as they come."""
    return StreamingResponse(_stream(batches, schema), headers=dict(headers or {}), media_type=ARROW)


class _Chunks(io.RawIOBase):
    """What a writer wrote since it was last taken."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(self.parts[-1])

    def taken(self) -> bytes:
        """All of it, at once."""
        parts, self.parts = self.parts, []
        return b"".join(parts)


def _stream(batches: Callable[[], Iterator[pa.RecordBatch]], schema: pa.Schema) -> Iterator[bytes]:
    import pyarrow as pa

    chunks = _Chunks()
    with pa.ipc.new_stream(pa.PythonFile(chunks, mode="w"), schema) as writer:
        for batch in batches():
            writer.write_batch(batch)
            yield chunks.taken()
    yield chunks.taken()
