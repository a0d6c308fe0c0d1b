"""similar: features that are like another, by name, by type and by their values. Reads; changes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.on_demand import offered
from grange.definitions.references import parse_reference
from grange.errors import RequestError
from grange.types import DataType
from grange.types.schema import Column

if TYPE_CHECKING:
    from grange.quality.statistics import ColumnStatistics

WEIGHTS: Final = {"name": 0.5, "type": 0.2, "values": 0.3}
"""What each part counts for; where values are not known, the others count for as much more."""

Known = Callable[[str, str], "ColumnStatistics | None"]
"""The statistics of a group's feature; None where none are kept."""

_WORDS: Final = re.compile(r"[^\W\d_]+|\d+[^\W\d_]*")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class SimilarFeature:
    """A feature that is like the one asked about."""

    group: str
    feature: str
    dtype: str
    name: float
    """How alike the names are, 0 to 1: half the share of common words, half that of common runs of characters."""
    type: float
    """1 for equal types, 0.8 of one family (integers, floats), 0.5 for numbers, and for times; else 0."""
    values: float | None
    """The overlap of the values' distributions (`grange.quality.statistics.similarity`); None where the statistics of
    one of both are not kept."""
    description: str = ""

    @property
    def reference(self) -> str:
        """As views and requests name it."""
        return f"{self.group}:{self.feature}"

    @property
    def parts(self) -> dict[str, float]:
        """By part, what is known: the score is their mean, weighted by `WEIGHTS`."""
        known = {"name": self.name, "type": self.type}
        return known if self.values is None else known | {"values": self.values}

    @property
    def score(self) -> float:
        """How alike they are in all, 0 to 1."""
        known = self.parts
        return sum(WEIGHTS[part] * value for part, value in known.items()) / sum(WEIGHTS[part] for part in known)

    @property
    def made_of(self) -> str:
        """How the score is made, for people."""
        total = sum(WEIGHTS[part] for part in self.parts)
        return " + ".join(f"{WEIGHTS[part] / total:.2f} {part} {value:.2f}" for part, value in self.parts.items())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "feature": self.feature,
            "dtype": self.dtype,
            "description": self.description,
            "score": self.score,
            "name": self.name,
            "type": self.type,
            "values": self.values,
            "made_of": self.made_of,
        }


def similar(catalog: Catalog, reference: str, *, limit: int, known: Known) -> tuple[SimilarFeature, ...]:
    """The features that are most like one, best first; equally good ones by name.

    Args:
        catalog: the applied definitions.
        reference: `"group:feature"`.
        limit: at most so many.
        known: the statistics that there are.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureError: there is no such feature.
        RequestError: something that names no feature, or a version; a negative limit.
    """
    if limit < 0:
        raise RequestError(f"limit must be zero or more, got {limit}")
    group, column = _asked(catalog, reference)
    own = known(group, column.name)
    found = [
        SimilarFeature(
            other,
            item.name,
            str(item.dtype),
            name_similarity(column.name, item.name),
            type_similarity(column.dtype, item.dtype),
            _overlap(own, None if own is None else known(other, item.name)),
            item.description.split("\n")[0],
        )
        for other, item in _features(catalog)
        if (other, item.name) != (group, column.name)
    ]
    return tuple(sorted(found, key=lambda item: (-item.score, item.group, item.feature))[:limit])


def _asked(catalog: Catalog, reference: str) -> tuple[str, Column]:
    selection = parse_reference(reference)
    if len(selection.features) != 1 or selection.version is not None:
        raise RequestError(
            f"{reference!r} names no feature to find similar ones of",
            found="a version: features are compared as they are now" if selection.version else "a feature group",
            try_=f"{selection.source}:feature",
        )
    (feature,) = selection.features
    columns = offered(catalog.group(selection.source))
    catalog.check_feature(catalog.group(selection.source), columns.names, feature, asked_by=None)
    return selection.source, next(column for column in columns if column.name == feature)


def _features(catalog: Catalog) -> Iterator[tuple[str, Column]]:
    for group in catalog.groups.values():
        for column in offered(group):
            yield group.name, column


def words_of(name: str) -> Counter[str]:
    """The words of a name, in lower case: `avgAmount__7d` has `avg`, `amount` and `7d`."""
    return Counter(word.casefold() for part in _HUMPS.split(name) for word in _WORDS.findall(part))


def name_similarity(one: str, other: str) -> float:
    """How alike two names are, 0 to 1, whichever comes first."""
    left, right = words_of(one), words_of(other)
    total = left.total() + right.total()
    common = 2 * (left & right).total() / total if total else 0.0
    low, high = sorted(("_".join(sorted(left.elements())), "_".join(sorted(right.elements()))))
    return (common + SequenceMatcher(None, low, high, autojunk=False).ratio()) / 2


def type_similarity(one: DataType, other: DataType) -> float:
    """How alike two types are: 1 equal, 0.8 of one family, 0.5 for numbers and for times, else 0."""
    if one == other:
        return 1.0
    if (one.is_integer and other.is_integer) or (one.is_float and other.is_float) or one.kind == other.kind:
        return 0.8
    both = {_family(one), _family(other)}
    return 0.5 if len(both) == 1 and both != {""} else 0.0


def _family(dtype: DataType) -> str:
    if dtype.is_integer or dtype.is_float or dtype.kind == "decimal":
        return "number"
    return "time" if dtype.kind in ("date", "datetime") else ""


def _overlap(one: ColumnStatistics | None, other: ColumnStatistics | None) -> float | None:
    if one is None or other is None:
        return None
    from grange.quality.statistics import similarity

    return similarity(one, other)


__all__ = ["WEIGHTS", "SimilarFeature", "name_similarity", "similar", "type_similarity", "words_of"]
