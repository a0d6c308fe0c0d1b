"""The options of the `redis` online store, checked: nothing is connected to yet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from grange.errors import ConfigError, GrangeError
from grange.types.durations import parse_duration

DEFAULT_URL: Final = "redis://localhost:6379/0"
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "unix")
_NAMESPACE: Final = re.compile(r"[^{}]{1,200}")
_OWNER: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_TLS_FILES: Final = ("tls_ca", "tls_certificate", "tls_key")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a host and a port, or the path of a socket."""

    host: str
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server proves who it is, and the client to it."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is needed to connect, and how rows are kept."""

    addresses: tuple[Address, ...]
    """The server; or nodes of the cluster; or the Sentinels."""
    database: int = 0
    cluster: bool = False
    master: str | None = None
    """With Sentinels, the name of the server they watch."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    namespace: str = "grange"
    owner: str | None = None
    """Whose the namespace is: rows of another owner are refused."""
    timeout: float = 1.0
    connect_timeout: float = 1.0
    pool: int = 16
    retries: int = 1
    expire: int | None = None
    """Milliseconds."""


def settings_of(root: Path, options: Mapping[str, Any]) -> Settings:
    """Check the options and fill in what they leave out. Names of options are known to be right.

    Args:
        root: folder of the project, which paths are relative to.
        options: as `grange.toml` has them.

    Raises:
        ConfigError: an option that cannot be; names it, never its secrets.
    """
    url = options.get("url")
    sentinels, master = options.get("sentinels"), options.get("master")
    cluster = _flag(options, "cluster")
    if (sentinels is None) != (master is None):
        _wrong("sentinels and master go together", 'sentinels = ["host:26379"] and master = "mymaster"')
    if sentinels is not None and cluster:
        _wrong("a cluster has no Sentinels", "leave out cluster, or sentinels and master")
    parts = _parts(DEFAULT_URL if url is None else url)
    username, password = _credentials(options, parts)
    return Settings(
        addresses=_addresses(parts) if sentinels is None else _sentinels(sentinels),
        database=_database(parts, cluster=cluster),
        cluster=cluster,
        master=_text("master", master),
        username=username,
        password=password,
        tls=_tls(root, options, parts),
        namespace=_namespace(options.get("namespace", "grange")),
        owner=_owner(options.get("owner")),
        timeout=_seconds(options, "timeout"),
        connect_timeout=_seconds(options, "connect_timeout"),
        pool=_whole(options, "pool", 16, at_least=1),
        retries=_whole(options, "retries", 1, at_least=0),
        expire=_expire(options.get("expire")),
    )


def _parts(url: Any) -> SplitResult:
    """A URL in its parts."""
    if not isinstance(url, str):
        _wrong(f"url is a text, not {type(url).__name__}", f'url = "{DEFAULT_URL}"')
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a port that is no number is found here
    except ValueError as error:
        # not chained: the text of the error may hold the password
        problem = "its port is no number" if "ort" in str(error) else "it is no URL"
        parts = None
    if parts is None:
        _wrong(f"the url of the online store cannot be read: {problem}", f'url = "{DEFAULT_URL}"')
    if parts.scheme not in _SCHEMES:
        _wrong(f"a url of redis begins with redis://, rediss:// or unix://, not {parts.scheme!r}", DEFAULT_URL)
    if parts.query or parts.fragment:
        _wrong("options of redis stand beside the url, not in it", "write timeout = 1 in [online], not ?timeout=1")
    return parts


def _addresses(parts: SplitResult) -> tuple[Address, ...]:
    if parts.scheme == "unix":
        if not parts.path:
            _wrong("a unix:// url names the path of a socket", 'url = "unix:///run/redis.sock"')
        return (Address("", path=unquote(parts.path)),)
    return (Address(parts.hostname or "localhost", parts.port or PORT),)


def _sentinels(sentinels: Any) -> tuple[Address, ...]:
    if isinstance(sentinels, str):
        sentinels = [part.strip() for part in sentinels.split(",")]
    if not isinstance(sentinels, Sequence) or not sentinels or not all(isinstance(one, str) for one in sentinels):
        _wrong("sentinels is a list of host:port", 'sentinels = ["host:26379"]')
    return tuple(_host_port(one) for one in sentinels)


def _host_port(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or port == -1 or parts.path or parts.username is not None:
        _wrong("a Sentinel is named by host:port", 'sentinels = ["host:26379"]')
    return Address(parts.hostname, port or SENTINEL_PORT)


def _credentials(options: Mapping[str, Any], parts: SplitResult) -> tuple[str | None, str | None]:
    username = _text("username", options.get("username")) or (unquote(parts.username) if parts.username else None)
    password = _text("password", options.get("password")) or (unquote(parts.password) if parts.password else None)
    if username is not None and password is None:
        _wrong("a username without password", "give password too, for example by GRANGE_ONLINE__PASSWORD")
    return username, password


def _database(parts: SplitResult, *, cluster: bool) -> int:
    text = "" if parts.scheme == "unix" else parts.path.strip("/")
    if text and not text.isdecimal():
        # the path is not shown: a password with a slash in it ends there
        _wrong("the path of a redis url is the number of a database", f"{DEFAULT_URL}; %2F for a slash in a password")
    if cluster and int(text or 0):
        _wrong("a cluster has database 0 alone", "leave the number out of the url")
    return int(text or 0)


def _tls(root: Path, options: Mapping[str, Any], parts: SplitResult) -> Tls | None:
    files = {name: root / text for name in _TLS_FILES if (text := _text(name, options.get(name))) is not None}
    insecure = _flag(options, "tls_insecure")
    if not (files or insecure or parts.scheme == "rediss"):
        return None
    if parts.scheme == "unix":
        _wrong("a unix socket has no TLS", "leave out the tls options")
    missing = next((name for name, path in files.items() if not path.is_file()), None)
    if missing is not None:
        _wrong(f"{missing} names no file: {files[missing]}", "paths are relative to the folder of the project")
    if ("tls_certificate" in files) != ("tls_key" in files):
        _wrong("tls_certificate and tls_key go together", "give both, or neither")
    return Tls(files.get("tls_ca"), files.get("tls_certificate"), files.get("tls_key"), insecure)


def _namespace(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not _NAMESPACE.fullmatch(value):
        # braces would change which part of a key decides its slot
        _wrong(
            "namespace is a short text of printable characters without braces",
            'namespace = "shop"',
            found=repr(value)[:100],
        )
    return value


def _owner(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not _OWNER.fullmatch(value)):
        _wrong("owner is a short text of letters, digits and _ . -", "leave it out", found=repr(value)[:100])
    return value


def _expire(value: Any) -> int | None:
    if value is None:
        return None
    try:
        length = parse_duration(value, what="expire")
    except GrangeError as error:
        raise ConfigError(error.message, try_='expire = "30d", or leave it out to keep rows for ever') from error
    return max(1, round(length.total_seconds() * 1000))


def _text(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        _wrong(f"{name} is a text that is not empty", f"give {name}, or leave it out")
    return value


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        _wrong(f"{name} is true or false, not {value!r}", f"{name} = true")
    return value


def _seconds(options: Mapping[str, Any], name: str) -> float:
    value = options.get(name, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        _wrong(f"{name} is a number of seconds above 0, at most 3600, not {value!r}", f"{name} = 1")
    return float(value)


def _whole(options: Mapping[str, Any], name: str, default: int, *, at_least: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= 10_000:
        _wrong(f"{name} is a whole number from {at_least} to 10000, not {value!r}", f"{name} = {default}")
    return value


def _wrong(message: str, try_: str, found: str | None = None) -> NoReturn:
    raise ConfigError(message, asked_by="online store 'redis'", found=found, try_=try_)
