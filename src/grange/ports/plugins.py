"""Backends arrive by entry point, the built-in ones too; nobody names one in an import.

An entry point names a `Descriptor`: light, without driver. Its factory is called, and the driver imported,
when the backend is first used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Literal

from grange.errors import ConfigError, UnknownBackendError, closest_names

Port = Literal["engines", "connectors", "offline_stores", "online_stores", "registries", "key_services"]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What is known of a backend before it is loaded."""

    name: str
    factory: Callable[..., Any]
    """Makes the backend. Stores and registries take their options as keywords, and `root`, the project's folder,
    which relative paths are relative to."""
    summary: str
    """One line for listings."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Configuration keys it takes, with what they mean."""
    capabilities: frozenset[str] = frozenset()
    """What it promises beyond its port; declared and proven, or refused."""
    schemes: tuple[str, ...] = ()
    """For connectors: the source classes it resolves, by class name."""


@functools.cache
def backends(port: Port) -> Mapping[str, Descriptor]:
    """The registered backends of a port, by name."""
    found: dict[str, Descriptor] = {}
    for entry in sorted(entry_points(group=f"grange.{port}"), key=lambda entry: entry.name):
        descriptor = entry.load()
        assert isinstance(descriptor, Descriptor), f"entry point {entry.name} is no grange Descriptor"
        found[entry.name] = descriptor
    return MappingProxyType(found)


def backend(port: Port, name: str) -> Descriptor:
    """One backend.

    Raises:
        UnknownBackendError: none of this name is registered; carries the closest ones.
    """
    registered = backends(port)
    if name not in registered:
        what = port.removesuffix("s").replace("_", " ").replace("registrie", "registry")
        raise UnknownBackendError(
            f"no {what} {name!r} is installed",
            found=", ".join(registered) or "none",
            closest=closest_names(name, registered),
            try_=f"use {next(iter(closest_names(name, registered)), next(iter(registered), '?'))!r}",
        )
    return registered[name]


def create(port: Port, name: str, options: Mapping[str, Any]) -> Any:
    """Make a backend of its options.

    Raises:
        UnknownBackendError: none of this name is registered.
        ConfigError: an option that it does not have.
    """
    descriptor = backend(port, name)
    unknown = [option for option in options if option not in descriptor.options and option != "root"]
    if unknown:
        raise ConfigError(
            f"{name!r} has no option {unknown[0]!r}",
            found=", ".join(descriptor.options) or "no options at all",
            closest=closest_names(unknown[0], descriptor.options),
        )
    return descriptor.factory(**options)
