"""The thread of a connection of aiosqlite's can be handed a function: many statements, one hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")


async def call_in_thread(connection: aiosqlite.Connection, function: Callable[[], T]) -> T:
    """Call a function in the thread of a connection, and give what it returns.

    All methods of aiosqlite are made of this one of its own, and none that is public calls a
    function.
    """
    execute: Callable[..., Awaitable[Any]] = connection._execute  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # its arguments have no types
    result: T = await execute(function)
    return result
