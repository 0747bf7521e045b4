"""`map`: which arguments are taken item by item, and which are the same for every run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic

from typing_extensions import TypeVar

from penstock._engine.arguments import Handle
from penstock._engine.drivers import refuse_deadlock
from penstock.exceptions import ParameterError
from penstock.states import is_state

T = TypeVar("T", covariant=True)


class unmapped(Generic[T]):  # noqa: N801  # used like a function
    """An argument of `map` that every run gets as it is.

    Args:
        value: what the runs get.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value


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


def arguments_of_call(call: Mapping[str, Any], positional: int) -> tuple[list[Any], dict[str, Any]]:
    """A call of `calls_of_map` as arguments: so many by position, the others by name."""
    items = list(call.items())
    return [value for _, value in items[:positional]], dict(items[positional:])


def _whole(value: Any) -> Any:
    whole: Any = value
    return whole.value if isinstance(value, unmapped) else whole


def _items(value: object) -> list[Any] | None:
    """What an argument is taken apart into; None: it is the same for every run."""
    if isinstance(value, Handle):
        refuse_deadlock(value._run)
        value._run.wait()
        return _items(value._run.state.result())
    if is_state(value):
        return _items(value.result())
    if isinstance(value, _WHOLE) or not isinstance(value, Iterable):
        return None
    return list(value)  # pyright: ignore[reportUnknownArgumentType]  # narrowed to unknown items
