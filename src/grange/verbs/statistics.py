"""statistics: of a version's columns, computed once and kept in the registry, since versions never change (VER-3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.errors import ConflictError, CorruptStoreError, RequestError, StoreUnavailableError, UnknownVersionError
from grange.ports.offline import VersionMeta
from grange.ports.registry import Document
from grange.types.time import isoformat, to_utc
from grange.verbs.batches import StoredRows
from grange.verbs.parts import Parts
from grange.verbs.versions import before as version_before

if TYPE_CHECKING:
    from grange.quality.statistics import ColumnStatistics, Comparison, Correlations, Profile

COLLECTION: Final = "statistics"
"""Where the registry has a document per version that was described."""


@dataclass(frozen=True, slots=True)
class VersionStatistics(Sequence["ColumnStatistics"]):
    """Statistics of a version's columns: a sequence of `ColumnStatistics`, with what they are of."""

    group: str
    version: str
    profile: Profile
    pending: int = 0
    """Pushed rows among them that the version has not: these statistics are of this moment, and were not kept."""
    computed_at: dt.datetime | None = None
    kept: bool = field(default=False, compare=False)
    """Whether they were kept before, and nothing was read for them."""

    @property
    def rows(self) -> int:
        """How many rows were described."""
        return self.profile.rows

    @property
    def columns(self) -> tuple[ColumnStatistics, ...]:
        """Of each column."""
        return self.profile.columns

    @property
    def correlations(self) -> Correlations | None:
        """Of the columns of numbers, if they were asked for."""
        return self.profile.correlations

    def column(self, name: str) -> ColumnStatistics:
        """Of one column, or UnknownFeatureError with the closest ones."""
        return self.profile.column(name)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, place: Any) -> Any:
        return self.columns[place]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "version": self.version,
            "pending": self.pending,
            "computed_at": None if self.computed_at is None else isoformat(self.computed_at),
            **self.profile.to_dict(),
        }


def statistics(
    parts: Parts,
    catalog: Catalog,
    group: str,
    *,
    version: str | None,
    columns: Sequence[str] | None,
    compute: bool,
    correlations: bool,
    now: dt.datetime,
) -> VersionStatistics:
    """Statistics of a group's stored columns. See `FeatureStore.statistics`."""
    catalog.group(group)
    stored = StoredRows.of(parts.offline.snapshot(group, version))
    wanted = stored.told if columns is None else stored.chosen(columns)
    if not wanted:
        raise RequestError("no column was named to describe", try_="leave columns out for all of them")
    number = stored.snapshot.meta.version
    if stored.pending:
        described = _described(parts, stored, wanted, correlations=correlations)
        return VersionStatistics(group, number, described, stored.pending, now)
    found = None if compute else _kept(parts, stored.snapshot.meta)
    lacking = wanted if found is None else [name for name in wanted if name not in found.names]
    correlated = not correlations or (found is not None and found.correlates(wanted))
    if found is not None and not lacking and correlated:
        return VersionStatistics(
            group, number, found.of(wanted, correlations=correlations), 0, found.computed_at, kept=True
        )
    described = _described(parts, stored, lacking if correlated else wanted, correlations=not correlated)
    whole = _Kept(described, now) if found is None else found.with_(described, stored.schema.names, now)
    _keep(parts, stored.snapshot.meta, whole, now)
    return VersionStatistics(group, number, whole.of(wanted, correlations=correlations), 0, now)


def compare_statistics(
    parts: Parts, catalog: Catalog, group: str, before: str | None, after: str | None, *, now: dt.datetime
) -> Comparison:
    """What changed between the values of two versions. See `FeatureStore.compare_statistics`."""
    from grange.quality.statistics import compare

    catalog.group(group)
    later = parts.offline.meta(group, after).version
    earlier = before or version_before(parts.offline.versions(group), later)
    if earlier is None:
        raise RequestError(
            f"feature group {group!r} has nothing below version {later} to compare it with",
            found=", ".join(parts.offline.versions(group)),
            try_=f"grange versions {group}",
        )

    def profile_of(version: str) -> Profile:
        return statistics(
            parts, catalog, group, version=version, columns=None, compute=False, correlations=False, now=now
        ).profile

    return compare(profile_of(earlier), profile_of(later))


def forget(parts: Parts, group: str, version: str | None = None) -> None:
    """Remove what was kept of a version, or of all versions of a group.

    What the registry cannot remove now is of rows that are gone: a version of the same number has another content
    hash, and what is kept of another one is never given back.
    """
    with suppress(StoreUnavailableError, ConflictError):
        keys = [item.key for item in parts.registry.documents(COLLECTION, prefix=f"{group}@", limit=None)]
        for key in keys:
            if version is None or key == key_of(group, version):
                parts.registry.remove(COLLECTION, key)


