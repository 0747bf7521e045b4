"""The hooks of a flow or a task: lists of functions, by the type of state that they are called for.

A hook never changes the run that it is called for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec
from typing_extensions import TypeVar

from penstock._model import checks
from penstock.states import State, StateType

Hook: TypeAlias = Callable[[Any, Any, State[Any]], object]
"""A sync or async function of (flow or task, run, state)."""
HookFunction = TypeVar("HookFunction", bound=Hook)


class Hooks(msgspec.Struct, frozen=True):
    """The hooks of a flow or a task, by the argument of the decorator that takes them.

    Attributes:
        on_running: called when a run first runs.
        on_completion: called when a run has completed.
        on_failure: called when a run has failed for good.
        on_cancellation: called when a run was cancelled.
        on_crashed: called when a run has crashed.
    """

    on_running: tuple[Hook, ...] = ()
    on_completion: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()
    on_cancellation: tuple[Hook, ...] = ()
    on_crashed: tuple[Hook, ...] = ()

    def of_state(self, type_: StateType) -> tuple[Hook, ...]:
        """Those that are called for a state of this type, in order."""
        return cast("tuple[Hook, ...]", getattr(self, _ARGUMENTS.get(type_, ""), ()))


_ARGUMENTS = {
    StateType.RUNNING: "on_running",
    StateType.COMPLETED: "on_completion",
    StateType.FAILED: "on_failure",
    StateType.CANCELLED: "on_cancellation",
    StateType.CRASHED: "on_crashed",
}


def with_hooks(hooks: Hooks | None, owner: str, **given: object) -> Hooks | None:
    """These hooks and those that arguments of a decorator add; None: there are none.

    Args:
        hooks: those so far.
        owner: whose hooks they are, for errors.
        **given: what was given for each argument.

    Raises:
        ConfigurationError: an argument is not a list of functions of three arguments.
    """
    more = {name: _hooks_in(value, name, owner) for name, value in given.items()}
    return msgspec.structs.replace(hooks or Hooks(), **more) if any(more.values()) else hooks


def with_hook(hooks: Hooks | None, argument: str, hook: object, owner: str) -> Hooks:
    """These hooks and one more.

    Raises:
        ConfigurationError: it is not a function of three arguments.
    """
    hooks = hooks or Hooks()
    more = (*getattr(hooks, argument), *_hooks_in([hook], argument, owner))
    return msgspec.structs.replace(hooks, **{argument: more})


def hook_name(hook: Hook) -> str:
    """The name of the function."""
    return getattr(hook, "__name__", type(hook).__name__)


def _hooks_in(given: object, argument: str, owner: str) -> tuple[Hook, ...]:
    if given is None:
        return ()
    hooks = cast("Sequence[object]", given)
    if not isinstance(given, list | tuple) or not all(checks.accepts(hook, 3) for hook in hooks):
        requirement = "a list of functions of (flow or task, run, state)"
        raise checks.refusal(hooks, argument, owner, requirement)
    return tuple(cast("Sequence[Hook]", hooks))
