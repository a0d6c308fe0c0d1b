"""Definitions as answers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import offered
from grange.definitions.serialize import fingerprint, to_data
from grange.http.etags import etag
from grange.verbs.parts import record_kind

if TYPE_CHECKING:
    from grange.definitions.serialize import Definition


def tag_of(definition: Definition) -> str:
    """A definition's entity tag."""
    return etag(fingerprint(to_data(definition)))


def definition_record(definition: Definition) -> dict[str, Any]:
    """Everything that a definition says, and nothing that changes while it does not."""
    data = to_data(definition)
    return {
        "id": definition.name,
        "kind": record_kind(definition),
        "name": definition.name,
        "fingerprint": fingerprint(data),
        "description": definition.description,
        "owner": definition.owner,
        "tags": dict(definition.tags),
        **_own(definition),
        "definition": data,
    }


def definition_summary(definition: Definition) -> dict[str, Any]:
    """The same without the definition itself."""
    return {name: value for name, value in definition_record(definition).items() if name != "definition"}


def _own(definition: Definition) -> dict[str, Any]:
    """What its kind has to tell besides."""
    match definition:
        case FeatureGroup():
            return {
                "entities": [entity.name for entity in definition.entities],
                "join_keys": list(definition.join_keys),
                "event_time": None if definition.is_timeless else definition.event_time,
                "created_time": definition.created_time,
                "online": definition.online,
                "features": offered(definition).to_list(),
            }
        case FeatureView():
            return {
                "selections": [str(item) for item in definition.features],
                "labels": list(definition.labels),
                "on_error": definition.on_error,
            }
        case Entity():
            return {"join_keys": list(definition.join_keys)}
        case _:
            return {
                "mode": definition.mode,
                "inputs": list(definition.inputs),
                "outputs": list(definition.output_names),
                "learns": definition.is_fitted,
            }
