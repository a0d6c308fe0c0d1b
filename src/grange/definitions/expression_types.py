"""The meaning of derived features: which operations there are, on which types, and what each gives.

A value is of one of six types while it is computed; integers of every width are int64, float32 is float64, and
nothing else is ever converted but an integer to a float and a date to its midnight:

    boolean · int64 · float64 · string · date · datetime

**An expression never fails on a row.** What has no value is null: an integer that leaves 64 bits, `//` and `%` of
integers by zero, text that is no number, a float that fits into no integer. Floats follow IEEE 754, as in DuckDB:
`1 / 0` is infinite (`/` always divides floats), `0 / 0`, SQRT and LN of negative numbers are NaN; NaN equals itself
and is greater than everything else. CAST is therefore TRY_CAST.

    //, % of integers     towards zero, the remainder has the sign of the dividend; `//` is for integers only
    ROUND                 halves away from zero; CAST of a float to an integer: halves to even
    CAST of text          numbers in decimal notation; true, t, yes, y, 1 and their opposites; times in ISO 8601
    GREATEST, LEAST,      leave nulls out; the others give null for a null, but for COALESCE, CASE, IS,
    CONCAT                and AND, OR with their three values
    text                  counted in code points, compared by code points
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, assert_never, get_args

from grange.definitions import expression_nodes as syntax
from grange.definitions.expression_nodes import Value, write
from grange.definitions.expression_parsing import (
    DIFFERENCE_UNITS,
    EXTRACT_UNITS,
    SPACES,
    TRUNCATE_UNITS,
    parse_time,
)
from grange.errors import DefinitionError, SchemaError, closest_names
from grange.types.dtypes import DataType
from grange.types.schema import Schema

Kind = Literal["boolean", "int64", "float64", "string", "date", "datetime"]
"""The type of a value while it is computed."""

EXACT_DECIMAL_DIGITS: Final = 15
"""Decimals of so many digits are float64 by one correctly rounded division; larger ones are refused."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A column of the row at hand."""

    name: str
    dtype: DataType
    kind: Kind


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that every row has; of its kind, or null."""

    literal: syntax.Literal
    kind: Kind

    @property
    def value(self) -> Value:
        """The value as Python has it."""
        return self.literal.value


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the catalogue, on arguments of exactly its types."""

    name: str
    arguments: tuple[Term, ...]
    kind: Kind


Term = Slot | Constant | Operation


@dataclass(frozen=True, slots=True)
class Signature:
    """What an operation takes and gives."""

    operation: str
    arguments: tuple[Kind, ...]
    result: Kind


_KINDS: Final[dict[str, Kind]] = {
    "b": "boolean", "i": "int64", "f": "float64", "t": "string", "d": "date", "z": "datetime",
}  # fmt: skip


def _signatures(*written: str) -> tuple[Signature, ...]:
    """Signatures from `operation:arguments>result`, a letter for each kind."""
    found = []
    for text in written:
        operation, _, types = text.partition(":")
        arguments, _, result = types.partition(">")
        found.append(Signature(operation, tuple(_KINDS[letter] for letter in arguments), _KINDS[result]))
    return tuple(found)


