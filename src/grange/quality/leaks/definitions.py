"""Leaks that definitions alone give away. Pure; reads no rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from grange.definitions.catalog import Catalog, Taken
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import stored_inputs
from grange.quality.leaks.codes import Severity
from grange.quality.leaks.leak import Leak
from grange.quality.leaks.uses import Span, Use
from grange.types.durations import to_micros


def check_definitions(catalog: Catalog, views: Iterable[str] | None = None) -> tuple[Leak, ...]:
    """The leaks of feature views, view by view in the catalog's order.

    Finds LEAK-001, LEAK-002 and LEAK-003; one leak per code, feature group and label, with all of its features.

    Args:
        catalog: definitions that fit together (`Catalog.check`). A group without a schema is looked at as far as its
            aggregations and the selections name its features.
        views: only these; None is all.

    Raises:
        UnknownFeatureViewError: a name in `views` that is none.
        UnknownFeatureGroupError, CyclicDefinitionError, DefinitionError: as `Catalog.taken_by`.
    """
    chosen = catalog.views.values() if views is None else map(catalog.view, views)
    return tuple(leak for view in chosen for leak in check_view(catalog, view))


def check_view(catalog: Catalog, view: FeatureView) -> tuple[Leak, ...]:
    """The leaks of one feature view, applied or not. As `check_definitions`."""
    features = [use for taken in catalog.taken_by(view) for use in _uses(catalog, taken)]
    labels = [
        (use, to_micros(rule.after) if rule.observed == "at_maturity" else 0)
        for rule in view.label_rules
        if rule.selection is not None
        for use in _uses(catalog, Taken(rule.selection))
    ]
    found = [_against(use, label, after) for label, after in labels for use in features if use.of_events]
    found += [_by_name(use, label) for label in view.spine_labels for use in features]
    return tuple(_message(view, finding) for finding in _together(item for item in found if item is not None))


@dataclass(frozen=True, slots=True)
class _Finding:
    """Features of one group that tell about one label."""

    code: str
    severity: Severity
    group: str
    label: str
    features: tuple[str, ...]
    how: str
    """What the features do, as the end of a sentence: with the label in it."""


def _uses(catalog: Catalog, taken: Taken) -> list[Use]:
    group = catalog.group(taken.selection.source)
    aggregates = {item.name: item for item in group.aggregates()}
    stored = aggregates if group.aggregations else group.features().names
    names = taken.features_of(group, stored)
    # what is made on demand tells what it is made of
    chosen = dict.fromkeys(column for name in names for column in stored_inputs(group, name))
    return [Use.of(group, taken.selection, name, aggregates.get(name)) for name in chosen]


def _against(use: Use, label: Use, after: int) -> _Finding | None:
    """What a feature tells about a label that is a feature itself, looked at so many microseconds later."""
    if use.source != label.source or use.elsewhere or not _overlap(use, label, after):
        return None
    if not label.is_point and (use.keys != label.keys or _different_filters(use, label)):
        return None
    telling = label.counts_rows or _reads_column_of(use, label)
    shown = str(label)
    if label.is_point and telling and (use.group, use.feature) != (label.group, label.feature):
        how = f"the event that the label {shown} comes from"
        return _Finding("LEAK-001", "warning", use.group, shown, (str(use),), how)
    if not label.is_point and telling:
        how = f"events of the window of the label {shown}"
        return _Finding("LEAK-002", "warning", use.group, shown, (str(use),), how)
    if use.aggregate is not None and not telling and not (label.is_point and _counts_all_rows(use)):
        how = f"the rows that the label {shown} comes from, at its own time; is {{columns}} known by then?"
        return _Finding("LEAK-003", "notice", use.group, shown, (str(use),), how)
    return None


def _by_name(use: Use, label: str) -> _Finding | None:
    """What a feature tells about a label that the spine brings: all that is known of that one is its name."""
    if use.elsewhere or not use.sees_own_moment or not use.reads(label):
        return None
    how = f"{label!r} at the row's own time, and the spine's label has that name; are they the same events?"
    return _Finding("LEAK-003", "notice", use.group, label, (str(use),), how)


def _reads_column_of(use: Use, label: Use) -> bool:
    columns = (label.feature,) if label.aggregate is None else label.aggregate.columns
    return any(use.reads(column) for column in columns)


def _counts_all_rows(use: Use) -> bool:
    """Whether all it tells is that there was an event, which is known when it happens."""
    return use.counts_rows and use.aggregate is not None and use.aggregate.filter is None


def _different_filters(use: Use, label: Use) -> bool:
    """Whether both are filtered, and not alike: which events they share cannot be told."""
    filters = [item.aggregate.filter if item.aggregate is not None else None for item in (use, label)]
    return None not in filters and filters[0] != filters[1]


def _overlap(use: Use, label: Use, after: int = 0) -> bool:
    """Whether an event can be part of both values, the label's some time later.

    A boundary of `every` lies up to that length before the moment. Where both have the same boundaries it moves both
    windows alike; where only one has, that one's window can reach back so much further.
    """
    ours, theirs = use.span, label.span
    if label.is_point:  # the newest event there is: as far as is known, the one at the moment itself
        theirs = Span(theirs.low, True, theirs.low, True)
    if not _aligned(use, label, after):
        if label.is_point and _boundaries(use) is not None:
            return False  # sees the moment's own event on a boundary only
        ours, theirs = _reaching_back(ours, use), _reaching_back(theirs, label)
    return ours.overlaps(_later(theirs, after))


def _aligned(use: Use, label: Use, after: int) -> bool:
    """Whether both have the same boundaries, or none, at their moments."""
    every = _boundaries(use)
    return every == _boundaries(label) and (every is None or after % every[0] == 0)


def _later(span: Span, after: int) -> Span:
    """The ages, at one moment, of the events that are of these ages some time later."""
    high = None if span.high is None else span.high - after
    return Span(span.low - after, span.low_closed, high, span.high_closed)


def _boundaries(use: Use) -> tuple[int, int] | None:
    aggregate = use.aggregate
    return None if aggregate is None or aggregate.every is None else (aggregate.every, aggregate.offset)


def _reaching_back(span: Span, use: Use) -> Span:
    every = None if use.aggregate is None else use.aggregate.every
    if every is None or span.high is None:
        return span
    return replace(span, high=span.high + every, high_closed=False)


def _together(findings: Iterable[_Finding]) -> list[_Finding]:
    """One finding per code, group and label."""
    merged: dict[tuple[str, str, str], _Finding] = {}
    for finding in findings:
        key = (finding.code, finding.group, finding.label)
        known = merged.get(key)
        features = (*(known.features if known else ()), *finding.features)
        merged[key] = replace(finding, features=tuple(dict.fromkeys(features)))
    return sorted(merged.values(), key=lambda finding: finding.code)


def _message(view: FeatureView, finding: _Finding) -> Leak:
    shown = _some(finding.features)
    one = len(finding.features) == 1
    how = finding.how.replace("{columns}", "it" if one else "each")
    return Leak(
        finding.code,
        finding.severity,
        f"feature view {view.name!r}: {shown} {'counts' if one else 'count'} {how}",
        group=finding.group,
        features=finding.features,
        label=finding.label,
        view=view.name,
    )


def _some(names: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


__all__ = ["check_definitions", "check_view"]
