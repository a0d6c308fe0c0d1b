"""The command as a process: help, usage errors, signals, pipes, start-up; and the reference page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.cli.running import Grange

from grange.cli.reference import commands, reference

ROOT = Path(__file__).parents[2]
EVERY = dict(commands())
GRANGE = [sys.executable, "-m", "grange"]


def test_the_reference_page_is_current() -> None:
    """Made by `python -m grange.cli.reference > docs/reference/cli.md`."""
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == reference()


def test_the_commands_are_the_ones_promised() -> None:
    project = ["init", "demo", "plan", "apply", "materialize", "build", "versions", "inspect", "verify", "config show"]
    project += ["diff", "rollback", "manifest", "lineage", "search", "audit", "serve", "reseal"]
    nouns = {
        "fg": ["list", "info", "preview", "quarantine", "features", "create", "derive", "insert", "stats", "delete"],
        "fv": ["list", "info", "create", "get", "read", "delete"],
        "td": ["list", "info", "create", "compute", "read", "stats", "diff", "reproduce", "delete"],
        "transformation": ["list", "info", "create", "delete"],
        "export": ["list", "info", "create"],
        "import": ["feast"],
        "key": ["create", "list", "info", "revoke", "rotate"],
        "policy": ["create", "list", "delete", "check"],
        "job": ["list", "info", "logs", "stop"],
    }
    assert set(EVERY) == {
        *(f"grange {verb}" for verb in project),
        *(f"grange {noun} {verb}" for noun, verbs in nouns.items() for verb in verbs),
    }


@pytest.mark.parametrize("path", EVERY)
def test_every_command_takes_the_shared_options_and_says_what_it_does(path: str, grange: Grange) -> None:
    options = {name for parameter in EVERY[path].params for name in parameter.opts}
    assert options >= {"--json", "--project", "--debug"}
    ran = grange(*path.split()[1:], "--help")
    assert ran.code == 0 and len(ran.out.splitlines()[2]) > 10


def test_every_option_is_explained() -> None:
    for path, command in EVERY.items():
        for parameter in command.params:
            plain = parameter.name in ("description", "owner", "tag", "group")
            assert plain or parameter.help, f"{path}: {parameter.name}"


def test_version(grange: Grange) -> None:
    ran = grange("--version")
    assert ran.code == 0 and ran.out.startswith("grange ")


@pytest.mark.parametrize(
    "words", [(), ("fg",), ("fv",), ("td",), ("transformation",), ("export",), ("key",), ("policy",), ("config",)]
)
def test_a_noun_alone_shows_its_help(words: tuple[str, ...], grange: Grange) -> None:
    ran = grange(*words)
    assert ran.code == 0 and "Commands:" in ran.out


@pytest.mark.parametrize(
    "words",
    [("fgg",), ("fg", "lst"), ("fg", "list", "--what"), ("versions",), ("fg", "preview", "x", "--n", "many"),
     ("fv", "get", "x")],
)  # fmt: skip
def test_wrong_usage_exits_with_2_in_text_and_in_json(words: tuple[str, ...], grange: Grange) -> None:
    ran = grange(*words)
    assert ran.code == 2 and ran.out == "" and "--help" in ran.err and "Traceback" not in ran.err
    ran = grange(*words, "--json")
    assert ran.code == 2 and ran.json["error"]["type"] == "UsageError"


def test_json_with_nothing_to_do_is_an_error_in_json(grange: Grange) -> None:
    ran = grange("--json")
    assert ran.code == 2 and ran.json["error"]["type"] == "UsageError"


def boom(error: BaseException) -> Any:
    def command(*_: Any, **__: Any) -> None:
        raise error

    return command


def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug(
    grange: Grange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grange.config.Config.load", boom(ZeroDivisionError("oops")))
    ran = grange("config", "show")
    assert ran.code == 1 and "unexpected ZeroDivisionError: oops" in ran.err and "Traceback" not in ran.err
    assert "Traceback" in grange("config", "show", "--debug").err
    monkeypatch.setenv("GRANGE_DEBUG", "1")
    assert "Traceback" in grange("config", "show").err
    assert grange("config", "show", "--json").json["error"]["type"] == "ZeroDivisionError"


def test_ctrl_c_ends_quietly_with_130(grange: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grange.config.Config.load", boom(KeyboardInterrupt()))
    ran = grange("config", "show")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    """As in `grange config show | true`."""
    process = subprocess.Popen(
        [*GRANGE, "config", "show"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 141 and said == b""
    process.stderr.close()


def test_the_process_prints_json_alone_and_exits_with_the_code(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*GRANGE, "fg", "info", "x", "--json"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 3 and ran.stdout.startswith('{\n  "error"') and ran.stderr == ""


def test_help_loads_no_driver_and_no_table(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from grange.cli.main import run
        assert run(["--help"]) == 0 and run(["fg", "--help"]) == 0 and run(["fv", "create", "--help"]) == 0
        heavy = {"polars", "duckdb", "pyarrow", "numpy", "pandas", "lmdb", "sqlalchemy", "sqlglot", "alembic",
                 "msgspec", "narwhals", "rich", "grange.definitions", "grange.store", "grange.config"}
        print(sorted(heavy & set(sys.modules)), file=sys.stderr)
        assert run(["fg", "create", "--help"]) == 0  # which lists the recipes, made of definitions
        print(sorted(heavy & set(sys.modules) - {"grange.definitions"}), file=sys.stderr)
    """
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.stderr.split() == ["[]", "[]"]


class Asked:
    """A terminal's standard input."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 4)])
def test_a_question_is_asked_on_a_terminal(
    shop: Grange, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", Asked())
    monkeypatch.setattr("typer.confirm", lambda text, err: asked.append(text) or answer)
    assert shop("fv", "delete", "churn").code == code
    assert asked == ["delete feature view churn?"]
    assert shop("fv", "info", "churn").code == (3 if answer else 0)


def test_the_demo_command_runs_the_demo(grange: Grange, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Path] = []

    def run_demo(directory: Path, *, echo: Any) -> dict[str, Any]:
        calls.append(directory)
        echo("flying")
        return {"rows": 3}

    flights = ModuleType("grange.demo.flights")
    flights.run_demo = run_demo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "grange.demo.flights", flights)
    ran = grange("demo", "here", "--json")
    assert ran.json == {"rows": 3} and "flying" in ran.err and calls == [Path("here")]
    assert grange("demo").out == "flying\n" and calls[1] == Path("grange-demo")
