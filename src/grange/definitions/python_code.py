"""Python functions as they are kept: their own source text, and a hash of what they do.

Two functions have one hash when they compute the same: layout, comments, docstrings and decorators do not count
(VER-2); what a function brings along does: the values that it closes over, and defaults of its parameters.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import inspect
import pathlib
import re
import sys
import textwrap
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from grange.errors import DefinitionError

_BY_REPR: Final[frozenset[type]] = frozenset(
    (
        type(None), type(...), bool, int, float, complex, str, bytes, range, dt.date, dt.time, dt.datetime,
        dt.timedelta, dt.timezone, decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PosixPath,
        pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath,
    )
)  # fmt: skip
"""Types whose `repr` is their whole value."""
_TYPE_MODULES: Final = ("numpy.dtypes", "polars.datatypes.classes")
"""Where data types are defined, whose `repr` is all of them too."""
_LAMBDA: Final = "<lambda>"
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def source_text_of(function: Callable[..., Any]) -> str:
    """A function's own source; empty for one that was defined at a prompt: it runs, and its hash is of its bytecode."""
    return _own_text(inspect.unwrap(function))


def code_hash_of(function: Callable[..., Any] | None, text: str) -> str:
    """Hash of what a function does, whatever its layout (VER-2); of the text alone without a function.

    Args:
        function: the function, for what it brings along: closed-over values, defaults that its text does not write
            out, the wrapper that a decorator put around it. One that brings nothing along has the hash of its text.
        text: its source, as `source_text_of` has it; empty where there is none.

    Raises:
        DefinitionError: it closes over a value that cannot be told from another.
    """
    return sha256(text) if function is None else _Teller(_name(function)).hash_of(function, text)


def compile_function(code: str | ast.Module, name: str) -> Callable[..., Any]:
    """The function that source code defines, in a namespace of its own. Runs the code: callers ask whether they may.

    Raises:
        DefinitionError: it is no Python, or defines no function of this name.
    """
    space: dict[str, Any] = {"__name__": f"grange_stored.{name}"}
    try:
        exec(compile(code, f"<{name}>", "exec"), space)
    except Exception as error:
        text = code if isinstance(code, str) else ast.unparse(code)
        raise DefinitionError(
            f"the code of {name!r} cannot be loaded: {type(error).__name__}: {error}", found=text.strip()[:200]
        ) from error
    found = space.get(name)
    if not callable(found):
        made = [key for key, value in space.items() if callable(value) and not key.startswith("__")]
        raise DefinitionError(f"the code defines no function {name!r}", found=", ".join(made) or "no function")
    function: Callable[..., Any] = getattr(getattr(found, "code", None), "function", None) or found
    return function


def sha256(text: str) -> str:
    """The hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _own_text(function: Any) -> str:
    """Source of a function itself, not of what it wraps."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return ""
    if code.co_name == _LAMBDA:
        return _lambda_text(function, code)
    try:
        return textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError):
        return ""


def _lambda_text(function: Callable[..., Any], code: types.CodeType) -> str:
    """A lambda cut out of its statement, which may have several; empty where it cannot be told which it is."""
    try:
        source = "".join(inspect.findsource(function)[0])
    except (OSError, TypeError):
        return ""
    found = [node for node in _lambdas(source) if node.lineno == code.co_firstlineno]
    if len(found) > 1:
        found = [node for node in found if _is_within(code, node.body)]
    # of lambdas in one another the innermost: it begins last
    chosen = max(found, key=lambda node: node.col_offset, default=None)
    return "" if chosen is None else ast.get_source_segment(source, chosen) or ""


@functools.lru_cache(maxsize=8)
def _lambdas(source: str) -> tuple[ast.Lambda, ...]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # the file changed since it was imported
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Lambda))


def _is_within(code: types.CodeType, body: ast.expr) -> bool:
    """Whether instructions come from an expression; False where positions are not kept (python -X no_debug_ranges)."""
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    places = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column is not None
        if (line, column) != (end_line, end_column)  # of the call itself
    ]
    return bool(places) and all(start <= low and high <= end for low, high in places)