FUNCTIONS: Final[dict[str, tuple[Signature, ...]]] = {
    "+": _signatures("add_integer:ii>i", "add_float:ff>f"),
    "-": _signatures("subtract_integer:ii>i", "subtract_float:ff>f", "subtract_date:dd>i"),
    "*": _signatures("multiply_integer:ii>i", "multiply_float:ff>f"),
    "/": _signatures("divide_float:ff>f"),
    "//": _signatures("quotient_integer:ii>i"),
    "%": _signatures("remainder_integer:ii>i", "remainder_float:ff>f"),
    "negate": _signatures("negate_integer:i>i", "negate_float:f>f"),
    "and": _signatures("and:bb>b"),
    "or": _signatures("or:bb>b"),
    "not": _signatures("not:b>b"),
    "abs": _signatures("abs_integer:i>i", "abs_float:f>f"),
    "sign": _signatures("sign_integer:i>i", "sign_float:f>i"),
    "floor": _signatures("floor:f>f"),
    "ceil": _signatures("ceil:f>f"),
    "sqrt": _signatures("sqrt:f>f"),
    "ln": _signatures("ln:f>f"),
    "log10": _signatures("log10:f>f"),
    "exp": _signatures("exp:f>f"),
    "power": _signatures("power:ff>f"),
    "lower": _signatures("lower:t>t"),
    "upper": _signatures("upper:t>t"),
    "length": _signatures("length:t>i"),
    "trim": _signatures("trim:tt>t"),
    "ltrim": _signatures("ltrim:tt>t"),
    "rtrim": _signatures("rtrim:tt>t"),
    "||": _signatures("join:tt>t"),
    "like": _signatures("like:tt>b"),
    "starts_with": _signatures("starts_with:tt>b"),
    "ends_with": _signatures("ends_with:tt>b"),
    "contains": _signatures("contains:tt>b"),
    "replace": _signatures("replace:ttt>t"),
    "substring": _signatures("substring_from:ti>t", "substring:tii>t"),
    **{f"extract_{unit}": _signatures(f"extract_{unit}:z>{'f' if unit == 'epoch' else 'i'}") for unit in EXTRACT_UNITS},
    **{f"truncate_{unit}": _signatures(f"truncate_{unit}:z>z") for unit in TRUNCATE_UNITS},
    **{f"difference_{unit}": _signatures(f"difference_{unit}:zz>i") for unit in DIFFERENCE_UNITS},
}
"""By function, its signatures, the narrower first: the first that the arguments convert to is taken."""

COMPARISONS: Final = ("=", "<>", "<", "<=", ">", ">=", "is_distinct", "in")
CHOICES: Final = ("coalesce", "greatest", "least")

_CASTS: Final[dict[Kind, tuple[Kind, ...]]] = {
    "boolean": ("int64", "float64", "string"),
    "int64": ("boolean", "float64", "string"),
    "float64": ("boolean", "int64", "string"),
    "string": ("boolean", "int64", "float64", "date", "datetime"),
    "date": ("string", "datetime"),
    "datetime": ("string", "date"),
}

CONVERSIONS: Final[dict[tuple[Kind, Kind], str]] = {
    (source, target): f"{source}_to_{target}" for source, targets in _CASTS.items() for target in targets
}
"""By source and target, the operation of a CAST; kinds that are not here do not cast."""

NARROWINGS: Final = ("int8", "int16", "int32", "float32")
"""What CAST may be to besides the six kinds: the value is checked, or rounded, and stays an int64 or float64."""

OPERATIONS: Final[frozenset[str]] = frozenset(
    (
        *(signature.operation for signatures in FUNCTIONS.values() for signature in signatures),
        *COMPARISONS,
        *CHOICES,
        *(f"{name}_float" for name in (*COMPARISONS, "greatest", "least")),
        *CONVERSIONS.values(),
        *(f"narrow_{name}" for name in NARROWINGS),
        "is_null", "case", "concat", "round", "round_digits", "round_tens", "round_integer_tens",
    )
)  # fmt: skip
"""Every operation that an engine of expressions must know."""


def kind_of(dtype: DataType) -> Kind | None:
    """The kind that a column's values are computed as; None for types that expressions do not take."""
    if dtype.is_integer and dtype.kind != "uint64":
        return "int64"
    if dtype.is_float or (dtype.kind == "decimal" and dtype.precision <= EXACT_DECIMAL_DIGITS):
        return "float64"
    if dtype.kind == "uuid":
        return "string"
    return _KIND_NAMES.get(dtype.kind)


_KIND_NAMES: Final[dict[str, Kind]] = {kind: kind for kind in get_args(Kind)}


def bind(node: syntax.Node, schema: Schema, *, what: str) -> Term:
    """A tree with the types of a schema: every conversion written out, every operation chosen.

    Raises:
        SchemaError: a column is not in the schema; carries the closest ones.
        DefinitionError: types that do not go together, or a column of a type that expressions do not take.
    """
    term = _Binder(schema, what).bind(node)
    if term is None:
        raise DefinitionError(f"{what} is always null", try_="CAST(NULL AS BIGINT)")
    return term


