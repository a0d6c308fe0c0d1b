"""The cell that says what a group's cells are made for, and how much they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from grange.errors import CorruptStoreError, StateLayoutError
from grange.ports.online import Cells, WritableCells
from grange.serving.windows.nodes import HEAD, decode, encode
from grange.serving.windows.spec import StateSpec


class Head(NamedTuple):
    """A group's window state at large. Sizes are of keys and values, this cell's left out."""

    layout: str
    """`StateSpec.layout` of what wrote it."""
    keys: int = 0
    """Entity keys."""
    cells: int = 0
    size: int = 0
    largest: int = 0
    """Bytes of the largest entity key that there has been."""
    version: str = ""
    """The version of the group's history that was loaded; empty when nothing but pushes made the state."""
    next_pushed: int = 0
    """The sequence number of the pushed event that comes next; those before are in the state."""

    @property
    def bytes_per_key(self) -> float:
        """On average; 0 without keys."""
        return self.size / self.keys if self.keys else 0.0

    def grown(self, keys: int, cells: int, size: int, key_size: int) -> Head:
        """After a key's cells changed; `key_size` is how many bytes they are now."""
        largest = max(self.largest, key_size)
        return self._replace(keys=self.keys + keys, cells=self.cells + cells, size=self.size + size, largest=largest)

    def wire(self, spec: StateSpec) -> bytes:
        """As the value of its cell."""
        return spec.digest + encode(self)


def check_layout(data: bytes | None, spec: StateSpec) -> None:
    """Refuse cells that were made for something else; data is the value of the head cell, None without cells.

    Raises:
        StateLayoutError.
    """
    if data is not None and not data.startswith(spec.digest):
        raise StateLayoutError(
            "the online state was built for other aggregations of this group",
            found=_read(data).layout,
            try_="materialize the group, which builds its online state again",
            details={"expected": spec.layout},
        )


def head_of(data: bytes | None, spec: StateSpec) -> Head:
    """The head to change; a new one when there is none.

    Raises:
        StateLayoutError: the cells were made for something else.
        CorruptStoreError: the head cannot be read.
    """
    check_layout(data, spec)
    return Head(spec.layout) if data is None else _read(data)


def cover(cells: WritableCells, spec: StateSpec, *, version: str, next_pushed: int) -> None:
    """Remember up to where history is in the state.

    Raises:
        StateLayoutError: the cells were made for something else.
    """
    head = head_of(cells.get(HEAD), spec)
    cells.put(HEAD, head._replace(version=version, next_pushed=next_pushed).wire(spec))


def describe(cells: Cells) -> Head | None:
    """How much state a group holds and what it was made for; None when it holds none.

    Raises:
        CorruptStoreError: the head cannot be read.
    """
    data = cells.get(HEAD)
    return None if data is None else _read(data)


def _read(data: bytes) -> Head:
    try:
        fields: list[Any] = decode(data[16:])
        return Head(*fields)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        # the bytes are not shown: they may be sealed, or values
        raise CorruptStoreError(
            "the head of a window state cannot be read back",
            found=f"{len(data)} bytes that are none",
            try_="grange materialize the group; where it is sealed, set security.encryption_key",
        ) from error
