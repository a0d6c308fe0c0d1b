"""scikit-learn transformers as data: class and settings, and back. Nothing is pickled, and no other class is loaded."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from grange.errors import DefinitionError, MissingDependencyError

_BUILT_IN: Final[dict[str, type]] = {"bool": bool, "float": float, "int": int, "object": object, "str": str}


def estimator_data(transformer: Any) -> dict[str, Any]:
    """A transformer that is not fitted as JSON-able data: its class and the settings that are not the defaults.

    Raises:
        DefinitionError: it is no transformer of scikit-learn itself, is fitted, has settings that are no data, or draws
            random numbers without a `random_state`: fitted again it would be another.
    """
    if isinstance(transformer, type) or not hasattr(transformer, "get_params") or not hasattr(transformer, "transform"):
        raise DefinitionError(
            "gr.sklearn takes a scikit-learn transformer",
            found=f"{transformer!r:.80}",
            try_="gr.sklearn(sklearn.preprocessing.PowerTransformer(), 'amount')",
        )
    return _estimator_data(transformer)


def estimator_of(data: Mapping[str, Any]) -> Any:
    """The inverse of `estimator_data`: a new transformer.

    Raises:
        DefinitionError: the class is none of scikit-learn's.
        MissingDependencyError: scikit-learn is not installed.
    """
    return _class_of(data["class"])(**{name: _value_of(value) for name, value in data["parameters"].items()})


def _estimator_data(estimator: Any) -> dict[str, Any]:
    kind = type(estimator)
    path = _public_path(kind)
    if any(name.endswith("_") and not name.startswith("__") for name in vars(estimator)):
        raise DefinitionError(
            f"the {kind.__name__} is fitted already, and it will be fitted to the training split",
            try_="sklearn.base.clone(transformer)",
        )
    if estimator.get_params(deep=False).get("random_state", 0) is None:
        raise DefinitionError(
            f"the {kind.__name__} has no random_state, and may learn something else of the same training data",
            found=f"{kind.__name__}(random_state=None)",
            try_=f"{kind.__name__}(..., random_state=0)",
        )
    return {"class": path, "parameters": dict(_changed(estimator, kind))}


def _changed(estimator: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """The settings of an estimator that are not the defaults, as data."""
    usual = {name: item.default for name, item in inspect.signature(kind).parameters.items()}
    for name, value in estimator.get_params(deep=False).items():
        where = f"{kind.__name__}({name}=...)"
        default = usual.get(name, inspect.Parameter.empty)
        if value is default:
            continue
        data = _data(value, where)
        if default is inspect.Parameter.empty or data != _data(default, where):
            yield name, data


def _public_path(kind: type) -> str:
    """Where a class is imported from, without the private modules that versions move."""
    module = kind.__module__
    if module.partition(".")[0] != "sklearn":
        raise DefinitionError(
            f"{kind.__name__} is no transformer of scikit-learn itself",
            found=f"{module}.{kind.__qualname__}",
            try_="@gr.transformation(outputs=..., fit=...) for what you wrote yourself",
        )
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        if getattr(importlib.import_module(path), kind.__name__, None) is kind:
            return f"{path}.{kind.__name__}"
    raise DefinitionError(f"{kind.__name__} cannot be imported by its name", found=f"{module}.{kind.__qualname__}")


def _class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] != "sklearn":
        raise DefinitionError(f"{path!r} is no class of scikit-learn")
    try:
        base = importlib.import_module("sklearn.base").BaseEstimator
        kind = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed", asked_by=path, try_="pip install 'grange[sklearn]'"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise DefinitionError(f"{path!r} is no class of this scikit-learn")
    return kind


def _data(value: Any, where: str) -> Any:
    """A setting as JSON-able data; what JSON lacks is a mapping of its kind to its parts."""
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {"estimator": _estimator_data(value)}
    if isinstance(value, type):
        return {"type": _type_name(value, where)}
    if hasattr(value, "tolist"):
        value = value.tolist()
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case list():
            return [_data(item, where) for item in value]
        case tuple():
            return {"tuple": [_data(item, where) for item in value]}
        case dict() if all(isinstance(key, str) for key in value):
            return {"dict": {key: _data(item, where) for key, item in value.items()}}
        case slice():
            return {"slice": [value.start, value.stop, value.step]}
        case _:
            raise DefinitionError(
                f"{where} is no data, so the transformer cannot be kept",
                found=f"{value!r:.80} ({type(value).__name__})",
                try_="@gr.transformation(outputs=..., fit=...) for what you wrote yourself",
            )


def _value_of(data: Any) -> Any:
    match data:
        case {"estimator": inner}:
            return estimator_of(inner)
        case {"type": name}:
            return _type_of(name)
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(map(_value_of, items))
        case {"dict": items}:
            return {key: _value_of(item) for key, item in items.items()}
        case {"slice": parts}:
            return slice(*parts)
        case list():
            return [_value_of(item) for item in data]
        case _:
            return data


def _type_name(kind: type, where: str) -> str:
    import numpy as np

    if issubclass(kind, np.generic):
        return f"numpy.{kind.__name__}"
    if _BUILT_IN.get(kind.__name__) is kind:
        return kind.__name__
    raise DefinitionError(f"{where} is no data, so the transformer cannot be kept", found=repr(kind))


def _type_of(name: str) -> type:
    import numpy as np

    module, _, own = name.rpartition(".")
    found = getattr(np, own, None) if module == "numpy" else _BUILT_IN.get(name)
    if not isinstance(found, type) or (module == "numpy" and not issubclass(found, np.generic)):
        raise DefinitionError(f"{name!r} is no type of a scikit-learn setting")
    return found
