"""FeatureView: what one model consumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from grange.definitions.labels import Label, as_label
from grange.definitions.references import FeatureSelection, as_selection
from grange.definitions.sources import RequestSource
from grange.definitions.transformations import Step, as_steps, check_on_demand
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
            with the same view. A group that is selected whole leaves out what is a label. One that becomes known
            later is `gr.Label("churned", after="30d")`.
        requests: request sources, whose columns every spine and request must bring.
        derived: by name, a SQL expression over the view's features and request columns, the same offline and online:
            `{"spend_per_day": "purchases_30d / NULLIF(days_since_signup, 0)"}`. May use those before it.
        on_demand: features that are made when they are asked for, from features and request columns: transformations,
            or steps of them. They come before derived features, which may use them.
        transformations: what prepares the features for the model, in order: `[gr.standard_scaler("amount")]`. What
            they learn, they learn from the training split of a training dataset. What they make takes the place of
            features, and of no label, key, time, request column or helper.
        filter: a SQL condition over the columns of training data, the spine's among them; other rows are left out of
            history. Online every requested row is answered (ONL-4).
        training_helpers: features or columns of the spine that training data has and the model does not take.
        inference_helpers: features and request columns that vectors and training data have and the model does not take.
            A column is one kind of helper, and no join key.
        exact: refuse features that are only exact at boundaries (`every=`, rollups).
        on_error: `raise`, or `default`: in an outage of the online store answer with defaults and nulls,
            marked degraded (ONL-6).
    """

    name: str
    features: tuple[FeatureSelection, ...]
    label_rules: tuple[Label, ...]
    requests: tuple[RequestSource, ...]
    on_error: OnError
    derived: tuple[tuple[str, Expression], ...]
    exact: bool
    on_demand: tuple[Step, ...]
    transformations: tuple[Step, ...]
    filter: str
    training_helpers: tuple[str, ...]
    inference_helpers: tuple[str, ...]
    description: str
    owner: str
    tags: tuple[tuple[str, str], ...] = field(default=())

    def __init__(
        self,
        name: str,
        *,
        features: Sequence[Any],
        labels: Sequence[str | Label] = (),
        requests: Sequence[RequestSource] | RequestSource = (),
        on_error: OnError = "raise",
        derived: Mapping[str, str] | None = None,
        exact: bool = False,
        on_demand: Any = (),
        transformations: Any = (),
        filter: str = "",
        training_helpers: Sequence[str] = (),
        inference_helpers: Sequence[str] = (),
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
        if isinstance(labels, str | Label):
            raise DefinitionError(f"{what}: labels is a list", try_=f"labels=[{labels!r}]")
        set_(self, "label_rules", tuple(as_label(label, what=what) for label in labels))
        set_(self, "requests", _requests(requests, what))
        set_(self, "on_error", on_error)
        set_(self, "derived", _derived(derived, what))
        set_(self, "exact", exact)
        set_(self, "on_demand", as_steps(on_demand, what=what))
        set_(self, "transformations", as_steps(transformations, what=what))
        set_(self, "filter", _filter(filter, what))
        set_(self, "training_helpers", _names(training_helpers, "training_helpers", what))
        set_(self, "inference_helpers", _names(inference_helpers, "inference_helpers", what))
        set_(self, "description", description)
        set_(self, "owner", owner)
        set_(self, "tags", freeze_tags(tags, what=what))
        if not self.features:
            raise DefinitionError(f"{what} has no features", try_='features=["group:feature", ...]')
        if on_error not in get_args(OnError):
            raise DefinitionError(f"{what}: on_error {on_error!r} is not one of {', '.join(get_args(OnError))}")
        if len(set(self.labels)) != len(self.labels):
            raise DefinitionError(f"{what} names a label twice: {', '.join(self.labels)}")
        _check_roles(self, what)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model predicts: columns of the spine, and features."""
        return tuple(label.name for label in self.label_rules)

    @property
    def helpers(self) -> tuple[str, ...]:
        """What is there for training or inference and no input of the model."""
        return tuple(dict.fromkeys((*self.training_helpers, *self.inference_helpers)))

    @property
    def label_features(self) -> tuple[FeatureSelection, ...]:
        """The labels that are features of groups."""
        return tuple(as_selection(label) for label in self.labels if ":" in label)

    @property
    def spine_labels(self) -> tuple[str, ...]:
        """The labels that the spine brings."""
        return tuple(label for label in self.labels if ":" not in label)


def _filter(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise DefinitionError(f"{what}: filter is a SQL condition", found=repr(text), try_="filter=\"country = 'FR'\"")
    if text.strip():
        from grange.definitions.expressions import parse_condition  # a parser that most views do without

        parse_condition(text, what=f"{what}: filter")
    return text.strip()


def _names(given: object, option: str, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DefinitionError(f"{what}: {option} is a list", found=f"{given!r:.80}", try_=f"{option}=[...]")
    return tuple(dict.fromkeys(check_column(item, what=f"{what}: {option}") for item in given))


def _check_roles(view: FeatureView, what: str) -> None:
    """That a column is not a label and a helper, and that steps make each name once."""
    for name in view.helpers:
        if name in view.labels:
            raise DefinitionError(f"{what}: {name!r} is both a label and a helper column")
    derived = {name for name, _ in view.derived}
    check_on_demand(view.on_demand, derived | set(view.spine_labels), what)


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
