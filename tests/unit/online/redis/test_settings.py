"""Options of the redis online store: what they mean, and what is said of those that cannot be."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from grange.errors import ConfigError, MissingDependencyError
from grange.online.redis.settings import Address, Settings, Tls, settings_of
from grange.ports.plugins import backend, create

SECRET = "hunter2"


def test_what_is_left_out() -> None:
    """A server on this machine, and patience of a second."""
    assert settings_of(Path(), {}) == Settings((Address("localhost", 6379),))


@pytest.mark.parametrize(
    ("url", "address", "database"),
    [
        ("redis://cache", Address("cache", 6379), 0),
        ("redis://cache:1/7", Address("cache", 1), 7),
        ("redis://[::1]:2", Address("::1", 2), 0),
        ("unix:///run/redis.sock", Address("", path="/run/redis.sock"), 0),
    ],
)
def test_urls(url: str, address: Address, database: int) -> None:
    """Each scheme, with and without what may be left out."""
    settings = settings_of(Path(), {"url": url})
    assert (settings.addresses, settings.database, settings.tls) == ((address,), database, None)


def test_credentials() -> None:
    """They come from the url, percent-encoded, or from options, which win."""
    url = f"redis://me:{SECRET}%40@cache"
    assert (settings_of(Path(), {"url": url}).username, settings_of(Path(), {"url": url}).password) == (
        "me",
        f"{SECRET}@",
    )
    assert settings_of(Path(), {"url": url, "password": "other"}).password == "other"
    assert settings_of(Path(), {"url": "redis://:only@cache"}).username is None


def test_tls(tmp_path: Path) -> None:
    """By the scheme, or by naming a file; files are relative to the project."""
    for name in ("ca.pem", "me.pem", "me.key"):
        (tmp_path / name).write_text("")
    assert settings_of(tmp_path, {"url": "rediss://cache"}).tls == Tls()
    found = settings_of(
        tmp_path, {"tls_ca": "ca.pem", "tls_certificate": "me.pem", "tls_key": str(tmp_path / "me.key")}
    )
    assert found.tls == Tls(tmp_path / "ca.pem", tmp_path / "me.pem", tmp_path / "me.key")
    assert settings_of(tmp_path, {"tls_insecure": True}).tls == Tls(insecure=True)


def test_sentinels() -> None:
    """A list or a text of host:port."""
    wanted = (Address("one", 1), Address("two", 26379))
    for sentinels in (["one:1", "two"], "one:1, two"):
        assert settings_of(Path(), {"sentinels": sentinels, "master": "m"}).addresses == wanted


def test_an_expiry_is_a_duration() -> None:
    """In milliseconds, of text as everywhere else."""
    assert settings_of(Path(), {"expire": "30d"}).expire == 30 * 86_400_000


@pytest.mark.parametrize(
    ("options", "mentions"),
    [
        ({"url": 5}, "url is a text"),
        ({"url": f"http://:{SECRET}@cache"}, "begins with redis://"),
        ({"url": f"redis://:{SECRET}@cache:port"}, "its port is no number"),
        ({"url": f"redis://:{SECRET}@[cache"}, "it is no URL"),
        ({"url": f"redis://:{SECRET}@cache?db=1"}, "beside the url"),
        ({"url": f"redis://:{SECRET}@cache/features"}, "number of a database"),
        ({"url": f"redis://:12/{SECRET}@cache:6379/0"}, "number of a database"),
        ({"url": "unix://"}, "path of a socket"),
        ({"url": "redis://me@cache"}, "without password"),
        ({"cluster": True, "url": "redis://cache/1"}, "database 0 alone"),
        ({"cluster": 1}, "true or false"),
        ({"sentinels": ["a:1"]}, "go together"),
        ({"master": "m"}, "go together"),
        ({"sentinels": [], "master": "m"}, "list of host:port"),
        ({"sentinels": [f"x:{SECRET}@a:1"], "master": "m"}, "host:port"),
        ({"sentinels": ["a:b"], "master": "m"}, "host:port"),
        ({"sentinels": ["a:1"], "master": "m", "cluster": True}, "no Sentinels"),
        ({"tls_ca": "nowhere.pem"}, "names no file"),
        ({"tls_ca": __file__, "url": "unix:///a"}, "no TLS"),
        ({"tls_key": __file__}, "go together"),
        ({"namespace": "with {braces}"}, "namespace"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": "two\nlines"}, "namespace"),
        ({"owner": "a:b"}, "owner"),
        ({"password": ""}, "not empty"),
        ({"password": 5}, "password is a text"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"connect_timeout": True}, "connect_timeout"),
        ({"pool": 0}, "pool"),
        ({"retries": -1}, "retries"),
        ({"expire": "1month"}, "expire"),
        ({"expire": 0}, "expire"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], mentions: str) -> None:
    """Each is named, with what would be right, and without secrets."""
    with pytest.raises(ConfigError, match=mentions) as caught:
        create("online_stores", "redis", options)
    assert caught.value.try_
    assert SECRET not in str(caught.value.to_dict())
    assert SECRET not in repr(caught.value.__cause__)


def test_an_unknown_option() -> None:
    """The closest one is named."""
    with pytest.raises(ConfigError, match="no option 'time_out'") as caught:
        create("online_stores", "redis", {"time_out": 1})
    assert "timeout" in caught.value.closest


def test_secrets_are_not_shown() -> None:
    """Neither by settings nor by a store."""
    options = {"url": f"redis://me:{SECRET}@cache", "password": SECRET}
    assert SECRET not in repr(settings_of(Path(), options))
    store = create("online_stores", "redis", options)
    assert SECRET not in repr(store) + repr(store.__dict__)


def test_a_missing_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it."""
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "hiredis":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError) as caught:
        create("online_stores", "redis", {})
    assert caught.value.try_ == "pip install 'grange[redis]'"


def test_options_are_told() -> None:
    """Every option that the settings take stands in the descriptor, and the other way round."""
    told = set(backend("online_stores", "redis").options)
    taken = {
        *("url", "cluster", "sentinels", "master", "username", "password", "namespace", "owner", "timeout"),
        *("tls_ca", "tls_certificate", "tls_key", "tls_insecure", "connect_timeout", "pool", "retries", "expire"),
    }
    assert told == taken
