"""plan and apply: what definitions would change in the registry, and changing it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.diff import DefinitionChange, compare, describe
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import OPTIONAL, Data, Definition, fingerprint, to_data
from grange.definitions.sources import DerivedSource, FileSource, PushSource
from grange.definitions.versioning import VersionForecast
from grange.deriving.conditions import conditions
from grange.errors import (
    ConflictError,
    DefinitionError,
    DuplicateNameError,
    InUseError,
    KeyTypeError,
    SchemaError,
    SourceError,
    closest_names,
)
from grange.frames import Rows
from grange.lineage import Impact, impact_lines
from grange.plan.bind import check_defaults, check_view
from grange.plan.materialize import sample_rows
from grange.plan.nodes import Input, Limit, Node, Scan
from grange.ports.registry import Change, Kind, Record, RegistryState
from grange.quality.leaks import Leak, LeakPolicy, check_definitions, raise_or_return
from grange.types import DataType, Schema
from grange.types.names import EVENT_TIME
from grange.types.schema import Column
from grange.verbs.derive import children_of, derived_schema, forget_parents, in_order
from grange.verbs.lineage import change_impact
from grange.verbs.parts import SOURCE, Parts, catalog_of, record_kind
from grange.verbs.served import PREFIX as SERVED_PREFIX
from grange.verbs.versions import dataset_pins, forecasts, refuse_if_pinned

SAMPLE_ROWS = 10_000
"""How many raw rows schema inference looks at where a format carries no types."""
_ATTEMPTS = 5
_DATETIME = DataType("datetime")
_DECLARED = "declared"


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """What an apply changes (or did change)."""

    changes: tuple[DefinitionChange, ...]
    revision: int
    """The revision it starts from; after `apply`, the one it made."""
    kept: tuple[str, ...] = ()
    """Applied names that the given definitions do not mention; they stay unless pruned."""
    leaks: tuple[Leak, ...] = ()
    """Leaks of the feature views that are given or changed, by themselves or by a group that they take from."""
    versions: tuple[VersionForecast, ...] = ()
    """What the next materialize of each created or changed feature group makes of its version, and why (VER-1)."""
    impact: tuple[Impact, ...] = ()
    """What the changes mean for what is made of what changes, the worst first."""

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        if not self.changes:
            return f"nothing to change, revision {self.revision}"
        return "\n".join([*map(str, self.changes), *impact_lines(self.impact)])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "revision": self.revision,
            "changes": [change.to_dict() for change in self.changes],
            "kept": list(self.kept),
            "leaks": [leak.to_dict() for leak in self.leaks],
            "versions": [forecast.to_dict() for forecast in self.versions],
            "impact": [item.to_dict() for item in self.impact],
        }


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What definitions come to, on top of one state of the registry."""

    changes: tuple[Change, ...]
    kept: tuple[str, ...]
    leaks: tuple[Leak, ...]
    versions: tuple[VersionForecast, ...]
    impact: tuple[Impact, ...]


def plan(parts: Parts, definitions: Sequence[Definition], *, prune: bool, policy: LeakPolicy) -> ApplyPlan:
    """What applying definitions would change. Reads sources' schemas where they are to be inferred; changes nothing.

    Raises:
        DefinitionError and its kin: the definitions contradict themselves, each other or what is applied.
        SourceError, SchemaError: a schema is to be inferred and its source cannot be read.
        LeakError: a leak that the policy makes an error.
        InUseError: a group is to be pruned, and training datasets were made of a version of it; or a view of which
            training datasets are kept.
    """
    state = parts.registry.state()
    done = _prepare(parts, definitions, state, prune, policy)
    described = tuple(_describe(change, state) for change in done.changes)
    return ApplyPlan(described, state.revision, done.kept, done.leaks, done.versions, done.impact)


