"""What lies in the server, and how it is encoded.

The record (`{namespace}:record`, a hash) names, per group, the set that is read: of its rows, of its cells. A set has
a name of its own that is never given again, so that what a client remembers is right or gone, never another's. A set
of rows is a hash per shard, `{namespace:shard}:set`: `k` and an encoded entity key is the field of a row in
MessagePack, `b` counts the bytes of rows, and is there as long as the set is the one that is read. A set of cells is
one such hash, in a shard that its name decides, with a field `v` that changes with every commit. The sorted set
`{namespace}:aside` names the sets that are being built, and those to be removed. The hash `{namespace}:layouts` has
each layout by its columns and by its number.

A server of its own has one shard, a cluster `CLUSTER_SHARDS` of them: what has a shard's number in its tag lies on one
node, and moves with it.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from grange.online.redis.resp import META
from grange.online.redis.scripts import GONE
from grange.online.redis.servers import tag
from grange.ports.online import OnlineBatch, StoredRow

CLUSTER_SHARDS: Final = 128
MARK: Final = b"b"
"""Field of a set that counts its bytes, and proves that it is the one that is read."""
VERSION: Final = b"v"
FORMAT: Final = b"f"
"""Field of the record: the format's number, how many shards there are, a text that no other record has, and whose it
is, if that is known."""
FORMAT_NUMBER: Final = 1
TOKEN_BYTES: Final = 8

encode: Final = msgspec.msgpack.Encoder().encode
decode_rows: Final[Callable[[bytes], list[StoredRow | None]]] = msgspec.msgpack.Decoder(list[list[Any] | None]).decode  # type: ignore[assignment]
decode_columns: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
decode_name: Final = msgspec.msgpack.Decoder(tuple[str, str, str]).decode
_lengths: Final = struct.Struct(">II").pack


class Name(NamedTuple):
    """What the record knows a set by."""

    kind: str
    """`rows` or `cells`."""
    key_space: str
    group: str

    def field(self) -> bytes:
        """Its field in the record; no two names run together."""
        return encode(self)


ROWS: Final = "rows"
CELLS: Final = "cells"


class Keys:
    """The names of a store's keys.

    Args:
        namespace: what all of them begin with.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.record = self._meta(b"record")
        self.aside = self._meta(b"aside")
        self.layouts = self._meta(b"layouts")

    def _meta(self, name: bytes) -> bytes:
        return b"{%b}:%b" % (tag(self._namespace, META), name)

    def prefix(self, route: int) -> bytes:
        """What the keys of a shard's sets begin with."""
        return b"{%b}:" % tag(self._namespace, route)

    def set(self, route: int, name: bytes) -> bytes:
        """The key of a shard's part of a set."""
        return self.prefix(route) + name


def new_set(kind: str) -> bytes:
    """A name that no set ever had; its first letter says of which kind it is."""
    return kind[:1].encode() + secrets.token_hex(8).encode()


def kind_of(name: bytes) -> str:
    """Whether a set is of rows or of cells."""
    return ROWS if name[:1] == b"r" else CELLS


def routes_of(name: bytes, shards: int) -> Sequence[int]:
    """The shards that a set lies in."""
    return range(shards) if kind_of(name) == ROWS else (zlib.crc32(name) % shards,)


def shard_of(key: bytes, shards: int) -> int:
    """The shard of an entity key."""
    return zlib.crc32(key) % shards


def by_shard(keys: Sequence[bytes], shards: int) -> dict[int, list[int]]:
    """By shard, the places of the keys that lie in it."""
    if shards == 1:
        return {0: list(range(len(keys)))}
    found: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(shard_of(key, shards), []).append(place)
    return found


def layout_wish(columns: bytes) -> int:
    """The number that a layout asks for: the same wherever and whenever, so that it outlives a server's data."""
    return int.from_bytes(hashlib.blake2b(columns, digest_size=4).digest(), "big")


def format_text(shards: int, owner: bytes) -> bytes:
    """What a new record says of the format. The owner may be empty."""
    return b"%d:%d:%b:%b" % (FORMAT_NUMBER, shards, secrets.token_hex(8).encode(), owner)


class Format(NamedTuple):
    """What a record says of itself."""

    shards: int
    owner: bytes
    """Empty where nobody said."""


def format_of(said: bytes) -> Format | None:
    """The inverse of `format_text`; None where another format is told."""
    number, shards, _, owner = (*said.split(b":"), b"", b"", b"", b"")[:4]
    if number != b"%d" % FORMAT_NUMBER or not shards.isdigit():
        return None
    return Format(int(shards), owner)


# -- rows --------------------------------------------------------------------------------------------------------


def created_times(batch: OnlineBatch) -> Sequence[int | None]:
    """A batch's created times, None where there are none."""
    return [None] * len(batch) if batch.created_times is None else batch.created_times


def values_of(layout: int, batch: OnlineBatch) -> list[bytes]:
    """Each row as it is stored."""
    pack = encode
    return [
        pack((layout, event, created, *row))
        for event, created, row in zip(batch.event_times, created_times(batch), batch.rows, strict=True)
    ]


def rows_of(values: Sequence[bytes | None]) -> list[StoredRow | None]:
    """Stored rows, None where there are none. All are decoded at once: a call for each would take twice as long.

    Raises:
        msgspec.MsgspecError: something else than a row is stored.
    """
    texts = [b"\xc0" if value is None else value for value in values]
    return decode_rows(b"\xdd" + len(texts).to_bytes(4, "big") + b"".join(texts))


PAIRS: Final = 1000
"""How many go into one argument of a script, or one command."""


def pair_texts(pairs: Sequence[tuple[bytes, bytes | None]]) -> list[bytes]:
    """Names and values as the scripts take them; None is deleted. Every name is put behind a `k`."""
    texts = []
    for start in range(0, len(pairs), PAIRS):
        texts.append(
            b"".join(
                [
                    _lengths(len(name) + 1, GONE if value is None else len(value)) + b"k" + name + (value or b"")
                    for name, value in pairs[start : start + PAIRS]
                ]
            )
        )
    return texts


def hset(key: bytes, names: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """The command that sets fields, each named `k` and its name."""
    body = b"".join(
        [
            b"$%d\r\nk%b\r\n$%d\r\n%b\r\n" % (len(name) + 1, name, len(value), value)
            for name, value in zip(names, values, strict=True)
        ]
    )
    return b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n%b" % (2 + 2 * len(names), len(key), key, body)


def fields(names: Sequence[bytes]) -> bytes:
    """Fields, each named `k` and its name, as arguments of a command."""
    return b"".join([b"$%d\r\nk%b\r\n" % (len(name) + 1, name) for name in names])


def hmget_head(key: bytes, first: bytes) -> bytes:
    """The command that gets one field and then others, without its beginning, how long it is, and without these."""
    return b"\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(first), first)


def hmget(key: bytes, first: bytes, names: Sequence[bytes]) -> bytes:
    """The command that gets one field, and then others that are named `k` and their name."""
    return b"*%d%b%b" % (len(names) + 3, hmget_head(key, first), fields(names))
