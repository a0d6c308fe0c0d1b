"""Reading a Feast repository's Python files without running them.

Definitions are calls of Feast's classes with arguments that are written out: literals, names of other definitions,
`timedelta(...)`, paths put together of literals. These are worked out from the syntax tree. What only running the code
would tell (the environment, a database, a loop) stays unread, and says where it is.
"""

from __future__ import annotations

import ast
import datetime as dt
import fnmatch
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from grange.compat.feast.values import Call, FeastType, Function, Module, Note, Place, Projection, Unreadable
from grange.errors import SourceError

TYPES: Final = frozenset(
    {
        "Bytes", "String", "Int32", "Int64", "Float32", "Float64", "Bool", "UnixTimestamp", "Uuid", "TimeUuid",
        "Decimal", "Json", "Map", "ScalarMap", "PdfBytes", "ImageBytes", "ZonedTimestamp",
    }
)  # fmt: skip
DECORATORS: Final = frozenset({"on_demand_feature_view", "stream_feature_view", "batch_feature_view"})
_IGNORED: Final = frozenset({"__pycache__", "venv", "env", "node_modules", "site-packages"})
_LENGTHS: Final = frozenset({"days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"})
_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MOST_ITEMS: Final = 100_000
"""Of a list that is worked out; a repository is read, not run."""


class _UnreadError(Exception):
    """A value that only running the code would tell."""

    def __init__(self, reason: str, node: ast.AST) -> None:
        super().__init__(reason)
        self.node = node


