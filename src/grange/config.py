"""Configuration: `grange.toml`, its environment overrides and the defaults, as one frozen value.

Stronger beats weaker: arguments, then environment, then the file, then the defaults. Store sections carry a
`type` and free options, which the backend's descriptor checks: nothing here knows a backend.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grange.errors import ConfigError, DurationError, closest_names
from grange.types.durations import format_duration, parse_duration

FILE: Final = "grange.toml"
PREFIX: Final = "GRANGE_"
MASK: Final = "***"

DEFAULT: Final = "default"
ARGUMENT: Final = "argument"


_ENVIRONMENT: Final = "environment "


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration; `docs/reference/configuration.md` has each."""

    key: str
    """Dotted, as `Config.origin` takes it."""
    kind: str
    """What its value is: a name, a list, a duration, codes, true or false."""
    default: Any
    """As the file would write it; None when it depends on the folder."""
    summary: str
    choices: tuple[str, ...] = ()
    """What it may be, where that is a few words."""

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return _variable(self.key)


SETTINGS: Final = (
    Setting("project", "text", None, "the project's name; the folder's name by default"),
    Setting("engine", "text", "polars", "the engine that runs plans"),
    Setting("definitions", "list", ["features.py"], "files, globs or module names that hold the definitions"),
    Setting("offline.type", "text", "parquet", "the offline store"),
    Setting("offline.path", "option", ".grange/offline", "its folder"),
    Setting("online.type", "text", "lmdb", "the online store"),
    Setting("online.path", "option", ".grange/online", "its folder"),
    Setting("registry.type", "text", "sql", "the registry"),
    Setting("registry.url", "option", "sqlite:///.grange/registry.db", "its database"),
    Setting("locks.timeout", "duration", "60s", "how long to wait for somebody else's write"),
    Setting("leaks.errors", "codes", [], "the leaks that are errors: codes, or all for every warning"),
    Setting("leaks.ignore", "codes", [], "the codes of leaks that are not reported"),
    Setting("code.allow_stored", "boolean", False, "whether code that came as text, not in a module, may run"),
    Setting("server.host", "text", "127.0.0.1", "the address that `grange serve` listens on"),
    Setting("server.port", "integer", 8002, "its port"),
    Setting("server.workers", "integer", 1, "how many processes serve"),
    Setting("server.projects", "list", [], "further projects to serve: their folders, relative to this one"),
    Setting("server.max_in_flight", "integer", 512, "requests at once per worker, above which it answers 429"),
    Setting("server.max_body", "integer", 64 * 1024 * 1024, "bytes that a request's body may have"),
    Setting("server.max_rows", "integer", 10_000, "rows that one online request may ask for"),
    Setting("server.historical_rows", "integer", 100_000, "spine rows from which a historical request runs as a job"),
    Setting(
        "server.rate_limit", "number", 0.0, "requests a second that each caller may send per worker; 0 is no limit"
    ),
    Setting("server.request_timeout", "duration", "60s", "how long a request may take, jobs aside"),
    Setting("server.grace", "duration", "30s", "how long requests may go on when the server is told to stop"),
    Setting("server.tls_certificate", "path", "", "the certificate to serve HTTPS with: a PEM file"),
    Setting("server.tls_key", "path", "", "its private key: a PEM file"),
    Setting("server.log_format", "choice", "text", "lines for people, or JSON objects", ("text", "json")),
    Setting("serving.cache", "off or duration", "off", "how old an online value may be that is answered from memory"),
    Setting("serving.cache_entries", "integer", 100_000, "how many entity keys that cache holds"),
    Setting("serving.store_timeout", "duration", "1s", "how long an online read may wait for the online store"),
    Setting("serving.breaker_failures", "integer", 5, "outages in a row after which the online store is left alone"),
    Setting("serving.breaker_pause", "duration", "5s", "for how long it is left alone"),
    Setting("serving.log_share", "number", 0.0, "the share of served vectors that is logged, 0 to 1"),
    Setting(
        "security.encryption_key", "reference", "", "what seals online values: env:NAME, file:PATH or a key service's"
    ),
    Setting("security.allow_clear", "boolean", False, "whether online values of before there was that key are read"),
    Setting("security.issuer", "text or nothing", "", "who signs the tokens (JWT) that are taken beside API keys"),
    Setting("security.audience", "text or nothing", "", "whom those tokens are for"),
    Setting("security.jwks", "text or nothing", "", "their public keys: a URL, or a file"),
    Setting("security.role_claim", "text", "role", "the claim that names the role"),
    Setting("security.project_claim", "text or nothing", "project", "the claim that names the project"),
    Setting("tracing.endpoint", "text or nothing", "", "where OpenTelemetry traces are sent to: an OTLP/HTTP URL"),
    Setting("tracing.share", "number", 1.0, "the share of requests that are traced, 0 to 1"),
)
"""Every setting that has a default. A store section takes further options, whatever its backend declares."""

