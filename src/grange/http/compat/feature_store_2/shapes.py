"""The bodies of requests, checked; and what answers say of feature sets and features."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from grange.definitions.on_demand import made_on_demand, offered
from grange.definitions.serialize import to_data
from grange.definitions.sources import FileSource
from grange.errors import RequestError
from grange.http.compat.feature_store_2.definitions import SCHEDULE_TAG
from grange.http.compat.feature_store_2.keeping import Kept, KeptFeature, KeptSet
from grange.http.compat.feature_store_2.sets import Feature
from grange.types.time import to_utc

if TYPE_CHECKING:
    from grange.definitions.feature_group import FeatureGroup

NAME = r"^[A-Za-z][A-Za-z0-9_]{0,127}$"
ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME)]
Id = Annotated[str, Field(pattern=ID, description="A name, or the id that an answer had.")]
Text = Annotated[str, Field(max_length=10_000)]
Column = Annotated[str, Field(min_length=1, max_length=256)]
Value = bool | int | float | str


class Shape(BaseModel):
    """A body: nothing in it that is not asked for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def said(self) -> dict[str, Any]:
        """What was said, under the names of the request; nothing of what was left out."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class EntityShape(Shape):
    """An entity with its join keys."""

    name: Name
    join_keys: list[Annotated[str, Field(max_length=128)]] = Field(min_length=1, max_length=16)


class SourceShape(Shape):
    """Where the raw rows of a set are: data files of the project; of a stream, what rows that are pushed look like."""

    path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    event_time: Column | None = None
    created_time: Column | None = None
    event_id: Column | None = None
    retracted: Column | None = None
    format: Literal["parquet", "csv", "jsonl"] | None = None
    schema_: dict[Column, Annotated[str, Field(max_length=200)]] | None = Field(None, alias="schema", max_length=5000)
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    name: Annotated[str, Field(max_length=128)] | None = None


class FeatureSetShape(Shape):
    """A feature set to begin."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "user_profile",
                    "description": "User demographic and behavioral features",
                    "owner": "data-team",
                    "entities": ["user"],
                    "source_type": "batch",
                    "offline_enabled": True,
                    "online_enabled": True,
                    "materialization_schedule": "0 */6 * * *",
                }
            ]
        },
    )

    name: Name
    description: Text = ""
    owner: Text = ""
    entities: list[Name | EntityShape] = Field(min_length=1, max_length=16)
    source_type: Literal["batch", "stream"] = "batch"
    source: SourceShape | None = Field(None, description="A set without one is a draft.")
    offline_enabled: Literal[True] = Field(True, description="History is always kept.")
    online_enabled: bool = True
    materialization_schedule: Annotated[str, Field(max_length=200)] | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class FeatureSetChange(Shape):
    """What changes of a feature set; the rest stays."""

    description: Text | None = None
    owner: Text | None = None
    source_type: Literal["batch", "stream"] | None = None
    source: SourceShape | None = None
    online_enabled: bool | None = None
    materialization_schedule: Annotated[str, Field(max_length=200)] | None = None
    tags: dict[str, str] | None = None


class FeatureShape(Shape):
    """A feature to define."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "account_balance",
                    "data_type": "float",
                    "default_value": 0.0,
                },
            ]
        },
    )

    name: Name
    feature_set_id: Id | None = Field(None, description="A name or an id; without one the feature waits for a set.")
    description: Text = ""
    data_type: Annotated[str, Field(max_length=200)]
    transformation: Text | None = None
    window_size: Annotated[str, Field(max_length=40)] | None = None
    source_features: list[Name] = Field(default_factory=list, max_length=1000)
    default_value: Value | None = None
    allowed_values: list[Value] = Field(default_factory=list, max_length=10_000)
    validation_rules: dict[str, Any] = Field(default_factory=dict)


class FeatureChange(Shape):
    """What changes of a feature; the rest stays."""

    feature_set_id: Id | None = None
    description: Text | None = None
    data_type: Annotated[str, Field(max_length=200)] | None = None
    transformation: Text | None = None
    window_size: Annotated[str, Field(max_length=40)] | None = None
    source_features: list[Name] | None = None
    default_value: Value | None = None
    allowed_values: list[Value] | None = None
    validation_rules: dict[str, Any] | None = None


class MaterializeShape(Shape):
    """From when to when, both included: a time that is written to the second means the whole second."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"start_date": "2024-01-01T00:00:00", "end_date": "2024-01-31T23:59:59"}]},
    )

    start_date: Annotated[str, Field(max_length=64)] | None = None
    end_date: Annotated[str, Field(max_length=64)] | None = None


