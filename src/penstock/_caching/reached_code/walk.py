"""One walk over all code that a function reaches, and what it met on the way."""

from __future__ import annotations

import functools
import hashlib
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from penstock._caching.canonical import canonical_form
from penstock._caching.reached_code.bytecode import names_in
from penstock._caching.reached_code.classes import (
    defaults_of_fields,
    forms_of_fields,
    is_generated,
    members_of_enumeration,
)
from penstock._caching.reached_code.libraries import (
    is_counted,
    is_users,
    module_of,
    package_of,
    version_of,
)
from penstock._caching.reached_code.source import form_of_code
from penstock._caching.reached_code.values import (
    attributes_of,
    getter_of_cell,
    is_constant,
    is_data,
    name_of,
    static_attribute,
)

MISSING: Final = object()
"""What a name stands for that is not there."""
Get: TypeAlias = Callable[[str, object], object]
"""Looks a name up, with a default."""
Binding: TypeAlias = tuple[int, str]
"""A name in a namespace, by the namespace's `id`; for a cell, that of the cell and no name."""


def digest_of(forms: Iterable[bytes]) -> bytes:
    """A short hash over forms, each with its length."""
    digest = hashlib.blake2b(digest_size=16)
    for form in forms:
        digest.update(b"%d:" % len(form))
        digest.update(form)
    return digest.digest()


class Walk:
    """One walk over all that can be reached.

    Attributes:
        names: how each name was looked up, and what it stood for.
        functions: the functions that were met.
        assigned: the names that their code assigns to.

    Args:
        root: where the walk begins.
        state: names that do not count, as some code assigns to them.
    """

    def __init__(self, root: object, state: set[Binding]) -> None:
        self.names: list[tuple[Get, str, object]] = []
        self.functions: list[types.FunctionType] = []
        self.assigned: set[Binding] = set()
        self._state = state
        self._forms: dict[str, list[bytes]] = {}
        self._seen: dict[int, object] = {}
        self._pending: deque[object] = deque([root])
        self._root = root
        self._package = package_of(module_of(root))
        self._visitors: Mapping[type, Callable[[Any], None]] = {
            types.FunctionType: self._function,
            types.MethodType: self._method,
            types.BuiltinFunctionType: lambda value: self._library(module_of(value)),
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
        return {name: digest_of(forms) for name, forms in self._forms.items()}

    def _follow(self, *values: object) -> None:
        self._pending.extend(values)

    def _visit(self, value: object) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value  # kept alive, so that no other value gets its id
        visitor = self._visitors.get(type(value))
        if visitor is not None:
            visitor(value)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._follow(static_attribute(value, "__wrapped__"), type(value))

    def _is_users(self, module: str) -> bool:
        return package_of(module) == self._package or is_users(module)

    def _add(self, name: str, *forms: bytes) -> None:
        self._forms.setdefault(name, []).extend(forms)

    def _library(self, module: str) -> None:
        package = package_of(module)
        if not self._is_users(module) and is_counted(package):
            self._forms[f"library {package}"] = [version_of(package).encode()]

    # Functions

    def _function(self, function: types.FunctionType) -> None:
        self._follow(function.__dict__.get("__wrapped__"))
        module = module_of(function)
        if function is not self._root and not self._is_users(module):
            self._library(module)
            return
        self.functions.append(function)
        name = f"{module}.{function.__qualname__}"
        self._add(f"code of {name}", form_of_code(function))
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        used = names_in(function.__code__)
        self.assigned |= {(id(function.__globals__), n) for n in used.assigned}
        self.assigned |= {(id(cells[n]), "") for n in used.assigned_outside if n in cells}
        self._defaults(function, name)
        for cell_name, cell in cells.items():
            if (id(cell), "") not in self._state:
                value = self._look_up(getter_of_cell(cell), cell_name)
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

    def _look_up(self, get: Get, name: str) -> object:
        value = get(name, MISSING)
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
        """Follow `helpers.clean` and what is deeper, as far as modules of the user lead."""
        if isinstance(value, types.ModuleType) and self._is_users(value.__name__):
            for name, *deeper in filter(None, chains):
                self._global(vars(value), name, [deeper])

    def _named(self, value: object, name: str, label: str) -> None:
        """Follow what a name stands for, and count it where it is a constant."""
        if value is MISSING:
            return
        if is_data(value):
            if is_constant(value) or name.isupper():
                self._add(f"constant {label}", self._form_of(value, ()))
            self._follow(type(value))
            self._held_by(value)
        else:
            self._follow(value)

    def _held_by(self, value: object) -> None:
        """Follow the functions held by an object that can be called, as a decorator may be one."""
        if callable(value):
            held = attributes_of(value)
            for name in [n for n, v in held.items() if isinstance(v, types.FunctionType)]:
                self._follow(self._look_up(held.get, name))

    def _form_of(self, value: object, above: tuple[int, ...]) -> bytes:
        """The form of a constant; code inside it counts by its name, and is followed."""
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
        if not is_data(value):
            self._follow(value)
            return name_of(value)
        self._follow(type(value))
        try:
            return canonical_form(value)
        except Exception:  # such as an open file
            return name_of(type(value))

    def _form_of_items(
        self, value: object, items: Iterable[object], above: tuple[int, ...], *, in_order: bool
    ) -> bytes:
        self._follow(type(value))
        forms = [self._form_of(item, above) for item in items]
        return digest_of((name_of(type(value)), *(forms if in_order else sorted(forms))))

    # Classes

    def _class(self, kind: type[object]) -> None:
        module = module_of(kind)
        if not self._is_users(module):
            self._library(module)
            return
        name = f"{module}.{kind.__qualname__}"
        self._add(f"code of {name}", *map(name_of, kind.__bases__), *forms_of_fields(kind))
        self._follow(*kind.__bases__, type(kind))
        for value in defaults_of_fields(kind):
            self._named(value, "DEFAULT", f"default in {name}")
        members = members_of_enumeration(kind)
        if members is not None:
            self._named(members, "MEMBERS", f"members of {name}")
        for attribute, value in sorted(vars(kind).items()):
            if not is_generated(kind, attribute, value):
                self._look_up(vars(kind).get, attribute)
                self._named(value, attribute, f"{name}.{attribute}")
