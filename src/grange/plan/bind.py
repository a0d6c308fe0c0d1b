"""Binding: from what a request names to columns of stored schemas. Pure; what is bound cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection, as_selection
from grange.errors import ColumnTypeError, NameCollisionError
from grange.types import DataType, Schema


@dataclass(frozen=True, slots=True)
class Request:
    """Which features are asked for, views expanded to selections of groups."""

    name: str
    """What asks, for messages: `feature view 'churn'` or `request`."""
    selections: tuple[FeatureSelection, ...]
    labels: tuple[FeatureSelection, ...] = ()
    """Features that are labels: joined into training data, never served."""
    requests: Schema = Schema()  # noqa: RUF009 - an immutable value
    """Columns that every spine and request must bring."""
    on_error: str = "raise"


@dataclass(frozen=True, slots=True)
class BoundFeature:
    """One feature of a request with everything that reading it needs."""

    group: FeatureGroup
    selection: FeatureSelection
    column: str
    name: str
    """Output column."""
    dtype: DataType
    default: Any = None

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(column of the spine, join key) per join key."""
        on = dict(self.selection.on)
        return tuple((on.get(key, key), key) for key in self.group.join_keys)


def resolve(catalog: Catalog, features: Any) -> Request:
    """What a caller named: a view (or its name), or a list of references.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureViewError, UnknownFeatureError, CyclicDefinitionError, RequestError.
    """
    if isinstance(features, str) and ":" not in features and "@" not in features and features not in catalog.groups:
        features = catalog.view(features)
    if isinstance(features, FeatureView):
        view = catalog.views.get(features.name, features)
        asked_by = f"feature view {view.name!r}"
        return _request(catalog, asked_by, view.features, view.label_features, catalog.requests(view), view.on_error)
    items = [features] if not isinstance(features, Sequence) or isinstance(features, str | tuple) else features
    if isinstance(features, tuple) and not _is_pinned(features):
        items = list(features)
    selections = [as_selection(item) for item in items]
    requests: dict[str, DataType] = {}
    for selection in selections:
        if selection.source in catalog.views:
            requests |= {column.name: column.dtype for column in catalog.requests(catalog.views[selection.source])}
    return _request(catalog, "request", selections, (), Schema.of(requests), "raise")


def bind(
    catalog: Catalog,
    request: Request,
    stored: Mapping[tuple[str, str | None], Schema],
    *,
    labels: bool,
    full_feature_names: bool,
) -> tuple[BoundFeature, ...]:
    """The features of a request, in the order asked for, each once.

    Args:
        catalog: the applied definitions.
        request: what is asked for.
        stored: by (group, pinned version or None), the columns that are stored.
        labels: whether label features are taken too.
        full_feature_names: name outputs `group__feature`, unless they are renamed.

    Raises:
        UnknownFeatureError: a feature that the stored version does not have.
        NameCollisionError: two different features under one output name.
    """
    bound: dict[str, BoundFeature] = {}
    for selection in (*request.selections, *(request.labels if labels else ())):
        group = catalog.group(selection.source, asked_by=request.name)
        columns = group.features(stored.get((group.name, selection.version)) or group.schema)
        defaults = dict(group.defaults)
        for feature in selection.features or columns.names:
            catalog.check_feature(group, columns, feature, asked_by=request.name)
            renamed = feature in dict(selection.rename)
            name = f"{group.name}__{feature}" if full_feature_names and not renamed else selection.output_name(feature)
            item = BoundFeature(group, selection, feature, name, columns[feature], defaults.get(feature))
            other = bound.setdefault(name, item)
            if (other.group.name, other.column, other.keys, other.selection.version) != (
                group.name,
                feature,
                item.keys,
                selection.version,
            ):
                raise NameCollisionError(
                    f"two features would be called {name!r}",
                    asked_by=request.name,
                    found=f"{other.group.name}:{other.column} and {group.name}:{feature}",
                    try_=f"gr.select({group.name!r}, {feature!r}, prefix='{group.name}_'), or full_feature_names=True",
                )
    return tuple(bound.values())


def key_columns(features: Iterable[BoundFeature]) -> dict[str, dict[str, DataType]]:
    """By column of the spine, the types that its groups' join keys have, by group name."""
    columns: dict[str, dict[str, DataType]] = {}
    for feature in features:
        for column, key in feature.keys:
            columns.setdefault(column, {})[feature.group.name] = feature.group.schema[key]
    return columns


def check_defaults(group: FeatureGroup) -> None:
    """Check that defaults name features and fit their types.

    Raises:
        UnknownFeatureError, ColumnTypeError.
    """
    import pyarrow as pa

    from grange.types.arrow import conform_column
    from grange.types.schema import Column

    features = group.features()
    for name, value in group.defaults:
        Catalog.check_feature(group, features, name, asked_by=f"defaults of feature group {group.name!r}")
        try:
            values = pa.chunked_array([pa.array([value])])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ColumnTypeError(f"default {value!r} of {group.name}:{name} has no type Grange knows") from error
        conform_column(values, Column(name, features[name]), what=f"default of feature group {group.name!r}")


def _request(
    catalog: Catalog,
    asked_by: str,
    selections: Iterable[FeatureSelection],
    labels: Iterable[FeatureSelection],
    requests: Schema,
    on_error: str,
) -> Request:
    expanded = catalog.expand(selections, asked_by=asked_by)
    labels = tuple(labels)
    for selection in (*expanded, *labels):
        catalog.check_selection(selection, asked_by=asked_by)
    return Request(asked_by, expanded, labels, requests, on_error)


def _is_pinned(value: tuple[Any, ...]) -> bool:
    return len(value) == 2 and isinstance(value[1], str) and value[1][:1].isdigit()