def shown_set(
    group: FeatureGroup | None, kept: KeptSet | None, store: Kept, *, version: str | None = None
) -> dict[str, Any]:
    """A feature set as answers have it: from its group where that is applied, with what clients said of it."""
    said = None if kept is None else kept.feature_set
    name = group.name if group is not None else said.name if said is not None else ""
    shown: dict[str, Any] = {"id": store.id_of_set(name), "name": name}
    if said is not None:
        shown |= said.to_data() | {"entities": [entity for entity, _ in said.entities]}
    if group is not None:
        source = to_data(group)["source"]
        shown |= {
            "description": group.description,
            "owner": group.owner,
            "entities": [entity.name for entity in group.entities],
            "source_type": "batch" if isinstance(group.source, FileSource) else "stream",
            "source": source if said is None else said.source,
            "online_enabled": group.online,
            "materialization_schedule": dict(group.tags).get(SCHEDULE_TAG),
            "tags": {key: value for key, value in group.tags if key != SCHEDULE_TAG},
        }
    return shown | {
        "offline_enabled": True,
        "status": "draft" if group is None else "active",
        "missing": [] if said is None else list(said.missing),
        "features": _features(group, kept, store),
        "version": version,
        **({"created_at": None, "updated_at": None} if kept is None else kept.times.to_data()),
    }


def _features(group: FeatureGroup | None, kept: KeptSet | None, store: Kept) -> list[dict[str, Any]]:
    said = {} if kept is None else {feature.name: feature for feature in kept.feature_set.features}
    applied = () if group is None else offered(group)
    made = {} if group is None else made_on_demand(group)
    name = group.name if group is not None else kept.feature_set.name if kept is not None else ""
    rows = [
        {
            "id": store.id_of_feature(name, column.name),
            "name": column.name,
            "data_type": said[column.name].data_type if column.name in said else str(column.dtype),
            "type": _kind(said.get(column.name), column.name in made, bool(group and group.aggregations)),
            "description": column.description,
        }
        for column in applied
    ]
    known = {row["name"] for row in rows}
    waiting = [
        {
            "id": store.id_of_feature(name, feature.name),
            "name": feature.name,
            "data_type": feature.data_type,
            "type": _kind(feature, feature.is_composite, False),
            "description": feature.description,
        }
        for feature in said.values()
        if feature.name not in known
    ]
    return rows + waiting


def _kind(said: Feature | None, is_made: bool, is_windowed: bool) -> str:
    if is_made or (said is not None and said.is_composite):
        return "composite"
    if said is None:
        return "aggregated" if is_windowed else "basic"
    return "aggregated" if said.window_size is not None or " over " in said.transformation.lower() else "basic"


def shown_feature(kept: KeptFeature, store: Kept, *, missing: Sequence[str]) -> dict[str, Any]:
    """A feature as answers have it."""
    feature, of = kept.feature, kept.feature_set
    return {
        "id": store.id_of_feature(of, feature.name),
        **feature.to_data(),
        "type": _kind(feature, feature.is_composite, False),
        "feature_set_id": store.id_of_set(of) if of else None,
        "feature_set": of or None,
        "status": "draft" if missing else "active",
        "missing": list(missing),
        "reference": f"{of}:{feature.name}" if of else None,
        **kept.times.to_data(),
    }


def inclusive_end(text: str) -> dt.datetime:
    """The moment after the last that a text means: `2024-01-31` is the whole day, `...T23:59:59` the whole second.

    Raises:
        RequestError: no time, or the last of all.
    """
    moment = to_utc(text, what="end_date")
    step = dt.timedelta(microseconds=1) if "." in text else dt.timedelta(seconds=1)
    if "T" not in text and " " not in text.strip():
        step = dt.timedelta(days=1)
    try:
        return moment + step
    except OverflowError as error:
        raise RequestError(f"end_date {text!r} is the end of time", try_="leave it out for all rows") from error
