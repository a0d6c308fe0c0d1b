"""Definitions on the wire: strict models of what `definitions.serialize` has, with the friendlier shapes of the command
line beside it. Extra fields are refused, names cannot say a path, and lengths are bounded.

A body becomes the plain data of a definition, and that the definition: its constructors check what these models cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from grange.errors import DefinitionError, ForbiddenError, GrangeError, UnknownFeatureGroupError
from grange.http.trust import check_code, is_data

if TYPE_CHECKING:
    from pathlib import Path

    from grange.definitions.catalog import Catalog
    from grange.definitions.entity import Entity
    from grange.definitions.feature_group import FeatureGroup
    from grange.definitions.feature_view import FeatureView
    from grange.definitions.serialize import Definition
    from grange.definitions.transformations import Step, Transformation
    from grange.store import FeatureStore

NAME: Final = r"^[A-Za-z][A-Za-z0-9_]{0,127}$"
VERSION: Final = r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$"
REFERENCE: Final = r"^[A-Za-z][A-Za-z0-9_]{0,127}(@[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})?(:[^\x00-\x1f\x7f]{1,256})?$"

Name = Annotated[str, StringConstraints(pattern=NAME, max_length=128)]
Version = Annotated[str, StringConstraints(pattern=VERSION, max_length=29)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE, max_length=448)]
Duration = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Line = Annotated[str, StringConstraints(max_length=512)]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
Dtype = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Tags = Annotated[dict[Line, Line], Field(max_length=100)]
Plain = Any
"""A default or a setting, as JSON has it."""
Bound = None | bool | int | float | Annotated[str, StringConstraints(max_length=10_000)] | dict[Name, Line]
"""A bound or an allowed value; what JSON lacks is its kind and its text: `{"datetime": "2026-03-01T00:00:00Z"}`."""
_MOST_COLUMNS: Final = 5000


class Body(BaseModel):
    """A part of a request's body. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)


class About(Body):
    """What every definition says of itself."""

    description: Text = ""
    owner: Line = ""
    tags: Tags = Field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """As definitions have it."""
        return {"description": self.description, "owner": self.owner, "tags": dict(self.tags)}


class ColumnBody(Body):
    """A column of a schema."""

    name: Column
    dtype: Dtype = Field(examples=["float64"])
    description: Text = ""

    def data(self) -> dict[str, Any]:
        """As schemas have it."""
        return self.model_dump(exclude_defaults=True)


Columns = Annotated[list[ColumnBody], Field(max_length=_MOST_COLUMNS)]


def _schema(columns: Sequence[ColumnBody]) -> list[dict[str, Any]]:
    return [column.data() for column in columns]


class EntityBody(About):
    """The thing features describe, and its join keys."""

    name: Name
    join_keys: Annotated[list[Column], Field(min_length=1, max_length=64)]
    key_types: Annotated[dict[Column, Dtype], Field(max_length=64)] = Field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """As the registry has it."""
        return {"join_keys": self.join_keys, "key_types": self.key_types, **self.about()}

    def definition(self) -> Entity:
        """The entity.

        Raises:
            DefinitionError: it contradicts itself.
        """
        from grange.definitions.entity import Entity
        from grange.definitions.serialize import entity_from_data

        unknown = [key for key in self.key_types if key not in self.join_keys]
        if unknown:
            raise DefinitionError(f"entity {self.name!r} has no join key {unknown[0]!r}")
        if self.key_types:
            Entity(self.name, {key: self.key_types.get(key, "string") for key in self.join_keys})  # keys may be keys
        return entity_from_data(self.name, self.data())


