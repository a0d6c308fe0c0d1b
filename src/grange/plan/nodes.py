"""The plan's nodes: a closed set of frozen values. Engines run them, `explain` prints them, tests compare them.

Every interpreter matches over `Node` and ends in `assert_never`, so that the type checker names the one that
forgot a new node. A node's rows are those of its docstring, whichever engine runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from grange.definitions.sources import FileFormat
from grange.definitions.transformations import Step
from grange.definitions.transforms import Transform
from grange.types import DataType, Schema
from grange.types.aggregates import Aggregate

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression

NO_SCHEMA: Final = Schema()


@dataclass(frozen=True, slots=True)
class Scan:
    """The rows of files, files in the given order, rows in each file's order."""

    files: tuple[str, ...]
    """Paths that exist; at least one."""
    format: FileFormat
    schema: Schema = NO_SCHEMA
    """Types of raw columns that the format does not carry (CSV, JSON Lines, durations in Parquet); others are
    inferred."""
    columns: tuple[str, ...] | None = None
    """Only these columns, in this order; None is all."""
    separator: str = ","
    ordered: bool = False
    """Whether the rows lie in PIT-3 order already: event time, created time (nulls first), sequence."""
    stored: str | None = None
    """The feature group whose stored files these are; None for a source's. A stored file that cannot be read back
    is damage (`CorruptStoreError`), not a wrong source."""


@dataclass(frozen=True, slots=True)
class Input:
    """Rows that the caller hands to the engine under a name: a spine, a frame, pushed rows."""

    name: str
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Concat:
    """The rows of several nodes of the same columns, one after another; columns go by name, in the first's order."""

    inputs: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many rows, the first ones."""

    input: Node
    rows: int


@dataclass(frozen=True, slots=True)
class Apply:
    """The rows that a user's transform makes of its input."""

    input: Node
    transform: Transform
    group: str
    """The feature group it belongs to, for messages."""


@dataclass(frozen=True, slots=True)
class Conform:
    """The rows with exactly these columns in their canonical types; what does not fit is an error (PIT-7)."""

    input: Node
    schema: Schema
    what: str
    """What is conformed, for messages: `feature group 'weather'`."""


@dataclass(frozen=True, slots=True)
class Align:
    """Stored rows of a group in the columns of another of its schemas, and `__sequence` last where they have one.

    What the rows lack is null, what the schema lacks is left out, and a column of another type is cast as `Conform`
    would; a value that does not fit is an error.
    """

    input: Node
    schema: Schema
    group: str
    required: tuple[str, ...] = ()
    """Columns that nothing can stand in for: the entity key and the event time. Rows without one are an error."""

    @property
    def what(self) -> str:
        """What is aligned, for messages."""
        return f"stored rows of feature group {self.group!r}"


@dataclass(frozen=True, slots=True)
class Number:
    """The rows with a `__sequence` column (int64) that counts them from `start`, in order."""

    input: Node
    start: int = 0


@dataclass(frozen=True, slots=True)
class Timeless:
    """The rows with an `__event_time` column in which every row is true since the year 1 (a source without times)."""

    input: Node


@dataclass(frozen=True, slots=True)
class Between:
    """The rows with `start <= column < end`; None leaves an end open. A null is outside.

    The column is a time, its bounds in microseconds UTC; or an integer (`__sequence`).
    """

    input: Node
    column: str
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Order:
    """The rows in PIT-3 order: event time, created time with nulls first, sequence, all ascending."""

    input: Node
    event_time: str
    created_time: str | None


@dataclass(frozen=True, slots=True)
class Latest:
    """One row per entity key, the newest by PIT-3, in no particular order of keys.

    Rows with a null in the key (PIT-4) or without event time are left out: nothing can ever match them.
    """

    input: Node
    keys: tuple[str, ...]
    event_time: str
    created_time: str | None


