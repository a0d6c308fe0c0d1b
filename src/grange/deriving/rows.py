"""Derived features of one row, in plain Python: what serving runs, and exactly what `tables` gives.

An expression is compiled once into closures, one per operation; running it takes well under ten microseconds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, assert_never

from grange.definitions.expression_parsing import DIFFERENCE_UNITS, EXTRACT_UNITS, TRUNCATE_UNITS, parse_time
from grange.definitions.expression_types import Constant, Operation, Slot, Term
from grange.definitions.expressions import Expression, derived_schema
from grange.deriving import functions
from grange.deriving.casing import lower_function, upper_function
from grange.types.schema import Column, Schema
from grange.types.time import to_utc

Evaluate = Callable[[Any], Any]
"""From a row to a value; None is null."""


def compile_row(expression: Expression, schema: Schema, *, by_name: bool = False) -> Evaluate:
    """A function from one row to the expression's value.

    Args:
        expression: what to compute.
        schema: the types of the columns, and their order.
        by_name: rows are mappings by column name, instead of sequences in the schema's order.

    Rows hold Python's values, None for null: int, float, str, bool, date, datetime (naive is UTC), Decimal and UUID
    by the column's type. The value is an int, float, str, bool, date, a datetime in UTC, or None.

    Raises:
        SchemaError, DefinitionError: as `grange.definitions.expressions.expression_dtype`. The function itself
            raises nothing for values of the columns' types.
    """
    places = {name: name if by_name else place for place, name in enumerate(schema.names)}
    return _compile(expression.bind(schema), places)


def compile_rows(expressions: Mapping[str, Expression], schema: Schema) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function from one row, a sequence in the schema's order, to the values of all expressions, in order.

    Each expression may use the columns and the results before it. See `compile_row`.
    """
    results = derived_schema(expressions, schema)
    known, compiled = schema, []
    for name, expression in expressions.items():
        compiled.append(compile_row(expression, known))
        known = Schema((*known.columns, Column(name, results[name])))
    width = len(schema)

    def evaluate(row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        for function in compiled:
            values.append(function(values))
        return tuple(values[width:])

    return evaluate


def _compile(term: Term, places: Mapping[str, int | str]) -> Evaluate:
    match term:
        case Constant():
            value = term.value
            return lambda row: value
        case Slot(name, dtype, _):
            return _read(places[name], dtype.kind)
        case Operation(name, arguments, _):
            evaluate = _operation(name, arguments, tuple(_compile(argument, places) for argument in arguments))
            if not all(isinstance(argument, Constant) for argument in arguments):
                return evaluate
            known = evaluate(())  # of constants: the same for every row
            return lambda row: known
        case _:
            assert_never(term)


def _read(place: int | str, kind: str) -> Evaluate:
    """The value of a column, as expressions compute with it."""
    convert = _READ.get(kind)
    item = operator.itemgetter(place)
    return item if convert is None else _unary(convert, item)


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "float32": float,
    "float64": float,
    "decimal": float,
    "uuid": str,
    "datetime": to_utc,
}


def _operation(name: str, terms: tuple[Term, ...], arguments: tuple[Evaluate, ...]) -> Evaluate:
    compound = _COMPOUND.get(name)
    if compound is not None:
        return compound(arguments)
    if name == "like":
        assert isinstance(terms[1], Constant)  # the parser lets nothing else through
        pattern = terms[1].value
        return _unary(functions.like_function(pattern), arguments[0]) if isinstance(pattern, str) else lambda row: None
    function: Callable[..., Any] = _CASING[name]() if name in _CASING else _STRICT[name]
    match arguments:
        case (only,):
            return _unary(function, only)
        case (left, right):
            return _binary(function, left, right)
        case _:
            return _strict(function, arguments)


def _unary(function: Callable[[Any], Any], argument: Evaluate) -> Evaluate:
    def evaluate(row: Any) -> Any:
        value = argument(row)
        return None if value is None else function(value)

    return evaluate


