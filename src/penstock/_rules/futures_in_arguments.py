"""Futures in arguments, at any depth: found before a run starts, replaced by values when it does.

Looked into: list, tuple (named ones too), set, frozenset, dict, dataclass and msgspec Struct. A
container without a future in it is passed on as the very same object.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, cast

import msgspec
from typing_extensions import TypeVar

from penstock.exceptions import ParameterError
from penstock.states import State

if TYPE_CHECKING:
    from penstock._rules.run import Run

T = TypeVar("T", covariant=True)
Upstream: TypeAlias = "Handle | State[object]"

LEAVES = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, range})
"""Plain data: no future is in it, and nothing of it is the user's code."""
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_GLANCE = 64
"""So many items are looked at in less than it takes to ask for a worker."""


class Handle:
    """What stands for a run in the user's code: the base of futures.

    Attributes:
        may_fail: whether what it is passed to runs however the run has ended.
    """

    __slots__ = ("_run",)
    may_fail: ClassVar[bool] = False

    def __init__(self, run: Run) -> None:
        self._run = run

    def resolved(self) -> object:
        """What stands in its place when the run has ended."""
        return self._run.result()


class unmapped(Generic[T]):  # noqa: N801  # used like a function
    """An argument of `map` that every run gets as it is.

    Args:
        value: what the runs get.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value


def upstreams_in(args: Sequence[object], kwargs: Mapping[str, object]) -> Sequence[Upstream]:
    """The futures and states in the arguments of a call, each once, in order.

    Raises:
        ParameterError: an `unmapped` value is among them.
    """
    if LEAVES.issuperset(map(type, args)) and (not kwargs or all_leaves(kwargs.values())):
        return ()
    found: list[Upstream] = []
    seen: set[int] = set()
    for value in (*args, *kwargs.values()):
        _collect(value, found, seen)
    return found


def all_leaves(values: Iterable[object]) -> bool:
    """Whether none of the values can hold a future; the fast way out for plain data."""
    return LEAVES.issuperset(map(type, values))


def is_plain(value: object) -> bool:
    """Whether it is known at a glance that nothing of the value is the user's code."""
    kind = type(value)
    if kind in LEAVES:
        return True
    if kind in _SEQUENCES:
        items = cast("Collection[object]", value)
        return len(items) <= _GLANCE and all_leaves(items)
    if kind is dict:
        mapping = cast("dict[object, object]", value)
        return len(mapping) <= _GLANCE and all_leaves(mapping) and all_leaves(mapping.values())
    return False


def only_futures_and_leaves(values: Iterable[object]) -> bool:
    """Whether each is plain data, or a future that stands for a value as it is."""
    others = set(map(type, values)) - LEAVES  # one type, where there are a thousand futures
    return all(issubclass(kind, Handle) and not kind.may_fail for kind in others)


def _collect(value: object, found: list[Upstream], seen: set[int]) -> None:
    if type(value) in LEAVES or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Handle | State):
        found.append(cast("Upstream", value))
        return
    if isinstance(value, unmapped):
        raise ParameterError(
            "unmapped(...) is for map() and imap(), which have items to take one by one; give all "
            "other calls the value itself."
        )
    for part in parts_of(value):
        _collect(part, found, seen)


def parts_of(value: object) -> Iterator[object]:
    """What is directly inside a container; nothing for anything else."""
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("Collection[object]", value)
        if not all_leaves(items):
            yield from items
    elif isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        if not all_leaves(mapping.values()):
            yield from mapping.values()
        if not all_leaves(mapping):
            yield from mapping
    elif isinstance(value, msgspec.Struct):
        yield from (getattr(value, name) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, f.name, None) for f in dataclasses.fields(value))


def call_replaced(
    args: Sequence[object], kwargs: Mapping[str, object], by: Callable[[Upstream], object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """The arguments of a call with each future and state in them replaced.

    Where there is none in an argument, it is the very same object.
    """
    replacement = _Replacement(by)
    return (
        tuple(map(replacement.of, args)),
        {name: replacement.of(value) for name, value in kwargs.items()},
    )


class _Replacement:
    """One walk; it remembers what it replaced, so that shared parts stay shared."""

    def __init__(self, by: Callable[[Upstream], object]) -> None:
        self._by = by
        self._done: dict[int, object] = {}

    def of(self, value: object) -> object:
        if type(value) in LEAVES:
            return value
        if isinstance(value, Handle | State):
            return self._by(cast("Upstream", value))
        if id(value) not in self._done:
            self._done[id(value)] = value  # where a cycle comes back to
            self._done[id(value)] = self._rebuilt(value)
        return self._done[id(value)]

    def _rebuilt(self, value: object) -> object:
        before = list(parts_of(value))
        if not before:
            return value
        if isinstance(value, dict):
            return self._rebuilt_dict(cast("dict[object, object]", value))
        after = [self.of(part) for part in before]
        if all(old is new for old, new in zip(before, after, strict=True)):
            return value
        return _remade(value, after)

    def _rebuilt_dict(self, value: dict[object, object]) -> object:
        after = {self.of(key): self.of(item) for key, item in value.items()}
        if all(old is new for old, new in zip(value.values(), after.values(), strict=False)) and (
            value.keys() == after.keys()
        ):
            return value
        if type(value) is dict:
            return after
        like = value.copy()
        like.clear()
        like.update(after)
        return like


def _remade(value: object, parts: list[object]) -> object:
    """A container like `value` with other parts."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return msgspec.structs.replace(value, **dict(zip(names, parts, strict=True)))
    if isinstance(value, list):  # a list of futures becomes a list of values
        return parts
    if isinstance(value, tuple | set | frozenset):
        kind: Any = type(cast("Collection[object]", value))
        make = getattr(kind, "_make", kind)  # a named tuple takes its fields one by one
        return make(parts)
    return _remade_dataclass(value, parts)


def _remade_dataclass(value: Any, parts: list[object]) -> object:
    """A copy with other fields; its constructor may take other arguments than its fields."""
    like = copy.copy(value)
    for field, part in zip(dataclasses.fields(value), parts, strict=True):
        if part is not getattr(value, field.name, None):
            object.__setattr__(like, field.name, part)  # it may be frozen
    return like