@dataclass(frozen=True, slots=True)
class EntityTimes:
    """Every distinct (entity key, event time) with `start <= event time < end`, by key then event time (PIT-8).

    Columns: the keys, then the event time. Rows with a null in the key are left out.
    """

    input: Node
    keys: tuple[str, ...]
    event_time: str
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Output:
    """One feature column of a point-in-time join."""

    column: str
    """Its name among the group's stored columns."""
    name: str
    """Its name in the result."""
    dtype: DataType
    default: object = None
    """Stands in wherever there would be a null (ONL-5)."""


@dataclass(frozen=True, slots=True)
class GroupJoin:
    """How one feature group joins onto the spine."""

    group: str
    version: str
    rows: Node
    """Its stored rows: keys, times, features, `__sequence`."""
    keys: tuple[tuple[str, str], ...]
    """(column of the spine, column of the group) per join key."""
    event_time: str
    created_time: str | None
    ttl: int | None
    """Microseconds; None is forever."""
    exact_matches: bool
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class WindowJoin:
    """How the aggregations of one feature group join onto the spine: each output is an aggregate's value at the
    spine row's own time, from the group's events (WIN-1 to WIN-6). `Aggregate` says what that value is.
    """

    group: str
    version: str
    rows: Node
    """Its stored events, every version of each: keys, times, base columns, `__sequence`."""
    keys: tuple[tuple[str, str], ...]
    """(column of the spine, column of the group) per join key."""
    event_time: str
    created_time: str | None
    event_id: str | None
    """The column that says which rows are versions of one event, within an entity key. The last written version
    counts: the newest created time (null is oldest), then the largest sequence. A null id is an event of its own."""
    retracted: str | None
    """The boolean column that is true in a version that takes its event back; null is false."""
    ttl: int | None
    """Microseconds; an event older than this is not visible. None is forever."""
    exact_matches: bool
    aggregates: tuple[Aggregate, ...]
    """Those that the outputs need, each once."""
    outputs: tuple[Output, ...]
    """`Output.column` is an aggregate's name. A default stands in for null; an empty count is 0, not null (WIN-4)."""


Join = GroupJoin | WindowJoin


@dataclass(frozen=True, slots=True)
class CurrentEvents:
    """The events of a group as they finally are: the last written version of each, without retracted ones (WIN-6).

    Rows keep their order and columns. Rows with a null id, or a null in the key, are events of their own.
    """

    input: Node
    keys: tuple[str, ...]
    created_time: str | None
    event_id: str
    retracted: str | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Every entity key at the boundaries of an interval that follow its events, by boundary then key.

    Columns: the keys, then the event time, which is the boundary (multiples of `interval` since 1970-01-01 UTC).
    Rows with a null in the key or without event time are left out.
    """

    input: Node
    keys: tuple[str, ...]
    event_time: str
    interval: int
    """Microseconds."""
    closed: Literal["right", "left"]
    """The boundary of an event at `f`: `right` the first with `f <= b`, `left` the first with `f < b`."""
    fill: bool
    """Whether each key's gaps are filled: every boundary from its first to its last."""
    start: int | None = None
    """Only boundaries `>= start`, microseconds UTC."""
    end: int | None = None
    """Only boundaries `< end`."""


@dataclass(frozen=True, slots=True)
class PointInTimeJoin:
    """The feature columns of every join, one row per spine row, in the spine's order (PIT-1 to PIT-7).

    The spine's own columns are not in the result: the caller lays the features beside the spine it holds,
    so that nothing an engine does can reorder, retype or drop them.
    """

    spine: Node
    """Key columns in the groups' types, and the time column as UTC microseconds."""
    time: str
    joins: tuple[Join, ...]
    as_known: bool
    """Whether rows created after the spine's time are invisible (PIT-5)."""


Node = (
    Scan
    | Input
    | Concat
    | Limit
    | Apply
    | Timeless
    | Conform
    | Align
    | Number
    | Between
    | Order
    | Latest
    | EntityTimes
    | CurrentEvents
    | Grid
    | PointInTimeJoin
)


@dataclass(frozen=True, slots=True)
class WriteVersion:
    """Publish the rows as a version of a feature group in the offline store."""

    group: str
    store: str
    features: str | None = None
    """Of a group with aggregations, where its feature rows lie, in words: `as of each event`, `every 1d`."""