RESERVED: Final = "root"
"""No option of a store: every backend is handed the project's folder under this name."""
STORES: Final = ("offline", "online", "registry")
_TABLES: Final = (*STORES, "locks", "leaks", "code", "server", "serving", "security", "tracing")
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_TOP: Final = tuple(dict.fromkeys(setting.key.split(".")[0] for setting in SETTINGS))


@dataclass(frozen=True, slots=True, repr=False)
class StoreConfig:
    """Which backend a store is, and its options."""

    type: str
    pairs: tuple[tuple[str, Any], ...] = field(default=(), hash=False)
    """The options, by name; `options` is the same as a mapping."""

    @property
    def options(self) -> dict[str, Any]:
        """The options, as the backend's factory takes them (a copy)."""
        return dict(self.pairs)

    def __repr__(self) -> str:
        shown = "".join(f", {name}={_masked(name, value)!r}" for name, value in self.pairs)
        return f"StoreConfig({self.type!r}{shown})"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How `grange serve` listens, and what it lets through. Sizes are bytes; a limit of 0 is none."""

    host: str
    port: int
    workers: int
    projects: tuple[str, ...]
    max_in_flight: int
    max_body: int
    max_rows: int
    historical_rows: int
    rate_limit: float
    request_timeout: dt.timedelta
    grace: dt.timedelta
    tls_certificate: str
    tls_key: str
    log_format: str


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """How online reads treat the online store."""

    cache: dt.timedelta | None
    """How stale an answer may be; None is no cache."""
    cache_entries: int
    store_timeout: dt.timedelta
    breaker_failures: int
    breaker_pause: dt.timedelta
    log_share: float


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """Who is taken at their word, and what is sealed. Empty texts are unset."""

    encryption_key: str
    """A reference to a key, never the key."""
    allow_clear: bool
    issuer: str
    audience: str
    jwks: str
    role_claim: str
    project_claim: str


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Where traces go; nowhere without an endpoint."""

    endpoint: str
    share: float


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """The settings of one project. `Config.load` makes it; its text never shows a secret."""

    root: Path
    """The project's folder, absolute: where `grange.toml` lies, else the working directory."""
    file: Path | None
    """The `grange.toml` that was read; None when there is none."""
    project: str
    engine: str
    definitions: tuple[str, ...]
    """Files, globs or module names, relative to `root`."""
    offline: StoreConfig
    online: StoreConfig
    registry: StoreConfig
    lock_timeout: dt.timedelta
    leak_errors: tuple[str, ...] = ()
    """Codes of leaks, or `all`; whether there are such codes is for `LeakPolicy` to say."""
    leak_ignore: tuple[str, ...] = ()
    """Codes of leaks."""
    allow_stored_code: bool = False
    """Whether code that came as text, from the command line or a request, may run."""
    server: ServerConfig = field(default_factory=lambda: _section_default("server"))
    serving: ServingConfig = field(default_factory=lambda: _section_default("serving"))
    security: SecurityConfig = field(default_factory=lambda: _section_default("security"))
    tracing: TracingConfig = field(default_factory=lambda: _section_default("tracing"))
    origins: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """(dotted key, where its value came from), in the order of `items`."""

    @classmethod
    def load(
        cls,
        project: Path | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """Read the configuration.

        Args:
            project: the project's folder, or its file. Without it `grange.toml` is looked for in the working
                directory, then upwards; when there is none the working directory is the project.
            overrides: settings by dotted key (`"online.type"`) or nested mapping; None values do not count.
            environ: the environment; the process's own by default. Empty variables do not count.

        Raises:
            ConfigError: broken TOML, an unknown key, a value of the wrong type; says where.
        """
        root, file = _locate(project)
        layers = [_defaults(root)]
        if file is not None:
            layers.append(_from_file(file))
        layers.append(_from_environment(os.environ if environ is None else environ))
        layers.append(_from_arguments(overrides or {}))
        values, origins = _merge(layers)
        return cls(
            root=root,
            file=file,
            project=values["project"],
            engine=values["engine"],
            definitions=values["definitions"],
            offline=_store("offline", values),
            online=_store("online", values),
            registry=_store("registry", values),
            lock_timeout=values["locks.timeout"],
            leak_errors=values["leaks.errors"],
            leak_ignore=values["leaks.ignore"],
            allow_stored_code=values["code.allow_stored"],
            server=_section("server", values),
            serving=_section("serving", values),
            security=_section("security", values),
            tracing=_section("tracing", values),
            origins=tuple((key, origins[key]) for key in _in_order(origins)),
        )

    def origin(self, key: str) -> str:
        """Where a value came from: `default`, `grange.toml`, `environment GRANGE_ONLINE__TYPE` or `argument`.

        Raises:
            ConfigError: no such setting; carries the closest ones.
        """
        known = dict(self.origins)
        if key not in known:
            raise ConfigError(f"no setting {key!r}", closest=closest_names(key, known), try_="grange config show")
        return known[key]

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """(dotted key, JSON-able value, origin) of every setting; secrets are masked."""
        for key, origin in self.origins:
            yield key, _masked(key, self._value(key)), origin

    def _value(self, key: str) -> Any:
        match key.split(".", 1):
            case ["definitions"]:
                return list(self.definitions)
            case ["locks", _]:
                return format_duration(self.lock_timeout)
            case ["leaks", which]:
                return list(self.leak_errors if which == "errors" else self.leak_ignore)
            case ["code", _]:
                return self.allow_stored_code
            case [("server" | "serving" | "security" | "tracing") as section, name]:
                return _plain(getattr(getattr(self, section), name))
            case [section, "type"]:
                return getattr(self, section).type
            case [section, option]:
                return getattr(self, section).options[option]
            case _:
                return getattr(self, key)

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value, _ in self.items())
        return f"Config(root={str(self.root)!r}, {shown})"


