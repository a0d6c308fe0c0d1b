"""The small languages of command-line arguments, as pure functions from text to values.

    keys         user_id[:string],region
    features     name:type[:description],...
    join         "<fg>[@ver] <INNER|LEFT|RIGHT|FULL|ASOF> <on>[=<right_on>][,...] [prefix]"
    entry        user_id=u1,region=eu            typed by the schema: 007 of a string key stays 007
    expectation  amount:greater_than(0)[:fail|drop|warn]
    default      amount=0
    tag          tier=gold
    label        "churned, orders:amount__sum__30d after 30d [at_maturity|at_event]"
    derived      "share=amount / NULLIF(total, 0)"

What cannot be read is a `UsageError` that repeats the grammar. Those of windowed features are in `grange.cli.windows`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from grange.definitions import expectations
from grange.definitions.expectations import Expectation, Kind, Policy
from grange.definitions.labels import Label, Observed
from grange.definitions.references import FeatureSelection, JoinType, parse_reference, select
from grange.errors import DefinitionError, GrangeError, RequestError, SchemaError, UsageError, closest_names
from grange.types import DataType, parse_dtype, parse_duration
from grange.types.names import parse_version
from grange.types.schema import Column
from grange.types.time import to_utc

JOIN_GRAMMAR: Final = '"<fg>[@ver] <INNER|LEFT|RIGHT|FULL|ASOF> <on>[=<right_on>][,...] [prefix]"'
KEYS_GRAMMAR: Final = "user_id[:string],region[:string]"
FEATURES_GRAMMAR: Final = '"name:type[:description],..."'
ENTRY_GRAMMAR: Final = '"user_id=u1,region=eu", a value with a comma in double quotes'
EXPECT_GRAMMAR: Final = '"column:check(arguments)[:fail|drop|warn]", for example "amount:greater_than(0):drop"'

_JOINS: Final[Mapping[str, JoinType]] = {
    "INNER": "inner",
    "LEFT": "left",
    "RIGHT": "right",
    "FULL": "full",
    "ASOF": "left",  # what every join here does
}
LABEL_GRAMMAR: Final = '"COL|FG:FEATURE [after <duration> [at_maturity|at_event]], ..."'
_CONSTRUCTORS: Final[dict[str, Callable[..., Expectation]]] = {
    kind: getattr(expectations, kind) for kind in get_args(Kind)
}


def parse_keys(text: str) -> dict[str, DataType | None]:
    """`user_id:string,region`: join keys in order, with their types where they are said."""
    keys: dict[str, DataType | None] = {}
    for item in _split(text, "keys", KEYS_GRAMMAR):
        name, colon, type_text = (part.strip() for part in item.partition(":"))
        if not name or (colon and not type_text):
            raise UsageError(f"keys {text!r}: {item!r} is no key", try_=f"write {KEYS_GRAMMAR}")
        if name in keys:
            raise UsageError(f"keys {text!r} name {name!r} twice")
        keys[name] = _dtype(type_text, item) if colon else None
    return keys


def parse_features(text: str) -> list[Column]:
    """`amount:float64:what was spent,tags:list[string]`: columns with types and descriptions.

    A comma separates where a name and a colon follow it, so types (`decimal(12,2)`) and descriptions may hold some.
    """
    columns = []
    for item in _split_columns(text):
        name, _, rest = item.partition(":")
        type_text, description = _split_type(rest)
        if not name.strip() or not type_text.strip():
            raise UsageError(f"features {text!r}: {item!r} has no type", try_=f"write {FEATURES_GRAMMAR}")
        columns.append(Column(name.strip(), _dtype(type_text.strip(), item), description.strip()))
    return columns


def parse_join(text: str) -> FeatureSelection:
    """A join as the selection it means: all features of a group, found by these columns, under this prefix. Which
    rows stay is what `grange.select` says of joins.

    `<on>` is the column of the spine, `<right_on>` the group's join key where the two differ.

    Raises:
        UsageError: not this grammar.
    """
    words = text.split()
    if len(words) not in (3, 4):
        raise UsageError(f"join {text!r} cannot be read", found=f"{len(words)} words", try_=f"write {JOIN_GRAMMAR}")
    group, kind, on, *prefix = words
    name, at, version = group.partition("@")
    if at and parse_version(version) is None:
        raise UsageError(f"join {text!r}: version {version!r} is not MAJOR.MINOR.PATCH", try_=f"{name}@1.0.0")
    join = _JOINS.get(kind.upper())
    if join is None:
        raise UsageError(f"join {text!r}: no join is called {kind!r}", try_=f"write {JOIN_GRAMMAR}")
    pairs = [_pair(item, text) for item in on.split(",")]
    mapping = {right: left for left, right in pairs if left != right}
    if len({right for _, right in pairs}) != len(pairs):
        raise UsageError(f"join {text!r} takes one join key from two columns")
    try:
        return select(name, version=version or None, on=mapping, prefix=prefix[0] if prefix else "", join=join)
    except (RequestError, DefinitionError) as error:
        raise UsageError(f"join {text!r}: {error.message}", try_=f"write {JOIN_GRAMMAR}") from error


def join_columns(text: str) -> tuple[str, ...]:
    """The group's join keys that a (valid) join names, to check that none of the key is left out."""
    return tuple(_pair(item, text)[1] for item in text.split()[2].split(","))


