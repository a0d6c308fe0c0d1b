"""What `grange.toml`, its environment overrides and its defaults promise."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from grange.config import MASK, SETTINGS, Config, StoreConfig
from grange.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs/reference/configuration.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder, without a file."""
    made = tmp_path / "rides"
    made.mkdir()
    return made


def load(
    project: Path,
    toml: str = "",
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration of a project whose file has this text."""
    if toml:
        (project / "grange.toml").write_text(toml, encoding="utf-8")
    return Config.load(project, overrides, environ or {})


def refused(*arguments: Any, **options: Any) -> str:
    """The error of a configuration that is refused, as people see it."""
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **options)
    return str(caught.value)


# --- defaults and the file -----------------------------------------------------------------------------------


def test_without_a_file_everything_is_embedded(project: Path) -> None:
    assert load(project) == Config(
        root=project,
        file=None,
        project="rides",
        engine="polars",
        definitions=("features.py",),
        offline=StoreConfig("parquet", (("path", ".grange/offline"),)),
        online=StoreConfig("lmdb", (("path", ".grange/online"),)),
        registry=StoreConfig("sql", (("url", "sqlite:///.grange/registry.db"),)),
        lock_timeout=dt.timedelta(seconds=60),
        leak_errors=(),
        leak_ignore=(),
    )


def test_every_setting_is_read_from_the_file(project: Path) -> None:
    config = load(
        project,
        """
        project = "taxis"
        engine = "duckdb"
        definitions = ["a.py", "features/*.py", "taxis.features"]
        [offline]
        type = "delta"
        path = "s3://bucket"
        options = {region = "x", retries = 3}
        [online]
        type = "redis"
        hosts = ["a", "b"]
        tls = true
        [registry]
        url = "postgresql://host/db"
        [locks]
        timeout = "5m"
        [leaks]
        errors = "all"
        ignore = ["LEAK-102", "LEAK-103", "LEAK-102"]
        """,
    )

    assert config == Config(
        root=project,
        file=project / "grange.toml",
        project="taxis",
        engine="duckdb",
        definitions=("a.py", "features/*.py", "taxis.features"),
        offline=StoreConfig("delta", (("options", {"region": "x", "retries": 3}), ("path", "s3://bucket"))),
        online=StoreConfig("redis", (("hosts", ["a", "b"]), ("tls", True))),
        registry=StoreConfig("sql", (("url", "postgresql://host/db"),)),
        lock_timeout=dt.timedelta(minutes=5),
        leak_errors=("all",),
        leak_ignore=("LEAK-102", "LEAK-103"),
    )
    assert config.online.options == {"hosts": ["a", "b"], "tls": True}


def test_an_empty_file_is_all_defaults_and_marks_the_project(project: Path) -> None:
    (project / "grange.toml").write_text("")

    config = Config.load(project, environ={})
    assert config.file == project / "grange.toml"
    assert config.online.type == "lmdb"


def test_the_file_is_found_upwards_from_the_working_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "grange.toml").write_text('engine = "duckdb"')
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    config = Config.load(environ={})
    assert (config.root, config.engine, config.project) == (project, "duckdb", "rides")


def test_the_nearest_file_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = project / "inner"
    inner.mkdir()
    (project / "grange.toml").write_text('engine = "outer"')
    (inner / "grange.toml").write_text('engine = "inner"')
    monkeypatch.chdir(inner)

    assert Config.load(environ={}).engine == "inner"


def test_without_a_file_the_working_directory_is_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)

    assert (Config.load(environ={}).root, Config.load(environ={}).file) == (project, None)


def test_a_named_project_is_that_folder_or_that_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was named is not looked for upwards."""
    (project.parent / "grange.toml").write_text('engine = "duckdb"')
    (project / "other.toml").write_text('engine = "spark"')

    assert Config.load(project, environ={}).engine == "polars"
    assert Config.load(project / "other.toml", environ={}).engine == "spark"
    assert Config.load(project / "other.toml", environ={}).root == project
    monkeypatch.chdir(project.parent)
    assert Config.load("rides", environ={}).root == project
    with pytest.raises(ConfigError, match="no project at"):
        Config.load(project / "nowhere", environ={})


def test_a_byte_order_mark_is_no_error(project: Path) -> None:
    (project / "grange.toml").write_bytes(b'\xef\xbb\xbfengine = "duckdb"')

    assert Config.load(project, environ={}).engine == "duckdb"


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "line", "key", "closest"),
    [
        ('project = "x"\nengin = "duckdb"', 2, "engin", "engine"),
        ('# note\n\n[ofline]\ntype = "parquet"', 3, "ofline", "offline"),
        ('[locks]\ntimeout = "1s"\ntimeuot = "2s"', 3, "locks.timeuot", "locks.timeout"),
        ('[registry]\nurl = "x"\n[online.deep]\nx = 1\n[onlin]\n', 5, "onlin", "online"),
    ],
)
def test_an_unknown_key_names_file_line_and_closest(
    project: Path, toml: str, line: int, key: str, closest: str
) -> None:
    error = refused(project, toml)

    assert error.startswith(f"{project / 'grange.toml'}:{line}: no setting {key!r}")
    assert re.search(rf"closest: +{re.escape(closest)}", error)


