"""The canonical form of a value: the same bytes for equal values, in every process.

Why: docs/inside/caching.md, "A cache key is a hash over one run of bytes".
"""

from __future__ import annotations

import copyreg
import enum
import hashlib
import inspect
import struct
import types
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec


def hash_of_forms(forms: Iterable[bytes]) -> str:
    """A hash over several forms, in their order; in hex."""
    return hashlib.sha256(b"".join(forms)).hexdigest()


def canonical_form(value: object) -> bytes:
    """Bytes that are equal for equal values of one type, and never the start of other such bytes.

    Scalars are written out, so that a call with a few of them is one hash; what has parts is a
    digest of their forms, so that the form of a large value is short.

    Raises:
        Exception: the value has no canonical form.
    """
    write = _SCALARS.get(type(value))
    return _Canonical().form(value) if write is None else write(value)


def is_scalar(value: object) -> bool:
    """Whether the form of a value is written out, as that of numbers and strings."""
    return type(value) in _SCALARS


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
            return self._set_of_subclass(value)  # pyright: ignore[reportUnknownArgumentType]  # its items
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

    def _set_of_subclass(self, value: set[Any] | frozenset[Any]) -> bytes:
        """A set of a subclass, whose items pickle would write in the order of their hashes."""
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
    """The form of what has parts; all such forms have the same length."""
    digest = hashlib.blake2b(tag.encode(), digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return b"#" + digest.digest()


def _name_of(value: object) -> bytes:
    module = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', '')}".encode()


_LONG: Final = 256
"""Longer strings and bytes are hashed, so that no container holds a copy of all that is in it."""
_pack_float = struct.Struct("<d").pack


def text_form(value: str) -> bytes:
    """The form of a string."""
    return _sized(b"s", value.encode("utf-8", "surrogatepass"))


name_form: Callable[[str], bytes] = lru_cache(maxsize=4096)(text_form)
"""The same, remembered for names that come again; saves what the form of a small argument costs."""


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
    str: text_form,
    bytes: lambda value: _sized(b"b", value),
    bytearray: lambda value: _sized(b"a", bytes(value)),
}
