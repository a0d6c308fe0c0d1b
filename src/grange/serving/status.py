"""Statuses: how a value that is read online came about (ONL-3)."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a value came about (ONL-3); equal to its name as text."""

    PRESENT = "PRESENT"
    NULL = "NULL"
    NOT_FOUND = "NOT_FOUND"
    EXPIRED = "EXPIRED"

    def __repr__(self) -> str:
        return repr(self.value)
