"""Statements, as all modules of this folder make them, and steps that ask for their rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]


class Statement(NamedTuple):
    """A statement with its values.

    Attributes:
        sql: the statement, with a mark for each value.
        values: in the order of the marks.
    """

    sql: str
    values: Sequence[object] = ()


Steps: TypeAlias = Generator[Statement, list[Row], T]
"""Yields statements that select, is sent their rows, and returns what they come to."""


def take(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Take the steps on a connection, and give what they return."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send(connection.execute(*statement).fetchall())
    except StopIteration as end:
        found: T = end.value
        return found
