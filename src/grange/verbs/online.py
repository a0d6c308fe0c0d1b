"""get_online_features: a plan made once per request shape, kept while the definitions stay the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import as_selection
from grange.errors import (
    GrangeError,
    RequestError,
    StateLostError,
    StoreUnavailableError,
    UnknownVersionError,
    UnsupportedError,
    closest_names,
)
from grange.plan.bind import Layout, Request, bind, resolve
from grange.plan.nodes import ReadPlan
from grange.plan.read import plan_read
from grange.ports.offline import PUSHED_FROM
from grange.ports.registry import Run
from grange.serving.doubted import Doubt, DoubtedStore
from grange.serving.guarding import GuardedOnlineStore
from grange.serving.reader import OnlineReader
from grange.types import Schema
from grange.verbs.computing import with_functions
from grange.verbs.history import current_layout, layout_of
from grange.verbs.parts import Parts
from grange.verbs.runs import last_load, loaded_rows, reached_online
from grange.verbs.states import OnlineState, held
from grange.verbs.training.preparing import Preparation, preparation
from grange.verbs.windows import is_behind

if TYPE_CHECKING:
    from grange.serving.prepared import PreparedReader

Pins = tuple[tuple[str, str], ...]
"""(group, version) of the versions that a request pins."""
DOUBT_SECONDS: Final = 0.25
"""How long a reader that may not read all of its groups is used before it is made anew, at least."""
LONGEST_DOUBT_SECONDS: Final = 5.0
"""How long it is at most, while nobody can say what was loaded, or that takes long to say."""
_LOOKING_SHARE: Final = 0.1
"""Of the time, what making such readers anew may take."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, and the plan of reading it."""

    features: Any
    full_feature_names: bool
    training_dataset: int | None
    transform: bool
    plan: ReadPlan | None = None
    """None before it is made."""


@dataclass(frozen=True, slots=True)
class _Doubted:
    """A reader that may not read all of its groups."""

    reader: OnlineReader | PreparedReader
    until: float
    """When it is made anew, by the clock."""
    pause: float
    """Seconds for which it is used."""


