"""Names as people give them. Loads no definitions: the command line imports it for `--help`, too."""

from __future__ import annotations

import os

from grange.errors import RequestError


def name_of(what: object) -> str:
    """The name of what is asked for: a text as it is, or the name of a definition.

    Raises:
        RequestError: neither.
    """
    if isinstance(what, str):
        return what
    name = getattr(what, "name", None)
    if isinstance(name, str) and not isinstance(what, os.PathLike):
        return name
    raise RequestError(
        f"a name is expected, as text, or what has one, not {type(what).__name__}",
        found=repr(what),
        try_='"group", "group@1.0.0", or the definition itself',
    )


def pinned(name: object, version: str | None = None) -> tuple[str, str | None]:
    """A group's name and version, of `"group@1.0.0"`, or of a name (or definition) and a version.

    Raises:
        RequestError: no name; two different versions; something else than a version behind the `@`; a version that is
            no text.
    """
    name = name_of(name)
    _check_version(version)
    if "@" not in name:
        return name, version
    from grange.definitions.references import parse_reference

    reference = parse_reference(name)
    if reference.features:
        raise RequestError(f"{name!r} names a feature, and a feature group is asked for", try_=name.partition(":")[0])
    if version not in (None, reference.version):
        raise RequestError(
            f"{name!r} and version {version} are two versions", try_=f"{reference.source}@{version}, or {name} alone"
        )
    return reference.source, reference.version


def _check_version(version: object) -> None:
    if version is not None and not isinstance(version, str):
        raise RequestError(f"version {version!r} is not MAJOR.MINOR.PATCH", try_='for example "1.0.0"')


def pinned_pair(name: object, before: str | None, after: str | None) -> tuple[str, str | None, str | None]:
    """A group's name and two of its versions. Beside `"group@1.0.0"`, which names the first, one version alone is the
    second.

    Raises:
        RequestError: as `pinned`.
    """
    if after is None and "@" in name_of(name):
        before, after = None, before
    _check_version(after)
    return (*pinned(name, before), after)


def unpinned(name: object, *, what: str) -> str:
    """A group's name, where no version may be named.

    Args:
        name: as people give it.
        what: what cannot be done to a version: `"materialized"`.

    Raises:
        RequestError: no name, or one with a version.
    """
    group, version = pinned(name)
    if version is not None:
        raise RequestError(f"a version cannot be {what}, and {name_of(name)!r} names one", try_=f"{group!r} alone")
    return group
