"""Every test runs in a folder of its own, with transactions in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.compat.transactions import write


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write()
    return tmp_path
