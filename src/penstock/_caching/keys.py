"""Cache keys: equal work has equal keys, in every process and after every restart.

`task_input_hash` hashes a canonical form: neither the order of a dict or a set nor the identity of
an object enters it, and values of different types differ (1, 1.0 and True are three keys).
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from penstock._caching.canonical import canonical_form, hash_of_forms, is_scalar, name_form
from penstock._caching.function_forms import form_of_function

if TYPE_CHECKING:  # up: key functions are given a context
    from penstock.context import TaskRunContext


class CacheKey(msgspec.Struct, frozen=True):
    """A key, and what it is made of.

    Attributes:
        text: the key.
        parts: gives the form of each part of the key by its name, such as `argument city`; nothing
            where the parts are not known.
    """

    text: str
    parts: Callable[[], dict[str, bytes]] = dict


class KeyedTask(Protocol):
    """What enters the keys of a task's runs."""

    @property
    def fn(self) -> Callable[..., Any]:
        """Its function."""
        ...

    @property
    def task_key(self) -> str:
        """Which function it is."""
        ...


class KeyedFlowRun(Protocol):
    """The flow run around a task run, as a cache policy sees it."""

    run_id: bytes

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        ...


class KeyedRun(Protocol):
    """A live task run, as a cache policy sees it."""

    run_id: bytes

    @property
    def options(self) -> KeyedTask:
        """The task."""
        ...

    @property
    def flow_run(self) -> KeyedFlowRun | None:
        """The flow run that it belongs to."""
        ...

    def context(self) -> TaskRunContext:
        """What the user's key functions are given of it."""
        ...


class CacheKeyFunction(Protocol):
    """Computes the key of a task run; None: the run is not cached.

    A key that is not a string is turned into one.
    """

    def __call__(self, context: TaskRunContext, parameters: dict[str, Any], /) -> object:
        """The key of the run with these arguments, defaults included."""


class UnhashableParameter(TypeError):
    """An argument has no canonical form."""

    def __init__(self, parameter: str, reason: BaseException) -> None:
        super().__init__(f"parameter {parameter!r} cannot be hashed ({reason})")
        self.parameter = parameter


def task_input_hash(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """A key over the task's identity, the source of its function and its arguments.

    Raises:
        UnhashableParameter: an argument has no canonical form; the task then runs uncached and a
            warning names the parameter.
    """
    task = context.task
    return hash_of_forms(task_input_forms(task.fn, task.task_key, parameters))


def task_input_forms(
    function: Callable[..., object], task_key: str, parameters: Mapping[str, Any]
) -> list[bytes]:
    """The forms that `task_input_hash` hashes: the task's, then those of names and arguments."""
    forms = forms_of_parameters(inputs_of(function, parameters))
    forms.insert(0, form_of_function(task_key, function))
    return forms


def hash_inputs(function: Callable[..., object], parameters: Mapping[str, object]) -> str:
    """A hash of all that a call of `function` depends on besides its code, in hex.

    The object of a method is one of its arguments, and so is an object that is itself called. Of
    what a function encloses, plain values count, such as the arguments of the factory that made
    it; lists and other objects do not, as functions enclose them to change them.

    Raises:
        UnhashableParameter: an argument has no canonical form.
    """
    return hash_of_forms(forms_of_parameters(inputs_of(function, parameters)))


def hash_parameters(parameters: Mapping[str, object]) -> str:
    """A hash of arguments by name, in hex.

    Raises:
        UnhashableParameter: an argument has no canonical form.
    """
    return hash_of_forms(forms_of_parameters(parameters))


def inputs_of(
    function: Callable[..., object], parameters: Mapping[str, object]
) -> Mapping[str, object]:
    """The arguments by name, and what else `hash_inputs` counts, under names in brackets."""
    if type(function) is not types.FunctionType:
        owner = getattr(function, "__self__", function)
        return {"(self)": owner, **parameters}
    if function.__closure__ is None:
        return parameters
    enclosed = _enclosed_values(function.__closure__)
    return {"(enclosed)": enclosed, **parameters} if enclosed else parameters


def _enclosed_values(closure: Iterable[types.CellType]) -> list[object]:
    values: list[object] = []
    for cell in closure:
        with contextlib.suppress(ValueError):  # the cell is still empty
            values.append(cell.cell_contents)
    return [value for value in values if is_scalar(value)]


def forms_of_parameters(parameters: Mapping[str, object]) -> list[bytes]:
    """The forms of each name and its argument, in the order of the names.

    Raises:
        UnhashableParameter: an argument has no canonical form.
    """
    forms: list[bytes] = []
    for name in sorted(parameters):
        try:
            forms += name_form(name), canonical_form(parameters[name])
        except Exception as error:
            raise UnhashableParameter(name, error) from error
    return forms
