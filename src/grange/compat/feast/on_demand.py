"""On-demand feature views as transformations: the function's own text, inside of one that takes columns.

Feast hands a function one frame (or a dict of lists) and takes one back; Grange hands it a column per argument. The
function is carried over as it is written, with the imports, constants and helpers of its module that it uses, so that
a transformation's text is whole.
"""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grange.compat.feast.text import INDENT, call, literal, mapped
from grange.compat.feast.values import Function, Module

FRAME: Final = "pandas"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A transformation's text."""

    text: str
    imports: tuple[str, ...]
    """Import statements of the module that it needs."""
    foreign: tuple[str, ...]
    """What it uses of other files of the repository."""


def used_inputs(function: Function, available: Sequence[str]) -> list[str]:
    """The columns that a function looks at: those that it names in `inputs["..."]`; all where it does something else
    with its argument."""
    named = set(_named(function.node))
    chosen = [name for name in available if name in named]
    return list(available) if not _only_looked_up(function.node) or not chosen else chosen


def wrapped(
    function: Function,
    *,
    name: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    requests: Mapping[str, str],
) -> Wrapped:
    """The text of a transformation.

    Args:
        function: Feast's.
        name: what it is called.
        inputs: by the name that the function has for a column, the argument that holds it.
        outputs: types by name.
        requests: of the arguments that come with the request, their types.
    """
    is_frame = function.decorator.get("mode", FRAME) == FRAME
    singleton = bool(function.decorator.get("singleton", False))
    options = {
        "outputs": mapped({output: literal(dtype) for output, dtype in outputs.items()}),
        **({"requests": mapped({key: literal(dtype) for key, dtype in requests.items()})} if requests else {}),
        **({"mode": literal("pandas")} if is_frame else {}),
        "nulls": literal("pass"),
        **({} if name == function.node.name else {"name": literal(name)}),
    }
    parameters = list(dict.fromkeys(inputs.values()))
    typed = [f"{parameter}: pd.Series" if is_frame else parameter for parameter in parameters]
    body = [*_documentation(function), *_helpers(function), _inner(function), *_calling(
        function.node.name, inputs, list(outputs), is_frame=is_frame, singleton=singleton
    )]  # fmt: skip
    head = f"@{call('gr.transformation', [], options)}\ndef {function.node.name}({', '.join(typed)}):"
    text = head + "\n" + textwrap.indent("\n".join(body), INDENT)
    imports = set(_imports(function))
    if is_frame:
        imports.add("import pandas as pd")
    return Wrapped(text, tuple(sorted(imports)), tuple(_foreign(function)))


def _calling(
    name: str, inputs: Mapping[str, str], outputs: Sequence[str], *, is_frame: bool, singleton: bool
) -> Iterator[str]:
    """The lines that hand the columns to the function and take what it makes of them apart."""
    scalar = is_frame or singleton
    given = mapped({column: argument if scalar else f"[{argument}]" for column, argument in inputs.items()})
    yield ""
    yield f"made = {call(name, [call('pd.DataFrame', [given]) if is_frame else given])}"
    item = "" if scalar else "[0]"
    yield "return " + ", ".join(f"made[{literal(output)}]{item}" for output in outputs)


def _inner(function: Function) -> str:
    """The function as it is written, comments and all, without its decorators."""
    return _source(function.module, function.node)


def _source(module: Module, node: ast.FunctionDef | ast.stmt) -> str:
    """A statement's own text. One that holds text of several lines is written anew: moving it in would change it."""
    inner = copy.deepcopy(node)
    if isinstance(inner, ast.FunctionDef | ast.ClassDef):
        inner.decorator_list = []
    long = [each for each in ast.walk(inner) if isinstance(each, ast.Constant) and "\n" in str(each.value)]
    docstring = ast.get_docstring(inner, clean=False) if isinstance(inner, ast.FunctionDef) else None
    if any(each.value != docstring for each in long):
        return ast.unparse(inner)
    lines = module.text.splitlines()
    return "\n".join(lines[node.lineno - 1 : node.end_lineno])


def _documentation(function: Function) -> Iterator[str]:
    text = function.decorator.get("description") or ast.get_docstring(function.node)
    if isinstance(text, str) and text.strip():
        yield f'"""{text.strip().splitlines()[0]}"""' if '"' not in text else literal(text.strip())


def _named(node: ast.FunctionDef) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _only_looked_up(node: ast.FunctionDef) -> bool:
    """Whether a function does nothing with its argument but take columns out of it by name."""
    if not node.args.args:
        return False
    argument = node.args.args[0].arg
    looked_up = {
        id(each.value)
        for each in ast.walk(node)
        if isinstance(each, ast.Subscript) and isinstance(each.slice, ast.Constant)
    }
    uses = [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and each.id == argument and isinstance(each.ctx, ast.Load)
    ]
    return all(id(each) in looked_up for each in uses)


def _globals_of(node: ast.AST) -> set[str]:
    """The names that a function takes from around it, as far as they can be names of its module."""
    bound = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    loaded = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    return loaded - bound


def _statements(module: Module) -> dict[str, ast.stmt]:
    """The functions, classes and plain values of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for statement in module.tree.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = statement
            case _:
                pass
    return found


def _needed(function: Function) -> tuple[list[str], set[str]]:
    """The statements of its module that a function needs, by name, each after those that it needs; and all names that
    it and they take from around them."""
    statements = _statements(function.module)
    ordered: list[str] = []
    names: set[str] = set()

    def visit(node: ast.AST, path: frozenset[str]) -> None:
        for name in sorted(_globals_of(node)):
            names.add(name)
            if name in statements and name not in path and name not in ordered:
                visit(statements[name], path | {name})
                ordered.append(name)

    inner = copy.deepcopy(function.node)
    inner.decorator_list = []
    visit(inner, frozenset({function.node.name}))
    return ordered, names


def _helpers(function: Function) -> Iterator[str]:
    statements = _statements(function.module)
    for name in _needed(function)[0]:
        if not _is_feast(function.module.values.get(name)):
            yield _source(function.module, statements[name])
            if isinstance(statements[name], ast.FunctionDef):
                yield ""


def _is_feast(value: Any) -> bool:
    return type(value).__name__ in ("Call", "Function", "Projection")


def _imports(function: Function) -> Iterator[str]:
    """The imports of outside packages that a function needs, as statements."""
    names = _needed(function)[1]
    for name, target in function.module.imports.items():
        if name not in names or _is_local(function, target) or target.partition(".")[0] == "feast":
            continue
        package, _, last = target.rpartition(".")
        if name == target:
            yield f"import {target}"
        elif package and _is_from(function.module, name):
            yield f"from {package} import {last}" + ("" if last == name else f" as {name}")
        else:
            yield f"import {target} as {name}"


def _is_from(module: Module, name: str) -> bool:
    return any(
        isinstance(statement, ast.ImportFrom) and any((item.asname or item.name) == name for item in statement.names)
        for statement in module.tree.body
    )


def _is_local(function: Function, target: str) -> bool:
    """Whether an import is of another file of the repository: those are not packages that a project can import."""
    return target.rpartition(".")[0] in function.module.siblings or target in function.module.siblings


def _foreign(function: Function) -> Iterator[str]:
    names = _needed(function)[1]
    for name, target in function.module.imports.items():
        if name in names and _is_local(function, target):
            yield target


__all__ = ["Wrapped", "used_inputs", "wrapped"]
