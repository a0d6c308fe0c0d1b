"""Labels: what a model predicts, and when it becomes known."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal, get_args

from grange.definitions.references import FeatureSelection, as_selection
from grange.errors import DefinitionError
from grange.types import format_duration, parse_duration
from grange.types.names import check_column

Observed = Literal["at_maturity", "at_event"]


@dataclass(frozen=True, slots=True, init=False)
class Label:
    """A label that becomes known some time after the event it is about.

    >>> str(Label("orders:amount__sum__30d", after="30d"))
    'orders:amount__sum__30d after 30d'

    Time:
        A row at `t` has its label once `t + after <= now`; before that it is null, and a training dataset leaves the
        row out. `now` is the moment of the request, or of the training dataset.

    Args:
        name: a column of the spine, or a feature: `"group:feature"`.
        after: how long after the event it is known; zero is at once.
        observed: of a feature, when it is looked at. `at_maturity`: at `t + after`, so that a window of 30 days seen
            30 days later is what happened after the event. `at_event`: at `t`, for groups whose rows lie at the time
            of the event and are written later.

    Raises:
        DefinitionError: not exactly one feature, a negative length, or a column of the spine that is to be observed.
    """

    name: str
    after: dt.timedelta
    observed: Observed

    def __init__(
        self, name: str, *, after: str | dt.timedelta = dt.timedelta(0), observed: Observed = "at_maturity"
    ) -> None:
        check_column(name, what="label")
        what = f"label {name!r}"
        length = dt.timedelta(0) if after in ("0", dt.timedelta(0)) else parse_duration(after, what=f"after of {what}")
        if observed not in get_args(Observed):
            raise DefinitionError(f"{what}: observed {observed!r} is none", try_=", ".join(get_args(Observed)))
        if ":" in name and len(as_selection(name).features) != 1:
            raise DefinitionError(f"{what} is not one feature", try_='"group:feature"')
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "after", length)
        object.__setattr__(self, "observed", observed)

    @property
    def selection(self) -> FeatureSelection | None:
        """The feature it is; None for a column of the spine."""
        return as_selection(self.name) if ":" in self.name else None

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"name": self.name, "after": format_duration(self.after), "observed": self.observed}

    def __str__(self) -> str:
        return f"{self.name} after {format_duration(self.after)}" if self.after else self.name


def as_label(item: object, *, what: str) -> Label:
    """A label from what people write.

    Raises:
        DefinitionError: neither a name nor a label.
    """
    if isinstance(item, Label):
        return item
    if isinstance(item, str):
        return Label(check_column(item, what=what))
    raise DefinitionError(
        f"{what}: {item!r:.80} is no label", found=type(item).__name__, try_='"churned", "group:feature" or gr.Label()'
    )
