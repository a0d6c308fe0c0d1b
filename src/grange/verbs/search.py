"""search: definitions by words, the words there are, and features that are like another. Reads; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from grange.definitions.catalog import Catalog
from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import offered
from grange.definitions.transformations import Transformation
from grange.errors import RequestError, closest_names
from grange.ports.registry import Hit, Kind, UseCount
from grange.verbs.parts import Parts

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One definition, or one feature of a feature group, that a search found."""

    kind: Kind
    name: str
    feature: str
    """The feature of the group `name`; "" for the whole definition."""
    score: float
    """How well it fits: over 0 to 1; 0 where there was no query."""
    field: str
    """The most telling field that a word was found in."""
    excerpt: str
    description: str
    """The first line."""
    uses: int
    """How often it was read, of all that was counted."""

    @property
    def reference(self) -> str:
        """As views and requests name it: `group`, `group:feature`."""
        return f"{self.name}:{self.feature}" if self.feature else self.name

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SearchResults(Sequence[SearchHit]):
    """What a search found, best first."""

    query: str
    hits: tuple[SearchHit, ...]

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: Any) -> Any:
        return self.hits[place]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"query": self.query, "hits": [hit.to_dict() for hit in self.hits]}


@dataclass(frozen=True, slots=True)
class Keywords:
    """The tags and owners that definitions have, each with how many have it; the most frequent first."""

    tags: tuple[tuple[str, str, int], ...]
    """(tag, value, definitions)."""
    owners: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tags": [{"tag": tag, "value": value, "definitions": count} for tag, value, count in self.tags],
            "owners": [{"owner": owner, "definitions": count} for owner, count in self.owners],
        }


def search(
    parts: Parts,
    catalog: Catalog,
    query: str,
    *,
    kinds: Iterable[str] | str,
    tags: Mapping[str, str] | None,
    owner: str,
    limit: int,
) -> SearchResults:
    """What is applied and has the words. See `FeatureStore.search`."""
    wanted = [_kind(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    found = parts.registry.search(query, kinds=wanted, tags=tags, owner=owner, limit=limit)
    counts = use_counts(parts.registry.uses()) if found else {}
    return SearchResults(query, tuple(_hit(catalog, hit, counts) for hit in found))


def _hit(catalog: Catalog, hit: Hit, counts: Mapping[tuple[str, str, str], int]) -> SearchHit:
    described = _description(catalog, hit.kind, hit.name, hit.feature)
    uses = counts.get((hit.kind, hit.name, hit.feature), 0)
    return SearchHit(hit.kind, hit.name, hit.feature, hit.score, hit.field, hit.excerpt, described, uses)


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise RequestError(f"no kind {text!r} to search for", found=", ".join(KINDS), closest=closest_names(text, KINDS))


def _description(catalog: Catalog, kind: Kind, name: str, feature: str) -> str:
    """The first line of what a definition says of itself; "" where it was deleted since."""
    definition = _of_kind(catalog, kind).get(name)
    if definition is None:
        return ""
    if feature:
        columns = offered(definition) if isinstance(definition, FeatureGroup) else ()
        return next((column.description.split("\n")[0] for column in columns if column.name == feature), "")
    return definition.description.strip().split("\n")[0]


def _of_kind(catalog: Catalog, kind: Kind) -> Mapping[str, Entity | FeatureGroup | FeatureView | Transformation]:
    every: dict[Kind, Any] = {
        "entity": catalog.entities,
        "feature_group": catalog.groups,
        "feature_view": catalog.views,
        "transformation": catalog.transformations,
    }
    found: Mapping[str, Entity | FeatureGroup | FeatureView | Transformation] = every[kind]
    return found


def keywords(catalog: Catalog) -> Keywords:
    """The tags and owners of everything that is applied."""
    tags: Counter[tuple[str, str]] = Counter()
    owners: Counter[str] = Counter()
    for definition in _definitions(catalog):
        tags.update(definition.tags)
        owners.update([definition.owner] if definition.owner else [])
    by_count = sorted(tags.items(), key=lambda item: (-item[1], item[0]))
    return Keywords(
        tuple((tag, value, count) for (tag, value), count in by_count),
        tuple(sorted(owners.items(), key=lambda item: (-item[1], item[0]))),
    )


def _definitions(catalog: Catalog) -> Iterator[Entity | FeatureGroup | FeatureView | Transformation]:
    for kind in KINDS:
        yield from _of_kind(catalog, kind).values()


def use_counts(uses: Iterable[UseCount]) -> dict[tuple[str, str, str], int]:
    """By (kind, name, feature), how often it was used on all days, by whatever verb."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for use in uses:
        counts[use.kind, use.name, use.feature] += use.count
    return dict(counts)


def use_summary(uses: Iterable[UseCount]) -> dict[str, int]:
    """By verb, how often something was used as a whole: for people who look at it."""
    counts: Counter[str] = Counter()
    for use in uses:
        if not use.feature:
            counts[use.verb] += use.count
    return dict(sorted(counts.items()))


__all__ = [
    "KINDS", "Keywords", "SearchHit", "SearchResults", "keywords", "search", "use_counts", "use_summary",
]  # fmt: skip