def apply(
    parts: Parts, definitions: Sequence[Definition], *, prune: bool, policy: LeakPolicy, now: dt.datetime
) -> ApplyPlan:
    """Apply definitions in one transaction; on top of somebody else's apply, if one came between.

    Raises:
        ConflictError: others kept applying in between, several times in a row.
        Whatever `plan` raises.
    """
    for attempt in range(_ATTEMPTS):
        state = parts.registry.state()
        done = _prepare(parts, definitions, state, prune, policy)
        described = tuple(_describe(change, state) for change in done.changes)
        if not done.changes:
            break
        try:
            revision = parts.registry.commit(done.changes, expected_revision=state.revision, now=now)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        parts.remember(definitions)
        _remove_stored(parts, done.changes, state)
        return ApplyPlan(described, revision, done.kept, done.leaks, done.versions, done.impact)
    parts.remember(definitions)
    return ApplyPlan((), state.revision, done.kept, done.leaks)


def _remove_stored(parts: Parts, changes: Sequence[Change], state: RegistryState) -> None:
    """Remove what is stored of pruned groups, so that a later group of the name starts empty."""
    pruned = {change.name for change in changes if (change.action, change.kind) == ("delete", "feature_group")}
    if not pruned:
        return
    records = tuple(record for record in state.records if record.kind == "feature_group" and record.name in pruned)
    for name, group in catalog_of(RegistryState(state.revision, records), {}).groups.items():
        with parts.offline.lock(name, timeout=parts.lock_timeout):
            remove_rows(parts, group)
        parts.local.pop(name, None)


def remove_rows(parts: Parts, group: FeatureGroup) -> None:
    """Remove a group's online state, in whatever key space it lies, and its history. The caller holds its lock."""
    spaces = {info.key_space for info in parts.online.info() if info.group == group.name} | {group.key_space}
    for space in sorted(spaces):
        parts.online.drop(space, group.name)
    parts.offline.delete(group.name)
    forget_parents(parts, group.name)


def remove(parts: Parts, kind: Kind, name: str, *, now: dt.datetime) -> int:
    """Take one definition out of the registry; returns the new revision."""
    for attempt in range(_ATTEMPTS):
        revision = parts.registry.revision()
        try:
            return parts.registry.commit([Change("delete", kind, name, None)], expected_revision=revision, now=now)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _prepare(
    parts: Parts, definitions: Sequence[Definition], state: RegistryState, prune: bool, policy: LeakPolicy
) -> _Prepared:
    given = Catalog.of(definitions)
    records = {(record.kind, record.name): record for record in state.records}
    replaced = {("feature_group", name) for name in given.groups} | {("feature_view", name) for name in given.views}
    replaced |= {("entity", name) for name in given.entities}
    replaced |= {("transformation", name) for name in given.transformations}
    # what is replaced need not be readable: applying a definition again is how an unreadable one is mended
    others = tuple(record for record in state.records if (record.kind, record.name) not in replaced)
    applied = catalog_of(RegistryState(state.revision, others), {})
    resolved, declared = _resolved(parts, given, applied, records)
    given = Catalog(given.entities, resolved, given.views, given.transformations)
    absent = _absent(given, applied)
    after = given if prune else applied.merged(given)
    _check_together(after)
    for group in given.groups.values():
        _check_pushed(parts, group)
    changes: list[Change] = []
    everything: list[Definition] = [*given.entities.values(), *given.transformations.values()]
    everything += [*given.groups.values(), *given.views.values()]
    for definition in everything:
        data = to_data(definition)
        kind = record_kind(definition)
        record = Record(kind, definition.name, data, fingerprint(data))
        if isinstance(definition, FeatureGroup):
            data[_DECLARED] = declared[definition.name]
        known = records.get((record.kind, record.name))
        if known is None:
            changes.append(Change("create", record.kind, record.name, record))
        elif known.fingerprint != record.fingerprint or fingerprint(_shown(known.definition)) != known.fingerprint:
            changes.append(Change("update", record.kind, record.name, record))
    changed = {*given.views, *(change.name for change in changes if change.kind != "entity")}
    leaks = raise_or_return(check_definitions(after, _affected(after, changed)), policy)
    rebuilt = {change.name for change in changes if change.kind == "feature_group"}
    versions = forecasts(parts, (group for name, group in resolved.items() if name in rebuilt))
    if prune:
        from grange.verbs.training.keeping import refuse_if_kept  # which loads what computes training datasets

        for kind, name in absent:
            if kind == "feature_group":
                refuse_if_pinned(dataset_pins(parts, name), what=f"a version of feature group {name!r}")
            if kind == "feature_view":
                refuse_if_kept(parts, applied, name)
        changes += [Change("delete", kind, name, None) for kind, name in absent]
        return _Prepared(tuple(changes), (), leaks, versions, change_impact(parts, state, changes, after))
    kept = tuple(name for _, name in absent)
    return _Prepared(tuple(changes), kept, leaks, versions, change_impact(parts, state, changes, after))


