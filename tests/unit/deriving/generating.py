"""Random expressions and random rows, with everything that is awkward in them."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from grange.definitions.expression_nodes import Call, Column, Literal, Node
from grange.definitions.expression_types import COMPARISONS, CONVERSIONS, FUNCTIONS, Kind
from grange.types.schema import Schema

SCHEMA: Final = Schema.of(
    {
        "i": "int64", "Small": "int8", "u": "uint32", "f": "float64", "f32": "float32", "money": "decimal(12,2)",
        "t": "string", "T 2": "string", "id": "uuid", "k": "boolean", "d": "date", "z": "datetime", "y": "datetime",
    }
)  # fmt: skip

_BY_KIND: Final[dict[Kind, tuple[str, ...]]] = {
    "int64": ("i", "Small", "u"),
    "float64": ("f", "f32", "money"),
    "string": ("t", "T 2", "id"),
    "boolean": ("k",),
    "date": ("d",),
    "datetime": ("z", "y"),
}

INTEGERS: Final = (
    0, 1, -1, 2, -2, 3, 7, 10, -10, 15, 25, -15, 100, 127, 128, 2**31 - 1, 2**31, -(2**31), 2**53, 2**53 + 1,
    10**18, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1, 3037000500,
)  # fmt: skip
FLOATS: Final = (
    0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1.0, -1.0, 0.1, 1.005, 2.675, 1e-5, 1e15, 1e16, 123456.789, 2.0**52,
    2.0**53, -(2.0**63), 2.0**63, 9.3e18, 127.5, -128.5, 2147483647.5, 1e22, 1e23, 1e300, -1e300,
    1.7976931348623157e308, 5e-324, 2.2e-308, 0.49999999999999994, 3.4028235677973366e38, float("inf"),
    float("-inf"), float("nan"),
)  # fmt: skip
TEXTS: Final = (
    "", " ", "a", "A", "abc", "aBc%", "a_c", "%", "_", "é", "ÉCOLE", "straße", "ẞ", "İi", "ΑΣ", "ﬁ", "日本語", "🤦🏼‍♂️",
    "\u00a0x\u3000", "\tx\n", "a\0b", "it's", "1", "-1", "+7", "1.5", "2.5", "-2.5", "1e3", "15e-1", ".5", "5.",
    "1e400", "1e-400", " 12 ", "1_000", "0x10", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "123456789012345678901234567890", "inf", "-Infinity", "NaN", "nan", "true", "T", "No",
    "0", "yes", "off", "2020-02-29", "2021-02-29", "2020-01-01 10:00", "2020-01-01T10:00:00.5Z",
    "2020-01-01 10:00:00+05:30", "0001-01-01T00:00:00+01:00", "9999-12-31 23:59:59-01:00",
    "1969-12-31 23:59:59.999999", "2020-01-01 24:00:00", "0000-01-01", "2020-1-1", "\\", "$1", "ǆ", "ա", "ß", "ŉ",
    "a'; DROP TABLE source; --",
)  # fmt: skip
TIMES: Final = (
    dt.datetime(1970, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    dt.datetime(2020, 2, 29, 12, 30, 45, 123456), dt.datetime(1, 1, 1),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(2021, 1, 3, 10), dt.datetime(2020, 12, 31),
    dt.datetime(1900, 3, 1, 0, 0, 0, 500000), dt.datetime(2262, 4, 11, 23, 47, 16, 854775),
    dt.datetime(2038, 1, 19, 3, 14, 8, 10),
)  # fmt: skip


def random_row(chance: random.Random) -> dict[str, Any]:
    """Values of `SCHEMA`'s columns; a tenth of them null."""
    row: dict[str, Any] = {
        "i": random_integer(chance),
        "Small": chance.randint(-128, 127),
        "u": chance.choice((0, 1, 5, 2**32 - 1)),
        "f": random_float(chance),
        "f32": chance.choice((0.0, -0.0, 1.5, 0.10000000149011612, 3.4028234663852886e38, float("nan"), float("inf"))),
        "money": Decimal(chance.choice((0, 1, 99, -150, 999_999_999_999, 123_456_789, 5))).scaleb(-2),
        "t": random_text(chance),
        "T 2": random_text(chance),
        "id": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "k": chance.choice((True, False)),
        "d": random_time(chance).date(),
        "z": random_time(chance),
        "y": random_time(chance),
    }
    return {name: None if chance.randrange(10) == 0 else value for name, value in row.items()}


def random_integer(chance: random.Random) -> int:
    return chance.choice(INTEGERS) if chance.randrange(2) else chance.randint(-1000, 1000)


def random_float(chance: random.Random) -> float:
    match chance.randrange(4):
        case 0 | 1:
            return chance.choice(FLOATS)
        case 2:
            return chance.randint(-10_000, 10_000) / 8
        case _:
            return chance.randint(-(10**15), 10**15) * 10.0 ** chance.randint(-30, 30)


def random_text(chance: random.Random) -> str:
    if chance.randrange(3):
        return chance.choice(TEXTS)
    return "".join(chance.choice("aAbéß%_ ñİ日1") for _ in range(chance.randrange(8)))


