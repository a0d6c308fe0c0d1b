"""From SQL text to the closed set of nodes: what is not in the catalogue is refused here.

sqlglot reads the text (DuckDB's dialect). Each kind of node that it makes is either listed here, with exactly the
parts that it may have, or refused; so nothing reaches an engine that was not written by `grange` itself.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from grange.definitions.expression_nodes import Call, Column, Literal, Node
from grange.errors import DefinitionError, closest_names

MAX_TEXT: Final = 10_000
"""Characters that an expression may have."""
MAX_NODES: Final = 1_000
"""Nodes that an expression may have, those of `BETWEEN`, `NULLIF` and simple `CASE` written out."""
MAX_DEPTH: Final = 100
"""Calls within calls."""

EXTRACT_UNITS: Final = (
    "year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "hour", "minute", "second", "epoch",
)  # fmt: skip
TRUNCATE_UNITS: Final = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
DIFFERENCE_UNITS: Final = ("day", "hour", "minute", "second", "millisecond", "microsecond")

_UNIT_NAMES: Final = {
    "years": "year", "months": "month", "weeks": "week", "days": "day", "hours": "hour", "minutes": "minute",
    "seconds": "second", "milliseconds": "millisecond", "microseconds": "microsecond", "quarters": "quarter",
    "dayofweek": "dow", "weekday": "dow", "dayofyear": "doy", "weekofyear": "week",
}  # fmt: skip

_BINARY: Final = {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "IntDiv": "//", "Mod": "%", "DPipe": "||", "Pow": "power",
    "EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">=", "And": "and", "Or": "or",
    "NullSafeNEQ": "is_distinct", "StartsWith": "starts_with", "EndsWith": "ends_with", "Contains": "contains",
}  # fmt: skip
_UNARY: Final = {
    "Not": "not", "Abs": "abs", "Floor": "floor", "Ceil": "ceil", "Sqrt": "sqrt", "Ln": "ln", "Exp": "exp",
    "Sign": "sign", "Lower": "lower", "Upper": "upper", "Length": "length",
    "Year": "extract_year", "Quarter": "extract_quarter", "Month": "extract_month", "Week": "extract_week",
    "Day": "extract_day", "Hour": "extract_hour", "Minute": "extract_minute", "Second": "extract_second",
    "DayOfWeek": "extract_dow", "DayOfYear": "extract_doy", "TimeToUnix": "extract_epoch",
}  # fmt: skip
_VARIADIC: Final = {"Greatest": "greatest", "Least": "least", "Coalesce": "coalesce", "Concat": "concat"}
_CAST_NAMES: Final = {
    "TINYINT": "int8", "SMALLINT": "int16", "INT": "int32", "BIGINT": "int64",
    "FLOAT": "float32", "DOUBLE": "float64",
    "TEXT": "string", "VARCHAR": "string", "CHAR": "string", "BOOLEAN": "boolean", "DATE": "date",
    "TIMESTAMP": "datetime", "TIMESTAMPNTZ": "datetime", "TIMESTAMPTZ": "datetime",
}  # fmt: skip
_POSITIONAL: Final = {
    "starts_with": ("starts_with", 2), "ends_with": ("ends_with", 2), "suffix": ("ends_with", 2),
    "prefix": ("starts_with", 2), "contains": ("contains", 2), "replace": ("replace", 3),
}  # fmt: skip
"""Functions that some versions of sqlglot have no class for."""
_HARMLESS: Final = frozenset(("safe", "typed", "coalesce", "ignore_nulls", "date_part_boundary", "is_left_assoc"))
"""What sqlglot notes down besides the arguments, for other dialects."""

SUPPORTED: Final = (
    "ABS", "CASE", "CAST", "CEIL", "COALESCE", "CONCAT", "CONTAINS", "DATE_DIFF", "DATE_PART",
    "DATE_TRUNC", "ENDS_WITH", "EXP", "EXTRACT", "FLOOR", "GREATEST", "IF", "IFNULL", "LEAST",
    "LENGTH", "LIKE", "LN", "LOG", "LOG10", "LOWER", "LTRIM", "NULLIF", "POWER", "REPLACE",
    "ROUND", "RTRIM", "SIGN", "SQRT", "STARTS_WITH", "SUBSTRING", "TRIM", "TRY_CAST", "UPPER",
)  # fmt: skip
"""The functions that there are, for people."""

SPACES: Final = "".join(map(chr, (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))
"""What TRIM takes away: Unicode's separators (category Zs), as in DuckDB; tabs and line ends are none."""

