"""Online reads: a `ReadPlan` resolved once against a store, then request after request.

A request costs one store read per key space, whatever the number of groups, and a few tuple operations per row and
group. What is asked for less often, statuses and event times, is worked out when it is asked for.

What a value's status says (ONL-3), the first that holds:

- `NOT_FOUND`: a part of the key is None; or no row is stored; or the stored row is not visible yet at the time of
  the read (PIT-2; the store keeps only the newest row, so an older one that a point-in-time join would find is gone:
  ONL-1 holds from the newest row's event time on).
- `EXPIRED`: the stored row is older than the group's ttl, which includes its end (PIT-2).
- `NOT_FOUND`: the row was stored before its group had this column, so nothing was ever stored for it; or when the
  column had another type, whose values are none of today's (a narrower integer is a wider one).
- `NULL`: the stored value is null.
- `PRESENT`: a value.

Whatever the status, when it is not `PRESENT` the feature's default stands in, or null without one (ONL-5).
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, cast

from grange.errors import (
    ColumnTypeError,
    MissingColumnError,
    RequestError,
    StateLostError,
    StoreUnavailableError,
    closest_names,
)
from grange.frames import Rows
from grange.plan.nodes import ReadGroup, ReadPlan
from grange.ports.online import EVENT, LAYOUT, VALUES, StoredRow
from grange.serving.computing import computer
from grange.serving.defaults import MISFITS, default_of
from grange.serving.doubted import ReadableStore
from grange.serving.keys import RowEncoder, not_a_row, row_encoder
from grange.serving.layouts import place_of
from grange.serving.status import Status
from grange.serving.values import Converter, decoder, encoder, from_wire
from grange.types import DataType
from grange.types.time import from_micros

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from grange.serving.window_reader import WindowReader


_flat: Final = chain.from_iterable
_BEFORE_ALL: Final = -(1 << 80)
"""Earlier than any time."""
_ONE_ROW: Final = 'get_online_features(features, [{"user_id": 1}])'

Row = Mapping[str, Any]
Found = Sequence[StoredRow | None]
"""One group's stored rows, one per requested row."""
Picker = Callable[[StoredRow], Sequence[Any]]
"""From a stored row to the values of a group's columns."""


class OnlineReader:
    """Reads one plan from one store. Safe for several threads.

    Args:
        plan: what to read.
        store: where from.
    """

    def __init__(self, plan: ReadPlan, store: ReadableStore) -> None:
        self.plan = plan
        self._store = store
        self._groups = tuple(_group_reader(group, store) for group in plan.groups)
        self._reads = _reads(plan)
        self._windows = tuple(place for place, group in enumerate(plan.groups) if group.windows is not None)
        self._compute = computer(plan) if plan.computed else None
        self._hidden = frozenset(plan.hidden)
        self._requests = tuple((column.name, encoder(column.dtype), column.dtype) for column in plan.requests)
        self._echo = _echo(plan)
        self._pick_echo = _echo_picker(tuple(self._echo))
        self._plain_names = (*self._echo, *(name for group in self._groups for name in group.names))
        self._made = tuple((name, dtype) for item in plan.computed for name, dtype in item.outputs)
        every = (*self._plain_names, *(name for name, _ in self._made))
        self._names = tuple(name for name in every if name not in self._hidden)

    def read(self, rows: Any, now_micros: int) -> OnlineFeatures:
        """The features of each row, in order, duplicates included (ONL-4).

        Args:
            rows: per row the key columns and the request columns; others are ignored. A None in a key matches nothing.
                A list of mappings, an iterator of them, or a Polars, pandas or Arrow frame.
            now_micros: the time of the read, microseconds UTC.

        Raises:
            RequestError: the rows are none of these.
            MissingColumnError: a row has no such key or request column.
            KeyTypeError: a key is of another type than its group's.
            ColumnTypeError: a request column is of another type than declared.
            StoreUnavailableError: an outage, or a group that the store lost, unless the plan's `on_error` is `default`;
                then the answer is degraded.
        """
        if type(rows) is not list:
            rows = _listed(rows)
        for name, accept, dtype in self._requests:
            for row in rows:
                _check_request(row, name, accept, dtype)
        degraded = False
        found: list[Found] = [()] * len(self._groups)
        for read in self._reads:
            keys = [[encode(row) for row in rows] for encode in read.encoders]
            try:
                read.run(self._store, keys, found)
            except StoreUnavailableError as error:
                if self.plan.on_error == "raise":
                    raise
                degraded = True
                read.run_without(error, self._store, keys, found)
        for position in self._windows:
            try:
                found[position] = cast("WindowReader", self._groups[position]).read(rows, now_micros)
            except StoreUnavailableError:
                if self.plan.on_error == "raise":
                    raise
                degraded = True
                found[position] = [None] * len(rows)
        return OnlineFeatures(self, rows, found, now_micros, degraded)

    @functools.cached_property
    def record(self) -> Callable[..., Any] | None:
        """What makes one vector's record of its values in order: a struct, whose fields are the columns. None where one
        has a name that no field of a struct may have."""
        import msgspec

        if any(char in '"\\' or char < " " for name in self._plain_names for char in name):
            return None
        fields = {f"column_{place}": name for place, name in enumerate(self._plain_names)}
        made: Callable[..., Any] = msgspec.defstruct(
            "Vector", [(field, Any) for field in fields], rename=fields, gc=False
        )
        return made


