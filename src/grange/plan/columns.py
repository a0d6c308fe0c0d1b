"""The columns of a result while they are bound: which there are, what they are made of, one name for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grange.definitions.catalog import Computed as Definition
from grange.definitions.catalog import computed_names
from grange.definitions.labels import Label
from grange.definitions.on_demand import function_of, made_on_demand, outputs_of, requested, steps_for
from grange.definitions.references import as_selection
from grange.definitions.transformations import Step
from grange.errors import DefinitionError, NameCollisionError, UnknownFeatureError, closest_names
from grange.plan.bound import Bound, BoundFeature, BoundSelection, Role
from grange.plan.nodes import Computed, Derived, OnDemand
from grange.types import DataType, Schema

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression

Typed = tuple[str, DataType]
"""A column of the result or of the request, and its type."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A feature of a group that is a column of the result."""

    source: BoundSelection
    feature: str

    def __str__(self) -> str:
        return self.source.text(self.feature)

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides its value."""
        return self.feature, self.source.row


class Columns:
    """Names of columns, given out one by one; `bound` is what they come to.

    Args:
        asked_by: what asks, for messages.
        requests: the columns that every row brings.
        full_feature_names: name features `group__feature`, unless they are renamed.
    """

    def __init__(self, asked_by: str, requests: Schema, *, full_feature_names: bool) -> None:
        self._asked_by = asked_by
        self._requests = requests
        self._full = full_feature_names
        self._asked: dict[str, _Asked] = {}
        self._features: dict[str, BoundFeature] = {}
        self._where: dict[tuple[object, ...], Typed] = {}  # by identity, where a feature is found
        self._wanted: dict[tuple[object, ...], tuple[BoundSelection, dict[str, list[str]]]] = {}  # by rows
        self._keys: dict[str, DataType] = {}
        self._computed: list[Computed] = []
        self._of_view: list[str] = []  # what the view itself computes
        self._own: dict[str, Typed] = {}  # by the name that expressions have for it

    def take(self, source: BoundSelection, features: Iterable[str]) -> None:
        """Features of a group, as columns of the result.

        Raises:
            NameCollisionError: another feature has the name of one.
        """
        self._keys |= {column: source.layout.schema[key] for column, key in source.keys}
        made = made_on_demand(source.group)
        for feature in features:
            name = self._name(source, feature)
            if self._claim(name, _Asked(source, feature)):
                continue
            if feature in made:
                _, wanted = self._wanted.setdefault(source.row, (source, {}))
                wanted.setdefault(feature, []).append(name)
            else:
                self._read(source, feature, name)

    def check_brought(self) -> None:
        """Check that no feature has the name of a column that every row brings, and that those agree on their types.

        Raises:
            NameCollisionError.
        """
        for column in self._requests:
            if column.name in self._asked:
                raise self._collision(column.name, "a request column")
            key = self._keys.get(column.name)
            if key is not None and key.key_family != column.dtype.key_family:
                raise NameCollisionError(
                    f"{column.name!r} is both a join key and a request column of another type",
                    asked_by=self._asked_by,
                    found=f"{key} and {column.dtype}",
                    try_="rename the request column",
                )
        for name in self._keys:
            if name in self._asked:
                raise self._collision(name, "a join key")

    def make_on_demand(self) -> None:
        """What groups make on demand of what was taken of them, with what it is made of.

        Raises:
            DefinitionError: a label takes a column of the request that nothing else asks for.
            UnknownFeatureError: the rows that are read lack what one is made of.
        """
        for source, names in list(self._wanted.values()):
            for step in steps_for(source.group, names):
                self._make(source, step, names)
        for name, asked in self._asked.items():
            if asked.source.label is None:
                self._own[asked.source.selection.output_name(asked.feature)] = name, self._where[asked.identity][1]
        self._own |= {column.name: (column.name, column.dtype) for column in self._requests}

    def compute(self, item: Definition) -> None:
        """What a view computes of the columns that there are by now.

        Raises:
            DefinitionError: it takes something that is none of them.
            NameCollisionError: it has the name of one of them, or of a key.
        """
        kind = "on-demand" if isinstance(item, Step) else "derived"
        for name in computed_names(item):
            if name in self._asked or name in self._own or name in self._keys:
                raise NameCollisionError(
                    f"{kind} feature {name!r} has the name of a feature, key or request column",
                    asked_by=self._asked_by,
                    found=str(item) if isinstance(item, Step) else f"{name!r} = {item[1].text}",
                    try_=f"give the {kind} feature a name of its own",
                )
        made = self._on_demand(item) if isinstance(item, Step) else self._derived(*item)
        self._computed.append(made)
        self._of_view += computed_names(item)
        self._own |= {name: (name, dtype) for name, dtype in made.outputs}

    def bound(
        self,
        selections: Sequence[BoundSelection],
        *,
        training: Sequence[str],
        inference: Sequence[str],
        served: bool,
    ) -> Bound:
        """What was asked for.

        Args:
            selections: what was taken of groups, labels not among it.
            training: helpers of training data.
            inference: helpers of vectors, which training data has too.
            served: whether columns that only training data has are left out.

        Raises:
            DefinitionError: a helper that is nothing.
        """
        roles: dict[str, Role] = {
            name: "feature" if asked.source.label is None else "label" for name, asked in self._asked.items()
        }
        roles |= dict.fromkeys(self._of_view, "feature")
        helpers: dict[str, Role] = dict.fromkeys(self._helpers(training, training=True), "training_helper")
        helpers |= dict.fromkeys(self._helpers(inference, training=False), "inference_helper")
        roles |= {name: role for name, role in helpers.items() if name in roles}
        if served:
            roles = {name: role for name, role in roles.items() if role != "training_helper"}
        needed = set(roles)
        made = tuple(reversed(list(_needed(self._computed, needed))))
        return Bound(
            features=tuple(feature for name, feature in self._features.items() if name in needed),
            computed=made,
            columns=roles,
            labels={name: label for name, label in self._labels() if name in roles},
            names=self._own | self._label_names(),
            selections=tuple(selections),
            helpers={name: role for name, role in helpers.items() if name not in roles},
        )

    def _name(self, source: BoundSelection, feature: str) -> str:
        renamed = feature in dict(source.selection.rename)
        full = self._full and not renamed
        return f"{source.group.name}__{feature}" if full else source.selection.output_name(feature)

    def _claim(self, name: str, asked: _Asked) -> bool:
        """Give a name to a feature; whether it has it already."""
        other = self._asked.setdefault(name, asked)
        if other is asked:
            return False
        if other.identity == asked.identity:
            return True
        full = self._asked_by == "request" and other.source.group != asked.source.group
        raise NameCollisionError(
            f"two features would be called {name!r}",
            asked_by=self._asked_by,
            found=f"{other} and {asked}",
            try_=f"gr.select({asked.source.group.name!r}, {asked.feature!r}, prefix='{asked.source.group.name}_')"
            + (", or full_feature_names=True" if full else ""),
        )

    def _read(self, source: BoundSelection, feature: str, name: str) -> Typed:
        """A stored feature under a name."""
        dtype = source.layout.features[feature]
        default = dict(source.group.defaults).get(feature)
        self._features[name] = BoundFeature(
            source.group, source.layout, source.selection, source.label, feature, name, dtype, default
        )
        return self._where.setdefault((feature, source.row), (name, dtype))

    def _make(self, source: BoundSelection, step: Step, names: Mapping[str, Sequence[str]]) -> None:
        """A step of a group, as often as its outputs have names."""
        own, brought = function_of(step), requested(step)
        inputs = []
        for name, column in zip(own.inputs, step.inputs, strict=True):
            found = (column, brought[column]) if column in brought else self._part(source, column, step)
            if column in brought and column not in self._requests:
                raise DefinitionError(
                    f"label {source.group.name}:{step.output_names[0]} takes the request column {column!r}, which "
                    "nothing that is served asks for",
                    asked_by=self._asked_by,
                    try_=f"requests=[gr.RequestSource('...', schema={{{column!r}: '{brought[column]}'}})]",
                )
            inputs.append((name, *found))
        outputs = outputs_of(step, [dtype for _, _, dtype in inputs])
        asked_by = f"feature group {source.group.name!r}"
        times = max(len(names.get(name, ())) for name in outputs.names)
        for turn in range(max(times, 1)):
            results = tuple((self._result(source, made.name, names, turn), made.dtype) for made in outputs)
            self._computed.append(OnDemand(step, tuple(inputs), results, asked_by))
            for made, (result, dtype) in zip(outputs, results, strict=True):
                if result is not None:
                    self._where.setdefault((made.name, source.row), (result, dtype))

    @staticmethod
    def _result(source: BoundSelection, output: str, names: Mapping[str, Sequence[str]], turn: int) -> str | None:
        """What an output is called the nth time: one that nobody asked for has a name for others to take it by."""
        given = names.get(output, ())
        return given[turn] if turn < len(given) else source.text(output) if turn == 0 else None

    def _part(self, source: BoundSelection, column: str, step: Step) -> Typed:
        """A feature that another of the group is made of; one that nobody asked for is read or made for that alone."""
        known = self._where.get((column, source.row))
        if known is not None:
            return known
        if column not in source.layout.features:
            raise UnknownFeatureError(
                f'"{source.group.name}:{step.output_names[0]}" is made of {column!r}, which the rows that are read do '
                "not have",
                asked_by=self._asked_by,
                found=", ".join(source.layout.features.names),
                try_=f"grange materialize {source.group.name}",
            )
        return self._read(source, column, source.text(column))

    def _on_demand(self, step: Step) -> OnDemand:
        own, brought = function_of(step), requested(step)
        pairs = zip(own.inputs, step.inputs, strict=True)
        inputs = tuple(
            (name, column, brought[column]) if column in brought else (name, *self._found(step, column))
            for name, column in pairs
        )
        outputs = outputs_of(step, [dtype for _, _, dtype in inputs])
        results = tuple((column.name, column.dtype) for column in outputs)
        return OnDemand(step, inputs, results, self._asked_by)

    def _found(self, step: Step, column: str) -> Typed:
        if column in self._own:
            return self._own[column]
        raise DefinitionError(
            f"on-demand transformation {step.function!r} takes {column!r}, which is no feature before it and no "
            "request column",
            asked_by=self._asked_by,
            found=", ".join(self._own),
            closest=closest_names(column, self._own),
            try_=f"{step.function}.on(...) with other columns, or requests={{{column!r}: ...}} in the transformation",
        )

    def _derived(self, name: str, expression: Expression) -> Derived:
        from grange.definitions.expressions import expression_dtype

        dtype = expression_dtype(expression, Schema.of((own, dtype) for own, (_, dtype) in self._own.items()))
        return Derived(name, expression, dtype, tuple((column, *self._own[column]) for column in expression.columns))

    def _labels(self) -> Iterator[tuple[str, Label]]:
        for name, asked in self._asked.items():
            if asked.source.label is not None:
                yield name, asked.source.label

    def _label_names(self) -> dict[str, Typed]:
        labels = ((name, asked) for name, asked in self._asked.items() if asked.source.label is not None)
        return {asked.feature: (name, self._where[asked.identity][1]) for name, asked in labels}

    def _helpers(self, names: Sequence[str], *, training: bool) -> Iterator[str]:
        """The columns that helpers name.

        Raises:
            DefinitionError: a feature of a group that is not taken, or for vectors a column that they do not have.
        """
        for name in names:
            if ":" in name:
                yield from self._features_called(name)
            elif name in self._own:
                yield self._own[name][0]
            elif name in self._keys or training:
                yield name  # a column of the spine
            else:
                raise DefinitionError(
                    f"inference helper {name!r} is no column of a vector",
                    asked_by=self._asked_by,
                    found=", ".join((*self._keys, *self._own)),
                    closest=closest_names(name, (*self._keys, *self._own)),
                    try_="a helper that only the spine brings is a training helper",
                )

    def _features_called(self, reference: str) -> list[str]:
        """The columns of a feature of a group, under whatever names it is taken."""
        selection = as_selection(reference)
        found = [
            name
            for name, asked in self._asked.items()
            if asked.source.label is None
            and (asked.source.group.name, asked.feature) == (selection.source, *selection.features)
            and selection.version in (None, asked.source.selection.version)
        ]
        if not found:
            taken = [f"{item.source.group.name}:{item.feature}" for item in self._asked.values()]
            raise DefinitionError(
                f"helper {reference!r} is none of the features",
                asked_by=self._asked_by,
                found=", ".join(taken),
                closest=closest_names(reference, taken),
                try_=f"take it too: features=[..., {reference!r}]",
            )
        return found

    def _collision(self, name: str, what: str) -> NameCollisionError:
        asked = self._asked[name]
        group = asked.source.group.name
        return NameCollisionError(
            f"a feature and {what} would both be called {name!r}",
            asked_by=self._asked_by,
            found=str(asked),
            try_=f"gr.select({group!r}, {asked.feature!r}, prefix='{group}_')",
        )


def _needed(computed: Sequence[Computed], needed: set[str]) -> Iterator[Computed]:
    """What is computed that is needed, the last first; `needed` grows by what it is made of."""
    for item in reversed(computed):
        if needed.isdisjoint(name for name, _ in item.outputs):
            continue
        needed.update(name for _, name, _ in item.inputs)
        if isinstance(item, OnDemand):
            kept = ((name if name in needed else None, dtype) for name, dtype in item.results)
            item = replace(item, results=tuple(kept))
        yield item


__all__ = ["Columns"]
