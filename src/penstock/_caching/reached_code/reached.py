"""What a function reaches, kept as long as all names that led there stand for the same."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache

from penstock._caching.reached_code.walk import MISSING, Binding, Walk, digest_of


class ReachedCode:
    """What one walk has reached.

    Attributes:
        digest: of all of it.
        parts: the digest of each function, class, constant and library by what it is.
    """

    __slots__ = ("_functions", "_names", "digest", "parts")

    def __init__(self, walk: Walk) -> None:
        self.parts: Mapping[str, bytes] = walk.parts()
        self.digest: bytes = digest_of(
            part for name in sorted(self.parts) for part in (name.encode(), self.parts[name])
        )
        self._names = tuple(walk.names)
        self._functions = tuple((f, f.__code__, f.__defaults__) for f in walk.functions)

    def is_current(self) -> bool:
        """Whether each name still stands for the same object, compared by identity: it is fast."""
        for function, code, defaults in self._functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
        return all([get(name, MISSING) is value for get, name, value in self._names])  # noqa: C419  # a generator takes twice as long


def reached_code(function: Callable[..., object]) -> ReachedCode:
    """What a function reaches now; a new walk only where a name on the way has changed."""
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
    """Walk until no more names turn out to be state, as code met late may assign to early ones."""
    state: set[Binding] = set()
    while True:
        walk = Walk(root, state)
        if walk.assigned <= state:
            return ReachedCode(walk)
        state |= walk.assigned