_SECTIONS: Final[Mapping[str, Any]] = {
    "server": ServerConfig,
    "serving": ServingConfig,
    "security": SecurityConfig,
    "tracing": TracingConfig,
}


def _section(section: str, values: Mapping[str, Any]) -> Any:
    """One section's settings as its value."""
    named = [setting.key for setting in SETTINGS if setting.key.startswith(f"{section}.")]
    return _SECTIONS[section](**{key.split(".", 1)[1]: values[key] for key in named})


def _section_default(section: str) -> Any:
    named = (setting for setting in SETTINGS if setting.key.startswith(f"{section}."))
    return _section(section, {setting.key: _checked(setting.key, setting.default, DEFAULT) for setting in named})


def _plain(value: Any) -> Any:
    """A setting's value as JSON has it."""
    match value:
        case None:
            return "off"
        case dt.timedelta():
            return format_duration(value)
        case tuple():
            return list(value)
        case _:
            return value


@dataclass(frozen=True, slots=True)
class _Entry:
    """One value of one layer."""

    value: Any
    origin: str


_Layer = dict[str, _Entry]
"""By dotted key: known settings, and `section.option`."""


def _locate(project: Path | str | None) -> tuple[Path, Path | None]:
    """The project's folder, and its file if there is one."""
    if project is None:
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FILE).is_file():
                return folder, folder / FILE
        return here, None
    # absolute(), not resolve(): a project behind a symbolic link keeps the name that people gave it
    given = Path(project).expanduser().absolute()
    if given.is_file():
        return given.parent, given
    if not given.is_dir():
        raise ConfigError(f"no project at {str(given)!r}: neither a folder nor a file", try_=f"grange init {given}")
    return given, given / FILE if (given / FILE).is_file() else None


