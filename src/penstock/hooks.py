"""Hooks: functions of the user's that are told of a state once it is on record.

A hook never changes the run that it is told of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec
from typing_extensions import TypeVar

from penstock.exceptions import ConfigurationError
from penstock.states import State, StateType

Hook: TypeAlias = Callable[[Any, Any, State[Any]], object]
"""A sync or async function of (flow or task, run, state)."""
HookFunction = TypeVar("HookFunction", bound=Hook)


class Hooks(msgspec.Struct, frozen=True):
    """The hooks of a flow or a task, by what they are told of."""

    on_running: tuple[Hook, ...] = ()
    on_completion: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()
    on_cancellation: tuple[Hook, ...] = ()
    on_crashed: tuple[Hook, ...] = ()

    def told_of(self, type_: StateType) -> tuple[Hook, ...]:
        """Those that are told of such a state, in order."""
        return cast("tuple[Hook, ...]", getattr(self, _ARGUMENTS.get(type_, ""), ()))


_ARGUMENTS = {
    StateType.RUNNING: "on_running",
    StateType.COMPLETED: "on_completion",
    StateType.FAILED: "on_failure",
    StateType.CANCELLED: "on_cancellation",
    StateType.CRASHED: "on_crashed",
}


def with_hooks(hooks: Hooks | None, owner: str, **given: object) -> Hooks | None:
    """These hooks and those that a decorator's arguments ask for; None: there are none.

    Raises:
        ConfigurationError: an argument is no list of functions of three arguments.
    """
    more = {name: _hooks_in(value, name, owner) for name, value in given.items()}
    return msgspec.structs.replace(hooks or Hooks(), **more) if any(more.values()) else hooks


def with_hook(hooks: Hooks | None, argument: str, hook: object, owner: str) -> Hooks:
    """These hooks and one more.

    Raises:
        ConfigurationError: it is no function of three arguments.
    """
    hooks = hooks or Hooks()
    more = (*getattr(hooks, argument), *_hooks_in([hook], argument, owner))
    return msgspec.structs.replace(hooks, **{argument: more})


def hook_name(hook: Hook) -> str:
    """What the function is called."""
    return getattr(hook, "__name__", type(hook).__name__)


def _hooks_in(given: object, argument: str, owner: str) -> tuple[Hook, ...]:
    if given is None:
        return ()
    hooks = cast("Sequence[object]", given)
    if not isinstance(given, list | tuple) or not all(takes(hook, 3) for hook in hooks):
        raise ConfigurationError(
            f"{owner}: {argument} must be a list of functions that can be called with "
            f"(flow or task, run, state), not {given!r}."
        )
    return tuple(cast("Sequence[Hook]", hooks))


def takes(function: object, count: int) -> bool:
    """Whether it can be called with so many arguments by position."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say what it takes
        return True
    return True