def _resolved(
    parts: Parts, given: Catalog, applied: Catalog, records: Mapping[tuple[Kind, str], Record]
) -> tuple[dict[str, FeatureGroup], dict[str, str]]:
    """The given groups with their schemas fixed, parents before what is derived of them; and by group the hash of what
    decides its schema."""
    resolved: dict[str, FeatureGroup] = {}
    declared: dict[str, str] = {}
    for name in in_order(applied.merged(given), given.groups):
        group = given.groups[name]
        raw = None
        if isinstance(group.source, DerivedSource):
            known = Catalog({**applied.entities, **given.entities}, {**applied.groups, **resolved}, {})
            raw = derived_schema(known, group)
        declared[name] = _declared(group, raw)
        resolved[name] = _resolve(parts, group, declared[name], records.get(("feature_group", name)), raw)
        _check_group(resolved[name])
    # in the order in which they were given
    return {name: resolved[name] for name in given.groups}, declared


def _affected(catalog: Catalog, changed: set[str]) -> list[str]:
    """The views that are among the changed names, or take from one of them, in the catalog's order."""
    return [
        name
        for name, view in catalog.views.items()
        if name in changed or not changed.isdisjoint(_sources(catalog, view))
    ]


def _sources(catalog: Catalog, view: FeatureView) -> Iterator[str]:
    """The groups and views that a view takes from, those of its views too."""
    for selection in (*view.features, *view.label_features):
        yield selection.source
        if selection.source in catalog.views:
            yield from _sources(catalog, catalog.views[selection.source])


def _absent(given: Catalog, applied: Catalog) -> list[tuple[Kind, str]]:
    absent: list[tuple[Kind, str]] = [("feature_view", name) for name in applied.views if name not in given.views]
    absent += [("feature_group", name) for name in applied.groups if name not in given.groups]
    absent += [("transformation", name) for name in applied.transformations if name not in given.transformations]
    absent += [("entity", name) for name in applied.entities if name not in given.entities]
    return absent


def _describe(change: Change, state: RegistryState) -> DefinitionChange:
    lines: tuple[str, ...] = ()
    if change.record is not None:
        new = _shown(change.record.definition)
        if change.action == "create":
            lines = describe(change.kind, new)
        else:
            old = next(r.definition for r in state.records if (r.kind, r.name) == (change.kind, change.name))
            damaged = not set(new) - OPTIONAL <= set(old)
            lines = ("what was stored of it could not be read",) if damaged else compare(_shown(old), new)
    return DefinitionChange(change.action, change.kind, change.name, lines)


def _shown(data: Data) -> Data:
    return {key: value for key, value in data.items() if key != _DECLARED}


def _declared(group: FeatureGroup, raw: Schema | None) -> str:
    """Hash of what decides the schema of a group's rows: as long as it is the same, the schema stays as it was fixed.

    Aggregations are not among it: they are features of the rows, whatever those are.
    """
    data = to_data(group)
    deciding = {key: data[key] for key in ("entities", "source", "transform", "schema")}
    return fingerprint(deciding if raw is None else deciding | {"raw": raw.to_list()})