_YEAR: Final = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
TIME_PATTERN: Final = (
    f"({_YEAR}-[0-9]{{2}}-[0-9]{{2}})"
    "(?:[ T]((?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,6})?)?)"
    "(Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?"
)
"""ISO 8601 as expressions read it, the same in Python's and in DuckDB's regular expressions: a day of the years 1 to
9999, then perhaps a time of at most microseconds, then perhaps `Z` or an offset. Its groups are these three."""
_TIME: Final = re.compile(TIME_PATTERN)


def parse_time(text: str) -> dt.datetime | None:
    """The UTC datetime of ISO 8601 text (`TIME_PATTERN`), naive read as UTC, a day as its midnight (TIME-1).

    None when it is none, or one outside of the years 1 to 9999.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    day, clock, offset = found.groups()
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset or 'Z'}")
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def parse(text: str, *, what: str) -> Node:
    """The tree of an expression's text.

    Raises:
        DefinitionError: it is no text, no SQL, not exactly one expression, too large, or uses what is not in the
            catalogue: a subquery, an aggregate, a window, the clock, chance, an unknown function.
    """
    reader = _Reader(text if isinstance(text, str) else repr(text), what)
    if not isinstance(text, str) or not text.strip():
        raise reader.refusal("an expression is SQL text", found=repr(text))
    if len(text) > MAX_TEXT:
        raise reader.refusal(f"an expression has at most {MAX_TEXT} characters", found=f"{len(text)} characters")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise reader.refusal("an expression holds no NUL and no half of a surrogate pair")
    try:
        tree = reader.read(_one_expression(reader, text))
        _check_size(reader, tree)
    except RecursionError:
        raise reader.refusal(f"it is nested more than {MAX_DEPTH} deep") from None
    return tree


def _one_expression(reader: _Reader, text: str) -> Any:
    """sqlglot's tree of a text that is one expression. In a SELECT, so that no column is taken for a statement."""
    import sqlglot
    from sqlglot import exp

    try:
        # on a line of its own, so that a comment at its end hides nothing
        statements = sqlglot.parse(f"SELECT (\n{text}\n)", dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise reader.refusal(f"it is not SQL: {_first_line(error)}") from error
    select = statements[0] if len(statements) == 1 else None
    parts = {name for name, part in select.args.items() if part} if isinstance(select, exp.Select) else set()
    if select is None or parts != {"expressions"} or len(select.expressions) != 1:
        raise reader.refusal("it is not exactly one expression")
    shell = select.expressions[0]
    if not isinstance(shell, exp.Paren):
        raise reader.refusal("it is not exactly one expression")
    return shell.this


def _check_size(reader: _Reader, tree: Node) -> None:
    """Refuse what would take long to run. Shared parts count as often as they are evaluated."""
    measured: dict[int, tuple[int, int]] = {}

    def measure(node: Node) -> tuple[int, int]:
        if not isinstance(node, Call):
            return 1, 0
        if id(node) not in measured:
            sizes = [measure(argument) for argument in node.arguments]
            measured[id(node)] = (1 + sum(size for size, _ in sizes), 1 + max(depth for _, depth in sizes))
        return measured[id(node)]

    size, depth = measure(tree)
    if size > MAX_NODES:
        raise reader.refusal(f"it has more than {MAX_NODES} parts", found=f"{size} parts")
    if depth > MAX_DEPTH:
        raise reader.refusal(f"it is nested more than {MAX_DEPTH} deep", found=f"{depth} deep")


class _Reader:
    """Reads sqlglot's nodes; knows whose expression it is, for the errors."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what

    def refusal(
        self, reason: str, *, found: str | None = None, closest: Iterable[str] = (), try_: str | None = None
    ) -> DefinitionError:
        """The error that this expression is not accepted."""
        return DefinitionError(
            f"{self.what}: expression {self.text.strip()!r:.200}: {reason}", found=found, closest=closest, try_=try_
        )

    def read(self, node: Any) -> Node:
        """Our node of sqlglot's."""
        name = type(node).__name__
        if name in _BINARY:
            return Call(_BINARY[name], self.parts(node, "this", "expression"))
        if name in _UNARY:
            return Call(_UNARY[name], self.parts(node, "this"))
        if name in _VARIADIC:
            return Call(_VARIADIC[name], self.variadic(node))
        special = _SPECIAL.get(name)
        if special is None:
            raise self.unsupported(node)
        return special(self, node)

    def check(self, node: Any, *allowed: str) -> None:
        """Refuse a node with other parts than these: a FILTER, a DISTINCT, an option of another dialect."""
        others = [name for name, part in node.args.items() if part not in (None, False, []) and name not in allowed]
        if any(name not in _HARMLESS for name in others):
            raise self.refusal("an option that derived features do not have", found=_sql(node))

    def parts(self, node: Any, *names: str) -> tuple[Node, ...]:
        """The arguments of these names, all of which must be there, and no others."""
        self.check(node, *names)
        if any(node.args.get(name) is None for name in names):
            raise self.refusal("an argument is missing", found=_sql(node))
        return tuple(self.read(node.args[name]) for name in names)

    def variadic(self, node: Any) -> tuple[Node, ...]:
        self.check(node, "this", "expressions")
        first = [node.this] if node.args.get("this") is not None else []
        arguments = tuple(self.read(part) for part in (*first, *node.expressions))
        if not arguments:
            raise self.refusal("an argument is missing", found=_sql(node))
        return arguments

    def column(self, node: Any) -> Node:
        from sqlglot import exp

        if not isinstance(node.this, exp.Identifier):
            raise self.unsupported(node)
        if any(node.args.get(part) for part in ("table", "db", "catalog", "join_mark")):
            raise self.refusal(
                "a column has no table, and structs have no fields here",
                found=_sql(node),
                try_=f"a name with a point in quotes: {chr(34)}{_sql(node).replace(chr(34), '')}{chr(34)}",
            )
        return Column(node.this.this)

    def literal(self, node: Any) -> Node:
        text = node.this
        if node.is_string:
            return Literal(text)
        if re.fullmatch("[0-9]+", text):
            return self.integer(int(text))
        value = float(text)
        if value == float("inf"):
            raise self.refusal("a number is too large for float64", found=text)
        return Literal(value)

    def integer(self, value: int) -> Node:
        if not -(2**63) <= value < 2**63:
            raise self.refusal("an integer does not fit into 64 bits", found=str(value), try_=f"as float64: {value}.0")
        return Literal(value)

    def negate(self, node: Any) -> Node:
        from sqlglot import exp

        self.check(node, "this")
        inner = node.this
        if isinstance(inner, exp.Literal) and not inner.is_string:
            # the smallest integer has no positive counterpart, so the sign belongs to the number
            if re.fullmatch("[0-9]+", inner.this):
                return self.integer(-int(inner.this))
            read = self.literal(inner)
            assert isinstance(read, Literal) and isinstance(read.value, float)
            return Literal(-read.value)
        return Call("negate", (self.read(inner),))

    def same(self, node: Any) -> Node:
        self.check(node, "this", "expression")
        return Call("not", (Call("is_distinct", self.parts(node, "this", "expression")),))

    def is_(self, node: Any) -> Node:
        left, right = self.parts(node, "this", "expression")
        match right:
            case Literal(value=None):
                return Call("is_null", (left,))
            case Literal(value=bool()):
                return Call("not", (Call("is_distinct", (left, right)),))
            case _:
                raise self.unsupported(node)

    def between(self, node: Any) -> Node:
        value, low, high = self.parts(node, "this", "low", "high")
        return Call("and", (Call(">=", (value, low)), Call("<=", (value, high))))

    def in_(self, node: Any) -> Node:
        self.check(node, "this", "expressions")
        if not node.expressions:
            raise self.refusal("IN takes a list of values", found=_sql(node), try_="kind IN ('card', 'cash')")
        return Call("in", (self.read(node.this), *map(self.read, node.expressions)))

    def like(self, node: Any) -> Node:
        self.check(node, "this", "expression", "negate")
        call = Call("like", (self.read(node.this), self.read(node.expression)))
        if not isinstance(call.arguments[1], Literal):
            raise self.refusal(
                "the pattern of LIKE must be a constant", found=_sql(node), try_="CONTAINS or STARTS_WITH"
            )
        return Call("not", (call,)) if node.args.get("negate") else call

    def case(self, node: Any) -> Node:
        self.check(node, "this", "ifs", "default")
        operand = self.read(node.this) if node.args.get("this") is not None else None
        arguments: list[Node] = []
        for branch in node.args["ifs"]:
            condition, result = self.parts(branch, "this", "true")
            arguments += [condition if operand is None else Call("=", (operand, condition)), result]
        return Call("case", (*arguments, self.optional(node, "default")))

    def if_(self, node: Any) -> Node:
        self.check(node, "this", "true", "false")
        return Call("case", (self.read(node.this), self.read(node.args["true"]), self.optional(node, "false")))

    def optional(self, node: Any, name: str) -> Node:
        part = node.args.get(name)
        return Literal(None) if part is None else self.read(part)

    def nullif(self, node: Any) -> Node:
        value, other = self.parts(node, "this", "expression")
        return Call("case", (Call("=", (value, other)), Literal(None), value))

    def cast(self, node: Any) -> Node:
        self.check(node, "this", "to", "safe")
        target = node.args["to"]
        name = getattr(target.this, "name", str(target.this))
        if name not in _CAST_NAMES or target.args.get("expressions") or target.args.get("nested"):
            raise self.refusal(
                f"CAST does not know {target.sql(dialect='duckdb')}",
                found=_sql(node),
                closest=closest_names(name, ("BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "TIMESTAMP")),
                try_="BIGINT, DOUBLE, VARCHAR, BOOLEAN, DATE or TIMESTAMP",
            )
        kind, operand = _CAST_NAMES[name], self.read(node.this)
        if kind in ("date", "datetime") and isinstance(operand, Literal) and isinstance(operand.value, str):
            moment = parse_time(operand.value)
            if moment is None:
                raise self.refusal(
                    "this is no time", found=_sql(node), try_="DATE '2026-11-21', TIMESTAMP '2026-11-21 10:00:00'"
                )
            return Literal(moment if kind == "datetime" else moment.date())
        return Call(f"cast_{kind}", (operand,))

    def round(self, node: Any) -> Node:
        self.check(node, "this", "decimals")
        value, digits = self.read(node.this), node.args.get("decimals")
        if digits is None:
            return Call("round", (value,))
        places = self.read(digits)
        match places:
            case Literal(value=int(count)) if not isinstance(count, bool) and -15 <= count <= 15:
                return Call("round", (value, places))
            case _:
                raise self.refusal("ROUND takes a constant number of digits, -15 to 15", found=_sql(node))

    def log(self, node: Any) -> Node:
        self.check(node, "this", "expression")
        if node.args.get("expression") is None:
            return Call("log10", (self.read(node.this),))
        base, value = self.parts(node, "this", "expression")
        if base != Literal(10):
            raise self.refusal("LOG has base 10", found=_sql(node), try_="LN(x) / LN(base)")
        return Call("log10", (value,))

    def trim(self, node: Any) -> Node:
        self.check(node, "this", "expression", "position")
        side = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(node.args.get("position") or "", "trim")
        letters = node.args.get("expression")
        value = self.read(node.this)
        return Call(side, (value,) if letters is None else (value, self.read(letters)))

    def substring(self, node: Any) -> Node:
        self.check(node, "this", "start", "length")
        names = ("this", "start") if node.args.get("length") is None else ("this", "start", "length")
        return Call("substring", self.parts(node, *names))

    def replace(self, node: Any) -> Node:
        return Call("replace", self.parts(node, "this", "expression", "replacement"))

    def extract(self, node: Any) -> Node:
        self.check(node, "this", "expression")
        return Call(f"extract_{self.unit(node.this, EXTRACT_UNITS)}", (self.read(node.expression),))

    def truncate(self, node: Any) -> Node:
        self.check(node, "this", "unit")
        return Call(f"truncate_{self.unit(node.args.get('unit'), TRUNCATE_UNITS)}", (self.read(node.this),))

    def difference(self, node: Any) -> Node:
        self.check(node, "this", "expression", "unit")
        # DATE_DIFF(unit, start, end): sqlglot has the end first
        ends = (self.read(node.expression), self.read(node.this))
        return Call(f"difference_{self.unit(node.args.get('unit'), DIFFERENCE_UNITS)}", ends)

    def unit(self, node: Any, allowed: tuple[str, ...]) -> str:
        written = str(getattr(node, "name", "") or "").lower()
        unit = _UNIT_NAMES.get(written, written)
        if unit not in allowed:
            raise self.refusal(
                f"no unit {written!r} of time here", closest=closest_names(unit, allowed), try_=", ".join(allowed)
            )
        return unit

    def anonymous(self, node: Any) -> Node:
        name, arguments = str(node.this).lower(), node.expressions
        if name in ("date_part", "datepart") and len(arguments) == 2:
            return Call(f"extract_{self.unit(arguments[0], EXTRACT_UNITS)}", (self.read(arguments[1]),))
        function, count = _POSITIONAL.get(name, (None, 0))
        if function is None or len(arguments) != count:
            raise self.unsupported(node)
        return Call(function, tuple(map(self.read, arguments)))

    def unsupported(self, node: Any) -> DefinitionError:
        """Refuse a node that is not in the catalogue, with the reason where there is a better one."""
        from sqlglot import exp

        found = _sql(node)
        if isinstance(node, exp.Query | exp.Subquery | exp.Exists | exp.Star | exp.Columns):
            return self.refusal(
                "it looks beyond its own row", found=found, try_="compute it in a feature group's transform"
            )
        if isinstance(node, exp.AggFunc | exp.Window):
            return self.refusal(
                "it aggregates over rows, and sees one row at a time",
                found=found,
                closest=("GREATEST, LEAST over columns",),
                try_="declare an aggregation on the feature group: gr.Rolling(...)",
            )
        if isinstance(node, exp.Interval):
            return self.refusal("there are no intervals", found=found, try_="DATE_DIFF('second', start, end) < 3600")
        if isinstance(node, exp.Func):
            name = str(node.this) if isinstance(node, exp.Anonymous) else node.sql_name()
            if name.lower() in _CLOCK:
                return self.refusal(
                    "it reads the clock, so training and serving would not see the same value (TIME-3)",
                    found=found,
                    try_="bring the time with the request: gr.RequestSource(...)",
                )
            if name.lower() in _CHANCE:
                return self.refusal(
                    "it depends on chance, so training and serving would not see the same value", found=found
                )
            return self.refusal(
                f"no function {name.upper()}",
                found=found,
                closest=closest_names(name, SUPPORTED),
                try_=f"one of: {', '.join(SUPPORTED)}",
            )
        return self.refusal("this is not part of derived features", found=found)


_SPECIAL: Final[dict[str, Callable[[_Reader, Any], Node]]] = {
    "Paren": lambda reader, node: reader.read(node.this),
    "Column": _Reader.column,
    "Literal": _Reader.literal,
    "Boolean": lambda reader, node: Literal(bool(node.this)),
    "Null": lambda reader, node: Literal(None),
    "Neg": _Reader.negate,
    "NullSafeEQ": _Reader.same,
    "Is": _Reader.is_,
    "Between": _Reader.between,
    "In": _Reader.in_,
    "Like": _Reader.like,
    "Case": _Reader.case,
    "If": _Reader.if_,
    "Nullif": _Reader.nullif,
    "Cast": _Reader.cast,
    "TryCast": _Reader.cast,
    "Round": _Reader.round,
    "Log": _Reader.log,
    "Trim": _Reader.trim,
    "Substring": _Reader.substring,
    "Replace": _Reader.replace,
    "Extract": _Reader.extract,
    "TimestampTrunc": _Reader.truncate,
    "DateTrunc": _Reader.truncate,
    "DateDiff": _Reader.difference,
    "Anonymous": _Reader.anonymous,
}


_CLOCK: Final = frozenset(
    (
        "now", "today", "current_date", "current_time", "current_timestamp", "current_localtime",
        "current_localtimestamp", "get_current_timestamp", "get_current_time", "localtime", "localtimestamp",
        "transaction_timestamp",
    )
)  # fmt: skip
_CHANCE: Final = frozenset(("rand", "random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "setseed"))


def _sql(node: Any) -> str:
    return str(node.sql(dialect="duckdb"))[:200]


def _first_line(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error).strip()).splitlines()[0]
