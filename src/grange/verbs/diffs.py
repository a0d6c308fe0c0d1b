"""diff: what is different between two versions of a group, as a value."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.versioning import Change, change_between
from grange.errors import RequestError
from grange.frames import Rows
from grange.ports.offline import VersionMeta
from grange.quality.statistics import compare, profile
from grange.types import Schema, format_duration
from grange.types.durations import timedelta_of
from grange.types.time import isoformat
from grange.verbs.look import read
from grange.verbs.parts import Parts
from grange.verbs.versions import before as version_before

NOT_KEPT: Final = "not kept"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Something that has another value."""

    field: str
    before: Any
    after: Any

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"field": self.field, "before": _plain(self.before), "after": _plain(self.after)}

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """Columns that came, went, or are others."""

    added: tuple[tuple[str, str], ...] = ()
    """(column, data type)."""
    removed: tuple[tuple[str, str], ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    """(column, type before, type after)."""
    reordered: tuple[str, ...] = ()
    """The columns that both have, in their new order, where that is another; empty otherwise."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.retyped or self.reordered)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "added": [{"name": name, "dtype": dtype} for name, dtype in self.added],
            "removed": [{"name": name, "dtype": dtype} for name, dtype in self.removed],
            "retyped": [{"name": name, "before": old, "after": new} for name, old, new in self.retyped],
            "reordered": list(self.reordered),
        }

    def lines(self) -> Iterator[str]:
        """For people, a line per column."""
        yield from (f"- {name} {dtype}" for name, dtype in self.removed)
        yield from (f"+ {name} {dtype}" for name, dtype in self.added)
        yield from (f"~ {name}: {old} -> {new}" for name, old, new in self.retyped)
        if self.reordered:
            yield f"order: {', '.join(self.reordered)}"


@dataclass(frozen=True, slots=True)
class CodeDiff:
    """What is different in the transform."""

    changed: bool
    """Whether it does something else (VER-2): formatting and comments do not count."""
    diff: str
    """A unified diff of the texts, formatting included; `not kept` where a version does not have its text; empty
    when the texts are the same."""

    def __bool__(self) -> bool:
        return self.changed or bool(self.diff)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"changed": self.changed, "diff": self.diff}


@dataclass(frozen=True, slots=True)
class StatisticChange:
    """A statistic of a column that has another value. None is one that cannot be told, as a mean of no values."""

    column: str
    statistic: str
    before: Any
    after: Any

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"column": self.column, "statistic": self.statistic, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What is different between two versions of a group. False when nothing is."""

    group: str
    before: str
    after: str
    change: Change | None
    """What VER-1 makes of the step from one to the other; None when they are identical."""
    schema: SchemaDiff
    """Of the output columns: entity key, times and features."""
    events: SchemaDiff
    """Of a group with aggregations: of the columns of its events."""
    config: tuple[FieldChange, ...]
    """What decides stored rows besides source and code, where it has another value."""
    code: CodeDiff
    data: tuple[FieldChange, ...]
    """Content, numbers of rows, time range and size, where they are others."""
    statistics: tuple[StatisticChange, ...] | None = None
    """Of the columns that both have; None when they were not asked for."""

    def __bool__(self) -> bool:
        return bool(self.change or self.schema or self.events or self.config or self.code)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "before": self.before,
            "after": self.after,
            "differs": bool(self),
            "change": None if self.change is None else dict(self.change.to_summary()),
            "schema": self.schema.to_dict(),
            "events": self.events.to_dict(),
            "config": [item.to_dict() for item in self.config],
            "code": self.code.to_dict(),
            "data": [item.to_dict() for item in self.data],
            "statistics": None if self.statistics is None else [item.to_dict() for item in self.statistics],
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, statistics: bool = True) -> Iterator[str]:
        """For people.

        Args:
            statistics: whether those are among them.
        """
        head = f"{self.group} {self.before} -> {self.after}"
        yield f"{head}: {self.change or ('the same rows and features' if self else 'no difference')}"
        yield from _section("columns", self.schema.lines())
        yield from _section("columns of events", self.events.lines())
        yield from _section("configuration", map(str, self.config))
        yield from _section("code", self._code_lines())
        yield from _section("data", map(str, self.data))
        if statistics:
            told = (f"{s.column} {s.statistic}: {_shown(s.before)} -> {_shown(s.after)}" for s in self.statistics or ())
            yield from _section("statistics", told)

    def _code_lines(self) -> Iterator[str]:
        if self.code and not self.code.changed:
            yield "does the same"
        if self.code.diff == NOT_KEPT:
            yield "changed; the text of a version was not kept"
        else:
            yield from self.code.diff.splitlines()