def _resolve(
    parts: Parts, group: FeatureGroup, declared: str, known: Record | None, raw_schema: Schema | None
) -> FeatureGroup:
    """The group with its schema fixed: as it was applied, or else inferred now; from the raw schema, where one is
    given, as that of a derived group follows from its parents."""
    if known is not None and known.definition.get(_DECLARED) == declared:
        applied = catalog_of(RegistryState(0, (known,)), {}).groups[group.name]
        changes: dict[str, Any] = {"schema": applied.schema}
        if isinstance(group.source, FileSource):
            changes["source"] = applied.source  # with the raw types that were inferred
        return group.with_(**changes)
    wanted = _declared_columns(group)
    try:
        raw, inputs = _raw_for_inference(parts, group, raw_schema)
        group = _fix_raw_types(parts, group, raw, inputs)
        if isinstance(raw, Scan) and isinstance(group.source, FileSource):
            raw = replace(raw, schema=group.source.schema)
        found = parts.engine().run(sample_rows(group, raw, rows=SAMPLE_ROWS), inputs)
    except SourceError:
        if not _is_whole(group, wanted):
            raise
        return group.with_(schema=Schema(tuple(Column(name, dtype) for name, dtype in wanted.items())))
    return group.with_(schema=_merge(group, found, wanted))


def _raw_for_inference(parts: Parts, group: FeatureGroup, schema: Schema | None) -> tuple[Node, dict[str, Rows]]:
    if isinstance(group.source, PushSource):
        schema = group.source.schema or schema
    if schema:
        from grange.types.arrow import empty

        return Input(SOURCE), {SOURCE: Rows(arrow=empty(schema))}
    raw, inputs = parts.raw_rows(group)
    assert raw is not None, "a push source without a schema has a batch source"
    return raw, inputs


def _fix_raw_types(parts: Parts, group: FeatureGroup, raw: Node, inputs: Mapping[str, Rows]) -> FeatureGroup:
    """Formats without types: infer those of the raw columns once, so that every later read sees the same ones."""
    source = group.source
    if not isinstance(source, FileSource) or source.format == "parquet":
        return group
    from grange.types.arrow import from_arrow_type

    table = parts.engine().run(Limit(raw, SAMPLE_ROWS), inputs).arrow
    types = {field.name: from_arrow_type(field.type) for field in table.schema}
    if group.transform is None:
        # a key declared as text is read as text, so that 007 stays 007; times are parsed when rows are typed
        declared = _declared_columns(group)
        types |= {name: declared[name] for name in types if name in declared and declared[name] != _DATETIME}
    types |= {column.name: column.dtype for column in source.schema}
    columns = tuple(Column(name, dtype) for name, dtype in types.items() if dtype is not None)
    fixed = FileSource(
        source.path,
        event_time=source.event_time,
        created_time=source.created_time,
        event_id=source.event_id,
        retracted=source.retracted,
        format=source.format,
        schema=Schema(columns),
        separator=source.separator,
        name=source.name,
    )
    return group.with_(source=fixed)


def _declared_columns(group: FeatureGroup) -> dict[str, DataType]:
    """What is declared about the group's own columns, wherever it is said."""
    columns: dict[str, DataType] = {}
    if group.transform is None and isinstance(group.source, FileSource | PushSource):
        columns |= {column.name: column.dtype for column in group.source.schema}
    for entity in group.entities:
        columns |= entity.dtypes
    columns |= {column.name: column.dtype for column in group.schema}
    for time in (group.event_time, group.created_time):
        if time is not None:
            columns[time] = _DATETIME
    return columns


def _is_whole(group: FeatureGroup, declared: Mapping[str, DataType]) -> bool:
    """Whether a declaration says enough to do without looking at rows: keys, and at least one feature."""
    needed = [*group.join_keys, group.event_time]
    times = {group.event_time, group.created_time}
    return (
        bool(group.schema)
        and all(name in declared for name in needed)
        and bool(set(declared) - set(group.join_keys) - times)
    )


