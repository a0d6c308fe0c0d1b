"""Where a server is and how it is reached. Keys are in no text that this makes."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

from grange.errors import ConfigError

KEY_VARIABLE: Final = "GRANGE_KEY"
"""The environment variable that holds the key where none is given."""
DEFAULT_RETRIES: Final = 4
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and what is sent with every request.

    Raises:
        ConfigError: no URL of a server; a key that is none, or that would travel in the open.
    """

    url: str
    """Without a slash at its end."""
    key: str | None = field(default=None, repr=False)
    project: str | None = None
    """Of a server with several projects: which; the key's own, else the server's first, without."""
    timeout: float | None = None
    """Seconds that one request may take with all its retries; by kind of request without."""
    retries: int = DEFAULT_RETRIES
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = field(default=True, repr=False)
    """Whose certificates are trusted: those of the system; or those of a file, or a context; False is anybody's."""
    insecure: bool = False
    """Whether the key may be sent to who cannot prove to be the server, or over a line that others can read."""

    def __post_init__(self) -> None:
        parts = _split(self.url)
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.timeout is not None and not (0 < self.timeout < math.inf):
            raise ConfigError(f"a timeout is a number of seconds above zero, got {self.timeout}")
        if self.retries < 0:
            raise ConfigError(f"retries must be zero or more, got {self.retries}", try_="retries=0 for none")
        if self.key is not None:
            self._check_key(parts)

    def _check_key(self, parts: SplitResult) -> None:
        if not _TOKEN.fullmatch(self.key or ""):
            raise ConfigError(
                "the key is no key: it is empty, or has spaces, line ends or other than ASCII characters",
                try_=f"take it as `grange key create` printed it; or set {KEY_VARIABLE}",
            )
        if self.insecure or is_loopback(parts.hostname or ""):
            return
        if parts.scheme == "http":
            raise ConfigError(
                f"the key would be sent to {parts.hostname} over plain HTTP, where others can read it",
                found=self.url,
                try_=f"https://{parts.netloc}; or insecure=True on a network that is all yours",
            )
        if self.verify is False:
            raise ConfigError(
                f"the key would be sent to whoever answers as {parts.hostname}: verify=False trusts any certificate",
                try_='verify="ca.pem" with the certificate of your own authority; or insecure=True',
            )

    @property
    def host(self) -> str:
        """The host alone."""
        return urlsplit(self.url).hostname or ""

    def headers(self) -> dict[str, str]:
        """What every request says of who asks."""
        named = {} if self.project is None else {"X-Grange-Project": self.project}
        return named if self.key is None else named | {"Authorization": f"Bearer {self.key}"}

    def trust(self) -> ssl.SSLContext | bool:
        """Whose certificates are trusted, as the client takes it.

        Raises:
            ConfigError: the file of certificates cannot be read.
        """
        if isinstance(self.verify, bool | ssl.SSLContext):
            return self.verify
        try:
            return ssl.create_default_context(cafile=os.fspath(self.verify))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"no certificates can be read from {os.fspath(self.verify)!r}", found=str(error)
            ) from error


def address_of(
    url: str,
    *,
    key: str | None = None,
    project: str | None = None,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
    insecure: bool = False,
) -> Address:
    """An address; the key of `GRANGE_KEY` where none is given.

    Raises:
        ConfigError: as `Address`.
    """
    found = key if key is not None else os.environ.get(KEY_VARIABLE) or None
    return Address(url, found, project, timeout, retries, verify, insecure)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone: no name is looked up."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    """The parts of a server's URL.

    Raises:
        ConfigError: it is none, or has credentials or a query in it. The text never repeats credentials.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError("the URL of the server cannot be read: its host or port is none") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "credentials in a URL end up in logs", try_=f'FeatureStore("{parts.scheme}://{parts.hostname}", key=...)'
        )
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ConfigError(f"{url!r} is no URL of a server", try_="https://features.example.com")
    if parts.query or parts.fragment:
        raise ConfigError("the URL of a server has no query", try_=f"{parts.scheme}://{parts.netloc}{parts.path}")
    return parts
