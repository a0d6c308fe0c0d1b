"""What applying definitions would do to what policies protect: it must not be the way around them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grange.access.sight import resource
from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import DerivedSource, FileSource, PushSource, Source, TableSource
from grange.security.policies import ACTIONS
from grange.verbs.derive import derived_schema
from grange.verbs.origins import Ancestry

if TYPE_CHECKING:
    from grange.ports.offline import VersionMeta
    from grange.security.policies import Action, Policies
    from grange.verbs.origins import Origin
    from grange.verbs.parts import Parts

_MAKING: Final = ("entities", "source", "transform", "schema", "aggregations", "interval", "fill_gaps", "on_demand")
"""The fields of a group that decide which values it has."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """A policy that would not be about a feature any more, or would be told otherwise by another one."""

    feature: str
    """`group:feature`, or a group."""
    policy: str


def lifted(parts: Parts, before: Ancestry, now: Catalog, given: Sequence[Any], policies: Policies) -> Iterator[Lifted]:
    """Policies that groups would slip out of: by other tags, or because they would be made of something else.

    A policy that denies or masks must stay about all that it is about. One that allows closes a feature to everybody
    else, so none must go, and none come where there is one.

    Args:
        parts: the opened backends.
        before: what the features of today are made of.
        now: the definitions of today.
        given: definitions that are to be applied.
        policies: in force.
    """
    groups = [
        item for item in given if isinstance(item, FeatureGroup) and now.groups.get(item.name) not in (None, item)
    ]
    if not groups or not policies.policies:
        return
    after = now.merged(Catalog.of(_whole(now.merged(Catalog.of(given)), item) for item in given))
    above = Ancestry(parts, after)
    for group in groups:
        metas = stored_versions(parts, group.name)
        for feature in _features(now.groups[group.name], metas):
            made_of = dict.fromkeys(before.of(group.name, feature))
            made_of |= dict.fromkeys(
                origin for meta in metas if feature in _stored(meta) for origin in before.of_version(meta, feature)
            )
            yield from _slipped(policies, (now, made_of), (after, above.of(group.name, feature)))


def unseen(before: Ancestry, now: Catalog, meta: VersionMeta, policies: Policies) -> Iterator[Lifted]:
    """Policies that are about what a version was made of, and not about what its group is made of by now: were it the
    latest, they would not be asked.

    Args:
        before: what the features of today are made of.
        now: the definitions of today.
        meta: the version's.
        policies: in force.
    """
    for feature in _stored(meta):
        known = before.of(meta.name, feature)
        for action in ACTIONS:
            held = {policy for origin in known for policy in _about(policies, action, now, origin)}
            for origin in before.of_version(meta, feature):
                slipped = _about(policies, action, now, origin) - held
                yield from (Lifted(":".join(filter(None, (meta.name, feature))), name) for name, _ in sorted(slipped))


def stored_versions(parts: Parts, group: str) -> tuple[VersionMeta, ...]:
    """What is known of all versions of a group, and of the rows that were pushed last."""
    newest = parts.offline.newest_push(group)
    metas = tuple(parts.offline.meta(group, version) for version in parts.offline.versions(group))
    return metas if newest is None else (*metas, newest)


def _whole(catalog: Catalog, definition: Any) -> Any:
    """A definition as it will be applied: what is derived as it comes has the columns of its parents."""
    is_open = isinstance(definition, FeatureGroup) and not definition.schema and definition.transform is None
    if is_open and isinstance(definition.source, DerivedSource):
        return definition.with_(schema=derived_schema(catalog, definition))
    return definition


def _features(group: FeatureGroup, metas: Iterable[VersionMeta]) -> dict[str, None]:
    """The features that a group has or had; "" is the group as a whole."""
    return dict.fromkeys(("", *group.features().names, *(name for meta in metas for name in _stored(meta))))


def _stored(meta: VersionMeta) -> tuple[str, ...]:
    """What a version has besides entity key and times; "" is all of it."""
    times = filter(None, (meta.event_time, meta.created_time))
    return ("", *meta.schema.without([*meta.entity_keys, *times]).names, *meta.features.names)


def _slipped(
    policies: Policies, before: tuple[Catalog, Iterable[Origin]], after: tuple[Catalog, Iterable[Origin]]
) -> Iterator[Lifted]:
    for action in ACTIONS:
        old = {origin: _about(policies, action, before[0], origin) for origin in before[1]}
        new = {origin: _about(policies, action, after[0], origin) for origin in after[1]}
        held = {policy for found in new.values() for policy in found}
        feature = ":".join(filter(None, next(iter(old))))
        for origin, found in old.items():
            yield from (Lifted(feature, name) for name, effect in sorted(found - held))
            allowing = {each for each in found if each[1] == "allow"}
            more = {each for each in new.get(origin, ()) if each[1] == "allow"} - allowing
            yield from (Lifted(feature, name) for name, _ in sorted(more) if allowing)


def _about(policies: Policies, action: Action, catalog: Catalog, origin: Origin) -> frozenset[tuple[str, str]]:
    found = policies.about(action, resource(catalog, *origin))
    return frozenset((policy.name, policy.effect) for policy in found)


def makes_values_otherwise(before: FeatureGroup | None, after: FeatureGroup) -> bool:
    """Whether a group would have other values than now."""
    if before is None:
        return True
    inferred = {"schema"} if not after.schema else set()  # left out, it stays what it is
    return any(getattr(before, name) != getattr(after, name) for name in _MAKING if name not in inferred)


def readers_of(catalog: Catalog, source: Source, project: Path) -> tuple[str, ...]:
    """The groups that read, as far as can be told, rows of a source that is no other group."""
    return tuple(group.name for group in catalog.groups.values() if _share(group.source, source, project))


def _share(one: Source, other: Source, project: Path) -> bool:
    """Whether two sources may have rows in common."""
    streams = [{each.name for each in _streams(source)} for source in (one, other)]
    if not streams[0].isdisjoint(streams[1]):
        return True
    files = [[_place(each.path, project) for each in _files(source)] for source in (one, other)]
    return any(_overlap(a, b) for a in files[0] for b in files[1])


def _streams(source: Source) -> Iterator[TableSource | PushSource]:
    if isinstance(source, TableSource | PushSource):
        yield source


def _files(source: Source) -> Iterator[FileSource]:
    match source:
        case FileSource():
            yield source
        case PushSource():
            if source.batch_source is not None:
                yield source.batch_source
        case TableSource() | DerivedSource():
            return


def _place(path: str, project: Path) -> str:
    """A path, the same for all ways to write it; links are followed as far as there are any."""
    scheme, found, rest = path.partition("://")
    if found:
        return f"{scheme}://{os.path.normpath(rest)}"
    return os.path.realpath(project / path)


def _overlap(one: str, other: str) -> bool:
    """Whether two paths, globs or folders may lead to one file."""
    return _leads_to(one, other) or _leads_to(other, one)


def _leads_to(pattern: str, path: str) -> bool:
    if fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/"):
        return True
    fixed = pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=0)].rpartition("/")[0]
    # two globs: whether they have a file in common is not worth telling exactly
    return bool(fixed) and any(sign in path for sign in "*?[") and path.startswith(fixed + "/")