def parse_labels(text: str) -> list[Label]:
    """`churned, orders:amount__sum__30d after 30d`: labels, and how long after their row each is known.

    Raises:
        UsageError: not this grammar, or no length.
    """
    labels = []
    for item in _split(text, "labels", LABEL_GRAMMAR):
        match item.split():
            case [name]:
                labels.append(_label(name, item))
            case [name, "after", after]:
                labels.append(_label(name, item, after=after))
            case [name, "after", after, how] if how in get_args(Observed):
                labels.append(_label(name, item, after=after, observed=how))
            case _:
                raise UsageError(f"label {item!r} cannot be read", try_=f"write {LABEL_GRAMMAR}")
    return labels


def _label(name: str, text: str, **options: Any) -> Label:
    try:
        return Label(name, **options)
    except (DefinitionError, RequestError) as error:
        raise UsageError(f"label {text!r}: {error.message}", found=error.found, try_=error.try_) from error


def parse_derived(items: Iterable[str]) -> dict[str, str]:
    """`share=amount / NULLIF(total, 0)`, one per item: SQL by the feature's name, at the first equals sign."""
    derived: dict[str, str] = {}
    for item in items:
        name, sql = parse_assignment(item, what="derived")
        if name in derived:
            raise UsageError(f"two derived features are called {name!r}")
        derived[name] = sql.strip()
    return derived


def parse_references(text: str, *, base: str | None = None) -> list[str]:
    """`user_spend:amount,user_profile@1.0.0:age`: references, checked.

    Args:
        base: the group whose features the names without a colon are; without it they are groups.
    """
    references = []
    for item in _split(text, "features", "group:feature,..."):
        reference = f"{base}:{item}" if base is not None and ":" not in item and "@" not in item else item
        try:
            parse_reference(reference)
        except RequestError as error:
            raise UsageError(f"features {text!r}: {error.message}", try_=error.try_) from error
        references.append(reference)
    return references


@dataclass(frozen=True, slots=True)
class Check:
    """An expectation on a column."""

    column: str
    expectation: Expectation


def parse_expectation(text: str, dtypes: Mapping[str, DataType] | None = None) -> Check:
    """`amount:between(0, 100):warn`. Arguments are read as the column's declared type, else as they look:
    a number, `true`, a date, a time, or text; double quotes make it text."""
    match = re.fullmatch(r"([^:]+):\s*(\w+)\s*(?:\((.*)\))?\s*(?::\s*(\w+)\s*)?", text, re.DOTALL)
    if match is None:
        raise UsageError(f"expectation {text!r} cannot be read", try_=f"write {EXPECT_GRAMMAR}")
    column, kind, inside, policy = match[1].strip(), match[2], match[3], match[4] or "fail"
    if kind not in _CONSTRUCTORS:
        raise UsageError(
            f"expectation {text!r}: no check is called {kind!r}",
            found=f"checks: {', '.join(_CONSTRUCTORS)}",
            closest=closest_names(kind, _CONSTRUCTORS),
        )
    if policy not in get_args(Policy):
        raise UsageError(f"expectation {text!r}: policy {policy!r} is not one of {', '.join(get_args(Policy))}")
    arguments = _arguments(kind, inside, (dtypes or {}).get(column))
    try:
        return Check(column, _CONSTRUCTORS[kind](*arguments, policy=policy))
    except TypeError as error:
        raise UsageError(
            f"expectation {text!r}: {kind} does not take {len(arguments)} arguments, or arguments of such types",
            try_=f"write {EXPECT_GRAMMAR}",
        ) from error
    except DefinitionError as error:
        raise UsageError(f"expectation {text!r}: {error.message}", try_=error.try_) from error


