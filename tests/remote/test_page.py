"""The page about remote stores runs, against a server of its own."""

from __future__ import annotations

from pathlib import Path

from tests.docs.documents import run_page
from tests.remote.conftest import Both

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "remote.md"
SERVER = "https://features.example.com"


def test_the_page_prints_what_it_shows(both: Both, tmp_path: Path) -> None:
    page = tmp_path / PAGE.name
    text = PAGE.read_text(encoding="utf-8")
    page.write_text(text.replace(SERVER, both.url), encoding="utf-8")

    assert SERVER in text
    assert run_page(page, tmp_path) > 4