class Readers:
    """Online readers by what was asked, for one state of the definitions.

    Args:
        parts: the opened backends.
        catalog: the definitions.
        clock: seconds that never go back.
    """

    __slots__ = ("_asked", "_by_request", "_clock", "_doubted", "_parts", "_pinned", "catalog")

    LIMIT = 256
    """How many different requests are kept; a service asks for a handful."""

    def __init__(self, parts: Parts, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self.catalog = catalog
        """The definitions that the readers were made for."""
        self._parts = parts
        self._by_request: dict[Any, OnlineReader | PreparedReader] = {}
        self._pinned: dict[Any, tuple[OnlineReader | PreparedReader, Pins]] = {}
        """Readers of pinned versions: whether those are served can change between two requests."""
        self._clock = clock
        self._doubted: dict[Any, _Doubted] = {}
        """Readers that may not read all of their groups."""
        self._asked: dict[Any, _Asked] = {}
        """What each reader was made for."""

    def get(
        self, features: Any, *, full_feature_names: bool, training_dataset: int | None = None, transform: bool = True
    ) -> OnlineReader | PreparedReader:
        """The reader of a request, made if it is new.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, NameCollisionError, RequestError.
            UnknownVersionError: a pinned version that there is not.
            UnsupportedError: a group that is not served online, was not loaded, or a pinned version that is not the
                one loaded.
            TransformError: the code of an on-demand transformation is not here.
        """
        what = tuple(features) if type(features) is list else features
        how = (type(features), full_feature_names, training_dataset, transform)
        key: Any = (what, how)
        try:
            reader = self._by_request.get(key)
        except TypeError:  # something in it is no dict key
            key = (_hashable(features), how)
            reader = self._by_request.get(key)
        if reader is not None:
            return reader
        known = self._pinned.get(key)
        if known is not None:
            check_pins(self._parts, known[1])
            return known[0]
        doubted = self._doubted.get(key)
        if doubted is not None and self._clock() < doubted.until:
            return doubted.reader
        asked = list(features) if type(features) is list else features  # the caller may go on with its list
        return self._made(key, _Asked(asked, full_feature_names, training_dataset, transform))

    def renewed(self, catalog: Catalog, *, keep: bool) -> Readers:
        """Readers of the same requests for other definitions. A request that these refuse has none: whoever asks again
        is told why.

        Args:
            catalog: the other definitions.
            keep: whether readers that would be made again as they are stay.

        Nor has one whose reader cannot be made because a store cannot be reached: one is made when it is asked again.
        """
        made = Readers(self._parts, catalog, self._clock)
        for key, asked in list(self._asked.items()):
            with suppress(GrangeError):
                if not (keep and self._keeps(key, asked, made)):
                    made._made(key, asked)
        return made

    def _keeps(self, key: Any, asked: _Asked, into: Readers) -> bool:
        """Whether a reader is right for other definitions too; then it is among their readers."""
        plan = read_plan(self._parts, into.catalog, asked.features, full_feature_names=asked.full_feature_names)
        same_view = _view(self.catalog, asked.features) == _view(into.catalog, asked.features)
        pinned = self._pinned.get(key)
        reader = self._by_request.get(key) if pinned is None else pinned[0]
        if plan != asked.plan or not same_view or reader is None:
            return False
        with suppress(StoreUnavailableError):  # it is as right as it was; so where the online store could not be asked
            if into._check(into.catalog, asked.features, plan).lost:
                return False
        into._add(key, asked, reader, () if pinned is None else pinned[1])
        return True

    def _made(self, key: Any, asked: _Asked) -> OnlineReader | PreparedReader:
        began = self._clock()
        features, full_feature_names = asked.features, asked.full_feature_names
        prepares = preparation(
            self._parts,
            self.catalog,
            features,
            training_dataset=asked.training_dataset,
            transform=asked.transform,
        )
        if prepares is not None and full_feature_names:
            raise RequestError("features that are prepared for a model have the names that they were trained with")
        request = resolve(self.catalog, features)
        plan = _plan(self._parts, self.catalog, request, full_feature_names=full_feature_names)
        doubt = self._check(self.catalog, features, plan)
        store = doubted_store(self._parts, doubt) if doubt else self._parts.online
        runnable = replace(plan, computed=with_functions(self._parts, plan.computed))
        reader: OnlineReader | PreparedReader = OnlineReader(runnable, store)
        if prepares is not None:
            reader = prepared_reader(OnlineReader(runnable, store), prepares)
        if doubt:
            self._doubt(key, replace(asked, plan=plan), reader, began, is_known=not doubt.unknown)
        else:
            self._add(key, replace(asked, plan=plan), reader, _pins(request))
        return reader

    def _check(self, catalog: Catalog, features: Any, plan: ReadPlan) -> Doubt:
        """Refuse groups that have history of which nothing was loaded online. Returns why some may not be read."""
        latest = {item.source for item in resolve(catalog, features).selections if item.version is None}
        groups = [catalog.group(group.group) for group in plan.groups]
        return _check_loaded(self._parts, groups, latest)

    def _add(self, key: Any, asked: _Asked, reader: OnlineReader | PreparedReader, pins: Pins) -> None:
        self._note(key, asked)
        if pins:
            self._pinned[key] = reader, pins
        else:
            self._by_request[key] = reader

    def _doubt(
        self, key: Any, asked: _Asked, reader: OnlineReader | PreparedReader, began: float, *, is_known: bool
    ) -> None:
        """Keep a reader that may not read all of its groups for a while, longer each time that nobody could say why.

        Args:
            began: when it was begun to be made, by the clock.
            is_known: whether it is known what was loaded.
        """
        before, now = self._note(key, asked), self._clock()
        pause = DOUBT_SECONDS if is_known or before is None else 2 * before.pause
        pause = min(max(pause, (now - began) / _LOOKING_SHARE), LONGEST_DOUBT_SECONDS)
        self._doubted[key] = _Doubted(reader, now + pause, pause)

    def _note(self, key: Any, asked: _Asked) -> _Doubted | None:
        """Take note of a request whose reader was made. Returns the doubted one in whose place it comes, if any."""
        if len(self._asked) >= self.LIMIT:
            for kept in (self._by_request, self._pinned, self._doubted, self._asked):
                kept.clear()
        self._asked[key] = asked
        return self._doubted.pop(key, None)


def prepared_reader(reader: OnlineReader, prepares: Preparation) -> PreparedReader:
    """A reader whose features are prepared. What these are is told by an empty answer."""
    from grange.serving.prepared import PreparedReader
    from grange.verbs.training.spines import schema_of

    nothing = reader.read([], 0)
    features = [name for name, role in nothing.roles.items() if role == "feature"]
    return PreparedReader(reader, prepares(schema_of(nothing.to_arrow().select(features))))


def read_plan(parts: Parts, catalog: Catalog, features: Any, *, full_feature_names: bool) -> ReadPlan:
    """The plan of an online read. Raises what `Readers.get` does, save for what is not loaded."""
    return _plan(parts, catalog, resolve(catalog, features), full_feature_names=full_feature_names)


def check_pins(parts: Parts, pins: Pins) -> None:
    """Check that pinned versions are what is served: the online store holds the rows of one version, the last loaded,
    and what was pushed since.

    Raises:
        UnknownVersionError: there is no such version.
        UnsupportedError: it is not the one loaded, or rows were pushed since.
    """
    for group, version in pins:
        versions = parts.offline.versions(group)
        if version not in versions:
            raise UnknownVersionError(
                f"feature group {group!r} has no version {version}",
                found=", ".join(versions) or "no versions",
                closest=closest_names(version, versions),
                try_=f"grange versions {group}",
            )
        run = _last_load(parts, group)
        loaded = None if run is None else run.version
        pushed = parts.offline.next_pushed(group) > parts.offline.meta(group, version).pushed_through
        if version != loaded or pushed:
            since = " and rows pushed since" if loaded is not None and pushed else ""
            raise UnsupportedError(
                f"version {version} of feature group {group!r} is not what is served: an online store holds the latest "
                "state alone",
                found="nothing that was loaded" if loaded is None else f"the rows of version {loaded}{since}",
                try_=f"leave the version out online; get_historical_features reads {group}@{version}",
                details={"group": group, "version": version, "loaded": loaded, "pushed_since": pushed},
            )


def _plan(parts: Parts, catalog: Catalog, asked: Request, *, full_feature_names: bool) -> ReadPlan:
    pins = _pins(asked)
    check_pins(parts, pins)
    metas = {pin: parts.offline.meta(*pin) for pin in pins}
    stored: dict[tuple[str, str | None], Layout] = {pin: layout_of(meta) for pin, meta in metas.items()}
    bound = bind(catalog, asked, stored, labels=False, full_feature_names=full_feature_names)
    for group in dict.fromkeys(feature.group for feature in bound.features):
        _check_served(group, asked.name)
    return plan_read(asked, bound, store=parts.online_name)


def _pins(asked: Request) -> Pins:
    pins = ((item.source, item.version) for item in asked.selections)
    return tuple(dict.fromkeys((group, version) for group, version in pins if version is not None))


def _view(catalog: Catalog, features: Any) -> FeatureView | None:
    """The applied view that is asked for by its name."""
    return catalog.views.get(features) if isinstance(features, str) else None


def _check_served(group: FeatureGroup, asked_by: str) -> None:
    if not group.online:
        raise UnsupportedError(
            f"feature group {group.name!r} is not served online: its definition says online=False",
            asked_by=asked_by,
            try_=f"set online=True, then grange apply and grange materialize {group.name}",
        )


def doubted_store(parts: Parts, doubt: Doubt) -> DoubtedStore:
    """The online store, as far as it may be read."""
    store = parts.online

    def tell(error: StateLostError) -> None:
        if isinstance(store, GuardedOnlineStore):
            store.is_lost(error)

    return DoubtedStore(store, doubt, name=parts.online_name, on_lost=tell)


def lost_groups(parts: Parts, groups: Iterable[FeatureGroup]) -> tuple[FeatureGroup, ...]:
    """The groups whose online state is lost, all or a part: the runs say that rows were loaded, and the store does not
    have them.

    Raises:
        StoreUnavailableError: the store or the registry cannot be reached.
    """
    there = held(parts.online.info(), parts.online_name)
    missing = [group for group in groups if group.online and OnlineState.of(group, parts.online_name) not in there]
    lost = [group for group in missing if loaded_rows(parts.registry, OnlineState.of(group, parts.online_name))]
    there = held(parts.online.info(), parts.online_name) if lost else there  # what was loaded meanwhile is no loss
    return tuple(group for group in lost if OnlineState.of(group, parts.online_name) not in there)


def _check_loaded(parts: Parts, groups: Sequence[FeatureGroup], latest: Collection[str]) -> Doubt:
    """Refuse groups that have history of which nothing was loaded online. A group that nobody pushed to yet, or whose
    load had no rows, has none online either, and rightly so.

    Returns which groups may not be read, as their rows are lost, or nobody can say whether they are: that is told by
    the read, as the view's policy has it (ONL-6).

    Raises:
        UnsupportedError: names the group.
        StoreUnavailableError: history cannot be reached.
    """
    try:
        there = held(parts.online.info(), parts.online_name)
    except StoreUnavailableError as error:
        return Doubt(outage=error)
    lost: set[tuple[str, str]] = set()
    unknown: dict[tuple[str, str], StoreUnavailableError] = {}
    for group in groups:
        is_held = OnlineState.of(group, parts.online_name) in there
        # a pinned version is read with its own columns
        if is_held and group.name in latest and parts.offline.versions(group.name):
            _check_types(group, current_layout(group, parts.offline.meta(group.name)).features)
        try:
            if is_held:
                _check_whole(parts, group)
            elif _is_lost(parts, group):
                lost.add((group.key_space, group.name))
        except StoreUnavailableError as error:
            unknown[group.key_space, group.name] = error
    return Doubt(unknown=unknown, lost=lost)


def _check_whole(parts: Parts, group: FeatureGroup) -> None:
    """Refuse a group whose state lacks a part of what was pushed. That it is lost its reads tell.

    Raises:
        UnsupportedError: names the group.
        StoreUnavailableError: a store cannot be reached.
    """
    with suppress(StateLostError):
        if group.aggregations and is_behind(parts, group):
            raise _lacks_pushes(group)


def _is_lost(parts: Parts, group: FeatureGroup) -> bool:
    """Whether rows were loaded of a group that has none online, and the store does not know that itself.

    Raises:
        UnsupportedError: none were, and it has history.
        StoreUnavailableError: a store or the registry cannot be reached.
    """
    if not parts.offline.versions(group.name) and parts.offline.next_pushed(group.name) == PUSHED_FROM:
        return False
    if loaded_rows(parts.registry, OnlineState.of(group, parts.online_name)):
        return not _tells_loss(parts, group)
    if _has_more(parts, group):
        raise UnsupportedError(
            f"feature group {group.name!r} has history, and nothing of it was loaded into the online store",
            found=f"{_history_of(parts, group.name)}; no rows in {parts.online_name!r}",
            try_=f"grange materialize {group.name}",
        )
    return False


def _lacks_pushes(group: FeatureGroup) -> UnsupportedError:
    return UnsupportedError(
        f"feature group {group.name!r} was pushed to, and its online state lacks a part of that",
        found="pushes while it was not served online, or one that was cut off",
        try_=f"grange materialize {group.name}",
    )


def _tells_loss(parts: Parts, group: FeatureGroup) -> bool:
    """Whether the store knows itself what it lost of a group, so that its reads say so, and no more when it is back; or
    has it by now."""
    try:
        if group.aggregations:
            from grange.serving.windows import describe

            return parts.online.read_cells(group.key_space, group.name, describe) is not None
        return bool(parts.online.rows(group.key_space, group.name, limit=1))
    except StateLostError:
        return True


def _has_more(parts: Parts, group: FeatureGroup) -> bool:
    """Whether a group of which no rows were loaded should have some online: a version that was not loaded; pushed rows
    of which it is not known that they were written. A push may be of rows that are not due."""
    number = parts.offline.next_pushed(group.name)
    if parts.offline.versions(group.name):
        meta, run = parts.offline.meta(group.name), _last_load(parts, group.name)
        if meta.row_count and (run is None or run.details["online_rows"]):
            return True
        if number <= meta.pushed_through:
            return False
    elif number == PUSHED_FROM:
        return False
    return bool(group.aggregations) or number not in reached_online(parts.registry, group.name)


def _history_of(parts: Parts, group: str) -> str:
    if not parts.offline.versions(group):
        return "pushed rows"
    return f"version {parts.offline.meta(group).version}"


def _check_types(group: FeatureGroup, stored: Schema) -> None:
    """Refuse a group whose columns changed their type since its rows were stored: history reads them in the old type,
    and what lies online is not of the new one.

    Raises:
        UnsupportedError: names the column and both types.
    """
    for column in group.features():
        before = stored.get(column.name)
        if before is not None and before != column.dtype and not (before.is_integer and column.dtype.is_integer):
            raise UnsupportedError(
                f"feature group {group.name!r}: column {column.name!r} is stored as {before} and defined as "
                f"{column.dtype}",
                try_=f"grange materialize {group.name}",
            )


def _last_load(parts: Parts, group: str) -> Run | None:
    """The newest run that loaded a version of a group online, if what it loaded is still there."""
    return last_load(parts.registry, group)


def _hashable(features: Any) -> Any:
    """What was asked for as values that a dict takes as key.

    Raises:
        RequestError: something that names no features.
    """
    items = features if isinstance(features, Sequence) else [features]
    return tuple(item if isinstance(item, FeatureView) else as_selection(item) for item in items)
