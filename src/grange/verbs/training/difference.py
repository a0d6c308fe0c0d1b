"""The difference of two training datasets: what went in, and what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grange.definitions.diff import compare
from grange.ports.datasets import DatasetMeta
from grange.types.time import isoformat


@dataclass(frozen=True, slots=True)
class DatasetDifference:
    """What differs between two training datasets, by section, one line each."""

    before: str
    after: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.sections

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"before": self.before, "after": self.after, **{name: list(lines) for name, lines in self.sections}}

    def __str__(self) -> str:
        lines = [f"{self.before} -> {self.after}" + (": no difference" if self.identical else "")]
        for name, found in self.sections:
            lines += [f"{name}:", *(f"    {line}" for line in found)]
        return "\n".join(lines)


def difference(before: DatasetMeta, after: DatasetMeta) -> DatasetDifference:
    """What differs between two training datasets; pure."""
    sections = {
        "versions": _pins(before, after),
        "view": compare(before.view_definition, after.view_definition),
        "spine": _fields(before, after, "spine", "spine_hash", "filter"),
        "split": _fields(before, after, "split"),
        "rows": _rows(before, after),
        "columns": _columns(before, after),
        "code": _mapping(before.code_hashes, after.code_hashes, short=True),
        "transformations": _learned(before, after),
        "statistics": tuple(_statistics(before, after)),
        "libraries": _mapping(before.libraries, after.libraries),
    }
    found = tuple((name, tuple(lines)) for name, lines in sections.items() if lines)
    return DatasetDifference(f"{before.view}#{before.version}", f"{after.view}#{after.version}", found)


def _pins(before: DatasetMeta, after: DatasetMeta) -> tuple[str, ...]:
    def said(meta: DatasetMeta) -> dict[str, str]:
        return {
            pin.group: pin.version + ("" if pin.pushed_until is None else f" and pushed rows below {pin.pushed_until}")
            for pin in meta.pins
        }

    return _mapping(said(before), said(after))


def _mapping(old: dict[str, str], new: dict[str, str], *, short: bool = False) -> tuple[str, ...]:
    def said(text: str | None) -> str:
        return "none" if text is None else text[:12] if short else text

    return tuple(
        f"{name}: {said(old.get(name))} -> {said(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


def _fields(before: DatasetMeta, after: DatasetMeta, *names: str) -> tuple[str, ...]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in names)
    return tuple(f"{name}: {_said(old)} -> {_said(new)}" for name, old, new in pairs if old != new)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items() if item is not None) or "none"
    if isinstance(value, list):
        return " ".join(_said(item) for item in value)
    return str(value)[:60] if value not in (None, "") else "none"


def _rows(before: DatasetMeta, after: DatasetMeta) -> tuple[str, ...]:
    old, new = ({part.name: str(part.rows) for part in meta.parts} for meta in (before, after))
    lines = _mapping(old, new)
    if before.left_out != after.left_out:
        lines += (f"left out: {before.left_out} -> {after.left_out}",)
    if before.as_of != after.as_of:
        lines += (f"labels known at: {isoformat(before.as_of)} -> {isoformat(after.as_of)}",)
    return lines


def _columns(before: DatasetMeta, after: DatasetMeta) -> tuple[str, ...]:
    old, new = (
        {column.name: f"{column.dtype} {meta.roles.get(column.name, '')}".strip() for column in meta.schema}
        for meta in (before, after)
    )
    return _mapping(old, new)


def _learned(before: DatasetMeta, after: DatasetMeta) -> tuple[str, ...]:
    old, new = before.transformations.get("learned", []), after.transformations.get("learned", [])
    return () if old == new else ("they learned something else",)


def _statistics(before: DatasetMeta, after: DatasetMeta) -> Iterator[str]:
    old, new = before.statistics or {}, after.statistics or {}
    for part in dict.fromkeys([*old, *new]):
        for column in dict.fromkeys([*old.get(part, {}), *new.get(part, {})]):
            one, other = old.get(part, {}).get(column, {}), new.get(part, {}).get(column, {})
            for name in ("nulls", "distinct", "mean", "std", "min", "max"):
                if one.get(name) != other.get(name) and one and other:
                    yield f"{part}.{column} {name}: {_number(one.get(name))} -> {_number(other.get(name))}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)
