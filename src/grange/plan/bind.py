"""Binding: from what a request names to columns of stored schemas. Pure; what is bound cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog, Taken
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection, as_selection
from grange.errors import ColumnTypeError, DefinitionError, NameCollisionError, RequestError, UnknownFeatureError
from grange.plan.nodes import Derived
from grange.types import DataType, Schema
from grange.types.aggregates import Aggregate
from grange.types.durations import to_micros

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression

_LIST = "request"
"""What asks when references are listed."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which features are asked for, views expanded to selections of groups."""

    name: str
    """What asks, for messages: `feature view 'churn'` or `request`."""
    taken: tuple[Taken, ...]
    labels: tuple[FeatureSelection, ...] = ()
    """Features that are labels: joined into training data, never served."""
    requests: Schema = Schema()  # noqa: RUF009 - an immutable value
    """Columns that every spine and request must bring."""
    on_error: str = "raise"
    derived: tuple[tuple[str, Expression], ...] = ()
    """Expressions over the features and request columns, each may use those before it."""

    @property
    def selections(self) -> tuple[FeatureSelection, ...]:
        """What is taken of groups, in order."""
        return tuple(item.selection for item in self.taken)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a group's rows lie where they are read: as they were stored, maybe under an older definition."""

    schema: Schema
    entity_keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    aggregates: tuple[Aggregate, ...] = ()
    """The windowed features, of a group that has aggregations."""
    event_id: str | None = None
    retracted: str | None = None
    ttl: int | None = None
    """How old an event may be to be seen, in microseconds; of a group that has aggregations."""

    @classmethod
    def of(cls, group: FeatureGroup) -> Layout:
        """As the definition has them now."""
        return cls(
            group.schema,
            group.join_keys,
            group.event_time,
            group.created_time,
            group.aggregates(),
            group.event_id,
            group.retracted,
            None if group.ttl is None or not group.aggregations else to_micros(group.ttl),
        )

    @property
    def features(self) -> Schema:
        """The feature columns: the aggregates, or else all but the entity key and the times."""
        if self.aggregates:
            return Schema.of((item.name, item.dtype) for item in self.aggregates)
        return self.schema.without([*self.entity_keys, self.event_time, *filter(None, [self.created_time])])


