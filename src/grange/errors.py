"""Everything that can go wrong, as one tree.

    GrangeError
    ├── DefinitionError (ValueError)            a definition contradicts itself or a law
    │   ├── DurationError                       a ttl or window that is no fixed, positive length
    │   ├── DuplicateNameError                  one name, two definitions
    │   ├── CyclicDefinitionError               a view that contains itself
    │   ├── SchemaError                         columns missing from, or contradicting, a schema
    │   └── DefinitionLoadError                 a definition module that cannot be imported
    ├── NotFoundError (LookupError)             a name that means nothing here; carries the closest ones
    │   ├── UnknownEntityError
    │   ├── UnknownFeatureGroupError
    │   ├── UnknownFeatureViewError
    │   ├── UnknownFeatureError
    │   ├── UnknownVersionError
    │   ├── UnknownBackendError
    │   ├── UnknownTransformationError
    │   ├── UnknownTrainingDatasetError
    │   ├── UnknownKeyError
    │   ├── UnknownPolicyError
    │   └── UnknownJobError
    ├── RequestError (ValueError)               a question that cannot be answered as it was asked
    │   ├── MissingColumnError                  a join key, time or request column is not there
    │   ├── KeyTypeError                        a key of another type than the group's (PIT-4)
    │   ├── NameCollisionError                  two output columns would have one name
    │   ├── IncompleteStateError                a read as of a moment whose events the online state let go
    │   └── UsageError                          a command line that cannot be read
    ├── DataError (ValueError)                  rows that contradict what was declared
    │   ├── SourceError                         a source that cannot be read, or is empty
    │   ├── ColumnTypeError                     a column that does not fit its declared type (PIT-7)
    │   ├── ExpectationError                    an expectation with policy "fail" failed
    │   ├── TransformError                      a transform function raised or returned something else
    │   └── CorruptStoreError                   a stored file cannot be read back
    │       └── TamperedError                   something stored was changed by other means than Grange's
    ├── RefusedError                            understood, and not done
    │   ├── ConflictError                       somebody else is at it; may be retried
    │   ├── InUseError                          something still depends on it
    │   ├── UnsupportedError                    the chosen backend does not promise this
    │   ├── StateLayoutError                    online window state that was made for other aggregations
    │   ├── LeakError                           values from the future, where the leak policy refuses them
    │   ├── UnauthenticatedError                who asks is not known
    │   ├── ForbiddenError                      who asks is known, and may not
    │   ├── PreconditionError                   what is changed is not what the caller saw
    │   ├── TooLargeError                       more rows or bytes than a limit lets through
    │   └── OverloadedError                     too much at once; may be retried after a while
    ├── StoreUnavailableError (ConnectionError) an outage; never read as a missing feature (ONL-6)
    │   ├── StorageFullError                    no space left where rows are written
    │   └── StateLostError                      an online store answers, without what was loaded into it
    ├── ConfigError (ValueError)                grange.toml or its environment overrides
    └── MissingDependencyError (ImportError)    an extra is not installed; carries the command

Each class has a stable `code`. Each error says what was asked, what was found, the closest valid thing and
the next command. HTTP statuses and exit codes are mapped at the edge, not here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self


class GrangeError(Exception):
    """The root. Catch it to catch everything that Grange raises on purpose.

    Args:
        message: one line, what went wrong.
        asked_by: which definition or request asked for it.
        found: what was there instead.
        closest: the closest valid names, best first.
        try_: the next command or the next line of code.
        details: data for machines (JSON-able), besides the fields above.
    """

    code: ClassVar[str] = "GRANGE-000"
    retry: bool = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        asked_by: str | None = None,
        found: str | None = None,
        closest: Iterable[str] = (),
        try_: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.asked_by = asked_by
        self.found = found
        self.closest = tuple(closest)
        self.try_ = try_
        self.details = dict(details or {})

    def hints(self) -> list[tuple[str, str]]:
        """The lines under the message, as (label, text)."""
        lines = [("asked by", self.asked_by), ("found", self.found)]
        lines += [("closest", ", ".join(self.closest) or None), ("try", self.try_)]
        return [(label, text) for label, text in lines if text]

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {label + ':':<10} {text}" for label, text in self.hints())])

    def to_dict(self) -> dict[str, Any]:
        """The error for machines: the body of `--json` output and of HTTP answers."""
        details = dict(self.details)
        for label, text in self.hints():
            details.setdefault(label.replace(" ", "_"), text)
        if self.closest:
            details["closest"] = list(self.closest)
        return {
            "code": self.code,
            "type": type(self).__name__,
            "message": self.message,
            "details": details,
            "retry": self.retry,
        }


class DefinitionError(GrangeError, ValueError):
    """A definition contradicts itself or a law."""

    code = "GRANGE-100"


class DurationError(DefinitionError):
    """A duration that is zero, negative, malformed, or a calendar length (TIME-2)."""

    code = "GRANGE-101"


class DuplicateNameError(DefinitionError):
    """Two different definitions share one name."""

    code = "GRANGE-102"


class CyclicDefinitionError(DefinitionError):
    """A feature view contains itself, directly or through others."""

    code = "GRANGE-103"


class SchemaError(DefinitionError):
    """Columns are missing from a schema, or contradict it."""

    code = "GRANGE-104"


class DefinitionLoadError(DefinitionError):
    """A definition module could not be imported."""

    code = "GRANGE-105"


class NotFoundError(GrangeError, LookupError):
    """A name that means nothing here."""

    code = "GRANGE-200"

    def __str__(self) -> str:  # LookupError's subclasses would print the repr of their argument
        return GrangeError.__str__(self)


class UnknownEntityError(NotFoundError):
    """No entity has this name."""

    code = "GRANGE-201"


class UnknownFeatureGroupError(NotFoundError):
    """No feature group has this name."""

    code = "GRANGE-202"


class UnknownFeatureViewError(NotFoundError):
    """No feature view has this name."""

    code = "GRANGE-203"


class UnknownFeatureError(NotFoundError):
    """The feature group exists and has no feature of this name."""

    code = "GRANGE-204"


class UnknownVersionError(NotFoundError):
    """The feature group exists and has no such version."""

    code = "GRANGE-205"


class UnknownBackendError(NotFoundError):
    """No engine, store, connector or registry is registered under this name."""

    code = "GRANGE-206"


class UnknownTransformationError(NotFoundError):
    """No transformation has this name."""

    code = "GRANGE-207"


class UnknownTrainingDatasetError(NotFoundError):
    """The feature view has no training dataset of this number, or none at all."""

    code = "GRANGE-208"


class UnknownKeyError(NotFoundError):
    """No API key has this id."""

    code = "GRANGE-209"


class UnknownPolicyError(NotFoundError):
    """No policy has this name."""

    code = "GRANGE-210"


class UnknownJobError(NotFoundError):
    """No job has this id."""

    code = "GRANGE-211"


class RequestError(GrangeError, ValueError):
    """A question that cannot be answered as it was asked."""

    code = "GRANGE-300"


class MissingColumnError(RequestError):
    """A join key, time or request column is not in the rows that were handed in."""

    code = "GRANGE-301"


class KeyTypeError(RequestError, TypeError):
    """A join key has another type than the feature group's (PIT-4)."""

    code = "GRANGE-302"


