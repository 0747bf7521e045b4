"""The code that a function reaches: its own, and that of the user's helpers, however deep.

The law: the digest changes where a function, class or constant changes that the code names, and
stays where nothing but comments, layout or the options of `@task` and `@flow` do.

Followed are global names, attributes of modules (`helpers.clean`), nested functions, defaults,
what a function encloses, what a decorator wraps, functions that an object holds which is called,
and classes with their bases, methods and attributes. A module is the user's where it has the same
top-level package as the function, or is neither Penstock, nor a name of the standard library, nor
in a folder called `site-packages` or `dist-packages`. Other libraries count by their version, the
standard library for nothing.

Constants count by value: numbers, texts, tuples and other things that cannot change, and lists,
dicts, sets and objects whose name is in capitals. A name that reached code assigns to (`global x`)
is state and does not count, nor does anything else that is called in small letters.

Not seen: names made at run time (`getattr` by a text, `importlib`, `eval`), imports inside of
functions, functions registered in a table in small letters or with `singledispatch`, what is called
only by way of an argument, new attributes of a class, changes inside a constant after the first
look at it, data files, environment variables, C extensions, and the code of other libraries.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import dis
import enum
import functools
import hashlib
import inspect
import linecache
import numbers
import pathlib
import re
import sys
import types
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from penstock._caching.canonical import canonical_form
from penstock._model.modules import name_of_module

_MISSING: Final = object()
_Get: TypeAlias = Callable[[str, object], object]
_Place: TypeAlias = tuple[int, str]
"""A name in a namespace, which its `id` stands for; in a cell the name is empty."""


class ReachedCode:
    """What was reached, as long as all names that led there stand for the same.

    Attributes:
        digest: of all of it.
        parts: the digest of each function, class, constant and library by what it is.
    """

    __slots__ = ("_functions", "_names", "digest", "parts")

    def __init__(self, walk: _Walk) -> None:
        self.parts: Mapping[str, bytes] = walk.parts()
        self.digest: bytes = _digest(
            part for name in sorted(self.parts) for part in (name.encode(), self.parts[name])
        )
        self._names = tuple(walk.names)
        self._functions = tuple((f, f.__code__, f.__defaults__) for f in walk.functions)

    def is_current(self) -> bool:
        """Whether each name still stands for what it did; by identity, so that it takes no time."""
        for function, code, defaults in self._functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
        return all([get(name, _MISSING) is value for get, name, value in self._names])  # noqa: C419  # a generator takes twice as long


def reached_code(function: Callable[..., object]) -> ReachedCode:
    """What a function reaches now; walked again only where a name on the way has changed."""
    root = function if type(function) is types.FunctionType else _root_of(function)
    known = _known(root)
    if not known or not known[0].is_current():
        known[:] = [_walked(root)]
    return known[0]


def _root_of(function: Callable[..., object]) -> Hashable:
    """The function of a method; of an object that is called, its class."""
    root: Hashable = getattr(function, "__func__", function)
    return root if type(root) in {types.FunctionType, functools.partial} else type(root)


@lru_cache(maxsize=4096)
def _known(_root: Hashable) -> list[ReachedCode]:
    """The latest walk from there, once there is one."""
    return []


def _walked(root: object) -> ReachedCode:
    state: set[_Place] = set()
    while True:
        walk = _Walk(root, state)
        if walk.assigned <= state:
            return ReachedCode(walk)
        state |= walk.assigned


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


class _Walk:
    """One walk over all that can be reached.

    Attributes:
        names: what was looked up where, and what it stood for.
        functions: those that were met.
        assigned: the names that the code of these assigns to.

    Args:
        root: where it begins.
        state: names that do not count.
    """

    def __init__(self, root: object, state: set[_Place]) -> None:
        self.names: list[tuple[_Get, str, object]] = []
        self.functions: list[types.FunctionType] = []
        self.assigned: set[_Place] = set()
        self._state = state
        self._forms: dict[str, list[bytes]] = {}
        self._seen: dict[int, object] = {}
        self._pending: deque[object] = deque([root])
        self._root = root
        self._package = _package_of(_module_of(root))
        self._visitors: Mapping[type, Callable[[Any], None]] = {
            types.FunctionType: self._function,
            types.MethodType: self._method,
            types.BuiltinFunctionType: lambda value: self._library(_module_of(value)),
            functools.partial: self._partial,
            functools.partialmethod: self._partial,
            staticmethod: lambda method: self._follow(method.__func__),
            classmethod: lambda method: self._follow(method.__func__),
            property: lambda value: self._follow(value.fget, value.fset, value.fdel),
            functools.cached_property: lambda value: self._follow(value.func),
            types.ModuleType: lambda module: self._library(module.__name__),
        }
        while self._pending:
            self._visit(self._pending.popleft())

    def parts(self) -> dict[str, bytes]:
        """The digest of each thing by what it is."""
        return {name: _digest(forms) for name, forms in self._forms.items()}

    def _follow(self, *values: object) -> None:
        self._pending.extend(values)

    def _visit(self, value: object) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value  # kept, so that no other gets its id
        visitor = self._visitors.get(type(value))
        if visitor is not None:
            visitor(value)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._follow(_static(value, "__wrapped__"), type(value))

    def _is_users(self, module: str) -> bool:
        return _package_of(module) == self._package or _is_users(module)

    def _add(self, name: str, *forms: bytes) -> None:
        self._forms.setdefault(name, []).extend(forms)

    def _library(self, module: str) -> None:
        package = _package_of(module)
        if not self._is_users(module) and package not in _UNCOUNTED:
            self._forms[f"library {package}"] = [_version_of(package).encode()]

    # Functions

    def _function(self, function: types.FunctionType) -> None:
        self._follow(function.__dict__.get("__wrapped__"))
        module = _module_of(function)
        if function is not self._root and not self._is_users(module):
            self._library(module)
            return
        self.functions.append(function)
        name = f"{module}.{function.__qualname__}"
        self._add(f"code of {name}", form_of_code(function))
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        used = _names_in(function.__code__)
        self.assigned |= {(id(function.__globals__), n) for n in used.assigned}
        self.assigned |= {(id(cells[n]), "") for n in used.assigned_outside if n in cells}
        self._defaults(function, name)
        for cell_name, cell in cells.items():
            if (id(cell), "") not in self._state:
                value = self._look_up(_getter_of_cell(cell), cell_name)
                self._named(value, cell_name, f"{cell_name} enclosed by {name}")
                self._attributes(value, used.enclosed.get(cell_name, ()))
        for global_name, chains in used.chains.items():
            self._global(function.__globals__, global_name, chains)

    def _defaults(self, function: types.FunctionType, name: str) -> None:
        values = function.__defaults__ or ()
        code = function.__code__
        names = code.co_varnames[: code.co_argcount][code.co_argcount - len(values) :]
        given = {**dict(zip(names, values, strict=True)), **(function.__kwdefaults__ or {})}
        for parameter, value in given.items():
            self._named(value, parameter, f"default {parameter} of {name}")

    def _method(self, method: types.MethodType) -> None:
        self._follow(method.__func__, type(method.__self__))

    def _partial(
        self, partial: functools.partial[object] | functools.partialmethod[object]
    ) -> None:
        self._follow(partial.func, *partial.args, *partial.keywords.values())
        values = (partial.args, partial.keywords)
        self._add("arguments of a partial", self._form_of(values, ()))

    # Names

    def _look_up(self, get: _Get, name: str) -> object:
        value = get(name, _MISSING)
        self.names.append((get, name, value))
        return value

    def _global(
        self, namespace: dict[str, Any], name: str, chains: Iterable[Sequence[str]]
    ) -> None:
        if (id(namespace), name) in self._state:
            return
        value = self._look_up(namespace.get, name)
        self._named(value, name, f"{namespace.get('__name__')}.{name}")
        self._attributes(value, chains)

    def _attributes(self, value: object, chains: Iterable[Sequence[str]]) -> None:
        """Follow `helpers.clean` and what is deeper, as far as it leads through user's modules."""
        if isinstance(value, types.ModuleType) and self._is_users(value.__name__):
            for name, *deeper in filter(None, chains):
                self._global(vars(value), name, [deeper])

    def _named(self, value: object, name: str, label: str) -> None:
        """Follow what a name stands for, and count it where it is a constant."""
        if value is _MISSING:
            return
        if _is_data(value):
            if _is_constant(value) or name.isupper():
                self._add(f"constant {label}", self._form_of(value, ()))
            self._follow(type(value))
            self._held_by(value)
        else:
            self._follow(value)

    def _held_by(self, value: object) -> None:
        """Follow the functions that an object holds which is called, as a decorator may be one."""
        if callable(value):
            held = _attributes_of(value)
            for name in [n for n, v in held.items() if isinstance(v, types.FunctionType)]:
                self._follow(self._look_up(held.get, name))

    def _form_of(self, value: object, above: tuple[int, ...]) -> bytes:
        """The form of a constant; the code in it counts by name, and is followed."""
        if id(value) in above:
            return b"cycle"
        above = (*above, id(value))
        if isinstance(value, dict):
            table = cast("dict[object, object]", value)
            return self._form_of_items(table, table.items(), above, in_order=False)
        if isinstance(value, list | tuple | set | frozenset):
            items = cast("Iterable[object]", value)
            return self._form_of_items(
                items, items, above, in_order=isinstance(value, list | tuple)
            )
        if not _is_data(value):
            self._follow(value)
            return _name_of(value)
        self._follow(type(value))
        try:
            return canonical_form(value)
        except Exception:  # such as an open file
            return _name_of(type(value))

    def _form_of_items(
        self, value: object, items: Iterable[object], above: tuple[int, ...], *, in_order: bool
    ) -> bytes:
        self._follow(type(value))
        forms = [self._form_of(item, above) for item in items]
        return _digest((_name_of(type(value)), *(forms if in_order else sorted(forms))))

    # Classes

    def _class(self, kind: type[object]) -> None:
        module = _module_of(kind)
        if not self._is_users(module):
            self._library(module)
            return
        name = f"{module}.{kind.__qualname__}"
        self._add(f"code of {name}", *map(_name_of, kind.__bases__), *_fields_of(kind))
        self._follow(*kind.__bases__, type(kind))
        for value in _defaults_of(kind):
            self._named(value, "DEFAULT", f"default in {name}")
        members = _members_of(kind)
        if members is not None:
            self._named(members, "MEMBERS", f"members of {name}")
        for attribute, value in sorted(vars(kind).items()):
            if not _is_made(kind, attribute, value):
                self._look_up(vars(kind).get, attribute)
                self._named(value, attribute, f"{name}.{attribute}")