class SelectionBody(Body):
    """Features of a group, or of a view, by other keys or under other names."""

    source: Name
    features: Annotated[list[Column], Field(max_length=_MOST_COLUMNS)] = Field(default_factory=list)
    version: Version | None = None
    on: Annotated[dict[Column, Column], Field(max_length=64)] = Field(default_factory=dict)
    rename: Annotated[dict[Column, Column], Field(max_length=_MOST_COLUMNS)] = Field(default_factory=dict)
    prefix: Line = ""
    exact_matches: bool = True
    join: Literal["left", "inner", "right", "full", "asof"] = "left"

    def data(self) -> dict[str, Any]:
        """As definitions have it."""
        from grange.definitions.references import select

        select(self.source, *self.features, version=self.version, on=self.on, rename=self.rename, join=self.join)
        return self.model_dump()


Selection = Reference | SelectionBody
Selections = Annotated[list[Selection], Field(min_length=1, max_length=1000)]


def selection_data(item: str | SelectionBody) -> dict[str, Any]:
    """A selection as definitions have it."""
    if isinstance(item, SelectionBody):
        return item.data()
    from grange.definitions.references import parse_reference

    parsed = parse_reference(item)
    return SelectionBody(source=parsed.source, features=list(parsed.features), version=parsed.version).data()


class Times(Body):
    """The columns of a source that Grange knows the meaning of."""

    event_time: Column | None = None
    created_time: Column | None = None
    event_id: Column | None = None
    retracted: Column | None = None


class FileSourceBody(Times):
    """Files inside the project: Parquet, CSV or JSON Lines; one, a glob, or a folder."""

    type: Literal["file"] = "file"
    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Data inside the project: relative, without `..`, ending like data (`.parquet`) or in `/`.",
        examples=["data/spend.parquet"],
    )
    format: Literal["parquet", "csv", "jsonl"] | None = None
    schema_: Columns = Field(default_factory=list, alias="schema")
    separator: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = None
    name: Line | None = None

    def data(self) -> dict[str, Any]:
        """As definitions have it."""
        return {**self.model_dump(exclude={"schema_", "name"}), "schema": _schema(self.schema_), "name": self.name}


class PushSourceBody(Times):
    """Rows that the application pushes."""

    type: Literal["push"]
    name: Name
    event_time: Column
    schema_: Columns = Field(default_factory=list, alias="schema")
    batch_source: FileSourceBody | None = None

    def data(self) -> dict[str, Any]:
        """As definitions have it."""
        batch = None if self.batch_source is None else self.batch_source.data()
        return {
            **self.model_dump(exclude={"schema_", "batch_source"}),
            "schema": _schema(self.schema_),
            "batch_source": batch,
        }


class DerivedSourceBody(Body):
    """Rows made of other feature groups, the first one's beside features of others."""

    type: Literal["derived"]
    features: Selections
    event_time: Column = "event_time"
    filter: Text = ""
    name: Line = ""
    created_time: None = None

    def data(self) -> dict[str, Any]:
        """As definitions have it."""
        features = [selection_data(item) for item in self.features]
        return {"type": "derived", "features": features, "event_time": self.event_time, "filter": self.filter,
                "name": self.name}  # fmt: skip


class TableSourceBody(Times):
    """A frame that a process held: what was materialized from it can be read, and it cannot be materialized again."""

    type: Literal["table"]
    name: Name

    def data(self) -> dict[str, Any]:
        """As definitions have it."""
        return self.model_dump()


Source = Annotated[FileSourceBody | PushSourceBody | DerivedSourceBody | TableSourceBody, Field(discriminator="type")]


class SqlTransformBody(Body):
    """A SELECT over `source`."""

    type: Literal["sql"]
    query: Sql
    code_hash: Line = ""


class PythonTransformBody(Body):
    """A function of the server's own modules: it is found again by its hash, and its text is never run."""

    type: Literal["python"]
    name: Line
    module: Line
    source_text: Sql
    code_hash: Line
    frame: Literal["polars", "polars_lazy", "pandas", "arrow", "narwhals"] = "polars"


class PythonCodeBody(Body):
    """A function of a transformation. Without a module it is text, which runs only where the operator allows that."""

    type: Literal["python"] = "python"
    name: Line
    module: Line = ""
    source_text: Sql
    code_hash: Line


