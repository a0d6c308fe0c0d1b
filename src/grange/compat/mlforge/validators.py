"""Validators under mlforge's names: each makes Grange's expectation of the same meaning.

Nulls pass every check but `not_null`; a NaN fails comparisons. A check on a column that is not there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from grange.definitions.expectations import (
    Expectation,
    Policy,
    between,
    greater_than,
    greater_than_or_equal,
    less_than,
    less_than_or_equal,
    matches,
    not_null,
    one_of,
    unique,
)

Validator = Expectation
"""One check of one column."""
_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
"""Flags at the start of a pattern, which must stay there."""


def in_range(low: Any, high: Any, inclusive: bool = True, *, policy: Policy = "fail") -> tuple[Expectation, ...]:
    """`low <= value <= high`; with `inclusive=False`, `low < value < high`."""
    if inclusive:
        return (between(low, high, policy=policy),)
    return greater_than(low, policy=policy), less_than(high, policy=policy)


def is_in(values: Iterable[Any], *, policy: Policy = "fail") -> Expectation:
    """The value is one of these."""
    return one_of(values, policy=policy)


def matches_regex(pattern: str, *, policy: Policy = "fail") -> Expectation:
    """Somewhere in the text the pattern is found; `^` and `$` tie it to the ends."""
    matches(pattern)  # what is wrong with it is told of the pattern as it was written
    flags = _FLAGS.match(pattern)
    start = flags[0] if flags else ""
    return matches(f"{start}(?s:.*)(?:{pattern[len(start) :]})(?s:.*)", policy=policy)


__all__ = [
    "Validator",
    "greater_than",
    "greater_than_or_equal",
    "in_range",
    "is_in",
    "less_than",
    "less_than_or_equal",
    "matches_regex",
    "not_null",
    "unique",
]