def _merge(group: FeatureGroup, found: Rows, declared: Mapping[str, DataType]) -> Schema:
    """The columns that the source and transform give, in their order, with declared types before inferred ones."""
    from grange.types.arrow import from_arrow_type

    what = f"feature group {group.name!r}"
    arrow = found.arrow.schema
    needed = {"join key": group.join_keys, "event-time column": (group.event_time,)}
    needed["created-time column"] = (group.created_time,) if group.created_time else ()
    by = "its transform returns" if group.transform is not None else "its source has"
    for role, names in needed.items():
        for name in names:
            if name not in arrow.names and name != EVENT_TIME:
                raise SchemaError(
                    f"{what}: {by} no {role} {name!r}",
                    found=", ".join(arrow.names) or "no columns at all",
                    closest=closest_names(name, arrow.names),
                )
    for name in declared:
        if name not in arrow.names:
            raise SchemaError(
                f"{what}: {by} no column {name!r}, which is declared",
                found=", ".join(arrow.names),
                closest=closest_names(name, arrow.names),
            )
    columns = []
    for field in arrow:
        dtype = declared.get(field.name) or from_arrow_type(field.type)
        if dtype is None:
            raise SchemaError(
                f"{what}: column {field.name!r} holds only nulls, so its type cannot be inferred",
                try_=f"declare it: schema={{{field.name!r}: 'float64'}}",
            )
        columns.append(Column(field.name, dtype))
    schema = Schema(tuple(columns))
    from grange.types.arrow import conform

    conform(found.arrow, schema, what=what)  # what contradicts its declaration fails here, before anything is stored
    return schema


def _check_group(group: FeatureGroup) -> None:
    what = f"feature group {group.name!r}"
    for key in group.join_keys:
        if group.schema[key].key_family is None:
            raise SchemaError(
                f"{what}: join key {key!r} is {group.schema[key]}, which has no dependable equality",
                try_="cast it to an integer or a string in the transform",
            )
    columns = group.schema.names
    _check_events(group, what)
    if not group.features():
        raise SchemaError(f"{what} has no features besides its keys and times", found=", ".join(columns))
    for column, _ in group.expectations:
        if column not in columns:
            raise SchemaError(
                f"{what}: expectation on {column!r}, which is no column of it",
                found=", ".join(columns),
                closest=closest_names(column, columns),
            )
    check_defaults(group)


def _check_events(group: FeatureGroup, what: str) -> None:
    """Check what aggregations need of the rows: their columns, filters, and what identifies events.

    Raises:
        SchemaError, DefinitionError: names the column, with the closest ones.
    """
    for column, role in ((group.event_id, "event_id"), (group.retracted, "retracted")):
        if column is not None and column not in group.schema:
            raise SchemaError(
                f"{what}: its rows have no {column!r}, the {role} of its source",
                found=", ".join(group.schema.names),
                closest=closest_names(column, group.schema.names),
                try_="keep the column in the transform",
            )
    if group.retracted is not None and group.schema[group.retracted].kind != "boolean":
        raise SchemaError(f"{what}: retracted={group.retracted!r} is {group.schema[group.retracted]}, not boolean")
    if group.event_id is not None and group.schema[group.event_id].key_family is None:
        raise SchemaError(
            f"{what}: event_id={group.event_id!r} is {group.schema[group.event_id]}, which has no dependable equality",
            try_="cast it to an integer or a string in the transform",
        )
    for item in group.aggregates():
        if item.function.about.tally == "time":
            from grange.kernels.calendar import check_calendar

            check_calendar(item.function, what=what)
    filters = list(dict.fromkeys(item.filter for item in group.aggregates() if item.filter is not None))
    if filters:
        from grange.types.arrow import empty

        conditions(Rows(arrow=empty(group.schema)), filters)


def _check_pushed(parts: Parts, group: FeatureGroup) -> None:
    """Pushed rows are the only copy of what they hold, so a column may only change to a type that can hold it.

    Raises:
        SchemaError: a column of rows that were pushed would change to a type that cannot.
    """
    if parts.offline.pushed(group.name) is None:
        return
    for column in parts.offline.snapshot(group.name).meta.schema:
        wanted = group.schema.get(column.name)
        if wanted is not None and not _holds(wanted, column.dtype):
            raise SchemaError(
                f"feature group {group.name!r}: column {column.name!r} cannot become {wanted}: rows were pushed "
                f"with it as {column.dtype}, and they are the only copy",
                try_=f"give the new column another name; or start over: grange fg delete {group.name}",
            )