class RollingBody(Body):
    """Functions of the events in windows."""

    type: Literal["rolling"]
    columns: dict[Column, Line | list[Line]] | list[tuple[Column, list[Line]]] = Field(
        examples=[{"amount": ["sum", "mean"]}]
    )
    windows: Duration | list[Duration] = Field(examples=[["7d", "30d"]])
    closed: Literal["left", "right", "both", "none"] = "right"
    every: Duration | None = None
    offset: Duration | None = None
    filter: Text | None = None
    name: Line | None = None


class LagBody(Body):
    """The value of columns some time ago."""

    type: Literal["lag"]
    columns: Column | list[Column]
    lags: Duration | list[Duration]
    tolerance: Duration | None = None
    filter: Text | None = None
    name: Line | None = None


class RollupBody(Body):
    """Functions of whole intervals."""

    type: Literal["rollup"]
    columns: dict[Column, Line | list[Line]] | list[tuple[Column, list[Line]]]
    every: Duration
    offset: Duration | None = None
    filter: Text | None = None
    name: Line | None = None


class SessionBody(Body):
    """Functions of the session that is going on."""

    type: Literal["session"]
    columns: dict[Column, Line | list[Line]] | list[tuple[Column, list[Line]]]
    gap: Duration
    closed: Literal["left", "right", "both", "none"] = "right"
    filter: Text | None = None
    name: Line | None = None


class CalendarBody(Body):
    """Features of the moment itself."""

    type: Literal["calendar"]
    fields_: Line | list[Line] = Field(alias="fields")
    timezone: Line = "UTC"
    country: Line | None = None
    prefix: Line = ""


Aggregation = Annotated[RollingBody | LagBody | RollupBody | SessionBody | CalendarBody, Field(discriminator="type")]


class ExpectationBody(Body):
    """A check on a column, and what happens to rows that fail it."""

    kind: Literal[
        "not_null", "unique", "between", "greater_than", "greater_than_or_equal", "less_than", "less_than_or_equal",
        "one_of", "matches", "length_between", "finite",
    ]  # fmt: skip
    arguments: Annotated[list[Bound], Field(max_length=10_000)] = Field(default_factory=list)
    policy: Literal["fail", "drop", "warn"] = "fail"

    def data(self, column: str) -> dict[str, Any]:
        """As definitions have it.

        Raises:
            DefinitionError: other arguments than the check takes.
        """
        from grange.definitions import expectations
        from grange.definitions.values import from_plain

        make, given = getattr(expectations, self.kind), [from_plain(item) for item in self.arguments]
        try:
            made = make(given, policy=self.policy) if self.kind == "one_of" else make(*given, policy=self.policy)
        except TypeError as error:
            raise DefinitionError(f"expectation {self.kind} of {column!r}: {error}") from error
        data: dict[str, Any] = made.to_dict()
        return data


class TransformationBody(About):
    """A function on columns: SQL expressions by output, or code that the server has."""

    name: Name
    sql: dict[Column, Sql] | list[tuple[Column, Sql]] = Field(
        default_factory=dict, examples=[{"ratio": "amount / NULLIF(total, 0)"}]
    )
    inputs: Annotated[list[Column], Field(max_length=1000)] | None = None
    outputs: dict[Column, Dtype] | Columns = Field(default_factory=dict)
    requests: dict[Column, Dtype] | Columns = Field(default_factory=dict)
    mode: Literal["row", "numpy", "polars", "pandas", "sql"] | None = None
    nulls: Literal["skip", "pass"] = "skip"
    code: PythonCodeBody | None = None
    fit: PythonCodeBody | None = None

    def definition(self) -> Transformation:
        """The transformation; its code not loaded.

        Raises:
            DefinitionError: it contradicts itself.
        """
        from grange.definitions.transformations import Transformation

        return Transformation(
            self.name,
            _code(self.code),
            sql=dict(self.sql) or None,
            inputs=self.inputs,
            outputs=_as_schema(self.outputs),
            requests=_as_schema(self.requests),
            mode=self.mode,
            nulls=self.nulls,
            fit=_code(self.fit),
            **self.about(),
        )


