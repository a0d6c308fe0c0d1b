"""A project's definition modules: finding them, running them, and taking the definitions out of them.

The modules are the project's own code and run as such, with the project's folder importable while they load and
not after. Two projects, or two versions of one file, can be loaded in one process: nothing stays under a name
that another could meet.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.util
import linecache
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from grange.config import Config
from grange.definitions import Entity, FeatureGroup, FeatureView
from grange.definitions.serialize import Definition
from grange.errors import DefinitionError, DefinitionLoadError, GrangeError, closest_names

EXAMPLE: Final = 'gr.FeatureGroup("user_spend", entities=[user], source=gr.FileSource("data/spend.parquet", ...))'

_MODULE_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LOADING: Final = threading.RLock()
"""Loading changes `sys.path` and `sys.modules`, which all threads share."""


def load_definitions(config: Config, project: Path) -> list[Definition]:
    """The definitions of a project: every entity, feature group and feature view that its modules hold.

    Takes the values of module globals, and the items of lists and tuples among them, in the order of
    `config.definitions`, then of definition; the same definition met twice counts once. A module may import
    others of its own folder and of the project's. It is run anew at each call, and its siblings too.

    Args:
        config: its `definitions` are files and globs (`features/*.py`, in the order of sorted paths), relative
            to the project, or names of modules importable from there (`my_features.users`).
        project: the project's folder.

    Raises:
        DefinitionLoadError: a file or module is not there, or raises; says where, and chains the original.
        DefinitionError: the modules hold no definition.
    """
    root = Path(project).absolute()
    found: list[Definition] = []
    with _LOADING, _importable(root) as session:
        modules = [module for entry in config.definitions for module in session.load(entry)]
        for module in modules:
            for definition in _definitions_in(vars(module).values()):
                if not any(definition is known for known in found):
                    found.append(definition)
    if not found:
        raise DefinitionError(
            "the project defines nothing",
            asked_by=f"definitions = {list(config.definitions)} in {root}",
            found="no entity, feature group or feature view in any of them",
            try_=f"write one: {EXAMPLE}",
        )
    return found


def _definitions_in(values: Iterable[object]) -> Iterator[Definition]:
    for value in values:
        match value:
            case Entity() | FeatureGroup() | FeatureView():
                yield value
            case list() | tuple():
                yield from _definitions_in(value)
            case _:
                pass


class _Session:
    """The modules loaded by one call, and the folders importable meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: list[str] = []
        self._loaded: dict[str, ModuleType] = {}
        self.make_importable(root)

    def make_importable(self, folder: Path) -> None:
        """Put a folder on the path, before everything else but those put there earlier."""
        if str(folder) not in self.folders:
            sys.path.insert(len(self.folders), str(folder))
            self.folders.append(str(folder))

    def load(self, entry: str) -> Iterator[ModuleType]:
        """The modules of one entry of `definitions`."""
        if _MODULE_NAME.fullmatch(entry) and not entry.endswith(".py"):
            yield self._import(entry)
            return
        for path in self._paths(entry):
            yield self._run(path)

    def _paths(self, entry: str) -> list[Path]:
        pattern = os.path.join(self.root, entry)  # noqa: PTH118 - an absolute entry stays as it is
        if glob.has_magic(entry):
            paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if path.endswith(".py")]  # noqa: PTH207
            if paths:
                return paths
            raise DefinitionLoadError(
                f"no definition file matches {entry!r}",
                found=_nearby(self.root),
                try_="correct definitions = [...] in grange.toml",
            )
        path = Path(os.path.normpath(pattern))
        if path.is_file():
            return [path]
        raise DefinitionLoadError(
            f"there is no definition file {entry!r}",
            asked_by=f"the project {self.root}",
            found="a folder; write 'folder/*.py'" if path.is_dir() else _nearby(self.root),
            closest=closest_names(entry, [file.name for file in self.root.glob("*.py")]),
            try_="grange init makes a project to start from; definitions = [...] in grange.toml names the files",
        )

    def _run(self, path: Path) -> ModuleType:
        """Run a file as a module of its own, or take it when a sibling imported it already."""
        for module in [*self._loaded.values(), *map(sys.modules.get, _natural_names(path, self.folders))]:
            file = getattr(module, "__file__", None)
            if isinstance(module, ModuleType) and file is not None and _same(file, path):
                return module
        self.make_importable(path.parent)
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        name = f"_grange_definitions_{digest}.{path.stem}".replace(".", "_")
        natural = _natural_names(path, self.folders)
        # named as people know it, wherever the project lies: the registry keeps it as a transform's module
        module = ModuleType(natural[0] if natural else name)
        module.__file__ = str(path)
        module.__spec__ = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
        linecache.checkcache(str(path))
        self._loaded[name] = module
        # under its natural names too, so that a sibling's import finds this module and runs nothing twice
        for each in (name, *natural):
            sys.modules[each] = module
        with _explained(str(path), self.folders):
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
        return module

    def _import(self, name: str) -> ModuleType:
        with _explained(f"module {name!r}", self.folders):
            return importlib.import_module(name)


