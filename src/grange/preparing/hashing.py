"""hash_buckets: a bucket by a hash of type and value.

The hash is BLAKE2b with 8 bytes, salted with the seed as 8 little-endian bytes, of the key family's name (PIT-4), a
zero byte, and the value as UTF-8 text: integers in decimal digits, booleans `true` and `false`, dates and times in
ISO 8601 (times as microseconds since 1970), decimals without trailing zeros, binary as it is. The bucket is the
number that the hash is, little-endian, modulo the number of buckets. So it is the same in every process, on every
machine, for every width of an integer, and for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.preparing.bound import INTEGER, Bound, Ready, Settings
from grange.preparing.categories import check_category
from grange.preparing.subject import Subject
from grange.transforming.values import micros_of, python_values

_BYTES: Final = 8
_TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    "boolean": lambda value: "true" if value else "false",
    "date": lambda value: value.isoformat(),
    "datetime": lambda value: str(micros_of(value)),
    "decimal": lambda value: _digits(f"{value:f}"),
}
"""By key family; what is not here is text as it prints."""


def _digits(text: str) -> str:
    """A decimal without trailing zeros, so that 1.50 is 1.5."""
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if short == "-0" else short


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> None:
    """There is nothing to learn."""


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The bucket of a value; each distinct value of a column is hashed once."""
    check_category(subject)
    bucket = _bucket(subject.dtype.key_family or "", given["buckets"], given["seed"])

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        encoded = column.combine_chunks().dictionary_encode()
        distinct = python_values(pa.chunked_array([encoded.dictionary]), subject.dtype)
        buckets = pa.array(np.fromiter(map(bucket, distinct), np.int64, len(distinct)))
        return [pa.chunked_array([buckets.take(encoded.indices)])]

    def value(given: Any) -> int | None:
        return None if given is None else bucket(given)

    return Bound((("", INTEGER),), columns, value)


def _bucket(family: str, buckets: int, seed: int) -> Callable[[Any], int]:
    start = hashlib.blake2b(f"{family}\0".encode(), digest_size=_BYTES, salt=(seed % 2**64).to_bytes(_BYTES, "little"))
    text = _TEXTS.get(family, str)

    def bucket(value: Any) -> int:
        state = start.copy()
        state.update(value if family == "binary" else text(value).encode())
        return int.from_bytes(state.digest(), "little") % buckets

    return bucket


HASH = Ready(fit, bind)
