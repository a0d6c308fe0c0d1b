"""Parts: the opened backends of one store, and the definitions that are applied to it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from grange.definitions.catalog import Catalog
from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import (
    Definition,
    entity_from_data,
    group_from_data,
    transformation_from_data,
    view_from_data,
)
from grange.definitions.sources import DerivedSource, FileSource, PushSource, TableSource
from grange.definitions.stored_code import stored_function, stored_hash
from grange.definitions.transformations import PythonCode, Role, Step, Transformation
from grange.definitions.transforms import PythonTransform
from grange.errors import (
    ConflictError,
    CorruptStoreError,
    RefusedError,
    SourceError,
    StoreUnavailableError,
    TransformError,
)
from grange.frames import Rows
from grange.plan.nodes import Input, Node
from grange.ports.connector import Connector
from grange.ports.engine import Engine
from grange.ports.offline import OfflineStore
from grange.ports.online import OnlineStore
from grange.ports.plugins import backends, create
from grange.ports.registry import Kind, Registry, RegistryState, Run

if TYPE_CHECKING:
    from grange.security.encryption import Sealer

FunctionKey = tuple[str, Role, str]
"""Of a transformation's function: the transformation's name, what the function is of it, its code hash."""
SOURCE = "source"
"""The name under which a table source's frame, or pushed rows, are handed to the engine."""


