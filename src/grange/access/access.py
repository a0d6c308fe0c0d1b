"""The verbs, checked. See `grange.access`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from grange.access.changes import changed, lifted, makes_values_otherwise, readers_of, stored_versions, unseen
from grange.access.filters import callers_own, new_sieves
from grange.access.reading import Reading
from grange.access.sight import Sight, denied, most_closed, resource, resources
from grange.access.vectors import Vectors, masked_table
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import fingerprint, to_data
from grange.definitions.sources import DerivedSource
from grange.errors import DataError, ForbiddenError, GrangeError, RequestError, TransformError, UnknownVersionError
from grange.security.audit import Event
from grange.security.policies import VALUE_ACTIONS, Action, Resource
from grange.security.principals import Permission, check_scopes
from grange.verbs.apply import users_of
from grange.verbs.derive import with_children
from grange.verbs.origins import groups_asked, origins_of_dataset
from grange.verbs.push import targets

if TYPE_CHECKING:
    from grange.access.changes import Lifted
    from grange.access.filters import Sieve
    from grange.access.gate import Gate
    from grange.definitions.catalog import Catalog
    from grange.frames import Rows
    from grange.ports.offline import VersionMeta
    from grange.security.policies import Decision
    from grange.security.principals import Principal, Role
    from grange.store import FeatureStore
    from grange.verbs.apply import ApplyPlan
    from grange.verbs.export.records import Export
    from grange.verbs.history import HistoricalFeatures
    from grange.verbs.search import SearchHit, SearchResults
    from grange.verbs.similar import SimilarFeature
    from grange.verbs.statistics import VersionStatistics
    from grange.verbs.training.dataset import TrainingDataset
    from grange.verbs.versions import Rollback

_NOBODY_CHANGES: Final = frozenset(
    {Permission.READ_DEFINITIONS, Permission.READ_FEATURES, Permission.READ_HISTORY, Permission.READ_METRICS,
     Permission.READ_AUDIT}
)  # fmt: skip
"""Permissions that change nothing: no policy of the action `write` speaks of them."""

_TOLD: Final = frozenset({"column", "declared", "found_type", "aggregation", "done", "policy", "stored"})
"""The details of errors about rows that quote no value."""


class Access:
    """One caller's way to one store.

    Args:
        gate: the store's.
        principal: who asks.
        request_id: of the request that this serves; it is in the audit log.
    """

    __slots__ = ("_gate", "principal", "request_id")

    def __init__(self, gate: Gate, principal: Principal, request_id: str = "") -> None:
        self._gate = gate
        self.principal = principal
        self.request_id = request_id

    # asking

    def check(self, permission: Permission, *resources: str) -> None:
        """That the caller's role and scopes let them do something.

        Args:
            permission: what.
            resources: to which feature groups or views; to all, or none in particular, without. A version does not
                count: `spend@1.0.0` is `spend`.

        Raises:
            ForbiddenError: they do not; it is in the audit log.
        """
        with self._denials(permission.value, resources):
            for name in resources or (None,):
                self.principal.require(permission, None if name is None else name.partition("@")[0])

    def check_change(self, permission: Permission, *resources: str, action: str = "change") -> None:
        """`check`, and that no policy keeps the caller from changing these: before work is begun that others will do.

        Raises:
            ForbiddenError: as `check`; or a policy of the action `write` speaks.
        """
        self.check(permission, *resources)
        if permission not in _NOBODY_CHANGES:
            with self._denials(action, resources):
                self._check_writable(resources)

    def check_grant(self, role: Role, scopes: Iterable[str]) -> None:
        """That a key of this role and these scopes gives nothing that the caller has not.

        Raises:
            ForbiddenError: it would; it is in the audit log.
        """
        given = check_scopes(scopes)
        with self._denials("key", (role,)):
            if not self.principal.covers(role, given):
                raise ForbiddenError(
                    f"{self.principal.name!r} may not hand on more than they have",
                    asked_by=f"a key of role {role}, scopes {', '.join(sorted(given))}",
                    found=f"role {self.principal.role}, scopes {', '.join(sorted(self.principal.scopes))}",
                    try_="scopes within these, or ask whoever has them",
                )

    def may(self, permission: Permission, name: str | None = None) -> bool:
        """`check`, as a question: for what is left out of a list. Nothing is in the audit log."""
        return self.principal.allows(permission, name)

    @contextmanager
    def reading(self, permission: Permission, *resources: str) -> Iterator[FeatureStore]:
        """The store, to read what no feature's value is part of: definitions, versions, jobs. Raises as `check`."""
        self.check(permission, *resources)
        yield self._gate.store

    @contextmanager
    def writing(
        self, permission: Permission, action: str, *resources: str, details: Mapping[str, Any] | None = None
    ) -> Iterator[FeatureStore]:
        """The store, for one change.

        The change is in the audit log before it is made, and once more if it fails: none is made that is not there.

        >>> with access.writing(Permission.WRITE_FEATURES, "push", "user_spend", details={"rows": 3}) as store:
        ...     store.push("user_spend", rows)

        Args:
            permission: what the caller needs.
            action: the verb, for the audit log.
            resources: the names of what is changed.
            details: of the change, for the audit log: JSON, no values of features and no secrets.

        Raises:
            ForbiddenError: role, scopes or a policy do not let the caller; it is in the audit log.
            StoreUnavailableError: the audit log cannot be written; nothing was changed.
        """
        self.check_change(permission, *resources, action=action)
        what = ", ".join(resources)
        self._record(action, what, "accepted", details or {})
        try:
            yield self._gate.store
        except GrangeError as error:
            if isinstance(error, DataError) and self._hides_some(resources):
                without_values(error)
            self._record(action, what, "failed", {**(details or {}), "code": error.code, "error": error.message})
            raise
        except BaseException as error:
            self._record(action, what, "failed", {**(details or {}), "error": type(error).__name__})
            raise

    @property
    def catalog(self) -> Catalog:
        """The definitions. Who may read definitions sees them all; values are another matter. Raises as `check`."""
        self.check(Permission.READ_DEFINITIONS)
        return self._gate.store.catalog

    # features online

    def vectors(
        self,
        features: Any,
        *,
        full_feature_names: bool = False,
        training_dataset: int | None = None,
        transform: bool = True,
    ) -> Callable[..., Vectors]:
        """A function from rows (and `now`) to their vectors: who may see what is decided here, not per row.

        Good for this request: definitions and policies may change before the next.

        Raises:
            ForbiddenError: a feature is denied; names it and the policy. Or one is masked, of a view whose
                transformations make others of it that cannot be masked.
            and what `FeatureStore.get_online_features` does.
        """
        store = self._gate.store
        masked = self._masked(
            Permission.READ_FEATURES, "online", features, labels=False, full_feature_names=full_feature_names
        )
        how: dict[str, Any] = {}
        if full_feature_names:
            how["full_feature_names"] = True
        if training_dataset is not None:
            how["training_dataset"] = training_dataset
        if not transform:
            how["transform"] = False
        if masked and transform and self._prepares(features):
            raise self._unmaskable(features, masked, try_="transform=False takes features as they are, those null")

        shown = frozenset(name for name in masked if not name.startswith("\0"))  # others are read and not in the answer

        def read(rows: Any, now: Any = None) -> Vectors:
            return Vectors(store.get_online_features(features, rows, now=now, **how), shown)

        return read

    def get_online_features(self, features: Any, rows: Any, *, now: Any = None, **options: Any) -> Vectors:
        """As `FeatureStore.get_online_features`, masked features null. Raises what `vectors` does."""
        return self.vectors(features, **options)(rows, now)

    # features of the past

    def get_historical_features(self, features: Any, spine: Any = None, **options: Any) -> HistoricalFeatures:
        """As `FeatureStore.get_historical_features`, masked features null.

        Raises:
            ForbiddenError: a feature is denied; or one is masked of a view whose
                transformations make others of it, or whose filter is the caller's own, or compares it with what they
                bring.
            RequestError: a spine that is a query or a file: those would be the server's own.
        """
        from grange.frames import Rows

        if isinstance(spine, str) or hasattr(spine, "__fspath__"):
            raise RequestError("a spine is rows here, no query and no file", try_="read the file, and send its rows")
        full = bool(options.get("full_feature_names"))
        masked = self._masked(Permission.READ_HISTORY, "historical", features, labels=True, full_feature_names=full)
        if masked and options.get("transform", True) and self._prepares(features):
            raise self._unmaskable(features, masked, try_="transform=False takes features as they are, those null")
        if masked:
            self._check_filter(features)
        found = self._gate.store.get_historical_features(features, spine, **options)
        if not masked:
            return found
        return found.with_beside(Rows(arrow=masked_table(found.beside.arrow, masked)), found.roles)

    def read(self, group: str, *, columns: Sequence[str] | None = None, **options: Any) -> Rows:
        """A preview: `FeatureStore.read` with masked columns null, and denied ones left out unless they are named.

        Raises:
            ForbiddenError: the whole group is denied, or a named column.
        """
        from grange.frames import Rows

        self.check(Permission.READ_HISTORY, group)
        metas = self._read_of(group, options.get("version"))
        definition = self._gate.store.catalog.group(group.partition("@")[0])
        defined = list(columns if columns is not None else definition.schema.names)
        shown, masked = self._columns(group, "preview", defined, metas, is_named=columns is not None)
        if columns is None and shown == defined:
            rows = self._gate.store.read(group, **options)
            # what an older version has besides, or its events
            shown, masked = self._columns(group, "preview", rows.column_names, metas, is_named=False)
        else:
            rows = self._gate.store.read(group, columns=shown, **options)
        table = rows.arrow.select([name for name in rows.column_names if name in shown])
        return Rows(arrow=masked_table(table, masked))

    def statistics(self, group: str, *, columns: Sequence[str] | None = None, **options: Any) -> VersionStatistics:
        """`FeatureStore.statistics` of the columns that are neither denied nor masked: statistics hold values.

        Raises:
            ForbiddenError: none are left, or a named one is not among them.
        """
        self.check(Permission.READ_HISTORY, group)
        hidden = self._hidden(group, "historical", self._read_of(group, options.get("version")))
        found = self._gate.store.statistics(group, columns=columns, **options)
        names = [column.name for column in found]
        kept = [name for name in names if name not in hidden]
        if len(kept) == len(names):
            return found
        if columns is not None or not kept:
            self._refuse(f"statistics of {', '.join(sorted(hidden & set(names)))}", group)
        return self._gate.store.statistics(group, columns=kept, **options)

    def check_values(
        self,
        group: str,
        action: Action = "historical",
        *,
        versions: Iterable[str | None] = (None,),
        columns: Iterable[str] = (),
    ) -> None:
        """That nothing of a group is denied or masked: for what holds values of all its columns.

        Args:
            group: which; `group@1.0.0` names a version too.
            action: what for.
            versions: those that are read: None is the latest with what was pushed since. None of them is all there are.
            columns: others that are read.

        Raises:
            ForbiddenError: something is.
        """
        self.check(Permission.READ_HISTORY, group)
        name = group.partition("@")[0]
        wanted = tuple(versions)
        every = () if wanted or not self._gate.policies().policies else stored_versions(self._gate.store._parts, name)
        metas = (*every, *(meta for version in wanted for meta in self._read_of(group, version)))
        hidden = self._hidden(group, action, metas, columns)
        if hidden:
            self._refuse(f"values of {', '.join(sorted(hidden))}", group)

    def check_compared(self, group: str, before: str | None, after: str | None) -> None:
        """`check_values` of two versions that are compared; of all where the earlier one is not named."""
        self.check_values(group, versions=() if before is None else (before, after))

    # answers that outlive their request

    def reading_of(self, features: Any, *, full_feature_names: bool = False, transform: bool = True) -> Reading:
        """What historical features are made of, to be asked about again with `check_reading`.

        Raises:
            what `FeatureStore.origins` does.
        """
        from grange.access.gate import view_of

        catalog = self._gate.store.catalog
        view = view_of(catalog, features)
        made_of = self._gate.made_of(features, labels=True, full_feature_names=full_feature_names)
        groups = groups_asked(catalog, features, labels=True)
        is_prepared = transform and self._prepares(features)
        return Reading.of(str(features), made_of, view=view, groups=groups, is_prepared=is_prepared)

    def reading_of_dataset(self, view: str, number: int | None) -> Reading:
        """What a training dataset was made of, by the definitions and versions of then.

        Raises:
            UnknownTrainingDatasetError: there is none of this number.
            CorruptStoreError: what is kept of it cannot be read.
        """
        store = self._gate.store
        meta = store.training_dataset_info(view, number)
        made_of = origins_of_dataset(store._parts, store.catalog, meta)
        groups = tuple(pin.group for pin in meta.pins)
        return Reading.of(
            f"training dataset {view}#{meta.version}", made_of, view=view, groups=groups, is_prepared=True
        )

    def reading_of_groups(self, groups: Iterable[str]) -> Reading:
        """What tells of all values of some groups: errors and warnings of materializing them."""
        state = self._gate.state()
        named = tuple(groups)
        made_of = {
            f"{name}:{feature}": state.ancestry.of(name, feature)
            for name in named
            if name in state.catalog.groups
            for feature in ("", *state.catalog.groups[name].features().names)
        }
        return Reading.of(", ".join(named), made_of, view=None, groups=named, is_prepared=True)

    def hidden_of(self, reading: Reading, action: Action = "historical") -> frozenset[str]:
        """The columns of what was read before that are masked now.

        Raises:
            ForbiddenError: a part of it is denied now, or cannot be masked; it is in the audit log.
        """
        with self._denials(action, (reading.what,)):
            masked = self._now(reading, action)
        if masked and reading.is_prepared:
            raise self._unmaskable(reading.what, masked, try_="ask for what you may see")
        return masked

    def shows(self, reading: Reading, action: Action = "historical") -> bool:
        """Whether all of what was read before may be seen now; as a question, so nothing is in the audit log."""
        try:
            return not self._now(reading, action)
        except ForbiddenError:
            return False

    def check_dataset(self, view: str, number: int | None, action: Action = "historical") -> None:
        """That nothing of a training dataset is denied or masked: whatever its view takes by now.

        Raises:
            ForbiddenError: something is.
            and what `reading_of_dataset` does.
        """
        self.check(Permission.READ_HISTORY, view)
        if self._gate.policies().policies:
            self.hidden_of(self.reading_of_dataset(view, number), action)

    def _now(self, reading: Reading, action: Action) -> frozenset[str]:
        state = self._gate.state()
        sight = Sight.of(state.catalog, reading.made_of, what=reading.what, asked=reading.groups, view=reading.view)
        return sight.masked(state.policies, self.principal, action)

    def served(self, view: str, **options: Any) -> Rows:
        """`FeatureStore.served` of what the view is by now; what it was before is left out where anything of the groups
        of then is denied or masked: the log does not say which of their features those are.

        Raises:
            ForbiddenError: something of the view is denied or masked.
        """
        from grange.frames import Rows

        self.check_view(view)
        rows = self._gate.store.served(view, **options)
        definition = self._gate.store.catalog.view(view)
        now = fingerprint(to_data(definition))
        is_whole = not any(item.source in self._gate.store.catalog.views for item in definition.features)
        kinds = set(zip(rows.arrow["fingerprint"].to_pylist(), rows.arrow["versions"].to_pylist(), strict=True))
        hidden = {kind for kind in kinds if not (is_whole and kind[0] == now) and self._hides_some(json.loads(kind[1]))}
        if not hidden:
            return rows
        pairs = zip(rows.arrow["fingerprint"].to_pylist(), rows.arrow["versions"].to_pylist(), strict=True)
        import pyarrow as pa

        return Rows(arrow=rows.arrow.filter(pa.array([pair not in hidden for pair in pairs])))

    # what writes values somewhere else: nothing can be masked there

    def export(self, what: str, destination: str, **options: Any) -> Export:
        """`FeatureStore.export`; refused where anything of it is denied or masked to the caller.

        Raises:
            ForbiddenError: something is.
            RequestError: a spine that is a query or a file.
        """
        spine = options.get("spine")
        if isinstance(spine, str) or hasattr(spine, "__fspath__"):
            raise RequestError("a spine is rows here, no query and no file", try_="read the file, and send its rows")
        name = what.partition("@")[0]
        self.check_export(what, version=options.get("version"), training_dataset=options.get("training_dataset"))
        with self.writing(Permission.WRITE_DATASETS, "export", name, details={"to": destination}) as store:
            return store.export(what, destination, **options)

    def check_export(self, what: str, *, version: str | None = None, training_dataset: int | None = None) -> None:
        """That a caller may have everything of what is to be exported.

        Raises:
            ForbiddenError: something is denied or masked.
        """
        if what.partition("@")[0] in self._gate.store.catalog.groups:
            self.check_values(what, "export", versions=(version,))
        else:
            self.check_view(what, "export")
        if training_dataset is not None:
            self.check_dataset(what, training_dataset, "export")

    def create_training_dataset(self, view: str, spine: Any = None, **options: Any) -> TrainingDataset:
        """As `FeatureStore.create_training_dataset`; refused where anything of the view is denied or masked.

        Raises:
            ForbiddenError: something is.
            RequestError: a spine that is a query or a file.
        """
        if isinstance(spine, str) or hasattr(spine, "__fspath__"):
            raise RequestError("a spine is rows here, no query and no file", try_="read the file, and send its rows")
        self.check_view(view, "historical")
        with self.writing(Permission.WRITE_DATASETS, "create training dataset", view) as store:
            return store.create_training_dataset(view, spine, **options)

    def check_view(self, view: str, action: Action = "historical") -> None:
        """That nothing of a view, its labels among it, is denied or masked: for files that hold its values.

        Raises:
            ForbiddenError: something is.
        """
        masked = self._masked(Permission.READ_HISTORY, action, view, labels=True, full_feature_names=False)
        if masked:
            raise self._unmaskable(view, masked, try_="get_historical_features gives the others")

    # discovery

    def search(self, query: str, **options: Any) -> SearchResults:
        """`FeatureStore.search` without what a policy denies."""
        from grange.verbs.search import SearchResults

        self.check(Permission.READ_DEFINITIONS)
        found = self._gate.store.search(query, **options)
        return SearchResults(found.query, tuple(hit for hit in found.hits if self._is_found(hit)))

    def similar(self, feature: str, **options: Any) -> tuple[SimilarFeature, ...]:
        """`FeatureStore.similar` without what a policy denies or masks: likeness says something of values.

        Raises:
            ForbiddenError: the feature itself is.
        """
        group, _, name = feature.partition(":")
        self.check(Permission.READ_HISTORY, group)
        if name in self._hidden(group, "historical", self._read_of(group, None)):
            self._refuse(f"values of {name}", group)
        found = self._gate.store.similar(feature, **options)
        hidden = {
            name: self._hidden(name, "historical", self._read_of(name, None))
            for name in dict.fromkeys(each.group for each in found)
        }
        return tuple(each for each in found if each.feature not in hidden[each.group])

    # changes

    def push(self, name: str, rows: Any) -> Any:
        """As `FeatureStore.push`. The caller may write every group that the rows go to: a push source is none.

        Raises:
            ForbiddenError: one of them they may not.
        """
        catalog, plain = self._gate.store.catalog, name.partition("@")[0]
        if plain not in catalog.groups and not catalog.readers(plain):
            self.check(Permission.WRITE_FEATURES, plain)  # who may write nothing of this name learns no others
        groups = [group.name for group in targets(catalog, plain)]
        with self.writing(Permission.WRITE_FEATURES, "push", *groups, details={"to": name}) as store:
            return store.push(name, rows)

    def plan(self, definitions: Iterable[Any] | Any, *, prune: bool = False) -> ApplyPlan:
        """As `FeatureStore.plan`: it runs what is given on raw rows, so that it asks for what `apply` does."""
        given = list(definitions) if isinstance(definitions, Iterable) else [definitions]
        names = [each.name for each in given]
        self.check_change(Permission.WRITE_DEFINITIONS, *names, action="apply")
        with self._denials("apply", names):
            self._check_protected(given)
        return self._gate.store.plan(given, prune=prune)

    def apply(self, definitions: Iterable[Any] | Any, *, prune: bool = False) -> ApplyPlan:
        """As `FeatureStore.apply`. What would delete a definition needs the right to, and what would take a feature
        from under a policy the right to manage policies.

        Raises:
            ForbiddenError: the caller may not; or reads rows that a policy hides from them, by another group.
        """
        given = list(definitions) if isinstance(definitions, Iterable) else [definitions]
        names = [each.name for each in given]
        plan = self.plan(given, prune=prune)
        gone = [change.name for change in plan.changes if change.action == "delete"]
        if gone:
            self.check_change(Permission.DELETE_DEFINITIONS, *gone, action="apply")
        with self.writing(Permission.WRITE_DEFINITIONS, "apply", *names, details={"deletes": gone}) as store:
            return store.apply(given, prune=prune)

    def materialize(self, groups: Sequence[str] | str | None = None, **options: Any) -> Any:
        """As `FeatureStore.materialize`; the caller may change the groups that follow, too."""
        named = self.materialized(groups, downstream=options.get("downstream", True))
        with self.writing(Permission.MATERIALIZE, "materialize", *named) as store:
            return store.materialize(groups, **options)

    def materialized(self, groups: Sequence[str] | str | None, *, downstream: bool = True) -> tuple[str, ...]:
        """The groups that materializing some, or all, computes: those that are derived of them follow."""
        catalog = self._gate.store.catalog
        named = (groups,) if isinstance(groups, str) else tuple(groups or catalog.groups)
        return (*named, *(name for name in with_children(catalog, named) if name not in named)) if downstream else named

    def rollback(self, name: str, version: str | None = None, *, previous: bool = False) -> Rollback:
        """As `FeatureStore.rollback`.

        Raises:
            ForbiddenError: the caller may not; or the version was made of what policies protect, and the group is not
                by now, and the caller may not manage policies.
        """
        group = name.partition("@")[0]
        self.check_change(Permission.MATERIALIZE, group, action="rollback")
        gate, state = self._gate, self._gate.state()
        if state.policies.policies and not self.principal.allows(Permission.MANAGE_SECURITY):
            target = gate.store.plan_rollback(name, version, previous=previous).version
            meta = gate.store._parts.offline.meta(group, target)
            with self._denials("rollback", (name,)):
                for slipped in unseen(state.ancestry, state.catalog, meta, state.policies):
                    raise self._slips(slipped, "rollback")
        details = {"version": version, "previous": previous}
        with self.writing(Permission.MATERIALIZE, "rollback", group, details=details) as store:
            return store.rollback(name, version, previous=previous)

    def _slips(self, slipped: Lifted, asked_by: str) -> ForbiddenError:
        return ForbiddenError(
            f"{self.principal.name!r} may not take {slipped.feature!r} from under policy {slipped.policy!r}",
            asked_by=asked_by,
            found="other tags than now, or made of something else",
            try_="leave its tags and what it is made of as they are, or ask whoever manages the policies",
            details={"feature": slipped.feature, "policy": slipped.policy},
        )

    def delete(self, name: str, *, version: str | None = None, cascade: bool = False) -> tuple[str, ...]:
        """As `FeatureStore.delete`; a version is data, a definition more than that, and so are views that go too."""
        group = name.partition("@")[0]
        is_version = version is not None or "@" in name
        permission = Permission.DELETE if is_version else Permission.DELETE_DEFINITIONS
        views = self._views_of(group) if cascade else ()
        if views:
            self.check_change(Permission.DELETE_DEFINITIONS, *views, action="delete")
        with self.writing(permission, "delete", group, details={"version": version}) as store:
            return store.delete(name, version=version, cascade=cascade)

    def _views_of(self, name: str) -> tuple[str, ...]:
        """The views that take from a group or view, directly or through others."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            users = [each for each in users_of(self._gate.store.catalog, waiting.pop()) if each not in found]
            found |= dict.fromkeys(users)
            waiting += users
        return tuple(found)

    def _check_protected(self, given: Sequence[Any]) -> None:
        """That definitions take nothing from under a policy, nor read what one hides from the caller elsewhere.

        Raises:
            ForbiddenError: they do, and the caller may not manage policies.
        """
        if self.principal.kind == "local" or self.principal.allows(Permission.MANAGE_SECURITY):
            return
        gate = self._gate
        state = gate.state()
        if not state.policies.policies:
            return
        after = changed(state.catalog, given)
        for slipped in lifted(gate.store._parts, state.ancestry, state.catalog, after, state.policies):
            raise self._slips(slipped, "apply")
        for sieve in new_sieves(gate.store._parts, state.ancestry, state.catalog, after):
            self._check_sieve(after.catalog, sieve)
        for group in after.given:
            before = state.catalog.groups.get(group.name)
            if not isinstance(group, FeatureGroup) or isinstance(group.source, DerivedSource):
                continue
            if not makes_values_otherwise(before, group):
                continue
            for other in readers_of(state.catalog, group.source, gate.store.project):
                self._check_raw(group, other)

    def _check_sieve(self, catalog: Catalog, sieve: Sieve) -> None:
        """That nothing by which rows would be left out is hidden from the caller.

        Raises:
            ForbiddenError: something is; where columns are not known yet, it says what would make them known.
        """
        try:
            for part in resources(catalog, sieve.origins):
                self._check_shown(part, sieve.actions, what=sieve.what)
        except ForbiddenError as error:
            if sieve.opened:
                names = ", ".join(sieve.opened)
                error.try_ = f"apply {names} first, by itself: as long as its columns are not known, all of them count"
            raise

    def _check_raw(self, group: FeatureGroup, other: str) -> None:
        """That nothing of a group is hidden from the caller whose raw rows another one would have."""
        state = self._gate.state()
        metas = stored_versions(self._gate.store._parts, other)
        for name in self._names(state.catalog.group(other), metas):
            for part in resources(state.catalog, state.ancestry.of(other, name)):
                self._check_shown(part, VALUE_ACTIONS, what=f"feature group {group.name!r}, of its rows")

    def _check_shown(self, part: Resource, actions: Iterable[Action], *, what: str) -> None:
        """That no policy hides a feature from the caller.

        Raises:
            ForbiddenError: one does, whatever they would do with it.
        """
        policies = self._gate.policies()
        for action in sorted(actions):
            decision = policies.speak(self.principal, action, part)
            if decision.effect != "allow":
                raise denied(part, decision, self.principal, what=what)

    def _check_filter(self, features: Any) -> None:
        """That the caller learns nothing of masked values by which rows come.

        Raises:
            ForbiddenError: they would; it is in the audit log.
        """
        from grange.access.gate import view_of

        state = self._gate.state()
        view = view_of(state.catalog, features)
        origins = callers_own(self._gate.store._parts, state.catalog, features, state.ancestry)
        for part in resources(state.catalog, origins):
            if state.policies.speak(self.principal, "historical", part, view).effect != "allow":
                raise self._unmaskable(features, [part.reference], try_="name the features: a list has no filter")

    # deciding

    def _masked(self, permission: Permission, action: Action, features: Any, **how: Any) -> frozenset[str]:
        from grange.access.gate import view_of

        gate = self._gate
        with self._denials(action, (features,)):
            view = view_of(gate.store.catalog, features)
            if self.principal.allows(permission):  # without a scope that names something
                pass
            elif view is not None:
                self.principal.require(permission, view)
            else:
                for group in groups_asked(gate.store.catalog, features, labels=how["labels"]):
                    self.principal.require(permission, group)
            return gate.masked(self.principal, action, features, **how)

    def _read_of(self, group: str, version: str | None) -> tuple[VersionMeta, ...]:
        """What is known of the rows that reading a group reads: a version's; of the latest, those pushed since too."""
        if not self._gate.policies().policies:
            return ()  # nothing is hidden, whatever is stored
        name, _, pinned = group.partition("@")
        offline, number = self._gate.store._parts.offline, version or pinned or None
        try:
            found: tuple[VersionMeta, ...] = (offline.meta(name, number),)
        except UnknownVersionError:
            found = ()  # reading says so itself, where nothing was pushed
        newest = offline.newest_push(name) if number is None else None
        return found if newest is None else (*found, newest)

    @staticmethod
    def _names(group: FeatureGroup, metas: Iterable[VersionMeta], more: Iterable[str] = ()) -> dict[str, str]:
        """By column of a group, today's and those of some versions, the feature that policies are asked about: "", the
        group as a whole, of what is entity key or time wherever there is such a column."""
        own = {*group.join_keys, group.event_time, group.created_time}
        stored: dict[str, None] = {}
        for meta in metas:
            own -= {*meta.schema.names} - {*meta.entity_keys, meta.event_time, meta.created_time}
            stored |= dict.fromkeys((*meta.schema.names, *meta.features.names))
        names = dict.fromkeys((*group.schema.names, *group.features().names, *stored, *more))
        return {name: "" if name in own else name for name in names}

    def _decided(
        self, group: str, feature: str, action: Action, metas: Iterable[VersionMeta]
    ) -> tuple[Resource, Decision]:
        """What becomes of a column of a group, as its definition and as some versions make it."""
        state = self._gate.state()
        origins = dict.fromkeys(state.ancestry.of(group, feature))
        for meta in metas:
            origins |= dict.fromkeys(state.ancestry.of_version(meta, feature))
        return most_closed(state.policies, self.principal, action, resources(state.catalog, origins))

    def _columns(
        self, group: str, action: Action, names: Sequence[str], metas: tuple[VersionMeta, ...], *, is_named: bool
    ) -> tuple[list[str], frozenset[str]]:
        """Those of some columns of a group that may be read, and those of them that are masked.

        Raises:
            ForbiddenError: the group as a whole is denied; or a column that was named.
        """
        definition = self._gate.store.catalog.group(group.partition("@")[0])
        about = self._names(definition, metas, names)
        shown, masked = [], []
        with self._denials(action, (group,)):
            for name in names:
                asked, decision = self._decided(definition.name, about[name], action, metas)
                if decision.effect == "deny" and (is_named or not about[name]):
                    raise denied(asked, decision, self.principal, what=f"feature group {definition.name!r}")
                if decision.effect == "deny":
                    continue
                shown.append(name)
                if decision.effect == "mask" and about[name]:
                    masked.append(name)
        return shown, frozenset(masked)

    def _hidden(
        self, group: str, action: Action, metas: tuple[VersionMeta, ...], more: Iterable[str] = ()
    ) -> frozenset[str]:
        """The columns of a group, today's and those of some versions, that are denied or masked."""
        definition = self._gate.store.catalog.group(group.partition("@")[0])
        return frozenset(
            name
            for name, feature in self._names(definition, metas, more).items()
            if self._decided(definition.name, feature, action, metas)[1].effect != "allow"
        )

    def _hides_some(self, names: Iterable[str]) -> bool:
        """Whether anything that some groups have or had is hidden from the caller. Of a group that is gone nobody can
        say, so that any policy may."""
        state = self._gate.state()
        for name in names:
            if name in state.catalog.views:
                continue
            if name not in state.catalog.groups:
                if state.policies.policies and self.principal.kind != "local":
                    return True
            elif self._hidden(name, "historical", stored_versions(self._gate.store._parts, name)):
                return True
        return False

    def _is_found(self, hit: SearchHit) -> bool:
        if hit.kind == "feature_group":
            return self._decided(hit.name, hit.feature, "search", ())[1].effect != "deny"
        if hit.kind == "feature_view":
            policies = self._gate.policies()
            return policies.decide(self.principal, "search", group="", view=hit.name).effect != "deny"
        return True

    def _check_writable(self, names: Sequence[str]) -> None:
        """Ask the policies; role and scopes were asked for what is done."""
        state = self._gate.state()
        for name in names:
            asked = resource(state.catalog, name.partition("@")[0])
            view = asked.group if asked.group in state.catalog.views else None
            about = Resource("") if view else asked
            decided = state.policies.speak(self.principal, "write", about, view)
            if decided.effect == "deny":
                raise denied(asked, decided, self.principal, what=f"a change of {name!r}", verb="change")

    def _prepares(self, features: Any) -> bool:
        """Whether transformations make other columns of a view's features, under names of their own."""
        from grange.access.gate import view_of

        if isinstance(features, FeatureView):
            return bool(features.transformations)
        catalog = self._gate.store.catalog
        view = view_of(catalog, features)
        return view is not None and bool(catalog.view(view).transformations)

    def _unmaskable(self, features: Any, masked: Iterable[str], *, try_: str) -> ForbiddenError:
        shown = sorted(name for name in masked if name and not name.startswith("\0"))
        error = ForbiddenError(
            f"{self.principal.name!r} may not see {', '.join(shown) or 'what it is made of'}, "
            "and here it cannot be masked",
            asked_by=str(features),
            try_=try_,
        )
        self._deny("read", str(features), error)
        return error

    def _refuse(self, what: str, asked_by: str) -> None:
        with self._denials("read", (asked_by,)):
            raise ForbiddenError(f"{self.principal.name!r} may not see {what}", asked_by=asked_by)

    # the audit log

    @contextmanager
    def _denials(self, action: str, resources: Sequence[Any]) -> Iterator[None]:
        """Writes refusals inside the block to the audit log."""
        try:
            yield
        except ForbiddenError as error:
            self._deny(action, ", ".join(map(str, resources)), error)
            raise

    def _deny(self, action: str, what: str, error: ForbiddenError) -> None:
        details = {"why": error.message, "policy": error.details.get("policy")}
        self._gate.security.audit.denied(
            Event(self._gate.clock(), self.principal, action, what, "denied", details, self.request_id)
        )

    def _record(self, action: str, what: str, outcome: Any, details: Mapping[str, Any]) -> None:
        self._gate.security.audit.record(
            Event(self._gate.clock(), self.principal, action, what, outcome, details, self.request_id)
        )


def without_values(error: GrangeError) -> None:
    """Take out of an error about rows what it quotes of them."""
    error.found = None
    error.details = {name: value for name, value in error.details.items() if name in _TOLD}
    if isinstance(error, TransformError):  # the words of a user's function, or of an engine
        error.message = "a transformation failed; what it said is for who may see all values of the group"
        error.args = (error.message,)
