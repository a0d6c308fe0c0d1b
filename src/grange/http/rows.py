"""Rows in a request's body: JSON, MessagePack, Arrow IPC or Parquet. Never a path, never SQL: those would be the
server's own.

A body of JSON or MessagePack has `rows` (a list of objects) or `columns` (lists by name), and options beside them. With
Arrow or Parquet, options are JSON in the header `X-Grange-Options`, URL-quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec
from starlette.requests import Request

from grange.errors import RequestError
from grange.frames import Rows
from grange.http.limits import check_nesting, too_nested
from grange.http.messages import ARROW, JSON, MSGPACK

if TYPE_CHECKING:
    from grange.http.context import Caller

OPTIONS: Final = "x-grange-options"
PARQUET: Final = "application/vnd.apache.parquet"
_JSON: Final = ("", JSON, "text/json")
_MSGPACK: Final = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
TYPES: Final = (JSON, MSGPACK, ARROW, PARQUET)


@dataclass(frozen=True, slots=True)
class Upload:
    """A body as it came, not looked at yet."""

    body: bytes
    content_type: str
    options: str

    def given(self, caller: Caller) -> tuple[Rows | None, dict[str, Any]]:
        """The rows, if there are any, and the options beside them.

        Raises:
            RequestError: a body that is none of the four, or cannot be read.
            TooLargeError: rows that unpack to more than a request may have; nothing was unpacked.
        """
        most = caller.project.store.config.server.max_body or 1 << 31
        if self.content_type in (ARROW, PARQUET):
            return self._table(most), self._options()
        if not self.body.strip():
            return None, self._options()
        data = self._plain()
        if isinstance(data, list):
            return _rows(data), self._options()
        if not isinstance(data, Mapping):
            raise RequestError("the body is an object with rows, or a list of rows", found=type(data).__name__)
        # columns with values are rows; a list of names is an option of some routes
        taken = [name for name in ("rows", "columns") if name == "rows" or isinstance(data.get(name), Mapping)]
        options = {name: value for name, value in data.items() if name not in taken}
        given = [data[name] for name in taken if data.get(name) is not None]
        if len(given) > 1:
            raise RequestError("rows and columns are both rows", try_="one of them")
        return _rows(given[0]) if given else None, options | self._options()

    def _plain(self) -> Any:
        try:
            if self.content_type in _JSON:
                check_nesting(self.body)
                return msgspec.json.decode(self.body)
            if self.content_type in _MSGPACK:
                return msgspec.msgpack.decode(self.body)
        except RecursionError as error:
            raise too_nested() from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError("the request's body cannot be read", found=str(error)) from error
        raise RequestError(f"a body of type {self.content_type!r} is not taken here", found=", ".join(TYPES))

    def _table(self, most: int) -> Rows | None:
        if not self.body:
            return None
        if self.content_type == PARQUET:
            from grange.http.parquet import read_table as read_parquet

            return Rows(arrow=read_parquet(self.body, max_rows=most, max_bytes=_unpacked(most)))
        from grange.http.arrow_ipc import read_table

        return Rows.of(read_table(self.body, max_rows=most, max_bytes=_unpacked(most)))

    def _options(self) -> dict[str, Any]:
        if not self.options:
            return {}
        try:
            data = msgspec.json.decode(unquote(self.options))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError("the header X-Grange-Options is no JSON", found=type(error).__name__) from error
        if not isinstance(data, dict):
            raise RequestError("the header X-Grange-Options is an object", found=type(data).__name__)
        return data


def _unpacked(most: int) -> int:
    """Bytes that a body may unpack to: sixteen times what it may have itself."""
    return 16 * most


def _rows(given: Any) -> Rows:
    if isinstance(given, list) and not all(isinstance(row, Mapping) for row in given):
        raise RequestError("rows are a list of objects", found=type(given[0]).__name__)
    if isinstance(given, Mapping):
        lengths = {len(values) if isinstance(values, list) else -1 for values in given.values()}
        if len(lengths) > 1 or -1 in lengths:
            raise RequestError("columns are lists of one length, by name")
    elif not isinstance(given, list):
        raise RequestError("rows are a list of objects, and columns lists by name", found=type(given).__name__)
    return Rows.of(given)


async def upload(request: Request) -> Upload:
    """The body of a request, for routes that take rows."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Upload(await request.body(), content_type, request.headers.get(OPTIONS, ""))


def rows_body(example: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """How the document tells of a body of rows.

    Args:
        example: some rows.
        options: fields beside the rows, with an example of each.
    """
    shape = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": {"type": "object"}, "description": "One object per row."},
            "columns": {"type": "object", "description": "Instead of rows: a list of values by column."},
            **{name: {"examples": [value]} for name, value in options.items()},
        },
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    json = {"schema": shape, "example": {"rows": example, **options}}
    return {"requestBody": {"required": True, "content": {JSON: json, MSGPACK: binary, ARROW: binary, PARQUET: binary}}}


def take_options(given: dict[str, Any], shape: type[Any]) -> Any:
    """Options as a model, checked strictly.

    Raises:
        RequestError: a field that is none, or of another type.
    """
    from pydantic import ValidationError

    try:
        return shape.model_validate(given)
    except ValidationError as error:
        problems = [
            {"where": ".".join(map(str, each["loc"])), "problem": each["msg"]}
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = problems[0]
        raise RequestError(
            f"the request is not as it should be: {first['where']}: {first['problem']}", details={"problems": problems}
        ) from error


__all__ = ["OPTIONS", "PARQUET", "TYPES", "Upload", "rows_body", "take_options", "upload"]