def known_statistics(
    parts: Parts, catalog: Catalog, *, compute: bool, now: dt.datetime
) -> Callable[[str, str], ColumnStatistics | None]:
    """What finds the statistics of a feature among those kept of the latest versions.

    Args:
        parts: the opened backends.
        catalog: the applied definitions.
        compute: compute, and keep, those that are not.
        now: the clock.
    """
    by_group: dict[str, Mapping[str, ColumnStatistics]] = {}

    def of_group(name: str) -> Mapping[str, ColumnStatistics]:
        with suppress(UnknownVersionError, CorruptStoreError):  # nothing stored, or `verify` says what is wrong
            meta = parts.offline.meta(name)
            if compute:
                every = statistics(
                    parts, catalog, name, version=meta.version, columns=None, compute=False, correlations=False, now=now
                )
                return {column.name: column for column in every}
            kept = _kept(parts, meta)
            return {} if kept is None else {column.name: column for column in kept.profile.columns}
        return {}

    def known(group: str, feature: str) -> ColumnStatistics | None:
        if group not in by_group:
            by_group[group] = of_group(group)
        return by_group[group].get(feature)

    return known


def key_of(group: str, version: str) -> str:
    """The key of a version's document."""
    return f"{group}@{version}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the registry has of a version: the profile of the columns that were asked for so far."""

    profile: Profile
    computed_at: dt.datetime

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.profile.columns)

    def correlates(self, columns: Sequence[str]) -> bool:
        """Whether the correlations of these columns are in it."""
        found = self.profile.correlations
        numbers = {column.name for column in self.profile.columns if column.kind == "number"}
        return found is not None and all(name in found.names for name in columns if name in numbers)

    def of(self, columns: Sequence[str], *, correlations: bool) -> Profile:
        """The profile of some columns, in the order asked for."""
        own = self.profile.correlations
        names = None if own is None else [name for name in columns if name in own.names]
        chosen = None if own is None or names is None or not correlations else _selected(own, names)
        return replace(self.profile, columns=tuple(self.profile.column(name) for name in columns), correlations=chosen)

    def with_(self, added: Profile, order: Sequence[str], now: dt.datetime) -> _Kept:
        """With more columns, in the order of the version's. Of correlations those of more columns are kept."""
        columns = {column.name: column for column in (*self.profile.columns, *added.columns)}
        both = [item for item in (self.profile.correlations, added.correlations) if item is not None]
        return _Kept(
            replace(
                self.profile,
                columns=tuple(columns[name] for name in order if name in columns),
                correlations=max(both, key=lambda item: len(item.names), default=None),
            ),
            now,
        )


def _selected(found: Correlations, names: Sequence[str]) -> Correlations:
    """Those of some columns among themselves."""
    import numpy as np

    places = [found.names.index(name) for name in names]
    pairs = np.ix_(places, places)
    return replace(
        found,
        names=tuple(names),
        count=found.count[pairs],
        mean=found.mean[pairs],
        spread=found.spread[pairs],
        product=found.product[pairs],
        scale=found.scale[places],
    )


def _described(parts: Parts, stored: StoredRows, columns: Sequence[str], *, correlations: bool) -> Profile:
    from grange.quality.statistics import profile

    batches: Iterator[Any] = stored.batches(parts.engine(), columns)
    described = profile(batches, columns, correlations=correlations)
    return replace(described, summaries=None)  # versions never change, so there is nothing to merge them with


def _kept(parts: Parts, meta: VersionMeta) -> _Kept | None:
    """What is kept of a version; None where nothing is, or it is of other rows."""
    document = parts.registry.get(COLLECTION, key_of(meta.name, meta.version))
    if document is None or document.data.get("content_hash") != meta.content_hash:
        return None
    return _read(document)


def _read(document: Document) -> _Kept | None:
    from grange.quality.statistics import Profile

    try:
        return _Kept(Profile.from_data(document.data["profile"]), to_utc(document.data["computed_at"]))
    except (RequestError, KeyError, TypeError, ValueError):
        return None  # of another release: they are computed again


def _keep(parts: Parts, meta: VersionMeta, kept: _Kept, now: dt.datetime) -> None:
    """Keep statistics. A registry that cannot be reached is no reason to withhold them."""
    data = {
        "group": meta.name,
        "version": meta.version,
        "content_hash": meta.content_hash,
        "computed_at": isoformat(kept.computed_at),
        "profile": kept.profile.to_data(),
    }
    with suppress(StoreUnavailableError, ConflictError):
        parts.registry.put(COLLECTION, key_of(meta.name, meta.version), data, now=now)


__all__ = ["COLLECTION", "VersionStatistics", "compare_statistics", "forget", "known_statistics", "statistics"]
