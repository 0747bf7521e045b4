"""Functions that return a bare type variable, or `Any`: mypy gives up, and pyright does not."""

from __future__ import annotations

from typing import Any, assert_type

from typing_extensions import TypeVar

from penstock import State, task

T = TypeVar("T")


@task
def same(x: T) -> T:
    return x


@task
def untold(x: int) -> Any:
    return x


assert_type(same(1), int)  # type: ignore[arg-type, assert-type]
assert_type(same.call_state(1), State[int])  # type: ignore[arg-type, assert-type]
untold("1")  # type: ignore[unused-ignore]  # to mypy the task itself is Any