@pytest.mark.parametrize(
    ("toml", "line", "key", "value"),
    [
        ("engine = 5", 1, "engine", "5 (int)"),
        ('engine = ""', 1, "engine", "'' (str)"),
        ("engine = true", 1, "engine", "True (bool)"),
        ('definitions = "features.py"', 1, "definitions", "'features.py' (str)"),
        ("definitions = [1]", 1, "definitions", "[1] (list)"),
        ('[project]\nname = "x"', 1, "project", "{'name': 'x'} (dict)"),
        ('\nonline = "lmdb"', 2, "online", "'lmdb' (str)"),
        ("[online]\npath = 3", 2, "online.path", "3 (int)"),
        ('[[online]]\ntype = "lmdb"', 1, "online", "[{'type': 'lmdb'}] (list)"),
        ("[online]\ntype = 3", 2, "online.type", "3 (int)"),
        ("[locks]\ntimeout = 60", 2, "locks.timeout", "60 (int)"),
        ("[leaks]\nerrors = true", 2, "leaks.errors", "True (bool)"),
        ('[leaks]\nerrors = ""', 2, "leaks.errors", "'' (str)"),
        ("[leaks]\nignore = [102]", 2, "leaks.ignore", "[102] (list)"),
        ('[code]\nallow_stored = "yes"', 2, "code.allow_stored", "'yes' (str)"),
        ('leaks = "all"', 1, "leaks", "'all' (str)"),
    ],
)
def test_a_value_of_another_type_names_file_line_key_and_value(
    project: Path, toml: str, line: int, key: str, value: str
) -> None:
    error = refused(project, toml)

    assert error.startswith(f"{project / 'grange.toml'}:{line}: {key} must be ")
    assert value in error


@pytest.mark.parametrize("section", ["offline", "online", "registry"])
def test_root_is_no_option_of_a_store(project: Path, section: str) -> None:
    """Backends are handed the project's folder under that name; an option would take its place."""
    assert f":2: no setting '{section}.root'" in refused(project, f'[{section}]\nroot = "x"')
    assert f"no setting '{section}.root'" in refused(project, "", overrides={section: {"root": "x"}})


@pytest.mark.parametrize("timeout", ["soon", "0s", "-1s", "1 month", ""])
def test_a_timeout_that_is_no_duration_is_refused(project: Path, timeout: str) -> None:
    assert "grange.toml:2" in refused(project, f'[locks]\ntimeout = "{timeout}"')


@pytest.mark.parametrize(
    ("toml", "line"),
    [('engine = "polars"\n[online\n', 2), ("engine = \n", 1), ("a = 1\na = 2\n", 2), ('\n\nx = """never ends', 3)],
)
def test_broken_toml_names_file_and_line(project: Path, toml: str, line: int) -> None:
    assert refused(project, toml).startswith(f"{project / 'grange.toml'}:{line}: not TOML")


def test_a_file_that_is_no_utf8_names_the_line(project: Path) -> None:
    (project / "grange.toml").write_bytes(b'engine = "polars"\nproject = "gr\xfcn"\n')

    assert refused(project).startswith(f"{project / 'grange.toml'}:2: not UTF-8")


def test_wrong_variables_and_arguments_name_themselves(project: Path) -> None:
    assert refused(project, environ={"GRANGE_LOCKS__TIMEOUT": "soon"}).startswith("environment GRANGE_LOCKS__TIMEOUT: ")
    assert refused(project, overrides={"engine": 5}).startswith("argument 'engine': engine must be text")
    assert refused(project, overrides={"online": "lmdb"}).startswith("argument 'online': no setting 'online'")
    assert refused(project, overrides={"online.type": ""}).startswith("argument 'online.type': ")
    assert "closest:   engine" in refused(project, overrides={"engin": "x"})