# What is the user's

_UNCOUNTED: Final = sys.stdlib_module_names | {"penstock", "", "__main__"}
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def _module_of(value: object) -> str:
    """The module that code runs in, whatever a decorator makes it say."""
    if isinstance(value, types.FunctionType):
        return name_of_module(str(value.__globals__.get("__name__", "")))
    return name_of_module(str(getattr(value, "__module__", "")))


def _package_of(module: str) -> str:
    return module.partition(".")[0]


def _is_users(module: str) -> bool:
    """The rule that this module states on top."""
    if module != "__main__" and _package_of(module) in _UNCOUNTED:
        return module == ""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or _INSTALLED.isdisjoint(pathlib.Path(file).parts)


@lru_cache(maxsize=1024)
def _version_of(package: str) -> str:
    own = vars(sys.modules[package]).get("__version__") if package in sys.modules else None
    if isinstance(own, str):
        return own
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


# What is data

_IMMUTABLE: Final = (
    *(type(None), type(...), numbers.Number, str, bytes, range, enum.Enum, re.Pattern),
    *(uuid.UUID, pathlib.PurePath, dt.date, dt.time, dt.timedelta, dt.tzinfo),
)
_CODE: Final = (
    *(type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType),
    *(
        functools.partial,
        functools.partialmethod,
        staticmethod,
        classmethod,
        property,
        functools.cached_property,
    ),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
)


