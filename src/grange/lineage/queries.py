"""Column lineage of SQL transforms: what each output column of a SELECT over `source` is made of. Pure.

The query is read scope by scope: common table expressions, joins with itself, stars, subqueries, set operations,
windows, aliases that later columns use. What the source's columns are need not be known. What cannot be looked into
(pivots, `COLUMNS(...)`) says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from grange.lineage.dependence import Dependence, Dependences, How, through, within
from grange.lineage.relations import (
    NOTHING,
    OPAQUE,
    Base,
    Call,
    Known,
    Made,
    Named,
    Relation,
    Scope,
    Star,
    UnknownColumnsError,
    renamed,
)

SOURCE: Final = "source"
Names = Mapping[str, Relation]
"""By name in lower case, what FROM can name."""


@lru_cache(maxsize=1024)
def query_columns(query: str, outputs: tuple[str, ...], known: Known) -> Mapping[str, Dependences]:
    """What some output columns of a query depend on, by name.

    Args:
        query: one SELECT over `source`, in DuckDB's dialect.
        outputs: the columns that it gives, as it is known that it does.
        known: what is known of the columns of `source`.
    """
    import sqlglot

    try:
        made = _query(sqlglot.parse_one(query, dialect="duckdb"), {SOURCE: Base(known)}, None)
    except (UnknownColumnsError, sqlglot.errors.SqlglotError, RecursionError):  # nested hundreds of times
        return dict.fromkeys(outputs, OPAQUE)
    found = {name: made.find(name) for name in outputs}
    return {name: OPAQUE if item is None else item.made_of | made.rows for name, item in found.items()}


def _query(node: Any, names: Names, outer: Scope | None) -> Relation:
    """The rows of a query, whatever its form."""
    from sqlglot import exp

    names = _with_ctes(node, names, outer)
    match node:
        case exp.Select():
            return _Select(node, names, outer).rows()
        case exp.SetOperation():
            return _set_operation(node, names, outer)
        case exp.Subquery():
            _refuse_pivots(node)
            inner = _query(node.this, names, outer)
            return renamed(inner, _column_aliases(node))
        case exp.Table():
            scope = Scope(names, outer)
            rows = _add(scope, node)
            return Made(tuple(map(Star, scope.tables.values())), rows)
        case exp.Values():
            return _values(node, Scope(names, outer))
        case _:
            raise UnknownColumnsError


def _with_ctes(node: Any, names: Names, outer: Scope | None) -> Names:
    """The names that the common table expressions of a query add."""
    found = dict(names)
    for cte in getattr(node, "ctes", ()):
        name = cte.alias_or_name.casefold()
        aliases = _column_aliases(cte)
        if _is_recursive(cte):
            found[name] = _recursive(cte, name, aliases, found, outer)
        else:
            found[name] = renamed(_query(cte.this, found, outer), aliases)
    return found


def _is_recursive(cte: Any) -> bool:
    from sqlglot import exp

    own = cte.alias_or_name.casefold()
    declared = cte.parent is not None and bool(cte.parent.args.get("recursive"))
    return (
        declared
        and isinstance(cte.this, exp.SetOperation)
        and any(table.name.casefold() == own for table in cte.this.find_all(exp.Table))
    )


def _recursive(cte: Any, name: str, aliases: list[str], names: Names, outer: Scope | None) -> Relation:
    """A recursive expression: its first part, and what its second adds, until that adds nothing new."""
    before = renamed(_query(cte.this.left, names, outer), aliases)
    while True:
        after = renamed(_query(cte.this, {**names, name: before}, outer), aliases)
        if after == before:
            return after
        before = after


def _set_operation(node: Any, names: Names, outer: Scope | None) -> Relation:
    from sqlglot import exp

    left, right = _query(node.left, names, outer), _query(node.right, names, outer)
    if isinstance(node, exp.Union):
        items = _by_name(left, right) if node.args.get("by_name") else _by_position(left, right)
        rows = left.rows | right.rows
    else:  # the rows of the right side only choose among those of the left
        items = left.items if isinstance(left, Made) else (Star(left),)
        rows = left.rows | through(right.everything() | right.rows, "filter")
    made = Made(items, rows)
    if node.args.get("distinct"):
        made = Made(items, rows | through(made.everything(), "group_by"))
    scope = Scope(names, outer, {"": made})
    order = node.args.get("order")
    sorts = NOTHING if order is None else _all((part.this for part in order.expressions), scope, "sort")
    return Made(items, made.rows | sorts)


def _by_position(left: Relation, right: Relation) -> tuple[Named | Star, ...]:
    """The columns of both sides put together one by one."""
    if isinstance(left, Made) and isinstance(right, Made) and _alike(left, right):
        return tuple(
            Named(a.name, a.made_of | b.made_of) if isinstance(a, Named) and isinstance(b, Named) else a
            for a, b in zip(left.items, right.items, strict=True)
        )
    first, second = left.ordered(), right.ordered()
    if len(first) != len(second):
        raise UnknownColumnsError
    return tuple(Named(name, a | b) for (name, a), (_, b) in zip(first, second, strict=True))


def _alike(left: Made, right: Made) -> bool:
    """Whether two sides have the same stars at the same places, so that the order of their columns is the same."""
    pairs = list(zip(left.items, right.items, strict=False))
    same = (a == b if isinstance(a, Star) else isinstance(b, Named) for a, b in pairs)
    return len(left.items) == len(right.items) and all(same)


def _by_name(left: Relation, right: Relation) -> tuple[Named | Star, ...]:
    """The columns of both sides put together by name."""
    sides = [dict(side.ordered()) for side in (left, right)]
    folded = [{name.casefold(): made_of for name, made_of in side.items()} for side in sides]
    wanted = {name.casefold(): name for side in reversed(sides) for name in side}
    ordered = dict.fromkeys([*folded[0], *folded[1]])
    return tuple(Named(wanted[key], folded[0].get(key, NOTHING) | folded[1].get(key, NOTHING)) for key in ordered)


def _values(node: Any, scope: Scope) -> Relation:
    """Rows of constants, or of what a query around them has."""
    rows = [[_value(part, scope) for part in row.expressions] for row in node.expressions]
    width = max(map(len, rows), default=0)
    columns = _column_aliases(node) + [f"col{index}" for index in range(width)]
    made = (frozenset().union(*(row[index] for row in rows if index < len(row))) for index in range(width))
    return Made(tuple(Named(name, item) for name, item in zip(columns, made, strict=False)))


def _add(scope: Scope, node: Any) -> Dependences:
    """Put what FROM or JOIN names into a scope; returns what decides its rows."""
    from sqlglot import exp

    _refuse_pivots(node)
    alias = node.alias_or_name.casefold()
    match node:
        case exp.Table() if isinstance(node.this, exp.Identifier):
            relation = _named_table(node, scope.names)
        case exp.Table():
            relation = Call(_value(node.this, scope, "transformation"))
        case exp.Unnest():
            relation = Call(_all(node.expressions, scope, "transformation"))
        case exp.Lateral():
            called = node.this
            is_query = isinstance(called, exp.Subquery | exp.Query)
            made = NOTHING if is_query else _value(called, scope, "transformation")
            relation = _query(called, scope.names, scope) if is_query else Call(made)
        case exp.Subquery() if isinstance(node.this, exp.Table) and not node.alias:
            return _add(scope, node.this)  # parentheses around a join
        case exp.Subquery():
            relation = _query(node.this, _with_ctes(node, scope.names, scope), scope)
        case exp.Values():
            relation = _values(node, scope)
        case _:
            raise UnknownColumnsError
    if not isinstance(node, exp.Values):
        relation = renamed(relation, _column_aliases(node))
    scope.tables[alias or f"#{len(scope.tables)}"] = relation
    rows = relation.rows | (through(relation.made_of, "join") if isinstance(relation, Call) else NOTHING)
    for join in node.args.get("joins") or ():
        rows |= _join(scope, join)
    return rows


def _named_table(node: Any, names: Names) -> Relation:
    found = names.get(node.name.casefold())
    if found is None:
        raise UnknownColumnsError
    return found


def _join(scope: Scope, join: Any) -> Dependences:
    """Put a join's right side into a scope; returns what decides the rows of both."""
    before = dict(scope.tables)
    rows = _add(scope, join.this)
    right = {alias: table for alias, table in scope.tables.items() if alias not in before}
    if (join.args.get("method") or "").upper() == "NATURAL":
        keys = _common(before.values(), right.values())
    else:
        keys = [key.name for key in join.args.get("using") or ()]
    for key in keys:
        scope.using.add(key.casefold())
        both = [found.made_of for table in scope.tables.values() if (found := table.find(key)) is not None]
        rows |= through(frozenset().union(*both), "join")
    on = join.args.get("on")
    if on is not None:
        rows |= _value(on, scope, "join")
    if (join.args.get("kind") or "").upper() in ("SEMI", "ANTI"):
        scope.tables = before  # the right side only chooses rows of the left
    return rows