def random_time(chance: random.Random) -> dt.datetime:
    moment = chance.choice(TIMES)
    if chance.randrange(2):
        moment = dt.datetime(2000, 1, 1) + dt.timedelta(microseconds=chance.randint(-(5 * 10**16), 10**17))
    return moment.replace(tzinfo=dt.UTC)


def random_node(chance: random.Random, kind: Kind, depth: int = 4) -> Node:
    """A tree that gives a kind, at most so deep."""
    if depth == 0 or chance.randrange(5) == 0:
        return _leaf(chance, kind)
    return chance.choice(_MAKERS[kind])(chance, depth - 1)


def _leaf(chance: random.Random, kind: Kind) -> Node:
    if chance.randrange(3):
        return Column(chance.choice(_BY_KIND[kind]))
    return _constant(chance, kind)


def _constant(chance: random.Random, kind: Kind) -> Node:
    match kind:
        case "int64":
            return Literal(random_integer(chance))
        case "float64":
            value = random_float(chance)
            return Literal(value if abs(value) < float("inf") else 0.25)
        case "string":
            return Literal(random_text(chance).replace("\0", ""))
        case "boolean":
            return Literal(chance.choice((True, False)))
        case "date":
            return Literal(random_time(chance).date())
        case "datetime":
            return Literal(random_time(chance))


Maker = Callable[[random.Random, int], Node]


def _plain(function: str, kinds: tuple[Kind, ...]) -> Maker:
    def make(chance: random.Random, depth: int) -> Node:
        arguments = [random_node(chance, _narrower(chance, kind), depth) for kind in kinds]
        if function == "like":
            arguments[1] = _constant(chance, "string")
        if function == "substring" and chance.randrange(2):
            arguments[1:] = [Literal(chance.randint(-6, 6)) for _ in kinds[1:]]
        if function in ("trim", "ltrim", "rtrim") and chance.randrange(2):
            arguments = arguments[:1]
        if chance.randrange(40) == 0 and function != "like":
            arguments[chance.randrange(len(arguments))] = Literal(None)
        return Call(function, tuple(arguments))

    return make


def _narrower(chance: random.Random, kind: Kind) -> Kind:
    """Now and then a kind that converts by itself."""
    if chance.randrange(4):
        return kind
    return {"float64": "int64", "datetime": "date"}.get(kind, kind)  # type: ignore[return-value]


def _choice(kind: Kind) -> Maker:
    def make(chance: random.Random, depth: int) -> Node:
        count = chance.randint(1, 3)
        arguments = [
            random_node(chance, kind if place == 0 else _narrower(chance, kind), depth) for place in range(count)
        ]
        return Call(chance.choice(("coalesce", "greatest", "least")), tuple(arguments))

    return make


def _case(kind: Kind) -> Maker:
    def make(chance: random.Random, depth: int) -> Node:
        parts = [random_node(chance, kind, depth)]
        for _ in range(chance.randint(1, 2)):
            result = Literal(None) if chance.randrange(6) == 0 else random_node(chance, _narrower(chance, kind), depth)
            parts = [random_node(chance, "boolean", depth), result, *parts]
        return Call("case", tuple(parts))

    return make


def _comparison(chance: random.Random, depth: int) -> Node:
    kind: Kind = chance.choice(tuple(_BY_KIND))
    function = chance.choice(COMPARISONS)
    count = chance.randint(1, 3) if function == "in" else 1
    others = [random_node(chance, _narrower(chance, kind), depth) for _ in range(count)]
    if chance.randrange(8) == 0:
        others[0] = Literal(None)
    return Call(function, (random_node(chance, kind, depth), *others))


def _is_null(chance: random.Random, depth: int) -> Node:
    return Call("is_null", (random_node(chance, chance.choice(tuple(_BY_KIND)), depth),))


def _concat(chance: random.Random, depth: int) -> Node:
    return Call("concat", tuple(random_node(chance, "string", depth) for _ in range(chance.randint(1, 3))))


def _cast(source: Kind, target: str) -> Maker:
    return lambda chance, depth: Call(f"cast_{target}", (random_node(chance, source, depth),))


def _round(kind: Kind) -> Maker:
    def make(chance: random.Random, depth: int) -> Node:
        value = random_node(chance, kind, depth)
        return Call("round", (value,) if chance.randrange(3) == 0 else (value, Literal(chance.randint(-15, 15))))

    return make


def _makers() -> dict[Kind, list[Maker]]:
    makers: dict[Kind, list[Maker]] = {kind: [_choice(kind), _case(kind)] for kind in _BY_KIND}
    for function, signatures in FUNCTIONS.items():
        for signature in signatures:
            makers[signature.result].append(_plain(function, signature.arguments))
    for source, target in CONVERSIONS:
        makers[target].append(_cast(source, target))
        if target == "int64":
            makers[target] += [_cast(source, narrow) for narrow in ("int8", "int16", "int32")]
        if target == "float64":
            makers[target].append(_cast(source, "float32"))
    makers["boolean"] += [_comparison, _comparison, _comparison, _is_null]
    makers["string"].append(_concat)
    makers["int64"].append(_round("int64"))
    makers["float64"].append(_round("float64"))
    return makers


_MAKERS: Final = _makers()
