"""Derived groups: what they are made of, which of them come first, and which are stale."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.sources import DerivedSource
from grange.errors import (
    ConflictError,
    CorruptStoreError,
    CyclicDefinitionError,
    DefinitionError,
    GrangeError,
    MissingColumnError,
    NameCollisionError,
    SourceError,
    StoreUnavailableError,
    UnknownVersionError,
    closest_names,
)
from grange.plan.bind import Bound, BoundSelection, Request, bind, resolve
from grange.ports.offline import NEVER_MATERIALIZED
from grange.types import DataType, Schema
from grange.types.schema import Column

if TYPE_CHECKING:
    from grange.verbs.parts import Parts

CHECKED: Final = "derived"
"""The collection of documents that say, by derived group, what its latest version was last checked against."""
_DATETIME = DataType("datetime")

Pins = tuple[tuple[str, str, int], ...]
"""(feature group, version, and the sequence below which pushed rows were seen), for each that was read; versions that
are pinned come first."""


def parents_of(group: FeatureGroup) -> tuple[str, ...]:
    """The groups that a derived group is made of; none of any other group."""
    return group.source.parents if isinstance(group.source, DerivedSource) else ()


def children_of(catalog: Catalog, name: str) -> tuple[str, ...]:
    """The groups that are derived from a group, directly."""
    return tuple(group.name for group in catalog.groups.values() if name in parents_of(group))


def in_order(catalog: Catalog, names: Iterable[str]) -> tuple[str, ...]:
    """Groups with their parents before them, otherwise in the order given.

    Raises:
        CyclicDefinitionError: a group is made of itself.
    """
    wanted = list(dict.fromkeys(names))
    ordered: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise CyclicDefinitionError(
                f"feature group {name!r} is derived from itself", found=" -> ".join((*path, name))
            )
        group = catalog.groups.get(name)
        for parent in parents_of(group) if group is not None else ():
            visit(parent, (*path, name))
        if name in wanted:
            ordered.setdefault(name)

    for name in wanted:
        visit(name, ())
    return tuple(ordered)


def with_children(catalog: Catalog, names: Sequence[str]) -> tuple[str, ...]:
    """Groups and all that are derived from them, parents first."""
    found = dict.fromkeys(names)
    grown = True
    while grown:
        more = [
            group.name
            for group in catalog.groups.values()
            if group.name not in found and any(parent in found for parent in parents_of(group))
        ]
        found |= dict.fromkeys(more)
        grown = bool(more)
    return in_order(catalog, found)


def derived_schema(catalog: Catalog, group: FeatureGroup) -> Schema:
    """The raw columns of a derived group, as its parents are defined: the base group's entity key and time, then the
    features.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureError, NameCollisionError: with the closest names.
        SourceError: the base group has no event times.
        DefinitionError: features that need what a request brings; a filter that does not fit the types of its columns.
        MissingColumnError: the filter, or a join, names a column that there is not.
    """
    with speaking_of(group):
        asked = request_of(catalog, group)
        bound = bind(catalog, asked, {}, labels=False, full_feature_names=False)
    base = catalog.group(asked.selections[0].source)
    if base.is_timeless:
        raise SourceError(
            f"feature group {group.name!r} cannot be derived from {base.name!r}, which has no event times",
            try_=f"begin with a group that has: gr.DerivedSource([..., {base.name!r}])",
        )
    keys = [Column(column, base.schema[key]) for column, key in bound.selections[0].keys]
    _check_time(group, base, [column.name for column in keys], bound)
    schema = Schema((*keys, Column(group.event_time, _DATETIME), *bound.schema.columns))
    _check_joins(group, bound, [column.name for column in keys])
    _check_filter(group, schema)
    return schema


def request_of(catalog: Catalog, group: FeatureGroup) -> Request:
    """What a derived group takes of its parents.

    Raises:
        DefinitionError: features that need what a request brings.
    """
    asked = resolve(catalog, view_of(group))
    if asked.requests:
        raise DefinitionError(
            f"feature group {group.name!r} is derived of features that need what a request brings",
            found=", ".join(asked.requests.names),
            try_="leave those features out; a feature view can take them",
        )
    return asked


def view_of(group: FeatureGroup) -> FeatureView:
    """The features of a derived group as a view has them, without its filter."""
    assert isinstance(group.source, DerivedSource)
    return FeatureView(group.name, features=group.source.features)


def keeps_base_rows(selections: Sequence[BoundSelection]) -> bool:
    """Whether a derived group has the stored rows of its base group, each of them, whatever is equal in them (WIN-6).

    Otherwise its rows are distinct entity keys and times: those that a right or full join asks for, and of a base
    group whose features are not in its rows, since they are aggregates or were true strictly before.
    """
    base, *others = selections
    asks = any(item.selection.join in ("right", "full") for item in others)
    return base.selection.exact_matches and not base.layout.aggregates and not asks


@contextmanager
def speaking_of(group: FeatureGroup) -> Iterator[None]:
    """Errors speak of the derived group, and not of the feature view that it is bound as."""
    bound_as, name = f"feature view {group.name!r}", f"feature group {group.name!r}"
    try:
        yield
    except GrangeError as error:
        error.message = error.message.replace(bound_as, name)
        if error.asked_by in (None, bound_as) and name not in error.message:
            error.asked_by = name
        elif error.asked_by == bound_as:
            error.asked_by = None
        raise


def _check_time(group: FeatureGroup, base: FeatureGroup, keys: Sequence[str], bound: Bound) -> None:
    """Refuse a time that has the name of a key or feature.

    Raises:
        NameCollisionError: says of which.
    """
    time = group.event_time
    if time not in keys and time not in bound.columns:
        return
    other = next((str(item) for item in bound.features if item.name == time), time)
    raise NameCollisionError(
        f"feature group {group.name!r}: the time of its rows and another column would both be called {time!r}",
        found=f"a join key of {base.name!r}" if time in keys else f"feature {other}",
        try_="call the time otherwise: gr.DerivedSource(..., event_time='...'), or --event-time",
    )


def _check_joins(group: FeatureGroup, bound: Bound, keys: Sequence[str]) -> None:
    """Check that the rows have the columns that groups are joined on.

    Raises:
        MissingColumnError: one that there is not; with the closest.
    """
    base, *others = bound.selections
    if not keeps_base_rows(bound.selections):
        return  # a made spine says itself what it lacks, once it is known of which groups it is made
    for item in others:
        for column, key in item.keys:
            if column not in keys:
                name = item.group.name
                raise MissingColumnError(
                    f"feature group {group.name!r}: its rows have no key column {column!r} to join {name!r} on",
                    found=", ".join(keys),
                    closest=closest_names(column, keys),
                    try_=f"gr.select({name!r}, on={{{key!r}: '...'}}) with a key column of {base.group.name!r}",
                )


def _check_filter(group: FeatureGroup, schema: Schema) -> None:
    """Check that a derived group's filter goes together with the columns of its rows.

    Raises:
        MissingColumnError: it names one that there is not; with the closest.
        DefinitionError: it is not for columns of these types.
    """
    assert isinstance(group.source, DerivedSource)
    if not group.source.filter:
        return
    from grange.definitions.expressions import expression_dtype, parse_condition

    what = f"feature group {group.name!r}: filter"
    parsed = parse_condition(group.source.filter, what=what)
    for column in parsed.columns:
        if column not in schema:
            raise MissingColumnError(
                f"{what} takes {column!r}, which is no column of its rows",
                found=", ".join(schema.names),
                closest=closest_names(column, schema.names),
                try_=f"filter: {group.source.filter}",
            )
    expression_dtype(parsed, schema)


# fresh and stale


def stale_parents(parts: Parts, group: FeatureGroup) -> Iterator[tuple[str, str, str]]:
    """(parent, version that the latest version was checked against, what the parent has now) where the two differ: a
    parent has another version, or rows were pushed to it since. A pinned parent never changes.
    """
    try:
        version = parts.offline.meta(group.name).version
    except (UnknownVersionError, CorruptStoreError):
        return
    against = _checked_against(parts, group.name, version)
    for parent in _followed(group):
        there = _version_now(parts, parent)
        if there is None:
            continue  # nothing to make rows of
        seen, pushed_until = against.get(parent, ("", None))
        newer = 0 if pushed_until is None else parts.offline.next_pushed(parent) - pushed_until
        if seen != there:
            yield parent, seen, there
        elif newer > 0:
            yield parent, seen, f"{there} and {newer} newer pushed row{'s' if newer > 1 else ''}"


def mark_checked(parts: Parts, group: FeatureGroup, version: str, pins: Pins, *, now: dt.datetime) -> tuple[str, ...]:
    """Remember what a derived group's latest version was checked against, whether or not it is new. When the registry
    cannot, that is said instead of failing what is stored already."""
    if not isinstance(group.source, DerivedSource):
        return ()
    parents = {parent: {"version": seen, "pushed_until": until} for parent, seen, until in pins}
    try:
        parts.registry.put(CHECKED, group.name, {"version": version, "parents": parents}, now=now)
    except (StoreUnavailableError, ConflictError) as error:
        return (f"the rows are stored, and the registry could not record what they were made of: {error.message}",)
    return ()


def _followed(group: FeatureGroup) -> tuple[str, ...]:
    """The parents whose latest rows a derived group takes."""
    assert isinstance(group.source, DerivedSource)
    return tuple(dict.fromkeys(item.source for item in group.source.features if item.version is None))


def forget_parents(parts: Parts, group: str) -> None:
    """Remove what a group was checked against. A leftover does no harm: it says which version it is of, and the next
    materialize of that name writes over it."""
    with suppress(StoreUnavailableError, ConflictError):
        parts.registry.remove(CHECKED, group)


def _checked_against(parts: Parts, group: str, version: str) -> Mapping[str, tuple[str, int | None]]:
    """By parent, the version and the reach of pushed rows that a version was last checked against; as it was made of
    them where nothing else is known, as after a rollback."""
    document = parts.registry.get(CHECKED, group)
    if document is not None and document.data.get("version") == version:
        known: Mapping[str, Any] = document.data["parents"]
        return {parent: (seen["version"], seen["pushed_until"]) for parent, seen in known.items()}
    return {parent: (seen, None) for parent, seen in parts.offline.meta(group, version).parents}


def _version_now(parts: Parts, parent: str) -> str | None:
    """The version that a parent is read at; None when it has no history."""
    from grange.verbs.versions import latest_version  # which materializes, and so comes after this

    latest = latest_version(parts, parent)
    if latest is None and parts.offline.pushed(parent) is not None:
        return NEVER_MATERIALIZED
    return latest