@dataclass(slots=True)
class Parts:
    """The opened backends of one store. Each is opened when it is first asked for."""

    project: Path
    engine_name: str
    open_registry: Callable[[], Registry]
    open_offline: Callable[[], OfflineStore]
    open_online: Callable[[], OnlineStore]
    load_definitions: Callable[[], Iterable[Definition]]
    """Imports the project's definition modules; for transforms whose code is not loaded yet."""
    lock_timeout: float
    offline_name: str
    online_name: str
    local: dict[str, FeatureGroup] = field(default_factory=dict)
    """Groups defined in this process: they bring the functions and frames that no registry holds."""
    functions: dict[FunctionKey, Callable[..., Any]] = field(default_factory=dict)
    """The functions of transformations that this process has or loaded."""
    catalog: Callable[[], Catalog] = field(default=lambda: Catalog({}, {}, {}))
    """What is applied at this moment; for groups that are made of others."""
    allow_stored_code: bool = False
    """Whether code that came as text may run: what the operator set in `grange.toml`."""
    open_sealer: Callable[[], Sealer | None] = field(default=lambda: None)
    """What seals values at rest; None where the settings name no key."""
    loaded: bool = False
    _registry: Registry | None = None
    _offline: OfflineStore | None = None
    _online: OnlineStore | None = None
    _engines: dict[str, Engine] = field(default_factory=dict)
    _connectors: dict[str, Connector] = field(default_factory=dict)

    @property
    def registry(self) -> Registry:
        """What was applied."""
        if self._registry is None:
            self._registry = self.open_registry()
        return self._registry

    @property
    def offline(self) -> OfflineStore:
        """History."""
        if self._offline is None:
            self._offline = self.open_offline()
        return self._offline

    @property
    def online(self) -> OnlineStore:
        """Latest state per entity key."""
        if self._online is None:
            self._online = self.open_online()
        return self._online

    def quarantine(self, group: str, rows: Rows, *, now: dt.datetime) -> str:
        """Keep rows apart that expectations kept out, sealed if the settings name a key; returns where they lie."""
        sealer = self.open_sealer()
        if sealer is not None:
            from grange.security.encryption import seal_rows

            rows = seal_rows(rows, sealer, group=group)
        return self.offline.quarantine(group, rows, now=now)

    def engine(self, name: str | None = None) -> Engine:
        """An engine by name; the configured one without.

        Raises:
            UnknownBackendError: no engine of this name is installed.
        """
        wanted = name or self.engine_name
        if wanted not in self._engines:
            self._engines[wanted] = create("engines", wanted, {})
        return self._engines[wanted]

    def close(self) -> None:
        """Close every backend that was opened."""
        for part in (self._registry, self._online):
            if part is not None:
                part.close()
        self._registry = self._online = self._offline = None

    def raw_rows(self, group: FeatureGroup) -> tuple[Node | None, dict[str, Rows]]:
        """The node of a group's raw rows, and what it needs handed in; None when it has only pushed rows.

        Raises:
            SourceError: there is nothing to read, or the frame lives in another process.
        """
        what = f"feature group {group.name!r}"
        match group.source:
            case DerivedSource():
                raise SourceError(f"{what} is made of other groups, and no source has its rows")
            case TableSource(frame=None):
                raise SourceError(
                    f"{what}: the frame of its source {group.source.name!r} lives in the process that applied it",
                    try_="materialize there, or apply the definition with its frame here",
                )
            case TableSource():
                return Input(SOURCE), {SOURCE: Rows.of(group.source.frame, what=f"source {group.source.name!r}")}
            case PushSource(batch_source=None):
                return None, {}
            case PushSource() | FileSource():
                return self._connector(group.source).resolve(group.source, project=self.project, what=what), {}

    def resolve_file(self, source: FileSource, *, what: str) -> Node:
        """The node of a file's rows.

        Raises:
            SourceError: there is no such file.
        """
        return self._connector(source).resolve(source, project=self.project, what=what)

    def _connector(self, source: FileSource | PushSource) -> Connector:
        kind = type(source).__name__
        for name, descriptor in backends("connectors").items():
            if kind in descriptor.schemes:
                if name not in self._connectors:
                    self._connectors[name] = create("connectors", name, {})
                return self._connectors[name]
        raise SourceError(f"no connector reads a {kind}", found=", ".join(backends("connectors")) or "no connectors")

    def record(self, run: Run) -> tuple[str, ...]:
        """Remember a run that is done; when the registry cannot, say so instead of failing what was stored already."""
        try:
            self.registry.record_run(run)
        except (StoreUnavailableError, ConflictError) as error:
            return (f"the rows are stored, and the registry could not record the run: {error.message}",)
        return ()

    def remember(self, definitions: Iterable[Definition]) -> None:
        """Keep this process's own groups: their functions and frames."""
        self.local |= {item.name: item for item in definitions if isinstance(item, FeatureGroup)}
        for item in definitions:
            for own in _transformations(item):
                for role, code in own.codes():
                    if code.function is not None:
                        self.functions[own.name, role, code.code_hash] = code.function

    def with_functions(self, steps: tuple[Step, ...], *, asked_by: str) -> tuple[Step, ...]:
        """Steps with the functions of their transformations, which this process has or can load.

        Raises:
            TransformError: the code of one is not here, and may not be taken from the registry.
        """
        return tuple(self._with_function(step, asked_by) for step in steps)

    def _with_function(self, step: Step, asked_by: str) -> Step:
        own = step.transformation
        if own is None or own.mode == "sql":
            return step
        codes = {role: self._loaded(code, (own.name, role, code.code_hash), asked_by) for role, code in own.codes()}
        return step.with_transformation(own.with_code(codes.get("apply"), codes.get("fit")))

    def _loaded(self, code: PythonCode, key: FunctionKey, asked_by: str) -> PythonCode:
        if code.function is not None:
            return code
        if key not in self.functions and not self.loaded:
            self.loaded = True
            self.remember(list(self.load_definitions()))
        function = self.functions.get(key)
        if function is None and not code.module:
            function = self.functions[key] = run_stored(code, allowed=self.allow_stored_code)
        if function is None:
            raise TransformError(
                f"the code of transformation {key[0]!r} is not loaded in this process",
                asked_by=asked_by,
                found=f"registered from module {code.module!r}, or changed since it was applied",
                try_="name the module in grange.toml (definitions = [...]) and grange apply",
            )
        return replace(code, function=function)

    def with_code(self, group: FeatureGroup) -> FeatureGroup:
        """The applied group with its function or frame, if this process has it or can load it.

        Only code with the hash that was applied is taken: a changed function runs once it is applied.
        """
        if _is_complete(group):
            return group
        bound = _bind(group, self.local.get(group.name))
        if not _is_complete(bound) and not self.loaded:
            self.loaded = True
            known = set(self.local)
            fresh = [item for item in self.load_definitions() if item.name not in known]
            self.remember(fresh)
            bound = _bind(group, self.local.get(group.name))
        return bound