def _is_data(value: object) -> bool:
    return not isinstance(value, _CODE) and _static(value, "__wrapped__") is None


def _is_constant(value: object) -> bool:
    """Whether it cannot change."""
    if isinstance(value, tuple | frozenset):
        return all(
            _is_constant(item) or not _is_data(item) for item in cast("Iterable[object]", value)
        )
    return isinstance(value, _IMMUTABLE) or _is_frozen(value)


def _is_frozen(value: object) -> bool:
    if isinstance(value, msgspec.Struct):
        return value.__struct_config__.frozen
    options = getattr(type(value), "__dataclass_params__", None)
    return options is not None and bool(options.frozen)


def _fields_of(kind: type) -> Iterator[bytes]:
    """What the methods that a decorator or a base has written follow from."""
    hints = cast("dict[str, object]", vars(kind).get("__annotations__", {}))
    yield from (f"{field}: {_shown(hint)}".encode() for field, hint in hints.items())
    yield from (_shown(vars(kind).get(table)).encode() for table in _TABLES_OF_FIELDS)
    options = vars(kind).get("__dataclass_params__")
    if options is not None:
        yield repr((options.init, options.eq, options.order, options.frozen)).encode()


_TABLES_OF_FIELDS: Final = ("__attrs_attrs__", "__pydantic_fields__")
"""Where libraries that are not imported here keep the fields of a class."""


