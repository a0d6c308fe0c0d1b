"""Letter case as DuckDB has it: one code point for one, so that `ß` stays one letter.

Python's `str.upper` follows Unicode's full mapping (`ß` becomes `SS`) in the version that Python came with. Where
the two differ, DuckDB's own tables decide: they are asked once per process, the first time that an expression with
LOWER or UPPER is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal


def lower_function() -> Callable[[str], str]:
    """Text in lower case, as DuckDB's `lower`."""
    table = _mapping("lower")
    return lambda text: text.lower() if text.isascii() else text.translate(table)


def upper_function() -> Callable[[str], str]:
    """Text in upper case, as DuckDB's `upper`."""
    table = _mapping("upper")
    return lambda text: text.upper() if text.isascii() else text.translate(table)


@cache
def _mapping(function: Literal["lower", "upper"]) -> Mapping[int, str]:
    """By code point, what a letter becomes; letters that stay are not in it."""
    import duckdb

    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        points = connection.sql(
            "SELECT CAST(range AS INTEGER) AS point FROM range(1, 1114112) WHERE range NOT BETWEEN 55296 AND 57343"
        )
        mapped = points.project(f"point, chr(point) AS letter, {function}(chr(point)) AS other")
        return dict(mapped.filter("letter <> other").project("point, other").fetchall())