def _binary(function: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(row: Any) -> Any:
        first = left(row)
        if first is None:
            return None
        second = right(row)
        return None if second is None else function(first, second)

    return evaluate


def _strict(function: Callable[..., Any], arguments: tuple[Evaluate, ...]) -> Evaluate:
    def evaluate(row: Any) -> Any:
        values = [argument(row) for argument in arguments]
        return None if None in values else function(*values)

    return evaluate


def _and(arguments: tuple[Evaluate, ...]) -> Evaluate:
    left, right = arguments

    def evaluate(row: Any) -> bool | None:
        first = left(row)
        if first is False:
            return False
        second = right(row)
        return False if second is False else None if first is None or second is None else True

    return evaluate


def _or(arguments: tuple[Evaluate, ...]) -> Evaluate:
    left, right = arguments

    def evaluate(row: Any) -> bool | None:
        first = left(row)
        if first is True:
            return True
        second = right(row)
        return True if second is True else None if first is None or second is None else False

    return evaluate


def _is_null(arguments: tuple[Evaluate, ...]) -> Evaluate:
    (argument,) = arguments
    return lambda row: argument(row) is None


def _is_distinct(equal: Callable[[Any, Any], bool]) -> Callable[[tuple[Evaluate, ...]], Evaluate]:
    def build(arguments: tuple[Evaluate, ...]) -> Evaluate:
        left, right = arguments

        def evaluate(row: Any) -> bool:
            first, second = left(row), right(row)
            return first is not second if first is None or second is None else not equal(first, second)

        return evaluate

    return build


def _in(equal: Callable[[Any, Any], bool]) -> Callable[[tuple[Evaluate, ...]], Evaluate]:
    def build(arguments: tuple[Evaluate, ...]) -> Evaluate:
        wanted, *others = arguments

        def evaluate(row: Any) -> bool | None:
            value = wanted(row)
            if value is None:
                return None
            result: bool | None = False
            for other in others:
                candidate = other(row)
                if candidate is None:
                    result = None
                elif equal(value, candidate):
                    return True
            return result

        return evaluate

    return build


def _case(arguments: tuple[Evaluate, ...]) -> Evaluate:
    branches = tuple(zip(arguments[:-1:2], arguments[1::2], strict=True))
    otherwise = arguments[-1]

    def evaluate(row: Any) -> Any:
        for condition, result in branches:
            if condition(row):
                return result(row)
        return otherwise(row)

    return evaluate


def _coalesce(arguments: tuple[Evaluate, ...]) -> Evaluate:
    def evaluate(row: Any) -> Any:
        for argument in arguments:
            value = argument(row)
            if value is not None:
                return value
        return None

    return evaluate


def _concat(arguments: tuple[Evaluate, ...]) -> Evaluate:
    return lambda row: "".join([value for value in [argument(row) for argument in arguments] if value is not None])


def _extreme(better: Callable[[Any, Any], bool]) -> Callable[[tuple[Evaluate, ...]], Evaluate]:
    """The first of the best values that are not null."""

    def build(arguments: tuple[Evaluate, ...]) -> Evaluate:
        def evaluate(row: Any) -> Any:
            best = None
            for argument in arguments:
                value = argument(row)
                if value is not None and (best is None or better(value, best)):
                    best = value
            return best

        return evaluate

    return build


_COMPOUND: Final[dict[str, Callable[[tuple[Evaluate, ...]], Evaluate]]] = {
    "and": _and,
    "or": _or,
    "is_null": _is_null,
    "is_distinct": _is_distinct(operator.eq),
    "is_distinct_float": _is_distinct(functions.equal_float),
    "in": _in(operator.eq),
    "in_float": _in(functions.equal_float),
    "case": _case,
    "coalesce": _coalesce,
    "concat": _concat,
    "greatest": _extreme(operator.gt),
    "greatest_float": _extreme(functions.greater_float),
    "least": _extreme(operator.lt),
    "least_float": _extreme(functions.less_float),
}
"""Operations that see nulls, or not every argument."""

_CASING: Final = {"lower": lower_function, "upper": upper_function}

_STRICT: Final[dict[str, Callable[..., Any]]] = {
    **{
        name: getattr(functions, name)
        for name in (
            "add_integer", "subtract_integer", "multiply_integer", "quotient_integer", "remainder_integer",
            "negate_integer", "abs_integer", "round_integer_tens", "divide_float", "remainder_float",
            "round_digits", "round_tens", "floor", "ceil", "sqrt", "ln", "log10", "exp", "power",
            "replace", "substring", "substring_from", "date_to_datetime", "datetime_to_string",
            "string_to_int64", "string_to_float64", "string_to_boolean", "string_to_date", "narrow_float32",
        )
    },
    "add_float": operator.add,
    "subtract_float": operator.sub,
    "multiply_float": operator.mul,
    "negate_float": operator.neg,
    "abs_float": abs,
    "sign_integer": functions.sign,
    "sign_float": functions.sign,
    "round": functions.round_half_away,
    "not": operator.not_,
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=_float": functions.equal_float,
    "<>_float": functions.unequal_float,
    "<_float": functions.less_float,
    "<=_float": functions.less_equal_float,
    ">_float": functions.greater_float,
    ">=_float": functions.greater_equal_float,
    "length": len,
    "trim": str.strip,
    "ltrim": str.lstrip,
    "rtrim": str.rstrip,
    "join": operator.add,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": operator.contains,
    **{f"extract_{unit}": functions.EXTRACT[unit] for unit in EXTRACT_UNITS},
    **{f"truncate_{unit}": functions.TRUNCATE[unit] for unit in TRUNCATE_UNITS},
    **{f"difference_{unit}": functions.difference_function(unit) for unit in DIFFERENCE_UNITS},
    "subtract_date": lambda left, right: (left - right).days,
    "boolean_to_int64": int,
    "boolean_to_float64": float,
    "boolean_to_string": lambda value: "true" if value else "false",
    "int64_to_boolean": bool,
    "int64_to_float64": float,
    "int64_to_string": str,
    "float64_to_boolean": bool,
    "float64_to_int64": functions.float_to_int64,
    "float64_to_string": repr,
    "string_to_datetime": parse_time,
    "date_to_string": lambda day: day.isoformat(),
    "datetime_to_date": lambda moment: moment.date(),
    "narrow_int8": functions.narrow_integer(8),
    "narrow_int16": functions.narrow_integer(16),
    "narrow_int32": functions.narrow_integer(32),
}  # fmt: skip
"""Operations that give null for a null."""

ROW_OPERATIONS: Final = frozenset((*_COMPOUND, *_CASING, *_STRICT, "like"))
"""The operations that there are closures for: all of the catalogue."""