class _Binder:
    """Binds nodes bottom-up. None is a null that has no type yet."""

    def __init__(self, schema: Schema, what: str) -> None:
        self.schema = schema
        self.what = what

    def bind(self, node: syntax.Node) -> Term | None:
        match node:
            case syntax.Column(name):
                return self.slot(name)
            case syntax.Literal(value):
                return None if value is None else Constant(node, _kind_of_value(value))
            case syntax.Call(function, arguments):
                return self.call(node, function, tuple(map(self.bind, arguments)))
            case _:
                assert_never(node)

    def slot(self, name: str) -> Slot:
        dtype = self.schema.get(name)
        if dtype is None:
            raise SchemaError(
                f"{self.what}: no column {name!r}",
                found=", ".join(self.schema.names) or "no columns at all",
                closest=closest_names(name, self.schema.names),
            )
        kind = kind_of(dtype)
        if kind is None:
            raise DefinitionError(
                f"{self.what}: column {name!r} is {dtype}, which expressions do not take",
                try_="declare it int64, float64, string, boolean, date or datetime, or convert it in the transform",
            )
        return Slot(name, dtype, kind)

    def call(self, node: syntax.Call, function: str, arguments: tuple[Term | None, ...]) -> Term:
        if function in COMPARISONS:
            same, kind = self.unify(node, arguments)
            return Operation(_by_kind(function, kind), same, "boolean")
        if function in CHOICES:
            same, kind = self.unify(node, arguments)
            return Operation(function if function == "coalesce" else _by_kind(function, kind), same, kind)
        family, _, variant = function.partition("_")
        if family == "cast":
            return self.cast(node, arguments[0], variant)
        match function:
            case "is_null":
                return Operation("is_null", (arguments[0] or _null("boolean"),), "boolean")
            case "case":
                return self.case(node, arguments)
            case "concat":
                return Operation("concat", tuple(self.convert(node, item, "string") for item in arguments), "string")
            case "round":
                return self.round(node, arguments)
            case "trim" | "ltrim" | "rtrim" if len(arguments) == 1:
                return self.choose(node, function, (*arguments, Constant(syntax.Literal(SPACES), "string")))
            case _:
                return self.choose(node, function, arguments)

    def choose(self, node: syntax.Call, function: str, arguments: Sequence[Term | None]) -> Operation:
        """The first signature that the arguments convert to."""
        for signature in FUNCTIONS[function]:
            wanted = signature.arguments
            if len(wanted) == len(arguments) and all(map(_converts, arguments, wanted)):
                converted = tuple(self.convert(node, *pair) for pair in zip(arguments, wanted, strict=True))
                return Operation(signature.operation, converted, signature.result)
        raise self.clash(node, arguments, [signature.arguments for signature in FUNCTIONS[function]])

    def unify(self, node: syntax.Call, arguments: Sequence[Term | None]) -> tuple[tuple[Term, ...], Kind]:
        """The arguments as one kind: of those that occur, the one that all convert to."""
        occurring = [term.kind for term in arguments if term is not None]
        for kind in occurring:
            if all(_converts(term, kind) for term in arguments):
                return tuple(self.convert(node, term, kind) for term in arguments), kind
        if not occurring:
            raise DefinitionError(f"{self.what}: all arguments are null", found=write(node))
        raise self.clash(node, arguments, [])

    def convert(self, node: syntax.Call, term: Term | None, kind: Kind) -> Term:
        """A term as a kind that it converts to without being asked."""
        if term is None:
            return _null(kind)
        if term.kind == kind:
            return term
        if not _converts(term, kind):
            raise self.clash(node, [term], [(kind,)])
        if isinstance(term, Constant):
            return Constant(syntax.Literal(_convert_value(term.value, kind)), kind)
        return Operation(CONVERSIONS[term.kind, kind], (term,), kind)

    def cast(self, node: syntax.Call, term: Term | None, target: str) -> Term:
        kind: Kind = "float64" if target == "float32" else "int64" if target in NARROWINGS else _KIND_NAMES[target]
        if term is None:
            return _null(kind)
        if term.kind != kind:
            if (term.kind, kind) not in CONVERSIONS:
                raise self.clash(node, [term], [])
            term = Operation(CONVERSIONS[term.kind, kind], (term,), kind)
        return Operation(f"narrow_{target}", (term,), kind) if target in NARROWINGS else term

    def case(self, node: syntax.Call, arguments: tuple[Term | None, ...]) -> Operation:
        conditions = [self.convert(node, condition, "boolean") for condition in arguments[:-1:2]]
        results, kind = self.unify(node, (*arguments[1::2], arguments[-1]))
        branches = [part for branch in zip(conditions, results[:-1], strict=True) for part in branch]
        return Operation("case", (*branches, results[-1]), kind)

    def round(self, node: syntax.Call, arguments: tuple[Term | None, ...]) -> Term:
        value = self.convert(node, arguments[0], "float64") if arguments[0] is None else arguments[0]
        digits = arguments[1].value if len(arguments) == 2 and isinstance(arguments[1], Constant) else 0
        assert isinstance(digits, int)  # the parser lets nothing else through
        match value.kind:
            case "int64" if digits >= 0:
                return value
            case "int64":
                return Operation("round_integer_tens", (value, _constant(10**-digits)), "int64")
            case "float64" if digits == 0:
                return Operation("round", (value,), "float64")
            case "float64" if digits > 0:
                return Operation("round_digits", (value, _constant(10.0**digits)), "float64")
            case "float64":
                return Operation("round_tens", (value, _constant(10.0**-digits)), "float64")
            case _:
                raise self.clash(node, arguments[:1], [("int64",), ("float64",)])

    def clash(
        self, node: syntax.Call, arguments: Sequence[Term | None], wanted: Sequence[tuple[Kind, ...]]
    ) -> DefinitionError:
        """The error that types do not go together."""
        kinds = ["null" if term is None else term.kind for term in arguments]
        advice = {
            "//": "FLOOR(a / b), for floats",
            "-": "DATE_DIFF('second', start, end), for times",
            "+": "there is no arithmetic of times; DATE_DIFF('second', start, end) < 3600",
        }.get(node.function)
        return DefinitionError(
            f"{self.what}: the types do not go together in {write(node)!r:.200}",
            found=", ".join(kinds),
            closest=[", ".join(kinds) for kinds in wanted],
            try_=advice
            if set(kinds) & {"float64", "date", "datetime"} and advice
            else "CAST(... AS VARCHAR), or the like",
        )