@dataclass(frozen=True, slots=True)
class BoundFeature:
    """One feature of a request with everything that reading it needs."""

    group: FeatureGroup
    layout: Layout
    """Of the rows that are read: their key, times and types, not those of the group's definition of today."""
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
        return tuple((on.get(key, key), key) for key in self.layout.entity_keys)

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides its value: bound features of equal identity are one."""
        return self.group.name, self.column, self.keys, self.selection.version, self.selection.exact_matches

    def __str__(self) -> str:
        version = f"@{self.selection.version}" if self.selection.version else ""
        on = [f"{key}={column}" for column, key in self.keys if key != column]
        strict = "" if self.selection.exact_matches else " strictly before"
        return f"{self.group.name}{version}:{self.column}{' on ' + ', '.join(on) if on else ''}{strict}"


def resolve(catalog: Catalog, features: Any) -> Request:
    """What a caller named: a view (or its name), or a list of references.

    A view that is handed in is taken as it is, whatever is applied under its name.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureViewError, UnknownFeatureError, CyclicDefinitionError, DefinitionError.
        RequestError: nothing is named, or something that is no reference.
        NameCollisionError: request columns of one name and different types.
    """
    if isinstance(features, str) and ":" not in features and "@" not in features and features not in catalog.groups:
        features = catalog.view(features)
    if isinstance(features, FeatureView):
        request = Request(
            f"feature view {features.name!r}",
            catalog.taken_by(features),
            features.label_features,
            catalog.requests(features),
            features.on_error,
            catalog.derived(features),
        )
    else:
        request = _listed(catalog, _items(features))
    for selection in (*request.selections, *request.labels):
        catalog.check_selection(selection, asked_by=request.name)
    return request


def bind(
    catalog: Catalog,
    request: Request,
    stored: Mapping[tuple[str, str | None], Layout],
    *,
    labels: bool,
    full_feature_names: bool,
) -> tuple[BoundFeature, ...]:
    """The features of a request, in the order asked for, each once.

    Args:
        catalog: the applied definitions.
        request: what is asked for.
        stored: by (group, pinned version or None), what is stored; a group that is not in it is as it is defined.
        labels: whether label features are taken too.
        full_feature_names: name outputs `group__feature`, unless they are renamed.

    Raises:
        UnknownFeatureError: a feature that the stored version does not have.
        NameCollisionError: two different features under one output name, or a feature under the name of a key or
            request column.
    """
    bound: dict[str, BoundFeature] = {}
    for taken in (*request.taken, *(map(Taken, request.labels) if labels else ())):
        selection = taken.selection
        group = catalog.group(selection.source, asked_by=request.name)
        layout = stored.get((group.name, selection.version)) or Layout.of(group)
        columns = layout.features
        defaults = dict(group.defaults)
        for feature in selection.features or (name for name in columns.names if name not in taken.hidden):
            if feature not in columns and feature in group.features() and selection.version is None:
                raise UnknownFeatureError(
                    f'"{group.name}:{feature}" is defined, and what is stored of {group.name!r} does not have it yet',
                    asked_by=request.name,
                    found=", ".join(columns.names),
                    try_=f"grange materialize {group.name}",
                )
            catalog.check_feature(group, columns, feature, asked_by=request.name)
            renamed = feature in dict(selection.rename)
            name = f"{group.name}__{feature}" if full_feature_names and not renamed else selection.output_name(feature)
            item = BoundFeature(group, layout, selection, feature, name, columns[feature], defaults.get(feature))
            other = bound.setdefault(name, item)
            if other.identity != item.identity:
                raise NameCollisionError(
                    f"two features would be called {name!r}",
                    asked_by=request.name,
                    found=f"{other} and {item}",
                    try_=f"gr.select({group.name!r}, {feature!r}, prefix='{group.name}_')"
                    + (", or full_feature_names=True" if request.name == _LIST and other.group != group else ""),
                )
    _check_brought(request, bound)
    return tuple(bound.values())


def check_view(catalog: Catalog, view: FeatureView) -> None:
    """Check that a view's columns have one name each. Pinned versions have columns of their own; those are looked at
    when they are read.

    Raises:
        NameCollisionError: two features, or a feature and a key, request column or label, under one name.
        DefinitionError: nothing but labels is left of its features.
    """
    request = resolve(catalog, view)
    latest = replace(
        request,
        taken=tuple(item for item in request.taken if item.selection.version is None),
        labels=tuple(label for label in request.labels if label.version is None),
    )
    if not all(catalog.group(item.source).schema for item in (*latest.selections, *latest.labels)):
        return  # looked at when it is applied, where every schema is known
    features = bind(catalog, latest, {}, labels=False, full_feature_names=False)
    if not features and len(latest.taken) == len(request.taken):
        raise DefinitionError(f"{request.name} has no features besides its labels", found=", ".join(view.labels))
    every = bind(catalog, latest, {}, labels=True, full_feature_names=False)
    if len(latest.taken) == len(request.taken):
        bind_derived(request, every)
    for feature in every:
        if feature.name in view.spine_labels:
            raise _collision(request, feature, "a label that the spine brings")


def bind_derived(request: Request, bound: Sequence[BoundFeature]) -> tuple[Derived, ...]:
    """The derived features of a request over its bound features, in order.

    Names in an expression are those that features have in the view, also when outputs go by their full names.

    Raises:
        DefinitionError: an expression names something that is no feature before it and no request column.
        NameCollisionError: a derived feature has the name of a feature, key or request column.
    """
    if not request.derived:
        return ()
    from grange.definitions.expressions import expression_dtype

    outputs = {
        item.selection.output_name(item.column): (item.name, item.dtype)
        for item in bound
        if item.selection not in request.labels
    }
    outputs |= {column.name: (column.name, column.dtype) for column in request.requests}
    taken = {item.name for item in bound} | {column for item in bound for column, _ in item.keys}
    derived = []
    for name, expression in request.derived:
        if name in taken or name in request.requests:
            raise NameCollisionError(
                f"derived feature {name!r} has the name of a feature, key or request column",
                asked_by=request.name,
                found=f"{name!r} = {expression.text}",
                try_="give the derived feature a name of its own",
            )
        schema = Schema.of((own, dtype) for own, (_, dtype) in outputs.items())
        dtype = expression_dtype(expression, schema)
        inputs = tuple((column, *outputs[column]) for column in expression.columns)
        derived.append(Derived(name, expression, dtype, inputs))
        outputs[name] = (name, dtype)
        taken.add(name)
    return tuple(derived)


def key_columns(features: Iterable[BoundFeature]) -> dict[str, dict[str, DataType]]:
    """By column of the spine, the types that its groups' join keys have, by group name."""
    columns: dict[str, dict[str, DataType]] = {}
    for feature in features:
        for column, key in feature.keys:
            columns.setdefault(column, {})[feature.group.name] = feature.layout.schema[key]
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


