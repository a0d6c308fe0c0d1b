"""Definitions as plain JSON-able data and back; and their fingerprints. Nothing is pickled.

A Python transform travels as source text, module path and code hash; read back, it has no function until the
module that defines it is loaded here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, assert_never

from grange.definitions.aggregations import aggregation_from_data
from grange.definitions.entity import Entity
from grange.definitions.expectations import Expectation
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.labels import Label
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import (
    DerivedSource,
    FileSource,
    PushSource,
    RequestSource,
    Source,
    TableSource,
)
from grange.definitions.transformations import PythonCode, Step, Transformation
from grange.definitions.transforms import PythonTransform, SqlTransform, Transform
from grange.definitions.values import from_plain, to_plain
from grange.types import Schema, format_duration, parse_dtype

Definition = Entity | Transformation | FeatureGroup | FeatureView
"""What can be applied."""
Data = dict[str, Any]
OPTIONAL: Final = frozenset(
    {
        "aggregations",
        "interval",
        "fill_gaps",
        "derived",
        "exact",
        "on_demand",
        "transformations",
        "label_rules",
        "filter",
        "training_helpers",
        "inference_helpers",
    }
)
"""Fields that a definition's data has only where they say something."""


def to_data(definition: Definition) -> Data:
    """A definition as plain data; `from_data` reads it back as an equal value."""
    match definition:
        case Entity():
            return {
                "join_keys": list(definition.join_keys),
                "key_types": {key: str(dtype) for key, dtype in definition.key_types},
                **_about(definition),
            }
        case FeatureGroup():
            return {
                "entities": [{"name": entity.name, **to_data(entity)} for entity in definition.entities],
                "source": _source_data(definition.source),
                "transform": _transform_data(definition.transform),
                "schema": definition.schema.to_list(),
                "ttl": None if definition.ttl is None else format_duration(definition.ttl),
                "defaults": {name: to_plain(value) for name, value in definition.defaults},
                "expectations": {
                    column: [check.to_dict() for check in checks] for column, checks in definition.expectations
                },
                "online": definition.online,
                **_windows_data(definition),
                **_unless_empty(on_demand=[_step_data(step) for step in definition.on_demand]),
                **_about(definition),
            }
        case Transformation():
            return {
                "inputs": list(definition.inputs),
                "outputs": definition.outputs.to_list(),
                "requests": definition.requests.to_list(),
                "mode": definition.mode,
                "nulls": definition.nulls,
                "sql": [list(pair) for pair in definition.sql],
                "code": _code_data(definition.code),
                "fit": _code_data(definition.fit),
                **_about(definition),
            }
        case FeatureView():
            return {
                "features": [_selection_data(selection) for selection in definition.features],
                "labels": list(definition.labels),
                "requests": [{"name": item.name, "schema": item.schema.to_list()} for item in definition.requests],
                "on_error": definition.on_error,
                **_unless_empty(
                    derived={name: item.text for name, item in definition.derived},
                    exact=definition.exact,
                    label_rules=[rule.to_data() for rule in definition.label_rules if rule.after],
                    on_demand=[_step_data(step) for step in definition.on_demand],
                    transformations=[_step_data(step) for step in definition.transformations],
                    filter=definition.filter,
                    training_helpers=list(definition.training_helpers),
                    inference_helpers=list(definition.inference_helpers),
                ),
                **_about(definition),
            }
        case _:
            assert_never(definition)


def entity_from_data(name: str, data: Data) -> Entity:
    """The inverse of `to_data` for an entity."""
    types = {key: parse_dtype(text) for key, text in data["key_types"].items()}
    keys: Any = data["join_keys"]
    entity = Entity(name, keys, **_about_from(data))
    object.__setattr__(entity, "key_types", tuple(types.items()))
    return entity


def group_from_data(name: str, data: Data) -> FeatureGroup:
    """The inverse of `to_data` for a feature group."""
    return FeatureGroup(
        name,
        entities=[entity_from_data(item["name"], item) for item in data["entities"]],
        source=_source_from(data["source"]),
        transform=_transform_from(data["transform"]),
        schema=Schema.from_list(data["schema"]),
        ttl=data["ttl"],
        defaults={feature: from_plain(value) for feature, value in data["defaults"].items()},
        expectations={
            column: [Expectation.from_dict(check) for check in checks]
            for column, checks in data["expectations"].items()
        },
        online=data["online"],
        aggregations=[aggregation_from_data(item) for item in data.get("aggregations", ())],
        interval=data.get("interval"),
        fill_gaps=data.get("fill_gaps", False),
        on_demand=[_step_from(item) for item in data.get("on_demand", ())],
        **_about_from(data),
    )


def transformation_from_data(name: str, data: Data) -> Transformation:
    """The inverse of `to_data` for a transformation; its functions are not loaded."""
    return Transformation(
        name,
        _code_from(data["code"]),
        sql=dict(data["sql"]) or None,
        inputs=data["inputs"],
        outputs=Schema.from_list(data["outputs"]),
        requests=Schema.from_list(data["requests"]),
        mode=data["mode"],
        nulls=data["nulls"],
        fit=_code_from(data["fit"]),
        **_about_from(data),
    )


def view_from_data(name: str, data: Data) -> FeatureView:
    """The inverse of `to_data` for a feature view."""
    rules = {item["name"]: item for item in data.get("label_rules", ())}
    return FeatureView(
        name,
        features=[_selection_from(item) for item in data["features"]],
        labels=[Label(**rules.get(label, {"name": label})) for label in data["labels"]],
        requests=[RequestSource(item["name"], schema=Schema.from_list(item["schema"])) for item in data["requests"]],
        on_error=data["on_error"],
        derived=data.get("derived"),
        exact=data.get("exact", False),
        on_demand=[_step_from(item) for item in data.get("on_demand", ())],
        transformations=[_step_from(item) for item in data.get("transformations", ())],
        filter=data.get("filter", ""),
        training_helpers=data.get("training_helpers", ()),
        inference_helpers=data.get("inference_helpers", ()),
        **_about_from(data),
    )