class Repository:
    """The Python files of a Feast repository, read.

    Args:
        folder: where its `feature_store.yaml` lies.

    Raises:
        SourceError: a file is no Python, or not UTF-8.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[Note] = []
        files = list(_python_files(folder))
        self._modules = {module.dotted: module for module in (_module(folder, file) for file in files)}
        for module in self._modules.values():
            module.siblings = frozenset(self._modules)
        self._busy: set[str] = set()
        self._done: set[str] = set()

    def modules(self) -> list[Module]:
        """All files, with what each defines."""
        for module in self._modules.values():
            self._read(module)
        return list(self._modules.values())

    def definitions(self) -> list[Call | Function]:
        """Every definition that a module holds under a global name, each once, in the order of files and lines."""
        found: dict[int, Call | Function] = {}
        for module in self.modules():
            for value in module.values.values():
                if isinstance(value, Call | Function):
                    found.setdefault(id(value), value)
        return list(found.values())

    # statements

    def _read(self, module: Module) -> None:
        if module.dotted in self._done or module.dotted in self._busy:
            return
        self._busy.add(module.dotted)
        for statement in module.tree.body:
            self._statement(module, statement)
        self._busy.discard(module.dotted)
        self._done.add(module.dotted)

    def _statement(self, module: Module, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(module, node)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._bind(module, name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._bind(module, name, value)
            case ast.FunctionDef(decorator_list=[*decorators]) if decorators:
                self._function(module, node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Pass():
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                pass
            case _:
                self._skipped(module, node)

    def _import(self, module: Module, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for item in node.names:
                module.imports[item.asname or item.name.partition(".")[0]] = (
                    item.name if item.asname else item.name.partition(".")[0]
                )
            return
        source = _absolute(module, node)
        for item in node.names:
            if item.name == "*":
                self._import_all(module, source)
                continue
            name = item.asname or item.name
            module.imports[name] = f"{source}.{item.name}"
            local = self._local(module, source)
            if local is not None and item.name in local.values:
                module.values[name] = local.values[item.name]

    def _import_all(self, module: Module, source: str) -> None:
        local = self._local(module, source)
        if local is not None:
            module.values |= local.values
            module.imports |= {name: target for name, target in local.imports.items() if name not in module.imports}
        elif source.partition(".")[0] == "feast":
            module.imports |= {name: f"{source}.{name}" for name in (*TYPES, "Array", "Set")}

    def _local(self, module: Module, source: str) -> Module | None:
        """A file of the repository by the name that it is imported by, read."""
        found = self._modules.get(source)
        if found is None:
            # a repository is often imported by the name of its own folder, or of one above
            ends = [each for name, each in self._modules.items() if source.endswith(f".{name}")]
            found = ends[0] if len(ends) == 1 else None
        if found is not None and found is not module:
            self._read(found)
        return found

    def _bind(self, module: Module, name: str, value: ast.expr) -> None:
        try:
            module.values[name] = _Evaluation(module).of(value)
        except _UnreadError as error:
            place = Place(module.file, getattr(error.node, "lineno", value.lineno))
            module.values[name] = Unreadable(str(error), place)
            if _calls_feast(module, value):
                self.notes.append(
                    Note(place, f"{name!r} cannot be read: {error}", "write its arguments out, or define it by hand")
                )

    def _function(self, module: Module, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            kind = _canonical(module, called)
            if kind not in DECORATORS:
                continue
            place = Place(module.file, node.lineno)
            try:
                arguments = _Evaluation(module).of(decorator) if isinstance(decorator, ast.Call) else None
            except _UnreadError as error:
                self.notes.append(
                    Note(place, f"{node.name!r} cannot be read: {error}", "write the decorator's arguments out")
                )
                return
            call = Call(kind, (), {} if arguments is None else arguments.named, place)
            module.values[node.name] = Function(call, node, module)
            return

    def _skipped(self, module: Module, node: ast.stmt) -> None:
        if any(_calls_feast(module, each) for each in ast.walk(node) if isinstance(each, ast.expr)):
            self.notes.append(
                Note(
                    Place(module.file, node.lineno),
                    f"definitions inside of `{type(node).__name__.lower()}` are not read: that would be running it",
                    "write them out at the top of the module, or define them by hand",
                )
            )


class _Evaluation:
    """Works out an expression of a module."""

    def __init__(self, module: Module, local: Mapping[str, Any] | None = None) -> None:
        self._module = module
        self._local = dict(local or {})

    def of(self, node: ast.expr) -> Any:
        """The value.

        Raises:
            _UnreadError: only running the code would tell.
        """
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.List(elts=items) | ast.Set(elts=items):
                return [self.of(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.of(item) for item in items)
            case ast.Dict(keys=keys, values=values) if all(keys):
                return {self.of(key): self.of(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._number(operand)
            case ast.JoinedStr(values=parts):
                return "".join(str(self._written(part)) for part in parts)
            case ast.BinOp():
                return self._operation(node)
            case ast.ListComp():
                return self._comprehension(node)
            case ast.Subscript(value=value, slice=chosen):
                return self._subscript(self.of(value), self.of(chosen), node)
            case ast.Call():
                return self._call(node)
            case ast.Attribute():
                return self._attribute(node)
            case _:
                raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)

    def _name(self, name: str, node: ast.expr) -> Any:
        if name in self._local:
            return self._local[name]
        if name in self._module.values:
            value = self._module.values[name]
            if isinstance(value, Unreadable):
                raise _UnreadError(f"{name!r}, which {value.reason}", node)
            return value
        kind = _canonical(self._module, node)
        if kind in TYPES:
            return FeastType(kind)
        if kind:
            return kind  # a class, where its kind is what is meant
        if name == "__file__":
            return self._module.file
        raise _UnreadError(f"{name!r} is not defined where it can be read", node)

    def _attribute(self, node: ast.Attribute) -> Any:
        dotted = _dotted(self._module, node)
        parts = dotted.split(".")
        if parts[0] == "feast" and parts[-1] in TYPES:
            return FeastType(parts[-1])
        if "ValueType" in parts[:-1]:
            return parts[-1]
        if isinstance(node.value, ast.expr):
            value = self.of(node.value)
            if isinstance(value, Path | PurePosixPath) and node.attr in ("parent", "name", "stem"):
                return getattr(value, node.attr)
            if isinstance(value, Call | Function) and node.attr == "name":
                return value.name
        raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)

    def _written(self, part: ast.expr) -> Any:
        if isinstance(part, ast.FormattedValue):
            value = self.of(part.value)
            if (
                part.format_spec is not None
                or part.conversion != -1
                or not isinstance(value, str | int | PurePosixPath)
            ):
                raise _UnreadError(f"`{ast.unparse(part):.80}` would have to be run", part)
            return value
        return self.of(part)

    def _number(self, node: ast.expr) -> Any:
        value = self.of(node)
        if isinstance(value, bool) or not isinstance(value, int | float | dt.timedelta):
            raise _UnreadError(f"`{ast.unparse(node):.80}` is no number", node)
        return value

    def _operation(self, node: ast.BinOp) -> Any:
        left, right = self.of(node.left), self.of(node.right)
        apply = _OPERATORS.get(type(node.op))
        plain = isinstance(left, str | int | float | list | dt.timedelta | PurePosixPath)
        bounded = not isinstance(node.op, ast.Mult) or isinstance(right, int | float | dt.timedelta)
        if (
            apply is None
            or not plain
            or not bounded
            or (isinstance(node.op, ast.Mult) and isinstance(left, str | list))
        ):
            raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)
        try:
            return apply(left, right)
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            raise _UnreadError(f"`{ast.unparse(node):.80}`: {error}", node) from error

    def _comprehension(self, node: ast.ListComp) -> list[Any]:
        if len(node.generators) != 1 or node.generators[0].ifs or not isinstance(node.generators[0].target, ast.Name):
            raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)
        generator, target = node.generators[0], node.generators[0].target
        items = self._items(generator.iter)
        return [_Evaluation(self._module, self._local | {target.id: item}).of(node.elt) for item in items]

    def _items(self, node: ast.expr) -> list[Any]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            bounds = [self._number(argument) for argument in node.args]
            if 1 <= len(bounds) <= 3 and all(isinstance(bound, int) for bound in bounds) and bounds[-1] != 0:
                found = range(*bounds)
                if len(found) <= _MOST_ITEMS:
                    return list(found)
        value = self.of(node)
        if isinstance(value, dict | list | tuple):
            return list(value)
        raise _UnreadError(f"`{ast.unparse(node):.80}` is no list that is written out", node)

    def _subscript(self, value: Any, chosen: Any, node: ast.expr) -> Any:
        if isinstance(value, Call | Function | Projection) and isinstance(chosen, list):
            before = value if isinstance(value, Projection) else Projection(value)
            return Projection(before.of, tuple(chosen), before.alias, before.join_keys)
        if isinstance(value, dict | list | tuple):
            try:
                return value[chosen]
            except (KeyError, IndexError, TypeError) as error:
                raise _UnreadError(f"`{ast.unparse(node):.80}`: {error}", node) from error
        raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            made = self._method(node, node.func)
            if made is not None:
                return made
        dotted = _dotted(self._module, node.func)
        name = dotted.rpartition(".")[2]
        if dotted in ("datetime.timedelta",):
            return self._timedelta(node)
        if dotted in ("pathlib.Path", "pathlib.PurePath", "os.path.join"):
            return PurePosixPath(*[str(self.of(argument)) for argument in node.args])
        if dotted == "os.path.dirname":
            return PurePosixPath(str(self.of(node.args[0]))).parent
        if dotted in ("str", "os.path.abspath", "os.path.realpath", "os.fspath") and len(node.args) == 1:
            return str(self.of(node.args[0]))
        if dotted in ("list", "tuple", "sorted") and len(node.args) == 1:
            return list(self._items(node.args[0]))
        if dotted == "dict" and not node.args:
            return self._named(node)
        if name in ("Array", "Set") and dotted.startswith("feast."):
            return FeastType(name, self._type(node))
        if dotted.startswith("feast."):
            place = Place(self._module.file, node.lineno)
            return Call(name, tuple(self.of(argument) for argument in node.args), self._named(node), place)
        if dotted in ("os.getenv", "os.environ.get"):
            raise _UnreadError("it is taken from the environment", node)
        raise _UnreadError(f"`{ast.unparse(node):.80}` would have to be run", node)

    def _method(self, node: ast.Call, function: ast.Attribute) -> Any:
        """What some methods give that definitions and paths have; None for others."""
        if function.attr not in ("with_name", "with_join_key_map", "resolve", "absolute", "as_posix", "joinpath"):
            return None
        value = self.of(function.value)
        if isinstance(value, PurePosixPath):
            parts = [str(self.of(argument)) for argument in node.args]
            return str(value) if function.attr == "as_posix" else value.joinpath(*parts)
        if not isinstance(value, Call | Function | Projection) or len(node.args) != 1:
            return None
        before = value if isinstance(value, Projection) else Projection(value)
        argument = self.of(node.args[0])
        if function.attr == "with_name" and isinstance(argument, str):
            return Projection(before.of, before.features, argument, before.join_keys)
        if function.attr == "with_join_key_map" and isinstance(argument, dict):
            return Projection(before.of, before.features, before.alias, tuple(argument.items()))
        return None

    def _type(self, node: ast.Call) -> FeastType:
        item = self.of(node.args[0]) if len(node.args) == 1 else None
        if not isinstance(item, FeastType):
            raise _UnreadError(f"`{ast.unparse(node):.80}` is no type", node)
        return item

    def _timedelta(self, node: ast.Call) -> dt.timedelta:
        days = [self._number(argument) for argument in node.args]
        named = {key: self.of(value) for key, value in ((item.arg, item.value) for item in node.keywords) if key}
        if len(days) > 1 or not named.keys() <= _LENGTHS:
            raise _UnreadError(f"`{ast.unparse(node):.80}` cannot be read", node)
        try:
            return dt.timedelta(*days, **named)
        except (TypeError, OverflowError) as error:
            raise _UnreadError(f"`{ast.unparse(node):.80}`: {error}", node) from error

    def _named(self, node: ast.Call) -> dict[str, Any]:
        if any(keyword.arg is None for keyword in node.keywords):
            raise _UnreadError(f"`{ast.unparse(node.func)}(**...)` would have to be run", node)
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            assert keyword.arg is not None
            # functions and the like that no definition of Grange needs are left out, not an error
            named[keyword.arg] = None if isinstance(keyword.value, ast.Lambda) else self.of(keyword.value)
        return named


def _python_files(folder: Path) -> Iterator[Path]:
    ignored = _ignored_patterns(folder)
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).parts
        if any(part in _IGNORED or part.startswith(".") for part in parts):
            continue
        if not any(fnmatch.fnmatch("/".join(parts), pattern) for pattern in ignored):
            yield file


def _ignored_patterns(folder: Path) -> list[str]:
    file = folder / ".feastignore"
    if not file.is_file():
        return []
    lines = (line.strip().rstrip("/") for line in file.read_text(encoding="utf-8").splitlines())
    return [pattern for line in lines if line and not line.startswith("#") for pattern in (line, f"{line}/*")]


def _module(folder: Path, file: Path) -> Module:
    relative = file.relative_to(folder)
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise SourceError(
            f"{relative} cannot be read", found=str(error), try_="leave it out with a line in .feastignore"
        ) from error
    dotted = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    return Module(relative.as_posix(), dotted, tree, text)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    """The dotted name of a module that another one imports from."""
    if not node.level:
        return node.module or ""
    is_package = module.file.endswith("__init__.py")
    parts = module.dotted.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, *filter(None, [node.module])])


def _dotted(module: Module, node: ast.expr) -> str:
    """A name with what it was imported as: `feast.types.Int64`."""
    match node:
        case ast.Name(id=name):
            return module.imports.get(name, name)
        case ast.Attribute(value=value, attr=attribute):
            return f"{_dotted(module, value)}.{attribute}"
        case _:
            return ""


def _canonical(module: Module, node: ast.expr) -> str:
    """The name of one of Feast's own things; empty for anything else."""
    dotted = _dotted(module, node)
    return dotted.rpartition(".")[2] if dotted.startswith("feast.") else ""


def _calls_feast(module: Module, node: ast.expr) -> bool:
    return any(_canonical(module, each.func) for each in ast.walk(node) if isinstance(each, ast.Call))


__all__ = ["Repository"]
