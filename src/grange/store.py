"""FeatureStore: the verbs. The one place where the parts meet, and the only one that reads the clock (TIME-3)."""

from __future__ import annotations

import datetime as dt
import functools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from grange.config import Config, StoreConfig
from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import Definition
from grange.definitions.values import freeze_tags
from grange.errors import LeakWarning, RequestError, SourceError
from grange.ports.plugins import Port, backend, create
from grange.project import load_definitions
from grange.remote.urls import is_url
from grange.types.time import Moment, to_micros, to_utc
from grange.verbs.parts import Parts
from grange.verbs.progress import Report, silent
from grange.verbs.usage import Usage, uses_of
from grange.verbs.watching import LiveDefinitions

if TYPE_CHECKING:
    from grange.definitions.splits import Split
    from grange.definitions.versioning import VersionForecast
    from grange.frames import Rows
    from grange.lineage import Impact, Lineage
    from grange.lineage.graph import Direction
    from grange.ports.datasets import DatasetMeta
    from grange.ports.offline import Finding, ManifestEntry, VersionMeta
    from grange.ports.online import OnlineStore
    from grange.ports.registry import Registry, UseCount
    from grange.quality.leaks import Leak, LeakPolicy
    from grange.quality.statistics import Comparison
    from grange.security import Security
    from grange.security.encryption import Sealer
    from grange.serving.prepared import PreparedFeatures
    from grange.serving.reader import OnlineFeatures
    from grange.verbs.apply import ApplyPlan
    from grange.verbs.diffs import VersionDiff
    from grange.verbs.export.records import Export
    from grange.verbs.history import HistoricalFeatures
    from grange.verbs.materialize import Materialized
    from grange.verbs.parity import OnlineParity
    from grange.verbs.push import Pushed
    from grange.verbs.resealing import Resealed
    from grange.verbs.search import Keywords, SearchResults
    from grange.verbs.served import ServedVector
    from grange.verbs.similar import SimilarFeature
    from grange.verbs.statistics import VersionStatistics
    from grange.verbs.training.dataset import TrainingDataset
    from grange.verbs.training.difference import DatasetDifference
    from grange.verbs.training.reproduce import Reproduction
    from grange.verbs.versions import Rollback


