"""Commands as the server reads them (RESP), packed once and in bulk; answers are parsed by hiredis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Call(NamedTuple):
    """Commands about one shard: one, or several that are packed together for a server of its own."""

    route: int
    """The shard, or `META`: in a cluster this decides the node."""
    data: bytes
    answers: int = 1
    """How many commands it is. A cluster takes one at a time, as each may have moved."""


META = -1
"""The route of what is kept once per store, not per shard."""


def packed(parts: Iterable[bytes]) -> bytes:
    """A command of its parts, the name first."""
    bulks = [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
    return b"*%d\r\n%b" % (len(bulks), b"".join(bulks))


def call(route: int, *parts: bytes) -> Call:
    """A command with its route."""
    return Call(route, packed(parts))
