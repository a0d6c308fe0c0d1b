"""The command line against a server: `--project https://...` prints what it prints in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.remote.conftest import Both

from grange.cli.main import run

SAME = [
    "fg list", "fg features spend", "fg preview spend", "fg stats spend", "fv list",
    "fv get shopping --entry user_id=u1,shop_id=1", "versions spend", "inspect user", "manifest", "search spend",
    "lineage shopping", "td list", "export list", "plan",
]  # fmt: skip


@pytest.mark.parametrize("command", SAME)
def test_a_command_prints_the_same(shared: Both, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for project in (str(shared.folder), shared.url):
        assert run([*command.split(), "--project", project]) == 0
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1] != ""


def test_a_command_materializes_pushes_and_deletes_on_a_server(
    both: Both, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["materialize", "spend", "--version", "3.0.0", "--project", both.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["version"] == "3.0.0"
    assert run(["fv", "delete", "careful", "--yes", "--project", both.url]) == 0
    assert "careful" not in both.embedded.catalog.views


def test_an_error_of_a_server_has_the_exit_code_of_its_kind(shared: Both, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fg", "info", "spent", "--project", shared.url]) == 3
    assert "closest:   spend" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["config", "show"], ["key", "list"]])
def test_what_is_about_a_folder_says_so(shared: Both, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--project", shared.url]) == 4
    assert "folder" in capsys.readouterr().err