class FeatureStore:
    """A feature store: definitions, their history and their latest values.

    >>> store = FeatureStore()                    # grange.toml here or above; else everything under .grange/
    >>> store = FeatureStore("rides")             # the project in that folder
    >>> store = FeatureStore(online="memory")     # one setting changed
    >>> store = FeatureStore("https://features.example.com", key=key)   # that of a server: a RemoteFeatureStore

    Args:
        project: the project's folder. Without it `grange.toml` is looked for here and above. Or the URL of a server,
            whose store has the same verbs and takes the options of `grange.remote.stores.RemoteFeatureStore`.
        config: a loaded configuration, instead of `project` and `overrides`.
        wrap_online: is handed the online store when it is opened, and gives what is used in its place; for servers,
            which read it with care (`grange.serving.guarding`).
        overrides: settings that take precedence: `engine="duckdb"`, `online="memory"`,
            `offline={"path": "/data/history"}`.

    Safe to use from several threads. Use it as a context manager, or `close()` it.

    Raises:
        ConfigError: the configuration is wrong; a code of a leak that does not exist.
    """

    def __new__(cls, project: str | os.PathLike[str] | None = None, *more: Any, **options: Any) -> Self:
        """A store of a folder; or, of the URL of a server, one that asks it. Subclasses may take other arguments."""
        if cls is FeatureStore and is_url(project):
            from grange.remote.stores import RemoteFeatureStore

            # no subclass: it shares the verbs and nothing below them
            return cast("Self", RemoteFeatureStore(str(project), *more, **options))
        return super().__new__(cls)

    def __init__(
        self,
        project: str | os.PathLike[str] | None = None,
        *,
        config: Config | None = None,
        wrap_online: Callable[[OnlineStore], OnlineStore] | None = None,
        **overrides: Any,
    ) -> None:
        if config is None:
            named = {key: {"type": value} if _names_store(key, value) else value for key, value in overrides.items()}
            config = Config.load(None if project is None else Path(project), named)
        self.config = config
        self.project = config.root
        sealer, sealed_store = _sealing(config)
        self._parts = Parts(
            project=config.root,
            engine_name=config.engine,
            open_registry=self._open_registry,
            open_offline=lambda: _open("offline_stores", config.offline, config.root),
            open_online=lambda: _wrapped(sealed_store(self._open_online()), wrap_online),
            open_sealer=sealer,
            load_definitions=lambda: load_definitions(config, config.root) if _has_modules(config) else (),
            lock_timeout=config.lock_timeout.total_seconds(),
            allow_stored_code=config.allow_stored_code,
            catalog=lambda: self.catalog,
            offline_name=config.offline.type,
            online_name=config.online.type,
        )
        self._known_policy: LeakPolicy | None = None
        self._usage = Usage(lambda uses: self._parts.registry.count_uses(uses, now=self._now()))
        self._definitions = LiveDefinitions(self._parts, clock=time.monotonic, on_look=self._usage.write_when_due)
        if config.leak_errors or config.leak_ignore:
            _ = self._leak_policy  # codes that do not exist are refused at once

    # definitions

    @property
    def catalog(self) -> Catalog:
        """The applied definitions, at most a second old; with `keep_fresh` as the registry had them when it was looked
        at last. This process's own changes are in them at once."""
        return self._definitions.current().catalog

    def keep_fresh(self, every: float = 1.0) -> None:
        """Let a thread look at the registry from now on, so that no read waits for it; for what serves.

        What others apply is loaded aside, with what the online reads in use need of it, and takes the place of the old
        definitions in one step. While the registry cannot be reached, reads go on with the definitions that are known
        (`definitions_age` says how old they are), and what writes raises StoreUnavailableError. The thread tries again
        by itself, says in the log `grange.definitions` when that begins and ends, and ends with `close`.

        Args:
            every: seconds between two looks.

        Raises:
            RequestError: not a positive number of seconds.
            StoreUnavailableError: no definitions are known yet, and the registry cannot be reached.
        """
        self._definitions.keep_fresh(every)

    @property
    def definitions_age(self) -> float:
        """Seconds since the registry said last that the definitions in use are those that are applied; infinite before
        they are used first."""
        return self._definitions.age()

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
        for change in done.changes:
            if (change.action, change.kind) == ("delete", "feature_group"):
                self._forget_statistics(change.name)
        removed = [
            change.name for change in done.changes if change.action == "delete" and change.kind == "feature_view"
        ]
        self._forget_served(f"feature view {name}" for name in removed)
        self._forget()
        return done

    @functools.cached_property
    def security(self) -> Security:
        """The project's API keys, policies and audit log."""
        from grange.security import Security

        return Security(self._parts.registry, self.config.project)

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
        downstream: bool = True,
        progress: Report = silent,
    ) -> tuple[Materialized, ...]:
        """Compute feature groups from their sources, publish each as a version, load the online store.

        Parents come before what is derived of them, and derived groups that were materialized before are materialized
        again, whole, when a parent has a new version or newer pushed rows. One of them that fails keeps no other back.

        Time:
            With `start` or `end`, source rows in `start <= event time < end` replace those of the latest version;
            all others stay. A group without event time is computed whole: its rows lie in every range; so is a derived
            group whose parents changed since its latest version, with a warning.

        Args:
            groups: names; all groups without.
            version: the number of the new version, above all there are; numbered by what changed without (VER-1).
            start: inclusive; UTC when naive.
            end: exclusive.
            engine: which engine computes, instead of the configured one.
            online: whether the online store is loaded, instead of each group's own setting.
            downstream: False leaves derived groups that are not named as they are.
            progress: is told each step.

        Raises:
            UnknownFeatureGroupError, SourceError, TransformError, ColumnTypeError, ExpectationError,
            ConflictError, StorageFullError: the group is as it was; groups before it are done. Where it is derived of
            groups that were named, `details["done"]` says what is, and `details["failed"]` which others failed too.
            RequestError: a version that is none or not above the highest (VER-2), before anything is computed.
        """
        from grange.verbs import materialize
        from grange.verbs.derive import in_order

        request = materialize.MaterializeRequest(_micros(start, "start"), _micros(end, "end"), engine, online, version)
        chosen = in_order(self.catalog, self._group_names(groups))
        now = self._now()
        done = materialize.materialize(self._parts, chosen, request, current=self._current, now=now, report=progress)
        if not downstream:
            return done
        return done + materialize.materialize_children(
            self._parts, self.catalog, done, request, current=self._current, now=now, report=progress
        )

    def plan_materialize(
        self,
        groups: str | FeatureGroup | Iterable[str | FeatureGroup] | None = None,
        *,
        version: str | None = None,
    ) -> tuple[VersionForecast, ...]:
        """What number `materialize` would give each group, and why, as far as that can be told without its rows.

        Reads no source and changes nothing. Takes what `materialize` does.

        Raises:
            UnknownFeatureGroupError: no such group.
            RequestError: a version that is none or not above the highest (VER-2), or one of several groups.
        """
        from grange.verbs.versions import forecasts

        chosen = self._group_names(groups)
        return forecasts(self._parts, (self.catalog.group(name) for name in chosen), version=version)

    def push(self, name: str | FeatureGroup, rows: Any) -> Pushed:
        """Store rows at once: in history and in the online store.

        Args:
            name: a push source (every group that reads it gets the rows) or a feature group.
            rows: raw rows, as its source has them: any frame, a mapping of columns, or a list of dicts. The
                group's transform is run on them.

        Raises:
            UnknownFeatureGroupError: neither a push source nor a feature group.
            TransformError, SchemaError, ColumnTypeError, ExpectationError: nothing was written; also where the rows
                cannot lie beside what is stored, after a change of the definition, until it is materialized.
            RequestError: a version of a group: rows are pushed to the group.
            StoreUnavailableError: history has the rows, the online store was not reached.
        """
        from grange.verbs import push
        from grange.verbs.names import unpinned

        self._refresh()
        name = unpinned(name, what="pushed to")
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
        now: Moment | None = None,
        training_dataset: int | None = None,
        transform: bool = True,
    ) -> HistoricalFeatures:
        """The values that features had, point-in-time correct, beside the rows that are asked for.

        Shape:
            One row per spine row, in its order, its columns untouched; then one column per feature (PIT-1). Inner
            joins and the view's filter leave rows out.
        Time:
            A row at `f` is visible at `t` when `f <= t` and, with a ttl, `t - f <= ttl` (PIT-2). A label that is known
            some time after `t` is null until then.

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
            now: the moment at which labels are known or not; the clock's without.
            training_dataset: of a view with transformations that learn: the number of its training dataset whose
                learning prepares the features.
            transform: False takes features as they are, before a view's transformations.

        Raises:
            UnknownTrainingDatasetError: the view has none of this number.
            RequestError: a view's transformations learn, and no training dataset is named.
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError,
            MissingColumnError, KeyTypeError, NameCollisionError, UnknownBackendError.
            TransformError: an on-demand transformation fails, or its code is not here.
            LeakError: a leak that the settings make an error.

        Warns:
            LeakWarning: for each leak of severity `warning`; `leaks` of the result has the notices too.
        """
        from grange.verbs import history
        from grange.verbs.training.preparing import preparation, prepared_history

        request = history.HistoryRequest(
            event_time,
            _micros(start, "start"),
            _micros(end, "end"),
            as_known,
            engine,
            full_feature_names,
            self._leak_policy,
            now=time.time_ns() // 1_000 if now is None else to_micros(now, what="now"),
        )
        catalog = self.catalog
        prepares = preparation(self._parts, catalog, features, training_dataset=training_dataset, transform=transform)
        if prepares is not None and full_feature_names:
            raise RequestError("features that are prepared for a model have the names that they were trained with")
        found = history.get_historical_features(self._parts, catalog, features, spine, request)
        _warn_of(found.leaks)
        self._count_uses(catalog, features, "get_historical_features")
        return found if prepares is None else prepared_history(found, prepares)

    def get_online_features(
        self,
        features: Any,
        rows: Any,
        *,
        now: Moment | None = None,
        full_feature_names: bool = False,
        training_dataset: int | None = None,
        transform: bool = True,
    ) -> OnlineFeatures | PreparedFeatures:
        """The latest values of features: one vector per row, in order (ONL-4).

        Args:
            features: as for `get_historical_features`; labels are left out.
            rows: per vector, the entity key and the view's request columns: a list of dicts, or any frame.
            now: the time to read at; the clock's without.
            full_feature_names: name features `group__feature`.
            training_dataset: of a view with transformations that learn: the number of its training dataset whose
                learning prepares the vectors, as those were that the model was trained on.
            transform: False takes features as they are, before a view's transformations.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError.
            UnknownTrainingDatasetError: the view has none of this number.
            UnsupportedError: a group that is not served online or was not loaded; a pinned version that is not the
                one loaded.
            RequestError, NameCollisionError, MissingColumnError, KeyTypeError.
            StoreUnavailableError: the store cannot be reached, unless the view says `on_error="default"` (ONL-6).
        """
        known = self._definitions.current()
        reader = known.online_readers(self._parts).get(
            features, full_feature_names=full_feature_names, training_dataset=training_dataset, transform=transform
        )
        micros = time.time_ns() // 1_000 if now is None else to_micros(now, what="now")
        found: OnlineFeatures | PreparedFeatures = reader.read(rows, micros)
        if not self._usage.count(reader):
            self._usage.begin(reader, uses_of(known.catalog, features, "get_online_features", labels=False))
        return found

    def delete(self, name: str | Definition, *, version: str | None = None, cascade: bool = False) -> tuple[str, ...]:
        """Remove a definition with everything stored of it, or one version of a group; returns what was removed.

        Args:
            name: a feature group, feature view or entity; `"group@1.0.0"` is that version.
            version: only this version of the group.
            cascade: also remove the views that use it, or that pin the version. What training datasets were made of
                stays (VER-4).

        Raises:
            NotFoundError: nothing has this name, or the group no such version.
            RequestError: a version of what has none.
            InUseError: something still uses it, or pins the version; it is named, and so is all that is made of it.
        """
        from grange.verbs.delete import delete
        from grange.verbs.lineage import telling_users
        from grange.verbs.names import pinned

        self._refresh()
        name, version = pinned(name, version)
        with telling_users(self._parts, self.catalog, name, version):
            removed = delete(self._parts, self.catalog, name, version=version, cascade=cascade, now=self._now())
        self._forget_statistics(name, version)
        self._forget_served(removed)
        self._forget()
        return removed

    def served(self, view: str | FeatureView, *, start: Moment | None = None, end: Moment | None = None) -> Rows:
        """The vectors of a view that a server logged (`serving.log_share`), in the order of their time.

        Shape:
            A row per vector: `request_id`, `place` (among the vectors of its request), `served_at`, `view`,
            `fingerprint` (of its definition then), `versions`, `features`, `statuses` (JSON objects), `degraded`.
            What a policy masked is not in it.
        Time:
            `start <= served_at < end`.

        Raises:
            UnknownFeatureViewError: no such view.
        """
        from grange.verbs.names import name_of
        from grange.verbs.served import served

        return served(self._parts, self.catalog, name_of(view), start=_micros(start, "start"), end=_micros(end, "end"))

    def log_served(self, view: str, vectors: Sequence[ServedVector]) -> int:
        """Keep vectors of a view that were served, for `served`; returns how many.

        Raises:
            UnknownFeatureViewError: no such view.
            ConflictError: another writer does not let go of the log.
            StorageFullError, StoreUnavailableError: nothing was kept.
        """
        from grange.verbs.served import log_served

        return log_served(self._parts, self.catalog, view, vectors)

    def plan_rollback(
        self, group: str | FeatureGroup, version: str | None = None, *, previous: bool = False
    ) -> Rollback:
        """What `rollback` would do. Changes nothing. Takes and raises what it does."""
        from grange.verbs.names import pinned
        from grange.verbs.versions import plan_rollback

        self._refresh()
        group, version = pinned(group, version)
        return plan_rollback(self._parts, self.catalog.group(group), version=version, previous=previous)

    def rollback(self, group: str | FeatureGroup, version: str | None = None, *, previous: bool = False) -> Rollback:
        """Make an older version of a group the latest, in history and online.

        Later versions stay, and the next build is numbered above them all (VER-1). Rows that were pushed since the
        version stay visible beside it.

        Args:
            group: the feature group; `"group@1.0.0"` names the version too.
            version: the version to go back to.
            previous: go back to the one below the latest instead.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnknownVersionError: no such version, or none below the latest.
            RefusedError: it is the latest already.
            RequestError: both a version and `previous`, or neither.
            CorruptStoreError: its files are damaged; nothing changed.
            ConflictError: another process holds the group for longer than the lock timeout.
            StoreUnavailableError: history is rolled back, and the online store was not reached; the same call again
                finishes.
        """
        from grange.verbs.names import pinned
        from grange.verbs.versions import rollback

        self._refresh()
        group, version = pinned(group, version)
        definition = self.catalog.group(group)
        done = rollback(self._parts, definition, version=version, previous=previous, now=self._now())
        self._forget()
        return done

    # training datasets

    def create_training_dataset(
        self,
        view: str | FeatureView,
        spine: Any = None,
        *,
        split: Split | Mapping[str, float] | str | None = None,
        event_time: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        filter: str = "",
        as_known: bool = False,
        as_of: Moment | None = None,
        write: bool = True,
        format: str = "parquet",
        statistics: bool = True,
        engine: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        progress: Report = silent,
    ) -> TrainingDataset:
        """Compute a training dataset of a feature view and keep it: immutable, numbered, in parts, with what it is
        made of pinned (VER-4).

        Rows whose labels are not known at `as_of`, that a filter or an inner join leaves out, or that fall into the
        gap of a split, are not in it; `meta.left_out` counts them. The view's transformations learn from the split's
        training part alone.

        Args:
            view: an applied feature view, or its name.
            spine: as for `get_historical_features`; without one, the rows of the first group.
            split: shares by part, `{"train": 0.8, "test": 0.2}` (random, by a hash of each row's identity), or
                `gr.TimeSplit`, `gr.GroupedSplit`, `gr.StratifiedSplit`, `gr.KFold`; None is one part, `all`.
            event_time: the spine's time column.
            start: without a spine: from here on, inclusive.
            end: without a spine: up to here, exclusive.
            filter: one more SQL condition on the rows, besides the view's.
            as_known: hide rows that became known only after the spine's time (PIT-5).
            as_of: the moment at which labels are known or not; the clock's without.
            write: False keeps what it is made of and no rows: they are in the returned dataset alone, and
                `reproduce_training_dataset` computes them again.
            format: `parquet`, `csv` or `arrow`.
            statistics: keep statistics of features and labels, as they are before transformations.
            engine: which engine joins.
            description: for people.
            tags: for finding it.
            progress: is told each step.

        Raises:
            UnknownFeatureViewError and whatever `get_historical_features` raises.
            DefinitionError: shares that do not sum to one.
            RequestError: an `as_of` that is to come.
            MissingColumnError: a given spine lacks a label that it is to bring.
            SourceError: no rows are left, of all or of a part.
            TransformError, ColumnTypeError: a transformation fails; nothing is kept.
        """
        from grange.verbs.training.compute import create
        from grange.verbs.training.request import TrainingRequest, as_split, as_text, view_name

        now = self._now()
        known_at = to_utc(now if as_of is None else as_of, what="as_of")
        if known_at > now:
            raise RequestError(
                f"as_of {known_at:%Y-%m-%d %H:%M} is to come: which labels are known then cannot be told yet",
                try_="leave as_of out for now",
            )
        request = TrainingRequest(
            spine=spine,
            event_time=event_time,
            start=_micros(start, "start"),
            end=_micros(end, "end"),
            filter=filter,
            as_known=as_known,
            as_of=to_micros(known_at),
            engine=engine,
            split=as_split(split),
            write=write,
            format=format,
            statistics=statistics,
            description=as_text(description, what="description"),
            leaks=self._leak_policy,
            tags=dict(freeze_tags(tags, what="training dataset")),
        )
        self._refresh()
        dataset = create(self._parts, self.catalog, view_name(view), request, now=now, report=progress)
        self._count_uses(self.catalog, view, "create_training_dataset")
        _warn_of(dataset.leaks)
        return dataset

    def training_dataset(self, view: str, version: int | None = None) -> TrainingDataset:
        """A kept training dataset; the view's newest without a number.

        Raises:
            UnknownTrainingDatasetError: there is none.
            UnsupportedError: it was held in memory and not written.
        """
        from grange.verbs.training.keeping import opened

        return opened(self._parts, view, version)

    def training_datasets(self, view: str | None = None) -> tuple[DatasetMeta, ...]:
        """What is known of the kept training datasets, by view and number."""
        from grange.verbs.training.keeping import listed

        return listed(self._parts, view)

    def training_dataset_info(self, view: str, version: int | None = None) -> DatasetMeta:
        """What is known of one, written or not. Raises as `training_dataset`, but for what was not written."""
        from grange.verbs.training.keeping import meta_of

        return meta_of(self._parts, view, version)

    def training_dataset_statistics(
        self, view: str, version: int | None = None, *, part: str | None = None, columns: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """By part and column, the statistics that were kept of features and labels, as before transformations.

        Raises:
            UnknownTrainingDatasetError, RequestError (no such part), UnknownFeatureError (no such column).
        """
        from grange.verbs.training.keeping import kept_statistics

        return kept_statistics(self._parts, view, version, part=part, columns=columns)

    def diff_training_datasets(self, view: str, before: int, after: int) -> DatasetDifference:
        """What differs between two training datasets of a view: versions, spine, split, rows, code, statistics.

        Raises:
            UnknownTrainingDatasetError: there is no such one.
        """
        from grange.verbs.training.difference import difference
        from grange.verbs.training.keeping import meta_of

        return difference(meta_of(self._parts, view, before), meta_of(self._parts, view, after))

    def reproduce_training_dataset(
        self, view: str, version: int | None = None, *, spine: Any = None, write: bool = False
    ) -> Reproduction:
        """Compute a training dataset again, from the versions that it pins and as its view was defined then.

        Args:
            view: its feature view.
            version: its number; the newest without.
            spine: the rows asked for, where they were a frame and nothing was written.
            write: of one that was held in memory: write it, if it came out the same.

        Raises:
            UnknownTrainingDatasetError, UnknownVersionError, RequestError, TransformError, UnsupportedError.
        """
        from grange.verbs.training.reproduce import reproduce

        return reproduce(self._parts, view, version, spine=spine, write=write, now=self._now())

    def delete_training_dataset(self, view: str, version: int) -> tuple[str, ...]:
        """Remove a training dataset with its files; returns what was removed.

        Raises:
            UnknownTrainingDatasetError: there is none.
        """
        from grange.verbs.training.keeping import delete

        self._definitions.forget_readers()  # some may prepare vectors by what it learned
        return delete(self._parts, view, version)

    # discovery: words, usage, likeness, statistics

    def search(
        self,
        query: str,
        *,
        kinds: Iterable[str] | str = (),
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        limit: int = 20,
    ) -> SearchResults:
        """What is applied and has all words of a query, best first: definitions, and features of groups.

        Words are looked for in names, features and columns, their types and descriptions, tags, owners and
        descriptions. Names are taken apart (`user_spend`, `userSpend`), word endings do not count, and the last word
        may be unfinished.

        Args:
            query: plain words; blank lists everything that the filters let through.
            kinds: only these: `entity`, `feature_group`, `feature_view`, `transformation`. A feature has its group's.
            tags: only what has all these tags.
            owner: only what this owner owns.
            limit: at most so many hits.

        Raises:
            RequestError: a kind that is none, or a negative limit.
        """
        from grange.verbs.search import search

        self._refresh()
        self._usage.write()
        return search(self._parts, self.catalog, query, kinds=kinds, tags=tags, owner=owner, limit=limit)

    def keywords(self) -> Keywords:
        """The tags and owners of what is applied, each with how many definitions have it."""
        from grange.verbs.search import keywords

        self._refresh()
        return keywords(self.catalog)

    def similar(self, feature: str, *, limit: int = 10, compute: bool = False) -> tuple[SimilarFeature, ...]:
        """The features that are most like one: by name, by type, and by the values of the latest versions.

        Values count where their statistics are kept; `score` and `made_of` of each say how it came about.

        Args:
            feature: `"group:feature"`.
            limit: at most so many.
            compute: compute, and keep, the statistics that are not kept; this reads every group once.

        Raises:
            UnknownFeatureGroupError, UnknownFeatureError: there is no such feature.
            RequestError: no feature is named, or a version is; a negative limit.
        """
        from grange.verbs.similar import similar
        from grange.verbs.statistics import known_statistics

        self._refresh()
        known = known_statistics(self._parts, self.catalog, compute=compute, now=self._now())
        return similar(self.catalog, feature, limit=limit, known=known)

    def usage(self, name: str | None = None, since: dt.date | None = None) -> tuple[UseCount, ...]:
        """How often groups, features and views were read, by day (UTC), thing and verb.

        `get_historical_features`, `get_online_features` and `create_training_dataset` each count one use of the view,
        of every group and of every feature that they read, whatever the number of rows. A process writes its counts
        every half minute while it uses its store, and when it closes it; one that ends otherwise loses those that it
        has not written. They are of the day on which they were written.

        Args:
            name: of one group or view only; with its features.
            since: the first day, inclusive.
        """
        self._usage.write()
        return self._parts.registry.uses(name, since)

    def statistics(
        self,
        group: str | FeatureGroup,
        *,
        version: str | None = None,
        columns: Sequence[str] | None = None,
        compute: bool = False,
        correlations: bool = False,
    ) -> VersionStatistics:
        """Statistics of a group's stored columns: a sequence of `ColumnStatistics`, and what they are of.

        Of a version they are computed once and kept in the registry. The latest with rows pushed since is described as
        it is at this moment, and that is not kept. Of a group with aggregations they are of its feature rows.

        Args:
            group: the feature group; `"group@1.0.0"` names the version too.
            version: a version; the latest without, with what was pushed since.
            columns: only these.
            compute: compute them anew, whatever is kept.
            correlations: also correlate the columns of numbers with each other.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError, UnknownFeatureError (no such column).
            RequestError: an empty list of columns.
        """
        from grange.verbs.names import pinned
        from grange.verbs.statistics import statistics

        group, version = pinned(group, version)
        return statistics(
            self._parts,
            self.catalog,
            group,
            version=version,
            columns=columns,
            compute=compute,
            correlations=correlations,
            now=self._now(),
        )

    def compare_statistics(
        self, group: str | FeatureGroup, before: str | None = None, after: str | None = None
    ) -> Comparison:
        """What changed between the values of two versions, by column, and how far their distributions lie apart.

        Args:
            group: the feature group; `"group@1.0.0"` names `before` too, and a version alone beside it is `after`.
            before: a version; the one below `after` without.
            after: a version; the latest without.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError.
            RequestError: there is nothing below `after`.
        """
        from grange.verbs.names import pinned_pair
        from grange.verbs.statistics import compare_statistics

        group, before, after = pinned_pair(group, before, after)
        return compare_statistics(self._parts, self.catalog, group, before, after, now=self._now())

    # exports

    def export(
        self,
        what: str,
        destination: str | os.PathLike[str],
        *,
        format: str | None = None,
        version: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        columns: Sequence[str] | None = None,
        compression: str | None = None,
        events: bool = False,
        spine: Any = None,
        event_time: str | None = None,
        as_known: bool = False,
        training_dataset: int | None = None,
        transform: bool = True,
        engine: str | None = None,
        overwrite: bool = False,
        options: Mapping[str, str] | None = None,
        progress: Report = silent,
    ) -> Export:
        """Write the stored rows of a feature group, or the joined rows of a feature view, to files.

        A record says what was written where, from which versions, and how it ended; `exports` lists them. The files
        appear whole or not at all: on disk they are written beside and renamed, in an object store each object appears
        at once. Rows are written in row groups, and of a large group only some are in memory.

        Args:
            what: a group, `"group@1.0.0"`, or a view.
            destination: a path, relative to the project, or `s3://bucket/key` (`gs://`, `az://`). Where it ends in
                `/`, has no ending or is a folder, it is a folder of files (`part-00001.parquet` ...).
            format: `parquet`, `csv` or `arrow`; what the ending says without, else parquet.
            version: of a group; the latest without, with what was pushed since.
            start: inclusive; of a group's event time, or of the rows of a view without a spine.
            end: exclusive.
            columns: only these.
            compression: `snappy` for Parquet and none for others without.
            events: of a group with aggregations: its events, instead of its feature rows.
            spine: of a view: as for `get_historical_features`, and so are the five below.
            event_time: the spine's time column.
            as_known: hide rows that became known only after the spine's time (PIT-5).
            training_dataset: the number of the view's training dataset whose learning prepares the features.
            transform: False takes features as they are, before a view's transformations.
            engine: which engine joins.
            overwrite: replace what is there. Of folders only what exports wrote.
            options: of the object store: `endpoint`, `region`, `access_key_id` ... beside what the environment says.
                They are in no record and no message.
            progress: is told each step.

        Raises:
            NotFoundError: nothing has this name, version or column.
            RequestError: no place to write to; credentials in a URL; options that do not go together.
            RefusedError: something is there already; the object store does not take the credentials.
            UnsupportedError: CSV cannot hold a column.
            StoreUnavailableError, StorageFullError: the place cannot be written.
            MissingDependencyError: object stores are not installed.
        """
        from grange.verbs.export.create import ExportRequest, export
        from grange.verbs.names import pinned

        self._refresh()
        name, version = pinned(what, version)
        given = {"spine": spine is not None, "event_time": event_time is not None, "as_known": as_known,
                 "training_dataset": training_dataset is not None, "transform": not transform,
                 "engine": engine is not None}  # fmt: skip
        request = ExportRequest(
            name,
            os.fspath(destination),
            format,
            compression,
            columns,
            overwrite,
            dict(options or {}),
            version,
            _micros(start, "start"),
            _micros(end, "end"),
            events,
            training_dataset,
            of_views=tuple(option for option, is_given in given.items() if is_given),
        )

        def join() -> HistoricalFeatures:
            return self.get_historical_features(
                name,
                spine,
                event_time=event_time,
                start=start,
                end=end,
                as_known=as_known,
                engine=engine,
                training_dataset=training_dataset,
                transform=transform,
            )

        return export(self._parts, self.catalog, request, join=join, clock=self._now, report=progress)

    def exports(
        self, what: str | None = None, status: str | None = None, limit: int | None = None
    ) -> tuple[Export, ...]:
        """What is known of exports, newest first.

        Args:
            what: of one group or view only.
            status: only `running`, `succeeded`, `failed` or `interrupted` ones: those whose process has gone.
            limit: at most so many.

        Raises:
            RequestError: a status that is none; a negative limit.
        """
        from grange.verbs.export.records import exports

        return exports(self._parts.registry, what, status, limit)

    def export_info(self, id: str) -> Export:
        """What is known of one export.

        Raises:
            NotFoundError: there is none of this id.
        """
        from grange.verbs.export.records import export_info

        return export_info(self._parts.registry, id)

    # looking

    def read(
        self,
        group: str | FeatureGroup,
        *,
        version: str | None = None,
        columns: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        events: bool = False,
    ) -> Rows:
        """A group's stored rows, in order of event time: a pinned version, or the latest with what was pushed since.

        `"group@1.0.0"` and `version="1.0.0"` say the same. Of a group with aggregations these are its feature rows, as
        of each event or on the grid of its `interval`, as they were materialized; with `events=True` they are its
        events, those pushed since among them.

        Time:
            `start <= event time < end`.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError, UnknownFeatureError (no such column).
        """
        from grange.verbs import look
        from grange.verbs.names import pinned

        group, version = pinned(group, version)
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

    def quarantined(self, group: str | FeatureGroup) -> Rows:
        """The rows of a group that expectations kept out, and pushed events that were none, oldest first, with their
        reasons; opened, where they were sealed. No rows at all, and no columns, when there are none.

        Raises:
            UnknownFeatureGroupError: no such group.
            CorruptStoreError: a file cannot be read, or was sealed under a key that is not here.
        """
        from grange.verbs.look import quarantined
        from grange.verbs.names import unpinned

        return quarantined(self._parts, self.catalog.group(unpinned(group, what="looked at")).name)

    def reseal(self, groups: str | FeatureGroup | Iterable[str | FeatureGroup] | None = None) -> tuple[Resealed, ...]:
        """Seal what is stored of feature groups under the key that is primary now: quarantined rows, and what is
        online. After all groups, and with nothing `left`, older keys open nothing any more and can be taken away.

        What is sealed under that key already stays as it is, except window state, which is loaded from history each
        time. Values and versions stay. A crash leaves each file, row and group's state whole, under the one key or the
        other, and the same again does the rest. Every process must have the key before, or it could not read what is
        sealed under it; and one that still seals under an older one makes more to do.

        Args:
            groups: names; all groups without.

        Raises:
            ConfigError: the settings name no key.
            UnknownFeatureGroupError: no such group.
            TamperedError: something sealed was changed.
            CorruptStoreError: something cannot be read, or is sealed under a key that is not here; says which.
            ConflictError: another process holds a group for longer than the lock timeout.
            StorageFullError, StoreUnavailableError.
            Of all these but the first two `details["done"]` says what was done, and `details["failed"]` which groups
            were not.
        """
        from grange.verbs.resealing import reseal

        self._refresh()
        names = list(self.catalog.groups) if groups is None else self._group_names(groups)
        return reseal(self._parts, [self.catalog.group(name) for name in names], now=self._now())

    def versions(self, group: str | FeatureGroup) -> tuple[VersionMeta, ...]:
        """A group's versions, oldest first; the one alone that `"group@1.0.0"` names.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnknownVersionError: no such version.
        """
        from grange.verbs.names import pinned

        group, version = pinned(group)
        self.catalog.group(group)
        offline = self._parts.offline
        wanted = offline.versions(group) if version is None else (version,)
        return tuple(offline.meta(group, each) for each in wanted)

    def version(self, group: str | FeatureGroup, version: str | None = None) -> VersionMeta:
        """What is known of one version of a group; of the latest when none is named.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnknownVersionError: no such version, or none at all.
        """
        from grange.verbs.names import pinned

        group, version = pinned(group, version)
        return self._parts.offline.meta(self.catalog.group(group).name, version)

    def diff(
        self,
        group: str | FeatureGroup,
        before: str | None = None,
        after: str | None = None,
        *,
        statistics: bool = False,
    ) -> VersionDiff:
        """What is different between two versions of a group: columns, configuration, code, data.

        Args:
            group: the feature group; `"group@1.0.0"` names `before` too, and a version alone beside it is `after`.
            before: a version; the one below `after` without.
            after: a version; the latest without.
            statistics: read the rows of both, and compare the statistics of the columns that both have.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnknownVersionError: no such version.
            RequestError: there is nothing below the latest to compare it with.
        """
        from grange.verbs.diffs import diff
        from grange.verbs.names import pinned_pair

        group, before, after = pinned_pair(group, before, after)
        return diff(self._parts, self.catalog, group, before, after, with_statistics=statistics)

    def manifest(self, *, regenerate: bool = False) -> dict[str, ManifestEntry]:
        """Every feature group that has a version, by name: its versions, and what is known of the latest.

        Args:
            regenerate: make the store's own summary of this anew, from the versions that are there.
        """
        return dict(self._parts.offline.manifest(regenerate=regenerate))

    def inspect(self, name: str | Definition, *, version: str | None = None) -> dict[str, Any]:
        """Everything known of a feature group, feature view or entity, as plain data.

        What is damaged of a group's latest version is said, under `damage`, beside all that can be read.

        Raises:
            NotFoundError: nothing has this name, or the group no such version.
            RequestError: a version of what has none.
            CorruptStoreError: a version that is named is damaged.
        """
        from grange.verbs.look import inspect
        from grange.verbs.names import pinned

        name, version = pinned(name, version)
        self._usage.write()
        return inspect(self._parts, self.catalog, name, version=version)

    def lineage(
        self,
        name: str | Definition,
        *,
        direction: Direction = "both",
        columns: bool = False,
        depth: int | None = None,
        kind: str | None = None,
    ) -> Lineage:
        """What something is made of, and what is made of it. Print the answer for a tree.

        Args:
            name: a feature group, `"group@1.0.0"`, a feature view, `"view#3"` for a training dataset, a source (its
                name or path), a transformation, an entity, or where an export went. With `:column` behind it, one of
                its columns; the answer is in columns then.
            direction: `upstream` is what it is made of, `downstream` what is made of it.
            columns: answer column by column.
            depth: at most so many steps away; None is without limit.
            kind: what the name means, where several things have it: `"source"`.

        Raises:
            NotFoundError: nothing has this name; it carries the closest ones.
            UnknownVersionError, UnknownFeatureError: no such version, no such column.
            RequestError: two things have this name; a direction or kind that is none.
        """
        from grange.verbs.lineage import lineage
        from grange.verbs.names import name_of

        self._refresh()
        return lineage(
            self._parts,
            self.catalog,
            name_of(name),
            direction=direction,
            columns=columns,
            depth=depth,
            kind=kind,
            project=self.config.project,
            now=self._now(),
        )

    def origins(
        self, features: Any, *, labels: bool = True, full_feature_names: bool = False
    ) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Which stored features each column of an answer is made of, as (feature group, feature); what is read and not
        shown among them.

        Args:
            features: as for `get_historical_features`.
            labels: whether labels and training helpers are among the columns; they are never served.
            full_feature_names: name features `group__feature`.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError, RequestError.
        """
        from grange.verbs.origins import origins

        return origins(self._parts, self.catalog, features, labels=labels, full_feature_names=full_feature_names)

    def impact(self, name: str | Definition, *, kind: str | None = None) -> tuple[Impact, ...]:
        """What deleting something would break, the worst first. Takes and raises what `lineage` does.

        Of a source it says what would follow if its rows were gone; of a column, what takes it.
        """
        from grange.verbs.lineage import deleted_impact
        from grange.verbs.names import name_of

        self._refresh()
        return deleted_impact(self._parts, self.catalog, name_of(name), kind=kind)

    def verify(self, group: str | FeatureGroup | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """Read all of history and say what is wrong: leftovers of crashes, files that are not as they were written, an
        online store that was loaded from another version than the latest.

        Args:
            group: only this feature group, of which `"group@1.0.0"` names a version; without one, the training
                datasets too.
            repair: clear the leftovers. Published versions and training datasets are never removed.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnknownVersionError: no such version.
        """
        from grange.verbs.names import pinned
        from grange.verbs.versions import verify

        self._refresh()
        name, version = (None, None) if group is None else pinned(group)
        found = verify(self._parts, name, version, repair=repair)
        if name is not None:
            return found
        from grange.verbs.training.keeping import verified

        return (*found, *verified(self._parts, None, repair=repair, now=self._now()))

    def verify_online(
        self, group: str | FeatureGroup | None = None, *, sample: int | None = 10_000
    ) -> tuple[OnlineParity, ...]:
        """Compare what is served with what history says (ONL-1): entity keys of each group that is served online are
        read both ways at one moment, value by value; floats within 1e-9, relative.

        Args:
            group: only this feature group.
            sample: at most so many entity keys of each group, the same ones every time; None is all.

        Raises:
            UnknownFeatureGroupError: no such group.
            UnsupportedError: a group that is not served online, or was not loaded.
            StoreUnavailableError: the online store cannot be reached.
        """
        from grange.serving.guarding import past_memory
        from grange.verbs.names import unpinned
        from grange.verbs.parity import online_parity

        self._refresh()
        name = None if group is None else unpinned(group, what="compared with its history")
        with past_memory():
            return tuple(
                online_parity(self._parts, self.catalog, name, sample=sample, clock=lambda: to_micros(self._now()))
            )

    def explain_online(self, features: Any, *, full_feature_names: bool = False) -> str:
        """What an online read would do, as an indented tree."""
        from grange.plan.explain import explain_read
        from grange.verbs.online import read_plan

        return explain_read(read_plan(self._parts, self.catalog, features, full_feature_names=full_feature_names))

    def explain_materialize(
        self, group: str | FeatureGroup, *, start: Moment | None = None, end: Moment | None = None
    ) -> str:
        """What materializing a group would do, as an indented tree."""
        from grange.plan.explain import explain
        from grange.verbs.materialize import MaterializeRequest, for_group, plan_of, raw_node
        from grange.verbs.names import unpinned

        request = MaterializeRequest(_micros(start, "start"), _micros(end, "end"), None, None)
        definition = self._current(unpinned(group, what="materialized"))
        return explain(
            plan_of(self._parts, definition, for_group(request, definition), raw_node(self._parts, definition))
        )

    def close(self) -> None:
        """Write the counts of what was used, and let go of files and connections. Calling it twice is fine."""
        self._definitions.close()
        self._usage.close()
        if "security" in self.__dict__:  # else nobody asked for it, and there is nothing to write
            self.security.close()
        self._parts.close()

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

    def _count_uses(self, catalog: Catalog, features: Any, verb: str) -> None:
        self._usage.add(uses_of(catalog, features, verb, labels=True))

    def _forget_statistics(self, group: str, version: str | None = None) -> None:
        from grange.verbs.statistics import forget

        forget(self._parts, group, version)

    def _forget_served(self, removed: Iterable[str]) -> None:
        """Remove what was logged of views that are no more."""
        from grange.verbs.served import forget_served

        for what in removed:
            kind, _, name = what.rpartition(" ")
            if kind == "feature view":
                forget_served(self._parts, name)

    def _open_registry(self) -> Registry:
        """The registry; where the settings name the project, one that is no other project's."""
        registry: Registry = _open("registries", self.config.registry, self.config.root)
        if self.config.origin("project") != "default":
            from grange.verbs.identity import check_project

            check_project(registry, self.config.project, now=self._now())
        return registry

    def _open_online(self) -> OnlineStore:
        """The online store; one that projects may share is told which one this is."""
        known = backend("online_stores", self.config.online.type).options
        options: dict[str, Any] = {}
        if "namespace" in known:
            options["namespace"] = self.config.project
        if "owner" in known:
            from grange.verbs.identity import identity

            options["owner"] = identity(self._parts.registry, now=self._now())
        store: OnlineStore = _open("online_stores", self.config.online, self.config.root, options)
        return store

    def _now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def _given(self, definitions: Iterable[Definition] | Definition | None) -> list[Definition]:
        if definitions is None:
            return list(load_definitions(self.config, self.project))
        return list(definitions) if isinstance(definitions, Iterable) else [definitions]

    def _group_names(self, groups: Any) -> list[str]:
        from grange.verbs.names import unpinned

        self._refresh()
        catalog = self.catalog
        if groups is None:
            if not catalog.groups:
                raise SourceError("there is no feature group to materialize", try_="grange apply")
            return list(catalog.groups)
        items = [groups] if isinstance(groups, str) or not isinstance(groups, Iterable) else list(groups)
        if not items:
            raise RequestError("no feature group was named", try_="leave the names out for all of them")
        names = dict.fromkeys(unpinned(item, what="materialized") for item in items)
        return [catalog.group(name).name for name in names]

    def _current(self, name: str) -> FeatureGroup:
        """A group as it is applied at this moment, with its code. What writes asks this, never the cache alone."""
        self._refresh()
        return self._parts.with_code(self.catalog.group(name))

    def _refresh(self) -> None:
        """Make sure that the definitions are those of this moment."""
        self._definitions.confirm()

    def _forget(self) -> None:
        self._definitions.forget()


def _warn_of(leaks: Iterable[Leak]) -> None:
    for leak in leaks:
        if leak.severity == "warning":
            warnings.warn(str(leak), LeakWarning, stacklevel=3)


def _names_store(key: str, value: Any) -> bool:
    return key in ("offline", "online", "registry") and isinstance(value, str)


def _has_modules(config: Config) -> bool:
    """Whether the project has definition modules: it names them, or has one of the default name."""
    named = config.origin("definitions") != "default"
    return named or any((config.root / entry).exists() for entry in config.definitions)


def _wrapped(store: OnlineStore, wrap: Callable[[OnlineStore], OnlineStore] | None) -> OnlineStore:
    return store if wrap is None else wrap(store)


def _sealing(config: Config) -> tuple[Callable[[], Sealer | None], Callable[[OnlineStore], OnlineStore]]:
    """What makes the sealer of a project, once and when it is first needed, and what seals an online store with it."""

    @functools.cache
    def sealer() -> Sealer | None:
        if not config.security.encryption_key:
            return None
        from grange.security.encryption import sealer_from

        return sealer_from(config.security.encryption_key, config.root)

    def sealed_store(store: OnlineStore) -> OnlineStore:
        with_key = sealer()
        if with_key is None:
            return store
        from grange.security.encryption import EncryptedOnlineStore

        return EncryptedOnlineStore(store, with_key, allow_clear=config.security.allow_clear)

    return sealer, sealed_store


def _open(port: Port, config: StoreConfig, root: Path, defaults: Mapping[str, Any] | None = None) -> Any:
    return create(port, config.type, {"root": root, **(defaults or {}), **config.options})


def _micros(value: Moment | None, what: str) -> int | None:
    return None if value is None else to_micros(to_utc(value, what=what), what=what)