# --- precedence ----------------------------------------------------------------------------------------------


def test_arguments_beat_environment_beats_file_beats_default(project: Path) -> None:
    toml = 'engine = "file"\n[locks]\ntimeout = "1s"'
    environ = {"GRANGE_ENGINE": "environment"}

    assert load(project).engine == "polars"
    assert load(project, toml).engine == "file"
    assert load(project, environ=environ).engine == "environment"
    config = load(project, overrides={"engine": "argument"}, environ=environ)
    assert config.engine == "argument"
    assert config.lock_timeout == dt.timedelta(seconds=1)


def test_the_origin_of_each_value_is_told(project: Path) -> None:
    config = load(
        project,
        'engine = "duckdb"\n[online]\npath = "x"',
        overrides={"registry": {"url": "sqlite:///y.db"}},
        environ={"GRANGE_ONLINE__READERS": "5"},
    )

    sections = ("server.", "serving.", "security.", "tracing.")
    assert [item for item in config.items() if not item[0].startswith(sections)] == [
        ("project", "rides", "default"),
        ("engine", "duckdb", "grange.toml"),
        ("definitions", ["features.py"], "default"),
        ("offline.type", "parquet", "default"),
        ("offline.path", ".grange/offline", "default"),
        ("online.type", "lmdb", "default"),
        ("online.path", "x", "grange.toml"),
        ("online.readers", 5, "environment GRANGE_ONLINE__READERS"),
        ("registry.type", "sql", "default"),
        ("registry.url", "sqlite:///y.db", "argument"),
        ("locks.timeout", "1m", "default"),
        ("leaks.errors", [], "default"),
        ("leaks.ignore", [], "default"),
        ("code.allow_stored", False, "default"),
    ]
    assert {key: config.origin(key) for key, _, _ in config.items()} == {k: origin for k, _, origin in config.items()}
    with pytest.raises(ConfigError, match=r"no setting 'online.typ'") as caught:
        config.origin("online.typ")
    assert caught.value.closest[0] == "online.type"


@pytest.mark.parametrize("overrides", [{"online.type": "memory"}, {"online": {"type": "memory"}}])
def test_arguments_may_be_dotted_or_nested(project: Path, overrides: dict[str, Any]) -> None:
    assert load(project, overrides=overrides).online == StoreConfig("memory")


def test_arguments_that_are_none_and_variables_that_are_empty_do_not_count(project: Path) -> None:
    config = load(
        project,
        'engine = "duckdb"',
        overrides={"engine": None, "online": {"path": None}, "registry": None},
        environ={"GRANGE_ENGINE": "", "GRANGE_ONLINE__PATH": ""},
    )

    assert (config.engine, config.online.options) == ("duckdb", {"path": ".grange/online"})


def test_paths_may_be_path_objects(project: Path) -> None:
    config = load(project, overrides={"online.path": project / "on", "offline": {"path": Path("off")}})

    assert config.online.options == {"path": str(project / "on")}
    assert config.offline.options == {"path": "off"}


def test_options_belong_to_the_type_that_they_were_written_for(project: Path) -> None:
    """A stronger place that changes the type drops the weaker places' options, the defaults too."""
    toml = '[online]\ntype = "redis"\nhost = "h"'

    assert load(project, toml).online == StoreConfig("redis", (("host", "h"),))
    assert load(project, environ={"GRANGE_ONLINE__TYPE": "memory"}).online == StoreConfig("memory")
    again = load(project, environ={"GRANGE_ONLINE__TYPE": "redis", "GRANGE_ONLINE__PORT": "1"})
    assert again.online == StoreConfig("redis", (("host", "h"), ("port", 1)))
    back = load(project, overrides={"online.type": "lmdb", "online.path": "p"})
    assert back.online == StoreConfig("lmdb", (("path", "p"),))