def _common(left: Iterable[Relation], right: Iterable[Relation]) -> list[str]:
    """The names of columns that both sides of a natural join have.

    Raises:
        UnknownColumnsError: not all columns are known.
    """
    first = {name.casefold() for table in left for name, _ in table.ordered()}
    return [name for table in right for name, _ in table.ordered() if name.casefold() in first]


class _Select:
    """One SELECT: its FROM, then its columns in order, then the clauses that decide its rows."""

    def __init__(self, node: Any, names: Names, outer: Scope | None) -> None:
        self.node = node
        self.scope = Scope(names, outer)
        self.made: list[tuple[Any, Named]] = []
        """Columns that the query names, with their expressions."""

    def rows(self) -> Made:
        """The rows that it makes."""
        joined = self._from()
        for window in self.node.args.get("windows") or ():
            self.scope.windows[window.name.casefold()] = window
        items = tuple(item for expression in self.node.expressions for item in self._column(expression))
        rows = joined | self._deciding(items)
        return Made(items, rows)

    def _from(self) -> Dependences:
        source = self.node.args.get("from_") or self.node.args.get("from")
        rows = NOTHING if source is None else _add(self.scope, source.this)
        for join in self.node.args.get("joins") or ():
            rows |= _join(self.scope, join)
        for lateral in self.node.args.get("laterals") or ():
            rows |= _add(self.scope, lateral)
        return rows

    def _column(self, expression: Any) -> Iterator[Named | Star]:
        from sqlglot import exp

        star = expression.this if isinstance(expression, exp.Column) else expression
        if isinstance(star, exp.Star):
            table = expression.args.get("table") if isinstance(expression, exp.Column) else None
            yield from self._star(star, None if table is None else table.name)
            return
        if isinstance(expression, exp.Columns):
            yield Star(Call(OPAQUE))
            return
        name = expression.alias_or_name or expression.sql(dialect="duckdb")
        yield self._named(name, expression)

    def _named(self, name: str, expression: Any) -> Named:
        """One column. One that cannot be looked into does not make the others opaque."""
        from sqlglot import exp

        try:
            made_of = _value(expression, self.scope)
        except UnknownColumnsError:
            made_of = OPAQUE
        found = Named(name, made_of)
        folded = name.casefold()
        self.made.append((expression, found))
        if isinstance(expression, exp.Alias):
            self.scope.aliases.setdefault(folded, made_of)
            named = (column.name for column in expression.find_all(exp.Column) if len(column.parts) == 1)
            if folded in map(str.casefold, named):
                self.scope.self_named.add(folded)
        return found

    def _star(self, star: Any, table: str | None) -> Iterator[Named | Star]:
        if table is not None:
            found = self.scope.table(table)
            if found is None:
                raise UnknownColumnsError
            chosen = [found]
        else:
            chosen = list(self.scope.tables.values())
        replaced = {item.alias_or_name.casefold(): item for item in star.args.get("replace") or ()}
        hidden = {item.name.casefold() for item in star.args.get("except_") or star.args.get("except") or ()}
        names = tuple((item.alias.casefold(), item.this.name) for item in star.args.get("rename") or ())
        for item in replaced.values():
            yield self._named(item.alias_or_name, item)
        for relation in chosen:
            yield Star(relation, frozenset(hidden | replaced.keys()), names)

    def _deciding(self, items: tuple[Named | Star, ...]) -> Dependences:
        """What the clauses of the query have to say about its rows."""
        args, scope = self.node.args, self.scope
        rows = _clause(args.get("where"), scope, "filter")
        rows |= self._grouped()
        rows |= _clause(args.get("having"), scope, "filter")
        rows |= _clause(args.get("qualify"), scope, "filter")
        distinct = args.get("distinct")
        if distinct is not None:
            on = distinct.args.get("on")
            chosen = Made(items).everything() if on is None else _value(on, scope)
            rows |= through(chosen, "group_by")
        return rows | self._sorted(args.get("order"))

    def _grouped(self) -> Dependences:
        from sqlglot import exp

        group = self.node.args.get("group")
        if group is None:
            return NOTHING
        found = _all((part for part in group.iter_expressions() if not part.is_int), self.scope, "group_by")
        for part in group.expressions:
            found |= through(self._at(part), "group_by") if part.is_int else NOTHING
        if group.args.get("all"):
            plain = [item for expression, item in self.made if expression.find(exp.AggFunc) is None]
            found |= through(frozenset().union(*(item.made_of for item in plain)), "group_by")
        return found

    def _sorted(self, order: Any) -> Dependences:
        found = NOTHING
        for part in () if order is None else order.expressions:
            found |= self._sort_key(part.this)
        return found

    def _sort_key(self, part: Any) -> Dependences:
        """What ORDER BY names: a place, everything, a column of the query's own, which come first here, or another."""
        from sqlglot import exp

        own = self.scope.aliases.get(part.name.casefold())
        if part.is_int:
            return through(self._at(part), "sort")
        if isinstance(part, exp.Var):  # ORDER BY ALL
            return through(frozenset().union(*(item.made_of for _, item in self.made)), "sort")
        if isinstance(part, exp.Column) and len(part.parts) == 1 and own is not None:
            return through(own, "sort")
        return _value(part, self.scope, "sort")

    def _at(self, position: Any) -> Dependences:
        """The column at a place in the SELECT list: `GROUP BY 1`."""
        index = int(position.this) - 1
        if any(expression.is_star for expression in self.node.expressions) or not 0 <= index < len(self.made):
            raise UnknownColumnsError
        return self.made[index][1].made_of