def _defaults_of(kind: type[object]) -> Iterator[object]:
    """The defaults of fields that are not attributes of the class."""
    if issubclass(kind, msgspec.Struct):
        for default in kind.__struct_defaults__:
            yield default.factory if type(default).__name__ == "Factory" else default
    for field in vars(kind).get("__dataclass_fields__", {}).values():
        yield from (v for v in (field.default, field.default_factory) if v is not _NO_DEFAULT)


_NO_DEFAULT: Final = dataclasses.MISSING


def _members_of(kind: type[object]) -> dict[str, object] | None:
    """The values of an enumeration by name; None: it is none."""
    if not issubclass(kind, enum.Enum):
        return None
    return {name: member.value for name, member in kind.__members__.items()}


def _is_made(kind: type[object], name: str, value: object) -> bool:
    """Whether the attribute was not written by the user, but made from what the user has written.

    Such are the `__init__` of dataclasses, the fields of tuples, the tables of enumerations; the
    `__hash__` of attrs holds a number that no other process has.
    """
    members = _members_of(kind)
    if members is not None and (name in members or re.fullmatch("_[^_].*_", name)):
        return True
    if not (name.startswith("__") and name.endswith("__")):
        return False
    code = getattr(value, "__code__", None)
    if code is None:
        return _is_data(value)
    if name.startswith("__annotate") or code.co_filename.startswith("<attrs generated"):
        return True
    is_record = "__dataclass_fields__" in vars(kind) or issubclass(kind, tuple)
    return is_record and code.co_filename == "<string>"


def _static(value: object, name: str) -> object:
    """An attribute, without running any code of the value's."""
    return inspect.getattr_static(value, name, None)


def _attributes_of(value: object) -> dict[str, Any]:
    try:
        return vars(value)
    except Exception:  # it has none, or stands for another object that is not there yet
        return {}


def _name_of(value: object) -> bytes:
    module = name_of_module(getattr(value, "__module__", None) or "")
    return f"{module}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}".encode()