class NameCollisionError(RequestError):
    """Two output columns would have the same name."""

    code = "GRANGE-303"


class IncompleteStateError(RequestError):
    """The online window state no longer holds every event that the answer depends on."""

    code = "GRANGE-305"


class UsageError(RequestError):
    """A command line that cannot be read."""

    code = "GRANGE-304"


class DataError(GrangeError, ValueError):
    """Rows that contradict what was declared about them."""

    code = "GRANGE-400"


class SourceError(DataError):
    """A source cannot be read, or has no rows where some are needed."""

    code = "GRANGE-401"


class ColumnTypeError(DataError):
    """A column's values do not fit its declared type (PIT-7)."""

    code = "GRANGE-402"


class ExpectationError(DataError):
    """An expectation with policy `fail` does not hold; nothing was written."""

    code = "GRANGE-403"


class TransformError(DataError):
    """A transform function raised, or returned something that is not a frame."""

    code = "GRANGE-404"


class CorruptStoreError(DataError):
    """A stored file cannot be read back. Other versions are untouched."""

    code = "GRANGE-405"


class TamperedError(CorruptStoreError):
    """Something stored was changed, removed or put in another place by other means than Grange's."""

    code = "GRANGE-406"


class RefusedError(GrangeError):
    """Understood, and not done."""

    code = "GRANGE-500"


