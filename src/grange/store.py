"""FeatureStore: the verbs. The one place where the parts meet, and the only one that reads the clock (TIME-3)."""

from __future__ import annotations

import datetime as dt
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from grange.config import Config, StoreConfig
from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.serialize import Definition
from grange.errors import LeakWarning, RequestError, SourceError
from grange.ports.plugins import Port, create
from grange.project import load_definitions
from grange.types.time import Moment, to_micros, to_utc
from grange.verbs.parts import Parts, catalog_of
from grange.verbs.progress import Report, silent

if TYPE_CHECKING:
    from grange.frames import Rows
    from grange.ports.offline import Finding, VersionMeta
    from grange.quality.leaks import LeakPolicy
    from grange.quality.statistics import ColumnStatistics
    from grange.serving.reader import OnlineFeatures
    from grange.verbs.apply import ApplyPlan
    from grange.verbs.history import HistoricalFeatures
    from grange.verbs.materialize import Materialized
    from grange.verbs.push import Pushed

REFRESH_SECONDS = 1.0
"""How old the definitions may be that a read uses; this process's own changes are seen at once."""


class FeatureStore:
    """A feature store: definitions, their history and their latest values.

    >>> store = FeatureStore()                    # grange.toml here or above; else everything under .grange/
    >>> store = FeatureStore("rides")             # the project in that folder
    >>> store = FeatureStore(online="memory")     # one setting changed

    Args:
        project: the project's folder. Without it `grange.toml` is looked for here and above.
        config: a loaded configuration, instead of `project` and `overrides`.
        overrides: settings that take precedence: `engine="duckdb"`, `online="memory"`,
            `offline={"path": "/data/history"}`.

    Safe to use from several threads. Use it as a context manager, or `close()` it.

    Raises:
        ConfigError: the configuration is wrong; a code of a leak that does not exist.
    """

    def __init__(
        self, project: str | os.PathLike[str] | None = None, *, config: Config | None = None, **overrides: Any
    ) -> None:
        if config is None:
            named = {key: {"type": value} if _names_store(key, value) else value for key, value in overrides.items()}
            config = Config.load(None if project is None else Path(project), named)
        self.config = config
        self.project = config.root
        self._parts = Parts(
            project=config.root,
            engine_name=config.engine,
            open_registry=lambda: _open("registries", config.registry, config.root),
            open_offline=lambda: _open("offline_stores", config.offline, config.root),
            open_online=lambda: _open("online_stores", config.online, config.root),
            load_definitions=lambda: load_definitions(config, config.root) if _has_modules(config) else (),
            lock_timeout=config.lock_timeout.total_seconds(),
            offline_name=config.offline.type,
            online_name=config.online.type,
        )
        self._revision = -1
        self._checked = float("-inf")
        self._catalog: Catalog | None = None
        self._readers: Any = None
        self._known_policy: LeakPolicy | None = None
        if config.leak_errors or config.leak_ignore:
            _ = self._leak_policy  # codes that do not exist are refused at once

    # definitions

    @property
    def catalog(self) -> Catalog:
        """The applied definitions, at most `REFRESH_SECONDS` old."""
        moment = time.monotonic()
        known = self._catalog
        if known is None or moment - self._checked > REFRESH_SECONDS:
            if known is None or self._parts.registry.revision() != self._revision:
                known = self._reload()
            self._checked = moment
        return known

    def plan(self, definitions: Iterable[Definition] | Definition | None = None, *, prune: bool = False) -> ApplyPlan:
        """What `apply` would change. Looks at sources where a schema is to be inferred; changes nothing.

        Args:
            definitions: entities, feature groups and feature views; those of the project's modules without.
            prune: also delete what is applied and not among them.

        Raises:
            DefinitionError: a definition contradicts itself, another one, or what is applied.
            SourceError: a schema is to be inferred and the source cannot be read.
            LeakError: a leak of a feature view that the settings make an error.
        """
        from grange.verbs import apply

        return apply.plan(self._parts, self._given(definitions), prune=prune, policy=self._leak_policy)

    def apply(self, definitions: Iterable[Definition] | Definition | None = None, *, prune: bool = False) -> ApplyPlan:
        """Make definitions known, in one transaction. Applies of several processes come one after another.

        Takes and raises what `plan` does; and ConflictError when others kept applying in between.
        """
        from grange.verbs import apply

        done = apply.apply(
            self._parts, self._given(definitions), prune=prune, policy=self._leak_policy, now=self._now()
        )
        self._forget()
        return done

    # data

    def materialize(
        self,
        groups: str | FeatureGroup | Iterable[str | FeatureGroup] | None = None,
        *,
        version: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        engine: str | None = None,
        online: bool | None = None,
        progress: Report = silent,
    ) -> tuple[Materialized, ...]:
        """Compute feature groups from their sources, publish each as a version, load the online store.

        Time:
            With `start` or `end`, source rows in `start <= event time < end` replace those of the latest version;
            all others stay. A group without event time is computed whole: its rows lie in every range.

        Args:
            groups: names; all groups without.
            version: the number of the new version, above all there are; numbered by what changed without (VER-1).
            start: inclusive; UTC when naive.
            end: exclusive.
            engine: which engine computes, instead of the configured one.
            online: whether the online store is loaded, instead of each group's own setting.
            progress: is told each step.

        Raises:
            UnknownFeatureGroupError, SourceError, TransformError, ColumnTypeError, ExpectationError,
            ConflictError, StorageFullError: the group is as it was; groups before it are done.
        """
        from grange.verbs import materialize

        request = materialize.MaterializeRequest(_micros(start, "start"), _micros(end, "end"), engine, online, version)
        chosen = self._group_names(groups)
        return materialize.materialize(
            self._parts, chosen, request, current=self._current, now=self._now(), report=progress
        )

    def push(self, name: str, rows: Any) -> Pushed:
        """Store rows at once: in history and in the online store.

        Args:
            name: a push source (every group that reads it gets the rows) or a feature group.
            rows: raw rows, as its source has them: any frame, a mapping of columns, or a list of dicts. The
                group's transform is run on them.

        Raises:
            UnknownFeatureGroupError: neither a push source nor a feature group.
            TransformError, SchemaError, ColumnTypeError, ExpectationError: nothing was written.
            StoreUnavailableError: history has the rows, the online store was not reached.
        """
        from grange.verbs import push

        self._refresh()
        groups = push.targets(self.catalog, name)
        given = push.given(groups, rows, what=f"rows pushed to {name!r}")
        return push.push(self._parts, [group.name for group in groups], given, current=self._current, now=self._now())

    def get_historical_features(
        self,
        features: Any,
        spine: Any = None,
        *,
        event_time: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        as_known: bool = False,
        engine: str | None = None,
        full_feature_names: bool = False,
    ) -> HistoricalFeatures:
        """The values that features had, point-in-time correct, beside the rows that are asked for.

        Shape:
            One row per spine row, in its order, its columns untouched; then one column per feature (PIT-1).
        Time:
            A row at `f` is visible at `t` when `f <= t` and, with a ttl, `t - f <= ttl` (PIT-2).

        Args:
            features: a feature view or its name, or a list of `"group"`, `"group:feature"`,
                `"group@1.0.0:feature"`, `("group", "1.0.0")`, `gr.select(...)`.
            spine: entity keys and a time per row: a Polars, pandas or Arrow frame, a list of dicts, a SQL query,
                or a file. Without one, every (entity key, event time) of the first group (PIT-8).
            event_time: the spine's time column; needed when it has none of the usual names and several times.
            start: without a spine: from here on, inclusive.
            end: without a spine: up to here, exclusive.
            as_known: hide rows that became known only after the spine's time (PIT-5).
            engine: which engine joins, instead of the configured one.
            full_feature_names: name features `group__feature`.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError,
            MissingColumnError, KeyTypeError, NameCollisionError, UnknownBackendError.
            LeakError: a leak that the settings make an error.

        Warns:
            LeakWarning: for each leak of severity `warning`; `leaks` of the result has the notices too.
        """
        from grange.verbs import history

        request = history.HistoryRequest(
            event_time,
            _micros(start, "start"),
            _micros(end, "end"),
            as_known,
            engine,
            full_feature_names,
            self._leak_policy,
        )
        found = history.get_historical_features(self._parts, self.catalog, features, spine, request)
        for leak in found.leaks:
            if leak.severity == "warning":
                warnings.warn(str(leak), LeakWarning, stacklevel=2)
        return found

    def get_online_features(
        self,
        features: Any,
        rows: Any,
        *,
        now: Moment | None = None,
        full_feature_names: bool = False,
    ) -> OnlineFeatures:
        """The latest values of features: one vector per row, in order (ONL-4).

        Args:
            features: as for `get_historical_features`; labels are left out.
            rows: per vector, the entity key and the view's request columns: a list of dicts, or any frame.
            now: the time to read at; the clock's without.
            full_feature_names: name features `group__feature`.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError.
            UnsupportedError: a group that is not served online or was not loaded; a pinned version that is not the
                one loaded.
            RequestError, NameCollisionError, MissingColumnError, KeyTypeError.
            StoreUnavailableError: the store cannot be reached, unless the view says `on_error="default"` (ONL-6).
        """
        catalog = self.catalog
        readers = self._readers
        if readers is None or readers.catalog is not catalog:
            from grange.verbs.online import Readers

            readers = self._readers = Readers(self._parts, catalog)
        reader = readers.get(features, full_feature_names=full_feature_names)
        micros = time.time_ns() // 1_000 if now is None else to_micros(now, what="now")
        found: OnlineFeatures = reader.read(rows, micros)
        return found

    def delete(self, name: str, *, version: str | None = None, cascade: bool = False) -> tuple[str, ...]:
        """Remove a definition with everything stored of it, or one version of a group; returns what was removed.

        Args:
            name: a feature group, feature view or entity.
            version: only this version of the group.
            cascade: also remove the views that use it.

        Raises:
            NotFoundError: nothing has this name, or the group no such version.
            InUseError: something still uses it.
        """
        from grange.verbs.delete import delete

        self._refresh()
        removed = delete(self._parts, self.catalog, name, version=version, cascade=cascade, now=self._now())
        self._forget()
        return removed

    # looking

    def read(
        self,
        group: str,
        *,
        version: str | None = None,
        columns: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        events: bool = False,
    ) -> Rows:
        """A group's stored rows, in order of event time: a pinned version, or the latest with what was pushed since.

        Of a group with aggregations these are its feature rows, as of each event or on the grid of its `interval`, as
        they were materialized; with `events=True` they are its events, those pushed since among them.

        Time:
            `start <= event time < end`.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError, UnknownFeatureError (no such column).
        """
        from grange.verbs import look

        return look.read(
            self._parts,
            self.catalog,
            group,
            version=version,
            columns=columns,
            start=_micros(start, "start"),
            end=_micros(end, "end"),
            limit=limit,
            events=events,
        )

    def statistics(
        self, group: str, *, version: str | None = None, columns: Sequence[str] | None = None
    ) -> tuple[ColumnStatistics, ...]:
        """Statistics of a group's stored columns. Takes and raises what `read` does."""
        from grange.verbs.look import describe_rows

        return describe_rows(self.read(group, version=version, columns=columns), columns)

    def versions(self, group: str) -> tuple[VersionMeta, ...]:
        """A group's versions, oldest first.

        Raises:
            UnknownFeatureGroupError: no such group.
        """
        self.catalog.group(group)
        offline = self._parts.offline
        return tuple(offline.meta(group, version) for version in offline.versions(group))

    def inspect(self, name: str, *, version: str | None = None) -> dict[str, Any]:
        """Everything known of a feature group, feature view or entity, as plain data.

        Raises:
            NotFoundError: nothing has this name, or the group no such version.
        """
        from grange.verbs.look import inspect

        return inspect(self._parts, self.catalog, name, version=version)

    def verify(self, group: str | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """Read all of history and say what is wrong: leftovers of crashes, files that are not as they were written.

        Args:
            group: only this feature group.
            repair: clear the leftovers. Published versions are never removed.

        Raises:
            UnknownFeatureGroupError: no such group.
        """
        if group is not None:
            self.catalog.group(group)
        return self._parts.offline.verify(group, repair=repair)

    def explain_online(self, features: Any, *, full_feature_names: bool = False) -> str:
        """What an online read would do, as an indented tree."""
        from grange.plan.explain import explain_read
        from grange.verbs.online import read_plan

        return explain_read(read_plan(self._parts, self.catalog, features, full_feature_names=full_feature_names))

    def explain_materialize(self, group: str, *, start: Moment | None = None, end: Moment | None = None) -> str:
        """What materializing a group would do, as an indented tree."""
        from grange.plan.explain import explain
        from grange.verbs.materialize import MaterializeRequest, for_group, plan_of

        request = MaterializeRequest(_micros(start, "start"), _micros(end, "end"), None, None)
        definition = self._current(group)
        plan, _ = plan_of(self._parts, definition, for_group(request, definition))
        return explain(plan)

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        self._parts.close()
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FeatureStore({self.config.project!r} in {str(self.project)!r})"

    @property
    def _leak_policy(self) -> LeakPolicy:
        """What the settings say of leaks. Made when it is first needed: opening a store loads no driver.

        Raises:
            ConfigError: there is no such code.
        """
        if self._known_policy is None:
            from grange.quality.leaks import LeakPolicy

            self._known_policy = LeakPolicy.of(self.config.leak_errors, self.config.leak_ignore)
        return self._known_policy

    def _now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def _given(self, definitions: Iterable[Definition] | Definition | None) -> list[Definition]:
        if definitions is None:
            return list(load_definitions(self.config, self.project))
        return list(definitions) if isinstance(definitions, Iterable) else [definitions]

    def _group_names(self, groups: Any) -> list[str]:
        self._refresh()
        catalog = self.catalog
        if groups is None:
            if not catalog.groups:
                raise SourceError("there is no feature group to materialize", try_="grange apply")
            return list(catalog.groups)
        items = [groups] if isinstance(groups, str | FeatureGroup) else list(groups)
        if not items:
            raise RequestError("no feature group was named", try_="leave the names out for all of them")
        names = dict.fromkeys(item if isinstance(item, str) else item.name for item in items)
        return [catalog.group(name).name for name in names]

    def _current(self, name: str) -> FeatureGroup:
        """A group as it is applied at this moment, with its code. What writes asks this, never the cache alone."""
        self._refresh()
        return self._parts.with_code(self.catalog.group(name))

    def _refresh(self) -> None:
        """Make sure that the definitions are those of this moment."""
        self._checked = float("-inf")

    def _reload(self) -> Catalog:
        state = self._parts.registry.state()
        self._catalog = loaded = catalog_of(state, self._parts.local)
        self._revision = state.revision
        self._readers = None
        return loaded

    def _forget(self) -> None:
        self._catalog = None
        self._readers = None


def _names_store(key: str, value: Any) -> bool:
    return key in ("offline", "online", "registry") and isinstance(value, str)


def _has_modules(config: Config) -> bool:
    """Whether the project has definition modules: it names them, or has one of the default name."""
    named = config.origin("definitions") != "default"
    return named or any((config.root / entry).exists() for entry in config.definitions)


def _open(port: Port, config: StoreConfig, root: Path) -> Any:
    return create(port, config.type, {"root": root, **config.options})


def _micros(value: Moment | None, what: str) -> int | None:
    return None if value is None else to_micros(to_utc(value, what=what), what=what)
