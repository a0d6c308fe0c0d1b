"""What a training dataset is asked to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import to_data, view_from_data
from grange.definitions.splits import RandomSplit, Split, parse_parts
from grange.errors import RequestError
from grange.quality.leaks import LeakPolicy


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to compute, and what to keep."""

    spine: Any
    event_time: str | None
    start: int | None
    """Inclusive, microseconds UTC; of a spine that is made."""
    end: int | None
    """Exclusive."""
    filter: str
    as_known: bool
    as_of: int
    """The moment at which labels are known or not, microseconds UTC."""
    engine: str | None
    split: Split | None
    write: bool
    format: str
    statistics: bool
    description: str
    leaks: LeakPolicy
    tags: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] | None = None
    """By part, its rows, where the spine is the rows of the parts one after another; else the split says it."""


def as_split(given: Split | Mapping[str, float] | str | Sequence[Any] | None) -> Split | None:
    """A split from what people write: a split, shares by part, or `"train:0.8,test:0.2"`; both are random by hash.

    Raises:
        DefinitionError: shares that do not sum to one, or names that are none.
        RequestError: something else.
    """
    if given is None or isinstance(given, Split):
        return given
    if isinstance(given, str):
        return RandomSplit(parse_parts(given))
    if isinstance(given, Mapping):
        return RandomSplit(given)
    raise RequestError(
        f"{given!r:.80} is no split",
        found=type(given).__name__,
        try_='{"train": 0.8, "test": 0.2}, gr.TimeSplit(...), gr.GroupedSplit(...), gr.KFold(5)',
    )


def view_name(view: object) -> str:
    """The name of a view, given as it is or by name.

    Raises:
        RequestError: something else.
    """
    if isinstance(view, FeatureView):
        return view.name
    if isinstance(view, str):
        return view
    raise RequestError(
        "a training dataset is of one feature view",
        found=f"{view!r:.80} ({type(view).__name__})",
        try_="apply a gr.FeatureView and name it",
    )


def as_text(value: object, *, what: str) -> str:
    """Text, or RequestError."""
    if isinstance(value, str):
        return value
    raise RequestError(f"{what} is text", found=f"{value!r:.80} ({type(value).__name__})")


def filtered(view: FeatureView, condition: str) -> FeatureView:
    """The view with one more condition on its rows."""
    if not condition:
        return view
    both = f"({view.filter}) AND ({condition})" if view.filter else condition
    return view_from_data(view.name, to_data(view) | {"filter": both})
