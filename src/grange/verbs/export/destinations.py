"""Destinations: a path relative to the project, or the URL of an object store. Pure, but for looking at folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from grange.errors import RequestError, closest_names

Format = Literal["parquet", "csv", "arrow"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
SCHEMES: Final = ("s3", "gs", "az")
COMPRESSIONS: Final[Mapping[Format, tuple[str, ...]]] = {
    "parquet": ("snappy", "zstd", "gzip", "brotli", "lz4", "none"),
    "csv": ("none", "gzip"),
    "arrow": ("none", "lz4", "zstd"),
}
"""By format, the ways to compress; the first is taken where none is asked for."""

_ENDINGS: Final[Mapping[str, Format]] = {
    ".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".arrow": "arrow",
}  # fmt: skip
_SECRET: Final = re.compile(
    r"(?i)([a-z0-9_.\-]*(?:signature|credential|token|secret|password|access_?key(?:_?id)?|accesskeyid|account_?key"
    r"|sas|sig)[a-z0-9_]*\"?\s*[=:>]\s*\"?)[^\s&\"<>,;)]+"
)
_PLAIN: Final = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url", "region", "aws_region")
"""Options of object stores that are no secret."""
_USER: Final = re.compile(r"//[^/@\s]+@")

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an export goes, in which form."""

    text: str
    """For people, records and lineage: a path relative to the project where it lies in it, or a URL."""
    format: Format
    compression: str
    folder: bool
    """Whether it is a folder of files, or one file."""
    path: Path | None
    """On disk; None in an object store."""

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def ending(self) -> str:
        """Of the files in a folder."""
        return ".csv.gz" if (self.format, self.compression) == ("csv", "gzip") else f".{self.format}"


def destination_of(text: str, *, project: Path, format: str | None, compression: str | None) -> Destination:
    """Where an export goes.

    A path or URL that ends in `/`, has no ending, or is a folder already, is a folder of files.

    Args:
        text: a path, relative to the project, or `s3://`, `gs://`, `az://`.
        project: the project's folder.
        format: `parquet`, `csv`, `arrow`; by the ending without, and parquet where that says none.
        compression: by the format without.

    Raises:
        RequestError: not a place to write to; a format or compression that is none, or contradicts the ending; a URL
            with credentials in it.
    """
    path = _path(text, project)
    folder = text.endswith("/") or (path is not None and path.is_dir()) or not _suffix(text)
    chosen = _format(text, format, folder=folder)
    how = _compression(chosen, compression, text, folder=folder)
    if path is None:
        return Destination(text, chosen, how, folder, None)
    inside = path.is_relative_to(project)
    shown = path.relative_to(project).as_posix() if inside else path.as_posix()
    return Destination(shown, chosen, how, folder, path)


def _path(text: str, project: Path) -> Path | None:
    """The path on disk; None in an object store.

    Raises:
        RequestError: it is neither a path nor a URL of an object store.
    """
    if not text.strip() or not text.isprintable():
        raise RequestError("an export needs a destination of printable characters", try_="exports/spend.parquet")
    scheme, found, rest = text.partition("://")
    if not found:
        path = project / text
        # what `..` leads to, without following links: the last part may be one that is to be replaced
        path = path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
        if ".grange" in path.parts or path == project.resolve() or project.resolve().is_relative_to(path):
            raise RequestError(
                f"{text!r} is where the project itself lies, and no place for exports", try_="exports/spend.parquet"
            )
        return path
    if scheme not in SCHEMES:
        raise RequestError(
            f"exports cannot go to {scheme}://",
            found=", ".join(f"{each}://" for each in SCHEMES) + " and paths",
            closest=closest_names(scheme, SCHEMES),
            try_="s3://bucket/spend.parquet",
        )
    if "@" in rest.partition("/")[0] or "?" in rest or "#" in rest:
        raise RequestError(
            "the URL of a destination has no credentials, query or fragment in it: it is stored and shown",
            try_="set them in the environment (AWS_ACCESS_KEY_ID, ...), or hand them in as options=",
        )
    bucket, _, key = rest.partition("/")
    if not bucket or not key.strip("/") or any(part in ("", ".", "..") for part in key.rstrip("/").split("/")):
        raise RequestError(f"{text!r} names no object", try_=f"{scheme}://bucket/spend.parquet")
    return None


def _suffix(text: str) -> str:
    """The ending of the last part: `.csv.gz`, `.parquet`, `.txt`; "" without one."""
    name = text.rpartition("/")[2]
    known = next((ending for ending in sorted(_ENDINGS, key=len, reverse=True) if name.endswith(ending)), "")
    return known or Path(name).suffix


def _format(text: str, asked: str | None, *, folder: bool) -> Format:
    ending = "" if folder else _suffix(text)
    known = _ENDINGS.get(ending)
    if asked is None:
        if known is None and ending:
            raise RequestError(
                f"cannot tell the format of an export from the ending {ending!r}",
                found=", ".join(FORMATS),
                try_='format="parquet"',
            )
        return known or "parquet"
    chosen: Format = _one_of(asked, FORMATS, "format")
    if known is not None and known != chosen:
        raise RequestError(f"the ending {ending!r} says {known}, and the format is {chosen}", try_="leave format out")
    return chosen


def _compression(chosen: Format, asked: str | None, text: str, *, folder: bool) -> str:
    zipped = not folder and text.endswith(".csv.gz")
    if asked is None:
        return "gzip" if zipped else COMPRESSIONS[chosen][0]
    how = _one_of(asked, COMPRESSIONS[chosen], f"compression of {chosen}")
    if zipped and how != "gzip":
        raise RequestError(f"the ending '.csv.gz' says gzip, and the compression is {how}", try_="leave it out")
    return how


def _one_of(text: str, known: tuple[T, ...], what: str) -> T:
    for each in known:
        if text == each:
            return each
    raise RequestError(f"no {what} {text!r} to export in", found=", ".join(known), closest=closest_names(text, known))


def secrets_of(options: Mapping[str, str]) -> tuple[str, ...]:
    """The values of an object store's options that nobody is to see: all but those that are known to be no secret."""
    return tuple(str(value) for name, value in options.items() if name.lower() not in _PLAIN)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """A text, of an error say, without credentials: those that are known, and what looks like one.

    Args:
        text: any.
        secrets: what must not be in it; short ones are of no use to anybody and stay.
    """
    for secret in sorted({each for each in secrets if len(each) > 3}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _SECRET.sub(r"\1***", _USER.sub("//***@", text))


__all__ = ["COMPRESSIONS", "FORMATS", "SCHEMES", "Destination", "Format", "destination_of", "redacted", "secrets_of"]
