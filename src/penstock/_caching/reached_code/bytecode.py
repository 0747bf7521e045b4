"""Bytecode: the names that a function's code uses."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple


class Names(NamedTuple):
    """The names that a code object and those nested in it use.

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
def names_in(code: types.CodeType) -> Names:
    """The names that a code object uses."""
    names = Names({}, {}, set(), set())
    for nested in with_nested(code):
        _read_names(nested, names)
    return names


def with_nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from with_nested(constant)


def _read_names(code: types.CodeType, names: Names) -> None:
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
