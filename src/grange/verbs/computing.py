"""What is computed of joined rows: on-demand and derived features, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from grange.definitions.on_demand import function_of
from grange.frames import Rows
from grange.plan.nodes import Computed, Derived, OnDemand
from grange.types import DataType, Schema
from grange.types.schema import Column
from grange.verbs.parts import Parts
from grange.verbs.spine import Spine

if TYPE_CHECKING:
    import pyarrow as pa

Lookup = Callable[[str], "pa.ChunkedArray"]
"""From a column's name to its values, one per row."""


def with_functions(parts: Parts, computed: Sequence[Computed]) -> tuple[Computed, ...]:
    """What is computed, with the functions that it needs.

    Raises:
        TransformError: the code of one is not here.
    """

    def loaded(item: Computed) -> Computed:
        if isinstance(item, Derived):
            return item
        (step,) = parts.with_functions((item.step,), asked_by=item.asked_by)
        return replace(item, step=step)

    return tuple(map(loaded, computed))


def with_computed(found: Rows, spine: Spine, computed: Sequence[Computed]) -> Rows:
    """Joined rows with what is computed of them and of the spine's request columns beside them.

    Raises:
        TransformError: a function fails, or gives what it does not declare.
    """
    if not computed:
        return found
    import pyarrow as pa

    table = found.arrow
    columns = dict(zip(table.column_names, table.columns, strict=True))

    def lookup(name: str) -> pa.ChunkedArray:
        return columns[name] if name in columns else spine.take([name]).arrow.column(0)

    for kind, items in groupby(computed, key=type):
        if kind is Derived:
            columns |= _derived([item for item in items if isinstance(item, Derived)], lookup, len(spine))
        else:
            for item in items:
                assert isinstance(item, OnDemand)
                columns |= _on_demand(item, lookup)
    return Rows(arrow=pa.table(columns))


def _derived(items: Sequence[Derived], lookup: Lookup, rows: int) -> Mapping[str, pa.ChunkedArray]:
    """Expressions that follow each other, evaluated at once; each may use those before it."""
    import pyarrow as pa

    from grange.deriving.tables import evaluate_table

    own = {item.name for item in items}
    inputs = {column: (name, dtype) for item in items for column, name, dtype in item.inputs if name not in own}
    schema = Schema.of((column, dtype) for column, (_, dtype) in inputs.items())
    columns = {
        column: _typed(lookup(name), column, dtype, what=f"input {column!r} of derived features")
        for column, (name, dtype) in inputs.items()
    }
    source = pa.table(columns) if columns else pa.table({"rows": pa.nulls(rows)}).select([])
    made = evaluate_table({item.name: item.expression for item in items}, source, schema)
    return dict(zip(made.column_names, made.columns, strict=True))


def _on_demand(item: OnDemand, lookup: Lookup) -> Mapping[str, pa.ChunkedArray]:
    from grange.transforming.columns import transform_columns

    function = function_of(item.step)
    types = [dtype for _, _, dtype in item.inputs]
    made = transform_columns(function, [lookup(name) for _, name, _ in item.inputs], types, asked_by=item.asked_by)
    return dict(_kept(item, made))


def _kept(item: OnDemand, made: Sequence[pa.ChunkedArray]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for (name, _), values in zip(item.results, made, strict=True):
        if name is not None:
            yield name, values


def _typed(values: pa.ChunkedArray, name: str, dtype: DataType, *, what: str) -> pa.ChunkedArray:
    from grange.types.arrow import conform_column

    return conform_column(values, Column(name, dtype), what=what)


__all__ = ["with_computed", "with_functions"]
