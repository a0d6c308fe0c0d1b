"""Expectations: checks on a feature's values, as data. `grange.quality` evaluates them.

Nulls (and nothing else) pass every check but `not_null`; a float NaN is a value and fails comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from grange.definitions.values import from_plain, to_plain
from grange.errors import DefinitionError

Policy = Literal["fail", "drop", "warn"]
"""What happens to rows that fail: nothing is written; they go to quarantine; they stay and are reported."""

Kind = Literal[
    "not_null",
    "unique",
    "between",
    "greater_than",
    "greater_than_or_equal",
    "less_than",
    "less_than_or_equal",
    "one_of",
    "matches",
    "length_between",
    "finite",
]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One check on one column. Make it with the functions of this module."""

    kind: Kind
    arguments: tuple[Any, ...] = ()
    """Bounds, allowed values or a pattern, in the order of the function that made it."""
    policy: Policy = "fail"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise DefinitionError(f"policy {self.policy!r} is not one of {', '.join(get_args(Policy))}")

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.arguments))
        return f"{self.kind}({shown})" if self.arguments else self.kind

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {
            "kind": self.kind,
            "arguments": [to_plain(item) for item in self.arguments],
            "policy": self.policy,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Expectation:
        """The inverse of `to_dict`."""
        if data["kind"] not in get_args(Kind):
            raise DefinitionError(f"no expectation {data['kind']!r}", try_=f"one of: {', '.join(get_args(Kind))}")
        return cls(data["kind"], tuple(from_plain(item) for item in data["arguments"]), data["policy"])


def not_null(*, policy: Policy = "fail") -> Expectation:
    """No value is null."""
    return Expectation("not_null", policy=policy)


def unique(*, policy: Policy = "fail") -> Expectation:
    """No value occurs twice; the first of equals passes, nulls are not compared."""
    return Expectation("unique", policy=policy)


def between(low: Any, high: Any, *, policy: Policy = "fail") -> Expectation:
    """`low <= value <= high`, both ends included."""
    if low > high:
        raise DefinitionError(f"between({low!r}, {high!r}) holds for no value: the lower bound comes first")
    return Expectation("between", (low, high), policy)


def greater_than(bound: Any, *, policy: Policy = "fail") -> Expectation:
    """`value > bound`."""
    return Expectation("greater_than", (bound,), policy)


def greater_than_or_equal(bound: Any, *, policy: Policy = "fail") -> Expectation:
    """`value >= bound`."""
    return Expectation("greater_than_or_equal", (bound,), policy)


def less_than(bound: Any, *, policy: Policy = "fail") -> Expectation:
    """`value < bound`."""
    return Expectation("less_than", (bound,), policy)


def less_than_or_equal(bound: Any, *, policy: Policy = "fail") -> Expectation:
    """`value <= bound`."""
    return Expectation("less_than_or_equal", (bound,), policy)


def one_of(values: Iterable[Any], *, policy: Policy = "fail") -> Expectation:
    """The value is one of these."""
    allowed = tuple(values)
    if not allowed:
        raise DefinitionError("one_of() needs at least one allowed value")
    return Expectation("one_of", allowed, policy)


def matches(pattern: str, *, policy: Policy = "fail") -> Expectation:
    """The whole text matches a regular expression (Rust's syntax: no look-around, no back-references)."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise DefinitionError(f"matches({pattern!r}) is not a regular expression: {error}") from error
    return Expectation("matches", (pattern,), policy)


def length_between(low: int, high: int, *, policy: Policy = "fail") -> Expectation:
    """`low <= length <= high`: of text in characters, of a list in items."""
    if not 0 <= low <= high:
        raise DefinitionError(f"length_between({low!r}, {high!r}) holds for no value")
    return Expectation("length_between", (low, high), policy)


def finite(*, policy: Policy = "fail") -> Expectation:
    """No float is NaN or infinite."""
    return Expectation("finite", policy=policy)
