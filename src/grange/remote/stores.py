"""`RemoteFeatureStore` and `AsyncFeatureStore`: the verbs of `FeatureStore`, asked of a server.

Both have every verb by one line: what a verb sends and what it makes of the answer is in `grange.remote.calls`, once.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from grange.errors import UnsupportedError
from grange.remote.address import DEFAULT_RETRIES, Address, address_of
from grange.remote.calls import data, definitions, discovery, serving, training
from grange.remote.calls import exports as exporting
from grange.remote.calls.session import Session
from grange.remote.drivers import Awaiting, Blocking
from grange.remote.messages import Call
from grange.remote.retrying import Policy

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog


class _NotHereError(UnsupportedError, AttributeError):
    """Something that only whoever holds the stores has."""


P = ParamSpec("P")
T = TypeVar("T")


def blocking(call: Callable[Concatenate[Session, P], Call[T]]) -> Callable[Concatenate[RemoteFeatureStore, P], T]:
    """A verb that returns when it is answered."""

    @wraps(call)
    def verb(self: RemoteFeatureStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.run(call(self._session, *args, **kwargs))

    return verb


def awaiting(
    call: Callable[Concatenate[Session, P], Call[T]],
) -> Callable[Concatenate[AsyncFeatureStore, P], Coroutine[Any, Any, T]]:
    """The same verb as a coroutine."""

    @wraps(call)
    async def verb(self: AsyncFeatureStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.run(call(self._session, *args, **kwargs))

    return verb


class RemoteFeatureStore:
    """A feature store behind a server: what `FeatureStore("https://...")` makes. The verbs, their arguments and their
    answers are those of `FeatureStore`, which says what each does.

    >>> store = FeatureStore("https://features.example.com")              # the key is in GRANGE_KEY
    >>> store = FeatureStore("https://10.0.0.5:8002", key=key, verify="ca.pem", timeout=5)

    Args:
        url: the server. `https`, unless it is this machine, or no key is sent.
        key: an API key, or a token; that of `GRANGE_KEY` without.
        server_project: of a server with several projects: which.
        timeout: seconds that one request may take with all its retries; without, by kind of request: 10 for online
            reads, 600 for what reads history, else 60. Jobs are waited for as long as they run.
        retries: how often a request is sent again. Writes have an Idempotency-Key and are done once.
        verify: whose certificates are trusted; a file of certificates for an authority of your own.
        insecure: whether the key may be sent over plain HTTP, or to whoever answers.
        statuses: False leaves statuses and event times out of online answers, which makes these smaller and faster.
        transport: what sends requests, instead of the network; for tests.

    Safe for several threads and after a fork. Use it as a context manager, or `close()` it.

    Raises:
        ConfigError: no URL of a server; a key that is none, or that would travel in the open.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        server_project: str | None = None,
        timeout: float | None = None,
        retries: int = DEFAULT_RETRIES,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        insecure: bool = False,
        statuses: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address: Address = address_of(
            url,
            key=key,
            project=server_project,
            timeout=timeout,
            retries=retries,
            verify=verify,
            insecure=insecure,
        )
        self._driver = Blocking(self.address, Policy(retries, timeout), transport)
        self._session = Session(self.address.url, self._driver.run, statuses=statuses, timeout=timeout)

    @property
    def catalog(self) -> Catalog:
        """The applied definitions, at most a second old. Functions and frames stay where they are."""
        return self._driver.run(definitions.catalog(self._session))

    plan = blocking(definitions.plan)
    apply = blocking(definitions.apply)
    delete = blocking(definitions.delete)
    inspect = blocking(definitions.inspect)
    explain_online = blocking(definitions.explain_online)
    explain_materialize = blocking(definitions.explain_materialize)

    materialize = blocking(data.materialize)
    plan_materialize = blocking(data.plan_materialize)
    push = blocking(data.push)
    read = blocking(data.read)
    served = blocking(data.served)
    versions = blocking(data.versions)
    version = blocking(data.version)
    diff = blocking(data.diff)
    manifest = blocking(data.manifest)
    plan_rollback = blocking(data.plan_rollback)
    rollback = blocking(data.rollback)
    verify = blocking(data.verify)
    verify_online = blocking(data.verify_online)

    get_historical_features = blocking(serving.get_historical_features)
    get_online_features = blocking(serving.get_online_features)

    create_training_dataset = blocking(training.create_training_dataset)
    training_dataset = blocking(training.training_dataset)
    training_datasets = blocking(training.training_datasets)
    training_dataset_info = blocking(training.training_dataset_info)
    training_dataset_statistics = blocking(training.training_dataset_statistics)
    diff_training_datasets = blocking(training.diff_training_datasets)
    reproduce_training_dataset = blocking(training.reproduce_training_dataset)
    delete_training_dataset = blocking(training.delete_training_dataset)

    search = blocking(discovery.search)
    keywords = blocking(discovery.keywords)
    similar = blocking(discovery.similar)
    usage = blocking(discovery.usage)
    statistics = blocking(discovery.statistics)
    compare_statistics = blocking(discovery.compare_statistics)
    lineage = blocking(discovery.lineage)
    impact = blocking(discovery.impact)

    export = blocking(exporting.export)
    exports = blocking(exporting.exports)
    export_info = blocking(exporting.export_info)

    def close(self) -> None:
        """Let go of the connections. Calling it twice is fine."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # a checker is to know every attribute

        def __getattr__(self, name: str) -> Any:
            raise _not_here(self, name)

    def __repr__(self) -> str:
        return f"RemoteFeatureStore({self.address.url!r})"


class AsyncFeatureStore:
    """The same with coroutines, for asyncio.

    >>> async with AsyncFeatureStore("https://features.example.com") as store:
    ...     vectors = await store.get_online_features("churn", [{"user_id": "u1"}])

    Takes what `RemoteFeatureStore` takes. `await store.catalog` has the definitions. Of a training dataset all parts
    are downloaded at once, since reading one later could not wait.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        server_project: str | None = None,
        timeout: float | None = None,
        retries: int = DEFAULT_RETRIES,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        insecure: bool = False,
        statuses: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.address: Address = address_of(
            url,
            key=key,
            project=server_project,
            timeout=timeout,
            retries=retries,
            verify=verify,
            insecure=insecure,
        )
        self._driver = Awaiting(self.address, Policy(retries, timeout), transport)
        self._session = Session(self.address.url, statuses=statuses, timeout=timeout)

    @property
    def catalog(self) -> Coroutine[Any, Any, Catalog]:
        """The applied definitions, at most a second old: `await store.catalog`."""
        return self._driver.run(definitions.catalog(self._session))

    plan = awaiting(definitions.plan)
    apply = awaiting(definitions.apply)
    delete = awaiting(definitions.delete)
    inspect = awaiting(definitions.inspect)
    explain_online = awaiting(definitions.explain_online)
    explain_materialize = awaiting(definitions.explain_materialize)

    materialize = awaiting(data.materialize)
    plan_materialize = awaiting(data.plan_materialize)
    push = awaiting(data.push)
    read = awaiting(data.read)
    served = awaiting(data.served)
    versions = awaiting(data.versions)
    version = awaiting(data.version)
    diff = awaiting(data.diff)
    manifest = awaiting(data.manifest)
    plan_rollback = awaiting(data.plan_rollback)
    rollback = awaiting(data.rollback)
    verify = awaiting(data.verify)
    verify_online = awaiting(data.verify_online)

    get_historical_features = awaiting(serving.get_historical_features)
    get_online_features = awaiting(serving.get_online_features)

    create_training_dataset = awaiting(training.create_training_dataset)
    training_dataset = awaiting(training.training_dataset)
    training_datasets = awaiting(training.training_datasets)
    training_dataset_info = awaiting(training.training_dataset_info)
    training_dataset_statistics = awaiting(training.training_dataset_statistics)
    diff_training_datasets = awaiting(training.diff_training_datasets)
    reproduce_training_dataset = awaiting(training.reproduce_training_dataset)
    delete_training_dataset = awaiting(training.delete_training_dataset)

    search = awaiting(discovery.search)
    keywords = awaiting(discovery.keywords)
    similar = awaiting(discovery.similar)
    usage = awaiting(discovery.usage)
    statistics = awaiting(discovery.statistics)
    compare_statistics = awaiting(discovery.compare_statistics)
    lineage = awaiting(discovery.lineage)
    impact = awaiting(discovery.impact)

    export = awaiting(exporting.export)
    exports = awaiting(exporting.exports)
    export_info = awaiting(exporting.export_info)

    async def close(self) -> None:
        """Let go of this event loop's connections. Calling it twice is fine."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    if not TYPE_CHECKING:  # a checker is to know every attribute

        def __getattr__(self, name: str) -> Any:
            raise _not_here(self, name)

    def __repr__(self) -> str:
        return f"AsyncFeatureStore({self.address.url!r})"


_OF_SERVERS = (
    "config", "project", "security", "keep_fresh", "definitions_age", "origins", "log_served", "quarantined", "reseal"
)  # fmt: skip


def _not_here(store: RemoteFeatureStore | AsyncFeatureStore, name: str) -> AttributeError:
    """What says that a store has no such attribute; of what embedded stores have, where it is."""
    if name in _OF_SERVERS:
        return _NotHereError(
            f"a remote store has no {name!r}: that is the server's", try_="where the project's folder is"
        )
    return AttributeError(f"{type(store).__name__!r} object has no attribute {name!r}")
