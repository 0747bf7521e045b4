"""Containers that are only read: what the mypy plugin puts in place of `list[T]` and the like.

A `list[TaskFuture[int]]` is not a `list[int | TaskFuture[int]]`, as code could put an int into the
latter. An argument that holds futures is replaced by a copy, so only what is read from it matters.
Each of these protocols is covariant, and fits one builtin container by the methods that no other
has; none of their types but `T` and `K` may tell mypy what the items are. No code imports them.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator
from typing import Any, Protocol

from typing_extensions import TypeVar

T = TypeVar("T", covariant=True)
K = TypeVar("K", covariant=True)


class ListOf(Protocol[T]):
    """A list, read only."""

    def __iter__(self) -> Iterator[T]:
        """The items."""
        ...

    def sort(self, *, key: Callable[[object], Any], reverse: bool = False) -> None:
        """What only lists have."""
        ...


class SetOf(Protocol[T]):
    """A set, read only."""

    def __iter__(self) -> Iterator[T]:
        """The items."""
        ...

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """What only sets have."""
        ...


class DictOf(Protocol[K, T]):
    """A dict, read only."""

    def items(self) -> ItemsView[K, T]:
        """The keys and values."""
        ...

    def popitem(self) -> tuple[K, T]:
        """What immutable mappings lack."""
        ...

    def __reversed__(self) -> Iterator[K]:
        """What unordered mappings lack."""
        ...
