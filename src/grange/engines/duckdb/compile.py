"""Plan nodes as SQL. A node is a SELECT over its inputs' SELECTs, so that a whole plan is one lazy query.

Order is kept as DuckDB promises it (`preserve_insertion_order`): by scans, projections, filters, UNION ALL, LIMIT,
`row_number() OVER ()`, and subqueries made of these or ending in ORDER BY. Joins and aggregates promise nothing,
so their rows are numbered before and sorted after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, assert_never

import duckdb
import pyarrow as pa

from grange.definitions.transforms import SqlTransform
from grange.engines.duckdb.files import scan
from grange.engines.duckdb.fit import duckdb_type, fit, trusting
from grange.engines.duckdb.session import Session
from grange.engines.duckdb.sql import Query, cell, every, listed, name, sql, whole
from grange.engines.duckdb.windows import current_events, grid, window_join
from grange.errors import RequestError, SchemaError, TransformError
from grange.frames import Rows
from grange.plan.checks import check_align, check_concat
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
    GroupJoin,
    Input,
    Latest,
    Limit,
    Node,
    Number,
    Order,
    Output,
    PointInTimeJoin,
    Scan,
    Timeless,
    WindowJoin,
)
from grange.transforming import run_transform
from grange.types.arrow import conform, constant
from grange.types.names import EVENT_TIME, SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS_MICROS

_NUMBER: Final = "row_number() OVER ()"
_INTEGERS: Final = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
_NEVER: Final = -(1 << 63)
"""Before any time, in microseconds."""


def compile_node(session: Session, node: Node, inputs: Mapping[str, Rows]) -> Query:
    """The query of a node. Python code, text files and columns that have to be looked at run while it is made.

    Raises: what `Engine.run` raises.
    """
    match node:
        case Scan():
            return scan(session, node)
        case Input():
            return _input(session, node, inputs)
        case Concat():
            return _concat(session, [compile_node(session, part, inputs) for part in node.inputs])
        case Limit():
            return compile_node(session, node.input, inputs).all("LIMIT", str(int(node.rows)))
        case Apply():
            return _apply(session, node, compile_node(session, node.input, inputs))
        case Timeless():
            return _append(compile_node(session, node.input, inputs), EVENT_TIME, _at(ALWAYS_MICROS))
        case Conform():
            return _conform(session, node, compile_node(session, node.input, inputs))
        case Align():
            return _align(session, node, compile_node(session, node.input, inputs))
        case Number():
            number = sql("CAST(", whole(node.start - 1), "+", _NUMBER, "AS BIGINT)")
            return _append(compile_node(session, node.input, inputs), SEQUENCE, number)
        case Between():
            return _between(session, node, compile_node(session, node.input, inputs))
        case Order():
            return _order(node, compile_node(session, node.input, inputs))
        case Latest():
            return _latest(node, compile_node(session, node.input, inputs))
        case EntityTimes():
            return _entity_times(node, compile_node(session, node.input, inputs))
        case CurrentEvents():
            query = compile_node(session, node.input, inputs)
            return current_events(
                node, query, None if node.created_time is None else _time(query.column(node.created_time))
            )
        case Grid():
            query = compile_node(session, node.input, inputs)
            return grid(node, query, _micros(query.column(node.event_time)))
        case PointInTimeJoin():
            if any(isinstance(join, WindowJoin) for join in node.joins):
                return _with_windows(session, node, inputs)
            return _point_in_time_join(session, node, inputs)
        case _:
            assert_never(node)


def _input(session: Session, node: Input, inputs: Mapping[str, Rows]) -> Query:
    if node.name not in inputs:
        raise RequestError(f"no input {node.name!r} was handed to the engine", found=", ".join(inputs) or "none")
    rows = inputs[node.name]
    if node.columns is None:
        return session.register(rows.arrow)
    present = Query("", tuple(rows.column_names))
    for wanted in node.columns:
        present.column(wanted)
    return session.register(rows.select(node.columns).arrow)


def _concat(session: Session, parts: Sequence[Query]) -> Query:
    if len(parts) == 1:
        return parts[0]
    check_concat([part.names for part in parts])
    alike = [part.pick(parts[0].names) for part in parts]
    try:
        # DuckDB would turn numbers into text to put them below text
        pa.unify_schemas([session.arrow_types(part) for part in alike], promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaError("rows to put together have other types", found=str(error).splitlines()[0]) from error
    return Query(" UNION ALL ".join(sql("(", part.sql, ")") for part in alike), parts[0].names)


def _align(session: Session, node: Align, query: Query) -> Query:
    check_align(node, query.names)
    columns = [
        (own, query.column(own) if own in query.names else sql("CAST(NULL AS", duckdb_type(node.schema[own]), ")"))
        for own in node.schema.names
    ]
    if SEQUENCE in query.names:
        columns.append((SEQUENCE, query.column(SEQUENCE)))
    return fit(session, query.select(columns), node.schema.columns, what=node.what)


def _append(query: Query, own: str, expression: str) -> Query:
    return query.select([*((present, query.column(present)) for present in query.names), (own, expression)])


def _conform(session: Session, node: Conform, query: Query) -> Query:
    if query.arrow is not None:
        return session.register(conform(query.arrow, node.schema, what=node.what))
    if not set(node.schema.names) <= set(query.names):
        # says which, in the words that every engine has for it
        conform(pa.table({own: pa.nulls(0) for own in query.names}), node.schema, what=node.what)
    return fit(session, query.pick(node.schema.names), node.schema.columns, what=node.what)


# Transforms


def _apply(session: Session, node: Apply, query: Query) -> Query:
    if isinstance(node.transform, SqlTransform):
        inlined = _inline(session, node, node.transform, query)
        if inlined is not None:
            return inlined
    return session.register(run_transform(node.transform, Rows(arrow=session.fetch(query)), group=node.group).arrow)


def _inline(session: Session, node: Apply, transform: SqlTransform, query: Query) -> Query | None:
    """A SQL transform as part of the query; None when it can only run by itself.

    It is a view in a schema of its own, where `source` is a view of its input. The session is shut (no files but the
    plan's, no network, no settings), and only a single SELECT gets this far. What does not bind here, a PIVOT for
    one, runs as every other engine runs it, which also words what is wrong with it.
    """
    if len({own.casefold() for own in query.names}) < len(query.names) or not _is_select(transform.query):
        return None
    schema = session.fresh("transform")
    columns = listed(sql(query.column(own), "AS", name(own)) for own in query.names)
    session.execute(sql("CREATE SCHEMA", schema))
    session.execute(sql("CREATE VIEW", schema + ".source AS SELECT", columns, "FROM", query.nested("q")))
    session.execute(sql("SET schema =", name(schema)))
    try:
        names = session.columns(transform.query)
        session.execute("CREATE VIEW result AS " + transform.query)
        in_view = session.columns("SELECT * FROM result")
    except (duckdb.Error, TransformError):
        return None
    finally:
        session.execute("SET schema = 'main'")
    if names != in_view:  # two columns whose names differ in case only
        return None
    view = sql("SELECT * FROM", schema + ".result")
    session.suspect(view, lambda error: _failed(node, query, transform, error))
    aliases = listed(cell(index) for index in range(len(names)))
    return Query(sql("SELECT * FROM", schema + ".result AS q(", aliases, ")"), tuple(names))


def _is_select(query: str) -> bool:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error:
        return False
    return len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT


def _failed(node: Apply, query: Query, transform: SqlTransform, error: duckdb.Error) -> TransformError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TransformError(
        f"feature group {node.group!r}: its SQL transform failed: {reason}",
        found=f"source columns: {', '.join(query.names)}",
        details={"group": node.group, "query": transform.query},
    )


# Rows by time


def _between(session: Session, node: Between, query: Query) -> Query:
    column = query.column(node.column)
    integer = session.types(query)[query.names.index(node.column)] in _INTEGERS
    return query.all(
        "WHERE", _inside(column, node.start, node.end) if integer else _during(column, node.start, node.end)
    )


def _during(column: str, start: int | None, end: int | None) -> str:
    time = _time(column)
    bounds = [] if start is None else [sql(time, ">=", _at(start))]
    bounds += [] if end is None else [sql(time, "<", _at(end))]
    return every([sql(time, "IS NOT NULL"), *bounds])


def _inside(column: str, start: int | None, end: int | None) -> str:
    bounds = [] if start is None else [sql(column, ">=", whole(start))]
    bounds += [] if end is None else [sql(column, "<", whole(end))]
    return every([sql(column, "IS NOT NULL"), *bounds])


def _order(node: Order, query: Query) -> Query:
    ages = [_time(query.column(node.event_time))]
    ages += [] if node.created_time is None else [_time(query.column(node.created_time))]
    ages.append(query.column(SEQUENCE))
    return query.all("ORDER BY", listed(sql(age, "ASC NULLS FIRST") for age in ages))


def _latest(node: Latest, query: Query) -> Query:
    keys = [query.column(key) for key in node.keys]
    event = query.column(node.event_time)
    present = every(sql(column, "IS NOT NULL") for column in [*keys, event])
    newest = _newest(
        keys,
        [_time(event), *([] if node.created_time is None else [_time(query.column(node.created_time))])],
        query.column(SEQUENCE),
    )
    return query.all("WHERE", present, "QUALIFY", newest)


def _newest(keys: Sequence[str], times: Sequence[str], sequence: str) -> str:
    """Whether a row is the newest of its keys: the last one by times, nulls before any other, then sequence (PIT-3).

    As the row that none follows, not as `row_number() = 1`: DuckDB turns that into an aggregate over whole rows,
    which takes longer and loses the sign of a float's zero.
    """
    return sql("lead(1) OVER (", _in_order(keys, [*times, sequence]), ") IS NULL")


def _in_order(keys: Sequence[str], ages: Sequence[str]) -> str:
    partition = sql("PARTITION BY", listed(keys)) if keys else ""
    return sql(partition, "ORDER BY", listed(sql(age, "ASC NULLS FIRST") for age in ages))


def _entity_times(node: EntityTimes, query: Query) -> Query:
    keys = [query.column(key) for key in node.keys]
    event = query.column(node.event_time)
    present = every([*(sql(key, "IS NOT NULL") for key in keys), _during(event, node.start, node.end)])
    chosen = query.select([*zip(node.keys, keys, strict=True), (node.event_time, _time(event))], "WHERE", present)
    cells = [cell(index) for index in range(len(chosen.names))]
    distinct = Query(sql("SELECT DISTINCT", listed(cells), "FROM", chosen.nested("q")), chosen.names)
    return distinct.all("ORDER BY", listed(cells))


# The point-in-time join


@dataclass(frozen=True, slots=True)
class _Spine:
    table: Query
    """The row's number, its time in microseconds, then its key columns."""
    keys: tuple[str, ...]
    """The key columns, by their names."""

    row: ClassVar[str] = "s.c0"
    time: ClassVar[str] = "s.c1"

    def key(self, own: str) -> str:
        """The expression of a key column."""
        return "s." + cell(2 + self.keys.index(own))

    def asked(self, join: GroupJoin) -> str:
        """The time that a join is asked about: before every row where a key is null (PIT-4).

        Said here, since the ASOF join of DuckDB 1 finds a row for a null.
        """
        absent = [sql(self.key(of_spine), "IS NULL") for of_spine, _ in join.keys]
        return sql("CASE WHEN", " OR ".join(absent) or "false", "THEN", whole(_NEVER), "ELSE", self.time, "END")


def _with_windows(session: Session, node: PointInTimeJoin, inputs: Mapping[str, Rows]) -> Query:
    """A join of which some groups have aggregations: those are the kernel's, the others one query as ever."""
    spine = session.fetch(compile_node(session, node.spine, inputs))
    held = "the spine"
    plain_joins = tuple(join for join in node.joins if isinstance(join, GroupJoin))
    found: dict[str, pa.Array | pa.ChunkedArray] = {}
    if plain_joins:
        plain_node = replace(node, spine=Input(held), joins=plain_joins)
        table = session.fetch(_point_in_time_join(session, plain_node, {**inputs, held: Rows(arrow=spine)}))
        found |= dict(zip(table.column_names, table.columns, strict=True))
    asked = session.register(spine)
    for join in node.joins:
        if isinstance(join, WindowJoin):
            rows = compile_node(session, join.rows, inputs)
            found |= window_join(session, join, asked, node.time, rows, as_known=node.as_known)
    return session.register(pa.table({item.name: found[item.name] for join in node.joins for item in join.outputs}))


def _point_in_time_join(session: Session, node: PointInTimeJoin, inputs: Mapping[str, Rows]) -> Query:
    """One ASOF join per group, all in one query.

    Each group is first cut down to rows that can be an answer, at most one per entity key and moment of becoming
    visible; the newest of them at or before the spine's time is then the answer of PIT-3, whole.
    """
    spine = _spine(session, node, compile_node(session, node.spine, inputs))
    joins: list[str] = []
    shown: list[tuple[str, str]] = []
    for index, join in enumerate(node.joins):
        assert isinstance(join, GroupJoin), "windows are joined apart"
        table = f"g{index}"
        answers = _answers(session, join, compile_node(session, join.rows, inputs), as_known=node.as_known)
        on = [sql(spine.key(of_spine), "=", f"{table}.k{place}") for place, (of_spine, _) in enumerate(join.keys)]
        on.append(sql(spine.asked(join), ">=", f"{table}.visible"))
        joins.append(sql("ASOF LEFT JOIN (", answers, ") AS", table, "ON", every(on)))
        defaults = _defaults(session, join)
        shown += [(output.name, _feature(join, output, place, table, spine, defaults))
                  for place, output in enumerate(join.outputs)]  # fmt: skip
    columns = listed(sql(expression, "AS", cell(index)) for index, (_, expression) in enumerate(shown))
    body = sql("SELECT", columns or "1 AS c0", "FROM", spine.table.nested("s"), *joins, "ORDER BY", spine.row)
    return Query(body, tuple(own for own, _ in shown))


def _spine(session: Session, node: PointInTimeJoin, rows: Query) -> _Spine:
    keys = tuple(dict.fromkeys(of_spine for join in node.joins for of_spine, _ in join.keys))
    # a null time comes before every row, so that nothing answers
    time = sql("coalesce(", _micros(rows.column(node.time)), ",", whole(_NEVER), ")")
    columns = [("row", _NUMBER), ("time", time)]
    columns += list(zip(keys, _comparable(session, rows, keys), strict=True))
    return _Spine(session.spool(rows.select(columns)), keys)


def _comparable(session: Session, rows: Query, keys: Sequence[str]) -> list[str]:
    """Key columns as an ASOF join compares them by value (PIT-4): binary, and on DuckDB 1 text, as its digits.

    Of several keys DuckDB runs the bytes together, so that zero bytes at the end of one are lost.
    """
    lossy = {"BLOB", "VARCHAR"} if duckdb.__version__.startswith("1.") else {"BLOB"}
    types = dict(zip(rows.names, session.types(rows), strict=True))
    columns = [(rows.column(key), types[key]) for key in keys]
    return [sql("hex(", column, ")") if dtype in lossy else column for column, dtype in columns]


def _answers(session: Session, join: GroupJoin, rows: Query, *, as_known: bool) -> str:
    """The rows of a group that answer for some time, as (k0, k1 ..., visible, event, o0, o1 ...).

    A row is visible from its event time on (PIT-2), as known not before its created time (PIT-5). Of the rows that
    are visible from one moment on, the newest answers (PIT-3), unless a row that was visible before is newer still.
    """
    declared = {output.column: Column(output.column, output.dtype) for output in join.outputs}
    rows = fit(session, rows, list(declared.values()), what=f"feature group {join.group!r}", caster=trusting)
    keys = _comparable(session, rows, [of_group for _, of_group in join.keys])
    event = _micros(rows.column(join.event_time))
    created = None if join.created_time is None else _micros(rows.column(join.created_time))
    visible = event if join.exact_matches else sql(event, "+ 1")
    late = as_known and created is not None
    if late:
        visible = sql("greatest(", visible, ", coalesce(", created or "", ",", whole(_NEVER), "))")
    columns = [sql(key, "AS", f"k{place}") for place, key in enumerate(keys)]
    columns += [sql(visible, "AS visible"), sql(event, "AS event")]
    columns += [sql(rows.column(output.column), "AS", f"o{place}") for place, output in enumerate(join.outputs)]
    columns += [] if created is None else [sql(created, "AS created")]
    columns.append(sql(rows.column(SEQUENCE), "AS sequence"))
    present = every(sql(column, "IS NOT NULL") for column in [*keys, event])
    table = sql("SELECT", listed(columns), "FROM", rows.nested("q"), "WHERE", present)
    names = [f"k{place}" for place in range(len(keys))]
    times = ["event"] if created is None else ["event", "created"]
    if not late:
        newest = _newest([*names, "event"], times[1:], "sequence")
        return sql("SELECT * FROM (", table, ") AS r QUALIFY", newest)
    partition = sql("PARTITION BY", listed(names)) if names else ""
    order = _in_order(names, [*times, "sequence"])
    aged = sql("SELECT *, row_number() OVER (", order, ") AS age FROM (", table, ") AS r")
    newest_yet = sql("max(age) OVER (", partition, "ORDER BY visible RANGE UNBOUNDED PRECEDING)")
    return sql("SELECT * FROM (", aged, ") AS r QUALIFY age =", newest_yet)


def _feature(join: GroupJoin, output: Output, place: int, table: str, spine: _Spine, defaults: Query | None) -> str:
    """One feature: null when its row is too old (PIT-2), its default wherever it would be null (ONL-5)."""
    value = f"{table}.o{place}"
    if join.ttl is not None:
        young = sql(spine.time, "-", f"{table}.event <=", whole(join.ttl))
        value = sql("CASE WHEN", young, "THEN", value, "END")
    if defaults is None or output.default is None:
        return value
    default = sql("(SELECT", defaults.column(output.name), "FROM", defaults.nested("d") + ")")
    return sql("coalesce(", value, ",", default, ")")


def _defaults(session: Session, join: GroupJoin) -> Query | None:
    """The defaults of a group's outputs, as a table of one row: values of any type, none of them written as SQL."""
    declared = [output for output in join.outputs if output.default is not None]
    if not declared:
        return None
    columns = []
    for output in declared:
        value = constant(output.default, output.dtype, what=f"default of {join.group}:{output.column}")
        columns.append(pa.array([value], value.type))
    return session.register(pa.table(columns, names=[output.name for output in declared]))


def _time(expression: str) -> str:
    """A time (TIME-1)."""
    return sql("CAST(", expression, "AS TIMESTAMPTZ)")


def _micros(expression: str) -> str:
    """A time in microseconds."""
    return sql("epoch_us(", _time(expression), ")")


def _at(micros: int) -> str:
    """The time of so many microseconds."""
    return sql("make_timestamptz(", whole(micros), ")")


def is_canonical(node: Node) -> bool:
    """Whether a node's columns have canonical types: one of its kind, or of the inputs that it hands on, made them."""
    match node:
        case Conform() | Align() | Latest() | EntityTimes() | Grid() | PointInTimeJoin():
            return True
        case CurrentEvents() | Limit() | Number() | Between() | Order() | Timeless():
            return is_canonical(node.input)
        case Concat():
            return all(is_canonical(part) for part in node.inputs)
        case Scan() | Input() | Apply():
            return False
        case _:
            assert_never(node)


__all__ = ["compile_node", "is_canonical"]