def _value(node: Any, scope: Scope, how: How = "identity") -> Dependences:
    """What the value of an expression depends on.

    Args:
        node: the expression.
        scope: the names in it.
        how: what the expression is where it stands.
    """
    from sqlglot import exp

    match node:
        case None | exp.Identifier() | exp.Literal() | exp.DataType() | exp.Var():
            return NOTHING
        case exp.Column():
            return through(_column(node, scope), how)
        case exp.Alias() | exp.Paren():
            return _value(node.this, scope, how)
        case exp.Case():
            return _case(node, scope, how)
        case exp.If():
            return _branches([node.this], [node.args.get("true"), node.args.get("false")], scope, how)
        case exp.Window():
            return _value(node.this, scope, within(how, "transformation")) | _window(node, scope, how)
        case exp.Filter():
            return _value(node.this, scope, how) | _value(node.expression.this, scope, within(how, "filter"))
        case exp.WithinGroup():
            return _all([node.this, node.expression], scope, within(how, "aggregation"))
        case exp.ArgMax() | exp.ArgMin():
            chosen = _value(node.this, scope, within(how, "aggregation"))
            return chosen | _value(node.expression, scope, within(how, "conditional"))
        case exp.AggFunc():
            parts = (part for part in node.iter_expressions() if not isinstance(part, exp.Star))
            return _all(parts, scope, within(how, "aggregation"))
        case exp.Order():
            sorts = _all((part.this for part in node.expressions), scope, within(how, "sort"))
            return _value(node.this, scope, how) | sorts
        case exp.Comprehension():
            return _comprehension(node, scope, how)
        case exp.Exists():
            return through(_query(node.this, scope.names, scope).rows, how)  # its columns have no say
        case exp.Query():
            rows = _query(node, scope.names, scope)
            return through(rows.everything(), within(how, "transformation")) | through(rows.rows, how)
        case exp.Columns() | exp.Star():
            raise UnknownColumnsError
        case exp.Binary():  # a OR b OR c is one list, however long
            return _all(node.flatten(unnest=False), scope, within(how, "transformation"))
        case _:
            return _all(node.iter_expressions(), scope, within(how, "transformation"))


