"""Feature values on the wire: every type in MessagePack's own types, and back.

    integers, floats, boolean, string, binary   as they are; a float32 is the float64 of the same value
    uuid                                        its canonical text
    date                                        int, days since 1970-01-01
    datetime                                    int, microseconds since 1970-01-01 UTC
    duration                                    int, microseconds
    decimal                                     text, with the declared digits after the point
    list                                        list
    struct                                      map of field name to value
    null                                        nil, at any depth

NaN and the infinities are floats like others, and never null.
"""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from grange.types import DataType
from grange.types.time import from_micros, to_micros

if TYPE_CHECKING:
    import pyarrow as pa

Converter = Callable[[Any], Any]
"""From a value that is not None to another one."""

_DAY_ZERO: Final = dt.date(1970, 1, 1).toordinal()
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_WIDE: Final = decimal.Context(prec=80)


def decoder(dtype: DataType) -> Converter | None:
    """From the wire to Python; None when the value is itself."""
    match dtype.kind:
        case "date":
            return _to_date
        case "datetime":
            return from_micros
        case "duration":
            return _to_duration
        case "decimal":
            return decimal.Decimal
        case "list":
            assert dtype.item is not None
            return over_list(decoder(dtype.item))
        case "struct":
            return _over_struct({name: decoder(inner) for name, inner in dtype.fields})
        case _:
            return None


def encoder(dtype: DataType) -> Converter:
    """From Python to the wire; takes what people write, like ISO 8601 text for a datetime or an int for a float.

    The function raises TypeError or ValueError for a value that is not of the type.
    """
    match dtype.kind:
        case "date":
            return _from_date
        case "datetime":
            return to_micros
        case "duration":
            return _from_duration
        case "decimal":
            return lambda value: _decimal_text(value, dtype.scale)
        case "uuid":
            return lambda value: str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))
        case "list":
            assert dtype.item is not None
            return over_list(encoder(dtype.item)) or list
        case "struct":
            return _over_struct({name: encoder(inner) for name, inner in dtype.fields}) or dict
        case "float32" | "float64":
            return _from_number
        case "boolean":
            return _exactly(bool)
        case "string":
            return _exactly(str)
        case "binary":
            return _exactly(bytes)
        case _:
            return _from_integer


def to_wire(value: Any, dtype: DataType) -> Any:
    """One value from Python to the wire. See `encoder`."""
    return None if value is None else encoder(dtype)(value)


def from_wire(value: Any, dtype: DataType) -> Any:
    """One value from the wire to Python. See `decoder`."""
    convert = decoder(dtype)
    return value if value is None or convert is None else convert(value)


def rows_of(table: pa.Table, dtypes: Sequence[DataType]) -> list[tuple[Any, ...]]:
    """The rows of a table as tuples of wire values.

    Args:
        table: columns in the canonical Arrow types of `dtypes`, in order.
        dtypes: their types.
    """
    if not dtypes:
        return [()] * table.num_rows
    return list(
        zip(*(wire_list(column, dtype) for column, dtype in zip(table.columns, dtypes, strict=True)), strict=True)
    )


def wire_list(column: pa.ChunkedArray, dtype: DataType) -> list[Any]:
    """A column's values on the wire, in order."""
    wire = _wire_type(dtype)
    values: list[Any] = (column if wire is None else column.cast(wire)).to_pylist()
    return values


def from_wire_list(values: Sequence[Any], dtype: DataType) -> pa.Array:
    """Wire values as an Arrow array of the canonical type."""
    import pyarrow as pa

    from grange.types.arrow import arrow_type

    convert = decoder(dtype)
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, arrow_type(dtype))


def _wire_type(dtype: DataType) -> pa.DataType | None:
    """The Arrow type whose Python values are those of the wire; None when it is the canonical one."""
    import pyarrow as pa

    from grange.types.arrow import arrow_type

    match dtype.kind:
        case "date":
            return pa.int32()
        case "datetime" | "duration":
            return pa.int64()
        case "decimal":
            return pa.large_string()
        case "list":
            assert dtype.item is not None
            item = _wire_type(dtype.item)
            return None if item is None else pa.large_list(item)
        case "struct":
            inner = [(name, _wire_type(field), field) for name, field in dtype.fields]
            if all(wire is None for _, wire, _ in inner):
                return None
            return pa.struct(
                [pa.field(name, arrow_type(field) if wire is None else wire) for name, wire, field in inner]
            )
        case _:
            return None


def _exactly(kind: type) -> Converter:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return check


def _from_integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("a boolean is no integer")
    return operator.index(value)


def _from_number(value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _to_date(value: int) -> dt.date:
    return dt.date.fromordinal(value + _DAY_ZERO)


def _from_date(value: dt.date | str) -> int:
    day = dt.date.fromisoformat(value) if isinstance(value, str) else value
    return day.toordinal() - _DAY_ZERO


def _to_duration(value: int) -> dt.timedelta:
    return dt.timedelta(microseconds=value)


def _from_duration(value: dt.timedelta) -> int:
    return value // _MICROSECOND


def _decimal_text(value: Any, scale: int) -> str:
    return str(_WIDE.quantize(decimal.Decimal(value), decimal.Decimal(1).scaleb(-scale)))


def over_list(convert: Converter | None) -> Converter | None:
    """What converts each value of a list that is not null; None where there is nothing to convert."""
    if convert is None:
        return None
    return lambda values: [None if value is None else convert(value) for value in values]


def _over_struct(converters: dict[str, Converter | None]) -> Converter | None:
    if all(convert is None for convert in converters.values()):
        return None

    def convert_fields(value: dict[str, Any]) -> dict[str, Any]:
        return {
            name: item if item is None or convert is None else convert(item)
            for name, convert in converters.items()
            for item in (value.get(name),)
        }

    return convert_fields