# --- environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_has_a_variable(project: Path, setting: Any) -> None:
    text, wanted = {
        "boolean": ("True", True),
        "list": ("7s", ["7s"]),
        "codes": ("7s", ["7s"]),
        "integer": ("7", 7),
        "number": ("0.5", 0.5),
        "reference": ("env:KEY", "env:KEY"),
    }.get(setting.kind, ("7s", "7s"))
    if setting.kind == "choice":
        text = wanted = setting.choices[-1]
    config = load(project, environ={setting.variable: text})

    value = {key: value for key, value, _ in config.items()}[setting.key]
    assert value == wanted
    assert config.origin(setting.key) == f"environment {setting.variable}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("512", 512),
        ("1_000", 1000),
        ("-1.5", -1.5),
        ('["a", 1]', ["a", 1]),
        ('{region = "x"}', {"region": "x"}),
        ('"012"', "012"),
        ("012", "012"),
        ("True", "True"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("2026-01-01", "2026-01-01"),
        ("/a path/b", "/a path/b"),
        ("1\nother = 2", "1\nother = 2"),
        ("[broken", "[broken"),
    ],
)
def test_an_option_in_the_environment_is_what_toml_reads_else_text(project: Path, text: str, value: Any) -> None:
    option = load(project, environ={"GRANGE_ONLINE__OPTION": text}).online.options["option"]

    assert option == value
    assert type(option) is type(value)