def catalog_of(state: RegistryState, local: Mapping[str, FeatureGroup]) -> Catalog:
    """The catalog of a registry's state, with this process's functions and frames where they are the same code.

    Raises:
        CorruptStoreError: a stored definition cannot be read back.
    """
    entities: dict[str, Entity] = {}
    groups: dict[str, FeatureGroup] = {}
    views: dict[str, FeatureView] = {}
    transformations: dict[str, Transformation] = {}
    for record in state.records:
        try:
            match record.kind:
                case "entity":
                    entities[record.name] = entity_from_data(record.name, record.definition)
                case "feature_group":
                    group = group_from_data(record.name, record.definition)
                    groups[record.name] = _bind(group, local.get(record.name))
                case "feature_view":
                    views[record.name] = view_from_data(record.name, record.definition)
                case "transformation":
                    transformations[record.name] = transformation_from_data(record.name, record.definition)
                case _:
                    assert_never(record.kind)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CorruptStoreError(
                f"the registry's definition of {record.kind} {record.name!r} cannot be read",
                found=f"{type(error).__name__}: {error}",
                try_="apply its definition again: grange apply",
            ) from error
    return Catalog(entities, groups, views, transformations)


def record_kind(definition: Definition) -> Kind:
    """The registry's word for a definition."""
    match definition:
        case Entity():
            return "entity"
        case FeatureGroup():
            return "feature_group"
        case FeatureView():
            return "feature_view"
        case Transformation():
            return "transformation"
        case _:
            assert_never(definition)


def run_stored(code: PythonCode, *, allowed: bool) -> Callable[..., Any]:
    """The function of code that came as text, from the command line or a request.

    Raises:
        RefusedError: the operator does not allow it.
        TransformError: the text is no function of that name, or is not what its hash says.
    """
    if not allowed:
        raise RefusedError(
            f"the code of {code.name!r} came as text, and stored code does not run here",
            try_="put it into a definition module; or set allow_stored = true under [code] in grange.toml",
        )
    if stored_hash(code.source_text) != code.code_hash:
        raise TransformError(f"the stored code of {code.name!r} is not what was applied", found="another code hash")
    return stored_function(code.source_text, code.name)


def _transformations(item: Definition) -> Iterable[Transformation]:
    """The transformations in a definition."""
    steps: tuple[Step, ...] = ()
    if isinstance(item, FeatureGroup):
        steps = item.on_demand
    elif isinstance(item, FeatureView):
        steps = (*item.on_demand, *item.transformations)
    return [item] if isinstance(item, Transformation) else [s.transformation for s in steps if s.transformation]


def _is_complete(group: FeatureGroup) -> bool:
    has_code = not isinstance(group.transform, PythonTransform) or group.transform.function is not None
    has_rows = not isinstance(group.source, TableSource) or group.source.frame is not None
    return has_code and has_rows


def _bind(group: FeatureGroup, local: FeatureGroup | None) -> FeatureGroup:
    if local is None:
        return group
    if (
        isinstance(group.transform, PythonTransform)
        and isinstance(local.transform, PythonTransform)
        and group.transform.code_hash == local.transform.code_hash
        and group.transform.frame == local.transform.frame
    ):
        group = group.with_(transform=local.transform)
    if isinstance(group.source, TableSource) and group.source == local.source:
        group = group.with_(source=local.source)
    return group
