"""A dict as the cells of a group, which counts what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence


class DictCells:
    """`WritableCells` over a dict of bytes."""

    def __init__(self, held: dict[bytes, bytes] | None = None) -> None:
        self.held = dict(held or {})
        self.read: list[bytes] = []
        self.written: list[bytes] = []
        self.trips = 0

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.trips += 1
        self.read += keys
        return [self.held.get(key) for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        assert type(key) is bytes
        assert type(value) is bytes
        self.written.append(key)
        self.held[key] = value

    def delete(self, key: bytes) -> None:
        self.written.append(key)
        self.held.pop(key, None)

    def forget(self) -> None:
        """Count from here on."""
        self.read, self.written, self.trips = [], [], 0