def diff(
    parts: Parts, catalog: Catalog, group: str, before: str | None, after: str | None, *, with_statistics: bool
) -> VersionDiff:
    """What is different between two versions of a group.

    Args:
        parts: the opened backends.
        catalog: the applied definitions.
        group: the feature group.
        before: a version; the one below `after` without.
        after: a version; the latest without.
        with_statistics: read the rows of both and compare the statistics of their columns.

    Raises:
        UnknownFeatureGroupError, UnknownVersionError.
        RequestError: there is no version below the latest to compare it with.
        CorruptStoreError: the metadata of one, or with statistics its rows, cannot be read.
    """
    catalog.group(group)
    new = parts.offline.meta(group, after)
    old = parts.offline.meta(group, before if before is not None else _below(parts, new))
    compared = _statistics(parts, catalog, old, new) if with_statistics else None
    return VersionDiff(
        group=group,
        before=old.version,
        after=new.version,
        change=change_between(old.build, new.build),
        schema=_schema_diff(old.outputs, new.outputs),
        events=_schema_diff(_event_columns(old), _event_columns(new)),
        config=tuple(_config_changes(old, new)),
        code=_code_diff(old, new),
        data=tuple(_changes(_data(old), _data(new))),
        statistics=compared,
    )


def _below(parts: Parts, meta: VersionMeta) -> str:
    versions = parts.offline.versions(meta.name)
    found = version_before(versions, meta.version)
    if found is None:
        raise RequestError(
            f"feature group {meta.name!r} has no version below {meta.version} to compare it with",
            found=", ".join(versions),
            try_=f"grange inspect {meta.name}",
        )
    return found


def _schema_diff(old: Schema, new: Schema) -> SchemaDiff:
    before, after = ({column.name: str(column.dtype) for column in schema} for schema in (old, new))
    both = [name for name in after if name in before]
    return SchemaDiff(
        added=tuple((name, dtype) for name, dtype in after.items() if name not in before),
        removed=tuple((name, dtype) for name, dtype in before.items() if name not in after),
        retyped=tuple((name, before[name], after[name]) for name in both if before[name] != after[name]),
        reordered=tuple(both) if both != [name for name in before if name in after] else (),
    )


def _event_columns(meta: VersionMeta) -> Schema:
    return meta.schema if meta.aggregates else Schema()


def _config_changes(old: VersionMeta, new: VersionMeta) -> Iterator[FieldChange]:
    """What differs in what decides stored rows. What a version of an older release does not say is no difference as
    long as the hashes agree."""
    if old.source != new.source:
        yield FieldChange("source", old.source, new.source)
    if old.parents != new.parents:
        yield FieldChange("parents", *([f"{group}@{version}" for group, version in m.parents] for m in (old, new)))
    if old.config_hash == new.config_hash:
        return
    known = [*_changes(_config(old), _config(new)), *_changes(_windows(old), _windows(new))]
    yield from known or [FieldChange("config_hash", old.config_hash[:12], new.config_hash[:12])]


