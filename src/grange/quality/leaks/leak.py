"""A leak that was found, and what to do about leaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from grange.errors import ConfigError, LeakError, closest_names
from grange.quality.leaks.codes import CODES, Severity

ALL: Final = "all"
"""In a policy's errors: every warning, whatever its code."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One leak. Compare with `==`; print with `str`."""

    code: str
    """A key of `CODES`."""
    severity: Severity
    message: str
    """One line: what was found, where."""
    group: str | None = None
    """The feature group that it comes from, if one."""
    features: tuple[str, ...] = ()
    """Definitions: references such as `spend:amount__sum__7d`. Training data: output columns."""
    label: str | None = None
    view: str | None = None
    rows: int | None = None
    """How many of the rows looked at show it; None for what definitions tell."""
    of: int | None = None
    """How many rows could have shown it."""

    @property
    def explanation(self) -> str:
        """Why it is a value from the future."""
        return CODES[self.code].explanation

    @property
    def fix(self) -> str:
        """What to do about it."""
        return CODES[self.code].fix

    def __str__(self) -> str:
        hints = (("why", self.explanation), ("fix", self.fix))
        return "\n".join(
            [f"{self.code} {self.severity}: {self.message}", *(f"  {name + ':':<5} {text}" for name, text in hints)]
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "explanation": self.explanation,
            "fix": self.fix,
            "view": self.view,
            "group": self.group,
            "features": list(self.features),
            "label": self.label,
            "rows": self.rows,
            "of": self.of,
        }


@dataclass(frozen=True, slots=True)
class LeakPolicy:
    """Which leaks are errors, and which are not reported. What is in both is not reported."""

    errors: frozenset[str] = frozenset()
    """Codes, of which warnings and notices raise; and `all`, of which every warning raises."""
    ignore: frozenset[str] = frozenset()
    """Codes that are known and accepted."""

    @classmethod
    def of(cls, errors: str | Iterable[str] = (), ignore: str | Iterable[str] = ()) -> LeakPolicy:
        """A policy from what settings and arguments say: `"all"`, one code or several.

        Raises:
            ConfigError: no such code; carries the closest ones.
        """
        return cls(_codes(errors, "leaks.errors", {*CODES, ALL}), _codes(ignore, "leaks.ignore", CODES))

    def reports(self, leak: Leak) -> bool:
        """Whether a leak is told at all."""
        return leak.code not in self.ignore

    def raises(self, leak: Leak) -> bool:
        """Whether a leak is an error."""
        wanted = leak.code in self.errors or (ALL in self.errors and leak.severity == "warning")
        return wanted and self.reports(leak)


def raise_or_return(leaks: Iterable[Leak], policy: LeakPolicy, *, asked_by: str | None = None) -> tuple[Leak, ...]:
    """The leaks that a policy does not ignore, in their order.

    Args:
        leaks: what was found.
        policy: what to do about it.
        asked_by: the definition or request that was checked, for the error.

    Raises:
        LeakError: the policy makes at least one of them an error; carries them all.
    """
    told = tuple(leak for leak in leaks if policy.reports(leak))
    errors = [leak for leak in told if policy.raises(leak)]
    if not errors:
        return told
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    codes = ", ".join(sorted({leak.code for leak in errors}))
    raise LeakError(
        f"{errors[0].code}: {errors[0].message}{more}",
        asked_by=asked_by,
        found=codes,
        try_=f"{errors[0].fix}; or, if it is none, put {errors[0].code} into leaks.ignore",
        details={"leaks": [leak.to_dict() for leak in errors]},
    )


def _codes(given: str | Iterable[str], what: str, known: Iterable[str]) -> frozenset[str]:
    codes = [given] if isinstance(given, str) else list(given)
    offered = sorted(known)
    for code in codes:
        if code not in offered:
            raise ConfigError(
                f"{what}: no code {code!r}",
                closest=closest_names(str(code), offered),
                try_=f"one of {', '.join(offered)}",
            )
    return frozenset(codes)


__all__ = ["ALL", "Leak", "LeakPolicy", "raise_or_return"]