def parse_assignment(text: str, *, what: str) -> tuple[str, str]:
    """`key=value`: at the first equals sign."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{what} {text!r} is not name=value")
    return key.strip(), value


def parse_tags(items: Iterable[str]) -> dict[str, str]:
    """`tier=gold`, one per item."""
    return dict(parse_assignment(item, what="tag") for item in items)


def parse_default(text: str, dtypes: Mapping[str, DataType]) -> tuple[str, Any]:
    """`amount=0`: a feature and the value that stands in; read as the declared type, else as it looks."""
    name, value = parse_assignment(text, what="default")
    dtype = dtypes.get(name)
    if dtype is not None:
        return name, parse_value(_unquoted(value)[0], dtype, what=f"default of {name!r}")
    return name, guess_value(value)


def parse_entry(text: str, dtypes: Mapping[str, DataType], *, asked_by: str | None = None) -> dict[str, Any]:
    """One row: `user_id=u1,region=eu`, each value in its column's type.

    Args:
        dtypes: the columns that a row may have.
        asked_by: what has these columns, for messages.

    Raises:
        UsageError: not this grammar, a column that is none of these, or a value that is not of its type.
    """
    row: dict[str, Any] = {}
    for name, value in _entry_pairs(text):
        if name not in dtypes:
            raise UsageError(
                f"entry {text!r}: no column {name!r} is asked for",
                asked_by=asked_by,
                found=", ".join(f"{column}:{dtype}" for column, dtype in dtypes.items()),
                closest=closest_names(name, dtypes),
            )
        if name in row:
            raise UsageError(f"entry {text!r} names {name!r} twice")
        row[name] = parse_value(value, dtypes[name], what=f"entry {text!r}: {name!r}")
    return row


def parse_value(text: str, dtype: DataType, *, what: str) -> Any:
    """A value of a type from its text: nothing is guessed.

    Bytes are base64, lists and structs JSON, durations such as `1d12h`, times ISO 8601.

    Raises:
        UsageError: the text is no value of the type.
    """
    try:
        return _READERS.get(dtype.kind, _read_integer)(text, dtype)
    except (ValueError, ArithmeticError, GrangeError) as error:
        raise UsageError(
            f"{what} must be {dtype}, got {text!r}", found=error.message if isinstance(error, GrangeError) else None
        ) from error


def guess_value(text: str) -> Any:
    """A value as it looks: integer, decimal number, `true`/`false`, ISO date or time, else text; quotes make text."""
    inner, quoted = _unquoted(text)
    if quoted:
        return inner
    if re.fullmatch(r"[+-]?\d+", inner):
        return int(inner)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", inner):
        return float(inner)
    if inner.lower() in ("true", "false"):
        return inner.lower() == "true"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", inner):
        return _or_text(dt.date.fromisoformat, inner)
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", inner):
        return _or_text(to_utc, inner)
    return inner


def _or_text(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, GrangeError):
        return text


def _read_integer(text: str, dtype: DataType) -> int:
    assert dtype.is_integer, f"no reader for {dtype}"
    if not re.fullmatch(r"[+-]?\d+", text.strip()):
        raise ValueError(text)
    value, bits = int(text), int(dtype.kind.lstrip("uint"))
    low, high = (0, 2**bits) if dtype.kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if not low <= value < high:
        raise ValueError(text)
    return value


def _read_float(text: str, dtype: DataType) -> float:
    value = float(text)
    if math.isinf(value) and "inf" not in text.lower():
        raise ValueError(text)  # 1e999 is not infinity
    return value


def _read_boolean(text: str, dtype: DataType) -> bool:
    return {"true": True, "false": False}[text.strip().lower()] if text.strip().lower() in ("true", "false") else _no()


def _no() -> bool:
    raise ValueError("neither true nor false")


def _read_binary(text: str, dtype: DataType) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _read_json(text: str, dtype: DataType) -> Any:
    value = json.loads(text)
    if not isinstance(value, list if dtype.kind == "list" else dict):
        raise ValueError(text)
    return value


_READERS: Final[dict[str, Callable[[str, DataType], Any]]] = {
    "float32": _read_float,
    "float64": _read_float,
    "boolean": _read_boolean,
    "string": lambda text, _: text,
    "uuid": lambda text, _: str(uuid.UUID(text)),
    "binary": _read_binary,
    "date": lambda text, _: dt.date.fromisoformat(text),
    "datetime": lambda text, _: to_utc(text),
    "duration": lambda text, _: parse_duration(text),
    "decimal": lambda text, _: decimal.Decimal(text),
    "list": _read_json,
    "struct": _read_json,
}
"""By kind of type; what is not here is an integer."""


def _entry_pairs(text: str) -> Iterable[tuple[str, str]]:
    """(column, text) pairs; `"` quotes a value, and `""` in it is one quote."""
    position = 0
    while position < len(text) or position == 0:
        match = re.compile(r'\s*([^=,"]+?)\s*=(?:"((?:[^"]|"")*)"|([^,"][^,]*|))\s*(,|$)').match(text, position)
        if match is None:
            raise UsageError(f"entry {text!r} cannot be read", try_=f"write {ENTRY_GRAMMAR}")
        yield match[1], match[3] if match[2] is None else match[2].replace('""', '"')
        position = match.end()
        if not match[4]:
            return
    raise UsageError(f"entry {text!r} ends in a comma", try_=f"write {ENTRY_GRAMMAR}")


def _arguments(kind: str, inside: str | None, dtype: DataType | None) -> list[Any]:
    if inside is None or not inside.strip():
        return []
    if kind == "matches":
        return [_unquoted(inside)[0]]
    if kind == "length_between":
        dtype = DataType("int64")
    values = []
    for item in _split_quoted(inside):
        text, quoted = _unquoted(item)
        typed = dtype is not None and not (quoted and dtype.kind not in ("string", "uuid"))
        values.append(parse_value(text, dtype, what="argument") if typed and dtype else guess_value(item))
    return [values] if kind == "one_of" else values


def _split_quoted(text: str) -> list[str]:
    """Items between commas that are outside of double quotes."""
    return [item.strip() for item in re.findall(r'(?:[^,"]|"(?:[^"]|"")*"|")+', text)]


def _unquoted(text: str) -> tuple[str, bool]:
    """Text without its surrounding quotes, and whether it had some."""
    stripped = text.strip()
    if len(stripped) >= 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        return stripped[1:-1].replace(stripped[0] * 2, stripped[0]), True
    return stripped, False


def _pair(item: str, text: str) -> tuple[str, str]:
    left, equals, right = item.partition("=")
    if not left or (equals and not right):
        raise UsageError(f"join {text!r}: {item!r} is no column", try_=f"write {JOIN_GRAMMAR}")
    return left, right or left


def _dtype(text: str, item: str) -> DataType:
    try:
        return parse_dtype(text)
    except SchemaError as error:
        raise UsageError(f"{item!r}: {error.message}", closest=error.closest, try_=error.try_) from error


def _split(text: str, what: str, grammar: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise UsageError(f"{what} {text!r} has an empty item", try_=f"write {grammar}")
    return items


def _split_columns(text: str) -> list[str]:
    """Split at commas outside of brackets that a name and a colon follow."""
    items, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
        elif character == "," and depth <= 0 and re.match(r"\s*[^,:]+:", text[index + 1 :]):
            items.append(text[start:index])
            start = index + 1
    return [*items, text[start:]]


def _split_type(text: str) -> tuple[str, str]:
    """A type and what follows the first colon outside of its brackets."""
    depth = 0
    for index, character in enumerate(text):
        if character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
        elif character == ":" and depth <= 0:
            return text[:index], text[index + 1 :]
    return text, ""
