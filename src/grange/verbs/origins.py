"""origins: which stored features each column of an answer is made of. What policies go by.

A derived group's features are stored, and made of its parents': these are origins too, and what they are made of in
turn. How is read off the definitions. Where a derived group has a transform, each of its columns is taken to be made of
everything that its source takes: code is not looked into to find out who may see what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.expression_nodes import Call, Node, columns_of, write
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import DerivedSource
from grange.errors import CorruptStoreError, UnknownVersionError
from grange.plan.bind import Bound, Layout, Request, bind, resolve
from grange.plan.nodes import Computed
from grange.ports.datasets import DatasetMeta
from grange.ports.offline import NEVER_MATERIALIZED, VersionMeta
from grange.types.aggregates import ROWS
from grange.verbs.derive import parents_of, request_of
from grange.verbs.history import layout_of
from grange.verbs.parts import Parts
from grange.verbs.training.keeping import catalog_of_dataset

Origin = tuple[str, str]
"""(feature group, feature); "" is the group as a whole."""
MadeOf = Mapping[str, tuple[Origin, ...]]
"""By column, what it is made of."""


def origins(
    parts: Parts,
    catalog: Catalog,
    features: Any,
    *,
    labels: bool,
    full_feature_names: bool = False,
    ancestry: Ancestry | None = None,
) -> MadeOf:
    """By column of the answer, the stored features that it is made of, through whatever is computed in between, and
    through the groups that its groups are derived from.

    Columns that the answer does not show, for they are only there for others to be made of, are among them too: under
    no name that a column can have, so that what is read is all here.

    Args:
        parts: the opened backends.
        catalog: the definitions.
        features: what is asked for.
        labels: whether labels are read too.
        full_feature_names: how columns are named.
        ancestry: of this catalog, where there is one already.

    Raises:
        UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, UnknownVersionError, RequestError.
    """
    asked = resolve(catalog, features)
    pins = _pins(parts, asked)
    bound = bind(catalog, asked, _layouts(pins), labels=labels, full_feature_names=full_feature_names)
    return _named(bound, ancestry or Ancestry(parts, catalog), pins)


def origins_of_dataset(parts: Parts, catalog: Catalog, meta: DatasetMeta) -> MadeOf:
    """What a training dataset was made of: by its view, its groups and its versions as they were then.

    Args:
        parts: the opened backends.
        catalog: the definitions of today, for groups that those of then are derived from.
        meta: the training dataset's.

    Raises:
        CorruptStoreError: what is kept of it cannot be read.
    """
    try:
        then = catalog.merged(catalog_of_dataset(meta))
    except (KeyError, TypeError) as error:
        raise CorruptStoreError(
            f"what training dataset {meta.view}#{meta.version} is made of cannot be read", found=repr(error)
        ) from error
    asked = resolve(then, then.view(meta.view))
    read = [(pin.group, pin.version) for pin in meta.pins if pin.version != NEVER_MATERIALIZED]
    pins: _Pins = {(group, None): parts.offline.meta(group, version) for group, version in read}
    pins |= _pins(parts, asked)
    bound = bind(then, asked, _layouts(pins), labels=True, full_feature_names=False)
    return _named(bound, Ancestry(parts, then), pins)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A part of a view's filter that is neither AND, OR nor NOT: rows come, or do not, by whether it holds. Equal ones
    ask the same of the same columns."""

    condition: str
    """It as text, with the names that columns have in the view."""
    stored: tuple[tuple[str, str], ...]
    """The stored features that it looks at, itself or by what is computed of them: name, and which one that is."""
    computed: tuple[Computed, ...]
    """What is computed for it."""
    origins: tuple[Origin, ...]
    """Everything that it is made of."""
    is_brought: bool
    """Whether it looks at something that the request brings, too: a column of the spine, a request column; or at stored
    features that are found by different keys, for then the request chooses which of them meet."""


def comparisons(
    parts: Parts, catalog: Catalog, features: Any, *, ancestry: Ancestry | None = None
) -> tuple[Comparison, ...]:
    """What decides which rows of history a view has; nothing where it has no filter.

    Args:
        parts: the opened backends.
        catalog: the definitions.
        features: what is asked for; a list of references has no filter.
        ancestry: of this catalog, where there is one already.

    Raises:
        what `origins` does.
    """
    asked = resolve(catalog, features)
    if not asked.filter:
        return ()
    from grange.definitions.expressions import parse_condition

    pins = _pins(parts, asked)
    bound = bind(catalog, asked, _layouts(pins), labels=True, full_feature_names=False)
    named = _named(bound, ancestry or Ancestry(parts, catalog), pins)
    made_of = {name.removeprefix("\0"): of for name, of in named.items()}
    whole = parse_condition(asked.filter, what=f"{asked.name}: filter")
    return tuple(_comparison(bound, made_of, part) for part in _compared(whole.root))


