"""Pages run, and print what they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.documents import blocks, compare, run_page

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/tutorial.md"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    assert run_page(ROOT / page, tmp_path) > 2


def test_another_output_is_noticed() -> None:
    compare("a 1.2 s\nb", "a ... s\nb", "here")
    with pytest.raises(AssertionError, match="prints something else"):
        compare("a\nc", "a\nb", "here")


def test_links_between_pages_lead_somewhere() -> None:
    import re

    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("src/**/README.md"),
    ]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken


def test_every_block_has_a_known_language() -> None:
    known = {"python", "text", "console", "toml", "sh", "sql", "json", "ini", "make"}
    for page in PAGES:
        assert {block.language for block in blocks(ROOT / page)} <= known
