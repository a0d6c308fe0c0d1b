"""Features in a request that are more than a name: under other names, by other key columns, strictly before.

    {"features": ["spend:visits", {"source": "spend", "features": ["amount"], "rename": {"amount": "paid"}}]}

The fields are those that a feature view's definition has. What is read is what `gr.select` makes of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from grange.definitions.on_demand import offered
from grange.definitions.references import FeatureSelection, JoinType, select
from grange.errors import RequestError, TooLargeError
from grange.http.limits import check_features

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog

MOST: Final = 1000
"""Columns that the objects of one request may come to. Names come to no more columns than the groups have; objects
could come to any number, each of which takes memory, here and in every row of the answer."""
MOST_TIMES: Final = 16
"""How often they may take one feature."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}$", max_length=128)]
Column = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Version = Annotated[str, msgspec.Meta(max_length=29)]
Prefix = Annotated[str, msgspec.Meta(max_length=256)]


class SelectedFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Features of a group under other names, by other key columns, or strictly before the row's time; a view whole."""

    source: Name
    """A feature group; or a feature view, which is taken over whole."""
    features: Annotated[tuple[Column, ...], msgspec.Meta(max_length=MOST)] = ()
    """Which of the group's features; none is all."""
    version: Version | None = None
    """A pinned version of the group; the latest without."""
    on: Annotated[dict[Column, Column], msgspec.Meta(max_length=64)] = {}
    """By join key of the group, the column of the rows to take it from."""
    rename: Annotated[dict[Column, Column], msgspec.Meta(max_length=MOST)] = {}
    """By feature, its column in the answer."""
    prefix: Prefix = ""
    """Put before the other columns of the answer."""
    exact_matches: bool = True
    """False sees only what was strictly before the row's time (PIT-2)."""
    join: JoinType = "left"
    """Which rows of history stay; online every row is answered (ONL-4)."""

    def __hash__(self) -> int:
        """By value, so that a request is known again: the two mappings have no hash of their own."""
        pairs = frozenset(self.on.items()), frozenset(self.rename.items())
        return hash((self.source, self.features, self.version, *pairs, self.prefix, self.exact_matches, self.join))

    def selection(self) -> FeatureSelection:
        """What definitions have for it.

        Raises:
            RequestError: a version that is none.
            DefinitionError: a name that no column can have; something is renamed that is not selected.
        """
        return select(
            self.source,
            *self.features,
            version=self.version,
            on=self.on,
            rename=self.rename,
            prefix=self.prefix,
            exact_matches=self.exact_matches,
            join=self.join,
        )


_DECODE: Final = msgspec.json.Decoder(SelectedFeatures).decode
Features = str | list[str | SelectedFeatures]
"""A feature view, or a list of references and of selections."""
Selections = str | list[str | FeatureSelection]
"""The same as the verbs take it."""


def selections_of(catalog: Catalog, features: Features) -> tuple[Selections, int]:
    """What a request names as the verbs take it, and how much of it there is, in names.

    Raises:
        TooLargeError: more than one request may name, or a feature too often.
        RequestError, DefinitionError: an object that is no selection.
    """
    if isinstance(features, str):
        return features, 1
    check_features(len(features))
    # objects that say the same are one
    found = list(dict.fromkeys(item if isinstance(item, str) else item.selection() for item in features))
    return found, len(features) + _columns(catalog, found)


def _columns(catalog: Catalog, items: Iterable[str | FeatureSelection]) -> int:
    """How many columns selections come to.

    Raises:
        TooLargeError: too many, or a feature too often.
    """
    times: Counter[tuple[str, str]] = Counter()
    for item in items:
        if not isinstance(item, str):
            group = catalog.groups.get(item.source)
            taken = item.features or (group is not None and offered(group).names) or ("",)
            times.update((item.source, feature) for feature in {*taken, *dict(item.rename)})
    if times.total() > MOST:
        raise TooLargeError(
            f"one request may take {MOST:,} features by objects",
            found=f"{times.total():,}",
            try_="define a feature view, and name that",
            details={"limit": MOST},
        )
    for (source, feature), count in times.most_common(1):
        if count > MOST_TIMES:
            raise TooLargeError(
                f"one request may take a feature {MOST_TIMES} times",
                found=f"{source}:{feature} {count} times",
                details={"limit": MOST_TIMES},
            )
    return times.total()


def from_query(texts: Sequence[str]) -> Features:
    """Features as a query has them: a view alone, or references, and selections as JSON.

    Raises:
        RequestError: JSON that is no selection; says what is wrong with it.
    """
    if len(texts) == 1 and ":" not in texts[0] and not texts[0].startswith("{"):
        return texts[0]
    return [_decoded(text) if text.startswith("{") else text for text in texts]


def _decoded(text: str) -> SelectedFeatures:
    try:
        return _DECODE(text)
    except msgspec.DecodeError as error:
        raise RequestError(f"the query names features by an object that is none: {error}", found=text[:200]) from error


__all__ = ["Features", "SelectedFeatures", "Selections", "from_query", "selections_of"]
