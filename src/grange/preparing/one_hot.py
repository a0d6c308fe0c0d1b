"""one_hot_encoder: a column of 0 and 1 per category, as scikit-learn's OneHotEncoder; null in all where the input is.

With `max_categories`, the rarest categories share the column `other`; of equally frequent ones the first in order go
there. A category that was never seen is none of them: it has 0 in every column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.preparing.bound import FLAG, Bound, Ready, Settings
from grange.preparing.categories import as_array, counted, kept, numbers_of, refuse_unknown, to_data, told
from grange.preparing.subject import Subject

_OTHER: Final = "other"
_MOST: Final = 10_000
"""Columns that are made of one without a limit that somebody set."""
_LONGEST: Final = 64
"""Letters of a category that a name has."""


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, list[Any]]:
    """The categories that have a column, and those that share one; sorted."""
    counts, most = counted(column, subject), given["max_categories"]
    if most is None and len(counts) > _MOST:
        raise subject.cannot_learn(
            f"it has {len(counts)} categories, and each would be a column",
            try_="one_hot_encoder(..., max_categories=100), or gr.hash_buckets",
        )
    rare: set[Any] = set()
    if most is not None and len(counts) > most:
        rarest = sorted(counts, key=lambda value: counts[value])  # equally frequent ones stay in order
        rare = set(rarest[: len(counts) - most + 1])
    return {
        "categories": [to_data(value) for value in counts if value not in rare],
        "others": [to_data(value) for value in counts if value in rare],
    }


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """Whether a value is a category, for each."""
    if given["categories"] is None:
        own, others = kept(learned["categories"], subject), kept(learned["others"], subject)
    else:
        own, others = told(given["categories"], subject), []
    known = [*own, *others]
    width = len(own) + bool(others)
    wanted, strict = as_array(known, subject.dtype), given["unknown"] == "error"
    nothing: tuple[int | None, ...] = (None,) * width
    zeros: tuple[int | None, ...] = (0,) * width
    vectors: dict[Any, tuple[int | None, ...]] = {
        value: _vector(min(place, len(own)), width) for place, value in enumerate(known)
    }

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        places, null = numbers_of(column, wanted)
        if strict:
            refuse_unknown(column, (places < 0) & ~null, known, subject)
        places = np.minimum(places, len(own))
        return [pa.chunked_array([pa.array((places == number).astype(np.int8), mask=null)]) for number in range(width)]

    def value(given: Any) -> Any:
        vector = nothing if given is None else vectors.get(given)
        if vector is None:
            if strict:
                raise subject.never_seen(given, known, None)
            vector = zeros
        return vector[0] if width == 1 else vector

    names = _names([_text(category) for category in own] + [_OTHER] * bool(others))
    return Bound(tuple((f"__{name}", FLAG) for name in names), columns, value)


def _vector(place: int, width: int) -> tuple[int, ...]:
    return tuple(int(number == place) for number in range(width))


def _text(category: Any) -> str:
    """A category as part of a name: letters, digits and underscores."""
    if isinstance(category, bool):
        return str(category).lower()
    text = category.hex() if isinstance(category, bytes) else str(category)
    if text[:1] == "-" and not isinstance(category, str):
        text = f"minus_{text[1:]}"
    return re.sub(r"\W", "_", text)[:_LONGEST] or "empty"


def _names(texts: Sequence[str]) -> list[str]:
    """Names that differ: the second of the same is `name_2`."""
    made: dict[str, None] = {}
    for text in texts:
        name, number = text, 1
        while name in made or (number > 1 and name in texts):
            number += 1
            name = f"{text}_{number}"
        made[name] = None
    return list(made)


ONE_HOT = Ready(fit, bind)
