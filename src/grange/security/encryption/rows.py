"""Sealed rows: rows that are set aside, such as those in quarantine, as rows that any store can keep.

A table is sealed as one stream of Arrow, as files are (`grange.security.encryption.files`), and cut into pieces: rows
of one binary column, `__sealed`. Their order and number are part of the seal. Clear is only where they lie.
"""

from __future__ import annotations

import io
from typing import Final

from grange.frames import Rows
from grange.security.encryption.files import is_outdated, open_stream, reseal_stream, seal_stream
from grange.security.encryption.sealer import Sealer, tampered

SEALED: Final = "__sealed"
PIECE: Final = 1 << 24
"""Bytes in one row."""


def seal_rows(rows: Rows, sealer: Sealer, *, group: str) -> Rows:
    """Rows as sealed pieces.

    Args:
        rows: any rows.
        sealer: seals them.
        group: the feature group that they are of; needed again to open them.
    """
    import pyarrow as pa

    plain, sealed = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(plain, rows.arrow.schema) as writer:
        writer.write_table(rows.arrow)
    plain.seek(0)
    seal_stream(plain, sealed, sealer, _context(group))
    return _in_pieces(sealed.getvalue())


def open_rows(rows: Rows, sealer: Sealer, *, group: str) -> Rows:
    """The rows that `seal_rows` sealed; rows in clear as they are.

    Raises:
        TamperedError: they were changed, reordered or cut, or are of another group.
        CorruptStoreError: they were sealed under a key that the key service does not have.
        StoreUnavailableError: the key service cannot be reached.
    """
    import pyarrow as pa

    if SEALED not in rows.column_names:
        return rows
    plain = io.BytesIO()
    open_stream(_whole(rows), plain, sealer, _context(group))
    with pa.ipc.open_stream(plain.getvalue()) as reader:
        return Rows(arrow=reader.read_all())


def reseal_rows(rows: Rows, sealer: Sealer, *, group: str) -> Rows | None:
    """Rows sealed under the key that is primary now: those that `seal_rows` sealed under another, and rows in clear,
    which lie there from before there was a key. None for rows that are sealed under it already.

    Raises what `open_rows` does.
    """
    if SEALED not in rows.column_names:
        return seal_rows(rows, sealer, group=group)
    old, new = _whole(rows), io.BytesIO()
    if not is_outdated(old, sealer):
        return None
    old.seek(0)
    reseal_stream(old, new, sealer, _context(group))
    return _in_pieces(new.getvalue())


def _in_pieces(sealed: bytes) -> Rows:
    import pyarrow as pa

    pieces = [sealed[start : start + PIECE] for start in range(0, len(sealed), PIECE)]
    return Rows(arrow=pa.table({SEALED: pa.array(pieces, pa.large_binary())}))


def _whole(rows: Rows) -> io.BytesIO:
    pieces = rows.arrow.column(SEALED).to_pylist()
    if not all(isinstance(piece, bytes) for piece in pieces):
        raise tampered("a piece of them is missing", "sealed rows")
    return io.BytesIO(b"".join(pieces))


def _context(group: str) -> bytes:
    return b"rows of " + group.encode()
