"""References: how features are named in views and requests.

`"group"` is all its features, `"group:feature"` one, `"group@1.2.0:feature"` one of a pinned version.
`select(...)` says the rest: other key columns, another name, a prefix, strict time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from grange.errors import DefinitionError, RequestError
from grange.types.names import check_column, check_name, parse_version

JoinType = Literal["left", "inner", "right", "full", "asof"]
"""Which rows a join leaves. `asof` is `left`: every join here finds what was true at a row's time."""


@dataclass(frozen=True, slots=True)
class FeatureSelection:
    """Features of one group (or everything of one view) as a view or a request asks for them."""

    source: str
    """The feature group's name; or a feature view's, whose selections are taken over whole."""
    features: tuple[str, ...] = ()
    """Features asked for; empty is all, in the group's order."""
    version: str | None = None
    """A pinned version; None is the latest."""
    on: tuple[tuple[str, str], ...] = ()
    """(join key of the group, column of the spine) where the two differ (PIT-6)."""
    rename: tuple[tuple[str, str], ...] = ()
    """(feature, output column) where the two differ."""
    prefix: str = ""
    """Put before every output column that `rename` does not name."""
    exact_matches: bool = True
    """False makes a feature row at the spine's own time invisible (PIT-2)."""
    join: JoinType = "left"
    """Which rows stay: see `select`."""

    def output_name(self, feature: str) -> str:
        """The output column of a feature."""
        return dict(self.rename).get(feature, self.prefix + feature)

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        features = f":{','.join(self.features)}" if self.features else ""
        on = " on " + ", ".join(f"{key}={column}" for key, column in self.on) if self.on else ""
        prefix = f" prefix {self.prefix}" if self.prefix else ""
        names = " as " + ", ".join(f"{a}={b}" for a, b in self.rename) if self.rename else ""
        strict = "" if self.exact_matches else " strictly before"
        join = "" if self.join == "left" else f" {self.join} join"
        return f"{self.source}{version}{features}{on}{prefix}{names}{strict}{join}"


def select(
    source: str,
    *features: str,
    version: str | None = None,
    on: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    prefix: str = "",
    exact_matches: bool = True,
    join: JoinType = "left",
) -> FeatureSelection:
    """Features of a group for a view or a request.

    >>> str(select("weather", "temp", on={"airport": "origin"}, prefix="origin_"))
    'weather:temp on airport=origin prefix origin_'

    Args:
        source: the group, as `"group"` or `"group@1.2.0"`.
        features: which of them; none is all.
        on: by join key of the group, the spine's column to take it from.
        rename: by feature, its output column.
        prefix: put before the other output columns.
        exact_matches: False sees only rows strictly before the spine's time.
        join: which rows stay. `left` (and `asof`, the same): all of them. `inner`: those for which the group has
            a visible row. Without a spine, `right` asks at this group's entity keys and times instead of the first
            group's, and `full` at both. A given spine says itself which rows are asked for: there `right` is `inner`
            and `full` is `left`. Online every requested row has its answer (ONL-4), whatever the join.

    Raises:
        RequestError: a version that is none.
        DefinitionError: a join that is none; a column name or prefix that may not be.
    """
    parsed = parse_reference(source)
    if parsed.features:
        features = (*parsed.features, *features)
    if version is not None and parse_version(version) is None:
        raise RequestError(f"version {version!r} is not MAJOR.MINOR.PATCH", try_="for example 1.0.0")
    if join not in get_args(JoinType):
        raise DefinitionError(f"select({source!r}): join {join!r} is none", try_=", ".join(get_args(JoinType)))
    for key, column in (on or {}).items():
        check_column(key, what=f"select({source!r})")
        check_column(column, what=f"select({source!r})")
    if prefix:
        check_column(f"{prefix}name", what=f"select({source!r}), with prefix {prefix!r}")
    for feature, column in (rename or {}).items():
        check_column(column, what=f"select({source!r})")
        if features and feature not in features:
            raise DefinitionError(f"select({source!r}) renames {feature!r} and does not select it")
    return FeatureSelection(
        source=parsed.source,
        features=tuple(dict.fromkeys(features)),
        version=version or parsed.version,
        on=tuple(sorted((on or {}).items())),
        rename=tuple(sorted((rename or {}).items())),
        prefix=prefix,
        exact_matches=exact_matches,
        join=join,
    )


def parse_reference(reference: str) -> FeatureSelection:
    """`"group"`, `"group:feature"`, `"group@1.2.0"` or `"group@1.2.0:feature"`.

    Raises:
        RequestError: something else.
    """
    head, colon, feature = reference.partition(":")
    name, at, version = head.partition("@")
    try:
        check_name(name, what="feature group")
    except DefinitionError as error:
        raise _malformed(reference) from error
    if (colon and not feature.strip()) or (at and parse_version(version) is None):
        raise _malformed(reference)
    return FeatureSelection(source=name, features=(feature,) if colon else (), version=version if at else None)


def as_selection(item: object) -> FeatureSelection:
    """A selection from what people write: text, `("group", "1.0.0")` (a list of the two, as JSON has it, too), a
    group or view, or a selection."""
    if isinstance(item, FeatureSelection):
        return item
    if isinstance(item, str):
        return parse_reference(item)
    if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return select(item[0], version=item[1])
    name = getattr(item, "name", None)
    if isinstance(name, str) and hasattr(item, "tags"):  # a FeatureGroup or FeatureView itself
        return FeatureSelection(source=name)
    raise _malformed(item)


def _malformed(reference: object) -> RequestError:
    return RequestError(
        f"{reference!r} names no features",
        try_='"group", "group:feature", "group@1.0.0:feature", ("group", "1.0.0") or gr.select(...)',
    )