def _compared(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function in ("and", "or", "not"):
        for part in node.arguments:
            yield from _compared(part)
    else:
        yield node


def _comparison(bound: Bound, made_of: MadeOf, part: Node) -> Comparison:
    stored = {item.name: item for item in bound.features}
    computed = {name: item for item in bound.computed for name, _ in item.outputs}
    columns = [bound.names[name][0] if name in bound.names else name for name in columns_of(part)]
    seen: dict[str, None] = {}
    waiting = list(columns)
    while waiting:
        name = waiting.pop()
        if name not in seen and name in computed:
            waiting += [each for _, each, _ in computed[name].inputs]
        seen[name] = None
    looked_up = {frozenset(column for column, _ in stored[name].keys) for name in seen if name in stored}
    return Comparison(
        write(part),
        tuple((name, str(stored[name])) for name in seen if name in stored),
        tuple(item for item in bound.computed if any(name in seen for name, _ in item.outputs)),
        tuple(dict.fromkeys(origin for name in columns for origin in made_of.get(name, ()))),
        len(looked_up) > 1 or any(name not in stored and name not in computed for name in seen),
    )


def groups_asked(catalog: Catalog, features: Any, *, labels: bool) -> tuple[str, ...]:
    """The feature groups that a request names, itself or by the views that it names. Raises as `origins`."""
    asked = resolve(catalog, features)
    every = (*asked.selections, *(asked.label_features if labels else ()))
    return tuple(dict.fromkeys(item.source for item in every))


class Ancestry:
    """What the stored features of one state of the definitions are made of. Safe for several threads.

    Args:
        parts: the opened backends: a pinned version of a parent has columns of its own.
        catalog: the definitions.
        opened: those of the groups whose columns are not known yet. What is derived of one is taken to be made of all
            that its parents have.
    """

    def __init__(self, parts: Parts, catalog: Catalog, opened: Set[str] = frozenset()) -> None:
        self._parts = parts
        self._catalog = catalog
        self._opened = opened
        self._made_of: dict[str, MadeOf] = {}

    def of(self, group: str, feature: str = "") -> tuple[Origin, ...]:
        """A feature and everything that it is made of; without one, its group and the groups that it is derived from.

        A column that a derived group does not make by its definition, for it made it once, is taken to be made of all
        that its parents have.
        """
        parents = self._parents(group)
        if not feature:
            above = [origin for parent in parents for origin in self.of(parent)]
        elif not parents:
            above = []
        else:
            made_of = self._columns(group)
            above = [*(made_of[feature] if feature in made_of else self._everything(parents))]
        return tuple(dict.fromkeys(((group, feature), *above)))

    def of_version(self, meta: VersionMeta, feature: str) -> tuple[Origin, ...]:
        """The same of a column of a version. One that is made otherwise today, or not at all, is taken to be made of
        all that its parents of then have."""
        recorded = dict(meta.parents)
        if not feature:
            above = (origin for parent in recorded for origin in self.of(parent))
            return tuple(dict.fromkeys((*self.of(meta.name), *above)))
        group = self._catalog.groups.get(meta.name)
        known = feature in self._columns(meta.name) if recorded and group is not None else False
        if not recorded or (known and set(recorded) <= set(self._parents(meta.name))):
            return self.of(meta.name, feature)
        return tuple(dict.fromkeys((*self.of(meta.name, feature), *self._everything(recorded))))

    def of_groups(self, groups: Iterable[str]) -> tuple[Origin, ...]:
        """All that some groups have, and what it is made of."""
        return tuple(dict.fromkeys(self._everything(groups)))

    def of_rows(self, group: str) -> tuple[Origin, ...]:
        """What decides which rows a derived group has of those that its parents have: what its filter looks at; with a
        transform, all that its source takes."""
        definition = self._catalog.groups[group]
        assert isinstance(definition.source, DerivedSource)
        if self._is_of_opened(definition):
            decides = definition.transform is not None or definition.source.filter
            return self.of_groups(self._parents(group)) if decides else ()
        raw = self._raw(definition)
        deciding = raw if definition.transform is not None else _conditions(definition.source.filter)
        return tuple(dict.fromkeys(origin for column in deciding for origin in raw.get(column, ())))

    def _parents(self, group: str) -> tuple[str, ...]:
        found = self._catalog.groups.get(group)
        return () if found is None else parents_of(found)

    def _columns(self, group: str) -> MadeOf:
        """By column that a group makes of its parents, what it is made of."""
        known = self._made_of.get(group)
        if known is None:
            definition = self._catalog.groups[group]
            is_told = isinstance(definition.source, DerivedSource) and not self._is_of_opened(definition)
            known = self._made_of[group] = dict(self._derived(definition)) if is_told else {}
        return known

    def _is_of_opened(self, group: FeatureGroup) -> bool:
        """Whether a parent of a group has columns that are not known yet."""
        return not self._opened.isdisjoint(parents_of(group))

    def _raw(self, group: FeatureGroup) -> MadeOf:
        """By column that a derived group takes of its parents, what that is made of."""
        asked = request_of(self._catalog, group)
        pins = _pins(self._parts, asked)
        bound = bind(self._catalog, asked, _layouts(pins), labels=False, full_feature_names=False)
        return _named(bound, self, pins)

    def _derived(self, group: FeatureGroup) -> Iterator[tuple[str, tuple[Origin, ...]]]:
        raw = self._raw(group)
        every = tuple(dict.fromkeys(origin for made_of in raw.values() for origin in made_of))
        columns = dict.fromkeys((*group.schema.names, *group.features().names))
        if group.transform is not None:
            yield from ((name, every) for name in columns)
            return
        assert isinstance(group.source, DerivedSource)
        deciding = _conditions(group.source.filter)
        for name in columns:
            taken = (*_aggregated(group, name), *deciding)
            yield name, tuple(dict.fromkeys(origin for column in taken for origin in raw.get(column, ())))

    def _everything(self, groups: Iterable[str]) -> Iterator[Origin]:
        """All that some groups have, as they are defined, and as they are stored."""
        for name in groups:
            definition = self._catalog.groups.get(name)
            own = () if definition is None else definition.features().names
            stored: tuple[str, ...] = ()
            with suppress(UnknownVersionError, CorruptStoreError):
                stored = layout_of(self._parts.offline.meta(name)).features.names
            for feature in dict.fromkeys(("", *own, *stored)):
                yield from self.of(name, feature)
            if name in self._opened:  # it will have others, made of anything that its parents have
                yield from self._everything(self._parents(name))


_Pins = dict[tuple[str, str | None], VersionMeta]
"""By (group, version; None where the request names none), the version that is read."""


def _pins(parts: Parts, asked: Request) -> dict[tuple[str, str | None], VersionMeta]:
    """The versions that a request pins."""
    every = (*asked.selections, *asked.label_features)
    pins = dict.fromkeys((item.source, item.version) for item in every if item.version)
    return {(group, version): parts.offline.meta(group, version) for group, version in pins}


def _layouts(pins: _Pins) -> dict[tuple[str, str | None], Layout]:
    return {pin: layout_of(meta) for pin, meta in pins.items()}


def _named(bound: Bound, ancestry: Ancestry, pins: _Pins) -> MadeOf:
    """By column of what is bound, its origins; see `origins`."""
    made_of: dict[str, tuple[Origin, ...]] = {}
    for item in bound.features:
        meta = pins.get((item.group.name, item.selection.version))
        stored = ancestry.of(item.group.name, item.column) if meta is None else ancestry.of_version(meta, item.column)
        made_of[item.name] = stored
    for computed in bound.computed:
        of = tuple(dict.fromkeys(each for _, name, _ in computed.inputs for each in made_of.get(name, ())))
        made_of |= {name: of for name, _ in computed.outputs}
    shown = set(bound.columns)
    return {name if name in shown else f"\0{name}": of for name, of in made_of.items()}


def _aggregated(group: FeatureGroup, feature: str) -> tuple[str, ...]:
    """The columns of a group's rows that a feature of it is made of: itself, where it is a column."""
    for item in group.aggregates():
        if item.name == feature:
            own = [item.column, item.by, group.retracted, group.event_id]
            return (*(column for column in own if column and column != ROWS), *_conditions(item.filter or ""))
    return (feature,)


def _conditions(text: str) -> tuple[str, ...]:
    """The columns that decide which rows count."""
    if not text:
        return ()
    from grange.definitions.expressions import parse_condition  # a parser that others do without

    return tuple(parse_condition(text, what="filter").columns)
