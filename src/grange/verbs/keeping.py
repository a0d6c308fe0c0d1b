"""Which rows of a history stay, and which of their labels are known: inner joins, filters, the maturity of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grange.definitions.labels import Label
from grange.errors import MissingColumnError, closest_names
from grange.frames import Rows
from grange.plan.bind import Bound, Request
from grange.plan.history import SPINE_TIME
from grange.plan.nodes import Plan
from grange.types.durations import to_micros
from grange.verbs.spine import Spine, rows_where, without_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What stays of a history: rows of the spine, and as many of the columns beside it."""

    spine: Spine
    values: Rows
    immature: NDArray[np.bool_] | None
    """By row, whether a label of it is not known yet; None when there is no label that takes time."""
    rows: NDArray[np.bool_] | None
    """By row that was asked for, whether it stays; None when all do."""

    def of(self, rows: Rows) -> Rows:
        """The rows that stay, of as many as were asked for."""
        return rows if self.rows is None else rows_where(rows, self.rows)


def keep(
    asked: Request, bound: Bound, plan: Plan, spine: Spine, handed_in: Rows, found: Rows, values: Rows, *, now: int
) -> Kept:
    """What stays of joined rows.

    Time:
        A label of a row at `t` is null until `t + after <= now`, and for a row without time.

    Args:
        asked: what was asked for.
        bound: what that comes to.
        plan: what was joined.
        spine: the rows asked for.
        handed_in: their times (`SPINE_TIME`).
        found: the columns that tell whether a group has a visible row.
        values: the columns of the result.
        now: microseconds UTC.

    Raises:
        MissingColumnError: the filter names a column that there is not.
        DefinitionError: the filter does not fit the types of its columns.
    """
    immature = None
    for name, label in _labels_there(asked, bound, spine).items():
        if label.after:
            unknown = _unknown(handed_in, to_micros(label.after), now)
            immature = unknown if immature is None else immature | unknown
            if name in bound.labels:
                values = without_values(values, name, unknown) if unknown.any() else values
            else:
                spine = spine.without_values(name, unknown) if unknown.any() else spine
    stays = _stays(asked, bound, plan, spine, found, values)
    if stays is None or stays.all():
        return Kept(spine, values, immature, None)
    kept = None if immature is None else immature[stays]
    return Kept(spine.where(stays), rows_where(values, stays), kept, stays)


def _labels_there(asked: Request, bound: Bound, spine: Spine) -> Mapping[str, Label]:
    """By column, the labels that a result has: one that the spine is to bring may be missing."""
    there = spine.column_names
    brought = {label.name: label for label in asked.labels if label.selection is None and label.name in there}
    return {**bound.labels, **brought}


def _unknown(handed_in: Rows, after: int, now: int) -> NDArray[np.bool_]:
    """By row, whether a label that is known so long after its time is not known yet."""
    import pyarrow as pa
    import pyarrow.compute as pc

    times = handed_in.select([SPINE_TIME]).arrow.column(0).cast(pa.int64())
    known = pc.less_equal(pc.add(times, after), now)
    return ~_mask(pc.fill_null(known, False))


def _stays(
    asked: Request, bound: Bound, plan: Plan, spine: Spine, found: Rows, values: Rows
) -> NDArray[np.bool_] | None:
    """By row, whether joins and the filter let it stay; None when there are none."""
    stays = None
    for column, _ in plan.required:
        seen = _mask(found.select([column]).arrow.column(0).is_valid())
        stays = seen if stays is None else stays & seen
    if not plan.condition:
        return stays
    from grange.deriving.conditions import conditions

    true = conditions(_condition_columns(asked, bound, plan.condition, spine, values), [plan.condition])
    matching = true[plan.condition]
    return matching if stays is None else stays & matching


def _condition_columns(asked: Request, bound: Bound, condition: str, spine: Spine, values: Rows) -> Rows:
    """The columns that a filter takes, under the names that it has for them.

    Raises:
        MissingColumnError: one that there is not.
    """
    import pyarrow as pa

    from grange.definitions.expressions import parse_condition

    columns = {}
    for name in parse_condition(condition, what=f"{asked.name}: filter").columns:
        column = bound.names[name][0] if name in bound.names else name
        if column in values.column_names:
            columns[name] = values.select([column]).arrow.column(0)
        elif column in spine.column_names:
            columns[name] = spine.take([column]).arrow.column(0)
        else:
            there = [*spine.column_names, *bound.names]
            raise MissingColumnError(
                f"the filter takes {name!r}, which is no column of the joined rows",
                asked_by=asked.name,
                found=", ".join(dict.fromkeys(there)),
                closest=closest_names(name, there),
                try_=f"filter: {condition}",
            )
    return Rows(arrow=pa.table(columns) if columns else pa.table({"rows": pa.nulls(len(spine))}))


def _mask(values: object) -> NDArray[np.bool_]:
    import numpy as np

    mask: NDArray[np.bool_] = np.asarray(values, dtype=np.bool_)
    return mask


__all__ = ["Kept", "keep"]
