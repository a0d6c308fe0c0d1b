"""What lets rows through, and so tells of values without showing any (SEC-6, SEC-10).

A row that comes says that a condition holds of it. Who wrote the condition decided that this may be known; who may not
see a value decides nothing of the kind: neither by a filter of their own, nor by what they bring for one to compare it
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grange.access.changes import Changed, makes_values_otherwise
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.sources import DerivedSource
from grange.security.policies import VALUE_ACTIONS, Action
from grange.verbs.apply import users_of
from grange.verbs.derive import children_of, parents_of
from grange.verbs.origins import Ancestry, comparisons

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.verbs.origins import Origin
    from grange.verbs.parts import Parts


_OF_VIEWS: Final[frozenset[Action]] = frozenset({"historical"})
"""Where a view's filter leaves rows out; files of it are nobody's of whom anything of it is hidden."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """Something that leaves rows out, and what it looks at to do so."""

    what: str
    """For messages: `the filter of feature view 'churn'`."""
    origins: tuple[Origin, ...]
    actions: frozenset[Action] = VALUE_ACTIONS
    """In which rows come by it."""
    opened: tuple[str, ...] = ()
    """The groups that it looks at whose columns are not known yet: it is taken to look at all that there is."""


def callers_own(parts: Parts, catalog: Catalog, features: Any, ancestry: Ancestry) -> tuple[Origin, ...]:
    """What the caller of a request would learn of by which rows come: of a view that is not the applied one, all that
    its filter looks at; else what its filter compares with columns that the request brings."""
    own = isinstance(features, FeatureView) and catalog.views.get(features.name) != features
    found = comparisons(parts, catalog, features, ancestry=ancestry)
    return tuple(dict.fromkeys(origin for item in found if own or item.is_brought for origin in item.origins))


def new_sieves(parts: Parts, before: Ancestry, now: Catalog, after: Changed) -> Iterator[Sieve]:
    """What would leave rows out, and does not yet in this way.

    Args:
        parts: the opened backends.
        before: what the features of today are made of.
        now: the definitions of today.
        after: as they would be.
    """
    above = Ancestry(parts, after.catalog, after.opened)
    groups = [item for item in after.given if isinstance(item, FeatureGroup)]
    otherwise = {group.name for group in groups if makes_values_otherwise(now.groups.get(group.name), group)}
    reached = _reached(now, after)
    for view in after.catalog.views.values():
        if view.filter and view.name in reached:
            yield from _of_view(parts, (now, before), (after, above), view, otherwise)
    for group in after.catalog.groups.values():
        if group.name in reached:
            yield from _of_rows(group, (after, above), otherwise)
            yield from _of_expectations(now.groups.get(group.name), group, above, otherwise)


def _reached(now: Catalog, after: Changed) -> set[str]:
    """The groups and views that are changed, or that take, through others too, from what is."""
    held = {**now.groups, **now.views}
    kinds = (FeatureGroup, FeatureView)
    names = [item.name for item in after.given if isinstance(item, kinds) and held.get(item.name) != item]
    reached, waiting = set(names), names
    while waiting:
        name = waiting.pop()
        users = (*children_of(after.catalog, name), *users_of(after.catalog, name))
        waiting += [user for user in users if user not in reached]
        reached.update(users)
    return reached


def _of_view(
    parts: Parts,
    before: tuple[Catalog, Ancestry],
    after: tuple[Changed, Ancestry],
    view: FeatureView,
    otherwise: Set[str],
) -> Iterator[Sieve]:
    """What the filter of a view asks that it does not ask now: it was changed, or what it looks at is."""
    what = f"the filter of feature view {view.name!r}"
    catalog = after[0].catalog
    taken = dict.fromkeys(item.selection.source for item in catalog.taken_by(view))
    taken |= dict.fromkeys(item.source for item in view.label_features)
    opened = tuple(name for name in taken if name in after[0].opened)
    held = before[0].views.get(view.name)
    if opened and (held is None or _asked(before[0], held) != _asked(catalog, view)):
        yield Sieve(what, (*after[1].of_groups(taken), *before[1].of_groups(taken)), _OF_VIEWS, opened)
        return
    known = () if held is None else comparisons(parts, before[0], held, ancestry=before[1])
    if opened:  # it looks at what it did, or at something of the groups that are changed
        yield Sieve(what, after[1].of_groups(otherwise & taken.keys() | {*opened}), _OF_VIEWS)
    for item in known if opened else comparisons(parts, catalog, view, ancestry=after[1]):
        if item not in known or any(group in otherwise for group, _ in item.origins):
            yield Sieve(what, item.origins, _OF_VIEWS)


def _asked(catalog: Catalog, view: FeatureView) -> tuple[Any, ...]:
    """Which columns the filter of a view looks at, by their names."""
    return view.filter, catalog.taken_by(view), catalog.computed(view), view.label_rules


def _of_rows(group: FeatureGroup, after: tuple[Changed, Ancestry], otherwise: Set[str]) -> Iterator[Sieve]:
    """What would decide which rows a derived group has, and does not now: it was changed, or what it is made of is."""
    if not isinstance(group.source, DerivedSource):
        return
    deciding = after[1].of_rows(group.name)
    if group.name in otherwise or any(name in otherwise for name, _ in deciding):
        opened = tuple(name for name in parents_of(group) if name in after[0].opened)
        yield Sieve(f"feature group {group.name!r}", deciding, opened=opened)


def _of_expectations(
    before: FeatureGroup | None, group: FeatureGroup, above: Ancestry, otherwise: Set[str]
) -> Iterator[Sieve]:
    """Checks that would keep out other rows than now, or count others: they were changed, or what they look at is."""
    held = {} if before is None else dict(before.expectations)
    for column, checks in group.expectations:
        looked_at = above.of(group.name, column)
        if held.get(column) != checks or any(name in otherwise for name, _ in looked_at):
            yield Sieve(f"the expectations of feature group {group.name!r}", looked_at)