class OnlineFeatures:
    """The answer to a request: one vector per requested row, in order.

    Columns: the plan's key columns, then its request columns, then the features.
    """

    __slots__ = ("_found", "_now", "_reader", "_rows", "degraded")

    def __init__(
        self, reader: OnlineReader, rows: Sequence[Row], found: list[Found], now_micros: int, degraded: bool
    ) -> None:
        self._reader = reader
        self._rows = rows
        self._found = found
        self._now = now_micros
        self.degraded = degraded
        """Whether the store could not be reached, or lost a group, and defaults stand in (ONL-6)."""

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"OnlineFeatures({len(self)} x {list(self.column_names)}{', degraded' if self.degraded else ''})"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return self._reader._names

    @property
    def roles(self) -> dict[str, str]:
        """What each column is for, in order: `key`, `request`, `inference_helper`, or `feature`: what a model takes."""
        plan = self._reader.plan
        keys = {column for group in plan.groups for column, _, _ in group.keys}
        roles = dict.fromkeys(plan.helpers, "inference_helper")
        roles |= {name: "key" if name in keys else "request" for name in self._reader._echo}
        return {name: roles.get(name, "feature") for name in self._reader._names}

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row. Times are UTC datetimes, decimals are `Decimal`, a uuid is its text.

        Raises:
            TransformError: an on-demand transformation fails; names the row.
        """
        reader, now = self._reader, self._now
        names, echo, compute = reader._plain_names, reader._pick_echo, reader._compute
        vectors = [group.vectors(found, now) for group, found in zip(reader._groups, self._found, strict=True)]
        parted = zip(*vectors, strict=True) if vectors else repeat((), len(self._rows))
        result = []
        for row, parts in zip(self._rows, parted, strict=True):
            values = echo(row)
            for part in parts:
                values += part
            result.append(dict(zip(names, values, strict=False)))
        if compute is not None:
            compute(result)
        return result

    def to_records(self) -> list[Any]:
        """One record per row, for encoders: they write it as the dict of `to_dicts`. Making a record takes less than
        half the time that a dict takes. With on-demand transformations, and with names that records cannot have, these
        are the dicts themselves."""
        reader, now = self._reader, self._now
        record, echo = reader.record, reader._pick_echo
        if reader._compute is not None or record is None:
            return self.to_dicts()
        if len(self._rows) == 1:
            parts = [group.vector(rows[0], now) for group, rows in zip(reader._groups, self._found, strict=True)]
            return [record(*echo(self._rows[0]), *_flat(parts))]
        vectors = [group.vectors(found, now) for group, found in zip(reader._groups, self._found, strict=True)]
        parted = zip(*vectors, strict=True) if vectors else repeat((), len(self._rows))
        return [record(*echo(row), *_flat(parts)) for row, parts in zip(self._rows, parted, strict=True)]

    def to_arrow(self) -> pa.Table:
        """An Arrow table; every column in the canonical type of its declaration."""
        import pyarrow as pa

        from grange.types.arrow import arrow_type

        reader = self._reader
        arrays = [_echo_array([row[name] for row in self._rows], dtype) for name, dtype in reader._echo.items()]
        for group, found in zip(reader._groups, self._found, strict=True):
            columns = list(zip(*group.vectors(found, self._now), strict=True)) or [()] * len(group.columns)
            arrays += [
                pa.array(values, arrow_type(column.dtype))
                for column, values in zip(group.columns, columns, strict=True)
                if column.name not in reader._hidden
            ]
        made = [(name, dtype) for name, dtype in reader._made if name not in reader._hidden]
        vectors = self.to_dicts() if made else []
        arrays += [pa.array([row[name] for row in vectors], arrow_type(dtype)) for name, dtype in made]
        return pa.Table.from_arrays(arrays, names=list(reader._names))

    def to_polars(self) -> pl.DataFrame:
        """A Polars DataFrame."""
        return Rows(arrow=self.to_arrow()).polars

    def to_pandas(self) -> Any:
        """A pandas DataFrame with Arrow-backed types.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return Rows(arrow=self.to_arrow()).pandas

    @property
    def statuses(self) -> list[dict[str, Status]]:
        """Per row, the status of each feature (ONL-3)."""
        per_group = [
            [group.statuses(row, self._now) for row in found]
            for group, found in zip(self._reader._groups, self._found, strict=True)
        ]
        statuses = self._by_row(per_group)
        names = [name for name, _ in self._reader._made if name not in self._reader._hidden]
        if names:
            for row, vector in zip(statuses, self.to_dicts(), strict=True):
                row |= {name: Status.NULL if vector[name] is None else Status.PRESENT for name in names}
        return statuses

    @property
    def event_times(self) -> list[dict[str, dt.datetime | None]]:
        """Per row, the event time of each feature's stored row; None where nothing was found.

        The event time of an expired row is here too: it says how old the row is. That of a windowed feature is the
        newest event of its entity key that the read could see. Computed features have none.
        """
        per_group = []
        for group, found in zip(self._reader._groups, self._found, strict=True):
            times = []
            for row in found:
                statuses = group.statuses(row, self._now)
                time = None if row is None or row[EVENT] is None else from_micros(row[EVENT])
                times.append([None if status is Status.NOT_FOUND else time for status in statuses])
            per_group.append(times)
        return self._by_row(per_group)

    def _by_row(self, per_group: Sequence[Sequence[Sequence[Any]]]) -> list[dict[str, Any]]:
        """Per group, per row, per column to per row by feature."""
        names, hidden = [group.names for group in self._reader._groups], self._reader._hidden
        return [
            {
                name: value
                for group, columns in enumerate(names)
                for name, value in zip(columns, per_group[group][row], strict=True)
                if name not in hidden
            }
            for row in range(len(self._rows))
        ]