def _config(meta: VersionMeta) -> dict[str, Any]:
    return {
        "entity_keys": list(meta.entity_keys),
        "event_time": meta.event_time,
        "created_time": meta.created_time,
        "event_id": meta.event_id,
        "retracted": meta.retracted,
        "interval": _length(meta.interval),
        "fill_gaps": meta.fill_gaps,
        "ttl": _length(meta.ttl),
    }


def _windows(meta: VersionMeta) -> dict[str, Any]:
    """The aggregates by name, each in the words in which it is declared."""
    return {
        f"aggregate {aggregate.name}": {
            "function": str(aggregate.function),
            "column": aggregate.column,
            "window": str(aggregate.window),
            "closed": aggregate.closed,
            "every": _length(aggregate.every),
            "offset": _length(aggregate.offset or None),
            "lag": _length(aggregate.shift or None),
            "filter": aggregate.filter,
        }
        for aggregate in meta.aggregates
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    """The fields that differ; of mappings, the fields of these."""
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from (FieldChange(f"{name}.{c.field}", c.before, c.after) for c in _changes(before, after))
        elif before != after:
            yield FieldChange(name, before, after)


def _length(micros: int | None) -> str | None:
    return None if micros is None else format_duration(timedelta_of(micros))


def _code_diff(old: VersionMeta, new: VersionMeta) -> CodeDiff:
    changed = old.code_hash != new.code_hash
    if any(meta.code_hash and not meta.code for meta in (old, new)):
        return CodeDiff(changed, NOT_KEPT if changed else "")
    before, after = (f"{meta.name} {meta.version}" for meta in (old, new))
    lines = difflib.unified_diff(old.code.splitlines(), new.code.splitlines(), before, after, lineterm="")
    return CodeDiff(changed, "\n".join(lines))


def _data(meta: VersionMeta) -> dict[str, Any]:
    return {
        "content_hash": meta.content_hash[:12],
        "rows": meta.row_count,
        "feature_rows": meta.feature_rows,
        "min_event_time": meta.min_event_time,
        "max_event_time": meta.max_event_time,
        "quarantined": meta.quarantined,
        "size_bytes": meta.size_bytes,
    }


def _statistics(parts: Parts, catalog: Catalog, old: VersionMeta, new: VersionMeta) -> tuple[StatisticChange, ...]:
    both = [name for name in _columns(new) if name in _columns(old)]
    rows = [_rows(parts, catalog, meta, both) for meta in (old, new)]
    return _statistics_diff(*rows)


def _columns(meta: VersionMeta) -> Sequence[str]:
    """What `read` gives of a version."""
    return (meta.feature_schema if meta.aggregates else meta.schema).names


def _rows(parts: Parts, catalog: Catalog, meta: VersionMeta, columns: Sequence[str]) -> Rows:
    return read(parts, catalog, meta.name, version=meta.version, columns=columns, start=None, end=None, limit=None)


def _statistics_diff(before: Rows, after: Rows) -> tuple[StatisticChange, ...]:
    """The statistics that differ, by column, and how far the values lie apart; both have the same columns."""
    found: list[StatisticChange] = []
    for column in compare(profile(before), profile(after)).columns:
        found += [StatisticChange(column.name, item.statistic, item.before, item.after) for item in column.changes]
        distances = (("psi", column.psi), ("ks", column.ks))
        found += [StatisticChange(column.name, name, 0.0, far) for name, far in distances if far]
    return tuple(found)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    told = list(lines)
    if told:
        yield f"{title}:"
        yield from (f"  {line}" for line in told)


def _shown(value: Any) -> str:
    match value:
        case None | "" | []:
            return "none"
        case list():
            return ", ".join(map(str, value))
        case Mapping():
            return ", ".join(f"{key}={_shown(item)}" for key, item in value.items() if item not in (None, ""))
        case dt.datetime():
            return isoformat(value)
        case float():
            return f"{value:.6g}"
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    return isoformat(value) if isinstance(value, dt.datetime) else value
