"""The page of edge cases names cases and tests that exist."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from grange.testing.cases import FOLDER, load_cases
from grange.testing.engines import EngineContract

PAGE = Path(__file__).parents[3] / "docs" / "semantics" / "edge-cases.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_21_groups_are_there():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 22))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_what_a_row_names_exists(row):
    files = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.json")}
    names = [case.name for case in load_cases()] + list(vars(EngineContract))
    for word in re.findall(r"`([^`]+)`", row.split("|")[4]):
        if re.fullmatch(r"(pit|time|onl5)/[\w-]+", word):
            assert word in files, word
        elif "-" in word or word.startswith("test_"):
            assert fnmatch.filter(names, word), word