def _by_kind(name: str, kind: Kind) -> str:
    """Floats compare in a way of their own, for NaN."""
    return f"{name}_float" if kind == "float64" else name


def _null(kind: Kind) -> Constant:
    return Constant(syntax.Literal(None), kind)


def _constant(value: int | float) -> Constant:
    return Constant(syntax.Literal(value), _kind_of_value(value))


def _kind_of_value(value: bool | int | float | str | dt.date | dt.datetime) -> Kind:
    match value:
        case bool():
            return "boolean"
        case int():
            return "int64"
        case float():
            return "float64"
        case str():
            return "string"
        case dt.datetime():
            return "datetime"
        case dt.date():
            return "date"
        case _:
            assert_never(value)


def _converts(term: Term | None, kind: Kind) -> bool:
    """Whether a term is taken as a kind without a CAST: widening, and constant text that is a time."""
    if term is None or term.kind == kind or (term.kind, kind) in _WIDENINGS:
        return True
    text = term.value if isinstance(term, Constant) else None
    return isinstance(text, str) and kind in ("date", "datetime") and _convert_value(text, kind) is not None


_WIDENINGS: Final = frozenset((("int64", "float64"), ("date", "datetime")))


def _convert_value(value: Value, kind: Kind) -> Value:
    """A constant as another kind; None where it has no such value."""
    if value is None:
        return None
    if kind == "float64" and isinstance(value, int):
        return float(value)
    moment = (
        parse_time(value if isinstance(value, str) else value.isoformat())
        if not isinstance(value, int | float)
        else None
    )
    if moment is None or kind == "datetime":
        return moment
    return moment.date() if moment.time() == dt.time(0) else None