def _column(node: Any, scope: Scope) -> Dependences:
    """A column: alone, of a table, or a field inside it."""
    parts = [part.name for part in node.parts]
    if node.is_star:
        raise UnknownColumnsError
    if len(parts) == 1:
        if scope.table(parts[0]) is not None and not _is_column(parts[0], scope):
            raise UnknownColumnsError  # a whole row as one value
        return scope.column(parts[0])
    for place in (0, 1):  # alias.column, or schema.table.column
        table = scope.table(parts[place]) if place + 1 < len(parts) else None
        found = table.find(parts[place + 1]) if table is not None else None
        if found is not None:
            return found.made_of if place + 2 == len(parts) else through(found.made_of, "transformation")
    return through(scope.column(parts[0]), "transformation")


def _is_column(name: str, scope: Scope) -> bool:
    """Whether a name that is a table's is a column's, too, as far as is known."""
    return scope.is_sure_of(name) or name.casefold() in scope.aliases


def _case(node: Any, scope: Scope, how: How) -> Dependences:
    ifs = node.args.get("ifs") or ()
    conditions = [node.this, *(branch.this for branch in ifs)]
    return _branches(conditions, [*(branch.args.get("true") for branch in ifs), node.args.get("default")], scope, how)


def _branches(conditions: Iterable[Any], results: Iterable[Any], scope: Scope, how: How) -> Dependences:
    decided = _all(conditions, scope, within(how, "conditional"))
    return decided | _all(results, scope, within(how, "transformation"))


