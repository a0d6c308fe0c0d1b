"""ISO 8601 text as times, a column at a time.

`grange.types.time.to_micros` says what a text means. The forms that nearly all text has,

    2026-11-21    2026-11-21T10:00    2026-11-21 10:00:00Z    2026-11-21T10:00:00.123456+01:00

are read as matrices of bytes: texts of one length are the rows, and whether a column holds digits is one comparison.
Whatever is of another form, out of range or near the ends of time goes to `to_micros` one by one, so that the fast
way never decides what is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grange.errors import RequestError
from grange.types.time import to_micros

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

_AT_ONCE: Final = 1 << 16
"""Rows per matrix, so that it stays in the processor's cache."""
_DATE, _MINUTES, _SECONDS = len("2026-11-21"), len("2026-11-21T10:00"), len("2026-11-21T10:00:00")
_MOST_DIGITS: Final = 9
"""Of a fraction of a second; those after the sixth are cut."""
_ZONES: Final = (0, len("Z"), len("+01:00"))
_SECOND: Final = 1_000_000
_MONTH_DAYS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the parts of a text lie."""

    body: int
    """The length of date and time of day."""
    zone: int
    """The length of the zone."""


_BODIES: Final = (_MINUTES, _SECONDS, *(_SECONDS + 1 + digits for digits in range(1, _MOST_DIGITS + 1)))
_FORMS: Final = (_Form(_DATE, 0), *(_Form(body, zone) for body in _BODIES for zone in _ZONES))


def parse_times(texts: pa.Array) -> pa.Array:
    """ISO 8601 text as microseconds since 1970-01-01 UTC, int64; null for null. See `to_micros`.

    Raises:
        ValueError: text that is not ISO 8601.
        OverflowError: its time is before the year 1 or after the year 9999 in UTC.
    """
    if len(texts) == 0:
        return pa.array([], pa.int64())
    plain = texts.cast(pa.large_string())
    valid: Mask = plain.is_valid().to_numpy(zero_copy_only=False)
    micros, read = np.zeros(len(plain), np.int64), ~valid
    offsets = np.frombuffer(plain.buffers()[1], np.int64, len(plain) + 1, plain.offset * 8)
    data = np.frombuffer(plain.buffers()[2] or b"", np.uint8)
    for first in range(0, len(plain), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        _read_part(data, offsets[first : first + _AT_ONCE + 1], micros[part], read[part])
    left = np.flatnonzero(~read)
    if len(left):
        micros[left] = _one_by_one(plain.take(pa.array(left)))
    return pa.array(micros, mask=~valid)


def _one_by_one(texts: pa.Array) -> list[int]:
    try:
        return [to_micros(text) for text in texts.to_pylist()]
    except RequestError as error:
        raise ValueError(error.message) from error


def _read_part(data: Bytes, offsets: Ints, micros: Ints, read: Mask) -> None:
    """Fill `micros` where a text has one of the forms, and say so in `read`."""
    lengths = np.diff(offsets)
    for length in np.flatnonzero(np.bincount(np.minimum(lengths, 64)[~read], minlength=1)):
        forms = [form for form in _FORMS if form.body + form.zone == length]
        if not forms:
            continue
        rows = np.flatnonzero(~read & (lengths == length))
        # transposed, so that what is compared and multiplied lies together
        letters = np.ascontiguousarray(data[offsets[rows][:, None] + np.arange(length)].T)
        for form in forms:
            values, good = _read_form(letters, form)
            micros[rows[good]], read[rows[good]] = values[good], True


def _read_form(letters: Bytes, form: _Form) -> tuple[Ints, Mask]:
    """What texts are under a form, and for which of them that is right."""
    digits = letters - np.uint8(ord("0"))  # wraps around below "0", to more than 9
    good = _are(letters, 4, "-") & _are(letters, 7, "-")
    year, month, day = (_number(digits, *place, good) for place in ((0, 4), (5, 7), (8, 10)))
    # the first and the last year are left to `to_micros`: their times may lie outside of all years in UTC
    good &= (year > 1) & (year < 9999) & (month >= 1) & (month <= 12) & (day >= 1)
    leap = ((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)
    good &= day <= _MONTH_DAYS[np.where(good, month, 0)] + (leap & (month == 2))
    micros = _days(year, month, day) * (24 * 3600 * _SECOND)
    if form.body == _DATE:
        return micros, good
    good &= _are(letters, _DATE, "T") | _are(letters, _DATE, " ")
    micros += _clock(letters, digits, _DATE + 1, good) * _SECOND
    if form.body >= _SECONDS:
        good &= _are(letters, _MINUTES, ":")
        second = _number(digits, _MINUTES + 1, _SECONDS, good)
        good &= second <= 59
        micros += second * _SECOND
    if form.body > _SECONDS:
        good &= _are(letters, _SECONDS, ".")
        start, end = _SECONDS + 1, min(form.body, _SECONDS + 7)
        micros += _number(digits, start, end, good) * 10 ** (6 - (end - start))
        _number(digits, end, form.body, good)
    if form.zone == 1:
        good &= _are(letters, form.body, "Z")
    elif form.zone:
        east = _are(letters, form.body, "+")
        good &= east | _are(letters, form.body, "-")
        micros -= _clock(letters, digits, form.body + 1, good) * np.where(east, _SECOND, -_SECOND)
    return micros, good


def _are(letters: Bytes, place: int, letter: str) -> Mask:
    same: Mask = letters[place] == ord(letter)
    return same


def _number(digits: Bytes, start: int, end: int, good: Mask) -> Ints:
    """The number at `[start, end)`; not good where something else stands there."""
    number = np.zeros(digits.shape[1], np.int64)
    for place in range(start, end):
        good &= digits[place] <= 9
        number *= 10
        number += digits[place]
    return number


def _clock(letters: Bytes, digits: Bytes, start: int, good: Mask) -> Ints:
    """`HH:MM` in seconds."""
    good &= _are(letters, start + 2, ":")
    hour, minute = _number(digits, start, start + 2, good), _number(digits, start + 3, start + 5, good)
    good &= (hour <= 23) & (minute <= 59)
    return hour * 3600 + minute * 60


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970-01-01, of a year that begins in March, so that the leap day is its last."""
    late = month <= 2
    year = year - late
    months = month + np.where(late, 9, -3)
    days: Ints = 365 * year + year // 4 - year // 100 + year // 400 + (153 * months + 2) // 5 + day - 719_469
    return days


__all__ = ["parse_times"]
