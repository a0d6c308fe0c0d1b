"""Where training datasets lie. Builds paths; touches no disk.

    <root>/_training_datasets/
      _locks/<view>.lock                  held by whoever writes the view's training datasets; never removed
      <view>/<N>/<part>.parquet           or .csv, .arrow
      <view>/<N>/.meta.json               written last, before the folder gets its name

Names that start with a dot and end in a unique part are unfinished, as elsewhere in the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from grange.errors import RequestError
from grange.offline.parquet.files import FilePath
from grange.types.names import check_name

FOLDER: Final = "_training_datasets"
_NUMBER: Final = re.compile(r"[1-9]\d{0,17}")


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """The paths of the training datasets of one store."""

    root: FilePath
    """Of the offline store."""

    @property
    def folder(self) -> FilePath:
        """The folder of all training datasets."""
        return self.root / FOLDER

    def view(self, view: str) -> FilePath:
        """The folder of a view's training datasets.

        Raises:
            DefinitionError: the name is none, so it could lead elsewhere.
        """
        return self.folder / check_name(view, what="feature view")

    def version(self, view: str, version: int) -> FilePath:
        """The folder of one training dataset.

        Raises:
            RequestError: the number is none.
        """
        if isinstance(version, bool) or not isinstance(version, int) or not is_number(str(version)):
            raise RequestError(f"training dataset {version!r} is not a number from 1", try_="for example 1")
        return self.view(view) / str(version)

    def lock(self, view: str) -> FilePath:
        """Held while a view's training datasets are written."""
        return self.folder / "_locks" / f"{self.view(view).name}.lock"


def is_number(name: str) -> bool:
    """Whether a folder's name is the number of a training dataset."""
    return _NUMBER.fullmatch(name) is not None


def part_file(part: str, suffix: str) -> str:
    """The file of a part.

    Raises:
        DefinitionError: the name is none, so it could lead elsewhere.
    """
    return f"{check_name(part, what='part')}.{suffix}"
