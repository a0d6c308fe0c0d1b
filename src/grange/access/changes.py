"""What applying definitions would do to what policies protect: it must not be the way around them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grange.access.sight import resource
from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import DerivedSource, FileSource, PushSource, Source, TableSource
from grange.security.policies import ACTIONS
from grange.types import Schema
from grange.verbs.derive import derived_schema, in_order, parents_of
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


@dataclass(frozen=True, slots=True)
class Changed:
    """The definitions as they would be, applied."""

    catalog: Catalog
    given: tuple[Any, ...]
    """What is to be applied of it."""
    opened: frozenset[str]
    """The groups whose columns are found when they are applied, so that they are not known yet."""


def lifted(parts: Parts, before: Ancestry, now: Catalog, after: Changed, policies: Policies) -> Iterator[Lifted]:
    """Policies that groups would slip out of: by other tags, or because they would be made of something else.

    A policy that denies or masks must stay about all that it is about. One that allows closes a feature to everybody
    else, so none must go, and none come where there is one.

    Args:
        parts: the opened backends.
        before: what the features of today are made of.
        now: the definitions of today.
        after: as they would be.
        policies: in force.
    """
    above = Ancestry(parts, after.catalog, after.opened)
    for group in after.given:
        if not isinstance(group, FeatureGroup) or now.groups.get(group.name) in (None, group):
            continue
        metas = stored_versions(parts, group.name)
        for feature in _features(now.groups[group.name], metas):
            made_of = dict.fromkeys(before.of(group.name, feature))
            made_of |= dict.fromkeys(
                origin for meta in metas if feature in _stored(meta) for origin in before.of_version(meta, feature)
            )
            yield from _slipped(policies, (now, made_of), (after.catalog, above.of(group.name, feature)))


def changed(now: Catalog, given: Sequence[Any]) -> Changed:
    """The definitions as they would be: those that leave columns open with the ones that they have now, or, if they are
    derived as they come, with those of their parents.

    Raises:
        DuplicateNameError, DefinitionError, CyclicDefinitionError: they do not go together.
        what `derived_schema` does.
    """
    merged = now.merged(Catalog.of(given))
    groups, opened = {**merged.groups}, set[str]()
    catalog = replace(merged, groups=groups)
    for name in in_order(merged, [item.name for item in given if isinstance(item, FeatureGroup)]):
        parents = parents_of(groups[name])
        found = _known(now, catalog, groups[name]) if opened.isdisjoint(parents) else None
        if found is None:
            opened.add(name)
        else:
            groups[name] = found
    as_given = (groups[item.name] if isinstance(item, FeatureGroup) else item for item in given)
    return Changed(catalog, tuple(as_given), frozenset(opened))


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


def _known(now: Catalog, catalog: Catalog, group: FeatureGroup) -> FeatureGroup | None:
    """A group with all of its columns; None where they are to be looked for. Those of its parents are known."""
    if isinstance(group.source, DerivedSource) and group.transform is None:
        found = derived_schema(catalog, group)
        return group.with_(schema=Schema.of((name, group.schema.get(name) or found[name]) for name in found.names))
    before = now.groups.get(group.name)
    if before is None or any(catalog.groups[name] != now.groups.get(name) for name in parents_of(group)):
        return None
    same = (before.entities, before.transform) == (group.entities, group.transform)
    if same and _is_left_to(group.source, before.source) and _says_no_more(group.schema, before.schema):
        return group.with_(schema=before.schema, source=before.source)
    return None


def _is_left_to(source: Source, before: Source) -> bool:
    """Whether a source is one of before, the types that were found in its files aside."""
    if not isinstance(source, FileSource) or not isinstance(before, FileSource):
        return source == before
    names = [each.name for each in fields(FileSource) if each.name != "schema"]
    same = all(getattr(source, name) == getattr(before, name) for name in names)
    return same and _says_no_more(source.schema, before.schema)


def _says_no_more(declared: Schema, known: Schema) -> bool:
    """Whether all that is declared of columns is so anyway."""
    return all(known.get(column.name) == column.dtype for column in declared)


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