class StepTransformationBody(About):
    """The function of a step, as the step carries it."""

    inputs: list[Column]
    outputs: Columns = Field(default_factory=list)
    requests: Columns = Field(default_factory=list)
    mode: Literal["row", "numpy", "polars", "pandas", "sql"]
    nulls: Literal["skip", "pass"] = "skip"
    sql: list[tuple[Column, Sql]] = Field(default_factory=list)
    code: PythonCodeBody | None = None
    fit: PythonCodeBody | None = None


class StepBody(Body):
    """One application of a function to columns."""

    function: Name
    inputs: list[Column]
    outputs: list[Column] = Field(default_factory=list)
    parameters: dict[Line, Plain] = Field(default_factory=dict)
    keep: bool = False
    transformation: StepTransformationBody | None = None

    def step(self, catalog: Catalog) -> Step:
        """The step, with the function of an applied transformation where it is one.

        Raises:
            DefinitionError: a function that is none, or not called as it may be.
        """
        from grange.definitions.preparing import FUNCTIONS, check_step
        from grange.definitions.transformations import Step

        own = self._own(catalog)
        if own is not None and self.parameters:
            raise DefinitionError(f"transformation {own.name!r} has no settings")
        if own is None and self.function not in FUNCTIONS:
            catalog.transformation(self.function)
        made = Step(
            self.function, tuple(self.inputs), tuple(self.outputs), tuple(self.parameters.items()), self.keep, own
        )
        return made if own is not None else check_step(made)

    def _own(self, catalog: Catalog) -> Transformation | None:
        if self.transformation is not None:
            return TransformationBody(name=self.function, **dict(self.transformation)).definition()
        return catalog.transformations.get(self.function)


Steps = Annotated[list[Sql | StepBody], Field(max_length=1000)]


class FeatureGroupBody(About):
    """A feature group: entities, a source, and what is made of its rows."""

    name: Name
    entities: Annotated[list[Name | EntityBody], Field(min_length=1, max_length=64)] = Field(
        description="Names of applied entities, or entities of its own."
    )
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | Source = Field(
        description="Where raw rows come from; a text is the path of files inside the project."
    )
    event_time: Column | None = Field(default=None, description="Of a source that is a text: when a row was true.")
    created_time: Column | None = Field(
        default=None, description="Of a source that is a text: when a row became known."
    )
    sql: Sql | None = Field(default=None, description="SELECT ... FROM source: what makes the features.")
    transform: Annotated[SqlTransformBody | PythonTransformBody, Field(discriminator="type")] | None = None
    features: Columns = Field(default_factory=list, description="Declared columns; the others are inferred.")
    schema_: Columns = Field(default_factory=list, alias="schema", description="The same, under its other name.")
    ttl: Duration | None = None
    defaults: dict[Column, Plain] = Field(default_factory=dict)
    expectations: dict[Column, list[ExpectationBody]] = Field(default_factory=dict)
    online: bool = True
    aggregations: Annotated[list[Aggregation], Field(max_length=1000)] = Field(default_factory=list)
    interval: Duration | None = None
    fill_gaps: bool = False
    on_demand: Steps = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_of_each(self) -> FeatureGroupBody:
        if self.sql is not None and self.transform is not None:
            raise ValueError("sql and transform both say what makes the features")
        if self.features and self.schema_:
            raise ValueError("features and schema both declare columns")
        if not isinstance(self.source, str) and (self.event_time or self.created_time):
            raise ValueError("event_time and created_time belong into the source")
        return self

    def source_body(self) -> FileSourceBody | PushSourceBody | DerivedSourceBody | TableSourceBody:
        """The source, a text as the path that it is."""
        if not isinstance(self.source, str):
            return self.source
        return FileSourceBody(path=self.source, event_time=self.event_time, created_time=self.created_time)

    def data(self, catalog: Catalog) -> dict[str, Any]:
        """As the registry has it, but for on-demand steps."""
        return {
            "entities": [self._entity(item, catalog) for item in self.entities],
            "source": self.source_body().data(),
            "transform": self._transform(),
            "schema": _schema(self.features or self.schema_),
            "ttl": self.ttl,
            "defaults": self.defaults,
            "expectations": {
                column: [check.data(column) for check in checks] for column, checks in self.expectations.items()
            },
            "online": self.online,
            "aggregations": [_aggregation(item) for item in self.aggregations],
            "interval": self.interval,
            "fill_gaps": self.fill_gaps,
            **self.about(),
        }

    def definition(self, catalog: Catalog) -> FeatureGroup:
        """The feature group.

        Args:
            catalog: where entities and transformations that are only named are looked up.

        Raises:
            DefinitionError: it contradicts itself.
            UnknownEntityError, UnknownTransformationError: it names what is not applied.
        """
        from grange.definitions.serialize import group_from_data

        group = group_from_data(self.name, self.data(catalog))
        if not self.on_demand:
            return group
        from grange.definitions.feature_group import FeatureGroup

        fields = {name: getattr(group, name) for name in FeatureGroup.__slots__ if name not in ("name", "on_demand")}
        fields |= {key: dict(fields[key]) for key in ("defaults", "expectations", "tags")}
        return FeatureGroup(self.name, on_demand=steps(self.on_demand, catalog), **fields)

    def _entity(self, item: str | EntityBody, catalog: Catalog) -> dict[str, Any]:
        from grange.definitions.serialize import to_data

        entity = catalog.entity(item) if isinstance(item, str) else item.definition()
        return {"name": entity.name, **to_data(entity)}

    def _transform(self) -> dict[str, Any] | None:
        from grange.definitions.transforms import sql_transform

        if isinstance(self.transform, PythonTransformBody):
            return self.transform.model_dump()
        query = self.sql if self.transform is None else self.transform.query
        if query is None:
            return None
        made = sql_transform(query)
        return {"type": "sql", "query": made.query, "code_hash": made.code_hash}


