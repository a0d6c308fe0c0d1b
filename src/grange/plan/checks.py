"""What every engine checks, and says of what it cannot read, in the same words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from grange.errors import CorruptStoreError, SchemaError, SourceError
from grange.plan.nodes import Align, Scan


def check_concat(parts: Sequence[Sequence[str]]) -> None:
    """Check that the parts of a `Concat` have the same columns, in whatever order.

    Raises:
        SchemaError: one part has a column that another lacks.
    """
    first = parts[0]
    for part in parts[1:]:
        odd = [name for name in dict.fromkeys([*first, *part]) if (name in first) != (name in part)]
        if odd:
            raise SchemaError(
                f"rows to put together have other columns: {', '.join(map(repr, odd))} only on one side",
                found=f"{', '.join(first) or 'no columns'} and {', '.join(part) or 'no columns'}",
            )


def unreadable(file: str, node: Scan, error: BaseException) -> SourceError | CorruptStoreError:
    """The error for a file that cannot be read: a source is wrong, or stored rows are damaged."""
    if node.stored is not None:
        return CorruptStoreError(
            f"feature group {node.stored!r}: stored file {file!r} cannot be read",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            try_=f"grange verify {node.stored}, which names all that is damaged; grange materialize {node.stored} "
            "builds a new version",
            details={"group": node.stored, "file": file},
        )
    if isinstance(error, FileNotFoundError):
        return SourceError(f"file {file!r} does not exist", try_="look at the path of its source")
    return SourceError(
        f"file {file!r} cannot be read as {node.format}", found=(str(error).splitlines() or ["nothing"])[0]
    )


def check_align(node: Align, found: Sequence[str]) -> None:
    """Check that stored rows have the columns that nothing can stand in for.

    Raises:
        SchemaError: a required column is missing.
    """
    missing = [name for name in node.required if name not in found]
    if missing:
        raise SchemaError(
            f"{node.what} have no {', '.join(map(repr, missing))}, which is part of its entity key or its event time",
            found=", ".join(found) or "no columns at all",
            try_="whole versions are built anew from the source (materialize without start and end); rows that were "
            "pushed under other keys or times stay with them: define the changed group under a new name",
            details={"group": node.group, "missing": missing},
        )