def _group_reader(group: ReadGroup, store: ReadableStore) -> _GroupReader | WindowReader:
    if group.windows is None:
        return _GroupReader(group, store)
    from grange.serving.window_reader import WindowReader  # most requests have no windows

    return WindowReader(group, store)


class _GroupReader:
    """What a request takes of one group, with positions worked out per layout."""

    def __init__(self, group: ReadGroup, store: ReadableStore) -> None:
        self.columns = group.columns
        self.names = tuple(column.name for column in group.columns)
        self._store = store
        self._ttl = group.ttl
        # a row at `now` itself is visible unless the reference says otherwise (PIT-2)
        self._margin = 0 if group.exact_matches else 1
        self._defaults = tuple(default_of(column) for column in group.columns)
        self._has_defaults = any(default is not None for default in self._defaults)
        converters = ((place, decoder(column.dtype)) for place, column in enumerate(group.columns))
        self._converters = tuple((place, convert) for place, convert in converters if convert is not None)
        self._plain = not (self._converters or self._has_defaults)
        self._pickers: dict[int, Picker] = {}
        self._missing: dict[int, frozenset[int]] = {}
        """By layout, the columns that it does not have, as positions among `columns`."""

    def vectors(self, found: Found, now: int) -> list[Sequence[Any]]:
        """The group's values for each row, defaults included."""
        absent = self._defaults
        earliest, latest = self._seen(now)
        last_layout = -1
        pick: Picker = _nothing
        result: list[Sequence[Any]] = []
        add = result.append
        for row in found:
            if row is None or not earliest <= row[1] <= latest:  # EVENT
                add(absent)
                continue
            if row[0] != last_layout:  # LAYOUT
                last_layout = row[0]
                pick = self._pickers.get(last_layout) or self._learn(last_layout)
            add(pick(row))
        return result if self._plain else self._finished(result)

    def _seen(self, now: int) -> tuple[int, int]:
        """The event times that are visible, both ends inclusive (PIT-2)."""
        return (_BEFORE_ALL if self._ttl is None else now - self._ttl), now - self._margin

    def vector(self, row: StoredRow | None, now: int) -> Sequence[Any]:
        """`vectors` of one row."""
        earliest, latest = self._seen(now)
        if row is None or not earliest <= row[1] <= latest:  # EVENT
            return self._defaults
        values = (self._pickers.get(row[0]) or self._learn(row[0]))(row)
        return values if self._plain else self._finish(values)

    def statuses(self, row: StoredRow | None, now: int) -> tuple[Status, ...]:
        """The status of each of the group's columns."""
        earliest, latest = self._seen(now)
        if row is None or row[EVENT] > latest:
            return (Status.NOT_FOUND,) * len(self.columns)
        if row[EVENT] < earliest:
            return (Status.EXPIRED,) * len(self.columns)
        layout = row[LAYOUT]
        pick = self._pickers.get(layout) or self._learn(layout)
        missing = self._missing[layout]
        return tuple(
            Status.NOT_FOUND if place in missing else Status.NULL if value is None else Status.PRESENT
            for place, value in enumerate(pick(row))
        )

    def _finished(self, rows: list[Sequence[Any]]) -> list[Sequence[Any]]:
        """Values from the wire in Python's types, with defaults in place of nulls."""
        absent = self._defaults
        return [row if row is absent else self._finish(row) for row in rows]

    def _finish(self, values: Sequence[Any]) -> list[Any]:
        finished = list(values)
        for place, convert in self._converters:
            if finished[place] is not None:
                finished[place] = convert(finished[place])
        if self._has_defaults and None in finished:
            defaults = zip(finished, self._defaults, strict=True)
            return [default if value is None else value for value, default in defaults]
        return finished

    def _learn(self, layout: int) -> Picker:
        """Where a layout has the group's columns."""
        stored = self._store.layout(layout)
        found = [place_of(stored, column.column, column.dtype) for column in self.columns]
        places = [None if place is None else VALUES + place for place in found]
        self._missing[layout] = frozenset(index for index, place in enumerate(places) if place is None)
        self._pickers[layout] = pick = _picker(places)
        return pick