def _holds(wide: DataType, narrow: DataType) -> bool:
    """Whether a type may take a column of another over; its values still decide when they are read."""
    numbers = (wide.is_integer or wide.is_float) and (narrow.is_integer or narrow.is_float)
    return wide == narrow or numbers or wide.kind == narrow.kind


def _check_together(after: Catalog) -> None:
    """What only shows once old and new definitions stand together."""
    reserved = next((name for name in after.groups if name.startswith(SERVED_PREFIX)), None)
    if reserved is not None:
        raise DefinitionError(
            f"feature group {reserved!r}: names that begin with {SERVED_PREFIX!r} are those of logs of served vectors",
            try_=f"call it {reserved.removeprefix(SERVED_PREFIX) or 'served'!r}",
        )
    both = sorted(after.groups.keys() & after.views.keys())
    if both:
        raise DuplicateNameError(f"{both[0]!r} is both a feature group and a feature view", try_="rename one")
    families: dict[tuple[str, str], tuple[str, str]] = {}
    for group in after.groups.values():
        for entity in group.entities:
            now = after.entities.get(entity.name, entity)
            if now.join_keys != entity.join_keys:
                raise DefinitionError(
                    f"entity {entity.name!r} has join keys {', '.join(now.join_keys)}, and feature group "
                    f"{group.name!r} was applied with {', '.join(entity.join_keys)}",
                    try_=f"apply {group.name!r} together with the changed entity",
                )
            for key in entity.join_keys:
                family = group.schema[key].key_family or ""
                other = families.setdefault((entity.name, key), (family, group.name))
                if other[0] != family:
                    raise KeyTypeError(
                        f"join key {key!r} of entity {entity.name!r} has two types",
                        found=f"{other[0]} in {other[1]!r}, {family} in {group.name!r}",
                        try_=f"declare it once: gr.Entity({entity.name!r}, join_keys={{{key!r}: '...'}})",
                    )
    _check_transformations(after)
    after.check()
    for view in after.views.values():
        check_view(after, view)


def _check_transformations(after: Catalog) -> None:
    """Check that a transformation is the same wherever it is part of something.

    Raises:
        DefinitionError: it is not; names what must be applied together.
    """
    users: dict[str, list[str]] = {}
    owners: list[FeatureGroup | FeatureView] = [*after.groups.values(), *after.views.values()]
    for owner in owners:
        steps = owner.on_demand if isinstance(owner, FeatureGroup) else (*owner.on_demand, *owner.transformations)
        for own in (step.transformation for step in steps if step.transformation is not None):
            now = after.transformations.get(own.name, own)
            if fingerprint(to_data(now)) != fingerprint(to_data(own)):
                users.setdefault(own.name, []).append(owner.name)
    for name, names in users.items():
        named = ", ".join(map(repr, dict.fromkeys(names)))
        raise DefinitionError(
            f"transformation {name!r} is another one than {named} {'was' if len(names) == 1 else 'were'} applied with",
            try_=f"apply {named} together with the changed transformation",
        )


def users_of(catalog: Catalog, group: str) -> tuple[str, ...]:
    """The views that take features of a group (or of a view), directly."""
    return tuple(
        view.name
        for view in catalog.views.values()
        if any(item.source == group for item in (*view.features, *view.label_features))
    )


def refuse_if_used(catalog: Catalog, name: str) -> None:
    """Refuse to remove what views still use.

    Raises:
        InUseError: names the views.
    """
    children = children_of(catalog, name)
    if children:
        raise InUseError(
            f"{name!r} is what feature group{'s' if len(children) > 1 else ''} {', '.join(map(repr, children))} "
            f"{'are' if len(children) > 1 else 'is'} derived from",
            try_=f"grange fg delete {children[0]}",
        )
    users = users_of(catalog, name)
    if users:
        raise InUseError(
            f"{name!r} is used by feature view{'s' if len(users) > 1 else ''} {', '.join(map(repr, users))}",
            try_=f"grange fv delete {users[0]}, or delete with --cascade",
        )
