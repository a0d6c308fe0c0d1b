"""A project as `grange init` writes it, and a way to run commands in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.running import Grange, Ran

from grange.cli.main import run


@pytest.fixture
def grange(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Grange:
    """Run `grange ...` in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GRANGE_DEBUG", raising=False)

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, applied and materialized once; tests work on copies."""
    folder = tmp_path_factory.mktemp("prepared") / "shop"
    for command in (["init", str(folder)], ["apply"], ["materialize"]):
        where = [] if command[0] == "init" else ["--project", str(folder)]
        assert run([*command, *where]) == 0
    return folder


@pytest.fixture
def shop(prepared: Path, tmp_path: Path, grange: Grange) -> Grange:
    """Commands in a copy of the prepared project, which is the test's folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return grange
