"""What functions learn, as data: JSON, and nothing that JSON cannot hold exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from grange.transforming.failures import Blame


def as_json(learned: Any, blame: Blame) -> Any:
    """The state that a fit function gave, as JSON reads it back: NumPy's scalars and arrays are plain, tuples lists.

    Raises:
        TransformError: there is none, or a part of it that JSON cannot hold; says where.
    """
    if learned is None:
        raise blame.error("could not be fitted: its fit function gave nothing", try_="return what it learned")
    return _plain(learned, "state", blame)


def _plain(value: Any, where: str, blame: Blame) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise _refusal(where, value, "JSON has no such number", blame)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{place}]", blame) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, where, blame): _plain(item, f"{where}[{key!r}]", blame) for key, item in value.items()}
    raise _refusal(where, value, "JSON has no such value", blame)


def _key(key: Any, where: str, blame: Blame) -> str:
    if isinstance(key, str):
        return str(key)
    raise _refusal(where, key, "keys of JSON are text", blame)


def _refusal(where: str, value: Any, reason: str, blame: Blame) -> Exception:
    return blame.error(
        f"learned what cannot be kept: {reason}",
        found=f"{where}: {value!r:.80} ({type(value).__name__})",
        try_="numbers, text, booleans, None, lists and dicts of them",
    )