def _window(node: Any, scope: Scope, how: How) -> Dependences:
    """What a window depends on: its own parts, and those of the window that it names."""
    order = node.args.get("order")
    parts = [*(node.args.get("partition_by") or ()), *(part.this for part in (order.expressions if order else ()))]
    named = scope.windows.get(node.alias.casefold())
    found = _all(parts, scope, within(how, "window"))
    return found if named is None else found | _window(named, scope, how)


def _comprehension(node: Any, scope: Scope, how: How) -> Dependences:
    """`[x + 1 FOR x IN xs IF x > y]`: x is an element of xs, not a column."""
    elements = _value(node.args.get("iterator"), scope)
    inner = Scope(scope.names, scope, {"": Made((Named(node.expression.name, elements),))})
    made = through(elements, within(how, "transformation")) | _value(node.this, inner, within(how, "transformation"))
    return made | _value(node.args.get("condition"), inner, within(how, "conditional"))


def _all(nodes: Iterable[Any], scope: Scope, how: How) -> Dependences:
    found: set[Dependence] = set()
    for node in nodes:
        found |= _value(node, scope, how)
    return frozenset(found)


def _clause(node: Any, scope: Scope, how: How) -> Dependences:
    """What WHERE, HAVING or QUALIFY depends on."""
    return NOTHING if node is None else _value(node.this, scope, how)


def _column_aliases(node: Any) -> list[str]:
    alias = node.args.get("alias")
    columns = getattr(alias, "args", {}).get("columns") or ()
    return [column.name for column in columns]


def _refuse_pivots(node: Any) -> None:
    if node.args.get("pivots"):
        raise UnknownColumnsError
