"""The pages about clients of other systems run, and print what they show."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.docs.documents import run_page
from tests.http.conftest import Served

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def test_the_page_about_other_systems_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grange.toml").write_text('project = "shop"\n')
    served = Served(tmp_path)
    monkeypatch.setenv("SERVER", served.url)
    try:
        assert run_page(HOW_TO / "rest-compat.md", tmp_path) == 3
    finally:
        if served.process.poll() is None:
            served.stop(signal.SIGTERM)


def test_the_page_about_feast_is_true(tmp_path: Path) -> None:
    assert run_page(HOW_TO / "feast.md", tmp_path) == 5