def _listed(rows: Any) -> Sequence[Row]:
    """Requested rows as a sequence of mappings.

    Raises:
        RequestError: they are no such thing.
    """
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes | bytearray):
        return rows
    if isinstance(rows, Iterator) and not hasattr(rows, "__arrow_c_stream__"):
        return list(rows)
    if rows is None or isinstance(rows, Mapping | str | bytes | bytearray):
        found = "one mapping" if isinstance(rows, Mapping) else f"{rows!r} ({type(rows).__name__})"
        raise RequestError("the requested rows are a list with one dict per row", found=found, try_=_ONE_ROW)
    listed: list[Row] = Rows.of(rows, what="the requested rows").arrow.to_pylist()
    return listed


def _nothing(row: StoredRow) -> Sequence[Any]:
    raise AssertionError("no layout is -1, so the first row sets its own picker")


def _echo_picker(names: tuple[str, ...]) -> Callable[[Row], list[Any]]:
    """A function that takes the echoed columns of a requested row, as a new list."""
    if len(names) == 1:
        name = names[0]
        return lambda row: [row[name]]
    return lambda row: [row[name] for name in names]


def _picker(places: Sequence[int | None]) -> Picker:
    """A function that takes the values at some places; None has none."""
    first = places[0]
    if first is not None and list(places) == list(range(first, first + len(places))):
        return operator.itemgetter(slice(first, first + len(places)))
    if len(places) > 1 and None not in places:
        return operator.itemgetter(*places)
    return lambda row: [None if place is None else row[place] for place in places]


