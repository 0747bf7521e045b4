"""`map`: which arguments are taken item by item, and which are the same for every run."""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final, TypeAlias

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.arguments import Handle, unmapped
from penstock.exceptions import ParameterError
from penstock.states import State, is_state

Call: TypeAlias = tuple[list[Any], dict[str, Any]]
"""Arguments by position and by name."""
_END: Final = object()


_WHOLE = (unmapped, str, bytes, bytearray, io.IOBase, dict)


def calls_of_map(parameters: Mapping[str, Any], owner: str) -> Iterator[dict[str, Any]]:
    """The parameters of each run.

    Raises:
        ParameterError: nothing to map over, or different lengths.
    """
    columns: dict[str, list[Any]] = {}
    constant: dict[str, Any] = {}
    for name, value in parameters.items():
        items = _items(value)
        if items is None:
            constant[name] = _whole(value)
        else:
            columns[name] = items
    lengths = {name: len(column) for name, column in columns.items()}
    if not columns:
        raise ParameterError(
            f"{owner}: map() got no iterable argument; use submit() for a single run."
        )
    if len(set(lengths.values())) > 1:
        raise ParameterError(
            f"{owner}: map() got iterables of different lengths: "
            + ", ".join(f"{name}: {length}" for name, length in lengths.items())
            + ". Wrap what every run gets as it is in unmapped()."
        )
    rows = zip(*columns.values(), strict=True)
    return ({**parameters, **constant, **dict(zip(columns, row, strict=True))} for row in rows)


class Rows:
    """The calls that a lazy map makes, read item by item.

    Attributes:
        is_async: whether an argument can only be iterated in an event loop.

    Args:
        given: the arguments by name, those by position first.
        positional: how many of them are by position.
        owner: how errors call the task.

    Raises:
        ParameterError: nothing to map over.
    """

    def __init__(self, given: Mapping[str, Any], positional: int, owner: str) -> None:
        self._given = given
        self._positional = positional
        self._owner = owner
        self.is_async: bool = any(map(_is_async, given.values()))
        if not any(map(_may_have_items, given.values())):
            raise ParameterError(
                f"{owner}: imap() got no iterable argument; use submit() for a single run."
            )

    def read(self) -> Iterator[Call]:
        """The calls, one after another.

        Raises:
            ParameterError: an iterable has ended before another one.
        """
        columns = {name: iter(items) for name, items in self._columns().items()}
        for number in count():
            row = {name: next(column, _END) for name, column in columns.items()}
            if self._has_ended(row, number):
                return
            yield self._call(row)

    async def read_async(self) -> AsyncIterator[Call]:
        """The same where some arguments can only be iterated in an event loop."""
        columns = {name: _each(items) for name, items in self._columns().items()}
        for number in count():
            row = {name: await anext(column, _END) for name, column in columns.items()}
            if self._has_ended(row, number):
                return
            yield self._call(row)

    async def ready(self) -> None:
        """Wait, in an event loop, for the arguments that are futures."""
        for value in self._given.values():
            if isinstance(value, Handle):
                await value._run.wait_async()

    def _columns(self) -> dict[str, Any]:
        """The arguments that are taken item by item."""
        columns = {name: _column(value) for name, value in self._given.items()}
        return {name: column for name, column in columns.items() if column is not None}

    def _has_ended(self, row: Mapping[str, object], number: int) -> bool:
        """Whether the iterables have; all of them or none."""
        ended = [name for name, item in row.items() if item is _END]
        if ended and len(ended) < len(row):
            raise ParameterError(
                f"{self._owner}: imap() got iterables of different lengths: {', '.join(ended)} "
                f"ended after {number} items, and others did not. Wrap what every run gets as it "
                "is in unmapped()."
            )
        return bool(ended)

    def _call(self, row: Mapping[str, Any]) -> Call:
        call = {n: row[n] if n in row else _whole(value) for n, value in self._given.items()}
        return arguments_of_call(call, self._positional)


def arguments_of_call(call: Mapping[str, Any], positional: int) -> Call:
    """A call of `calls_of_map` as arguments: so many by position, the others by name."""
    items = list(call.items())
    return [value for _, value in items[:positional]], dict(items[positional:])


def _is_async(value: object) -> bool:
    return isinstance(value, AsyncIterable) and not isinstance(value, Handle)


def _may_have_items(value: Any) -> bool:
    """Whether it is iterable, or a future or state, of which only time will tell."""
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


def _whole(value: Any) -> Any:
    whole: Any = value
    return whole.value if isinstance(value, unmapped) else whole


def _items(value: object) -> list[Any] | None:
    """What an argument is taken apart into; None: it is the same for every run."""
    column = _column(value)
    if isinstance(column, AsyncIterable):
        raise ParameterError("map() takes no async iterables; use imap() and `async for`.")
    return None if column is None else list(column)


def _column(value: Any) -> Iterable[Any] | AsyncIterable[Any] | None:
    """What gives the items of an argument; None: it is the same for every run."""
    if isinstance(value, Handle):
        refuse_deadlock(value._run, "`await future` and map over its value")
        value._run.wait()
        return _column(value.resolved())
    if is_state(value):
        return _column(value.result())
    return value if _is_taken_apart(value) else None