@contextmanager
def _importable(root: Path) -> Iterator[_Session]:
    """The project's folder on the path, for a `with` block; afterwards path and modules are as before.

    Modules that were loaded from the project's folders are forgotten, so that the next project's `shared.py` is
    its own; what else they imported stays. A module of another place that has the name of one of the project's
    steps aside meanwhile, the standard library's excepted.
    """
    importlib.invalidate_caches()
    path, bytecode = list(sys.path), sys.dont_write_bytecode
    aside = {name: sys.modules.pop(name) for name in _shadowing(root)}
    before = set(sys.modules)
    sys.dont_write_bytecode = True  # a file edited twice in a second must not meet its older bytecode
    session = _Session(root)
    try:
        yield session
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        for name in set(sys.modules) - before:
            if not name.startswith("_grange_definitions_") and _comes_from(name, session.folders):
                del sys.modules[name]
        sys.modules.update(aside)


def _shadowing(root: Path) -> list[str]:
    """Loaded modules that have the top-level name of one of the project's files or packages."""
    own = {entry.stem for entry in root.glob("*.py")} | {entry.parent.name for entry in root.glob("*/__init__.py")}
    own -= {*sys.stdlib_module_names, "grange"}
    return [name for name in sys.modules if name.partition(".")[0] in own]


def _comes_from(name: str, folders: list[str]) -> bool:
    """Whether a module's top-level package lies directly in one of the folders."""
    module = sys.modules.get(name.partition(".")[0]) or sys.modules[name]
    file = getattr(module, "__file__", None)
    if file is not None:
        place = Path(file).parent
        return str(place.parent if Path(file).name == "__init__.py" else place) in folders
    return any(str(Path(entry).parent) in folders for entry in getattr(module, "__path__", ()))


def _natural_names(path: Path, folders: list[str]) -> list[str]:
    """The names by which a file can be imported from the folders: `features`, `teams.payments`."""
    names = []
    for folder in folders:
        if path.is_relative_to(folder):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            if _MODULE_NAME.fullmatch(name) and name not in sys.stdlib_module_names:
                names.append(name)
    return names


@contextmanager
def _explained(what: str, folders: list[str]) -> Iterator[None]:
    """Turn whatever a definition module raises into a DefinitionLoadError that says where."""
    try:
        yield
    except DefinitionLoadError:
        raise
    except SystemExit as error:
        raise _load_error(what, error, folders, "it ended the process") from error
    except Exception as error:
        raise _load_error(what, error, folders, _first_line(error)) from error


def _load_error(what: str, error: BaseException, folders: list[str], message: str) -> DefinitionLoadError:
    file, line = _place(error, folders)
    place = f"{file}:{line}" if file else what
    inner = error if isinstance(error, GrangeError) else None
    return DefinitionLoadError(
        f"{place}: {type(error).__name__}: {message}",
        asked_by=f"definitions in {what}",
        found=inner.found if inner else None,
        closest=inner.closest if inner else (),
        try_=inner.try_ if inner else None,
        details={"file": file, "line": line, "cause": type(error).__name__}
        | ({"cause_code": inner.code} if inner else {}),
    )


def _place(error: BaseException, folders: list[str]) -> tuple[str | None, int | None]:
    """The innermost line of the project's own code that an error went through."""
    if isinstance(error, SyntaxError) and error.filename and any(error.filename.startswith(f) for f in folders):
        return error.filename, error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(frame.filename.startswith(folder + os.sep) for folder in folders)]
    own = [frame for frame in own if "site-packages" not in frame.filename]
    return (own[-1].filename, own[-1].lineno) if own else (None, None)


def _first_line(error: BaseException) -> str:
    if isinstance(error, GrangeError):
        return error.message
    if isinstance(error, SyntaxError):
        return error.msg
    return (str(error).strip() or "no message").splitlines()[0]


def _same(file: str, path: Path) -> bool:
    try:
        return os.path.samefile(file, path)  # noqa: PTH121 - a loaded module's file may be gone
    except FileNotFoundError:
        return False


def _nearby(root: Path) -> str:
    names = sorted(file.name for file in root.glob("*.py"))
    return f"in {root}: {', '.join(names) or 'no Python file'}"
