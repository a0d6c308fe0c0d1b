"""Feature sets and their features as clients write them, built up call by call. Values only.

A feature set becomes one feature group of its name once it has what a group needs: a source, and at least one feature.
Until then it is a draft, and `missing` says what it waits for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from grange.definitions.sources import FileSource, PushSource, Source
from grange.errors import DefinitionError, closest_names
from grange.types import Schema
from grange.types.names import check_name

Data = dict[str, Any]
SourceType = Literal["batch", "stream"]

_NAMESPACE: Final = uuid.UUID("6f1c5a2e-93a8-5d0b-8d0e-2f6a1b7c9e44")
"""Of the ids that are made of names; any fixed one does."""
_FILE: Final = frozenset(
    {"path", "event_time", "created_time", "event_id", "retracted", "format", "schema", "separator", "name"}
)
_PUSH: Final = frozenset({"name", "event_time", "created_time", "event_id", "retracted", "schema"})


def stable_id(project: str, *names: str) -> str:
    """The id of something by its names: the same in every process, and for whoever asks again."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join((project, *names))))


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a set.

    Without a transformation it is the raw column of its name; with one an expression over raw columns, an aggregation
    over a window, or, with `source_features`, an expression over other features of its set.
    """

    name: str
    data_type: str
    description: str = ""
    transformation: str = ""
    window_size: str | None = None
    source_features: tuple[str, ...] = ()
    default_value: Any = None
    allowed_values: tuple[Any, ...] = ()
    validation_rules: tuple[tuple[str, Any], ...] = ()

    @property
    def is_composite(self) -> bool:
        """Whether it is made of other features of its set."""
        return bool(self.source_features)

    def to_data(self) -> Data:
        """For JSON: the words of the requests."""
        return {
            "name": self.name,
            "description": self.description,
            "data_type": self.data_type,
            "transformation": self.transformation or None,
            "window_size": self.window_size,
            "source_features": list(self.source_features),
            "default_value": self.default_value,
            "allowed_values": list(self.allowed_values),
            "validation_rules": dict(self.validation_rules),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Feature:
        """The inverse of `to_data`; what is left out or null is not said.

        Raises:
            DefinitionError: a name that is none.
        """
        return cls(
            name=check_name(data["name"], what="feature"),
            data_type=data["data_type"],
            description=data.get("description") or "",
            transformation=(data.get("transformation") or "").strip(),
            window_size=data.get("window_size"),
            source_features=tuple(data.get("source_features") or ()),
            default_value=data.get("default_value"),
            allowed_values=tuple(data.get("allowed_values") or ()),
            validation_rules=tuple((data.get("validation_rules") or {}).items()),
        )


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A set of features of one source."""

    name: str
    entities: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, join keys) of each. Without join keys they are those of the applied entity, or `{name}_id`."""
    description: str = ""
    owner: str = ""
    source_type: SourceType = "batch"
    source: Data | None = None
    online_enabled: bool = True
    materialization_schedule: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    features: tuple[Feature, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What it waits for before it can be a feature group."""
        known = {feature.name for feature in self.features}
        needed = {name: feature.name for feature in self.features for name in feature.source_features}
        return (
            *(("source",) if self.source is None else ()),
            *(("features",) if not any(not feature.is_composite for feature in self.features) else ()),
            *(f"feature {name!r}, of which {user!r} is made" for name, user in needed.items() if name not in known),
        )

    def with_features(self, features: Sequence[Feature]) -> FeatureSet:
        """The same set with these features."""
        return replace(self, features=tuple(features))

    def to_data(self) -> Data:
        """For JSON: the words of the requests. The features are not among them."""
        return {
            "name": self.name,
            "description": self.description,
            "owner": self.owner,
            "entities": [{"name": name, "join_keys": list(keys)} for name, keys in self.entities],
            "source_type": self.source_type,
            "source": self.source,
            "online_enabled": self.online_enabled,
            "materialization_schedule": self.materialization_schedule,
            "tags": dict(self.tags),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> FeatureSet:
        """The inverse of `to_data`; an entity may be its name alone.

        Raises:
            DefinitionError: a name that is none; a source that cannot be one.
        """
        given = FeatureSet(
            name=check_name(data["name"], what="feature set"),
            entities=tuple(_entity(item) for item in data["entities"]),
            description=data.get("description") or "",
            owner=data.get("owner") or "",
            source_type=data.get("source_type") or "batch",
            source=data.get("source"),
            online_enabled=data.get("online_enabled", True),
            materialization_schedule=data.get("materialization_schedule"),
            tags=tuple(sorted((data.get("tags") or {}).items())),
        )
        if not given.entities:
            raise DefinitionError(f"feature set {given.name!r} has no entities", try_='"entities": ["user"]')
        if given.source is not None:
            source_of(given)
        return given


def source_of(given: FeatureSet) -> Source:
    """Where the raw rows of a set are: files below the project, or what is pushed.

    Raises:
        DefinitionError: it says what no source of its type has, or lacks what one needs.
    """
    what = f"feature set {given.name!r}: source"
    said = dict(given.source or {})
    takes = _FILE if given.source_type == "batch" else _PUSH
    for field in said:
        if field not in takes:
            raise DefinitionError(
                f"{what} of type {given.source_type!r} has no {field!r}",
                found=f"it takes {', '.join(sorted(takes))}",
                closest=closest_names(field, takes),
            )
    schema = Schema.of(said.pop("schema", None) or {})
    if given.source_type == "stream":
        name = said.pop("name", None) or f"{given.name}_rows"
        if "event_time" not in said or not schema:
            raise DefinitionError(
                f"{what} of type 'stream' needs event_time and schema: there are no files to find them in",
                try_='"source": {"event_time": "timestamp", "schema": {"user_id": "string", "amount": "float64"}}',
            )
        return PushSource(name, schema=schema, **said)
    if "path" not in said:
        raise DefinitionError(
            f"{what} says no path",
            try_='"source": {"path": "data/rows.parquet", "event_time": "timestamp"}',
        )
    return FileSource(said.pop("path"), schema=schema, **said)


def _entity(item: str | Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    if isinstance(item, str):
        return check_name(item, what="entity"), ()
    return check_name(item["name"], what="entity"), tuple(item.get("join_keys") or ())


__all__ = ["Data", "Feature", "FeatureSet", "source_of", "stable_id"]