class LabelBody(Body):
    """A label, and how long after its row it is known."""

    name: Reference
    after: Duration = "0"
    observed: Literal["at_maturity", "at_event"] = "at_maturity"


class RequestBody(Body):
    """Columns that each request brings."""

    name: Name
    schema_: Columns = Field(alias="schema", min_length=1)


class FeatureViewBody(About):
    """A feature view: what one model consumes."""

    name: Name
    features: Selections = Field(examples=[["user_spend", "user_profile:age"]])
    labels: Annotated[list[Reference | Column | LabelBody], Field(max_length=100)] = Field(default_factory=list)
    label_rules: Annotated[list[LabelBody], Field(max_length=100)] = Field(default_factory=list)
    requests: Annotated[list[RequestBody], Field(max_length=100)] = Field(default_factory=list)
    on_error: Literal["raise", "default"] = "raise"
    derived: dict[Column, Sql] = Field(default_factory=dict)
    exact: bool = False
    on_demand: Steps = Field(default_factory=list)
    transformations: Steps = Field(default_factory=list)
    filter: Text = ""
    training_helpers: Annotated[list[Reference | Column], Field(max_length=1000)] = Field(default_factory=list)
    inference_helpers: Annotated[list[Reference | Column], Field(max_length=1000)] = Field(default_factory=list)

    def definition(self, catalog: Catalog) -> FeatureView:
        """The feature view.

        Args:
            catalog: where transformations that are only named are looked up.

        Raises:
            DefinitionError: it contradicts itself.
            UnknownTransformationError: a step names what is not applied.
        """
        from grange.definitions.feature_view import FeatureView
        from grange.definitions.labels import Label
        from grange.definitions.serialize import view_from_data
        from grange.definitions.sources import RequestSource
        from grange.types import Schema

        rules = {rule.name: rule for rule in self.label_rules}
        labels = [
            item if isinstance(item, LabelBody) else rules.get(item, LabelBody(name=item)) for item in self.labels
        ]
        features = [selection_data(item) for item in self.features]
        taken = view_from_data(self.name, {**_NO_VIEW, "features": features}).features
        return FeatureView(
            self.name,
            features=taken,
            labels=[Label(item.name, after=item.after, observed=item.observed) for item in labels],
            requests=[
                RequestSource(each.name, schema=Schema.from_list(_schema(each.schema_))) for each in self.requests
            ],
            on_error=self.on_error,
            derived=self.derived or None,
            exact=self.exact,
            on_demand=steps(self.on_demand, catalog),
            transformations=steps(self.transformations, catalog),
            filter=self.filter,
            training_helpers=self.training_helpers,
            inference_helpers=self.inference_helpers,
            **self.about(),
        )


