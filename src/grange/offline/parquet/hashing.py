"""The content hash: SHA-256 over the rows themselves, whatever files, chunks or encodings hold them (VER-2).

Per column its type and its values in row order, nulls as nothing; the columns by name. So these do not count:
how rows are cut into chunks and row groups, compression, dictionaries, offsets into shared buffers, what lies in
the slot of a null, the order of the columns. These do: every value bit by bit (`-0.0` is not `0.0`), which rows
there are, and their order. The sequence column is left out: a sequence says where a row lies among its equals,
which the order of the rows says already, so that the same history built again has the same hash. Where rows are
versions of events it says more: versions of one event may have different times, and the last written one counts
(WIN-6). There the order of the sequences counts, still not the numbers.

Feature rows are not hashed: they follow from the rows and the aggregates, so that they need not be computed to find
out that nothing changed. The aggregates are, in any order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.types import Schema
from grange.types.aggregates import Aggregate
from grange.types.names import SEQUENCE
from grange.types.schema import Column

_FORMAT: Final = b"grange rows 1\n"
_THREADS: Final = 4
"""Hashing lets other threads run, so columns go side by side; each needs a copy of its own values at most."""

_WORDS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def content_hash(
    table: pa.Table, schema: Schema, aggregates: Sequence[Aggregate] = (), *, event_id: str | None = None
) -> str:
    """The hash of the columns of `schema`, which `table` has in their canonical Arrow types, and of aggregates.

    Args:
        event_id: the column that identifies events; with one, the order in which rows were written counts.
    """
    columns = sorted(schema, key=lambda column: column.name)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(lambda column: _column_digest(table.column(column.name), column), columns))
    whole = hashlib.sha256(_FORMAT)
    for digest in digests:
        whole.update(digest)
    if event_id is not None:
        whole.update(_order_digest(table.column(SEQUENCE)))
    for aggregate in sorted(aggregates, key=lambda aggregate: aggregate.name):
        whole.update(hashlib.sha256(json.dumps(aggregate.to_data(), sort_keys=True).encode()).digest())
    return whole.hexdigest()


def _order_digest(sequence: pa.ChunkedArray) -> bytes:
    """Which row was written first, second and so on."""
    _, ranks = np.unique(sequence.to_numpy(), return_inverse=True)
    return hashlib.sha256(np.ascontiguousarray(ranks, dtype=np.int64).data).digest()


def _column_digest(values: pa.ChunkedArray, column: Column) -> bytes:
    digest = hashlib.sha256(f"{len(column.name)} {column.name} {column.dtype}\n".encode())
    _feed(digest, values.chunk(0) if values.num_chunks == 1 else values.combine_chunks())
    return digest.digest()


def _feed(digest: Any, values: pa.Array) -> None:
    """Add an array: its length, which slots are valid, then the values with null slots emptied."""
    valid = None if values.null_count == 0 else values.is_valid().to_numpy(zero_copy_only=False)
    digest.update(f"{len(values)} {'all' if valid is None else 'some'}\n".encode())
    if valid is not None:
        digest.update(np.packbits(valid))
    arrow = values.type
    if pa.types.is_large_string(arrow) or pa.types.is_large_binary(arrow):
        _feed_bytes(digest, values)
    elif pa.types.is_large_list(arrow):
        _feed_lengths(digest, pc.fill_null(pc.list_value_length(values), 0))
        _feed(digest, values.flatten())  # leaves out what lies in null slots
    elif pa.types.is_struct(arrow):
        for child in values.flatten():  # a null struct's fields come out null
            _feed(digest, child)
    elif pa.types.is_boolean(arrow):
        digest.update(np.packbits(pc.fill_null(values, False).to_numpy(zero_copy_only=False)))
    else:
        digest.update(_fixed_width(values, valid))


def _feed_bytes(digest: Any, values: pa.Array) -> None:
    """Text or bytes: the lengths, then all of it in a row."""
    if values.null_count:
        values = pc.fill_null(values, pa.scalar("" if pa.types.is_large_string(values.type) else b"", values.type))
    if len(values) == 0:
        return
    _, offsets_buffer, data = values.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, count=len(values) + 1, offset=values.offset * 8)
    digest.update(np.diff(offsets))
    if data is not None:
        digest.update(memoryview(data)[offsets[0] : offsets[-1]])


def _feed_lengths(digest: Any, lengths: pa.Array) -> None:
    digest.update(np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64))


def _fixed_width(values: pa.Array, valid: Any) -> Any:
    """The values of a type of whole bytes, zero where null."""
    width = values.type.bit_width // 8
    buffer = values.buffers()[1]
    if buffer is None or len(values) == 0:
        return b""
    word: Any = _WORDS[min(width, 8)]
    per_value = width // np.dtype(word).itemsize
    words = np.frombuffer(buffer, word, count=len(values) * per_value, offset=values.offset * width)
    if valid is None:
        return words
    return np.where(valid[:, None], words.reshape(-1, per_value), np.zeros(1, word))