def fingerprint(data: Data) -> str:
    """Hash of a definition's data: what it means, so a transform counts by its code hash, not its layout."""
    return hashlib.sha256(json.dumps(_meaning(data), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _meaning(data: Any) -> Any:
    if isinstance(data, Mapping):
        drop = {"source_text", "module"} if data.get("type") == "python" else set()
        drop |= {"query"} if data.get("type") == "sql" else set()
        return {key: _meaning(value) for key, value in data.items() if key not in drop}
    if isinstance(data, list):
        return [_meaning(item) for item in data]
    return data


def _code_data(code: PythonCode | None) -> Data | None:
    if code is None:
        return None
    return {
        "type": "python",
        "name": code.name,
        "module": code.module,
        "source_text": code.source_text,
        "code_hash": code.code_hash,
    }


def _code_from(data: Data | None) -> PythonCode | None:
    return None if data is None else PythonCode(**{key: value for key, value in data.items() if key != "type"})


def _step_data(step: Step) -> Data:
    own = step.transformation
    return {
        "function": step.function,
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        **_unless_empty(
            parameters={name: _listed(value) for name, value in step.parameters},
            keep=step.keep,
            transformation=None if own is None else to_data(own),
        ),
    }


def _step_from(data: Data) -> Step:
    own = data.get("transformation")
    return Step(
        data["function"],
        tuple(data["inputs"]),
        tuple(data["outputs"]),
        tuple(data.get("parameters", {}).items()),
        data.get("keep", False),
        None if own is None else transformation_from_data(data["function"], own),
    )


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _windows_data(group: FeatureGroup) -> Data:
    return _unless_empty(
        aggregations=[item.to_data() for item in group.aggregations],
        interval=None if group.interval is None else format_duration(group.interval),
        fill_gaps=group.fill_gaps,
    )


def _unless_empty(**fields: Any) -> Data:
    """Fields that a definition has. Others are left out: definitions written before there were any are equal."""
    return {name: value for name, value in fields.items() if value}


def _about(definition: Definition) -> Data:
    return {
        "description": definition.description,
        "owner": definition.owner,
        "tags": dict(definition.tags),
    }


def _about_from(data: Data) -> Data:
    return {key: data[key] for key in ("description", "owner", "tags")}


def _source_data(source: Source) -> Data:
    times = {
        "name": source.name,
        "event_time": source.event_time,
        "created_time": source.created_time,
        **_unless_empty(event_id=source.event_id, retracted=source.retracted),
    }
    match source:
        case FileSource():
            return {
                "type": "file",
                "path": source.path,
                "format": source.format,
                "schema": source.schema.to_list(),
                "separator": source.separator,
                **times,
            }
        case TableSource():
            return {"type": "table", **times}
        case DerivedSource():
            return {
                "type": "derived",
                "features": [_selection_data(item) for item in source.features],
                "filter": source.filter,
                **times,
            }
        case PushSource():
            batch = None if source.batch_source is None else _source_data(source.batch_source)
            return {"type": "push", "schema": source.schema.to_list(), "batch_source": batch, **times}
        case _:
            assert_never(source)


def _source_from(data: Data) -> Source:
    times: Data = {key: data.get(key) for key in ("event_time", "created_time", "event_id", "retracted")}
    match data["type"]:
        case "file":
            return FileSource(
                data["path"],
                format=data["format"],
                schema=Schema.from_list(data["schema"]),
                separator=data["separator"],
                name=data["name"],
                **times,
            )
        case "derived":
            features = [_selection_from(item) for item in data["features"]]
            return DerivedSource(features, event_time=data["event_time"], filter=data["filter"], name=data["name"])
        case "table":
            return TableSource(None, name=data["name"], **times)
        case "push":
            batch = None if data["batch_source"] is None else _source_from(data["batch_source"])
            assert batch is None or isinstance(batch, FileSource)
            schema = Schema.from_list(data["schema"])
            return PushSource(data["name"], schema=schema, batch_source=batch, **times)
        case other:
            raise ValueError(f"no source type {other!r}")


def _transform_data(transform: Transform | None) -> Data | None:
    match transform:
        case None:
            return None
        case PythonTransform():
            return {
                "type": "python",
                "name": transform.name,
                "module": transform.module,
                "source_text": transform.source_text,
                "code_hash": transform.code_hash,
                "frame": transform.frame,
            }
        case SqlTransform():
            return {"type": "sql", "query": transform.query, "code_hash": transform.code_hash}
        case _:
            assert_never(transform)


def _transform_from(data: Data | None) -> Transform | None:
    if data is None:
        return None
    fields = {key: value for key, value in data.items() if key != "type"}
    return PythonTransform(**fields) if data["type"] == "python" else SqlTransform(**fields)


def _selection_data(selection: FeatureSelection) -> Data:
    return {
        "source": selection.source,
        "features": list(selection.features),
        "version": selection.version,
        "on": dict(selection.on),
        "rename": dict(selection.rename),
        "prefix": selection.prefix,
        "exact_matches": selection.exact_matches,
        **({} if selection.join == "left" else {"join": selection.join}),
    }


def _selection_from(data: Data) -> FeatureSelection:
    return FeatureSelection(
        source=data["source"],
        features=tuple(data["features"]),
        version=data["version"],
        on=tuple(sorted(data["on"].items())),
        rename=tuple(sorted(data["rename"].items())),
        prefix=data["prefix"],
        exact_matches=data["exact_matches"],
        join=data.get("join", "left"),
    )