class ConflictError(RefusedError):
    """Somebody else changed or holds the same thing; the call may be retried."""

    code = "GRANGE-501"
    retry = True


class InUseError(RefusedError):
    """Something still depends on what was to be removed."""

    code = "GRANGE-502"


class UnsupportedError(RefusedError):
    """The chosen backend does not promise this; refused before any work."""

    code = "GRANGE-503"


class LeakError(RefusedError):
    """Definitions or training data hold values from the future, and the leak policy refuses them."""

    code = "GRANGE-504"


class StateLayoutError(RefusedError):
    """The online window state was made for other aggregations: it has to be built again from the group's events."""

    code = "GRANGE-505"


class UnauthenticatedError(RefusedError):
    """No credentials, or such as nobody has: unknown, expired, revoked or malformed. Which of them is not said."""

    code = "GRANGE-506"


class ForbiddenError(RefusedError):
    """Who asks is known, and neither role nor policy lets them do this."""

    code = "GRANGE-507"


class TooLargeError(RefusedError):
    """More rows, bytes or nesting in one request than the limits let through."""

    code = "GRANGE-508"


class OverloadedError(RefusedError):
    """Too many requests at once, or more than this caller may send. `details["retry_after"]` is seconds to wait."""

    code = "GRANGE-509"
    retry = True


class PreconditionError(RefusedError):
    """What is changed is not what the caller saw (`If-Match`), or is there already (`If-None-Match: *`)."""

    code = "GRANGE-510"


class LeakWarning(UserWarning):
    """Training data holds values from the future, as far as can be told. The policy did not make it an error."""


class StoreUnavailableError(GrangeError, ConnectionError):
    """A store cannot be reached. Never read as a missing feature (ONL-6)."""

    code = "GRANGE-600"
    retry = True


class StorageFullError(StoreUnavailableError):
    """There is no space left where rows are written; what was stored before is untouched."""

    code = "GRANGE-601"


class StateLostError(StoreUnavailableError):
    """The online store answers, and lacks what was loaded into it: it came back empty, or let go of a part.

    An outage of these features alone, until they are loaded again: no damage, and never a missing feature (ONL-6).
    `details["group"]` names the feature group, `details["retry_after"]` is seconds to wait: somebody has to load it.
    """

    code = "GRANGE-602"
    RETRY_AFTER_S: ClassVar[float] = 5.0

    @classmethod
    def of(
        cls, group: str, *, key_space: str, store: str, found: str, partly: bool = False, server: str | None = None
    ) -> Self:
        """The error of one feature group.

        Args:
            group: whose online state is lost.
            key_space: of the group.
            store: which store lost it, in words.
            found: what is known of how.
            partly: whether other entity keys of the group may be there.
            server: where the store lies, if it is a server.
        """
        details: dict[str, Any] = {"group": group, "key_space": key_space, "partly": partly}
        if server is not None:
            details["server"] = server
        return cls(
            f"{'a part of ' if partly else ''}the online state of feature group {group!r} is gone from {store}",
            found=found,
            try_=f"grange materialize {group}",
            details={**details, "retry_after": cls.RETRY_AFTER_S},
        )


class ConfigError(GrangeError, ValueError):
    """grange.toml, or an environment override of it, is wrong."""

    code = "GRANGE-700"


class MissingDependencyError(GrangeError, ImportError):
    """An optional package is needed and not installed."""

    code = "GRANGE-800"


def closest_names(name: str, candidates: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """The candidates that look most like `name`, best first; empty when none is near."""
    by_fold = {candidate.casefold(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.casefold(), by_fold, n=limit, cutoff=0.5)
    return tuple(by_fold[match] for match in matches)