def _defaults(root: Path) -> _Layer:
    values = {setting.key: setting.default for setting in SETTINGS} | {"project": root.name or "grange"}
    return {key: _Entry(_checked(key, value, DEFAULT), DEFAULT) for key, value in values.items()}


def _from_file(file: Path) -> _Layer:
    try:
        text = file.read_bytes().decode("utf-8-sig")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text", try_="save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{_syntax_place(file, text, error)}: not TOML: {error}") from error
    return {
        key: _Entry(_checked(key, value, place), FILE)
        for key, value, place in _flatten(data, lambda path: _place(file, text, path))
    }


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    layer: _Layer = {}
    for variable in sorted(environ):
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        text = environ[variable]
        if not variable.startswith(PREFIX) or not text or _is_foreign(path):
            continue
        place = f"{_ENVIRONMENT}{variable}"
        key = _checked_key(path, place)
        layer[key] = _Entry(_checked(key, _parse_variable(key, text), place), place)
    return layer


def _from_arguments(overrides: Mapping[str, Any]) -> _Layer:
    layer: _Layer = {}
    for name, value in overrides.items():
        table = value if name in _TABLES and isinstance(value, Mapping) else None
        given = [(name, value)] if table is None else [(f"{name}.{option}", inner) for option, inner in table.items()]
        for key, inner in given:
            if inner is not None:
                place = f"argument {key!r}"
                _checked_key(tuple(key.split(".", 1)), place)
                layer[key] = _Entry(_checked(key, inner, place), ARGUMENT)
    return layer


def _flatten(data: Mapping[str, Any], place: Callable[[tuple[str, ...]], str]) -> Iterator[tuple[str, Any, str]]:
    """(dotted key, value, place) of the file's data; refuses what is no setting."""
    for name, value in data.items():
        if name in _TABLES and not isinstance(value, Mapping):
            raise _wrong_type(name, value, f"a table: [{name}]", place((name,)))
        inside = value if name in _TABLES else None
        paths = [(name,)] if inside is None else [(name, option) for option in inside]
        for path in paths:
            yield _checked_key(path, place(path)), value if inside is None else inside[path[-1]], place(path)


def _checked_key(path: tuple[str, ...], place: str) -> str:
    """The dotted key of a path.

    Raises:
        ConfigError: the path names no setting; carries the closest ones.
    """
    key = ".".join(path)
    if key in _BY_KEY or (len(path) == 2 and path[0] in STORES and path[1] not in ("", RESERVED)):
        return key
    known = [name for name in _BY_KEY if name.startswith(f"{path[0]}.")] or list(_TOP)
    closest = closest_names(key, known)
    raise ConfigError(
        f"{place}: no setting {key!r}",
        found=f"the settings are {', '.join(known)}",
        closest=[_variable(name) for name in closest] if place.startswith(_ENVIRONMENT) else closest,
        try_="see docs/reference/configuration.md",
        details={"key": key},
    )


