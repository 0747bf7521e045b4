"""The canonical form of a value: one run of bytes for equal values, in every process."""

from __future__ import annotations

import copyreg
import enum
import hashlib
import inspect
import struct
import types
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

import msgspec


def hash_of_forms(forms: Iterable[bytes]) -> str:
    """A hash of forms in a row, in hex."""
    return hashlib.sha256(b"".join(forms)).hexdigest()


def canonical_form(value: object) -> bytes:
    """Bytes that are equal for equal values of one type, and no beginning of those of another.

    Scalars are written out, so that a call with a few of them is one hash; what has parts is a
    digest of their forms, so that the form of a large value is short.

    Raises:
        Exception: the value has no canonical form.
    """
    write = _SCALARS.get(type(value))
    return _Canonical().form(value) if write is None else write(value)


class _KnownFunction:
    """The forms of a function's names and source, as long as it has the same code.

    Saves asking `inspect` for each call, which took longer than all of a small key.
    """

    __slots__ = ("_code", "_form", "_key")

    def __init__(self, key: str) -> None:
        self._key = key
        self._code: types.CodeType | None = None
        self._form = b""

    def form(self, function: types.FunctionType) -> bytes:
        code = function.__code__
        if code is not self._code:
            self._form = _text(self._key) + _text(source_of(function))
            self._code = code
        return self._form


@lru_cache(maxsize=4096)
def _known_function(key: str, _function: types.FunctionType) -> _KnownFunction:
    return _KnownFunction(key)


def source_of(function: Callable[..., object]) -> str:
    """The source of a function; where there is none (a REPL), its compiled code as text."""
    defined = _defined_as(inspect.unwrap(function))
    return _source(getattr(defined, "__code__", defined), defined)


def _defined_as(function: Callable[..., object]) -> Callable[..., object]:
    """The function behind a method, or behind an object that is called."""
    call = getattr(type(function), "__call__", None)  # noqa: B004  # the method itself is asked for
    if inspect.isfunction(call):
        return call
    return cast("Callable[..., object]", getattr(function, "__func__", function))


@lru_cache(maxsize=4096)
def _source(code: object, function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        if isinstance(code, types.CodeType):
            return canonical_form(code).hex()
        return f"{function.__module__}.{type(function).__qualname__}"


class _Canonical:
    """Walks one value; each node becomes a digest of its tag and of the forms of its parts."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}
        self._containers: Mapping[type, Callable[[Any], Iterable[bytes]]] = {
            list: self._in_order,
            tuple: self._in_order,
            set: self._sorted,
            frozenset: self._sorted,
            dict: self._items,
        }

    def form(self, value: object) -> bytes:
        write = _SCALARS.get(type(value))
        if write is not None:
            return write(value)
        if id(value) in self._above:
            # A cycle is named by how far up it leads.
            return _hash("cycle", (str(len(self._above) - self._above[id(value)]).encode(),))
        self._above[id(value)] = len(self._above)
        try:
            return self._compound(value)
        finally:
            del self._above[id(value)]

    def _compound(self, value: object) -> bytes:
        kind = type(value)
        writer = self._containers.get(kind)
        if writer is not None:
            return _hash(kind.__name__, writer(value))
        if isinstance(value, enum.Enum):
            label = getattr(value, "_name_", None) or value.value  # a flag of no bits has no name
            return _hash("enum", (_name_of(kind), self.form(label)))
        if isinstance(value, msgspec.Struct):
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            return _hash("struct", (_name_of(kind), *self._items(fields)))
        if isinstance(value, set | frozenset):
            return self._own_set(value)  # pyright: ignore[reportUnknownArgumentType]  # its items
        named = self._named(value)
        return self._reduced(value) if named is None else named

    def _named(self, value: object) -> bytes | None:
        """Code, and what has a name to be found by; None for anything else."""
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.BuiltinFunctionType):
            return self._built_in(value)
        if isinstance(value, type):
            return _hash("named", (_name_of(value),))
        if isinstance(value, types.ModuleType):
            return _hash("module", (value.__name__.encode(),))
        return None

    def _in_order(self, values: Iterable[object]) -> Iterable[bytes]:
        return map(self.form, values)

    def _sorted(self, values: Iterable[object]) -> Iterable[bytes]:
        return sorted(map(self.form, values))

    def _items(self, mapping: Mapping[Any, object]) -> Iterable[bytes]:
        return sorted(self.form(key) + self.form(value) for key, value in mapping.items())

    def _function(self, value: types.FunctionType) -> bytes:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        return _hash("function", (_name_of(value), *map(self.form, parts)))

    def _built_in(self, value: types.BuiltinFunctionType) -> bytes:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return _hash("named", (_name_of(value),))
        return _hash("method", (_name_of(value), self.form(owner)))

    def _code(self, code: types.CodeType) -> bytes:
        parts = (
            code.co_code,
            code.co_exceptiontable,
            code.co_consts,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS),
        )
        return _hash("code", map(self.form, parts))

    def _own_set(self, value: set[Any] | frozenset[Any]) -> bytes:
        """A set of a class of its own, which pickle would list in whatever order it lies."""
        state = self.form(value.__getstate__())
        return _hash("own set", (_name_of(type(value)), state, *self._sorted(value)))

    def _reduced(self, value: object) -> bytes:
        """Any other object, by what pickle would keep of it."""
        reducer = copyreg.dispatch_table.get(type(value))
        reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        if isinstance(reduced, str):
            return _hash("global", (reduced.encode(),))
        maker, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        parts = [
            self.form(maker),
            self.form(arguments),
            self.form(state),
            self.form(list(items) if items is not None else None),
            self.form(dict(pairs) if pairs is not None else None),
        ]
        return _hash("object", (_name_of(type(value)), *parts))


def _hash(tag: str, parts: Iterable[bytes]) -> bytes:
    """The form of what has parts; always of one length."""
    digest = hashlib.blake2b(tag.encode(), digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return b"#" + digest.digest()


def _name_of(value: object) -> bytes:
    module = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', '')}".encode()


_LONG: Final = 256
"""Longer texts and bytes are hashed, so that no container holds a copy of all that is in it."""
_pack_float = struct.Struct("<d").pack


def _text(value: str) -> bytes:
    return _sized(b"s", value.encode("utf-8", "surrogatepass"))


text_form: Callable[[str], bytes] = lru_cache(maxsize=4096)(_text)
"""The form of a name that returns; saves as much as the form of a small argument takes."""


def _sized(letter: bytes, content: bytes) -> bytes:
    if len(content) > _LONG:
        return _hash(letter.decode(), (content,))
    return b"%b%d:%b" % (letter, len(content), content)


_SCALARS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _value: b"n",
    type(...): lambda _value: b"e",
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: b"i%d;" % value,
    float: lambda value: b"d" + _pack_float(value),
    complex: lambda value: b"c" + _pack_float(value.real) + _pack_float(value.imag),
    str: _text,
    bytes: lambda value: _sized(b"b", value),
    bytearray: lambda value: _sized(b"a", bytes(value)),
}