def test_known_settings_and_secrets_in_the_environment_are_text(project: Path) -> None:
    environ = {"GRANGE_PROJECT": "2026", "GRANGE_ONLINE__PATH": "1", "GRANGE_ONLINE__PASSWORD": "123456"}

    config = load(project, environ=environ)
    assert config.project == "2026"
    assert config.online.options == {"path": "1", "password": "123456"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.py", ("a.py",)), ("a.py, b/*.py,", ("a.py", "b/*.py")), ('["a,b.py"]', ("a,b.py",))],
)
def test_definitions_in_the_environment_are_separated_by_commas(
    project: Path, text: str, value: tuple[str, ...]
) -> None:
    assert load(project, environ={"GRANGE_DEFINITIONS": text}).definitions == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("all", ("all",)), ("LEAK-001, LEAK-102,", ("LEAK-001", "LEAK-102")), ('["LEAK-001"]', ("LEAK-001",))],
)
def test_codes_in_the_environment_are_separated_by_commas(project: Path, text: str, value: tuple[str, ...]) -> None:
    config = load(project, 'leaks.errors = ["LEAK-101"]', environ={"GRANGE_LEAKS__ERRORS": text})

    assert (config.leak_errors, config.leak_ignore) == (value, ())


def test_codes_as_arguments_are_text_or_lists(project: Path) -> None:
    config = load(project, overrides={"leaks": {"errors": "all"}, "leaks.ignore": ["LEAK-102"]})

    assert (config.leak_errors, config.leak_ignore) == (("all",), ("LEAK-102",))


@pytest.mark.parametrize(
    ("variable", "closest"),
    [
        ("GRANGE_ENGIN", "GRANGE_ENGINE"),
        ("GRANGE_ONLNE__TYPE", "GRANGE_ONLINE"),
        ("GRANGE_LOCKS__TIMEOUTS", "GRANGE_LOCKS__TIMEOUT"),
        ("GRANGE_ONLINE__A__B", None),
        ("GRANGE_ONLINE", "GRANGE_ONLINE__TYPE"),
        ("GRANGE_ENGINE__TYPE", "GRANGE_ENGINE"),
    ],
)
def test_a_misspelt_variable_is_refused(project: Path, variable: str, closest: str | None) -> None:
    error = refused(project, environ={variable: "x"})

    assert error.startswith(f"environment {variable}: no setting")
    assert closest is None or closest in error


def test_variables_of_others_are_ignored(project: Path) -> None:
    """An orchestrator sets such variables for a service that is called grange."""
    environ = {"GRANGE_SERVICE_HOST": "10.0.0.1", "GRANGE_PORT": "tcp://10.0.0.1:80", "GRANGE_HOME": "/x", "PATH": "/"}

    assert load(project, environ=environ) == load(project)


def test_the_environment_of_the_process_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANGE_ENGINE", "duckdb")

    assert Config.load(project).engine == "duckdb"


# --- secrets and values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("password", "hunter2", MASK),
        ("passwd", "hunter2", MASK),
        ("client_secret", "hunter2", MASK),
        ("token", "hunter2", MASK),
        ("sas-token", "hunter2", MASK),
        ("aws_secret_access_key", "hunter2", MASK),
        ("key", "hunter2", MASK),
        ("account_key", "hunter2", MASK),
        ("credentials", {"user": "hunter2"}, MASK),
        ("passwords", ["hunter2"], MASK),
        ("url", "redis://user:hunter2@host:6379/0", f"redis://user:{MASK}@host:6379/0"),
        ("url", "redis://:hunter2@host", f"redis://:{MASK}@host"),
        ("url", "postgresql://u:hunter2/@hunter2@host/db", f"postgresql://u:{MASK}@host/db"),
        ("url", "https://host/?user=u&token=hunter2&x=1", f"https://host/?user=u&token={MASK}&x=1"),
        ("url", "postgres//bob:hunter2@h", f"postgres//bob:{MASK}@h"),
        ("url", "postgres:/bob:hunter2@h/db", f"postgres:{MASK}@h/db"),
        ("url", "redis://u:hunter2 with blanks@h", f"redis://u:{MASK}@h"),
        ("url", "sqlite:///x.db?password=hunter2", f"sqlite:///x.db?password={MASK}"),
        (
            "url",
            "postgresql://h/db?sslpassword=hunter2&sslmode=require",
            f"postgresql://h/db?sslpassword={MASK}&sslmode=require",
        ),
        ("url", "https://h/?sig=hunter2&pass=hunter2&author=x", f"https://h/?sig={MASK}&pass={MASK}&author=x"),
        ("dsn", "host=h password=hunter2 dbname=d", f"host=h password={MASK} dbname=d"),
        ("hosts", ["redis://a:hunter2@b"], [f"redis://a:{MASK}@b"]),
        ("storage", {"region": "x", "deep": {"secret": "hunter2"}}, {"region": "x", "deep": {"secret": MASK}}),
    ],
)
def test_secrets_are_masked_wherever_they_are_shown(project: Path, option: str, value: Any, shown: Any) -> None:
    config = load(project, overrides={"online": {"type": "redis", option: value}})

    assert config.online.options == {option: value}
    assert {key: value for key, value, _ in config.items()}[f"online.{option}"] == shown
    assert "hunter2" not in repr(config) + repr(config.online) + str(config)


@pytest.mark.parametrize(
    "value", ["sqlite:///a/b@c.db?timeout=5", "s3://bucket/x@y", "http://host/a:b", "C:\\data", "/monday/keys/x.db"]
)
def test_what_is_no_secret_is_shown(project: Path, value: str) -> None:
    config = load(project, overrides={"registry.url": value})

    assert {key: value for key, value, _ in config.items()}["registry.url"] == value


def test_errors_show_no_secret(project: Path) -> None:
    error = refused(project, 'engine = ["x://u:hunter2@h"]')

    assert MASK in error
    assert "hunter2" not in error


def test_a_configuration_is_a_value(project: Path) -> None:
    """Equal by content, frozen, and fit to be sent to another process."""
    config = load(project, '[online]\ntype = "redis"\nhosts = ["a"]')

    assert config == load(project)
    assert hash(config) == hash(load(project))
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - its own bytes
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.engine = "other"  # type: ignore[misc]
    config.online.options["hosts2"] = "b"
    assert config.online.options == {"hosts": ["a"]}


# --- documentation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented(setting: Any) -> None:
    """With its variable and its default, in one row of the reference."""
    (row,) = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{setting.key}` |")]

    default = "the folder's name" if setting.default is None else f"`{json.dumps(setting.default)}`"
    assert f"| {default} | `{setting.variable}` |" in row


def test_every_documented_setting_exists() -> None:
    documented = re.findall(r"^\| `([a-z_.]+)` \|", DOCS.read_text(), flags=re.MULTILINE)

    assert documented == [setting.key for setting in SETTINGS]


def test_the_documented_file_is_the_default(project: Path) -> None:
    """The example in the reference loads, and spells out what holds without it (but for the name)."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    bare = load(project)

    config = load(project, example)
    assert dataclasses.replace(config, file=None) == bare
    assert {config.origin(setting.key) for setting in SETTINGS} == {"grange.toml"}


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("server.port", -1, "a whole number"),
        ("server.port", True, "a whole number"),
        ("server.port", 1.5, "a whole number"),
        ("serving.log_share", float("nan"), "a number"),
        ("server.log_format", "xml", "text or json"),
        ("serving.cache", "soon", "duration"),
        ("security.encryption_key", "8J+YgCBub3QgYSByZWZlcmVuY2U=", "never the key itself"),
    ],
)
def test_a_section_says_what_a_value_must_be(project: Path, key: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(project, overrides={key: value})
    assert wanted in str(caught.value)
    assert "8J" not in str(caught.value)


def test_sections_have_their_values_in_types(project: Path) -> None:
    config = load(project, '[serving]\ncache = "2s"\nlog_share = 1\n[server]\nprojects = ["other"]')
    assert (config.serving.cache, config.serving.log_share) == (dt.timedelta(seconds=2), 1.0)
    assert (config.server.projects, config.server.port) == (("other",), 8002)
    assert load(project, '[serving]\ncache = "off"').serving.cache is None
