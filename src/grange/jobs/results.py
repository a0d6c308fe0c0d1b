"""Rows that jobs leave behind: an Arrow file each, under `.grange/jobs` of the project, for a week."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grange.errors import NotFoundError, StorageFullError

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS_KEPT: Final = dt.timedelta(days=7)
_ID: Final = re.compile(r"job-\d{1,18}")
_ENDING: Final = ".arrow"
_NO_SPACE: Final = 28


@dataclass(frozen=True, slots=True)
class JobResults:
    """The folder of one project's results."""

    folder: Path

    @classmethod
    def of(cls, project: Path) -> JobResults:
        """Those of a project, by its folder."""
        return cls(project / ".grange" / "jobs")

    def write(self, id: str, table: pa.Table) -> None:
        """Keep a table; it appears whole or not at all.

        Raises:
            StorageFullError: no space is left.
        """
        import pyarrow as pa

        self.folder.mkdir(parents=True, exist_ok=True)
        target, beside = self._path(id), self._path(id).with_suffix(".part")
        try:
            with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=65_536)
            beside.replace(target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            if error.errno == _NO_SPACE:
                raise StorageFullError(f"no space is left for the rows of {id}") from error
            raise

    def open(self, id: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns of a kept table, and its rows a batch at a time.

        Raises:
            NotFoundError: it is not here: expired, or made by a server with another disk.
        """
        import pyarrow as pa

        path = self._path(id)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"the rows of {id} are not here",
                found=f"they are kept for {RESULTS_KEPT.days} days, on the machine that made them",
                try_="ask for them again",
            ) from error
        return reader.schema, (reader.get_batch(place) for place in range(reader.num_record_batches))

    def remove(self, id: str) -> None:
        """Remove a kept table, if it is there."""
        self._path(id).unlink(missing_ok=True)

    def clear(self, *, now: dt.datetime) -> None:
        """Remove what expired, and what a crash left half-written."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            age = now - dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
            if path.suffix in (_ENDING, ".part") and age > RESULTS_KEPT:
                path.unlink(missing_ok=True)

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise NotFoundError(f"{id!r} is no id of a job")
        return self.folder / f"{id}{_ENDING}"
