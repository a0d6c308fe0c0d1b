"""Operations on Python values, one by one exactly what DuckDB does.

Arguments are never None: `grange.deriving.rows` gives null for null. Where an operation has no value it is None.
Floats need care only where Python raises and IEEE 754 does not, and for NaN, which equals itself and is greatest.
EXP, LN, LOG10 and POWER are the C library's in both; their last bit is that library's.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from grange.definitions.expression_parsing import parse_time
from grange.types.time import EPOCH

_NAN: Final = math.nan
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_LOW, _HIGH = -(2**63), 2**63 - 1
_WHOLE: Final = 2.0**52
"""From here on every float is whole."""

REACH: Final = 2**32
"""Places and lengths are cut to this: longer than any text, and short enough for sums of 64 bits."""

NUMBER_PATTERN: Final = (
    "[+-]?(?:(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
    "|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
)
"""Text that is a float: decimal notation, `inf`, `infinity`, `nan`. Python and DuckDB read it alike."""
INTEGER_PATTERN: Final = "[+-]?[0-9]{1,40}"
"""Text that is an integer."""
_NUMBER: Final = re.compile(NUMBER_PATTERN)
_INTEGER: Final = re.compile(INTEGER_PATTERN)


def _fits(value: int) -> int | None:
    return value if _LOW <= value <= _HIGH else None


def add_integer(left: int, right: int) -> int | None:
    return _fits(left + right)


def subtract_integer(left: int, right: int) -> int | None:
    return _fits(left - right)


def multiply_integer(left: int, right: int) -> int | None:
    return _fits(left * right)


def quotient_integer(left: int, right: int) -> int | None:
    """Towards zero."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return _fits(quotient if (left < 0) == (right < 0) else -quotient)


def remainder_integer(left: int, right: int) -> int | None:
    """With the sign of `left`."""
    if right == 0:
        return None
    remainder = abs(left) % abs(right)
    return remainder if left >= 0 else -remainder


def negate_integer(value: int) -> int | None:
    return _fits(-value)


def abs_integer(value: int) -> int | None:
    return _fits(abs(value))


def round_integer_tens(value: int, unit: int) -> int | None:
    """To a multiple of a power of ten, halves away from zero."""
    rounded = (abs(value) + unit // 2) // unit * unit
    return _fits(rounded if value >= 0 else -rounded)


def sign(value: float) -> int:
    """-1, 0 or 1; 0 for NaN."""
    return (value > 0) - (value < 0)


def divide_float(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0 or left != left:
        return _NAN
    return math.copysign(math.inf, math.copysign(1.0, left) * math.copysign(1.0, right))


def remainder_float(left: float, right: float) -> float:
    """With the sign of `left`."""
    try:
        return math.fmod(left, right)
    except ValueError:  # of an infinite, or by zero
        return _NAN


def round_half_away(value: float) -> float:
    """To a whole float."""
    fraction, whole = math.modf(value)
    return whole + math.copysign(1.0, value) if abs(fraction) >= 0.5 else whole


def round_digits(value: float, scale: float) -> float:
    scaled = value * scale
    return round_half_away(scaled) / scale if math.isfinite(scaled) else value


def round_tens(value: float, scale: float) -> float:
    return round_half_away(value / scale) * scale


def floor(value: float) -> float:
    if not abs(value) < _WHOLE:
        return value
    return float(math.floor(value)) or math.copysign(0.0, value)


def ceil(value: float) -> float:
    if not abs(value) < _WHOLE:
        return value
    return float(math.ceil(value)) or math.copysign(0.0, value)


def sqrt(value: float) -> float:
    return _NAN if value < 0 else math.sqrt(value)


def ln(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf if value == 0 else _NAN


def log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf if value == 0 else _NAN


def exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and math.fmod(exponent, 2.0) else math.inf
    except ValueError:
        if base != 0:
            return _NAN  # a root of a negative number
        odd = abs(math.fmod(exponent, 2.0)) == 1.0
        return math.copysign(math.inf, base) if odd else math.inf


def equal_float(left: float, right: float) -> bool:
    return left == right or (left != left and right != right)


def unequal_float(left: float, right: float) -> bool:
    return not equal_float(left, right)


def less_float(left: float, right: float) -> bool:
    return left < right or (right != right and left == left)


def less_equal_float(left: float, right: float) -> bool:
    return left <= right or right != right


def greater_float(left: float, right: float) -> bool:
    return less_float(right, left)


def greater_equal_float(left: float, right: float) -> bool:
    return less_equal_float(right, left)


def replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new) if old else text


def substring(text: str, start: int, length: int) -> str:
    """Letters by place: from 1, or from the end when negative; a negative length goes back from there."""
    first = _first(text, start)
    last = first + _within_reach(length)
    return text[max(min(first, last), 0) : max(first, last, 0)]


def substring_from(text: str, start: int) -> str:
    """Letters from a place on."""
    return text[max(_first(text, start), 0) :]


def _first(text: str, start: int) -> int:
    start = _within_reach(start)
    return start - 1 if start > 0 else len(text) + start if start < 0 else -1


def _within_reach(count: int) -> int:
    return max(min(count, REACH), -REACH)


def like_function(pattern: str) -> Callable[[str], bool]:
    """Whether a text is like a pattern: `%` is any letters, `_` is one; nothing is escaped.

    Each part between two `%` is looked for once, from left to right, so that no pattern takes long.
    """
    first, *others = [_letters(part) for part in pattern.split("%")]
    if not others:
        return lambda text: first.fullmatch(text) is not None
    *middle, last = others
    tail = len(pattern.rpartition("%")[2])

    def matches(text: str) -> bool:
        found = first.match(text)
        for part in middle:
            if found is None:
                return False
            found = part.search(text, found.end())
        end = len(text) - tail
        return found is not None and found.end() <= end and last.fullmatch(text, end) is not None

    return matches


def _letters(part: str) -> re.Pattern[str]:
    return re.compile("".join("." if letter == "_" else re.escape(letter) for letter in part), re.DOTALL)


def float_to_int64(value: float) -> int | None:
    """Halves to even."""
    return _fits(round(value)) if math.isfinite(value) else None


def string_to_int64(text: str) -> int | None:
    return _fits(int(text)) if _INTEGER.fullmatch(text) else None


def string_to_float64(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def string_to_boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.lower())


_BOOLEANS: Final = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "0"), False
)