_NO_VIEW: Final[Mapping[str, Any]] = {
    "labels": [], "requests": [], "on_error": "raise", "description": "", "owner": "", "tags": {},
}  # fmt: skip


def steps(items: Sequence[str | StepBody], catalog: Catalog) -> list[Step]:
    """Steps, of the grammar of the command line (`standard_scaler:amount,age`) or spelled out."""
    from grange.definitions.preparing import parse_step

    return [
        parse_step(item, catalog.transformations) if isinstance(item, str) else item.step(catalog) for item in items
    ]


def _aggregation(item: Any) -> dict[str, Any]:
    data: dict[str, Any] = item.model_dump(by_alias=True)
    return data


def _code(body: PythonCodeBody | None) -> Any:
    from grange.definitions.transformations import PythonCode

    return None if body is None else PythonCode(body.name, body.module, body.source_text, body.code_hash)


def _as_schema(given: dict[str, str] | list[ColumnBody]) -> Any:
    from grange.types import Schema

    return Schema.of(given) if isinstance(given, dict) else Schema.from_list(_schema(given))


AnyDefinition = EntityBody | FeatureGroupBody | FeatureViewBody | TransformationBody


def made(body: AnyDefinition, catalog: Catalog, *, store: FeatureStore) -> Definition:
    """The definition of a body, its files inside the project and its code the project's own.

    Args:
        body: as it came.
        catalog: where what it only names is looked up: what is applied, and what comes beside it.
        store: whose definition it is to be.

    Raises:
        DefinitionError: it contradicts itself.
        NotFoundError: it names what is not applied.
        ForbiddenError: it would read files that are not the project's data, or brings code.
    """
    definition = _made(body, catalog, store.project)
    check_code(definition, store)
    return definition


def _made(body: AnyDefinition, catalog: Catalog, project: Path) -> Definition:
    try:
        if isinstance(body, EntityBody | TransformationBody):
            return body.definition()
        if isinstance(body, FeatureGroupBody):
            _check_files(body, catalog, project)
        return body.definition(catalog)
    except GrangeError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"[:300]
        raise DefinitionError(f"{body.name!r} is no definition", found=found) from error


def _check_files(body: FeatureGroupBody, catalog: Catalog, project: Path) -> None:
    """Refuse files that are not data of the project: with one of them, whoever may apply a definition here would read
    the server's disk, or the project's own settings. Those that the same group is applied with stay: who holds the
    project applied them."""
    source = body.source_body()
    files = source.batch_source if isinstance(source, PushSourceBody) else source
    if not isinstance(files, FileSourceBody) or files.path in _applied_paths(body.name, catalog):
        return
    if not is_data(files.path, project):
        raise ForbiddenError(
            f"feature group {body.name!r}: {files.path!r} is no data inside the project",
            found="a path over HTTP is relative, without .. and hidden folders, and ends like data or in /",
            try_="data/rows.parquet; or apply the definition where the project lies: grange apply",
        )


def _applied_paths(name: str, catalog: Catalog) -> set[str]:
    from grange.definitions.sources import FileSource, PushSource

    try:
        source = catalog.group(name).source
    except UnknownFeatureGroupError:
        return set()
    files = source.batch_source if isinstance(source, PushSource) else source
    return {files.path} if isinstance(files, FileSource) else set()
