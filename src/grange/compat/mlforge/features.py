"""Features as mlforge declares them: each is a Grange feature group, so that every part of Grange takes it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from grange.definitions.aggregations import Aggregation
from grange.definitions.entity import Entity as GroupEntity
from grange.definitions.expectations import Expectation
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import FileFormat, FileSource
from grange.errors import DefinitionError, RequestError

Duration = str | dt.timedelta
Check = Expectation | Sequence[Expectation]
"""What a validator makes: one expectation, or several that hold together."""

TAGGED: Final = "true"
"""The value that a tag has in Grange, where tags are names with values."""

_DECLARED: Final[WeakValueDictionary[tuple[str, str], Feature]] = WeakValueDictionary()
"""By module and name, what `@feature` made in this process and somebody still holds."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows in files, with what their path does not say.

    Args:
        path: a file, a glob or a folder.
        name: what listings call it; its path without.
        format: `parquet`, `csv` or `jsonl`; by the path's ending without.
        delimiter: of a CSV file; one character.
    """

    path: str | os.PathLike[str]
    name: str | None = None
    format: FileFormat | None = None
    delimiter: str | None = None


def Entity(name: str, join_key: str | Sequence[str]) -> GroupEntity:  # noqa: N802 - the name that mlforge has
    """An entity: the thing features describe, and the column or columns that identify one of it."""
    return GroupEntity(name, [join_key] if isinstance(join_key, str) else list(join_key))


class Feature(FeatureGroup):
    """A feature group made of a function. `feature` makes it; it can be called as the function can.

    Args:
        fn: from a frame of raw rows to one of feature rows; of the kind that its annotation says, Polars without.
        source: a file, glob or folder, or a `Source`; relative paths are relative to the working directory.
        keys: the columns of the entity key.
        entities: entities, instead of `keys`.
        timestamp: the column that says when a row was true; None for rows that always are.
        metrics: windowed features; the feature then has these alone.
        validators: by column, what its values must be.
        interval: with metrics, the grid on which stored rows lie; None is as of every event.
        ttl: how long a value stays valid (PIT-2); None is for ever.
        tags: labels to build and find it by.
        description: for people; the function's docstring without.
        engine: which engine builds it, unless `build` says.

    Raises:
        DefinitionError: these contradict each other or a law.
    """

    __slots__ = ("__weakref__", "engine")
    engine: str | None

    def __init__(
        self,
        fn: Callable[[Any], Any],
        *,
        source: str | os.PathLike[str] | Source,
        keys: Sequence[str] | None = None,
        entities: Sequence[GroupEntity] | None = None,
        timestamp: str | None = None,
        metrics: Sequence[Aggregation] = (),
        validators: Mapping[str, Iterable[Check]] | None = None,
        interval: Duration | None = None,
        ttl: Duration | None = None,
        tags: Sequence[str] | None = None,
        description: str | None = None,
        engine: str | None = None,
    ) -> None:
        super().__init__(
            fn.__name__,
            entities=_entities(fn.__name__, keys, entities),
            source=_file_source(source, timestamp),
            transform=fn,
            aggregations=list(metrics or ()),
            expectations={column: _flat(checks) for column, checks in (validators or {}).items()},
            interval=interval,
            ttl=ttl,
            tags=dict.fromkeys(tags or (), TAGGED),
            description=(fn.__doc__ or "").strip() if description is None else description,
        )
        object.__setattr__(self, "engine", engine)

    @property
    def keys(self) -> list[str]:
        """The columns of the entity key."""
        return list(self.join_keys)

    @property
    def timestamp(self) -> str | None:
        """The column that says when a row was true."""
        return self.source.event_time

    @property
    def metrics(self) -> list[Aggregation]:
        """The windowed features, as they were declared."""
        return list(self.aggregations)

    @property
    def validators(self) -> dict[str, list[Expectation]]:
        """By column, what is checked."""
        return {column: list(checks) for column, checks in self.expectations}


def feature(
    *, source: str | os.PathLike[str] | Source, keys: Sequence[str] | None = None, **options: Any
) -> Callable[[Callable[[Any], Any]], Feature]:
    """Make a `Feature` of a function, whose name it gets. Takes the arguments of `Feature`, less `fn`."""

    def make(fn: Callable[[Any], Any]) -> Feature:
        made = Feature(fn, source=source, keys=keys, **options)
        _DECLARED[fn.__module__, made.name] = made
        return made

    return make


def declared() -> tuple[Feature, ...]:
    """Every feature that `@feature` made in this process and that still exists."""
    return tuple(_DECLARED.values())


def either(first: Any, second: Any, names: str) -> Any:
    """The one that was given, of an argument that has two names.

    Raises:
        RequestError: both were.
    """
    if first is not None and second is not None:
        raise RequestError(f"{names} are two names of one argument, and both were given", try_="leave one of them out")
    return second if first is None else first


def _entities(name: str, keys: Sequence[str] | None, entities: Sequence[GroupEntity] | None) -> tuple[GroupEntity, ...]:
    """An entity per key column, so that features with a key in common describe the same thing."""
    if (keys is None) == (entities is None) or isinstance(keys, str):
        raise DefinitionError(
            f"feature {name!r} needs keys, or entities",
            found="both" if keys and entities else repr(keys),
            try_='@feature(source="rows.parquet", keys=["user_id"])',
        )
    return tuple(GroupEntity(key, [key]) for key in keys) if keys is not None else tuple(entities or ())


def _file_source(source: str | os.PathLike[str] | Source, timestamp: str | None) -> FileSource:
    given = source if isinstance(source, Source) else Source(source)
    return FileSource(given.path, event_time=timestamp, format=given.format, separator=given.delimiter, name=given.name)


def _flat(checks: Iterable[Check]) -> list[Expectation]:
    """Validators one by one: some stand for several expectations."""
    return [each for check in checks for each in ([check] if isinstance(check, Expectation) else check)]


__all__ = ["Entity", "Feature", "Source", "feature"]
