"""What definitions from strangers may not do: read files that are not the project's data, bring code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.transformations import Transformation
from grange.definitions.transforms import PythonTransform
from grange.errors import ForbiddenError

if TYPE_CHECKING:
    from grange.definitions.serialize import Definition
    from grange.store import FeatureStore

_NO_PATH: Final = re.compile(r"[A-Za-z]:|[A-Za-z0-9+.-]+://|~")
"""How what is no path inside a folder begins."""
_DATA: Final = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def is_data(text: str, project: Path) -> bool:
    """Whether a path can only lead to data files inside the project."""
    path = PurePosixPath(text)
    if path.is_absolute() or _NO_PATH.match(text) or not text.isprintable() or "\\" in text:
        return False
    if any(part.startswith(".") for part in path.parts) or not path.parts:
        return False
    if len(path.parts) > 1 and path.parts[-1] in ("*", "**"):
        return True
    if path.name.lower().removesuffix(".gz").endswith(_DATA):
        return True
    return not path.suffix and "*" not in path.name and not (project / path).is_file()


def check_code(definition: Definition, store: FeatureStore) -> None:
    """Refuse code that the server has not: it runs what its own modules define, and what the operator allowed.

    Raises:
        ForbiddenError: the definition brings code.
    """
    brought = set(_code_hashes([definition]))
    if not brought or store.config.allow_stored_code:
        return
    catalog = store.catalog
    applied: list[Definition] = [*catalog.groups.values(), *catalog.views.values(), *catalog.transformations.values()]
    own = {*_code_hashes(applied), *_code_hashes(store._parts.load_definitions())}
    if brought - own:
        raise ForbiddenError(
            f"{definition.name!r} brings code, and code does not travel",
            found="none of the server's own modules defines it",
            try_="deploy the module with the server, or write SQL; or allow_stored = true under [code] of grange.toml",
        )


def _code_hashes(definitions: Iterable[Definition]) -> Iterator[str]:
    """The hashes of all Python code in definitions."""
    for each in definitions:
        owned: list[Transformation | None] = []
        if isinstance(each, FeatureGroup):
            if isinstance(each.transform, PythonTransform):
                yield each.transform.code_hash
            owned = [step.transformation for step in each.on_demand]
        elif isinstance(each, FeatureView):
            owned = [step.transformation for step in (*each.on_demand, *each.transformations)]
        elif isinstance(each, Transformation):
            owned = [each]
        for own in owned:
            if own is not None:
                yield from (code.code_hash for _, code in own.codes())