class _Read:
    """One read of the store: a key space, its groups, and each way in which requests name its keys."""

    def __init__(self, key_space: str) -> None:
        self.key_space = key_space
        self.groups: list[str] = []
        self.encoders: list[RowEncoder] = []
        self.targets: list[list[tuple[int, int]]] = []
        """Per encoder, (position among the plan's groups, position among `groups`)."""

    def run(self, store: ReadableStore, keys: Sequence[Sequence[bytes | None]], found: list[Found]) -> None:
        """Read the keys of all encoders at once and give each group of the plan its rows."""
        every = [key for part in keys for key in part] if len(keys) > 1 else keys[0]
        if None in every:
            nothing: tuple[StoredRow | None, ...] = (None,) * len(self.groups)
            wanted = [key for key in every if key is not None]
            answers = iter(store.read(self.key_space, wanted, self.groups) if wanted else ())
            rows = [nothing if key is None else next(answers) for key in every]
        else:
            rows = store.read(self.key_space, every, self.groups) if every else []  # type: ignore[arg-type]
        start = 0
        for part, positions in zip(keys, self.targets, strict=True):
            mine = rows[start : start + len(part)] if len(keys) > 1 else rows
            start += len(part)
            columns: list[Found] = list(zip(*mine, strict=True)) or [()] * len(self.groups)
            for position, group in positions:
                found[position] = columns[group]

    def run_without(
        self,
        error: StoreUnavailableError,
        store: ReadableStore,
        keys: Sequence[Sequence[bytes | None]],
        found: list[Found],
    ) -> None:
        """Give each group of the plan what can be had of it in spite of an error, else nothing in each row: an outage
        is of all groups unless it names one, a loss of some, or of some of their keys, so the others are read by
        themselves."""
        for part, positions in zip(keys, self.targets, strict=True):
            for position, _ in positions:
                found[position] = [None] * len(part)
        if not (isinstance(error, StateLostError) or "group" in error.details):
            return
        for place in range(len(self.groups)):
            with suppress(StoreUnavailableError):  # then it stays without
                self._alone(place)._run_in_spite(store, keys, found)

    def _run_in_spite(self, store: ReadableStore, keys: Sequence[Sequence[bytes | None]], found: list[Found]) -> None:
        """`run`, for one group; where it is lost in part, the keys that are there have their rows.

        Raises:
            StoreUnavailableError: an outage, or all of the group is lost.
        """
        try:
            self.run(store, keys, found)
            return
        except StateLostError as error:
            if not error.details.get("partly"):
                raise
        there: dict[bytes | None, StoredRow | None] = {}
        for key in dict.fromkeys(_flat(keys)):
            if key is not None:
                with suppress(StateLostError):
                    ((there[key],),) = store.read(self.key_space, [key], self.groups)
        for part, positions in zip(keys, self.targets, strict=True):
            for position, _ in positions:
                found[position] = [there.get(key) for key in part]

    def _alone(self, place: int) -> _Read:
        """The read of one of its groups."""
        read = _Read(self.key_space)
        read.groups.append(self.groups[place])
        read.encoders = self.encoders
        read.targets = [[(position, 0) for position, group in part if group == place] for part in self.targets]
        return read


def _reads(plan: ReadPlan) -> tuple[_Read, ...]:
    """One read per key space."""
    reads: dict[str, _Read] = {}
    encoders: dict[tuple[object, ...], int] = {}
    for position, group in enumerate(plan.groups):
        if group.windows is not None:
            continue  # read by itself: its state is more than a row
        read = reads.setdefault(group.key_space, _Read(group.key_space))
        named = tuple((column, dtype) for column, _, dtype in group.keys)
        which = encoders.setdefault((group.key_space, named), len(read.encoders))
        if which == len(read.encoders):
            read.encoders.append(row_encoder(named))
            read.targets.append([])
        if group.group not in read.groups:
            read.groups.append(group.group)
        read.targets[which].append((position, read.groups.index(group.group)))
    return tuple(reads.values())


def _echo(plan: ReadPlan) -> dict[str, DataType]:
    """The columns of the request that the answer repeats: keys in the order of the groups, then request columns."""
    columns = {column: dtype for group in plan.groups for column, _, dtype in group.keys}
    for column in plan.requests:
        columns.setdefault(column.name, column.dtype)
    return columns


def _check_request(row: Row, name: str, accept: Converter, dtype: DataType) -> None:
    """Refuse a row whose request column is not there or not of its type; None is of every type."""
    if not isinstance(row, Mapping):
        raise not_a_row(row)
    if name not in row:
        raise MissingColumnError(
            f"a requested row has no request column {name!r}",
            found=", ".join(map(str, row)) or "an empty row",
            closest=closest_names(name, map(str, row)),
            try_=f"bring it in every row: {{..., {name!r}: ...}}",
            details={"column": name},
        )
    value = row[name]
    if value is None:
        return
    try:
        accept(value)
    except MISFITS as error:
        kind = type(value).__name__
        raise ColumnTypeError(
            f"request column {name!r} is of type {dtype}, and a row has {kind}",
            found=f"{value!r} ({kind})",
            details={"column": name, "expected": str(dtype), "found_type": kind},
        ) from error


def _echo_array(values: Sequence[Any], dtype: DataType) -> pa.Array:
    """A column of the request in the canonical Arrow type."""
    import pyarrow as pa

    from grange.types.arrow import arrow_type

    convert = encoder(dtype)
    return pa.array(
        [None if value is None else from_wire(convert(value), dtype) for value in values], arrow_type(dtype)
    )