def string_to_date(text: str) -> dt.date | None:
    moment = parse_time(text)
    return None if moment is None else moment.date()


def date_to_datetime(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def datetime_to_string(moment: dt.datetime) -> str:
    text = moment.replace(tzinfo=None).isoformat(" ")
    return text.rstrip("0") if moment.microsecond else text


def narrow_float32(value: float) -> float | None:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return None


def narrow_integer(bits: int) -> Callable[[int], int | None]:
    """The integers of so many bits; others have no value."""
    reach = 1 << (bits - 1)
    return lambda value: value if -reach <= value < reach else None


def micros(moment: dt.datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def epoch(moment: dt.datetime) -> float:
    """Seconds since 1970, of the float of the microseconds."""
    return float((moment - EPOCH) // _MICROSECOND) / 1e6


def day_of_year(moment: dt.datetime) -> int:
    return moment.toordinal() - dt.date(moment.year, 1, 1).toordinal() + 1


EXTRACT: Final[dict[str, Callable[[dt.datetime], Any]]] = {
    "year": lambda moment: moment.year,
    "quarter": lambda moment: (moment.month + 2) // 3,
    "month": lambda moment: moment.month,
    "week": lambda moment: moment.isocalendar()[1],
    "day": lambda moment: moment.day,
    "dow": lambda moment: moment.isoweekday() % 7,
    "isodow": lambda moment: moment.isoweekday(),
    "doy": day_of_year,
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
    "epoch": epoch,
}


def _day(moment: dt.datetime) -> dt.datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


TRUNCATE: Final[dict[str, Callable[[dt.datetime], dt.datetime]]] = {
    "year": lambda moment: _day(moment).replace(month=1, day=1),
    "quarter": lambda moment: _day(moment).replace(month=(moment.month - 1) // 3 * 3 + 1, day=1),
    "month": lambda moment: _day(moment).replace(day=1),
    "week": lambda moment: _day(moment) - dt.timedelta(days=moment.weekday()),
    "day": _day,
    "hour": lambda moment: moment.replace(minute=0, second=0, microsecond=0),
    "minute": lambda moment: moment.replace(second=0, microsecond=0),
    "second": lambda moment: moment.replace(microsecond=0),
}

_UNIT_MICROS: Final = {
    "day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000,
    "millisecond": 1_000, "microsecond": 1,
}  # fmt: skip


def difference_function(unit: str) -> Callable[[dt.datetime, dt.datetime], int]:
    """How many boundaries of a unit lie between two times."""
    size = _UNIT_MICROS[unit]
    return lambda start, end: micros(end) // size - micros(start) // size
