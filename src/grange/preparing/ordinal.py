"""label_encoder and ordinal_encoder: the number of a category, as scikit-learn's OrdinalEncoder has it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from grange.preparing.bound import INTEGER, Bound, Ready, Settings
from grange.preparing.categories import as_array, counted, kept, numbers_of, refuse_unknown, to_data, told
from grange.preparing.subject import Subject


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, list[Any]]:
    """The categories, sorted."""
    return {"categories": [to_data(value) for value in counted(column, subject)]}


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The place of a category in their order."""
    own = given.get("categories")
    known = kept(learned["categories"], subject) if own is None else told(own, subject)
    unknown = given.get("unknown", "error")
    wanted, numbers = as_array(known, subject.dtype), {value: number for number, value in enumerate(known)}

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        places, null = numbers_of(column, wanted)
        other = (places < 0) & ~null
        if unknown == "error":
            refuse_unknown(column, other, known, subject)
        elif unknown == "null":
            null = null | other
        else:
            places[other] = unknown
        return [pa.chunked_array([pa.array(places, mask=null)])]

    def value(given: Any) -> int | None:
        if given is None:
            return None
        number = numbers.get(given)
        if number is not None:
            return number
        if unknown == "error":
            raise subject.never_seen(given, known, None)
        return None if unknown == "null" else unknown

    return Bound((("", INTEGER),), columns, value)


ORDINAL = Ready(fit, bind)
