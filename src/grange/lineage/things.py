"""The nodes of things: what each is called in the graph, and what is known of it without looking into columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import DerivedSource, FileSource, PushSource, RequestSource, TableSource
from grange.definitions.transformations import Transformation
from grange.definitions.transforms import SqlTransform
from grange.lineage.graph import Node
from grange.ports.offline import VersionMeta
from grange.types.time import isoformat

REQUEST = "request"
"""The source of columns that a transformation takes from the request, where no request source has them."""


def group_node(name: str, version: str | None = None) -> Node:
    """A feature group, or a version of it."""
    return Node("feature_group", name, version=version or "")


def view_node(name: str) -> Node:
    """A feature view."""
    return Node("feature_view", name)


def selected_node(catalog: Catalog, selection: FeatureSelection) -> Node:
    """What a selection takes from: a group, a version of one, or a view."""
    if selection.source in catalog.views:
        return view_node(selection.source)
    return group_node(selection.source, selection.version)


def file_node(path: str) -> Node:
    """Rows in files."""
    return Node("source", path, "file")


def entity_node(name: str) -> Node:
    """What features describe."""
    return Node("entity", name)


def request_node(name: str = REQUEST) -> Node:
    """Columns that come with each request."""
    return Node("source", name, "request")


def transformation_node(name: str) -> Node:
    """A transformation that a user wrote."""
    return Node("transformation", name)


def dataset_node(view: str, number: object) -> Node:
    """A training dataset."""
    return Node("training_dataset", view, version=str(number))


def export_node(destination: str) -> Node:
    """Where something was exported to."""
    return Node("export", destination)


def source_nodes(group: FeatureGroup) -> tuple[Node, ...]:
    """The sources that a group reads; none for a group that is derived from others."""
    match group.source:
        case FileSource():
            return (_described_file(group.source),)
        case TableSource():
            return (Node("source", group.source.name, "table").with_details(event_time=group.source.event_time),)
        case PushSource():
            pushed = Node("source", group.source.name, "push").with_details(
                event_time=group.source.event_time, schema=group.source.schema.to_list()
            )
            batch = group.source.batch_source
            return (pushed,) if batch is None else (_described_file(batch), pushed)
        case DerivedSource():
            return ()


def _described_file(source: FileSource) -> Node:
    named = None if source.name == source.path else source.name
    return file_node(source.path).with_details(
        name=named, format=source.format, event_time=source.event_time, schema=source.schema.to_list()
    )


def described_entity(entity: Entity) -> Node:
    """An entity with what is known of it."""
    return entity_node(entity.name).with_details(join_keys=list(entity.join_keys), description=entity.description)


def described_group(group: FeatureGroup) -> Node:
    """A group as it is defined, with what is known of it."""
    transform = group.transform
    columns = group.schema.to_list()
    if group.aggregations and group.schema:
        kept = [*group.join_keys, group.event_time]
        columns = [*(item for item in columns if item["name"] in kept), *group.features().to_list()]
    return group_node(group.name).with_details(
        description=group.description,
        owner=group.owner,
        code_hash=None if transform is None else transform.code_hash,
        sql=transform.query if isinstance(transform, SqlTransform) else None,
        schema=columns,
    )


def described_version(meta: VersionMeta) -> Node:
    """A published version, with what is known of it."""
    return group_node(meta.name, meta.version).with_details(
        code_hash=meta.code_hash,
        content_hash=meta.content_hash,
        created_at=None if meta.created_at is None else isoformat(meta.created_at),
        rows=meta.row_count,
        schema=(meta.feature_schema if meta.aggregates else meta.schema).to_list(),
    )


def described_view(view: FeatureView) -> Node:
    """A feature view with what is known of it."""
    return view_node(view.name).with_details(
        description=view.description, owner=view.owner, labels=list(view.labels), filter=view.filter
    )


def described_request(source: RequestSource) -> Node:
    """A request source with its columns."""
    return request_node(source.name).with_details(schema=source.schema.to_list())


def described_transformation(item: Transformation) -> Node:
    """A transformation with what is known of it."""
    return transformation_node(item.name).with_details(
        description=item.description, mode=item.mode, inputs=list(item.inputs), code_hash=item.code_hash
    )


def described_dataset(data: Mapping[str, Any]) -> Node:
    """A training dataset, from its document."""
    kept = ("created_at", "as_of", "status", "description", "code_hashes", "schema")
    return dataset_node(data["view"], data["version"]).with_details(**{key: data.get(key) for key in kept})


def described_export(data: Mapping[str, Any]) -> Node:
    """An export, from its document."""
    kept = ("status", "format", "rows", "ended_at")
    return export_node(str(data["destination"])).with_details(**{key: data.get(key) for key in kept})