@dataclass(frozen=True, slots=True)
class LoadOnline:
    """Replace a feature group's state in the online store by the rows."""

    group: str
    key_space: str
    store: str
    windows: bool = False
    """Whether the state is of windows, and not the latest row."""


Sink = WriteVersion | LoadOnline


@dataclass(frozen=True, slots=True)
class Derived:
    """A feature that is an expression over other features of the same request."""

    name: str
    expression: Expression
    dtype: DataType
    inputs: tuple[tuple[str, str, DataType], ...]
    """Per column of the expression: its name there, its name in the result, its type."""

    @property
    def outputs(self) -> tuple[tuple[str, DataType], ...]:
        """The column that it makes, with its type."""
        return ((self.name, self.dtype),)

    def __str__(self) -> str:
        return f"{self.name} = {self.expression.text}"


@dataclass(frozen=True, slots=True)
class OnDemand:
    """Features that a transformation makes of other columns of the same request."""

    step: Step
    inputs: tuple[tuple[str, str, DataType], ...]
    """Per input of the function, in its order: its name there, its name in the result, its type."""
    results: tuple[tuple[str | None, DataType], ...]
    """Per output of the function, in its order: its name in the result, its type; None is not kept."""
    asked_by: str
    """Whose it is, for messages: `feature group 'spend'`."""

    @property
    def outputs(self) -> tuple[tuple[str, DataType], ...]:
        """The columns that it makes, with their types."""
        return tuple((name, dtype) for name, dtype in self.results if name is not None)

    def __str__(self) -> str:
        made = ", ".join(name or "_" for name, _ in self.results)
        return f"{made} = {self.step.function}({', '.join(name for _, name, _ in self.inputs)})"


Computed = Derived | OnDemand
"""What is made of one row of a result, beside what was read."""


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One feature of an online vector."""

    column: str
    name: str
    dtype: DataType
    default: object = None


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """What an online read takes of one feature group."""

    group: str
    key_space: str
    keys: tuple[tuple[str, str, DataType], ...]
    """(column of the request, join key, its type) per join key, in the order the stored key has."""
    ttl: int | None
    exact_matches: bool
    columns: tuple[ReadColumn, ...]
    windows: ReadWindows | None = None
    """Of a group with aggregations: `ReadColumn.column` is then an aggregate's name."""


@dataclass(frozen=True, slots=True)
class ReadWindows:
    """What the online state of a group with aggregations was made by: all its aggregates, not only those asked for."""

    schema: Schema
    """Of its events."""
    created_time: str | None
    event_id: str | None
    retracted: str | None
    aggregates: tuple[Aggregate, ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """An online read, resolved once and run many times."""

    groups: tuple[ReadGroup, ...]
    requests: Schema
    """Columns that every request must bring, echoed in the vector."""
    on_error: Literal["raise", "default"]
    store: str
    computed: tuple[Computed, ...] = ()
    """What is made of what is read and of request columns, each may use those before it."""
    hidden: tuple[str, ...] = ()
    """What is read or computed only for others to be made of: it is not in vectors."""
    helpers: tuple[str, ...] = ()
    """Those of the features that are no input of the model."""


@dataclass(frozen=True, slots=True)
class Later:
    """A join of labels that are looked at some time after the rows they are of."""

    after: int
    """Microseconds."""
    join: PointInTimeJoin
    """Onto the same spine; its time column is that much later than the rows' own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a verb will do: a tree of nodes for the engine, then where its rows go."""

    verb: Literal["history", "materialize"]
    root: Node
    sinks: tuple[Sink, ...] = ()
    labels: tuple[Later, ...] = ()
    """Of a history: more columns, of labels that are looked at at other moments or by other laws than the features."""
    computed: tuple[Computed, ...] = ()
    """What is made of the columns that were joined, each may use those before it."""
    required: tuple[tuple[str, str], ...] = ()
    """Of a history: (column, feature group); rows for which the column is null are left out."""
    condition: str = ""
    """Of a history: a SQL condition; rows for which it is not true are left out. Empty is none."""