def _shown(hint: object) -> str:
    text = hint if isinstance(hint, str) else getattr(hint, "__qualname__", repr(hint))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(text))


def _getter_of_cell(cell: types.CellType) -> _Get:
    def get(_name: str, default: object) -> object:
        try:
            return cast("object", cell.cell_contents)
        except ValueError:  # it is still empty
            return default

    return get


# What code names


class _Names(NamedTuple):
    """What a code object and those nested in it name.

    Attributes:
        chains: of each global name, the attributes asked of it, such as `("path", "join")`.
        enclosed: the same of the names of enclosing functions.
        assigned: the global names that they assign to.
        assigned_outside: the names of enclosing functions that they assign to.
    """

    chains: dict[str, list[list[str]]]
    enclosed: dict[str, list[list[str]]]
    assigned: set[str]
    assigned_outside: set[str]


_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ENCLOSED: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_IN_BETWEEN: Final = frozenset({"EXTENDED_ARG", "CACHE", "NOP"})


@lru_cache(maxsize=4096)
def _names_in(code: types.CodeType) -> _Names:
    names = _Names({}, {}, set(), set())
    for nested in _with_nested(code):
        _read_names(nested, names)
    return names


def _with_nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_nested(constant)


def _read_names(code: types.CodeType, names: _Names) -> None:
    attributes: list[str] | None = None
    for step in dis.get_instructions(code):
        if step.opname in _IN_BETWEEN:
            continue
        if attributes is not None and step.opname in _ATTRIBUTE:
            attributes.append(step.argval)
            continue
        attributes = None
        if step.opname in _GLOBAL:
            names.chains.setdefault(step.argval, []).append(attributes := [])
        elif step.opname in _ENCLOSED:
            names.enclosed.setdefault(step.argval, []).append(attributes := [])
        elif step.opname in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            names.assigned.add(step.argval)
        elif step.opname in {"STORE_DEREF", "DELETE_DEREF"} and step.argval in code.co_freevars:
            names.assigned_outside.add(step.argval)


# The source of a function


def form_of_code(function: types.FunctionType) -> bytes:
    """The source of a function without comments and layout, if that is what runs.

    Where there is no source, or the file has changed since it was imported, the compiled code
    stands for it; that is the same in all processes of one minor version of Python.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    node = _functions_in(text, code.co_filename).get(code)
    if node is None:
        return canonical_form(code)
    return ast.unparse(node).encode("utf-8", "surrogatepass")


_FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@lru_cache(maxsize=256)
def _functions_in(text: str, filename: str) -> Mapping[types.CodeType, _FunctionNode]:
    """The functions of a file by their code, but for those that share a line."""
    # Warnings of the compiler are told once more: to hide them would change the filters of all
    # threads, which others may be changing at the time.
    try:
        tree = ast.parse(text, filename)
        whole = compile(tree, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # such as a cell of a notebook with magic in it
        return {}
    places: dict[tuple[str, int], list[_FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FunctionNode):
            places.setdefault(_place(node), []).append(node)
    for node in chain.from_iterable(places.values()):
        _drop_own_decorators(node)
    found = {code: places.get((code.co_name, code.co_firstlineno)) for code in _with_nested(whole)}
    return {code: nodes[0] for code, nodes in found.items() if nodes and len(nodes) == 1}


def _place(node: _FunctionNode) -> tuple[str, int]:
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min(part.lineno for part in (node, *node.decorator_list))


def _drop_own_decorators(node: _FunctionNode) -> None:
    if not isinstance(node, ast.Lambda):
        node.decorator_list = [d for d in node.decorator_list if not _is_own_decorator(d)]


def _is_own_decorator(node: ast.expr) -> bool:
    """`@task`, `@task(…)` or `@penstock.task(…)`, and the same of flows."""
    name = node.func if isinstance(node, ast.Call) else node
    return getattr(name, "attr", getattr(name, "id", "")) in {"task", "flow"}
