"""The proof kit: contract suites per port, the laws' cases as data, strategies and the rule of equality.

Backends outside this repository use it as the built-in ones do: subclass a contract, give its fixture, inherit
every test. It needs pytest and Hypothesis, which `grange` itself does not; names load when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "EngineContract": "engines",
    "engine_or_skip": "engines",
    "OnlineStoreContract": "online",
    "DatasetStoreContract": "datasets",
    "OfflineStoreContract": "offline",
    "RegistryContract": "registry",
    "assert_rows_equal": "equality",
    "difference": "equality",
    "load_cases": "cases",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
