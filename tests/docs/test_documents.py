"""Pages run, and print what they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.documents import blocks, compare, run_page

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/how-to/windows.md",
    "docs/how-to/time-series.md",
    "docs/how-to/training-datasets.md",
    "docs/how-to/mlforge.md",
    "docs/how-to/discovery.md",
    "docs/how-to/lineage.md",
    "docs/how-to/rest.md",
    "docs/how-to/security.md",
    "docs/how-to/transformations.md",
    "docs/semantics/views.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    assert run_page(ROOT / page, tmp_path) > 2


def test_another_output_is_noticed() -> None:
    compare("a 1.2 s\nb", "a ... s\nb", "here")
    with pytest.raises(AssertionError, match="prints something else"):
        compare("a\nc", "a\nb", "here")


def test_the_cases_of_windows_that_a_page_names_exist() -> None:
    import re

    from grange.testing.cases import FOLDER, load_cases

    page = (ROOT / "docs/semantics/edge-cases.md").read_text(encoding="utf-8")
    named = [word for row in re.findall(r"^\| W\d .*", page, re.M) for word in re.findall(r"`([\w/-]+)`", row)]
    known = {case.name for case in load_cases()}
    known |= {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("windows/*.json")}
    cases = [word for word in named if "-" in word]
    assert len(cases) > 10
    assert [word for word in cases if word not in known] == []


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
