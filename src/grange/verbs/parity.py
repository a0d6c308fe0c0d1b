"""verify online: what is served, compared with what history says. Reads; changes nothing.

What is read online at `t` must equal what a point-in-time join at `t` returns (ONL-1). So that is what is compared:
entity keys of a group's history are read both ways at one moment, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.errors import StateLostError
from grange.frames import Rows
from grange.quality.leaks import LeakPolicy
from grange.serving.keys import encode_columns
from grange.types.time import from_micros
from grange.verbs.history import HistoryRequest, get_historical_features
from grange.verbs.look import read
from grange.verbs.online import Readers
from grange.verbs.parts import Parts

if TYPE_CHECKING:
    import polars as pl

TOLERANCE: Final = 1e-9
"""Relative, of floats (ONL-1)."""
EXAMPLES: Final = 5
"""How many differences of a group are told in full."""
_CHUNK: Final = 20_000
"""Entity keys that are compared at a time."""
_PAGE: Final = 10_000
"""Rows of the online store that are looked at in one call."""
_AT: Final = "__at__"
"""The time column of the spine; no key is called this."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is served and is not what history says."""

    key: dict[str, Any]
    feature: str
    online: Any
    history: Any


@dataclass(frozen=True, slots=True)
class OnlineParity:
    """How a group's online state compares with its history, at one moment."""

    group: str
    keys: int
    """Entity keys that history has."""
    compared: int
    """Of these, how many were read both ways."""
    values: int
    """How many values that came to."""
    different: int
    """How many entity keys have a value that differs."""
    unknown: int
    """How many entity keys are served that history does not have. Not told of groups with aggregations, whose state is
    no rows: there a key that history lacks is only found by who asks for it."""
    examples: tuple[Difference, ...]
    lost: bool = False
    """Whether the online store lost what was loaded of the group, all or a part; then nothing was compared."""

    @property
    def holds(self) -> bool:
        """Whether everything that was compared is equal, nothing is served that history does not have, and nothing was
        lost."""
        return not self.different and not self.unknown and not self.lost

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}


def online_parity(
    parts: Parts,
    catalog: Catalog,
    name: str | None,
    *,
    sample: int | None,
    clock: Callable[[], int],
) -> Iterator[OnlineParity]:
    """Compare each group that is served online with its history.

    Args:
        parts: the opened backends.
        catalog: the definitions.
        name: of one group only.
        sample: at most so many entity keys of each, the same ones every time; None is all.
        clock: the moment, microseconds UTC; looked at again where rows may have arrived meanwhile.
    """
    groups = [catalog.group(name)] if name is not None else [group for group in catalog.groups.values() if group.online]
    for group in groups:
        if parts.offline.versions(group.name) or parts.offline.next_pushed(group.name):
            keys = _keys(parts, catalog, group)
            try:
                yield _compared(parts, catalog, group, keys, sample, clock)
            except StateLostError:
                yield OnlineParity(group.name, len(keys), 0, 0, 0, 0, (), lost=True)


def _compared(
    parts: Parts,
    catalog: Catalog,
    group: FeatureGroup,
    keys: pl.DataFrame,
    sample: int | None,
    clock: Callable[[], int],
) -> OnlineParity:
    chosen = keys if sample is None or sample >= len(keys) else keys.sample(sample, seed=0)
    references = [f"{group.name}:{feature}" for feature in group.features().names]
    different, examples = 0, list[Difference]()
    for start in range(0, len(chosen), _CHUNK):
        unequal, _ = _unequal(parts, catalog, references, chosen.slice(start, _CHUNK), clock())
        if len(unequal):  # rows may have arrived between the two reads: what differs still, differs
            unequal, told = _unequal(parts, catalog, references, unequal, clock())
            different += len(unequal)
            examples += told[: EXAMPLES - len(examples)]
    unknown = 0 if group.aggregations else _unknown(parts, group, keys)
    if unknown:  # rows may have arrived since the keys were read
        unknown = _unknown(parts, group, _keys(parts, catalog, group))
    values = len(chosen) * len(references)
    return OnlineParity(group.name, len(keys), len(chosen), values, different, unknown, tuple(examples))


def _unknown(parts: Parts, group: FeatureGroup, keys: pl.DataFrame) -> int:
    """How many keys the online store has that are none of these."""
    from grange.types.arrow import conform

    schema = group.schema.select(group.join_keys)
    table = conform(Rows(polars=keys).arrow, schema, what=f"keys of {group.name!r}")
    encoded = encode_columns(table.columns, [column.dtype for column in schema])
    known, found = set(encoded.to_pylist()), set[bytes]()
    after: bytes | None = None
    while page := parts.online.rows(group.key_space, group.name, after, _PAGE):
        found.update(key for key, _ in page if key not in known)
        after = page[-1][0]
    return len(found)


def _keys(parts: Parts, catalog: Catalog, group: FeatureGroup) -> pl.DataFrame:
    """The entity keys that history has, each once, in order; those with a null match nothing (PIT-4)."""
    columns = list(group.join_keys)
    rows = read(
        parts, catalog, group.name, version=None, columns=columns, start=None, end=None, limit=None,
        events=bool(group.aggregations),
    )  # fmt: skip
    return rows.polars.drop_nulls().unique().sort(columns)


def _unequal(
    parts: Parts, catalog: Catalog, references: Sequence[str], keys: pl.DataFrame, now: int
) -> tuple[pl.DataFrame, list[Difference]]:
    """The keys of which a value differs at a moment, and some of the differences."""
    import polars as pl

    served = Readers(parts, catalog).get(list(references), full_feature_names=False).read(keys, now).to_polars()
    spine = keys.with_columns(pl.lit(from_micros(now)).dt.cast_time_unit("us").alias(_AT))
    request = HistoryRequest(_AT, None, None, False, None, False, LeakPolicy(), now=now)
    truth = get_historical_features(parts, catalog, list(references), spine, request).to_polars()
    differs = pl.repeat(False, len(keys), eager=True)
    told: list[Difference] = []
    for name in (reference.partition(":")[2] for reference in references):
        unequal = ~_equal(served[name], truth[name])
        differs |= unequal
        for place in unequal.arg_true().head(EXAMPLES - len(told)):
            told.append(Difference(keys.row(place, named=True), name, served[name][place], truth[name][place]))
    return keys.filter(differs), told


def _equal(online: pl.Series, history: pl.Series) -> pl.Series:
    """By row, whether two values are one: nulls too, floats within the tolerance."""
    import polars as pl

    same = online.eq_missing(history)
    if online.dtype not in (pl.Float32, pl.Float64):
        return same
    near = (online - history).abs() <= TOLERANCE * pl.select(pl.max_horizontal(online.abs(), history.abs())).to_series()
    return same | near.fill_null(False) | (online.is_nan() & history.is_nan()).fill_null(False)
