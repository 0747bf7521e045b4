"""`map` and `imap`: arguments that are taken item by item, and others that every run gets whole."""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final, TypeAlias

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.futures_in_arguments import Handle, unmapped
from penstock.exceptions import ParameterError
from penstock.states import State, is_state

Call: TypeAlias = tuple[list[Any], dict[str, Any]]
"""Arguments by position and by name."""
_END: Final = object()
_WHOLE: Final = (unmapped, str, bytes, bytearray, io.IOBase, dict)
"""What every run gets as it is although it is iterable; the mypy plugin knows the same types."""


def calls_of_map(arguments: Mapping[str, Any], owner: str) -> Iterator[dict[str, Any]]:
    """The arguments of each run of a `map`, by name.

    Args:
        arguments: those of the `map`, by name.
        owner: the task in messages.

    Raises:
        ParameterError: no argument is iterable, or some have different lengths.
    """
    items: dict[str, list[Any]] = {}
    constant: dict[str, Any] = {}
    for name, value in arguments.items():
        iterable = _iterable_in(value)
        if iterable is None:
            constant[name] = _unwrapped(value)
        else:
            items[name] = _listed(iterable)
    if not items:
        raise ParameterError(
            f"{owner}: map() got no iterable argument; use submit() for a single run."
        )
    _check_lengths({name: len(values) for name, values in items.items()}, owner)
    each = zip(*items.values(), strict=True)
    return ({**arguments, **constant, **dict(zip(items, one, strict=True))} for one in each)


def _check_lengths(lengths: Mapping[str, int], owner: str) -> None:
    if len(set(lengths.values())) > 1:
        raise ParameterError(
            f"{owner}: map() got iterables of different lengths: "
            + ", ".join(f"{name}: {length}" for name, length in lengths.items())
            + ". Wrap what every run gets as it is in unmapped()."
        )


class LazyCalls:
    """The calls that an `imap` makes, read from its arguments item by item.

    Attributes:
        is_async: whether some argument can only be iterated in an event loop.

    Args:
        arguments: those of the `imap` by name, first those given by position.
        positional: how many of them were given by position.
        owner: the task in messages.

    Raises:
        ParameterError: no argument is iterable.
    """

    def __init__(self, arguments: Mapping[str, Any], positional: int, owner: str) -> None:
        self._arguments = arguments
        self._positional = positional
        self._owner = owner
        self.is_async: bool = any(map(_is_async, arguments.values()))
        if not any(map(_may_have_items, arguments.values())):
            raise ParameterError(
                f"{owner}: imap() got no iterable argument; use submit() for a single run."
            )

    def read(self) -> Iterator[Call]:
        """The calls, one after another.

        Raises:
            ParameterError: an iterable has ended before another one.
        """
        iterators = {name: iter(iterable) for name, iterable in self._iterables().items()}
        for number in count():
            items = {name: next(iterator, _END) for name, iterator in iterators.items()}
            if self._have_ended(items, number):
                return
            yield self._call(items)

    async def read_async(self) -> AsyncIterator[Call]:
        """The same where some arguments can only be iterated in an event loop."""
        iterators = {name: _each(iterable) for name, iterable in self._iterables().items()}
        for number in count():
            items = {name: await anext(iterator, _END) for name, iterator in iterators.items()}
            if self._have_ended(items, number):
                return
            yield self._call(items)

    async def ready(self) -> None:
        """Wait, in an event loop, for the arguments that are futures."""
        for value in self._arguments.values():
            if isinstance(value, Handle):
                await value._run.wait_async()

    def _iterables(self) -> dict[str, Any]:
        """The arguments that are taken item by item."""
        found = {name: _iterable_in(value) for name, value in self._arguments.items()}
        return {name: iterable for name, iterable in found.items() if iterable is not None}

    def _have_ended(self, items: Mapping[str, object], number: int) -> bool:
        """Whether the iterables have ended, which all do at once."""
        ended = [name for name, item in items.items() if item is _END]
        if ended and len(ended) < len(items):
            raise ParameterError(
                f"{self._owner}: imap() got iterables of different lengths: {', '.join(ended)} "
                f"ended after {number} items, and others did not. Wrap what every run gets as it "
                "is in unmapped()."
            )
        return bool(ended)

    def _call(self, items: Mapping[str, Any]) -> Call:
        arguments = {
            name: items[name] if name in items else _unwrapped(value)
            for name, value in self._arguments.items()
        }
        return spread(arguments, self._positional)


def spread(arguments: Mapping[str, Any], positional: int) -> Call:
    """The first so many arguments by position, and the others by name."""
    items = list(arguments.items())
    return [value for _, value in items[:positional]], dict(items[positional:])


def _is_async(value: object) -> bool:
    return isinstance(value, AsyncIterable) and not isinstance(value, Handle)


def _may_have_items(value: Any) -> bool:
    """Whether it is iterable, or a future or state, whose value may turn out to be."""
    return isinstance(value, Handle | State) or _is_taken_apart(value)


def _is_taken_apart(value: object) -> bool:
    return isinstance(value, Iterable | AsyncIterable) and not isinstance(value, _WHOLE)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _unwrapped(value: Any) -> Any:
    """What every run gets of an argument that is not taken apart."""
    given: Any = value
    return given.value if isinstance(value, unmapped) else given


def _listed(iterable: Iterable[Any] | AsyncIterable[Any]) -> list[Any]:
    if isinstance(iterable, AsyncIterable):
        raise ParameterError("map() takes no async iterables; use imap() and `async for`.")
    return list(iterable)


def _iterable_in(value: Any) -> Iterable[Any] | AsyncIterable[Any] | None:
    """What gives the items of an argument; None: every run gets it as it is."""
    if isinstance(value, Handle):
        refuse_deadlock(value._run, "`await future` and map over its value")
        value._run.wait()
        return _iterable_in(value.resolved())
    if is_state(value):
        return _iterable_in(value.result())
    return value if _is_taken_apart(value) else None
