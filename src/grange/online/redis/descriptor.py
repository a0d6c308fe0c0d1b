"""What is known of the `redis` online store before its client is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grange.ports.plugins import Descriptor


def _create(*, root: str | Path = ".", **options: Any) -> Any:
    from grange.online.redis.opening import open_store

    return open_store(Path(root), options)


DESCRIPTOR = Descriptor(
    name="redis",
    factory=_create,
    summary="Redis or Valkey over the network: one server, Sentinel or Cluster; shared by many machines",
    options={
        "url": "redis://host:port/db, rediss:// for TLS, unix:///path; default redis://localhost:6379/0",
        "cluster": "whether the url is a node of a Redis Cluster; default false",
        "sentinels": "Sentinels to ask for the server, as host:port; instead of url",
        "master": "the name under which the Sentinels know the server",
        "username": "of the server's access list; default: none, or the url's",
        "password": "of the server, or of the user; default: none, or the url's",
        "tls_ca": "file of the certificates to trust, relative to the project; with it or rediss:// TLS is used",
        "tls_certificate": "file of the client's certificate, where the server asks for one",
        "tls_key": "file of the key of the client's certificate",
        "tls_insecure": "accept any certificate of the server: for trials alone; default false",
        "namespace": "what the names of all keys begin with, so that projects can share a server; default: the name of "
        "the project",
        "owner": "whose the namespace is: what another owner wrote is refused; default: the project's registry",
        "timeout": "seconds to wait for an answer; default 1",
        "connect_timeout": "seconds to wait for a connection; default 1",
        "pool": "connections at most, per server; default 16",
        "retries": "how often a call is tried again after an outage, where that is safe; default 1",
        "expire": "a duration such as 30d after whose passing without a write the server forgets an entity's rows; "
        "default: never",
    },
    capabilities=frozenset({"shared", "networked"}),
)
