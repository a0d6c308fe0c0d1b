"""What lies in the environment, and how it is encoded.

Main database: one entry per named database. `meta`: the format, a record and a pointer per key space, the layouts.
A key space has two databases, `0` and `1`; the pointer says which one is read. A load builds the other one and
turns the pointer over. In both, a key is an encoded entity key and a value is one MessagePack map
`{group number: [layout, event, created, *values]}` with the rows of all groups of that entity.
The database `cells` holds the cells of all groups, and `meta` a record and a pointer per group that has some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

LONGEST_KEY: Final = 510
"""LMDB takes 511 bytes; one is kept for the escape below."""
_ESCAPE: Final = 0xFF


class GroupRecord(msgspec.Struct, array_like=True):
    """A group of a key space. Numbers are never given twice."""

    number: int
    rows: int = 0
    bytes: int = 0


class Build(msgspec.Struct, array_like=True):
    """A load that is under way."""

    group: int
    frontier: bytes = b""
    """Stored keys up to here are merged into the database aside; a write to one of them goes there as well."""


class SpaceRecord(msgspec.Struct, array_like=True):
    """A key space."""

    name: str
    number: int
    slot: int
    """Which of the two databases is read."""
    groups: dict[str, GroupRecord]
    build: Build | None = None


class CellsRecord(msgspec.Struct, array_like=True):
    """The cells of a group."""

    current: int = 0
    """The set that is read; 0 before the first."""
    cells: int = 0
    bytes: int = 0
    """Of the keys and values of the set that is read."""
    aside: list[int] = []
    """Sets that nobody reads: being filled by a load, or being deleted."""


class RowHead(msgspec.Struct, array_like=True):
    """The start of a stored row; decoding it skips the values."""

    layout: int
    event: int
    created: int | None


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder().decode
decode_space: Final = msgspec.msgpack.Decoder(SpaceRecord).decode
decode_cells: Final = msgspec.msgpack.Decoder(CellsRecord).decode
decode_raw: Final = msgspec.msgpack.Decoder(dict[int, msgspec.Raw]).decode
decode_head: Final = msgspec.msgpack.Decoder(RowHead).decode
decode_layout: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode

SPACES: Final = b"s"
LAYOUTS: Final = b"l"
NEXT_SET: Final = b"n"
"""Where the next number of a set of cells lies in `meta`."""


LONG_KEYS: Final = b"k"
"""Of a key that is stored as a digest, `meta` has the whole: what it begins with there, before the stored key."""


def space_key(name: str) -> bytes:
    """Where a key space's record lies in `meta`."""
    return SPACES + hashlib.blake2b(name.encode(), digest_size=32).digest()


def pointer_key(number: int) -> bytes:
    """Where a key space's pointer lies in `meta`."""
    return b"p" + number.to_bytes(4, "big")


def cells_pointer_key(space: int, group: int) -> bytes:
    """Where the set of a group's cells that is read is named in `meta`; nothing is there before the first."""
    return b"c" + space.to_bytes(4, "big") + group.to_bytes(4, "big")


def cells_record_key(space: int, group: int) -> bytes:
    """Where the record of a group's cells lies in `meta`."""
    return b"d" + space.to_bytes(4, "big") + group.to_bytes(4, "big")


def layout_key(number: int) -> bytes:
    """Where a layout lies in `meta`; keys ascend with numbers."""
    return LAYOUTS + number.to_bytes(4, "big")


def database_name(number: int, slot: int) -> bytes:
    """The name of one of the two databases of a key space."""
    return b"k%d.%d" % (number, slot)


def stored_key(key: bytes) -> bytes:
    """The key under which an encoded entity key is stored: itself, unless LMDB could not hold it.

    Keys that begin with 0xFF are escaped, longer ones than LMDB's limit become an escaped digest, and the empty one
    becomes an escape alone, so no two keys share a stored key. See `out_of_order` for their order.
    """
    if len(key) > LONGEST_KEY:
        return b"\xff\x01" + hashlib.blake2b(key, digest_size=32).digest()
    if not key:
        return b"\xff\x02"
    return b"\xff\x00" + key[1:] if key[0] == _ESCAPE else key


def out_of_order(stored: bytes) -> bool:
    """Whether a stored key lies after all others, in no order of entity keys: digests, and the empty key's."""
    return stored[:2] in (b"\xff\x01", b"\xff\x02")


def entity_key(stored: bytes) -> bytes | None:
    """The encoded entity key of a stored key; None of a digest, which `meta` knows (`LONG_KEYS`)."""
    if not stored or stored[0] != _ESCAPE:
        return stored
    if stored[1] == 0:
        return b"\xff" + stored[2:]
    return b"" if stored[1] == 2 else None


def is_digest(stored: bytes) -> bool:
    """Whether a stored key stands for one that is too long."""
    return stored[:2] == b"\xff\x01"


def stored_keys(keys: Sequence[bytes]) -> Sequence[bytes]:
    """`stored_key` of each; the same sequence when nothing changes, which is nearly always."""
    if len(keys) == 1:
        key = stored_key(keys[0])
        return keys if key is keys[0] else [key]
    if keys and min(map(len, keys)) > 0 and max(map(len, keys)) <= LONGEST_KEY and max(keys)[0] != _ESCAPE:
        return keys
    return [stored_key(key) for key in keys]
