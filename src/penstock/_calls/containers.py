"""Containers as arguments are read: what the mypy plugin puts where `list[T]` stands.

A `list[TaskFuture[int]]` is no `list[int | TaskFuture[int]]`, as somebody could put an int into it.
An argument is replaced by a copy where it holds futures, so only what comes out of it matters. Each
of these protocols is covariant, and fits one builtin container by the methods that no other has;
none of their types may tell mypy what the items are, but for `T` and `K`. Nothing imports them when
code runs.
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
        """What mappings that cannot be changed have not."""
        ...

    def __reversed__(self) -> Iterator[K]:
        """What mappings without an order have not."""
        ...
