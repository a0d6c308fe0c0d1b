"""Transformations from code that comes as text: read without being run.

What a function is called, what it takes and what its decorator says is told from the syntax tree. Whether the code
may run, where it is stored, is for the operator of that place to say.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from grange.definitions.python_code import compile_function, sha256
from grange.definitions.transformations import Mode, PythonCode, Transformation, learns_nothing, mode_of_annotation
from grange.errors import DefinitionError
from grange.types import Schema


def transformation_from_code(
    text: str,
    *,
    name: str | None = None,
    outputs: Schema | Mapping[str, Any] | None = None,
    mode: Mode | None = None,
    description: str = "",
) -> Transformation:
    """A transformation from the text of a module with one function (or of the one that `name` says).

    What `@gr.transformation(...)` above the function says in literals counts too; arguments here take precedence.

    Raises:
        DefinitionError: no Python, no such function, several of them, no types of outputs; it takes `state`, which is
            for functions that learn.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise DefinitionError(f"the code is not Python: {error.msg} (line {error.lineno})") from error
    function = _function(tree, name)
    said = _decorated(function)
    own = said.pop("name", function.name)
    if own != function.name:
        raise DefinitionError(f"function {function.name!r} is decorated with another name", found=repr(own))
    parameters = [*function.args.posonlyargs, *function.args.args]
    if function.args.vararg or function.args.kwarg or function.args.kwonlyargs or not parameters:
        raise DefinitionError(f"function {own!r} must take one plain argument per input", try_="def f(amount, total):")
    if "inputs" not in said and any(item.arg == "state" for item in parameters):
        raise learns_nothing(f"function {own!r}")
    given = outputs or said.get("outputs")
    first = parameters[0].annotation
    return Transformation(
        own,
        PythonCode(own, "", text, stored_hash(text)),
        inputs=said.get("inputs") or [item.arg for item in parameters],
        outputs={own: given} if isinstance(given, str) else given,
        requests=said.get("requests"),
        mode=mode or said.get("mode") or mode_of_annotation("" if first is None else ast.unparse(first)),
        nulls=said.get("nulls", "skip"),
        description=description or (ast.get_docstring(function) or ""),
    )


def _function(tree: ast.Module, name: str | None) -> ast.FunctionDef:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    chosen = [node for node in functions if name is None or node.name == name]
    if len(chosen) == 1:
        return chosen[0]
    decorated = [node for node in chosen if node.decorator_list]
    if len(decorated) == 1:
        return decorated[0]
    raise DefinitionError(
        f"the code has no function {name!r}" if name else "the code must have exactly one function",
        found=", ".join(node.name for node in functions) or "no function",
        try_="name the one that is meant",
    )


def _decorated(function: ast.FunctionDef) -> dict[str, Any]:
    """The literal arguments of the function's `transformation(...)` decorator."""
    said: dict[str, Any] = {}
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or not _says_transformation(decorator):
            continue
        for keyword in decorator.keywords:
            if keyword.arg is None or keyword.arg == "fit":
                raise DefinitionError(f"function {function.name!r}: code that comes as text takes no {keyword.arg}=")
            try:
                said[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError as error:
                raise DefinitionError(
                    f"function {function.name!r}: {keyword.arg} of its decorator is not written out",
                    found=ast.unparse(keyword.value),
                    try_="plain text, numbers and dicts of them",
                ) from error
    return said


def _says_transformation(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).split(".")[-1] == "transformation"


def stored_function(text: str, name: str) -> Callable[..., Any]:
    """The function that a stored text defines. Runs the text: callers ask whether they may.

    What `@gr.transformation(...)` says is in the definition already, so the text needs no import for it.

    Raises:
        DefinitionError: as `compile_function`.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [item for item in node.decorator_list if not _says_transformation(item)]
    return compile_function(tree, name)


def stored_hash(text: str) -> str:
    """Hash of a module's text: its layout, comments, docstrings and decorators do not count (VER-2)."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return sha256(ast.dump(tree))