def _items(features: Any) -> list[Any]:
    """What was named, as a list.

    Raises:
        RequestError: nothing, or something that is neither a reference nor a list of them.
    """
    if isinstance(features, str | FeatureSelection | FeatureGroup) or _is_pinned(features):
        return [features]
    if isinstance(features, Sequence) and not isinstance(features, bytes | bytearray) and len(features):
        return list(features)
    raise RequestError(
        "no features were named",
        found=repr(features) if features is None or isinstance(features, Sequence) else f"a {type(features).__name__}",
        try_='a feature view or its name, or a list like ["group", "group:feature", ("group", "1.0.0")]',
    )


def _listed(catalog: Catalog, items: Iterable[Any]) -> Request:
    """A request of references and views, one after another; the views' labels are left out."""
    taken: list[Taken] = []
    requests: dict[str, DataType] = {}
    derived: dict[str, Expression] = {}
    for item in items:
        view = item if isinstance(item, FeatureView) else None
        if view is None:
            selection = as_selection(item)
            taken += catalog.taken([selection], asked_by=_LIST)
            view = catalog.views.get(selection.source)
        else:
            taken += catalog.taken_by(view)
        for name, expression in catalog.derived(view) if view is not None else ():
            if derived.setdefault(name, expression) != expression:
                raise NameCollisionError(
                    f"two derived features are called {name!r}",
                    asked_by=_LIST,
                    found=f"{derived[name].text} and {expression.text}",
                    try_="ask for the feature views one by one",
                )
        for column in catalog.requests(view) if view is not None else ():
            if requests.setdefault(column.name, column.dtype) != column.dtype:
                raise NameCollisionError(
                    f"request column {column.name!r} has two types",
                    asked_by=_LIST,
                    found=f"{requests[column.name]} and {column.dtype}",
                    try_="ask for the feature views one by one",
                )
    return Request(_LIST, tuple(taken), requests=Schema.of(requests), derived=tuple(derived.items()))


def _check_brought(request: Request, bound: Mapping[str, BoundFeature]) -> None:
    """Check that no feature has the name of a column that every row brings, and that those agree on their types.

    Raises:
        NameCollisionError.
    """
    keys = {column: feature.layout.schema[key] for feature in bound.values() for column, key in feature.keys}
    for column in request.requests:
        if column.name in bound:
            raise _collision(request, bound[column.name], "a request column")
        if column.name in keys and keys[column.name].key_family != column.dtype.key_family:
            raise NameCollisionError(
                f"{column.name!r} is both a join key and a request column of another type",
                asked_by=request.name,
                found=f"{keys[column.name]} and {column.dtype}",
                try_="rename the request column",
            )
    for name in keys.keys() & bound.keys():
        raise _collision(request, bound[name], "a join key")


def _collision(request: Request, feature: BoundFeature, what: str) -> NameCollisionError:
    return NameCollisionError(
        f"a feature and {what} would both be called {feature.name!r}",
        asked_by=request.name,
        found=str(feature),
        try_=f"gr.select({feature.group.name!r}, {feature.column!r}, prefix='{feature.group.name}_')",
    )


def _is_pinned(value: Any) -> bool:
    """Whether a value is `("group", "1.0.0")`."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str) and value[1][:1].isdigit()