def _is_foreign(path: tuple[str, ...]) -> bool:
    """Whether a variable is somebody else's: `GRANGE_SERVICE_HOST` comes from an orchestrator, not from a typo.

    A double underscore, or a name very near a setting's, is meant for us.
    """
    return len(path) == 1 and not difflib.get_close_matches(path[0], _TOP, n=1, cutoff=0.8)


def _parse_variable(key: str, text: str) -> Any:
    """The value that a variable's text means.

    The settings of `SETTINGS` are text. A further option of a store is what TOML reads (`true`, `512`, `["a"]`,
    `"012"`), else text as it stands; a secret is always text, so that a password of digits stays one.
    """
    if key in _BY_KEY and _BY_KEY[key].kind in ("list", "codes"):
        read = _toml_value(text)
        return read if isinstance(read, list) else [part.strip() for part in text.split(",") if part.strip()]
    if key in _BY_KEY or _is_secret(key):
        return text
    read = _toml_value(text)
    return text if read is None else read


def _toml_value(text: str) -> bool | int | float | str | list[Any] | dict[str, Any] | None:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return None
    value = document.get("value")
    if len(document) != 1 or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str | list | dict) else None


def _checked(key: str, value: Any, place: str) -> Any:
    """The value in the type that the setting has.

    Raises:
        ConfigError: another type; names key, value and place.
    """
    if value is None:
        return None
    setting = _BY_KEY.get(key)
    kind = "option" if setting is None else setting.kind
    match kind:
        case "text":
            if isinstance(value, str) and value.strip():
                return value
            raise _wrong_type(key, value, "text that is not empty", place)
        case "list":
            if isinstance(value, list | tuple) and all(isinstance(item, str) and item.strip() for item in value):
                return tuple(value)
            raise _wrong_type(key, value, 'a list of text, such as ["features.py"]', place)
        case "codes":
            codes = [value] if isinstance(value, str) else value
            if isinstance(codes, list | tuple) and all(isinstance(item, str) and item.strip() for item in codes):
                return tuple(dict.fromkeys(codes))
            raise _wrong_type(key, value, 'a list of codes, such as ["LEAK-102"]', place)
        case "duration":
            return _duration(key, value, place)
        case "off or duration":
            return None if value in ("off", False) else _duration(key, value, place)
        case "integer" | "number":
            return _number(key, value, place, whole=kind == "integer")
        case "choice" if setting is not None:
            if value in setting.choices:
                return value
            raise _wrong_type(key, value, " or ".join(setting.choices), place)
        case "reference":
            if isinstance(value, str) and (not value or re.match(r"[a-z][a-z0-9_]*:.", value)):
                return value
            raise _wrong_type(key, MASK, "a reference, such as env:NAME or file:PATH, and never the key itself", place)
        case "text or nothing" | "path":
            if isinstance(value, str | Path):
                return str(value).strip()
            raise _wrong_type(key, value, "text", place)
        case "boolean":
            said = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
            if isinstance(said, bool):
                return said
            raise _wrong_type(key, value, "true or false", place)
        case _:
            if setting is not None and not isinstance(value, str | Path):
                raise _wrong_type(key, value, "text", place)
            return str(value) if isinstance(value, Path) else value


def _number(key: str, value: Any, place: str, *, whole: bool) -> int | float:
    """A number that is not negative, from a number or its text."""
    read = _toml_value(value) if isinstance(value, str) else value
    if isinstance(read, int | float) and not isinstance(read, bool) and math.isfinite(read) and read >= 0:
        if isinstance(read, int):
            return read if whole else float(read)
        if not whole:
            return read
    raise _wrong_type(key, value, "a whole number, not negative" if whole else "a number, not negative", place)


def _duration(key: str, value: Any, place: str) -> dt.timedelta:
    if not isinstance(value, str | dt.timedelta):
        raise _wrong_type(key, value, 'a duration such as "60s"', place)
    try:
        return parse_duration(value, what=key)
    except DurationError as error:
        raise ConfigError(f"{place}: {error.message}", try_='write it as "60s", "5m" or "1h"') from error


