"""Splits: how training data is divided into parts. Frozen values; the kernel does the dividing.

    RandomSplit({"train": 0.7, "validation": 0.15, "test": 0.15})       by a hash of each row's identity
    GroupedSplit("train:0.8,test:0.2", by="user_id")                    all rows of a user in one part
    StratifiedSplit("train:0.8,test:0.2", by="churned")                 the same share of each label in every part
    TimeSplit("train:0.8,test:0.2", gap="7d")                           the test is what comes after
    TimeSplit(until={"train": "2026-01-01", "test": None})              the same, at a given moment
    KFold(5), KFold(5, by="user_id"), KFold(5, time=True, gap="1d")     cross-validation

A row's identity is its entity key and event time. Which part it falls into never depends on the order of the rows.
Where it depends on a hash alone (random, grouped, folds without time), rows that are added never move others.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from grange.errors import DefinitionError, RequestError
from grange.types import format_duration, parse_duration
from grange.types.cuts import Cut, HashCut, MomentCut, StrataCut, TimeCut
from grange.types.durations import timedelta_of, to_micros
from grange.types.names import check_column, check_name
from grange.types.time import Moment, isoformat, to_utc
from grange.types.time import to_micros as moment_micros

TRAIN: Final = "train"
BEFORE: Final = "before"
"""The part of a `KFold` in time that comes before the first fold, so that this too has something to train on."""
MOST_FOLDS: Final = 1000
_TOLERANCE: Final = 1e-9
"""How far the sum of shares may be from one."""
_ITEM: Final = re.compile(r"\s*([^\s:,]+)\s*:\s*([^\s:,]+)\s*(?:,|(?=\s)|$)")

Shares = tuple[tuple[str, float], ...]
GivenParts = Mapping[str, float] | Sequence[tuple[str, float]] | str
"""Parts as people write them: shares by name, in order, or the text that `parse_parts` reads."""
GivenColumns = str | Sequence[str]


class _Parted:
    """What splits into named parts have in common."""

    __slots__ = ()
    parts: Shares

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, in order."""
        return tuple(name for name, _ in self.parts)

    @property
    def fit_part(self) -> str:
        """The part that transformations learn from: `train`, else the first."""
        return TRAIN if TRAIN in self.names else self.names[0]

    @property
    def in_time(self) -> bool:
        """Whether event times decide, so that rows without one are in no part."""
        return False


@dataclass(frozen=True, slots=True, init=False)
class RandomSplit(_Parted):
    """Each row by a hash of its identity. Rows of equal identity stay together; shares are approximate.

    Args:
        parts: the share of each part: `{"train": 0.8, "test": 0.2}` or `"train:0.8,test:0.2"`; two or more.
        seed: another seed, another division. To split a part again at random, take another seed.

    Raises:
        DefinitionError: fewer than two parts, a name that is none, shares that are not above zero or do not sum to 1.
    """

    parts: Shares
    seed: int

    def __init__(self, parts: GivenParts, seed: int = 0) -> None:
        object.__setattr__(self, "parts", _parts(parts, "RandomSplit"))
        object.__setattr__(self, "seed", _seed(seed, "RandomSplit"))

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that decide besides a row's identity: none."""
        return ()

    @property
    def cut(self) -> Cut:
        """What the kernel does."""
        return HashCut(_only_shares(self.parts), self.seed)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `split_from_data` reads it back."""
        return {"type": "random", "parts": _shares_data(self.parts), "seed": self.seed}


@dataclass(frozen=True, slots=True, init=False)
class GroupedSplit(_Parted):
    """Each row by a hash of some columns alone, so that rows which agree in them all are in one part.

    Nulls agree with one another. Shares are those of the keys, so those of the rows are only near them when some
    keys have many more rows than others.

    Args:
        parts: as of `RandomSplit`.
        by: a column or several.
        seed: another seed, another division.

    Raises:
        DefinitionError: as of `RandomSplit`; or no columns.
    """

    parts: Shares
    by: tuple[str, ...]
    seed: int

    def __init__(self, parts: GivenParts, by: GivenColumns, seed: int = 0) -> None:
        object.__setattr__(self, "parts", _parts(parts, "GroupedSplit"))
        object.__setattr__(self, "by", _columns(by, "GroupedSplit"))
        object.__setattr__(self, "seed", _seed(seed, "GroupedSplit"))

    @property
    def cut(self) -> Cut:
        """What the kernel does."""
        return HashCut(_only_shares(self.parts), self.seed)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `split_from_data` reads it back."""
        return {"type": "grouped", "parts": _shares_data(self.parts), "by": list(self.by), "seed": self.seed}


