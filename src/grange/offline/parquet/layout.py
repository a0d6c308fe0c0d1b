"""Where everything lies in the store. The only place that builds paths; nothing here touches the disk.

    <root>/
      _metadata/manifest.json                  every group's versions; rebuilt from the folders, which are the truth
      _metadata/locks/<group>.lock             held by whoever writes the group; never removed, not even with it
      <group>/
        _latest.json                           {"version": "1.2.0"}
        _reached.json                          {"next": 1099511627781}: the number that the next pushed row gets
        <X.Y.Z>/.meta.json                     written last: a folder without it is no version
        <X.Y.Z>/data.parquet                   or, when large, data/month=YYYY-MM/part-0.parquet
        <X.Y.Z>/events.parquet                 likewise; of groups with aggregations, whose feature rows are the data
        _pushed/<first>-<last>-<hash>.parquet  pushed rows, a file per push, named by sequence numbers and its bytes
        _quarantine/<time>-<id>.parquet        rows that expectations kept out

On a disk, names that start with a dot and end in a unique part are unfinished: `.building-…`, `.deleting-…`,
`.temp-…`. In an object store the names of a version's files end in the attempt that wrote them, and what no
`.meta.json` or claim goes with is unfinished.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from grange.errors import CorruptStoreError, RequestError
from grange.offline.parquet.files import FilePath
from grange.types.names import check_name, parse_version

META: Final = ".meta.json"
FILE_HASHES: Final = "file_hashes"
"""What `.meta.json` has besides the port's metadata: SHA-256 of the bytes of each file of rows."""
DATA: Final = "data"
"""What people read: the rows, or the feature rows of a group with aggregations."""
EVENTS: Final = "events"
"""The rows of a group with aggregations."""
UNFINISHED: Final = (".building-", ".deleting-", ".temp-")
_SEGMENT: Final = re.compile(r"(\d+)-(\d+)(?:-([0-9a-f]{16}))?\.parquet")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: FilePath

    def group(self, group: str) -> FilePath:
        """A group's folder.

        Raises:
            DefinitionError: the name is none, so it could lead elsewhere.
        """
        return self.root / check_name(group, what="feature group")

    def version(self, group: str, version: str) -> FilePath:
        """A version's folder.

        Raises:
            RequestError: the text is no version.
        """
        if parse_version(version) is None:
            raise RequestError(f"version {version!r} is not MAJOR.MINOR.PATCH", try_="for example 1.0.0")
        return self.group(group) / version

    def latest(self, group: str) -> FilePath:
        """The file that names the latest version."""
        return self.group(group) / "_latest.json"

    def reached(self, group: str) -> FilePath:
        """The file that says how far the numbers of pushed rows went."""
        return self.group(group) / "_reached.json"

    def pushed(self, group: str) -> FilePath:
        """The folder of pushed rows."""
        return self.group(group) / "_pushed"

    def quarantine(self, group: str) -> FilePath:
        """The folder of rows that expectations kept out."""
        return self.group(group) / "_quarantine"

    @property
    def metadata(self) -> FilePath:
        """The folder of what is about the whole store."""
        return self.root / "_metadata"

    @property
    def manifest(self) -> FilePath:
        """The file that lists every group's versions."""
        return self.metadata / "manifest.json"

    def lock(self, group: str) -> FilePath:
        """Held while a group is written. Outside the group's folder, so that deleting the group cannot leave two
        processes holding two different files of this name."""
        return self.metadata / "locks" / f"{self.group(group).name}.lock"

    def trash(self, group: str) -> FilePath:
        """Where a whole group is moved to be removed."""
        return self.root / unfinished(f"deleting-{self.group(group).name}")


def unfinished(kind: str) -> str:
    """A new name for something half done."""
    return f".{kind}-{uuid.uuid4().hex}"


def is_unfinished(name: str) -> bool:
    """Whether a name is of something half done."""
    return name.startswith(UNFINISHED)


def trash_of(name: str) -> str | None:
    """The group whose removal left this name in the store's root; None for any other name."""
    match = re.fullmatch(r"\.deleting-(\w+)-[0-9a-f]{32}", name)
    return match[1] if match else None


def whole_file(table: str) -> str:
    """The one file of a table (`DATA` or `EVENTS`), relative to its version."""
    return f"{table}.parquet"


def month_file(table: str, month: str) -> str:
    """A month's file of a table, relative to its version; `month` is `YYYY-MM`."""
    return f"{table}/month={month}/part-0.parquet"


def stored_file(folder: FilePath, relative: str) -> FilePath:
    """A version's file of rows or feature rows.

    Raises:
        CorruptStoreError: the metadata names a file outside the version's folder.
    """
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise CorruptStoreError(f"{folder / META} names a file outside its folder", found=relative)
    return folder / str(path)


def segment_name(first: int, last: int, digest: str) -> str:
    """The file of pushed rows `first` to `last`, both included; padded so that names sort as numbers.

    Args:
        digest: SHA-256 of its bytes; a quarter of it stands in the name, as there is no other place that appears with
            the file at once.
    """
    return f"{first:019d}-{last:019d}-{digest[:16]}.parquet"


def segment_slot(first: int) -> str:
    """What of the name of a file of pushed rows only one file may ever have: the number of its first row."""
    return f"{first:019d}"


def parse_segment(name: str) -> tuple[int, int, str] | None:
    """`(first, last, digest)` of a file of pushed rows, the digest as far as the name has it; None for any other
    name. Files of older releases have none."""
    match = _SEGMENT.fullmatch(name)
    return (int(match[1]), int(match[2]), match[3] or "") if match else None


def quarantine_name(now: dt.datetime) -> str:
    """A new file of quarantined rows; the time leads, so names sort by age."""
    return f"{now.astimezone(dt.UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:12]}.parquet"