def _tree_of(text: str) -> ast.AST | None:
    """The syntax tree of a function's text, without what does not count; None when the text is no statement."""
    try:
        tree = ast.parse(f"({text}\n)" if text.startswith("lambda") else text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _unwritten_defaults(function: Callable[..., Any], tree: ast.AST | None) -> Iterator[tuple[str, Any]]:
    """Defaults by parameter, but for those that the text writes out."""
    nodes = () if tree is None else ast.walk(tree)
    own = next((node for node in nodes if isinstance(node, _FUNCTIONS)), None)
    written = {} if own is None else _default_nodes(own.args)
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        if parameter.default is not parameter.empty and not _is_literal(written.get(name)):
            yield name, parameter.default


def _default_nodes(arguments: ast.arguments) -> dict[str, ast.expr | None]:
    places = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    given = len(arguments.defaults)
    named = zip((item.arg for item in arguments.kwonlyargs), arguments.kw_defaults, strict=True)
    return dict(zip(places[len(places) - given :], arguments.defaults, strict=True)) | dict(named)


def _is_literal(node: ast.expr | None) -> bool:
    if node is None:
        return False
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _bytecode(code: types.CodeType) -> str:
    """Instructions and what they use, the same in every process."""
    constants = ", ".join(
        _bytecode(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts
    )
    comma = "," if len(code.co_consts) == 1 else ""
    return f"({code.co_code!r}, ({constants}{comma}), {code.co_names!r})"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


@dataclasses.dataclass(frozen=True, slots=True)
class _Teller:
    """Says functions and values in text that is another for another function or value."""

    asked: str
    """The function that brings them along, for messages."""
    within: tuple[int, ...] = ()
    """What is being told: things may be part of themselves."""

    def hash_of(self, function: Callable[..., Any], text: str) -> str:
        """Of a function and what it brings along."""
        inner = inspect.unwrap(function)
        code = getattr(inner, "__code__", None)
        if not isinstance(code, types.CodeType):
            return sha256(self.value(inner, "is an object"))
        tree = _tree_of(text) if text else None
        teller = dataclasses.replace(self, within=(*self.within, id(function)))
        own = ast.dump(tree) if tree is not None else _bytecode(code)
        brought = [*teller._brought(inner, tree), *teller._wrappers(function, inner)]
        return sha256("\n".join([own, *brought]))

    def value(self, value: Any, where: str) -> str:
        """A value that a function brings along.

        Args:
            value: the value.
            where: what the function has to do with it, for messages.

        Raises:
            DefinitionError: another may look the same.
        """
        if id(value) in self.within:
            return "itself"
        kind = type(value)
        if kind in _BY_REPR:
            return repr(value)
        inside = dataclasses.replace(self, within=(*self.within, id(value)))
        parts = inside._parts(value, where)
        if parts is not None:
            return f"{kind.__module__}.{kind.__qualname__}({', '.join(parts)})"
        if isinstance(value, types.FunctionType | types.MethodType):
            return f"function {self.hash_of(value, source_text_of(value))}"
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        named = _importable_name(value)
        if named is None:
            raise DefinitionError(
                f"function {self.asked!r} {where}, which cannot be told from another",
                found=f"{value!r:.80} ({kind.__module__}.{kind.__qualname__})",
                try_="make it an argument or a module constant",
            )
        return named

    def _brought(self, function: Callable[..., Any], tree: ast.AST | None) -> Iterator[str]:
        code: types.CodeType = function.__code__
        cells = getattr(function, "__closure__", None) or ()
        for name, cell in zip(code.co_freevars, cells, strict=True):
            yield f"{name} = {self._cell(cell, name)}"
        if isinstance(function, types.MethodType):
            yield f"of {self.value(function.__self__, 'is a method of an object')}"
        for name, default in _unwritten_defaults(function, tree):
            yield f"{name}: {self.value(default, f'has a default for {name!r}')}"

    def _cell(self, cell: types.CellType, name: str) -> str:
        try:
            value = cell.cell_contents
        except ValueError:  # the function itself, which has no name yet
            return "unset"
        return self.value(value, f"closes over {name!r}")

    def _wrappers(self, function: Any, inner: Any) -> Iterator[str]:
        """What decorators put around a function; those that are not of Python only change how it runs."""
        while function is not inner:
            if isinstance(function, types.FunctionType):
                tree = _tree_of(text) if (text := _own_text(function)) else None
                yield "in " + (ast.dump(tree) if tree is not None else _bytecode(function.__code__))
                yield from self._brought(function, tree)
            function = function.__wrapped__

    def _parts(self, value: Any, where: str) -> Sequence[str] | None:
        """What a value is made of, where that is all of it."""
        kind = type(value)
        if kind in (list, tuple):
            return [self.value(item, where) for item in value]
        if kind in (set, frozenset):
            return sorted(self.value(item, where) for item in value)
        if kind in (dict, types.MappingProxyType):
            return [f"{self.value(key, where)}: {self.value(item, where)}" for key, item in value.items()]
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            plain = value.tolist()
            return None if type(plain) is kind else [str(value.dtype), self.value(plain, where)]
        if kind.__module__ in _TYPE_MODULES:
            return [repr(value)]
        if isinstance(value, enum.Enum):
            return [value.name]
        if kind is slice:
            return [self.value(item, where) for item in (value.start, value.stop, value.step)]
        if isinstance(value, zoneinfo.ZoneInfo) and value.key:
            return [value.key]
        if isinstance(value, re.Pattern):
            return [repr(value.pattern), str(value.flags)]
        if kind is functools.partial:
            return [self.value(item, where) for item in (value.func, value.args, value.keywords)]
        if dataclasses.is_dataclass(value) and _importable_name(kind) is not None:
            return [self.value(getattr(value, item.name), where) for item in dataclasses.fields(value)]
        return None


def _importable_name(value: Any) -> str | None:
    """Module and name of a thing that this name leads to; None of any other."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None) or type(value).__module__
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None
