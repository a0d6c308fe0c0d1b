"""How large a table from a stranger is once it is written out, told before anything writes it out.

Arrow has layouts that say much in a few bytes: values named by number, nulls of any number in no bytes at all, views of
one text by many rows. What comes after a request's table takes it value by value, so that is what counts here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grange.errors import RequestError, TooLargeError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_COLUMNS: Final = 10_000
"""Columns of a table, and of all its nested columns together."""
_A_VALUE: Final = 8
"""Bytes that any value takes at least, a null too."""


def check_columns(count: int) -> None:
    """Refuse more columns than any table has.

    Raises:
        TooLargeError: they are.
    """
    if count > MOST_COLUMNS:
        raise TooLargeError(
            f"a table may have {MOST_COLUMNS:,} columns", found=f"{count:,}", details={"limit": MOST_COLUMNS}
        )


def check_written_out(table: pa.Table, max_bytes: int) -> None:
    """Refuse a table that is larger than it may be once every value of it is written out.

    Args:
        table: as it was read; valid.
        max_bytes: bytes at most.

    Raises:
        TooLargeError: it is larger.
        RequestError: a column of a layout that cannot be measured, nor stored.
    """
    size = 0
    for column in table.columns:
        for chunk in column.chunks:
            size += written_out(chunk)
            if size > max_bytes:
                raise too_large(size, max_bytes)


def too_large(size: int, most: int) -> TooLargeError:
    """The error for what would come to too many bytes."""
    return TooLargeError(
        f"a body may unpack to {most:,} bytes",
        found=f"{size:,}",
        try_="send fewer rows at a time, or raise server.max_body",
        details={"limit": most},
    )


def written_out(array: pa.Array) -> int:
    """Bytes of an array once every value of it is written out.

    Raises:
        RequestError: a layout that cannot be measured, nor stored.
    """
    import pyarrow as pa

    kind, own = array.type, _A_VALUE * len(array)
    if isinstance(array, pa.ExtensionArray):
        return written_out(array.storage)
    if pa.types.is_dictionary(kind):
        return own + _named_by_number(array)
    if pa.types.is_struct(kind):
        return own + sum(written_out(array.field(place)) for place in range(kind.num_fields))
    if pa.types.is_map(kind):
        return own + written_out(array.keys) + written_out(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return own + written_out(array.values)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return own + _viewed(array)
    if kind.num_fields:
        raise RequestError(f"a column of type {kind} is not taken", try_="cast it to a plain type, or to a list")
    return max(own, int(array.nbytes))


def _named_by_number(array: Any) -> int:
    """Bytes of the values that a dictionary array names, as often as it names them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type.value_type
    if any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string,
                                         pa.types.is_large_binary)):  # fmt: skip
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return len(array) * (int(kind.bit_width) // 8)
    raise RequestError(f"a column of type {array.type} is not taken", try_="cast it to a plain type")


def _viewed(array: Any) -> int:
    """Bytes of the texts that views lead to: the first four bytes of each view are its length."""
    import numpy as np

    views = array.buffers()[1]
    if views is None:
        return 0
    lengths = np.frombuffer(views, np.int32).reshape(-1, 4)[array.offset : array.offset + len(array), 0]
    return int(np.maximum(lengths, 0).sum(dtype=np.int64))


def column_count(schema: pa.Schema) -> int:
    """Columns, those inside of others among them; counted until they are too many."""
    waiting, count = [field.type for field in schema], 0
    while waiting and count <= MOST_COLUMNS:
        waiting += _inside(waiting.pop())
        count += 1
    return count


def _inside(kind: Any) -> list[pa.DataType]:
    """The types that a type is made of."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(place).type for place in range(kind.num_fields)]
