"""FeatureView: what one model consumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from grange.definitions.references import FeatureSelection, as_selection
from grange.definitions.sources import RequestSource
from grange.definitions.values import freeze_tags
from grange.errors import DefinitionError
from grange.types.names import check_column, check_name

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression

OnError = Literal["raise", "default"]


@dataclass(frozen=True, slots=True, init=False)
class FeatureView:
    """What one model consumes: features of several groups, labels, and the columns each request must bring.

    Args:
        name: letters, digits and underscores; not that of a feature group.
        features: what to take: `"group"`, `"group:feature"`, `"group@1.0.0:feature"`, `("group", "1.0.0")`,
            a feature group or view itself, or `gr.select(...)` with other key columns, names or strict time.
            A view takes over all that view's features.
        labels: what the model predicts: columns of the spine, or features (`"group:feature"`), which are
            joined into training data and never served. A spine without its labels is fine: batch inference asks
            with the same view. A group that is selected whole leaves out what is a label.
        requests: request sources, whose columns every spine and request must bring.
        derived: by name, a SQL expression over the view's features and request columns, the same offline and online:
            `{"spend_per_day": "purchases_30d / NULLIF(days_since_signup, 0)"}`. May use those before it.
        exact: refuse features that are only exact at boundaries (`every=`, rollups).
        on_error: `raise`, or `default`: in an outage of the online store answer with defaults and nulls,
            marked degraded (ONL-6).
    """

    name: str
    features: tuple[FeatureSelection, ...]
    labels: tuple[str, ...]
    requests: tuple[RequestSource, ...]
    on_error: OnError
    derived: tuple[tuple[str, Expression], ...]
    exact: bool
    description: str
    owner: str
    tags: tuple[tuple[str, str], ...] = field(default=())

    def __init__(
        self,
        name: str,
        *,
        features: Sequence[Any],
        labels: Sequence[str] = (),
        requests: Sequence[RequestSource] | RequestSource = (),
        on_error: OnError = "raise",
        derived: Mapping[str, str] | None = None,
        exact: bool = False,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"feature view {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="feature view"))
        if isinstance(features, str):
            raise DefinitionError(f"{what}: features is a list", try_=f"features=[{features!r}]")
        if isinstance(features, Mapping) or not isinstance(features, Iterable):
            raise DefinitionError(
                f"{what}: features is a list",
                found=f"{features!r:.80} ({type(features).__name__})",
                try_='features=["group:feature", ...]',
            )
        set_(self, "features", tuple(as_selection(item) for item in features))
        if isinstance(labels, str):
            raise DefinitionError(f"{what}: labels is a list", try_=f"labels=[{labels!r}]")
        set_(self, "labels", tuple(check_column(label, what=what) for label in labels))
        set_(self, "requests", _requests(requests, what))
        set_(self, "on_error", on_error)
        set_(self, "derived", _derived(derived, what))
        set_(self, "exact", exact)
        set_(self, "description", description)
        set_(self, "owner", owner)
        set_(self, "tags", freeze_tags(tags, what=what))
        if not self.features:
            raise DefinitionError(f"{what} has no features", try_='features=["group:feature", ...]')
        if on_error not in get_args(OnError):
            raise DefinitionError(f"{what}: on_error {on_error!r} is not one of {', '.join(get_args(OnError))}")
        if len(set(self.labels)) != len(self.labels):
            raise DefinitionError(f"{what} names a label twice: {', '.join(self.labels)}")

    @property
    def label_features(self) -> tuple[FeatureSelection, ...]:
        """The labels that are features of groups."""
        return tuple(as_selection(label) for label in self.labels if ":" in label)

    @property
    def spine_labels(self) -> tuple[str, ...]:
        """The labels that the spine brings."""
        return tuple(label for label in self.labels if ":" not in label)


def _derived(given: Mapping[str, str] | None, what: str) -> tuple[tuple[str, Expression], ...]:
    if given is not None and not isinstance(given, Mapping):
        raise DefinitionError(
            f"{what}: derived is expressions by name", found=repr(given), try_='derived={"ratio": "a / NULLIF(b, 0)"}'
        )
    if not given:
        return ()
    from grange.definitions.expressions import parse_expression  # a parser that most views do without

    return tuple(
        (check_column(name, what=what), parse_expression(text, what=f"{what}: {name!r}"))
        for name, text in given.items()
    )


def _requests(given: object, what: str) -> tuple[RequestSource, ...]:
    sources = []
    for source in given if isinstance(given, Iterable) else [given]:
        if isinstance(source, RequestSource):
            sources.append(source)
        else:
            raise DefinitionError(
                f"{what}: requests must be request sources",
                found=f"{source!r:.80} ({type(source).__name__})",
                try_="requests=[gr.RequestSource('basket', schema={'total': 'float64'})]",
            )
    return tuple(sources)