@dataclass(frozen=True, slots=True, init=False)
class StratifiedSplit(_Parted):
    """Within each value of some columns, rows in the order of the hash of their identity, cut at the shares.

    Every part has its share of each value to the row (rounded; halves go to the earlier part); nulls are a value.
    Rows of equal identity and value stay together, which may cost some exactness.

    Args:
        parts: as of `RandomSplit`.
        by: the column whose values are to be spread, such as the label; or several, each combination a value.
        seed: another seed, another division.

    Raises:
        DefinitionError: as of `RandomSplit`; or no columns.
    """

    parts: Shares
    by: tuple[str, ...]
    seed: int

    def __init__(self, parts: GivenParts, by: GivenColumns, seed: int = 0) -> None:
        object.__setattr__(self, "parts", _parts(parts, "StratifiedSplit"))
        object.__setattr__(self, "by", _columns(by, "StratifiedSplit"))
        object.__setattr__(self, "seed", _seed(seed, "StratifiedSplit"))

    @property
    def cut(self) -> Cut:
        """What the kernel does."""
        return StrataCut(_only_shares(self.parts), self.seed)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `split_from_data` reads it back."""
        return {"type": "stratified", "parts": _shares_data(self.parts), "by": list(self.by), "seed": self.seed}


@dataclass(frozen=True, slots=True, init=False)
class TimeSplit(_Parted):
    """By event time: each part is later than the one before it.

    A part starts at its first row's time where shares are given, at the moment where the one before it ends where
    moments are. Rows of one time are in one part. Rows without a time, and those from the last moment on, are in none.

    Args:
        parts: the share of each part, as of `RandomSplit`; or
        until: the moment at which each part ends, which is not in it: `{"train": "2026-01-01", "test": None}`. Only
            the last may be None, which is never.
        gap: rows of a part within this length before the start of the next one, both ends included, are left out: a
            label that looks a week ahead must not look into the test.

    Raises:
        DefinitionError: as of `RandomSplit`; both or neither of `parts` and `until`; moments that do not ascend.
        DurationError: a gap that is no fixed, positive length (TIME-2).
    """

    parts: Shares
    until: tuple[tuple[str, datetime | None], ...]
    gap: int
    """Microseconds; 0 is none."""

    def __init__(
        self,
        parts: GivenParts | None = None,
        *,
        until: Mapping[str, Moment | None] | Sequence[tuple[str, Moment | None]] | None = None,
        gap: Any = None,
    ) -> None:
        if (parts is None) == (until is None):
            raise DefinitionError(
                "TimeSplit takes either the share of each part or the moment until which it goes",
                found="neither" if parts is None else "both",
                try_='TimeSplit("train:0.8,test:0.2") or TimeSplit(until={"train": "2026-01-01", "test": None})',
            )
        object.__setattr__(self, "parts", () if parts is None else _parts(parts, "TimeSplit"))
        object.__setattr__(self, "until", () if until is None else _until(until, "TimeSplit"))
        object.__setattr__(self, "gap", _gap(gap, "TimeSplit"))

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, in order."""
        return tuple(name for name, _ in self.parts or self.until)

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that decide besides a row's identity: none."""
        return ()

    @property
    def in_time(self) -> bool:
        """Whether event times decide, so that rows without one are in no part."""
        return True

    @property
    def cut(self) -> Cut:
        """What the kernel does."""
        if self.parts:
            return TimeCut(_only_shares(self.parts), self.gap)
        *starts, end = (None if moment is None else moment_micros(moment) for _, moment in self.until)
        return MomentCut(tuple(start for start in starts if start is not None), end, self.gap)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `split_from_data` reads it back."""
        ends = [[name, None if moment is None else isoformat(moment)] for name, moment in self.until]
        return {
            "type": "time",
            **({"parts": _shares_data(self.parts)} if self.parts else {"until": ends}),
            "gap": _gap_data(self.gap),
        }


@dataclass(frozen=True, slots=True)
class Fold:
    """One round of a cross-validation, as parts of its `KFold`."""

    train: tuple[str, ...]
    """Parts to train on, in order. In time with a gap, their rows within the gap before the start of the validation
    are left out."""
    validation: str


@dataclass(frozen=True, slots=True, init=False)
class KFold:
    """Cross-validation: folds of about equal size, each of which is the validation once.

    The parts are `fold_0`, `fold_1` and so on. In time they follow each other, after a part `before`.

    Args:
        k: how many folds, 2 to 1000.
        by: columns; rows that agree in them all are in one fold.
        seed: another seed, other folds.
        time: folds by event time; each trains on everything before it (expanding windows).
        gap: in time: as of `TimeSplit`, before the start of each validation.

    Raises:
        DefinitionError: a number of folds out of range; columns or a seed beside `time`; a gap without it.
        DurationError: a gap that is no fixed, positive length (TIME-2).
    """

    k: int
    by: tuple[str, ...]
    seed: int
    time: bool
    gap: int
    """Microseconds; 0 is none."""

    def __init__(
        self, k: int = 5, by: GivenColumns | None = None, seed: int = 0, time: bool = False, gap: Any = None
    ) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or not 2 <= k <= MOST_FOLDS:
            raise DefinitionError(f"KFold needs 2 to {MOST_FOLDS} folds", found=repr(k), try_="KFold(5)")
        if time and by is not None:
            raise DefinitionError(
                "KFold in time cannot keep the rows of a key together: they lie at several times",
                found=f"time=True, by={by!r}",
                try_="KFold(5, time=True), or KFold(5, by=...) without time",
            )
        if time and seed != 0:
            raise DefinitionError("KFold in time draws nothing, so a seed has no effect", found=f"seed={seed!r}")
        if gap is not None and not time:
            raise DefinitionError("KFold has a gap only in time", found=f"gap={gap!r}", try_="KFold(5, time=True, ...)")
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "by", () if by is None else _columns(by, "KFold"))
        object.__setattr__(self, "seed", _seed(seed, "KFold"))
        object.__setattr__(self, "time", bool(time))
        object.__setattr__(self, "gap", _gap(gap, "KFold"))

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, in order."""
        folds = tuple(f"fold_{number}" for number in range(self.k))
        return (BEFORE, *folds) if self.time else folds

    @property
    def fit_part(self) -> None:
        """None: transformations learn from the training rows of each fold anew."""
        return None

    @property
    def in_time(self) -> bool:
        """Whether event times decide, so that rows without one are in no part."""
        return self.time

    @property
    def cut(self) -> Cut:
        """What the kernel does. A gap is no part of it: a row left out of one fold's training is in another's."""
        count = len(self.names)
        shares = (1 / count,) * count
        return TimeCut(shares) if self.time else HashCut(shares, self.seed, mixed=True)

    def fold(self, number: int) -> Fold:
        """The round in which fold `number` (from 0) is the validation.

        Raises:
            RequestError: there is no such fold.
        """
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < self.k:
            raise RequestError(
                f"no fold {number!r} among {self.k}", found=f"folds 0 to {self.k - 1}", try_=f"fold={self.k - 1}"
            )
        validation = f"fold_{number}"
        place = self.names.index(validation)
        train = self.names[:place] if self.time else tuple(name for name in self.names if name != validation)
        return Fold(train, validation)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `split_from_data` reads it back."""
        return {
            "type": "folds",
            "k": self.k,
            "by": list(self.by) or None,
            "seed": self.seed,
            "time": self.time,
            "gap": _gap_data(self.gap),
        }


Split = RandomSplit | GroupedSplit | StratifiedSplit | TimeSplit | KFold


def split_from_data(data: Mapping[str, Any]) -> Split:
    """The inverse of `to_data`. KeyError, TypeError or ValueError for anything else."""
    fields = {key: value for key, value in data.items() if key != "type"}
    match data["type"]:
        case "random":
            return RandomSplit(**fields)
        case "grouped":
            return GroupedSplit(**fields)
        case "stratified":
            return StratifiedSplit(**fields)
        case "time":
            return TimeSplit(**fields)
        case "folds":
            return KFold(**fields)
        case other:
            raise ValueError(f"no split {other!r}")


def parse_parts(text: str) -> dict[str, float]:
    """Parts from `"train:0.7,validation:0.15,test:0.15"`; spaces may stand around names and shares, and for commas.

    Raises:
        DefinitionError: anything else, or parts that no split could have; says what to write instead.
    """
    pairs: list[tuple[str, float]] = []
    position = 0
    while text[position:].strip():
        match = _ITEM.match(text, position)
        share = None if match is None else _number(match[2])
        if match is None or share is None:
            raise DefinitionError(
                f"parts {text!r} are not name:share pairs",
                found=text[position:].strip(),
                try_="train:0.7,validation:0.15,test:0.15",
            )
        pairs.append((match[1], share))
        position = match.end()
    return dict(_parts(pairs, "a split"))


def format_parts(parts: Mapping[str, float] | Shares) -> str:
    """Parts as `parse_parts` reads them."""
    pairs = parts.items() if isinstance(parts, Mapping) else parts
    return ",".join(f"{name}:{repr(share).removesuffix('.0')}" for name, share in pairs)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parts(given: object, what: str) -> Shares:
    """Names and shares, checked."""
    if isinstance(given, str):
        return tuple(parse_parts(given).items())
    pairs = _pairs(given, what, try_='{"train": 0.8, "test": 0.2}')
    _check_names([name for name, _ in pairs], what)
    for name, share in pairs:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise DefinitionError(f"{what}: the share of part {name!r} must be above zero", found=repr(share))
    shares = tuple((name, float(share)) for name, share in pairs)
    total = math.fsum(share for _, share in shares)
    if abs(total - 1) > _TOLERANCE:
        raise DefinitionError(
            f"{what}: shares sum to {total:.10g}, not to 1",
            found=format_parts(shares),
            try_=format_parts(_mended(shares, total)),
            details={"sum": total},
        )
    return shares


def _mended(shares: Shares, total: float) -> Shares:
    """Shares near these that sum to one: with another last share if that is possible, else each in proportion."""
    *others, (last, _) = shares
    left = 1 - math.fsum(share for _, share in others)
    if left > _TOLERANCE:
        return (*others, (last, round(left, 10)))
    rounded = [(name, round(share / total, 4)) for name, share in others]
    return (*rounded, (last, round(1 - math.fsum(share for _, share in rounded), 10)))


def _pairs(given: object, what: str, *, try_: str) -> list[tuple[str, Any]]:
    items = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(items, Sequence) or not all(isinstance(item, Sequence) and len(item) == 2 for item in items):
        raise DefinitionError(f"{what}: parts are values by name", found=f"{given!r:.80}", try_=try_)
    return [(name, value) for name, value in items]


def _check_names(names: Sequence[str], what: str) -> None:
    if len(names) < 2:
        raise DefinitionError(
            f"{what} needs two or more parts",
            found=", ".join(map(str, names)) or "none",
            try_='"train:0.8,test:0.2"; leave the split out for one table',
        )
    for name in names:
        check_name(name, what=f"{what}: part")
    # parts become files, and not every disk tells Test from test
    if len({name.casefold() for name in names}) < len(names):
        raise DefinitionError(f"{what}: two parts have one name, apart from case", found=", ".join(names))


def _until(given: object, what: str) -> tuple[tuple[str, datetime | None], ...]:
    """Names and the moments at which parts end, checked."""
    pairs = _pairs(given, what, try_='until={"train": "2026-01-01", "test": None}')
    _check_names([name for name, _ in pairs], what)
    ends = tuple((name, _moment(moment, f"{what}: part {name!r}")) for name, moment in pairs)
    for (before, earlier), (name, later) in itertools.pairwise(ends):
        if earlier is None:
            raise DefinitionError(f"{what}: part {before!r} has no end, so nothing can come after it")
        if later is not None and later <= earlier:
            raise DefinitionError(
                f"{what}: part {name!r} ends before it starts",
                found=f"{before!r} until {isoformat(earlier)}, {name!r} until {isoformat(later)}",
            )
    return ends


def _moment(value: Any, what: str) -> datetime | None:
    if value is None:
        return None
    try:
        return to_utc(value, what=f"{what} until")
    except RequestError as error:
        raise DefinitionError(error.message, try_=error.try_) from error


def _columns(given: object, what: str) -> tuple[str, ...]:
    named = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not named:
        raise DefinitionError(f"{what}: by is a column or several", found=repr(given), try_='by="user_id"')
    columns = tuple(check_column(name, what=what) for name in named)
    if len(set(columns)) < len(columns):
        raise DefinitionError(f"{what} names a column twice", found=", ".join(columns))
    return columns


def _seed(given: object, what: str) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 1 << 64:
        raise DefinitionError(f"{what}: a seed is a whole number from 0, below 2**64", found=repr(given))
    return given


def _gap(given: Any, what: str) -> int:
    return 0 if given is None else to_micros(parse_duration(given, what=f"{what}: gap"))


def _gap_data(gap: int) -> str | None:
    return format_duration(timedelta_of(gap)) if gap else None


def _only_shares(parts: Shares) -> tuple[float, ...]:
    return tuple(share for _, share in parts)


def _shares_data(parts: Shares) -> list[list[Any]]:
    return [[name, share] for name, share in parts]