def _wrong_type(key: str, value: Any, wanted: str, place: str) -> ConfigError:
    return ConfigError(
        f"{place}: {key} must be {wanted}",
        found=f"{_masked(key, value)!r} ({type(value).__name__})",
        details={"key": key},
    )


def _merge(layers: list[_Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Weakest layer first. Options belong to the type they were written for: a new type drops weaker ones."""
    merged: _Layer = {}
    for layer in layers:
        for section in STORES:
            chosen = layer.get(f"{section}.type")
            if chosen and f"{section}.type" in merged and chosen.value != merged[f"{section}.type"].value:
                for key in [key for key in merged if key.startswith(f"{section}.")]:
                    del merged[key]
        merged |= layer
    return {key: entry.value for key, entry in merged.items()}, {key: entry.origin for key, entry in merged.items()}


def _store(section: str, values: Mapping[str, Any]) -> StoreConfig:
    keys = [key for key in _in_order(values) if key.startswith(f"{section}.") and key != f"{section}.type"]
    return StoreConfig(values[f"{section}.type"], tuple((key.split(".", 1)[1], values[key]) for key in keys))


def _in_order(keys: Mapping[str, Any]) -> list[str]:
    """Sections in the order of the documentation; in each the type first, then options by name."""
    return sorted(keys, key=lambda key: (_TOP.index(key.split(".")[0]), not key.endswith(".type"), key))


def _place(file: Path, text: str, path: tuple[str, ...]) -> str:
    """`file:line` of a key; `file` when the line cannot be told (tomllib gives none, so the text is searched)."""
    section: tuple[str, ...] = ()
    wanted = tuple(_bare(part) for part in path)
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            section = tuple(_bare(part) for part in header[1].split("."))
            found = section
        elif assignment := re.match(r"\s*([\w.\-\"' ]+?)\s*=", line):
            found = (*section, *(_bare(part) for part in assignment[1].split(".")))
        else:
            continue
        if found[: len(wanted)] == wanted:
            return f"{file}:{number}"
    return str(file)


def _bare(part: str) -> str:
    return part.strip().strip("\"'")


def _syntax_place(file: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    told = re.search(r"at line (\d+)", str(error))
    return f"{file}:{told[1] if told else len(text.splitlines())}"


_SECRET_WORDS: Final = ("password", "passwd", "passphrase", "secret", "token", "credential", "apikey", "signature")
_SECRET_NAMES: Final = ("pass", "pwd", "pw", "pin", "auth", "authorization", "sig", "sas")
_URL_PASSWORD: Final = re.compile(r":(?!//).*@", re.DOTALL)
"""Whatever lies between a colon, a scheme's excepted, and the last @: in a malformed URL too."""
_PARAMETER: Final = re.compile(r"([\w\-]+)=([^&;\s]+)")


def _is_secret(key: str) -> bool:
    name = key.rsplit(".", 1)[-1].casefold()
    words = re.split(r"[^a-z0-9]+", name)
    return any(word in name for word in _SECRET_WORDS) or any(
        word.endswith("key") or word in _SECRET_NAMES for word in words
    )


def _names_secret(key: str) -> bool:
    """Whether a setting says where a secret is, and is none itself."""
    return key in _BY_KEY and _BY_KEY[key].kind in ("path", "reference")


def _masked(key: str, value: Any) -> Any:
    """The value as people may see it: secrets, and credentials inside URLs and key=value texts, are masked."""
    if value is not None and _is_secret(key) and not _names_secret(key):
        return MASK
    if isinstance(value, Mapping):
        return {name: _masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(key, item) for item in value]
    if not isinstance(value, str):
        return value
    # greedy up to the last @: a password with an unescaped / or @ is masked whole, at worst with some of the host
    hidden = _URL_PASSWORD.sub(f":{MASK}@", value)
    return _PARAMETER.sub(lambda found: f"{found[1]}={MASK}" if _is_secret(found[1]) else found[0], hidden)
